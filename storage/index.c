/* index.c - the index of one store: sequences and subjects kept in step.
 *
 *   append, remove --> subjects.c (leaf, postings) + sequences.c (entry with the leaf's handle), blocks of both from pages.c
 *
 * 1. Every message has an entry in the table and a place in the postings of the leaf which that entry names.
 * 2. An append reserves all blocks it may need before it changes anything, so it happens wholly or not at all; removing, skipping
 *    and moving need none.
 */
#include "storage/index.h"

#include "storage/index_inside.h"

enum rb_err rb_index_create(struct rb_budget *budget, struct rb_index **ret_index)
{
    struct rb_index *index = rb_alloc(budget, sizeof(*index));
    if (index == NULL) {
        return RB_ERR_MEMORY;
    }
    enum rb_err err = rb_pages_init(&index->pages, budget);
    if (err == RB_OK) {
        err = rb_pages_reserve(&index->pages, 1);
    }
    if (err != RB_OK) {
        rb_pages_deinit(&index->pages);
        rb_free(budget, index, sizeof(*index));
        return err;
    }
    rb_subjects_create(&index->pages, &index->subjects);
    *ret_index = index;
    return RB_OK;
}

void rb_index_destroy(struct rb_index *index)
{
    if (index == NULL) {
        return;
    }
    struct rb_budget *budget = index->pages.budget;
    rb_pages_deinit(&index->pages);
    rb_free(budget, index, sizeof(*index));
}

uint64_t rb_index_bytes(const struct rb_index *index)
{
    return sizeof(*index) + rb_pages_bytes(&index->pages);
}

/* The leaf's messages (one or two) are told where it is now. */
static void rename_leaf(struct rb_index *index, uint32_t leaf)
{
    struct rb_subjects_leaf l;
    rb_subjects_leaf(&index->pages, leaf, &l);
    struct rb_sequences_entry *entry = rb_sequences_edit(&index->pages, &index->table, l.first);
    rb_assert(entry != NULL);
    entry->leaf = leaf;
    if (l.count > 1) {
        entry = rb_sequences_edit(&index->pages, &index->table, l.last);
        rb_assert(entry != NULL);
        entry->leaf = leaf;
    }
}

enum rb_err rb_index_append(struct rb_index *index, const struct rb_index_message *message)
{
    struct rb_pages *pages = &index->pages;
    if (message->seq <= index->table.last || message->seq == UINT64_MAX ||
        message->subject.len == 0 || message->subject.len > RB_MSGSTORE_SUBJECT_MAX) {
        return RB_ERR_INVALID;
    }
    struct rb_subjects_stop stop;
    uint32_t leaf = rb_subjects_search(pages, &index->subjects, message->subject, &stop);
    uint32_t needs = rb_subjects_needs(pages, leaf, message->subject.len) +
                     rb_sequences_needs(pages, &index->table);
    enum rb_err err = rb_pages_reserve(pages, needs);
    if (err != RB_OK) {
        return err;
    }
    if (leaf == 0) {
        leaf = rb_subjects_insert(pages, &index->subjects, message->subject, stop, message->seq);
    } else {
        struct rb_subjects_leaf before;
        rb_subjects_leaf(pages, leaf, &before);
        uint32_t moved = rb_subjects_append(pages, &index->subjects, leaf, message->seq);
        if (moved != leaf) { /* it had one message */
            struct rb_sequences_entry *entry =
                rb_sequences_edit(pages, &index->table, before.first);
            rb_assert(entry != NULL);
            entry->leaf = leaf = moved;
            index->epoch++;
        }
    }
    struct rb_sequences_entry entry = { .place = message->place,
                                        .leaf = leaf,
                                        .bytes = message->bytes };
    rb_sequences_append(pages, &index->table, message->seq, &entry, message->time_us);
    index->message_bytes += message->bytes;
    return RB_OK;
}

void rb_index_skip(struct rb_index *index, uint64_t seq)
{
    if (seq > index->table.last) {
        index->table.last = seq < UINT64_MAX ? seq : UINT64_MAX - 1;
    }
}

void rb_index_newest(struct rb_index *index, uint64_t time_us)
{
    if (time_us > index->table.newest_us) {
        index->table.newest_us = time_us;
    }
}

bool rb_index_remove(struct rb_index *index, uint64_t seq)
{
    const struct rb_sequences_entry *entry = rb_sequences_find(&index->pages, &index->table, seq);
    if (entry == NULL) {
        return false;
    }
    index->message_bytes -= entry->bytes;
    bool gone;
    uint32_t moved = rb_subjects_remove(&index->pages, &index->subjects, entry->leaf, seq, &gone);
    if (moved != 0) {
        rename_leaf(index, moved);
    }
    index->epoch += gone;
    rb_sequences_remove(&index->pages, &index->table, seq);
    return true;
}

bool rb_index_find(const struct rb_index *index, uint64_t seq, struct rb_index_message *ret_message)
{
    const struct rb_sequences_entry *entry = rb_sequences_find(&index->pages, &index->table, seq);
    if (entry == NULL) {
        return false;
    }
    ret_message->seq = seq;
    ret_message->time_us = rb_sequences_time_us(&index->pages, &index->table, seq);
    ret_message->place = entry->place;
    ret_message->bytes = entry->bytes;
    return true;
}

void rb_index_set_place(struct rb_index *index, uint64_t seq, uint32_t place)
{
    struct rb_sequences_entry *entry = rb_sequences_edit(&index->pages, &index->table, seq);
    if (entry != NULL) {
        entry->place = place;
    }
}

void rb_index_state(const struct rb_index *index, struct rb_msgstore_state *ret_state)
{
    const struct rb_sequences *table = &index->table;
    *ret_state = (struct rb_msgstore_state){
        .messages = table->count,
        .bytes = index->message_bytes,
        .first_seq = table->last + 1,
        .last_seq = table->last,
        .last_ns = table->newest_us * 1000,
        .subjects = index->subjects.count,
    };
    if (table->count > 0) {
        ret_state->first_seq = table->first;
        ret_state->first_ns = rb_sequences_time_us(&index->pages, table, table->first) * 1000;
        ret_state->deleted = table->last - table->first + 1 - table->count;
    }
}

uint64_t rb_index_next(const struct rb_index *index, uint64_t seq)
{
    return rb_sequences_next(&index->pages, &index->table, seq);
}

uint64_t rb_index_next_gap(const struct rb_index *index, uint64_t seq)
{
    return rb_sequences_gap(&index->pages, &index->table, seq);
}

uint64_t rb_index_at_time(const struct rb_index *index, uint64_t time_us)
{
    return rb_sequences_at_time(&index->pages, &index->table, time_us);
}

struct rb_slice rb_index_subject_of(const struct rb_index *index, uint64_t seq, uint8_t *out)
{
    const struct rb_sequences_entry *entry = rb_sequences_find(&index->pages, &index->table, seq);
    if (entry == NULL) {
        return rb_slice_of(out, 0);
    }
    return rb_subjects_name(&index->pages, entry->leaf, out);
}
