/* Streams over the model of the message store: what each published message becomes, in the order of the checks, and what the
 * publisher is told, byte for byte. */
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
    js_rig_init(rig, 7);
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

static void expect(struct js_rig *rig, const char *subject, const char *headers, const char *body,
                   const char *wanted)
{
    const char *got = js_rig_request(rig, subject, headers, body);
    if (got == NULL || strcmp(got, wanted) != 0) {
        fail_msg("%s %s: expected %s, got %s", subject, headers == NULL ? "" : headers, wanted,
                 got == NULL ? "nothing" : got);
    }
}

#define OK(name, seq) "{\"stream\":\"" name "\",\"seq\":" #seq "}"
#define ERR(name, status, code, text)                                                              \
    "{\"error\":{\"code\":" #status ",\"err_code\":" #code ",\"description\":\"" text              \
    "\"},\"stream\":\"" name "\",\"seq\":0}"

static void plain_messages(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"S\",\"subjects\":[\"s.>\"]}");
    expect(rig, "s.a", NULL, "x", OK("S", 1));
    expect(rig, "s.b", NULL, "y", OK("S", 2));
    js_rig_publish(rig, "s.c", NULL, NULL, "z");
    js_rig_settle(rig);
    struct rb_msgstore_state store;
    rb_msgstore_state(js_rig_stream(rig, "S")->store, &store);
    assert_int_equal(store.messages, 3);
}

/* Every check alone; the expected bytes were taken from nats-server. */
static void refusals(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"P1\",\"subjects\":[\"p1.>\"]}");
    expect(rig, "p1.a", NULL, "x", OK("P1", 1));
    static const struct {
        const char *headers, *wanted;
    } rows[] = {
        { "Nats-TTL: bogus\r\n", ERR("P1", 400, 10165, "invalid per-message TTL") },
        { "Nats-TTL: 5s\r\n", ERR("P1", 400, 10166, "per-message TTL is disabled") },
        { "Nats-TTL: 0\r\n", ERR("P1", 400, 10165, "invalid per-message TTL") },
        { "Nats-TTL: -5\r\n", ERR("P1", 400, 10165, "invalid per-message TTL") },
        { "Nats-Expected-Stream: X\r\n", ERR("P1", 400, 10060, "expected stream does not match") },
        { "Nats-Expected-Last-Sequence: x\r\n", ERR("P1", 400, 10071, "wrong last sequence: 1") },
        { "Nats-Expected-Last-Subject-Sequence: x\r\n",
          ERR("P1", 400, 10071, "wrong last sequence: 1") },
        { "Nats-Expected-Last-Subject-Sequence: \r\n", OK("P1", 2) },
        { "Nats-Expected-Last-Sequence:\r\n", OK("P1", 3) },
        { "Nats-Expected-Last-Subject-Sequence-Subject: p1.>\r\n",
          ERR("P1", 400, 10193, "missing sequence for expected last sequence per subject") },
        { "Nats-Expected-Last-Subject-Sequence: 1\r\n"
          "Nats-Expected-Last-Subject-Sequence-Subject: p1.>\r\n",
          ERR("P1", 400, 10071, "wrong last sequence: 3") },
        { "Nats-Expected-Last-Subject-Sequence: 1\r\n"
          "Nats-Expected-Last-Subject-Sequence-Subject: zz.>\r\n",
          ERR("P1", 400, 10071, "wrong last sequence: 0") },
        { "Nats-Expected-Last-Subject-Sequence: 1\r\n"
          "Nats-Expected-Last-Subject-Sequence-Subject: a..b\r\n",
          ERR("P1", 400, 10071, "wrong last sequence: 0") },
        { "Nats-Expected-Last-Subject-Sequence: 0\r\n"
          "Nats-Expected-Last-Subject-Sequence-Subject: p1.b\r\n",
          OK("P1", 4) },
        { "Nats-Incr: 5\r\n", ERR("P1", 400, 10168, "message counters is disabled") },
        { "Nats-Incr: z\r\n", ERR("P1", 400, 10171, "message counter increment is invalid") },
        { "Nats-Schedule: @at x\r\n", ERR("P1", 400, 10188, "message schedules is disabled") },
        { "Nats-Schedule-Target: x\r\n", OK("P1", 5) },
        { "Nats-Stream-Source: x\r\n",
          ERR("P1", 400, 10227, "message stream source header is not allowed") },
        { "Nats-Schedule-Next: purge\r\n",
          ERR("P1", 400, 10212, "message schedules invalid scheduler") },
        { "Nats-Rollup: sub\r\n", ERR("P1", 500, 10111, "rollup not permitted") },
        { "Nats-Rollup: zz\r\n", ERR("P1", 500, 10111, "rollup not permitted") },
        { "Nats-Expected-Last-Msg-Id: q\r\n", ERR("P1", 400, 10070, "wrong last msg ID: ") },
        { "Nats-Msg-Id: m1\r\n", OK("P1", 6) },
        { "Nats-Expected-Last-Msg-Id: q\r\n", ERR("P1", 400, 10070, "wrong last msg ID: m1") },
        { NULL, OK("P1", 7) },
        { "Nats-Expected-Last-Msg-Id: q\r\n", ERR("P1", 400, 10070, "wrong last msg ID: ") },
        { "Nats-Msg-Id: m1\r\n", "{\"stream\":\"P1\",\"seq\":6,\"duplicate\": true}" },
        { "Nats-Expected-Last-Msg-Id:\r\n", OK("P1", 8) },
        { "Nats-Batch-Id: x\r\nNats-Batch-Sequence: 1\r\n",
          ERR("P1", 400, 10174, "atomic publish is disabled") },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        expect(rig, "p1.a", rows[i].headers, "x", rows[i].wanted);
    }
    expect(rig, "p1.n", "Nats-Expected-Last-Subject-Sequence: 5\r\n", "x",
           ERR("P1", 400, 10071, "wrong last sequence: 0"));
    assert_null(js_rig_request(rig, "p1.*", NULL, "x"));
    char *big = malloc(65700);
    assert_non_null(big);
    memset(big, 'y', 65600);
    memcpy(big, "X: ", 3);
    memcpy(big + 65600, "\r\n", 3);
    expect(rig, "p1.a", big, "x",
           ERR("P1", 400, 10097, "header size exceeds maximum allowed of 64k"));
    free(big);
}

/* A message that breaks two rules is told of the one that comes first. */
static void order_of_checks(void **state)
{
    struct js_rig *rig = *state;
    static const struct {
        const char *header;
        const char *code;
    } ladder[] = {
        { "Nats-Incr: 1\r\n", "10168" },
        { "Nats-Expected-Stream: other\r\n", "10060" },
        { "Nats-TTL: 5s\r\n", "10166" },
        { "Nats-Expected-Last-Subject-Sequence: 9\r\n", "10071" },
        { "Nats-Expected-Last-Sequence: 8\r\n", "10071" },
        { "Nats-Schedule: @at x\r\n", "10188" },
        { "Nats-Schedule-Next: x\r\n", "10212" },
        { "Nats-Stream-Source: x\r\n", "10227" },
        { "Nats-Expected-Last-Msg-Id: x\r\n", "10070" },
        { "Nats-Rollup: sub\r\n", "10111" },
    };
    enum { COUNT = sizeof(ladder) / sizeof(ladder[0]) };
    make(rig, "{\"name\":\"O\",\"subjects\":[\"o\"],\"max_msg_size\":1000}");
    char big[1002];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    for (size_t i = 0; i < COUNT; i++) {
        char headers[1024] = "";
        for (size_t k = COUNT; k-- > i;) {
            strcat(headers, ladder[k].header);
        }
        const char *got = js_rig_request(rig, "o", headers, "xxx");
        assert_non_null(got);
        if (strstr(got, ladder[i].code) == NULL) {
            fail_msg("%s: expected %s, got %s", headers, ladder[i].code, got);
        }
        expect(rig, "o", headers, big,
               ERR("O", 400, 10054, "message size exceeds maximum allowed"));
    }
    expect(rig, "o", "Nats-TTL: bogus\r\n", big,
           ERR("O", 400, 10054, "message size exceeds maximum allowed"));
    expect(rig, "o", NULL, big, ERR("O", 400, 10054, "message size exceeds maximum allowed"));
}

static void lifetimes_and_rollups(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"P3\",\"subjects\":[\"p3.>\"],\"allow_msg_ttl\":true,"
              "\"allow_rollup_hdrs\":true,\"max_msgs\":3,\"discard\":\"new\"}");
    static const struct {
        const char *ttl;
        const char *wanted;
    } rows[] = {
        { "bogus", NULL },
        { "5s", OK("P3", 1) },
        { "0", NULL },
        { "-5", NULL },
        { "never", OK("P3", 2) },
        { "NEVER", OK("P3", 3) },
        { "500ms", NULL },
        { "1.5s", OK("P3", 4) },
        { "1", OK("P3", 5) },
        { "0s", NULL },
        { "9999999999999999", OK("P3", 6) },
        { "1h", OK("P3", 7) },
        { "-5s", NULL },
        { "", OK("P3", 8) },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char headers[128];
        (void)snprintf(headers, sizeof(headers), "Nats-TTL: %s\r\nNats-Rollup: all\r\n",
                       rows[i].ttl);
        expect(rig, "p3.a", headers, "",
               rows[i].wanted != NULL ? rows[i].wanted
                                      : ERR("P3", 400, 10165, "invalid per-message TTL"));
    }
    expect(rig, "p3.a", "Nats-Rollup: SUB\r\n", "x", OK("P3", 9));
    expect(rig, "p3.a", "Nats-Rollup: x\r\n", "x",
           ERR("P3", 500, 10111, "rollup value invalid: \\\"x\\\""));
    expect(rig, "p3.a", "Nats-Rollup: all \r\n", "x",
           ERR("P3", 500, 10111, "rollup value invalid: \\\"all \\\""));
    expect(rig, "p3.a", NULL, "x", OK("P3", 10));
    expect(rig, "p3.a", NULL, "x", OK("P3", 11));
    expect(rig, "p3.a", NULL, "x", ERR("P3", 503, 10077, "maximum messages exceeded"));
}

static uint64_t messages_of(struct js_rig *rig, const char *name, uint64_t *ret_first)
{
    struct rb_msgstore_state store;
    rb_msgstore_state(js_rig_stream(rig, name)->store, &store);
    if (ret_first != NULL) {
        *ret_first = store.first_seq;
    }
    return store.messages;
}

static void limits(void **state)
{
    struct js_rig *rig = *state;
    uint64_t first;
    make(rig, "{\"name\":\"P4\",\"subjects\":[\"p4.>\"],\"max_bytes\":100,\"discard\":\"new\","
              "\"max_msgs_per_subject\":1,\"discard_new_per_subject\":true}");
    expect(rig, "p4.a", NULL, "x", OK("P4", 1));
    expect(rig, "p4.a", NULL, "x", ERR("P4", 503, 10077, "maximum messages per subject exceeded"));
    expect(rig, "p4.b", NULL,
           "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
           ERR("P4", 503, 10077, "maximum bytes exceeded"));
    make(rig, "{\"name\":\"L\",\"subjects\":[\"l.>\"],\"max_msgs\":3,\"max_msgs_per_subject\":2}");
    for (int i = 0; i < 3; i++) {
        js_rig_publish(rig, "l.a", NULL, NULL, "x");
    }
    js_rig_settle(rig);
    assert_int_equal(messages_of(rig, "L", &first), 2);
    assert_int_equal(first, 2);
    js_rig_publish(rig, "l.b", NULL, NULL, "x");
    js_rig_publish(rig, "l.c", NULL, NULL, "x");
    js_rig_settle(rig);
    assert_int_equal(messages_of(rig, "L", &first), 3);
    assert_int_equal(first, 3);
    /* An update trims at once. */
    assert_true(js_rig_update(
        rig, "{\"name\":\"L\",\"subjects\":[\"l.>\"],\"max_msgs\":1,\"max_msgs_per_subject\":2}",
        NULL));
    assert_int_equal(messages_of(rig, "L", &first), 1);
    assert_int_equal(first, 5);
    /* At full max_msgs a message that takes the place of its subject's oldest is let in. */
    make(rig, "{\"name\":\"R\",\"subjects\":[\"r.>\"],\"max_msgs\":2,\"max_msgs_per_subject\":1,"
              "\"discard\":\"new\"}");
    expect(rig, "r.a", NULL, "x", OK("R", 1));
    expect(rig, "r.b", NULL, "x", OK("R", 2));
    expect(rig, "r.a", NULL, "x", OK("R", 3));
    expect(rig, "r.c", NULL, "x", ERR("R", 503, 10077, "maximum messages exceeded"));
    assert_int_equal(messages_of(rig, "R", &first), 2);
    assert_int_equal(first, 2);
}

static void account_and_server_limits(void **state)
{
    struct js_rig *rig = *state;
    rig->limits.max_storage = 200;
    js_rig_accounts_changed(rig);
    make(rig, "{\"name\":\"A1\",\"subjects\":[\"a1\"]}");
    for (int i = 1; i <= 6; i++) {
        js_rig_publish(rig, "a1", NULL, NULL, "x");
        js_rig_settle(rig);
    }
    expect(rig, "a1", NULL, "x", ERR("A1", 400, 10002, "resource limits exceeded for account"));
    rig->limits.max_storage = -1;
    js_rig_accounts_changed(rig);
    rig->settings.max_storage = 100;
    expect(rig, "a1", "Nats-Expected-Last-Sequence: 1\r\n", "x",
           ERR("A1", 400, 10071, "wrong last sequence: 6"));
    expect(rig, "a1", NULL, "x", ERR("A1", 503, 10023, "insufficient resources"));
    assert_int_equal(js_rig_js_account(rig)->storage, 6 * 33);
    assert_int_equal(rig->shared.storage, 6 * 33);
}

static void dedup_window(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"D\",\"subjects\":[\"d\"],\"duplicate_window\":1000000000}");
    expect(rig, "d", "Nats-Msg-Id: a\r\n", "x", OK("D", 1));
    js_rig_advance(rig, 900000000);
    expect(rig, "d", "Nats-Msg-Id: a\r\n", "x", "{\"stream\":\"D\",\"seq\":1,\"duplicate\": true}");
    js_rig_advance(rig, 200000000);
    expect(rig, "d", "Nats-Msg-Id: a\r\n", "x", OK("D", 2));
    /* Forgotten without a message, too. */
    js_rig_advance(rig, UINT64_C(20000000000));
    assert_int_equal(rig->js->pools.used_count, 1); /* the id of the last message */
}

static void max_age(void **state)
{
    struct js_rig *rig = *state;
    uint64_t first;
    make(rig, "{\"name\":\"M\",\"subjects\":[\"m\"],\"max_age\":1000000000,\"allow_msg_ttl\":true,"
              "\"duplicate_window\":1000000000}");
    expect(rig, "m", NULL, "x", OK("M", 1));
    expect(rig, "m", "Nats-TTL: never\r\n", "x", OK("M", 2));
    js_rig_advance(rig, 500000000);
    expect(rig, "m", NULL, "x", OK("M", 3));
    js_rig_advance(rig, 600000000);
    assert_int_equal(messages_of(rig, "M", &first), 2);
    assert_int_equal(first, 2);
    js_rig_advance(rig, 1000000000);
    assert_int_equal(messages_of(rig, "M", &first), 1);
    assert_int_equal(first, 2);
}

static void delete_markers(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"K\",\"subjects\":[\"k.>\"],\"subject_delete_marker_ttl\":60000000000}");
    expect(rig, "k.a", "Nats-TTL: 1s\r\n", "x", OK("K", 1)); /* raised to the marker's */
    struct rb_js_stream *stream = js_rig_stream(rig, "K");
    struct rb_message message;
    assert_int_equal(js_rig_get(rig, stream, 1, &message), RB_OK);
    assert_memory_equal(message.payload.ptr, "NATS/1.0\r\nNats-TTL: 60\r\n\r\nx", 27);
    js_rig_advance(rig, UINT64_C(59000000000));
    assert_int_equal(messages_of(rig, "K", NULL), 1);
    js_rig_advance(rig, UINT64_C(1500000000));
    assert_int_equal(messages_of(rig, "K", NULL), 1);
    assert_int_equal(js_rig_get(rig, stream, 2, &message), RB_OK);
    static const char marker[] = "NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: 1m0s\r\n"
                                 "Nats-Rollup: sub\r\n\r\n";
    assert_int_equal(message.payload.len, sizeof(marker) - 1);
    assert_memory_equal(message.payload.ptr, marker, sizeof(marker) - 1);
    assert_memory_equal(message.subject.ptr, "k.a", 3);
    js_rig_advance(rig, UINT64_C(61000000000));
    assert_int_equal(messages_of(rig, "K", NULL), 0); /* a marker leaves none */
}

static void interest_without_consumers(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"I\",\"subjects\":[\"i\"],\"retention\":\"interest\"}");
    expect(rig, "i", "Nats-Msg-Id: m\r\n", "x", OK("I", 1));
    expect(rig, "i", "Nats-Msg-Id: m\r\n", "x", "{\"stream\":\"I\",\"seq\":1,\"duplicate\": true}");
    expect(rig, "i", NULL, "x", OK("I", 2));
    assert_int_equal(messages_of(rig, "I", NULL), 0);
}

static void transforms_and_republish(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"T\",\"subjects\":[\"in.*\"],\"subject_transform\":{\"src\":\"in.*\","
              "\"dest\":\"out.{{wildcard(1)}}\"},\"republish\":{\"src\":\"out.*\",\"dest\":\"rep.{{"
              "wildcard(1)}}\"}}");
    js_rig_listen(rig, "rep.>");
    expect(rig, "in.a", "A: b\r\n", "hello", OK("T", 1));
    expect(rig, "in.a", NULL, "again", OK("T", 2));
    const struct js_rig_message *message = js_rig_nth(rig, "rep.a", 0);
    assert_non_null(message);
    static const char head[] = "NATS/1.0\r\nA: b\r\nNats-Stream: T\r\nNats-Subject: out.a\r\n"
                               "Nats-Sequence: 1\r\nNats-Time-Stamp: 2023-11-14T22:13:2";
    assert_memory_equal(message->payload, head, sizeof(head) - 1);
    assert_non_null(
        strstr((const char *)message->payload, "Z\r\nNats-Last-Sequence: 0\r\n\r\nhello"));
    message = js_rig_nth(rig, "rep.a", 1);
    assert_non_null(message);
    assert_non_null(strstr((const char *)message->payload, "Nats-Last-Sequence: 1\r\n\r\nagain"));
}

static void headers_are_cleaned(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"H\",\"subjects\":[\"h\"]}");
    static const char odd[] = "NATS/1.0 503 No\r\nNats-Request-Info: {}\r\nA: b\r\n\r\nbody";
    js_rig_publish_bytes(rig, "h", NULL, sizeof(odd) - 5, rb_slice_of(odd, sizeof(odd) - 1));
    static const char none[] = "NATS/1.0 503\r\n\r\nbody";
    js_rig_publish_bytes(rig, "h", NULL, sizeof(none) - 5, rb_slice_of(none, sizeof(none) - 1));
    js_rig_settle(rig);
    struct rb_message message;
    struct rb_js_stream *stream = js_rig_stream(rig, "H");
    assert_int_equal(js_rig_get(rig, stream, 1, &message), RB_OK);
    assert_int_equal(message.payload.len, 22);
    assert_memory_equal(message.payload.ptr, "NATS/1.0\r\nA: b\r\n\r\nbody", 22);
    assert_int_equal(js_rig_get(rig, stream, 2, &message), RB_OK);
    assert_int_equal(message.header_len, 0);
    assert_int_equal(message.payload.len, 4);
}

static void first_sequence_and_domain(void **state)
{
    struct js_rig *rig = *state;
    rig->settings.domain = RB_S("dom");
    make(rig, "{\"name\":\"F\",\"subjects\":[\"f\"],\"first_seq\":100}");
    expect(rig, "f", NULL, "x", "{\"stream\":\"F\",\"domain\":\"dom\",\"seq\":100}");
    expect(rig, "f", "Nats-Expected-Stream: G\r\n", "x",
           ERR("F", 400, 10060, "expected stream does not match"));
    make(rig, "{\"name\":\"N\",\"subjects\":[\"n\"],\"no_ack\":true}");
    assert_null(js_rig_request(rig, "n", NULL, "x"));
    assert_null(js_rig_request(rig, "n", "Nats-Expected-Stream: G\r\n", "x"));
    assert_int_equal(messages_of(rig, "N", NULL), 1);
}

static void memory_streams(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"V\",\"subjects\":[\"v\"],\"storage\":\"memory\"}");
    expect(rig, "v", NULL, "x", OK("V", 1));
    assert_int_equal(js_rig_js_account(rig)->memory, 1 + 1 + 16);
    js_rig_close(rig);
    js_rig_open(rig);
    assert_null(js_rig_stream(rig, "V")); /* as in nats-server */
}

static void life(void **state)
{
    struct js_rig *rig = *state;
    struct rb_js_error error;
    make(rig, "{\"name\":\"S\",\"subjects\":[\"s.>\"]}");
    make(rig, "{\"name\":\"S\",\"subjects\":[\"s.>\"]}"); /* equal: fine */
    assert_null(js_rig_create(rig, "{\"name\":\"S\",\"subjects\":[\"t\"]}", &error));
    assert_int_equal(error.code, 10058);
    assert_null(js_rig_create(rig, "{\"name\":\"O\",\"subjects\":[\"s.x\"]}", &error));
    assert_int_equal(error.code, 10065);
    expect(rig, "s.a", NULL, "x", OK("S", 1));
    assert_true(js_rig_update(rig, "{\"name\":\"S\",\"subjects\":[\"t.>\"]}", &error));
    assert_null(js_rig_request(rig, "s.a", NULL, "x"));
    expect(rig, "t.a", NULL, "x", OK("S", 2));
    assert_true(js_rig_delete(rig, "S", &error));
    assert_null(js_rig_stream(rig, "S"));
    assert_null(js_rig_request(rig, "t.a", NULL, "x"));
    assert_int_equal(rig->shared.storage, 0);
    assert_int_equal(rig->shared.streams, 0);
    make(rig, "{\"name\":\"S\",\"subjects\":[\"s.>\"]}");
    expect(rig, "s.a", NULL, "x", OK("S", 1)); /* nothing of the old one is left */
    js_rig_close(rig);
    js_rig_open(rig);
    expect(rig, "s.a", NULL, "x", OK("S", 2));
    assert_true(
        js_rig_update(rig, "{\"name\":\"S\",\"subjects\":[\"s.>\"],\"sealed\":true}", &error));
    expect(rig, "s.a", NULL, "x", ERR("S", 400, 10109, "invalid operation on sealed stream"));
}

static struct rb_js_outcome last_outcome;
static void keep_outcome(struct rb_js_change *change, struct rb_js_stream *stream,
                         const struct rb_js_outcome *outcome)
{
    last_outcome = *outcome;
}

static uint16_t delete_message(struct js_rig *rig, const char *name, uint64_t seq)
{
    struct rb_js_change change = { .done = keep_outcome };
    rb_js_stream_delete_message(js_rig_stream(rig, name), seq, true, &change);
    js_rig_settle(rig);
    return last_outcome.error.code;
}

static uint64_t purge(struct js_rig *rig, const char *name, const char *filter, uint64_t below,
                      uint64_t keep)
{
    struct rb_js_change change = { .done = keep_outcome };
    rb_js_stream_purge(js_rig_stream(rig, name), rb_slice_text(filter), below, keep, &change);
    js_rig_settle(rig);
    assert_int_equal(last_outcome.error.code, 0);
    return last_outcome.value;
}

static void deletes_and_purges(void **state)
{
    struct js_rig *rig = *state;
    uint64_t first;
    make(rig, "{\"name\":\"P7\",\"subjects\":[\"p7.>\"]}");
    for (int i = 0; i < 4; i++) {
        js_rig_publish(rig, "p7.a", NULL, NULL, "x");
    }
    js_rig_settle(rig);
    assert_int_equal(delete_message(rig, "P7", 2), 0);
    assert_int_equal(delete_message(rig, "P7", 2), 10043);
    assert_string_equal(last_outcome.error.text, "sequence 2 not found");
    assert_int_equal(delete_message(rig, "P7", 9), 10057);
    assert_string_equal(last_outcome.error.text, "stream store EOF");
    assert_int_equal(purge(rig, "P7", "", 1, 0), 0);
    assert_int_equal(purge(rig, "P7", "", 3, 0), 1);
    assert_int_equal(purge(rig, "P7", "", 0, 1), 1);
    assert_int_equal(purge(rig, "P7", "", 3, 0), 0);
    assert_int_equal(purge(rig, "P7", "", 9, 0), 1);
    assert_int_equal(purge(rig, "P7", "p7.b", 99, 0), 0);
    assert_int_equal(messages_of(rig, "P7", &first), 0);
    assert_int_equal(first, 9);
    assert_int_equal(delete_message(rig, "P7", 0), 10057);
    assert_string_equal(last_outcome.error.text, "no message found");
}

/* Too much waits: 429 with a status line, and the message is not stored. */
static void too_many_wait(void **state)
{
    struct js_rig *rig = *state;
    rig->settings.max_buffered_msgs = 3;
    make(rig, "{\"name\":\"Q\",\"subjects\":[\"q\"]}");
    js_rig_listen(rig, "answers");
    for (int i = 0; i < 5; i++) {
        js_rig_publish(rig, "q", "answers", NULL, "x");
    }
    js_rig_settle(rig);
    assert_int_equal(js_rig_heard(rig, "answers"), 5);
    const struct js_rig_message *message = js_rig_nth(rig, "answers", 0);
    assert_memory_equal(message->payload, "NATS/1.0 429 Too Many Requests\r\n\r\n",
                        message->header_len);
    assert_string_equal(message->body, ERR("Q", 429, 10167, "too many requests"));
    assert_string_equal(js_rig_nth(rig, "answers", 4)->body, OK("Q", 3));
    assert_int_equal(messages_of(rig, "Q", NULL), 3);
    assert_int_equal(rb_js_stream_refused(js_rig_stream(rig, "Q")), 2);
}

/* True: the answer is 503, for that subject. */
static bool not_taken(struct js_rig *rig, const char *subject)
{
    char wanted[256];
    (void)snprintf(wanted, sizeof(wanted), "NATS/1.0 503\r\nNats-Subject: %s\r\n\r\n", subject);
    const struct js_rig_message *message = js_rig_request_message(rig, subject, NULL, "+ACK");
    return message != NULL && message->header_len == strlen(wanted) &&
           memcmp(message->payload, wanted, message->header_len) == 0;
}

/* Of clients on other shards: those on this one hear of no responders anyway. The hash is that of account "A". */
static void acks_for_nobody(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"S\",\"subjects\":[\"s\"]}");
    assert_non_null(js_rig_request(rig, "$JS.API.CONSUMER.CREATE.S.C", NULL,
                                   "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"C\","
                                   "\"ack_policy\":\"explicit\"}}"));
    assert_non_null(js_rig_request(rig, "$JS.API.CONSUMER.CREATE.S.N", NULL,
                                   "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"N\","
                                   "\"ack_policy\":\"none\"}}"));
    assert_true(not_taken(rig, "$JS.ACK.S.X.1.0.0.1.0"));
    assert_true(not_taken(rig, "$JS.ACK.S.N.1.0.0.1.0"));
    assert_true(not_taken(rig, "$JS.ACK.S.C.1.0.0.1"));
    assert_true(not_taken(rig, "$JS.ACK._.NUmM6cRy.S.C.1.0.0.1.0"));
    assert_true(not_taken(rig, "$JS.ACK.hub.NUmM6cRx.S.C.1.0.0.1.0"));
    assert_true(not_taken(rig, "$JS.FC.S.C.abcd"));
    assert_string_equal(js_rig_request(rig, "$JS.ACK.S.C.1.0.0.1.0", NULL, "+ACK"), "");
    assert_string_equal(js_rig_request(rig, "$JS.ACK._.NUmM6cRx.S.C.1.0.0.1.0.more", NULL, "+ACK"),
                        "");
    assert_false(not_taken(rig, "$JS.ACK._.NUmM6cRx.S.C.1.0.0.1.0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(plain_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(acks_for_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(order_of_checks, setup, teardown),
        cmocka_unit_test_setup_teardown(lifetimes_and_rollups, setup, teardown),
        cmocka_unit_test_setup_teardown(limits, setup, teardown),
        cmocka_unit_test_setup_teardown(account_and_server_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(dedup_window, setup, teardown),
        cmocka_unit_test_setup_teardown(max_age, setup, teardown),
        cmocka_unit_test_setup_teardown(delete_markers, setup, teardown),
        cmocka_unit_test_setup_teardown(interest_without_consumers, setup, teardown),
        cmocka_unit_test_setup_teardown(transforms_and_republish, setup, teardown),
        cmocka_unit_test_setup_teardown(headers_are_cleaned, setup, teardown),
        cmocka_unit_test_setup_teardown(first_sequence_and_domain, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_streams, setup, teardown),
        cmocka_unit_test_setup_teardown(life, setup, teardown),
        cmocka_unit_test_setup_teardown(deletes_and_purges, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_wait, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
