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

/* ---- damage ---- */

static bool named(const struct fixture *f, const char *what)
{
    for (uint32_t i = 0; i < f->rig.damage_count && i < STORE_RIG_DAMAGES; i++) {
        if (strstr(f->rig.damages[i], what) != NULL) {
            return true;
        }
    }
    return false;
}

static void reopen(struct fixture *f)
{
    store_rig_close(&f->rig, f->store);
    open_store(f, DIRECTORY);
}

static void damaged_body_is_named_and_refused(void **state)
{
    struct fixture *f = *state;
    struct rb_message found;
    open_store(f, DIRECTORY);
    append_many(f, 1, 100, 1000);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 1, RB_S("")), RB_OK);
    store_rig_close(&f->rig, f->store);
    assert_true(rb_sim_disk_flip(f->rig.disk, DIRECTORY "/0000000000000001.seg", 50000, 4));
    open_store(f, DIRECTORY);
    uint32_t bad = 0;
    uint64_t which = 0;
    for (uint64_t seq = 1; seq <= 100; seq++) {
        enum rb_err err = store_rig_get(&f->rig, f->store, seq, &found);
        assert_true(err == RB_OK || err == RB_ERR_CORRUPT);
        bad += err == RB_ERR_CORRUPT;
        which = err == RB_ERR_CORRUPT ? seq : which;
    }
    assert_int_equal(bad, 1);
    store_rig_turn(&f->rig);
    assert_int_equal(f->rig.damage_count, 1);
    char text[64];
    snprintf(text, sizeof(text), DIRECTORY "/0000000000000001.seg: message %llu at",
             (unsigned long long)which);
    assert_true(named(f, text));
    assert_int_equal(store_rig_get(&f->rig, f->store, which, &found), RB_ERR_CORRUPT);
    store_rig_turn(&f->rig);
    assert_int_equal(f->rig.damage_count, 1); /* once */
}

/* Two checkpoints; the newest is in `newest`. */
static void make_two(struct fixture *f)
{
    open_store(f, DIRECTORY);
    append_many(f, 1, 50, 100);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 10, RB_S("ten")), RB_OK);
    append_many(f, 51, 80, 100);
    assert_true(rb_msgstore_remove(f->store, 3, false));
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 20, RB_S("twenty")), RB_OK);
    store_rig_close(&f->rig, f->store);
}

static void the_other_checkpoint_takes_over(void **state)
{
    struct fixture *f = *state;
    struct rb_slice blob;
    make_two(f);
    const char *newest = DIRECTORY "/0.ckpt"; /* the first went to 1, after the founding one in 0 */
    assert_true(rb_sim_disk_flip(f->rig.disk, newest, 8192 + 100, 1));
    open_store(f, DIRECTORY);
    assert_int_equal(rb_msgstore_restored(f->store, &blob), 10);
    assert_true(rb_slice_equal(blob, RB_S("ten")));
    store_rig_turn(&f->rig);
    assert_true(named(f, "0.ckpt"));
    assert_non_null(rb_sim_disk_bytes(f->rig.disk, DIRECTORY "/0.ckpt.damaged1", NULL));
    check_many(f, 1, 50, 100);
    append_many(f, 51, 60, 300); /* in another file than those that were lost */
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 15, RB_S("")), RB_OK);
    reopen(f);
    check_many(f, 1, 50, 100);
    check_many(f, 51, 60, 300);
}

static void one_copy_of_a_header_is_enough(void **state)
{
    struct fixture *f = *state;
    struct rb_slice blob;
    make_two(f);
    assert_true(rb_sim_disk_flip(f->rig.disk, DIRECTORY "/0.ckpt", 20, 1));
    open_store(f, DIRECTORY);
    assert_int_equal(rb_msgstore_restored(f->store, &blob), 20);
}

static void segments_are_scanned_without_checkpoints(void **state)
{
    struct fixture *f = *state;
    struct rb_slice blob;
    make_two(f);
    assert_true(rb_sim_disk_unlink(f->rig.disk, DIRECTORY "/0.ckpt"));
    assert_true(rb_sim_disk_unlink(f->rig.disk, DIRECTORY "/1.ckpt"));
    open_store(f, DIRECTORY);
    assert_int_equal(rb_msgstore_restored(f->store, &blob), 0);
    store_rig_turn(&f->rig);
    assert_true(named(f, "80 messages, up to 80")); /* what had been removed is back */
    check_many(f, 1, 80, 100);
    append_many(f, 81, 90, 100);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 30, RB_S("")), RB_OK);
    reopen(f);
    check_many(f, 1, 90, 100);
}

static void pages_that_are_bad_leave_the_table(void **state)
{
    struct fixture *f = *state;
    struct rb_slice blob;
    make_two(f);
    assert_true(rb_sim_disk_flip(f->rig.disk, DIRECTORY "/0.ckpt", 8192 + 100, 1));
    assert_true(rb_sim_disk_flip(f->rig.disk, DIRECTORY "/1.ckpt", 8192 + 100, 1));
    open_store(f, DIRECTORY);
    assert_int_equal(rb_msgstore_restored(f->store, &blob), 20);
    assert_true(rb_slice_equal(blob, RB_S("twenty")));
    store_rig_turn(&f->rig);
    assert_true(named(f, "built again"));
    check_many(f, 1, 80, 100);
}

/* ---- space ---- */

static uint64_t files_bytes(struct fixture *f)
{
    uint64_t sum = 0;
    const char *name;
    for (uint32_t i = 0; (name = rb_sim_disk_name(f->rig.disk, i)) != NULL; i++) {
        uint64_t size = 0;
        sum += rb_sim_disk_bytes(f->rig.disk, name, &size) == NULL ? 0 : size;
    }
    return sum;
}

static void files_follow_what_lives(void **state)
{
    struct fixture *f = *state;
    f->rig.options.segment_bytes = 1 << 20;
    rb_msgstore_home_destroy(f->rig.home);
    store_rig_home(&f->rig);
    open_store(f, DIRECTORY);
    append_many(f, 1, 8000, 1000);
    store_rig_settle(&f->rig);
    uint64_t full = files_bytes(f);
    for (uint64_t seq = 1; seq <= 8000; seq++) {
        if (seq % 10 != 0) {
            assert_true(rb_msgstore_remove(f->store, seq, false));
        }
    }
    for (uint64_t i = 1; i <= 3; i++) {
        store_rig_settle(&f->rig);
        assert_int_equal(store_rig_checkpoint(&f->rig, f->store, i, RB_S("")), RB_OK);
    }
    store_rig_settle(&f->rig);
    assert_true(files_bytes(f) < full / 3);
    reopen(f);
    for (uint64_t seq = 10; seq <= 8000; seq += 10) {
        check(f, seq, 1000);
    }
}

static bool on_disk(struct fixture *f, const char *text)
{
    const char *name;
    for (uint32_t i = 0; (name = rb_sim_disk_name(f->rig.disk, i)) != NULL; i++) {
        uint64_t size = 0;
        const uint8_t *bytes = rb_sim_disk_bytes(f->rig.disk, name, &size);
        if (bytes != NULL && memmem(bytes, size, text, strlen(text)) != NULL) {
            return true;
        }
    }
    return false;
}

static void erased_bodies_leave_the_disk(void **state)
{
    struct fixture *f = *state;
    open_store(f, DIRECTORY);
    append_many(f, 1, 20, 100);
    struct rb_message secret = {
        .seq = 21, .time_ns = 5, .subject = RB_S("a"), .payload = RB_S("the secret body")
    };
    assert_int_equal(rb_msgstore_append(f->store, &secret), RB_OK);
    append_many(f, 22, 40, 100);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 1, RB_S("")), RB_OK);
    assert_true(on_disk(f, "the secret body"));
    assert_true(rb_msgstore_remove(f->store, 21, true));
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 2, RB_S("")), RB_OK);
    assert_false(on_disk(f, "the secret body"));
    reopen(f);
    check_many(f, 1, 20, 100);
    check_many(f, 22, 40, 100);
    assert_int_equal(f->rig.damage_count, 0);
}

static void full_disk_holds_back_and_goes_on(void **state)
{
    struct fixture *f = *state;
    struct rb_sim_disk_options small = { .delay_min_ns = 1000,
                                         .delay_max_ns = 2000,
                                         .capacity_bytes = 1 << 20 };
    open_store(f, DIRECTORY);
    append_many(f, 1, 100, 1000);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 1, RB_S("")), RB_OK);
    rb_sim_disk_set(f->rig.disk, &small);
    append_many(f, 101, 4000, 1000);
    for (int i = 0; i < 2000 && !rb_msgstore_home_pressure(f->rig.home); i++) {
        store_rig_turn(&f->rig);
    }
    assert_true(rb_msgstore_home_pressure(f->rig.home));
    check_many(f, 1, 4000, 1000);
    small.capacity_bytes = 0;
    rb_sim_disk_set(f->rig.disk, &small);
    /* Woken by completions and by its own due time alone. */
    uint64_t began_ns = f->rig.now_ns;
    for (int i = 0; i < 100000 && rb_msgstore_home_pressure(f->rig.home); i++) {
        uint64_t due = rb_msgstore_home_due(f->rig.home), disk = rb_sim_disk_due(f->rig.disk);
        due = disk < due ? disk : due;
        assert_true(due != UINT64_MAX);
        f->rig.now_ns = due > f->rig.now_ns ? due : f->rig.now_ns;
        store_rig_turn(&f->rig);
    }
    assert_true(f->rig.now_ns - began_ns < UINT64_C(1000000000));
    store_rig_settle(&f->rig);
    assert_int_equal(rb_msgstore_home_due(f->rig.home), UINT64_MAX);
    assert_false(rb_msgstore_home_pressure(f->rig.home));
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 2, RB_S("")), RB_OK);
    reopen(f);
    check_many(f, 1, 4000, 1000);
}

static void failed_checkpoint_can_be_tried_again(void **state)
{
    struct fixture *f = *state;
    enum rb_disk_kind kinds[] = { RB_DISK_SYNC, RB_DISK_WRITE, RB_DISK_OPEN,
                                  RB_DISK_SYNC_DIRECTORY };
    open_store(f, DIRECTORY);
    uint64_t index = 1;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        append_many(f, i * 100 + 1, i * 100 + 100, 100);
        store_rig_settle(&f->rig);
        rb_sim_disk_fail_next(f->rig.disk, kinds[i], RB_ERR_IO);
        enum rb_err err = store_rig_checkpoint(&f->rig, f->store, index++, RB_S(""));
        for (int tries = 0; err != RB_OK && tries < 10; tries++) {
            assert_int_equal(err, RB_ERR_IO);
            store_rig_settle(&f->rig);
            err = store_rig_checkpoint(&f->rig, f->store, index++, RB_S(""));
        }
        assert_int_equal(err, RB_OK);
    }
    store_rig_cut(&f->rig, true);
    open_store(f, DIRECTORY);
    check_many(f, 1, 400, 100);
}

static void small_checkpoints_are_cheap(void **state)
{
    struct fixture *f = *state;
    open_store(f, DIRECTORY);
    append_many(f, 1, 5, 100);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 1, RB_S("")), RB_OK);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 2, RB_S("")), RB_OK);
    struct rb_msgstore_home_stats stats;
    rb_msgstore_home_stats(f->rig.home, &stats);
    assert_true(stats.disk_bytes < 160 << 10);
    assert_true(rb_msgstore_checkpoint_bytes(f->store) < 64 << 10);
}

static void destroy_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    open_store(f, DIRECTORY);
    append_many(f, 1, 500, 1000);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 1, RB_S("")), RB_OK);
    append_many(f, 501, 900, 1000);
    store_rig_destroy_store(&f->rig, f->store);
    f->store = NULL;
    assert_null(rb_sim_disk_name(f->rig.disk, 0));
    store_rig_cut(&f->rig, true);
    assert_null(rb_sim_disk_name(f->rig.disk, 0));
}

/* ---- waiting ---- */

static void waits_end_once_or_not_at_all(void **state)
{
    struct fixture *f = *state;
    struct rb_msgstore_wait first = { 0 }, second = { 0 };
    struct rb_message found;
    open_store(f, DIRECTORY);
    append_many(f, 1, 100, 1000);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 1, RB_S("")), RB_OK);
    reopen(f);
    assert_int_equal(rb_msgstore_get(f->store, 5, NULL, &found), RB_ERR_BUSY);
    assert_int_equal(rb_msgstore_get(f->store, 50, &first, &found), RB_ERR_BUSY);
    assert_int_equal(rb_msgstore_get(f->store, 50, &second, &found), RB_ERR_BUSY);
    assert_int_equal(rb_msgstore_get(f->store, 51, &first, &found), RB_ERR_BUSY);
    rb_msgstore_forget(&second);
    rb_msgstore_forget(&second);
    store_rig_settle(&f->rig);
    assert_int_equal(f->rig.loaded_count, 1);
    assert_ptr_equal(f->rig.loaded, &first);
    assert_false(first.waiting);
    assert_int_equal(rb_msgstore_get(f->store, 50, NULL, &found), RB_OK);
    assert_int_equal(rb_msgstore_get(f->store, 1, &first, &found), RB_ERR_BUSY);
    store_rig_close(&f->rig, f->store);
    f->store = NULL;
    assert_int_equal(f->rig.loaded_count, 1);
    assert_false(first.waiting);
}

/* Whoever reads one block after the other must not wait for somebody else's turn between them. */
static void reads_begin_with_the_flush(void **state)
{
    struct fixture *f = *state;
    struct rb_msgstore_wait wait = { 0 };
    struct rb_message found;
    open_store(f, DIRECTORY);
    append_many(f, 1, 100, 1000);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 1, RB_S("")), RB_OK);
    reopen(f);
    assert_int_equal(rb_msgstore_get(f->store, 50, &wait, &found), RB_ERR_BUSY);
    assert_true(rb_sim_disk_due(f->rig.disk) == UINT64_MAX);
    rb_msgstore_home_flush(f->rig.home);
    assert_true(rb_sim_disk_due(f->rig.disk) != UINT64_MAX);
    store_rig_settle(&f->rig);
    assert_ptr_equal(f->rig.loaded, &wait);
}

struct gone {
    uint64_t seq, bytes;
    char subject[32];
    uint32_t count;
};

static void note_gone(void *owner, uint64_t seq, uint64_t bytes, struct rb_slice subject)
{
    struct gone *gone = owner;
    gone->seq = seq;
    gone->bytes = bytes;
    gone->count++;
    snprintf(gone->subject, sizeof(gone->subject), "%.*s", RB_S_ARG(subject));
}

static void who_owns_it_hears_what_goes(void **state)
{
    struct fixture *f = *state;
    struct gone gone = { 0 };
    struct rb_msgstore_options options = { .owner = &gone, .removed = note_gone };
    assert_int_equal(rb_msgstore_open(f->rig.home, &options, &f->store), RB_OK);
    store_rig_turn(&f->rig);
    append_many(f, 1, 40, 10);
    assert_true(rb_msgstore_remove(f->store, 7, false));
    assert_int_equal(gone.seq, 7);
    assert_int_equal(gone.bytes, 3 + 10 + 16);
    assert_string_equal(gone.subject, "");
    rb_msgstore_want_subjects(f->store, true);
    assert_int_equal(rb_msgstore_purge(f->store, RB_S("s.3"), 0, 1), 3); /* 3, 13, 23 of 3..33 */
    assert_int_equal(gone.seq, 23);
    assert_string_equal(gone.subject, "s.3");
    assert_int_equal(rb_msgstore_purge(f->store, RB_S("*.4"), 20, 0), 2);
    assert_int_equal(rb_msgstore_purge_below(f->store, 100), 34);
    assert_int_equal(gone.count, 40);
    struct rb_msgstore_state s;
    rb_msgstore_state(f->store, &s);
    assert_int_equal(s.first_seq, 100);
    assert_int_equal(s.last_seq, 99);
    assert_int_equal(append(f, 99, 10), RB_ERR_INVALID); /* used up */
    struct rb_message late = { .seq = 100, .subject = RB_S("x"), .header_len = 5 };
    assert_int_equal(rb_msgstore_append(f->store, &late),
                     RB_ERR_INVALID); /* longer than the payload */
}

static void many_small_stores(void **state)
{
    struct fixture *f = *state;
    struct rb_msgstore *stores[100];
    char name[32];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "small-%d", i);
        open_store(f, name);
        stores[i] = f->store;
        append_many(f, 1, 3, 50);
    }
    for (int i = 0; i < 100; i++) {
        assert_int_equal(rb_msgstore_checkpoint(stores[i], 1, RB_S("")), RB_OK);
    }
    f->rig.checkpoint_count = 0;
    for (int i = 0; i < 100000 && f->rig.checkpoint_count < 100; i++) {
        store_rig_turn(&f->rig);
    }
    assert_int_equal(f->rig.checkpoint_count, 100);
    for (int i = 0; i < 100; i++) {
        store_rig_close(&f->rig, stores[i]);
    }
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "small-%d", i);
        open_store(f, name);
        check_many(f, 1, 3, 50);
        store_rig_close(&f->rig, f->store);
    }
    f->store = NULL;
}

static void budget_refuses_and_nothing_happens(void **state)
{
    struct fixture *f = *state;
    open_store(f, NULL);
    append_many(f, 1, 100, 1000);
    f->rig.budget.limit_bytes = f->rig.budget.used_bytes;
    uint64_t seq = 101;
    enum rb_err err;
    while ((err = append(f, seq, 1000)) == RB_OK && seq < 10000) {
        seq++;
    }
    assert_int_equal(err, RB_ERR_MEMORY);
    struct rb_msgstore_state s;
    rb_msgstore_state(f->store, &s);
    assert_int_equal(s.last_seq, seq - 1);
    f->rig.budget.limit_bytes = 0;
    append_many(f, seq, seq + 100, 1000);
    check_many(f, 1, seq + 100, 1000);
}

static void large_messages(void **state)
{
    struct fixture *f = *state;
    open_store(f, DIRECTORY);
    for (uint64_t seq = 1; seq <= 60; seq++) {
        assert_int_equal(append(f, seq, seq % 2 == 0 ? 70000 : 100), RB_OK);
    }
    uint8_t *body = malloc(RB_MSGSTORE_BYTES_MAX);
    assert_non_null(body);
    memset(body, 'x', RB_MSGSTORE_BYTES_MAX);
    struct rb_message huge = { .seq = 61,
                               .subject = RB_S("huge"),
                               .payload = rb_slice_of(body, RB_MSGSTORE_BYTES_MAX - 4) };
    assert_int_equal(rb_msgstore_append(f->store, &huge), RB_OK);
    huge.seq = 62;
    huge.payload.len++;
    assert_int_equal(rb_msgstore_append(f->store, &huge), RB_ERR_INVALID);
    assert_int_equal(store_rig_checkpoint(&f->rig, f->store, 1, RB_S("")), RB_OK);
    reopen(f);
    for (uint64_t seq = 1; seq <= 60; seq++) {
        check(f, seq, seq % 2 == 0 ? 70000 : 100);
    }
    struct rb_message found;
    assert_int_equal(store_rig_get(&f->rig, f->store, 61, &found), RB_OK);
    assert_int_equal(found.payload.len, RB_MSGSTORE_BYTES_MAX - 4);
    assert_memory_equal(found.payload.ptr, body, RB_MSGSTORE_BYTES_MAX - 4);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_store_keeps_and_forgets, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_follows_what_lives, setup, teardown),
        cmocka_unit_test_setup_teardown(file_store_is_found_again, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_body_is_named_and_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_other_checkpoint_takes_over, setup, teardown),
        cmocka_unit_test_setup_teardown(one_copy_of_a_header_is_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(segments_are_scanned_without_checkpoints, setup, teardown),
        cmocka_unit_test_setup_teardown(pages_that_are_bad_leave_the_table, setup, teardown),
        cmocka_unit_test_setup_teardown(files_follow_what_lives, setup, teardown),
        cmocka_unit_test_setup_teardown(erased_bodies_leave_the_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(full_disk_holds_back_and_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_checkpoint_can_be_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(small_checkpoints_are_cheap, setup, teardown),
        cmocka_unit_test_setup_teardown(destroy_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(waits_end_once_or_not_at_all, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_begin_with_the_flush, setup, teardown),
        cmocka_unit_test_setup_teardown(who_owns_it_hears_what_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(many_small_stores, setup, teardown),
        cmocka_unit_test_setup_teardown(budget_refuses_and_nothing_happens, setup, teardown),
        cmocka_unit_test_setup_teardown(large_messages, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
