/* sim.h - a simulated disk in virtual time: one thread, one seed, every fault a real one may have (docs/storage.md). */
#pragma once

#include "ringbus/disk.h"
#include "ringbus/env.h"

/** Chances are per mille per operation; delays in ns of virtual time. */
struct rb_sim_disk_options {
    uint64_t seed;
    uint64_t (*now_ns)(
        void *ctx); /* the clock; operations complete when it has passed their time */
    void *clock_ctx;
    uint64_t delay_min_ns, delay_max_ns;
    uint64_t capacity_bytes; /* of all files together; 0: no limit */
    uint32_t op_max;         /* operations in flight; 0: 1024 */
    uint32_t write_fail_permille, read_fail_permille, other_fail_permille;
    uint32_t stuck_permille; /* writes and syncs that never complete */
};

RB_MUST_CHECK enum rb_err rb_sim_disk_create(const struct rb_sim_disk_options *options,
                                             struct rb_disk **ret_disk);
/** When the next operation completes; UINT64_MAX: none will. */
uint64_t rb_sim_disk_due(const struct rb_disk *disk);
/** New chances, delays and capacity for operations started from now on; seed and clock stay. */
void rb_sim_disk_set(struct rb_disk *disk, const struct rb_sim_disk_options *options);
/** While true no write or sync completes. */
void rb_sim_disk_hold(struct rb_disk *disk, bool held);
/** The next operation of this kind that is started completes with `err`; a write has then changed any of its sectors. */
void rb_sim_disk_fail_next(struct rb_disk *disk, enum rb_disk_kind kind, enum rb_err err);
/**
 * Power off and on. Operations in flight are gone without completion (in_flight is false), open files are closed. Each
 * sector that was not durable is old or new; of the changes of names that were not synced some first ones happened.
 */
void rb_sim_disk_cut(struct rb_disk *disk);
/** The process is gone, the machine is not: as a cut, but completed writes and names stay, writes in flight are torn. */
void rb_sim_disk_kill(struct rb_disk *disk);

/** For tests that damage or look at what is stored. `ret_size` may be NULL. NULL: no such file. */
uint8_t *rb_sim_disk_bytes(struct rb_disk *disk, const char *name, uint64_t *ret_size);
/** Changes bits of a stored byte, for good. False: the file does not have it. */
bool rb_sim_disk_flip(struct rb_disk *disk, const char *name, uint64_t offset, uint8_t mask);
/** Adds or replaces a file with durable content. */
void rb_sim_disk_plant(struct rb_disk *disk, const char *name, const void *bytes, uint64_t size);
/** The file is `size` bytes long from now on, as if somebody had cut it off. False: no such file, or it is shorter. */
bool rb_sim_disk_chop(struct rb_disk *disk, const char *name, uint64_t size);
bool rb_sim_disk_unlink(struct rb_disk *disk, const char *name);
/** The `index`th name, sorted; NULL after the last. */
const char *rb_sim_disk_name(struct rb_disk *disk, uint32_t index);
uint32_t rb_sim_disk_in_flight(const struct rb_disk *disk);
uint32_t rb_sim_disk_open_count(const struct rb_disk *disk);
