/* store_open.c - finds a store again: the newest checkpoint that holds, its index, its segments.
 *
 *   directory -> list -> header and table of each slot -> pages of the newest -> (damage: the other; then a scan) -> names
 *
 * 1. A slot without a single good header, and with something where the second copy is, is damaged. Without a second copy its
 *    first checkpoint was never finished.
 * 2. The slot that is not the newest was perhaps being overwritten. Only when the newest is bad does it matter whether it holds.
 * 3. The header of the newest may only be in a cache when the process was killed before its second copy was written. It is made
 *    durable before the store opens: the other slot is overwritten next.
 * 4. Damaged slots get another name, durably, before anything is written. Files that no checkpoint knows are removed; when
 *    damage was found they are renamed instead.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/store_opening.h"

#define NAMES_BYTES (16u << 10)
#define NAMES_BYTES_MAX (64u << 20)
#define BLOCK_BYTES (2 * CHECKPOINT_COPY_BYTES)
#define TABLE_READ_BYTES (8u << 20)
#define PIECE_PAGES (STORE_PIECE_BYTES / RB_PAGE_BYTES)

static const char *const slot_names[2] = { "0.ckpt", "1.ckpt" };

static size_t pad(size_t bytes)
{
    return (bytes + RB_DISK_ALIGN - 1) / RB_DISK_ALIGN * RB_DISK_ALIGN;
}

void *rb_store_take_aligned(struct rb_msgstore_home *home, size_t bytes)
{
    void *ptr = NULL;
    if (!rb_budget_take(home->budget, bytes)) {
        return NULL;
    }
    if (posix_memalign(&ptr, RB_DISK_ALIGN, bytes) != 0) {
        rb_budget_give(home->budget, bytes);
        return NULL;
    }
    return memset(ptr, 0, bytes);
}

void rb_store_give_aligned(struct rb_msgstore_home *home, void *ptr, size_t bytes)
{
    if (ptr != NULL) {
        rb_budget_give(home->budget, bytes);
        free(ptr);
    }
}

enum rb_err rb_store_open_begin(struct rb_msgstore *store)
{
    struct rb_msgstore_home *home = store->home;
    struct store_opening *o = rb_alloc(home->budget, sizeof(*o));
    if (o == NULL) {
        return RB_ERR_MEMORY;
    }
    store->opening = o;
    o->chosen = -1;
    for (uint32_t i = 0; i < STORE_PIECES; i++) {
        o->pieces[i].store = store;
        rb_store_own(home, &o->pieces[i].op, STORE_OP_PIECE);
    }
    o->block = rb_store_take_aligned(home, BLOCK_BYTES);
    return o->block == NULL ? RB_ERR_MEMORY : RB_OK;
}

static void close_views(struct rb_msgstore *store)
{
    for (int i = 0; i < 2; i++) {
        struct slot_view *view = &store->opening->views[i];
        if (view->file != NULL) {
            rb_disk_close(store->home->disk, view->file);
            view->file = NULL;
        }
    }
    struct store_recovery *r = &store->opening->recovery;
    if (r->file != NULL) {
        rb_disk_close(store->home->disk, r->file);
        r->file = NULL;
    }
}

static void free_pieces(struct rb_msgstore *store)
{
    for (uint32_t i = 0; i < STORE_PIECES; i++) {
        struct store_piece *piece = &store->opening->pieces[i];
        rb_store_give_aligned(store->home, piece->bytes, STORE_PIECE_BYTES);
        piece->bytes = NULL;
    }
}

static void free_pages(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    if (o->pages != NULL) {
        rb_free(store->home->budget, o->pages,
                o->views[o->chosen].header.page_count * sizeof(*o->pages));
        o->pages = NULL;
    }
    if (o->index != NULL) {
        rb_index_destroy(o->index);
        o->index = NULL;
    }
}

void rb_store_opening_free(struct rb_msgstore *store)
{
    struct rb_msgstore_home *home = store->home;
    struct store_opening *o = store->opening;
    if (o == NULL) {
        return;
    }
    if (store->state == STORE_CLOSING &&
        !home->ending) { /* else they are closed already, or the disk lost its power */
        close_views(store);
    }
    free_pieces(store);
    free_pages(store);
    rb_store_recovery_free(store);
    for (int i = 0; i < 2; i++) {
        rb_store_give_aligned(home, o->views[i].table, o->views[i].table_cap);
    }
    rb_store_give_aligned(home, o->block, BLOCK_BYTES);
    rb_free(home->budget, o->names, o->names_cap);
    rb_free(home->budget, o->serials, o->serial_count * sizeof(*o->serials));
    rb_free(home->budget, o->used, o->serial_count);
    rb_free(home->budget, o, sizeof(*o));
    store->opening = NULL;
}

/* ---- names ---- */

/* "%016x.seg"; false: another name. */
static bool serial_of(const char *name, uint64_t *ret_serial)
{
    uint64_t serial = 0;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
        serial = serial << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *ret_serial = serial;
    return strcmp(name + 16, ".seg") == 0 && serial > 0;
}

static bool has_name(const struct store_opening *o, const char *name)
{
    for (uint32_t at = 0; at < o->names_bytes; at += (uint32_t)strlen(o->names + at) + 1) {
        if (strcmp(o->names + at, name) == 0) {
            return true;
        }
    }
    return false;
}

uint32_t rb_store_serial_place(const struct store_opening *o, uint64_t serial)
{
    uint32_t low = 0;
    uint32_t high = o->serial_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (o->serials[middle] < serial) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < o->serial_count && o->serials[low] == serial ? low : UINT32_MAX;
}

static enum rb_err read_names(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    uint64_t serial;
    uint32_t count = 0;
    for (uint32_t at = 0; at < o->names_bytes; at += (uint32_t)strlen(o->names + at) + 1) {
        count += serial_of(o->names + at, &serial);
    }
    if (count > 0) {
        o->serials = rb_alloc(store->home->budget, count * sizeof(*o->serials));
        o->used = rb_alloc(store->home->budget, count);
        if (o->serials == NULL || o->used == NULL) {
            rb_free(store->home->budget, o->serials, count * sizeof(*o->serials));
            rb_free(store->home->budget, o->used, count);
            o->serials = NULL;
            o->used = NULL;
            return RB_ERR_MEMORY;
        }
    }
    for (uint32_t at = 0; at < o->names_bytes; at += (uint32_t)strlen(o->names + at) + 1) {
        if (serial_of(o->names + at, &serial)) {
            o->serials[o->serial_count++] = serial; /* the names are sorted */
            store->next_serial = serial >= store->next_serial ? serial + 1 : store->next_serial;
        }
    }
    o->views[0].there = has_name(o, slot_names[0]);
    o->views[1].there = has_name(o, slot_names[1]);
    return RB_OK;
}

/* ---- headers and tables ---- */

static bool all_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static void spoil(struct slot_view *view, const char *why)
{
    view->valid = false;
    view->damaged = true;
    view->why = why;
}

/* Invariant 1. RB_ERR_UNSUPPORTED: hands off. */
static enum rb_err judge_header(struct store_opening *o, struct slot_view *view)
{
    struct checkpoint_header first, second;
    enum rb_err a = rb_checkpoint_decode(rb_slice_of(o->block, CHECKPOINT_COPY_BYTES), &first);
    enum rb_err b = rb_checkpoint_decode(
        rb_slice_of(o->block + CHECKPOINT_COPY_BYTES, CHECKPOINT_COPY_BYTES), &second);
    if (a == RB_ERR_UNSUPPORTED || b == RB_ERR_UNSUPPORTED) {
        return RB_ERR_UNSUPPORTED;
    }
    view->valid = a == RB_OK || b == RB_OK;
    if (a == RB_OK) {
        view->header = b == RB_OK && second.generation > first.generation ? second : first;
        view->unsynced = b != RB_OK || second.generation != first.generation;
    } else if (b == RB_OK) {
        view->header = second;
    } else if (!all_zero(o->block + CHECKPOINT_COPY_BYTES, CHECKPOINT_HEADER_BYTES)) {
        spoil(view, "no header holds");
    }
    return RB_OK;
}

static void judge_table(struct slot_view *view)
{
    struct rb_slice table = rb_slice_of(view->table, (size_t)view->header.table_bytes);
    if (rb_checkpoint_table_checksum(&view->header, table) != view->header.table_checksum) {
        spoil(view, "its table does not hold");
    }
}

static struct rb_reader segments_of(const struct slot_view *view)
{
    size_t skip = (size_t)view->header.page_count * CHECKPOINT_PAGE_ENTRY_BYTES;
    size_t len = (size_t)view->header.table_bytes - skip - view->header.blob_bytes;
    return rb_reader_over(rb_slice_of(view->table == NULL ? NULL : view->table + skip, len));
}

static enum rb_err add_segment(struct rb_msgstore *store, const struct checkpoint_segment *entry,
                               struct store_segment **ret_segment)
{
    struct store_segment *segment;
    enum rb_err err = rb_store_segment_create(store, entry->serial, entry->first_seq, &segment);
    if (err != RB_OK) {
        return err;
    }
    struct rb_reader lens = rb_reader_over(entry->blocks);
    for (uint32_t i = 0; i < entry->block_count && err == RB_OK; i++) {
        struct store_block *none;
        err = rb_store_block_begin(segment, 0, &none);
        segment->bytes += rb_read_u16(&lens) * RB_DISK_ALIGN;
    }
    if (err != RB_OK) {
        rb_store_segment_free(segment);
        return err;
    }
    segment->live_bytes = entry->live_bytes;
    segment->live_count = entry->live_count;
    segment->sealed = segment->created = true;
    segment->file_bytes = segment->bytes;
    store->home->disk_bytes += segment->file_bytes;
    uint32_t place = rb_store_serial_place(store->opening, entry->serial);
    segment->missing = place == UINT32_MAX;
    *ret_segment = segment;
    return RB_OK;
}

enum rb_err rb_store_read_segments(struct rb_msgstore *store, const struct slot_view *view)
{
    struct store_opening *o = store->opening;
    struct rb_reader reader = segments_of(view);
    struct checkpoint_segment before = { 0 };
    for (uint32_t i = 0; i < view->header.segment_count; i++) {
        struct checkpoint_segment entry;
        struct store_segment *segment;
        enum rb_err err = rb_checkpoint_read_segment(&reader, &before, &entry);
        if (err == RB_OK) {
            err = add_segment(store, &entry, &segment);
        }
        if (err == RB_OK) {
            err = rb_store_segment_insert(store, store->segment_count, segment);
            if (err != RB_OK) {
                rb_store_segment_free(segment);
            }
        }
        if (err != RB_OK) {
            return err;
        }
        uint32_t place = rb_store_serial_place(o, entry.serial);
        if (place != UINT32_MAX && o->used[place]++ > 0) {
            return RB_ERR_CORRUPT; /* one file for two segments */
        }
        segment->referred = view->header.generation;
        store->live_bytes += segment->live_bytes;
        before = entry;
    }
    return RB_OK;
}

static void drop_segments(struct rb_msgstore *store)
{
    while (store->segment_count > 0) {
        rb_store_segment_free(store->segments[--store->segment_count]);
    }
    store->live_bytes = 0;
    if (store->opening->serial_count > 0) {
        memset(store->opening->used, 0, store->opening->serial_count);
    }
}

/* What the other checkpoint refers to is kept until it is no checkpoint any more. */
static enum rb_err keep_others(struct rb_msgstore *store, const struct slot_view *view)
{
    struct store_opening *o = store->opening;
    struct rb_reader reader = segments_of(view);
    struct checkpoint_segment before = { 0 };
    for (uint32_t i = 0; i < view->header.segment_count; i++) {
        struct checkpoint_segment entry;
        struct store_segment *segment;
        if (rb_checkpoint_read_segment(&reader, &before, &entry) != RB_OK) {
            return RB_OK; /* then it could not be used either */
        }
        before = entry;
        uint32_t place = rb_store_serial_place(o, entry.serial);
        if (place == UINT32_MAX || o->used[place] > 0) {
            continue;
        }
        enum rb_err err = add_segment(store, &entry, &segment);
        if (err != RB_OK) {
            return err;
        }
        o->used[place] = 1;
        segment->referred = view->header.generation;
        segment->dead = true;
        segment->live_bytes = segment->live_count = 0;
        rb_list_append(&store->dead, &segment->dead_link);
    }
    return RB_OK;
}

/* ---- choosing ---- */

static void name_damage(struct rb_msgstore *store, int slot)
{
    store->opening->doubt = true;
    rb_store_damage(store, slot_names[slot], "checkpoint: %s", store->opening->views[slot].why);
}

/* The newest slot that may hold; -1: none. */
static int newest_valid(const struct store_opening *o)
{
    bool a = o->views[0].valid;
    bool b = o->views[1].valid;
    if (a && b) {
        return o->views[0].header.generation > o->views[1].header.generation ? 0 : 1;
    }
    return a ? 0 : b ? 1 : -1;
}

/* The newest checkpoint whose segments can be made out though its pages are bad; -1: none. */
static int newest_table(const struct store_opening *o)
{
    int best = -1;
    for (int i = 0; i < 2; i++) {
        const struct slot_view *view = &o->views[i];
        if (view->damaged && view->table != NULL &&
            rb_checkpoint_table_checksum(
                &view->header, rb_slice_of(view->table, (size_t)view->header.table_bytes)) ==
                view->header.table_checksum &&
            (best < 0 || view->header.generation > o->views[best].header.generation)) {
            best = i;
        }
    }
    return best;
}

static enum rb_err choose(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    o->chosen = newest_valid(o);
    if (o->chosen < 0) {
        if (o->serial_count > 0) {
            o->step = OPEN_RECOVER;
            rb_store_recover_begin(store, newest_table(o));
        } else {
            store->seed = rb_env_random(store->home->env);
            o->step = OPEN_ASIDE;
        }
        return RB_OK;
    }
    const struct slot_view *view = &o->views[o->chosen];
    enum rb_err err = rb_store_read_segments(store, view);
    if (err == RB_ERR_CORRUPT) {
        drop_segments(store);
        spoil(&o->views[o->chosen], "its table makes no sense");
        name_damage(store, o->chosen);
        return RB_OK; /* the step stays: choose again */
    }
    if (err != RB_OK) {
        return err;
    }
    o->page = 0;
    o->bad_pages = false;
    for (uint32_t i = 0; i < STORE_PIECES; i++) {
        o->pieces[i].tries = 0;
    }
    o->step = OPEN_PAGES;
    uint32_t count = view->header.page_count;
    if (count == 0) {
        return RB_OK;
    }
    o->pages = rb_alloc(store->home->budget, count * sizeof(*o->pages));
    if (o->pages == NULL) {
        return RB_ERR_MEMORY;
    }
    struct rb_reader reader =
        rb_reader_over(rb_slice_of(view->table, (size_t)count * CHECKPOINT_PAGE_ENTRY_BYTES));
    for (uint32_t i = 0; i < count; i++) {
        o->bad_pages = o->bad_pages || rb_checkpoint_read_page(&reader, &o->pages[i]) != RB_OK;
    }
    return rb_index_load_begin(store->home->budget, count, &o->index);
}

/* ---- pages ---- */

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
        return; /* load_pages() tries again */
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

/* The freeze that the pages on disk are from, so that only what changes from now on is written to this slot. */
static enum rb_err number_pages(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    struct store_slot *slot = &store->slots[o->chosen];
    enum rb_err err = rb_index_freeze(store->index);
    if (err != RB_OK) {
        return err;
    }
    slot->freeze = rb_index_freeze_number(store->index);
    rb_index_thaw(store->index);
    slot->pages = o->pages;
    slot->page_count = slot->page_cap = o->views[o->chosen].header.page_count;
    o->pages = NULL;
    return RB_OK;
}

enum rb_err rb_store_take_blob(struct rb_msgstore *store, const struct slot_view *view)
{
    uint32_t bytes = view->header.blob_bytes;
    store->restored_index = store->last_index = view->header.index;
    store->before_index = view->header.before_index;
    if (bytes == 0) {
        return RB_OK;
    }
    store->blob = rb_alloc(store->home->budget, bytes);
    if (store->blob == NULL) {
        return RB_ERR_MEMORY;
    }
    store->blob_bytes = bytes;
    memcpy(store->blob, view->table + view->header.table_bytes - bytes, bytes);
    return RB_OK;
}

/* The chosen checkpoint holds. */
static enum rb_err accept(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    struct slot_view *view = &o->views[o->chosen];
    struct slot_view *other = &o->views[1 - o->chosen];
    if (o->index != NULL) {
        rb_index_destroy(store->index);
        store->index = o->index;
        o->index = NULL;
    } else {
        rb_index_skip(store->index, view->header.last_seq);
    }
    struct rb_msgstore_state state;
    rb_index_state(store->index, &state);
    store->last_seq = state.last_seq;
    store->newest = o->chosen;
    store->founded = true;
    store->generation = view->header.generation;
    store->slots[o->chosen].generation = view->header.generation;
    store->slots[o->chosen].index = view->header.index;
    for (int i = 0; i < 2; i++) {
        store->slots[i].file_bytes = o->views[i].damaged ? 0 : o->views[i].size;
        store->home->disk_bytes += store->slots[i].file_bytes;
    }
    enum rb_err err = number_pages(store);
    err = err == RB_OK ? rb_store_take_blob(store, view) : err;
    if (err == RB_OK && other->valid) {
        store->slots[1 - o->chosen].generation = other->header.generation;
        store->slots[1 - o->chosen].index = other->header.index;
        err = keep_others(store, other);
    }
    o->step = OPEN_SYNC;
    return err;
}

static enum rb_err load_pages(struct rb_msgstore *store, bool *ret_wait)
{
    struct store_opening *o = store->opening;
    struct slot_view *view = &o->views[o->chosen];
    for (uint32_t i = 0; i < STORE_PIECES && !o->bad_pages; i++) {
        struct store_piece *piece = &o->pieces[i];
        while (!piece->op.in_flight && (piece->tries > 0 || o->page < view->header.page_count)) {
            if (piece->tries > 0 ? !read_piece(store, piece) : read_run(store, piece)) {
                *ret_wait = true;
                return o->err;
            }
        }
    }
    *ret_wait = o->in_flight > 0;
    if (o->in_flight > 0) {
        return RB_OK;
    }
    enum rb_err err = RB_OK;
    if (!o->bad_pages && o->index != NULL) {
        err = rb_index_load_end(o->index);
    }
    if (!o->bad_pages && err == RB_OK) {
        free_pieces(store);
        return accept(store);
    }
    if (err != RB_OK && err != RB_ERR_CORRUPT) {
        return err;
    }
    free_pages(store);
    drop_segments(store);
    spoil(view, o->bad_pages ? "a page of its index does not hold" : "its index makes no sense");
    name_damage(store, o->chosen);
    o->step = OPEN_CHOOSE;
    return RB_OK;
}

/* ---- files that nobody knows ---- */

static enum rb_err discard(struct rb_msgstore *store, uint64_t serial)
{
    struct store_segment *segment;
    enum rb_err err = rb_store_segment_create(store, serial, 1, &segment);
    if (err == RB_OK) {
        segment->dead = segment->created = segment->sealed = true;
        rb_list_append(&store->dead, &segment->dead_link);
    }
    return err;
}

/* Names to change, one after the other. RB_ERR_MISSING: none is left. */
static enum rb_err next_aside(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    char file[STORE_FILE_BYTES], to[2 * STORE_FILE_BYTES];
    for (; o->aside < 2 + o->serial_count; o->aside++) {
        if (o->aside < 2) {
            if (!o->views[o->aside].damaged || !o->views[o->aside].there) {
                continue;
            }
            snprintf(file, sizeof(file), "%s", slot_names[o->aside]);
        } else {
            uint32_t at = o->aside - 2;
            if (o->used[at] > 0) {
                continue;
            }
            if (!o->doubt) {
                enum rb_err err = discard(store, o->serials[at]);
                if (err != RB_OK) {
                    return err;
                }
                continue;
            }
            rb_store_serial_name(file, o->serials[at]);
        }
        uint32_t number = 0;
        do {
            snprintf(to, sizeof(to), "%s.%s%u", file, o->aside < 2 ? "damaged" : "aside", ++number);
        } while (has_name(o, to));
        rb_store_file_name(store, store->name, file);
        rb_store_file_name(store, store->name_to, to);
        return rb_disk_rename(store->home->disk, &store->op, store->name, store->name_to);
    }
    return RB_ERR_MISSING;
}

/* The last file takes more messages when it ends where the checkpoint says. True: it has to wait. */
static bool look_at_last(struct rb_msgstore *store)
{
    struct store_segment *last =
        store->segment_count == 0 ? NULL : store->segments[store->segment_count - 1];
    if (last == NULL || last->missing ||
        last->bytes >= store->home->options.segment_bytes / 8 * 7) {
        return false;
    }
    if (last->file == NULL) {
        (void)rb_store_file(last);
        return !last->missing;
    }
    if (last->op.size == last->bytes) {
        last->fresh = true;
        last->sealed = false;
        store->open = last;
    }
    return false;
}

static void name_missing(struct rb_msgstore *store)
{
    for (uint32_t i = 0; i < store->segment_count; i++) {
        struct store_segment *segment = store->segments[i];
        if (segment->missing) {
            rb_store_damage(store, NULL, "%016llx.seg is missing, with %u messages",
                            (unsigned long long)segment->serial, segment->live_count);
        }
    }
}

static void opened(struct rb_msgstore *store, enum rb_err err)
{
    close_views(store);
    rb_store_opening_free(store);
    store->opened_err = err;
    store->state = err == RB_OK ? STORE_READY : STORE_FAILED;
    if (err == RB_OK) {
        name_missing(store);
        for (uint32_t i = 0; i < store->segment_count; i++) {
            rb_store_compact_consider(store->segments[i]);
        }
        rb_store_compact_small(store);
        rb_store_wake(store);
    }
    rb_store_tell(store, TELL_OPENED);
}

/* ---- steps of one operation ---- */

static enum rb_err start_list(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    if (o->names == NULL) {
        o->names = rb_alloc(store->home->budget, NAMES_BYTES);
        if (o->names == NULL) {
            return RB_ERR_MEMORY;
        }
        o->names_cap = NAMES_BYTES;
    }
    return rb_disk_list(store->home->disk, &store->op, store->directory, o->names, o->names_cap);
}

static enum rb_err start_table(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    struct slot_view *view = &o->views[o->slot];
    size_t cap = pad((size_t)view->header.table_bytes);
    if (cap > 0 && view->header.table_offset + view->header.table_bytes > view->size) {
        spoil(view, "it is too short for its table");
        return RB_ERR_MISSING;
    }
    if (view->table == NULL && cap > 0) {
        view->table = rb_store_take_aligned(store->home, cap);
        if (view->table == NULL) {
            return RB_ERR_MEMORY;
        }
        view->table_cap = cap;
    }
    if (o->table_at >= cap) {
        judge_table(view);
        return RB_ERR_MISSING;
    }
    uint64_t left = cap - o->table_at;
    return rb_disk_read(store->home->disk, &store->op, view->file,
                        view->header.table_offset + o->table_at, view->table + o->table_at,
                        left < TABLE_READ_BYTES ? (uint32_t)left : TABLE_READ_BYTES);
}

static void next_slot(struct store_opening *o)
{
    o->table_at = 0;
    o->step = o->slot == 0 ? OPEN_SLOT : OPEN_CHOOSE;
    o->slot = 1;
}

/* As in store_checkpoint.c: RB_ERR_MISSING, this step has nothing to do. */
static enum rb_err start_step(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    struct rb_disk *disk = store->home->disk;
    struct slot_view *view = &o->views[o->slot];
    switch (o->step) {
    case OPEN_MAKE:
        return rb_disk_make_directory(disk, &store->op, store->directory);
    case OPEN_LIST:
        return start_list(store);
    case OPEN_SLOT:
        if (!view->there) {
            return RB_ERR_MISSING;
        }
        rb_store_file_name(store, store->name, slot_names[o->slot]);
        return rb_disk_open(disk, &store->op, store->name, 0);
    case OPEN_HEADER:
        memset(o->block, 0, BLOCK_BYTES);
        return view->file == NULL
                   ? RB_ERR_MISSING
                   : rb_disk_read(disk, &store->op, view->file, 0, o->block, BLOCK_BYTES);
    case OPEN_TABLE:
        return view->valid ? start_table(store) : RB_ERR_MISSING;
    case OPEN_SYNC:
        view = &o->views[o->chosen];
        return view->unsynced ? rb_disk_sync(disk, &store->op, view->file) : RB_ERR_MISSING;
    case OPEN_ASIDE:
        return next_aside(store);
    case OPEN_ASIDE_SYNC:
        return o->doubt ? rb_disk_sync_directory(disk, &store->op, store->directory)
                        : RB_ERR_MISSING;
    default:
        break;
    }
    rb_unreachable("only steps of one operation");
}

static void leave_step(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    if (o->step == OPEN_TABLE) {
        next_slot(o);
    } else if (o->step == OPEN_SYNC) {
        o->step = OPEN_ASIDE;
    } else if (o->step == OPEN_ASIDE_SYNC) {
        o->step = OPEN_LAST;
    } else {
        o->step++;
    }
}

static void after_list(struct rb_msgstore *store, const struct rb_disk_op *op)
{
    struct store_opening *o = store->opening;
    if (op->err == RB_ERR_FULL && o->names_cap < NAMES_BYTES_MAX) {
        char *grown = rb_realloc(store->home->budget, o->names, o->names_cap, o->names_cap * 2);
        o->err = grown == NULL ? RB_ERR_MEMORY : RB_OK;
        o->names = grown == NULL ? o->names : grown;
        o->names_cap *= grown == NULL ? 1 : 2;
        return;
    }
    o->err = op->err;
    if (op->err == RB_OK) {
        o->names_bytes = (uint32_t)op->size;
        o->err = read_names(store);
        o->step = OPEN_SLOT;
    }
}

/* Reads of slots: tried again, then the slot is taken for damaged. */
static void after_read(struct store_opening *o, const struct rb_disk_op *op)
{
    struct slot_view *view = &o->views[o->slot];
    if (op->err != RB_OK) {
        if (++o->tries >= STORE_OPEN_TRIES) {
            o->tries = 0;
            spoil(view, "it cannot be read");
            next_slot(o);
        }
        return;
    }
    o->tries = 0;
    if (o->step == OPEN_HEADER) {
        o->err = judge_header(o, view);
        o->step++;
    } else {
        o->table_at += op->len;
    }
}

void rb_store_open_done(struct rb_msgstore *store, struct rb_disk_op *op)
{
    struct store_opening *o = store->opening;
    o->started = false;
    switch (o->step) {
    case OPEN_MAKE:
        o->err = op->err;
        store->parent_changed = true;
        o->step++;
        break;
    case OPEN_LIST:
        after_list(store, op);
        break;
    case OPEN_SLOT:
        o->views[o->slot].there = op->err != RB_ERR_MISSING;
        o->err = op->err == RB_ERR_MISSING ? RB_OK : op->err;
        o->views[o->slot].file = op->err == RB_OK ? op->file : NULL;
        o->views[o->slot].size = op->size;
        o->step++;
        break;
    case OPEN_HEADER:
    case OPEN_TABLE:
        after_read(o, op);
        break;
    case OPEN_RECOVER:
        rb_store_recover_done(store, op);
        break;
    case OPEN_ASIDE:
        o->err = op->err == RB_ERR_MISSING ? RB_OK : op->err;
        o->aside++;
        break;
    case OPEN_SYNC:
    case OPEN_ASIDE_SYNC:
        o->err = op->err;
        leave_step(store);
        break;
    default:
        rb_unreachable("only steps of one operation");
    }
}

bool rb_store_open_step(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    while (o->err == RB_OK && !o->started && o->step != OPEN_DONE) {
        bool wait = false;
        if (o->step == OPEN_CHOOSE) {
            for (int i = 0; i < 2 && o->chosen < 0; i++) { /* once */
                struct slot_view *view = &o->views[i];
                bool older = o->views[1 - i].valid && view->header.generation > 0 &&
                             view->header.generation < o->views[1 - i].header.generation;
                if (view->damaged && older) {
                    view->damaged = false; /* invariant 2 */
                } else if (view->damaged) {
                    name_damage(store, i);
                }
            }
            int valid = newest_valid(o);
            store->seed = valid >= 0 ? o->views[valid].header.seed : store->seed;
            o->err = choose(store);
            continue;
        }
        if (o->step == OPEN_PAGES) {
            o->err = load_pages(store, &wait);
        } else if (o->step == OPEN_RECOVER) {
            wait = rb_store_recover_step(store);
        } else if (o->step == OPEN_LAST) {
            wait = look_at_last(store);
            o->step += !wait;
        } else {
            enum rb_err err = start_step(store);
            if (err == RB_ERR_FULL) {
                return true;
            }
            o->started = err == RB_OK;
            store->op_count += o->started;
            if (err == RB_ERR_MISSING) {
                leave_step(store);
            } else if (err != RB_OK) {
                o->err = err;
            }
        }
        if (wait) {
            return o->err == RB_OK && o->in_flight == 0 && !o->started;
        }
    }
    if (o->started || o->in_flight > 0 || store->op_count > 0) {
        return false;
    }
    opened(store, o->err);
    return false;
}
