/* disk_suite.c - see disk_suite.h. */
#include "disk_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BLOCK RB_DISK_ALIGN
#define MANY 64

static uint32_t poll_once(struct disk_suite *s, struct rb_disk_op ***ret_ops)
{
    if (s->pass != NULL) {
        s->pass(s->ctx);
    }
    return rb_disk_poll(s->disk, 1000000000, ret_ops);
}

enum rb_err disk_suite_wait(struct disk_suite *s, struct rb_disk_op *op)
{
    struct rb_disk_op **ops;
    for (int i = 0; i < 1000 && op->in_flight; i++) {
        uint32_t count = poll_once(s, &ops);
        for (uint32_t n = 0; n < count; n++) {
            assert_ptr_equal(ops[n], op); /* nothing else was started */
        }
    }
    assert_false(op->in_flight);
    return op->err;
}

static struct rb_disk_file *open_file(struct disk_suite *s, const char *name, uint32_t flags)
{
    struct rb_disk_op op = { 0 };
    assert_int_equal(rb_disk_open(s->disk, &op, name, flags), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_non_null(op.file);
    return op.file;
}

static void check_names(struct disk_suite *s)
{
    struct rb_disk_op op = { 0 };
    char names[256];
    assert_int_equal(rb_disk_make_directory(s->disk, &op, "dir"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_make_directory(s->disk, &op, "dir"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_make_directory(s->disk, &op, "nowhere/dir"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_ERR_MISSING);
    assert_int_equal(rb_disk_open(s->disk, &op, "dir/none", RB_DISK_DURABLE), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_ERR_MISSING);
    rb_disk_close(s->disk, open_file(s, "dir/b", RB_DISK_CREATE));
    rb_disk_close(s->disk, open_file(s, "dir/a", RB_DISK_CREATE | RB_DISK_DURABLE));
    rb_disk_close(s->disk, open_file(s, "dir/d", RB_DISK_CREATE));
    assert_int_equal(rb_disk_rename(s->disk, &op, "dir/d", "dir/c"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_rename(s->disk, &op, "dir/d", "dir/c"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_ERR_MISSING);
    assert_int_equal(rb_disk_list(s->disk, &op, "dir", names, sizeof(names)), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(op.size, 6);
    assert_memory_equal(names, "a\0b\0c", 6);
    assert_int_equal(rb_disk_list(s->disk, &op, "dir", names, 5), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_ERR_FULL);
    assert_int_equal(rb_disk_list(s->disk, &op, "none", names, sizeof(names)), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_ERR_MISSING);
    assert_int_equal(rb_disk_remove(s->disk, &op, "dir/c"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_remove(s->disk, &op, "dir/c"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_ERR_MISSING);
    assert_int_equal(rb_disk_sync_directory(s->disk, &op, "dir"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_sync_directory(s->disk, &op, "."), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_remove_directory(s->disk, &op, "dir"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_ERR_IO);
    assert_int_equal(rb_disk_remove(s->disk, &op, "dir"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_ERR_IO);
    assert_int_equal(rb_disk_remove(s->disk, &op, "dir/a"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_remove_directory(s->disk, &op, "dir/b"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_ERR_IO);
    assert_int_equal(rb_disk_remove(s->disk, &op, "dir/b"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_remove_directory(s->disk, &op, "dir"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_remove_directory(s->disk, &op, "dir"), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_ERR_MISSING);
    assert_int_equal(rb_disk_space(s->disk, &op), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_true(op.size > 0);
}

static void check_bytes(struct disk_suite *s, bool durable)
{
    struct rb_disk_op op = { 0 };
    struct rb_disk_file *file = open_file(s, durable ? "durable" : "lazy",
                                          RB_DISK_CREATE | (durable ? RB_DISK_DURABLE : 0));
    uint8_t *bytes = rb_disk_alloc(s->disk, 4 * BLOCK);
    uint8_t *found = rb_disk_alloc(s->disk, 4 * BLOCK);
    for (size_t i = 0; i < 4 * BLOCK; i++) {
        assert_int_equal(found[i], 0);
        bytes[i] = (uint8_t)(i * 7 + i / BLOCK);
    }
    assert_int_equal(rb_disk_write(s->disk, &op, file, BLOCK, bytes, 3 * BLOCK), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_sync(s->disk, &op, file), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_read(s->disk, &op, file, 2 * BLOCK, found, 4 * BLOCK), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(op.size, 2 * BLOCK); /* the file ends */
    assert_memory_equal(found, bytes + BLOCK, 2 * BLOCK);
    assert_int_equal(rb_disk_read(s->disk, &op, file, 0, found, BLOCK), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(op.size, BLOCK); /* a hole reads as zeroes */
    assert_int_equal(found[0] | found[BLOCK - 1], 0);
    assert_int_equal(rb_disk_read(s->disk, &op, file, 8 * BLOCK, found, BLOCK), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(op.size, 0);
    rb_disk_close(s->disk, file);
    assert_int_equal(rb_disk_open(s->disk, &op, durable ? "durable" : "lazy", 0), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(op.size, 4 * BLOCK);
    rb_disk_close(s->disk, op.file);
    rb_disk_free(s->disk, bytes, 4 * BLOCK);
    rb_disk_free(s->disk, found, 4 * BLOCK);
}

static void check_preallocate(struct disk_suite *s)
{
    struct rb_disk_op op = { 0 };
    struct rb_disk_file *file = open_file(s, "whole", RB_DISK_CREATE | RB_DISK_DURABLE);
    uint8_t *bytes = rb_disk_alloc(s->disk, BLOCK);
    memset(bytes, 1, BLOCK);
    assert_int_equal(rb_disk_write(s->disk, &op, file, 0, bytes, BLOCK), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_preallocate(s->disk, &op, file, 64 * BLOCK), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(rb_disk_read(s->disk, &op, file, 0, bytes, BLOCK), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(bytes[0], 0);
    rb_disk_close(s->disk, file);
    assert_int_equal(rb_disk_open(s->disk, &op, "whole", RB_DISK_DURABLE), RB_OK);
    assert_int_equal(disk_suite_wait(s, &op), RB_OK);
    assert_int_equal(op.size, 64 * BLOCK);
    rb_disk_close(s->disk, op.file);
    rb_disk_free(s->disk, bytes, BLOCK);
}

/* Many at once: each completes exactly once, and nothing is mixed up. */
static void check_many(struct disk_suite *s)
{
    struct rb_disk_op *ops = calloc(MANY, sizeof(*ops));
    struct rb_disk_file *file = open_file(s, "many", RB_DISK_CREATE | RB_DISK_DURABLE);
    uint8_t *bytes = rb_disk_alloc(s->disk, MANY * BLOCK);
    uint32_t done = 0;
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < MANY; i++) {
            uint8_t *block = bytes + (size_t)i * BLOCK;
            ops[i].tag = i;
            if (round == 0) {
                memset(block, (int)i + 1, BLOCK);
                assert_int_equal(
                    rb_disk_write(s->disk, &ops[i], file, (uint64_t)i * BLOCK, block, BLOCK),
                    RB_OK);
            } else {
                memset(block, 0, BLOCK);
                assert_int_equal(
                    rb_disk_read(s->disk, &ops[i], file, (uint64_t)i * BLOCK, block, BLOCK), RB_OK);
            }
        }
        bool seen[MANY] = { false };
        struct rb_disk_op **given;
        for (done = 0; done < MANY;) {
            uint32_t count = poll_once(s, &given);
            for (uint32_t i = 0; i < count; i++) {
                assert_int_equal(given[i]->err, RB_OK);
                assert_false(given[i]->in_flight);
                assert_false(seen[given[i]->tag]);
                seen[given[i]->tag] = true;
            }
            done += count;
        }
    }
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(bytes[(size_t)i * BLOCK + 99], (uint8_t)(i + 1));
    }
    rb_disk_close(s->disk, file);
    rb_disk_free(s->disk, bytes, MANY * BLOCK);
    free(ops);
}

void disk_suite_run(struct disk_suite *s)
{
    check_names(s);
    check_bytes(s, true);
    check_bytes(s, false);
    check_preallocate(s);
    check_many(s);
}
