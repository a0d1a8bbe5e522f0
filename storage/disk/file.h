/* file.h - what the drivers over a real file system share: their directory, their open files, every operation as blocking
 * calls for helper threads. */
#pragma once

#include "base/list.h"
#include "base/work.h"
#include "ringbus/disk.h"

#define DISK_OPS_MAX_DEFAULT 1024u

struct rb_disk_file {
    struct rb_list link;
    int fd;
    bool durable;
    uint32_t op_count;
};

/** First in each driver's struct. */
struct disk_base {
    struct rb_disk disk;
    int root_fd;
    int open_flags;         /* for every file, beside those of its own */
    int durable_open_flags; /* for files with RB_DISK_DURABLE */
    bool sync_after_write;  /* the files do not do it themselves */
    struct rb_list files;
    uint32_t op_count, op_max;
    struct rb_disk_op *done_first, *done_last;
    struct rb_disk_op *given[RB_DISK_DONE_MAX];
};

/** In op->driver: an operation on its way through helper threads. */
struct disk_job {
    struct rb_job job;
    struct disk_base *disk;
};
_Static_assert(sizeof(struct disk_job) <= 4 * sizeof(uint64_t), "the other half is the driver's");

enum rb_err rb_disk_err(int error);
/** Opens the directory, made when missing (its parent must exist). */
RB_MUST_CHECK enum rb_err rb_disk_base_init(struct disk_base *base, const char *path,
                                            char why[128]);
/** Closes every file. */
void rb_disk_base_deinit(struct disk_base *base);
/** Whether O_DIRECT and O_DSYNC writes work in the directory. */
bool rb_disk_direct_works(struct disk_base *base, char why[128]);
/** Checks and counts an operation that is about to start. RB_ERR_FULL. */
RB_MUST_CHECK enum rb_err rb_disk_begin(struct disk_base *base, struct rb_disk_op *op);
/** The operation has completed: it waits for poll(). Owner's thread. */
void rb_disk_end(struct disk_base *base, struct rb_disk_op *op, enum rb_err err);
/** Gives what has completed. */
uint32_t rb_disk_give(struct disk_base *base, struct rb_disk_op ***ret_ops);
/** Hands the operation to a helper thread; rb_disk_end when rb_work_done gave the job back. */
RB_MUST_CHECK enum rb_err rb_disk_submit_job(struct disk_base *base, struct rb_work *work,
                                             struct rb_disk_op *op);
/** Takes finished jobs. */
void rb_disk_take_jobs(struct disk_base *base, struct rb_work *work);
void rb_disk_file_close(struct disk_base *base, struct rb_disk_file *file);
