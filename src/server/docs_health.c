/* docs_health.c - /healthz: 200 while clients can connect. JetStream is not there, so its checks have nothing to say. */
#include "server/docs.h"

struct finding {
    int status;
    const char *type, *text; /* type NULL: healthy */
};

static struct finding examine(const struct rb_monitor_view *view,
                              const struct rb_doc_options *options)
{
    if (options->stream[0] != '\0' && options->account[0] == '\0') {
        return (struct finding){ 400, "BAD_REQUEST",
                                 "\"account\" must not be empty when checking stream health" };
    }
    if (options->consumer[0] != '\0' && options->stream[0] == '\0') {
        return (struct finding){ 400, "BAD_REQUEST",
                                 "\"stream\" must not be empty when checking consumer health" };
    }
    if (!view->accepting) {
        return (struct finding){
            500, "CONNECTION",
            "failed to be ready for connections after 1ms: the client listener is not open"
        };
    }
    return (struct finding){ .status = 200 };
}

bool rb_doc_healthz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                    bool system, struct rb_json_out *json, struct rb_doc_error *error)
{
    struct finding found = examine(view, options);
    if (found.type != NULL) {
        (void)rb_doc_fail(error, found.status, "%s", found.text); /* for the log */
    }
    rb_json_out_object(json);
    rb_json_out_set_text(json, "status", found.type == NULL ? "ok" : "error");
    if (system) {
        rb_json_out_set_int(json, "status_code", found.status);
    }
    if (found.type != NULL && options->details) {
        rb_json_out_key(json, "errors");
        rb_json_out_array(json);
        rb_json_out_object(json);
        rb_json_out_set_text(json, "type", found.type);
        rb_json_out_set_text(json, "error", found.text);
        rb_json_out_object_end(json);
        rb_json_out_array_end(json);
    } else if (found.type != NULL) {
        rb_json_out_set_text(json, "error", found.text);
    }
    rb_json_out_object_end(json);
    return true;
}
