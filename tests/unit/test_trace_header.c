/* Header blocks that ask for a trace, and those that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/trace_header.h"

#define BLOCK(lines) "NATS/1.0\r\n" lines "\r\n"
#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"

static void is(struct rb_slice got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.ptr, want, got.len);
}

static struct rb_trace_wish wish_of(const char *text)
{
    struct rb_slice block = rb_slice_text(text);
    struct rb_trace_wish wish = rb_trace_wish(block);
    if (wish.asked) { /* the quick look never misses one, and asking needs room */
        assert_true(block.len >= RB_TRACE_HEADER_MIN);
        assert_true(rb_trace_mentioned(block));
        assert_true(wish.field_count > 0);
    } else {
        assert_int_equal(wish.field_count, 0);
    }
    return wish;
}

static void destinations(void **state)
{
    (void)state;
    is(wish_of(BLOCK("Nats-Trace-Dest:x\r\n")).destination, "x");
    is(wish_of("NATS/1.0\r\nNats-Trace-Dest:x\r\n").destination, "x"); /* the end is missing */
    is(wish_of(BLOCK("a: b\r\nNats-Trace-Dest: \t x.y \t\r\n")).destination, "x.y");
    is(wish_of(BLOCK("Nats-Trace-Dest: x\r\nNats-Trace-Dest: y\r\n")).destination, "x");
    is(wish_of(BLOCK("Nats-Trace-Dest:\r\nNats-Trace-Dest: y\r\n")).destination, "y");
    is(wish_of(BLOCK("odd:\r\nNats-Trace-Dest: y\r\n")).destination, "y");
    struct rb_trace_wish wish =
        wish_of(BLOCK("Accept-Encoding: gzip\r\nNats-Trace-Only: 1\r\nNats-Trace-Dest: x\r\n"
                      "Nats-Trace-Origin-Account: A\r\nNats-Trace-Only: 2\r\n"));
    is(wish.only, "1");
    is(wish.origin, "A");
    is(wish.encoding, "gzip");
    assert_int_equal(wish.field_count, 5);
    assert_false(wish.external);
}

static void none(void **state)
{
    (void)state;
    static const char *const blocks[] = {
        "",
        "NATS/1.0\r\n\r\n",
        BLOCK("Nats-Trace-Dest:\r\n"),
        BLOCK("Nats-Trace-Dest:  \t \r\n"),
        BLOCK("nats-trace-dest: xxxxxx\r\n"),
        BLOCK("Nats-Trace-Dest : xxxxx\r\n"),
        BLOCK("Nats-Trace-Dest: trace disabled\r\n"),
        BLOCK("traceparent: " PARENT "01\r\nNats-Trace-Dest: trace disabled\r\n"),
        BLOCK("odd\r\nNats-Trace-Dest: xxxxxx\r\n"), /* the name is odd CRLF Nats-Trace-Dest */
        "NATS/1.0 503\r\nNats-Trace-Dest: xxxxx\r\n\r\n",
        "NATS/1.0\r\nNats-Trace-Dest: xxxxxxxx",
        "NATS/1.0\r\nNats-Trace-Dest: xxxxxxxx\r",
        "NATS/1.0\nNats-Trace-Dest: xxxxxxxx\r\n\r\n",
        BLOCK("Nats-Trace-Only: true\r\n"),
        BLOCK("a:Nats-Trace-Dest:x\r\nb:traceparent:01\r\n"),
    };
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        assert_false(wish_of(blocks[i]).asked);
    }
    /* the first destination decides before a second one is looked at */
    assert_true(wish_of(BLOCK("Nats-Trace-Dest: x\r\nNats-Trace-Dest: trace disabled\r\n")).asked);
}

static void parents(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        bool sampled;
    } cases[] = {
        { PARENT "01", true },   { PARENT "03", true },  { PARENT "7f", true },
        { PARENT "7F", true },   { PARENT "+1", true },  { PARENT "00", false },
        { PARENT "81", false },  { PARENT "ff", false }, { PARENT "1", false },
        { PARENT "001", false }, { PARENT "0x", false }, { PARENT "-1", false },
        { PARENT "_1", false },  { "---01", true },      { "a-b-01", false },
        { "a-b-c-d-01", false }, { "01", false },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        static const char *const names[] = { "traceparent", "Traceparent", "TRACEPARENT" };
        (void)snprintf(text, sizeof(text), BLOCK("%s: %s\r\nab: cd\r\n"), names[i % 3],
                       cases[i].value);
        struct rb_trace_wish wish = wish_of(text);
        assert_int_equal(wish.asked, cases[i].sampled);
        assert_int_equal(wish.external, cases[i].sampled);
    }
    assert_true(wish_of(BLOCK("traceparent: " PARENT "00\r\ntraceparent: " PARENT "01\r\n")).asked);
    assert_false(wish_of(BLOCK("traceparent: " PARENT "01\r\nNats-Trace-Dest: x\r\n")).external);
}

static void written(const char *block, const char *want)
{
    uint8_t text[1024];
    struct rb_trace_wish wish = wish_of(block);
    struct rb_trace_field *fields = calloc(wish.field_count, sizeof(*fields));
    assert_non_null(fields);
    struct rb_writer out = rb_writer_over(text, sizeof(text));
    rb_trace_write_headers(&out, rb_slice_text(block), fields, wish.field_count);
    assert_true(out.ok);
    is(rb_slice_of(text, rb_writer_len(&out)), want);
    free(fields);
}

static void documents(void **state)
{
    (void)state;
    written(BLOCK("Nats-Trace-Dest: x\r\n"), "{\"Nats-Trace-Dest\":[\"x\"]}");
    written(BLOCK("b: 2\r\nNats-Trace-Dest: x\r\na: 1\r\nb:\r\nb: 1\r\nab: <\r\n: z\r\nB: 3\r\n"),
            "{\"B\":[\"3\"],\"Nats-Trace-Dest\":[\"x\"],\"a\":[\"1\"],\"ab\":[\"\\u003c\"],"
            "\"b\":[\"2\",\"1\"]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(destinations),
        cmocka_unit_test(none),
        cmocka_unit_test(parents),
        cmocka_unit_test(documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
