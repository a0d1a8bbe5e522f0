/* sequences.h - the table by sequence: place, subject, time and size of every message, in blocks that exist while a message does. */
#pragma once

#include "storage/runs.h"

#define RB_SEQUENCES_BLOCK 252u

/* Bytes of struct rb_index_message but the subject, which is a leaf (subjects.h). */
struct rb_sequences_entry {
    uint32_t place;
    uint32_t leaf; /* 0: no message */
    uint32_t bytes;
    uint32_t time_low; /* microseconds since the block's base, low half */
};

struct rb_sequences_block {
    uint64_t base_us;
    uint32_t time_high; /* handle of 252 high halves; 0: all are 0 */
    uint32_t pad;
    uint64_t live[4]; /* a bit per message */
    struct rb_sequences_entry entries[RB_SEQUENCES_BLOCK];
};

/* Lives in page 0 of a frozen index. */
struct rb_sequences {
    uint32_t root;        /* runs over block numbers */
    uint32_t tail;        /* the last block, if it still exists */
    uint64_t tail_number; /* and which it is */
    uint64_t first;       /* existing sequence; meaningless when count is 0 */
    uint64_t last;        /* sequence used up */
    uint64_t count;
    uint64_t newest_us;  /* time of the message appended last */
    uint64_t highest_us; /* of all that were appended */
    uint64_t setback_us; /* how far a time was below the highest before it, at most */
};

/** Allocations that one append may need. */
uint32_t rb_sequences_needs(const struct rb_pages *pages, const struct rb_sequences *table);
/** `seq` is above table->last; room was reserved. */
void rb_sequences_append(struct rb_pages *pages, struct rb_sequences *table, uint64_t seq,
                         const struct rb_sequences_entry *entry, uint64_t time_us);
/** False: not there. */
bool rb_sequences_remove(struct rb_pages *pages, struct rb_sequences *table, uint64_t seq);
/** NULL: not there. Borrowed until the next change. */
const struct rb_sequences_entry *rb_sequences_find(const struct rb_pages *pages,
                                                   const struct rb_sequences *table, uint64_t seq);
struct rb_sequences_entry *rb_sequences_edit(struct rb_pages *pages, struct rb_sequences *table,
                                             uint64_t seq);
/** Of an existing message. */
uint64_t rb_sequences_time_us(const struct rb_pages *pages, const struct rb_sequences *table,
                              uint64_t seq);
/** First existing sequence >= seq, last existing one <= seq, first missing one in seq..last; 0: none. */
uint64_t rb_sequences_next(const struct rb_pages *pages, const struct rb_sequences *table,
                           uint64_t seq);
uint64_t rb_sequences_prev(const struct rb_pages *pages, const struct rb_sequences *table,
                           uint64_t seq);
uint64_t rb_sequences_gap(const struct rb_pages *pages, const struct rb_sequences *table,
                          uint64_t seq);
/** First existing sequence with a time >= time_us; 0: none. */
uint64_t rb_sequences_at_time(const struct rb_pages *pages, const struct rb_sequences *table,
                              uint64_t time_us);
/** Messages below `seq`. */
uint64_t rb_sequences_below(const struct rb_pages *pages, const struct rb_sequences *table,
                            uint64_t seq);
