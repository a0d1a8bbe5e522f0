/* store_files.c - what a store's directory holds: names, the segments that checkpoints list, files that nobody knows.
 *
 * 1. A serial that is in the directory is never used again, whoever it belongs to.
 * 2. A segment of the other checkpoint is kept as a dead one until that checkpoint is overwritten.
 */
#include <stdio.h>
#include <string.h>

#include "storage/store_opening.h"

const char *const rb_store_slot_names[2] = { "0.ckpt", "1.ckpt" };

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

enum rb_err rb_store_read_names(struct rb_msgstore *store)
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
    o->views[0].there = has_name(o, rb_store_slot_names[0]);
    o->views[1].there = has_name(o, rb_store_slot_names[1]);
    return RB_OK;
}

/* ---- segments of a checkpoint ---- */

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

void rb_store_drop_segments(struct rb_msgstore *store)
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
enum rb_err rb_store_keep_others(struct rb_msgstore *store, const struct slot_view *view)
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
enum rb_err rb_store_next_aside(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    char file[STORE_FILE_BYTES], to[2 * STORE_FILE_BYTES];
    for (; o->aside < 2 + o->serial_count; o->aside++) {
        if (o->aside < 2) {
            if (!o->views[o->aside].damaged || !o->views[o->aside].there) {
                continue;
            }
            snprintf(file, sizeof(file), "%s", rb_store_slot_names[o->aside]);
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
