/* Groups: nothing is applied before it is durable, order is kept when the log is full, what fails is told; and no memory is
 * allocated once the traffic has found its size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js/group.h"
#include "js/js.h"
#include "log_rig.h"

#define WAITERS 2000

struct waiter {
    struct rb_js_waiter waiter;
    struct fixture *fixture;
    uint32_t number;
};

struct fixture {
    struct rig rig;
    struct rb_js_pools pools;
    struct rb_list ready;
    struct rb_histogram commit_ns;
    struct rb_js_group group;
    struct waiter waiters[WAITERS];
    uint64_t applied[WAITERS]; /* seq of the commands, in order */
    uint32_t applied_count, done_count, failed_count;
    enum rb_err failure;
    uint32_t outcome;
};

static void apply(void *owner, const struct rb_command *command, uint64_t index,
                  const void **ret_outcome)
{
    struct fixture *f = owner;
    assert_int_equal(index, f->group.applied);
    f->applied[f->applied_count++] = command->seq;
    f->outcome = (uint32_t)command->seq;
    *ret_outcome = &f->outcome;
}

static void done(struct rb_js_waiter *waiter, enum rb_err err, const void *outcome)
{
    struct waiter *own = (struct waiter *)waiter;
    struct fixture *f = own->fixture;
    if (err == RB_OK) {
        assert_int_equal(*(const uint32_t *)outcome, own->number);
        f->done_count++;
    } else {
        assert_null(outcome);
        f->failed_count++;
        f->failure = err;
    }
}

static void written(struct rig *rig, struct rb_wal_write *write, enum rb_err err)
{
    if (write->tag == RB_JS_WRITE_ENTRY) {
        rb_js_group_written(write);
    }
}

static struct fixture *make(bool with_log, bool lazy)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    rig_init_sim(&f->rig, 3);
    f->rig.on_written = written;
    assert_int_equal(rig_open(&f->rig), RB_OK);
    rb_js_pools_init(&f->pools, &f->rig.budget);
    rb_list_init(&f->ready);
    struct rb_js_group_options options = { .log = with_log ? f->rig.log : NULL,
                                           .pools = &f->pools,
                                           .env = &f->rig.env,
                                           .ready = &f->ready,
                                           .commit_ns = &f->commit_ns,
                                           .lazy = lazy,
                                           .id = 9,
                                           .owner = f,
                                           .apply = apply };
    rb_js_group_init(&f->group, &options);
    return f;
}

static void end(struct fixture *f)
{
    rb_js_group_deinit(&f->group);
    rb_js_pools_deinit(&f->pools);
    rig_close(&f->rig);
    rig_deinit(&f->rig);
    free(f);
}

static enum rb_err propose(struct fixture *f, uint32_t number, struct rb_slice text)
{
    struct rb_command command = { .type = RB_COMMAND_DELETE, .seq = number, .text = text };
    struct waiter *waiter = &f->waiters[number];
    *waiter = (struct waiter){ .waiter = { done }, .fixture = f, .number = number };
    return rb_js_group_propose(&f->group, &command, &waiter->waiter);
}

static void turn_groups(struct fixture *f)
{
    for (struct rb_list *link; (link = rb_list_pop(&f->ready)) != NULL;) {
        rb_js_group_turn(RB_CONTAINER(link, struct rb_js_group, link));
        if (!rb_list_empty(&f->ready) && f->ready.next == link) {
            break; /* it waits for the log */
        }
    }
}

static void settle(struct fixture *f)
{
    for (int i = 0; i < 100000 && f->group.pending_count > 0; i++) {
        turn_groups(f);
        rig_turn(&f->rig);
    }
}

static void durable_first(void **state)
{
    struct fixture *f = make(true, false);
    rb_sim_disk_hold(f->rig.disk, true);
    for (uint32_t i = 1; i <= 100; i++) {
        assert_int_equal(propose(f, i, RB_S("x")), RB_OK);
    }
    for (int i = 0; i < 100; i++) {
        turn_groups(f);
        rig_turn(&f->rig);
    }
    assert_int_equal(f->applied_count, 0);
    assert_int_equal(f->done_count, 0);
    rb_sim_disk_hold(f->rig.disk, false);
    settle(f);
    assert_int_equal(f->done_count, 100);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(f->applied[i], i + 1);
    }
    assert_int_equal(rb_counter_get(&f->commit_ns.count), 100);
    end(f);
}

/* The log's queue is small: what it refuses for now goes out later, in order. */
static void full_log_keeps_order(void **state)
{
    struct fixture *f = make(true, false);
    static uint8_t body[6000];
    for (uint32_t i = 1; i < 200; i++) {
        assert_int_equal(propose(f, i, rb_slice_of(body, i % 7 == 0 ? sizeof(body) : 10)), RB_OK);
    }
    assert_non_null(f->group.unsent);
    settle(f);
    assert_int_equal(f->done_count, 199);
    for (uint32_t i = 0; i < 199; i++) {
        assert_int_equal(f->applied[i], i + 1);
    }
    end(f);
}

static void bounds(void **state)
{
    struct fixture *f = make(true, false);
    static uint8_t big[RB_WAL_BODY_MAX];
    f->group.options.pending_max = 3;
    assert_int_equal(propose(f, 1, rb_slice_of(big, sizeof(big))), RB_ERR_LIMIT);
    assert_int_equal(propose(f, 1, rb_slice_of(big, 1 << 20)), RB_ERR_LIMIT); /* small batches */
    for (uint32_t i = 1; i <= 3; i++) {
        assert_int_equal(propose(f, i, RB_S("x")), RB_OK);
    }
    assert_int_equal(propose(f, 4, RB_S("x")), RB_ERR_FULL);
    settle(f);
    assert_int_equal(f->done_count, 3);
    f->group.options.pending_bytes_max = 100;
    assert_int_equal(propose(f, 4, rb_slice_of(big, 90)), RB_OK);
    assert_int_equal(propose(f, 5, rb_slice_of(big, 90)), RB_ERR_FULL);
    settle(f);
    assert_int_equal(f->done_count, 4);
    assert_int_equal(f->failed_count, 0);
    end(f);
}

static void failing_log(void **state)
{
    struct fixture *f = make(true, false);
    assert_int_equal(propose(f, 1, RB_S("x")), RB_OK);
    settle(f);
    rb_sim_disk_fail_next(f->rig.disk, RB_DISK_WRITE, RB_ERR_IO);
    for (uint32_t i = 2; i <= 50; i++) {
        assert_int_equal(propose(f, i, RB_S("x")), RB_OK);
    }
    settle(f);
    assert_int_equal(f->done_count, 1);
    assert_int_equal(f->failed_count, 49);
    assert_int_equal(f->failure, RB_ERR_IO);
    assert_int_equal(f->applied_count, 1);
    assert_int_equal(propose(f, 60, RB_S("x")), RB_ERR_IO);
    end(f);
}

/* A group that ends applies nothing more, though its writes succeed. */
static void stopped(void **state)
{
    struct fixture *f = make(true, false);
    for (uint32_t i = 1; i <= 20; i++) {
        assert_int_equal(propose(f, i, RB_S("x")), RB_OK);
    }
    rb_js_group_stop(&f->group, RB_ERR_CANCELED);
    settle(f);
    assert_int_equal(f->applied_count, 0);
    assert_int_equal(f->failed_count, 20);
    assert_int_equal(f->failure, RB_ERR_CANCELED);
    end(f);
}

static void memory_commits_at_turn_end(void **state)
{
    struct fixture *f = make(false, false);
    assert_int_equal(propose(f, 1, RB_S("x")), RB_OK);
    assert_int_equal(propose(f, 2, RB_S("x")), RB_OK);
    assert_int_equal(f->applied_count, 0);
    turn_groups(f);
    assert_int_equal(f->done_count, 2);
    assert_int_equal(f->group.pending_count, 0);
    end(f);
}

static void lazy_commits_before_the_disk(void **state)
{
    struct fixture *f = make(true, true);
    rb_sim_disk_hold(f->rig.disk, true);
    assert_int_equal(propose(f, 1, RB_S("x")), RB_OK);
    assert_int_equal(propose(f, 2, RB_S("x")), RB_OK);
    assert_int_equal(f->applied_count, 0);
    turn_groups(f);
    assert_int_equal(f->done_count, 2);
    assert_int_equal(f->group.pending_count, 2); /* their writes are on the way */
    rb_sim_disk_hold(f->rig.disk, false);
    settle(f);
    assert_int_equal(f->group.pending_count, 0);
    assert_int_equal(f->done_count, 2);
    end(f);
}

static void nothing_is_allocated(void **state)
{
    struct fixture *f = make(true, false);
    uint64_t before = 0;
    for (uint32_t round = 0; round < 20; round++) {
        f->applied_count = f->done_count = 0;
        for (uint32_t i = 1; i < 100; i++) {
            assert_int_equal(propose(f, i, rb_slice_of(f->waiters, 50 + i * 3)), RB_OK);
        }
        settle(f);
        if (round == 0) {
            before = f->pools.allocations;
            assert_true(before > 0);
        }
    }
    assert_int_equal(f->pools.allocations, before);
    end(f);
}

static void commands_as_bytes(void **state)
{
    uint8_t bytes[256];
    struct rb_command command = { .type = RB_COMMAND_PUBLISH,
                                  .flags = 5,
                                  .time_ns = 1,
                                  .seq = UINT64_MAX,
                                  .value = 3,
                                  .name = RB_S("n"),
                                  .subject = RB_S("a.b"),
                                  .text = RB_S("head-body"),
                                  .header_len = 4 };
    size_t len = rb_command_bytes(&command);
    rb_command_encode(&command, bytes);
    struct rb_command back;
    assert_int_equal(rb_command_decode(RB_COMMAND_PUBLISH, rb_slice_of(bytes, len), &back), RB_OK);
    assert_int_equal(back.flags, 5);
    assert_int_equal(back.seq, UINT64_MAX);
    assert_int_equal(back.header_len, 4);
    assert_true(rb_slice_equal(back.name, command.name));
    assert_true(rb_slice_equal(back.subject, command.subject));
    assert_true(rb_slice_equal(back.text, command.text));
    for (size_t cut = 0; cut < len - 3; cut++) { /* three bytes less: the subject is what is left */
        enum rb_err err = rb_command_decode(RB_COMMAND_PUBLISH, rb_slice_of(bytes, cut), &back);
        assert_true(err == RB_ERR_CORRUPT || cut >= len - 3);
    }
    assert_int_equal(rb_command_decode(99, rb_slice_of(bytes, len), &back), RB_ERR_CORRUPT);
    bytes[1] = 1;
    assert_int_equal(rb_command_decode(RB_COMMAND_PUBLISH, rb_slice_of(bytes, len), &back),
                     RB_ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durable_first),
        cmocka_unit_test(full_log_keeps_order),
        cmocka_unit_test(bounds),
        cmocka_unit_test(failing_log),
        cmocka_unit_test(stopped),
        cmocka_unit_test(memory_commits_at_turn_end),
        cmocka_unit_test(lazy_commits_before_the_disk),
        cmocka_unit_test(nothing_is_allocated),
        cmocka_unit_test(commands_as_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
