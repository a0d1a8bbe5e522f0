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
#include "storage/recover_inside.h"

#define LIST_BYTES (256u << 10)
#define WINDOW_BYTES (4u << 20)

void rb_recover_fail(struct wal *w, enum rb_err err)
{
    w->recover->step = DONE;
    rb_wal_opened(w, err);
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

static void go(struct wal_recover *r, enum recover_step step)
{
    r->step = step;
    r->started = false;
    r->at = 0;
}

static void begin_scan(struct wal *w)
{
    struct wal_recover *r = w->recover;
    rb_recover_build_chain(r);
    enum rb_err err = rb_recover_take_slots(w);
    if (err != RB_OK) {
        rb_recover_fail(w, err);
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
    rb_wal_index_deinit(w);
    rb_wal_index_init(w);
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
    w->stats = (struct rb_wal_stats){ .scanned_bytes = w->stats.scanned_bytes };
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
        struct found *destroyed = rb_recover_find_serial(r, gone.serial);
        if (destroyed != NULL && destroyed->use == FOUND_UNKNOWN) {
            destroyed->use = FOUND_DESTROYED;
        }
        rb_recover_name_damage(w, &gone, 0, 0, 0, 0);
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
            rb_recover_name_damage(w, f, f->true_size, f->header.file_bytes, 0, 0);
        } else if (is_lost(w, f)) {
            f->use = FOUND_LOST;
            rb_recover_name_damage(w, f, 0, f->true_size, 0, 0);
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
    struct wal_file *last = rb_wal_current(w);
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
                rb_recover_fail(w, err);
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
        rb_wal_name(w, r->name, f->serial, f->marked ? ".wal.damaged" : ".wal");
        if (f->use == FOUND_CHAIN) {
            if (!marked || f->marked) {
                continue;
            }
            rb_wal_name(w, r->name_to, f->serial, ".wal.damaged");
            w->files[f->slot].marked = true;
            w->kept_damaged++;
            err = rb_disk_rename(w->options.disk, &r->op, r->name, r->name_to);
        } else if (f->use == FOUND_LOST) {
            rb_disk_close(w->options.disk, handle);
            if (w->lost_count < RB_WAL_DAMAGES_MAX) {
                w->lost[w->lost_count++] = f->serial;
            }
            if (f->marked) {
                continue;
            }
            rb_wal_name(w, r->name_to, f->serial, ".wal.damaged");
            w->kept_damaged++;
            err = rb_disk_rename(w->options.disk, &r->op, r->name, r->name_to);
        } else if (f->use == FOUND_DESTROYED || marked) {
            rb_disk_close(w->options.disk, handle);
            rb_wal_name(w, r->name_to, f->serial, ".wal.aside");
            w->kept_damaged += f->marked ? 0 : 1;
            err = rb_disk_rename(w->options.disk, &r->op, r->name, r->name_to);
        } else if (f->size == w->options.file_bytes && w->spare_count < SPARES_MAX) {
            uint16_t slot = rb_wal_slot_take(w);
            rb_wal_file_init(w, slot, f->serial, f->size, handle);
            w->spares[w->spare_count++] = slot;
            continue;
        } else {
            rb_disk_close(w->options.disk, handle);
            err = rb_disk_remove(w->options.disk, &r->op, r->name);
        }
        if (err != RB_OK) {
            rb_recover_fail(w, err);
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
        rb_recover_fail(w, w->stopped_err);
        return false;
    }
    if (w->next_ready || w->full || w->limited) {
        return true;
    }
    rb_wal_files_step(w, rb_wal_now(w));
    return w->files_step == FILES_IDLE; /* nothing could be started */
}

/* Without a new file the last one is written on. What is behind its end is overwritten with zeroes first: no torn batch of
 * this serial may stand where new ones will. A file without batches behind it is the only one that gets here, since one that
 * was cut off would be a spare, and then there would be a new file. */
static bool step_clear_tail(struct wal *w)
{
    struct wal_recover *r = w->recover;
    struct wal_file *file = rb_wal_current(w);
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
        rb_recover_fail(w, err);
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
            rb_wal_rotate(w);
        } else if (w->tail_closed || w->write_offset == rb_wal_current(w)->size) {
            return true;
        }
        if (!rb_wal_submit_mark(w, 0)) {
            rb_recover_fail(w, RB_ERR_FULL);
            return false;
        }
    }
    if (w->stopped) {
        rb_recover_fail(w, w->stopped_err);
        return false;
    }
    return w->flying_count == 0;
}

/* ---- the steps ---- */

static int by_serial(const void *a, const void *b)
{
    const struct found *x = a;
    const struct found *y = b;
    return x->serial < y->serial ? -1 : x->serial > y->serial;
}

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
        rb_recover_fail(w, RB_ERR_LIMIT);
        return false;
    }
    if (!next_name(w, f)) {
        qsort(r->found, r->count, sizeof(r->found[0]), by_serial);
        return true;
    }
    r->started = true;
    enum rb_err err = rb_disk_open(w->options.disk, &r->op, r->name, RB_DISK_DURABLE);
    if (err != RB_OK) {
        rb_recover_fail(w, err);
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
                rb_recover_fail(w, err);
            }
            return false;
        }
        return true;
    case OPEN:
        return step_open(w);
    case PROBE:
        return rb_recover_probe(w);
    case SCAN:
        return rb_recover_scan(w);
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
        rb_wal_opened(w, RB_OK);
        break;
    default:
        go(r, r->step + 1);
        break;
    }
}

void rb_wal_recover_step(struct wal *w)
{
    struct wal_recover *r = w->recover;
    if (r->op.in_flight || r->step == DONE) {
        return;
    }
    if (r->step == PROBE || r->step == SCAN) {
        rb_recover_window_read(w);
    } else if (r->step != NEW_FILE && r->step != FIRST_BATCH && r->op.err != RB_OK) {
        rb_recover_fail(w, r->op.err);
    }
    while (w->phase == WAL_OPENING && run_step(w)) {
        next_step(w);
    }
    if (w->phase != WAL_OPENING) {
        rb_wal_recover_free(w);
    }
}

void rb_wal_recover_free(struct wal *w)
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

enum rb_err rb_wal_recover_start(struct wal *w)
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
