/* top.h - which subjects carry most messages, from one message in RB_TOP_SAMPLE: a small table that keeps the heaviest.
 * Source: Metwally et al., "Efficient Computation of Frequent and Top-k Elements" (Space-Saving). */
#pragma once

#include <stdint.h>

#include "ringbus/slice.h"

#define RB_TOP_SAMPLE 64 /* a power of two */
#define RB_TOP_ENTRIES 64
#define RB_TOP_SUBJECT_MAX 100 /* longer ones are cut */

struct rb_top_entry {
    uint64_t hash, msgs, bytes; /* of samples */
    uint32_t account;           /* id */
    uint8_t subject_len;
    uint8_t subject[RB_TOP_SUBJECT_MAX];
};

struct rb_top {
    struct rb_top_entry entries[RB_TOP_ENTRIES];
    uint32_t count;
};

/** One sampled message. */
void rb_top_add(struct rb_top *top, uint32_t account, struct rb_slice subject, uint64_t bytes);
