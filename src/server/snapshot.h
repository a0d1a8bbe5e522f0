/* snapshot.h - copies of what shards know, for monitoring and the system account (docs/monitor.md).
 *
 * A reader (the monitor's thread) asks a shard with rb_node_ask(); the shard fills these structs between two turns, so a
 * snapshot of one shard is consistent in itself. Everything is copied: nothing points into live state.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "auth/policy.h"
#include "ringbus/errors.h"
#include "ringbus/mem.h"
#include "ringbus/metric.h"
#include "ringbus/transport.h"

struct rb_node;

/** Runs on the thread of a shard, between turns. `shard` is struct rb_shard. */
typedef void (*rb_ask)(void *shard, void *arg);
/**
 * Runs `ask` on shard `index` and returns when it has; RB_ERR_TIMEOUT after `timeout_ns` (then `arg` may still be used
 * by the shard: `arg_free` is called by whoever is last). RB_ERR_CANCELED when the node stops.
 * Thread: any but a shard's.
 */
RB_MUST_CHECK enum rb_err rb_node_ask(struct rb_node *node, uint32_t index, rb_ask ask, void *arg,
                                      void (*arg_free)(void *arg), int64_t timeout_ns);

struct rb_sub_snapshot {
    struct rb_slice subject, queue, sid;
    uint64_t cid, msgs, max;
    uint32_t account; /* id */
};

/** Slices lie in the snapshot's arena. Times: *_wall_ns since 1970, others durations. */
struct rb_conn_snapshot {
    uint64_t cid;
    uint32_t type; /* RB_TYPE_* */
    struct rb_addr peer;
    uint64_t start_wall_ns, last_wall_ns, stop_wall_ns; /* stop: closed ones */
    const char *reason;                                 /* closed ones; static */
    uint64_t rtt_ns, pending_bytes;
    uint64_t in_msgs, in_bytes, out_msgs, out_bytes;
    uint32_t sub_count, account; /* account id */
    struct rb_slice name, lang, version, account_name;
    struct rb_slice user; /* authorized_user: user, public nkey, or "[REDACTED]" for a token */
    const char *tls_version, *tls_cipher; /* static; NULL: no TLS */
    bool tls_first;
    struct rb_cert_snapshot {
        struct rb_slice subject;
        char spki_sha256[65], cert_sha256[65];
    } * certs;
    uint32_t cert_count;
    struct rb_slice proxy_key;
    struct rb_sub_snapshot *subs; /* only when asked for */
};

struct rb_account_snapshot {
    uint32_t id;
    struct rb_slice name;
    uint64_t conns, total_conns, leafnodes, subs;
    uint64_t in_msgs, in_bytes, out_msgs, out_bytes, slow_consumers; /* in: from clients */
    uint64_t sublist_subs, cache_count, insert_count, remove_count, match_count, cache_hit_count;
    uint32_t max_fanout;
    uint64_t fanout_sum, fanout_count; /* over cached results */
};

/** One consumer; `info` is its members as JSON, as the API shows them. */
struct rb_consumer_snapshot {
    struct rb_slice name, description, info;
    uint64_t created_ns;
    bool direct;
    uint64_t delivered_consumer_seq, delivered_stream_seq, floor_consumer_seq, floor_stream_seq;
    uint64_t ack_pending, redelivered, waiting, pending;
};
/** One stream; `config` and `state` are JSON objects; empty when they were not asked for. */
struct rb_stream_snapshot {
    struct rb_slice name, config, state;
    struct rb_slice why; /* it is not served, or takes no messages: why; else empty */
    bool offline;
    uint64_t created_ns, messages, bytes, first_seq, last_seq, consumer_count;
    struct rb_consumer_snapshot *consumers;
    uint32_t listed_count; /* of `consumers` */
};
/** JetStream of one account. */
struct rb_js_account_snapshot {
    struct rb_slice name;
    int64_t memory, storage, max_memory, max_storage;
    uint64_t api_total, api_errors, stream_count, consumer_count;
    struct rb_stream_snapshot *streams; /* only when asked for */
    uint32_t listed_count;              /* of `streams` */
};

#define RB_ACCOUNT_NAME_MAX 512

enum { RB_CONNS_OPEN = 1, RB_CONNS_CLOSED = 2 };

/** What is asked of each shard; which parts are wanted. */
struct rb_snapshot_request {
    uint32_t conns; /* RB_CONNS_*; 0: no connections */
    bool conn_subs; /* their subscriptions too */
    bool conn_certs;
    uint64_t cid;         /* only this one; 0: all */
    int64_t conn_account; /* id; -1: all */
    bool accounts;
    bool subs; /* every subscription of `sub_account` (-1: of all) */
    int64_t sub_account;
    bool js;                              /* accounts with JetStream */
    bool js_streams, js_consumers;        /* their streams, those's consumers */
    bool js_documents;                    /* config, state and info of these */
    char js_account[RB_ACCOUNT_NAME_MAX]; /* only this one; empty: all */
};

/** Grows by one shard's part per rb_shard_snapshot. */
struct rb_snapshot {
    struct rb_snapshot_request request;
    struct rb_arena *arena;
    struct rb_conn_snapshot *conns;
    struct rb_account_snapshot *accounts;
    struct rb_sub_snapshot *subs;
    struct rb_js_account_snapshot *js_accounts;
    uint32_t js_account_count, js_account_cap;
    struct rb_slice js_failure; /* the log has stopped, or the disk is full; empty: all is well */
    uint32_t conn_count, conn_cap, account_count, account_cap, sub_count, sub_cap;
    bool incomplete; /* memory was refused */
};

/** The part about JetStream; called by rb_shard_snapshot. */
void rb_shard_snapshot_js(void *shard, struct rb_snapshot *snapshot);
/** An rb_ask: `arg` is a struct rb_snapshot. */
void rb_shard_snapshot(void *shard, void *arg);
void rb_snapshot_init(struct rb_snapshot *snapshot, const struct rb_snapshot_request *request);
void rb_snapshot_deinit(struct rb_snapshot *snapshot);

/** For collectors: the next zeroed entry, valid until the one after it; NULL (and `incomplete`) when memory is refused. */
struct rb_conn_snapshot *rb_snapshot_conn(struct rb_snapshot *snapshot);
struct rb_account_snapshot *rb_snapshot_account(struct rb_snapshot *snapshot);
struct rb_js_account_snapshot *rb_snapshot_js_account(struct rb_snapshot *snapshot);
struct rb_sub_snapshot *rb_snapshot_sub(struct rb_snapshot *snapshot);
/** Zeroed memory in the snapshot's arena; NULL when refused. */
void *rb_snapshot_take(struct rb_snapshot *snapshot, size_t bytes);
/** A copy in the arena; empty when refused. */
struct rb_slice rb_snapshot_text(struct rb_snapshot *snapshot, struct rb_slice text);
