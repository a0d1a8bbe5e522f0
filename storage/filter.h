/* filter.h - which subjects a filter with wildcards matches: one by one, byte by byte, and as a walk over the tree of subjects. */
#pragma once

#include "storage/subjects.h"

/* How far into a filter one is: twice the place of the next byte, and whether the wildcard there has had a byte. */
typedef uint32_t rb_filter_state;
#define RB_FILTER_DEAD UINT32_MAX

/** Empty, or ">". */
bool rb_filter_everything(struct rb_slice filter);
/** Has no wildcard. */
bool rb_filter_is_literal(struct rb_slice filter);
/** Has no wildcard but a `>`: what it matches is one subtree. */
bool rb_filter_is_plain(struct rb_slice filter);
/** Goes on by some bytes of a subject; RB_FILTER_DEAD: no subject that begins so matches. Begin with 0. */
rb_filter_state rb_filter_step(struct rb_slice filter, rb_filter_state state, const uint8_t *bytes,
                               size_t len);
/** A subject that ends here matches. */
bool rb_filter_accepts(struct rb_slice filter, rb_filter_state state);
/** Every subject that goes on from here matches. */
bool rb_filter_open(struct rb_slice filter, rb_filter_state state);
bool rb_filter_matches(struct rb_slice filter, struct rb_slice subject);
/** Is there a subject that both match? (May say so when there is none; never the other way round.) */
bool rb_filter_overlap(struct rb_slice a, struct rb_slice b);

#define RB_FILTER_WALK_MAX (RB_MSGSTORE_SUBJECT_MAX + 2)

/* A walk over the leaves that match, in byte order of their subjects. Large: on the stack of the question. */
struct rb_filter_walk {
    const struct rb_pages *pages;
    struct rb_slice filter;
    uint32_t depth;
    struct rb_filter_place {
        uint32_t node;
        uint16_t at; /* 0: the end comes next; else 1 + place of the key that comes next */
        uint16_t pad;
        rb_filter_state state;
    } places[RB_FILTER_WALK_MAX];
};

void rb_filter_walk_begin(struct rb_filter_walk *walk, const struct rb_pages *pages, uint32_t root,
                          struct rb_slice filter);
/** Goes to behind the subject `after`, which need not exist. */
void rb_filter_walk_seek(struct rb_filter_walk *walk, struct rb_slice after);
/**
 * The next leaf; 0: no more. With ret_messages, a node all of whose subjects match comes instead of its leaves; *ret_messages is
 * the number of messages of the node or leaf.
 */
uint32_t rb_filter_walk_next(struct rb_filter_walk *walk, uint64_t *ret_messages);
