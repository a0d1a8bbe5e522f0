/* test_encode.c - MSG and HMSG lines, errors, the 503 reply. */
#include "proto/encode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Encodes into a heap block of exactly the needed size and compares with what printf makes. */
static void assert_msg(struct rb_slice subject, struct rb_slice sid, struct rb_slice reply,
                       uint32_t header_len, uint32_t total_len)
{
    char wanted[512];
    char header[16] = "";
    const char *reply_text = reply.len != 0 ? (const char *)reply.ptr : "";
    if (header_len != 0) {
        snprintf(header, sizeof(header), "%u ", header_len);
    }
    int len = snprintf(wanted, sizeof(wanted), "%sMSG %.*s %.*s %.*s%s%s%u\r\n",
                       header_len != 0 ? "H" : "", RB_S_ARG(subject), RB_S_ARG(sid), (int)reply.len,
                       reply_text, reply.len != 0 ? " " : "", header, total_len);
    assert_true((size_t)len <= subject.len + sid.len + reply.len + RB_MSG_LINE_EXTRA);
    uint8_t *out = malloc((size_t)len);
    assert_int_equal(rb_encode_msg(out, subject, sid, reply, header_len, total_len), len);
    assert_memory_equal(out, wanted, (size_t)len);
    free(out);
}

static void lines_are_exact(void **state)
{
    uint8_t out[64];
    assert_int_equal(rb_encode_msg(out, RB_S("a"), RB_S("1"), RB_S(""), 0, 5), 11);
    assert_memory_equal(out, "MSG a 1 5\r\n", 11);
    assert_int_equal(rb_encode_msg(out, RB_S("a"), RB_S("1"), RB_S("r"), 12, 14), 18);
    assert_memory_equal(out, "HMSG a 1 r 12 14\r\n", 18);
}

/* Every length at which the short copies change their way, each from a block of its own. */
static void all_text_lengths(void **state)
{
    for (size_t len = 0; len <= 100; len++) {
        uint8_t *ptr = malloc(len + (len == 0));
        for (size_t i = 0; i < len; i++) {
            ptr[i] = (uint8_t)('a' + i % 26);
        }
        struct rb_slice text = rb_slice_of(ptr, len);
        assert_msg(text, RB_S("1"), rb_slice_of(NULL, 0), 0, 16);
        assert_msg(RB_S("x"), text, rb_slice_of(NULL, 0), 0, 16);
        assert_msg(RB_S("x"), RB_S("22"), text, 12, 16);
        free(ptr);
    }
}

static void all_number_lengths(void **state)
{
    static const uint32_t edges[] = { 0,       1,       9,        10,        11,         99,
                                      100,     101,     999,      1000,      65535,      99999,
                                      1048576, 9999999, 10000000, 999999999, 4294967295u };
    size_t count = sizeof(edges) / sizeof(edges[0]);
    for (size_t i = 0; i < count; i++) {
        assert_msg(RB_S("foo"), RB_S("1"), RB_S("r"), 0, edges[i]);
        for (size_t j = 0; j < count; j++) {
            assert_msg(RB_S("foo"), RB_S("1"), RB_S(""), edges[j], edges[i]);
        }
    }
}

static void errors_fit_or_are_refused(void **state)
{
    const char wanted[] = "-ERR 'Stale Connection'\r\n";
    size_t len = sizeof(wanted) - 1;
    uint8_t out[64];
    assert_int_equal(rb_encode_err(out, len, "Stale Connection"), len);
    assert_memory_equal(out, wanted, len);
    assert_int_equal(rb_encode_err(out, len - 1, "Stale Connection"), 0);
    assert_int_equal(rb_encode_err(out, 0, ""), 0);
}

static void no_responders_reply(void **state)
{
    const char wanted[] = "HMSG in 9 33 33\r\nNATS/1.0 503\r\nNats-Subject: a\r\n\r\n\r\n";
    size_t len = sizeof(wanted) - 1;
    uint8_t out[256];
    assert_int_equal(rb_encode_no_responders(out, len, RB_S("in"), RB_S("9"), RB_S("a")), len);
    assert_memory_equal(out, wanted, len);
    assert_int_equal(rb_encode_no_responders(out, len - 1, RB_S("in"), RB_S("9"), RB_S("a")), 0);
    /* the size counts the header block, which ends before the last CRLF */
    struct rb_slice subject =
        RB_S("a.subject.of.68.bytes.is.enough.to.make.the.size.three.digits.lo"
             "ng.x");
    len = rb_encode_no_responders(out, sizeof(out), RB_S("r"), RB_S("1"), subject);
    assert_memory_equal(out, "HMSG r 1 100 100\r\n", 18);
    assert_int_equal(len, 18 + 100 + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_exact),     cmocka_unit_test(all_text_lengths),
        cmocka_unit_test(all_number_lengths),  cmocka_unit_test(errors_fit_or_are_refused),
        cmocka_unit_test(no_responders_reply),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
