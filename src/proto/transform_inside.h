/* transform_inside.h - what a compiled transform is made of; for transform.c and transform_apply.c only. */
#pragma once

#include "proto/transform.h"
#include "ringbus/bounds.h"

/** What writes one token of the result, or several. */
enum rb_transform_kind {
    RB_STEP_LITERAL,    /* `text` */
    RB_STEP_TOKEN,      /* subject token `token` */
    RB_STEP_PARTITION,  /* hash of `index_count` tokens, or of the whole subject, modulo `number` */
    RB_STEP_RANDOM,     /* 0 .. number - 1 */
    RB_STEP_SPLIT,      /* `token` split at `text` */
    RB_STEP_SPLIT_LEFT, /* `token` cut in two, `number` bytes from the left ... */
    RB_STEP_SPLIT_RIGHT,
    RB_STEP_SLICE_LEFT, /* `token` in pieces of `number` bytes, the odd one last ... */
    RB_STEP_SLICE_RIGHT,
    RB_STEP_LEFT, /* the first `number` bytes of `token` ... */
    RB_STEP_RIGHT,
    RB_STEP_REST, /* the subject's tokens from `token` on */
};

struct rb_transform_step {
    enum rb_transform_kind kind;
    int32_t number;
    uint16_t token;                    /* place in the subject, from 0 */
    uint16_t index_first, index_count; /* of transform->indexes */
    struct rb_slice text;              /* borrowed from the transform's own text */
};

struct rb_transform {
    struct rb_slice source, destination;
    const struct rb_slice *tokens; /* of the source; a last '>' is not among them */
    const struct rb_transform_step *steps;
    const uint16_t *indexes; /* token places for partitions */
    uint32_t token_count, step_count;
    uint64_t stars[(RB_SUBJECT_TOKENS_MAX + 63) / 64]; /* bit per token: it is '*' */
    bool tail;                                         /* the source ends in '>' */
    bool identity;                                     /* the destination is empty */
};

static inline bool rb_transform_is_star(const struct rb_transform *transform, uint32_t token)
{
    return (transform->stars[token / 64] >> token % 64 & 1) != 0;
}
