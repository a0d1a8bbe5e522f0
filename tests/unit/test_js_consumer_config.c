/* ConsumerConfig: what nats-server made of it, or said about it (golden/consumer_config.txt); updates; work queues; limits. */
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

static void check_line(struct rig *rig, char *line)
{
    bool pedantic = strncmp(line, "pedantic\t", 9) == 0;
    char *json = strchr(line, '\t') + 1, *expected = strchr(json, '\t');
    struct rb_arena *arena;
    struct rb_js_consumer_config config;
    struct rb_js_error error = { 0 };
    struct rb_out out;
    char read_error[RB_DOC_ERROR_MAX], result[2048];
    *expected++ = '\0';
    expected[strcspn(expected, "\n")] = '\0';
    assert_int_equal(rb_arena_create(512, &arena), RB_OK);
    if (!rb_doc_read(arena, &rb_js_consumer_config_type, rb_slice_text(json), true, &config,
                     read_error)) {
        fail_msg("%s: %s", json, read_error);
    }
    rb_out_init(&out, &rig->budget);
    if (rb_js_consumer_config_check(&rig->stream, &config, arena, pedantic, NULL, false, &error)) {
        rb_doc_write(&out, &rb_js_consumer_config_type, &config);
        (void)snprintf(result, sizeof(result), "OK %.*s", (int)out.len, (const char *)out.bytes);
    } else {
        (void)snprintf(result, sizeof(result), "%u %u %s", error.status, error.code, error.text);
    }
    if (strcmp(result, expected) != 0) {
        print_error("%s\n", json);
        assert_string_equal(result, expected);
    }
    rb_out_deinit(&out);
    rb_arena_destroy(arena);
}

static void configurations_are_as_the_reference_has_them(void **state)
{
    char line[4096];
    uint32_t count = 0;
    FILE *file = fopen(RB_SOURCE_DIR "/tests/unit/golden/consumer_config.txt", "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        check_line(*state, line);
        count++;
    }
    (void)fclose(file);
    assert_in_range(count, 100, 1000);
}

static void expect_error(struct rig *rig, const char *json, enum rb_js_consumer_action action,
                         uint16_t code, const char *text)
{
    assert_null(rig_consumer_action(rig, json, action, false));
    assert_int_equal(rig->error.code, code);
    if (text != NULL) {
        assert_string_equal(rig->error.text, text);
    }
}

static void names_have_rules(void **state)
{
    struct rig *rig = *state;
    expect_error(rig, "{\"durable_name\":\"a.b\"}", RB_JS_CONSUMER_ANY, 10052,
                 "consumer name can not contain '.', '*', '>', '\\', '/'");
    expect_error(rig, "{\"name\":\"a*\"}", RB_JS_CONSUMER_ANY, 10052, NULL);
    char json[400] = "{\"durable_name\":\"";
    memset(json + strlen(json), 'x', 256);
    strcat(json, "\"}");
    expect_error(rig, json, RB_JS_CONSUMER_ANY, 10102,
                 "consumer name is too long, maximum allowed is 255");
    expect_error(rig, "{\"durable_name\":\"a\",\"name\":\"b\"}", RB_JS_CONSUMER_ANY, 10132, NULL);
    struct rb_js_consumer *consumer = rig_consumer(rig, "{}");
    assert_int_equal(consumer->name.len, 8);
    assert_true(rb_slice_equal(consumer->name, consumer->config->name));
}

static void existing_ones_are_updated(void **state)
{
    struct rig *rig = *state;
    expect_error(rig, "{\"durable_name\":\"C\"}", RB_JS_CONSUMER_UPDATE, 10149,
                 "consumer does not exist");
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    uint32_t commands = rig->command_count;
    /* the same is no change */
    assert_ptr_equal(rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}"),
                     consumer);
    assert_int_equal(rig->command_count, commands);
    expect_error(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\"description\":\"x\"}",
                 RB_JS_CONSUMER_CREATE, 10148, "consumer already exists");
    assert_ptr_equal(
        rig_consumer_action(rig,
                            "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\","
                            "\"description\":\"x\",\"max_ack_pending\":7,\"pause_until\":"
                            "\"2030-01-01T00:00:00Z\"}",
                            RB_JS_CONSUMER_UPDATE, false),
        consumer);
    assert_int_equal(consumer->config->max_ack_pending, 7);
    assert_int_equal(consumer->config->pause_until, RB_DOC_NO_TIME); /* by its own request only */
    const struct {
        const char *more, *text;
    } refused[] = {
        { "\"ack_policy\":\"all\"", "ack policy can not be updated" },
        { "\"ack_policy\":\"explicit\",\"deliver_policy\":\"new\"",
          "deliver policy can not be updated" },
        { "\"ack_policy\":\"explicit\",\"replay_policy\":\"original\"",
          "replay policy can not be updated" },
        { "\"ack_policy\":\"explicit\",\"mem_storage\":true", "storage type can not be updated" },
        { "\"ack_policy\":\"explicit\",\"max_waiting\":5", "max waiting can not be updated" },
        { "\"ack_policy\":\"explicit\",\"deliver_subject\":\"d\"",
          "can not update pull consumer to push based" },
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        char json[400];
        (void)snprintf(json, sizeof(json), "{\"durable_name\":\"C\",%s}", refused[i].more);
        expect_error(rig, json, RB_JS_CONSUMER_ANY, 10012, refused[i].text);
        assert_int_equal(rig->error.status, 500);
    }
}

static void active_deliver_subjects_stay(void **state)
{
    struct rig *rig = *state;
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"deliver_subject\":\"d\"}");
    rig_listen(rig, "d", NULL);
    rig_turn(rig);
    expect_error(rig, "{\"durable_name\":\"C\",\"deliver_subject\":\"e\"}", RB_JS_CONSUMER_ANY,
                 10013, "consumer name already in use");
    rig_unlisten(rig, "d");
    rig_listen(rig, "e", NULL);
    rig_turn(rig);
    assert_ptr_equal(rig_consumer(rig, "{\"durable_name\":\"C\",\"deliver_subject\":\"e\"}"),
                     consumer);
    (void)rig_publish(rig, "s.a", "a message");
    rig_turn(rig);
    (void)rig_expect_message(rig, "e", 1, 1);
}

static void work_queues_have_rules(void **state)
{
    struct rig *rig = *state;
    rig->config.retention = RB_JS_WORKQUEUE;
    expect_error(rig, "{\"durable_name\":\"A\",\"deliver_subject\":\"d\"}", RB_JS_CONSUMER_ANY,
                 10098, NULL);
    expect_error(rig, "{\"durable_name\":\"A\"}", RB_JS_CONSUMER_ANY, 10084, NULL);
    expect_error(rig, "{\"durable_name\":\"A\",\"ack_policy\":\"all\"}", RB_JS_CONSUMER_ANY, 10098,
                 "workqueue stream requires explicit ack");
    expect_error(rig,
                 "{\"durable_name\":\"A\",\"ack_policy\":\"explicit\",\"deliver_policy\":\"new\"}",
                 RB_JS_CONSUMER_ANY, 10101, "consumer must be deliver all on workqueue stream");
    assert_non_null(rig_consumer(
        rig, "{\"durable_name\":\"A\",\"ack_policy\":\"explicit\",\"filter_subject\":\"s.a\"}"));
    expect_error(rig, "{\"durable_name\":\"B\",\"ack_policy\":\"explicit\"}", RB_JS_CONSUMER_ANY,
                 10099, "multiple non-filtered consumers not allowed on workqueue stream");
    expect_error(rig,
                 "{\"durable_name\":\"B\",\"ack_policy\":\"explicit\",\"filter_subject\":\"s.*\"}",
                 RB_JS_CONSUMER_ANY, 10100, "filtered consumer not unique on workqueue stream");
    assert_non_null(rig_consumer(
        rig, "{\"durable_name\":\"B\",\"ack_policy\":\"explicit\",\"filter_subject\":\"s.b\"}"));
    expect_error(rig,
                 "{\"durable_name\":\"B\",\"ack_policy\":\"explicit\",\"filter_subject\":\"s.a\"}",
                 RB_JS_CONSUMER_ANY, 10100, NULL);
    expect_error(rig,
                 "{\"durable_name\":\"D\",\"ack_policy\":\"explicit\",\"filter_subject\":\"s.d\","
                 "\"num_replicas\":1,\"max_ack_pending\":-1,\"backoff\":[-1]}",
                 RB_JS_CONSUMER_ANY, 10184, NULL);
}

static void was_made(struct rb_js_change *change, struct rb_js_stream *stream,
                     const struct rb_js_outcome *outcome)
{
    *(uint16_t *)(change + 1) = outcome->error.code;
}

/* Two that are asked for in one turn: the second one counts the first. The limit is one of each stream. */
static void the_accounts_limit_holds_in_a_turn(void **state)
{
    struct rig *rig = *state;
    struct {
        struct rb_js_change change;
        uint16_t code;
    } changes[3] = { 0 };
    struct rb_js_consumer_config config;
    rig->account.limits.max_consumers = 2;
    rig->account.consumer_count += 7; /* of other streams */
    rig->hold = true;
    rb_doc_init(&rb_js_consumer_config_type, &config);
    for (uint32_t i = 0; i < 3; i++) {
        static const char *const names[] = { "A", "B", "C" };
        config.name = config.durable_name = rb_slice_text(names[i]);
        changes[i].code = 1;
        changes[i].change.done = was_made;
        rb_js_consumer_create(&rig->stream, &config, RB_JS_CONSUMER_ANY, false, &changes[i].change);
    }
    assert_int_equal(changes[2].code, 10026);
    assert_int_equal(rig->stream.consumers_coming, 2);
    rig->hold = false;
    rig_turn(rig);
    assert_int_equal(changes[0].code, 0);
    assert_int_equal(changes[1].code, 0);
    assert_int_equal(rig->stream.consumers_coming, 0);
    assert_int_equal(rig->stream.consumer_count, 2);
    /* what could not be proposed does not count */
    rig->account.limits.max_consumers = 3;
    rig->refuse = RB_ERR_FULL;
    config.name = config.durable_name = RB_S("D");
    rb_js_consumer_create(&rig->stream, &config, RB_JS_CONSUMER_ANY, false, &changes[2].change);
    assert_int_not_equal(changes[2].code, 0);
    assert_int_equal(rig->stream.consumers_coming, 0);
    rig->refuse = RB_OK;
    assert_non_null(rig_consumer(rig, "{\"durable_name\":\"D\"}"));
    rig->account.consumer_count -= 7;
}

static void limits_hold(void **state)
{
    struct rig *rig = *state;
    rig->config.max_consumers = 2;
    rig->settings.max_ack_pending = 500;
    rig->settings.max_request_batch = 50;
    rig->config.consumer_limits =
        (struct rb_js_consumer_limits){ .inactive_threshold = (int64_t)(2 * RIG_SECOND) };
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"A\",\"ack_policy\":\"explicit\"}");
    assert_int_equal(consumer->config->max_ack_pending, 500);
    assert_int_equal(consumer->config->max_batch, 50);
    assert_int_equal(consumer->config->inactive_threshold, 2 * RIG_SECOND);
    expect_error(rig,
                 "{\"durable_name\":\"B\",\"ack_policy\":\"explicit\",\"max_ack_pending\":501}",
                 RB_JS_CONSUMER_ANY, 10121, "consumer max ack pending exceeds system limit of 500");
    expect_error(rig, "{\"durable_name\":\"B\",\"max_batch\":51}", RB_JS_CONSUMER_ANY, 10125,
                 "consumer max request batch exceeds server limit of 50");
    expect_error(rig, "{\"durable_name\":\"B\",\"inactive_threshold\":3000000000}",
                 RB_JS_CONSUMER_ANY, 10153,
                 "consumer inactive threshold exceeds system limit of 2s");
    rig->config.consumer_limits.max_ack_pending = 100;
    expect_error(rig,
                 "{\"durable_name\":\"B\",\"ack_policy\":\"explicit\",\"max_ack_pending\":101}",
                 RB_JS_CONSUMER_ANY, 10121, NULL);
    consumer = rig_consumer(rig, "{\"durable_name\":\"B\",\"ack_policy\":\"explicit\"}");
    assert_int_equal(consumer->config->max_ack_pending, 100);
    expect_error(rig, "{\"durable_name\":\"D\"}", RB_JS_CONSUMER_ANY, 10026,
                 "maximum consumers limit reached");
    rig->config.max_consumers = -1;
    rig->account.limits.max_consumers = 2;
    expect_error(rig, "{\"durable_name\":\"D\"}", RB_JS_CONSUMER_ANY, 10026, NULL);
    /* who was there before stays, also with less room */
    rig->account.limits.max_consumers = 1;
    rig_restart(rig, NULL, 0);
    assert_int_equal(rig->stream.consumer_count, 2);
}

/* Bytes of a checkpoint that were changed are refused, or read as something; never more. */
static void damaged_states_are_refused(void **state)
{
    struct rig *rig = *state;
    struct rb_out out;
    uint32_t committed;
    for (uint32_t i = 0; i < 50; i++) {
        (void)rig_publish(rig, "s.a", "a message");
    }
    rig_listen(rig, "r.1", NULL);
    struct rb_js_consumer *consumer =
        rig_consumer(rig, "{\"durable_name\":\"C\",\"ack_policy\":\"explicit\"}");
    rig_pull(rig, consumer, "r.1", "20");
    rig_ack(rig, consumer, &rig->sent[3], "+ACK", "");
    rig_turn(rig);
    rig_checkpoint(rig, &out, &committed);
    rb_js_consumer_close(consumer, RB_S(""));
    uint32_t refused = 0;
    for (size_t len = 0; len < out.len; len++) {
        struct rb_reader reader = rb_reader_over(rb_slice_of(out.bytes, len));
        assert_int_equal(rb_js_consumer_load(&rig->stream, &reader), RB_ERR_CORRUPT);
        assert_int_equal(rig->stream.consumer_count, 0);
    }
    for (size_t at = 0; at < out.len; at++) {
        for (uint32_t bit = 0; bit < 8; bit += 3) {
            out.bytes[at] ^= (uint8_t)(1u << bit);
            struct rb_reader reader = rb_reader_over(rb_out_slice(&out));
            enum rb_err err = rb_js_consumer_load(&rig->stream, &reader);
            refused += err != RB_OK;
            if (err == RB_OK) {
                rb_js_consumer_close(
                    RB_CONTAINER(rig->stream.consumers.next, struct rb_js_consumer, of_stream),
                    RB_S(""));
            }
            out.bytes[at] ^= (uint8_t)(1u << bit);
        }
    }
    assert_in_range(refused, 100, out.len * 3);
    struct rb_reader reader = rb_reader_over(rb_out_slice(&out));
    assert_int_equal(rb_js_consumer_load(&rig->stream, &reader), RB_OK);
    rb_out_deinit(&out);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(configurations_are_as_the_reference_has_them),
        TEST(names_have_rules),
        TEST(existing_ones_are_updated),
        TEST(active_deliver_subjects_stay),
        TEST(work_queues_have_rules),
        TEST(limits_hold),
        TEST(the_accounts_limit_holds_in_a_turn),
        TEST(damaged_states_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
