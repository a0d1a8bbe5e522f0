/* bufring.c - receive buffers the kernel chooses from.
 *
 *   kernel: [ring of ids] --completion names one--> held (this turn's events) --next poll--> ring
 *
 * 1. A buffer is with the kernel, in a completion not looked at yet, or held; `held` has room for
 *    all.
 * 2. Memory is mapped, not touched: what was never received into costs no pages.
 * 3. A connection that waits for bytes has no buffer; the kernel picks one when bytes are there.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "transport/uring/inside.h"

static size_t ring_bytes(uint32_t count)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    return (count * sizeof(struct io_uring_buf) + page_bytes - 1) / page_bytes * page_bytes;
}

static void *map_memory(size_t bytes)
{
    void *ptr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return ptr == MAP_FAILED ? NULL : ptr;
}

static void unmap(struct uring_bufs *bufs)
{
    if (bufs->ring != NULL) {
        munmap(bufs->ring, ring_bytes(bufs->count));
    }
    if (bufs->memory != NULL) {
        munmap(bufs->memory, (size_t)bufs->count * RB_RECV_BYTES);
    }
    free(bufs->held);
    *bufs = (struct uring_bufs){ 0 };
}

static void add(struct uring_bufs *bufs, uint16_t id, uint32_t position)
{
    io_uring_buf_ring_add(bufs->ring, bufs->memory + (size_t)id * RB_RECV_BYTES, RB_RECV_BYTES, id,
                          (int)(bufs->count - 1), (int)position);
}

enum rb_err rb_uring_bufs_init(struct uring_bufs *bufs, struct rb_ring *ring, uint32_t count)
{
    if (count == 0 || count > 32768 || (count & (count - 1)) != 0) {
        return RB_ERR_INVALID;
    }
    *bufs = (struct uring_bufs){ .count = count };
    bufs->ring = map_memory(ring_bytes(count));
    bufs->memory = map_memory((size_t)count * RB_RECV_BYTES);
    bufs->held = calloc(count, sizeof(*bufs->held));
    if (bufs->ring == NULL || bufs->memory == NULL || bufs->held == NULL) {
        unmap(bufs);
        return RB_ERR_MEMORY;
    }
    struct io_uring_buf_reg reg = { .ring_addr = (uintptr_t)bufs->ring,
                                    .ring_entries = count,
                                    .bgid = URING_BUF_GROUP };
    int result = io_uring_register_buf_ring(rb_ring_raw(ring), &reg, 0);
    if (result != 0) {
        unmap(bufs);
        return result == -ENOMEM ? RB_ERR_MEMORY : RB_ERR_UNSUPPORTED;
    }
    io_uring_buf_ring_init(bufs->ring);
    for (uint32_t i = 0; i < count; i++) {
        add(bufs, (uint16_t)i, i);
    }
    io_uring_buf_ring_advance(bufs->ring, (int)count);
    return RB_OK;
}

void rb_uring_bufs_deinit(struct uring_bufs *bufs, struct rb_ring *ring)
{
    io_uring_unregister_buf_ring(rb_ring_raw(ring), URING_BUF_GROUP);
    unmap(bufs);
}

struct rb_slice rb_uring_bufs_take(struct uring_bufs *bufs, uint32_t cqe_flags, int32_t res)
{
    uint32_t id = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    rb_assert(id < bufs->count && bufs->held_count < bufs->count); /* invariant 1 */
    bufs->held[bufs->held_count++] = (uint16_t)id;
    size_t len = res > 0 ? (size_t)res : 0;
    rb_assert(len <= RB_RECV_BYTES);
    return rb_slice_of(bufs->memory + (size_t)id * RB_RECV_BYTES, len);
}

uint32_t rb_uring_bufs_give_back(struct uring_bufs *bufs)
{
    uint32_t count = bufs->held_count;
    for (uint32_t i = 0; i < count; i++) {
        add(bufs, bufs->held[i], i);
    }
    if (count > 0) {
        io_uring_buf_ring_advance(bufs->ring, (int)count);
        bufs->held_count = 0;
    }
    return count;
}
