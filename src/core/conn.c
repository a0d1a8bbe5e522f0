/* conn.c - the life of a client connection, from ACCEPTED to CLOSED.
 *
 * 1. The state changes in set_state() only; ending is asked for with rb_conn_want_end() and carried out
 *    in rb_conn_effects(), never in the middle of a delivery, so match results stay valid.
 * 2. While core->mail_tight, no operation is parsed: input waits in held_* and the transport's receive
 *    credit is withdrawn. What is held is bounded by what the transport had already taken.
 * 3. A connection is freed after CLOSED came and every subscription was withdrawn.
 */
#include "core/conn.h"

#include <stdio.h>

#include "ringbus/check.h"

#define FIRST_PING_NS (2 * UINT64_C(1000000000))
#define LAST_WORD_NS UINT64_C(1000000000)
#define RTT_FRESH_NS (3600 * UINT64_C(1000000000))

enum { TIMER_MAIN = 1, TIMER_WRITE = 2 };

const char *rb_close_reason_text(enum rb_close_reason reason)
{
    static const char *const text[] = {
        [RB_CLOSE_NONE] = "Unknown State",
        [RB_CLOSE_CLIENT] = "Client Closed",
        [RB_CLOSE_AUTH_TIMEOUT] = "Authentication Timeout",
        [RB_CLOSE_AUTH] = "Authentication Failure",
        [RB_CLOSE_SLOW_PENDING] = "Slow Consumer (Pending Bytes)",
        [RB_CLOSE_SLOW_DEADLINE] = "Slow Consumer (Write Deadline)",
        [RB_CLOSE_WRITE] = "Write Error",
        [RB_CLOSE_READ] = "Read Error",
        [RB_CLOSE_PARSE] = "Parse Error",
        [RB_CLOSE_STALE] = "Stale Connection",
        [RB_CLOSE_PROTOCOL] = "Protocol Violation",
        [RB_CLOSE_BAD_VERSION] = "Bad Client Protocol Version",
        [RB_CLOSE_MAX_CONNS] = "Maximum Connections Exceeded",
        [RB_CLOSE_MAX_PAYLOAD] = "Maximum Message Payload Exceeded",
        [RB_CLOSE_MAX_CONTROL_LINE] = "Maximum Control Line Exceeded",
        [RB_CLOSE_SHUTDOWN] = "Server Shutdown",
        [RB_CLOSE_HEADERS] = "Message Header Violation",
        [RB_CLOSE_NO_RESPONDERS] = "No Responders Requires Headers",
        [RB_CLOSE_MEMORY] = "Memory Budget Spent",
    };
    return text[reason];
}

static bool sub_equal(const void *item, struct rb_slice key)
{
    const struct rb_sub *sub = item;
    return rb_slice_equal(rb_slice_of(sub->sid, sub->sid_len), key);
}

static uint64_t sub_hash(const void *item)
{
    const struct rb_sub *sub = item;
    return rb_slice_hash(rb_slice_of(sub->sid, sub->sid_len));
}

enum rb_err rb_core_init(struct rb_core *core)
{
    rb_bufpool_init(&core->bufs, core->budget);
    rb_pool_init(&core->conn_pool, core->budget, sizeof(struct rb_conn), 32);
    rb_pool_init(&core->sub_pool, core->budget, sizeof(struct rb_sub), 128);
    rb_pool_init(&core->seg_pool, core->budget, sizeof(struct rb_seg), 128);
    rb_effects_init(&core->effects);
    rb_list_init(&core->conns);
    rb_list_init(&core->stalled);
    core->now_ns = rb_env_now(core->env);
    rb_wheel_init(&core->wheel, core->now_ns);
    core->err_limit = (struct rb_log_limit){ .interval_ns = 1000000000 };
    return rb_sublist_create(core->budget, core->options.shard_count, &core->sublist);
}

void rb_core_drop_runs(struct rb_core *core)
{
    for (uint32_t i = 0; i < RB_CORE_RUNS; i++) {
        if (core->runs[i] != NULL) {
            rb_buf_release(core->runs[i]);
            core->runs[i] = NULL;
        }
    }
}

void rb_core_deinit(struct rb_core *core)
{
    rb_assert(rb_list_empty(&core->conns));
    rb_core_drop_runs(core);
    rb_sublist_destroy(core->sublist);
    rb_pool_deinit(&core->conn_pool);
    rb_pool_deinit(&core->sub_pool);
    rb_pool_deinit(&core->seg_pool);
    rb_bufpool_deinit(&core->bufs);
}

void rb_conn_log(struct rb_conn *conn, enum rb_log_level level, const char *format, ...)
{
    if (!rb_log_enabled(conn->core->log, level)) {
        return;
    }
    char text[1024], addr[RB_ADDR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    rb_log_line(conn->core->log, level, "%s - cid:%llu - %s%s%s", rb_addr_format(&conn->peer, addr),
                (unsigned long long)conn->cid, conn->label == NULL ? "" : conn->label,
                conn->label == NULL ? "" : " - ", text);
}

/* Starting */

static void send_or_drop(struct rb_conn *conn, size_t len)
{
    if (len > 0) {
        rb_conn_commit(conn, (uint32_t)len);
        rb_conn_written(conn);
    }
}

void rb_conn_send_info(struct rb_conn *conn, bool connect_info)
{
    enum { INFO_BYTES_MAX = 8192 };
    char ip[RB_ADDR_TEXT_MAX];
    struct rb_info info = conn->core->options.info;
    info.client_id = conn->cid;
    if (conn->peer.family != 0) {
        info.client_ip = rb_slice_text(rb_addr_format_ip(&conn->peer, ip));
    }
    if (connect_info) {
        info.connect_info = true;
        info.remote_account = RB_S("$G");
    }
    uint8_t text[INFO_BYTES_MAX];
    size_t len = rb_info_format(text, sizeof(text), &info);
    rb_assert(len > 0); /* every part is bounded by the configuration */
    rb_conn_write(conn, rb_slice_of(text, len));
    rb_conn_written(conn);
}

void rb_conn_send_err(struct rb_conn *conn, const char *text)
{
    uint32_t cap = (uint32_t)strlen(text) + 16;
    uint8_t *out = rb_conn_reserve(conn, cap);
    if (out == NULL) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return;
    }
    send_or_drop(conn, rb_encode_err(out, cap, text));
    rb_conn_log(conn, RB_LOG_TRC, "->> [-ERR %s]", text);
}

static void accept_conn(struct rb_core *core, const struct rb_event *event)
{
    struct rb_conn *conn = rb_pool_acquire(&core->conn_pool);
    if (conn == NULL) {
        uint64_t skipped;
        if (rb_log_limit_pass(&core->err_limit, core->now_ns, &skipped)) {
            rb_log_err(core->log, "memory budget spent: connection refused (%llu more like it)",
                       (unsigned long long)skipped);
        }
        (void)rb_transport_close(core->transport, event->conn);
        return;
    }
    memset(conn, 0, sizeof(*conn));
    conn->core = core;
    conn->id = event->conn;
    conn->peer = event->peer;
    conn->cid = 1 + atomic_fetch_add_explicit(core->next_cid, 1, memory_order_relaxed);
    conn->verbose = conn->pedantic = conn->echo = conn->credit = true;
    conn->last_in_ns = core->now_ns;
    rb_effect_init(&conn->effect);
    rb_list_init(&conn->stalled_link);
    rb_list_append(&core->conns, &conn->link);
    rb_timer_init(&conn->timer, TIMER_MAIN);
    rb_timer_init(&conn->write_timer, TIMER_WRITE);
    rb_map_init(&conn->subs, core->budget, 0, sub_equal, sub_hash);
    rb_parser_init(&conn->parser, &core->bufs);
    conn->parser.max_control_line = core->options.max_control_line;
    conn->parser.max_payload = core->options.max_payload;
    if (conn->parser.max_payload > RB_UNKNOWN_PAYLOAD_MAX) {
        conn->parser.max_payload = RB_UNKNOWN_PAYLOAD_MAX;
    }
    bool auth = rb_auth_password_required(&core->options.auth);
    conn->parser.require_connect = auth;
    rb_transport_set_user(core->transport, conn->id, conn);
    rb_counter_add(&core->stats.conns, 1);
    rb_counter_add(&core->stats.conns_total, 1);
    rb_conn_log(conn, RB_LOG_DBG, "Client connection created");
    rb_conn_send_info(conn, false);
    int64_t open = atomic_fetch_add_explicit(core->conn_count, 1, memory_order_relaxed) + 1;
    conn->counted = true;
    if (core->options.max_connections != 0 && open > core->options.max_connections) {
        rb_conn_send_err(conn, "maximum connections exceeded");
        rb_conn_log(conn, RB_LOG_ERR, "maximum connections exceeded");
        rb_conn_want_end(conn, RB_CLOSE_MAX_CONNS, false);
        return;
    }
    rb_wheel_arm(&core->wheel, &conn->timer,
                 core->now_ns +
                     (auth ? core->options.auth_timeout_ns : core->options.ping_interval_ns));
}

/* Input */

static void fail_parse(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    enum rb_close_reason reason = RB_CLOSE_PROTOCOL;
    switch (conn->parser.fail) {
    case RB_FAIL_PROTOCOL:
        rb_conn_send_err(conn, "Unknown Protocol Operation");
        break;
    case RB_FAIL_CONTROL_LINE:
        rb_conn_send_err(conn, "maximum control line exceeded");
        reason = RB_CLOSE_MAX_CONTROL_LINE;
        break;
    case RB_FAIL_PAYLOAD:
        rb_conn_send_err(conn, "Maximum Payload Violation");
        reason = RB_CLOSE_MAX_PAYLOAD;
        break;
    case RB_FAIL_AUTH:
        rb_conn_send_err(conn, "Authorization Violation");
        reason = RB_CLOSE_AUTH;
        break;
    case RB_FAIL_MEMORY:
        reason = RB_CLOSE_MEMORY;
        break;
    case RB_FAIL_HEADERS:
        reason = RB_CLOSE_HEADERS;
        break;
    case RB_FAIL_NONE:
    case RB_FAIL_ARGS:
        break;
    }
    uint64_t skipped;
    if (rb_log_limit_pass(&core->err_limit, core->now_ns, &skipped)) {
        rb_conn_log(conn, RB_LOG_ERR, "Client parser ERROR, %s", conn->parser.fail_text);
    }
    rb_conn_want_end(conn, reason, false);
}

/* Parses until the input is used up, the connection ends, or the mail is tight; returns what is left. */
static struct rb_slice parse_input(struct rb_conn *conn, struct rb_slice input)
{
    struct rb_op op;
    while (rb_conn_open(conn) && !conn->core->mail_tight) {
        switch (rb_parse_next(&conn->parser, &input, &op)) {
        case RB_PARSE_OP:
            rb_conn_op(conn, &op);
            break;
        case RB_PARSE_MORE:
            return (struct rb_slice){ NULL, 0 };
        case RB_PARSE_FAIL:
            fail_parse(conn);
            break;
        }
    }
    if (!rb_conn_open(conn)) {
        return (struct rb_slice){ NULL, 0 };
    }
    return input;
}

/* Invariant 2: keeps `input` for later and stops the transport. */
static void hold_input(struct rb_conn *conn, struct rb_slice input)
{
    struct rb_core *core = conn->core;
    struct rb_buf *buf = rb_buf_acquire(&core->bufs, (uint32_t)input.len);
    if (buf == NULL) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return;
    }
    memcpy(buf->data, input.ptr, input.len);
    buf->len = (uint32_t)input.len;
    buf->next = NULL;
    if (conn->held_tail == NULL) {
        conn->held_head = buf;
    } else {
        conn->held_tail->next = buf;
    }
    conn->held_tail = buf;
    if (conn->credit) {
        conn->credit = false;
        rb_transport_credit(core->transport, conn->id, false);
        rb_list_append(&core->stalled, &conn->stalled_link);
    }
}

static void drop_held(struct rb_conn *conn)
{
    while (conn->held_head != NULL) {
        struct rb_buf *buf = conn->held_head;
        conn->held_head = buf->next;
        rb_buf_release(buf);
    }
    conn->held_tail = NULL;
}

static void receive(struct rb_conn *conn, struct rb_slice bytes)
{
    if (!rb_conn_open(conn)) {
        return;
    }
    if (conn->held_head == NULL) {
        bytes = parse_input(conn, bytes);
    }
    if (bytes.len > 0) {
        hold_input(conn, bytes);
    }
}

/* True when the connection no longer waits. */
static bool resume_conn(struct rb_conn *conn)
{
    while (conn->held_head != NULL && rb_conn_open(conn)) {
        struct rb_buf *buf = conn->held_head;
        struct rb_slice left = parse_input(conn, rb_slice_of(buf->data, buf->len));
        if (left.len > 0) {
            memmove(buf->data, left.ptr, left.len);
            buf->len = (uint32_t)left.len;
            return false;
        }
        conn->held_head = buf->next;
        if (conn->held_head == NULL) {
            conn->held_tail = NULL;
        }
        rb_buf_release(buf);
    }
    return true;
}

void rb_conn_resume(struct rb_core *core)
{
    struct rb_list waiting;
    rb_list_init(&waiting);
    for (struct rb_list *link; (link = rb_list_pop(&core->stalled)) != NULL;) {
        rb_list_append(&waiting, link);
    }
    for (struct rb_list *link; (link = rb_list_pop(&waiting)) != NULL;) {
        struct rb_conn *conn = RB_CONTAINER(link, struct rb_conn, stalled_link);
        if (core->mail_tight) {
            rb_list_append(&core->stalled, link);
        } else if (conn->state >= RB_CONN_ENDING) {
            rb_effects_want(&core->effects, &conn->effect, RB_CONN_WANT_END);
        } else if (!resume_conn(conn)) {
            rb_list_append(&core->stalled, link);
        } else if (rb_conn_open(conn)) {
            conn->credit = true;
            rb_transport_credit(core->transport, conn->id, true);
        }
    }
}

/* Ending */

void rb_conn_want_end(struct rb_conn *conn, enum rb_close_reason reason, bool drop_output)
{
    if (conn->end_reason == RB_CLOSE_NONE) {
        conn->end_reason = (uint8_t)reason;
    }
    conn->drop_output |= drop_output;
    rb_effects_want(&conn->core->effects, &conn->effect, RB_CONN_WANT_END);
}

static void free_sub(struct rb_conn *conn, struct rb_sub *sub)
{
    struct rb_core *core = conn->core;
    if (sub->sid_len <= RB_SUB_SID_INLINE) {
        rb_pool_release(&core->sub_pool, sub);
    } else {
        rb_free(core->budget, sub, sizeof(*sub) + sub->sid_len);
    }
}

void rb_conn_unsubscribe(struct rb_conn *conn, struct rb_sub *sub)
{
    struct rb_core *core = conn->core;
    struct rb_interest_change change;
    struct rb_slice subject = rb_sublist_subject(&sub->ref);
    struct rb_slice queue = rb_sublist_queue(&sub->ref);
    rb_sublist_remove(core->sublist, &sub->ref, &change);
    if (change.tell) {
        core->peers.interest(core->peers.ctx, subject, queue, change.weight);
    }
    bool found = rb_map_remove(&conn->subs, sub_hash(sub), sub);
    rb_assert(found);
    rb_counter_sub(&core->stats.subs, 1);
    free_sub(conn, sub);
}

bool rb_conn_drop_subs(struct rb_conn *conn)
{
    enum { BATCH = 64 };
    while (conn->subs.count > 0) {
        struct rb_sub *batch[BATCH];
        uint32_t count = 0, at = 0;
        while (count < BATCH && (batch[count] = rb_map_next(&conn->subs, &at)) != NULL) {
            count++;
        }
        for (uint32_t i = 0; i < count; i++) {
            if (conn->core->mail_tight) {
                return false;
            }
            rb_conn_unsubscribe(conn, batch[i]);
        }
    }
    return true;
}

static void free_conn(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    rb_assert(conn->subs.count == 0 && !conn->sending && conn->held_head == NULL);
    rb_map_deinit(&conn->subs);
    rb_effect_cancel(&conn->effect);
    rb_list_remove(&conn->link);
    rb_list_remove(&conn->stalled_link);
    if (conn->label != NULL) {
        rb_free(core->budget, conn->label, strlen(conn->label) + 1);
    }
    rb_counter_sub(&core->stats.conns, 1);
    rb_pool_release(&core->conn_pool, conn);
}

static void set_state(struct rb_conn *conn, enum rb_conn_state state)
{
    rb_assert(state >= conn->state);
    conn->state = (uint8_t)state;
}

static void begin_end(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    set_state(conn, RB_CONN_ENDING);
    rb_wheel_disarm(&core->wheel, &conn->timer);
    rb_conn_log(conn, RB_LOG_DBG, "Client connection closed: %s",
                rb_close_reason_text((enum rb_close_reason)conn->end_reason));
    rb_parser_deinit(&conn->parser);
    drop_held(conn);
    rb_list_remove(&conn->stalled_link);
    if (conn->counted) {
        conn->counted = false;
        atomic_fetch_sub_explicit(core->conn_count, 1, memory_order_relaxed);
    }
    if (!conn->failed && !conn->drop_output) {
        if (conn->credit) {
            conn->credit = false;
            rb_transport_credit(core->transport, conn->id, false);
        }
        rb_wheel_arm(&core->wheel, &conn->timer, core->now_ns + LAST_WORD_NS);
    }
}

static void begin_close(struct rb_conn *conn)
{
    set_state(conn, RB_CONN_CLOSING);
    rb_wheel_disarm(&conn->core->wheel, &conn->timer);
    rb_wheel_disarm(&conn->core->wheel, &conn->write_timer);
    enum rb_err err = rb_transport_close(conn->core->transport, conn->id);
    rb_assert(err == RB_OK);
}

/* One step towards the end; called until the connection is gone. */
static void step_end(struct rb_conn *conn)
{
    if (conn->state < RB_CONN_ENDING) {
        begin_end(conn);
    }
    if (conn->state == RB_CONN_ENDING) {
        if (conn->failed || conn->drop_output || conn->pending_bytes == 0) {
            begin_close(conn);
        } else {
            rb_conn_flush(conn);
        }
    }
    if (!rb_conn_drop_subs(conn)) {
        rb_list_remove(&conn->stalled_link);
        rb_list_append(&conn->core->stalled, &conn->stalled_link);
        return;
    }
    if (conn->closed) {
        free_conn(conn);
    }
}

void rb_conn_end_all(struct rb_core *core, enum rb_close_reason reason)
{
    for (struct rb_list *link = core->conns.next; link != &core->conns; link = link->next) {
        struct rb_conn *conn = RB_CONTAINER(link, struct rb_conn, link);
        if (conn->end_reason == RB_CLOSE_NONE) {
            rb_conn_want_end(conn, reason, false);
        }
    }
}

/* Events */

static void finish_send(struct rb_conn *conn, enum rb_err err)
{
    rb_conn_sent(conn);
    if (err != RB_OK) {
        conn->failed = true;
        rb_conn_want_end(conn, RB_CLOSE_WRITE, true);
    } else if (conn->end_reason != RB_CLOSE_NONE) {
        rb_effects_want(&conn->core->effects, &conn->effect, RB_CONN_WANT_END);
    } else if (conn->pending_bytes > 0) {
        rb_effects_want(&conn->core->effects, &conn->effect, RB_CONN_WANT_FLUSH);
    }
}

void rb_conn_event(struct rb_core *core, const struct rb_event *event)
{
    struct rb_conn *conn = event->user;
    if (event->kind == RB_EVENT_ACCEPTED) {
        accept_conn(core, event);
        return;
    }
    if (conn == NULL) {
        return; /* refused at the door: only its CLOSED was still to come */
    }
    switch (event->kind) {
    case RB_EVENT_RECEIVED:
        receive(conn, event->bytes);
        break;
    case RB_EVENT_SENT:
        finish_send(conn, event->err);
        break;
    case RB_EVENT_FAILED:
        conn->failed = event->err != RB_OK;
        rb_conn_want_end(conn, conn->failed ? RB_CLOSE_READ : RB_CLOSE_CLIENT, conn->failed);
        break;
    case RB_EVENT_CLOSED:
        conn->closed = true;
        rb_conn_drop_output(conn);
        rb_effects_want(&core->effects, &conn->effect, RB_CONN_WANT_END);
        break;
    case RB_EVENT_ACCEPTED:
    case RB_EVENT_ACCEPT_FAILED:
    case RB_EVENT_CONNECTED:
        rb_unreachable("a client connection does not get this event");
    }
}

/* Timers */

static bool ping_needed(const struct rb_conn *conn)
{
    const struct rb_core *core = conn->core;
    if (core->now_ns - conn->last_in_ns >= core->options.ping_interval_ns) {
        return true;
    }
    return conn->rtt_ns == 0 || core->now_ns - conn->ping_sent_ns > RTT_FRESH_NS;
}

static void fire_main(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    if (conn->state == RB_CONN_ENDING) {
        conn->drop_output = true; /* the last word was not taken in time */
        rb_effects_want(&core->effects, &conn->effect, RB_CONN_WANT_END);
        return;
    }
    if (!conn->connected && conn->parser.require_connect) {
        rb_conn_send_err(conn, "Authentication Timeout");
        rb_conn_log(conn, RB_LOG_DBG, "Authentication Timeout");
        rb_conn_want_end(conn, RB_CLOSE_AUTH_TIMEOUT, false);
        return;
    }
    if (ping_needed(conn)) {
        if ((uint32_t)conn->pings_out + 1 > core->options.ping_max) {
            rb_counter_add(&core->stats.stale_conns, 1);
            rb_conn_log(conn, RB_LOG_DBG, "Stale Client Connection - Closing");
            rb_conn_send_err(conn, "Stale Connection");
            rb_conn_want_end(conn, RB_CLOSE_STALE, false);
            return;
        }
        conn->pings_out++;
        conn->ping_sent_ns = core->now_ns;
        rb_conn_write(conn, RB_WIRE_PING);
        rb_conn_written(conn);
        rb_conn_log(conn, RB_LOG_TRC, "->> [PING]");
    }
    rb_wheel_arm(&core->wheel, &conn->timer, core->now_ns + core->options.ping_interval_ns);
}

static void fire_write(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    if (!conn->sending) {
        return; /* the next send arms it again */
    }
    uint64_t due = conn->send_started_ns + core->options.write_deadline_ns;
    if (due > core->now_ns) {
        rb_wheel_arm(&core->wheel, &conn->write_timer, due);
        return;
    }
    if (conn->end_reason == RB_CLOSE_NONE) {
        rb_counter_add(&core->stats.slow_consumers, 1);
        rb_conn_log(conn, RB_LOG_INF,
                    "Slow Consumer Detected: WriteDeadline of %.3gs exceeded with %llu bytes in "
                    "flight of %llu total bytes.",
                    (double)core->options.write_deadline_ns / 1e9,
                    (unsigned long long)conn->send_bytes, (unsigned long long)conn->pending_bytes);
    }
    rb_conn_want_end(conn, RB_CLOSE_SLOW_DEADLINE, true);
}

void rb_conn_timer(struct rb_core *core, struct rb_timer *timer)
{
    if (timer->kind == TIMER_MAIN) {
        fire_main(RB_CONTAINER(timer, struct rb_conn, timer));
    } else {
        fire_write(RB_CONTAINER(timer, struct rb_conn, write_timer));
    }
}

void rb_conn_effects(struct rb_core *core)
{
    struct rb_effects now; /* what is asked for meanwhile waits for the next turn */
    rb_effects_init(&now);
    for (struct rb_list *link; (link = rb_list_pop(&core->effects.wanted)) != NULL;) {
        rb_list_append(&now.wanted, link);
    }
    uint32_t bits;
    for (struct rb_effect *effect; (effect = rb_effects_next(&now, &bits)) != NULL;) {
        struct rb_conn *conn = RB_CONTAINER(effect, struct rb_conn, effect);
        if ((bits & RB_CONN_WANT_END) != 0) {
            step_end(conn);
        } else {
            rb_conn_flush(conn);
        }
    }
}
