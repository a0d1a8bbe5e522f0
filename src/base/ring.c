/* ring.c - one io_uring per shard.
 *
 *   rb_ring_sqe() ... rb_ring_sqe()     rb_ring_wait()
 *   fills entries, no system call       publishes, one io_uring_enter, hands out completions
 *
 * 1. One thread creates, uses and destroys a ring. That is what SINGLE_ISSUER promises the
 *    kernel, and DEFER_TASKRUN makes completions appear inside our own io_uring_enter only, so
 *    that no other moment of the turn is interrupted.
 * 2. A wait costs at most one io_uring_enter, and none when nothing is queued, nothing has to be
 *    waited for and the kernel has raised neither of its flags (task work pending, completions
 *    overflowed).
 * 3. user_data is kind << 56 | data. A kind without a handler drops its completions.
 * 4. A completion is taken off the queue before its handler runs, so a handler may queue entries,
 *    which may submit, which may add completions.
 * 5. The submission index array is the identity and is written once: publishing is one store.
 */
#include "ringbus/ring.h"

#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ringbus/check.h"

#define KIND_COUNT 16
#define KIND_SHIFT 56
#define DATA_MASK ((UINT64_C(1) << KIND_SHIFT) - 1)
#define PUSH_TRIES_MAX 1000

/* Newer than liburing 2.3; Linux 6.10. */
#define FEAT_RECVSEND_BUNDLE (1U << 14)

struct handler {
    rb_ring_handler call;
    void *ctx;
};

struct rb_ring {
    struct io_uring raw;
    struct rb_ring_features features;
    bool taskrun_flag;    /* the kernel tells in sq flags that task work is pending */
    int enter_fd;         /* what io_uring_enter gets: the descriptor or its registered index */
    uint32_t enter_flags; /* IORING_ENTER_REGISTERED_RING or 0 */
    pid_t tid;
    struct handler handlers[KIND_COUNT];
};

/* From the most wanted to the oldest that still works. */
static const uint32_t setup_flags[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SUBMIT_ALL,
};

static int setup(struct rb_ring *ring, const struct rb_ring_options *options,
                 struct io_uring_params *ret_params)
{
    int result = -EINVAL;
    for (size_t i = 0; i < sizeof(setup_flags) / sizeof(setup_flags[0]); i++) {
        struct io_uring_params params = {
            .flags = setup_flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = options->entries * 4,
        };
        result = io_uring_queue_init_params(options->entries, &ring->raw, &params);
        if (result == 0) {
            *ret_params = params;
            return 0;
        }
        if (result != -EINVAL) {
            break; /* fewer flags do not help against a refusal */
        }
    }
    return result;
}

static enum rb_err explain_refusal(int result, char why[128])
{
    switch (-result) {
    case ENOSYS:
        snprintf(why, 128, "this kernel or container has no io_uring (ENOSYS)");
        return RB_ERR_UNSUPPORTED;
    case EPERM:
    case EACCES:
        snprintf(why, 128,
                 "io_uring is refused (%s): kernel.io_uring_disabled or a seccomp profile",
                 strerrorname_np(-result));
        return RB_ERR_UNSUPPORTED;
    case ENOMEM:
        snprintf(why, 128, "no memory for an io_uring (ENOMEM; see also ulimit -l)");
        return RB_ERR_MEMORY;
    case EMFILE:
    case ENFILE:
        snprintf(why, 128, "no file descriptor left for an io_uring");
        return RB_ERR_LIMIT;
    default:
        snprintf(why, 128, "io_uring_setup: %s", strerror(-result));
        return RB_ERR_UNSUPPORTED;
    }
}

static bool try_buf_ring(struct rb_ring *ring)
{
    void *page = NULL;
    long page_bytes = sysconf(_SC_PAGESIZE);
    if (posix_memalign(&page, (size_t)page_bytes, (size_t)page_bytes) != 0) {
        return false;
    }
    memset(page, 0, (size_t)page_bytes);
    struct io_uring_buf_reg reg = { .ring_addr = (uintptr_t)page,
                                    .ring_entries = 1,
                                    .bgid = 0xFFFF };
    bool works = io_uring_register_buf_ring(&ring->raw, &reg, 0) == 0;
    if (works) {
        io_uring_unregister_buf_ring(&ring->raw, 0xFFFF);
    }
    free(page);
    return works;
}

/* Multishot accept (5.19) and receive (6.0) have no operation code of their own to ask for. They
 * are taken to be there with what came in the same release: buffer rings, and zero-copy send. */
static void probe(struct rb_ring *ring, const struct io_uring_params *params)
{
    struct rb_ring_features *features = &ring->features;
    features->defer_taskrun = (params->flags & IORING_SETUP_DEFER_TASKRUN) != 0;
    features->recv_bundle = (params->features & FEAT_RECVSEND_BUNDLE) != 0;
    features->buf_ring = try_buf_ring(ring);
    features->accept_multishot = features->buf_ring;
    struct io_uring_probe *offered = io_uring_get_probe_ring(&ring->raw);
    if (offered != NULL) {
        features->msg_ring = io_uring_opcode_supported(offered, IORING_OP_MSG_RING) != 0;
        features->send_zc = io_uring_opcode_supported(offered, IORING_OP_SEND_ZC) != 0;
        features->recv_multishot = features->send_zc;
        io_uring_free_probe(offered);
    }
}

/* A registered descriptor spares every enter the reference count of the file. Optional. */
static void register_fd(struct rb_ring *ring)
{
    struct io_uring_rsrc_update update = { .offset = -1U, .data = (uint64_t)ring->raw.ring_fd };
    if (syscall(__NR_io_uring_register, ring->raw.ring_fd, IORING_REGISTER_RING_FDS, &update, 1) ==
        1) {
        ring->enter_fd = (int)update.offset;
        ring->enter_flags = IORING_ENTER_REGISTERED_RING;
    }
}

static void set_affinity(struct rb_ring *ring, uint32_t cpu)
{
    cpu_set_t set;
    if (cpu < CPU_SETSIZE) {
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        (void)io_uring_register_iowq_aff(&ring->raw, sizeof(set), &set);
    }
}

enum rb_err rb_ring_create(const struct rb_ring_options *options, struct rb_ring **ret_ring,
                           char why[128])
{
    why[0] = '\0';
    struct rb_ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL) {
        snprintf(why, 128, "no memory");
        return RB_ERR_MEMORY;
    }
    struct io_uring_params params;
    int result = setup(ring, options, &params);
    if (result != 0) {
        free(ring);
        return explain_refusal(result, why);
    }
    const uint32_t needed = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_CQE_SKIP;
    if ((params.features & needed) != needed) {
        snprintf(why, 128, "the kernel's io_uring is too old (no EXT_ARG, NODROP or CQE_SKIP)");
        io_uring_queue_exit(&ring->raw);
        free(ring);
        return RB_ERR_UNSUPPORTED;
    }
    for (uint32_t i = 0; i < ring->raw.sq.ring_entries; i++) {
        ring->raw.sq.array[i] = i;
    }
    ring->taskrun_flag = (params.flags & IORING_SETUP_TASKRUN_FLAG) != 0;
    ring->enter_fd = ring->raw.ring_fd;
    ring->tid = gettid();
    probe(ring, &params);
    register_fd(ring);
    if (options->cpu_plus_1 > 0) {
        set_affinity(ring, options->cpu_plus_1 - 1);
    }
    *ret_ring = ring;
    return RB_OK;
}

void rb_ring_destroy(struct rb_ring *ring)
{
    if (ring == NULL) {
        return;
    }
    /* Registered descriptors belong to the thread: another one would drop an entry of its own. */
    if (ring->enter_flags != 0 && ring->tid == gettid()) {
        struct io_uring_rsrc_update update = { .offset = (uint32_t)ring->enter_fd };
        syscall(__NR_io_uring_register, ring->raw.ring_fd, IORING_UNREGISTER_RING_FDS, &update, 1);
    }
    io_uring_queue_exit(&ring->raw);
    free(ring);
}

const struct rb_ring_features *rb_ring_features(const struct rb_ring *ring)
{
    return &ring->features;
}

struct io_uring *rb_ring_raw(struct rb_ring *ring)
{
    return &ring->raw;
}

int rb_ring_fd(const struct rb_ring *ring)
{
    return ring->raw.ring_fd;
}

void rb_ring_register(struct rb_ring *ring, uint8_t kind, rb_ring_handler handler, void *ctx)
{
    rb_assert(kind < KIND_COUNT);
    ring->handlers[kind] = (struct handler){ handler, ctx };
}

uint64_t rb_ring_user_data(uint8_t kind, uint64_t data)
{
    rb_assert(kind < KIND_COUNT && data <= DATA_MASK);
    return (uint64_t)kind << KIND_SHIFT | data;
}

/* Publishes what is queued; returns how many entries the kernel has not taken yet. */
static uint32_t publish(struct rb_ring *ring)
{
    struct io_uring_sq *sq = &ring->raw.sq;
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    sq->sqe_head = sq->sqe_tail;
    return sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
}

static int enter(struct rb_ring *ring, uint32_t submit, uint32_t wait_for, uint32_t flags,
                 void *arg, size_t arg_bytes)
{
    long result = syscall(__NR_io_uring_enter, ring->enter_fd, submit, wait_for,
                          flags | ring->enter_flags, arg, arg_bytes);
    return result < 0 ? -errno : (int)result;
}

static uint32_t kernel_flags(const struct rb_ring *ring)
{
    return IO_URING_READ_ONCE(*ring->raw.sq.kflags);
}

/* The queue is full in the middle of a turn: hand it over without waiting for anything. */
static void push(struct rb_ring *ring)
{
    for (int tries = 0; tries < PUSH_TRIES_MAX; tries++) {
        uint32_t left = publish(ring);
        if (left < ring->raw.sq.ring_entries) {
            return;
        }
        int result = enter(ring, left, 0, tries == 0 ? 0 : IORING_ENTER_GETEVENTS, NULL, 0);
        rb_assert(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY);
    }
    rb_unreachable("the kernel does not take entries");
}

struct io_uring_sqe *rb_ring_sqe(struct rb_ring *ring, uint8_t kind, uint64_t data)
{
    struct io_uring_sq *sq = &ring->raw.sq;
    if (sq->sqe_tail - io_uring_smp_load_acquire(sq->khead) == sq->ring_entries) {
        push(ring);
    }
    struct io_uring_sqe *sqe = &sq->sqes[sq->sqe_tail & sq->ring_mask];
    sq->sqe_tail++;
    memset(sqe, 0, sizeof(*sqe));
    sqe->user_data = rb_ring_user_data(kind, data);
    return sqe;
}

static void submit_and_wait(struct rb_ring *ring, int64_t timeout_ns)
{
    uint32_t left = publish(ring);
    bool wait = timeout_ns != 0 && io_uring_cq_ready(&ring->raw) == 0;
    if (!wait) {
        uint32_t wanted = IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN;
        if (left > 0 || !ring->taskrun_flag || (kernel_flags(ring) & wanted) != 0) {
            (void)enter(ring, left, 0, IORING_ENTER_GETEVENTS, NULL, 0);
        }
        return;
    }
    struct __kernel_timespec limit = { .tv_sec = timeout_ns / 1000000000,
                                       .tv_nsec = timeout_ns % 1000000000 };
    struct io_uring_getevents_arg arg = { .sigmask_sz = _NSIG / 8,
                                          .ts = timeout_ns < 0 ? 0 : (uintptr_t)&limit };
    int result =
        enter(ring, left, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
    /* What was not taken (EAGAIN, EBUSY) stays queued for the next wait. Others are our fault. */
    rb_assert(result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN ||
              result == -EBUSY);
}

uint32_t rb_ring_wait(struct rb_ring *ring, int64_t timeout_ns, uint32_t max)
{
    submit_and_wait(ring, timeout_ns);
    struct io_uring_cq *cq = &ring->raw.cq;
    uint32_t count = 0;
    while (count < max) {
        uint32_t head = *cq->khead;
        if (head == io_uring_smp_load_acquire(cq->ktail)) {
            break;
        }
        struct io_uring_cqe cqe = cq->cqes[head & cq->ring_mask];
        io_uring_smp_store_release(cq->khead, head + 1); /* invariant 4 */
        count++;
        struct handler *handler = &ring->handlers[cqe.user_data >> KIND_SHIFT & (KIND_COUNT - 1)];
        if (handler->call != NULL) {
            handler->call(handler->ctx, cqe.user_data & DATA_MASK, cqe.res, cqe.flags);
        }
    }
    return count;
}
