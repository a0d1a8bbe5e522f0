/* node.h - one server: its shards, their threads, its settings. Nothing of the process around it (start.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/log.h"
#include "ringbus/transport.h"
#include "server/config.h"
#include "server/config_diff.h"

struct rb_core_stats;
struct rb_node;
struct rb_node_shared;
struct rb_auth_hook;
struct rb_budget;
struct rb_core_settings;
struct rb_core_stats;
struct rb_pipe;
struct rb_task;

#define RB_NODE_ERROR_MAX RB_CONFIG_ERROR_MAX

/** What surrounds a node: the program, or an embedding one. Any may be NULL. */
struct rb_node_host {
    void *ctx;
    /** Reads the configuration again; *ret_config is sealed. Without it a reload needs a configuration to be given. */
    enum rb_err (*load)(void *ctx, const struct rb_config *running, struct rb_config *ret_config,
                        char error[RB_CONFIG_ERROR_MAX]);
    /** Does what a reload changes outside of the node and what may fail; the last thing that may. Then all stays as it was. */
    enum rb_err (*prepare)(void *ctx, const struct rb_config *running,
                           const struct rb_config *wanted, const struct rb_config_changes *changes,
                           char error[RB_CONFIG_ERROR_MAX]);
    /** The reload is done: gives up what only the old configuration wanted. */
    void (*applied)(void *ctx, const struct rb_config *before, const struct rb_config *now,
                    const struct rb_config_changes *changes);
    /**
     * Inside rb_node_open: the shards run, clients cannot connect yet, and for long not when JetStream has much to recover. An error
     * ends the start.
     */
    enum rb_err (*up)(void *ctx, char error[RB_NODE_ERROR_MAX]);
    /** The server has ended by itself (lame duck). Called once, on a thread of the node: must not stop it, only tell. */
    void (*ended)(void *ctx);
};

struct rb_node_options {
    const struct rb_config *config; /* sealed; copied */
    struct rb_log *log;             /* lives longer than the node */
    struct rb_auth_hook *
        hook; /* an embedding program's decision about clients; NULL: none. Lives longer than the node */
    bool in_process; /* rb_node_connect will be used; else shards pay nothing for it */
    struct rb_node_host host;
};

/**
 * Everything of a server that needs no thread and no listener: it has its id, and its certificates are read. `error` says
 * what is wrong; then nothing is left behind. Thread: any.
 * Errors: RB_ERR_UNSUPPORTED, RB_ERR_MEMORY, RB_ERR_LIMIT, RB_ERR_INVALID (certificates).
 */
RB_MUST_CHECK enum rb_err rb_node_create(const struct rb_node_options *options,
                                         struct rb_node **ret_node, char error[RB_NODE_ERROR_MAX]);
/**
 * Starts threads and listeners. Returns when clients can connect or it has failed; then rb_node_stop is to follow.
 * Errors: RB_ERR_IN_USE, RB_ERR_ADDRESS, RB_ERR_UNSUPPORTED, RB_ERR_MEMORY, RB_ERR_LIMIT.
 */
RB_MUST_CHECK enum rb_err rb_node_open(struct rb_node *node, char error[RB_NODE_ERROR_MAX]);
/** Both; after a failure nothing is left behind. */
RB_MUST_CHECK enum rb_err rb_node_start(const struct rb_node_options *options,
                                        struct rb_node **ret_node, char error[RB_NODE_ERROR_MAX]);
/** Posts `task` to a shard and wakes it; false when the node stops or has ended. Thread: any. */
bool rb_node_post(struct rb_node *node, uint32_t shard, struct rb_task *task);

/**
 * Puts `wanted` (sealed, copied) in force, all of it or nothing (docs/operating.md). Returns when every shard has it.
 * `error` says what is wrong. Thread: any but a shard's; several wait for each other.
 * Errors: RB_ERR_UNSUPPORTED (a change that needs a restart), RB_ERR_INVALID (certificates), RB_ERR_FULL (accounts),
 * RB_ERR_MEMORY, RB_ERR_CANCELED (the node stops), and what the host's prepare() gives.
 */
RB_MUST_CHECK enum rb_err rb_node_reload(struct rb_node *node, const struct rb_config *wanted,
                                         char error[RB_CONFIG_ERROR_MAX]);
/** Waits for a reload that is under way; there will be no other, so the host can take apart what its callbacks use. */
void rb_node_settle(struct rb_node *node);
/** The same with what the host's load() reads; logs a failure as nats-server does. */
RB_MUST_CHECK enum rb_err rb_node_reload_again(struct rb_node *node,
                                               char error[RB_CONFIG_ERROR_MAX]);

/**
 * No new clients, those that are there are told and, after the grace period, closed one by one; then the node ends and tells
 * its host. Returns at once. False: it does so already, or has ended. RB_ERR_LIMIT as false, too: no thread. Thread: any.
 */
bool rb_node_lame_duck(struct rb_node *node);
bool rb_node_in_lame_duck(struct rb_node *node);
/** Clients can connect: not before rb_node_open has done its work, nor in lame duck mode. */
bool rb_node_accepting(struct rb_node *node);
/** The node has ended by itself; only rb_node_stop is left to do. */
bool rb_node_ended(struct rb_node *node);
/** Waits until it ended (RB_OK) or for `timeout_ns` (-1: for ever). RB_ERR_TIMEOUT. Thread: any but the node's. */
RB_MUST_CHECK enum rb_err rb_node_wait(struct rb_node *node, int64_t timeout_ns);

/**
 * Ends a client ("Kicked"), or tells it to go elsewhere. Thread: any but a shard's.
 * Errors, with nats-server's words in `error`: RB_ERR_INVALID (no such client, or it cannot be told), RB_ERR_CANCELED,
 * RB_ERR_TIMEOUT, RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_node_kick(struct rb_node *node, uint64_t cid,
                                       char error[RB_NODE_ERROR_MAX]);
RB_MUST_CHECK enum rb_err rb_node_send_away(struct rb_node *node, uint64_t cid,
                                            char error[RB_NODE_ERROR_MAX]);

/** A connection inside the process. RB_ERR_CANCELED: in lame duck mode, or ended. Other errors: rb_driver_connect. Thread: any. */
RB_MUST_CHECK enum rb_err rb_node_connect(struct rb_node *node, struct rb_pipe **ret_pipe);

/** What the WebSocket listener is bound to; port 0: none. */
const struct rb_addr *rb_node_ws_addr(const struct rb_node *node);
struct rb_node_shared *rb_node_shared(struct rb_node *node);
/** Tells the system account of `event`; returns when every shard has delivered it. Thread: any but a shard's. */
enum rb_node_event { RB_NODE_SHUTDOWN, RB_NODE_LAME_DUCK };
void rb_node_announce(struct rb_node *node, enum rb_node_event event);
/** The configuration in force, with a count of its own until rb_node_config_release. *ret_load_wall_ns may be NULL. Thread: any. */
const struct rb_config *rb_node_config_hold(struct rb_node *node, uint64_t *ret_load_wall_ns);
void rb_node_config_release(const struct rb_config *config); /* NULL is allowed */
/** What the shards are told by it; give it back with rb_core_settings_release. Thread: any. */
const struct rb_core_settings *rb_node_settings_hold(struct rb_node *node);
/** What the client listener is bound to. */
const struct rb_addr *rb_node_addr(const struct rb_node *node);
/** The server's id ("N" and 55 base32 characters). */
const char *rb_node_id(const struct rb_node *node);
const char *rb_node_name(const struct rb_node *node);
/** "uring" or "epoll". */
const char *rb_node_transport(const struct rb_node *node);
uint64_t rb_node_start_wall_ns(const struct rb_node *node);
uint32_t rb_node_shard_count(const struct rb_node *node);

/** Sums over all shards. */
struct rb_jetstream_part;
/** JetStream of a shard; NULL: off. Its counters may be read by any thread as long as the node lives. */
const struct rb_jetstream_part *rb_node_jetstream(const struct rb_node *node, uint32_t shard);
struct rb_node_stats {
    uint64_t conns, conns_total, subs, in_msgs, in_bytes, out_msgs, out_bytes, slow_consumers,
        stale_conns;
};
void rb_node_stats(const struct rb_node *node, struct rb_node_stats *ret_stats);

/** Of one shard; counters that any thread may read as long as the node lives. */
const struct rb_core_stats *rb_node_shard_stats(const struct rb_node *node, uint32_t shard);

/** Ends every connection, waits for the shards, frees the node. Thread: any but a shard's or the host's ended(). */
void rb_node_stop(struct rb_node *node);
