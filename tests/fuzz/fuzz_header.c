/* fuzz_header.c - any bytes as a header block: key, LF, value, LF, block.
 *
 * What was set must be found, in a block that is still valid, and the rest must stay as it was.
 */
#include <stdlib.h>

#include "ringbus/check.h"
#include "proto/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rb_slice take_line(struct rb_slice *rest)
{
    const uint8_t *lf = rest->len == 0 ? NULL : memchr(rest->ptr, '\n', rest->len);
    size_t len = lf == NULL ? rest->len : (size_t)(lf - rest->ptr);
    struct rb_slice line = rb_slice_of(rest->ptr, len);
    size_t skip = lf == NULL ? len : len + 1;
    *rest = rb_slice_of(rest->ptr + skip, rest->len - skip);
    return line;
}

static struct rb_slice without_blanks(struct rb_slice s)
{
    while (s.len > 0 && (*s.ptr == ' ' || *s.ptr == '\t')) {
        s = rb_slice_of(s.ptr + 1, s.len - 1);
    }
    return s;
}

static void set_and_get(struct rb_slice block, struct rb_slice key, struct rb_slice value)
{
    size_t cap = block.len + key.len + value.len + 32;
    uint8_t *out = malloc(cap);
    rb_assert(out != NULL);
    size_t len = rb_header_set(out, cap, block, key, value);
    if (len != 0) {
        struct rb_slice changed = rb_slice_of(out, len);
        struct rb_slice found = rb_header_get(changed, key);
        rb_assert(rb_header_valid(changed));
        rb_assert(found.ptr != NULL && rb_slice_equal(found, without_blanks(value)));
        rb_assert(rb_header_status(changed) == rb_header_status(block));
        rb_assert(rb_header_set(out, len - 1, block, key, value) == 0);
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rb_slice rest = rb_slice_of(data, size);
    struct rb_slice key = take_line(&rest);
    struct rb_slice value = take_line(&rest);
    uint8_t *copy = malloc(rest.len + (rest.len == 0)); /* of its own size */
    rb_assert(copy != NULL);
    if (rest.len != 0) {
        memcpy(copy, rest.ptr, rest.len);
    }
    struct rb_slice block = rb_slice_of(copy, rest.len);
    struct rb_slice found = rb_header_get(block, key);
    rb_assert(found.ptr == NULL ||
              (found.ptr >= copy && found.ptr + found.len <= copy + block.len));
    rb_assert(rb_header_status(block) <= 999);
    rb_assert(rb_header_status(block) == 0 || rb_slice_starts(block, RB_S("NATS/1.0")));
    set_and_get(block, key, value);
    free(copy);
    return 0;
}
