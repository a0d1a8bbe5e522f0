/* doc.c - growing text, and documents as values: made, compared, copied. Each walks the table of the document's type. */
#include "js/doc.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "js/doc_inside.h"
#include "proto/json.h"

void rb_out_init(struct rb_out *out, struct rb_budget *budget)
{
    *out = (struct rb_out){ .budget = budget };
}

void rb_out_deinit(struct rb_out *out)
{
    rb_free(out->budget, out->bytes, out->cap);
    *out = (struct rb_out){ .budget = out->budget };
}

static bool make_room(struct rb_out *out, size_t more)
{
    if (out->failed) {
        return false;
    }
    if (out->cap - out->len >= more) {
        return true;
    }
    size_t cap = out->cap < 256 ? 256 : out->cap;
    while (cap - out->len < more) {
        cap *= 2;
    }
    uint8_t *bytes = rb_realloc(out->budget, out->bytes, out->cap, cap);
    if (bytes == NULL) {
        out->failed = true;
        return false;
    }
    out->bytes = bytes;
    out->cap = cap;
    return true;
}

void rb_out_put(struct rb_out *out, struct rb_slice text)
{
    if (text.len > 0 && make_room(out, text.len)) {
        memcpy(out->bytes + out->len, text.ptr, text.len);
        out->len += text.len;
    }
}

void rb_out_printf(struct rb_out *out, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    rb_assert(len >= 0);
    if (make_room(out, (size_t)len + 1)) {
        (void)vsnprintf((char *)out->bytes + out->len, (size_t)len + 1, format, again);
        out->len += (size_t)len;
    }
    va_end(again);
}

void rb_out_string(struct rb_out *out, struct rb_slice text)
{
    if (!make_room(out, 6 * text.len + 2)) { /* every byte may become \u00xx */
        return;
    }
    struct rb_writer writer = rb_writer_over(out->bytes + out->len, out->cap - out->len);
    rb_json_string(&writer, text);
    rb_assert(writer.ok);
    out->len += rb_writer_len(&writer);
}

void rb_doc_init(const struct rb_doc_type *type, void *doc)
{
    memset(doc, 0, type->size);
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct rb_doc_field *field = &type->fields[i];
        if (field->kind == RB_DOC_TIME) {
            *(int64_t *)rb_doc_at(doc, field) = RB_DOC_NO_TIME;
        } else if (field->kind == RB_DOC_INLINE) {
            rb_doc_init(field->type, rb_doc_at(doc, field));
        }
    }
}

static bool equal_strings(const struct rb_doc_strings *a, const struct rb_doc_strings *b)
{
    bool same = a->count == b->count;
    for (uint32_t i = 0; same && i < a->count; i++) {
        same = rb_slice_equal(a->items[i], b->items[i]);
    }
    return same;
}

static bool equal_maps(const struct rb_doc_map *a, const struct rb_doc_map *b)
{
    bool same = a->count == b->count && (a->count > 0 || a->present == b->present);
    for (uint32_t i = 0; same && i < a->count; i++) {
        same = rb_slice_equal(a->items[i].key, b->items[i].key) &&
               rb_slice_equal(a->items[i].value, b->items[i].value);
    }
    return same;
}

static bool equal_objects(const struct rb_doc_field *field, const struct rb_doc_objects *a,
                          const struct rb_doc_objects *b)
{
    bool same = a->count == b->count;
    for (uint32_t i = 0; same && i < a->count; i++) {
        same = rb_doc_equal(field->type, rb_doc_item(field, a, i), rb_doc_item(field, b, i));
    }
    return same;
}

static bool equal_field(const struct rb_doc_field *field, const void *a, const void *b)
{
    switch (field->kind) {
    case RB_DOC_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case RB_DOC_ENUM:
        return *(const uint8_t *)a == *(const uint8_t *)b;
    case RB_DOC_I32:
        return *(const int32_t *)a == *(const int32_t *)b;
    case RB_DOC_I64:
    case RB_DOC_INT:
    case RB_DOC_DURATION:
    case RB_DOC_TIME:
        return *(const int64_t *)a == *(const int64_t *)b;
    case RB_DOC_U64:
        return *(const uint64_t *)a == *(const uint64_t *)b;
    case RB_DOC_STRING:
    case RB_DOC_RAW:
        return rb_slice_equal(*(const struct rb_slice *)a, *(const struct rb_slice *)b);
    case RB_DOC_STRINGS:
        return equal_strings(a, b);
    case RB_DOC_I64S: {
        const struct rb_doc_i64s *x = a, *y = b;
        return x->count == y->count &&
               (x->count == 0 || memcmp(x->items, y->items, x->count * sizeof(int64_t)) == 0);
    }
    case RB_DOC_MAP:
        return equal_maps(a, b);
    case RB_DOC_OBJECT: {
        const void *x = *(const void *const *)a, *y = *(const void *const *)b;
        return x == NULL || y == NULL ? x == y : rb_doc_equal(field->type, x, y);
    }
    case RB_DOC_INLINE:
        return rb_doc_equal(field->type, a, b);
    case RB_DOC_OBJECTS:
        return equal_objects(field, a, b);
    case RB_DOC_U64S:
    case RB_DOC_COUNTS:
        return true;
    }
    rb_unreachable("kind of a field");
}

bool rb_doc_equal(const struct rb_doc_type *type, const void *a, const void *b)
{
    for (uint32_t i = 0; i < type->field_count; i++) {
        const struct rb_doc_field *field = &type->fields[i];
        if ((field->flags & RB_DOC_NO_WRITE) == 0 &&
            !equal_field(field, rb_doc_at_const(a, field), rb_doc_at_const(b, field))) {
            return false;
        }
    }
    return true;
}

static bool copy_slice(struct rb_arena *arena, struct rb_slice *text)
{
    if (text->len == 0) {
        *text = (struct rb_slice){ NULL, 0 };
        return true;
    }
    uint8_t *bytes = rb_arena_take(arena, text->len);
    if (bytes == NULL) {
        return false;
    }
    memcpy(bytes, text->ptr, text->len);
    text->ptr = bytes;
    return true;
}

/* The array that *items points to, as it is. */
static bool copy_array(struct rb_arena *arena, void **items, size_t bytes)
{
    if (*items == NULL) {
        return true;
    }
    void *copy = rb_arena_take(arena, bytes == 0 ? 1 : bytes);
    if (copy == NULL) {
        return false;
    }
    if (bytes > 0) {
        memcpy(copy, *items, bytes);
    }
    *items = copy;
    return true;
}

static bool copy_inside(struct rb_arena *arena, const struct rb_doc_type *type, void *doc);

static bool copy_field(struct rb_arena *arena, const struct rb_doc_field *field, void *at)
{
    switch (field->kind) {
    case RB_DOC_STRING:
    case RB_DOC_RAW:
        return copy_slice(arena, at);
    case RB_DOC_STRINGS: {
        struct rb_doc_strings *strings = at;
        bool ok =
            copy_array(arena, (void **)&strings->items, strings->count * sizeof(struct rb_slice));
        for (uint32_t i = 0; ok && i < strings->count; i++) {
            ok = copy_slice(arena, &strings->items[i]);
        }
        return ok;
    }
    case RB_DOC_I64S: {
        struct rb_doc_i64s *numbers = at;
        return copy_array(arena, (void **)&numbers->items, numbers->count * sizeof(int64_t));
    }
    case RB_DOC_MAP: {
        struct rb_doc_map *map = at;
        bool ok = copy_array(arena, (void **)&map->items, map->count * sizeof(struct rb_doc_pair));
        for (uint32_t i = 0; ok && i < map->count; i++) {
            ok = copy_slice(arena, &map->items[i].key) && copy_slice(arena, &map->items[i].value);
        }
        return ok;
    }
    case RB_DOC_OBJECT: {
        void **object = at;
        return *object == NULL || (copy_array(arena, object, field->type->size) &&
                                   copy_inside(arena, field->type, *object));
    }
    case RB_DOC_INLINE:
        return copy_inside(arena, field->type, at);
    case RB_DOC_OBJECTS: {
        struct rb_doc_objects *objects = at;
        bool ok = copy_array(arena, &objects->items, objects->count * field->type->size);
        for (uint32_t i = 0; ok && i < objects->count; i++) {
            ok = copy_inside(arena, field->type, rb_doc_item(field, objects, i));
        }
        return ok;
    }
    default:
        return true; /* numbers and the like were copied with the struct */
    }
}

/* `doc` is a flat copy: what it points to is copied too. */
static bool copy_inside(struct rb_arena *arena, const struct rb_doc_type *type, void *doc)
{
    for (uint32_t i = 0; i < type->field_count; i++) {
        if (!copy_field(arena, &type->fields[i], rb_doc_at(doc, &type->fields[i]))) {
            return false;
        }
    }
    return true;
}

bool rb_doc_copy(struct rb_arena *arena, const struct rb_doc_type *type, const void *from, void *to)
{
    if (to != from) {
        memcpy(to, from, type->size);
    }
    return copy_inside(arena, type, to);
}
