/* msg_headers.h - what a published message's headers ask of a stream, found in one walk; and changes of a header block. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/slice.h"

/** Indexes into rb_js_headers.value. */
enum rb_js_header {
    RB_JS_H_MSG_ID,
    RB_JS_H_EXPECTED_STREAM,
    RB_JS_H_EXPECTED_LAST_SEQ,
    RB_JS_H_EXPECTED_SUBJECT_SEQ,
    RB_JS_H_EXPECTED_SUBJECT_SEQ_SUBJECT,
    RB_JS_H_EXPECTED_MSG_ID,
    RB_JS_H_ROLLUP,
    RB_JS_H_TTL,
    RB_JS_H_INCR,
    RB_JS_H_SCHEDULE,
    RB_JS_H_SCHEDULE_NEXT,
    RB_JS_H_SCHEDULE_TARGET,
    RB_JS_H_SCHEDULE_SOURCE,
    RB_JS_H_SCHEDULE_TTL,
    RB_JS_H_SCHEDULE_ROLLUP,
    RB_JS_H_SCHEDULER,
    RB_JS_H_STREAM_SOURCE,
    RB_JS_H_BATCH_ID,
    RB_JS_H_BATCH_SEQUENCE,
    RB_JS_H_BATCH_COMMIT,
    RB_JS_H_MARKER_REASON,
    RB_JS_H_KV_OPERATION,
    RB_JS_H_API_LEVEL,
    RB_JS_H_REQUEST_INFO,
    RB_JS_H_COUNT,
};

/** Values are trimmed on the left; those that are empty count as absent, as in nats-server, but for Nats-Batch-Commit. The first line of a
 * name counts. */
struct rb_js_headers {
    uint32_t found; /* bit per enum rb_js_header */
    struct rb_slice value[RB_JS_H_COUNT];
};

/** `block` may be empty. */
void rb_js_headers_scan(struct rb_slice block, struct rb_js_headers *ret_headers);
static inline bool rb_js_headers_has(const struct rb_js_headers *headers, enum rb_js_header which)
{
    return (headers->found >> which & 1) != 0;
}
/** Digits as nats-server reads them; UINT64_MAX when they are none. */
uint64_t rb_js_header_number(struct rb_slice value);

#define RB_JS_TTL_NEVER INT64_MAX
/** "never", a duration of at least a second (cut to seconds), or seconds: in ns. False: invalid. */
bool rb_js_ttl_parse(struct rb_slice value, int64_t *ret_ns);

/**
 * The block as it is stored: no status text behind "NATS/1.0", no Nats-Request-Info. True when that changes it: then out[cap >=
 * block.len] has it, *ret_len long (0: nothing is left).
 */
bool rb_js_headers_clean(struct rb_slice block, const struct rb_js_headers *headers, uint8_t *out,
                         size_t *ret_len);
/** The block without status text and without lines that begin with `begin`, into out[cap >= block.len]; 0: nothing is left. */
size_t rb_js_headers_without(struct rb_slice block, struct rb_slice begin, uint8_t *out,
                             size_t cap);
