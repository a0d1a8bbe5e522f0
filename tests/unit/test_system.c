/* The system account of a server with three shards, on real sockets: events, requests, and who may see them. */
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
#include <unistd.h>
#include <cmocka.h>

#include "ringbus/ringbus.h"

#define USERS                                                                                      \
    "accounts { $SYS { users: [{user: admin, password: pw}] }\n"                                   \
    " A { users: [{user: a, password: a}] }\n B { users: [{user: b, password: b}] } }\n"
#define BASE "host: 127.0.0.1, port: -1, shards: 3, server_name: one, server_tags: [\"east\"]\n"
#define TEXT_MAX 65536

struct client {
    int fd;
    size_t len;
    char text[TEXT_MAX]; /* everything that came and was not taken */
};

static struct rb_server *start(const char *text)
{
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.config_text = text;
    char error[512] = "";
    struct rb_server *server = rb_server_start(&options, error, sizeof(error));
    if (server == NULL) {
        fail_msg("start: %s", error);
    }
    return server;
}

static void say(struct client *c, const char *text)
{
    assert_int_equal(write(c->fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* Reads until `text` came, and takes everything up to and with it. `seen` gets it when not NULL. */
static void expect(struct client *c, const char *text, char *seen)
{
    char *found;
    while ((found = strstr(c->text, text)) == NULL) {
        struct pollfd pfd = { .fd = c->fd, .events = POLLIN };
        if (poll(&pfd, 1, 5000) != 1) {
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

static struct client *dial(struct rb_server *server, const char *user, const char *pass)
{
    struct client *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons(rb_server_port(server)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    char text[256];
    (void)snprintf(
        text, sizeof(text),
        "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,"
        "\"user\":\"%s\",\"pass\":\"%s\",\"name\":\"%s-name\",\"protocol\":1}\r\nPING\r\n",
        user, pass, user);
    say(c, text);
    return c;
}

static struct client *login(struct rb_server *server, const char *user, const char *pass)
{
    struct client *c = dial(server, user, pass);
    expect(c, "PONG\r\n", NULL);
    return c;
}

static void hang_up(struct client *c)
{
    (void)close(c->fd);
    free(c);
}

/* The whole answer. */
static void ask(struct client *c, const char *subject, const char *body, char answer[TEXT_MAX])
{
    char text[1024];
    (void)snprintf(text, sizeof(text), "SUB in 7\r\nUNSUB 7 1\r\nPUB %s in %zu\r\n%s\r\n", subject,
                   strlen(body), body);
    say(c, text);
    expect(c, "MSG in 7", NULL);
    expect(c, "\r\n", NULL);
    expect(c, "\r\n", answer);
}

static void has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" is not in: %s", part, text);
    }
}

static void listens(struct client *c, const char *subject)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "SUB %s 1\r\nPING\r\n", subject);
    say(c, text);
    expect(c, "PONG\r\n", NULL);
}

static void connections_are_told(void **state)
{
    struct rb_server *server = start(BASE USERS);
    struct client *sys = login(server, "admin", "pw");
    char text[TEXT_MAX];
    listens(sys, "$SYS.ACCOUNT.>");
    struct client *a = login(server, "a", "a");
    expect(sys, "MSG $SYS.ACCOUNT.A.SERVER.CONNS 1 ", NULL);
    expect(sys, "\"slow_consumers\":0}\r\n", text);
    has(text, "{\"type\":\"io.nats.server.advisory.v1.account_connections\",\"id\":\"");
    has(text, "\"server\":{\"name\":\"one\",\"host\":\"127.0.0.1\",\"id\":\"N");
    has(text, "\"acc\":\"A\",\"name\":\"A\",\"conns\":1,\"leafnodes\":0,\"total_conns\":1,");
    expect(sys, "MSG $SYS.ACCOUNT.A.CONNECT 1 ", NULL);
    expect(sys, "}\r\n", text);
    has(text, "\"type\":\"io.nats.server.advisory.v1.client_connect\"");
    has(text, "\"acc\":\"A\",\"user\":\"a\",\"name\":\"a-name\",");
    has(text, "\"kind\":\"Client\",\"client_type\":\"nats\"}}\r\n");
    say(a, "PUB x 3\r\nabc\r\nPING\r\n");
    expect(a, "PONG\r\n", NULL);
    hang_up(a);
    expect(sys, "MSG $SYS.ACCOUNT.A.SERVER.CONNS 1 ", NULL);
    expect(sys, "\r\n{", NULL);
    expect(sys, "}\r\n", text);
    has(text, "\"conns\":0,");
    expect(sys, "MSG $SYS.ACCOUNT.A.DISCONNECT 1 ", NULL);
    expect(sys, "\"reason\":\"Client Closed\"}\r\n", text);
    has(text, "\"sent\":{\"msgs\":1,\"bytes\":3},\"received\":{\"msgs\":0,\"bytes\":0}");
    hang_up(sys);
    rb_server_stop(server);
}

static void refused_logins_are_told(void **state)
{
    struct rb_server *server = start(BASE USERS);
    struct client *sys = login(server, "admin", "pw");
    char text[TEXT_MAX];
    listens(sys, "$SYS.SERVER.*.CLIENT.AUTH.ERR");
    struct client *wrong = dial(server, "a", "secret-word");
    expect(wrong, "-ERR 'Authorization Violation'\r\n", NULL);
    expect(sys, "\"reason\":\"Authentication Failure\"}\r\n", text);
    has(text, "\"acc\":\"$G\",\"user\":\"a\",");
    has(text, "\"rtt\":");
    assert_null(strstr(text, "secret-word"));
    hang_up(wrong);
    hang_up(sys);
    rb_server_stop(server);
}

static void requests_are_answered(void **state)
{
    struct rb_server *server = start(BASE USERS);
    struct client *sys[3], *a = login(server, "a", "a"), *b = login(server, "b", "b");
    static const char *const names[] = { "VARZ",    "CONNZ",    "SUBSZ",    "ROUTEZ",  "GATEWAYZ",
                                         "LEAFZ",   "ACCOUNTZ", "JSZ",      "HEALTHZ", "PROFILEZ",
                                         "EXPVARZ", "RAFTZ",    "IPQUEUESZ" };
    char text[TEXT_MAX], subject[128];
    for (int s = 0; s < 3; s++) { /* from every shard */
        sys[s] = login(server, "admin", "pw");
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            (void)snprintf(subject, sizeof(subject), "$SYS.REQ.SERVER.PING.%s", names[i]);
            ask(sys[s], subject, "", text);
            has(text, "{\"server\":{\"name\":\"one\"");
            has(text, "},\"data\":{");
        }
        ask(sys[s], "$SYS.REQ.SERVER.PING", "", text);
        has(text, "\"statsz\":{\"start\":\"");
        ask(sys[s], "$SYS.REQ.SERVER.PING.IDZ", "", text);
        has(text, "{\"name\":\"one\",\"host\":\"127.0.0.1\",\"id\":\"N");
        ask(sys[s], "$SYS.REQ.ACCOUNT.A.CONNZ", "", text);
        has(text, "\"num_connections\":1,");
        has(text, "\"name\":\"a-name\"");
        ask(sys[s], "$SYS.REQ.ACCOUNT.A.INFO", "", text);
        has(text, "\"data\":{\"account_name\":\"A\",");
        ask(sys[s], "$SYS.REQ.ACCOUNT.A.CONNS", "", text);
        has(text, "\"acc\":\"A\",\"name\":\"A\",\"conns\":1,");
        ask(sys[s], "$SYS.REQ.ACCOUNT.PING.STATZ", "", text);
        has(text, "{\"acc\":\"A\"");
        has(text, "{\"acc\":\"B\"");
    }
    for (int s = 0; s < 3; s++) {
        hang_up(sys[s]);
    }
    hang_up(a);
    hang_up(b);
    rb_server_stop(server);
}

static void faults_are_named(void **state)
{
    struct rb_server *server = start(BASE USERS);
    struct client *sys = login(server, "admin", "pw");
    char text[TEXT_MAX];
    ask(sys, "$SYS.REQ.SERVER.PING.VARZ", "{", text);
    has(text, "\"error\":{\"code\":400,\"description\":\"unexpected end of JSON input\"}}");
    ask(sys, "$SYS.REQ.SERVER.PING.STATSZ", "{\"tags\":1}", text);
    has(text, "\"error\":{\"code\":400,\"description\":\"json: cannot unmarshal number into Go "
              "struct field StatszEventOptions.EventFilterOptions.tags of type []string\"}}");
    ask(sys, "$SYS.REQ.SERVER.PING.CONNZ", "{\"limit\":\"x\"}", text);
    has(text, "struct field ConnzEventOptions.ConnzOptions.limit of type int");
    ask(sys, "$SYS.REQ.SERVER.PING.CONNZ", "{\"sort\":\"zz\"}", text);
    has(text,
        "\"data\":null,\"error\":{\"code\":500,\"description\":\"invalid sorting option: zz\"}}");
    ask(sys, "$SYS.REQ.ACCOUNT.nope.INFO", "", text);
    has(text,
        "\"data\":null,\"error\":{\"code\":500,\"description\":\"Account nope does not exist\"}}");
    ask(sys, "$SYS.REQ.ACCOUNT.A.JSZ", "", text);
    has(text, "\"data\":null,\"error\":{\"code\":500,\"description\":\"jetstream not enabled\"}}");
    /* Meant for others: only the second one is answered. */
    say(sys, "SUB in 9\r\nPUB $SYS.REQ.SERVER.PING.VARZ in 24\r\n{\"server_name\":\"nobody\"}\r\n"
             "PUB $SYS.REQ.SERVER.PING.IDZ in 0\r\n\r\n");
    expect(sys, "MSG in 9", NULL);
    expect(sys, "\r\n", NULL);
    expect(sys, "\r\n", text);
    has(text, "{\"name\":\"one\"");
    hang_up(sys);
    rb_server_stop(server);
}

static void own_account_only(void **state)
{
    struct rb_server *server = start(BASE USERS);
    struct client *a = login(server, "a", "a"), *b = login(server, "b", "b");
    char text[TEXT_MAX];
    ask(a, "$SYS.REQ.USER.INFO", "", text);
    has(text, "\"data\":{\"user\":\"a\",\"account\":\"A\",\"account_name\":\"A\"}}");
    static const char *const both[] = { "$SYS.REQ.ACCOUNT.PING.CONNZ",
                                        "$SYS.REQ.SERVER.PING.CONNZ" };
    for (int i = 0; i < 2; i++) {
        ask(a, both[i], "{\"acc\":\"B\"}", text);
        has(text, "\"num_connections\":1,\"total\":1,");
        has(text, "\"name\":\"a-name\"");
    }
    ask(a, "$SYS.REQ.ACCOUNT.PING.STATZ", "{\"accounts\":[\"B\"]}", text);
    has(text, "\"account_statz\":[{\"acc\":\"A\"");
    assert_null(strstr(text, "\"acc\":\"B\""));
    /* What is not imported is a subject like any other. */
    static const char *const others[] = { "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.A.CONNZ",
                                          "$SYS.REQ.SERVER.PING.VARZ", "$SYS.DEBUG.SUBSCRIBERS",
                                          "$SYS.REQ.USER.B.INFO" };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        (void)snprintf(text, sizeof(text), "SUB in 8\r\nPUB %s in 0\r\n\r\n", others[i]);
        say(a, text);
        expect(a, "NATS/1.0 503\r\n", NULL);
        say(a, "UNSUB 8\r\n");
    }
    listens(b, "$SYS.>");
    hang_up(login(server, "a", "a"));
    say(b, "PUB $SYS.mine 2\r\nhi\r\n");
    expect(b, "MSG $SYS.mine 1 2\r\nhi\r\n", text);
    assert_string_equal(text, "MSG $SYS.mine 1 2\r\nhi\r\n"); /* and nothing before it */
    hang_up(a);
    hang_up(b);
    rb_server_stop(server);
}

static void connections_are_kicked(void **state)
{
    struct rb_server *server = start(BASE USERS);
    struct client *sys = login(server, "admin", "pw"), *a = login(server, "a", "a");
    char text[TEXT_MAX], subject[128], body[64], id[57];
    ask(sys, "$SYS.REQ.SERVER.PING.IDZ", "", text);
    (void)snprintf(id, sizeof(id), "%s", strstr(text, "\"id\":\"") + 6);
    (void)snprintf(subject, sizeof(subject), "$SYS.REQ.SERVER.%s.KICK", id);
    ask(sys, subject, "{\"cid\":999}", text);
    has(text, "\"error\":{\"code\":500,\"description\":\"no such client or leafnode id\"}}");
    ask(sys, "$SYS.REQ.ACCOUNT.A.CONNZ", "", text);
    (void)snprintf(body, sizeof(body), "{\"cid\":%d}", atoi(strstr(text, "{\"cid\":") + 7));
    (void)snprintf(subject, sizeof(subject), "$SYS.REQ.SERVER.%s.LDM", id);
    ask(sys, subject, body, text);
    has(text, "\"time\":\"");
    assert_null(strstr(text, "\"error\""));
    expect(a, "\"ldm\":true", NULL);
    struct client *ear = login(server, "admin", "pw");
    listens(ear, "$SYS.ACCOUNT.A.DISCONNECT");
    (void)snprintf(subject, sizeof(subject), "$SYS.REQ.SERVER.%s.KICK", id);
    ask(sys, subject, body, text);
    assert_null(strstr(text, "\"error\""));
    expect(ear, "\"reason\":\"Kicked\"}", NULL);
    hang_up(ear);
    (void)snprintf(subject, sizeof(subject), "$SYS.REQ.SERVER.%s.RELOAD", id);
    ask(sys, subject, "", text);
    assert_null(strstr(text, "\"error\"")); /* an embedded server reads its text again */
    hang_up(a);
    hang_up(sys);
    rb_server_stop(server);
}

static void subscribers_are_counted(void **state)
{
    struct rb_server *server = start(BASE USERS);
    struct client *sys = login(server, "admin", "pw"), *a[4];
    char text[TEXT_MAX];
    for (int i = 0; i < 4; i++) {
        a[i] = login(server, "a", "a");
        say(a[i], "SUB orders.eu 1\r\nSUB orders.* workers 2\r\nPING\r\n");
        expect(a[i], "PONG\r\n", NULL);
    }
    ask(sys, "$SYS.REQ.ACCOUNT.NSUBS", "{\"acc\":\"A\",\"subject\":\"orders.eu\"}", text);
    assert_string_equal(text, "8\r\n");
    ask(sys, "$SYS.REQ.ACCOUNT.NSUBS", "{\"acc\":\"A\",\"subject\":\"orders.us\"}", text);
    assert_string_equal(text, "4\r\n");
    ask(sys, "$SYS.REQ.ACCOUNT.NSUBS",
        "{\"acc\":\"A\",\"subject\":\"orders.eu\",\"queue\":\"d29ya2Vycw==\"}", text);
    assert_string_equal(text, "4\r\n");
    ask(sys, "$SYS.REQ.ACCOUNT.NSUBS", "{\"acc\":\"A\",\"subject\":\"orders.>\"}", text);
    assert_string_equal(text, "8\r\n");
    ask(sys, "$SYS.DEBUG.SUBSCRIBERS", "orders.>", text);
    assert_string_equal(text, "0\r\n"); /* of who asks: the system account */
    for (int i = 0; i < 4; i++) {
        hang_up(a[i]);
    }
    hang_up(sys);
    rb_server_stop(server);
}

static void the_end_is_told_on_every_shard(void **state)
{
    struct rb_server *server = start(BASE USERS);
    struct client *sys[6];
    for (int i = 0; i < 6; i++) {
        sys[i] = login(server, "admin", "pw");
        listens(sys[i], "$SYS.SERVER.*.SHUTDOWN");
    }
    rb_server_stop(server);
    for (int i = 0; i < 6; i++) {
        expect(sys[i], ".SHUTDOWN 1 ", NULL);
        expect(sys[i], "\r\n{\"name\":\"one\",", NULL);
        hang_up(sys[i]);
    }
}

static void without_a_system_account_there_is_nothing(void **state)
{
    struct rb_server *server =
        start(BASE "no_system_account: true\naccounts { A { users: [{user: a, password: a}] } }\n");
    struct client *a = login(server, "a", "a");
    say(a, "SUB in 8\r\nPUB $SYS.REQ.USER.INFO in 0\r\n\r\n");
    expect(a, "NATS/1.0 503\r\n", NULL);
    hang_up(a);
    rb_server_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_are_told),
        cmocka_unit_test(refused_logins_are_told),
        cmocka_unit_test(requests_are_answered),
        cmocka_unit_test(faults_are_named),
        cmocka_unit_test(own_account_only),
        cmocka_unit_test(connections_are_kicked),
        cmocka_unit_test(subscribers_are_counted),
        cmocka_unit_test(the_end_is_told_on_every_shard),
        cmocka_unit_test(without_a_system_account_there_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
