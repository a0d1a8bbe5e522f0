/* doc_inside.h - what the files doc*.c share: where a field is. */
#pragma once

#include "js/doc.h"

static inline void *rb_doc_at(void *doc, const struct rb_doc_field *field)
{
    return (uint8_t *)doc + field->offset;
}

static inline const void *rb_doc_at_const(const void *doc, const struct rb_doc_field *field)
{
    return (const uint8_t *)doc + field->offset;
}

static inline void *rb_doc_item(const struct rb_doc_field *field,
                                const struct rb_doc_objects *objects, uint32_t index)
{
    return (uint8_t *)objects->items + (size_t)index * field->type->size;
}

static inline bool rb_doc_is_embedded(const struct rb_doc_field *field)
{
    return field->kind == RB_DOC_INLINE && field->name == NULL;
}
