/* test_monitor.c - the monitor's thread on real loopback sockets: where it listens, which path gives what. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_view.h"
#include "server/text.h"
#include "tls/tls.h"
#include "tls_pair.h"

struct fixture {
    struct fake_view fake;
    struct rb_log log;
    pthread_mutex_t lock;
    char lines[4096];
    struct rb_monitor *monitor;
    char answer[1 << 20];
};

static void keep_line(void *ctx, enum rb_log_level level, const char *message)
{
    struct fixture *f = ctx;
    pthread_mutex_lock(&f->lock);
    size_t len = strlen(f->lines);
    (void)snprintf(f->lines + len, sizeof(f->lines) - len, "%d %s\n", (int)level, message);
    pthread_mutex_unlock(&f->lock);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    fake_init(&f->fake);
    rb_log_init(&f->log);
    f->log.fd = -1;
    f->log.sink = keep_line;
    f->log.sink_ctx = f;
    (void)pthread_mutex_init(&f->lock, NULL);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    rb_monitor_stop(f->monitor);
    assert_int_equal(f->fake.open_count, 0);
    fake_deinit(&f->fake);
    (void)pthread_mutex_destroy(&f->lock);
    free(f);
    return 0;
}

static struct rb_tls_context *https; /* of the next monitor that is started; NULL: http */

static enum rb_err start_on(struct fixture *f, const char *host, int32_t port, const char *base,
                            struct rb_monitor **ret_monitor, char error[RB_MONITOR_ERROR_MAX])
{
    struct rb_monitor_options options = { .source = fake_source(&f->fake),
                                          .log = &f->log,
                                          .asked_host = host,
                                          .port = port,
                                          .base_path = base,
                                          .tls = https };
    assert_int_equal(rb_monitor_factory(&options.factory), RB_OK);
    return rb_monitor_start(&options, ret_monitor, error);
}

static void start(struct fixture *f, const char *host, const char *base)
{
    char error[RB_MONITOR_ERROR_MAX];
    assert_int_equal(start_on(f, host, -1, base, &f->monitor, error), RB_OK);
}

static int dial(const char *ip, uint16_t port)
{
    struct sockaddr_in addr4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 addr6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    bool is4 = inet_pton(AF_INET, ip, &addr4.sin_addr) == 1;
    assert_true(is4 || inet_pton(AF_INET6, ip, &addr6.sin6_addr) == 1);
    int fd = socket(is4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    struct timeval limit = { .tv_sec = 5 };
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    int result = is4 ? connect(fd, (struct sockaddr *)&addr4, sizeof(addr4))
                     : connect(fd, (struct sockaddr *)&addr6, sizeof(addr6));
    if (result != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static const char *get(struct fixture *f, const char *target)
{
    char request[512];
    int fd = dial("127.0.0.1", rb_monitor_port(f->monitor));
    assert_true(fd >= 0);
    int len = snprintf(request, sizeof(request),
                       "GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", target);
    assert_int_equal(write(fd, request, (size_t)len), len);
    size_t have = 0;
    ssize_t got;
    while ((got = read(fd, f->answer + have, sizeof(f->answer) - 1 - have)) > 0) {
        have += (size_t)got;
    }
    assert_int_equal(got, 0);
    f->answer[have] = '\0';
    (void)close(fd);
    return f->answer;
}

static bool starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void gives_each_page(void **state)
{
    static const struct {
        const char *target, *status, *type, *holds;
    } cases[] = {
        { "/", "200", "text/html; charset=utf-8", "href=\"./varz\"" },
        { "/varz", "200", "application/json", "\"server_id\": \"" FAKE_ID "\"" },
        { "/connz?limit=1", "200", "application/json", "\"num_connections\": 1," },
        { "/routez", "200", "application/json", "\"num_routes\": 0," },
        { "/gatewayz", "200", "application/json", "\"outbound_gateways\": {}" },
        { "/leafz", "200", "application/json", "\"leafs\": []" },
        { "/subsz", "200", "application/json", "\"num_cache\": 16" },
        { "/subscriptionsz?subs=1", "200", "application/json", "\"subscriptions_list\": [" },
        { "/accountz?acc=A", "200", "application/json", "\"account_detail\": {" },
        { "/accstatz", "200", "application/json", "\"account_statz\": [" },
        { "/jsz", "200", "application/json", "\"disabled\": true," },
        { "/healthz", "200", "application/json", "\r\n\r\n{\"status\":\"ok\"}" },
        { "/healthz?stream=s", "400", "application/json", "{\"status\":\"error\",\"error\":" },
        { "/ipqueuesz", "200", "application/json", "\r\n\r\n{}" },
        { "/raftz", "404", "text/plain; charset=utf-8", "No Raft nodes registered" },
        { "/stacksz", "200", "application/json", "monitor" },
        { "/debug/vars", "200", "application/json; charset=utf-8", "\"memstats\"" },
        { "/metrics", "200", "text/plain; version=0.0.4; charset=utf-8", "gnatsd_varz_cpu" },
        { "/dashboard", "200", "text/html; charset=utf-8", "<title>ringbus</title>" },
        { "/dashboardz", "200", "application/json", "\"subjects\": [" },
        { "/%76arz", "200", "application/json", "\"uptime\"" },
        { "/connz?sort=x", "400", "text/plain; charset=utf-8", "invalid sorting option: x" },
        { "/varz/", "404", "text/plain; charset=utf-8", "404 page not found\n" },
        { "/Varz", "404", "text/plain; charset=utf-8", "404 page not found\n" },
        { "/base/varz", "404", "text/plain; charset=utf-8", "404 page not found\n" },
        { "/..%2fvarz", "404", "text/plain; charset=utf-8", "404 page not found\n" },
    };
    struct fixture *f = *state;
    start(f, "", "/");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *answer = get(f, cases[i].target);
        char head[128];
        (void)snprintf(head, sizeof(head), "HTTP/1.1 %s ", cases[i].status);
        assert_true(starts(answer, head));
        (void)snprintf(head, sizeof(head), "\r\nContent-Type: %s\r\n", cases[i].type);
        assert_non_null(strstr(answer, head));
        assert_non_null(strstr(answer, cases[i].holds));
        bool json = strcmp(cases[i].type, "application/json") == 0;
        assert_int_equal(strstr(answer, "\r\nAccess-Control-Allow-Origin: *\r\n") != NULL, json);
    }
}

static void counts_requests(void **state)
{
    struct fixture *f = *state;
    uint64_t counts[RB_PAGE_COUNTED];
    start(f, "", "");
    (void)get(f, "/");
    (void)get(f, "/subsz");
    (void)get(f, "/subscriptionsz");
    (void)get(f, "/connz?sort=x"); /* refused, yet asked for */
    (void)get(f, "/raftz");        /* not counted */
    (void)get(f, "/nope");
    const char *answer = get(f, "/varz");
    assert_non_null(strstr(answer, "\"http_req_stats\": {\n    \"/\": 1,\n    \"/connz\": 1,\n"
                                   "    \"/subsz\": 2,\n    \"/varz\": 1\n  },"));
    rb_monitor_requests(f->monitor, counts);
    assert_int_equal(counts[RB_PAGE_SUBSZ], 2);
    assert_int_equal(counts[RB_PAGE_METRICS], 0);
}

static void serves_below_a_base_path(void **state)
{
    struct fixture *f = *state;
    start(f, "", "/a/base/");
    assert_non_null(strstr(get(f, "/a/base/varz"), "\"server_id\""));
    assert_non_null(strstr(get(f, "/a/base"), "href=\"./base/varz\""));
    assert_true(starts(get(f, "/a/base/"), "HTTP/1.1 404 "));
    assert_true(starts(get(f, "/a/basevarz"), "HTTP/1.1 404 "));
    assert_true(starts(get(f, "/varz"), "HTTP/1.1 404 "));
    assert_true(starts(get(f, "/"), "HTTP/1.1 404 "));
}

/* Loopback only, whatever was asked for, and said so. */
static void is_pinned_to_loopback(void **state)
{
    struct fixture *f = *state;
    start(f, "0.0.0.0", "/");
    uint16_t port = rb_monitor_port(f->monitor);
    int fd = dial("127.0.0.1", port);
    assert_true(fd >= 0);
    (void)close(fd);
    /* 127.0.0.2 reaches a listener on 0.0.0.0, but not one on 127.0.0.1. */
    assert_int_equal(dial("127.0.0.2", port), -1);
    char wanted[256];
    (void)snprintf(wanted, sizeof(wanted),
                   "2 http monitor was asked to listen on 0.0.0.0:%u, it listens on 127.0.0.1",
                   port);
    assert_non_null(strstr(f->lines, wanted));
    (void)snprintf(wanted, sizeof(wanted), "3 Starting http monitor on 127.0.0.1:%u\n", port);
    assert_non_null(strstr(f->lines, wanted));
    fd = dial("::1", port);
    if (fd >= 0) { /* a machine without IPv6 has only the other */
        (void)close(fd);
        assert_non_null(strstr(f->lines, "127.0.0.1 and ::1 only"));
    }
}

static void asked_loopback_is_not_warned_of(void **state)
{
    static const char *const hosts[] = { "", "127.0.0.1", "localhost", "::1" };
    struct fixture *f = *state;
    for (size_t i = 0; i < 4; i++) {
        start(f, hosts[i], "/");
        rb_monitor_stop(f->monitor);
        f->monitor = NULL;
    }
    assert_null(strstr(f->lines, "2 "));
    start(f, "2001:db8::1", "/");
    assert_non_null(strstr(f->lines, "asked to listen on [2001:db8::1]:"));
}

static void a_taken_port_is_an_error(void **state)
{
    struct fixture *f = *state;
    char error[RB_MONITOR_ERROR_MAX], wanted[RB_MONITOR_ERROR_MAX];
    struct rb_monitor *second = NULL;
    start(f, "", "/");
    int32_t port = rb_monitor_port(f->monitor);
    assert_int_equal(start_on(f, "", port, "/", &second, error), RB_ERR_IN_USE);
    assert_null(second);
    (void)snprintf(
        wanted, sizeof(wanted),
        "can't listen to the monitor port: listen tcp 127.0.0.1:%d: bind: address already "
        "in use",
        port);
    assert_string_equal(error, wanted);
    rb_monitor_stop(f->monitor);
    f->monitor = NULL;
    assert_int_equal(start_on(f, "", port, "/", &f->monitor, error), RB_OK); /* free again */
    assert_int_equal(rb_monitor_port(f->monitor), port);
}

static void shards_that_do_not_answer_are_503(void **state)
{
    struct fixture *f = *state;
    start(f, "", "/");
    f->fake.collect_err = RB_ERR_TIMEOUT;
    const char *answer = get(f, "/connz");
    assert_true(starts(answer, "HTTP/1.1 503 "));
    assert_non_null(strstr(answer, "the shards could not be asked: "));
    assert_true(starts(get(f, "/metrics"), "HTTP/1.1 503 "));
    assert_true(starts(get(f, "/healthz"), "HTTP/1.1 200 ")); /* needs no shard */
    f->fake.open_err = RB_ERR_CANCELED;
    assert_true(starts(get(f, "/healthz"), "HTTP/1.1 503 "));
}

static void failed_health_is_logged(void **state)
{
    struct fixture *f = *state;
    f->fake.not_accepting = true;
    start(f, "", "/");
    const char *answer = get(f, "/healthz");
    assert_true(starts(answer, "HTTP/1.1 500 "));
    assert_non_null(strstr(answer, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(f->lines, "2 Healthcheck failed: \"failed to be ready for connections"));
}

static void stops_with_clients_connected(void **state)
{
    struct fixture *f = *state;
    start(f, "", "/");
    int fd = dial("127.0.0.1", rb_monitor_port(f->monitor));
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "GET /", 5), 5);
    rb_monitor_stop(f->monitor);
    f->monitor = NULL;
    char byte;
    assert_true(read(fd, &byte, 1) <= 0);
    (void)close(fd);
}

/* https */

static struct rb_tls_context *context_of(const struct rb_tls_options *options)
{
    struct rb_tls_context *context;
    char error[512] = "";
    enum rb_err err = rb_tls_context_create(options, &context, error, sizeof(error));
    assert_string_equal(error, "");
    assert_int_equal(err, RB_OK);
    return context;
}

static bool to_text(void *ctx, const uint8_t *bytes, size_t len)
{
    rb_text_add(ctx, bytes, len);
    return true;
}

static void flush(int fd, struct rb_text *out)
{
    if (out->len > 0) {
        assert_int_equal(write(fd, out->ptr, out->len), out->len);
        rb_text_deinit(out);
        rb_text_init(out, 1 << 20);
    }
}

/* A request over TLS; the answer up to the close, which must be announced by close_notify. */
static const char *get_secure(struct fixture *f, struct rb_tls_context *client, const char *request)
{
    int fd = dial("127.0.0.1", rb_monitor_port(f->monitor));
    assert_true(fd >= 0);
    struct rb_tls *tls;
    struct rb_text out;
    rb_text_init(&out, 1 << 20);
    assert_int_equal(rb_tls_create(client, &tls), RB_OK);
    struct rb_slice in = { 0 };
    assert_int_equal(rb_tls_handshake(tls, &in, to_text, &out), RB_TLS_MORE);
    bool secure = false;
    enum rb_tls_result result = RB_TLS_MORE;
    size_t have = 0;
    while (result != RB_TLS_CLOSED) {
        uint8_t bytes[16384];
        flush(fd, &out);
        ssize_t got = read(fd, bytes, sizeof(bytes));
        assert_true(got > 0);
        in = rb_slice_of(bytes, (size_t)got);
        do {
            size_t len = 0;
            if (!secure) {
                result = rb_tls_handshake(tls, &in, to_text, &out);
                secure = result == RB_TLS_DONE;
                if (secure) {
                    assert_int_equal(rb_tls_write(tls, rb_slice_text(request), to_text, &out),
                                     RB_TLS_DONE);
                }
            } else {
                result = rb_tls_read(tls, &in, (uint8_t *)f->answer + have,
                                     sizeof(f->answer) - 1 - have, &len, to_text, &out);
            }
            have += len;
        } while (result == RB_TLS_DONE);
        assert_int_not_equal(result, RB_TLS_FAILED);
    }
    f->answer[have] = '\0';
    rb_tls_destroy(tls);
    rb_text_deinit(&out);
    (void)close(fd);
    return f->answer;
}

static void serves_https(void **state)
{
    struct fixture *f = *state;
    char *folder = certs_create();
    struct rb_tls_options server = { .cert_file = cert_path(folder, "server-ecdsa.pem"),
                                     .key_file = cert_path(folder, "server-ecdsa-key.pem") };
    struct rb_tls_options anybody = { .client = true, .insecure = true };
    struct rb_tls_context *client = context_of(&anybody);
    https = context_of(&server);
    start(f, "", "/");
    assert_non_null(strstr(f->lines, "3 Starting https monitor on 127.0.0.1:"));
    const char *answer =
        get_secure(f, client, "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_true(starts(answer, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(answer, "\r\n\r\n{\"status\":\"ok\"}"));
    f->fake.many_conns = 500; /* an answer of several pieces */
    answer = get_secure(f, client, "GET /connz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(answer, "\"num_connections\": 503,"));
    assert_string_equal(answer + strlen(answer) - 6, "\n  ]\n}");
    /* Two at once, the second the last one. */
    answer = get_secure(f, client,
                        "GET /jsz HTTP/1.1\r\nHost: h\r\n\r\n"
                        "GET /leafz HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(answer, "\"disabled\": true"));
    assert_non_null(strstr(answer, "\"leafs\": []"));
    answer = get_secure(f, client, "GET /varz HTTP/1.0\r\n\r\nand more");
    assert_non_null(strstr(answer, "\"https_port\": 0"));

    struct rb_tls_context *renewed = context_of(&server);
    rb_monitor_set_tls(f->monitor, renewed);
    rb_tls_context_release(renewed);
    answer = get_secure(f, client, "GET /healthz HTTP/1.0\r\n\r\n");
    assert_true(starts(answer, "HTTP/1.1 200 OK\r\n"));

    /* Plain HTTP on it is closed without an answer in clear. */
    int fd = dial("127.0.0.1", rb_monitor_port(f->monitor));
    assert_int_equal(write(fd, "GET / HTTP/1.0\r\n\r\n", 18), 18);
    char reply[64];
    ssize_t got = read(fd, reply, sizeof(reply));
    assert_true(got <= 0 || reply[0] == 21); /* a TLS alert */
    (void)close(fd);
    rb_tls_context_release(https);
    https = NULL;
    rb_tls_context_release(client);
    certs_remove(folder);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gives_each_page),
        TEST(counts_requests),
        TEST(serves_below_a_base_path),
        TEST(is_pinned_to_loopback),
        TEST(asked_loopback_is_not_warned_of),
        TEST(a_taken_port_is_an_error),
        TEST(shards_that_do_not_answer_are_503),
        TEST(failed_health_is_logged),
        TEST(stops_with_clients_connected),
        TEST(serves_https),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
