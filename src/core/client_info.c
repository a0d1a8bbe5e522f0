/* client_info.c - what other accounts and the system account are told of a connection (client-protocol.md 17.1). */
#include "core/conn.h"
#include "proto/json.h"

size_t rb_conn_client_info(const struct rb_conn *conn, bool detailed, uint8_t *out, size_t cap)
{
    struct rb_writer w = rb_writer_over(out, cap);
    const struct rb_core *core = conn->core;
    const struct rb_conn_about *about = conn->about;
    char ip[RB_ADDR_TEXT_MAX];
    rb_write_u8(&w, '{');
    if (detailed) {
        rb_json_time(&w, RB_S("\"start\":"), conn->start_wall_ns);
        if (conn->peer.family != 0) {
            rb_json_text(&w, RB_S(",\"host\":"), rb_slice_text(rb_addr_format_ip(&conn->peer, ip)));
        }
        rb_json_number(&w, RB_S(",\"id\":"), conn->cid);
        rb_write_u8(&w, ',');
    }
    rb_json_text(&w, RB_S("\"acc\":"), conn->account->name);
    if (detailed) {
        rb_json_optional(&w, RB_S(",\"user\":"),
                         conn->identity_kind == RB_IDENTITY_TOKEN ? RB_S("[REDACTED]")
                                                                  : conn->identity);
        if (about != NULL) {
            rb_json_optional(&w, RB_S(",\"name\":"), about->name);
            rb_json_optional(&w, RB_S(",\"lang\":"), about->lang);
            rb_json_optional(&w, RB_S(",\"ver\":"), about->version);
        }
    }
    if (conn->rtt_ns != 0) {
        rb_json_number(&w, RB_S(",\"rtt\":"), conn->rtt_ns);
    }
    if (detailed) {
        rb_json_text(&w, RB_S(",\"server\":"), core->options.info.server_name);
        rb_json_optional(&w, RB_S(",\"cluster\":"), core->options.info.cluster);
        rb_json_text(&w, RB_S(",\"kind\":"), RB_S("Client"));
        rb_json_text(&w, RB_S(",\"client_type\":"),
                     conn->type == RB_TYPE_WEBSOCKET ? RB_S("websocket") : RB_S("nats"));
    }
    rb_write_u8(&w, '}');
    return w.ok ? rb_writer_len(&w) : 0;
}
