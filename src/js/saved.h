/* saved.h - numbers and texts in a checkpoint's blob: little-endian, texts with their length before them. */
#pragma once

#include "js/doc.h"
#include "ringbus/slice.h"

static inline void rb_js_put_number(struct rb_out *out, uint64_t value)
{
    uint8_t bytes[8];
    struct rb_writer writer = rb_writer_over(bytes, sizeof(bytes));
    rb_write_u64(&writer, value);
    rb_out_put(out, rb_slice_of(bytes, sizeof(bytes)));
}

static inline void rb_js_put_text(struct rb_out *out, struct rb_slice text)
{
    rb_js_put_number(out, text.len);
    rb_out_put(out, text);
}

/** Borrows from the reader. */
static inline struct rb_slice rb_js_get_text(struct rb_reader *reader)
{
    uint64_t len = rb_read_u64(reader);
    return rb_read_slice(reader, (size_t)len);
}
