/* doc_write.c - documents as text: the table's order, its omissions, Go's escaping. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "js/doc.h"
#include "js/doc_inside.h"

void rb_out_time(struct rb_out *out, int64_t time_ns)
{
    if (time_ns == RB_DOC_NO_TIME) {
        rb_out_put(out, RB_S("\"0001-01-01T00:00:00Z\""));
        return;
    }
    int64_t fraction = time_ns % 1000000000;
    time_t seconds = (time_t)(time_ns / 1000000000);
    if (fraction < 0) {
        fraction += 1000000000;
        seconds--;
    }
    struct tm tm;
    (void)gmtime_r(&seconds, &tm);
    char text[64];
    size_t len = strftime(text, sizeof(text), "\"%Y-%m-%dT%H:%M:%S", &tm);
    if (fraction > 0) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, ".%09d", (int)fraction);
        while (text[len - 1] == '0') {
            len--;
        }
    }
    rb_out_put(out, rb_slice_of(text, len));
    rb_out_put(out, RB_S("Z\""));
}

/* Go's omitempty. A time is a pointer there: absent is nil. */
static bool is_empty(const struct rb_doc_field *field, const void *at)
{
    switch (field->kind) {
    case RB_DOC_BOOL:
        return !*(const bool *)at;
    case RB_DOC_ENUM:
        return *(const uint8_t *)at == 0;
    case RB_DOC_I32:
        return *(const int32_t *)at == 0;
    case RB_DOC_I64:
    case RB_DOC_INT:
    case RB_DOC_DURATION:
        return *(const int64_t *)at == 0;
    case RB_DOC_U64:
        return *(const uint64_t *)at == 0;
    case RB_DOC_TIME:
        return *(const int64_t *)at == RB_DOC_NO_TIME;
    case RB_DOC_STRING:
    case RB_DOC_RAW:
        return ((const struct rb_slice *)at)->len == 0;
    case RB_DOC_STRINGS:
        return ((const struct rb_doc_strings *)at)->count == 0;
    case RB_DOC_I64S:
        return ((const struct rb_doc_i64s *)at)->count == 0;
    case RB_DOC_MAP:
        return ((const struct rb_doc_map *)at)->count == 0;
    case RB_DOC_OBJECT:
        return *(const void *const *)at == NULL;
    case RB_DOC_OBJECTS:
        return ((const struct rb_doc_objects *)at)->count == 0;
    case RB_DOC_INLINE:
        return false;
    case RB_DOC_U64S:
    case RB_DOC_COUNTS:
        return true;
    }
    rb_unreachable("kind of a field");
}

static void write_strings(struct rb_out *out, const struct rb_doc_strings *strings)
{
    if (strings->items == NULL) {
        rb_out_put(out, RB_S("null"));
        return;
    }
    rb_out_put(out, RB_S("["));
    for (uint32_t i = 0; i < strings->count; i++) {
        rb_out_put(out, i == 0 ? RB_S("") : RB_S(","));
        rb_out_string(out, strings->items[i]);
    }
    rb_out_put(out, RB_S("]"));
}

static void write_numbers(struct rb_out *out, const struct rb_doc_i64s *numbers)
{
    if (numbers->items == NULL) {
        rb_out_put(out, RB_S("null"));
        return;
    }
    rb_out_put(out, RB_S("["));
    for (uint32_t i = 0; i < numbers->count; i++) {
        rb_out_printf(out, "%s%" PRId64, i == 0 ? "" : ",", numbers->items[i]);
    }
    rb_out_put(out, RB_S("]"));
}

static void write_map(struct rb_out *out, const struct rb_doc_map *map)
{
    if (map->count == 0 && !map->present) {
        rb_out_put(out, RB_S("null"));
        return;
    }
    rb_out_put(out, RB_S("{"));
    for (uint32_t i = 0; i < map->count; i++) {
        rb_out_put(out, i == 0 ? RB_S("") : RB_S(","));
        rb_out_string(out, map->items[i].key);
        rb_out_put(out, RB_S(":"));
        rb_out_string(out, map->items[i].value);
    }
    rb_out_put(out, RB_S("}"));
}

static void write_objects(struct rb_out *out, const struct rb_doc_field *field,
                          const struct rb_doc_objects *objects)
{
    if (objects->items == NULL) {
        rb_out_put(out, RB_S("null"));
        return;
    }
    rb_out_put(out, RB_S("["));
    for (uint32_t i = 0; i < objects->count; i++) {
        rb_out_put(out, i == 0 ? RB_S("") : RB_S(","));
        rb_doc_write(out, field->type, rb_doc_item(field, objects, i));
    }
    rb_out_put(out, RB_S("]"));
}

static void write_value(struct rb_out *out, const struct rb_doc_field *field, const void *at)
{
    switch (field->kind) {
    case RB_DOC_BOOL:
        rb_out_put(out, *(const bool *)at ? RB_S("true") : RB_S("false"));
        break;
    case RB_DOC_ENUM:
        rb_out_string(out, rb_slice_text(field->names[*(const uint8_t *)at]));
        break;
    case RB_DOC_I32:
        rb_out_printf(out, "%" PRId32, *(const int32_t *)at);
        break;
    case RB_DOC_I64:
    case RB_DOC_INT:
    case RB_DOC_DURATION:
        rb_out_printf(out, "%" PRId64, *(const int64_t *)at);
        break;
    case RB_DOC_U64:
        rb_out_printf(out, "%" PRIu64, *(const uint64_t *)at);
        break;
    case RB_DOC_TIME:
        rb_out_time(out, *(const int64_t *)at);
        break;
    case RB_DOC_STRING:
        rb_out_string(out, *(const struct rb_slice *)at);
        break;
    case RB_DOC_RAW:
        rb_out_put(out, is_empty(field, at) ? RB_S("null") : *(const struct rb_slice *)at);
        break;
    case RB_DOC_STRINGS:
        write_strings(out, at);
        break;
    case RB_DOC_I64S:
        write_numbers(out, at);
        break;
    case RB_DOC_MAP:
        write_map(out, at);
        break;
    case RB_DOC_OBJECT:
        if (is_empty(field, at)) {
            rb_out_put(out, RB_S("null"));
        } else {
            rb_doc_write(out, field->type, *(const void *const *)at);
        }
        break;
    case RB_DOC_INLINE:
        rb_doc_write(out, field->type, at);
        break;
    case RB_DOC_OBJECTS:
        write_objects(out, field, at);
        break;
    case RB_DOC_U64S:
    case RB_DOC_COUNTS:
        rb_unreachable("these are never kept");
    }
}

void rb_doc_write_members(struct rb_out *out, const struct rb_doc_type *type, const void *doc,
                          bool comma)
{
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct rb_doc_field *field = &type->fields[i];
        const void *at = rb_doc_at_const(doc, field);
        if ((field->flags & RB_DOC_NO_WRITE) != 0 || field->kind == RB_DOC_U64S ||
            field->kind == RB_DOC_COUNTS ||
            ((field->flags & RB_DOC_OMIT) != 0 && is_empty(field, at))) {
            continue;
        }
        if (rb_doc_is_embedded(field)) {
            size_t before = out->len;
            rb_doc_write_members(out, field->type, at, comma);
            comma = comma || out->len > before;
            continue;
        }
        rb_out_put(out, comma ? RB_S(",\"") : RB_S("\""));
        rb_out_put(out, rb_slice_text(field->name));
        rb_out_put(out, RB_S("\":"));
        write_value(out, field, at);
        comma = true;
    }
}

void rb_doc_write(struct rb_out *out, const struct rb_doc_type *type, const void *doc)
{
    rb_out_put(out, RB_S("{"));
    rb_doc_write_members(out, type, doc, false);
    rb_out_put(out, RB_S("}"));
}
