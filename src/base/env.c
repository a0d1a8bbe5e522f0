/* env.c - the machine's clocks and randomness behind the seam of env.h.
 *
 * 1. This and log.c (time stamps of lines) are the only places that read a clock of the machine.
 * 2. The generator is xoshiro256**; its state comes from one 64-bit seed spread by SplitMix64,
 *    which never yields the all-zero state the generator could not leave.
 * 3. Entropy is never short: without it no server should run, so a failing getrandom(2) ends the
 *    program.
 */
#include "ringbus/env.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "ringbus/check.h"

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    int failed = clock_gettime(clock, &now);
    rb_assert(failed == 0);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static uint64_t system_now(void *ctx)
{
    return read_clock(CLOCK_MONOTONIC);
}

static uint64_t system_wall(void *ctx)
{
    return read_clock(CLOCK_REALTIME);
}

static void system_entropy(void *ctx, void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        if (got < 0) {
            rb_assert(errno == EINTR); /* invariant 3 */
            continue;
        }
        at += got;
        len -= (size_t)got;
    }
}

void rb_env_init_system(struct rb_env *env)
{
    *env = (struct rb_env){
        .now_ns = system_now,
        .wall_ns = system_wall,
        .entropy = system_entropy,
    };
    uint64_t seed;
    system_entropy(NULL, &seed, sizeof(seed));
    rb_env_seed(env, seed);
}

void rb_env_seed(struct rb_env *env, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t mixed = seed;
        mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
        env->random_state[i] = mixed ^ mixed >> 31;
    }
}

/* The high half of random * bound is nearly uniform; the low half tells the few draws that would
 * favour some results (Lemire 2019, "Fast random integer generation in an interval"). */
uint32_t rb_env_below(struct rb_env *env, uint32_t bound)
{
    rb_assert(bound > 0);
    uint64_t product = (rb_env_random(env) >> 32) * bound;
    if ((uint32_t)product < bound) {
        uint32_t unfair = -bound % bound; /* 2^32 mod bound */
        while ((uint32_t)product < unfair) {
            product = (rb_env_random(env) >> 32) * bound;
        }
    }
    return (uint32_t)(product >> 32);
}
