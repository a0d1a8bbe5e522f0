/* mem.h - arenas for start-up, pools for objects, bounded queues, and the budget they count against. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"

/** Bytes that a shard may hold. Not thread-safe: one per shard. limit_bytes 0 means no limit. */
struct rb_budget {
    uint64_t limit_bytes, used_bytes, refused_count;
};

/** Counts `bytes`; false (and one more refusal) when the budget is spent. */
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

/** Equal objects, carved from slabs that stay until deinit. Objects come back zeroed? No: as left. */
struct rb_pool {
    struct rb_budget *budget;
    void *free, *slabs;
    size_t object_bytes, slab_objects;
    size_t used_count, total_count;
};

/** `slab_objects` objects are allocated at a time. Nothing is allocated yet. */
void rb_pool_init(struct rb_pool *pool, struct rb_budget *budget, size_t object_bytes,
                  size_t slab_objects);
/** Frees the slabs; asserts that every object was released. */
void rb_pool_deinit(struct rb_pool *pool);
/** Not zeroed. NULL when the budget is spent. */
void *rb_pool_acquire(struct rb_pool *pool);
void rb_pool_release(struct rb_pool *pool, void *object);

/** A bounded queue of pointers in caller-given order. */
struct rb_fifo {
    struct rb_budget *budget;
    void **items;
    uint32_t cap, head, len;
};

RB_MUST_CHECK enum rb_err rb_fifo_init(struct rb_fifo *fifo, struct rb_budget *budget, uint32_t cap);
void rb_fifo_deinit(struct rb_fifo *fifo);
/** RB_ERR_FULL when `cap` items wait. */
RB_MUST_CHECK enum rb_err rb_fifo_push(struct rb_fifo *fifo, void *item);
/** NULL when empty. */
void *rb_fifo_pop(struct rb_fifo *fifo);
