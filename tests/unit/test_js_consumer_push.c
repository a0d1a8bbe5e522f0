/* Push consumers: interest, groups, heartbeats, flow control, rate, replay; pauses and resets by command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "consumer_rig.h"

static int setup(void **state)
{
    *state = rig_create();
    return 0;
}

static int teardown(void **state)
{
    rig_destroy(*state);
    return 0;
}

static void publish_many(struct rig *rig, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        (void)rig_publish(rig, "s.a", "a message");
    }
    rig_turn(rig);
}

static struct rb_js_consumer *push_consumer(struct rig *rig, const char *more)
{
    char config[1024];
    (void)snprintf(config, sizeof(config), "{\"durable_name\":\"C\",\"deliver_subject\":\"d\"%s%s}",
                   more[0] == '\0' ? "" : ",", more);
    struct rb_js_consumer *consumer = rig_consumer(rig, config);
    if (consumer == NULL) {
        fail_msg("%s", rig->error.text);
    }
    return consumer;
}

static void interest_decides(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer_info info;
    char why[128];
    publish_many(rig, 2);
    struct rb_js_consumer *consumer = push_consumer(rig, "");
    rb_js_consumer_info(consumer, &info);
    assert_false(info.push_bound);
    struct rb_slice text = rb_js_consumer_why(consumer, why, sizeof(why));
    assert_memory_equal(text.ptr, "nobody subscribed to the deliver subject", text.len);
    rig_listen(rig, "d", NULL);
    rig_turn(rig);
    (void)rig_expect_message(rig, "d", 1, 1);
    (void)rig_expect_message(rig, "d", 2, 1);
    rb_js_consumer_info(consumer, &info);
    assert_true(info.push_bound);
    publish_many(rig, 1);
    (void)rig_expect_message(rig, "d", 3, 1);
    rig_unlisten(rig, "d");
    publish_many(rig, 1);
    rig_expect_nothing(rig);
    rb_js_consumer_info(consumer, &info);
    assert_false(info.push_bound);
    rig_listen(rig, ">", NULL); /* looks on, and asks for nothing */
    rig_turn(rig);
    rig_expect_nothing(rig);
    rig_listen(rig, "d", "g"); /* nor does a queue group, without deliver_group */
    rig_turn(rig);
    rig_expect_nothing(rig);
    rig_listen(rig, "d", NULL);
    rig_turn(rig);
    (void)rig_expect_message(rig, "d", 4, 1);
}

static void a_group_wants_its_queue(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, 1);
    struct rb_js_consumer *consumer = push_consumer(rig, "\"deliver_group\":\"g\"");
    rig_listen(rig, "d", NULL);
    rig_turn(rig);
    rig_expect_nothing(rig);
    rig_listen(rig, "d", "other");
    rig_turn(rig);
    rig_expect_nothing(rig);
    assert_false(consumer->inside->active);
    rig_listen(rig, "d", "g");
    rig_turn(rig);
    (void)rig_expect_message(rig, "d", 1, 1);
}

static void heartbeats_come_in_silence(void **state)
{
    struct rig *rig = *state;
    (void)push_consumer(rig, "\"idle_heartbeat\":1000000000");
    rig_pass(rig, 3 * RIG_SECOND);
    rig_expect_nothing(rig); /* nobody is there */
    rig_listen(rig, "d", NULL);
    rig_turn(rig);
    rig_pass(rig, 700 * RIG_MS);
    publish_many(rig, 1);
    (void)rig_expect_message(rig, "d", 1, 1);
    rig_pass(rig, 900 * RIG_MS);
    rig_expect_nothing(rig);
    rig_pass(rig, 200 * RIG_MS);
    rig_expect_status(rig, "d", "100 Idle Heartbeat",
                      "Nats-Last-Consumer: 1\r\nNats-Last-Stream: 1\r\n\r\n");
    rig_expect_nothing(rig);
}

/* Bytes that were sent since the beginning, as they count. */
static uint64_t sent_bytes(const struct rig *rig, uint32_t *ret_messages, char *ret_request)
{
    uint64_t bytes = 0;
    *ret_messages = 0;
    for (uint32_t i = 0; i < rig->sent_count; i++) {
        const struct rig_sent *sent = &rig->sent[i];
        if (sent->stream_seq > 0) {
            bytes += strlen(sent->subject) + strlen(sent->reply) + sent->len;
            (*ret_messages)++;
        } else if (strstr((char *)sent->bytes, "FlowControl") != NULL) {
            assert_string_equal((char *)sent->bytes, "NATS/1.0 100 FlowControl Request\r\n\r\n");
            (void)snprintf(ret_request, 64, "%s", sent->reply);
        }
    }
    return bytes;
}

static void confirm(struct rb_js_consumer *consumer, const char *request)
{
    rb_js_consumer_flow(consumer, rb_slice_text(request + strlen("$JS.FC.S.C.")), 0, RB_S(""));
}

static void flow_control_bounds_what_is_on_the_way(void **state)
{
    struct rig *rig = *state;
    char *body = calloc(1, 4097), request[64] = "", second[64] = "", why[128];
    memset(body, 'x', 4096);
    for (uint32_t i = 0; i < 3000; i++) {
        (void)rig_publish(rig, "s.a", body);
    }
    struct rb_js_consumer *consumer =
        push_consumer(rig, "\"flow_control\":true,\"idle_heartbeat\":5000000000");
    rig_listen(rig, "d", NULL);
    rig_turn(rig);
    uint32_t messages;
    uint64_t bytes = sent_bytes(rig, &messages, request);
    assert_in_range(bytes, 2 << 20, (2 << 20) + 4300); /* the window, and one more */
    assert_true(strncmp(request, "$JS.FC.S.C.", 11) == 0 && strlen(request) == 15);
    struct rb_slice text = rb_js_consumer_why(consumer, why, sizeof(why));
    assert_memory_equal(text.ptr, "the flow control window is full, its request was not answered",
                        text.len);
    rig->seen = rig->sent_count;
    rig_pass(rig, 5100 * RIG_MS);
    char fields[128];
    (void)snprintf(fields, sizeof(fields),
                   "Nats-Last-Consumer: %u\r\nNats-Last-Stream: %u\r\n"
                   "Nats-Consumer-Stalled: %s\r\n\r\n",
                   messages, messages, request);
    rig_expect_status(rig, "d", "100 Idle Heartbeat", fields);
    confirm(consumer, "$JS.FC.S.C.nope"); /* not the one */
    rig_turn(rig);
    rig_expect_nothing(rig);
    confirm(consumer, request);
    rig_turn(rig);
    bytes = sent_bytes(rig, &messages, second);
    assert_true(strcmp(request, second) != 0);
    /* the confirmed half of the window went off, the window is twice as large */
    assert_in_range(bytes, (4 << 20) + (1 << 20), (4 << 20) + (1 << 20) + 9000);
    confirm(consumer, request); /* an old one */
    uint32_t before = rig->sent_count;
    rig_turn(rig);
    assert_int_equal(rig->sent_count, before);
    for (uint32_t i = 0; i < 20 && consumer->inside->pending > 0; i++) {
        (void)sent_bytes(rig, &messages, second);
        confirm(consumer, second);
        rig_turn(rig);
    }
    assert_int_equal(consumer->inside->pending, 0);
    assert_int_equal(consumer->delivered.stream_seq, 3000);
    free(body);
}

static void flow_control_may_ack(void **state)
{
    struct rig *rig = *state;
    publish_many(rig, 30);
    struct rb_js_consumer *consumer =
        push_consumer(rig, "\"ack_policy\":\"flow_control\",\"max_ack_pending\":10");
    assert_non_null(consumer);
    assert_true(consumer->config->flow_control);
    rig_listen(rig, "d", NULL);
    rig_turn(rig);
    for (uint64_t seq = 1; seq <= 10; seq++) {
        (void)rig_expect_message(rig, "d", seq, 1);
    }
    const struct rig_sent *request = rig_next(rig);
    assert_non_null(request);
    assert_non_null(strstr((char *)request->bytes, "100 FlowControl Request"));
    struct rb_slice answer =
        RB_S("NATS/1.0\r\nNats-Last-Consumer: 10\r\nNats-Last-Stream: 10\r\n\r\n");
    char token[5] = { 0 };
    memcpy(token, request->reply + 11, 4);
    rb_js_consumer_flow(consumer, rb_slice_text(token), (uint32_t)answer.len, answer);
    rig_turn(rig);
    assert_int_equal(consumer->ack_floor.stream_seq, 10);
    (void)rig_expect_message(rig, "d", 11, 1);
}

static void the_rate_is_limited(void **state)
{
    struct rig *rig = *state;
    rig->config.max_msg_size = 100;
    publish_many(rig, 100);
    rig_listen(rig, "d", NULL);
    (void)push_consumer(rig, "\"rate_limit_bps\":8000"); /* 1000 bytes a second */
    uint32_t first = rig->sent_count;
    assert_int_equal(first, 1); /* the burst is one message */
    rig_pass(rig, 2 * RIG_SECOND);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < rig->sent_count; i++) {
        bytes += strlen(rig->sent[i].subject) + strlen(rig->sent[i].reply) + rig->sent[i].len;
    }
    assert_in_range(bytes, 1950, 2150);
}

static void the_original_pace_is_kept(void **state)
{
    struct rig *rig = *state;
    const uint64_t gaps[] = { 0, 500 * RIG_MS, 100 * RIG_MS, 2000 * RIG_MS };
    for (uint32_t i = 0; i < 4; i++) {
        rig_pass(rig, gaps[i]);
        (void)rig_publish(rig, "s.a", "a message");
    }
    rig_listen(rig, "d", NULL);
    (void)push_consumer(rig, "\"replay_policy\":\"original\"");
    rig_pass(rig, 5 * RIG_SECOND);
    assert_int_equal(rig->sent_count, 4);
    for (uint32_t i = 1; i < 4; i++) {
        uint64_t gap = rig->sent[i].at_ns - rig->sent[i - 1].at_ns;
        assert_in_range(gap, gaps[i], gaps[i] + 2 * RIG_MS);
    }
    publish_many(rig, 3); /* what came later comes at once */
    assert_int_equal(rig->sent_count, 7);
}

static void the_unheard_are_deleted(void **state)
{
    struct rig *rig = *state;
    (void)rig_consumer(rig, "{\"name\":\"E\",\"deliver_subject\":\"d\"}");
    rig_listen(rig, "d", NULL);
    rig_pass(rig, 60 * RIG_SECOND);
    assert_non_null(rb_js_consumer_find(&rig->stream, RB_S("E")));
    rig_unlisten(rig, "d");
    rig_turn(rig);
    rig_pass(rig, 4900 * RIG_MS);
    assert_non_null(rb_js_consumer_find(&rig->stream, RB_S("E")));
    rig_pass(rig, 200 * RIG_MS);
    assert_null(rb_js_consumer_find(&rig->stream, RB_S("E")));
}

struct waiting {
    struct rb_js_change change;
    struct rb_js_outcome outcome;
    uint32_t done;
};

static void was_done(struct rb_js_change *change, struct rb_js_stream *stream,
                     const struct rb_js_outcome *outcome)
{
    struct waiting *waiting = RB_CONTAINER(change, struct waiting, change);
    waiting->outcome = *outcome;
    waiting->done++;
}

static void pauses_are_commands(void **state)
{
    struct rig *rig = *state;
    struct waiting waiting = { .change.done = was_done };
    rig_listen(rig, "d", NULL);
    struct rb_js_consumer *consumer = push_consumer(rig, "");
    rb_js_consumer_pause(consumer, (int64_t)(rig->js.wall_ns + 10 * RIG_SECOND), &waiting.change);
    rig_turn(rig);
    assert_int_equal(waiting.done, 1);
    assert_ptr_equal(waiting.outcome.consumer, consumer);
    publish_many(rig, 1);
    rig_expect_nothing(rig);
    rig_restart(rig, NULL, 0);
    consumer = rb_js_consumer_find(&rig->stream, RB_S("C"));
    rig_expect_nothing(rig);
    rb_js_consumer_pause(consumer, RB_DOC_NO_TIME, &waiting.change);
    rig_turn(rig);
    (void)rig_expect_message(rig, "d", 1, 1);
    assert_int_equal(consumer->config->pause_until, RB_DOC_NO_TIME);
}

static uint16_t reset_error(struct rig *rig, struct rb_js_consumer *consumer, uint64_t seq,
                            const char *text)
{
    struct waiting waiting = { .change.done = was_done };
    rb_js_consumer_reset(consumer, seq, &waiting.change);
    rig_turn(rig);
    assert_int_equal(waiting.done, 1);
    if (text != NULL) {
        assert_string_equal(waiting.outcome.error.text, text);
    }
    if (waiting.outcome.error.code == 0) {
        rig->changed_seq = waiting.outcome.seq;
    }
    return waiting.outcome.error.code;
}

static void resets_begin_anew(void **state)
{
    struct rig *rig = *state;
    rig_listen(rig, "d", NULL);
    publish_many(rig, 10);
    struct rb_js_consumer *consumer = push_consumer(rig, "\"ack_policy\":\"explicit\"");
    rig->seen = rig->sent_count;
    struct rig_sent old = rig->sent[7];
    rig_ack(rig, consumer, &rig->sent[0], "+ACK", "");
    rig_turn(rig);
    assert_int_equal(reset_error(rig, consumer, 0, NULL), 0);
    assert_int_equal(rig->changed_seq, 2);
    const struct rig_sent *sent = rig_expect_message(rig, "d", 2, 1);
    assert_int_equal(sent->consumer_seq, 1);
    assert_int_equal(sent->pending, 8);
    rig->seen = rig->sent_count;
    assert_int_equal(reset_error(rig, consumer, 6, NULL), 0);
    (void)rig_expect_message(rig, "d", 6, 1);
    assert_int_equal(consumer->delivered.consumer_seq, 5);
    assert_int_equal(consumer->inside->acks.live, 5);
    rig_restart(rig, NULL, 0);
    consumer = rb_js_consumer_find(&rig->stream, RB_S("C"));
    assert_int_equal(consumer->delivered.consumer_seq, 5);
    assert_int_equal(consumer->delivered.stream_seq, 10);
    assert_int_equal(consumer->inside->acks.live, 5);
    (void)old;
    consumer = rig_consumer(rig, "{\"durable_name\":\"D\",\"deliver_policy\":\"by_start_sequence\","
                                 "\"opt_start_seq\":5}");
    assert_int_equal(reset_error(rig, consumer, 4, "invalid reset: below start seq"), 10204);
    consumer = rig_consumer(rig, "{\"durable_name\":\"E\",\"deliver_policy\":\"by_start_time\","
                                 "\"opt_start_time\":\"2024-01-01T00:00:00Z\"}");
    assert_int_equal(reset_error(rig, consumer, 4, "invalid reset: below start time"), 10204);
    consumer = rig_consumer(rig, "{\"durable_name\":\"F\",\"deliver_policy\":\"new\"}");
    assert_int_equal(reset_error(rig, consumer, 4, "invalid reset: not allowed"), 10204);
    assert_int_equal(reset_error(rig, consumer, 0, NULL), 0);
}

static bool looks(struct rig *rig, const char *name)
{
    return rb_js_consumer_find(&rig->stream, rb_slice_text(name))->inside->look;
}

/* Subscriptions concern nobody while there are pull consumers only; then those who wait for that very subject. */
static void interest_is_told_to_whom_it_concerns(void **state)
{
    struct rig *rig = *state;
    static const char *const subjects[] = { "d", "d", "e" };
    char text[128];
    assert_non_null(rig_consumer(rig, "{\"durable_name\":\"PULL\"}"));
    assert_false(rig->core_account.watch_interest);
    for (uint32_t i = 0; i < 3; i++) {
        (void)snprintf(text, sizeof(text), "{\"durable_name\":\"P%u\",\"deliver_subject\":\"%s\"}",
                       i, subjects[i]);
        assert_non_null(rig_consumer(rig, text));
    }
    assert_true(rig->core_account.watch_interest);
    assert_int_equal(rig->account.watches.count, 2);
    rb_js_watches_interest(&rig->account, RB_S("d"));
    assert_true(looks(rig, "P0") && looks(rig, "P1"));
    assert_false(looks(rig, "P2") || looks(rig, "PULL"));
    rig_turn(rig);
    assert_false(looks(rig, "P0"));
    /* another deliver subject */
    assert_non_null(rig_consumer(rig, "{\"durable_name\":\"P0\",\"deliver_subject\":\"f\"}"));
    assert_int_equal(rig->account.watches.count, 3);
    rb_js_watches_interest(&rig->account, RB_S("d"));
    assert_true(!looks(rig, "P0") && looks(rig, "P1"));
    rb_js_watches_interest(&rig->account, RB_S("f"));
    assert_true(looks(rig, "P0"));
    rig_turn(rig);
    rig_listen(rig, "f", NULL);
    rig_turn(rig);
    struct rb_js_consumer_info info;
    rb_js_consumer_info(rb_js_consumer_find(&rig->stream, RB_S("P0")), &info);
    assert_true(info.push_bound);
    /* memory is refused for a while: it looks again by itself */
    rig->budget.limit_bytes = 1;
    struct rb_js_consumer *consumer = rb_js_consumer_find(&rig->stream, RB_S("P2"));
    rb_js_consumer_unwatch(consumer);
    rb_js_consumer_look_for_interest(consumer);
    assert_null(consumer->inside->watch);
    rig->budget.limit_bytes = 0;
    rig_pass(rig, 2 * RIG_SECOND);
    assert_non_null(consumer->inside->watch);
}

/* What went to the old deliver subject and was not acked goes to the new one first, in order. */
static void another_subject_gets_what_is_unacked(void **state)
{
    struct rig *rig = *state;
    rig_listen(rig, "d", NULL);
    publish_many(rig, 4);
    (void)push_consumer(rig, "\"ack_policy\":\"explicit\"");
    struct rb_js_consumer *consumer = rb_js_consumer_find(&rig->stream, RB_S("C"));
    rig->seen = rig->sent_count;
    rig_ack(rig, consumer, &rig->sent[1], "+ACK", "");
    rig_turn(rig);
    rig_unlisten(rig, "d");
    rig_turn(rig);
    assert_non_null(rig_consumer(
        rig, "{\"durable_name\":\"C\",\"deliver_subject\":\"n\",\"ack_policy\":\"explicit\"}"));
    publish_many(rig, 1);
    rig_listen(rig, "n", NULL);
    rig_turn(rig);
    (void)rig_expect_message(rig, "n", 1, 2);
    (void)rig_expect_message(rig, "n", 3, 2);
    (void)rig_expect_message(rig, "n", 4, 2);
    (void)rig_expect_message(rig, "n", 5, 1);
}

/* Made in any order, they are listed by name. */
static void names_come_in_order(void **state)
{
    struct rig *rig = *state;
    static const char *const names[] = { "m", "b", "zz", "z", "a", "mm", "B", "c" };
    static const char *const sorted[] = { "B", "a", "b", "c", "m", "mm", "z", "zz" };
    for (uint32_t i = 0; i < 8; i++) {
        char text[64];
        (void)snprintf(text, sizeof(text), "{\"durable_name\":\"%s\"}", names[i]);
        assert_non_null(rig_consumer(rig, text));
    }
    for (uint32_t round = 0; round < 2; round++) {
        uint32_t count = 0;
        rb_js_consumers_sort(&rig->stream);
        for (struct rb_list *at = rig->stream.consumers.next; at != &rig->stream.consumers;
             at = at->next, count++) {
            struct rb_slice name = RB_CONTAINER(at, struct rb_js_consumer, of_stream)->name;
            assert_true(rb_slice_equal(name, rb_slice_text(sorted[count])));
            assert_ptr_equal(at->next->prev, at);
        }
        assert_int_equal(count, 8);
    }
}

/* What was proposed before a reset, or by an earlier consumer of that name, changes nothing behind it. */
static void late_commands_are_ignored(void **state)
{
    struct rig *rig = *state;
    struct waiting waiting = { .change.done = was_done };
    rig_listen(rig, "d", NULL);
    publish_many(rig, 3);
    struct rb_js_consumer *consumer = push_consumer(rig, "\"ack_policy\":\"explicit\"");
    rig->hold = true;
    rb_js_consumer_reset(consumer, 2, &waiting.change);
    publish_many(rig, 2); /* delivered before the reset is applied */
    rig_ack(rig, consumer, &rig->sent[1], "+ACK", "");
    rig_turn(rig);
    rig->hold = false;
    rig_turn(rig);
    assert_int_equal(consumer->delivered.consumer_seq, 4); /* 2 3 4 5 */
    assert_int_equal(consumer->inside->acks.live, 4);
    rig->hold = true;
    rb_js_consumer_delete(consumer, &waiting.change);
    rig_ack(rig, consumer, &rig->sent[1], "+ACK", "");
    rig_turn(rig);
    rig->hold = false;
    rig_turn(rig);
    assert_null(rb_js_consumer_find(&rig->stream, RB_S("C")));
    rig_restart(rig, NULL, 0);
    assert_null(rb_js_consumer_find(&rig->stream, RB_S("C")));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(interest_decides),           TEST(a_group_wants_its_queue),
        TEST(heartbeats_come_in_silence), TEST(flow_control_bounds_what_is_on_the_way),
        TEST(flow_control_may_ack),       TEST(the_rate_is_limited),
        TEST(the_original_pace_is_kept),  TEST(the_unheard_are_deleted),
        TEST(pauses_are_commands),        TEST(resets_begin_anew),
        TEST(late_commands_are_ignored),  TEST(interest_is_told_to_whom_it_concerns),
        TEST(names_come_in_order),        TEST(another_subject_gets_what_is_unacked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
