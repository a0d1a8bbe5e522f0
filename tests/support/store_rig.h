/* store_rig.h - a home of message stores over any disk, turned by hand: what tests, simulation and fuzz targets share. */
#pragma once

#include "ringbus/msgstore.h"
#include "storage/disk/sim.h"

#define STORE_RIG_DAMAGES 64

struct store_rig {
    uint64_t now_ns;
    struct rb_env env;
    struct rb_budget budget;
    struct rb_disk *disk; /* NULL: memory stores only */
    struct rb_msgstore_home_options options;
    struct rb_msgstore_home *home;
    bool opened, checkpointed, closed;
    enum rb_err opened_err, checkpoint_err;
    uint64_t checkpoint_index;
    uint32_t loaded_count, checkpoint_count;
    uint32_t damage_count; /* all of them; the first ones are kept */
    char damages[STORE_RIG_DAMAGES][320];
    struct rb_msgstore_wait *loaded; /* last one */
    void (*on_event)(struct store_rig *rig, const struct rb_msgstore_event *event);
    void *ctx;
};

/** A simulated disk with delays of 10 to 100 us, and a home. */
void store_rig_init(struct store_rig *rig, uint64_t seed);
/** Without a disk. */
void store_rig_init_memory(struct store_rig *rig);
/** After a cut, or to change options: another home over the same disk. */
void store_rig_home(struct store_rig *rig);
/** One turn; time moves to the next thing due, or by a millisecond. False when the disk has nothing due. */
bool store_rig_turn(struct store_rig *rig);
/** Turns until `*flag`; false: after `turns_max` turns it is not. */
bool store_rig_until(struct store_rig *rig, const bool *flag, uint32_t turns_max);
/** Opens and waits; the error of OPENED. `directory` NULL: in memory. */
enum rb_err store_rig_open(struct store_rig *rig, const char *directory, struct rb_msgstore **ret);
enum rb_err store_rig_checkpoint(struct store_rig *rig, struct rb_msgstore *store, uint64_t index,
                                 struct rb_slice blob);
void store_rig_close(struct store_rig *rig, struct rb_msgstore *store);
void store_rig_destroy_store(struct store_rig *rig, struct rb_msgstore *store);
/** Gets and waits. */
enum rb_err store_rig_get(struct store_rig *rig, struct rb_msgstore *store, uint64_t seq,
                          struct rb_message *ret_message);
/** The machine loses its power, or the process its life; a new home stands over what is left. */
void store_rig_cut(struct store_rig *rig, bool power);
/** Turns while the disk has something due. */
void store_rig_settle(struct store_rig *rig);
void store_rig_deinit(struct store_rig *rig);
