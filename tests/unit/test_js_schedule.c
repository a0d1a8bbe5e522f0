/* Schedules: when they are due, in every zone; what they produce, and what a restart or a replacement makes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js/api_inside.h"
#include "js/cron.h"
#include "js_rig.h"
#include "proto/gotime.h"

#define SECOND_NS UINT64_C(1000000000)

static int setup(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 31);
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

static uint64_t time_of(const char *text)
{
    char error[RB_GO_TIME_ERROR_MAX];
    int64_t ns;
    if (!rb_go_time(rb_slice_text(text), &ns, error)) {
        fail_msg("%s: %s", text, error);
    }
    return (uint64_t)ns;
}

static void expect_next(struct rb_zones *zones, const char *pattern, const char *zone,
                        const char *from, const char *wanted)
{
    struct rb_cron cron;
    assert_true(rb_cron_parse(rb_slice_text(pattern), &cron));
    const struct rb_zone *found = rb_zone_find(zones, rb_slice_text(zone));
    assert_true(zone[0] == '\0' || found != NULL);
    uint64_t next = rb_cron_next(&cron, found, time_of(from));
    if (next != time_of(wanted)) {
        fail_msg("%s in \"%s\" after %s: %llu instead of %s", pattern, zone, from,
                 (unsigned long long)(next / SECOND_NS), wanted);
    }
}

static void cron_patterns(void **state)
{
    static const char *const good[] = {
        "* * * * * *",     "0 0 0 29 2 *",      "*/5 10-20/3 1/2 ? * *",
        "0 0 0 1 JAN MON", "1,2,3 0 0 * * sun", "@hourly",
        "@every 1s",       "@every 1h30m",      "@at 2030-01-01T00:00:00Z",
    };
    static const char *const bad[] = {
        "",
        "* * * * *",
        "* * * * * * *",
        "60 * * * * *",
        "* * 24 * * *",
        "* * * 0 * *",
        "* * * * 13 *",
        "* * * * * 7",
        "5-1 * * * * *",
        "*/0 * * * * *",
        "1, * * * * *",
        "- * * * * *",
        "0 0 0 31 2 *",
        "@every 999ms",
        "@every",
        "@at",
        "@at 2030",
        "@never",
        "x * * * * *",
    };
    struct rb_cron cron;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!rb_cron_parse(rb_slice_text(good[i]), &cron)) {
            fail_msg("refused: %s", good[i]);
        }
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (rb_cron_parse(rb_slice_text(bad[i]), &cron)) {
            fail_msg("taken: %s", bad[i]);
        }
    }
}

static void cron_times(void **state)
{
    struct rb_budget budget = { 0 };
    struct rb_zones zones;
    rb_zones_init(&zones, &budget);
    expect_next(&zones, "@hourly", "", "2024-02-28T23:00:00Z", "2024-02-29T00:00:00Z");
    expect_next(&zones, "@yearly", "", "2024-02-28T23:00:00Z", "2025-01-01T00:00:00Z");
    expect_next(&zones, "@weekly", "", "2026-11-25T00:00:00Z", "2026-11-29T00:00:00Z");
    expect_next(&zones, "0 30 9 * * MON-FRI", "", "2026-11-27T10:00:00Z", "2026-11-30T09:30:00Z");
    expect_next(&zones, "0 0 0 13 * FRI", "", "2026-11-25T00:00:00Z", "2026-11-27T00:00:00Z");
    expect_next(&zones, "*/15 * * * * *", "", "2026-11-25T00:00:15.5Z", "2026-11-25T00:00:30Z");
    expect_next(&zones, "0 0 0 29 2 *", "", "2025-01-01T00:00:00Z", "2028-02-29T00:00:00Z");
    if (rb_zone_find(&zones, RB_S("Europe/Berlin")) != NULL) { /* a machine may have no zones */
        expect_next(&zones, "@daily", "Europe/Berlin", "2026-07-01T00:00:00Z",
                    "2026-07-01T22:00:00Z");
        expect_next(&zones, "@daily", "Europe/Berlin", "2026-12-01T00:00:00Z",
                    "2026-12-01T23:00:00Z");
        expect_next(&zones, "0 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z",
                    "2026-03-30T00:30:00Z"); /* there is no such time on the 29th */
        expect_next(&zones, "@daily", "Europe/Berlin", "2061-07-01T00:00:00Z",
                    "2061-07-01T22:00:00Z"); /* behind the last transition: by rule */
        expect_next(&zones, "@daily", "Australia/Sydney", "2061-01-01T00:00:00Z",
                    "2061-01-01T13:00:00Z");
        expect_next(&zones, "@daily", "Asia/Kolkata", "2026-01-01T00:00:00Z",
                    "2026-01-01T18:30:00Z");
        expect_next(&zones, "@daily", "America/New_York", "1999-12-31T12:00:00Z",
                    "2000-01-01T05:00:00Z");
    }
    assert_null(rb_zone_find(&zones, RB_S("../../etc/passwd")));
    assert_null(rb_zone_find(&zones, RB_S("/etc/passwd")));
    assert_null(rb_zone_find(&zones, RB_S("Europe")));
    assert_null(rb_zone_find(&zones, RB_S("")));
    rb_zones_deinit(&zones);
    assert_int_equal(budget.used_bytes, 0);
}

static void make(struct js_rig *rig)
{
    struct rb_js_error error;
    if (js_rig_create(rig,
                      "{\"name\":\"C\",\"subjects\":[\"c.>\"],\"allow_msg_schedules\":true,"
                      "\"allow_msg_ttl\":true}",
                      &error) == NULL) {
        fail_msg("%u %s", error.code, error.text);
    }
}

static void expect(struct js_rig *rig, const char *subject, const char *headers, const char *body,
                   const char *wanted)
{
    const char *got = js_rig_request(rig, subject, headers, body);
    if (got == NULL || strstr(got, wanted) == NULL) {
        fail_msg("%s %s: expected %s, got %s", subject, headers == NULL ? "" : headers, wanted,
                 got == NULL ? "nothing" : got);
    }
}

static uint64_t count_of(struct js_rig *rig, const char *subject)
{
    struct rb_msgstore_subject info;
    return rb_msgstore_subject(js_rig_stream(rig, "C")->store, rb_slice_text(subject), &info)
               ? info.count
               : 0;
}

static void once(void **state)
{
    struct js_rig *rig = *state;
    make(rig);
    /* The rig's clock begins at 2023-11-14T22:13:21Z. */
    expect(rig, "c.s",
           "Nats-Schedule: @at 2023-11-14T22:14:00Z\r\nNats-Schedule-Target: c.t\r\n"
           "Nats-Schedule-TTL: 5m\r\nOther: x\r\n",
           "body", "\"seq\":1}");
    js_rig_advance(rig, 30 * SECOND_NS);
    assert_int_equal(count_of(rig, "c.t"), 0);
    js_rig_advance(rig, 15 * SECOND_NS);
    assert_int_equal(count_of(rig, "c.t"), 1);
    assert_int_equal(count_of(rig, "c.s"), 0);
    const struct js_rig_message *got =
        js_rig_request_message(rig, "$JS.API.STREAM.MSG.GET.C", NULL, "{\"seq\":2}");
    static const char wanted[] = "NATS/1.0\r\nOther: x\r\nNats-Scheduler: c.s\r\n"
                                 "Nats-Schedule-Next: purge\r\nNats-TTL: 5m\r\n\r\n";
    struct rb_out base64;
    rb_out_init(&base64, NULL);
    rb_out_base64(&base64, rb_slice_text(wanted));
    rb_out_put(&base64, rb_slice_of("", 1));
    assert_non_null(strstr(got->body, (const char *)base64.bytes));
    rb_out_deinit(&base64);
}

static void repeats(void **state)
{
    struct js_rig *rig = *state;
    make(rig);
    expect(rig, "c.s", "Nats-Schedule: @every 10s\r\nNats-Schedule-Target: c.t\r\n", "a",
           "\"seq\":1}");
    js_rig_advance(rig, 35 * SECOND_NS);
    assert_int_equal(count_of(rig, "c.t"), 3);
    js_rig_cut(rig, true); /* from the log */
    rig->now_ns += 100 * SECOND_NS;
    js_rig_open(rig);
    js_rig_advance(rig, SECOND_NS);
    assert_int_equal(count_of(rig, "c.t"), 4); /* what was missed comes once */
    js_rig_close(rig);                         /* from the checkpoint */
    js_rig_open(rig);
    js_rig_advance(rig, 20 * SECOND_NS);
    assert_int_equal(count_of(rig, "c.t"), 6);
    expect(rig, "c.s", "Nats-Schedule: @every 10s\r\nNats-Schedule-Target: c.u\r\n", "b",
           "\"seq\":");
    js_rig_advance(rig, 11 * SECOND_NS);
    assert_int_equal(count_of(rig, "c.t"), 6);
    assert_int_equal(count_of(rig, "c.u"), 1);
    assert_int_equal(count_of(rig, "c.s"), 1);
    expect(rig, "c.end", "Nats-Schedule-Next: purge\r\nNats-Scheduler: c.s\r\n", "", "\"seq\":");
    assert_int_equal(count_of(rig, "c.s"), 0);
    js_rig_advance(rig, 30 * SECOND_NS);
    assert_int_equal(count_of(rig, "c.u"), 1);
}

static void sources_of_bodies(void **state)
{
    struct js_rig *rig = *state;
    make(rig);
    js_rig_publish(rig, "c.now", NULL, "A: b\r\n", "reading 1");
    expect(rig, "c.s",
           "Nats-Schedule: @every 10s\r\nNats-Schedule-Target: c.t\r\n"
           "Nats-Schedule-Source: c.now\r\nNats-Schedule-Rollup: sub\r\n",
           "own", "\"seq\":2}");
    js_rig_advance(rig, 10 * SECOND_NS + SECOND_NS / 2);
    js_rig_publish(rig, "c.now", NULL, NULL, "reading 2");
    js_rig_advance(rig, 10 * SECOND_NS);
    assert_int_equal(count_of(rig, "c.t"), 1);
    expect(rig, "$JS.API.STREAM.MSG.GET.C", NULL, "{\"last_by_subj\":\"c.t\"}",
           "\"data\":\"cmVhZGluZyAy\"");
    expect(rig, "$JS.API.STREAM.PURGE.C", NULL, "{\"filter\":\"c.s\"}", "\"purged\":1");
    js_rig_advance(rig, 60 * SECOND_NS);
    assert_int_equal(count_of(rig, "c.t"), 1); /* it went with its message */
}

static void rules(void **state)
{
    struct js_rig *rig = *state;
    make(rig);
    static const struct {
        const char *headers, *code;
    } refused[] = {
        { "Nats-Schedule: soon\r\nNats-Schedule-Target: c.t\r\n", "10189" },
        { "Nats-Schedule: @hourly\r\n", "10190" },
        { "Nats-Schedule: @hourly\r\nNats-Schedule-Target: d.t\r\n", "10190" },
        { "Nats-Schedule: @hourly\r\nNats-Schedule-Target: c.t\r\nNats-Schedule-TTL: x\r\n",
          "10191" },
        { "Nats-Schedule: @hourly\r\nNats-Schedule-Target: c.t\r\nNats-Rollup: all\r\n", "10192" },
        { "Nats-Schedule: @hourly\r\nNats-Schedule-Target: c.t\r\nNats-Schedule-Source: c.t\r\n",
          "10203" },
        { "Nats-Schedule: @hourly\r\nNats-Schedule-Target: c.t\r\n"
          "Nats-Schedule-Time-Zone: Europe/Nowhere\r\n",
          "10223" },
        { "Nats-Schedule: @every 1h\r\nNats-Schedule-Target: c.t\r\n"
          "Nats-Schedule-Time-Zone: UTC\r\n",
          "10189" },
        { "Nats-Scheduler: c.x\r\n", "10212" },
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        expect(rig, "c.s", refused[i].headers, "", refused[i].code);
    }
    expect(rig, "c.plain", NULL, "m", "\"seq\":1}");
    expect(rig, "c.s", "Nats-Schedule-Next: purge\r\nNats-Scheduler: c.plain\r\n", "", "10212");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cron_patterns),
        cmocka_unit_test(cron_times),
        cmocka_unit_test_setup_teardown(once, setup, teardown),
        cmocka_unit_test_setup_teardown(repeats, setup, teardown),
        cmocka_unit_test_setup_teardown(sources_of_bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(rules, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
