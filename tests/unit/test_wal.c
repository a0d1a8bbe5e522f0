/* test_wal.c - the log over the simulated disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#include "log_rig.h"

#define WRITES 4096

struct fixture {
    struct rig rig;
    struct rb_wal_write writes[WRITES];
    uint32_t write_count;
    uint8_t body[20000], found[20000];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    rig_init_sim(&f->rig, 7);
    assert_int_equal(rig_open(&f->rig), RB_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->rig.log != NULL) {
        rig_close(&f->rig);
    }
    assert_int_equal(rb_sim_disk_open_count(f->rig.disk), 0);
    rig_deinit(&f->rig);
    free(f);
    return 0;
}

static struct rb_wal_write *next_write(struct fixture *f)
{
    assert_true(f->write_count < WRITES);
    return &f->writes[f->write_count++];
}

/* A body that says what it is, `len` bytes long. */
static struct rb_slice body_of(struct fixture *f, uint64_t group, uint64_t index, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        f->body[i] = (uint8_t)(group * 31 + index * 7 + i);
    }
    return rb_slice_of(f->body, len);
}

static enum rb_err append(struct fixture *f, uint64_t group, uint64_t term, uint64_t index,
                          size_t len)
{
    return rb_wal_append(f->rig.log, next_write(f), group, term, index, 3,
                         body_of(f, group, index, len));
}

static void append_some(struct fixture *f, uint64_t group, uint64_t from, uint64_t to, size_t len)
{
    for (uint64_t i = from; i <= to; i++) {
        enum rb_err err;
        while ((err = append(f, group, 1, i, len)) == RB_ERR_FULL) {
            f->write_count--;
            assert_true(rig_turn(&f->rig));
        }
        assert_int_equal(err, RB_OK);
    }
    rig_settle(&f->rig);
}

static void expect_entry(struct fixture *f, uint64_t group, uint64_t index, size_t len)
{
    size_t got = 0;
    assert_int_equal(
        rig_read(&f->rig, RB_WAL_ENTRY, group, 0, index, f->found, sizeof(f->found), &got, NULL),
        RB_OK);
    assert_int_equal(got, len);
    assert_memory_equal(f->found, body_of(f, group, index, len).ptr, len);
}

static void expect_gone(struct fixture *f, uint64_t group, uint64_t index)
{
    size_t got = 0;
    assert_int_equal(
        rig_read(&f->rig, RB_WAL_ENTRY, group, 0, index, f->found, sizeof(f->found), &got, NULL),
        RB_ERR_MISSING);
}

static struct rb_wal_group_info info_of(struct fixture *f, uint64_t group)
{
    struct rb_wal_group_info info;
    assert_true(rb_wal_group(f->rig.log, group, &info));
    return info;
}

static struct rb_wal_stats stats_of(struct fixture *f)
{
    struct rb_wal_stats stats;
    rb_wal_stats(f->rig.log, &stats);
    return stats;
}

static void reopen(struct fixture *f)
{
    rig_close(&f->rig);
    assert_int_equal(rig_open(&f->rig), RB_OK);
}

static void entries_are_read_back(void **state)
{
    struct fixture *f = *state;
    append_some(f, 1, 1, 20, 128);
    append_some(f, 2, 1, 3, 0);
    append_some(f, 1, 21, 25, 9000);
    assert_int_equal(f->rig.written_count, 28);
    for (int round = 0; round < 2; round++) {
        expect_entry(f, 1, 1, 128);
        expect_entry(f, 1, 20, 128);
        expect_entry(f, 1, 25, 9000);
        expect_entry(f, 2, 3, 0);
        expect_gone(f, 1, 26);
        expect_gone(f, 3, 1);
        reopen(f);
    }
}

static void several_entries_come_with_one_read(void **state)
{
    struct fixture *f = *state;
    struct rb_wal_record records[16];
    append_some(f, 1, 1, 20, 100);
    struct rb_wal_read read = { .len = 16384, .records = records, .record_max = 16 };
    read.bytes = rb_disk_alloc(f->rig.disk, read.len);
    assert_int_equal(rb_wal_read_entries(f->rig.log, &read, 1, 3), RB_OK);
    while (read.in_flight) {
        rig_turn(&f->rig);
    }
    assert_int_equal(read.err, RB_OK);
    assert_int_equal(read.record_count, 16);
    for (uint32_t i = 0; i < 16; i++) {
        assert_int_equal(records[i].index, 3 + i);
        assert_int_equal(records[i].type, 3);
        assert_memory_equal(records[i].body.ptr, body_of(f, 1, 3 + i, 100).ptr, 100);
    }
    rb_disk_free(f->rig.disk, read.bytes, read.len);
}

/* A long buffer is no reason to read what the caller has no room to be told about. */
static void a_read_fetches_what_it_can_give(void **state)
{
    struct fixture *f = *state;
    struct rb_wal_record records[3];
    append_some(f, 1, 1, 200, 100);
    struct rb_wal_read read = { .len = 64 * RB_DISK_ALIGN, .records = records, .record_max = 3 };
    read.bytes = rb_disk_alloc(f->rig.disk, read.len);
    for (uint64_t index = 1; index <= 200; index += 3) {
        assert_int_equal(rb_wal_read_entries(f->rig.log, &read, 1, index), RB_OK);
        assert_in_range(read.op.len, RB_DISK_ALIGN, 3 * RB_DISK_ALIGN);
        while (read.in_flight) {
            rig_turn(&f->rig);
        }
        assert_int_equal(read.err, RB_OK);
        assert_int_equal(read.record_count, index == 199 ? 2 : 3);
        for (uint32_t i = 0; i < read.record_count; i++) {
            assert_int_equal(records[i].index, index + i);
        }
    }
    rb_disk_free(f->rig.disk, read.bytes, read.len);
}

static void wrong_calls_are_refused(void **state)
{
    struct fixture *f = *state;
    struct rb_wal *log = f->rig.log;
    struct rb_wal_write write = { 0 };
    append_some(f, 1, 1, 5, 10);
    assert_int_equal(append(f, 1, 1, 5, 10), RB_ERR_INVALID);
    assert_int_equal(append(f, 1, 1, 7, 10), RB_ERR_INVALID);
    assert_int_equal(append(f, 9, 1, 2, 10), RB_ERR_INVALID);
    assert_int_equal(append(f, 1, 1, 6, 16384 - 128 - 40 + 1), RB_ERR_INVALID);
    assert_int_equal(rb_wal_truncate(log, &write, 1, 6), RB_ERR_INVALID);
    assert_int_equal(rb_wal_truncate(log, &write, 1, 0), RB_ERR_INVALID);
    assert_int_equal(rb_wal_drop_prefix(log, &write, 1, 0, 1), RB_ERR_INVALID);
    assert_int_equal(rb_wal_drop_group(log, &write, 2), RB_ERR_MISSING);
    assert_int_equal(rb_wal_remove_state(log, &write, 1, 1, 1), RB_ERR_MISSING);
    assert_false(write.in_flight);
    assert_int_equal(append(f, 1, 1, 6, 16384 - 128 - 40), RB_OK);
    rig_settle(&f->rig);
    expect_entry(f, 1, 6, 16384 - 128 - 40);
}

static void what_was_cut_does_not_come_back(void **state)
{
    struct fixture *f = *state;
    append_some(f, 1, 1, 10, 50);
    append_some(f, 2, 1, 10, 50);
    append_some(f, 3, 1, 10, 50);
    assert_int_equal(rb_wal_truncate(f->rig.log, next_write(f), 1, 6), RB_OK);
    assert_int_equal(rb_wal_drop_prefix(f->rig.log, next_write(f), 2, 4, 1), RB_OK);
    assert_int_equal(rb_wal_drop_group(f->rig.log, next_write(f), 3), RB_OK);
    rig_settle(&f->rig);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(info_of(f, 1).last, 5);
        expect_gone(f, 1, 6);
        expect_entry(f, 1, 5, 50);
        assert_int_equal(info_of(f, 2).base, 4);
        assert_int_equal(info_of(f, 2).base_term, 1);
        expect_gone(f, 2, 4);
        expect_entry(f, 2, 5, 50);
        struct rb_wal_group_info info;
        assert_false(rb_wal_group(f->rig.log, 3, &info));
        reopen(f);
    }
    append_some(f, 1, 6, 6, 70);
    append_some(f, 3, 1, 1, 70);
    reopen(f);
    expect_entry(f, 1, 6, 70);
    expect_entry(f, 3, 1, 70);
    assert_int_equal(info_of(f, 3).last, 1);
    assert_int_equal(f->rig.damage_count, 0);
}

static void terms_are_known_without_reading(void **state)
{
    struct fixture *f = *state;
    uint64_t term = 0;
    for (uint64_t i = 1; i <= 30; i++) {
        assert_int_equal(append(f, 1, i / 10 + 1, i, 8), RB_OK);
    }
    assert_int_equal(rb_wal_drop_prefix(f->rig.log, next_write(f), 1, 12, 2), RB_OK);
    rig_settle(&f->rig);
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 12; i <= 30; i++) {
            assert_int_equal(rb_wal_term(f->rig.log, 1, i, &term), RB_OK);
            assert_int_equal(term, i / 10 + 1);
        }
        assert_int_equal(rb_wal_term(f->rig.log, 1, 11, &term), RB_ERR_MISSING);
        assert_int_equal(rb_wal_term(f->rig.log, 1, 31, &term), RB_ERR_MISSING);
        reopen(f);
    }
    assert_int_equal(rb_wal_drop_prefix(f->rig.log, next_write(f), 1, 100, 9), RB_OK);
    assert_int_equal(append(f, 1, 9, 101, 8), RB_OK);
    rig_settle(&f->rig);
    reopen(f);
    assert_int_equal(info_of(f, 1).base_term, 9);
    assert_int_equal(info_of(f, 1).last, 101);
}

static void the_newest_state_counts(void **state)
{
    struct fixture *f = *state;
    size_t len = 0;
    for (uint64_t round = 1; round <= 3; round++) {
        for (uint64_t key = 0; key < 10; key++) {
            assert_int_equal(
                rb_wal_put_state(f->rig.log, next_write(f), 5, 2, key, body_of(f, key, round, 30)),
                RB_OK);
        }
    }
    assert_int_equal(rb_wal_remove_state(f->rig.log, next_write(f), 5, 2, 9), RB_OK);
    rig_settle(&f->rig);
    for (int round = 0; round < 2; round++) {
        struct rb_wal_state_at at = { 0 };
        uint32_t count = 0;
        while (rb_wal_state_next(f->rig.log, 5, &at)) {
            assert_int_equal(at.type, 2);
            assert_int_equal(at.body_bytes, 32);
            assert_int_equal(rig_read(&f->rig, RB_WAL_STATE, 5, 2, at.key, f->found,
                                      sizeof(f->found), &len, NULL),
                             RB_OK);
            assert_memory_equal(f->found, body_of(f, at.key, 3, 30).ptr, 30);
            count++;
        }
        assert_int_equal(count, 9);
        assert_int_equal(info_of(f, 5).state_count, 9);
        reopen(f);
    }
}

static void no_acknowledgement_before_the_write(void **state)
{
    struct fixture *f = *state;
    rb_sim_disk_hold(f->rig.disk, true);
    uint32_t accepted = 0;
    for (uint64_t i = 1; i <= 2000; i++) {
        enum rb_err err = append(f, 1, 1, i, 128);
        if (err == RB_ERR_FULL) {
            break;
        }
        assert_int_equal(err, RB_OK);
        accepted++;
        rig_turn(&f->rig);
    }
    for (int i = 0; i < 1000; i++) {
        f->rig.now_ns += 1000000;
        rig_turn(&f->rig);
    }
    assert_true(accepted > 90);
    assert_int_equal(f->rig.written_count + f->rig.failed_count, 0);
    assert_int_equal(stats_of(f).waiting, accepted);
    assert_true(stats_of(f).oldest_write_ns > 0);
    size_t len = 0;
    assert_int_equal(
        rig_read(&f->rig, RB_WAL_ENTRY, 1, 0, 1, f->found, sizeof(f->found), &len, NULL),
        RB_ERR_BUSY);
    rb_sim_disk_hold(f->rig.disk, false);
    rig_settle(&f->rig);
    assert_int_equal(f->rig.written_count, accepted);
}

static uint32_t order_next;

static void in_order(struct rig *rig, struct rb_wal_write *write, enum rb_err err)
{
    assert_int_equal(write->tag, order_next);
    order_next++;
}

static void acknowledgements_come_in_order(void **state)
{
    struct fixture *f = *state;
    order_next = 0;
    f->rig.on_written = in_order;
    uint64_t index[4] = { 0 };
    for (uint32_t i = 0; i < 1000; i++) {
        struct rb_wal_write *write = next_write(f);
        write->tag = i;
        uint64_t group = i % 3 + 1;
        while (rb_wal_append(f->rig.log, write, group, 1, index[group] + 1, 0, RB_S("x")) !=
               RB_OK) {
            rig_turn(&f->rig);
        }
        index[group]++;
        if (i % 5 == 0) {
            rig_turn(&f->rig);
        }
    }
    rig_settle(&f->rig);
    assert_int_equal(order_next, 1000);
}

static void a_failed_write_stops_the_log(void **state)
{
    struct fixture *f = *state;
    append_some(f, 1, 1, 5, 64);
    rb_sim_disk_fail_next(f->rig.disk, RB_DISK_WRITE, RB_ERR_IO);
    assert_int_equal(append(f, 1, 1, 6, 64), RB_OK);
    assert_int_equal(append(f, 1, 1, 7, 64), RB_OK);
    rig_settle(&f->rig);
    assert_true(f->rig.stopped);
    assert_int_equal(f->rig.stopped_err, RB_ERR_IO);
    assert_int_equal(f->rig.written_count, 5);
    assert_int_equal(f->rig.failed_count, 2);
    assert_int_equal(append(f, 1, 1, 8, 64), RB_ERR_IO);
    expect_entry(f, 1, 5, 64);
    size_t len = 0;
    assert_int_equal(
        rig_read(&f->rig, RB_WAL_ENTRY, 1, 0, 6, f->found, sizeof(f->found), &len, NULL),
        RB_ERR_IO);
    reopen(f);
    expect_entry(f, 1, 5, 64);
    assert_false(f->rig.stopped);
}

/* Files go round: the space of what is dropped is used again, and states move on. */
static void files_are_reused(void **state)
{
    struct fixture *f = *state;
    size_t len = 0;
    assert_int_equal(rb_wal_put_state(f->rig.log, next_write(f), 7, 1, 42, RB_S("vote")), RB_OK);
    assert_int_equal(rb_wal_drop_prefix(f->rig.log, next_write(f), 8, 99, 4), RB_OK);
    rig_settle(&f->rig);
    for (uint64_t i = 1; i <= 1500; i++) {
        f->write_count = 0;
        append_some(f, 1, i, i, 3000);
        if (i % 10 == 0) {
            assert_int_equal(rb_wal_drop_prefix(f->rig.log, next_write(f), 1, i - 5, 1), RB_OK);
            rig_settle(&f->rig);
        }
        if (i % 400 == 0) {
            reopen(f);
        }
    }
    assert_true(stats_of(f).recycled > 10);
    assert_true(stats_of(f).carried > 5);
    assert_true(stats_of(f).file_count <= 8);
    assert_int_equal(
        rig_read(&f->rig, RB_WAL_STATE, 7, 1, 42, f->found, sizeof(f->found), &len, NULL), RB_OK);
    assert_memory_equal(f->found, "vote", 4);
    reopen(f);
    assert_int_equal(info_of(f, 8).base, 99);
    assert_int_equal(info_of(f, 8).base_term, 4);
    assert_int_equal(info_of(f, 1).base, 1495);
    assert_int_equal(info_of(f, 1).last, 1500);
    expect_entry(f, 1, 1496, 3000);
    assert_int_equal(f->rig.damage_count, 0);
}

/* Appends from `i` on until there is no space; the next index. */
static uint64_t fill(struct fixture *f, uint64_t i)
{
    enum rb_err err = RB_OK;
    for (int turn = 0; turn < 1000 && err != RB_ERR_SPACE; turn++) {
        f->write_count = 0;
        err = append(f, 1, 1, i, 4000);
        i += err == RB_OK;
        rig_settle(&f->rig);
        rig_turn(&f->rig);
    }
    assert_int_equal(err, RB_ERR_SPACE);
    return i;
}

static void a_full_log_refuses_entries_and_resumes(void **state)
{
    struct fixture *f = *state;
    uint64_t i = fill(f, 1);
    assert_true(i > 90);
    assert_true(stats_of(f).full);
    uint64_t group = 0;
    assert_int_equal(rb_wal_pinned_by(f->rig.log, &group, 1), 1);
    assert_int_equal(group, 1);
    expect_entry(f, 1, i - 1, 4000);
    reopen(f); /* also in this state */
    i = fill(f, i);
    f->rig.room = false;
    assert_int_equal(rb_wal_drop_prefix(f->rig.log, next_write(f), 1, i - 1, 1), RB_OK);
    rig_settle(&f->rig);
    assert_true(rig_until(&f->rig, &f->rig.room, 1000));
    append_some(f, 1, i, i + 10, 4000);
    expect_entry(f, 1, i + 10, 4000);
}

static void a_full_disk_refuses_entries_and_resumes(void **state)
{
    struct fixture *f = *state;
    struct rb_sim_disk_options disk = { .capacity_bytes = 5 * 65536 + 4096,
                                        .delay_min_ns = 10000,
                                        .delay_max_ns = 100000 };
    rb_sim_disk_set(f->rig.disk, &disk);
    uint64_t i = fill(f, 1);
    assert_int_equal(rb_wal_put_state(f->rig.log, next_write(f), 2, 1, 1, RB_S("acks")), RB_OK);
    rig_settle(&f->rig);
    assert_int_equal(f->rig.failed_count, 0);
    rig_cut(&f->rig, true);
    assert_int_equal(rig_open(&f->rig), RB_OK);
    expect_entry(f, 1, i - 1, 4000);
    i = fill(f, i);
    uint64_t urgent = 0; /* what may give space back is still taken: 16 KiB, each a block */
    while (urgent < 10000 &&
           rb_wal_append_urgent(f->rig.log, next_write(f), 1, 1, i, 1, RB_S("a delete")) == RB_OK) {
        f->write_count = 0;
        rig_settle(&f->rig);
        urgent++;
        i++;
    }
    assert_true(urgent >= 2 && urgent < 10000);
    assert_int_equal(rb_wal_put_state(f->rig.log, next_write(f), 2, 1, 1, RB_S("acks")), RB_OK);
    rig_settle(&f->rig);
    f->rig.room = false;
    disk.capacity_bytes = 0;
    rb_sim_disk_set(f->rig.disk, &disk);
    assert_true(rig_until(&f->rig, &f->rig.room, 1000));
    append_some(f, 1, i, i + 40, 4000);
    assert_false(f->rig.stopped);
}

/* The name of the file with the lowest serial. */
static const char *first_file(struct fixture *f)
{
    const char *name;
    for (uint32_t i = 0; (name = rb_sim_disk_name(f->rig.disk, i)) != NULL; i++) {
        if (strstr(name, ".wal") != NULL) {
            return name;
        }
    }
    fail();
    return NULL;
}

static void damage_in_the_middle_is_named(void **state)
{
    struct fixture *f = *state;
    size_t len = 0;
    for (uint64_t i = 1; i <= 8; i++) {
        append_some(f, i % 2 + 1, (i + 1) / 2, (i + 1) / 2, 100);
    }
    rig_close(&f->rig);
    /* the first batch only opens the log; the entries are in the blocks 1 to 8 */
    assert_true(rb_sim_disk_flip(f->rig.disk, first_file(f), 3 * 4096 + 200, 0x10));
    assert_int_equal(rig_open(&f->rig), RB_OK);
    assert_int_equal(f->rig.damage_count, 1);
    assert_int_equal(f->rig.damages[0].offset, 3 * 4096);
    assert_int_equal(f->rig.damages[0].batches, 1);
    assert_string_equal(f->rig.damages[0].file, "0000000000000001.wal");
    assert_non_null(rb_sim_disk_bytes(f->rig.disk, "wal/0000000000000001.wal.damaged", NULL));
    assert_int_equal(info_of(f, 2).last, 4);
    assert_int_equal(info_of(f, 2).lost_count, 1);
    assert_true(info_of(f, 2).damaged);
    assert_false(info_of(f, 1).damaged);
    assert_false(info_of(f, 1).in_doubt);
    assert_int_equal(
        rig_read(&f->rig, RB_WAL_ENTRY, 2, 0, 2, f->found, sizeof(f->found), &len, NULL),
        RB_ERR_CORRUPT);
    expect_entry(f, 2, 1, 100);
    expect_entry(f, 2, 3, 100);
    expect_entry(f, 1, 4, 100);
    reopen(f); /* named again as long as it is there */
    assert_int_equal(f->rig.damage_count, 1);
    assert_int_equal(rb_wal_drop_group(f->rig.log, next_write(f), 1), RB_OK);
    assert_int_equal(rb_wal_drop_group(f->rig.log, next_write(f), 2), RB_OK);
    append_some(f, 3, 1, 20, 3000);
    assert_null(rb_sim_disk_bytes(f->rig.disk, "wal/0000000000000001.wal.aside", NULL));
    rb_wal_damage_handled(f->rig.log);
    append_some(f, 3, 21, 100, 3000);
    assert_non_null(rb_sim_disk_bytes(f->rig.disk, "wal/0000000000000001.wal.aside", NULL));
}

static void a_damaged_header_loses_its_batch_only(void **state)
{
    struct fixture *f = *state;
    for (uint64_t i = 1; i <= 5; i++) {
        append_some(f, 1, i, i, 100);
    }
    rig_close(&f->rig);
    assert_true(rb_sim_disk_flip(f->rig.disk, first_file(f), 2 * 4096 + 50, 1));
    assert_int_equal(rig_open(&f->rig), RB_OK);
    assert_int_equal(f->rig.damage_count, 1);
    expect_entry(f, 1, 2, 100); /* the record itself is whole */
    expect_entry(f, 1, 5, 100);
    assert_int_equal(info_of(f, 1).lost_count, 0);
}

static void damage_found_by_a_read_is_named(void **state)
{
    struct fixture *f = *state;
    size_t len = 0;
    for (uint64_t i = 1; i <= 5; i++) {
        append_some(f, 1, i, i, 100);
    }
    assert_true(rb_sim_disk_flip(f->rig.disk, first_file(f), 3 * 4096 + 200, 0x10));
    assert_int_equal(
        rig_read(&f->rig, RB_WAL_ENTRY, 1, 0, 3, f->found, sizeof(f->found), &len, NULL),
        RB_ERR_CORRUPT);
    assert_int_equal(f->rig.damage_count, 1);
    assert_int_equal(f->rig.damages[0].offset, 3 * 4096 + 128);
    assert_int_equal(info_of(f, 1).lost_count, 1);
    expect_entry(f, 1, 4, 100);
    for (int i = 0; i < 10; i++) {
        rig_turn(&f->rig);
    }
    assert_non_null(rb_sim_disk_bytes(f->rig.disk, "wal/0000000000000001.wal.damaged", NULL));
}

static void a_missing_file_is_named(void **state)
{
    struct fixture *f = *state;
    append_some(f, 1, 1, 60, 3000);
    rig_close(&f->rig);
    assert_true(rb_sim_disk_unlink(f->rig.disk, "wal/0000000000000002.wal"));
    assert_int_equal(rig_open(&f->rig), RB_OK);
    assert_true(f->rig.damage_count >= 1);
    assert_true(info_of(f, 1).damaged);
    assert_true(info_of(f, 1).lost_count > 5);
    assert_int_equal(info_of(f, 1).last, 60);
    expect_entry(f, 1, 1, 3000);
    expect_entry(f, 1, 60, 3000);
}

static void a_later_version_is_refused(void **state)
{
    struct fixture *f = *state;
    append_some(f, 1, 1, 3, 100);
    rig_close(&f->rig);
    uint64_t size = 0;
    uint8_t *bytes = rb_sim_disk_bytes(f->rig.disk, first_file(f), &size);
    bytes[4] = 2;
    uint64_t checksum = XXH3_64bits_withSeed(bytes, 120, UINT64_C(0x52696E674275734C));
    memcpy(bytes + 120, &checksum, 8);
    assert_int_equal(rig_open(&f->rig), RB_ERR_UNSUPPORTED);
}

static void crashes_at_every_step_keep_what_was_acknowledged(void **state)
{
    for (uint32_t step = 0; step < 150; step++) {
        struct fixture *f = calloc(1, sizeof(*f));
        rig_init_sim(&f->rig, 1000 + step);
        rig_create(&f->rig);
        uint64_t appended = 0;
        for (uint32_t i = 0; i < step; i++) {
            rig_turn(&f->rig);
            if (f->rig.opened && append(f, 1, 1, appended + 1, 700) == RB_OK) {
                appended++;
            }
        }
        uint64_t acknowledged = f->rig.written_count;
        rig_cut(&f->rig, step % 2 == 0);
        assert_int_equal(rig_open(&f->rig), RB_OK);
        assert_int_equal(f->rig.damage_count, 0);
        struct rb_wal_group_info info = { 0 };
        (void)rb_wal_group(f->rig.log, 1, &info);
        assert_in_range(info.last, acknowledged, appended);
        for (uint64_t i = 1; i <= info.last; i++) {
            expect_entry(f, 1, i, 700);
        }
        rig_close(&f->rig);
        rig_deinit(&f->rig);
        free(f);
    }
}

static void options_are_checked(void **state)
{
    struct fixture *f = *state;
    struct rb_wal *log = NULL;
    struct rb_wal_options bad = f->rig.options;
    bad.file_bytes = 10000;
    assert_int_equal(rb_wal_create(&bad, &log), RB_ERR_INVALID);
    bad = f->rig.options;
    bad.batch_bytes = 4096;
    assert_int_equal(rb_wal_create(&bad, &log), RB_ERR_INVALID);
    bad = f->rig.options;
    bad.writes_max = 17;
    assert_int_equal(rb_wal_create(&bad, &log), RB_ERR_INVALID);
    bad = f->rig.options;
    bad.files_max = 3;
    assert_int_equal(rb_wal_create(&bad, &log), RB_ERR_INVALID);
}

static void memory_is_bounded(void **state)
{
    struct fixture *f = *state;
    uint64_t index = 1;
    enum rb_err err = RB_OK;
    f->rig.budget.limit_bytes = f->rig.budget.used_bytes + 4096;
    while (err == RB_OK || err == RB_ERR_FULL) {
        f->write_count = 0;
        err = append(f, 1, 1, index, 1);
        index += err == RB_OK;
        rig_turn(&f->rig);
        rig_settle(&f->rig);
    }
    assert_int_equal(err, RB_ERR_MEMORY);
    assert_true(index > 100);
    assert_int_equal(info_of(f, 1).last, index - 1);
    f->rig.budget.limit_bytes = 0;
    assert_int_equal(append(f, 1, 1, index, 1), RB_OK);
    rig_settle(&f->rig);
    expect_entry(f, 1, index, 1);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(entries_are_read_back),
        WITH(several_entries_come_with_one_read),
        WITH(a_read_fetches_what_it_can_give),
        WITH(wrong_calls_are_refused),
        WITH(what_was_cut_does_not_come_back),
        WITH(terms_are_known_without_reading),
        WITH(the_newest_state_counts),
        WITH(no_acknowledgement_before_the_write),
        WITH(acknowledgements_come_in_order),
        WITH(a_failed_write_stops_the_log),
        WITH(files_are_reused),
        WITH(a_full_log_refuses_entries_and_resumes),
        WITH(a_full_disk_refuses_entries_and_resumes),
        WITH(damage_in_the_middle_is_named),
        WITH(a_damaged_header_loses_its_batch_only),
        WITH(damage_found_by_a_read_is_named),
        WITH(a_missing_file_is_named),
        WITH(a_later_version_is_refused),
        WITH(options_are_checked),
        WITH(memory_is_bounded),
        cmocka_unit_test(crashes_at_every_step_keep_what_was_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
