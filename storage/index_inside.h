/* index_inside.h - what the files of the message stores' index share. Nothing outside storage/index*.c includes it. */
#pragma once

#include "storage/filter.h"
#include "storage/sequences.h"

struct rb_index {
    struct rb_pages pages;
    struct rb_sequences table;
    struct rb_subjects subjects;
    uint64_t message_bytes; /* sum of what the messages count */
    uint64_t epoch;         /* handles of leaves were given up so many times */
};

/** Any of the filters is everything, or there is none. */
bool rb_index_is_everything(const struct rb_slice *filters, uint32_t count);
/** Messages matching, those matching several filters counted several times, and no less than the leaves matching; cheap. */
uint64_t rb_index_estimate(const struct rb_index *index, const struct rb_slice *filters,
                           uint32_t count, uint64_t *ret_leaves);
/** No subject matches two of them, and counting what they match is cheap: no filter has a `*`. */
bool rb_index_is_plain(const struct rb_slice *filters, uint32_t count);
/** The subject of this leaf matches one of the filters. */
bool rb_index_leaf_matches(const struct rb_index *index, const struct rb_slice *filters,
                           uint32_t count, uint32_t leaf);
