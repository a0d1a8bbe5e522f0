/* docs_links.c - /routez, /gatewayz, /leafz. There are no links to other servers: the documents are truly empty. */
#include "server/docs.h"

static void empty_array(struct rb_json_out *json, const char *key)
{
    rb_json_out_key(json, key);
    rb_json_out_array(json);
    rb_json_out_array_end(json);
}

static void empty_object(struct rb_json_out *json, const char *key)
{
    rb_json_out_key(json, key);
    rb_json_out_object(json);
    rb_json_out_object_end(json);
}

bool rb_doc_routez(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    rb_json_out_object(json);
    rb_json_out_set_text(json, "server_id", view->server_id);
    rb_json_out_set_text(json, "server_name", view->server_name);
    rb_json_out_set_time(json, "now", view->now_wall_ns, false);
    rb_json_out_set_uint(json, "num_routes", 0);
    empty_array(json, "routes");
    rb_json_out_object_end(json);
    return true;
}

bool rb_doc_gatewayz(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    rb_json_out_object(json);
    rb_doc_head(view, json);
    empty_object(json, "outbound_gateways");
    empty_object(json, "inbound_gateways");
    rb_json_out_object_end(json);
    return true;
}

bool rb_doc_leafz(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    rb_json_out_object(json);
    rb_doc_head(view, json);
    rb_json_out_set_uint(json, "leafnodes", 0);
    empty_array(json, "leafs");
    rb_json_out_object_end(json);
    return true;
}
