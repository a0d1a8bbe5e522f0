/* doc_read.c - JSON to structs, as strict as Go's encoding/json and in its words.
 *
 * 1. The text of each value is checked whole (gojson.c) before anything of it is read, as Go does: the walk below meets valid
 *    JSON only and needs no errors of its own.
 * 2. A value of the wrong type, or a field nobody knows, is remembered (the first one counts) and reading goes on. What a type
 *    itself refuses (enums, times) ends the reading, and is what is reported.
 * 3. The walk recurses along the tables, which are finite; what no table knows is skipped by counting brackets.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "js/doc.h"
#include "js/doc_inside.h"
#include "proto/gojson.h"
#include "proto/gotime.h"
#include "proto/json.h"

#define PATH_MAX_LEVELS 8

struct read {
    struct rb_arena *arena;
    const uint8_t *at, *end;
    char *error; /* of the first wrong value; empty: none */
    bool ended;  /* by rule 2, or memory was refused */
    bool strict;
    const struct rb_doc_type *root, *inside; /* inside: what the innermost object is read into */
    const char *path[PATH_MAX_LEVELS];
    uint32_t depth;
};

/* ---- walking valid text ---- */

static void skip_blanks(struct read *r)
{
    while (r->at < r->end &&
           (*r->at == ' ' || *r->at == '\t' || *r->at == '\r' || *r->at == '\n')) {
        r->at++;
    }
}

static uint8_t peek(struct read *r)
{
    skip_blanks(r);
    return r->at < r->end ? *r->at : 0;
}

static void skip_string(struct read *r)
{
    for (r->at++; r->at < r->end && *r->at != '"'; r->at++) {
        r->at += *r->at == '\\';
    }
    r->at++;
}

/* Steps over one value and gives its text. */
static struct rb_slice skip_value(struct read *r)
{
    (void)peek(r);
    const uint8_t *begin = r->at;
    uint32_t depth = 0;
    do {
        uint8_t c = peek(r);
        if (c == '"') {
            skip_string(r);
        } else if (c == '{' || c == '[') {
            depth++;
            r->at++;
        } else if (c == '}' || c == ']') {
            depth--;
            r->at++;
        } else if (c == ',' || c == ':') {
            r->at++;
        } else {
            while (r->at < r->end && strchr(" \t\r\n,:]}", *r->at) == NULL) {
                r->at++;
            }
        }
    } while (depth > 0);
    return rb_slice_of(begin, (size_t)(r->at - begin));
}

/* Behind '{' or '[', or behind an item: false at the end, which is consumed. */
static bool next_item(struct read *r)
{
    uint8_t c = peek(r);
    if (c == ',') {
        r->at++;
        c = peek(r);
    }
    if (c == '}' || c == ']') {
        r->at++;
        return false;
    }
    return true;
}

static uint32_t count_items(struct read *r)
{
    const uint8_t *begin = r->at++;
    uint32_t count = 0;
    while (next_item(r)) {
        (void)skip_value(r);
        count++;
    }
    r->at = begin;
    return count;
}

/* ---- errors ---- */

static void end_with(struct read *r, const char *text)
{
    (void)snprintf(r->error, RB_DOC_ERROR_MAX, "%s", text);
    r->ended = true;
}

static void *take(struct read *r, size_t bytes)
{
    void *memory = rb_arena_take(r->arena, bytes == 0 ? 1 : bytes);
    if (memory == NULL) {
        end_with(r, "not enough memory");
    }
    return memory;
}

static const char *kind_of(uint8_t first)
{
    switch (first) {
    case '{':
        return "object";
    case '[':
        return "array";
    case '"':
        return "string";
    case 't':
    case 'f':
        return "bool";
    default:
        return "number";
    }
}

/* What Go calls the type of a field; of its items when `item`. */
static void type_name(const struct rb_doc_field *field, bool item, char out[80])
{
    static const char *const names[] = {
        [RB_DOC_BOOL] = "bool",
        [RB_DOC_I32] = "int32",
        [RB_DOC_I64] = "int64",
        [RB_DOC_INT] = "int",
        [RB_DOC_DURATION] = "time.Duration",
        [RB_DOC_U64] = "uint64",
        [RB_DOC_STRING] = "string",
        [RB_DOC_ENUM] = "string",
        [RB_DOC_STRINGS] = "[]string",
        [RB_DOC_I64S] = "[]time.Duration",
        [RB_DOC_U64S] = "[]uint64",
        [RB_DOC_MAP] = "map[string]string",
        [RB_DOC_COUNTS] = "map[string]uint64",
    };
    switch (field->kind) {
    case RB_DOC_OBJECT:
    case RB_DOC_INLINE:
    case RB_DOC_OBJECTS: {
        bool array = field->kind == RB_DOC_OBJECTS && !item;
        (void)snprintf(out, 80, "%s%sserver.%s", array ? "[]" : "",
                       array && (field->flags & RB_DOC_POINTERS) != 0 ? "*" : "",
                       field->type->go_name);
        return;
    }
    default: {
        const char *name = names[field->kind];
        const char *bracket = strchr(name, ']');
        (void)snprintf(out, 80, "%s", item && bracket != NULL ? bracket + 1 : name);
    }
    }
}

/* A value of the wrong type begins at r->at: remembers it and steps over it. `number`: its text belongs to the error. */
static void mistyped(struct read *r, const struct rb_doc_field *field, bool item, bool number)
{
    const char *kind = kind_of(peek(r));
    struct rb_slice text = skip_value(r);
    if (r->error[0] != '\0') {
        return;
    }
    char type[80];
    type_name(field, item, type);
    int len = snprintf(r->error, RB_DOC_ERROR_MAX,
                       "json: cannot unmarshal %s%s%.*s into Go struct "
                       "field %s.",
                       kind, number ? " " : "", number ? (int)(text.len < 64 ? text.len : 64) : 0,
                       (const char *)text.ptr, r->inside->go_name);
    for (uint32_t i = 0; i < r->depth && len < RB_DOC_ERROR_MAX; i++) {
        len += snprintf(r->error + len, RB_DOC_ERROR_MAX - (size_t)len, "%s%s", i == 0 ? "" : ".",
                        r->path[i]);
    }
    if (len < RB_DOC_ERROR_MAX) {
        (void)snprintf(r->error + len, RB_DOC_ERROR_MAX - (size_t)len, " of type %s", type);
    }
}

/* ---- text ---- */

static uint32_t hex4(const uint8_t *at)
{
    uint32_t code = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = at[i];
        code = code << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return code;
}

static size_t put_utf8(uint8_t *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xc0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xe0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

/* The escape at *at, behind its backslash; half of a pair of surrogates is no character. */
static size_t put_escape(uint8_t *out, const uint8_t **at, const uint8_t *end)
{
    static const char names[] = "bfnrt", bytes[] = "\b\f\n\r\t";
    uint8_t c = *(*at)++;
    if (c != 'u') {
        const char *found = strchr(names, c);
        out[0] = found != NULL ? (uint8_t)bytes[found - names] : c;
        return 1;
    }
    uint32_t code = hex4(*at);
    *at += 4;
    if (code >= 0xd800 && code < 0xe000) {
        uint32_t low = 0;
        if (code < 0xdc00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
            low = hex4(*at + 2);
        }
        if (low >= 0xdc00 && low < 0xe000) {
            *at += 6;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        } else {
            code = 0xfffd;
        }
    }
    return put_utf8(out, code);
}

/* A string's value; bytes that are no UTF-8 become U+FFFD, of three bytes. */
static struct rb_slice read_string(struct read *r)
{
    const uint8_t *begin = r->at + 1;
    skip_string(r);
    const uint8_t *end = r->at - 1;
    size_t cap = 0;
    for (const uint8_t *at = begin; at < end; at++) {
        cap += *at >= 0x80 ? 3 : 1;
    }
    uint8_t *out = cap == 0 ? NULL : take(r, cap);
    if (out == NULL) {
        return rb_slice_of(NULL, 0);
    }
    size_t len = 0;
    for (const uint8_t *at = begin; at < end;) {
        if (*at == '\\') {
            at++;
            len += put_escape(out + len, &at, end);
            continue;
        }
        size_t bytes = rb_utf8_len(at, (size_t)(end - at));
        if (bytes == 0) {
            len += put_utf8(out + len, 0xfffd);
            at++;
        } else {
            memcpy(out + len, at, bytes);
            len += bytes;
            at += bytes;
        }
    }
    return rb_slice_of(out, len);
}

/* ---- values ---- */

/* A number's text as C reads it; false: no integer, or too long to be one. */
static bool number_text(struct rb_slice text, char out[24])
{
    if (text.len >= 24) {
        return false;
    }
    for (size_t i = text.ptr[0] == '-'; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
    }
    memcpy(out, text.ptr, text.len);
    out[text.len] = '\0';
    return true;
}

static bool is_number(uint8_t first)
{
    return first == '-' || (first >= '0' && first <= '9');
}

static void read_signed(struct read *r, const struct rb_doc_field *field, bool item,
                        int64_t *ret_value)
{
    const uint8_t *begin = r->at;
    if (!is_number(peek(r))) {
        mistyped(r, field, item, false);
        return;
    }
    char text[24];
    errno = 0;
    if (number_text(skip_value(r), text)) {
        int64_t value = strtoll(text, NULL, 10);
        if (errno == 0 && (field->kind != RB_DOC_I32 || (int32_t)value == value)) {
            *ret_value = value;
            return;
        }
    }
    r->at = begin;
    mistyped(r, field, item, true);
}

static void read_unsigned(struct read *r, const struct rb_doc_field *field, bool item,
                          uint64_t *ret_value)
{
    const uint8_t *begin = r->at;
    if (!is_number(peek(r))) {
        mistyped(r, field, item, false);
        return;
    }
    char text[24];
    errno = 0;
    if (number_text(skip_value(r), text) && text[0] != '-') {
        uint64_t value = strtoull(text, NULL, 10);
        if (errno == 0) {
            *ret_value = value;
            return;
        }
    }
    r->at = begin;
    mistyped(r, field, item, true);
}

static void read_enum(struct read *r, const struct rb_doc_field *field, uint8_t *ret_value)
{
    uint8_t first = peek(r);
    if ((field->flags & RB_DOC_TEXT) != 0 && first != '"') {
        /* Go's error of a type that reads a string itself: it ends the reading, and replaces what was wrong before. */
        if (first != 'n') {
            r->error[0] = '\0';
            mistyped(r, field, false, false);
            r->ended = true;
            return;
        }
        (void)skip_value(r);
        return;
    }
    struct rb_slice raw = first == '"' ? (struct rb_slice){ NULL, 0 } : skip_value(r);
    if (first == '"') {
        const uint8_t *begin = r->at;
        struct rb_slice name = read_string(r);
        raw = rb_slice_of(begin, (size_t)(r->at - begin));
        for (uint8_t i = 0; !r->ended && field->names[i] != NULL; i++) {
            struct rb_slice known = rb_slice_text(field->names[i]);
            if (rb_slice_equal(known, name) ||
                ((field->flags & RB_DOC_ANY_CASE) != 0 && rb_slice_equal_fold(known, name))) {
                *ret_value = i;
                return;
            }
        }
    }
    if (r->ended) {
        return;
    }
    char text[RB_DOC_ERROR_MAX];
    size_t len = field->refusal == NULL ? 0 : strlen(field->refusal);
    if (field->refusal == NULL) {
        uint8_t quoted[200];
        size_t quoted_len = rb_format_quoted(quoted, sizeof(quoted), raw);
        (void)snprintf(text, sizeof(text), "can not unmarshal \"%.*s\"", (int)quoted_len,
                       (const char *)quoted);
    } else if (len > 0 && field->refusal[len - 1] == ' ') {
        (void)snprintf(text, sizeof(text), "%s%.*s", field->refusal,
                       (int)(raw.len < 200 ? raw.len : 200), (const char *)raw.ptr);
    } else {
        (void)snprintf(text, sizeof(text), "%s", field->refusal);
    }
    end_with(r, text);
}

static void read_time(struct read *r, int64_t *ret_value)
{
    if (peek(r) != '"') {
        end_with(r, "Time.UnmarshalJSON: input is not a JSON string");
        return;
    }
    /* Go reads what is between the quotes as it is. */
    struct rb_slice text = skip_value(r);
    char error[RB_GO_TIME_ERROR_MAX];
    if (!rb_go_time(rb_slice_of(text.ptr + 1, text.len - 2), ret_value, error)) {
        end_with(r, error);
    }
}

static void read_strings(struct read *r, const struct rb_doc_field *field,
                         struct rb_doc_strings *strings)
{
    uint32_t count = count_items(r);
    struct rb_slice *items = take(r, count * sizeof(*items));
    r->at++;
    for (uint32_t i = 0; !r->ended && next_item(r); i++) {
        if (peek(r) == '"') {
            items[i] = read_string(r);
        } else if (*r->at == 'n') {
            (void)skip_value(r);
        } else {
            mistyped(r, field, true, false);
        }
    }
    if (!r->ended) {
        *strings = (struct rb_doc_strings){ items, count };
    }
}

static void read_numbers(struct read *r, const struct rb_doc_field *field,
                         struct rb_doc_i64s *numbers)
{
    uint32_t count = count_items(r);
    int64_t *items = take(r, count * sizeof(*items));
    r->at++;
    for (uint32_t i = 0; !r->ended && next_item(r); i++) {
        if (peek(r) == 'n') {
            (void)skip_value(r);
        } else {
            read_signed(r, field, true, &items[i]);
        }
    }
    if (!r->ended) {
        *numbers = (struct rb_doc_i64s){ items, count };
    }
}

/* Arrays of numbers and maps to numbers that are only checked. */
static void check_numbers(struct read *r, const struct rb_doc_field *field)
{
    bool map = *r->at++ == '{';
    uint64_t ignored;
    while (!r->ended && next_item(r)) {
        if (map) {
            skip_string(r);
            (void)peek(r);
            r->at++; /* ':' */
        }
        if (peek(r) == 'n') {
            (void)skip_value(r);
        } else {
            read_unsigned(r, field, true, &ignored);
        }
    }
}

static int compare_pairs(const void *a, const void *b)
{
    const struct rb_doc_pair *x = a, *y = b;
    size_t len = x->key.len < y->key.len ? x->key.len : y->key.len;
    int order = len == 0 ? 0 : memcmp(x->key.ptr, y->key.ptr, len);
    if (order == 0) {
        order = x->key.len < y->key.len ? -1 : x->key.len > y->key.len;
    }
    /* Equal keys in the order of the text: items lie there in it. */
    return order;
}

/* Keys that come again: the last one counts. Sorts stably, since qsort of glibc may not be. */
static void sort_pairs(struct rb_doc_pair *items, struct rb_doc_pair *spare, uint32_t count)
{
    for (uint32_t width = 1; width < count; width *= 2) {
        for (uint32_t begin = 0; begin < count; begin += 2 * width) {
            uint32_t middle = count - begin > width ? begin + width : count;
            uint32_t end = count - begin > 2 * width ? begin + 2 * width : count;
            uint32_t a = begin, b = middle;
            for (uint32_t i = begin; i < end; i++) {
                bool left = a < middle && (b >= end || compare_pairs(&items[a], &items[b]) <= 0);
                spare[i] = left ? items[a++] : items[b++];
            }
        }
        memcpy(items, spare, count * sizeof(*items));
    }
}

static void read_map(struct read *r, const struct rb_doc_field *field, struct rb_doc_map *map)
{
    uint32_t room = map->count;
    const uint8_t *begin = r->at++;
    while (next_item(r)) {
        skip_string(r);
        (void)peek(r);
        r->at++;
        (void)skip_value(r);
        room++;
    }
    r->at = begin + 1;
    struct rb_doc_pair *items = take(r, room * sizeof(*items));
    struct rb_doc_pair *spare = take(r, room * sizeof(*items));
    if (r->ended) {
        return;
    }
    uint32_t count = map->count;
    if (count > 0) {
        memcpy(items, map->items, count * sizeof(*items));
    }
    while (!r->ended && next_item(r)) {
        struct rb_doc_pair pair = { .key = read_string(r) };
        (void)peek(r);
        r->at++;
        if (peek(r) == '"') {
            pair.value = read_string(r);
        } else if (*r->at == 'n') {
            (void)skip_value(r);
        } else {
            mistyped(r, field, true, false);
        }
        items[count++] = pair;
    }
    sort_pairs(items, spare, count);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (kept > 0 && compare_pairs(&items[kept - 1], &items[i]) == 0) {
            kept--;
        }
        items[kept++] = items[i];
    }
    *map = (struct rb_doc_map){ items, kept, true };
}

static void read_members(struct read *r, const struct rb_doc_type *type, void *doc);

static void read_objects(struct read *r, const struct rb_doc_field *field,
                         struct rb_doc_objects *objects)
{
    uint32_t count = count_items(r);
    if (count > RB_DOC_OBJECTS_MAX) {
        end_with(r, "too many items in an array");
        return;
    }
    uint8_t *items = take(r, count * field->type->size);
    r->at++;
    for (uint32_t i = 0; !r->ended && next_item(r); i++) {
        void *item = items + i * field->type->size;
        rb_doc_init(field->type, item);
        if (peek(r) == '{') {
            read_members(r, field->type, item);
        } else if (*r->at == 'n') {
            (void)skip_value(r);
        } else {
            mistyped(r, field, true, false);
        }
    }
    if (!r->ended) {
        *objects = (struct rb_doc_objects){ items, count };
    }
}

static void read_object(struct read *r, const struct rb_doc_field *field, void **object)
{
    if (*object == NULL) {
        *object = take(r, field->type->size);
        if (*object == NULL) {
            return;
        }
        rb_doc_init(field->type, *object);
    }
    read_members(r, field->type, *object);
}

static void set_null(const struct rb_doc_field *field, void *at)
{
    switch (field->kind) {
    case RB_DOC_STRINGS:
        *(struct rb_doc_strings *)at = (struct rb_doc_strings){ 0 };
        break;
    case RB_DOC_I64S:
        *(struct rb_doc_i64s *)at = (struct rb_doc_i64s){ 0 };
        break;
    case RB_DOC_MAP:
        *(struct rb_doc_map *)at = (struct rb_doc_map){ 0 };
        break;
    case RB_DOC_OBJECT:
        *(void **)at = NULL;
        break;
    case RB_DOC_OBJECTS:
        *(struct rb_doc_objects *)at = (struct rb_doc_objects){ 0 };
        break;
    case RB_DOC_TIME:
        *(int64_t *)at = RB_DOC_NO_TIME;
        break;
    default:
        break; /* Go leaves the others as they are */
    }
}

/* Which first byte a kind of field takes; 0: it looks itself. */
static uint8_t wanted_first(const struct rb_doc_field *field)
{
    switch (field->kind) {
    case RB_DOC_STRING:
        return '"';
    case RB_DOC_STRINGS:
    case RB_DOC_I64S:
    case RB_DOC_U64S:
    case RB_DOC_OBJECTS:
        return '[';
    case RB_DOC_MAP:
    case RB_DOC_COUNTS:
    case RB_DOC_OBJECT:
    case RB_DOC_INLINE:
        return '{';
    default:
        return 0;
    }
}

static void read_raw(struct read *r, struct rb_slice *ret_text)
{
    struct rb_slice text = skip_value(r);
    uint8_t *copy = take(r, text.len);
    if (copy != NULL) {
        memcpy(copy, text.ptr, text.len);
        *ret_text = rb_slice_of(copy, text.len);
    }
}

static void read_field(struct read *r, const struct rb_doc_field *field, void *at)
{
    uint8_t first = peek(r), wanted = wanted_first(field);
    if (first == 'n' && field->kind != RB_DOC_ENUM && field->kind != RB_DOC_RAW) {
        (void)skip_value(r);
        set_null(field, at);
        return;
    }
    if (wanted != 0 && first != wanted) {
        mistyped(r, field, false, false);
        return;
    }
    switch (field->kind) {
    case RB_DOC_BOOL:
        if (first == 't' || first == 'f') {
            *(bool *)at = first == 't';
            (void)skip_value(r);
        } else {
            mistyped(r, field, false, false);
        }
        break;
    case RB_DOC_I32: {
        int64_t value = *(int32_t *)at;
        read_signed(r, field, false, &value);
        *(int32_t *)at = (int32_t)value;
        break;
    }
    case RB_DOC_I64:
    case RB_DOC_INT:
    case RB_DOC_DURATION:
        read_signed(r, field, false, at);
        break;
    case RB_DOC_U64:
        read_unsigned(r, field, false, at);
        break;
    case RB_DOC_STRING:
        *(struct rb_slice *)at = read_string(r);
        break;
    case RB_DOC_TIME:
        read_time(r, at);
        break;
    case RB_DOC_ENUM:
        read_enum(r, field, at);
        break;
    case RB_DOC_STRINGS:
        read_strings(r, field, at);
        break;
    case RB_DOC_I64S:
        read_numbers(r, field, at);
        break;
    case RB_DOC_U64S:
    case RB_DOC_COUNTS:
        check_numbers(r, field);
        break;
    case RB_DOC_MAP:
        read_map(r, field, at);
        break;
    case RB_DOC_OBJECT:
        read_object(r, field, at);
        break;
    case RB_DOC_INLINE:
        read_members(r, field->type, at);
        break;
    case RB_DOC_OBJECTS:
        read_objects(r, field, at);
        break;
    case RB_DOC_RAW:
        read_raw(r, at);
        break;
    }
}

/* Go prefers the exact name, then any case; own fields come before those of embedded structs. */
static const struct rb_doc_field *find_own(const struct rb_doc_type *type, struct rb_slice name,
                                           bool fold)
{
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct rb_doc_field *field = &type->fields[i];
        if (field->name == NULL || (field->flags & RB_DOC_READ_ONLY) != 0) {
            continue;
        }
        struct rb_slice known = rb_slice_text(field->name);
        if (fold ? rb_slice_equal_fold(known, name) : rb_slice_equal(known, name)) {
            return field;
        }
    }
    return NULL;
}

/* *ret_embedded: the field it was found through; NULL: an own one. */
static const struct rb_doc_field *find_field(const struct rb_doc_type *type, struct rb_slice name,
                                             const struct rb_doc_field **ret_embedded)
{
    for (int fold = 0; fold < 2; fold++) {
        *ret_embedded = NULL;
        const struct rb_doc_field *found = find_own(type, name, fold != 0);
        for (uint32_t i = 0; found == NULL && i < type->field_count; i++) {
            if (rb_doc_is_embedded(&type->fields[i])) {
                *ret_embedded = &type->fields[i];
                found = find_own(type->fields[i].type, name, fold != 0);
            }
        }
        if (found != NULL) {
            return found;
        }
    }
    return NULL;
}

static void unknown(struct read *r, struct rb_slice name)
{
    (void)skip_value(r);
    if (!r->strict || r->error[0] != '\0' || r->ended) {
        return;
    }
    uint8_t quoted[RB_DOC_ERROR_MAX - 32];
    size_t len = rb_format_quoted(quoted, sizeof(quoted), name);
    (void)snprintf(r->error, RB_DOC_ERROR_MAX, "json: unknown field \"%.*s\"", (int)len,
                   (const char *)quoted);
}

/* At '{'. */
static void read_members(struct read *r, const struct rb_doc_type *type, void *doc)
{
    const struct rb_doc_type *outside = r->inside;
    uint32_t depth = r->depth;
    r->at++;
    while (!r->ended && next_item(r)) {
        struct rb_slice name = read_string(r);
        (void)peek(r);
        r->at++; /* ':' */
        const struct rb_doc_field *embedded, *field = find_field(type, name, &embedded);
        if (field == NULL) {
            unknown(r, name);
            continue;
        }
        rb_assert(depth + 2 <= PATH_MAX_LEVELS);
        r->inside = type;
        if (embedded != NULL) {
            r->path[r->depth++] = embedded->type->go_name;
        }
        r->path[r->depth++] = field->name;
        read_field(r, field, rb_doc_at(embedded != NULL ? rb_doc_at(doc, embedded) : doc, field));
        r->inside = outside;
        r->depth = depth;
    }
}

static bool read_value(struct read *r, struct rb_slice text, void *out)
{
    r->at = text.ptr;
    r->end = text.ptr + text.len;
    if (*r->at == '{') {
        read_members(r, r->root, out);
    } else if (*r->at != 'n') {
        (void)snprintf(r->error, RB_DOC_ERROR_MAX,
                       "json: cannot unmarshal %s into Go value of type server.%s", kind_of(*r->at),
                       r->root->go_name);
    }
    return r->error[0] == '\0';
}

bool rb_doc_read(struct rb_arena *arena, const struct rb_doc_type *type, struct rb_slice json,
                 bool strict, void *out, char error[RB_DOC_ERROR_MAX])
{
    struct read r = { .arena = arena, .error = error, .strict = strict, .root = type };
    char why[RB_GOJSON_ERROR_MAX];
    size_t offset = 0;
    struct rb_slice value;
    rb_doc_init(type, out);
    error[0] = '\0';
    if (!strict) {
        if (!rb_gojson_valid(json, why)) {
            (void)snprintf(error, RB_DOC_ERROR_MAX, "%s", why);
            return false;
        }
        return rb_gojson_next(json, &offset, &value, why) != RB_GOJSON_VALUE ||
               read_value(&r, value, out);
    }
    for (;;) {
        switch (rb_gojson_next(json, &offset, &value, why)) {
        case RB_GOJSON_VALUE:
            if (!read_value(&r, value, out)) {
                return false;
            }
            break;
        case RB_GOJSON_END:
            return true;
        case RB_GOJSON_CUT:
            (void)snprintf(error, RB_DOC_ERROR_MAX, "unexpected EOF");
            return false;
        case RB_GOJSON_BAD:
            (void)snprintf(error, RB_DOC_ERROR_MAX, "%s at offset %zu", why, offset);
            return false;
        }
    }
}
