/* store_io.c - blocks on their way to and from the disk, the files they are in, what stays in memory.
 *
 * 1. One operation of a block at a time; what it lends (flight_end, or a window's bytes) does not change meanwhile.
 * 2. A write that failed is tried again with the same bytes from memory; so it does not matter what it left on the disk.
 * 3. A read that failed is tried again, then in smaller parts; a message that still cannot be read is damaged.
 * 4. Nothing is dropped but in rb_store_evict, at the beginning of a poll.
 */
#include <string.h>

#include "storage/store_inside.h"

#define LOOKED_AT_MAX 64u

/* ---- files ---- */

static bool close_idle_file(struct rb_msgstore_home *home)
{
    for (struct rb_list *at = home->files.next; at != &home->files; at = at->next) {
        struct store_segment *segment = RB_CONTAINER(at, struct store_segment, link);
        if (segment->op_count == 0) {
            rb_store_file_close(segment);
            return true;
        }
    }
    return false;
}

void rb_store_file_close(struct store_segment *segment)
{
    struct rb_msgstore_home *home = segment->store->home;
    if (segment->file != NULL) {
        rb_list_remove(&segment->link);
        rb_disk_close(home->disk, segment->file);
        segment->file = NULL;
        home->file_count--;
    }
}

struct rb_disk_file *rb_store_file(struct store_segment *segment)
{
    struct rb_msgstore *store = segment->store;
    struct rb_msgstore_home *home = store->home;
    if (segment->file != NULL) {
        rb_list_remove(&segment->link);
        rb_list_append(&home->files, &segment->link);
        return segment->file;
    }
    if (segment->missing || segment->busy != SEGMENT_IDLE ||
        (home->file_count >= STORE_FILES_MAX && !close_idle_file(home))) {
        return NULL;
    }
    char file[STORE_FILE_BYTES];
    rb_store_serial_name(file, segment->serial);
    rb_store_file_name(store, segment->name, file);
    if (rb_disk_open(home->disk, &segment->op, segment->name,
                     segment->created ? 0 : RB_DISK_CREATE) == RB_OK) {
        segment->busy = SEGMENT_OPENING;
        segment->op_count++;
        store->op_count++;
        home->file_count++;
    }
    return NULL;
}

/* The file cannot be had: whoever wants to read from it learns it, writes go on trying. */
static void give_up_file(struct store_segment *segment, enum rb_err err)
{
    char file[STORE_FILE_BYTES];
    rb_store_serial_name(file, segment->serial);
    segment->missing = true;
    rb_store_damage(segment->store, file, "%s, with %u messages",
                    err == RB_ERR_MISSING ? "the file is missing" : "the file cannot be opened",
                    segment->live_count);
    for (uint32_t i = 0; i < segment->block_count; i++) {
        struct store_block *block = segment->blocks[i];
        if (block != NULL && block->state == BLOCK_LOAD_QUEUED) {
            rb_store_block_drop(block);
        }
    }
}

static void opened(struct rb_msgstore_home *home, struct store_segment *segment)
{
    struct rb_msgstore *store = segment->store;
    segment->busy = SEGMENT_IDLE;
    if (segment->op.err == RB_OK) {
        segment->file = segment->op.file;
        rb_list_append(&home->files, &segment->link);
        store->names_changed = store->names_changed || !segment->created;
        segment->created = true;
        segment->tries = 0;
        return;
    }
    home->file_count--;
    if (!segment->created) {
        home->write_errors++;
        rb_store_hold_writes(home, segment->op.err);
    } else if (segment->op.err == RB_ERR_MISSING || ++segment->tries >= STORE_READ_TRIES) {
        give_up_file(segment, segment->op.err);
    }
}

void rb_store_segment_completed(struct rb_msgstore_home *home, struct store_segment *segment)
{
    struct rb_msgstore *store = segment->store;
    enum store_segment_busy was = segment->busy;
    segment->op_count--;
    store->op_count--;
    rb_store_wake(store);
    switch (was) {
    case SEGMENT_OPENING:
        opened(home, segment);
        break;
    case SEGMENT_SYNCING:
        segment->busy = SEGMENT_IDLE;
        if (store->state == STORE_READY) {
            rb_store_checkpoint_synced(store, segment, segment->op.err);
        }
        break;
    case SEGMENT_REMOVING:
        segment->busy = SEGMENT_IDLE;
        if (segment->op.err == RB_OK || segment->op.err == RB_ERR_MISSING) {
            segment->created = false;
            store->names_changed = true;
        } else {
            store->retry_ns = rb_env_now(home->env) + STORE_RETRY_NS;
        }
        break;
    case SEGMENT_IDLE:
        rb_unreachable("a completion without an operation");
    }
}

/* ---- what a block waits for ---- */

static void make_clean(struct rb_msgstore_home *home, struct store_block *block)
{
    rb_list_remove(&block->link);
    rb_list_append(&home->clean, &block->link);
    home->clean_bytes += block->cap;
    block->state = BLOCK_CLEAN;
    block->touched = true;
}

void rb_store_block_changed(struct store_block *block)
{
    struct rb_msgstore_home *home = block->segment->store->home;
    if (block->segment->store->memory || block->op.in_flight) {
        return;
    }
    if (block->state == BLOCK_CLEAN) {
        home->clean_bytes -= block->cap;
    }
    rb_list_remove(&block->link);
    if (block->wanted > block->written || block->redo_end > 0) {
        block->state = BLOCK_WRITE_QUEUED;
        rb_list_append(&home->writes, &block->link);
    } else if (block->used > block->written) {
        block->state = BLOCK_OPEN;
    } else {
        make_clean(home, block);
    }
}

/* ---- writes ---- */

/* False: nothing more can be started now. */
static bool start_write(struct rb_msgstore_home *home, struct store_block *block)
{
    struct store_segment *segment = block->segment;
    struct rb_msgstore *store = segment->store;
    if (!store->founded) {
        rb_store_found(store);
        return true;
    }
    struct rb_disk_file *file = rb_store_file(segment);
    if (file == NULL) {
        return true;
    }
    block->redoing = block->redo_end > 0;
    uint32_t begin = block->redoing ? block->redo : block->written;
    block->flight_end = block->redoing ? block->redo_end : block->wanted;
    if (rb_disk_write(home->disk, &block->op, file, block->start + begin, block->bytes + begin,
                      block->flight_end - begin) != RB_OK) {
        return false;
    }
    if (block->redoing) {
        block->redo_end = 0;
    }
    rb_list_remove(&block->link);
    block->state = BLOCK_WRITING;
    segment->op_count++;
    store->op_count++;
    home->write_count++;
    return true;
}

static void written(struct rb_msgstore_home *home, struct store_block *block)
{
    struct store_segment *segment = block->segment;
    struct rb_msgstore *store = segment->store;
    uint64_t end = (uint64_t)block->start + block->flight_end;
    home->write_total++;
    home->disk_full = false;
    if (end > segment->file_bytes) {
        home->disk_bytes += end - segment->file_bytes;
        segment->file_bytes = end;
    }
    if (rb_list_empty(&segment->unsynced)) {
        rb_list_append(&store->unsynced, &segment->unsynced);
    }
    if (block->redoing) {
        store->redo_count -= block->redo_end == 0;
        return;
    }
    rb_store_behind(segment, -(int64_t)(block->flight_end - block->written));
    block->written = block->flight_end;
    if (block->mark > 0 && block->written >= block->mark) {
        block->mark = 0;
        rb_store_checkpoint_block(store);
    }
}

static void write_failed(struct rb_msgstore_home *home, struct store_block *block)
{
    home->write_errors++;
    rb_store_hold_writes(home, block->op.err);
    if (block->redoing) {
        uint32_t begin = (uint32_t)(block->op.offset - block->start);
        block->redo = block->redo_end == 0 || begin < block->redo ? begin : block->redo;
        block->redo_end = block->flight_end > block->redo_end ? block->flight_end : block->redo_end;
    }
}

/* ---- loads ---- */

static bool start_load(struct rb_msgstore_home *home, struct store_block *block)
{
    struct store_segment *segment = block->segment;
    struct rb_disk_file *file = rb_store_file(segment);
    if (file == NULL) {
        return true;
    }
    if (rb_disk_read(home->disk, &block->op, file, block->start + block->begin, block->bytes,
                     block->cap) != RB_OK) {
        return false;
    }
    rb_list_remove(&block->link);
    block->state = BLOCK_LOADING;
    segment->op_count++;
    segment->store->op_count++;
    home->load_count++;
    return true;
}

static void loaded(struct rb_msgstore_home *home, struct store_block *block)
{
    struct store_segment *segment = block->segment;
    if (block->op.err != RB_OK && ++block->tries < STORE_READ_TRIES) {
        block->state = BLOCK_LOAD_QUEUED;
        rb_list_append(&home->loads, &block->link);
        return;
    }
    home->load_total++;
    if (block->op.err != RB_OK) {
        block->failed = true;
        segment->shy = true;
        block->op.size = 0;
    }
    memset(block->bytes + block->op.size, 0, block->cap - block->op.size);
    make_clean(home, block);
    block->unread = true;
    block->loaded_turn = home->turn;
    if (block->needed) {
        rb_store_wake(segment->store);
    }
    rb_store_end_waits(block);
}

void rb_store_block_completed(struct rb_msgstore_home *home, struct store_block *block)
{
    struct store_segment *segment = block->segment;
    struct rb_msgstore *store = segment->store;
    bool write = block->op.kind == RB_DISK_WRITE;
    segment->op_count--;
    store->op_count--;
    *(write ? &home->write_count : &home->load_count) -= 1;
    if (write && block->op.err == RB_OK) {
        written(home, block);
    } else if (write) {
        write_failed(home, block);
    }
    if (store->state != STORE_READY) {
        block->state = BLOCK_OPEN;
        rb_store_wake(store);
        return;
    }
    bool unwanted = block->mark == 0 && block->redo_end == 0 && segment->erase_count == 0;
    if (segment->dead && unwanted) {
        block->state = BLOCK_OPEN;
        rb_store_block_drop(block);
        rb_store_wake(store);
    } else if (write) {
        block->state = BLOCK_OPEN;
        rb_store_block_changed(block);
        if (store->erase_count > 0 || block->redoing || segment->dead) {
            rb_store_wake(store);
        }
    } else {
        loaded(home, block);
    }
}

static uint32_t block_len(const struct store_segment *segment, uint32_t number)
{
    uint32_t end = number + 1 < segment->block_count ? segment->starts[number + 1] : segment->bytes;
    return end - segment->starts[number];
}

struct store_block *rb_store_load(struct store_segment *segment, uint32_t number, uint32_t offset,
                                  uint32_t bytes, bool whole)
{
    struct rb_msgstore_home *home = segment->store->home;
    struct store_block *before = segment->blocks[number];
    uint32_t len = block_len(segment, number);
    uint32_t begin = 0;
    uint32_t end = len;
    if (!whole) {
        uint32_t at = offset - segment->starts[number];
        uint32_t room = segment->shy ? 0 : STORE_WINDOW_BYTES;
        begin = at / RB_DISK_ALIGN * RB_DISK_ALIGN;
        uint64_t last = (uint64_t)at + bytes + RB_DISK_ALIGN - 1;
        last = last / RB_DISK_ALIGN * RB_DISK_ALIGN;
        last = last < (uint64_t)begin + room ? (uint64_t)begin + room : last;
        end = last < len ? (uint32_t)last : len;
    }
    struct store_block *block = rb_store_block_take(segment, number, begin, end - begin);
    if (block == NULL) {
        return NULL;
    }
    block->checked = rb_alloc(home->budget, (size_t)(block->cap / 8 + 63) / 64 * 8);
    if (block->checked == NULL) {
        rb_store_block_free(home, block);
        return NULL;
    }
    if (before != NULL) {
        rb_store_block_drop(before);
    }
    segment->blocks[number] = block;
    block->used = block->written = block->wanted = end;
    block->closed = true;
    block->whole = whole;
    block->state = BLOCK_LOAD_QUEUED;
    rb_list_append(&home->loads, &block->link);
    return block;
}

/* The block before or behind this one in the store: false, there is none. */
static bool neighbour(const struct store_block *block, bool next,
                      struct store_segment **ret_segment, uint32_t *ret_number)
{
    struct store_segment *segment = block->segment;
    const struct rb_msgstore *store = segment->store;
    if (next ? block->number + 1 < segment->block_count : block->number > 0) {
        *ret_segment = segment;
        *ret_number = next ? block->number + 1 : block->number - 1;
        return true;
    }
    if (segment->dead) {
        return false;
    }
    uint32_t at = rb_store_segment_number(store, segment);
    if (next ? at + 1 >= store->segment_count : at == 0) {
        return false;
    }
    segment = store->segments[next ? at + 1 : at - 1];
    *ret_segment = segment;
    *ret_number = next ? 0 : segment->block_count - 1;
    return segment->block_count > 0;
}

void rb_store_read_ahead(struct store_block *block)
{
    struct store_segment *segment;
    uint32_t number;
    block->unread = false;
    if (block->begin > 0 || block->segment->shy ||
        (neighbour(block, false, &segment, &number) && segment->blocks[number] == NULL)) {
        return;
    }
    if (neighbour(block, true, &segment, &number) && segment->blocks[number] == NULL &&
        !segment->missing && !segment->shy) {
        (void)rb_store_load(segment, number, 0, 0, true); /* without memory it has to do without */
    }
}

struct store_block *rb_store_need(struct store_segment *segment, uint32_t number,
                                  enum rb_err *ret_err)
{
    struct store_block *block = segment->blocks[number];
    *ret_err = RB_ERR_BUSY;
    if (segment->missing) {
        *ret_err = RB_ERR_MISSING;
        return NULL;
    }
    bool whole = block != NULL && block->begin == 0 && block->used == block_len(segment, number);
    if (block != NULL && block->failed && whole) {
        *ret_err = RB_ERR_IO;
        return NULL;
    }
    if (block == NULL || (!whole && !block->op.in_flight && block->state != BLOCK_LOAD_QUEUED)) {
        block = rb_store_load(segment, number, 0, 0, true);
        *ret_err = block == NULL ? RB_ERR_MEMORY : RB_ERR_BUSY;
    }
    if (block == NULL) {
        return NULL;
    }
    block->needed = true;
    if (!whole || block->state == BLOCK_LOADING || block->state == BLOCK_LOAD_QUEUED) {
        return NULL;
    }
    block->needed = false;
    return block;
}

/* ---- once a turn ---- */

void rb_store_evict(struct rb_msgstore_home *home)
{
    while (!rb_list_empty(&home->dying)) {
        rb_store_block_free(home, RB_CONTAINER(home->dying.next, struct store_block, link));
    }
    uint32_t tries = 0;
    struct rb_list *item;
    while (home->clean_bytes > home->options.cache_bytes && tries < 4 * LOOKED_AT_MAX &&
           (item = rb_list_pop(&home->clean)) != NULL) {
        struct store_block *block = RB_CONTAINER(item, struct store_block, link);
        bool new = block->loaded_turn == home->turn; /* whoever waits for it comes in this turn */
        if (block->touched || new) {
            block->touched = false;
            rb_list_append(&home->clean, &block->link);
            tries++;
        } else {
            rb_store_block_drop(block);
        }
    }
    home->turn++;
}

/* Behind more than half of what is allowed: what is in blocks that are not full has to go as well. */
static void push_partial(struct rb_msgstore_home *home)
{
    struct rb_list *item;
    while (home->behind_bytes > home->options.behind_bytes / 2 &&
           home->write_count < STORE_WRITES_MAX && rb_list_empty(&home->writes) &&
           (item = rb_list_pop(&home->partial)) != NULL) {
        struct rb_msgstore *store = RB_CONTAINER(item, struct rb_msgstore, partial_link);
        rb_store_segment_flush(store->open);
        rb_store_segment_flush(store->target);
    }
}

static void start_writes(struct rb_msgstore_home *home)
{
    if (home->retry_ns != 0 && rb_env_now(home->env) < home->retry_ns) {
        return;
    }
    home->retry_ns = 0;
    if (rb_list_empty(&home->writes) && home->write_count == 0) {
        home->disk_full = false; /* nothing is left to find out with */
    }
    push_partial(home);
    uint32_t looked = 0;
    struct rb_list *next;
    for (struct rb_list *at = home->writes.next; at != &home->writes; at = next) {
        next = at->next;
        if (home->write_count >= STORE_WRITES_MAX || looked++ >= LOOKED_AT_MAX ||
            !start_write(home, RB_CONTAINER(at, struct store_block, link))) {
            break;
        }
    }
}

void rb_store_pump(struct rb_msgstore_home *home)
{
    if (home->disk == NULL) {
        return;
    }
    start_writes(home);
    uint32_t looked = 0;
    struct rb_list *next;
    for (struct rb_list *at = home->loads.next; at != &home->loads; at = next) {
        next = at->next;
        if (home->load_count >= STORE_LOADS_MAX || looked++ >= LOOKED_AT_MAX ||
            !start_load(home, RB_CONTAINER(at, struct store_block, link))) {
            break;
        }
    }
}

/* ---- records ---- */

enum rb_err rb_store_record(struct store_block *block, uint32_t offset, uint64_t seq,
                            struct store_record *ret_record)
{
    struct store_segment *segment = block->segment;
    uint32_t at = offset - block->start;
    if (at < block->begin || at >= block->used) {
        return RB_ERR_FULL;
    }
    const uint8_t *record = block->bytes + (at - block->begin);
    ret_record->flags = 0;
    if (!rb_store_decode_record(rb_slice_of(record, block->used - at), ret_record)) {
        bool window = block->begin > 0 || block->used < block_len(segment, block->number);
        return window && !block->failed ? RB_ERR_FULL : RB_ERR_CORRUPT;
    }
    uint32_t bit = (at - block->begin) / 8;
    if (block->checked != NULL && (block->checked[bit / 64] >> bit % 64 & 1) == 0) {
        if (!rb_store_record_holds(
                record, rb_store_place_key(segment->store->seed, segment->serial, offset))) {
            ret_record->flags = 0;
            return RB_ERR_CORRUPT;
        }
        block->checked[bit / 64] |= UINT64_C(1) << bit % 64;
    }
    return ret_record->seq == seq && ret_record->flags == 0 ? RB_OK : RB_ERR_CORRUPT;
}

/* Place of `seq` in the ascending list. */
static uint32_t damaged_place(const struct rb_msgstore *store, uint64_t seq)
{
    uint32_t low = 0;
    uint32_t high = store->damaged_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (store->damaged[middle] < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool rb_store_is_damaged(const struct rb_msgstore *store, uint64_t seq)
{
    uint32_t at = damaged_place(store, seq);
    return at < store->damaged_count && store->damaged[at] == seq;
}

void rb_store_mark_damaged(struct rb_msgstore *store, uint64_t seq, const char *file,
                           uint32_t offset, const char *why)
{
    if (rb_store_is_damaged(store, seq)) {
        return;
    }
    if (store->damaged_count == store->damaged_cap) {
        uint32_t cap = store->damaged_cap == 0 ? 16 : store->damaged_cap * 2;
        uint64_t *grown = rb_realloc(store->home->budget, store->damaged,
                                     store->damaged_cap * sizeof(*grown), cap * sizeof(*grown));
        if (grown == NULL) {
            return; /* it is found again with the next read */
        }
        store->damaged = grown;
        store->damaged_cap = cap;
    }
    uint32_t at = damaged_place(store, seq);
    memmove(&store->damaged[at + 1], &store->damaged[at],
            (store->damaged_count - at) * sizeof(*store->damaged));
    store->damaged[at] = seq;
    store->damaged_count++;
    rb_store_damage(store, file, "message %llu at %u: %s", (unsigned long long)seq, offset, why);
}
