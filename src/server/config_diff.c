/* config_diff.c - running against wanted, field by field.
 *
 * 1. Fixed fields first: the first difference refuses all. Then what may change, one line each.
 * 2. The names of fixed fields are those of nats-server's options struct, since its message carries them; options of
 *    ringbus alone have the name of their key.
 * 3. Secrets are compared and never printed.
 */
#include "server/config_diff.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "ringbus/check.h"
#include "server/config_load.h"
#include "server/text.h"

enum kind { KIND_BOOL, KIND_INT32, KIND_UINT32, KIND_INT64, KIND_UINT64, KIND_NS, KIND_TEXT };

struct field {
    const char *name;
    enum kind kind;
    size_t offset;
    uint32_t what; /* of reloadable fields */
};

#define FIELD(name, kind, field)                                                                   \
    {                                                                                              \
        name, kind, offsetof(struct rb_config, field), 0                                           \
    }
#define LIVE(name, kind, field, what)                                                              \
    {                                                                                              \
        name, kind, offsetof(struct rb_config, field), what                                        \
    }

static const struct field fixed_fields[] = {
    FIELD("Host", KIND_TEXT, host),
    FIELD("Port", KIND_INT32, port),
    FIELD("ServerName", KIND_TEXT, server_name),
    FIELD("HTTPHost", KIND_TEXT, http_host),
    FIELD("HTTPPort", KIND_INT32, http_port),
    FIELD("HTTPSPort", KIND_INT32, https_port),
    FIELD("HTTPBasePath", KIND_TEXT, http_base_path),
    FIELD("MaxPending", KIND_UINT64, max_pending_bytes),
    FIELD("MaxSubs", KIND_UINT32, max_subscriptions),
    FIELD("MaxSubTokens", KIND_UINT32, max_sub_tokens),
    FIELD("MaxClosedClients", KIND_UINT32, max_closed_clients),
    FIELD("LameDuckDuration", KIND_NS, lame_duck_duration_ns),
    FIELD("LameDuckGracePeriod", KIND_NS, lame_duck_grace_ns),
    FIELD("AllowNonTLS", KIND_BOOL, allow_non_tls),
    FIELD("ProxyProtocol", KIND_BOOL, proxy_protocol),
    FIELD("NoHeaderSupport", KIND_BOOL, no_header_support),
    FIELD("NoSystemAccount", KIND_BOOL, no_system_account),
    FIELD("LogSizeLimit", KIND_INT64, log_size_limit),
    FIELD("LogMaxFiles", KIND_INT64, log_max_num),
    FIELD("shards", KIND_UINT32, shards),
    FIELD("pin_shards", KIND_BOOL, pin_shards),
    FIELD("transport", KIND_TEXT, transport),
    FIELD("memory_budget", KIND_UINT64, memory_budget_bytes),
    FIELD("unix_socket", KIND_TEXT, unix_socket),
    FIELD("JetStream", KIND_BOOL, jetstream.enabled),
    FIELD("JetStreamDomain", KIND_TEXT, jetstream.domain),
    FIELD("NoJetStreamStrict", KIND_BOOL, jetstream.lenient),
    FIELD("sync_interval", KIND_BOOL, jetstream.lazy),
    FIELD("SyncInterval", KIND_NS, jetstream.sync_interval_ns),
    FIELD("StreamMaxBufferedMsgs", KIND_UINT32, jetstream.max_buffered_msgs),
    FIELD("StreamMaxBufferedSize", KIND_UINT64, jetstream.max_buffered_bytes),
};

static const struct field live_fields[] = {
    LIVE("debug", KIND_BOOL, debug, RB_CHANGE_LOG),
    LIVE("trace", KIND_BOOL, trace, RB_CHANGE_LOG),
    LIVE("trace_verbose", KIND_BOOL, trace_verbose, RB_CHANGE_LOG),
    LIVE("trace_headers", KIND_BOOL, trace_headers, RB_CHANGE_LOG),
    LIVE("max_traced_msg_len", KIND_UINT32, max_traced_msg_bytes, RB_CHANGE_LOG),
    LIVE("logtime", KIND_BOOL, logtime, RB_CHANGE_LOG),
    LIVE("logtime_utc", KIND_BOOL, logtime_utc, RB_CHANGE_LOG),
    LIVE("log_file", KIND_TEXT, log_file, RB_CHANGE_LOG),
    LIVE("syslog", KIND_BOOL, syslog, RB_CHANGE_LOG),
    LIVE("remote_syslog", KIND_TEXT, remote_syslog, RB_CHANGE_LOG),
    LIVE("pid_file", KIND_TEXT, pid_file, RB_CHANGE_FILES),
    LIVE("ports_file_dir", KIND_TEXT, ports_file_dir, RB_CHANGE_FILES),
    LIVE("max_connections", KIND_INT64, max_connections, RB_CHANGE_CONNECTIONS),
    LIVE("max_control_line", KIND_UINT32, max_control_line, RB_CHANGE_LIMITS),
    LIVE("max_payload", KIND_UINT32, max_payload, RB_CHANGE_LIMITS),
    LIVE("ping_interval", KIND_NS, ping_interval_ns, RB_CHANGE_LIMITS),
    LIVE("ping_max", KIND_UINT32, ping_max, RB_CHANGE_LIMITS),
    LIVE("write_deadline", KIND_NS, write_deadline_ns, RB_CHANGE_LIMITS),
    LIVE("client_advertise", KIND_TEXT, client_advertise, RB_CHANGE_INFO),
};

/* ------------------------------------------------------------------ values */

static const void *at(const struct rb_config *config, const struct field *field)
{
    return (const char *)config + field->offset;
}

static int64_t number_of(const void *value, enum kind kind)
{
    bool boolean;
    int32_t int32;
    uint32_t uint32;
    int64_t int64;
    switch (kind) {
    case KIND_BOOL:
        memcpy(&boolean, value, sizeof(boolean));
        return boolean;
    case KIND_INT32:
        memcpy(&int32, value, sizeof(int32));
        return int32;
    case KIND_UINT32:
        memcpy(&uint32, value, sizeof(uint32));
        return uint32;
    case KIND_INT64:
    case KIND_UINT64:
    case KIND_NS:
        memcpy(&int64, value, sizeof(int64));
        return int64;
    case KIND_TEXT:
        break;
    }
    rb_unreachable("texts are no numbers");
}

static bool same(const struct field *field, const struct rb_config *a, const struct rb_config *b)
{
    if (field->kind == KIND_TEXT) {
        return strcmp(at(a, field), at(b, field)) == 0;
    }
    return number_of(at(a, field), field->kind) == number_of(at(b, field), field->kind);
}

/** As Go prints it. */
static const char *show(const struct field *field, const struct rb_config *config, char *out,
                        size_t cap)
{
    char duration[RB_DURATION_TEXT_MAX];
    int64_t number = field->kind == KIND_TEXT ? 0 : number_of(at(config, field), field->kind);
    switch (field->kind) {
    case KIND_TEXT:
        snprintf(out, cap, "%.256s", (const char *)at(config, field));
        break;
    case KIND_BOOL:
        snprintf(out, cap, "%s", number != 0 ? "true" : "false");
        break;
    case KIND_NS:
        snprintf(out, cap, "%s", rb_config_show_duration(number, duration));
        break;
    case KIND_UINT64:
        snprintf(out, cap, "%" PRIu64, (uint64_t)number);
        break;
    default:
        snprintf(out, cap, "%" PRId64, number);
        break;
    }
    return out;
}

static bool same_string(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same_strings(const char *const *a, uint32_t a_count, const char *const *b,
                         uint32_t b_count)
{
    bool equal = a_count == b_count;
    for (uint32_t i = 0; i < a_count && equal; i++) {
        equal = strcmp(a[i], b[i]) == 0;
    }
    return equal;
}

static bool same_pairs(const struct rb_text_pair *a, uint32_t a_count, const struct rb_text_pair *b,
                       uint32_t b_count)
{
    bool equal = a_count == b_count;
    for (uint32_t i = 0; i < a_count && equal; i++) {
        equal = strcmp(a[i].key, b[i].key) == 0 && strcmp(a[i].value, b[i].value) == 0;
    }
    return equal;
}

/* ------------------------------------------------------------------ refusals */

__attribute__((format(printf, 2, 3))) static bool refuse(char *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = snprintf(error, RB_CONFIG_ERROR_MAX, "config reload not supported for ");
    vsnprintf(error + len, RB_CONFIG_ERROR_MAX - (size_t)len, format, args);
    va_end(args);
    return false;
}

/** A port of -1 stays the one that was found, as long as the file goes on asking for any. */
static bool check_fields(const struct rb_config *a, const struct rb_config *b, char *error)
{
    char old[300], new[300];
    for (size_t i = 0; i < sizeof(fixed_fields) / sizeof(fixed_fields[0]); i++) {
        const struct field *field = &fixed_fields[i];
        if (!same(field, a, b)) {
            const char *a_text = show(field, a, old, sizeof(old));
            const char *b_text = show(field, b, new, sizeof(new));
            bool base = field->offset == offsetof(struct rb_config, http_base_path);
            return refuse(error, "%s: old=%s, new=%s", field->name,
                          base && strcmp(a_text, "/") == 0 ? "" : a_text,
                          base && strcmp(b_text, "/") == 0 ? "" : b_text);
        }
    }
    return true;
}

static bool same_pin_lists(const struct rb_tls_config *a, const struct rb_tls_config *b)
{
    return same_strings(a->pinned, a->pinned_count, b->pinned, b->pinned_count);
}

static bool same_certs(const struct rb_tls_config *a, const struct rb_tls_config *b)
{
    bool equal = a->cert_count == b->cert_count && same_string(a->cert_file, b->cert_file) &&
                 same_string(a->key_file, b->key_file) && same_string(a->ca_file, b->ca_file);
    for (uint32_t i = 0; i < a->cert_count && equal; i++) {
        equal = same_string(a->certs[i].cert_file, b->certs[i].cert_file) &&
                same_string(a->certs[i].key_file, b->certs[i].key_file);
    }
    return equal;
}

static bool same_rules(const struct rb_tls_config *a, const struct rb_tls_config *b)
{
    return a->set == b->set && a->verify == b->verify && a->map == b->map &&
           same_string(a->min_version, b->min_version) &&
           same_strings(a->ciphers, a->cipher_count, b->ciphers, b->cipher_count) &&
           same_strings(a->curves, a->curve_count, b->curves, b->curve_count);
}

static bool same_slice_login(const struct rb_policy *a, const struct rb_policy *b)
{
    const struct rb_policy_login *x = &a->websocket_login, *y = &b->websocket_login;
    return rb_slice_equal(x->user, y->user) && rb_slice_equal(x->pass, y->pass) &&
           rb_slice_equal(x->token, y->token) && x->timeout_ns == y->timeout_ns;
}

/** The name of a no_auth_user; empty: none. */
static struct rb_slice anonymous_of(const struct rb_policy *policy,
                                    const struct rb_policy_login *login)
{
    if (login->no_auth_user < 0) {
        return RB_S("");
    }
    const struct rb_policy_user *user = &policy->users[login->no_auth_user];
    return user->nkey.len > 0 ? user->nkey : user->name;
}

/** nats-server prints its whole struct here; the part that differs says more. */
static bool check_websocket(const struct rb_config *a, const struct rb_config *b, char *error)
{
    const struct rb_config_lists *x = a->lists, *y = b->lists;
    const char *part =
        a->ws_set != b->ws_set || a->ws_port != b->ws_port         ? "port"
        : strcmp(a->ws_host, b->ws_host) != 0                      ? "host"
        : strcmp(a->ws_advertise, b->ws_advertise) != 0            ? "advertise"
        : a->ws_no_tls != b->ws_no_tls                             ? "no_tls"
        : a->ws_same_origin != b->ws_same_origin                   ? "same_origin"
        : a->ws_compression != b->ws_compression                   ? "compression"
        : a->ws_handshake_timeout_ns != b->ws_handshake_timeout_ns ? "handshake_timeout"
        : a->ws_ping_interval_ns != b->ws_ping_interval_ns         ? "ping_interval"
        : !same_strings(x->ws_origins, x->ws_origin_count, y->ws_origins, y->ws_origin_count)
            ? "allowed_origins"
        : !same_pairs(x->ws_headers, x->ws_header_count, y->ws_headers, y->ws_header_count)
            ? "headers"
        : !same_string(x->ws_user_cookie, y->ws_user_cookie) ||
                !same_string(x->ws_pass_cookie, y->ws_pass_cookie) ||
                !same_string(x->ws_token_cookie, y->ws_token_cookie) ||
                !same_string(x->ws_jwt_cookie, y->ws_jwt_cookie)
            ? "cookies"
        : !same_slice_login(a->policy, b->policy) ? "authorization"
        : !rb_slice_equal(anonymous_of(a->policy, &a->policy->websocket_login),
                          anonymous_of(b->policy, &b->policy->websocket_login))
            ? "no_auth_user"
        : !same_rules(&x->websocket_tls, &y->websocket_tls) ||
                !same_certs(&x->websocket_tls, &y->websocket_tls) ||
                x->websocket_tls.timeout_ns != y->websocket_tls.timeout_ns ||
                !same_pin_lists(&x->websocket_tls, &y->websocket_tls)
            ? "tls"
            : NULL;
    if (part != NULL) {
        bool secret = strcmp(part, "authorization") == 0;
        return refuse(error, "Websocket: %s: old=%s, new=%s", part, secret ? "[REDACTED]" : "{...}",
                      secret ? "[REDACTED]" : "{...}");
    }
    return true;
}

static const char *system_of(const struct rb_policy *policy, char *out, size_t cap)
{
    struct rb_slice name =
        policy->system_account < 0 ? RB_S("") : policy->accounts[policy->system_account].name;
    snprintf(out, cap, "%.*s", rb_slice_equal(name, RB_S("$SYS")) ? 0 : RB_S_ARG(name));
    return out;
}

static bool check_policy(const struct rb_config *a, const struct rb_config *b, char *error)
{
    const struct rb_policy *x = a->policy, *y = b->policy;
    char old[256], new[256];
    struct rb_slice was = anonymous_of(x, &x->login), is = anonymous_of(y, &y->login);
    if (strcmp(system_of(x, old, sizeof(old)), system_of(y, new, sizeof(new))) != 0 &&
        new[0] != 0) {
        return refuse(error, "SystemAccount: old=%s, new=%s", old, new);
    }
    if (strcmp(old, new) != 0) {
        return refuse(error, "SystemAccount: old=%s, new=", old);
    }
    if (!rb_slice_equal(was, is)) {
        bool user_gone = is.len == 0 && rb_policy_user_by_name(y, was) == NULL &&
                         rb_policy_user_by_nkey(y, was) == NULL;
        if (!user_gone) {
            return refuse(error, "NoAuthUser: old=%.*s, new=%.*s", RB_S_ARG(was), RB_S_ARG(is));
        }
    }
    if (x->proxy_required != y->proxy_required) {
        return refuse(error, "ProxyRequired: old=%s, new=%s", x->proxy_required ? "true" : "false",
                      y->proxy_required ? "true" : "false");
    }
    return true;
}

static bool check_tls(const struct rb_config *a, const struct rb_config *b, char *error)
{
    const struct rb_tls_config *x = &a->lists->tls, *y = &b->lists->tls;
    if (x->map != y->map) {
        return refuse(error, "TLSMap: old=%s, new=%s", x->map ? "true" : "false",
                      y->map ? "true" : "false");
    }
    if (x->connection_rate_limit != y->connection_rate_limit) {
        return refuse(error, "TLSRateLimit: old=%" PRId64 ", new=%" PRId64,
                      x->connection_rate_limit, y->connection_rate_limit);
    }
    return true;
}

/** Sizes may grow while it runs, nothing else; what is off may change as it likes. */
static bool check_jetstream(const struct rb_config *a, const struct rb_config *b, char *error)
{
    const struct rb_config_jetstream *x = &a->jetstream, *y = &b->jetstream;
    const int64_t old[] = { x->max_memory, x->max_storage };
    const int64_t new[] = { y->max_memory, y->max_storage };
    if (!x->enabled) {
        return true;
    }
    if (strcmp(x->store_dir, y->store_dir) != 0) {
        return refuse(error, y->store_dir[0] == 0 ? "jetstream storage dir"
                                                  : "jetstream storage directory");
    }
    for (size_t i = 0; i < 2; i++) {
        if (old[i] == new[i] || (old[i] >= 0 && new[i] > old[i])) {
            continue;
        }
        return refuse(error, old[i] < 0   ? "jetstream dynamic max memory and store"
                             : new[i] < 0 ? "jetstream max memory and max store"
                                          : "decreasing jetstream max memory and store");
    }
    return true;
}

/* ------------------------------------------------------------------ changes */

__attribute__((format(printf, 3, 4))) static void note(struct rb_config_changes *changes,
                                                       uint32_t what, const char *format, ...)
{
    va_list args;
    rb_assert(changes->count < RB_CONFIG_CHANGES_MAX); /* one per field, at most */
    va_start(args, format);
    vsnprintf(changes->lines[changes->count++], RB_CONFIG_CHANGE_TEXT_MAX, format, args);
    va_end(args);
    changes->what |= what;
}

static void note_fields(const struct rb_config *a, const struct rb_config *b,
                        struct rb_config_changes *changes)
{
    char text[300];
    for (size_t i = 0; i < sizeof(live_fields) / sizeof(live_fields[0]); i++) {
        const struct field *field = &live_fields[i];
        if (!same(field, a, b)) {
            bool advertise = field->what == RB_CHANGE_INFO;
            note(changes, field->what, "%s: %s = %s", advertise ? "Reload" : "Reloaded",
                 field->name, show(field, b, text, sizeof(text)));
        }
    }
    if (a->no_fast_producer_stall != b->no_fast_producer_stall) {
        note(changes, 0, "Reloaded: fast producers will not be stalled"); /* they never are */
    }
}

static void note_login(const struct rb_config *a, const struct rb_config *b,
                       struct rb_config_changes *changes)
{
    if (strcmp(a->user, b->user) != 0) {
        note(changes, RB_CHANGE_AUTH, "Reloaded: authorization username");
    }
    if (strcmp(a->pass, b->pass) != 0) {
        note(changes, RB_CHANGE_AUTH, "Reloaded: authorization password");
    }
    if (strcmp(a->token, b->token) != 0) {
        note(changes, RB_CHANGE_AUTH, "Reloaded: authorization token");
    }
    if (a->auth_timeout_ns != b->auth_timeout_ns) {
        note(changes, RB_CHANGE_LIMITS, "Reloaded: authorization timeout = %g",
             (double)b->auth_timeout_ns / 1e9);
    }
    if (a->policy->nkey_count > 0 || b->policy->nkey_count > 0) {
        note(changes, RB_CHANGE_AUTH, "Reloaded: authorization nkey users");
    }
    note(changes, RB_CHANGE_AUTH, "Reloaded: accounts"); /* these two come with every reload */
    note(changes, RB_CHANGE_AUTH, "Reloaded: authorization users");
}

static void note_tls(const struct rb_tls_config *a, const struct rb_tls_config *b,
                     struct rb_config_changes *changes)
{
    char text[RB_DURATION_TEXT_MAX];
    if (b->set) {
        changes->what |=
            RB_CHANGE_TLS; /* the files are read again even when their names are the same */
    }
    if (!same_rules(a, b) || !same_certs(a, b)) {
        note(changes, RB_CHANGE_TLS, "Reloaded: tls = %s", b->set ? "enabled" : "disabled");
    }
    if (a->set && b->set && a->timeout_ns != b->timeout_ns) {
        note(changes, RB_CHANGE_TLS, "Reloaded: tls timeout = %g", (double)b->timeout_ns / 1e9);
    }
    if (a->handshake_first != b->handshake_first) {
        note(changes, RB_CHANGE_TLS, "Reloaded: Client TLS handshake first: %s",
             b->handshake_first ? "true" : "false");
    }
    if (a->handshake_first_fallback_ns != b->handshake_first_fallback_ns) {
        note(changes, RB_CHANGE_TLS, "Reloaded: Client TLS handshake first fallback delay: %s",
             rb_config_show_duration(b->handshake_first_fallback_ns, text));
    }
    if (!same_pin_lists(a, b)) {
        note(changes, RB_CHANGE_TLS, "Reloaded: %u pinned_certs", b->pinned_count);
    }
}

static void note_lists(const struct rb_config *a, const struct rb_config *b,
                       struct rb_config_changes *changes)
{
    const struct rb_config_lists *x = a->lists, *y = b->lists;
    const struct rb_policy *old = a->policy, *new = b->policy;
    if (!same_strings(x->tags, x->tag_count, y->tags, y->tag_count)) {
        note(changes, RB_CHANGE_TAGS, "Reloaded: tags");
    }
    if (!same_pairs(x->metadata, x->metadata_count, y->metadata, y->metadata_count)) {
        note(changes, RB_CHANGE_TAGS, "Reloaded: metadata");
    }
    bool proxies = old->proxy_count == new->proxy_count;
    for (uint32_t i = 0; i < old->proxy_count && proxies; i++) {
        proxies = rb_slice_equal(old->proxies[i], new->proxies[i]);
    }
    if (!proxies) {
        note(changes, RB_CHANGE_PROXIES, "Reloaded: proxies");
    }
}

static void note_jetstream(const struct rb_config *a, const struct rb_config *b,
                           struct rb_config_changes *changes)
{
    const struct rb_config_jetstream *x = &a->jetstream, *y = &b->jetstream;
    char text[RB_BYTES_TEXT_MAX];
    if (!x->enabled) {
        return;
    }
    if (x->max_memory != y->max_memory) {
        note(changes, RB_CHANGE_JETSTREAM, "Reloaded: JetStream max_mem_store = %s",
             rb_text_bytes(y->max_memory, text));
    }
    if (x->max_storage != y->max_storage) {
        note(changes, RB_CHANGE_JETSTREAM, "Reloaded: JetStream max_file_store = %s",
             rb_text_bytes(y->max_storage, text));
    }
    if (x->max_ack_pending != y->max_ack_pending || x->max_request_batch != y->max_request_batch ||
        x->duplicate_window_ns != y->duplicate_window_ns ||
        x->batch_inflight_per_stream != y->batch_inflight_per_stream ||
        x->batch_inflight_total != y->batch_inflight_total || x->batch_msgs != y->batch_msgs ||
        x->batch_timeout_ns != y->batch_timeout_ns) {
        note(changes, RB_CHANGE_JETSTREAM, "Reloaded: JetStream limits");
    }
}

enum rb_err rb_config_diff(const struct rb_config *running, const struct rb_config *wanted,
                           struct rb_config_changes *ret_changes, char error[RB_CONFIG_ERROR_MAX])
{
    rb_assert(running->policy != NULL && wanted->policy != NULL);
    error[0] = 0;
    if (!check_fields(running, wanted, error) || !check_policy(running, wanted, error) ||
        !check_tls(running, wanted, error) || !check_websocket(running, wanted, error) ||
        !check_jetstream(running, wanted, error)) {
        return RB_ERR_UNSUPPORTED;
    }
    ret_changes->what = ret_changes->count = 0;
    note_fields(running, wanted, ret_changes);
    note_lists(running, wanted, ret_changes);
    note_jetstream(running, wanted, ret_changes);
    note_tls(&running->lists->tls, &wanted->lists->tls, ret_changes);
    note_login(running, wanted, ret_changes);
    return RB_OK;
}
