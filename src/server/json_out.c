/* json_out.c - see json_out.h. */
#include "server/json_out.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ringbus/check.h"
#include "proto/json.h"

#define NS_PER_S UINT64_C(1000000000)

void rb_json_out_init(struct rb_json_out *json, struct rb_text *out, uint32_t indent)
{
    *json = (struct rb_json_out){ .out = out, .indent = indent };
}

/* Structure */

static void new_line(struct rb_json_out *json)
{
    if (json->indent == 0) {
        return;
    }
    static const char blanks[RB_JSON_DEPTH_MAX * 4 + 1] =
        "                                                                ";
    rb_text_add(json->out, "\n", 1);
    for (size_t rest = (size_t)json->depth * json->indent, part; rest > 0; rest -= part) {
        part = rest < sizeof(blanks) - 1 ? rest : sizeof(blanks) - 1; /* raw JSON may be deep */
        rb_text_add(json->out, blanks, part);
    }
}

static void before_item(struct rb_json_out *json)
{
    if (json->depth == 0) {
        return;
    }
    if (!json->empty[json->depth - 1]) {
        rb_text_add(json->out, ",", 1);
    }
    json->empty[json->depth - 1] = false;
    new_line(json);
}

static void before_value(struct rb_json_out *json)
{
    if (json->keyed) {
        json->keyed = false;
    } else {
        before_item(json);
    }
}

static void open_level(struct rb_json_out *json, char bracket)
{
    before_value(json);
    rb_assert(json->depth < RB_JSON_DEPTH_MAX && json->indent <= 4);
    rb_text_add(json->out, &bracket, 1);
    json->empty[json->depth++] = true;
}

static void close_level(struct rb_json_out *json, char bracket)
{
    rb_assert(json->depth > 0 && !json->keyed);
    json->depth--;
    if (!json->empty[json->depth]) {
        new_line(json);
    }
    rb_text_add(json->out, &bracket, 1);
}

void rb_json_out_object(struct rb_json_out *json)
{
    open_level(json, '{');
}

void rb_json_out_object_end(struct rb_json_out *json)
{
    close_level(json, '}');
}

void rb_json_out_array(struct rb_json_out *json)
{
    open_level(json, '[');
}

void rb_json_out_array_end(struct rb_json_out *json)
{
    close_level(json, ']');
}

/* Strings */

static void add_ascii(struct rb_text *out, uint8_t byte)
{
    static const char *const named[] = {
        ['\b'] = "\\b", ['\f'] = "\\f", ['\n'] = "\\n",  ['\r'] = "\\r",
        ['\t'] = "\\t", ['"'] = "\\\"", ['\\'] = "\\\\",
    };
    if (byte < sizeof(named) / sizeof(named[0]) && named[byte] != NULL) {
        rb_text_puts(out, named[byte]);
    } else if (byte < 0x20 || byte == '<' || byte == '>' || byte == '&') {
        rb_text_printf(out, "\\u%04x", byte);
    } else {
        rb_text_add(out, &byte, 1);
    }
}

static bool is_plain(uint8_t byte)
{
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\' && byte != '<' &&
           byte != '>' && byte != '&';
}

static void add_quoted(struct rb_text *out, struct rb_slice s)
{
    rb_text_add(out, "\"", 1);
    size_t at = 0;
    while (at < s.len) {
        size_t run = at;
        while (run < s.len && is_plain(s.ptr[run])) {
            run++;
        }
        rb_text_add(out, s.ptr + at, run - at);
        at = run;
        if (at == s.len) {
            break;
        }
        if (s.ptr[at] < 0x80) {
            add_ascii(out, s.ptr[at++]);
            continue;
        }
        size_t len = rb_utf8_len(s.ptr + at, s.len - at);
        if (len == 0) {
            rb_text_puts(out, "\\ufffd");
            at++;
            continue;
        }
        bool separator = len == 3 && s.ptr[at] == 0xe2 && s.ptr[at + 1] == 0x80 &&
                         (s.ptr[at + 2] == 0xa8 || s.ptr[at + 2] == 0xa9);
        if (separator) {
            rb_text_puts(out, s.ptr[at + 2] == 0xa8 ? "\\u2028" : "\\u2029");
        } else {
            rb_text_add(out, s.ptr + at, len);
        }
        at += len;
    }
    rb_text_add(out, "\"", 1);
}

void rb_json_out_key_slice(struct rb_json_out *json, struct rb_slice key)
{
    rb_assert(json->depth > 0 && !json->keyed);
    before_item(json);
    add_quoted(json->out, key);
    rb_text_puts(json->out, json->indent == 0 ? ":" : ": ");
    json->keyed = true;
}

/* JSON that is there already */

/* Behind the string that begins at `at`. */
static size_t string_end(struct rb_slice text, size_t at)
{
    for (at++; at < text.len && text.ptr[at] != '"'; at++) {
        at += text.ptr[at] == '\\';
    }
    return at < text.len ? at + 1 : text.len;
}

static void add_raw(struct rb_json_out *json, struct rb_slice text)
{
    uint32_t depth = json->depth;
    for (size_t at = 0; at < text.len;) {
        uint8_t c = text.ptr[at];
        size_t end = c == '"' ? string_end(text, at) : at + 1;
        bool opens = c == '{' || c == '[', closes = c == '}' || c == ']';
        if (opens && end < text.len && (text.ptr[end] == '}' || text.ptr[end] == ']')) {
            end++; /* nothing inside: stays on its line */
            opens = false;
        }
        if (closes) {
            json->depth--;
            new_line(json);
        }
        rb_text_add(json->out, text.ptr + at, end - at);
        if (opens) {
            json->depth++;
        }
        if (opens || c == ',') {
            new_line(json);
        } else if (c == ':' && json->indent > 0) {
            rb_text_add(json->out, " ", 1);
        }
        at = end;
    }
    rb_assert(json->depth == depth);
}

void rb_json_out_raw(struct rb_json_out *json, struct rb_slice value)
{
    before_value(json);
    add_raw(json, value);
}

/* Behind the member that begins at `at`: its comma, or the end. */
static size_t member_end(struct rb_slice members, size_t at)
{
    uint32_t depth = 0;
    while (at < members.len && (depth > 0 || members.ptr[at] != ',')) {
        uint8_t c = members.ptr[at];
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        at = c == '"' ? string_end(members, at) : at + 1;
    }
    return at;
}

void rb_json_out_raw_members(struct rb_json_out *json, struct rb_slice members, const char *skip)
{
    for (size_t at = 0; at < members.len;) {
        size_t end = member_end(members, at), key_end = string_end(members, at);
        struct rb_slice key = rb_slice_of(members.ptr + at + 1, key_end - at - 2);
        if (skip == NULL || !rb_slice_equal(key, rb_slice_text(skip))) {
            before_item(json);
            add_raw(json, rb_slice_of(members.ptr + at, end - at));
        }
        at = end + 1;
    }
}

void rb_json_out_key(struct rb_json_out *json, const char *key)
{
    rb_json_out_key_slice(json, rb_slice_text(key));
}

void rb_json_out_string(struct rb_json_out *json, struct rb_slice value)
{
    before_value(json);
    add_quoted(json->out, value);
}

/* Numbers and the rest */

void rb_json_out_uint(struct rb_json_out *json, uint64_t value)
{
    before_value(json);
    uint8_t digits[20];
    rb_text_add(json->out, digits, rb_format_decimal(digits, value));
}

void rb_json_out_int(struct rb_json_out *json, int64_t value)
{
    before_value(json);
    rb_text_printf(json->out, "%lld", (long long)value);
}

/* "1.5e-07" -> "1.5e-7": Go drops the zero of a one-digit exponent that C prints. */
static void trim_exponent(char *text)
{
    char *e = strchr(text, 'e');
    if (e != NULL && e[2] == '0' && e[3] != '\0') {
        memmove(e + 2, e + 3, strlen(e + 3) + 1);
    }
}

const char *rb_float_text(double value, char out[40])
{
    rb_assert(isfinite(value));
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(out, 40, "%.*e", digits - 1, value);
        if (strtod(out, NULL) == value) {
            double size = fabs(value);
            if (size != 0 && (size < 1e-6 || size >= 1e21)) {
                trim_exponent(out);
                return out;
            }
            int exponent = (int)strtol(strchr(out, 'e') + 1, NULL, 10);
            int decimals = digits - 1 - exponent;
            (void)snprintf(out, 40, "%.*f", decimals > 0 ? decimals : 0, value);
            return out;
        }
    }
    return out;
}

void rb_json_out_float(struct rb_json_out *json, double value)
{
    char text[40];
    before_value(json);
    rb_text_puts(json->out, rb_float_text(value, text));
}

void rb_json_out_bool(struct rb_json_out *json, bool value)
{
    before_value(json);
    rb_text_puts(json->out, value ? "true" : "false");
}

void rb_json_out_null(struct rb_json_out *json)
{
    before_value(json);
    rb_text_puts(json->out, "null");
}

/* Members */

void rb_json_out_set_string(struct rb_json_out *json, const char *key, struct rb_slice value)
{
    rb_json_out_key(json, key);
    rb_json_out_string(json, value);
}

void rb_json_out_set_text(struct rb_json_out *json, const char *key, const char *value)
{
    rb_json_out_set_string(json, key, rb_slice_text(value));
}

void rb_json_out_set_uint(struct rb_json_out *json, const char *key, uint64_t value)
{
    rb_json_out_key(json, key);
    rb_json_out_uint(json, value);
}

void rb_json_out_set_int(struct rb_json_out *json, const char *key, int64_t value)
{
    rb_json_out_key(json, key);
    rb_json_out_int(json, value);
}

void rb_json_out_set_float(struct rb_json_out *json, const char *key, double value)
{
    rb_json_out_key(json, key);
    rb_json_out_float(json, value);
}

void rb_json_out_set_bool(struct rb_json_out *json, const char *key, bool value)
{
    rb_json_out_key(json, key);
    rb_json_out_bool(json, value);
}

void rb_json_out_opt_string(struct rb_json_out *json, const char *key, struct rb_slice value)
{
    if (value.len > 0) {
        rb_json_out_set_string(json, key, value);
    }
}

void rb_json_out_opt_text(struct rb_json_out *json, const char *key, const char *value)
{
    rb_json_out_opt_string(json, key, rb_slice_text(value));
}

void rb_json_out_opt_uint(struct rb_json_out *json, const char *key, uint64_t value)
{
    if (value > 0) {
        rb_json_out_set_uint(json, key, value);
    }
}

void rb_json_out_opt_float(struct rb_json_out *json, const char *key, double value)
{
    if (value != 0) {
        rb_json_out_set_float(json, key, value);
    }
}

void rb_json_out_opt_bool(struct rb_json_out *json, const char *key, bool value)
{
    if (value) {
        rb_json_out_set_bool(json, key, value);
    }
}

/* Times */

/* ".123" of the nanoseconds without zeros at the end; empty when there are none. */
static size_t add_fraction(char *out, uint64_t ns)
{
    if (ns == 0) {
        return 0;
    }
    size_t len = (size_t)snprintf(out, 16, ".%09llu", (unsigned long long)ns);
    while (out[len - 1] == '0') {
        len--;
    }
    return len;
}

const char *rb_time_text(uint64_t wall_ns, bool local, char out[RB_TIME_TEXT_MAX])
{
    if (wall_ns == 0) {
        (void)snprintf(out, RB_TIME_TEXT_MAX, "0001-01-01T00:00:00Z");
        return out;
    }
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm tm;
    bool known = local ? localtime_r(&seconds, &tm) != NULL : gmtime_r(&seconds, &tm) != NULL;
    if (!known) {
        memset(&tm, 0, sizeof(tm));
    }
    size_t len = strftime(out, RB_TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    len += add_fraction(out + len, wall_ns % NS_PER_S);
    long offset = local ? tm.tm_gmtoff : 0;
    if (offset == 0) {
        (void)snprintf(out + len, RB_TIME_TEXT_MAX - len, "Z");
    } else {
        long minutes = labs(offset) / 60;
        (void)snprintf(out + len, RB_TIME_TEXT_MAX - len, "%c%02ld:%02ld", offset < 0 ? '-' : '+',
                       minutes / 60 % 100, minutes % 60);
    }
    return out;
}

void rb_json_out_set_time(struct rb_json_out *json, const char *key, uint64_t wall_ns, bool local)
{
    char text[RB_TIME_TEXT_MAX];
    rb_json_out_set_text(json, key, rb_time_text(wall_ns, local, text));
}

const char *rb_uptime_text(uint64_t ns, char out[RB_UPTIME_TEXT_MAX])
{
    unsigned long long total = ns / NS_PER_S;
    unsigned long long s = total % 60, m = total / 60 % 60, h = total / 3600 % 24;
    unsigned long long d = total / 86400 % 365, y = total / 86400 / 365;
    if (y > 0) {
        (void)snprintf(out, RB_UPTIME_TEXT_MAX, "%lluy%llud%lluh%llum%llus", y, d, h, m, s);
    } else if (d > 0) {
        (void)snprintf(out, RB_UPTIME_TEXT_MAX, "%llud%lluh%llum%llus", d, h, m, s);
    } else if (h > 0) {
        (void)snprintf(out, RB_UPTIME_TEXT_MAX, "%lluh%llum%llus", h, m, s);
    } else if (m > 0) {
        (void)snprintf(out, RB_UPTIME_TEXT_MAX, "%llum%llus", m, s);
    } else {
        (void)snprintf(out, RB_UPTIME_TEXT_MAX, "%llus", s);
    }
    return out;
}

/* `value` counted in units of `unit` ns, with its fraction. */
static void add_units(char *out, size_t cap, uint64_t value, uint64_t unit, const char *name)
{
    size_t len = (size_t)snprintf(out, cap, "%llu", (unsigned long long)(value / unit));
    /* The fraction as nanoseconds of a second, so that add_fraction cuts its zeros. */
    len += add_fraction(out + len, value % unit * (NS_PER_S / unit));
    (void)snprintf(out + len, cap - len, "%s", name);
}

const char *rb_duration_text(uint64_t ns, char out[RB_UPTIME_TEXT_MAX])
{
    if (ns == 0) {
        (void)snprintf(out, RB_UPTIME_TEXT_MAX, "0s");
    } else if (ns < 1000) {
        (void)snprintf(out, RB_UPTIME_TEXT_MAX, "%lluns", (unsigned long long)ns);
    } else if (ns < 1000000) {
        add_units(out, RB_UPTIME_TEXT_MAX, ns, 1000, "µs");
    } else if (ns < NS_PER_S) {
        add_units(out, RB_UPTIME_TEXT_MAX, ns, 1000000, "ms");
    } else {
        unsigned long long minutes = ns / (60 * NS_PER_S);
        size_t len = 0;
        if (minutes >= 60) {
            len =
                (size_t)snprintf(out, RB_UPTIME_TEXT_MAX, "%lluh%llum", minutes / 60, minutes % 60);
        } else if (minutes > 0) {
            len = (size_t)snprintf(out, RB_UPTIME_TEXT_MAX, "%llum", minutes);
        }
        add_units(out + len, RB_UPTIME_TEXT_MAX - len, ns % (60 * NS_PER_S), NS_PER_S, "s");
    }
    return out;
}

const char *rb_rtt_text(uint64_t ns, char out[RB_UPTIME_TEXT_MAX])
{
    return rb_duration_text(ns > 1000 && ns < 1000000 ? ns / 1000 * 1000 : ns, out);
}
