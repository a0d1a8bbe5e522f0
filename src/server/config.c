/* config.c - what the keys of a configuration mean: value tree -> struct rb_config.
 *
 * 1. Every key is one of three things: an option that is in force, a name that nats-server knows and ringbus does
 *    not support yet (refused, but for a value that means "off"), or unknown. The last two are errors. Nothing is
 *    ignored.
 * 2. Loading goes on after an error, so that one run shows them all; the result is used only if there was none.
 * 3. A value is checked where it is read, with its position; rules between options are in config_check.c, which
 *    also sees what the command line changed.
 * 4. Zero means "not set" for the options where nats-server reads it so, and becomes the default.
 * 5. What names other parts of the file (accounts, users, no_auth_user) is only noted while the top level is read,
 *    and read when all of it is known.
 */
#include "server/config.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/bounds.h"
#include "ringbus/check.h"
#include "server/config_load.h"

#define PAYLOAD_DEFAULT (1024u * 1024)
#define PENDING_DEFAULT (64ull * 1024 * 1024)
#define PING_INTERVAL_DEFAULT_NS (120 * RB_SECOND_NS)
#define PING_MAX_DEFAULT 2
#define WRITE_DEADLINE_DEFAULT_NS (10 * RB_SECOND_NS)
#define MEMORY_BUDGET_MIN (1024 * 1024)
#define CLOSED_CLIENTS_DEFAULT 10000u
#define LAME_DUCK_DURATION_DEFAULT_NS (120 * RB_SECOND_NS)
#define LAME_DUCK_DURATION_MIN_NS ((int64_t)(30 * RB_SECOND_NS))
#define LAME_DUCK_GRACE_DEFAULT_NS (10 * RB_SECOND_NS)

/* ------------------------------------------------------------------ messages */

/** Warnings, then errors, then how many did not fit. */
static void write_messages(const struct rb_load *load, char error[RB_CONFIG_ERROR_MAX])
{
    size_t errors_len = load->errors.len;
    size_t room = RB_CONFIG_ERROR_MAX - 1 - errors_len - 32;
    uint32_t left_out = load->errors.left_out + load->warnings.left_out;
    size_t warnings_len = load->warnings.len;
    while (warnings_len > room) { /* errors matter more: drop warnings from the end, whole lines */
        warnings_len--;
        while (warnings_len > 0 && load->warnings.text[warnings_len - 1] != '\n') {
            warnings_len--;
        }
        left_out++;
    }
    memcpy(error, load->warnings.text, warnings_len);
    memcpy(error + warnings_len, load->errors.text, errors_len);
    error[warnings_len + errors_len] = 0;
    if (left_out > 0) {
        snprintf(error + warnings_len + errors_len, 32, "and %u more", left_out);
    } else if (warnings_len + errors_len > 0) {
        error[warnings_len + errors_len - 1] = 0; /* the newline at the end */
    }
}

/* ------------------------------------------------------------------ address */

static void set_port(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    if (rb_load_port(load, entry, &config->port) && config->port == 0) {
        config->port = RB_PORT_DEFAULT;
    }
}

static void set_host(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    if (rb_load_text(load, entry, config->host, sizeof(config->host)) && config->host[0] == 0) {
        snprintf(config->host, sizeof(config->host), "0.0.0.0");
    }
}

static void set_listen(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    if (rb_load_listen(load, entry, config->host, sizeof(config->host), &config->port) &&
        config->port == 0) {
        config->port = RB_PORT_DEFAULT;
    }
}

static void set_server_name(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    char name[RB_CONFIG_TEXT_MAX];
    if (!rb_load_text(load, entry, name, sizeof(name))) {
        return;
    }
    if (strchr(name, ' ') != NULL) {
        rb_load_error(load, entry, "server name cannot contain spaces");
        return;
    }
    memcpy(config->server_name, name, sizeof(name));
}

static void set_http(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    bool secure = rb_slice_equal_fold(entry->key, RB_S("https"));
    (void)rb_load_listen(load, entry, config->http_host, sizeof(config->http_host),
                         secure ? &config->https_port : &config->http_port);
}

static void set_http_port(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    (void)rb_load_port(load, entry, &config->http_port);
}

static void set_https_port(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    (void)rb_load_port(load, entry, &config->https_port);
}

/** "base", "/base" and "/base/" are "/base". */
static void set_http_base_path(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    char path[RB_CONFIG_TEXT_MAX - 1];
    if (!rb_load_text(load, entry, path, sizeof(path))) {
        return;
    }
    if (strpbrk(path, " ?#") != NULL) {
        rb_load_error(load, entry, "http_base_path \"%s\" is not a path", path);
        return;
    }
    size_t len = strlen(path);
    while (len > 0 && path[len - 1] == '/') {
        path[--len] = 0;
    }
    snprintf(config->http_base_path, sizeof(config->http_base_path), "/%s",
             path + strspn(path, "/"));
}

/* ------------------------------------------------------------------ tags */

static void set_tags(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    const char **tags;
    uint32_t count, kept = 0;
    if (entry->value->kind != RB_CONF_TEXT && entry->value->kind != RB_CONF_ARRAY) {
        rb_load_error(load, entry, "error parsing tags: unsupported type %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    if (entry->value->count > 1024) {
        rb_load_error(load, entry, "more than 1024 tags");
        return;
    }
    if (!rb_load_strings(load, entry, &tags, &count)) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        char *tag = (char *)(uintptr_t)tags[i];
        tag += strspn(tag, " \t");
        for (size_t len = strlen(tag); len > 0 && isblank((unsigned char)tag[len - 1]); len--) {
            tag[len - 1] = 0;
        }
        for (char *at = tag; *at != 0; at++) {
            *at = (char)tolower((unsigned char)*at);
        }
        bool known = tag[0] == 0;
        for (uint32_t k = 0; k < kept && !known; k++) {
            known = strcmp(tags[k], tag) == 0;
        }
        if (!known) {
            tags[kept++] = tag;
        }
    }
    load->lists->tags = tags;
    load->lists->tag_count = kept;
}

static void set_metadata(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "error parsing metadata: unsupported type %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    struct rb_text_pair *pairs = rb_load_take(load, (entry->value->count + 1) * sizeof(*pairs));
    uint32_t count = 0;
    for (const struct rb_conf_entry *e = pairs == NULL ? NULL : entry->value->map.first; e != NULL;
         e = e->next) {
        struct rb_slice text;
        if (rb_load_slice(load, e, &text)) {
            pairs[count].key = (const char *)rb_load_copy(load, e->key).ptr;
            pairs[count++].value = (const char *)text.ptr;
        }
    }
    load->lists->metadata = pairs;
    load->lists->metadata_count = count;
}

/* ------------------------------------------------------------------ logging and files */

static void set_trace_part(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    bool verbose = rb_slice_equal_fold(entry->key, RB_S("trace_verbose"));
    bool on;
    if (rb_load_bool(load, entry, &on)) {
        *(verbose ? &config->trace_verbose : &config->trace_headers) = on;
        config->trace |= on;
    }
}

/** Below 0 is as 0. */
static void set_not_negative(struct rb_load *load, const struct rb_conf_entry *entry,
                             int64_t *field)
{
    int64_t value;
    if (rb_load_int(load, entry, &value)) {
        *field = value < 0 ? 0 : value;
    }
}

static void set_log_size_limit(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    set_not_negative(load, entry, &((struct rb_config *)base)->log_size_limit);
}

static void set_log_max_num(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    set_not_negative(load, entry, &((struct rb_config *)base)->log_max_num);
}

static void set_remote_syslog(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    (void)rb_load_text(load, entry, config->remote_syslog, sizeof(config->remote_syslog));
}

static void set_max_traced_msg_len(struct rb_load *load, const struct rb_conf_entry *entry,
                                   void *base)
{
    struct rb_config *config = base;
    int64_t bytes;
    if (!rb_load_int(load, entry, &bytes)) {
        return;
    }
    if (bytes > INT32_MAX) {
        rb_load_error(load, entry, "%.*s value is too big", RB_KEY(entry));
        return;
    }
    config->max_traced_msg_bytes = bytes < 0 ? 0 : (uint32_t)bytes; /* below 0: all, as 0 */
}

/* ------------------------------------------------------------------ limits */

static void set_max_connections(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    int64_t count;
    if (rb_load_int(load, entry, &count)) {
        config->max_connections = count <= 0 ? -1 : count;
    }
}

static void set_max_subscriptions(struct rb_load *load, const struct rb_conf_entry *entry,
                                  void *base)
{
    struct rb_config *config = base;
    int64_t count;
    if (!rb_load_int(load, entry, &count)) {
        return;
    }
    if (count > UINT32_MAX) {
        rb_load_error(load, entry, "%.*s value is too big", RB_KEY(entry));
        return;
    }
    config->max_subscriptions = count < 0 ? 0 : (uint32_t)count; /* below 0: no limit, as 0 */
}

static void set_max_sub_tokens(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    int64_t count;
    if (!rb_load_int(load, entry, &count)) {
        return;
    }
    if (count < 1 || count > UINT8_MAX) {
        rb_load_error(load, entry, "%.*s value %s", RB_KEY(entry),
                      count < 1 ? "can not be negative" : "is too big");
        return;
    }
    config->max_sub_tokens = (uint32_t)count;
}

/** A size of 32 bits; 0 gives `unset`. */
static void set_bytes(struct rb_load *load, const struct rb_conf_entry *entry, uint32_t unset,
                      uint32_t *field)
{
    int64_t bytes;
    if (rb_load_size(load, entry, INT32_MAX, &bytes)) {
        *field = bytes == 0 ? unset : (uint32_t)bytes;
    }
}

static void set_max_control_line(struct rb_load *load, const struct rb_conf_entry *entry,
                                 void *base)
{
    set_bytes(load, entry, RB_CONTROL_LINE_DEFAULT, &((struct rb_config *)base)->max_control_line);
}

static void set_max_payload(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    set_bytes(load, entry, PAYLOAD_DEFAULT, &((struct rb_config *)base)->max_payload);
}

static void set_ping_max(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    set_bytes(load, entry, PING_MAX_DEFAULT, &((struct rb_config *)base)->ping_max);
}

static void set_max_closed_clients(struct rb_load *load, const struct rb_conf_entry *entry,
                                   void *base)
{
    set_bytes(load, entry, CLOSED_CLIENTS_DEFAULT, &((struct rb_config *)base)->max_closed_clients);
}

static void set_max_pending(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    int64_t bytes;
    if (rb_load_size(load, entry, INT64_MAX, &bytes)) {
        ((struct rb_config *)base)->max_pending_bytes =
            bytes == 0 ? PENDING_DEFAULT : (uint64_t)bytes;
    }
}

static void set_ping_interval(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    (void)rb_load_duration(load, entry, PING_INTERVAL_DEFAULT_NS,
                           &((struct rb_config *)base)->ping_interval_ns);
}

static void set_write_deadline(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    (void)rb_load_duration(load, entry, WRITE_DEADLINE_DEFAULT_NS,
                           &((struct rb_config *)base)->write_deadline_ns);
}

static void set_write_timeout(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    char policy[RB_CONFIG_TEXT_MAX];
    if (!rb_load_text(load, entry, policy, sizeof(policy))) {
        return;
    }
    if (strcmp(policy, "retry") == 0) {
        rb_load_error(load, entry,
                      "option \"%.*s\" with the value \"retry\" is not supported by ringbus yet",
                      RB_KEY(entry));
    } else if (strcmp(policy, "default") != 0 && strcmp(policy, "close") != 0) {
        rb_load_error(load, entry, "%.*s must be 'default', 'close' or 'retry'", RB_KEY(entry));
    }
}

static void set_no_fast_producer_stall(struct rb_load *load, const struct rb_conf_entry *entry,
                                       void *base)
{
    struct rb_config *config = base;
    if (rb_load_bool(load, entry, &config->no_fast_producer_stall) &&
        !config->no_fast_producer_stall) {
        rb_load_error(load, entry,
                      "option \"%.*s\" can not be false: ringbus never stalls a publisher, a "
                      "receiver that falls behind is disconnected",
                      RB_KEY(entry));
    }
}

/* ------------------------------------------------------------------ lame duck mode */

/** A duration as text; a number is refused, as in nats-server. */
static bool read_lame_duck(struct rb_load *load, const struct rb_conf_entry *entry, int64_t *ret_ns)
{
    char text[RB_CONFIG_TEXT_MAX], problem[256];
    if (!rb_load_text(load, entry, text, sizeof(text))) {
        return false;
    }
    if (!rb_config_parse_duration(text, ret_ns, problem, sizeof(problem))) {
        rb_load_error(load, entry, "error parsing %.*s: %s", RB_KEY(entry), problem);
        return false;
    }
    return true;
}

static void set_lame_duck_duration(struct rb_load *load, const struct rb_conf_entry *entry,
                                   void *base)
{
    char shown[RB_DURATION_TEXT_MAX];
    int64_t ns;
    if (!read_lame_duck(load, entry, &ns)) {
        return;
    }
    if (ns < LAME_DUCK_DURATION_MIN_NS) {
        rb_load_error(load, entry, "invalid lame_duck_duration of %s, minimum is 30 seconds",
                      rb_config_show_duration(ns, shown));
        return;
    }
    ((struct rb_config *)base)->lame_duck_duration_ns = (uint64_t)ns;
}

static void set_lame_duck_grace(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    int64_t ns;
    if (!read_lame_duck(load, entry, &ns)) {
        return;
    }
    if (ns < 0) {
        rb_load_error(load, entry, "invalid lame_duck_grace_period, needs to be positive");
        return;
    }
    ((struct rb_config *)base)->lame_duck_grace_ns = (uint64_t)ns;
}

/* ------------------------------------------------------------------ read when all is known */

static void note_accounts(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    load->blocks.accounts = entry;
}

static void note_authorization(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    load->blocks.authorization = entry;
}

static void note_mappings(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    load->blocks.mappings = entry;
}

static void note_no_auth_user(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    if (rb_load_kind(load, entry, RB_CONF_TEXT)) {
        load->blocks.no_auth_user = entry;
    }
}

static void note_system_account(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    load->blocks.system_account = entry;
}

static void set_tls(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    rb_load_tls(load, entry, &load->lists->tls);
}

/* ------------------------------------------------------------------ ringbus's own */

static void set_shards(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    int64_t count;
    if (!rb_load_int(load, entry, &count)) {
        return;
    }
    if (count < 1 || count > RB_SHARDS_MAX) {
        rb_load_error(load, entry, "%.*s %" PRId64 " is not between 1 and %d", RB_KEY(entry), count,
                      RB_SHARDS_MAX);
        return;
    }
    ((struct rb_config *)base)->shards = (uint32_t)count;
}

static void set_transport(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    char name[RB_CONFIG_TEXT_MAX];
    if (entry->value->kind == RB_CONF_MAP) {
        rb_load_error(load, entry, "option \"%.*s\" as a block is not supported by ringbus yet",
                      RB_KEY(entry));
    } else if (rb_load_text(load, entry, name, sizeof(name))) {
        if (!rb_config_transport_known(name)) {
            rb_load_error(load, entry, "transport \"%s\" is not supported by ringbus yet", name);
            return;
        }
        snprintf(config->transport, sizeof(config->transport), "%.15s", name);
    }
}

static void set_memory_budget(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    int64_t bytes;
    if (!rb_load_size(load, entry, INT64_MAX, &bytes)) {
        return;
    }
    if (bytes < MEMORY_BUDGET_MIN) {
        rb_load_error(load, entry, "%.*s must be at least %d bytes", RB_KEY(entry),
                      MEMORY_BUDGET_MIN);
        return;
    }
    ((struct rb_config *)base)->memory_budget_bytes = (uint64_t)bytes;
}

/* ------------------------------------------------------------------ the names */

#define BOOL(field) RB_OPTION_BOOL, offsetof(struct rb_config, field)
#define TEXT(field)                                                                                \
    RB_OPTION_TEXT, offsetof(struct rb_config, field), sizeof(((struct rb_config *)0)->field)
#define CALL(function) RB_OPTION_CALL, .set = function

static const struct rb_option top_options[] = {
    { "listen", CALL(set_listen) },
    { "port", CALL(set_port) },
    { "host net", CALL(set_host) },
    { "client_advertise", TEXT(client_advertise) },
    { "server_name", CALL(set_server_name) },
    { "server_tags", CALL(set_tags) },
    { "server_metadata", CALL(set_metadata) },
    { "debug", BOOL(debug) },
    { "trace", BOOL(trace) },
    { "trace_verbose trace_headers", CALL(set_trace_part) },
    { "max_traced_msg_len", CALL(set_max_traced_msg_len) },
    { "logtime", BOOL(logtime) },
    { "logtime_utc", BOOL(logtime_utc) },
    { "log_file logfile", TEXT(log_file) },
    { "log_size_limit logfile_size_limit", CALL(set_log_size_limit) },
    { "log_max_num logfile_max_num", CALL(set_log_max_num) },
    { "syslog", BOOL(syslog) },
    { "remote_syslog", CALL(set_remote_syslog) },
    { "pid_file pidfile", TEXT(pid_file) },
    { "ports_file_dir", TEXT(ports_file_dir) },
    { "http https", CALL(set_http) },
    { "http_port monitor_port", CALL(set_http_port) },
    { "https_port", CALL(set_https_port) },
    { "http_base_path", CALL(set_http_base_path) },
    { "max_connections max_conn", CALL(set_max_connections) },
    { "max_subscriptions max_subs", CALL(set_max_subscriptions) },
    { "max_sub_tokens max_subscription_tokens", CALL(set_max_sub_tokens) },
    { "max_control_line", CALL(set_max_control_line) },
    { "max_payload", CALL(set_max_payload) },
    { "max_pending", CALL(set_max_pending) },
    { "max_closed_clients", CALL(set_max_closed_clients) },
    { "ping_interval", CALL(set_ping_interval) },
    { "ping_max", CALL(set_ping_max) },
    { "write_deadline", CALL(set_write_deadline) },
    { "write_timeout", CALL(set_write_timeout) },
    { "no_fast_producer_stall", CALL(set_no_fast_producer_stall) },
    { "lame_duck_duration", CALL(set_lame_duck_duration) },
    { "lame_duck_grace_period", CALL(set_lame_duck_grace) },
    { "proxy_protocol", BOOL(proxy_protocol) },
    { "proxies", CALL(rb_load_proxies) },
    { "no_header_support", BOOL(no_header_support) },
    { "tls", CALL(set_tls) },
    { "allow_non_tls", BOOL(allow_non_tls) },
    { "authorization", CALL(note_authorization) },
    { "accounts", CALL(note_accounts) },
    { "mappings maps", CALL(note_mappings) },
    { "no_auth_user", CALL(note_no_auth_user) },
    { "system_account system", CALL(note_system_account) },
    { "no_system_account no_system no_sys_acc", BOOL(no_system_account) },
    { "websocket ws", CALL(rb_load_websocket) },
    { "jetstream", CALL(rb_load_jetstream) },
    { "store_dir storedir", CALL(rb_load_store_dir) },
    /* ringbus's own */
    { "unix_socket", TEXT(unix_socket) },
    { "pin_shards", BOOL(pin_shards) },
    { "shards", CALL(set_shards) },
    { "transport", CALL(set_transport) },
    { "memory_budget", CALL(set_memory_budget) },
    /* known to nats-server 2.15 */
    { "disable_sublist_cache no_sublist_cache ocsp ocsp_cache", RB_OPTION_OFF_BOOL },
    { "prof_port prof_block_rate", RB_OPTION_OFF_ZERO },
    { "feature_flags connect_error_reports reconnect_error_reports default_js_domain",
      RB_OPTION_REFUSED },
    { "cluster gateway leafnodes leaf mqtt", RB_OPTION_REFUSED },
    { "operator operators root roots root_operator root_operators trusted_keys trusted "
      "default_sentinel",
      RB_OPTION_REFUSED },
    { "resolver account_resolver accounts_resolver resolver_tls resolver_preload "
      "resolver_pinned_accounts",
      RB_OPTION_REFUSED },
    { NULL },
};

/* ------------------------------------------------------------------ entry points */

void rb_config_defaults(struct rb_config *config)
{
    *config = (struct rb_config){
        .host = "0.0.0.0",
        .port = RB_PORT_DEFAULT,
        .transport = "uring",
        .logtime = true,
        .http_base_path = "/",
        .max_connections = 65536,
        .max_control_line = RB_CONTROL_LINE_DEFAULT,
        .max_payload = PAYLOAD_DEFAULT,
        .max_pending_bytes = PENDING_DEFAULT,
        .max_closed_clients = CLOSED_CLIENTS_DEFAULT,
        .ping_interval_ns = PING_INTERVAL_DEFAULT_NS,
        .ping_max = PING_MAX_DEFAULT,
        .write_deadline_ns = WRITE_DEADLINE_DEFAULT_NS,
        .auth_timeout_ns = RB_AUTH_TIMEOUT_DEFAULT_NS,
        .lame_duck_duration_ns = LAME_DUCK_DURATION_DEFAULT_NS,
        .lame_duck_grace_ns = LAME_DUCK_GRACE_DEFAULT_NS,
        .ws_handshake_timeout_ns = 2 * RB_SECOND_NS,
        .jetstream = { .max_memory = -1, .max_storage = -1 },
    };
}

/** Index of the user or nkey; an error when there is none. */
static int32_t find_no_auth_user(struct rb_load *load, const struct rb_conf_entry *entry)
{
    struct rb_slice name = entry->value->text;
    if (name.len == 0) {
        return -1;
    }
    if (load->user_count == 0) {
        rb_load_error(load, entry,
                      "no_auth_user: \"%.*s\" present, but users/nkeys are not defined",
                      RB_S_ARG(name));
        return -1;
    }
    for (uint32_t i = 0; i < load->user_count; i++) {
        const struct rb_policy_user *user = &load->users[i].user;
        if (rb_slice_equal(user->nkey.len > 0 ? user->nkey : user->name, name)) {
            return (int32_t)i;
        }
    }
    rb_load_error(load, entry,
                  "no_auth_user: \"%.*s\" not present as user or nkey in authorization block or "
                  "account configuration",
                  RB_S_ARG(name));
    return -1;
}

/** Invariant 5. */
static void read_blocks(struct rb_load *load)
{
    const struct rb_load_blocks *blocks = &load->blocks;
    struct rb_config *config = load->config;
    if (!rb_load_accounts_declare(load)) {
        return;
    }
    rb_load_accounts(load);
    if (blocks->authorization != NULL) {
        config->user[0] = config->pass[0] = config->token[0] = 0;
        rb_load_authorization(load, blocks->authorization);
    }
    rb_load_users_finish(load);
    if (blocks->mappings != NULL) {
        rb_load_mappings(load, blocks->mappings, 0);
    }
    if (load->errors.count > 0) {
        return; /* a user that is wrong must not show as one that is missing too */
    }
    if (blocks->no_auth_user != NULL) {
        load->policy->login.no_auth_user = find_no_auth_user(load, blocks->no_auth_user);
    }
    if (blocks->websocket_no_auth_user != NULL) {
        load->policy->websocket_login.no_auth_user =
            find_no_auth_user(load, blocks->websocket_no_auth_user);
    }
}

static enum rb_err no_memory(char error[RB_CONFIG_ERROR_MAX])
{
    snprintf(error, RB_CONFIG_ERROR_MAX, "out of memory while reading the configuration");
    return RB_ERR_MEMORY;
}

/** How a text is to be read. */
struct reading {
    const char *file; /* becomes config_file; NULL: it was no file */
    bool closed;      /* see rb_config_load_closed */
    bool seal;
};

/** Gives the tree's meaning to *changed, a copy of the caller's configuration without its policy. */
static enum rb_err read_tree(struct rb_config *changed, const struct rb_conf *conf, bool closed,
                             char error[RB_CONFIG_ERROR_MAX])
{
    struct rb_load *load = calloc(1, sizeof(*load));
    if (load == NULL) {
        return no_memory(error);
    }
    load->config = changed;
    load->closed = closed;
    load->policy = rb_config_draft(false, &load->lists);
    enum rb_err err = load->policy == NULL ? RB_ERR_MEMORY : RB_OK;
    if (err == RB_OK) {
        load->arena = load->policy->arena;
        changed->policy = load->policy;
        changed->lists = load->lists;
        rb_load_options(load, conf->root, top_options, changed);
        read_blocks(load);
        write_messages(load, error);
        err = load->out_of_memory ? RB_ERR_MEMORY : load->errors.count > 0 ? RB_ERR_INVALID : RB_OK;
    }
    free(load);
    return err == RB_ERR_MEMORY ? no_memory(error) : err;
}

/** Reads into a copy and puts that in place of *config if there was no error. Ends `conf`. */
static enum rb_err apply(struct rb_config *config, const struct reading *reading,
                         struct rb_conf *conf, char error[RB_CONFIG_ERROR_MAX])
{
    char sealing[RB_CONFIG_ERROR_MAX] = "";
    struct rb_config *changed = malloc(sizeof(*changed));
    if (changed == NULL) {
        rb_conf_deinit(conf);
        return no_memory(error);
    }
    *changed = *config;
    changed->policy = NULL;
    changed->lists = NULL;
    if (reading->file != NULL) {
        snprintf(changed->config_file, sizeof(changed->config_file), "%s", reading->file);
    }
    bool is_empty = conf->root->count == 0;
    enum rb_err err = rb_conf_digest(conf, changed->config_digest);
    err = err != RB_OK ? no_memory(error) : read_tree(changed, conf, reading->closed, error);
    rb_conf_deinit(conf);
    if (err == RB_OK && reading->seal) {
        err = rb_config_seal(changed, sealing);
    }
    if (err == RB_OK) {
        if (is_empty && reading->file != NULL) {
            snprintf(error, RB_CONFIG_ERROR_MAX, "%s: config has no values or is empty",
                     reading->file);
        }
        rb_config_deinit(config);
        *config = *changed;
    } else {
        if (sealing[0] != 0) {
            memcpy(error, sealing, sizeof(sealing));
        }
        rb_config_deinit(changed);
    }
    free(changed);
    return err;
}

enum rb_err rb_config_load_text(struct rb_config *config, const char *path, struct rb_slice text,
                                char error[RB_CONFIG_ERROR_MAX])
{
    static const struct reading reading = { .seal = true };
    struct rb_conf conf;
    error[0] = 0;
    enum rb_err err = rb_conf_parse(path, text, &conf, error, RB_CONFIG_ERROR_MAX);
    return err != RB_OK ? err : apply(config, &reading, &conf, error);
}

enum rb_err rb_config_load_closed(struct rb_config *config, const char *path, struct rb_slice text,
                                  char error[RB_CONFIG_ERROR_MAX])
{
    static const struct reading reading = { .seal = true, .closed = true };
    struct rb_conf conf;
    error[0] = 0;
    enum rb_err err = rb_conf_parse_closed(path, text, &conf, error, RB_CONFIG_ERROR_MAX);
    return err != RB_OK ? err : apply(config, &reading, &conf, error);
}

static enum rb_err read_file(struct rb_config *config, const struct reading *reading,
                             char error[RB_CONFIG_ERROR_MAX])
{
    struct rb_conf conf;
    error[0] = 0;
    if (strlen(reading->file) >= sizeof(config->config_file)) {
        snprintf(error, RB_CONFIG_ERROR_MAX,
                 "path of the configuration file is longer than %zu bytes",
                 sizeof(config->config_file) - 1);
        return RB_ERR_INVALID;
    }
    enum rb_err err = rb_conf_parse_file(reading->file, &conf, error, RB_CONFIG_ERROR_MAX);
    return err != RB_OK ? err : apply(config, reading, &conf, error);
}

enum rb_err rb_config_load_file(struct rb_config *config, const char *path,
                                char error[RB_CONFIG_ERROR_MAX])
{
    const struct reading reading = { .file = path, .seal = true };
    return read_file(config, &reading, error);
}

enum rb_err rb_config_read_file(struct rb_config *config, const char *path,
                                char error[RB_CONFIG_ERROR_MAX])
{
    const struct reading reading = { .file = path };
    return read_file(config, &reading, error);
}
