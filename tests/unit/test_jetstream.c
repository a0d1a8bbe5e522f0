/* JetStream in a whole server: what is acknowledged is there after a restart, whatever the number of shards; who may use it; what the
 * system account and the monitor's documents say. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "ringbus/ringbus.h"

#define BASE                                                                                       \
    "host: 127.0.0.1, port: -1, server_name: one\njetstream {max_mem: 1048576, max_file: "         \
    "33554432}\n"
#define ACCOUNTS                                                                                   \
    "accounts { $SYS { users: [{user: s, password: s}] }\n"                                        \
    " A { jetstream: enabled, users: [{user: a, password: a}] }\n"                                 \
    " B { jetstream: {max_streams: %d}, users: [{user: b, password: b}] }\n"                       \
    " N { users: [{user: n, password: n}] } }\n"
#define TEXT_MAX 65536

struct fixture {
    char directory[64];
    struct rb_server *server;
};

struct client {
    int fd;
    uint32_t next_inbox;
    char text[TEXT_MAX];
    size_t len;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    (void)snprintf(f->directory, sizeof(f->directory), "/tmp/ringbus-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    rb_server_stop(f->server);
    (void)snprintf(command, sizeof(command), "rm -rf %s", f->directory);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static const char *text_with(int b_streams, char out[2048])
{
    (void)snprintf(out, 2048, BASE ACCOUNTS, b_streams);
    return out;
}

static void start(struct fixture *f, uint32_t shards, const char *transport)
{
    char accounts[2048], text[4096], error[512] = "";
    (void)snprintf(text, sizeof(text), "%stransport: %s\n", text_with(1, accounts), transport);
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.config_text = text;
    options.shards = shards;
    options.store_dir = f->directory;
    options.start_timeout_ns = INT64_C(60000000000);
    f->server = rb_server_start(&options, error, sizeof(error));
    if (f->server == NULL) {
        fail_msg("start: %s", error);
    }
}

static void stop(struct fixture *f)
{
    rb_server_stop(f->server);
    f->server = NULL;
}

static void say(struct client *c, const char *text)
{
    assert_int_equal(write(c->fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* Reads until `text` came, and takes everything up to and with it; `seen` gets it when not NULL. */
static void expect(struct client *c, const char *text, char *seen)
{
    char *found;
    while ((found = strstr(c->text, text)) == NULL) {
        struct pollfd pfd = { .fd = c->fd, .events = POLLIN };
        if (poll(&pfd, 1, 20000) != 1) {
            fail_msg("\"%s\" did not come; there is: %s", text, c->text);
        }
        ssize_t got = read(c->fd, c->text + c->len, sizeof(c->text) - 1 - c->len);
        if (got <= 0) {
            fail_msg("\"%s\" did not come before the end; there is: %s", text, c->text);
        }
        c->len += (size_t)got;
        c->text[c->len] = '\0';
    }
    size_t taken = (size_t)(found - c->text) + strlen(text);
    if (seen != NULL) {
        memcpy(seen, c->text, taken);
        seen[taken] = '\0';
    }
    memmove(c->text, c->text + taken, c->len - taken + 1);
    c->len -= taken;
}

static struct client *login(struct fixture *f, const char *user)
{
    struct client *c = calloc(1, sizeof(*c));
    char text[256];
    assert_non_null(c);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons(rb_server_port(f->server)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    (void)snprintf(text, sizeof(text),
                   "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,"
                   "\"user\":\"%s\",\"pass\":\"%s\"}\r\nSUB in.* 1\r\nPING\r\n",
                   user, user);
    say(c, text);
    expect(c, "PONG\r\n", NULL);
    return c;
}

static void hang_up(struct client *c)
{
    (void)close(c->fd);
    free(c);
}

/* The whole answer, and before it its protocol line. */
static const char *ask(struct client *c, const char *subject, const char *body)
{
    static char answer[TEXT_MAX];
    char text[1024], inbox[32];
    (void)snprintf(inbox, sizeof(inbox), "in.%u", c->next_inbox++);
    (void)snprintf(text, sizeof(text), "PUB %s %s %zu\r\n%s\r\n", subject, inbox, strlen(body),
                   body);
    say(c, text);
    expect(c, inbox, NULL);
    expect(c, "\r\n", NULL);
    expect(c, "\r\n", answer);
    return answer;
}

static void has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, text);
    }
}

static void store(struct client *c, const char *subject, uint64_t seq)
{
    char wanted[64];
    (void)snprintf(wanted, sizeof(wanted), "\"seq\":%llu", (unsigned long long)seq);
    has(ask(c, subject, "hello"), wanted);
}

/* More shards, fewer, another disk: the account's streams are where they were, and go on. */
static void streams_outlive_servers(void **state)
{
    static const struct {
        uint32_t shards;
        const char *transport;
    } servers[] = { { 2, "uring" }, { 1, "uring" }, { 4, "epoll" }, { 3, "uring" } };
    struct fixture *f = *state;
    start(f, 2, "uring");
    struct client *a = login(f, "a"), *b = login(f, "b");
    has(ask(a, "$JS.API.STREAM.CREATE.S", "{\"name\":\"S\",\"subjects\":[\"s.>\"]}"),
        "\"created\":\"");
    has(ask(b, "$JS.API.STREAM.CREATE.T", "{\"name\":\"T\",\"subjects\":[\"s.>\"]}"),
        "\"created\":\"");
    has(ask(a, "$JS.API.CONSUMER.CREATE.S.C",
            "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}"
            "}"),
        "\"name\":\"C\"");
    uint64_t seq = 0;
    for (; seq < 10; seq++) {
        store(a, "s.a", seq + 1);
        store(b, "s.b", seq + 1);
    }
    hang_up(a);
    hang_up(b);
    stop(f);
    for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
        start(f, servers[i].shards, servers[i].transport);
        a = login(f, "a");
        b = login(f, "b");
        store(a, "s.a", seq + 1);
        store(b, "s.b", ++seq);
        char wanted[64];
        (void)snprintf(wanted, sizeof(wanted), "\"messages\":%llu,", (unsigned long long)seq);
        has(ask(a, "$JS.API.STREAM.INFO.S", ""), wanted);
        (void)snprintf(wanted, sizeof(wanted), "\"num_pending\":%llu", (unsigned long long)seq);
        has(ask(a, "$JS.API.CONSUMER.INFO.S.C", ""), wanted);
        has(ask(b, "$JS.API.STREAM.NAMES", ""), "\"streams\":[\"T\"]");
        hang_up(a);
        hang_up(b);
        stop(f);
    }
}

/* By account, by its limits, and by a reload of both. */
static void who_may_use_it(void **state)
{
    struct fixture *f = *state;
    char text[2048], error[512];
    start(f, 3, "uring");
    struct client *n = login(f, "n"), *b = login(f, "b"), *a = login(f, "a");
    has(ask(n, "$JS.API.INFO", ""), "\"err_code\":10039");
    has(ask(n, "$JS.API.STREAM.CREATE.S", "{\"name\":\"S\"}"), "\"err_code\":10039");
    has(ask(b, "$JS.API.STREAM.CREATE.S", "{\"name\":\"S\"}"), "\"created\":\"");
    has(ask(b, "$JS.API.STREAM.CREATE.T", "{\"name\":\"T\"}"), "\"err_code\":10027");
    has(ask(a, "$JS.API.STREAM.NAMES", ""), "\"total\":0");
    (void)text_with(2, text);
    if (!rb_server_reload(f->server, text, error, sizeof(error))) {
        fail_msg("reload: %s", error);
    }
    struct client *again = login(f, "b");
    for (int i = 0;
         strstr(ask(again, "$JS.API.STREAM.CREATE.T", "{\"name\":\"T\"}"), "\"created\"") == NULL;
         i++) {
        assert_true(i < 1000); /* the home takes the new limits with its next turn */
    }
    assert_false(rb_server_reload(f->server, "port: -1", error, sizeof(error)));
    hang_up(again);
    hang_up(n);
    hang_up(b);
    hang_up(a);
}

/* A message beyond the server's limit is refused, and the limit may grow. */
static void the_servers_limits(void **state)
{
    struct fixture *f = *state;
    start(f, 2, "uring");
    struct client *a = login(f, "a"), *s = login(f, "s");
    has(ask(a, "$JS.API.STREAM.CREATE.M",
            "{\"name\":\"M\",\"subjects\":[\"m\"],\"storage\":\"memory\",\"max_bytes\":2000000}"),
        "\"err_code\":10028");
    has(ask(a, "$JS.API.STREAM.CREATE.M",
            "{\"name\":\"M\",\"subjects\":[\"m\"],\"storage\":\"memory\",\"max_bytes\":1000000}"),
        "\"created\":\"");
    store(a, "m", 1);
    const char *text = ask(s, "$SYS.REQ.SERVER.PING.JSZ", "{\"streams\":true,\"config\":true}");
    has(text, "\"reserved_memory\":1000000,");
    has(text, "\"max_memory\":1048576,");
    has(text, "\"streams\":1,");
    has(text, "\"name\":\"M\",\"created\":\"");
    has(text, "\"config\":{\"name\":\"M\",");
    has(text, "\"state\":{\"messages\":1,");
    has(ask(s, "$SYS.REQ.ACCOUNT.A.JSZ", ""), "\"data\":{\"name\":\"A\",\"id\":\"A\",");
    has(ask(s, "$SYS.REQ.ACCOUNT.N.JSZ", ""), "not jetstream enabled");
    has(ask(s, "$SYS.REQ.SERVER.PING.HEALTHZ", "{\"account\":\"A\",\"stream\":\"X\"}"),
        "\"status_code\":404,\"error\":\"JetStream stream \\\"X\\\" not found on account "
        "\\\"A\\\"\"");
    has(ask(s, "$SYS.REQ.SERVER.PING.HEALTHZ", "{\"account\":\"A\",\"stream\":\"M\"}"),
        "\"status\":\"ok\"");
    has(ask(s, "$SYS.REQ.SERVER.PING", ""), "\"jetstream\":{\"config\":{\"max_memory\":1048576,");
    hang_up(a);
    hang_up(s);
}

/* What comes to a server that did nothing for a while is stored with the time when it came, not with that of its last turn. */
static void time_after_idleness(void **state)
{
    struct fixture *f = *state;
    start(f, 1, "uring");
    struct client *a = login(f, "a");
    has(ask(a, "$JS.API.STREAM.CREATE.M",
            "{\"name\":\"M\",\"subjects\":[\"m\"],\"storage\":\"memory\"}"),
        "\"created\":\"");
    store(a, "m", 1);
    assert_int_equal(usleep(1500000), 0);
    time_t before = time(NULL);
    store(a, "m", 2);
    const char *text = strstr(ask(a, "$JS.API.STREAM.MSG.GET.M", "{\"seq\":2}"), "\"time\":\"");
    assert_non_null(text);
    struct tm tm = { 0 };
    assert_non_null(strptime(text + strlen("\"time\":\""), "%Y-%m-%dT%H:%M:%S", &tm));
    assert_true(timegm(&tm) >= before);
    hang_up(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(streams_outlive_servers, setup, teardown),
        cmocka_unit_test_setup_teardown(who_may_use_it, setup, teardown),
        cmocka_unit_test_setup_teardown(the_servers_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(time_after_idleness, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
