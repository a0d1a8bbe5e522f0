/* mem.h - arenas for start-up, pools for objects, bounded queues, and the budget they count
 * against. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/check.h"
#include "ringbus/errors.h"

#if defined(__SANITIZE_ADDRESS__)
#define RB_MEM_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RB_MEM_POISONS 1
#endif
#endif
#ifdef RB_MEM_POISONS
#include <sanitizer/asan_interface.h>
#endif

/** In address-sanitizer builds touching these bytes is reported from now on; otherwise nothing. */
static inline void rb_mem_poison(void *ptr, size_t bytes)
{
#ifdef RB_MEM_POISONS
    ASAN_POISON_MEMORY_REGION(ptr, bytes);
#endif
}

static inline void rb_mem_unpoison(void *ptr, size_t bytes)
{
#ifdef RB_MEM_POISONS
    ASAN_UNPOISON_MEMORY_REGION(ptr, bytes);
#endif
}

/** False for bytes that were poisoned; always true in other builds. */
static inline bool rb_mem_usable(const void *ptr)
{
#ifdef RB_MEM_POISONS
    return !__asan_address_is_poisoned((const char *)ptr);
#else
    return true;
#endif
}

/** Bytes that a shard may hold. Not thread-safe: one per shard. limit_bytes 0 means no limit. */
struct rb_budget {
    uint64_t limit_bytes, used_bytes, refused_count;
};

/** Counts `bytes`; false (and one more refusal) when the budget is spent. `budget` may be NULL. */
bool rb_budget_take(struct rb_budget *budget, uint64_t bytes);
void rb_budget_give(struct rb_budget *budget, uint64_t bytes);

/** Zeroed heap memory counted against `budget` (may be NULL). NULL when refused. */
void *rb_alloc(struct rb_budget *budget, size_t bytes);
/** `bytes` must be what rb_alloc got. `ptr` may be NULL. */
void rb_free(struct rb_budget *budget, void *ptr, size_t bytes);
/** Grows or shrinks; keeps the old block on failure. New bytes are not zeroed. */
void *rb_realloc(struct rb_budget *budget, void *ptr, size_t old_bytes, size_t new_bytes);

/** Start-up and scratch memory: taken piece by piece, given back all at once. */
struct rb_arena;
RB_MUST_CHECK enum rb_err rb_arena_create(size_t block_bytes, struct rb_arena **ret_arena);
void rb_arena_destroy(struct rb_arena *arena);
/** Zeroed, 16-byte aligned; NULL when the allocator refuses. */
void *rb_arena_take(struct rb_arena *arena, size_t bytes);

/** Equal 16-byte aligned objects, carved from slabs that stay until deinit. An object keeps its
 * bytes from release to acquire, but for the first pointer's worth. Free ones are poisoned in
 * sanitizer builds. */
struct rb_pool {
    struct rb_budget *budget;
    void *free, *slabs;
    size_t object_bytes, slab_objects; /* object_bytes rounded up to 16 */
    size_t used_count, total_count;
};

/** `slab_objects` objects are allocated at a time. Nothing is allocated yet. */
void rb_pool_init(struct rb_pool *pool, struct rb_budget *budget, size_t object_bytes,
                  size_t slab_objects);
/** Frees the slabs; asserts that every object was released. */
void rb_pool_deinit(struct rb_pool *pool);
/** Adds a slab; for rb_pool_acquire only. */
bool rb_pool_grow(struct rb_pool *pool);

/** Not zeroed. NULL when the budget is spent. */
static inline void *rb_pool_acquire(struct rb_pool *pool)
{
    if (pool->free == NULL && !rb_pool_grow(pool)) {
        return NULL;
    }
    void *object = pool->free;
    rb_mem_unpoison(object, pool->object_bytes);
    pool->free = *(void **)object;
    pool->used_count++;
    return object;
}

static inline void rb_pool_release(struct rb_pool *pool, void *object)
{
    rb_assert(pool->used_count > 0);
    rb_assert_slow(rb_mem_usable(object)); /* else it was released before */
    *(void **)object = pool->free;
    pool->free = object;
    pool->used_count--;
    rb_mem_poison(object, pool->object_bytes);
}

/** A bounded queue of pointers, first in, first out. */
struct rb_fifo {
    struct rb_budget *budget;
    void **items;
    uint32_t cap, head, len;
};

RB_MUST_CHECK enum rb_err rb_fifo_init(struct rb_fifo *fifo, struct rb_budget *budget,
                                       uint32_t cap);
void rb_fifo_deinit(struct rb_fifo *fifo);
/** RB_ERR_FULL when `cap` items wait. */
RB_MUST_CHECK enum rb_err rb_fifo_push(struct rb_fifo *fifo, void *item);
/** NULL when empty. */
void *rb_fifo_pop(struct rb_fifo *fifo);
