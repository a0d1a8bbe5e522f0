/* spsc.h - bounded lock-free queue of pointers: one producing thread, one consuming thread. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"

struct rb_spsc {
    _Alignas(64) _Atomic uint32_t head; /* next to take; written by the consumer */
    uint32_t tail_seen;                 /* consumer's copy of tail */
    _Alignas(64) _Atomic uint32_t tail; /* next to put; written by the producer */
    uint32_t head_seen;                 /* producer's copy of head */
    _Alignas(64) uint32_t cap;          /* a power of two */
    void **items;
};

/** `cap` is rounded up to a power of two. */
RB_MUST_CHECK enum rb_err rb_spsc_init(struct rb_spsc *ring, uint32_t cap);
void rb_spsc_deinit(struct rb_spsc *ring);
/** Producer: false when full. Release: what was written before is seen by who takes the item. */
bool rb_spsc_push(struct rb_spsc *ring, void *item);
/** Producer: free places (a lower bound). */
uint32_t rb_spsc_room(struct rb_spsc *ring);
/** Consumer: NULL when empty. */
void *rb_spsc_pop(struct rb_spsc *ring);
/** Consumer: true when an item waits (sequentially consistent, for the sleep protocol). */
bool rb_spsc_ready(struct rb_spsc *ring);
