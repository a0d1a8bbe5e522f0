/* header.h - NATS/1.0 message header blocks. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/slice.h"

/**
 * Value of the first line after the status line that begins with exactly `key` and ':', leading
 * blanks trimmed; .ptr is NULL when there is none, and not NULL for an empty value.
 */
struct rb_slice rb_header_get(struct rb_slice block, struct rb_slice key);
/** Begins with "NATS/1.0", ends with an empty line, every line in between has a ':' . */
bool rb_header_valid(struct rb_slice block);
/** Status of the first line ("NATS/1.0 503 text" -> 503), 0 when none. */
uint32_t rb_header_status(struct rb_slice block);
/**
 * Writes `block` with `key` set to `value`: replaces in place or appends before the final CRLF; an
 * empty block becomes a new one. One blank before a replaced value stays if it was there.
 * Returns the length, 0 when it does not fit `cap`, `block` is malformed, or `key` or `value` would
 * break the line. `out` must not overlap the arguments.
 */
size_t rb_header_set(uint8_t *out, size_t cap, struct rb_slice block, struct rb_slice key,
                     struct rb_slice value);

/** How a document is sent: without a word about it, compressed, or as it is and saying so. */
enum rb_encoding { RB_ENCODING_NONE, RB_ENCODING_GZIP, RB_ENCODING_IDENTITY };
/** What the value of "Accept-Encoding" gets. snappy and s2, which nats-server prefers, are not offered: they get identity. */
enum rb_encoding rb_header_encoding(struct rb_slice accept);
