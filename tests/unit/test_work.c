/* test_work.c - helper threads: every job comes back once, to its home, also while stopping. */
#include "base/work.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "ringbus/check.h"

enum { HOMES = 3, JOBS = 3000 };

struct item {
    struct rb_job job;
    uint32_t number, run_count;
    _Atomic bool *gate; /* run() waits for it */
};

static struct item *item_of(struct rb_job *job)
{
    return (struct item *)job; /* the job comes first */
}

static void run_item(struct rb_job *job)
{
    struct item *item = item_of(job);
    while (item->gate != NULL && !atomic_load(item->gate)) {
        sched_yield();
    }
    item->run_count++;
}

static void count_wake(void *ctx, uint32_t home)
{
    atomic_fetch_add(&((_Atomic uint32_t *)ctx)[home], 1);
}

static struct rb_work *create(uint32_t thread_count, _Atomic uint32_t *wakes)
{
    struct rb_work *work = NULL;
    const struct rb_work_options options = {
        .thread_count = thread_count,
        .home_count = HOMES,
        .wake = wakes == NULL ? NULL : count_wake,
        .wake_ctx = wakes,
    };
    assert_int_equal(rb_work_create(&options, &work), RB_OK);
    return work;
}

static struct item *create_items(uint32_t count)
{
    struct item *items = calloc(count, sizeof(*items));
    assert_non_null(items);
    for (uint32_t i = 0; i < count; i++) {
        items[i] = (struct item){ .job = { .run = run_item, .home = i % HOMES }, .number = i };
    }
    return items;
}

/* Without threads a job runs when its home asks, in order, and not before. */
static void without_threads_the_home_runs_its_jobs(void **state)
{
    _Atomic uint32_t wakes[HOMES] = { 0 };
    struct rb_work *work = create(0, wakes);
    struct item *items = create_items(9);
    assert_null(rb_work_done(work, 0));
    for (int i = 0; i < 9; i++) {
        assert_true(rb_work_submit(work, &items[i].job));
        assert_int_equal(items[i].run_count, 0);
    }
    for (uint32_t home = 0; home < HOMES; home++) {
        assert_int_equal(wakes[home], 1); /* only the first one found the home idle */
        for (uint32_t i = home; i < 9; i += HOMES) {
            struct rb_job *job = rb_work_done(work, home);
            assert_ptr_equal(job, &items[i].job);
            assert_int_equal(items[i].run_count, 1);
        }
        assert_null(rb_work_done(work, home));
    }
    rb_work_destroy(work);
    free(items);
}

/* What was finished elsewhere goes before what still has to run, and is not run. */
static void finished_jobs_are_not_run(void **state)
{
    struct rb_work *work = create(0, NULL);
    struct item *items = create_items(1 + HOMES);
    assert_true(rb_work_submit(work, &items[0].job));
    rb_work_finish(work, &items[HOMES].job); /* the same home */
    assert_ptr_equal(rb_work_done(work, 0), &items[HOMES].job);
    assert_int_equal(items[HOMES].run_count, 0);
    assert_ptr_equal(rb_work_done(work, 0), &items[0].job);
    assert_null(rb_work_done(work, 0));
    rb_work_destroy(work);
    free(items);
}

static void the_queue_is_bounded(void **state)
{
    struct rb_work *work = create(0, NULL);
    struct item *items = create_items(RB_WORK_QUEUE_MAX + 1);
    for (uint32_t i = 0; i < RB_WORK_QUEUE_MAX; i++) {
        assert_true(rb_work_submit(work, &items[i].job));
    }
    assert_false(rb_work_submit(work, &items[RB_WORK_QUEUE_MAX].job));
    assert_ptr_equal(rb_work_done(work, 1), &items[1].job);
    assert_true(rb_work_submit(work, &items[RB_WORK_QUEUE_MAX].job));
    uint32_t taken = 1;
    for (uint32_t home = 0; home < HOMES; home++) {
        while (rb_work_done(work, home) != NULL) {
            taken++;
        }
    }
    assert_int_equal(taken, RB_WORK_QUEUE_MAX + 1);
    rb_work_destroy(work);
    free(items);
}

/* Takes until `count` jobs of `home` came; each one ran once. */
static void take_all(struct rb_work *work, uint32_t home, uint32_t count)
{
    while (count > 0) {
        struct rb_job *job = rb_work_done(work, home);
        if (job == NULL) {
            sched_yield();
            continue;
        }
        rb_assert(item_of(job)->run_count == 1 && job->home == home);
        item_of(job)->run_count++;
        count--;
    }
}

struct taker {
    struct rb_work *work;
    uint32_t home;
};

static void *run_taker(void *arg)
{
    struct taker *taker = arg;
    take_all(taker->work, taker->home, JOBS / HOMES);
    return NULL;
}

static void each_job_comes_home_once(void **state)
{
    _Atomic uint32_t wakes[HOMES] = { 0 };
    struct rb_work *work = create(4, wakes);
    struct item *items = create_items(JOBS);
    pthread_t threads[HOMES];
    struct taker takers[HOMES];
    for (uint32_t i = 0; i < HOMES; i++) {
        takers[i] = (struct taker){ work, i };
        assert_int_equal(pthread_create(&threads[i], NULL, run_taker, &takers[i]), 0);
    }
    for (int i = 0; i < JOBS; i++) {
        assert_true(rb_work_submit(work, &items[i].job));
    }
    for (int i = 0; i < HOMES; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_in_range(wakes[i], 1, JOBS / HOMES);
        assert_null(rb_work_done(work, (uint32_t)i));
    }
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(items[i].run_count, 2);
    }
    rb_work_destroy(work);
    free(items);
}

/* A stop runs what waits, refuses what comes, and leaves the results to be taken. */
static void stop_runs_what_is_queued(void **state)
{
    struct rb_work *work = create(1, NULL);
    struct item *items = create_items(HOMES + 1);
    _Atomic bool gate = false;
    items[0].gate = &gate;
    for (int i = 0; i < HOMES; i++) {
        assert_true(rb_work_submit(work, &items[i].job));
    }
    atomic_store(&gate, true);
    rb_work_stop(work);
    assert_false(rb_work_submit(work, &items[HOMES].job));
    for (uint32_t i = 0; i < HOMES; i++) {
        take_all(work, i, 1);
    }
    rb_work_destroy(work);
    free(items);
}

struct finisher {
    struct rb_work *work;
    struct item item;
};

static void *run_finisher(void *arg)
{
    struct finisher *finisher = arg;
    rb_work_finish(finisher->work, &finisher->item.job);
    return NULL;
}

/* A late waker: the pool must not go away under it. */
static void wake_slowly(void *ctx, uint32_t home)
{
    const struct timespec pause = { .tv_nsec = 2000000 };
    nanosleep(&pause, NULL);
    atomic_fetch_add((_Atomic uint32_t *)ctx, 1);
}

static void destroy_waits_for_the_finisher(void **state)
{
    _Atomic uint32_t wakes = 0;
    const struct rb_work_options options = { .home_count = 1,
                                             .wake = wake_slowly,
                                             .wake_ctx = &wakes };
    for (uint32_t round = 1; round <= 10; round++) {
        struct finisher finisher = { 0 };
        assert_int_equal(rb_work_create(&options, &finisher.work), RB_OK);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, run_finisher, &finisher), 0);
        struct rb_job *job;
        while ((job = rb_work_done(finisher.work, 0)) == NULL) {
            sched_yield();
        }
        assert_ptr_equal(job, &finisher.item.job);
        rb_work_destroy(finisher.work);
        assert_int_equal(wakes, round);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    rb_work_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_threads_the_home_runs_its_jobs),
        cmocka_unit_test(finished_jobs_are_not_run),
        cmocka_unit_test(the_queue_is_bounded),
        cmocka_unit_test(each_job_comes_home_once),
        cmocka_unit_test(stop_runs_what_is_queued),
        cmocka_unit_test(destroy_waits_for_the_finisher),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
