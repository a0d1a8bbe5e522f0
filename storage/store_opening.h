/* store_opening.h - what store_open.c and store_recover.c share: a store on its way to READY. */
#pragma once

#include "storage/store_inside.h"

enum opening_step {
    OPEN_MAKE,
    OPEN_LIST,
    OPEN_SLOT, /* these three for each of the two */
    OPEN_HEADER,
    OPEN_TABLE,
    OPEN_CHOOSE,
    OPEN_PAGES,
    OPEN_COPY, /* the second copy of the header, when it is not there */
    OPEN_SYNC,
    OPEN_RECOVER,
    OPEN_ASIDE, /* what is in doubt gets another name */
    OPEN_ASIDE_SYNC,
    OPEN_LAST, /* is there anything behind the end of the last file? */
    OPEN_DONE,
};

struct slot_view {
    bool there, valid; /* there is a file; header and table are good */
    bool damaged;
    bool unsynced; /* its header may not be on stable storage: the second copy is not there */
    const char *why;
    struct rb_disk_file *file;
    uint64_t size;
    struct checkpoint_header header;
    uint8_t *table;
    size_t table_cap;
};

struct scan_file {
    uint64_t serial, first_seq;
    uint32_t limit; /* bytes that count; UINT32_MAX: all */
    uint64_t below; /* only sequences below this */
    bool headed;    /* its header is good */
};

enum recovery_pass { RECOVER_HEADERS, RECOVER_FIRSTS, RECOVER_ALL };

struct store_recovery {
    enum recovery_pass pass;
    struct scan_file *files;
    uint32_t count, at;
    int bounded;   /* by the table of this slot, whose pages are bad; -1: by nothing */
    uint64_t seed; /* of the store; known: some header says it */
    bool known;
    uint32_t tries, damaged_files;
    struct rb_disk_file *file;
    uint64_t size, read;
    uint8_t *bytes;
    size_t cap;
};

struct store_opening {
    enum opening_step step;
    bool started;
    enum rb_err err;
    uint32_t tries;
    char *names;
    uint32_t names_bytes, names_cap;
    uint64_t *serials; /* of the files of segments that are there, ascending */
    uint8_t *used;
    uint32_t serial_count;
    int slot, chosen;
    bool doubt; /* damage was found: nothing is removed */
    struct slot_view views[2];
    uint8_t *block;
    uint64_t table_at;
    struct rb_index *index;
    struct checkpoint_page *pages;
    uint32_t page, in_flight;
    bool bad_pages;
    struct store_piece pieces[STORE_PIECES];
    uint32_t aside; /* next in `serials`, after the two slots */
    struct store_recovery recovery;
};

extern const char *const rb_store_slot_names[2];

void *rb_store_take_aligned(struct rb_msgstore_home *home, size_t bytes);
void rb_store_give_aligned(struct rb_msgstore_home *home, void *ptr, size_t bytes);
/** Index of this file among those that are there; UINT32_MAX: it is not. */
uint32_t rb_store_serial_place(const struct store_opening *o, uint64_t serial);
/** Fills the table of segments from that of a checkpoint. */
RB_MUST_CHECK enum rb_err rb_store_read_segments(struct rb_msgstore *store,
                                                 const struct slot_view *view);
/** The serials of segments that the list has, and whether it has the slots. */
RB_MUST_CHECK enum rb_err rb_store_read_names(struct rb_msgstore *store);
void rb_store_drop_segments(struct rb_msgstore *store);
/** What the other checkpoint refers to is kept until it is no checkpoint any more. */
RB_MUST_CHECK enum rb_err rb_store_keep_others(struct rb_msgstore *store,
                                               const struct slot_view *view);
/** Starts to rename the next file in doubt. RB_ERR_MISSING: there is none. */
RB_MUST_CHECK enum rb_err rb_store_next_aside(struct rb_msgstore *store);
/** Starts reads of pages; true: some could not be started, or memory is short (opening->err). */
bool rb_store_read_pages(struct rb_msgstore *store);
/** Log index and blob of a checkpoint. */
RB_MUST_CHECK enum rb_err rb_store_take_blob(struct rb_msgstore *store,
                                             const struct slot_view *view);
void rb_store_recover_begin(struct rb_msgstore *store, int bounded_by);
void rb_store_recover_done(struct rb_msgstore *store, struct rb_disk_op *op);
void rb_store_recovery_free(struct rb_msgstore *store);
