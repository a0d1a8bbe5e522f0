/* format.c - encodes and decodes batch headers and records; nothing here trusts a length before the checksum held. */
#include "storage/format.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "ringbus/check.h"

#define HEADER_SEED UINT64_C(0x52696E674275734C)
#define CHECKSUM_AT (WAL_HEADER_BYTES - 8)

void rb_wal_encode_header(uint8_t *out, const struct wal_batch_header *header)
{
    struct rb_writer writer = rb_writer_over(out, WAL_HEADER_BYTES);
    memset(out, 0, WAL_HEADER_BYTES);
    rb_write_u32(&writer, WAL_MAGIC);
    rb_write_u16(&writer, WAL_VERSION);
    rb_write_u16(&writer, WAL_HEADER_BYTES);
    rb_write_u64(&writer, header->log_seed);
    rb_write_u64(&writer, header->serial);
    rb_write_u64(&writer, header->offset);
    rb_write_u64(&writer, header->sequence);
    rb_write_u64(&writer, header->durable);
    rb_write_u64(&writer, header->oldest);
    rb_write_u64(&writer, header->epoch);
    rb_write_u64(&writer, header->prev_serial);
    rb_write_u64(&writer, header->prev_end);
    rb_write_u64(&writer, header->file_first);
    rb_write_u32(&writer, header->bytes);
    rb_write_u32(&writer, header->record_count);
    rb_write_u32(&writer, header->flags);
    rb_write_u64(&writer, header->file_bytes);
    writer = rb_writer_over(out + CHECKSUM_AT, 8);
    rb_write_u64(&writer, XXH3_64bits_withSeed(out, CHECKSUM_AT, HEADER_SEED));
}

static bool header_sound(const struct wal_batch_header *header)
{
    uint64_t padded = wal_pad(header->bytes);
    return header->serial > 0 && header->offset % RB_DISK_ALIGN == 0 &&
           header->offset < WAL_FILE_MAX && header->sequence > header->durable &&
           header->file_first > 0 && header->sequence >= header->file_first && header->oldest > 0 &&
           header->oldest <= header->serial && header->prev_serial < header->serial &&
           header->prev_end % RB_DISK_ALIGN == 0 && header->prev_end <= WAL_FILE_MAX &&
           header->bytes >= WAL_HEADER_BYTES && header->bytes % 8 == 0 && padded <= WAL_BATCH_MAX &&
           header->file_bytes % RB_DISK_ALIGN == 0 && header->file_bytes <= WAL_FILE_MAX &&
           header->offset + padded <= header->file_bytes &&
           header->record_count <= (header->bytes - WAL_HEADER_BYTES) / WAL_RECORD_BYTES;
}

enum rb_err rb_wal_decode_header(struct rb_slice bytes, struct wal_batch_header *ret_header)
{
    if (bytes.len < WAL_HEADER_BYTES) {
        return RB_ERR_CORRUPT;
    }
    struct rb_reader reader = rb_reader_over(rb_slice_of(bytes.ptr, WAL_HEADER_BYTES));
    if (rb_read_u32(&reader) != WAL_MAGIC) {
        return RB_ERR_CORRUPT;
    }
    uint16_t version = rb_read_u16(&reader);
    uint16_t header_bytes = rb_read_u16(&reader);
    struct rb_reader tail = rb_reader_over(rb_slice_of(bytes.ptr + CHECKSUM_AT, 8));
    if (rb_read_u64(&tail) != XXH3_64bits_withSeed(bytes.ptr, CHECKSUM_AT, HEADER_SEED)) {
        return RB_ERR_CORRUPT;
    }
    if (version != WAL_VERSION || header_bytes != WAL_HEADER_BYTES) {
        return RB_ERR_UNSUPPORTED;
    }
    struct wal_batch_header header;
    header.log_seed = rb_read_u64(&reader);
    header.serial = rb_read_u64(&reader);
    header.offset = rb_read_u64(&reader);
    header.sequence = rb_read_u64(&reader);
    header.durable = rb_read_u64(&reader);
    header.oldest = rb_read_u64(&reader);
    header.epoch = rb_read_u64(&reader);
    header.prev_serial = rb_read_u64(&reader);
    header.prev_end = rb_read_u64(&reader);
    header.file_first = rb_read_u64(&reader);
    header.bytes = rb_read_u32(&reader);
    header.record_count = rb_read_u32(&reader);
    header.flags = rb_read_u32(&reader);
    header.file_bytes = rb_read_u64(&reader);
    if (!header_sound(&header)) {
        return RB_ERR_CORRUPT;
    }
    *ret_header = header;
    return RB_OK;
}

static uint64_t seed_at(uint64_t log_seed, uint64_t serial, uint64_t offset)
{
    return log_seed + serial * UINT64_C(0x9E3779B97F4A7C15) + offset * UINT64_C(0xC2B2AE3D27D4EB4F);
}

static inline void store_u64(uint8_t *out, uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

void rb_wal_encode_record(uint8_t *out, uint64_t log_seed, uint64_t serial, uint64_t offset,
                          const struct wal_record *record)
{
    const struct rb_wal_record *r = &record->record;
    size_t whole = wal_record_bytes(r->body.len);
    size_t used = WAL_RECORD_BYTES + r->body.len;
    uint64_t kind_type_chain =
        (uint64_t)r->kind | (uint64_t)r->type << 8 | (uint64_t)record->chain << 16;
    store_u64(out + 8, (uint64_t)r->body.len | kind_type_chain << 32);
    store_u64(out + 16, r->group);
    store_u64(out + 24, r->term);
    store_u64(out + 32, r->index);
    if (r->body.len > 0) {
        memcpy(out + WAL_RECORD_BYTES, r->body.ptr, r->body.len);
    }
    memset(out + used, 0, whole - used);
    store_u64(out, XXH3_64bits_withSeed(out + 8, used - 8, seed_at(log_seed, serial, offset)));
}

static bool record_sound(const struct rb_wal_record *r)
{
    switch (r->kind) {
    case RB_WAL_ENTRY:
        return r->index > 0;
    case RB_WAL_STATE:
        return r->term == 0;
    case RB_WAL_STATE_REMOVE:
        return r->term == 0 && r->body.len == 0;
    case RB_WAL_TRUNCATE:
        return r->index > 0 && r->type == 0 && r->term == 0 && r->body.len == 0;
    case RB_WAL_PREFIX:
        return r->index > 0 && r->type == 0 && r->body.len == 0;
    case RB_WAL_GROUP_DROP:
        return r->index == 0 && r->type == 0 && r->term == 0 && r->body.len == 0;
    }
    return false;
}

enum rb_err rb_wal_decode_record(struct rb_slice bytes, uint64_t log_seed, uint64_t serial,
                                 uint64_t offset, struct wal_record *ret_record)
{
    struct rb_reader reader = rb_reader_over(bytes);
    uint64_t checksum = rb_read_u64(&reader);
    uint32_t body_bytes = rb_read_u32(&reader);
    uint8_t kind = rb_read_u8(&reader);
    struct wal_record found;
    found.record.kind = (enum rb_wal_record_kind)kind;
    found.record.type = rb_read_u8(&reader);
    found.chain = rb_read_u16(&reader);
    found.record.group = rb_read_u64(&reader);
    found.record.term = rb_read_u64(&reader);
    found.record.index = rb_read_u64(&reader);
    if (!rb_reader_ok(&reader) || body_bytes > RB_WAL_BODY_MAX ||
        wal_record_bytes(body_bytes) > bytes.len || kind < RB_WAL_ENTRY ||
        kind > RB_WAL_GROUP_DROP) {
        return RB_ERR_CORRUPT;
    }
    found.record.body = rb_read_slice(&reader, body_bytes);
    if (checksum != XXH3_64bits_withSeed(bytes.ptr + 8, WAL_RECORD_BYTES - 8 + body_bytes,
                                         seed_at(log_seed, serial, offset)) ||
        !record_sound(&found.record)) {
        return RB_ERR_CORRUPT;
    }
    *ret_record = found;
    return RB_OK;
}
