/* log_rig.c - see log_rig.h. */
#include "log_rig.h"

#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"

static uint64_t virtual_now(void *ctx)
{
    return ((struct rig *)ctx)->now_ns;
}

static void virtual_entropy(void *ctx, void *out, size_t len)
{
    struct rig *rig = ctx;
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)out)[i] = (uint8_t)rb_env_random(&rig->env);
    }
}

void rig_init_sim(struct rig *rig, uint64_t seed)
{
    *rig = (struct rig){ .now_ns = 1000000000, .simulated = true };
    rb_env_seed(&rig->env, seed);
    rig->env.now_ns = virtual_now;
    rig->env.wall_ns = virtual_now;
    rig->env.entropy = virtual_entropy;
    rig->env.ctx = rig;
    struct rb_sim_disk_options options = { .seed = seed,
                                           .now_ns = virtual_now,
                                           .clock_ctx = rig,
                                           .delay_min_ns = 10000,
                                           .delay_max_ns = 100000 };
    enum rb_err err = rb_sim_disk_create(&options, &rig->disk);
    rb_assert(err == RB_OK);
    rig_small(rig);
}

void rig_init_disk(struct rig *rig, struct rb_disk *disk)
{
    *rig = (struct rig){ .disk = disk };
    rb_env_init_system(&rig->env);
    rig_small(rig);
}

void rig_small(struct rig *rig)
{
    rig->options = (struct rb_wal_options){ .disk = rig->disk,
                                            .budget = &rig->budget,
                                            .env = &rig->env,
                                            .directory = "wal",
                                            .file_bytes = 64 << 10,
                                            .batch_bytes = 16 << 10,
                                            .files_max = 16 };
}

void rig_create(struct rig *rig)
{
    rig->opened = rig->stopped = rig->closed = rig->room = false;
    rig->damage_count = 0;
    rig->options.disk = rig->disk;
    enum rb_err err = rb_wal_create(&rig->options, &rig->log);
    rb_assert(err == RB_OK);
}

static void take_event(struct rig *rig, const struct rb_wal_event *event)
{
    switch (event->kind) {
    case RB_WAL_OPENED:
        rig->opened = true;
        rig->opened_err = event->err;
        break;
    case RB_WAL_WRITTEN:
        rig->written_count += event->err == RB_OK;
        rig->failed_count += event->err != RB_OK;
        if (rig->on_written != NULL) {
            rig->on_written(rig, event->write, event->err);
        }
        break;
    case RB_WAL_WAS_READ:
        rb_assert(event->err == event->read->err);
        if (rig->on_read != NULL) {
            rig->on_read(rig, event->read);
        }
        break;
    case RB_WAL_DAMAGED:
        if (rig->damage_count < RIG_DAMAGES_MAX) {
            rig->damages[rig->damage_count++] = *event->damage;
        }
        break;
    case RB_WAL_STOPPED:
        rb_assert(!rig->stopped);
        rig->stopped = true;
        rig->stopped_err = event->err;
        break;
    case RB_WAL_ROOM:
        rig->room = true;
        break;
    case RB_WAL_CLOSED:
        rig->closed = true;
        break;
    }
}

static uint32_t poll_disk(struct rig *rig, int64_t timeout_ns)
{
    struct rb_disk_op **ops;
    uint32_t count = rb_disk_poll(rig->disk, timeout_ns, &ops);
    for (uint32_t i = 0; i < count; i++) {
        rb_assert(ops[i]->owner == rig->log);
        rb_wal_complete(rig->log, ops[i]);
    }
    return count;
}

static uint32_t poll_log(struct rig *rig)
{
    struct rb_wal_event *events;
    uint32_t count = rb_wal_poll(rig->log, &events);
    for (uint32_t i = 0; i < count; i++) {
        take_event(rig, &events[i]);
    }
    rb_wal_flush(rig->log);
    return count;
}

bool rig_turn(struct rig *rig)
{
    rb_wal_flush(rig->log);
    if (!rig->simulated) {
        poll_disk(rig, 10000000);
        poll_log(rig);
        return true;
    }
    uint64_t disk_due = rb_sim_disk_due(rig->disk);
    uint64_t log_due = rb_wal_due(rig->log);
    uint64_t due = disk_due < log_due ? disk_due : log_due;
    if (due > rig->now_ns && due != UINT64_MAX) {
        rig->now_ns = due;
    }
    uint32_t did = poll_disk(rig, 0) + poll_log(rig);
    return did > 0 || due != UINT64_MAX || rb_sim_disk_due(rig->disk) != UINT64_MAX;
}

bool rig_until(struct rig *rig, const bool *flag, uint32_t turns_max)
{
    for (uint32_t i = 0; i < turns_max && !*flag; i++) {
        if (!rig_turn(rig)) {
            break;
        }
    }
    return *flag;
}

void rig_settle(struct rig *rig)
{
    struct rb_wal_stats stats;
    for (uint32_t i = 0; i < 100000; i++) {
        rb_wal_stats(rig->log, &stats);
        if (stats.waiting == 0 || !rig_turn(rig)) {
            return;
        }
    }
}

enum rb_err rig_open(struct rig *rig)
{
    rig_create(rig);
    return rig_until(rig, &rig->opened, 1000000) ? rig->opened_err : RB_ERR_TIMEOUT;
}

void rig_close(struct rig *rig)
{
    rb_wal_close(rig->log);
    bool closed = rig_until(rig, &rig->closed, 1000000);
    rb_assert(closed);
    rb_wal_destroy(rig->log);
    rig->log = NULL;
    rb_assert(rig->budget.used_bytes == 0);
}

void rig_cut(struct rig *rig, bool power)
{
    if (power) {
        rb_sim_disk_cut(rig->disk);
    } else {
        rb_sim_disk_kill(rig->disk);
    }
    rb_wal_destroy(rig->log);
    rig->log = NULL;
    rb_assert(rig->budget.used_bytes == 0);
}

void rig_deinit(struct rig *rig)
{
    rb_assert(rig->log == NULL);
    rb_disk_destroy(rig->disk);
}

enum rb_err rig_read(struct rig *rig, enum rb_wal_record_kind kind, uint64_t group, uint8_t type,
                     uint64_t index, uint8_t *out, size_t cap, size_t *ret_len, uint64_t *ret_term)
{
    struct rb_wal_record record;
    struct rb_wal_read read = { .len = rb_wal_read_bytes((uint32_t)cap),
                                .records = &record,
                                .record_max = 1 };
    read.bytes = rb_disk_alloc(rig->disk, read.len);
    enum rb_err err = kind == RB_WAL_ENTRY ? rb_wal_read_entries(rig->log, &read, group, index)
                                           : rb_wal_read_state(rig->log, &read, group, type, index);
    if (err == RB_OK) {
        for (int i = 0; i < 100000 && read.in_flight; i++) {
            rig_turn(rig);
        }
        err = read.in_flight ? RB_ERR_TIMEOUT : read.err;
        rb_assert(!read.in_flight);
    }
    if (err == RB_OK) {
        rb_assert(read.record_count == 1 && record.group == group && record.index == index);
        rb_assert(record.body.len <= cap);
        if (record.body.len > 0) {
            memcpy(out, record.body.ptr, record.body.len);
        }
        *ret_len = record.body.len;
        if (ret_term != NULL) {
            *ret_term = record.term;
        }
    }
    rb_disk_free(rig->disk, read.bytes, read.len);
    return err;
}
