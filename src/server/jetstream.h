/* jetstream.h - JetStream of one node: the store directory, the homes in it, what shards do for them (docs/jetstream.md).
 *
 *   <store_dir>/jetstream/lock       held as long as the node lives: one server per store
 *   <store_dir>/jetstream/<n>/       home n: log and stores of the accounts that live on shard n % shards
 *
 * 1. An account lives in the home that holds its streams. One without streams gets a home by its name when it is first asked for, and
 *    keeps it while the node runs; only homes below the number of shards are given out.
 * 2. All of a home belongs to one shard's thread. What shards share is in rb_jetstream behind a lock, or atomic.
 * 3. Nobody but the homes acts before all homes are recovered: then each shard tells its homes of the accounts, and clients may come
 *    when all have (rb_jetstream_ready).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/account.h"
#include "server/config.h"

struct rb_jetstream;      /* of a node */
struct rb_jetstream_part; /* of a shard */
struct rb_disk;
struct rb_js;
struct rb_js_shared;
struct rb_monitor_jetstream;

#define RB_JETSTREAM_ERROR_MAX RB_CONFIG_ERROR_MAX

/* ---- of the node ---- */

struct rb_jetstream_options {
    const struct rb_config *config; /* at start; outlives it */
    struct rb_log *log;
    uint32_t shard_count;
    struct rb_slice server_name, server_id; /* outlive it */
    /** Id of an account by name, made when there is none yet; UINT32_MAX: refused. Any shard's thread. */
    uint32_t (*account_id)(void *ctx, struct rb_slice name);
    /** Makes a shard's turn come. Any thread. */
    void (*wake)(void *ctx, uint32_t shard);
    void *ctx;
};
/**
 * Makes or finds the directories, takes the lock, logs nats-server's block of lines. `error` holds nats-server's text without
 * "Can't start JetStream: ". Errors: RB_ERR_IO, RB_ERR_IN_USE (another server has the store), RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_jetstream_create(const struct rb_jetstream_options *options,
                                              struct rb_jetstream **ret_jetstream,
                                              char error[RB_JETSTREAM_ERROR_MAX]);
/** After every part was destroyed. NULL is allowed. */
void rb_jetstream_destroy(struct rb_jetstream *jetstream);
/** "<store_dir>/jetstream". */
const char *rb_jetstream_directory(const struct rb_jetstream *jetstream);
/** Directories of homes; home n belongs to shard n % shard_count. */
uint32_t rb_jetstream_home_count(const struct rb_jetstream *jetstream);
/** For monitoring: sums over all shards. `policy`: the one in force. Any thread. */
void rb_jetstream_view(const struct rb_jetstream *jetstream, const struct rb_policy *policy,
                       struct rb_monitor_jetstream *ret_view);
/** Limits of a reload; the parts take them when they are told (rb_jetstream_part_changed). */
void rb_jetstream_reload(struct rb_jetstream *jetstream, const struct rb_config *config);
/** Every shard has recovered and told its homes of the accounts. */
bool rb_jetstream_ready(const struct rb_jetstream *jetstream);
/** True when a home cannot be used; `error` says why. Any thread. */
bool rb_jetstream_failed(struct rb_jetstream *jetstream, char error[RB_JETSTREAM_ERROR_MAX]);

/* ---- of a shard; on its thread ---- */

/** Opens the disk of a home's directory; *ret_why is empty, or why it is served by helper threads. Closed by whoever opened it. */
typedef enum rb_err (*rb_jetstream_open_disk)(void *ctx, const char *path,
                                              struct rb_disk **ret_disk, char why[128]);

/** Opens the homes of shard core->options.shard_index. `why` is set when it fails; then nothing is left. */
RB_MUST_CHECK enum rb_err rb_jetstream_part_create(struct rb_jetstream *jetstream,
                                                   struct rb_core *core,
                                                   rb_jetstream_open_disk open, void *open_ctx,
                                                   struct rb_jetstream_part **ret_part,
                                                   char why[128]);
/** After rb_jetstream_part_closed; before the disks are. */
void rb_jetstream_part_destroy(struct rb_jetstream_part *part);
/** A turn of the shard begins, at `now_ns` of the core's clock. */
void rb_jetstream_part_begin(struct rb_jetstream_part *part, uint64_t now_ns);
/** Completions, then a turn of each home. True if there was work. */
bool rb_jetstream_part_turn(struct rb_jetstream_part *part);
/** When the next turn is due, by the core's clock; UINT64_MAX: not by time. */
uint64_t rb_jetstream_part_due(struct rb_jetstream_part *part);
/** Accounts, limits or settings changed: homes look again with the next turn. */
void rb_jetstream_part_changed(struct rb_jetstream_part *part);
void rb_jetstream_part_interest(struct rb_jetstream_part *part, struct rb_account *account,
                                struct rb_slice subject);
/** Begins to close; again harmless. */
void rb_jetstream_part_close(struct rb_jetstream_part *part);
bool rb_jetstream_part_closed(const struct rb_jetstream_part *part);
/** The homes of this shard, one after the other; NULL: no more. */
struct rb_js *rb_jetstream_part_js(const struct rb_jetstream_part *part, uint32_t index);
