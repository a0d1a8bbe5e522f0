/* test_index.c - the index of message stores against a model that is arrays and loops, and the edges by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "small_index.h"
#include "storage/index.h"

/* ---- the model ---- */

struct model_message {
    uint64_t seq, time_us;
    uint32_t place, bytes;
    uint16_t subject; /* number of it */
    bool here;
};

#define SUBJECTS_MAX 4096
struct model {
    struct model_message *messages; /* all that ever were, ascending */
    size_t count, cap, live;
    uint64_t last, newest_us;
    char *subjects[SUBJECTS_MAX];
    uint32_t subject_count;
};

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

/* By tokens, unlike the one under test. */
static bool model_matches(const char *filter, const char *subject)
{
    if (filter[0] == '\0') {
        return true;
    }
    for (;;) {
        size_t f = strcspn(filter, ".");
        size_t s = strcspn(subject, ".");
        if (f == 1 && filter[0] == '>' && filter[1] == '\0') {
            return s > 0;
        }
        bool star = f == 1 && filter[0] == '*';
        if (!star && (f != s || memcmp(filter, subject, f) != 0)) {
            return false;
        }
        filter += f;
        subject += s;
        if (*filter == '\0' || *subject == '\0') {
            return *filter == *subject;
        }
        filter++;
        subject++;
    }
}

static bool model_matches_any(char *const *filters, uint32_t count, const char *subject)
{
    for (uint32_t i = 0; i < count; i++) {
        if (model_matches(filters[i], subject)) {
            return true;
        }
    }
    return count == 0;
}

static const char *subject_at(const struct model *m, const struct model_message *message)
{
    return m->subjects[message->subject];
}

static void model_deinit(struct model *m)
{
    free(m->messages);
    for (uint32_t i = 0; i < m->subject_count; i++) {
        free(m->subjects[i]);
    }
    memset(m, 0, sizeof(*m));
}

/* ---- subjects ---- */

static void append_token(char *out, uint64_t kind)
{
    static const char *const words[] = { "a", "b", "ab", "abc",  "x",        "orders", "order",
                                         "*", ">", "a*", "\x01", "\xff\xfe", "kv" };
    size_t len = strlen(out);
    if (kind < 13) {
        strcpy(out + len, words[kind]);
    } else if (kind < 26) {
        sprintf(out + len, "%u", (unsigned)random_below(300));
    } else if (kind == 26) {
        out[len] = (char)(random_below(255) + 1);
        out[len] = out[len] == '.' ? '-' : out[len];
        out[len + 1] = '\0';
    } else { /* long ones with a common beginning */
        size_t n = 200 + random_below(400);
        memset(out + len, 'l', n);
        sprintf(out + len + n, "%u", (unsigned)random_below(5));
    }
}

static uint16_t pick_subject(struct model *m, uint32_t variety)
{
    if (m->subject_count > 0 && (m->subject_count == variety || random_below(4) != 0)) {
        return (uint16_t)random_below(m->subject_count);
    }
    char text[RB_MSGSTORE_SUBJECT_MAX + 1] = "";
    uint64_t tokens = 1 + random_below(4);
    for (uint64_t i = 0; i < tokens; i++) {
        if (i > 0) {
            strcat(text, ".");
        }
        append_token(text, random_below(28));
    }
    for (uint32_t i = 0; i < m->subject_count; i++) {
        if (strcmp(m->subjects[i], text) == 0) {
            return (uint16_t)i;
        }
    }
    m->subjects[m->subject_count] = strdup(text);
    return (uint16_t)m->subject_count++;
}

/* A filter made of a subject: some tokens become wildcards. */
static char *pick_filter(struct model *m)
{
    char out[RB_MSGSTORE_SUBJECT_MAX + 8] = "";
    if (m->subject_count == 0 || random_below(20) == 0) {
        strcpy(out, random_below(2) == 0 ? "" : ">");
    } else {
        const char *subject = m->subjects[random_below(m->subject_count)];
        for (;;) {
            size_t len = strcspn(subject, ".");
            uint64_t kind = random_below(8);
            if (kind == 0) {
                strcat(out, ">");
                break;
            }
            if (kind < 3) {
                strcat(out, "*");
            } else {
                strncat(out, subject, len);
            }
            subject += len;
            if (*subject == '\0') {
                if (random_below(10) == 0) {
                    strcat(out, random_below(2) == 0 ? ".*" : ".>");
                }
                break;
            }
            subject++;
            strcat(out, ".");
        }
    }
    return strdup(out);
}

/* ---- comparing ---- */

#define FILTERS_MAX 3
#define CURSORS 4

struct rig {
    struct model model;
    struct rb_budget budget;
    struct rb_index *index;
    uint64_t frozen_number; /* of the image kept in `image` */
    uint8_t *image;
    uint32_t image_pages;
    struct rb_index_cursor *cursors[CURSORS];
    char *cursor_filters[CURSORS][FILTERS_MAX];
    uint32_t cursor_counts[CURSORS];
    uint64_t cursor_at[CURSORS];
};

static uint32_t pick_filters(struct rig *r, char **texts, struct rb_slice *slices)
{
    uint32_t count = (uint32_t)random_below(FILTERS_MAX + 1);
    for (uint32_t i = 0; i < count; i++) {
        texts[i] = pick_filter(&r->model);
        slices[i] = rb_slice_text(texts[i]);
    }
    return count;
}

static uint64_t pick_sequence(const struct model *m)
{
    switch (random_below(6)) {
    case 0:
        return random_below(3);
    case 1:
        return m->last + random_below(3);
    case 2:
        return m->last == 0 ? 0 : random_below(m->last);
    default:
        if (m->count == 0) {
            return 1;
        }
        return m->messages[random_below(m->count)].seq + random_below(3) - 1;
    }
}

static void compare_state(struct rig *r)
{
    const struct model *m = &r->model;
    struct rb_msgstore_state want = { .first_seq = m->last + 1,
                                      .last_seq = m->last,
                                      .last_ns = m->newest_us * 1000 };
    bool *seen = calloc(SUBJECTS_MAX, sizeof(*seen));
    for (size_t i = 0; i < m->count; i++) {
        const struct model_message *message = &m->messages[i];
        if (!message->here) {
            continue;
        }
        if (want.messages++ == 0) {
            want.first_seq = message->seq;
            want.first_ns = message->time_us * 1000;
        }
        want.bytes += message->bytes;
        want.subjects += !seen[message->subject];
        seen[message->subject] = true;
    }
    free(seen);
    want.deleted = want.messages == 0 ? 0 : m->last - want.first_seq + 1 - want.messages;
    struct rb_msgstore_state got;
    rb_index_state(r->index, &got);
    assert_memory_equal(&got, &want, sizeof(got));
}

static void compare_sequence(struct rig *r, uint64_t seq)
{
    const struct model *m = &r->model;
    const struct model_message *exact = NULL;
    uint64_t next = 0;
    uint64_t gap = seq == 0 ? 1 : seq;
    uint64_t at_time = 0;
    uint64_t time_us =
        m->count == 0 ? 5 : m->messages[random_below(m->count)].time_us + random_below(3) - 1;
    for (size_t i = 0; i < m->count; i++) {
        const struct model_message *message = &m->messages[i];
        if (!message->here) {
            continue;
        }
        exact = message->seq == seq ? message : exact;
        next = next == 0 && message->seq >= seq ? message->seq : next;
        gap += message->seq == gap;
        at_time = at_time == 0 && message->time_us >= time_us ? message->seq : at_time;
    }
    assert_int_equal(rb_index_next(r->index, seq), next);
    assert_int_equal(rb_index_next_gap(r->index, seq), gap > m->last ? 0 : gap);
    assert_int_equal(rb_index_at_time(r->index, time_us), at_time);
    struct rb_index_message got;
    uint8_t name[RB_MSGSTORE_SUBJECT_MAX];
    assert_int_equal(rb_index_find(r->index, seq, &got), exact != NULL);
    struct rb_slice subject = rb_index_subject_of(r->index, seq, name);
    if (exact == NULL) {
        assert_int_equal(subject.len, 0);
        return;
    }
    assert_int_equal(got.seq, seq);
    assert_int_equal(got.time_us, exact->time_us);
    assert_int_equal(got.place, exact->place);
    assert_int_equal(got.bytes, exact->bytes);
    assert_true(rb_slice_equal(subject, rb_slice_text(subject_at(m, exact))));
}

static void compare_filters(struct rig *r)
{
    const struct model *m = &r->model;
    char *texts[FILTERS_MAX];
    struct rb_slice slices[FILTERS_MAX];
    uint32_t count = pick_filters(r, texts, slices);
    uint64_t from = pick_sequence(m);
    uint64_t want_count = 0;
    uint64_t want_last = 0;
    uint64_t want_first = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct model_message *message = &m->messages[i];
        if (!message->here || !model_matches_any(texts, count, subject_at(m, message))) {
            continue;
        }
        want_count += message->seq >= from;
        want_last = message->seq <= from ? message->seq : want_last;
        want_first = want_first == 0 && message->seq >= from ? message->seq : want_first;
    }
    assert_int_equal(rb_index_count(r->index, slices, count, from), want_count);
    assert_int_equal(rb_index_last(r->index, slices, count, from), want_last);
    assert_int_equal(rb_index_first(r->index, slices, count, from), want_first);
    for (uint32_t i = 0; i < count; i++) {
        free(texts[i]);
    }
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void compare_subjects(struct rig *r)
{
    struct model *m = &r->model;
    char *filter = pick_filter(m);
    const char *names[SUBJECTS_MAX];
    uint32_t want = 0;
    struct rb_msgstore_subject *subjects = calloc(SUBJECTS_MAX, sizeof(*subjects));
    for (size_t i = 0; i < m->count; i++) {
        const struct model_message *message = &m->messages[i];
        if (!message->here) {
            continue;
        }
        struct rb_msgstore_subject *subject = &subjects[message->subject];
        if (subject->count++ == 0) {
            subject->first_seq = message->seq;
            if (model_matches(filter, subject_at(m, message))) {
                names[want++] = subject_at(m, message);
            }
        }
        subject->last_seq = message->seq;
    }
    qsort(names, want, sizeof(names[0]), compare_texts);
    assert_int_equal(rb_index_subject_count(r->index, rb_slice_text(filter)), want);
    struct rb_msgstore_subjects *at = calloc(1, sizeof(*at));
    struct rb_msgstore_subject got;
    for (uint32_t i = 0; i < want; i++) {
        assert_true(rb_index_next_subject(r->index, rb_slice_text(filter), at, &got));
        assert_true(rb_slice_equal(got.subject, rb_slice_text(names[i])));
    }
    assert_false(rb_index_next_subject(r->index, rb_slice_text(filter), at, &got));
    for (uint32_t i = 0; i < m->subject_count; i++) {
        bool here = rb_index_subject(r->index, rb_slice_text(m->subjects[i]), &got);
        assert_int_equal(here, subjects[i].count > 0);
        if (here) {
            assert_int_equal(got.count, subjects[i].count);
            assert_int_equal(got.first_seq, subjects[i].first_seq);
            assert_int_equal(got.last_seq, subjects[i].last_seq);
        }
    }
    free(at);
    free(subjects);
    free(filter);
}

/* ---- steps ---- */

static void step_append(struct rig *r, uint32_t variety)
{
    struct model *m = &r->model;
    uint64_t jump = random_below(40);
    uint64_t seq = m->last + (jump == 0 ? random_below(2000) : jump == 1 ? 3 : 0) + 1;
    if (random_below(3000) == 0) {
        seq += UINT64_C(1) << 33;
    }
    uint64_t time_us = m->newest_us + random_below(2000);
    if (random_below(200) == 0) {
        time_us += UINT64_C(7200000000);
    } else if (random_below(100) == 0) {
        time_us -= time_us > 30000 ? random_below(30000) : 0;
    }
    if (m->count == m->cap) {
        m->cap = m->cap == 0 ? 1024 : m->cap * 2;
        m->messages = realloc(m->messages, m->cap * sizeof(*m->messages));
    }
    struct model_message *message = &m->messages[m->count++];
    *message = (struct model_message){ .seq = seq,
                                       .time_us = time_us,
                                       .place = (uint32_t)random_u64(),
                                       .bytes = (uint32_t)random_below(1u << 25),
                                       .subject = pick_subject(m, variety),
                                       .here = true };
    m->live++;
    m->last = seq;
    m->newest_us = time_us;
    struct rb_index_message appended = { .seq = seq,
                                         .time_us = time_us,
                                         .place = message->place,
                                         .bytes = message->bytes,
                                         .subject = rb_slice_text(subject_at(m, message)) };
    assert_int_equal(rb_index_append(r->index, &appended), RB_OK);
    for (uint32_t i = 0; i < CURSORS; i++) {
        if (r->cursors[i] != NULL && random_below(2) == 0 &&
            model_matches_any(r->cursor_filters[i], r->cursor_counts[i], subject_at(m, message))) {
            rb_index_cursor_hint(r->cursors[i], seq);
        }
    }
}

static void remove_at(struct rig *r, size_t at)
{
    struct model_message *message = &r->model.messages[at];
    assert_int_equal(rb_index_remove(r->index, message->seq), message->here);
    r->model.live -= message->here;
    message->here = false;
}

static void step_remove(struct rig *r)
{
    struct model *m = &r->model;
    if (m->count == 0) {
        assert_false(rb_index_remove(r->index, 1));
        return;
    }
    size_t at = random_below(m->count);
    if (random_below(2) == 0) { /* the oldest */
        for (at = 0; at + 1 < m->count && !m->messages[at].here; at++) {
        }
    }
    uint64_t many = random_below(400) == 0 ? random_below(400) : 1;
    for (uint64_t i = 0; i < many && at < m->count; i++) {
        remove_at(r, at++);
    }
    if (m->live * 4 < m->count && m->count > 512) { /* what is long gone is forgotten */
        size_t kept = 0;
        for (size_t i = 0; i < m->count; i++) {
            if (m->messages[i].here) {
                m->messages[kept++] = m->messages[i];
            }
        }
        m->count = kept;
    }
}

static void drop_cursor(struct rig *r, uint32_t i)
{
    rb_index_cursor_destroy(r->cursors[i]);
    r->cursors[i] = NULL;
    for (uint32_t f = 0; f < r->cursor_counts[i]; f++) {
        free(r->cursor_filters[i][f]);
    }
    r->cursor_counts[i] = 0;
}

static void step_cursor(struct rig *r)
{
    struct model *m = &r->model;
    uint32_t i = (uint32_t)random_below(CURSORS);
    if (r->cursors[i] == NULL || random_below(100) == 0) {
        drop_cursor(r, i);
        struct rb_slice slices[FILTERS_MAX];
        uint32_t count = pick_filters(r, r->cursor_filters[i], slices);
        r->cursor_counts[i] = count;
        r->cursor_at[i] = 1;
        assert_int_equal(rb_index_cursor_create(r->index, slices, count, &r->cursors[i]), RB_OK);
    }
    if (random_below(30) == 0) {
        r->cursor_at[i] = pick_sequence(m);
    }
    uint64_t steps = random_below(20);
    size_t at = 0;
    for (uint64_t step = 0; step < steps; step++) {
        uint64_t from = r->cursor_at[i];
        uint64_t want = 0;
        at = random_below(4) == 0 ? 0 : at;
        while (at > 0 && m->messages[at - 1].seq >= from) {
            at--;
        }
        for (; at < m->count; at++) {
            const struct model_message *message = &m->messages[at];
            if (message->here && message->seq >= from &&
                model_matches_any(r->cursor_filters[i], r->cursor_counts[i],
                                  subject_at(m, message))) {
                want = message->seq;
                break;
            }
        }
        assert_int_equal(rb_index_cursor_next(r->cursors[i], from), want);
        if (want == 0) {
            break;
        }
        r->cursor_at[i] = random_below(50) == 0 ? want : want + 1;
    }
}

/* ---- freezing ---- */

/* Brings the image up to date with what changed, as a checkpoint does; it must then be the frozen pages. */
static void update_image(struct rig *r)
{
    uint32_t pages = rb_index_frozen_pages(r->index);
    r->image = realloc(r->image, (size_t)pages * RB_PAGE_BYTES);
    for (uint32_t i = 0; i < pages; i++) {
        uint8_t *kept = r->image + (size_t)i * RB_PAGE_BYTES;
        const uint8_t *page = rb_index_frozen_page(r->index, i);
        if (i >= r->image_pages || rb_index_frozen_changed(r->index, i, r->frozen_number)) {
            memcpy(kept, page, RB_PAGE_BYTES);
        }
        assert_memory_equal(kept, page, RB_PAGE_BYTES);
        assert_true(rb_index_frozen_changed(r->index, i, 0));
    }
    r->image_pages = pages;
    r->frozen_number = rb_index_freeze_number(r->index);
}

static struct rb_index *load_image(struct rig *r, const uint8_t *image, uint32_t pages,
                                   enum rb_err *ret_err)
{
    struct rb_index *index;
    assert_int_equal(rb_index_load_begin(&r->budget, pages, &index), RB_OK);
    for (uint32_t i = 0; i < pages; i++) {
        memcpy(rb_index_load_page(index, i), image + (size_t)i * RB_PAGE_BYTES, RB_PAGE_BYTES);
    }
    *ret_err = rb_index_load_end(index);
    return index;
}

static void step_freeze(struct rig *r, uint32_t variety)
{
    assert_int_equal(rb_index_freeze(r->index), RB_OK);
    assert_int_equal(rb_index_freeze(r->index), RB_ERR_BUSY);
    uint32_t pages = rb_index_frozen_pages(r->index);
    uint8_t *then = malloc((size_t)pages * RB_PAGE_BYTES);
    for (uint32_t i = 0; i < pages; i++) {
        memcpy(then + (size_t)i * RB_PAGE_BYTES, rb_index_frozen_page(r->index, i), RB_PAGE_BYTES);
    }
    uint64_t steps = random_below(3) == 0 ? 0 : random_below(300);
    for (uint64_t i = 0; i < steps; i++) {
        if (random_below(2) == 0) {
            step_append(r, variety);
        } else {
            step_remove(r);
        }
    }
    update_image(r);
    assert_memory_equal(r->image, then, (size_t)pages * RB_PAGE_BYTES);
    free(then);
    rb_index_thaw(r->index);
    if (steps > 0) {
        return;
    }
    /* A restart. */
    for (uint32_t i = 0; i < CURSORS; i++) {
        drop_cursor(r, i);
    }
    rb_index_destroy(r->index);
    assert_int_equal(r->budget.used_bytes, 0);
    enum rb_err err;
    r->index = load_image(r, r->image, pages, &err);
    assert_int_equal(err, RB_OK);
    assert_int_equal(rb_index_freeze_number(r->index), r->frozen_number);
}

static void check_all(struct rig *r)
{
    compare_state(r);
    for (int i = 0; i < 4; i++) {
        compare_sequence(r, pick_sequence(&r->model));
        compare_filters(r);
    }
    compare_subjects(r);
}

static void rig_init(struct rig *r, uint64_t seed)
{
    memset(r, 0, sizeof(*r));
    random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    r->model.newest_us = UINT64_C(1700000000000000);
    assert_int_equal(rb_index_create(&r->budget, &r->index), RB_OK);
    r->model.newest_us = 0;
}

static void rig_deinit(struct rig *r)
{
    for (uint32_t i = 0; i < CURSORS; i++) {
        drop_cursor(r, i);
    }
    rb_index_destroy(r->index);
    assert_int_equal(r->budget.used_bytes, 0);
    free(r->image);
    model_deinit(&r->model);
}

static void run_random(uint64_t seed, uint32_t steps, uint32_t variety, uint32_t removes)
{
    struct rig r;
    rig_init(&r, seed);
    for (uint32_t i = 0; i < steps; i++) {
        uint64_t kind = random_below(100);
        if (kind < 50) {
            step_append(&r, variety);
        } else if (kind < 50 + removes) {
            step_remove(&r);
        } else if (kind < 94) {
            step_cursor(&r);
        } else if (kind < 95) {
            r.model.last += random_below(3) == 0 ? random_below(600) : 0;
            rb_index_skip(r.index, r.model.last);
            rb_index_skip(r.index, r.model.last / 2);
        } else if (kind < 97 && r.model.count > 0) {
            struct model_message *message = &r.model.messages[random_below(r.model.count)];
            message->place = (uint32_t)random_u64();
            rb_index_set_place(r.index, message->seq, message->place);
        } else {
            compare_sequence(&r, pick_sequence(&r.model));
            compare_filters(&r);
        }
        if (random_below(150) == 0) {
            step_freeze(&r, variety);
        }
        if (i % 97 == 0) {
            check_all(&r);
        }
    }
    while (r.model.count > 0 && r.model.live > 0) {
        remove_at(&r, random_below(r.model.count));
    }
    check_all(&r);
    rig_deinit(&r);
}

static void random_few_subjects(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        run_random(seed, 6000, 12, 20);
        run_random(seed + 100, 6000, 12, 45);
    }
}

static void random_many_subjects(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        run_random(seed + 200, 6000, 2000, 25);
        run_random(seed + 300, 6000, 2000, 45);
    }
}

/* ---- damage ---- */

/* Whatever was flipped in an image: it is refused, or the index that comes of it answers and can be emptied. */
static void damaged_images(void **state)
{
    uint32_t refused = 0;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct rig r;
        rig_init(&r, seed + 400);
        for (uint32_t i = 0; i < 4000; i++) {
            if (random_below(4) != 0) {
                step_append(&r, seed % 2 == 0 ? 20 : 1500);
            } else {
                step_remove(&r);
            }
        }
        assert_int_equal(rb_index_freeze(r.index), RB_OK);
        update_image(&r);
        rb_index_thaw(r.index);
        size_t bytes = (size_t)r.image_pages * RB_PAGE_BYTES;
        uint8_t *image = malloc(bytes);
        for (uint32_t round = 0; round < 500; round++) {
            memcpy(image, r.image, bytes);
            uint64_t flips = 1 + random_below(3);
            for (uint64_t i = 0; i < flips; i++) {
                size_t at = random_below(3) == 0 ? random_below(600) : random_below(bytes);
                image[at] = random_below(2) == 0 ? (uint8_t)random_u64()
                                                 : image[at] ^ (uint8_t)(1u << random_below(8));
            }
            enum rb_err err;
            struct rb_index *index = load_image(&r, image, r.image_pages, &err);
            if (err != RB_OK) {
                assert_int_equal(err, RB_ERR_CORRUPT);
                refused++;
            } else {
                struct rb_slice filters[2] = { RB_S("*.>"), RB_S("a.*") };
                rb_index_count(index, filters, 2, 7);
                for (uint64_t seq = 0; (seq = rb_index_next(index, seq)) != 0; seq++) {
                    assert_true(rb_index_remove(index, seq));
                }
                struct rb_msgstore_state left;
                rb_index_state(index, &left);
                assert_int_equal(left.messages, 0);
                assert_int_equal(left.subjects, 0);
            }
            rb_index_destroy(index);
        }
        free(image);
        rig_deinit(&r);
    }
    assert_in_range(refused, 200, 1999);
}

/* ---- large ones ---- */

static uint8_t *freeze_and_copy(struct rb_index *index)
{
    assert_int_equal(rb_index_freeze(index), RB_OK);
    uint32_t pages = rb_index_frozen_pages(index);
    uint8_t *copy = malloc((size_t)pages * RB_PAGE_BYTES);
    for (uint32_t i = 0; i < pages; i++) {
        memcpy(copy + (size_t)i * RB_PAGE_BYTES, rb_index_frozen_page(index, i), RB_PAGE_BYTES);
    }
    return copy;
}

/* Pages that change, are given back and are taken again while they are frozen, over two checkpoints and a restart. */
static void large_images(void **state)
{
    enum { N = 200000 };
    struct rig r;
    rig_init(&r, 77);
    struct small s = { .index = r.index };
    char text[32];
    for (uint64_t seq = 1; seq <= N; seq++) {
        sprintf(text, "first.%u", (unsigned)seq);
        assert_int_equal(put(&s, seq, text), RB_OK);
    }
    uint8_t *then = freeze_and_copy(r.index);
    uint32_t pages = rb_index_frozen_pages(r.index);
    for (uint64_t seq = 1; seq < N; seq++) { /* the last one keeps its page */
        assert_true(rb_index_remove(r.index, seq));
    }
    for (uint64_t seq = N + 1; seq <= N + N / 3; seq++) {
        assert_int_equal(put(&s, seq, "second"), RB_OK);
    }
    update_image(&r);
    assert_int_equal(r.image_pages, pages);
    assert_memory_equal(r.image, then, (size_t)pages * RB_PAGE_BYTES);
    free(then);
    rb_index_thaw(r.index);
    assert_int_equal(rb_index_freeze(r.index), RB_OK);
    uint32_t same = 0;
    for (uint32_t i = 0; i < rb_index_frozen_pages(r.index); i++) {
        same += !rb_index_frozen_changed(r.index, i, r.frozen_number);
    }
    assert_int_equal(same, 0);
    update_image(&r); /* with holes in it */
    rb_index_thaw(r.index);
    assert_int_equal(put(&s, 2 * N, "second"), RB_OK);
    then = freeze_and_copy(r.index);
    pages = rb_index_frozen_pages(r.index);
    for (uint32_t i = 0; i < pages; i++) {
        same += !rb_index_frozen_changed(r.index, i, r.frozen_number);
    }
    assert_in_range(same, pages - 8, pages - 1);
    for (uint64_t seq = 2 * N + 1; seq <= 2 * N + N / 4; seq++) { /* into the holes */
        sprintf(text, "third.%u", (unsigned)seq);
        assert_int_equal(put(&s, seq, text), RB_OK);
    }
    update_image(&r);
    assert_memory_equal(r.image, then, (size_t)pages * RB_PAGE_BYTES);
    free(then);
    rb_index_thaw(r.index);
    for (uint64_t seq = 2 * N + 1; seq <= 2 * N + N / 4; seq++) {
        assert_true(rb_index_remove(r.index, seq));
    }
    uint64_t bytes = rb_index_bytes(r.index);
    rb_index_destroy(r.index);
    enum rb_err err;
    s.index = r.index = load_image(&r, r.image, r.image_pages, &err);
    assert_int_equal(err, RB_OK);
    assert_in_range(rb_index_bytes(r.index), bytes / 2, bytes + (4u << 20));
    assert_int_equal(count_of(&s, "second", 0), N / 3 + 1);
    assert_int_equal(count_of(&s, "first.>", 0), 1);
    for (uint64_t seq = 2 * N + 1; seq <= 3 * N; seq++) {
        sprintf(text, "third.%u", (unsigned)seq);
        assert_int_equal(put(&s, seq, text), RB_OK);
    }
    assert_int_equal(count_of(&s, "third.*", 2 * N + N / 2), N / 2 + 1);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_few_subjects),
        cmocka_unit_test(random_many_subjects),
        cmocka_unit_test(damaged_images),
        cmocka_unit_test(large_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
