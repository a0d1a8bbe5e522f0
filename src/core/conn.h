/* conn.h - one client connection: handshake, operations, output, timers, end. */
#pragma once

#include "core/core.h"
#include "base/map.h"
#include "core/account.h"
#include "proto/encode.h"
#include "proto/parse.h"

/*  HELLO --CONNECT accepted--> READY
 *    |                           |          error, limit, peer gone, shutdown
 *    `---------------------------+--> ENDING --output sent or given up, subs gone--> CLOSING --CLOSED--> freed
 *
 * In HELLO a connection may wait for a verdict (auth_wait) or a TLS handshake step: jobs on helper threads. It is freed
 * only when they are back.
 */
enum rb_conn_state { RB_CONN_HELLO, RB_CONN_READY, RB_CONN_ENDING, RB_CONN_CLOSING };

/** Why a connection ended; texts are nats-server's. */
enum rb_close_reason {
    RB_CLOSE_NONE,
    RB_CLOSE_CLIENT,
    RB_CLOSE_AUTH_TIMEOUT,
    RB_CLOSE_AUTH,
    RB_CLOSE_SLOW_PENDING,
    RB_CLOSE_SLOW_DEADLINE,
    RB_CLOSE_WRITE,
    RB_CLOSE_READ,
    RB_CLOSE_PARSE,
    RB_CLOSE_STALE,
    RB_CLOSE_PROTOCOL,
    RB_CLOSE_BAD_VERSION,
    RB_CLOSE_MAX_CONNS,
    RB_CLOSE_MAX_PAYLOAD,
    RB_CLOSE_MAX_CONTROL_LINE,
    RB_CLOSE_SHUTDOWN,
    RB_CLOSE_HEADERS,
    RB_CLOSE_NO_RESPONDERS,
    RB_CLOSE_MEMORY,
    RB_CLOSE_TLS,
    RB_CLOSE_ACCOUNT_CONNS,
    RB_CLOSE_MAX_SUBS,
    RB_CLOSE_KICKED,
    RB_CLOSE_MISSING_ACCOUNT,
    RB_CLOSE_PROXY_REQUIRED,
    RB_CLOSE_PROXY_NOT_TRUSTED,
};
const char *rb_close_reason_text(enum rb_close_reason reason);

/** What a connection may ask of its shard for the end of the turn. */
enum { RB_CONN_WANT_FLUSH = 1, RB_CONN_WANT_END = 2 };

#define RB_NONCE_LEN 15 /* 11 random bytes, base64url */

/** What a client said of itself in CONNECT; one allocation, texts behind it. */
struct rb_conn_about {
    uint32_t bytes;
    struct rb_slice name, lang, version;
    struct rb_slice offered; /* user or nkey: for the log, should it be refused */
    bool offered_nkey, offered_token;
};

struct rb_link;
struct rb_responses;

/* What a delivery to the connection touches stands first, in as few cache lines as it fits. */
struct rb_conn {
    struct rb_effect effect;
    struct rb_core *core;
    struct rb_account *account; /* "$G" before the verdict; never NULL while in `core->conns` */
    uint64_t cid;
    struct rb_link *link;   /* PROXY header, TLS, WebSocket; NULL: plain */
    struct rb_perms *perms; /* NULL: everything is permitted */
    uint8_t state, end_reason;
    uint8_t type;          /* RB_TYPE_STANDARD, _WEBSOCKET, _IN_PROCESS */
    uint8_t identity_kind; /* enum rb_identity_kind */
    bool verbose, pedantic, echo, headers, no_responders;
    bool connected;       /* a CONNECT was accepted */
    bool up;              /* bound to its account, announced by conn_up */
    bool info_sent;       /* the INFO after the first PONG */
    bool async_info;      /* protocol >= 1 */
    bool sending;         /* one send is in flight */
    bool credit;          /* the transport may receive for us */
    bool failed;          /* the transport said so */
    bool drop_output;     /* ending without a last word */
    bool closed;          /* CLOSED came; only the subscriptions are still to be withdrawn */
    bool counted;         /* in the node's number of connections */
    bool account_counted; /* in the account's */
    bool proxied;         /* `peer` came from a PROXY or X-Forwarded-For header */
    bool excess;          /* one more than max_connections */
    bool no_subs;         /* the account allows none */
    bool rtt_estimated;   /* no PING measured it yet */
    int8_t protocol;      /* of CONNECT; -1: neither 0 nor 1 */
    uint8_t pings_out;
    /* output: segments in order; without a link the first `send_bytes` bytes are in flight */
    struct rb_seg *seg_tail;
    uint64_t pending_bytes;
    uint64_t out_msgs, out_bytes;
    uint64_t queued_ns; /* when the first message of the output under way was published; 0: none */
    struct rb_seg *seg_head;
    uint64_t send_bytes, send_started_ns;
    uint32_t flushed_bytes;         /* of the last send: how big the next block should be */
    uint32_t max_payload, max_subs; /* of this connection; subs 0: no limit */
    uint64_t last_in_ns, ping_sent_ns, rtt_ns, start_wall_ns;
    struct rb_list link_all, stalled_link, account_link;
    struct rb_conn_id id;
    char nonce[RB_NONCE_LEN + 1]; /* empty: none was given */
    struct rb_timer timer, write_timer;
    struct rb_map subs;        /* sid -> rb_sub */
    struct rb_match_hint hint; /* where the last publish was matched */
    /* input that waits: for room in the mail, or for a verdict */
    struct rb_buf *held_head, *held_tail;
    struct rb_buf *again; /* a repeated CONNECT that waits for room in the mail */
    struct rb_addr peer;
    char *label;                       /* log prefix after CONNECT, or NULL */
    struct rb_conn_about *about;       /* NULL: CONNECT said nothing */
    const struct rb_policy_user *user; /* in the core's policy; NULL: none */
    struct rb_slice identity;  /* user name or public nkey, allocated; empty: none, or a token */
    struct rb_slice proxy_key; /* of the trusted proxy that vouched, allocated; empty: none */
    struct rb_auth_custom *custom;
    struct rb_responses
        *responses; /* reply subjects it may publish to (allow_responses); NULL: none yet */
    struct rb_auth_wait *auth_wait;      /* a verdict is awaited */
    const struct rb_policy *auth_policy; /* what it is judged by: compared, never read */
    uint64_t in_msgs, in_bytes;
    struct rb_parser parser;
};

/** A transport event for a connection of this core (ACCEPTED makes one). */
void rb_conn_event(struct rb_core *core, const struct rb_event *event);
/** Carries out one parsed operation (ops.c). */
void rb_conn_op(struct rb_conn *conn, struct rb_op *op);
/** A job of a helper thread came back (RB_JOB_AUTH, RB_JOB_TLS). */
void rb_conn_job(struct rb_core *core, struct rb_job *job);
/** Plain protocol bytes, from the transport or from the connection's link. */
void rb_conn_receive(struct rb_conn *conn, struct rb_slice bytes);
/** After a link opened: INFO (unless it went out before), the auth timer. */
void rb_conn_start(struct rb_conn *conn, bool send_info);
/** Withdraws receive credit: the connection must wait. */
void rb_conn_stall(struct rb_conn *conn);
/** Goes on with input that waited for a verdict. */
void rb_conn_continue(struct rb_conn *conn);
/** INFO to a client at any time. False: it cannot be told (protocol 0, no PONG yet, or ending). `ldm`: go elsewhere. */
bool rb_conn_tell_info(struct rb_conn *conn, bool ldm);
/** Queues INFO; `connect_info` marks the one after the first PONG. */
void rb_conn_send_info(struct rb_conn *conn, bool connect_info);
/** Queues "-ERR 'text'". */
void rb_conn_send_err(struct rb_conn *conn, const char *text);
/** Withdraws subscriptions until none is left (true) or the mail is tight. */
bool rb_conn_drop_subs(struct rb_conn *conn);
/** Queues what fits of the output as one gathered send. */
void rb_conn_flush(struct rb_conn *conn);
/** Takes the bytes of a finished send off the output. */
void rb_conn_sent(struct rb_conn *conn);
/** Gives every segment back. */
void rb_conn_drop_output(struct rb_conn *conn);
/** A timer of a connection fired. */
void rb_conn_timer(struct rb_core *core, struct rb_timer *timer);
/** Goes on with connections that waited for mail room; call when core->mail_tight became false. */
void rb_conn_resume(struct rb_core *core);
/** Carries out what connections asked for: sends and ends. Call at the end of a turn. */
void rb_conn_effects(struct rb_core *core);
/** Ends every connection (server shutdown). */
void rb_conn_end_all(struct rb_core *core, enum rb_close_reason reason);

/** Room for `bytes` (at most 32 KiB) at the end of the output; NULL when memory is refused. Then commit what was
 *  written. */
uint8_t *rb_conn_reserve(struct rb_conn *conn, uint32_t bytes);
void rb_conn_commit(struct rb_conn *conn, uint32_t bytes);
/** Copies `bytes` to the output; larger pieces get blocks of their own. */
void rb_conn_write(struct rb_conn *conn, struct rb_slice bytes);
/** Appends `len` bytes of `buf` at `offset` by reference; false when memory is refused. */
bool rb_conn_write_ref(struct rb_conn *conn, struct rb_buf *buf, uint32_t offset, uint32_t len);
/**
 * Appends bytes that other connections share, by reference, when that needs no more than one segment
 * per burst: they continue the last segment, or nothing is pending. False: copy them instead.
 */
bool rb_conn_write_run(struct rb_conn *conn, struct rb_buf *buf, uint32_t offset, uint32_t len);
/** After output was added: limits and the request to flush. */
void rb_conn_written(struct rb_conn *conn);
/** Ends at the end of the turn. The first reason stays. */
void rb_conn_want_end(struct rb_conn *conn, enum rb_close_reason reason, bool drop_output);
/** Bytes that are to be sent, encoded or not. */
uint64_t rb_conn_pending(const struct rb_conn *conn);
/** Takes an identity: account, permissions, limits. False: refused (the connection is ending). */
bool rb_conn_bind(struct rb_conn *conn, const struct rb_verdict *verdict);
/** Judges a live connection by new settings, see docs/identities.md. */
void rb_conn_rejudge(struct rb_conn *conn, const struct rb_policy *before);
/** "-ERR 'Permissions Violation for WHAT "NAME"TAIL'", and its log line. */
void rb_conn_violation(struct rb_conn *conn, const char *what, struct rb_slice name,
                       struct rb_slice queue, const char *tail);
/** The reply subject of a message delivered to `conn` may be answered (allow_responses). */
void rb_conn_allow_response(struct rb_conn *conn, struct rb_slice reply);
/** True, and one answer used up, when `subject` was allowed so. */
bool rb_conn_use_response(struct rb_conn *conn, struct rb_slice subject);
void rb_conn_drop_responses(struct rb_conn *conn);
/** Frees what a subscription holds, which is in no list any more. */
void rb_conn_free_sub(struct rb_core *core, struct rb_sub *sub);
/** Removes a subscription and tells the other shards. */
void rb_conn_unsubscribe(struct rb_conn *conn, struct rb_sub *sub);
static inline bool rb_conn_open(const struct rb_conn *conn)
{
    return conn->state <= RB_CONN_READY && conn->end_reason == RB_CLOSE_NONE;
}
/** "IP:PORT - cid:N" and, after CONNECT, what the client said of itself. */
void rb_conn_log(struct rb_conn *conn, enum rb_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
