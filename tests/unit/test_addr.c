/* test_addr.c - end points as text and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ringbus/transport.h"

static void assert_round_trip(const char *host, const char *ip, const char *with_port)
{
    struct rb_addr addr;
    char text[RB_ADDR_TEXT_MAX];
    assert_int_equal(rb_addr_parse(host, 4222, &addr), RB_OK);
    assert_int_equal(addr.port, 4222);
    assert_string_equal(rb_addr_format_ip(&addr, text), ip);
    assert_string_equal(rb_addr_format(&addr, text), with_port);
}

static void literals_round_trip(void **state)
{
    assert_round_trip("1.2.3.4", "1.2.3.4", "1.2.3.4:4222");
    assert_round_trip("255.255.255.255", "255.255.255.255", "255.255.255.255:4222");
    assert_round_trip("", "0.0.0.0", "0.0.0.0:4222");
    assert_round_trip(NULL, "0.0.0.0", "0.0.0.0:4222");
    assert_round_trip("::", "::", "[::]:4222");
    assert_round_trip("::1", "::1", "[::1]:4222");
    assert_round_trip("[::1]", "::1", "[::1]:4222");
    assert_round_trip("2001:DB8:0:0:1::2", "2001:db8::1:0:0:2", "[2001:db8::1:0:0:2]:4222");
    assert_round_trip("::ffff:1.2.3.4", "1.2.3.4", "1.2.3.4:4222");
}

static void bytes_are_in_network_order(void **state)
{
    struct rb_addr addr;
    assert_int_equal(rb_addr_parse("1.2.3.4", 0, &addr), RB_OK);
    assert_int_equal(addr.family, 4);
    assert_memory_equal(addr.ip, "\x01\x02\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    assert_int_equal(addr.port, 0);
    assert_int_equal(rb_addr_parse("1:203::ff", 65535, &addr), RB_OK);
    assert_int_equal(addr.family, 6);
    assert_memory_equal(addr.ip, "\0\x01\x02\x03\0\0\0\0\0\0\0\0\0\0\0\xff", 16);
    assert_int_equal(addr.port, 65535);
    assert_int_equal(addr.scope, 0);
}

static void zones_are_kept(void **state)
{
    struct rb_addr addr;
    assert_round_trip("fe80::1%7", "fe80::1%7", "[fe80::1%7]:4222");
    assert_round_trip("[fe80::1%7]", "fe80::1%7", "[fe80::1%7]:4222");
    assert_int_equal(rb_addr_parse("fe80::1%lo", 1, &addr), RB_OK);
    assert_int_equal(addr.scope, 1); /* the loopback interface is always the first */
    assert_int_equal(rb_addr_parse("fe80::1%no-such-if", 1, &addr), RB_ERR_ADDRESS);
    assert_int_equal(rb_addr_parse("fe80::1%", 1, &addr), RB_ERR_ADDRESS);
    assert_int_equal(rb_addr_parse("fe80::1%7x", 1, &addr), RB_ERR_ADDRESS);
    assert_int_equal(rb_addr_parse("fe80::1%4294967296", 1, &addr), RB_ERR_ADDRESS);
}

/* The longest texts there are must fit RB_ADDR_TEXT_MAX. */
static void longest_text_fits(void **state)
{
    struct rb_addr addr;
    char text[RB_ADDR_TEXT_MAX];
    const char *host = "1111:2222:3333:4444:5555:6666:7777:8888%4294967295";
    assert_int_equal(rb_addr_parse(host, 65535, &addr), RB_OK);
    assert_string_equal(rb_addr_format_ip(&addr, text), host);
    char expected[RB_ADDR_TEXT_MAX];
    snprintf(expected, sizeof(expected), "[%.55s]:65535", host);
    assert_string_equal(rb_addr_format(&addr, text), expected);
}

/* No address: in-process connections. */
static void family_none_is_a_pipe(void **state)
{
    struct rb_addr addr = { .port = 9 };
    char text[RB_ADDR_TEXT_MAX];
    assert_string_equal(rb_addr_format_ip(&addr, text), "pipe");
    assert_string_equal(rb_addr_format(&addr, text), "pipe:9");
    addr.port = 0;
    assert_string_equal(rb_addr_format(&addr, text), "pipe");
}

static void localhost_is_ipv4(void **state)
{
    struct rb_addr addr;
    char text[RB_ADDR_TEXT_MAX];
    assert_int_equal(rb_addr_parse("localhost", 80, &addr), RB_OK);
    assert_string_equal(rb_addr_format(&addr, text), "127.0.0.1:80");
}

/* None of these may reach the resolver: it would take some for addresses, and ask the network for
 * others. */
static void malformed_literals_are_refused(void **state)
{
    static const char *const hosts[] = {
        "1.2.3",      "127.1",      "1.2.3.4.5",   "256.1.1.1", "0x7f.0.0.1", "0x7f000001",
        "2130706433", "1.2.3.",     ".",           "[::1",      "[]",         "[",
        "::1]",       "[1.2.3.4]",  "a:b",         ":::",       "1::2::3",    "12345::",
        "[::1]:80",   "1.2.3.4:80", "example.123", "::1%0",     "host:1",
    };
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        struct rb_addr addr;
        memset(&addr, 0x5a, sizeof(addr));
        struct rb_addr before = addr;
        assert_int_equal(rb_addr_parse(hosts[i], 1, &addr), RB_ERR_ADDRESS);
        assert_memory_equal(&addr, &before, sizeof(addr)); /* outputs change on success only */
    }
}

static void too_long_names_are_refused(void **state)
{
    char host[300];
    struct rb_addr addr;
    memset(host, 'a', sizeof(host));
    host[256] = '\0';
    assert_int_equal(rb_addr_parse(host, 1, &addr), RB_ERR_ADDRESS);
    memset(host, ':', 256);
    assert_int_equal(rb_addr_parse(host, 1, &addr), RB_ERR_ADDRESS);
    memset(host, ':', 255);
    host[255] = '\0';
    assert_int_equal(rb_addr_parse(host, 1, &addr), RB_ERR_ADDRESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_round_trip),
        cmocka_unit_test(bytes_are_in_network_order),
        cmocka_unit_test(zones_are_kept),
        cmocka_unit_test(longest_text_fits),
        cmocka_unit_test(family_none_is_a_pipe),
        cmocka_unit_test(localhost_is_ipv4),
        cmocka_unit_test(malformed_literals_are_refused),
        cmocka_unit_test(too_long_names_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
