/* ops.c - what a client may ask for: CONNECT, PUB, SUB, UNSUB, PING, PONG.
 *
 * The order of checks and answers is nats-server's, so that clients see the same bytes.
 */
#include "core/conn.h"

#include <stdio.h>

#include "core/deliver.h"
#include "proto/subject.h"
#include "ringbus/check.h"

#define FIRST_PING_NS (2 * UINT64_C(1000000000))
#define LABEL_MAX 900

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

/* "-ERR 'Permissions Violation for WHAT "NAME"TAIL'" with NAME quoted as Go's %q does. */
static void send_violation(struct rb_conn *conn, const char *what, struct rb_slice name,
                           struct rb_slice queue, const char *tail)
{
    enum { NAME_BYTES = 4 * 1024 };
    char text[2 * NAME_BYTES + 256];
    uint8_t quoted[NAME_BYTES], quoted_queue[NAME_BYTES];
    size_t len = rb_format_quoted(quoted, sizeof(quoted), name);
    if (queue.len > 0) {
        size_t queue_len = rb_format_quoted(quoted_queue, sizeof(quoted_queue), queue);
        (void)snprintf(
            text, sizeof(text), "Permissions Violation for %s \"%.*s\" using queue \"%.*s\"%s",
            what, (int)len, (const char *)quoted, (int)queue_len, (const char *)quoted_queue, tail);
    } else {
        (void)snprintf(text, sizeof(text), "Permissions Violation for %s \"%.*s\"%s", what,
                       (int)len, (const char *)quoted, tail);
    }
    rb_conn_send_err(conn, text);
    uint64_t skipped;
    if (rb_log_limit_pass(&conn->core->err_limit, conn->core->now_ns, &skipped)) {
        rb_conn_log(conn, RB_LOG_ERR, "%s", text);
    }
}

/* CONNECT */

static void make_label(struct rb_conn *conn, const struct rb_connect *connect)
{
    struct rb_core *core = conn->core;
    if (conn->label != NULL) {
        rb_free(core->budget, conn->label, strlen(conn->label) + 1);
        conn->label = NULL;
    }
    if (connect->version.len + connect->lang.len + connect->name.len == 0) {
        return;
    }
    char plain[LABEL_MAX];
    int len =
        snprintf(plain, sizeof(plain), "%s%.*s%s%.*s%s%.*s", connect->version.len ? "v" : "",
                 RB_S_ARG(connect->version), connect->lang.len ? ":" : "", RB_S_ARG(connect->lang),
                 connect->name.len ? ":" : "", RB_S_ARG(connect->name));
    if (len < 0 || (size_t)len >= sizeof(plain)) {
        len = sizeof(plain) - 1;
    }
    char text[4 * LABEL_MAX + 4];
    text[0] = '"';
    size_t quoted =
        rb_format_quoted((uint8_t *)text + 1, sizeof(text) - 4, rb_slice_of(plain, (size_t)len));
    text[1 + quoted] = '"';
    text[2 + quoted] = '\0';
    char *label = rb_alloc(core->budget, quoted + 3);
    if (label != NULL) {
        memcpy(label, text, quoted + 3);
        conn->label = label;
    }
}

static void refuse_connect(struct rb_conn *conn, const char *text, enum rb_close_reason reason)
{
    rb_conn_send_err(conn, text);
    rb_conn_log(conn, RB_LOG_ERR, "%s", reason == RB_CLOSE_AUTH ? "authentication error" : text);
    rb_conn_want_end(conn, reason, false);
}

static void apply_connect(struct rb_conn *conn, const struct rb_connect *connect)
{
    struct rb_core *core = conn->core;
    const struct rb_auth_password *auth = &core->options.auth;
    /* A field that is missing keeps its value; that of an earlier CONNECT was the right one. */
    bool again = conn->connected;
    if (connect->has_account ||
        !rb_auth_password_check(
            auth, again && connect->user.ptr == NULL ? auth->user : connect->user,
            again && connect->pass.ptr == NULL ? auth->pass : connect->pass,
            again && connect->auth_token.ptr == NULL ? auth->token : connect->auth_token)) {
        refuse_connect(conn, "Authorization Violation", RB_CLOSE_AUTH);
        return;
    }
    if (connect->protocol != 0 && connect->protocol != 1) {
        refuse_connect(conn, "invalid client protocol", RB_CLOSE_BAD_VERSION);
        return;
    }
    conn->headers = connect->headers && core->options.headers;
    conn->no_responders = connect->no_responders;
    if (connect->no_responders && !conn->headers) {
        refuse_connect(conn, "no responders requires headers support", RB_CLOSE_NO_RESPONDERS);
        return;
    }
    conn->async_info = connect->protocol == 1;
    conn->parser.headers = conn->headers;
    conn->parser.require_connect = false;
    conn->parser.max_payload = core->options.max_payload;
    make_label(conn, connect);
    conn->connected = true;
    conn->state = RB_CONN_READY;
    uint64_t first = FIRST_PING_NS + rb_env_below(core->env, FIRST_PING_NS / 5);
    if (core->options.ping_interval_ns < first) {
        first = core->options.ping_interval_ns;
    }
    rb_wheel_arm(&core->wheel, &conn->timer, core->now_ns + first);
    ok_if_verbose(conn);
}

static void do_connect(struct rb_conn *conn, struct rb_slice json)
{
    struct rb_connect connect;
    struct rb_connect_doc *doc = NULL;
    rb_connect_defaults(&connect);
    connect.verbose = conn->verbose;
    connect.pedantic = conn->pedantic;
    connect.echo = conn->echo;
    connect.headers = conn->headers;
    connect.no_responders = conn->no_responders;
    connect.protocol = conn->async_info ? 1 : 0;
    if (conn->connected && !rb_conn_drop_subs(conn)) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true); /* too many to withdraw at once */
        return;
    }
    if (rb_connect_parse(json, &connect, &doc) != RB_OK) {
        rb_conn_log(conn, RB_LOG_ERR, "CONNECT is not a valid document");
        rb_conn_want_end(conn, RB_CLOSE_PROTOCOL, false);
        return;
    }
    conn->verbose = connect.verbose;
    conn->pedantic = connect.pedantic;
    conn->echo = connect.echo;
    if (conn->core->log->trace) {
        rb_conn_log(conn, RB_LOG_TRC,
                    "<<- [CONNECT verbose=%d pedantic=%d headers=%d no_responders=%d]",
                    connect.verbose, connect.pedantic, connect.headers, connect.no_responders);
    }
    apply_connect(conn, &connect);
    rb_connect_doc_free(doc);
}

/* PUB */

/* Subjects and replies that only servers may use. False when the message is refused. */
static bool publish_allowed(struct rb_conn *conn, const struct rb_op *op)
{
    if (op->subject.len > 4 && (op->subject.ptr[0] == '_' || op->subject.ptr[0] == '$') &&
        (rb_slice_starts(op->subject, RB_S("_GR_.")) ||
         rb_slice_starts(op->subject, RB_S("$NRG.")))) {
        send_violation(conn, "Publish to", op->subject, RB_S(""), "");
        return false;
    }
    if (op->reply.len > 3 && (op->reply.ptr[0] == '_' || op->reply.ptr[0] == '$') &&
        (rb_slice_starts(op->reply, RB_S("_R_.")) || rb_slice_starts(op->reply, RB_S("_GR_.")) ||
         rb_slice_starts(op->reply, RB_S("$JS.ACK.")))) {
        send_violation(conn, "Publish with Reply of", op->reply, RB_S(""), "");
        return false;
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

static void do_publish(struct rb_conn *conn, const struct rb_op *op)
{
    struct rb_core *core = conn->core;
    if (core->log->trace) {
        trace_publish(conn, op);
    }
    if (conn->pedantic && !rb_subject_valid_literal(op->subject)) {
        rb_conn_send_err(conn, "Invalid Publish Subject");
    }
    conn->in_msgs++;
    conn->in_bytes += op->total_len;
    rb_counter_add(&core->stats.in_msgs, 1);
    rb_counter_add(&core->stats.in_bytes, op->total_len);
    if (!publish_allowed(conn, op)) {
        return;
    }
    ok_if_verbose(conn);
    struct rb_msg msg = { .subject = op->subject,
                          .reply = op->reply,
                          .payload = op->payload,
                          .header_len = op->header_len,
                          .buf = op->buf,
                          .from = conn,
                          .silent_cid = conn->echo ? 0 : conn->cid };
    if (!rb_deliver_publish(core, &msg) && op->reply.len > 0 && conn->no_responders) {
        rb_deliver_no_responders(core, conn, op->reply, op->subject);
    }
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

static void drop_sub(struct rb_core *core, struct rb_sub *sub)
{
    if (sub->sid_len <= RB_SUB_SID_INLINE) {
        rb_pool_release(&core->sub_pool, sub);
    } else {
        rb_free(core->budget, sub, sizeof(*sub) + sub->sid_len);
    }
}

static enum rb_err add_sub(struct rb_conn *conn, const struct rb_op *op)
{
    struct rb_core *core = conn->core;
    struct rb_sub *sub = make_sub(conn, op->sid);
    if (sub == NULL) {
        return RB_ERR_MEMORY;
    }
    uint64_t hash = rb_slice_hash(op->sid);
    enum rb_err err = rb_map_insert(&conn->subs, hash, sub);
    if (err != RB_OK) {
        drop_sub(core, sub);
        return err;
    }
    struct rb_interest_change change;
    err = rb_sublist_add(core->sublist, op->subject, op->queue, &sub->ref, &change);
    if (err != RB_OK) {
        (void)rb_map_remove(&conn->subs, hash, sub);
        drop_sub(core, sub);
        return err;
    }
    rb_counter_add(&core->stats.subs, 1);
    if (change.tell) {
        core->peers.interest(core->peers.ctx, op->subject, op->queue, change.weight);
    }
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
        send_violation(conn, "Subscription to", op->subject, op->queue, "");
        return;
    }
    if (options->max_sub_tokens > 0 &&
        rb_subject_token_count(op->subject) > options->max_sub_tokens) {
        send_violation(conn, "Subscription to", op->subject, RB_S(""), ", too many tokens");
        return;
    }
    uint32_t max = options->max_subs;
    if (!conn->connected && (max == 0 || max > RB_UNKNOWN_SUBS_MAX)) {
        max = RB_UNKNOWN_SUBS_MAX;
    }
    if (max > 0 && conn->subs.count >= max) {
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
    if (add_sub(conn, op) != RB_OK) {
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
    if (conn->connected && !conn->info_sent) {
        conn->info_sent = true; /* only the first PING after CONNECT can bring it */
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

void rb_conn_op(struct rb_conn *conn, struct rb_op *op)
{
    if (op->kind != RB_OP_PONG) {
        conn->last_in_ns = conn->core->now_ns;
    }
    switch (op->kind) {
    case RB_OP_PUB:
        do_publish(conn, op);
        break;
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
        do_connect(conn, op->args);
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
