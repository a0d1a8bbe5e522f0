/* fuzz_http.c - any bytes as a request head: options, name, LF, head.
 *
 * The verdict must not depend on how much more is there, all slices must lie in the head, and a parsed head must get one
 * whole answer from the WebSocket upgrade.
 */
#include <stdlib.h>

#include "proto/ws.h"
#include "ringbus/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rb_http_request request;

static enum rb_http_result parse_copy(const uint8_t *text, size_t len, uint8_t **ret_copy,
                                      size_t *ret_len)
{
    uint8_t *copy = malloc(len + (len == 0)); /* of its own size */
    rb_assert(copy != NULL);
    if (len > 0) {
        memcpy(copy, text, len);
    }
    *ret_copy = copy;
    return rb_http_parse(rb_slice_of(copy, len), &request, ret_len);
}

static void assert_within(struct rb_slice part, struct rb_slice whole)
{
    rb_assert(part.ptr == NULL ||
              (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len));
}

static void look_at(struct rb_slice head, const char *name)
{
    char out[64];
    struct rb_slice authority = { NULL, 0 };
    assert_within(request.method, head);
    assert_within(request.target, head);
    assert_within(request.path, head);
    assert_within(request.query, head);
    rb_assert(request.header_count <= RB_HTTP_HEADERS_MAX);
    rb_assert(request.content_length == 0 && !request.chunked);
    for (uint32_t i = 0; i < request.header_count; i++) {
        assert_within(request.headers[i].name, head);
        assert_within(request.headers[i].value, head);
        rb_assert(request.headers[i].name.len > 0);
    }
    assert_within(rb_http_find(&request, name), head);
    assert_within(rb_http_cookie(&request, rb_slice_text(name)), head);
    rb_http_has_token(&request, name, "x");
    rb_http_authority(&request, &authority);
    assert_within(authority, head);
    for (size_t cap = 0; cap <= sizeof(out); cap += 16) {
        memset(out, 'x', sizeof(out));
        if (rb_http_query(request.query, name, out, cap) && cap > 0) {
            rb_assert(memchr(out, '\0', cap) != NULL);
        }
        if (rb_http_unescape(request.path, out, cap)) {
            rb_assert(memchr(out, '\0', cap) != NULL);
        }
    }
}

static void upgrade(uint8_t flags)
{
    const struct rb_slice origins[] = { RB_S("http://a.b"), RB_S("https://[::1]:8443") };
    struct rb_ws_options options = {
        .compression = flags & 1,
        .same_origin = flags & 2,
        .tls = flags & 4,
        .origins = origins,
        .origin_count = flags & 8 ? 2 : 0,
        .host = flags & 16 ? RB_S("own:80") : rb_slice_of(NULL, 0),
        .headers = flags & 32 ? RB_S("A: b\r\n") : rb_slice_of(NULL, 0),
    };
    static uint8_t out[2048 + 6];
    struct rb_ws_accept accept;
    size_t cap = 2048 + options.headers.len;
    size_t len = rb_ws_upgrade(&request, &options, flags & 64, out, cap, &accept);
    struct rb_slice response = rb_slice_of(out, len);
    rb_assert(len <= cap && rb_slice_starts(response, RB_S("HTTP/1.1 ")));
    rb_assert((accept.status == 101) == (accept.error == NULL));
    rb_assert(memmem(out, len, "\r\n\r\n", 4) != NULL);
    rb_assert(accept.forwarded.len < 46);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    uint8_t flags = data[0];
    char name[16] = "";
    size_t at = 1;
    for (size_t i = 0; at < size && data[at] != '\n' && i < sizeof(name) - 1; at++) {
        name[i++] = (char)data[at];
    }
    at += at < size && data[at] == '\n';
    const uint8_t *text = data + at;
    size_t text_len = size - at, head_len = 0, ret_len = 0;
    uint8_t *copy;
    enum rb_http_result verdict = parse_copy(text, text_len, &copy, &head_len);
    if (verdict == RB_HTTP_DONE) {
        rb_assert(head_len <= text_len && head_len <= RB_HTTP_HEAD_MAX);
        look_at(rb_slice_of(copy, head_len), name);
        upgrade(flags);
    }
    free(copy);
    for (size_t len = 0; len < text_len; len += 1 + len / 64 + (size_t)(flags >> 7) * 5) {
        enum rb_http_result early = parse_copy(text, len, &copy, &ret_len);
        rb_assert(early == RB_HTTP_MORE || early == verdict);
        rb_assert(early != RB_HTTP_DONE || (ret_len == head_len && len >= head_len));
        rb_assert(verdict != RB_HTTP_DONE || len < head_len || early == RB_HTTP_DONE);
        free(copy);
    }
    return 0;
}
