/* http.c - the head of an HTTP/1.1 request, read in place.
 *
 *   method SP target SP HTTP/1.x CRLF      the request line
 *   name:value CRLF                        any number of headers, RB_HTTP_HEADERS_MAX of them
 *   CRLF                                   the end
 *
 * 1. The text is judged line by line from its front, and a line only when it is whole. So what is refused is refused as
 *    early as its line is there, and more bytes never change a verdict once it is given.
 * 2. A line ends with CR LF, or with LF alone as RFC 9112 2.2 permits; any other CR, NUL or control byte is refused.
 * 3. No request has a body: two readers cannot disagree about where the next one begins. A length other than 0, a second
 *    length, a transfer coding and a second Host are refused here, whoever calls.
 * 4. Nothing is decoded while parsing; the helpers below decode into the caller's memory.
 */
#include "proto/http.h"

#define LENGTH_DIGITS_MAX 18 /* of Content-Length: what a uint64_t surely holds */

enum { TOKEN = 1, HOST = 2 };

/* RFC 9110 5.6.2 (token); RFC 3986 3.2 (host and port). */
static bool char_is(uint8_t c, unsigned kind)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
        return true;
    }
    const char *others = kind == TOKEN ? "!#$%&'*+-.^_`|~" : "-._~!$&'()*+,;=:[]%";
    return c != 0 && c < 0x80 && strchr(others, c) != NULL;
}

static bool all_chars(struct rb_slice text, unsigned kind)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!char_is(text.ptr[i], kind)) {
            return false;
        }
    }
    return text.len > 0;
}

static struct rb_slice cut_blanks(struct rb_slice s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s = rb_slice_of(s.ptr + 1, s.len - 1);
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* The part of *rest before the first `separator`, or all of it; *rest goes behind it. False at the end. */
static bool next_part(struct rb_slice *rest, uint8_t separator, struct rb_slice *ret_part)
{
    if (rest->ptr == NULL) {
        return false;
    }
    const uint8_t *end = rest->len == 0 ? NULL : memchr(rest->ptr, separator, rest->len);
    if (end == NULL) {
        *ret_part = *rest;
        *rest = rb_slice_of(NULL, 0);
        return true;
    }
    size_t len = (size_t)(end - rest->ptr);
    *ret_part = rb_slice_of(rest->ptr, len);
    *rest = rb_slice_of(end + 1, rest->len - len - 1);
    return true;
}

/* ---------------------------------------------------------------- escapes */

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum { DECODED_END = -1, DECODED_BAD = -2 };

/* The next byte of percent-encoded text, taken from the front of *text. A NUL would cut what callers use as C strings, so it
 * is as bad as half an escape. */
static int next_decoded(struct rb_slice *text, bool plus_is_blank)
{
    if (text->len == 0) {
        return DECODED_END;
    }
    int c = text->ptr[0];
    size_t taken = 1;
    if (c == '%') {
        int high = text->len < 3 ? -1 : hex_value(text->ptr[1]);
        int low = text->len < 3 ? -1 : hex_value(text->ptr[2]);
        if (high < 0 || low < 0) {
            return DECODED_BAD;
        }
        c = high << 4 | low;
        taken = 3;
    } else if (c == '+' && plus_is_blank) {
        c = ' ';
    }
    *text = rb_slice_of(text->ptr + taken, text->len - taken);
    return c == 0 ? DECODED_BAD : c;
}

static bool escapes_valid(struct rb_slice text, bool plus_is_blank)
{
    int c;
    do {
        c = next_decoded(&text, plus_is_blank);
    } while (c >= 0);
    return c == DECODED_END;
}

static bool decoded_equals(struct rb_slice text, const char *wanted)
{
    for (; *wanted != '\0'; wanted++) {
        if (next_decoded(&text, true) != (uint8_t)*wanted) {
            return false;
        }
    }
    return text.len == 0;
}

bool rb_http_unescape(struct rb_slice text, char *out, size_t cap)
{
    size_t len = 0;
    while (len < cap) {
        int c = next_decoded(&text, false);
        if (c < 0) {
            out[len] = '\0';
            return c == DECODED_END;
        }
        out[len++] = (char)c;
    }
    if (cap > 0) {
        out[cap - 1] = '\0';
    }
    return false;
}

bool rb_http_query(struct rb_slice query, const char *name, char *out, size_t cap)
{
    struct rb_slice pair;
    while (next_part(&query, '&', &pair)) {
        struct rb_slice value = pair, key;
        next_part(&value, '=', &key);
        if (pair.len == 0 || memchr(pair.ptr, ';', pair.len) != NULL ||
            !decoded_equals(key, name) || !escapes_valid(value, true)) {
            continue; /* as if it were not there, like the query parser of nats-server */
        }
        size_t len = 0;
        for (int c; len + 1 < cap && (c = next_decoded(&value, true)) >= 0;) {
            out[len++] = (char)c;
        }
        if (cap > 0) {
            out[len] = '\0';
        }
        return true;
    }
    return false;
}

/* ---------------------------------------------------------------- parsing */

/* Origin form ("/path?query") or absolute form ("http://host/path?query", the host is left to who needs it). */
static bool split_target(struct rb_http_request *request)
{
    struct rb_slice rest = request->target;
    for (size_t i = 0; i < rest.len; i++) {
        if (rest.ptr[i] <= ' ' || rest.ptr[i] == 0x7f) {
            return false;
        }
    }
    if (rest.len == 0) {
        return false;
    }
    if (rest.ptr[0] != '/') {
        struct rb_slice authority;
        if (!rb_http_authority(request, &authority)) {
            return false;
        }
        const uint8_t *end = authority.ptr + authority.len;
        rest = rb_slice_of(end, (size_t)(rest.ptr + rest.len - end));
    }
    request->query = rest;
    next_part(&request->query, '?', &request->path);
    return escapes_valid(request->path, false);
}

static bool parse_request_line(struct rb_slice line, struct rb_http_request *request)
{
    struct rb_slice rest = line, version = { NULL, 0 };
    next_part(&rest, ' ', &request->method);
    next_part(&rest, ' ', &request->target);
    next_part(&rest, ' ', &version);
    if (rest.ptr != NULL || !all_chars(request->method, TOKEN)) {
        return false;
    }
    if (version.len != 8 || !rb_slice_starts(version, RB_S("HTTP/1.")) || version.ptr[7] < '0' ||
        version.ptr[7] > '9') {
        return false;
    }
    request->http_1_0 = version.ptr[7] == '0';
    return split_target(request);
}

static bool value_valid(struct rb_slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        if ((value.ptr[i] < ' ' && value.ptr[i] != '\t') || value.ptr[i] == 0x7f) {
            return false; /* invariant 2 */
        }
    }
    return true;
}

/* Invariant 3. */
static bool header_permitted(struct rb_http_request *request, const struct rb_http_header *header)
{
    if (rb_slice_equal_fold(header->name, RB_S("Content-Length"))) {
        return rb_http_find(request, "Content-Length").ptr == NULL &&
               rb_slice_decimal(header->value, LENGTH_DIGITS_MAX, &request->content_length) &&
               request->content_length == 0;
    }
    if (rb_slice_equal_fold(header->name, RB_S("Transfer-Encoding"))) {
        request->chunked = true;
        return false;
    }
    if (rb_slice_equal_fold(header->name, RB_S("Host"))) {
        return rb_http_find(request, "Host").ptr == NULL &&
               (header->value.len == 0 || all_chars(header->value, HOST));
    }
    return true;
}

static enum rb_http_result parse_header(struct rb_slice line, struct rb_http_request *request)
{
    struct rb_http_header header = { .value = line };
    next_part(&header.value, ':', &header.name);
    if (header.value.ptr == NULL || !all_chars(header.name, TOKEN)) {
        return RB_HTTP_BAD; /* also a folded line, and blanks before the colon */
    }
    header.value = cut_blanks(header.value);
    if (!value_valid(header.value) || !header_permitted(request, &header)) {
        return RB_HTTP_BAD;
    }
    if (request->header_count == RB_HTTP_HEADERS_MAX) {
        return RB_HTTP_TOO_LONG;
    }
    request->headers[request->header_count++] = header;
    return RB_HTTP_DONE;
}

enum rb_http_result rb_http_parse(struct rb_slice text, struct rb_http_request *request,
                                  size_t *ret_len)
{
    request->header_count = 0; /* the headers behind it are left as they are: 2 KiB */
    request->method = request->target = request->path = request->query = rb_slice_of(NULL, 0);
    request->http_1_0 = request->keep_alive = request->chunked = false;
    request->content_length = 0;
    size_t size = text.len < RB_HTTP_HEAD_MAX ? text.len : RB_HTTP_HEAD_MAX, at = 0;
    if (size > 0 && !char_is(text.ptr[0], TOKEN)) {
        return RB_HTTP_BAD; /* a TLS greeting, say: no line would ever end */
    }
    for (;;) {
        const uint8_t *lf = at == size ? NULL : memchr(text.ptr + at, '\n', size - at);
        if (lf == NULL) {
            return size < RB_HTTP_HEAD_MAX ? RB_HTTP_MORE : RB_HTTP_TOO_LONG;
        }
        struct rb_slice line = rb_slice_of(text.ptr + at, (size_t)(lf - text.ptr) - at);
        bool first = at == 0;
        at += line.len + 1;
        if (line.len > 0 && line.ptr[line.len - 1] == '\r') {
            line.len--;
        }
        if (first) {
            if (!parse_request_line(line, request)) {
                return RB_HTTP_BAD;
            }
        } else if (line.len > 0) {
            enum rb_http_result result = parse_header(line, request);
            if (result != RB_HTTP_DONE) {
                return result;
            }
        } else {
            break;
        }
    }
    request->keep_alive = request->http_1_0 ? rb_http_has_token(request, "Connection", "keep-alive")
                                            : !rb_http_has_token(request, "Connection", "close");
    *ret_len = at;
    return RB_HTTP_DONE;
}

/* ---------------------------------------------------------------- what was parsed */

struct rb_slice rb_http_find(const struct rb_http_request *request, const char *name)
{
    struct rb_slice wanted = rb_slice_text(name);
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (rb_slice_equal_fold(request->headers[i].name, wanted)) {
            return request->headers[i].value;
        }
    }
    return rb_slice_of(NULL, 0);
}

bool rb_http_has_token(const struct rb_http_request *request, const char *name, const char *token)
{
    struct rb_slice wanted = rb_slice_text(name);
    for (uint32_t i = 0; i < request->header_count; i++) {
        struct rb_slice list = request->headers[i].value, item;
        if (!rb_slice_equal_fold(request->headers[i].name, wanted)) {
            continue;
        }
        while (next_part(&list, ',', &item)) {
            if (rb_slice_equal_fold(cut_blanks(item), rb_slice_text(token))) {
                return true;
            }
        }
    }
    return false;
}

bool rb_http_authority(const struct rb_http_request *request, struct rb_slice *ret_authority)
{
    struct rb_slice target = request->target;
    static const char *const schemes[] = { "http://", "https://" };
    for (size_t i = 0; i < 2; i++) {
        size_t skip = strlen(schemes[i]);
        if (target.len <= skip ||
            !rb_slice_equal_fold(rb_slice_of(target.ptr, skip), rb_slice_text(schemes[i]))) {
            continue;
        }
        size_t end = skip;
        while (end < target.len && target.ptr[end] != '/' && target.ptr[end] != '?') {
            end++;
        }
        *ret_authority = rb_slice_of(target.ptr + skip, end - skip);
        return all_chars(*ret_authority, HOST);
    }
    return false;
}

/* A value of RFC 6265 4.1.1, in double quotes or not. nats-server takes blanks and commas as well. */
static bool cookie_value(struct rb_slice *value)
{
    if (value->len > 1 && value->ptr[0] == '"' && value->ptr[value->len - 1] == '"') {
        *value = rb_slice_of(value->ptr + 1, value->len - 2);
    }
    for (size_t i = 0; i < value->len; i++) {
        uint8_t c = value->ptr[i];
        if (c < ' ' || c >= 0x7f || c == '"' || c == '\\') {
            return false;
        }
    }
    return true;
}

struct rb_slice rb_http_cookie(const struct rb_http_request *request, struct rb_slice name)
{
    struct rb_slice found = { NULL, 0 };
    for (uint32_t i = 0; i < request->header_count; i++) {
        struct rb_slice list = request->headers[i].value, pair, key;
        if (!rb_slice_equal_fold(request->headers[i].name, RB_S("Cookie"))) {
            continue;
        }
        while (next_part(&list, ';', &pair)) {
            pair = cut_blanks(pair);
            next_part(&pair, '=', &key);
            if (pair.ptr != NULL && rb_slice_equal(cut_blanks(key), name) && cookie_value(&pair)) {
                found = pair;
            }
        }
    }
    return found;
}

const char *rb_http_status_text(int status)
{
    switch (status) {
    case 101:
        return "101 Switching Protocols";
    case 200:
        return "200 OK";
    case 204:
        return "204 No Content";
    case 301:
        return "301 Moved Permanently";
    case 302:
        return "302 Found";
    case 304:
        return "304 Not Modified";
    case 307:
        return "307 Temporary Redirect";
    case 400:
        return "400 Bad Request";
    case 401:
        return "401 Unauthorized";
    case 403:
        return "403 Forbidden";
    case 404:
        return "404 Not Found";
    case 405:
        return "405 Method Not Allowed";
    case 408:
        return "408 Request Timeout";
    case 413:
        return "413 Request Entity Too Large";
    case 414:
        return "414 Request URI Too Long";
    case 426:
        return "426 Upgrade Required";
    case 429:
        return "429 Too Many Requests";
    case 431:
        return "431 Request Header Fields Too Large";
    case 501:
        return "501 Not Implemented";
    case 503:
        return "503 Service Unavailable";
    case 505:
        return "505 HTTP Version Not Supported";
    default:
        return "500 Internal Server Error";
    }
}
