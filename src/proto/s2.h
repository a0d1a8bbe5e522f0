/* s2.h - S2 streams (framed Snappy with repeats): read whole, written without compressing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/mem.h"
#include "ringbus/slice.h"

/** A decoded block is at most so long; longer ones are refused. */
#define RB_S2_BLOCK_MAX (4u << 20)
/** What rb_s2_write_head writes. */
#define RB_S2_HEAD_BYTES 10
/** What rb_s2_write_block writes at most at a time, and adds. */
#define RB_S2_WRITE_MAX (64u << 10)
#define RB_S2_WRITE_EXTRA 8

/** Decodes one block (no framing) into out[out_cap]; its length in *ret_len. RB_ERR_CORRUPT; RB_ERR_LIMIT: longer than out_cap. */
RB_MUST_CHECK enum rb_err rb_s2_decode(struct rb_slice block, uint8_t *out, size_t out_cap,
                                       size_t *ret_len);
/** The length that a block says it decodes to; false: it does not even say that. */
bool rb_s2_decoded_len(struct rb_slice block, uint64_t *ret_len);

/** Reads a stream that comes in pieces of any size. */
struct rb_s2_reader {
    struct rb_budget *budget;
    uint8_t *in, *out;
    size_t in_len, in_cap, in_at, out_cap;
    bool begun, failed;
    const char *why; /* of a failure; static */
};
enum rb_s2_next { RB_S2_BLOCK, RB_S2_MORE, RB_S2_BAD };

void rb_s2_reader_init(struct rb_s2_reader *reader, struct rb_budget *budget);
void rb_s2_reader_deinit(struct rb_s2_reader *reader);
/** Adds a piece (copied). RB_ERR_MEMORY; RB_ERR_FULL when more than two chunks wait unread. */
RB_MUST_CHECK enum rb_err rb_s2_feed(struct rb_s2_reader *reader, struct rb_slice piece);
/** The next block's bytes, borrowed until the next call; MORE: feed it. */
enum rb_s2_next rb_s2_read(struct rb_s2_reader *reader, struct rb_slice *ret_block);
/** The pieces ended where a chunk ends. */
bool rb_s2_at_boundary(const struct rb_s2_reader *reader);
/** Bytes that were fed and not read yet. */
size_t rb_s2_waiting(const struct rb_s2_reader *reader);

void rb_s2_write_head(struct rb_writer *out);
/** `data` is at most RB_S2_WRITE_MAX long and not empty. */
void rb_s2_write_block(struct rb_writer *out, struct rb_slice data);
