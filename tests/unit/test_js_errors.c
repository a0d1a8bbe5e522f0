/* The errors of the API: numbers, placeholders, the document. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "js/doc.h"
#include "js/errors.h"

static void every_code_has_its_words(void **state)
{
    (void)state;
    for (uint16_t code = 10002; code <= 10227; code++) {
        struct rb_js_error error = { 0 };
        rb_js_error_set_two(&error, code, "one", "two");
        assert_int_equal(error.code, code);
        assert_in_range(error.status, 400, 503);
        assert_true(error.text[0] != '\0');
        assert_null(strchr(error.text, '{'));
    }
}

static void placeholders_are_filled(void **state)
{
    (void)state;
    struct rb_js_error error;
    rb_js_error_set(&error, 10059, NULL);
    assert_string_equal(error.text, "stream not found");
    assert_int_equal(error.status, 404);
    rb_js_error_set(&error, 10043, "7");
    assert_string_equal(error.text, "sequence 7 not found");
    rb_js_error_format(&error, 10071, "%d", 12);
    assert_string_equal(error.text, "wrong last sequence: 12");
    assert_int_equal(error.status, 400);
    rb_js_error_set_two(&error, 10021, "a.b", "$JS.API");
    assert_string_equal(error.text, "stream external api prefix a.b must not overlap with $JS.API");
}

/* A detail from outside may be longer than the text may be: it is cut. */
static void long_details_are_cut(void **state)
{
    (void)state;
    char detail[2 * RB_JS_ERROR_TEXT_MAX];
    memset(detail, 'x', sizeof(detail) - 1);
    detail[sizeof(detail) - 1] = '\0';
    struct rb_js_error error;
    rb_js_error_set(&error, 10025, detail);
    assert_int_equal(strlen(error.text), RB_JS_ERROR_TEXT_MAX - 1);
    assert_memory_equal(error.text, "invalid JSON: xx", 16);
}

static void errors_are_documents(void **state)
{
    (void)state;
    struct rb_js_error error;
    struct rb_out out;
    rb_out_init(&out, NULL);
    rb_js_error_set(&error, 10052, "subject \"a\" overlaps with \"b>\"");
    rb_js_error_write(&out, &error);
    assert_true(rb_slice_equal(rb_out_slice(&out),
                               RB_S("{\"code\":500,\"err_code\":10052,\"description\":\"subject "
                                    "\\\"a\\\" overlaps with \\\"b\\u003e\\\"\"}")));
    rb_out_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_words),
        cmocka_unit_test(placeholders_are_filled),
        cmocka_unit_test(long_details_are_cut),
        cmocka_unit_test(errors_are_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
