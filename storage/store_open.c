/* store_open.c - finds a store again: the newest checkpoint that holds, its index, its segments.
 *
 *   directory -> list -> header and table of each slot -> pages of the newest -> (damage: the other; then a scan) -> names
 *
 * 1. A slot without a single good header, and with something where the second copy is, is damaged. Without a second copy its
 *    first checkpoint was never finished.
 * 2. The slot that is not the newest was perhaps being overwritten. Only when the newest is bad does it matter whether it holds.
 * 3. The header of the newest may only be in a cache, and its second copy missing, when the process was killed before it was
 *    reported. Both are made durable before the store opens: the other slot is overwritten next.
 * 4. Damaged slots get another name, durably, before anything is written. Files that no checkpoint knows are removed; when
 *    damage was found they are renamed instead.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/store_opening.h"

#define NAMES_BYTES (16u << 10)
#define NAMES_BYTES_MAX (64u << 20)
#define BLOCK_BYTES (2 * CHECKPOINT_COPY_BYTES)
#define TABLE_READ_BYTES (8u << 20)

static size_t pad(size_t bytes)
{
    return (bytes + RB_DISK_ALIGN - 1) / RB_DISK_ALIGN * RB_DISK_ALIGN;
}

void *rb_store_take_aligned(struct rb_msgstore_home *home, size_t bytes)
{
    void *ptr = NULL;
    if (!rb_budget_take(home->budget, bytes)) {
        return NULL;
    }
    if (posix_memalign(&ptr, RB_DISK_ALIGN, bytes) != 0) {
        rb_budget_give(home->budget, bytes);
        return NULL;
    }
    return memset(ptr, 0, bytes);
}

void rb_store_give_aligned(struct rb_msgstore_home *home, void *ptr, size_t bytes)
{
    if (ptr != NULL) {
        rb_budget_give(home->budget, bytes);
        free(ptr);
    }
}

enum rb_err rb_store_open_begin(struct rb_msgstore *store)
{
    struct rb_msgstore_home *home = store->home;
    struct store_opening *o = rb_alloc(home->budget, sizeof(*o));
    if (o == NULL) {
        return RB_ERR_MEMORY;
    }
    store->opening = o;
    o->chosen = -1;
    for (uint32_t i = 0; i < STORE_PIECES; i++) {
        o->pieces[i].store = store;
        rb_store_own(home, &o->pieces[i].op, STORE_OP_PIECE);
    }
    o->block = rb_store_take_aligned(home, BLOCK_BYTES);
    return o->block == NULL ? RB_ERR_MEMORY : RB_OK;
}

static void close_views(struct rb_msgstore *store)
{
    for (int i = 0; i < 2; i++) {
        struct slot_view *view = &store->opening->views[i];
        if (view->file != NULL) {
            rb_disk_close(store->home->disk, view->file);
            view->file = NULL;
        }
    }
    struct store_recovery *r = &store->opening->recovery;
    if (r->file != NULL) {
        rb_disk_close(store->home->disk, r->file);
        r->file = NULL;
    }
}

static void free_pieces(struct rb_msgstore *store)
{
    for (uint32_t i = 0; i < STORE_PIECES; i++) {
        struct store_piece *piece = &store->opening->pieces[i];
        rb_store_give_aligned(store->home, piece->bytes, STORE_PIECE_BYTES);
        piece->bytes = NULL;
    }
}

static void free_pages(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    if (o->pages != NULL) {
        rb_free(store->home->budget, o->pages,
                o->views[o->chosen].header.page_count * sizeof(*o->pages));
        o->pages = NULL;
    }
    if (o->index != NULL) {
        rb_index_destroy(o->index);
        o->index = NULL;
    }
}

void rb_store_opening_free(struct rb_msgstore *store)
{
    struct rb_msgstore_home *home = store->home;
    struct store_opening *o = store->opening;
    if (o == NULL) {
        return;
    }
    if (store->state == STORE_CLOSING &&
        !home->ending) { /* else they are closed already, or the disk lost its power */
        close_views(store);
    }
    free_pieces(store);
    free_pages(store);
    rb_store_recovery_free(store);
    for (int i = 0; i < 2; i++) {
        rb_store_give_aligned(home, o->views[i].table, o->views[i].table_cap);
    }
    rb_store_give_aligned(home, o->block, BLOCK_BYTES);
    rb_free(home->budget, o->names, o->names_cap);
    rb_free(home->budget, o->serials, o->serial_count * sizeof(*o->serials));
    rb_free(home->budget, o->used, o->serial_count);
    rb_free(home->budget, o, sizeof(*o));
    store->opening = NULL;
}

/* ---- headers and tables ---- */

static bool all_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static void spoil(struct slot_view *view, const char *why)
{
    view->valid = false;
    view->damaged = true;
    view->why = why;
}

/* Invariant 1. RB_ERR_UNSUPPORTED: hands off. */
static enum rb_err judge_header(struct store_opening *o, struct slot_view *view)
{
    struct checkpoint_header first, second;
    enum rb_err a = rb_checkpoint_decode(rb_slice_of(o->block, CHECKPOINT_COPY_BYTES), &first);
    enum rb_err b = rb_checkpoint_decode(
        rb_slice_of(o->block + CHECKPOINT_COPY_BYTES, CHECKPOINT_COPY_BYTES), &second);
    if (a == RB_ERR_UNSUPPORTED || b == RB_ERR_UNSUPPORTED) {
        return RB_ERR_UNSUPPORTED;
    }
    view->valid = a == RB_OK || b == RB_OK;
    if (a == RB_OK) {
        view->header = b == RB_OK && second.generation > first.generation ? second : first;
        view->unsynced = b != RB_OK || second.generation != first.generation;
    } else if (b == RB_OK) {
        view->header = second;
    } else if (!all_zero(o->block + CHECKPOINT_COPY_BYTES, CHECKPOINT_HEADER_BYTES)) {
        spoil(view, "no header holds");
    }
    return RB_OK;
}

static void judge_table(struct slot_view *view)
{
    struct rb_slice table = rb_slice_of(view->table, (size_t)view->header.table_bytes);
    if (rb_checkpoint_table_checksum(&view->header, table) != view->header.table_checksum) {
        spoil(view, "its table does not hold");
    }
}

/* ---- choosing ---- */

static void name_damage(struct rb_msgstore *store, int slot)
{
    store->opening->doubt = true;
    rb_store_damage(store, rb_store_slot_names[slot], "checkpoint: %s",
                    store->opening->views[slot].why);
}

/* The newest slot that may hold; -1: none. */
static int newest_valid(const struct store_opening *o)
{
    bool a = o->views[0].valid;
    bool b = o->views[1].valid;
    if (a && b) {
        return o->views[0].header.generation > o->views[1].header.generation ? 0 : 1;
    }
    return a ? 0 : b ? 1 : -1;
}

/* The newest checkpoint whose segments can be made out though its pages are bad; -1: none. */
static int newest_table(const struct store_opening *o)
{
    int best = -1;
    for (int i = 0; i < 2; i++) {
        const struct slot_view *view = &o->views[i];
        if (view->damaged && view->table != NULL &&
            rb_checkpoint_table_checksum(
                &view->header, rb_slice_of(view->table, (size_t)view->header.table_bytes)) ==
                view->header.table_checksum &&
            (best < 0 || view->header.generation > o->views[best].header.generation)) {
            best = i;
        }
    }
    return best;
}

static enum rb_err choose(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    o->chosen = newest_valid(o);
    if (o->chosen < 0) {
        if (o->serial_count > 0) {
            o->step = OPEN_RECOVER;
            rb_store_recover_begin(store, newest_table(o));
        } else {
            store->seed = rb_env_random(store->home->env);
            o->step = OPEN_ASIDE;
        }
        return RB_OK;
    }
    const struct slot_view *view = &o->views[o->chosen];
    enum rb_err err = rb_store_read_segments(store, view);
    if (err == RB_ERR_CORRUPT) {
        rb_store_drop_segments(store);
        spoil(&o->views[o->chosen], "its table makes no sense");
        name_damage(store, o->chosen);
        return RB_OK; /* the step stays: choose again */
    }
    if (err != RB_OK) {
        return err;
    }
    o->page = 0;
    o->bad_pages = false;
    for (uint32_t i = 0; i < STORE_PIECES; i++) {
        o->pieces[i].tries = 0;
    }
    o->step = OPEN_PAGES;
    uint32_t count = view->header.page_count;
    if (count == 0) {
        return RB_OK;
    }
    o->pages = rb_alloc(store->home->budget, count * sizeof(*o->pages));
    if (o->pages == NULL) {
        return RB_ERR_MEMORY;
    }
    struct rb_reader reader =
        rb_reader_over(rb_slice_of(view->table, (size_t)count * CHECKPOINT_PAGE_ENTRY_BYTES));
    for (uint32_t i = 0; i < count; i++) {
        o->bad_pages = o->bad_pages || rb_checkpoint_read_page(&reader, &o->pages[i]) != RB_OK;
    }
    return rb_index_load_begin(store->home->budget, count, &o->index);
}

/* The freeze that the pages on disk are from, so that only what changes from now on is written to this slot. */
static enum rb_err number_pages(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    struct store_slot *slot = &store->slots[o->chosen];
    enum rb_err err = rb_index_freeze(store->index);
    if (err != RB_OK) {
        return err;
    }
    slot->freeze = rb_index_freeze_number(store->index);
    rb_index_thaw(store->index);
    slot->pages = o->pages;
    slot->page_count = slot->page_cap = o->views[o->chosen].header.page_count;
    o->pages = NULL;
    return RB_OK;
}

enum rb_err rb_store_take_blob(struct rb_msgstore *store, const struct slot_view *view)
{
    uint32_t bytes = view->header.blob_bytes;
    store->restored_index = store->last_index = view->header.index;
    store->before_index = view->header.before_index;
    if (bytes == 0) {
        return RB_OK;
    }
    store->blob = rb_alloc(store->home->budget, bytes);
    if (store->blob == NULL) {
        return RB_ERR_MEMORY;
    }
    store->blob_bytes = bytes;
    memcpy(store->blob, view->table + view->header.table_bytes - bytes, bytes);
    return RB_OK;
}

/* The chosen checkpoint holds. */
static enum rb_err accept(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    struct slot_view *view = &o->views[o->chosen];
    struct slot_view *other = &o->views[1 - o->chosen];
    if (o->index != NULL) {
        rb_index_destroy(store->index);
        store->index = o->index;
        o->index = NULL;
    } else {
        rb_index_skip(store->index, view->header.last_seq);
    }
    struct rb_msgstore_state state;
    rb_index_state(store->index, &state);
    store->last_seq = state.last_seq;
    store->newest = o->chosen;
    store->founded = true;
    store->generation = view->header.generation;
    store->slots[o->chosen].generation = view->header.generation;
    store->slots[o->chosen].index = view->header.index;
    for (int i = 0; i < 2; i++) {
        store->slots[i].file_bytes = o->views[i].damaged ? 0 : o->views[i].size;
        store->home->disk_bytes += store->slots[i].file_bytes;
    }
    enum rb_err err = number_pages(store);
    err = err == RB_OK ? rb_store_take_blob(store, view) : err;
    if (err == RB_OK && other->valid) {
        store->slots[1 - o->chosen].generation = other->header.generation;
        store->slots[1 - o->chosen].index = other->header.index;
        err = rb_store_keep_others(store, other);
    }
    o->step = OPEN_COPY;
    return err;
}

static enum rb_err load_pages(struct rb_msgstore *store, bool *ret_wait)
{
    struct store_opening *o = store->opening;
    struct slot_view *view = &o->views[o->chosen];
    if (rb_store_read_pages(store)) {
        *ret_wait = true;
        return o->err;
    }
    *ret_wait = o->in_flight > 0;
    if (o->in_flight > 0) {
        return RB_OK;
    }
    enum rb_err err = RB_OK;
    if (!o->bad_pages && o->index != NULL) {
        err = rb_index_load_end(o->index);
    }
    if (!o->bad_pages && err == RB_OK) {
        free_pieces(store);
        return accept(store);
    }
    if (err != RB_OK && err != RB_ERR_CORRUPT) {
        return err;
    }
    free_pages(store);
    rb_store_drop_segments(store);
    spoil(view, o->bad_pages ? "a page of its index does not hold" : "its index makes no sense");
    name_damage(store, o->chosen);
    o->step = OPEN_CHOOSE;
    return RB_OK;
}

/* The last file takes more messages when it ends where the checkpoint says. True: it has to wait. */
static bool look_at_last(struct rb_msgstore *store)
{
    struct store_segment *last =
        store->segment_count == 0 ? NULL : store->segments[store->segment_count - 1];
    if (last == NULL || last->missing ||
        last->bytes >= store->home->options.segment_bytes / 8 * 7) {
        return false;
    }
    if (last->file == NULL) {
        (void)rb_store_file(last);
        return !last->missing;
    }
    if (last->op.size == last->bytes) {
        last->fresh = true;
        last->sealed = false;
        store->open = last;
    }
    return false;
}

static void name_missing(struct rb_msgstore *store)
{
    for (uint32_t i = 0; i < store->segment_count; i++) {
        struct store_segment *segment = store->segments[i];
        if (segment->missing) {
            rb_store_damage(store, NULL, "%016llx.seg is missing, with %u messages",
                            (unsigned long long)segment->serial, segment->live_count);
        }
    }
}

static void opened(struct rb_msgstore *store, enum rb_err err)
{
    close_views(store);
    rb_store_opening_free(store);
    store->opened_err = err;
    store->state = err == RB_OK ? STORE_READY : STORE_FAILED;
    if (err == RB_OK) {
        name_missing(store);
        for (uint32_t i = 0; i < store->segment_count; i++) {
            rb_store_compact_consider(store->segments[i]);
        }
        rb_store_compact_small(store);
        rb_store_wake(store);
    }
    rb_store_tell(store, TELL_OPENED);
}

/* ---- steps of one operation ---- */

static enum rb_err start_list(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    if (o->names == NULL) {
        o->names = rb_alloc(store->home->budget, NAMES_BYTES);
        if (o->names == NULL) {
            return RB_ERR_MEMORY;
        }
        o->names_cap = NAMES_BYTES;
    }
    return rb_disk_list(store->home->disk, &store->op, store->directory, o->names, o->names_cap);
}

static enum rb_err start_table(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    struct slot_view *view = &o->views[o->slot];
    size_t cap = pad((size_t)view->header.table_bytes);
    if (cap > 0 && view->header.table_offset + view->header.table_bytes > view->size) {
        spoil(view, "it is too short for its table");
        return RB_ERR_MISSING;
    }
    if (view->table == NULL && cap > 0) {
        view->table = rb_store_take_aligned(store->home, cap);
        if (view->table == NULL) {
            return RB_ERR_MEMORY;
        }
        view->table_cap = cap;
    }
    if (o->table_at >= cap) {
        judge_table(view);
        return RB_ERR_MISSING;
    }
    uint64_t left = cap - o->table_at;
    return rb_disk_read(store->home->disk, &store->op, view->file,
                        view->header.table_offset + o->table_at, view->table + o->table_at,
                        left < TABLE_READ_BYTES ? (uint32_t)left : TABLE_READ_BYTES);
}

static void next_slot(struct store_opening *o)
{
    o->table_at = 0;
    o->step = o->slot == 0 ? OPEN_SLOT : OPEN_CHOOSE;
    o->slot = 1;
}

/* As in store_checkpoint.c: RB_ERR_MISSING, this step has nothing to do. */
static enum rb_err start_step(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    struct rb_disk *disk = store->home->disk;
    struct slot_view *view = &o->views[o->slot];
    switch (o->step) {
    case OPEN_MAKE:
        return rb_disk_make_directory(disk, &store->op, store->directory);
    case OPEN_LIST:
        return start_list(store);
    case OPEN_SLOT:
        if (!view->there) {
            return RB_ERR_MISSING;
        }
        rb_store_file_name(store, store->name, rb_store_slot_names[o->slot]);
        return rb_disk_open(disk, &store->op, store->name, 0);
    case OPEN_HEADER:
        memset(o->block, 0, BLOCK_BYTES);
        return view->file == NULL
                   ? RB_ERR_MISSING
                   : rb_disk_read(disk, &store->op, view->file, 0, o->block, BLOCK_BYTES);
    case OPEN_TABLE:
        return view->valid ? start_table(store) : RB_ERR_MISSING;
    case OPEN_COPY:
        view = &o->views[o->chosen];
        memset(o->block, 0, BLOCK_BYTES);
        rb_checkpoint_encode(o->block, &view->header);
        return view->unsynced ? rb_disk_write(disk, &store->op, view->file, CHECKPOINT_COPY_BYTES,
                                              o->block, CHECKPOINT_COPY_BYTES)
                              : RB_ERR_MISSING;
    case OPEN_SYNC:
        view = &o->views[o->chosen];
        return view->unsynced ? rb_disk_sync(disk, &store->op, view->file) : RB_ERR_MISSING;
    case OPEN_ASIDE:
        return rb_store_next_aside(store);
    case OPEN_ASIDE_SYNC:
        return o->doubt ? rb_disk_sync_directory(disk, &store->op, store->directory)
                        : RB_ERR_MISSING;
    default:
        break;
    }
    rb_unreachable("only steps of one operation");
}

static void leave_step(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    if (o->step == OPEN_TABLE) {
        next_slot(o);
    } else if (o->step == OPEN_SYNC) {
        o->step = OPEN_ASIDE;
    } else if (o->step == OPEN_ASIDE_SYNC) {
        o->step = OPEN_LAST;
    } else {
        o->step++;
    }
}

static void after_list(struct rb_msgstore *store, const struct rb_disk_op *op)
{
    struct store_opening *o = store->opening;
    if (op->err == RB_ERR_FULL && o->names_cap < NAMES_BYTES_MAX) {
        char *grown = rb_realloc(store->home->budget, o->names, o->names_cap, o->names_cap * 2);
        o->err = grown == NULL ? RB_ERR_MEMORY : RB_OK;
        o->names = grown == NULL ? o->names : grown;
        o->names_cap *= grown == NULL ? 1 : 2;
        return;
    }
    o->err = op->err;
    if (op->err == RB_OK) {
        o->names_bytes = (uint32_t)op->size;
        o->err = rb_store_read_names(store);
        o->step = OPEN_SLOT;
    }
}

/* Reads of slots: tried again, then the slot is taken for damaged. */
static void after_read(struct store_opening *o, const struct rb_disk_op *op)
{
    struct slot_view *view = &o->views[o->slot];
    if (op->err != RB_OK) {
        if (++o->tries >= STORE_OPEN_TRIES) {
            o->tries = 0;
            spoil(view, "it cannot be read");
            next_slot(o);
        }
        return;
    }
    o->tries = 0;
    if (o->step == OPEN_HEADER) {
        o->err = judge_header(o, view);
        o->step++;
    } else {
        o->table_at += op->len;
    }
}

void rb_store_open_done(struct rb_msgstore *store, struct rb_disk_op *op)
{
    struct store_opening *o = store->opening;
    o->started = false;
    switch (o->step) {
    case OPEN_MAKE:
        o->err = op->err;
        store->parent_changed = true;
        o->step++;
        break;
    case OPEN_LIST:
        after_list(store, op);
        break;
    case OPEN_SLOT:
        o->views[o->slot].there = op->err != RB_ERR_MISSING;
        o->err = op->err == RB_ERR_MISSING ? RB_OK : op->err;
        o->views[o->slot].file = op->err == RB_OK ? op->file : NULL;
        o->views[o->slot].size = op->size;
        o->step++;
        break;
    case OPEN_HEADER:
    case OPEN_TABLE:
        after_read(o, op);
        break;
    case OPEN_RECOVER:
        rb_store_recover_done(store, op);
        break;
    case OPEN_ASIDE:
        o->err = op->err == RB_ERR_MISSING ? RB_OK : op->err;
        o->aside++;
        break;
    case OPEN_COPY:
    case OPEN_SYNC:
    case OPEN_ASIDE_SYNC:
        o->err = op->err;
        leave_step(store);
        break;
    default:
        rb_unreachable("only steps of one operation");
    }
}

bool rb_store_open_step(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    while (o->err == RB_OK && !o->started && o->step != OPEN_DONE) {
        bool wait = false;
        if (o->step == OPEN_CHOOSE) {
            for (int i = 0; i < 2 && o->chosen < 0; i++) { /* once */
                struct slot_view *view = &o->views[i];
                bool older = o->views[1 - i].valid && view->header.generation > 0 &&
                             view->header.generation < o->views[1 - i].header.generation;
                if (view->damaged && older) {
                    view->damaged = false; /* invariant 2 */
                } else if (view->damaged) {
                    name_damage(store, i);
                }
            }
            int valid = newest_valid(o);
            store->seed = valid >= 0 ? o->views[valid].header.seed : store->seed;
            o->err = choose(store);
            continue;
        }
        if (o->step == OPEN_PAGES) {
            o->err = load_pages(store, &wait);
        } else if (o->step == OPEN_RECOVER) {
            wait = rb_store_recover_step(store);
        } else if (o->step == OPEN_LAST) {
            wait = look_at_last(store);
            o->step += !wait;
        } else {
            enum rb_err err = start_step(store);
            if (err == RB_ERR_FULL) {
                return true;
            }
            o->started = err == RB_OK;
            store->op_count += o->started;
            if (err == RB_ERR_MISSING) {
                leave_step(store);
            } else if (err != RB_OK) {
                o->err = err;
            }
        }
        if (wait) {
            return o->err == RB_OK && o->in_flight == 0 && !o->started;
        }
    }
    if (o->started || o->in_flight > 0 || store->op_count > 0) {
        return false;
    }
    opened(store, o->err);
    return false;
}
