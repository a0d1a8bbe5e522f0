/* test_proxy.c - the PROXY protocol header, versions 1 and 2. */
#include "proto/proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define INET_BODY "\x0a\x01\x02\x03\x0a\x00\x00\x01\xd4\x31\x10\x7e"
#define INET6_BODY                                                                                 \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"                                                   \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xd4\x31\x10\x7e"

struct verdict {
    enum rb_proxy_result result;
    size_t len;
    bool has_addr;
    struct rb_addr addr;
    const char *why;
};

/* Parses a heap copy of exactly these bytes, so that a read behind them is caught. */
static struct verdict parse(struct rb_slice in)
{
    struct verdict v = { .len = SIZE_MAX };
    uint8_t *copy = malloc(in.len + (in.len == 0));
    assert_non_null(copy);
    if (in.len != 0) {
        memcpy(copy, in.ptr, in.len);
    }
    v.result = rb_proxy_parse(rb_slice_of(copy, in.len), &v.len, &v.has_addr, &v.addr, &v.why);
    free(copy);
    return v;
}

/* Whole, with the client's bytes behind it, and at each cut: MORE until the last byte is there. */
static void assert_header(struct rb_slice header, const char *addr)
{
    uint8_t *more = malloc(header.len + 6);
    assert_non_null(more);
    memcpy(more, header.ptr, header.len);
    memcpy(more + header.len, "PING\r\n", 6);
    for (size_t len = header.len; len <= header.len + 6; len++) {
        struct verdict v = parse(rb_slice_of(more, len));
        assert_int_equal(v.result, RB_PROXY_DONE);
        assert_int_equal(v.len, header.len);
        assert_int_equal(v.has_addr, addr != NULL);
        if (addr != NULL) {
            char text[RB_ADDR_TEXT_MAX];
            assert_string_equal(rb_addr_format(&v.addr, text), addr);
        }
    }
    for (size_t len = 0; len < header.len; len++) {
        assert_int_equal(parse(rb_slice_of(more, len)).result, RB_PROXY_MORE);
    }
    free(more);
}

static void assert_bad(struct rb_slice in, const char *why)
{
    struct verdict v = parse(in);
    assert_int_equal(v.result, RB_PROXY_BAD);
    assert_string_equal(v.why, why);
    assert_int_equal(v.len, SIZE_MAX); /* outputs of success stay as they were */
}

static void version_1_gives_the_source(void **state)
{
    assert_header(RB_S("PROXY TCP4 10.1.2.3 10.0.0.1 54321 4222\r\n"), "10.1.2.3:54321");
    assert_header(RB_S("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n"), "255.255.255.255:65535");
    assert_header(RB_S("PROXY TCP6 2001:db8::7 2001:db8::1 1 4222\r\n"), "[2001:db8::7]:1");
    assert_header(RB_S("PROXY TCP6 ::ffff:10.1.2.3 ::1 1 4222\r\n"), "10.1.2.3:1");
    assert_header(RB_S("PROXY  TCP4\t10.1.2.3  10.0.0.1 0054321 4222 \r\n"), "10.1.2.3:54321");
}

static void version_1_unknown_keeps_the_socket(void **state)
{
    assert_header(RB_S("PROXY UNKNOWN\r\n"), NULL);
    assert_header(RB_S("PROXY UNKNOWN ::1 whatever stands here, also too many words\r\n"), NULL);
}

/* The longest line the protocol knows, and one byte more. */
static void version_1_has_a_longest_line(void **state)
{
    uint8_t line[108];
    memset(line, 'x', sizeof(line));
    memcpy(line, "PROXY UNKNOWN ", 14);
    memcpy(line + 105, "\r\n", 2);
    assert_header(rb_slice_of(line, 107), NULL);
    memcpy(line + 105, "x\r\n", 3);
    assert_int_equal(parse(rb_slice_of(line, 106)).result, RB_PROXY_MORE);
    assert_bad(rb_slice_of(line, 107), "version 1 line is too long");
    assert_bad(rb_slice_of(line, 108), "version 1 line is too long");
}

static void version_1_refuses(void **state)
{
    static const char fields[] = "version 1 line does not have five fields";
    static const char four[] = "not an IPv4 address", six[] = "not an IPv6 address";
    assert_bad(RB_S("PROXY \r\n"), fields);
    assert_bad(RB_S("PROXY TCP4\r\n"), fields);
    assert_bad(RB_S("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"), fields);
    assert_bad(RB_S("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"), fields);
    assert_bad(RB_S("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"), "protocol is not TCP4, TCP6 or UNKNOWN");
    assert_bad(RB_S("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n"), "protocol is not TCP4, TCP6 or UNKNOWN");
    assert_bad(RB_S("PROXY TCP4 ::1 ::1 1 2\r\n"), four);
    assert_bad(RB_S("PROXY TCP4 1.2.3.4 ::1 1 2\r\n"), four);
    assert_bad(RB_S("PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n"), four);
    assert_bad(RB_S("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"), four);
    assert_bad(RB_S("PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n"), four);
    assert_bad(RB_S("PROXY TCP4 host.example 1.2.3.4 1 2\r\n"), four);
    assert_bad(RB_S("PROXY TCP4 1.2.3.4\0x 1.2.3.4 1 2\r\n"), four);
    assert_bad(RB_S("PROXY TCP6 1.2.3.4 ::1 1 2\r\n"), six);
    assert_bad(RB_S("PROXY TCP6 ::1 1.2.3.4 1 2\r\n"), six);
    assert_bad(RB_S("PROXY TCP6 ::1%1 ::1 1 2\r\n"), six);
    assert_bad(RB_S("PROXY TCP6 1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa ::1 1 2\r\n"),
               six);
    assert_bad(RB_S("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n"), "not a port");
    assert_bad(RB_S("PROXY TCP4 1.2.3.4 1.2.3.4 1 99999999999999999999\r\n"), "not a port");
    assert_bad(RB_S("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n"), "not a port");
    assert_bad(RB_S("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n"), "not a port");
    assert_bad(RB_S("PROXY TCP4 1.2.3.4 1.2.3.4 1 2x\r\n"), "not a port");
}

/* A bare LF does not end the line; it is a blank like any other. */
static void version_1_needs_cr_and_lf(void **state)
{
    assert_int_equal(parse(RB_S("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n")).result, RB_PROXY_MORE);
    assert_int_equal(parse(RB_S("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r")).result, RB_PROXY_MORE);
    assert_header(RB_S("PROXY TCP4 1.2.3.4 1.2.3.4 1\n2\r\n"), "1.2.3.4:1");
}

static void version_2_gives_the_source(void **state)
{
    assert_header(RB_S(SIGNATURE "\x21\x11\0\x0c" INET_BODY), "10.1.2.3:54321");
    assert_header(RB_S(SIGNATURE "\x21\x21\0\x24" INET6_BODY), "[2001:db8::7]:54321");
    /* extensions behind the addresses are skipped */
    assert_header(RB_S(SIGNATURE "\x21\x11\0\x11" INET_BODY "\x04\0\x02hi"), "10.1.2.3:54321");
    assert_header(RB_S(SIGNATURE "\x21\x21\0\x25" INET6_BODY "x"), "[2001:db8::7]:54321");
    assert_header(RB_S(SIGNATURE "\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\x01\x02\x03"
                                 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x07\0\x08"),
                  "10.1.2.3:7");
}

static void version_2_local_keeps_the_socket(void **state)
{
    assert_header(RB_S(SIGNATURE "\x20\0\0\0"), NULL);
    assert_header(RB_S(SIGNATURE "\x20\x11\0\x0c" INET_BODY), NULL);
    assert_header(RB_S(SIGNATURE "\x20\xff\0\x03xyz"),
                  NULL);                                 /* family and transport mean nothing */
    assert_header(RB_S(SIGNATURE "\x21\x01\0\0"), NULL); /* family not said */
    assert_header(RB_S(SIGNATURE "\x21\x01\0\x03xyz"), NULL);
}

static void version_2_refuses(void **state)
{
    assert_bad(RB_S(SIGNATURE "\x11\x11\0\x0c" INET_BODY), "unknown version");
    assert_bad(RB_S(SIGNATURE "\x31\x11\0\x0c"), "unknown version");
    assert_bad(RB_S(SIGNATURE "\x22\x11\0\x0c" INET_BODY), "unknown command");
    assert_bad(RB_S(SIGNATURE "\x21\x10\0\x0c" INET_BODY), "transport is not a stream");
    assert_bad(RB_S(SIGNATURE "\x21\x12\0\x0c" INET_BODY), "transport is not a stream");
    assert_bad(RB_S(SIGNATURE "\x21\0\0\0"), "transport is not a stream");
    assert_bad(RB_S(SIGNATURE "\x21\x31\0\xd8"), "unsupported address family");
    assert_bad(RB_S(SIGNATURE "\x21\xf1\0\x0c" INET_BODY), "unsupported address family");
    assert_bad(RB_S(SIGNATURE "\x21\x11\0\x0b"), "addresses are cut short");
    assert_bad(RB_S(SIGNATURE "\x21\x21\0\x23"), "addresses are cut short");
}

/* A wrong byte of the signature behind the first six is known at once; before, it is no header. */
static void version_2_signature(void **state)
{
    const struct rb_slice whole = RB_S(SIGNATURE "\x20\0\0\0");
    for (size_t i = 0; i < 12; i++) {
        uint8_t bytes[16];
        memcpy(bytes, whole.ptr, 16);
        bytes[i] ^= 0x20;
        enum rb_proxy_result wanted = i < RB_PROXY_DECIDE_BYTES ? RB_PROXY_NONE : RB_PROXY_BAD;
        assert_int_equal(parse(rb_slice_of(bytes, 16)).result, wanted);
        assert_int_equal(parse(rb_slice_of(bytes, i + 1)).result, wanted);
        assert_int_equal(parse(rb_slice_of(bytes, i)).result, RB_PROXY_MORE);
    }
}

/* The length is judged before its bytes come: nobody makes us keep 64 KiB. */
static void version_2_has_a_longest_header(void **state)
{
    uint8_t bytes[RB_PROXY_BYTES_MAX] = { 0 };
    memcpy(bytes, SIGNATURE "\x21\x11\x0f\xf0" INET_BODY, 28);
    assert_header(rb_slice_of(bytes, sizeof(bytes)), "10.1.2.3:54321");
    assert_bad(RB_S(SIGNATURE "\x21\x11\x0f\xf1"), "header is too long");
    assert_bad(RB_S(SIGNATURE "\x20\x11\xff\xff"), "header is too long");
}

static void other_bytes_are_the_clients(void **state)
{
    static const char *const rows[] = {
        "CONNECT {}\r\n", "PING\r\n",  "PUB a 1\r\n", "\x16\x03\x01",
        "proxy TCP4",     "PROXYTCP4", "\r\n\r\nX",   "\n",
        "GET / HTTP/1.1", "X",         "\r\nPING"
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct verdict v = parse(rb_slice_text(rows[i]));
        assert_int_equal(v.result, RB_PROXY_NONE);
        assert_int_equal(v.len, SIZE_MAX);
    }
    assert_int_equal(parse(rb_slice_of(NULL, 0)).result, RB_PROXY_MORE);
    assert_int_equal(parse(RB_S("P")).result, RB_PROXY_MORE);
    assert_int_equal(parse(RB_S("\r\n\r\n")).result, RB_PROXY_MORE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1_gives_the_source),
        cmocka_unit_test(version_1_unknown_keeps_the_socket),
        cmocka_unit_test(version_1_has_a_longest_line),
        cmocka_unit_test(version_1_refuses),
        cmocka_unit_test(version_1_needs_cr_and_lf),
        cmocka_unit_test(version_2_gives_the_source),
        cmocka_unit_test(version_2_local_keeps_the_socket),
        cmocka_unit_test(version_2_refuses),
        cmocka_unit_test(version_2_signature),
        cmocka_unit_test(version_2_has_a_longest_header),
        cmocka_unit_test(other_bytes_are_the_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
