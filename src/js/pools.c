/* pools.c - see pools.h. A free block's first pointer links it to the next one. */
#include "js/pools.h"

#include "ringbus/check.h"

#define SMALLEST 64u

void rb_js_pools_init(struct rb_js_pools *pools, struct rb_budget *budget)
{
    *pools = (struct rb_js_pools){ .budget = budget };
}

void rb_js_pools_deinit(struct rb_js_pools *pools)
{
    rb_assert(pools->used_count == 0);
    for (uint32_t i = 0; i < RB_JS_POOL_CLASSES; i++) {
        while (pools->free[i] != NULL) {
            void *block = pools->free[i];
            rb_mem_unpoison(block, (size_t)SMALLEST << i);
            pools->free[i] = *(void **)block;
            rb_free(pools->budget, block, (size_t)SMALLEST << i);
        }
    }
}

/* RB_JS_POOL_CLASSES: too big for any. */
static uint32_t class_of(size_t bytes)
{
    uint32_t class = 0;
    while (class < RB_JS_POOL_CLASSES && (size_t)SMALLEST << class < bytes) {
        class ++;
    }
    return class;
}

void *rb_js_pools_take(struct rb_js_pools *pools, size_t bytes)
{
    uint32_t class = class_of(bytes);
    if (class < RB_JS_POOL_CLASSES && pools->free[class] != NULL) {
        void *block = pools->free[class];
        rb_mem_unpoison(block, (size_t)SMALLEST << class);
        pools->free[class] = *(void **)block;
        pools->free_count[class]--;
        pools->used_count++;
        return block;
    }
    size_t real = class < RB_JS_POOL_CLASSES ? (size_t)SMALLEST << class : bytes;
    void *block = rb_alloc(pools->budget, real);
    if (block != NULL) {
        pools->used_count++;
        pools->allocations++;
    }
    return block;
}

void rb_js_pools_give(struct rb_js_pools *pools, void *block, size_t bytes)
{
    uint32_t class = class_of(bytes);
    rb_assert(pools->used_count > 0);
    pools->used_count--;
    size_t real = class < RB_JS_POOL_CLASSES ? (size_t)SMALLEST << class : bytes;
    if (class == RB_JS_POOL_CLASSES || pools->free_count[class] >= RB_JS_POOL_KEEP / real) {
        rb_free(pools->budget, block, real);
        return;
    }
    *(void **)block = pools->free[class];
    pools->free[class] = block;
    pools->free_count[class]++;
    rb_mem_poison(block, real);
}
