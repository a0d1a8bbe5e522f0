/* store_place.c - where messages are: the segments of a store by sequence, their blocks by offset, records in blocks.
 *
 * 1. The table of segments is ordered by first_seq; a sequence belongs to the last segment whose first_seq is not above it.
 * 2. Only store->open and store->target have a tail. Its bytes up to `written` are on disk, or on their way there up to
 *    flight_end, and do not change.
 * 3. behind_bytes is the sum of used - written of all blocks of file stores.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/store_inside.h"

#define MEMORY_BLOCK_MIN 1024u

static uint32_t pad(uint32_t bytes)
{
    return (bytes + RB_DISK_ALIGN - 1) / RB_DISK_ALIGN * RB_DISK_ALIGN;
}

/* ---- memory of blocks ---- */

static uint8_t *memory_take(struct rb_msgstore_home *home, uint32_t bytes)
{
    void *ptr = NULL;
    if (!rb_budget_take(home->budget, bytes)) {
        return NULL;
    }
    if (bytes != STORE_BLOCK_BYTES) {
        ptr = posix_memalign(&ptr, RB_DISK_ALIGN, bytes) == 0 ? ptr : NULL;
    } else if (home->spare_count > 0) {
        ptr = home->spare[--home->spare_count];
    } else if (home->disk != NULL) {
        ptr = rb_disk_alloc(home->disk, bytes);
    } else {
        ptr = posix_memalign(&ptr, RB_DISK_ALIGN, bytes) == 0 ? ptr : NULL;
    }
    if (ptr == NULL) {
        rb_budget_give(home->budget, bytes);
    }
    return ptr;
}

static void memory_give(struct rb_msgstore_home *home, uint8_t *ptr, uint32_t bytes)
{
    if (ptr == NULL) {
        return;
    }
    rb_budget_give(home->budget, bytes);
    if (bytes == STORE_BLOCK_BYTES && home->spare_count < STORE_SPARE_MAX) {
        home->spare[home->spare_count++] = ptr;
    } else if (bytes == STORE_BLOCK_BYTES && home->disk != NULL) {
        rb_disk_free(home->disk, ptr, bytes);
    } else {
        free(ptr);
    }
}

static size_t checked_bytes(uint32_t cap)
{
    return (size_t)(cap / 8 + 63) / 64 * sizeof(uint64_t);
}

struct store_block *rb_store_block_take(struct store_segment *segment, uint32_t number,
                                        uint32_t begin, uint32_t cap)
{
    struct rb_msgstore_home *home = segment->store->home;
    struct store_block *block = rb_alloc(home->budget, sizeof(*block));
    if (block == NULL) {
        return NULL;
    }
    block->bytes = memory_take(home, cap);
    if (block->bytes == NULL) {
        rb_free(home->budget, block, sizeof(*block));
        return NULL;
    }
    rb_list_init(&block->link);
    block->segment = segment;
    block->number = number;
    block->start = segment->starts[number];
    block->begin = begin;
    block->cap = cap;
    block->state = BLOCK_OPEN;
    rb_store_own(home, &block->op, STORE_OP_BLOCK);
    return block;
}

void rb_store_block_free(struct rb_msgstore_home *home, struct store_block *block)
{
    rb_list_remove(&block->link);
    memory_give(home, block->bytes, block->cap);
    if (block->checked != NULL) {
        rb_free(home->budget, block->checked, checked_bytes(block->cap));
    }
    rb_free(home->budget, block, sizeof(*block));
}

void rb_store_block_drop(struct store_block *block)
{
    struct store_segment *segment = block->segment;
    struct rb_msgstore *store = segment->store;
    struct rb_msgstore_home *home = store->home;
    rb_assert(!block->op.in_flight);
    if (block->state == BLOCK_CLEAN) {
        home->clean_bytes -= block->cap;
    }
    if (!store->memory && block->used > block->written) {
        rb_store_behind(segment, -(int64_t)(block->used - block->written));
    }
    if (segment->tail == block) {
        segment->tail = NULL;
    }
    if (segment->blocks[block->number] == block) {
        segment->blocks[block->number] = NULL;
    }
    bool marked = block->mark > 0;
    block->mark = 0;
    rb_store_end_waits(block);
    block->segment = NULL;
    rb_list_remove(&block->link);
    rb_list_append(&home->dying, &block->link);
    if (marked) {
        rb_store_checkpoint_block(store);
    }
}

/* ---- segments ---- */

enum rb_err rb_store_segment_create(struct rb_msgstore *store, uint64_t serial, uint64_t first_seq,
                                    struct store_segment **ret_segment)
{
    struct store_segment *segment = rb_alloc(store->home->budget, sizeof(*segment));
    if (segment == NULL) {
        return RB_ERR_MEMORY;
    }
    segment->store = store;
    segment->serial = serial;
    segment->first_seq = first_seq;
    rb_list_init(&segment->link);
    rb_list_init(&segment->candidate);
    rb_list_init(&segment->dead_link);
    rb_list_init(&segment->unsynced);
    rb_list_init(&segment->erasing);
    rb_store_own(store->home, &segment->op, STORE_OP_SEGMENT);
    *ret_segment = segment;
    return RB_OK;
}

void rb_store_segment_free(struct store_segment *segment)
{
    struct rb_msgstore_home *home = segment->store->home;
    for (uint32_t i = 0; i < segment->block_count; i++) {
        if (segment->blocks[i] != NULL) {
            rb_store_block_drop(segment->blocks[i]);
        }
    }
    rb_list_remove(&segment->link);
    rb_list_remove(&segment->candidate);
    rb_list_remove(&segment->dead_link);
    rb_list_remove(&segment->unsynced);
    rb_list_remove(&segment->erasing);
    segment->store->erase_count -= segment->erase_count;
    home->disk_bytes -= segment->file_bytes;
    rb_free(home->budget, segment->erases, segment->erase_cap * sizeof(*segment->erases));
    rb_free(home->budget, segment->starts, segment->block_cap * sizeof(*segment->starts));
    rb_free(home->budget, segment->blocks, segment->block_cap * sizeof(*segment->blocks));
    rb_free(home->budget, segment, sizeof(*segment));
}

enum rb_err rb_store_segment_reserve(struct rb_msgstore *store)
{
    if (store->segment_count < store->segment_cap) {
        return RB_OK;
    }
    uint32_t cap = store->segment_cap == 0 ? 4 : store->segment_cap * 2;
    struct store_segment **grown =
        rb_realloc(store->home->budget, store->segments, store->segment_cap * sizeof(*grown),
                   cap * sizeof(*grown));
    if (grown == NULL) {
        return RB_ERR_MEMORY;
    }
    store->segments = grown;
    store->segment_cap = cap;
    return RB_OK;
}

enum rb_err rb_store_segment_insert(struct rb_msgstore *store, uint32_t at,
                                    struct store_segment *segment)
{
    enum rb_err err = rb_store_segment_reserve(store);
    if (err != RB_OK) {
        return err;
    }
    memmove(&store->segments[at + 1], &store->segments[at],
            (store->segment_count - at) * sizeof(*store->segments));
    store->segments[at] = segment;
    store->segment_count++;
    store->memo_to = 0;
    return RB_OK;
}

/* Index of the last segment with first_seq <= seq; UINT32_MAX: none. */
static uint32_t segment_place(const struct rb_msgstore *store, uint64_t seq)
{
    uint32_t low = 0;
    uint32_t high = store->segment_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (store->segments[middle]->first_seq <= seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low - 1;
}

struct store_segment *rb_store_segment_of(struct rb_msgstore *store, uint64_t seq)
{
    if (seq >= store->memo_from && seq < store->memo_to) {
        return store->memo;
    }
    uint32_t at = segment_place(store, seq);
    if (at == UINT32_MAX) {
        return NULL;
    }
    store->memo = store->segments[at];
    store->memo_from = store->memo->first_seq;
    store->memo_to =
        at + 1 < store->segment_count ? store->segments[at + 1]->first_seq : UINT64_MAX;
    return store->memo;
}

uint32_t rb_store_segment_number(const struct rb_msgstore *store,
                                 const struct store_segment *segment)
{
    uint32_t at = segment_place(store, segment->first_seq);
    rb_assert(at != UINT32_MAX && store->segments[at] == segment);
    return at;
}

/* A block of a dead segment stays only for what must still be written: a checkpoint waits for it, or it is to be erased. */
static void shed_blocks(struct store_segment *segment)
{
    for (uint32_t i = 0; i < segment->block_count; i++) {
        struct store_block *block = segment->blocks[i];
        if (block != NULL && !block->op.in_flight && block->mark == 0 && block->redo_end == 0) {
            rb_store_block_drop(block);
        }
    }
}

void rb_store_segment_die(struct store_segment *segment)
{
    struct rb_msgstore *store = segment->store;
    uint32_t at = rb_store_segment_number(store, segment);
    store->segment_count--;
    memmove(&store->segments[at], &store->segments[at + 1],
            (store->segment_count - at) * sizeof(*store->segments));
    store->memo_to = 0;
    store->open = store->open == segment ? NULL : store->open;
    store->target = store->target == segment ? NULL : store->target;
    store->moving = store->moving == segment ? NULL : store->moving;
    rb_list_remove(&segment->candidate);
    segment->dead = segment->sealed = true;
    store->condemned_count -= segment->condemned;
    if (store->memory) {
        rb_store_segment_free(segment);
        return;
    }
    segment->tail = NULL;
    segment->bytes = pad(segment->bytes); /* what was never written of it is not missed */
    shed_blocks(segment);
    rb_list_append(&store->dead, &segment->dead_link);
    rb_store_wake(store);
}

void rb_store_segment_less(struct store_segment *segment, uint32_t cost)
{
    struct rb_msgstore *store = segment->store;
    cost = cost > segment->live_bytes ? segment->live_bytes : cost; /* a table that was forged */
    segment->live_bytes -= cost;
    segment->live_count -= segment->live_count > 0;
    store->live_bytes -= cost;
    bool used_up =
        store->memory && segment->tail != NULL && segment->tail->used > segment->tail->cap / 2;
    if (segment->live_count == 0 && (segment->sealed || used_up)) {
        rb_store_segment_die(segment);
    } else {
        rb_store_compact_consider(segment);
    }
}

/* ---- blocks ---- */

uint32_t rb_store_block_of(const struct store_segment *segment, uint32_t offset)
{
    uint32_t low = 1;
    uint32_t high = segment->block_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (segment->starts[middle] <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low - 1;
}

static enum rb_err grow_blocks(struct store_segment *segment)
{
    struct rb_budget *budget = segment->store->home->budget;
    uint32_t cap = segment->block_cap == 0 ? 1 : segment->block_cap * 2;
    uint32_t *starts = rb_realloc(budget, segment->starts, segment->block_cap * sizeof(*starts),
                                  cap * sizeof(*starts));
    if (starts == NULL) {
        return RB_ERR_MEMORY;
    }
    segment->starts = starts;
    struct store_block **blocks = rb_realloc(
        budget, segment->blocks, segment->block_cap * sizeof(*blocks), cap * sizeof(*blocks));
    if (blocks == NULL) { /* both arrays have the same room, for the budget's sake */
        segment->starts =
            rb_realloc(budget, starts, cap * sizeof(*starts), segment->block_cap * sizeof(*starts));
        return RB_ERR_MEMORY;
    }
    segment->blocks = blocks;
    segment->block_cap = cap;
    return RB_OK;
}

enum rb_err rb_store_block_begin(struct store_segment *segment, uint32_t cap,
                                 struct store_block **ret_block)
{
    if (segment->block_count == segment->block_cap && grow_blocks(segment) != RB_OK) {
        return RB_ERR_MEMORY;
    }
    uint32_t number = segment->block_count;
    segment->starts[number] = segment->bytes;
    segment->blocks[number] = NULL;
    if (cap > 0) {
        struct store_block *block = rb_store_block_take(segment, number, 0, cap);
        if (block == NULL) {
            return RB_ERR_MEMORY;
        }
        segment->blocks[number] = block;
        *ret_block = block;
    }
    segment->block_count++;
    return RB_OK;
}

/* Zeroes up to the next page, so that nothing that comes later shares one with what is written now. */
static void pad_block(struct store_block *block)
{
    struct store_segment *segment = block->segment;
    uint32_t end = pad(block->used);
    memset(block->bytes + block->used, 0, end - block->used);
    rb_store_behind(segment, end - block->used);
    block->used = end;
    segment->bytes = block->start + end;
    block->wanted = end;
}

void rb_store_block_close(struct store_block *block)
{
    struct store_segment *segment = block->segment;
    block->closed = true;
    segment->tail = segment->tail == block ? NULL : segment->tail;
    if (!segment->store->memory) {
        pad_block(block);
        rb_store_block_changed(block);
    }
}

void rb_store_segment_flush(struct store_segment *segment)
{
    struct store_block *block = segment == NULL ? NULL : segment->tail;
    if (block == NULL || segment->store->memory) {
        return;
    }
    if (block->cap - pad(block->used) < RB_DISK_ALIGN) {
        rb_store_block_close(block);
        return;
    }
    pad_block(block);
    rb_store_block_changed(block);
}

/* ---- records ---- */

uint32_t rb_store_put(struct store_segment *segment, const struct rb_message *message,
                      uint32_t flags)
{
    struct rb_msgstore *store = segment->store;
    struct store_block *block = segment->tail;
    uint32_t offset = block->start + block->used;
    rb_store_encode_record(
        block->bytes + block->used, message, flags, !store->memory,
        store->memory ? 0 : rb_store_place_key(store->seed, segment->serial, offset));
    return offset;
}

void rb_store_put_done(struct store_segment *segment, uint32_t offset, uint32_t bytes,
                       uint32_t cost)
{
    struct rb_msgstore *store = segment->store;
    struct store_block *block = segment->tail;
    if (!store->memory) {
        rb_store_behind(segment, bytes);
        if (block->state == BLOCK_CLEAN) {
            rb_list_remove(&block->link);
            store->home->clean_bytes -= block->cap;
            block->state = BLOCK_OPEN;
        }
        if (rb_list_empty(&store->partial_link)) {
            rb_list_append(&store->home->partial, &store->partial_link);
        }
    }
    block->used += bytes;
    segment->bytes = offset + bytes;
    segment->live_bytes += cost;
    segment->live_count++;
    store->live_bytes += cost;
}

static uint32_t power_below(uint64_t value, uint32_t least)
{
    uint32_t power = least;
    while (power < STORE_BLOCK_BYTES && (uint64_t)power * 2 <= value) {
        power *= 2;
    }
    return power;
}

/* A block at the end of the segment with room for `bytes`; a new file begins with its header. */
static enum rb_err begin_tail(struct store_segment *segment, uint32_t bytes, uint32_t cap)
{
    struct rb_msgstore *store = segment->store;
    struct store_block *block = NULL;
    uint32_t head = store->memory || segment->block_count > 0 ? 0 : STORE_SEGMENT_HEADER_BYTES;
    uint32_t need = bytes + head;
    cap = cap < need ? need : cap;
    cap = store->memory ? cap : pad(cap);
    enum rb_err err = rb_store_block_begin(segment, cap, &block);
    if (err != RB_OK) {
        return err;
    }
    if (head > 0) {
        struct store_segment_header header = { store->seed, segment->serial, segment->first_seq };
        rb_store_encode_segment(block->bytes, &header);
        block->used = segment->bytes = head;
        rb_store_behind(segment, head);
    }
    segment->tail = block;
    return RB_OK;
}

static void seal(struct store_segment *segment)
{
    struct rb_msgstore *store = segment->store;
    if (segment->tail != NULL) {
        rb_store_block_close(segment->tail);
    }
    segment->sealed = true;
    store->open = NULL;
    if (segment->live_count == 0) {
        rb_store_segment_die(segment);
    } else {
        rb_store_compact_consider(segment);
        rb_store_compact_small(store);
    }
}

static enum rb_err begin_segment(struct rb_msgstore *store)
{
    struct store_segment *segment;
    enum rb_err err =
        rb_store_segment_create(store, store->next_serial, store->last_seq + 1, &segment);
    if (err != RB_OK) {
        return err;
    }
    err = rb_store_segment_insert(store, store->segment_count, segment);
    if (err != RB_OK) {
        rb_store_segment_free(segment);
        return err;
    }
    segment->fresh = true;
    store->next_serial++;
    store->open = segment;
    return RB_OK;
}

enum rb_err rb_store_room(struct rb_msgstore *store, uint64_t seq, uint32_t bytes)
{
    struct store_segment *open = store->open;
    if (open != NULL && open->tail != NULL && open->tail->cap - open->tail->used < bytes) {
        if (store->memory) {
            seal(open);
        } else {
            rb_store_block_close(open->tail);
        }
    }
    open = store->open;
    if (open != NULL && open->tail == NULL && open->block_count > 0 &&
        (store->memory || (uint64_t)open->bytes + bytes > store->home->options.segment_bytes)) {
        seal(open);
    }
    if (store->open == NULL) {
        enum rb_err err = begin_segment(store);
        if (err != RB_OK) {
            return err;
        }
    }
    if (store->open->tail != NULL) {
        return RB_OK;
    }
    uint32_t cap = store->memory ? power_below(store->live_bytes / 4, MEMORY_BLOCK_MIN)
                                 : power_below(store->appended / 4, RB_DISK_ALIGN);
    return begin_tail(store->open, bytes, cap);
}

enum rb_err rb_store_room_in(struct store_segment *segment, uint32_t bytes)
{
    struct rb_msgstore *store = segment->store;
    if (segment->tail != NULL && segment->tail->cap - segment->tail->used >= bytes) {
        return RB_OK;
    }
    if (store->memory && segment->block_count > 0) {
        return RB_ERR_FULL;
    }
    if (segment->tail != NULL) {
        rb_store_block_close(segment->tail);
    }
    if (segment->block_count > 0 &&
        (uint64_t)segment->bytes + bytes > store->home->options.segment_bytes) {
        return RB_ERR_FULL;
    }
    return begin_tail(segment, bytes,
                      store->memory ? store->target_bytes
                                    : power_below(segment->bytes, 4 * RB_DISK_ALIGN));
}
