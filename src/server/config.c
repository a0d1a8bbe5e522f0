/* config.c - what the keys of a configuration mean: value tree -> struct rb_config.
 *
 * 1. Every key is one of three things: an option that is in force (`options`), a name that nats-server knows
 *    and ringbus does not support yet (`unsupported`), or unknown. The last two are errors. Nothing is ignored.
 * 2. Loading goes on after an error, so that one run shows them all; the result is used only if there was none.
 * 3. A value is checked where it is read, with its position; rules between options are in rb_config_check(),
 *    which also sees what the command line changed.
 * 4. Zero means "not set" for the options where nats-server reads it so, and becomes the default.
 */
#include "server/config.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/bounds.h"
#include "ringbus/check.h"
#include "server/conf.h"

#define SECOND_NS 1000000000ull
#define PORT_DEFAULT 4222
#define PAYLOAD_DEFAULT (1024u * 1024)
#define PENDING_DEFAULT (64ull * 1024 * 1024)
#define PING_INTERVAL_DEFAULT_NS (120 * SECOND_NS)
#define PING_MAX_DEFAULT 2
#define WRITE_DEADLINE_DEFAULT_NS (10 * SECOND_NS)
#define AUTH_TIMEOUT_DEFAULT_NS (2 * SECOND_NS)
#define AUTH_TIMEOUT_LONG_NS (60 * SECOND_NS)
#define MEMORY_BUDGET_MIN (1024 * 1024)

struct messages {
    char text[RB_CONFIG_ERROR_MAX];
    size_t len;
    uint32_t count, left_out;
};

struct load {
    struct rb_config *config;
    struct messages warnings, errors;
};

typedef void (*set_option)(struct load *load, const struct rb_conf_entry *entry);

struct option {
    const char *name;
    set_option set;
};

/* ------------------------------------------------------------------ messages */

__attribute__((format(printf, 3, 0))) static void add_message(struct messages *messages,
                                                              const struct rb_conf_entry *entry,
                                                              const char *format, va_list args)
{
    char what[512], line[832];
    vsnprintf(what, sizeof(what), format, args);
    int len = snprintf(line, sizeof(line), "%.256s:%u:%u: %s\n", entry->path, entry->line,
                       entry->column, what);
    size_t bytes = (size_t)len < sizeof(line) ? (size_t)len : sizeof(line) - 1;
    messages->count++;
    if (messages->left_out > 0 || messages->len + bytes + 64 > sizeof(messages->text)) {
        messages->left_out++;
        return;
    }
    memcpy(messages->text + messages->len, line, bytes + 1);
    messages->len += bytes;
}

__attribute__((format(printf, 3, 4))) static void
add_error(struct load *load, const struct rb_conf_entry *entry, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_message(&load->errors, entry, format, args);
    va_end(args);
}

__attribute__((format(printf, 3, 4))) static void
add_warning(struct load *load, const struct rb_conf_entry *entry, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_message(&load->warnings, entry, format, args);
    va_end(args);
}

/** Warnings, then errors, then how many did not fit. */
static void write_messages(const struct load *load, char error[RB_CONFIG_ERROR_MAX])
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

/* ------------------------------------------------------------------ reading values */

/** The key as the file spells it. */
#define KEY(entry) RB_S_ARG((entry)->key)

static bool wrong_kind(struct load *load, const struct rb_conf_entry *entry, const char *wanted)
{
    add_error(load, entry, "interface conversion: interface {} is %s, not %s",
              rb_conf_kind_text(entry->value->kind), wanted);
    return false;
}

static bool read_bool(struct load *load, const struct rb_conf_entry *entry, bool *ret_value)
{
    if (entry->value->kind != RB_CONF_BOOL) {
        return wrong_kind(load, entry, rb_conf_kind_text(RB_CONF_BOOL));
    }
    *ret_value = entry->value->boolean;
    return true;
}

static bool read_int(struct load *load, const struct rb_conf_entry *entry, int64_t *ret_value)
{
    if (entry->value->kind != RB_CONF_INT) {
        return wrong_kind(load, entry, rb_conf_kind_text(RB_CONF_INT));
    }
    *ret_value = entry->value->integer;
    return true;
}

/** An integer from 0 to `max`. */
static bool read_size(struct load *load, const struct rb_conf_entry *entry, int64_t max,
                      int64_t *ret_value)
{
    int64_t value;
    if (!read_int(load, entry, &value)) {
        return false;
    }
    if (value < 0 || value > max) {
        add_error(load, entry, "%.*s value %s", KEY(entry),
                  value < 0 ? "can not be negative" : "is too big");
        return false;
    }
    *ret_value = value;
    return true;
}

static bool copy_bounded(struct load *load, const struct rb_conf_entry *entry, struct rb_slice text,
                         char *out, size_t out_cap)
{
    if (text.len >= out_cap) {
        add_error(load, entry, "%.*s is longer than %zu bytes", KEY(entry), out_cap - 1);
        return false;
    }
    if (text.len > 0 && memchr(text.ptr, 0, text.len) != NULL) {
        add_error(load, entry, "%.*s contains a zero byte", KEY(entry));
        return false;
    }
    if (text.len > 0) {
        memcpy(out, text.ptr, text.len);
    }
    out[text.len] = 0;
    return true;
}

static bool read_text(struct load *load, const struct rb_conf_entry *entry, char *out,
                      size_t out_cap)
{
    if (entry->value->kind != RB_CONF_TEXT) {
        return wrong_kind(load, entry, rb_conf_kind_text(RB_CONF_TEXT));
    }
    return copy_bounded(load, entry, entry->value->text, out, out_cap);
}

/** One "number unit" of a duration at *at; false when it is not one. Sums in long double: 64 bits of fraction. */
static bool read_duration_part(const char **at, long double *sum, const char **ret_problem)
{
    static const struct {
        const char *name;
        long double ns;
    } units[] = { { "ns", 1 },    { "us", 1e3L }, { "\xc2\xb5s", 1e3L }, { "\xce\xbcs", 1e3L },
                  { "ms", 1e6L }, { "s", 1e9L },  { "m", 60e9L },        { "h", 3600e9L } };
    const char *begin = *at;
    size_t whole = strspn(begin, "0123456789"), fraction = 0;
    const char *unit = begin + whole;
    if (*unit == '.') {
        fraction = strspn(unit + 1, "0123456789");
        unit += 1 + fraction;
    }
    size_t unit_len = strcspn(unit, ".0123456789");
    *ret_problem = whole + fraction == 0 ? "invalid" : unit_len == 0 ? "missing unit in" : NULL;
    if (*ret_problem != NULL) {
        return false;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strlen(units[i].name) == unit_len && memcmp(units[i].name, unit, unit_len) == 0) {
            *sum += strtold(begin, NULL) * units[i].ns;
            *at = unit + unit_len;
            return true;
        }
    }
    *at = unit;
    return false;
}

/** A Go duration ("1h30m", "1.5s", "-2ms"). False: `problem` says why. */
static bool parse_duration(const char *text, int64_t *ret_ns, char *problem, size_t problem_cap)
{
    const char *at = text + (*text == '-' || *text == '+');
    const char *word = *at == 0 ? "invalid" : NULL;
    long double sum = 0;
    if (strcmp(at, "0") == 0) {
        *ret_ns = 0;
        return true;
    }
    while (word == NULL && *at != 0) {
        if (!read_duration_part(&at, &sum, &word) && word == NULL) {
            snprintf(problem, problem_cap, "time: unknown unit \"%.*s\" in duration \"%.64s\"",
                     (int)(strcspn(at, ".0123456789") < 32 ? strcspn(at, ".0123456789") : 32), at,
                     text);
            return false;
        }
    }
    if (word == NULL && sum >= 9223372036854775807.0L) {
        word = "invalid";
    }
    if (word != NULL) {
        snprintf(problem, problem_cap, "time: %s duration \"%.64s\"", word, text);
        return false;
    }
    *ret_ns = *text == '-' ? -(int64_t)sum : (int64_t)sum;
    return true;
}

/** Text as a Go duration; a bare integer is seconds, with a warning. 0 gives `unset_ns`. */
static bool read_duration(struct load *load, const struct rb_conf_entry *entry, uint64_t unset_ns,
                          uint64_t *ret_ns)
{
    char text[RB_CONFIG_TEXT_MAX], problem[256];
    int64_t ns, seconds;
    if (entry->value->kind == RB_CONF_TEXT) {
        if (!read_text(load, entry, text, sizeof(text))) {
            return false;
        }
        if (!parse_duration(text, &ns, problem, sizeof(problem))) {
            add_error(load, entry, "error parsing %.*s: %s", KEY(entry), problem);
            return false;
        }
    } else {
        add_warning(load, entry,
                    "invalid use of field \"%.*s\": %.*s should be converted to a duration",
                    KEY(entry), KEY(entry));
        if (!read_int(load, entry, &seconds)) {
            return false;
        }
        if (__builtin_mul_overflow(seconds, (int64_t)SECOND_NS, &ns)) {
            add_error(load, entry, "%.*s value is too big", KEY(entry));
            return false;
        }
    }
    if (ns < 0) {
        add_error(load, entry, "%.*s value can not be negative", KEY(entry));
        return false;
    }
    *ret_ns = ns == 0 ? unset_ns : (uint64_t)ns;
    return true;
}

/* ------------------------------------------------------------------ address */

static void take_port(struct load *load, const struct rb_conf_entry *entry, int64_t port)
{
    if (port < -1 || port > UINT16_MAX) {
        add_error(load, entry, "port %" PRId64 " is not between -1 and 65535", port);
        return;
    }
    load->config->port = port == 0 ? PORT_DEFAULT : (int32_t)port;
}

static void set_port(struct load *load, const struct rb_conf_entry *entry)
{
    int64_t port;
    if (read_int(load, entry, &port)) {
        take_port(load, entry, port);
    }
}

static void take_host(struct load *load, const struct rb_conf_entry *entry, struct rb_slice host)
{
    struct rb_slice any = RB_S("0.0.0.0");
    (void)copy_bounded(load, entry, host.len == 0 ? any : host, load->config->host,
                       sizeof(load->config->host));
}

static void set_host(struct load *load, const struct rb_conf_entry *entry)
{
    if (entry->value->kind != RB_CONF_TEXT) {
        (void)wrong_kind(load, entry, rb_conf_kind_text(RB_CONF_TEXT));
        return;
    }
    take_host(load, entry, entry->value->text);
}

/** "host:port", "[v6]:port", ":port". False when the colons are not where they must be. */
static bool split_host_port(const char *text, struct rb_slice *ret_host, const char **ret_port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return false;
    }
    *ret_host = rb_slice_of(text, (size_t)(colon - text));
    *ret_port = colon + 1;
    if (text[0] == '[') {
        bool closed = colon > text && colon[-1] == ']';
        *ret_host = rb_slice_of(text + 1, closed ? (size_t)(colon - text) - 2 : 0);
        return closed && memchr(ret_host->ptr, ']', ret_host->len) == NULL;
    }
    return memchr(text, ':', ret_host->len) == NULL && strpbrk(text, "[]") == NULL;
}

static bool parse_port(const char *text, int64_t *ret_port)
{
    char *end;
    size_t digits = strspn(text + (*text == '-'), "0123456789");
    if (digits == 0 || digits > 9) {
        return false;
    }
    *ret_port = strtoll(text, &end, 10);
    return *end == 0;
}

static void set_listen(struct load *load, const struct rb_conf_entry *entry)
{
    char text[RB_CONFIG_TEXT_MAX + 16];
    struct rb_slice host;
    const char *port_text;
    int64_t port;
    if (entry->value->kind == RB_CONF_INT) {
        take_port(load, entry, entry->value->integer);
    } else if (entry->value->kind != RB_CONF_TEXT) {
        add_error(load, entry, "expected port or host:port, got %s",
                  rb_conf_kind_text(entry->value->kind));
    } else if (read_text(load, entry, text, sizeof(text))) {
        if (!split_host_port(text, &host, &port_text)) {
            add_error(load, entry, "could not parse address string \"%s\"", text);
        } else if (!parse_port(port_text, &port)) {
            add_error(load, entry, "could not parse port \"%s\"", port_text);
        } else {
            take_port(load, entry, port);
            take_host(load, entry, host);
        }
    }
}

static void set_client_advertise(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_text(load, entry, load->config->client_advertise,
                    sizeof(load->config->client_advertise));
}

static void set_server_name(struct load *load, const struct rb_conf_entry *entry)
{
    char name[RB_CONFIG_TEXT_MAX];
    if (!read_text(load, entry, name, sizeof(name))) {
        return;
    }
    if (strchr(name, ' ') != NULL) {
        add_error(load, entry, "server name cannot contain spaces");
        return;
    }
    memcpy(load->config->server_name, name, sizeof(name));
}

/* ------------------------------------------------------------------ logging and files */

static void set_debug(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_bool(load, entry, &load->config->debug);
}

static void set_trace(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_bool(load, entry, &load->config->trace);
}

static void set_logtime(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_bool(load, entry, &load->config->logtime);
}

static void set_logtime_utc(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_bool(load, entry, &load->config->logtime_utc);
}

static void set_log_file(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_text(load, entry, load->config->log_file, sizeof(load->config->log_file));
}

static void set_pid_file(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_text(load, entry, load->config->pid_file, sizeof(load->config->pid_file));
}

static void set_max_traced_msg_len(struct load *load, const struct rb_conf_entry *entry)
{
    int64_t bytes;
    if (!read_int(load, entry, &bytes)) {
        return;
    }
    if (bytes > INT32_MAX) {
        add_error(load, entry, "%.*s value is too big", KEY(entry));
        return;
    }
    load->config->max_traced_msg_bytes = bytes < 0 ? 0 : (uint32_t)bytes; /* below 0: all, as 0 */
}

/* ------------------------------------------------------------------ limits */

static void set_max_connections(struct load *load, const struct rb_conf_entry *entry)
{
    int64_t count;
    if (read_int(load, entry, &count)) {
        load->config->max_connections = count <= 0 ? -1 : count;
    }
}

static void set_max_subscriptions(struct load *load, const struct rb_conf_entry *entry)
{
    int64_t count;
    if (!read_int(load, entry, &count)) {
        return;
    }
    if (count > UINT32_MAX) {
        add_error(load, entry, "%.*s value is too big", KEY(entry));
        return;
    }
    load->config->max_subscriptions = count < 0 ? 0 : (uint32_t)count; /* below 0: no limit, as 0 */
}

static void set_max_sub_tokens(struct load *load, const struct rb_conf_entry *entry)
{
    int64_t count;
    if (!read_int(load, entry, &count)) {
        return;
    }
    if (count < 1 || count > UINT8_MAX) {
        add_error(load, entry, "%.*s value %s", KEY(entry),
                  count < 1 ? "can not be negative" : "is too big");
        return;
    }
    load->config->max_sub_tokens = (uint32_t)count;
}

static void set_max_control_line(struct load *load, const struct rb_conf_entry *entry)
{
    int64_t bytes;
    if (read_size(load, entry, INT32_MAX, &bytes)) {
        load->config->max_control_line = bytes == 0 ? RB_CONTROL_LINE_DEFAULT : (uint32_t)bytes;
    }
}

static void set_max_payload(struct load *load, const struct rb_conf_entry *entry)
{
    int64_t bytes;
    if (read_size(load, entry, INT32_MAX, &bytes)) {
        load->config->max_payload = bytes == 0 ? PAYLOAD_DEFAULT : (uint32_t)bytes;
    }
}

static void set_max_pending(struct load *load, const struct rb_conf_entry *entry)
{
    int64_t bytes;
    if (read_size(load, entry, INT64_MAX, &bytes)) {
        load->config->max_pending_bytes = bytes == 0 ? PENDING_DEFAULT : (uint64_t)bytes;
    }
}

static void set_ping_interval(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_duration(load, entry, PING_INTERVAL_DEFAULT_NS, &load->config->ping_interval_ns);
}

static void set_ping_max(struct load *load, const struct rb_conf_entry *entry)
{
    int64_t count;
    if (read_size(load, entry, INT32_MAX, &count)) {
        load->config->ping_max = count == 0 ? PING_MAX_DEFAULT : (uint32_t)count;
    }
}

static void set_write_deadline(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_duration(load, entry, WRITE_DEADLINE_DEFAULT_NS, &load->config->write_deadline_ns);
}

static void set_write_timeout(struct load *load, const struct rb_conf_entry *entry)
{
    char policy[RB_CONFIG_TEXT_MAX];
    if (!read_text(load, entry, policy, sizeof(policy))) {
        return;
    }
    if (strcmp(policy, "retry") == 0) {
        add_error(load, entry,
                  "option \"%.*s\" with the value \"retry\" is not supported by ringbus yet",
                  KEY(entry));
    } else if (strcmp(policy, "default") != 0 && strcmp(policy, "close") != 0) {
        add_error(load, entry, "%.*s must be 'default', 'close' or 'retry'", KEY(entry));
    }
}

static void set_no_fast_producer_stall(struct load *load, const struct rb_conf_entry *entry)
{
    bool never_stall;
    if (read_bool(load, entry, &never_stall) && !never_stall) {
        add_error(load, entry,
                  "option \"%.*s\" can not be false: ringbus never stalls a publisher, a receiver "
                  "that falls behind is disconnected",
                  KEY(entry));
    }
}

static void set_no_header_support(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_bool(load, entry, &load->config->no_header_support);
}

/* ------------------------------------------------------------------ authorization */

static bool is_bcrypt(const char *secret)
{
    return strncmp(secret, "$2a$", 4) == 0 || strncmp(secret, "$2b$", 4) == 0 ||
           strncmp(secret, "$2x$", 4) == 0 || strncmp(secret, "$2y$", 4) == 0;
}

static void read_secret(struct load *load, const struct rb_conf_entry *entry,
                        char out[RB_CONFIG_TEXT_MAX])
{
    char secret[RB_CONFIG_TEXT_MAX];
    if (!read_text(load, entry, secret, sizeof(secret))) {
        return;
    }
    if (is_bcrypt(secret)) {
        add_error(load, entry,
                  "option \"%.*s\" with a bcrypt value is not supported by ringbus yet",
                  KEY(entry));
        return;
    }
    memcpy(out, secret, sizeof(secret));
}

static void set_user(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_text(load, entry, load->config->user, sizeof(load->config->user));
}

static void set_pass(struct load *load, const struct rb_conf_entry *entry)
{
    read_secret(load, entry, load->config->pass);
}

static void set_token(struct load *load, const struct rb_conf_entry *entry)
{
    read_secret(load, entry, load->config->token);
}

static bool read_auth_timeout(struct load *load, const struct rb_conf_entry *entry,
                              double *ret_seconds, char *shown, size_t shown_cap)
{
    char text[RB_CONFIG_TEXT_MAX], problem[256];
    int64_t ns;
    switch (entry->value->kind) {
    case RB_CONF_INT:
        *ret_seconds = (double)entry->value->integer;
        snprintf(shown, shown_cap, "%" PRId64, entry->value->integer);
        return true;
    case RB_CONF_FLOAT:
        *ret_seconds = entry->value->real;
        snprintf(shown, shown_cap, "%g", entry->value->real);
        return true;
    case RB_CONF_TEXT:
        if (!read_text(load, entry, text, sizeof(text))) {
            return false;
        }
        if (!parse_duration(text, &ns, problem, sizeof(problem))) {
            add_error(load, entry, "error parsing authorization config, 'timeout' %s", problem);
            return false;
        }
        *ret_seconds = (double)ns / 1e9;
        snprintf(shown, shown_cap, "%.63s", text);
        return true;
    default:
        add_error(load, entry, "error parsing authorization config, 'timeout' wrong type");
        return false;
    }
}

static void set_auth_timeout(struct load *load, const struct rb_conf_entry *entry)
{
    char shown[64];
    double seconds;
    if (!read_auth_timeout(load, entry, &seconds, shown, sizeof(shown))) {
        return;
    }
    if (!(seconds >= 0 && seconds < 1e9)) {
        add_error(load, entry, "%.*s value %s", KEY(entry),
                  seconds < 0 ? "can not be negative" : "is too big");
        return;
    }
    uint64_t ns = (uint64_t)(seconds * 1e9);
    if (ns > AUTH_TIMEOUT_LONG_NS) {
        add_warning(load, entry,
                    "invalid use of field \"%.*s\": timeout of %s (%f seconds) is high, consider "
                    "keeping it under 60 seconds. possibly caused by unquoted duration; use '1m' "
                    "instead of 1m, for example",
                    KEY(entry), shown, seconds);
    }
    load->config->auth_timeout_ns = ns == 0 ? AUTH_TIMEOUT_DEFAULT_NS : ns;
}

static void set_options(struct load *load, const struct rb_conf_value *map,
                        const struct option *options, const char *const *unsupported);

static void set_authorization(struct load *load, const struct rb_conf_entry *entry)
{
    static const struct option options[] = {
        { "user", set_user },   { "username", set_user },        { "pass", set_pass },
        { "token", set_token }, { "timeout", set_auth_timeout }, { "password", set_pass },
        { NULL, NULL },
    };
    static const char *const unsupported[] = {
        "users",        "default_permissions", "default_permission", "permissions",
        "auth_callout", "auth_hook",           "proxy_required",     NULL,
    };
    if (entry->value->kind != RB_CONF_MAP) {
        (void)wrong_kind(load, entry, rb_conf_kind_text(RB_CONF_MAP));
        return;
    }
    struct rb_config *config = load->config;
    config->user[0] = config->pass[0] = config->token[0] = 0;
    set_options(load, entry->value, options, unsupported);
    if ((config->user[0] != 0 || config->pass[0] != 0) && config->token[0] != 0) {
        add_error(load, entry, "Cannot have a user/pass and token");
    }
}

/* ------------------------------------------------------------------ ringbus's own */

static void set_pin_shards(struct load *load, const struct rb_conf_entry *entry)
{
    (void)read_bool(load, entry, &load->config->pin_shards);
}

static void set_shards(struct load *load, const struct rb_conf_entry *entry)
{
    int64_t count;
    if (!read_int(load, entry, &count)) {
        return;
    }
    if (count < 1 || count > RB_SHARDS_MAX) {
        add_error(load, entry, "%.*s %" PRId64 " is not between 1 and %d", KEY(entry), count,
                  RB_SHARDS_MAX);
        return;
    }
    load->config->shards = (uint32_t)count;
}

static void set_transport(struct load *load, const struct rb_conf_entry *entry)
{
    char name[RB_CONFIG_TEXT_MAX];
    if (entry->value->kind == RB_CONF_MAP) {
        add_error(load, entry, "option \"%.*s\" as a block is not supported by ringbus yet",
                  KEY(entry));
    } else if (read_text(load, entry, name, sizeof(name))) {
        if (strcmp(name, "uring") != 0) {
            add_error(load, entry, "transport \"%s\" is not supported by ringbus yet", name);
            return;
        }
        snprintf(load->config->transport, sizeof(load->config->transport), "uring");
    }
}

static void set_memory_budget(struct load *load, const struct rb_conf_entry *entry)
{
    int64_t bytes;
    if (!read_size(load, entry, INT64_MAX, &bytes)) {
        return;
    }
    if (bytes < MEMORY_BUDGET_MIN) {
        add_error(load, entry, "%.*s must be at least %d bytes", KEY(entry), MEMORY_BUDGET_MIN);
        return;
    }
    load->config->memory_budget_bytes = (uint64_t)bytes;
}

/* ------------------------------------------------------------------ the names */

static const struct option top_options[] = {
    { "listen", set_listen },
    { "port", set_port },
    { "host", set_host },
    { "net", set_host },
    { "client_advertise", set_client_advertise },
    { "server_name", set_server_name },
    { "debug", set_debug },
    { "trace", set_trace },
    { "logtime", set_logtime },
    { "logtime_utc", set_logtime_utc },
    { "log_file", set_log_file },
    { "logfile", set_log_file },
    { "pid_file", set_pid_file },
    { "pidfile", set_pid_file },
    { "max_traced_msg_len", set_max_traced_msg_len },
    { "max_connections", set_max_connections },
    { "max_conn", set_max_connections },
    { "max_subscriptions", set_max_subscriptions },
    { "max_subs", set_max_subscriptions },
    { "max_sub_tokens", set_max_sub_tokens },
    { "max_subscription_tokens", set_max_sub_tokens },
    { "max_control_line", set_max_control_line },
    { "max_payload", set_max_payload },
    { "max_pending", set_max_pending },
    { "ping_interval", set_ping_interval },
    { "ping_max", set_ping_max },
    { "write_deadline", set_write_deadline },
    { "write_timeout", set_write_timeout },
    { "no_header_support", set_no_header_support },
    { "no_fast_producer_stall", set_no_fast_producer_stall },
    { "authorization", set_authorization },
    { "pin_shards", set_pin_shards },
    { "shards", set_shards },
    { "transport", set_transport },
    { "memory_budget", set_memory_budget },
    { NULL, NULL },
};

/** Names that nats-server 2.15 knows and that change what it does. */
static const char *const top_unsupported[] = {
    "server_tags",
    "server_metadata",
    "feature_flags",
    "trace_verbose",
    "trace_headers",
    "log_size_limit",
    "logfile_size_limit",
    "log_max_num",
    "logfile_max_num",
    "syslog",
    "remote_syslog",
    "ports_file_dir",
    "http",
    "http_port",
    "monitor_port",
    "https",
    "https_port",
    "http_base_path",
    "prof_port",
    "prof_block_rate",
    "max_closed_clients",
    "lame_duck_duration",
    "lame_duck_grace_period",
    "proxy_protocol",
    "proxies",
    "disable_sublist_cache",
    "no_sublist_cache",
    "connect_error_reports",
    "reconnect_error_reports",
    "tls",
    "allow_non_tls",
    "ocsp",
    "ocsp_cache",
    "accounts",
    "mappings",
    "maps",
    "no_auth_user",
    "system_account",
    "system",
    "no_system_account",
    "no_system",
    "no_sys_acc",
    "default_sentinel",
    "operator",
    "operators",
    "root",
    "roots",
    "root_operator",
    "root_operators",
    "trusted_keys",
    "trusted",
    "resolver",
    "account_resolver",
    "accounts_resolver",
    "resolver_tls",
    "resolver_preload",
    "resolver_pinned_accounts",
    "cluster",
    "gateway",
    "leafnodes",
    "leaf",
    "jetstream",
    "websocket",
    "ws",
    "mqtt",
    "store_dir",
    "storedir",
    "default_js_domain",
    NULL,
};

static void set_one(struct load *load, const struct rb_conf_entry *entry,
                    const struct option *options, const char *const *unsupported)
{
    for (const struct option *option = options; option->name != NULL; option++) {
        if (rb_slice_equal_fold(entry->key, rb_slice_text(option->name))) {
            option->set(load, entry);
            return;
        }
    }
    for (const char *const *name = unsupported; *name != NULL; name++) {
        if (rb_slice_equal_fold(entry->key, rb_slice_text(*name))) {
            add_error(load, entry, "option \"%.*s\" is not supported by ringbus yet", KEY(entry));
            return;
        }
    }
    if (!entry->is_variable) {
        uint8_t shown[128];
        size_t len = rb_format_quoted(shown, sizeof(shown), entry->key);
        add_error(load, entry, "unknown field \"%.*s\"", (int)len, (const char *)shown);
    }
}

static void set_options(struct load *load, const struct rb_conf_value *map,
                        const struct option *options, const char *const *unsupported)
{
    for (const struct rb_conf_entry *entry = map->map.first; entry != NULL; entry = entry->next) {
        set_one(load, entry, options, unsupported);
    }
}

/* ------------------------------------------------------------------ entry points */

void rb_config_defaults(struct rb_config *config)
{
    *config = (struct rb_config){
        .host = "0.0.0.0",
        .port = PORT_DEFAULT,
        .transport = "uring",
        .logtime = true,
        .max_connections = 65536,
        .max_control_line = RB_CONTROL_LINE_DEFAULT,
        .max_payload = PAYLOAD_DEFAULT,
        .max_pending_bytes = PENDING_DEFAULT,
        .ping_interval_ns = PING_INTERVAL_DEFAULT_NS,
        .ping_max = PING_MAX_DEFAULT,
        .write_deadline_ns = WRITE_DEADLINE_DEFAULT_NS,
        .auth_timeout_ns = AUTH_TIMEOUT_DEFAULT_NS,
    };
}

/** Gives the tree's meaning to a copy of *config, and the copy to *config if there was no error. */
static enum rb_err apply(struct rb_config *config, const char *file, struct rb_conf *conf,
                         char error[RB_CONFIG_ERROR_MAX])
{
    struct rb_config changed = *config;
    struct load load = { .config = &changed };
    if (file != NULL) {
        snprintf(changed.config_file, sizeof(changed.config_file), "%s", file);
    }
    enum rb_err err = rb_conf_digest(conf, changed.config_digest);
    if (err != RB_OK) {
        snprintf(error, RB_CONFIG_ERROR_MAX, "out of memory while reading the configuration");
        return err;
    }
    set_options(&load, conf->root, top_options, top_unsupported);
    write_messages(&load, error);
    if (load.errors.count > 0) {
        return RB_ERR_INVALID;
    }
    *config = changed;
    return RB_OK;
}

enum rb_err rb_config_load_text(struct rb_config *config, const char *path, struct rb_slice text,
                                char error[RB_CONFIG_ERROR_MAX])
{
    struct rb_conf conf;
    error[0] = 0;
    enum rb_err err = rb_conf_parse(path, text, &conf, error, RB_CONFIG_ERROR_MAX);
    if (err != RB_OK) {
        return err;
    }
    err = apply(config, NULL, &conf, error);
    rb_conf_deinit(&conf);
    return err;
}

enum rb_err rb_config_load_file(struct rb_config *config, const char *path,
                                char error[RB_CONFIG_ERROR_MAX])
{
    struct rb_conf conf;
    error[0] = 0;
    if (strlen(path) >= sizeof(config->config_file)) {
        snprintf(error, RB_CONFIG_ERROR_MAX,
                 "path of the configuration file is longer than %zu bytes",
                 sizeof(config->config_file) - 1);
        return RB_ERR_INVALID;
    }
    enum rb_err err = rb_conf_parse_file(path, &conf, error, RB_CONFIG_ERROR_MAX);
    if (err != RB_OK) {
        return err;
    }
    err = apply(config, path, &conf, error);
    rb_conf_deinit(&conf);
    return err;
}

static bool is_advertisable(const char *text)
{
    struct rb_slice host = rb_slice_text(text);
    const char *port_text;
    int64_t port = 0;
    if (strchr(text, ':') == NULL) {
        return strchr(text, ' ') == NULL; /* the port is the server's own */
    }
    return split_host_port(text, &host, &port_text) && parse_port(port_text, &port) &&
           host.len > 0 && port >= 0 && port <= UINT16_MAX;
}

enum rb_err rb_config_check(const struct rb_config *config, char error[RB_CONFIG_ERROR_MAX])
{
    error[0] = 0;
    if (config->max_payload > config->max_pending_bytes) {
        snprintf(error, RB_CONFIG_ERROR_MAX,
                 "max_payload (%u) cannot be higher than max_pending (%" PRIu64 ")",
                 config->max_payload, config->max_pending_bytes);
    } else if (strchr(config->server_name, ' ') != NULL) {
        snprintf(error, RB_CONFIG_ERROR_MAX, "server name cannot contain spaces");
    } else if (config->client_advertise[0] != 0 && !is_advertisable(config->client_advertise)) {
        snprintf(error, RB_CONFIG_ERROR_MAX, "client_advertise \"%s\" is not host:port",
                 config->client_advertise);
    } else if (config->port < -1 || config->port > UINT16_MAX) {
        snprintf(error, RB_CONFIG_ERROR_MAX, "port %d is not between -1 and 65535", config->port);
    } else if (config->shards > RB_SHARDS_MAX) {
        snprintf(error, RB_CONFIG_ERROR_MAX, "shards %u is not between 1 and %d", config->shards,
                 RB_SHARDS_MAX);
    } else if (is_bcrypt(config->pass) || is_bcrypt(config->token)) {
        snprintf(error, RB_CONFIG_ERROR_MAX,
                 "a password or token with a bcrypt value is not supported by ringbus yet");
    } else if (strcmp(config->transport, "uring") != 0) {
        snprintf(error, RB_CONFIG_ERROR_MAX, "transport \"%s\" is not supported by ringbus yet",
                 config->transport);
    }
    return error[0] == 0 ? RB_OK : RB_ERR_INVALID;
}
