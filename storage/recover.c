/* recover.c - opens the log: finds its files, reads them once in order, cuts the torn tail, names what is damaged.
 *
 *   list -> open each -> probe headers, newest first -> chain -> scan, oldest first -> sync -> names -> new file -> open
 *
 * 1. A batch is *accepted* when its header and all its records hold and its sequence is the expected one. Accepted batches
 *    are applied in order, whole.
 * 2. `durable` is the highest durable mark of any header in the newest file. A batch that is not there or not whole is torn
 *    when its sequence is above it (nobody was told of it: the log is cut there), and damaged otherwise.
 * 3. Inside damage single records that hold are applied: each has its own checksum over place and content. What else the
 *    damage took is unknown, so every group is in doubt until its next record shows that none of its own is missing (chain).
 * 4. What lies behind the end that a file's successor names, and batches whose sequence does not fit the chain, are remains
 *    of an earlier epoch's torn tail.
 * 5. Before the log is open all accepted bytes are made durable, since they may have been read from a cache, and a new
 *    file begins: nothing is written behind a cut (but on a full disk, see step_clear_tail).
 * 6. One disk operation at a time. step() runs until it has to wait for one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"
#include "storage/wal_inside.h"

#define LIST_BYTES (256u << 10)
#define WINDOW_BYTES (4u << 20)
#define RECENT_COUNT (2 * RB_WAL_WRITES_MAX) /* more than can be in flight */
#define SKIP_MAX                                                                                   \
    65536u /* entries that may be lost in one piece; beyond it the group begins anew behind them */

enum step {
    MAKE_DIRECTORY,
    SYNC_PARENT,
    LIST,
    OPEN,
    PROBE,
    SCAN,
    SYNC,
    NAMES,
    SYNC_NAMES,
    NEW_FILE,
    CLEAR_TAIL,
    FIRST_BATCH,
    DONE,
};

enum found_use {
    FOUND_UNKNOWN,
    FOUND_CHAIN,
    FOUND_DESTROYED,
    FOUND_FOREIGN,
    FOUND_LOST,
    FOUND_FREE
};

struct found {
    uint64_t serial, size, true_size; /* size: whole blocks of it */
    struct rb_disk_file *file;
    bool marked;     /* its name ends in .damaged */
    bool has_header; /* `header` is one of its batches' */
    bool damaged;
    enum found_use use;
    uint64_t
        missing_before; /* serial of its predecessor that is not there; 0: it is, or there is none */
    uint64_t end;       /* where its batches end, by its successor */
    uint64_t sequence_max;                        /* of its batches, by its successor */
    uint64_t last_sequence, record_count, oldest; /* of its accepted batches */
    struct wal_batch_header header;
    uint16_t slot;
};

struct wal_recover {
    struct rb_disk_op op;
    enum step step;
    bool started; /* the operation of this step was started */
    char *names;
    uint64_t names_bytes, names_at;
    char name[NAME_BYTES], name_to[NAME_BYTES];
    struct found found[SLOT_COUNT];
    uint32_t count, at;

    /* the window: bytes of one file */
    uint8_t *window;
    uint32_t window_cap, window_len, window_filled;
    uint64_t window_offset;
    struct found *window_file;
    bool narrow, unreadable; /* reading block by block after a failure; a block could not be read */

    uint32_t newest;                  /* in found; SLOT_COUNT: none */
    uint64_t durable, highest, epoch; /* the highest of its marks (invariant 2) */
    uint64_t oldest;                  /* of its batches that were surely durable */
    uint64_t recent_sequence[RECENT_COUNT], recent_oldest[RECENT_COUNT]; /* of its last batches */
    uint32_t recent_at;
    uint32_t chain[SLOT_COUNT];
    uint32_t chain_count;

    uint32_t chain_at;
    uint64_t offset, expect;
    bool in_gap;
    uint32_t gap_chain;
    uint64_t gap_from;
    bool closing; /* the gap ends before `behind_gap`, at the present position */
    struct wal_batch_header behind_gap;
    bool cut;
};

static void fail(struct wal *w, enum rb_err err)
{
    w->recover->step = DONE;
    wal_opened(w, err);
}

/* ---- names ---- */

/* Reads "0123456789abcdef" and what follows; false when it is not a file of the log. */
static bool parse_name(const char *name, uint64_t *ret_serial, const char **ret_suffix)
{
    uint64_t serial = 0;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (c >= '0' && c <= '9') {
            serial = serial << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            serial = serial << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return false;
        }
    }
    *ret_serial = serial;
    *ret_suffix = name + 16;
    return serial > 0 && serial < UINT64_MAX / 2;
}

/* The next name that is to be opened; false after the last. Others are left alone. */
static bool next_name(struct wal *w, struct found *ret_found)
{
    struct wal_recover *r = w->recover;
    while (r->names_at < r->names_bytes) {
        const char *name = r->names + r->names_at;
        const char *suffix;
        uint64_t serial;
        r->names_at += strlen(name) + 1;
        if (!parse_name(name, &serial, &suffix)) {
            continue;
        }
        if (serial >= w->next_serial) {
            w->next_serial = serial + 1;
        }
        bool marked = strcmp(suffix, ".wal.damaged") == 0;
        if (marked || strcmp(suffix, ".wal.aside") == 0) {
            w->kept_damaged++;
        }
        if (marked || strcmp(suffix, ".wal") == 0) {
            *ret_found = (struct found){ .serial = serial, .marked = marked, .damaged = marked };
            snprintf(r->name, sizeof(r->name), "%s/%s", w->options.directory, name);
            return true;
        }
    }
    return false;
}

static const char *parent_of(struct wal *w)
{
    struct wal_recover *r = w->recover;
    snprintf(r->name, sizeof(r->name), "%s", w->options.directory);
    char *slash = strrchr(r->name, '/');
    if (slash == NULL) {
        return ".";
    }
    *slash = '\0';
    return r->name;
}

/* ---- the window ---- */

/* The bytes [offset, offset + len) of the file when they are there; NULL: a read was started, or the log has failed. */
static uint8_t *need(struct wal *w, struct found *f, uint64_t offset, uint32_t len)
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
                fail(w, RB_ERR_MEMORY);
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
        fail(w, err);
    }
    return NULL;
}

/* Bytes that cannot be read are zeroes: they hold nothing. Only around them the reads are single blocks. */
static void window_read(struct wal *w)
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
static enum rb_err header_at(const struct found *f, const uint8_t *bytes, uint64_t offset,
                             struct wal_batch_header *ret_header)
{
    struct wal_batch_header header;
    enum rb_err err = wal_decode_header(rb_slice_of(bytes, WAL_HEADER_BYTES), &header);
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
        const uint8_t *bytes = need(w, f, r->offset, RB_DISK_ALIGN);
        struct wal_batch_header header;
        if (bytes == NULL) {
            return false;
        }
        enum rb_err err = header_at(f, bytes, r->offset, &header);
        r->offset += RB_DISK_ALIGN;
        if (err == RB_ERR_UNSUPPORTED) {
            fail(w, err);
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

static int by_serial(const void *a, const void *b)
{
    const struct found *x = a;
    const struct found *y = b;
    return x->serial < y->serial ? -1 : x->serial > y->serial;
}

/* From the newest file to the oldest. */
static bool step_probe(struct wal *w)
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

static struct found *find_serial(struct wal_recover *r, uint64_t serial)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->found[i].serial == serial) {
            return &r->found[i];
        }
    }
    return NULL;
}

/* The file before one whose predecessor is missing or destroyed: the newest older one of the log, if any. */
static struct found *any_before(struct wal_recover *r, uint64_t serial)
{
    struct found *best = NULL;
    for (uint32_t i = 0; i < r->count; i++) {
        struct found *f = &r->found[i];
        if (f->serial < serial && f->has_header && (best == NULL || f->serial > best->serial)) {
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
    struct found *prev = find_serial(r, wanted);
    uint64_t end = f->header.prev_end;
    if (prev == NULL || !prev->has_header) {
        if (wanted < r->oldest) {
            return NULL; /* it was reused, and so may be all before it */
        }
        f->missing_before = wanted; /* whether it is missed is known after the scan */
        prev = any_before(r, wanted);
        end = UINT64_MAX;
    }
    if (prev != NULL) {
        prev->end = end < prev->size ? end : prev->size;
        prev->sequence_max = f->header.file_first - 1;
    }
    return prev;
}

static void build_chain(struct wal_recover *r)
{
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
static enum rb_err take_slots(struct wal *w)
{
    struct wal_recover *r = w->recover;
    for (uint32_t i = 0; i < r->chain_count; i++) {
        struct found *f = &r->found[r->chain[i]];
        f->slot = wal_slot_take(w);
        if (f->slot == SLOT_NONE) {
            return RB_ERR_LIMIT;
        }
        wal_file_init(w, f->slot, f->serial, f->size, f->file);
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

/* ---- records ---- */

/* Makes room in front of an entry whose predecessors are not there. */
static enum rb_err fit_entry(struct wal *w, const struct rb_log_record *record)
{
    struct wal_group *g = wal_group_find(w, record->group);
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
        wal_index_truncate(w, g, record->index);
        return RB_OK;
    }
    if (record->index - g->last <= SKIP_MAX) {
        return wal_index_skip(w, g, record->index);
    }
    wal_index_truncate(w, g, g->base + 1);
    g->base = g->last = record->index - 1;
    g->base_term = 0;
    g->guessed = true;
    return RB_OK;
}

/* A group's older entries are not there, and what we took for its base is too high: it is `base`, or what a prefix record said. */
static void lower_guess(struct wal *w, struct wal_group *g, uint64_t base)
{
    wal_index_truncate(w, g, g->base + 1);
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
    const struct rb_log_record *record = &found->record;
    struct wal_group *g = wal_group_find(w, record->group);
    bool added = g == NULL;
    if (!added && g->guessed && record->index <= g->base &&
        (record->kind == RB_LOG_ENTRY || record->kind == RB_LOG_TRUNCATE)) {
        lower_guess(w, g, record->index - 1);
    }
    if (!added && record->kind == RB_LOG_ENTRY && record->index <= g->base) {
        g->damaged = true;
        return RB_OK;
    }
    enum rb_err err = wal_index_reserve(w, record);
    if (err != RB_OK) {
        return err;
    }
    g = wal_group_find(w, record->group);
    if (g != NULL) {
        g->damaged = g->damaged || (!added && found->chain != g->chain);
        g->in_doubt = false;
        g->chain = found->chain + 1;
    }
    if (record->kind == RB_LOG_ENTRY) {
        err = fit_entry(w, record);
        err = err == RB_OK ? wal_index_reserve(w, record) : err;
        if (err != RB_OK) {
            return err;
        }
    }
    wal_index_apply(w, record, wal_place_of(f->slot, offset, record->body.len));
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
        if (wal_decode_record(rb_slice_of(bytes + at, header->bytes - at), w->log_seed, f->serial,
                              header->offset + at, &record) != RB_OK) {
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
        if (wal_decode_record(rb_slice_of(bytes + at, len - at), w->log_seed, f->serial,
                              offset + at, &record) == RB_OK) {
            err = apply_record(w, f, &record, offset + at);
            at += wal_record_bytes(record.record.body.len);
        } else {
            at += 8;
        }
    }
    return err;
}

static void name_damage(struct wal *w, struct found *f, uint64_t from, uint64_t end,
                        uint64_t first_batch, uint64_t batches)
{
    struct rb_log_damage damage = { .offset = from,
                                    .bytes = end > from ? end - from : 0,
                                    .first_batch = first_batch,
                                    .batches = batches };
    wal_base_name(damage.file, f->serial, ".wal");
    wal_damage(w, &damage);
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

static struct found *chain_file(struct wal_recover *r, uint32_t at)
{
    return &r->found[r->chain[at]];
}

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
        name_damage(w, f, r->offset, f->end, r->expect, r->durable - r->expect + 1);
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
        const uint8_t *bytes = need(w, f, r->gap_from, (uint32_t)len);
        if (bytes == NULL) {
            return false;
        }
        name_damage(w, f, r->gap_from, end, r->expect, header->sequence - r->expect);
        enum rb_err err = apply_all(w, f, bytes, r->gap_from, len);
        if (err != RB_OK) {
            fail(w, err);
            return false;
        }
    } else {
        name_damage(w, f, r->gap_from, end, r->expect, header->sequence - r->expect);
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
    const uint8_t *bytes = need(w, f, r->offset, (uint32_t)wal_pad(header->bytes));
    if (bytes == NULL) {
        return false;
    }
    if (!batch_whole(w, f, bytes, header)) {
        if (header->sequence > r->durable && r->unreadable) {
            fail(w, RB_ERR_IO); /* it may well have been durable: not ours to cut */
            return false;
        }
        if (header->sequence > r->durable) {
            cut_here(w);
            return false;
        }
        name_damage(w, f, r->offset, r->offset + wal_pad(header->bytes), header->sequence, 1);
    }
    enum rb_err err = apply_all(w, f, bytes + WAL_HEADER_BYTES, r->offset + WAL_HEADER_BYTES,
                                header->bytes - WAL_HEADER_BYTES);
    if (err != RB_OK) {
        fail(w, err);
        return false;
    }
    accepted(r, f, header);
    return true;
}

/* No batch that fits stands here. False: the log ends. */
static bool skip_block(struct wal *w)
{
    struct wal_recover *r = w->recover;
    if (r->expect > r->durable) {
        if (r->unreadable) {
            fail(w, RB_ERR_IO);
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
    const uint8_t *bytes = need(w, f, r->offset, RB_DISK_ALIGN);
    if (bytes == NULL) {
        return false;
    }
    enum rb_err err = header_at(f, bytes, r->offset, &header);
    if (err == RB_ERR_UNSUPPORTED) {
        fail(w, err);
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

/* True: every file was read, or the log was cut. */
static bool step_scan(struct wal *w)
{
    struct wal_recover *r = w->recover;
    while (!r->cut && r->step == SCAN) {
        struct found *f = chain_file(r, r->chain_at);
        if (r->offset + RB_DISK_ALIGN <= f->end) {
            if (!scan_block(w, f) && !r->cut) {
                return false;
            }
        } else if (r->chain_at + 1 < r->chain_count) {
            r->chain_at++;
            r->offset = 0;
        } else {
            cut_here(w);
        }
    }
    return r->step == SCAN;
}

static void go(struct wal_recover *r, enum step step)
{
    r->step = step;
    r->started = false;
    r->at = 0;
}

static void begin_scan(struct wal *w)
{
    struct wal_recover *r = w->recover;
    settle_oldest(r);
    build_chain(r);
    enum rb_err err = take_slots(w);
    if (err != RB_OK) {
        fail(w, err);
        return;
    }
    go(r, SCAN);
    r->offset = 0;
    if (r->chain_count == 0) {
        r->cut = true;
        r->expect = 1;
        return;
    }
    r->expect = chain_file(r, 0)->header.file_first;
}

/* ---- after the scan ---- */

static uint64_t accepted_oldest(struct wal_recover *r)
{
    uint64_t oldest = 1;
    for (uint32_t i = 0; i < r->chain_count; i++) {
        if (chain_file(r, i)->oldest > oldest) {
            oldest = chain_file(r, i)->oldest;
        }
    }
    return oldest;
}

/* What was scanned is forgotten. */
static void forget_scan(struct wal *w)
{
    struct wal_recover *r = w->recover;
    wal_index_deinit(w);
    wal_index_init(w);
    for (uint32_t i = 0; i < r->chain_count; i++) {
        struct found *f = chain_file(r, i);
        w->files[f->slot] = (struct wal_file){ 0 };
        f->slot = SLOT_NONE;
        f->use = FOUND_UNKNOWN;
        f->damaged = f->marked;
        f->last_sequence = f->record_count = f->oldest = 0;
    }
    w->order_count = 0;
    w->damage_count = 0;
    w->index_bytes = 0;
    w->stats = (struct rb_log_stats){ .scanned_bytes = w->stats.scanned_bytes };
    r->chain_count = r->chain_at = 0;
    r->cut = r->in_gap = r->closing = false;
}

/* The scan began too far back: a file that is not there was reused, as an accepted batch says, so what is older is not of the
 * log any more. True: the scan begins again behind it. */
static bool scan_again(struct wal *w)
{
    struct wal_recover *r = w->recover;
    uint64_t oldest = accepted_oldest(r);
    if (oldest <= r->oldest) {
        return false;
    }
    for (uint32_t i = 1; i < r->chain_count; i++) {
        uint64_t gone = chain_file(r, i)->missing_before;
        if (gone != 0 && gone < oldest) {
            r->oldest = oldest;
            forget_scan(w);
            begin_scan(w);
            return true;
        }
    }
    return false;
}

/* Whether the last file has nothing to say: neither records nor that older files may be reused. */
static bool not_needed(const struct found *prev, const struct found *last)
{
    return last->record_count == 0 && !last->damaged && last->missing_before == 0 &&
           (last->oldest == 0 || last->oldest == prev->oldest);
}

/* Files of the chain behind the cut hold nothing that was acknowledged; a last one without records is not needed. */
static void end_chain(struct wal *w)
{
    struct wal_recover *r = w->recover;
    uint32_t keep = r->chain_count == 0 ? 0 : r->chain_at + 1;
    w->write_offset = r->offset;
    while (keep > 1 && not_needed(chain_file(r, keep - 2), chain_file(r, keep - 1))) {
        struct found *f = chain_file(r, keep - 1);
        r->expect = f->header.file_first;
        keep--;
        w->write_offset = chain_file(r, keep - 1)->end;
    }
    for (uint32_t i = keep; i < r->chain_count; i++) {
        struct found *f = chain_file(r, i);
        f->use = FOUND_FREE;
        w->files[f->slot].file = NULL; /* it stays open for its next use */
        w->files[f->slot] = (struct wal_file){ 0 };
    }
    r->chain_count = keep;
    w->order_count = keep;
    w->tail_closed = true;
}

/* Files that are not there, or hold no batch at all, and are needed. */
static void report_missing(struct wal *w)
{
    struct wal_recover *r = w->recover;
    for (uint32_t i = 0; i < r->chain_count; i++) {
        struct found gone = { .serial = chain_file(r, i)->missing_before, .slot = SLOT_NONE };
        if (gone.serial == 0 || gone.serial < accepted_oldest(r)) {
            continue;
        }
        if (gone.serial < w->oldest_limit) {
            w->oldest_limit = gone.serial;
        }
        struct found *destroyed = find_serial(r, gone.serial);
        if (destroyed != NULL && destroyed->use == FOUND_UNKNOWN) {
            destroyed->use = FOUND_DESTROYED;
        }
        name_damage(w, &gone, 0, 0, 0, 0);
    }
}

/* Whether a file outside the chain holds, or held, what nobody can tell any more. Files get their names when they have their
 * whole size, so one without it was cut off. */
static bool is_lost(struct wal *w, const struct found *f)
{
    const struct wal_recover *r = w->recover;
    const struct found *newest = r->newest == SLOT_COUNT ? NULL : &r->found[r->newest];
    if (f->use != FOUND_UNKNOWN || f->has_header) {
        return f->use == FOUND_FOREIGN;
    }
    bool whole = f->true_size >= w->options.file_bytes ||
                 (newest != NULL && f->true_size == newest->header.file_bytes);
    return f->marked || (!whole && (newest == NULL || f->serial > newest->serial));
}

static void report_lost(struct wal *w)
{
    struct wal_recover *r = w->recover;
    for (uint32_t i = 0; i < r->count; i++) {
        struct found *f = &r->found[i];
        if (f->use == FOUND_CHAIN && f->true_size < f->header.file_bytes) {
            name_damage(w, f, f->true_size, f->header.file_bytes, 0, 0);
        } else if (is_lost(w, f)) {
            f->use = FOUND_LOST;
            name_damage(w, f, 0, f->true_size, 0, 0);
        }
    }
}

static void settle_groups(struct wal *w)
{
    uint32_t at = 0;
    struct wal_group *g;
    while ((g = rb_map_next(&w->groups, &at)) != NULL) {
        g->damaged = g->damaged || g->guessed;
        g->guessed = false;
    }
}

static void settle(struct wal *w)
{
    struct wal_recover *r = w->recover;
    report_lost(
        w); /* first: a last file of which only the beginning is left must not pass for an empty one */
    end_chain(w);
    report_missing(w);
    settle_groups(w);
    w->sequence = r->expect == 0 ? 1 : r->expect;
    w->released = w->sequence - 1;
    w->epoch = r->epoch + 1;
    w->durable_oldest = r->chain_count == 0 ? 1 : chain_file(r, r->chain_count - 1)->oldest;
    struct wal_file *last = wal_current(w);
    w->released_serial = last == NULL ? 0 : last->serial;
    w->released_end = w->write_offset;
    while (w->log_seed == 0) {
        w->options.env->entropy(w->options.env->ctx, &w->log_seed, sizeof(w->log_seed));
    }
}

/* Starts the sync of the next file whose accepted batches may be in a cache only. True: none is left. */
static bool step_sync(struct wal *w)
{
    struct wal_recover *r = w->recover;
    while (r->at < r->chain_count) {
        struct found *f = chain_file(r, r->at++);
        if (f->last_sequence > r->durable) {
            enum rb_err err = rb_disk_sync(w->options.disk, &r->op, f->file);
            if (err != RB_OK) {
                fail(w, err);
            }
            return false;
        }
    }
    return true;
}

/* Files that are not of the chain: reused, removed, or set aside under another name. True: none is left. */
static bool step_names(struct wal *w)
{
    struct wal_recover *r = w->recover;
    while (r->at < r->count) {
        struct found *f = &r->found[r->at++];
        bool marked = f->marked || f->damaged;
        struct rb_disk_file *handle = f->file;
        enum rb_err err = RB_OK;
        f->file = NULL; /* the slot's, or closed below */
        wal_name(w, r->name, f->serial, f->marked ? ".wal.damaged" : ".wal");
        if (f->use == FOUND_CHAIN) {
            if (!marked || f->marked) {
                continue;
            }
            wal_name(w, r->name_to, f->serial, ".wal.damaged");
            w->files[f->slot].marked = true;
            w->kept_damaged++;
            err = rb_disk_rename(w->options.disk, &r->op, r->name, r->name_to);
        } else if (f->use == FOUND_LOST) {
            rb_disk_close(w->options.disk, handle);
            if (w->lost_count < RB_LOG_DAMAGES_MAX) {
                w->lost[w->lost_count++] = f->serial;
            }
            if (f->marked) {
                continue;
            }
            wal_name(w, r->name_to, f->serial, ".wal.damaged");
            w->kept_damaged++;
            err = rb_disk_rename(w->options.disk, &r->op, r->name, r->name_to);
        } else if (f->use == FOUND_DESTROYED || marked) {
            rb_disk_close(w->options.disk, handle);
            wal_name(w, r->name_to, f->serial, ".wal.aside");
            w->kept_damaged += f->marked ? 0 : 1;
            err = rb_disk_rename(w->options.disk, &r->op, r->name, r->name_to);
        } else if (f->size == w->options.file_bytes && w->spare_count < SPARES_MAX) {
            uint16_t slot = wal_slot_take(w);
            wal_file_init(w, slot, f->serial, f->size, handle);
            w->spares[w->spare_count++] = slot;
            continue;
        } else {
            rb_disk_close(w->options.disk, handle);
            err = rb_disk_remove(w->options.disk, &r->op, r->name);
        }
        if (err != RB_OK) {
            fail(w, err);
        }
        return false;
    }
    return true;
}

/* Waits for the first file; without one (full disk) the log opens for reading and for later. */
static bool step_new_file(struct wal *w)
{
    if (w->files_step != FILES_IDLE) {
        return false;
    }
    if (w->stopped) {
        fail(w, w->stopped_err);
        return false;
    }
    if (w->next_ready || w->full || w->limited) {
        return true;
    }
    wal_files_step(w, wal_now(w));
    return w->files_step == FILES_IDLE; /* nothing could be started */
}

/* Without a new file the last one is written on. What is behind its end is overwritten with zeroes first: no torn batch of
 * this serial may stand where new ones will. A file without batches behind it is the only one that gets here, since one that
 * was cut off would be a spare, and then there would be a new file. */
static bool step_clear_tail(struct wal *w)
{
    struct wal_recover *r = w->recover;
    struct wal_file *file = wal_current(w);
    if (w->next_ready || file == NULL || file->damaged || file->size > w->options.file_bytes) {
        return true;
    }
    if (!r->started) {
        r->started = true;
        r->offset = w->write_offset;
        r->window_file = NULL;
        memset(r->window, 0, r->window_cap);
    }
    if (r->offset == file->size) {
        w->tail_closed = false;
        return true;
    }
    uint64_t left = file->size - r->offset;
    uint32_t len = left < r->window_cap ? (uint32_t)left : r->window_cap;
    enum rb_err err = rb_disk_write(w->options.disk, &r->op, file->file, r->offset, r->window, len);
    r->offset += len;
    if (err != RB_OK) {
        fail(w, err);
    }
    return false;
}

static bool step_first_batch(struct wal *w)
{
    struct wal_recover *r = w->recover;
    if (!r->started) {
        r->started = true;
        w->next_flags = WAL_FLAG_OPENED;
        if (w->next_ready) {
            wal_rotate(w);
        } else if (w->tail_closed || w->write_offset == wal_current(w)->size) {
            return true;
        }
        if (!wal_submit_mark(w, 0)) {
            fail(w, RB_ERR_FULL);
            return false;
        }
    }
    if (w->stopped) {
        fail(w, w->stopped_err);
        return false;
    }
    return w->flying_count == 0;
}

/* ---- the steps ---- */

/* Starts the operation of a step that has one. */
static enum rb_err start_op(struct wal *w)
{
    struct wal_recover *r = w->recover;
    struct rb_disk *disk = w->options.disk;
    switch (r->step) {
    case MAKE_DIRECTORY:
        return rb_disk_make_directory(disk, &r->op, w->options.directory);
    case SYNC_PARENT:
        return rb_disk_sync_directory(disk, &r->op, parent_of(w));
    case LIST:
        return rb_disk_list(disk, &r->op, w->options.directory, r->names, LIST_BYTES);
    case SYNC_NAMES:
        return rb_disk_sync_directory(disk, &r->op, w->options.directory);
    default:
        rb_unreachable("the other steps start theirs themselves");
    }
}

/* True: go on. */
static bool step_open(struct wal *w)
{
    struct wal_recover *r = w->recover;
    struct found *f = &r->found[r->count];
    if (r->started) {
        f->file = r->op.file;
        f->true_size = r->op.size;
        f->size = r->op.size / RB_DISK_ALIGN * RB_DISK_ALIGN;
        f->slot = SLOT_NONE;
        r->count++;
        f++;
        r->started = false;
    }
    if (r->count == SLOT_COUNT) {
        fail(w, RB_ERR_LIMIT);
        return false;
    }
    if (!next_name(w, f)) {
        qsort(r->found, r->count, sizeof(r->found[0]), by_serial);
        return true;
    }
    r->started = true;
    enum rb_err err = rb_disk_open(w->options.disk, &r->op, r->name, RB_DISK_DURABLE);
    if (err != RB_OK) {
        fail(w, err);
    }
    return false;
}

/* Does what can be done now; true: the next step may begin. */
static bool run_step(struct wal *w)
{
    struct wal_recover *r = w->recover;
    switch (r->step) {
    case MAKE_DIRECTORY:
    case SYNC_PARENT:
    case LIST:
    case SYNC_NAMES:
        if (!r->started) {
            r->started = true;
            enum rb_err err = start_op(w);
            if (err != RB_OK) {
                fail(w, err);
            }
            return false;
        }
        return true;
    case OPEN:
        return step_open(w);
    case PROBE:
        return step_probe(w);
    case SCAN:
        return step_scan(w);
    case SYNC:
        return step_sync(w);
    case NAMES:
        return step_names(w);
    case NEW_FILE:
        return step_new_file(w);
    case CLEAR_TAIL:
        return step_clear_tail(w);
    case FIRST_BATCH:
        return step_first_batch(w);
    case DONE:
        break;
    }
    return false;
}

static void next_step(struct wal *w)
{
    struct wal_recover *r = w->recover;
    switch (r->step) {
    case LIST:
        r->names_bytes = r->op.size;
        go(r, OPEN);
        break;
    case OPEN:
        go(r, PROBE);
        r->at = r->count;
        r->offset = 0;
        break;
    case PROBE:
        begin_scan(w);
        break;
    case SCAN:
        if (!scan_again(w)) {
            settle(w);
            go(r, SYNC);
        }
        break;
    case FIRST_BATCH:
        r->step = DONE;
        wal_opened(w, RB_OK);
        break;
    default:
        go(r, r->step + 1);
        break;
    }
}

void wal_recover_step(struct wal *w)
{
    struct wal_recover *r = w->recover;
    if (r->op.in_flight || r->step == DONE) {
        return;
    }
    if (r->step == PROBE || r->step == SCAN) {
        window_read(w);
    } else if (r->step != NEW_FILE && r->step != FIRST_BATCH && r->op.err != RB_OK) {
        fail(w, r->op.err);
    }
    while (w->phase == WAL_OPENING && run_step(w)) {
        next_step(w);
    }
    if (w->phase != WAL_OPENING) {
        wal_recover_free(w);
    }
}

void wal_recover_free(struct wal *w)
{
    struct wal_recover *r = w->recover;
    if (r == NULL) {
        return;
    }
    rb_assert(!r->op.in_flight);
    for (uint32_t i = 0; w->phase == WAL_FAILED && i < r->count; i++) {
        struct found *f = &r->found[i];
        if (f->file != NULL && (f->slot == SLOT_NONE || w->files[f->slot].file != f->file)) {
            rb_disk_close(w->options.disk, f->file);
        }
    }
    rb_disk_free(w->options.disk, r->window, r->window_cap);
    rb_free(w->options.budget, r->names, LIST_BYTES);
    rb_free(w->options.budget, r, sizeof(*r));
    w->recover = NULL;
}

enum rb_err wal_recover_start(struct wal *w)
{
    struct wal_recover *r = rb_alloc(w->options.budget, sizeof(*r));
    if (r == NULL) {
        return RB_ERR_MEMORY;
    }
    w->recover = r;
    w->next_serial = 1;
    r->newest = SLOT_COUNT;
    r->op.owner = w;
    r->op.tag = TAG_RECOVER;
    r->names = rb_alloc(w->options.budget, LIST_BYTES);
    r->window_cap = w->options.batch_bytes > WINDOW_BYTES ? w->options.batch_bytes : WINDOW_BYTES;
    if (w->options.file_bytes < r->window_cap) {
        r->window_cap = (uint32_t)w->options.file_bytes;
    }
    r->window = rb_disk_alloc(w->options.disk, r->window_cap);
    if (r->names == NULL || r->window == NULL) {
        return RB_ERR_MEMORY;
    }
    go(r, MAKE_DIRECTORY);
    (void)run_step(w);
    return w->phase == WAL_FAILED ? w->opened_err : RB_OK;
}
