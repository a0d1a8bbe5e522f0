/* http_server.c - see http_server.h.
 *
 *   READING --whole head--> SENDING --all sent, keep-alive--> READING
 *      |                       `------all sent, last one-----> CLOSING --CLOSED--> free
 *      `--bad, slow, too long--> SENDING (an error) --sent--> LINGERING --peer ends, 1 s--> CLOSING
 *
 * 1. A connection reads only in READING; while an answer is under way receive credit is withdrawn, and what the
 *    transport had already taken waits in `in` (cut off at RB_HTTP_HEAD_MAX: then it is not answered any more).
 *    So pipelined requests are served, one after the other.
 * 2. The state changes in serve(), answer(), sent() and end() only. A connection is freed by CLOSED.
 * 3. After a refusal input is read and thrown away for a moment: closing with unread input would reset the connection
 *    before the peer has read why it was refused.
 * 4. With TLS what is sent goes through `cipher`: the handshake's messages too, in any state. The handshake runs here:
 *    this thread serves nobody else.
 * 5. Times are the transport thread's own clock; every state has a deadline.
 */
#include "server/http_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/list.h"
#include "ringbus/check.h"
#include "tls/tls.h"

#define HEAD_BYTES 512
#define BACKLOG 128
#define CIPHER_MAX (1024 * 1024) /* a piece of an answer and what TLS adds */
#define DECRYPT_BYTES 4096
#define LINGER_NS UINT64_C(1000000000)
#define TICK_NS INT64_C(250000000) /* deadlines are looked at this often */

enum state { READING, SENDING, LINGERING, CLOSING };

struct conn {
    struct rb_list link; /* all, or free */
    struct rb_conn_id id;
    enum state state;
    bool last;          /* close after this answer */
    bool refused;       /* the answer is an error that ends the connection */
    bool ended;         /* the peer has ended its side: what it asked is still answered */
    bool overrun;       /* more arrived while sending than is kept */
    struct rb_tls *tls; /* NULL: plain */
    bool secure;        /* the handshake is done */
    bool flying;        /* `flight` is with the transport */
    struct rb_text cipher, flight;       /* TLS: to be sent, being sent */
    uint64_t deadline_ns, idle_since_ns; /* idle_since: 0 unless waiting for a further request */
    size_t in_len;
    uint8_t in[RB_HTTP_HEAD_MAX + 1];
    char head[HEAD_BYTES];
    size_t head_len;
    struct rb_text body;
    bool no_body;            /* HEAD */
    size_t body_sent, piece; /* of the body: done, and in flight */
};

struct rb_http_server {
    struct rb_http_options options;
    struct rb_list all, spare;
    uint32_t conn_count;
    size_t body_bytes; /* of all answers being sent */
    uint64_t now_ns, looked_ns;
};

enum rb_err rb_http_server_create(const struct rb_http_options *options,
                                  struct rb_http_server **ret_server)
{
    struct rb_http_server *server = rb_alloc(options->budget, sizeof(*server));
    if (server == NULL) {
        return RB_ERR_MEMORY;
    }
    server->options = *options;
    rb_list_init(&server->all);
    rb_list_init(&server->spare);
    *ret_server = server;
    return RB_OK;
}

static void drop_body(struct rb_http_server *server, struct conn *conn)
{
    server->body_bytes -= conn->body.len;
    rb_text_deinit(&conn->body);
}

static void drop_conn(struct rb_http_server *server, struct conn *conn)
{
    drop_body(server, conn);
    rb_text_deinit(&conn->cipher);
    rb_text_deinit(&conn->flight);
    rb_tls_destroy(conn->tls);
    conn->tls = NULL;
}

void rb_http_server_destroy(struct rb_http_server *server)
{
    struct rb_list *item;
    while ((item = rb_list_pop(&server->all)) != NULL) {
        struct conn *conn = RB_CONTAINER(item, struct conn, link);
        drop_conn(server, conn);
        rb_free(server->options.budget, conn, sizeof(*conn));
    }
    while ((item = rb_list_pop(&server->spare)) != NULL) {
        rb_free(server->options.budget, RB_CONTAINER(item, struct conn, link), sizeof(struct conn));
    }
    rb_free(server->options.budget, server, sizeof(*server));
}

enum rb_err rb_http_server_listen(struct rb_http_server *server, const struct rb_addr *addr,
                                  struct rb_addr *ret_bound)
{
    struct rb_listen_options options = { .addr = *addr, .backlog = BACKLOG };
    uint32_t listener;
    return rb_transport_listen(server->options.transport, &options, &listener, ret_bound);
}

uint32_t rb_http_server_conn_count(const struct rb_http_server *server)
{
    return server->conn_count;
}

static void end(struct rb_http_server *server, struct conn *conn)
{
    if (conn->state != CLOSING) {
        conn->state = CLOSING;
        conn->deadline_ns = UINT64_MAX;
        conn->idle_since_ns = 0;
        (void)rb_transport_close(server->options.transport, conn->id);
    }
}

/* TLS */

static bool add_cipher(void *ctx, const uint8_t *bytes, size_t len)
{
    struct conn *conn = ctx;
    rb_text_add(&conn->cipher, bytes, len);
    return !conn->cipher.failed;
}

/* Hands ciphertext to the transport, unless earlier one is still with it. */
static void fly(struct rb_http_server *server, struct conn *conn)
{
    if (conn->flying || conn->cipher.len == 0 || conn->state == CLOSING) {
        return;
    }
    rb_text_deinit(&conn->flight);
    conn->flight = conn->cipher;
    rb_text_init(&conn->cipher, CIPHER_MAX);
    struct rb_slice slice = rb_slice_of(conn->flight.ptr, conn->flight.len);
    conn->flying = true;
    if (rb_transport_send(server->options.transport, conn->id, &slice, 1) != RB_OK) {
        conn->flying = false;
        end(server, conn);
    }
}

/* Encrypts; after the last piece of the last answer close_notify. */
static void send_secure(struct rb_http_server *server, struct conn *conn,
                        const struct rb_slice *slices, uint32_t count, bool last)
{
    for (uint32_t i = 0; i < count; i++) {
        if (rb_tls_write(conn->tls, slices[i], add_cipher, conn) != RB_TLS_DONE) {
            end(server, conn);
            return;
        }
    }
    if (last) {
        rb_tls_shutdown(conn->tls, add_cipher, conn);
    }
    fly(server, conn);
}

/* Answering */

/* The next piece of the answer; the head goes with the first. */
static void send_piece(struct rb_http_server *server, struct conn *conn)
{
    struct rb_slice slices[2];
    uint32_t count = 0;
    if (conn->body_sent == 0 && conn->head_len > 0) {
        slices[count++] = rb_slice_of(conn->head, conn->head_len);
    }
    size_t left = conn->no_body ? 0 : conn->body.len - conn->body_sent;
    conn->piece = left < RB_HTTP_SEND_BYTES ? left : RB_HTTP_SEND_BYTES;
    if (conn->piece > 0) {
        slices[count++] = rb_slice_of(conn->body.ptr + conn->body_sent, conn->piece);
    }
    conn->deadline_ns = server->now_ns + RB_HTTP_SEND_TIMEOUT_NS;
    if (conn->tls != NULL) {
        send_secure(server, conn, slices, count, conn->last && conn->piece == left);
        return;
    }
    if (rb_transport_send(server->options.transport, conn->id, slices, count) != RB_OK) {
        end(server, conn);
    }
}

static void format_head(struct rb_http_server *server, struct conn *conn,
                        const struct rb_http_response *response)
{
    struct rb_env *env = server->options.env;
    time_t seconds = (time_t)(env->wall_ns(env->ctx) / UINT64_C(1000000000));
    struct tm tm;
    char date[64] = "";
    if (gmtime_r(&seconds, &tm) != NULL) {
        static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
        static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
        (void)snprintf(date, sizeof(date), "%s, %02d %s %d %02d:%02d:%02d GMT", days[tm.tm_wday],
                       tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                       tm.tm_sec);
    }
    int len = snprintf(
        conn->head, sizeof(conn->head),
        "HTTP/1.1 %s\r\n%s%sContent-Type: %s\r\n%s%s%s%sDate: %s\r\nContent-Length: %zu\r\n%s\r\n",
        rb_http_status_text(response->status),
        response->any_origin ? "Access-Control-Allow-Origin: *\r\n" : "",
        response->status == 200 ? "Cache-Control: no-store\r\n" : "", response->content_type,
        response->no_sniff ? "X-Content-Type-Options: nosniff\r\n" : "",
        response->allow == NULL ? "" : "Allow: ", response->allow == NULL ? "" : response->allow,
        response->allow == NULL ? "" : "\r\n", date, response->body.len,
        conn->last ? "Connection: close\r\n" : "");
    rb_assert(len > 0 &&
              (size_t)len < sizeof(conn->head)); /* every part is a constant or a number */
    conn->head_len = (size_t)len;
}

/* Takes the body of `response`. */
static void answer(struct rb_http_server *server, struct conn *conn,
                   struct rb_http_response *response)
{
    if (response->body.failed || server->body_bytes + response->body.len > RB_HTTP_BODIES_MAX) {
        response->status = response->body.failed ? 500 : 503;
        bool too_much = response->body.failed;
        rb_text_deinit(&response->body);
        rb_text_init(&response->body, HEAD_BYTES);
        rb_text_puts(&response->body, too_much ? "the answer is too large: use limit and offset\n"
                                               : "too many answers are being sent: try later\n");
        response->content_type = "text/plain; charset=utf-8";
        response->any_origin = false;
    }
    conn->body = response->body;
    conn->body_sent = 0;
    server->body_bytes += conn->body.len;
    conn->state = SENDING;
    conn->idle_since_ns = 0;
    format_head(server, conn, response);
    rb_transport_credit(server->options.transport, conn->id, false);
    send_piece(server, conn);
}

static void refuse(struct rb_http_server *server, struct conn *conn, int status, const char *allow)
{
    struct rb_http_response response = { .status = status,
                                         .content_type = "text/plain; charset=utf-8",
                                         .allow = allow };
    rb_text_init(&response.body, HEAD_BYTES);
    rb_text_printf(&response.body, "%s\n", rb_http_status_text(status));
    conn->no_body = false;
    conn->last = conn->refused = true;
    conn->in_len = 0;
    answer(server, conn, &response);
}

static bool is_served(const struct rb_http_request *request)
{
    return rb_slice_equal(request->method, RB_S("GET")) ||
           rb_slice_equal(request->method, RB_S("HEAD"));
}

static void respond(struct rb_http_server *server, struct conn *conn,
                    const struct rb_http_request *request)
{
    conn->no_body = false;
    conn->last = !request->keep_alive || conn->ended;
    if (!is_served(request)) {
        refuse(server, conn, 405, "GET, HEAD");
        return;
    }
    if (!request->http_1_0 && rb_http_find(request, "Host").ptr == NULL) {
        refuse(server, conn, 400, NULL);
        return;
    }
    struct rb_http_response response = { .status = 200, .content_type = "text/plain" };
    rb_text_init(&response.body, RB_HTTP_BODY_MAX);
    server->options.handler(server->options.ctx, request, &response);
    conn->no_body = rb_slice_equal(request->method, RB_S("HEAD"));
    answer(server, conn, &response);
}

/* A head that is wrong; one with a body is told what is wrong with that. */
static void refuse_bad(struct rb_http_server *server, struct conn *conn,
                       const struct rb_http_request *request)
{
    if (request->content_length == 0 && !request->chunked) {
        refuse(server, conn, 400, NULL);
    } else if (is_served(request)) {
        refuse(server, conn, 413, NULL);
    } else {
        refuse(server, conn, 405, "GET, HEAD");
    }
}

/* Looks for a whole head in what has arrived. */
static void serve(struct rb_http_server *server, struct conn *conn)
{
    struct rb_http_request request = { 0 };
    size_t len;
    if (conn->in_len == 0) {
        return;
    }
    switch (rb_http_parse(rb_slice_of(conn->in, conn->in_len), &request, &len)) {
    case RB_HTTP_DONE:
        respond(server, conn, &request);
        if (!conn->refused) {
            conn->in_len -= len;
            memmove(conn->in, conn->in + len, conn->in_len);
        }
        break;
    case RB_HTTP_MORE:
        if (conn->ended) {
            end(server, conn);
        } else if (conn->in_len > RB_HTTP_HEAD_MAX) {
            refuse(server, conn, 431, NULL);
        }
        break;
    case RB_HTTP_BAD:
        refuse_bad(server, conn, &request);
        break;
    case RB_HTTP_TOO_LONG:
        refuse(server, conn, 431, NULL);
        break;
    }
}

static void sent(struct rb_http_server *server, struct conn *conn, enum rb_err err)
{
    conn->flying = false;
    if (conn->state == CLOSING) {
        return;
    }
    if (err != RB_OK) {
        end(server, conn);
        return;
    }
    if (conn->tls != NULL) {
        rb_text_deinit(&conn->flight);
        if (conn->cipher.len > 0) {
            fly(server, conn);
            return;
        }
    }
    if (conn->state != SENDING) {
        return;
    }
    conn->head_len = 0;
    conn->body_sent += conn->piece;
    if (!conn->no_body && conn->body_sent < conn->body.len) {
        send_piece(server, conn);
        return;
    }
    drop_body(server, conn);
    if (conn->refused && !conn->ended) {
        conn->state = LINGERING;
        conn->deadline_ns = server->now_ns + LINGER_NS;
        rb_transport_credit(server->options.transport, conn->id, true);
        return;
    }
    if (conn->last || conn->overrun || (conn->ended && conn->in_len == 0)) {
        end(server, conn);
        return;
    }
    conn->state = READING;
    conn->idle_since_ns = conn->in_len == 0 ? server->now_ns : 0;
    conn->deadline_ns =
        server->now_ns + (conn->in_len == 0 ? RB_HTTP_IDLE_TIMEOUT_NS : RB_HTTP_HEAD_TIMEOUT_NS);
    rb_transport_credit(server->options.transport, conn->id, true);
    serve(server, conn);
}

/* Events */

static void take_plain(struct rb_http_server *server, struct conn *conn, struct rb_slice bytes)
{
    if (conn->state == CLOSING || conn->refused) {
        return;
    }
    size_t room = sizeof(conn->in) - conn->in_len;
    size_t take = bytes.len < room ? bytes.len : room;
    memcpy(conn->in + conn->in_len, bytes.ptr, take);
    conn->in_len += take;
    conn->overrun |= take < bytes.len;
    if (conn->state != READING) {
        return;
    }
    if (conn->idle_since_ns != 0) { /* a further request begins */
        conn->idle_since_ns = 0;
        conn->deadline_ns = server->now_ns + RB_HTTP_HEAD_TIMEOUT_NS;
    }
    serve(server, conn);
}

static void decrypt(struct rb_http_server *server, struct conn *conn, struct rb_slice bytes)
{
    enum rb_tls_result result = RB_TLS_DONE;
    while (result == RB_TLS_DONE && conn->state != CLOSING && !conn->refused) {
        uint8_t plain[DECRYPT_BYTES];
        size_t len = 0;
        if (!conn->secure) {
            result = rb_tls_handshake(conn->tls, &bytes, add_cipher, conn);
            conn->secure = result == RB_TLS_DONE;
        } else {
            result = rb_tls_read(conn->tls, &bytes, plain, sizeof(plain), &len, add_cipher, conn);
        }
        fly(server, conn);
        if (result == RB_TLS_DONE && len > 0) {
            take_plain(server, conn, rb_slice_of(plain, len));
        }
    }
    if (result == RB_TLS_FAILED || (result == RB_TLS_CLOSED && conn->state != SENDING)) {
        end(server, conn);
    } else if (result == RB_TLS_CLOSED) {
        conn->ended = true;
    }
}

static void received(struct rb_http_server *server, struct conn *conn, struct rb_slice bytes)
{
    if (conn->tls != NULL) {
        decrypt(server, conn, bytes);
    } else {
        take_plain(server, conn, bytes);
    }
}

/* Makes the connection a TLS one if the server is. False: no memory. */
static bool make_secure(struct rb_http_server *server, struct conn *conn)
{
    const struct rb_http_options *options = &server->options;
    struct rb_tls_context *context = options->tls == NULL ? NULL : options->tls(options->ctx);
    if (context == NULL) {
        return true;
    }
    enum rb_err err = rb_tls_create(context, &conn->tls);
    rb_tls_context_release(context);
    if (err != RB_OK) {
        conn->tls = NULL;
    }
    return err == RB_OK;
}

/* Full: the connection that has idled longest goes. False: none idles. */
static bool make_room(struct rb_http_server *server)
{
    struct conn *longest = NULL;
    for (struct rb_list *at = server->all.next; at != &server->all; at = at->next) {
        struct conn *conn = RB_CONTAINER(at, struct conn, link);
        if (conn->idle_since_ns != 0 &&
            (longest == NULL || conn->idle_since_ns < longest->idle_since_ns)) {
            longest = conn;
        }
    }
    if (longest != NULL) {
        end(server, longest);
    }
    return longest != NULL;
}

/* A few more than the limit exist for a moment: those that are told 503, and those making room. */
#define CONNS_HARD_MAX (RB_HTTP_CONNS_MAX + 32)

static void accept_conn(struct rb_http_server *server, const struct rb_event *event)
{
    struct rb_budget *budget = server->options.budget;
    struct conn *conn = NULL;
    if (server->conn_count < CONNS_HARD_MAX) {
        struct rb_list *spare = rb_list_pop(&server->spare);
        conn = spare != NULL ? RB_CONTAINER(spare, struct conn, link)
                             : rb_alloc(budget, sizeof(*conn));
    }
    if (conn == NULL) {
        (void)rb_transport_close(server->options.transport, event->conn);
        return;
    }
    bool room = server->conn_count < RB_HTTP_CONNS_MAX || make_room(server);
    memset(conn, 0, offsetof(struct conn, in));
    conn->head_len = 0;
    conn->body = (struct rb_text){ 0 };
    conn->no_body = false;
    conn->body_sent = conn->piece = 0;
    conn->id = event->conn;
    conn->deadline_ns = server->now_ns + RB_HTTP_HEAD_TIMEOUT_NS;
    rb_list_append(&server->all, &conn->link);
    server->conn_count++;
    rb_transport_set_user(server->options.transport, event->conn, conn);
    rb_text_init(&conn->cipher, CIPHER_MAX);
    rb_text_init(&conn->flight, 0);
    if (!make_secure(server, conn) || (!room && conn->tls != NULL)) {
        end(server, conn); /* nothing can be said before a handshake */
    } else if (!room) {
        refuse(server, conn, 503, NULL);
    }
}

static void closed(struct rb_http_server *server, struct conn *conn)
{
    drop_conn(server, conn);
    rb_list_remove(&conn->link);
    server->conn_count--;
    if (server->conn_count < 8) { /* keep a few, so that a scrape does not allocate */
        rb_list_append(&server->spare, &conn->link);
    } else {
        rb_free(server->options.budget, conn, sizeof(*conn));
    }
}

static void failed(struct rb_http_server *server, struct conn *conn, enum rb_err err)
{
    conn->ended = true;
    if (err != RB_OK || conn->state == LINGERING || (conn->state == READING && conn->in_len == 0)) {
        end(server, conn);
    } else if (conn->state == READING) {
        serve(server, conn);
    }
}

static void take_event(struct rb_http_server *server, const struct rb_event *event)
{
    struct conn *conn = event->user;
    if (event->kind == RB_EVENT_ACCEPTED) {
        accept_conn(server, event);
        return;
    }
    if (conn == NULL) {
        return; /* refused at once, or an accept that failed: nothing was kept */
    }
    switch (event->kind) {
    case RB_EVENT_RECEIVED:
        received(server, conn, event->bytes);
        break;
    case RB_EVENT_SENT:
        sent(server, conn, event->err);
        break;
    case RB_EVENT_FAILED:
        failed(server, conn, event->err);
        break;
    case RB_EVENT_CLOSED:
        closed(server, conn);
        break;
    default:
        break;
    }
}

/* At most CONNS_HARD_MAX connections: walking them four times a second costs less than a wheel. */
static void expire(struct rb_http_server *server)
{
    if (server->now_ns < server->looked_ns + (uint64_t)TICK_NS) {
        return;
    }
    server->looked_ns = server->now_ns;
    struct rb_list *next;
    for (struct rb_list *at = server->all.next; at != &server->all; at = next) {
        next = at->next;
        struct conn *conn = RB_CONTAINER(at, struct conn, link);
        if (server->now_ns < conn->deadline_ns) {
            continue;
        }
        if (conn->state == READING && conn->in_len > 0) { /* so a handshake is done */
            refuse(server, conn, 408, NULL);
        } else {
            end(server, conn);
        }
    }
}

void rb_http_server_turn(struct rb_http_server *server, int64_t timeout_ns)
{
    struct rb_event *events;
    if (server->conn_count > 0 && (timeout_ns < 0 || timeout_ns > TICK_NS)) {
        timeout_ns = TICK_NS;
    }
    uint32_t count = rb_transport_poll(server->options.transport, timeout_ns, &events);
    server->now_ns = rb_env_now(server->options.env);
    for (uint32_t i = 0; i < count; i++) {
        take_event(server, &events[i]);
    }
    expire(server);
}
