/* docs_health.c - /healthz: 200 while clients can connect and every stream is served and takes messages. */
#include <stdarg.h>
#include <stdio.h>

#include "server/docs.h"

#define FINDINGS_MAX 64 /* with details; what is behind them is not worth more */

struct finding {
    int status;
    const char *type; /* NULL: healthy */
    bool unavailable; /* the word for "status" without details */
    struct rb_slice account, stream, consumer;
    char text[RB_DOC_TEXT_MAX * 3 + 128];
};

struct examination {
    const struct rb_monitor_view *view;
    const struct rb_doc_options *options;
    uint32_t count;
    struct finding findings[FINDINGS_MAX];
};

__attribute__((format(printf, 4, 5))) static struct finding *
found(struct examination *e, int status, const char *type, const char *format, ...)
{
    static struct finding spare; /* never read */
    struct finding *finding = e->count < FINDINGS_MAX ? &e->findings[e->count++] : &spare;
    va_list args;
    va_start(args, format);
    *finding = (struct finding){ .status = status, .type = type, .unavailable = true };
    (void)vsnprintf(finding->text, sizeof(finding->text), format, args);
    va_end(args);
    return finding;
}

/* False: there is nothing else to look at. */
static bool examine_server(struct examination *e)
{
    const struct rb_doc_options *options = e->options;
    struct finding *finding = NULL;
    if (options->stream[0] != '\0' && options->account[0] == '\0') {
        finding = found(e, 400, "BAD_REQUEST",
                        "\"account\" must not be empty when checking stream health");
    } else if (options->consumer[0] != '\0' && options->stream[0] == '\0') {
        finding = found(e, 400, "BAD_REQUEST",
                        "\"stream\" must not be empty when checking consumer health");
    } else if (!e->view->accepting) {
        finding =
            found(e, 500, "CONNECTION",
                  "failed to be ready for connections after 1ms: the client listener is not open");
    }
    if (finding != NULL) {
        finding->unavailable = false;
    }
    return finding == NULL && e->view->jetstream.enabled && !options->js_server_only &&
           !options->js_enabled_only && !options->js_enabled;
}

static void examine_stream(struct examination *e, const struct rb_js_account_snapshot *account,
                           const struct rb_stream_snapshot *stream)
{
    struct finding *finding;
    if (stream->why.len == 0) {
        return;
    }
    finding =
        stream->offline
            ? found(e, 503, "STREAM", "JetStream stream '%.*s > %.*s' could not be recovered: %.*s",
                    RB_S_ARG(account->name), RB_S_ARG(stream->name), RB_S_ARG(stream->why))
            : found(e, 503, "STREAM", "JetStream stream '%.*s > %.*s' write error: %.*s",
                    RB_S_ARG(account->name), RB_S_ARG(stream->name), RB_S_ARG(stream->why));
    finding->account = account->name;
    finding->stream = stream->name;
}

static bool has_consumer(const struct rb_stream_snapshot *stream, struct rb_slice name)
{
    for (uint32_t i = 0; i < stream->listed_count; i++) {
        if (rb_slice_equal(stream->consumers[i].name, name)) {
            return true;
        }
    }
    return false;
}

static void examine_named(struct examination *e, bool account_seen, bool stream_seen,
                          bool consumer_seen)
{
    const struct rb_doc_options *options = e->options;
    struct finding *finding = NULL;
    if (options->account[0] != '\0' && !account_seen) {
        e->count = 0;
        finding = found(e, 404, "ACCOUNT", "JetStream account \"%s\" not found", options->account);
    } else if (options->stream[0] != '\0' && !stream_seen) {
        e->count = 0;
        finding = found(e, 404, "STREAM", "JetStream stream \"%s\" not found on account \"%s\"",
                        options->stream, options->account);
        finding->stream = rb_slice_text(options->stream);
    } else if (options->consumer[0] != '\0' && !consumer_seen) {
        e->count = 0;
        finding = found(e, 404, "CONSUMER",
                        "JetStream consumer \"%s\" not found for stream \"%s\" on account \"%s\"",
                        options->consumer, options->stream, options->account);
        finding->stream = rb_slice_text(options->stream);
        finding->consumer = rb_slice_text(options->consumer);
    }
    if (finding != NULL) {
        finding->account = rb_slice_text(options->account);
    }
}

static void examine_jetstream(struct examination *e)
{
    const struct rb_doc_options *options = e->options;
    const struct rb_snapshot *snapshot = e->view->snapshot;
    bool stream_seen = false, consumer_seen = false;
    if (snapshot == NULL) {
        return;
    }
    if (snapshot->js_failure.len > 0) {
        (void)found(e, 503, "JETSTREAM", "JetStream storage: %.*s", RB_S_ARG(snapshot->js_failure));
    }
    if (options->js_meta_only) {
        return;
    }
    for (uint32_t i = 0; i < snapshot->js_account_count; i++) {
        const struct rb_js_account_snapshot *account = &snapshot->js_accounts[i];
        for (uint32_t k = 0; k < account->listed_count; k++) {
            const struct rb_stream_snapshot *stream = &account->streams[k];
            if (options->stream[0] != '\0' &&
                !rb_slice_equal(stream->name, rb_slice_text(options->stream))) {
                continue;
            }
            stream_seen = true;
            consumer_seen |= has_consumer(stream, rb_slice_text(options->consumer));
            examine_stream(e, account, stream);
        }
    }
    examine_named(e, snapshot->js_account_count > 0, stream_seen, consumer_seen);
}

static void add_details(const struct examination *e, struct rb_json_out *json)
{
    rb_json_out_key(json, "errors");
    rb_json_out_array(json);
    for (uint32_t i = 0; i < e->count; i++) {
        const struct finding *finding = &e->findings[i];
        rb_json_out_object(json);
        rb_json_out_set_text(json, "type", finding->type);
        rb_json_out_opt_string(json, "account", finding->account);
        rb_json_out_opt_string(json, "stream", finding->stream);
        rb_json_out_opt_string(json, "consumer", finding->consumer);
        rb_json_out_set_text(json, "error", finding->text);
        rb_json_out_object_end(json);
    }
    rb_json_out_array_end(json);
}

bool rb_doc_health_check(const struct rb_monitor_view *view)
{
    static const struct rb_doc_options plain;
    struct examination e = { .view = view, .options = &plain };
    if (examine_server(&e)) {
        examine_jetstream(&e);
    }
    return e.count == 0;
}

bool rb_doc_healthz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                    bool system, struct rb_json_out *json, struct rb_doc_error *error)
{
    struct examination e = { .view = view, .options = options };
    if (examine_server(&e)) {
        examine_jetstream(&e);
    }
    const struct finding *first = e.count > 0 ? &e.findings[0] : NULL;
    if (first != NULL) {
        (void)rb_doc_fail(error, first->status, "%.500s", first->text); /* for the log */
    }
    rb_json_out_object(json);
    rb_json_out_set_text(json, "status",
                         first == NULL                             ? "ok"
                         : options->details || !first->unavailable ? "error"
                                                                   : "unavailable");
    if (system) {
        rb_json_out_set_int(json, "status_code", first == NULL ? 200 : first->status);
    }
    if (first != NULL && options->details) {
        add_details(&e, json);
    } else if (first != NULL) {
        rb_json_out_set_text(json, "error", first->text);
    }
    rb_json_out_object_end(json);
    return true;
}
