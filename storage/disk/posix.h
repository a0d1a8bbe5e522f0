/* posix.h - a disk that works everywhere: blocking calls and fdatasync on helper threads. */
#pragma once

#include "ringbus/disk.h"

struct rb_posix_disk_options {
    const char *path;      /* made when missing; its parent must exist */
    uint32_t thread_count; /* 0: 4 */
    uint32_t op_max;       /* in flight; 0: 1024 */
    /** Called from helper threads when something has completed: wakes the shard that does not wait in poll(). May be NULL. */
    void (*wake)(void *ctx);
    void *wake_ctx;
};

/** `why` says what is wrong when it fails. */
RB_MUST_CHECK enum rb_err rb_posix_disk_create(const struct rb_posix_disk_options *options,
                                               struct rb_disk **ret_disk, char why[128]);
