/* posix.c - the disk over helper threads, for where io_uring or direct writes are refused.
 *
 * 1. A helper thread's wake-up is an eventfd that poll() sleeps on, and the owner's callback; rb_work says when.
 */
#include "storage/disk/posix.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "storage/disk/file.h"

#define THREADS_DEFAULT 4
#define NS_PER_S 1000000000

struct posix_disk {
    struct disk_base base;
    struct rb_work *work;
    int wake_fd;
    struct rb_posix_disk_options options;
};

static struct posix_disk *posix_of(struct rb_disk *disk)
{
    return (struct posix_disk *)disk;
}

/* On helper threads. */
static void wake(void *ctx, uint32_t home)
{
    struct posix_disk *d = ctx;
    int failed = eventfd_write(d->wake_fd, 1);
    rb_assert(failed == 0);
    if (d->options.wake != NULL) {
        d->options.wake(d->options.wake_ctx);
    }
}

static enum rb_err posix_start(struct rb_disk *disk, struct rb_disk_op *op)
{
    struct posix_disk *d = posix_of(disk);
    return rb_disk_submit_job(&d->base, d->work, op);
}

static void posix_close(struct rb_disk *disk, struct rb_disk_file *file)
{
    rb_disk_file_close(&posix_of(disk)->base, file);
}

static void *posix_alloc(struct rb_disk *disk, size_t bytes)
{
    void *ptr = NULL;
    return posix_memalign(&ptr, RB_DISK_ALIGN, bytes) == 0 ? memset(ptr, 0, bytes) : NULL;
}

static void posix_free(struct rb_disk *disk, void *ptr, size_t bytes)
{
    free(ptr);
}

static void sleep_for(struct posix_disk *d, int64_t timeout_ns)
{
    struct pollfd wanted = { .fd = d->wake_fd, .events = POLLIN };
    struct timespec limit = { .tv_sec = timeout_ns / NS_PER_S, .tv_nsec = timeout_ns % NS_PER_S };
    eventfd_t ignored;
    if (ppoll(&wanted, 1, timeout_ns < 0 ? NULL : &limit, NULL) > 0) {
        (void)eventfd_read(d->wake_fd, &ignored);
    }
}

static uint32_t posix_poll(struct rb_disk *disk, int64_t timeout_ns, struct rb_disk_op ***ret_ops)
{
    struct posix_disk *d = posix_of(disk);
    rb_disk_take_jobs(&d->base, d->work);
    if (d->base.done_first == NULL && timeout_ns != 0) {
        sleep_for(d, timeout_ns);
        rb_disk_take_jobs(&d->base, d->work);
    }
    return rb_disk_give(&d->base, ret_ops);
}

static void posix_destroy(struct rb_disk *disk)
{
    struct posix_disk *d = posix_of(disk);
    rb_work_stop(d->work);
    rb_disk_take_jobs(&d->base, d->work);
    rb_work_destroy(d->work);
    rb_disk_base_deinit(&d->base);
    close(d->wake_fd);
    free(d);
}

static const struct rb_disk_ops posix_ops = {
    .name = "posix",
    .start = posix_start,
    .close = posix_close,
    .alloc = posix_alloc,
    .free = posix_free,
    .poll = posix_poll,
    .destroy = posix_destroy,
};

enum rb_err rb_posix_disk_create(const struct rb_posix_disk_options *options,
                                 struct rb_disk **ret_disk, char why[128])
{
    struct posix_disk *d = calloc(1, sizeof(*d));
    snprintf(why, 128, "no memory");
    if (d == NULL) {
        return RB_ERR_MEMORY;
    }
    d->options = *options;
    d->base.disk.ops = &posix_ops;
    d->base.op_max = options->op_max == 0 ? DISK_OPS_MAX_DEFAULT : options->op_max;
    d->base.sync_after_write = true;
    enum rb_err err = rb_disk_base_init(&d->base, options->path, why);
    if (err != RB_OK) {
        free(d);
        return err;
    }
    d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct rb_work_options work = {
        .thread_count = options->thread_count == 0 ? THREADS_DEFAULT : options->thread_count,
        .home_count = 1,
        .wake = wake,
        .wake_ctx = d,
    };
    err = d->wake_fd < 0 ? rb_disk_err(errno) : rb_work_create(&work, &d->work);
    if (err != RB_OK) {
        snprintf(why, 128, "no helper threads: %s", rb_err_text(err));
        rb_disk_base_deinit(&d->base);
        if (d->wake_fd >= 0) {
            close(d->wake_fd);
        }
        free(d);
        return err;
    }
    why[0] = '\0';
    *ret_disk = &d->base.disk;
    return RB_OK;
}
