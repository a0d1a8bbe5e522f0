/* ring.c - a ring of bytes between two threads. */
#include <string.h>

#include "ringbus/check.h"
#include "transport/pipe/inside.h"

uint32_t rb_pipe_ring_used(const struct pipe_ring *ring)
{
    return atomic_load(&ring->tail) - atomic_load(&ring->head);
}

uint32_t rb_pipe_ring_put(struct pipe_ring *ring, uint32_t ring_bytes, const uint8_t *bytes,
                          size_t len)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t room = ring_bytes - (tail - atomic_load(&ring->head));
    uint32_t count = len < room ? (uint32_t)len : room;
    if (count == 0) {
        return 0;
    }
    uint32_t at = tail & (ring_bytes - 1), until_end = ring_bytes - at;
    uint32_t first = count < until_end ? count : until_end;
    memcpy(ring->bytes + at, bytes, first);
    memcpy(ring->bytes, bytes + first, count - first);
    atomic_store(&ring->tail, tail + count);
    return count;
}

struct rb_slice rb_pipe_ring_peek(const struct pipe_ring *ring, uint32_t ring_bytes, uint32_t skip,
                                  uint32_t max)
{
    uint32_t used = rb_pipe_ring_used(ring);
    rb_assert(skip <= used && used <= ring_bytes);
    uint32_t at =
        (atomic_load_explicit(&ring->head, memory_order_relaxed) + skip) & (ring_bytes - 1);
    uint32_t len = used - skip, until_end = ring_bytes - at;
    len = len < until_end ? len : until_end;
    return rb_slice_of(ring->bytes + at, len < max ? len : max);
}

void rb_pipe_ring_drop(struct pipe_ring *ring, uint32_t len)
{
    atomic_store(&ring->head, atomic_load_explicit(&ring->head, memory_order_relaxed) + len);
}
