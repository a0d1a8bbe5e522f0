/* test_env.c - the system's clocks and entropy, and the seeded generator. */
#include "ringbus/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void clocks_are_the_machines(void **state)
{
    struct rb_env env;
    rb_env_init_system(&env);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    uint64_t now = rb_env_now(&env);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(now >= (uint64_t)before.tv_sec * 1000000000 + (uint64_t)before.tv_nsec);
    assert_true(now <= (uint64_t)after.tv_sec * 1000000000 + (uint64_t)after.tv_nsec);
    time_t wall_before = time(NULL);
    uint64_t wall = env.wall_ns(env.ctx);
    assert_true(wall / 1000000000 >= (uint64_t)wall_before);
    assert_true(wall / 1000000000 <= (uint64_t)time(NULL) + 1);
}

/* Requests above what one getrandom(2) promises must be filled to the end and not beyond. */
static void entropy_fills_what_was_asked(void **state)
{
    struct rb_env env;
    rb_env_init_system(&env);
    static uint8_t bytes[70000];
    memset(bytes, 0, sizeof(bytes));
    env.entropy(env.ctx, bytes, sizeof(bytes) - 16);
    uint32_t set = 0;
    for (size_t i = sizeof(bytes) - 16 - 64; i < sizeof(bytes) - 16; i++) {
        set += (uint32_t)__builtin_popcount(bytes[i]);
    }
    assert_in_range(set, 100, 412); /* 512 fair bits; the odds against are astronomical */
    for (size_t i = sizeof(bytes) - 16; i < sizeof(bytes); i++) {
        assert_int_equal(bytes[i], 0);
    }
    env.entropy(env.ctx, NULL, 0);
}

static void system_envs_differ(void **state)
{
    struct rb_env a, b;
    rb_env_init_system(&a);
    rb_env_init_system(&b);
    assert_true(rb_env_random(&a) != rb_env_random(&b));
}

/* Published outputs for state { 1, 2, 3, 4 }: the generator must be the one it claims to be. */
static void generator_is_xoshiro256starstar(void **state)
{
    static const uint64_t expected[] = { 11520,
                                         0,
                                         1509978240,
                                         UINT64_C(1215971899390074240),
                                         UINT64_C(1216172134540287360),
                                         UINT64_C(607988272756665600) };
    struct rb_env env = { .random_state = { 1, 2, 3, 4 } };
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_true(rb_env_random(&env) == expected[i]);
    }
}

static void seeding_is_splitmix64(void **state)
{
    struct rb_env env;
    rb_env_seed(&env, 0);
    assert_true(env.random_state[0] == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(env.random_state[1] == UINT64_C(0x6e789e6aa1b965f4));
    assert_true(env.random_state[2] == UINT64_C(0x06c45d188009454f));
    assert_true(env.random_state[3] == UINT64_C(0xf88bb8a8724c81ec));
}

static void equal_seeds_give_equal_sequences(void **state)
{
    struct rb_env a, b, c;
    rb_env_seed(&a, 42);
    rb_env_seed(&b, 42);
    rb_env_seed(&c, 43);
    int differing = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t value = rb_env_random(&a);
        assert_true(value == rb_env_random(&b));
        differing += value != rb_env_random(&c);
    }
    assert_true(differing > 90);
}

static void below_is_uniform_within_its_bound(void **state)
{
    struct rb_env env;
    rb_env_seed(&env, 7);
    uint32_t hits[7] = { 0 };
    for (int i = 0; i < 70000; i++) {
        uint32_t value = rb_env_below(&env, 7);
        assert_true(value < 7);
        hits[value]++;
    }
    for (int i = 0; i < 7; i++) {
        assert_in_range(hits[i], 9500, 10500);
    }
    assert_int_equal(rb_env_below(&env, 1), 0);
    uint32_t upper = 0;
    for (int i = 0; i < 10000; i++) { /* a bound for which nearly half of all draws are unfair */
        uint32_t value = rb_env_below(&env, UINT32_C(0x80000001));
        assert_true(value <= UINT32_C(0x80000000));
        upper += value >= UINT32_C(0x40000000);
    }
    assert_in_range(upper, 4700, 5300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks_are_the_machines),
        cmocka_unit_test(entropy_fills_what_was_asked),
        cmocka_unit_test(system_envs_differ),
        cmocka_unit_test(generator_is_xoshiro256starstar),
        cmocka_unit_test(seeding_is_splitmix64),
        cmocka_unit_test(equal_seeds_give_equal_sequences),
        cmocka_unit_test(below_is_uniform_within_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
