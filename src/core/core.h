/* core.h - what the connections of one shard share: limits, memory, timers, subscriptions, and the way out
 * to other shards. Knows no thread, no clock and no descriptor (docs/ARCHITECTURE.md). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "auth/auth.h"
#include "auth/policy.h"
#include "base/effect.h"
#include "base/list.h"
#include "base/map.h"
#include "base/wheel.h"
#include "base/work.h"
#include "core/sublist.h"
#include "core/top.h"
#include "proto/connect.h"
#include "proto/header.h"
#include "ringbus/bounds.h"
#include "ringbus/buf.h"
#include "ringbus/env.h"
#include "ringbus/log.h"
#include "ringbus/metric.h"
#include "ringbus/transport.h"

struct rb_account;
struct rb_config_lists;
struct rb_conn;
struct rb_perms;
struct rb_trace;
struct rb_traces;

/** One message on its way. Slices are borrowed for the call. */
struct rb_msg {
    struct rb_slice subject, reply, payload; /* payload: headers, then body */
    uint32_t header_len;
    struct rb_buf *buf;   /* owner of the payload's bytes, or NULL */
    struct rb_conn *from; /* the client of this shard that published it, or NULL */
    uint64_t silent_cid;  /* the publisher, when it does not want its own messages; else 0 */
    uint64_t
        published_ns;   /* monotonic, of the publishing shard's turn: for the delivery histogram */
    uint32_t hop_count; /* times a queue message was passed on */
    uint32_t import_count; /* service imports it went through, so that a cycle ends */
    struct rb_slice
        sender; /* client info as JSON: of a responder, towards "_R_." with latency measured, and of who asks "$JS." */
    struct rb_slice
        shown; /* the subject that subscribers are shown; empty: `subject` (rb_account_deliver) */
    struct rb_trace *trace; /* NULL: not traced (trace.h) */
};

#define RB_TRACE_LEVELS 8
/** What goes with a traced message to another shard, and comes back with the report of what happened there. */
struct rb_trace_tag {
    uint32_t id;      /* of the publisher's shard; 0: none */
    uint16_t account; /* id, in which it was published */
    uint8_t shard;    /* the publisher's */
    uint8_t level : 7, only : 1;
};

/** A finished trace, as pieces of JSON. */
struct rb_trace_document {
    struct rb_account *account; /* in which it is published */
    struct rb_slice destination;
    enum rb_encoding encoding;
    struct rb_slice request; /* an object */
    struct rb_slice ingress; /* an object, not closed */
    struct rb_slice error;   /* of ingress, a string; empty: none */
    struct rb_slice events;  /* further objects with commas between; empty: none */
};

/** How the core reaches the other shards of its node. `account` is an account's id. */
struct rb_core_peers {
    /** Sends `msg` to `shard`, with the queue groups that it is to choose a member of. */
    void (*msg)(void *ctx, uint32_t shard, uint32_t account, const struct rb_msg *msg,
                const struct rb_slice *queues, uint32_t queue_count);
    /** Tells every other shard what this one wants now: weight 0 is nothing. */
    void (*interest)(void *ctx, uint32_t account, struct rb_slice subject, struct rb_slice queue,
                     uint32_t weight);
    /** As msg, with what is needed for its report. False: it was not sent. */
    bool (*traced)(void *ctx, uint32_t shard, uint32_t account, const struct rb_msg *msg,
                   const struct rb_slice *queues, uint32_t queue_count,
                   const struct rb_trace_tag *tag);
    /** To the shard that `tag` names, which may be this one. `events`: see rb_trace_document. */
    void (*report)(void *ctx, const struct rb_trace_tag *tag, uint32_t sent_on, uint32_t left_out,
                   struct rb_slice events);
    void *ctx;
};

/** What the core tells its owner; any may be NULL. Called inside a step: no call back into the connection. */
struct rb_core_hooks {
    void (*conn_up)(void *ctx, struct rb_conn *conn);   /* bound to its account */
    void (*conn_down)(void *ctx, struct rb_conn *conn); /* of every connection that was up, once */
    void (*auth_failed)(void *ctx, struct rb_conn *conn);
    void (*account_up)(void *ctx, struct rb_account *account); /* exists on this shard now */
    void (*conn_ended)(
        void *ctx, struct rb_conn *conn); /* every connection, up or not: for /connz?state=closed */
    void (*timer)(void *ctx, struct rb_timer *timer); /* a timer of kind RB_TIMER_HOOK fired */
    /** Interest in `subject` came or went, here or on another shard, in an account with watch_interest. The slice is valid until the account is asked anything. */
    void (*interest)(void *ctx, struct rb_account *account, struct rb_slice subject);
    void (*traced)(void *ctx, const struct rb_trace_document *document); /* to be published */
    void *ctx;
};

/** Kinds of timers in the core's wheel. */
enum { RB_TIMER_CONN = 1, RB_TIMER_WRITE, RB_TIMER_RESPONSE, RB_TIMER_TRACE, RB_TIMER_HOOK };

/** Of an account, shared by the node's shards. */
struct rb_account_shared {
    _Atomic int64_t conns, subs, leafnodes;
    _Atomic(struct rb_account *)
        parts; /* of the shards; grows only, until the node ends (rb_account_sum) */
};
#define RB_ACCOUNTS_MAX 65536 /* ids; beyond it a configuration is refused */
#define RB_ACCOUNT_BLOCK 256
/** Counters by id; blocks are added by the node before an id is used, never taken away while it runs. */
struct rb_account_table {
    _Atomic(struct rb_account_shared *) blocks[RB_ACCOUNTS_MAX / RB_ACCOUNT_BLOCK];
};

#define RB_LISTENERS_MAX 16 /* listener numbers of a transport */

/** Limits and settings; sizes in bytes, times in ns, 0: no limit where that makes sense. */
struct rb_core_options {
    uint32_t shard_index, shard_count;
    uint32_t max_control_line, max_payload, max_subs, max_sub_tokens, ping_max;
    uint64_t max_pending, ping_interval_ns, write_deadline_ns, auth_timeout_ns;
    int64_t max_connections; /* below 0: none may come */
    bool headers;
    uint32_t max_traced_msg_bytes;
    bool trace_headers;
    bool proxy_protocol, allow_non_tls;
    uint64_t tls_timeout_ns, ws_tls_timeout_ns, ws_handshake_timeout_ns, ws_auth_timeout_ns,
        ws_ping_interval_ns;
    int64_t tls_rate_limit;         /* handshakes per second; 0: no limit */
    bool tls_first;                 /* handshake_first */
    uint64_t tls_first_fallback_ns; /* > 0: wait so long, then send INFO in clear */
    bool ws_compression, ws_same_origin;
    const struct rb_slice *ws_origins;
    uint32_t ws_origin_count;
    struct rb_slice ws_headers, ws_jwt_cookie, ws_user_cookie, ws_pass_cookie, ws_token_cookie;
    struct rb_info
        info; /* what every INFO has in common; slices live as long as the core's settings */
    struct rb_info ws_info; /* the same for the websocket listener */
};

/** What a reload replaces as a whole. Immutable, counted, made by the node; slices of `options` lie in it. */
struct rb_core_settings {
    _Atomic uint32_t ref_count;
    struct rb_core_options options; /* shard_index is not set */
    const struct rb_policy *policy; /* holds a count */
    const struct rb_config_lists
        *lists; /* in the policy's arena; the server's to read, opaque here */
    struct rb_tls_context *tls, *ws_tls; /* NULL: none; hold counts */
    struct rb_arena *arena;
};
void rb_core_settings_release(
    const struct rb_core_settings *settings); /* NULL is allowed; any thread */

/** Single-writer counters of one shard; any thread may read. */
struct rb_core_stats {
    struct rb_counter conns, conns_total, subs, in_msgs, in_bytes, out_msgs, out_bytes;
    struct rb_counter slow_consumers, stale_conns, queue_dropped, mail_dropped;
    struct rb_counter mapping_dropped, responses_dropped, auth_failed, tls_failed;
    struct rb_histogram turn_ns; /* one turn's work, waiting not counted */
    struct rb_histogram
        delivery_ns; /* from the turn that parsed a message to the end of the send that carried it */
    struct rb_histogram pending_bytes; /* of a connection when a send begins */
};

/** A piece of output: bytes of a counted block. */
struct rb_seg {
    struct rb_seg *next;
    struct rb_buf *buf;
    uint32_t offset, len;
    bool own; /* nobody else refers to buf: more may be appended to it */
};

#define RB_SUB_SID_INLINE 13
enum {
    RB_SUB_SHADOW =
        1, /* a struct rb_shadow: stands in the exporting account for an importer's subscription */
    RB_SUB_SPECIAL = 2,  /* a struct rb_special: no connection, a function of the server */
    RB_SUB_FILTER = 4,   /* a deny overlaps: ask the permissions for each message */
    RB_SUB_SHADOWED = 8, /* has shadows (account.c) */
    RB_SUB_DONE = 16,    /* its maximum is reached; removed at the end of the delivery under way */
};
/** One subscription. */
struct rb_sub {
    struct rb_sub_ref ref;
    struct rb_conn *conn;
    struct rb_sub *next_done; /* list of those that reached their max in this delivery */
    uint64_t delivered;
    uint64_t max; /* 0: no limit */
    uint16_t sid_len;
    uint8_t flags;
    uint8_t sid[RB_SUB_SID_INLINE]; /* longer ones: allocated bigger */
};

/** Takes a message in place of a connection. True: it counts as delivered. */
typedef bool (*rb_special_take)(struct rb_account *account, void *ctx, const struct rb_msg *msg);
/** A subscription of the server's own. Plain (no queue group). Runs after the receivers of a message got theirs. */
struct rb_special {
    struct rb_sub sub;
    rb_special_take take;
    void *ctx;
    bool local; /* taken on the publishing shard only and not told to others: every shard has one */
    bool traces; /* takes messages that are only traced, too */
};

/* Bytes that several receivers of one message share, a block per kind of sid (deliver.c). */
#define RB_CORE_RUNS 8

struct rb_core {
    struct rb_core_options options;          /* a copy of the settings' */
    const struct rb_core_settings *settings; /* holds a count */
    struct rb_core_peers peers;
    struct rb_core_hooks hooks;
    struct rb_transport *transport;
    struct rb_work *work;
    struct rb_auth_hook *auth_hook;  /* an embedding program's; NULL: none */
    struct rb_ws_deflater *deflater; /* made on first use */
    struct rb_env *env;
    struct rb_log *log;
    struct rb_budget *budget;
    struct rb_bufpool bufs;
    struct rb_pool conn_pool, sub_pool, seg_pool;
    struct rb_account **accounts; /* by id; NULL: not on this shard yet */
    uint32_t account_cap;
    struct rb_account_table *account_table;
    const _Atomic uint8_t *
        listener_types; /* [RB_LISTENERS_MAX] RB_TYPE_*; 0: RB_TYPE_STANDARD. Shared by the shards */
    struct rb_list responses; /* awaited answers to service imports (service.c) */
    struct rb_map response_map;
    char reply_token[6];      /* this shard's part of "_R_.<6>.<6>" */
    struct rb_traces *traces; /* that wait for other shards (trace.c); NULL: none ever did */
    uint8_t *scratch,
        *join; /* for decrypting and for joining output; NULL until a connection has TLS */
    _Atomic uint64_t *tls_rate; /* handshakes of this second, shared by the node's shards */
    struct rb_map perms_map;    /* compiled permissions by their source (identity.c) */
    bool lame_duck;
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
    struct rb_top top; /* sampled publishes */
    struct rb_core_stats stats;
};

#define RB_CORE_SCRATCH (32 * 1024)
#define RB_CORE_JOIN (16 * 1024)

/** `core` is zeroed but for shard index in options, settings, peers, hooks, transport, work, env, log, budget, next_cid,
 *  conn_count, account_table. Takes over the count on `settings`. */
RB_MUST_CHECK enum rb_err rb_core_init(struct rb_core *core);
/** Takes new settings (and their count) over the old ones: accounts, then every connection. RB_ERR_MEMORY: some imports are missing. */
RB_MUST_CHECK enum rb_err rb_core_apply(struct rb_core *core,
                                        const struct rb_core_settings *settings);
/** False: more TLS handshakes this second than connection_rate_limit allows. */
bool rb_core_tls_rate_pass(struct rb_core *core);
/** Gives back the blocks that are kept for the next fan-out. */
void rb_core_drop_runs(struct rb_core *core);
/** Asserts that every connection, subscription and block was given back. */
void rb_core_deinit(struct rb_core *core);
