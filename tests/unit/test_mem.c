/* test_mem.c - budgets, counted memory, arenas, pools, fifos and counted blocks. */
#include "ringbus/mem.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ringbus/buf.h"

#ifdef RB_MEM_POISONS
#define USABLE_WHEN_FREE false
#else
#define USABLE_WHEN_FREE true
#endif

/* Runs `act` in a child process; true when a broken rule ended it. */
static bool aborts(void (*act)(void *), void *arg)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        act(arg);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void budget_refuses_at_its_limit(void **state)
{
    struct rb_budget budget = { .limit_bytes = 100 };
    assert_true(rb_budget_take(&budget, 60));
    assert_false(rb_budget_take(&budget, 41));
    assert_false(rb_budget_take(&budget, UINT64_MAX));
    assert_int_equal(budget.used_bytes, 60);
    assert_int_equal(budget.refused_count, 2);
    assert_true(rb_budget_take(&budget, 40));
    assert_true(rb_budget_take(&budget, 0));
    rb_budget_give(&budget, 100);
    assert_int_equal(budget.used_bytes, 0);

    budget.limit_bytes = 0;
    assert_true(rb_budget_take(&budget, UINT64_MAX / 2));
    assert_true(rb_budget_take(NULL, UINT64_MAX));
    rb_budget_give(NULL, 5);
}

/* A limit may be lowered below what is used; then nothing more is given, and nothing wraps. */
static void budget_survives_a_lower_limit(void **state)
{
    struct rb_budget budget = { .limit_bytes = 100 };
    assert_true(rb_budget_take(&budget, 90));
    budget.limit_bytes = 50;
    assert_false(rb_budget_take(&budget, 1));
    rb_budget_give(&budget, 45);
    assert_true(rb_budget_take(&budget, 5));
}

static void give_too_much(void *arg)
{
    rb_budget_give(arg, 2);
}

static void budget_asserts_what_is_given_back(void **state)
{
    struct rb_budget budget = { .used_bytes = 1 };
    assert_true(aborts(give_too_much, &budget));
}

static void counted_memory_is_zeroed_and_counted(void **state)
{
    struct rb_budget budget = { .limit_bytes = 1000 };
    uint8_t *ptr = rb_alloc(&budget, 400);
    assert_non_null(ptr);
    for (int i = 0; i < 400; i++) {
        assert_int_equal(ptr[i], 0);
    }
    assert_null(rb_alloc(&budget, 601));
    memset(ptr, 7, 400);
    uint8_t *same = rb_realloc(&budget, ptr, 400, 1001);
    assert_null(same); /* refused: the old block is as it was */
    assert_int_equal(ptr[399], 7);
    assert_int_equal(budget.used_bytes, 400);
    ptr = rb_realloc(&budget, ptr, 400, 1000);
    assert_non_null(ptr);
    assert_int_equal(ptr[399], 7);
    assert_int_equal(budget.used_bytes, 1000);
    ptr = rb_realloc(&budget, ptr, 1000, 10);
    assert_non_null(ptr);
    assert_int_equal(ptr[9], 7);
    assert_int_equal(budget.used_bytes, 10);
    rb_free(&budget, NULL, 0);
    rb_free(&budget, ptr, 10);
    assert_int_equal(budget.used_bytes, 0);
    assert_int_equal(budget.refused_count, 2);
    ptr = rb_alloc(NULL, 0);
    assert_non_null(ptr);
    rb_free(NULL, ptr, 0);
}

#ifndef RB_MEM_POISONS /* the sanitizer's allocator ends the program instead of refusing */
/* What the allocator itself refuses must not stay counted. */
static void counted_memory_survives_a_refusing_allocator(void **state)
{
    struct rb_budget budget = { .limit_bytes = 0 };
    volatile size_t absurd = SIZE_MAX / 2 + 1; /* hidden from the compiler, which would warn */
    assert_null(rb_alloc(&budget, absurd));
    assert_null(rb_realloc(&budget, NULL, 0, absurd));
    assert_int_equal(budget.used_bytes, 0);
    assert_int_equal(budget.refused_count, 0);
}
#endif

static void arena_pieces_are_aligned_zeroed_and_apart(void **state)
{
    struct rb_arena *arena;
    assert_int_equal(rb_arena_create(256, &arena), RB_OK);
    uint8_t *pieces[200];
    size_t sizes[200];
    for (size_t i = 0; i < 200; i++) {
        sizes[i] = i % 50 == 49 ? 5000 : i % 7 == 0 ? 0 : i % 90;
        pieces[i] = rb_arena_take(arena, sizes[i]);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        for (size_t j = 0; j < sizes[i]; j++) {
            assert_int_equal(pieces[i][j], 0);
        }
        memset(pieces[i], (int)i, sizes[i]);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t j = 0; j < sizes[i]; j++) {
            assert_int_equal(pieces[i][j], (uint8_t)i);
        }
    }
    rb_arena_destroy(arena);
    rb_arena_destroy(NULL);
}

/* A large piece must not push out the block being filled. */
static void arena_keeps_filling_behind_a_large_piece(void **state)
{
    struct rb_arena *arena;
    assert_int_equal(rb_arena_create(4096, &arena), RB_OK);
    uint8_t *first = rb_arena_take(arena, 16);
    uint8_t *large = rb_arena_take(arena, 100000);
    uint8_t *second = rb_arena_take(arena, 16);
    assert_non_null(first);
    assert_non_null(large);
    assert_ptr_equal(second, first + 16);
    memset(large, 1, 100000);
    assert_int_equal(second[0], 0);
    rb_arena_destroy(arena);
}

static void pool_reuses_what_was_released(void **state)
{
    struct rb_budget budget = { .limit_bytes = 4096 };
    struct rb_pool pool;
    rb_pool_init(&pool, &budget, 100, 4);
    assert_int_equal(budget.used_bytes, 0);
    uint8_t *objects[8];
    for (int i = 0; i < 8; i++) {
        objects[i] = rb_pool_acquire(&pool);
        assert_non_null(objects[i]);
        assert_int_equal((uintptr_t)objects[i] % 16, 0);
        memset(objects[i], i, 100);
    }
    assert_ptr_equal(objects[1], objects[0] + 112); /* ascending within a slab */
    for (int i = 0; i < 8; i++) {
        assert_int_equal(objects[i][0], i);
        assert_int_equal(objects[i][99], i);
    }
    assert_int_equal(pool.used_count, 8);
    assert_int_equal(pool.total_count, 8);
    uint64_t used_bytes = budget.used_bytes;
    rb_pool_release(&pool, objects[3]);
    rb_pool_release(&pool, objects[5]);
    assert_ptr_equal(rb_pool_acquire(&pool), objects[5]);
    assert_int_equal(objects[5][99], 5); /* as it was left */
    assert_ptr_equal(rb_pool_acquire(&pool), objects[3]);
    assert_int_equal(budget.used_bytes, used_bytes);
    for (int i = 0; i < 8; i++) {
        rb_pool_release(&pool, objects[i]);
    }
    rb_pool_deinit(&pool);
    assert_int_equal(budget.used_bytes, 0);
}

static void pool_stops_at_the_budget(void **state)
{
    struct rb_budget budget = { .limit_bytes = 16 + 4 * 64 };
    struct rb_pool pool;
    rb_pool_init(&pool, &budget, 64, 4);
    void *objects[4];
    for (int i = 0; i < 4; i++) {
        objects[i] = rb_pool_acquire(&pool);
        assert_non_null(objects[i]);
    }
    assert_null(rb_pool_acquire(&pool));
    assert_int_equal(budget.refused_count, 1);
    assert_int_equal(pool.used_count, 4);
    rb_pool_release(&pool, objects[2]);
    assert_ptr_equal(rb_pool_acquire(&pool), objects[2]);
    for (int i = 0; i < 4; i++) {
        rb_pool_release(&pool, objects[i]);
    }
    rb_pool_deinit(&pool);
}

static void deinit_pool(void *arg)
{
    rb_pool_deinit(arg);
}

static void pool_asserts_that_all_came_back(void **state)
{
    struct rb_pool pool;
    rb_pool_init(&pool, NULL, 8, 2);
    void *object = rb_pool_acquire(&pool);
    assert_non_null(object);
    assert_true(aborts(deinit_pool, &pool));
    rb_pool_release(&pool, object);
    assert_int_equal(rb_mem_usable(object), USABLE_WHEN_FREE);
    rb_pool_deinit(&pool);
}

static void fifo_keeps_order_across_the_end(void **state)
{
    struct rb_budget budget = { .limit_bytes = 5 * sizeof(void *) };
    struct rb_fifo fifo, refused;
    assert_int_equal(rb_fifo_init(&fifo, &budget, 5), RB_OK);
    assert_int_equal(rb_fifo_init(&refused, &budget, 1), RB_ERR_MEMORY);
    assert_null(rb_fifo_pop(&fifo));
    static char items[100];
    int pushed = 0, popped = 0;
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < round % 6 && pushed < 100; i++) {
            enum rb_err err = rb_fifo_push(&fifo, &items[pushed]);
            assert_int_equal(err, pushed - popped == 5 ? RB_ERR_FULL : RB_OK);
            pushed += err == RB_OK;
        }
        for (int i = 0; i < (round + 2) % 5; i++) {
            void *item = rb_fifo_pop(&fifo);
            assert_ptr_equal(item, popped == pushed ? NULL : &items[popped]);
            popped += item != NULL;
        }
        assert_int_equal(fifo.len, pushed - popped);
    }
    assert_true(popped > 50);
    rb_fifo_deinit(&fifo);
    assert_int_equal(budget.used_bytes, 0);
}

static void fifo_without_places_is_full(void **state)
{
    struct rb_fifo fifo;
    int item;
    assert_int_equal(rb_fifo_init(&fifo, NULL, 0), RB_OK);
    assert_int_equal(rb_fifo_push(&fifo, &item), RB_ERR_FULL);
    assert_null(rb_fifo_pop(&fifo));
    rb_fifo_deinit(&fifo);
}

static void bufs_come_in_classes(void **state)
{
    static const struct {
        uint32_t wanted, cap, class_index;
    } cases[] = {
        { 0, 1024, 0 },        { 1024, 1024, 0 },
        { 1025, 4096, 1 },     { 4096, 4096, 1 },
        { 4097, 32768, 2 },    { 32769, 131072, 3 },
        { 131072, 131072, 3 }, { 131073, 131073, RB_BUF_CLASSES },
    };
    struct rb_budget budget = { .limit_bytes = 0 };
    struct rb_bufpool pool;
    rb_bufpool_init(&pool, &budget);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rb_buf *buf = rb_buf_acquire(&pool, cases[i].wanted);
        assert_non_null(buf);
        assert_int_equal(buf->cap, cases[i].cap);
        assert_int_equal(buf->class_index, cases[i].class_index);
        assert_int_equal(buf->len, 0);
        assert_int_equal(buf->ref_count, 1);
        assert_null(buf->next);
        memset(buf->data, 0xaa, buf->cap);
        assert_int_equal(pool.used_count, 1);
        assert_int_equal(pool.used_bytes, buf->cap);
        rb_buf_release(buf);
        assert_int_equal(pool.used_bytes, 0);
    }
    assert_int_equal(pool.free_count[0], 1);
    assert_int_equal(pool.free_count[3], 1);
    rb_bufpool_deinit(&pool);
    assert_int_equal(budget.used_bytes, 0);
}

static void buf_lives_until_its_last_count(void **state)
{
    struct rb_bufpool pool;
    rb_bufpool_init(&pool, NULL);
    struct rb_buf *buf = rb_buf_acquire(&pool, 10);
    assert_non_null(buf);
    rb_buf_hold(buf);
    buf->len = 5;
    rb_buf_release(buf);
    assert_int_equal(pool.used_count, 1);
    assert_int_equal(pool.free_count[0], 0);
    rb_buf_release(buf);
    assert_int_equal(pool.used_count, 0);
    assert_int_equal(pool.free_count[0], 1);
    assert_int_equal(rb_mem_usable(buf->data), USABLE_WHEN_FREE);
    struct rb_buf *again = rb_buf_acquire(&pool, 10);
    assert_ptr_equal(again, buf);
    assert_int_equal(again->len, 0);
    rb_buf_release(again);
    rb_bufpool_deinit(&pool);
}

static void bufs_beyond_the_cache_are_freed(void **state)
{
    struct rb_budget budget = { .limit_bytes = 0 };
    struct rb_bufpool pool;
    rb_bufpool_init(&pool, &budget);
    pool.free_count_max[1] = 2;
    struct rb_buf *bufs[5];
    for (int i = 0; i < 5; i++) {
        bufs[i] = rb_buf_acquire(&pool, 4000);
        assert_non_null(bufs[i]);
    }
    uint64_t one_bytes = budget.used_bytes / 5;
    assert_true(one_bytes >= 4096);
    for (int i = 0; i < 5; i++) {
        rb_buf_release(bufs[i]);
    }
    assert_int_equal(pool.free_count[1], 2);
    assert_int_equal(budget.used_bytes, 2 * one_bytes);
    rb_bufpool_trim(&pool, 2 * one_bytes);
    assert_int_equal(pool.free_count[1], 2);
    rb_bufpool_trim(&pool, 2 * one_bytes - 1);
    assert_int_equal(pool.free_count[1], 1);
    rb_bufpool_deinit(&pool);
    assert_int_equal(budget.used_bytes, 0);
}

static void trim_frees_the_largest_first(void **state)
{
    struct rb_bufpool pool;
    rb_bufpool_init(&pool, NULL);
    struct rb_buf *small = rb_buf_acquire(&pool, 1);
    struct rb_buf *large = rb_buf_acquire(&pool, 100000);
    assert_true(small != NULL && large != NULL);
    rb_buf_release(small);
    rb_buf_release(large);
    rb_bufpool_trim(&pool, 10000);
    assert_int_equal(pool.free_count[3], 0);
    assert_int_equal(pool.free_count[0], 1);
    rb_bufpool_deinit(&pool);
}

/* Cached blocks of another size must not be the reason of a refusal. */
static void budget_pressure_empties_the_cache(void **state)
{
    struct rb_budget budget = { .limit_bytes = 140000 };
    struct rb_bufpool pool;
    rb_bufpool_init(&pool, &budget);
    struct rb_buf *large = rb_buf_acquire(&pool, 131072);
    assert_non_null(large);
    assert_null(rb_buf_acquire(&pool, 32768));
    assert_int_equal(budget.refused_count, 1);
    assert_int_equal(pool.used_count, 1);
    rb_buf_release(large);
    assert_int_equal(pool.free_count[3], 1);
    struct rb_buf *medium = rb_buf_acquire(&pool, 32768);
    assert_non_null(medium);
    assert_int_equal(pool.free_count[3], 0);
    assert_int_equal(budget.refused_count, 1);
    rb_buf_release(medium);
    rb_bufpool_deinit(&pool);
    assert_int_equal(budget.used_bytes, 0);
}

static void deinit_bufpool(void *arg)
{
    rb_bufpool_deinit(arg);
}

static void bufpool_asserts_that_all_came_back(void **state)
{
    struct rb_bufpool pool;
    rb_bufpool_init(&pool, NULL);
    struct rb_buf *buf = rb_buf_acquire(&pool, 1);
    assert_non_null(buf);
    assert_true(aborts(deinit_bufpool, &pool));
    rb_buf_release(buf);
    rb_bufpool_deinit(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budget_refuses_at_its_limit),
        cmocka_unit_test(budget_survives_a_lower_limit),
        cmocka_unit_test(budget_asserts_what_is_given_back),
        cmocka_unit_test(counted_memory_is_zeroed_and_counted),
#ifndef RB_MEM_POISONS
        cmocka_unit_test(counted_memory_survives_a_refusing_allocator),
#endif
        cmocka_unit_test(arena_pieces_are_aligned_zeroed_and_apart),
        cmocka_unit_test(arena_keeps_filling_behind_a_large_piece),
        cmocka_unit_test(pool_reuses_what_was_released),
        cmocka_unit_test(pool_stops_at_the_budget),
        cmocka_unit_test(pool_asserts_that_all_came_back),
        cmocka_unit_test(fifo_keeps_order_across_the_end),
        cmocka_unit_test(fifo_without_places_is_full),
        cmocka_unit_test(bufs_come_in_classes),
        cmocka_unit_test(buf_lives_until_its_last_count),
        cmocka_unit_test(bufs_beyond_the_cache_are_freed),
        cmocka_unit_test(trim_frees_the_largest_first),
        cmocka_unit_test(budget_pressure_empties_the_cache),
        cmocka_unit_test(bufpool_asserts_that_all_came_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
