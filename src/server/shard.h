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

/** The version of nats-server that clients are told, because they switch features on by it. */
#define RB_NATS_VERSION "2.15.1"
#define RB_RUNTIME "c17" /* "go" of INFO and /varz */

struct rb_auth_hook;
struct rb_closed;
struct rb_events;
struct rb_jetstream;
struct rb_jetstream_part;
struct rb_node;
struct rb_process_usage;
struct rb_services;
struct rb_shard;

/** What all shards of a node read, and the few numbers they share. Written before the shards start. */
struct rb_node_shared {
    struct rb_node *node; /* NULL: shards without one (the simulator) */
    /** Wakes a shard from any thread; NULL: nobody sleeps. */
    void (*wake)(void *ctx, uint32_t shard);
    void *wake_ctx;
    const struct rb_config *config; /* the one at start: read while shards are made, never later */
    struct rb_log *log;
    struct rb_mail *mail;
    struct rb_work *work;
    struct rb_auth_hook *auth_hook;    /* NULL: none */
    struct rb_core_settings *settings; /* at start */
    struct rb_account_table *accounts;
    uint32_t shard_count;
    char server_id[64];
    char server_name[256];
    uint64_t start_wall_ns;
    _Atomic uint32_t port, ws_port; /* bound; 0 before */
    _Atomic uint64_t next_cid;
    _Atomic int64_t conn_count; /* open client connections of the node */
    _Atomic uint64_t tls_rate;
    _Atomic uint64_t event_seq; /* of events and answers of the system account */
    _Atomic(const struct rb_core_stats *) stats[RB_SHARDS_MAX];
    struct rb_jetstream *jetstream; /* NULL: it is off */
    struct rb_services *services;   /* NULL (simulator): what needs the whole node is refused */
    /* NULL: not measured. Thread: shard 0. */
    void (*process_usage)(struct rb_process_usage *usage, uint64_t now_ns);
    uint32_t core_count;
    _Atomic uint8_t listener_types[RB_LISTENERS_MAX];
    _Atomic uint32_t
        stopping; /* 1: close everything; set by any thread, then every shard is woken */
};

/** Something to be done on a shard's thread between two turns. Memory is the poster's until `run`, then `run`'s to deal with. */
struct rb_task {
    struct rb_task *next;
    void (*run)(struct rb_shard *shard, struct rb_task *task);
};

struct rb_shard_options {
    uint32_t index;
    struct rb_node_shared *shared;
    struct rb_env *env;             /* lives longer than the shard */
    struct rb_transport *transport; /* same */
    struct rb_budget *budget;       /* same */
};

RB_MUST_CHECK enum rb_err rb_shard_create(const struct rb_shard_options *options,
                                          struct rb_shard **ret_shard);
/**
 * JetStream of this shard from now on; it stays the caller's, and lives longer than the shard's last turn. Before the first turn.
 */
void rb_shard_set_jetstream(struct rb_shard *shard, struct rb_jetstream_part *part);
struct rb_jetstream_part *rb_shard_jetstream(const struct rb_shard *shard); /* NULL: none */
/** After it stopped: takes no tasks any more, and runs those that wait. */
void rb_shard_close(struct rb_shard *shard);
/** After it stopped (rb_shard_stopped). Asserts that every pool is full again. */
void rb_shard_destroy(struct rb_shard *shard);
/** Posts a task; any thread. The caller wakes the shard. False when the shard has stopped: `run` will not be called. */
bool rb_shard_post(struct rb_shard *shard, struct rb_task *task);
/**
 * Puts new settings in force (takes their count): accounts, connections, what new ones are told. One shard of a node at a
 * time. RB_ERR_MEMORY: some imports are missing. On the shard's thread, as all that follow.
 */
RB_MUST_CHECK enum rb_err rb_shard_apply(struct rb_shard *shard,
                                         const struct rb_core_settings *settings);
/** Shard 0 binds the listeners before the first turn. `type`: RB_TYPE_STANDARD or RB_TYPE_WEBSOCKET; `unix_path` NULL: TCP. *ret_addr is what was bound. */
RB_MUST_CHECK enum rb_err rb_shard_listen(struct rb_shard *shard, const struct rb_addr *addr,
                                          const char *unix_path, uint32_t type,
                                          struct rb_addr *ret_addr);
/** Closes the listeners; connections stay. */
void rb_shard_unlisten(struct rb_shard *shard);
/** One turn. Waits at most `timeout_max_ns` (-1: until there is work, 0: not at all). True if it did work. */
bool rb_shard_turn(struct rb_shard *shard, int64_t timeout_max_ns);
/** `stopping` was seen, JetStream is closed (or was given up: rb_shard_gave_up) and the last connection, too. */
bool rb_shard_stopped(const struct rb_shard *shard);
/** JetStream did not close in time: its disk hangs. Neither it nor the shard can be freed. */
bool rb_shard_gave_up(const struct rb_shard *shard);
const struct rb_core_stats *rb_shard_stats(const struct rb_shard *shard);
/** Subscriptions of an account, for checkers in the same thread; NULL: it has none. */
const struct rb_sublist *rb_shard_sublist(const struct rb_shard *shard, uint32_t account);
/** For checkers in the same thread, and for tasks. */
struct rb_core *rb_shard_core(struct rb_shard *shard);
/** Connections that ended, the last ones. */
const struct rb_closed *rb_shard_closed(const struct rb_shard *shard);
struct rb_events *rb_shard_events(struct rb_shard *shard);
uint32_t rb_shard_index(const struct rb_shard *shard);
