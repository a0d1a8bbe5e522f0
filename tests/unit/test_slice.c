/* test_slice.c - slices, readers, writers, numbers and quoting; the texts of the error codes. */
#include "ringbus/slice.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <xxhash.h>

#include "ringbus/errors.h"

static void slices_compare(void **state)
{
    assert_true(rb_slice_equal(RB_S("abc"), rb_slice_text("abc")));
    assert_false(rb_slice_equal(RB_S("abc"), RB_S("abd")));
    assert_false(rb_slice_equal(RB_S("abc"), RB_S("ab")));
    assert_true(rb_slice_equal(RB_S(""), rb_slice_of(NULL, 0)));
    assert_true(rb_slice_equal(rb_slice_text(NULL), RB_S("")));
    assert_true(rb_slice_starts(RB_S("_INBOX.x"), RB_S("_INBOX.")));
    assert_true(rb_slice_starts(RB_S("a"), rb_slice_of(NULL, 0)));
    assert_false(rb_slice_starts(RB_S("_INB"), RB_S("_INBOX.")));
}

/* Only ASCII letters fold: '@' and '`', '[' and '{' differ by the same bit and must stay apart. */
static void fold_knows_letters_only(void **state)
{
    assert_true(rb_slice_equal_fold(RB_S("NATS/1.0 azAZ"), RB_S("nats/1.0 AZaz")));
    assert_false(rb_slice_equal_fold(RB_S("@"), RB_S("`")));
    assert_false(rb_slice_equal_fold(RB_S("["), RB_S("{")));
    assert_false(rb_slice_equal_fold(RB_S("\xc4"), RB_S("\xe4")));
    assert_false(rb_slice_equal_fold(RB_S("ab"), RB_S("abc")));
    assert_true(rb_slice_equal_fold(rb_slice_of(NULL, 0), RB_S("")));
}

static void decimals_are_digits_only(void **state)
{
    static const struct {
        const char *text;
        size_t digits_max;
        bool ok;
        uint64_t value;
    } cases[] = {
        { "0", 1, true, 0 },
        { "007", 3, true, 7 },
        { "65535", 5, true, 65535 },
        { "999999999999999999", 18, true, UINT64_C(999999999999999999) },
        { "", 5, false, 0 },
        { "123456", 5, false, 0 },
        { "+1", 5, false, 0 },
        { "-1", 5, false, 0 },
        { " 1", 5, false, 0 },
        { "1 ", 5, false, 0 },
        { "1,1", 5, false, 0 },
        { "1/", 5, false, 0 },
        { "1:", 5, false, 0 },
        { "0x1", 5, false, 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t value = 42;
        bool ok = rb_slice_decimal(rb_slice_text(cases[i].text), cases[i].digits_max, &value);
        assert_int_equal(ok, cases[i].ok);
        assert_true(value == (ok ? cases[i].value : 42));
    }
}

static void hash_is_xxh3(void **state)
{
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 7);
    }
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        assert_true(rb_slice_hash(rb_slice_of(bytes, len)) == XXH3_64bits(bytes, len));
    }
    assert_true(rb_slice_hash(rb_slice_of(NULL, 0)) == UINT64_C(0x2d06800538d394c2));
}

static void what_is_written_is_read(void **state)
{
    uint8_t bytes[64];
    struct rb_writer writer = rb_writer_over(bytes, sizeof(bytes));
    rb_write_u8(&writer, 0xfe);
    rb_write_u16(&writer, 0x1234);
    rb_write_u32(&writer, 0xdeadbeef);
    rb_write_u64(&writer, UINT64_C(0x8123456789abcdef));
    rb_write_slice(&writer, RB_S("body"));
    rb_write_slice(&writer, rb_slice_of(NULL, 0));
    assert_true(writer.ok);
    assert_int_equal(rb_writer_len(&writer), 19);
    assert_memory_equal(bytes, "\xfe\x34\x12\xef\xbe\xad\xde\xef\xcd\xab\x89\x67\x45\x23\x81", 15);

    struct rb_reader reader = rb_reader_over(rb_slice_of(bytes, rb_writer_len(&writer)));
    assert_int_equal(rb_read_u8(&reader), 0xfe);
    assert_int_equal(rb_read_u16(&reader), 0x1234);
    assert_true(rb_read_u32(&reader) == 0xdeadbeef);
    assert_true(rb_read_u64(&reader) == UINT64_C(0x8123456789abcdef));
    struct rb_slice body = rb_read_slice(&reader, 4);
    assert_true(rb_slice_equal(body, RB_S("body")));
    assert_ptr_equal(body.ptr, bytes + 15);
    assert_true(rb_reader_ok(&reader));
    assert_int_equal(rb_read_slice(&reader, 0).len, 0);
    assert_true(rb_reader_ok(&reader));
}

/* After one short read nothing may be read any more, though bytes are left. */
static void short_reads_stick(void **state)
{
    struct rb_reader reader = rb_reader_over(RB_S("\x01\x02\x03"));
    assert_int_equal(rb_read_u8(&reader), 1);
    assert_int_equal(rb_read_u32(&reader), 0);
    assert_false(rb_reader_ok(&reader));
    assert_int_equal(rb_read_u8(&reader), 0);
    assert_int_equal(rb_read_u16(&reader), 0);
    assert_true(rb_read_u64(&reader) == 0);
    assert_int_equal(rb_read_slice(&reader, 0).len, 0);
    assert_int_equal(rb_read_slice(&reader, SIZE_MAX).len, 0);

    struct rb_reader empty = rb_reader_over(rb_slice_of(NULL, 0));
    assert_int_equal(rb_read_slice(&empty, 0).len, 0);
    assert_true(rb_reader_ok(&empty));
    assert_int_equal(rb_read_u8(&empty), 0);
    assert_false(rb_reader_ok(&empty));
}

static void overruns_stick(void **state)
{
    uint8_t bytes[4] = { 9, 9, 9, 9 };
    struct rb_writer writer = rb_writer_over(bytes, 3);
    rb_write_u16(&writer, 0x0201);
    rb_write_u16(&writer, 0x0403);
    assert_false(writer.ok);
    rb_write_u8(&writer, 5);
    rb_write_slice(&writer, RB_S("x"));
    assert_int_equal(rb_writer_len(&writer), 2);
    assert_memory_equal(bytes, "\x01\x02\x09\x09", 4);

    struct rb_writer nowhere = rb_writer_over(NULL, 0);
    rb_write_slice(&nowhere, rb_slice_of(NULL, 0));
    assert_true(nowhere.ok);
    rb_write_decimal(&nowhere, 0);
    assert_false(nowhere.ok);
}

static void assert_decimal(uint64_t value)
{
    char expected[32];
    uint8_t out[20];
    int len = snprintf(expected, sizeof(expected), "%" PRIu64, value);
    assert_int_equal(rb_format_decimal(out, value), len);
    assert_memory_equal(out, expected, (size_t)len);
}

static void decimals_match_printf(void **state)
{
    for (uint64_t value = 0; value < 1200; value++) {
        assert_decimal(value);
    }
    for (uint64_t power = 1; power <= UINT64_MAX / 10; power *= 10) {
        assert_decimal(power * 10 - 1);
        assert_decimal(power * 10);
        assert_decimal(power * 10 + 1);
    }
    assert_decimal(UINT64_MAX);
}

static void assert_quoted(struct rb_slice s, const char *expected)
{
    uint8_t out[256];
    size_t len = rb_format_quoted(out, sizeof(out), s);
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(out, expected, len);
}

static void quoting_escapes_like_go(void **state)
{
    assert_quoted(RB_S(""), "");
    assert_quoted(rb_slice_of(NULL, 0), "");
    assert_quoted(RB_S("foo.bar > *"), "foo.bar > *");
    assert_quoted(RB_S("\a\b\f\n\r\t\v\\\"'"), "\\a\\b\\f\\n\\r\\t\\v\\\\\\\"'");
    assert_quoted(RB_S("\0\x01\x1b[31m\x7f"), "\\x00\\x01\\x1b[31m\\x7f");
    assert_quoted(RB_S("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"),
                  "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
    assert_quoted(RB_S("\xef\xbf\xbd"), "\xef\xbf\xbd"); /* U+FFFD itself is a character */
}

static void quoting_escapes_what_is_no_character(void **state)
{
    assert_quoted(RB_S("\xff\x80"), "\\xff\\x80");
    assert_quoted(RB_S("\xc0\xaf"), "\\xc0\\xaf");                   /* overlong '/' */
    assert_quoted(RB_S("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");          /* overlong */
    assert_quoted(RB_S("\xed\xa0\x80"), "\\xed\\xa0\\x80");          /* surrogate */
    assert_quoted(RB_S("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80"); /* above U+10FFFF */
    assert_quoted(RB_S("\xe2\x82"), "\\xe2\\x82");                   /* cut off */
    assert_quoted(RB_S("\xe2\x82x"), "\\xe2\\x82x");
}

static void quoting_escapes_what_hides(void **state)
{
    assert_quoted(RB_S("\xc2\x85"), "\\u0085");
    assert_quoted(RB_S("a\xc2\xa0z"), "a\\u00a0z");
    assert_quoted(RB_S("\xe2\x80\xae"), "\\u202e"); /* right-to-left override */
    assert_quoted(RB_S("\xe2\x80\xa8"), "\\u2028");
    assert_quoted(RB_S("\xef\xbb\xbf"), "\\ufeff");
    assert_quoted(RB_S("\xf3\xa0\x80\x81"), "\\U000e0001");
    assert_quoted(RB_S("\xf4\x8f\xbf\xbf"), "\\U0010ffff");
}

/* A text that does not fit ends before the unit that would be torn, wherever the cut falls. */
static void quoting_cuts_between_units(void **state)
{
    static const size_t expected[] = { 0, 1, 1, 3, 3, 5, 5, 5, 5, 9, 10, 10 };
    uint8_t out[16];
    for (size_t cap = 0; cap < sizeof(expected) / sizeof(expected[0]); cap++) {
        memset(out, '#', sizeof(out));
        size_t len = rb_format_quoted(out, cap, RB_S("a\xc3\xbc\n\x01z"));
        assert_int_equal(len, expected[cap]);
        assert_memory_equal(out, "a\xc3\xbc\\n\\x01z", len);
        assert_int_equal(out[cap], '#');
    }
}

static void every_error_has_a_text(void **state)
{
    for (int a = 0; a < RB_ERR_COUNT; a++) {
        const char *text = rb_err_text((enum rb_err)a);
        assert_string_not_equal(text, rb_err_text(RB_ERR_COUNT));
        for (int b = 0; b < a; b++) {
            assert_string_not_equal(text, rb_err_text((enum rb_err)b));
        }
    }
    assert_non_null(rb_err_text((enum rb_err)1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_compare),
        cmocka_unit_test(fold_knows_letters_only),
        cmocka_unit_test(decimals_are_digits_only),
        cmocka_unit_test(hash_is_xxh3),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(short_reads_stick),
        cmocka_unit_test(overruns_stick),
        cmocka_unit_test(decimals_match_printf),
        cmocka_unit_test(quoting_escapes_like_go),
        cmocka_unit_test(quoting_escapes_what_is_no_character),
        cmocka_unit_test(quoting_escapes_what_hides),
        cmocka_unit_test(quoting_cuts_between_units),
        cmocka_unit_test(every_error_has_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
