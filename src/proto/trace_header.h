/* trace_header.h - the headers that ask for a trace of their message (client-protocol.md 18). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/slice.h"

/** Shorter header blocks ask for none: "NATS/1.0\r\nNats-Trace-Dest:x\r\n", the end missing. */
#define RB_TRACE_HEADER_MIN 29
#define RB_TRACE_DEST RB_S("Nats-Trace-Dest")
#define RB_TRACE_DISABLED RB_S("trace disabled") /* in place of a subject */

/** A look at the beginnings of lines, for every message with headers. False: rb_trace_wish finds nothing either. */
bool rb_trace_mentioned(struct rb_slice header);

struct rb_trace_wish {
    bool asked,
        external; /* external: by a sampled traceparent only, so the account says where to */
    uint32_t field_count; /* 0 when not asked */
    struct rb_slice destination, only, origin,
        encoding; /* first values, in the block; empty: none */
};
/** What a header block asks for; it may be cut short. */
struct rb_trace_wish rb_trace_wish(struct rb_slice header);

struct rb_trace_field {
    struct rb_slice key, value;
};
/**
 * The block's fields as a JSON object of arrays, sorted by name: at most 6 bytes per byte of the block and 8 per field.
 * `fields` has room for the `count` that rb_trace_wish gave.
 */
void rb_trace_write_headers(struct rb_writer *out, struct rb_slice header,
                            struct rb_trace_field *fields, uint32_t count);
