/* spsc.c - places of the single-producer, single-consumer queue. The queue itself and its
 * invariants are in spsc.h, inline: a push or a pop is a handful of instructions. */
#include "base/spsc.h"

#include <stdlib.h>

#define CAP_MAX (UINT32_C(1) << 31) /* so that a full ring still differs from an empty one */

enum rb_err rb_spsc_init(struct rb_spsc *ring, uint32_t cap)
{
    if (cap == 0 || cap > CAP_MAX) {
        return RB_ERR_INVALID;
    }
    uint32_t rounded = 1;
    while (rounded < cap) {
        rounded *= 2;
    }
    void **items = calloc(rounded, sizeof(*items));
    if (items == NULL) {
        return RB_ERR_MEMORY;
    }
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    ring->tail_seen = ring->head_seen = 0;
    ring->cap = rounded;
    ring->items = items;
    return RB_OK;
}

void rb_spsc_deinit(struct rb_spsc *ring)
{
    free(ring->items);
    ring->items = NULL;
    ring->cap = 0;
}
