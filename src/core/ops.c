/* ops.c - what a client may ask for: PUB, SUB, UNSUB, PING, PONG (CONNECT: identity.c).
 *
 * The order of checks and answers is nats-server's, so that clients see the same bytes.
 */
#include "core/conn.h"

#include <stdio.h>

#include "core/deliver.h"
#include "core/identity.h"
#include "core/mapping.h"
#include "core/perms.h"
#include "core/service.h"
#include "core/trace.h"
#include "proto/subject.h"
#include "ringbus/check.h"

#define MAPPED_MAX 4096
#define SENDER_MAX 4096

static void ok_if_verbose(struct rb_conn *conn)
{
    if (conn->verbose) {
        rb_conn_write(conn, RB_WIRE_OK);
        rb_conn_written(conn);
        if (conn->core->log->trace) {
            rb_conn_log(conn, RB_LOG_TRC, "->> [OK]");
        }
    }
}

/* What a log line says of a violation, "-ERR" text aside: nats-server words them differently. */
static void log_violation(struct rb_conn *conn, const char *what, const char *name,
                          const char *queue, const char *tail)
{
    uint64_t skipped;
    if (!rb_log_limit_pass(&conn->core->err_limit, conn->core->now_ns, &skipped)) {
        return;
    }
    if (what[0] == 'S') {
        rb_conn_log(conn, RB_LOG_ERR, "Subscription Violation - Subject \"%s\"%s%s%s%s", name,
                    queue == NULL ? "" : ", Queue: \"", queue == NULL ? "" : queue,
                    queue == NULL ? "" : "\"", tail);
    } else if (strcmp(what, "Publish to") == 0) {
        rb_conn_log(conn, RB_LOG_ERR, "Publish Violation - Subject \"%s\"", name);
    } else {
        rb_conn_log(conn, RB_LOG_ERR, "Publish Violation - Reply \"%s\"", name);
    }
}

void rb_conn_violation(struct rb_conn *conn, const char *what, struct rb_slice name,
                       struct rb_slice queue, const char *tail)
{
    enum { NAME_BYTES = 4 * 1024 };
    char text[2 * NAME_BYTES + 512];
    char quoted[NAME_BYTES + 1], quoted_queue[NAME_BYTES + 1];
    quoted[rb_format_quoted((uint8_t *)quoted, NAME_BYTES, name)] = '\0';
    quoted_queue[rb_format_quoted((uint8_t *)quoted_queue, NAME_BYTES, queue)] = '\0';
    if (queue.len > 0) {
        (void)snprintf(text, sizeof(text),
                       "Permissions Violation for %s \"%s\" using queue \"%s\"%s", what, quoted,
                       quoted_queue, tail);
    } else {
        (void)snprintf(text, sizeof(text), "Permissions Violation for %s \"%s\"%s", what, quoted,
                       tail);
    }
    rb_conn_send_err(conn, text);
    log_violation(conn, what, quoted, queue.len > 0 ? quoted_queue : NULL, tail);
}

/* PUB */

__attribute__((noinline, cold)) static bool refuse(struct rb_conn *conn, const char *what,
                                                   struct rb_slice name, struct rb_trace *trace)
{
    if (trace != NULL) {
        rb_trace_violation(trace, what, name);
    }
    rb_conn_violation(conn, what, name, RB_S(""), "");
    return false;
}

/* Subjects and replies that only servers may use, and what permissions say. False when the message is refused. */
static inline __attribute__((always_inline)) bool publish_allowed(struct rb_conn *conn,
                                                                  struct rb_slice subject,
                                                                  struct rb_slice reply,
                                                                  struct rb_trace *trace)
{
    if (subject.len > 4 && (subject.ptr[0] == '_' || subject.ptr[0] == '$') &&
        (rb_slice_starts(subject, RB_S("_GR_.")) || rb_slice_starts(subject, RB_S("$NRG.")))) {
        return refuse(conn, "Publish to", subject, trace);
    }
    if (conn->perms != NULL && !rb_perms_publish(conn->perms, subject) &&
        !rb_conn_use_response(conn, subject)) {
        return refuse(conn, "Publish to", subject, trace);
    }
    if (reply.len > 3 && (reply.ptr[0] == '_' || reply.ptr[0] == '$') &&
        (rb_slice_starts(reply, RB_S("_R_.")) || rb_slice_starts(reply, RB_S("_GR_.")) ||
         rb_slice_starts(reply, RB_S("$JS.ACK.")))) {
        return refuse(conn, "Publish with Reply of", reply, trace);
    }
    return true;
}

static void trace_publish(struct rb_conn *conn, const struct rb_op *op)
{
    rb_conn_log(conn, RB_LOG_TRC, "<<- [%s %.*s%s%.*s %u]", op->has_header ? "HPUB" : "PUB",
                RB_S_ARG(op->subject), op->reply.len > 0 ? " " : "", RB_S_ARG(op->reply),
                op->total_len);
    size_t len = op->payload.len, max = conn->core->options.max_traced_msg_bytes;
    bool cut = max != 0 && len > max;
    if (cut) {
        len = max;
    }
    if (len > 512) {
        len = 512;
        cut = true;
    }
    uint8_t quoted[2100];
    size_t quoted_len = rb_format_quoted(quoted, sizeof(quoted), rb_slice_of(op->payload.ptr, len));
    rb_conn_log(conn, RB_LOG_TRC, "<<- MSG_PAYLOAD: [\"%.*s%s\"]", (int)quoted_len,
                (const char *)quoted, cut ? "..." : "");
}

/* The subject that the account's mappings make of it; its ptr is NULL when the message is dropped. */
__attribute__((noinline)) static struct rb_slice
map_subject(struct rb_conn *conn, struct rb_slice subject, uint8_t out[MAPPED_MAX])
{
    struct rb_core *core = conn->core;
    size_t len;
    switch (rb_mappings_apply(conn->account->mappings, subject, rb_env_random(core->env), out,
                              MAPPED_MAX, &len)) {
    case RB_MAPPED_NONE:
        return subject;
    case RB_MAPPED_DROPPED:
        rb_counter_add(&core->stats.mapping_dropped, 1);
        return (struct rb_slice){ NULL, 0 };
    case RB_MAPPED:
        break;
    }
    if (core->log->trace) {
        rb_conn_log(conn, RB_LOG_TRC, "<<- [MAPPING %.*s -> %.*s]", RB_S_ARG(subject), (int)len,
                    (const char *)out);
    }
    return rb_slice_of(out, len);
}

/* A request of JetStream, whose home may be another shard, where the connection is not known. Not those that come per message. */
__attribute__((noinline)) static bool is_request(struct rb_slice subject)
{
    return rb_slice_starts(subject, RB_S("$JS.")) && !rb_slice_starts(subject, RB_S("$JS.ACK.")) &&
           !rb_slice_starts(subject, RB_S("$JS.FC.")) &&
           !rb_slice_starts(subject, RB_S("$JS.API.CONSUMER.MSG.NEXT.")) &&
           !rb_slice_starts(subject, RB_S("$JS.API.DIRECT.GET."));
}

static inline void publish(struct rb_conn *conn, const struct rb_op *op, struct rb_slice subject,
                           struct rb_trace *trace)
{
    struct rb_core *core = conn->core;
    struct rb_msg msg = { .subject = subject,
                          .reply = op->reply,
                          .payload = op->payload,
                          .header_len = op->header_len,
                          .buf = op->buf,
                          .from = conn,
                          .silent_cid = conn->echo ? 0 : conn->cid,
                          .published_ns = core->now_ns,
                          .trace = trace };
    uint8_t sender[SENDER_MAX];
    if ((subject.ptr[0] == '_' && rb_service_measured(subject)) ||
        (subject.ptr[0] == '$' && is_request(subject))) {
        msg.sender = rb_slice_of(sender, rb_conn_client_info(conn, true, sender, sizeof(sender)));
    }
    bool delivered = trace == NULL ? rb_deliver_publish(conn->account, &msg)
                                   : rb_deliver_traced(conn->account, &msg);
    if (!delivered && op->reply.len > 0 && conn->no_responders) {
        rb_deliver_no_responders(conn, op->reply, subject);
    }
}

static inline __attribute__((always_inline)) void
take_publish(struct rb_conn *conn, const struct rb_op *op, struct rb_trace *trace)
{
    struct rb_core *core = conn->core;
    struct rb_account *account = conn->account;
    conn->in_msgs++;
    conn->in_bytes += op->total_len;
    rb_counter_add(&core->stats.in_msgs, 1);
    rb_counter_add(&core->stats.in_bytes, op->total_len);
    rb_counter_add(&account->in_msgs, 1);
    rb_counter_add(&account->in_bytes, op->total_len);
    if ((conn->in_msgs & (RB_TOP_SAMPLE - 1)) == 0) {
        rb_top_add(&core->top, account->id, op->subject, op->total_len);
    }
    struct rb_slice subject = op->subject;
    uint8_t mapped[MAPPED_MAX];
    if (account->mappings != NULL) {
        subject = map_subject(conn, subject, mapped);
        if (subject.ptr == NULL) {
            ok_if_verbose(conn);
            return;
        }
    }
    if (trace != NULL && subject.ptr == mapped) {
        rb_trace_mapping(trace, subject);
    }
    if (!publish_allowed(conn, subject, op->reply, trace)) {
        return;
    }
    ok_if_verbose(conn);
    publish(conn, op, subject, trace);
}

__attribute__((noinline)) static void publish_slow(struct rb_conn *conn, const struct rb_op *op,
                                                   struct rb_trace *trace)
{
    take_publish(conn, op, trace);
}

/* The message is not traced, and no other server is to trace it. */
static void publish_untraced(struct rb_conn *conn, const struct rb_op *op)
{
    struct rb_msg changed;
    struct rb_buf *buf = rb_trace_redirect(
        conn->core, &(struct rb_msg){ .payload = op->payload, .header_len = op->header_len },
        RB_TRACE_DISABLED, &changed);
    struct rb_op own = *op;
    if (buf != NULL) {
        own.payload = changed.payload;
        own.header_len = changed.header_len;
        own.buf = buf;
    }
    publish_slow(conn, &own, NULL);
    if (buf != NULL) {
        rb_buf_release(buf);
    }
}

__attribute__((noinline, cold)) static void publish_traced(struct rb_conn *conn,
                                                           const struct rb_op *op)
{
    struct rb_trace *trace = NULL;
    switch (
        rb_trace_begin(conn, op, rb_slice_of(op->payload.ptr, op->header_len), RB_S(""), &trace)) {
    case RB_TRACE_NO:
        publish_slow(conn, op, NULL);
        break;
    case RB_TRACE_DISABLE:
        publish_untraced(conn, op);
        break;
    case RB_TRACE_SKIP:
        break;
    case RB_TRACE_YES:
        publish_slow(conn, op, trace);
        rb_trace_end(trace);
        break;
    }
}

static void do_publish(struct rb_conn *conn, const struct rb_op *op)
{
    if (conn->core->log->trace) {
        trace_publish(conn, op);
    }
    if (conn->pedantic && !rb_subject_valid_literal(op->subject)) {
        rb_conn_send_err(conn, "Invalid Publish Subject");
    }
    if (op->header_len >= RB_TRACE_HEADER_MIN &&
        rb_trace_mentioned(rb_slice_of(op->payload.ptr, op->header_len))) {
        publish_traced(conn, op);
        return;
    }
    take_publish(conn, op, NULL);
}

/* SUB and UNSUB */

static struct rb_sub *make_sub(struct rb_conn *conn, struct rb_slice sid)
{
    struct rb_core *core = conn->core;
    struct rb_sub *sub = sid.len <= RB_SUB_SID_INLINE
                             ? rb_pool_acquire(&core->sub_pool)
                             : rb_alloc(core->budget, sizeof(*sub) + sid.len);
    if (sub != NULL) {
        *sub = (struct rb_sub){ .conn = conn, .sid_len = (uint16_t)sid.len };
        memcpy(sub->sid, sid.ptr, sid.len);
    }
    return sub;
}

static enum rb_err add_sub(struct rb_conn *conn, const struct rb_op *op, bool filter)
{
    struct rb_core *core = conn->core;
    struct rb_sub *sub = make_sub(conn, op->sid);
    if (sub == NULL) {
        return RB_ERR_MEMORY;
    }
    sub->flags = filter ? RB_SUB_FILTER : 0;
    uint64_t hash = rb_slice_hash(op->sid);
    enum rb_err err = rb_map_insert(&conn->subs, hash, sub);
    if (err != RB_OK) {
        rb_conn_free_sub(core, sub);
        return err;
    }
    err = rb_account_subscribe(conn->account, op->subject, op->queue, sub);
    if (err != RB_OK) {
        (void)rb_map_remove(&conn->subs, hash, sub);
        rb_conn_free_sub(core, sub);
        return err;
    }
    rb_counter_add(&core->stats.subs, 1);
    atomic_fetch_add_explicit(&conn->account->shared->subs, 1, memory_order_relaxed);
    return RB_OK;
}

static void do_subscribe(struct rb_conn *conn, const struct rb_op *op)
{
    const struct rb_core_options *options = &conn->core->options;
    if (conn->core->log->trace) {
        rb_conn_log(conn, RB_LOG_TRC, "<<- [SUB %.*s %.*s %.*s]", RB_S_ARG(op->subject),
                    RB_S_ARG(op->queue), RB_S_ARG(op->sid));
    }
    if (rb_slice_equal(op->queue, RB_S("_sys_"))) {
        rb_conn_violation(conn, "Subscription to", op->subject, op->queue, "");
        return;
    }
    if (options->max_sub_tokens > 0 &&
        rb_subject_token_count(op->subject) > options->max_sub_tokens) {
        rb_conn_violation(conn, "Subscription to", op->subject, RB_S(""), ", too many tokens");
        return;
    }
    uint32_t max = conn->max_subs;
    if (!conn->connected && (max == 0 || max > RB_UNKNOWN_SUBS_MAX)) {
        max = RB_UNKNOWN_SUBS_MAX;
    }
    if ((max > 0 && conn->subs.count >= max) || conn->no_subs) {
        rb_conn_send_err(conn, "maximum subscriptions exceeded");
        return;
    }
    if (rb_map_find(&conn->subs, rb_slice_hash(op->sid), op->sid) != NULL) {
        ok_if_verbose(conn); /* a sid in use: the second SUB is ignored */
        return;
    }
    if (!rb_subject_valid_sub(op->subject)) {
        rb_conn_send_err(conn, "Invalid Subject");
        return;
    }
    enum rb_perms_sub permitted = rb_perms_subscribe(conn->perms, op->subject, op->queue);
    if (permitted == RB_SUB_DENIED) {
        rb_conn_violation(conn, "Subscription to", op->subject, op->queue, "");
        return;
    }
    if (add_sub(conn, op, permitted == RB_SUB_FILTERED) != RB_OK) {
        rb_conn_log(conn, RB_LOG_ERR, "memory budget spent: subscription refused");
        rb_conn_send_err(conn, "maximum subscriptions exceeded");
        return;
    }
    ok_if_verbose(conn);
}

static void do_unsubscribe(struct rb_conn *conn, const struct rb_op *op)
{
    if (conn->core->log->trace) {
        rb_conn_log(conn, RB_LOG_TRC, "<<- [UNSUB %.*s %lld]", RB_S_ARG(op->sid),
                    (long long)op->max);
    }
    struct rb_sub *sub = rb_map_find(&conn->subs, rb_slice_hash(op->sid), op->sid);
    if (sub != NULL) {
        if (op->max > 0 && (uint64_t)op->max > sub->delivered) {
            sub->max = (uint64_t)op->max;
        } else {
            rb_conn_unsubscribe(conn, sub);
        }
    }
    ok_if_verbose(conn);
}

/* PING and PONG */

static void do_ping(struct rb_conn *conn)
{
    rb_conn_write(conn, RB_WIRE_PONG);
    rb_conn_written(conn);
    if (conn->core->log->trace) {
        rb_conn_log(conn, RB_LOG_TRC, "<<- [PING]");
        rb_conn_log(conn, RB_LOG_TRC, "->> [PONG]");
    }
    bool known = conn->connected || conn->identity_kind != RB_IDENTITY_NONE;
    if (known && !conn->info_sent) {
        conn->info_sent = true; /* only the first PING of somebody can bring it */
        if (conn->async_info) {
            rb_conn_send_info(conn, true);
        }
    }
}

static void do_pong(struct rb_conn *conn)
{
    if (conn->core->log->trace) {
        rb_conn_log(conn, RB_LOG_TRC, "<<- [PONG]");
    }
    if (conn->pings_out > 0) {
        conn->rtt_ns = conn->core->now_ns - conn->ping_sent_ns + 1;
    }
    conn->pings_out = 0;
}

/* Without effect from a client, but it must be a document. */
static void take_info(struct rb_conn *conn, struct rb_slice json)
{
    struct rb_connect unused;
    struct rb_connect_doc *doc = NULL;
    rb_connect_defaults(&unused);
    if (rb_connect_parse(json, &unused, &doc) != RB_OK) {
        rb_conn_want_end(conn, RB_CLOSE_PROTOCOL, false);
        return;
    }
    rb_connect_doc_free(doc);
}

/* Authentication is required and something else than CONNECT came: only no_auth_user lets it in. */
__attribute__((noinline)) static bool may_speak(struct rb_conn *conn)
{
    if (rb_conn_bind_anonymous(conn)) {
        return rb_conn_open(conn);
    }
    rb_conn_send_err(conn, "Authorization Violation");
    rb_conn_want_end(conn, RB_CLOSE_AUTH, false);
    return false;
}

/* Out of line, so that a PUB does not pay for the room these need. */
__attribute__((noinline)) static void do_other(struct rb_conn *conn, struct rb_op *op)
{
    switch (op->kind) {
    case RB_OP_PUB:
        break; /* not here */
    case RB_OP_SUB:
        do_subscribe(conn, op);
        break;
    case RB_OP_UNSUB:
        do_unsubscribe(conn, op);
        break;
    case RB_OP_PING:
        do_ping(conn);
        break;
    case RB_OP_PONG:
        do_pong(conn);
        break;
    case RB_OP_CONNECT:
        rb_conn_connect(conn, op->args);
        break;
    case RB_OP_ERR:
        rb_conn_log(conn, RB_LOG_ERR, "Client Error %.*s", RB_S_ARG(op->args));
        rb_conn_want_end(conn, RB_CLOSE_PARSE, false);
        break;
    case RB_OP_INFO:
        take_info(conn, op->args);
        break;
    case RB_OP_OK:
        break; /* accepted and without effect, as in nats-server */
    }
}

void rb_conn_op(struct rb_conn *conn, struct rb_op *op)
{
    if (op->kind != RB_OP_PONG) {
        conn->last_in_ns = conn->core->now_ns;
    }
    if (rb_list_empty(&conn->account_link) && op->kind != RB_OP_CONNECT && !may_speak(conn)) {
        return;
    }
    if (op->kind == RB_OP_PUB) {
        do_publish(conn, op);
    } else {
        do_other(conn, op);
    }
}
