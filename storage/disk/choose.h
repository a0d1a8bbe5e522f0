/* choose.h - the disk for a directory: io_uring where it works, helper threads where it does not. */
#pragma once

#include "ringbus/disk.h"

struct rb_ring;

struct rb_disk_options {
    const char *path;
    struct rb_ring *ring; /* NULL: there is none (io_uring is refused) */
    bool ring_shared;     /* these two: see rb_uring_disk_options */
    uint8_t ring_kind;
    uint32_t op_max;         /* 0: 1024 */
    void (*wake)(void *ctx); /* see rb_posix_disk_options; used when the ring is not */
    void *wake_ctx;
};

/** (*ret_disk)->ops->name says which one it is; `why` says why it is not io_uring (empty: it is), or what is wrong. */
RB_MUST_CHECK enum rb_err rb_disk_choose(const struct rb_disk_options *options,
                                         struct rb_disk **ret_disk, char why[128]);
