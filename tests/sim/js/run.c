/* run.c - one seed of JetStream's simulation.
 *
 *   session: start (some are cut meanwhile) -> what was in flight is found out -> clients for some turns, with checks whenever all
 *   is at rest -> close | power cut | kill
 *
 * A session has at most one kind of trouble beside its end: writes that fail, writes that never complete, a small disk, or all
 * writes held back for a while (then nothing may be confirmed). The last one of a seed may begin with flipped bits.
 */
#include "run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "js/stream_inside.h"
#include "ringbus/check.h"
#include "storage/disk/sim.h"

void run_fail(struct run *r, const char *format, ...)
{
    va_list args;
    if (r->failed) {
        return;
    }
    r->failed = true;
    va_start(args, format);
    (void)vsnprintf(r->failure, 256, format, args);
    va_end(args);
}

void run_trace(struct run *r, const char *format, ...)
{
    va_list args;
    if (!r->trace) {
        return;
    }
    printf("%10.3f ms  ", (double)r->rig.now_ns / 1e6);
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    putchar('\n');
}

uint32_t run_below(struct run *r, uint32_t bound)
{
    return rb_env_below(&r->draw, bound);
}

bool run_chance(struct run *r, uint32_t permille)
{
    return run_below(r, 1000) < permille;
}

void run_stir(struct run *r, uint64_t value)
{
    r->digest = (r->digest ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    r->digest ^= r->digest >> 29;
}

/* ---- plan ---- */

static void draw_streams(struct run *r)
{
    static const struct {
        const char *name, *more;
        char prefix;
        enum stream_kind kind;
        bool memory;
    } plan[STREAMS] = {
        { "LIM", "\"allow_atomic\":true,", 'l', SERIAL, false },
        { "MEM", "\"storage\":\"memory\",", 'm', SERIAL, true },
        { "WQ", "\"retention\":\"workqueue\",", 'w', QUEUE, false },
        { "INT", "\"retention\":\"interest\",", 'i', QUEUE, false },
        { "AGE", "\"max_age\":3000000000,\"allow_msg_ttl\":true,", 't', AGED, false },
    };
    static const uint64_t most[] = { 0, 12, 60, 300 };
    for (uint32_t i = 0; i < STREAMS; i++) {
        struct sim_stream *s = &r->streams[i];
        char limits[128] = "";
        s->name = plan[i].name;
        s->prefix = plan[i].prefix;
        s->kind = plan[i].kind;
        s->memory = plan[i].memory;
        if (s->kind == SERIAL) {
            struct model *m = &s->model;
            m->max_msgs = most[run_below(r, 4)];
            m->discard_new = run_chance(r, 250);
            m->max_per_subject = m->discard_new || run_chance(r, 600) ? 0 : 1 + run_below(r, 12);
            (void)snprintf(limits, sizeof(limits),
                           "\"max_msgs\":%d,\"max_msgs_per_subject\":%d,\"discard\":\"%s\",",
                           m->max_msgs == 0 ? -1 : (int)m->max_msgs,
                           m->max_per_subject == 0 ? -1 : (int)m->max_per_subject,
                           m->discard_new ? "new" : "old");
        }
        (void)snprintf(s->config, sizeof(s->config),
                       "{\"name\":\"%s\",\"subjects\":[\"%c.*\"],%s%s\"duplicate_window\":%s}",
                       s->name, s->prefix, plan[i].more, limits,
                       s->kind == AGED ? "3000000000" : "3600000000000");
    }
}

static void draw_plan(struct run *r)
{
    static const struct {
        uint32_t stream;
        const char *name;
        enum consumer_kind kind;
        int subject;
    } plan[CONSUMERS] = {
        { 0, "pull", PULL, -1 },       { 0, "all", ACK_ALL, -1 }, { 0, "push", PUSH, 2 },
        { 0, "ordered", ORDERED, -1 }, { 2, "work", PULL, -1 },   { 3, "some", PULL, 1 },
        { 3, "every", PUSH, -1 },
    };
    static const uint32_t bodies[] = { 300, 5000, 60000, 300000 };
    draw_streams(r);
    for (uint32_t i = 0; i < CONSUMERS; i++) {
        struct sim_consumer *c = &r->consumers[i];
        c->stream = plan[i].stream;
        c->name = plan[i].name;
        c->kind = plan[i].kind;
        c->subject = plan[i].subject;
    }
    r->body_max = bodies[run_below(r, 4)];
    r->rig.wal_file_bytes = run_chance(r, 700) ? 2u << 20 : 4u << 20;
    r->rig.wal_files_max = run_chance(r, 300) ? 4 + run_below(r, 8) : 0;
}

/* ---- the disk ---- */

enum trouble { NONE, WRITES_FAIL, WRITES_STUCK, SMALL_DISK, HELD };

static void set_disk(struct run *r, enum trouble trouble)
{
    struct rb_sim_disk_options disk = { .delay_min_ns = 10000, .delay_max_ns = 100000 };
    r->full = trouble == SMALL_DISK;
    if (trouble == WRITES_FAIL) {
        disk.write_fail_permille = 5;
        disk.other_fail_permille = 5;
    } else if (trouble == WRITES_STUCK) {
        disk.stuck_permille = 5;
    } else if (trouble == SMALL_DISK) {
        r->capacity = (uint32_t)r->rig.wal_file_bytes * 3 + run_below(r, 16u << 20);
        disk.capacity_bytes = r->capacity;
    }
    rb_sim_disk_set(r->rig.disk, &disk);
}

static void step_time(struct run *r)
{
    uint64_t due = rb_sim_disk_due(r->rig.disk);
    if (run_chance(r, 600)) {
        r->rig.now_ns = due != UINT64_MAX && due > r->rig.now_ns ? due : r->rig.now_ns + 1000;
    } else if (run_chance(r, 100)) {
        r->rig.now_ns += run_below(r, 50000000);
    }
}

/* ---- sessions ---- */

static void cut(struct run *r)
{
    bool power = run_chance(r, 600);
    run_trace(r, "%s", power ? "power cut" : "kill");
    *(power ? &r->totals->cuts : &r->totals->kills) += 1;
    ask_heard(r);
    rb_sim_disk_hold(r->rig.disk, false);
    r->held = false;
    js_rig_cut(&r->rig, power);
    js_rig_forget(&r->rig);
}

/* The disk is as full as it was: it starts, streams that cannot be opened say why, and nothing is lost by that. */
static void start_full(struct run *r)
{
    struct rb_sim_disk_options disk = { .delay_min_ns = 10000,
                                        .delay_max_ns = 100000,
                                        .capacity_bytes = r->capacity };
    rb_sim_disk_set(r->rig.disk, &disk);
    js_rig_open(&r->rig);
    r->totals->full_starts++;
    if (!r->rig.js->ready_to_serve) {
        run_fail(r, "it does not start on a full disk: %s", r->rig.js->failure);
        return;
    }
    for (uint32_t i = 0; i < STREAMS; i++) {
        struct rb_js_stream *stream = js_rig_stream(&r->rig, r->streams[i].name);
        if (stream == NULL && !r->streams[i].memory) {
            run_fail(r, "%s is gone on a full disk", r->streams[i].name);
        } else if (stream != NULL && stream->phase == RB_JS_STREAM_OFFLINE) {
            r->totals->offline++;
            run_trace(r, "%s is offline: %s", r->streams[i].name, stream->why);
        }
    }
    cut(r);
}

static void start(struct run *r)
{
    if (r->full && run_chance(r, 500)) {
        start_full(r);
    }
    if (r->failed) {
        return;
    }
    for (uint32_t tries = run_below(r, 3); tries > 0 && r->life > 0; tries--) {
        set_disk(r, run_chance(r, 300) ? WRITES_FAIL : NONE);
        js_rig_start(&r->rig);
        for (uint32_t turns = run_below(r, 80); turns > 0; turns--) {
            (void)js_rig_turn(&r->rig);
            step_time(r);
        }
        r->totals->early++;
        cut(r);
    }
    set_disk(r, NONE);
    r->life++;
    run_trace(r, "start %u", r->life);
    js_rig_open(&r->rig);
    if (!r->rig.js->ready_to_serve) {
        run_fail(r, "it does not start: %s", r->rig.js->failure);
        return;
    }
    for (uint32_t i = 0; i < CONSUMERS; i++) { /* acks in flight: nobody knows; memory is gone */
        struct sim_consumer *c = &r->consumers[i];
        if (r->streams[c->stream].memory) {
            memset(c->acked, 0, sizeof(c->acked));
        }
    }
    ask_heard(r);
}

static void rest(struct run *r)
{
    js_rig_settle(&r->rig);
    ask_heard(r);
    js_rig_settle(&r->rig);
    ask_heard(r);
    if (!r->failed) {
        check_all(r);
    }
}

static void hold(struct run *r)
{
    js_rig_settle(&r->rig);
    ask_heard(r);
    r->totals->holds++;
    run_trace(r, "writes are held back");
    rb_sim_disk_hold(r->rig.disk, true);
    r->held = true;
}

static void work(struct run *r, enum trouble trouble)
{
    uint32_t turns = 20 + run_below(r, 250), busy = run_below(r, 2) == 0 ? 3 : 12;
    run_trace(r, "trouble %d", trouble);
    uint32_t held_at = trouble == HELD ? run_below(r, turns) : UINT32_MAX;
    set_disk(r, trouble);
    for (uint32_t i = 0; i < turns && !r->failed; i++) {
        if (i == held_at) {
            hold(r);
        }
        for (uint32_t n = run_below(r, busy); n > 0; n--) {
            ask_something(r);
        }
        if (run_chance(r, 20)) {
            struct rb_js_stream *stream =
                js_rig_stream(&r->rig, r->streams[run_below(r, STREAMS)].name);
            if (stream != NULL) {
                rb_js_checkpoint(stream, true);
            }
        }
        (void)js_rig_turn(&r->rig);
        step_time(r);
        ask_heard(r);
        if (run_chance(r, 10) && trouble == NONE && !r->failed) {
            if (run_chance(r, 300)) {
                js_rig_advance(&r->rig, UINT64_C(1000000) * run_below(r, 6000));
            }
            rest(r);
        }
    }
    if (r->held && run_chance(r, 500)) {
        rb_sim_disk_hold(r->rig.disk, false);
        r->held = false;
    }
}

static void end(struct run *r, enum trouble trouble)
{
    struct rb_wal_stats stats;
    rb_wal_stats(r->rig.js->log, &stats);
    bool closes = !r->held && trouble != WRITES_STUCK && !stats.stopped && run_chance(r, 350);
    if (closes && trouble == SMALL_DISK) { /* somebody makes room: all goes on by itself */
        set_disk(r, NONE);
        js_rig_advance(&r->rig, UINT64_C(3000000000));
        ask_heard(r);
    }
    if (!closes) {
        cut(r);
        return;
    }
    if (trouble != WRITES_FAIL) {
        rest(r);
    }
    if (r->failed) {
        return;
    }
    set_disk(r, NONE);
    run_trace(r, "close");
    r->totals->closes++;
    js_rig_close(&r->rig);
    ask_heard(r);
    js_rig_forget(&r->rig);
}

static void flip(struct run *r)
{
    uint32_t count = 0;
    for (uint32_t n = 1 + run_below(r, 4); n > 0; n--) {
        uint64_t size = 0;
        for (count = 0; rb_sim_disk_name(r->rig.disk, count) != NULL;) {
            count++;
        }
        const char *name = count == 0 ? NULL : rb_sim_disk_name(r->rig.disk, run_below(r, count));
        if (name == NULL || rb_sim_disk_bytes(r->rig.disk, name, &size) == NULL || size == 0) {
            continue;
        }
        if (rb_sim_disk_flip(r->rig.disk, name, run_below(r, (uint32_t)size),
                             (uint8_t)(1u << run_below(r, 8)))) {
            run_trace(r, "flip in %s", name);
            r->totals->flips++;
        }
    }
    r->flipped = true;
    r->rig.log_count = 0;
    set_disk(r, NONE);
    js_rig_open(&r->rig);
    if (!r->rig.js->ready_to_serve) {
        if (r->rig.js->failure[0] == '\0') {
            run_fail(r, "it does not start after damage, and does not say why");
        }
    } else {
        check_damaged(r);
    }
    js_rig_cut(&r->rig, false);
}

bool run_seed(uint64_t seed, bool traced, struct run_totals *totals, uint64_t *ret_digest,
              char failure[256])
{
    struct run *r = calloc(1, sizeof(*r));
    rb_assert(r != NULL);
    r->trace = traced;
    r->failure = failure;
    r->totals = totals;
    rb_env_seed(&r->draw, seed);
    js_rig_init(&r->rig, seed ^ 0x5EED);
    draw_plan(r);
    js_rig_listen(&r->rig, "_INBOX.sim.>");
    js_rig_listen(&r->rig, "push.*");
    for (uint32_t sessions = 2 + run_below(r, 5); sessions > 0 && !r->failed; sessions--) {
        static const enum trouble troubles[] = { NONE, NONE,         NONE,       HELD,
                                                 HELD, WRITES_STUCK, SMALL_DISK, WRITES_FAIL };
        enum trouble trouble = troubles[run_below(r, 8)];
        start(r);
        if (!r->failed) {
            check_found(r);
        }
        if (!r->failed) {
            ask_streams(r);
        }
        if (!r->failed) {
            rest(r);
        }
        if (!r->failed) {
            work(r, trouble);
        }
        if (!r->failed) {
            end(r, trouble);
        }
        totals->sessions++;
    }
    if (!r->failed && run_chance(r, 500)) {
        flip(r);
    }
    for (uint32_t i = 0; r->failed && traced && i < r->rig.log_count && i < JS_RIG_LOGS; i++) {
        printf("log: %s\n", r->rig.logs[i]);
    }
    if (r->rig.js != NULL) {
        rb_sim_disk_hold(r->rig.disk, false);
        js_rig_cut(&r->rig, false);
    }
    bool good = !r->failed;
    *ret_digest = r->digest;
    js_rig_deinit(&r->rig);
    free(r);
    return good;
}
