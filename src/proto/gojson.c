/* gojson.c - one pass over the text, a bit per level: in an object or in an array.
 *
 * At the end of the text a blank is taken, as Go does, so that "tru" fails on ' ' and "{" on its missing end.
 */
#include "proto/gojson.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct scan {
    const uint8_t *at, *end;
    char *error;
    uint32_t depth;
    uint8_t object[RB_GOJSON_DEPTH_MAX / 8 + 1]; /* bit per level */
};

/* The next byte; a blank once behind the end. */
static uint8_t here(const struct scan *s)
{
    return s->at < s->end ? *s->at : ' ';
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_blanks(struct scan *s)
{
    while (s->at < s->end && is_blank(*s->at)) {
        s->at++;
    }
}

static bool cut(struct scan *s)
{
    (void)snprintf(s->error, RB_GOJSON_ERROR_MAX, "unexpected end of JSON input");
    return false;
}

/* A byte as Go quotes it in these messages: bytes from 0x80 on as the code point of that number. */
static void quote(uint8_t c, char out[16])
{
    static const char named[] = "\a\b\f\n\r\t\v\\'";
    static const char letters[] = "abfnrtv\\'";
    const char *found = c == 0 ? NULL : strchr(named, c);
    if (found != NULL) {
        (void)snprintf(out, 16, "'\\%c'", letters[found - named]);
    } else if (c < 0x20 || c == 0x7f) {
        (void)snprintf(out, 16, "'\\x%02x'", c);
    } else if (c < 0x80) {
        (void)snprintf(out, 16, "'%c'", c);
    } else if (c < 0xa1 || c == 0xad) {
        (void)snprintf(out, 16, "'\\u%04x'", c);
    } else {
        (void)snprintf(out, 16, "'%c%c'", 0xc0 | c >> 6, 0x80 | (c & 0x3f));
    }
}

static bool fail(struct scan *s, const char *where)
{
    char text[16];
    quote(here(s), text);
    (void)snprintf(s->error, RB_GOJSON_ERROR_MAX, "invalid character %s %s", text, where);
    return false;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool scan_escape(struct scan *s)
{
    if (s->at == s->end) {
        return fail(s, "in string escape code");
    }
    uint8_t c = *s->at;
    if (c != 'u') {
        if (strchr("bfnrt\\/\"", c) == NULL || c == 0) {
            return fail(s, "in string escape code");
        }
        s->at++;
        return true;
    }
    s->at++;
    for (int i = 0; i < 4; i++, s->at++) {
        c = here(s);
        if (!is_digit(c) && !(c >= 'a' && c <= 'f') && !(c >= 'A' && c <= 'F')) {
            return fail(s, "in \\u hexadecimal character escape");
        }
    }
    return true;
}

/* Behind the opening quote. */
static bool scan_string(struct scan *s)
{
    while (s->at < s->end) {
        uint8_t c = *s->at;
        if (c < 0x20) {
            return fail(s, "in string literal");
        }
        s->at++;
        if (c == '"') {
            return true;
        }
        if (c == '\\' && !scan_escape(s)) {
            return false;
        }
    }
    return cut(s);
}

static void skip_digits(struct scan *s)
{
    while (s->at < s->end && is_digit(*s->at)) {
        s->at++;
    }
}

static bool scan_number(struct scan *s)
{
    if (here(s) == '-') {
        s->at++;
    }
    if (!is_digit(here(s))) {
        return fail(s, "in numeric literal");
    }
    if (*s->at == '0') {
        s->at++;
    } else {
        skip_digits(s);
    }
    if (here(s) == '.') {
        s->at++;
        if (!is_digit(here(s))) {
            return fail(s, "after decimal point in numeric literal");
        }
        skip_digits(s);
    }
    if (here(s) == 'e' || here(s) == 'E') {
        s->at++;
        if (here(s) == '+' || here(s) == '-') {
            s->at++;
        }
        if (!is_digit(here(s))) {
            return fail(s, "in exponent of numeric literal");
        }
        skip_digits(s);
    }
    return true;
}

static bool scan_word(struct scan *s, const char *word)
{
    for (const char *c = word; *c != '\0'; c++, s->at++) {
        if (here(s) != (uint8_t)*c) {
            char where[64];
            (void)snprintf(where, sizeof(where), "in literal %s (expecting '%c')", word, *c);
            return fail(s, where);
        }
    }
    return true;
}

static bool open_level(struct scan *s, bool object)
{
    if (s->depth == RB_GOJSON_DEPTH_MAX) {
        (void)snprintf(s->error, RB_GOJSON_ERROR_MAX, "exceeded max depth");
        return false;
    }
    uint8_t bit = (uint8_t)(1u << (s->depth % 8));
    uint8_t *byte = &s->object[s->depth / 8];
    *byte = (uint8_t)(object ? *byte | bit : *byte & ~bit);
    s->depth++;
    s->at++;
    return true;
}

static bool in_object(const struct scan *s)
{
    return (s->object[(s->depth - 1) / 8] >> ((s->depth - 1) % 8) & 1) != 0;
}

/* "key": */
static bool scan_key(struct scan *s)
{
    skip_blanks(s);
    if (s->at == s->end) {
        return cut(s);
    }
    if (*s->at != '"') {
        return fail(s, "looking for beginning of object key string");
    }
    s->at++;
    if (!scan_string(s)) {
        return false;
    }
    skip_blanks(s);
    if (s->at == s->end) {
        return cut(s);
    }
    if (*s->at != ':') {
        return fail(s, "after object key");
    }
    s->at++;
    return true;
}

/* One value, or the beginning of an object or array. *ret_open: its first item is to come. */
static bool scan_value(struct scan *s, bool *ret_open)
{
    *ret_open = false;
    skip_blanks(s);
    if (s->at == s->end) {
        return cut(s);
    }
    uint8_t c = *s->at;
    switch (c) {
    case '{':
    case '[':
        *ret_open = true;
        return open_level(s, c == '{');
    case '"':
        s->at++;
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        return c == '-' || is_digit(c) ? scan_number(s) : fail(s, "looking for beginning of value");
    }
}

/* Behind a value: closes levels until another item must come. *ret_more: one comes. */
static bool after_value(struct scan *s, bool *ret_more)
{
    *ret_more = false;
    while (s->depth > 0) {
        skip_blanks(s);
        if (s->at == s->end) {
            return cut(s);
        }
        bool object = in_object(s);
        if (*s->at == ',') {
            s->at++;
            *ret_more = true;
            return !object || scan_key(s);
        }
        if (*s->at != (object ? '}' : ']')) {
            return fail(s, object ? "after object key:value pair" : "after array element");
        }
        s->at++;
        s->depth--;
    }
    return true;
}

/* Behind an opening bracket: an empty level is closed. *ret_more: an item comes. */
static bool first_item(struct scan *s, bool *ret_more)
{
    skip_blanks(s);
    bool object = in_object(s);
    if (s->at < s->end && *s->at == (object ? '}' : ']')) {
        s->at++;
        s->depth--;
        return after_value(s, ret_more);
    }
    *ret_more = true;
    return !object || scan_key(s);
}

static bool scan_whole(struct scan *s)
{
    bool more = true, opened;
    while (more) {
        if (!scan_value(s, &opened) || !(opened ? first_item(s, &more) : after_value(s, &more))) {
            return false;
        }
    }
    return true;
}

bool rb_gojson_valid(struct rb_slice text, char error[RB_GOJSON_ERROR_MAX])
{
    struct scan s = { .at = text.ptr, .end = text.ptr + text.len, .error = error };
    if (!scan_whole(&s)) {
        return false;
    }
    skip_blanks(&s);
    return s.at == s.end || fail(&s, "after top-level value");
}

enum rb_gojson_next rb_gojson_next(struct rb_slice text, size_t *offset, struct rb_slice *ret_value,
                                   char error[RB_GOJSON_ERROR_MAX])
{
    if (*offset == text.len) {
        return RB_GOJSON_END; /* also where there is no text at all, and no pointer to it */
    }
    struct scan s = { .at = text.ptr + *offset, .end = text.ptr + text.len, .error = error };
    skip_blanks(&s);
    if (s.at == s.end) {
        return RB_GOJSON_END;
    }
    const uint8_t *begin = s.at;
    if (!scan_whole(&s)) {
        *offset = (size_t)(s.at - text.ptr) + 1;
        return s.at == s.end ? RB_GOJSON_CUT : RB_GOJSON_BAD;
    }
    *offset = (size_t)(s.at - text.ptr);
    *ret_value = rb_slice_of(begin, (size_t)(s.at - begin));
    return RB_GOJSON_VALUE;
}

const char *rb_gojson_type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_TRUE:
    case JSON_FALSE:
        return "bool";
    default:
        return "number";
    }
}

bool rb_go_bool(const char *text, bool *ret_value)
{
    static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
    static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False" };
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *ret_value = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}
