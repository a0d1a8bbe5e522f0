/* fuzz_trace_header.c - any bytes as a header block: what asks for a trace is mentioned, and its fields fit their bound. */
#include <stdlib.h>

#include "proto/trace_header.h"
#include "ringbus/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(struct rb_slice part, struct rb_slice block)
{
    rb_assert(part.len == 0 ||
              (part.ptr >= block.ptr && part.ptr + part.len <= block.ptr + block.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char first[] = "NATS/1.0\r\n";
    size_t len = size + sizeof(first) - 1;
    uint8_t *bytes = malloc(len);
    rb_assert(bytes != NULL);
    memcpy(bytes, first, sizeof(first) - 1);
    if (size > 0) {
        memcpy(bytes + sizeof(first) - 1, data, size);
    }
    struct rb_slice block = rb_slice_of(bytes, len);
    bool mentioned = rb_trace_mentioned(block);
    struct rb_trace_wish wish = rb_trace_wish(block);
    rb_assert(!wish.asked || (mentioned && len >= RB_TRACE_HEADER_MIN && wish.field_count > 0));
    check_inside(wish.destination, block);
    check_inside(wish.only, block);
    if (wish.asked) {
        size_t cap = 6 * len + 8 * (size_t)wish.field_count;
        uint8_t *text = malloc(cap);
        struct rb_trace_field *fields = malloc(wish.field_count * sizeof(*fields));
        rb_assert(text != NULL && fields != NULL);
        struct rb_writer out = rb_writer_over(text, cap);
        rb_trace_write_headers(&out, block, fields, wish.field_count);
        rb_assert(out.ok);
        free(fields);
        free(text);
    }
    free(bytes);
    return 0;
}
