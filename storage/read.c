/* read.c - reads of entries and states, and states carried forward so that their file can be reused.
 *
 * 1. Only released places are read, and no byte beyond them, so a read never meets a write.
 * 2. A file with a read in flight is not reused (wal_file.read_count).
 * 3. What is given out has passed its checksum, and is what the index says now: a record that was dropped or replaced while
 *    it was read is RB_ERR_STALE.
 */
#include "ringbus/check.h"
#include "storage/wal_inside.h"

static bool released(const struct wal *w, wal_place place)
{
    uint64_t serial = w->files[wal_place_slot(place)].serial;
    return serial < w->released_serial ||
           (serial == w->released_serial && wal_place_offset(place) < w->released_end);
}

/* Where the record is now; RB_ERR_MISSING when the index has none. */
static enum rb_err find_place(struct wal *w, const struct rb_wal_read *read, wal_place *ret_place)
{
    struct wal_group *g = rb_wal_group_find(w, read->group);
    if (g == NULL) {
        return RB_ERR_MISSING;
    }
    if (read->kind == RB_WAL_ENTRY) {
        if (read->index <= g->base || read->index > g->last) {
            return RB_ERR_MISSING;
        }
        *ret_place = rb_wal_index_place(g, read->index);
    } else {
        struct wal_state *state = rb_wal_state_find(w, read->group, read->type, read->index);
        if (state == NULL) {
            return RB_ERR_MISSING;
        }
        bool moving = state->carried_from != 0 && !released(w, state->place);
        *ret_place = moving ? state->carried_from : state->place;
    }
    return *ret_place == 0 ? RB_ERR_CORRUPT : RB_OK;
}

/* The end of what may be read in the file of `place` (invariant 1). */
static uint64_t readable_end(const struct wal *w, wal_place place)
{
    const struct wal_file *file = &w->files[wal_place_slot(place)];
    uint64_t end = file->size / RB_DISK_ALIGN * RB_DISK_ALIGN;
    return file->serial == w->released_serial && w->released_end < end ? w->released_end : end;
}

/* The end of the last entry that the caller takes; those in other files are not read now. */
static uint64_t wanted_end(struct wal *w, const struct rb_wal_read *read, wal_place place)
{
    const struct wal_group *g = rb_wal_group_find(w, read->group);
    uint64_t left = g->last - read->index;
    uint64_t index = read->index + (left < read->record_max ? left : read->record_max - 1);
    wal_place last = rb_wal_index_place(g, index);
    if (wal_place_slot(last) != wal_place_slot(place) ||
        wal_place_offset(last) < wal_place_offset(place)) {
        return UINT64_MAX; /* also: it is lost */
    }
    return wal_pad(wal_place_offset(last) + WAL_RECORD_BYTES + wal_place_body(last));
}

static enum rb_err start_read(struct wal *w, struct rb_wal_read *read, wal_place place)
{
    struct wal_file *file = &w->files[wal_place_slot(place)];
    uint64_t offset = wal_place_offset(place);
    uint64_t from = offset / RB_DISK_ALIGN * RB_DISK_ALIGN;
    uint64_t need = wal_pad(offset - from + WAL_RECORD_BYTES + wal_place_body(place));
    uint64_t len = readable_end(w, place) - from;
    if (need > read->len || read->record_max == 0) {
        return RB_ERR_INVALID;
    }
    if (w->read_count == READS_MAX) {
        return RB_ERR_FULL;
    }
    if (read->kind == RB_WAL_STATE) {
        len = need;
    } else {
        uint64_t wanted = wanted_end(w, read, place) - from;
        uint64_t room = read->len / RB_DISK_ALIGN * RB_DISK_ALIGN;
        len = len < wanted ? len : wanted;
        len = len < room ? len : room;
    }
    read->place = place;
    read->record_count = 0;
    read->op.owner = w;
    read->op.tag = TAG_READ;
    enum rb_err err =
        rb_disk_read(w->options.disk, &read->op, file->file, from, read->bytes, (uint32_t)len);
    if (err == RB_OK) {
        read->in_flight = true;
        file->read_count++;
        w->read_count++;
    }
    return err;
}

enum rb_err rb_wal_read(struct rb_wal *log, struct rb_wal_read *read)
{
    struct wal *w = (struct wal *)log;
    wal_place place = 0;
    rb_assert(!read->in_flight && (uintptr_t)read->bytes % RB_DISK_ALIGN == 0);
    if (w->phase != WAL_OPEN) {
        return RB_ERR_IO;
    }
    enum rb_err err = find_place(w, read, &place);
    if (err != RB_OK) {
        return err;
    }
    if (!released(w, place)) {
        return w->stopped ? RB_ERR_IO : RB_ERR_BUSY;
    }
    return start_read(w, read, place);
}

/* Decodes the record at `place` out of what was read; RB_ERR_FULL when it does not lie in it whole. */
static enum rb_err decode_at(struct wal *w, const struct rb_wal_read *read, wal_place place,
                             uint64_t index, struct rb_wal_record *ret_record)
{
    const struct wal_file *file = &w->files[wal_place_slot(place)];
    uint64_t offset = wal_place_offset(place);
    uint64_t need = WAL_RECORD_BYTES + wal_place_body(place);
    if (offset < read->op.offset || offset + need > read->op.offset + read->op.size) {
        return RB_ERR_FULL;
    }
    struct wal_record found;
    struct rb_slice bytes =
        rb_slice_of(read->bytes + (offset - read->op.offset), (size_t)wal_align8(need));
    enum rb_err err = rb_wal_decode_record(bytes, w->log_seed, file->serial, offset, &found);
    if (err != RB_OK || found.record.kind != read->kind || found.record.group != read->group ||
        found.record.index != index ||
        (read->kind == RB_WAL_STATE && found.record.type != read->type)) {
        return RB_ERR_CORRUPT;
    }
    *ret_record = found.record;
    return RB_OK;
}

static void name_damage(struct wal *w, const struct rb_wal_read *read)
{
    struct wal_file *file = &w->files[wal_place_slot(read->place)];
    struct rb_wal_damage damage = {
        .offset = wal_place_offset(read->place),
        .bytes = WAL_RECORD_BYTES + wal_place_body(read->place),
    };
    rb_wal_base_name(damage.file, file->serial, ".wal");
    rb_wal_damage(w, &damage);
    file->damaged = true;
    if (read->kind == RB_WAL_ENTRY) {
        rb_wal_index_lose_entry(w, rb_wal_group_find(w, read->group), read->index);
        return;
    }
    struct wal_state *state = rb_wal_state_find(w, read->group, read->type, read->index);
    if (state->place == read->place) {
        rb_wal_index_lose_state(w, state);
    }
}

/* The entries behind the first one, as far as they are in what was read. */
static void take_more(struct wal *w, struct rb_wal_read *read)
{
    const struct wal_group *g = rb_wal_group_find(w, read->group);
    while (read->record_count < read->record_max) {
        uint64_t index = read->index + read->record_count;
        if (index > g->last) {
            return;
        }
        wal_place place = rb_wal_index_place(g, index);
        if (place == 0 || wal_place_slot(place) != wal_place_slot(read->place) ||
            decode_at(w, read, place, index, &read->records[read->record_count]) != RB_OK) {
            return; /* damage among them is named when it is read first */
        }
        read->record_count++;
    }
}

/* Whether what was read is what the index says now (invariant 3). */
static bool still_current(struct wal *w, const struct rb_wal_read *read)
{
    wal_place now = 0;
    if (find_place(w, read, &now) != RB_OK) {
        return false;
    }
    return now == read->place ||
           (read->kind == RB_WAL_STATE &&
            rb_wal_state_find(w, read->group, read->type, read->index)->carried_from ==
                read->place);
}

static enum rb_err judge(struct wal *w, struct rb_wal_read *read)
{
    if (read->op.err != RB_OK) {
        return RB_ERR_IO;
    }
    if (!still_current(w, read)) {
        return RB_ERR_STALE;
    }
    if (decode_at(w, read, read->place, read->index, &read->records[0]) != RB_OK) {
        name_damage(w, read);
        return RB_ERR_CORRUPT;
    }
    read->record_count = 1;
    if (read->kind == RB_WAL_ENTRY) {
        take_more(w, read);
    }
    return RB_OK;
}

void rb_wal_read_complete(struct wal *w, struct rb_disk_op *op)
{
    struct rb_wal_read *read = RB_CONTAINER(op, struct rb_wal_read, op);
    struct wal_file *file = &w->files[wal_place_slot(read->place)];
    rb_assert(file->read_count > 0 && w->read_count > 0);
    read->err = judge(w, read);
    file->read_count--;
    w->read_count--;
    if (read->internal) {
        read->in_flight = false;
        w->carry_loaded = read->err == RB_OK;
        if (read->err == RB_ERR_IO) {
            w->carry_pause_ns = rb_wal_now(w) + w->options.retry_ns;
        }
        return;
    }
    read->next = NULL;
    if (w->read_first == NULL) {
        w->read_first = read;
    } else {
        w->read_last->next = read;
    }
    w->read_last = read;
}

/* ---- states carried forward ---- */

static void carry_prefixes(struct wal *w, struct wal_file *file)
{
    while (!rb_list_empty(&file->prefixes)) {
        struct wal_group *g = RB_CONTAINER(file->prefixes.next, struct wal_group, in_file);
        struct rb_wal_record record = {
            .kind = RB_WAL_PREFIX, .group = g->id, .index = g->base, .term = g->base_term
        };
        if (rb_wal_put(w, NULL, &record) != RB_OK) {
            return;
        }
        w->stats.carried++;
    }
}

static void carry_loaded_state(struct wal *w)
{
    struct rb_wal_read *read = &w->carry_read;
    struct wal_state *state = rb_wal_state_find(w, read->group, read->type, read->index);
    if (state != NULL && state->place == read->place) {
        if (rb_wal_put(w, NULL, &w->carry_record) != RB_OK) {
            return; /* no room now: again with the next poll */
        }
        w->stats.carried++;
        state->carried_from = read->place;
    }
    w->carry_loaded = false;
}

static void load_state(struct wal *w, const struct wal_state *state)
{
    struct rb_wal_read *read = &w->carry_read;
    uint32_t need = rb_wal_read_bytes(wal_place_body(state->place));
    if (read->len < need) {
        void *bytes = rb_disk_alloc(w->options.disk, need);
        if (bytes == NULL) {
            return; /* again with the next poll */
        }
        rb_disk_free(w->options.disk, read->bytes, read->len);
        read->bytes = bytes;
        read->len = need;
    }
    read->kind = RB_WAL_STATE;
    read->group = state->group;
    read->type = state->type;
    read->index = state->key;
    if (released(w, state->place)) {
        (void)!start_read(w, read, state->place);
    }
}

void rb_wal_carry_step(struct wal *w)
{
    if (w->stopped || w->close_wanted || w->carry_read.in_flight) {
        return;
    }
    if (w->carry_loaded) {
        carry_loaded_state(w);
    }
    struct wal_file *oldest = w->order_count == 0 ? NULL : &w->files[w->order[0]];
    uint32_t kept =
        w->refused ? 1 : FILES_KEPT; /* somebody waits: what states alone hold is room */
    if (w->carry_loaded || w->order_count <= kept || oldest->entry_count > 0 ||
        rb_wal_now(w) < w->carry_pause_ns) {
        return;
    }
    carry_prefixes(w, oldest);
    if (!rb_list_empty(&oldest->states)) {
        load_state(w, RB_CONTAINER(oldest->states.next, struct wal_state, in_file));
    }
}
