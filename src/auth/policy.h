/* policy.h - who may connect and what they may do, as the configuration says it (docs/identities.md).
 *
 * 1. A policy is immutable once it is sealed, counted by atomic references, and read by every shard. A reload makes a
 *    new one; the old one lives until its last user is gone.
 * 2. All slices and arrays lie in the policy's own arena.
 * 3. Account ids are given by the node and stay the same across reloads for the same name: id 0 is "$G", id 1 the
 *    system account.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/mem.h"
#include "ringbus/slice.h"

/** Of users' allowed_connection_types: bits. */
enum {
    RB_TYPE_STANDARD = 1,
    RB_TYPE_WEBSOCKET = 2,
    RB_TYPE_LEAFNODE = 4,
    RB_TYPE_LEAFNODE_WS = 8,
    RB_TYPE_MQTT = 16,
    RB_TYPE_MQTT_WS = 32,
    RB_TYPE_IN_PROCESS = 64,
    RB_TYPE_ALL = 127,
};

/** "subject" or "subject queue" of a permission list. */
struct rb_perm_entry {
    struct rb_slice subject, queue; /* queue: empty, or a pattern */
};

/** `set` and empty: nothing matches. Not `set`: the list was not given. */
struct rb_perm_list {
    const struct rb_perm_entry *entries;
    uint32_t count;
    bool set;
};

struct rb_permissions {
    struct rb_perm_list publish_allow, publish_deny, subscribe_allow, subscribe_deny;
    bool responses; /* allow_responses: then publish_allow is `set`, if only as an empty list */
    int64_t responses_max;    /* messages per reply subject; -1: no limit */
    int64_t responses_ttl_ns; /* -1: no limit */
};

struct rb_policy_user {
    struct rb_slice name; /* empty for an nkey user */
    struct rb_slice pass; /* plain, or bcrypt ($2a$, $2b$, $2x$, $2y$); empty: only by TLS map */
    struct rb_slice nkey; /* "U..." public key; empty for a named user */
    uint32_t account;     /* index in policy->accounts */
    uint32_t types;       /* RB_TYPE_*; RB_TYPE_ALL when not restricted */
    const struct rb_permissions
        *permissions; /* NULL: everything; default_permissions are filled in */
    bool proxy_required;
};

/** -1: no limit. */
struct rb_account_limits {
    int64_t connections, subscriptions, payload, leafnodes;
};

enum rb_response_type { RB_RESPONSE_SINGLE, RB_RESPONSE_STREAM, RB_RESPONSE_CHUNKED };

struct rb_export {
    bool service; /* else stream */
    struct rb_slice subject;
    const uint32_t *accounts; /* indexes of those that may import */
    uint32_t account_count;
    bool restricted;                 /* `accounts` was given, or account_token_position is */
    uint32_t account_token_position; /* 1-based; 0: none */
    enum rb_response_type response;
    int64_t threshold_ns; /* 0: 2 minutes */
    bool allow_trace;
    struct rb_slice latency_subject; /* empty: not measured */
    int32_t latency_sampling;        /* percent; 0: by headers */
};

struct rb_import {
    bool service;
    uint32_t account;        /* index of the exporting account */
    struct rb_slice subject; /* in the exporting account */
    struct rb_slice
        to; /* in the importing account: empty: as `subject`; may be a transform's destination */
    struct rb_slice prefix; /* streams only: put in front, with a dot */
    bool share, allow_trace;
};

struct rb_mapping_target {
    struct rb_slice subject;
    uint32_t weight;         /* percent */
    struct rb_slice cluster; /* empty: everywhere */
};

struct rb_mapping {
    struct rb_slice source;
    const struct rb_mapping_target *targets;
    uint32_t target_count;
};

/** JetStream of an account; -1: no limit. */
struct rb_policy_jetstream {
    int64_t max_memory, max_storage, max_streams, max_consumers, max_ack_pending;
    int64_t memory_max_stream_bytes, storage_max_stream_bytes;
    bool max_bytes_required;
};
#define RB_POLICY_JETSTREAM_UNLIMITED                                                              \
    {                                                                                              \
        -1, -1, -1, -1, -1, -1, -1, false                                                          \
    }

struct rb_policy_account {
    struct rb_slice name, nkey;
    uint32_t id; /* given by the node, see invariant 3; UINT32_MAX before */
    struct rb_account_limits limits;
    const struct rb_policy_jetstream *jetstream; /* NULL: off */
    const struct rb_export *exports;
    const struct rb_import *imports;
    const struct rb_mapping *mappings;
    uint32_t export_count, import_count, mapping_count;
    struct rb_slice trace_destination; /* msg_trace */
    int32_t trace_sampling;            /* percent */
};

/** Credentials of one listener: the global ones, or those of a websocket block that has its own. */
struct rb_policy_login {
    struct rb_slice user, pass, token; /* single user, or token; pass and token plain or bcrypt */
    int32_t no_auth_user;              /* index in policy->users; -1: none */
    int64_t timeout_ns;
    bool invented;  /* no_auth_user is none of the file's; INFO asks for a login all the same */
    bool overrides; /* false: the listener follows the global login */
};

/** Names to indexes, made by rb_policy_seal: open addressing; a slot is index + 1, 0 when empty. */
struct rb_policy_index {
    const uint32_t *slots;
    uint32_t mask; /* slots: a power of two, at most half full */
};

/** A user whose name is a distinguished name, made by rb_policy_seal: sorted by hash, then by user. */
struct rb_policy_dn {
    uint64_t hash; /* rb_dn_hash: the same for every order of the RDNs */
    uint32_t user; /* index in policy->users */
};

struct rb_policy {
    _Atomic uint32_t ref_count;
    struct rb_arena *arena; /* this struct lies in it as well */
    const struct rb_policy_account
        *accounts; /* [0] "$G", [1] the system account (absent: no_system_account) */
    uint32_t account_count;
    int32_t system_account; /* index; -1: none */
    const struct rb_policy_user *users;
    uint32_t user_count;
    uint32_t nkey_count; /* of the users, those with an nkey; counted by rb_policy_seal */
    struct rb_policy_login login, websocket_login;
    /* Of `authorization`, or NULL. Filled into users by the configuration; nats-server gives it neither to the
     * single user nor to a token (tried), and so do we. */
    const struct rb_permissions *default_permissions;
    bool proxy_required; /* of `authorization`: for the single user and the token */
    /* Trusted proxies: public keys "X..."/"U..."; a connection that brings a proxy signature is checked against them. */
    const struct rb_slice *proxies;
    uint32_t proxy_count;
    bool tls_map;           /* tls { verify_and_map } of the client listener */
    bool websocket_tls_map; /* of the websocket listener */
    bool custom;            /* an embedding program's callback decides alone */
    bool plain_passwords;   /* somewhere a secret is not bcrypt: warned of at start */

    /* Made by rb_policy_seal. */
    struct rb_policy_index user_index, nkey_index, account_index;
    const struct rb_policy_dn *dns; /* with a TLS map only */
    uint32_t dn_count;
    struct rb_slice
        slow_secret; /* the costliest bcrypt hash among the users' passwords; empty: none */
    bool sealed;
};

/**
 * An empty policy with one count, no accounts, no login and no limits, in an arena of its own; fill it, then seal it.
 * RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_policy_create(struct rb_policy **ret_policy);
/**
 * Builds the indexes; once, when everything else is in place. From then on nothing changes. Of users or accounts with the
 * same name, which the configuration refuses, the first is found. RB_ERR_MEMORY: release the policy.
 */
RB_MUST_CHECK enum rb_err rb_policy_seal(struct rb_policy *policy);

static inline const struct rb_policy *rb_policy_hold(const struct rb_policy *policy)
{
    atomic_fetch_add_explicit(&((struct rb_policy *)(uintptr_t)policy)->ref_count, 1,
                              memory_order_relaxed);
    return policy;
}
/** NULL is allowed. Any thread. */
void rb_policy_release(const struct rb_policy *policy);
/** True when clients of a listener must prove who they are (auth_required in INFO; no_auth_user is looked at by the caller). */
bool rb_policy_auth_required(const struct rb_policy *policy, bool websocket);
/** True when INFO must carry a nonce. */
bool rb_policy_nonce_required(const struct rb_policy *policy);
/** NULL when unknown. The policy is sealed, as for all look-ups. Names are not secret: no care about time is taken. */
const struct rb_policy_user *rb_policy_user_by_name(const struct rb_policy *policy,
                                                    struct rb_slice name);
const struct rb_policy_user *rb_policy_user_by_nkey(const struct rb_policy *policy,
                                                    struct rb_slice nkey);
/** Of users with a distinguished name as their name: those of equal hash, from *ret_count on. For tlsmap.c. */
const struct rb_policy_dn *rb_policy_dns_of(const struct rb_policy *policy, uint64_t hash,
                                            uint32_t *ret_count);
/** True when some listener's TLS map could choose this user: without a password it is an identity of certificates only. */
bool rb_policy_user_mappable(const struct rb_policy *policy, const struct rb_policy_user *user);
/** Index in policy->accounts; -1 when unknown. */
int32_t rb_policy_account_by_name(const struct rb_policy *policy, struct rb_slice name);
/** JetStream of an account; NULL: it has none. As with nats-server "$G" has it without being asked when it is alone, and the system account never. */
const struct rb_policy_jetstream *rb_policy_jetstream_of(const struct rb_policy *policy,
                                                         uint32_t index);
