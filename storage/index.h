/* index.h - which messages a store has: by sequence, by subject, in paged memory that can be written out while it changes.
 *
 * Everything lives in *pages* of one growing region addressed by 32-bit handles (units of 8 bytes), never by pointers, so a
 * checkpoint is the pages as they are and loading one is reading them. While a checkpoint is being written, a page that is
 * about to change for the first time is copied aside (copy on write): every write goes through rb_pages_edit().
 *
 *   subject tree (tokens and bytes, radix) -> leaf { count, first, last, postings } ; postings: chunks of sequences, ascending
 *   sequence table: blocks of 1024 { place in its segment, size class and flags, leaf, time in microseconds }
 */
#pragma once

#include "ringbus/msgstore.h"

#define RB_PAGE_BYTES 65536u

struct rb_index;

struct rb_index_message {
    uint64_t seq;
    uint64_t time_us;
    uint32_t place; /* the segment's: opaque here, 32 bits */
    uint32_t bytes; /* as it counts */
    struct rb_slice subject;
};

RB_MUST_CHECK enum rb_err rb_index_create(struct rb_budget *budget, struct rb_index **ret_index);
void rb_index_destroy(struct rb_index *index);
uint64_t rb_index_bytes(const struct rb_index *index);

RB_MUST_CHECK enum rb_err rb_index_append(struct rb_index *index,
                                          const struct rb_index_message *message);
void rb_index_skip(struct rb_index *index, uint64_t seq);
bool rb_index_remove(struct rb_index *index, uint64_t seq);
/** False: not there. The subject is not set. */
bool rb_index_find(const struct rb_index *index, uint64_t seq,
                   struct rb_index_message *ret_message);
/** After compaction moved it. */
void rb_index_set_place(struct rb_index *index, uint64_t seq, uint32_t place);

/* As the functions of msgstore.h with the same name, over an index. */
void rb_index_state(const struct rb_index *index, struct rb_msgstore_state *ret_state);
uint64_t rb_index_next(const struct rb_index *index, uint64_t seq);
uint64_t rb_index_next_gap(const struct rb_index *index, uint64_t seq);
uint64_t rb_index_at_time(const struct rb_index *index, uint64_t time_us);
struct rb_slice rb_index_subject_of(const struct rb_index *index, uint64_t seq, uint8_t *out);
bool rb_index_subject(const struct rb_index *index, struct rb_slice subject,
                      struct rb_msgstore_subject *ret_subject);
bool rb_index_next_subject(const struct rb_index *index, struct rb_slice filter,
                           struct rb_msgstore_subjects *at,
                           struct rb_msgstore_subject *ret_subject);
uint64_t rb_index_count(const struct rb_index *index, const struct rb_slice *filters,
                        uint32_t count, uint64_t from);
uint64_t rb_index_subject_count(const struct rb_index *index, struct rb_slice filter);
uint64_t rb_index_last(const struct rb_index *index, const struct rb_slice *filters, uint32_t count,
                       uint64_t up_to);
uint64_t rb_index_first(const struct rb_index *index, const struct rb_slice *filters,
                        uint32_t count, uint64_t from);
/** A place to go on from, as rb_msgstore_cursor. */
struct rb_index_cursor;
RB_MUST_CHECK enum rb_err rb_index_cursor_create(struct rb_index *index,
                                                 const struct rb_slice *filters, uint32_t count,
                                                 struct rb_index_cursor **ret_cursor);
void rb_index_cursor_destroy(struct rb_index_cursor *cursor);
uint64_t rb_index_cursor_next(struct rb_index_cursor *cursor, uint64_t from);
void rb_index_cursor_hint(struct rb_index_cursor *cursor, uint64_t seq);

/* Writing out and reading in */

/** Freezes the index as it is now for reading by rb_index_frozen_page; one at a time. Later changes copy pages aside. */
RB_MUST_CHECK enum rb_err rb_index_freeze(struct rb_index *index);
/** Pages of the frozen state, and whether page `i` changed since the freeze number `since` (0: all did). */
uint32_t rb_index_frozen_pages(const struct rb_index *index);
uint64_t rb_index_freeze_number(const struct rb_index *index);
bool rb_index_frozen_changed(const struct rb_index *index, uint32_t page, uint64_t since);
/** RB_PAGE_BYTES bytes, readable until thaw. */
const uint8_t *rb_index_frozen_page(const struct rb_index *index, uint32_t page);
void rb_index_thaw(struct rb_index *index);
/**
 * Builds an index from pages that were written out: call load_begin, fill every page, then load_end, which checks every
 * handle that it follows before it trusts it. RB_ERR_CORRUPT: destroy it.
 */
RB_MUST_CHECK enum rb_err rb_index_load_begin(struct rb_budget *budget, uint32_t page_count,
                                              struct rb_index **ret_index);
uint8_t *rb_index_load_page(struct rb_index *index, uint32_t page);
RB_MUST_CHECK enum rb_err rb_index_load_end(struct rb_index *index);
