/* Batches: all or nothing, what breaks one, and what their publisher is told. The bytes were taken from nats-server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js_rig.h"

#define CREATE "{\"name\":\"B\",\"subjects\":[\"b.>\"],\"allow_atomic\":true,\"max_msg_size\":600}"
#define ERR(status, code, text)                                                                    \
    "{\"error\":{\"code\":" #status ",\"err_code\":" #code ",\"description\":\"" text              \
    "\"},\"stream\":\"B\",\"seq\":0}"

static int setup(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 5);
    js_rig_open(rig);
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

static const char *send(struct js_rig *rig, const char *id, unsigned sequence, const char *more)
{
    char headers[4096];
    (void)snprintf(headers, sizeof(headers), "Nats-Batch-Id: %s\r\nNats-Batch-Sequence: %u\r\n%s",
                   id, sequence, more);
    return js_rig_request(rig, "b.a", headers, "x");
}

static uint64_t messages(struct js_rig *rig)
{
    struct rb_msgstore_state store;
    rb_msgstore_state(js_rig_stream(rig, "B")->store, &store);
    return store.messages;
}

static void all_or_nothing(void **state)
{
    struct js_rig *rig = *state;
    assert_string_equal(send(rig, "one", 1, ""), "");
    assert_string_equal(send(rig, "one", 2, ""), "");
    assert_int_equal(messages(rig), 0);
    assert_string_equal(send(rig, "one", 3, "Nats-Batch-Commit: 1\r\n"),
                        "{\"stream\":\"B\",\"seq\":3,\"batch\":\"one\",\"count\":3}");
    assert_int_equal(messages(rig), 3);
    /* The marker is not stored; the last one before it says that it commits. */
    assert_string_equal(send(rig, "two", 1, ""), "");
    assert_string_equal(send(rig, "two", 2, "Nats-Batch-Commit: eob\r\n"),
                        "{\"stream\":\"B\",\"seq\":4,\"batch\":\"two\",\"count\":1}");
    struct rb_message message;
    assert_int_equal(js_rig_get(rig, js_rig_stream(rig, "B"), 4, &message), RB_OK);
    static const char stored[] = "NATS/1.0\r\nNats-Batch-Id: two\r\nNats-Batch-Sequence: 1\r\n"
                                 "Nats-Batch-Commit: 1\r\n\r\nx";
    assert_int_equal(message.payload.len, sizeof(stored) - 1);
    assert_memory_equal(message.payload.ptr, stored, sizeof(stored) - 1);
    js_rig_close(rig);
    js_rig_open(rig);
    assert_int_equal(messages(rig), 4);
}

/* Each in the first message of a batch of two: refused when it commits, and nothing is stored. */
static void refused_at_commit(void **state)
{
    struct js_rig *rig = *state;
    char big[1024] = "X: ";
    memset(big + 3, 'y', 700);
    strcat(big, "\r\n");
    const struct {
        const char *first, *second, *wanted;
    } rows[] = {
        { "Nats-Expected-Last-Msg-Id: x\r\n", "",
          ERR(400, 10177, "atomic publish unsupported header used: Nats-Expected-Last-Msg-Id") },
        { "", "Nats-Expected-Last-Sequence: 1\r\n", ERR(400, 10164, "wrong last sequence") },
        { "", "Nats-Expected-Last-Sequence: 4\r\n", ERR(400, 10071, "wrong last sequence: 1") },
        { "Nats-Expected-Last-Sequence: 99\r\n", "", ERR(400, 10071, "wrong last sequence: 0") },
        { "", "Nats-Expected-Last-Subject-Sequence: 5\r\n",
          ERR(400, 10164, "wrong last sequence") },
        { "Nats-Expected-Last-Subject-Sequence: 77\r\n", "",
          ERR(400, 10071, "wrong last sequence: 0") },
        { "Nats-Msg-Id: q\r\n", "Nats-Msg-Id: q\r\n",
          ERR(400, 10201, "atomic publish batch contains duplicate message id") },
        { "Nats-TTL: 5s\r\n", "", ERR(400, 10166, "per-message TTL is disabled") },
        { "Nats-TTL: bogus\r\n", "", ERR(400, 10166, "per-message TTL is disabled") },
        { "Nats-Rollup: sub\r\n", "", ERR(500, 10111, "rollup not permitted") },
        { "Nats-Expected-Stream: X\r\n", "", ERR(400, 10060, "expected stream does not match") },
        { "Nats-Incr: 1\r\n", "", ERR(400, 10168, "message counters is disabled") },
        { "Nats-Schedule: @at x\r\n", "", ERR(400, 10188, "message schedules is disabled") },
        { "Nats-Stream-Source: x\r\n", "",
          ERR(400, 10227, "message stream source header is not allowed") },
        { "Nats-Schedule-Next: purge\r\n", "",
          ERR(400, 10212, "message schedules invalid scheduler") },
        { "", big, ERR(400, 10054, "message size exceeds maximum allowed") },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char id[16], second[2048];
        (void)snprintf(id, sizeof(id), "r%zu", i);
        (void)snprintf(second, sizeof(second), "%sNats-Batch-Commit: 1\r\n", rows[i].second);
        assert_string_equal(send(rig, id, 1, rows[i].first), "");
        assert_string_equal(send(rig, id, 2, second), rows[i].wanted);
        assert_int_equal(messages(rig), 0);
    }
}

static void broken(void **state)
{
    struct js_rig *rig = *state;
    js_rig_listen(rig, "$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.B");
    const char *incomplete = ERR(400, 10176, "atomic publish batch is incomplete");
    char long_id[66];
    memset(long_id, 'x', 65);
    long_id[65] = '\0';
    assert_string_equal(send(rig, long_id, 1, ""),
                        ERR(400, 10179, "atomic publish batch ID is invalid"));
    assert_string_equal(js_rig_request(rig, "b.a", "Nats-Batch-Id: y\r\n", "x"),
                        ERR(400, 10175, "atomic publish sequence is missing"));
    assert_string_equal(send(rig, "y", 2, ""), incomplete);
    assert_string_equal(send(rig, "y", 0, ""), incomplete);
    assert_string_equal(send(rig, "y", 1, "Nats-Batch-Commit: eob\r\n"), incomplete);
    assert_string_equal(send(rig, "y2", 1, ""), "");
    assert_string_equal(send(rig, "y2", 1, ""), incomplete);
    assert_string_equal(send(rig, "y3", 1, ""), "");
    assert_string_equal(send(rig, "y3", 3, ""), incomplete);
    assert_string_equal(send(rig, "y3", 2, ""), incomplete);
    assert_string_equal(send(rig, "y4", 1, "Nats-Required-Api-Level: 9\r\n"),
                        ERR(412, 10185, "JetStream minimum api level required"));
    assert_string_equal(send(rig, "y5", 1, ""), "");
    assert_string_equal(send(rig, "y5", 2, "Nats-Batch-Commit: zz\r\n"),
                        ERR(400, 10200, "atomic publish batch commit is invalid"));
    uint32_t before = js_rig_heard(rig, "$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.B");
    assert_int_equal(
        before, 3); /* y2, y3 and y4: what never was a batch, or ended with a bad commit, is none */
    /* Silence ends a batch. */
    assert_string_equal(send(rig, "late", 1, ""), "");
    js_rig_advance(rig, UINT64_C(10500000000));
    assert_int_equal(js_rig_heard(rig, "$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.B"), before + 1);
    const struct js_rig_message *advisory =
        js_rig_nth(rig, "$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.B", before);
    assert_non_null(strstr(advisory->body, "\"stream\":\"B\",\"batch\":\"late\","
                                           "\"reason\":\"timeout\""));
    assert_string_equal(send(rig, "late", 2, "Nats-Batch-Commit: 1\r\n"), incomplete);
    assert_int_equal(messages(rig), 0);
    assert_int_equal(rig->shared.batches, 0);
}

static void limits(void **state)
{
    struct js_rig *rig = *state;
    rig->settings.batch_inflight_per_stream = 2;
    rig->settings.batch_msgs = 3;
    assert_string_equal(send(rig, "a", 1, ""), "");
    assert_string_equal(send(rig, "b", 1, ""), "");
    const char *got = send(rig, "c", 1, "");
    assert_non_null(strstr(got, "\"err_code\":10210"));
    assert_string_equal(send(rig, "a", 2, ""), "");
    assert_string_equal(send(rig, "a", 3, ""), "");
    assert_string_equal(send(rig, "a", 4, ""),
                        ERR(400, 10199, "atomic publish batch is too large: 3"));
    assert_int_equal(rig->shared.batches, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_or_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_at_commit, setup, teardown),
        cmocka_unit_test_setup_teardown(broken, setup, teardown),
        cmocka_unit_test_setup_teardown(limits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
