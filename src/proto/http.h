/* http.h - a bounded reader of HTTP/1.1 requests, for the monitor and the WebSocket upgrade, and response heads.
 *
 * Bodies are not read: a request with Content-Length above 0 or Transfer-Encoding is refused (RB_HTTP_BAD, with the field
 * below set), so what follows a head is the next head.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/slice.h"

#define RB_HTTP_HEAD_MAX 16384 /* request line and headers together */
#define RB_HTTP_HEADERS_MAX 64

struct rb_http_header {
    struct rb_slice name, value; /* value: blanks at both ends cut */
};

/** All slices lie in the text that was parsed. */
struct rb_http_request {
    struct rb_slice method, target; /* target as it came: "/connz?limit=1" */
    struct rb_slice path, query;    /* of the target, still escaped */
    bool http_1_0, keep_alive;
    struct rb_http_header headers[RB_HTTP_HEADERS_MAX];
    uint32_t header_count;
    uint64_t content_length; /* 0 when the result is RB_HTTP_DONE */
    bool chunked;            /* false when the result is RB_HTTP_DONE */
};

enum rb_http_result {
    RB_HTTP_DONE, /* *ret_len bytes were the request's head */
    RB_HTTP_MORE,
    RB_HTTP_BAD,      /* 400 */
    RB_HTTP_TOO_LONG, /* 431 */
};

/**
 * Looks for a whole head at the front of `text`. Refuses what smuggling needs: bare CR, obs-fold, two lengths, spaces
 * before ':', two hosts. A line may end with LF alone. A missing Host is the caller's to refuse.
 */
enum rb_http_result rb_http_parse(struct rb_slice text, struct rb_http_request *request,
                                  size_t *ret_len);
/** First header of that name (case-insensitive); ptr NULL when absent. */
struct rb_slice rb_http_find(const struct rb_http_request *request, const char *name);
/** A comma-separated list in any header of that name holds `token` (case-insensitive). */
bool rb_http_has_token(const struct rb_http_request *request, const char *name, const char *token);
/** "host:port" of a target in absolute form, which then counts instead of the Host header; false when there is none. */
bool rb_http_authority(const struct rb_http_request *request, struct rb_slice *ret_authority);
/** Value of a cookie, quotes removed; ptr NULL when absent or malformed. The last one wins, as in nats-server. */
struct rb_slice rb_http_cookie(const struct rb_http_request *request, struct rb_slice name);
/** Value of a query parameter, percent- and plus-decoded into `out` (cut at cap). False when absent. First one wins. */
bool rb_http_query(struct rb_slice query, const char *name, char *out, size_t cap);
/** Percent-decodes a path; false on bad escapes or when it does not fit. NUL-terminated. */
bool rb_http_unescape(struct rb_slice text, char *out, size_t cap);
/** "400 Bad Request" and so on. */
const char *rb_http_status_text(int status);
