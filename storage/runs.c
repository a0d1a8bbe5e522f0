/* runs.c - a counted tree over blocks of ascending sequences.
 *
 * 1. Keys ascend strictly within a level; an entry's key is at most every sequence below it and above every one of its left
 *    neighbours. It may be lower than the first sequence below it, after removals.
 * 2. An entry's count is the sum of the counts in the node it points to; no node is empty.
 * 3. A level is begun only when the root is full, so levels stay below RB_RUNS_LEVELS_MAX for any number of messages.
 */
#include "storage/runs.h"

#include <string.h>

#define NODE_CAP_MAX                                                                               \
    ((RB_PAGES_BLOCK_MAX - sizeof(struct rb_runs_node)) / sizeof(struct rb_runs_entry))
#define NODE_CAP_FIRST 3u

static uint32_t cap_of(const struct rb_pages *pages, uint32_t node)
{
    return (uint32_t)((rb_pages_room(pages, node) - sizeof(struct rb_runs_node)) /
                      sizeof(struct rb_runs_entry));
}

uint32_t rb_runs_levels(const struct rb_pages *pages, uint32_t root)
{
    return root == 0 ? 0 : ((const struct rb_runs_node *)rb_pages_at(pages, root))->level;
}

static uint32_t create_node(struct rb_pages *pages, uint32_t level, uint32_t cap)
{
    uint32_t handle = rb_pages_take(
        pages, (uint32_t)(sizeof(struct rb_runs_node) + cap * sizeof(struct rb_runs_entry)));
    struct rb_runs_node *node = rb_pages_edit(pages, handle);
    node->level = (uint8_t)level;
    node->cap = (uint16_t)cap_of(pages, handle);
    return handle;
}

/* A copy of another size; the old one is given back. */
static uint32_t resize_node(struct rb_pages *pages, uint32_t old, uint32_t cap)
{
    const struct rb_runs_node *from = rb_pages_at(pages, old);
    uint32_t handle = create_node(pages, from->level, cap);
    struct rb_runs_node *node = rb_pages_edit(pages, handle);
    node->count = from->count;
    memcpy(node->entries, from->entries, from->count * sizeof(node->entries[0]));
    rb_pages_give(pages, old);
    return handle;
}

static uint64_t sum_of(const struct rb_runs_node *node, uint32_t before)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < before; i++) {
        sum += node->entries[i].count;
    }
    return sum;
}

static uint32_t next_cap(uint32_t cap)
{
    return cap * 2 + 1 > NODE_CAP_MAX ? (uint32_t)NODE_CAP_MAX : cap * 2 + 1;
}

uint32_t rb_runs_push(struct rb_pages *pages, uint32_t root, struct rb_runs_entry entry)
{
    if (root == 0) {
        root = create_node(pages, 1, NODE_CAP_FIRST);
        struct rb_runs_node *node = rb_pages_edit(pages, root);
        node->entries[0] = entry;
        node->count = 1;
        return root;
    }
    struct rb_runs_path path;
    rb_runs_last(pages, root, &path);
    uint32_t level =
        path.levels; /* counts from the leaves' side: the node path.node[level - 1] takes the entry */
    while (level > 0) {
        const struct rb_runs_node *node = rb_pages_at(pages, path.node[level - 1]);
        if (node->count < NODE_CAP_MAX) {
            break;
        }
        /* Full: a node beside it, which its parent takes. */
        uint32_t beside = create_node(pages, node->level, NODE_CAP_FIRST);
        struct rb_runs_node *fresh = rb_pages_edit(pages, beside);
        fresh->entries[0] = entry;
        fresh->count = 1;
        entry.child = beside;
        level--;
    }
    for (uint32_t i = 0; i + 1 < level; i++) {
        struct rb_runs_node *node = rb_pages_edit(pages, path.node[i]);
        node->entries[path.at[i]].count += entry.count;
    }
    if (level == 0) {
        const struct rb_runs_node *old = rb_pages_at(pages, root);
        rb_assert(old->level < RB_RUNS_LEVELS_MAX); /* invariant 3 */
        uint32_t above = create_node(pages, old->level + 1u, NODE_CAP_FIRST);
        struct rb_runs_node *node = rb_pages_edit(pages, above);
        node->entries[0] = (struct rb_runs_entry){ .key = old->entries[0].key,
                                                   .count = (uint32_t)sum_of(old, old->count),
                                                   .child = root };
        node->entries[1] = entry;
        node->count = 2;
        return above;
    }
    uint32_t handle = path.node[level - 1];
    struct rb_runs_node *node = rb_pages_edit(pages, handle);
    if (node->count == node->cap) {
        handle = resize_node(pages, handle, next_cap(node->cap));
        node = rb_pages_edit(pages, handle);
        if (level == 1) {
            root = handle;
        } else {
            struct rb_runs_node *parent = rb_pages_edit(pages, path.node[level - 2]);
            parent->entries[path.at[level - 2]].child = handle;
        }
    }
    node->entries[node->count++] = entry;
    return root;
}

/* The last entry with a key of at most `key`; 0 when there is none. */
static uint32_t find_entry(const struct rb_runs_node *node, uint64_t key)
{
    uint32_t low = 0;
    uint32_t high = node->count;
    uint64_t ahead = key - node->entries[0].key;
    if (node->level == 1 && ahead < node->count && node->entries[ahead].key == key) {
        return (uint32_t)ahead; /* blocks one after the other */
    }
    uint64_t span = node->entries[high - 1].key - node->entries[0].key;
    if (ahead < span && span < UINT64_C(1) << 48) { /* spread evenly, mostly */
        uint32_t guess = (uint32_t)(ahead * (high - 1) / span);
        if (node->entries[guess].key > key) {
            high = guess;
        } else if (node->entries[guess + 1].key > key) {
            return guess;
        } else {
            low = guess + 1;
        }
    }
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (node->entries[middle].key <= key) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

uint32_t rb_runs_find(const struct rb_pages *pages, uint32_t root, uint64_t key)
{
    uint32_t handle = root;
    for (uint32_t level = rb_runs_levels(pages, root); level > 0; level--) {
        const struct rb_runs_node *node = rb_pages_at(pages, handle);
        const struct rb_runs_entry *entry = &node->entries[find_entry(node, key)];
        if (level == 1 && entry->key != key) {
            return 0;
        }
        handle = entry->child;
    }
    return handle;
}

bool rb_runs_seek(const struct rb_pages *pages, uint32_t root, uint64_t key,
                  struct rb_runs_path *ret_path)
{
    uint32_t levels = rb_runs_levels(pages, root);
    ret_path->levels = levels;
    uint32_t handle = root;
    bool found = true;
    for (uint32_t i = 0; i < levels; i++) {
        const struct rb_runs_node *node = rb_pages_at(pages, handle);
        uint32_t at = find_entry(node, key);
        found = node->entries[at].key <= key;
        ret_path->node[i] = handle;
        ret_path->at[i] = (uint16_t)at;
        handle = node->entries[at].child;
    }
    return found;
}

/* Below level `from` of the path (whose entry is set): the first or the last. */
static void descend(const struct rb_pages *pages, struct rb_runs_path *path, uint32_t from,
                    bool last)
{
    for (uint32_t i = from; i + 1 < path->levels; i++) {
        const struct rb_runs_node *node = rb_pages_at(pages, path->node[i]);
        uint32_t child = node->entries[path->at[i]].child;
        const struct rb_runs_node *below = rb_pages_at(pages, child);
        path->node[i + 1] = child;
        path->at[i + 1] = last ? (uint16_t)(below->count - 1) : 0;
    }
}

void rb_runs_first(const struct rb_pages *pages, uint32_t root, struct rb_runs_path *ret_path)
{
    ret_path->levels = rb_runs_levels(pages, root);
    ret_path->node[0] = root;
    ret_path->at[0] = 0;
    descend(pages, ret_path, 0, false);
}

void rb_runs_last(const struct rb_pages *pages, uint32_t root, struct rb_runs_path *ret_path)
{
    const struct rb_runs_node *node = rb_pages_at(pages, root);
    ret_path->levels = node->level;
    ret_path->node[0] = root;
    ret_path->at[0] = (uint16_t)(node->count - 1);
    descend(pages, ret_path, 0, true);
}

bool rb_runs_next(const struct rb_pages *pages, struct rb_runs_path *path)
{
    for (uint32_t i = path->levels; i-- > 0;) {
        const struct rb_runs_node *node = rb_pages_at(pages, path->node[i]);
        if (path->at[i] + 1u < node->count) {
            path->at[i]++;
            descend(pages, path, i, false);
            return true;
        }
    }
    return false;
}

bool rb_runs_prev(const struct rb_pages *pages, struct rb_runs_path *path)
{
    for (uint32_t i = path->levels; i-- > 0;) {
        if (path->at[i] > 0) {
            path->at[i]--;
            descend(pages, path, i, true);
            return true;
        }
    }
    return false;
}

uint64_t rb_runs_before(const struct rb_pages *pages, const struct rb_runs_path *path)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < path->levels; i++) {
        sum += sum_of(rb_pages_at(pages, path->node[i]), path->at[i]);
    }
    return sum;
}

void rb_runs_add(struct rb_pages *pages, const struct rb_runs_path *path, uint32_t difference)
{
    for (uint32_t i = 0; i < path->levels; i++) {
        struct rb_runs_node *node = rb_pages_edit(pages, path->node[i]);
        node->entries[path->at[i]].count += difference;
    }
}

void rb_runs_replace(struct rb_pages *pages, const struct rb_runs_path *path, uint32_t child)
{
    struct rb_runs_node *node = rb_pages_edit(pages, path->node[path->levels - 1]);
    node->entries[path->at[path->levels - 1]].child = child;
}

uint32_t rb_runs_drop(struct rb_pages *pages, uint32_t root, const struct rb_runs_path *path)
{
    uint32_t level = path->levels;
    while (level > 0) {
        uint32_t handle = path->node[level - 1];
        struct rb_runs_node *node = rb_pages_edit(pages, handle);
        uint32_t at = path->at[level - 1];
        if (node->count > 1) {
            node->count--;
            memmove(&node->entries[at], &node->entries[at + 1],
                    (node->count - at) * sizeof(node->entries[0]));
            if (node->count * 4u <= node->cap && node->cap > 7 && rb_pages_has(pages, 1)) {
                uint32_t small = resize_node(pages, handle, node->count * 2u);
                if (level == 1) {
                    root = small;
                } else {
                    struct rb_runs_node *parent = rb_pages_edit(pages, path->node[level - 2]);
                    parent->entries[path->at[level - 2]].child = small;
                }
            }
            break;
        }
        rb_pages_give(pages, handle);
        level--;
    }
    if (level == 0) {
        return 0;
    }
    for (;;) { /* a root with one node below it is not needed */
        const struct rb_runs_node *node = rb_pages_at(pages, root);
        if (node->count > 1 || node->level == 1) {
            return root;
        }
        uint32_t below = node->entries[0].child;
        rb_pages_give(pages, root);
        root = below;
    }
}
