/* postings.c - the sequences of one subject.
 *
 * 1. A chunk holds count > 0 ascending deltas from `start` on; one alone is the root, more hang from runs with the chunk's base
 *    as key.
 * 2. Removing from the front moves `start`; from the middle it closes the gap. A chunk that became small is joined with its
 *    neighbour when both hang from the same node, so removals out of the middle do not leave chunks of one.
 * 3. Removing needs no memory: making things smaller is tried only when a frame is free.
 */
#include "storage/postings.h"

#include <string.h>

#define CAP_FIRST 4u
#define JOIN_MAX (RB_POSTINGS_CHUNK_MAX * 3 / 4)

static bool is_chunk(const struct rb_pages *pages, uint32_t root)
{
    return *(const uint8_t *)rb_pages_at(pages, root) == 0;
}

uint32_t rb_postings_needs(const struct rb_pages *pages, uint32_t root)
{
    return root == 0 ? 1 : 3 + rb_runs_levels(pages, root);
}

static uint32_t create_chunk(struct rb_pages *pages, uint64_t base, uint32_t cap)
{
    uint32_t handle =
        rb_pages_take(pages, (uint32_t)(sizeof(struct rb_postings_chunk) + cap * sizeof(uint32_t)));
    struct rb_postings_chunk *chunk = rb_pages_edit(pages, handle);
    uint32_t room = rb_pages_room(pages, handle);
    chunk->cap = (uint16_t)((room - sizeof(*chunk)) / sizeof(uint32_t));
    chunk->base = base;
    return handle;
}

/* The chunk with room for more, at another place or moved to its begin. */
static uint32_t resize_chunk(struct rb_pages *pages, uint32_t old, uint32_t cap)
{
    const struct rb_postings_chunk *from = rb_pages_at(pages, old);
    uint32_t handle = create_chunk(pages, from->base, cap);
    struct rb_postings_chunk *chunk = rb_pages_edit(pages, handle);
    chunk->count = from->count;
    memcpy(chunk->deltas, from->deltas + from->start, from->count * sizeof(uint32_t));
    rb_pages_give(pages, old);
    return handle;
}

/* Appends to the chunk, which may move; 0: it cannot take the sequence. */
static uint32_t append_to(struct rb_pages *pages, uint32_t handle, uint64_t seq)
{
    struct rb_postings_chunk *chunk = rb_pages_edit(pages, handle);
    if (seq - chunk->base > UINT32_MAX) {
        return 0;
    }
    if (chunk->start + chunk->count == chunk->cap) {
        if (chunk->start > 0 && chunk->start >= chunk->cap / 4) {
            memmove(chunk->deltas, chunk->deltas + chunk->start, chunk->count * sizeof(uint32_t));
            chunk->start = 0;
        } else if (chunk->cap < RB_POSTINGS_CHUNK_MAX) {
            uint32_t cap = chunk->cap * 2u + 4;
            handle = resize_chunk(pages, handle,
                                  cap < RB_POSTINGS_CHUNK_MAX ? cap : RB_POSTINGS_CHUNK_MAX);
            chunk = rb_pages_edit(pages, handle);
        } else {
            return 0;
        }
    }
    chunk->deltas[chunk->start + chunk->count++] = (uint32_t)(seq - chunk->base);
    return handle;
}

static uint32_t create_with(struct rb_pages *pages, uint64_t seq, uint32_t cap)
{
    uint32_t handle = create_chunk(pages, seq, cap);
    struct rb_postings_chunk *chunk = rb_pages_edit(pages, handle);
    chunk->count = 1;
    return handle;
}

uint32_t rb_postings_append(struct rb_pages *pages, uint32_t root, uint64_t seq)
{
    if (root == 0) {
        return create_with(pages, seq, CAP_FIRST);
    }
    if (is_chunk(pages, root)) {
        uint32_t handle = append_to(pages, root, seq);
        if (handle != 0) {
            return handle;
        }
        const struct rb_postings_chunk *chunk = rb_pages_at(pages, root);
        struct rb_runs_entry entry = { chunk->base, chunk->count, root };
        root = rb_runs_push(pages, 0, entry);
    } else {
        struct rb_runs_path path;
        rb_runs_last(pages, root, &path);
        uint32_t old = rb_runs_entry(pages, &path)->child;
        uint32_t handle = append_to(pages, old, seq);
        if (handle != 0) {
            if (handle != old) {
                rb_runs_replace(pages, &path, handle);
            }
            rb_runs_add(pages, &path, 1);
            return root;
        }
    }
    struct rb_runs_entry entry = { seq, 1, create_with(pages, seq, CAP_FIRST * 4) };
    return rb_runs_push(pages, root, entry);
}

/* First index (from chunk->start on) with a sequence >= seq; start + count when there is none. */
static uint32_t lower_bound(const struct rb_postings_chunk *chunk, uint64_t seq)
{
    uint32_t low = chunk->start;
    uint32_t high = low + chunk->count;
    if (seq <= chunk->base) {
        return low;
    }
    if (seq - chunk->base > UINT32_MAX) {
        return high;
    }
    uint32_t delta = (uint32_t)(seq - chunk->base);
    if (chunk->deltas[low] >= delta) {
        return low;
    }
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (chunk->deltas[middle] < delta) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Takes `seq` out of a chunk; what is left in it, or UINT32_MAX: it was not there. */
static uint32_t remove_from(struct rb_pages *pages, uint32_t handle, uint64_t seq)
{
    const struct rb_postings_chunk *found = rb_pages_at(pages, handle);
    uint32_t at = lower_bound(found, seq);
    uint32_t end = found->start + (uint32_t)found->count;
    if (at == end || found->base + found->deltas[at] != seq) {
        return UINT32_MAX;
    }
    struct rb_postings_chunk *chunk = rb_pages_edit(pages, handle);
    if (at == chunk->start) {
        chunk->start++;
    } else {
        memmove(&chunk->deltas[at], &chunk->deltas[at + 1], (end - at - 1) * sizeof(uint32_t));
    }
    return --chunk->count;
}

/* Moves the chunk after this one into it when both are small; true: that one (now at the path) is to be dropped. */
static bool join_next(struct rb_pages *pages, struct rb_runs_path *path)
{
    uint32_t level = path->levels - 1;
    const struct rb_runs_node *node = rb_pages_at(pages, path->node[level]);
    uint32_t at = path->at[level];
    if (at + 1u >= node->count ||
        node->entries[at].count + node->entries[at + 1].count > JOIN_MAX) {
        return false;
    }
    uint32_t handle = node->entries[at].child;
    uint32_t other = node->entries[at + 1].child;
    const struct rb_postings_chunk *chunk = rb_pages_at(pages, handle);
    const struct rb_postings_chunk *from = rb_pages_at(pages, other);
    uint64_t last = from->base + from->deltas[from->start + from->count - 1];
    uint32_t count = (uint32_t)chunk->count + from->count;
    if (last - chunk->base > UINT32_MAX) {
        return false;
    }
    if (chunk->start + count > chunk->cap) {
        if (!rb_pages_has(pages, 1)) {
            return false;
        }
        handle = resize_chunk(pages, handle, count);
        rb_runs_replace(pages, path, handle);
    }
    struct rb_postings_chunk *into = rb_pages_edit(pages, handle);
    uint32_t shift = (uint32_t)(from->base - into->base);
    for (uint32_t i = 0; i < from->count; i++) {
        into->deltas[into->start + into->count + i] = from->deltas[from->start + i] + shift;
    }
    uint32_t moved = from->count;
    into->count = (uint16_t)count;
    rb_pages_give(pages, other);
    struct rb_runs_node *edited = rb_pages_edit(pages, path->node[level]);
    edited->entries[at].count += moved;
    edited->entries[at + 1].count = 0;
    path->at[level]++;
    return true;
}

static void shrink(struct rb_pages *pages, const struct rb_runs_path *path, uint32_t *handle)
{
    const struct rb_postings_chunk *chunk = rb_pages_at(pages, *handle);
    if (chunk->cap > 28 && chunk->count <= chunk->cap / 4 && rb_pages_has(pages, 1)) {
        *handle = resize_chunk(pages, *handle, chunk->count * 2u);
        if (path != NULL) {
            rb_runs_replace(pages, path, *handle);
        }
    }
}

uint32_t rb_postings_remove(struct rb_pages *pages, uint32_t root, uint64_t seq)
{
    if (root == 0) {
        return 0;
    }
    if (is_chunk(pages, root)) {
        uint32_t left = remove_from(pages, root, seq);
        if (left == 0) {
            rb_pages_give(pages, root);
            return 0;
        }
        if (left != UINT32_MAX) {
            shrink(pages, NULL, &root);
        }
        return root;
    }
    struct rb_runs_path path;
    if (!rb_runs_seek(pages, root, seq, &path)) {
        return root;
    }
    uint32_t handle = rb_runs_entry(pages, &path)->child;
    uint32_t left = remove_from(pages, handle, seq);
    if (left == UINT32_MAX) {
        return root;
    }
    rb_runs_add(pages, &path, UINT32_MAX);
    if (left == 0) {
        rb_pages_give(pages, handle);
        root = rb_runs_drop(pages, root, &path);
    } else if (left <= RB_POSTINGS_CHUNK_MAX / 4) {
        struct rb_runs_path at = path;
        if (join_next(pages, &at)) {
            root = rb_runs_drop(pages, root, &at);
        } else {
            if (at.at[at.levels - 1] > 0) {
                at.at[at.levels - 1]--;
            }
            if (at.at[at.levels - 1] != path.at[path.levels - 1] && join_next(pages, &at)) {
                root = rb_runs_drop(pages, root, &at);
            } else {
                shrink(pages, &path, &handle);
            }
        }
    }
    if (root == 0) {
        return 0;
    }
    const struct rb_runs_node *node = rb_pages_at(pages, root);
    if (node->level == 1 && node->count == 1) {
        uint32_t only = node->entries[0].child;
        rb_pages_give(pages, root);
        return only;
    }
    return root;
}

void rb_postings_free(struct rb_pages *pages, uint32_t root)
{
    while (root != 0 && !is_chunk(pages, root)) {
        struct rb_runs_path path;
        rb_runs_first(pages, root, &path);
        rb_pages_give(pages, rb_runs_entry(pages, &path)->child);
        root = rb_runs_drop(pages, root, &path);
    }
    if (root != 0) {
        rb_pages_give(pages, root);
    }
}

uint64_t rb_postings_next(const struct rb_pages *pages, uint32_t root, uint64_t seq)
{
    if (root == 0) {
        return 0;
    }
    struct rb_runs_path path;
    const struct rb_postings_chunk *chunk;
    bool many = !is_chunk(pages, root);
    if (many) {
        rb_runs_seek(pages, root, seq, &path);
        chunk = rb_pages_at(pages, rb_runs_entry(pages, &path)->child);
    } else {
        chunk = rb_pages_at(pages, root);
    }
    uint32_t at = lower_bound(chunk, seq);
    if (at == chunk->start + (uint32_t)chunk->count) {
        if (!many || !rb_runs_next(pages, &path)) {
            return 0;
        }
        chunk = rb_pages_at(pages, rb_runs_entry(pages, &path)->child);
        at = chunk->start;
    }
    return chunk->base + chunk->deltas[at];
}

uint32_t rb_postings_copy(const struct rb_pages *pages, uint32_t root, uint64_t from, uint64_t end,
                          uint64_t *out, uint32_t max)
{
    struct rb_runs_path path;
    uint32_t handle = root;
    bool many = !is_chunk(pages, root);
    if (many) {
        rb_runs_seek(pages, root, from, &path);
        handle = rb_runs_entry(pages, &path)->child;
    }
    uint32_t count = 0;
    for (;;) {
        const struct rb_postings_chunk *chunk = rb_pages_at(pages, handle);
        uint32_t stop = (uint32_t)chunk->start + chunk->count;
        for (uint32_t at = lower_bound(chunk, from); at < stop; at++) {
            uint64_t seq = chunk->base + chunk->deltas[at];
            if (count == max || seq >= end) {
                return count;
            }
            out[count++] = seq;
        }
        if (!many || !rb_runs_next(pages, &path)) {
            return count;
        }
        handle = rb_runs_entry(pages, &path)->child;
    }
}

uint64_t rb_postings_prev(const struct rb_pages *pages, uint32_t root, uint64_t seq)
{
    if (root == 0) {
        return 0;
    }
    struct rb_runs_path path;
    const struct rb_postings_chunk *chunk;
    bool many = !is_chunk(pages, root);
    if (many) {
        if (!rb_runs_seek(pages, root, seq, &path)) {
            return 0;
        }
        chunk = rb_pages_at(pages, rb_runs_entry(pages, &path)->child);
    } else {
        chunk = rb_pages_at(pages, root);
    }
    uint32_t at =
        seq == UINT64_MAX ? chunk->start + (uint32_t)chunk->count : lower_bound(chunk, seq + 1);
    if (at == chunk->start) {
        if (!many || !rb_runs_prev(pages, &path)) {
            return 0;
        }
        chunk = rb_pages_at(pages, rb_runs_entry(pages, &path)->child);
        at = chunk->start + (uint32_t)chunk->count;
    }
    return chunk->base + chunk->deltas[at - 1];
}

uint64_t rb_postings_below(const struct rb_pages *pages, uint32_t root, uint64_t seq)
{
    if (root == 0) {
        return 0;
    }
    uint64_t before = 0;
    const struct rb_postings_chunk *chunk;
    if (is_chunk(pages, root)) {
        chunk = rb_pages_at(pages, root);
    } else {
        struct rb_runs_path path;
        if (!rb_runs_seek(pages, root, seq, &path)) {
            return 0;
        }
        before = rb_runs_before(pages, &path);
        chunk = rb_pages_at(pages, rb_runs_entry(pages, &path)->child);
    }
    return before + lower_bound(chunk, seq) - chunk->start;
}
