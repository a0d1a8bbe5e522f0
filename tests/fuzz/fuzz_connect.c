/* fuzz_connect.c - any bytes as a CONNECT document; what comes out goes through INFO. */
#include <stdlib.h>

#include "ringbus/check.h"
#include "proto/connect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Escaping makes at most six bytes of one; nothing printed may be a control byte. */
static void print_name(struct rb_slice name)
{
    const struct rb_info info = { .server_name = name };
    size_t cap = 512 + 6 * name.len;
    uint8_t *out = malloc(cap);
    rb_assert(out != NULL);
    size_t len = rb_info_format(out, cap, &info);
    rb_assert(len > 0);
    for (size_t i = 0; i < len - 2; i++) {
        rb_assert(out[i] >= 0x20);
    }
    rb_assert(rb_info_format(out, len - 1, &info) == 0);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rb_connect connect;
    struct rb_connect_doc *doc = NULL;
    print_name(rb_slice_of(data, size));
    rb_connect_defaults(&connect);
    if (rb_connect_parse(rb_slice_of(data, size), &connect, &doc) != RB_OK) {
        rb_assert(doc == NULL && connect.verbose && connect.user.ptr == NULL);
        return 0;
    }
    rb_assert(connect.name.len <= RB_CONNECT_TEXT_MAX);
    rb_assert(connect.lang.len <= RB_CONNECT_TEXT_MAX);
    rb_assert(connect.version.len <= RB_CONNECT_TEXT_MAX);
    print_name(connect.name);
    print_name(connect.pass);
    rb_connect_doc_free(doc);
    return 0;
}
