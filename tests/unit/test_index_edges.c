/* test_index_edges.c - the edges of the index of message stores: gaps, long subjects, wildcards, large subjects, spent budgets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "small_index.h"

static uint64_t random_state;

static uint64_t random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t random_below(uint64_t n)
{
    return random_u64() % n;
}

static void an_empty_index_answers(void **state)
{
    struct small *s = *state;
    struct rb_msgstore_state got;
    rb_index_state(s->index, &got);
    assert_int_equal(got.first_seq, 1);
    assert_int_equal(got.last_seq, 0);
    assert_int_equal(rb_index_next(s->index, 0), 0);
    assert_int_equal(rb_index_next_gap(s->index, 0), 0);
    assert_int_equal(rb_index_at_time(s->index, 0), 0);
    assert_int_equal(count_of(s, ">", 0), 0);
    assert_int_equal(count_of(s, "a.*", 0), 0);
    assert_false(rb_index_remove(s->index, 1));
    rb_index_skip(s->index, 41);
    rb_index_state(s->index, &got);
    assert_int_equal(got.first_seq, 42);
    assert_int_equal(got.last_seq, 41);
    assert_int_equal(rb_index_next_gap(s->index, 0), 1);
}

static void wrong_messages_are_refused(void **state)
{
    struct small *s = *state;
    char text[RB_MSGSTORE_SUBJECT_MAX + 2];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(put(s, 5, "a"), RB_OK);
    assert_int_equal(put(s, 5, "a"), RB_ERR_INVALID);
    assert_int_equal(put(s, 4, "a"), RB_ERR_INVALID);
    assert_int_equal(put(s, 0, "a"), RB_ERR_INVALID);
    assert_int_equal(put(s, 6, ""), RB_ERR_INVALID);
    assert_int_equal(put(s, 6, text), RB_ERR_INVALID);
    assert_int_equal(put(s, UINT64_MAX, "a"), RB_ERR_INVALID);
    rb_index_skip(s->index, 10);
    assert_int_equal(put(s, 10, "a"), RB_ERR_INVALID);
    assert_int_equal(put(s, 11, "a"), RB_OK);
    assert_int_equal(count_of(s, "a", 0), 2);
}

/* Skipping is no work and no memory, however far. */
static void huge_gaps_cost_nothing(void **state)
{
    struct small *s = *state;
    uint64_t before = rb_index_bytes(s->index);
    uint64_t seq = 0;
    for (int i = 0; i < 100; i++) {
        seq += UINT64_C(1) << 40;
        rb_index_skip(s->index, seq);
        assert_int_equal(put(s, ++seq, i % 2 == 0 ? "even" : "odd"), RB_OK);
    }
    assert_true(rb_index_bytes(s->index) - before < 1000000);
    assert_int_equal(count_of(s, "even", 0), 50);
    assert_int_equal(count_of(s, "even", seq / 2), 25);
    assert_int_equal(rb_index_next(s->index, 1), (UINT64_C(1) << 40) + 1);
    assert_int_equal(rb_index_next_gap(s->index, seq), 0);
    assert_int_equal(rb_index_next_gap(s->index, seq - 1), seq - 1);
    struct rb_msgstore_state got;
    rb_index_state(s->index, &got);
    assert_int_equal(got.deleted, seq - (UINT64_C(1) << 40) - 100);
}

static void long_subjects(void **state)
{
    struct small *s = *state;
    char text[RB_MSGSTORE_SUBJECT_MAX + 1];
    memset(text, 'x', sizeof(text));
    text[RB_MSGSTORE_SUBJECT_MAX] = '\0';
    uint8_t name[RB_MSGSTORE_SUBJECT_MAX];
    uint64_t seq = 0;
    for (int i = RB_MSGSTORE_SUBJECT_MAX; i > 0; i--) { /* each the beginning of the one before */
        text[i] = '\0';
        assert_int_equal(put(s, ++seq, text), RB_OK);
        assert_true(rb_slice_equal(rb_index_subject_of(s->index, seq, name), rb_slice_text(text)));
    }
    assert_int_equal(rb_index_subject_count(s->index, RB_S("*")), RB_MSGSTORE_SUBJECT_MAX);
    assert_int_equal(count_of(s, "*.>", 0), 0);
    assert_int_equal(count_of(s, "x", 0), 1);
    while (seq > 0) {
        assert_true(rb_index_remove(s->index, seq--));
    }
    assert_int_equal(rb_index_subject_count(s->index, RB_S(">")), 0);
    /* A name of single bytes, all of them tokens, and the deepest tree there is. */
    for (int i = 0; i < RB_MSGSTORE_SUBJECT_MAX - 1; i++) {
        text[i] = i % 2 == 0 ? 'a' : '.';
    }
    for (int i = 0; i < RB_MSGSTORE_SUBJECT_MAX - 1; i += 2) {
        text[i] = 'b';
        text[i + 1] = '\0';
        assert_int_equal(put(s, 10000 + (uint64_t)i, text), RB_OK);
        text[i] = 'a';
        text[i + 1] = '.';
    }
    assert_int_equal(count_of(s, "a.a.*", 0), 1);
    assert_int_equal(count_of(s, "a.a.>", 0), RB_MSGSTORE_SUBJECT_MAX / 2 - 2);
    assert_int_equal(count_of(s, "*.*.b", 0), 1);
}

static void wildcards(void **state)
{
    static const struct {
        const char *filter;
        uint64_t count;
    } wants[] = {
        { "", 9 },        { ">", 9 },       { "*", 1 },        { "a.*", 2 },   { "a.>", 6 },
        { "*.b", 1 },     { "*.*", 3 },     { "a.*.c", 1 },    { "a.b.>", 3 }, { "a.b.c.d.>", 0 },
        { "*.>", 8 },     { "b.*", 1 },     { "a.\x80.*", 1 }, { "a", 1 },     { "ab", 0 },
        { "a.b.c.d", 1 }, { "a.b.*.d", 1 }, { "a.b.*.*", 1 },  { "c.>.x", 0 }, { "a*", 0 },
        { "*a", 0 },      { "a.*>", 0 },    { "a.b.", 0 },     { ".", 0 },     { "*.", 0 },
        { "b.>", 2 },
    };
    static const char *const subjects[] = { "a",       "a.b", "a.c",   "a.b.c",      "a.b.d",
                                            "a.b.c.d", "b.>", "b.*.y", "a.\x80.\xff" };
    struct small *s = *state;
    for (uint32_t i = 0; i < 9; i++) {
        assert_int_equal(put(s, i + 1, subjects[i]), RB_OK);
    }
    for (size_t i = 0; i < sizeof(wants) / sizeof(wants[0]); i++) {
        uint64_t got = count_of(s, wants[i].filter, 0);
        if (got != wants[i].count) {
            fail_msg("%s: %llu", wants[i].filter, (unsigned long long)got);
        }
    }
    struct rb_slice both[2] = { RB_S("a.b.>"), RB_S("a.*.c") };
    assert_int_equal(rb_index_count(s->index, both, 2, 0), 3);
    assert_int_equal(rb_index_count(s->index, both, 0, 0), 9);
}

/* A cursor remembers what it found out about a leaf; another subject may get that leaf's place. */
static void a_cursor_forgets_leaves_that_go(void **state)
{
    struct small *s = *state;
    struct rb_slice filter = RB_S("a.*");
    struct rb_index_cursor *cursor;
    assert_int_equal(rb_index_cursor_create(s->index, &filter, 1, &cursor), RB_OK);
    assert_int_equal(put(s, 1, "c.x"), RB_OK);
    assert_int_equal(put(s, 2, "a.x"), RB_OK);
    rb_index_cursor_hint(cursor, 2);
    rb_index_cursor_hint(cursor, 99);
    assert_int_equal(rb_index_cursor_next(cursor, 1), 2);
    assert_true(rb_index_remove(s->index, 2));
    assert_int_equal(put(s, 3, "b.x"), RB_OK);
    assert_int_equal(put(s, 4, "a.z"), RB_OK);
    assert_int_equal(rb_index_cursor_next(cursor, 2), 4);
    assert_int_equal(rb_index_cursor_next(cursor, 5), 0);
    rb_index_cursor_destroy(cursor);
}

/* A subject with a million messages: counting and going on in its middle, removing every second one, and both ends. */
static void a_million_of_one_subject(void **state)
{
    struct small *s = *state;
    enum { N = 1000000 };
    for (uint64_t seq = 1; seq <= N; seq++) {
        assert_int_equal(put(s, seq, seq % 1000 == 0 ? "rare.one" : "often.one"), RB_OK);
    }
    assert_true(rb_index_bytes(s->index) < 23u * N);
    assert_int_equal(count_of(s, "often.*", 500001), N / 2 / 1000 * 999);
    assert_int_equal(count_of(s, "rare.*", 500001), N / 2 / 1000);
    struct rb_slice rare = RB_S("rare.*");
    assert_int_equal(rb_index_last(s->index, &rare, 1, 999999), 999000);
    assert_int_equal(rb_index_first(s->index, &rare, 1, 777001), 778000);
    struct rb_index_cursor *cursor;
    assert_int_equal(rb_index_cursor_create(s->index, &rare, 1, &cursor), RB_OK);
    uint64_t given = 0;
    for (uint64_t at = 1; (at = rb_index_cursor_next(cursor, at)) != 0; at++) {
        assert_int_equal(at, ++given * 1000);
    }
    assert_int_equal(given, N / 1000);
    rb_index_cursor_destroy(cursor);
    for (uint64_t seq = 2; seq <= N; seq += 2) {
        assert_true(rb_index_remove(s->index, seq));
    }
    assert_int_equal(count_of(s, "rare.one", 0), 0);
    assert_int_equal(count_of(s, "often.one", 0), N / 2);
    assert_int_equal(count_of(s, "often.one", 900000), N / 20);
    for (uint64_t seq = 1; seq <= N; seq += 2) {
        assert_true(rb_index_remove(s->index, seq));
    }
    struct rb_msgstore_state got;
    rb_index_state(s->index, &got);
    assert_int_equal(got.messages, 0);
    assert_int_equal(got.bytes, 0);
    assert_int_equal(got.first_seq, N + 1);
    assert_true(rb_index_bytes(s->index) < 3000000); /* what is empty is given back */
}

/* Streams that live for ever: with a limit, as a work queue, and as a store of values. The memory stays what it was. */
static void steady_streams_do_not_grow(void **state)
{
    struct small *s = *state;
    uint64_t seq = 0;
    uint64_t bytes = 0;
    random_state = 99;
    char text[32];
    for (uint64_t i = 0; i < 600000; i++) {
        sprintf(text, "work.%u.%u", (unsigned)random_below(50), (unsigned)(i % 3000));
        assert_int_equal(put(s, ++seq, text), RB_OK);
        if (i >= 5000) {
            rb_index_remove(s->index, rb_index_next(s->index, 1));
            uint64_t middle = rb_index_next(s->index, seq - random_below(4000));
            if (random_below(2) == 0 && rb_index_remove(s->index, middle)) {
                assert_int_equal(put(s, ++seq, text), RB_OK);
            }
        }
        if (i == 100000) {
            bytes = rb_index_bytes(s->index);
        }
    }
    assert_true(rb_index_bytes(s->index) <= bytes + bytes / 4);
    struct rb_msgstore_state got;
    rb_index_state(s->index, &got);
    assert_int_equal(got.messages, 5000);
}

/* Refused for want of memory, an append changes nothing; removing goes on, and so does appending when there is room. */
static void a_spent_budget_leaves_nothing_half_done(void **state)
{
    for (uint64_t limit = 150000; limit < 3000000; limit += 170001) {
        struct small s = { .budget = { .limit_bytes = limit } };
        assert_int_equal(rb_index_create(&s.budget, &s.index), RB_OK);
        char text[64];
        uint64_t seq = 1;
        random_state = limit;
        uint64_t subjects = 0;
        for (;; seq++) {
            sprintf(text, "%u.%u", (unsigned)random_below(7), (unsigned)random_below(100000));
            struct rb_msgstore_subject before;
            bool here = rb_index_subject(s.index, rb_slice_text(text), &before);
            enum rb_err err = put(&s, seq, text);
            struct rb_msgstore_subject after;
            if (err != RB_OK) {
                assert_int_equal(err, RB_ERR_MEMORY);
                assert_int_equal(rb_index_subject(s.index, rb_slice_text(text), &after), here);
                break;
            }
            subjects += !here;
        }
        struct rb_msgstore_state got;
        rb_index_state(s.index, &got);
        assert_int_equal(got.messages, seq - 1);
        assert_int_equal(got.last_seq, seq - 1);
        assert_int_equal(got.subjects, subjects);
        assert_int_equal(rb_index_count(s.index, &RB_S("*.*"), 1, 0), seq - 1);
        for (uint64_t at = 1; at < seq; at++) {
            assert_true(rb_index_remove(s.index, at));
        }
        assert_int_equal(put(&s, seq, text), RB_OK);
        rb_index_destroy(s.index);
        assert_int_equal(s.budget.used_bytes, 0);
    }
}

/* Without memory for the copies a freeze is lost, and says so; the changes happen. */
static void a_freeze_may_be_lost(void **state)
{
    struct small *s = *state;
    for (uint64_t seq = 1; seq <= 20000; seq++) {
        assert_int_equal(put(s, seq, "a.b"), RB_OK);
    }
    assert_int_equal(rb_index_freeze(s->index), RB_OK);
    s->budget.limit_bytes = s->budget.used_bytes + RB_PAGE_BYTES;
    for (uint64_t seq = 1; seq <= 20000; seq++) {
        assert_true(rb_index_remove(s->index, seq));
    }
    uint32_t lost = 0;
    for (uint32_t i = 0; i < rb_index_frozen_pages(s->index); i++) {
        lost += rb_index_frozen_page(s->index, i) == NULL;
    }
    assert_true(lost > 0);
    rb_index_thaw(s->index);
    s->budget.limit_bytes = 0;
    assert_int_equal(rb_index_freeze(s->index), RB_OK);
    for (uint32_t i = 0; i < rb_index_frozen_pages(s->index); i++) {
        assert_non_null(rb_index_frozen_page(s->index, i));
    }
    rb_index_thaw(s->index);
}

/* Hundreds of thousands of postings with holes in them at random, against bits and sums. */
static void large_postings(void **state)
{
    enum { N = 300000 };
    struct small *s = *state;
    uint8_t *kind = calloc(N + 2, 1); /* 0: gone; 1: of the large subject; 2, 3: of others */
    static const char *const subjects[] = { "", "big.one", "big.two", "other" };
    random_state = 4711;
    for (uint64_t seq = 1; seq <= N; seq++) {
        kind[seq] = (uint8_t)(random_below(10) < 8 ? 1 : 2 + random_below(2));
        assert_int_equal(put(s, seq, subjects[kind[seq]]), RB_OK);
    }
    struct rb_slice filters[2] = { RB_S("big.*"), RB_S("big.one") };
    struct rb_index_cursor *cursors[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rb_index_cursor_create(s->index, &filters[i], 1, &cursors[i]), RB_OK);
    }
    uint32_t *from_here =
        calloc((N + 2) * 2, sizeof(*from_here)); /* matching each filter, from a sequence on */
    for (int round = 0; round < 6; round++) {
        for (uint64_t i = 0; i < N / 4; i++) {
            uint64_t seq = 1 + random_below(N);
            assert_int_equal(rb_index_remove(s->index, seq), kind[seq] != 0);
            kind[seq] = 0;
        }
        for (uint64_t seq = N; seq >= 1; seq--) {
            from_here[seq * 2] = from_here[seq * 2 + 2] + (kind[seq] == 1 || kind[seq] == 2);
            from_here[seq * 2 + 1] = from_here[seq * 2 + 3] + (kind[seq] == 1);
        }
        for (int i = 0; i < 2000; i++) {
            uint64_t from = 1 + random_below(N);
            int f = (int)random_below(2);
            assert_int_equal(rb_index_count(s->index, &filters[f], 1, from),
                             from_here[from * 2 + (uint64_t)f]);
            uint64_t want = from;
            while (want <= N && kind[want] != 1 && !(f == 0 && kind[want] == 2)) {
                want++;
            }
            assert_int_equal(rb_index_first(s->index, &filters[f], 1, from), want > N ? 0 : want);
            assert_int_equal(rb_index_cursor_next(cursors[f], from), want > N ? 0 : want);
        }
        for (int f = 0; f < 2; f++) {
            uint64_t given = 0;
            for (uint64_t at = 1; (at = rb_index_cursor_next(cursors[f], at)) != 0; at++) {
                assert_true(kind[at] == 1 || (f == 0 && kind[at] == 2));
                given++;
            }
            assert_int_equal(given, from_here[2 + f]);
        }
    }
    rb_index_cursor_destroy(cursors[0]);
    rb_index_cursor_destroy(cursors[1]);
    free(from_here);
    free(kind);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(large_postings, small_setup, small_teardown),
        cmocka_unit_test(a_spent_budget_leaves_nothing_half_done),
        cmocka_unit_test_setup_teardown(an_empty_index_answers, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(wrong_messages_are_refused, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(huge_gaps_cost_nothing, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(long_subjects, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(wildcards, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(a_cursor_forgets_leaves_that_go, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(a_million_of_one_subject, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(steady_streams_do_not_grow, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(a_freeze_may_be_lost, small_setup, small_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
