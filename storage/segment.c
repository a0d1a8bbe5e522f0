/* segment.c - encodes and decodes segment headers and records; a length is compared with what is there before it is used. */
#include "storage/segment.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "ringbus/check.h"

#define HEADER_KEY UINT64_C(0x52425347736D6831)
#define CHECKSUM_AT (STORE_SEGMENT_HEADER_BYTES - 8)

static inline void put_u64(uint8_t *out, uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

static inline uint64_t get_u64(const uint8_t *bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value |= (uint64_t)bytes[i] << (8 * i);
    }
    return value;
}

void rb_store_encode_segment(uint8_t *out, const struct store_segment_header *header)
{
    struct rb_writer writer = rb_writer_over(out, STORE_SEGMENT_HEADER_BYTES);
    memset(out, 0, STORE_SEGMENT_HEADER_BYTES);
    rb_write_u32(&writer, STORE_SEGMENT_MAGIC);
    rb_write_u16(&writer, STORE_SEGMENT_VERSION);
    rb_write_u16(&writer, STORE_SEGMENT_HEADER_BYTES);
    rb_write_u64(&writer, header->seed);
    rb_write_u64(&writer, header->serial);
    rb_write_u64(&writer, header->first_seq);
    put_u64(out + CHECKSUM_AT, XXH3_64bits(out, CHECKSUM_AT) ^ HEADER_KEY);
}

enum rb_err rb_store_decode_segment(struct rb_slice bytes, struct store_segment_header *ret_header)
{
    struct store_segment_header header;
    struct rb_reader reader = rb_reader_over(bytes);
    if (bytes.len < STORE_SEGMENT_HEADER_BYTES || rb_read_u32(&reader) != STORE_SEGMENT_MAGIC) {
        return RB_ERR_CORRUPT;
    }
    uint16_t version = rb_read_u16(&reader);
    uint16_t header_bytes = rb_read_u16(&reader);
    if (get_u64(bytes.ptr + CHECKSUM_AT) != (XXH3_64bits(bytes.ptr, CHECKSUM_AT) ^ HEADER_KEY)) {
        return RB_ERR_CORRUPT;
    }
    if (version != STORE_SEGMENT_VERSION || header_bytes != STORE_SEGMENT_HEADER_BYTES) {
        return RB_ERR_UNSUPPORTED;
    }
    header.seed = rb_read_u64(&reader);
    header.serial = rb_read_u64(&reader);
    header.first_seq = rb_read_u64(&reader);
    *ret_header = header;
    return RB_OK;
}

/* ---- records ---- */

static inline uint64_t checksum_of(const uint8_t *record, uint32_t used, uint64_t key)
{
    return XXH3_64bits(record + 8, used - 8) ^ key;
}

void rb_store_encode_record(uint8_t *out, const struct rb_message *message, uint32_t flags,
                            bool check, uint64_t key)
{
    size_t subject_len = message->subject.len;
    size_t payload_len = message->payload.len;
    uint32_t used = (uint32_t)(STORE_RECORD_BYTES + subject_len + payload_len);
    put_u64(out + 8, message->seq);
    put_u64(out + 16, message->time_ns);
    put_u64(out + 24, (uint64_t)payload_len | (uint64_t)message->header_len << 32);
    put_u64(out + 32, (uint64_t)subject_len | (uint64_t)flags << 16);
    if (subject_len > 0) {
        memcpy(out + STORE_RECORD_BYTES, message->subject.ptr, subject_len);
    }
    if (payload_len > 0) {
        memcpy(out + STORE_RECORD_BYTES + subject_len, message->payload.ptr, payload_len);
    }
    memset(out + used, 0, (8 - used % 8) % 8);
    put_u64(out, check ? checksum_of(out, used, key) : 0);
}

void rb_store_erase_record(uint8_t *record, bool check, uint64_t key)
{
    uint32_t subject_len = record[32] | (uint32_t)record[33] << 8;
    uint32_t payload_len = (uint32_t)get_u64(record + 24);
    record[34] |= STORE_RECORD_ERASED;
    memset(record + STORE_RECORD_BYTES, 0, (size_t)subject_len + payload_len);
    put_u64(record,
            check ? checksum_of(record, STORE_RECORD_BYTES + subject_len + payload_len, key) : 0);
}

bool rb_store_decode_record(struct rb_slice bytes, struct store_record *ret_record)
{
    if (bytes.len < STORE_RECORD_BYTES) {
        return false;
    }
    uint64_t lens = get_u64(bytes.ptr + 24);
    uint64_t rest = get_u64(bytes.ptr + 32);
    uint32_t payload_len = (uint32_t)lens;
    uint32_t header_len = (uint32_t)(lens >> 32);
    uint32_t subject_len = (uint16_t)rest;
    if (subject_len > RB_MSGSTORE_SUBJECT_MAX || payload_len > RB_MSGSTORE_BYTES_MAX ||
        header_len > payload_len || rest >> 32 != 0 ||
        rb_store_record_bytes(subject_len, payload_len) > bytes.len) {
        return false;
    }
    *ret_record = (struct store_record){
        .seq = get_u64(bytes.ptr + 8),
        .time_ns = get_u64(bytes.ptr + 16),
        .header_len = header_len,
        .flags = (uint16_t)(rest >> 16),
        .bytes = rb_store_record_bytes(subject_len, payload_len),
        .subject = rb_slice_of(bytes.ptr + STORE_RECORD_BYTES, subject_len),
        .payload = rb_slice_of(bytes.ptr + STORE_RECORD_BYTES + subject_len, payload_len),
    };
    return true;
}

bool rb_store_record_holds(const uint8_t *record, uint64_t key)
{
    uint32_t payload_len = (uint32_t)get_u64(record + 24);
    uint32_t subject_len = record[32] | (uint32_t)record[33] << 8;
    return get_u64(record) ==
           checksum_of(record, STORE_RECORD_BYTES + subject_len + payload_len, key);
}

/* Where the zeroes that fill a page end; `at` when there are others. */
static size_t behind_zeroes(struct rb_slice file, size_t at)
{
    size_t end = (at + RB_DISK_ALIGN) / RB_DISK_ALIGN * RB_DISK_ALIGN;
    size_t last = end < file.len ? end : file.len;
    for (size_t i = at; i < last; i++) {
        if (file.ptr[i] != 0) {
            return at;
        }
    }
    return end;
}

bool rb_store_scan(struct rb_slice file, uint64_t seed, uint64_t serial, uint32_t *at,
                   struct store_record *ret_record, bool *ret_damaged)
{
    size_t place = *at;
    *ret_damaged = false;
    while (place < file.len) {
        struct rb_slice rest = rb_slice_of(file.ptr + place, file.len - place);
        if (rb_store_decode_record(rest, ret_record) &&
            rb_store_record_holds(rest.ptr, rb_store_place_key(seed, serial, place))) {
            *at = (uint32_t)place;
            return true;
        }
        size_t next = behind_zeroes(file, place);
        if (next == place) {
            *ret_damaged = true;
            next = place + 8;
        }
        place = next;
    }
    *at = (uint32_t)file.len;
    return false;
}
