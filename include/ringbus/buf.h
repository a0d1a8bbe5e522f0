/* buf.h - counted blocks of bytes from a shard's own pool. Counts are plain: one owner thread. */
#pragma once

#include <stdint.h>

#include "ringbus/check.h"
#include "ringbus/mem.h"
#include "ringbus/slice.h"

struct rb_bufpool;

/** A counted block. `len` is the owner's to use; `cap` bytes follow in `data`. */
struct rb_buf {
    struct rb_bufpool *pool;
    struct rb_buf *next; /* free list, or the owner's chain */
    uint32_t ref_count;
    uint32_t len, cap;
    uint32_t class_index; /* RB_BUF_CLASSES: not pooled */
    uint8_t data[];
};

#define RB_BUF_CLASSES 4 /* 1 KiB, 4 KiB, 32 KiB, 128 KiB; larger ones come from the allocator */

struct rb_bufpool {
    struct rb_budget *budget;
    struct rb_buf *free[RB_BUF_CLASSES];
    uint32_t free_count[RB_BUF_CLASSES];
    uint32_t free_count_max[RB_BUF_CLASSES]; /* above it a released block goes to the allocator */
    uint64_t used_count;                     /* blocks held by anybody */
    uint64_t used_bytes;                     /* their `cap`s */
};

void rb_bufpool_init(struct rb_bufpool *pool, struct rb_budget *budget);
/** Frees the cached blocks; asserts that none is held. */
void rb_bufpool_deinit(struct rb_bufpool *pool);
/** Frees cached blocks beyond `keep_bytes` in all; called when a shard goes idle. */
void rb_bufpool_trim(struct rb_bufpool *pool, uint64_t keep_bytes);

/** One count, len 0, cap >= `cap_min`. NULL when the budget is spent even without cached blocks. */
struct rb_buf *rb_buf_acquire(struct rb_bufpool *pool, uint32_t cap_min);
/** Takes a block whose last count has gone; for rb_buf_release only. */
void rb_buf_free(struct rb_buf *buf);

static inline void rb_buf_hold(struct rb_buf *buf)
{
    rb_assert_slow(buf->ref_count > 0);
    buf->ref_count++;
}

static inline void rb_buf_release(struct rb_buf *buf)
{
    rb_assert_slow(buf->ref_count > 0);
    if (--buf->ref_count == 0) {
        rb_buf_free(buf);
    }
}

/**
 * Takes a block out of its pool, to be handed to another thread; nobody else may hold it. It is then
 * adopted by that thread's pool, or freed with rb_buf_free_exported.
 */
void rb_buf_export(struct rb_buf *buf);
/** Makes an exported block one of `pool`'s, counted even beyond the budget: the memory is there. */
void rb_buf_adopt(struct rb_bufpool *pool, struct rb_buf *buf);
void rb_buf_free_exported(struct rb_buf *buf);
