/* msgstore.c - the calls of msgstore.h (docs/msgstore.md): index and bodies kept together.
 *
 * 1. What the index says and where bodies are changes in one call, or not at all.
 * 2. A body is found by place; sequence and checksum must agree before anybody sees it.
 */
#include "ringbus/msgstore.h"

#include <string.h>

#include "storage/store_inside.h"

#define CURSOR_OF(cursor) ((struct rb_index_cursor *)(cursor))

static uint64_t counted(const struct rb_msgstore *store, const struct rb_message *message)
{
    uint64_t bytes = message->subject.len + message->payload.len;
    return store->memory ? bytes + 16 : bytes + 30 + (message->header_len > 0 ? 4 : 0);
}

/* ---- appending and removing ---- */

enum rb_err rb_msgstore_append(struct rb_msgstore *store, const struct rb_message *message)
{
    rb_assert(store->state == STORE_READY);
    if (message->seq <= store->last_seq || message->subject.len == 0 ||
        message->subject.len > RB_MSGSTORE_SUBJECT_MAX ||
        message->payload.len > RB_MSGSTORE_BYTES_MAX - message->subject.len ||
        message->header_len > message->payload.len) {
        return RB_ERR_INVALID;
    }
    uint32_t bytes = rb_store_record_bytes(message->subject.len, message->payload.len);
    struct store_segment *segment = store->open;
    if (segment == NULL || segment->tail == NULL ||
        segment->tail->cap - segment->tail->used < bytes) {
        enum rb_err err = rb_store_room(store, message->seq, bytes);
        if (err != RB_OK) {
            return err;
        }
        segment = store->open;
    }
    uint32_t offset = rb_store_put(segment, message, 0);
    uint64_t counts = counted(store, message);
    struct rb_index_message entry = { .seq = message->seq,
                                      .time_us = message->time_ns / 1000,
                                      .place = offset,
                                      .bytes = (uint32_t)counts,
                                      .subject = message->subject };
    enum rb_err err = rb_index_append(store->index, &entry);
    if (err != RB_OK) {
        return err; /* what was put is overwritten by the next one */
    }
    rb_store_put_done(segment, offset, bytes, rb_store_cost(store, counts));
    store->last_seq = message->seq;
    store->appended += bytes;
    store->changes++;
    return RB_OK;
}

void rb_msgstore_skip(struct rb_msgstore *store, uint64_t seq)
{
    if (seq > store->last_seq) {
        rb_index_skip(store->index, seq);
        store->last_seq = seq;
        store->changes++;
    }
}

void rb_msgstore_skip_at(struct rb_msgstore *store, uint64_t seq, uint64_t time_ns)
{
    if (seq > store->last_seq) {
        rb_msgstore_skip(store, seq);
        rb_index_newest(store->index, time_ns / 1000);
    }
}

static void remove_found(struct rb_msgstore *store, const struct rb_index_message *entry,
                         bool erase)
{
    struct store_segment *segment = rb_store_segment_of(store, entry->seq);
    if (store->removed != NULL) {
        struct rb_slice subject = { 0 };
        if (store->subjects) {
            subject = rb_index_subject_of(store->index, entry->seq, store->home->subject);
        }
        store->removed(store->owner, entry->seq, entry->bytes, subject);
    }
    bool removed = rb_index_remove(store->index, entry->seq);
    rb_assert(removed);
    store->changes++;
    if (segment == NULL) {
        return; /* a checkpoint that was forged */
    }
    if (erase && entry->place < segment->bytes) {
        rb_store_erase(segment, entry->place);
    }
    rb_store_segment_less(segment, rb_store_cost(store, entry->bytes));
}

bool rb_msgstore_remove(struct rb_msgstore *store, uint64_t seq, bool erase)
{
    struct rb_index_message entry;
    if (!rb_index_find(store->index, seq, &entry)) {
        return false;
    }
    entry.seq = seq;
    remove_found(store, &entry, erase);
    return true;
}

uint64_t rb_msgstore_purge_below(struct rb_msgstore *store, uint64_t seq)
{
    uint64_t count = 0;
    uint64_t at = 0;
    while ((at = rb_index_next(store->index, at + 1)) != 0 && at < seq) {
        count += rb_msgstore_remove(store, at, false);
    }
    if (seq > 0) {
        rb_msgstore_skip(store, seq - 1);
    }
    return count;
}

uint64_t rb_msgstore_purge(struct rb_msgstore *store, struct rb_slice filter, uint64_t below,
                           uint64_t keep)
{
    struct rb_index_cursor *cursor = NULL;
    bool all = filter.len == 0 || rb_slice_equal(filter, RB_S(">"));
    uint32_t filters = all ? 0 : 1;
    uint64_t left = rb_index_count(store->index, &filter, filters, 1);
    if (below > 0) {
        left -= rb_index_count(store->index, &filter, filters, below);
    }
    left = left > keep ? left - keep : 0;
    if (!all && left > 1 && rb_index_cursor_create(store->index, &filter, 1, &cursor) != RB_OK) {
        cursor = NULL; /* it takes longer without */
    }
    uint64_t count = 0;
    for (uint64_t at = 0; count < left; count++) {
        at = all              ? rb_index_next(store->index, at + 1)
             : cursor != NULL ? rb_index_cursor_next(cursor, at + 1)
                              : rb_index_first(store->index, &filter, 1, at + 1);
        if (at == 0 || !rb_msgstore_remove(store, at, false)) {
            break;
        }
    }
    if (cursor != NULL) {
        rb_index_cursor_destroy(cursor);
    }
    return count;
}

/* ---- one message ---- */

static bool waits_for(struct rb_msgstore *store, struct store_block *block,
                      struct rb_msgstore_wait *wait)
{
    if (block == NULL) {
        return false;
    }
    wait->store = store;
    wait->waiting = true;
    wait->next = block->waits;
    block->waits = wait;
    return true;
}

/* It cannot be read now (no memory, or others come first): he may ask again with the next poll. */
static void waits_for_turn(struct rb_msgstore *store, struct rb_msgstore_wait *wait)
{
    struct rb_msgstore_home *home = store->home;
    wait->store = store;
    wait->waiting = true;
    wait->next = NULL;
    *home->ready_end = wait;
    home->ready_end = &wait->next;
}

/* Somebody seems to read in order: the block before this one is in memory, or he begins with its first message. */
static bool reads_in_order(struct rb_msgstore *store, const struct store_segment *segment,
                           uint32_t number, uint32_t offset)
{
    if (segment->blocks[number] != NULL ||
        offset - segment->starts[number] <= STORE_SEGMENT_HEADER_BYTES) {
        return true;
    }
    return number > 0 && segment->blocks[number - 1] != NULL;
}

static enum rb_err load(struct rb_msgstore *store, struct store_segment *segment, uint32_t number,
                        const struct rb_index_message *entry, struct rb_msgstore_wait *wait)
{
    struct store_block *block = segment->blocks[number];
    if (wait == NULL || wait->waiting) {
        return RB_ERR_BUSY;
    }
    if (block != NULL && !block->whole && block->loaded_turn + 1 >= store->home->turn &&
        block->state == BLOCK_CLEAN) {
        block = NULL; /* somebody else waited for this part of it: not before he had his turn */
    } else if (block == NULL || (!block->op.in_flight &&
                                 block->state != BLOCK_LOAD_QUEUED)) { /* else: it is coming */
        bool whole = !segment->shy && reads_in_order(store, segment, number, entry->place);
        block = rb_store_load(segment, number, entry->place, rb_store_cost(store, entry->bytes) + 8,
                              whole);
    }
    if (!waits_for(store, block, wait)) {
        waits_for_turn(store, wait);
    }
    return RB_ERR_BUSY;
}

static enum rb_err damaged(struct rb_msgstore *store, const struct store_segment *segment,
                           const struct rb_index_message *entry, const char *why)
{
    char file[STORE_FILE_BYTES] = "";
    if (segment != NULL) {
        rb_store_serial_name(file, segment->serial);
    }
    rb_store_mark_damaged(store, entry->seq, segment == NULL ? NULL : file, entry->place, why);
    return RB_ERR_CORRUPT;
}

static enum rb_err get_from(struct rb_msgstore *store, struct store_segment *segment,
                            const struct rb_index_message *entry, struct rb_msgstore_wait *wait,
                            struct store_record *ret_record)
{
    uint32_t number = rb_store_block_of(segment, entry->place);
    struct store_block *block = segment->blocks[number];
    if (block == NULL || block->state == BLOCK_LOADING || block->state == BLOCK_LOAD_QUEUED) {
        return segment->missing ? RB_ERR_CORRUPT : load(store, segment, number, entry, wait);
    }
    block->touched = true;
    if (block->failed) {
        uint32_t at = entry->place - block->start;
        bool mine = at >= block->begin && at < block->used;
        return mine && !block->whole ? damaged(store, segment, entry, "it cannot be read")
                                     : load(store, segment, number, entry, wait);
    }
    if (block->unread) {
        rb_store_read_ahead(block);
    }
    enum rb_err err = rb_store_record(block, entry->place, entry->seq, ret_record);
    if (err == RB_ERR_FULL) {
        return load(store, segment, number, entry, wait);
    }
    if (err == RB_ERR_CORRUPT && ret_record->flags == 0) {
        return damaged(store, segment, entry, "its checksum does not hold");
    }
    return err;
}

enum rb_err rb_msgstore_get(struct rb_msgstore *store, uint64_t seq, struct rb_msgstore_wait *wait,
                            struct rb_message *ret_message)
{
    struct rb_index_message entry;
    struct store_record record = { 0 };
    if (!rb_index_find(store->index, seq, &entry)) {
        return RB_ERR_MISSING;
    }
    entry.seq = seq;
    if (store->damaged_count > 0 && rb_store_is_damaged(store, seq)) {
        return RB_ERR_CORRUPT;
    }
    struct store_segment *segment = rb_store_segment_of(store, seq);
    if (segment == NULL || entry.place >= segment->bytes) {
        return damaged(store, segment, &entry, "it is where no file is");
    }
    enum rb_err err = get_from(store, segment, &entry, wait, &record);
    if (err != RB_OK) {
        return err;
    }
    *ret_message = (struct rb_message){ .seq = seq,
                                        .time_ns = record.time_ns,
                                        .subject = record.subject,
                                        .payload = record.payload,
                                        .header_len = record.header_len };
    return RB_OK;
}

bool rb_msgstore_find(const struct rb_msgstore *store, uint64_t seq,
                      struct rb_msgstore_entry *ret_entry)
{
    struct rb_index_message entry;
    if (!rb_index_find(store->index, seq, &entry)) {
        return false;
    }
    *ret_entry = (struct rb_msgstore_entry){ entry.time_us * 1000, entry.bytes };
    return true;
}

struct rb_slice rb_msgstore_subject_of(const struct rb_msgstore *store, uint64_t seq, uint8_t *out)
{
    return rb_index_subject_of(store->index, seq, out);
}

/* ---- questions that the index answers ---- */

void rb_msgstore_state(const struct rb_msgstore *store, struct rb_msgstore_state *ret_state)
{
    rb_index_state(store->index, ret_state);
}

uint64_t rb_msgstore_next(const struct rb_msgstore *store, uint64_t seq)
{
    return rb_index_next(store->index, seq);
}

uint64_t rb_msgstore_next_gap(const struct rb_msgstore *store, uint64_t seq)
{
    return rb_index_next_gap(store->index, seq);
}

uint64_t rb_msgstore_at_time(const struct rb_msgstore *store, uint64_t time_ns)
{
    return rb_index_at_time(store->index, time_ns / 1000);
}

bool rb_msgstore_subject(const struct rb_msgstore *store, struct rb_slice subject,
                         struct rb_msgstore_subject *ret_subject)
{
    return rb_index_subject(store->index, subject, ret_subject);
}

bool rb_msgstore_next_subject(const struct rb_msgstore *store, struct rb_slice filter,
                              struct rb_msgstore_subjects *at,
                              struct rb_msgstore_subject *ret_subject)
{
    return rb_index_next_subject(store->index, filter, at, ret_subject);
}

uint64_t rb_msgstore_count(const struct rb_msgstore *store, const struct rb_slice *filters,
                           uint32_t filter_count, uint64_t from)
{
    return rb_index_count(store->index, filters, filter_count, from);
}

uint64_t rb_msgstore_subject_count(const struct rb_msgstore *store, struct rb_slice filter)
{
    return rb_index_subject_count(store->index, filter);
}

uint64_t rb_msgstore_last(const struct rb_msgstore *store, const struct rb_slice *filters,
                          uint32_t filter_count, uint64_t up_to)
{
    return rb_index_last(store->index, filters, filter_count, up_to);
}

uint64_t rb_msgstore_first(const struct rb_msgstore *store, const struct rb_slice *filters,
                           uint32_t filter_count, uint64_t from)
{
    return rb_index_first(store->index, filters, filter_count, from);
}

enum rb_err rb_msgstore_cursor_create(struct rb_msgstore *store, const struct rb_slice *filters,
                                      uint32_t filter_count, struct rb_msgstore_cursor **ret_cursor)
{
    struct rb_index_cursor *cursor;
    enum rb_err err = rb_index_cursor_create(store->index, filters, filter_count, &cursor);
    if (err == RB_OK) {
        *ret_cursor = (struct rb_msgstore_cursor *)cursor;
    }
    return err;
}

void rb_msgstore_cursor_destroy(struct rb_msgstore_cursor *cursor)
{
    rb_index_cursor_destroy(CURSOR_OF(cursor));
}

uint64_t rb_msgstore_cursor_next(struct rb_msgstore_cursor *cursor, uint64_t from)
{
    return rb_index_cursor_next(CURSOR_OF(cursor), from);
}

void rb_msgstore_cursor_hint(struct rb_msgstore_cursor *cursor, uint64_t seq)
{
    rb_index_cursor_hint(CURSOR_OF(cursor), seq);
}
