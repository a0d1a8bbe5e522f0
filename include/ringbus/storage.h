/* storage.h - seam: the log of one shard, under every raft group and stream (docs/storage.md). Message stores join it later.
 *
 * A log holds, for each group: entries (index counted without gaps, a term each), and states (a small record per type and
 * key, the latest one counts: votes, terms, consumers). One struct rb_wal per shard, used by that shard's thread only.
 * The contract every driver keeps:
 *  1. After a write or read call returned RB_OK exactly one event for it follows; after an error none, and nothing changed.
 *  2. Events of writes come in the order of the calls. RB_WAL_WRITTEN with RB_OK means: this write, and every one before it,
 *     is on stable storage. It never comes earlier.
 *  3. What a write changes shows in rb_wal_group() and the other questions at once, before it is durable. What must not be
 *     used before it is durable (votes, acknowledgements) waits for the event.
 *  4. A write that failed stops the log: RB_WAL_STOPPED, then every waiting write ends with RB_ERR_IO. Their bytes are
 *     unknown: after a restart they may be there or not. Reads of what was durable go on, writes are refused with RB_ERR_IO.
 *  5. Room: a write is accepted only when its place on the disk is allocated. RB_ERR_FULL: the queue is full, try again after
 *     the next events. RB_ERR_SPACE: the disk or the log's limit is used up; RB_WAL_ROOM comes when it is worth trying
 *     again. A reserve is kept for all writes but entries, so that dropping, truncating and consumer state go on,
 *     and a part of the last file for urgent entries, so that what gives space back can be asked for.
 *  6. After a restart every durable write is there, once and in order; what was truncated or dropped does not come back.
 *     Writes in flight at a crash: a prefix of them is there. Damaged records are never given out: each damaged place is
 *     one RB_WAL_DAMAGED event, and the file it is in is kept aside under its name + ".damaged".
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/disk.h"
#include "ringbus/errors.h"
#include "ringbus/slice.h"

/** Longest body of a record; a log may be opened with less. */
#define RB_WAL_BODY_MAX (32u << 20)
/** Events given by one poll. */
#define RB_WAL_EVENTS_MAX 512
/** Damaged places kept for their events; further ones are counted. */
#define RB_WAL_DAMAGES_MAX 64
#define RB_WAL_NAME_MAX 64

enum rb_wal_record_kind {
    RB_WAL_ENTRY = 1,        /* index = last + 1 */
    RB_WAL_STATE = 2,        /* `index` is the key; replaces the state of this type and key */
    RB_WAL_STATE_REMOVE = 3, /* of this type and key */
    RB_WAL_TRUNCATE = 4,     /* entries from `index` on are gone */
    RB_WAL_PREFIX = 5,       /* entries up to `index` are gone; `term` is that of `index` */
    RB_WAL_GROUP_DROP = 6,   /* entries and states are gone; the group does not exist */
};

struct rb_wal_record {
    enum rb_wal_record_kind kind;
    uint8_t type; /* of entries and states: the caller's, opaque */
    uint64_t group, term, index;
    struct rb_slice body; /* of entries and states */
    bool urgent;          /* an entry that may give space back: rule 5 */
};

/** One write, embedded in whoever waits for it. */
struct rb_wal_write {
    void *owner; /* these two are the caller's */
    uint32_t tag;
    bool in_flight;
    enum rb_err err; /* these two are the log's */
    struct rb_wal_write *next;
};

/**
 * One read. The caller lends aligned memory (rb_disk_alloc) and the array of records until the event. Then the first
 * `record_count` of `records` are consecutive records; their bodies point into `bytes`.
 */
struct rb_wal_read {
    void *owner; /* these two are the caller's */
    uint32_t tag;
    bool in_flight;
    enum rb_err err;
    uint8_t *bytes;
    uint32_t len;
    struct rb_wal_record *records;
    uint32_t record_max, record_count;
    enum rb_wal_record_kind kind; /* the rest is the log's */
    uint8_t type;
    bool internal;
    uint64_t group, index, place;
    struct rb_wal_read *next;
    struct rb_disk_op op;
};

enum rb_wal_event_kind {
    RB_WAL_OPENED,   /* err: RB_OK, or why the log cannot be used (then only close() is left) */
    RB_WAL_WRITTEN,  /* write, err */
    RB_WAL_WAS_READ, /* read, read->err: RB_ERR_CORRUPT (damage is named as well), RB_ERR_STALE (dropped meanwhile), RB_ERR_IO */
    RB_WAL_DAMAGED,  /* damage */
    RB_WAL_STOPPED,  /* err: rule 4; once */
    RB_WAL_ROOM,     /* rule 5 */
    RB_WAL_CLOSED,   /* the last event */
};

/** Where bytes failed their check, and what was lost there as far as it is known. */
struct rb_wal_damage {
    char file[RB_WAL_NAME_MAX];    /* name in the log's directory */
    uint64_t offset, bytes;        /* 0 bytes: the file is missing, or short, from `offset` on */
    uint64_t first_batch, batches; /* sequence numbers of lost or incomplete batches; 0: unknown */
};

struct rb_wal_event {
    enum rb_wal_event_kind kind;
    enum rb_err err;
    struct rb_wal_write *write;
    struct rb_wal_read *read;
    const struct rb_wal_damage *damage; /* borrowed until the next poll */
};

struct rb_wal_group_info {
    uint64_t id;
    uint64_t base, base_term; /* the prefix that was dropped ends here; 0 at first */
    uint64_t last, last_term; /* base when the group holds no entries */
    uint32_t state_count;
    uint64_t lost_count; /* entries that were damaged; reading them gives RB_ERR_CORRUPT */
    bool damaged;        /* records of this group were lost: it has less than it acknowledged */
    bool in_doubt; /* damage was found, and no later record shows that this group lost nothing */
};

/** Where rb_wal_state_next stands. */
struct rb_wal_state_at {
    const void *at;
    uint8_t type;
    uint64_t key;
    uint32_t body_bytes; /* at most 7 more than it has */
};

struct rb_wal_stats {
    uint64_t batches, records, bytes; /* written since open, bytes with padding */
    uint64_t torn_batches;            /* cut from the tail when it was opened: never acknowledged */
    uint64_t damages;                 /* damaged places found since open */
    uint64_t recovered_records, scanned_bytes;
    uint64_t carried;           /* states written again so that their file could be reused */
    uint64_t recycled, created; /* files */
    uint64_t waiting;           /* writes without their event */
    uint64_t oldest_write_ns;   /* when the oldest write in flight was started; 0: none */
    uint64_t entry_count, state_bytes, index_bytes;
    uint32_t file_count, damaged_files;
    bool stopped, full;
};

struct rb_wal;
struct rb_wal_ops {
    const char *name;
    enum rb_err (*write)(struct rb_wal *log, struct rb_wal_write *write,
                         const struct rb_wal_record *record);
    enum rb_err (*read)(struct rb_wal *log, struct rb_wal_read *read);
    void (*flush)(struct rb_wal *log);
    void (*complete)(struct rb_wal *log, struct rb_disk_op *op);
    uint32_t (*poll)(struct rb_wal *log, struct rb_wal_event **ret_events);
    uint64_t (*due)(struct rb_wal *log);
    bool (*group)(struct rb_wal *log, uint64_t group, struct rb_wal_group_info *ret_info);
    bool (*group_next)(struct rb_wal *log, uint32_t *at, struct rb_wal_group_info *ret_info);
    enum rb_err (*term)(struct rb_wal *log, uint64_t group, uint64_t index, uint64_t *ret_term);
    bool (*state_next)(struct rb_wal *log, uint64_t group, struct rb_wal_state_at *at);
    uint32_t (*pinned_by)(struct rb_wal *log, uint64_t *ret_groups, uint32_t max);
    void (*stats)(struct rb_wal *log, struct rb_wal_stats *ret_stats);
    void (*damage_handled)(struct rb_wal *log);
    void (*close)(struct rb_wal *log);
    void (*destroy)(struct rb_wal *log);
};
/** Drivers embed this first in their own struct. */
struct rb_wal {
    const struct rb_wal_ops *ops;
};

/**
 * Queues an entry; RB_WAL_WRITTEN follows. It leaves with the next flush(). The body is copied.
 * Errors: RB_ERR_INVALID (`index` is not the group's last + 1, the body is too long), rules 4 and 5, RB_ERR_MEMORY.
 */
RB_MUST_CHECK static inline enum rb_err rb_wal_append(struct rb_wal *log,
                                                      struct rb_wal_write *write, uint64_t group,
                                                      uint64_t term, uint64_t index, uint8_t type,
                                                      struct rb_slice body)
{
    struct rb_wal_record record = { RB_WAL_ENTRY, type, group, term, index, body };
    return log->ops->write(log, write, &record);
}

/** The same for an entry that is written when there is no room for others any more. */
RB_MUST_CHECK static inline enum rb_err
rb_wal_append_urgent(struct rb_wal *log, struct rb_wal_write *write, uint64_t group, uint64_t term,
                     uint64_t index, uint8_t type, struct rb_slice body)
{
    struct rb_wal_record record = { RB_WAL_ENTRY, type, group, term, index, body, true };
    return log->ops->write(log, write, &record);
}

/** Replaces the group's state of this type and key. RB_ERR_LIMIT: the states of the log are too many bytes together. */
RB_MUST_CHECK static inline enum rb_err rb_wal_put_state(struct rb_wal *log,
                                                         struct rb_wal_write *write, uint64_t group,
                                                         uint8_t type, uint64_t key,
                                                         struct rb_slice body)
{
    struct rb_wal_record record = { RB_WAL_STATE, type, group, 0, key, body };
    return log->ops->write(log, write, &record);
}

/** RB_ERR_MISSING when there is none. */
RB_MUST_CHECK static inline enum rb_err rb_wal_remove_state(struct rb_wal *log,
                                                            struct rb_wal_write *write,
                                                            uint64_t group, uint8_t type,
                                                            uint64_t key)
{
    struct rb_wal_record record = { RB_WAL_STATE_REMOVE, type, group, 0, key, { 0 } };
    return log->ops->write(log, write, &record);
}

/** Entries from `from` on are gone; base < from <= last, else RB_ERR_INVALID. */
RB_MUST_CHECK static inline enum rb_err
rb_wal_truncate(struct rb_wal *log, struct rb_wal_write *write, uint64_t group, uint64_t from)
{
    struct rb_wal_record record = { RB_WAL_TRUNCATE, 0, group, 0, from, { 0 } };
    return log->ops->write(log, write, &record);
}

/**
 * Entries up to `through` are gone. Beyond the last one (a snapshot took their place): the group is empty and goes on at
 * `through` + 1. `through` > base, else RB_ERR_INVALID. `term`: that of `through`.
 */
RB_MUST_CHECK static inline enum rb_err rb_wal_drop_prefix(struct rb_wal *log,
                                                           struct rb_wal_write *write,
                                                           uint64_t group, uint64_t through,
                                                           uint64_t term)
{
    struct rb_wal_record record = { RB_WAL_PREFIX, 0, group, term, through, { 0 } };
    return log->ops->write(log, write, &record);
}

/** The group and its states are gone; the same id may begin anew. RB_ERR_MISSING when there is none. */
RB_MUST_CHECK static inline enum rb_err
rb_wal_drop_group(struct rb_wal *log, struct rb_wal_write *write, uint64_t group)
{
    struct rb_wal_record record = { RB_WAL_GROUP_DROP, 0, group, 0, 0, { 0 } };
    return log->ops->write(log, write, &record);
}

/**
 * Reads entries from `index` on, as many as lie in one span of read->len bytes of the log, at least one.
 * Errors: RB_ERR_MISSING (not an entry of the group), RB_ERR_CORRUPT (lost to damage), RB_ERR_BUSY (not durable yet),
 * RB_ERR_INVALID (read->len is too short for it: rb_wal_read_bytes), RB_ERR_FULL, RB_ERR_IO (its write failed).
 */
RB_MUST_CHECK static inline enum rb_err
rb_wal_read_entries(struct rb_wal *log, struct rb_wal_read *read, uint64_t group, uint64_t index)
{
    read->kind = RB_WAL_ENTRY;
    read->group = group;
    read->index = index;
    return log->ops->read(log, read);
}

/** Reads one state; errors as above. */
RB_MUST_CHECK static inline enum rb_err rb_wal_read_state(struct rb_wal *log,
                                                          struct rb_wal_read *read, uint64_t group,
                                                          uint8_t type, uint64_t key)
{
    read->kind = RB_WAL_STATE;
    read->group = group;
    read->type = type;
    read->index = key;
    return log->ops->read(log, read);
}

/** Memory that is surely enough to read a body of `body_bytes`. */
static inline uint32_t rb_wal_read_bytes(uint32_t body_bytes)
{
    return (body_bytes + 64 + 2 * RB_DISK_ALIGN) / RB_DISK_ALIGN * RB_DISK_ALIGN;
}

/** Starts the write of what was queued, when another one may be in flight. At the end of each turn. */
static inline void rb_wal_flush(struct rb_wal *log)
{
    log->ops->flush(log);
}

/** A completion of the disk whose op->owner is this log. */
static inline void rb_wal_complete(struct rb_wal *log, struct rb_disk_op *op)
{
    log->ops->complete(log, op);
}

/** At most RB_WAL_EVENTS_MAX events, borrowed until the next poll. Never waits; asks the clock for what is to be retried. */
static inline uint32_t rb_wal_poll(struct rb_wal *log, struct rb_wal_event **ret_events)
{
    return log->ops->poll(log, ret_events);
}

/** When poll() has something to do though nothing completed; UINT64_MAX: never. By the clock of the log's env. */
static inline uint64_t rb_wal_due(struct rb_wal *log)
{
    return log->ops->due(log);
}

/** False when the group does not exist: it has no entries, no base and no states. */
static inline bool rb_wal_group(struct rb_wal *log, uint64_t group,
                                struct rb_wal_group_info *ret_info)
{
    return log->ops->group(log, group, ret_info);
}

/** All groups, in no particular order: *at starts at 0. No write meanwhile. */
static inline bool rb_wal_group_next(struct rb_wal *log, uint32_t *at,
                                     struct rb_wal_group_info *ret_info)
{
    return log->ops->group_next(log, at, ret_info);
}

/** Of entries and of the base. RB_ERR_MISSING, RB_ERR_CORRUPT (lost). */
RB_MUST_CHECK static inline enum rb_err rb_wal_term(struct rb_wal *log, uint64_t group,
                                                    uint64_t index, uint64_t *ret_term)
{
    return log->ops->term(log, group, index, ret_term);
}

/** The states of a group: `at` starts zeroed. No write meanwhile. */
static inline bool rb_wal_state_next(struct rb_wal *log, uint64_t group, struct rb_wal_state_at *at)
{
    return log->ops->state_next(log, group, at);
}

/** The groups whose entries keep the oldest file from being reused, at most `max`; their number. */
static inline uint32_t rb_wal_pinned_by(struct rb_wal *log, uint64_t *ret_groups, uint32_t max)
{
    return log->ops->pinned_by(log, ret_groups, max);
}

static inline void rb_wal_stats(struct rb_wal *log, struct rb_wal_stats *ret_stats)
{
    log->ops->stats(log, ret_stats);
}

/**
 * The owner has made durable what it does about the damage it was told of (groups that are `damaged` or `in_doubt`). Until it
 * says so, damaged files stay in the log and every opening names them again; the log does not reuse what is older.
 */
static inline void rb_wal_damage_handled(struct rb_wal *log)
{
    log->ops->damage_handled(log);
}

/** Writes what is queued and a seal, then RB_WAL_CLOSED. No call but complete, poll and destroy is allowed meanwhile. */
static inline void rb_wal_close(struct rb_wal *log)
{
    log->ops->close(log);
}

/**
 * Frees the log, before its disk. No operation of its own is in flight there: after RB_WAL_CLOSED, or after the simulated
 * disk lost its power. Writes without their event stay without it.
 */
static inline void rb_wal_destroy(struct rb_wal *log)
{
    log->ops->destroy(log);
}
