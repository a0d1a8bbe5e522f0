/* Fast batches: what their publisher is told, and that nothing is stored behind a gap. The bytes were taken from nats-server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js_rig.h"

#define CREATE "{\"name\":\"F\",\"subjects\":[\"f.>\"],\"allow_batched\":true,\"max_msg_size\":900}"
#define ERR(status, code, text)                                                                    \
    "{\"error\":{\"code\":" #status ",\"err_code\":" #code ",\"description\":\"" text              \
    "\"},\"stream\":\"F\",\"seq\":0}"
#define UNKNOWN ERR(400, 10208, "batch publish ID unknown")
#define WRONG_STREAM                                                                               \
    "{\"code\":400,\"err_code\":10060,\"description\":\"expected stream does not match\"}"
#define BAD "Nats-Expected-Stream: other\r\n"
#define SECOND_NS UINT64_C(1000000000)

enum operation { FIRST, NEXT, LAST, END, PING };

static int setup(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 7);
    js_rig_open(rig);
    js_rig_listen(rig, "in.>");
    assert_non_null(js_rig_create(rig, CREATE, NULL));
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct js_rig *rig = *state;
    js_rig_close(rig);
    js_rig_deinit(rig);
    free(rig);
    return 0;
}

/* Sends one message of a batch `tag`: "<id>.<flow>.<mode>". Not settled. */
static void send(struct js_rig *rig, const char *tag, unsigned sequence, enum operation operation,
                 const char *headers)
{
    char reply[256];
    (void)snprintf(reply, sizeof(reply), "in.%s.%u.%u.$FI", tag, sequence, (unsigned)operation);
    js_rig_publish(rig, "f.a", reply, headers, "x");
}

/* What was said since the last time, one answer after the other with a line's end behind each. */
static const char *said(struct js_rig *rig)
{
    static char text[8192];
    size_t len = 0;
    js_rig_settle(rig);
    text[0] = '\0';
    for (uint32_t i = 0; i < rig->message_count; i++) {
        const struct js_rig_message *message = js_rig_nth(rig, NULL, i);
        assert_non_null(message);
        if (strncmp(message->to, "in.", 3) == 0) {
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s\n", message->body);
            assert_true(len < sizeof(text));
        }
    }
    js_rig_forget(rig);
    return text;
}

static const char *ask(struct js_rig *rig, const char *tag, unsigned sequence,
                       enum operation operation, const char *headers)
{
    send(rig, tag, sequence, operation, headers);
    return said(rig);
}

static uint64_t messages(struct js_rig *rig)
{
    struct rb_msgstore_state store;
    rb_msgstore_state(js_rig_stream(rig, "F")->store, &store);
    return store.messages;
}

static void both_ends(void **state)
{
    struct js_rig *rig = *state;
    assert_string_equal(ask(rig, "a.2.fail", 1, FIRST, NULL),
                        "{\"type\":\"ack\",\"seq\":0,\"msgs\":2}\n");
    assert_int_equal(messages(rig), 1); /* visible before the batch ends */
    assert_string_equal(ask(rig, "a.2.fail", 2, NEXT, NULL),
                        "{\"type\":\"ack\",\"seq\":2,\"msgs\":2}\n");
    assert_string_equal(ask(rig, "a.2.fail", 3, LAST, NULL),
                        "{\"stream\":\"F\",\"seq\":3,\"batch\":\"a\",\"count\":3}\n");
    assert_string_equal(ask(rig, "a.2.fail", 4, NEXT, NULL), UNKNOWN "\n");
    assert_string_equal(ask(rig, "b.9.ok", 1, FIRST, NULL),
                        "{\"type\":\"ack\",\"seq\":0,\"msgs\":9}\n");
    assert_string_equal(ask(rig, "b.9.ok", 2, END, NULL),
                        "{\"stream\":\"F\",\"seq\":4,\"batch\":\"b\",\"count\":1}\n");
    assert_int_equal(messages(rig), 4);
}

/* Until the log has it, nobody is told that a message is stored; the end waits, too. */
static void told_when_durable(void **state)
{
    struct js_rig *rig = *state;
    send(rig, "a.1.fail", 1, FIRST, NULL);
    send(rig, "a.1.fail", 2, NEXT, NULL);
    send(rig, "a.1.fail", 3, END, NULL);
    assert_int_equal(rig->message_count, 1); /* the settings of the flow */
    assert_int_equal(messages(rig), 0);
    js_rig_settle(rig);
    const struct js_rig_message *last = js_rig_nth(rig, NULL, rig->message_count - 1);
    assert_string_equal(last->to, "in.a.1.fail.3.3.$FI");
    assert_string_equal(last->body, "{\"stream\":\"F\",\"seq\":2,\"batch\":\"a\",\"count\":2}");
}

static void gaps(void **state)
{
    struct js_rig *rig = *state;
    send(rig, "a.9.fail", 1, FIRST, NULL);
    (void)said(rig);
    assert_string_equal(ask(rig, "a.9.fail", 4, NEXT, NULL),
                        "{\"type\":\"gap\",\"last_seq\":2,\"seq\":4}\n"
                        "{\"stream\":\"F\",\"seq\":1,\"batch\":\"a\",\"count\":1}\n");
    assert_int_equal(messages(rig), 1);
    send(rig, "b.9.ok", 1, FIRST, NULL);
    (void)said(rig);
    assert_string_equal(ask(rig, "b.9.ok", 4, NEXT, NULL),
                        "{\"type\":\"gap\",\"last_seq\":2,\"seq\":4}\n");
    assert_string_equal(ask(rig, "b.9.ok", 4, NEXT, NULL), /* back is never good */
                        "{\"type\":\"gap\",\"last_seq\":5,\"seq\":4}\n"
                        "{\"stream\":\"F\",\"seq\":3,\"batch\":\"b\",\"count\":4}\n");
    assert_int_equal(messages(rig), 3);
    /* A gap while the messages before it are on their way: the end comes once they are stored. */
    send(rig, "c.9.fail", 1, FIRST, NULL);
    send(rig, "c.9.fail", 2, NEXT, NULL);
    assert_string_equal(ask(rig, "c.9.fail", 4, NEXT, NULL),
                        "{\"type\":\"ack\",\"seq\":0,\"msgs\":9}\n"
                        "{\"type\":\"gap\",\"last_seq\":3,\"seq\":4}\n"
                        "{\"stream\":\"F\",\"seq\":5,\"batch\":\"c\",\"count\":2}\n");
}

/* All at once: what is behind the refused message is in the log already, and must not be stored. */
static void nothing_behind_an_error(void **state)
{
    struct js_rig *rig = *state;
    send(rig, "a.100.fail", 1, FIRST, NULL);
    send(rig, "a.100.fail", 2, NEXT, BAD);
    send(rig, "a.100.fail", 3, NEXT, NULL);
    send(rig, "a.100.fail", 4, NEXT, NULL);
    assert_string_equal(ask(rig, "a.100.fail", 5, END, NULL),
                        "{\"type\":\"ack\",\"seq\":0,\"msgs\":100}\n"
                        "{\"type\":\"err\",\"seq\":2,\"error\":" WRONG_STREAM "}\n"
                        "{\"stream\":\"F\",\"seq\":1,\"batch\":\"a\",\"count\":1}\n" UNKNOWN
                        "\n" UNKNOWN "\n" UNKNOWN "\n");
    assert_int_equal(messages(rig), 1);
    send(rig, "b.100.ok", 1, FIRST, BAD);
    send(rig, "b.100.ok", 2, NEXT, NULL);
    assert_string_equal(ask(rig, "b.100.ok", 3, END, NULL),
                        "{\"type\":\"ack\",\"seq\":0,\"msgs\":100}\n"
                        "{\"type\":\"err\",\"seq\":1,\"error\":" WRONG_STREAM "}\n"
                        "{\"stream\":\"F\",\"seq\":2,\"batch\":\"b\",\"count\":2}\n");
    assert_int_equal(messages(rig), 2);
    /* Unlike nats-server, which counts such a message and goes on. */
    send(rig, "c.100.fail", 1, FIRST, "Nats-Msg-Id: one\r\n");
    send(rig, "c.100.fail", 2, NEXT, "Nats-Expected-Last-Msg-Id: one\r\n");
    assert_string_equal(ask(rig, "c.100.fail", 3, NEXT, "Nats-Expected-Last-Msg-Id: two\r\n"),
                        "{\"type\":\"ack\",\"seq\":0,\"msgs\":100}\n"
                        "{\"type\":\"err\",\"seq\":3,\"error\":{\"code\":400,\"err_code\":10070,"
                        "\"description\":\"wrong last msg ID: \"}}\n"
                        "{\"stream\":\"F\",\"seq\":4,\"batch\":\"c\",\"count\":2}\n");
    /* After a restart the same commands come to the same end. */
    js_rig_cut(rig, false);
    js_rig_open(rig);
    assert_int_equal(messages(rig), 4);
}

/* A checkpoint between the refused message and what depends on it: which was refused is in it. */
static void refused_in_checkpoint(void **state)
{
    struct js_rig *rig = *state;
    send(rig, "a.9.fail", 1, FIRST, NULL);
    send(rig, "a.9.fail", 2, NEXT, BAD);
    (void)said(rig);
    js_rig_close(rig); /* makes one */
    js_rig_open(rig);
    struct rb_js_stream *stream = js_rig_stream(rig, "F");
    uint64_t refused = stream->group.applied;
    struct rb_command command = { .type = RB_COMMAND_PUBLISH,
                                  .flags = RB_COMMAND_FAST,
                                  .seq = 1,
                                  .subject = RB_S("f.a"),
                                  .text = RB_S("late") };
    for (uint64_t before = 1; before <= refused; before++) {
        uint64_t stored = messages(rig);
        command.value = before;
        assert_int_equal(rb_js_stream_propose(stream, &command, NULL), RB_OK);
        js_rig_settle(rig);
        if (messages(rig) == stored) {
            return; /* that one was refused, so this one is */
        }
    }
    fail();
}

static void duplicates(void **state)
{
    struct js_rig *rig = *state;
    assert_string_equal(ask(rig, "a.1.fail", 1, LAST, "Nats-Msg-Id: n\r\n"),
                        "{\"stream\":\"F\",\"seq\":1,\"batch\":\"a\",\"count\":1}\n");
    assert_string_equal(
        ask(rig, "b.1.fail", 1, LAST, "Nats-Msg-Id: n\r\n"),
        "{\"type\":\"ack\",\"seq\":1,\"msgs\":1}\n"
        "{\"stream\":\"F\",\"seq\":1,\"duplicate\": true,\"batch\":\"b\",\"count\":1}\n");
    send(rig, "c.9.fail", 1, FIRST, NULL);
    send(rig, "c.9.fail", 2, NEXT, "Nats-Msg-Id: n\r\n");
    send(rig, "c.9.fail", 3, NEXT, "Nats-Msg-Id: n\r\n");
    assert_string_equal(ask(rig, "c.9.fail", 4, END, NULL),
                        "{\"type\":\"ack\",\"seq\":0,\"msgs\":9}\n"
                        "{\"stream\":\"F\",\"seq\":2,\"batch\":\"c\",\"count\":3}\n");
    assert_int_equal(messages(rig), 2);
}

static void pings(void **state)
{
    struct js_rig *rig = *state;
    assert_string_equal(ask(rig, "a.9.fail", 1, PING, NULL), UNKNOWN "\n");
    send(rig, "a.9.ok", 1, FIRST, NULL);
    (void)said(rig);
    assert_string_equal(ask(rig, "a.9.ok", 1, PING, NULL),
                        "{\"type\":\"ack\",\"seq\":0,\"msgs\":9}\n");
    assert_string_equal(ask(rig, "a.9.ok", 12, PING, NULL),
                        "{\"type\":\"gap\",\"last_seq\":2,\"seq\":13}\n"
                        "{\"type\":\"ack\",\"seq\":9,\"msgs\":9}\n");
}

static void limits_and_silence(void **state)
{
    struct js_rig *rig = *state;
    char tag[32];
    for (unsigned i = 0; i < 1000; i++) {
        (void)snprintf(tag, sizeof(tag), "n%u.9.fail", i);
        send(rig, tag, 1, FIRST, NULL);
        js_rig_settle(rig);
        js_rig_forget(rig);
    }
    assert_string_equal(ask(rig, "more.9.fail", 1, FIRST, NULL),
                        ERR(429, 10211, "batch publish too many inflight") "\n");
    js_rig_advance(rig, 9 * SECOND_NS);
    assert_string_equal(ask(rig, "n0.9.fail", 1, PING, NULL),
                        "{\"type\":\"ack\",\"seq\":0,\"msgs\":9}\n");
    js_rig_advance(rig, 5 * SECOND_NS);
    assert_string_equal(ask(rig, "n1.9.fail", 2, NEXT, NULL), UNKNOWN "\n");
    assert_int_equal(atomic_load(&rig->shared.fast_batches), 1);
    assert_string_equal(ask(rig, "n0.9.fail", 2, LAST, NULL),
                        "{\"stream\":\"F\",\"seq\":1001,\"batch\":\"n0\",\"count\":2}\n");
    assert_int_equal(atomic_load(&rig->shared.fast_batches), 0);
}

static void bad_subjects(void **state)
{
    struct js_rig *rig = *state;
    static const char *const replies[] = {
        "in.a.9.fail.1.5.$FI",    "in.a.9.fail.1.x.$FI",
        "in.a.9.fail.2.0.$FI",    "in.a.9.fail.1.1.$FI",
        "in.a.9.fail.1.3.$FI",    "in.a.9.fail.0.2.$FI",
        "in.a.9.perhaps.1.0.$FI", "in.a.9.fail.-1.0.$FI",
        "in.fail.1.0.$FI",        "in.$FI",
    };
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        js_rig_publish(rig, "f.a", replies[i], NULL, "x");
        assert_string_equal(said(rig), ERR(400, 10206, "batch publish pattern is invalid") "\n");
    }
    char tag[128];
    memset(tag, 'i', 65);
    strcpy(tag + 65, ".9.fail");
    assert_string_equal(ask(rig, tag, 1, FIRST, NULL),
                        ERR(400, 10207, "batch publish ID is invalid") "\n");
    assert_string_equal(ask(rig, tag + 1, 1, FIRST, NULL),
                        "{\"type\":\"ack\",\"seq\":0,\"msgs\":9}\n");
    assert_int_equal(messages(rig), 1);
}

/* Whatever is open or on its way when the server goes: nothing is lost that was told, nothing stays. */
static void gone_with_the_server(void **state)
{
    struct js_rig *rig = *state;
    send(rig, "a.1.fail", 1, FIRST, NULL);
    send(rig, "a.1.fail", 2, LAST, NULL);
    js_rig_close(rig);
    const struct js_rig_message *last = js_rig_nth(rig, NULL, rig->message_count - 1);
    assert_string_equal(last->body, "{\"stream\":\"F\",\"seq\":2,\"batch\":\"a\",\"count\":2}");
    js_rig_open(rig);
    js_rig_forget(rig);
    assert_int_equal(messages(rig), 2);
    send(rig, "b.1.fail", 1, FIRST, NULL);
    js_rig_turn(rig);
    js_rig_cut(rig, true);
    js_rig_open(rig);
    (void)said(rig);
    assert_string_equal(ask(rig, "b.1.fail", 2, NEXT, NULL), UNKNOWN "\n");
    send(rig, "c.1.fail", 1, FIRST, NULL);
    assert_true(js_rig_delete(rig, "F", NULL));
    assert_int_equal(atomic_load(&rig->shared.fast_batches), 0);
}

static void switched_off(void **state)
{
    struct js_rig *rig = *state;
    send(rig, "a.1.fail", 1, FIRST, NULL);
    (void)said(rig);
    assert_true(
        js_rig_update(rig, "{\"name\":\"F\",\"subjects\":[\"f.>\"],\"max_msg_size\":900}", NULL));
    assert_int_equal(atomic_load(&rig->shared.fast_batches), 0);
    assert_string_equal(ask(rig, "a.1.fail", 2, NEXT, NULL),
                        ERR(400, 10205, "batch publish is disabled") "\n");
    assert_int_equal(messages(rig), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(told_when_durable, setup, teardown),
        cmocka_unit_test_setup_teardown(gaps, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_behind_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_in_checkpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(duplicates, setup, teardown),
        cmocka_unit_test_setup_teardown(pings, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_and_silence, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_subjects, setup, teardown),
        cmocka_unit_test_setup_teardown(gone_with_the_server, setup, teardown),
        cmocka_unit_test_setup_teardown(switched_off, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
