/* store_life.c - a store begins and ends.
 *
 *   open -> OPENED ... close -> what is in flight ends -> CLOSED
 *                  ... destroy -> what is in flight ends -> list -> remove each -> sync -> remove the directory -> CLOSED
 */
#include <stdlib.h>
#include <string.h>

#include "storage/store_inside.h"

#define NAMES_BYTES (16u << 10)
#define NAMES_BYTES_MAX (64u << 20)

/* ---- opening ---- */

static void init_store(struct rb_msgstore *store, struct rb_msgstore_home *home,
                       const struct rb_msgstore_options *options)
{
    struct rb_list *lists[] = { &store->busy_link, &store->told_link, &store->partial_link,
                                &store->dead,      &store->unsynced,  &store->candidates,
                                &store->erasing };
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        rb_list_init(lists[i]);
    }
    store->home = home;
    store->owner = options->owner;
    store->removed = options->removed;
    store->subjects = options->subjects;
    store->memory = options->directory == NULL;
    store->next_serial = 1;
    store->generation = 1;
    store->newest = -1;
    rb_store_own(home, &store->op, STORE_OP_STORE);
    rb_list_append(&home->stores, &store->link);
}

static enum rb_err set_directory(struct rb_msgstore *store, const char *directory)
{
    size_t len = strlen(directory);
    if (len == 0 || len + 1 + STORE_FILE_BYTES > RB_DISK_NAME_MAX || directory[len - 1] == '/' ||
        store->home->disk == NULL) {
        return RB_ERR_INVALID;
    }
    memcpy(store->directory, directory, len + 1);
    const char *slash = strrchr(directory, '/');
    size_t parent = slash == NULL ? 0 : (size_t)(slash - directory);
    memcpy(store->parent, slash == NULL ? "." : directory, parent == 0 ? 1 : parent);
    return RB_OK;
}

enum rb_err rb_msgstore_open(struct rb_msgstore_home *home,
                             const struct rb_msgstore_options *options,
                             struct rb_msgstore **ret_store)
{
    struct rb_msgstore *store = rb_alloc(home->budget, sizeof(*store));
    if (store == NULL) {
        return RB_ERR_MEMORY;
    }
    init_store(store, home, options);
    enum rb_err err = store->memory ? RB_OK : set_directory(store, options->directory);
    if (err == RB_OK) {
        err = rb_index_create(home->budget, &store->index);
    }
    if (err == RB_OK && !store->memory) {
        err = rb_store_open_begin(store);
    }
    if (err != RB_OK) {
        rb_store_free(store);
        return err;
    }
    if (store->memory) {
        store->state = STORE_READY;
        rb_store_tell(store, TELL_OPENED);
    } else {
        rb_store_wake(store);
    }
    *ret_store = store;
    return RB_OK;
}

void rb_msgstore_want_subjects(struct rb_msgstore *store, bool subjects)
{
    store->subjects = subjects;
}

uint64_t rb_msgstore_restored(const struct rb_msgstore *store, struct rb_slice *ret_blob)
{
    *ret_blob = rb_slice_of(store->blob, store->blob_bytes);
    return store->restored_index;
}

uint64_t rb_msgstore_durable_index(const struct rb_msgstore *store)
{
    return store->before_index;
}

uint64_t rb_msgstore_checkpoint_bytes(const struct rb_msgstore *store)
{
    uint64_t bytes = 4 * RB_DISK_ALIGN + store->behind_bytes; /* headers, table, data */
    bytes += (uint64_t)store->segment_count * CHECKPOINT_SEGMENT_BYTES;
    uint64_t index = rb_index_bytes(store->index);
    uint64_t changed = store->changes * RB_DISK_ALIGN;
    return bytes + (changed < index ? changed : index);
}

/* ---- the end ---- */

/* Nobody waits any more, nothing more is told. */
static void forget_all(struct rb_msgstore *store)
{
    struct rb_msgstore_home *home = store->home;
    struct rb_msgstore_wait **at = &home->ready;
    while (*at != NULL) {
        struct rb_msgstore_wait *wait = *at;
        if (wait->store == store) {
            *at = wait->next;
            wait->waiting = false;
            wait->next = NULL;
        } else {
            at = &wait->next;
        }
    }
    home->ready_end = at;
    struct rb_list *next;
    for (struct rb_list *item = home->damages.next; item != &home->damages; item = next) {
        struct store_damage *damage = RB_CONTAINER(item, struct store_damage, link);
        next = item->next;
        if (damage->store == store) {
            rb_list_remove(item);
            rb_free(home->budget, damage, sizeof(*damage));
            home->damage_count--;
        }
    }
    store->told = 0;
    rb_list_remove(&store->told_link);
}

static void shed(struct store_segment *segment)
{
    for (uint32_t i = 0; i < segment->block_count; i++) {
        struct store_block *block = segment->blocks[i];
        if (block != NULL) {
            rb_store_end_waits(block);
        }
        if (block != NULL && !block->op.in_flight) {
            rb_store_block_drop(block);
        }
    }
}

static void begin_end(struct rb_msgstore *store, bool destroy)
{
    rb_assert(store->state != STORE_CLOSING && store->state != STORE_CLOSED);
    store->state = STORE_CLOSING;
    store->destroying = destroy && !store->memory;
    for (uint32_t i = 0; i < store->segment_count; i++) {
        shed(store->segments[i]);
    }
    for (struct rb_list *at = store->dead.next; at != &store->dead; at = at->next) {
        shed(RB_CONTAINER(at, struct store_segment, dead_link));
    }
    rb_list_remove(&store->partial_link);
    forget_all(store);
    rb_store_wake(store);
}

void rb_msgstore_close(struct rb_msgstore *store)
{
    begin_end(store, false);
}

void rb_msgstore_destroy(struct rb_msgstore *store)
{
    begin_end(store, true);
}

static void free_segments(struct rb_msgstore *store)
{
    bool live =
        store->state == STORE_CLOSING && !store->home->ending; /* else the disk has closed them */
    while (store->segment_count > 0) {
        struct store_segment *segment = store->segments[--store->segment_count];
        if (live) {
            rb_store_file_close(segment);
        }
        rb_store_segment_free(segment);
    }
    while (!rb_list_empty(&store->dead)) {
        struct store_segment *segment =
            RB_CONTAINER(store->dead.next, struct store_segment, dead_link);
        if (live) {
            rb_store_file_close(segment);
        }
        rb_store_segment_free(segment);
    }
}

void rb_store_free(struct rb_msgstore *store)
{
    struct rb_msgstore_home *home = store->home;
    rb_store_opening_free(store);
    rb_store_writing_free(store);
    free_segments(store);
    for (int i = 0; i < 2; i++) {
        home->disk_bytes -= store->slots[i].file_bytes;
        rb_free(home->budget, store->slots[i].pages,
                store->slots[i].page_cap * sizeof(*store->slots[i].pages));
    }
    rb_free(home->budget, store->segments, store->segment_cap * sizeof(*store->segments));
    rb_free(home->budget, store->damaged, store->damaged_cap * sizeof(*store->damaged));
    rb_free(home->budget, store->blob, store->blob_bytes);
    rb_free(home->budget, store->names, store->names_cap);
    if (store->index != NULL) {
        rb_index_destroy(store->index);
    }
    rb_list_remove(&store->link);
    rb_list_remove(&store->busy_link);
    rb_list_remove(&store->told_link);
    rb_list_remove(&store->partial_link);
    rb_free(home->budget, store, sizeof(*store));
}

enum end_step { END_LIST, END_REMOVE, END_SYNC, END_DIRECTORY, END_PARENT, END_DONE };

/* Room for the names; false: no memory, the files stay. */
static bool names_room(struct rb_msgstore *store)
{
    uint32_t cap = store->names_cap == 0 ? NAMES_BYTES : store->names_cap * 2;
    char *grown = cap > NAMES_BYTES_MAX
                      ? NULL
                      : rb_realloc(store->home->budget, store->names, store->names_cap, cap);
    if (grown == NULL) {
        return false;
    }
    store->names = grown;
    store->names_cap = cap;
    return true;
}

static enum rb_err start_end(struct rb_msgstore *store)
{
    struct rb_disk *disk = store->home->disk;
    switch ((enum end_step)store->end_step) {
    case END_LIST:
        if (store->names == NULL && !names_room(store)) {
            return RB_ERR_MEMORY;
        }
        return rb_disk_list(disk, &store->op, store->directory, store->names, store->names_cap);
    case END_REMOVE:
        rb_store_file_name(store, store->name, store->names + store->names_at);
        return rb_disk_remove(disk, &store->op, store->name);
    case END_SYNC: /* so that none comes back in a directory of the same name */
        return rb_disk_sync_directory(disk, &store->op, store->directory);
    case END_DIRECTORY:
        return rb_disk_remove_directory(disk, &store->op, store->directory);
    case END_PARENT:
        return rb_disk_sync_directory(disk, &store->op, store->parent);
    case END_DONE:
        break;
    }
    return RB_ERR_MEMORY;
}

static void after_list(struct rb_msgstore *store, const struct rb_disk_op *op)
{
    if (op->err == RB_ERR_FULL && names_room(store)) {
        return; /* once more */
    }
    store->names_bytes = op->err == RB_OK ? (uint32_t)op->size : 0;
    store->end_step = op->err != RB_OK ? END_DONE : op->size > 0 ? END_REMOVE : END_DIRECTORY;
}

void rb_store_end_done(struct rb_msgstore *store, struct rb_disk_op *op)
{
    if (op->kind == RB_DISK_OPEN && op->err == RB_OK) { /* began before the end did */
        rb_disk_close(store->home->disk, op->file);
    }
    if (!store->ending) {
        return;
    }
    switch ((enum end_step)store->end_step) {
    case END_LIST:
        after_list(store, op);
        break;
    case END_REMOVE: /* what cannot be removed stays, and the directory with it */
        store->names_at += (uint32_t)strlen(store->names + store->names_at) + 1;
        if (store->names_at >= store->names_bytes) {
            store->end_step = END_SYNC;
        }
        break;
    default:
        store->end_step++;
        break;
    }
}

bool rb_store_end_step(struct rb_msgstore *store)
{
    if (store->op_count > 0) {
        return false;
    }
    if (store->destroying && store->end_step != END_DONE) {
        rb_store_opening_free(store);
        rb_store_writing_free(store);
        free_segments(store);
        enum rb_err err = start_end(store);
        if (err == RB_ERR_FULL) {
            return true;
        }
        if (err == RB_OK) {
            store->ending = true;
            store->op_count++;
            return false;
        }
    }
    rb_store_opening_free(store);
    rb_store_writing_free(store);
    free_segments(store);
    store->state = STORE_CLOSED;
    rb_store_tell(store, TELL_CLOSED);
    return false;
}
