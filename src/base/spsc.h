/* spsc.h - bounded lock-free queue of pointers: one producing thread, one consuming thread.
 *
 * 1. Indexes run freely through 32 bits; `tail - head` is the number of items, at most `cap`.
 * 2. Each side owns one cache line and keeps there a copy of the other side's index, refreshed only
 *    when the copy says full (or empty): a steady flow moves few lines between the cores.
 * 3. An item's slot is written before `tail` is stored and read before `head` is stored (release),
 *    and the other side loads these with acquire before it touches the slot.
 * 4. Sleeping: the consumer stores its flag, then asks rb_spsc_ready(); the producer pushes, then
 *    loads the flag. With sequentially consistent flag accesses one of them sees the other: the
 *    store of `tail` and the load in rb_spsc_ready() are part of the same total order.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"

/** 64-byte aligned: memory for one comes from aligned_alloc() or static storage. */
struct rb_spsc {
    _Alignas(64) _Atomic uint32_t head; /* next to take; written by the consumer */
    uint32_t tail_seen;                 /* consumer's copy of tail */
    _Alignas(64) _Atomic uint32_t tail; /* next to put; written by the producer */
    uint32_t head_seen;                 /* producer's copy of head */
    _Alignas(64) uint32_t cap;          /* a power of two */
    void **items;
};

/** `cap` (1 .. 2^31) is rounded up to a power of two. Errors: RB_ERR_MEMORY, RB_ERR_INVALID. */
RB_MUST_CHECK enum rb_err rb_spsc_init(struct rb_spsc *ring, uint32_t cap);
/** Frees the places, not the items. */
void rb_spsc_deinit(struct rb_spsc *ring);

/** Producer: free places (a lower bound; exact when it is 0 at the moment of looking). */
static inline uint32_t rb_spsc_room(struct rb_spsc *ring)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
    return ring->cap - (tail - ring->head_seen);
}

/** Producer: false when full. Release: what was written before is seen by who takes the item. */
static inline bool rb_spsc_push(struct rb_spsc *ring, void *item)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - ring->head_seen == ring->cap && rb_spsc_room(ring) == 0) {
        return false;
    }
    ring->items[tail & (ring->cap - 1)] = item;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_seq_cst); /* 3 and 4 */
    return true;
}

/** Consumer: NULL when empty. */
static inline void *rb_spsc_pop(struct rb_spsc *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head == ring->tail_seen) {
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (head == ring->tail_seen) {
            return NULL;
        }
    }
    void *item = ring->items[head & (ring->cap - 1)];
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return item;
}

/** Consumer: true when an item waits (sequentially consistent, for the sleep protocol). */
static inline bool rb_spsc_ready(struct rb_spsc *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_seq_cst);
    return head != ring->tail_seen;
}
