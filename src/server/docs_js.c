/* docs_js.c - /jsz, /raftz, /ipqueuesz: what they say of a server without JetStream. */
#include "server/docs.h"

bool rb_doc_jsz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                struct rb_json_out *json, struct rb_doc_error *error)
{
    if (options->leader_only) {
        error->silent = true;
        return rb_doc_fail(error, 400, "filtered response: not leader");
    }
    static const char *const zeros[] = { "memory",           "storage",  "reserved_memory",
                                         "reserved_storage", "accounts", "ha_assets" };
    static const char *const ends[] = { "streams", "consumers", "messages", "bytes", "total" };
    rb_json_out_object(json);
    for (size_t i = 0; i < sizeof(zeros) / sizeof(zeros[0]); i++) {
        rb_json_out_set_uint(json, zeros[i], 0);
    }
    rb_json_out_key(json, "api");
    rb_json_out_object(json);
    rb_json_out_set_uint(json, "level", 0);
    rb_json_out_set_uint(json, "total", 0);
    rb_json_out_set_uint(json, "errors", 0);
    rb_json_out_object_end(json);
    rb_doc_head(view, json);
    rb_json_out_set_bool(json, "disabled", true);
    rb_json_out_key(json, "config");
    rb_json_out_object(json);
    rb_json_out_set_uint(json, "max_memory", 0);
    rb_json_out_set_uint(json, "max_storage", 0);
    rb_json_out_object_end(json);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        rb_json_out_set_uint(json, ends[i], 0);
    }
    rb_json_out_object_end(json);
    return true;
}

bool rb_doc_raftz(bool system, struct rb_json_out *json, struct rb_doc_error *error)
{
    if (!system) {
        return rb_doc_fail(error, 404, "No Raft nodes registered");
    }
    rb_json_out_object(json);
    rb_json_out_object_end(json);
    return true;
}

bool rb_doc_ipqueuesz(struct rb_json_out *json)
{
    rb_json_out_object(json); /* shards' mail is bounded rings, not queues with names */
    rb_json_out_object_end(json);
    return true;
}
