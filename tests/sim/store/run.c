/* run.c - one seed of the message stores' simulation.
 *
 *   session: open -> calls for some turns -> close | power cut | kill -> (damage) -> open and compare
 *
 * What is compared after each opening: the store is exactly the model as of a checkpoint that was begun: the newest one that was
 * reported, or one that was being written. After bits were flipped on purpose it may be an older one, or bodies may be
 * missing; then damage must have been named, and every body given out must still be the one that was appended there.
 */
#include "run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "ringbus/check.h"
#include "store_rig.h"

#define STORES 3 /* the last one is in memory */
#define SNAPSHOTS_MAX 256
#define GETS_MAX 8
#define BODY_MAX 400000
#define ERASED_MAX 4096

struct snapshot {
    uint64_t index;
    struct model model;
    bool reported;
};

struct subject_store {
    struct run *run;
    struct rb_msgstore *store;
    char directory[16];
    bool memory, open, opened, busy, ending;
    struct model model;
    struct snapshot snapshots
        [SNAPSHOTS_MAX]; /* of calls; [0] is the base: what was found at the last opening */
    uint32_t snapshot_count;
    uint64_t reported,
        before; /* log index of the newest reported checkpoint, and of the one before it */
    uint64_t
        erased[ERASED_MAX]; /* ids whose bytes were overwritten: a checkpoint may still list them */
    uint32_t erased_count;
    bool flipped;
    uint32_t damages;
    uint32_t owed_since;
    uint64_t owed; /* this message was damaged, and no damage was named yet */
};

struct pending_get {
    struct rb_msgstore_wait wait;
    struct subject_store *s;
    uint64_t seq;
};

struct run {
    struct store_rig rig;
    struct rb_env draw;
    bool trace, failed;
    char *failure;
    struct run_totals *totals;
    uint64_t digest, next_id, next_index;
    struct subject_store stores[STORES];
    struct pending_get gets[GETS_MAX];
    struct rb_sim_disk_options disk;
    uint32_t body_max, busy_permille, remove_permille;
    bool read_faults;
    bool erases; /* a power cut in the middle of one leaves a body that looks damaged */
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

/* ---- bodies ---- */

static bool was_erased(const struct subject_store *s, uint64_t id)
{
    for (uint32_t i = 0; i < s->erased_count; i++) {
        if (s->erased[i] == id) {
            return true;
        }
    }
    return false;
}

/* What get() gave for a message of the model. */
static void check_body(struct subject_store *s, uint64_t seq, enum rb_err err,
                       const struct rb_message *found)
{
    struct run *r = s->run;
    const struct model_message *m = &s->model.at[seq - 1];
    char subject[64];
    r->totals->gets++;
    if (err == RB_ERR_CORRUPT) {
        r->totals->corrupt++;
        if (!was_erased(s, m->id) && s->damages == 0) {
            s->owed = seq; /* the event comes with the next poll but one */
            s->owed_since = 0;
        }
        if (!was_erased(s, m->id) && !s->flipped && !r->read_faults) {
            fail(r, "%s: message %llu reads as corrupt without reason", s->directory,
                 (unsigned long long)seq);
        }
        return;
    }
    if (err != RB_OK) {
        fail(r, "%s: message %llu cannot be read: %s", s->directory, (unsigned long long)seq,
             rb_err_text(err));
        return;
    }
    struct rb_slice name = rb_slice_of(subject, model_subject(m->subject, subject));
    model_body(r->body, m->id, m->len);
    if (found->seq != seq || found->time_ns != m->time_ns || found->header_len != m->header_len ||
        !rb_slice_equal(found->subject, name) ||
        !rb_slice_equal(found->payload, rb_slice_of(r->body, m->len))) {
        fail(r, "%s: message %llu is another one", s->directory, (unsigned long long)seq);
    }
}

static void try_get(struct run *r, struct pending_get *g)
{
    struct subject_store *s = g->s;
    struct rb_message found;
    enum rb_err err = rb_msgstore_get(s->store, g->seq, &g->wait, &found);
    stir(r, err);
    if (err == RB_ERR_BUSY) {
        r->totals->loads++;
        return;
    }
    if (!model_has(&s->model, g->seq)) {
        if (err != RB_ERR_MISSING) {
            fail(r, "%s: message %llu should be gone", s->directory, (unsigned long long)g->seq);
        }
    } else {
        check_body(s, g->seq, err, &found);
    }
    g->s = NULL;
}

static void begin_get(struct run *r, struct subject_store *s)
{
    for (uint32_t i = 0; i < GETS_MAX; i++) {
        struct pending_get *g = &r->gets[i];
        if (g->s == NULL) {
            g->s = s;
            g->seq = s->model.last == 0 ? 1 : 1 + below(r, (uint32_t)s->model.last);
            try_get(r, g);
            return;
        }
    }
    struct pending_get *g = &r->gets[below(r, GETS_MAX)];
    if (chance(r, 100)) {
        rb_msgstore_forget(&g->wait);
        g->s = NULL;
    }
}

static void drop_gets(struct run *r, const struct subject_store *s)
{
    for (uint32_t i = 0; i < GETS_MAX; i++) {
        if (s == NULL || r->gets[i].s == s) {
            r->gets[i] = (struct pending_get){ 0 };
        }
    }
}

/* ---- events ---- */

static void on_checkpointed(struct subject_store *s, const struct rb_msgstore_event *event)
{
    struct run *r = s->run;
    s->busy = false;
    trace(r, "%s: checkpoint %llu: %s", s->directory, (unsigned long long)event->index,
          rb_err_text(event->err));
    if (event->err != RB_OK) {
        r->totals->checkpoint_errors++;
        return;
    }
    r->totals->checkpoints++;
    for (uint32_t i = 0; i < s->snapshot_count; i++) {
        if (s->snapshots[i].index == event->index) {
            s->snapshots[i].reported = true;
            s->before = s->reported;
            s->reported = event->index;
        }
    }
    if (s->reported != event->index) {
        fail(r, "%s: a checkpoint was reported that nobody asked for", s->directory);
    }
    if (rb_msgstore_durable_index(s->store) > s->before) {
        fail(r, "%s: durable is %llu, and the checkpoint before is %llu", s->directory,
             (unsigned long long)rb_msgstore_durable_index(s->store),
             (unsigned long long)s->before);
    }
}

static void on_event(struct store_rig *rig, const struct rb_msgstore_event *event)
{
    struct run *r = rig->ctx;
    struct subject_store *s = event->owner;
    stir(r, event->kind * 16 + event->err);
    switch (event->kind) {
    case RB_MSGSTORE_OPENED:
        s->opened = true;
        rig->opened_err = event->err;
        break;
    case RB_MSGSTORE_LOADED:
        if (event->wait->owner == rig) {
            break; /* store_rig_get() waits */
        }
        if (((struct pending_get *)event->wait)->s == NULL) {
            fail(r, "an event for a get that was withdrawn");
            return;
        }
        try_get(r, (struct pending_get *)event->wait);
        break;
    case RB_MSGSTORE_CHECKPOINTED:
        on_checkpointed(s, event);
        break;
    case RB_MSGSTORE_DAMAGED:
        trace(r, "damage: %s", event->text);
        s->damages++;
        r->totals->damages++;
        break;
    case RB_MSGSTORE_CLOSED:
        s->store = NULL;
        s->ending = false;
        break;
    }
}

/* After a poll: damage has a name. */
static void check_owed(struct run *r)
{
    for (int i = 0; i < STORES; i++) {
        struct subject_store *s = &r->stores[i];
        if (s->owed != 0 && s->damages == 0 && s->owed_since++ == 0) {
            continue;
        }
        if (s->owed != 0 && s->damages == 0) {
            fail(r, "%s: message %llu reads as corrupt, and no damage was named", s->directory,
                 (unsigned long long)s->owed);
        }
        s->owed = 0;
    }
}

/* ---- calls ---- */

static void on_removed(void *owner, uint64_t seq, uint64_t bytes, struct rb_slice subject)
{
    struct subject_store *s = owner;
    char text[64];
    if (!model_has(&s->model, seq)) {
        fail(s->run, "%s: %llu was removed, and is not there", s->directory,
             (unsigned long long)seq);
        return;
    }
    const struct model_message *m = &s->model.at[seq - 1];
    if (bytes != model_counts(&s->model, m) ||
        !rb_slice_equal(subject, rb_slice_of(text, model_subject(m->subject, text)))) {
        fail(s->run, "%s: removed %llu is another message", s->directory, (unsigned long long)seq);
    }
    model_remove(&s->model, seq);
}

static void append_one(struct run *r, struct subject_store *s)
{
    char text[64];
    struct model_message m = { .id = r->next_id++, .time_ns = r->rig.now_ns };
    uint64_t seq = s->model.last + 1 + (chance(r, 20) ? below(r, 5) : 0);
    uint32_t dice = below(r, 1000);
    m.len = dice < 3 ? below(r, BODY_MAX) : dice < 100 ? below(r, r->body_max) : below(r, 300);
    m.subject = (uint8_t)below(r, MODEL_SUBJECTS);
    m.header_len = m.len > 0 && chance(r, 300) ? 1 + below(r, m.len) : 0;
    model_body(r->body, m.id, m.len);
    struct rb_message message = {
        .seq = seq,
        .time_ns = m.time_ns,
        .subject = rb_slice_of(text, model_subject(m.subject, text)),
        .payload = rb_slice_of(r->body, m.len),
        .header_len = m.header_len,
    };
    enum rb_err err = rb_msgstore_append(s->store, &message);
    if (err == RB_OK) {
        model_append(&s->model, seq, &m);
        r->totals->appends++;
    } else {
        fail(r, "%s: append: %s", s->directory, rb_err_text(err));
    }
}

static void remove_one(struct run *r, struct subject_store *s)
{
    if (s->model.last == 0) {
        return;
    }
    uint64_t seq = 1 + below(r, (uint32_t)s->model.last);
    bool erase = r->erases && chance(r, 300) && s->erased_count < ERASED_MAX;
    bool there = model_has(&s->model, seq);
    if (there && erase) {
        s->erased[s->erased_count++] = s->model.at[seq - 1].id;
    }
    if (rb_msgstore_remove(s->store, seq, erase) != there) {
        fail(r, "%s: remove of %llu says that it was%s there", s->directory,
             (unsigned long long)seq, there ? " not" : "");
    }
    r->totals->removes += there;
}

static void purge_some(struct run *r, struct subject_store *s)
{
    uint64_t before = s->model.count;
    uint64_t count;
    if (chance(r, 400)) {
        uint64_t seq = s->model.first + below(r, (uint32_t)(s->model.last - s->model.first + 3));
        count = rb_msgstore_purge_below(s->store, seq);
        model_skip(&s->model, seq - 1);
    } else if (chance(r, 50)) {
        count = rb_msgstore_purge(s->store, RB_S(">"), 0, 0);
    } else {
        uint64_t keep = chance(r, 500) ? below(r, 20) : 0;
        uint64_t limit = chance(r, 500) ? 1 + below(r, (uint32_t)s->model.last + 2) : 0;
        count = rb_msgstore_purge(
            s->store, chance(r, 500) ? RB_S("orders.a.>") : RB_S("orders.*.7"), limit, keep);
    }
    if (before - count != s->model.count) {
        fail(r, "%s: a purge says %llu", s->directory, (unsigned long long)count);
    }
    r->totals->removes += count;
}

static void checkpoint(struct run *r, struct subject_store *s)
{
    uint64_t index = r->next_index++;
    char blob[32];
    int len = snprintf(blob, sizeof(blob), "blob %llu", (unsigned long long)index);
    enum rb_err err = rb_msgstore_checkpoint(s->store, index, rb_slice_of(blob, (size_t)len));
    if (err != (s->busy ? RB_ERR_BUSY : RB_OK)) {
        fail(r, "%s: checkpoint: %s", s->directory, rb_err_text(err));
    }
    if (err == RB_OK) {
        s->busy = true;
        if (s->snapshot_count == SNAPSHOTS_MAX) {
            fail(r, "too many checkpoints for the model");
            return;
        }
        struct snapshot *snapshot = &s->snapshots[s->snapshot_count++];
        *snapshot = (struct snapshot){ .index = index };
        model_copy(&snapshot->model, &s->model);
        trace(r, "%s: checkpoint %llu begins: %llu messages up to %llu", s->directory,
              (unsigned long long)index, (unsigned long long)s->model.count,
              (unsigned long long)s->model.last);
    }
}

static void forget_snapshots(struct subject_store *s)
{
    for (uint32_t i = 0; i < s->snapshot_count; i++) {
        model_free(&s->snapshots[i].model);
    }
    s->snapshot_count = 0;
}

/* ---- opening and comparing ---- */

static void compare_state(struct subject_store *s)
{
    struct rb_msgstore_state state;
    rb_msgstore_state(s->store, &state);
    const struct model *m = &s->model;
    uint64_t first = 0;
    for (uint64_t seq = 1; seq <= m->last && first == 0; seq++) {
        first = model_has(m, seq) ? seq : 0;
    }
    first = first == 0 ? m->last + 1 : first;
    if (state.messages != m->count || state.bytes != m->bytes || state.last_seq != m->last ||
        state.first_seq != first) {
        fail(s->run, "%s: %llu messages, %llu bytes, %llu..%llu; should be %llu, %llu, %llu..%llu",
             s->directory, (unsigned long long)state.messages, (unsigned long long)state.bytes,
             (unsigned long long)state.first_seq, (unsigned long long)state.last_seq,
             (unsigned long long)m->count, (unsigned long long)m->bytes, (unsigned long long)first,
             (unsigned long long)m->last);
    }
}

static void compare_all(struct subject_store *s, bool bodies)
{
    struct run *r = s->run;
    compare_state(s);
    for (uint64_t seq = 1; seq <= s->model.last + 1 && !r->failed; seq++) {
        struct rb_msgstore_entry entry;
        bool there = rb_msgstore_find(s->store, seq, &entry);
        if (there != model_has(&s->model, seq)) {
            fail(r, "%s: message %llu is %sthere", s->directory, (unsigned long long)seq,
                 there ? "" : "not ");
            return;
        }
        struct rb_message found;
        if (there && bodies) {
            enum rb_err err = store_rig_get(&r->rig, s->store, seq, &found);
            check_body(s, seq, err, &found);
        }
    }
}

/* The checkpoint that was found; NULL: none that was asked for. */
static struct snapshot *find_snapshot(struct subject_store *s, uint64_t index)
{
    for (uint32_t i = 0; i < s->snapshot_count; i++) {
        if (s->snapshots[i].index == index) {
            return &s->snapshots[i];
        }
    }
    return NULL;
}

/* After damage: what is there must have been appended there once; then the model is what is there. */
static void adopt_damaged(struct subject_store *s)
{
    struct run *r = s->run;
    struct model all = { .memory = false, .first = 1 };
    for (uint32_t i = 0; i < s->snapshot_count; i++) {
        struct model *m = &s->snapshots[i].model;
        for (uint64_t seq = 1; seq <= m->last; seq++) {
            if (model_has(m, seq) && !model_has(&all, seq)) {
                model_skip(&all, seq > all.last ? seq : all.last);
                all.at[seq - 1] = m->at[seq - 1];
            }
        }
    }
    for (uint64_t seq = 1; seq <= s->model.last; seq++) { /* as of the end of the session */
        if (s->model.at[seq - 1].time_ns != 0) {
            model_skip(&all, seq > all.last ? seq : all.last);
            if (all.at[seq - 1].id == 0) {
                all.at[seq - 1] = s->model.at[seq - 1];
            }
        }
    }
    for (uint64_t seq = rb_msgstore_next(s->store, 1); seq != 0 && !r->failed;
         seq = rb_msgstore_next(s->store, seq + 1)) {
        struct rb_message found;
        enum rb_err err = store_rig_get(&r->rig, s->store, seq, &found);
        bool known = seq <= all.last && all.at[seq - 1].len == found.payload.len;
        if (err == RB_OK && !known && s->snapshot_count == 0) {
            fail(r, "%s: message %llu was never appended", s->directory, (unsigned long long)seq);
        } else if (err != RB_OK && err != RB_ERR_CORRUPT) {
            fail(r, "%s: message %llu cannot be read: %s", s->directory, (unsigned long long)seq,
                 rb_err_text(err));
        }
    }
    model_free(&all);
}

static void open_store(struct run *r, struct subject_store *s)
{
    struct rb_msgstore_options options = { .owner = s,
                                           .directory = s->memory ? NULL : s->directory,
                                           .removed = on_removed,
                                           .subjects = true };
    s->opened = false;
    enum rb_err err = rb_msgstore_open(r->rig.home, &options, &s->store);
    if (err != RB_OK) {
        fail(r, "%s: open: %s", s->directory, rb_err_text(err));
    }
}

static void restart_empty(struct run *r, struct subject_store *s)
{
    struct rb_msgstore *old = s->store;
    rb_msgstore_destroy(old);
    s->ending = true;
    for (int i = 0; i < 200000 && s->store != NULL; i++) {
        store_rig_turn(&r->rig);
    }
    if (s->store != NULL) {
        fail(r, "%s: cannot be destroyed", s->directory);
        return;
    }
    r->totals->destroyed++;
    forget_snapshots(s);
    model_free(&s->model);
    s->reported = s->before = 0;
    s->erased_count = 0;
    s->flipped = false;
    s->busy = false;
    s->damages = 0;
    open_store(r, s);
    if (!store_rig_until(&r->rig, &s->opened, 200000) || r->rig.opened_err != RB_OK) {
        fail(r, "%s: cannot be made anew", s->directory);
    }
    compare_state(s);
}

static void compare_found(struct run *r, struct subject_store *s)
{
    struct rb_slice blob;
    uint64_t index = rb_msgstore_restored(s->store, &blob);
    struct snapshot *snapshot = find_snapshot(s, index);
    char text[32] = "";
    trace(r, "%s: found %llu, reported was %llu, %u damages", s->directory,
          (unsigned long long)index, (unsigned long long)s->reported, s->damages);
    stir(r, index);
    if (s->damages > 0 && !s->flipped && !r->read_faults && s->erased_count == 0) {
        fail(r, "%s: damage is named where there is none", s->directory);
        return;
    }
    bool exact = index >= s->reported && (snapshot != NULL || index == 0);
    bool scanned = index == 0 && s->reported > 0;
    r->totals->scans += scanned;
    r->totals->moved_back += index < s->reported;
    if (!exact && (!s->flipped || s->damages == 0)) {
        fail(r, "%s: checkpoint %llu was reported, %llu was found", s->directory,
             (unsigned long long)s->reported, (unsigned long long)index);
        return;
    }
    if (snapshot != NULL) {
        snprintf(text, sizeof(text), "blob %llu", (unsigned long long)index);
        if (index > 0 && !rb_slice_equal(blob, rb_slice_text(text))) {
            fail(r, "%s: the blob is another one", s->directory);
        }
    }
    struct rb_msgstore_state state;
    rb_msgstore_state(s->store, &state);
    bool rebuilt =
        scanned || (s->damages > 0 && snapshot != NULL && state.messages != snapshot->model.count);
    if (s->flipped && s->damages > 0 && (rebuilt || snapshot == NULL)) {
        adopt_damaged(s);
        if (!r->failed) {
            restart_empty(r, s);
        }
        return;
    }
    if (snapshot != NULL) {
        model_copy(&s->model, &snapshot->model);
    } else {
        model_free(&s->model);
    }
    compare_all(s, true);
    for (int i = 0; i < 2; i++) {
        store_rig_turn(&r->rig);
        check_owed(r);
    }
    if (s->damages > 0 && s->flipped && !r->failed) {
        restart_empty(r, s);
        return;
    }
    struct snapshot base = { .index = index, .reported = true };
    model_copy(&base.model, &s->model);
    if (rb_msgstore_durable_index(s->store) > index) {
        fail(r, "%s: durable is ahead of what was found", s->directory);
    }
    s->before = rb_msgstore_durable_index(s->store);
    struct snapshot older = { 0 }; /* damage may lead there */
    struct snapshot *found = find_snapshot(s, s->before);
    if (found != NULL && s->before != index) {
        older.index = s->before;
        model_copy(&older.model, &found->model);
    }
    forget_snapshots(s);
    s->snapshots[s->snapshot_count++] = base;
    if (older.index > 0 || found != NULL) {
        s->snapshots[s->snapshot_count++] = older;
    }
    s->reported = index;
    s->flipped = false;
}

/* ---- sessions ---- */

static void faults(struct run *r, bool on)
{
    struct rb_sim_disk_options disk = r->disk;
    if (!on) {
        disk.write_fail_permille = disk.read_fail_permille = disk.other_fail_permille = 0;
        disk.stuck_permille = 0;
        disk.capacity_bytes = 0;
    }
    rb_sim_disk_set(r->rig.disk, &disk);
}

static void cut(struct run *r)
{
    bool power = chance(r, 600);
    trace(r, "%s", power ? "power cut" : "kill");
    store_rig_cut(&r->rig, power);
    *(power ? &r->totals->cuts : &r->totals->kills) += 1;
    drop_gets(r, NULL);
    for (int i = 0; i < STORES; i++) {
        r->stores[i].store = NULL;
        r->stores[i].busy = r->stores[i].ending = false;
        r->stores[i].owed = 0;
    }
    model_free(&r->stores[STORES - 1].model);
}

static void open_all(struct run *r)
{
    uint32_t tries = below(r, 3);
    for (; tries > 0 && !r->failed; tries--) {
        faults(r, chance(r, 500));
        for (int i = 0; i < STORES; i++) {
            open_store(r, &r->stores[i]);
        }
        uint32_t turns = below(r, 60);
        for (uint32_t i = 0; i < turns; i++) {
            store_rig_turn(&r->rig);
        }
        cut(r);
    }
    faults(r, false);
    for (int i = 0; i < STORES && !r->failed; i++) {
        struct subject_store *s = &r->stores[i];
        open_store(r, s);
        if (!store_rig_until(&r->rig, &s->opened, 200000) || r->rig.opened_err != RB_OK) {
            fail(r, "%s: cannot be opened: %s", s->directory, rb_err_text(r->rig.opened_err));
        }
    }
    for (int i = 0; i < STORES && !r->failed; i++) {
        if (!r->stores[i].memory) {
            compare_found(r, &r->stores[i]);
        }
        r->stores[i].damages = 0;
    }
}

static void work(struct run *r)
{
    uint32_t turns = below(r, chance(r, 300) ? 30 : 500);
    faults(r, true);
    for (uint32_t i = 0; i < turns && !r->failed; i++) {
        struct subject_store *s = &r->stores[below(r, STORES)];
        if (rb_msgstore_home_pressure(r->rig.home)) {
            r->totals->pressure++;
        } else {
            for (uint32_t n = chance(r, r->busy_permille) ? below(r, 60) : below(r, 3); n > 0;
                 n--) {
                append_one(r, s);
            }
        }
        for (uint32_t n = chance(r, r->remove_permille) ? below(r, 80) : 0; n > 0; n--) {
            remove_one(r, s);
        }
        if (chance(r, 20)) {
            purge_some(r, s);
        }
        if (chance(r, 10)) {
            uint64_t to = s->model.last + below(r, 4);
            rb_msgstore_skip(s->store, to);
            model_skip(&s->model, to);
        }
        if (chance(r, 60) && !s->memory) {
            checkpoint(r, s);
        }
        for (uint32_t n = below(r, 4); n > 0; n--) {
            begin_get(r, s);
        }
        if (chance(r, 10)) {
            compare_state(s);
        }
        store_rig_turn(&r->rig);
        check_owed(r);
    }
    if (!r->failed && !r->stores[STORES - 1].memory) {
        rb_unreachable("the last store is in memory");
    }
    if (!r->failed) {
        compare_all(&r->stores[STORES - 1], true);
    }
}

static void flip(struct run *r)
{
    uint32_t files = 0;
    while (rb_sim_disk_name(r->rig.disk, files) != NULL) {
        files++;
    }
    for (uint32_t n = files == 0 ? 0 : 1 + below(r, 3); n > 0; n--) {
        const char *name = rb_sim_disk_name(r->rig.disk, below(r, files));
        uint64_t size = 0;
        if (name == NULL || rb_sim_disk_bytes(r->rig.disk, name, &size) == NULL || size == 0) {
            continue;
        }
        uint64_t at = below(r, (uint32_t)(chance(r, 300) && size > 8192 ? 8192 : size));
        trace(r, "a bit of %s at %llu flips", name, (unsigned long long)at);
        rb_sim_disk_flip(r->rig.disk, name, at, (uint8_t)(1 << below(r, 8)));
        for (int i = 0; i < STORES; i++) {
            struct subject_store *s = &r->stores[i];
            size_t len = strlen(s->directory);
            s->flipped = s->flipped || (strncmp(name, s->directory, len) == 0 && name[len] == '/');
        }
        r->totals->flips++;
    }
}

/* Without faults a checkpoint succeeds, whatever failed before: the second time at the latest. */
static void last_checkpoint(struct run *r, struct subject_store *s)
{
    uint64_t index = r->next_index;
    for (int i = 0; i < 2 && s->reported < index && !r->failed; i++) {
        checkpoint(r, s);
        store_rig_settle(&r->rig);
    }
    if (s->reported < index) {
        fail(r, "%s: there can be no checkpoint any more", s->directory);
    }
}

static void close_all(struct run *r)
{
    faults(r, false);
    store_rig_settle(&r->rig);
    for (uint32_t i = 0; i < GETS_MAX; i++) {
        if (r->gets[i].s != NULL) {
            fail(r, "message %llu was waited for in vain", (unsigned long long)r->gets[i].seq);
        }
    }
    for (int i = 0; i < STORES && !r->failed; i++) {
        if (r->stores[i].busy) {
            fail(r, "%s: a checkpoint that never ends", r->stores[i].directory);
        } else if (!r->stores[i].memory && chance(r, 500)) {
            last_checkpoint(r, &r->stores[i]);
        }
        rb_msgstore_close(r->stores[i].store);
    }
    for (uint32_t turns = 0; turns < 200000 && !r->failed; turns++) {
        bool open = false;
        for (int i = 0; i < STORES; i++) {
            open = open || r->stores[i].store != NULL;
        }
        if (!open) {
            break;
        }
        store_rig_turn(&r->rig);
    }
    if (!r->failed && rb_sim_disk_open_count(r->rig.disk) > 0) {
        fail(r, "files stay open");
    }
    model_free(&r->stores[STORES - 1].model);
    drop_gets(r, NULL);
    r->totals->closes++;
}

static void end_session(struct run *r)
{
    bool clean = chance(r, 350) && r->disk.stuck_permille == 0;
    if (clean) {
        close_all(r);
    } else {
        cut(r);
    }
    if (chance(r, 150)) {
        flip(r);
    }
}

static void draw_plan(struct run *r)
{
    struct rb_msgstore_home_options *o = &r->rig.options;
    o->segment_bytes = (64 + below(r, 4) * 64) << 10;
    o->cache_bytes = 1 + below(r, chance(r, 500) ? 60000 : 2000000);
    o->behind_bytes = chance(r, 300) ? 100000 + below(r, 300000) : 4000000;
    r->body_max = 1 + below(r, 20000);
    r->busy_permille = below(r, 700);
    r->erases = chance(r, 300);
    r->remove_permille = below(r, 400);
    r->disk = (struct rb_sim_disk_options){ .delay_min_ns = 1 + below(r, 100000) };
    r->disk.delay_max_ns = r->disk.delay_min_ns + below(r, 1000000);
    if (chance(r, 250)) {
        r->disk.write_fail_permille = below(r, 20);
    }
    if (chance(r, 100)) {
        r->disk.stuck_permille = below(r, 20);
    }
    if (chance(r, 150)) {
        r->disk.other_fail_permille = below(r, 20);
    }
    if (chance(r, 150)) {
        r->disk.read_fail_permille = below(r, 200);
        r->read_faults = true;
    }
    if (chance(r, 200)) {
        r->disk.capacity_bytes = 300000 + below(r, 3000000);
    }
}

static void run_deinit(struct run *r)
{
    store_rig_cut(&r->rig, true);
    for (int i = 0; i < STORES; i++) {
        forget_snapshots(&r->stores[i]);
        model_free(&r->stores[i].model);
    }
    store_rig_deinit(&r->rig);
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
    r->next_id = r->next_index = 1;
    rb_env_seed(&r->draw, seed);
    store_rig_init(&r->rig, seed ^ 0x5EED);
    r->rig.ctx = r;
    r->rig.on_event = on_event;
    draw_plan(r);
    rb_msgstore_home_destroy(r->rig.home);
    store_rig_home(&r->rig);
    for (int i = 0; i < STORES; i++) {
        struct subject_store *s = &r->stores[i];
        s->run = r;
        s->memory = i == STORES - 1;
        s->model.memory = s->memory;
        s->model.first = 1;
        snprintf(s->directory, sizeof(s->directory), "store%d", i);
    }
    uint32_t sessions = 1 + below(r, 6);
    for (uint32_t i = 0; i <= sessions && !r->failed; i++) {
        open_all(r);
        if (!r->failed && i < sessions) {
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
