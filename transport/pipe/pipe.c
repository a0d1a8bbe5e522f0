/* pipe.c - the program's side of the pipes, and what keeps both sides' memory (inside.h). */
#include "transport/pipe/pipe.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "transport/pipe/inside.h"

#define RING_BYTES_MIN 4096
#define RING_BYTES_MAX (1U << 30)
#define NS_PER_S 1000000000L

/* ---- counts ---- */

void rb_pipe_unref(struct rb_pipe *pipe)
{
    if (atomic_fetch_sub(&pipe->count, 1) == 1) {
        if (pipe->fd >= 0) {
            close(pipe->fd);
        }
        atomic_fetch_sub(&pipe->pipes->pipe_count, 1);
        free(pipe);
    }
}

struct rb_pipe *rb_pipes_take_queue(struct rb_pipes *pipes)
{
    struct rb_pipe *pipe = atomic_exchange(&pipes->queue, NULL), *oldest = NULL;
    while (pipe != NULL) {
        struct rb_pipe *next = pipe->next_queued;
        pipe->next_queued = oldest;
        oldest = pipe;
        pipe = next;
    }
    return oldest;
}

void rb_pipe_forget(struct rb_pipe *pipe)
{
    pipe->shard_done = true;
    if (!atomic_exchange(&pipe->queued, true)) {
        rb_pipe_unref(pipe); /* inside.h, invariant 4; else when it comes out of the list */
    }
}

void rb_pipes_unref(struct rb_pipes *pipes)
{
    if (atomic_fetch_sub(&pipes->count, 1) != 1) {
        return;
    }
    struct rb_pipe *pipe = rb_pipes_take_queue(pipes);
    while (pipe != NULL) { /* invariant 5 */
        struct rb_pipe *next = pipe->next_queued;
        rb_pipe_unref(pipe);
        pipe = next;
    }
    pthread_mutex_destroy(&pipes->lock);
    free(pipes);
}

/* ---- telling the other side ---- */

static void push_queue(struct rb_pipes *pipes, struct rb_pipe *pipe)
{
    struct rb_pipe *first = atomic_load(&pipes->queue);
    do {
        pipe->next_queued = first;
    } while (!atomic_compare_exchange_weak(&pipes->queue, &first, pipe));
}

static void ring(struct rb_pipes *pipes)
{
    if (rb_doorbell_ring(&pipes->bell)) {
        pthread_mutex_lock(&pipes->lock);
        if (pipes->alive) {
            pipes->wake(pipes->wake_ctx);
        }
        pthread_mutex_unlock(&pipes->lock);
    }
}

void rb_pipe_notify_shard(struct rb_pipe *pipe)
{
    if (!atomic_exchange(&pipe->queued, true)) {
        push_queue(pipe->pipes, pipe);
        ring(pipe->pipes);
    }
}

static void signal_fd(struct rb_pipe *pipe)
{
    int fd = atomic_load(&pipe->fd);
    if (fd >= 0 && !atomic_exchange(&pipe->fd_set, true)) {
        (void)eventfd_write(fd, 1);
    }
}

void rb_pipe_notify_program(struct rb_pipe *pipe)
{
    atomic_fetch_add(&pipe->changed, 1);
    if (atomic_load(&pipe->waiting) > 0) {
        syscall(SYS_futex, &pipe->changed, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    }
    signal_fd(pipe);
}

/* ---- the pipes of a shard ---- */

enum rb_err rb_pipes_create(const struct rb_pipes_options *options, struct rb_pipes **ret_pipes)
{
    uint32_t ring_bytes =
        options->ring_bytes > 0 ? options->ring_bytes : RB_PIPE_RING_BYTES_DEFAULT;
    if (ring_bytes < RING_BYTES_MIN || ring_bytes > RING_BYTES_MAX ||
        (ring_bytes & (ring_bytes - 1)) != 0) {
        return RB_ERR_INVALID;
    }
    struct rb_pipes *pipes = calloc(1, sizeof(*pipes));
    if (pipes == NULL) {
        return RB_ERR_MEMORY;
    }
    pipes->base.ops = &rb_pipe_ops;
    pipes->budget = options->budget;
    pipes->ring_bytes = ring_bytes;
    pipes->pipe_count_max =
        options->pipe_count_max > 0 ? options->pipe_count_max : RB_PIPE_COUNT_MAX_DEFAULT;
    pipes->wake = options->wake;
    pipes->wake_ctx = options->wake_ctx;
    pipes->alive = true;
    atomic_init(&pipes->count, 1);
    pthread_mutex_init(&pipes->lock, NULL);
    rb_slots_init(&pipes->slots, pipes->budget, sizeof(struct pipe_conn));
    rb_list_init(&pipes->active);
    rb_list_init(&pipes->borrowed);
    *ret_pipes = pipes;
    return RB_OK;
}

void rb_pipes_release(struct rb_pipes *pipes)
{
    rb_assert(!pipes->alive);
    rb_pipes_unref(pipes);
}

struct rb_mux_member rb_pipes_member(struct rb_pipes *pipes)
{
    return (struct rb_mux_member){ .t = &pipes->base,
                                   .bell = &pipes->bell,
                                   .poll_some = rb_pipes_poll_some };
}

/* ---- connect and end ---- */

static struct rb_pipe *make_pipe(struct rb_pipes *pipes)
{
    size_t bytes = pipe_bytes(pipes->ring_bytes);
    struct rb_pipe *pipe = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (pipe == NULL) {
        return NULL;
    }
    memset(pipe, 0, sizeof(*pipe)); /* the rings are not touched before they are used */
    pipe->pipes = pipes;
    pipe->ring_bytes = pipes->ring_bytes;
    pipe->in.bytes = (uint8_t *)(pipe + 1);
    pipe->out.bytes = pipe->in.bytes + pipes->ring_bytes;
    atomic_init(&pipe->count, 2);
    atomic_init(&pipe->queued, true);
    atomic_init(&pipe->fd, -1);
    return pipe;
}

enum rb_err rb_pipe_connect(struct rb_pipes *pipes, struct rb_pipe **ret_pipe)
{
    if (atomic_fetch_add(&pipes->pipe_count, 1) >= pipes->pipe_count_max) {
        atomic_fetch_sub(&pipes->pipe_count, 1);
        return RB_ERR_FULL;
    }
    struct rb_pipe *pipe = make_pipe(pipes);
    if (pipe == NULL) {
        atomic_fetch_sub(&pipes->pipe_count, 1);
        return RB_ERR_MEMORY;
    }
    pthread_mutex_lock(&pipes->lock);
    bool alive = pipes->alive;
    if (alive) {
        atomic_fetch_add(&pipes->count, 1);
        push_queue(pipes, pipe);
    }
    pthread_mutex_unlock(&pipes->lock);
    if (!alive) {
        free(pipe);
        atomic_fetch_sub(&pipes->pipe_count, 1);
        return RB_ERR_RESET;
    }
    ring(pipes);
    *ret_pipe = pipe;
    return RB_OK;
}

void rb_pipe_end(struct rb_pipe *pipe)
{
    atomic_fetch_or(&pipe->flags, PIPE_PROGRAM_ENDED);
    rb_pipe_notify_shard(pipe);
}

void rb_pipe_shutdown(struct rb_pipe *pipe)
{
    atomic_fetch_or(&pipe->flags, PIPE_PROGRAM_ENDED | PIPE_PROGRAM_CANCELED);
    rb_pipe_notify_program(pipe);
    rb_pipe_notify_shard(pipe);
}

void rb_pipe_close(struct rb_pipe *pipe)
{
    struct rb_pipes *pipes = pipe->pipes;
    atomic_fetch_or(&pipe->flags, PIPE_PROGRAM_ENDED | PIPE_PROGRAM_GONE);
    rb_pipe_notify_shard(pipe);
    rb_pipe_unref(pipe);
    rb_pipes_unref(pipes);
}

/* ---- waiting ---- */

static struct timespec deadline_of(int64_t timeout_ns)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += timeout_ns / NS_PER_S;
    at.tv_nsec += timeout_ns % NS_PER_S;
    if (at.tv_nsec >= NS_PER_S) {
        at.tv_sec++;
        at.tv_nsec -= NS_PER_S;
    }
    return at;
}

/* Until `changed` is not `seen` any more (inside.h, invariant 3); false when the time is over. */
static bool wait_change(struct rb_pipe *pipe, uint32_t seen, const struct timespec *deadline)
{
    atomic_fetch_add(&pipe->waiting, 1);
    long result = syscall(SYS_futex, &pipe->changed, FUTEX_WAIT_BITSET_PRIVATE, seen, deadline,
                          NULL, FUTEX_BITSET_MATCH_ANY);
    bool over = result != 0 && errno == ETIMEDOUT;
    atomic_fetch_sub(&pipe->waiting, 1);
    return !over;
}

/* How long a call may still wait. */
struct patience {
    int64_t timeout_ns; /* negative: without end */
    struct timespec deadline;
    bool timed, last;
};

/* After an attempt for which `seen` was too little; false when it was the last one. */
static bool wait_again(struct rb_pipe *pipe, uint32_t seen, struct patience *patience)
{
    if (patience->last) {
        return false;
    }
    if (patience->timeout_ns > 0 && !patience->timed) {
        patience->deadline = deadline_of(patience->timeout_ns);
        patience->timed = true;
    }
    patience->last = !wait_change(pipe, seen, patience->timed ? &patience->deadline : NULL);
    return true;
}

/* Nothing to do at this moment: the descriptor is unreadable until there is. */
static void clear_fd(struct rb_pipe *pipe)
{
    int fd = atomic_load(&pipe->fd);
    if (fd < 0) {
        return;
    }
    eventfd_t count;
    (void)eventfd_read(fd, &count);
    atomic_exchange(&pipe->fd_set, false);
    /* For the thread that wants the other direction, and for what came since we looked. */
    uint32_t ends = PIPE_PROGRAM_CANCELED | PIPE_SHARD_ENDED | PIPE_SHARD_BROKEN;
    bool room = rb_pipe_ring_used(&pipe->in) < pipe->ring_bytes;
    if (rb_pipe_ring_used(&pipe->out) > 0 || (atomic_load(&pipe->flags) & ends) != 0 ||
        (room && atomic_load(&pipe->write_wanted))) {
        signal_fd(pipe);
    }
}

int rb_pipe_fd(struct rb_pipe *pipe)
{
    int fd = atomic_load(&pipe->fd);
    if (fd >= 0) {
        return fd;
    }
    int made = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made < 0) {
        return -1;
    }
    if (!atomic_compare_exchange_strong(&pipe->fd, &fd, made)) {
        close(made); /* the other thread was faster */
        return fd;
    }
    signal_fd(pipe); /* for what is there already; a read will tell */
    return made;
}

/* ---- write and read ---- */

/* One attempt; RB_ERR_TIMEOUT: there is no room. */
static enum rb_err try_write(struct rb_pipe *pipe, struct rb_slice *bytes)
{
    uint32_t flags = atomic_load(&pipe->flags);
    if ((flags & PIPE_PROGRAM_ENDED) != 0) {
        return RB_ERR_CANCELED;
    }
    if ((flags & (PIPE_SHARD_ENDED | PIPE_SHARD_BROKEN)) != 0) {
        return RB_ERR_RESET;
    }
    uint32_t count = rb_pipe_ring_put(&pipe->in, pipe->ring_bytes, bytes->ptr, bytes->len);
    if (count > 0) {
        bytes->ptr += count;
        bytes->len -= count;
        rb_pipe_notify_shard(pipe);
    }
    return bytes->len == 0 ? RB_OK : RB_ERR_TIMEOUT;
}

enum rb_err rb_pipe_write(struct rb_pipe *pipe, const void *bytes, size_t len, int64_t timeout_ns,
                          size_t *ret_len)
{
    struct rb_slice left = rb_slice_of(bytes, len);
    struct patience patience = { .timeout_ns = timeout_ns, .last = timeout_ns == 0 };
    uint32_t seen;
    enum rb_err err;
    do {
        seen = atomic_load(&pipe->changed);
        err = try_write(pipe, &left);
    } while (err == RB_ERR_TIMEOUT && wait_again(pipe, seen, &patience));
    atomic_store(&pipe->write_wanted, err == RB_ERR_TIMEOUT);
    if (err == RB_ERR_TIMEOUT) {
        clear_fd(pipe);
    }
    if (ret_len != NULL) {
        *ret_len = len - left.len;
    }
    return err;
}

/* One attempt; RB_ERR_TIMEOUT: nothing is there. */
static enum rb_err try_read(struct rb_pipe *pipe, uint8_t *buf, size_t cap, size_t *ret_len)
{
    uint32_t flags = atomic_load(&pipe->flags); /* before the ring: an end is behind the bytes */
    if ((flags & PIPE_PROGRAM_CANCELED) != 0) {
        return RB_ERR_CANCELED;
    }
    size_t len = 0;
    while (len < cap) {
        uint32_t max = cap - len < RING_BYTES_MAX ? (uint32_t)(cap - len) : RING_BYTES_MAX;
        struct rb_slice bytes = rb_pipe_ring_peek(&pipe->out, pipe->ring_bytes, 0, max);
        if (bytes.len == 0) {
            break;
        }
        memcpy(buf + len, bytes.ptr, bytes.len);
        rb_pipe_ring_drop(&pipe->out, (uint32_t)bytes.len);
        len += bytes.len;
    }
    if (len > 0) {
        /* Told when half is free, so that the shard does not come for every few bytes. */
        if (atomic_load(&pipe->shard_wants_room) &&
            rb_pipe_ring_used(&pipe->out) <= pipe->ring_bytes / 2) {
            rb_pipe_notify_shard(pipe);
        }
    } else if ((flags & PIPE_SHARD_BROKEN) != 0) {
        return RB_ERR_RESET;
    } else if ((flags & PIPE_SHARD_ENDED) == 0) {
        return RB_ERR_TIMEOUT;
    }
    *ret_len = len;
    return RB_OK;
}

enum rb_err rb_pipe_read(struct rb_pipe *pipe, void *buf, size_t cap, int64_t timeout_ns,
                         size_t *ret_len)
{
    rb_assert(cap > 0);
    struct patience patience = { .timeout_ns = timeout_ns, .last = timeout_ns == 0 };
    uint32_t seen;
    enum rb_err err;
    do {
        seen = atomic_load(&pipe->changed);
        err = try_read(pipe, buf, cap, ret_len);
    } while (err == RB_ERR_TIMEOUT && wait_again(pipe, seen, &patience));
    if (err == RB_ERR_TIMEOUT) {
        clear_fd(pipe);
    }
    return err;
}
