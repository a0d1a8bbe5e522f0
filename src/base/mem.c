/* mem.c - memory that is counted, or taken all at once.
 *
 * 1. `used_bytes` of a budget is exactly what its users hold; giving back more is a broken rule.
 *    With a limit, used_bytes <= limit_bytes, unless the limit was lowered meanwhile.
 * 2. Arena: a list of blocks; only the first one is filled. A piece too large for a fresh block
 *    gets a block of its own behind the first, which goes on being filled.
 *
 *      arena -> [ first: used ...... | free ] -> [ full ] -> [ large ] -> ...
 *
 * 3. Pool: slabs are linked by their own headers, so free objects may be poisoned wholly. Objects
 *    of a new slab are handed out in ascending order, released ones last in, first out: they are
 *    still cached.
 * 4. Fifo: a ring of `cap` places, `len` of them in use from `head` on.
 */
#include "ringbus/mem.h"

#include <stdlib.h>
#include <string.h>

#define ALIGN 16

static size_t round_up(size_t bytes)
{
    rb_assert(bytes <= SIZE_MAX - ALIGN);
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

bool rb_budget_take(struct rb_budget *budget, uint64_t bytes)
{
    if (budget == NULL) {
        return true;
    }
    uint64_t limit = budget->limit_bytes == 0 ? UINT64_MAX : budget->limit_bytes;
    if (budget->used_bytes > limit || bytes > limit - budget->used_bytes) {
        budget->refused_count++;
        return false;
    }
    budget->used_bytes += bytes;
    return true;
}

void rb_budget_give(struct rb_budget *budget, uint64_t bytes)
{
    if (budget == NULL) {
        return;
    }
    rb_assert(bytes <= budget->used_bytes); /* invariant 1 */
    budget->used_bytes -= bytes;
}

void *rb_alloc(struct rb_budget *budget, size_t bytes)
{
    if (!rb_budget_take(budget, bytes)) {
        return NULL;
    }
    void *ptr = calloc(1, bytes == 0 ? 1 : bytes);
    if (ptr == NULL) {
        rb_budget_give(budget, bytes);
    }
    return ptr;
}

void rb_free(struct rb_budget *budget, void *ptr, size_t bytes)
{
    if (ptr != NULL) {
        free(ptr);
        rb_budget_give(budget, bytes);
    }
}

void *rb_realloc(struct rb_budget *budget, void *ptr, size_t old_bytes, size_t new_bytes)
{
    rb_assert(ptr != NULL || old_bytes == 0);
    bool grows = new_bytes > old_bytes;
    if (grows && !rb_budget_take(budget, new_bytes - old_bytes)) {
        return NULL;
    }
    void *moved = realloc(ptr, new_bytes == 0 ? 1 : new_bytes);
    if (moved == NULL) {
        if (grows) {
            rb_budget_give(budget, new_bytes - old_bytes);
        }
        return NULL;
    }
    if (!grows) {
        rb_budget_give(budget, old_bytes - new_bytes);
    }
    return moved;
}

struct arena_block {
    struct arena_block *next;
    size_t cap; /* bytes of data */
    _Alignas(ALIGN) uint8_t data[];
};

struct rb_arena {
    struct arena_block *first;
    size_t block_bytes;
    size_t used_bytes; /* of the first block */
};

static struct arena_block *create_block(size_t cap)
{
    if (cap > SIZE_MAX - sizeof(struct arena_block)) {
        return NULL;
    }
    struct arena_block *block = calloc(1, sizeof(*block) + cap);
    if (block != NULL) {
        block->cap = cap;
    }
    return block;
}

enum rb_err rb_arena_create(size_t block_bytes, struct rb_arena **ret_arena)
{
    rb_assert(block_bytes > 0);
    struct rb_arena *arena = calloc(1, sizeof(*arena));
    if (arena == NULL) {
        return RB_ERR_MEMORY;
    }
    arena->block_bytes = round_up(block_bytes);
    *ret_arena = arena;
    return RB_OK;
}

void rb_arena_destroy(struct rb_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    struct arena_block *block = arena->first;
    while (block != NULL) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    free(arena);
}

void *rb_arena_take(struct rb_arena *arena, size_t bytes)
{
    size_t needed = round_up(bytes == 0 ? 1 : bytes);
    struct arena_block *first = arena->first;
    if (first != NULL && needed <= first->cap - arena->used_bytes) {
        void *piece = first->data + arena->used_bytes;
        arena->used_bytes += needed;
        return piece;
    }
    bool large = needed > arena->block_bytes;
    struct arena_block *block = create_block(large ? needed : arena->block_bytes);
    if (block == NULL) {
        return NULL;
    }
    if (large && first != NULL) { /* invariant 2 */
        block->next = first->next;
        first->next = block;
    } else {
        block->next = first;
        arena->first = block;
        arena->used_bytes = needed;
    }
    return block->data;
}

struct slab {
    struct slab *next;
    _Alignas(ALIGN) uint8_t objects[];
};

static size_t slab_bytes(const struct rb_pool *pool)
{
    return sizeof(struct slab) + pool->object_bytes * pool->slab_objects;
}

void rb_pool_init(struct rb_pool *pool, struct rb_budget *budget, size_t object_bytes,
                  size_t slab_objects)
{
    rb_assert(object_bytes > 0 && slab_objects > 0);
    size_t rounded = round_up(object_bytes);
    rb_assert(slab_objects <= (SIZE_MAX - sizeof(struct slab)) / rounded);
    *pool = (struct rb_pool){
        .budget = budget,
        .object_bytes = rounded,
        .slab_objects = slab_objects,
    };
}

void rb_pool_deinit(struct rb_pool *pool)
{
    rb_assert(pool->used_count == 0);
    struct slab *slab = pool->slabs;
    while (slab != NULL) {
        struct slab *next = slab->next;
        rb_mem_unpoison(slab, slab_bytes(pool));
        rb_free(pool->budget, slab, slab_bytes(pool));
        slab = next;
    }
    pool->slabs = pool->free = NULL;
    pool->total_count = 0;
}

bool rb_pool_grow(struct rb_pool *pool)
{
    struct slab *slab = rb_alloc(pool->budget, slab_bytes(pool));
    if (slab == NULL) {
        return false;
    }
    slab->next = pool->slabs;
    pool->slabs = slab;
    for (size_t i = pool->slab_objects; i > 0; i--) {
        void *object = slab->objects + (i - 1) * pool->object_bytes;
        *(void **)object = pool->free;
        pool->free = object;
        rb_mem_poison(object, pool->object_bytes);
    }
    pool->total_count += pool->slab_objects;
    return true;
}

enum rb_err rb_fifo_init(struct rb_fifo *fifo, struct rb_budget *budget, uint32_t cap)
{
    void **items = rb_alloc(budget, (size_t)cap * sizeof(*items));
    if (items == NULL) {
        return RB_ERR_MEMORY;
    }
    *fifo = (struct rb_fifo){ .budget = budget, .items = items, .cap = cap };
    return RB_OK;
}

void rb_fifo_deinit(struct rb_fifo *fifo)
{
    rb_free(fifo->budget, fifo->items, (size_t)fifo->cap * sizeof(*fifo->items));
    *fifo = (struct rb_fifo){ .items = NULL };
}

enum rb_err rb_fifo_push(struct rb_fifo *fifo, void *item)
{
    rb_assert(item != NULL); /* NULL is what an empty queue yields */
    if (fifo->len == fifo->cap) {
        return RB_ERR_FULL;
    }
    uint64_t at = (uint64_t)fifo->head + fifo->len;
    fifo->items[at < fifo->cap ? at : at - fifo->cap] = item;
    fifo->len++;
    return RB_OK;
}

void *rb_fifo_pop(struct rb_fifo *fifo)
{
    if (fifo->len == 0) {
        return NULL;
    }
    void *item = fifo->items[fifo->head];
    fifo->head = fifo->head + 1 == fifo->cap ? 0 : fifo->head + 1;
    fifo->len--;
    return item;
}
