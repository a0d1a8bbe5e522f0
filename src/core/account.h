/* account.h - one shard's part of an account: its subscriptions, and what it exchanges with other accounts
 * (docs/identities.md). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "core/core.h"

struct rb_mappings;
struct rb_transform;

/** Queue name of specials that are taken on the publishing shard only: a blank, which no client can write. */
#define RB_LOCAL_QUEUE RB_S(" ")

/** A stream that this account imports. */
struct rb_stream_import {
    uint32_t from;             /* account id */
    struct rb_slice local;     /* pattern in this account; in the account's arena, as all below */
    struct rb_slice subject;   /* pattern in the exporting account */
    struct rb_transform *into; /* exporter's subject -> local; NULL: the same */
    struct rb_transform *back; /* local pattern -> exporter's; NULL: the same */
    bool allow_trace;
};

/** A service that this account imports: sits in its sublist. */
struct rb_service_import {
    struct rb_special special; /* local */
    uint32_t to;               /* account id */
    struct rb_transform *into; /* local subject -> exporter's; NULL: the same */
    const struct rb_import *policy;
    const struct rb_export *exported; /* NULL: the exporter's default */
};

struct rb_account {
    struct rb_core *core;
    uint32_t id;
    struct rb_slice name; /* allocated; empty until the policy names it */
    const struct rb_policy_account
        *policy;                /* in the core's policy; NULL: the configuration does not have it */
    struct rb_sublist *sublist; /* made on first use; NULL: nobody wants anything */
    struct rb_list conns;
    struct rb_arena *arena; /* of imports; made anew by a reload */
    struct rb_stream_import *streams;
    struct rb_service_import *services;
    uint32_t stream_count, service_count;
    struct rb_mappings *mappings; /* NULL: none */
    struct rb_special
        *responses;      /* "_R_.<shard>.>", when a service of this account was called from here */
    bool watch_interest; /* hooks.interest is called */
    struct rb_map shadows; /* of this account's subscriptions, by their address */
    struct rb_account_shared *shared;
    struct rb_account *next_part; /* the same account on another shard; set before it is seen */
    /* Single writer; any thread may read. */
    struct rb_counter conn_count, conns_total, sub_count, in_msgs, in_bytes, out_msgs, out_bytes,
        slow_consumers;
};

/** The account with that id on this shard, made when needed. NULL: memory refused, or the id is unknown to the node. */
struct rb_account *rb_account_get(struct rb_core *core, uint32_t id);
/** Sums of the counters that an account's parts on all shards keep. */
struct rb_account_sum {
    uint64_t conns_total, subs, in_msgs, in_bytes, out_msgs, out_bytes, slow_consumers;
};
/** Thread: any shard's, while no shard has ended. */
void rb_account_sum(const struct rb_account_shared *shared, struct rb_account_sum *ret_sum);
/** By name; NULL: not on this shard. */
struct rb_account *rb_account_find(struct rb_core *core, struct rb_slice name);
/** Of an index in the core's policy. NULL: memory refused. */
struct rb_account *rb_account_of_policy(struct rb_core *core, uint32_t index);
/** The system account, or NULL. */
struct rb_account *rb_account_system(struct rb_core *core);
bool rb_account_is_system(const struct rb_account *account);
/**
 * Gives every account of the core's policy its imports and mappings. `before`: the policy that was in force and still
 * lives; NULL at start. Accounts go on after one that failed. RB_ERR_MEMORY: some imports or mappings are missing.
 */
RB_MUST_CHECK enum rb_err rb_accounts_apply(struct rb_core *core, const struct rb_policy *before);
/** Frees all; no connection is left. */
void rb_accounts_deinit(struct rb_core *core);

/** Adds to the account's sublist, tells other shards, makes shadows where the account imports. RB_ERR_MEMORY: nothing was added. */
RB_MUST_CHECK enum rb_err rb_account_subscribe(struct rb_account *account, struct rb_slice subject,
                                               struct rb_slice queue, struct rb_sub *sub);
/** The reverse; `sub` is the caller's again. */
void rb_account_unsubscribe(struct rb_account *account, struct rb_sub *sub);
/** A subscription of the server's own; `special` stays the caller's. */
RB_MUST_CHECK enum rb_err rb_account_listen(struct rb_account *account, struct rb_slice subject,
                                            struct rb_special *special);
void rb_account_unlisten(struct rb_account *account, struct rb_special *special);

/** Of another shard's. */
void rb_account_remote(struct rb_core *core, uint32_t id, struct rb_slice subject,
                       struct rb_slice queue, uint32_t shard, uint32_t weight);

/** Publishes as the server itself, in `account`. True if anybody got it. `header_len` bytes of payload are headers. */
bool rb_account_publish(struct rb_account *account, struct rb_slice subject, struct rb_slice reply,
                        uint32_t header_len, struct rb_slice payload);
/**
 * Publishes as the server itself to whoever subscribed to `to`: plain ones, one member of each queue group, on every shard, across
 * imports. They are shown `subject` (empty: `to`). True if anybody got it.
 */
bool rb_account_deliver(struct rb_account *account, struct rb_slice to, struct rb_slice subject,
                        struct rb_slice reply, uint32_t header_len, struct rb_slice payload);
/** True when somebody, anywhere on this node, would get a message on `subject`. */
bool rb_account_wanted(struct rb_account *account, struct rb_slice subject);

/** A subscription in the exporting account on behalf of an importer's. */
struct rb_shadow {
    struct rb_sub sub; /* of the exporter's sublist; its conn is the importer's */
    struct rb_sub *of;
    struct rb_shadow *next; /* of the same subscription */
    struct rb_account *in;  /* the exporting account */
    const struct rb_stream_import *import;
};
/** The message's subject as the importer sees it; 0: does not fit. */
size_t rb_shadow_subject(const struct rb_shadow *shadow, struct rb_slice subject, uint8_t *out,
                         size_t cap);

/** Client info as a JSON object (nats-server's ClientInfo); `detailed`: everything, else account and rtt. Returns its length, 0 if it does not fit. */
size_t rb_conn_client_info(const struct rb_conn *conn, bool detailed, uint8_t *out, size_t cap);
