/* ws_upgrade.c - from an HTTP request to a WebSocket, or to a refusal.
 *
 * 1. The checks come in nats-server's order, and the first one that fails decides. The client learns the status only; the
 *    reason is for the log.
 * 2. A response is complete: nothing but frames follows a 101, nothing at all a refusal (Connection: close; there is no clock
 *    here, so it carries no Date).
 * 3. What a request says about an origin is compared, never repeated.
 */
#include <arpa/inet.h>
#include <string.h>

#include <openssl/evp.h>

#include "proto/ws.h"
#include "ringbus/check.h"

#define KEY_BYTES 24 /* base64 of 16 bytes */
#define ACCEPT_BYTES 28
#define ACCEPT_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 1.3 */
#define EXTENSION "permessage-deflate"

/* ---------------------------------------------------------------- origins */

struct origin {
    struct rb_slice scheme, host;
    uint32_t port;
};

static bool parse_port(struct rb_slice text, uint32_t *ret_port)
{
    uint64_t port = 0;
    if (!rb_slice_decimal(text, 5, &port)) {
        return false;
    }
    *ret_port = (uint32_t)port;
    return port <= UINT16_MAX;
}

/* "host", "host:port", "[v6]", "[v6]:port"; the host may be empty. */
static bool split_host(struct rb_slice text, uint32_t port_default, struct origin *origin)
{
    size_t end = 0;
    *origin = (struct origin){ .scheme = origin->scheme, .port = port_default };
    if (text.len == 0) {
        return true; /* its pointer may be NULL */
    }
    bool bracket = text.ptr[0] == '[';
    while (end < text.len && text.ptr[end] != (bracket ? ']' : ':')) {
        end++;
    }
    if (bracket && end == text.len) {
        return false;
    }
    origin->host = rb_slice_of(text.ptr + bracket, end - bracket);
    end += bracket;
    if (end == text.len) {
        return true;
    }
    return text.ptr[end] == ':' &&
           parse_port(rb_slice_of(text.ptr + end + 1, text.len - end - 1), &origin->port);
}

/* "scheme://host[:port]", a path behind it is left out. */
static bool parse_origin(struct rb_slice text, struct origin *origin)
{
    const uint8_t *mark = memmem(text.ptr, text.len, "://", 3);
    if (mark == NULL || mark == text.ptr) {
        return false;
    }
    origin->scheme = rb_slice_of(text.ptr, (size_t)(mark - text.ptr));
    struct rb_slice rest = rb_slice_of(mark + 3, text.len - origin->scheme.len - 3);
    size_t len = 0;
    while (len < rest.len && (rest.ptr[len] == 0 || strchr("/?#", rest.ptr[len]) == NULL)) {
        if (rest.ptr[len] <= ' ' || rest.ptr[len] >= 0x7f ||
            strchr("@\\%", rest.ptr[len]) != NULL) {
            return false; /* nothing that two readers might understand differently */
        }
        len++;
    }
    bool https = rb_slice_equal_fold(origin->scheme, RB_S("https"));
    return split_host(rb_slice_of(rest.ptr, len), https ? 443 : 80, origin) && origin->host.len > 0;
}

static bool same_place(const struct origin *a, const struct origin *b)
{
    return a->port == b->port && rb_slice_equal_fold(a->host, b->host) &&
           rb_slice_equal_fold(a->scheme, b->scheme);
}

static bool origin_listed(const struct rb_ws_options *options, const struct origin *origin)
{
    for (uint32_t i = 0; i < options->origin_count; i++) {
        struct origin allowed;
        if (parse_origin(options->origins[i], &allowed) && same_place(origin, &allowed)) {
            return true;
        }
    }
    return false;
}

static struct rb_slice find_host(const struct rb_http_request *request)
{
    struct rb_slice host;
    return rb_http_authority(request, &host) ? host : rb_http_find(request, "Host");
}

/* NULL when the page that the request comes from may connect. */
static const char *check_origin(const struct rb_http_request *request,
                                const struct rb_ws_options *options)
{
    struct origin origin, own;
    if (!options->same_origin && options->origin_count == 0) {
        return NULL;
    }
    struct rb_slice text = rb_http_find(request, "Origin");
    if (text.len == 0) {
        text = rb_http_find(request, "Sec-WebSocket-Origin");
    }
    if (text.len == 0) {
        return NULL; /* not a browser */
    }
    if (!parse_origin(text, &origin)) {
        return "origin not allowed: invalid URI for request";
    }
    if (options->same_origin) {
        own.scheme = options->tls ? RB_S("https") : RB_S("http");
        uint32_t port = options->tls ? 443 : 80;
        if (!split_host(find_host(request), port, &own) ||
            (own.host.len == 0 && !split_host(options->host, port, &own))) {
            return "origin not allowed: invalid host in request";
        }
        if (!same_place(&origin, &own)) {
            return "origin not allowed: not same origin";
        }
    }
    if (options->origin_count > 0 && !origin_listed(options, &origin)) {
        return "origin not allowed: not in the allowed list";
    }
    return NULL;
}

/* ---------------------------------------------------------------- the request */

/* base64 of 16 bytes: 22 digits and two pads. Bits that decode to nothing may be set, as in nats-server. */
static bool key_valid(struct rb_slice key)
{
    if (key.len != KEY_BYTES || key.ptr[22] != '=' || key.ptr[23] != '=') {
        return false;
    }
    for (size_t i = 0; i < 22; i++) {
        uint8_t c = key.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '+' || c == '/')) {
            return false;
        }
    }
    return true;
}

static bool path_ends(const struct rb_http_request *request, struct rb_slice suffix)
{
    struct rb_slice path = request->path;
    return path.len >= suffix.len &&
           memcmp(path.ptr + path.len - suffix.len, suffix.ptr, suffix.len) == 0;
}

/* 101, or the refusal's status and its reason (invariant 1). */
static int judge(const struct rb_http_request *request, const struct rb_ws_options *options,
                 bool bytes_follow, const char **ret_error)
{
    if (path_ends(request, RB_S("/mqtt"))) {
        *ret_error = "mqtt websocket endpoint not enabled";
        return 404;
    }
    if (path_ends(request, RB_S("/leafnode"))) {
        *ret_error = "leafnode websocket endpoint not enabled";
        return 404;
    }
    if (!rb_slice_equal(request->method, RB_S("GET"))) {
        *ret_error = "request method must be GET";
        return 405;
    }
    struct rb_slice key = rb_http_find(request, "Sec-WebSocket-Key");
    const char *error = NULL;
    if (find_host(request).len == 0) {
        error = "'Host' missing in request";
    } else if (!rb_http_has_token(request, "Upgrade", "websocket")) {
        error = "invalid value for header 'Upgrade'";
    } else if (!rb_http_has_token(request, "Connection", "Upgrade")) {
        error = "invalid value for header 'Connection'";
    } else if (key.len == 0) {
        error = "key missing";
    } else if (!key_valid(key)) {
        error = "invalid websocket key";
    } else if (!rb_http_has_token(request, "Sec-WebSocket-Version", "13")) {
        error = "invalid version";
    }
    if (error != NULL) {
        *ret_error = error;
        return 400;
    }
    *ret_error = check_origin(request, options);
    if (*ret_error != NULL) {
        return 403;
    }
    if (bytes_follow) {
        *ret_error = "client sent data before handshake is complete";
        return 400;
    }
    return 101;
}

static struct rb_slice trim(struct rb_slice s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s = rb_slice_of(s.ptr + 1, s.len - 1);
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* The text before the first `separator`, blanks cut; *rest goes behind it. */
static struct rb_slice take_until(struct rb_slice *rest, uint8_t separator)
{
    const uint8_t *end = rest->len == 0 ? NULL : memchr(rest->ptr, separator, rest->len);
    size_t len = end == NULL ? rest->len : (size_t)(end - rest->ptr), skip = len + (end != NULL);
    struct rb_slice part = trim(rb_slice_of(rest->ptr, len));
    *rest = skip == 0 ? *rest : rb_slice_of(rest->ptr + skip, rest->len - skip);
    return part;
}

/* An offer of permessage-deflate that can be accepted without parameters of its own. One that demands a smaller window of us
 * cannot, and is passed over for the next (RFC 7692 7.1.2.1); all other parameters leave us free. */
static bool offer_fits(struct rb_slice offer)
{
    if (!rb_slice_equal_fold(take_until(&offer, ';'), RB_S(EXTENSION))) {
        return false;
    }
    while (offer.len > 0) {
        struct rb_slice parameter = take_until(&offer, ';');
        if (rb_slice_equal_fold(take_until(&parameter, '='), RB_S("server_max_window_bits"))) {
            return false;
        }
    }
    return true;
}

static bool offers_deflate(const struct rb_http_request *request)
{
    for (uint32_t i = 0; i < request->header_count; i++) {
        struct rb_slice list = request->headers[i].value;
        if (!rb_slice_equal_fold(request->headers[i].name, RB_S("Sec-WebSocket-Extensions"))) {
            continue;
        }
        while (list.len > 0) {
            if (offer_fits(take_until(&list, ','))) {
                return true;
            }
        }
    }
    return false;
}

static bool contains(struct rb_slice text, const char *word)
{
    return text.len > 0 && memmem(text.ptr, text.len, word, strlen(word)) != NULL;
}

/* The first address of X-Forwarded-For, when it is one. */
static struct rb_slice forwarded_for(const struct rb_http_request *request)
{
    struct rb_slice list = rb_http_find(request, "X-Forwarded-For");
    struct rb_slice first = take_until(&list, ',');
    char text[INET6_ADDRSTRLEN];
    uint8_t address[16];
    if (first.len == 0 || first.len >= sizeof(text)) {
        return rb_slice_of(NULL, 0);
    }
    memcpy(text, first.ptr, first.len);
    text[first.len] = '\0';
    if (inet_pton(AF_INET, text, address) != 1 && inet_pton(AF_INET6, text, address) != 1) {
        return rb_slice_of(NULL, 0);
    }
    return first;
}

/* ---------------------------------------------------------------- the response */

size_t rb_ws_refuse(int status, uint8_t *out, size_t cap)
{
    struct rb_slice text = rb_slice_text(rb_http_status_text(status));
    struct rb_slice body = rb_slice_of(text.ptr + 4, text.len - 4); /* without "400 " */
    struct rb_writer writer = rb_writer_over(out, cap);
    rb_write_slice(&writer, RB_S("HTTP/1.1 "));
    rb_write_slice(&writer, text);
    rb_write_slice(&writer, RB_S("\r\nContent-Type: text/plain; charset=utf-8\r\n"
                                 "Sec-Websocket-Version: 13\r\n"
                                 "X-Content-Type-Options: nosniff\r\n"
                                 "Connection: close\r\n"
                                 "Content-Length: "));
    rb_write_decimal(&writer, body.len + 1);
    rb_write_slice(&writer, RB_S("\r\n\r\n"));
    rb_write_slice(&writer, body);
    rb_write_slice(&writer, RB_S("\n"));
    rb_assert(writer.ok);
    return rb_writer_len(&writer);
}

/* RFC 6455 4.2.2, 5.4. False when the digest is not to be had. */
static bool accept_key(struct rb_slice key, char out[ACCEPT_BYTES + 1])
{
    uint8_t text[KEY_BYTES + sizeof(ACCEPT_GUID) - 1], digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    memcpy(text, key.ptr, KEY_BYTES);
    memcpy(text + KEY_BYTES, ACCEPT_GUID, sizeof(ACCEPT_GUID) - 1);
    if (EVP_Digest(text, sizeof(text), digest, &digest_len, EVP_sha1(), NULL) != 1 ||
        digest_len != 20) {
        return false;
    }
    return EVP_EncodeBlock((unsigned char *)out, digest, (int)digest_len) == ACCEPT_BYTES;
}

static size_t write_accept(const struct rb_ws_options *options, const struct rb_ws_accept *accept,
                           const char *accepted_key, uint8_t *out, size_t cap)
{
    struct rb_writer writer = rb_writer_over(out, cap);
    rb_write_slice(&writer, RB_S("HTTP/1.1 101 Switching Protocols\r\n"
                                 "Upgrade: websocket\r\n"
                                 "Connection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: "));
    rb_write_slice(&writer, rb_slice_text(accepted_key));
    rb_write_slice(&writer, RB_S("\r\n"));
    if (accept->deflate) {
        rb_write_slice(&writer,
                       RB_S("Sec-WebSocket-Extensions: " EXTENSION
                            "; server_no_context_takeover; client_no_context_takeover\r\n"));
    }
    if (accept->no_masking) {
        rb_write_slice(&writer, RB_S("Nats-No-Masking: true\r\n"));
    }
    rb_write_slice(&writer, options->headers);
    rb_write_slice(&writer, RB_S("\r\n"));
    rb_assert(writer.ok);
    return rb_writer_len(&writer);
}

size_t rb_ws_upgrade(const struct rb_http_request *request, const struct rb_ws_options *options,
                     bool bytes_follow, uint8_t *out, size_t cap, struct rb_ws_accept *ret_accept)
{
    struct rb_ws_accept accept = { .error = NULL };
    char key[ACCEPT_BYTES + 1];
    accept.status = judge(request, options, bytes_follow, &accept.error);
    if (accept.status == 101 && !accept_key(rb_http_find(request, "Sec-WebSocket-Key"), key)) {
        accept.status = 500;
        accept.error = "no SHA-1 in this OpenSSL";
    }
    if (accept.status != 101) {
        *ret_accept = accept;
        return rb_ws_refuse(accept.status, out, cap);
    }
    struct rb_slice agent = rb_http_find(request, "User-Agent");
    accept.browser = rb_slice_starts(agent, RB_S("Mozilla/"));
    accept.safari = accept.browser && contains(agent, "Version/") && contains(agent, "Safari/");
    accept.deflate = options->compression && offers_deflate(request);
    accept.no_masking = rb_slice_equal(rb_http_find(request, "Nats-No-Masking"), RB_S("true"));
    accept.forwarded = forwarded_for(request);
    *ret_accept = accept;
    return write_accept(options, &accept, key, out, cap);
}
