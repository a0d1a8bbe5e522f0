/* test_wheel.c - the timer wheel against a model that keeps all timers in an array, in virtual
 * time. */
#include "base/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ringbus/env.h"

#define MS UINT64_C(1000000)
#define DAY (UINT64_C(86400) * 1000 * MS)

static void timers_fire_once_and_not_early(void **state)
{
    struct rb_wheel wheel;
    struct rb_timer timer;
    rb_wheel_init(&wheel, 5 * MS + 1);
    rb_timer_init(&timer, 77);
    assert_false(rb_timer_armed(&timer));
    assert_int_equal(rb_wheel_wait_ns(&wheel, 5 * MS + 1), -1);
    rb_wheel_arm(&wheel, &timer, 8 * MS + 1);
    assert_true(rb_timer_armed(&timer));
    assert_int_equal(wheel.count, 1);
    assert_int_equal(rb_wheel_wait_ns(&wheel, 5 * MS + 1), 4 * MS - 1);
    assert_null(rb_wheel_expire(&wheel, 8 * MS + 1 - 1));
    assert_ptr_equal(rb_wheel_expire(&wheel, 9 * MS), &timer);
    assert_int_equal(timer.kind, 77);
    assert_false(rb_timer_armed(&timer));
    assert_int_equal(wheel.count, 0);
    assert_null(rb_wheel_expire(&wheel, 9 * MS));
    assert_null(rb_wheel_expire(&wheel, 900 * DAY));
}

static void exact_ticks_fire_exactly(void **state)
{
    struct rb_wheel wheel;
    struct rb_timer timer;
    rb_wheel_init(&wheel, 0);
    rb_timer_init(&timer, 0);
    rb_wheel_arm(&wheel, &timer, 3 * MS);
    assert_null(rb_wheel_expire(&wheel, 3 * MS - 1));
    assert_int_equal(rb_wheel_wait_ns(&wheel, 3 * MS - 1), 1);
    assert_ptr_equal(rb_wheel_expire(&wheel, 3 * MS), &timer);
}

static void past_due_times_fire_at_the_next_expiry(void **state)
{
    static const uint64_t past_ns[] = { 0, 1, 100 * MS, 100 * MS + 499999, 100 * MS + 500000 };
    struct rb_wheel wheel;
    uint64_t now = 100 * MS + 500000;
    for (size_t i = 0; i < sizeof(past_ns) / sizeof(past_ns[0]); i++) {
        struct rb_timer timer;
        rb_wheel_init(&wheel, now);
        rb_timer_init(&timer, 0);
        rb_wheel_arm(&wheel, &timer, past_ns[i]);
        assert_true(rb_timer_armed(&timer));
        assert_int_equal(rb_wheel_wait_ns(&wheel, now), 0);
        assert_ptr_equal(rb_wheel_expire(&wheel, now), &timer);
        assert_null(rb_wheel_expire(&wheel, now));
    }
}

static void disarmed_timers_stay_silent(void **state)
{
    struct rb_wheel wheel;
    struct rb_timer a, b;
    rb_wheel_init(&wheel, 0);
    rb_timer_init(&a, 0);
    rb_timer_init(&b, 0);
    rb_wheel_disarm(&wheel, &a);
    rb_wheel_arm(&wheel, &a, 10 * MS);
    rb_wheel_arm(&wheel, &b, 10 * MS);
    rb_wheel_disarm(&wheel, &a);
    rb_wheel_disarm(&wheel, &a);
    assert_int_equal(wheel.count, 1);
    assert_ptr_equal(rb_wheel_expire(&wheel, 10 * MS), &b);
    assert_null(rb_wheel_expire(&wheel, 10 * MS));
    rb_wheel_arm(&wheel, &a, 20 * MS);
    rb_wheel_disarm(&wheel, &a);
    assert_int_equal(rb_wheel_wait_ns(&wheel, 10 * MS), -1);
}

/* Between two calls of rb_wheel_expire the due timers wait in the wheel: they may still be
 * withdrawn or put off, as the handler of the first one often does with its fellows. */
static void due_timers_can_be_withdrawn(void **state)
{
    struct rb_wheel wheel;
    struct rb_timer timers[4];
    rb_wheel_init(&wheel, 0);
    for (uint32_t i = 0; i < 4; i++) {
        rb_timer_init(&timers[i], i);
        rb_wheel_arm(&wheel, &timers[i], 7 * MS);
    }
    struct rb_timer *first = rb_wheel_expire(&wheel, 64 * MS);
    assert_non_null(first);
    uint32_t next = (first->kind + 1) % 4;
    rb_wheel_disarm(&wheel, &timers[next]);
    rb_wheel_arm(&wheel, &timers[(next + 1) % 4], 71 * MS); /* the slot it was in, one turn later */
    assert_ptr_equal(rb_wheel_expire(&wheel, 64 * MS), &timers[(next + 2) % 4]);
    assert_null(rb_wheel_expire(&wheel, 64 * MS));
    assert_null(rb_wheel_expire(&wheel, 71 * MS - 1));
    assert_ptr_equal(rb_wheel_expire(&wheel, 71 * MS), &timers[(next + 1) % 4]);
    assert_int_equal(wheel.count, 0);
}

static void earlier_ticks_come_first(void **state)
{
    static const uint64_t dues_ms[] = { 5, 64, 70, 4095, 4096, 300000, 20000000, 2000000000 };
    enum { COUNT = sizeof(dues_ms) / sizeof(dues_ms[0]) };
    struct rb_wheel wheel;
    struct rb_timer timers[COUNT];
    rb_wheel_init(&wheel, 3 * MS);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t index = (i * 5 + 3) % COUNT; /* armed in another order */
        rb_timer_init(&timers[index], index);
        rb_wheel_arm(&wheel, &timers[index], dues_ms[index] * MS);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(rb_wheel_expire(&wheel, 100 * DAY), &timers[i]);
    }
    assert_null(rb_wheel_expire(&wheel, 100 * DAY));
}

/* A timer beyond every level's reach must wait apart, and still fire within its tick. */
static void far_timers_cascade(void **state)
{
    static const uint64_t dues_ns[] = { 12 * DAY, 13 * DAY + 1, 40 * DAY, 400 * DAY - 1 };
    enum { COUNT = sizeof(dues_ns) / sizeof(dues_ns[0]) };
    struct rb_wheel wheel;
    struct rb_timer timers[COUNT];
    uint64_t now = 11 * DAY;
    rb_wheel_init(&wheel, now);
    for (uint32_t i = 0; i < COUNT; i++) {
        rb_timer_init(&timers[i], i);
        rb_wheel_arm(&wheel, &timers[i], dues_ns[i]);
    }
    uint32_t fired = 0, steps = 0;
    int64_t wait;
    while ((wait = rb_wheel_wait_ns(&wheel, now)) >= 0) {
        now += (uint64_t)wait;
        struct rb_timer *timer;
        while ((timer = rb_wheel_expire(&wheel, now)) != NULL) {
            assert_int_equal(timer->kind, fired);
            assert_true(now >= dues_ns[fired] && now < dues_ns[fired] + MS);
            fired++;
        }
        assert_true(++steps < 200);
    }
    assert_int_equal(fired, COUNT);
}

static void farthest_due_time_is_harmless(void **state)
{
    struct rb_wheel wheel;
    struct rb_timer timer;
    rb_wheel_init(&wheel, DAY);
    rb_timer_init(&timer, 0);
    rb_wheel_arm(&wheel, &timer, UINT64_MAX);
    assert_true(rb_wheel_wait_ns(&wheel, DAY) > 0);
    assert_null(rb_wheel_expire(&wheel, 365 * DAY));
    assert_int_equal(wheel.count, 1);
    rb_wheel_disarm(&wheel, &timer);
    assert_int_equal(rb_wheel_wait_ns(&wheel, 365 * DAY), -1);
}

static void time_never_goes_back(void **state)
{
    struct rb_wheel wheel;
    struct rb_timer timer;
    rb_wheel_init(&wheel, 50 * MS);
    rb_timer_init(&timer, 0);
    rb_wheel_arm(&wheel, &timer, 60 * MS);
    assert_null(rb_wheel_expire(&wheel, 10 * MS));
    assert_int_equal(rb_wheel_wait_ns(&wheel, 50 * MS), 10 * MS);
    assert_ptr_equal(rb_wheel_expire(&wheel, 60 * MS), &timer);
}

/* An unchanged long timeout that is pushed on and on costs wake-ups only when a slot comes round.
 * */
static void pushed_on_timers_fire_at_the_last_due_time(void **state)
{
    struct rb_wheel wheel;
    struct rb_timer timer;
    rb_wheel_init(&wheel, 0);
    rb_timer_init(&timer, 0);
    uint64_t now = 0, due = 0;
    for (int i = 0; i < 5000; i++) {
        now += 333333;
        assert_null(rb_wheel_expire(&wheel, now));
        due = now + 120000 * MS;
        rb_wheel_arm(&wheel, &timer, due);
        assert_int_equal(wheel.count, 1);
    }
    assert_null(rb_wheel_expire(&wheel, due - 1));
    assert_ptr_equal(rb_wheel_expire(&wheel, due + MS - 1), &timer);
}

enum { TIMERS = 300 };

struct model {
    struct rb_env env;
    struct rb_wheel wheel;
    struct rb_timer timers[TIMERS];
    uint64_t due_ns[TIMERS]; /* 0: not armed */
    uint64_t now_ns;
    uint64_t fired_count;
};

static uint64_t random_span(struct model *m, uint32_t bits_max)
{
    return rb_env_random(&m->env) >> (64 - 1 - rb_env_below(&m->env, bits_max));
}

static void check_model(struct model *m)
{
    uint32_t armed = 0;
    uint64_t earliest = UINT64_MAX;
    for (uint32_t i = 0; i < TIMERS; i++) {
        assert_int_equal(rb_timer_armed(&m->timers[i]), m->due_ns[i] != 0);
        if (m->due_ns[i] != 0) {
            armed++;
            earliest = m->due_ns[i] < earliest ? m->due_ns[i] : earliest;
        }
    }
    assert_int_equal(m->wheel.count, armed);
    int64_t wait = rb_wheel_wait_ns(&m->wheel, m->now_ns);
    assert_int_equal(wait == -1, armed == 0);
    if (armed > 0) {
        uint64_t latest = earliest > m->now_ns ? earliest - m->now_ns + MS : MS;
        assert_true(wait >= 0 && (uint64_t)wait < latest);
    }
    for (uint32_t level = 0; level < RB_WHEEL_LEVELS; level++) {
        for (uint32_t slot = 0; slot < RB_WHEEL_SLOTS; slot++) {
            bool bit = (m->wheel.occupied[level] >> slot & 1) != 0;
            assert_int_equal(bit, !rb_list_empty(&m->wheel.slot[level][slot]));
        }
    }
}

static void arm_random(struct model *m, uint32_t i)
{
    uint64_t due = m->now_ns + random_span(m, 52);
    if (rb_env_below(&m->env, 20) == 0) {
        due = m->now_ns - random_span(m, 24) % (m->now_ns + 1);
    } else if (rb_env_below(&m->env, 4) == 0) {
        due = (due + MS - 1) / MS * MS;
    }
    rb_wheel_arm(&m->wheel, &m->timers[i], due);
    m->due_ns[i] = due == 0 ? 1 : due;
}

/* Takes what is due, at times only a part of it, and changes other timers in between. */
static void expire_some(struct model *m)
{
    bool meddles = rb_env_below(&m->env, 3) == 0;
    bool all = rb_env_below(&m->env, 4) != 0;
    uint32_t budget = all ? 4 * TIMERS : rb_env_below(&m->env, 4);
    struct rb_timer *timer;
    while (budget-- > 0) {
        timer = rb_wheel_expire(&m->wheel, m->now_ns);
        if (timer == NULL) {
            break;
        }
        uint32_t i = (uint32_t)(timer - m->timers);
        assert_true(m->due_ns[i] != 0 && m->due_ns[i] <= m->now_ns);
        assert_int_equal(timer->kind, i);
        m->due_ns[i] = 0;
        m->fired_count++;
        if (meddles) {
            uint32_t other = rb_env_below(&m->env, TIMERS);
            if (rb_env_below(&m->env, 2) == 0) {
                rb_wheel_disarm(&m->wheel, &m->timers[other]);
                m->due_ns[other] = 0;
            } else {
                uint64_t due = m->now_ns + 1 + random_span(m, 40);
                rb_wheel_arm(&m->wheel, &m->timers[other], due);
                m->due_ns[other] = due;
            }
        }
    }
    if (!all) {
        return;
    }
    for (uint32_t i = 0; i < TIMERS; i++) { /* nothing that had to fire was left behind */
        assert_true(m->due_ns[i] == 0 || m->due_ns[i] > m->now_ns / MS * MS);
    }
}

static void random_steps(uint64_t seed)
{
    static struct model model;
    struct model *m = &model;
    *m = (struct model){ .now_ns = seed % 3 == 0 ? 0 : seed * 123456789123 };
    rb_env_seed(&m->env, seed);
    rb_wheel_init(&m->wheel, m->now_ns);
    for (uint32_t i = 0; i < TIMERS; i++) {
        rb_timer_init(&m->timers[i], i);
    }
    for (int step = 0; step < 4000; step++) {
        uint32_t i = rb_env_below(&m->env, TIMERS);
        switch (rb_env_below(&m->env, 8)) {
        case 0:
            rb_wheel_disarm(&m->wheel, &m->timers[i]);
            m->due_ns[i] = 0;
            break;
        case 1: /* to the moment the wheel asked for */
            if (m->wheel.count > 0) {
                m->now_ns += (uint64_t)rb_wheel_wait_ns(&m->wheel, m->now_ns);
            }
            expire_some(m);
            break;
        case 2: /* some time, now and then months */
            m->now_ns += random_span(m, rb_env_below(&m->env, 30) == 0 ? 54 : 36);
            expire_some(m);
            break;
        default:
            arm_random(m, i);
        }
        check_model(m);
    }
    assert_true(m->fired_count > 500);
    for (uint32_t i = 0; i < TIMERS; i++) {
        rb_wheel_disarm(&m->wheel, &m->timers[i]);
        m->due_ns[i] = 0;
    }
    check_model(m);
}

static void wheel_agrees_with_a_plain_array(void **state)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        random_steps(seed);
    }
}

/* A hundred thousand timers, each re-armed whenever it fires. */
static void many_timers_keep_their_periods(void **state)
{
    enum { MANY = 100000 };
    struct rb_wheel wheel;
    struct rb_timer *timers = calloc(MANY, sizeof(*timers));
    assert_non_null(timers);
    rb_wheel_init(&wheel, 0);
    for (uint32_t i = 0; i < MANY; i++) {
        rb_timer_init(&timers[i], 0);
        rb_wheel_arm(&wheel, &timers[i], (1 + i % 7000) * 17 * MS);
    }
    uint64_t now = 0, fired = 0;
    while (fired < 3 * (uint64_t)MANY) {
        int64_t wait = rb_wheel_wait_ns(&wheel, now);
        assert_true(wait >= 0);
        now += (uint64_t)wait;
        struct rb_timer *timer;
        while ((timer = rb_wheel_expire(&wheel, now)) != NULL) {
            fired++;
            rb_wheel_arm(&wheel, timer, now + 120000 * MS);
        }
        assert_int_equal(wheel.count, MANY);
    }
    assert_true(now >= 240000 * MS && now <= 360000 * MS);
    free(timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_once_and_not_early),
        cmocka_unit_test(exact_ticks_fire_exactly),
        cmocka_unit_test(past_due_times_fire_at_the_next_expiry),
        cmocka_unit_test(disarmed_timers_stay_silent),
        cmocka_unit_test(due_timers_can_be_withdrawn),
        cmocka_unit_test(earlier_ticks_come_first),
        cmocka_unit_test(far_timers_cascade),
        cmocka_unit_test(farthest_due_time_is_harmless),
        cmocka_unit_test(time_never_goes_back),
        cmocka_unit_test(pushed_on_timers_fire_at_the_last_due_time),
        cmocka_unit_test(wheel_agrees_with_a_plain_array),
        cmocka_unit_test(many_timers_keep_their_periods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
