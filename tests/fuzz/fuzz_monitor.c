/* fuzz_monitor.c - options of monitoring documents: the first byte chooses the document and the front end; what is
 * accepted is built against a server that does not exist, and must be JSON. */
#include <jansson.h>
#include <stdlib.h>

#include "fake_view.h"
#include "server/docs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void build(struct fake_view *fake, enum rb_monitor_doc kind,
                  const struct rb_doc_options *options, bool system)
{
    struct rb_monitor_source source = fake_source(fake);
    struct rb_monitor_view view;
    struct rb_snapshot_request request;
    struct rb_doc_error error;
    struct rb_text text;
    struct rb_json_out json;
    if (source.open(source.ctx, &view) != RB_OK) {
        abort();
    }
    if (rb_doc_plan(kind, &view, options, &request) &&
        source.collect(source.ctx, &request, &view.snapshot) != RB_OK) {
        abort();
    }
    rb_text_init(&text, 1 << 20);
    rb_json_out_init(&json, &text, system ? 0 : 2);
    if (rb_doc_build(kind, &view, options, system, &json, &error)) {
        json_t *parsed = json_loadb(text.ptr, text.len, 0, NULL);
        if (parsed == NULL) {
            abort();
        }
        json_decref(parsed);
    }
    rb_text_deinit(&text);
    source.close(source.ctx, &view);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fake_view fake; /* made once: nothing below changes it */
    if (fake.policy == NULL) {
        fake_init(&fake);
    }
    if (size == 0) {
        return 0;
    }
    enum rb_monitor_doc kind = (enum rb_monitor_doc)((data[0] & 127) % RB_DOC_COUNT);
    bool system = data[0] >= 128;
    struct rb_slice text = rb_slice_of(data + 1, size - 1);
    struct rb_doc_options options;
    struct rb_doc_error error;
    if (system ? rb_doc_from_json(kind, text, &options, &error)
               : rb_doc_from_query(kind, text, &options, &error)) {
        build(&fake, kind, &options, system);
        rb_doc_options_deinit(&options);
    } else if (error.text[0] == '\0') {
        abort(); /* a refusal says why */
    }
    return 0;
}
