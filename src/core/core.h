/* core.h - what the connections of one shard share: limits, memory, timers, subscriptions, and the way out
 * to other shards. Knows no thread, no clock and no descriptor (docs/ARCHITECTURE.md). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "auth/password.h"
#include "base/effect.h"
#include "base/list.h"
#include "base/wheel.h"
#include "core/sublist.h"
#include "proto/connect.h"
#include "ringbus/bounds.h"
#include "ringbus/buf.h"
#include "ringbus/env.h"
#include "ringbus/log.h"
#include "ringbus/metric.h"
#include "ringbus/transport.h"

struct rb_conn;

/** One message on its way. Slices are borrowed for the call. */
struct rb_msg {
    struct rb_slice subject, reply, payload; /* payload: headers, then body */
    uint32_t header_len;
    struct rb_buf *buf;   /* owner of the payload's bytes, or NULL */
    struct rb_conn *from; /* NULL when it came from another shard */
    uint64_t silent_cid;  /* the publisher, when it does not want its own messages; else 0 */
    uint32_t hop_count;   /* times a queue message was passed on */
};

/** How the core reaches the other shards of its node. */
struct rb_core_peers {
    /** Sends `msg` to `shard`, with the queue groups that it is to choose a member of. */
    void (*msg)(void *ctx, uint32_t shard, const struct rb_msg *msg, const struct rb_slice *queues,
                uint32_t queue_count);
    /** Tells every other shard what this one wants now: weight 0 is nothing. */
    void (*interest)(void *ctx, struct rb_slice subject, struct rb_slice queue, uint32_t weight);
    void *ctx;
};

/** Limits and settings; sizes in bytes, times in ns, 0: no limit where that makes sense. */
struct rb_core_options {
    uint32_t shard_index, shard_count;
    uint32_t max_control_line, max_payload, max_subs, max_sub_tokens, ping_max;
    uint64_t max_pending, ping_interval_ns, write_deadline_ns, auth_timeout_ns;
    int64_t max_connections; /* below 0: none may come */
    bool headers;
    uint32_t max_traced_msg_bytes;
    struct rb_auth_password auth;
    struct rb_info info; /* what every INFO has in common; slices live as long as the core */
};

/** Single-writer counters of one shard; any thread may read. */
struct rb_core_stats {
    struct rb_counter conns, conns_total, subs, in_msgs, in_bytes, out_msgs, out_bytes;
    struct rb_counter slow_consumers, stale_conns, queue_dropped, mail_dropped;
};

/** A piece of output: bytes of a counted block. */
struct rb_seg {
    struct rb_seg *next;
    struct rb_buf *buf;
    uint32_t offset, len;
    bool own; /* nobody else refers to buf: more may be appended to it */
};

#define RB_SUB_SID_INLINE 14
/** One subscription. */
struct rb_sub {
    struct rb_sub_ref ref;
    struct rb_conn *conn;
    struct rb_sub *next_done; /* list of those that reached their max in this delivery */
    uint64_t delivered;
    uint64_t max; /* 0: no limit */
    uint16_t sid_len;
    uint8_t sid[RB_SUB_SID_INLINE]; /* longer ones: allocated bigger */
};

/* Bytes that several receivers of one message share, a block per kind of sid (deliver.c). */
#define RB_CORE_RUNS 8

struct rb_core {
    struct rb_core_options options;
    struct rb_core_peers peers;
    struct rb_transport *transport;
    struct rb_env *env;
    struct rb_log *log;
    struct rb_budget *budget;
    struct rb_bufpool bufs;
    struct rb_pool conn_pool, sub_pool, seg_pool;
    struct rb_sublist *sublist;
    struct rb_wheel wheel;
    struct rb_effects effects;
    struct rb_list conns;   /* every connection */
    struct rb_list stalled; /* waiting for room towards other shards */
    struct rb_buf *runs[RB_CORE_RUNS];
    struct rb_sub *subs_done;    /* to be removed after the delivery under way */
    _Atomic uint64_t *next_cid;  /* shared by the node's shards */
    _Atomic int64_t *conn_count; /* same */
    uint64_t now_ns;             /* of this turn */
    bool mail_tight;             /* a ring to another shard is nearly full: stop reading */
    struct rb_log_limit err_limit;
    struct rb_core_stats stats;
};

/** `core` is zeroed but for options, peers, transport, env, log, budget, next_cid, conn_count. */
RB_MUST_CHECK enum rb_err rb_core_init(struct rb_core *core);
/** Gives back the blocks that are kept for the next fan-out. */
void rb_core_drop_runs(struct rb_core *core);
/** Asserts that every connection, subscription and block was given back. */
void rb_core_deinit(struct rb_core *core);
