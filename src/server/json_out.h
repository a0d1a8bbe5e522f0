/* json_out.h - JSON written as Go's encoding/json writes it, straight into a text.
 *
 * Not built as a jansson tree first: a page of 100,000 connections would cost several hundred MiB, and neither the
 * escapes (\u003c) nor the shortest floats of Go are jansson's. Keys appear in the order of the calls.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/slice.h"
#include "server/text.h"

#define RB_JSON_DEPTH_MAX 16

struct rb_json_out {
    struct rb_text *out;
    uint32_t indent; /* blanks per level; 0: everything on one line */
    uint32_t depth;
    bool empty[RB_JSON_DEPTH_MAX]; /* nothing was written at this level yet */
    bool keyed;                    /* a key was written, its value follows */
};

void rb_json_out_init(struct rb_json_out *json, struct rb_text *out, uint32_t indent);
/* Values. Inside an object each follows rb_json_out_key. */
void rb_json_out_key(struct rb_json_out *json, const char *key);
void rb_json_out_key_slice(struct rb_json_out *json, struct rb_slice key);
void rb_json_out_object(struct rb_json_out *json);
void rb_json_out_object_end(struct rb_json_out *json);
void rb_json_out_array(struct rb_json_out *json);
void rb_json_out_array_end(struct rb_json_out *json);
void rb_json_out_string(struct rb_json_out *json,
                        struct rb_slice value); /* invalid UTF-8: U+FFFD, as Go */
void rb_json_out_uint(struct rb_json_out *json, uint64_t value);
void rb_json_out_int(struct rb_json_out *json, int64_t value);
void rb_json_out_float(struct rb_json_out *json, double value); /* finite */
void rb_json_out_bool(struct rb_json_out *json, bool value);
void rb_json_out_null(struct rb_json_out *json);

/** JSON that is valid and has no blanks outside of strings, laid out as the rest. */
void rb_json_out_raw(struct rb_json_out *json, struct rb_slice value);
/** The same for members ("a":1,"b":2) of the object that is open, but the one with the key `skip` (NULL: all). */
void rb_json_out_raw_members(struct rb_json_out *json, struct rb_slice members, const char *skip);

/* Members: key and value. Those with _opt are left out when empty, zero or false. */
void rb_json_out_set_string(struct rb_json_out *json, const char *key, struct rb_slice value);
void rb_json_out_set_text(struct rb_json_out *json, const char *key,
                          const char *value); /* NULL is "" */
void rb_json_out_set_uint(struct rb_json_out *json, const char *key, uint64_t value);
void rb_json_out_set_int(struct rb_json_out *json, const char *key, int64_t value);
void rb_json_out_set_float(struct rb_json_out *json, const char *key, double value);
void rb_json_out_set_bool(struct rb_json_out *json, const char *key, bool value);
void rb_json_out_opt_string(struct rb_json_out *json, const char *key, struct rb_slice value);
void rb_json_out_opt_text(struct rb_json_out *json, const char *key, const char *value);
void rb_json_out_opt_uint(struct rb_json_out *json, const char *key, uint64_t value);
void rb_json_out_opt_float(struct rb_json_out *json, const char *key, double value);
void rb_json_out_opt_bool(struct rb_json_out *json, const char *key, bool value);

/* Go's text forms. */
/** RFC 3339 with up to nanoseconds, trailing zeros dropped; UTC, or this machine's zone. 0 ns is year 1, as Go's zero time. */
#define RB_TIME_TEXT_MAX 48
const char *rb_time_text(uint64_t wall_ns, bool local, char out[RB_TIME_TEXT_MAX]);
void rb_json_out_set_time(struct rb_json_out *json, const char *key, uint64_t wall_ns, bool local);
/** "1y2d3h4m5s": smaller units always follow larger ones. */
#define RB_UPTIME_TEXT_MAX 48
const char *rb_uptime_text(uint64_t ns, char out[RB_UPTIME_TEXT_MAX]);
/** time.Duration's text: "1.234ms", "312µs", "0s"; `rtt`: between 1 µs and 1 ms cut to µs. */
const char *rb_duration_text(uint64_t ns, char out[RB_UPTIME_TEXT_MAX]);
const char *rb_rtt_text(uint64_t ns, char out[RB_UPTIME_TEXT_MAX]);
/** Shortest text that reads back as `value`, in the notation of Go's encoding/json. */
const char *rb_float_text(double value, char out[40]);
