/* index.h - which messages a store has: by sequence, by subject, in paged memory that can be written out while it changes.
 *
 * Everything lives in *pages* of one growing region addressed by 32-bit handles (units of 8 bytes), never by pointers, so a
 * checkpoint is the pages as they are and loading one is reading them. While a checkpoint is being written, a page that is
 * about to change for the first time is copied aside (copy on write): every write goes through rb_pages_edit().
 *
 *   subject tree (radix over bytes) -> leaf { count, first, last, postings } ; postings: chunks of up to 506 sequences, ascending
 *   sequence table: blocks of 252 { place in its segment, leaf, bytes, time in microseconds }
 *
 * Memory: 16 bytes for a message, 4 more for the third and further ones of a subject; 24 or so for a subject that is a number below
 * a common beginning. A small store takes 64 to 200 KiB; beyond 2 MiB it grows by 2 MiB. Time: by the length of the subject and the
 * logarithm of the number of messages. bench/micro/bench_index.c measures both.
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

/** `budget` (may be NULL) outlives the index. Cursors are destroyed before it. */
RB_MUST_CHECK enum rb_err rb_index_create(struct rb_budget *budget, struct rb_index **ret_index);
void rb_index_destroy(struct rb_index *index);
/** Memory of its own, copies of frozen pages included, cursors not. */
uint64_t rb_index_bytes(const struct rb_index *index);

/**
 * message->seq is above all that were used. RB_ERR_INVALID: it is not, or the subject is empty or longer than
 * RB_MSGSTORE_SUBJECT_MAX. After an error (RB_ERR_MEMORY) nothing has changed.
 */
RB_MUST_CHECK enum rb_err rb_index_append(struct rb_index *index,
                                          const struct rb_index_message *message);
/** Removing, skipping and moving need no memory. */
void rb_index_skip(struct rb_index *index, uint64_t seq);
/** A message of that time was appended and is gone again. */
void rb_index_newest(struct rb_index *index, uint64_t time_us);
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
/** A place to go on from, as rb_msgstore_cursor. Up to 64 KiB of the index's budget when few of the messages match, from the first search on. */
struct rb_index_cursor;
RB_MUST_CHECK enum rb_err rb_index_cursor_create(struct rb_index *index,
                                                 const struct rb_slice *filters, uint32_t count,
                                                 struct rb_index_cursor **ret_cursor);
void rb_index_cursor_destroy(struct rb_index_cursor *cursor);
uint64_t rb_index_cursor_next(struct rb_index_cursor *cursor, uint64_t from);
void rb_index_cursor_hint(struct rb_index_cursor *cursor, uint64_t seq);

/* Writing out and reading in */

/**
 * Freezes the index as it is now for reading by rb_index_frozen_page; one at a time (RB_ERR_BUSY). Later changes copy pages aside;
 * when the budget refuses the copy they happen all the same, and the freeze is lost.
 */
RB_MUST_CHECK enum rb_err rb_index_freeze(struct rb_index *index);
/**
 * Pages of the frozen state, the number of the last freeze (it goes on counting in an index that was loaded), and whether a page
 * changed since the freeze number `since` (0: all did).
 */
uint32_t rb_index_frozen_pages(const struct rb_index *index);
uint64_t rb_index_freeze_number(const struct rb_index *index);
bool rb_index_frozen_changed(const struct rb_index *index, uint32_t page, uint64_t since);
/** RB_PAGE_BYTES bytes, readable until thaw or the next change. NULL: lost; thaw and try again later. */
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
