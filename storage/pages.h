/* pages.h - a growing region of pages, addressed by 32-bit handles, that hands out small blocks and can be frozen.
 *
 *   handle: page (19 bits) | 8-byte unit in the page (13); 0 is none
 *   page of 64 KiB: 16 frames of 4 KiB; a frame: header (16 bytes), blocks of one size class counted from its end
 *
 * Nothing inside the region is a pointer, so the pages as they are can be written out and read in again. What the allocator
 * itself knows (struct rb_pages_roots) is part of page 0 whenever the region is frozen.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/check.h"
#include "ringbus/mem.h"
#include "storage/index.h"

#define RB_PAGES_FRAME_BYTES 4096u
#define RB_PAGES_FRAMES (RB_PAGE_BYTES / RB_PAGES_FRAME_BYTES)
#define RB_PAGES_CLASSES 21u
#define RB_PAGES_MAX (1u << 19)
/** From this page on pages come in huge ones of so many, since at that size most time goes into missing translations. */
#define RB_PAGES_HUGE 32u
/** The largest block. */
#define RB_PAGES_BLOCK_MAX 4080u
/** The first frame of page 0 is the owner's, from here on. */
#define RB_PAGES_META_OFFSET 256u

/* First bytes of every frame. */
struct rb_pages_frame {
    uint8_t class_plus; /* 0: free; size class + 1; RB_PAGES_FRAME_META */
    uint8_t linked;     /* in the list of its class */
    uint16_t live;      /* blocks in use */
    uint16_t free;      /* first free block, in units from the frame's begin; 0: none */
    uint16_t carved;    /* blocks that were handed out at least once */
    uint32_t next, prev;
};
#define RB_PAGES_FRAME_META 255u

/* What the allocator knows beside the frames; at offset 16 of page 0 in a frozen region. */
struct rb_pages_roots {
    uint64_t magic;
    uint64_t number; /* of this freeze */
    uint32_t page_count;
    uint32_t free_frames, free_count; /* a list of frames, and its length */
    uint32_t fresh, fresh_end;        /* frames never used yet */
    uint32_t partial[RB_PAGES_CLASSES];
};

struct rb_page {
    uint8_t *bytes; /* NULL: given back */
    uint64_t stamp; /* `now` when it was changed last */
};

struct rb_page_use {
    uint8_t *huge;        /* at the first page of a huge one; NULL: it is not mapped */
    uint32_t huge_used;   /* pages of it in use */
    uint32_t free_frames; /* of this page, in the free list */
};

struct rb_pages {
    struct rb_budget *budget;
    struct rb_page *page;
    struct rb_page_use *use;
    uint32_t page_count, page_cap, use_cap;
    uint32_t hole_count, hole_hint; /* given back below page_count; none lies below the hint */
    uint64_t now;                   /* number the next freeze gets */
    uint64_t bytes;                 /* of pages, huge pages, and copies aside */
    struct rb_pages_roots roots;
    /* while frozen */
    uint8_t **aside;       /* copies of what changed since */
    uint64_t *aside_stamp; /* and their stamps then */
    uint32_t frozen_count;
    bool frozen, frozen_lost;
};

RB_MUST_CHECK enum rb_err rb_pages_init(struct rb_pages *pages, struct rb_budget *budget);
void rb_pages_deinit(struct rb_pages *pages);
/** All memory, tables included. */
uint64_t rb_pages_bytes(const struct rb_pages *pages);

/** To read. */
static inline const void *rb_pages_at(const struct rb_pages *pages, uint32_t handle)
{
    return pages->page[handle >> 13].bytes + (size_t)(handle & 8191) * 8;
}

/** A page is about to change for the first time since the last freeze. */
void rb_pages_touch(struct rb_pages *pages, uint32_t page);

/** To change: copies the page aside first when it is frozen. Never fails (RB_PAGES.frozen_lost). */
static inline void *rb_pages_edit(struct rb_pages *pages, uint32_t handle)
{
    struct rb_page *page = &pages->page[handle >> 13];
    if (__builtin_expect(page->stamp != pages->now, 0)) {
        rb_pages_touch(pages, handle >> 13);
    }
    return page->bytes + (size_t)(handle & 8191) * 8;
}

/** Makes sure that the next `frames` allocations succeed. */
RB_MUST_CHECK enum rb_err rb_pages_reserve(struct rb_pages *pages, uint32_t frames);

/** That many allocations would succeed without growing the region: for what is only an improvement. */
static inline bool rb_pages_has(const struct rb_pages *pages, uint32_t frames)
{
    return pages->roots.free_count + (pages->roots.fresh_end - pages->roots.fresh) >= frames;
}

/** A zeroed block of at least `bytes` (1 to RB_PAGES_BLOCK_MAX); room was reserved. */
uint32_t rb_pages_take(struct rb_pages *pages, uint32_t bytes);
void rb_pages_give(struct rb_pages *pages, uint32_t handle);
/** Bytes a block of `bytes` really has. */
uint32_t rb_pages_round(uint32_t bytes);
/** Bytes this block has. */
uint32_t rb_pages_room(const struct rb_pages *pages, uint32_t handle);

/** Freezes, with page 0 complete but for the owner's part, which he writes before. */
RB_MUST_CHECK enum rb_err rb_pages_freeze(struct rb_pages *pages);
void rb_pages_thaw(struct rb_pages *pages);
bool rb_pages_frozen_changed(const struct rb_pages *pages, uint32_t page, uint64_t since);
/** NULL: no memory was left for its copy. */
const uint8_t *rb_pages_frozen_page(const struct rb_pages *pages, uint32_t page);

/** `page_count` zeroed pages to be filled; then rb_pages_load_end. */
RB_MUST_CHECK enum rb_err rb_pages_load_begin(struct rb_pages *pages, struct rb_budget *budget,
                                              uint32_t page_count);
/**
 * Checks frames and free lists against `live`: one bit for every unit of the region at which a block in use begins, and
 * `live_count` bits are set. RB_ERR_CORRUPT.
 */
RB_MUST_CHECK enum rb_err rb_pages_load_end(struct rb_pages *pages, const uint64_t *live,
                                            uint64_t live_count);
/** Before anything else: takes over page 0, and every frame has a valid header. RB_ERR_CORRUPT. */
RB_MUST_CHECK enum rb_err rb_pages_load_roots(struct rb_pages *pages);
/** May a block begin here? (While loading: its frame has a class and it lies on the grid.) */
bool rb_pages_valid(const struct rb_pages *pages, uint32_t handle);
