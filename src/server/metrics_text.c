/* metrics_text.c - /metrics: Prometheus text format 0.0.4.
 *
 * 1. gnatsd_* and jetstream_*: names, labels and values of prometheus-nats-exporter run with -varz -connz -subz
 *    -routez -accstatz -leafz -healthz -jsz=all and -use_internal_server_id. varz, subsz and routez are flattened as it
 *    does: every number is a gauge, a few strings are labels of a gauge that is 1, or times in ms.
 * 2. ringbus_*: our own, with types and units as Prometheus wants them, a `shard` label where shards count apart.
 * 3. Each family stands once, HELP and TYPE before its samples.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "server/docs.h"

#define NAME_MAX_BYTES 192
#define FAMILIES_MAX 512

/* Text */

static void add_label_value(struct rb_text *out, struct rb_slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        char c = (char)value.ptr[i];
        if (c == '\\' || c == '"') {
            rb_text_add(out, "\\", 1);
            rb_text_add(out, &c, 1);
        } else if (c == '\n') {
            rb_text_puts(out, "\\n");
        } else {
            rb_text_add(out, &c, 1);
        }
    }
}

static void add_label(struct rb_text *out, const char *name, struct rb_slice value, bool first)
{
    rb_text_printf(out, "%s%s=\"", first ? "" : ",", name);
    add_label_value(out, value);
    rb_text_puts(out, "\"");
}

static void add_family(struct rb_text *out, const char *name, const char *type, const char *unit,
                       const char *help)
{
    rb_text_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    if (unit != NULL) {
        rb_text_printf(out, "# UNIT %s %s\n", name, unit);
    }
}

/* 1. As the exporter */

struct flat {
    const struct rb_monitor_view *view;
    struct rb_text *out;
    const char *page;
    char (*seen)[NAME_MAX_BYTES];
    uint32_t seen_count;
};

static bool in_list(const char *text, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_skipped(const char *name)
{
    static const char *const skipped[] = {
        "leaf",
        "trusted_operators_claim",
        "cluster_tls_timeout",
        "cluster_cluster_port",
        "cluster_auth_timeout",
        "gateway_port",
        "gateway_auth_timeout",
        "gateway_tls_timeout",
        "gateway_connect_retries",
    };
    return in_list(name, skipped, sizeof(skipped) / sizeof(skipped[0]));
}

static bool is_shown_string(const char *key)
{
    static const char *const shown[] = {
        "server_id", "server_name", "version", "domain",
        "leader",    "name",        "start",   "config_load_time"
    };
    return in_list(key, shown, sizeof(shown) / sizeof(shown[0]));
}

/* Joins with "_", "/" becoming "_", without doubled or outer "_". False: no name for a metric. */
static bool join_name(const char *prefix, const char *key, char out[NAME_MAX_BYTES])
{
    char joined[NAME_MAX_BYTES];
    int need = snprintf(joined, sizeof(joined), "%s_%s", prefix, key);
    if (need < 0 || (size_t)need >= sizeof(joined)) {
        return false;
    }
    size_t len = 0;
    for (const char *at = joined; *at != '\0'; at++) {
        char c = *at == '/' ? '_' : *at;
        bool known =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        if (!known) {
            return false;
        }
        if (c != '_' || (len > 0 && out[len - 1] != '_')) {
            out[len++] = c;
        }
    }
    while (len > 0 && out[len - 1] == '_') {
        len--;
    }
    out[len] = '\0';
    return len > 0;
}

static bool is_new(struct flat *flat, const char *name)
{
    for (uint32_t i = 0; i < flat->seen_count; i++) {
        if (strcmp(flat->seen[i], name) == 0) {
            return false;
        }
    }
    if (flat->seen_count == FAMILIES_MAX) {
        return false;
    }
    (void)snprintf(flat->seen[flat->seen_count++], NAME_MAX_BYTES, "%s", name);
    return true;
}

static void flat_head(struct flat *flat, const char *name)
{
    rb_text_printf(flat->out, "# HELP gnatsd_%s_%s %s\n# TYPE gnatsd_%s_%s gauge\n", flat->page,
                   name, name, flat->page, name);
    rb_text_printf(flat->out, "gnatsd_%s_%s{", flat->page, name);
    add_label(flat->out, "server_id", rb_slice_text(flat->view->server_id), true);
}

/* Milliseconds since 1970 of a UTC time as rb_time_text writes it; false for other strings. */
static bool parse_time(const char *text, uint64_t *ret_ms)
{
    struct tm tm = { 0 };
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (end == NULL || tm.tm_year < 70) {
        return false;
    }
    double fraction = *end == '.' ? strtod(end, NULL) : 0;
    *ret_ms = (uint64_t)timegm(&tm) * 1000 + (uint64_t)(fraction * 1000);
    return true;
}

static void flat_value(struct flat *flat, const char *name, const char *key, const json_t *value)
{
    uint64_t ms;
    char text[40];
    if (json_is_number(value) && is_new(flat, name)) {
        flat_head(flat, name);
        rb_text_printf(flat->out, "} %s\n", rb_float_text(json_number_value(value), text));
    } else if (json_is_string(value) && is_shown_string(key) && is_new(flat, name)) {
        flat_head(flat, name);
        if (parse_time(json_string_value(value), &ms)) {
            rb_text_printf(flat->out, "} %llu\n", (unsigned long long)ms);
        } else {
            add_label(flat->out, "value", rb_slice_text(json_string_value(value)), false);
            rb_text_puts(flat->out, "} 1\n");
        }
    }
}

/* Objects lie at most three deep in these pages: the recursion is bounded by what we wrote ourselves. */
static void flatten(struct flat *flat, json_t *object, const char *prefix)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        char name[NAME_MAX_BYTES];
        if (!join_name(prefix, key, name) || is_skipped(name)) {
            continue;
        }
        if (json_is_object(value)) {
            flatten(flat, value, name);
        } else {
            flat_value(flat, name, key, value);
        }
    }
}

static void add_page(const struct rb_monitor_view *view, struct rb_text *out, const char *page,
                     enum rb_monitor_doc kind)
{
    struct rb_text text;
    struct rb_json_out json;
    struct rb_doc_options options = { 0 };
    struct rb_doc_error error;
    rb_text_init(&text, 1 << 20);
    rb_json_out_init(&json, &text, 0);
    json_t *parsed = NULL;
    if (rb_doc_build(kind, view, &options, false, &json, &error) && !text.failed) {
        parsed = json_loadb(text.ptr, text.len, 0, NULL);
    }
    struct flat flat = { .view = view, .out = out, .page = page };
    flat.seen = calloc(FAMILIES_MAX, sizeof(*flat.seen));
    if (parsed != NULL && flat.seen != NULL) {
        flatten(&flat, parsed, "");
    } else {
        out->failed = true;
    }
    free(flat.seen);
    json_decref(parsed);
    rb_text_deinit(&text);
}

static void add_server_sample(const struct rb_monitor_view *view, struct rb_text *out,
                              const char *page, const char *name, const char *type, uint64_t value)
{
    rb_text_printf(out, "# HELP gnatsd_%s_%s %s\n# TYPE gnatsd_%s_%s %s\n", page, name, name, page,
                   name, type);
    rb_text_printf(out, "gnatsd_%s_%s{", page, name);
    add_label(out, "server_id", rb_slice_text(view->server_id), true);
    rb_text_printf(out, "} %llu\n", (unsigned long long)value);
}

static void add_connz(const struct rb_monitor_view *view, struct rb_text *out)
{
    const struct rb_snapshot *snapshot = view->snapshot;
    uint64_t count = snapshot == NULL ? 0 : snapshot->conn_count;
    struct rb_conn_snapshot sum = { 0 };
    uint64_t subs = 0;
    for (uint64_t i = 0; i < count; i++) {
        const struct rb_conn_snapshot *conn = &snapshot->conns[i];
        sum.pending_bytes += conn->pending_bytes;
        sum.in_bytes += conn->in_bytes;
        sum.out_bytes += conn->out_bytes;
        sum.in_msgs += conn->in_msgs;
        sum.out_msgs += conn->out_msgs;
        subs += conn->sub_count;
    }
    add_server_sample(view, out, "connz", "num_connections", "gauge", count);
    add_server_sample(view, out, "connz", "total", "gauge", count);
    add_server_sample(view, out, "connz", "offset", "gauge", 0);
    add_server_sample(view, out, "connz", "limit", "gauge", RB_DOC_LIMIT_DEFAULT);
    add_server_sample(view, out, "connz", "pending_bytes", "gauge", sum.pending_bytes);
    add_server_sample(view, out, "connz", "subscriptions", "gauge", subs);
    add_server_sample(view, out, "connz", "in_bytes", "counter", sum.in_bytes);
    add_server_sample(view, out, "connz", "out_bytes", "counter", sum.out_bytes);
    add_server_sample(view, out, "connz", "in_msgs", "counter", sum.in_msgs);
    add_server_sample(view, out, "connz", "out_msgs", "counter", sum.out_msgs);
}

static uint64_t account_value(const struct rb_account_snapshot *sum, size_t which)
{
    const uint64_t values[] = {
        sum->conns,          sum->conns + sum->leafnodes,
        sum->subs,           sum->leafnodes,
        sum->out_msgs,       sum->out_bytes,
        sum->in_msgs,        sum->in_bytes,
        sum->slow_consumers,
    };
    return values[which];
}

static void add_accstatz(const struct rb_monitor_view *view, struct rb_text *out)
{
    static const char *const names[] = { "current_connections", "total_connections",
                                         "subscriptions",       "leaf_nodes",
                                         "sent_messages",       "sent_bytes",
                                         "received_messages",   "received_bytes",
                                         "slow_consumers" };
    const struct rb_policy *policy = view->config->policy;
    struct rb_account_snapshot *sums = rb_doc_account_sums(view);
    if (sums == NULL) {
        out->failed = true;
        return;
    }
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]) && policy->account_count > 0; n++) {
        rb_text_printf(out, "# HELP gnatsd_accstatz_%s %s\n# TYPE gnatsd_accstatz_%s gauge\n",
                       names[n], names[n], names[n]);
        for (uint32_t i = 0; i < policy->account_count && !out->failed; i++) {
            struct rb_slice name = policy->accounts[i].name;
            rb_text_printf(out, "gnatsd_accstatz_%s{", names[n]);
            add_label(out, "server_id", rb_slice_text(view->server_id), true);
            add_label(out, "account", name, false);
            add_label(out, "account_id", name, false);
            add_label(out, "account_name", name, false);
            rb_text_printf(out, "} %llu\n", (unsigned long long)account_value(&sums[i], n));
        }
    }
    free(sums);
}

static void add_healthz(const struct rb_monitor_view *view, struct rb_text *out)
{
    bool ok = rb_doc_health_check(view);
    add_server_sample(view, out, "healthz", "status", "gauge", ok ? 0 : 1);
    rb_text_puts(out, "# HELP gnatsd_healthz_status_value status\n"
                      "# TYPE gnatsd_healthz_status_value gauge\ngnatsd_healthz_status_value{");
    add_label(out, "server_id", rb_slice_text(view->server_id), true);
    add_label(out, "value", rb_slice_text(ok ? "ok" : "error"), false);
    rb_text_printf(out, "} %d\n", ok);
}

static void add_js_server_labels(const struct rb_monitor_view *view, struct rb_text *out)
{
    add_label(out, "server_id", rb_slice_text(view->server_id), true);
    add_label(out, "server_name", rb_slice_text(view->server_name), false);
    rb_text_puts(out, ",cluster=\"\"");
    add_label(out, "domain", rb_slice_text(view->config->jetstream.domain), false);
    rb_text_puts(out, ",meta_leader=\"\",is_meta_leader=\"true\"");
}

static void add_js_server(const struct rb_monitor_view *view, struct rb_text *out)
{
    const struct rb_monitor_jetstream *js = &view->jetstream;
    const struct {
        const char *name, *help;
        uint64_t value;
    } samples[] = {
        { "jetstream_disabled", "JetStream disabled or not", !js->enabled },
        { "total_streams", "Total number of streams in JetStream", js->streams },
        { "total_consumers", "Total number of consumers in JetStream", js->consumers },
        { "total_messages", "Total number of stored messages in JetStream", js->messages },
        { "total_message_bytes", "Total number of bytes stored in JetStream",
          js->memory + js->storage },
        { "max_memory", "JetStream Max Memory", js->enabled ? (uint64_t)js->max_memory : 0 },
        { "max_storage", "JetStream Max Storage", js->enabled ? (uint64_t)js->max_storage : 0 },
    };
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        const char *name = samples[i].name;
        rb_text_printf(out, "# HELP jetstream_server_%s %s\n# TYPE jetstream_server_%s gauge\n",
                       name, samples[i].help, name);
        rb_text_printf(out, "jetstream_server_%s{", name);
        add_js_server_labels(view, out);
        rb_text_printf(out, "} %llu\n", (unsigned long long)samples[i].value);
    }
}

struct js_family {
    const char *name, *help;
    size_t offset; /* of a uint64_t in the snapshot's struct */
};

static void add_js_stream_labels(const struct rb_monitor_view *view,
                                 const struct rb_js_account_snapshot *account,
                                 const struct rb_stream_snapshot *stream, struct rb_text *out)
{
    add_js_server_labels(view, out);
    add_label(out, "account", account->name, false);
    add_label(out, "account_id", account->name, false);
    add_label(out, "stream_name", stream->name, false);
    add_label(out, "stream_leader", rb_slice_text(view->server_name), false);
    rb_text_puts(out, ",is_stream_leader=\"true\"");
}

static void add_js_consumer_labels(const struct rb_consumer_snapshot *consumer, struct rb_text *out)
{
    char text[32] = "";
    time_t seconds = (time_t)(consumer->created_ns / 1000000000);
    struct tm utc;
    if (gmtime_r(&seconds, &utc) != NULL) {
        (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    add_label(out, "consumer_name", consumer->name, false);
    rb_text_puts(out, ",consumer_leader=\"\",is_consumer_leader=\"true\"");
    add_label(out, "consumer_desc", consumer->description, false);
    add_label(out, "consumer_created", rb_slice_text(text), false);
}

static uint64_t field_of(const void *base, size_t offset)
{
    uint64_t value;
    memcpy(&value, (const char *)base + offset, sizeof(value));
    return value;
}

static void add_js_consumers(const struct rb_monitor_view *view,
                             const struct rb_js_account_snapshot *account,
                             const struct rb_stream_snapshot *stream,
                             const struct js_family *family, struct rb_text *out)
{
    for (uint32_t i = 0; i < stream->listed_count && !out->failed; i++) {
        const struct rb_consumer_snapshot *consumer = &stream->consumers[i];
        if (consumer->direct) {
            continue;
        }
        rb_text_printf(out, "jetstream_consumer_%s{", family->name);
        add_js_stream_labels(view, account, stream, out);
        add_js_consumer_labels(consumer, out);
        rb_text_printf(out, "} %llu\n", (unsigned long long)field_of(consumer, family->offset));
    }
}

/* Of every stream, or of every consumer. */
static void add_js_family(const struct rb_monitor_view *view, const struct js_family *family,
                          bool consumers, struct rb_text *out)
{
    const struct rb_snapshot *snapshot = view->snapshot;
    const char *kind = consumers ? "consumer" : "stream";
    rb_text_printf(out, "# HELP jetstream_%s_%s %s\n# TYPE jetstream_%s_%s gauge\n", kind,
                   family->name, family->help, kind, family->name);
    for (uint32_t a = 0; a < snapshot->js_account_count; a++) {
        const struct rb_js_account_snapshot *account = &snapshot->js_accounts[a];
        for (uint32_t s = 0; s < account->listed_count && !out->failed; s++) {
            const struct rb_stream_snapshot *stream = &account->streams[s];
            if (consumers) {
                add_js_consumers(view, account, stream, family, out);
                continue;
            }
            rb_text_printf(out, "jetstream_stream_%s{", family->name);
            add_js_stream_labels(view, account, stream, out);
            rb_text_printf(out, "} %llu\n", (unsigned long long)field_of(stream, family->offset));
        }
    }
}

static void add_jsz(const struct rb_monitor_view *view, struct rb_text *out)
{
    static const struct js_family streams[] = {
        { "total_messages", "Total number of messages from a stream",
          offsetof(struct rb_stream_snapshot, messages) },
        { "total_bytes", "Total stored bytes from a stream",
          offsetof(struct rb_stream_snapshot, bytes) },
        { "first_seq", "First sequence from a stream",
          offsetof(struct rb_stream_snapshot, first_seq) },
        { "last_seq", "Last sequence from a stream",
          offsetof(struct rb_stream_snapshot, last_seq) },
        { "consumer_count", "Total number of consumers from a stream",
          offsetof(struct rb_stream_snapshot, consumer_count) },
    };
    static const struct js_family consumers[] = {
        { "delivered_consumer_seq", "Latest sequence number of a stream consumer",
          offsetof(struct rb_consumer_snapshot, delivered_consumer_seq) },
        { "delivered_stream_seq", "Latest sequence number of a stream",
          offsetof(struct rb_consumer_snapshot, delivered_stream_seq) },
        { "num_ack_pending", "Number of pending acks from a consumer",
          offsetof(struct rb_consumer_snapshot, ack_pending) },
        { "num_redelivered", "Number of redelivered messages from a consumer",
          offsetof(struct rb_consumer_snapshot, redelivered) },
        { "num_waiting", "Number of inflight fetch requests from a pull consumer",
          offsetof(struct rb_consumer_snapshot, waiting) },
        { "num_pending", "Number of pending messages from a consumer",
          offsetof(struct rb_consumer_snapshot, pending) },
        { "ack_floor_stream_seq", "Number of ack floor stream seq from a consumer",
          offsetof(struct rb_consumer_snapshot, floor_stream_seq) },
        { "ack_floor_consumer_seq", "Number of ack floor consumer seq from a consumer",
          offsetof(struct rb_consumer_snapshot, floor_consumer_seq) },
    };
    add_js_server(view, out);
    bool any_stream = false, any_consumer = false;
    for (uint32_t a = 0; view->snapshot != NULL && a < view->snapshot->js_account_count; a++) {
        const struct rb_js_account_snapshot *account = &view->snapshot->js_accounts[a];
        any_stream |= account->listed_count > 0;
        for (uint32_t s = 0; s < account->listed_count; s++) {
            any_consumer |= account->streams[s].listed_count > 0;
        }
    }
    for (size_t i = 0; any_stream && i < sizeof(streams) / sizeof(streams[0]); i++) {
        add_js_family(view, &streams[i], false, out);
    }
    for (size_t i = 0; any_consumer && i < sizeof(consumers) / sizeof(consumers[0]); i++) {
        add_js_family(view, &consumers[i], true, out);
    }
}

/* 2. Our own */

struct shard_family {
    const char *name, *type, *unit, *help;
    size_t offset; /* of a uint64_t in struct rb_monitor_shard */
};
#define OF(field) offsetof(struct rb_monitor_shard, field)

static const struct shard_family shard_families[] = {
    { "ringbus_connections", "gauge", NULL, "Open client connections.", OF(conns) },
    { "ringbus_connections_accepted_total", "counter", NULL, "Client connections accepted.",
      OF(conns_total) },
    { "ringbus_subscriptions", "gauge", NULL, "Subscriptions of clients.", OF(subs) },
    { "ringbus_received_messages_total", "counter", NULL, "Messages received from clients.",
      OF(in_msgs) },
    { "ringbus_received_bytes_total", "counter", "bytes",
      "Bytes of headers and payload received from clients.", OF(in_bytes) },
    { "ringbus_sent_messages_total", "counter", NULL, "Messages sent to clients.", OF(out_msgs) },
    { "ringbus_sent_bytes_total", "counter", "bytes",
      "Bytes of headers and payload sent to clients.", OF(out_bytes) },
    { "ringbus_slow_consumers_total", "counter", NULL,
      "Connections closed because they did not take their messages.", OF(slow_consumers) },
    { "ringbus_stale_connections_total", "counter", NULL,
      "Connections closed because they did not answer PING.", OF(stale_conns) },
    { "ringbus_queue_dropped_messages_total", "counter", NULL,
      "Messages that no member of their queue group could take.", OF(queue_dropped) },
    { "ringbus_mail_dropped_messages_total", "counter", NULL,
      "Messages dropped between shards because memory was refused.", OF(mail_dropped) },
    { "ringbus_mapping_dropped_messages_total", "counter", NULL,
      "Messages dropped by the remainder of a subject mapping.", OF(mapping_dropped) },
    { "ringbus_responses_dropped_total", "counter", NULL,
      "Answers to service imports that nobody awaited any more.", OF(responses_dropped) },
    { "ringbus_auth_failures_total", "counter", NULL, "Connections refused by authentication.",
      OF(auth_failed) },
    { "ringbus_tls_failures_total", "counter", NULL, "TLS handshakes that failed.",
      OF(tls_failed) },
    { "ringbus_memory_used_bytes", "gauge", "bytes", "Bytes counted against the memory budget.",
      OF(memory_used_bytes) },
    { "ringbus_memory_limit_bytes", "gauge", "bytes", "Memory budget; 0: no limit.",
      OF(memory_limit_bytes) },
};

static const struct shard_family jetstream_families[] = {
    { "ringbus_jetstream_published_messages_total", "counter", NULL,
      "Messages taken by streams, acknowledged or not.", OF(js_publishes) },
    { "ringbus_jetstream_refused_messages_total", "counter", NULL, "Messages that streams refused.",
      OF(js_refused) },
    { "ringbus_jetstream_delivered_messages_total", "counter", NULL,
      "Messages that consumers delivered.", OF(js_delivered) },
    { "ringbus_jetstream_redelivered_messages_total", "counter", NULL,
      "Messages that consumers delivered again.", OF(js_redelivered) },
    { "ringbus_jetstream_acks_total", "counter", NULL, "Acknowledgements that consumers took.",
      OF(js_consumer_acks) },
    { "ringbus_jetstream_log_batches_total", "counter", NULL,
      "Writes of the log; records by batches is the size of a batch.", OF(log_batches) },
    { "ringbus_jetstream_log_records_total", "counter", NULL, "Records written to the log.",
      OF(log_records) },
    { "ringbus_jetstream_log_bytes_total", "counter", "bytes",
      "Bytes written to the log, with their padding.", OF(log_bytes) },
    { "ringbus_jetstream_log_carried_total", "counter", NULL,
      "States written again so that a file of the log could be reused.", OF(log_carried) },
    { "ringbus_jetstream_log_files", "gauge", NULL, "Files of the log.", OF(log_files) },
};

static void add_shard_family(const struct rb_monitor_view *view, struct rb_text *out,
                             const struct shard_family *family)
{
    add_family(out, family->name, family->type, family->unit, family->help);
    for (uint32_t i = 0; i < view->shard_count; i++) {
        uint64_t value;
        memcpy(&value, (const char *)&view->shards[i] + family->offset, sizeof(value));
        rb_text_printf(out, "%s{shard=\"%u\"} %llu\n", family->name, i, (unsigned long long)value);
    }
}

struct histogram_family {
    const char *name, *unit, *help;
    double scale;               /* of a value in the metric's unit */
    uint32_t low_bit, high_bit; /* buckets end below powers of two from 2^low to 2^high */
    size_t offset;
};

static const struct histogram_family histogram_families[] = {
    { "ringbus_loop_seconds", "seconds", "Work of one turn of a shard, waiting not counted.", 1e-9,
      10, 33, OF(turn_ns) },
    { "ringbus_delivery_seconds", "seconds",
      "From the turn that parsed a message to the one that queued it for a receiver.", 1e-9, 10, 33,
      OF(delivery_ns) },
    { "ringbus_pending_bytes", "bytes", "Bytes waiting for a connection when a send begins.", 1, 4,
      30, OF(pending_bytes) },
    { "ringbus_jetstream_commit_seconds", "seconds",
      "From the turn that took a command of a stream until it was durable.", 1e-9, 12, 35,
      OF(js_commit_ns) },
};

/* Buckets only grow while we read, so each total holds what was summed before it. */
static void add_histogram(struct rb_text *out, const struct histogram_family *family,
                          uint32_t shard, const struct rb_histogram *histogram)
{
    char text[40];
    uint64_t total = 0, sum = rb_counter_get(&histogram->sum);
    uint32_t index = 0;
    for (uint32_t bit = family->low_bit; bit <= family->high_bit; bit++) {
        uint64_t bound = (UINT64_C(1) << bit) - 1;
        while (index < RB_HISTOGRAM_BUCKETS && rb_histogram_bound(index) <= bound) {
            total += rb_counter_get(&histogram->bucket[index++]);
        }
        (void)snprintf(text, sizeof(text), "%.9g", (double)bound * family->scale);
        rb_text_printf(out, "%s_bucket{shard=\"%u\",le=\"%s\"} %llu\n", family->name, shard, text,
                       (unsigned long long)total);
    }
    while (index < RB_HISTOGRAM_BUCKETS) {
        total += rb_counter_get(&histogram->bucket[index++]);
    }
    rb_text_printf(out, "%s_bucket{shard=\"%u\",le=\"+Inf\"} %llu\n", family->name, shard,
                   (unsigned long long)total);
    rb_text_printf(out, "%s_sum{shard=\"%u\"} %s\n", family->name, shard,
                   rb_float_text((double)sum * family->scale, text));
    rb_text_printf(out, "%s_count{shard=\"%u\"} %llu\n", family->name, shard,
                   (unsigned long long)total);
}

static void add_histograms(const struct rb_monitor_view *view, struct rb_text *out)
{
    for (size_t f = 0; f < sizeof(histogram_families) / sizeof(histogram_families[0]); f++) {
        const struct histogram_family *family = &histogram_families[f];
        bool begun = false;
        for (uint32_t i = 0; i < view->shard_count; i++) {
            const struct rb_histogram *histogram;
            memcpy(&histogram, (const char *)&view->shards[i] + family->offset, sizeof(histogram));
            if (histogram == NULL) {
                continue;
            }
            if (!begun) {
                add_family(out, family->name, "histogram", family->unit, family->help);
                begun = true;
            }
            add_histogram(out, family, i, histogram);
        }
    }
}

static void add_process(const struct rb_monitor_view *view, struct rb_text *out)
{
    char text[40];
    add_family(out, "ringbus_build_info", "gauge", NULL, "Versions; the value is 1.");
    rb_text_puts(out, "ringbus_build_info{");
    add_label(out, "version", rb_slice_text(view->ringbus_version), true);
    add_label(out, "nats_version", rb_slice_text(view->version), false);
    add_label(out, "server_id", rb_slice_text(view->server_id), false);
    add_label(out, "server_name", rb_slice_text(view->server_name), false);
    rb_text_puts(out, "} 1\n");
    add_family(out, "ringbus_start_time_seconds", "gauge", "seconds",
               "When the server started, since 1970.");
    rb_text_printf(out, "ringbus_start_time_seconds %s\n",
                   rb_float_text((double)(view->start_wall_ns / 1000000) / 1000, text));
    add_family(out, "ringbus_resident_memory_bytes", "gauge", "bytes",
               "Resident memory of the process.");
    rb_text_printf(out, "ringbus_resident_memory_bytes %llu\n",
                   (unsigned long long)view->rss_bytes);
    add_family(out, "ringbus_cpu_ratio", "gauge", "ratio",
               "CPU use of the process since the reading before; 1 is one core.");
    rb_text_printf(out, "ringbus_cpu_ratio %s\n", rb_float_text(view->cpu_percent / 100, text));
    if (view->http_requests != NULL) {
        add_family(out, "ringbus_monitor_requests_total", "counter", NULL,
                   "Requests of monitoring pages.");
        for (uint32_t i = 0; i < RB_PAGE_COUNTED; i++) {
            rb_text_printf(out, "ringbus_monitor_requests_total{path=\"%s\"} %llu\n",
                           rb_page_path((enum rb_page)i),
                           (unsigned long long)view->http_requests[i]);
        }
    }
}

void rb_page_metrics(const struct rb_monitor_view *view, struct rb_text *out)
{
    add_page(view, out, "varz", RB_DOC_VARZ);
    add_page(view, out, "subsz", RB_DOC_SUBSZ);
    add_page(view, out, "routez", RB_DOC_ROUTEZ);
    add_connz(view, out);
    add_accstatz(view, out);
    add_server_sample(view, out, "leafz", "conn_nodes_total", "gauge", 0);
    add_healthz(view, out);
    add_jsz(view, out);
    for (size_t i = 0; i < sizeof(shard_families) / sizeof(shard_families[0]); i++) {
        add_shard_family(view, out, &shard_families[i]);
    }
    for (size_t i = 0;
         view->jetstream.enabled && i < sizeof(jetstream_families) / sizeof(jetstream_families[0]);
         i++) {
        add_shard_family(view, out, &jetstream_families[i]);
    }
    add_histograms(view, out);
    add_process(view, out);
}
