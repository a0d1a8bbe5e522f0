/* Texts that are JSON, and what is said of those that are not: compared with what nats-server answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/gojson.h"

static void accept(const char *text)
{
    char error[RB_GOJSON_ERROR_MAX] = "";
    if (!rb_gojson_valid(rb_slice_text(text), error)) {
        fail_msg("%s: %s", text, error);
    }
}

static void refuse(const char *text, const char *why)
{
    char error[RB_GOJSON_ERROR_MAX] = "";
    assert_false(rb_gojson_valid(rb_slice_text(text), error));
    assert_string_equal(error, why);
}

static void json_is_accepted(void **state)
{
    (void)state;
    accept("{}");
    accept(" [ ] ");
    accept("null");
    accept("-0.5e+10");
    accept("0");
    accept("\"a\\u00Ff\\n\\\"\"");
    accept("{\"a\":[1,{\"b\":{}},[]],\"c\":\"\",\"d\":true}\r\n");
    accept("[[],{},[{}]]");
}

static void errors_are_those_of_go(void **state)
{
    (void)state;
    refuse("", "unexpected end of JSON input");
    refuse(" ", "unexpected end of JSON input");
    refuse("{", "unexpected end of JSON input");
    refuse("[1,", "unexpected end of JSON input");
    refuse("\"a", "unexpected end of JSON input");
    refuse("{\"a\"", "unexpected end of JSON input");
    refuse("x", "invalid character 'x' looking for beginning of value");
    refuse("{\"a\":}", "invalid character '}' looking for beginning of value");
    refuse("[1,]", "invalid character ']' looking for beginning of value");
    refuse("{\"a\":1,}", "invalid character '}' looking for beginning of object key string");
    refuse("{a}", "invalid character 'a' looking for beginning of object key string");
    refuse("{\"a\" 1}", "invalid character '1' after object key");
    refuse("{\"a\":1 2}", "invalid character '2' after object key:value pair");
    refuse("[1 2]", "invalid character '2' after array element");
    refuse("{} x", "invalid character 'x' after top-level value");
    refuse("tru", "invalid character ' ' in literal true (expecting 'e')");
    refuse("nulL", "invalid character 'L' in literal null (expecting 'l')");
    refuse("\"\\x\"", "invalid character 'x' in string escape code");
    refuse("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape");
    refuse("\"\n\"", "invalid character '\\n' in string literal");
    refuse("-", "invalid character ' ' in numeric literal");
    refuse("1.", "invalid character ' ' after decimal point in numeric literal");
    refuse("1e", "invalid character ' ' in exponent of numeric literal");
    refuse("01", "invalid character '1' after top-level value");
    refuse("'", "invalid character '\\'' looking for beginning of value");
    refuse("\xc3\xa9", "invalid character '\xc3\x83' looking for beginning of value");
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char error[RB_GOJSON_ERROR_MAX] = "";
    size_t len = RB_GOJSON_DEPTH_MAX + 1;
    char *text = malloc(2 * len);
    assert_non_null(text);
    memset(text, '[', len);
    memset(text + len, ']', len);
    assert_true(rb_gojson_valid(rb_slice_of(text + 1, 2 * len - 2), error));
    assert_false(rb_gojson_valid(rb_slice_of(text, 2 * len), error));
    assert_string_equal(error, "exceeded max depth");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_accepted),
        cmocka_unit_test(errors_are_those_of_go),
        cmocka_unit_test(depth_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
