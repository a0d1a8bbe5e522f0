/* segment.h - the bytes of a segment file (docs/ondisk.md says the same in words, with the rule for changing them).
 *
 *   file:   header (64) | record | record | ... | zeroes | record | ...
 *   record: checksum, sequence, time, lengths, flags (40) | subject | payload | zeroes up to the next multiple of 8
 *
 * 1. Everything is little-endian. A record begins at a multiple of 8; zeroes between records end at a multiple of 4096.
 * 2. A record's checksum covers its bytes and its place: store, segment and offset. So no bytes of another store, of another
 *    file or from another place pass for a record.
 */
#pragma once

#include "ringbus/msgstore.h"

#define STORE_SEGMENT_MAGIC 0x47534252u /* "RBSG" */
#define STORE_SEGMENT_VERSION 1
#define STORE_SEGMENT_HEADER_BYTES 64u
#define STORE_RECORD_BYTES 40u

enum store_record_flags {
    STORE_RECORD_ERASED = 1, /* subject and payload are zeroes */
    STORE_RECORD_LOST = 2,   /* its body was damaged when it was to be copied: there is none */
};

struct store_segment_header {
    uint64_t seed, serial, first_seq;
};

struct store_record {
    uint64_t seq, time_ns;
    uint32_t header_len, flags, bytes; /* bytes: with padding */
    struct rb_slice subject, payload;
};

void rb_store_encode_segment(uint8_t *out, const struct store_segment_header *header);
/** `bytes` may be short. RB_ERR_CORRUPT; RB_ERR_UNSUPPORTED: of a version this server does not know. */
RB_MUST_CHECK enum rb_err rb_store_decode_segment(struct rb_slice bytes,
                                                  struct store_segment_header *ret_header);

/** On disk and in memory, with padding. */
static inline uint32_t rb_store_record_bytes(size_t subject_bytes, size_t payload_bytes)
{
    return (uint32_t)((STORE_RECORD_BYTES + subject_bytes + payload_bytes + 7) / 8 * 8);
}

/** What the checksum of a record at this place is mixed with. */
static inline uint64_t rb_store_place_key(uint64_t seed, uint64_t serial, uint64_t offset)
{
    uint64_t key = seed + serial * UINT64_C(0x9E3779B97F4A7C15) + offset;
    key = (key ^ key >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    key = (key ^ key >> 27) * UINT64_C(0x94D049BB133111EB);
    return key ^ key >> 31;
}

/** Writes rb_store_record_bytes() bytes. Without `check` the checksum is 0: for what never leaves memory. */
void rb_store_encode_record(uint8_t *out, const struct rb_message *message, uint32_t flags,
                            bool check, uint64_t key);
/** Overwrites subject and payload of a record that is there. */
void rb_store_erase_record(uint8_t *record, bool check, uint64_t key);
/** Takes it apart without looking at the checksum; false: it does not fit into `bytes`. Slices are borrowed from there. */
bool rb_store_decode_record(struct rb_slice bytes, struct store_record *ret_record);
/** Whether the checksum holds; rb_store_decode_record said that it fits. */
bool rb_store_record_holds(const uint8_t *record, uint64_t key);
/**
 * The next record in the bytes of a segment file at or behind *at; false: there is none. *at becomes its place. *ret_damaged:
 * what lies between is neither a record nor zeroes up to a page.
 */
bool rb_store_scan(struct rb_slice file, uint64_t seed, uint64_t serial, uint32_t *at,
                   struct store_record *ret_record, bool *ret_damaged);
