/* test_ws.c - WebSocket frames: the rules, at every split, compressed and not. */
#include "proto/ws.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define LIMIT 100000

struct fixture {
    struct rb_budget budget;
    struct rb_bufpool pool;
    struct rb_ws_deflater *deflater;
    struct rb_ws_read_options options;
    uint8_t wire[2000000]; /* frames to be read */
    size_t wire_len;
    uint8_t data[2000000]; /* what came out as message data */
    size_t data_len;
    char events[512]; /* P, O and C with their bodies, D for data, B when broken */
    uint16_t close_code, fail_code;
    char fail_text[128];
    uint64_t blocks_max; /* most blocks held at a time */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    rb_bufpool_init(&f->pool, &f->budget);
    if (rb_ws_deflater_create(&f->deflater) != RB_OK) {
        return -1;
    }
    f->options = (struct rb_ws_read_options){
        .pool = &f->pool, .masked = true, .deflate = true, .message_max = LIMIT
    };
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rb_ws_deflater_destroy(f->deflater);
    rb_bufpool_deinit(&f->pool); /* asserts that nothing is held */
    free(f);
    return 0;
}

/* ---------------------------------------------------------------- making frames */

static const uint8_t test_mask[4] = { 0x11, 0x82, 0x53, 0xf4 };

/* Appends a masked frame whose first byte is `first` and which announces `len` bytes in `form` (0, 2 or 8) bytes. */
static void add_frame_of(struct fixture *f, uint8_t first, const void *bytes, size_t len, int form,
                         bool masked)
{
    uint8_t *out = f->wire + f->wire_len;
    *out++ = first;
    *out++ = (uint8_t)((masked ? 0x80 : 0) | (form == 0 ? len : form == 2 ? 126 : 127));
    for (int i = form - 1; i >= 0; i--) {
        *out++ = (uint8_t)(len >> 8 * i);
    }
    if (masked) {
        memcpy(out, test_mask, 4);
        out += 4;
    }
    for (size_t i = 0; i < len; i++) {
        *out++ = (uint8_t)(((const uint8_t *)bytes)[i] ^ (masked ? test_mask[i % 4] : 0));
    }
    f->wire_len = (size_t)(out - f->wire);
    assert_true(f->wire_len <= sizeof(f->wire));
}

static void add_frame(struct fixture *f, uint8_t first, const void *bytes, size_t len)
{
    add_frame_of(f, first, bytes, len, len < 126 ? 0 : len <= UINT16_MAX ? 2 : 8, true);
}

static void add_text(struct fixture *f, uint8_t first, const char *bytes)
{
    add_frame(f, first, bytes, strlen(bytes));
}

static void note(struct fixture *f, char what, struct rb_slice body)
{
    size_t len = strlen(f->events);
    if (what == 'D' && len > 0 && f->events[len - 1] == 'D') {
        return; /* how data is cut does not matter */
    }
    assert_true(len + body.len + 2 < sizeof(f->events));
    f->events[len++] = what;
    if (body.len > 0) {
        memcpy(f->events + len, body.ptr, body.len);
    }
    f->events[len + body.len] = '\0';
}

/* One call; false when the reader wants more, or nothing more. */
static bool step(struct fixture *f, struct rb_ws_reader *reader, uint8_t **in, size_t *in_len)
{
    struct rb_slice data = RB_S("untouched");
    uint16_t code = 7;
    enum rb_ws_result result = rb_ws_read(reader, in, in_len, &data, &code);
    assert_int_equal(code, result == RB_WS_CLOSE ? code : 7);
    f->blocks_max = f->pool.used_count > f->blocks_max ? f->pool.used_count : f->blocks_max;
    switch (result) {
    case RB_WS_DATA:
        assert_true(data.len > 0 && f->data_len + data.len <= sizeof(f->data));
        memcpy(f->data + f->data_len, data.ptr, data.len);
        f->data_len += data.len;
        note(f, 'D', rb_slice_of(NULL, 0));
        return true;
    case RB_WS_PING:
        note(f, 'P', data);
        return true;
    case RB_WS_PONG:
        note(f, 'O', data);
        return true;
    case RB_WS_CLOSE:
        f->close_code = code;
        note(f, 'C', data);
        return true;
    case RB_WS_MORE:
        assert_int_equal(*in_len, 0);
        assert_int_equal(data.len, 0);
        return false;
    case RB_WS_BROKEN:
        f->fail_code = reader->fail_code;
        snprintf(f->fail_text, sizeof(f->fail_text), "%s", reader->fail_text);
        note(f, 'B', rb_slice_of(NULL, 0));
        assert_int_equal(rb_ws_read(reader, in, in_len, &data, &code), RB_WS_BROKEN);
        return false;
    }
    fail();
    return false;
}

/* Reads the wire in pieces of `first` bytes, then of `rest` bytes, each in memory of its own size. */
static void read_pieces(struct fixture *f, size_t first, size_t rest)
{
    struct rb_ws_reader reader;
    rb_ws_reader_init(&reader, &f->options);
    f->data_len = 0;
    f->events[0] = '\0';
    f->close_code = f->fail_code = 0;
    f->fail_text[0] = '\0';
    for (size_t at = 0, len = first; at < f->wire_len && f->fail_code == 0; at += len, len = rest) {
        len = len < f->wire_len - at ? len : f->wire_len - at;
        uint8_t *copy = malloc(len == 0 ? 1 : len), *in = copy;
        size_t in_len = len;
        memcpy(copy, f->wire + at, len);
        while (step(f, &reader, &in, &in_len)) {
        }
        free(copy);
    }
    rb_ws_reader_deinit(&reader);
}

/* Whole, byte by byte, and at every split in two (of a short wire): the same events and the same data. */
static void assert_read(struct fixture *f, const char *events, const char *data)
{
    size_t len = f->wire_len;
    read_pieces(f, len, len);
    assert_string_equal(f->events, events);
    for (size_t first = 0; first <= len && len < 2000; first++) {
        read_pieces(f, first, first == 0 ? 1 : len);
        assert_string_equal(f->events, events);
        assert_int_equal(f->data_len, strlen(data));
        assert_memory_equal(f->data, data, f->data_len);
    }
    f->wire_len = 0;
}

static void assert_broken(struct fixture *f, const char *events, uint16_t code, const char *text)
{
    size_t len = f->wire_len;
    for (size_t first = 0; first <= len && len < 2000; first++) {
        read_pieces(f, first, first == 0 ? 1 : len);
        assert_string_equal(f->events, events);
        assert_int_equal(f->fail_code, code);
        assert_string_equal(f->fail_text, text);
    }
    f->wire_len = 0;
}

/* ---------------------------------------------------------------- plain frames */

static void messages_are_read(void **state)
{
    struct fixture *f = *state;
    add_text(f, 0x82, "PING\r\n");
    assert_read(f, "D", "PING\r\n");
    add_text(f, 0x81, "text is as good");
    assert_read(f, "D", "text is as good");
    add_text(f, 0x82, "one ");
    add_text(f, 0x82, "");
    add_text(f, 0x81, "two");
    assert_read(f, "D", "one two");
    assert_read(f, "", "");
}

static void fragments_and_controls_between(void **state)
{
    struct fixture *f = *state;
    add_text(f, 0x02, "ab");
    add_text(f, 0x89, "hey");
    add_text(f, 0x00, "");
    add_text(f, 0x8a, "");
    add_text(f, 0x00, "cdefghijklmnop");
    add_text(f, 0x80, "q");
    add_text(f, 0x82, "r");
    assert_read(f, "DPheyOD", "abcdefghijklmnopqr");
}

static void lengths_at_the_borders(void **state)
{
    static const size_t lens[] = { 0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, 70000 };
    struct fixture *f = *state;
    static uint8_t bytes[70000];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    }
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        for (size_t piece = 1; piece < 20; piece++) {
            f->wire_len = 0;
            add_frame(f, 0x82, bytes, lens[i]);
            read_pieces(f, piece * 3, piece == 19 ? 100000 : piece * piece * piece);
            assert_int_equal(f->data_len, lens[i]);
            assert_memory_equal(f->data, bytes, lens[i]);
            assert_string_equal(f->events, lens[i] == 0 ? "" : "D");
        }
    }
    f->wire_len = 0; /* longer forms than needed: taken, as nats-server does */
    add_frame_of(f, 0x82, "abc", 3, 2, true);
    add_frame_of(f, 0x82, "def", 3, 8, true);
    assert_read(f, "D", "abcdef");
}

/* Data of plain messages is never copied, and a message of any length holds nothing. */
static void data_lies_in_the_input(void **state)
{
    struct fixture *f = *state;
    struct rb_ws_reader reader;
    struct rb_slice data;
    uint16_t code;
    rb_ws_reader_init(&reader, &f->options);
    add_frame_of(f, 0x82, "", 0, 8, true);
    memset(f->wire + 2, 0x3f, 8); /* 4.5e18 bytes */
    memcpy(f->wire + f->wire_len, "0123456789", 10);
    uint8_t *in = f->wire;
    size_t in_len = f->wire_len + 10;
    assert_int_equal(rb_ws_read(&reader, &in, &in_len, &data, &code), RB_WS_DATA);
    assert_ptr_equal(data.ptr, f->wire + f->wire_len);
    assert_int_equal(data.len, 10);
    assert_int_equal(data.ptr[9], '9' ^ test_mask[1]);
    assert_int_equal(rb_ws_read(&reader, &in, &in_len, &data, &code), RB_WS_MORE);
    assert_int_equal(f->pool.used_count, 0);
    rb_ws_reader_deinit(&reader);
}

static void unmasked_frames_where_agreed(void **state)
{
    struct fixture *f = *state;
    add_frame_of(f, 0x82, "abc", 3, 0, false);
    assert_broken(f, "B", RB_WS_PROTOCOL, "mask bit missing");
    f->options.masked = false;
    add_frame_of(f, 0x82, "abc", 3, 0, false);
    add_frame_of(f, 0x89, "x", 1, 0, false);
    add_text(f, 0x82, "masked all the same");
    assert_read(f, "DPxD", "abcmasked all the same");
}

static void every_broken_rule_has_its_code(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint8_t first;
        const char *text;
    } starts[] = {
        { 0xa2, "RSV2 and RSV3 must be clear" },
        { 0x92, "RSV2 and RSV3 must be clear" },
        { 0xb9, "RSV2 and RSV3 must be clear" },
        { 0x83, "unknown opcode 3" },
        { 0x87, "unknown opcode 7" },
        { 0x8b, "unknown opcode 11" },
        { 0x8f, "unknown opcode 15" },
        { 0x80, "invalid continuation frame" },
        { 0x00, "invalid continuation frame" },
        { 0x09, "control frame does not have final bit set" },
        { 0x08, "control frame does not have final bit set" },
        { 0xc9, "control frame must not be compressed" },
        { 0xc8, "control frame must not be compressed" },
    };
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        add_text(f, starts[i].first, "x");
        assert_broken(f, "B", RB_WS_PROTOCOL, starts[i].text);
    }
    add_text(f, 0x02, "abc");
    add_text(f, 0x82, "def");
    assert_broken(f, "DB", RB_WS_PROTOCOL,
                  "new message started before final frame for previous message was received");
    add_text(f, 0x82, "abc");
    add_text(f, 0x80, "def");
    assert_broken(f, "DB", RB_WS_PROTOCOL, "invalid continuation frame");
    add_text(f, 0x42, "");
    add_text(f, 0xc0, "def");
    assert_broken(f, "B", RB_WS_PROTOCOL, "invalid continuation frame");
    add_frame_of(f, 0x82, "", 0, 8, true);
    f->wire[2] = 0x80;
    assert_broken(f, "B", RB_WS_PROTOCOL, "invalid 64-bit payload length");
    f->options.deflate = false;
    add_text(f, 0xc2, "abc");
    assert_broken(f, "B", RB_WS_PROTOCOL,
                  "compressed frame received without negotiated permessage-deflate");
}

/* ---------------------------------------------------------------- control frames */

static void control_frames_have_125_bytes(void **state)
{
    struct fixture *f = *state;
    char body[127] = "P", long_body[127];
    memset(long_body, 'x', sizeof(long_body));
    memset(body + 1, 'x', 125);
    body[126] = '\0';
    add_frame(f, 0x89, long_body, 125);
    assert_read(f, body, "");
    add_frame(f, 0x89, long_body, 126);
    assert_broken(f, "B", RB_WS_PROTOCOL,
                  "control frame length bigger than maximum allowed of 125 bytes");
    add_frame_of(f, 0x8a, "x", 1, 8, true);
    assert_broken(f, "B", RB_WS_PROTOCOL,
                  "control frame length bigger than maximum allowed of 125 bytes");
}

static void close_codes_are_checked(void **state)
{
    struct fixture *f = *state;
    char text[64];
    for (unsigned code = 0; code < 65536; code += code < 1020 || code > 4990 ? 1 : 7) {
        uint8_t body[2] = { (uint8_t)(code >> 8), (uint8_t)code };
        bool good = (code >= 1000 && code < 1004) || (code > 1006 && code < 1015) ||
                    (code >= 3000 && code < 5000);
        add_frame(f, 0x88, body, 2);
        read_pieces(f, 100, 1);
        f->wire_len = 0;
        snprintf(text, sizeof(text), "invalid close status code %u", code);
        assert_int_equal(f->close_code, good ? code : 0);
        assert_int_equal(f->fail_code, good ? 0 : RB_WS_PROTOCOL);
        assert_string_equal(f->fail_text, good ? "" : text);
        if (code > 6000) {
            code += 997;
        }
    }
}

static void close_frames_are_read(void **state)
{
    struct fixture *f = *state;
    add_text(f, 0x88, "");
    read_pieces(f, 6, 1);
    assert_int_equal(f->close_code, RB_WS_NO_STATUS);
    assert_read(f, "C", "");
    add_text(f, 0x88,
             "\x03\xe8"
             "bye \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    assert_read(f, "Cbye \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "");
    assert_int_equal(f->close_code, RB_WS_NORMAL);
    add_text(f, 0x42, ""); /* in the middle of a message; all that follows is dropped */
    add_text(f, 0x88, "\x03\xe9");
    add_text(f, 0x82, "late");
    add_text(f, 0xff, "late");
    assert_read(f, "C", "");
    assert_int_equal(f->close_code, RB_WS_GOING_AWAY);
    add_text(f, 0x88, "\x03");
    assert_broken(f, "B", RB_WS_PROTOCOL, "close frame payload cannot be 1 byte");
    static const char *const reasons[] = {
        "\xff",
        "\x80",
        "a\xc3",
        "\xc0\x80",
        "\xe0\x80\x80",
        "\xed\xa0\x80",
        "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xe2\x82",
        "\xe2\x28\xa1",
    };
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        char body[16] = "\x03\xe8";
        strcat(body, reasons[i]);
        add_text(f, 0x88, body);
        assert_broken(f, "B", RB_WS_BAD_DATA, "invalid utf8 body in close frame");
    }
}

/* ---------------------------------------------------------------- compressed messages */

/* `text` deflated, as one message would carry it. */
static struct rb_buf *deflated(struct fixture *f, struct rb_slice text)
{
    struct rb_buf *buf = rb_ws_deflate(f->deflater, &f->pool, &text, 1);
    assert_non_null(buf);
    return buf;
}

static void compressed_messages_are_read(void **state)
{
    struct fixture *f = *state;
    struct rb_slice text = RB_S("CONNECT {}\r\nPING\r\nPING\r\nPING\r\nPING\r\nPING\r\n");
    struct rb_buf *buf = deflated(f, text);
    add_frame(f, 0xc2, buf->data, buf->len);
    assert_read(f, "D", (const char *)text.ptr);
    /* In fragments, with control frames and empty frames between, twice. */
    for (int i = 0; i < 2; i++) {
        add_frame(f, 0x41, buf->data, 3);
        add_text(f, 0x89, "p");
        add_frame(f, 0x00, buf->data + 3, 0);
        add_frame(f, 0x00, buf->data + 3, buf->len - 4);
        add_frame(f, 0x80, buf->data + buf->len - 1, 1);
        add_text(f, 0x82, "\r\n");
    }
    rb_buf_release(buf);
    f->blocks_max = 0;
    read_pieces(f, f->wire_len, 1);
    assert_int_equal(f->data_len, 2 * text.len + 4);
    assert_memory_equal(f->data, text.ptr, text.len);
    assert_memory_equal(f->data + text.len + 2, text.ptr, text.len);
    assert_true(f->blocks_max <= 2);
    for (size_t first = 1; first < f->wire_len; first++) {
        read_pieces(f, first, 1);
        assert_int_equal(f->data_len, 2 * text.len + 4);
        assert_memory_equal(f->data + text.len + 2, text.ptr, text.len);
        assert_int_equal(f->pool.used_count, 0);
    }
}

/* RFC 7692 7.2.3: the examples. */
static void examples_of_the_rfc(void **state)
{
    struct fixture *f = *state;
    add_text(f, 0xc1, "\xf2\x48\xcd\xc9\xc9\x07");
    f->wire_len = 0;
    add_frame(f, 0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
    assert_read(f, "D", "Hello");
    add_frame(f, 0x41, "\xf2\x48\xcd", 3);
    add_frame(f, 0x80, "\xc9\xc9\x07\x00", 4);
    assert_read(f, "D", "Hello");
    add_frame(f, 0xc1, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11); /* stored */
    assert_read(f, "D", "Hello");
    add_frame(f, 0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8); /* its block is marked the last */
    add_frame(f, 0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00", 7);     /* and nothing behind it */
    assert_read(f, "D", "HelloHello");
    add_frame(f, 0xc1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13); /* two blocks */
    assert_read(f, "D", "Hello");
    add_frame(f, 0xc1, "\x00", 1); /* an empty message */
    add_frame(f, 0xc1, "", 0);
    add_text(f, 0x82, "x");
    assert_read(f, "D", "x");
}

static void broken_compression_is_refused(void **state)
{
    struct fixture *f = *state;
    struct rb_slice text = RB_S("abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz");
    struct rb_buf *buf = deflated(f, text);
    add_frame(f, 0xc2, "\xff\xff\xff\xff", 4);
    assert_broken(f, "B", RB_WS_BAD_DATA, "invalid compressed data");
    size_t refused = 0;
    for (uint32_t len = 1; len < buf->len; len++) { /* cut short: never taken for the whole */
        f->wire_len = 0;
        add_frame(f, 0xc2, buf->data, len);
        read_pieces(f, 1000, 1000);
        refused += f->fail_code == RB_WS_BAD_DATA;
        assert_true(f->fail_code == RB_WS_BAD_DATA || f->data_len <= text.len);
        assert_int_equal(f->pool.used_count, 1);
    }
    assert_true(refused > buf->len / 2);
    rb_buf_release(buf);
    f->wire_len = 0;
    /* A distance beyond the start of the message: what went before is not to be seen. */
    add_frame(f, 0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
    add_frame(f, 0xc1, "\xf2\x00\x11\x00\x00", 5); /* RFC 7692 7.2.3.3: needs the first message */
    assert_broken(f, "DB", RB_WS_BAD_DATA, "invalid compressed data");
}

static struct rb_buf *repeated(struct fixture *f, size_t len)
{
    struct rb_slice slices[64];
    static uint8_t zeros[65536];
    uint32_t count = 0;
    for (; len > 0; len -= slices[count - 1].len) {
        assert_true(count < 64);
        slices[count++] = rb_slice_of(zeros, len < sizeof(zeros) ? len : sizeof(zeros));
    }
    struct rb_buf *buf = rb_ws_deflate(f->deflater, &f->pool, slices, count);
    assert_non_null(buf);
    return buf;
}

static void inflated_messages_are_bounded(void **state)
{
    struct fixture *f = *state;
    for (size_t len = LIMIT - 1; len <= LIMIT + 2; len++) {
        struct rb_buf *buf = repeated(f, len);
        f->wire_len = 0;
        add_frame(f, 0x42, buf->data, buf->len / 2);
        add_frame(f, 0x80, buf->data + buf->len / 2, buf->len - buf->len / 2);
        rb_buf_release(buf);
        read_pieces(f, 50, 3);
        assert_int_equal(f->fail_code, len <= LIMIT ? 0 : RB_WS_TOO_BIG);
        assert_true(f->data_len == len || (len > LIMIT && f->data_len <= LIMIT));
    }
    assert_string_equal(f->fail_text, "maximum payload exceeded");
}

/* 4 MiB from 4 KiB: refused at the limit, in two blocks. */
static void bombs_cost_two_blocks(void **state)
{
    struct fixture *f = *state;
    struct rb_buf *buf = repeated(f, 4 << 20);
    assert_true(buf->len < 20000);
    add_frame(f, 0xc2, buf->data, buf->len);
    rb_buf_release(buf);
    f->blocks_max = 0;
    rb_bufpool_trim(&f->pool, 0);
    read_pieces(f, f->wire_len, 1);
    assert_int_equal(f->fail_code, RB_WS_TOO_BIG);
    assert_true(f->data_len <= LIMIT);
    assert_int_equal(f->blocks_max, 2);
    assert_true(f->budget.used_bytes < 70000);
}

static void compressed_bytes_are_bounded(void **state)
{
    struct fixture *f = *state;
    f->options.message_max = 100;
    static uint8_t zeros[200];
    add_frame(f, 0xc2, zeros, 101); /* known from its head */
    f->wire_len = 8;
    read_pieces(f, 3, 1);
    assert_int_equal(f->fail_code, RB_WS_TOO_BIG);
    f->wire_len = 0;
    add_frame(f, 0x42, "\x00\x00\x00\xff\xff\x00\x00\x00\xff\xff", 10); /* empty blocks */
    for (int i = 0; i < 8; i++) {
        add_frame(f, 0x00, "\x00\x00\x00\xff\xff\x00\x00\x00\xff\xff", 10);
    }
    add_frame(f, 0x00,
              "\x00\x04\x00\xfb\xff"
              "1234"
              "\x00",
              10); /* a stored one: 100 in all */
    size_t len = f->wire_len;
    add_frame(f, 0x80, "", 0);
    read_pieces(f, 3, 5);
    assert_int_equal(f->fail_code, 0);
    f->wire_len = len;
    add_frame(f, 0x80, "\x00", 1);
    read_pieces(f, 3, 5);
    assert_int_equal(f->fail_code, RB_WS_TOO_BIG);
    f->wire_len = 0; /* a huge length does not wrap around */
    add_frame_of(f, 0xc2, "", 0, 8, true);
    memset(f->wire + 2, 0x7f, 1);
    memset(f->wire + 3, 0xff, 7);
    assert_broken(f, "B", RB_WS_TOO_BIG, "maximum payload exceeded");
}

static void refused_memory_ends_the_connection(void **state)
{
    struct fixture *f = *state;
    struct rb_buf *buf = deflated(f, RB_S("abcdefghijklmnopqrstuvwxyz"));
    add_frame(f, 0xc2, buf->data, buf->len);
    rb_buf_release(buf);
    rb_bufpool_trim(&f->pool, 0);
    for (uint64_t limit = 1; limit < 70000; limit += 34000) { /* no block, one block; both */
        f->budget.limit_bytes = limit;
        read_pieces(f, f->wire_len, 1);
        assert_int_equal(f->fail_code, limit < 66000 ? RB_WS_INTERNAL : 0);
        assert_int_equal(f->pool.used_count, 0);
        rb_bufpool_trim(&f->pool, 0);
    }
    f->budget.limit_bytes = 100;
    assert_null(rb_ws_deflate(f->deflater, &f->pool, &RB_S("abc"), 1));
    f->budget.limit_bytes = 0;
}

/* ---------------------------------------------------------------- writing */

static void what_was_deflated_is_read(void **state)
{
    struct fixture *f = *state;
    static uint8_t bytes[300000];
    uint32_t random = 7;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        random = random * 1664525 + 1013904223;
        bytes[i] = i % 3000 < 1500 ? (uint8_t)(random >> 24) : (uint8_t) "PUB a.b "[i % 8];
    }
    f->options.message_max = sizeof(bytes) + 1000;
    static const size_t lens[] = { 0, 1, 64, 100, 1023, 8192, 8193, 32768, 100000, 300000 };
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        size_t third = lens[i] / 3;
        struct rb_slice slices[] = { rb_slice_of(bytes, third), rb_slice_of(NULL, 0),
                                     rb_slice_of(bytes + third, lens[i] - third) };
        struct rb_buf *buf = rb_ws_deflate(f->deflater, &f->pool, slices, 3);
        assert_non_null(buf);
        assert_true(buf->len > 0 && buf->len <= buf->cap);
        f->wire_len = 0;
        add_frame(f, 0xc2, buf->data, buf->len);
        rb_buf_release(buf);
        read_pieces(f, 5000, 777);
        assert_int_equal(f->fail_code, 0);
        assert_int_equal(f->data_len, lens[i]);
        assert_memory_equal(f->data, bytes, lens[i]);
    }
    assert_null(rb_ws_deflate(f->deflater, &f->pool, &(struct rb_slice){ bytes, 1ull << 40 }, 1));
}

static void small_results_lie_in_small_blocks(void **state)
{
    struct fixture *f = *state;
    struct rb_buf *buf = repeated(f, 100000);
    assert_true(buf->len < 1024 && buf->cap == 1024);
    rb_buf_release(buf);
}

static void headers_are_written(void **state)
{
    struct fixture *f = *state;
    uint8_t out[RB_WS_HEADER_MAX];
    assert_int_equal(rb_ws_header(out, RB_WS_OP_BINARY, true, true, false, 125, NULL), 2);
    assert_memory_equal(out, "\x82\x7d", 2);
    assert_int_equal(rb_ws_header(out, RB_WS_OP_BINARY, true, false, true, 126, NULL), 4);
    assert_memory_equal(out, "\x42\x7e\x00\x7e", 4);
    assert_int_equal(rb_ws_header(out, RB_WS_OP_BINARY, false, true, true, 65535, NULL), 4);
    assert_memory_equal(out, "\x80\x7e\xff\xff", 4);
    assert_int_equal(rb_ws_header(out, RB_WS_OP_TEXT, true, true, false, 65536, test_mask), 14);
    assert_memory_equal(out, "\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00\x11\x82\x53\xf4", 14);
    static const uint64_t lens[] = { 0, 125, 126, 65535, 65536, 300000 };
    for (size_t i = 0; i < 6; i++) { /* the reader agrees */
        f->wire_len = rb_ws_header(f->wire, RB_WS_OP_BINARY, true, true, false, lens[i], test_mask);
        for (size_t k = 0; k < lens[i]; k++) {
            f->wire[f->wire_len++] = (uint8_t)('z' ^ test_mask[k % 4]);
        }
        add_text(f, 0x8a, "end");
        read_pieces(f, 1, 4000);
        assert_int_equal(f->data_len, lens[i]);
        assert_true(lens[i] == 0 || (f->data[0] == 'z' && f->data[lens[i] - 1] == 'z'));
        assert_string_equal(f->events, lens[i] == 0 ? "Oend" : "DOend");
    }
}

static void control_frames_are_written(void **state)
{
    uint8_t out[RB_WS_HEADER_MAX + 125];
    char body[200];
    memset(body, 'x', sizeof(body));
    assert_int_equal(rb_ws_control(out, RB_WS_OP_PONG, 0, RB_S("hey")), 5);
    assert_memory_equal(out, "\x8a\x03hey", 5);
    assert_int_equal(rb_ws_control(out, RB_WS_OP_PING, 0, rb_slice_of(NULL, 0)), 2);
    assert_memory_equal(out, "\x89\x00", 2);
    assert_int_equal(rb_ws_control(out, RB_WS_OP_PONG, 0, rb_slice_of(body, 200)), 127);
    assert_int_equal(out[1], 125);
    assert_int_equal(rb_ws_control(out, RB_WS_OP_CLOSE, 0, RB_S("not seen")), 2);
    assert_memory_equal(out, "\x88\x00", 2);
    assert_int_equal(rb_ws_control(out, RB_WS_OP_CLOSE, 1008, RB_S("Authentication Failure")), 26);
    assert_memory_equal(out,
                        "\x88\x18\x03\xf0"
                        "Authentication Failure",
                        26);
    assert_int_equal(rb_ws_control(out, RB_WS_OP_CLOSE, 1000, rb_slice_of(body, 123)), 127);
    assert_int_equal(out[126], 'x');
    assert_int_equal(rb_ws_control(out, RB_WS_OP_CLOSE, 1000, rb_slice_of(body, 124)), 127);
    assert_memory_equal(out + 122, "xx...", 5);
    memcpy(body + 118, "\xe2\x82\xac", 3); /* not inside a character */
    assert_int_equal(rb_ws_control(out, RB_WS_OP_CLOSE, 1000, rb_slice_of(body, 200)), 125);
    assert_memory_equal(out + 120, "xx...", 5);
}

int main(void)
{
#define FIXED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        FIXED(messages_are_read),
        FIXED(fragments_and_controls_between),
        FIXED(lengths_at_the_borders),
        FIXED(data_lies_in_the_input),
        FIXED(unmasked_frames_where_agreed),
        FIXED(every_broken_rule_has_its_code),
        FIXED(control_frames_have_125_bytes),
        FIXED(close_codes_are_checked),
        FIXED(close_frames_are_read),
        FIXED(compressed_messages_are_read),
        FIXED(examples_of_the_rfc),
        FIXED(broken_compression_is_refused),
        FIXED(inflated_messages_are_bounded),
        FIXED(bombs_cost_two_blocks),
        FIXED(compressed_bytes_are_bounded),
        FIXED(refused_memory_ends_the_connection),
        FIXED(what_was_deflated_is_read),
        FIXED(small_results_lie_in_small_blocks),
        FIXED(headers_are_written),
        cmocka_unit_test(control_frames_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
