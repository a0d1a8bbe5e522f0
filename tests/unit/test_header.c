/* test_header.c - reading and changing NATS/1.0 header blocks. */
#include "proto/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define BLOCK RB_S("NATS/1.0\r\nA: 1\r\nAb:2\r\nEmpty:\r\nBlank: \t x y \r\nA: again\r\n\r\n")

static void assert_value(struct rb_slice block, const char *key, const char *wanted)
{
    struct rb_slice value = rb_header_get(block, rb_slice_text(key));
    if (wanted == NULL) {
        assert_null(value.ptr);
        return;
    }
    assert_non_null(value.ptr);
    assert_int_equal(value.len, strlen(wanted));
    assert_memory_equal(value.ptr, wanted, value.len);
}

static void values_are_found(void **state)
{
    assert_value(BLOCK, "A", "1");
    assert_value(BLOCK, "Ab", "2");
    assert_value(BLOCK, "Empty", "");
    assert_value(BLOCK, "Blank", "x y ");
    assert_value(BLOCK, "b", NULL); /* not at the start of a line */
    assert_value(BLOCK, "a", NULL); /* byte for byte */
    assert_value(BLOCK, "Abc", NULL);
    assert_value(BLOCK, "", NULL);
    assert_value(BLOCK, "NATS/1.0", NULL);
}

static void status_line_is_not_searched(void **state)
{
    assert_value(RB_S("NATS/1.0 503\r\n\r\n"), "NATS/1.0 503", NULL);
    assert_value(RB_S("A: 1\r\nB: 2\r\n\r\n"), "A", NULL);
    assert_value(RB_S("A: 1\r\nB: 2\r\n\r\n"), "B", "2");
    assert_value(rb_slice_of(NULL, 0), "A", NULL);
}

/* Whatever a client sends: no search leaves the slice (each cut is a block of its own size). */
static void cut_blocks_are_harmless(void **state)
{
    struct rb_slice block = BLOCK;
    for (size_t len = 0; len < block.len; len++) {
        uint8_t *copy = malloc(len + (len == 0));
        memcpy(copy, block.ptr, len);
        struct rb_slice cut = rb_slice_of(copy, len);
        struct rb_slice value = rb_header_get(cut, RB_S("Blank"));
        assert_true(value.ptr == NULL || value.ptr + value.len <= copy + len);
        assert_false(rb_header_valid(cut));
        assert_int_equal(rb_header_status(cut), 0);
        free(copy);
    }
    assert_true(rb_header_valid(block));
}

static void validity(void **state)
{
    static const struct {
        const char *block;
        bool valid;
    } rows[] = {
        { "NATS/1.0\r\n\r\n", true },
        { "NATS/1.0 503\r\n\r\n", true },
        { "NATS/1.0 408 Request Timeout\r\nA: b\r\n\r\n", true },
        { "NATS/1.0\r\nA:b\r\nC:\r\n\r\n", true },
        { "NATS/1.0\r\nA: x\ry\r\n\r\n", true },
        { "", false },
        { "NATS/1.0", false },
        { "NATS/1.0\r\n", false },
        { "NATS/1.0\r\nA: b\r\n", false },
        { "NATS/1.0\r\nA: b\r\n\r", false },
        { "NATS/1.0\r\nnothing\r\n\r\n", false },
        { "NATS/1.0\r\n\r\nA: b\r\n\r\n", false },
        { "NATS/1.0\n\n", false },
        { "NATS/1.01\r\n\r\n", false },
        { "NATS/2.0\r\n\r\n", false },
        { "nats/1.0\r\n\r\n", false },
        { "A: b\r\n\r\n", false },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rb_header_valid(rb_slice_text(rows[i].block)) != rows[i].valid) {
            fail_msg("row %zu: %s", i, rows[i].block);
        }
    }
}

static void status(void **state)
{
    assert_int_equal(rb_header_status(RB_S("NATS/1.0 503\r\n\r\n")), 503);
    assert_int_equal(rb_header_status(RB_S("NATS/1.0 100 Idle Heartbeat\r\nA: 7\r\n\r\n")), 100);
    assert_int_equal(rb_header_status(RB_S("NATS/1.0  404\t\r\n\r\n")), 404);
    assert_int_equal(rb_header_status(RB_S("NATS/1.0\r\n\r\n")), 0);
    assert_int_equal(rb_header_status(RB_S("NATS/1.0503\r\n\r\n")), 0);
    assert_int_equal(rb_header_status(RB_S("NATS/1.0 50x\r\n\r\n")), 0);
    assert_int_equal(rb_header_status(RB_S("NATS/1.0 99999999999\r\n\r\n")), 0);
    assert_int_equal(rb_header_status(RB_S("NATS/1.0\r\n503: x\r\n\r\n")), 0);
    assert_int_equal(rb_header_status(RB_S("HTTP/1.0 503\r\n\r\n")), 0);
}

/* Sets into a heap block of exactly `wanted`'s size; one byte less must be refused. */
static void assert_set(struct rb_slice block, const char *key, const char *value,
                       const char *wanted)
{
    size_t len = strlen(wanted);
    uint8_t *out = malloc(len + 1);
    assert_int_equal(rb_header_set(out, len, block, rb_slice_text(key), rb_slice_text(value)), len);
    assert_memory_equal(out, wanted, len);
    assert_int_equal(rb_header_set(out, len - 1, block, rb_slice_text(key), rb_slice_text(value)),
                     0);
    free(out);
}

static void setting_replaces_or_appends(void **state)
{
    assert_set(rb_slice_of(NULL, 0), "K", "v", "NATS/1.0\r\nK: v\r\n\r\n");
    assert_set(RB_S("NATS/1.0 503\r\n\r\n"), "K", "v", "NATS/1.0 503\r\nK: v\r\n\r\n");
    assert_set(RB_S("NATS/1.0\r\nA: 1\r\n\r\n"), "K", "", "NATS/1.0\r\nA: 1\r\nK: \r\n\r\n");
    assert_set(RB_S("NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n"), "A", "long value",
               "NATS/1.0\r\nA: long value\r\nB: 2\r\n\r\n");
    assert_set(RB_S("NATS/1.0\r\nA:1\r\nA: 2\r\n\r\n"), "A", "x",
               "NATS/1.0\r\nA:x\r\nA: 2\r\n\r\n");
    assert_set(RB_S("NATS/1.0\r\nA:\r\n\r\n"), "A", "x", "NATS/1.0\r\nA:x\r\n\r\n");
}

static void nothing_breaks_a_line(void **state)
{
    uint8_t out[256];
    struct rb_slice block = RB_S("NATS/1.0\r\nA: 1\r\n\r\n");
    struct rb_slice bad_block = RB_S("NATS/1.0\r\nA: 1\r\n");
    assert_int_equal(rb_header_set(out, 256, block, RB_S("K"), RB_S("a\r\nB: c")), 0);
    assert_int_equal(rb_header_set(out, 256, block, RB_S("K"), RB_S("a\n")), 0);
    assert_int_equal(rb_header_set(out, 256, block, RB_S("K\r"), RB_S("a")), 0);
    assert_int_equal(rb_header_set(out, 256, block, RB_S("K:"), RB_S("a")), 0);
    assert_int_equal(rb_header_set(out, 256, block, RB_S(""), RB_S("a")), 0);
    assert_int_equal(rb_header_set(out, 256, bad_block, RB_S("K"), RB_S("a")), 0);
}

static void encodings(void **state)
{
    assert_int_equal(rb_header_encoding(RB_S("")), RB_ENCODING_NONE);
    assert_int_equal(rb_header_encoding(RB_S("deflate, GZip;q=1")), RB_ENCODING_GZIP);
    assert_int_equal(rb_header_encoding(RB_S("gzip, snappy")), RB_ENCODING_IDENTITY);
    assert_int_equal(rb_header_encoding(RB_S("S2")), RB_ENCODING_IDENTITY);
    assert_int_equal(rb_header_encoding(RB_S("gzi")), RB_ENCODING_IDENTITY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_found),
        cmocka_unit_test(status_line_is_not_searched),
        cmocka_unit_test(cut_blocks_are_harmless),
        cmocka_unit_test(validity),
        cmocka_unit_test(status),
        cmocka_unit_test(setting_replaces_or_appends),
        cmocka_unit_test(nothing_breaks_a_line),
        cmocka_unit_test(encodings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
