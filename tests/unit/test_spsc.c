/* test_spsc.c - the single-producer, single-consumer queue, alone and between two threads. */
#include "base/spsc.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void capacity_is_rounded_up(void **state)
{
    static const uint32_t cases[][2] = { { 1, 1 }, { 2, 2 }, { 3, 4 }, { 64, 64 }, { 65, 128 } };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rb_spsc ring;
        assert_int_equal(rb_spsc_init(&ring, cases[i][0]), RB_OK);
        assert_int_equal(ring.cap, cases[i][1]);
        assert_int_equal(rb_spsc_room(&ring), cases[i][1]);
        rb_spsc_deinit(&ring);
    }
    struct rb_spsc ring;
    assert_int_equal(rb_spsc_init(&ring, 0), RB_ERR_INVALID);
    assert_int_equal(rb_spsc_init(&ring, (UINT32_C(1) << 31) + 1), RB_ERR_INVALID);
}

static void full_refuses_and_empty_yields_null(void **state)
{
    struct rb_spsc ring;
    char items[5];
    assert_int_equal(rb_spsc_init(&ring, 4), RB_OK);
    assert_null(rb_spsc_pop(&ring));
    assert_false(rb_spsc_ready(&ring));
    for (int round = 0; round < 10; round++) {
        for (uint32_t i = 0; i < 4; i++) {
            assert_int_equal(rb_spsc_room(&ring), 4 - i);
            assert_true(rb_spsc_push(&ring, &items[i]));
        }
        assert_false(rb_spsc_push(&ring, &items[4]));
        assert_int_equal(rb_spsc_room(&ring), 0);
        assert_true(rb_spsc_ready(&ring));
        for (int i = 0; i < 4; i++) {
            assert_ptr_equal(rb_spsc_pop(&ring), &items[i]);
            if (i == 1) { /* one place in the middle of the round */
                assert_int_equal(rb_spsc_room(&ring), 2);
            }
        }
        assert_null(rb_spsc_pop(&ring));
        assert_false(rb_spsc_ready(&ring));
    }
    rb_spsc_deinit(&ring);
}

/* The indexes are free running; the queue must not notice when they wrap. */
static void indexes_may_wrap(void **state)
{
    struct rb_spsc ring;
    char items[8];
    assert_int_equal(rb_spsc_init(&ring, 8), RB_OK);
    uint32_t start = UINT32_MAX - 3;
    atomic_store(&ring.head, start);
    atomic_store(&ring.tail, start);
    ring.head_seen = ring.tail_seen = start;
    for (int i = 0; i < 8; i++) {
        assert_true(rb_spsc_push(&ring, &items[i]));
    }
    assert_false(rb_spsc_push(&ring, &items[0]));
    for (int i = 0; i < 8; i++) {
        assert_true(rb_spsc_ready(&ring));
        assert_ptr_equal(rb_spsc_pop(&ring), &items[i]);
    }
    assert_null(rb_spsc_pop(&ring));
    assert_int_equal(rb_spsc_room(&ring), 8);
    rb_spsc_deinit(&ring);
}

enum { ITEMS = 1000000 };

struct item {
    uint32_t number;
};

struct flow {
    struct rb_spsc ring;
    struct item *items;
    _Alignas(64) _Atomic uint32_t sleeping;
};

static void *produce(void *arg)
{
    struct flow *flow = arg;
    for (uint32_t i = 0; i < ITEMS; i++) {
        flow->items[i].number = i; /* a plain store: the push must publish it */
        while (!rb_spsc_push(&flow->ring, &flow->items[i])) {
            sched_yield();
        }
    }
    return NULL;
}

static struct flow *create_flow(uint32_t cap)
{
    struct flow *flow = aligned_alloc(64, sizeof(*flow));
    assert_non_null(flow);
    flow->items = calloc(ITEMS, sizeof(*flow->items));
    assert_non_null(flow->items);
    atomic_init(&flow->sleeping, 0);
    assert_int_equal(rb_spsc_init(&flow->ring, cap), RB_OK);
    return flow;
}

static void destroy_flow(struct flow *flow)
{
    rb_spsc_deinit(&flow->ring);
    free(flow->items);
    free(flow);
}

static void order_survives_two_threads(void **state)
{
    struct flow *flow = create_flow(256);
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, produce, flow), 0);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct item *item;
        while ((item = rb_spsc_pop(&flow->ring)) == NULL) {
            sched_yield();
        }
        wrong += item->number != i || item != &flow->items[i];
    }
    pthread_join(producer, NULL);
    assert_int_equal(wrong, 0);
    assert_null(rb_spsc_pop(&flow->ring));
    assert_int_equal(rb_spsc_room(&flow->ring), 256);
    destroy_flow(flow);
}

enum { NAPS = 20000 };

static void *produce_for_a_sleeper(void *arg)
{
    struct flow *flow = arg;
    for (uint32_t i = 0; i < NAPS; i++) {
        flow->items[i].number = i;
        while (!rb_spsc_push(&flow->ring, &flow->items[i])) {
            sched_yield();
        }
        /* As a mailbox does: wake who sleeps. Seen asleep or not, the item must not be lost. */
        if (atomic_load(&flow->sleeping) != 0) {
            atomic_store(&flow->sleeping, 0);
        }
    }
    return NULL;
}

/* The sleep protocol: flag up, look once more, then wait for the flag to fall. A lost wake-up would
 * leave the consumer waiting with an item in the queue and the producer done. */
static void no_wake_up_is_lost(void **state)
{
    struct flow *flow = create_flow(4);
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, produce_for_a_sleeper, flow), 0);
    uint32_t taken = 0;
    uint64_t idle = 0;
    while (taken < NAPS && idle < UINT64_C(50000000)) {
        struct item *item;
        while ((item = rb_spsc_pop(&flow->ring)) != NULL) {
            assert_int_equal(item->number, taken);
            taken++;
        }
        atomic_store(&flow->sleeping, 1);
        if (taken == NAPS || rb_spsc_ready(&flow->ring)) {
            atomic_store(&flow->sleeping, 0);
            continue;
        }
        while (atomic_load(&flow->sleeping) != 0 && idle < UINT64_C(50000000)) {
            idle++;
            sched_yield();
        }
    }
    assert_int_equal(taken, NAPS);
    pthread_join(producer, NULL);
    destroy_flow(flow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(capacity_is_rounded_up),
        cmocka_unit_test(full_refuses_and_empty_yields_null),
        cmocka_unit_test(indexes_may_wrap),
        cmocka_unit_test(order_survives_two_threads),
        cmocka_unit_test(no_wake_up_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
