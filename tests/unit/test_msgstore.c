/* test_msgstore.c - message stores: in memory, over the simulated disk, found again, damaged, full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ringbus/msgstore.h"
#include "store_rig.h"

#define DIRECTORY "stream"

struct fixture {
    struct store_rig rig;
    struct rb_msgstore *store;
    uint8_t body[70000];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    store_rig_init(&f->rig, 7);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->store != NULL) {
        store_rig_close(&f->rig, f->store);
    }
    store_rig_deinit(&f->rig);
    free(f);
    return 0;
}

static void open_store(struct fixture *f, const char *directory)
{
    assert_int_equal(store_rig_open(&f->rig, directory, &f->store), RB_OK);
}

/* Body and subject say which sequence it is. */
static struct rb_message message_of(struct fixture *f, uint64_t seq, uint32_t len, char *subject)
{
    int subject_len = sprintf(subject, "s.%llu", (unsigned long long)(seq % 10));
    for (uint32_t i = 0; i < len; i++) {
        f->body[i] = (uint8_t)(seq * 31 + i);
    }
    return (struct rb_message){ .seq = seq,
                                .time_ns = seq * 1000 + 7,
                                .subject = rb_slice_of(subject, (size_t)subject_len),
                                .payload = rb_slice_of(f->body, len),
                                .header_len = seq % 3 == 0 && len > 2 ? 2 : 0 };
}

static enum rb_err append(struct fixture *f, uint64_t seq, uint32_t len)
{
    char subject[32];
    struct rb_message message = message_of(f, seq, len, subject);
    return rb_msgstore_append(f->store, &message);
}

static void append_many(struct fixture *f, uint64_t from, uint64_t to, uint32_t len)
{
    for (uint64_t seq = from; seq <= to; seq++) {
        assert_int_equal(append(f, seq, len), RB_OK);
    }
}

static void check(struct fixture *f, uint64_t seq, uint32_t len)
{
    char subject[32];
    struct rb_message found;
    assert_int_equal(store_rig_get(&f->rig, f->store, seq, &found), RB_OK);
    struct rb_message message = message_of(f, seq, len, subject);
    assert_int_equal(found.seq, seq);
    assert_int_equal(found.time_ns, message.time_ns);
    assert_int_equal(found.header_len, message.header_len);
    assert_true(rb_slice_equal(found.subject, message.subject));
    assert_true(rb_slice_equal(found.payload, message.payload));
}

static void check_many(struct fixture *f, uint64_t from, uint64_t to, uint32_t len)
{
    for (uint64_t seq = from; seq <= to; seq++) {
        check(f, seq, len);
    }
}

static void memory_store_keeps_and_forgets(void **state)
{
    struct fixture *f = *state;
    struct rb_msgstore_state s;
    struct rb_message found;
    open_store(f, NULL);
    append_many(f, 1, 5000, 300);
    check_many(f, 1, 5000, 300);
    assert_true(rb_msgstore_remove(f->store, 17, true));
    assert_false(rb_msgstore_remove(f->store, 17, false));
    assert_int_equal(rb_msgstore_get(f->store, 17, NULL, &found), RB_ERR_MISSING);
    rb_msgstore_state(f->store, &s);
    assert_int_equal(s.messages, 4999);
    assert_int_equal(s.bytes, 4999 * (3 + 300 + 16));
    assert_int_equal(s.deleted, 1);
    assert_int_equal(rb_msgstore_checkpoint(f->store, 1, RB_S("")), RB_ERR_INVALID);
    assert_int_equal(rb_msgstore_purge_below(f->store, 4001), 3999);
    check_many(f, 4001, 5000, 300);
    store_rig_close(&f->rig, f->store);
    f->store = NULL;
}

/* What memory stores hold follows what lives, whichever messages go. */
static void memory_follows_what_lives(void **state)
{
    struct fixture *f = *state;
    open_store(f, NULL);
    append_many(f, 1, 20000, 400);
    uint64_t full = f->rig.budget.used_bytes;
    for (uint64_t seq = 1; seq <= 20000; seq++) {
        if (seq % 16 != 0) {
            assert_true(rb_msgstore_remove(f->store, seq, false));
        }
    }
    for (int i = 0; i < 100; i++) {
        store_rig_turn(&f->rig);
    }
    assert_true(f->rig.budget.used_bytes < full / 4);
    for (uint64_t seq = 16; seq <= 20000; seq += 16) {
        check(f, seq, 400);
    }
    assert_int_equal(rb_msgstore_purge(f->store, RB_S(">"), 0, 0), 1250);
    store_rig_turn(&f->rig);
    store_rig_turn(&f->rig);
}

static void file_store_is_found_again(void **state)
{
    struct fixture *f = *state;
    struct rb_slice blob;
    open_store(f, DIRECTORY);
    assert_int_equal(rb_msgstore_restored(f->store, &blob), 0);
    append_many(f, 1, 3000, 500);
    assert_true(rb_msgstore_remove(f->store, 5, false));
    rb_msgstore_skip(f->store, 3005);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 42, RB_S("blob")), RB_OK);
    assert_int_equal(rb_msgstore_durable_index(f->store), 0);
    append_many(f, 3006, 4000, 500); /* these are not in the checkpoint */
    store_rig_settle(&f->rig);
    store_rig_cut(&f->rig, true);
    open_store(f, DIRECTORY);
    assert_int_equal(rb_msgstore_restored(f->store, &blob), 42);
    assert_true(rb_slice_equal(blob, RB_S("blob")));
    struct rb_msgstore_state s;
    rb_msgstore_state(f->store, &s);
    assert_int_equal(s.messages, 2999);
    assert_int_equal(s.last_seq, 3005);
    check_many(f, 1, 4, 500);
    check_many(f, 6, 3000, 500);
    assert_int_equal(f->rig.damage_count, 0);
    append_many(f, 3006, 4000, 200); /* again, and other ones */
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 50, RB_S("")), RB_OK);
    assert_int_equal(rb_msgstore_durable_index(f->store), 42);
    store_rig_close(&f->rig, f->store);
    open_store(f, DIRECTORY);
    check_many(f, 6, 3000, 500);
    check_many(f, 3006, 4000, 200);
    assert_int_equal(f->rig.damage_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_store_keeps_and_forgets, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_follows_what_lives, setup, teardown),
        cmocka_unit_test_setup_teardown(file_store_is_found_again, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
