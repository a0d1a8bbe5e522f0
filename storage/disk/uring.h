/* uring.h - a disk over io_uring: O_DIRECT | O_DSYNC on the shard's own ring, registered buffers. */
#pragma once

#include "ringbus/disk.h"
#include "ringbus/ring.h"

/** The kind of the ring's completions that belong to the disk, unless its options name another. */
#define RB_URING_DISK_KIND 1

struct rb_uring_disk_options {
    const char *path;     /* made when missing; its parent must exist */
    struct rb_ring *ring; /* outlives the disk */
    bool
        shared; /* somebody else (a transport) calls rb_ring_wait; poll() only takes what has come */
    uint8_t kind;    /* of completions; 0: RB_URING_DISK_KIND. Each disk of a ring has its own */
    uint32_t op_max; /* in flight; 0: 1024 */
};

/**
 * RB_ERR_UNSUPPORTED: no direct writes in this directory (some tmpfs and overlay file systems); `why` says so. A shared ring's
 * transport is destroyed before the disk, since destroy waits on the ring.
 */
RB_MUST_CHECK enum rb_err rb_uring_disk_create(const struct rb_uring_disk_options *options,
                                               struct rb_disk **ret_disk, char why[128]);
