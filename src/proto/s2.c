/* s2.c - S2: chunks of [type, 3 bytes of length], data chunks with a masked CRC-32C of what they decode to.
 *
 * A block begins with its decoded length (uvarint) and is a row of elements, by the two lowest bits of their first byte:
 *   0 literal; 1 copy with 11 bits of offset, or, with offset 0, a repeat of the last offset (S2's addition to Snappy);
 *   2 copy with 16 bits of offset; 3 with 32.
 * A copy may overlap what it writes.
 */
#include "proto/s2.h"

#include <string.h>

#include "base/crc32c.h"
#include "ringbus/check.h"

#define CHUNK_COMPRESSED 0x00
#define CHUNK_PLAIN 0x01
#define CHUNK_SKIPPABLE 0x80
#define CHUNK_HEAD 0xff
#define CHUNK_HEADER 4
#define CHECKSUM 4
/* Longest chunk: a block that does not compress grows a little. */
#define CHUNK_MAX (RB_S2_BLOCK_MAX + RB_S2_BLOCK_MAX / 6 + 64)

static uint32_t mask(uint32_t crc)
{
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* ---- blocks ---- */

struct decode {
    const uint8_t *at, *end;
    uint8_t *out;
    size_t len, cap;
    size_t offset; /* of the last copy */
};

bool rb_s2_decoded_len(struct rb_slice block, uint64_t *ret_len)
{
    uint64_t value = 0;
    for (size_t i = 0; i < block.len && i < 5; i++) {
        value |= (uint64_t)(block.ptr[i] & 0x7f) << (7 * i);
        if ((block.ptr[i] & 0x80) == 0) {
            *ret_len = value;
            return value <= UINT32_MAX;
        }
    }
    return false;
}

/* A little-endian number of `bytes`; false: cut. */
static bool take_number(struct decode *d, size_t bytes, uint32_t *ret_value)
{
    if ((size_t)(d->end - d->at) < bytes) {
        return false;
    }
    *ret_value = 0;
    for (size_t i = 0; i < bytes; i++) {
        *ret_value |= (uint32_t)d->at[i] << (8 * i);
    }
    d->at += bytes;
    return true;
}

static bool literal(struct decode *d, uint8_t tag)
{
    uint32_t value = tag >> 2;
    if (value >= 60 && !take_number(d, value - 59, &value)) {
        return false;
    }
    uint64_t len = (uint64_t)value + 1;
    if ((size_t)(d->end - d->at) < len || d->cap - d->len < len) {
        return false;
    }
    memcpy(d->out + d->len, d->at, len);
    d->len += len;
    d->at += len;
    return true;
}

static bool copy(struct decode *d, uint64_t len)
{
    if (d->offset == 0 || d->offset > d->len || d->cap - d->len < len) {
        return false;
    }
    uint8_t *to = d->out + d->len;
    const uint8_t *from = to - d->offset;
    if (d->offset >= len) {
        memcpy(to, from, len);
    } else {
        for (uint64_t i = 0; i < len; i++) {
            to[i] = from[i];
        }
    }
    d->len += len;
    return true;
}

/* The copy with a short offset; offset 0 repeats the last one, and has longer lengths. */
static bool short_copy(struct decode *d, uint8_t tag)
{
    uint32_t low, more = 0, len = (tag >> 2 & 7) + 4;
    if (!take_number(d, 1, &low)) {
        return false;
    }
    uint32_t offset = (uint32_t)(tag >> 5) << 8 | low;
    if (offset > 0) {
        d->offset = offset;
        return copy(d, len);
    }
    switch (tag >> 2 & 7) {
    case 5:
        len = 8;
        break;
    case 6:
        len = 260;
        break;
    case 7:
        len = 65540;
        break;
    default:
        return copy(d, len);
    }
    return take_number(d, (tag >> 2 & 7) - 4, &more) && copy(d, (uint64_t)len + more);
}

static bool element(struct decode *d)
{
    uint8_t tag = *d->at++;
    uint32_t offset;
    switch (tag & 3) {
    case 0:
        return literal(d, tag);
    case 1:
        return short_copy(d, tag);
    default:
        if (!take_number(d, (tag & 3) == 2 ? 2 : 4, &offset)) {
            return false;
        }
        d->offset = offset;
        return copy(d, (uint64_t)(tag >> 2) + 1);
    }
}

enum rb_err rb_s2_decode(struct rb_slice block, uint8_t *out, size_t out_cap, size_t *ret_len)
{
    uint64_t len;
    if (!rb_s2_decoded_len(block, &len)) {
        return RB_ERR_CORRUPT;
    }
    if (len > out_cap) {
        return RB_ERR_LIMIT;
    }
    struct decode d = { .at = block.ptr, .end = block.ptr + block.len, .out = out, .cap = len };
    while ((*d.at++ & 0x80) != 0) {
    }
    while (d.at < d.end) {
        if (!element(&d)) {
            return RB_ERR_CORRUPT;
        }
    }
    *ret_len = d.len;
    return d.len == len ? RB_OK : RB_ERR_CORRUPT;
}

/* ---- reading streams ---- */

void rb_s2_reader_init(struct rb_s2_reader *reader, struct rb_budget *budget)
{
    *reader = (struct rb_s2_reader){ .budget = budget };
}

void rb_s2_reader_deinit(struct rb_s2_reader *reader)
{
    rb_free(reader->budget, reader->in, reader->in_cap);
    rb_free(reader->budget, reader->out, reader->out_cap);
    *reader = (struct rb_s2_reader){ .budget = reader->budget };
}

size_t rb_s2_waiting(const struct rb_s2_reader *reader)
{
    return reader->in_len - reader->in_at;
}

bool rb_s2_at_boundary(const struct rb_s2_reader *reader)
{
    return rb_s2_waiting(reader) == 0;
}

/* Room for `bytes` in a buffer that grows by doubling. */
static bool reserve(struct rb_budget *budget, uint8_t **buffer, size_t *cap, size_t bytes)
{
    size_t grown = *cap < 4096 ? 4096 : *cap;
    while (grown < bytes) {
        grown *= 2;
    }
    if (grown == *cap) {
        return true;
    }
    uint8_t *bigger = rb_realloc(budget, *buffer, *cap, grown);
    if (bigger == NULL) {
        return false;
    }
    *buffer = bigger;
    *cap = grown;
    return true;
}

enum rb_err rb_s2_feed(struct rb_s2_reader *reader, struct rb_slice piece)
{
    if (reader->in_at > 0) {
        reader->in_len -= reader->in_at;
        memmove(reader->in, reader->in + reader->in_at, reader->in_len);
        reader->in_at = 0;
    }
    if (reader->in_len + piece.len > 2 * (size_t)CHUNK_MAX) {
        return RB_ERR_FULL;
    }
    if (!reserve(reader->budget, &reader->in, &reader->in_cap, reader->in_len + piece.len)) {
        return RB_ERR_MEMORY;
    }
    if (piece.len > 0) {
        memcpy(reader->in + reader->in_len, piece.ptr, piece.len);
    }
    reader->in_len += piece.len;
    return RB_OK;
}

static enum rb_s2_next bad(struct rb_s2_reader *reader, const char *why)
{
    reader->failed = true;
    reader->why = why;
    return RB_S2_BAD;
}

/* A chunk with a checksum: `body` is behind it. */
static enum rb_s2_next data_chunk(struct rb_s2_reader *reader, uint8_t type, struct rb_slice chunk,
                                  struct rb_slice *ret_block)
{
    if (chunk.len < CHECKSUM) {
        return bad(reader, "chunk is too short");
    }
    struct rb_reader head = rb_reader_over(chunk);
    uint32_t checksum = rb_read_u32(&head);
    struct rb_slice block = rb_slice_of(chunk.ptr + CHECKSUM, chunk.len - CHECKSUM);
    if (type == CHUNK_COMPRESSED) {
        uint64_t len;
        size_t decoded;
        if (!rb_s2_decoded_len(block, &len) || len > RB_S2_BLOCK_MAX) {
            return bad(reader, "block is too long");
        }
        if (!reserve(reader->budget, &reader->out, &reader->out_cap, len)) {
            return bad(reader, "not enough memory");
        }
        if (rb_s2_decode(block, reader->out, reader->out_cap, &decoded) != RB_OK) {
            return bad(reader, "block is damaged");
        }
        block = rb_slice_of(reader->out, decoded);
    } else if (block.len > RB_S2_BLOCK_MAX) {
        return bad(reader, "block is too long");
    }
    if (mask(rb_crc32c(0, block)) != checksum) {
        return bad(reader, "checksum does not match");
    }
    *ret_block = block;
    return RB_S2_BLOCK;
}

static bool is_head(struct rb_slice chunk)
{
    return rb_slice_equal(chunk, RB_S("S2sTwO")) || rb_slice_equal(chunk, RB_S("sNaPpY"));
}

enum rb_s2_next rb_s2_read(struct rb_s2_reader *reader, struct rb_slice *ret_block)
{
    while (!reader->failed && rb_s2_waiting(reader) >= CHUNK_HEADER) {
        const uint8_t *at = reader->in + reader->in_at;
        uint8_t type = at[0];
        size_t len = at[1] | (size_t)at[2] << 8 | (size_t)at[3] << 16;
        if (!reader->begun && (type != CHUNK_HEAD || len != 6)) {
            return bad(reader, "not an S2 stream");
        }
        if (len > CHUNK_MAX) {
            return bad(reader, "chunk is too long");
        }
        if (rb_s2_waiting(reader) < CHUNK_HEADER + len) {
            break;
        }
        struct rb_slice chunk = rb_slice_of(at + CHUNK_HEADER, len);
        reader->in_at += CHUNK_HEADER + len;
        if (type == CHUNK_HEAD) {
            if (!is_head(chunk)) {
                return bad(reader, "not an S2 stream");
            }
            reader->begun = true;
        } else if (type == CHUNK_COMPRESSED || type == CHUNK_PLAIN) {
            enum rb_s2_next next = data_chunk(reader, type, chunk, ret_block);
            if (next == RB_S2_BAD || ret_block->len > 0) {
                return next;
            }
        } else if (type < CHUNK_SKIPPABLE) {
            return bad(reader, "chunk of an unknown kind");
        }
    }
    return reader->failed ? RB_S2_BAD : RB_S2_MORE;
}

/* ---- writing ---- */

void rb_s2_write_head(struct rb_writer *out)
{
    rb_write_slice(out, RB_S("\xff\x06\x00\x00S2sTwO"));
}

void rb_s2_write_block(struct rb_writer *out, struct rb_slice data)
{
    rb_assert(data.len > 0 && data.len <= RB_S2_WRITE_MAX);
    rb_write_u32(out, (uint32_t)(data.len + CHECKSUM) << 8 | CHUNK_PLAIN);
    rb_write_u32(out, mask(rb_crc32c(0, data)));
    rb_write_slice(out, data);
}
