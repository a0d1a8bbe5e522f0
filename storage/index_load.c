/* index_load.c - an index written out and read in again.
 *
 *   page 0: frame header | struct rb_pages_roots | struct index_meta ; the other pages are as they are
 *
 * 1. Loading follows every handle once, and a block may be met once only; so there is no loop, no sharing, and every length was
 *    compared with the room of its block. What the walk did not meet must be free (rb_pages_load_end).
 * 2. Both sides know every message: the table by sequence, leaves and postings by subject. A sum of hashes of (sequence, leaf) over
 *    either side must be the same, which costs no look-up.
 */
#include <string.h>

#include "storage/index_inside.h"
#include "storage/postings.h"

struct index_meta {
    struct rb_sequences table;
    struct rb_subjects subjects;
    uint64_t message_bytes;
};

_Static_assert(RB_PAGES_META_OFFSET + sizeof(struct index_meta) <= RB_PAGES_FRAME_BYTES,
               "it fits into its frame");

/* ---- writing out ---- */

enum rb_err rb_index_freeze(struct rb_index *index)
{
    if (index->pages.frozen) {
        return RB_ERR_BUSY;
    }
    struct index_meta meta = { index->table, index->subjects, index->message_bytes };
    memcpy((uint8_t *)rb_pages_edit(&index->pages, 0) + RB_PAGES_META_OFFSET, &meta, sizeof(meta));
    return rb_pages_freeze(&index->pages);
}

uint32_t rb_index_frozen_pages(const struct rb_index *index)
{
    return index->pages.frozen_count;
}

uint64_t rb_index_freeze_number(const struct rb_index *index)
{
    return index->pages.now - 1;
}

bool rb_index_frozen_changed(const struct rb_index *index, uint32_t page, uint64_t since)
{
    return rb_pages_frozen_changed(&index->pages, page, since);
}

const uint8_t *rb_index_frozen_page(const struct rb_index *index, uint32_t page)
{
    return rb_pages_frozen_page(&index->pages, page);
}

void rb_index_thaw(struct rb_index *index)
{
    rb_pages_thaw(&index->pages);
}

/* ---- reading in ---- */

enum rb_err rb_index_load_begin(struct rb_budget *budget, uint32_t page_count,
                                struct rb_index **ret_index)
{
    struct rb_index *index = rb_alloc(budget, sizeof(*index));
    if (index == NULL) {
        return RB_ERR_MEMORY;
    }
    enum rb_err err = rb_pages_load_begin(&index->pages, budget, page_count);
    if (err != RB_OK) {
        rb_free(budget, index, sizeof(*index));
        return err;
    }
    *ret_index = index;
    return RB_OK;
}

uint8_t *rb_index_load_page(struct rb_index *index, uint32_t page)
{
    rb_assert(page < index->pages.page_count);
    return index->pages.page[page].bytes;
}

struct load {
    struct rb_index *index;
    uint64_t *others, *leaves; /* a bit per unit of the region: where blocks were met */
    size_t bitmap_bytes;
    uint64_t live_count;
    /* what the tree and the table know, to be compared */
    uint64_t tree_hash, tree_messages, tree_subjects;
    uint64_t table_hash, table_messages, table_bytes;
    uint64_t first, last_seen;
    uint32_t leaf; /* whose postings are walked */
};

static uint64_t hash_of(uint64_t seq, uint32_t leaf)
{
    uint64_t value = seq * UINT64_C(0x9E3779B97F4A7C15) ^ leaf * UINT64_C(0xD6E8FEB86659FD93);
    value ^= value >> 32;
    value *= UINT64_C(0xD6E8FEB86659FD93);
    return value ^ value >> 29;
}

/* Meets the block: false when there is none here, it is too small, or was met before. */
static bool meet_in(struct load *load, uint64_t *bits, uint32_t handle, size_t bytes)
{
    const struct rb_pages *pages = &load->index->pages;
    if (!rb_pages_valid(pages, handle) || rb_pages_room(pages, handle) < bytes) {
        return false;
    }
    uint64_t bit = UINT64_C(1) << (handle % 64);
    if ((bits[handle / 64] & bit) != 0) {
        return false;
    }
    bits[handle / 64] |= bit;
    load->live_count++;
    return true;
}

static bool meet(struct load *load, uint32_t handle, size_t bytes)
{
    return meet_in(load, load->others, handle, bytes);
}

/* What was met as a leaf was met as nothing else; then the leaves are blocks in use like the others. */
static bool join_bits(struct load *load)
{
    uint64_t both = 0;
    for (size_t i = 0; i < load->bitmap_bytes / sizeof(uint64_t); i++) {
        both |= load->others[i] & load->leaves[i];
        load->others[i] |= load->leaves[i];
    }
    return both == 0;
}

/* ---- runs ---- */

typedef bool check_bottom(struct load *load, const struct rb_runs_entry *entry);

static bool meet_node(struct load *load, uint32_t handle, uint32_t level)
{
    const struct rb_pages *pages = &load->index->pages;
    if (!meet(load, handle, sizeof(struct rb_runs_node))) {
        return false;
    }
    const struct rb_runs_node *node = rb_pages_at(pages, handle);
    size_t room = rb_pages_room(pages, handle) - sizeof(*node);
    return node->level == level && node->count > 0 && node->count <= node->cap &&
           node->cap == room / sizeof(node->entries[0]);
}

static bool check_runs(struct load *load, uint32_t root, check_bottom *check)
{
    const struct rb_pages *pages = &load->index->pages;
    struct rb_runs_path path;
    uint64_t sums[RB_RUNS_LEVELS_MAX + 1] = { 0 };
    uint64_t lowest = 0;
    if (!rb_pages_valid(pages, root)) {
        return false;
    }
    path.levels = rb_runs_levels(pages, root);
    if (path.levels == 0 || path.levels > RB_RUNS_LEVELS_MAX ||
        !meet_node(load, root, path.levels)) {
        return false;
    }
    uint32_t depth = 1;
    path.node[0] = root;
    path.at[0] = 0;
    while (depth > 0) {
        const struct rb_runs_node *node = rb_pages_at(pages, path.node[depth - 1]);
        if (path.at[depth - 1] == node->count) {
            depth--;
            if (depth > 0) {
                const struct rb_runs_node *above = rb_pages_at(pages, path.node[depth - 1]);
                if (above->entries[path.at[depth - 1]].count != sums[depth]) {
                    return false;
                }
                sums[depth - 1] += sums[depth];
                path.at[depth - 1]++;
            }
            continue;
        }
        const struct rb_runs_entry *entry = &node->entries[path.at[depth - 1]];
        if (entry->key < lowest) {
            return false;
        }
        if (node->level == 1) {
            if (!check(load, entry)) {
                return false;
            }
            lowest = load->last_seen + 1;
            sums[depth - 1] += entry->count;
            path.at[depth - 1]++;
            continue;
        }
        if (!meet_node(load, entry->child, node->level - 1u)) {
            return false;
        }
        lowest = entry->key;
        path.node[depth] = entry->child;
        path.at[depth] = 0;
        sums[depth] = 0;
        depth++;
    }
    return true;
}

/* ---- the tree ---- */

static bool check_chunk(struct load *load, const struct rb_runs_entry *entry)
{
    const struct rb_pages *pages = &load->index->pages;
    if (!meet(load, entry->child, sizeof(struct rb_postings_chunk))) {
        return false;
    }
    const struct rb_postings_chunk *chunk = rb_pages_at(pages, entry->child);
    uint32_t room = rb_pages_room(pages, entry->child);
    uint32_t end = (uint32_t)chunk->start + chunk->count;
    if (chunk->level != 0 || chunk->count == 0 || end > chunk->cap ||
        chunk->cap > RB_POSTINGS_CHUNK_MAX ||
        sizeof(*chunk) + chunk->cap * sizeof(uint32_t) > room || chunk->count != entry->count ||
        chunk->base < entry->key || chunk->base > load->index->table.last) {
        return false;
    }
    for (uint32_t i = chunk->start; i < end; i++) {
        uint64_t seq = chunk->base + chunk->deltas[i];
        if (seq <= load->last_seen || seq > load->index->table.last) {
            return false;
        }
        load->last_seen = seq;
        load->tree_hash += hash_of(seq, load->leaf);
    }
    return true;
}

/* The postings of a leaf with three messages or more. */
static bool check_postings(struct load *load, const struct rb_subjects_leaf *leaf)
{
    const struct rb_pages *pages = &load->index->pages;
    load->last_seen = 0;
    if (!rb_pages_valid(pages, leaf->postings)) {
        return false;
    }
    if (rb_runs_levels(pages, leaf->postings) == 0) {
        const struct rb_postings_chunk *chunk = rb_pages_at(pages, leaf->postings);
        struct rb_runs_entry entry = { chunk->base, leaf->count, leaf->postings };
        if (!check_chunk(load, &entry)) {
            return false;
        }
    } else {
        if (!check_runs(load, leaf->postings, check_chunk)) {
            return false;
        }
        const struct rb_runs_node *node = rb_pages_at(pages, leaf->postings);
        uint64_t sum = 0;
        for (uint32_t i = 0; i < node->count; i++) {
            sum += node->entries[i].count;
        }
        if (sum != leaf->count) {
            return false;
        }
    }
    return load->last_seen == leaf->last &&
           rb_postings_next(pages, leaf->postings, 0) == leaf->first;
}

static bool check_leaf(struct load *load, uint32_t handle, uint64_t *messages)
{
    struct rb_subjects_leaf leaf;
    rb_subjects_leaf(&load->index->pages, handle, &leaf);
    load->tree_subjects++;
    *messages += leaf.count;
    if (leaf.first == 0 || leaf.last > load->index->table.last) {
        return false;
    }
    if (leaf.count > 2) {
        load->leaf = handle;
        return check_postings(load, &leaf);
    }
    load->tree_hash += hash_of(leaf.first, handle);
    if (leaf.count == 2) {
        load->tree_hash += hash_of(leaf.last, handle);
        return leaf.postings == 0 && leaf.first < leaf.last;
    }
    return leaf.count == 1 && leaf.postings == 0 && leaf.first == leaf.last;
}

/* A child of a node by its key, or its end: the block is met and its begin is right. */
static bool meet_child(struct load *load, uint32_t handle, uint32_t parent, bool is_end,
                       uint8_t key, uint32_t depth_bytes)
{
    const struct rb_pages *pages = &load->index->pages;
    const struct rb_subjects_head *head = rb_pages_at(pages, handle); /* within a page: fetch() */
    bool is_leaf = head->kind == RB_SUBJECTS_LEAF_ONE || head->kind == RB_SUBJECTS_LEAF_MANY;
    if (!meet_in(load, is_leaf ? load->leaves : load->others, handle, sizeof(*head))) {
        return false;
    }
    if ((!is_leaf && (head->kind > RB_SUBJECTS_DIRECT || is_end)) || head->parent != parent ||
        rb_subjects_fixed(head->kind) + head->prefix_len > rb_pages_room(pages, handle) ||
        depth_bytes + head->prefix_len > RB_MSGSTORE_SUBJECT_MAX ||
        (head->prefix_len == 0) != is_end) {
        return false;
    }
    return is_end || rb_subjects_prefix(head)[0] == key;
}

/* Its page exists; what will be looked at is fetched. */
static bool fetch(const struct load *load, uint32_t handle)
{
    const struct rb_pages *pages = &load->index->pages;
    uint32_t page = handle >> 13;
    if (handle == 0 || page >= pages->page_count) {
        return false;
    }
    __builtin_prefetch(rb_pages_at(pages, handle));
    __builtin_prefetch(rb_pages_at(pages, handle & ~511u));
    __builtin_prefetch(&load->leaves[handle / 64], 1);
    return true;
}

/* A node's keys ascend, and its children are there to be looked at: they are fetched for what follows. */
static bool check_node(const struct load *load, const struct rb_subjects_node *node)
{
    uint32_t count = rb_subjects_key_count(node);
    uint32_t slots = rb_subjects_slots(node->kind);
    bool has_end = (node->keys & RB_SUBJECTS_END) != 0;
    if (count + has_end > slots || (count + has_end == 0 && node->parent != 0)) {
        return false;
    }
    const uint8_t *keys = node->kind == RB_SUBJECTS_DIRECT ? NULL : rb_subjects_keys(node);
    uint32_t seen = 0;
    for (uint32_t at = 0;; at++) {
        uint32_t child = rb_subjects_child_from(node, &at);
        if (child == 0) {
            break;
        }
        if (!fetch(load, child) || (keys != NULL && at > 0 && keys[at] <= keys[at - 1])) {
            return false;
        }
        seen++;
    }
    return seen == count && (!has_end || fetch(load, rb_subjects_end(node)));
}

struct tree_place {
    uint32_t node, at;
    uint64_t messages; /* below it so far */
    uint32_t depth_bytes;
};

static bool check_tree(struct load *load, struct tree_place *places)
{
    const struct rb_pages *pages = &load->index->pages;
    uint32_t root = load->index->subjects.root;
    if (!rb_pages_valid(pages, root)) {
        return false;
    }
    const struct rb_subjects_node *node = rb_pages_at(pages, root);
    if (node->kind > RB_SUBJECTS_DIRECT || node->parent != 0 || node->prefix_len != 0 ||
        !meet(load, root, rb_subjects_fixed(node->kind)) || !check_node(load, node)) {
        return false;
    }
    uint32_t depth =
        1; /* every node but the root has a byte of its own, so depth_bytes bounds it */
    places[0] = (struct tree_place){ .node = root };
    while (depth > 0) {
        struct tree_place *place = &places[depth - 1];
        node = rb_pages_at(pages, place->node);
        uint32_t end = place->at == 0 ? rb_subjects_end(node) : 0;
        uint32_t at = place->at == 0 ? 0 : place->at - 1;
        uint32_t child = end != 0 ? end : rb_subjects_child_from(node, &at);
        if (place->at == 0 && end == 0 && (node->keys & RB_SUBJECTS_END) != 0) {
            return false;
        }
        if (child == 0) {
            if (node->messages != place->messages) {
                return false;
            }
            depth--;
            if (depth > 0) {
                places[depth - 1].messages += place->messages;
            } else {
                load->tree_messages = place->messages;
            }
            continue;
        }
        place->at = end != 0 ? 1 : at + 2;
        uint8_t key = 0;
        if (end == 0) {
            key = node->kind == RB_SUBJECTS_DIRECT ? (uint8_t)at : rb_subjects_keys(node)[at];
        }
        if (!meet_child(load, child, place->node, end != 0, key, place->depth_bytes)) {
            return false;
        }
        const struct rb_subjects_head *head = rb_pages_at(pages, child);
        if (rb_subjects_is_leaf(head)) {
            if (!check_leaf(load, child, &place->messages)) {
                return false;
            }
            continue;
        }
        if (!check_node(load, (const struct rb_subjects_node *)head)) {
            return false;
        }
        places[depth] = (struct tree_place){ .node = child,
                                             .depth_bytes = place->depth_bytes + head->prefix_len };
        depth++;
    }
    return true;
}

/* ---- the table ---- */

static bool check_block(struct load *load, const struct rb_runs_entry *entry)
{
    const struct rb_pages *pages = &load->index->pages;
    struct rb_sequences *table = &load->index->table;
    if (!meet(load, entry->child, sizeof(struct rb_sequences_block)) ||
        entry->key > table->last / RB_SEQUENCES_BLOCK) {
        return false;
    }
    const struct rb_sequences_block *block = rb_pages_at(pages, entry->child);
    if (block->time_high != 0 &&
        !meet(load, block->time_high, RB_SEQUENCES_BLOCK * sizeof(uint32_t))) {
        return false;
    }
    uint64_t hash = 0;
    uint32_t count = 0;
    for (uint32_t word = 0; word < 4; word++) {
        for (uint64_t bits = block->live[word]; bits != 0; bits &= bits - 1) {
            uint32_t at = word * 64 + (uint32_t)__builtin_ctzll(bits);
            uint64_t seq = entry->key * RB_SEQUENCES_BLOCK + at;
            if (at >= RB_SEQUENCES_BLOCK || seq == 0 || seq > table->last) {
                return false;
            }
            uint32_t leaf = block->entries[at].leaf;
            if (leaf >> 13 >= pages->page_count ||
                (load->leaves[leaf / 64] >> (leaf % 64) & 1) == 0) {
                return false;
            }
            hash += hash_of(seq, leaf);
            load->table_bytes += block->entries[at].bytes;
            load->first = load->first == 0 ? seq : load->first;
            count++;
        }
    }
    load->table_hash += hash;
    load->table_messages += count;
    load->last_seen = entry->key;
    table->tail = entry->child;
    table->tail_number = entry->key;
    return count > 0 && count == entry->count;
}

static bool check_table(struct load *load)
{
    struct rb_sequences *table = &load->index->table;
    table->tail = 0;
    table->tail_number = 0;
    load->last_seen = 0;
    if (table->last == UINT64_MAX ||
        (table->root != 0 && !check_runs(load, table->root, check_block))) {
        return false;
    }
    return load->table_messages == table->count &&
           (table->count == 0 || load->first == table->first);
}

static enum rb_err check_index(struct load *load)
{
    struct rb_index *index = load->index;
    struct rb_budget *budget = index->pages.budget;
    size_t places_bytes = (RB_MSGSTORE_SUBJECT_MAX + 2) * sizeof(struct tree_place);
    struct tree_place *places = rb_alloc(budget, places_bytes);
    enum rb_err err = RB_ERR_MEMORY;
    if (places != NULL && load->others != NULL && load->leaves != NULL) {
        err = RB_ERR_CORRUPT;
        if (check_tree(load, places) && check_table(load) && load->tree_hash == load->table_hash &&
            load->tree_messages == index->table.count &&
            load->tree_subjects == index->subjects.count &&
            load->table_bytes == index->message_bytes && join_bits(load)) {
            err = rb_pages_load_end(&index->pages, load->others, load->live_count);
        }
    }
    rb_free(budget, places, places_bytes);
    return err;
}

enum rb_err rb_index_load_end(struct rb_index *index)
{
    enum rb_err err = rb_pages_load_roots(&index->pages);
    if (err != RB_OK) {
        return err;
    }
    struct index_meta meta;
    memcpy(&meta, index->pages.page[0].bytes + RB_PAGES_META_OFFSET, sizeof(meta));
    index->table = meta.table;
    index->subjects = meta.subjects;
    index->message_bytes = meta.message_bytes;
    struct rb_budget *budget = index->pages.budget;
    struct load load = { .index = index,
                         .bitmap_bytes = (size_t)index->pages.page_count * (RB_PAGE_BYTES / 64) };
    load.others = rb_alloc(budget, load.bitmap_bytes);
    load.leaves = rb_alloc(budget, load.bitmap_bytes);
    err = check_index(&load);
    rb_free(budget, load.others, load.bitmap_bytes);
    rb_free(budget, load.leaves, load.bitmap_bytes);
    return err;
}
