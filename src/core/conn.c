/* conn.c - the life of a client connection, from ACCEPTED to CLOSED.
 *
 * 1. The state changes in set_state() only; ending is asked for with rb_conn_want_end() and carried out
 *    in rb_conn_effects(), never in the middle of a delivery, so match results stay valid.
 * 2. While core->mail_tight, no operation is parsed: input waits in held_* and the transport's receive
 *    credit is withdrawn. What is held is bounded by what the transport had already taken.
 * 3. A connection is freed after CLOSED came, every subscription was withdrawn, and no helper thread holds a job of it.
 * 4. While a verdict is awaited (auth_wait) input is held in the same way.
 */
#include "core/conn.h"

#include <stdio.h>

#include "core/identity.h"
#include "core/link.h"
#include "core/perms.h"
#include "core/service.h"
#include "core/trace.h"
#include "proto/ws.h"
#include "ringbus/check.h"
#include "tls/tls.h"

#define FIRST_PING_NS (2 * UINT64_C(1000000000))
#define LAST_WORD_NS UINT64_C(1000000000)
#define RTT_FRESH_NS (3600 * UINT64_C(1000000000))

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
        [RB_CLOSE_TLS] = "TLS Handshake Failure",
        [RB_CLOSE_ACCOUNT_CONNS] = "Maximum Account Connections Exceeded",
        [RB_CLOSE_MAX_SUBS] = "Maximum Subscriptions Exceeded",
        [RB_CLOSE_KICKED] = "Kicked",
        [RB_CLOSE_MISSING_ACCOUNT] = "Missing Account",
        [RB_CLOSE_PROXY_REQUIRED] = "Proxy Required",
        [RB_CLOSE_PROXY_NOT_TRUSTED] = "Proxy Not Trusted",
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

void rb_core_settings_release(const struct rb_core_settings *settings)
{
    struct rb_core_settings *own = (struct rb_core_settings *)(uintptr_t)settings;
    if (own == NULL || atomic_fetch_sub_explicit(&own->ref_count, 1, memory_order_acq_rel) != 1) {
        return;
    }
    rb_policy_release(own->policy);
    rb_tls_context_release(own->tls);
    rb_tls_context_release(own->ws_tls);
    struct rb_arena *arena = own->arena;
    rb_arena_destroy(arena); /* `own` lies in it */
}

static void take_options(struct rb_core *core)
{
    uint32_t index = core->options.shard_index;
    core->options = core->settings->options;
    core->options.shard_index = index;
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
    rb_list_init(&core->responses);
    core->now_ns = rb_env_now(core->env);
    rb_wheel_init(&core->wheel, core->now_ns);
    core->err_limit = (struct rb_log_limit){ .interval_ns = 1000000000 };
    take_options(core);
    return rb_accounts_apply(core, NULL);
}

enum rb_err rb_core_apply(struct rb_core *core, const struct rb_core_settings *settings)
{
    const struct rb_core_settings *before = core->settings;
    core->settings = settings;
    take_options(core);
    enum rb_err err = rb_accounts_apply(core, before->policy);
    rb_perms_cache_drop(core); /* its sources lie in the old policy */
    for (struct rb_list *link = core->conns.next; link != &core->conns; link = link->next) {
        rb_conn_rejudge(RB_CONTAINER(link, struct rb_conn, link_all), before->policy);
    }
    rb_core_settings_release(before);
    return err;
}

bool rb_core_tls_rate_pass(struct rb_core *core)
{
    int64_t limit = core->options.tls_rate_limit;
    if (limit <= 0) {
        return true;
    }
    /* The second in the upper half, the count of it in the lower. */
    uint64_t second = core->now_ns / 1000000000 & UINT32_MAX;
    uint64_t seen = atomic_load_explicit(core->tls_rate, memory_order_relaxed), next;
    do {
        uint64_t count = seen >> 32 == second ? seen & UINT32_MAX : 0;
        if (count >= (uint64_t)limit) {
            return false;
        }
        next = second << 32 | (count + 1);
    } while (!atomic_compare_exchange_weak_explicit(core->tls_rate, &seen, next,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
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
    rb_traces_deinit(core);
    rb_accounts_deinit(core);
    rb_perms_cache_drop(core);
    rb_ws_deflater_destroy(core->deflater);
    rb_free(core->budget, core->scratch, RB_CORE_SCRATCH);
    rb_free(core->budget, core->join, RB_CORE_JOIN);
    rb_core_settings_release(core->settings);
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
    rb_log_line(conn->core->log, level, "%s - %s:%llu - %s%s%s", rb_addr_format(&conn->peer, addr),
                conn->type == RB_TYPE_WEBSOCKET ? "wid" : "cid", (unsigned long long)conn->cid,
                conn->label == NULL ? "" : conn->label, conn->label == NULL ? "" : " - ", text);
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
    enum { INFO_BYTES_MAX = 32768 };
    struct rb_core *core = conn->core;
    char ip[RB_ADDR_TEXT_MAX];
    bool websocket = conn->type == RB_TYPE_WEBSOCKET;
    struct rb_info info = websocket ? core->options.ws_info : core->options.info;
    info.client_id = conn->cid;
    info.ldm = core->lame_duck;
    bool known = !core->options.proxy_protocol || conn->connected || rb_link_tls_first(conn->link);
    if (conn->peer.family != 0 && known) {
        info.client_ip = rb_slice_text(rb_addr_format_ip(&conn->peer, ip));
    }
    if (conn->nonce[0] != '\0' && !conn->info_sent) {
        info.nonce = rb_slice_of(conn->nonce, RB_NONCE_LEN);
    }
    if (conn->type == RB_TYPE_IN_PROCESS && info.tls_required) {
        info.tls_required = false;
        info.tls_available = true;
    }
    if (!connect_info && !websocket && rb_link_tls_first(conn->link)) {
        info.tls_required = true; /* too late to choose, also where it is optional */
    }
    if (connect_info) {
        info.connect_info = true;
        info.auth_required = rb_policy_auth_required(core->settings->policy, websocket);
        info.remote_account = conn->account->name;
        info.acc_is_sys = rb_account_is_system(conn->account);
        info.max_payload = conn->max_payload;
    }
    struct rb_buf *buf = rb_buf_acquire(&core->bufs, INFO_BYTES_MAX);
    if (buf == NULL) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return;
    }
    size_t len = rb_info_format(buf->data, buf->cap, &info);
    rb_assert(len > 0); /* every part is bounded by the configuration */
    rb_conn_write(conn, rb_slice_of(buf->data, len));
    rb_buf_release(buf);
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

static void refuse_accept(struct rb_core *core, const struct rb_event *event)
{
    uint64_t skipped;
    if (rb_log_limit_pass(&core->err_limit, core->now_ns, &skipped)) {
        rb_log_err(core->log, "memory budget spent: connection refused (%llu more like it)",
                   (unsigned long long)skipped);
    }
    (void)rb_transport_close(core->transport, event->conn);
}

static uint8_t type_of(const struct rb_core *core, uint32_t listener)
{
    if (listener == RB_LISTENER_IN_PROCESS) {
        return RB_TYPE_IN_PROCESS;
    }
    uint8_t type = core->listener_types != NULL && listener < RB_LISTENERS_MAX
                       ? atomic_load_explicit(&core->listener_types[listener], memory_order_relaxed)
                       : 0;
    return type == 0 ? RB_TYPE_STANDARD : type;
}

static void make_nonce(struct rb_conn *conn)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if (!rb_policy_nonce_required(conn->core->settings->policy)) {
        return;
    }
    uint8_t bytes[RB_NONCE_LEN];
    conn->core->env->entropy(conn->core->env->ctx, bytes, sizeof(bytes));
    for (int i = 0; i < RB_NONCE_LEN; i++) {
        conn->nonce[i] = digits[bytes[i] & 63];
    }
}

static void init_conn(struct rb_core *core, struct rb_conn *conn, const struct rb_event *event)
{
    memset(conn, 0, sizeof(*conn));
    conn->core = core;
    conn->id = event->conn;
    conn->peer = event->peer;
    conn->type = type_of(core, event->listener);
    conn->cid = 1 + atomic_fetch_add_explicit(core->next_cid, 1, memory_order_relaxed);
    conn->verbose = conn->pedantic = conn->echo = conn->credit = true;
    conn->last_in_ns = core->now_ns;
    conn->start_wall_ns = core->env->wall_ns(core->env->ctx);
    conn->account = rb_account_get(core, core->settings->policy->accounts[0].id);
    conn->max_payload = core->options.max_payload;
    conn->max_subs = core->options.max_subs;
    rb_effect_init(&conn->effect);
    rb_list_init(&conn->stalled_link);
    rb_list_init(&conn->account_link);
    rb_list_append(&core->conns, &conn->link_all);
    rb_timer_init(&conn->timer, RB_TIMER_CONN);
    rb_timer_init(&conn->write_timer, RB_TIMER_WRITE);
    rb_map_init(&conn->subs, core->budget, 0, sub_equal, sub_hash);
    rb_parser_init(&conn->parser, &core->bufs);
    conn->parser.max_control_line = core->options.max_control_line;
    conn->parser.max_payload = core->options.max_payload;
    if (conn->parser.max_payload > RB_UNKNOWN_PAYLOAD_MAX) {
        conn->parser.max_payload = RB_UNKNOWN_PAYLOAD_MAX;
    }
    make_nonce(conn);
}

static void refuse_excess(struct rb_conn *conn)
{
    rb_conn_send_info(conn, false);
    rb_conn_send_err(conn, "maximum connections exceeded");
    rb_conn_log(conn, RB_LOG_ERR, "maximum connections exceeded");
    rb_conn_want_end(conn, RB_CLOSE_MAX_CONNS, false);
}

static void accept_conn(struct rb_core *core, const struct rb_event *event)
{
    struct rb_conn *conn = rb_pool_acquire(&core->conn_pool);
    if (conn == NULL) {
        refuse_accept(core, event);
        return;
    }
    init_conn(core, conn, event);
    rb_transport_set_user(core->transport, conn->id, conn);
    rb_counter_add(&core->stats.conns, 1);
    rb_counter_add(&core->stats.conns_total, 1);
    rb_conn_log(conn, RB_LOG_DBG, "%s connection created",
                conn->type == RB_TYPE_WEBSOCKET ? "Websocket" : "Client");
    int64_t open = atomic_fetch_add_explicit(core->conn_count, 1, memory_order_relaxed) + 1;
    conn->counted = true;
    conn->excess = core->options.max_connections != 0 && open > core->options.max_connections;
    if (conn->excess && conn->type != RB_TYPE_WEBSOCKET) { /* which is told after the upgrade */
        refuse_excess(conn);
    } else if (!rb_link_begin(conn)) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
    }
}

void rb_conn_start(struct rb_conn *conn, bool send_info)
{
    struct rb_core *core = conn->core;
    bool websocket = conn->type == RB_TYPE_WEBSOCKET;
    if (conn->excess) {
        refuse_excess(conn);
        return;
    }
    if (send_info) {
        rb_conn_send_info(conn, false);
    }
    bool auth = rb_policy_auth_required(core->settings->policy, websocket);
    conn->parser.require_connect =
        auth && rb_auth_anonymous(core->settings->policy, websocket, conn->type) == NULL;
    uint64_t wait_ns = core->options.ping_interval_ns;
    if (auth) {
        wait_ns = websocket && core->options.ws_auth_timeout_ns > 0
                      ? core->options.ws_auth_timeout_ns
                      : core->options.auth_timeout_ns;
    } else if (!rb_conn_bind_nobody(conn)) {
        return;
    }
    rb_wheel_arm(&core->wheel, &conn->timer, core->now_ns + wait_ns);
}

/* Input */

/* A message above the limit may ask for a trace, if its headers came with its size. */
static void trace_oversize(struct rb_conn *conn, struct rb_slice input)
{
    const struct rb_op *op = &conn->parser.pending;
    struct rb_trace *trace;
    struct rb_slice header =
        rb_slice_of(input.ptr, input.len < op->header_len ? input.len : (size_t)op->header_len);
    if (header.len >= RB_TRACE_HEADER_MIN && rb_trace_mentioned(header) &&
        !rb_list_empty(&conn->account_link) &&
        rb_trace_begin(conn, op, header, RB_S("maximum payload exceeded"), &trace) ==
            RB_TRACE_YES) {
        rb_trace_end(trace);
    }
}

static void fail_parse(struct rb_conn *conn, struct rb_slice input)
{
    struct rb_core *core = conn->core;
    enum rb_close_reason reason = RB_CLOSE_PROTOCOL;
    if (conn->parser.fail == RB_FAIL_AUTH) {
        rb_conn_refuse_login(conn);
        return;
    }
    switch (conn->parser.fail) {
    case RB_FAIL_PROTOCOL:
        rb_conn_send_err(conn, "Unknown Protocol Operation");
        break;
    case RB_FAIL_CONTROL_LINE:
        rb_conn_send_err(conn, "maximum control line exceeded");
        reason = RB_CLOSE_MAX_CONTROL_LINE;
        break;
    case RB_FAIL_PAYLOAD:
        trace_oversize(conn, input);
        rb_conn_send_err(conn, "Maximum Payload Violation");
        reason = RB_CLOSE_MAX_PAYLOAD;
        break;
    case RB_FAIL_MEMORY:
        reason = RB_CLOSE_MEMORY;
        break;
    case RB_FAIL_HEADERS:
        reason = RB_CLOSE_HEADERS;
        break;
    case RB_FAIL_NONE:
    case RB_FAIL_AUTH:
    case RB_FAIL_ARGS:
        break;
    }
    uint64_t skipped;
    if (rb_log_limit_pass(&core->err_limit, core->now_ns, &skipped)) {
        rb_conn_log(conn, RB_LOG_ERR, "Client parser ERROR, %s", conn->parser.fail_text);
    }
    rb_conn_want_end(conn, reason, false);
}

static bool must_wait(const struct rb_conn *conn)
{
    return conn->core->mail_tight || conn->auth_wait != NULL || conn->again != NULL;
}

/* Parses until the input is used up, the connection ends, or something must come first; returns what is left. */
static struct rb_slice parse_input(struct rb_conn *conn, struct rb_slice input)
{
    struct rb_op op;
    while (rb_conn_open(conn) && !must_wait(conn)) {
        switch (rb_parse_next(&conn->parser, &input, &op)) {
        case RB_PARSE_OP:
            rb_conn_op(conn, &op);
            break;
        case RB_PARSE_MORE:
            return (struct rb_slice){ NULL, 0 };
        case RB_PARSE_FAIL:
            fail_parse(conn, input);
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
    rb_conn_stall(conn);
}

void rb_conn_stall(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    if (conn->credit) {
        conn->credit = false;
        rb_transport_credit(core->transport, conn->id, false);
        if (conn->auth_wait == NULL) {
            rb_list_append(&core->stalled, &conn->stalled_link);
        }
    }
}

void rb_conn_continue(struct rb_conn *conn)
{
    if (!conn->credit && rb_list_empty(&conn->stalled_link) && conn->state < RB_CONN_ENDING) {
        rb_list_append(&conn->core->stalled, &conn->stalled_link);
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

void rb_conn_receive(struct rb_conn *conn, struct rb_slice bytes)
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
    if (conn->again != NULL && !rb_conn_connect_again(conn)) {
        return false;
    }
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
            if (conn->auth_wait == NULL) { /* else the verdict brings it back */
                rb_list_append(&core->stalled, link);
            }
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

void rb_conn_free_sub(struct rb_core *core, struct rb_sub *sub)
{
    if (sub->sid_len <= RB_SUB_SID_INLINE) {
        rb_pool_release(&core->sub_pool, sub);
    } else {
        rb_free(core->budget, sub, sizeof(*sub) + sub->sid_len);
    }
}

void rb_conn_unsubscribe(struct rb_conn *conn, struct rb_sub *sub)
{
    struct rb_core *core = conn->core;
    rb_account_unsubscribe(conn->account, sub);
    bool found = rb_map_remove(&conn->subs, sub_hash(sub), sub);
    rb_assert(found);
    rb_counter_sub(&core->stats.subs, 1);
    atomic_fetch_sub_explicit(&conn->account->shared->subs, 1, memory_order_relaxed);
    rb_conn_free_sub(core, sub);
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
    rb_list_remove(&conn->link_all);
    rb_list_remove(&conn->stalled_link);
    rb_link_free(conn);
    rb_conn_unbind(conn);
    if (conn->again != NULL) {
        rb_buf_release(conn->again);
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
    rb_conn_log(conn, RB_LOG_DBG, "%s connection closed: %s",
                conn->type == RB_TYPE_WEBSOCKET ? "Websocket" : "Client",
                rb_close_reason_text((enum rb_close_reason)conn->end_reason));
    rb_parser_deinit(&conn->parser);
    drop_held(conn);
    rb_list_remove(&conn->stalled_link);
    rb_conn_uncount(conn);
    if (conn->up && core->hooks.conn_down != NULL) {
        core->hooks.conn_down(core->hooks.ctx, conn);
    }
    if (core->hooks.conn_ended != NULL) {
        core->hooks.conn_ended(core->hooks.ctx, conn);
    }
    rb_link_finish(conn);
    if (conn->auth_wait != NULL) {
        rb_auth_cancel(conn->auth_wait);
    }
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
        if (conn->failed || conn->drop_output || rb_conn_pending(conn) == 0) {
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
    if (conn->closed && conn->auth_wait == NULL && !rb_link_busy(conn->link)) {
        free_conn(conn);
    }
}

void rb_conn_end_all(struct rb_core *core, enum rb_close_reason reason)
{
    for (struct rb_list *link = core->conns.next; link != &core->conns; link = link->next) {
        struct rb_conn *conn = RB_CONTAINER(link, struct rb_conn, link_all);
        if (conn->end_reason == RB_CLOSE_NONE) {
            rb_conn_want_end(conn, reason, false);
        }
    }
}

/* Events */

static void finish_send(struct rb_conn *conn, enum rb_err err)
{
    rb_conn_sent(conn);
    if (conn->queued_ns != 0) {
        rb_histogram_add(&conn->core->stats.delivery_ns, conn->core->now_ns - conn->queued_ns);
        conn->queued_ns = 0;
    }
    if (err != RB_OK) {
        conn->failed = true;
        rb_conn_want_end(conn, RB_CLOSE_WRITE, true);
    } else if (conn->end_reason != RB_CLOSE_NONE) {
        rb_effects_want(&conn->core->effects, &conn->effect, RB_CONN_WANT_END);
    } else if (rb_conn_pending(conn) > 0) {
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
        if (conn->link != NULL) {
            rb_link_receive(conn, event->bytes);
        } else {
            rb_conn_receive(conn, event->bytes);
        }
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

void rb_conn_job(struct rb_core *core, struct rb_job *job)
{
    if (job->kind == RB_JOB_TLS) {
        rb_link_job(core, job);
    } else {
        rb_conn_verdict(core, job);
    }
}

/* Timers */

static uint64_t ping_interval(const struct rb_conn *conn)
{
    const struct rb_core_options *options = &conn->core->options;
    return conn->type == RB_TYPE_WEBSOCKET && options->ws_ping_interval_ns > 0
               ? options->ws_ping_interval_ns
               : options->ping_interval_ns;
}

static bool ping_needed(const struct rb_conn *conn)
{
    const struct rb_core *core = conn->core;
    if (core->now_ns - conn->last_in_ns >= ping_interval(conn)) {
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
    if (rb_link_timer(conn)) {
        return;
    }
    if (!conn->connected && rb_list_empty(&conn->account_link)) {
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
    rb_wheel_arm(&core->wheel, &conn->timer, core->now_ns + ping_interval(conn));
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
        rb_counter_add(&conn->account->slow_consumers, 1);
        rb_conn_log(conn, RB_LOG_INF,
                    "Slow Consumer Detected: WriteDeadline of %.3gs exceeded with %llu bytes in "
                    "flight of %llu total bytes.",
                    (double)core->options.write_deadline_ns / 1e9,
                    (unsigned long long)conn->send_bytes,
                    (unsigned long long)rb_conn_pending(conn));
    }
    rb_conn_want_end(conn, RB_CLOSE_SLOW_DEADLINE, true);
}

void rb_conn_timer(struct rb_core *core, struct rb_timer *timer)
{
    switch (timer->kind) {
    case RB_TIMER_CONN:
        fire_main(RB_CONTAINER(timer, struct rb_conn, timer));
        break;
    case RB_TIMER_WRITE:
        fire_write(RB_CONTAINER(timer, struct rb_conn, write_timer));
        break;
    case RB_TIMER_RESPONSE:
        rb_service_timer(core, timer);
        break;
    case RB_TIMER_TRACE:
        rb_trace_timer(core, timer);
        break;
    default:
        core->hooks.timer(core->hooks.ctx, timer);
        break;
    }
}

bool rb_conn_tell_info(struct rb_conn *conn, bool ldm)
{
    if (!rb_conn_open(conn) || !conn->async_info || !conn->info_sent) {
        return false;
    }
    bool was = conn->core->lame_duck;
    conn->core->lame_duck = ldm;
    rb_conn_send_info(conn, false);
    conn->core->lame_duck = was;
    return true;
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
