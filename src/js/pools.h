/* pools.h - blocks of memory for commands that wait, answers that wait, message ids: by size class, kept for the next one, so that
 * nothing is allocated per message once the traffic has found its size. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ringbus/mem.h"

#define RB_JS_POOL_CLASSES 11 /* 64 bytes to 64 KiB */
/** Free blocks of one class that are kept, in bytes. */
#define RB_JS_POOL_KEEP (2u << 20)

struct rb_js_pools {
    struct rb_budget *budget;
    void *free[RB_JS_POOL_CLASSES];
    uint32_t free_count[RB_JS_POOL_CLASSES];
    uint64_t used_count, allocations; /* blocks given out; calls of the allocator */
};

void rb_js_pools_init(struct rb_js_pools *pools, struct rb_budget *budget);
/** Every block was given back. */
void rb_js_pools_deinit(struct rb_js_pools *pools);
/** Not zeroed, 16-byte aligned; NULL: the budget is spent. */
void *rb_js_pools_take(struct rb_js_pools *pools, size_t bytes);
/** `bytes` as it was taken with. */
void rb_js_pools_give(struct rb_js_pools *pools, void *block, size_t bytes);
