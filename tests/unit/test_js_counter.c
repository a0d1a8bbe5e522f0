/* Counters: arithmetic on numbers of any size, what is stored and told, what survives restarts and deletions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js/decimal.h"
#include "js_rig.h"

static int setup(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 11);
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
    if (got == NULL || strstr(got, wanted) == NULL) {
        fail_msg("%s %s: expected %s, got %s", subject, headers == NULL ? "" : headers, wanted,
                 got == NULL ? "nothing" : got);
    }
}

static void check_sum(const char *a, const char *b, const char *sum, const char *difference)
{
    uint8_t out[64];
    struct rb_slice x = rb_slice_text(a), y = rb_slice_text(b);
    size_t len = rb_decimal_add(x, y, false, out);
    assert_true(len <= rb_decimal_cap(x, y));
    assert_int_equal(len, strlen(sum));
    assert_memory_equal(out, sum, len);
    len = rb_decimal_add(x, y, true, out);
    assert_true(len <= rb_decimal_cap(x, y));
    assert_int_equal(len, strlen(difference));
    assert_memory_equal(out, difference, len);
}

static void decimals(void **state)
{
    check_sum("0", "0", "0", "0");
    check_sum("+5", "-5", "0", "10");
    check_sum("-0", "0", "0", "0");
    check_sum("007", "1", "8", "6");
    check_sum("999", "1", "1000", "998");
    check_sum("1", "999", "1000", "-998");
    check_sum("-1", "-999", "-1000", "998");
    check_sum("-1000", "1", "-999", "-1001");
    check_sum("99999999999999999999999999999999", "1", "100000000000000000000000000000000",
              "99999999999999999999999999999998");
    assert_true(rb_decimal_valid(RB_S("-12")));
    assert_true(rb_decimal_valid(RB_S("+0")));
    assert_false(rb_decimal_valid(RB_S("")));
    assert_false(rb_decimal_valid(RB_S("-")));
    assert_false(rb_decimal_valid(RB_S("1_0")));
    assert_false(rb_decimal_valid(RB_S(" 1")));
}

static void counts(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"C\",\"subjects\":[\"c.>\"],\"allow_msg_counter\":true}");
    expect(rig, "c.x", "Nats-Incr: 5\r\n", "", "{\"stream\":\"C\",\"seq\":1,\"val\":\"5\"}");
    expect(rig, "c.x", "Nats-Incr: +2\r\n", "", "{\"stream\":\"C\",\"seq\":2,\"val\":\"7\"}");
    expect(rig, "c.y", "Nats-Incr: 1\r\n", "", "\"val\":\"1\"}");
    expect(rig, "c.x", "Nats-Incr: -10\r\n", "", "\"seq\":4,\"val\":\"-3\"}");
    expect(rig, "c.x", NULL, "", "\"err_code\":10169");
    expect(rig, "c.x", "Nats-Incr: x\r\n", "", "\"err_code\":10171");
    expect(rig, "c.x", "Nats-Incr: 1\r\n", "body", "\"err_code\":10170");
    expect(rig, "c.x", "Nats-Incr: 1\r\nNats-Rollup: sub\r\n", "", "\"err_code\":10171");
    expect(rig, "c.x", "Nats-Incr: 1\r\nNats-Expected-Stream: C\r\n", "", "\"err_code\":10171");
    expect(rig, "$JS.API.STREAM.MSG.GET.C", NULL, "{\"seq\":4}", "\"data\":\"eyJ2YWwiOiItMyJ9\"");
    make(rig, "{\"name\":\"D\",\"subjects\":[\"d.>\"]}");
    expect(rig, "d.x", "Nats-Incr: 1\r\n", "", "\"err_code\":10168");
}

static void large_numbers(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"C\",\"subjects\":[\"c.>\"],\"allow_msg_counter\":true}");
    char header[10100], wanted[10100];
    memset(header, '9', sizeof(header));
    memcpy(header, "Nats-Incr: ", 11);
    memcpy(header + 11 + 10000, "\r\n", 3);
    js_rig_publish(rig, "c.x", NULL, header, "");
    memset(wanted, '0', sizeof(wanted));
    memcpy(wanted, "\"val\":\"1", 8);
    memcpy(wanted + 8 + 10000, "\"}", 3);
    expect(rig, "c.x", "Nats-Incr: 1\r\n", "", wanted);
}

static void survives(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"C\",\"subjects\":[\"c.>\"],\"allow_msg_counter\":true}");
    expect(rig, "c.x", "Nats-Incr: 5\r\n", "", "\"val\":\"5\"");
    js_rig_cut(rig, true); /* from the log */
    js_rig_open(rig);
    expect(rig, "c.x", "Nats-Incr: 5\r\n", "", "\"val\":\"10\"");
    js_rig_close(rig); /* from the checkpoint */
    js_rig_open(rig);
    expect(rig, "c.x", "Nats-Incr: 5\r\n", "", "\"seq\":3,\"val\":\"15\"");
    expect(rig, "$JS.API.STREAM.PURGE.C", NULL, "", "\"purged\":3");
    expect(rig, "c.x", "Nats-Incr: 2\r\n", "", "\"seq\":4,\"val\":\"2\"");
}

static void deletions(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"C\",\"subjects\":[\"c.>\"],\"allow_msg_counter\":true}");
    for (int i = 0; i < 4; i++) {
        expect(rig, "c.x", "Nats-Incr: 10\r\n", "", "\"val\":\"");
    }
    expect(rig, "$JS.API.STREAM.MSG.DELETE.C", NULL, "{\"seq\":2}", "\"success\":true");
    expect(rig, "c.x", "Nats-Incr: 1\r\n", "", "\"seq\":5,\"val\":\"41\"");
    expect(rig, "$JS.API.STREAM.MSG.DELETE.C", NULL, "{\"seq\":5}", "\"success\":true");
    expect(rig, "$JS.API.STREAM.MSG.DELETE.C", NULL, "{\"seq\":4}", "\"success\":true");
    js_rig_cut(rig, true);
    js_rig_open(rig);
    expect(rig, "c.x", "Nats-Incr: 1\r\n", "", "\"seq\":6,\"val\":\"31\"");
    expect(rig, "$JS.API.STREAM.MSG.DELETE.C", NULL, "{\"seq\":6}", "\"success\":true");
    expect(rig, "$JS.API.STREAM.MSG.DELETE.C", NULL, "{\"seq\":3}", "\"success\":true");
    expect(rig, "$JS.API.STREAM.MSG.DELETE.C", NULL, "{\"seq\":1}", "\"success\":true");
    expect(rig, "c.x", "Nats-Incr: 1\r\n", "", "\"seq\":7,\"val\":\"1\"");
}

/* The one before goes while the deletion of the newest is on its way: the total would be lost, so it stays. */
static void deleted_at_once(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"C\",\"subjects\":[\"c.>\"],\"allow_msg_counter\":true}");
    for (int i = 0; i < 3; i++) {
        expect(rig, "c.x", "Nats-Incr: 10\r\n", "", "\"val\":\"");
    }
    js_rig_listen(rig, "answer.*");
    js_rig_publish(rig, "$JS.API.STREAM.MSG.DELETE.C", "answer.a", NULL, "{\"seq\":2}");
    js_rig_publish(rig, "$JS.API.STREAM.MSG.DELETE.C", "answer.b", NULL, "{\"seq\":3}");
    js_rig_settle(rig);
    assert_non_null(strstr(js_rig_nth(rig, "answer.a", 0)->body, "\"success\":true"));
    assert_non_null(strstr(js_rig_nth(rig, "answer.b", 0)->body, "try again"));
    expect(rig, "c.x", "Nats-Incr: 1\r\n", "", "\"val\":\"31\"");
}

static void batches(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"C\",\"subjects\":[\"c.>\"],\"allow_msg_counter\":true,"
              "\"allow_atomic\":true,\"max_msg_size\":110}");
    expect(rig, "c.x", "Nats-Incr: 1\r\n", "", "\"val\":\"1\"");
    js_rig_publish(rig, "c.x", NULL,
                   "Nats-Incr: 2\r\nNats-Batch-Id: a\r\nNats-Batch-Sequence: 1\r\n", "");
    js_rig_publish(rig, "c.x", NULL,
                   "Nats-Incr: 3\r\nNats-Batch-Id: a\r\nNats-Batch-Sequence: 2\r\n", "");
    expect(rig, "c.y",
           "Nats-Incr: 4000000000\r\nNats-Batch-Id: a\r\nNats-Batch-Sequence: "
           "3\r\nNats-Batch-Commit: 1\r\n",
           "", "\"err_code\":10054"); /* with its total it is too large */
    expect(rig, "c.x", "Nats-Incr: 1\r\n", "", "\"seq\":2,\"val\":\"2\"");
    js_rig_publish(rig, "c.x", NULL,
                   "Nats-Incr: 2\r\nNats-Batch-Id: a\r\nNats-Batch-Sequence: 1\r\n", "");
    expect(rig, "c.x", "Nats-Batch-Id: a\r\nNats-Batch-Sequence: 2\r\nNats-Batch-Commit: eob\r\n",
           "", "\"count\":1");
    expect(rig, "c.x", "Nats-Incr: 1\r\n", "", "\"seq\":4,\"val\":\"5\"");
}

static void rules(void **state)
{
    struct js_rig *rig = *state;
    struct rb_js_error error;
    static const struct {
        const char *json, *text;
    } refused[] = {
        { "{\"name\":\"R\",\"allow_msg_counter\":true,\"discard\":\"new\"}",
          "counter stream cannot use discard new" },
        { "{\"name\":\"R\",\"allow_msg_counter\":true,\"allow_msg_ttl\":true}",
          "counter stream cannot use message TTLs" },
        { "{\"name\":\"R\",\"allow_msg_counter\":true,\"retention\":\"interest\"}",
          "counter stream can only use limits retention" },
        { "{\"name\":\"R\",\"allow_msg_counter\":true,\"allow_msg_schedules\":true}",
          "counter stream cannot use message schedules" },
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_null(js_rig_create(rig, refused[i].json, &error));
        assert_int_equal(error.code, 10052);
        assert_string_equal(error.text, refused[i].text);
    }
    make(rig, "{\"name\":\"R\",\"allow_msg_counter\":true}");
    assert_false(js_rig_update(rig, "{\"name\":\"R\"}", &error));
    assert_string_equal(error.text,
                        "stream configuration update can not change message counter setting");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decimals),
        cmocka_unit_test_setup_teardown(counts, setup, teardown),
        cmocka_unit_test_setup_teardown(large_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(survives, setup, teardown),
        cmocka_unit_test_setup_teardown(deletions, setup, teardown),
        cmocka_unit_test_setup_teardown(deleted_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(batches, setup, teardown),
        cmocka_unit_test_setup_teardown(rules, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
