/* choose.c - see choose.h. */
#include "storage/disk/choose.h"

#include <stdio.h>

#include "storage/disk/posix.h"
#include "storage/disk/uring.h"

enum rb_err rb_disk_choose(const struct rb_disk_options *options, struct rb_disk **ret_disk,
                           char why[128])
{
    char refused[128] = "there is no io_uring";
    if (options->ring != NULL) {
        struct rb_uring_disk_options uring = { .path = options->path,
                                               .ring = options->ring,
                                               .shared = options->ring_shared,
                                               .kind = options->ring_kind,
                                               .op_max = options->op_max };
        enum rb_err err = rb_uring_disk_create(&uring, ret_disk, refused);
        if (err != RB_ERR_UNSUPPORTED) {
            snprintf(why, 128, "%s", refused);
            return err;
        }
    }
    struct rb_posix_disk_options posix = { .path = options->path,
                                           .op_max = options->op_max,
                                           .wake = options->wake,
                                           .wake_ctx = options->wake_ctx };
    enum rb_err err = rb_posix_disk_create(&posix, ret_disk, why);
    if (err == RB_OK) {
        snprintf(why, 128, "%s", refused);
    }
    return err;
}
