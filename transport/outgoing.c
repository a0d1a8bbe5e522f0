/* outgoing.c - the bytes of a send that the kernel has not taken yet. */
#include "transport/outgoing.h"

#include <stdint.h>

#include "ringbus/check.h"

void rb_gather_pools_init(struct rb_gather_pools *pools, struct rb_budget *budget)
{
    size_t head_bytes = sizeof(struct rb_gather), iov_bytes = sizeof(struct iovec);
    rb_pool_init(&pools->small, budget, head_bytes + RB_GATHER_SMALL * iov_bytes, 64);
    rb_pool_init(&pools->large, budget, head_bytes + RB_SEND_SLICES_MAX * iov_bytes, 16);
}

void rb_gather_pools_deinit(struct rb_gather_pools *pools)
{
    rb_pool_deinit(&pools->small);
    rb_pool_deinit(&pools->large);
}

static struct rb_gather *acquire_gather(struct rb_gather_pools *pools, uint32_t count)
{
    bool is_small = count <= RB_GATHER_SMALL;
    struct rb_gather *gather = rb_pool_acquire(is_small ? &pools->small : &pools->large);
    if (gather != NULL) {
        gather->cap = is_small ? RB_GATHER_SMALL : RB_SEND_SLICES_MAX;
    }
    return gather;
}

enum rb_err rb_outgoing_set(struct rb_outgoing *out, struct rb_gather_pools *pools,
                            const struct rb_slice *slices, uint32_t slice_count)
{
    rb_assert(slice_count >= 1 && slice_count <= RB_SEND_SLICES_MAX);
    uint32_t filled = 0;
    struct rb_slice last = { 0 };
    for (uint32_t i = 0; i < slice_count; i++) {
        if (slices[i].len > 0) {
            filled++;
            last = slices[i];
        }
    }
    if (filled <= 1) {
        *out = (struct rb_outgoing){ .ptr = last.ptr, .len = last.len };
        return RB_OK;
    }
    struct rb_gather *gather = acquire_gather(pools, filled);
    if (gather == NULL) {
        return RB_ERR_FULL;
    }
    gather->header = (struct msghdr){ .msg_iov = gather->iov };
    for (uint32_t i = 0; i < slice_count; i++) {
        if (slices[i].len > 0) {
            gather->iov[gather->header.msg_iovlen++] =
                (struct iovec){ .iov_base = (void *)(uintptr_t)slices[i].ptr,
                                .iov_len = slices[i].len };
        }
    }
    *out = (struct rb_outgoing){ .gather = gather };
    return RB_OK;
}

bool rb_outgoing_advance(struct rb_outgoing *out, size_t bytes)
{
    if (out->gather == NULL) {
        rb_assert(bytes <= out->len);
        out->ptr = bytes == 0 ? out->ptr : out->ptr + bytes;
        out->len -= bytes;
        return out->len > 0;
    }
    struct msghdr *header = &out->gather->header;
    while (header->msg_iovlen > 0 && bytes >= header->msg_iov->iov_len) {
        bytes -= header->msg_iov->iov_len;
        header->msg_iov++;
        header->msg_iovlen--;
    }
    if (header->msg_iovlen == 0) {
        rb_assert(bytes == 0);
        return false;
    }
    header->msg_iov->iov_base = (uint8_t *)header->msg_iov->iov_base + bytes;
    header->msg_iov->iov_len -= bytes;
    return true;
}

void rb_outgoing_clear(struct rb_outgoing *out, struct rb_gather_pools *pools)
{
    if (out->gather != NULL) {
        bool is_small = out->gather->cap == RB_GATHER_SMALL;
        rb_pool_release(is_small ? &pools->small : &pools->large, out->gather);
    }
    *out = (struct rb_outgoing){ 0 };
}
