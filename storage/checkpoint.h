/* checkpoint.h - the bytes of a checkpoint file (docs/ondisk.md says the same in words, with the rule for changing them).
 *
 *   file:  header (4096) | the same again (4096) | page | page | ... | table
 *   page:  64 KiB each, the zeroes at its end left out; a hole follows, but behind the last one
 *   table: page entries (16 each) | segments (40 each, then 2 bytes for each of their blocks) | blob
 *
 * 1. Two files take turns. Pages of the older checkpoint are overwritten, so it is none any more; the header comes last, when
 *    everything it stands for is durable, its first copy before its second one.
 * 2. The header's checksum covers all of it and it has the table's; the table has those of the pages.
 */
#pragma once

#include "ringbus/msgstore.h"

#define CHECKPOINT_MAGIC 0x4B434252u /* "RBCK" */
#define CHECKPOINT_VERSION 1
#define CHECKPOINT_HEADER_BYTES 128u
#define CHECKPOINT_COPY_BYTES 4096u
#define CHECKPOINT_PAGES_AT (2 * CHECKPOINT_COPY_BYTES)
#define CHECKPOINT_PAGE_ENTRY_BYTES 16u
#define CHECKPOINT_SEGMENT_BYTES 40u
/** Pages: 64 GiB of index. Segments, blocks of one of them, bytes of a blob. */
#define CHECKPOINT_PAGES_MAX (1u << 20)
#define CHECKPOINT_SEGMENTS_MAX (1u << 22)
#define CHECKPOINT_BLOCKS_MAX (1u << 20)
#define CHECKPOINT_BLOB_MAX (64u << 20)

struct checkpoint_header {
    uint64_t seed, generation;
    uint64_t index, before_index; /* of the log; of the checkpoint before this one */
    uint64_t next_serial, first_seq, last_seq;
    uint64_t table_offset, table_bytes, table_checksum;
    uint32_t page_count, segment_count, blob_bytes;
};

struct checkpoint_page {
    uint32_t len; /* without the zeroes at its end; a multiple of 8 */
    uint64_t checksum;
};

struct checkpoint_segment {
    uint64_t serial, first_seq;
    uint32_t bytes, live_bytes, live_count, block_count;
    struct rb_slice blocks; /* 2 bytes each: its length in units of 4096 */
};

/** Writes CHECKPOINT_HEADER_BYTES. */
void rb_checkpoint_encode(uint8_t *out, const struct checkpoint_header *header);
/** RB_ERR_CORRUPT; RB_ERR_UNSUPPORTED: of a version this server does not know. */
RB_MUST_CHECK enum rb_err rb_checkpoint_decode(struct rb_slice bytes,
                                               struct checkpoint_header *ret_header);
uint64_t rb_checkpoint_table_checksum(const struct checkpoint_header *header,
                                      struct rb_slice table);
/** Bytes of a page without the zeroes at its end. */
uint32_t rb_checkpoint_page_len(const uint8_t *page);
uint64_t rb_checkpoint_page_checksum(uint64_t seed, uint32_t number, struct rb_slice page);

void rb_checkpoint_write_page(struct rb_writer *writer, const struct checkpoint_page *page);
void rb_checkpoint_write_segment(struct rb_writer *writer,
                                 const struct checkpoint_segment *segment);
/** RB_ERR_CORRUPT: a number that cannot be. */
RB_MUST_CHECK enum rb_err rb_checkpoint_read_page(struct rb_reader *reader,
                                                  struct checkpoint_page *ret_page);
/** Checks that the blocks fill the segment and that it follows `before` (its serial 0: there is none). */
RB_MUST_CHECK enum rb_err rb_checkpoint_read_segment(struct rb_reader *reader,
                                                     const struct checkpoint_segment *before,
                                                     struct checkpoint_segment *ret_segment);
