/* expiry.h - which messages of a stream are due to go, and when, without looking at all of them.
 *
 * Messages with a lifetime of their own sit in a heap by due time. The others share the stream's max_age: times never go back, so
 * the oldest message is the first due, and a place to go on from is all that is kept. What never goes, and what leaves no delete
 * marker, are ascending lists of sequences.
 */
#pragma once

#include "js/doc.h"
#include "ringbus/msgstore.h"

/** Ascending sequences. */
struct rb_js_seqs {
    uint64_t *items;
    uint32_t begin, end, cap; /* in force: items[begin..end) */
};
struct rb_js_due {
    uint64_t due_ns, seq;
};
struct rb_js_expiry {
    struct rb_budget *budget;
    struct rb_js_due *heap;
    uint32_t heap_len, heap_cap;
    struct rb_js_seqs forever, quiet;
    uint64_t age_seq; /* messages below it were looked at: they go otherwise or never */
};

void rb_js_expiry_init(struct rb_js_expiry *expiry, struct rb_budget *budget);
void rb_js_expiry_deinit(struct rb_js_expiry *expiry);
/** False: memory refused. */
bool rb_js_expiry_add(struct rb_js_expiry *expiry, uint64_t due_ns, uint64_t seq);
bool rb_js_expiry_add_forever(struct rb_js_expiry *expiry, uint64_t seq);
bool rb_js_expiry_add_quiet(struct rb_js_expiry *expiry, uint64_t seq);
bool rb_js_expiry_is_quiet(const struct rb_js_expiry *expiry, uint64_t seq);
/** Next message due by `now_ns`, taken off; 0: none. `max_age_ns` 0: only lifetimes of their own. */
uint64_t rb_js_expiry_next(struct rb_js_expiry *expiry, const struct rb_msgstore *store,
                           uint64_t now_ns, uint64_t max_age_ns);
/** When the next one is due, or before; UINT64_MAX: none. */
uint64_t rb_js_expiry_due(struct rb_js_expiry *expiry, const struct rb_msgstore *store,
                          uint64_t max_age_ns);
/** max_age changed: all are looked at again. */
void rb_js_expiry_again(struct rb_js_expiry *expiry);
/** Many messages went: forgets those that are not there. */
void rb_js_expiry_sweep(struct rb_js_expiry *expiry, const struct rb_msgstore *store);
void rb_js_expiry_save(const struct rb_js_expiry *expiry, struct rb_out *out);
RB_MUST_CHECK enum rb_err rb_js_expiry_load(struct rb_js_expiry *expiry, struct rb_reader *reader);
