/* json.h - writing JSON: members of an object, in Go's escaping, so that the bytes equal nats-server's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/slice.h"

/** Length of the UTF-8 character at `at`; 0 when these bytes are none (overlong, surrogate, cut). */
size_t rb_utf8_len(const uint8_t *at, size_t left);

/** A quoted string. */
void rb_json_string(struct rb_writer *out, struct rb_slice text);

/* `name` is ,"key": with the comma and the colon. */
void rb_json_text(struct rb_writer *out, struct rb_slice name, struct rb_slice value);
/** Nothing for an empty value. */
void rb_json_optional(struct rb_writer *out, struct rb_slice name, struct rb_slice value);
void rb_json_number(struct rb_writer *out, struct rb_slice name, uint64_t value);
/** Nothing for false. */
void rb_json_true(struct rb_writer *out, struct rb_slice name, bool value);
/** A quoted time as Go prints it: RFC 3339 in UTC, up to nine digits of a second, zeros at the end dropped. */
void rb_json_time(struct rb_writer *out, struct rb_slice name, uint64_t wall_ns);
