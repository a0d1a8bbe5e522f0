/* disk_suite.h - what disk.h promises, checked against any driver. */
#pragma once

#include "ringbus/disk.h"

/** A disk in an empty directory, and how time passes for it. */
struct disk_suite {
    struct rb_disk *disk;
    /** Called while nothing completes; moves simulated time. NULL: poll waits by itself. */
    void (*pass)(void *ctx);
    void *ctx;
};

/** Asserts with cmocka. Leaves files behind. */
void disk_suite_run(struct disk_suite *suite);
/** Waits for the operation's completion; its error. */
enum rb_err disk_suite_wait(struct disk_suite *suite, struct rb_disk_op *op);
