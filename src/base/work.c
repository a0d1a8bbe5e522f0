/* work.c - helper threads: one bounded queue in, one list of finished jobs per home out.
 *
 * 1. The queue is a list under the pool's lock; a home's lists are under the home's own lock, so shards that take
 *    results do not meet each other. A job takes milliseconds, so locks cost nothing here.
 * 2. `ready` of a home is true when it may have something to take; it is written under the home's lock and read without:
 *    a shard that looks every turn pays one load. The wake-up follows each change from false to true, so none is lost.
 * 3. Without threads submitted jobs wait in `waiting` of their home and run when the home comes for them.
 * 4. `finishing` counts callers inside rb_work_finish: the home may take the last job and destroy the pool while the
 *    finishing thread is still on its way out. Its decrement is the last thing that thread does to the pool.
 */
#include "base/work.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "ringbus/check.h"

struct job_list {
    struct rb_job *first, *last;
};

struct home {
    pthread_mutex_t lock;
    struct job_list done, waiting; /* `waiting`: invariant 3 */
    _Atomic bool ready;
};

struct rb_work {
    struct rb_work_options options;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct job_list queue;
    bool stopping;
    _Atomic uint32_t queued_count, finishing;
    uint32_t thread_count; /* running */
    pthread_t *threads;
    struct home homes[];
};

static void list_push(struct job_list *list, struct rb_job *job)
{
    job->next = NULL;
    if (list->first == NULL) {
        list->first = job;
    } else {
        list->last->next = job;
    }
    list->last = job;
}

static struct rb_job *list_pop(struct job_list *list)
{
    struct rb_job *job = list->first;
    if (job != NULL) {
        list->first = job->next;
        job->next = NULL;
    }
    return job;
}

/* Puts `job` on one of its home's lists and wakes the home when it had nothing (invariant 2). */
static void hand_over(struct rb_work *work, struct rb_job *job, bool finished)
{
    rb_assert(job->home < work->options.home_count);
    uint32_t index = job->home; /* the job is the home's as soon as the lock is given back */
    struct home *home = &work->homes[index];
    pthread_mutex_lock(&home->lock);
    bool wake = !atomic_load_explicit(&home->ready, memory_order_relaxed);
    list_push(finished ? &home->done : &home->waiting, job);
    atomic_store_explicit(&home->ready, true, memory_order_release);
    pthread_mutex_unlock(&home->lock);
    if (wake && work->options.wake != NULL) {
        work->options.wake(work->options.wake_ctx, index);
    }
}

static struct rb_job *take_queued(struct rb_work *work)
{
    pthread_mutex_lock(&work->lock);
    struct rb_job *job;
    while ((job = list_pop(&work->queue)) == NULL && !work->stopping) {
        pthread_cond_wait(&work->filled, &work->lock);
    }
    pthread_mutex_unlock(&work->lock);
    if (job != NULL) {
        atomic_fetch_sub_explicit(&work->queued_count, 1, memory_order_relaxed);
    }
    return job;
}

static void *run_thread(void *arg)
{
    struct rb_work *work = arg;
    struct rb_job *job;
    while ((job = take_queued(work)) != NULL) {
        job->run(job);
        hand_over(work, job, true);
    }
    return NULL;
}

/* Signals are for the threads of the program around us. */
static enum rb_err start_threads(struct rb_work *work)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    enum rb_err err = RB_OK;
    while (err == RB_OK && work->thread_count < work->options.thread_count) {
        pthread_t *thread = &work->threads[work->thread_count];
        if (pthread_create(thread, NULL, run_thread, work) != 0) {
            err = RB_ERR_LIMIT;
            break;
        }
        (void)pthread_setname_np(*thread, "rb-work"); /* for the eyes of top(1) only */
        work->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

enum rb_err rb_work_create(const struct rb_work_options *options, struct rb_work **ret_work)
{
    rb_assert(options->home_count > 0);
    struct rb_work *work = calloc(1, sizeof(*work) + options->home_count * sizeof(struct home));
    if (work == NULL) {
        return RB_ERR_MEMORY;
    }
    work->options = *options;
    work->threads = calloc(options->thread_count + 1, sizeof(*work->threads));
    if (work->threads == NULL) {
        free(work);
        return RB_ERR_MEMORY;
    }
    pthread_mutex_init(&work->lock, NULL); /* default attributes: these do not fail on Linux */
    pthread_cond_init(&work->filled, NULL);
    for (uint32_t i = 0; i < options->home_count; i++) {
        pthread_mutex_init(&work->homes[i].lock, NULL);
    }
    enum rb_err err = start_threads(work);
    if (err != RB_OK) {
        rb_work_destroy(work);
        return err;
    }
    *ret_work = work;
    return RB_OK;
}

void rb_work_stop(struct rb_work *work)
{
    pthread_mutex_lock(&work->lock);
    work->stopping = true;
    pthread_cond_broadcast(&work->filled);
    pthread_mutex_unlock(&work->lock);
    for (; work->thread_count > 0; work->thread_count--) {
        int failed = pthread_join(work->threads[work->thread_count - 1], NULL);
        rb_assert(failed == 0);
    }
}

void rb_work_destroy(struct rb_work *work)
{
    if (work == NULL) {
        return;
    }
    rb_work_stop(work);
    while (atomic_load_explicit(&work->finishing, memory_order_acquire) > 0) {
        sched_yield(); /* invariant 4: a few instructions, or one wake-up, away */
    }
    rb_assert(work->queue.first == NULL);
    for (uint32_t i = 0; i < work->options.home_count; i++) {
        struct home *home = &work->homes[i];
        rb_assert(home->done.first == NULL && home->waiting.first == NULL);
        pthread_mutex_destroy(&home->lock);
    }
    pthread_cond_destroy(&work->filled);
    pthread_mutex_destroy(&work->lock);
    free(work->threads);
    free(work);
}

bool rb_work_submit(struct rb_work *work, struct rb_job *job)
{
    rb_assert(job->run != NULL && job->home < work->options.home_count);
    pthread_mutex_lock(&work->lock);
    bool accepted =
        !work->stopping &&
        atomic_load_explicit(&work->queued_count, memory_order_relaxed) < RB_WORK_QUEUE_MAX;
    if (accepted) {
        atomic_fetch_add_explicit(&work->queued_count, 1, memory_order_relaxed);
        if (work->options.thread_count > 0) {
            list_push(&work->queue, job);
            pthread_cond_signal(&work->filled);
        }
    }
    pthread_mutex_unlock(&work->lock);
    if (accepted && work->options.thread_count == 0) {
        hand_over(work, job, false);
    }
    return accepted;
}

void rb_work_finish(struct rb_work *work, struct rb_job *job)
{
    atomic_fetch_add_explicit(&work->finishing, 1, memory_order_relaxed);
    hand_over(work, job, true);
    atomic_fetch_sub_explicit(&work->finishing, 1, memory_order_release);
}

struct rb_job *rb_work_done(struct rb_work *work, uint32_t home_index)
{
    rb_assert(home_index < work->options.home_count);
    struct home *home = &work->homes[home_index];
    if (!atomic_load_explicit(&home->ready, memory_order_acquire)) {
        return NULL;
    }
    pthread_mutex_lock(&home->lock);
    struct rb_job *job = list_pop(&home->done);
    bool run = job == NULL && home->waiting.first != NULL &&
               (work->options.later == NULL || !work->options.later(work->options.later_ctx));
    if (run) {
        job = list_pop(&home->waiting);
    }
    if (home->done.first == NULL && home->waiting.first == NULL) {
        atomic_store_explicit(&home->ready, false, memory_order_relaxed);
    }
    pthread_mutex_unlock(&home->lock);
    if (run) {
        atomic_fetch_sub_explicit(&work->queued_count, 1, memory_order_relaxed);
        job->run(job);
    }
    return job;
}
