/* Mirrors and sources: what they hold is what their origins held, once each and in order, whatever happened meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js_rig.h"

#define SECOND_NS UINT64_C(1000000000)

static int setup(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 23);
    js_rig_open(rig);
    assert_true(rig->js->ready_to_serve);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct js_rig *rig = *state;
    if (rig->js != NULL) {
        js_rig_close(rig);
    }
    js_rig_deinit(rig);
    free(rig);
    return 0;
}

static void make(struct js_rig *rig, const char *json)
{
    struct rb_js_error error;
    if (js_rig_create(rig, json, &error) == NULL) {
        fail_msg("%s: %u %s", json, error.code, error.text);
    }
}

static void publish(struct js_rig *rig, const char *subject, uint32_t from, uint32_t count)
{
    for (uint32_t i = from; i < from + count; i++) {
        char body[32];
        (void)snprintf(body, sizeof(body), "%u", i);
        assert_non_null(js_rig_request(rig, subject, NULL, body));
    }
}

static struct rb_msgstore_state state_of(struct js_rig *rig, const char *name)
{
    struct rb_msgstore_state state;
    rb_msgstore_state(js_rig_stream(rig, name)->store, &state);
    return state;
}

static void wait_for(struct js_rig *rig, const char *name, uint64_t messages)
{
    for (int i = 0; i < 200 && state_of(rig, name).messages != messages; i++) {
        js_rig_advance(rig, SECOND_NS / 4);
    }
    if (state_of(rig, name).messages != messages) {
        fail_msg("%s has %llu messages instead of %llu", name,
                 (unsigned long long)state_of(rig, name).messages, (unsigned long long)messages);
    }
}

static struct rb_message message_of(struct js_rig *rig, const char *name, uint64_t seq)
{
    struct rb_message message;
    struct rb_msgstore_wait wait = { .tag = 99 };
    for (int i = 0; i < 100; i++) {
        enum rb_err err = rb_msgstore_get(js_rig_stream(rig, name)->store, seq, &wait, &message);
        if (err != RB_ERR_BUSY) {
            assert_int_equal(err, RB_OK);
            return message;
        }
        js_rig_settle(rig);
    }
    fail_msg("message %llu of %s is never read", (unsigned long long)seq, name);
    return message;
}

static void expect_bodies(struct js_rig *rig, const char *name, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char body[32];
        (void)snprintf(body, sizeof(body), "%u", i);
        struct rb_message message = message_of(rig, name, i + 1);
        struct rb_slice got = rb_slice_of(message.payload.ptr + message.header_len,
                                          message.payload.len - message.header_len);
        if (!rb_slice_equal(got, rb_slice_text(body))) {
            fail_msg("%s has \"%.*s\" instead of %u", name, RB_S_ARG(got), i);
        }
    }
}

static void expect_info(struct js_rig *rig, const char *name, const char *wanted)
{
    char subject[64];
    (void)snprintf(subject, sizeof(subject), "$JS.API.STREAM.INFO.%s", name);
    const char *got = js_rig_request(rig, subject, NULL, "");
    if (strstr(got, wanted) == NULL) {
        fail_msg("%s: expected %s in %s", name, wanted, got);
    }
}

static void mirrors(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"O\",\"subjects\":[\"o.>\"]}");
    publish(rig, "o.x", 0, 5);
    assert_non_null(js_rig_request(rig, "$JS.API.STREAM.MSG.DELETE.O", NULL, "{\"seq\":3}"));
    make(rig, "{\"name\":\"M\",\"mirror\":{\"name\":\"O\"}}");
    wait_for(rig, "M", 4);
    assert_int_equal(state_of(rig, "M").last_seq, 5);
    assert_int_equal(state_of(rig, "M").deleted, 1);
    uint64_t time_ns = message_of(rig, "O", 4).time_ns;
    assert_int_equal(message_of(rig, "M", 4).time_ns, time_ns);
    assert_int_equal(message_of(rig, "M", 4).header_len, 0);
    publish(rig, "o.x", 5, 1);
    js_rig_settle(rig);
    assert_int_equal(state_of(rig, "M").last_seq, 6);
    expect_info(rig, "M", "\"mirror\":{\"name\":\"O\",\"lag\":0,\"active\":");
    assert_null(js_rig_request(rig, "M", NULL, "it has no subjects"));
}

static void headers(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"O\",\"subjects\":[\"o.>\"]}");
    make(rig, "{\"name\":\"S\",\"sources\":[{\"name\":\"O\",\"subject_transforms\":"
              "[{\"src\":\"o.*\",\"dest\":\"s.$1\"}]}]}");
    assert_non_null(js_rig_request(
        rig, "o.x", "Nats-Expected-Stream: O\r\nA: b\r\nNats-Expected-Last-Sequence: 0\r\n", "m"));
    wait_for(rig, "S", 1);
    struct rb_message message = message_of(rig, "S", 1);
    static const char wanted[] = "NATS/1.0\r\nA: b\r\nNats-Stream-Source: O 1 o.* s.$1 o.x ";
    assert_true(rb_slice_equal(message.subject, RB_S("s.x")));
    assert_int_equal(message.header_len, sizeof(wanted) - 1 + 8 + 4); /* and the identity */
    assert_memory_equal(message.payload.ptr, wanted, sizeof(wanted) - 1);
}

/* The machine loses its power again and again while messages are on their way. */
static void crashes(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"O\",\"subjects\":[\"o.>\"]}");
    make(rig, "{\"name\":\"M\",\"mirror\":{\"name\":\"O\"}}");
    make(rig, "{\"name\":\"S\",\"sources\":[{\"name\":\"O\"}]}");
    make(rig, "{\"name\":\"C\",\"sources\":[{\"name\":\"S\"}]}");
    uint32_t sent = 0;
    for (uint32_t round = 0; round < 12; round++) {
        publish(rig, "o.x", sent, 7);
        sent += 7;
        for (uint32_t i = 0; i < round * 3; i++) {
            (void)js_rig_turn(rig);
            rig->now_ns += 20000;
        }
        if (round % 4 == 3) {
            js_rig_close(rig);
        } else {
            js_rig_cut(rig, round % 2 == 0);
        }
        js_rig_open(rig);
        assert_true(rig->js->ready_to_serve);
    }
    wait_for(rig, "M", sent);
    wait_for(rig, "S", sent);
    wait_for(rig, "C", sent);
    expect_bodies(rig, "O", sent);
    expect_bodies(rig, "M", sent);
    expect_bodies(rig, "S", sent);
    expect_bodies(rig, "C", sent);
    assert_int_equal(state_of(rig, "C").last_seq, sent);
}

static void refused_for_want_of_room(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"O\",\"subjects\":[\"o.>\"]}");
    publish(rig, "o.x", 0, 10);
    make(rig, "{\"name\":\"S\",\"sources\":[{\"name\":\"O\"}],\"discard\":\"new\",\"max_msgs\":4}");
    wait_for(rig, "S", 4);
    js_rig_advance(rig, 5 * SECOND_NS);
    assert_int_equal(state_of(rig, "S").last_seq, 4);
    struct rb_js_error error;
    assert_true(js_rig_update(rig,
                              "{\"name\":\"S\",\"sources\":[{\"name\":\"O\"}],\"discard\":\"new\","
                              "\"max_msgs\":20}",
                              &error));
    wait_for(rig, "S", 10);
    expect_bodies(rig, "S", 10);
}

static void origins_come_and_go(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"S\",\"sources\":[{\"name\":\"O\"}]}");
    js_rig_advance(rig, 30 * SECOND_NS);
    expect_info(rig, "S", "\"lag\":0,\"active\":-1}");
    make(rig, "{\"name\":\"O\",\"subjects\":[\"o.>\"]}");
    publish(rig, "o.x", 0, 3);
    wait_for(rig, "S", 3);
    assert_true(js_rig_delete(rig, "O", NULL));
    js_rig_advance(rig, SECOND_NS);
    make(rig, "{\"name\":\"O\",\"subjects\":[\"o.>\"]}");
    publish(rig, "o.x", 3, 2); /* its sequences begin anew */
    wait_for(rig, "S", 5);
    expect_bodies(rig, "S", 5);
    assert_true(js_rig_delete(rig, "S", NULL));
    js_rig_advance(rig, SECOND_NS);
    expect_info(rig, "O", "\"consumer_count\":0");
}

static void queues_are_emptied(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"W\",\"subjects\":[\"w.>\"],\"retention\":\"workqueue\"}");
    publish(rig, "w.x", 0, 3);
    make(rig, "{\"name\":\"S\",\"sources\":[{\"name\":\"W\"}]}");
    wait_for(rig, "S", 3);
    wait_for(rig, "W", 0);
    js_rig_cut(rig, true);
    js_rig_open(rig);
    publish(rig, "w.x", 3, 20);
    js_rig_cut(rig, false);
    js_rig_open(rig);
    wait_for(rig, "S", 23);
    wait_for(rig, "W", 0);
    expect_bodies(rig, "S", 23);
    expect_info(rig, "W", "\"consumer_count\":1");
    assert_true(js_rig_delete(rig, "S", NULL));
    js_rig_advance(rig, SECOND_NS);
    expect_info(rig, "W", "\"consumer_count\":0");
}

static void promotion(void **state)
{
    struct js_rig *rig = *state;
    struct rb_js_error error;
    make(rig, "{\"name\":\"O\",\"subjects\":[\"o.>\"],\"allow_direct\":true}");
    publish(rig, "o.x", 0, 3);
    make(rig, "{\"name\":\"M\",\"mirror\":{\"name\":\"O\"}}");
    wait_for(rig, "M", 3);
    assert_true(js_rig_stream(rig, "M")->config->mirror_direct);
    assert_true(js_rig_delete(rig, "O", NULL));
    js_rig_advance(rig, 15 * SECOND_NS); /* it notices, and stands in */
    const char *got = js_rig_request(rig, "$JS.API.DIRECT.GET.O", NULL, "{\"seq\":2}");
    assert_non_null(got);
    assert_string_equal(got, "1");
    assert_true(js_rig_update(rig, "{\"name\":\"M\",\"subjects\":[\"o.>\"]}", &error));
    assert_string_equal(js_rig_request(rig, "o.x", NULL, "own"), "{\"stream\":\"M\",\"seq\":4}");
    assert_null(js_rig_request(rig, "$JS.API.DIRECT.GET.O", NULL, "{\"seq\":2}"));
    assert_false(js_rig_update(rig, "{\"name\":\"M\",\"mirror\":{\"name\":\"O\"}}", &error));
    assert_int_equal(error.code, 10055);
}

static void rules(void **state)
{
    struct js_rig *rig = *state;
    struct rb_js_error error;
    make(rig, "{\"name\":\"A\",\"subjects\":[\"a\"],\"sources\":[{\"name\":\"B\"}]}");
    static const struct {
        const char *json;
        uint16_t code;
        const char *text;
    } refused[] = {
        { "{\"name\":\"B\",\"sources\":[{\"name\":\"A\"}]}", 10052, "detected cycle" },
        { "{\"name\":\"B\",\"mirror\":{\"name\":\"B\"}}", 10052, "detected cycle" },
        { "{\"name\":\"M\",\"mirror\":{\"name\":\"A\"},\"subjects\":[\"m\"]}", 10034,
          "stream mirrors can not contain subjects" },
        { "{\"name\":\"M\",\"sources\":[{\"name\":\"A\"},{\"name\":\"A\"}]}", 10140,
          "duplicate source configuration detected" },
        { "{\"name\":\"M\",\"sources\":[{\"name\":\"A\",\"consumer\":{\"name\":\"c\","
          "\"deliver_subject\":\"d\"}}]}",
          10052, "source consumer is not supported by ringbus yet" },
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_null(js_rig_create(rig, refused[i].json, &error));
        assert_int_equal(error.code, refused[i].code);
        assert_string_equal(error.text, refused[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(mirrors, setup, teardown),
        cmocka_unit_test_setup_teardown(headers, setup, teardown),
        cmocka_unit_test_setup_teardown(crashes, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_for_want_of_room, setup, teardown),
        cmocka_unit_test_setup_teardown(origins_come_and_go, setup, teardown),
        cmocka_unit_test_setup_teardown(queues_are_emptied, setup, teardown),
        cmocka_unit_test_setup_teardown(promotion, setup, teardown),
        cmocka_unit_test_setup_teardown(rules, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
