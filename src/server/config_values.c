/* config_values.c - reading one typed value: errors with their place, numbers, texts, durations, addresses.
 *
 * 1. A reader that returns false has added an error; its output is unchanged then.
 * 2. Texts that stay are copied into the policy's arena, each with a NUL behind it; a zero byte inside is an error.
 */
#include "server/config_load.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ messages */

__attribute__((format(printf, 3, 0))) static void add_message(struct rb_load_messages *messages,
                                                              const struct rb_conf_entry *entry,
                                                              const char *format, va_list args)
{
    char what[512], line[832];
    vsnprintf(what, sizeof(what), format, args);
    for (char *at = what; *at != 0; at++) { /* names from the text may hold anything */
        *at = (unsigned char)*at < ' ' || *at == 0x7f ? '?' : *at;
    }
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

__attribute__((format(printf, 3, 4))) void
rb_load_error(struct rb_load *load, const struct rb_conf_entry *entry, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_message(&load->errors, entry, format, args);
    va_end(args);
}

__attribute__((format(printf, 3, 4))) void
rb_load_warning(struct rb_load *load, const struct rb_conf_entry *entry, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_message(&load->warnings, entry, format, args);
    va_end(args);
}

void rb_load_refuse(struct rb_load *load, const struct rb_conf_entry *entry)
{
    rb_load_error(load, entry, "option \"%.*s\" is not supported by ringbus yet", RB_KEY(entry));
}

void rb_load_unknown(struct rb_load *load, const struct rb_conf_entry *entry)
{
    if (!entry->is_variable) {
        uint8_t shown[128];
        size_t len = rb_format_quoted(shown, sizeof(shown), entry->key);
        rb_load_error(load, entry, "unknown field \"%.*s\"", (int)len, (const char *)shown);
    }
}

const char *rb_load_show(const struct rb_conf_value *value, char out[RB_SHOWN_MAX])
{
    if (value->kind == RB_CONF_TEXT) {
        uint8_t quoted[48];
        size_t len = rb_format_quoted(quoted, sizeof(quoted), value->text);
        snprintf(out, RB_SHOWN_MAX, "%.*s", (int)len, (const char *)quoted);
    } else if (value->kind == RB_CONF_INT) {
        snprintf(out, RB_SHOWN_MAX, "%lld", (long long)value->integer);
    } else if (value->kind == RB_CONF_FLOAT) {
        snprintf(out, RB_SHOWN_MAX, "%g", value->real);
    } else if (value->kind == RB_CONF_BOOL) {
        snprintf(out, RB_SHOWN_MAX, "%s", value->boolean ? "true" : "false");
    } else {
        snprintf(out, RB_SHOWN_MAX, "%s", rb_conf_kind_text(value->kind));
    }
    return out;
}

/* ------------------------------------------------------------------ memory */

void *rb_load_take(struct rb_load *load, size_t bytes)
{
    void *ptr = rb_arena_take(load->arena, bytes == 0 ? 1 : bytes);
    load->out_of_memory |= ptr == NULL;
    return ptr;
}

struct rb_slice rb_load_copy(struct rb_load *load, struct rb_slice text)
{
    char *copy = rb_load_take(load, text.len + 1);
    if (copy == NULL) {
        return RB_S("");
    }
    if (text.len > 0) {
        memcpy(copy, text.ptr, text.len);
    }
    return rb_slice_of(copy, text.len);
}

struct rb_conf_entry rb_load_item(const struct rb_conf_entry *array,
                                  const struct rb_conf_item *item)
{
    return (struct rb_conf_entry){ .key = array->key,
                                   .value = item->value,
                                   .path = item->path,
                                   .line = item->line,
                                   .column = item->column };
}

/* ------------------------------------------------------------------ simple values */

bool rb_load_kind(struct rb_load *load, const struct rb_conf_entry *entry, enum rb_conf_kind kind)
{
    if (entry->value->kind != kind) {
        rb_load_error(load, entry, "interface conversion: interface {} is %s, not %s",
                      rb_conf_kind_text(entry->value->kind), rb_conf_kind_text(kind));
        return false;
    }
    return true;
}

bool rb_load_bool(struct rb_load *load, const struct rb_conf_entry *entry, bool *ret_value)
{
    if (!rb_load_kind(load, entry, RB_CONF_BOOL)) {
        return false;
    }
    *ret_value = entry->value->boolean;
    return true;
}

bool rb_load_int(struct rb_load *load, const struct rb_conf_entry *entry, int64_t *ret_value)
{
    if (!rb_load_kind(load, entry, RB_CONF_INT)) {
        return false;
    }
    *ret_value = entry->value->integer;
    return true;
}

bool rb_load_size(struct rb_load *load, const struct rb_conf_entry *entry, int64_t max,
                  int64_t *ret_value)
{
    int64_t value;
    if (!rb_load_int(load, entry, &value)) {
        return false;
    }
    if (value < 0 || value > max) {
        rb_load_error(load, entry, "%.*s value %s", RB_KEY(entry),
                      value < 0 ? "can not be negative" : "is too big");
        return false;
    }
    *ret_value = value;
    return true;
}

static bool is_plain(struct rb_load *load, const struct rb_conf_entry *entry, struct rb_slice text)
{
    if (text.len > 0 && memchr(text.ptr, 0, text.len) != NULL) {
        rb_load_error(load, entry, "%.*s contains a zero byte", RB_KEY(entry));
        return false;
    }
    return true;
}

static bool copy_bounded(struct rb_load *load, const struct rb_conf_entry *entry,
                         struct rb_slice text, char *out, size_t cap)
{
    if (text.len >= cap) {
        rb_load_error(load, entry, "%.*s is longer than %zu bytes", RB_KEY(entry), cap - 1);
        return false;
    }
    if (!is_plain(load, entry, text)) {
        return false;
    }
    if (text.len > 0) {
        memcpy(out, text.ptr, text.len);
    }
    out[text.len] = 0;
    return true;
}

bool rb_load_text(struct rb_load *load, const struct rb_conf_entry *entry, char *out, size_t cap)
{
    return rb_load_kind(load, entry, RB_CONF_TEXT) &&
           copy_bounded(load, entry, entry->value->text, out, cap);
}

bool rb_load_slice(struct rb_load *load, const struct rb_conf_entry *entry,
                   struct rb_slice *ret_text)
{
    if (!rb_load_kind(load, entry, RB_CONF_TEXT) || !is_plain(load, entry, entry->value->text)) {
        return false;
    }
    *ret_text = rb_load_copy(load, entry->value->text);
    return true;
}

bool rb_load_strings(struct rb_load *load, const struct rb_conf_entry *entry,
                     const char ***ret_strings, uint32_t *ret_count)
{
    uint32_t count = entry->value->kind == RB_CONF_ARRAY ? entry->value->count : 1, at = 0;
    const char **strings = rb_load_take(load, count * sizeof(*strings));
    struct rb_slice text;
    if (strings == NULL) {
        return false;
    }
    if (entry->value->kind != RB_CONF_ARRAY) {
        if (!rb_load_slice(load, entry, &text)) {
            return false;
        }
        strings[at++] = (const char *)text.ptr;
    } else {
        for (const struct rb_conf_item *i = entry->value->array.first; i != NULL; i = i->next) {
            struct rb_conf_entry item = rb_load_item(entry, i);
            if (!rb_load_slice(load, &item, &text)) {
                return false;
            }
            strings[at++] = (const char *)text.ptr;
        }
    }
    *ret_strings = strings;
    *ret_count = at;
    return true;
}

bool rb_load_percent_text(struct rb_slice text, int64_t *ret_percent)
{
    size_t len = text.len > 0 && text.ptr[text.len - 1] == '%' ? text.len - 1 : text.len;
    uint64_t value;
    if (!rb_slice_decimal(rb_slice_of(text.ptr, len), 9, &value)) {
        return false;
    }
    *ret_percent = (int64_t)value;
    return true;
}

/* ------------------------------------------------------------------ durations */

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
bool rb_config_parse_duration(const char *text, int64_t *ret_ns, char *problem, size_t problem_cap)
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

bool rb_load_duration(struct rb_load *load, const struct rb_conf_entry *entry, uint64_t unset_ns,
                      uint64_t *ret_ns)
{
    char text[RB_CONFIG_TEXT_MAX], problem[256];
    int64_t ns, seconds;
    if (entry->value->kind == RB_CONF_TEXT) {
        if (!rb_load_text(load, entry, text, sizeof(text))) {
            return false;
        }
        if (!rb_config_parse_duration(text, &ns, problem, sizeof(problem))) {
            rb_load_error(load, entry, "error parsing %.*s: %s", RB_KEY(entry), problem);
            return false;
        }
    } else {
        rb_load_warning(load, entry,
                        "invalid use of field \"%.*s\": %.*s should be converted to a duration",
                        RB_KEY(entry), RB_KEY(entry));
        if (!rb_load_int(load, entry, &seconds)) {
            return false;
        }
        if (__builtin_mul_overflow(seconds, (int64_t)RB_SECOND_NS, &ns)) {
            rb_load_error(load, entry, "%.*s value is too big", RB_KEY(entry));
            return false;
        }
    }
    if (ns < 0) {
        rb_load_error(load, entry, "%.*s value can not be negative", RB_KEY(entry));
        return false;
    }
    *ret_ns = ns == 0 ? unset_ns : (uint64_t)ns;
    return true;
}

/** Seconds as they were written, and as text for the warning. */
static bool read_seconds(struct rb_load *load, const struct rb_conf_entry *entry, const char *what,
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
        if (!rb_load_text(load, entry, text, sizeof(text))) {
            return false;
        }
        if (!rb_config_parse_duration(text, &ns, problem, sizeof(problem))) {
            rb_load_error(load, entry, "%s, 'timeout' %s", what, problem);
            return false;
        }
        *ret_seconds = (double)ns / 1e9;
        snprintf(shown, shown_cap, "%.63s", text);
        return true;
    default:
        rb_load_error(load, entry, "%s, 'timeout' wrong type", what);
        return false;
    }
}

bool rb_load_timeout(struct rb_load *load, const struct rb_conf_entry *entry, const char *what,
                     bool warn_long, int64_t *ret_ns)
{
    char shown[64];
    double seconds;
    if (!read_seconds(load, entry, what, &seconds, shown, sizeof(shown))) {
        return false;
    }
    if (!(seconds >= 0 && seconds < 1e9)) {
        rb_load_error(load, entry, "%.*s value %s", RB_KEY(entry),
                      seconds < 0 ? "can not be negative" : "is too big");
        return false;
    }
    if (warn_long && seconds > 60) {
        rb_load_warning(load, entry,
                        "invalid use of field \"%.*s\": timeout of %s (%f seconds) is high, "
                        "consider keeping it under 60 seconds. possibly caused by unquoted "
                        "duration; use '1m' instead of 1m, for example",
                        RB_KEY(entry), shown, seconds);
    }
    *ret_ns = (int64_t)(seconds * 1e9);
    return true;
}

const char *rb_config_show_duration(int64_t ns, char out[RB_DURATION_TEXT_MAX])
{
    uint64_t size = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    const char *unit = size < 1000 ? "ns" : size < 1000000 ? "\xc2\xb5s" : "ms";
    uint64_t scale = size < 1000 ? 1 : size < 1000000 ? 1000 : 1000000;
    const char *sign = ns < 0 ? "-" : "";
    char whole[32] = "";
    if (ns == 0) {
        snprintf(out, RB_DURATION_TEXT_MAX, "0s");
        return out;
    }
    if (size >= RB_SECOND_NS) {
        uint64_t minutes = size / (60 * RB_SECOND_NS);
        if (minutes >= 60) {
            snprintf(whole, sizeof(whole), "%" PRIu64 "h%" PRIu64 "m", minutes / 60, minutes % 60);
        } else if (minutes > 0) {
            snprintf(whole, sizeof(whole), "%" PRIu64 "m", minutes);
        }
        size %= 60 * RB_SECOND_NS;
        unit = "s";
        scale = RB_SECOND_NS;
    }
    char fraction[16] = "";
    if (size % scale != 0) {
        int digits = scale == RB_SECOND_NS ? 9 : scale == 1000000 ? 6 : 3;
        snprintf(fraction, sizeof(fraction), ".%0*" PRIu64, digits, size % scale);
        for (size_t len = strlen(fraction); len > 0 && fraction[len - 1] == '0'; len--) {
            fraction[len - 1] = 0;
        }
    }
    snprintf(out, RB_DURATION_TEXT_MAX, "%s%s%" PRIu64 "%s%s", sign, whole, size / scale, fraction,
             unit);
    return out;
}

/* ------------------------------------------------------------------ addresses */

/** "host:port", "[v6]:port", ":port". False when the colons are not where they must be. */
bool rb_config_split_host_port(const char *text, struct rb_slice *ret_host, const char **ret_port)
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

bool rb_config_parse_port(const char *text, int64_t *ret_port)
{
    char *end;
    size_t digits = strspn(text + (*text == '-'), "0123456789");
    if (digits == 0 || digits > 9) {
        return false;
    }
    *ret_port = strtoll(text, &end, 10);
    return *end == 0;
}

bool rb_config_is_advertisable(const char *text)
{
    struct rb_slice host = rb_slice_text(text);
    const char *port_text;
    int64_t port = 0;
    if (strchr(text, ':') == NULL) {
        return strchr(text, ' ') == NULL; /* the port is the server's own */
    }
    return rb_config_split_host_port(text, &host, &port_text) &&
           rb_config_parse_port(port_text, &port) && host.len > 0 && port >= 0 &&
           port <= UINT16_MAX;
}

static bool take_port(struct rb_load *load, const struct rb_conf_entry *entry, int64_t port,
                      int32_t *ret_port)
{
    if (port < -1 || port > UINT16_MAX) {
        rb_load_error(load, entry, "port %" PRId64 " is not between -1 and 65535", port);
        return false;
    }
    *ret_port = (int32_t)port;
    return true;
}

bool rb_load_port(struct rb_load *load, const struct rb_conf_entry *entry, int32_t *ret_port)
{
    int64_t port;
    return rb_load_int(load, entry, &port) && take_port(load, entry, port, ret_port);
}

bool rb_load_listen(struct rb_load *load, const struct rb_conf_entry *entry, char *host,
                    size_t host_cap, int32_t *ret_port)
{
    char text[RB_CONFIG_TEXT_MAX + 16];
    struct rb_slice host_text;
    const char *port_text;
    int64_t port;
    if (entry->value->kind == RB_CONF_INT) {
        return take_port(load, entry, entry->value->integer, ret_port);
    }
    if (entry->value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry, "expected port or host:port, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return false;
    }
    if (!rb_load_text(load, entry, text, sizeof(text))) {
        return false;
    }
    if (!rb_config_split_host_port(text, &host_text, &port_text)) {
        rb_load_error(load, entry, "could not parse address string \"%s\"", text);
        return false;
    }
    if (!rb_config_parse_port(port_text, &port)) {
        rb_load_error(load, entry, "could not parse port \"%s\"", port_text);
        return false;
    }
    return take_port(load, entry, port, ret_port) &&
           copy_bounded(load, entry, host_text.len == 0 ? RB_S("0.0.0.0") : host_text, host,
                        host_cap);
}

/* ------------------------------------------------------------------ tables */

static bool names_match(const char *names, struct rb_slice key)
{
    while (*names != 0) {
        size_t len = strcspn(names, " ");
        if (rb_slice_equal_fold(rb_slice_of(names, len), key)) {
            return true;
        }
        names += len + (names[len] == ' ');
    }
    return false;
}

static void read_option(struct rb_load *load, const struct rb_conf_entry *entry,
                        const struct rb_option *option, void *base)
{
    char *field = (char *)base + option->offset;
    const struct rb_conf_value *value = entry->value;
    struct rb_slice text;
    switch (option->kind) {
    case RB_OPTION_CALL:
        option->set(load, entry, base);
        break;
    case RB_OPTION_BOOL:
        (void)rb_load_bool(load, entry, (bool *)field);
        break;
    case RB_OPTION_TEXT:
        (void)rb_load_text(load, entry, field, option->cap);
        break;
    case RB_OPTION_STRING:
        if (rb_load_slice(load, entry, &text)) {
            *(const char **)(void *)field = (const char *)text.ptr;
        }
        break;
    case RB_OPTION_SLICE:
        (void)rb_load_slice(load, entry, (struct rb_slice *)(void *)field);
        break;
    case RB_OPTION_OFF_BOOL:
        if (value->kind != RB_CONF_BOOL || value->boolean) {
            rb_load_refuse(load, entry);
        }
        break;
    case RB_OPTION_OFF_ZERO:
        if (value->kind != RB_CONF_INT || value->integer != 0) {
            rb_load_refuse(load, entry);
        }
        break;
    case RB_OPTION_REFUSED:
        rb_load_refuse(load, entry);
        break;
    }
}

bool rb_load_option(struct rb_load *load, const struct rb_conf_entry *entry,
                    const struct rb_option *options, void *base)
{
    for (const struct rb_option *option = options; option->names != NULL; option++) {
        if (names_match(option->names, entry->key)) {
            read_option(load, entry, option, base);
            return true;
        }
    }
    return false;
}

void rb_load_options(struct rb_load *load, const struct rb_conf_value *map,
                     const struct rb_option *options, void *base)
{
    for (const struct rb_conf_entry *entry = map->map.first; entry != NULL; entry = entry->next) {
        if (!rb_load_option(load, entry, options, base)) {
            rb_load_unknown(load, entry);
        }
    }
}
