/* index_query.c - questions by subject: one, the next, how many, the first and the last that match.
 *
 * 1. A subtree of which every subject matches is counted by its root (subjects.c, invariant 3).
 * 2. A message that matches several filters counts once: a leaf is taken under the first filter that it matches.
 * 3. Where messages by sequence are fewer than leaves may be, they are looked at one by one; else the leaves that match are.
 */
#include "storage/index_inside.h"

#define LOOK_MIN 16u   /* messages looked at before the tree is walked */
#define LOOK_MAX 2048u /* at most */
#define LOOK_COST 4u   /* looking at a message costs as much as walking so many leaves */

bool rb_index_is_everything(const struct rb_slice *filters, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (rb_filter_everything(filters[i])) {
            return true;
        }
    }
    return count == 0;
}

bool rb_index_leaf_matches(const struct rb_index *index, const struct rb_slice *filters,
                           uint32_t count, uint32_t leaf)
{
    uint8_t name[RB_MSGSTORE_SUBJECT_MAX];
    struct rb_slice subject = rb_subjects_name(&index->pages, leaf, name);
    for (uint32_t i = 0; i < count; i++) {
        if (rb_filter_matches(filters[i], subject)) {
            return true;
        }
    }
    return false;
}

/* Does the filter share subjects with one before it? */
static bool overlaps_earlier(const struct rb_slice *filters, uint32_t at)
{
    for (uint32_t i = 0; i < at; i++) {
        if (rb_filter_overlap(filters[i], filters[at])) {
            return true;
        }
    }
    return false;
}

bool rb_index_is_plain(const struct rb_slice *filters, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!rb_filter_is_plain(filters[i]) || overlaps_earlier(filters, i)) {
            return false;
        }
    }
    return true;
}

static uint64_t count_filter(const struct rb_index *index, struct rb_slice filter)
{
    struct rb_filter_walk walk;
    rb_filter_walk_begin(&walk, &index->pages, index->subjects.root, filter);
    uint64_t sum = 0;
    uint64_t messages;
    while (rb_filter_walk_next(&walk, &messages) != 0) {
        sum += messages;
    }
    return sum;
}

uint64_t rb_index_estimate(const struct rb_index *index, const struct rb_slice *filters,
                           uint32_t count, uint64_t *ret_leaves)
{
    uint64_t sum = 0;
    uint64_t leaves = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t messages = count_filter(index, filters[i]);
        sum += messages;
        leaves += rb_filter_is_literal(filters[i]) ? 1 : messages;
    }
    *ret_leaves = leaves < index->subjects.count ? leaves : index->subjects.count;
    return sum;
}

bool rb_index_subject(const struct rb_index *index, struct rb_slice subject,
                      struct rb_msgstore_subject *ret_subject)
{
    uint32_t leaf = rb_subjects_find(&index->pages, &index->subjects, subject);
    if (leaf == 0) {
        return false;
    }
    struct rb_subjects_leaf l;
    rb_subjects_leaf(&index->pages, leaf, &l);
    *ret_subject = (struct rb_msgstore_subject){ subject, l.count, l.first, l.last };
    return true;
}

bool rb_index_next_subject(const struct rb_index *index, struct rb_slice filter,
                           struct rb_msgstore_subjects *at, struct rb_msgstore_subject *ret_subject)
{
    struct rb_filter_walk walk;
    rb_filter_walk_begin(&walk, &index->pages, index->subjects.root, filter);
    if (at->begun) {
        rb_filter_walk_seek(&walk, rb_slice_of(at->last, at->last_len));
    }
    uint32_t leaf = rb_filter_walk_next(&walk, NULL);
    if (leaf == 0) {
        return false;
    }
    struct rb_slice subject = rb_subjects_name(&index->pages, leaf, at->last);
    at->last_len = (uint32_t)subject.len;
    at->begun = true;
    struct rb_subjects_leaf l;
    rb_subjects_leaf(&index->pages, leaf, &l);
    *ret_subject = (struct rb_msgstore_subject){ subject, l.count, l.first, l.last };
    return true;
}

uint64_t rb_index_subject_count(const struct rb_index *index, struct rb_slice filter)
{
    if (rb_filter_everything(filter)) {
        return index->subjects.count;
    }
    struct rb_filter_walk walk;
    rb_filter_walk_begin(&walk, &index->pages, index->subjects.root, filter);
    uint64_t count = 0;
    while (rb_filter_walk_next(&walk, NULL) != 0) {
        count++;
    }
    return count;
}

/* ---- counting ---- */

/* Messages matching with sequence >= from, by the leaves; UINT64_MAX: there were more of those than `leaves_max`. */
static uint64_t count_leaves(const struct rb_index *index, const struct rb_slice *filters,
                             uint32_t count, uint64_t from, uint64_t leaves_max)
{
    uint64_t sum = 0;
    uint64_t leaves = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool shared = overlaps_earlier(filters, i);
        if (from == 0 && !shared) {
            sum += count_filter(index, filters[i]);
            continue;
        }
        struct rb_filter_walk walk;
        rb_filter_walk_begin(&walk, &index->pages, index->subjects.root, filters[i]);
        uint32_t leaf;
        while ((leaf = rb_filter_walk_next(&walk, NULL)) != 0) {
            if (leaves++ == leaves_max) {
                return UINT64_MAX;
            }
            struct rb_subjects_leaf l;
            rb_subjects_leaf(&index->pages, leaf, &l);
            if (from <= l.last && !(shared && rb_index_leaf_matches(index, filters, i, leaf))) {
                sum += l.count - rb_subjects_below(&index->pages, leaf, from);
            }
        }
    }
    return sum;
}

/* Messages matching from..to, one by one. */
static uint64_t count_messages(const struct rb_index *index, const struct rb_slice *filters,
                               uint32_t count, uint64_t from, uint64_t to)
{
    uint64_t sum = 0;
    uint64_t seq = rb_sequences_next(&index->pages, &index->table, from);
    while (seq != 0 && seq <= to) {
        uint32_t leaf = rb_sequences_find(&index->pages, &index->table, seq)->leaf;
        sum += rb_index_leaf_matches(index, filters, count, leaf);
        seq = rb_sequences_next(&index->pages, &index->table, seq + 1);
    }
    return sum;
}

uint64_t rb_index_count(const struct rb_index *index, const struct rb_slice *filters,
                        uint32_t count, uint64_t from)
{
    const struct rb_sequences *table = &index->table;
    if (table->count == 0 || from > table->last) {
        return 0;
    }
    uint64_t below = rb_sequences_below(&index->pages, table, from);
    uint64_t rest = table->count - below;
    if (rest == 0 || rb_index_is_everything(filters, count)) {
        return rest;
    }
    if (below == 0) {
        return count_leaves(index, filters, count, 0, UINT64_MAX);
    }
    if (rb_index_is_plain(filters, count)) {
        uint64_t leaves;
        uint64_t matching = rb_index_estimate(index, filters, count, &leaves);
        if (matching == 0 || matching == table->count) {
            return matching == 0 ? 0 : rest;
        }
    }
    uint64_t fewer = rest < below ? rest : below;
    uint64_t sum = count_leaves(index, filters, count, from, fewer * LOOK_COST);
    if (sum != UINT64_MAX) {
        return sum;
    }
    if (rest <= below) {
        return count_messages(index, filters, count, from, table->last);
    }
    return count_leaves(index, filters, count, 0, UINT64_MAX) -
           count_messages(index, filters, count, table->first, from - 1);
}

/* ---- first and last ---- */

/* How many messages to look at before the leaves are walked: those among which some are expected to match. */
static uint64_t look_at(const struct rb_index *index, uint64_t most, uint64_t leaves)
{
    uint64_t expected = LOOK_COST * (index->table.count / most + 1);
    uint64_t limit = expected < LOOK_MIN ? LOOK_MIN : expected;
    limit = limit > LOOK_MAX ? LOOK_MAX : limit;
    return limit < leaves ? limit : leaves;
}

static uint64_t last_of_leaves(const struct rb_index *index, const struct rb_slice *filters,
                               uint32_t count, uint64_t up_to)
{
    uint64_t best = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct rb_filter_walk walk;
        rb_filter_walk_begin(&walk, &index->pages, index->subjects.root, filters[i]);
        uint32_t leaf;
        while ((leaf = rb_filter_walk_next(&walk, NULL)) != 0) {
            struct rb_subjects_leaf l;
            rb_subjects_leaf(&index->pages, leaf, &l);
            if (l.last <= best || l.first > up_to) {
                continue;
            }
            uint64_t seq = rb_subjects_prev(&index->pages, leaf, up_to);
            best = seq > best ? seq : best;
        }
    }
    return best;
}

uint64_t rb_index_last(const struct rb_index *index, const struct rb_slice *filters, uint32_t count,
                       uint64_t up_to)
{
    if (rb_index_is_everything(filters, count)) {
        return rb_sequences_prev(&index->pages, &index->table, up_to);
    }
    uint64_t leaves;
    uint64_t most = rb_index_estimate(index, filters, count, &leaves);
    if (most == 0) {
        return 0;
    }
    uint64_t seq = rb_sequences_prev(&index->pages, &index->table, up_to);
    for (uint64_t left = look_at(index, most, leaves); left > 0 && seq != 0; left--) {
        uint32_t leaf = rb_sequences_find(&index->pages, &index->table, seq)->leaf;
        if (rb_index_leaf_matches(index, filters, count, leaf)) {
            return seq;
        }
        seq = seq == 0 ? 0 : rb_sequences_prev(&index->pages, &index->table, seq - 1);
    }
    return seq == 0 ? 0 : last_of_leaves(index, filters, count, seq);
}

static uint64_t first_of_leaves(const struct rb_index *index, const struct rb_slice *filters,
                                uint32_t count, uint64_t from)
{
    uint64_t best = UINT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        struct rb_filter_walk walk;
        rb_filter_walk_begin(&walk, &index->pages, index->subjects.root, filters[i]);
        uint32_t leaf;
        while ((leaf = rb_filter_walk_next(&walk, NULL)) != 0) {
            struct rb_subjects_leaf l;
            rb_subjects_leaf(&index->pages, leaf, &l);
            if (l.first >= best || l.last < from) {
                continue;
            }
            uint64_t seq = rb_subjects_next(&index->pages, leaf, from);
            best = seq < best ? seq : best;
        }
    }
    return best == UINT64_MAX ? 0 : best;
}

uint64_t rb_index_first(const struct rb_index *index, const struct rb_slice *filters,
                        uint32_t count, uint64_t from)
{
    if (rb_index_is_everything(filters, count)) {
        return rb_sequences_next(&index->pages, &index->table, from);
    }
    uint64_t leaves;
    uint64_t most = rb_index_estimate(index, filters, count, &leaves);
    if (most == 0) {
        return 0;
    }
    uint64_t seq = rb_sequences_next(&index->pages, &index->table, from);
    for (uint64_t left = look_at(index, most, leaves); left > 0 && seq != 0; left--) {
        uint32_t leaf = rb_sequences_find(&index->pages, &index->table, seq)->leaf;
        if (rb_index_leaf_matches(index, filters, count, leaf)) {
            return seq;
        }
        seq = rb_sequences_next(&index->pages, &index->table, seq + 1);
    }
    return seq == 0 ? 0 : first_of_leaves(index, filters, count, seq);
}
