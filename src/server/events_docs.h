/* events_docs.h - the documents of the system account's events, in nats-server's order of fields
 * (client-protocol.md 17.1). */
#pragma once

#include <stdint.h>

#include "core/conn.h"
#include "server/json_out.h"
#include "server/monitor.h"
#include "server/shard.h"

#define RB_EVENT_BYTES_MAX                                                                         \
    (1024 * 1024) /* tags and metadata of the configuration are in every one */

/** Who speaks: the node, and the settings in force. Borrowed during a call. */
struct rb_event_origin {
    struct rb_node_shared *shared;
    const struct rb_core_settings *settings;
};

/** What a server says of itself, as a value; takes the node's next event number. */
void rb_event_server(struct rb_json_out *json, const struct rb_event_origin *origin,
                     uint64_t wall_ns);
/** {"name":...,"host":...,"id":...} as a whole document. */
void rb_event_id(struct rb_text *out, const struct rb_event_origin *origin);

/** CONNECT advisory of a connection. */
void rb_event_connect(struct rb_text *out, const struct rb_event_origin *origin,
                      const struct rb_conn *conn);
/** DISCONNECT advisory, also that of a refused login. `reason`: nats-server's words. */
void rb_event_disconnect(struct rb_text *out, const struct rb_event_origin *origin,
                         const struct rb_conn *conn, const char *reason);
/** Connections and traffic of an account on this node. */
void rb_event_account(struct rb_text *out, const struct rb_event_origin *origin, struct rb_env *env,
                      struct rb_slice name, const struct rb_account_shared *account);
/** Counters of the node. */
void rb_event_statsz(struct rb_text *out, const struct rb_event_origin *origin,
                     struct rb_core *core, const struct rb_process_usage *usage);
/** Only the server's own object: SHUTDOWN, LAMEDUCK. */
void rb_event_bye(struct rb_text *out, const struct rb_event_origin *origin, uint64_t wall_ns);
/** {"server":...,"error":{...}}; with `null_data` a "data":null in between, as nats-server has it for typed results. */
void rb_event_error(struct rb_text *out, const struct rb_event_origin *origin, uint64_t wall_ns,
                    int code, const char *description, bool null_data);
/** Answer to $SYS.REQ.USER.INFO. `conn` NULL: somebody that is not known here. */
void rb_event_user(struct rb_text *out, const struct rb_event_origin *origin, struct rb_env *env,
                   const struct rb_conn *conn);

#define RB_TRACE_BYTES_MAX (16 * 1024 * 1024)
/** A message trace: {"server":...,"request":...,"events":[...]}. */
void rb_event_trace(struct rb_text *out, const struct rb_event_origin *origin, uint64_t wall_ns,
                    const struct rb_trace_document *trace);
