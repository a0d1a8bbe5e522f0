/* run.c - one seed of the log's simulation.
 *
 *   session: open -> writes and reads for some turns -> close | power cut | kill -> (damage) -> open and compare
 *
 * What is compared after each opening: everything the log gives out is read back, and must be exactly the state after some
 * number of accepted writes, at least all that were acknowledged. After bits were flipped on purpose it may be less; then
 * damage must have been named, and each record given out must still be one that was written there.
 */
#include "run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log_rig.h"
#include "model.h"
#include "ringbus/check.h"

#define WRITES_MAX 512
#define SESSIONS_MAX 7
#define BODY_MAX 12000

struct pending { /* a write in flight */
    struct rb_wal_write write;
    uint64_t number; /* of its op among those accepted since the last opening, from 1 */
};

struct run {
    struct rig rig;
    struct rb_env draw;
    bool trace, failed;
    char *failure;
    struct run_totals *totals;
    uint64_t digest;

    struct model_state base,
        now;              /* when the log was opened last, and with all writes accepted since */
    struct model_op *ops; /* accepted since */
    uint64_t op_count, op_cap, acknowledged;
    uint64_t next_id;
    struct model_op *all; /* ever accepted, by id - 1 */
    uint64_t all_cap;

    struct pending pending[WRITES_MAX];
    uint32_t pending_count;
    uint64_t next_event; /* number of the write whose event comes next */

    struct rb_sim_disk_options disk;
    uint32_t body_max, group_count, busy_permille;
    bool clean; /* the last session was closed in order */
    bool flipped;
    bool over;    /* nothing more can be asked of this log */
    bool scarred; /* damage was found before: its file may be named again, but no more than that */
    uint8_t body[BODY_MAX];
};

__attribute__((format(printf, 2, 3))) static void fail(struct run *r, const char *format, ...)
{
    va_list args;
    if (r->failed) {
        return;
    }
    r->failed = true;
    va_start(args, format);
    vsnprintf(r->failure, 256, format, args);
    va_end(args);
}

__attribute__((format(printf, 2, 3))) static void trace(struct run *r, const char *format, ...)
{
    va_list args;
    if (!r->trace) {
        return;
    }
    printf("%10.3f ms  ", (double)r->rig.now_ns / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static uint32_t below(struct run *r, uint32_t bound)
{
    return rb_env_below(&r->draw, bound);
}

static bool chance(struct run *r, uint32_t permille)
{
    return below(r, 1000) < permille;
}

static void stir(struct run *r, uint64_t value)
{
    r->digest = (r->digest ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    r->digest ^= r->digest >> 29;
}

/* ---- events ---- */

static void on_written(struct rig *rig, struct rb_wal_write *write, enum rb_err err)
{
    struct run *r = rig->ctx;
    struct pending *p = (struct pending *)write;
    stir(r, p->number * 2 + (err == RB_OK));
    if (p->number != r->next_event) {
        fail(r, "write %llu ended when %llu was next", (unsigned long long)p->number,
             (unsigned long long)r->next_event);
    }
    r->next_event++;
    if (err == RB_OK) {
        if (r->acknowledged + 1 != p->number) {
            fail(r, "write %llu acknowledged after a failed one", (unsigned long long)p->number);
        }
        r->acknowledged = p->number;
        r->totals->acknowledged++;
    } else if (!rig->stopped) {
        fail(r, "a write failed with \"%s\" and the log did not stop", rb_err_text(err));
    }
    p->number = 0;
    r->pending_count--;
}

/* ---- writes ---- */

static void remember(struct run *r, const struct model_op *op)
{
    if (r->op_count == r->op_cap) {
        r->op_cap = r->op_cap == 0 ? 64 : r->op_cap * 2;
        r->ops = realloc(r->ops, r->op_cap * sizeof(*r->ops));
    }
    if (op->id > r->all_cap) {
        r->all_cap = r->all_cap == 0 ? 64 : r->all_cap * 2;
        r->all = realloc(r->all, r->all_cap * sizeof(*r->all));
    }
    rb_assert(r->ops != NULL && r->all != NULL);
    r->ops[r->op_count++] = *op;
    r->all[op->id - 1] = *op;
    model_apply(&r->now, op);
    r->totals->writes++;
}

static struct pending *free_pending(struct run *r)
{
    for (uint32_t i = 0; i < WRITES_MAX; i++) {
        if (r->pending[i].number == 0) {
            return &r->pending[i];
        }
    }
    return NULL;
}

/* An operation that the model allows now. */
static struct model_op draw_op(struct run *r)
{
    struct model_op op = { .id = r->next_id, .group = below(r, r->group_count) };
    const struct model_group *g = &r->now.groups[op.group];
    uint64_t count = g->last - g->base;
    uint32_t dice = below(r, 1000);
    op.kind = RB_WAL_ENTRY;
    op.index = g->last + 1;
    op.term = model_last_term(g) + (chance(r, 50) ? 1 : 0);
    op.type = (uint8_t)below(r, MODEL_TYPES);
    op.len = MODEL_BODY_MIN + below(r, chance(r, 100) ? r->body_max : 300);
    if (dice < 100) {
        op.kind = RB_WAL_STATE;
        op.index = below(r, MODEL_KEYS);
        op.term = 0;
    } else if (dice < 120 && g->states[op.type][dice % MODEL_KEYS].id != 0) {
        op = (struct model_op){
            .id = op.id, .kind = RB_WAL_STATE_REMOVE, .group = op.group, .type = op.type
        };
        op.index = dice % MODEL_KEYS;
    } else if (dice < 160 && count > 0) {
        op = (struct model_op){ .id = op.id, .kind = RB_WAL_TRUNCATE, .group = op.group };
        op.index = g->last - below(r, count < 5 ? (uint32_t)count : 5);
    } else if (dice < 240 && (count > 0 || dice < 165)) {
        op = (struct model_op){ .id = op.id, .kind = RB_WAL_PREFIX, .group = op.group };
        op.index = count == 0 || chance(r, 100) ? g->last + 1 + below(r, 10)
                                                : g->base + 1 + below(r, (uint32_t)count);
        op.term = model_last_term(g);
    } else if (dice < 250 && g->exists) {
        op = (struct model_op){ .id = op.id, .kind = RB_WAL_GROUP_DROP, .group = op.group };
    }
    return op;
}

static void write_one(struct run *r)
{
    struct pending *p = free_pending(r);
    struct model_op op = draw_op(r);
    if (p == NULL) {
        return;
    }
    struct rb_wal_record record = { .kind = op.kind,
                                    .type = op.type,
                                    .group = op.group + 100,
                                    .term = op.term,
                                    .index = op.index };
    if (op.len > 0) {
        model_body(r->body, op.id, op.len);
        record.body = rb_slice_of(r->body, op.len);
    }
    enum rb_err err = r->rig.log->ops->write(r->rig.log, &p->write, &record);
    stir(r, err);
    if (err == RB_OK) {
        r->next_id++;
        remember(r, &op);
        p->number = r->op_count;
        r->pending_count++;
        return;
    }
    r->totals->spaces += err == RB_ERR_SPACE;
    bool states_full = err == RB_ERR_LIMIT && op.kind == RB_WAL_STATE;
    if (err != RB_ERR_FULL && err != RB_ERR_SPACE && !states_full &&
        !(err == RB_ERR_IO && r->rig.stopped)) {
        bool stopping = err == RB_ERR_IO; /* the event may not have been polled yet */
        if (!stopping) {
            fail(r, "a write of kind %d was refused: %s", op.kind, rb_err_text(err));
        }
    }
}

/* ---- reading everything back ---- */

static enum rb_err read_item(struct run *r, uint32_t group, enum rb_wal_record_kind kind,
                             uint8_t type, uint64_t index, struct model_item *ret_item)
{
    size_t len = 0;
    *ret_item = (struct model_item){ 0 };
    enum rb_err err =
        rig_read(&r->rig, kind, group + 100, type, index, r->body, BODY_MAX, &len, &ret_item->term);
    if (err != RB_OK) {
        return err;
    }
    ret_item->id = model_read_body(rb_slice_of(r->body, len));
    ret_item->len = (uint32_t)len;
    if (ret_item->id == 0 || ret_item->id >= r->next_id) {
        fail(r, "group %u index %llu holds bytes that nobody wrote", group,
             (unsigned long long)index);
        return RB_OK;
    }
    const struct model_op *op = &r->all[ret_item->id - 1];
    if (op->kind != kind || op->group != group || op->index != index || op->len != len ||
        op->term != ret_item->term || (kind == RB_WAL_STATE && op->type != type)) {
        fail(r, "group %u index %llu holds write %llu of another place", group,
             (unsigned long long)index, (unsigned long long)ret_item->id);
    }
    return RB_OK;
}

static void read_states(struct run *r, uint32_t group, struct model_group *g)
{
    struct rb_wal_state_at at = { 0 };
    while (rb_wal_state_next(r->rig.log, group + 100, &at)) {
        struct model_item item;
        if (at.type >= MODEL_TYPES || at.key >= MODEL_KEYS) {
            fail(r, "a state that nobody wrote");
            return;
        }
        enum rb_err err = read_item(r, group, RB_WAL_STATE, at.type, at.key, &item);
        if (err != RB_OK && !(err == RB_ERR_CORRUPT && r->flipped)) {
            fail(r, "state %u.%llu of group %u cannot be read: %s", at.type,
                 (unsigned long long)at.key, group, rb_err_text(err));
        }
        g->states[at.type][at.key] = item;
    }
}

static void read_group(struct run *r, uint32_t group, struct model_group *g)
{
    struct rb_wal_group_info info;
    if (!rb_wal_group(r->rig.log, group + 100, &info)) {
        return;
    }
    g->exists = true;
    g->base = g->last = info.base;
    g->base_term = info.base_term;
    if ((info.damaged || info.lost_count > 0 || info.in_doubt) && !r->flipped && !r->scarred) {
        fail(r, "group %u is damaged without reason: %d %llu %d", group, info.damaged,
             (unsigned long long)info.lost_count, info.in_doubt);
    }
    while (g->last < info.last && !r->failed) {
        struct model_item item;
        uint64_t index = g->last + 1;
        uint64_t term = 0;
        enum rb_err err = read_item(r, group, RB_WAL_ENTRY, 0, index, &item);
        if (err != RB_OK && !(err == RB_ERR_CORRUPT && r->flipped)) {
            fail(r, "entry %llu of group %u cannot be read: %s", (unsigned long long)index, group,
                 rb_err_text(err));
        }
        if (err == RB_OK &&
            (rb_wal_term(r->rig.log, group + 100, index, &term) != RB_OK || term != item.term)) {
            fail(r, "entry %llu of group %u has another term", (unsigned long long)index, group);
        }
        model_push(g, item);
    }
    read_states(r, group, g);
}

static void read_all(struct run *r, struct model_state *found)
{
    struct rb_wal_group_info info;
    uint32_t at = 0;
    while (rb_wal_group_next(r->rig.log, &at, &info)) {
        if (info.id < 100 || info.id >= 100 + r->group_count) {
            fail(r, "a group that nobody wrote");
        }
    }
    for (uint32_t i = 0; i < MODEL_GROUPS && !r->failed; i++) {
        read_group(r, i, &found->groups[i]);
    }
}

/* How many of the accepted writes make up `found`; UINT64_MAX: it is no state that ever was. */
static uint64_t match(struct run *r, const struct model_state *found, uint64_t from)
{
    struct model_state state = { 0 };
    uint64_t at = 0;
    model_copy(&state, &r->base);
    for (;; at++) {
        if (at >= from && model_equal(&state, found)) {
            break;
        }
        if (at == r->op_count) {
            at = UINT64_MAX;
            break;
        }
        model_apply(&state, &r->ops[at]);
    }
    model_free(&state);
    return at;
}

/* Prints how `found` differs from the state with all accepted writes. */
static void explain(struct run *r, const struct model_state *found)
{
    for (uint32_t i = 0; i < MODEL_GROUPS; i++) {
        const struct model_group *a = &found->groups[i];
        const struct model_group *b = &r->now.groups[i];
        trace(r, "group %u: found %d %llu (%llu) .. %llu, expected %d %llu (%llu) .. %llu", i,
              a->exists, (unsigned long long)a->base, (unsigned long long)a->base_term,
              (unsigned long long)a->last, b->exists, (unsigned long long)b->base,
              (unsigned long long)b->base_term, (unsigned long long)b->last);
        for (uint64_t at = a->base + 1; at > b->base && at <= a->last && at <= b->last; at++) {
            uint64_t x = a->entries[at - a->base - 1].id;
            uint64_t y = b->entries[at - b->base - 1].id;
            if (x != y) {
                trace(r, "  entry %llu: found %llu, expected %llu", (unsigned long long)at,
                      (unsigned long long)x, (unsigned long long)y);
            }
        }
        for (uint32_t n = 0; n < MODEL_TYPES * MODEL_KEYS; n++) {
            uint64_t x = (&a->states[0][0] + n)->id;
            uint64_t y = (&b->states[0][0] + n)->id;
            if (x != y) {
                trace(r, "  state %u: found %llu, expected %llu", n, (unsigned long long)x,
                      (unsigned long long)y);
            }
        }
    }
}

static void adopt(struct run *r, struct model_state *found)
{
    model_free(&r->base);
    r->base = *found;
    *found = (struct model_state){ 0 };
    model_copy(&r->now, &r->base);
    r->op_count = r->acknowledged = 0;
    r->next_event = 1;
}

static void faults(struct run *r, bool on)
{
    struct rb_sim_disk_options disk = r->disk;
    if (!on) {
        disk.write_fail_permille = disk.read_fail_permille = disk.other_fail_permille = 0;
        disk.stuck_permille = 0;
    }
    rb_sim_disk_set(r->rig.disk, &disk);
}

/* After damage was found: everything is dropped, so that the next sessions know again what must be there. */
static void drop_all(struct run *r)
{
    struct rb_wal_write writes[MODEL_GROUPS];
    memset(writes, 0, sizeof(writes));
    uint64_t failed = r->rig.failed_count;
    r->rig.on_written = NULL;
    r->disk.capacity_bytes = 0;
    faults(r, false);
    for (uint32_t i = 0; i < MODEL_GROUPS; i++) {
        struct rb_wal_group_info info;
        if (rb_wal_group(r->rig.log, i + 100, &info)) {
            enum rb_err err;
            int tries = 0;
            while (((err = rb_wal_drop_group(r->rig.log, &writes[i], i + 100)) == RB_ERR_FULL ||
                    err == RB_ERR_SPACE) &&
                   tries++ < 1000) {
                rig_turn(&r->rig);
            }
            struct rb_wal_stats stats;
            rb_wal_stats(r->rig.log, &stats);
            if (err == RB_ERR_SPACE && stats.file_count >= r->rig.options.files_max + 8) {
                r->over = true; /* deletes that freed nothing have used up even their own reserve */
                r->totals->exhausted++;
                break;
            }
            if (err != RB_OK) {
                fail(r, "a damaged group cannot be dropped: %s", rb_err_text(err));
            }
        }
    }
    rig_settle(&r->rig);
    if (r->rig.failed_count > failed) {
        fail(r, "a damaged group could not be dropped");
    }
    rb_wal_damage_handled(r->rig.log);
    r->scarred = true;
    r->rig.on_written = on_written;
    struct model_state empty = { 0 };
    adopt(r, &empty);
    r->flipped = false;
}

static void compare(struct run *r)
{
    struct model_state found = { 0 };
    read_all(r, &found);
    if (r->failed) {
        model_free(&found);
        return;
    }
    uint64_t from = r->flipped && !r->clean ? 0 : r->acknowledged;
    uint64_t at = match(r, &found, from);
    struct rb_wal_stats stats;
    rb_wal_stats(r->rig.log, &stats);
    r->totals->torn += stats.torn_batches;
    r->totals->damages += stats.damages;
    if (at == UINT64_MAX && r->trace) {
        explain(r, &found);
    }
    trace(r, "opened: %llu of %llu writes, %llu acknowledged, %llu torn batches, %llu damages",
          (unsigned long long)at, (unsigned long long)r->op_count,
          (unsigned long long)r->acknowledged, (unsigned long long)stats.torn_batches,
          (unsigned long long)stats.damages);
    stir(r, at);
    if (stats.damages > 0 && !r->flipped && !r->scarred) {
        fail(r, "damage is named where there is none: %s at %llu", r->rig.damages[0].file,
             (unsigned long long)r->rig.damages[0].offset);
    } else if (at == UINT64_MAX && (stats.damages == 0 || !r->flipped)) {
        fail(r,
             "what the log holds is no state between the %llu acknowledged and the %llu accepted "
             "writes",
             (unsigned long long)r->acknowledged, (unsigned long long)r->op_count);
    } else if (r->rig.stopped) {
        model_free(&found);
    } else if (stats.damages > 0 && at == UINT64_MAX) {
        model_free(&found);
        drop_all(r);
    } else {
        adopt(r, &found);
        r->flipped = false;
        r->scarred = r->scarred || stats.damages > 0;
        if (chance(r, 500)) {
            rb_wal_damage_handled(r->rig.log);
        }
    }
    model_free(&found);
}

/* ---- sessions ---- */

static void cut(struct run *r)
{
    bool power = chance(r, 600);
    trace(r, "%s: %llu accepted, %llu acknowledged", power ? "power cut" : "kill",
          (unsigned long long)r->op_count, (unsigned long long)r->acknowledged);
    rig_cut(&r->rig, power);
    *(power ? &r->totals->cuts : &r->totals->kills) += 1;
    memset(r->pending, 0, sizeof(r->pending));
    r->pending_count = 0;
    r->clean = false;
}

/* Opens, possibly several times with a crash in the middle. Faults are off at last, so that it must succeed. */
static void open_log(struct run *r)
{
    uint32_t tries = below(r, 3);
    r->rig.options.writes_max = 1 + below(r, 6);
    if (chance(r, 100)) {
        r->rig.options.seal_ns = 1 + below(r, 100000000);
    }
    for (; tries > 0; tries--) {
        faults(r, chance(r, 500));
        rig_create(&r->rig);
        uint32_t turns = below(r, 80);
        for (uint32_t i = 0; i < turns && rig_turn(&r->rig); i++) {
        }
        r->totals->opens_failed += r->rig.opened && r->rig.opened_err != RB_OK;
        cut(r);
    }
    faults(r, false);
    enum rb_err err = rig_open(&r->rig);
    if (err != RB_OK) {
        fail(r, "the log cannot be opened: %s", rb_err_text(err));
    }
}

static void check_now(struct run *r)
{
    uint32_t group = below(r, r->group_count);
    const struct model_group *g = &r->now.groups[group];
    struct rb_wal_group_info info = { 0 };
    bool exists = rb_wal_group(r->rig.log, group + 100, &info);
    if (exists != g->exists || info.base != g->base || info.last != g->last ||
        info.last_term != model_last_term(g)) {
        fail(r, "group %u is %llu..%llu and should be %llu..%llu", group,
             (unsigned long long)info.base, (unsigned long long)info.last,
             (unsigned long long)g->base, (unsigned long long)g->last);
        return;
    }
    if (g->last == g->base) {
        return;
    }
    uint64_t index = g->base + 1 + below(r, (uint32_t)(g->last - g->base));
    struct model_item item;
    enum rb_err err = read_item(r, group, RB_WAL_ENTRY, 0, index, &item);
    if (err == RB_OK && item.id != g->entries[index - g->base - 1].id) {
        fail(r, "entry %llu of group %u is an older one", (unsigned long long)index, group);
    }
    if (err != RB_OK && err != RB_ERR_BUSY && err != RB_ERR_IO && err != RB_ERR_FULL &&
        err != RB_ERR_TIMEOUT) {
        fail(r, "entry %llu of group %u cannot be read: %s", (unsigned long long)index, group,
             rb_err_text(err));
    }
}

static void work(struct run *r)
{
    uint32_t turns = below(r, chance(r, 300) ? 30 : 600);
    faults(r, true);
    for (uint32_t i = 0; i < turns && !r->failed && !r->rig.stopped; i++) {
        for (uint32_t n = chance(r, r->busy_permille) ? below(r, 40) : below(r, 3); n > 0; n--) {
            write_one(r);
        }
        if (chance(r, 30) && r->disk.stuck_permille == 0) {
            check_now(r); /* waits: not with writes that never end */
        }
        rig_turn(&r->rig);
    }
    r->totals->stops += r->rig.stopped;
}

/* Flips bits in one of the files, where something was written. */
static void flip(struct run *r)
{
    uint32_t files = 0;
    while (rb_sim_disk_name(r->rig.disk, files) != NULL) {
        files++;
    }
    for (uint32_t n = 1 + below(r, 3); n > 0; n--) {
        const char *name = rb_sim_disk_name(r->rig.disk, below(r, files));
        uint64_t size = 0;
        if (name == NULL || rb_sim_disk_bytes(r->rig.disk, name, &size) == NULL || size == 0) {
            continue;
        }
        if (chance(r, 50) && strstr(name, ".wal") != NULL) {
            trace(r, "%s is cut off", name);
            rb_sim_disk_chop(r->rig.disk, name, below(r, (uint32_t)size));
        } else {
            uint64_t at = below(r, (uint32_t)size);
            trace(r, "a bit of %s at %llu flips", name, (unsigned long long)at);
            rb_sim_disk_flip(r->rig.disk, name, at, (uint8_t)(1 << below(r, 8)));
        }
        r->flipped = true;
        r->totals->flips++;
    }
}

static void end_session(struct run *r)
{
    uint32_t how = below(r, 1000);
    if (how < 300 && !r->rig.stopped && r->disk.stuck_permille == 0) {
        faults(r, false);
        rig_close(&r->rig);
        trace(r, "closed: %llu accepted, %llu acknowledged", (unsigned long long)r->op_count,
              (unsigned long long)r->acknowledged);
        r->totals->closes++;
        r->clean = true;
        if (r->acknowledged != r->op_count && !r->rig.stopped) {
            fail(r, "closed with writes that have no event");
        }
        memset(r->pending, 0, sizeof(r->pending));
        r->pending_count = 0;
    } else {
        cut(r);
    }
    if (chance(r, r->clean ? 400 : 100)) {
        flip(r);
    }
}

static void draw_plan(struct run *r)
{
    struct rb_wal_options *o = &r->rig.options;
    o->batch_bytes = 4096 * (2 + below(r, 4));
    o->file_bytes = 4096 * (uint64_t)(2 * o->batch_bytes / 4096 + below(r, 12));
    o->files_max = 4 + below(r, 10);
    o->state_bytes_max = o->file_bytes;
    o->seal_ns = 1 + below(r, 50000000);
    o->retry_ns = 1000000 + below(r, 100000000);
    r->body_max = o->batch_bytes - 128 - 40 - MODEL_BODY_MIN;
    r->body_max = r->body_max > BODY_MAX - 16 ? BODY_MAX - 16 : r->body_max;
    r->group_count = 1 + below(r, MODEL_GROUPS);
    r->busy_permille = below(r, 1000);
    r->disk = (struct rb_sim_disk_options){ .delay_min_ns = 1 + below(r, 100000) };
    r->disk.delay_max_ns = r->disk.delay_min_ns + below(r, 1000000);
    if (chance(r, 250)) {
        r->disk.write_fail_permille = below(r, 10);
    }
    if (chance(r, 150)) {
        r->disk.stuck_permille = below(r, 20);
    }
    if (chance(r, 150)) {
        r->disk.other_fail_permille = below(r, 20);
    }
    if (chance(r, 150)) {
        r->disk.read_fail_permille = below(r, 50);
    }
    if (chance(r, 200)) {
        r->disk.capacity_bytes = o->file_bytes * (4 + below(r, 4)) + below(r, 10000);
    }
}

static void run_deinit(struct run *r)
{
    if (r->rig.log != NULL) {
        rig_cut(&r->rig, true);
    }
    rig_deinit(&r->rig);
    model_free(&r->base);
    model_free(&r->now);
    free(r->ops);
    free(r->all);
    free(r);
}

bool run_seed(uint64_t seed, bool traced, struct run_totals *totals, uint64_t *ret_digest,
              char failure[256])
{
    struct run *r = calloc(1, sizeof(*r));
    rb_assert(r != NULL);
    r->trace = traced;
    r->failure = failure;
    r->totals = totals;
    r->next_id = 1;
    r->next_event = 1;
    rb_env_seed(&r->draw, seed);
    rig_init_sim(&r->rig, seed ^ 0x5EED);
    r->rig.ctx = r;
    r->rig.on_written = on_written;
    draw_plan(r);
    uint32_t sessions = 1 + below(r, SESSIONS_MAX);
    for (uint32_t i = 0; i <= sessions && !r->failed && !r->over; i++) {
        open_log(r);
        if (!r->failed) {
            compare(r);
        }
        if (!r->failed && !r->over && i < sessions) {
            work(r);
        }
        if (!r->failed) {
            end_session(r);
        }
        totals->sessions++;
    }
    bool good = !r->failed;
    *ret_digest = r->digest;
    run_deinit(r);
    return good;
}
