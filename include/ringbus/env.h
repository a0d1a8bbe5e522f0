/* env.h - seam: clock and random. One per shard; the only way either enters the core. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct rb_env {
    uint64_t (*now_ns)(void *ctx);                     /* monotonic */
    uint64_t (*wall_ns)(void *ctx);                    /* since 1970-01-01 UTC */
    void (*entropy)(void *ctx, void *out, size_t len); /* unpredictable in production */
    void *ctx;
    uint64_t random_state[4]; /* xoshiro256**, seeded by rb_env_seed() */
};

/** The machine's clocks and getrandom(2); seeds the generator. */
void rb_env_init_system(struct rb_env *env);
/** Seeds the generator; equal seeds give equal sequences. */
void rb_env_seed(struct rb_env *env, uint64_t seed);

/** Fast, not for secrets. Source: Blackman and Vigna, xoshiro256**. */
static inline uint64_t rb_env_random(struct rb_env *env)
{
    uint64_t *s = env->random_state;
    uint64_t scaled = s[1] * 5;
    uint64_t result = (scaled << 7 | scaled >> 57) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

/** Uniform in [0, bound); bound > 0. */
uint32_t rb_env_below(struct rb_env *env, uint32_t bound);

static inline uint64_t rb_env_now(struct rb_env *env)
{
    return env->now_ns(env->ctx);
}
