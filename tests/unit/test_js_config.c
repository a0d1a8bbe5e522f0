/* Configurations of streams: what the checks say and what they make of them. The texts were taken from nats-server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js/duration.h"
#include "js_rig.h"

static int setup(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 7);
    js_rig_open(rig);
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

/* Reads, checks; the normalised document in `out`, or the error. */
static bool check(struct js_rig *rig, const char *json, bool pedantic, const char *update,
                  char out[4096], struct rb_js_error *error)
{
    struct rb_arena *arena;
    char text[RB_DOC_ERROR_MAX];
    struct rb_js_stream_config config, old;
    assert_int_equal(rb_arena_create(1024, &arena), RB_OK);
    if (!rb_doc_read(arena, &rb_js_stream_config_type, rb_slice_text(json), true, &config, text)) {
        fail_msg("%s: %s", json, text);
    }
    config.pedantic = pedantic;
    if (update != NULL) {
        assert_true(
            rb_doc_read(arena, &rb_js_stream_config_type, rb_slice_text(update), true, &old, text));
        old.pedantic = false;
        assert_true(rb_js_stream_config_check(js_rig_js_account(rig), &old, arena, NULL, error));
    }
    error->code = 0;
    bool good = rb_js_stream_config_check(js_rig_js_account(rig), &config, arena,
                                          update == NULL ? NULL : &old, error);
    if (good) {
        struct rb_out written;
        rb_out_init(&written, NULL);
        rb_doc_write(&written, &rb_js_stream_config_type, &config);
        assert_false(written.failed);
        (void)snprintf(out, 4096, "%.*s", RB_S_ARG(rb_out_slice(&written)));
        rb_out_deinit(&written);
    }
    rb_arena_destroy(arena);
    return good;
}

struct row {
    const char *json;
    uint16_t code;
    const char *text;
};

static void expect_errors(struct js_rig *rig, const struct row *rows, size_t count, bool pedantic,
                          const char *update)
{
    for (size_t i = 0; i < count; i++) {
        struct rb_js_error error;
        char out[4096];
        if (check(rig, rows[i].json, pedantic, update, out, &error) || error.code != rows[i].code ||
            strcmp(error.text, rows[i].text) != 0) {
            fail_msg("%s: expected %u \"%s\", got %u \"%s\"", rows[i].json, rows[i].code,
                     rows[i].text, error.code, error.text);
        }
    }
}
#define EXPECT(rig, rows, pedantic, update)                                                        \
    expect_errors(rig, rows, sizeof(rows) / sizeof((rows)[0]), pedantic, update)

static void invalid(void **state)
{
    static const struct row rows[] = {
        { "{\"name\":\"a.b\"}", 10052,
          "stream name is required and can not contain '.', '*', '>', '\\', '/'" },
        { "{}", 10052, "stream name is required and can not contain '.', '*', '>', '\\', '/'" },
        { "{\"name\":\"A\",\"sealed\":true}", 10052,
          "stream configuration for create can not be sealed" },
        { "{\"name\":\"A\",\"mirror_direct\":true}", 10052,
          "stream has no mirror but does have mirror direct" },
        { "{\"name\":\"A\",\"max_age\":50}", 10052, "max age needs to be >= 100ms" },
        { "{\"name\":\"A\",\"max_age\":-7}", 10052, "max age can not be negative" },
        { "{\"name\":\"A\",\"max_age\":200000000,\"duplicate_window\":300000000}", 10052,
          "duplicates window can not be larger then max age" },
        { "{\"name\":\"A\",\"duplicate_window\":5}", 10052,
          "duplicates window needs to be >= 100ms" },
        { "{\"name\":\"A\",\"duplicate_window\":-5}", 10052,
          "duplicates window can not be negative" },
        { "{\"name\":\"A\",\"duplicate_window\":600000000000}", 10052,
          "duplicates window can not be larger then server limit of 5m0s" },
        { "{\"name\":\"A\",\"subjects\":[\"a..b\"]}", 10052, "invalid subject" },
        { "{\"name\":\"A\",\"subjects\":[\"a b\"]}", 10052, "invalid subject" },
        { "{\"name\":\"A\",\"subjects\":[\"\"]}", 10052, "invalid subject" },
        { "{\"name\":\"A\",\"subjects\":[\"a\",\"a\"]}", 10052,
          "subject \"a\" overlaps with \"a\"" },
        { "{\"name\":\"A\",\"subjects\":[\"a.*\",\"a.b\"]}", 10052,
          "subject \"a.*\" overlaps with \"a.b\"" },
        { "{\"name\":\"A\",\"subjects\":[\">\",\"a\"]}", 10052,
          "capturing all subjects requires no-ack to be true" },
        { "{\"name\":\"A\",\"subjects\":[\"$JS.API.x\"]}", 10052,
          "subjects that overlap with jetstream api require no-ack to be true" },
        { "{\"name\":\"A\",\"subjects\":[\"*.x\"]}", 10052,
          "subjects that overlap with jetstream api require no-ack to be true" },
        { "{\"name\":\"A\",\"subjects\":[\"$SYS.x\"]}", 10052,
          "subjects that overlap with system api require no-ack to be true" },
        { "{\"name\":\"A\",\"deny_purge\":true,\"allow_rollup_hdrs\":true}", 10052,
          "roll-ups require the purge permission" },
        { "{\"name\":\"A\",\"discard_new_per_subject\":true}", 10052,
          "discard new per subject requires discard new policy to be set" },
        { "{\"name\":\"A\",\"discard\":\"new\",\"discard_new_per_subject\":true}", 10052,
          "discard new per subject requires max msgs per subject > 0" },
        { "{\"name\":\"A\",\"subject_delete_marker_ttl\":5}", 10052,
          "subject delete marker TTL must be at least 1 second" },
        { "{\"name\":\"A\",\"subject_delete_marker_ttl\":-5}", 10052,
          "subject delete marker TTL must not be negative" },
        { "{\"name\":\"A\",\"num_replicas\":6}", 10052, "maximum replicas is 5" },
        { "{\"name\":\"A\",\"num_replicas\":3}", 10074,
          "replicas > 1 not supported in non-clustered mode" },
        { "{\"name\":\"A\",\"num_replicas\":-1}", 10133, "replicas count cannot be negative" },
        { "{\"name\":\"A\",\"republish\":{\"dest\":\"A\"}}", 10052,
          "stream configuration for republish destination forms a cycle" },
        { "{\"name\":\"A\",\"republish\":{\"src\":\"x\",\"dest\":\"*\"}}", 10052,
          "stream configuration for republish destination forms a cycle" },
        { "{\"name\":\"A\",\"subject_transform\":{\"src\":\"a..\",\"dest\":\"b\"}}", 10155,
          "stream transform source: invalid subject a.." },
        { "{\"name\":\"A\",\"subject_transform\":{\"src\":\"a.*\",\"dest\":\"b.{{wildcard(3)}}\"}}",
          10156,
          "stream transform: invalid mapping destination: wildcard index out of range in "
          "{{wildcard(3)}}: [3]" },
        { "{\"name\":\"A\",\"placement\":{\"preferred\":\"x\"}}", 10052,
          "preferred server not permitted in placement" },
        { "{\"name\":\"A\",\"persist_mode\":\"async\",\"storage\":\"memory\"}", 10052,
          "async persist mode is only supported on file storage" },
        { "{\"name\":\"A\",\"persist_mode\":\"async\",\"allow_atomic\":true}", 10052,
          "async persist mode is not supported with atomic batch publish" },
        { "{\"name\":\"A\",\"compression\":\"s2\"}", 10052,
          "compression s2 is not supported by ringbus yet" },
    };
    struct js_rig *rig = *state;
    rig->settings.duplicate_window = INT64_C(300000000000);
    EXPECT(rig, rows, false, NULL);
}

static void pedantic(void **state)
{
    static const struct row rows[] = {
        { "{\"name\":\"A\",\"max_msgs\":-5}", 10157, "pedantic mode: max_msgs must be set to -1" },
        { "{\"name\":\"A\",\"max_bytes\":-7}", 10157,
          "pedantic mode: max_bytes must be set to -1" },
        { "{\"name\":\"A\",\"max_msg_size\":-7}", 10157,
          "pedantic mode: max_msg_size must be set to -1" },
        { "{\"name\":\"A\",\"max_consumers\":-7}", 10157,
          "pedantic mode: max_consumers must be set to -1" },
        { "{\"name\":\"A\",\"max_msgs_per_subject\":-7}", 10157,
          "pedantic mode: max_msgs_per_subject must be set to -1" },
        { "{\"name\":\"A\",\"max_age\":200000000}", 10157,
          "pedantic mode: duplicate window cannot be bigger than max age" },
        { "{\"name\":\"A\",\"republish\":{\"dest\":\"y.>\"}}", 10157,
          "pedantic mode: republish source can not be empty" },
        { "{\"name\":\"A\",\"subjects\":[\"a.>\"],\"subject_transform\":{\"src\":\"a.>\",\"dest\":"
          "\"z.>\"},\"republish\":{\"src\":\">\",\"dest\":\">\"}}",
          10157, "pedantic mode: implicit republish based on subject transform" },
        { "{\"name\":\"A\",\"subject_delete_marker_ttl\":5000000000}", 10052,
          "subject delete marker cannot be set if message TTLs are disabled" },
        { "{\"name\":\"A\",\"subject_delete_marker_ttl\":5000000000,\"allow_msg_ttl\":true}", 10052,
          "subject delete marker cannot be set if roll-ups are disabled" },
    };
    struct js_rig *rig = *state;
    EXPECT(rig, rows, true, NULL);
}

#define BASE                                                                                       \
    "{\"name\":\"A\",\"storage\":\"file\",\"deny_delete\":true,\"deny_purge\":true,"               \
    "\"allow_msg_ttl\":true}"
static void updates(void **state)
{
    static const struct row rows[] = {
        { "{\"name\":\"B\"}", 10052, "stream configuration name must match original" },
        { "{\"name\":\"A\",\"storage\":\"memory\"}", 10052,
          "stream configuration update can not change storage type" },
        { "{\"name\":\"A\",\"retention\":\"workqueue\"}", 10052,
          "stream configuration update can not change retention policy to/from workqueue" },
        { "{\"name\":\"A\"}", 10052,
          "stream configuration update can not cancel deny message deletes" },
        { "{\"name\":\"A\",\"deny_delete\":true}", 10052,
          "stream configuration update can not cancel deny purge" },
        { "{\"name\":\"A\",\"deny_delete\":true,\"deny_purge\":true}", 10052,
          "message TTL status can not be disabled" },
        { "{\"name\":\"A\",\"deny_delete\":true,\"deny_purge\":true,\"allow_msg_ttl\":true,"
          "\"persist_mode\":\"async\"}",
          10052, "stream configuration update can not change persist mode" },
    };
    struct js_rig *rig = *state;
    EXPECT(rig, rows, false, BASE);
    char out[4096];
    struct rb_js_error error;
    assert_true(check(rig,
                      "{\"name\":\"A\",\"deny_delete\":true,\"deny_purge\":true,"
                      "\"allow_msg_ttl\":true,\"sealed\":true,\"max_age\":1000000000}",
                      false, BASE, out, &error));
    assert_non_null(strstr(out, "\"max_age\":0"));
    assert_non_null(strstr(out, "\"discard\":\"new\""));
    assert_non_null(strstr(out, "\"sealed\":true"));
}

/* Every field, its place and its default, as nats-server prints them. */
static void documents(void **state)
{
    static const struct {
        const char *json, *wanted;
    } rows[] = {
        { "{\"name\":\"A3\",\"max_msgs\":-5}",
          "{\"name\":\"A3\",\"subjects\":[\"A3\"],\"retention\":\"limits\",\"max_consumers\":-1,"
          "\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0,\"max_msgs_per_subject\":-1,"
          "\"max_msg_size\":-1,\"discard\":\"old\",\"storage\":\"file\",\"num_replicas\":1,"
          "\"duplicate_window\":120000000000,\"compression\":\"none\",\"allow_direct\":false,"
          "\"mirror_direct\":false,\"sealed\":false,\"deny_delete\":false,\"deny_purge\":false,"
          "\"allow_rollup_hdrs\":false,\"consumer_limits\":{},\"allow_msg_ttl\":false,"
          "\"metadata\":{\"_nats.req.level\":\"0\"}}" },
        { "{\"name\":\"S\",\"subjects\":[\"s.>\"],\"metadata\":{\"b\":\"1\",\"a\":\"2\",\"_nats."
          "x\":"
          "\"y\",\"_nats.req.level\":\"77\",\"_nats.ver\":\"1\"},\"placement\":{\"tags\":[\"x\"]},"
          "\"republish\":{\"dest\":\"r.>\"},\"subject_transform\":{\"src\":\"s.a\",\"dest\":\"s."
          "b\"}"
          ",\"consumer_limits\":{\"max_ack_pending\":5},\"allow_atomic\":true,\"allow_msg_ttl\":"
          "true,\"subject_delete_marker_ttl\":2000000000,\"discard\":\"New\","
          "\"discard_new_per_subject\":true,\"max_msgs_per_subject\":3,\"description\":\"d\","
          "\"first_seq\":5}",
          "{\"name\":\"S\",\"description\":\"d\",\"subjects\":[\"s.\\u003e\"],\"retention\":"
          "\"limits\",\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0,"
          "\"max_msgs_per_subject\":3,\"max_msg_size\":-1,\"discard\":\"new\",\"storage\":\"file\","
          "\"num_replicas\":1,\"duplicate_window\":120000000000,\"placement\":{\"tags\":[\"x\"]},"
          "\"compression\":\"none\",\"first_seq\":5,\"subject_transform\":{\"src\":\"s.a\","
          "\"dest\":"
          "\"s.b\"},\"republish\":{\"src\":\"\\u003e\",\"dest\":\"r.\\u003e\"},\"allow_direct\":"
          "false,\"mirror_direct\":false,\"discard_new_per_subject\":true,\"sealed\":false,"
          "\"deny_delete\":false,\"deny_purge\":false,\"allow_rollup_hdrs\":true,"
          "\"consumer_limits\":{\"max_ack_pending\":5},\"allow_msg_ttl\":true,"
          "\"subject_delete_marker_ttl\":2000000000,\"allow_atomic\":true,\"metadata\":"
          "{\"_nats.req.level\":\"2\",\"_nats.x\":\"y\",\"a\":\"2\",\"b\":\"1\"}}" },
        { "{\"name\":\"A9\",\"placement\":{},\"max_age\":200000000,\"persist_mode\":\"async\"}",
          "{\"name\":\"A9\",\"subjects\":[\"A9\"],\"retention\":\"limits\",\"max_consumers\":-1,"
          "\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":200000000,\"max_msgs_per_subject\":-1,"
          "\"max_msg_size\":-1,\"discard\":\"old\",\"storage\":\"file\",\"num_replicas\":1,"
          "\"duplicate_window\":200000000,\"compression\":\"none\",\"allow_direct\":false,"
          "\"mirror_direct\":false,\"sealed\":false,\"deny_delete\":false,\"deny_purge\":false,"
          "\"allow_rollup_hdrs\":false,\"consumer_limits\":{},\"allow_msg_ttl\":false,"
          "\"persist_mode\":\"async\",\"metadata\":{\"_nats.req.level\":\"2\"}}" },
    };
    struct js_rig *rig = *state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char out[4096];
        struct rb_js_error error;
        if (!check(rig, rows[i].json, false, NULL, out, &error)) {
            fail_msg("%s: %u %s", rows[i].json, error.code, error.text);
        }
        assert_string_equal(out, rows[i].wanted);
    }
}

static void limits_of_accounts(void **state)
{
    struct js_rig *rig = *state;
    struct rb_js_error error;
    rig->limits = (struct rb_js_limits){ .max_memory = 1000,
                                         .max_storage = 1000,
                                         .max_streams = 2,
                                         .max_consumers = 5,
                                         .max_ack_pending = -1,
                                         .memory_max_stream_bytes = 600,
                                         .storage_max_stream_bytes = 700,
                                         .max_bytes_required = true };
    js_rig_accounts_changed(rig);
    static const struct row rows[] = {
        { "{\"name\":\"A\"}", 10113, "account requires a stream config to have max bytes set" },
        { "{\"name\":\"A\",\"max_bytes\":701}", 10122,
          "stream max bytes exceeds account limit max stream bytes" },
        { "{\"name\":\"A\",\"max_bytes\":601,\"storage\":\"memory\"}", 10122,
          "stream max bytes exceeds account limit max stream bytes" },
    };
    EXPECT(rig, rows, false, NULL);
    assert_null(
        js_rig_create(rig, "{\"name\":\"A\",\"max_bytes\":600,\"max_consumers\":6}", &error));
    assert_int_equal(error.code, 10026);
    assert_non_null(js_rig_create(rig, "{\"name\":\"A\",\"max_bytes\":600}", &error));
    assert_int_equal(js_rig_js_account(rig)->reserved_storage, 600);
    assert_null(js_rig_create(rig, "{\"name\":\"B\",\"max_bytes\":600}", &error));
    assert_int_equal(error.code, 10047);
    assert_true(js_rig_update(rig, "{\"name\":\"A\",\"max_bytes\":300}", &error));
    assert_int_equal(js_rig_js_account(rig)->reserved_storage, 300);
    assert_non_null(js_rig_create(rig, "{\"name\":\"B\",\"max_bytes\":600}", &error));
    assert_null(js_rig_create(rig, "{\"name\":\"C\",\"max_bytes\":10}", &error));
    assert_int_equal(error.code, 10027);
    assert_true(js_rig_delete(rig, "A", &error));
    assert_int_equal(js_rig_js_account(rig)->reserved_storage, 600);
    assert_int_equal(rig->shared.reserved_storage, 600);
}

static void durations(void **state)
{
    static const struct {
        int64_t ns;
        const char *text;
    } rows[] = {
        { 0, "0s" },
        { 1, "1ns" },
        { 1500, "1.5\xc2\xb5s" },
        { 2000000, "2ms" },
        { 1000000000, "1s" },
        { 60000000000, "1m0s" },
        { 3661500000000, "1h1m1.5s" },
        { -5000000000, "-5s" },
        { INT64_MAX, "2562047h47m16.854775807s" },
    };
    char out[RB_JS_DURATION_MAX];
    int64_t ns;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(rb_js_duration_format(rows[i].ns, out), strlen(rows[i].text));
        assert_string_equal(out, rows[i].text);
        assert_true(rb_js_duration_parse(rb_slice_text(out), &ns));
        assert_int_equal(ns, rows[i].ns);
    }
    static const char *const bad[] = {
        "", "5", "s", "1x", "-", ".s", "1h5", "9223372036855s", "1 s"
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(rb_js_duration_parse(rb_slice_text(bad[i]), &ns));
    }
    assert_true(rb_js_duration_parse(RB_S("+1.5h"), &ns));
    assert_int_equal(ns, INT64_C(5400000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(invalid, setup, teardown),
        cmocka_unit_test_setup_teardown(pedantic, setup, teardown),
        cmocka_unit_test_setup_teardown(updates, setup, teardown),
        cmocka_unit_test_setup_teardown(documents, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_of_accounts, setup, teardown),
        cmocka_unit_test(durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
