/* recover_inside.h - what recover.c (steps), recover_find.c (files) and recover_scan.c (batches) share. */
#pragma once

#include "storage/wal_inside.h"

#define RECENT_COUNT (2 * RB_WAL_WRITES_MAX) /* more than can be in flight */

enum recover_step {
    MAKE_DIRECTORY,
    SYNC_PARENT,
    LIST,
    OPEN,
    PROBE,
    SCAN,
    SYNC,
    NAMES,
    SYNC_NAMES,
    NEW_FILE,
    CLEAR_TAIL,
    FIRST_BATCH,
    DONE,
};

enum found_use {
    FOUND_UNKNOWN,
    FOUND_CHAIN,
    FOUND_DESTROYED,
    FOUND_FOREIGN,
    FOUND_LOST,
    FOUND_FREE
};

struct found {
    uint64_t serial, size, true_size; /* size: whole blocks of it */
    struct rb_disk_file *file;
    bool marked;     /* its name ends in .damaged */
    bool has_header; /* `header` is one of its batches' */
    bool damaged;
    enum found_use use;
    uint64_t
        missing_before; /* serial of its predecessor that is not there; 0: it is, or there is none */
    uint64_t end;       /* where its batches end, by its successor */
    uint64_t sequence_max;                        /* of its batches, by its successor */
    uint64_t last_sequence, record_count, oldest; /* of its accepted batches */
    struct wal_batch_header header;
    uint16_t slot;
};

struct wal_recover {
    struct rb_disk_op op;
    enum recover_step step;
    bool started; /* the operation of this step was started */
    char *names;
    uint64_t names_bytes, names_at;
    char name[NAME_BYTES], name_to[NAME_BYTES];
    struct found found[SLOT_COUNT];
    uint32_t count, at;

    /* the window: bytes of one file */
    uint8_t *window;
    uint32_t window_cap, window_len, window_filled;
    uint64_t window_offset;
    struct found *window_file;
    bool narrow, unreadable; /* reading block by block after a failure; a block could not be read */

    uint32_t newest;                  /* in found; SLOT_COUNT: none */
    uint64_t durable, highest, epoch; /* the highest of its marks (invariant 2) */
    uint64_t oldest;                  /* of its batches that were surely durable */
    uint64_t recent_sequence[RECENT_COUNT], recent_oldest[RECENT_COUNT]; /* of its last batches */
    uint32_t recent_at;
    uint32_t chain[SLOT_COUNT];
    uint32_t chain_count;

    uint32_t chain_at;
    uint64_t offset, expect;
    bool in_gap;
    uint32_t gap_chain;
    uint64_t gap_from;
    bool closing; /* the gap ends before `behind_gap`, at the present position */
    struct wal_batch_header behind_gap;
    bool cut;
};

static inline struct found *chain_file(struct wal_recover *r, uint32_t at)
{
    return &r->found[r->chain[at]];
}

/** The log does not open. */
void rb_recover_fail(struct wal *w, enum rb_err err);

/* recover_find.c */
/** The bytes [offset, offset + len) of the file when they are there; NULL: a read was started, or the log has failed. */
uint8_t *rb_recover_need(struct wal *w, struct found *f, uint64_t offset, uint32_t len);
/** After the read that rb_recover_need started. */
void rb_recover_window_read(struct wal *w);
enum rb_err rb_recover_header_at(const struct found *f, const uint8_t *bytes, uint64_t offset,
                                 struct wal_batch_header *ret_header);
/** True: every file has been looked at. */
bool rb_recover_probe(struct wal *w);
struct found *rb_recover_find_serial(struct wal_recover *r, uint64_t serial);
void rb_recover_build_chain(struct wal_recover *r);
enum rb_err rb_recover_take_slots(struct wal *w);

/* recover_scan.c */
void rb_recover_name_damage(struct wal *w, struct found *f, uint64_t from, uint64_t end,
                            uint64_t first_batch, uint64_t batches);
/** True: every file was read, or the log was cut. */
bool rb_recover_scan(struct wal *w);
