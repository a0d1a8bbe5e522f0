/* wal.c - the write path: records into the open batch, batches to the disk, completions back in log order.
 *
 *   write() -> [open batch] --flush--> [flying, up to writes_max] --all before it done--> released -> RB_WAL_WRITTEN
 *
 * 1. A record gets its place when it is accepted: the open batch knows its file and offset, and those are allocated. So
 *    nothing can be refused later but by a failing disk, which stops the log.
 * 2. Batches fly in log order and are released in log order, whatever order the disk completes them in. Only release()
 *    moves a waiter to the done list with RB_OK; that is the one place from which an acknowledgement can come.
 * 3. A batch is written once, at a place never written under this serial before, and never again.
 * 4. A header's `durable` is `released` at the time it is sealed.
 * 5. Once stopped, no batch starts and none is released; reads of released places go on.
 */
#include "storage/wal.h"

#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"
#include "storage/wal_inside.h"

#define FILE_BYTES_DEFAULT (UINT64_C(64) << 20)
#define BATCH_BYTES_DEFAULT (1u << 20)
#define WRITES_DEFAULT 4
#define FILES_DEFAULT 64
#define RESERVE_MIN (2 * RB_DISK_ALIGN)
#define URGENT_PARTS 2u /* of the size of the reserve */
#define RETRY_NS_DEFAULT 1000000000u
#define SEAL_NS_DEFAULT 100000000u

static struct wal *wal_of(struct rb_wal *log)
{
    return (struct wal *)log;
}

uint64_t rb_wal_now(struct wal *w)
{
    return rb_env_now(w->options.env);
}

/* ---- release and failure ---- */

static void push_done(struct wal *w, struct rb_wal_write *write, enum rb_err err)
{
    write->err = err;
    write->next = NULL;
    if (w->done_first == NULL) {
        w->done_first = write;
    } else {
        w->done_last->next = write;
    }
    w->done_last = write;
}

static void end_waiters(struct wal *w, struct wal_batch *batch, enum rb_err err)
{
    struct rb_wal_write *write = batch->first;
    while (write != NULL) {
        struct rb_wal_write *next = write->next;
        push_done(w, write, err);
        write = next;
    }
    batch->first = batch->last = NULL;
}

void rb_wal_stop(struct wal *w, enum rb_err err)
{
    if (w->stopped) {
        return;
    }
    w->stopped = true;
    w->tell_stopped = true;
    w->stopped_err = err;
    for (uint32_t i = 0; i < w->flying_count; i++) {
        end_waiters(w, w->flying[(w->flying_head + i) % RB_WAL_WRITES_MAX], RB_ERR_IO);
    }
    if (w->open != NULL) {
        end_waiters(w, w->open, RB_ERR_IO);
        w->open->state = BATCH_FREE;
        w->open = NULL;
    }
}

void rb_wal_damage(struct wal *w, const struct rb_wal_damage *damage)
{
    w->stats.damages++;
    if (w->damage_count < RB_WAL_DAMAGES_MAX) {
        w->damages[w->damage_count++] = *damage;
    }
}

static void release(struct wal *w)
{
    while (w->flying_count > 0) {
        struct wal_batch *batch = w->flying[w->flying_head];
        if (batch->state != BATCH_DONE) {
            return;
        }
        w->flying_head = (w->flying_head + 1) % RB_WAL_WRITES_MAX;
        w->flying_count--;
        batch->state = BATCH_FREE;
        if (w->stopped) {
            continue; /* invariant 5 */
        }
        rb_assert(batch->sequence == w->released + 1);
        w->released = batch->sequence;
        w->released_serial = w->files[batch->slot].serial;
        w->released_end = batch->offset + wal_pad(batch->used);
        w->durable_oldest = batch->oldest;
        end_waiters(w, batch, RB_OK);
    }
}

static void batch_complete(struct wal *w, struct wal_batch *batch)
{
    rb_assert(batch->state == BATCH_FLYING);
    batch->state = BATCH_DONE;
    if (batch->op.err != RB_OK) {
        rb_wal_stop(w, batch->op.err);
    }
    release(w);
}

/* ---- the open batch ---- */

/* Where the next batch will stand, and how much room the file has there. */
static uint64_t room_in_file(struct wal *w)
{
    struct wal_file *file = rb_wal_current(w);
    return file == NULL || w->tail_closed ? 0 : file->size - w->write_offset;
}

static struct wal_batch *free_batch(struct wal *w)
{
    for (uint32_t i = 0; i < w->batch_count; i++) {
        if (w->batches[i].state == BATCH_FREE) {
            return &w->batches[i];
        }
    }
    return NULL;
}

/* A batch at the current position. There is a free one whenever none is open (there is one more than may fly). */
static void open_batch(struct wal *w)
{
    struct wal_batch *batch = free_batch(w);
    rb_assert(w->open == NULL && batch != NULL);
    batch->state = BATCH_OPEN;
    batch->used = WAL_HEADER_BYTES;
    batch->record_count = 0;
    batch->flags = w->next_flags;
    batch->slot = w->order[w->order_count - 1];
    batch->offset = w->write_offset;
    batch->first = batch->last = NULL;
    w->next_flags = 0;
    w->open = batch;
}

static void fill_header(struct wal *w, struct wal_batch *batch)
{
    const struct wal_file *file = &w->files[batch->slot];
    batch->sequence = w->sequence;
    batch->oldest = rb_wal_oldest_serial(w);
    struct wal_batch_header header = {
        .log_seed = w->log_seed,
        .serial = file->serial,
        .offset = batch->offset,
        .sequence = batch->sequence,
        .durable = w->released,
        .oldest = batch->oldest,
        .epoch = w->epoch,
        .prev_serial = file->prev_serial,
        .prev_end = file->prev_end,
        .file_first = file->first,
        .bytes = batch->used,
        .record_count = batch->record_count,
        .flags = batch->flags,
        .file_bytes = file->size,
    };
    rb_wal_encode_header(batch->bytes, &header);
}

/* Sends the open batch to the disk; false when neither we nor the disk have room for another write. */
static bool submit(struct wal *w)
{
    struct wal_batch *batch = w->open;
    if (w->flying_count >= w->options.writes_max) {
        return false;
    }
    uint32_t padded = (uint32_t)wal_pad(batch->used);
    memset(batch->bytes + batch->used, 0, padded - batch->used);
    fill_header(w, batch);
    if (rb_disk_write(w->options.disk, &batch->op, w->files[batch->slot].file, batch->offset,
                      batch->bytes, padded) != RB_OK) {
        return false;
    }
    batch->state = BATCH_FLYING;
    batch->started_ns = rb_wal_now(w);
    w->last_write_ns = batch->started_ns;
    w->flying[(w->flying_head + w->flying_count) % RB_WAL_WRITES_MAX] = batch;
    w->flying_count++;
    w->sequence++;
    w->write_offset += padded;
    w->open = NULL;
    w->stats.batches++;
    w->stats.records += batch->record_count;
    w->stats.bytes += padded;
    w->marked = w->released;
    if (batch->record_count > 0) {
        w->last_records = batch->sequence;
    }
    return true;
}

static void wal_flush(struct rb_wal *log)
{
    struct wal *w = wal_of(log);
    if (!w->stopped && w->open != NULL && w->open->record_count > 0) {
        (void)submit(w);
    }
}

/* Room for entries that the disk is known to have, behind the open batch. */
static uint64_t room_known(struct wal *w)
{
    uint64_t room = room_in_file(w);
    if (w->open != NULL) {
        room -= wal_pad(w->open->used); /* its place was looked for when it grew */
    }
    return room + (w->next_ready ? w->files[w->next].size : 0);
}

static enum rb_err refuse(struct wal *w)
{
    w->refused = true;
    return w->full || w->limited ? RB_ERR_SPACE : RB_ERR_FULL;
}

/* Entries leave room for states, states for what drops and truncates, all of them a block for a seal. */
static uint64_t reserve_from(const struct wal *w, enum rb_wal_record_kind kind)
{
    if (kind == RB_WAL_ENTRY) {
        return 2 * w->options.reserve_bytes;
    }
    return kind == RB_WAL_STATE ? w->options.reserve_bytes : 0;
}

/* While no file can follow the one that is written to, its end is for urgent entries. */
static bool for_urgent(struct wal *w, uint64_t bytes, const struct rb_wal_record *record)
{
    if (record->kind != RB_WAL_ENTRY || record->urgent || w->spare_count > 0) {
        return false;
    }
    uint64_t room = room_in_file(w);
    room -= w->open == NULL ? 0 : wal_pad(w->open->used);
    uint64_t need = wal_pad(WAL_HEADER_BYTES + bytes) + URGENT_PARTS * w->options.reserve_bytes;
    return room < need || room_known(w) < need + RB_DISK_ALIGN + reserve_from(w, RB_WAL_ENTRY);
}

/* The last spare is not for entries, the last files beyond the limit are not for states either. */
static bool may_rotate(const struct wal *w, enum rb_wal_record_kind kind)
{
    if (kind == RB_WAL_ENTRY) {
        return w->spare_count > 0;
    }
    return kind != RB_WAL_STATE || w->order_count < w->options.files_max + FILES_BEYOND / 2;
}

/* Makes the open batch one that has room for `bytes` more; nothing has changed when it is refused but batches sent. */
static enum rb_err make_room(struct wal *w, uint64_t bytes, const struct rb_wal_record *record)
{
    enum rb_wal_record_kind kind = record->kind;
    uint64_t keep = RB_DISK_ALIGN + reserve_from(w, kind);
    if (for_urgent(w, bytes, record)) {
        return refuse(w);
    }
    if (room_known(w) < wal_pad(WAL_HEADER_BYTES + bytes) + keep) {
        return refuse(w);
    }
    if (w->open != NULL) {
        uint64_t used = wal_pad(w->open->used + bytes);
        if (used <= w->options.batch_bytes && used <= room_in_file(w)) {
            return RB_OK;
        }
        if (w->open->record_count == 0) {
            w->next_flags |= w->open->flags;
            w->open->state = BATCH_FREE;
            w->open = NULL;
        } else if (!submit(w)) {
            return RB_ERR_FULL;
        }
    }
    if (wal_pad(WAL_HEADER_BYTES + bytes) > room_in_file(w)) {
        if (!w->next_ready || !may_rotate(w, kind)) {
            return refuse(w);
        }
        rb_wal_rotate(w);
    }
    open_batch(w);
    return RB_OK;
}

static enum rb_err check_write(struct wal *w, const struct rb_wal_record *r)
{
    struct wal_group *g = rb_wal_group_find(w, r->group);
    uint64_t base = g == NULL ? 0 : g->base;
    uint64_t last = g == NULL ? 0 : g->last;
    if (r->body.len > RB_WAL_BODY_MAX ||
        WAL_HEADER_BYTES + wal_record_bytes(r->body.len) > w->options.batch_bytes) {
        return RB_ERR_INVALID;
    }
    switch (r->kind) {
    case RB_WAL_ENTRY:
        return r->index == last + 1 ? RB_OK : RB_ERR_INVALID;
    case RB_WAL_STATE:
        return w->stats.state_bytes + wal_record_bytes(r->body.len) > w->options.state_bytes_max
                   ? RB_ERR_LIMIT
                   : RB_OK;
    case RB_WAL_STATE_REMOVE:
        return rb_wal_state_find(w, r->group, r->type, r->index) == NULL ? RB_ERR_MISSING : RB_OK;
    case RB_WAL_TRUNCATE:
        return r->index > base && r->index <= last ? RB_OK : RB_ERR_INVALID;
    case RB_WAL_PREFIX:
        return r->index > base ? RB_OK : RB_ERR_INVALID;
    case RB_WAL_GROUP_DROP:
        return g == NULL ? RB_ERR_MISSING : RB_OK;
    }
    return RB_ERR_INVALID;
}

/* `write` NULL: nobody waits for it (a state or prefix carried forward). */
enum rb_err rb_wal_put(struct wal *w, struct rb_wal_write *write,
                       const struct rb_wal_record *record)
{
    uint64_t bytes = wal_record_bytes(record->body.len);
    enum rb_err err = make_room(w, bytes, record);
    err = err == RB_OK ? rb_wal_index_reserve(w, record)
                       : err; /* the last thing that can be refused */
    if (err != RB_OK) {
        return err;
    }
    struct wal_batch *batch = w->open;
    uint64_t offset = batch->offset + batch->used;
    struct wal_record full = { *record, rb_wal_index_chain(w, record) };
    rb_wal_encode_record(batch->bytes + batch->used, w->log_seed, w->files[batch->slot].serial,
                         offset, &full);
    batch->used += (uint32_t)bytes;
    batch->record_count++;
    rb_wal_index_apply(w, record, wal_place_of(batch->slot, offset, record->body.len));
    if (write != NULL) {
        write->next = NULL;
        write->in_flight = true;
        write->err = RB_OK;
        if (batch->first == NULL) {
            batch->first = write;
        } else {
            batch->last->next = write;
        }
        batch->last = write;
        w->waiting++;
    }
    return RB_OK;
}

static enum rb_err wal_write(struct rb_wal *log, struct rb_wal_write *write,
                             const struct rb_wal_record *record)
{
    struct wal *w = wal_of(log);
    rb_assert(!write->in_flight);
    if (w->phase != WAL_OPEN || w->stopped) {
        return RB_ERR_IO;
    }
    enum rb_err err = check_write(w, record);
    return err == RB_OK ? rb_wal_put(w, write, record) : err;
}

/* ---- open, seal, close ---- */

/* A batch without records says that everything before it is durable. False: not now. */
bool rb_wal_submit_mark(struct wal *w, uint32_t flags)
{
    if (w->open == NULL) {
        if (room_in_file(w) < RB_DISK_ALIGN) {
            if (!w->next_ready) {
                return false;
            }
            rb_wal_rotate(w);
        }
        w->next_flags |= flags;
        open_batch(w);
    } else {
        w->open->flags |= flags;
    }
    return submit(w);
}

void rb_wal_opened(struct wal *w, enum rb_err err)
{
    rb_assert(w->phase == WAL_OPENING);
    w->opened_err = err;
    w->tell_opened = true;
    w->phase = err == RB_OK ? WAL_OPEN : WAL_FAILED;
}

static void seal_when_idle(struct wal *w, uint64_t now)
{
    bool idle = w->flying_count == 0 && (w->open == NULL || w->open->record_count == 0);
    if (!w->stopped && idle && w->last_records > w->marked &&
        now >= w->last_write_ns + w->options.seal_ns) {
        w->last_write_ns = now; /* when the disk has no room for it: later */
        (void)rb_wal_submit_mark(w, WAL_FLAG_SEAL);
    }
}

static void wal_close(struct rb_wal *log)
{
    struct wal *w = wal_of(log);
    w->close_wanted = true;
}

static bool something_in_flight(struct wal *w)
{
    return w->flying_count > 0 || w->read_count > 0 || w->files_op.in_flight ||
           w->carry_read.in_flight;
}

static void close_step(struct wal *w)
{
    if (w->phase == WAL_OPENING || w->phase == WAL_CLOSED) {
        return; /* while it opens: when that has come to its end */
    }
    if (w->phase == WAL_OPEN) {
        if (!w->stopped && w->open != NULL && w->open->record_count > 0 && !submit(w)) {
            return;
        }
        if (w->flying_count > 0) {
            return;
        }
        w->phase = WAL_CLOSING;
        if (!w->stopped && w->last_records > w->marked) {
            (void)rb_wal_submit_mark(w, WAL_FLAG_SEAL);
        }
    }
    if (!something_in_flight(w)) {
        rb_wal_files_close(w);
        w->phase = WAL_CLOSED;
        w->tell_closed = true;
    }
}

/* ---- the turn ---- */

static void wal_complete(struct rb_wal *log, struct rb_disk_op *op)
{
    struct wal *w = wal_of(log);
    rb_assert(op->owner == w);
    switch ((enum wal_tag)op->tag) {
    case TAG_BATCH:
        batch_complete(w, RB_CONTAINER(op, struct wal_batch, op));
        break;
    case TAG_READ:
        rb_wal_read_complete(w, op);
        break;
    case TAG_FILES:
        rb_wal_files_complete(w);
        break;
    case TAG_RECOVER:
        break;
    }
    if (w->phase == WAL_OPENING) {
        rb_wal_recover_step(w);
    }
}

static struct rb_wal_event *add_event(struct wal *w, uint32_t *count, enum rb_wal_event_kind kind)
{
    struct rb_wal_event *event = &w->events[(*count)++];
    *event = (struct rb_wal_event){ .kind = kind };
    return event;
}

/* What does not belong to a call. At most RB_WAL_DAMAGES_MAX + 3 events. */
static void give_news(struct wal *w, uint32_t *count)
{
    memcpy(w->told_damages, w->damages, w->damage_count * sizeof(w->damages[0]));
    for (uint32_t i = 0; i < w->damage_count; i++) {
        add_event(w, count, RB_WAL_DAMAGED)->damage = &w->told_damages[i];
    }
    w->damage_count = 0;
    if (w->tell_opened) {
        w->tell_opened = false;
        add_event(w, count, RB_WAL_OPENED)->err = w->opened_err;
    }
    if (w->tell_stopped) {
        w->tell_stopped = false;
        add_event(w, count, RB_WAL_STOPPED)->err = w->stopped_err;
    }
    if (w->tell_room) {
        w->tell_room = false;
        add_event(w, count, RB_WAL_ROOM);
    }
}

_Static_assert(RB_WAL_EVENTS_MAX > RB_WAL_DAMAGES_MAX + 8, "news fit one poll");

static uint32_t wal_poll(struct rb_wal *log, struct rb_wal_event **ret_events)
{
    struct wal *w = wal_of(log);
    uint64_t now = rb_wal_now(w);
    uint32_t count = 0;
    if (w->phase == WAL_OPEN) {
        rb_wal_carry_step(w);
        rb_wal_files_step(w, now);
        seal_when_idle(w, now);
    }
    if (w->close_wanted) {
        close_step(w);
    }
    give_news(w, &count);
    while (count < RB_WAL_EVENTS_MAX && w->done_first != NULL) {
        struct rb_wal_write *write = w->done_first;
        w->done_first = write->next;
        write->in_flight = false;
        w->waiting--;
        struct rb_wal_event *event = add_event(w, &count, RB_WAL_WRITTEN);
        event->write = write;
        event->err = write->err;
    }
    while (count < RB_WAL_EVENTS_MAX && w->read_first != NULL) {
        struct rb_wal_read *read = w->read_first;
        w->read_first = read->next;
        read->in_flight = false;
        struct rb_wal_event *event = add_event(w, &count, RB_WAL_WAS_READ);
        event->read = read;
        event->err = read->err;
    }
    if (w->tell_closed && count < RB_WAL_EVENTS_MAX) {
        w->tell_closed = false;
        add_event(w, &count, RB_WAL_CLOSED);
    }
    *ret_events = w->events;
    return count;
}

static uint64_t wal_due(struct rb_wal *log)
{
    struct wal *w = wal_of(log);
    uint64_t due = UINT64_MAX;
    if (w->done_first != NULL || w->read_first != NULL || w->damage_count > 0 || w->tell_opened ||
        w->tell_stopped || w->tell_room || w->tell_closed) {
        return rb_wal_now(w);
    }
    if (w->phase != WAL_OPEN || w->stopped) {
        return due;
    }
    if (w->full && w->files_step == FILES_IDLE && !w->close_wanted) {
        due = w->retry_due_ns;
    }
    if (w->flying_count == 0 && w->last_records > w->marked &&
        (room_in_file(w) > 0 || w->next_ready)) {
        uint64_t seal = w->last_write_ns + w->options.seal_ns;
        due = seal < due ? seal : due;
    }
    return due;
}

/* ---- questions ---- */

/* A group without entries, base and states leaves no trace in the log: it is as if it did not exist. */
static bool holds_something(const struct wal_group *g)
{
    return g != NULL && (g->last > 0 || g->state_count > 0);
}

static void fill_info(const struct wal_group *g, struct rb_wal_group_info *info)
{
    *info = (struct rb_wal_group_info){
        .id = g->id,
        .base = g->base,
        .base_term = g->base_term,
        .last = g->last,
        .last_term = rb_wal_index_term(g, g->last),
        .state_count = g->state_count,
        .lost_count = g->lost_count,
        .damaged = g->damaged,
        .in_doubt = g->in_doubt,
    };
}

static bool wal_group(struct rb_wal *log, uint64_t group, struct rb_wal_group_info *ret_info)
{
    struct wal_group *g = rb_wal_group_find(wal_of(log), group);
    if (!holds_something(g)) {
        return false;
    }
    fill_info(g, ret_info);
    return true;
}

static bool wal_group_next(struct rb_wal *log, uint32_t *at, struct rb_wal_group_info *ret_info)
{
    struct wal_group *g;
    while ((g = rb_map_next(&wal_of(log)->groups, at)) != NULL && !holds_something(g)) {
    }
    if (g == NULL) {
        return false;
    }
    fill_info(g, ret_info);
    return true;
}

static enum rb_err wal_term(struct rb_wal *log, uint64_t group, uint64_t index, uint64_t *ret_term)
{
    struct wal_group *g = rb_wal_group_find(wal_of(log), group);
    if (g == NULL || index < g->base || index > g->last) {
        return RB_ERR_MISSING;
    }
    if (index > g->base && rb_wal_index_place(g, index) == 0) {
        return RB_ERR_CORRUPT;
    }
    *ret_term = rb_wal_index_term(g, index);
    return RB_OK;
}

static bool wal_state_next(struct rb_wal *log, uint64_t group, struct rb_wal_state_at *at)
{
    struct wal_group *g = rb_wal_group_find(wal_of(log), group);
    if (g == NULL) {
        return false;
    }
    const struct rb_list *link =
        at->at == NULL ? g->states.next : ((const struct wal_state *)at->at)->in_group.next;
    if (link == &g->states) {
        return false;
    }
    const struct wal_state *state = RB_CONTAINER(link, struct wal_state, in_group);
    at->at = state;
    at->type = state->type;
    at->key = state->key;
    at->body_bytes = wal_place_body(state->place);
    return true;
}

static uint32_t wal_pinned_by(struct rb_wal *log, uint64_t *ret_groups, uint32_t max)
{
    struct wal *w = wal_of(log);
    if (w->order_count < 2 || w->files[w->order[0]].entry_count == 0) {
        return 0;
    }
    uint32_t count = 0;
    uint32_t at = 0;
    struct wal_group *g;
    while (count < max && (g = rb_map_next(&w->groups, &at)) != NULL) {
        uint64_t index = g->base + 1;
        while (index <= g->last && rb_wal_index_place(g, index) == 0) {
            index++; /* lost ones are in no file */
        }
        if (index <= g->last && wal_place_slot(rb_wal_index_place(g, index)) == w->order[0]) {
            ret_groups[count++] = g->id;
        }
    }
    return count;
}

static void wal_stats(struct rb_wal *log, struct rb_wal_stats *ret_stats)
{
    struct wal *w = wal_of(log);
    *ret_stats = w->stats;
    ret_stats->waiting = w->waiting;
    ret_stats->oldest_write_ns = w->flying_count == 0 ? 0 : w->flying[w->flying_head]->started_ns;
    ret_stats->index_bytes = w->index_bytes;
    ret_stats->file_count = w->order_count + w->spare_count + (w->next != SLOT_NONE);
    ret_stats->damaged_files = w->kept_damaged;
    ret_stats->stopped = w->stopped;
    ret_stats->full = w->full || w->limited;
}

static void wal_damage_handled(struct rb_wal *log)
{
    rb_wal_forget_damage(wal_of(log));
}

/* ---- create and destroy ---- */

static void wal_destroy(struct rb_wal *log)
{
    struct wal *w = wal_of(log);
    struct rb_disk *disk = w->options.disk;
    rb_assert(!w->files_op.in_flight && !w->carry_read.op.in_flight);
    for (uint32_t i = 0; i < w->batch_count; i++) {
        rb_assert(!w->batches[i].op.in_flight);
        rb_disk_free(disk, w->batches[i].bytes, w->options.batch_bytes);
    }
    rb_disk_free(disk, w->carry_read.bytes, w->carry_read.len);
    rb_wal_recover_free(w);
    rb_wal_index_deinit(w);
    rb_free(w->options.budget, w, sizeof(*w));
}

static const struct rb_wal_ops wal_ops = {
    .name = "wal",
    .write = wal_write,
    .read = rb_wal_read,
    .flush = wal_flush,
    .complete = wal_complete,
    .poll = wal_poll,
    .due = wal_due,
    .group = wal_group,
    .group_next = wal_group_next,
    .term = wal_term,
    .state_next = wal_state_next,
    .pinned_by = wal_pinned_by,
    .stats = wal_stats,
    .damage_handled = wal_damage_handled,
    .close = wal_close,
    .destroy = wal_destroy,
};

static void fill_defaults(struct rb_wal_options *o)
{
    o->file_bytes = o->file_bytes == 0 ? FILE_BYTES_DEFAULT : o->file_bytes;
    o->batch_bytes = o->batch_bytes == 0 ? BATCH_BYTES_DEFAULT : o->batch_bytes;
    o->writes_max = o->writes_max == 0 ? WRITES_DEFAULT : o->writes_max;
    o->files_max = o->files_max == 0 ? FILES_DEFAULT : o->files_max;
    if (o->reserve_bytes == 0) {
        o->reserve_bytes = o->file_bytes / 8 > RESERVE_MIN ? o->file_bytes / 8 : RESERVE_MIN;
    }
    o->state_bytes_max =
        o->state_bytes_max == 0 ? o->file_bytes * o->files_max / 4 : o->state_bytes_max;
    o->retry_ns = o->retry_ns == 0 ? RETRY_NS_DEFAULT : o->retry_ns;
    o->seal_ns = o->seal_ns == 0 ? SEAL_NS_DEFAULT : o->seal_ns;
}

static bool options_sound(const struct rb_wal_options *o)
{
    return o->file_bytes % RB_DISK_ALIGN == 0 && o->file_bytes <= WAL_FILE_MAX &&
           o->batch_bytes % RB_DISK_ALIGN == 0 && o->batch_bytes >= 2 * RB_DISK_ALIGN &&
           o->batch_bytes <= WAL_BATCH_MAX && o->file_bytes >= 2 * (uint64_t)o->batch_bytes &&
           o->writes_max <= RB_WAL_WRITES_MAX && o->files_max >= 4 &&
           o->files_max <= RB_WAL_FILES_MAX && o->reserve_bytes < o->file_bytes &&
           strlen(o->directory) <= RB_DISK_NAME_MAX - 32;
}

static void own(struct wal *w, struct rb_disk_op *op, enum wal_tag tag)
{
    op->owner = w;
    op->tag = tag;
}

enum rb_err rb_wal_create(const struct rb_wal_options *options, struct rb_wal **ret_log)
{
    struct rb_wal_options filled = *options;
    fill_defaults(&filled);
    if (!options_sound(&filled)) {
        return RB_ERR_INVALID;
    }
    struct wal *w = rb_alloc(filled.budget, sizeof(*w));
    if (w == NULL) {
        return RB_ERR_MEMORY;
    }
    w->base.ops = &wal_ops;
    w->options = filled;
    w->next = SLOT_NONE;
    w->oldest_limit = UINT64_MAX;
    w->carry_read.internal = true;
    w->carry_read.records = &w->carry_record;
    w->carry_read.record_max = 1;
    rb_wal_index_init(w);
    own(w, &w->files_op, TAG_FILES);
    enum rb_err err = RB_OK;
    for (uint32_t i = 0; i <= filled.writes_max && err == RB_OK; i++) {
        w->batches[i].bytes = rb_disk_alloc(filled.disk, filled.batch_bytes);
        w->batch_count++;
        own(w, &w->batches[i].op, TAG_BATCH);
        err = w->batches[i].bytes == NULL ? RB_ERR_MEMORY : RB_OK;
    }
    err = err == RB_OK ? rb_wal_recover_start(w) : err;
    if (err != RB_OK) {
        wal_destroy(&w->base);
        return err;
    }
    *ret_log = &w->base;
    return RB_OK;
}
