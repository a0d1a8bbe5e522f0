/* encode.c - the lines that the server sends, written by hand.
 *
 * 1. rb_encode_msg runs once per delivery: no format strings, no calls for short texts. Pieces of
 *    up to 32 bytes are copied by two overlapping moves, which stay inside the piece.
 * 2. Whatever else is sent is rare; it goes through an rb_writer that refuses to overrun.
 */
#include "proto/encode.h"

/* Copies `len` bytes; short pieces, which most are, without a call. */
static inline uint8_t *put_slice(uint8_t *out, struct rb_slice s)
{
    const uint8_t *from = s.ptr;
    size_t len = s.len;
    if (len > 32) {
        memcpy(out, from, len);
    } else if (len >= 16) {
        uint8_t head[16], tail[16];
        memcpy(head, from, 16);
        memcpy(tail, from + len - 16, 16);
        memcpy(out, head, 16);
        memcpy(out + len - 16, tail, 16);
    } else if (len >= 8) {
        uint64_t head, tail;
        memcpy(&head, from, 8);
        memcpy(&tail, from + len - 8, 8);
        memcpy(out, &head, 8);
        memcpy(out + len - 8, &tail, 8);
    } else if (len >= 4) {
        uint32_t head, tail;
        memcpy(&head, from, 4);
        memcpy(&tail, from + len - 4, 4);
        memcpy(out, &head, 4);
        memcpy(out + len - 4, &tail, 4);
    } else {
        for (size_t i = 0; i < len; i++) {
            out[i] = from[i];
        }
    }
    return out + len;
}

static inline uint32_t digit_count(uint32_t value)
{
    uint32_t count = 1;
    for (; value >= 1000; value /= 1000) {
        count += 3;
    }
    return count + (value >= 10) + (value >= 100);
}

/* Writes the last digit first, at the place it will have. */
static inline uint8_t *put_u32(uint8_t *out, uint32_t value)
{
    uint8_t *end = out + digit_count(value);
    uint8_t *at = end;
    do {
        *--at = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return end;
}

size_t rb_encode_msg(uint8_t *out, struct rb_slice subject, struct rb_slice sid,
                     struct rb_slice reply, uint32_t header_len, uint32_t total_len)
{
    uint8_t *at = out;
    if (header_len != 0) {
        *at++ = 'H';
    }
    memcpy(at, "MSG ", 4);
    at = put_slice(at + 4, subject);
    *at++ = ' ';
    at = put_slice(at, sid);
    *at++ = ' ';
    if (reply.len != 0) {
        at = put_slice(at, reply);
        *at++ = ' ';
    }
    if (header_len != 0) {
        at = put_u32(at, header_len);
        *at++ = ' ';
    }
    at = put_u32(at, total_len);
    memcpy(at, "\r\n", 2);
    return (size_t)(at + 2 - out);
}

size_t rb_encode_err(uint8_t *out, size_t cap, const char *text)
{
    struct rb_writer writer = rb_writer_over(out, cap);
    rb_write_slice(&writer, RB_S("-ERR '"));
    rb_write_slice(&writer, rb_slice_text(text));
    rb_write_slice(&writer, RB_S("'\r\n"));
    return writer.ok ? rb_writer_len(&writer) : 0;
}

size_t rb_encode_no_responders(uint8_t *out, size_t cap, struct rb_slice reply, struct rb_slice sid,
                               struct rb_slice subject)
{
    const struct rb_slice before = RB_S("NATS/1.0 503\r\nNats-Subject: ");
    const struct rb_slice after = RB_S("\r\n\r\n");
    uint64_t header_len = before.len + subject.len + after.len;
    struct rb_writer writer = rb_writer_over(out, cap);
    rb_write_slice(&writer, RB_S("HMSG "));
    rb_write_slice(&writer, reply);
    rb_write_slice(&writer, RB_S(" "));
    rb_write_slice(&writer, sid);
    rb_write_slice(&writer, RB_S(" "));
    rb_write_decimal(&writer, header_len);
    rb_write_slice(&writer, RB_S(" "));
    rb_write_decimal(&writer, header_len);
    rb_write_slice(&writer, RB_S("\r\n"));
    rb_write_slice(&writer, before);
    rb_write_slice(&writer, subject);
    rb_write_slice(&writer, after);
    rb_write_slice(&writer, RB_S("\r\n"));
    return writer.ok ? rb_writer_len(&writer) : 0;
}
