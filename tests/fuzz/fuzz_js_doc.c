/* fuzz_js_doc.c - documents of the API: what is read is written, read again as the same, and copied as the same. The first byte
 * chooses the document. */
#include <stdlib.h>

#include "js/config.h"
#include "js/message_get.h"
#include "proto/gojson.h"
#include "ringbus/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round(struct rb_arena *arena, const struct rb_doc_type *type, const void *doc,
                        void *again)
{
    struct rb_out text, second;
    char error[RB_DOC_ERROR_MAX];
    rb_out_init(&text, NULL);
    rb_out_init(&second, NULL);
    rb_doc_write(&text, type, doc);
    rb_assert(rb_gojson_valid(rb_out_slice(&text), error));
    rb_assert(rb_doc_read(arena, type, rb_out_slice(&text), true, again, error));
    rb_doc_write(&second, type, again);
    rb_assert(rb_slice_equal(rb_out_slice(&text), rb_out_slice(&second)));
    rb_assert(rb_doc_copy(arena, type, doc, again));
    rb_assert(rb_doc_equal(type, doc, again));
    rb_out_deinit(&text);
    rb_out_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct rb_doc_type *const types[] = {
        &rb_js_stream_config_type,
        &rb_js_consumer_config_type,
        &rb_js_message_get_type,
    };
    if (size == 0) {
        return 0;
    }
    const struct rb_doc_type *type = types[data[0] % 3];
    struct rb_slice json = rb_slice_of(data + 1, size - 1);
    char error[RB_DOC_ERROR_MAX];
    struct rb_arena *arena;
    rb_assert(rb_arena_create(4096, &arena) == RB_OK);
    void *doc = malloc(type->size), *again = malloc(type->size);
    rb_assert(doc != NULL && again != NULL);
    for (int strict = 0; strict < 2; strict++) {
        if (rb_doc_read(arena, type, json, strict != 0, doc, error)) {
            check_round(arena, type, doc, again);
        } else {
            rb_assert(error[0] != '\0');
        }
    }
    free(doc);
    free(again);
    rb_arena_destroy(arena);
    return 0;
}
