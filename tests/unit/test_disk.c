/* test_disk.c - the three disks keep disk.h's promises; the log works over the real ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk_suite.h"
#include "log_rig.h"
#include "ringbus/ring.h"
#include "storage/disk/choose.h"
#include "storage/disk/posix.h"
#include "storage/disk/uring.h"

static void make_path(char out[64])
{
    strcpy(out, "test-disk-XXXXXX"); /* in the build folder: a real disk rather than /tmp */
    assert_non_null(mkdtemp(out));
}

static void remove_path(const char *path)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

static struct rb_ring *make_ring(void)
{
    struct rb_ring *ring = NULL;
    struct rb_ring_options options = { .entries = 64 };
    char why[128];
    if (rb_ring_create(&options, &ring, why) != RB_OK) {
        print_message("skipped: %s\n", why);
        skip();
    }
    return ring;
}

static struct rb_disk *make_uring(const char *path, struct rb_ring *ring, uint32_t op_max)
{
    struct rb_disk *disk = NULL;
    struct rb_uring_disk_options options = { .path = path, .ring = ring, .op_max = op_max };
    char why[128];
    enum rb_err err = rb_uring_disk_create(&options, &disk, why);
    if (err == RB_ERR_UNSUPPORTED) {
        print_message("skipped: %s\n", why);
        rb_ring_destroy(ring);
        remove_path(path);
        skip();
    }
    assert_int_equal(err, RB_OK);
    return disk;
}

static struct rb_disk *make_posix(const char *path, uint32_t op_max)
{
    struct rb_disk *disk = NULL;
    struct rb_posix_disk_options options = { .path = path, .op_max = op_max };
    char why[128];
    assert_int_equal(rb_posix_disk_create(&options, &disk, why), RB_OK);
    return disk;
}

static void pass_time(void *ctx)
{
    ((struct rig *)ctx)->now_ns += 100000;
}

static void sim_keeps_the_contract(void **state)
{
    struct rig rig;
    rig_init_sim(&rig, 3);
    struct disk_suite suite = { rig.disk, pass_time, &rig };
    disk_suite_run(&suite);
    assert_int_equal(rb_sim_disk_open_count(rig.disk), 0);
    rig_deinit(&rig);
}

static void posix_keeps_the_contract(void **state)
{
    char path[64];
    make_path(path);
    struct disk_suite suite = { .disk = make_posix(path, 0) };
    disk_suite_run(&suite);
    rb_disk_destroy(suite.disk);
    remove_path(path);
}

static void uring_keeps_the_contract(void **state)
{
    char path[64];
    struct rb_ring *ring = make_ring();
    make_path(path);
    struct disk_suite suite = { .disk = make_uring(path, ring, 0) };
    disk_suite_run(&suite);
    rb_disk_destroy(suite.disk);
    rb_ring_destroy(ring);
    remove_path(path);
}

/* op_max is a bound, and what was refused leaves no trace. */
static void check_bound(struct rb_disk *disk)
{
    struct disk_suite suite = { .disk = disk };
    struct rb_disk_op ops[3];
    memset(ops, 0, sizeof(ops));
    assert_int_equal(rb_disk_space(disk, &ops[0]), RB_OK);
    assert_int_equal(rb_disk_space(disk, &ops[1]), RB_OK);
    assert_int_equal(rb_disk_space(disk, &ops[2]), RB_ERR_FULL);
    assert_false(ops[2].in_flight);
    struct rb_disk_op **given;
    uint32_t count = 0;
    while (count < 2) {
        count += rb_disk_poll(disk, -1, &given);
    }
    assert_int_equal(count, 2);
    assert_int_equal(rb_disk_space(disk, &ops[2]), RB_OK);
    assert_int_equal(disk_suite_wait(&suite, &ops[2]), RB_OK);
}

static void operations_are_bounded(void **state)
{
    char path[64];
    make_path(path);
    struct rb_disk *disk = make_posix(path, 2);
    check_bound(disk);
    rb_disk_destroy(disk);
    struct rb_ring *ring = make_ring();
    disk = make_uring(path, ring, 2);
    check_bound(disk);
    rb_disk_destroy(disk);
    rb_ring_destroy(ring);
    remove_path(path);
}

static void destroy_waits_for_what_is_in_flight(void **state)
{
    char path[64];
    make_path(path);
    struct rb_ring *ring = make_ring();
    struct rb_disk *disk = make_uring(path, ring, 0);
    struct disk_suite suite = { .disk = disk };
    struct rb_disk_op op = { 0 };
    struct rb_disk_op write = { 0 };
    assert_int_equal(rb_disk_open(disk, &op, "x", RB_DISK_CREATE | RB_DISK_DURABLE), RB_OK);
    assert_int_equal(disk_suite_wait(&suite, &op), RB_OK);
    uint8_t *bytes = rb_disk_alloc(disk, 65536);
    assert_int_equal(rb_disk_write(disk, &write, op.file, 0, bytes, 65536), RB_OK);
    struct rb_disk_op list = { 0 };
    char names[128];
    assert_int_equal(rb_disk_list(disk, &list, ".", names, sizeof(names)), RB_OK);
    rb_disk_destroy(
        disk); /* the registered memory outlives it: freed here, after the kernel is done with it */
    free(bytes);
    rb_ring_destroy(ring);
    remove_path(path);
}

static void a_disk_is_chosen(void **state)
{
    char path[64];
    char why[128];
    make_path(path);
    struct rb_disk *disk = NULL;
    struct rb_disk_options options = { .path = path };
    assert_int_equal(rb_disk_choose(&options, &disk, why), RB_OK);
    assert_string_equal(disk->ops->name, "posix");
    assert_string_equal(why, "there is no io_uring");
    rb_disk_destroy(disk);
    options.path = "/proc/nowhere/disk";
    assert_int_not_equal(rb_disk_choose(&options, &disk, why), RB_OK);
    assert_true(strlen(why) > 0);
    options.ring = make_ring();
    assert_int_not_equal(rb_disk_choose(&options, &disk, why), RB_OK);
    options.path = path;
    assert_int_equal(rb_disk_choose(&options, &disk, why), RB_OK);
    assert_true(strcmp(disk->ops->name, "uring") == 0 ? why[0] == '\0' : strlen(why) > 0);
    rb_disk_destroy(disk);
    rb_ring_destroy(options.ring);
    remove_path(path);
}

/* Writes, closes, opens again, reads. */
static void check_log(struct rb_disk *disk)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    struct rb_wal_write *writes = calloc(300, sizeof(*writes));
    uint8_t body[3000];
    uint8_t found[3000];
    size_t len = 0;
    rig_init_disk(rig, disk);
    assert_int_equal(rig_open(rig), RB_OK);
    for (uint32_t i = 0; i < 300; i++) {
        memset(body, (int)i, sizeof(body));
        while (rb_wal_append(rig->log, &writes[i], 1, 1, i + 1, 0, rb_slice_of(body, i * 10)) ==
               RB_ERR_FULL) {
            rig_turn(rig);
        }
        assert_true(writes[i].in_flight);
    }
    rig_settle(rig);
    assert_int_equal(rig->written_count, 300);
    rig_close(rig);
    assert_int_equal(rig_open(rig), RB_OK);
    assert_int_equal(rig->damage_count, 0);
    for (uint32_t i = 0; i < 300; i += 13) {
        assert_int_equal(rig_read(rig, RB_WAL_ENTRY, 1, 0, i + 1, found, sizeof(found), &len, NULL),
                         RB_OK);
        assert_int_equal(len, i * 10);
        memset(body, (int)i, sizeof(body));
        assert_memory_equal(found, body, len);
    }
    rig_close(rig);
    free(writes);
    free(rig);
}

static void the_log_works_over_posix(void **state)
{
    char path[64];
    make_path(path);
    struct rb_disk *disk = make_posix(path, 0);
    check_log(disk);
    rb_disk_destroy(disk);
    remove_path(path);
}

static void the_log_works_over_uring(void **state)
{
    char path[64];
    struct rb_ring *ring = make_ring();
    make_path(path);
    struct rb_disk *disk = make_uring(path, ring, 0);
    check_log(disk);
    rb_disk_destroy(disk);
    rb_ring_destroy(ring);
    remove_path(path);
}

/* What a power cut may take, and what it may not. */
static void a_power_cut_keeps_what_was_promised(void **state)
{
    uint32_t lazy_lost = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct rig rig;
        struct rb_disk_op op = { 0 };
        rig_init_sim(&rig, seed);
        struct disk_suite suite = { rig.disk, pass_time, &rig };
        uint8_t *bytes = rb_disk_alloc(rig.disk, RB_DISK_ALIGN);
        memset(bytes, 0x55, RB_DISK_ALIGN);
        const char *names[] = { "durable", "lazy" };
        for (uint32_t i = 0; i < 2; i++) {
            assert_int_equal(rb_disk_open(rig.disk, &op, names[i],
                                          RB_DISK_CREATE | (i == 0 ? RB_DISK_DURABLE : 0)),
                             RB_OK);
            assert_int_equal(disk_suite_wait(&suite, &op), RB_OK);
            struct rb_disk_file *file = op.file;
            assert_int_equal(rb_disk_sync_directory(rig.disk, &op, "."), RB_OK);
            assert_int_equal(disk_suite_wait(&suite, &op), RB_OK);
            assert_int_equal(rb_disk_write(rig.disk, &op, file, 0, bytes, RB_DISK_ALIGN), RB_OK);
            assert_int_equal(disk_suite_wait(&suite, &op), RB_OK);
        }
        rb_sim_disk_cut(rig.disk);
        uint64_t size = 0;
        uint8_t *kept = rb_sim_disk_bytes(rig.disk, "durable", &size);
        assert_int_equal(size, RB_DISK_ALIGN);
        assert_memory_equal(kept, bytes, RB_DISK_ALIGN);
        kept = rb_sim_disk_bytes(rig.disk, "lazy", &size);
        lazy_lost += size < RB_DISK_ALIGN || memcmp(kept, bytes, RB_DISK_ALIGN) != 0;
        rb_disk_free(rig.disk, bytes, RB_DISK_ALIGN);
        rig_deinit(&rig);
    }
    assert_true(lazy_lost > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_keeps_the_contract),
        cmocka_unit_test(posix_keeps_the_contract),
        cmocka_unit_test(uring_keeps_the_contract),
        cmocka_unit_test(operations_are_bounded),
        cmocka_unit_test(destroy_waits_for_what_is_in_flight),
        cmocka_unit_test(a_disk_is_chosen),
        cmocka_unit_test(the_log_works_over_posix),
        cmocka_unit_test(the_log_works_over_uring),
        cmocka_unit_test(a_power_cut_keeps_what_was_promised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
