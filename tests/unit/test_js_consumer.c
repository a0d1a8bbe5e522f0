/* Consumers: made, delivering, acks, redelivery, floors, restart. */
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

static void publish_many(struct rig *rig, const char *subject, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        (void)rig_publish(rig, subject, "a message");
    }
    rig_turn(rig);
}

static void info_of(struct rb_js_consumer *consumer, struct rb_js_consumer_info *info)
{
    rb_js_consumer_info(consumer, info);
}

static void a_batch_is_delivered_and_acked(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer_info info;
    publish_many(rig, "s.a", 5);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    assert_non_null(consumer);
    info_of(consumer, &info);
    assert_int_equal(info.pending, 5);
    assert_int_equal(consumer->delivered.stream_seq, 0);
    rig_pull(rig, consumer, "r.1", "3");
    for (uint64_t seq = 1; seq <= 3; seq++) {
        const struct rig_sent *sent = rig_expect_message(rig, "r.1", seq, 1);
        assert_string_equal(sent->subject, "s.a");
        assert_string_equal((char *)sent->bytes, "a message");
        assert_int_equal(sent->consumer_seq, seq);
        assert_int_equal(sent->pending, 5 - seq);
        assert_true(strncmp(sent->reply, "$JS.ACK.S.C.1.", 14) == 0);
    }
    rig_expect_nothing(rig);
    info_of(consumer, &info);
    assert_int_equal(info.ack_pending, 3);
    assert_int_equal(info.waiting, 0);
    rig_ack(rig, consumer, &rig->sent[1], "+ACK", "");
    rig_turn(rig);
    assert_int_equal(consumer->ack_floor.stream_seq, 0);
    rig_ack(rig, consumer, &rig->sent[0], "", "");
    rig_turn(rig);
    assert_int_equal(consumer->ack_floor.stream_seq, 2);
    assert_int_equal(consumer->ack_floor.consumer_seq, 2);
    rig_ack(rig, consumer, &rig->sent[2], "+OK", "");
    rig_turn(rig);
    assert_int_equal(consumer->ack_floor.stream_seq, 3);
    info_of(consumer, &info);
    assert_int_equal(info.ack_pending, 0);
    assert_int_equal(rig->acked_count, 3);
}

/* All acks of a turn are one command, and their answers wait for it. */
static void answers_wait_for_the_log(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 3);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    rig_pull(rig, consumer, "r.1", "3");
    rig->seen = rig->sent_count;
    uint32_t commands = rig->command_count;
    rig->hold = true;
    rig_ack(rig, consumer, &rig->sent[0], "+ACK", "r.a");
    rig_ack(rig, consumer, &rig->sent[1], "+ACK", "r.b");
    rig_ack(rig, consumer, &rig->sent[2], "+ACK", "r.c");
    rig_turn(rig);
    assert_int_equal(rig->command_count, commands + 1);
    assert_int_equal(rig->commands[commands].type, RB_COMMAND_ACKED);
    rig_expect_nothing(rig);
    assert_int_equal(consumer->inside->acks.live, 3);
    rig->hold = false;
    rig_turn(rig);
    assert_string_equal(rig_next(rig)->to, "r.a");
    assert_string_equal(rig_next(rig)->to, "r.b");
    assert_string_equal(rig_next(rig)->to, "r.c");
    rig_expect_nothing(rig);
    /* once more: it is known, and answered */
    rig_ack(rig, consumer, &rig->sent[0], "+ACK", "r.d");
    assert_string_equal(rig_next(rig)->to, "r.d");
    /* never delivered: no answer */
    rb_js_consumer_ack(consumer, 99, 99, 1, RB_S("r.e"), RB_S("+ACK"));
    rig_turn(rig);
    rig_expect_nothing(rig);
}

static void an_ack_in_flight_is_not_delivered_again(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 1);
    struct rb_js_consumer *consumer = rig_consumer(
        rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"ack_wait\":1000000000}");
    rig_pull(rig, consumer, "r.1", "10");
    (void)rig_expect_message(rig, "r.1", 1, 1);
    rig->hold = true;
    rig_ack(rig, consumer, &rig->sent[0], "+ACK", "");
    rig_pass(rig, 5 * RIG_SECOND);
    rig_expect_nothing(rig);
    rig->hold = false;
    rig_turn(rig);
    assert_int_equal(consumer->inside->acks.live, 0);
}

static void what_is_not_acked_comes_again(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 3);
    struct rb_js_consumer *consumer = rig_consumer(
        rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"ack_wait\":2000000000}");
    rig_pull(rig, consumer, "r.1", "10");
    rig->seen = rig->sent_count;
    rig_ack(rig, consumer, &rig->sent[1], "+ACK", "");
    rig_pass(rig, 1900 * RIG_MS);
    rig_expect_nothing(rig);
    rig_pass(rig, 200 * RIG_MS);
    const struct rig_sent *again = rig_expect_message(rig, "r.1", 1, 2);
    assert_int_equal(again->consumer_seq, 4);
    (void)rig_expect_message(rig, "r.1", 3, 2);
    rig_expect_nothing(rig);
    struct rb_js_consumer_info info;
    info_of(consumer, &info);
    assert_int_equal(info.redelivered, 2);
    assert_int_equal(consumer->delivered.consumer_seq, 5);
    assert_int_equal(consumer->delivered.stream_seq, 3);
    rig_pass(rig, 2100 * RIG_MS);
    (void)rig_expect_message(rig, "r.1", 1, 3);
    (void)rig_expect_message(rig, "r.1", 3, 3);
}

static void redeliveries_come_before_new_ones(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 4);
    struct rb_js_consumer *consumer = rig_consumer(
        rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"ack_wait\":1000000000}");
    rig_pull(rig, consumer, "r.1", "2");
    rig->seen = rig->sent_count;
    rig_pass(rig, 1100 * RIG_MS);
    rig_pull(rig, consumer, "r.2", "4");
    (void)rig_expect_message(rig, "r.2", 1, 2);
    (void)rig_expect_message(rig, "r.2", 2, 2);
    (void)rig_expect_message(rig, "r.2", 3, 1);
    (void)rig_expect_message(rig, "r.2", 4, 1);
}

static void refused_messages_come_again(void **state)
{
    struct rig *rig = *state;
    rig_listen(rig, "$JS.EVENT.>", NULL);
    publish_many(rig, "s.a", 1);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    (void)rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.create.C");
    rig_pull(rig, consumer, "r.1", "100");
    struct rig_sent first = *rig_expect_message(rig, "r.1", 1, 1);
    rig_ack(rig, consumer, &first, "-NAK", "r.n");
    const char *advice = rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.S.C");
    assert_string_equal(advice, "{\"type\":\"io.nats.jetstream.advisory.v1.nak\",\"stream\":\"S\","
                                "\"consumer\":\"C\",\"consumer_seq\":1,\"stream_seq\":1,"
                                "\"deliveries\":1}");
    assert_string_equal(rig_next(rig)->to, "r.n");
    rig_turn(rig);
    (void)rig_expect_message(rig, "r.1", 1, 2);
    /* delays, in both forms */
    rig_ack(rig, consumer, &first, "-NAK {\"delay\": 3000000000}", "");
    (void)rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.S.C");
    rig_pass(rig, 2900 * RIG_MS);
    rig_expect_nothing(rig);
    rig_pass(rig, 200 * RIG_MS);
    (void)rig_expect_message(rig, "r.1", 1, 3);
    rig_ack(rig, consumer, &first, "-NAK 1m", "");
    (void)rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.S.C");
    rig_pass(rig, 59 * RIG_SECOND);
    rig_expect_nothing(rig);
    rig_pass(rig, 2 * RIG_SECOND);
    (void)rig_expect_message(rig, "r.1", 1, 4);
    /* what cannot be read is a plain one */
    rig_ack(rig, consumer, &first, "-NAK nonsense", "");
    (void)rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.S.C");
    rig_turn(rig);
    (void)rig_expect_message(rig, "r.1", 1, 5);
    rig_expect_nothing(rig);
}

static void progress_prolongs(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 1);
    struct rb_js_consumer *consumer = rig_consumer(
        rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"ack_wait\":1000000000}");
    rig_pull(rig, consumer, "r.1", "100");
    struct rig_sent first = *rig_expect_message(rig, "r.1", 1, 1);
    for (uint32_t i = 0; i < 5; i++) {
        rig_pass(rig, 800 * RIG_MS);
        rig_ack(rig, consumer, &first, "+WPI", "");
    }
    rig_pass(rig, 900 * RIG_MS);
    rig_expect_nothing(rig);
    rig_pass(rig, 200 * RIG_MS);
    (void)rig_expect_message(rig, "r.1", 1, 2);
}

static void terminated_is_done(void **state)
{
    struct rig *rig = *state;
    rig_listen(rig, "$JS.EVENT.>", NULL);
    publish_many(rig, "s.a", 2);
    struct rb_js_consumer *consumer = rig_consumer(
        rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"ack_wait\":1000000000}");
    rig_pull(rig, consumer, "r.1", "2");
    rig->seen = 1;
    struct rig_sent first = *rig_expect_message(rig, "r.1", 1, 1),
                    second = *rig_expect_message(rig, "r.1", 2, 1);
    rig_ack(rig, consumer, &first, "+TERM it is \"bad\"", "r.t");
    const char *advice = rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C");
    assert_string_equal(advice,
                        "{\"type\":\"io.nats.jetstream.advisory.v1.terminated\","
                        "\"stream\":\"S\",\"consumer\":\"C\",\"consumer_seq\":1,"
                        "\"stream_seq\":1,\"deliveries\":1,\"reason\":\"it is \\\"bad\\\"\"}");
    rig_expect_nothing(rig);
    rig_turn(rig);
    assert_string_equal(rig_next(rig)->to, "r.t");
    assert_int_equal(consumer->ack_floor.stream_seq, 1);
    rig_ack(rig, consumer, &second, "+TERM", "");
    assert_null(
        strstr(rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C"), "reason"));
    rig_turn(rig);
    assert_int_equal(consumer->inside->acks.live, 0);
    rig_pass(rig, 5 * RIG_SECOND);
    rig_expect_nothing(rig);
}

static void an_ack_asks_for_the_next(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 4);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    rig_pull(rig, consumer, "r.1", "1");
    struct rig_sent first = *rig_expect_message(rig, "r.1", 1, 1);
    rig_ack(rig, consumer, &first, "+NXT", "r.2");
    rig_turn(rig);
    struct rig_sent second = *rig_expect_message(rig, "r.2", 2, 1);
    rig_ack(rig, consumer, &second, "+NXT {\"batch\": 2}", "r.3");
    rig_turn(rig);
    (void)rig_expect_message(rig, "r.3", 3, 1);
    (void)rig_expect_message(rig, "r.3", 4, 1);
    rig_expect_nothing(rig);
    assert_int_equal(consumer->ack_floor.stream_seq, 2);
}

static void unknown_verbs_are_answered_only(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 1);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    rig_pull(rig, consumer, "r.1", "1");
    struct rig_sent first = *rig_expect_message(rig, "r.1", 1, 1);
    rig_ack(rig, consumer, &first, "+ACKED", "r.x");
    assert_string_equal(rig_next(rig)->to, "r.x");
    rig_turn(rig);
    assert_int_equal(consumer->inside->acks.live, 1);
}

static void deliveries_have_a_maximum(void **state)
{
    struct rig *rig = *state;
    rig_listen(rig, "$JS.EVENT.>", NULL);
    publish_many(rig, "s.a", 2);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\","
                          "\"ack_wait\":1000000000,\"max_deliver\":2}");
    rig_pull(rig, consumer, "r.1", "100");
    rig->seen = 1;
    struct rig_sent first = *rig_expect_message(rig, "r.1", 1, 1),
                    second = *rig_expect_message(rig, "r.1", 2, 1);
    rig_ack(rig, consumer, &second, "+ACK", "");
    rig_pass(rig, 1100 * RIG_MS);
    (void)rig_expect_message(rig, "r.1", 1, 2);
    rig_pass(rig, 1100 * RIG_MS);
    const char *advice = rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.C");
    assert_string_equal(advice, "{\"type\":\"io.nats.jetstream.advisory.v1.max_deliver\","
                                "\"stream\":\"S\",\"consumer\":\"C\",\"stream_seq\":1,"
                                "\"deliveries\":2}");
    rig_expect_nothing(rig);
    assert_int_equal(consumer->inside->acks.live, 0);
    assert_int_equal(consumer->ack_floor.stream_seq, 0); /* an ack moves it, this was none */
    struct rb_js_consumer_info info;
    info_of(consumer, &info);
    assert_int_equal(info.redelivered, 1);
    /* of interest until it is acked after all */
    assert_true(rb_js_consumer_needs(consumer, 1));
    uint64_t acked = rig->acked_count;
    rig_ack(rig, consumer, &first, "+ACK", "r.late");
    rig_turn(rig);
    assert_string_equal(rig_next(rig)->to, "r.late");
    assert_int_equal(rig->acked_count, acked + 1);
    assert_int_equal(consumer->ack_floor.stream_seq, 2);
    assert_false(rb_js_consumer_needs(consumer, 1));
}

static void backoff_replaces_ack_wait(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 1);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\","
                          "\"backoff\":[1000000000,3000000000],\"max_deliver\":4}");
    assert_int_equal(consumer->config->ack_wait, RIG_SECOND);
    rig_pull(rig, consumer, "r.1", "100");
    (void)rig_expect_message(rig, "r.1", 1, 1);
    rig_pass(rig, 1100 * RIG_MS);
    (void)rig_expect_message(rig, "r.1", 1, 2);
    rig_pass(rig, 2800 * RIG_MS);
    rig_expect_nothing(rig);
    rig_pass(rig, 300 * RIG_MS);
    (void)rig_expect_message(rig, "r.1", 1, 3);
    rig_pass(rig, 3100 * RIG_MS);
    (void)rig_expect_message(rig, "r.1", 1, 4);
    rig_pass(rig, 10 * RIG_SECOND);
    rig_expect_nothing(rig);
}

static void ack_all_acks_what_is_before(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 5);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"all\"}");
    rig_pull(rig, consumer, "r.1", "5");
    rig->seen = rig->sent_count;
    rig_ack(rig, consumer, &rig->sent[2], "+ACK", "r.a");
    rig_turn(rig);
    assert_string_equal(rig_next(rig)->to, "r.a");
    assert_int_equal(consumer->ack_floor.stream_seq, 3);
    assert_int_equal(consumer->ack_floor.consumer_seq, 3);
    assert_int_equal(consumer->inside->acks.live, 2);
    assert_int_equal(rig->acked_count, 3);
    rig_ack(rig, consumer, &rig->sent[0], "+ACK", "r.b"); /* known */
    assert_string_equal(rig_next(rig)->to, "r.b");
}

static void ack_none_is_acked_by_delivery(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 3);
    struct rb_js_consumer *consumer = rig_consumer(rig, "{\"durable_name\":\"C\"}");
    uint32_t commands = rig->command_count;
    rig_pull(rig, consumer, "r.1", "3");
    assert_int_equal(consumer->ack_floor.stream_seq, 3);
    assert_int_equal(rig->command_count, commands); /* its place is logged later */
    rig_pass(rig, 1100 * RIG_MS);
    assert_int_equal(rig->command_count, commands + 1);
    struct rig_sent first = rig->sent[0];
    rig_restart(rig, NULL, 0);
    consumer = rb_js_consumer_find(&rig->stream, RB_S("C"));
    assert_int_equal(consumer->delivered.stream_seq, 3);
    assert_int_equal(consumer->inside->pending, 0);
    (void)first;
}

static void max_ack_pending_stops_new_ones(void **state)
{
    struct rig *rig = *state;
    char why[128];
    publish_many(rig, "s.a", 5);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\","
                          "\"ack_wait\":1000000000,\"max_ack_pending\":2}");
    rig_pull(rig, consumer, "r.1", "{\"batch\":5,\"no_wait\":true}");
    (void)rig_expect_message(rig, "r.1", 1, 1);
    (void)rig_expect_message(rig, "r.1", 2, 1);
    rig_expect_nothing(rig);
    struct rb_slice text = rb_js_consumer_why(consumer, why, sizeof(why));
    assert_memory_equal(text.ptr, "max_ack_pending of 2 is reached", text.len);
    rig_pass(rig, 1100 * RIG_MS); /* redeliveries go on */
    (void)rig_expect_message(rig, "r.1", 1, 2);
    (void)rig_expect_message(rig, "r.1", 2, 2);
    rig_ack(rig, consumer, &rig->sent[0], "+ACK", "");
    rig_turn(rig);
    (void)rig_expect_message(rig, "r.1", 3, 1);
}

static void removed_while_pending_is_terminated(void **state)
{
    struct rig *rig = *state;
    rig_listen(rig, "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>", NULL);
    publish_many(rig, "s.a", 5);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    rig_pull(rig, consumer, "r.1", "3");
    rig->seen = rig->sent_count;
    assert_true(rig_remove(rig, 1));
    assert_non_null(strstr(rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C"),
                           "\"reason\":\"Message deleted by stream limits\""));
    assert_true(rig_remove(rig, 3));
    assert_non_null(strstr(rig_expect_advice(rig, "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C"),
                           "\"reason\":\"Unacknowledged message was deleted\""));
    assert_true(rig_remove(rig, 5)); /* not delivered yet */
    struct rb_js_consumer_info info;
    info_of(consumer, &info);
    assert_int_equal(info.ack_pending, 1);
    assert_int_equal(info.pending, 1);
    assert_int_equal(consumer->ack_floor.stream_seq, 1);
}

static void a_purge_moves_it_on(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 10);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    rig_pull(rig, consumer, "r.1", "3");
    rig->seen = rig->sent_count;
    rig_purge(rig, NULL, 6, 0);
    assert_int_equal(consumer->delivered.stream_seq, 5);
    assert_int_equal(consumer->ack_floor.stream_seq, 5);
    assert_int_equal(consumer->inside->acks.live, 0);
    assert_int_equal(consumer->inside->pending, 5);
    rig_pull(rig, consumer, "r.2", "1");
    const struct rig_sent *sent = rig_expect_message(rig, "r.2", 6, 1);
    assert_int_equal(sent->consumer_seq, 4);
    rig_purge(rig, NULL, 0, 0);
    assert_int_equal(consumer->inside->pending, 0);
    assert_int_equal(consumer->delivered.stream_seq, 10);
}

static uint64_t start_of(struct rig *rig, const char *config)
{
    struct rb_js_consumer *consumer = rig_consumer(rig, config);
    if (consumer == NULL) {
        fail_msg("%s", rig->error.text);
    }
    assert_int_equal(consumer->inside->pending, rig_naive_pending(rig, consumer));
    return consumer->delivered.stream_seq + 1;
}

static void it_starts_where_asked(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(start_of(rig, "{\"name\":\"e\",\"deliver_policy\":\"last\"}"), 1);
    for (uint32_t i = 0; i < 10; i++) {
        (void)rig_publish(rig, i % 2 == 0 ? "s.even" : "s.odd", "x"); /* 1 is even */
        rig->js.wall_ns += RIG_SECOND;
    }
    (void)rig_remove(rig, 1);
    assert_int_equal(start_of(rig, "{\"name\":\"a\"}"), 2);
    assert_int_equal(start_of(rig, "{\"name\":\"b\",\"deliver_policy\":\"last\"}"), 10);
    assert_int_equal(
        start_of(rig, "{\"name\":\"c\",\"deliver_policy\":\"last\",\"filter_subject\":\"s.even\"}"),
        9);
    assert_int_equal(start_of(rig, "{\"name\":\"d\",\"deliver_policy\":\"new\"}"), 11);
    assert_int_equal(start_of(rig, "{\"name\":\"f\",\"deliver_policy\":\"by_start_sequence\","
                                   "\"opt_start_seq\":1}"),
                     2);
    assert_int_equal(start_of(rig, "{\"name\":\"g\",\"deliver_policy\":\"by_start_sequence\","
                                   "\"opt_start_seq\":77}"),
                     77);
    /* 1700000000 is 2023-11-14T22:13:20Z */
    assert_int_equal(start_of(rig, "{\"name\":\"h\",\"deliver_policy\":\"by_start_time\","
                                   "\"opt_start_time\":\"2023-11-14T22:13:23.5Z\"}"),
                     5);
    assert_int_equal(start_of(rig, "{\"name\":\"i\",\"deliver_policy\":\"by_start_time\","
                                   "\"opt_start_time\":\"2030-11-14T22:13:23.5Z\"}"),
                     11);
    assert_int_equal(start_of(rig, "{\"name\":\"j\",\"deliver_policy\":\"by_start_time\","
                                   "\"opt_start_time\":\"2023-11-14T22:13:23.5Z\","
                                   "\"filter_subject\":\"s.odd\"}"),
                     5);
    assert_int_equal(start_of(rig, "{\"name\":\"k\",\"deliver_policy\":\"last_per_subject\","
                                   "\"filter_subject\":\"s.*\"}"),
                     9);
}

static void last_per_subject_is_as_of_creation(void **state)
{
    struct rig *rig = *state;
    const char *subjects[] = { "s.a", "s.b", "s.a", "s.c", "s.b", "s.d", "t" };
    for (uint32_t i = 0; i < 7; i++) {
        (void)rig_publish(rig, subjects[i], "a message");
    }
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"deliver_policy\":"
                          "\"last_per_subject\",\"filter_subject\":\"s.*\"}");
    assert_int_equal(consumer->inside->pending, 4);
    rig_pull(rig, consumer, "r.1", "1");
    const struct rig_sent *sent = rig_expect_message(rig, "r.1", 3, 1);
    assert_int_equal(sent->pending, 3);
    (void)rig_publish(rig, "s.c", "a message"); /* 8: does not take the place of 4 */
    assert_true(rig_remove(rig, 5));
    assert_true(rig_remove(rig, 1));
    assert_int_equal(consumer->inside->pending, rig_naive_pending(rig, consumer));
    struct rb_out checkpoint;
    uint32_t committed;
    rig_checkpoint(rig, &checkpoint, &committed);
    rig_restart(rig, &checkpoint, committed);
    rb_out_deinit(&checkpoint);
    consumer = rb_js_consumer_find(&rig->stream, RB_S("C"));
    assert_int_equal(consumer->inside->pending, 3);
    rig_pull(rig, consumer, "r.1", "9");
    (void)rig_expect_message(rig, "r.1", 4, 1);
    (void)rig_expect_message(rig, "r.1", 6, 1);
    (void)rig_expect_message(rig, "r.1", 8, 1);
    (void)rig_publish(rig, "s.a", "a message");
    rig_turn(rig);
    (void)rig_expect_message(rig, "r.1", 9, 1);
    rig_expect_nothing(rig);
}

/* From the commands alone, from a checkpoint in the middle, and from one that is ahead of the commands. */
static void a_restart_finds_the_same(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 20);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\","
                          "\"ack_wait\":10000000000}");
    rig_pull(rig, consumer, "r.1", "5");
    rig_ack(rig, consumer, &rig->sent[1], "+ACK", "");
    rig_turn(rig);
    struct rb_out checkpoint;
    uint32_t committed;
    rig_checkpoint(rig, &checkpoint, &committed);
    rig_ack(rig, consumer, &rig->sent[0], "+ACK", "");
    rig_ack(rig, consumer, &rig->sent[3], "-NAK", "");
    rig_pull(rig, consumer, "r.1", "3"); /* 4 again, 6, 7 */
    assert_int_equal(consumer->delivered.consumer_seq, 8);
    struct rb_js_consumer_place delivered = consumer->delivered, floor = consumer->ack_floor;
    for (uint32_t i = 0; i < 2; i++) {
        rig_restart(rig, i == 0 ? NULL : &checkpoint, i == 0 ? 0 : committed);
        consumer = rb_js_consumer_find(&rig->stream, RB_S("C"));
        assert_memory_equal(&consumer->delivered, &delivered, sizeof(delivered));
        assert_memory_equal(&consumer->ack_floor, &floor, sizeof(floor));
        assert_int_equal(consumer->inside->acks.live, 5); /* 3 4 5 6 7 */
        assert_int_equal(rb_js_pending_find(&consumer->inside->acks, 4)->count, 2);
        assert_int_equal(consumer->inside->pending, 13);
    }
    rb_out_deinit(&checkpoint);
    rig_pull(rig, consumer, "r.2", "100");
    (void)rig_expect_message(rig, "r.2", 8, 1);
    rig->seen = rig->sent_count;
    rig_pass(rig, 11 * RIG_SECOND);
    (void)rig_expect_message(rig, "r.2", 3, 2);
    (void)rig_expect_message(rig, "r.2", 4, 3);
}

static void volatile_ones_end_with_their_server(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 3);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"name\":\"C\",\"ack_policy\":\"explicit\",\"mem_storage\":true}");
    uint32_t commands = rig->command_count;
    rig_pull(rig, consumer, "r.1", "2");
    rig->seen = rig->sent_count;
    rig_ack(rig, consumer, &rig->sent[0], "+ACK", "r.a");
    assert_string_equal(rig_next(rig)->to, "r.a"); /* at once */
    rig_turn(rig);
    assert_int_equal(rig->command_count, commands);
    assert_int_equal(consumer->ack_floor.stream_seq, 1);
    rig_restart(rig, NULL, 0);
    assert_null(rb_js_consumer_find(&rig->stream, RB_S("C")));
}

/* A client that acks within the delivery, as a function of the server would. */
static void ack_at_once(struct rig *rig, const struct rig_sent *sent)
{
    if (sent->stream_seq > 0) {
        rig_ack(rig, rb_js_consumer_find(&rig->stream, RB_S("C")), sent, "+NXT 2", "r.1");
    }
}

static void acks_may_come_within_a_delivery(void **state)
{
    struct rig *rig = *state;
    const char *configs[] = {
        "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"max_ack_pending\":1}",
        "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"mem_storage\":true}",
    };
    publish_many(rig, "s.a", 100);
    for (uint32_t i = 0; i < 2; i++) {
        struct rb_js_consumer *consumer = rig_consumer(rig, configs[i]);
        rig->on_send = ack_at_once;
        rig_pull(rig, consumer, "r.1", "1");
        rig->on_send = NULL;
        assert_int_equal(consumer->ack_floor.stream_seq, 100);
        assert_int_equal(consumer->inside->acks.live, 0);
        rb_js_consumer_close(consumer, RB_S(""));
    }
}

static void the_log_may_refuse_for_a_while(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 4);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    rig_pull(rig, consumer, "r.1", "2");
    rig->refuse = RB_ERR_FULL;
    rig_ack(rig, consumer, &rig->sent[0], "+ACK", "r.a");
    rig_pull(rig, consumer, "r.1", "1");
    rig_pass(rig, 100 * RIG_MS);
    assert_int_equal(consumer->ack_floor.stream_seq, 0);
    rig->refuse = RB_OK;
    rig_pass(rig, 100 * RIG_MS);
    assert_int_equal(consumer->ack_floor.stream_seq, 1);
    assert_true(rig_saw(rig, "r.a", ""));
    rig_restart(rig, NULL, 0);
    consumer = rb_js_consumer_find(&rig->stream, RB_S("C"));
    assert_int_equal(consumer->delivered.stream_seq, 3);
    assert_int_equal(consumer->inside->acks.live, 2);
}

static void bodies_may_come_from_disk(void **state)
{
    struct rig *rig = *state;
    char why[128];
    publish_many(rig, "s.a", 3);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    rb_msgstore_model_set_cold(rig->stream.store, true);
    rb_msgstore_model_hold_loads(rig->home, true);
    rig_pull(rig, consumer, "r.1", "{\"batch\":3,\"no_wait\":true}");
    rig_expect_nothing(rig);
    struct rb_slice text = rb_js_consumer_why(consumer, why, sizeof(why));
    assert_memory_equal(text.ptr, "waiting for a message from disk", text.len);
    rb_msgstore_model_hold_loads(rig->home, false);
    rig_turn(rig);
    (void)rig_expect_message(rig, "r.1", 1, 1);
    (void)rig_expect_message(rig, "r.1", 2, 1);
    (void)rig_expect_message(rig, "r.1", 3, 1);
    rig_expect_nothing(rig);
}

static void damaged_bodies_are_passed_over(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, "s.a", 3);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    assert_true(rb_msgstore_model_damage(rig->stream.store, 2));
    rig_pull(rig, consumer, "r.1", "2");
    (void)rig_expect_message(rig, "r.1", 1, 1);
    (void)rig_expect_message(rig, "r.1", 3, 1);
    assert_int_equal(consumer->inside->pending, 0);
}

static void filters_choose(void **state)
{
    struct rig *rig = *state;
    const char *subjects[] = { "s.a", "s.b", "s.c", "s.a" };
    for (uint32_t i = 0; i < 40; i++) {
        (void)rig_publish(rig, subjects[i % 4], "a message");
    }
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\","
                          "\"filter_subjects\":[\"s.a\",\"s.c\"]}");
    assert_int_equal(consumer->inside->pending, 30);
    rig_pull(rig, consumer, "r.1", "4");
    (void)rig_expect_message(rig, "r.1", 1, 1);
    (void)rig_expect_message(rig, "r.1", 3, 1);
    (void)rig_expect_message(rig, "r.1", 4, 1);
    (void)rig_expect_message(rig, "r.1", 5, 1);
    assert_int_equal(rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\","
                                       "\"filter_subject\":\"s.b\"}"),
                     consumer);
    assert_int_equal(consumer->inside->pending, rig_naive_pending(rig, consumer));
    rig_pull(rig, consumer, "r.1", "1");
    (void)rig_expect_message(rig, "r.1", 6, 1);
}

static void headers_only_tells_the_size(void **state)
{
    struct rig *rig = *state;
    (void)rig_publish_headers(rig, "s.a", "NATS/1.0\r\nA: b\r\n\r\n", "0123456789");
    (void)rig_publish(rig, "s.a", "01234");
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"headers_only\":true}");
    rig_pull(rig, consumer, "r.1", "2");
    const struct rig_sent *sent = rig_expect_message(rig, "r.1", 1, 1);
    assert_string_equal((char *)sent->bytes, "NATS/1.0\r\nA: b\r\nNats-Msg-Size: 10\r\n\r\n");
    assert_int_equal(sent->header_len, sent->len);
    sent = rig_expect_message(rig, "r.1", 2, 1);
    assert_string_equal((char *)sent->bytes, "NATS/1.0\r\nNats-Msg-Size: 5\r\n\r\n");
}

static void acks_are_sampled(void **state)
{
    struct rig *rig = *state;
    rig_listen(rig, "$JS.EVENT.METRIC.>", NULL);
    publish_many(rig, "s.a", 1);
    struct rb_js_consumer *consumer = rig_consumer(
        rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"sample_freq\":\"100%\"}");
    rig_pull(rig, consumer, "r.1", "1");
    struct rig_sent first = *rig_expect_message(rig, "r.1", 1, 1);
    rig_pass(rig, 5 * RIG_MS);
    rig_ack(rig, consumer, &first, "+ACK", "");
    assert_string_equal(rig_expect_advice(rig, "$JS.EVENT.METRIC.CONSUMER.ACK.S.C"),
                        "{\"type\":\"io.nats.jetstream.metric.v1.consumer_ack\",\"stream\":\"S\","
                        "\"consumer\":\"C\",\"consumer_seq\":1,\"stream_seq\":1,"
                        "\"ack_time\":5000000,\"deliveries\":1}");
}

/* What cannot be remembered would never come again: no consumer is better than one that forgets. */
static void refused_memory_takes_it_offline(void **state)
{
    struct rig *rig = *state;
    (void)rig_publish(rig, "s.a", "1");
    (void)rig_publish(rig, "s.a", "2");
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    assert_non_null(consumer);
    rig->budget.limit_bytes = 1;
    rb_js_consumer_adopt(consumer, 3, rig->js.wall_ns);
    rig->budget.limit_bytes = 0;
    assert_string_equal(rig->offline, "memory was refused for the state of consumer \"C\"");
    rig->offline[0] = '\0';
    rb_js_consumer_adopt(consumer, 3, rig->js.wall_ns);
    assert_string_equal(rig->offline, "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_batch_is_delivered_and_acked),
        TEST(answers_wait_for_the_log),
        TEST(an_ack_in_flight_is_not_delivered_again),
        TEST(what_is_not_acked_comes_again),
        TEST(redeliveries_come_before_new_ones),
        TEST(refused_messages_come_again),
        TEST(progress_prolongs),
        TEST(terminated_is_done),
        TEST(an_ack_asks_for_the_next),
        TEST(unknown_verbs_are_answered_only),
        TEST(deliveries_have_a_maximum),
        TEST(backoff_replaces_ack_wait),
        TEST(ack_all_acks_what_is_before),
        TEST(ack_none_is_acked_by_delivery),
        TEST(max_ack_pending_stops_new_ones),
        TEST(removed_while_pending_is_terminated),
        TEST(a_purge_moves_it_on),
        TEST(it_starts_where_asked),
        TEST(refused_memory_takes_it_offline),
        TEST(last_per_subject_is_as_of_creation),
        TEST(a_restart_finds_the_same),
        TEST(volatile_ones_end_with_their_server),
        TEST(acks_may_come_within_a_delivery),
        TEST(the_log_may_refuse_for_a_while),
        TEST(bodies_may_come_from_disk),
        TEST(damaged_bodies_are_passed_over),
        TEST(filters_choose),
        TEST(headers_only_tells_the_size),
        TEST(acks_are_sampled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
