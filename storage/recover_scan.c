/* recover_scan.c - reads the batches of the chain in order: applies, cuts, names damage (recover.c has the rules). */
#include <string.h>

#include "ringbus/check.h"
#include "storage/recover_inside.h"

#define SKIP_MAX 65536u /* entries lost in one piece; beyond it the group begins anew behind them */

/* ---- records ---- */

/* Makes room in front of an entry whose predecessors are not there. */
static enum rb_err fit_entry(struct wal *w, const struct rb_wal_record *record)
{
    struct wal_group *g = rb_wal_group_find(w, record->group);
    bool first = !g->entry_seen;
    g->entry_seen = true;
    if (first && record->index > g->last + 1) {
        g->guessed =
            true; /* the older ones are in files that were reused; a prefix record will say so */
        g->base = g->last = record->index - 1;
        g->base_term = 0;
        return RB_OK;
    }
    if (record->index == g->last + 1) {
        return RB_OK;
    }
    g->damaged = true; /* a record in between was lost */
    if (record->index <= g->last) {
        rb_wal_index_truncate(w, g, record->index);
        return RB_OK;
    }
    if (record->index - g->last <= SKIP_MAX) {
        return rb_wal_index_skip(w, g, record->index);
    }
    rb_wal_index_truncate(w, g, g->base + 1);
    g->base = g->last = record->index - 1;
    g->base_term = 0;
    g->guessed = true;
    return RB_OK;
}

/* A group's older entries are not there, and what we took for its base is too high: it is `base`, or what a prefix record said. */
static void lower_guess(struct wal *w, struct wal_group *g, uint64_t base)
{
    rb_wal_index_truncate(w, g, g->base + 1);
    g->base = g->last = base;
    if (base <= g->known_base) {
        g->guessed = false;
        g->base = g->last = g->known_base;
        g->base_term = g->known_term;
    }
}

static enum rb_err apply_record(struct wal *w, struct found *f, const struct wal_record *found,
                                uint64_t offset)
{
    const struct rb_wal_record *record = &found->record;
    struct wal_group *g = rb_wal_group_find(w, record->group);
    bool added = g == NULL;
    if (!added && g->guessed && record->index <= g->base &&
        (record->kind == RB_WAL_ENTRY || record->kind == RB_WAL_TRUNCATE)) {
        lower_guess(w, g, record->index - 1);
    }
    if (!added && record->kind == RB_WAL_ENTRY && record->index <= g->base) {
        g->damaged = true;
        return RB_OK;
    }
    enum rb_err err = rb_wal_index_reserve(w, record);
    if (err != RB_OK) {
        return err;
    }
    g = rb_wal_group_find(w, record->group);
    if (g != NULL) {
        g->damaged = g->damaged || (!added && found->chain != g->chain);
        g->in_doubt = false;
        g->chain = found->chain + 1;
    }
    if (record->kind == RB_WAL_ENTRY) {
        err = fit_entry(w, record);
        err = err == RB_OK ? rb_wal_index_reserve(w, record) : err;
        if (err != RB_OK) {
            return err;
        }
    }
    rb_wal_index_apply(w, record, wal_place_of(f->slot, offset, record->body.len));
    w->stats.recovered_records++;
    f->record_count++;
    return RB_OK;
}

/* Whether all records of the batch hold. */
static bool batch_whole(struct wal *w, const struct found *f, const uint8_t *bytes,
                        const struct wal_batch_header *header)
{
    uint64_t at = WAL_HEADER_BYTES;
    for (uint32_t i = 0; i < header->record_count; i++) {
        struct wal_record record;
        if (rb_wal_decode_record(rb_slice_of(bytes + at, header->bytes - at), w->log_seed,
                                 f->serial, header->offset + at, &record) != RB_OK) {
            return false;
        }
        at += wal_record_bytes(record.record.body.len);
    }
    return at == header->bytes;
}

/* Applies every record in `len` bytes at `offset` that holds, wherever it stands (invariant 3). */
static enum rb_err apply_all(struct wal *w, struct found *f, const uint8_t *bytes, uint64_t offset,
                             uint64_t len)
{
    uint64_t at = 0;
    enum rb_err err = RB_OK;
    while (at + WAL_RECORD_BYTES <= len && err == RB_OK) {
        struct wal_record record;
        if (rb_wal_decode_record(rb_slice_of(bytes + at, len - at), w->log_seed, f->serial,
                                 offset + at, &record) == RB_OK) {
            err = apply_record(w, f, &record, offset + at);
            at += wal_record_bytes(record.record.body.len);
        } else {
            at += 8;
        }
    }
    return err;
}

void rb_recover_name_damage(struct wal *w, struct found *f, uint64_t from, uint64_t end,
                            uint64_t first_batch, uint64_t batches)
{
    struct rb_wal_damage damage = { .offset = from,
                                    .bytes = end > from ? end - from : 0,
                                    .first_batch = first_batch,
                                    .batches = batches };
    rb_wal_base_name(damage.file, f->serial, ".wal");
    rb_wal_damage(w, &damage);
    f->damaged = true;
    if (f->slot != SLOT_NONE) {
        w->files[f->slot].damaged = true;
    }
    uint32_t at = 0;
    struct wal_group *g;
    while ((g = rb_map_next(&w->groups, &at)) != NULL) {
        g->in_doubt = true;
    }
}

/* ---- the scan ---- */

/* The log ends here: at the position, or where the gap before it began. */
static void cut_here(struct wal *w)
{
    struct wal_recover *r = w->recover;
    if (r->in_gap) {
        r->chain_at = r->gap_chain;
        r->offset = r->gap_from;
    }
    if (r->highest >= r->expect && r->highest > r->durable) {
        uint64_t first = r->expect > r->durable ? r->expect : r->durable + 1;
        w->stats.torn_batches += r->highest - first + 1;
    }
    if (r->expect <= r->durable) { /* batches that were acknowledged are not there at all */
        struct found *f = chain_file(r, r->chain_at);
        rb_recover_name_damage(w, f, r->offset, f->end, r->expect, r->durable - r->expect + 1);
        r->expect = r->durable + 1;
    }
    r->cut = true;
}

/* Blocks without a batch, up to the present position, were damaged: what holds in them is applied. */
static bool close_gap(struct wal *w)
{
    struct wal_recover *r = w->recover;
    const struct wal_batch_header *header = &r->behind_gap;
    struct found *f = chain_file(r, r->gap_chain);
    uint64_t end = r->gap_chain == r->chain_at ? r->offset : f->end;
    uint64_t len = end - r->gap_from;
    if (len > 0 && len <= WAL_BATCH_MAX) {
        const uint8_t *bytes = rb_recover_need(w, f, r->gap_from, (uint32_t)len);
        if (bytes == NULL) {
            return false;
        }
        rb_recover_name_damage(w, f, r->gap_from, end, r->expect, header->sequence - r->expect);
        enum rb_err err = apply_all(w, f, bytes, r->gap_from, len);
        if (err != RB_OK) {
            rb_recover_fail(w, err);
            return false;
        }
    } else {
        rb_recover_name_damage(w, f, r->gap_from, end, r->expect, header->sequence - r->expect);
    }
    r->in_gap = r->closing = false;
    r->expect = header->sequence;
    return true;
}

static void accepted(struct wal_recover *r, struct found *f, const struct wal_batch_header *header)
{
    f->last_sequence = header->sequence;
    r->expect = header->sequence + 1;
    f->oldest = header->oldest;
    r->offset += wal_pad(header->bytes);
    if (header->epoch > r->epoch) {
        r->epoch = header->epoch;
    }
}

/* A batch with the expected sequence. False: wait, or the end. */
static bool take_batch(struct wal *w, struct found *f, const struct wal_batch_header *header)
{
    struct wal_recover *r = w->recover;
    const uint8_t *bytes = rb_recover_need(w, f, r->offset, (uint32_t)wal_pad(header->bytes));
    if (bytes == NULL) {
        return false;
    }
    if (!batch_whole(w, f, bytes, header)) {
        if (header->sequence > r->durable && r->unreadable) {
            rb_recover_fail(w, RB_ERR_IO); /* it may well have been durable: not ours to cut */
            return false;
        }
        if (header->sequence > r->durable) {
            cut_here(w);
            return false;
        }
        rb_recover_name_damage(w, f, r->offset, r->offset + wal_pad(header->bytes),
                               header->sequence, 1);
    }
    enum rb_err err = apply_all(w, f, bytes + WAL_HEADER_BYTES, r->offset + WAL_HEADER_BYTES,
                                header->bytes - WAL_HEADER_BYTES);
    if (err != RB_OK) {
        rb_recover_fail(w, err);
        return false;
    }
    accepted(r, f, header);
    return true;
}

/* No batch that fits stands here. False: the log ends. */
static bool skip_block(struct wal *w)
{
    struct wal_recover *r = w->recover;
    const struct found *f = chain_file(r, r->chain_at);
    if (r->expect > f->sequence_max) {
        r->offset = f->end; /* nothing more of this file belongs to the log */
        return true;
    }
    if (r->expect > r->durable) {
        if (r->unreadable) {
            rb_recover_fail(w, RB_ERR_IO);
        } else {
            cut_here(w);
        }
        return false;
    }
    if (!r->in_gap) {
        r->in_gap = true;
        r->gap_chain = r->chain_at;
        r->gap_from = r->offset;
    }
    r->offset += RB_DISK_ALIGN;
    return true;
}

/* One block of the scan. False: wait, or the end. */
static bool scan_block(struct wal *w, struct found *f)
{
    struct wal_recover *r = w->recover;
    struct wal_batch_header header;
    if (r->closing) {
        return close_gap(w);
    }
    const uint8_t *bytes = rb_recover_need(w, f, r->offset, RB_DISK_ALIGN);
    if (bytes == NULL) {
        return false;
    }
    enum rb_err err = rb_recover_header_at(f, bytes, r->offset, &header);
    if (err == RB_ERR_UNSUPPORTED) {
        rb_recover_fail(w, err);
        return false;
    }
    bool fits = err == RB_OK && header.log_seed == w->log_seed && header.sequence >= r->expect &&
                header.sequence <= f->sequence_max && header.file_first == f->header.file_first &&
                header.prev_serial == f->header.prev_serial;
    if (!fits || (header.sequence > r->expect && header.sequence - 1 > r->durable)) {
        return skip_block(w); /* or: what is missing before it was torn, at least in part */
    }
    if (r->in_gap && header.sequence == r->expect) {
        r->in_gap =
            false; /* nothing is missing after all: the rest of a file whose end is not known */
    } else if (header.sequence > r->expect) {
        if (!r->in_gap) {
            r->in_gap = true;
            r->gap_chain = r->chain_at;
            r->gap_from = r->offset;
        }
        r->closing = true;
        r->behind_gap = header;
        return true; /* then this block again */
    }
    return take_batch(w, f, &header);
}

/* Behind a file that is not there the sequence goes on with what is: whether it is missed, the end of the scan tells. */
static void next_file(struct wal_recover *r)
{
    r->chain_at++;
    r->offset = 0;
    struct found *f = chain_file(r, r->chain_at);
    if (f->missing_before != 0 && f->header.file_first > r->expect) {
        r->expect = f->header.file_first;
        r->in_gap = false;
    }
}

/* True: every file was read, or the log was cut. */
bool rb_recover_scan(struct wal *w)
{
    struct wal_recover *r = w->recover;
    while (!r->cut && r->step == SCAN) {
        struct found *f = chain_file(r, r->chain_at);
        if (r->offset + RB_DISK_ALIGN <= f->end) {
            if (!scan_block(w, f) && !r->cut) {
                return false;
            }
        } else if (r->chain_at + 1 < r->chain_count) {
            next_file(r);
        } else {
            cut_here(w);
        }
    }
    return r->step == SCAN;
}
