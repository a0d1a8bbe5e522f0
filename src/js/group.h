/* group.h - one raft group: commands in, committed commands out, in order. Of one voter so far: what is durable is committed.
 *
 * Nothing above this header knows how a command became committed, so a quorum can take the place of the single voter.
 *
 *   propose() -> pending (in memory) -> the log -> durable -> apply() in order -> done() for whoever proposed it
 *
 * 1. apply() is called once per committed command, in order, also for those read back after a restart (then `entry` is NULL).
 * 2. Nothing is applied, and no done() called with RB_OK, before the command is durable.
 * 3. When the log stopped or the group ends, done() is called with the error for everything that waits.
 * A memory stream's group has no log: a command is committed at the end of the turn that proposed it. A lazy group commits then,
 * too, once the log has taken the command: rule 2 is given up, by the operator's choice.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "js/command.h"
#include "js/pools.h"
#include "ringbus/env.h"
#include "ringbus/mem.h"
#include "ringbus/metric.h"
#include "ringbus/storage.h"

struct rb_js_entry;
struct rb_js_group;

/** Who proposed a command waits with this, embedded; `done` runs after apply() of it, or with an error. */
struct rb_js_waiter {
    void (*done)(struct rb_js_waiter *waiter, enum rb_err err, const void *outcome);
};

/** A waiter that lives in the entry: for answers to messages, without memory of its own. Valid until done() returns. */
struct rb_js_replier {
    struct rb_js_waiter waiter;
    void *ctx;
    struct rb_slice reply;
};

struct rb_js_group_options {
    struct rb_wal *log;             /* NULL: a memory stream */
    struct rb_js_pools *pools;      /* of entries */
    struct rb_env *env;             /* clock */
    struct rb_list *ready;          /* groups that want rb_js_group_turn() */
    struct rb_histogram *commit_ns; /* NULL: not measured */
    bool lazy;
    uint64_t id;
    void *owner; /* in `apply` */
    /** `outcome` is passed on to done(); what it points to is the owner's. */
    void (*apply)(void *owner, const struct rb_command *command, uint64_t index,
                  const void **ret_outcome);
    uint32_t pending_max;       /* commands waiting; 0: 100,000 */
    uint64_t pending_bytes_max; /* 0: 128 MiB */
};

struct rb_js_group {
    struct rb_js_group_options options;
    uint64_t term, last, committed, applied; /* indexes */
    struct rb_list pending;                  /* entries in order: sent to the log and not */
    struct rb_js_entry *unsent;              /* first that the log had no room for */
    uint32_t pending_count;
    uint64_t pending_bytes;
    uint64_t log_bytes;  /* of applied commands since somebody set it to 0 */
    struct rb_list link; /* among the groups that have something to do this turn */
    bool stopped, no_space;
    bool log_busy; /* `unsent` waits for writes to complete: until then a turn is of no use */
    enum rb_err stopped_by;
};

void rb_js_group_init(struct rb_js_group *group, const struct rb_js_group_options *options);
/** Nothing waits any more. */
void rb_js_group_deinit(struct rb_js_group *group);
/**
 * RB_ERR_FULL: too much waits (pending_max). RB_ERR_SPACE: the disk has no room for entries. RB_ERR_IO: stopped. RB_ERR_MEMORY.
 * RB_ERR_LIMIT: longer than the log takes. `waiter` may be NULL; lent until done(). The command's bytes are copied.
 */
RB_MUST_CHECK enum rb_err rb_js_group_propose(struct rb_js_group *group,
                                              const struct rb_command *command,
                                              struct rb_js_waiter *waiter);
/** The same; `done` gets a struct rb_js_replier with `ctx` and a copy of `reply`. */
RB_MUST_CHECK enum rb_err rb_js_group_propose_reply(
    struct rb_js_group *group, const struct rb_command *command,
    void (*done)(struct rb_js_waiter *waiter, enum rb_err err, const void *outcome), void *ctx,
    struct rb_slice reply);
/** Ends the group: nothing is applied any more, waiters get `err`, those whose write is in flight once that is over. */
void rb_js_group_stop(struct rb_js_group *group, enum rb_err err);
/** Frees what waits, waiters get RB_ERR_CANCELED: its log is not written any more (the simulated machine lost its power). */
void rb_js_group_abandon(struct rb_js_group *group);
/** The log has room again. */
void rb_js_group_room(struct rb_js_group *group);
/** A WRITTEN event of the log whose write->tag is RB_JS_WRITE_ENTRY. Applies. */
void rb_js_group_written(struct rb_wal_write *write);
/** Sends what the log had no room for; commits what a memory group was given. Once a turn for groups in the list. True: it did. */
bool rb_js_group_turn(struct rb_js_group *group);
/** After a restart: applies a command that was read back from the log. Index must be applied + 1. RB_ERR_CORRUPT. */
RB_MUST_CHECK enum rb_err rb_js_group_replay(struct rb_js_group *group,
                                             const struct rb_wal_record *record);
