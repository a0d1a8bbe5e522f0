/* format.h - the bytes of the log on disk (docs/ondisk.md says the same in words, with the rule for changing them).
 *
 *   file:   batch | batch | ... | what an earlier use of the file left
 *   batch:  header (128) | record | record | ... | zeroes up to the next multiple of RB_DISK_ALIGN
 *   record: checksum, lengths, kind, group, term, index (40) | body | zeroes up to the next multiple of 8
 *
 * 1. Everything is little-endian. A batch begins at a multiple of RB_DISK_ALIGN, a record at one of 8.
 * 2. A file has a serial that is used once; a position is written at most once under one serial. The header's checksum covers
 *    serial and offset, a record's is seeded with the log's seed, the serial and the offset. So no bytes of another log,
 *    of an earlier use of the file, or at another place pass for a batch or record.
 * 3. Every header says what its file follows, so that no single block of a file is needed to know its place.
 */
#pragma once

#include <stdint.h>

#include "ringbus/storage.h"

#define WAL_MAGIC 0x42574252u /* "RBWB" */
#define WAL_VERSION 1
#define WAL_HEADER_BYTES 128u
#define WAL_RECORD_BYTES 40u
/** Longest batch with its padding. */
#define WAL_BATCH_MAX (64u << 20)
/** Longest file: offsets in the index have 29 bits of 8 bytes. */
#define WAL_FILE_MAX (UINT64_C(4) << 30)

enum wal_batch_flags {
    WAL_FLAG_OPENED = 1, /* the first batch after the log was opened */
    WAL_FLAG_SEAL = 2,   /* nothing but a mark that everything before it is durable */
};

struct wal_batch_header {
    uint64_t log_seed;
    uint64_t serial, offset; /* where it stands */
    uint64_t sequence;       /* counts batches of the log from 1, without gaps */
    uint64_t durable;        /* every batch up to this one was durable when this one was sealed */
    uint64_t oldest;         /* files with smaller serials hold nothing that lives */
    uint64_t epoch;          /* counts the times the log was opened */
    uint64_t prev_serial;    /* the file before this one; 0: none */
    uint64_t prev_end;       /* where that one's batches end */
    uint64_t file_first;     /* sequence of the first batch of this file */
    uint32_t bytes, record_count; /* header and records, without padding */
    uint32_t flags;
    uint64_t file_bytes; /* the file's whole size: a shorter one was cut off by somebody */
};

struct wal_record {
    struct rb_wal_record record; /* the body is borrowed */
    uint16_t chain;              /* counts the records of the group, modulo 2^16 */
};

_Static_assert(WAL_HEADER_BYTES % 8 == 0 && WAL_RECORD_BYTES % 8 == 0, "records stand on 8 bytes");
_Static_assert(WAL_BATCH_MAX >= RB_WAL_BODY_MAX + WAL_HEADER_BYTES + WAL_RECORD_BYTES + 8,
               "the longest record fits a batch");
_Static_assert(WAL_BATCH_MAX <= RB_DISK_IO_BYTES_MAX, "a batch is one write");

static inline uint64_t wal_align8(uint64_t bytes)
{
    return (bytes + 7) & ~UINT64_C(7);
}

static inline uint64_t wal_pad(uint64_t bytes)
{
    return (bytes + RB_DISK_ALIGN - 1) / RB_DISK_ALIGN * RB_DISK_ALIGN;
}

/** Bytes that a record takes in its batch. */
static inline uint64_t wal_record_bytes(uint64_t body_bytes)
{
    return wal_align8(WAL_RECORD_BYTES + body_bytes);
}

/** Fills WAL_HEADER_BYTES at `out`. */
void rb_wal_encode_header(uint8_t *out, const struct wal_batch_header *header);
/** Checks magic, version, checksum and the relations of the fields; RB_ERR_CORRUPT, RB_ERR_UNSUPPORTED (a later version). */
RB_MUST_CHECK enum rb_err rb_wal_decode_header(struct rb_slice bytes,
                                               struct wal_batch_header *ret_header);
/** Fills wal_record_bytes() at `out`, which will stand at `offset` of file `serial`. */
void rb_wal_encode_record(uint8_t *out, uint64_t log_seed, uint64_t serial, uint64_t offset,
                          const struct wal_record *record);
/** The record at the beginning of `bytes`; RB_ERR_CORRUPT when its checksum or its fields are wrong. */
RB_MUST_CHECK enum rb_err rb_wal_decode_record(struct rb_slice bytes, uint64_t log_seed,
                                               uint64_t serial, uint64_t offset,
                                               struct wal_record *ret_record);
