/* msgstore.h - seam: the messages of one stream, by sequence and by subject (docs/msgstore.md).
 *
 * A *store* holds the messages of one stream. The stores of one shard belong to a *home*, which owns what they share: disk,
 * block cache, budget, files being written. One thread: the shard's. The stream decides everything (limits, expiry, what is a
 * duplicate); the store remembers, finds and forgets.
 *
 * The contract:
 *  1. The index (which sequences exist, their time and size, which subjects there are, how many messages each has) is in memory
 *     and answers at once. Bodies may be on disk: rb_msgstore_get() answers RB_ERR_BUSY and a LOADED event follows.
 *  2. A file store is not durable by itself. Durable is what the log says, plus checkpoints: after rb_msgstore_checkpoint(index)
 *     was reported as CHECKPOINTED, everything up to log index `index` is found again by opening the store, and the caller applies
 *     the log's entries behind it again. It never finds more than its newest valid checkpoint: appended and removed again after
 *     reopening, the same calls give the same store.
 *  3. rb_msgstore_durable_index() is what the log may forget: the checkpoint *before* the newest, so that one damaged checkpoint
 *     loses nothing.
 *  4. Damaged bodies are found by checksum when they are read, named by a DAMAGED event, and read as RB_ERR_CORRUPT from then on.
 *     Damaged checkpoints: the other one is used; when both are bad the index is built again by scanning the segments, and
 *     DAMAGED says so. Files in doubt are renamed, never removed.
 *  5. No call waits for the disk. Writes behind that fail for want of space are kept in memory and tried again; pressure() says it.
 *  6. Nothing a call does depends on the clock or on addresses.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/disk.h"
#include "ringbus/env.h"
#include "ringbus/errors.h"
#include "ringbus/mem.h"
#include "ringbus/slice.h"

#define RB_MSGSTORE_EVENTS_MAX 256
/** Longest subject. */
#define RB_MSGSTORE_SUBJECT_MAX 4096
/** A message: subject, headers and body together. */
#define RB_MSGSTORE_BYTES_MAX (32u << 20)

struct rb_msgstore;
struct rb_msgstore_home;
struct rb_msgstore_cursor;

/** One message. Slices given out are borrowed until the next rb_msgstore_home_poll() of its home. */
struct rb_message {
    uint64_t seq;     /* from 1 */
    uint64_t time_ns; /* since 1970 */
    struct rb_slice subject;
    struct rb_slice payload; /* headers, then body */
    uint32_t header_len;
};

struct rb_msgstore_home_options {
    struct rb_disk *disk; /* NULL: memory stores only */
    struct rb_env *env;
    struct rb_budget *budget;
    uint64_t cache_bytes;   /* blocks read from disk or written lately; 0: 64 MiB */
    uint32_t segment_bytes; /* of new segment files; 0: 32 MiB */
    uint64_t
        behind_bytes; /* written behind at most, all stores together, before pressure() says so; 0: 256 MiB */
};
RB_MUST_CHECK enum rb_err rb_msgstore_home_create(const struct rb_msgstore_home_options *options,
                                                  struct rb_msgstore_home **ret_home);
/** Every store was closed or destroyed, and its event was taken; or the simulated disk lost its power. */
void rb_msgstore_home_destroy(struct rb_msgstore_home *home);
/** A completion of the disk whose op->owner is this home. */
void rb_msgstore_home_complete(struct rb_msgstore_home *home, struct rb_disk_op *op);

/** Somebody waiting for a body; embedded in him, zeroed at first. */
struct rb_msgstore_wait {
    void *owner; /* these two are the caller's */
    uint32_t tag;
    bool waiting; /* these are the store's */
    struct rb_msgstore *store;
    struct rb_msgstore_wait *next;
};

enum rb_msgstore_event_kind {
    RB_MSGSTORE_OPENED,       /* err: RB_OK, or why it cannot be used (then only close is left) */
    RB_MSGSTORE_LOADED,       /* wait: ask again */
    RB_MSGSTORE_CHECKPOINTED, /* index, err */
    RB_MSGSTORE_DAMAGED,      /* text names file and place; borrowed until the next poll */
    RB_MSGSTORE_CLOSED,       /* the store is gone */
};
struct rb_msgstore_event {
    enum rb_msgstore_event_kind kind;
    enum rb_err err;
    struct rb_msgstore *store;
    void *owner; /* of the store */
    struct rb_msgstore_wait *wait;
    uint64_t index;
    const char *text;
};
/** Starts the writes that are worth it, gives what happened. Once a turn. */
uint32_t rb_msgstore_home_poll(struct rb_msgstore_home *home,
                               struct rb_msgstore_event **ret_events);
/** When poll() has something to do though nothing completed (what failed is tried again); UINT64_MAX: never. The env's clock. */
uint64_t rb_msgstore_home_due(const struct rb_msgstore_home *home);
/** Starts the reads and writes that were asked for since the poll. At the end of each turn, else they wait for the next one. */
void rb_msgstore_home_flush(struct rb_msgstore_home *home);
/** Bytes written behind that are not on disk yet are too many, or the disk is full: take no more for now. */
bool rb_msgstore_home_pressure(const struct rb_msgstore_home *home);
struct rb_msgstore_home_stats {
    uint64_t cache_bytes, behind_bytes, index_bytes; /* in memory */
    uint64_t disk_bytes;                             /* files of all stores */
    uint64_t loads, writes, write_errors, checkpoints;
    bool disk_full;
};
void rb_msgstore_home_stats(const struct rb_msgstore_home *home,
                            struct rb_msgstore_home_stats *ret_stats);

struct rb_msgstore_options {
    void *owner; /* the caller's, in events */
    const char *
        directory; /* of a file store, in the disk's directory, its parent must exist; copied. NULL: a memory store */
    /**
     * Called for every message that goes (remove, purge): before its subject is forgotten. `subject` is empty unless `subjects`
     * is set. No call into the store from here. NULL: nobody asks.
     */
    void (*removed)(void *owner, uint64_t seq, uint64_t bytes, struct rb_slice subject);
    bool subjects;
};
/**
 * Opens or makes. OPENED follows, for memory stores too. Errors: RB_ERR_INVALID, RB_ERR_MEMORY, RB_ERR_FULL.
 */
RB_MUST_CHECK enum rb_err rb_msgstore_open(struct rb_msgstore_home *home,
                                           const struct rb_msgstore_options *options,
                                           struct rb_msgstore **ret_store);
/** Sets options.subjects; may change at any time. */
void rb_msgstore_want_subjects(struct rb_msgstore *store, bool subjects);
/** Gives up the store; its files stay. Waiting gets are dropped. CLOSED follows. */
void rb_msgstore_close(struct rb_msgstore *store);
/** As close, and its files are removed. */
void rb_msgstore_destroy(struct rb_msgstore *store);

/** What the checkpoint that was found held: 0 and empty for a new store. The blob is borrowed until the next checkpoint. */
uint64_t rb_msgstore_restored(const struct rb_msgstore *store, struct rb_slice *ret_blob);
/**
 * Makes all of the store, as it is now, findable again, together with the caller's `blob` (copied). CHECKPOINTED follows; one at a
 * time: RB_ERR_BUSY. Memory stores: RB_ERR_INVALID. `index` is not below that of the last one.
 */
RB_MUST_CHECK enum rb_err rb_msgstore_checkpoint(struct rb_msgstore *store, uint64_t index,
                                                 struct rb_slice blob);
/** Rule 3. */
uint64_t rb_msgstore_durable_index(const struct rb_msgstore *store);
/** What a checkpoint would have to write, roughly: to judge when one is worth it. */
uint64_t rb_msgstore_checkpoint_bytes(const struct rb_msgstore *store);

/* ---- one message ---- */

/**
 * message->seq is above the last one; skipped sequences do not exist. Bytes are copied. RB_ERR_MEMORY, RB_ERR_INVALID (a sequence
 * that is used up, no subject, too long): nothing happened.
 */
RB_MUST_CHECK enum rb_err rb_msgstore_append(struct rb_msgstore *store,
                                             const struct rb_message *message);
/** Sequences up to `seq` are used up, without messages. No-op when they are already. */
void rb_msgstore_skip(struct rb_msgstore *store, uint64_t seq);
/** The same for a message that is not kept: it counts as the newest ever appended. */
void rb_msgstore_skip_at(struct rb_msgstore *store, uint64_t seq, uint64_t time_ns);
/** False: it is not there. `erase`: its bytes on disk are overwritten too, in the background. */
bool rb_msgstore_remove(struct rb_msgstore *store, uint64_t seq, bool erase);
/**
 * RB_ERR_MISSING; RB_ERR_CORRUPT; RB_ERR_BUSY: the block is being read, LOADED for `wait` follows (wait may be waiting already for
 * this store: then nothing new is begun). With `wait` NULL nothing is begun.
 */
RB_MUST_CHECK enum rb_err rb_msgstore_get(struct rb_msgstore *store, uint64_t seq,
                                          struct rb_msgstore_wait *wait,
                                          struct rb_message *ret_message);
/** Withdraws; no event follows any more. Harmless when it does not wait. */
void rb_msgstore_forget(struct rb_msgstore_wait *wait);
struct rb_msgstore_entry {
    uint64_t time_ns; /* a file store may have rounded it down to microseconds */
    uint64_t bytes;   /* as it counts (state.bytes) */
};
/** From the index; false: not there. */
bool rb_msgstore_find(const struct rb_msgstore *store, uint64_t seq,
                      struct rb_msgstore_entry *ret_entry);
/** Its subject, into out[RB_MSGSTORE_SUBJECT_MAX]; empty: not there. */
struct rb_slice rb_msgstore_subject_of(const struct rb_msgstore *store, uint64_t seq, uint8_t *out);

/* ---- all messages ---- */

/** Sizes count as nats-server counts them. File: subject + payload + 30, and 4 more with headers. Memory: subject + payload + 16. */
struct rb_msgstore_state {
    uint64_t messages, bytes;
    uint64_t first_seq, last_seq; /* empty: first is last + 1 (a new store: 1 and 0) */
    uint64_t first_ns,
        last_ns; /* of these messages; first is 0 when empty; last_ns stays that of the newest ever appended */
    uint64_t subjects;
    uint64_t deleted; /* gaps between first and last */
};
void rb_msgstore_state(const struct rb_msgstore *store, struct rb_msgstore_state *ret_state);
/** First existing sequence >= seq; 0: none. */
uint64_t rb_msgstore_next(const struct rb_msgstore *store, uint64_t seq);
/** First missing sequence in seq..last; 0: none. With rb_msgstore_next it walks the gaps. */
uint64_t rb_msgstore_next_gap(const struct rb_msgstore *store, uint64_t seq);
/** First existing sequence with time >= time_ns, both rounded down to microseconds; 0: none. */
uint64_t rb_msgstore_at_time(const struct rb_msgstore *store, uint64_t time_ns);
/** Removes everything below `seq` and moves first_seq there (beyond last: last becomes seq - 1). Number removed. */
uint64_t rb_msgstore_purge_below(struct rb_msgstore *store, uint64_t seq);

/* ---- by subject; `filter` is a literal or has wildcards, empty or ">" is everything ---- */

struct rb_msgstore_subject {
    struct rb_slice subject; /* borrowed until the next call */
    uint64_t count, first_seq, last_seq;
};
/** Of one literal subject; false: no message has it. */
bool rb_msgstore_subject(const struct rb_msgstore *store, struct rb_slice subject,
                         struct rb_msgstore_subject *ret_subject);
/** Walks the subjects that match, in byte order. Zero the iterator first; no change of the store meanwhile. */
struct rb_msgstore_subjects {
    uint64_t state[4];
    uint8_t last[RB_MSGSTORE_SUBJECT_MAX];
    uint32_t last_len;
    bool begun;
};
bool rb_msgstore_next_subject(const struct rb_msgstore *store, struct rb_slice filter,
                              struct rb_msgstore_subjects *at,
                              struct rb_msgstore_subject *ret_subject);
/** Messages matching any of the filters (none given: all) with from <= sequence. Exact. */
uint64_t rb_msgstore_count(const struct rb_msgstore *store, const struct rb_slice *filters,
                           uint32_t filter_count, uint64_t from);
/** Subjects matching. */
uint64_t rb_msgstore_subject_count(const struct rb_msgstore *store, struct rb_slice filter);
/** Newest message matching with sequence <= up_to; 0: none. */
uint64_t rb_msgstore_last(const struct rb_msgstore *store, const struct rb_slice *filters,
                          uint32_t filter_count, uint64_t up_to);
/** Oldest message matching with sequence >= from; 0: none. For single questions; a consumer keeps a cursor. */
uint64_t rb_msgstore_first(const struct rb_msgstore *store, const struct rb_slice *filters,
                           uint32_t filter_count, uint64_t from);
/** Removes matching messages below `below` (0: no limit) but the newest `keep`. Number removed. */
uint64_t rb_msgstore_purge(struct rb_msgstore *store, struct rb_slice filter, uint64_t below,
                           uint64_t keep);

/** A place to go on from, for one consumer: filters are copied. Without filters it costs nothing. */
RB_MUST_CHECK enum rb_err rb_msgstore_cursor_create(struct rb_msgstore *store,
                                                    const struct rb_slice *filters,
                                                    uint32_t filter_count,
                                                    struct rb_msgstore_cursor **ret_cursor);
void rb_msgstore_cursor_destroy(struct rb_msgstore_cursor *cursor);
/**
 * First existing message with sequence >= from that matches; 0: none. Cheap when `from` grows from call to call, whatever was
 * appended or removed in between; never wrong when it does not.
 */
uint64_t rb_msgstore_cursor_next(struct rb_msgstore_cursor *cursor, uint64_t from);
/** A message that matches was appended: lets the cursor skip the search later. Optional. */
void rb_msgstore_cursor_hint(struct rb_msgstore_cursor *cursor, uint64_t seq);
