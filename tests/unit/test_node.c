/* What an administrator may do to one client, and questions to a node that stops. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "server/node.h"
#include "server/snapshot.h"
#include "transport/pipe/pipe.h"

#define WAIT_NS INT64_C(10000000000)

struct fixture {
    struct rb_config config;
    struct rb_log log;
    struct rb_node *node;
    struct rb_pipe *pipe;
};

static void say(struct rb_pipe *pipe, const char *text)
{
    assert_int_equal(rb_pipe_write(pipe, text, strlen(text), WAIT_NS, NULL), RB_OK);
}

/* True when `text` came, false when the server ended the connection first. */
static bool hears(struct rb_pipe *pipe, const char *text)
{
    char buf[8192];
    size_t len = 0, wanted = strlen(text), got;
    while (len < sizeof(buf) && rb_pipe_read(pipe, buf + len, 1, WAIT_NS, &got) == RB_OK &&
           got > 0) {
        len++;
        if (len >= wanted && memcmp(buf + len - wanted, text, wanted) == 0) {
            return true;
        }
    }
    return false;
}

static int setup(void **state)
{
    static struct fixture f;
    char error[RB_NODE_ERROR_MAX];
    f = (struct fixture){ .log = { .fd = -1 } };
    rb_config_defaults(&f.config);
    assert_int_equal(rb_config_seal(&f.config, error), RB_OK);
    (void)snprintf(f.config.host, sizeof(f.config.host), "127.0.0.1");
    f.config.port = -1;
    f.config.shards = 3;
    struct rb_node_options options = { .config = &f.config, .log = &f.log, .in_process = true };
    assert_int_equal(rb_node_start(&options, &f.node, error), RB_OK);
    assert_int_equal(rb_node_connect(f.node, &f.pipe), RB_OK);
    assert_true(hears(f.pipe, " \r\n"));
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rb_pipe_close(f->pipe);
    rb_node_stop(f->node);
    rb_config_deinit(&f->config);
    return 0;
}

static void kick(void **state)
{
    struct fixture *f = *state;
    char error[RB_NODE_ERROR_MAX];
    assert_int_equal(rb_node_kick(f->node, 77, error), RB_ERR_INVALID);
    assert_string_equal(error, "no such client or leafnode id");
    assert_int_equal(rb_node_kick(f->node, 1, error), RB_OK);
    assert_false(hears(f->pipe, "-ERR"));
    assert_int_equal(rb_node_kick(f->node, 1, error), RB_ERR_INVALID); /* gone */
}

static void send_away(void **state)
{
    struct fixture *f = *state;
    char error[RB_NODE_ERROR_MAX];
    assert_int_equal(rb_node_send_away(f->node, 77, error), RB_ERR_INVALID);
    assert_string_equal(error, "no such client id");
    assert_int_equal(rb_node_send_away(f->node, 1, error), RB_ERR_INVALID); /* no CONNECT yet */
    assert_non_null(strstr(error, "does not support Lame Duck Mode"));
    say(f->pipe, "CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n");
    assert_true(hears(f->pipe, "PONG\r\n"));
    assert_int_equal(rb_node_send_away(f->node, 1, error), RB_OK);
    assert_true(hears(f->pipe, "\"ldm\":true"));
    say(f->pipe, "PING\r\n"); /* only told: it may go when it likes */
    assert_true(hears(f->pipe, "PONG\r\n"));
}

static void count(void *shard, void *arg)
{
    (*(int *)arg)++;
}

/* When lame duck mode has ended it, nothing reaches the shards any more, but their numbers are there. */
static void ended(void **state)
{
    struct fixture *f = *state;
    char error[RB_NODE_ERROR_MAX];
    int calls = 0;
    struct rb_pipe *pipe;
    assert_int_equal(rb_node_ask(f->node, 1, count, &calls, NULL, WAIT_NS), RB_OK);
    assert_int_equal(calls, 1);
    assert_true(rb_node_accepting(f->node));
    assert_int_equal(rb_node_kick(f->node, 1, error), RB_OK);
    assert_false(hears(f->pipe, "-ERR"));
    for (struct rb_node_stats stats = { .conns = 1 }; stats.conns > 0;) {
        rb_node_stats(f->node, &stats);
    }
    assert_int_equal(rb_node_wait(f->node, 0), RB_ERR_TIMEOUT);
    assert_true(rb_node_lame_duck(f->node)); /* nobody is there: it ends at once */
    assert_int_equal(rb_node_wait(f->node, WAIT_NS), RB_OK);
    assert_true(rb_node_ended(f->node));
    assert_false(rb_node_accepting(f->node));
    assert_int_equal(rb_node_ask(f->node, 1, count, &calls, NULL, WAIT_NS), RB_ERR_CANCELED);
    assert_int_equal(rb_node_connect(f->node, &pipe), RB_ERR_CANCELED);
    assert_int_equal(rb_node_reload(f->node, &f->config, error), RB_ERR_CANCELED);
    assert_false(rb_node_lame_duck(f->node));
    struct rb_node_stats stats;
    rb_node_stats(f->node, &stats);
    assert_int_equal(stats.conns_total, 1);
}

/* A node that is made and never opened. */
static void never_opened(void **state)
{
    struct fixture *f = *state;
    char error[RB_NODE_ERROR_MAX];
    struct rb_node *node;
    struct rb_node_options options = { .config = &f->config, .log = &f->log };
    assert_int_equal(rb_node_create(&options, &node, error), RB_OK);
    assert_int_equal(rb_node_id(node)[0], 'N');
    rb_node_stop(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kick, setup, teardown),
        cmocka_unit_test_setup_teardown(send_away, setup, teardown),
        cmocka_unit_test_setup_teardown(ended, setup, teardown),
        cmocka_unit_test_setup_teardown(never_opened, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
