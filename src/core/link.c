/* link.c - the steps before a connection may speak, and the bytes that come in.
 *
 *   FIRST --bytes--> (TLS first)                      PROXY --header, or none--> next
 *     `--fallback time--> INFO in clear, next         SNIFF --0x16--> HANDSHAKE, else or time out--> plain
 *   HANDSHAKE --done--> UPGRADE (websocket) or OPEN   UPGRADE --101--> OPEN
 *
 * 1. Until OPEN, bytes are kept in `in`, at most IN_MAX; a peer that sends more before it may is cut off.
 * 2. A handshake step runs on a helper thread with a copy of `in`; meanwhile the shard only collects bytes. One step is
 *    under way at a time, and the link's TLS belongs to it.
 * 3. Wire segments are in order; what was appended is never changed.
 */
#include "core/link.h"

#include <stdlib.h>

#include "core/link_inside.h"
#include "proto/http.h"
#include "proto/proxy.h"
#include "ringbus/check.h"

#define IN_MAX 65536
#define PROXY_TIMEOUT_NS (5 * UINT64_C(1000000000))
#define UPGRADE_RESPONSE 2048
#define WS_MESSAGE_MAX (64u << 20)

static void advance(struct rb_conn *conn);

static void arm(struct rb_conn *conn, uint64_t after_ns)
{
    rb_wheel_arm(&conn->core->wheel, &conn->timer, conn->core->now_ns + after_ns);
}

static bool websocket(const struct rb_conn *conn)
{
    return conn->type == RB_TYPE_WEBSOCKET;
}

static struct rb_tls_context *context_of(const struct rb_conn *conn)
{
    const struct rb_core_settings *settings = conn->core->settings;
    return websocket(conn) ? settings->ws_tls : settings->tls;
}

static uint64_t tls_timeout(const struct rb_conn *conn)
{
    const struct rb_core_options *options = &conn->core->options;
    return websocket(conn) ? options->ws_tls_timeout_ns : options->tls_timeout_ns;
}

static bool tls_optional(const struct rb_conn *conn)
{
    return !websocket(conn) &&
           (conn->core->options.allow_non_tls || conn->type == RB_TYPE_IN_PROCESS);
}

/* Bytes kept until the link is open */

static void keep_input(struct rb_conn *conn, struct rb_slice bytes)
{
    struct rb_link *link = conn->link;
    size_t len = link->in == NULL ? 0 : link->in->len;
    if (bytes.len == 0) {
        return;
    }
    if (len + bytes.len > IN_MAX) {
        rb_conn_log(conn, RB_LOG_ERR, "more than %d bytes before the connection is set up", IN_MAX);
        rb_conn_want_end(conn, RB_CLOSE_PROTOCOL, true);
        return;
    }
    if (link->in == NULL || link->in->cap - len < bytes.len) {
        struct rb_buf *buf = rb_buf_acquire(&conn->core->bufs, (uint32_t)(len + bytes.len));
        if (buf == NULL) {
            rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
            return;
        }
        if (link->in != NULL) {
            memcpy(buf->data, link->in->data, len);
            rb_buf_release(link->in);
        }
        link->in = buf;
    }
    memcpy(link->in->data + len, bytes.ptr, bytes.len);
    link->in->len = (uint32_t)(len + bytes.len);
}

static struct rb_slice kept(const struct rb_link *link)
{
    return link->in == NULL ? (struct rb_slice){ NULL, 0 }
                            : rb_slice_of(link->in->data, link->in->len);
}

static void drop_front(struct rb_link *link, size_t bytes)
{
    if (link->in == NULL) {
        return;
    }
    memmove(link->in->data, link->in->data + bytes, link->in->len - bytes);
    link->in->len -= (uint32_t)bytes;
    if (link->in->len == 0) {
        rb_buf_release(link->in);
        link->in = NULL;
    }
}

/* Opening */

static void open_link(struct rb_conn *conn, bool send_info)
{
    struct rb_link *link = conn->link;
    link->state = RB_LINK_OPEN;
    rb_conn_start(conn, send_info);
    struct rb_buf *rest = link->in;
    link->in = NULL;
    if (rest != NULL) {
        if (rb_conn_open(conn)) {
            rb_link_receive(conn, rb_slice_of(rest->data, rest->len));
        }
        rb_buf_release(rest);
    }
}

static bool need_scratch(struct rb_core *core)
{
    if (core->scratch == NULL) {
        core->scratch = rb_alloc(core->budget, RB_CORE_SCRATCH);
    }
    if (core->join == NULL) {
        core->join = rb_alloc(core->budget, RB_CORE_JOIN);
    }
    return core->scratch != NULL && core->join != NULL;
}

static void begin_handshake(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    if (!rb_core_tls_rate_pass(conn->core)) {
        rb_conn_send_err(conn, "Connection throttling is active. Please try again later.");
        rb_conn_want_end(conn, RB_CLOSE_MAX_CONNS, false);
        return;
    }
    if (!need_scratch(conn->core) || rb_tls_create(context_of(conn), &link->tls) != RB_OK) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return;
    }
    link->state = RB_LINK_HANDSHAKE;
    rb_conn_log(conn, RB_LOG_DBG, "Starting TLS client connection handshake");
    arm(conn, tls_timeout(conn));
}

/* After PROXY header and INFO: what is next? */
static void choose(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    if (context_of(conn) == NULL) {
        link->state = RB_LINK_OPEN;
        open_link(conn, false);
    } else if (link->tls_first || !tls_optional(conn)) {
        begin_handshake(conn);
    } else {
        link->state = RB_LINK_SNIFF;
        arm(conn, tls_timeout(conn));
    }
}

static void after_info(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    if (conn->core->options.proxy_protocol && conn->type == RB_TYPE_STANDARD && !link->proxy_done) {
        link->state = RB_LINK_PROXY;
        arm(conn, PROXY_TIMEOUT_NS);
    } else {
        choose(conn);
    }
}

static void step_proxy(struct rb_conn *conn, bool timed_out)
{
    struct rb_link *link = conn->link;
    struct rb_slice in = kept(link);
    struct rb_addr addr;
    const char *why = "";
    size_t len = 0;
    bool has_addr = false;
    enum rb_proxy_result result = rb_proxy_parse(in, &len, &has_addr, &addr, &why);
    if (result == RB_PROXY_MORE && timed_out && in.len < RB_PROXY_DECIDE_BYTES) {
        result = RB_PROXY_NONE;
    }
    switch (result) {
    case RB_PROXY_MORE:
        if (timed_out) {
            rb_conn_log(conn, RB_LOG_WRN, "Error reading PROXY protocol header: timed out");
            rb_conn_want_end(conn, RB_CLOSE_PROTOCOL, true);
        }
        return;
    case RB_PROXY_BAD:
        rb_conn_log(conn, RB_LOG_WRN, "Error reading PROXY protocol header: %s", why);
        rb_conn_want_end(conn, RB_CLOSE_PROTOCOL, true);
        return;
    case RB_PROXY_DONE:
        drop_front(link, len);
        if (has_addr) {
            conn->peer = addr;
            conn->proxied = true;
        }
        break;
    case RB_PROXY_NONE:
        break;
    }
    link->proxy_done = true;
    choose(conn);
}

static void step_sniff(struct rb_conn *conn, bool timed_out)
{
    struct rb_slice in = kept(conn->link);
    if (in.len == 0 && !timed_out) {
        return;
    }
    if (in.len > 0 && in.ptr[0] == 0x16) {
        begin_handshake(conn);
    } else {
        open_link(conn, false);
    }
}

/* The TLS handshake, a step at a time on a helper thread */

static bool collect(void *ctx, const uint8_t *bytes, size_t len)
{
    struct rb_handshake *step = ctx;
    if (step->out_len + len > step->out_cap) {
        size_t cap = step->out_cap == 0 ? 8192 : step->out_cap * 2;
        while (cap < step->out_len + len) {
            cap *= 2;
        }
        uint8_t *out = realloc(step->out, cap);
        if (out == NULL) {
            return false;
        }
        step->out = out;
        step->out_cap = cap;
    }
    memcpy(step->out + step->out_len, bytes, len);
    step->out_len += len;
    return true;
}

static void run_step(struct rb_job *job)
{
    struct rb_handshake *step = RB_CONTAINER(job, struct rb_handshake, job);
    struct rb_slice in = rb_slice_of(step->in, step->in_len);
    step->result = rb_tls_handshake(step->tls, &in, collect, step);
    step->in_used = step->in_len - in.len;
    if (step->result == RB_TLS_DONE) {
        step->peer = rb_tls_peer_read(step->tls);
    }
}

static void free_step(struct rb_handshake *step)
{
    free(step->out);
    free(step);
}

static void step_handshake(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    struct rb_slice in = kept(link);
    if (link->step != NULL || in.len == 0) {
        return;
    }
    struct rb_handshake *step = calloc(1, sizeof(*step) + in.len);
    if (step == NULL) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return;
    }
    step->job = (struct rb_job){ .run = run_step,
                                 .home = conn->core->options.shard_index,
                                 .kind = RB_JOB_TLS };
    step->conn = conn;
    step->tls = link->tls;
    step->in_len = in.len;
    memcpy(step->in, in.ptr, in.len);
    drop_front(link, in.len);
    link->step = step;
    if (!rb_work_submit(conn->core->work, &step->job)) {
        link->step = NULL;
        free_step(step);
        rb_conn_log(conn, RB_LOG_ERR, "too many TLS handshakes wait");
        rb_conn_want_end(conn, RB_CLOSE_TLS, true);
    }
}

static void fail_handshake(struct rb_conn *conn)
{
    rb_counter_add(&conn->core->stats.tls_failed, 1);
    rb_conn_log(conn, RB_LOG_DBG, "TLS handshake error: %s", rb_tls_error(conn->link->tls));
    rb_conn_want_end(conn, RB_CLOSE_TLS, false);
}

static void finish_handshake(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    rb_conn_log(conn, RB_LOG_DBG, "TLS handshake complete");
    rb_conn_log(conn, RB_LOG_DBG, "TLS version %s, cipher suite %s", rb_tls_version(link->tls),
                rb_tls_cipher(link->tls));
    link->secure = true;
    if (websocket(conn)) {
        link->state = RB_LINK_UPGRADE;
        arm(conn, conn->core->options.ws_handshake_timeout_ns);
        advance(conn);
    } else {
        open_link(conn, link->tls_first);
    }
}

void rb_link_job(struct rb_core *core, struct rb_job *job)
{
    struct rb_handshake *step = RB_CONTAINER(job, struct rb_handshake, job);
    struct rb_conn *conn = step->conn;
    struct rb_link *link = conn->link;
    link->step = NULL;
    link->peer = step->peer;
    if (rb_conn_open(conn)) {
        if (step->out_len > 0 && !rb_link_put_wire(conn, rb_slice_of(step->out, step->out_len))) {
            rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        }
        if (step->in_used < step->in_len) { /* what followed the handshake comes first again */
            struct rb_buf *later = link->in;
            link->in = NULL;
            keep_input(conn, rb_slice_of(step->in + step->in_used, step->in_len - step->in_used));
            if (later != NULL) {
                keep_input(conn, rb_slice_of(later->data, later->len));
                rb_buf_release(later);
            }
        }
        rb_conn_written(conn);
        if (!rb_conn_open(conn)) {
        } else if (step->result == RB_TLS_DONE) {
            finish_handshake(conn);
        } else if (step->result == RB_TLS_MORE) {
            step_handshake(conn);
        } else {
            fail_handshake(conn);
        }
    } else {
        rb_effects_want(&core->effects, &conn->effect, RB_CONN_WANT_END);
    }
    free_step(step);
}

/* The WebSocket upgrade. Its request comes in clear, or decrypted. */

static void keep_cookies(struct rb_conn *conn, const struct rb_http_request *request)
{
    const struct rb_core_options *options = &conn->core->options;
    struct rb_link *link = conn->link;
    const struct rb_slice names[] = { options->ws_jwt_cookie, options->ws_user_cookie,
                                      options->ws_pass_cookie, options->ws_token_cookie };
    struct rb_slice *into[] = { &link->cookies.jwt, &link->cookies.user, &link->cookies.pass,
                                &link->cookies.token };
    for (int i = 0; i < 4; i++) {
        struct rb_slice value =
            names[i].len == 0 ? (struct rb_slice){ NULL, 0 } : rb_http_cookie(request, names[i]);
        uint8_t *copy = value.len == 0 ? NULL : rb_alloc(conn->core->budget, value.len);
        if (copy != NULL) {
            memcpy(copy, value.ptr, value.len);
            *into[i] = rb_slice_of(copy, value.len);
        }
    }
}

static void take_upgrade(struct rb_conn *conn, const struct rb_ws_accept *accept)
{
    struct rb_link *link = conn->link;
    struct rb_core *core = conn->core;
    uint64_t message_max = 8 * (uint64_t)core->options.max_payload;
    struct rb_ws_read_options options = { .pool = &core->bufs,
                                          .masked = !accept->no_masking,
                                          .deflate = accept->deflate,
                                          .message_max = message_max > WS_MESSAGE_MAX
                                                             ? WS_MESSAGE_MAX
                                                             : message_max };
    struct rb_addr addr;
    char ip[RB_ADDR_TEXT_MAX];
    if (accept->forwarded.len > 0 && accept->forwarded.len < sizeof(ip)) {
        memcpy(ip, accept->forwarded.ptr, accept->forwarded.len);
        ip[accept->forwarded.len] = '\0';
        if (rb_addr_parse(ip, conn->peer.port, &addr) == RB_OK) {
            conn->peer = addr;
            conn->proxied = true;
        }
    }
    rb_ws_reader_init(&link->reader, &options);
    link->ws = true;
    link->deflate = accept->deflate;
    link->browser = accept->browser;
    link->safari = accept->safari;
    link->state = RB_LINK_OPEN;
}

static void step_upgrade(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    const struct rb_core_options *options = &conn->core->options;
    struct rb_http_request request;
    size_t len = 0;
    struct rb_slice in = kept(link);
    enum rb_http_result result = in.len == 0 ? RB_HTTP_MORE : rb_http_parse(in, &request, &len);
    if (result == RB_HTTP_MORE) {
        return;
    }
    if (result != RB_HTTP_DONE) {
        uint8_t refusal[UPGRADE_RESPONSE];
        size_t refusal_len =
            rb_ws_refuse(result == RB_HTTP_BAD ? 400 : 431, refusal, sizeof(refusal));
        (void)rb_link_put_plain(conn, rb_slice_of(refusal, refusal_len));
        rb_conn_want_end(conn, RB_CLOSE_PROTOCOL, false);
        return;
    }
    struct rb_ws_options ws = { .compression = options->ws_compression,
                                .same_origin = options->ws_same_origin,
                                .tls = link->secure,
                                .origins = options->ws_origins,
                                .origin_count = options->ws_origin_count,
                                .headers = options->ws_headers };
    struct rb_ws_accept accept;
    uint32_t cap = UPGRADE_RESPONSE + (uint32_t)ws.headers.len;
    struct rb_buf *buf = rb_buf_acquire(&conn->core->bufs, cap);
    if (buf == NULL) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return;
    }
    size_t out_len = rb_ws_upgrade(&request, &ws, in.len > len, buf->data, cap, &accept);
    bool put = rb_link_put_plain(conn, rb_slice_of(buf->data, out_len));
    rb_buf_release(buf);
    if (!put) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return;
    }
    rb_conn_written(conn);
    if (accept.status != 101) {
        rb_conn_log(conn, RB_LOG_ERR, "websocket handshake error: %s", accept.error);
        rb_conn_want_end(conn, RB_CLOSE_PROTOCOL, false);
        return;
    }
    keep_cookies(conn, &request);
    take_upgrade(conn, &accept);
    drop_front(link, len);
    open_link(conn, true);
}

/* Everything that `in` allows. */
static void advance(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    if (!rb_conn_open(conn)) {
        return;
    }
    if (link->state == RB_LINK_FIRST && kept(link).len > 0) {
        after_info(conn);
    }
    if (link->state == RB_LINK_PROXY) {
        step_proxy(conn, false);
    }
    if (link->state == RB_LINK_SNIFF && rb_conn_open(conn)) {
        step_sniff(conn, false);
    }
    if (link->state == RB_LINK_HANDSHAKE && rb_conn_open(conn)) {
        step_handshake(conn);
    }
    if (link->state == RB_LINK_UPGRADE && rb_conn_open(conn) && !link->secure) {
        step_upgrade(conn);
    }
}

/* Open: bytes become protocol */

static void ws_control(struct rb_conn *conn, uint8_t opcode, uint16_t code, struct rb_slice body)
{
    uint8_t frame[RB_WS_HEADER_MAX + 125];
    size_t len = rb_ws_control(frame, opcode, code, body);
    /* What was said before must go out before. */
    rb_link_encode_all(conn);
    if (!rb_link_put_plain(conn, rb_slice_of(frame, len))) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
    }
    rb_conn_written(conn);
}

static void take_frames(struct rb_conn *conn, uint8_t *in, size_t len)
{
    struct rb_link *link = conn->link;
    struct rb_slice data;
    uint16_t code;
    while (rb_conn_open(conn)) {
        switch (rb_ws_read(&link->reader, &in, &len, &data, &code)) {
        case RB_WS_MORE:
            return;
        case RB_WS_DATA:
            rb_conn_receive(conn, data);
            break;
        case RB_WS_PING:
            ws_control(conn, 10, 0, data);
            break;
        case RB_WS_PONG:
            break;
        case RB_WS_CLOSE:
            ws_control(conn, 8, code == RB_WS_NO_STATUS ? 0 : code, /* the peer's words back */
                       code == RB_WS_NO_STATUS ? RB_S("") : data);
            link->finished = true;
            rb_conn_want_end(conn, RB_CLOSE_CLIENT, false);
            return;
        case RB_WS_BROKEN:
            rb_conn_log(conn, RB_LOG_ERR, "websocket: %s", link->reader.fail_text);
            ws_control(conn, 8, link->reader.fail_code, rb_slice_text(link->reader.fail_text));
            link->finished = true;
            rb_conn_want_end(conn, RB_CLOSE_PROTOCOL, false);
            return;
        }
    }
}

static void take_plain(struct rb_conn *conn, uint8_t *bytes, size_t len)
{
    struct rb_link *link = conn->link;
    if (link->state == RB_LINK_UPGRADE) {
        keep_input(conn, rb_slice_of(bytes, len));
        if (rb_conn_open(conn)) {
            step_upgrade(conn);
        }
    } else if (link->ws) {
        take_frames(conn, bytes, len);
    } else {
        rb_conn_receive(conn, rb_slice_of(bytes, len));
    }
}

static void take_ciphertext(struct rb_conn *conn, struct rb_slice in)
{
    struct rb_link *link = conn->link;
    struct rb_core *core = conn->core;
    while (rb_conn_open(conn)) {
        size_t len = 0;
        uint64_t before = link->wire_bytes;
        enum rb_tls_result result =
            rb_tls_read(link->tls, &in, core->scratch, RB_CORE_SCRATCH, &len, rb_link_sink, conn);
        if (link->wire_bytes != before) {
            rb_conn_written(conn);
        }
        switch (result) {
        case RB_TLS_DONE:
            take_plain(conn, core->scratch, len);
            break;
        case RB_TLS_MORE:
            return;
        case RB_TLS_CLOSED:
            rb_conn_want_end(conn, RB_CLOSE_CLIENT, false);
            return;
        case RB_TLS_FAILED:
            rb_conn_log(conn, RB_LOG_ERR, "TLS: %s", rb_tls_error(link->tls));
            rb_conn_want_end(conn, RB_CLOSE_READ, false);
            return;
        }
    }
}

void rb_link_receive(struct rb_conn *conn, struct rb_slice bytes)
{
    struct rb_link *link = conn->link;
    if (!rb_conn_open(conn)) {
        return;
    }
    bool decrypted =
        link->secure && (link->state == RB_LINK_OPEN || link->state == RB_LINK_UPGRADE);
    if (decrypted) {
        take_ciphertext(conn, bytes);
    } else if (link->state == RB_LINK_OPEN && link->ws) {
        /* the transport lends its buffer to this call alone; unmasking in place is ours to do */
        take_frames(conn, (uint8_t *)(uintptr_t)bytes.ptr, bytes.len);
    } else if (link->state == RB_LINK_OPEN) {
        rb_conn_receive(conn, bytes);
    } else {
        keep_input(conn, bytes);
        advance(conn);
    }
}

bool rb_link_begin(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    bool tls = context_of(conn) != NULL;
    bool proxy = core->options.proxy_protocol && conn->type == RB_TYPE_STANDARD;
    if (!tls && !proxy && !websocket(conn)) {
        rb_conn_start(conn, true);
        return true;
    }
    struct rb_link *link = rb_alloc(core->budget, sizeof(*link));
    if (link == NULL) {
        return false;
    }
    conn->link = link;
    if (websocket(conn)) {
        if (tls) {
            begin_handshake(conn);
        } else {
            link->state = RB_LINK_UPGRADE;
            arm(conn, core->options.ws_handshake_timeout_ns);
        }
        return true;
    }
    link->tls_first = tls && core->options.tls_first;
    uint64_t fallback_ns = core->options.tls_first_fallback_ns;
    if (link->tls_first && conn->type == RB_TYPE_IN_PROCESS && fallback_ns == 0) {
        fallback_ns = 50 * UINT64_C(1000000);
    }
    if (link->tls_first && fallback_ns > 0) {
        link->state = RB_LINK_FIRST;
        arm(conn, fallback_ns);
        return true;
    }
    if (!link->tls_first) {
        rb_conn_send_info(conn, false);
        rb_link_encode_all(conn);
    }
    after_info(conn);
    return true;
}

bool rb_link_timer(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    if (link == NULL || link->state == RB_LINK_OPEN) {
        return false;
    }
    switch (link->state) {
    case RB_LINK_FIRST: /* nobody began a handshake: as without the option */
        link->tls_first = false;
        rb_conn_send_info(conn, false);
        rb_link_encode_all(conn);
        after_info(conn);
        break;
    case RB_LINK_PROXY:
        step_proxy(conn, true);
        break;
    case RB_LINK_SNIFF:
        step_sniff(conn, true);
        break;
    case RB_LINK_HANDSHAKE:
        rb_counter_add(&conn->core->stats.tls_failed, 1);
        rb_conn_log(conn, RB_LOG_DBG, "TLS handshake timeout");
        rb_conn_want_end(conn, RB_CLOSE_TLS, true);
        break;
    default:
        rb_conn_log(conn, RB_LOG_ERR, "websocket upgrade timeout");
        rb_conn_want_end(conn, RB_CLOSE_PROTOCOL, true);
        break;
    }
    return true;
}

/* The end, and what monitoring asks */

bool rb_link_busy(const struct rb_link *link)
{
    return link != NULL && link->step != NULL;
}

void rb_link_free(struct rb_conn *conn)
{
    struct rb_link *link = conn->link;
    if (link == NULL) {
        return;
    }
    rb_assert(link->step == NULL && link->wire_head == NULL);
    struct rb_core *core = conn->core;
    if (link->ws) {
        rb_ws_reader_deinit(&link->reader);
    }
    if (link->in != NULL) {
        rb_buf_release(link->in);
    }
    rb_tls_destroy(link->tls);
    rb_tls_peer_free(link->peer);
    struct rb_slice *cookies[] = { &link->cookies.jwt, &link->cookies.user, &link->cookies.pass,
                                   &link->cookies.token };
    for (int i = 0; i < 4; i++) {
        rb_free(core->budget, (void *)(uintptr_t)cookies[i]->ptr, cookies[i]->len);
    }
    rb_free(core->budget, link, sizeof(*link));
    conn->link = NULL;
}

const char *rb_link_tls_version(const struct rb_link *link)
{
    return rb_link_is_tls(link) ? rb_tls_version(link->tls) : NULL;
}

const char *rb_link_tls_cipher(const struct rb_link *link)
{
    return rb_link_is_tls(link) ? rb_tls_cipher(link->tls) : NULL;
}

bool rb_link_tls_first(const struct rb_link *link)
{
    return link != NULL && link->secure && link->tls_first;
}

bool rb_link_is_tls(const struct rb_link *link)
{
    return link != NULL && link->secure;
}

const struct rb_tls_peer *rb_link_peer(const struct rb_link *link)
{
    return link == NULL ? NULL : link->peer;
}

const struct rb_link_cookies *rb_link_cookies(const struct rb_link *link)
{
    return &link->cookies;
}
