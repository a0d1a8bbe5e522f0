/* test_json_out.c - JSON, times and floats as Go writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "server/json_out.h"

struct fixture {
    struct rb_text text;
    struct rb_json_out json;
};

static struct fixture begin(uint32_t indent, size_t max)
{
    struct fixture f;
    rb_text_init(&f.text, max);
    return f;
}

#define BEGIN(f, indent, max)                                                                      \
    struct fixture f = begin(indent, max);                                                         \
    rb_json_out_init(&f.json, &f.text, indent)

static void indents_as_go(void **state)
{
    BEGIN(f, 2, 4096);
    rb_json_out_object(&f.json);
    rb_json_out_set_text(&f.json, "a", "x");
    rb_json_out_key(&f.json, "empty");
    rb_json_out_object(&f.json);
    rb_json_out_object_end(&f.json);
    rb_json_out_key(&f.json, "none");
    rb_json_out_array(&f.json);
    rb_json_out_array_end(&f.json);
    rb_json_out_key(&f.json, "list");
    rb_json_out_array(&f.json);
    rb_json_out_uint(&f.json, UINT64_MAX);
    rb_json_out_int(&f.json, INT64_MIN);
    rb_json_out_null(&f.json);
    rb_json_out_array_end(&f.json);
    rb_json_out_set_bool(&f.json, "t", true);
    rb_json_out_object_end(&f.json);
    assert_string_equal(f.text.ptr, "{\n  \"a\": \"x\",\n  \"empty\": {},\n  \"none\": [],\n"
                                    "  \"list\": [\n    18446744073709551615,\n"
                                    "    -9223372036854775808,\n    null\n  ],\n  \"t\": true\n}");
    rb_text_deinit(&f.text);
}

/* JSON of others is laid out as our own, members can be left out. */
static void takes_in_what_is_there(void **state)
{
    static const char raw[] = "{\"a\":[1,{\"b\":\"x,\\\"}\"}],\"e\":{},\"n\":[]}";
    BEGIN(f, 2, 4096);
    rb_json_out_object(&f.json);
    rb_json_out_key(&f.json, "k");
    rb_json_out_raw(&f.json, rb_slice_text(raw));
    rb_json_out_raw_members(&f.json, RB_S("\"one\":{\"a\":\"},\"},\"two\":[2,3],\"three\":4"),
                            "two");
    rb_json_out_set_uint(&f.json, "z", 5);
    rb_json_out_object_end(&f.json);
    assert_string_equal(
        f.text.ptr, "{\n  \"k\": {\n    \"a\": [\n      1,\n      {\n        \"b\": \"x,\\\"}\"\n  "
                    "    }\n    ],"
                    "\n    \"e\": {},\n    \"n\": []\n  },\n  \"one\": {\n    \"a\": \"},\"\n  },\n"
                    "  \"three\": 4,\n  \"z\": 5\n}");
    rb_text_deinit(&f.text);
    BEGIN(flat, 0, 4096);
    rb_json_out_raw(&flat.json, rb_slice_text(raw));
    assert_string_equal(flat.text.ptr, raw);
    rb_text_deinit(&flat.text);
}

static void stays_on_one_line(void **state)
{
    BEGIN(f, 0, 4096);
    rb_json_out_object(&f.json);
    rb_json_out_set_text(&f.json, "a", NULL);
    rb_json_out_set_uint(&f.json, "b", 0);
    rb_json_out_object_end(&f.json);
    assert_string_equal(f.text.ptr, "{\"a\":\"\",\"b\":0}");
    rb_text_deinit(&f.text);
}

static void leaves_out_what_is_empty(void **state)
{
    BEGIN(f, 0, 4096);
    rb_json_out_object(&f.json);
    rb_json_out_opt_text(&f.json, "a", "");
    rb_json_out_opt_text(&f.json, "b", NULL);
    rb_json_out_opt_string(&f.json, "c", (struct rb_slice){ 0 });
    rb_json_out_opt_uint(&f.json, "d", 0);
    rb_json_out_opt_float(&f.json, "e", 0);
    rb_json_out_opt_bool(&f.json, "f", false);
    rb_json_out_opt_bool(&f.json, "g", true);
    rb_json_out_object_end(&f.json);
    assert_string_equal(f.text.ptr, "{\"g\":true}");
    rb_text_deinit(&f.text);
}

static void escapes_as_go(void **state)
{
    static const struct {
        struct rb_slice in;
        const char *out;
    } cases[] = {
        { RB_S("plain"), "\"plain\"" },
        { RB_S("<a href=\"x\">&</a>"),
          "\"\\u003ca href=\\\"x\\\"\\u003e\\u0026\\u003c/a\\u003e\"" },
        { RB_S("\b\f\n\r\t\\\x01\x1f\x7f"), "\"\\b\\f\\n\\r\\t\\\\\\u0001\\u001f\x7f\"" },
        { RB_S("a\0b"), "\"a\\u0000b\"" },
        { RB_S("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
          "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"" },
        { RB_S("\xe2\x80\xa8\xe2\x80\xa9"), "\"\\u2028\\u2029\"" },
        { RB_S("\xff\xc3"), "\"\\ufffd\\ufffd\"" },            /* no start, cut off */
        { RB_S("\xc0\x80"), "\"\\ufffd\\ufffd\"" },            /* overlong */
        { RB_S("\xed\xa0\x80"), "\"\\ufffd\\ufffd\\ufffd\"" }, /* surrogate */
        { RB_S("\xf4\x90\x80\x80"), "\"\\ufffd\\ufffd\\ufffd\\ufffd\"" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        BEGIN(f, 0, 4096);
        rb_json_out_string(&f.json, cases[i].in);
        assert_string_equal(f.text.ptr, cases[i].out);
        rb_text_deinit(&f.text);
    }
}

static void floats_are_shortest(void **state)
{
    static const struct {
        double in;
        const char *out;
    } cases[] = {
        { 0, "0" },
        { 2, "2" },
        { -1.5, "-1.5" },
        { 0.1, "0.1" },
        { 2.0 / 7, "0.2857142857142857" },
        { 1e20, "100000000000000000000" },
        { 1e21, "1e+21" },
        { 1e-6, "0.000001" },
        { 1e-7, "1e-7" },
        { 1.25e-9, "1.25e-9" },
        { 1e100, "1e+100" },
        { 123456789, "123456789" },
        { 9007199254740993.0, "9007199254740992" },
        { 1.7976931348623157e308, "1.7976931348623157e+308" },
        { 5e-324, "5e-324" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[40];
        assert_string_equal(rb_float_text(cases[i].in, text), cases[i].out);
    }
}

static void times_are_rfc3339(void **state)
{
    char text[RB_TIME_TEXT_MAX];
    uint64_t at = UINT64_C(1764038539) * 1000000000;
    assert_string_equal(rb_time_text(at, false, text), "2025-11-25T02:42:19Z");
    assert_string_equal(rb_time_text(at + 438509995, false, text),
                        "2025-11-25T02:42:19.438509995Z");
    assert_string_equal(rb_time_text(at + 616510320, false, text), "2025-11-25T02:42:19.61651032Z");
    assert_string_equal(rb_time_text(at + 1, false, text), "2025-11-25T02:42:19.000000001Z");
    assert_string_equal(rb_time_text(0, false, text), "0001-01-01T00:00:00Z");
    assert_int_equal(setenv("TZ", "XXX-5:30", 1), 0);
    tzset();
    assert_string_equal(rb_time_text(at, true, text), "2025-11-25T08:12:19+05:30");
    assert_int_equal(setenv("TZ", "XXX3", 1), 0);
    tzset();
    assert_string_equal(rb_time_text(at, true, text), "2025-11-24T23:42:19-03:00");
    assert_int_equal(setenv("TZ", "UTC", 1), 0);
    tzset();
    assert_string_equal(rb_time_text(at, true, text), "2025-11-25T02:42:19Z");
}

static void uptimes_name_every_smaller_unit(void **state)
{
    static const struct {
        uint64_t seconds;
        const char *out;
    } cases[] = {
        { 0, "0s" },
        { 59, "59s" },
        { 60, "1m0s" },
        { 3600, "1h0m0s" },
        { 86399, "23h59m59s" },
        { 86400, "1d0h0m0s" },
        { 365 * 86400 - 1, "364d23h59m59s" },
        { 366 * 86400 + 3, "1y1d0h0m3s" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[RB_UPTIME_TEXT_MAX];
        assert_string_equal(rb_uptime_text(cases[i].seconds * 1000000000 + 999999999, text),
                            cases[i].out);
    }
}

static void durations_are_gos(void **state)
{
    static const struct {
        uint64_t ns;
        const char *duration, *rtt;
    } cases[] = {
        { 0, "0s", "0s" },
        { 999, "999ns", "999ns" },
        { 1000, "1µs", "1µs" },
        { 481234, "481.234µs", "481µs" },
        { 999999, "999.999µs", "999µs" },
        { 1234000, "1.234ms", "1.234ms" },
        { 1234567, "1.234567ms", "1.234567ms" },
        { 1500000000, "1.5s", "1.5s" },
        { UINT64_C(3661000000001), "1h1m1.000000001s", "1h1m1.000000001s" },
        { UINT64_C(60000000000), "1m0s", "1m0s" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[RB_UPTIME_TEXT_MAX];
        assert_string_equal(rb_duration_text(cases[i].ns, text), cases[i].duration);
        assert_string_equal(rb_rtt_text(cases[i].ns, text), cases[i].rtt);
    }
}

/* A text that is full takes nothing more, and says so; what was written stays whole. */
static void refuses_beyond_its_limit(void **state)
{
    struct rb_text text;
    rb_text_init(&text, 4);
    rb_text_puts(&text, "1234");
    assert_false(text.failed);
    rb_text_puts(&text, "");
    assert_false(text.failed);
    rb_text_puts(&text, "5");
    assert_true(text.failed);
    rb_text_printf(&text, "%d", 6);
    assert_string_equal(text.ptr, "1234");
    rb_text_deinit(&text);
    assert_null(text.ptr);
}

static void grows_by_printf(void **state)
{
    struct rb_text text;
    rb_text_init(&text, 1 << 20);
    for (int i = 0; i < 10000; i++) {
        rb_text_printf(&text, "%05d", i);
    }
    assert_int_equal(text.len, 50000);
    assert_memory_equal(text.ptr + 49995, "09999", 6);
    rb_text_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(indents_as_go),     cmocka_unit_test(takes_in_what_is_there),
        cmocka_unit_test(stays_on_one_line), cmocka_unit_test(leaves_out_what_is_empty),
        cmocka_unit_test(escapes_as_go),     cmocka_unit_test(floats_are_shortest),
        cmocka_unit_test(times_are_rfc3339), cmocka_unit_test(uptimes_name_every_smaller_unit),
        cmocka_unit_test(durations_are_gos), cmocka_unit_test(refuses_beyond_its_limit),
        cmocka_unit_test(grows_by_printf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
