/* events.h - one shard's part of the system account: events published, requests taken (docs/events.md). */
#pragma once

#include "core/account.h"
#include "core/conn.h"
#include "ringbus/errors.h"
#include "server/node.h"

struct rb_events;
struct rb_node_shared;
struct rb_shard;

/** Before rb_core_init: accounts come up in it. RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_events_create(struct rb_shard *shard, struct rb_node_shared *shared,
                                           struct rb_events **ret_events);
/** After rb_core_init. RB_ERR_MEMORY: a service could not be listened to. */
RB_MUST_CHECK enum rb_err rb_events_start(struct rb_events *events);
/** After rb_core_deinit. */
void rb_events_destroy(struct rb_events *events);

/* The core's hooks. */
void rb_events_conn_up(struct rb_events *events, struct rb_conn *conn);
void rb_events_conn_down(struct rb_events *events, struct rb_conn *conn);
void rb_events_conn_ended(struct rb_events *events, struct rb_conn *conn);
void rb_events_auth_failed(struct rb_events *events, struct rb_conn *conn);
void rb_events_account_up(struct rb_events *events, struct rb_account *account);
void rb_events_timer(struct rb_events *events, struct rb_timer *timer);
/** Publishes a finished message trace. Without a system account there are none, as in nats-server. */
void rb_events_traced(struct rb_events *events, const struct rb_trace_document *document);

/** SHUTDOWN or LAMEDUCK. On shard 0. */
void rb_events_announce(struct rb_events *events, enum rb_node_event event);
