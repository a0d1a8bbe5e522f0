/* wal_inside.h - what the files of the log share: wal.c (writes), wal_index.c (what is where), files.c (which file is used for
 * what), read.c, recover.c. Nothing outside storage/ includes it. */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "storage/format.h"
#include "storage/wal.h"

#define NAME_BYTES (RB_DISK_NAME_MAX + 1)
#define SLOT_NONE UINT16_MAX
#define SLOT_COUNT 1024u
#define SPARES_MAX 2u
#define FILES_KEPT                                                                                 \
    3u /* states are carried forward when more files than this are in use, or room is short */
#define FILES_BEYOND 8u /* more than files_max, for what is not an entry */
#define READS_MAX 256u

_Static_assert(RB_WAL_FILES_MAX + SPARES_MAX + FILES_BEYOND + 2 <= SLOT_COUNT,
               "a slot for every file");

/**
 * Where a record is: slot of its file (10 bits), offset in 8 bytes (29), room of the body in 8 bytes (25). 0: lost, since no
 * record stands at the beginning of a file.
 */
typedef uint64_t wal_place;

static inline wal_place wal_place_of(uint16_t slot, uint64_t offset, uint64_t body_bytes)
{
    return (uint64_t)slot << 54 | offset / 8 << 25 | wal_align8(body_bytes) / 8;
}

static inline uint16_t wal_place_slot(wal_place place)
{
    return (uint16_t)(place >> 54);
}

static inline uint64_t wal_place_offset(wal_place place)
{
    return (place >> 25 & ((1u << 29) - 1)) * 8;
}

static inline uint32_t wal_place_body(wal_place place)
{
    return (uint32_t)(place & ((1u << 25) - 1)) * 8;
}

/* A run of entries with one term, from `from` to the next run. */
struct wal_run {
    uint64_t from, term;
};

struct wal_group {
    uint64_t id;
    uint64_t base, base_term, last;
    wal_place *places; /* a ring of `cap`, the entry base + 1 at `head` */
    uint32_t cap, head;
    struct wal_run *runs;
    uint32_t run_count, run_cap;
    uint64_t known_base, known_term; /* while recovering: of the last prefix record */
    uint64_t lost_count;
    uint16_t chain; /* of the next record */
    bool damaged, in_doubt;
    bool entry_seen,
        guessed; /* while recovering; guessed: `base` is what the first entry found says */
    struct rb_list states;
    uint32_t state_count;
    wal_place prefix;       /* of the newest prefix record; 0: none */
    struct rb_list in_file; /* while `prefix` is not 0 */
};

struct wal_state {
    struct rb_list in_group, in_file;
    uint64_t group, key;
    wal_place place;
    wal_place
        carried_from; /* the same bytes, where they were before; 0: not since they were written */
    uint8_t type;
};

struct wal_file {
    uint64_t serial; /* 0: the slot is free */
    uint64_t size;
    struct rb_disk_file *file;
    uint64_t prev_serial, prev_end, first; /* as in its headers */
    uint32_t entry_count;                  /* that live; lost ones are in no file */
    uint32_t read_count;                   /* in flight */
    struct rb_list states, prefixes;
    bool damaged, handled,
        marked; /* handled: rb_wal_damage_handled was called since; marked: its name says so */
};

enum wal_batch_state { BATCH_FREE, BATCH_OPEN, BATCH_FLYING, BATCH_DONE };

struct wal_batch {
    enum wal_batch_state state;
    uint8_t *bytes;
    uint32_t used, record_count, flags;
    uint16_t slot;
    uint64_t offset, sequence, oldest, started_ns;
    struct rb_wal_write *first, *last; /* who waits for it */
    struct rb_disk_op op;
};

enum wal_phase { WAL_OPENING, WAL_OPEN, WAL_CLOSING, WAL_CLOSED, WAL_FAILED };

/* What op->tag says. */
enum wal_tag { TAG_BATCH, TAG_READ, TAG_FILES, TAG_RECOVER };

enum rb_wal_files_step {
    FILES_IDLE,
    FILES_RENAME_SPARE,
    FILES_CREATE,
    FILES_ALLOCATE,
    FILES_NAME_NEW,
    FILES_SYNC_NAME,
    FILES_DROP_FAILED,
    FILES_REMOVE,
    FILES_SET_ASIDE,
    FILES_SET_LOST_ASIDE,
    FILES_MARK_DAMAGED,
};

struct wal_recover; /* recover.c */

struct wal {
    struct rb_wal base;
    struct rb_wal_options options;
    enum wal_phase phase;
    bool stopped, close_wanted;

    /* wal_index.c */
    struct rb_map groups, states;
    struct rb_pool group_pool, state_pool;
    uint64_t index_bytes;

    /* files.c: slots in use, oldest first; the last one is written to (`current`). Spares and `next` are not among them. */
    struct wal_file files[SLOT_COUNT];
    uint16_t order[SLOT_COUNT];
    uint32_t order_count;
    uint16_t spares[SPARES_MAX + 1];
    uint32_t spare_count;
    uint16_t next; /* made ready, or being made; SLOT_NONE: not begun */
    bool next_ready;
    bool full, limited; /* the disk refused; files_max is reached */
    bool refused;       /* somebody waits for room */
    bool making_spare;
    uint64_t
        oldest_limit; /* the lowest serial of missing files that were not handled; UINT64_MAX: none */
    uint64_t lost
        [RB_WAL_DAMAGES_MAX]; /* files outside the chain that are named with each opening until handled */
    uint32_t lost_count;
    bool lost_handled;
    uint64_t retry_due_ns;
    uint64_t next_serial;
    enum rb_wal_files_step files_step;
    uint16_t files_slot; /* what files_op is about */
    struct rb_disk_op files_op;
    char files_from[NAME_BYTES], files_to[NAME_BYTES];
    uint32_t kept_damaged; /* files with the suffix .damaged or .aside */

    /* wal.c */
    struct wal_batch batches[RB_WAL_WRITES_MAX + 1];
    uint32_t batch_count;
    struct wal_batch *open;
    struct wal_batch *flying[RB_WAL_WRITES_MAX]; /* in log order, a ring */
    uint32_t flying_head, flying_count;
    uint64_t log_seed, epoch;
    uint64_t sequence;                      /* of the next batch */
    uint64_t released;                      /* last batch whose waiters were told */
    uint64_t released_serial, released_end; /* everything before this place is durable */
    uint64_t marked;                        /* the durable mark of the last batch that was sealed */
    uint64_t last_records;                  /* the last batch that holds records */
    uint64_t durable_oldest;                /* files before it may be reused */
    uint64_t write_offset;                  /* in the current file */
    bool
        tail_closed; /* the last file is one of an earlier epoch: nothing is written to it any more */
    uint64_t last_write_ns;
    uint32_t next_flags; /* of the next batch */
    struct rb_wal_write *done_first, *done_last;
    uint64_t waiting;

    /* read.c */
    struct rb_wal_read *read_first, *read_last; /* done */
    uint32_t read_count;                        /* in flight */
    struct rb_wal_read carry_read;              /* internal: a state on its way to a newer file */
    struct rb_wal_record carry_record;
    uint64_t carry_pause_ns; /* not before */
    bool carry_loaded;

    struct wal_recover *recover;

    struct rb_wal_damage damages[RB_WAL_DAMAGES_MAX], told_damages[RB_WAL_DAMAGES_MAX];
    uint32_t damage_count;
    bool tell_opened, tell_stopped, tell_room, tell_closed;
    enum rb_err opened_err, stopped_err;
    struct rb_wal_stats stats;
    struct rb_wal_event events[RB_WAL_EVENTS_MAX];
};

/* wal_index.c */
void rb_wal_index_init(struct wal *w);
void rb_wal_index_deinit(struct wal *w);
struct wal_group *rb_wal_group_find(struct wal *w, uint64_t id);
struct wal_state *rb_wal_state_find(struct wal *w, uint64_t group, uint8_t type, uint64_t key);
/** Takes the memory that rb_wal_index_apply of this record may need. */
RB_MUST_CHECK enum rb_err rb_wal_index_reserve(struct wal *w, const struct rb_wal_record *record);
/** What a record that stands at `place` changes. Reserved before; for ENTRY index = last + 1. */
void rb_wal_index_apply(struct wal *w, const struct rb_wal_record *record, wal_place place);
/** Entries up to `last` - 1 are lost: the next one will be `index`. RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_wal_index_skip(struct wal *w, struct wal_group *group, uint64_t index);
void rb_wal_index_truncate(struct wal *w, struct wal_group *group, uint64_t from);
wal_place rb_wal_index_place(const struct wal_group *group, uint64_t index);
uint64_t rb_wal_index_term(const struct wal_group *group, uint64_t index);
/** Counts the record for its group and gives the number it carries. */
/** The record of this entry failed its check. */
void rb_wal_index_lose_entry(struct wal *w, struct wal_group *group, uint64_t index);
void rb_wal_index_lose_state(struct wal *w, struct wal_state *state);
uint16_t rb_wal_index_chain(struct wal *w, const struct rb_wal_record *record);

/* files.c */
void rb_wal_file_init(struct wal *w, uint16_t slot, uint64_t serial, uint64_t size,
                      struct rb_disk_file *file);
uint16_t rb_wal_slot_take(struct wal *w);
void rb_wal_slot_give(struct wal *w, uint16_t slot);
struct wal_file *rb_wal_current(struct wal *w); /* NULL: none */
uint64_t rb_wal_oldest_serial(const struct wal *w);
void rb_wal_forget_damage(struct wal *w);
/** Makes `next` the file that is written to. It is ready. */
void rb_wal_rotate(struct wal *w);
/** Starts what is to be done about files; called by every poll. */
void rb_wal_files_step(struct wal *w, uint64_t now_ns);
void rb_wal_files_complete(struct wal *w);
void rb_wal_files_close(struct wal *w);
/** With the directory, and without. */
void rb_wal_name(const struct wal *w, char out[NAME_BYTES], uint64_t serial, const char *suffix);
void rb_wal_base_name(char out[RB_WAL_NAME_MAX], uint64_t serial, const char *suffix);

/* read.c */
enum rb_err rb_wal_read(struct rb_wal *log, struct rb_wal_read *read);
void rb_wal_read_complete(struct wal *w, struct rb_disk_op *op);
/** Starts to carry the states of the oldest file forward, when it is worth it. */
void rb_wal_carry_step(struct wal *w);

/* wal.c */
void rb_wal_stop(struct wal *w, enum rb_err err);
void rb_wal_damage(struct wal *w, const struct rb_wal_damage *damage);
uint64_t rb_wal_now(struct wal *w);
enum rb_err rb_wal_put(struct wal *w, struct rb_wal_write *write,
                       const struct rb_wal_record *record);
/** recover.c has read everything: the log may be written to. */
void rb_wal_opened(struct wal *w, enum rb_err err);
/** Writes a batch that says that everything before it is durable. False: not now. */
bool rb_wal_submit_mark(struct wal *w, uint32_t flags);

/* recover.c */
enum rb_err rb_wal_recover_start(struct wal *w);
void rb_wal_recover_step(struct wal *w); /* after a completion */
void rb_wal_recover_free(struct wal *w);
