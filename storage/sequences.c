/* sequences.c - the table by sequence.
 *
 *   runs over block numbers -> block { base time, live bits, 252 entries of 16 bytes } = the whole of a frame
 *
 * 1. A block holds the messages number * 252 .. number * 252 + 251; it exists while one of them does. Gaps cost nothing.
 * 2. A time is base + (high << 32 | low), modulo 2^64: any time can be kept. The base is half an hour below the block's first
 *    message, so blocks whose messages came within that time of each other need no high halves.
 * 3. Times may go back, by setback_us at most: if a message's time is below t - setback_us, every message before it has a time
 *    below t. So a search by time halves, and ends with a walk over what lies within the setback.
 */
#include "storage/sequences.h"

#define BASE_BELOW_US (UINT64_C(1) << 31)

_Static_assert(sizeof(struct rb_sequences_block) == RB_PAGES_BLOCK_MAX, "a block fills its frame");

uint32_t rb_sequences_needs(const struct rb_pages *pages, const struct rb_sequences *table)
{
    return 3 + rb_runs_levels(pages, table->root);
}

static uint32_t find_handle(const struct rb_pages *pages, const struct rb_sequences *table,
                            uint64_t number)
{
    if (table->tail != 0 && table->tail_number == number) {
        return table->tail;
    }
    return rb_runs_find(pages, table->root, number);
}

static const struct rb_sequences_block *
find_block(const struct rb_pages *pages, const struct rb_sequences *table, uint64_t number)
{
    uint32_t handle = find_handle(pages, table, number);
    return handle == 0 ? NULL : rb_pages_at(pages, handle);
}

static bool is_live(const struct rb_sequences_block *block, uint32_t at)
{
    return block->live[at / 64] >> (at % 64) & 1;
}

void rb_sequences_append(struct rb_pages *pages, struct rb_sequences *table, uint64_t seq,
                         const struct rb_sequences_entry *entry, uint64_t time_us)
{
    rb_assert(seq > table->last);
    uint64_t number = seq / RB_SEQUENCES_BLOCK;
    uint32_t at = (uint32_t)(seq % RB_SEQUENCES_BLOCK);
    struct rb_sequences_block *block;
    if (table->tail == 0 || table->tail_number != number) {
        table->tail = rb_pages_take(pages, sizeof(*block));
        table->tail_number = number;
        block = rb_pages_edit(pages, table->tail);
        block->base_us = time_us > BASE_BELOW_US ? time_us - BASE_BELOW_US : 0;
        table->root =
            rb_runs_push(pages, table->root,
                         (struct rb_runs_entry){ .key = number, .count = 1, .child = table->tail });
    } else {
        struct rb_runs_path path;
        rb_runs_last(pages, table->root, &path);
        rb_runs_add(pages, &path, 1);
        block = rb_pages_edit(pages, table->tail);
    }
    uint64_t time = time_us - block->base_us;
    if (time >> 32 != 0 && block->time_high == 0) {
        block->time_high = rb_pages_take(pages, RB_SEQUENCES_BLOCK * sizeof(uint32_t));
    }
    if (block->time_high != 0) {
        uint32_t *high = rb_pages_edit(pages, block->time_high);
        high[at] = (uint32_t)(time >> 32);
    }
    block->entries[at] = *entry;
    block->entries[at].time_low = (uint32_t)time;
    block->live[at / 64] |= UINT64_C(1) << (at % 64);
    table->first = table->count == 0 ? seq : table->first;
    table->last = seq;
    table->count++;
    table->newest_us = time_us;
    if (time_us > table->highest_us) {
        table->highest_us = time_us;
    } else if (table->highest_us - time_us > table->setback_us) {
        table->setback_us = table->highest_us - time_us;
    }
}

bool rb_sequences_remove(struct rb_pages *pages, struct rb_sequences *table, uint64_t seq)
{
    uint64_t number = seq / RB_SEQUENCES_BLOCK;
    uint32_t at = (uint32_t)(seq % RB_SEQUENCES_BLOCK);
    struct rb_runs_path path;
    if (table->root == 0 || !rb_runs_seek(pages, table->root, number, &path)) {
        return false;
    }
    struct rb_runs_entry found = *rb_runs_entry(pages, &path);
    if (found.key != number || !is_live(rb_pages_at(pages, found.child), at)) {
        return false;
    }
    struct rb_sequences_block *block = rb_pages_edit(pages, found.child);
    block->live[at / 64] &= ~(UINT64_C(1) << (at % 64));
    block->entries[at] = (struct rb_sequences_entry){ 0 };
    rb_runs_add(pages, &path, UINT32_MAX);
    table->count--;
    if ((block->live[0] | block->live[1] | block->live[2] | block->live[3]) == 0) {
        if (block->time_high != 0) {
            rb_pages_give(pages, block->time_high);
        }
        table->tail = found.child == table->tail ? 0 : table->tail;
        rb_pages_give(pages, found.child);
        table->root = rb_runs_drop(pages, table->root, &path);
    }
    if (table->count == 0) {
        table->highest_us = table->setback_us = 0;
    } else if (seq == table->first) {
        table->first = rb_sequences_next(pages, table, seq);
    }
    return true;
}

const struct rb_sequences_entry *rb_sequences_find(const struct rb_pages *pages,
                                                   const struct rb_sequences *table, uint64_t seq)
{
    const struct rb_sequences_block *block = find_block(pages, table, seq / RB_SEQUENCES_BLOCK);
    uint32_t at = (uint32_t)(seq % RB_SEQUENCES_BLOCK);
    return block != NULL && is_live(block, at) ? &block->entries[at] : NULL;
}

struct rb_sequences_entry *rb_sequences_edit(struct rb_pages *pages, struct rb_sequences *table,
                                             uint64_t seq)
{
    uint64_t number = seq / RB_SEQUENCES_BLOCK;
    uint32_t at = (uint32_t)(seq % RB_SEQUENCES_BLOCK);
    uint32_t handle = find_handle(pages, table, number);
    if (handle == 0) {
        return NULL;
    }
    if (!is_live(rb_pages_at(pages, handle), at)) {
        return NULL;
    }
    struct rb_sequences_block *block = rb_pages_edit(pages, handle);
    return &block->entries[at];
}

static uint64_t time_in(const struct rb_pages *pages, const struct rb_sequences_block *block,
                        uint32_t at)
{
    uint64_t time = block->entries[at].time_low;
    if (block->time_high != 0) {
        const uint32_t *high = rb_pages_at(pages, block->time_high);
        time |= (uint64_t)high[at] << 32;
    }
    return block->base_us + time;
}

uint64_t rb_sequences_time_us(const struct rb_pages *pages, const struct rb_sequences *table,
                              uint64_t seq)
{
    const struct rb_sequences_block *block = find_block(pages, table, seq / RB_SEQUENCES_BLOCK);
    rb_assert(block != NULL);
    return time_in(pages, block, (uint32_t)(seq % RB_SEQUENCES_BLOCK));
}

/* First bit that is `set` from `at` on; RB_SEQUENCES_BLOCK when there is none. */
static uint32_t scan_up(const struct rb_sequences_block *block, uint32_t at, bool set)
{
    while (at < RB_SEQUENCES_BLOCK) {
        uint64_t word = set ? block->live[at / 64] : ~block->live[at / 64];
        word >>= at % 64;
        if (word != 0) {
            at += (uint32_t)__builtin_ctzll(word);
            return at < RB_SEQUENCES_BLOCK ? at : RB_SEQUENCES_BLOCK;
        }
        at = (at / 64 + 1) * 64;
    }
    return RB_SEQUENCES_BLOCK;
}

/* Last bit set at or below `at`; RB_SEQUENCES_BLOCK when there is none. */
static uint32_t scan_down(const struct rb_sequences_block *block, uint32_t at)
{
    for (;;) {
        uint64_t word = block->live[at / 64] << (63 - at % 64);
        if (word != 0) {
            return at - (uint32_t)__builtin_clzll(word);
        }
        if (at < 64) {
            return RB_SEQUENCES_BLOCK;
        }
        at = at / 64 * 64 - 1;
    }
}

uint64_t rb_sequences_next(const struct rb_pages *pages, const struct rb_sequences *table,
                           uint64_t seq)
{
    if (table->count == 0 || seq > table->last) {
        return 0;
    }
    uint64_t number = seq / RB_SEQUENCES_BLOCK;
    uint32_t at = (uint32_t)(seq % RB_SEQUENCES_BLOCK);
    const struct rb_sequences_block *block = find_block(pages, table, number);
    if (block != NULL) {
        at = scan_up(block, at, true);
        if (at < RB_SEQUENCES_BLOCK) {
            return number * RB_SEQUENCES_BLOCK + at;
        }
    }
    struct rb_runs_path path;
    if (rb_runs_seek(pages, table->root, number, &path) && !rb_runs_next(pages, &path)) {
        return 0;
    }
    const struct rb_runs_entry *entry = rb_runs_entry(pages, &path);
    return entry->key * RB_SEQUENCES_BLOCK + scan_up(rb_pages_at(pages, entry->child), 0, true);
}

uint64_t rb_sequences_prev(const struct rb_pages *pages, const struct rb_sequences *table,
                           uint64_t seq)
{
    if (table->count == 0 || seq < table->first) {
        return 0;
    }
    uint64_t number = seq / RB_SEQUENCES_BLOCK;
    struct rb_runs_path path;
    if (!rb_runs_seek(pages, table->root, number, &path)) {
        return 0;
    }
    const struct rb_runs_entry *entry = rb_runs_entry(pages, &path);
    uint32_t from =
        entry->key == number ? (uint32_t)(seq % RB_SEQUENCES_BLOCK) : RB_SEQUENCES_BLOCK - 1;
    uint32_t at = scan_down(rb_pages_at(pages, entry->child), from);
    if (at == RB_SEQUENCES_BLOCK) {
        if (!rb_runs_prev(pages, &path)) {
            return 0;
        }
        entry = rb_runs_entry(pages, &path);
        at = scan_down(rb_pages_at(pages, entry->child), RB_SEQUENCES_BLOCK - 1);
    }
    return entry->key * RB_SEQUENCES_BLOCK + at;
}

uint64_t rb_sequences_gap(const struct rb_pages *pages, const struct rb_sequences *table,
                          uint64_t seq)
{
    seq = seq == 0 ? 1 : seq;
    if (seq > table->last) {
        return 0;
    }
    if (table->count == 0 || seq < table->first) {
        return seq;
    }
    if (table->count == table->last - table->first + 1) {
        return 0;
    }
    uint64_t number = seq / RB_SEQUENCES_BLOCK;
    struct rb_runs_path path;
    if (!rb_runs_seek(pages, table->root, number, &path)) {
        return seq;
    }
    uint32_t at = (uint32_t)(seq % RB_SEQUENCES_BLOCK);
    do {
        const struct rb_runs_entry *entry = rb_runs_entry(pages, &path);
        if (entry->key != number) {
            break;
        }
        /* A full block is not looked at. */
        if (entry->count < RB_SEQUENCES_BLOCK) {
            at = scan_up(rb_pages_at(pages, entry->child), at, false);
            if (at < RB_SEQUENCES_BLOCK) {
                break;
            }
        }
        number++;
        at = 0;
    } while (rb_runs_next(pages, &path));
    uint64_t gap = number * RB_SEQUENCES_BLOCK + at;
    return gap <= table->last ? gap : 0;
}

/* Time of the first message below a node's entry. */
static uint64_t first_time(const struct rb_pages *pages, const struct rb_runs_node *node,
                           uint32_t at)
{
    uint32_t child = node->entries[at].child;
    for (uint32_t level = node->level; level > 1; level--) {
        child = ((const struct rb_runs_node *)rb_pages_at(pages, child))->entries[0].child;
    }
    const struct rb_sequences_block *block = rb_pages_at(pages, child);
    return time_in(pages, block, scan_up(block, 0, true));
}

uint64_t rb_sequences_at_time(const struct rb_pages *pages, const struct rb_sequences *table,
                              uint64_t time_us)
{
    if (table->count == 0 || time_us > table->highest_us) {
        return 0;
    }
    /* Down to the last block that begins below the time less the setback: what is looked for is not before it (invariant 3). */
    uint64_t below = time_us > table->setback_us ? time_us - table->setback_us : 0;
    struct rb_runs_path path;
    path.levels = rb_runs_levels(pages, table->root);
    uint32_t handle = table->root;
    for (uint32_t i = 0; i < path.levels; i++) {
        const struct rb_runs_node *node = rb_pages_at(pages, handle);
        uint32_t low = 0;
        uint32_t high = node->count;
        while (high - low > 1) {
            uint32_t middle = (low + high) / 2;
            if (first_time(pages, node, middle) < below) {
                low = middle;
            } else {
                high = middle;
            }
        }
        path.node[i] = handle;
        path.at[i] = (uint16_t)low;
        handle = node->entries[low].child;
    }
    do {
        const struct rb_runs_entry *entry = rb_runs_entry(pages, &path);
        const struct rb_sequences_block *block = rb_pages_at(pages, entry->child);
        for (uint32_t at = scan_up(block, 0, true); at < RB_SEQUENCES_BLOCK;
             at = scan_up(block, at + 1, true)) {
            if (time_in(pages, block, at) >= time_us) {
                return entry->key * RB_SEQUENCES_BLOCK + at;
            }
        }
    } while (rb_runs_next(pages, &path));
    return 0;
}

uint64_t rb_sequences_below(const struct rb_pages *pages, const struct rb_sequences *table,
                            uint64_t seq)
{
    if (table->count == 0 || seq <= table->first) {
        return 0;
    }
    if (seq > table->last) {
        return table->count;
    }
    uint64_t number = seq / RB_SEQUENCES_BLOCK;
    struct rb_runs_path path;
    if (!rb_runs_seek(pages, table->root, number, &path)) {
        return 0;
    }
    const struct rb_runs_entry *entry = rb_runs_entry(pages, &path);
    uint64_t below = rb_runs_before(pages, &path);
    if (entry->key < number) {
        return below + entry->count;
    }
    const struct rb_sequences_block *block = rb_pages_at(pages, entry->child);
    uint32_t at = (uint32_t)(seq % RB_SEQUENCES_BLOCK);
    for (uint32_t i = 0; i < at / 64; i++) {
        below += (uint32_t)__builtin_popcountll(block->live[i]);
    }
    return below +
           (uint32_t)__builtin_popcountll(block->live[at / 64] & ((UINT64_C(1) << (at % 64)) - 1));
}
