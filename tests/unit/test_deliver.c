/* Messages of the server that are routed by one subject and shown with another (rb_account_deliver), and the watch on interest:
 * a node with three shards, and clients on all of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "core/account.h"
#include "core/service.h"
#include "server/node.h"
#include "server/shard.h"
#include "server/snapshot.h"
#include "transport/pipe/pipe.h"

#define WAIT_NS INT64_C(10000000000)
#define CLIENTS 6
#define ACCOUNTS                                                                                   \
    "accounts { A { users: [{user: a, password: a}], exports: [{stream: \"to.>\"},"                \
    " {service: \"ask\", response: Stream}] }\n"                                                   \
    " B { users: [{user: b, password: b}], imports: ["                                             \
    "{stream: {account: A, subject: \"to.>\"}, prefix: \"from\"},"                                 \
    " {service: {account: A, subject: \"ask\"}}] } }"

struct fixture {
    struct rb_config config;
    struct rb_log log;
    struct rb_node *node;
    struct rb_pipe *pipes[CLIENTS];
};

static void say(struct rb_pipe *pipe, const char *text)
{
    assert_int_equal(rb_pipe_write(pipe, text, strlen(text), WAIT_NS, NULL), RB_OK);
}

/* Everything that comes until `text` has, in `seen`. */
static void hear(struct rb_pipe *pipe, const char *text, char *seen, size_t cap)
{
    size_t len = 0, wanted = strlen(text), got;
    while (len + 1 < cap) {
        assert_int_equal(rb_pipe_read(pipe, seen + len, 1, WAIT_NS, &got), RB_OK);
        assert_int_equal(got, 1);
        len++;
        if (len >= wanted && memcmp(seen + len - wanted, text, wanted) == 0) {
            seen[len] = '\0';
            return;
        }
    }
    fail_msg("\"%s\" did not come", text);
}

static void expect(struct rb_pipe *pipe, const char *text)
{
    char seen[16384];
    hear(pipe, text, seen, sizeof(seen));
    if (strcmp(seen, text) != 0) {
        fail_msg("expected \"%s\", there is \"%s\"", text, seen);
    }
}

static void login(struct rb_pipe *pipe, const char *user)
{
    char text[256], seen[16384];
    hear(pipe, " \r\n", seen, sizeof(seen)); /* INFO */
    (void)snprintf(text, sizeof(text),
                   "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,"
                   "\"user\":\"%s\",\"pass\":\"%s\"}\r\nPING\r\n",
                   user, user);
    say(pipe, text);
    expect(pipe, "PONG\r\n");
}

/* What the client asked for before is in force on its shard. */
static void settle(struct rb_pipe *pipe)
{
    say(pipe, "PING\r\n");
    expect(pipe, "PONG\r\n");
}

static void nothing(void *shard, void *arg)
{
}

/* What any shard has told the others by now, they know. */
static void settle_shards(struct fixture *f)
{
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < f->config.shards; i++) {
            assert_int_equal(rb_node_ask(f->node, i, nothing, NULL, NULL, WAIT_NS), RB_OK);
        }
    }
}

static int setup(void **state)
{
    static struct fixture f;
    char error[RB_CONFIG_ERROR_MAX];
    f = (struct fixture){ .log = { .fd = -1 } };
    rb_config_defaults(&f.config);
    if (rb_config_load_text(&f.config, "test", RB_S(ACCOUNTS), error) != RB_OK) {
        fail_msg("%s", error);
    }
    (void)snprintf(f.config.host, sizeof(f.config.host), "127.0.0.1");
    f.config.port = -1;
    f.config.shards = 3;
    struct rb_node_options options = { .config = &f.config, .log = &f.log, .in_process = true };
    assert_int_equal(rb_node_start(&options, &f.node, error), RB_OK);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(rb_node_connect(f.node, &f.pipes[i]), RB_OK);
        login(f.pipes[i], "a");
    }
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < CLIENTS; i++) {
        rb_pipe_close(f->pipes[i]);
    }
    rb_node_stop(f->node);
    rb_config_deinit(&f->config);
    return 0;
}

struct order {
    const char *to, *subject, *reply, *payload;
    uint32_t header_len;
    bool delivered;
};

static void deliver_here(void *shard, void *arg)
{
    struct order *order = arg;
    struct rb_account *account = rb_account_find(rb_shard_core(shard), RB_S("A"));
    assert_non_null(account);
    order->delivered = rb_account_deliver(
        account, rb_slice_text(order->to), rb_slice_text(order->subject),
        rb_slice_text(order->reply), order->header_len, rb_slice_text(order->payload));
}

static bool deliver(struct fixture *f, uint32_t shard, struct order order)
{
    assert_int_equal(rb_node_ask(f->node, shard, deliver_here, &order, NULL, WAIT_NS), RB_OK);
    return order.delivered;
}

/* Plain subscribers on all shards see the other subject, whichever shard it comes from. */
static void shown_on_every_shard(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < CLIENTS; i++) {
        say(f->pipes[i], "SUB to.> 7\r\n");
        settle(f->pipes[i]);
    }
    settle_shards(f);
    for (uint32_t shard = 0; shard < f->config.shards; shard++) {
        struct order order = { "to.me", "orders.new", "ack", "NATS/1.0\r\n\r\nbody", 12, false };
        assert_true(deliver(f, shard, order));
        order = (struct order){ "to.me", "", "", "plain", 0, false };
        assert_true(deliver(f, shard, order)); /* nothing else to show: the subject itself */
        for (int i = 0; i < CLIENTS; i++) {
            expect(f->pipes[i], "HMSG orders.new 7 ack 12 16\r\nNATS/1.0\r\n\r\nbody\r\n"
                                "MSG to.me 7 5\r\nplain\r\n");
        }
    }
    /* Who subscribes to what is shown gets nothing. */
    say(f->pipes[0], "UNSUB 7\r\nSUB orders.new 8\r\n");
    settle(f->pipes[0]);
    settle_shards(f);
    assert_true(deliver(f, 0, (struct order){ "to.me", "orders.new", "", "x", 0, false }));
    settle_shards(f);
    settle(f->pipes[0]);
    assert_false(deliver(f, 0, (struct order){ "nobody", "orders.new", "", "x", 0, false }));
}

/* A subject longer than the line that is kept on the stack, and a payload that is handed over between shards. */
static void long_ones(void **state)
{
    struct fixture *f = *state;
    static char subject[2001], payload[20001], wanted[24000];
    memset(subject, 's', sizeof(subject) - 1);
    memset(payload, 'p', sizeof(payload) - 1);
    for (int i = 0; i < CLIENTS; i++) {
        say(f->pipes[i], "SUB to 1\r\n");
        settle(f->pipes[i]);
    }
    settle_shards(f);
    (void)snprintf(wanted, sizeof(wanted), "MSG %s 1 back 20000\r\n", subject);
    assert_true(deliver(f, 1, (struct order){ "to", subject, "back", payload, 0, false }));
    for (int i = 0; i < CLIENTS; i++) {
        char seen[24000];
        expect(f->pipes[i], wanted);
        hear(f->pipes[i], "\r\n", seen, sizeof(seen));
        assert_int_equal(strlen(seen), 20002);
    }
}

/* One member of the group, wherever it is. */
static void queue_members(void **state)
{
    struct fixture *f = *state;
    int counts[CLIENTS] = { 0 }, sum = 0;
    for (int i = 0; i < CLIENTS; i++) {
        say(f->pipes[i], "SUB to workers 1\r\n");
        settle(f->pipes[i]);
    }
    settle_shards(f);
    enum { MESSAGES = 60 };
    for (uint32_t i = 0; i < MESSAGES; i++) {
        assert_true(deliver(f, i % 3, (struct order){ "to", "shown", "", "x", 0, false }));
    }
    settle_shards(f);
    for (int i = 0; i < CLIENTS; i++) {
        char seen[16384];
        say(f->pipes[i], "PING\r\n");
        hear(f->pipes[i], "PONG\r\n", seen, sizeof(seen));
        for (const char *at = seen; (at = strstr(at, "MSG shown 1 1\r\nx\r\n")) != NULL; at++) {
            counts[i]++;
        }
        sum += counts[i];
    }
    assert_int_equal(sum, MESSAGES);
}

/* An importer is shown the same as everybody; so is one who asked through a service import. */
static void across_imports(void **state)
{
    struct fixture *f = *state;
    struct rb_pipe *importer;
    char seen[1024], reply[64];
    assert_int_equal(rb_node_connect(f->node, &importer), RB_OK);
    login(importer, "b");
    say(importer, "SUB from.to.> 3\r\nSUB in 4\r\n");
    settle(importer);
    settle_shards(f);
    assert_true(deliver(f, 0, (struct order){ "to.me", "orders.new", "ack", "x", 0, false }));
    expect(importer, "MSG orders.new 3 ack 1\r\nx\r\n");
    assert_true(deliver(f, 0, (struct order){ "to.me", "", "", "x", 0, false }));
    expect(importer, "MSG from.to.me 3 1\r\nx\r\n");
    say(f->pipes[0], "SUB ask 1\r\n");
    settle(f->pipes[0]);
    settle_shards(f);
    say(importer, "PUB ask in 1\r\n?\r\n");
    hear(f->pipes[0], "?\r\n", seen, sizeof(seen));
    assert_int_equal(sscanf(seen, "HMSG ask 1 %63s", reply), 1);
    for (uint32_t shard = 0; shard < f->config.shards; shard++) {
        assert_true(deliver(f, shard, (struct order){ reply, "orders.new", "", "x", 0, false }));
        expect(importer, "MSG orders.new 4 1\r\nx\r\n");
    }
    rb_pipe_close(importer);
}

/* How many shards would send an answer there: 3, or 2 when the one that awaits it knows that nobody listens. */
struct wanted {
    const char *reply;
    int count;
};

static void ask_wanted(void *shard, void *arg)
{
    struct wanted *wanted = arg;
    wanted->count += rb_service_wanted(rb_shard_core(shard), rb_slice_text(wanted->reply));
}

static int wanted_by(struct fixture *f, const char *reply)
{
    struct wanted wanted = { .reply = reply };
    settle_shards(f);
    for (uint32_t i = 0; i < f->config.shards; i++) {
        assert_int_equal(rb_node_ask(f->node, i, ask_wanted, &wanted, NULL, WAIT_NS), RB_OK);
    }
    return wanted.count;
}

/* Who asked through an import and does not listen any more: the shard that waits for the answer can tell. */
static void answers_that_nobody_wants(void **state)
{
    struct fixture *f = *state;
    struct rb_pipe *importer;
    char seen[1024], reply[64];
    assert_int_equal(rb_node_connect(f->node, &importer), RB_OK);
    login(importer, "b");
    say(f->pipes[0], "SUB ask 1\r\n");
    settle(f->pipes[0]);
    settle_shards(f);
    say(importer, "SUB in 4\r\nPUB ask in 1\r\n?\r\n");
    hear(f->pipes[0], "?\r\n", seen, sizeof(seen));
    assert_int_equal(sscanf(seen, "HMSG ask 1 %63s", reply), 1);
    assert_int_equal(wanted_by(f, reply), 3);
    say(importer, "UNSUB 4\r\n");
    settle(importer);
    assert_int_equal(wanted_by(f, reply), 2);
    say(importer, "SUB in 5\r\n");
    settle(importer);
    assert_int_equal(wanted_by(f, reply), 3);
    assert_true(deliver(f, 0, (struct order){ reply, "", "", "", 0, false })); /* the last one */
    settle(f->pipes[0]);
    assert_int_equal(wanted_by(f, reply), 2);
    assert_int_equal(wanted_by(f, "in"), 3);
    rb_pipe_close(importer);
}

/* The watch */

static _Atomic int seen_count;

static void saw(void *ctx, struct rb_account *account, struct rb_slice subject)
{
    if (rb_slice_equal(subject, RB_S("watched.it"))) {
        atomic_fetch_add(&seen_count, 1);
    }
}

static void watch_here(void *shard, void *arg)
{
    struct rb_core *core = rb_shard_core(shard);
    core->hooks.interest = saw;
    rb_account_find(core, RB_S("A"))->watch_interest = *(bool *)arg;
}

static void interest_is_watched(void **state)
{
    struct fixture *f = *state;
    bool on = true;
    for (uint32_t i = 0; i < f->config.shards; i++) {
        assert_int_equal(rb_node_ask(f->node, i, watch_here, &on, NULL, WAIT_NS), RB_OK);
    }
    atomic_store(&seen_count, 0);
    say(f->pipes[0], "SUB watched.it 1\r\n");
    settle(f->pipes[0]);
    settle_shards(f);
    assert_int_equal(atomic_load(&seen_count), 3); /* here and on the two others */
    say(f->pipes[0], "SUB watched.it 2\r\nSUB other 3\r\nUNSUB 2\r\n");
    settle(f->pipes[0]);
    settle_shards(f);
    assert_int_equal(atomic_load(&seen_count), 3); /* the first one is still there */
    say(f->pipes[0], "UNSUB 1\r\n");
    settle(f->pipes[0]);
    settle_shards(f);
    assert_int_equal(atomic_load(&seen_count), 6);
    say(f->pipes[0], "SUB watched.it group 4\r\n");
    settle(f->pipes[0]);
    settle_shards(f);
    assert_int_equal(atomic_load(&seen_count), 9);
    on = false;
    for (uint32_t i = 0; i < f->config.shards; i++) {
        assert_int_equal(rb_node_ask(f->node, i, watch_here, &on, NULL, WAIT_NS), RB_OK);
    }
    say(f->pipes[0], "UNSUB 4\r\n");
    settle(f->pipes[0]);
    settle_shards(f);
    assert_int_equal(atomic_load(&seen_count), 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shown_on_every_shard, setup, teardown),
        cmocka_unit_test_setup_teardown(long_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(queue_members, setup, teardown),
        cmocka_unit_test_setup_teardown(across_imports, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_that_nobody_wants, setup, teardown),
        cmocka_unit_test_setup_teardown(interest_is_watched, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
