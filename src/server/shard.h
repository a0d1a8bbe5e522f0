/* shard.h - one reactor: connections, subscriptions and mail of one core. The turn: poll, mail, step, flush. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/core.h"
#include "ringbus/env.h"
#include "ringbus/log.h"
#include "ringbus/metric.h"
#include "ringbus/transport.h"
#include "server/config.h"
#include "server/mailbox.h"

/** What all shards of a node read, and the few numbers they share. Written before the shards start. */
/** The version of nats-server that clients are told, because they switch features on by it. */
#define RB_NATS_VERSION "2.15.1"

struct rb_node_shared {
    const struct rb_config *config;
    struct rb_log *log;
    struct rb_mail *mail;
    uint32_t shard_count;
    char server_id[64];
    char server_name[256];
    char info_host[256];
    uint32_t info_port;    /* told to clients instead of the bound one; 0: the bound one */
    _Atomic uint32_t port; /* bound; 0 before */
    _Atomic uint64_t next_cid;
    _Atomic int64_t conn_count; /* open client connections of the node */
    _Atomic uint32_t
        stopping; /* 1: close everything; set by any thread, then every shard is woken */
};

struct rb_shard;
struct rb_shard_options {
    uint32_t index;
    struct rb_node_shared *shared;
    struct rb_env *env;             /* lives longer than the shard */
    struct rb_transport *transport; /* same */
    struct rb_budget *budget;       /* same */
};

RB_MUST_CHECK enum rb_err rb_shard_create(const struct rb_shard_options *options,
                                          struct rb_shard **ret_shard);
/** After it stopped (rb_shard_stopped). Asserts that every pool is full again. */
void rb_shard_destroy(struct rb_shard *shard);
/** Shard 0 binds the client listener before the first turn. *ret_addr is what was bound. */
RB_MUST_CHECK enum rb_err rb_shard_listen(struct rb_shard *shard, const struct rb_addr *addr,
                                          struct rb_addr *ret_addr);
/** One turn. Waits at most `timeout_max_ns` (-1: until there is work, 0: not at all). True if it did work. */
bool rb_shard_turn(struct rb_shard *shard, int64_t timeout_max_ns);
/** `stopping` was seen and the last connection is closed. */
bool rb_shard_stopped(const struct rb_shard *shard);
const struct rb_core_stats *rb_shard_stats(const struct rb_shard *shard);
/** For checkers in the same thread. */
const struct rb_sublist *rb_shard_sublist(const struct rb_shard *shard);
