/* js_rig.c - see js_rig.h. */
#include "js_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "js/api.h"
#include "js/doc.h"
#ifdef RB_MSGSTORE_MODEL
#include "msgstore_model.h"
#endif
#include "ringbus/check.h"
#include "storage/disk/sim.h"
#include "storage/wal.h"

#define WALL_START UINT64_C(1700000000000000000)

static uint64_t virtual_now(void *ctx)
{
    return ((struct js_rig *)ctx)->now_ns;
}

static uint64_t virtual_wall(void *ctx)
{
    struct js_rig *rig = ctx;
    return rig->now_ns + rig->wall_offset_ns;
}

static void virtual_entropy(void *ctx, void *out, size_t len)
{
    struct js_rig *rig = ctx;
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)out)[i] = (uint8_t)rb_env_random(&rig->env);
    }
}

static void keep_log(void *ctx, enum rb_log_level level, const char *message)
{
    struct js_rig *rig = ctx;
    if (level <= RB_LOG_WRN && rig->log_count < JS_RIG_LOGS) {
        (void)snprintf(rig->logs[rig->log_count++], sizeof(rig->logs[0]), "%s", message);
    }
    if (getenv("JS_RIG_LOG") != NULL) {
        (void)fprintf(stderr, "[%llu] %s\n", (unsigned long long)rig->now_ns, message);
    }
}

static void no_msg(void *ctx, uint32_t shard, uint32_t account, const struct rb_msg *msg,
                   const struct rb_slice *queues, uint32_t queue_count)
{
}

static void no_interest(void *ctx, uint32_t account, struct rb_slice subject, struct rb_slice queue,
                        uint32_t weight)
{
}

static void tell_interest(void *ctx, struct rb_account *account, struct rb_slice subject)
{
    struct js_rig *rig = ctx;
    if (rig->js != NULL) {
        rb_js_interest(rig->js, account, subject);
    }
}

static struct rb_core_settings *make_settings(void)
{
    struct rb_arena *arena;
    struct rb_policy *policy;
    enum rb_err err = rb_arena_create(4096, &arena);
    rb_assert(err == RB_OK);
    err = rb_policy_create(&policy);
    rb_assert(err == RB_OK);
    struct rb_policy_account *accounts =
        rb_arena_take(policy->arena, JS_RIG_ACCOUNTS * sizeof(*accounts));
    accounts[0].name = RB_S("$G");
    accounts[1].name = RB_S("A");
    accounts[1].id = 1;
    policy->accounts = accounts;
    policy->account_count = JS_RIG_ACCOUNTS;
    err = rb_policy_seal(policy);
    rb_assert(err == RB_OK);
    struct rb_core_settings *settings = rb_arena_take(arena, sizeof(*settings));
    settings->ref_count = 1;
    settings->arena = arena;
    settings->policy = policy;
    settings->options.shard_count = 1;
    settings->options.max_payload = 8 << 20;
    settings->options.headers = true;
    return settings;
}

void js_rig_init(struct js_rig *rig, uint64_t seed)
{
    memset(rig, 0, sizeof(*rig));
    rig->now_ns = UINT64_C(1000000000);
    rig->wall_offset_ns = WALL_START;
    rb_env_seed(&rig->env, seed);
    rig->env.now_ns = virtual_now;
    rig->env.wall_ns = virtual_wall;
    rig->env.entropy = virtual_entropy;
    rig->env.ctx = rig;
    rig->log = (struct rb_log){ .fd = -1, .sink = keep_log, .sink_ctx = rig };
    rig->limits = (struct rb_js_limits){ -1, -1, -1, -1, -1, -1, -1, false };
    rig->settings = (struct rb_js_settings){ .max_memory = -1,
                                             .max_storage = -1,
                                             .strict = true,
                                             .server_name = RB_S("rig"),
                                             .server_id = RB_S("NRIG"),
                                             .version = RB_S("2.15.0") };
    struct rb_sim_disk_options options = { .seed = seed,
                                           .now_ns = virtual_now,
                                           .clock_ctx = rig,
                                           .delay_min_ns = 10000,
                                           .delay_max_ns = 100000 };
    enum rb_err err = rb_sim_disk_create(&options, &rig->disk);
    rb_assert(err == RB_OK);
    atomic_store(&rig->table.blocks[0], rig->accounts);
    struct rb_core *core = &rig->core;
    core->settings = make_settings();
    core->peers = (struct rb_core_peers){ .msg = no_msg, .interest = no_interest, .ctx = rig };
    core->hooks = (struct rb_core_hooks){ .interest = tell_interest, .ctx = rig };
    core->env = &rig->env;
    core->log = &rig->log;
    core->budget = &rig->budget;
    core->next_cid = &rig->next_cid;
    core->conn_count = &rig->conn_count;
    core->account_table = &rig->table;
    err = rb_core_init(core);
    rb_assert(err == RB_OK);
    rig->account = rb_account_get(core, 1);
    rb_assert(rig->account != NULL);
}

/* ---- what the server would be asked ---- */

static bool limits_of(void *ctx, uint32_t account, struct rb_js_limits *ret_limits)
{
    *ret_limits = ((struct js_rig *)ctx)->limits;
    return account < JS_RIG_ACCOUNTS;
}

static uint32_t account_id(void *ctx, struct rb_slice name)
{
    return rb_slice_equal(name, RB_S("A")) ? 1 : rb_slice_equal(name, RB_S("$G")) ? 0 : UINT32_MAX;
}

static bool is_home(void *ctx, struct rb_slice name)
{
    return true;
}

void js_rig_accounts_changed(struct js_rig *rig)
{
    rb_js_accounts_changed(rig->js);
}

void js_rig_start(struct js_rig *rig)
{
    struct rb_wal *log;
    struct rb_wal_options wal = { .disk = rig->disk,
                                  .budget = &rig->budget,
                                  .env = &rig->env,
                                  .directory = "log",
                                  .file_bytes =
                                      rig->wal_file_bytes == 0 ? 4u << 20 : rig->wal_file_bytes,
                                  .files_max = rig->wal_files_max };
    enum rb_err err = rb_wal_create(&wal, &log);
    rb_assert(err == RB_OK);
    struct rb_js_options options = { .core = &rig->core,
                                     .settings = &rig->settings,
                                     .shared = &rig->shared,
                                     .disk = rig->disk,
                                     .log = log,
                                     .limits = limits_of,
                                     .account_id = account_id,
                                     .is_home = is_home,
                                     .ctx = rig };
    err = rb_js_create(&options, &rig->js);
    rb_assert(err == RB_OK);
}

void js_rig_open(struct js_rig *rig)
{
    js_rig_start(rig);
    for (uint32_t i = 0; i < 100000 && !rig->js->ready_to_serve && !rig->js->failed; i++) {
        js_rig_settle(rig);
    }
    rb_assert(rig->js->ready_to_serve || rig->js->failed);
    js_rig_accounts_changed(rig);
    js_rig_settle(rig);
}

void js_rig_begin(struct js_rig *rig)
{
    rig->core.now_ns = rig->now_ns;
    if (rig->js != NULL) {
        rb_js_begin(rig->js, rig->now_ns);
    }
}

bool js_rig_turn(struct js_rig *rig)
{
    struct rb_disk_op **ops;
    js_rig_begin(rig);
    uint32_t count = rb_disk_poll(rig->disk, 0, &ops);
    for (uint32_t i = 0; i < count; i++) {
        rb_js_complete(rig->js, ops[i]);
    }
    return rb_js_turn(rig->js) || count > 0;
}

void js_rig_settle(struct js_rig *rig)
{
    const uint64_t soon_ns = 2000000;
    for (uint32_t i = 0; i < 1000000; i++) {
        if (js_rig_turn(rig)) {
            continue;
        }
        uint64_t disk_due = rb_sim_disk_due(rig->disk), due = rb_js_due(rig->js);
        if (disk_due != UINT64_MAX) {
            rig->now_ns = disk_due > rig->now_ns ? disk_due : rig->now_ns;
        } else if (due <= rig->now_ns) {
            rig->now_ns++;
        } else if (due != UINT64_MAX && due - rig->now_ns <= soon_ns) {
            rig->now_ns = due;
        } else {
            return;
        }
    }
    rb_unreachable("it never comes to rest");
}

void js_rig_advance(struct js_rig *rig, uint64_t ns)
{
    uint64_t until = rig->now_ns + ns;
    js_rig_settle(rig);
    while (rig->now_ns < until) {
        uint64_t due = rb_js_due(rig->js);
        rig->now_ns = due < until ? (due > rig->now_ns ? due : rig->now_ns + 1) : until;
        js_rig_settle(rig);
    }
}

void js_rig_close(struct js_rig *rig)
{
    rb_js_close(rig->js);
    for (uint32_t i = 0; i < 1000000 && !rb_js_closed(rig->js); i++) {
        if (!js_rig_turn(rig)) {
            uint64_t due = rb_sim_disk_due(rig->disk);
            rig->now_ns = due != UINT64_MAX && due > rig->now_ns ? due : rig->now_ns + 1000;
        }
    }
    rb_assert(rb_js_closed(rig->js));
    rb_js_destroy(rig->js);
    rig->js = NULL;
}

void js_rig_cut(struct js_rig *rig, bool power)
{
    struct rb_msgstore_home *home = rig->js->store_home;
    if (power) {
        rb_sim_disk_cut(rig->disk);
    } else {
        rb_sim_disk_kill(rig->disk);
    }
    rig->js->store_home = NULL;
    rb_js_destroy(rig->js);
    rig->js = NULL;
#ifdef RB_MSGSTORE_MODEL
    rb_msgstore_model_crash(home);
#else
    rb_msgstore_home_destroy(home);
#endif
    memset(&rig->shared, 0, sizeof(rig->shared));
}

void js_rig_deinit(struct js_rig *rig)
{
    rb_assert(rig->js == NULL);
    js_rig_forget(rig);
    for (uint32_t i = 0; i < rig->listener_count; i++) {
        rb_account_unlisten(rig->account, &rig->listeners[i]);
    }
    rb_disk_destroy(rig->disk);
    rb_core_deinit(&rig->core);
#ifdef RB_MSGSTORE_MODEL
    rb_msgstore_model_wipe();
#endif
    if (rig->budget.used_bytes != 0) {
        (void)fprintf(stderr, "js_rig: %llu bytes of the budget were not given back\n",
                      (unsigned long long)rig->budget.used_bytes);
    }
    rb_assert(rig->budget.used_bytes == 0);
}

/* ---- messages ---- */

static char *copy_text(struct rb_slice text)
{
    char *copy = malloc(text.len + 1);
    rb_assert(copy != NULL);
    if (text.len > 0) {
        memcpy(copy, text.ptr, text.len);
    }
    copy[text.len] = '\0';
    return copy;
}

static bool hear(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct js_rig *rig = ctx;
    struct js_rig_message *message = calloc(1, sizeof(*message));
    rb_assert(message != NULL);
    message->to = copy_text(msg->subject);
    message->subject = copy_text(msg->shown.len > 0 ? msg->shown : msg->subject);
    message->reply = copy_text(msg->reply);
    message->payload = (uint8_t *)copy_text(msg->payload);
    message->header_len = msg->header_len;
    message->len = (uint32_t)msg->payload.len;
    message->body = (const char *)message->payload + msg->header_len;
    if (rig->last == NULL) {
        rig->first = message;
    } else {
        rig->last->next = message;
    }
    rig->last = message;
    rig->message_count++;
    return true;
}

void js_rig_listen(struct js_rig *rig, const char *subject)
{
    rb_assert(rig->listener_count < JS_RIG_LISTENERS);
    struct rb_special *special = &rig->listeners[rig->listener_count++];
    *special = (struct rb_special){ .take = hear, .ctx = rig };
    enum rb_err err = rb_account_listen(rig->account, rb_slice_text(subject), special);
    rb_assert(err == RB_OK);
}

void js_rig_publish_bytes(struct js_rig *rig, const char *subject, const char *reply,
                          uint32_t header_len, struct rb_slice payload)
{
    js_rig_begin(rig);
    (void)rb_account_publish(rig->account, rb_slice_text(subject),
                             rb_slice_text(reply == NULL ? "" : reply), header_len, payload);
}

void js_rig_publish(struct js_rig *rig, const char *subject, const char *reply, const char *headers,
                    const char *body)
{
    size_t cap = (headers == NULL ? 0 : strlen(headers)) + strlen(body) + 32;
    char *payload = malloc(cap);
    rb_assert(payload != NULL);
    int header_len = headers == NULL ? 0 : snprintf(payload, cap, "NATS/1.0\r\n%s\r\n", headers);
    int len = header_len + snprintf(payload + header_len, cap - (size_t)header_len, "%s", body);
    js_rig_publish_bytes(rig, subject, reply, (uint32_t)header_len,
                         rb_slice_of(payload, (size_t)len));
    free(payload);
}

const struct js_rig_message *js_rig_request_message(struct js_rig *rig, const char *subject,
                                                    const char *headers, const char *body)
{
    char reply[64];
    if (!rig->requesting) {
        rig->requesting = true;
        js_rig_listen(rig, "_INBOX.rig.*");
    }
    (void)snprintf(reply, sizeof(reply), "_INBOX.rig.%llu", (unsigned long long)++rig->inbox);
    js_rig_publish(rig, subject, reply, headers, body);
    js_rig_settle(rig);
    return js_rig_nth(rig, reply, 0);
}

const char *js_rig_request(struct js_rig *rig, const char *subject, const char *headers,
                           const char *body)
{
    const struct js_rig_message *message = js_rig_request_message(rig, subject, headers, body);
    return message == NULL ? NULL : message->body;
}

uint32_t js_rig_heard(const struct js_rig *rig, const char *to)
{
    uint32_t count = 0;
    for (const struct js_rig_message *message = rig->first; message != NULL;
         message = message->next) {
        count += to == NULL || strcmp(message->to, to) == 0;
    }
    return count;
}

const struct js_rig_message *js_rig_nth(const struct js_rig *rig, const char *to, uint32_t n)
{
    for (const struct js_rig_message *message = rig->first; message != NULL;
         message = message->next) {
        if ((to == NULL || strcmp(message->to, to) == 0) && n-- == 0) {
            return message;
        }
    }
    return NULL;
}

void js_rig_forget(struct js_rig *rig)
{
    while (rig->first != NULL) {
        struct js_rig_message *message = rig->first;
        rig->first = message->next;
        free(message->to);
        free(message->subject);
        free(message->reply);
        free(message->payload);
        free(message);
    }
    rig->last = NULL;
    rig->message_count = 0;
}

/* ---- streams ---- */

struct rb_js_account *js_rig_js_account(struct js_rig *rig)
{
    return rb_js_account_of(rig->js, rig->account);
}

struct rb_js_stream *js_rig_stream(struct js_rig *rig, const char *name)
{
    struct rb_js_account *account = js_rig_js_account(rig);
    return account == NULL ? NULL : rb_js_stream_find(account, rb_slice_text(name));
}

struct waiting {
    struct rb_js_change change;
    struct rb_js_stream *stream;
    struct rb_js_error error;
    bool done;
};

static void change_done(struct rb_js_change *change, struct rb_js_stream *stream,
                        const struct rb_js_outcome *outcome)
{
    struct waiting *waiting = (struct waiting *)change;
    rb_assert(!waiting->done);
    waiting->done = true;
    waiting->stream = stream;
    waiting->error = outcome->error;
}

static struct rb_js_stream_config *read_config(const char *json, struct rb_arena **ret_arena)
{
    char error[RB_DOC_ERROR_MAX];
    enum rb_err err = rb_arena_create(4096, ret_arena);
    rb_assert(err == RB_OK);
    struct rb_js_stream_config *config = rb_arena_take(*ret_arena, sizeof(*config));
    if (!rb_doc_read(*ret_arena, &rb_js_stream_config_type, rb_slice_text(json), true, config,
                     error)) {
        (void)fprintf(stderr, "%s: %s\n", json, error);
        rb_unreachable("the test's configuration cannot be read");
    }
    return config;
}

static bool end(struct js_rig *rig, struct waiting *waiting, struct rb_js_error *ret_error)
{
    for (uint32_t i = 0; i < 100 && !waiting->done; i++) {
        js_rig_settle(rig);
    }
    rb_assert(waiting->done);
    if (ret_error != NULL) {
        *ret_error = waiting->error;
    }
    return waiting->error.code == 0;
}

struct rb_js_stream *js_rig_create(struct js_rig *rig, const char *json,
                                   struct rb_js_error *ret_error)
{
    struct waiting waiting = { .change = { .done = change_done } };
    struct rb_arena *arena;
    struct rb_js_stream_config *config = read_config(json, &arena);
    rb_js_stream_create(js_rig_js_account(rig), config, &waiting.change);
    rb_arena_destroy(arena);
    return end(rig, &waiting, ret_error) ? waiting.stream : NULL;
}

bool js_rig_update(struct js_rig *rig, const char *json, struct rb_js_error *ret_error)
{
    struct waiting waiting = { .change = { .done = change_done } };
    struct rb_arena *arena;
    struct rb_js_stream_config *config = read_config(json, &arena);
    struct rb_js_stream *stream = rb_js_stream_find(js_rig_js_account(rig), config->name);
    rb_assert(stream != NULL);
    rb_js_stream_update(stream, config, &waiting.change);
    rb_arena_destroy(arena);
    return end(rig, &waiting, ret_error);
}

bool js_rig_delete(struct js_rig *rig, const char *name, struct rb_js_error *ret_error)
{
    struct waiting waiting = { .change = { .done = change_done } };
    struct rb_js_stream *stream = js_rig_stream(rig, name);
    rb_assert(stream != NULL);
    rb_js_stream_delete(stream, &waiting.change);
    return end(rig, &waiting, ret_error);
}

enum rb_err js_rig_get(struct js_rig *rig, struct rb_js_stream *stream, uint64_t seq,
                       struct rb_message *ret_message)
{
    struct rb_msgstore_wait wait = { .tag = RB_JS_WAIT_STREAM };
    enum rb_err err = rb_msgstore_get(stream->store, seq, &wait, ret_message);
    for (int i = 0; i < 100 && err == RB_ERR_BUSY; i++) {
        js_rig_settle(rig);
        err = rb_msgstore_get(stream->store, seq, &wait, ret_message);
    }
    rb_msgstore_forget(&wait);
    return err;
}
