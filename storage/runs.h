/* runs.h - a counted tree over blocks of ascending sequences: blocks come at its right end and go anywhere.
 *
 *   inner node: level, entries { first sequence or block (a lower bound), messages below, handle } ; level 1 points to blocks
 *
 * Sequences (blocks of the table) and postings (chunks of one subject) use the same. It grows at its right edge only, so nodes to
 * the left of that edge were full once; what is removed leaves gaps, empty nodes go.
 */
#pragma once

#include "storage/pages.h"

#define RB_RUNS_LEVELS_MAX 8u

struct rb_runs_entry {
    uint64_t key;
    uint32_t count;
    uint32_t child;
};

struct rb_runs_node {
    uint8_t level; /* at the same place as that of a chunk, which is 0 */
    uint8_t pad;
    uint16_t count, cap;
    uint16_t pad2;
    uint64_t pad3;
    struct rb_runs_entry entries[];
};

/* Where one block hangs: node and entry of each level, the root first. */
struct rb_runs_path {
    uint32_t node[RB_RUNS_LEVELS_MAX];
    uint16_t at[RB_RUNS_LEVELS_MAX];
    uint32_t levels; /* 0: there is none */
};

/** Levels of the tree under `root`: what a push may need is one block more than that. */
uint32_t rb_runs_levels(const struct rb_pages *pages, uint32_t root);
/** Appends a block; `root` 0: the first. Returns the new root. Room for levels + 1 allocations was reserved. */
uint32_t rb_runs_push(struct rb_pages *pages, uint32_t root, struct rb_runs_entry entry);
/** The block with exactly this key; 0: none. `root` may be 0. */
uint32_t rb_runs_find(const struct rb_pages *pages, uint32_t root, uint64_t key);
/** To the last block whose key is at most `key`, else (false) to the first block of all. `root` is not 0. */
bool rb_runs_seek(const struct rb_pages *pages, uint32_t root, uint64_t key,
                  struct rb_runs_path *ret_path);
void rb_runs_first(const struct rb_pages *pages, uint32_t root, struct rb_runs_path *ret_path);
void rb_runs_last(const struct rb_pages *pages, uint32_t root, struct rb_runs_path *ret_path);
/** To the neighbour; false: there is none, and the path is unchanged. */
bool rb_runs_next(const struct rb_pages *pages, struct rb_runs_path *path);
bool rb_runs_prev(const struct rb_pages *pages, struct rb_runs_path *path);
static inline const struct rb_runs_entry *rb_runs_entry(const struct rb_pages *pages,
                                                        const struct rb_runs_path *path)
{
    const struct rb_runs_node *node = rb_pages_at(pages, path->node[path->levels - 1]);
    return &node->entries[path->at[path->levels - 1]];
}
/** Messages in the blocks before this one. */
uint64_t rb_runs_before(const struct rb_pages *pages, const struct rb_runs_path *path);
/** Adds to the counts along the path. */
void rb_runs_add(struct rb_pages *pages, const struct rb_runs_path *path, uint32_t difference);
/** Points the entry to another block. */
void rb_runs_replace(struct rb_pages *pages, const struct rb_runs_path *path, uint32_t child);
/** Takes the block (count 0, the caller gives it back) out; returns the new root, 0 when it was the last one. */
uint32_t rb_runs_drop(struct rb_pages *pages, uint32_t root, const struct rb_runs_path *path);
