/* Pull requests: every status with its headers, serving in turn, heartbeats, groups and pins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "consumer_rig.h"

static int setup(void **state)
{
    *state = rig_create();
    rig_listen(*state, "r.*", NULL);
    return 0;
}

static int teardown(void **state)
{
    rig_destroy(*state);
    return 0;
}

static struct rb_js_consumer *pull_consumer(struct rig *rig, const char *more)
{
    char config[1024];
    (void)snprintf(config, sizeof(config),
                   "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"%s%s}",
                   more[0] == '\0' ? "" : ",", more);
    struct rb_js_consumer *consumer = rig_consumer(rig, config);
    if (consumer == NULL) {
        fail_msg("%s", rig->error.text);
    }
    return consumer;
}

static void publish_many(struct rig *rig, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        (void)rig_publish(rig, "s.a", "a message");
    }
    rig_turn(rig);
}

static void requests_are_refused(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer = pull_consumer(
        rig, "\"max_batch\":10,\"max_expires\":1500000000,\"max_bytes\":1000,\"max_waiting\":1");
    const struct {
        const char *headers, *body, *line;
    } cases[] = {
        { "NATS/1.0\r\nNats-Required-Api-Level: 99\r\n\r\n", "", "412 Required Api Level" },
        { "NATS/1.0\r\nNats-Required-Api-Level: x\r\n\r\n", "", "412 Required Api Level" },
        { "", "{\"batch\":", "400 Bad Request - unexpected end of JSON input" },
        { "", "{\"idle_heartbeat\":600000000,\"expires\":1000000000}",
          "400 Bad Request - heartbeat value too large" },
        { "", "{\"idle_heartbeat\":600000000}", "400 Bad Request - heartbeat value too large" },
        { "", "11", "409 Exceeded MaxRequestBatch of 10" },
        { "", "{\"batch\":11}", "409 Exceeded MaxRequestBatch of 10" },
        { "", "{\"expires\":2000000000}", "409 Exceeded MaxRequestExpires of 1.5s" },
        { "", "{\"max_bytes\":1001}", "409 Exceeded MaxRequestMaxBytes of 1000" },
        { "", "{\"no_wait\":true}", "404 No Messages" },
        { "", "{\"priority\":10}", "400 Bad Request - Priority must be between 0 and 9" },
        { "", "{\"priority\":-1}", "400 Bad Request - Priority must be between 0 and 9" },
        { "", "{\"min_pending\":1}", "400 Bad Request - Not a Overflow Priority consumer" },
        { "", "{\"id\":\"x\"}", "400 Bad Request - Not a Pinned Client Priority consumer" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rig_request(rig, consumer, "r.1", cases[i].headers, cases[i].body);
        rig_expect_status(rig, "r.1", cases[i].line, "\r\n");
    }
    rig_pull(rig, consumer, "r.1", ""); /* the one that may wait */
    rig_pull(rig, consumer, "r.2", "");
    rig_expect_status(rig, "r.2", "409 Exceeded MaxWaiting", "\r\n");
    rig_pull(rig, consumer, "r.2", "{\"idle_heartbeat\":500000000,\"expires\":1000000000}");
    rig_expect_nothing(rig); /* it would come again by itself */
    publish_many(rig, 1);
    (void)rig_expect_message(rig, "r.1", 1, 1);
}

static void push_consumers_are_not_asked(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"deliver_subject\":\"d\"}");
    rig_pull(rig, consumer, "r.1", "");
    rig_expect_status(rig, "r.1", "409 Consumer is push based", "\r\n");
}

static void requests_expire(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer = pull_consumer(rig, "");
    rig_pull(rig, consumer, "r.1", "{\"batch\":5,\"expires\":1000000000,\"max_bytes\":500}");
    publish_many(rig, 1);
    const struct rig_sent *sent = rig_expect_message(rig, "r.1", 1, 1);
    uint64_t bytes = strlen(sent->subject) + strlen(sent->reply) + sent->len;
    char fields[128];
    rig_pass(rig, 900 * RIG_MS);
    rig_expect_nothing(rig);
    rig_pass(rig, 200 * RIG_MS);
    (void)snprintf(fields, sizeof(fields),
                   "Nats-Pending-Messages: 4\r\nNats-Pending-Bytes: %d\r\n\r\n", 500 - (int)bytes);
    rig_expect_status(rig, "r.1", "408 Request Timeout", fields);
    rig_expect_nothing(rig);
    assert_int_equal(consumer->inside->waiting, 0);
}

static void bytes_are_a_limit(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer = pull_consumer(rig, "\"ack_wait\":1000000000");
    publish_many(rig, 4);
    rig_pull(rig, consumer, "r.1", "{\"batch\":5,\"max_bytes\":20}");
    rig_expect_status(rig, "r.1", "409 Message Size Exceeds MaxBytes",
                      "Nats-Pending-Messages: 5\r\nNats-Pending-Bytes: 20\r\n\r\n");
    rig_pull(rig, consumer, "r.1", "1");
    const struct rig_sent *sent = rig_expect_message(rig, "r.1", 1, 1);
    uint64_t bytes = strlen(sent->subject) + strlen(sent->reply) + sent->len;
    char body[64];
    /* exactly used up: no status */
    (void)snprintf(body, sizeof(body), "{\"batch\":5,\"max_bytes\":%d}", (int)bytes * 2);
    rig_pull(rig, consumer, "r.2", body);
    (void)rig_expect_message(rig, "r.2", 2, 1);
    (void)rig_expect_message(rig, "r.2", 3, 1);
    rig_expect_nothing(rig);
    assert_int_equal(consumer->inside->waiting, 0);
    (void)snprintf(body, sizeof(body), "{\"batch\":1,\"max_bytes\":%d}", (int)bytes + 7);
    rig_pull(rig, consumer, "r.3", body);
    (void)rig_expect_message(rig, "r.3", 4, 1);
    rig_expect_status(rig, "r.3", "409 Batch Completed",
                      "Nats-Pending-Messages: 0\r\nNats-Pending-Bytes: 7\r\n\r\n");
}

static void no_wait_ends_with_the_messages(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer = pull_consumer(rig, "");
    publish_many(rig, 2);
    rig_pull(rig, consumer, "r.1", "{\"batch\":5,\"no_wait\":true}");
    (void)rig_expect_message(rig, "r.1", 1, 1);
    (void)rig_expect_message(rig, "r.1", 2, 1);
    rig_expect_status(rig, "r.1", "404 No Messages", "\r\n");
    /* with a time to wait it is a request for what comes first */
    rig_pull(rig, consumer, "r.1", "{\"batch\":5,\"no_wait\":true,\"expires\":1000000000}");
    rig_expect_nothing(rig);
    publish_many(rig, 1);
    (void)rig_expect_message(rig, "r.1", 3, 1);
    rig_expect_status(rig, "r.1", "404 No Messages", "\r\n");
    rig_pull(rig, consumer, "r.1", "{\"batch\":5,\"no_wait\":true,\"expires\":1000000000}");
    rig_pass(rig, 1100 * RIG_MS);
    rig_expect_status(rig, "r.1", "408 Request Timeout",
                      "Nats-Pending-Messages: 5\r\nNats-Pending-Bytes: 0\r\n\r\n");
}

static void others_are_before(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer = pull_consumer(rig, "\"max_ack_pending\":1");
    publish_many(rig, 3);
    rig_pull(rig, consumer, "r.1", "10"); /* gets one, waits for nine */
    (void)rig_expect_message(rig, "r.1", 1, 1);
    rig_pull(rig, consumer, "r.2", "{\"batch\":1,\"no_wait\":true}");
    rig_expect_status(rig, "r.2", "408 Requests Pending", "\r\n");
}

static void requests_take_turns(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer = pull_consumer(rig, "");
    rig_pull(rig, consumer, "r.1", "2");
    rig_pull(rig, consumer, "r.2", "2");
    rig_pull(rig, consumer, "r.3", "1");
    publish_many(rig, 6);
    const char *order[] = { "r.1", "r.2", "r.3", "r.1", "r.2" };
    for (uint64_t i = 0; i < 5; i++) {
        (void)rig_expect_message(rig, order[i], i + 1, 1);
    }
    rig_expect_nothing(rig);
}

static void dead_requests_are_dropped(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer_info info;
    struct rb_js_consumer *consumer = pull_consumer(rig, "\"max_waiting\":3");
    rig_pull(rig, consumer, "gone.1", "5");
    rig_pull(rig, consumer, "gone.2", "5");
    rig_pull(rig, consumer, "r.1", "1");
    publish_many(rig, 1);
    const struct rig_sent *sent = rig_expect_message(rig, "r.1", 1, 1);
    assert_int_equal(sent->consumer_seq, 1);
    assert_int_equal(consumer->inside->waiting, 0);
    for (uint32_t i = 0; i < 3; i++) {
        rig_pull(rig, consumer, "gone.1", "5");
    }
    rig_pull(rig, consumer, "r.1", "1"); /* finds room: the dead are looked for */
    rb_js_consumer_info(consumer, &info);
    assert_int_equal(info.waiting, 1);
    rig_expect_nothing(rig);
}

static void heartbeats_come_in_silence(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer = pull_consumer(rig, "");
    rig_pull(rig, consumer, "r.1",
             "{\"batch\":5,\"expires\":3000000000,\"idle_heartbeat\":1000000000}");
    rig_pass(rig, 700 * RIG_MS);
    publish_many(rig, 1);
    (void)rig_expect_message(rig, "r.1", 1, 1);
    rig_pass(rig, 900 * RIG_MS);
    rig_expect_nothing(rig);
    rig_pass(rig, 200 * RIG_MS);
    rig_expect_status(rig, "r.1", "100 Idle Heartbeat",
                      "Nats-Last-Consumer: 1\r\nNats-Last-Stream: 1\r\n\r\n");
    rig_pass(rig, 1000 * RIG_MS);
    rig_expect_status(rig, "r.1", "100 Idle Heartbeat", NULL);
    rig_pass(rig, 1000 * RIG_MS);
    rig_expect_status(rig, "r.1", "408 Request Timeout",
                      "Nats-Pending-Messages: 4\r\nNats-Pending-Bytes: 0\r\n\r\n");
    rig_pass(rig, 5000 * RIG_MS);
    rig_expect_nothing(rig);
}

static void the_end_is_told(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer = pull_consumer(rig, "");
    rig_pull(rig, consumer, "r.1", "5");
    rig_pull(rig, consumer, "r.2", "{\"expires\":1000000000}");
    rb_js_consumer_close(consumer, RB_S(""));
    rig_expect_status(rig, "r.1", "409 Consumer Deleted", "\r\n");
    rig_expect_status(rig, "r.2", "409 Consumer Deleted", "\r\n");
    consumer = pull_consumer(rig, "");
    rig_pull(rig, consumer, "r.3", "5");
    rb_js_consumer_close(consumer, RB_S("409 Server Shutdown"));
    rig_expect_status(rig, "r.3", "409 Server Shutdown",
                      "Nats-Pending-Messages: 5\r\nNats-Pending-Bytes: 0\r\n\r\n");
}

static void a_paused_one_waits(void **state)
{
    struct rig *rig = *state;
    char why[128];
    rig_listen(rig, "$JS.EVENT.ADVISORY.CONSUMER.PAUSE.>", NULL);
    struct rb_js_consumer *consumer =
        pull_consumer(rig, "\"pause_until\":\"2023-11-14T22:13:30Z\""); /* in ten seconds */
    publish_many(rig, 1);
    rig_pull(rig, consumer, "r.1",
             "{\"batch\":5,\"expires\":20000000000,\"idle_heartbeat\":4000000000}");
    struct rb_js_consumer_info info;
    rb_js_consumer_info(consumer, &info);
    assert_true(info.paused);
    assert_int_equal(info.pause_remaining_ns, 10 * RIG_SECOND);
    struct rb_slice text = rb_js_consumer_why(consumer, why, sizeof(why));
    assert_memory_equal(text.ptr, "paused until 2023-11-14T22:13:30Z", text.len);
    rig_pass(rig, 9 * RIG_SECOND);
    rig_expect_status(rig, "r.1", "100 Idle Heartbeat", NULL);
    rig_expect_status(rig, "r.1", "100 Idle Heartbeat", NULL);
    rig_expect_nothing(rig);
    rig_pass(rig, 1100 * RIG_MS);
    assert_non_null(strstr(rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.PAUSE.S.C"),
                           "\"paused\":false,\"pause_until\":\"2023-11-14T22:13:30Z\""));
    (void)rig_expect_message(rig, "r.1", 1, 1);
}

static void overflow_waits_for_work(void **state)
{
    struct rig *rig = *state;
    char why[128];
    struct rb_js_consumer *consumer =
        pull_consumer(rig, "\"priority_policy\":\"overflow\",\"priority_groups\":[\"A\"]");
    rig_pull(rig, consumer, "r.1", "5");
    rig_expect_status(rig, "r.1", "400 Bad Request - Priority Group missing", "\r\n");
    rig_pull(rig, consumer, "r.1", "{\"group\":\"B\"}");
    rig_expect_status(rig, "r.1", "400 Bad Request - Invalid Priority Group", "\r\n");
    rig_pull(rig, consumer, "r.1", "{\"group\":\"A\",\"min_pending\":3,\"batch\":9}");
    rig_pull(rig, consumer, "r.2", "{\"group\":\"A\",\"min_ack_pending\":2,\"batch\":9}");
    publish_many(rig, 2);
    rig_expect_nothing(rig);
    struct rb_slice text = rb_js_consumer_why(consumer, why, sizeof(why));
    assert_memory_equal(text.ptr, "too little is pending for the pull requests that wait",
                        text.len);
    publish_many(rig, 1);
    (void)rig_expect_message(rig, "r.1", 1, 1);
    rig_expect_nothing(rig); /* 2 pending, 1 unacked */
    publish_many(rig, 1);
    (void)rig_expect_message(rig, "r.1", 2, 1);
    (void)rig_expect_message(rig, "r.2", 3, 1); /* 2 unacked */
    (void)rig_expect_message(rig, "r.2", 4, 1);
}

static void one_client_is_pinned(void **state)
{
    struct rig *rig = *state;
    struct rb_js_error error;
    char pin[23] = { 0 }, body[128];
    rig_listen(rig, "$JS.EVENT.ADVISORY.CONSUMER.PINNED.>", NULL);
    rig_listen(rig, "$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.>", NULL);
    struct rb_js_consumer *consumer =
        pull_consumer(rig, "\"priority_policy\":\"pinned_client\",\"priority_groups\":[\"A\"],"
                           "\"priority_timeout\":2000000000");
    rig_pull(rig, consumer, "r.1", "{\"group\":\"A\",\"batch\":2}");
    rig_pull(rig, consumer, "r.2", "{\"group\":\"A\",\"batch\":2}");
    publish_many(rig, 3);
    const char *advice = rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.PINNED.S.C");
    assert_non_null(
        strstr(advice, "\"account\":\"ACC\",\"stream\":\"S\",\"consumer\":\"C\",\"group\":\"A\","
                       "\"pinned_id\":\""));
    const struct rig_sent *sent = rig_expect_message(rig, "r.1", 1, 1);
    assert_true(strncmp((char *)sent->bytes, "NATS/1.0\r\nNats-Pin-Id: ", 23) == 0);
    memcpy(pin, sent->bytes + 23, 22);
    assert_string_equal((char *)sent->bytes + sent->header_len, "a message");
    (void)rig_expect_message(rig, "r.1", 2, 1);
    rig_expect_nothing(rig); /* the other one waits */
    rig_pull(rig, consumer, "r.3", "{\"group\":\"A\",\"id\":\"wrong\"}");
    rig_expect_status(rig, "r.3", "423 Nats-Pin-Id mismatch", "\r\n");
    (void)snprintf(body, sizeof(body), "{\"group\":\"A\",\"id\":\"%s\",\"batch\":2}", pin);
    rig_pull(rig, consumer, "r.1", body);
    (void)rig_expect_message(rig, "r.1", 3, 1);
    struct rb_js_consumer_info info;
    rb_js_consumer_info(consumer, &info);
    assert_memory_equal(info.pinned_id.ptr, pin, 22);
    assert_false(rb_js_consumer_unpin(consumer, RB_S("B"), &error));
    assert_int_equal(error.code, 10160);
    assert_false(rb_js_consumer_unpin(consumer, RB_S(""), &error));
    assert_int_equal(error.code, 10162);
    assert_true(rb_js_consumer_unpin(consumer, RB_S("A"), &error));
    assert_non_null(strstr(rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.S.C"),
                           "\"reason\":\"admin\""));
    publish_many(rig, 2);
    (void)rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.PINNED.S.C");
    (void)rig_expect_message(rig, "r.2", 4, 1);
    rig_expect_status(rig, "r.1", "423 Nats-Wrong-Pin-Id",
                      "Nats-Pending-Messages: 0\r\nNats-Pending-Bytes: 0\r\n\r\n");
    (void)rig_expect_message(rig, "r.2", 5, 1);
    rig_pass(rig, 2100 * RIG_MS);
    assert_non_null(strstr(rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.S.C"),
                           "\"reason\":\"timeout\""));
}

static void better_priorities_are_served_first(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer =
        pull_consumer(rig, "\"priority_policy\":\"prioritized\",\"priority_groups\":[\"A\"]");
    rig_pull(rig, consumer, "r.9", "{\"group\":\"A\",\"priority\":10}");
    rig_expect_status(rig, "r.9", "400 Bad Request - Priority must be between 0 and 9", "\r\n");
    rig_pull(rig, consumer, "r.1", "{\"group\":\"A\",\"priority\":5,\"batch\":2}");
    rig_pull(rig, consumer, "r.2", "{\"group\":\"A\",\"priority\":1,\"batch\":2}");
    rig_pull(rig, consumer, "r.3", "{\"group\":\"A\",\"priority\":1,\"batch\":1}");
    rig_pull(rig, consumer, "r.4", "{\"group\":\"A\",\"priority\":0,\"batch\":1}");
    publish_many(rig, 6);
    const char *order[] = { "r.4", "r.2", "r.3", "r.2", "r.1", "r.1" };
    for (uint64_t i = 0; i < 6; i++) {
        (void)rig_expect_message(rig, order[i], i + 1, 1);
    }
}

static void the_unused_are_deleted(void **state)
{
    struct rig *rig = *state;
    rig_listen(rig, "$JS.EVENT.ADVISORY.CONSUMER.delete.>", NULL);
    struct rb_js_consumer *consumer = rig_consumer(rig, "{\"name\":\"E\"}");
    assert_int_equal(consumer->config->inactive_threshold, 5 * RIG_SECOND);
    rig_pass(rig, 4 * RIG_SECOND);
    rig_pull(rig, consumer, "r.1", "{\"expires\":1000000000}");
    rig_pass(rig, 5500 * RIG_MS); /* the request was over after one second */
    assert_non_null(rb_js_consumer_find(&rig->stream, RB_S("E")));
    rig_pass(rig, 1 * RIG_SECOND);
    assert_null(rb_js_consumer_find(&rig->stream, RB_S("E")));
    assert_int_equal(rig->released_count, 1);
    assert_true(rig_saw(rig, "$JS.EVENT.ADVISORY.CONSUMER.delete.E", ""));
    (void)pull_consumer(rig, ""); /* durable: stays */
    rig_pass(rig, 60 * RIG_SECOND);
    assert_non_null(rb_js_consumer_find(&rig->stream, RB_S("C")));
}

static void idle_ones_have_no_timer(void **state)
{
    struct rig *rig = *state;
    uint64_t before = rig->budget.used_bytes;
    char config[64];
    for (uint32_t i = 0; i < 100; i++) {
        (void)snprintf(config, sizeof(config),
                       "{\"durable_name\":\"C%03u\",\"ack_policy\":\"explicit\"}", i);
        assert_non_null(rig_consumer(rig, config));
    }
    rig_pass(rig, RIG_SECOND);
    assert_int_equal(rig->js.wheel.count, 0);
    assert_true((rig->budget.used_bytes - before) / 100 < 3000);
}

/* Over when it comes, whether there are messages or not. */
static void a_negative_time_is_over(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer = pull_consumer(rig, "");
    static const char *const bodies[] = { "{\"expires\":-1}",
                                          "{\"expires\":-1000000000000000000,\"no_wait\":true}" };
    for (uint32_t i = 0; i < 4; i++) {
        rig_pull(rig, consumer, "r.1", bodies[i % 2]);
        rig_pass(rig, 2 * RIG_MS);
        rig_expect_status(rig, "r.1", "408 Request Timeout", NULL);
        if (i == 1) {
            publish_many(rig, 1);
        }
    }
    assert_int_equal(consumer->delivered.consumer_seq, 0);
}

/* Who does not wait hears at once that nothing comes. */
static void a_paused_one_has_no_messages(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer =
        pull_consumer(rig, "\"pause_until\":\"2060-01-01T00:00:00Z\"");
    publish_many(rig, 3);
    rig_pull(rig, consumer, "r.1", "{\"batch\":1,\"no_wait\":true}");
    rig_expect_status(rig, "r.1", "404 No Messages", NULL);
    rig_pull(rig, consumer, "r.2", "{\"batch\":1,\"expires\":1000000000}");
    rig_expect_nothing(rig);
    assert_int_equal(consumer->inside->waiting, 1);
}

/* Through an import: behind the answer's subject nobody listens any more, though the subject itself is heard. */
static void an_importer_that_went_gets_nothing(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer = pull_consumer(rig, "");
    struct rb_js_consumer_info info;
    rig_listen(rig, "_R_.>", NULL);
    rig_pull(rig, consumer, "_R_.abcdef.ghijkl", "{\"batch\":5,\"expires\":9000000000}");
    rig->importer_gone = true;
    publish_many(rig, 1);
    rig_expect_status(rig, "_R_.abcdef.ghijkl", "408 Interest Expired",
                      "Nats-Pending-Messages: 5\r\nNats-Pending-Bytes: 0\r\n\r\n");
    assert_int_equal(consumer->delivered.consumer_seq, 0);
    rig_pull(rig, consumer, "r.1", "1");
    (void)rig_expect_message(rig, "r.1", 1, 1);
    /* asked for the count */
    rig->importer_gone = false;
    rig_pull(rig, consumer, "_R_.abcdef.mnopqr", "{\"batch\":2,\"expires\":9000000000}");
    rb_js_consumer_info(consumer, &info);
    assert_int_equal(info.waiting, 1);
    rig->importer_gone = true;
    rb_js_consumer_info(consumer, &info);
    assert_int_equal(info.waiting, 0);
    rig_expect_status(rig, "_R_.abcdef.mnopqr", "408 Interest Expired", NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(requests_are_refused),
        TEST(push_consumers_are_not_asked),
        TEST(requests_expire),
        TEST(bytes_are_a_limit),
        TEST(no_wait_ends_with_the_messages),
        TEST(others_are_before),
        TEST(requests_take_turns),
        TEST(dead_requests_are_dropped),
        TEST(heartbeats_come_in_silence),
        TEST(the_end_is_told),
        TEST(a_paused_one_waits),
        TEST(a_negative_time_is_over),
        TEST(a_paused_one_has_no_messages),
        TEST(an_importer_that_went_gets_nothing),
        TEST(overflow_waits_for_work),
        TEST(one_client_is_pinned),
        TEST(better_priorities_are_served_first),
        TEST(the_unused_are_deleted),
        TEST(idle_ones_have_no_timer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
