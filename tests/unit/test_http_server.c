/* test_http_server.c - the monitor's HTTP server over the simulated network: answers, bounds, deadlines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/http_server.h"
#include "transport/sim/sim.h"

#define PORT 8222
#define MS UINT64_C(1000000)
#define S UINT64_C(1000000000)
#define BIG_BYTES (3u << 20)

struct fixture {
    struct rb_sim_net *net;
    struct rb_budget budget;
    struct rb_env env;
    struct rb_transport *transport;
    struct rb_http_server *server;
    uint32_t handled;
    char last_target[256];
    bool fail; /* the handler's body passes its limit */
};

static void handle(void *ctx, const struct rb_http_request *request,
                   struct rb_http_response *response)
{
    struct fixture *f = ctx;
    f->handled++;
    (void)snprintf(f->last_target, sizeof(f->last_target), "%.*s", RB_S_ARG(request->target));
    response->any_origin = true;
    if (rb_slice_equal(request->path, RB_S("/big"))) {
        for (uint32_t i = 0; i < BIG_BYTES / 16; i++) {
            rb_text_puts(&response->body, "0123456789abcdef");
        }
        return;
    }
    if (f->fail) {
        response->body.failed = true;
        return;
    }
    rb_text_printf(&response->body, "you asked for %.*s\n", RB_S_ARG(request->target));
}

static int set_up(void **state)
{
    static const struct rb_sim_net_options options = { .seed = 7,
                                                       .delay_min_ns = MS,
                                                       .delay_max_ns = 2 * MS,
                                                       .split_permille = 200,
                                                       .short_write_permille = 200,
                                                       .window_bytes = 1 << 20,
                                                       .recv_bytes_max = 4096 };
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    assert_int_equal(rb_sim_net_create(&options, &f->net), RB_OK);
    rb_sim_env_init(&f->env, f->net, 7);
    assert_int_equal(rb_sim_transport_create(f->net, 0, 0, &f->budget, &f->transport), RB_OK);
    struct rb_http_options http = {
        .transport = f->transport, .env = &f->env, .budget = &f->budget, .handler = handle, .ctx = f
    };
    assert_int_equal(rb_http_server_create(&http, &f->server), RB_OK);
    struct rb_addr addr = { .port = PORT }, bound;
    assert_int_equal(rb_http_server_listen(f->server, &addr, &bound), RB_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    rb_transport_destroy(f->transport);
    rb_http_server_destroy(f->server);
    assert_int_equal(f->budget.used_bytes, 0);
    rb_sim_net_destroy(f->net);
    free(f);
    return 0;
}

/* Lets `ns` of virtual time pass. */
static void pass(struct fixture *f, uint64_t ns)
{
    uint64_t end = rb_sim_net_now(f->net) + ns;
    while (rb_sim_net_now(f->net) < end) {
        rb_http_server_turn(f->server, 0);
        uint64_t left = end - rb_sim_net_now(f->net);
        rb_sim_net_advance(f->net, left < 50 * MS ? left : 50 * MS);
        rb_http_server_turn(f->server, 0);
    }
}

struct peer {
    struct rb_sim_peer *sim;
    char *text;
    size_t len;
};

static struct peer dial(struct fixture *f)
{
    struct peer peer = { 0 };
    assert_int_equal(rb_sim_peer_connect(f->net, 0, PORT, &peer.sim), RB_OK);
    peer.text = calloc(1, 2 * BIG_BYTES);
    assert_non_null(peer.text);
    return peer;
}

static void hang_up(struct peer *peer)
{
    rb_sim_peer_close(peer->sim, false);
    free(peer->text);
}

static void take(struct peer *peer)
{
    size_t got;
    do {
        got = rb_sim_peer_recv(peer->sim, peer->text + peer->len, 2 * BIG_BYTES - 1 - peer->len);
        peer->len += got;
    } while (got > 0);
}

/* Sends and gives what has arrived 300 ms later; earlier answers are forgotten. */
static const char *ask(struct fixture *f, struct peer *peer, const char *text)
{
    peer->len = 0;
    memset(peer->text, 0, 4096);
    rb_sim_peer_send(peer->sim, rb_slice_text(text));
    for (int i = 0; i < 30; i++) {
        pass(f, 10 * MS);
        take(peer);
    }
    peer->text[peer->len] = '\0';
    return peer->text;
}

static bool starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static uint32_t count(const char *text, const char *what)
{
    uint32_t n = 0;
    while ((text = strstr(text, what)) != NULL) {
        n++;
        text += strlen(what);
    }
    return n;
}

static void answers_and_keeps_alive(void **state)
{
    struct fixture *f = *state;
    struct peer peer = dial(f);
    const char *text = ask(f, &peer, "GET /varz?x=1 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_true(starts(text, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(text, "\r\nAccess-Control-Allow-Origin: *\r\n"));
    assert_non_null(strstr(text, "\r\nContent-Length: 24\r\n"));
    assert_non_null(strstr(text, "\r\n\r\nyou asked for /varz?x=1\n"));
    assert_null(strstr(text, "Connection: close"));
    text = ask(f, &peer, "GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_true(starts(text, "HTTP/1.1 200 OK\r\n"));
    assert_int_equal(f->handled, 2);
    assert_false(rb_sim_peer_ended(peer.sim));
    hang_up(&peer);
    pass(f, S);
    assert_int_equal(rb_http_server_conn_count(f->server), 0);
}

static void closes_when_asked_to(void **state)
{
    struct fixture *f = *state;
    static const char *const requests[] = {
        "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    };
    for (size_t i = 0; i < 2; i++) {
        struct peer peer = dial(f);
        const char *text = ask(f, &peer, requests[i]);
        assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
        assert_non_null(strstr(text, "you asked for /\n"));
        assert_true(rb_sim_peer_ended(peer.sim));
        hang_up(&peer);
    }
}

static void head_has_no_body(void **state)
{
    struct fixture *f = *state;
    struct peer peer = dial(f);
    const char *text = ask(f, &peer, "HEAD /big HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_non_null(strstr(text, "\r\nContent-Length: 3145728\r\n"));
    assert_string_equal(text + strlen(text) - 4, "\r\n\r\n");
    text = ask(f, &peer, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_non_null(strstr(text, "you asked for /x\n"));
    hang_up(&peer);
}

static void sends_large_answers_whole(void **state)
{
    struct fixture *f = *state;
    struct peer peer = dial(f);
    rb_sim_peer_send(peer.sim, RB_S("GET /big HTTP/1.1\r\nHost: h\r\n\r\n"));
    for (int i = 0; i < 200; i++) {
        pass(f, 10 * MS);
        take(&peer);
    }
    const char *body = strstr(peer.text, "\r\n\r\n") + 4;
    assert_int_equal(peer.len - (size_t)(body - peer.text), BIG_BYTES);
    assert_memory_equal(body + BIG_BYTES - 16, "0123456789abcdef", 16);
    hang_up(&peer);
}

/* Pipelined requests are answered in order, one after the other. */
static void serves_pipelined_requests_in_order(void **state)
{
    struct fixture *f = *state;
    struct peer peer = dial(f);
    const char *text = ask(f, &peer,
                           "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n"
                           "\r\nHEAD /3 HTTP/1.1\r\nHost: h\r\n\r\nGET /4 HTTP/1.1\r\nHo");
    assert_int_equal(count(text, "HTTP/1.1 200 OK"), 3);
    const char *first = strstr(text, "you asked for /1\n"),
               *second = strstr(text, "you asked for /2\n");
    assert_true(first != NULL && second != NULL && first < second);
    text = ask(f, &peer, "st: h\r\n\r\n");
    assert_non_null(strstr(text, "you asked for /4\n"));
    hang_up(&peer);
}

static void refuses_other_methods_and_bodies(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *request, *status;
    } cases[] = {
        { "POST /varz HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405 " },
        { "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 405 " },
        { "get / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 405 " },
        { "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 413 " },
        { "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          "HTTP/1.1 413 " },
        { "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 405 " },
        { "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 " }, /* no Host */
        { "nonsense\r\n\r\n", "HTTP/1.1 400 " },
        { "\x16\x03\x01\x02\x01\x01\r\n\r\n", "HTTP/1.1 400 " },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct peer peer = dial(f);
        const char *text = ask(f, &peer, cases[i].request);
        assert_true(starts(text, cases[i].status));
        assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
        assert_int_equal(count(text, "HTTP/1.1"), 1);
        if (starts(cases[i].status, "HTTP/1.1 405")) {
            assert_non_null(strstr(text, "\r\nAllow: GET, HEAD\r\n"));
        }
        pass(f, 2 * S); /* it does not linger for ever */
        take(&peer);
        assert_true(rb_sim_peer_ended(peer.sim));
        hang_up(&peer);
    }
    assert_int_equal(f->handled, 0);
}

static void refuses_long_heads(void **state)
{
    struct fixture *f = *state;
    struct peer peer = dial(f);
    char *text = malloc(RB_HTTP_HEAD_MAX + 4096);
    assert_non_null(text);
    int len = snprintf(text, 64, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
    memset(text + len, 'x', RB_HTTP_HEAD_MAX + 2048);
    text[len + RB_HTTP_HEAD_MAX + 2048] = '\0';
    assert_true(starts(ask(f, &peer, text), "HTTP/1.1 431 "));
    free(text);
    hang_up(&peer);
    assert_int_equal(f->handled, 0);
}

/* One byte a second is not a request: after 5 s in all it ends. */
static void refuses_slow_heads(void **state)
{
    struct fixture *f = *state;
    struct peer silent = dial(f), slow = dial(f);
    for (int i = 0; i < 4; i++) {
        rb_sim_peer_send(slow.sim, rb_slice_of(&"GET /"[i], 1));
        pass(f, S);
    }
    assert_int_equal(rb_http_server_conn_count(f->server), 2);
    pass(f, 2 * S);
    take(&slow);
    assert_true(starts(slow.text, "HTTP/1.1 408 "));
    take(&silent);
    assert_int_equal(silent.len, 0);
    assert_true(rb_sim_peer_ended(silent.sim));
    pass(f, 2 * S);
    assert_int_equal(rb_http_server_conn_count(f->server), 0);
    hang_up(&silent);
    hang_up(&slow);
}

static void ends_idle_connections(void **state)
{
    struct fixture *f = *state;
    struct peer peer = dial(f);
    (void)ask(f, &peer, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    pass(f, RB_HTTP_IDLE_TIMEOUT_NS - 2 * S);
    assert_int_equal(rb_http_server_conn_count(f->server), 1);
    (void)ask(f, &peer, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(f->handled, 2);
    pass(f, RB_HTTP_IDLE_TIMEOUT_NS + S);
    assert_int_equal(rb_http_server_conn_count(f->server), 0);
    hang_up(&peer);
}

/* A client that does not take its answer is closed, and the answer's memory given back. */
static void ends_readers_that_do_not_read(void **state)
{
    struct fixture *f = *state;
    struct peer peer = dial(f);
    rb_sim_peer_stall(peer.sim, true);
    rb_sim_peer_send(peer.sim, RB_S("GET /big HTTP/1.1\r\nHost: h\r\n\r\n"));
    pass(f, 5 * S);
    assert_int_equal(rb_http_server_conn_count(f->server), 1);
    pass(f, RB_HTTP_SEND_TIMEOUT_NS + S);
    assert_int_equal(rb_http_server_conn_count(f->server), 0);
    rb_sim_peer_stall(peer.sim, false);
    hang_up(&peer);
}

static void answers_a_client_that_ended_its_side(void **state)
{
    struct fixture *f = *state;
    struct peer peer = dial(f);
    rb_sim_peer_send(peer.sim, RB_S("GET /last HTTP/1.1\r\nHost: h\r\n\r\n"));
    hang_up(&peer);
    pass(f, S);
    assert_string_equal(f->last_target, "/last");
    peer = dial(f);
    rb_sim_peer_send(peer.sim, RB_S("GET /half HTTP/1.1\r\n"));
    hang_up(&peer);
    pass(f, S);
    assert_int_equal(f->handled, 1);
    assert_int_equal(rb_http_server_conn_count(f->server), 0);
}

static void too_large_answers_become_500(void **state)
{
    struct fixture *f = *state;
    struct peer peer = dial(f);
    f->fail = true;
    const char *text = ask(f, &peer, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_true(starts(text, "HTTP/1.1 500 "));
    assert_non_null(strstr(text, "use limit and offset"));
    assert_null(strstr(text, "Access-Control"));
    f->fail = false;
    assert_true(starts(ask(f, &peer, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"), "HTTP/1.1 200 "));
    hang_up(&peer);
}

/* At the limit: busy connections are kept and a new one is told so; an idle one makes room. */
static void bounds_its_connections(void **state)
{
    struct fixture *f = *state;
    static struct peer peers[RB_HTTP_CONNS_MAX];
    for (uint32_t i = 0; i < RB_HTTP_CONNS_MAX; i++) {
        peers[i].len = 0;
        assert_int_equal(rb_sim_peer_connect(f->net, 0, PORT, &peers[i].sim), RB_OK);
        rb_sim_peer_send(peers[i].sim, RB_S("GET /"));
    }
    pass(f, 100 * MS);
    assert_int_equal(rb_http_server_conn_count(f->server), RB_HTTP_CONNS_MAX);
    struct peer late = dial(f);
    pass(f, 100 * MS);
    take(&late);
    assert_true(starts(late.text, "HTTP/1.1 503 "));
    hang_up(&late);
    rb_sim_peer_send(peers[3].sim, RB_S("x HTTP/1.1\r\nHost: h\r\n\r\n"));
    pass(f, 300 * MS);
    late = dial(f);
    assert_true(starts(ask(f, &late, "GET /late HTTP/1.1\r\nHost: h\r\n\r\n"), "HTTP/1.1 200 "));
    char drain[1024];
    while (rb_sim_peer_recv(peers[3].sim, drain, sizeof(drain)) > 0) {
    }
    assert_true(rb_sim_peer_ended(peers[3].sim));
    hang_up(&late);
    for (uint32_t i = 0; i < RB_HTTP_CONNS_MAX; i++) {
        rb_sim_peer_close(peers[i].sim, true);
    }
    pass(f, S);
    assert_int_equal(rb_http_server_conn_count(f->server), 0);
}

/* Destroyed with connections in every state: nothing leaks (tear_down looks at the budget). */
static void ends_with_open_connections(void **state)
{
    struct fixture *f = *state;
    struct peer idle = dial(f), reading = dial(f), sending = dial(f);
    (void)ask(f, &idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    rb_sim_peer_send(reading.sim, RB_S("GET / HT"));
    rb_sim_peer_stall(sending.sim, true);
    rb_sim_peer_send(sending.sim, RB_S("GET /big HTTP/1.1\r\nHost: h\r\n\r\n"));
    pass(f, 100 * MS);
    assert_int_equal(rb_http_server_conn_count(f->server), 3);
    hang_up(&idle);
    hang_up(&reading);
    hang_up(&sending);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_and_keeps_alive),
        TEST(closes_when_asked_to),
        TEST(head_has_no_body),
        TEST(sends_large_answers_whole),
        TEST(serves_pipelined_requests_in_order),
        TEST(refuses_other_methods_and_bodies),
        TEST(refuses_long_heads),
        TEST(refuses_slow_heads),
        TEST(ends_idle_connections),
        TEST(ends_readers_that_do_not_read),
        TEST(answers_a_client_that_ended_its_side),
        TEST(too_large_answers_become_500),
        TEST(bounds_its_connections),
        TEST(ends_with_open_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
