/* buf.c - counted blocks of bytes in four sizes, cached per shard.
 *
 * 1. The budget counts every block that exists, held or cached; used_count and used_bytes count
 *    those held.
 * 2. A free list of a class keeps at most free_count_max blocks; what is released beyond goes to
 *    the allocator, so a burst of large payloads does not stay.
 * 3. When the budget has no room, cached blocks are freed before a new one is refused.
 * 4. Blocks above the largest class are exact and never cached (class_index is RB_BUF_CLASSES).
 * 5. The data of a cached block is poisoned in sanitizer builds.
 */
#include "ringbus/buf.h"

#include <stdlib.h>

#include "ringbus/check.h"

static const uint32_t class_caps[RB_BUF_CLASSES] = { 1024, 4096, 32768, 131072 };
static const uint32_t free_count_defaults[RB_BUF_CLASSES] = { 256, 256, 128, 16 };

static uint64_t block_bytes(uint32_t cap)
{
    return sizeof(struct rb_buf) + (uint64_t)cap;
}

static uint32_t class_for(uint32_t cap_min)
{
    uint32_t class_index = 0;
    while (class_index < RB_BUF_CLASSES && class_caps[class_index] < cap_min) {
        class_index++;
    }
    return class_index;
}

void rb_bufpool_init(struct rb_bufpool *pool, struct rb_budget *budget)
{
    *pool = (struct rb_bufpool){ .budget = budget };
    for (uint32_t i = 0; i < RB_BUF_CLASSES; i++) {
        pool->free_count_max[i] = free_count_defaults[i];
    }
}

void rb_bufpool_deinit(struct rb_bufpool *pool)
{
    rb_assert(pool->used_count == 0 && pool->used_bytes == 0);
    rb_bufpool_trim(pool, 0);
}

static struct rb_buf *pop_free(struct rb_bufpool *pool, uint32_t class_index)
{
    struct rb_buf *buf = pool->free[class_index];
    pool->free[class_index] = buf->next;
    pool->free_count[class_index]--;
    rb_mem_unpoison(buf->data, buf->cap);
    return buf;
}

static void destroy_block(struct rb_bufpool *pool, struct rb_buf *buf)
{
    uint64_t bytes = block_bytes(buf->cap);
    free(buf);
    rb_budget_give(pool->budget, bytes);
}

void rb_bufpool_trim(struct rb_bufpool *pool, uint64_t keep_bytes)
{
    uint64_t cached_bytes = 0;
    for (uint32_t i = 0; i < RB_BUF_CLASSES; i++) {
        cached_bytes += pool->free_count[i] * block_bytes(class_caps[i]);
    }
    for (uint32_t i = RB_BUF_CLASSES; i > 0; i--) { /* the largest first: they give most back */
        while (cached_bytes > keep_bytes && pool->free[i - 1] != NULL) {
            destroy_block(pool, pop_free(pool, i - 1));
            cached_bytes -= block_bytes(class_caps[i - 1]);
        }
    }
}

/* A new block, uninitialised but for its fixed fields. */
static struct rb_buf *create_block(struct rb_bufpool *pool, uint32_t class_index, uint32_t cap)
{
    uint64_t bytes = block_bytes(cap);
    struct rb_budget *budget = pool->budget;
    if (budget != NULL && budget->limit_bytes != 0 &&
        budget->used_bytes + bytes > budget->limit_bytes) {
        rb_bufpool_trim(pool, 0); /* invariant 3 */
    }
    if (!rb_budget_take(budget, bytes)) {
        return NULL;
    }
    struct rb_buf *buf = malloc(bytes);
    if (buf == NULL) {
        rb_budget_give(budget, bytes);
        return NULL;
    }
    buf->pool = pool;
    buf->cap = cap;
    buf->class_index = class_index;
    return buf;
}

struct rb_buf *rb_buf_acquire(struct rb_bufpool *pool, uint32_t cap_min)
{
    uint32_t class_index = class_for(cap_min);
    struct rb_buf *buf;
    if (class_index < RB_BUF_CLASSES && pool->free[class_index] != NULL) {
        buf = pop_free(pool, class_index);
    } else {
        uint32_t cap = class_index < RB_BUF_CLASSES ? class_caps[class_index] : cap_min;
        buf = create_block(pool, class_index, cap);
        if (buf == NULL) {
            return NULL;
        }
    }
    buf->next = NULL;
    buf->ref_count = 1;
    buf->len = 0;
    pool->used_count++;
    pool->used_bytes += buf->cap;
    return buf;
}

void rb_buf_free(struct rb_buf *buf)
{
    struct rb_bufpool *pool = buf->pool;
    uint32_t class_index = buf->class_index;
    rb_assert(buf->ref_count == 0 && pool->used_count > 0);
    pool->used_count--;
    pool->used_bytes -= buf->cap;
    if (class_index == RB_BUF_CLASSES ||
        pool->free_count[class_index] >= pool->free_count_max[class_index]) {
        destroy_block(pool, buf);
        return;
    }
    buf->next = pool->free[class_index];
    pool->free[class_index] = buf;
    pool->free_count[class_index]++;
    rb_mem_poison(buf->data, buf->cap);
}

void rb_buf_export(struct rb_buf *buf)
{
    struct rb_bufpool *pool = buf->pool;
    rb_assert(buf->ref_count == 1 && pool->used_count > 0);
    pool->used_count--;
    pool->used_bytes -= buf->cap;
    rb_budget_give(pool->budget, block_bytes(buf->cap));
    buf->pool = NULL;
}

void rb_buf_adopt(struct rb_bufpool *pool, struct rb_buf *buf)
{
    rb_assert(buf->pool == NULL && buf->ref_count == 1);
    if (pool->budget != NULL) {
        pool->budget->used_bytes += block_bytes(buf->cap); /* it is here, whatever the limit says */
    }
    pool->used_count++;
    pool->used_bytes += buf->cap;
    buf->pool = pool;
}

void rb_buf_free_exported(struct rb_buf *buf)
{
    rb_assert(buf->pool == NULL);
    free(buf);
}
