/* recover_find.c - which files belong to the log, in which order, and how far it was durable (recover.c has the rules). */
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"
#include "storage/recover_inside.h"

/* ---- the window ---- */

/* The bytes [offset, offset + len) of the file when they are there; NULL: a read was started, or the log has failed. */
uint8_t *rb_recover_need(struct wal *w, struct found *f, uint64_t offset, uint32_t len)
{
    struct wal_recover *r = w->recover;
    if (r->window_file == f && offset >= r->window_offset &&
        offset + len <= r->window_offset + r->window_filled) {
        return r->window + (offset - r->window_offset);
    }
    if (r->window_file != f || offset < r->window_offset ||
        offset + len > r->window_offset + r->window_len) {
        if (len > r->window_cap) {
            uint8_t *larger = rb_disk_alloc(w->options.disk, len);
            if (larger == NULL) {
                rb_recover_fail(w, RB_ERR_MEMORY);
                return NULL;
            }
            rb_disk_free(w->options.disk, r->window, r->window_cap);
            r->window = larger;
            r->window_cap = len;
        }
        uint64_t left = f->size - offset;
        r->window_file = f;
        r->window_offset = offset;
        r->window_len = left < r->window_cap ? (uint32_t)left : r->window_cap;
        r->window_filled = 0;
        r->narrow = false;
    }
    uint32_t piece = r->narrow ? RB_DISK_ALIGN : r->window_len - r->window_filled;
    enum rb_err err =
        rb_disk_read(w->options.disk, &r->op, f->file, r->window_offset + r->window_filled,
                     r->window + r->window_filled, piece);
    if (err != RB_OK) {
        rb_recover_fail(w, err);
    }
    return NULL;
}

/* Bytes that cannot be read are zeroes: they hold nothing. Only around them the reads are single blocks. */
void rb_recover_window_read(struct wal *w)
{
    struct wal_recover *r = w->recover;
    uint32_t piece = r->op.len;
    if (r->op.err != RB_OK && !r->narrow) {
        r->narrow = true;
        return;
    }
    uint32_t got = r->op.err == RB_OK ? (uint32_t)r->op.size : 0;
    if (r->op.err != RB_OK) {
        r->unreadable = true;
    }
    if (got < piece) {
        memset(r->window + r->window_filled + got, 0, piece - got);
    }
    r->window_filled += piece;
    w->stats.scanned_bytes += piece;
}

/* A header that says that it stands where it was found, whole inside the file. */
enum rb_err rb_recover_header_at(const struct found *f, const uint8_t *bytes, uint64_t offset,
                                 struct wal_batch_header *ret_header)
{
    struct wal_batch_header header;
    enum rb_err err = rb_wal_decode_header(rb_slice_of(bytes, WAL_HEADER_BYTES), &header);
    if (err != RB_OK) {
        return err;
    }
    if (header.serial != f->serial || header.offset != offset ||
        offset + wal_pad(header.bytes) > f->size) {
        return RB_ERR_CORRUPT;
    }
    *ret_header = header;
    return RB_OK;
}

/* ---- probe: which files belong to the log, and how far it was durable ---- */

static void note_newest(struct wal_recover *r, const struct wal_batch_header *header)
{
    if (header->sequence > r->highest) {
        r->highest = header->sequence;
    }
    if (header->durable > r->durable) {
        r->durable = header->durable;
    }
    if (header->epoch > r->epoch) {
        r->epoch = header->epoch;
    }
    uint32_t at = r->recent_at++ % RECENT_COUNT;
    if (r->recent_oldest[at] > r->oldest) {
        r->oldest = r->recent_oldest[at]; /* so far back it was durable */
    }
    r->recent_sequence[at] = header->sequence;
    r->recent_oldest[at] = header->oldest;
}

/* Only what a durable batch says about files that may be reused is certain. */
static void settle_oldest(struct wal_recover *r)
{
    for (uint32_t i = 0; i < RECENT_COUNT; i++) {
        if (r->recent_sequence[i] <= r->durable && r->recent_oldest[i] > r->oldest) {
            r->oldest = r->recent_oldest[i];
        }
    }
}

/* Looks for a header in file r->at; in the newest one for all of them. True: done with it. */
static bool probe_file(struct wal *w, struct found *f, bool newest)
{
    struct wal_recover *r = w->recover;
    while (r->offset + RB_DISK_ALIGN <= f->size) {
        const uint8_t *bytes = rb_recover_need(w, f, r->offset, RB_DISK_ALIGN);
        struct wal_batch_header header;
        if (bytes == NULL) {
            return false;
        }
        enum rb_err err = rb_recover_header_at(f, bytes, r->offset, &header);
        r->offset += RB_DISK_ALIGN;
        if (err == RB_ERR_UNSUPPORTED) {
            rb_recover_fail(w, err);
            return false;
        }
        if (err != RB_OK) {
            continue;
        }
        if (!f->has_header) {
            f->has_header = true;
            f->header = header;
        }
        if (!newest) {
            return true;
        }
        if (header.log_seed == f->header.log_seed) {
            note_newest(r, &header);
        }
    }
    return true;
}

/* From the newest file to the oldest. */
bool rb_recover_probe(struct wal *w)
{
    struct wal_recover *r = w->recover;
    while (r->at > 0) {
        struct found *f = &r->found[r->at - 1];
        if (!probe_file(w, f, r->newest == SLOT_COUNT)) {
            return false;
        }
        if (f->has_header && r->newest == SLOT_COUNT) {
            r->newest = r->at - 1;
            w->log_seed = f->header.log_seed;
        }
        if (f->has_header && f->header.log_seed != w->log_seed) {
            f->use = FOUND_FOREIGN;
            f->has_header = false;
        }
        r->at--;
        r->offset = 0;
    }
    return true;
}

/* ---- the chain of files ---- */

struct found *rb_recover_find_serial(struct wal_recover *r, uint64_t serial)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->found[i].serial == serial) {
            return &r->found[i];
        }
    }
    return NULL;
}

/* The file before one whose predecessor is missing or destroyed: the newest older one of the log, if any. */
static struct found *any_before(struct wal_recover *r, uint64_t serial, uint64_t sequence)
{
    struct found *best = NULL;
    for (uint32_t i = 0; i < r->count; i++) {
        struct found *f = &r->found[i];
        if (f->serial < serial && f->has_header && f->header.file_first < sequence &&
            (best == NULL || f->serial > best->serial)) {
            best = f;
        }
    }
    return best;
}

static struct found *before(struct wal_recover *r, struct found *f)
{
    uint64_t wanted = f->header.prev_serial;
    if (wanted == 0) {
        return NULL;
    }
    struct found *prev = rb_recover_find_serial(r, wanted);
    uint64_t end = f->header.prev_end;
    if (prev == NULL || !prev->has_header) {
        if (wanted < r->oldest) {
            return NULL; /* it was reused, and so may be all before it */
        }
        f->missing_before = wanted; /* whether it is missed is known after the scan */
        prev = any_before(r, wanted, f->header.file_first);
        end = UINT64_MAX;
    }
    if (prev != NULL) {
        prev->end = end < prev->size ? end : prev->size;
        prev->sequence_max = f->header.file_first - 1;
    }
    return prev;
}

void rb_recover_build_chain(struct wal_recover *r)
{
    settle_oldest(r);
    if (r->newest == SLOT_COUNT) {
        return;
    }
    struct found *f = &r->found[r->newest];
    f->end = f->size;
    f->sequence_max = UINT64_MAX;
    for (; f != NULL; f = before(r, f)) {
        f->use = FOUND_CHAIN;
        r->chain[r->chain_count++] = (uint32_t)(f - r->found);
    }
    for (uint32_t i = 0; i < r->chain_count / 2; i++) {
        uint32_t other = r->chain[i];
        r->chain[i] = r->chain[r->chain_count - 1 - i];
        r->chain[r->chain_count - 1 - i] = other;
    }
}

/* Every file of the chain gets a slot, in order. */
enum rb_err rb_recover_take_slots(struct wal *w)
{
    struct wal_recover *r = w->recover;
    for (uint32_t i = 0; i < r->chain_count; i++) {
        struct found *f = &r->found[r->chain[i]];
        f->slot = rb_wal_slot_take(w);
        if (f->slot == SLOT_NONE) {
            return RB_ERR_LIMIT;
        }
        rb_wal_file_init(w, f->slot, f->serial, f->size, f->file);
        struct wal_file *file = &w->files[f->slot];
        file->prev_serial = f->header.prev_serial;
        file->prev_end = f->header.prev_end;
        file->first = f->header.file_first;
        file->damaged = f->damaged;
        file->marked = f->marked;
        w->order[w->order_count++] = f->slot;
    }
    return RB_OK;
}
