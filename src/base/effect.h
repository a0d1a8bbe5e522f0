/* effect.h - what a step asks for. The request is embedded in its owner, so its room is reserved
 * before the step begins and no step can stop half-way: asking twice only sets another bit. */
#pragma once

#include <stdint.h>

#include "base/list.h"

struct rb_effects {
    struct rb_list wanted; /* owners in the order of their first request */
};

struct rb_effect {
    struct rb_list link;
    uint32_t bits;
};

static inline void rb_effects_init(struct rb_effects *effects)
{
    rb_list_init(&effects->wanted);
}

static inline void rb_effect_init(struct rb_effect *effect)
{
    rb_list_init(&effect->link);
    effect->bits = 0;
}

/** Asks for `bits`; the owner is visited once by the next rb_effects_next() loop. */
static inline void rb_effects_want(struct rb_effects *effects, struct rb_effect *effect,
                                   uint32_t bits)
{
    if (effect->bits == 0) {
        rb_list_append(&effects->wanted, &effect->link);
    }
    effect->bits |= bits;
}

/** Takes the next owner and its bits; NULL when nothing is wanted. */
static inline struct rb_effect *rb_effects_next(struct rb_effects *effects, uint32_t *ret_bits)
{
    struct rb_list *link = rb_list_pop(&effects->wanted);
    if (link == NULL) {
        return NULL;
    }
    struct rb_effect *effect = RB_CONTAINER(link, struct rb_effect, link);
    *ret_bits = effect->bits;
    effect->bits = 0;
    return effect;
}

/** Withdraws every request of an owner that ends. */
static inline void rb_effect_cancel(struct rb_effect *effect)
{
    rb_list_remove(&effect->link);
    effect->bits = 0;
}
