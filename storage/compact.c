/* compact.c - gives space back: sparse segments are emptied, erased messages overwritten, files removed that nobody refers to.
 *
 * 1. Compaction moves the messages of a segment, in order, into its left neighbour in the table: one that was begun for it, or
 *    the last one if there is room. After each step a message is in exactly one of them, and the border is first_seq.
 * 2. What was moved is in memory first, like an appended message; the old file stays until no checkpoint refers to it.
 * 3. A file goes when both checkpoints on disk, and the one being written, are newer than the last that referred to it.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/store_inside.h"

#define SLACK_BYTES (64u << 10) /* a file with less to gain is left alone */
#define TINY_BYTES (16u << 10)  /* memory: a block that is worth joining with others */
#define SMALL_RUN 8u            /* so many small files in a row become one */

/* ---- what is worth it ---- */

static bool sparse(const struct store_segment *segment)
{
    const struct rb_msgstore *store = segment->store;
    /* the oldest segment often empties by itself, in order */
    uint64_t times = store->segments[0] == segment ? 8 : 2;
    if (store->memory) {
        uint32_t cap = segment->blocks[0]->cap;
        return segment->live_bytes * times < cap && cap > 2048;
    }
    return segment->live_bytes * times < segment->bytes &&
           segment->bytes - segment->live_bytes >= SLACK_BYTES;
}

static bool small(const struct store_segment *segment)
{
    const struct rb_msgstore *store = segment->store;
    return store->memory ? segment->blocks[0]->cap <= TINY_BYTES
                         : segment->bytes <= store->home->options.segment_bytes / 8;
}

static void choose(struct store_segment *segment)
{
    if (rb_list_empty(&segment->candidate)) {
        rb_list_append(&segment->store->candidates, &segment->candidate);
        rb_store_wake(segment->store);
    }
}

void rb_store_compact_consider(struct store_segment *segment)
{
    if (segment->sealed && !segment->dead && !segment->missing &&
        segment != segment->store->target && (segment->condemned || sparse(segment))) {
        choose(segment);
    }
}

void rb_store_compact_small(struct rb_msgstore *store)
{
    uint32_t run = 0;
    uint32_t at = store->segment_count;
    while (at > 0 && (small(store->segments[at - 1]) || store->segments[at - 1] == store->open)) {
        at--;
        run++;
    }
    if (run >= SMALL_RUN && !store->memory && store->segments[at]->sealed &&
        !store->segments[at]->missing) {
        choose(store->segments[at]);
    }
}

/* ---- moving ---- */

static void close_target(struct rb_msgstore *store)
{
    struct store_segment *target = store->target;
    store->target = NULL;
    if (target != NULL && target->tail != NULL) {
        rb_store_block_close(target->tail);
    }
}

/* The left neighbour, when it can take all that is in `from`. */
static bool use_neighbour(struct rb_msgstore *store, struct store_segment *from)
{
    uint32_t at = rb_store_segment_number(store, from);
    struct store_segment *left = at == 0 ? NULL : store->segments[at - 1];
    if (left == NULL || !left->fresh || left->condemned || left->missing || left == store->open) {
        return false;
    }
    if (store->memory) {
        return left == store->target && left->tail != NULL &&
               left->tail->cap - left->tail->used >= from->live_bytes;
    }
    if ((uint64_t)left->bytes + from->live_bytes + STORE_BLOCK_BYTES >
        store->home->options.segment_bytes) {
        return false;
    }
    if (store->target != left) {
        close_target(store);
        store->target = left;
        rb_list_remove(&left->candidate);
    }
    return true;
}

/* Together with the sparse ones that follow, as many as one block can take. */
static uint32_t bytes_together(const struct rb_msgstore *store, const struct store_segment *from)
{
    uint64_t sum = 0;
    for (uint32_t at = rb_store_segment_number(store, from); at < store->segment_count; at++) {
        const struct store_segment *segment = store->segments[at];
        if (segment != from && (!segment->sealed || !(sparse(segment) || small(segment)) ||
                                sum + segment->live_bytes > STORE_BLOCK_BYTES)) {
            break;
        }
        sum += segment->live_bytes;
    }
    return (uint32_t)sum;
}

/* A new segment for what is in `from`; the caller puts it into the table, which has room, with its first message. */
static enum rb_err begin_target(struct rb_msgstore *store, struct store_segment *from,
                                uint32_t bytes, struct store_segment **ret_target)
{
    struct store_segment *target;
    close_target(store);
    enum rb_err err = rb_store_segment_reserve(store);
    if (err == RB_OK) {
        err = rb_store_segment_create(store, store->next_serial, from->first_seq, &target);
    }
    if (err != RB_OK) {
        return err;
    }
    target->fresh = target->sealed = true;
    store->target_bytes = bytes_together(store, from);
    err = rb_store_room_in(target, bytes);
    if (err != RB_OK) {
        rb_store_segment_free(target);
        return err;
    }
    store->next_serial++;
    *ret_target = target;
    return RB_OK;
}

/* What follows joins in while there is room. */
static void go_on(struct rb_msgstore *store, uint32_t at)
{
    struct store_segment *target = store->target;
    struct store_segment *next = at < store->segment_count ? store->segments[at] : NULL;
    if (target == NULL || next == NULL || !next->sealed || next->missing ||
        !(sparse(next) || small(next))) {
        return;
    }
    if (store->memory
            ? target->tail != NULL && target->tail->cap - target->tail->used >= next->live_bytes
            : (uint64_t)target->bytes + next->live_bytes + STORE_BLOCK_BYTES <=
                  store->home->options.segment_bytes) {
        choose(next);
    }
}

/* The segment holds nothing any more, or nothing that can be moved now. */
static void stop_moving(struct rb_msgstore *store)
{
    if (store->moving != NULL) {
        rb_list_remove(&store->moving->candidate);
        store->moving = NULL;
    }
}

/* The message as it is to be written again; a body that cannot be read leaves a record that says so. */
static void message_of(struct rb_msgstore *store, uint64_t seq, uint32_t offset, enum rb_err err,
                       const struct store_record *record, struct rb_message *ret_message,
                       uint32_t *ret_flags)
{
    struct store_segment *from = store->moving;
    if (err == RB_OK) {
        *ret_flags = 0;
        *ret_message = (struct rb_message){ .seq = seq,
                                            .time_ns = record->time_ns,
                                            .subject = record->subject,
                                            .payload = record->payload,
                                            .header_len = record->header_len };
        return;
    }
    if (record->flags == 0) {
        char file[STORE_FILE_BYTES];
        rb_store_serial_name(file, from->serial);
        rb_store_mark_damaged(store, seq, file, offset, "its checksum does not hold");
    }
    *ret_flags = STORE_RECORD_LOST;
    *ret_message = (struct rb_message){ .seq = seq };
}

/* Moves one message; the border between the two segments follows. */
static enum rb_err move(struct rb_msgstore *store, struct store_segment *from,
                        const struct rb_index_message *entry, const struct rb_message *message,
                        uint32_t flags, uint64_t below)
{
    struct store_segment *begun = NULL;
    struct store_segment *target = store->target;
    uint32_t bytes = rb_store_record_bytes(message->subject.len, message->payload.len);
    uint32_t cost = rb_store_cost(store, entry->bytes);
    uint32_t at = rb_store_segment_number(store, from);
    bool left = at > 0 && target != NULL && store->segments[at - 1] == target;
    enum rb_err err = left ? rb_store_room_in(target, bytes) : RB_ERR_FULL;
    if (err == RB_ERR_FULL) {
        err = begin_target(store, from, bytes, &begun);
        target = begun;
    }
    if (err != RB_OK) {
        return err;
    }
    uint32_t offset = rb_store_put(target, message, flags);
    rb_index_set_place(store->index, entry->seq, offset);
    rb_store_put_done(target, offset, bytes, cost);
    store->live_bytes -= cost;
    from->live_bytes -= cost > from->live_bytes ? from->live_bytes : cost;
    from->live_count -= from->live_count > 0;
    uint64_t next = rb_index_next(store->index, entry->seq + 1);
    if (next != 0 && next < below) {
        from->first_seq = next;
        store->memo_to = 0;
    } else {
        rb_store_segment_die(from);
    }
    if (begun != NULL) {
        store->target = begun;
        err = rb_store_segment_insert(store, at, begun); /* reserved above */
        rb_assert(err == RB_OK);
    }
    return RB_OK;
}

/* Moves the first message of store->moving. *ret_again: look again in the next poll, else something wakes the store. */
static bool move_first(struct rb_msgstore *store, bool *ret_again)
{
    struct store_segment *from = store->moving;
    uint32_t at = rb_store_segment_number(store, from);
    uint64_t below =
        at + 1 < store->segment_count ? store->segments[at + 1]->first_seq : UINT64_MAX;
    struct rb_index_message entry;
    uint64_t seq = rb_index_next(store->index, from->first_seq);
    if (seq == 0 || seq >= below || !rb_index_find(store->index, seq, &entry)) {
        rb_store_segment_die(from);
        go_on(store, at);
        return true;
    }
    struct store_record record = { 0 };
    enum rb_err err = RB_ERR_CORRUPT;
    if (entry.place < from->bytes) {
        uint32_t number = rb_store_block_of(from, entry.place);
        struct store_block *block =
            store->memory ? from->blocks[0] : rb_store_need(from, number, &err);
        if (block != NULL) {
            err = rb_store_record(block, entry.place, seq, &record);
        } else if (err == RB_ERR_BUSY || err == RB_ERR_MEMORY) {
            *ret_again = err == RB_ERR_MEMORY;
            return false;
        } else if (!from->condemned) {
            stop_moving(store); /* what can be read of it can be read where it is */
            return true;
        }
    }
    struct rb_message message;
    uint32_t flags;
    message_of(store, seq, entry.place, err, &record, &message, &flags);
    uint32_t bytes = rb_store_record_bytes(message.subject.len, message.payload.len);
    if (move(store, from, &entry, &message, flags, below) != RB_OK) {
        *ret_again = true; /* memory */
        return false;
    }
    store->home->work_bytes -= bytes > store->home->work_bytes ? store->home->work_bytes : bytes;
    if (store->moving == NULL) {
        at = store->target == NULL ? 0 : rb_store_segment_number(store, store->target) + 1;
        go_on(store, at);
    }
    return true;
}

bool rb_store_compact_step(struct rb_msgstore *store)
{
    struct rb_msgstore_home *home = store->home;
    bool again = false;
    while (store->moving != NULL || !rb_list_empty(&store->candidates)) {
        if (home->work_bytes == 0) {
            return true;
        }
        if (!store->memory && home->behind_bytes > home->options.behind_bytes / 2) {
            return true;
        }
        if (store->moving == NULL) {
            store->moving =
                RB_CONTAINER(rb_list_pop(&store->candidates), struct store_segment, candidate);
            if (store->moving == store->target) {
                close_target(store);
            }
            (void)use_neighbour(store, store->moving);
        }
        if (!move_first(store, &again)) {
            return again;
        }
    }
    return false;
}

/* ---- erasing ---- */

void rb_store_erase(struct store_segment *segment, uint32_t offset)
{
    struct rb_msgstore *store = segment->store;
    if (store->memory) {
        struct store_block *block = segment->blocks[0];
        rb_store_erase_record(block->bytes + (offset - block->start), false, 0);
        return;
    }
    if (segment->erase_count == segment->erase_cap) {
        uint32_t cap = segment->erase_cap == 0 ? 4 : segment->erase_cap * 2;
        uint32_t *grown = rb_realloc(store->home->budget, segment->erases,
                                     segment->erase_cap * sizeof(*grown), cap * sizeof(*grown));
        if (grown == NULL) {
            char file[STORE_FILE_BYTES];
            rb_store_serial_name(file, segment->serial);
            rb_store_damage(store, file, "no memory to erase the message at %u", offset);
            return;
        }
        segment->erases = grown;
        segment->erase_cap = cap;
    }
    segment->erases[segment->erase_count++] = offset;
    store->erase_count++;
    if (rb_list_empty(&segment->erasing)) {
        rb_list_append(&store->erasing, &segment->erasing);
    }
    rb_store_wake(store);
}

static void erase_in(struct store_block *block, uint32_t offset)
{
    struct store_segment *segment = block->segment;
    struct rb_msgstore *store = segment->store;
    struct store_record record;
    uint32_t at = offset - block->start;
    if (!rb_store_decode_record(rb_slice_of(block->bytes + at, block->used - at), &record)) {
        return; /* damaged: nobody knows how long it was */
    }
    rb_store_erase_record(block->bytes + at, true,
                          rb_store_place_key(store->seed, segment->serial, offset));
    if (at >= block->written) {
        return;
    }
    uint32_t begin = at / RB_DISK_ALIGN * RB_DISK_ALIGN;
    uint32_t end = (at + record.bytes + RB_DISK_ALIGN - 1) / RB_DISK_ALIGN * RB_DISK_ALIGN;
    end = end > block->written ? block->written : end;
    store->redo_count += block->redo_end == 0;
    block->redo = block->redo_end == 0 || begin < block->redo ? begin : block->redo;
    block->redo_end = end > block->redo_end ? end : block->redo_end;
    rb_store_block_changed(block);
}

/* False: it has to wait. */
static bool erase_last(struct store_segment *segment, bool *ret_again)
{
    uint32_t offset = segment->erases[segment->erase_count - 1];
    uint32_t number = rb_store_block_of(segment, offset);
    struct store_block *block = segment->blocks[number];
    if (block != NULL || offset < segment->file_bytes) {
        enum rb_err err;
        block = rb_store_need(segment, number, &err);
        if (block == NULL && (err == RB_ERR_BUSY || err == RB_ERR_MEMORY)) {
            *ret_again = *ret_again || err == RB_ERR_MEMORY;
            return false;
        }
    }
    if (block != NULL && block->op.in_flight) {
        return false;
    }
    if (block != NULL) {
        erase_in(block, offset);
    }
    segment->erase_count--;
    segment->store->erase_count--;
    return true;
}

bool rb_store_erase_step(struct rb_msgstore *store)
{
    bool again = false;
    struct rb_list *next;
    for (struct rb_list *at = store->erasing.next; at != &store->erasing; at = next) {
        struct store_segment *segment = RB_CONTAINER(at, struct store_segment, erasing);
        next = at->next;
        while (segment->erase_count > 0 && erase_last(segment, &again)) {
        }
        if (segment->erase_count == 0) {
            rb_list_remove(&segment->erasing);
            if (segment->dead) {
                rb_store_wake(store);
            }
        }
    }
    return again;
}

/* ---- files that nobody refers to ---- */

static bool unreferred(const struct rb_msgstore *store, const struct store_segment *segment)
{
    bool good = false;
    for (int i = 0; i < 2; i++) {
        if (store->slots[i].generation > 0 && store->slots[i].generation <= segment->referred) {
            return false;
        }
        good = good || store->slots[i].generation > 0;
    }
    return segment->referred == 0 || good;
}

/* True: to be tried again. */
static bool remove_file(struct rb_msgstore *store, struct store_segment *segment)
{
    char file[STORE_FILE_BYTES];
    if (rb_env_now(store->home->env) < store->retry_ns) {
        return true;
    }
    rb_store_file_close(segment);
    rb_store_serial_name(file, segment->serial);
    rb_store_file_name(store, segment->name, file);
    if (rb_disk_remove(store->home->disk, &segment->op, segment->name) != RB_OK) {
        return true;
    }
    segment->busy = SEGMENT_REMOVING;
    segment->op_count++;
    store->op_count++;
    return false;
}

bool rb_store_dead_step(struct rb_msgstore *store)
{
    bool again = false;
    struct rb_list *next;
    for (struct rb_list *at = store->dead.next; at != &store->dead; at = next) {
        struct store_segment *segment = RB_CONTAINER(at, struct store_segment, dead_link);
        next = at->next;
        bool held = segment->op_count > 0 || segment->erase_count > 0;
        for (uint32_t i = 0; i < segment->block_count && !held; i++) {
            struct store_block *block = segment->blocks[i];
            if (block != NULL && block->mark == 0 && block->redo_end == 0) {
                rb_store_block_drop(block);
            } else {
                held = block != NULL;
            }
        }
        if (held || !unreferred(store, segment)) {
            continue;
        }
        if (segment->created && !segment->missing) {
            again = remove_file(store, segment) || again;
        } else {
            rb_store_file_close(segment);
            rb_store_segment_free(segment);
        }
    }
    return again;
}
