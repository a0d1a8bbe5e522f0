/* Retention with consumers, through the API: what an ack, a deletion or an update removes, and what stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js_rig.h"

static int setup(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 5);
    js_rig_open(rig);
    js_rig_listen(rig, "pull.*");
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

static void api(struct js_rig *rig, const char *subject, const char *body)
{
    const char *got = js_rig_request(rig, subject, NULL, body);
    if (got == NULL || strstr(got, "\"error\"") != NULL) {
        fail_msg("%s %s: %s", subject, body, got == NULL ? "nothing" : got);
    }
}

static void consumer(struct js_rig *rig, const char *stream, const char *name, const char *filter)
{
    char subject[200], body[400];
    (void)snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.CREATE.%s.%s", stream, name);
    (void)snprintf(body, sizeof(body),
                   "{\"stream_name\":\"%s\",\"config\":{\"durable_name\":\"%s\",\"name\":\"%s\","
                   "\"ack_policy\":\"explicit\",\"filter_subject\":\"%s\"}}",
                   stream, name, name, filter);
    api(rig, subject, body);
}

/* Pulls `count` and acks them all; how many came. */
static uint32_t pull(struct js_rig *rig, const char *stream, const char *name, uint32_t count)
{
    char subject[200], to[32], body[64];
    static int number;
    (void)snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.MSG.NEXT.%s.%s", stream, name);
    (void)snprintf(to, sizeof(to), "pull.%d", ++number);
    (void)snprintf(body, sizeof(body), "{\"batch\":%u,\"no_wait\":true}", count);
    js_rig_publish(rig, subject, to, NULL, body);
    js_rig_settle(rig);
    uint32_t acked = 0;
    for (uint32_t i = 0; i < js_rig_heard(rig, to); i++) {
        const struct js_rig_message *message = js_rig_nth(rig, to, i);
        if (strncmp(message->reply, "$JS.ACK.", 8) == 0) {
            js_rig_publish(rig, message->reply, NULL, NULL, "+ACK");
            acked++;
        }
    }
    js_rig_settle(rig);
    return acked;
}

static uint64_t messages(struct js_rig *rig, const char *name)
{
    struct rb_msgstore_state state;
    rb_msgstore_state(js_rig_stream(rig, name)->store, &state);
    return state.messages;
}

static void publish(struct js_rig *rig, const char *subject, int count)
{
    for (int i = 0; i < count; i++) {
        js_rig_publish(rig, subject, NULL, NULL, "x");
    }
    js_rig_settle(rig);
}

static void work_queue(void **state)
{
    struct js_rig *rig = *state;
    api(rig, "$JS.API.STREAM.CREATE.W",
        "{\"name\":\"W\",\"subjects\":[\"w.>\"],\"retention\":\"workqueue\"}");
    publish(rig, "w.a", 5);
    assert_int_equal(messages(rig, "W"), 5); /* kept without any consumer */
    consumer(rig, "W", "one", "w.a");
    assert_int_equal(pull(rig, "W", "one", 2), 2);
    assert_int_equal(messages(rig, "W"), 3);
    js_rig_cut(rig, true);
    js_rig_open(rig);
    assert_int_equal(messages(rig, "W"), 3);
    assert_int_equal(pull(rig, "W", "one", 10), 3);
    assert_int_equal(messages(rig, "W"), 0);
}

static void interest(void **state)
{
    struct js_rig *rig = *state;
    api(rig, "$JS.API.STREAM.CREATE.I",
        "{\"name\":\"I\",\"subjects\":[\"i.>\"],\"retention\":\"interest\"}");
    consumer(rig, "I", "all", "i.>");
    consumer(rig, "I", "some", "i.a");
    publish(rig, "i.a", 2);
    publish(rig, "i.b", 1);
    assert_int_equal(messages(rig, "I"), 3);
    assert_int_equal(pull(rig, "I", "all", 10), 3);
    assert_int_equal(messages(rig, "I"), 2); /* "some" still needs two */
    assert_int_equal(pull(rig, "I", "some", 1), 1);
    assert_int_equal(messages(rig, "I"), 1);
    /* Nobody is left who needs it. */
    api(rig, "$JS.API.CONSUMER.DELETE.I.some", "");
    assert_int_equal(messages(rig, "I"), 0);
    publish(rig, "i.c", 1);
    assert_int_equal(messages(rig, "I"), 1);
    js_rig_close(rig);
    js_rig_open(rig);
    assert_int_equal(messages(rig, "I"), 1);
    api(rig, "$JS.API.CONSUMER.DELETE.I.all", "");
    assert_int_equal(messages(rig, "I"), 0);
}

/* Another filter: what only the old one wanted goes, but for what waits for its ack. */
static void interest_of_another_filter(void **state)
{
    struct js_rig *rig = *state;
    api(rig, "$JS.API.STREAM.CREATE.I",
        "{\"name\":\"I\",\"subjects\":[\"i.>\"],\"retention\":\"interest\"}");
    consumer(rig, "I", "one", "i.a");
    consumer(rig, "I", "other", "i.b");
    publish(rig, "i.a", 3);
    publish(rig, "i.b", 2);
    js_rig_listen(rig, "waits");
    js_rig_publish(rig, "$JS.API.CONSUMER.MSG.NEXT.I.one", "waits", NULL, "1");
    js_rig_settle(rig);
    assert_int_equal(js_rig_heard(rig, "waits"), 1);
    consumer(rig, "I", "one", "i.c");
    assert_int_equal(messages(rig, "I"), 3);
    char ack[128];
    (void)snprintf(ack, sizeof(ack), "%s", js_rig_nth(rig, "waits", 0)->reply);
    js_rig_close(rig);
    js_rig_open(rig);
    assert_int_equal(messages(rig, "I"), 3); /* a restart comes to the same end */
    assert_non_null(js_rig_request(rig, ack, NULL, "+ACK"));
    assert_int_equal(messages(rig, "I"), 2);
    publish(rig, "i.c", 1);
    assert_int_equal(messages(rig, "I"), 3);
}

static void limits_become_interest(void **state)
{
    struct js_rig *rig = *state;
    api(rig, "$JS.API.STREAM.CREATE.L", "{\"name\":\"L\",\"subjects\":[\"l.>\"]}");
    consumer(rig, "L", "a", "l.a");
    publish(rig, "l.a", 3);
    publish(rig, "l.b", 3);
    assert_int_equal(pull(rig, "L", "a", 1), 1);
    assert_int_equal(messages(rig, "L"), 6);
    api(rig, "$JS.API.STREAM.UPDATE.L",
        "{\"name\":\"L\",\"subjects\":[\"l.>\"],\"retention\":\"interest\"}");
    assert_int_equal(messages(rig, "L"), 2);
}

/* Consumers hear of what limits and purges take. */
static void consumers_are_told(void **state)
{
    struct js_rig *rig = *state;
    api(rig, "$JS.API.STREAM.CREATE.T", "{\"name\":\"T\",\"subjects\":[\"t.>\"],\"max_msgs\":4}");
    consumer(rig, "T", "c", "t.>");
    publish(rig, "t.a", 10);
    const char *info = js_rig_request(rig, "$JS.API.CONSUMER.INFO.T.c", NULL, "");
    assert_non_null(info);
    assert_non_null(strstr(info, "\"num_pending\":4"));
    api(rig, "$JS.API.STREAM.PURGE.T", "{\"keep\":1}");
    info = js_rig_request(rig, "$JS.API.CONSUMER.INFO.T.c", NULL, "");
    assert_non_null(strstr(info, "\"num_pending\":1"));
    assert_int_equal(pull(rig, "T", "c", 10), 1);
    const char *got = js_rig_request(rig, "$JS.API.STREAM.UPDATE.T", NULL,
                                     "{\"name\":\"T\",\"subjects\":[\"t.>\"],\"max_msgs\":4,"
                                     "\"consumer_limits\":{\"max_ack_pending\":5}}");
    assert_non_null(strstr(got, "change to limits violates consumers: c"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(work_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(interest, setup, teardown),
        cmocka_unit_test_setup_teardown(interest_of_another_filter, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_become_interest, setup, teardown),
        cmocka_unit_test_setup_teardown(consumers_are_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
