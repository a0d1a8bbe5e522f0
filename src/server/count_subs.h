/* count_subs.h - how many subscriptions of clients want a subject, over all shards ($SYS.DEBUG.SUBSCRIBERS). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "auth/policy.h"
#include "ringbus/errors.h"
#include "ringbus/slice.h"

struct rb_node;

#define RB_COUNT_SUBJECT_MAX 4096

struct rb_count_question {
    uint32_t account; /* id */
    bool queued;      /* only this queue group */
    bool wildcard;    /* `subject` is a pattern: subscriptions within it count */
    char subject[RB_COUNT_SUBJECT_MAX], queue[RB_COUNT_SUBJECT_MAX];
};

/** "subject" or "subject queue". False: too long. */
bool rb_count_from_text(struct rb_slice body, uint32_t account, struct rb_count_question *question);
/** {"acc":...,"subject":...,"queue":base64}. False: nothing to answer. */
bool rb_count_from_json(struct rb_slice body, const struct rb_policy *policy,
                        struct rb_count_question *question);
/** Thread: any but a shard's. */
enum rb_err rb_count_subs(struct rb_node *node, const struct rb_count_question *question,
                          int64_t timeout_ns, uint64_t *ret_count);
