/* docs_js.c - /jsz, /raftz, /ipqueuesz, and what other documents say of JetStream. */
#include <stdlib.h>
#include <string.h>

#include "server/docs.h"

#define API_LEVEL 5
#define SYNC_INTERVAL_NS                                                                           \
    (UINT64_C(120) * 1000000000) /* nats-server's word for "always" keeps its default */

/* Server */

static void set_api(struct rb_json_out *json, uint64_t level, uint64_t total, uint64_t errors)
{
    rb_json_out_key(json, "api");
    rb_json_out_object(json);
    rb_json_out_set_uint(json, "level", level);
    rb_json_out_set_uint(json, "total", total);
    rb_json_out_set_uint(json, "errors", errors);
    rb_json_out_object_end(json);
}

static uint64_t account_count(const struct rb_monitor_view *view)
{
    return view->snapshot == NULL ? 0 : view->snapshot->js_account_count;
}

void rb_doc_js_stats(const struct rb_monitor_jetstream *js, struct rb_json_out *json)
{
    rb_json_out_set_uint(json, "memory", js->memory);
    rb_json_out_set_uint(json, "storage", js->storage);
    rb_json_out_set_uint(json, "reserved_memory", js->reserved_memory);
    rb_json_out_set_uint(json, "reserved_storage", js->reserved_storage);
    rb_json_out_set_uint(json, "accounts", js->accounts);
    rb_json_out_set_uint(json, "ha_assets", 0);
    set_api(json, js->enabled ? API_LEVEL : 0, js->api_total, js->api_errors);
}

void rb_doc_js_config(const struct rb_monitor_jetstream *js,
                      const struct rb_config_jetstream *config, struct rb_json_out *json)
{
    rb_json_out_key(json, "config");
    rb_json_out_object(json);
    rb_json_out_set_int(json, "max_memory", js->enabled ? js->max_memory : 0);
    rb_json_out_set_int(json, "max_storage", js->enabled ? js->max_storage : 0);
    if (js->enabled) {
        rb_json_out_opt_text(json, "store_dir", js->directory);
        rb_json_out_opt_uint(json, "sync_interval",
                             config->lazy ? config->sync_interval_ns : SYNC_INTERVAL_NS);
        rb_json_out_opt_bool(json, "sync_always", !config->lazy);
        rb_json_out_opt_text(json, "domain", config->domain);
        rb_json_out_opt_bool(json, "strict", !config->lenient);
    }
    rb_json_out_object_end(json);
}

static void opt_positive(struct rb_json_out *json, const char *key, int64_t value)
{
    if (value != 0) {
        rb_json_out_set_int(json, key, value);
    }
}

void rb_doc_js_limits(const struct rb_config_jetstream *config, struct rb_json_out *json)
{
    rb_json_out_key(json, "limits");
    rb_json_out_object(json);
    opt_positive(json, "max_request_batch", config->max_request_batch);
    opt_positive(json, "max_ack_pending", config->max_ack_pending);
    opt_positive(json, "max_duplicate_window", config->duplicate_window_ns);
    opt_positive(json, "max_batch_inflight_per_stream", config->batch_inflight_per_stream);
    opt_positive(json, "max_batch_inflight_total", config->batch_inflight_total);
    opt_positive(json, "max_batch_size", config->batch_msgs);
    opt_positive(json, "max_batch_timeout", config->batch_timeout_ns);
    rb_json_out_object_end(json);
}

void rb_doc_js_varz(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    rb_json_out_key(json, "jetstream");
    rb_json_out_object(json);
    if (view->jetstream.enabled) {
        rb_doc_js_config(&view->jetstream, &view->config->jetstream, json);
        rb_json_out_key(json, "stats");
        rb_json_out_object(json);
        rb_doc_js_stats(&view->jetstream, json);
        rb_json_out_object_end(json);
        rb_doc_js_limits(&view->config->jetstream, json);
    }
    rb_json_out_object_end(json);
}

/* Accounts */

static void add_consumers(const struct rb_stream_snapshot *stream, bool direct, bool config,
                          struct rb_json_out *json)
{
    bool any = false;
    for (uint32_t i = 0; i < stream->listed_count; i++) {
        const struct rb_consumer_snapshot *consumer = &stream->consumers[i];
        if (consumer->direct != direct) {
            continue;
        }
        if (!any) {
            rb_json_out_key(json, direct ? "direct_consumer_detail" : "consumer_detail");
            rb_json_out_array(json);
            any = true;
        }
        rb_json_out_object(json);
        rb_json_out_raw_members(json, consumer->info, config ? NULL : "config");
        rb_json_out_object_end(json);
    }
    if (any) {
        rb_json_out_array_end(json);
    }
}

static void add_stream(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                       const struct rb_stream_snapshot *stream, struct rb_json_out *json)
{
    rb_json_out_object(json);
    rb_json_out_set_string(json, "name", stream->name);
    rb_json_out_set_time(json, "created", stream->created_ns, false);
    rb_json_out_key(json, "cluster");
    rb_json_out_object(json);
    rb_json_out_set_text(json, "leader", view->server_name);
    rb_json_out_object_end(json);
    if (options->config) {
        rb_json_out_key(json, "config");
        rb_json_out_raw(json, stream->config);
    }
    rb_json_out_key(json, "state");
    rb_json_out_raw(json, stream->state);
    if (options->consumers) {
        add_consumers(stream, false, options->config, json);
    }
    if (options->consumers && options->direct_consumers) {
        add_consumers(stream, true, options->config, json);
    }
    rb_json_out_object_end(json);
}

static void add_streams(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                        const struct rb_js_account_snapshot *account, struct rb_json_out *json)
{
    bool any = false;
    for (uint32_t i = 0; i < account->listed_count; i++) {
        if (account->streams[i].state.len == 0) {
            continue; /* offline: there is nothing to be shown of it but in /healthz */
        }
        if (!any) {
            rb_json_out_key(json, "stream_detail");
            rb_json_out_array(json);
            any = true;
        }
        add_stream(view, options, &account->streams[i], json);
    }
    if (any) {
        rb_json_out_array_end(json);
    }
}

static void add_account(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                        const struct rb_js_account_snapshot *account, struct rb_json_out *json)
{
    rb_json_out_object(json);
    rb_json_out_set_string(json, "name", account->name);
    rb_json_out_set_string(json, "id", account->name);
    rb_json_out_set_int(json, "memory", account->memory);
    rb_json_out_set_int(json, "storage", account->storage);
    rb_json_out_set_uint(json, "reserved_memory", (uint64_t)account->max_memory);
    rb_json_out_set_uint(json, "reserved_storage", (uint64_t)account->max_storage);
    rb_json_out_set_uint(json, "accounts", 0);
    rb_json_out_set_uint(json, "ha_assets", 0);
    set_api(json, 0, account->api_total, account->api_errors);
    if (options->streams || options->consumers) {
        add_streams(view, options, account, json);
    }
    rb_json_out_object_end(json);
}

static int by_name(const void *left, const void *right)
{
    struct rb_slice a = (*(const struct rb_js_account_snapshot *const *)left)->name;
    struct rb_slice b = (*(const struct rb_js_account_snapshot *const *)right)->name;
    int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : a.len < b.len ? -1 : a.len > b.len;
}

/* Those that the options ask for, sorted; the caller frees it. NULL: no memory. */
static const struct rb_js_account_snapshot **choose_accounts(const struct rb_monitor_view *view,
                                                             const struct rb_doc_options *options,
                                                             uint32_t *ret_count)
{
    const struct rb_snapshot *snapshot = view->snapshot;
    const struct rb_js_account_snapshot **chosen =
        calloc((size_t)account_count(view) + 1, sizeof(struct rb_js_account_snapshot *));
    bool all = options->accounts ||
               ((options->streams || options->consumers) && options->account[0] == '\0');
    uint32_t count = 0;
    for (uint32_t i = 0; chosen != NULL && i < account_count(view); i++) {
        const struct rb_js_account_snapshot *account = &snapshot->js_accounts[i];
        if (options->account[0] != '\0' &&
            rb_slice_equal(account->name, rb_slice_text(options->account))) {
            chosen[0] = account; /* takes precedence */
            *ret_count = 1;
            return chosen;
        }
        if (all) {
            chosen[count++] = account;
        }
    }
    if (chosen != NULL) {
        qsort(chosen, count, sizeof(chosen[0]), by_name);
        uint64_t offset = options->offset < 0 ? 0 : (uint64_t)options->offset;
        uint64_t limit = options->limit == 0  ? RB_DOC_LIMIT_DEFAULT
                         : options->limit < 0 ? UINT64_MAX
                                              : (uint64_t)options->limit;
        offset = options->limit < 0 ? 0 : offset > count ? count : offset;
        count = (uint32_t)(count - offset < limit ? count - offset : limit);
        memmove(chosen, chosen + offset, count * sizeof(chosen[0]));
    }
    *ret_count = count;
    return chosen;
}

static bool add_accounts(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                         struct rb_json_out *json)
{
    uint32_t count = 0;
    const struct rb_js_account_snapshot **chosen = choose_accounts(view, options, &count);
    if (chosen == NULL) {
        return false;
    }
    if (count > 0) {
        rb_json_out_key(json, "account_details");
        rb_json_out_array(json);
        for (uint32_t i = 0; i < count; i++) {
            add_account(view, options, chosen[i], json);
        }
        rb_json_out_array_end(json);
    }
    free(chosen);
    return true;
}

/* The documents */

bool rb_doc_jsz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                struct rb_json_out *json, struct rb_doc_error *error)
{
    const struct rb_monitor_jetstream *js = &view->jetstream;
    if (options->leader_only && !js->enabled) {
        error->silent = true;
        return rb_doc_fail(error, 400, "filtered response: not leader");
    }
    rb_json_out_object(json);
    rb_doc_js_stats(js, json);
    rb_doc_head(view, json);
    rb_json_out_opt_bool(json, "disabled", !js->enabled);
    rb_doc_js_config(js, &view->config->jetstream, json);
    if (js->enabled) {
        rb_doc_js_limits(&view->config->jetstream, json);
    }
    rb_json_out_set_uint(json, "streams", js->streams);
    if (options->raft) { /* each is its own leader */
        rb_json_out_opt_uint(json, "streams_leader", js->streams);
    }
    rb_json_out_set_uint(json, "consumers", js->consumers);
    if (options->raft) {
        rb_json_out_opt_uint(json, "consumers_leader", js->consumers);
    }
    rb_json_out_set_uint(json, "messages", js->messages);
    rb_json_out_set_uint(json, "bytes", js->memory + js->storage);
    if (!add_accounts(view, options, json)) {
        return rb_doc_fail(error, 500, "out of memory");
    }
    rb_json_out_set_uint(json, "total", js->accounts);
    rb_json_out_object_end(json);
    return true;
}

bool rb_doc_jsz_account(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                        struct rb_json_out *json, struct rb_doc_error *error)
{
    for (uint32_t i = 0; i < account_count(view); i++) {
        const struct rb_js_account_snapshot *account = &view->snapshot->js_accounts[i];
        if (rb_slice_equal(account->name, rb_slice_text(options->account))) {
            add_account(view, options, account, json);
            return true;
        }
    }
    if (!view->jetstream.enabled) {
        return rb_doc_fail(error, 500, "jetstream not enabled");
    }
    return rb_doc_fail(error, 500, "account \"%s\" %s", options->account,
                       rb_doc_account_id(view, options->account) < 0 ? "not found"
                                                                     : "not jetstream enabled");
}

bool rb_doc_raftz(bool system, struct rb_json_out *json, struct rb_doc_error *error)
{
    if (!system) {
        return rb_doc_fail(error, 404, "No Raft nodes registered");
    }
    rb_json_out_object(json);
    rb_json_out_object_end(json);
    return true;
}

bool rb_doc_ipqueuesz(struct rb_json_out *json)
{
    rb_json_out_object(json); /* shards' mail is bounded rings, not queues with names */
    rb_json_out_object_end(json);
    return true;
}
