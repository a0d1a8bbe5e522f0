/* stream.c - TLS and WebSocket on the generator's side.
 *
 *   TLS        INFO in clear -> our hello ... handshake -> records
 *   WebSocket  our request -> 101 -> frames, the first of which is INFO
 *
 * 1. TLS is src/tls in client mode, without verifying: the server's cost is the same, and the
 *    generator's is smaller.
 * 2. Frames to the server are masked, one per call, whole and, with compression, deflated on their
 *    own. Frames from the server may hold parts of, or several, protocol lines.
 */
#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "net.h"
#include "tls/tls.h"

#define PLAIN_BYTES (64 * 1024)
#define MESSAGE_MAX (64u << 20)
#define UPGRADE_MAX 2048
#define WS_HEAD_MAX 14

static const char upgrade_text[] = "GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
                                   "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                   "Sec-WebSocket-Key: cmluZ2J1c19iZW5jaF9rZQ==\r\n";
static const char deflate_text[] =
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
    "client_no_context_takeover\r\n";
static const uint8_t mask[4] = { 0x37, 0xfa, 0x21, 0x3d };

/* Bytes that grow. */
struct bytes {
    uint8_t *ptr;
    size_t len, cap;
};

struct rb_stream {
    enum rb_wire wire;
    bool ready;
    struct rb_tls *tls;
    struct bytes out;   /* records or a frame for the socket */
    struct bytes whole; /* WebSocket: the answer to the upgrade, later a compressed message */
    uint8_t head[WS_HEAD_MAX];
    uint32_t head_len;
    uint64_t payload_left;
    bool in_payload, fin, compressed;
    z_stream inflater, deflater;
};

static void add_bytes(struct bytes *bytes, const void *ptr, size_t len)
{
    if (bytes->cap - bytes->len < len) {
        size_t cap = bytes->cap < 1024 ? 1024 : bytes->cap;
        while (cap - bytes->len < len) {
            cap *= 2;
        }
        bytes->ptr = realloc(bytes->ptr, cap);
        bytes->cap = cap;
        if (bytes->ptr == NULL) {
            rb_load_die("no memory");
        }
    }
    memcpy(bytes->ptr + bytes->len, ptr, len);
    bytes->len += len;
}

static void free_bytes(struct bytes *bytes)
{
    free(bytes->ptr);
    *bytes = (struct bytes){ .ptr = NULL };
}

struct rb_stream *rb_stream_create(const struct rb_load *load)
{
    if (load->wire == RB_WIRE_PLAIN) {
        return NULL;
    }
    struct rb_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        rb_load_die("no memory");
    }
    stream->wire = load->wire;
    if (stream->wire == RB_WIRE_TLS && rb_tls_create(load->tls, &stream->tls) != RB_OK) {
        rb_load_die("no memory");
    }
    if (stream->wire == RB_WIRE_WS_DEFLATE &&
        (inflateInit2(&stream->inflater, -15) != Z_OK ||
         deflateInit2(&stream->deflater, Z_BEST_SPEED, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) !=
             Z_OK)) {
        rb_load_die("no memory for zlib");
    }
    return stream;
}

void rb_stream_destroy(struct rb_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    rb_tls_destroy(stream->tls);
    if (stream->wire == RB_WIRE_WS_DEFLATE) {
        (void)inflateEnd(&stream->inflater);
        (void)deflateEnd(&stream->deflater);
    }
    free_bytes(&stream->out);
    free_bytes(&stream->whole);
    free(stream);
}

bool rb_stream_ready(const struct rb_stream *stream)
{
    return stream->ready;
}

static bool sink(void *ctx, const uint8_t *bytes, size_t len)
{
    struct rb_stream *stream = ctx;
    add_bytes(&stream->out, bytes, len);
    return true;
}

/* TLS */

static void shake(struct rb_client *client, struct rb_slice *in)
{
    struct rb_stream *stream = client->stream;
    stream->out.len = 0;
    enum rb_tls_result result = rb_tls_handshake(stream->tls, in, sink, stream);
    if (result != RB_TLS_DONE && result != RB_TLS_MORE) {
        rb_load_die("TLS handshake: %s", rb_tls_error(stream->tls));
    }
    if (stream->out.len > 0) {
        rb_client_write_raw(client, stream->out.ptr, stream->out.len);
    }
    if (result == RB_TLS_DONE) {
        stream->ready = true;
        free_bytes(&stream->out); /* thousands of idle connections keep none */
    }
}

static void take_tls(struct rb_client *client, const uint8_t *ptr, size_t len)
{
    static _Thread_local uint8_t plain[PLAIN_BYTES];
    struct rb_stream *stream = client->stream;
    struct rb_slice in = rb_slice_of(ptr, len);
    if (client->feed.infos == 0) {
        rb_client_feed(client, ptr, len);
        in.len = 0;
        if (client->feed.infos == 0) {
            return;
        }
    }
    if (!stream->ready) {
        shake(client, &in);
        if (!stream->ready) {
            return;
        }
    }
    for (;;) {
        size_t plain_len = 0;
        stream->out.len = 0;
        enum rb_tls_result result =
            rb_tls_read(stream->tls, &in, plain, sizeof(plain), &plain_len, sink, stream);
        if (stream->out.len > 0) {
            rb_client_write_raw(client, stream->out.ptr, stream->out.len);
        }
        if (result == RB_TLS_MORE) {
            return;
        }
        if (result != RB_TLS_DONE) {
            rb_load_die("TLS: %s", result == RB_TLS_CLOSED ? "the server closed a connection"
                                                           : rb_tls_error(stream->tls));
        }
        rb_client_feed(client, plain, plain_len);
    }
}

/* WebSocket */

void rb_stream_begin(const struct rb_load *load, struct rb_client *client)
{
    if (client->stream == NULL || client->stream->wire == RB_WIRE_TLS) {
        return; /* the server speaks first */
    }
    rb_client_write_raw(client, upgrade_text, sizeof(upgrade_text) - 1);
    if (load->wire == RB_WIRE_WS_DEFLATE) {
        rb_client_write_raw(client, deflate_text, sizeof(deflate_text) - 1);
    }
    rb_client_write_raw(client, "\r\n", 2);
}

/* The answer to the upgrade, byte by byte; frames follow it. Returns how much was taken. */
static size_t take_answer(struct rb_stream *stream, const uint8_t *ptr, size_t len)
{
    struct bytes *whole = &stream->whole;
    for (size_t i = 0; i < len; i++) {
        add_bytes(whole, ptr + i, 1);
        if (whole->len >= 4 && memcmp(whole->ptr + whole->len - 4, "\r\n\r\n", 4) == 0) {
            add_bytes(whole, "", 1);
            const char *text = (const char *)whole->ptr;
            bool deflates = strstr(text, "permessage-deflate") != NULL;
            if (strncmp(text, "HTTP/1.1 101", 12) != 0) {
                rb_load_die("the upgrade was refused: %.40s", text);
            }
            if (deflates != (stream->wire == RB_WIRE_WS_DEFLATE)) {
                rb_load_die("compression was %s", deflates ? "not asked for" : "refused");
            }
            stream->ready = true;
            whole->len = 0;
            return i + 1;
        }
        if (whole->len > UPGRADE_MAX) {
            rb_load_die("the answer to the upgrade has no end");
        }
    }
    return len;
}

static void inflate_whole(struct rb_client *client)
{
    static _Thread_local uint8_t plain[PLAIN_BYTES];
    struct rb_stream *stream = client->stream;
    z_stream *z = &stream->inflater;
    add_bytes(&stream->whole, "\x00\x00\xff\xff", 4);
    if (inflateReset(z) != Z_OK) {
        rb_load_die("zlib");
    }
    z->next_in = stream->whole.ptr;
    z->avail_in = (uInt)stream->whole.len;
    do {
        z->next_out = plain;
        z->avail_out = sizeof(plain);
        int code = inflate(z, Z_SYNC_FLUSH);
        if (code != Z_OK && code != Z_BUF_ERROR) {
            rb_load_die("a compressed message is damaged (zlib says %d)", code);
        }
        if (z->avail_out < sizeof(plain)) {
            rb_client_feed(client, plain, sizeof(plain) - z->avail_out);
        }
    } while (z->avail_out == 0);
    if (z->avail_in > 0) {
        rb_load_die("a compressed message has a tail");
    }
    stream->whole.len = 0;
}

/* True once the header is complete. */
static bool take_head(struct rb_stream *stream, uint8_t byte)
{
    uint8_t *head = stream->head;
    head[stream->head_len++] = byte;
    if (stream->head_len < 2) {
        return false;
    }
    uint32_t extra = head[1] == 126 ? 2 : head[1] == 127 ? 8 : 0;
    if ((head[1] & 0x80) != 0 || (head[0] & 0x0f) >= 8) {
        rb_load_die("a frame of the server is masked or ends the connection (%02x %02x)", head[0],
                    head[1]);
    }
    if (stream->head_len < 2 + extra) {
        return false;
    }
    uint64_t len = extra == 0 ? head[1] : 0;
    for (uint32_t i = 0; i < extra; i++) {
        len = len << 8 | head[2 + i];
    }
    if ((head[0] & 0x0f) != 0) { /* a continuation has no bit of its own */
        stream->compressed = (head[0] & 0x40) != 0;
    }
    stream->fin = (head[0] & 0x80) != 0;
    stream->payload_left = len;
    stream->head_len = 0;
    return true;
}

static void take_frames(struct rb_client *client, const uint8_t *ptr, size_t len)
{
    struct rb_stream *stream = client->stream;
    while (len > 0) {
        if (!stream->in_payload) {
            stream->in_payload = take_head(stream, *ptr++);
            len--;
        }
        if (!stream->in_payload) {
            continue;
        }
        size_t part = stream->payload_left < len ? (size_t)stream->payload_left : len;
        if (stream->compressed) {
            add_bytes(&stream->whole, ptr, part);
            if (stream->whole.len > MESSAGE_MAX) {
                rb_load_die("a compressed message is too long");
            }
        } else if (part > 0) {
            rb_client_feed(client, ptr, part);
        }
        ptr += part;
        len -= part;
        stream->payload_left -= part;
        if (stream->payload_left == 0) {
            stream->in_payload = false;
            if (stream->compressed && stream->fin) {
                inflate_whole(client);
            }
        }
    }
}

void rb_stream_take(struct rb_client *client, const uint8_t *ptr, size_t len)
{
    struct rb_stream *stream = client->stream;
    if (stream->wire == RB_WIRE_TLS) {
        take_tls(client, ptr, len);
        return;
    }
    if (!stream->ready) {
        size_t taken = take_answer(stream, ptr, len);
        ptr += taken;
        len -= taken;
    }
    take_frames(client, ptr, len);
}

/* Appends the payload deflated, without the tail that every message has. Returns its length. */
static size_t deflate_part(struct rb_stream *stream, struct bytes *out, const void *ptr, size_t len)
{
    size_t before = out->len;
    z_stream *z = &stream->deflater;
    uint8_t part[4096];
    if (deflateReset(z) != Z_OK) {
        rb_load_die("zlib");
    }
    z->next_in = (Bytef *)ptr;
    z->avail_in = (uInt)len;
    do {
        z->next_out = part;
        z->avail_out = sizeof(part);
        (void)deflate(z, Z_SYNC_FLUSH);
        add_bytes(out, part, sizeof(part) - z->avail_out);
    } while (z->avail_out == 0);
    out->len -= 4;
    return out->len - before;
}

static void encode_frame(struct rb_stream *stream, const void *ptr, size_t len)
{
    struct bytes *out = &stream->out;
    uint8_t head[WS_HEAD_MAX] = { 0 };
    bool deflates = stream->wire == RB_WIRE_WS_DEFLATE;
    add_bytes(out, head, WS_HEAD_MAX); /* room; moved up to the payload below */
    if (deflates) {
        len = deflate_part(stream, out, ptr, len);
    } else {
        add_bytes(out, ptr, len);
    }
    uint8_t *payload = out->ptr + WS_HEAD_MAX;
    for (size_t i = 0; i < len; i++) {
        payload[i] ^= mask[i % 4];
    }
    uint32_t extra = len < 126 ? 0 : len < 65536 ? 2 : 8;
    head[0] = (uint8_t)(0x82 | (deflates ? 0x40 : 0));
    head[1] = (uint8_t)(0x80 | (extra == 0 ? len : extra == 2 ? 126 : 127));
    for (uint32_t i = 0; i < extra; i++) {
        head[2 + i] = (uint8_t)(len >> 8 * (extra - 1 - i));
    }
    memcpy(head + 2 + extra, mask, 4);
    size_t head_len = 2 + extra + 4;
    memmove(out->ptr + head_len, payload, len);
    memcpy(out->ptr, head, head_len);
    out->len = head_len + len;
}

struct rb_wire_bytes rb_stream_encode(struct rb_stream *stream, const void *ptr, size_t len)
{
    stream->out.len = 0;
    if (stream->wire != RB_WIRE_TLS) {
        encode_frame(stream, ptr, len);
    } else if (rb_tls_write(stream->tls, rb_slice_of(ptr, len), sink, stream) != RB_TLS_DONE) {
        rb_load_die("TLS: %s", rb_tls_error(stream->tls));
    }
    return (struct rb_wire_bytes){ .ptr = stream->out.ptr, .len = stream->out.len };
}
