/* source.h - a node as a source of monitoring views, for the HTTP monitor and for system requests. */
#pragma once

#include "server/monitor.h"

struct rb_node;

/** One per reader: all calls of one source on one thread at a time, never a shard's. RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_node_source(struct rb_node *node,
                                         struct rb_monitor_source *ret_source);
void rb_node_source_free(struct rb_monitor_source *source); /* a zeroed one is allowed */
