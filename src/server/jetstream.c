/* jetstream.c - the homes of one shard, see jetstream.h.
 *
 *   RECOVERING --all homes serve--> RECOVERED --all shards have--> TELLS: accounts --next turn--> SERVES --close--> CLOSING --> closed
 *
 * What the homes subscribed in TELLS leaves with the mail of that turn; therefore SERVES is said in the next one.
 */
#include "server/jetstream_inside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ringbus/check.h"
#include "storage/wal.h"

#define BATCH_BYTES_MIN (UINT32_C(1) << 20)
#define BATCH_SLACK                                                                                \
    (32u * 1024) /* what a command adds to a payload: subject, reply, headers of ours */
#define FILE_BYTES (UINT64_C(16) << 20)
#define FILES_MAX 256
#define TEMPORARY_FILE_BYTES (UINT64_C(4) << 20)
#define PROGRESS_NS UINT64_C(5000000000)
#define PATH_BYTES (RB_CONFIG_TEXT_MAX * 4 + 64)

enum phase { RECOVERING, RECOVERED, TELLS, SERVES };

struct home {
    struct rb_jetstream_part *part;
    uint32_t number;
    struct rb_js_settings settings; /* this shard's copy: a reload changes it between two turns */
    struct rb_disk *disk;           /* its opener's */
    struct rb_wal *log;
    struct rb_js *js; /* NULL: it was never made */
};

struct rb_jetstream_part {
    struct rb_jetstream *jetstream;
    struct rb_core *core;
    enum phase phase;
    bool changed, closing, failed;
    uint64_t progress_ns; /* when the next line about it is due */
    uint32_t count;
    struct home homes[];
};

/* What the homes ask for */

static bool limits_of(void *ctx, uint32_t id, struct rb_js_limits *ret_limits)
{
    const struct home *home = ctx;
    struct rb_core *core = home->part->core;
    const struct rb_policy *policy = core->settings->policy;
    const struct rb_account *account = rb_account_get(core, id);
    if (account == NULL || account->policy == NULL) {
        return false;
    }
    const struct rb_policy_jetstream *own =
        rb_policy_jetstream_of(policy, (uint32_t)(account->policy - policy->accounts));
    if (own == NULL) {
        return false;
    }
    *ret_limits = (struct rb_js_limits){
        .max_memory = own->max_memory,
        .max_storage = own->max_storage,
        .max_streams = own->max_streams,
        .max_consumers = own->max_consumers,
        .max_ack_pending = own->max_ack_pending,
        .memory_max_stream_bytes = own->memory_max_stream_bytes,
        .storage_max_stream_bytes = own->storage_max_stream_bytes,
        .max_bytes_required = own->max_bytes_required,
    };
    return true;
}

/* Asked for the accounts of streams that were found here. */
static uint32_t account_id(void *ctx, struct rb_slice name)
{
    const struct home *home = ctx;
    struct rb_jetstream *jetstream = home->part->jetstream;
    if (!rb_jetstream_claim(jetstream, name, home->number, true)) {
        rb_log_err(jetstream->options.log,
                   "streams of account \"%.*s\" are in home %u and in another one: those of home "
                   "%u are not served",
                   RB_S_ARG(name), home->number, home->number);
        return UINT32_MAX;
    }
    return jetstream->options.account_id(jetstream->options.ctx, name);
}

static bool is_home(void *ctx, struct rb_slice name)
{
    const struct home *home = ctx;
    return rb_jetstream_claim(home->part->jetstream, name, home->number, false);
}

/* Opening */

static uint32_t batch_bytes_for(uint32_t max_payload)
{
    uint64_t body = max_payload > RB_WAL_BODY_MAX ? RB_WAL_BODY_MAX : max_payload;
    uint64_t bytes = (body + BATCH_SLACK + RB_DISK_ALIGN - 1) / RB_DISK_ALIGN * RB_DISK_ALIGN;
    return bytes < BATCH_BYTES_MIN ? BATCH_BYTES_MIN : (uint32_t)bytes;
}

static enum rb_err open_log(struct home *home, char why[128])
{
    struct rb_core *core = home->part->core;
    const struct rb_config *config = home->part->jetstream->options.config;
    uint32_t batch = batch_bytes_for(config->max_payload);
    uint64_t file = config->jetstream.temporary ? TEMPORARY_FILE_BYTES : FILE_BYTES;
    struct rb_wal_options options = { .disk = home->disk,
                                      .budget = core->budget,
                                      .env = core->env,
                                      .directory = "log",
                                      .batch_bytes = batch,
                                      .file_bytes =
                                          file < 4 * (uint64_t)batch ? 4 * (uint64_t)batch : file,
                                      .files_max = FILES_MAX };
    enum rb_err err = rb_wal_create(&options, &home->log);
    if (err != RB_OK) {
        (void)snprintf(why, 128, "JetStream home %u: log: %s", home->number, rb_err_text(err));
    }
    return err;
}

static enum rb_err open_js(struct home *home, char why[128])
{
    struct rb_jetstream *jetstream = home->part->jetstream;
    home->settings = rb_jetstream_settings(jetstream);
    struct rb_js_options options = { .core = home->part->core,
                                     .settings = &home->settings,
                                     .shared = &jetstream->shared,
                                     .disk = home->disk,
                                     .log = home->log,
                                     .limits = limits_of,
                                     .account_id = account_id,
                                     .is_home = is_home,
                                     .ctx = home };
    enum rb_err err = rb_js_create(&options, &home->js);
    if (err != RB_OK) {
        home->js = NULL;
        (void)snprintf(why, 128, "JetStream home %u: %s", home->number, rb_err_text(err));
    }
    return err;
}

static enum rb_err open_home(struct home *home, rb_jetstream_open_disk open, void *open_ctx,
                             char why[128])
{
    struct rb_jetstream *jetstream = home->part->jetstream;
    char path[PATH_BYTES], refused[128] = "";
    (void)snprintf(path, sizeof(path), "%s/%u", jetstream->directory, home->number);
    enum rb_err err = open(open_ctx, path, &home->disk, refused);
    if (err != RB_OK) {
        (void)snprintf(why, 128, "%.100s", refused[0] != '\0' ? refused : rb_err_text(err));
        return err;
    }
    if (refused[0] != '\0' && home->number == 0) {
        rb_log_wrn(jetstream->options.log,
                   "io_uring cannot be used for files (%s): helper threads write them", refused);
    }
    err = open_log(home, why);
    return err == RB_OK ? open_js(home, why) : err;
}

enum rb_err rb_jetstream_part_create(struct rb_jetstream *jetstream, struct rb_core *core,
                                     rb_jetstream_open_disk open, void *open_ctx,
                                     struct rb_jetstream_part **ret_part, char why[128])
{
    uint32_t shard = core->options.shard_index, shards = jetstream->options.shard_count;
    uint32_t count =
        shard < jetstream->home_count ? (jetstream->home_count - shard - 1) / shards + 1 : 0;
    struct rb_jetstream_part *part = calloc(1, sizeof(*part) + count * sizeof(part->homes[0]));
    if (part == NULL) {
        (void)snprintf(why, 128, "%s", rb_err_text(RB_ERR_MEMORY));
        return RB_ERR_MEMORY;
    }
    part->jetstream = jetstream;
    part->core = core;
    part->progress_ns = rb_env_now(core->env) + PROGRESS_NS;
    *ret_part = part; /* also after a failure: what was opened is closed in order */
    for (uint32_t i = 0; i < count; i++) {
        struct home *home = &part->homes[part->count++];
        home->part = part;
        home->number = shard + i * shards;
        enum rb_err err = open_home(home, open, open_ctx, why);
        if (err != RB_OK) {
            return err;
        }
    }
    return RB_OK;
}

/* The turn */

static bool complete_all(struct home *home)
{
    struct rb_disk_op **ops;
    bool worked = false;
    for (uint32_t count; (count = rb_disk_poll(home->disk, 0, &ops)) > 0;) {
        for (uint32_t i = 0; i < count; i++) {
            rb_js_complete(home->js, ops[i]);
        }
        worked = true;
        if (count < RB_DISK_DONE_MAX) {
            break;
        }
    }
    return worked;
}

static void wake_others(struct rb_jetstream_part *part)
{
    const struct rb_jetstream_options *options = &part->jetstream->options;
    for (uint32_t i = 0; i < options->shard_count; i++) {
        options->wake(options->ctx, i);
    }
}

static bool all_serve(struct rb_jetstream_part *part)
{
    bool serve = true;
    for (uint32_t i = 0; i < part->count; i++) {
        const struct rb_js *js = part->homes[i].js;
        if (js->failed && !part->failed) {
            char why[RB_JETSTREAM_ERROR_MAX];
            (void)snprintf(why, sizeof(why), "home %u: %s", part->homes[i].number, js->failure);
            part->failed = true;
            rb_jetstream_fail(part->jetstream, why);
            wake_others(part);
        }
        serve &= js->ready_to_serve;
    }
    return serve;
}

static void log_progress(struct rb_jetstream_part *part)
{
    char text[256];
    uint64_t now_ns = part->core->now_ns;
    if (now_ns < part->progress_ns) {
        return;
    }
    part->progress_ns = now_ns + PROGRESS_NS;
    for (uint32_t i = 0; i < part->count; i++) {
        struct rb_slice progress = rb_js_progress(part->homes[i].js, text, sizeof(text));
        if (progress.len > 0) {
            rb_log_inf(part->jetstream->options.log, "JetStream home %u: %.*s",
                       part->homes[i].number, RB_S_ARG(progress));
        }
    }
}

static void tell_accounts(struct rb_jetstream_part *part)
{
    struct rb_js_settings settings = rb_jetstream_settings(part->jetstream);
    part->changed = false;
    for (uint32_t i = 0; i < part->count; i++) {
        part->homes[i].settings = settings;
        rb_js_accounts_changed(part->homes[i].js);
    }
}

/* One step; true when the next one may follow at once. */
static bool advance(struct rb_jetstream_part *part)
{
    struct rb_jetstream *jetstream = part->jetstream;
    uint32_t shards = jetstream->options.shard_count;
    switch (part->phase) {
    case RECOVERING:
        log_progress(part);
        if (all_serve(part)) {
            part->phase = RECOVERED;
            if (atomic_fetch_add(&jetstream->recovered_count, 1) + 1 == shards) {
                wake_others(part);
            }
        }
        return part->phase == RECOVERED;
    case RECOVERED:
        if (atomic_load(&jetstream->recovered_count) == shards) {
            part->phase = TELLS;
            tell_accounts(part);
            wake_others(part); /* our next turn comes, too */
        }
        return false;
    case TELLS:
        part->phase = SERVES;
        if (atomic_fetch_add(&jetstream->told_count, 1) + 1 == shards) {
            wake_others(part);
        }
        return false;
    case SERVES:
        break;
    }
    return false;
}

void rb_jetstream_part_begin(struct rb_jetstream_part *part, uint64_t now_ns)
{
    for (uint32_t i = 0; i < part->count; i++) {
        if (part->homes[i].js != NULL) {
            rb_js_begin(part->homes[i].js, now_ns);
        }
    }
}

bool rb_jetstream_part_turn(struct rb_jetstream_part *part)
{
    bool worked = false;
    for (uint32_t i = 0; i < part->count; i++) {
        if (part->homes[i].js != NULL) {
            worked |= complete_all(&part->homes[i]);
        }
    }
    if (part->changed && part->phase == SERVES && !part->closing) {
        tell_accounts(part);
    }
    for (uint32_t i = 0; i < part->count; i++) {
        if (part->homes[i].js != NULL) {
            worked |= rb_js_turn(part->homes[i].js);
        }
    }
    if (part->phase != SERVES && !part->closing && !part->failed) {
        while (advance(part)) {
        }
    }
    return worked;
}

uint64_t rb_jetstream_part_due(struct rb_jetstream_part *part)
{
    uint64_t due = part->phase == RECOVERING && !part->failed ? part->progress_ns : UINT64_MAX;
    for (uint32_t i = 0; i < part->count; i++) {
        uint64_t next = part->homes[i].js == NULL ? UINT64_MAX : rb_js_due(part->homes[i].js);
        due = next < due ? next : due;
    }
    return due;
}

void rb_jetstream_part_changed(struct rb_jetstream_part *part)
{
    part->changed = true;
}

void rb_jetstream_part_interest(struct rb_jetstream_part *part, struct rb_account *account,
                                struct rb_slice subject)
{
    for (uint32_t i = 0; i < part->count; i++) {
        rb_js_interest(part->homes[i].js, account, subject);
    }
}

/* End */

void rb_jetstream_part_close(struct rb_jetstream_part *part)
{
    if (part->closing) {
        return;
    }
    part->closing = true;
    for (uint32_t i = 0; i < part->count; i++) {
        if (part->homes[i].js != NULL) {
            rb_js_close(part->homes[i].js);
        }
    }
}

bool rb_jetstream_part_closed(const struct rb_jetstream_part *part)
{
    bool closed = part->closing;
    for (uint32_t i = 0; i < part->count; i++) {
        closed &= part->homes[i].js == NULL || rb_js_closed(part->homes[i].js);
    }
    return closed;
}

void rb_jetstream_part_destroy(struct rb_jetstream_part *part)
{
    for (uint32_t i = 0; i < part->count; i++) {
        if (part->homes[i].js != NULL) {
            rb_js_destroy(part->homes[i].js);
        }
    }
    free(part);
}

struct rb_js *rb_jetstream_part_js(const struct rb_jetstream_part *part, uint32_t index)
{
    return index < part->count ? part->homes[index].js : NULL;
}
