/* Connections inside the process: the same protocol, spread over shards, under load, and at the end of the server; callbacks
 * that answer late, never and twice. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "ringbus/ringbus.h"

#define WAIT_NS INT64_C(20000000000)

static struct rb_server *start(const char *text, rb_auth_decide decide, void *ctx)
{
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    char error[512] = "";
    options.config_text = text;
    options.host = "127.0.0.1";
    options.port = -1;
    options.shards = 2;
    options.in_process = true;
    options.decide = decide;
    options.decide_ctx = ctx;
    struct rb_server *server = rb_server_start(&options, error, sizeof(error));
    if (server == NULL) {
        fail_msg("start: %s", error);
    }
    return server;
}

static struct rb_connection *join(struct rb_server *server)
{
    struct rb_connection *connection = NULL;
    assert_int_equal(rb_server_connect(server, &connection), RB_IO_OK);
    return connection;
}

static void say(struct rb_connection *connection, const char *text)
{
    size_t written;
    assert_int_equal(rb_connection_write(connection, text, strlen(text), WAIT_NS, &written),
                     RB_IO_OK);
    assert_int_equal(written, strlen(text));
}

/* Reads byte by byte until `text` was seen; RB_IO_CLOSED when the server ended the connection instead. */
static enum rb_io await(struct rb_connection *connection, const char *text)
{
    char buf[8192];
    size_t len = 0, wanted = strlen(text);
    while (len < sizeof(buf)) {
        size_t got;
        enum rb_io io = rb_connection_read(connection, buf + len, 1, WAIT_NS, &got);
        if (io != RB_IO_OK || got == 0) {
            return io == RB_IO_OK ? RB_IO_CLOSED : io;
        }
        len++;
        if (len >= wanted && memcmp(buf + len - wanted, text, wanted) == 0) {
            return RB_IO_OK;
        }
    }
    return RB_IO_FULL;
}

static void expect(struct rb_connection *connection, const char *text)
{
    if (await(connection, text) != RB_IO_OK) {
        fail_msg("\"%s\" did not come", text);
    }
}

static void hello(struct rb_connection *connection)
{
    expect(connection, " \r\n");
    say(connection, "CONNECT {\"verbose\":false}\r\nPING\r\n");
    expect(connection, "PONG\r\n");
}

/* Four connections land on both shards; what one says all hear. Without `in_process` there are none. */
static void they_are_clients(void **state)
{
    struct rb_server *server = start(NULL, NULL, NULL);
    struct rb_connection *connections[4];
    for (int i = 0; i < 4; i++) {
        connections[i] = join(server);
        hello(connections[i]);
        say(connections[i], "SUB all 1\r\nPING\r\n");
        expect(connections[i], "PONG\r\n");
    }
    say(connections[3], "PUB all 5\r\nhello\r\n");
    for (int i = 0; i < 4; i++) {
        struct pollfd fd = { .fd = rb_connection_fd(connections[i]), .events = POLLIN };
        assert_int_equal(poll(&fd, 1, 20000), 1);
        expect(connections[i], "MSG all 1 5\r\nhello\r\n");
    }
    struct rb_server_metrics metrics;
    rb_server_metrics(server, &metrics, sizeof(metrics));
    assert_int_equal(metrics.connections, 4);
    for (int i = 0; i < 4; i++) {
        rb_connection_close(connections[i]);
    }
    rb_connection_close(NULL);
    rb_server_stop(server);
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.host = "127.0.0.1";
    options.port = -1;
    server = rb_server_start(&options, NULL, 0);
    assert_non_null(server);
    assert_int_equal(rb_server_connect(server, &connections[0]), RB_IO_OFF);
    rb_server_stop(server);
}

/* Their type is IN_PROCESS: a user of another type may not use them. */
static void they_have_a_type(void **state)
{
    struct rb_server *server =
        start("authorization { users [\n"
              "  { user: in, password: p, allowed_connection_types: [IN_PROCESS] }\n"
              "  { user: out, password: p, allowed_connection_types: [STANDARD] }\n] }\n",
              NULL, NULL);
    struct rb_connection *in = join(server), *out = join(server);
    say(in, "CONNECT {\"verbose\":false,\"user\":\"in\",\"pass\":\"p\"}\r\nPING\r\n");
    expect(in, "PONG\r\n");
    say(out, "CONNECT {\"verbose\":false,\"user\":\"out\",\"pass\":\"p\"}\r\nPING\r\n");
    expect(out, "-ERR 'Authorization Violation'\r\n");
    rb_connection_close(in);
    rb_connection_close(out);
    rb_server_stop(server);
}

enum { LOAD = 20000, PAYLOAD = 100 };

static void *publish(void *arg)
{
    struct rb_connection *connection = arg;
    char text[PAYLOAD + 32];
    for (int i = 0; i < LOAD; i++) {
        int head = snprintf(text, sizeof(text), "PUB load %d\r\n", PAYLOAD);
        (void)snprintf(text + head, sizeof(text) - (size_t)head, "%0*d\r\n", PAYLOAD, i);
        if (rb_connection_write(connection, text, (size_t)head + PAYLOAD + 2, WAIT_NS, NULL) !=
            RB_IO_OK) {
            return arg;
        }
    }
    return NULL;
}

/* Nothing is lost and the order holds, from one shard to the other, while reader and writer work at once. */
static void load(void **state)
{
    struct rb_server *server = start(NULL, NULL, NULL);
    struct rb_connection *from = join(server), *to = join(server);
    hello(from);
    hello(to);
    say(to, "SUB load 7\r\nPING\r\n");
    expect(to, "PONG\r\n");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, publish, from), 0);
    const size_t one = strlen("MSG load 7 100\r\n") + PAYLOAD + 2;
    char *got = malloc(one * LOAD);
    size_t len = 0;
    while (len < one * LOAD) {
        size_t count;
        assert_int_equal(rb_connection_read(to, got + len, one * LOAD - len, WAIT_NS, &count),
                         RB_IO_OK);
        assert_int_not_equal(count, 0);
        len += count;
    }
    for (int i = 0; i < LOAD; i++) {
        assert_int_equal(atoi(got + (size_t)i * one + strlen("MSG load 7 100\r\n") + 90), i);
    }
    void *failed;
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    free(got);
    rb_connection_close(from);
    rb_connection_close(to);
    rb_server_stop(server);
}

static void *publish_for_ever(void *arg)
{
    struct rb_connection *connection = arg;
    while (rb_connection_write(connection, "PUB busy 4\r\nbusy\r\n", 18, WAIT_NS, NULL) ==
           RB_IO_OK) {
    }
    return NULL;
}

static void *read_for_ever(void *arg)
{
    char buf[4096];
    size_t count = 1;
    while (rb_connection_read(arg, buf, sizeof(buf), WAIT_NS, &count) == RB_IO_OK && count > 0) {
    }
    return NULL;
}

/* The server ends under busy connections: calls come back, the connections stay valid until they are closed. */
static void stop_while_busy(void **state)
{
    for (int round = 0; round < 5; round++) {
        struct rb_server *server = start(NULL, NULL, NULL);
        struct rb_connection *from = join(server), *to = join(server);
        hello(from);
        hello(to);
        say(to, "SUB busy 1\r\n");
        pthread_t writer, reader;
        assert_int_equal(pthread_create(&writer, NULL, publish_for_ever, from), 0);
        assert_int_equal(pthread_create(&reader, NULL, read_for_ever, to), 0);
        const struct timespec pause = { .tv_nsec = 20000000 };
        (void)nanosleep(&pause, NULL);
        rb_server_stop(server);
        assert_int_equal(pthread_join(writer, NULL), 0);
        assert_int_equal(pthread_join(reader, NULL), 0);
        assert_int_not_equal(rb_connection_write(from, "PING\r\n", 6, WAIT_NS, NULL), RB_IO_OK);
        rb_connection_shutdown(to);
        rb_connection_close(from);
        rb_connection_close(to);
    }
}

/* Callbacks */

struct judge {
    _Atomic int calls, late, answered;
    pthread_t thread;
    struct rb_auth_ticket *kept;
};

static void *answer_later(void *arg)
{
    struct judge *judge = arg;
    const struct timespec pause = { .tv_nsec = 50000000 };
    (void)nanosleep(&pause, NULL);
    struct rb_auth_grant grant = { .user = "late" };
    (void)rb_auth_ticket_accept(judge->kept, &grant);
    rb_auth_ticket_drop(judge->kept);
    return NULL;
}

/* What is done is the user's name. */
static void decide(void *ctx, const struct rb_auth_offer *offer, struct rb_auth_ticket *ticket)
{
    struct judge *judge = ctx;
    struct rb_auth_grant grant = { .user = offer->user };
    atomic_fetch_add(&judge->calls, 1);
    assert_string_equal(offer->connection_type, "IN_PROCESS");
    if (strcmp(offer->user, "twice") == 0) {
        enum rb_auth_result first = rb_auth_ticket_accept(ticket, &grant);
        enum rb_auth_result second = rb_auth_ticket_refuse(ticket, "changed my mind");
        atomic_fetch_add(&judge->answered, first == RB_AUTH_ANSWERED);
        atomic_fetch_add(&judge->late, second == RB_AUTH_LATE);
    } else if (strcmp(offer->user, "later") == 0) {
        rb_auth_ticket_keep(ticket);
        judge->kept = ticket;
        (void)pthread_create(&judge->thread, NULL, answer_later, judge);
    } else if (strcmp(offer->user, "never") == 0) {
        rb_auth_ticket_keep(ticket);
        judge->kept = ticket;
    } else if (strcmp(offer->user, "account") == 0) {
        grant.account = "NOBODY";
        if (rb_auth_ticket_accept(ticket, &grant) == RB_AUTH_UNKNOWN_ACCOUNT) {
            atomic_fetch_add(&judge->answered, 1);
        }
    } /* else: neither answered nor kept */
}

static struct rb_connection *login(struct rb_server *server, const char *user)
{
    char text[128];
    struct rb_connection *connection = join(server);
    expect(connection, "\"nonce\":\"");
    expect(connection, " \r\n");
    (void)snprintf(text, sizeof(text), "CONNECT {\"verbose\":false,\"user\":\"%s\"}\r\nPING\r\n",
                   user);
    say(connection, text);
    return connection;
}

static void callbacks(void **state)
{
    struct judge judge = { 0 };
    struct rb_server *server = start("authorization { timeout: 1 }\n", decide, &judge);
    struct rb_connection *twice = login(server, "twice"), *later = login(server, "later");
    expect(twice, "PONG\r\n");
    expect(later, "PONG\r\n");
    assert_int_equal(pthread_join(judge.thread, NULL), 0);
    assert_int_equal(judge.late, 1);
    assert_int_equal(judge.answered, 1);
    struct rb_connection *silent = login(server, "silent"), *account = login(server, "account");
    expect(silent, "-ERR 'Authorization Violation'\r\n");
    expect(account, "-ERR 'Authorization Violation'\r\n");
    assert_int_equal(judge.answered, 2);
    struct rb_connection *never = login(server, "never"); /* costs its time, then it is refused */
    expect(never, "-ERR 'Authentication Timeout'\r\n");
    rb_auth_ticket_drop(judge.kept);
    struct rb_connection *all[] = { twice, later, silent, account, never };
    for (int i = 0; i < 5; i++) {
        rb_connection_close(all[i]);
    }
    rb_server_stop(server);
    assert_int_equal(judge.calls, 5);
}

/* A ticket that outlives its server: the answer is late, the memory valid. */
static void answer_after_the_end(void **state)
{
    struct judge judge = { 0 };
    struct rb_server *server = start(NULL, decide, &judge);
    struct rb_connection *never = login(server, "never");
    while (atomic_load(&judge.calls) == 0) {
        const struct timespec pause = { .tv_nsec = 1000000 };
        (void)nanosleep(&pause, NULL);
    }
    rb_server_stop(server);
    struct rb_auth_grant grant = { .user = "x" };
    assert_int_equal(rb_auth_ticket_accept(judge.kept, &grant), RB_AUTH_LATE);
    assert_string_equal(rb_auth_ticket_offer(judge.kept)->user, "never");
    rb_auth_ticket_drop(judge.kept);
    rb_connection_close(never);
}

/* Lame duck mode closes them as well, and takes no new ones. */
static void lame_duck(void **state)
{
    struct rb_server *server =
        start("lame_duck_duration: \"30s\", lame_duck_grace_period: \"100ms\"\n", NULL, NULL);
    struct rb_connection *connection = join(server), *second;
    expect(connection, " \r\n");
    say(connection, "CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n");
    expect(connection, "PONG\r\n");
    assert_true(rb_server_lame_duck(server));
    expect(connection, "\"ldm\":true");
    assert_int_equal(rb_server_connect(server, &second), RB_IO_OFF);
    assert_int_equal(await(connection, "never"), RB_IO_CLOSED);
    assert_true(rb_server_wait(server, WAIT_NS));
    rb_connection_close(connection);
    rb_server_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_clients),
        cmocka_unit_test(they_have_a_type),
        cmocka_unit_test(load),
        cmocka_unit_test(stop_while_busy),
        cmocka_unit_test(callbacks),
        cmocka_unit_test(answer_after_the_end),
        cmocka_unit_test(lame_duck),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
