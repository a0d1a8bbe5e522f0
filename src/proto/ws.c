/* ws.c - WebSocket frames: reading them at any split, writing their headers.
 *
 *            .------------------ frame done ------------------.
 *            v                                                |
 *          HEAD --data frame----------> PLAIN ----------------|
 *            |`---of a compressed one--> DEFLATED -> (TAIL) --|
 *            |`---ping, pong, close----> CONTROL -------------|
 *            |                             `--close--> CLOSED
 *            `--------------- rule broken ---------------> BROKEN      (from every state)
 *
 * 1. A frame is judged as soon as the bytes that say it are there: the first two, then the whole head.
 * 2. Bytes of uncompressed messages are handed on where they lie, however long the message is. Only control frames (125 bytes)
 *    and heads (14 bytes) are assembled here.
 * 3. A compressed message is inflated as it comes: what is held for it is its inflater (64 KiB), from its first byte to its
 *    end, never its bytes. The announced compressed bytes and the inflated ones are bounded by message_max each.
 * 4. Unmasking is in place; what the inflater could not take is masked again, so that the input always looks the same to the
 *    next call, wherever the caller moved it.
 * 5. RB_WS_BROKEN is final, and holds no memory.
 */
#include "proto/ws.h"

#include <stdio.h>

#include "proto/ws_inflate.h"

enum { HEAD, PLAIN, DEFLATED, TAIL, CONTROL, CLOSED, BROKEN };

/* What a step returns: an rb_ws_result (RB_WS_MORE: it has no input left to work on), or this. */
enum { GO_ON = -1 };

#define FIN 0x80
#define RSV1 0x40
#define RSV23 0x30
#define CONTROL_BIT 0x08
#define MASK_BIT 0x80
#define CONTROL_MAX 125
#define INFLATE_STEP 4096 /* compressed bytes given to the inflater at once */

/* What the sender of a compressed message left out (RFC 7692 7.2.1). */
static const uint8_t deflate_tail[4] = { 0x00, 0x00, 0xff, 0xff };

_Static_assert(sizeof(struct rb_ws_reader) <= 320, "one per connection");

void rb_ws_reader_init(struct rb_ws_reader *reader, const struct rb_ws_read_options *options)
{
    *reader = (struct rb_ws_reader){ .options = *options, .state = HEAD, .head_need = 2 };
}

static void drop_inflater(struct rb_ws_reader *reader)
{
    if (reader->inflater != NULL) {
        rb_ws_inflater_release(reader->inflater);
        reader->inflater = NULL;
    }
}

void rb_ws_reader_deinit(struct rb_ws_reader *reader)
{
    drop_inflater(reader);
}

static int fail(struct rb_ws_reader *reader, uint16_t code, const char *text)
{
    drop_inflater(reader);
    reader->state = BROKEN;
    reader->fail_code = code;
    reader->fail_text = text;
    return RB_WS_BROKEN;
}

/* A text with a number in it lies in `control`, which a broken reader needs no more. */
static int fail_number(struct rb_ws_reader *reader, const char *text, unsigned number)
{
    char *out = (char *)reader->control;
    snprintf(out, sizeof(reader->control), "%s %u", text, number);
    return fail(reader, RB_WS_PROTOCOL, out);
}

/* Also the way back: masking is its own inverse. `at` counts the payload's bytes before `bytes`. */
static void unmask(uint8_t *bytes, size_t len, const uint8_t mask[4], uint32_t at)
{
    uint8_t turned[8];
    for (uint32_t i = 0; i < 8; i++) {
        turned[i] = mask[(at + i) & 3];
    }
    uint64_t pattern;
    memcpy(&pattern, turned, sizeof(pattern));
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, sizeof(word));
        word ^= pattern;
        memcpy(bytes + i, &word, sizeof(word));
    }
    for (; i < len; i++) {
        bytes[i] ^= turned[i & 7];
    }
}

/* ---------------------------------------------------------------- heads */

static int check_control(struct rb_ws_reader *reader, uint8_t len)
{
    if (len > CONTROL_MAX) {
        return fail(reader, RB_WS_PROTOCOL,
                    "control frame length bigger than maximum allowed of 125 bytes");
    }
    if (!reader->fin) {
        return fail(reader, RB_WS_PROTOCOL, "control frame does not have final bit set");
    }
    if (reader->head[0] & RSV1) {
        return fail(reader, RB_WS_PROTOCOL, "control frame must not be compressed");
    }
    return GO_ON;
}

/* The rules that the first two bytes can break; says how long the head is. */
static int judge_start(struct rb_ws_reader *reader)
{
    uint8_t first = reader->head[0], second = reader->head[1], len = second & 0x7f;
    reader->fin = (first & FIN) != 0;
    reader->opcode = first & 0x0f;
    if (first & RSV23) {
        return fail(reader, RB_WS_PROTOCOL, "RSV2 and RSV3 must be clear");
    }
    if ((first & RSV1) && !reader->options.deflate) {
        return fail(reader, RB_WS_PROTOCOL,
                    "compressed frame received without negotiated permessage-deflate");
    }
    if (reader->options.masked && !(second & MASK_BIT)) {
        return fail(reader, RB_WS_PROTOCOL, "mask bit missing");
    }
    switch (reader->opcode) {
    case RB_WS_OP_CLOSE:
    case RB_WS_OP_PING:
    case RB_WS_OP_PONG:
        if (check_control(reader, len) == RB_WS_BROKEN) {
            return RB_WS_BROKEN;
        }
        break;
    case RB_WS_OP_TEXT:
    case RB_WS_OP_BINARY:
        if (reader->in_message) {
            return fail(reader, RB_WS_PROTOCOL,
                        "new message started before final frame for previous message was received");
        }
        break;
    case RB_WS_OP_CONTINUE:
        if (!reader->in_message || (first & RSV1)) {
            return fail(reader, RB_WS_PROTOCOL, "invalid continuation frame");
        }
        break;
    default:
        return fail_number(reader, "unknown opcode", reader->opcode);
    }
    reader->head_need = (uint8_t)(2 +
                                  (len == 126   ? 2
                                   : len == 127 ? 8
                                                : 0) +
                                  ((second & MASK_BIT) ? 4 : 0));
    return GO_ON;
}

static uint64_t payload_len(const uint8_t *head)
{
    uint8_t len = head[1] & 0x7f;
    if (len < 126) {
        return len;
    }
    uint64_t value = 0;
    for (int i = 0; i < (len == 126 ? 2 : 8); i++) {
        value = value << 8 | head[2 + i];
    }
    return value;
}

/* The head is whole: where do its bytes go? */
static int begin_payload(struct rb_ws_reader *reader)
{
    const uint8_t *head = reader->head;
    bool masked = (head[1] & MASK_BIT) != 0;
    reader->payload_left = payload_len(head);
    reader->mask_at = 0;
    memset(reader->mask, 0, sizeof(reader->mask));
    if (masked) {
        memcpy(reader->mask, head + reader->head_need - 4, 4);
    }
    reader->head_len = 0;
    reader->head_need = 2;
    if (reader->payload_left > INT64_MAX) {
        return fail(reader, RB_WS_PROTOCOL, "invalid 64-bit payload length");
    }
    if (reader->opcode & CONTROL_BIT) {
        reader->control_len = 0;
        reader->state = CONTROL;
        return GO_ON;
    }
    if (reader->opcode != RB_WS_OP_CONTINUE) {
        reader->in_message = true;
        reader->compressed = (head[0] & RSV1) != 0;
        reader->deflated_bytes = 0;
    }
    if (!reader->compressed) {
        reader->state = PLAIN;
        return GO_ON;
    }
    if (reader->payload_left > reader->options.message_max - reader->deflated_bytes) {
        return fail(reader, RB_WS_TOO_BIG, "maximum payload exceeded");
    }
    reader->deflated_bytes += reader->payload_left;
    reader->state = DEFLATED;
    return GO_ON;
}

static int read_head(struct rb_ws_reader *reader, uint8_t **in, size_t *in_len)
{
    while (*in_len > 0) {
        size_t len = (size_t)(reader->head_need - reader->head_len);
        len = len < *in_len ? len : *in_len;
        memcpy(reader->head + reader->head_len, *in, len);
        reader->head_len = (uint8_t)(reader->head_len + len);
        *in += len;
        *in_len -= len;
        if (reader->head_len < reader->head_need) {
            return RB_WS_MORE;
        }
        if (reader->head_len == 2 && judge_start(reader) == RB_WS_BROKEN) {
            return RB_WS_BROKEN;
        }
        if (reader->head_len == reader->head_need) {
            return begin_payload(reader);
        }
    }
    return RB_WS_MORE;
}

/* ---------------------------------------------------------------- payloads */

/* The next `len` bytes of payload, unmasked where they lie. */
static uint8_t *take_payload(struct rb_ws_reader *reader, uint8_t **in, size_t *in_len, size_t len)
{
    uint8_t *bytes = *in;
    if (len == 0) {
        return bytes; /* which may be NULL */
    }
    if (reader->head[1] & MASK_BIT) {
        unmask(bytes, len, reader->mask, reader->mask_at);
    }
    reader->mask_at = (reader->mask_at + (uint32_t)len) & 3;
    reader->payload_left -= len;
    *in += len;
    *in_len -= len;
    return bytes;
}

static void untake_payload(struct rb_ws_reader *reader, uint8_t **in, size_t *in_len, size_t len)
{
    if (len == 0) {
        return;
    }
    *in -= len;
    *in_len += len;
    reader->payload_left += len;
    reader->mask_at = (reader->mask_at - (uint32_t)len) & 3;
    if (reader->head[1] & MASK_BIT) {
        unmask(*in, len, reader->mask, reader->mask_at); /* invariant 4 */
    }
}

static size_t smaller(uint64_t a, size_t b)
{
    return a < b ? (size_t)a : b;
}

static void end_frame(struct rb_ws_reader *reader)
{
    reader->in_message = !reader->fin;
    reader->state = HEAD;
}

static int inflate_failed(struct rb_ws_reader *reader, enum rb_ws_inflate result)
{
    switch (result) {
    case RB_WS_INFLATE_MEMORY:
        return fail(reader, RB_WS_INTERNAL, "out of memory");
    case RB_WS_INFLATE_TOO_BIG:
        return fail(reader, RB_WS_TOO_BIG, "maximum payload exceeded");
    default:
        return fail(reader, RB_WS_BAD_DATA, "invalid compressed data");
    }
}

/* One step of inflating, at most. */
static int read_deflated(struct rb_ws_reader *reader, uint8_t **in, size_t *in_len,
                         struct rb_slice *ret_data)
{
    size_t len = smaller(reader->payload_left, *in_len);
    len = len < INFLATE_STEP ? len : INFLATE_STEP;
    bool pending = reader->inflater != NULL && rb_ws_inflate_pending(reader->inflater);
    if (len == 0 && !pending) {
        if (reader->payload_left > 0) {
            return RB_WS_MORE;
        }
        reader->tail_at = 0;
        reader->state = TAIL;
        return GO_ON;
    }
    if (reader->inflater == NULL) {
        reader->inflater =
            rb_ws_inflater_acquire(reader->options.pool, reader->options.message_max);
        if (reader->inflater == NULL) {
            return inflate_failed(reader, RB_WS_INFLATE_MEMORY);
        }
    }
    struct rb_slice piece = rb_slice_of(take_payload(reader, in, in_len, len), len);
    enum rb_ws_inflate result = rb_ws_inflate_step(reader->inflater, &piece, ret_data);
    untake_payload(reader, in, in_len, piece.len);
    if (result != RB_WS_INFLATE_OK) {
        return inflate_failed(reader, result);
    }
    return ret_data->len > 0 ? (int)RB_WS_DATA : GO_ON;
}

/* Behind a compressed frame: nothing when more of them follow, else the bytes that every message ends with. */
static int read_tail(struct rb_ws_reader *reader, struct rb_slice *ret_data)
{
    struct rb_ws_inflater *inflater = reader->inflater;
    if (reader->fin && inflater != NULL &&
        (rb_ws_inflate_pending(inflater) ||
         (reader->tail_at < sizeof(deflate_tail) &&
          !(reader->tail_at == 0 && rb_ws_inflate_ended(inflater))))) {
        struct rb_slice tail =
            rb_slice_of(deflate_tail + reader->tail_at, sizeof(deflate_tail) - reader->tail_at);
        enum rb_ws_inflate result = rb_ws_inflate_step(inflater, &tail, ret_data);
        reader->tail_at = (uint8_t)(sizeof(deflate_tail) - tail.len);
        if (result != RB_WS_INFLATE_OK) {
            return inflate_failed(reader, result);
        }
        return ret_data->len > 0 ? (int)RB_WS_DATA : GO_ON;
    }
    if (reader->fin && inflater != NULL) {
        if (!rb_ws_inflate_whole(inflater) && !rb_ws_inflate_ended(inflater)) {
            return inflate_failed(reader, RB_WS_INFLATE_CORRUPT);
        }
        drop_inflater(reader);
    }
    end_frame(reader);
    return GO_ON;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool utf8_valid(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint8_t c = p[i];
        size_t count = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
        if (count == 0 || count > len - i) {
            return false;
        }
        for (size_t k = 1; k < count; k++) {
            if ((p[i + k] & 0xc0) != 0x80) {
                return false;
            }
        }
        if ((c == 0xe0 && p[i + 1] < 0xa0) || (c == 0xed && p[i + 1] > 0x9f) ||
            (c == 0xf0 && p[i + 1] < 0x90) || (c == 0xf4 && p[i + 1] > 0x8f)) {
            return false;
        }
        i += count;
    }
    return true;
}

/* RFC 6455 7.4.2 and the registry of close codes. */
static bool close_code_valid(uint16_t code)
{
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

static int take_close(struct rb_ws_reader *reader, struct rb_slice *ret_data, uint16_t *ret_code)
{
    const uint8_t *body = reader->control;
    uint16_t code = RB_WS_NO_STATUS;
    if (reader->control_len == 1) {
        return fail(reader, RB_WS_PROTOCOL, "close frame payload cannot be 1 byte");
    }
    if (reader->control_len >= 2) {
        code = (uint16_t)(body[0] << 8 | body[1]);
        if (!close_code_valid(code)) {
            return fail_number(reader, "invalid close status code", code);
        }
        if (!utf8_valid(body + 2, reader->control_len - 2u)) {
            return fail(reader, RB_WS_BAD_DATA, "invalid utf8 body in close frame");
        }
        *ret_data = rb_slice_of(body + 2, reader->control_len - 2u);
    }
    drop_inflater(reader);
    reader->state = CLOSED;
    *ret_code = code;
    return RB_WS_CLOSE;
}

static int read_control(struct rb_ws_reader *reader, uint8_t **in, size_t *in_len,
                        struct rb_slice *ret_data, uint16_t *ret_code)
{
    size_t len = smaller(reader->payload_left, *in_len);
    if (len > 0) {
        memcpy(reader->control + reader->control_len, take_payload(reader, in, in_len, len), len);
        reader->control_len = (uint8_t)(reader->control_len + len);
    }
    if (reader->payload_left > 0) {
        return RB_WS_MORE;
    }
    if (reader->opcode == RB_WS_OP_CLOSE) {
        return take_close(reader, ret_data, ret_code);
    }
    reader->state = HEAD; /* a message around it goes on */
    *ret_data = rb_slice_of(reader->control, reader->control_len);
    return reader->opcode == RB_WS_OP_PING ? RB_WS_PING : RB_WS_PONG;
}

static int read_plain(struct rb_ws_reader *reader, uint8_t **in, size_t *in_len,
                      struct rb_slice *ret_data)
{
    if (reader->payload_left == 0) {
        end_frame(reader);
        return GO_ON;
    }
    if (*in_len == 0) {
        return RB_WS_MORE;
    }
    size_t len = smaller(reader->payload_left, *in_len);
    *ret_data = rb_slice_of(take_payload(reader, in, in_len, len), len); /* invariant 2 */
    return RB_WS_DATA;
}

enum rb_ws_result rb_ws_read(struct rb_ws_reader *reader, uint8_t **in, size_t *in_len,
                             struct rb_slice *ret_data, uint16_t *ret_code)
{
    int result = GO_ON;
    *ret_data = rb_slice_of(NULL, 0);
    while (result == GO_ON) {
        switch (reader->state) {
        case HEAD:
            result = read_head(reader, in, in_len);
            break;
        case PLAIN:
            result = read_plain(reader, in, in_len, ret_data);
            break;
        case DEFLATED:
            result = read_deflated(reader, in, in_len, ret_data);
            break;
        case TAIL:
            result = read_tail(reader, ret_data);
            break;
        case CONTROL:
            result = read_control(reader, in, in_len, ret_data, ret_code);
            break;
        case CLOSED:
            *in = *in_len == 0 ? *in : *in + *in_len;
            *in_len = 0;
            result = RB_WS_MORE;
            break;
        default:
            result = RB_WS_BROKEN;
        }
    }
    return (enum rb_ws_result)result;
}

/* ---------------------------------------------------------------- writing */

size_t rb_ws_header(uint8_t out[RB_WS_HEADER_MAX], uint8_t opcode, bool first, bool fin,
                    bool compressed, uint64_t payload_len, const uint8_t mask[4])
{
    size_t len = 2;
    out[0] = (uint8_t)((first ? opcode : RB_WS_OP_CONTINUE) | (fin ? FIN : 0) |
                       (first && compressed ? RSV1 : 0));
    out[1] = mask == NULL ? 0 : MASK_BIT;
    if (payload_len < 126) {
        out[1] |= (uint8_t)payload_len;
    } else {
        int bytes = payload_len <= UINT16_MAX ? 2 : 8;
        out[1] |= bytes == 2 ? 126 : 127;
        for (int i = bytes - 1; i >= 0; i--) {
            out[len++] = (uint8_t)(payload_len >> 8 * i);
        }
    }
    if (mask != NULL) {
        memcpy(out + len, mask, 4);
        len += 4;
    }
    return len;
}

size_t rb_ws_control(uint8_t out[RB_WS_HEADER_MAX + 125], uint8_t opcode, uint16_t code,
                     struct rb_slice body)
{
    size_t code_len = code == 0 ? 0 : 2, room = CONTROL_MAX - code_len, len = body.len, dots = 0;
    if (opcode == RB_WS_OP_CLOSE && code == 0) {
        len = 0;
    } else if (len > room) {
        dots = code == 0 ? 0 : 3;
        len = room - dots;
        while (dots > 0 && len > 0 && (body.ptr[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    size_t at = rb_ws_header(out, opcode, true, true, false, code_len + len + dots, NULL);
    if (code != 0) {
        out[at++] = (uint8_t)(code >> 8);
        out[at++] = (uint8_t)code;
    }
    if (len > 0) {
        memcpy(out + at, body.ptr, len);
    }
    memcpy(out + at + len, "...", dots);
    return at + len + dots;
}
