/* subjects.c - the radix tree of subjects.
 *
 * 1. A prefix has at most 255 bytes; a node's has at least one but for the root's, a leaf's has none exactly when it is an end.
 * 2. A node has an entry (a key, or the end), but for the root. One entry alone is possible: when a prefix would grow beyond 255
 *    bytes, or when there was no memory to join it with what is below.
 * 3. `messages` of a node is the sum of those below it: a subtree that matches wholly is counted at once.
 * 4. Whoever moves corrects its parent's slot and its children's parent; the sequence table, which names leaves, is corrected by
 *    the caller, so leaves of more than two messages never move.
 * 5. Removing needs no memory: what makes things smaller is tried only when a frame is free.
 */
#include "storage/subjects.h"

#include <string.h>

#include "storage/postings.h"

_Static_assert(sizeof(struct rb_subjects_one) == 16 && sizeof(struct rb_subjects_many) == 32,
               "a leaf's prefix begins within this");

#define ONE_FIXED offsetof(struct rb_subjects_one, prefix)
#define MANY_FIXED offsetof(struct rb_subjects_many, prefix)

uint32_t rb_subjects_fixed(uint32_t kind)
{
    if (kind == RB_SUBJECTS_LEAF_ONE) {
        return ONE_FIXED;
    }
    if (kind == RB_SUBJECTS_LEAF_MANY) {
        return MANY_FIXED;
    }
    uint32_t slots = rb_subjects_slots(kind);
    uint32_t per_slot = kind == RB_SUBJECTS_DIRECT ? 4 : 5;
    return (uint32_t)sizeof(struct rb_subjects_node) + slots * per_slot;
}

const uint8_t *rb_subjects_prefix(const void *block)
{
    const struct rb_subjects_head *head = block;
    return (const uint8_t *)block + rb_subjects_fixed(head->kind);
}

static uint8_t *keys_of(struct rb_subjects_node *node)
{
    return (uint8_t *)(node->children + rb_subjects_slots(node->kind));
}

uint32_t rb_subjects_child(const struct rb_subjects_node *node, uint8_t byte, uint32_t *ret_at)
{
    if (node->kind == RB_SUBJECTS_DIRECT) {
        *ret_at = byte;
        return node->children[byte];
    }
    const uint8_t *keys = rb_subjects_keys(node);
    uint32_t count = rb_subjects_key_count(node);
    if (count == 0) {
        return 0;
    }
    uint32_t at = (uint32_t)byte - keys[0]; /* keys are often digits or letters without a gap */
    if (at >= count || keys[at] != byte) {
        const uint8_t *found = memchr(keys, byte, count);
        if (found == NULL) {
            return 0;
        }
        at = (uint32_t)(found - keys);
    }
    *ret_at = at;
    return node->children[at];
}

uint32_t rb_subjects_child_from(const struct rb_subjects_node *node, uint32_t *at)
{
    if (node->kind != RB_SUBJECTS_DIRECT) {
        return *at < rb_subjects_key_count(node) ? node->children[*at] : 0;
    }
    for (; *at < 256; ++*at) {
        if (node->children[*at] != 0) {
            return node->children[*at];
        }
    }
    return 0;
}

uint32_t rb_subjects_place(const struct rb_subjects_node *node, uint8_t byte)
{
    if (node->kind == RB_SUBJECTS_DIRECT) {
        return byte;
    }
    const uint8_t *keys = rb_subjects_keys(node);
    uint32_t count = rb_subjects_key_count(node);
    uint32_t at = 0;
    while (at < count && keys[at] < byte) {
        at++;
    }
    return at;
}

/* ---- finding ---- */

uint32_t rb_subjects_search(const struct rb_pages *pages, const struct rb_subjects *subjects,
                            struct rb_slice subject, struct rb_subjects_stop *ret_stop)
{
    uint32_t handle = subjects->root;
    size_t pos = 0;
    uint32_t leaf = 0;
    for (;;) {
        const struct rb_subjects_node *node = rb_pages_at(pages, handle);
        if (pos == subject.len) {
            leaf = rb_subjects_end(node);
            break;
        }
        uint32_t at;
        uint32_t child = rb_subjects_child(node, subject.ptr[pos], &at);
        if (child == 0) {
            break;
        }
        const struct rb_subjects_head *head = rb_pages_at(pages, child);
        size_t len = head->prefix_len;
        if (len > subject.len - pos ||
            (len > 1 && memcmp(rb_subjects_prefix(head), subject.ptr + pos, len) != 0)) {
            break;
        }
        if (rb_subjects_is_leaf(head)) {
            leaf = pos + len == subject.len ? child : 0;
            break;
        }
        pos += len;
        handle = child;
    }
    if (ret_stop != NULL) {
        *ret_stop = (struct rb_subjects_stop){ handle, (uint32_t)pos };
    }
    return leaf;
}

uint32_t rb_subjects_find(const struct rb_pages *pages, const struct rb_subjects *subjects,
                          struct rb_slice subject)
{
    return rb_subjects_search(pages, subjects, subject, NULL);
}

struct rb_slice rb_subjects_name(const struct rb_pages *pages, uint32_t leaf, uint8_t *out)
{
    uint8_t *at = out + RB_MSGSTORE_SUBJECT_MAX;
    for (uint32_t handle = leaf; handle != 0;) {
        const struct rb_subjects_head *head = rb_pages_at(pages, handle);
        rb_assert(head->prefix_len <= (size_t)(at - out));
        at -= head->prefix_len;
        memcpy(at, rb_subjects_prefix(head), head->prefix_len);
        handle = head->parent;
    }
    size_t len = (size_t)(out + RB_MSGSTORE_SUBJECT_MAX - at);
    memmove(out, at, len);
    return rb_slice_of(out, len);
}

void rb_subjects_leaf(const struct rb_pages *pages, uint32_t leaf,
                      struct rb_subjects_leaf *ret_leaf)
{
    const struct rb_subjects_head *head = rb_pages_at(pages, leaf);
    if (head->kind == RB_SUBJECTS_LEAF_ONE) {
        const struct rb_subjects_one *one = (const struct rb_subjects_one *)head;
        *ret_leaf = (struct rb_subjects_leaf){ one->seq, one->seq, 1, 0 };
    } else {
        const struct rb_subjects_many *many = (const struct rb_subjects_many *)head;
        *ret_leaf =
            (struct rb_subjects_leaf){ many->first, many->last, many->count, many->postings };
    }
}

uint64_t rb_subjects_next(const struct rb_pages *pages, uint32_t leaf, uint64_t seq)
{
    struct rb_subjects_leaf l;
    rb_subjects_leaf(pages, leaf, &l);
    if (seq <= l.first) {
        return l.first;
    }
    if (seq > l.last) {
        return 0;
    }
    return l.count <= 2 ? l.last : rb_postings_next(pages, l.postings, seq);
}

uint64_t rb_subjects_prev(const struct rb_pages *pages, uint32_t leaf, uint64_t seq)
{
    struct rb_subjects_leaf l;
    rb_subjects_leaf(pages, leaf, &l);
    if (seq >= l.last) {
        return l.last;
    }
    if (seq < l.first) {
        return 0;
    }
    return l.count <= 2 ? l.first : rb_postings_prev(pages, l.postings, seq);
}

uint64_t rb_subjects_below(const struct rb_pages *pages, uint32_t leaf, uint64_t seq)
{
    struct rb_subjects_leaf l;
    rb_subjects_leaf(pages, leaf, &l);
    if (seq <= l.first) {
        return 0;
    }
    if (seq > l.last) {
        return l.count;
    }
    return l.count <= 2 ? 1 : rb_postings_below(pages, l.postings, seq);
}

/* ---- nodes ---- */

static uint32_t create_node(struct rb_pages *pages, uint32_t kind, uint32_t parent,
                            const uint8_t *prefix, size_t prefix_len)
{
    uint32_t fixed = rb_subjects_fixed(kind);
    uint32_t handle = rb_pages_take(pages, fixed + (uint32_t)prefix_len);
    struct rb_subjects_node *node = rb_pages_edit(pages, handle);
    node->parent = parent;
    node->kind = (uint8_t)kind;
    node->prefix_len = (uint8_t)prefix_len;
    if (prefix_len > 0) {
        memcpy((uint8_t *)node + fixed, prefix, prefix_len);
    }
    return handle;
}

void rb_subjects_create(struct rb_pages *pages, struct rb_subjects *subjects)
{
    *subjects = (struct rb_subjects){ .root = create_node(pages, 0, 0, NULL, 0) };
}

static void set_parent(struct rb_pages *pages, uint32_t handle, uint32_t parent)
{
    struct rb_subjects_head *head = rb_pages_edit(pages, handle);
    head->parent = parent;
}

/* Points the slot in which `old` hangs, by the first byte of its prefix, to `handle`. */
static void replace_in_parent(struct rb_pages *pages, struct rb_subjects *subjects, uint32_t parent,
                              const uint8_t *prefix, size_t prefix_len, uint32_t handle)
{
    if (parent == 0) {
        subjects->root = handle;
        return;
    }
    struct rb_subjects_node *node = rb_pages_edit(pages, parent);
    uint32_t at = rb_subjects_slots(node->kind) - 1;
    if (prefix_len > 0) {
        uint32_t child = rb_subjects_child(node, prefix[0], &at);
        rb_assert(child != 0);
    }
    node->children[at] = handle;
}

/* Appends a key above all others, or sets a direct node's. */
static void put_key(struct rb_subjects_node *node, uint8_t byte, uint32_t child)
{
    uint32_t at = byte;
    if (node->kind != RB_SUBJECTS_DIRECT) {
        at = rb_subjects_key_count(node);
        keys_of(node)[at] = byte;
    }
    node->children[at] = child;
    node->keys++;
}

/* The node in another kind, with another prefix. The old block is given back. */
static uint32_t remake_node(struct rb_pages *pages, struct rb_subjects *subjects, uint32_t old,
                            uint32_t kind, const uint8_t *prefix, size_t prefix_len)
{
    const struct rb_subjects_node *from = rb_pages_at(pages, old);
    uint32_t handle = create_node(pages, kind, from->parent, prefix, prefix_len);
    struct rb_subjects_node *node = rb_pages_edit(pages, handle);
    node->messages = from->messages;
    for (uint32_t at = 0;; at++) {
        uint32_t child = rb_subjects_child_from(from, &at);
        if (child == 0) {
            break;
        }
        uint8_t byte = from->kind == RB_SUBJECTS_DIRECT ? (uint8_t)at : rb_subjects_keys(from)[at];
        put_key(node, byte, child);
        set_parent(pages, child, handle);
    }
    uint32_t end = rb_subjects_end(from);
    if (end != 0) {
        node->children[rb_subjects_slots(kind) - 1] = end;
        node->keys |= RB_SUBJECTS_END;
        set_parent(pages, end, handle);
    }
    replace_in_parent(pages, subjects, node->parent, rb_subjects_prefix(from), from->prefix_len,
                      handle);
    rb_pages_give(pages, old);
    return handle;
}

static uint32_t entry_count(const struct rb_subjects_node *node)
{
    return rb_subjects_key_count(node) + ((node->keys & RB_SUBJECTS_END) != 0);
}

/* Room for one more entry; returns where the node is now. */
static uint32_t make_room(struct rb_pages *pages, struct rb_subjects *subjects, uint32_t handle)
{
    const struct rb_subjects_node *node = rb_pages_at(pages, handle);
    if (entry_count(node) < rb_subjects_slots(node->kind)) {
        return handle;
    }
    return remake_node(pages, subjects, handle, node->kind + 1u, rb_subjects_prefix(node),
                       node->prefix_len);
}

/* Hangs a child (its prefix set) into a node that has room. */
static void add_child(struct rb_pages *pages, uint32_t handle, uint32_t child)
{
    set_parent(pages, child, handle);
    const struct rb_subjects_head *head = rb_pages_at(pages, child);
    struct rb_subjects_node *node = rb_pages_edit(pages, handle);
    if (head->prefix_len == 0) {
        node->children[rb_subjects_slots(node->kind) - 1] = child;
        node->keys |= RB_SUBJECTS_END;
        return;
    }
    uint8_t byte = rb_subjects_prefix(head)[0];
    if (node->kind != RB_SUBJECTS_DIRECT) {
        uint32_t at = rb_subjects_place(node, byte);
        uint32_t behind = rb_subjects_key_count(node) - at;
        uint8_t *keys = keys_of(node);
        memmove(keys + at + 1, keys + at, behind);
        memmove(node->children + at + 1, node->children + at, behind * sizeof(uint32_t));
        keys[at] = byte;
        node->children[at] = child;
    } else {
        node->children[byte] = child;
    }
    node->keys++;
}

static void take_child_out(struct rb_pages *pages, uint32_t handle, const uint8_t *prefix,
                           size_t prefix_len)
{
    struct rb_subjects_node *node = rb_pages_edit(pages, handle);
    if (prefix_len == 0) {
        node->children[rb_subjects_slots(node->kind) - 1] = 0;
        node->keys &= (uint16_t)~RB_SUBJECTS_END;
        return;
    }
    uint32_t at;
    uint32_t child = rb_subjects_child(node, prefix[0], &at);
    rb_assert(child != 0);
    if (node->kind != RB_SUBJECTS_DIRECT) {
        uint32_t behind = rb_subjects_key_count(node) - at - 1;
        uint8_t *keys = keys_of(node);
        memmove(keys + at, keys + at + 1, behind);
        memmove(node->children + at, node->children + at + 1, behind * sizeof(uint32_t));
    } else {
        node->children[at] = 0;
    }
    node->keys--;
}

static void add_messages(struct rb_pages *pages, uint32_t leaf, uint32_t difference)
{
    const struct rb_subjects_head *head = rb_pages_at(pages, leaf);
    for (uint32_t handle = head->parent; handle != 0;) {
        struct rb_subjects_node *node = rb_pages_edit(pages, handle);
        node->messages += difference;
        handle = node->parent;
    }
}

/* Changes a prefix in place: the block has room. `prefix` may be part of it. */
static void set_prefix(struct rb_pages *pages, uint32_t handle, const uint8_t *prefix,
                       size_t prefix_len)
{
    struct rb_subjects_head *head = rb_pages_edit(pages, handle);
    memmove((uint8_t *)head + rb_subjects_fixed(head->kind), prefix, prefix_len);
    head->prefix_len = (uint8_t)prefix_len;
}

/* ---- appending ---- */

uint32_t rb_subjects_needs(const struct rb_pages *pages, uint32_t leaf, size_t subject_len)
{
    if (leaf == 0) {
        return 4 + (uint32_t)(subject_len / RB_SUBJECTS_PREFIX_MAX);
    }
    struct rb_subjects_leaf l;
    rb_subjects_leaf(pages, leaf, &l);
    return 1 + rb_postings_needs(pages, l.postings);
}

/* A node between `parent` and `child` for the first `len` bytes of the child's prefix. */
static uint32_t split(struct rb_pages *pages, struct rb_subjects *subjects, uint32_t parent,
                      uint32_t child, size_t len)
{
    const struct rb_subjects_head *head = rb_pages_at(pages, child);
    uint8_t prefix[RB_SUBJECTS_PREFIX_MAX];
    size_t prefix_len = head->prefix_len;
    memcpy(prefix, rb_subjects_prefix(head), prefix_len);
    uint32_t handle = create_node(pages, 0, parent, prefix, len);
    struct rb_subjects_node *node = rb_pages_edit(pages, handle);
    if (rb_subjects_is_leaf(head)) {
        struct rb_subjects_leaf l;
        rb_subjects_leaf(pages, child, &l);
        node->messages = l.count;
    } else {
        node->messages = ((const struct rb_subjects_node *)head)->messages;
    }
    replace_in_parent(pages, subjects, parent, prefix, prefix_len, handle);
    set_prefix(pages, child, prefix + len, prefix_len - len);
    add_child(pages, handle, child);
    return handle;
}

/* A leaf for `rest` below the node, which has room for an entry. */
static uint32_t add_leaf(struct rb_pages *pages, uint32_t node, struct rb_slice rest, uint64_t seq)
{
    while (rest.len > RB_SUBJECTS_PREFIX_MAX) {
        uint32_t between = create_node(pages, 0, node, rest.ptr, RB_SUBJECTS_PREFIX_MAX);
        add_child(pages, node, between);
        node = between;
        rest.ptr += RB_SUBJECTS_PREFIX_MAX;
        rest.len -= RB_SUBJECTS_PREFIX_MAX;
    }
    uint32_t leaf = rb_pages_take(pages, (uint32_t)(ONE_FIXED + rest.len));
    struct rb_subjects_one *one = rb_pages_edit(pages, leaf);
    one->kind = RB_SUBJECTS_LEAF_ONE;
    one->prefix_len = (uint8_t)rest.len;
    one->seq = seq;
    if (rest.len > 0) {
        memcpy((uint8_t *)one + ONE_FIXED, rest.ptr, rest.len);
    }
    add_child(pages, node, leaf);
    add_messages(pages, leaf, 1);
    return leaf;
}

uint32_t rb_subjects_insert(struct rb_pages *pages, struct rb_subjects *subjects,
                            struct rb_slice subject, struct rb_subjects_stop stop, uint64_t seq)
{
    uint32_t handle = stop.node;
    size_t pos = stop.pos;
    while (pos < subject.len) {
        uint32_t at;
        uint32_t child = rb_subjects_child(rb_pages_at(pages, handle), subject.ptr[pos], &at);
        if (child == 0) {
            break;
        }
        const struct rb_subjects_head *head = rb_pages_at(pages, child);
        const uint8_t *prefix = rb_subjects_prefix(head);
        size_t len = 1;
        while (len < head->prefix_len && pos + len < subject.len &&
               prefix[len] == subject.ptr[pos + len]) {
            len++;
        }
        if (len < head->prefix_len || rb_subjects_is_leaf(head)) {
            handle = split(pages, subjects, handle, child, len);
        } else {
            handle = child;
        }
        pos += len;
    }
    handle = make_room(pages, subjects, handle);
    subjects->count++;
    return add_leaf(pages, handle, rb_slice_of(subject.ptr + pos, subject.len - pos), seq);
}

/* The leaf in the other form or with another prefix, in a block of its own; the old one is given back. */
static uint32_t remake_leaf(struct rb_pages *pages, struct rb_subjects *subjects, uint32_t old,
                            uint32_t kind, const uint8_t *prefix, size_t prefix_len)
{
    struct rb_subjects_leaf l;
    rb_subjects_leaf(pages, old, &l);
    uint32_t fixed = rb_subjects_fixed(kind);
    uint32_t leaf = rb_pages_take(pages, fixed + (uint32_t)prefix_len);
    void *block = rb_pages_edit(pages, leaf);
    const struct rb_subjects_head *from = rb_pages_at(pages, old);
    if (kind == RB_SUBJECTS_LEAF_ONE) {
        *(struct rb_subjects_one *)block = (struct rb_subjects_one){ .seq = l.first };
    } else {
        *(struct rb_subjects_many *)block = (struct rb_subjects_many){
            .count = l.count, .postings = l.postings, .first = l.first, .last = l.last
        };
    }
    struct rb_subjects_head *head = block;
    head->parent = from->parent;
    head->kind = (uint8_t)kind;
    head->prefix_len = (uint8_t)prefix_len;
    memcpy((uint8_t *)block + fixed, prefix, prefix_len);
    replace_in_parent(pages, subjects, from->parent, rb_subjects_prefix(from), from->prefix_len,
                      leaf);
    rb_pages_give(pages, old);
    return leaf;
}

uint32_t rb_subjects_append(struct rb_pages *pages, struct rb_subjects *subjects, uint32_t leaf,
                            uint64_t seq)
{
    const struct rb_subjects_head *head = rb_pages_at(pages, leaf);
    if (head->kind == RB_SUBJECTS_LEAF_ONE) {
        leaf = remake_leaf(pages, subjects, leaf, RB_SUBJECTS_LEAF_MANY, rb_subjects_prefix(head),
                           head->prefix_len);
    }
    struct rb_subjects_many *many = rb_pages_edit(pages, leaf);
    if (many->count == 2) {
        uint32_t postings = rb_postings_append(pages, 0, many->first);
        postings = rb_postings_append(pages, postings, many->last);
        many->postings = rb_postings_append(pages, postings, seq);
    } else if (many->count > 2) {
        many->postings = rb_postings_append(pages, many->postings, seq);
    }
    many->count++;
    many->last = seq;
    add_messages(pages, leaf, 1);
    return leaf;
}

/* ---- removing ---- */

/* Joins a node that has one entry with what is below it (invariant 2). Returns the leaf that moved; 0: none. */
static uint32_t join(struct rb_pages *pages, struct rb_subjects *subjects, uint32_t handle,
                     bool *ret_gone)
{
    const struct rb_subjects_node *node = rb_pages_at(pages, handle);
    uint32_t at = 0;
    uint32_t child = (node->keys & RB_SUBJECTS_END) != 0 ? rb_subjects_end(node)
                                                         : rb_subjects_child_from(node, &at);
    const struct rb_subjects_head *head = rb_pages_at(pages, child);
    uint8_t prefix[2 * RB_SUBJECTS_PREFIX_MAX];
    size_t len = node->prefix_len;
    memcpy(prefix, rb_subjects_prefix(node), len);
    memcpy(prefix + len, rb_subjects_prefix(head), head->prefix_len);
    len += head->prefix_len;
    if (len > RB_SUBJECTS_PREFIX_MAX) {
        return 0;
    }
    uint32_t moved = 0;
    if (rb_subjects_fixed(head->kind) + len <= rb_pages_room(pages, child)) {
        set_prefix(pages, child, prefix, len);
    } else if (!rb_pages_has(pages, 1)) {
        return 0;
    } else if (!rb_subjects_is_leaf(head)) {
        child = remake_node(pages, subjects, child, head->kind, prefix, len);
    } else {
        struct rb_subjects_leaf l;
        rb_subjects_leaf(pages, child, &l);
        if (l.count > 2) {
            return 0; /* invariant 4 */
        }
        child = moved = remake_leaf(pages, subjects, child, head->kind, prefix, len);
        *ret_gone = true;
    }
    node = rb_pages_at(pages, handle);
    uint32_t parent = node->parent;
    replace_in_parent(pages, subjects, parent, prefix, len, child);
    set_parent(pages, child, parent);
    rb_pages_give(pages, handle);
    return moved;
}

static uint32_t remove_leaf(struct rb_pages *pages, struct rb_subjects *subjects, uint32_t leaf,
                            bool *ret_gone)
{
    uint32_t handle = leaf;
    uint32_t parent;
    for (;;) {
        const struct rb_subjects_head *head = rb_pages_at(pages, handle);
        parent = head->parent;
        take_child_out(pages, parent, rb_subjects_prefix(head), head->prefix_len);
        rb_pages_give(pages, handle);
        const struct rb_subjects_node *node = rb_pages_at(pages, parent);
        if (node->parent == 0 || entry_count(node) > 0) {
            break;
        }
        handle = parent;
    }
    subjects->count--;
    *ret_gone = true;
    const struct rb_subjects_node *node = rb_pages_at(pages, parent);
    uint32_t count = entry_count(node);
    if (node->parent != 0 && count == 1) {
        return join(pages, subjects, parent, ret_gone);
    }
    if (node->kind > 0) {
        uint32_t slots = rb_subjects_slots(node->kind - 1u);
        if (count < slots - slots / 4 && rb_pages_has(pages, 1)) {
            remake_node(pages, subjects, parent, node->kind - 1u, rb_subjects_prefix(node),
                        node->prefix_len);
        }
    }
    return 0;
}

uint32_t rb_subjects_remove(struct rb_pages *pages, struct rb_subjects *subjects, uint32_t leaf,
                            uint64_t seq, bool *ret_gone)
{
    *ret_gone = false;
    add_messages(pages, leaf, UINT32_MAX);
    struct rb_subjects_leaf l;
    rb_subjects_leaf(pages, leaf, &l);
    if (l.count == 1) {
        return remove_leaf(pages, subjects, leaf, ret_gone);
    }
    struct rb_subjects_many *many = rb_pages_edit(pages, leaf);
    if (l.count > 2) {
        many->postings = rb_postings_remove(pages, l.postings, seq);
        if (seq == l.first) {
            many->first = rb_postings_next(pages, many->postings, seq);
        } else if (seq == l.last) {
            many->last = rb_postings_prev(pages, many->postings, seq);
        }
        if (l.count == 3) {
            rb_postings_free(pages, many->postings);
            many->postings = 0;
        }
    } else if (seq == l.first) {
        many->first = l.last;
    } else {
        many->last = l.first;
    }
    many->count--;
    return 0;
}
