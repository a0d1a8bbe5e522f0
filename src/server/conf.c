/* conf.c - recursive descent over the text, one function per form of the grammar.
 *
 * 1. Nothing here depends on which options exist; src/server/config.c gives the values their meaning.
 * 2. Recursion is bounded: by RB_CONF_DEPTH_MAX inside a text, by RB_CONF_INCLUDE_DEPTH_MAX across files and
 *    variables. A value taken from a variable is shared, not copied; its size and height count wherever it
 *    is used, so no chain of variables makes a tree that is larger than RB_CONF_VALUES_MAX when walked.
 * 3. The first error ends everything. Its text is nats-server's, followed by "(path:line:column)".
 * 4. What nats-server's grammar drops or turns round without a word (a key without value before "}", a lone
 *    "/", a suffix like "1kbb", a zero byte, an integer that overflows through its suffix, a "{" around
 *    the whole file that is never closed) is an error or a text here, never a silent change of meaning.
 *
 *   document:  { key [= or :] value (newline , ; } end)  |  include name  |  "{"  |  "}" }
 *   value:     "text" 'text' (block) [array] {map} number date bool $variable or bare text
 */
#include "server/conf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "ringbus/check.h"

/** An environment variable or an included file whose text is being read. */
struct nesting {
    const struct nesting *outer;
    const char *variable; /* NULL: a file */
    uint32_t depth;
};

/** Maps that "$NAME" may refer to, the innermost first. */
struct scope {
    const struct scope *outer;
    struct rb_conf_value *map;
};

/** What all texts of one configuration share. */
struct load {
    struct rb_arena *arena;
    char *error;
    size_t error_cap;
    uint64_t text_bytes;
    uint32_t created; /* values made, whether used or not */
    bool closed;      /* nothing outside of the text is read */
    enum rb_err err;
};

struct parser {
    struct load *load;
    const char *path;
    const struct nesting *nesting;
    const uint8_t *text;
    size_t len, at;
    uint32_t line;
    size_t line_start; /* offset of the last newline before `at`; 0 on the first line */
    uint32_t depth;
};

#define AT_END (-1)

static const struct rb_conf_value *parse_value(struct parser *p, const struct scope *scope);

/* ------------------------------------------------------------------ errors and memory */

static bool fail_plain(struct load *load, enum rb_err err, const char *format, va_list args)
{
    if (load->err == RB_OK) {
        load->err = err;
        vsnprintf(load->error, load->error_cap, format, args);
        for (char *at = load->error; *at != 0; at++) { /* names from the text may hold anything */
            *at = (unsigned char)*at < ' ' || *at == 0x7f ? '?' : *at;
        }
    }
    return false;
}

__attribute__((format(printf, 3, 4))) static bool fail_with(struct load *load, enum rb_err err,
                                                            const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail_plain(load, err, format, args);
    va_end(args);
    return false;
}

/** A syntax error at the byte before or at `at`: the line counts a newline that was read as its last byte. */
__attribute__((format(printf, 2, 3))) static bool fail_parse(struct parser *p, const char *format,
                                                             ...)
{
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    uint32_t line = p->line + (p->at < p->len && p->text[p->at] == '\n');
    return fail_with(p->load, RB_ERR_INVALID, "Parse error on line %u: '%s' (%s:%u:%zu)", line,
                     what, p->path, p->line, p->at - p->line_start);
}

/** How an offending byte is shown. */
static const char *show(int byte, char out[8])
{
    if (byte == AT_END) {
        return "EOF";
    }
    if (byte == '\n' || byte == '\r' || byte == 0) {
        return byte == '\n' ? "\\n" : byte == '\r' ? "\\r" : "\\x00";
    }
    snprintf(out, 8, "%c", byte);
    return out;
}

static void *take(struct load *load, size_t bytes)
{
    void *ptr = rb_arena_take(load->arena, bytes);
    if (ptr == NULL) {
        fail_with(load, RB_ERR_MEMORY, "out of memory while reading the configuration");
    }
    return ptr;
}

static struct rb_conf_value *new_value(struct load *load, enum rb_conf_kind kind)
{
    if (load->created >= RB_CONF_VALUES_MAX) {
        fail_with(load, RB_ERR_INVALID, "configuration has more than %u values",
                  RB_CONF_VALUES_MAX);
        return NULL;
    }
    struct rb_conf_value *value = take(load, sizeof(*value));
    if (value != NULL) {
        load->created++;
        value->kind = kind;
        value->values = 1;
        value->height = kind == RB_CONF_MAP || kind == RB_CONF_ARRAY;
    }
    return value;
}

static const struct rb_conf_value *new_text(struct load *load, struct rb_slice text)
{
    struct rb_conf_value *value = new_value(load, RB_CONF_TEXT);
    if (value != NULL) {
        value->text = text;
    }
    return value;
}

static char *copy_text(struct load *load, struct rb_slice text)
{
    char *copy = take(load, text.len + 1);
    if (copy != NULL && text.len > 0) {
        memcpy(copy, text.ptr, text.len);
    }
    return copy;
}

/* ------------------------------------------------------------------ maps and arrays */

static struct rb_conf_entry **chain_of(const struct rb_conf_value *map, struct rb_slice key)
{
    return &map->map.chains[rb_slice_hash(key) & (map->map.chain_count - 1)];
}

static struct rb_conf_entry *find_entry(const struct rb_conf_value *map, struct rb_slice key)
{
    if (map->map.chain_count == 0) {
        return NULL;
    }
    struct rb_conf_entry *entry = *chain_of(map, key);
    while (entry != NULL && !rb_slice_equal(entry->key, key)) {
        entry = entry->next_equal;
    }
    return entry;
}

static bool grow_chains(struct load *load, struct rb_conf_value *map)
{
    uint32_t count = map->map.chain_count == 0 ? 8 : map->map.chain_count * 4;
    struct rb_conf_entry **chains = take(load, count * sizeof(*chains));
    if (chains == NULL) {
        return false;
    }
    map->map.chains = chains;
    map->map.chain_count = count;
    for (struct rb_conf_entry *entry = map->map.first; entry != NULL; entry = entry->next) {
        struct rb_conf_entry **chain = chain_of(map, entry->key);
        entry->next_equal = *chain;
        *chain = entry;
    }
    return true;
}

/** Counts `child` into `parent` (invariant 2). */
static bool adopt(struct load *load, struct rb_conf_value *parent,
                  const struct rb_conf_value *child)
{
    if (child->values > RB_CONF_VALUES_MAX - parent->values) {
        return fail_with(load, RB_ERR_INVALID, "configuration has more than %u values",
                         RB_CONF_VALUES_MAX);
    }
    parent->values += child->values;
    if (child->height + 1 > parent->height) {
        parent->height = child->height + 1;
    }
    if (parent->height > RB_CONF_DEPTH_MAX) {
        return fail_with(load, RB_ERR_INVALID, "configuration is nested deeper than %d levels",
                         RB_CONF_DEPTH_MAX);
    }
    return true;
}

/** The last one of equal keys wins; nothing is merged. */
static bool put_entry(struct load *load, struct rb_conf_value *map,
                      const struct rb_conf_entry *from)
{
    struct rb_conf_entry *entry = find_entry(map, from->key);
    if (!adopt(load, map, from->value)) {
        return false;
    }
    if (entry != NULL) {
        entry->value = from->value;
        entry->path = from->path;
        entry->line = from->line;
        entry->column = from->column;
        entry->is_variable = entry->is_variable || from->is_variable;
        return true;
    }
    entry = take(load, sizeof(*entry));
    if (entry == NULL || (map->count >= map->map.chain_count && !grow_chains(load, map))) {
        return false;
    }
    *entry = *from;
    entry->next = NULL;
    struct rb_conf_entry **chain = chain_of(map, entry->key);
    entry->next_equal = *chain;
    *chain = entry;
    if (map->map.last == NULL) {
        map->map.first = entry;
    } else {
        map->map.last->next = entry;
    }
    map->map.last = entry;
    map->count++;
    return true;
}

static bool put_item(struct load *load, struct rb_conf_value *array,
                     const struct rb_conf_item *from)
{
    struct rb_conf_item *item = take(load, sizeof(*item));
    if (item == NULL || !adopt(load, array, from->value)) {
        return false;
    }
    *item = *from;
    if (array->array.last == NULL) {
        array->array.first = item;
    } else {
        array->array.last->next = item;
    }
    array->array.last = item;
    array->count++;
    return true;
}

/* ------------------------------------------------------------------ bytes */

static int peek(const struct parser *p)
{
    return p->at < p->len ? p->text[p->at] : AT_END;
}

static int peek_after(const struct parser *p)
{
    return p->at + 1 < p->len ? p->text[p->at + 1] : AT_END;
}

static void advance(struct parser *p)
{
    if (p->text[p->at] == '\n') {
        p->line++;
        p->line_start = p->at;
    }
    p->at++;
}

static bool is_blank(int byte)
{
    return byte == ' ' || byte == '\t';
}

static bool is_newline(int byte)
{
    return byte == '\n' || byte == '\r';
}

static bool is_space(int byte)
{
    return is_blank(byte) || is_newline(byte) || byte == '\v' || byte == '\f';
}

static void skip_blanks(struct parser *p)
{
    while (is_blank(peek(p))) {
        advance(p);
    }
}

static void skip_spaces(struct parser *p)
{
    while (is_space(peek(p))) {
        advance(p);
    }
}

static bool at_comment(const struct parser *p)
{
    return peek(p) == '#' || (peek(p) == '/' && peek_after(p) == '/');
}

static void skip_comment(struct parser *p)
{
    while (peek(p) != AT_END && !is_newline(peek(p))) {
        advance(p);
    }
}

/** Everything that may stand before a key or an array's value. */
static void skip_spaces_and_comments(struct parser *p)
{
    for (;;) {
        skip_spaces(p);
        if (!at_comment(p)) {
            return;
        }
        skip_comment(p);
    }
}

static struct rb_slice slice_from(const struct parser *p, size_t begin)
{
    return rb_slice_of(p->text + begin, p->at - begin);
}

/* ------------------------------------------------------------------ text values */

static int hex_digit(int byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    int lower = byte | 0x20;
    return byte != AT_END && lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/** At a backslash: gives the byte it stands for. */
static bool parse_escape(struct parser *p, uint8_t *ret_byte)
{
    char shown[8];
    advance(p);
    int byte = peek(p);
    switch (byte) {
    case 't':
        *ret_byte = '\t';
        break;
    case 'n':
        *ret_byte = '\n';
        break;
    case 'r':
        *ret_byte = '\r';
        break;
    case '"':
    case '\\':
        *ret_byte = (uint8_t)byte;
        break;
    case 'x': {
        int high = hex_digit(peek_after(p));
        int low = p->at + 2 < p->len ? hex_digit(p->text[p->at + 2]) : -1;
        if (high < 0 || low < 0) {
            size_t left = p->len - p->at - 1;
            return fail_parse(p, "Expected two hexadecimal digits after '\\x', but got '%.*s'",
                              (int)(left < 2 ? left : 2), (const char *)p->text + p->at + 1);
        }
        *ret_byte = (uint8_t)(high << 4 | low);
        p->at += 2;
        break;
    }
    default:
        return fail_parse(p,
                          "Invalid escape character '%s'. Only the following escape characters are "
                          "allowed: \\xXX, \\t, \\n, \\r, \\\", \\\\.",
                          show(byte, shown));
    }
    advance(p);
    return true;
}

static bool ends_bare_text(int byte)
{
    return byte == AT_END || byte == 0 || is_blank(byte) || is_newline(byte) || byte == ',' ||
           byte == ';' || byte == ']' || byte == '}' || byte == '\'';
}

/** Where the text that begins at `at` ends: at its closing quote, or where a bare text ends. */
static size_t escaped_end(const struct parser *p, bool quoted, bool *ret_escaped)
{
    size_t end = p->at;
    *ret_escaped = false;
    while (end < p->len && (quoted ? p->text[end] != '"' : !ends_bare_text(p->text[end]))) {
        bool is_escape = p->text[end] == '\\';
        *ret_escaped = *ret_escaped || is_escape;
        end += is_escape && end + 1 < p->len ? 2 : 1;
    }
    return end;
}

/** Reads up to the closing quote (`quoted`) or to the end of a bare text, resolving escapes on the way. */
static bool scan_escaped(struct parser *p, bool quoted, struct rb_slice *ret_text,
                         bool *ret_escaped)
{
    size_t begin = p->at, end = escaped_end(p, quoted, ret_escaped), out_len = 0;
    uint8_t *out = *ret_escaped ? take(p->load, end - begin) : NULL;
    if (*ret_escaped && out == NULL) {
        return false;
    }
    while (p->at < end) {
        if (peek(p) == '\\') {
            if (!parse_escape(p, &out[out_len])) {
                return false;
            }
        } else {
            if (out != NULL) {
                out[out_len] = (uint8_t)peek(p);
            }
            advance(p);
        }
        out_len++;
    }
    if (quoted && peek(p) == AT_END) {
        return fail_parse(p, "Unexpected EOF.");
    }
    *ret_text = out == NULL ? slice_from(p, begin) : rb_slice_of(out, out_len);
    return true;
}

static bool is_bool(struct rb_slice text, bool *ret_value)
{
    static const char *const yes[] = { "true", "yes", "on" }, *const no[] = { "false", "no",
                                                                              "off" };
    for (size_t i = 0; i < 3; i++) {
        if (rb_slice_equal_fold(text, rb_slice_text(yes[i])) ||
            rb_slice_equal_fold(text, rb_slice_text(no[i]))) {
            *ret_value = rb_slice_equal_fold(text, rb_slice_text(yes[i]));
            return true;
        }
    }
    return false;
}

static const struct rb_conf_value *parse_double_quoted(struct parser *p)
{
    struct rb_slice text;
    bool escaped;
    advance(p);
    if (!scan_escaped(p, true, &text, &escaped)) {
        return NULL;
    }
    advance(p);
    return new_text(p->load, text);
}

/** At the opening quote: raw bytes up to the same quote. `what` names the place in the error. */
static bool scan_raw_quoted(struct parser *p, struct rb_slice *ret_text, const char *what)
{
    int quote = peek(p);
    advance(p);
    size_t begin = p->at;
    while (peek(p) != quote) {
        if (peek(p) == AT_END) {
            return fail_parse(p, "%s", what);
        }
        advance(p);
    }
    *ret_text = slice_from(p, begin);
    advance(p);
    return true;
}

static const struct rb_conf_value *parse_single_quoted(struct parser *p)
{
    struct rb_slice text;
    return scan_raw_quoted(p, &text, "Unexpected EOF.") ? new_text(p->load, text) : NULL;
}

/** "(" raw lines ")" with the closing one alone on its line; a carriage return before the newline is allowed. */
static const struct rb_conf_value *parse_block(struct parser *p)
{
    advance(p);
    size_t begin = p->at;
    for (; peek(p) != AT_END; advance(p)) {
        if (peek(p) != ')' || p->at == begin || p->text[p->at - 1] != '\n') {
            continue;
        }
        int after = peek_after(p);
        if (is_newline(after) || after == AT_END) {
            struct rb_slice text = slice_from(p, begin);
            advance(p);
            return new_text(p->load, text);
        }
    }
    fail_parse(p, "Unexpected EOF processing block.");
    return NULL;
}

/* ------------------------------------------------------------------ numbers and dates */

static bool is_digit(int byte)
{
    return byte >= '0' && byte <= '9';
}

static void skip_digits(struct parser *p)
{
    while (is_digit(peek(p))) {
        advance(p);
    }
}

/** 0 when `byte` begins no suffix, else the power of 1000 (or 1024). */
static uint32_t suffix_power(int byte)
{
    static const char letters[] = "kmgtpe";
    const char *found = byte > 0 ? strchr(letters, byte | 0x20) : NULL;
    return found != NULL && isalpha(byte) ? (uint32_t)(found - letters) + 1 : 0;
}

/** Bytes of a size suffix at `at` and its factor; 0 when what stands there is none. */
static size_t scan_suffix(const struct parser *p, int64_t *ret_factor)
{
    uint32_t power = suffix_power(peek(p));
    if (power == 0) {
        return 0;
    }
    size_t len = 1;
    int second = p->at + 1 < p->len ? p->text[p->at + 1] | 0x20 : AT_END;
    int third = p->at + 2 < p->len ? p->text[p->at + 2] | 0x20 : AT_END;
    bool binary = second == 'b' || second == 'i';
    len += binary;
    len += second == 'i' && third == 'b';
    *ret_factor = 1;
    for (uint32_t i = 0; i < power; i++) {
        *ret_factor *= binary ? 1024 : 1000;
    }
    return len;
}

static const struct rb_conf_value *new_integer(struct parser *p, struct rb_slice digits,
                                               int64_t factor, struct rb_slice shown)
{
    bool negative = digits.ptr[0] == '-';
    uint64_t value = 0, limit = negative ? (uint64_t)1 << 63 : INT64_MAX;
    bool fits = true;
    for (size_t i = negative; i < digits.len; i++) {
        fits = fits && !__builtin_mul_overflow(value, (uint64_t)10, &value) &&
               !__builtin_add_overflow(value, (uint64_t)(digits.ptr[i] - '0'), &value);
    }
    fits = fits && !__builtin_mul_overflow(value, (uint64_t)factor, &value) && value <= limit;
    if (!fits) {
        fail_with(p->load, RB_ERR_INVALID, "integer '%.*s' is out of the range (%s:%u:%zu)",
                  (int)(shown.len < 64 ? shown.len : 64), (const char *)shown.ptr, p->path, p->line,
                  p->at - p->line_start);
        return NULL;
    }
    struct rb_conf_value *result = new_value(p->load, RB_CONF_INT);
    if (result != NULL) {
        result->integer = negative ? (int64_t)(0 - value) : (int64_t)value;
    }
    return result;
}

static const struct rb_conf_value *parse_float_end(struct parser *p, size_t begin)
{
    struct rb_slice text = slice_from(p, begin);
    struct rb_conf_value *value = new_value(p->load, RB_CONF_FLOAT);
    char *copy = copy_text(p->load, text);
    if (value == NULL || copy == NULL) {
        return NULL;
    }
    value->real = strtod(copy, NULL); /* the locale is "C": nothing in ringbus sets another */
    if (!isfinite(value->real)) {
        fail_with(p->load, RB_ERR_INVALID, "float '%.64s' is out of the range (%s:%u:%zu)", copy,
                  p->path, p->line, p->at - p->line_start);
        return NULL;
    }
    return value;
}

/** At the "." after digits: a float, or with a second "." an IP address with perhaps a port (a text). */
static const struct rb_conf_value *parse_fraction(struct parser *p, size_t begin)
{
    char shown[8];
    advance(p);
    if (!is_digit(peek(p))) {
        fail_parse(p, "Floats must have a digit after the '.', but got '%s' instead.",
                   show(peek(p), shown));
        return NULL;
    }
    skip_digits(p);
    if (peek(p) != '.') {
        return parse_float_end(p, begin);
    }
    while (is_digit(peek(p)) || peek(p) == '.' || peek(p) == ':' || peek(p) == '-') {
        advance(p);
    }
    return new_text(p->load, slice_from(p, begin));
}

static bool is_date(struct rb_slice text)
{
    static const uint8_t days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    int year, month, day, hour, minute, second;
    char copy[24];
    snprintf(copy, sizeof(copy), "%.*s", RB_S_ARG(text));
    if (sscanf(copy, "%4d-%2d-%2dT%2d:%2d:%2dZ", &year, &month, &day, &hour, &minute, &second) !=
        6) {
        return false;
    }
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1] &&
           (month != 2 || day < 29 || leap) && hour < 24 && minute < 60 && second < 60;
}

/** At the first "-" of a date whose year has been read. */
static const struct rb_conf_value *parse_date(struct parser *p, size_t begin)
{
    static const char form[] = "-00-00T00:00:00Z";
    char shown[8];
    if (p->at - begin != 4) {
        fail_parse(p, "All ISO8601 dates must be in full Zulu form.");
        return NULL;
    }
    for (const char *want = form; *want != 0; want++) {
        if (*want == '0' ? !is_digit(peek(p)) : peek(p) != *want) {
            fail_parse(p, "Expected %s%c%s in ISO8601 datetime, but found '%s' instead.",
                       *want == '0' ? "digi" : "'", *want == '0' ? 't' : *want,
                       *want == '0' ? "" : "'", show(peek(p), shown));
            return NULL;
        }
        advance(p);
    }
    struct rb_slice text = slice_from(p, begin);
    if (!is_date(text)) {
        fail_with(p->load, RB_ERR_INVALID,
                  "expected Zulu formatted DateTime, but got '%.*s' (%s:%u:%zu)", RB_S_ARG(text),
                  p->path, p->line, p->at - p->line_start);
        return NULL;
    }
    struct rb_conf_value *value = new_value(p->load, RB_CONF_TIME);
    if (value != NULL) {
        value->text = text;
    }
    return value;
}

static const struct rb_conf_value *parse_negative(struct parser *p)
{
    char shown[8];
    size_t begin = p->at;
    advance(p);
    if (!is_digit(peek(p))) {
        fail_parse(p, "Expected a digit but got '%s'.", show(peek(p), shown));
        return NULL;
    }
    skip_digits(p);
    if (peek(p) == '.') {
        return parse_fraction(p, begin);
    }
    struct rb_slice digits = slice_from(p, begin);
    int64_t factor = 1;
    p->at += scan_suffix(p, &factor);
    return new_integer(p, digits, factor, slice_from(p, begin));
}

static bool ends_number(int byte)
{
    return byte == AT_END || is_blank(byte) || is_newline(byte) || byte == ',' || byte == ';' ||
           byte == '}';
}

/** A bare text that began like a number. The byte that made it one belongs to it, whatever it is: "1]" is a text. */
static const struct rb_conf_value *parse_text_after_digits(struct parser *p, size_t begin)
{
    size_t tail = p->at;
    if (peek(p) != 0) {
        advance(p);
        tail = p->at;
    }
    struct rb_slice rest;
    bool escaped;
    if (!scan_escaped(p, false, &rest, &escaped)) {
        return NULL;
    }
    if (!escaped) {
        return new_text(p->load, slice_from(p, begin));
    }
    size_t head_len = tail - begin;
    uint8_t *joined = take(p->load, head_len + rest.len);
    if (joined == NULL) {
        return NULL;
    }
    memcpy(joined, p->text + begin, head_len);
    memcpy(joined + head_len, rest.ptr, rest.len);
    return new_text(p->load, rb_slice_of(joined, head_len + rest.len));
}

/** At a digit: integer, size, float, IP address, date, or a text that only begins with digits. */
static const struct rb_conf_value *parse_digits(struct parser *p)
{
    size_t begin = p->at;
    skip_digits(p);
    if (peek(p) == '-') {
        return parse_date(p, begin);
    }
    if (peek(p) == '.') {
        return parse_fraction(p, begin);
    }
    struct rb_slice digits = slice_from(p, begin);
    int64_t factor = 1;
    size_t suffix_len = scan_suffix(p, &factor);
    int after = p->at + suffix_len < p->len ? p->text[p->at + suffix_len] : AT_END;
    if (ends_number(after)) {
        p->at += suffix_len;
        return new_integer(p, digits, factor, slice_from(p, begin));
    }
    if (suffix_len > 0) {
        p->at += suffix_len - 1; /* the suffix is text; what follows it may end the text */
    }
    return parse_text_after_digits(p, begin);
}

/* ------------------------------------------------------------------ variables */

static bool parse_document(struct parser *p, struct rb_conf_value *root);

/** The value of an environment variable is read as a value of the configuration. */
static const struct rb_conf_value *parse_environment(struct parser *p, const char *name,
                                                     const char *text)
{
    uint32_t line = p->line;
    for (const struct nesting *up = p->nesting; up != NULL; up = up->outer) {
        if (up->variable != NULL && strcmp(up->variable, name) == 0) {
            fail_with(p->load, RB_ERR_INVALID, "variable reference cycle for '%s' (%s:%u:%zu)",
                      name, p->path, line, p->at - p->line_start);
            return NULL;
        }
    }
    struct nesting nesting = { p->nesting, name, p->nesting->depth + 1 };
    if (nesting.depth > RB_CONF_INCLUDE_DEPTH_MAX) {
        fail_with(p->load, RB_ERR_INVALID, "variable '%s' refers to more than %d others in a row",
                  name, RB_CONF_INCLUDE_DEPTH_MAX);
        return NULL;
    }
    char *copy = copy_text(p->load, rb_slice_text(text)); /* the environment may change later */
    p->load->text_bytes += strlen(text);
    if (copy == NULL || p->load->text_bytes > RB_CONF_BYTES_MAX) {
        fail_with(p->load, RB_ERR_INVALID, "configuration is larger than %u bytes",
                  RB_CONF_BYTES_MAX);
        return NULL;
    }
    struct parser inner = { .load = p->load,
                            .path = name,
                            .nesting = &nesting,
                            .text = (const uint8_t *)copy,
                            .len = strlen(copy),
                            .line = 1,
                            .depth = p->depth };
    const struct rb_conf_value *value = parse_value(&inner, NULL);
    skip_spaces_and_comments(&inner);
    if (value != NULL && peek(&inner) != AT_END) {
        char shown[8];
        fail_parse(&inner,
                   "Expected a top-level value to end with a new line, comment or EOF, but got "
                   "'%s' instead.",
                   show(peek(&inner), shown));
        value = NULL;
    }
    if (value == NULL) {
        char why[512];
        snprintf(why, sizeof(why), "%s", p->load->error);
        enum rb_err err = p->load->err;
        p->load->err = RB_OK; /* said again, with where it came from */
        fail_with(p->load, err, "variable reference for '%s' on line %u could not be parsed: %s",
                  name, line, why);
    }
    return value;
}

static const struct rb_conf_value *resolve_variable(struct parser *p, const struct scope *scope,
                                                    struct rb_slice name)
{
    for (; scope != NULL; scope = scope->outer) {
        struct rb_conf_entry *entry = find_entry(scope->map, name);
        if (entry != NULL) {
            entry->is_variable = true;
            return entry->value;
        }
    }
    char *copy = copy_text(p->load, name);
    if (copy == NULL) {
        return NULL;
    }
    const char *text = p->load->closed ? NULL : getenv(copy);
    if (text == NULL) {
        fail_with(p->load, RB_ERR_INVALID,
                  "variable reference for '%s' on line %u can not be found (%s:%u:%zu)", copy,
                  p->line, p->path, p->line, p->at - p->line_start);
        return NULL;
    }
    return parse_environment(p, copy, text);
}

/** Anything that is none of the marked forms. A closing single quote belongs to it and is dropped. */
static const struct rb_conf_value *parse_bare(struct parser *p, const struct scope *scope)
{
    struct rb_slice text;
    bool escaped, truth;
    if (!scan_escaped(p, false, &text, &escaped)) {
        return NULL;
    }
    if (peek(p) == '\'') {
        advance(p);
    }
    if (escaped) {
        return new_text(p->load, text);
    }
    if (is_bool(text, &truth)) {
        struct rb_conf_value *value = new_value(p->load, RB_CONF_BOOL);
        if (value != NULL) {
            value->boolean = truth;
        }
        return value;
    }
    if (text.len > 0 && text.ptr[0] == '$' && !rb_slice_starts(text, RB_S("$2a$"))) {
        return resolve_variable(p, scope, rb_slice_of(text.ptr + 1, text.len - 1));
    }
    return new_text(p->load, text);
}

/* ------------------------------------------------------------------ keys and includes */

struct key {
    struct rb_slice text;
    uint32_t line, column;
    bool is_include;
};

/** At the first byte of a key. `in_map` chooses the words of the errors. */
static bool parse_key(struct parser *p, bool in_map, struct key *ret_key)
{
    int first = peek(p);
    if (first == ':' || first == '=') {
        return fail_parse(p, "Unexpected key separator '%c'%s", first, in_map ? "." : "");
    }
    if (first == '/') {
        return fail_parse(p, "A key cannot begin with '/'; a comment begins with '//' or '#'");
    }
    if (first == ']' && in_map) {
        return fail_parse(p, "Unexpected array end ']' processing map.");
    }
    bool quoted = first == '"' || first == '\'';
    ret_key->line = p->line;
    ret_key->column = (uint32_t)(p->at + quoted - p->line_start);
    ret_key->is_include = false;
    if (quoted) {
        const char *what = !in_map        ? "Unexpected EOF."
                           : first == '"' ? "Unexpected EOF processing double quoted map key."
                                          : "Unexpected EOF processing quoted map key.";
        return scan_raw_quoted(p, &ret_key->text, what);
    }
    size_t begin = p->at;
    for (int byte = first; byte != AT_END && !is_space(byte) && byte != ':' && byte != '=';
         byte = peek(p)) {
        if (byte == 0) {
            return fail_parse(p, "A key cannot contain a zero byte.");
        }
        advance(p);
    }
    if (in_map && peek(p) == AT_END) {
        return fail_parse(p, "Unexpected EOF processing map key.");
    }
    ret_key->text = slice_from(p, begin);
    ret_key->is_include = rb_slice_equal_fold(ret_key->text, RB_S("include")) && is_space(peek(p));
    return true;
}

static void join_path(const char *from, struct rb_slice name, char *out, size_t out_cap)
{
    const char *slash = strrchr(from, '/');
    size_t dir_len = slash == NULL ? 0 : (size_t)(slash - from) + 1;
    while (rb_slice_starts(name, RB_S("/")) || rb_slice_starts(name, RB_S("./"))) {
        name = rb_slice_of(name.ptr + 1, name.len - 1);
    }
    snprintf(out, out_cap, "%.*s%.*s", (int)dir_len, from, RB_S_ARG(name));
}

static bool fail_file(struct load *load, const char *verb, const char *path, int error)
{
    char text[128];
    snprintf(text, sizeof(text), "%s", strerror(error));
    text[0] = (char)tolower((unsigned char)text[0]);
    return fail_with(load, RB_ERR_INVALID, "%s %s: %s", verb, path, text);
}

/** Reads the whole of `path` into the arena. */
static bool read_file(struct load *load, const char *path, struct rb_slice *ret_text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail_file(load, "open", path, errno);
    }
    uint8_t *text = NULL;
    size_t len = 0, cap = 0;
    bool ok = true;
    for (;;) {
        if (len == cap) {
            size_t cap_new = cap == 0 ? 4096 : cap * 2;
            uint8_t *bigger = take(load, cap_new);
            if (bigger == NULL) {
                ok = false;
                break;
            }
            if (len > 0) {
                memcpy(bigger, text, len);
            }
            text = bigger;
            cap = cap_new;
        }
        ssize_t got = read(fd, text + len, cap - len);
        if (got < 0 && errno != EINTR) {
            ok = fail_file(load, "read", path, errno);
            break;
        }
        if (got == 0) {
            break;
        }
        len += got > 0 ? (size_t)got : 0;
        if (len > RB_CONF_BYTES_MAX) {
            ok = fail_with(load, RB_ERR_INVALID, "%s is larger than %u bytes", path,
                           RB_CONF_BYTES_MAX);
            break;
        }
    }
    close(fd);
    *ret_text = rb_slice_of(text, len);
    return ok;
}

/** Parses one text into an empty map. */
static bool parse_text(struct load *load, const char *path, const struct nesting *nesting,
                       struct rb_slice text, uint32_t depth, struct rb_conf_value *root)
{
    load->text_bytes += text.len;
    if (load->text_bytes > RB_CONF_BYTES_MAX) {
        return fail_with(load, RB_ERR_INVALID, "configuration is larger than %u bytes",
                         RB_CONF_BYTES_MAX);
    }
    struct parser p = { .load = load,
                        .path = path,
                        .nesting = nesting,
                        .text = text.ptr,
                        .len = text.len,
                        .line = 1,
                        .depth = depth };
    return parse_document(&p, root);
}

static bool include_file(struct parser *p, struct rb_slice name, struct rb_conf_value *map)
{
    char joined[1024];
    join_path(p->path, name, joined, sizeof(joined));
    struct nesting nesting = { p->nesting, NULL, p->nesting->depth + 1 };
    char *path = copy_text(p->load, rb_slice_text(joined));
    struct rb_conf_value *root = new_value(p->load, RB_CONF_MAP);
    if (path == NULL || root == NULL) {
        return false;
    }
    struct rb_slice text;
    bool ok = nesting.depth <= RB_CONF_INCLUDE_DEPTH_MAX && !p->load->closed;
    if (p->load->closed) {
        fail_with(p->load, RB_ERR_INVALID, "files can not be included here");
    } else if (!ok) {
        fail_with(p->load, RB_ERR_INVALID, "files include each other more than %d deep",
                  RB_CONF_INCLUDE_DEPTH_MAX);
    }
    ok = ok && read_file(p->load, path, &text) &&
         parse_text(p->load, path, &nesting, text, p->depth, root);
    if (!ok) {
        char why[512];
        snprintf(why, sizeof(why), "%s", p->load->error);
        enum rb_err err = p->load->err;
        p->load->err = RB_OK; /* said again, with where it came from */
        return fail_with(p->load, err, "error parsing include file '%.*s', %s",
                         (int)(name.len < 200 ? name.len : 200), (const char *)name.ptr, why);
    }
    for (struct rb_conf_entry *entry = root->map.first; entry != NULL; entry = entry->next) {
        if (!put_entry(p->load, map, entry)) {
            return false;
        }
    }
    return true;
}

/** After the word "include": a name, bare or quoted. */
static bool parse_include(struct parser *p, struct rb_conf_value *map)
{
    struct rb_slice name;
    skip_blanks(p);
    int first = peek(p);
    const char *found = is_newline(first) ? "new line"
                        : first == '{'    ? "start of a map"
                        : first == '['    ? "start of an array"
                        : first == '('    ? "start of a block"
                        : first == AT_END ? "the end of the file"
                                          : NULL;
    if (found != NULL) {
        return fail_parse(p, "Expected include value but found %s", found);
    }
    if (first == '"' || first == '\'') {
        if (!scan_raw_quoted(p, &name, "Unexpected EOF in quoted include")) {
            return false;
        }
    } else {
        size_t begin = p->at;
        while (!ends_number(peek(p))) {
            advance(p);
        }
        name = slice_from(p, begin);
    }
    return include_file(p, name, map);
}

/* ------------------------------------------------------------------ pairs, maps, arrays, documents */

static bool parse_pair_or_include(struct parser *p, bool in_map, const struct scope *scope)
{
    struct key key;
    if (!parse_key(p, in_map, &key)) {
        return false;
    }
    if (key.is_include) {
        return parse_include(p, scope->map);
    }
    skip_spaces(p);
    bool separated = peek(p) == ':' || peek(p) == '=';
    if (peek(p) == AT_END && !in_map) {
        return fail_with(p->load, RB_ERR_INVALID, "config is invalid (%s:%u:%zu)", p->path, p->line,
                         p->at - p->line_start);
    }
    if (separated) {
        advance(p);
    }
    if (in_map) {
        skip_spaces(p);
        if (peek(p) == ',') {
            return fail_parse(p, "Unexpected map value terminator \",\".");
        }
        if (peek(p) == '}') {
            return fail_parse(p, "Expected a map value, but got '}' instead.");
        }
    }
    const struct rb_conf_value *value = parse_value(p, scope);
    if (value == NULL) {
        return false;
    }
    struct rb_conf_entry entry = {
        .key = key.text, .value = value, .path = p->path, .line = key.line, .column = key.column
    };
    return put_entry(p->load, scope->map, &entry);
}

/** At "{". */
static const struct rb_conf_value *parse_map(struct parser *p, const struct scope *outer)
{
    char shown[8];
    struct rb_conf_value *map = new_value(p->load, RB_CONF_MAP);
    if (map == NULL) {
        return NULL;
    }
    struct scope scope = { outer, map };
    advance(p);
    for (;;) {
        skip_spaces_and_comments(p);
        if (peek(p) == '}') {
            break;
        }
        if (peek(p) == AT_END) {
            fail_parse(p, "Unexpected EOF processing map.");
            return NULL;
        }
        if (!parse_pair_or_include(p, true, &scope)) {
            return NULL;
        }
        skip_blanks(p);
        if (at_comment(p)) {
            skip_comment(p);
        }
        if (is_newline(peek(p)) || peek(p) == ',' || peek(p) == ';') {
            advance(p);
        } else if (peek(p) != '}') {
            fail_parse(p,
                       "Expected a map value terminator \",\" or a map terminator \"}\", but got "
                       "'%s' instead.",
                       show(peek(p), shown));
            return NULL;
        }
    }
    advance(p);
    return map;
}

/** At "[". */
static bool parse_item(struct parser *p, const struct scope *scope, struct rb_conf_value *array)
{
    int first = peek(p);
    struct rb_conf_item item = {
        .path = p->path,
        .line = p->line,
        .column =
            (uint32_t)(p->at - p->line_start) + (first == '"' || first == '\'' || first == '('),
    };
    item.value = parse_value(p, scope);
    if (item.value == NULL) {
        return false;
    }
    if (first == '{' || first == '[') {
        item.line = p->line;
        item.column = (uint32_t)(p->at - p->line_start);
    }
    return put_item(p->load, array, &item);
}

static const struct rb_conf_value *parse_array(struct parser *p, const struct scope *scope)
{
    char shown[8];
    struct rb_conf_value *array = new_value(p->load, RB_CONF_ARRAY);
    if (array == NULL) {
        return NULL;
    }
    advance(p);
    for (;;) {
        skip_spaces_and_comments(p);
        if (peek(p) == ']') {
            break;
        }
        if (peek(p) == ',') {
            fail_parse(p, "Unexpected array value terminator ','.");
            return NULL;
        }
        bool ended = peek(p) == AT_END || peek(p) == ';' || peek(p) == '}';
        if (!ended && !parse_item(p, scope, array)) {
            return NULL;
        }
        skip_blanks(p);
        if (at_comment(p)) {
            skip_comment(p);
        }
        if (!ended && (is_newline(peek(p)) || peek(p) == ',')) {
            advance(p);
        } else if (peek(p) != ']') {
            fail_parse(p,
                       "Expected an array value terminator \",\" or an array terminator \"]\", but "
                       "got '%s' instead.",
                       show(peek(p), shown));
            return NULL;
        }
    }
    advance(p);
    return array;
}

/** At the first byte of a value, blanks allowed. */
static const struct rb_conf_value *parse_value(struct parser *p, const struct scope *scope)
{
    skip_blanks(p);
    int first = peek(p);
    if (is_digit(first)) {
        return parse_digits(p);
    }
    if (is_newline(first)) {
        fail_parse(p, "Expected value but found new line");
        return NULL;
    }
    if (first == '{' || first == '[') {
        if (p->depth >= RB_CONF_DEPTH_MAX) {
            fail_with(p->load, RB_ERR_INVALID,
                      "configuration is nested deeper than %d levels (%s:%u:%zu)",
                      RB_CONF_DEPTH_MAX, p->path, p->line, p->at - p->line_start);
            return NULL;
        }
        p->depth++;
        const struct rb_conf_value *value =
            first == '{' ? parse_map(p, scope) : parse_array(p, scope);
        p->depth--;
        return value;
    }
    switch (first) {
    case '(':
        return parse_block(p);
    case '"':
        return parse_double_quoted(p);
    case '\'':
        return parse_single_quoted(p);
    case '-':
        return parse_negative(p);
    case '.':
        fail_parse(p, "Floats must start with a digit");
        return NULL;
    default:
        return parse_bare(p, scope);
    }
}

/** After a top-level value: what may follow on its line. False also for bytes that may not. */
static bool end_top_value(struct parser *p, bool in_braces)
{
    char shown[8];
    skip_blanks(p);
    if (at_comment(p)) {
        skip_comment(p);
    }
    int byte = peek(p);
    if (is_newline(byte) || byte == ',' || byte == ';') {
        advance(p);
        return true;
    }
    return byte == AT_END || byte == '}' ||
           fail_parse(p,
                      "Expected a %s value to end with a new line, comment or EOF, but got '%s' "
                      "instead.",
                      in_braces ? "block-level" : "top-level", show(byte, shown));
}

/** A whole text, perhaps inside braces. Braces too many at the end are let pass, as nats-server does. */
static bool parse_document(struct parser *p, struct rb_conf_value *root)
{
    struct scope scope = { NULL, root };
    uint32_t open_braces = 0;
    for (;;) {
        skip_spaces_and_comments(p);
        int byte = peek(p);
        if (byte == AT_END) {
            break;
        }
        if (byte == '{' || byte == '}') {
            open_braces = byte == '{' ? open_braces + 1 : open_braces - (open_braces > 0);
            advance(p);
            continue;
        }
        if (!parse_pair_or_include(p, false, &scope) || !end_top_value(p, open_braces > 0)) {
            return false;
        }
    }
    return open_braces == 0 ||
           fail_parse(p, "Unexpected EOF: the '{' around the configuration is not closed.");
}

/* ------------------------------------------------------------------ entry points */

static enum rb_err parse_with(const char *path, const struct rb_slice *text, bool closed,
                              struct rb_conf *ret_conf, char *error, size_t error_cap)
{
    struct load load = { .error = error, .error_cap = error_cap, .closed = closed };
    struct nesting nesting = { NULL, NULL, 0 };
    if (rb_arena_create(65536, &load.arena) != RB_OK) {
        snprintf(error, error_cap, "out of memory while reading the configuration");
        return RB_ERR_MEMORY;
    }
    struct rb_conf_value *root = new_value(&load, RB_CONF_MAP);
    char *path_copy = copy_text(&load, rb_slice_text(path));
    struct rb_slice bytes = { 0 };
    bool ok = root != NULL && path_copy != NULL;
    if (ok && text == NULL) {
        ok = read_file(&load, path, &bytes);
    } else if (ok) {
        char *copy = copy_text(&load, *text); /* the tree's slices must live as long as the tree */
        ok = copy != NULL;
        bytes = rb_slice_of(copy, text->len);
    }
    ok = ok && parse_text(&load, path_copy, &nesting, bytes, 0, root);
    if (!ok) {
        rb_assert(load.err != RB_OK);
        rb_arena_destroy(load.arena);
        return load.err;
    }
    *ret_conf = (struct rb_conf){ load.arena, root };
    return RB_OK;
}

enum rb_err rb_conf_parse(const char *path, struct rb_slice text, struct rb_conf *ret_conf,
                          char *error, size_t error_cap)
{
    return parse_with(path, &text, false, ret_conf, error, error_cap);
}

enum rb_err rb_conf_parse_closed(const char *path, struct rb_slice text, struct rb_conf *ret_conf,
                                 char *error, size_t error_cap)
{
    return parse_with(path, &text, true, ret_conf, error, error_cap);
}

enum rb_err rb_conf_parse_file(const char *path, struct rb_conf *ret_conf, char *error,
                               size_t error_cap)
{
    return parse_with(path, NULL, false, ret_conf, error, error_cap);
}

void rb_conf_deinit(struct rb_conf *conf)
{
    if (conf->arena != NULL) {
        rb_arena_destroy(conf->arena);
    }
    *conf = (struct rb_conf){ 0 };
}

const struct rb_conf_entry *rb_conf_find(const struct rb_conf_value *map, struct rb_slice key)
{
    rb_assert(map->kind == RB_CONF_MAP);
    return find_entry(map, key);
}

const char *rb_conf_kind_text(enum rb_conf_kind kind)
{
    switch (kind) {
    case RB_CONF_BOOL:
        return "bool";
    case RB_CONF_INT:
        return "int64";
    case RB_CONF_FLOAT:
        return "float64";
    case RB_CONF_TIME:
        return "time.Time";
    case RB_CONF_TEXT:
        return "string";
    case RB_CONF_ARRAY:
        return "[]interface {}";
    case RB_CONF_MAP:
        return "map[string]interface {}";
    }
    rb_unreachable("kinds are listed above");
}
