/* log_rig.h - a log over any disk, turned by hand: what the tests, the simulation and the fuzz target share. */
#pragma once

#include "storage/disk/sim.h"
#include "storage/wal.h"

#define RIG_DAMAGES_MAX 256

/** Virtual time; with a real disk its own clock. */
struct rig {
    uint64_t now_ns;
    struct rb_env env;
    struct rb_budget budget;
    struct rb_disk *disk;
    bool simulated;
    struct rb_wal_options options;
    struct rb_wal *log;
    bool opened, stopped, closed, room;
    enum rb_err opened_err, stopped_err;
    struct rb_wal_damage damages[RIG_DAMAGES_MAX];
    uint32_t damage_count;
    uint64_t written_count, failed_count; /* events of writes */
    void (*on_written)(struct rig *rig, struct rb_wal_write *write, enum rb_err err);
    void (*on_read)(struct rig *rig, struct rb_wal_read *read);
    void *ctx;
};

/** A simulated disk, delays of 10 to 100 us. */
void rig_init_sim(struct rig *rig, uint64_t seed);
void rig_init_disk(struct rig *rig, struct rb_disk *disk);
/** Small files: 64 KiB, batches of 16 KiB. */
void rig_small(struct rig *rig);
/** Starts to open the log. */
void rig_create(struct rig *rig);
/** One turn; simulated time moves to the next thing due. False when nothing is due any more. */
bool rig_turn(struct rig *rig);
/** Turns until `*flag`, or until nothing is due; at most `turns_max` turns. Returns *flag. */
bool rig_until(struct rig *rig, const bool *flag, uint32_t turns_max);
/** Turns until no write waits. */
void rig_settle(struct rig *rig);
/** Opens and waits; the error of RB_WAL_OPENED. RB_ERR_TIMEOUT when it does not come. */
enum rb_err rig_open(struct rig *rig);
/** Closes in order, and frees the log. */
void rig_close(struct rig *rig);
/** The simulated machine loses its power (or only the process its life); the log is freed, the disk stays. */
void rig_cut(struct rig *rig, bool power);
void rig_deinit(struct rig *rig);
/** Reads one record and waits; its body is copied to `out` (room for `cap`). */
enum rb_err rig_read(struct rig *rig, enum rb_wal_record_kind kind, uint64_t group, uint8_t type,
                     uint64_t index, uint8_t *out, size_t cap, size_t *ret_len, uint64_t *ret_term);
