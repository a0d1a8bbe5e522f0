/* fuzz_ws.c - any bytes as frames: options, message_max (2), piece (1), frames.
 *
 * Read whole, and in pieces, the frames must mean the same. Then the same bytes as a message: deflated, cut into masked frames
 * and read, they must come back.
 */
#include <stdlib.h>

#include "proto/ws.h"
#include "ringbus/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DATA_MAX (1 << 20)

/* What a reader said: data, and where in it the other events were. */
struct record {
    uint8_t data[DATA_MAX];
    size_t data_len;
    struct {
        enum rb_ws_result what;
        uint16_t code;
        size_t data_at, body_len;
    } events[512];
    size_t event_count;
    uint8_t bodies[65536];
    size_t bodies_len;
    uint16_t fail_code;
};

static struct record whole, pieces;
static struct rb_bufpool pool;

static void note(struct record *record, enum rb_ws_result what, uint16_t code, struct rb_slice body)
{
    if (record->event_count == 512) {
        return;
    }
    rb_assert(body.len <= 125);
    record->events[record->event_count].what = what;
    record->events[record->event_count].code = code;
    record->events[record->event_count].data_at = record->data_len;
    record->events[record->event_count++].body_len = body.len;
    if (body.len > 0) {
        memcpy(record->bodies + record->bodies_len, body.ptr, body.len);
        record->bodies_len += body.len;
    }
}

/* False when the connection is over. */
static bool feed(struct record *record, struct rb_ws_reader *reader, uint8_t *in, size_t in_len)
{
    for (;;) {
        struct rb_slice data;
        uint16_t code = 0;
        enum rb_ws_result result = rb_ws_read(reader, &in, &in_len, &data, &code);
        switch (result) {
        case RB_WS_DATA:
            rb_assert(data.len > 0);
            if (data.len <= DATA_MAX - record->data_len) {
                memcpy(record->data + record->data_len, data.ptr, data.len);
                record->data_len += data.len;
            }
            break;
        case RB_WS_MORE:
            rb_assert(in_len == 0 && pool.used_count <= 2);
            return true;
        case RB_WS_BROKEN:
            record->fail_code = reader->fail_code;
            rb_assert(reader->fail_code >= 1000 && strlen(reader->fail_text) <= 123);
            rb_assert(pool.used_count == 0);
            return false;
        default:
            note(record, result, code, data);
        }
    }
}

static void read_frames(struct record *record, const struct rb_ws_read_options *options,
                        const uint8_t *frames, size_t size, uint32_t piece)
{
    struct rb_ws_reader reader;
    rb_ws_reader_init(&reader, options);
    record->data_len = record->event_count = record->bodies_len = 0;
    record->fail_code = 0;
    for (size_t at = 0; at < size;) {
        size_t len = size - at;
        if (piece != 0) {
            piece = piece * 1664525 + 1013904223;
            size_t wanted = 1 + (piece >> 24) % ((piece >> 20) % 4 == 0 ? 200 : 9);
            len = len < wanted ? len : wanted;
        }
        uint8_t *copy = malloc(len);
        rb_assert(copy != NULL);
        memcpy(copy, frames + at, len);
        at += len;
        bool goes_on = feed(record, &reader, copy, len);
        free(copy);
        if (!goes_on) {
            break;
        }
    }
    rb_ws_reader_deinit(&reader);
    rb_assert(pool.used_count == 0);
}

static void compare(void)
{
    rb_assert(whole.fail_code == pieces.fail_code && whole.event_count == pieces.event_count);
    rb_assert(whole.bodies_len == pieces.bodies_len);
    rb_assert(memcmp(whole.bodies, pieces.bodies, whole.bodies_len) == 0);
    for (size_t i = 0; i < whole.event_count; i++) {
        rb_assert(whole.events[i].what == pieces.events[i].what);
        rb_assert(whole.events[i].code == pieces.events[i].code);
        rb_assert(whole.events[i].body_len == pieces.events[i].body_len);
    }
    /* What came out just before corrupt bytes depends on the pieces, as does what a frame behind a CLOSE or a PING in the
     * middle of inflated data has seen; the bytes themselves do not. */
    size_t shorter = whole.data_len < pieces.data_len ? whole.data_len : pieces.data_len;
    rb_assert(memcmp(whole.data, pieces.data, shorter) == 0);
    rb_assert(whole.fail_code != 0 || whole.data_len == pieces.data_len);
}

/* The message, deflated, in masked fragments of `piece` bytes and more. */
static void round_trip(struct rb_ws_deflater *deflater, struct rb_slice message, uint8_t piece)
{
    static uint8_t frames[4 << 20];
    uint8_t mask[4] = { piece, 1, 2, (uint8_t)(piece * 3) };
    size_t cut = message.len == 0 ? 0 : piece % message.len, at = 0, len = 0;
    struct rb_slice slices[] = { rb_slice_of(message.ptr, cut),
                                 rb_slice_of(message.ptr + cut, message.len - cut) };
    struct rb_buf *buf = rb_ws_deflate(deflater, &pool, slices, 2);
    rb_assert(buf != NULL && buf->len > 0);
    do {
        size_t part = buf->len - at < piece + 1u ? buf->len - at : piece + 1u;
        len += rb_ws_header(frames + len, RB_WS_OP_BINARY, at == 0, at + part == buf->len, true,
                            part, mask);
        for (size_t i = 0; i < part; i++) {
            frames[len++] = buf->data[at++] ^ mask[i % 4];
        }
    } while (at < buf->len && len < sizeof(frames) - 1024);
    bool all = at == buf->len;
    rb_buf_release(buf);
    if (all) {
        struct rb_ws_read_options options = { &pool, true, true, DATA_MAX };
        read_frames(&pieces, &options, frames, len, piece);
        rb_assert(pieces.fail_code == 0 && pieces.data_len == message.len);
        rb_assert(message.len == 0 || memcmp(pieces.data, message.ptr, message.len) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rb_ws_deflater *deflater;
    if (deflater == NULL) {
        rb_bufpool_init(&pool, NULL);
        rb_assert(rb_ws_deflater_create(&deflater) == RB_OK);
    }
    if (size < 4) {
        return 0;
    }
    struct rb_ws_read_options options = {
        .pool = &pool,
        .masked = data[0] & 1,
        .deflate = data[0] & 2,
        .message_max = (uint64_t)(data[1] | data[2] << 8) * (data[0] & 4 ? 16 : 1),
    };
    read_frames(&whole, &options, data + 4, size - 4, 0);
    read_frames(&pieces, &options, data + 4, size - 4, data[3] + 1u);
    compare();
    round_trip(deflater, rb_slice_of(data + 4, size - 4), data[3]);
    return 0;
}
