/* events_docs.c - what the system account is told. Built only when somebody listens, so clarity comes before speed. */
#include "server/events_docs.h"

#include "base/nuid.h"
#include "core/perms.h"
#include "server/docs.h"
#include "server/jetstream.h"
#include "server/node.h"

#define TYPE_CONNECT "io.nats.server.advisory.v1.client_connect"
#define TYPE_DISCONNECT "io.nats.server.advisory.v1.client_disconnect"
#define FLAG_JETSTREAM 1 /* of nats-server's flags of what a server can do */
#define TYPE_CONNECTIONS "io.nats.server.advisory.v1.account_connections"

static uint64_t wall(const struct rb_env *env)
{
    return env->wall_ns(env->ctx);
}

/* The server */

static void set_tags(struct rb_json_out *json, const struct rb_config_lists *lists)
{
    if (lists->tag_count > 0) {
        rb_json_out_key(json, "tags");
        rb_json_out_array(json);
        for (uint32_t i = 0; i < lists->tag_count; i++) {
            rb_json_out_string(json, rb_slice_text(lists->tags[i]));
        }
        rb_json_out_array_end(json);
    }
    if (lists->metadata_count > 0) {
        rb_json_out_key(json, "metadata");
        rb_json_out_object(json);
        for (uint32_t i = 0; i < lists->metadata_count; i++) {
            rb_json_out_set_text(json, lists->metadata[i].key, lists->metadata[i].value);
        }
        rb_json_out_object_end(json);
    }
}

/* nats-server's switches between its own versions; none of them is ours. */
static void set_features(struct rb_json_out *json)
{
    static const char *const names[] = { "js_ack_fc_v2", "js_api_reply_v2", "js_raft_delete_range",
                                         "js_snapshot_sources" };
    rb_json_out_key(json, "feature_flags");
    rb_json_out_object(json);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        rb_json_out_set_bool(json, names[i], false);
    }
    rb_json_out_object_end(json);
}

void rb_event_server(struct rb_json_out *json, const struct rb_event_origin *origin,
                     uint64_t wall_ns)
{
    bool jetstream = origin->shared->jetstream != NULL;
    rb_json_out_object(json);
    rb_json_out_set_text(json, "name", origin->shared->server_name);
    rb_json_out_set_string(json, "host", origin->settings->options.info.host);
    rb_json_out_set_text(json, "id", origin->shared->server_id);
    rb_json_out_set_text(json, "ver", RB_NATS_VERSION);
    set_tags(json, origin->settings->lists);
    set_features(json);
    rb_json_out_set_bool(json, "jetstream", jetstream);
    rb_json_out_set_uint(json, "flags", jetstream ? FLAG_JETSTREAM : 0);
    rb_json_out_set_uint(json, "seq", atomic_fetch_add(&origin->shared->event_seq, 1) + 1);
    rb_json_out_set_time(json, "time", wall_ns, false);
    rb_json_out_object_end(json);
}

static void set_server(struct rb_json_out *json, const struct rb_event_origin *origin,
                       uint64_t wall_ns)
{
    rb_json_out_key(json, "server");
    rb_event_server(json, origin, wall_ns);
}

void rb_event_id(struct rb_text *out, const struct rb_event_origin *origin)
{
    struct rb_json_out json;
    rb_json_out_init(&json, out, 0);
    rb_json_out_object(&json);
    rb_json_out_set_text(&json, "name", origin->shared->server_name);
    rb_json_out_set_string(&json, "host", origin->settings->options.info.host);
    rb_json_out_set_text(&json, "id", origin->shared->server_id);
    rb_json_out_object_end(&json);
}

void rb_event_bye(struct rb_text *out, const struct rb_event_origin *origin, uint64_t wall_ns)
{
    struct rb_json_out json;
    rb_json_out_init(&json, out, 0);
    rb_event_server(&json, origin, wall_ns);
}

void rb_event_error(struct rb_text *out, const struct rb_event_origin *origin, uint64_t wall_ns,
                    int code, const char *description, bool null_data)
{
    struct rb_json_out json;
    rb_json_out_init(&json, out, 0);
    rb_json_out_object(&json);
    set_server(&json, origin, wall_ns);
    if (null_data) {
        rb_json_out_key(&json, "data");
        rb_json_out_null(&json);
    }
    rb_json_out_key(&json, "error");
    rb_json_out_object(&json);
    rb_json_out_set_int(&json, "code", code);
    rb_json_out_opt_text(&json, "description", description);
    rb_json_out_object_end(&json);
    rb_json_out_object_end(&json);
}

/* Advisories */

/* Everything up to and with "server"; the object stays open. */
static uint64_t begin_event(struct rb_json_out *json, struct rb_text *out, const char *type,
                            const struct rb_event_origin *origin, struct rb_env *env)
{
    char id[RB_NUID_LEN];
    uint64_t now_ns = wall(env);
    rb_nuid(env, id);
    rb_json_out_init(json, out, 0);
    rb_json_out_object(json);
    rb_json_out_set_text(json, "type", type);
    rb_json_out_set_string(json, "id", rb_slice_of(id, sizeof(id)));
    rb_json_out_set_time(json, "timestamp", now_ns, false);
    set_server(json, origin, now_ns);
    return now_ns;
}

/* `stop_ns` 0: the connection lives. */
static void set_client(struct rb_json_out *json, const struct rb_conn *conn, uint64_t stop_ns)
{
    const struct rb_conn_about *about = conn->about;
    char ip[RB_ADDR_TEXT_MAX];
    rb_json_out_key(json, "client");
    rb_json_out_object(json);
    rb_json_out_set_time(json, "start", conn->start_wall_ns, false);
    if (conn->peer.family != 0) {
        rb_json_out_set_text(json, "host", rb_addr_format_ip(&conn->peer, ip));
    }
    rb_json_out_set_uint(json, "id", conn->cid);
    rb_json_out_opt_string(json, "acc", conn->account->name);
    rb_json_out_opt_string(json, "user",
                           conn->identity_kind == RB_IDENTITY_TOKEN ? RB_S("[REDACTED]")
                                                                    : conn->identity);
    if (about != NULL) {
        rb_json_out_opt_string(json, "name", about->name);
        rb_json_out_opt_string(json, "lang", about->lang);
        rb_json_out_opt_string(json, "ver", about->version);
    }
    if (stop_ns != 0) {
        rb_json_out_opt_uint(json, "rtt", conn->rtt_ns);
        rb_json_out_set_time(json, "stop", stop_ns, false);
    }
    rb_json_out_opt_string(json, "name_tag", conn->account->name);
    rb_json_out_set_text(json, "kind", "Client");
    rb_json_out_set_text(json, "client_type",
                         conn->type == RB_TYPE_WEBSOCKET ? "websocket" : "nats");
    rb_json_out_object_end(json);
}

static void set_traffic(struct rb_json_out *json, const char *key, uint64_t msgs, uint64_t bytes,
                        bool links)
{
    static const char *const names[] = { "gateways", "routes", "leafs" };
    rb_json_out_key(json, key);
    rb_json_out_object(json);
    rb_json_out_set_uint(json, "msgs", msgs);
    rb_json_out_set_uint(json, "bytes", bytes);
    for (size_t i = 0; links && i < sizeof(names) / sizeof(names[0]); i++) {
        set_traffic(json, names[i], 0, 0, false);
    }
    rb_json_out_object_end(json);
}

void rb_event_connect(struct rb_text *out, const struct rb_event_origin *origin,
                      const struct rb_conn *conn)
{
    struct rb_json_out json;
    (void)begin_event(&json, out, TYPE_CONNECT, origin, conn->core->env);
    set_client(&json, conn, 0);
    rb_json_out_object_end(&json);
}

void rb_event_disconnect(struct rb_text *out, const struct rb_event_origin *origin,
                         const struct rb_conn *conn, const char *reason)
{
    struct rb_json_out json;
    uint64_t now_ns = begin_event(&json, out, TYPE_DISCONNECT, origin, conn->core->env);
    set_client(&json, conn, now_ns);
    set_traffic(&json, "sent", conn->in_msgs, conn->in_bytes, false);
    set_traffic(&json, "received", conn->out_msgs, conn->out_bytes, false);
    rb_json_out_set_text(&json, "reason", reason);
    rb_json_out_object_end(&json);
}

void rb_event_account(struct rb_text *out, const struct rb_event_origin *origin, struct rb_env *env,
                      struct rb_slice name, const struct rb_account_shared *account)
{
    struct rb_json_out json;
    struct rb_account_sum sum;
    int64_t conns = atomic_load(&account->conns), leafs = atomic_load(&account->leafnodes);
    rb_account_sum(account, &sum);
    (void)begin_event(&json, out, TYPE_CONNECTIONS, origin, env);
    rb_json_out_set_string(&json, "acc", name);
    rb_json_out_set_string(&json, "name", name);
    rb_json_out_set_int(&json, "conns", conns);
    rb_json_out_set_int(&json, "leafnodes", leafs);
    rb_json_out_set_int(&json, "total_conns", conns + leafs);
    rb_json_out_set_uint(&json, "num_subscriptions", sum.subs);
    set_traffic(&json, "sent", sum.out_msgs, sum.out_bytes, true);
    set_traffic(&json, "received", sum.in_msgs, sum.in_bytes, true);
    rb_json_out_set_uint(&json, "slow_consumers", sum.slow_consumers);
    rb_json_out_object_end(&json);
}

/* STATSZ */

struct totals {
    uint64_t conns, conns_total, subs, in_msgs, in_bytes, out_msgs, out_bytes, slow, stale;
    uint32_t active_accounts;
};

static void add_up(const struct rb_event_origin *origin, const struct rb_core *core,
                   struct totals *sum)
{
    *sum = (struct totals){ 0 };
    for (uint32_t i = 0; i < origin->shared->shard_count; i++) {
        const struct rb_core_stats *stats = atomic_load(&origin->shared->stats[i]);
        if (stats == NULL) {
            continue;
        }
        sum->conns += rb_counter_get(&stats->conns);
        sum->conns_total += rb_counter_get(&stats->conns_total);
        sum->in_msgs += rb_counter_get(&stats->in_msgs);
        sum->in_bytes += rb_counter_get(&stats->in_bytes);
        sum->out_msgs += rb_counter_get(&stats->out_msgs);
        sum->out_bytes += rb_counter_get(&stats->out_bytes);
        sum->slow += rb_counter_get(&stats->slow_consumers);
        sum->stale += rb_counter_get(&stats->stale_conns);
    }
    for (uint32_t id = 0; id < core->account_cap; id++) {
        if (core->accounts[id] != NULL && core->accounts[id]->policy != NULL) {
            struct rb_account_sum account;
            rb_account_sum(core->accounts[id]->shared, &account);
            sum->subs += account.subs;
            sum->active_accounts += atomic_load(&core->accounts[id]->shared->conns) > 0;
        }
    }
}

/* As in /varz. */
static void set_jetstream(struct rb_json_out *json, const struct rb_event_origin *origin)
{
    struct rb_monitor_jetstream js;
    if (origin->shared->jetstream == NULL) {
        return;
    }
    const struct rb_config *config = rb_node_config_hold(origin->shared->node, NULL);
    rb_jetstream_view(origin->shared->jetstream, config->policy, &js);
    rb_json_out_key(json, "jetstream");
    rb_json_out_object(json);
    rb_doc_js_config(&js, &config->jetstream, json);
    rb_json_out_key(json, "stats");
    rb_json_out_object(json);
    rb_doc_js_stats(&js, json);
    rb_json_out_object_end(json);
    rb_doc_js_limits(&config->jetstream, json);
    rb_json_out_object_end(json);
    rb_node_config_release(config);
}

void rb_event_statsz(struct rb_text *out, const struct rb_event_origin *origin,
                     struct rb_core *core, const struct rb_process_usage *usage)
{
    struct totals sum;
    struct rb_json_out json;
    add_up(origin, core, &sum);
    rb_json_out_init(&json, out, 0);
    rb_json_out_object(&json);
    set_server(&json, origin, wall(core->env));
    rb_json_out_key(&json, "statsz");
    rb_json_out_object(&json);
    rb_json_out_set_time(&json, "start", origin->shared->start_wall_ns, false);
    rb_json_out_set_uint(&json, "mem", usage->rss_bytes);
    rb_json_out_set_uint(&json, "cores", origin->shared->core_count);
    rb_json_out_set_float(&json, "cpu", usage->cpu_percent);
    rb_json_out_set_uint(&json, "connections", sum.conns);
    rb_json_out_set_uint(&json, "total_connections", sum.conns_total);
    rb_json_out_set_uint(&json, "active_accounts", sum.active_accounts);
    rb_json_out_set_uint(&json, "subscriptions", sum.subs);
    set_traffic(&json, "sent", sum.out_msgs, sum.out_bytes, false);
    set_traffic(&json, "sent_to_clients", sum.out_msgs, sum.out_bytes, false);
    set_traffic(&json, "received", sum.in_msgs, sum.in_bytes, false);
    set_traffic(&json, "received_from_clients", sum.in_msgs, sum.in_bytes, false);
    rb_json_out_set_uint(&json, "slow_consumers", sum.slow);
    if (sum.slow > 0) {
        rb_doc_by_kind(&json, "slow_consumer_stats", sum.slow);
    }
    rb_json_out_opt_uint(&json, "stale_connections", sum.stale);
    if (sum.stale > 0) {
        rb_doc_by_kind(&json, "stale_connection_stats", sum.stale);
    }
    rb_json_out_set_uint(&json, "active_servers", 1);
    set_jetstream(&json, origin);
    rb_json_out_set_uint(&json, "gomaxprocs", origin->shared->shard_count);
    rb_json_out_object_end(&json);
    rb_json_out_object_end(&json);
}

/* USER.INFO */

static void opt_list(struct rb_json_out *json, const char *key, const struct rb_perm_list *list)
{
    if (!list->set || list->count == 0) {
        return;
    }
    rb_json_out_key(json, key);
    rb_json_out_array(json);
    for (uint32_t i = 0; i < list->count; i++) {
        const struct rb_perm_entry *entry = &list->entries[i];
        char text[2 * RB_CONTROL_LINE_DEFAULT];
        struct rb_writer writer = rb_writer_over(text, sizeof(text));
        rb_write_slice(&writer, entry->subject);
        if (entry->queue.len > 0) {
            rb_write_u8(&writer, ' ');
            rb_write_slice(&writer, entry->queue);
        }
        rb_json_out_string(json,
                           writer.ok ? rb_slice_of(text, rb_writer_len(&writer)) : entry->subject);
    }
    rb_json_out_array_end(json);
}

static void set_lists(struct rb_json_out *json, const char *key, const struct rb_perm_list *allow,
                      const struct rb_perm_list *deny)
{
    rb_json_out_key(json, key);
    rb_json_out_object(json);
    opt_list(json, "allow", allow);
    opt_list(json, "deny", deny);
    rb_json_out_object_end(json);
}

static void set_permissions(struct rb_json_out *json, const struct rb_permissions *permissions)
{
    rb_json_out_key(json, "permissions");
    rb_json_out_object(json);
    set_lists(json, "publish", &permissions->publish_allow, &permissions->publish_deny);
    set_lists(json, "subscribe", &permissions->subscribe_allow, &permissions->subscribe_deny);
    if (permissions->responses) {
        rb_json_out_key(json, "responses");
        rb_json_out_object(json);
        rb_json_out_set_int(json, "max", permissions->responses_max);
        rb_json_out_set_int(json, "ttl", permissions->responses_ttl_ns);
        rb_json_out_object_end(json);
    }
    rb_json_out_object_end(json);
}

void rb_event_user(struct rb_text *out, const struct rb_event_origin *origin, struct rb_env *env,
                   const struct rb_conn *conn)
{
    struct rb_json_out json;
    struct rb_slice nothing = { NULL, 0 };
    rb_json_out_init(&json, out, 0);
    rb_json_out_object(&json);
    set_server(&json, origin, wall(env));
    rb_json_out_key(&json, "data");
    rb_json_out_object(&json);
    rb_json_out_set_string(&json, "user",
                           conn == NULL                               ? nothing
                           : conn->identity_kind == RB_IDENTITY_TOKEN ? RB_S("[REDACTED]")
                                                                      : conn->identity);
    rb_json_out_set_string(&json, "account", conn == NULL ? nothing : conn->account->name);
    rb_json_out_opt_string(&json, "account_name", conn == NULL ? nothing : conn->account->name);
    if (conn != NULL && conn->perms != NULL) {
        set_permissions(&json, rb_perms_source(conn->perms));
    }
    rb_json_out_object_end(&json);
    rb_json_out_object_end(&json);
}

/* Message traces: their parts are JSON already (core/trace.c). */

void rb_event_trace(struct rb_text *out, const struct rb_event_origin *origin, uint64_t wall_ns,
                    const struct rb_trace_document *trace)
{
    struct rb_json_out json;
    rb_text_puts(out, "{\"server\":");
    rb_json_out_init(&json, out, 0);
    rb_event_server(&json, origin, wall_ns);
    rb_text_puts(out, ",\"request\":");
    rb_text_slice(out, trace->request);
    rb_text_puts(out, ",\"events\":[");
    rb_text_slice(out, trace->ingress);
    if (trace->error.len > 0) {
        rb_text_puts(out, ",\"error\":");
        rb_text_slice(out, trace->error);
    }
    rb_text_puts(out, trace->events.len > 0 ? "}," : "}");
    rb_text_slice(out, trace->events);
    rb_text_puts(out, "]}");
}
