/* ws.h - WebSocket (RFC 6455, RFC 7692 without context takeover): upgrade and frames, over memory (docs/websocket.md). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/http.h"
#include "ringbus/buf.h"
#include "ringbus/errors.h"
#include "ringbus/slice.h"

struct rb_ws_options {
    bool compression, same_origin, tls;
    const struct rb_slice *origins; /* allowed_origins; count 0: all */
    uint32_t origin_count;
    struct rb_slice
        host; /* own "host:port" for same_origin when the Host header has no host; may be empty */
    struct rb_slice headers; /* extra header lines of the 101, each with CR LF */
};

struct rb_ws_accept {
    int status; /* 101, or the refusal's */
    bool deflate, no_masking, browser, safari;
    struct rb_slice forwarded; /* first value of X-Forwarded-For when it is an IP, else empty */
    const char *error; /* why it was refused, in nats-server's words, for the log; NULL with 101 */
};

/**
 * Judges an upgrade request and writes the whole response (101 or refusal, with its body) to `out`.
 * Source: RFC 6455 4.2; reference sheet websocket-mqtt.md 1.1. Returns the response's length (`cap` of 2048 + options->headers.len always suffices).
 */
size_t rb_ws_upgrade(const struct rb_http_request *request, const struct rb_ws_options *options,
                     bool bytes_follow, uint8_t *out, size_t cap, struct rb_ws_accept *ret_accept);

/** The refusal alone, for a head that was not understood (400, 431) or did not come (408). Returns its length. */
size_t rb_ws_refuse(int status, uint8_t *out, size_t cap);

/** Close codes, RFC 6455 7.4.1. */
enum {
    RB_WS_NORMAL = 1000,
    RB_WS_GOING_AWAY = 1001,
    RB_WS_PROTOCOL = 1002,
    RB_WS_NO_STATUS = 1005,
    RB_WS_BAD_DATA = 1007,
    RB_WS_POLICY = 1008,
    RB_WS_TOO_BIG = 1009,
    RB_WS_INTERNAL = 1011,
    RB_WS_TLS = 1015
};

struct rb_ws_read_options {
    struct rb_bufpool *pool;
    bool masked; /* the peer must mask */
    bool deflate;
    uint64_t message_max; /* bytes of one inflated message */
};

/** Opcodes, RFC 6455 5.2. */
enum {
    RB_WS_OP_CONTINUE = 0,
    RB_WS_OP_TEXT = 1,
    RB_WS_OP_BINARY = 2,
    RB_WS_OP_CLOSE = 8,
    RB_WS_OP_PING = 9,
    RB_WS_OP_PONG = 10
};

struct rb_ws_inflater;

/** Reader of one connection: resumable at any byte. Embedded, must not move; layout private. */
struct rb_ws_reader {
    struct rb_ws_read_options options;
    uint64_t payload_left;           /* of the frame */
    uint64_t deflated_bytes;         /* of the compressed message, announced so far */
    struct rb_ws_inflater *inflater; /* of a compressed message under way */
    const char *fail_text;           /* for the log and the close frame's body */
    uint32_t mask_at;
    uint16_t fail_code;
    uint8_t head[14], head_len, head_need;
    uint8_t mask[4];
    uint8_t opcode, state, tail_at;
    bool fin, compressed, in_message;
    uint8_t control[125], control_len;
};

void rb_ws_reader_init(struct rb_ws_reader *reader, const struct rb_ws_read_options *options);
void rb_ws_reader_deinit(struct rb_ws_reader *reader);

enum rb_ws_result {
    RB_WS_DATA, /* *ret_data: plain message bytes (a part or all of a message) */
    RB_WS_PING, /* answer with a pong of *ret_data */
    RB_WS_PONG,
    RB_WS_CLOSE,  /* the peer closes; *ret_code is its status (RB_WS_NO_STATUS: none) */
    RB_WS_MORE,   /* all input was taken */
    RB_WS_BROKEN, /* reader->fail_code, fail_text */
};
/**
 * Takes from the front of `*in` (mutable: unmasked in place). *ret_data is borrowed until the next call, and is empty
 * but for DATA, PING, PONG and CLOSE (then it is the peer's reason). Inflated data comes in pieces over several calls: call
 * until RB_WS_MORE, also when *in_len is 0. After CLOSE all further input is dropped; after BROKEN nothing is taken.
 */
enum rb_ws_result rb_ws_read(struct rb_ws_reader *reader, uint8_t **in, size_t *in_len,
                             struct rb_slice *ret_data, uint16_t *ret_code);

/** Longest frame header (server frames are not masked; client ones are: tests, leaf nodes). */
#define RB_WS_HEADER_MAX 14
/** Header of a frame; returns its length. `first` false: a continuation. `mask` NULL: unmasked. */
size_t rb_ws_header(uint8_t out[RB_WS_HEADER_MAX], uint8_t opcode, bool first, bool fin,
                    bool compressed, uint64_t payload_len, const uint8_t mask[4]);
/**
 * A whole unmasked control frame. With a `code`: it and the body, cut to 123 bytes with "..." (never inside a character).
 * With code 0: the body alone, which a close does not have; cut to 125. Returns the frame's length.
 */
size_t rb_ws_control(uint8_t out[RB_WS_HEADER_MAX + 125], uint8_t opcode, uint16_t code,
                     struct rb_slice body);

/** Compressor, one per shard: messages are independent. */
struct rb_ws_deflater;
RB_MUST_CHECK enum rb_err rb_ws_deflater_create(struct rb_ws_deflater **ret_deflater);
void rb_ws_deflater_destroy(struct rb_ws_deflater *deflater);
/**
 * Deflates the concatenation of `slices` as one message without its 00 00 FF FF tail into a block of `pool`.
 * NULL when memory is refused. The block's `len` is the length.
 */
struct rb_buf *rb_ws_deflate(struct rb_ws_deflater *deflater, struct rb_bufpool *pool,
                             const struct rb_slice *slices, uint32_t slice_count);
/** Smaller messages are not compressed. */
#define RB_WS_COMPRESS_MIN 64
/** Frames to browsers are no longer than this. */
#define RB_WS_BROWSER_FRAME 4096
