/* small_index.h - an index with one-line appends, for tests that need no model. */
#pragma once

#include <stdlib.h>

#include "storage/index.h"

struct small {
    struct rb_budget budget;
    struct rb_index *index;
};

static inline int small_setup(void **state)
{
    struct small *s = calloc(1, sizeof(*s));
    if (rb_index_create(&s->budget, &s->index) != RB_OK) {
        return -1;
    }
    *state = s;
    return 0;
}

static inline int small_teardown(void **state)
{
    struct small *s = *state;
    rb_index_destroy(s->index);
    int left = s->budget.used_bytes != 0;
    free(s);
    return left;
}

static inline enum rb_err put(struct small *s, uint64_t seq, const char *subject)
{
    struct rb_index_message message = { .seq = seq,
                                        .time_us = 1000 + seq,
                                        .place = 7,
                                        .bytes = 10,
                                        .subject = rb_slice_text(subject) };
    return rb_index_append(s->index, &message);
}

static inline uint64_t count_of(struct small *s, const char *filter, uint64_t from)
{
    struct rb_slice slice = rb_slice_text(filter);
    return rb_index_count(s->index, &slice, 1, from);
}
