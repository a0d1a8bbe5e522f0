/* http_server.h - a small HTTP/1.1 server over a transport: GET and HEAD, one answer at a time per connection.
 *
 * Bounds: RB_HTTP_CONNS_MAX connections (an idle one makes room for a new one, else the new one is refused with 503),
 * a head of RB_HTTP_HEAD_MAX bytes within 5 s, no request bodies, 60 s of idling between requests, and a client that
 * takes less than a piece of its answer in 10 s is closed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/http.h"
#include "ringbus/env.h"
#include "ringbus/mem.h"
#include "ringbus/transport.h"
#include "server/text.h"

#define RB_HTTP_CONNS_MAX 128
#define RB_HTTP_HEAD_TIMEOUT_NS (5 * UINT64_C(1000000000))
#define RB_HTTP_IDLE_TIMEOUT_NS (60 * UINT64_C(1000000000))
#define RB_HTTP_SEND_TIMEOUT_NS (10 * UINT64_C(1000000000))
#define RB_HTTP_SEND_BYTES (256 * 1024)        /* one piece of an answer */
#define RB_HTTP_BODY_MAX (64 * 1024 * 1024)    /* one answer */
#define RB_HTTP_BODIES_MAX (256 * 1024 * 1024) /* all answers that are being sent */

struct rb_http_response {
    int status;
    const char *content_type; /* static */
    bool any_origin;          /* Access-Control-Allow-Origin: * */
    bool no_sniff;            /* X-Content-Type-Options: nosniff */
    const char *allow;        /* static; NULL: no such header */
    struct rb_text body;      /* taken by the server */
};

/** Fills `response`, whose body is initialised and empty. */
typedef void (*rb_http_handler)(void *ctx, const struct rb_http_request *request,
                                struct rb_http_response *response);

struct rb_http_options {
    struct rb_transport *transport; /* lives longer than the server; nobody else polls it */
    struct rb_env *env;
    struct rb_budget *budget;
    rb_http_handler handler; /* gets GET and HEAD only */
    /** The context of a new connection, with a count that the server gives back; NULL: plain HTTP. The function may be NULL. */
    struct rb_tls_context *(*tls)(void *ctx);
    void *ctx;
};

struct rb_tls_context;
struct rb_http_server;
RB_MUST_CHECK enum rb_err rb_http_server_create(const struct rb_http_options *options,
                                                struct rb_http_server **ret_server);
/** After the transport was destroyed: sends under way borrow the server's memory. */
void rb_http_server_destroy(struct rb_http_server *server);
/** Errors: those of rb_transport_listen. */
RB_MUST_CHECK enum rb_err rb_http_server_listen(struct rb_http_server *server,
                                                const struct rb_addr *addr,
                                                struct rb_addr *ret_bound);
/** Polls once, for at most `timeout_ns` (less when a timer is due), and serves what came. */
void rb_http_server_turn(struct rb_http_server *server, int64_t timeout_ns);
uint32_t rb_http_server_conn_count(const struct rb_http_server *server);
