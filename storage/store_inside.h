/* store_inside.h - what the files of message stores share: msgstore.c (calls), store_home.c (queues, events), store_place.c
 * (segments and blocks in memory), store_io.c (writes behind, loads, files), store_open.c, store_checkpoint.c,
 * store_recover.c, compact.c, store_end.c. Nothing outside storage/ includes it.
 *
 *   store -> segments, by sequence -> blocks, by offset -> records          home: all blocks in memory, all open files
 *
 * 1. A segment holds the messages from its first_seq to that of the next one. Its file is written once, but for erased
 *    records: pages of 4 KiB are never shared between what a checkpoint refers to and what comes later.
 * 2. A record lies in one block. A block is at most 256 KiB, or one record. Blocks of memory stores are segments of their own.
 * 3. Memory that slices may point to is freed in the next poll, not before.
 * 4. A segment that is not part of the store any more is `dead`; its file goes when no checkpoint on disk refers to it.
 */
#pragma once

#include <stdio.h>

#include "base/list.h"
#include "ringbus/check.h"
#include "storage/checkpoint.h"
#include "storage/index.h"
#include "storage/segment.h"

#define STORE_NAME_BYTES (RB_DISK_NAME_MAX + 1)
#define STORE_FILE_BYTES                                                                           \
    32u /* longest name in a store's directory, beside ".damaged" of other makes */
#define STORE_BLOCK_BYTES (256u << 10)
#define STORE_WINDOW_BYTES (32u << 10) /* read for one message */
#define STORE_FILES_MAX 256u           /* open at once, all stores of a home */
#define STORE_SPARE_MAX 32u            /* blocks kept for reuse */
#define STORE_WRITES_MAX 32u           /* in flight */
#define STORE_LOADS_MAX 64u
#define STORE_READ_TRIES 4u
#define STORE_OPEN_TRIES 8u /* of what all depends on */
#define STORE_RETRY_NS UINT64_C(100000000)
#define STORE_DAMAGES_MAX 1024u     /* waiting for their events */
#define STORE_WORK_BYTES (1u << 20) /* moved by compaction in a turn, all stores */
#define STORE_PIECE_BYTES (1u << 20)
#define STORE_PIECES 8u

enum store_op_tag { STORE_OP_BLOCK = 1, STORE_OP_SEGMENT, STORE_OP_STORE, STORE_OP_PIECE };

/*  LOAD_QUEUED -> LOADING -> CLEAN <-> OPEN -> WRITE_QUEUED -> WRITING -> CLEAN (or OPEN, while it takes more)  */
enum store_block_state {
    BLOCK_OPEN, /* has bytes that nobody asked to write yet; in no list */
    BLOCK_WRITE_QUEUED,
    BLOCK_WRITING,
    BLOCK_CLEAN, /* may be dropped */
    BLOCK_LOAD_QUEUED,
    BLOCK_LOADING,
};

/** A part of a segment in memory. All offsets but `start` are relative to it. */
struct store_block {
    struct rb_list link; /* of the home: writes, loads, clean, dying */
    struct store_segment *segment;
    enum store_block_state state;
    uint32_t number, start;  /* in its segment */
    uint32_t begin;          /* bytes[0]: 0, but for a window that was read for one message */
    uint32_t cap, used;      /* of bytes */
    uint32_t written;        /* on disk up to here; a multiple of RB_DISK_ALIGN */
    uint32_t wanted;         /* to be written up to here */
    uint32_t mark;           /* a checkpoint waits until it is written up to here; 0: none does */
    uint32_t redo, redo_end; /* written already, and changed since; redo_end 0: nothing */
    uint32_t flight_end;
    uint32_t tries;
    uint64_t loaded_turn;
    bool closed;  /* takes no more */
    bool touched; /* since the clock came by */
    bool needed;  /* by the store itself, once it is there */
    bool failed;  /* could not be read */
    bool whole;   /* all of the block was to be read */
    bool unread;  /* nobody asked for a message of it since it was loaded */
    bool redoing; /* the write in flight is that of `redo` */
    uint8_t *bytes;
    uint64_t *
        checked; /* a bit for 8 bytes: the record that begins there was verified; NULL: all are good */
    struct rb_msgstore_wait *waits;
    struct rb_disk_op op;
};

enum store_segment_busy { SEGMENT_IDLE, SEGMENT_OPENING, SEGMENT_SYNCING, SEGMENT_REMOVING };

struct store_segment {
    struct rb_msgstore *store;
    struct rb_list link;      /* of the home: open files, longest unused first */
    struct rb_list candidate; /* of the store: worth compacting */
    struct rb_list dead_link; /* of the store */
    struct rb_list unsynced;  /* of the store */
    struct rb_list erasing;   /* of the store */
    uint64_t serial, first_seq;
    uint32_t bytes; /* up to the end of its last block */
    uint32_t live_bytes, live_count;
    uint32_t behind_bytes; /* of its blocks, not on disk yet */
    uint32_t block_count, block_cap;
    uint32_t *starts;
    struct store_block **blocks; /* NULL: not in memory */
    struct store_block *tail;    /* takes more records; NULL: a new block has to be begun */
    bool sealed;                 /* no new messages */
    bool fresh;                  /* its file holds nothing behind `bytes` */
    bool dead, missing;
    bool condemned;    /* a sync failed: its messages are moved elsewhere */
    bool created;      /* there is a file */
    bool shy;          /* a read failed: only what is asked for is read */
    uint32_t tries;    /* to open it */
    uint64_t referred; /* newest checkpoint that refers to it; 0: none */
    uint64_t file_bytes;
    uint32_t *erases; /* offsets of records whose bytes are to be overwritten */
    uint32_t erase_count, erase_cap;
    struct rb_disk_file *file;
    enum store_segment_busy busy;
    uint32_t op_count; /* of its blocks and its own */
    char name[STORE_NAME_BYTES];
    struct rb_disk_op op;
};

/** One of the two checkpoint files. */
struct store_slot {
    uint64_t generation; /* 0: holds none that is good */
    uint64_t index;
    uint64_t freeze; /* number of the index' freeze that its pages are from; 0: write all of them */
    uint64_t file_bytes;
    bool doubtful; /* the write of its header failed: it may be there */
    struct checkpoint_page *pages;
    uint32_t page_count, page_cap;
};

struct store_piece { /* of a read or write of pages */
    struct rb_disk_op op;
    struct rb_msgstore *store;
    uint8_t *bytes;
    uint32_t first, count; /* pages */
    uint32_t tries;        /* that failed */
};

/*  OPENING -> READY (or FAILED: only close is left) -> CLOSING -> CLOSED  */
enum store_state { STORE_OPENING, STORE_READY, STORE_FAILED, STORE_CLOSING, STORE_CLOSED };
enum store_told { TELL_OPENED = 1, TELL_CHECKPOINTED = 2, TELL_CLOSED = 4 };

struct store_opening;
struct store_writing;

struct rb_msgstore {
    struct rb_msgstore_home *home;
    struct rb_list link, busy_link, told_link, partial_link; /* of the home */
    void *owner;
    void (*removed)(void *owner, uint64_t seq, uint64_t bytes, struct rb_slice subject);
    bool subjects, memory;
    enum store_state state;
    enum rb_err opened_err;
    uint32_t told;
    struct rb_index *index;
    uint64_t last_seq;

    struct store_segment **segments; /* by first_seq */
    uint32_t segment_count, segment_cap;
    struct store_segment *open;   /* takes the next message */
    struct store_segment *target; /* takes what compaction moves; these two alone have a tail */
    struct store_segment *memo; /* the segment that was looked for last: memo_from .. memo_to - 1 */
    uint64_t memo_from, memo_to;
    uint64_t live_bytes, appended; /* live now; appended since it was opened */
    uint64_t behind_bytes;         /* of all its segments */
    struct rb_list dead, unsynced, candidates, erasing;
    struct store_segment *moving; /* compaction empties it */
    uint32_t target_bytes;        /* for the next target of a memory store */
    uint64_t *damaged;            /* sequences that read as RB_ERR_CORRUPT, ascending */
    uint32_t damaged_count, damaged_cap;

    uint64_t seed, next_serial, generation; /* generation: highest ever used */
    struct store_slot slots[2];
    int newest; /* slot; -1: none */
    bool
        founded; /* files of segments may be written: a checkpoint is there, or segments were found without one */
    bool names_changed, parent_changed; /* since the directory was synced */
    uint64_t restored_index, before_index, last_index;
    uint8_t *blob;
    uint32_t blob_bytes;
    uint64_t changes;  /* since the newest checkpoint */
    uint64_t retry_ns; /* what failed is tried again then */
    struct store_opening *opening;
    struct store_writing *writing, *founding;
    uint32_t condemned_count;
    uint64_t reported_index;
    enum rb_err reported_err;
    uint32_t erase_count,
        redo_count; /* records to overwrite; blocks to write again because of it */

    bool destroying, ending; /* ending: `op` is that of the end */
    uint32_t end_step;
    char *names; /* what is in its directory, while it is destroyed */
    uint32_t names_bytes, names_cap, names_at;
    uint32_t op_count; /* in flight, all of them */
    struct rb_disk_op op;
    char directory[STORE_NAME_BYTES], parent[STORE_NAME_BYTES], name[STORE_NAME_BYTES],
        name_to[STORE_NAME_BYTES];
};

struct store_damage {
    struct rb_list link;
    struct rb_msgstore *store;
    char text[320];
};

struct rb_msgstore_home {
    struct rb_msgstore_home_options options;
    struct rb_disk *disk;
    struct rb_env *env;
    struct rb_budget *budget;
    struct rb_list stores, busy, told, partial;
    struct rb_list writes, loads, clean, dying, files;
    struct rb_list damages, damages_given;
    uint32_t damage_count;
    uint32_t file_count, write_count, load_count;
    uint64_t turn;
    uint32_t work_bytes; /* that compaction may still move in this turn */
    uint64_t clean_bytes, behind_bytes, disk_bytes;
    uint64_t load_total, write_total, write_errors, checkpoints;
    bool disk_full;
    bool ending;       /* the simulated disk may have lost its power: its files are closed */
    uint64_t retry_ns; /* writes wait until then; 0: they do not */
    uint8_t *spare[STORE_SPARE_MAX];
    uint32_t spare_count;
    struct rb_msgstore_wait *ready, **ready_end;
    uint8_t subject[RB_MSGSTORE_SUBJECT_MAX]; /* of a message that goes */
    struct rb_msgstore_event events[RB_MSGSTORE_EVENTS_MAX];
};

/* ---- store_home.c ---- */

/** The store has something to do in the next poll. */
void rb_store_wake(struct rb_msgstore *store);
void rb_store_tell(struct rb_msgstore *store, enum store_told what);
/** Names damage: file (in the store's directory; NULL: none) and what is wrong there. */
__attribute__((format(printf, 3, 4))) void
rb_store_damage(struct rb_msgstore *store, const char *file, const char *format, ...);
/** Everybody who waits for this block may ask again. */
void rb_store_end_waits(struct store_block *block);
/** Prepares an operation whose completion comes back as `tag`. */
void rb_store_own(struct rb_msgstore_home *home, struct rb_disk_op *op, enum store_op_tag tag);
/** More (or, negative, fewer) bytes of this segment are not on disk. */
void rb_store_behind(struct store_segment *segment, int64_t more);
/** Name of a segment's file in its directory. */
static inline void rb_store_serial_name(char out[STORE_FILE_BYTES], uint64_t serial)
{
    snprintf(out, STORE_FILE_BYTES, "%016llx.seg", (unsigned long long)serial);
}
/** out[STORE_NAME_BYTES] = directory/file */
void rb_store_file_name(const struct rb_msgstore *store, char *out, const char *file);
/** Writes are held back for a while. */
void rb_store_hold_writes(struct rb_msgstore_home *home, enum rb_err err);

/* ---- store_place.c ---- */

/** The segment that holds `seq`, when any does. */
struct store_segment *rb_store_segment_of(struct rb_msgstore *store, uint64_t seq);
/** The number of the block that holds this offset; there is one. */
uint32_t rb_store_block_of(const struct store_segment *segment, uint32_t offset);
/** A segment for messages from first_seq on; not in the store's table yet. */
RB_MUST_CHECK enum rb_err rb_store_segment_create(struct rb_msgstore *store, uint64_t serial,
                                                  uint64_t first_seq,
                                                  struct store_segment **ret_segment);
/** Room in the table for one more. */
RB_MUST_CHECK enum rb_err rb_store_segment_reserve(struct rb_msgstore *store);
/** Puts it before segments[at]. */
RB_MUST_CHECK enum rb_err rb_store_segment_insert(struct rb_msgstore *store, uint32_t at,
                                                  struct store_segment *segment);
uint32_t rb_store_segment_number(const struct rb_msgstore *store,
                                 const struct store_segment *segment);
/** Takes it out of the table; its file follows in time. */
void rb_store_segment_die(struct store_segment *segment);
/** Frees it and its blocks; no operation is in flight. */
void rb_store_segment_free(struct store_segment *segment);
/** Room for another block at the end, of `cap` bytes. */
RB_MUST_CHECK enum rb_err rb_store_block_begin(struct store_segment *segment, uint32_t cap,
                                               struct store_block **ret_block);
/** Memory for a part of block `number`; in no list. NULL: refused. */
struct store_block *rb_store_block_take(struct store_segment *segment, uint32_t number,
                                        uint32_t begin, uint32_t cap);
/** Gives up a block without an operation in flight. */
void rb_store_block_drop(struct store_block *block);
void rb_store_block_free(struct rb_msgstore_home *home, struct store_block *block);
/** The block takes no more: what it has goes to the disk. */
void rb_store_block_close(struct store_block *block);
/** All that the segment has goes to the disk; whatever comes next begins at a new page. */
void rb_store_segment_flush(struct store_segment *segment);
/** Writes `message` to the end of `segment`, whose tail has room. Returns its offset. The index is the caller's. */
uint32_t rb_store_put(struct store_segment *segment, const struct rb_message *message,
                      uint32_t flags);
/** After rb_store_put, when it is to stay: what it counts. */
void rb_store_put_done(struct store_segment *segment, uint32_t offset, uint32_t bytes,
                       uint32_t cost);
/** What a message that counts `bytes` is reckoned to take in its segment. */
static inline uint32_t rb_store_cost(const struct rb_msgstore *store, uint64_t bytes)
{
    return (uint32_t)((bytes + (store->memory ? 24 : 10) + 7) / 8 * 8);
}
/** A message of this segment is gone. */
void rb_store_segment_less(struct store_segment *segment, uint32_t cost);
/** Room in the open segment for a record; begins segments and blocks as needed. */
RB_MUST_CHECK enum rb_err rb_store_room(struct rb_msgstore *store, uint64_t seq, uint32_t bytes);
/** The same in a segment that compaction fills. RB_ERR_FULL: it has no room for this. */
RB_MUST_CHECK enum rb_err rb_store_room_in(struct store_segment *segment, uint32_t bytes);

/* ---- store_io.c ---- */

void rb_store_block_changed(struct store_block *block); /* wanted, redo: has it to be written? */
void rb_store_pump(struct rb_msgstore_home *home);
void rb_store_evict(struct rb_msgstore_home *home);
void rb_store_block_completed(struct rb_msgstore_home *home, struct store_block *block);
void rb_store_segment_completed(struct rb_msgstore_home *home, struct store_segment *segment);
/** The file, or NULL: it is being opened, or has to wait. */
struct rb_disk_file *rb_store_file(struct store_segment *segment);
void rb_store_file_close(struct store_segment *segment);
/** Reads the part of a block that has `offset`, with `bytes` from there on (roughly); NULL: no memory now. */
struct store_block *rb_store_load(struct store_segment *segment, uint32_t number, uint32_t offset,
                                  uint32_t bytes, bool whole);
/** Reads the next block as well, when the one before was read: somebody reads in order. */
void rb_store_read_ahead(struct store_block *block);
/** The whole block in memory and on no way to the disk; NULL: not yet (the store is woken). *ret_err: it cannot be read. */
struct store_block *rb_store_need(struct store_segment *segment, uint32_t number,
                                  enum rb_err *ret_err);
/** The record at `offset` of a block in memory, verified. RB_ERR_CORRUPT. */
RB_MUST_CHECK enum rb_err rb_store_record(struct store_block *block, uint32_t offset, uint64_t seq,
                                          struct store_record *ret_record);
/** Remembers that a message cannot be read, and says so. */
void rb_store_mark_damaged(struct rb_msgstore *store, uint64_t seq, const char *file,
                           uint32_t offset, const char *why);
bool rb_store_is_damaged(const struct rb_msgstore *store, uint64_t seq);

/* ---- steps of a store; true: again in the next poll ---- */

bool rb_store_open_step(struct rb_msgstore *store);
void rb_store_open_done(struct rb_msgstore *store, struct rb_disk_op *op);
void rb_store_open_piece(struct rb_msgstore *store, struct store_piece *piece);
void rb_store_opening_free(struct rb_msgstore *store);
/** Begins the opening of a file store. */
RB_MUST_CHECK enum rb_err rb_store_open_begin(struct rb_msgstore *store);
bool rb_store_recover_step(struct rb_msgstore *store);
bool rb_store_checkpoint_step(struct rb_msgstore *store);
void rb_store_checkpoint_done(struct rb_msgstore *store, struct rb_disk_op *op);
void rb_store_checkpoint_piece(struct rb_msgstore *store, struct store_piece *piece);
void rb_store_checkpoint_block(struct rb_msgstore *store); /* a marked block is written, or gone */
void rb_store_checkpoint_synced(struct rb_msgstore *store, struct store_segment *segment,
                                enum rb_err err);
/** The first checkpoint of a store, of nothing: before it has segments. */
void rb_store_found(struct rb_msgstore *store);
void rb_store_writing_free(struct rb_msgstore *store);
bool rb_store_compact_step(struct rb_msgstore *store);
void rb_store_compact_consider(struct store_segment *segment);
/** Looks for a run of small files at the end of the table, to make one of them. */
void rb_store_compact_small(struct rb_msgstore *store);
void rb_store_erase(struct store_segment *segment, uint32_t offset);
bool rb_store_erase_step(struct rb_msgstore *store);
bool rb_store_dead_step(struct rb_msgstore *store);
bool rb_store_end_step(struct rb_msgstore *store);
void rb_store_end_done(struct rb_msgstore *store, struct rb_disk_op *op);
/** Frees everything of a store; nothing is in flight. */
void rb_store_free(struct rb_msgstore *store);
