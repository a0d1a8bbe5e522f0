/* store_pages.c - reads the pages of a checkpoint, many at a time, into an index.
 *
 * 1. A read that failed is tried again, eight times; a page that does not hold ends it.
 */
#include <string.h>

#include "storage/store_opening.h"

#define PIECE_PAGES (STORE_PIECE_BYTES / RB_PAGE_BYTES)

static size_t pad(size_t bytes)
{
    return (bytes + RB_DISK_ALIGN - 1) / RB_DISK_ALIGN * RB_DISK_ALIGN;
}

static uint32_t run_bytes(const struct store_opening *o, uint32_t first, uint32_t count)
{
    return (count - 1) * RB_PAGE_BYTES + (uint32_t)pad(o->pages[first + count - 1].len);
}

/* Reads what the piece is for, for the first time or again. False: not now. */
static bool read_piece(struct rb_msgstore *store, struct store_piece *piece)
{
    struct store_opening *o = store->opening;
    if (rb_disk_read(store->home->disk, &piece->op, o->views[o->chosen].file,
                     CHECKPOINT_PAGES_AT + (uint64_t)piece->first * RB_PAGE_BYTES, piece->bytes,
                     run_bytes(o, piece->first, piece->count)) != RB_OK) {
        return false;
    }
    store->op_count++;
    o->in_flight++;
    return true;
}

/* True: at the end, or it has to wait. */
static bool read_run(struct rb_msgstore *store, struct store_piece *piece)
{
    struct store_opening *o = store->opening;
    uint32_t left = o->views[o->chosen].header.page_count - o->page;
    uint32_t count = left < PIECE_PAGES ? left : PIECE_PAGES;
    if (piece->bytes == NULL) {
        piece->bytes = rb_store_take_aligned(store->home, STORE_PIECE_BYTES);
    }
    if (piece->bytes == NULL) {
        o->err = o->in_flight == 0 ? RB_ERR_MEMORY : o->err;
        return true;
    }
    if (run_bytes(o, o->page, count) == 0) { /* one page of nothing but zeroes */
        memset(rb_index_load_page(o->index, o->page), 0, RB_PAGE_BYTES);
        o->page++;
        return false;
    }
    piece->first = o->page;
    piece->count = count;
    piece->tries = 0;
    if (!read_piece(store, piece)) {
        return true;
    }
    o->page += count;
    return false;
}

void rb_store_open_piece(struct rb_msgstore *store, struct store_piece *piece)
{
    struct store_opening *o = store->opening;
    o->in_flight--;
    if (piece->op.err != RB_OK) {
        o->bad_pages = o->bad_pages || ++piece->tries >= STORE_OPEN_TRIES;
        return; /* rb_store_read_pages() tries again */
    }
    piece->tries = 0;
    for (uint32_t i = 0; i < piece->count && !o->bad_pages; i++) {
        const struct checkpoint_page *entry = &o->pages[piece->first + i];
        const uint8_t *from = piece->bytes + (size_t)i * RB_PAGE_BYTES;
        if ((uint64_t)i * RB_PAGE_BYTES + entry->len > piece->op.size ||
            rb_checkpoint_page_checksum(store->seed, piece->first + i,
                                        rb_slice_of(from, entry->len)) != entry->checksum) {
            o->bad_pages = true;
            return;
        }
        uint8_t *to = rb_index_load_page(o->index, piece->first + i);
        memcpy(to, from, entry->len);
        memset(to + entry->len, 0, RB_PAGE_BYTES - entry->len);
    }
}

bool rb_store_read_pages(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    const struct slot_view *view = &o->views[o->chosen];
    for (uint32_t i = 0; i < STORE_PIECES && !o->bad_pages; i++) {
        struct store_piece *piece = &o->pieces[i];
        while (!piece->op.in_flight && (piece->tries > 0 || o->page < view->header.page_count)) {
            if (piece->tries > 0 ? !read_piece(store, piece) : read_run(store, piece)) {
                return true;
            }
        }
    }
    return false;
}
