/* store_checkpoint.c - writes checkpoints: everything that the store is, findable again, while the store goes on.
 *
 *   data -> sync of segments -> slot file -> (wipe) -> directory -> pages -> table -> sync -> header -> sync -> second copy -> sync -> reported
 *
 * 1. What is written is what was at the call: the index is frozen, the table of segments copied, each block marked up to where
 *    it was filled. Later messages go to pages of 4 KiB that the checkpoint does not know.
 * 2. The header is written when all that it stands for is durable. Until then the other slot is the newest checkpoint.
 * 3. Founding: before a file of segments is made there is a checkpoint of nothing. So segments without any checkpoint are
 *    damage, never the remains of a store that was just begun.
 * 4. A header whose write failed may be there all the same. Before its slot is used again it is wiped, or it would be the
 *    newest header of a half-written checkpoint.
 * 5. After a failed sync nobody knows what a file holds: its messages are moved to another one before the next checkpoint; a
 *    slot is written anew.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/store_inside.h"

#define PIECES 2u
#define PIECE_PAGES 8u
#define TABLE_WRITE_BYTES (4u << 20)
#define SYNCS_MAX 32u

enum writing_step {
    WRITE_DATA,
    WRITE_SYNC,
    WRITE_OPEN,
    WRITE_WIPE, /* these two when nobody knows which header is there */
    WRITE_WIPE_SYNC,
    WRITE_DIRECTORY,
    WRITE_PARENT,
    WRITE_PAGES,
    WRITE_TABLE,
    WRITE_SLOT_SYNC,
    WRITE_HEADER,
    WRITE_HEADER_SYNC,
    WRITE_COPY,
    WRITE_COPY_SYNC,
    WRITE_DONE,
};

struct store_writing {
    enum writing_step step;
    enum rb_err err;
    bool started; /* the operation of this step */
    bool founding, frozen, collected;
    int slot;
    struct checkpoint_header header;
    uint64_t changes, since; /* since: the freeze that the slot's pages are from */
    uint32_t marks;          /* blocks that are not written yet */
    struct rb_list to_sync;
    uint32_t syncs;
    uint32_t page, pages_in_flight;
    bool fresh_pages; /* all pages are written */
    struct store_piece pieces[PIECES];
    uint8_t *table; /* aligned and padded */
    size_t table_cap;
    uint64_t table_at;
    uint8_t *block; /* for the header */
    struct rb_disk_file *file;
};

static size_t pad(size_t bytes)
{
    return (bytes + RB_DISK_ALIGN - 1) / RB_DISK_ALIGN * RB_DISK_ALIGN;
}

/* ---- memory ---- */

static void *take_aligned(struct rb_msgstore_home *home, size_t bytes)
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

static void give_aligned(struct rb_msgstore_home *home, void *ptr, size_t bytes)
{
    if (ptr != NULL) {
        rb_budget_give(home->budget, bytes);
        free(ptr);
    }
}

static void free_writing(struct rb_msgstore *store, struct store_writing *w)
{
    struct rb_msgstore_home *home = store->home;
    if (w->frozen) {
        rb_index_thaw(store->index);
    }
    if (w->file != NULL && store->state == STORE_CLOSING &&
        !home->ending) { /* else the disk has closed it */
        rb_disk_close(home->disk, w->file);
    }
    while (!rb_list_empty(&w->to_sync)) { /* they have still to be synced */
        struct rb_list *item = rb_list_pop(&w->to_sync);
        rb_list_append(&store->unsynced, item);
    }
    for (uint32_t i = 0; i < PIECES; i++) {
        give_aligned(home, w->pieces[i].bytes, (size_t)PIECE_PAGES * RB_PAGE_BYTES);
    }
    give_aligned(home, w->table, w->table_cap);
    give_aligned(home, w->block, CHECKPOINT_PAGES_AT);
    rb_free(home->budget, w, sizeof(*w));
}

void rb_store_writing_free(struct rb_msgstore *store)
{
    if (store->writing != NULL) {
        free_writing(store, store->writing);
    }
    if (store->founding != NULL) {
        free_writing(store, store->founding);
    }
    store->writing = store->founding = NULL;
}

static struct store_writing *create_writing(struct rb_msgstore *store)
{
    struct rb_msgstore_home *home = store->home;
    struct store_writing *w = rb_alloc(home->budget, sizeof(*w));
    if (w == NULL) {
        return NULL;
    }
    rb_list_init(&w->to_sync);
    for (uint32_t i = 0; i < PIECES; i++) {
        w->pieces[i].store = store;
        rb_store_own(home, &w->pieces[i].op, STORE_OP_PIECE);
    }
    w->block = take_aligned(home, CHECKPOINT_PAGES_AT);
    if (w->block == NULL) {
        free_writing(store, w);
        return NULL;
    }
    return w;
}

/* ---- what is to be written ---- */

static bool belongs(const struct store_segment *segment)
{
    return segment->live_count > 0 && segment->block_count > 0;
}

static void write_segment(struct rb_writer *writer, const struct store_segment *segment)
{
    struct checkpoint_segment entry = { .serial = segment->serial,
                                        .first_seq = segment->first_seq,
                                        .bytes = segment->bytes,
                                        .live_bytes = segment->live_bytes,
                                        .live_count = segment->live_count,
                                        .block_count = segment->block_count };
    rb_checkpoint_write_segment(writer, &entry);
    for (uint32_t i = 0; i < segment->block_count; i++) {
        uint32_t end = i + 1 < segment->block_count ? segment->starts[i + 1] : segment->bytes;
        rb_write_u16(writer, (uint16_t)((end - segment->starts[i]) / RB_DISK_ALIGN));
    }
}

/* The table but for the pages' entries, which come when they are written. */
static enum rb_err build_table(struct rb_msgstore *store, struct store_writing *w,
                               struct rb_slice blob)
{
    uint64_t bytes = (uint64_t)w->header.page_count * CHECKPOINT_PAGE_ENTRY_BYTES + blob.len;
    for (uint32_t i = 0; i < store->segment_count; i++) {
        if (belongs(store->segments[i])) {
            w->header.segment_count++;
            bytes += CHECKPOINT_SEGMENT_BYTES +
                     (uint64_t)store->segments[i]->block_count * sizeof(uint16_t);
        }
    }
    w->header.blob_bytes = (uint32_t)blob.len;
    w->header.table_bytes = bytes;
    w->table_cap = pad(bytes);
    w->table = bytes == 0 ? NULL : take_aligned(store->home, w->table_cap);
    if (w->table == NULL && bytes > 0) {
        return RB_ERR_MEMORY;
    }
    size_t skip = (size_t)w->header.page_count * CHECKPOINT_PAGE_ENTRY_BYTES;
    struct rb_writer writer = rb_writer_over(w->table + skip, (size_t)bytes - skip);
    for (uint32_t i = 0; i < store->segment_count; i++) {
        if (belongs(store->segments[i])) {
            write_segment(&writer, store->segments[i]);
        }
    }
    rb_write_slice(&writer, blob);
    rb_assert(writer.ok);
    return RB_OK;
}

/* From here on what the store holds is wanted on disk, and its files are kept. */
static void mark_data(struct rb_msgstore *store, struct store_writing *w)
{
    for (uint32_t i = 0; i < store->segment_count; i++) {
        struct store_segment *segment = store->segments[i];
        if (!belongs(segment)) {
            continue;
        }
        segment->referred = w->header.generation;
        for (uint32_t n = 0; n < segment->block_count && segment->behind_bytes > 0; n++) {
            struct store_block *block = segment->blocks[n];
            if (block != NULL && block->wanted > block->written) {
                rb_assert(block->mark == 0);
                block->mark = block->wanted;
                w->marks++;
            }
        }
    }
}

static enum rb_err fail_begin(struct rb_msgstore *store, struct store_writing *w, enum rb_err err)
{
    free_writing(store, w);
    return err;
}

enum rb_err rb_msgstore_checkpoint(struct rb_msgstore *store, uint64_t index, struct rb_slice blob)
{
    rb_assert(store->state == STORE_READY && index >= store->last_index);
    if (store->memory || blob.len > CHECKPOINT_BLOB_MAX) {
        return RB_ERR_INVALID;
    }
    if (store->writing != NULL || (store->told & TELL_CHECKPOINTED) != 0) {
        return RB_ERR_BUSY;
    }
    if (store->condemned_count > 0) { /* invariant 5 */
        store->reported_index = index;
        store->reported_err = RB_ERR_IO;
        rb_store_tell(store, TELL_CHECKPOINTED);
        return RB_OK;
    }
    struct store_writing *w = create_writing(store);
    if (w == NULL) {
        return RB_ERR_MEMORY;
    }
    enum rb_err err = rb_index_freeze(store->index);
    if (err != RB_OK) {
        return fail_begin(store, w, err);
    }
    w->frozen = true;
    struct rb_msgstore_state state;
    rb_index_state(store->index, &state);
    rb_store_segment_flush(store->open);
    rb_store_segment_flush(store->target);
    w->header = (struct checkpoint_header){ .seed = store->seed,
                                            .generation = store->generation + 1,
                                            .index = index,
                                            .next_serial = store->next_serial,
                                            .first_seq = state.first_seq,
                                            .last_seq = state.last_seq,
                                            .page_count = rb_index_frozen_pages(store->index) };
    err = build_table(store, w, blob);
    if (err != RB_OK) {
        return fail_begin(store, w, err);
    }
    store->generation++;
    store->last_index = index;
    w->changes = store->changes;
    mark_data(store, w);
    store->writing = w;
    rb_store_wake(store);
    return RB_OK;
}

void rb_store_found(struct rb_msgstore *store)
{
    bool writes = store->writing != NULL && store->writing->step > WRITE_DATA;
    if (store->founding != NULL || writes || rb_env_now(store->home->env) < store->retry_ns) {
        return; /* a checkpoint that has got further founds the store as well */
    }
    struct store_writing *w = create_writing(store);
    if (w == NULL) {
        return; /* the write that needs it asks again */
    }
    w->founding = true;
    w->step = WRITE_OPEN;
    w->header = (struct checkpoint_header){
        .seed = store->seed, .generation = 1, .next_serial = 1, .first_seq = 1
    };
    store->founding = w;
    rb_store_wake(store);
}

/* ---- the end of it ---- */

static void finish(struct rb_msgstore *store, struct store_writing *w)
{
    struct store_slot *slot = &store->slots[w->slot];
    bool good = w->err == RB_OK;
    if (w->file != NULL) {
        rb_disk_close(store->home->disk, w->file);
        w->file = NULL;
    }
    if (good) {
        store->before_index = store->newest >= 0 ? store->slots[store->newest].index : 0;
        slot->generation = w->header.generation;
        slot->index = w->header.index;
        slot->freeze = w->founding ? 0 : rb_index_freeze_number(store->index);
        slot->page_count = w->header.page_count;
        store->newest = w->slot;
        store->founded = true;
        store->changes -= w->changes;
    } else {
        slot->doubtful = slot->doubtful || w->step >= WRITE_HEADER;
        rb_store_hold_writes(store->home, w->err);
        store->retry_ns = store->home->retry_ns;
    }
    if (w->founding) {
        store->founding = NULL;
    } else {
        store->writing = NULL;
        store->reported_index = w->header.index;
        store->reported_err = w->err;
        store->home->checkpoints += good;
        rb_assert(w->marks == 0); /* nothing fails before they are written */
        rb_store_tell(store, TELL_CHECKPOINTED);
    }
    free_writing(store, w);
    rb_store_wake(store);
}

static void fail(struct rb_msgstore *store, struct store_writing *w, enum rb_err err)
{
    w->err = w->err == RB_OK ? err : w->err;
    rb_store_wake(store);
}

/* ---- data ---- */

void rb_store_checkpoint_block(struct rb_msgstore *store)
{
    if (store->writing != NULL && store->writing->marks > 0) {
        store->writing->marks--;
        rb_store_wake(store);
    }
}

static void condemn(struct rb_msgstore *store, struct store_segment *segment)
{
    if (segment->dead || segment->condemned) {
        return;
    }
    if (segment->tail != NULL) {
        rb_store_block_close(segment->tail);
    }
    store->open = store->open == segment ? NULL : store->open;
    store->target = store->target == segment ? NULL : store->target;
    segment->sealed = segment->condemned = true;
    store->condemned_count++;
    rb_store_compact_consider(segment);
}

void rb_store_checkpoint_synced(struct rb_msgstore *store, struct store_segment *segment,
                                enum rb_err err)
{
    if (err != RB_OK) {
        store->home->write_errors++;
        condemn(store, segment);
    }
    if (store->writing != NULL) {
        store->writing->syncs--;
        if (err != RB_OK) {
            fail(store, store->writing, err);
        }
    }
}

/* True: all files are synced. */
static bool sync_segments(struct rb_msgstore *store, struct store_writing *w, bool *ret_again)
{
    if (!w->collected) {
        w->collected = true;
        rb_list_splice(&w->to_sync, &store->unsynced);
    }
    struct rb_list *next;
    for (struct rb_list *at = w->to_sync.next; at != &w->to_sync && w->syncs < SYNCS_MAX;
         at = next) {
        struct store_segment *segment = RB_CONTAINER(at, struct store_segment, unsynced);
        next = at->next;
        if (segment->dead && segment->referred != w->header.generation) {
            rb_list_remove(&segment->unsynced); /* nobody needs it any more */
            continue;
        }
        struct rb_disk_file *file = rb_store_file(segment);
        if (segment->missing) {
            fail(store, w, RB_ERR_IO);
            return false;
        }
        if (file == NULL || segment->busy != SEGMENT_IDLE) {
            *ret_again = true;
            continue;
        }
        if (rb_disk_sync(store->home->disk, &segment->op, file) != RB_OK) {
            *ret_again = true;
            break;
        }
        rb_list_remove(&segment->unsynced);
        segment->busy = SEGMENT_SYNCING;
        segment->op_count++;
        store->op_count++;
        w->syncs++;
    }
    return w->syncs == 0 && rb_list_empty(&w->to_sync);
}

/* ---- the slot file ---- */

static enum rb_err room_for_pages(struct rb_msgstore *store, struct store_slot *slot,
                                  uint32_t count)
{
    if (count <= slot->page_cap) {
        return RB_OK;
    }
    uint32_t cap = slot->page_cap * 2 > count ? slot->page_cap * 2 : count;
    struct checkpoint_page *grown = rb_realloc(
        store->home->budget, slot->pages, slot->page_cap * sizeof(*grown), cap * sizeof(*grown));
    if (grown == NULL) {
        return RB_ERR_MEMORY;
    }
    slot->pages = grown;
    slot->page_cap = cap;
    return RB_OK;
}

static bool page_needed(struct rb_msgstore *store, struct store_writing *w, uint32_t page)
{
    struct store_slot *slot = &store->slots[w->slot];
    return w->fresh_pages || page >= slot->page_count ||
           rb_index_frozen_changed(store->index, page, w->since);
}

static struct store_piece *free_piece(struct rb_msgstore *store, struct store_writing *w)
{
    for (uint32_t i = 0; i < PIECES; i++) {
        struct store_piece *piece = &w->pieces[i];
        if (!piece->op.in_flight) {
            if (piece->bytes == NULL) {
                piece->bytes = take_aligned(store->home, (size_t)PIECE_PAGES * RB_PAGE_BYTES);
            }
            return piece->bytes == NULL ? NULL : piece;
        }
    }
    return NULL;
}

/* A run of pages that follow each other, in one write. False: it could not be started. */
static bool write_run(struct rb_msgstore *store, struct store_writing *w, struct store_piece *piece)
{
    struct store_slot *slot = &store->slots[w->slot];
    uint32_t count = 0;
    uint32_t bytes = 0;
    while (w->page + count < w->header.page_count && count < PIECE_PAGES &&
           page_needed(store, w, w->page + count)) {
        uint32_t number = w->page + count;
        const uint8_t *from = rb_index_frozen_page(store->index, number);
        if (from == NULL) { /* it changed, and there was no memory to keep what it was */
            fail(store, w, RB_ERR_MEMORY);
            return false;
        }
        uint32_t len = rb_checkpoint_page_len(from);
        uint8_t *to = piece->bytes + (size_t)count * RB_PAGE_BYTES;
        memcpy(to, from, len);
        memset(to + len, 0, RB_PAGE_BYTES - len);
        slot->pages[number] =
            (struct checkpoint_page){ len, rb_checkpoint_page_checksum(store->seed, number,
                                                                       rb_slice_of(to, len)) };
        bytes = count * RB_PAGE_BYTES + (uint32_t)pad(len);
        count++;
    }
    if (bytes > 0) {
        uint64_t offset = CHECKPOINT_PAGES_AT + (uint64_t)w->page * RB_PAGE_BYTES;
        if (rb_disk_write(store->home->disk, &piece->op, w->file, offset, piece->bytes, bytes) !=
            RB_OK) {
            return false;
        }
        store->op_count++;
        w->pages_in_flight++;
    }
    w->page += count;
    return true;
}

/* True: all are written. */
static bool write_pages(struct rb_msgstore *store, struct store_writing *w, bool *ret_again)
{
    while (w->page < w->header.page_count && !page_needed(store, w, w->page)) {
        w->page++;
    }
    if (w->page < w->header.page_count) {
        struct store_piece *piece = free_piece(store, w);
        if (piece != NULL) {
            (void)write_run(store, w, piece);
        } else if (w->pages_in_flight == 0) {
            fail(store, w, RB_ERR_MEMORY);
        }
        *ret_again = w->pages_in_flight < PIECES;
        return false;
    }
    return w->pages_in_flight == 0;
}

void rb_store_checkpoint_piece(struct rb_msgstore *store, struct store_piece *piece)
{
    struct store_writing *w = store->writing;
    w->pages_in_flight--;
    if (piece->op.err != RB_OK) {
        store->home->write_errors++;
        fail(store, w, piece->op.err);
    }
}

/* Where the table begins: behind the last page, which is as long as it is. */
static uint64_t table_offset(const struct store_slot *slot, uint32_t page_count)
{
    if (page_count == 0) {
        return CHECKPOINT_PAGES_AT;
    }
    return CHECKPOINT_PAGES_AT + (uint64_t)(page_count - 1) * RB_PAGE_BYTES +
           pad(slot->pages[page_count - 1].len);
}

static void complete_table(struct rb_msgstore *store, struct store_writing *w)
{
    struct store_slot *slot = &store->slots[w->slot];
    struct checkpoint_header *h = &w->header;
    struct rb_writer writer =
        rb_writer_over(w->table, (size_t)h->page_count * CHECKPOINT_PAGE_ENTRY_BYTES);
    for (uint32_t i = 0; i < h->page_count; i++) {
        rb_checkpoint_write_page(&writer, &slot->pages[i]);
    }
    h->table_offset = table_offset(slot, h->page_count);
    h->table_checksum =
        rb_checkpoint_table_checksum(h, rb_slice_of(w->table, (size_t)h->table_bytes));
    h->before_index = store->newest >= 0 ? store->slots[store->newest].index : 0;
    memset(w->block, 0, RB_DISK_ALIGN);
    rb_checkpoint_encode(w->block, h);
    uint64_t end = h->table_offset + w->table_cap;
    if (end > slot->file_bytes) {
        store->home->disk_bytes += end - slot->file_bytes;
        slot->file_bytes = end;
    }
}

/* ---- steps ---- */

static enum rb_err write_table(struct rb_msgstore *store, struct store_writing *w)
{
    uint64_t left = w->table_cap - w->table_at;
    return rb_disk_write(store->home->disk, &store->op, w->file,
                         w->header.table_offset + w->table_at, w->table + w->table_at,
                         left < TABLE_WRITE_BYTES ? (uint32_t)left : TABLE_WRITE_BYTES);
}

static enum rb_err begin_slot(struct rb_msgstore *store, struct store_writing *w)
{
    w->slot = store->newest == 0 ? 1 : 0;
    struct store_slot *slot = &store->slots[w->slot];
    w->fresh_pages = slot->freeze == 0 || slot->generation == 0;
    w->since = slot->freeze;
    if (room_for_pages(store, slot, w->header.page_count) != RB_OK) {
        fail(store, w, RB_ERR_MEMORY);
        return RB_ERR_MEMORY;
    }
    rb_store_file_name(store, store->name, w->slot == 0 ? "0.ckpt" : "1.ckpt");
    enum rb_err err = rb_disk_open(store->home->disk, &store->op, store->name, RB_DISK_CREATE);
    return err;
}

/* What changes while it is synced needs another sync. */
static enum rb_err sync_names(struct rb_msgstore *store, bool *changed, const char *directory)
{
    if (!*changed) {
        return RB_ERR_MISSING;
    }
    enum rb_err err = rb_disk_sync_directory(store->home->disk, &store->op, directory);
    *changed = err != RB_OK;
    return err;
}

/* Starts the operation of the step: RB_OK, it is on its way; RB_ERR_FULL, later; RB_ERR_MISSING, nothing is to be done. */
static enum rb_err start_step(struct rb_msgstore *store, struct store_writing *w)
{
    struct rb_disk *disk = store->home->disk;
    bool doubtful = store->slots[w->slot].doubtful;
    switch (w->step) {
    case WRITE_OPEN:
        return begin_slot(store, w);
    case WRITE_WIPE:
        return doubtful ? rb_disk_write(disk, &store->op, w->file, 0, w->block, CHECKPOINT_PAGES_AT)
                        : RB_ERR_MISSING;
    case WRITE_WIPE_SYNC:
        return doubtful ? rb_disk_sync(disk, &store->op, w->file) : RB_ERR_MISSING;
    case WRITE_DIRECTORY:
        return sync_names(store, &store->names_changed, store->directory);
    case WRITE_PARENT:
        return sync_names(store, &store->parent_changed, store->parent);
    case WRITE_TABLE:
        return w->table_at < w->table_cap ? write_table(store, w) : RB_ERR_MISSING;
    case WRITE_SLOT_SYNC:
    case WRITE_HEADER_SYNC:
    case WRITE_COPY_SYNC:
        return rb_disk_sync(disk, &store->op, w->file);
    case WRITE_HEADER:
        return rb_disk_write(disk, &store->op, w->file, 0, w->block, RB_DISK_ALIGN);
    case WRITE_COPY:
        return rb_disk_write(disk, &store->op, w->file, CHECKPOINT_COPY_BYTES, w->block,
                             RB_DISK_ALIGN);
    case WRITE_DATA:
    case WRITE_SYNC:
    case WRITE_PAGES:
    case WRITE_DONE:
        break;
    }
    rb_unreachable("only steps of one operation");
}

/* Before the first byte of the slot changes: it is no checkpoint any more. */
static void leave_open(struct rb_msgstore *store, struct store_writing *w)
{
    struct store_slot *slot = &store->slots[w->slot];
    w->file = store->op.file;
    store->names_changed = store->names_changed || store->op.size == 0;
    slot->file_bytes = slot->file_bytes < store->op.size ? store->op.size : slot->file_bytes;
    slot->generation = 0;
    slot->freeze = 0;
}

void rb_store_checkpoint_done(struct rb_msgstore *store, struct rb_disk_op *op)
{
    struct store_writing *w = store->founding != NULL ? store->founding : store->writing;
    w->started = false;
    if (op->err != RB_OK) {
        store->home->write_errors++;
        store->names_changed = store->names_changed || w->step == WRITE_DIRECTORY;
        store->parent_changed = store->parent_changed || w->step == WRITE_PARENT;
        fail(store, w, op->err);
        return;
    }
    if (w->step == WRITE_TABLE) {
        w->table_at += op->len;
        return; /* there may be more of it */
    }
    if (w->step == WRITE_OPEN) {
        leave_open(store, w);
    }
    if (w->step == WRITE_WIPE_SYNC) {
        store->slots[w->slot].doubtful = false;
    }
    w->step++;
}

static bool step_of(struct rb_msgstore *store, struct store_writing *w)
{
    bool again = false;
    while (w->err == RB_OK && !w->started && w->step != WRITE_DONE) {
        if (w->step == WRITE_DATA) {
            if (w->marks > 0 || store->erase_count > 0 || store->redo_count > 0) {
                return false;
            }
            w->step++;
        } else if (w->step == WRITE_SYNC) {
            if (!sync_segments(store, w, &again)) {
                break;
            }
            w->step++;
        } else if (w->step == WRITE_PAGES) {
            if (!write_pages(store, w, &again)) {
                break;
            }
            complete_table(store, w);
            w->step++;
        } else {
            enum rb_err err = start_step(store, w);
            if (err == RB_ERR_FULL) {
                return true;
            }
            w->started = err == RB_OK;
            store->op_count += w->started;
            w->step += err == RB_ERR_MISSING;
        }
    }
    bool idle = !w->started && w->pages_in_flight == 0 && w->syncs == 0;
    if (idle && (w->err != RB_OK || w->step == WRITE_DONE)) {
        finish(store, w);
        return true;
    }
    return again;
}

bool rb_store_checkpoint_step(struct rb_msgstore *store)
{
    if (store->founding != NULL) {
        return step_of(store, store->founding);
    }
    return store->writing != NULL && step_of(store, store->writing);
}
