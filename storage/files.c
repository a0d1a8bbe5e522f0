/* files.c - which file is used for what: made, written to, reused, set aside.
 *
 *   (new.tmp, allocated) --named--> next --rotate--> current --> older --nothing lives in it--> spare --named anew--> next
 *                                                                  `----- damaged: set aside, never used again
 *
 * 1. `next` is ready when it has its whole size and its name is durable, so that a rotation writes nothing but batches.
 * 2. A file is reused when nothing in it lives, nobody reads it, and a durable batch has said so (durable_oldest). Files
 *    leave in their order, so a record that ends another one outlives it.
 * 3. A damaged file is never written to again: its name gets ".damaged" when that is found, ".aside" when nothing lives in it
 *    and the owner of the log has said that he knows (handled): until then each opening names the damage again.
 * 4. Beside `next` one spare is kept: entries may not make the log go on to another file without it, so that what gives
 *    space back can be written when the disk is full, also after a restart (which begins a file).
 * 5. One operation about files is in flight at a time (files_op). A failure stops the log, but for a full disk, which is asked
 *    again after retry_ns.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ringbus/check.h"
#include "storage/wal_inside.h"

void rb_wal_base_name(char out[RB_WAL_NAME_MAX], uint64_t serial, const char *suffix)
{
    snprintf(out, RB_WAL_NAME_MAX, "%016" PRIx64 "%s", serial, suffix);
}

void rb_wal_name(const struct wal *w, char out[NAME_BYTES], uint64_t serial, const char *suffix)
{
    snprintf(out, NAME_BYTES, "%s/%016" PRIx64 "%s", w->options.directory, serial, suffix);
}

void rb_wal_file_init(struct wal *w, uint16_t slot, uint64_t serial, uint64_t size,
                      struct rb_disk_file *handle)
{
    struct wal_file *file = &w->files[slot];
    *file = (struct wal_file){ .serial = serial, .size = size, .file = handle };
    rb_list_init(&file->states);
    rb_list_init(&file->prefixes);
}

uint16_t rb_wal_slot_take(struct wal *w)
{
    for (uint16_t slot = 0; slot < SLOT_COUNT; slot++) {
        if (w->files[slot].serial == 0) {
            return slot;
        }
    }
    return SLOT_NONE;
}

void rb_wal_slot_give(struct wal *w, uint16_t slot)
{
    struct wal_file *file = &w->files[slot];
    rb_assert(file->entry_count == 0 && file->read_count == 0);
    if (file->file != NULL) {
        rb_disk_close(w->options.disk, file->file);
    }
    *file = (struct wal_file){ 0 };
}

struct wal_file *rb_wal_current(struct wal *w)
{
    return w->order_count == 0 ? NULL : &w->files[w->order[w->order_count - 1]];
}

static bool lives(const struct wal_file *file)
{
    return (file->damaged && !file->handled) || file->entry_count > 0 ||
           !rb_list_empty(&file->states) || !rb_list_empty(&file->prefixes);
}

uint64_t rb_wal_oldest_serial(const struct wal *w)
{
    uint32_t at = 0;
    while (at + 1 < w->order_count && !lives(&w->files[w->order[at]])) {
        at++;
    }
    uint64_t serial = w->files[w->order[at]].serial;
    return serial < w->oldest_limit ? serial : w->oldest_limit;
}

void rb_wal_forget_damage(struct wal *w)
{
    for (uint32_t i = 0; i < w->order_count; i++) {
        struct wal_file *file = &w->files[w->order[i]];
        file->handled = file->damaged;
    }
    w->oldest_limit = UINT64_MAX;
    w->lost_handled = true;
}

void rb_wal_rotate(struct wal *w)
{
    const struct wal_file *before = rb_wal_current(w);
    struct wal_file *file = &w->files[w->next];
    rb_assert(w->next_ready && w->open == NULL);
    file->prev_serial = before == NULL ? 0 : before->serial;
    file->prev_end = before == NULL ? 0 : w->write_offset;
    file->first = w->sequence;
    w->order[w->order_count++] = w->next;
    w->write_offset = 0;
    w->tail_closed = false;
    w->next = SLOT_NONE;
    w->next_ready = false;
}

/* ---- one operation at a time ---- */

static void began(struct wal *w, enum rb_wal_files_step step, uint16_t slot, enum rb_err err)
{
    if (err == RB_OK) {
        w->files_step = step;
        w->files_slot = slot;
    }
}

static void rename_file(struct wal *w, enum rb_wal_files_step step, uint16_t slot, const char *from,
                        const char *to)
{
    uint64_t serial = w->files[slot].serial;
    rb_wal_name(w, w->files_from, serial, from);
    rb_wal_name(w, w->files_to, serial, to);
    began(w, step, slot, rb_disk_rename(w->options.disk, &w->files_op, w->files_from, w->files_to));
}

static const char *suffix_of(const struct wal_file *file)
{
    return file->marked ? ".wal.damaged" : ".wal";
}

static void drop_first(struct wal *w)
{
    w->order_count--;
    memmove(w->order, w->order + 1, w->order_count * sizeof(w->order[0]));
}

static void remove_file(struct wal *w, uint16_t slot)
{
    rb_wal_name(w, w->files_from, w->files[slot].serial, ".wal");
    began(w, FILES_REMOVE, slot, rb_disk_remove(w->options.disk, &w->files_op, w->files_from));
}

/* The files at the front in which nothing lives become spares, as far as invariant 2 lets them. */
static void reuse_oldest(struct wal *w)
{
    while (w->order_count > 1) {
        uint16_t slot = w->order[0];
        struct wal_file *file = &w->files[slot];
        if (lives(file) || file->read_count > 0 || file->serial >= w->durable_oldest) {
            return;
        }
        if (file->damaged || file->size != w->options.file_bytes || w->spare_count >= SPARES_MAX) {
            if (w->files_step != FILES_IDLE) {
                return;
            }
            if (file->damaged) {
                rename_file(w, FILES_SET_ASIDE, slot, suffix_of(file), ".wal.aside");
            } else {
                remove_file(w, slot);
            }
            return;
        }
        drop_first(w);
        w->spares[w->spare_count++] = slot;
        w->full = w->limited = false;
        w->stats.recycled++;
    }
}

static void mark_damaged(struct wal *w)
{
    for (uint32_t i = 0; i < w->order_count && w->files_step == FILES_IDLE; i++) {
        struct wal_file *file = &w->files[w->order[i]];
        if (file->damaged && !file->marked) {
            rename_file(w, FILES_MARK_DAMAGED, w->order[i], ".wal", ".wal.damaged");
            return;
        }
    }
}

static void set_lost_aside(struct wal *w)
{
    rb_wal_name(w, w->files_from, w->lost[w->lost_count - 1], ".wal.damaged");
    rb_wal_name(w, w->files_to, w->lost[w->lost_count - 1], ".wal.aside");
    began(w, FILES_SET_LOST_ASIDE, SLOT_NONE,
          rb_disk_rename(w->options.disk, &w->files_op, w->files_from, w->files_to));
}

static void refuse_space(struct wal *w)
{
    w->full = true;
    w->retry_due_ns = rb_wal_now(w) + w->options.retry_ns;
}

/* What is missing to have one file ready and one spare, the reserve that entries may not use up. */
static void make_files(struct wal *w)
{
    if (w->next != SLOT_NONE && w->spare_count > 0) {
        w->full = w->limited = false;
        return;
    }
    if (w->next == SLOT_NONE && w->spare_count > 0) {
        uint16_t slot = w->spares[w->spare_count - 1];
        rb_wal_name(w, w->files_from, w->files[slot].serial, ".wal");
        rb_wal_name(w, w->files_to, w->next_serial, ".wal");
        began(w, FILES_RENAME_SPARE, slot,
              rb_disk_rename(w->options.disk, &w->files_op, w->files_from, w->files_to));
        w->spare_count -= w->files_step == FILES_RENAME_SPARE;
        return;
    }
    uint16_t slot = rb_wal_slot_take(w);
    uint32_t count = w->order_count + (w->next != SLOT_NONE);
    w->limited = count + 1 > w->options.files_max;
    /* What gives room back must always find some: entries do not get into a file beyond the limit (invariant 4). */
    const struct wal_file *last = rb_wal_current(w);
    bool beyond =
        w->next == SLOT_NONE &&
        (w->phase == WAL_OPEN || (last != NULL && last->damaged)); /* else the last file goes on */
    uint32_t most = w->options.files_max + (beyond ? FILES_BEYOND : 0);
    if (count + 1 > most || slot == SLOT_NONE) {
        w->full = false; /* nobody asks the disk */
        return;
    }
    if (w->full && rb_wal_now(w) < w->retry_due_ns) {
        return;
    }
    w->retry_due_ns = rb_wal_now(w) + w->options.retry_ns;
    w->making_spare = w->next != SLOT_NONE;
    snprintf(w->files_from, sizeof(w->files_from), "%s/new.tmp", w->options.directory);
    began(w, FILES_CREATE, slot,
          rb_disk_open(w->options.disk, &w->files_op, w->files_from,
                       RB_DISK_CREATE | RB_DISK_DURABLE));
}

void rb_wal_files_step(struct wal *w, uint64_t now_ns)
{
    if (w->stopped || (w->close_wanted && w->phase == WAL_OPEN)) {
        return;
    }
    reuse_oldest(w);
    if (w->files_step == FILES_IDLE) {
        mark_damaged(w);
    }
    if (w->files_step == FILES_IDLE && w->lost_handled && w->lost_count > 0) {
        set_lost_aside(w);
    }
    if (w->files_step == FILES_IDLE) {
        make_files(w);
    }
    if (w->refused && w->next_ready && w->spare_count > 0) {
        w->refused = false;
        w->tell_room = true;
    }
}

static void name_next(struct wal *w)
{
    rb_wal_name(w, w->files_to, w->next_serial, ".wal");
    began(w, FILES_NAME_NEW, w->files_slot,
          rb_disk_rename(w->options.disk, &w->files_op, w->files_from, w->files_to));
}

static void sync_name(struct wal *w, uint64_t size)
{
    struct rb_disk_file *handle = w->files[w->files_slot].file;
    w->next = w->files_slot;
    rb_wal_file_init(w, w->next, w->next_serial++, size, handle);
    began(w, FILES_SYNC_NAME, w->next,
          rb_disk_sync_directory(w->options.disk, &w->files_op, w->options.directory));
}

static void add_spare(struct wal *w)
{
    struct rb_disk_file *handle = w->files[w->files_slot].file;
    rb_wal_file_init(w, w->files_slot, w->next_serial++, w->options.file_bytes, handle);
    w->spares[w->spare_count++] = w->files_slot;
}

/* No space for a new file: what was made of it goes away again. */
static void drop_failed(struct wal *w)
{
    rb_disk_close(w->options.disk, w->files[w->files_slot].file);
    w->files[w->files_slot] = (struct wal_file){ 0 };
    refuse_space(w);
    began(w, FILES_DROP_FAILED, w->files_slot,
          rb_disk_remove(w->options.disk, &w->files_op, w->files_from));
}

static bool is_space(enum rb_err err)
{
    return err == RB_ERR_SPACE || err == RB_ERR_LIMIT || err == RB_ERR_MEMORY;
}

/* The step that has completed decides what comes next. */
void rb_wal_files_complete(struct wal *w)
{
    enum rb_wal_files_step step = w->files_step;
    enum rb_err err = w->files_op.err;
    w->files_step = FILES_IDLE;
    if (err != RB_OK && step == FILES_CREATE && is_space(err)) {
        refuse_space(w);
        return;
    }
    if (step == FILES_CREATE && err == RB_OK) {
        rb_wal_file_init(w, w->files_slot, UINT64_MAX, 0, w->files_op.file);
        began(w, FILES_ALLOCATE, w->files_slot,
              rb_disk_preallocate(w->options.disk, &w->files_op, w->files_op.file,
                                  w->options.file_bytes));
    } else if (step == FILES_ALLOCATE && is_space(err)) {
        drop_failed(w);
    } else if (err != RB_OK) {
        rb_wal_stop(w, err);
        return;
    } else if (step == FILES_ALLOCATE) {
        w->stats.created++;
        w->full = false;
        name_next(w);
    } else if (step == FILES_NAME_NEW && w->making_spare) {
        add_spare(w);
        return;
    } else if (step == FILES_NAME_NEW) {
        sync_name(w, w->options.file_bytes);
    } else if (step == FILES_RENAME_SPARE) {
        sync_name(w, w->options.file_bytes);
    } else if (step == FILES_SYNC_NAME) {
        w->next_ready = true;
        return;
    } else if (step == FILES_REMOVE || step == FILES_SET_ASIDE) {
        drop_first(w);
        rb_wal_slot_give(w, w->files_slot);
        return;
    } else if (step == FILES_SET_LOST_ASIDE) {
        w->lost_count--;
        return;
    } else if (step == FILES_MARK_DAMAGED) {
        w->files[w->files_slot].marked = true;
        w->kept_damaged++;
        return;
    } else {
        return; /* FILES_DROP_FAILED */
    }
    if (w->files_step == FILES_IDLE) {
        rb_wal_stop(w, RB_ERR_FULL); /* the disk was given fewer operations than its users start */
    }
}

void rb_wal_files_close(struct wal *w)
{
    for (uint16_t slot = 0; slot < SLOT_COUNT; slot++) {
        if (w->files[slot].file != NULL) {
            rb_disk_close(w->options.disk, w->files[slot].file);
            w->files[slot].file = NULL;
        }
    }
}
