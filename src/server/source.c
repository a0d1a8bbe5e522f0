/* source.c - views of a node: its facts, each shard's counters and heaviest subjects, and snapshots on demand. */
#include "server/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "js/js.h"
#include "server/jetstream.h"
#include "server/node.h"
#include "server/shard.h"
#include "tls/tls.h"

#define ASK_NS                                                                                     \
    INT64_C(2000000000) /* a shard that is busy for longer is left out, or fails a collection */

/* A shard's part that only its own thread can read. */
struct glance {
    struct rb_top top;
    uint64_t memory_used_bytes, memory_limit_bytes;
    struct rb_wal_stats log; /* of the shard's homes together */
};

struct source {
    struct rb_node *node;
    struct rb_env env;
    uint32_t shard_count;
    struct rb_monitor_shard *shards;
    struct rb_top_subject (*tops)[RB_TOP_ENTRIES];
    struct glance **glances; /* of the open view, as the next two */
    const struct rb_config *config;
    const struct rb_core_settings *settings;
    struct rb_snapshot *snapshot;
    char host[RB_CONFIG_TEXT_MAX];
};

static void glance_at_logs(const struct rb_jetstream_part *part, struct rb_wal_stats *sum)
{
    struct rb_js *js;
    for (uint32_t i = 0; part != NULL && (js = rb_jetstream_part_js(part, i)) != NULL; i++) {
        struct rb_wal_stats stats;
        rb_wal_stats(js->log, &stats);
        sum->batches += stats.batches;
        sum->records += stats.records;
        sum->bytes += stats.bytes;
        sum->carried += stats.carried;
        sum->file_count += stats.file_count;
    }
}

static void glance_at(void *shard, void *arg)
{
    struct glance *glance = arg;
    const struct rb_core *core = rb_shard_core(shard);
    glance->top = core->top;
    glance->memory_used_bytes = core->budget->used_bytes;
    glance->memory_limit_bytes = core->budget->limit_bytes;
    glance_at_logs(rb_shard_jetstream(shard), &glance->log);
}

static int by_messages(const void *left, const void *right)
{
    const struct rb_top_subject *a = left, *b = right;
    return a->msgs > b->msgs ? -1 : a->msgs < b->msgs;
}

static void fill_top(struct source *source, uint32_t index)
{
    const struct rb_top *top = &source->glances[index]->top;
    struct rb_top_subject *subjects = source->tops[index];
    for (uint32_t i = 0; i < top->count; i++) {
        const struct rb_top_entry *entry = &top->entries[i];
        subjects[i] = (struct rb_top_subject){
            .subject = rb_slice_of(entry->subject, entry->subject_len),
            .msgs = entry->msgs * RB_TOP_SAMPLE,
            .bytes = entry->bytes * RB_TOP_SAMPLE,
        };
    }
    qsort(subjects, top->count, sizeof(*subjects), by_messages);
    source->shards[index].top = subjects;
    source->shards[index].top_count = top->count;
}

static void fill_counters(const struct rb_core_stats *stats, struct rb_monitor_shard *out)
{
    *out = (struct rb_monitor_shard){
        .conns = rb_counter_get(&stats->conns),
        .conns_total = rb_counter_get(&stats->conns_total),
        .subs = rb_counter_get(&stats->subs),
        .in_msgs = rb_counter_get(&stats->in_msgs),
        .in_bytes = rb_counter_get(&stats->in_bytes),
        .out_msgs = rb_counter_get(&stats->out_msgs),
        .out_bytes = rb_counter_get(&stats->out_bytes),
        .slow_consumers = rb_counter_get(&stats->slow_consumers),
        .stale_conns = rb_counter_get(&stats->stale_conns),
        .queue_dropped = rb_counter_get(&stats->queue_dropped),
        .mail_dropped = rb_counter_get(&stats->mail_dropped),
        .mapping_dropped = rb_counter_get(&stats->mapping_dropped),
        .responses_dropped = rb_counter_get(&stats->responses_dropped),
        .auth_failed = rb_counter_get(&stats->auth_failed),
        .tls_failed = rb_counter_get(&stats->tls_failed),
        .turn_ns = &stats->turn_ns,
        .delivery_ns = &stats->delivery_ns,
        .pending_bytes = &stats->pending_bytes,
    };
}

/* The homes of a shard together; the histogram is that of its own one. */
static void fill_jetstream(const struct rb_jetstream_part *part, struct rb_monitor_shard *out)
{
    const struct rb_js *js;
    for (uint32_t i = 0; part != NULL && (js = rb_jetstream_part_js(part, i)) != NULL; i++) {
        out->js_publishes += rb_counter_get(&js->stats.publishes);
        out->js_refused += rb_counter_get(&js->stats.refused);
        out->js_delivered += rb_counter_get(&js->stats.delivered);
        out->js_redelivered += rb_counter_get(&js->stats.redelivered);
        out->js_consumer_acks += rb_counter_get(&js->stats.consumer_acks);
        out->js_commit_ns = i == 0 ? &js->stats.commit_ns : out->js_commit_ns;
    }
}

static enum rb_err fill_shard(struct source *source, uint32_t index)
{
    struct rb_monitor_shard *out = &source->shards[index];
    fill_counters(rb_node_shard_stats(source->node, index), out);
    fill_jetstream(rb_node_jetstream(source->node, index), out);
    struct glance *glance = calloc(1, sizeof(*glance));
    if (glance == NULL) {
        return RB_ERR_MEMORY;
    }
    enum rb_err err = rb_node_ask(source->node, index, glance_at, glance, free, ASK_NS);
    if (err != RB_OK) {
        if (err != RB_ERR_TIMEOUT) { /* else the shard frees it */
            free(glance);
        }
        return err == RB_ERR_TIMEOUT ? RB_OK : err;
    }
    source->glances[index] = glance;
    out->memory_used_bytes = glance->memory_used_bytes;
    out->memory_limit_bytes = glance->memory_limit_bytes;
    out->log_batches = glance->log.batches;
    out->log_records = glance->log.records;
    out->log_bytes = glance->log.bytes;
    out->log_carried = glance->log.carried;
    out->log_files = glance->log.file_count;
    fill_top(source, index);
    return RB_OK;
}

static void drop_snapshot(struct source *source)
{
    if (source->snapshot != NULL) {
        rb_snapshot_deinit(source->snapshot);
        free(source->snapshot);
        source->snapshot = NULL;
    }
}

static void source_close(void *ctx, struct rb_monitor_view *view)
{
    struct source *source = ctx;
    for (uint32_t i = 0; i < source->shard_count; i++) {
        free(source->glances[i]);
        source->glances[i] = NULL;
    }
    drop_snapshot(source);
    rb_node_config_release(source->config);
    rb_core_settings_release(source->settings);
    source->config = NULL;
    source->settings = NULL;
    *view = (struct rb_monitor_view){ 0 };
}

static int64_t not_after(const struct rb_tls_context *context)
{
    return context == NULL ? 0 : rb_tls_context_not_after(context);
}

static enum rb_err source_open(void *ctx, struct rb_monitor_view *view)
{
    struct source *source = ctx;
    struct rb_node *node = source->node;
    uint64_t load_wall_ns;
    source->config = rb_node_config_hold(node, &load_wall_ns);
    source->settings = rb_node_settings_hold(node);
    const struct rb_info *info = &source->settings->options.info;
    (void)snprintf(source->host, sizeof(source->host), "%.*s", RB_S_ARG(info->host));
    *view = (struct rb_monitor_view){
        .config = source->config,
        .server_id = rb_node_id(node),
        .server_name = rb_node_name(node),
        .version = RB_NATS_VERSION,
        .ringbus_version = RB_VERSION,
        .runtime = RB_RUNTIME,
        .host = source->host,
        .now_wall_ns = source->env.wall_ns(source->env.ctx),
        .start_wall_ns = rb_node_start_wall_ns(node),
        .config_load_wall_ns = load_wall_ns,
        .port = info->port,
        .accepting = rb_node_accepting(node),
        .tls_not_after_s = not_after(source->settings->tls),
        .ws_tls_not_after_s = not_after(source->settings->ws_tls),
        .core_count = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN),
        .shards = source->shards,
        .shard_count = source->shard_count,
    };
    if (view->port == 0) {
        view->port = (uint16_t)atomic_load(&rb_node_shared(node)->port);
    }
    view->ws_port = (uint16_t)atomic_load(&rb_node_shared(node)->ws_port);
    if (rb_node_shared(node)->jetstream != NULL) {
        rb_jetstream_view(rb_node_shared(node)->jetstream, source->config->policy,
                          &view->jetstream);
    }
    for (uint32_t i = 0; i < source->shard_count; i++) {
        enum rb_err err = fill_shard(source, i);
        if (err != RB_OK) {
            source_close(source, view);
            return err;
        }
    }
    return RB_OK;
}

static void free_snapshot(void *arg)
{
    rb_snapshot_deinit(arg);
    free(arg);
}

static enum rb_err source_collect(void *ctx, const struct rb_snapshot_request *request,
                                  const struct rb_snapshot **ret_snapshot)
{
    struct source *source = ctx;
    drop_snapshot(source);
    struct rb_snapshot *snapshot = malloc(sizeof(*snapshot));
    if (snapshot == NULL) {
        return RB_ERR_MEMORY;
    }
    rb_snapshot_init(snapshot, request);
    for (uint32_t i = 0; i < source->shard_count; i++) {
        enum rb_err err =
            rb_node_ask(source->node, i, rb_shard_snapshot, snapshot, free_snapshot, ASK_NS);
        if (err == RB_ERR_TIMEOUT) {
            return err; /* the shard frees it */
        }
        if (err != RB_OK || snapshot->incomplete) {
            free_snapshot(snapshot);
            return err != RB_OK ? err : RB_ERR_MEMORY;
        }
    }
    source->snapshot = snapshot;
    *ret_snapshot = snapshot;
    return RB_OK;
}

enum rb_err rb_node_source(struct rb_node *node, struct rb_monitor_source *ret_source)
{
    struct source *source = calloc(1, sizeof(*source));
    if (source == NULL) {
        return RB_ERR_MEMORY;
    }
    source->node = node;
    source->shard_count = rb_node_shard_count(node);
    rb_env_init_system(&source->env);
    source->shards = calloc(source->shard_count, sizeof(*source->shards));
    source->tops = calloc(source->shard_count, sizeof(*source->tops));
    source->glances = calloc(source->shard_count, sizeof(*source->glances));
    *ret_source = (struct rb_monitor_source){
        .ctx = source, .open = source_open, .collect = source_collect, .close = source_close
    };
    if (source->shards == NULL || source->tops == NULL || source->glances == NULL) {
        rb_node_source_free(ret_source);
        return RB_ERR_MEMORY;
    }
    return RB_OK;
}

void rb_node_source_free(struct rb_monitor_source *ret_source)
{
    struct source *source = ret_source->ctx;
    if (source == NULL) {
        return;
    }
    drop_snapshot(source);
    free(source->shards);
    free(source->tops);
    free(source->glances);
    free(source);
    *ret_source = (struct rb_monitor_source){ 0 };
}
