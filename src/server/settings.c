/* settings.c - one immutable struct per configuration, in an arena of its own; texts are copied, so that it does not
 * depend on the configuration's life. */
#include "server/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/shard.h"
#include "tls/tls.h"

#define ARENA_BYTES 8192

static struct rb_slice keep(struct rb_arena *arena, struct rb_slice text)
{
    if (text.len == 0) {
        return (struct rb_slice){ NULL, 0 };
    }
    uint8_t *copy = rb_arena_take(arena, text.len);
    if (copy == NULL) {
        return (struct rb_slice){ NULL, 0 };
    }
    memcpy(copy, text.ptr, text.len);
    return rb_slice_of(copy, text.len);
}

static struct rb_slice keep_text(struct rb_arena *arena, const char *text)
{
    return keep(arena, rb_slice_text(text));
}

static enum rb_err make_tls(const struct rb_tls_config *config, struct rb_tls_context **ret_context,
                            char error[RB_CONFIG_ERROR_MAX])
{
    if (!config->set) {
        *ret_context = NULL;
        return RB_OK;
    }
    struct rb_tls_options options = { .cert_file = config->cert_file,
                                      .key_file = config->key_file,
                                      .ca_file = config->ca_file,
                                      .verify = config->verify,
                                      .min_version = config->min_version,
                                      .ciphers = config->ciphers,
                                      .cipher_count = config->cipher_count,
                                      .curves = config->curves,
                                      .curve_count = config->curve_count,
                                      .pinned = config->pinned,
                                      .pinned_count = config->pinned_count };
    if (config->cert_count > RB_TLS_CERTS_MAX) {
        (void)snprintf(error, RB_CONFIG_ERROR_MAX, "more than %d certificates in one tls block",
                       RB_TLS_CERTS_MAX);
        return RB_ERR_INVALID;
    }
    for (uint32_t i = 0; i < config->cert_count; i++) {
        options.certs[i].cert_file = config->certs[i].cert_file;
        options.certs[i].key_file = config->certs[i].key_file;
    }
    options.cert_count = config->cert_count;
    return rb_tls_context_create(&options, ret_context, error, RB_CONFIG_ERROR_MAX);
}

/* Extra header lines of the WebSocket upgrade, ready to be sent. */
static struct rb_slice header_lines(struct rb_arena *arena, const struct rb_config_lists *lists)
{
    size_t len = 0;
    for (uint32_t i = 0; i < lists->ws_header_count; i++) {
        len += strlen(lists->ws_headers[i].key) + strlen(lists->ws_headers[i].value) + 4;
    }
    uint8_t *out = len == 0 ? NULL : rb_arena_take(arena, len);
    if (out == NULL) {
        return (struct rb_slice){ NULL, 0 };
    }
    struct rb_writer writer = rb_writer_over(out, len);
    for (uint32_t i = 0; i < lists->ws_header_count; i++) {
        rb_write_slice(&writer, rb_slice_text(lists->ws_headers[i].key));
        rb_write_slice(&writer, RB_S(": "));
        rb_write_slice(&writer, rb_slice_text(lists->ws_headers[i].value));
        rb_write_slice(&writer, RB_S("\r\n"));
    }
    return rb_slice_of(out, len);
}

static void set_websocket(struct rb_core_settings *settings, const struct rb_config *config)
{
    const struct rb_config_lists *lists = config->lists;
    struct rb_core_options *options = &settings->options;
    struct rb_arena *arena = settings->arena;
    options->ws_tls_timeout_ns = (uint64_t)lists->websocket_tls.timeout_ns;
    options->ws_handshake_timeout_ns = config->ws_handshake_timeout_ns;
    options->ws_auth_timeout_ns = settings->policy->websocket_login.timeout_ns > 0
                                      ? (uint64_t)settings->policy->websocket_login.timeout_ns
                                      : 0;
    options->ws_ping_interval_ns = config->ws_ping_interval_ns;
    options->ws_compression = config->ws_compression;
    options->ws_same_origin = config->ws_same_origin;
    options->ws_headers = header_lines(arena, lists);
    options->ws_jwt_cookie = keep_text(arena, lists->ws_jwt_cookie);
    options->ws_user_cookie = keep_text(arena, lists->ws_user_cookie);
    options->ws_pass_cookie = keep_text(arena, lists->ws_pass_cookie);
    options->ws_token_cookie = keep_text(arena, lists->ws_token_cookie);
    struct rb_slice *origins =
        rb_arena_take(arena, (lists->ws_origin_count + 1) * sizeof(struct rb_slice));
    for (uint32_t i = 0; origins != NULL && i < lists->ws_origin_count; i++) {
        origins[i] = keep_text(arena, lists->ws_origins[i]);
    }
    options->ws_origins = origins;
    options->ws_origin_count = origins == NULL ? 0 : lists->ws_origin_count;
}

static bool asks_for_login(const struct rb_policy *policy, bool websocket)
{
    const struct rb_policy_login *login =
        websocket && policy->websocket_login.overrides ? &policy->websocket_login : &policy->login;
    return rb_policy_auth_required(policy, websocket) &&
           (websocket || login->no_auth_user < 0 || login->invented);
}

/* What clients are told of our address: the advertised one, "host" or "host:port", else where we listen. The port is 0
 * when it is the bound one. */
static struct rb_slice advertised(struct rb_arena *arena, const struct rb_config *config,
                                  uint32_t *ret_port)
{
    struct rb_slice text = rb_slice_text(config->client_advertise);
    *ret_port = 0;
    if (text.len == 0) {
        return keep_text(arena, config->host[0] == '\0' ? "0.0.0.0" : config->host);
    }
    char host[RB_CONFIG_TEXT_MAX];
    (void)snprintf(host, sizeof(host), "%s", config->client_advertise);
    char *colon = strrchr(host, ':');
    const char *bracket = strrchr(host, ']');
    if (colon != NULL && (bracket == NULL ? strchr(host, ':') == colon : colon > bracket)) {
        *ret_port = (uint32_t)strtoul(colon + 1, NULL, 10);
        *colon = '\0';
    }
    if (host[0] == '[') {
        memmove(host, host + 1, strlen(host));
        host[strcspn(host, "]")] = '\0';
    }
    return keep_text(arena, host);
}

static void set_info(struct rb_core_settings *settings, const struct rb_config *config,
                     const struct rb_node_shared *shared)
{
    struct rb_core_options *options = &settings->options;
    struct rb_arena *arena = settings->arena;
    const struct rb_tls_config *tls = &config->lists->tls;
    const struct rb_tls_config *ws_tls = &config->lists->websocket_tls;
    uint32_t port;
    struct rb_slice host = advertised(arena, config, &port);
    options->info = (struct rb_info){
        .server_id = keep_text(arena, shared->server_id),
        .server_name = keep_text(arena, shared->server_name),
        .version = RB_S(RB_NATS_VERSION),
        .runtime = RB_S(RB_RUNTIME),
        .host = host,
        .port = (uint16_t)port,
        .ringbus_version = RB_S(RB_VERSION),
        .headers = options->headers,
        .auth_required = asks_for_login(settings->policy, false),
        .tls_required = tls->set && !config->allow_non_tls,
        .tls_available = tls->set && config->allow_non_tls,
        .tls_verify = tls->set && tls->verify,
        .max_payload = config->max_payload,
        .jetstream = config->jetstream.enabled,
        .domain = keep_text(arena, config->jetstream.enabled ? config->jetstream.domain : ""),
        .api_lvl = 5,
    };
    options->ws_info = options->info;
    options->ws_info.port = 0;
    options->ws_info.auth_required = asks_for_login(settings->policy, true);
    options->ws_info.tls_required = ws_tls->set;
    options->ws_info.tls_available =
        ws_tls->set; /* tls_verify is the client listener's, as in nats-server */
    if (config->ws_host[0] != '\0') {
        options->ws_info.host = keep_text(arena, config->ws_host);
    }
}

static void set_options(struct rb_core_settings *settings, const struct rb_config *config,
                        const struct rb_node_shared *shared)
{
    const struct rb_tls_config *tls = &config->lists->tls;
    settings->options = (struct rb_core_options){
        .shard_count = shared->shard_count,
        .max_control_line = config->max_control_line,
        .max_payload = config->max_payload,
        .max_subs = config->max_subscriptions,
        .max_sub_tokens = config->max_sub_tokens,
        .ping_max = config->ping_max,
        .max_pending = config->max_pending_bytes,
        .ping_interval_ns = config->ping_interval_ns,
        .write_deadline_ns = config->write_deadline_ns,
        .auth_timeout_ns = config->auth_timeout_ns,
        .max_connections = config->max_connections,
        .headers = !config->no_header_support,
        .max_traced_msg_bytes = config->max_traced_msg_bytes,
        .trace_headers = config->trace_headers,
        .proxy_protocol = config->proxy_protocol,
        .allow_non_tls = config->allow_non_tls,
        .tls_timeout_ns = (uint64_t)tls->timeout_ns,
        .tls_rate_limit = tls->connection_rate_limit,
        .tls_first = tls->set && tls->handshake_first,
        .tls_first_fallback_ns = (uint64_t)tls->handshake_first_fallback_ns,
    };
    set_websocket(settings, config);
    set_info(settings, config, shared);
}

enum rb_err rb_settings_make(const struct rb_config *config, const struct rb_node_shared *shared,
                             struct rb_core_settings **ret_settings,
                             char error[RB_CONFIG_ERROR_MAX])
{
    struct rb_arena *arena;
    (void)snprintf(error, RB_CONFIG_ERROR_MAX, "out of memory");
    enum rb_err err = rb_arena_create(ARENA_BYTES, &arena);
    if (err != RB_OK) {
        return err;
    }
    struct rb_core_settings *settings = rb_arena_take(arena, sizeof(*settings));
    if (settings == NULL) {
        rb_arena_destroy(arena);
        return RB_ERR_MEMORY;
    }
    settings->ref_count = 1;
    settings->arena = arena;
    settings->policy = rb_policy_hold(config->policy);
    settings->lists = config->lists;
    err = make_tls(&config->lists->tls, &settings->tls, error);
    if (err == RB_OK) {
        err = make_tls(&config->lists->websocket_tls, &settings->ws_tls, error);
    }
    if (err != RB_OK) {
        rb_core_settings_release(settings);
        return err;
    }
    set_options(settings, config, shared);
    error[0] = '\0';
    *ret_settings = settings;
    return RB_OK;
}
