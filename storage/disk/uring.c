/* uring.c - the disk over io_uring.
 *
 *   read, write, sync -> entries of the ring -> completions          everything else -> one helper thread -> eventfd
 *
 * 1. Files are opened O_DIRECT, durable ones O_DSYNC as well: a write that has completed is on stable storage, with the
 *    device's own write-through where it has one, and no page cache in between.
 * 2. Memory from alloc() is registered while there are slots and the kernel allows it; an operation inside it spares the
 *    kernel the mapping of its pages. Any other aligned memory works as well.
 * 3. What blocks (names, allocation, lists) runs on a helper thread, whose wake-up ends a wait on the ring: a read of an
 *    eventfd is always in flight.
 * 4. user_data is the operation's address; 1 is the eventfd's read. ring_count counts what will complete on the ring.
 */
#include "storage/disk/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "storage/disk/file.h"

#define BUFFERS_MAX 64u
#define WAKE_DATA 1u
#define COMPLETIONS_MAX 256u
#define DESTROY_ROUND_NS 10000000
#define AT_DONE 4 /* in op->driver: bytes done before a short completion */

struct buffer {
    uint8_t *ptr;
    size_t len;
};

struct uring_disk {
    struct disk_base base;
    struct rb_ring *ring;
    uint8_t kind;
    bool shared, destroying;
    struct rb_work *work;
    int wake_fd;
    uint64_t wake_count;
    uint32_t ring_count;
    bool registers; /* the ring has a table of buffers for us */
    struct buffer buffers[BUFFERS_MAX];
};

static struct uring_disk *uring_of(struct rb_disk *disk)
{
    return (struct uring_disk *)disk;
}

/* On the helper thread. */
static void wake(void *ctx, uint32_t home)
{
    struct uring_disk *d = ctx;
    int failed = eventfd_write(d->wake_fd, 1);
    rb_assert(failed == 0);
}

static void arm_wake(struct uring_disk *d)
{
    struct io_uring_sqe *sqe = rb_ring_sqe(d->ring, d->kind, WAKE_DATA);
    sqe->opcode = IORING_OP_READ;
    sqe->fd = d->wake_fd;
    sqe->addr = (uintptr_t)&d->wake_count;
    sqe->len = sizeof(d->wake_count);
    d->ring_count++;
}

/* The registered buffer that holds all of it; BUFFERS_MAX: none. */
static uint32_t buffer_of(const struct uring_disk *d, const uint8_t *ptr, size_t len)
{
    uint32_t i = 0;
    while (i < BUFFERS_MAX && !(d->buffers[i].ptr != NULL && ptr >= d->buffers[i].ptr &&
                                ptr + len <= d->buffers[i].ptr + d->buffers[i].len)) {
        i++;
    }
    return i;
}

/* What is left of a read or write. */
static void queue_transfer(struct uring_disk *d, struct rb_disk_op *op)
{
    uint64_t done = op->driver[AT_DONE];
    bool read = op->kind == RB_DISK_READ;
    uint32_t buffer = buffer_of(d, op->bytes, op->len);
    struct io_uring_sqe *sqe = rb_ring_sqe(d->ring, d->kind, (uintptr_t)op);
    if (buffer < BUFFERS_MAX) {
        sqe->opcode = read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
        sqe->buf_index = (uint16_t)buffer;
    } else {
        sqe->opcode = read ? IORING_OP_READ : IORING_OP_WRITE;
    }
    sqe->fd = op->file->fd;
    sqe->off = op->offset + done;
    sqe->addr = (uintptr_t)op->bytes + done;
    sqe->len = (uint32_t)(op->len - done);
    d->ring_count++;
}

static void queue_sync(struct uring_disk *d, struct rb_disk_op *op)
{
    struct io_uring_sqe *sqe = rb_ring_sqe(d->ring, d->kind, (uintptr_t)op);
    sqe->opcode = IORING_OP_FSYNC;
    sqe->fd = op->file->fd;
    sqe->fsync_flags = IORING_FSYNC_DATASYNC;
    d->ring_count++;
}

static void transfer_done(struct uring_disk *d, struct rb_disk_op *op, int32_t res)
{
    if (res == -EAGAIN || res == -EINTR) {
        queue_transfer(d, op);
        return;
    }
    if (res < 0 || (res == 0 && op->kind == RB_DISK_WRITE)) {
        rb_disk_end(&d->base, op, res == 0 ? RB_ERR_IO : rb_disk_err(-res));
        return;
    }
    op->driver[AT_DONE] += (uint32_t)res;
    uint64_t done = op->driver[AT_DONE];
    if (op->kind == RB_DISK_WRITE && done < op->len && done % RB_DISK_ALIGN != 0) {
        rb_disk_end(&d->base, op, RB_ERR_IO); /* cannot go on from there with direct writes */
        return;
    }
    if (done < op->len && res > 0 && done % RB_DISK_ALIGN == 0) {
        queue_transfer(d, op);
        return;
    }
    op->size = op->kind == RB_DISK_READ ? done : op->size;
    rb_disk_end(&d->base, op, RB_OK);
}

static void on_completion(void *ctx, uint64_t data, int32_t res, uint32_t flags)
{
    struct uring_disk *d = ctx;
    rb_assert(d->ring_count > 0);
    d->ring_count--;
    if (data == WAKE_DATA) {
        if (!d->destroying) {
            arm_wake(d);
        }
        return;
    }
    struct rb_disk_op *op = (struct rb_disk_op *)(uintptr_t)data;
    if (op->kind != RB_DISK_SYNC) {
        transfer_done(d, op, res);
    } else if (res == -EINTR || res == -EAGAIN) {
        queue_sync(d, op);
    } else {
        rb_disk_end(&d->base, op, rb_disk_err(-res));
    }
}

static enum rb_err uring_start(struct rb_disk *disk, struct rb_disk_op *op)
{
    struct uring_disk *d = uring_of(disk);
    if (op->kind != RB_DISK_READ && op->kind != RB_DISK_WRITE && op->kind != RB_DISK_SYNC) {
        return rb_disk_submit_job(&d->base, d->work, op);
    }
    enum rb_err err = rb_disk_begin(&d->base, op);
    if (err != RB_OK) {
        return err;
    }
    op->driver[AT_DONE] = 0;
    if (op->kind == RB_DISK_SYNC) {
        queue_sync(d, op);
    } else {
        queue_transfer(d, op);
    }
    return RB_OK;
}

static void uring_close(struct rb_disk *disk, struct rb_disk_file *file)
{
    rb_disk_file_close(&uring_of(disk)->base, file);
}

/* ---- registered memory ---- */

static bool set_slot(struct uring_disk *d, uint32_t slot, void *ptr, size_t bytes)
{
    struct iovec where = { .iov_base = ptr, .iov_len = bytes };
    return io_uring_register_buffers_update_tag(rb_ring_raw(d->ring), slot, &where, NULL, 1) == 1;
}

static void *uring_alloc(struct rb_disk *disk, size_t bytes)
{
    struct uring_disk *d = uring_of(disk);
    void *ptr = NULL;
    if (posix_memalign(&ptr, RB_DISK_ALIGN, bytes) != 0) {
        return NULL;
    }
    memset(ptr, 0, bytes);
    for (uint32_t i = 0; d->registers && i < BUFFERS_MAX; i++) {
        if (d->buffers[i].ptr == NULL) {
            if (set_slot(d, i, ptr,
                         bytes)) { /* else: the limit of locked memory; it works without */
                d->buffers[i] = (struct buffer){ ptr, bytes };
            }
            break;
        }
    }
    return ptr;
}

static void uring_free(struct rb_disk *disk, void *ptr, size_t bytes)
{
    struct uring_disk *d = uring_of(disk);
    uint32_t slot = ptr == NULL ? BUFFERS_MAX : buffer_of(d, ptr, bytes);
    if (slot < BUFFERS_MAX) {
        (void)set_slot(d, slot, NULL, 0);
        d->buffers[slot] = (struct buffer){ 0 };
    }
    free(ptr);
}

/* ---- poll and the end ---- */

static uint32_t uring_poll(struct rb_disk *disk, int64_t timeout_ns, struct rb_disk_op ***ret_ops)
{
    struct uring_disk *d = uring_of(disk);
    rb_disk_take_jobs(&d->base, d->work);
    if (!d->shared) {
        rb_ring_wait(d->ring, d->base.done_first == NULL ? timeout_ns : 0, COMPLETIONS_MAX);
        rb_disk_take_jobs(&d->base, d->work);
    }
    return rb_disk_give(&d->base, ret_ops);
}

static void uring_destroy(struct rb_disk *disk)
{
    struct uring_disk *d = uring_of(disk);
    rb_work_stop(d->work);
    rb_disk_take_jobs(&d->base, d->work);
    d->destroying = true;
    wake(d, 0);
    while (d->ring_count > 0) {
        rb_ring_wait(d->ring, DESTROY_ROUND_NS, COMPLETIONS_MAX);
    }
    rb_ring_register(d->ring, d->kind, NULL, NULL);
    if (d->registers) {
        (void)io_uring_unregister_buffers(rb_ring_raw(d->ring));
    }
    rb_work_destroy(d->work);
    rb_disk_base_deinit(&d->base);
    close(d->wake_fd);
    free(d);
}

static const struct rb_disk_ops uring_ops = {
    .name = "uring",
    .start = uring_start,
    .close = uring_close,
    .alloc = uring_alloc,
    .free = uring_free,
    .poll = uring_poll,
    .destroy = uring_destroy,
};

static enum rb_err start_helper(struct uring_disk *d)
{
    d->wake_fd = eventfd(0, EFD_CLOEXEC); /* blocking, so that io_uring waits for it */
    if (d->wake_fd < 0) {
        return rb_disk_err(errno);
    }
    struct rb_work_options work = {
        .thread_count = 1, .home_count = 1, .wake = wake, .wake_ctx = d
    };
    enum rb_err err = rb_work_create(&work, &d->work);
    if (err != RB_OK) {
        close(d->wake_fd);
    }
    return err;
}

enum rb_err rb_uring_disk_create(const struct rb_uring_disk_options *options,
                                 struct rb_disk **ret_disk, char why[128])
{
    struct uring_disk *d = calloc(1, sizeof(*d));
    snprintf(why, 128, "no memory");
    if (d == NULL) {
        return RB_ERR_MEMORY;
    }
    d->base.disk.ops = &uring_ops;
    d->base.op_max = options->op_max == 0 ? DISK_OPS_MAX_DEFAULT : options->op_max;
    d->base.open_flags = O_DIRECT;
    d->base.durable_open_flags = O_DSYNC;
    d->ring = options->ring;
    d->shared = options->shared;
    d->kind = options->kind == 0 ? RB_URING_DISK_KIND : options->kind;
    enum rb_err err = rb_disk_base_init(&d->base, options->path, why);
    if (err != RB_OK) {
        free(d);
        return err;
    }
    err = rb_disk_direct_works(&d->base, why) ? start_helper(d) : RB_ERR_UNSUPPORTED;
    if (err != RB_OK) {
        rb_disk_base_deinit(&d->base);
        free(d);
        return err;
    }
    d->registers = io_uring_register_buffers_sparse(rb_ring_raw(d->ring), BUFFERS_MAX) == 0;
    rb_ring_register(d->ring, d->kind, on_completion, d);
    arm_wake(d);
    why[0] = '\0';
    *ret_disk = &d->base.disk;
    return RB_OK;
}
