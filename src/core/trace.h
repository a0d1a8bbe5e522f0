/* trace.h - message tracing: what became of a message, told to a subject its publisher names (docs/tracing.md). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/account.h"
#include "core/core.h"
#include "proto/parse.h"
#include "proto/trace_header.h"

struct rb_conn;
struct rb_trace;

enum rb_trace_verdict {
    RB_TRACE_NO,      /* an ordinary message */
    RB_TRACE_YES,     /* *ret_trace is given */
    RB_TRACE_DISABLE, /* an ordinary message, but its headers are to say RB_TRACE_DISABLED */
    RB_TRACE_SKIP,    /* drop it; the client was told where it is to be told */
};
/**
 * What the headers of a message ask for, and whether `conn` may. `header` may be cut short (a message refused before it
 * came whole); `error` is then the reason, else empty.
 * Ownership: gives *ret_trace, to be ended with rb_trace_end.
 */
enum rb_trace_verdict rb_trace_begin(struct rb_conn *conn, const struct rb_op *op,
                                     struct rb_slice header, struct rb_slice error,
                                     struct rb_trace **ret_trace);
/** Nothing is to be delivered. */
bool rb_trace_only(const struct rb_trace *trace);
/** The message is refused: "Permissions Violation for WHAT "NAME"". */
void rb_trace_violation(struct rb_trace *trace, const char *what, struct rb_slice name);

/* Events, in the order of the calls. */
void rb_trace_mapping(struct rb_trace *trace, struct rb_slice to);
void rb_trace_stream_export(struct rb_trace *trace, const struct rb_account *importer,
                            struct rb_slice to);
void rb_trace_service_import(struct rb_trace *trace, const struct rb_account *exporter,
                             struct rb_slice from, struct rb_slice to);
/** `error` NULL: delivered. `subject` and `queue` are the subscription's. */
void rb_trace_egress(struct rb_trace *trace, const struct rb_conn *conn, struct rb_slice subject,
                     struct rb_slice queue, const char *error);

/** A stream has it, or would: `subject` as it is stored (empty: it did not come so far), `error` empty: none. */
void rb_trace_stream(struct rb_trace *trace, struct rb_slice stream, struct rb_slice subject,
                     bool nobody, struct rb_slice error);

/** A copy of `msg` whose headers name another destination; the events stay where they go. NULL: no memory. The caller
 *  releases the block. */
struct rb_buf *rb_trace_redirect(struct rb_core *core, const struct rb_msg *msg,
                                 struct rb_slice destination, struct rb_msg *ret_msg);

/** Sends a traced message to another shard and expects its report. False: it was not sent. */
bool rb_trace_send(struct rb_core *core, uint32_t shard, uint32_t account, const struct rb_msg *msg,
                   const struct rb_slice *queues, uint32_t queue_count);
/** The part of another shard's trace on this one. NULL: no memory. */
struct rb_trace *rb_trace_join(struct rb_core *core, const struct rb_trace_tag *tag);
/** A report came home. */
void rb_trace_reported(struct rb_core *core, const struct rb_trace_tag *tag, uint32_t sent_on,
                       uint32_t left_out, struct rb_slice events);
/** Nothing more comes from here: publishes the events, waits for other shards' reports, or reports to the shard it came
 *  from. Takes `trace`. */
void rb_trace_end(struct rb_trace *trace);
/** Time to wait for other shards is over: `timer` is of kind RB_TIMER_TRACE. */
void rb_trace_timer(struct rb_core *core, struct rb_timer *timer);
/** Forgets what waits. */
void rb_traces_deinit(struct rb_core *core);
