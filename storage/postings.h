/* postings.h - the sequences of one subject, ascending: the third and further ones of a leaf (subjects.h) make chunks of them.
 *
 *   root: chunk { base, deltas of 32 bits } or runs (runs.h) over chunks
 */
#pragma once

#include "storage/runs.h"

struct rb_postings_chunk {
    uint8_t level; /* 0, at the same place as that of a node of runs */
    uint8_t pad;
    uint16_t count;
    uint16_t start; /* of the deltas that are still there */
    uint16_t cap;
    uint64_t base;
    uint32_t deltas[];
};
#define RB_POSTINGS_CHUNK_MAX 506u

/** Allocations that one append may need. */
uint32_t rb_postings_needs(const struct rb_pages *pages, uint32_t root);
/** `seq` is above all others; `root` 0: the first. Returns the new root. */
uint32_t rb_postings_append(struct rb_pages *pages, uint32_t root, uint64_t seq);
/** Returns the new root, 0 when nothing is left. Nothing happens when it is not there. */
uint32_t rb_postings_remove(struct rb_pages *pages, uint32_t root, uint64_t seq);
void rb_postings_free(struct rb_pages *pages, uint32_t root);
/** First one >= seq, last one <= seq; 0: none. */
uint64_t rb_postings_next(const struct rb_pages *pages, uint32_t root, uint64_t seq);
uint64_t rb_postings_prev(const struct rb_pages *pages, uint32_t root, uint64_t seq);
/** Copies those from `from` on to below `end`, at most `max` of them; returns how many. */
uint32_t rb_postings_copy(const struct rb_pages *pages, uint32_t root, uint64_t from, uint64_t end,
                          uint64_t *out, uint32_t max);
/** How many are below `seq`. */
uint64_t rb_postings_below(const struct rb_pages *pages, uint32_t root, uint64_t seq);
