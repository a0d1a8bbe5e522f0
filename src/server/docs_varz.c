/* docs_varz.c - /varz: the server as a whole. */
#include "server/docs.h"

#define NS_PER_S 1e9

static const char *const page_paths[RB_PAGE_COUNT] = {
    [RB_PAGE_ROOT] = "/",
    [RB_PAGE_ACCOUNTZ] = "/accountz",
    [RB_PAGE_ACCSTATZ] = "/accstatz",
    [RB_PAGE_CONNZ] = "/connz",
    [RB_PAGE_DASHBOARD] = "/dashboard",
    [RB_PAGE_GATEWAYZ] = "/gatewayz",
    [RB_PAGE_HEALTHZ] = "/healthz",
    [RB_PAGE_JSZ] = "/jsz",
    [RB_PAGE_LEAFZ] = "/leafz",
    [RB_PAGE_METRICS] = "/metrics",
    [RB_PAGE_ROUTEZ] = "/routez",
    [RB_PAGE_SUBSZ] = "/subsz",
    [RB_PAGE_VARZ] = "/varz",
    [RB_PAGE_DASHBOARDZ] = "/dashboardz",
    [RB_PAGE_DEBUG_VARS] = "/debug/vars",
    [RB_PAGE_IPQUEUESZ] = "/ipqueuesz",
    [RB_PAGE_RAFTZ] = "/raftz",
    [RB_PAGE_STACKSZ] = "/stacksz",
};

const char *rb_page_path(enum rb_page page)
{
    return page_paths[page];
}

static const char *host_of(const struct rb_config *config)
{
    return config->host[0] == '\0' ? "0.0.0.0" : config->host;
}

static void set_identity(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    const struct rb_config *config = view->config;
    const struct rb_tls_config *tls = &config->lists->tls;
    rb_json_out_set_text(json, "server_id", view->server_id);
    rb_json_out_set_text(json, "server_name", view->server_name);
    rb_json_out_set_text(json, "version", view->version);
    rb_json_out_set_int(json, "proto", 1);
    rb_json_out_set_text(json, "go", view->runtime);
    rb_json_out_set_text(json, "host", view->host != NULL ? view->host : host_of(config));
    rb_json_out_set_uint(json, "port", view->port);
    rb_json_out_opt_bool(json, "auth_required", rb_policy_auth_required(config->policy, false));
    rb_json_out_opt_bool(json, "tls_required", tls->set && !config->allow_non_tls);
    rb_json_out_opt_bool(json, "tls_verify", tls->set && tls->verify);
    rb_json_out_set_int(json, "max_connections", config->max_connections);
    rb_json_out_opt_uint(json, "max_subscriptions", config->max_subscriptions);
    rb_json_out_set_uint(json, "ping_interval", config->ping_interval_ns);
    rb_json_out_set_uint(json, "ping_max", config->ping_max);
    rb_json_out_set_text(json, "http_host", "127.0.0.1"); /* whatever was asked for: what is true */
    rb_json_out_set_int(json, "http_port", config->http_port);
    rb_json_out_set_text(json, "http_base_path",
                         strcmp(config->http_base_path, "/") == 0 ? "" : config->http_base_path);
    rb_json_out_set_int(json, "https_port", config->https_port);
    rb_json_out_set_float(json, "auth_timeout", (double)config->auth_timeout_ns / NS_PER_S);
    rb_json_out_set_uint(json, "max_control_line", config->max_control_line);
    rb_json_out_set_uint(json, "max_payload", config->max_payload);
    rb_json_out_set_uint(json, "max_pending", config->max_pending_bytes);
}

static void set_empty(struct rb_json_out *json, const char *key)
{
    rb_json_out_key(json, key);
    rb_json_out_object(json);
    rb_json_out_object_end(json);
}

static void set_seconds_time(struct rb_json_out *json, const char *key, int64_t seconds)
{
    if (seconds > 0) {
        rb_json_out_set_time(json, key, (uint64_t)seconds * UINT64_C(1000000000), false);
    }
}

static void set_texts(struct rb_json_out *json, const char *key, const char *const *texts,
                      uint32_t count)
{
    if (count == 0) {
        return;
    }
    rb_json_out_key(json, key);
    rb_json_out_array(json);
    for (uint32_t i = 0; i < count; i++) {
        rb_json_out_string(json, rb_slice_text(texts[i]));
    }
    rb_json_out_array_end(json);
}

static void set_websocket(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    const struct rb_config *config = view->config;
    const struct rb_config_lists *lists = config->lists;
    const struct rb_policy *policy = config->policy;
    const struct rb_policy_login *login = &policy->websocket_login;
    rb_json_out_key(json, "websocket");
    rb_json_out_object(json);
    if (config->ws_set) {
        rb_json_out_set_text(json, "host",
                             config->ws_host[0] == '\0' ? "0.0.0.0" : config->ws_host);
        rb_json_out_opt_uint(json, "port", view->ws_port);
        rb_json_out_opt_text(json, "advertise", config->ws_advertise);
        if (login->overrides && login->no_auth_user >= 0) {
            const struct rb_policy_user *user = &policy->users[login->no_auth_user];
            rb_json_out_opt_string(json, "no_auth_user",
                                   user->name.len > 0 ? user->name : user->nkey);
        }
        rb_json_out_opt_text(json, "jwt_cookie", lists->ws_jwt_cookie);
        rb_json_out_opt_uint(json, "handshake_timeout", config->ws_handshake_timeout_ns);
        if (login->overrides) {
            rb_json_out_opt_float(json, "auth_timeout", (double)login->timeout_ns / NS_PER_S);
        }
        rb_json_out_opt_bool(json, "no_tls", config->ws_no_tls);
        rb_json_out_opt_bool(json, "tls_map", policy->websocket_tls_map);
        set_texts(json, "tls_pinned_certs", lists->websocket_tls.pinned,
                  lists->websocket_tls.pinned_count);
        rb_json_out_opt_bool(json, "same_origin", config->ws_same_origin);
        set_texts(json, "allowed_origins", lists->ws_origins, lists->ws_origin_count);
        rb_json_out_opt_bool(json, "compression", config->ws_compression);
        set_seconds_time(json, "tls_cert_not_after", view->ws_tls_not_after_s);
    }
    rb_json_out_object_end(json);
}

static void set_process(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    const struct rb_tls_config *tls = &view->config->lists->tls;
    char text[RB_UPTIME_TEXT_MAX];
    int64_t timeout_ns = tls->timeout_ns > 0 ? tls->timeout_ns : INT64_C(2000000000);
    rb_json_out_set_float(json, "tls_timeout", (double)timeout_ns / NS_PER_S);
    rb_json_out_set_uint(json, "write_deadline", view->config->write_deadline_ns);
    rb_json_out_set_time(json, "start", view->start_wall_ns, false);
    rb_json_out_set_time(json, "now", view->now_wall_ns, false);
    rb_json_out_set_text(json, "uptime",
                         rb_uptime_text(view->now_wall_ns - view->start_wall_ns, text));
    rb_json_out_set_uint(json, "mem", view->rss_bytes);
    rb_json_out_set_uint(json, "cores", view->core_count);
    rb_json_out_set_uint(json, "gomaxprocs", view->shard_count);
    rb_json_out_set_float(json, "cpu", view->cpu_percent);
}

static void set_counters(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    struct rb_monitor_totals sum;
    struct rb_account_snapshot accounts;
    rb_monitor_sum(view, &sum);
    bool known = rb_doc_account_sum(view->snapshot, -1, &accounts);
    rb_json_out_set_uint(json, "connections", sum.conns);
    rb_json_out_set_uint(json, "total_connections", sum.conns_total);
    rb_json_out_set_uint(json, "routes", 0);
    rb_json_out_set_uint(json, "remotes", 0);
    rb_json_out_set_uint(json, "leafnodes", accounts.leafnodes);
    rb_json_out_set_uint(json, "in_msgs", sum.in_msgs);
    rb_json_out_set_uint(json, "in_bytes", sum.in_bytes);
    rb_json_out_set_uint(json, "in_client_msgs", sum.in_msgs);
    rb_json_out_set_uint(json, "in_client_bytes", sum.in_bytes);
    rb_json_out_set_uint(json, "out_msgs", sum.out_msgs);
    rb_json_out_set_uint(json, "out_bytes", sum.out_bytes);
    rb_json_out_set_uint(json, "out_client_msgs", sum.out_msgs);
    rb_json_out_set_uint(json, "out_client_bytes", sum.out_bytes);
    rb_json_out_set_uint(json, "slow_consumers", sum.slow_consumers);
    rb_json_out_set_uint(json, "stale_connections", sum.stale_conns);
    rb_json_out_set_uint(json, "stalled_clients",
                         0); /* no publisher is ever held back: decision 0005 */
    rb_json_out_set_uint(json, "subscriptions", known ? accounts.subs : sum.subs);
}

static void set_requests(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    rb_json_out_key(json, "http_req_stats");
    rb_json_out_object(json);
    for (uint32_t i = 0; view->http_requests != NULL && i < RB_PAGE_COUNTED; i++) {
        rb_json_out_opt_uint(json, rb_page_path((enum rb_page)i), view->http_requests[i]);
    }
    rb_json_out_object_end(json);
}

static void set_config(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    const struct rb_config_lists *lists = view->config->lists;
    const struct rb_policy *policy = view->config->policy;
    rb_json_out_set_time(json, "config_load_time", view->config_load_wall_ns, false);
    rb_json_out_set_text(json, "config_digest", view->config->config_digest);
    set_texts(json, "tags", lists->tags, lists->tag_count);
    if (lists->metadata_count > 0) {
        rb_json_out_key(json, "metadata");
        rb_json_out_object(json);
        for (uint32_t i = 0; i < lists->metadata_count; i++) {
            rb_json_out_set_text(json, lists->metadata[i].key, lists->metadata[i].value);
        }
        rb_json_out_object_end(json);
    }
    if (policy->system_account >= 0) {
        rb_json_out_opt_string(json, "system_account",
                               policy->accounts[policy->system_account].name);
    }
}

static void set_last(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    struct rb_monitor_totals sum;
    rb_monitor_sum(view, &sum);
    rb_doc_by_kind(json, "slow_consumer_stats", sum.slow_consumers);
    rb_doc_by_kind(json, "stale_connection_stats", sum.stale_conns);
    rb_json_out_key(json, "disk_io_wait_stats");
    rb_json_out_object(json);
    rb_json_out_set_uint(json, "waiters", 0);
    rb_json_out_set_uint(json, "waits", 0);
    rb_json_out_set_uint(json, "wait_time", 0);
    rb_json_out_set_uint(json, "max_wait_time", 0);
    rb_json_out_object_end(json);
    const struct rb_policy *policy = view->config->policy;
    if (policy->proxy_count > 0) {
        rb_json_out_key(json, "proxies");
        rb_json_out_object(json);
        rb_json_out_key(json, "trusted");
        rb_json_out_array(json);
        for (uint32_t i = 0; i < policy->proxy_count; i++) {
            rb_json_out_object(json);
            rb_json_out_set_string(json, "key", policy->proxies[i]);
            rb_json_out_object_end(json);
        }
        rb_json_out_array_end(json);
        rb_json_out_object_end(json);
    }
    set_seconds_time(json, "tls_cert_not_after", view->tls_not_after_s);
}

bool rb_doc_varz(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    rb_json_out_object(json);
    set_identity(view, json);
    set_empty(json, "cluster");
    set_empty(json, "gateway");
    set_empty(json, "leaf");
    set_empty(json, "mqtt");
    set_websocket(view, json);
    rb_doc_js_varz(view, json);
    set_process(view, json);
    set_counters(view, json);
    set_requests(view, json);
    set_config(view, json);
    set_last(view, json);
    rb_json_out_object_end(json);
    return true;
}
