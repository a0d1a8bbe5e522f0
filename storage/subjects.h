/* subjects.h - the subjects of a store: a radix tree over their bytes, and a leaf per subject that knows its messages.
 *
 *   node: parent, kind, prefix, messages below | children, keys (sorted) | prefix bytes, of which the first is its key in the parent
 *   leaf: parent, kind, prefix, one sequence, or { count, first, last, postings of three and more } | prefix bytes
 *   A subject that ends at a node is that node's *end*: a leaf without prefix in its last child slot.
 *
 * A subject's bytes are the prefixes on the way from the root to its leaf, so they can be had from the leaf.
 */
#pragma once

#include "ringbus/slice.h"
#include "storage/pages.h"

#define RB_SUBJECTS_PREFIX_MAX 255u
#define RB_SUBJECTS_DIRECT 5u /* kind of a node with a child slot for every byte */
#define RB_SUBJECTS_LEAF_ONE 16u
#define RB_SUBJECTS_LEAF_MANY 17u
#define RB_SUBJECTS_END 0x8000u

/* The begin of nodes and leaves. */
struct rb_subjects_head {
    uint32_t parent; /* 0: it is the root */
    uint8_t kind;
    uint8_t prefix_len;
};

struct rb_subjects_node {
    uint32_t parent;
    uint8_t kind;
    uint8_t prefix_len;
    uint16_t keys; /* their number, and RB_SUBJECTS_END */
    uint32_t messages;
    uint32_t children[];
};

struct rb_subjects_one {
    uint32_t parent;
    uint8_t kind;
    uint8_t prefix_len;
    uint64_t seq;
    uint8_t prefix[];
} __attribute__((packed, aligned(4)));

struct rb_subjects_many {
    uint32_t parent;
    uint8_t kind;
    uint8_t prefix_len;
    uint32_t count;
    uint32_t postings; /* 0 when count is at most 2 */
    uint64_t first, last;
    uint8_t prefix[];
} __attribute__((packed, aligned(4)));

/* Lives in page 0 of a frozen index. */
struct rb_subjects {
    uint32_t root;
    uint32_t pad;
    uint64_t count;
};

/* What a leaf knows. */
struct rb_subjects_leaf {
    uint64_t first, last;
    uint32_t count;
    uint32_t postings;
};

static inline bool rb_subjects_is_leaf(const void *block)
{
    return ((const struct rb_subjects_head *)block)->kind >= RB_SUBJECTS_LEAF_ONE;
}

/** Child slots of a node of this kind. */
static inline uint32_t rb_subjects_slots(uint32_t kind)
{
    static const uint16_t slots[8] = { 3, 10, 16, 28, 47, 257, 0, 0 };
    return slots[kind & 7];
}

static inline uint32_t rb_subjects_key_count(const struct rb_subjects_node *node)
{
    return node->keys & (RB_SUBJECTS_END - 1);
}

/** Of a node that is not direct. */
static inline const uint8_t *rb_subjects_keys(const struct rb_subjects_node *node)
{
    return (const uint8_t *)(node->children + rb_subjects_slots(node->kind));
}

/** The leaf of the subject that ends at this node; 0: none does. */
static inline uint32_t rb_subjects_end(const struct rb_subjects_node *node)
{
    return (node->keys & RB_SUBJECTS_END) != 0 ? node->children[rb_subjects_slots(node->kind) - 1]
                                               : 0;
}

/** Bytes of a node or leaf but its prefix. */
uint32_t rb_subjects_fixed(uint32_t kind);
/** The prefix of a node or leaf. */
const uint8_t *rb_subjects_prefix(const void *block);
/** The child by this byte; 0: none. *ret_at: its place among the keys (a direct node: the byte). */
uint32_t rb_subjects_child(const struct rb_subjects_node *node, uint8_t byte, uint32_t *ret_at);
/** The first child at or behind place *at, which becomes its place; 0: none. */
uint32_t rb_subjects_child_from(const struct rb_subjects_node *node, uint32_t *at);
/** The place of the first child whose key is at least `byte`. */
uint32_t rb_subjects_place(const struct rb_subjects_node *node, uint8_t byte);

/** Makes the root; room for one allocation was reserved. */
void rb_subjects_create(struct rb_pages *pages, struct rb_subjects *subjects);
/* The node at which a search ended, and how many bytes of the subject lead there. */
struct rb_subjects_stop {
    uint32_t node, pos;
};

/** The leaf of a subject; 0: none, and *ret_stop (may be NULL) is where to insert it. */
uint32_t rb_subjects_search(const struct rb_pages *pages, const struct rb_subjects *subjects,
                            struct rb_slice subject, struct rb_subjects_stop *ret_stop);
uint32_t rb_subjects_find(const struct rb_pages *pages, const struct rb_subjects *subjects,
                          struct rb_slice subject);
/** Its subject, at the begin of out[RB_MSGSTORE_SUBJECT_MAX]. */
struct rb_slice rb_subjects_name(const struct rb_pages *pages, uint32_t leaf, uint8_t *out);
void rb_subjects_leaf(const struct rb_pages *pages, uint32_t leaf,
                      struct rb_subjects_leaf *ret_leaf);

/** Allocations that appending may need: to a new subject (leaf 0), or to this one. */
uint32_t rb_subjects_needs(const struct rb_pages *pages, uint32_t leaf, size_t subject_len);
/** Adds a subject that was just searched and is not there, with one message. Returns its leaf. */
uint32_t rb_subjects_insert(struct rb_pages *pages, struct rb_subjects *subjects,
                            struct rb_slice subject, struct rb_subjects_stop stop, uint64_t seq);
/** Adds a message, newer than all others. Returns the leaf, which moves only when it had one message. */
uint32_t rb_subjects_append(struct rb_pages *pages, struct rb_subjects *subjects, uint32_t leaf,
                            uint64_t seq);
/**
 * Takes a message away, with its last one the subject. Another leaf (of one or two messages) may have to move: returns where it
 * is now, 0: none did. *ret_gone: a leaf's handle ceased to be that leaf's.
 */
uint32_t rb_subjects_remove(struct rb_pages *pages, struct rb_subjects *subjects, uint32_t leaf,
                            uint64_t seq, bool *ret_gone);
/** First message >= seq of this subject, last one <= seq, and how many are below seq. */
uint64_t rb_subjects_next(const struct rb_pages *pages, uint32_t leaf, uint64_t seq);
uint64_t rb_subjects_prev(const struct rb_pages *pages, uint32_t leaf, uint64_t seq);
uint64_t rb_subjects_below(const struct rb_pages *pages, uint32_t leaf, uint64_t seq);
