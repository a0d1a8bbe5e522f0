/* dedup.h - the message ids that a stream has seen within its window. */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "js/doc.h"
#include "js/pools.h"

struct rb_js_dedup {
    struct rb_js_pools *pools;
    struct rb_map map;
    struct rb_list order; /* by time, oldest first */
};

void rb_js_dedup_init(struct rb_js_dedup *dedup, struct rb_js_pools *pools);
void rb_js_dedup_deinit(struct rb_js_dedup *dedup);
/** Sequence of the message with that id; 0: not seen. Forget what is too old before. */
uint64_t rb_js_dedup_find(const struct rb_js_dedup *dedup, struct rb_slice id);
/** `id` is not in it; `time_ns` is not before the newest. False: memory refused. */
bool rb_js_dedup_add(struct rb_js_dedup *dedup, struct rb_slice id, uint64_t seq, uint64_t time_ns);
/** Forgets what was seen at `time_ns` or before. */
void rb_js_dedup_forget(struct rb_js_dedup *dedup, uint64_t time_ns);
/** Time of the oldest; UINT64_MAX: empty. */
uint64_t rb_js_dedup_oldest(const struct rb_js_dedup *dedup);
void rb_js_dedup_save(const struct rb_js_dedup *dedup, struct rb_out *out);
RB_MUST_CHECK enum rb_err rb_js_dedup_load(struct rb_js_dedup *dedup, struct rb_reader *reader);
