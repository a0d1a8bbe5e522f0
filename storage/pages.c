/* pages.c - blocks in frames in pages, and copy on write.
 *
 * 1. A frame is free (in the free list, or not used yet: fresh <= frame < fresh_end), the owner's (frame 0), or has a class.
 *    One with a class and room is in the list of its class; one without blocks in use goes back to the free list.
 * 2. A page whose frames are all free is given back to the heap, but for one page's worth of frames that is kept. Its number is
 *    used again first. A page that was given back reads as zeroes, which is a page of free frames that are in no list: loading
 *    makes holes of them again.
 * 3. A page changed since freeze n has a stamp above n. `now` is one more than the number of the last freeze.
 * 4. While frozen, a page below frozen_count with a stamp of `now` was copied aside, or the freeze is lost for want of memory:
 *    changes never fail for a freeze's sake.
 * 5. The first pages are allocations of their own, so a small store is small; further ones are cut from huge pages, which are given
 *    back when none of theirs is in use. Of a page that is not in use, free_frames is not 0 when its memory is not zero.
 */
#include "storage/pages.h"

#include <string.h>
#include <sys/mman.h>

#define MAGIC UINT64_C(0x3158444953424752) /* "RGBSIDX1" */
#define UNITS (RB_PAGES_FRAME_BYTES / 8)

_Static_assert(sizeof(struct rb_pages_frame) == 16, "the frame's header is part of the format");
_Static_assert(16 + sizeof(struct rb_pages_roots) <= RB_PAGES_META_OFFSET, "page 0 has room");

static const uint16_t class_bytes[RB_PAGES_CLASSES] = { 16,  24,  32,  40,   48,   64,   80,
                                                        96,  128, 160, 192,  248,  336,  408,
                                                        504, 680, 816, 1016, 1360, 2040, 4080 };
static const uint16_t class_blocks[RB_PAGES_CLASSES] = { 255, 170, 127, 102, 85, 63, 51,
                                                         42,  31,  25,  21,  16, 12, 10,
                                                         8,   6,   5,   4,   3,  2,  1 };
#define HUGE_BYTES ((size_t)RB_PAGES_HUGE * RB_PAGE_BYTES)

static const uint8_t zero_page[RB_PAGE_BYTES];

static uint32_t class_of(uint32_t bytes)
{
    rb_assert(bytes > 0 && bytes <= RB_PAGES_BLOCK_MAX);
    uint32_t class = 0;
    while (class_bytes[class] < bytes) {
        class ++;
    }
    return class;
}

uint32_t rb_pages_round(uint32_t bytes)
{
    return class_bytes[class_of(bytes)];
}

static const struct rb_pages_frame *frame_at(const struct rb_pages *pages, uint32_t frame)
{
    return rb_pages_at(pages, frame * UNITS);
}

static struct rb_pages_frame *frame_edit(struct rb_pages *pages, uint32_t frame)
{
    return rb_pages_edit(pages, frame * UNITS);
}

uint32_t rb_pages_room(const struct rb_pages *pages, uint32_t handle)
{
    return class_bytes[frame_at(pages, handle / UNITS)->class_plus - 1];
}

/* ---- pages ---- */

static enum rb_err grow_tables(struct rb_pages *pages, uint32_t cap)
{
    if (pages->use_cap < cap) {
        struct rb_page_use *use = rb_realloc(pages->budget, pages->use,
                                             pages->use_cap * sizeof(*use), cap * sizeof(*use));
        if (use == NULL) {
            return RB_ERR_MEMORY;
        }
        memset(use + pages->use_cap, 0, (cap - pages->use_cap) * sizeof(*use));
        pages->use = use;
        pages->use_cap = cap;
    }
    struct rb_page *page = rb_realloc(pages->budget, pages->page, pages->page_cap * sizeof(*page),
                                      cap * sizeof(*page));
    if (page == NULL) {
        return RB_ERR_MEMORY;
    }
    memset(page + pages->page_cap, 0, (cap - pages->page_cap) * sizeof(*page));
    pages->page = page;
    pages->page_cap = cap;
    return RB_OK;
}

/* Address space and memory of a huge page, aligned to its size; NULL: refused. */
static uint8_t *map_huge(struct rb_budget *budget)
{
    if (!rb_budget_take(budget, HUGE_BYTES)) {
        return NULL;
    }
    uint8_t *begin =
        mmap(NULL, 2 * HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) {
        rb_budget_give(budget, HUGE_BYTES);
        return NULL;
    }
    size_t before = HUGE_BYTES - (uintptr_t)begin % HUGE_BYTES;
    munmap(begin, before);
    if (before < HUGE_BYTES) {
        munmap(begin + before + HUGE_BYTES, HUGE_BYTES - before);
    }
    (void)madvise(begin + before, HUGE_BYTES, MADV_HUGEPAGE); /* small ones do as well */
    return begin + before;
}

/* Zeroed memory for a page (invariant 5). */
static bool create_page(struct rb_pages *pages, uint32_t page)
{
    if (page < RB_PAGES_HUGE) {
        pages->page[page].bytes = rb_alloc(pages->budget, RB_PAGE_BYTES);
        pages->bytes += pages->page[page].bytes == NULL ? 0 : RB_PAGE_BYTES;
        return pages->page[page].bytes != NULL;
    }
    struct rb_page_use *use = &pages->use[page - page % RB_PAGES_HUGE];
    if (use->huge == NULL) {
        use->huge = map_huge(pages->budget);
        if (use->huge == NULL) {
            return false;
        }
        pages->bytes += HUGE_BYTES;
    }
    use->huge_used++;
    pages->page[page].bytes = use->huge + (size_t)(page % RB_PAGES_HUGE) * RB_PAGE_BYTES;
    if (pages->use[page].free_frames != 0) { /* it was used before */
        memset(pages->page[page].bytes, 0, RB_PAGE_BYTES);
    }
    return true;
}

static void free_page(struct rb_pages *pages, uint32_t page)
{
    uint8_t *bytes = pages->page[page].bytes;
    pages->page[page].bytes = NULL;
    if (bytes == NULL) {
        return;
    }
    if (page < RB_PAGES_HUGE) {
        rb_free(pages->budget, bytes, RB_PAGE_BYTES);
        pages->bytes -= RB_PAGE_BYTES;
        return;
    }
    uint32_t first = page - page % RB_PAGES_HUGE;
    struct rb_page_use *use = &pages->use[first];
    pages->use[page].free_frames = RB_PAGES_FRAMES;
    use->huge_used--;
    if (use->huge_used == 0) {
        munmap(use->huge, HUGE_BYTES);
        rb_budget_give(pages->budget, HUGE_BYTES);
        pages->bytes -= HUGE_BYTES;
        use->huge = NULL;
        for (uint32_t i = 0; i < RB_PAGES_HUGE && first + i < pages->use_cap; i++) {
            pages->use[first + i].free_frames = 0;
        }
    }
}

/* Where the next page goes; page_count when there is no hole. */
static uint32_t find_hole(struct rb_pages *pages)
{
    if (pages->hole_count == 0) {
        return pages->page_count;
    }
    uint32_t page = pages->hole_hint;
    while (pages->page[page].bytes != NULL) {
        page++;
        rb_assert(page < pages->page_count);
    }
    pages->hole_hint = page;
    return page;
}

static void link_free(struct rb_pages *pages, uint32_t frame)
{
    struct rb_pages_roots *roots = &pages->roots;
    struct rb_pages_frame *f = frame_edit(pages, frame);
    *f = (struct rb_pages_frame){ .next = roots->free_frames };
    if (roots->free_frames != 0) {
        frame_edit(pages, roots->free_frames)->prev = frame;
    }
    roots->free_frames = frame;
    roots->free_count++;
    pages->use[frame / RB_PAGES_FRAMES].free_frames++;
}

static void unlink_free(struct rb_pages *pages, uint32_t frame)
{
    struct rb_pages_roots *roots = &pages->roots;
    struct rb_pages_frame f = *frame_at(pages, frame);
    if (f.prev != 0) {
        frame_edit(pages, f.prev)->next = f.next;
    } else {
        roots->free_frames = f.next;
    }
    if (f.next != 0) {
        frame_edit(pages, f.next)->prev = f.prev;
    }
    roots->free_count--;
    pages->use[frame / RB_PAGES_FRAMES].free_frames--;
}

/* Invariant 4. */
static void keep_aside(struct rb_pages *pages, uint32_t page)
{
    uint8_t *copy = pages->frozen_lost ? NULL : rb_alloc(pages->budget, RB_PAGE_BYTES);
    if (copy == NULL) {
        pages->frozen_lost = true;
        return;
    }
    memcpy(copy, pages->page[page].bytes, RB_PAGE_BYTES);
    pages->aside[page] = copy;
    pages->aside_stamp[page] = pages->page[page].stamp;
    pages->bytes += RB_PAGE_BYTES;
}

static enum rb_err add_page(struct rb_pages *pages)
{
    uint32_t page = find_hole(pages);
    if (page == RB_PAGES_MAX) {
        return RB_ERR_MEMORY;
    }
    if (page == pages->page_cap) {
        enum rb_err err = grow_tables(pages, page < 4 ? 4 : page * 2);
        if (err != RB_OK) {
            return err;
        }
    }
    bool was_hole = page < pages->page_count;
    if (!create_page(pages, page)) {
        return RB_ERR_MEMORY;
    }
    struct rb_pages_roots *roots = &pages->roots;
    for (; roots->fresh < roots->fresh_end; roots->fresh++) {
        link_free(pages, roots->fresh);
    }
    if (pages->frozen && page < pages->frozen_count && pages->aside[page] == NULL) {
        keep_aside(pages, page); /* it was a hole when it was frozen, and is as empty now */
    }
    pages->page[page].stamp = pages->now;
    pages->use[page].free_frames = 0;
    if (was_hole) {
        pages->hole_count--;
    } else {
        pages->page_count++;
    }
    roots->fresh = page * RB_PAGES_FRAMES;
    roots->fresh_end = roots->fresh + RB_PAGES_FRAMES;
    return RB_OK;
}

/* Invariant 2. */
static void give_back_page(struct rb_pages *pages, uint32_t page)
{
    for (uint32_t i = 0; i < RB_PAGES_FRAMES; i++) {
        unlink_free(pages, page * RB_PAGES_FRAMES + i);
    }
    /* Giving back its last block has touched it: it has the stamp, and when it is frozen its copy is aside. */
    free_page(pages, page);
    pages->hole_hint = pages->hole_count == 0 || page < pages->hole_hint ? page : pages->hole_hint;
    pages->hole_count++;
}

enum rb_err rb_pages_init(struct rb_pages *pages, struct rb_budget *budget)
{
    *pages = (struct rb_pages){ .budget = budget, .now = 1 };
    enum rb_err err = add_page(pages);
    if (err != RB_OK) {
        rb_pages_deinit(pages);
        return err;
    }
    pages->roots.fresh = 1;
    frame_edit(pages, 0)->class_plus = RB_PAGES_FRAME_META;
    return RB_OK;
}

void rb_pages_deinit(struct rb_pages *pages)
{
    rb_pages_thaw(pages);
    for (uint32_t i = 0; i < pages->page_count; i++) {
        free_page(pages, i);
    }
    rb_free(pages->budget, pages->page, pages->page_cap * sizeof(*pages->page));
    rb_free(pages->budget, pages->use, pages->use_cap * sizeof(*pages->use));
    *pages = (struct rb_pages){ 0 };
}

uint64_t rb_pages_bytes(const struct rb_pages *pages)
{
    uint64_t of_aside = sizeof(*pages->aside) + sizeof(*pages->aside_stamp);
    return pages->bytes + pages->page_cap * sizeof(*pages->page) +
           pages->use_cap * sizeof(*pages->use) + pages->frozen_count * of_aside;
}

/* ---- blocks ---- */

enum rb_err rb_pages_reserve(struct rb_pages *pages, uint32_t frames)
{
    while (!rb_pages_has(pages, frames)) {
        enum rb_err err = add_page(pages);
        if (err != RB_OK) {
            return err;
        }
    }
    return RB_OK;
}

static void link_partial(struct rb_pages *pages, uint32_t class, uint32_t frame)
{
    struct rb_pages_frame *f = frame_edit(pages, frame);
    f->next = pages->roots.partial[class];
    f->prev = 0;
    f->linked = 1;
    if (f->next != 0) {
        frame_edit(pages, f->next)->prev = frame;
    }
    pages->roots.partial[class] = frame;
}

static void unlink_partial(struct rb_pages *pages, uint32_t class, struct rb_pages_frame *f)
{
    if (f->prev != 0) {
        frame_edit(pages, f->prev)->next = f->next;
    } else {
        pages->roots.partial[class] = f->next;
    }
    if (f->next != 0) {
        frame_edit(pages, f->next)->prev = f->prev;
    }
    f->next = f->prev = 0;
    f->linked = 0;
}

static uint32_t take_frame(struct rb_pages *pages, uint32_t class)
{
    struct rb_pages_roots *roots = &pages->roots;
    uint32_t frame = roots->free_frames;
    if (frame != 0) {
        unlink_free(pages, frame);
    } else {
        rb_assert(roots->fresh < roots->fresh_end); /* it was reserved */
        frame = roots->fresh++;
    }
    struct rb_pages_frame *f = frame_edit(pages, frame);
    *f = (struct rb_pages_frame){ .class_plus = (uint8_t)(class + 1) };
    link_partial(pages, class, frame);
    return frame;
}

uint32_t rb_pages_take(struct rb_pages *pages, uint32_t bytes)
{
    uint32_t class = class_of(bytes);
    uint32_t frame = pages->roots.partial[class];
    if (frame == 0) {
        frame = take_frame(pages, class);
    }
    struct rb_pages_frame *f = frame_edit(pages, frame);
    uint32_t unit;
    if (f->free != 0) {
        unit = f->free;
        f->free = *((uint16_t *)f + (size_t)unit * 4);
    } else {
        f->carved++;
        unit = UNITS - (uint32_t)f->carved * (class_bytes[class] / 8);
    }
    f->live++;
    if (f->live == class_blocks[class]) {
        unlink_partial(pages, class, f);
    }
    memset((uint8_t *)f + (size_t)unit * 8, 0, class_bytes[class]);
    return frame * UNITS + unit;
}

void rb_pages_give(struct rb_pages *pages, uint32_t handle)
{
    uint32_t frame = handle / UNITS;
    uint32_t unit = handle % UNITS;
    struct rb_pages_frame *f = frame_edit(pages, frame);
    rb_assert(f->class_plus != 0 && f->class_plus <= RB_PAGES_CLASSES && f->live > 0);
    uint32_t class = f->class_plus - 1u;
    *((uint16_t *)f + (size_t)unit * 4) = f->free;
    f->free = (uint16_t)unit;
    f->live--;
    if (!f->linked) {
        link_partial(pages, class, frame);
    }
    if (f->live > 0) {
        return;
    }
    unlink_partial(pages, class, f);
    link_free(pages, frame);
    uint32_t page = frame / RB_PAGES_FRAMES;
    if (pages->use[page].free_frames == RB_PAGES_FRAMES &&
        pages->roots.free_count >= 2 * RB_PAGES_FRAMES) {
        give_back_page(pages, page);
    }
}

/* ---- freezing ---- */

void rb_pages_touch(struct rb_pages *pages, uint32_t page)
{
    if (pages->frozen && page < pages->frozen_count && pages->aside[page] == NULL) {
        keep_aside(pages, page);
    }
    pages->page[page].stamp = pages->now;
}

enum rb_err rb_pages_freeze(struct rb_pages *pages)
{
    if (pages->frozen) {
        return RB_ERR_BUSY;
    }
    while (pages->page[pages->page_count - 1].bytes == NULL) {
        pages->page_count--;
        pages->hole_count--;
    }
    uint32_t count = pages->page_count;
    uint8_t **aside = rb_alloc(pages->budget, count * sizeof(*aside));
    uint64_t *stamp = rb_alloc(pages->budget, count * sizeof(*stamp));
    if (aside == NULL || stamp == NULL) {
        rb_free(pages->budget, aside, count * sizeof(*aside));
        rb_free(pages->budget, stamp, count * sizeof(*stamp));
        return RB_ERR_MEMORY;
    }
    pages->roots.magic = MAGIC;
    pages->roots.number = pages->now;
    pages->roots.page_count = count;
    memcpy((uint8_t *)rb_pages_edit(pages, 0) + sizeof(struct rb_pages_frame), &pages->roots,
           sizeof(pages->roots));
    pages->aside = aside;
    pages->aside_stamp = stamp;
    pages->frozen_count = count;
    pages->frozen = true;
    pages->frozen_lost = false;
    pages->now++;
    return RB_OK;
}

void rb_pages_thaw(struct rb_pages *pages)
{
    if (!pages->frozen) {
        return;
    }
    for (uint32_t i = 0; i < pages->frozen_count; i++) {
        if (pages->aside[i] != NULL) {
            rb_free(pages->budget, pages->aside[i], RB_PAGE_BYTES);
            pages->bytes -= RB_PAGE_BYTES;
        }
    }
    rb_free(pages->budget, pages->aside, pages->frozen_count * sizeof(*pages->aside));
    rb_free(pages->budget, pages->aside_stamp, pages->frozen_count * sizeof(*pages->aside_stamp));
    pages->aside = NULL;
    pages->aside_stamp = NULL;
    pages->frozen_count = 0;
    pages->frozen = pages->frozen_lost = false;
}

bool rb_pages_frozen_changed(const struct rb_pages *pages, uint32_t page, uint64_t since)
{
    rb_assert(pages->frozen && page < pages->frozen_count);
    if (pages->aside[page] != NULL) {
        return pages->aside_stamp[page] > since;
    }
    return pages->page[page].stamp > since;
}

const uint8_t *rb_pages_frozen_page(const struct rb_pages *pages, uint32_t page)
{
    rb_assert(pages->frozen && page < pages->frozen_count);
    if (pages->aside[page] != NULL) {
        return pages->aside[page];
    }
    if (pages->page[page].stamp == pages->now) {
        return NULL; /* lost */
    }
    return pages->page[page].bytes == NULL ? zero_page : pages->page[page].bytes;
}

/* ---- loading ---- */

enum rb_err rb_pages_load_begin(struct rb_pages *pages, struct rb_budget *budget,
                                uint32_t page_count)
{
    *pages = (struct rb_pages){ .budget = budget, .now = 1 };
    if (page_count == 0 || page_count > RB_PAGES_MAX) {
        return RB_ERR_CORRUPT;
    }
    enum rb_err err = grow_tables(pages, page_count < 4 ? 4 : page_count);
    while (err == RB_OK && pages->page_count < page_count) {
        if (!create_page(pages, pages->page_count)) {
            err = RB_ERR_MEMORY;
            break;
        }
        pages->page_count++;
    }
    if (err != RB_OK) {
        rb_pages_deinit(pages);
    }
    return err;
}

enum rb_err rb_pages_load_roots(struct rb_pages *pages)
{
    struct rb_pages_roots *roots = &pages->roots;
    memcpy(roots, pages->page[0].bytes + sizeof(struct rb_pages_frame), sizeof(*roots));
    uint32_t frames = pages->page_count * RB_PAGES_FRAMES;
    if (roots->magic != MAGIC || roots->page_count != pages->page_count || roots->number == 0 ||
        roots->number >= UINT64_MAX / 2 || roots->fresh > roots->fresh_end ||
        roots->fresh_end > frames || roots->fresh_end - roots->fresh > RB_PAGES_FRAMES) {
        return RB_ERR_CORRUPT;
    }
    for (uint32_t i = 0; i < frames; i++) {
        const struct rb_pages_frame *f = frame_at(pages, i);
        if (i == 0 ? f->class_plus != RB_PAGES_FRAME_META : f->class_plus > RB_PAGES_CLASSES) {
            return RB_ERR_CORRUPT;
        }
        if (i > 0 && f->class_plus > 0) {
            uint32_t blocks = class_blocks[f->class_plus - 1];
            bool fresh = i >= roots->fresh && i < roots->fresh_end;
            if (f->carved > blocks || f->live > f->carved || f->live == 0 || fresh ||
                f->linked != (f->live < blocks)) {
                return RB_ERR_CORRUPT;
            }
        }
    }
    for (uint32_t i = 0; i < pages->page_count; i++) {
        pages->page[i].stamp = roots->number;
    }
    pages->now = roots->number + 1;
    return RB_OK;
}

bool rb_pages_valid(const struct rb_pages *pages, uint32_t handle)
{
    uint32_t page = handle >> 13;
    if (page >= pages->page_count || pages->page[page].bytes == NULL) {
        return false;
    }
    const struct rb_pages_frame *f = frame_at(pages, handle / UNITS);
    if (f->class_plus == 0 || f->class_plus > RB_PAGES_CLASSES) {
        return false;
    }
    uint32_t units = class_bytes[f->class_plus - 1] / 8u;
    uint32_t from_end = UNITS - handle % UNITS;
    return from_end % units == 0 && from_end / units <= f->carved;
}

static bool bit_is_set(const uint64_t *bits, uint32_t at)
{
    return bits[at / 64] >> (at % 64) & 1;
}

/* The free blocks of one frame: as many as were given back, none of them in use. */
static bool check_frame(const struct rb_pages *pages, uint32_t frame, const uint64_t *live)
{
    const struct rb_pages_frame *f = frame_at(pages, frame);
    uint32_t live_count = 0;
    for (uint32_t i = 0; i < UNITS / 64; i++) {
        live_count += (uint32_t)__builtin_popcountll(live[frame * (UNITS / 64) + i]);
    }
    if (live_count != f->live) {
        return false;
    }
    uint32_t unit = f->free;
    for (uint32_t i = f->live; i < f->carved; i++) {
        if (unit == 0 || unit >= UNITS || !rb_pages_valid(pages, frame * UNITS + unit) ||
            bit_is_set(live, frame * UNITS + unit)) {
            return false;
        }
        unit = *((const uint16_t *)f + (size_t)unit * 4);
    }
    return unit == 0; /* a list that ends has no block twice */
}

/* The length of a list of frames of one class (0: free ones), UINT32_MAX when it is broken. */
static uint32_t check_list(struct rb_pages *pages, uint32_t first, uint32_t class_plus)
{
    uint32_t count = 0;
    uint32_t prev = 0;
    for (uint32_t frame = first; frame != 0; count++) {
        if (frame / RB_PAGES_FRAMES >= pages->page_count) {
            return UINT32_MAX;
        }
        const struct rb_pages_frame *f = frame_at(pages, frame);
        bool fresh = frame >= pages->roots.fresh && frame < pages->roots.fresh_end;
        if (f->class_plus != class_plus || f->prev != prev || fresh ||
            f->linked != (class_plus != 0)) {
            return UINT32_MAX; /* and since each knows the one before it, no frame comes twice */
        }
        if (class_plus == 0) {
            pages->use[frame / RB_PAGES_FRAMES].free_frames++;
        }
        prev = frame;
        frame = f->next;
    }
    return count;
}

/* Invariant 2: pages of frames in no list are holes. */
static bool find_holes(struct rb_pages *pages)
{
    for (uint32_t page = 0; page < pages->page_count; page++) {
        uint32_t unlisted = 0;
        for (uint32_t i = 0; i < RB_PAGES_FRAMES; i++) {
            uint32_t frame = page * RB_PAGES_FRAMES + i;
            bool fresh = frame >= pages->roots.fresh && frame < pages->roots.fresh_end;
            unlisted += frame_at(pages, frame)->class_plus == 0 && !fresh;
        }
        unlisted -= pages->use[page].free_frames;
        if (unlisted == RB_PAGES_FRAMES) {
            free_page(pages, page);
            pages->hole_hint = pages->hole_count == 0 ? page : pages->hole_hint;
            pages->hole_count++;
        } else if (unlisted > 0) {
            return false;
        }
    }
    return true;
}

enum rb_err rb_pages_load_end(struct rb_pages *pages, const uint64_t *live, uint64_t live_count)
{
    uint64_t in_use = 0;
    uint32_t with_room = 0;
    for (uint32_t frame = 1; frame < pages->page_count * RB_PAGES_FRAMES; frame++) {
        const struct rb_pages_frame *f = frame_at(pages, frame);
        if (f->class_plus != 0) {
            if (!check_frame(pages, frame, live)) {
                return RB_ERR_CORRUPT;
            }
            in_use += f->live;
            with_room += f->linked;
        }
    }
    uint32_t listed = 0;
    for (uint32_t class = 0; class < RB_PAGES_CLASSES; class ++) {
        uint32_t count = check_list(pages, pages->roots.partial[class], class + 1);
        if (count == UINT32_MAX) {
            return RB_ERR_CORRUPT;
        }
        listed += count;
    }
    uint32_t free_count = check_list(pages, pages->roots.free_frames, 0);
    if (in_use != live_count || listed != with_room || free_count != pages->roots.free_count ||
        !find_holes(pages)) {
        return RB_ERR_CORRUPT;
    }
    return RB_OK;
}
