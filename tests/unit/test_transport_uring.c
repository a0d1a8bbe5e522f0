/* test_transport_uring.c - the suites over io_uring; then slots and the ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <liburing.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "ringbus/bounds.h"
#include "ringbus/ring.h"
#include "transport/slot.h"
#include "transport/uring/uring.h"
#include "socket_suite.h"

#define MS 1000000L

static struct rb_ring *make_ring(uint32_t entries)
{
    char why[128];
    struct rb_ring *ring = NULL;
    struct rb_ring_options options = { .entries = entries };
    if (rb_ring_create(&options, &ring, why) != RB_OK) {
        fail_msg("%s", why);
    }
    return ring;
}

/* ---- the driver for the suites ---- */

static void *create_group(uint32_t member_count)
{
    struct rb_uring_group *group = NULL;
    assert_int_equal(rb_uring_group_create(member_count, &group), RB_OK);
    return group;
}

static void destroy_group(void *group)
{
    rb_uring_group_destroy(group);
}

static void wake_group(void *group, uint32_t index)
{
    rb_uring_group_wake(group, index);
}

static void open_member(struct socket_member *member, void *group, uint32_t index,
                        uint32_t recv_buffers)
{
    *member = (struct socket_member){ .ring = make_ring(64) };
    struct rb_uring_options options = { .ring = member->ring,
                                        .group = group,
                                        .index = index,
                                        .budget = &member->budget,
                                        .recv_buffers = recv_buffers };
    assert_int_equal(rb_uring_transport_create(&options, &member->t), RB_OK);
}

static void shut_member(struct socket_member *member)
{
    rb_transport_destroy(member->t);
    rb_ring_destroy(member->ring);
}

static const struct socket_driver uring_driver = { .name = "io_uring: sockets",
                                                   .group_create = create_group,
                                                   .group_destroy = destroy_group,
                                                   .group_wake = wake_group,
                                                   .member_open = open_member,
                                                   .member_shut = shut_member };

static void open_pair(struct suite_world *ret_world)
{
    socket_pair_open(&uring_driver, ret_world);
}

static const struct suite_driver uring_suite = { .name = "io_uring: the contract",
                                                 .open = open_pair,
                                                 .shut = socket_pair_shut };

/* ---- slots ---- */

static void slots_find_only_the_current_generation(void **state)
{
    struct rb_budget budget = { 0 };
    struct rb_slots slots;
    rb_slots_init(&slots, &budget, sizeof(struct rb_slot) + 40);
    struct rb_slot *first = rb_slots_acquire(&slots);
    assert_non_null(first);
    struct rb_conn_id id = first->id;
    assert_int_not_equal(id.generation, 0);
    assert_ptr_equal(rb_slots_find(&slots, id), first);
    rb_slots_release(&slots, first);
    assert_null(rb_slots_find(&slots, id));
    struct rb_slot *second = rb_slots_acquire(&slots);
    assert_int_equal(second->id.slot, id.slot);
    assert_int_not_equal(second->id.generation, id.generation);
    assert_null(rb_slots_find(&slots, id));
    assert_null(rb_slots_find(&slots, (struct rb_conn_id){ .slot = 1, .generation = 1 }));
    assert_null(rb_slots_find(&slots, (struct rb_conn_id){ .slot = UINT32_MAX, .generation = 1 }));
    rb_slots_release(&slots, second);
    rb_slots_deinit(&slots);
    assert_int_equal(budget.used_bytes, 0);
}

static void slots_grow_without_moving(void **state)
{
    enum { COUNT = 1000 };
    struct rb_budget budget = { 0 };
    struct rb_slots slots;
    struct rb_slot *all[COUNT];
    rb_slots_init(&slots, &budget, 200);
    for (uint32_t i = 0; i < COUNT; i++) {
        all[i] = rb_slots_acquire(&slots);
        assert_non_null(all[i]);
        all[i]->user = all[i];
    }
    assert_int_equal(slots.used_count, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(rb_slots_find(&slots, all[i]->id), all[i]);
        assert_ptr_equal(all[i]->user, all[i]);
        rb_slots_release(&slots, all[i]);
    }
    rb_slots_deinit(&slots);
    assert_int_equal(budget.used_bytes, 0);
}

static void slots_refuse_beyond_the_budget(void **state)
{
    struct rb_budget budget = { .limit_bytes = 100000 };
    struct rb_slots slots;
    rb_slots_init(&slots, &budget, 200);
    struct rb_slot *taken[1000];
    uint32_t count = 0;
    while (count < 1000 && (taken[count] = rb_slots_acquire(&slots)) != NULL) {
        count++;
    }
    assert_in_range(count, 64, 500);
    assert_true(budget.refused_count > 0);
    rb_slots_release(&slots, taken[0]);
    taken[0] = rb_slots_acquire(&slots);
    assert_non_null(taken[0]);
    while (count > 0) {
        rb_slots_release(&slots, taken[--count]);
    }
    rb_slots_deinit(&slots);
    assert_int_equal(budget.used_bytes, 0);
}

/* ---- the ring ---- */

struct tally {
    uint32_t count;
    uint64_t next; /* data is expected to count up */
    int32_t res;
};

static void on_tally(void *ctx, uint64_t data, int32_t res, uint32_t flags)
{
    struct tally *tally = ctx;
    assert_int_equal(data, tally->next++);
    tally->count++;
    tally->res = res;
}

/* More than the submission and the completion queue hold: nothing is lost, order is kept. */
static void ring_takes_more_entries_than_its_queues(void **state)
{
    struct rb_ring *ring = make_ring(8);
    struct tally tally = { 0 };
    rb_ring_register(ring, 3, on_tally, &tally);
    for (uint64_t i = 0; i < 100; i++) {
        rb_ring_sqe(ring, 3, i)->opcode = IORING_OP_NOP;
    }
    uint32_t handed = 0;
    for (int round = 0; round < 20 && handed < 100; round++) {
        uint32_t count = rb_ring_wait(ring, MS, 10);
        assert_true(count <= 10);
        handed += count;
    }
    assert_int_equal(handed, 100);
    assert_int_equal(tally.count, 100);
    assert_int_equal(rb_ring_wait(ring, 0, 10), 0);
    rb_ring_destroy(ring);
}

static void ring_separates_kinds(void **state)
{
    struct rb_ring *ring = make_ring(8);
    struct tally a = { 0 }, b = { .next = (UINT64_C(1) << 56) - 1 };
    rb_ring_register(ring, 0, on_tally, &a);
    rb_ring_register(ring, 15, on_tally, &b);
    rb_ring_sqe(ring, 0, 0)->opcode = IORING_OP_NOP;
    rb_ring_sqe(ring, 15, (UINT64_C(1) << 56) - 1)->opcode = IORING_OP_NOP;
    rb_ring_sqe(ring, 7, 5)->opcode = IORING_OP_NOP; /* nobody's */
    assert_int_equal(rb_ring_wait(ring, MS, 10), 3);
    assert_int_equal(a.count, 1);
    assert_int_equal(b.count, 1);
    rb_ring_destroy(ring);
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Waiting is sleeping: time passes, the processor does not notice. */
static void ring_waits_asleep_until_the_timeout(void **state)
{
    struct rb_ring *ring = make_ring(8);
    double begin = seconds(CLOCK_MONOTONIC), cpu_begin = seconds(CLOCK_THREAD_CPUTIME_ID);
    assert_int_equal(rb_ring_wait(ring, 100 * MS, 10), 0);
    assert_true(seconds(CLOCK_MONOTONIC) - begin >= 0.099);
    assert_true(seconds(CLOCK_THREAD_CPUTIME_ID) - cpu_begin < 0.05);
    begin = seconds(CLOCK_MONOTONIC);
    assert_int_equal(rb_ring_wait(ring, 0, 10), 0);
    assert_true(seconds(CLOCK_MONOTONIC) - begin < 0.05);
    rb_ring_destroy(ring);
}

static void ring_reports_what_the_kernel_offers(void **state)
{
    struct rb_ring *ring = make_ring(8);
    const struct rb_ring_features *features = rb_ring_features(ring);
    assert_true(features->buf_ring && features->accept_multishot && features->recv_multishot);
    assert_true(features->msg_ring);
    assert_true(rb_ring_fd(ring) >= 0);
    rb_ring_destroy(ring);
}

/* No descriptor is left: refused with words, nothing leaks, and it works again afterwards. */
static void ring_refusal_is_explained(void **state)
{
    struct rlimit before, none;
    getrlimit(RLIMIT_NOFILE, &before);
    none = (struct rlimit){ .rlim_cur = 3, .rlim_max = before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    char why[128];
    struct rb_ring *ring = NULL;
    struct rb_ring_options options = { .entries = 8 };
    enum rb_err err = rb_ring_create(&options, &ring, why);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(err, RB_ERR_LIMIT);
    assert_non_null(strstr(why, "descriptor"));
    rb_ring_destroy(make_ring(8));
}

/* ---- the transport ---- */

static void a_strange_number_of_buffers_is_refused(void **state)
{
    struct rb_uring_group *group;
    assert_int_equal(rb_uring_group_create(1, &group), RB_OK);
    struct rb_budget budget = { 0 };
    struct rb_uring_options options = {
        .ring = make_ring(8), .group = group, .budget = &budget, .recv_buffers = 48
    };
    struct rb_transport *t;
    assert_int_equal(rb_uring_transport_create(&options, &t), RB_ERR_INVALID);
    rb_ring_destroy(options.ring);
    rb_uring_group_destroy(group);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(slots_find_only_the_current_generation),
        cmocka_unit_test(slots_grow_without_moving),
        cmocka_unit_test(slots_refuse_beyond_the_budget),
        cmocka_unit_test(ring_takes_more_entries_than_its_queues),
        cmocka_unit_test(ring_separates_kinds),
        cmocka_unit_test(ring_waits_asleep_until_the_timeout),
        cmocka_unit_test(ring_reports_what_the_kernel_offers),
        cmocka_unit_test(ring_refusal_is_explained),
        cmocka_unit_test(a_strange_number_of_buffers_is_refused),
    };
    int failed_count = suite_run(&uring_suite);
    failed_count += socket_suite_run(&uring_driver);
    return failed_count + cmocka_run_group_tests_name("io_uring: its own", cases, NULL, NULL);
}
