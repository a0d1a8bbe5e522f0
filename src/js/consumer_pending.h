/* consumer_pending.h - what a consumer delivered and what waits for an ack, by stream sequence; and which of it is overdue.
 *
 * First deliveries come in ascending order, so the table is an array in that order: an ack finds its place by calculation when
 * sequences are dense, else by halving. The first deliveries that were never touched again are in order of time as well; a mark
 * walks along them. What was delivered again, refused with a delay or prolonged is in a heap by its time. Finding what is overdue
 * therefore looks only at what is, and at one that is not.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "js/config.h"
#include "ringbus/mem.h"

enum rb_js_pending_flags {
    RB_JS_PENDING_GONE = 1,   /* acked; its place is reused later */
    RB_JS_PENDING_ODD = 2,    /* its time is in the heap */
    RB_JS_PENDING_QUEUED = 4, /* overdue or refused: waits to be delivered again */
    RB_JS_PENDING_ACKING = 8, /* an ack was proposed: not delivered again meanwhile */
};
struct rb_js_pending_entry {
    uint64_t seq, consumer_seq; /* of the stream; of its first delivery */
    uint64_t time_ns;           /* wall; of the last delivery, moved by a delay */
    uint32_t count;             /* deliveries */
    uint8_t flags;
};
/** Delivered as often as allowed: not pending any more, but still of interest. */
struct rb_js_spent {
    uint64_t seq;
    uint32_t count;
};
struct rb_js_pending_due {
    uint64_t due_ns, seq;
};
struct rb_js_pending {
    struct rb_budget *budget;
    struct rb_js_pending_entry *entries;
    uint32_t begin, end, cap;
    uint32_t live;   /* entries without GONE */
    uint32_t again;  /* of these, delivered more than once */
    uint32_t acking; /* of these, with ACKING */
    uint32_t walked; /* entries before this were looked at, or are odd */
    struct rb_js_pending_due *heap;
    uint32_t heap_len, heap_cap;
    bool heap_short; /* memory was refused: made anew when asked next */
    struct rb_js_spent *spent;
    uint32_t spent_len, spent_cap;
    uint64_t *queue; /* ring of sequences to be delivered again */
    uint32_t queue_head, queue_len, queue_cap;
};

void rb_js_pending_init(struct rb_js_pending *pending, struct rb_budget *budget);
void rb_js_pending_deinit(struct rb_js_pending *pending);
/** Forgets everything. */
void rb_js_pending_clear(struct rb_js_pending *pending);
/** NULL: not pending. Valid until the next add. */
struct rb_js_pending_entry *rb_js_pending_find(const struct rb_js_pending *pending, uint64_t seq);
/** Room for one more; false: memory refused. */
bool rb_js_pending_reserve(struct rb_js_pending *pending);
/** A first delivery; `seq` is above all others. Room was reserved. */
struct rb_js_pending_entry *rb_js_pending_add(struct rb_js_pending *pending, uint64_t seq,
                                              uint64_t consumer_seq, uint64_t time_ns,
                                              uint32_t count);
void rb_js_pending_drop(struct rb_js_pending *pending, struct rb_js_pending_entry *entry);
/** The lowest; NULL: none. */
struct rb_js_pending_entry *rb_js_pending_first(const struct rb_js_pending *pending);
/** The lowest at or above `seq`; NULL: none. */
struct rb_js_pending_entry *rb_js_pending_from(const struct rb_js_pending *pending, uint64_t seq);
/** The next above `entry`; NULL: none. */
struct rb_js_pending_entry *rb_js_pending_after(const struct rb_js_pending *pending,
                                                const struct rb_js_pending_entry *entry);
/** How long a message may go without an ack after so many deliveries. */
uint64_t rb_js_pending_wait_ns(const struct rb_js_consumer_config *config, uint32_t count);
/** Counts a delivery. */
void rb_js_pending_redelivered(struct rb_js_pending *pending, struct rb_js_pending_entry *entry,
                               uint32_t count);
/** Its clock starts at `time_ns` (wall) from now on. */
void rb_js_pending_touch(struct rb_js_pending *pending, struct rb_js_pending_entry *entry,
                         const struct rb_js_consumer_config *config, uint64_t time_ns);
/**
 * One that is overdue at `wall_ns`, with QUEUED set now; NULL: none, and *ret_due_ns says when one will be (wall; UINT64_MAX:
 * never).
 */
struct rb_js_pending_entry *rb_js_pending_overdue(struct rb_js_pending *pending,
                                                  const struct rb_js_consumer_config *config,
                                                  uint64_t wall_ns, uint64_t *ret_due_ns);
/** Waits changed (configuration), or entries were loaded: the order of time is found anew. */
void rb_js_pending_reorder(struct rb_js_pending *pending);

/** To be delivered again, behind the others. False: memory refused. */
bool rb_js_pending_queue(struct rb_js_pending *pending, uint64_t seq);
/** Puts the last `count` of the queue in order. */
void rb_js_pending_queue_sort(struct rb_js_pending *pending, uint32_t count);
/** The next that is still pending and not being acked; it stays at the head of the queue. NULL: none. */
struct rb_js_pending_entry *rb_js_pending_queue_peek(struct rb_js_pending *pending);
void rb_js_pending_queue_pop(struct rb_js_pending *pending);

/** Spent; false: memory refused. */
bool rb_js_pending_spend(struct rb_js_pending *pending, uint64_t seq, uint32_t count);
bool rb_js_pending_is_spent(const struct rb_js_pending *pending, uint64_t seq);
/** True: it was. */
bool rb_js_pending_unspend(struct rb_js_pending *pending, uint64_t seq);
