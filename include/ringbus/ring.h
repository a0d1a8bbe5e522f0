/* ring.h - one io_uring per shard, shared by the drivers for sockets and files. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"

struct io_uring_sqe;
struct io_uring_cqe;
struct rb_ring;

struct rb_ring_options {
    uint32_t entries;    /* submission queue; the completion queue is 4 times that */
    uint32_t cpu_plus_1; /* 0: not pinned; used for the worker affinity */
};

/** What the running kernel offers beyond liburing 2.3; found by trying, at creation. */
struct rb_ring_features {
    bool defer_taskrun, msg_ring, recv_multishot, accept_multishot, buf_ring, send_zc, recv_bundle;
};

/**
 * Handles one completion. `data` is the low 56 bits given to rb_ring_sqe. The cqe is borrowed until
 * return. Called inside rb_ring_wait() only.
 */
typedef void (*rb_ring_handler)(void *ctx, uint64_t data, int32_t res, uint32_t flags);

/**
 * Must be called on the thread that will use the ring (SINGLE_ISSUER).
 * Errors: RB_ERR_UNSUPPORTED (no io_uring, refused, or too old), RB_ERR_MEMORY,
 * RB_ERR_LIMIT (no descriptor left); `why` says which.
 */
RB_MUST_CHECK enum rb_err rb_ring_create(const struct rb_ring_options *options,
                                         struct rb_ring **ret_ring, char why[128]);
void rb_ring_destroy(struct rb_ring *ring);
const struct rb_ring_features *rb_ring_features(const struct rb_ring *ring);
/** Raw ring, for buffer-ring registration by drivers. */
struct io_uring *rb_ring_raw(struct rb_ring *ring);
/** The descriptor that neighbours name in MSG_RING. */
int rb_ring_fd(const struct rb_ring *ring);

/** Kinds 0..15 belong to the ring's users: who registers gets the completions with that kind. */
void rb_ring_register(struct rb_ring *ring, uint8_t kind, rb_ring_handler handler, void *ctx);
/** A zeroed entry whose completion goes to `kind` with `data` (56 bits). Submits when the queue is
 *  full. */
struct io_uring_sqe *rb_ring_sqe(struct rb_ring *ring, uint8_t kind, uint64_t data);
/** user_data that rb_ring_sqe sets; for MSG_RING to another ring. */
uint64_t rb_ring_user_data(uint8_t kind, uint64_t data);
/**
 * Submits, waits up to `timeout_ns` (0: no wait, -1: no limit) for one completion, and hands at
 * most `max` completions to their handlers. At most one system call. Returns their number.
 */
uint32_t rb_ring_wait(struct rb_ring *ring, int64_t timeout_ns, uint32_t max);
