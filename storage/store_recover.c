/* store_recover.c - both checkpoints are bad: the index is built again from the segments.
 *
 *   headers of all files -> (files without a good header: their first record) -> each file, in order of sequence
 *
 * 1. With the table of a checkpoint whose pages are bad, only what it lists counts: the store is as of that checkpoint, but for
 *    messages that had been removed one by one. Without any table all records count, and the log index is 0.
 * 2. Files are read in the order of their first sequence; what is not above the last sequence that was taken is skipped. So a
 *    message that compaction left in two files is taken once.
 * 3. It is slow and needs memory for one file at a time; it is not the way a store opens.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/store_opening.h"

#define READ_BYTES (8u << 20)
#define FILE_BYTES_MAX (UINT64_C(4) << 30)

static size_t pad(size_t bytes)
{
    return (bytes + RB_DISK_ALIGN - 1) / RB_DISK_ALIGN * RB_DISK_ALIGN;
}

void rb_store_recovery_free(struct rb_msgstore *store)
{
    struct store_recovery *r = &store->opening->recovery;
    rb_store_give_aligned(store->home, r->bytes, r->cap);
    rb_free(store->home->budget, r->files, r->count * sizeof(*r->files));
    r->bytes = NULL;
    r->files = NULL;
}

/* ---- which files ---- */

/* The files that a checkpoint lists; their order and bounds are known. */
static void take_listed(struct rb_msgstore *store, const struct slot_view *view)
{
    struct store_opening *o = store->opening;
    struct store_recovery *r = &o->recovery;
    size_t skip = (size_t)view->header.page_count * CHECKPOINT_PAGE_ENTRY_BYTES;
    struct rb_reader reader = rb_reader_over(
        rb_slice_of(view->table == NULL ? NULL : view->table + skip,
                    (size_t)view->header.table_bytes - skip - view->header.blob_bytes));
    struct checkpoint_segment before = { 0 };
    uint32_t count = 0;
    for (uint32_t i = 0; i < view->header.segment_count && count < r->count; i++) {
        struct checkpoint_segment entry;
        if (rb_checkpoint_read_segment(&reader, &before, &entry) != RB_OK) {
            break;
        }
        before = entry;
        if (count > 0) {
            r->files[count - 1].below = entry.first_seq;
        }
        if (rb_store_serial_place(o, entry.serial) != UINT32_MAX) {
            r->files[count++] =
                (struct scan_file){ entry.serial, entry.first_seq, entry.bytes, UINT64_MAX, true };
        }
    }
    for (uint32_t i = count; i < r->count; i++) {
        r->files[i].below = 0; /* not listed: nothing of it counts */
    }
}

void rb_store_recover_begin(struct rb_msgstore *store, int bounded_by)
{
    struct store_opening *o = store->opening;
    struct store_recovery *r = &o->recovery;
    o->doubt = true;
    r->bounded = bounded_by;
    r->files = rb_alloc(store->home->budget, o->serial_count * sizeof(*r->files));
    if (r->files == NULL) {
        o->err = RB_ERR_MEMORY;
        return;
    }
    r->count = o->serial_count;
    for (uint32_t i = 0; i < r->count; i++) {
        r->files[i] =
            (struct scan_file){ o->serials[i], UINT64_MAX, UINT32_MAX, UINT64_MAX, false };
    }
    for (int i = 0; i < 2; i++) {
        if (o->views[i].header.generation > 0) {
            r->seed = o->views[i].header.seed;
            r->known = true;
        }
    }
    if (bounded_by >= 0) {
        r->pass = RECOVER_ALL;
        take_listed(store, &o->views[bounded_by]);
    }
}

/* ---- what is in them ---- */

static void take_header(struct store_recovery *r, struct store_opening *o, struct scan_file *file)
{
    struct store_segment_header header;
    enum rb_err err = rb_store_decode_segment(rb_slice_of(r->bytes, (size_t)r->read), &header);
    if (err == RB_ERR_UNSUPPORTED) {
        o->err = err;
    }
    if (err != RB_OK || header.serial != file->serial) {
        r->damaged_files++;
        return;
    }
    file->headed = true;
    file->first_seq = header.first_seq;
    if (!r->known) {
        r->known = true;
        r->seed = header.seed;
    }
}

static void take_first(const struct store_recovery *r, struct scan_file *file)
{
    struct store_record record;
    uint32_t at = STORE_SEGMENT_HEADER_BYTES;
    bool damaged;
    if (rb_store_scan(rb_slice_of(r->bytes, (size_t)r->read), r->seed, file->serial, &at, &record,
                      &damaged)) {
        file->first_seq = record.seq;
    }
}

/* A block begins where a page begins and zeroes came before, or the last one is long enough. */
static enum rb_err begin_block(struct store_segment *segment, uint32_t at, uint32_t end)
{
    struct store_block *none;
    uint32_t count = segment->block_count;
    bool first = count == 0;
    if (!first && (at % RB_DISK_ALIGN != 0 ||
                   (end == at && at - segment->starts[count - 1] < STORE_BLOCK_BYTES))) {
        return RB_OK;
    }
    segment->bytes = first ? 0 : at;
    return rb_store_block_begin(segment, 0, &none);
}

static enum rb_err take_record(struct rb_msgstore *store, struct store_segment *segment,
                               uint32_t at, const struct store_record *record)
{
    uint64_t bytes = record->subject.len + record->payload.len + 30;
    bytes += record->header_len > 0 ? 4 : 0;
    struct rb_index_message entry = { .seq = record->seq,
                                      .time_us = record->time_ns / 1000,
                                      .place = at,
                                      .bytes = (uint32_t)bytes,
                                      .subject = record->subject };
    enum rb_err err = rb_index_append(store->index, &entry);
    if (err == RB_OK) {
        store->last_seq = record->seq;
        segment->live_bytes += rb_store_cost(store, bytes);
        segment->live_count++;
        store->live_bytes += rb_store_cost(store, bytes);
    }
    return err;
}

static enum rb_err scan_file(struct rb_msgstore *store, const struct scan_file *file,
                             struct store_segment *segment)
{
    struct store_recovery *r = &store->opening->recovery;
    uint64_t len = r->read < file->limit ? r->read : file->limit;
    struct rb_slice bytes = rb_slice_of(r->bytes, (size_t)len);
    uint32_t at = STORE_SEGMENT_HEADER_BYTES;
    uint32_t end = at;
    struct store_record record;
    bool damaged;
    while (rb_store_scan(bytes, r->seed, file->serial, &at, &record, &damaged)) {
        enum rb_err err = begin_block(segment, at, end);
        if (err != RB_OK) {
            return err;
        }
        if (damaged) {
            char name[STORE_FILE_BYTES];
            rb_store_serial_name(name, file->serial);
            rb_store_damage(store, name, "no record between %u and %u", end, at);
        }
        if (record.flags == 0 && record.seq > store->last_seq && record.seq < file->below &&
            record.subject.len > 0) {
            err = take_record(store, segment, at, &record);
            if (err == RB_ERR_MEMORY) {
                return err;
            }
        }
        at += record.bytes;
        end = at;
    }
    segment->bytes = (uint32_t)pad(end);
    return RB_OK;
}

static enum rb_err take_all(struct rb_msgstore *store, const struct scan_file *file)
{
    struct store_segment *segment;
    if (file->below == 0 || !store->opening->recovery.known || store->last_seq == UINT64_MAX) {
        return RB_OK;
    }
    enum rb_err err = rb_store_segment_create(store, file->serial, store->last_seq + 1, &segment);
    if (err != RB_OK) {
        return err;
    }
    segment->sealed = segment->created = true;
    err = scan_file(store, file, segment);
    if (err == RB_OK && segment->live_count > 0) {
        err = rb_store_segment_insert(store, store->segment_count, segment);
    }
    if (err != RB_OK || segment->live_count == 0) {
        store->live_bytes -= segment->live_bytes;
        rb_store_segment_free(segment);
        return err;
    }
    segment->referred = store->generation; /* its file stays until there is a checkpoint */
    segment->file_bytes = store->opening->recovery.size;
    store->home->disk_bytes += segment->file_bytes;
    store->opening->used[rb_store_serial_place(store->opening, file->serial)] = 1;
    return RB_OK;
}

static enum rb_err recovered(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    struct store_recovery *r = &o->recovery;
    struct rb_msgstore_state state;
    store->seed = r->known ? r->seed : rb_env_random(store->home->env);
    store->founded = store->segment_count > 0;
    enum rb_err err = RB_OK;
    if (r->bounded >= 0) {
        const struct slot_view *view = &o->views[r->bounded];
        if (view->header.last_seq > store->last_seq) {
            rb_index_skip(store->index, view->header.last_seq);
        }
        store->generation = view->header.generation;
        store->next_serial = view->header.next_serial > store->next_serial
                                 ? view->header.next_serial
                                 : store->next_serial;
        err = rb_store_take_blob(store, view);
    }
    rb_index_state(store->index, &state);
    store->last_seq = state.last_seq;
    rb_store_damage(store, NULL,
                    "the index was built again from %u of %u files: %llu messages, up to %llu",
                    store->segment_count, r->count, (unsigned long long)state.messages,
                    (unsigned long long)state.last_seq);
    o->step = OPEN_ASIDE;
    return err;
}

/* ---- reading ---- */

static int by_first(const void *a, const void *b)
{
    const struct scan_file *x = a;
    const struct scan_file *y = b;
    if (x->first_seq != y->first_seq) {
        return x->first_seq < y->first_seq ? -1 : 1;
    }
    return x->serial > y->serial ? -1 : 1; /* what compaction wrote last comes first */
}

/* The file was read as far as this pass wants it. */
static void take_file(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    struct store_recovery *r = &o->recovery;
    struct scan_file *file = &r->files[r->at];
    if (r->pass == RECOVER_HEADERS) {
        take_header(r, o, file);
    } else if (r->pass == RECOVER_FIRSTS) {
        take_first(r, file);
    } else {
        o->err = take_all(store, file);
    }
}

static void next_file(struct rb_msgstore *store)
{
    struct store_recovery *r = &store->opening->recovery;
    if (r->file != NULL) {
        rb_disk_close(store->home->disk, r->file);
        r->file = NULL;
    }
    r->read = 0;
    r->tries = 0;
    r->at++;
    if (r->at < r->count || r->pass == RECOVER_ALL) {
        return;
    }
    r->at = 0;
    r->pass++;
    if (r->pass == RECOVER_ALL) {
        qsort(r->files, r->count, sizeof(*r->files), by_first);
    }
}

static enum rb_err room(struct rb_msgstore *store, uint64_t bytes)
{
    struct store_recovery *r = &store->opening->recovery;
    if (bytes <= r->cap) {
        return RB_OK;
    }
    rb_store_give_aligned(store->home, r->bytes, r->cap);
    r->cap = 0;
    r->bytes = rb_store_take_aligned(store->home, pad((size_t)bytes));
    r->cap = r->bytes == NULL ? 0 : pad((size_t)bytes);
    return r->bytes == NULL ? RB_ERR_MEMORY : RB_OK;
}

/* RB_ERR_MISSING: this file is read. */
static enum rb_err read_on(struct rb_msgstore *store)
{
    struct store_recovery *r = &store->opening->recovery;
    uint64_t end = r->size < FILE_BYTES_MAX ? r->size : FILE_BYTES_MAX - RB_DISK_ALIGN;
    end = r->pass == RECOVER_HEADERS && end > RB_DISK_ALIGN ? RB_DISK_ALIGN : end;
    if (r->read >= end) {
        return RB_ERR_MISSING;
    }
    enum rb_err err = room(store, pad((size_t)end));
    if (err != RB_OK) {
        return err;
    }
    uint64_t left = pad((size_t)(end - r->read));
    return rb_disk_read(store->home->disk, &store->op, r->file, r->read, r->bytes + r->read,
                        left < READ_BYTES ? (uint32_t)left : READ_BYTES);
}

static enum rb_err start(struct rb_msgstore *store)
{
    struct store_recovery *r = &store->opening->recovery;
    if (r->file != NULL) {
        return read_on(store);
    }
    char file[STORE_FILE_BYTES];
    rb_store_serial_name(file, r->files[r->at].serial);
    rb_store_file_name(store, store->name, file);
    return rb_disk_open(store->home->disk, &store->op, store->name, 0);
}

/* A page that cannot be read is zeroes: what was in it is lost, what follows is not. */
static void after_read(struct store_recovery *r, const struct rb_disk_op *op)
{
    if (op->err != RB_OK && ++r->tries < STORE_READ_TRIES) {
        return;
    }
    if (op->err != RB_OK) {
        memset(op->bytes, 0, op->len);
        r->damaged_files++;
    }
    r->read += op->err == RB_OK ? op->size : op->len;
    r->read = op->err == RB_OK && op->size < op->len ? r->size : r->read;
    r->tries = 0;
}

void rb_store_recover_done(struct rb_msgstore *store, struct rb_disk_op *op)
{
    struct store_recovery *r = &store->opening->recovery;
    if (op->kind == RB_DISK_READ) {
        after_read(r, op);
    } else if (op->err == RB_OK) {
        r->file = op->file;
        r->size = op->size;
    } else {
        r->damaged_files++;
        next_file(store);
    }
}

static bool skipped(const struct store_recovery *r)
{
    const struct scan_file *file = &r->files[r->at];
    return (r->pass == RECOVER_FIRSTS && (file->headed || !r->known)) ||
           (r->pass == RECOVER_ALL && file->below == 0);
}

bool rb_store_recover_step(struct rb_msgstore *store)
{
    struct store_opening *o = store->opening;
    struct store_recovery *r = &o->recovery;
    if (r->at >= r->count) {
        o->err = recovered(store);
        return false;
    }
    if (skipped(r)) {
        next_file(store);
        return false;
    }
    enum rb_err err = start(store);
    if (err == RB_ERR_MISSING) {
        take_file(store);
        next_file(store);
        return false;
    }
    o->started = err == RB_OK;
    store->op_count += o->started;
    if (err != RB_OK && err != RB_ERR_FULL) {
        o->err = err;
    }
    return true;
}
