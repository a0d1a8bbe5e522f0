/* node.h - one server: its shards, their threads and drivers. The one place that names drivers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/log.h"
#include "ringbus/transport.h"
#include "server/config.h"

struct rb_core_stats;
struct rb_node;
struct rb_node_shared;
struct rb_auth_hook;
struct rb_task;

#define RB_NODE_ERROR_MAX 1024

struct rb_node_options {
    const struct rb_config *config; /* sealed; copied */
    const struct rb_log *log;       /* copied */
    struct rb_auth_hook *
        hook; /* an embedding program's decision about clients; NULL: none. Lives longer than the node */
};

/**
 * Starts a server: threads, rings, listeners. Returns when it is ready or has failed; `error` then says why, and
 * nothing is left behind. Thread: any.
 * Errors: RB_ERR_IN_USE, RB_ERR_ADDRESS, RB_ERR_UNSUPPORTED (no io_uring), RB_ERR_MEMORY, RB_ERR_LIMIT, RB_ERR_INVALID (certificates).
 */
RB_MUST_CHECK enum rb_err rb_node_start(const struct rb_node_options *options,
                                        struct rb_node **ret_node, char error[RB_NODE_ERROR_MAX]);
/** Posts `task` to a shard and wakes it; false when the shard has stopped. Thread: any. */
bool rb_node_post(struct rb_node *node, uint32_t shard, struct rb_task *task);
/** What the WebSocket listener is bound to; port 0: none. */
const struct rb_addr *rb_node_ws_addr(const struct rb_node *node);
/** What other parts do for a node's services; NULL: not there. */
struct rb_node_hooks {
    /** Reads the configuration again. On failure `error` says why. Thread: the services'. */
    enum rb_err (*reload)(void *ctx, char error[RB_CONFIG_ERROR_MAX]);
    void *ctx;
};
/** Set before clients come, by who assembles the program. */
struct rb_node_hooks *rb_node_hooks(struct rb_node *node);
struct rb_node_shared *rb_node_shared(struct rb_node *node);
const struct rb_core_stats *rb_node_shard_stats(const struct rb_node *node, uint32_t index);
/** Tells the system account of `event`; returns when every shard has delivered it. Thread: any but a shard's. */
enum rb_node_event { RB_NODE_SHUTDOWN, RB_NODE_LAME_DUCK };
void rb_node_announce(struct rb_node *node, enum rb_node_event event);
const struct rb_config *rb_node_config(const struct rb_node *node);
struct rb_log *rb_node_log(struct rb_node *node);
/** What the client listener is bound to. */
const struct rb_addr *rb_node_addr(const struct rb_node *node);
/** Fills `id` with the server's id ("N" and 55 base32 characters). */
const char *rb_node_id(const struct rb_node *node);
const char *rb_node_name(const struct rb_node *node);
uint32_t rb_node_shard_count(const struct rb_node *node);

/** Sums over all shards. */
struct rb_node_stats {
    uint64_t conns, conns_total, subs, in_msgs, in_bytes, out_msgs, out_bytes, slow_consumers,
        stale_conns;
};
void rb_node_stats(const struct rb_node *node, struct rb_node_stats *ret_stats);

/** Ends every connection, waits for the shards, frees the node. Thread: any but a shard's. */
void rb_node_stop(struct rb_node *node);
