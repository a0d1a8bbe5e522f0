/* work.h - helper threads for what would hold a shard up: password hashes, TLS handshakes (docs/sharding.md).
 *
 *   shard --submit--> [queue, bounded] --> helper thread: run() --> [done list of the job's home] --taken by--> shard
 *
 * 1. A job belongs to the pool from submit until rb_work_done gives it back; its owner keeps what it points to alive.
 * 2. run() touches only its job. Every accepted job comes back exactly once, also while stopping.
 * 3. Without threads (thread_count 0: the simulator) a job runs inside the home's next rb_work_done, in order.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"

#define RB_WORK_QUEUE_MAX 65536

struct rb_work;
struct rb_job {
    struct rb_job *next; /* the pool's */
    void (*run)(struct rb_job *job);
    uint32_t home; /* the shard that gets it back */
    uint32_t kind; /* the owner's to use */
};

struct rb_work_options {
    uint32_t thread_count, home_count;
    /**
     * Wakes `home`; called from helper threads, and from whoever calls rb_work_finish (or rb_work_submit, without
     * threads), when the home had nothing to take. NULL: nobody sleeps.
     */
    void (*wake)(void *ctx, uint32_t home);
    void *wake_ctx;
    /** Without threads: true keeps a job that could run for a later rb_work_done. NULL: none waits. */
    bool (*later)(void *ctx);
    void *later_ctx;
};

RB_MUST_CHECK enum rb_err rb_work_create(const struct rb_work_options *options,
                                         struct rb_work **ret_work);
/**
 * Runs what is queued, then ends the threads; further submits are refused. The homes then take what is left with
 * rb_work_done. Once, by the thread that created the pool.
 */
void rb_work_stop(struct rb_work *work);
/**
 * Stops, if that was not done, and frees. Every job must have been taken by its home; a caller of rb_work_finish that has
 * not returned yet is waited for. NULL is allowed.
 */
void rb_work_destroy(struct rb_work *work);
/** Any thread. False, and nothing queued, when RB_WORK_QUEUE_MAX jobs wait, or the pool stops. */
bool rb_work_submit(struct rb_work *work, struct rb_job *job);
/** Any thread: a job that was never submitted, but finished elsewhere (by an embedding program), goes to its home's done list. */
void rb_work_finish(struct rb_work *work, struct rb_job *job);
/** The home's thread: the next finished job, NULL when none. Cheap when there is none (one atomic load). */
struct rb_job *rb_work_done(struct rb_work *work, uint32_t home);
