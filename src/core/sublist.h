/* sublist.h - subject -> who wants it, on one shard: own subscriptions and the interest of other shards.
 *
 * Literal subjects sit in a hash map, wildcards in a token trie; results of matching are cached and
 * invalidated per affected subject (docs/sharding.md, "The match cache"). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/mem.h"
#include "ringbus/slice.h"

struct rb_sublist;
struct rb_sub_node;

/** Embedded in a subscription by its owner; the sublist's to change while it is in the list. */
struct rb_sub_ref {
    struct rb_sub_node *node; /* lowest bit set: a queue group instead; NULL once removed */
    uint32_t index;           /* in the node's (or its group's) array */
};

/** Interest of other shards in one queue name. */
struct rb_remote_weight {
    uint32_t shard, weight;
};

struct rb_match_group {
    struct rb_slice queue;    /* borrowed from the sublist */
    struct rb_sub_ref **subs; /* local members */
    uint32_t sub_count;
    struct rb_remote_weight *remotes;
    uint32_t remote_count;
    uint32_t weight; /* local members plus remote weights */
};

/** Valid until the next change of the sublist (tried, even if refused) or the next match. */
struct rb_match {
    struct rb_sub_ref **plain;
    uint32_t plain_count;
    uint32_t group_count;
    struct rb_match_group *groups;
    uint64_t remote_plain; /* shards with a plain subscription that matches */
};

/** What a change means for the other shards: tell them when `tell` is set. */
struct rb_interest_change {
    bool tell;       /* plain: first came or last went; queue: the weight changed */
    uint32_t weight; /* local members now (plain: 1 or 0) */
};

RB_MUST_CHECK enum rb_err rb_sublist_create(struct rb_budget *budget, uint32_t shard_count,
                                            struct rb_sublist **ret_sublist);
void rb_sublist_destroy(struct rb_sublist *sublist);

/** `subject` must be valid (rb_subject_valid_sub); `queue` empty for a plain one. RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_sublist_add(struct rb_sublist *sublist, struct rb_slice subject,
                                         struct rb_slice queue, struct rb_sub_ref *ref,
                                         struct rb_interest_change *ret_change);
/** Subject and queue of a subscription that is in the list; borrowed until it is removed. */
struct rb_slice rb_sublist_subject(const struct rb_sub_ref *ref);
struct rb_slice rb_sublist_queue(const struct rb_sub_ref *ref);
/** The slices of subject and queue stay readable in *ret_ until the next call on the sublist. */
void rb_sublist_remove(struct rb_sublist *sublist, struct rb_sub_ref *ref,
                       struct rb_interest_change *ret_change);
/** Somebody, here or on another shard, subscribed to this very subject: in queue group `queue`, or plainly when that is empty. */
bool rb_sublist_has(const struct rb_sublist *sublist, struct rb_slice subject,
                    struct rb_slice queue);
/** Sets what `shard` wants: weight 0 withdraws. Plain interest has weight 1. RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_sublist_remote(struct rb_sublist *sublist, struct rb_slice subject,
                                            struct rb_slice queue, uint32_t shard, uint32_t weight);
/**
 * Who gets a message on literal `subject`. Never NULL; with an empty token nobody does.
 * Errors: none. A spent budget only means that the result is not cached; when the allocator itself
 *         refuses scratch memory the process ends (an assertion).
 */
const struct rb_match *rb_sublist_match(struct rb_sublist *sublist, struct rb_slice subject);

/**
 * Kept by a caller that tends to repeat a subject (one per publisher), zeroed at first. It names a
 * place in the cache, which is checked like any other: an outdated or foreign hint is harmless.
 */
struct rb_match_hint {
    uint32_t slot;
};
/** Like rb_sublist_match(), without hashing when `hint` is right. Sets `hint` for the next time. */
const struct rb_match *rb_sublist_match_hinted(struct rb_sublist *sublist, struct rb_slice subject,
                                               struct rb_match_hint *hint);

/** Counts for monitoring and checks. */
struct rb_sublist_stats {
    uint64_t sub_count, node_count, insert_count, remove_count, match_count, cache_hit_count,
        cache_count;
};
void rb_sublist_stats(const struct rb_sublist *sublist, struct rb_sublist_stats *ret_stats);

/** Receivers (plain ones, and a group as one) of the results in the cache: the most, the sum, and how many results. */
void rb_sublist_fanout(const struct rb_sublist *sublist, uint32_t *ret_max, uint64_t *ret_sum,
                       uint64_t *ret_count);

/** Visits every (subject, queue): local members and the remote weight of each shard. For checkers. */
typedef void (*rb_sublist_visit)(void *ctx, struct rb_slice subject, struct rb_slice queue,
                                 uint32_t local, const uint32_t *remote_weight);
void rb_sublist_each(const struct rb_sublist *sublist, rb_sublist_visit visit, void *ctx);
