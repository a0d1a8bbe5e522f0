/* store_rig.c - see store_rig.h. */
#include "store_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"

#define IDLE_NS 1000000
#define TURNS_MAX 200000

static uint64_t virtual_now(void *ctx)
{
    return ((struct store_rig *)ctx)->now_ns;
}

static void virtual_entropy(void *ctx, void *out, size_t len)
{
    struct store_rig *rig = ctx;
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)out)[i] = (uint8_t)rb_env_random(&rig->env);
    }
}

static void init(struct store_rig *rig, uint64_t seed)
{
    *rig = (struct store_rig){ .now_ns = 1000000000 };
    rb_env_seed(&rig->env, seed);
    rig->env.now_ns = virtual_now;
    rig->env.wall_ns = virtual_now;
    rig->env.entropy = virtual_entropy;
    rig->env.ctx = rig;
}

void store_rig_home(struct store_rig *rig)
{
    rig->options.disk = rig->disk;
    rig->options.env = &rig->env;
    rig->options.budget = &rig->budget;
    enum rb_err err = rb_msgstore_home_create(&rig->options, &rig->home);
    rb_assert(err == RB_OK);
}

void store_rig_init_memory(struct store_rig *rig)
{
    init(rig, 1);
    store_rig_home(rig);
}

void store_rig_init(struct store_rig *rig, uint64_t seed)
{
    init(rig, seed);
    struct rb_sim_disk_options options = { .seed = seed,
                                           .now_ns = virtual_now,
                                           .clock_ctx = rig,
                                           .delay_min_ns = 10000,
                                           .delay_max_ns = 100000 };
    enum rb_err err = rb_sim_disk_create(&options, &rig->disk);
    rb_assert(err == RB_OK);
    store_rig_home(rig);
}

static void take_event(struct store_rig *rig, const struct rb_msgstore_event *event)
{
    switch (event->kind) {
    case RB_MSGSTORE_OPENED:
        rig->opened = true;
        rig->opened_err = event->err;
        break;
    case RB_MSGSTORE_LOADED:
        rig->loaded_count++;
        rig->loaded = event->wait;
        break;
    case RB_MSGSTORE_CHECKPOINTED:
        rig->checkpointed = true;
        rig->checkpoint_count++;
        rig->checkpoint_err = event->err;
        rig->checkpoint_index = event->index;
        break;
    case RB_MSGSTORE_DAMAGED:
        if (rig->damage_count < STORE_RIG_DAMAGES) {
            snprintf(rig->damages[rig->damage_count], sizeof(rig->damages[0]), "%s", event->text);
        }
        rig->damage_count++;
        break;
    case RB_MSGSTORE_CLOSED:
        rig->closed = true;
        break;
    }
    if (rig->on_event != NULL) {
        rig->on_event(rig, event);
    }
}

bool store_rig_turn(struct store_rig *rig)
{
    struct rb_msgstore_event *events;
    struct rb_disk_op **ops;
    uint64_t due = rig->disk == NULL ? UINT64_MAX : rb_sim_disk_due(rig->disk);
    bool more = due != UINT64_MAX;
    rig->now_ns = more && due > rig->now_ns ? due : more ? rig->now_ns : rig->now_ns + IDLE_NS;
    uint32_t count = rig->disk == NULL ? 0 : rb_disk_poll(rig->disk, 0, &ops);
    for (uint32_t i = 0; i < count; i++) {
        rb_assert(ops[i]->owner == rig->home);
        rb_msgstore_home_complete(rig->home, ops[i]);
    }
    count = rb_msgstore_home_poll(rig->home, &events);
    for (uint32_t i = 0; i < count; i++) {
        take_event(rig, &events[i]);
    }
    return more || count > 0;
}

bool store_rig_until(struct store_rig *rig, const bool *flag, uint32_t turns_max)
{
    for (uint32_t i = 0; i < turns_max && !*flag; i++) {
        store_rig_turn(rig);
    }
    return *flag;
}

void store_rig_settle(struct store_rig *rig)
{
    uint32_t idle = 0;
    for (uint32_t i = 0; i < TURNS_MAX && idle < 300; i++) {
        idle = store_rig_turn(rig) ? 0 : idle + 1;
    }
}

enum rb_err store_rig_open(struct store_rig *rig, const char *directory, struct rb_msgstore **ret)
{
    struct rb_msgstore_options options = { .owner = rig, .directory = directory };
    rig->opened = false;
    enum rb_err err = rb_msgstore_open(rig->home, &options, ret);
    if (err != RB_OK) {
        return err;
    }
    return store_rig_until(rig, &rig->opened, TURNS_MAX) ? rig->opened_err : RB_ERR_TIMEOUT;
}

enum rb_err store_rig_checkpoint(struct store_rig *rig, struct rb_msgstore *store, uint64_t index,
                                 struct rb_slice blob)
{
    rig->checkpointed = false;
    enum rb_err err = rb_msgstore_checkpoint(store, index, blob);
    if (err != RB_OK) {
        return err;
    }
    return store_rig_until(rig, &rig->checkpointed, TURNS_MAX) ? rig->checkpoint_err
                                                               : RB_ERR_TIMEOUT;
}

static void end(struct store_rig *rig)
{
    bool closed = store_rig_until(rig, &rig->closed, TURNS_MAX);
    rb_assert(closed);
}

void store_rig_close(struct store_rig *rig, struct rb_msgstore *store)
{
    rig->closed = false;
    rb_msgstore_close(store);
    end(rig);
}

void store_rig_destroy_store(struct store_rig *rig, struct rb_msgstore *store)
{
    rig->closed = false;
    rb_msgstore_destroy(store);
    end(rig);
}

enum rb_err store_rig_get(struct store_rig *rig, struct rb_msgstore *store, uint64_t seq,
                          struct rb_message *ret_message)
{
    struct rb_msgstore_wait wait = { .owner = rig, .tag = 1 };
    enum rb_err err;
    for (uint32_t i = 0; i < TURNS_MAX; i++) {
        err = rb_msgstore_get(store, seq, &wait, ret_message);
        if (err != RB_ERR_BUSY) {
            rb_assert(!wait.waiting);
            return err;
        }
        while (wait.waiting && i++ < TURNS_MAX) {
            store_rig_turn(rig);
        }
    }
    rb_msgstore_forget(&wait);
    return RB_ERR_TIMEOUT;
}

void store_rig_cut(struct store_rig *rig, bool power)
{
    if (power) {
        rb_sim_disk_cut(rig->disk);
    } else {
        rb_sim_disk_kill(rig->disk);
    }
    rb_msgstore_home_destroy(rig->home);
    rb_assert(rig->budget.used_bytes == 0);
    store_rig_home(rig);
}

void store_rig_deinit(struct store_rig *rig)
{
    rb_msgstore_home_destroy(rig->home);
    rb_assert(rig->budget.used_bytes == 0);
    if (rig->disk != NULL) {
        rb_disk_destroy(rig->disk);
    }
}
