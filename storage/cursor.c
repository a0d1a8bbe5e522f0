/* cursor.c - a place to go on from in the messages that match some filters.
 *
 *   known range [from, to]: `found` holds every sequence in it that matched when it was made, ascending
 *
 * 1. Sequences are appended at the end and never used again, and a message's subject never changes. So what was found stays right
 *    whatever happens, but that messages go: each is looked up before it is given. Only what lies beyond `to` is unknown.
 * 2. Beyond the range, some messages are looked at one by one (many match, or few are new); when none of these matches, the leaves
 *    that match are walked and the next BATCH sequences of theirs become the range. Both are exact; a walk skips deserts.
 * 3. A verdict on a leaf is remembered while no leaf's handle was given up since (index->epoch). A hint is such a verdict.
 * 4. When the filters match as many messages as there are, and each is counted once, every message so far matches, for ever.
 * 5. Without memory for a range every answer is still right (rb_index_first).
 */
#include <stdlib.h>
#include <string.h>

#include "storage/index_inside.h"
#include "storage/postings.h"

#define BATCH 4096u    /* sequences kept of one walk; twice as many while it runs */
#define VERDICTS 64u   /* a power of two */
#define LOOK_MIN 8u    /* messages looked at before the leaves are walked */
#define LOOK_MAX 4096u /* at most */
#define PLAIN_MAX 4u   /* filters that are counted with every question */
#define LOOK_COST 4u   /* looking at a message costs as much as walking so many leaves */

struct verdict {
    uint64_t epoch;
    uint32_t leaf;
    bool matches;
};

struct rb_index_cursor {
    struct rb_index *index;
    struct rb_slice *filters; /* and their bytes behind them */
    size_t filters_bytes;
    uint32_t filter_count; /* 0: everything */
    bool plain;            /* few, and rb_index_is_plain */
    uint64_t all_to;       /* every message up to here matches */
    /* the known range; none when to < from */
    uint64_t from, to;
    uint64_t *found; /* 2 * BATCH; NULL: not needed so far */
    uint32_t found_count, at;
    uint64_t walk_leaves, walk_messages; /* that the last walk saw; 0: none yet */
    struct verdict verdicts[VERDICTS];
};

enum rb_err rb_index_cursor_create(struct rb_index *index, const struct rb_slice *filters,
                                   uint32_t count, struct rb_index_cursor **ret_cursor)
{
    struct rb_budget *budget = index->pages.budget;
    struct rb_index_cursor *cursor = rb_alloc(budget, sizeof(*cursor));
    if (cursor == NULL) {
        return RB_ERR_MEMORY;
    }
    cursor->index = index;
    cursor->from = 1;
    if (!rb_index_is_everything(filters, count)) {
        size_t bytes = count * sizeof(*filters);
        for (uint32_t i = 0; i < count; i++) {
            bytes += filters[i].len;
        }
        cursor->filters = rb_alloc(budget, bytes);
        if (cursor->filters == NULL) {
            rb_free(budget, cursor, sizeof(*cursor));
            return RB_ERR_MEMORY;
        }
        cursor->filters_bytes = bytes;
        cursor->filter_count = count;
        cursor->plain = count <= PLAIN_MAX && rb_index_is_plain(filters, count);
        uint8_t *at = (uint8_t *)(cursor->filters + count);
        for (uint32_t i = 0; i < count; i++) {
            memcpy(at, filters[i].ptr, filters[i].len);
            cursor->filters[i] = rb_slice_of(at, filters[i].len);
            at += filters[i].len;
        }
    }
    *ret_cursor = cursor;
    return RB_OK;
}

void rb_index_cursor_destroy(struct rb_index_cursor *cursor)
{
    if (cursor == NULL) {
        return;
    }
    struct rb_budget *budget = cursor->index->pages.budget;
    rb_free(budget, cursor->found, 2 * BATCH * sizeof(*cursor->found));
    rb_free(budget, cursor->filters, cursor->filters_bytes);
    rb_free(budget, cursor, sizeof(*cursor));
}

static struct verdict *verdict_of(struct rb_index_cursor *cursor, uint32_t leaf)
{
    return &cursor->verdicts[(leaf * 2654435761u >> 16) & (VERDICTS - 1)];
}

static bool leaf_matches(struct rb_index_cursor *cursor, uint32_t leaf)
{
    const struct rb_index *index = cursor->index;
    struct verdict *verdict = verdict_of(cursor, leaf);
    if (verdict->leaf != leaf || verdict->epoch != index->epoch) {
        bool matches = rb_index_leaf_matches(index, cursor->filters, cursor->filter_count, leaf);
        *verdict = (struct verdict){ index->epoch, leaf, matches };
    }
    return verdict->matches;
}

void rb_index_cursor_hint(struct rb_index_cursor *cursor, uint64_t seq)
{
    if (cursor->filter_count == 0) {
        return;
    }
    const struct rb_index *index = cursor->index;
    const struct rb_sequences_entry *entry = rb_sequences_find(&index->pages, &index->table, seq);
    if (entry != NULL) {
        *verdict_of(cursor, entry->leaf) = (struct verdict){ index->epoch, entry->leaf, true };
    }
}

/* ---- the walk ---- */

static int compare_sequences(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void sort_found(struct rb_index_cursor *cursor)
{
    uint64_t *found = cursor->found;
    bool sorted = true;
    for (uint32_t i = 1; i < cursor->found_count && sorted; i++) {
        sorted = found[i - 1] < found[i];
    }
    if (sorted) {
        return;
    }
    qsort(found, cursor->found_count, sizeof(*found), compare_sequences);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < cursor->found_count; i++) { /* two filters may have found the same */
        if (kept == 0 || found[kept - 1] != found[i]) {
            found[kept++] = found[i];
        }
    }
    cursor->found_count = kept;
}

/* When there are too many: keeps the first BATCH. Returns where what is known ends now. */
static uint64_t keep_first(struct rb_index_cursor *cursor, uint64_t end)
{
    sort_found(cursor);
    if (cursor->found_count > BATCH) {
        end = cursor->found[BATCH];
        cursor->found_count = BATCH;
    }
    return end;
}

/* Takes the leaf's sequences from `from` to below `end`; returns the new end. */
static uint64_t take_leaf(struct rb_index_cursor *cursor, uint32_t leaf, uint64_t from,
                          uint64_t end)
{
    const struct rb_pages *pages = &cursor->index->pages;
    struct rb_subjects_leaf l;
    rb_subjects_leaf(pages, leaf, &l);
    cursor->walk_leaves++;
    cursor->walk_messages += l.count;
    while (l.first < end && l.last >= from) {
        uint64_t *out = cursor->found + cursor->found_count;
        uint32_t room = 2 * BATCH - cursor->found_count;
        uint32_t count = 0;
        if (l.count > 2) {
            count = rb_postings_copy(pages, l.postings, from, end, out, room);
        } else {
            if (l.first >= from) {
                out[count++] = l.first;
            }
            if (l.count == 2 && l.last < end && count < room) {
                out[count++] = l.last;
            }
        }
        cursor->found_count += count;
        if (count < room) {
            break;
        }
        from = out[count - 1] + 1;
        end = keep_first(cursor, end);
    }
    return end;
}

/* Makes the range from `from` on by the leaves; false: no memory. */
static bool walk_leaves(struct rb_index_cursor *cursor, uint64_t from)
{
    struct rb_index *index = cursor->index;
    if (cursor->found == NULL) {
        cursor->found = rb_alloc(index->pages.budget, 2 * BATCH * sizeof(*cursor->found));
        if (cursor->found == NULL) {
            return false;
        }
    }
    cursor->found_count = cursor->at = 0;
    uint64_t end = index->table.last + 1;
    cursor->walk_leaves = cursor->walk_messages = 1;
    for (uint32_t i = 0; i < cursor->filter_count; i++) {
        struct rb_filter_walk walk;
        rb_filter_walk_begin(&walk, &index->pages, index->subjects.root, cursor->filters[i]);
        uint32_t leaf;
        while ((leaf = rb_filter_walk_next(&walk, NULL)) != 0) {
            end = take_leaf(cursor, leaf, from, end);
        }
    }
    end = keep_first(cursor, end);
    cursor->from = from;
    cursor->to = end - 1;
    return true;
}

/* ---- going on ---- */

/* First found one >= from that still exists; 0: none. */
static uint64_t next_found(struct rb_index_cursor *cursor, uint64_t from)
{
    const struct rb_index *index = cursor->index;
    if (cursor->at > 0 && cursor->found[cursor->at - 1] >= from) {
        cursor->at = 0; /* it went back */
    }
    if (cursor->at + 1 < cursor->found_count && cursor->found[cursor->at + 1] < from) {
        uint32_t low = cursor->at + 1;
        uint32_t high = cursor->found_count;
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (cursor->found[middle] < from) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        cursor->at = low;
    }
    for (; cursor->at < cursor->found_count; cursor->at++) {
        uint64_t seq = cursor->found[cursor->at];
        if (seq >= from && rb_sequences_find(&index->pages, &index->table, seq) != NULL) {
            return seq;
        }
    }
    return 0;
}

/* Looks at up to `limit` messages from `from` on. True: *ret_seq matches, or is 0 and there are no more messages. */
static bool look(struct rb_index_cursor *cursor, uint64_t from, uint64_t limit, uint64_t *ret_seq)
{
    const struct rb_index *index = cursor->index;
    uint64_t seq = rb_sequences_next(&index->pages, &index->table, from);
    for (; seq != 0 && limit > 0; limit--) {
        uint32_t leaf = rb_sequences_find(&index->pages, &index->table, seq)->leaf;
        if (leaf_matches(cursor, leaf)) {
            break;
        }
        seq = rb_sequences_next(&index->pages, &index->table, seq + 1);
    }
    if (seq != 0 && limit == 0) {
        return false;
    }
    *ret_seq = seq;
    return true;
}

/* How many messages to look at before the leaves are walked; 0: none matches at all. `ahead`: at most so many are left. */
static uint64_t look_limit(struct rb_index_cursor *cursor, uint64_t ahead)
{
    const struct rb_index *index = cursor->index;
    uint64_t leaves = cursor->walk_leaves;
    uint64_t messages = cursor->walk_messages;
    if (leaves == 0) {
        messages = rb_index_estimate(index, cursor->filters, cursor->filter_count, &leaves);
        if (messages == 0) {
            return 0;
        }
    }
    if (ahead <= leaves / LOOK_COST) {
        return ahead + 1;
    }
    /* What one message costs: looking at those around it, or its share of a walk. */
    uint64_t batch = messages < BATCH ? messages : BATCH;
    if (LOOK_COST * (index->table.count / messages + 1) * batch > leaves) {
        return LOOK_MIN;
    }
    return leaves / LOOK_COST > LOOK_MAX ? LOOK_MAX : leaves / LOOK_COST + LOOK_MIN;
}

/* The next message if all match (invariant 4); 0: ask otherwise. */
static uint64_t next_of_all(struct rb_index_cursor *cursor, uint64_t from)
{
    const struct rb_index *index = cursor->index;
    uint64_t leaves;
    if (!cursor->plain || rb_index_estimate(index, cursor->filters, cursor->filter_count,
                                            &leaves) != index->table.count) {
        return 0;
    }
    cursor->all_to = index->table.last;
    return rb_sequences_next(&index->pages, &index->table, from);
}

uint64_t rb_index_cursor_next(struct rb_index_cursor *cursor, uint64_t from)
{
    const struct rb_index *index = cursor->index;
    if (cursor->filter_count == 0) {
        return rb_sequences_next(&index->pages, &index->table, from);
    }
    if (from <= cursor->all_to) {
        uint64_t seq = rb_sequences_next(&index->pages, &index->table, from);
        if (seq != 0 && seq <= cursor->all_to) {
            return seq;
        }
    }
    uint64_t begin = from;
    if (from >= cursor->from && from <= cursor->to) {
        uint64_t seq = next_found(cursor, from);
        if (seq != 0) {
            return seq;
        }
        from = cursor->to + 1;
    }
    if (from > index->table.last) {
        return 0;
    }
    uint64_t seq = next_of_all(cursor, from);
    if (seq != 0) {
        return seq;
    }
    uint64_t limit = look_limit(cursor, index->table.last - from + 1);
    if (limit == 0 || look(cursor, from, limit, &seq)) {
        /* None from where the caller began up to here; the one that matches is looked at again at once. */
        cursor->from = begin;
        cursor->to = seq == 0 ? index->table.last : seq - 1;
        cursor->found_count = cursor->at = 0;
        return seq;
    }
    if (!walk_leaves(cursor, from)) {
        return rb_index_first(index, cursor->filters, cursor->filter_count, from);
    }
    return next_found(cursor, from);
}
