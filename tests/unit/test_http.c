/* test_http.c - request heads: what is read, what is refused, at every split. */
#include "proto/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct rb_http_request request;

static void assert_slice(struct rb_slice slice, const char *wanted)
{
    if (wanted == NULL) {
        assert_null(slice.ptr);
        return;
    }
    assert_non_null(slice.ptr);
    assert_int_equal(slice.len, strlen(wanted));
    assert_memory_equal(slice.ptr, wanted, slice.len);
}

static enum rb_http_result parse(const char *text)
{
    size_t len = 0;
    return rb_http_parse(rb_slice_text(text), &request, &len);
}

/* The same verdict for the whole and for any piece that is long enough to know; copies show reads beyond the end. */
static void assert_verdict(struct rb_slice text, enum rb_http_result wanted, size_t head_len)
{
    bool known = false;
    for (size_t len = 0; len <= text.len; len++) {
        uint8_t *copy = malloc(len + (len == 0));
        memcpy(copy, text.ptr, len);
        size_t ret_len = 9999999;
        enum rb_http_result result = rb_http_parse(rb_slice_of(copy, len), &request, &ret_len);
        assert_int_equal(result, known || len == text.len || result != RB_HTTP_MORE ? wanted
                                                                                    : RB_HTTP_MORE);
        known = result != RB_HTTP_MORE;
        assert_int_equal(ret_len, result == RB_HTTP_DONE ? head_len : 9999999);
        free(copy);
    }
}

static void a_request_is_read(void **state)
{
    struct rb_slice text = RB_S("GET /connz?limit=1&a=%20 HTTP/1.1\r\nHost: x:1\r\nA:b\r\n"
                                "Blank: \t y z \t\r\nEmpty:\r\n\r\nGET ");
    size_t len = 0;
    assert_int_equal(rb_http_parse(text, &request, &len), RB_HTTP_DONE);
    assert_int_equal(len, text.len - 4);
    assert_slice(request.method, "GET");
    assert_slice(request.target, "/connz?limit=1&a=%20");
    assert_slice(request.path, "/connz");
    assert_slice(request.query, "limit=1&a=%20");
    assert_int_equal(request.header_count, 4);
    assert_slice(rb_http_find(&request, "host"), "x:1");
    assert_slice(rb_http_find(&request, "a"), "b");
    assert_slice(rb_http_find(&request, "BLANK"), "y z");
    assert_slice(rb_http_find(&request, "Empty"), "");
    assert_slice(rb_http_find(&request, "Nothing"), NULL);
    assert_true(request.keep_alive);
    assert_false(request.http_1_0 || request.chunked);
    assert_verdict(text, RB_HTTP_DONE, text.len - 4);
}

static void lines_may_end_with_lf(void **state)
{
    struct rb_slice text = RB_S("GET / HTTP/1.0\nA: b\n\n");
    assert_verdict(text, RB_HTTP_DONE, text.len);
    assert_int_equal(parse("GET / HTTP/1.0\nA: b\n\n"), RB_HTTP_DONE);
    assert_slice(rb_http_find(&request, "A"), "b");
    assert_true(request.http_1_0);
    assert_null(request.query.ptr);
}

static void keep_alive_follows_version_and_header(void **state)
{
    static const struct {
        const char *text;
        bool keep;
    } cases[] = {
        { "GET / HTTP/1.1\r\n\r\n", true },
        { "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", false },
        { "GET / HTTP/1.1\r\nConnection: x, CLOSE\r\n\r\n", false },
        { "GET / HTTP/1.1\r\nConnection: closed\r\n\r\n", true },
        { "GET / HTTP/1.2\r\n\r\n", true },
        { "GET / HTTP/1.0\r\n\r\n", false },
        { "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse(cases[i].text), RB_HTTP_DONE);
        assert_int_equal(request.keep_alive, cases[i].keep);
    }
}

static void bad_heads_are_refused(void **state)
{
    static const char *const heads[] = {
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET /\tHTTP/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/1.\r\n\r\n",
        "GET / HTTP/1.x\r\n\r\n",
        "GET / HTTP/1.10\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "GET x HTTP/1.1\r\n\r\n",
        "GET * HTTP/1.1\r\n\r\n",
        "GET /%zz HTTP/1.1\r\n\r\n",
        "GET /%0 HTTP/1.1\r\n\r\n",
        "GET /%00 HTTP/1.1\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\n\r\n",
        "GET http:// HTTP/1.1\r\n\r\n",
        "GET http:///x HTTP/1.1\r\n\r\n",
        "GET http://u@h/ HTTP/1.1\r\n\r\n",
        "GET ftp://h/ HTTP/1.1\r\n\r\n",
        "CONNECT h:1 HTTP/1.1\r\n\r\n",
        "CONNECT {\"verbose\":false}\r\n",
        "PING\r\n",
        "\x16\x03\x01\x02",
        "GET / HTTP/1.1\r\nA\r\n\r\n",
        "GET / HTTP/1.1\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\nA\t: b\r\n\r\n",
        "GET / HTTP/1.1\r\n A: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\n\tc: d\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\r\n\r\n",
        "GET / HTTP/1.1\r\r\nA: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\x01\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\x7f\r\n\r\n",
        "GET / HTTP/1.1\r\nA\x80: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        if (parse(heads[i]) != RB_HTTP_BAD) {
            fail_msg("accepted: %s", heads[i]);
        }
        assert_verdict(rb_slice_text(heads[i]), RB_HTTP_BAD, 0);
    }
    assert_verdict(RB_S("GET / HTTP/1.1\r\nA: b\0c\r\n\r\n"), RB_HTTP_BAD, 0);
    assert_verdict(RB_S("GET /\0 HTTP/1.1\r\n\r\n"), RB_HTTP_BAD, 0);
}

/* Bodies are not read, so nobody may believe that there is one. */
static void bodies_are_refused(void **state)
{
    static const char *const headers[] = {
        "Content-Length: 1",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5\r\ncontent-length: 0",
        "Content-Length: +0",
        "Content-Length: -0",
        "Content-Length: 0, 0",
        "Content-Length: 0x0",
        "Content-Length:",
        "Content-Length: 1 0",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "transfer-encoding: xchunked\r\nContent-Length: 0",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
    };
    char text[256];
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        snprintf(text, sizeof(text), "POST / HTTP/1.1\r\n%s\r\n\r\n", headers[i]);
        if (parse(text) != RB_HTTP_BAD) {
            fail_msg("accepted: %s", headers[i]);
        }
    }
    assert_int_equal(parse("GET / HTTP/1.1\r\nContent-Length: 7\r\n\r\n"), RB_HTTP_BAD);
    assert_int_equal(request.content_length, 7);
    assert_int_equal(parse("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), RB_HTTP_BAD);
    assert_true(request.chunked);
    assert_int_equal(parse("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), RB_HTTP_DONE);
    assert_false(request.chunked);
}

static void long_heads_are_refused(void **state)
{
    static char text[RB_HTTP_HEAD_MAX + 64];
    size_t len = 0;
    int at = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nA: ");
    memset(text + at, 'x', sizeof(text) - (size_t)at);
    assert_int_equal(rb_http_parse(rb_slice_of(text, RB_HTTP_HEAD_MAX - 1), &request, &len),
                     RB_HTTP_MORE);
    assert_int_equal(rb_http_parse(rb_slice_of(text, RB_HTTP_HEAD_MAX), &request, &len),
                     RB_HTTP_TOO_LONG);
    memcpy(text + RB_HTTP_HEAD_MAX - 4, "\r\n\r\n", 4); /* just fits */
    assert_int_equal(rb_http_parse(rb_slice_of(text, sizeof(text)), &request, &len), RB_HTTP_DONE);
    assert_int_equal(len, RB_HTTP_HEAD_MAX);
    memcpy(text + RB_HTTP_HEAD_MAX - 4, "x\r\n\r\n", 5);
    assert_int_equal(rb_http_parse(rb_slice_of(text, sizeof(text)), &request, &len),
                     RB_HTTP_TOO_LONG);
}

static void headers_are_counted(void **state)
{
    char text[4096];
    for (int count = RB_HTTP_HEADERS_MAX - 1; count <= RB_HTTP_HEADERS_MAX + 1; count++) {
        int at = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n");
        for (int i = 0; i < count; i++) {
            at += snprintf(text + at, sizeof(text) - (size_t)at, "A%d: %d\r\n", i, i);
        }
        snprintf(text + at, sizeof(text) - (size_t)at, "\r\n");
        assert_int_equal(parse(text),
                         count > RB_HTTP_HEADERS_MAX ? RB_HTTP_TOO_LONG : RB_HTTP_DONE);
    }
}

static void an_absolute_target_names_the_host(void **state)
{
    struct rb_slice authority = RB_S("untouched");
    assert_int_equal(parse("GET HTTP://h:1/p?q HTTP/1.1\r\nHost: other\r\n\r\n"), RB_HTTP_DONE);
    assert_true(rb_http_authority(&request, &authority));
    assert_slice(authority, "h:1");
    assert_slice(request.path, "/p");
    assert_slice(request.query, "q");
    assert_int_equal(parse("GET https://[::1] HTTP/1.1\r\n\r\n"), RB_HTTP_DONE);
    assert_true(rb_http_authority(&request, &authority));
    assert_slice(authority, "[::1]");
    assert_int_equal(request.path.len, 0);
    assert_int_equal(parse("GET /http://h/ HTTP/1.1\r\n\r\n"), RB_HTTP_DONE);
    assert_false(rb_http_authority(&request, &authority));
}

static void tokens_are_found_in_lists(void **state)
{
    assert_int_equal(parse("GET / HTTP/1.1\r\nA: x y,\tFoo ,,z\r\nB: q\r\na: last\r\n\r\n"),
                     RB_HTTP_DONE);
    assert_true(rb_http_has_token(&request, "a", "foo"));
    assert_true(rb_http_has_token(&request, "A", "LAST"));
    assert_true(rb_http_has_token(&request, "A", "x y"));
    assert_false(rb_http_has_token(&request, "A", "x"));
    assert_false(rb_http_has_token(&request, "A", "fo"));
    assert_false(rb_http_has_token(&request, "A", "q"));
    assert_false(rb_http_has_token(&request, "C", "q"));
}

static void cookies_are_found(void **state)
{
    assert_int_equal(parse("GET / HTTP/1.1\r\nCookie: a=1; b=\"two\"; c; d=x\\y; =z; e= f ;g=\r\n"
                           "Cookie: jwt=eyJ.a-b=;a=2;a=\"bad\"er; e2=x, y\r\nX: k=v\r\n\r\n"),
                     RB_HTTP_DONE);
    assert_slice(rb_http_cookie(&request, RB_S("a")), "2"); /* the last one that is valid */
    assert_slice(rb_http_cookie(&request, RB_S("b")), "two");
    assert_slice(rb_http_cookie(&request, RB_S("c")), NULL);
    assert_slice(rb_http_cookie(&request, RB_S("d")), NULL);
    assert_slice(rb_http_cookie(&request, RB_S("e")), " f");
    assert_slice(rb_http_cookie(&request, RB_S("e2")), "x, y");
    assert_slice(rb_http_cookie(&request, RB_S("g")), "");
    assert_slice(rb_http_cookie(&request, RB_S("jwt")), "eyJ.a-b=");
    assert_slice(rb_http_cookie(&request, RB_S("JWT")), NULL);
    assert_slice(rb_http_cookie(&request, RB_S("k")), NULL);
}

static void assert_query(const char *query, const char *name, size_t cap, const char *wanted)
{
    char out[32] = "untouched";
    bool found = rb_http_query(rb_slice_text(query), name, out, cap);
    assert_int_equal(found, wanted != NULL);
    assert_string_equal(out, wanted == NULL ? "untouched" : wanted);
}

static void query_parameters_are_decoded(void **state)
{
    assert_query("limit=10&sort=a+b%2bc", "sort", 32, "a b+c");
    assert_query("limit=10&sort=x", "limit", 32, "10");
    assert_query("a=1&a=2", "a", 32, "1");
    assert_query("a&b", "a", 32, "");
    assert_query("a=", "a", 32, "");
    assert_query("a=b=c", "a", 32, "b=c");
    assert_query("%61=1", "a", 32, "1");
    assert_query("&&a=1", "a", 32, "1");
    assert_query("ab=1", "a", 32, NULL);
    assert_query("", "a", 32, NULL);
    assert_query("a=%zz&a=%4", "a", 32, NULL);
    assert_query("a=%zz&a=ok", "a", 32, "ok");
    assert_query("a=%00", "a", 32, NULL);
    assert_query("a;b=1", "a", 32, NULL);
    assert_query("a=abcdef", "a", 4, "abc");
    assert_query("a=abcdef", "a", 1, "");
    assert_false(rb_http_query(rb_slice_of(NULL, 0), "a", NULL, 0));
}

static void paths_are_decoded(void **state)
{
    char out[8];
    assert_true(rb_http_unescape(RB_S("/a%2Fb+c"), out, sizeof(out)));
    assert_string_equal(out, "/a/b+c");
    assert_true(rb_http_unescape(RB_S("1234567"), out, sizeof(out)));
    assert_string_equal(out, "1234567");
    assert_false(rb_http_unescape(RB_S("12345678"), out, sizeof(out)));
    assert_string_equal(out, "1234567");
    assert_true(rb_http_unescape(RB_S(""), out, sizeof(out)));
    assert_string_equal(out, "");
    assert_false(rb_http_unescape(RB_S("a%"), out, sizeof(out)));
    assert_false(rb_http_unescape(RB_S("a%1"), out, sizeof(out)));
    assert_false(rb_http_unescape(RB_S("a%g1"), out, sizeof(out)));
    assert_false(rb_http_unescape(RB_S("a%00"), out, sizeof(out)));
    assert_false(rb_http_unescape(RB_S(""), out, 0));
}

static void statuses_have_texts(void **state)
{
    for (int status = 100; status < 600; status++) {
        const char *text = rb_http_status_text(status);
        assert_true(strtol(text, NULL, 10) == status || strtol(text, NULL, 10) == 500);
        assert_true(strlen(text) > 4 && text[3] == ' ');
    }
    assert_string_equal(rb_http_status_text(405), "405 Method Not Allowed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_read),
        cmocka_unit_test(lines_may_end_with_lf),
        cmocka_unit_test(keep_alive_follows_version_and_header),
        cmocka_unit_test(bad_heads_are_refused),
        cmocka_unit_test(bodies_are_refused),
        cmocka_unit_test(long_heads_are_refused),
        cmocka_unit_test(headers_are_counted),
        cmocka_unit_test(an_absolute_target_names_the_host),
        cmocka_unit_test(tokens_are_found_in_lists),
        cmocka_unit_test(cookies_are_found),
        cmocka_unit_test(query_parameters_are_decoded),
        cmocka_unit_test(paths_are_decoded),
        cmocka_unit_test(statuses_have_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
