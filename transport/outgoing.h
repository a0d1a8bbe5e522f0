/* outgoing.h - the bytes of a send that the kernel has not taken yet; for drivers over sockets. */
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include "ringbus/bounds.h"
#include "ringbus/mem.h"
#include "ringbus/slice.h"

#define RB_GATHER_SMALL 8

/** A send of several slices. */
struct rb_gather {
    struct msghdr header; /* msg_iov moves forward over what was sent */
    uint32_t cap;
    struct iovec iov[];
};

/** Small and large gathers, one pair per transport. */
struct rb_gather_pools {
    struct rb_pool small, large;
};

/** One slice needs no gather. */
struct rb_outgoing {
    struct rb_gather *gather; /* NULL: ptr and len */
    const uint8_t *ptr;
    size_t len;
};

void rb_gather_pools_init(struct rb_gather_pools *pools, struct rb_budget *budget);
void rb_gather_pools_deinit(struct rb_gather_pools *pools);

/**
 * Takes over the slices (the array is copied, empty ones are left out, so that the kernel's byte
 * count alone tells what is left). Errors: RB_ERR_FULL when memory is refused.
 */
RB_MUST_CHECK enum rb_err rb_outgoing_set(struct rb_outgoing *out, struct rb_gather_pools *pools,
                                          const struct rb_slice *slices, uint32_t slice_count);
/** Moves over `bytes` that left; returns whether any remain. */
bool rb_outgoing_advance(struct rb_outgoing *out, size_t bytes);
/** Gives the gather back. */
void rb_outgoing_clear(struct rb_outgoing *out, struct rb_gather_pools *pools);
