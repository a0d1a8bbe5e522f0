/* transform.h - subject mapping: a source pattern and a destination with functions (client-protocol.md 16). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/mem.h"
#include "ringbus/slice.h"

struct rb_transform;

enum rb_transform_rules {
    RB_TRANSFORM_ANY, /* stream transforms, republish: all functions */
    RB_TRANSFORM_MAPPING, /* account mappings: the same, but each token is judged first, which changes some errors */
    RB_TRANSFORM_IMPORT, /* only wildcards, all of them used */
};

#define RB_TRANSFORM_ERROR_MAX 256
/**
 * Checks and compiles. `error`: nats-server's text. Copies what it needs; immutable afterwards, so that any thread
 * may use it. An empty destination maps to the subject itself.
 */
RB_MUST_CHECK enum rb_err rb_transform_create(enum rb_transform_rules rules, struct rb_slice source,
                                              struct rb_slice destination,
                                              struct rb_transform **ret_transform,
                                              char error[RB_TRANSFORM_ERROR_MAX]);
void rb_transform_destroy(struct rb_transform *transform); /* NULL is allowed */
/** The reverse of an import's transform: destination pattern back to source. RB_ERR_INVALID when it has functions that lose something. */
RB_MUST_CHECK enum rb_err rb_transform_reverse(const struct rb_transform *transform,
                                               struct rb_transform **ret_reverse);
struct rb_slice rb_transform_source(const struct rb_transform *transform);
struct rb_slice rb_transform_destination(const struct rb_transform *transform);
/** The n-th "*" token of `pattern` as "$n", so that it can stand in a destination. Returns the length, 0: more than `cap`. */
size_t rb_transform_number(struct rb_slice pattern, uint8_t *out, size_t cap);
/**
 * Maps a literal subject that matches the source. Returns the length written to `out`; 0: no match, or more than `cap`.
 * `random` is used by {{random(n)}} only.
 */
size_t rb_transform_apply(const struct rb_transform *transform, struct rb_slice subject,
                          uint64_t random, uint8_t *out, size_t cap);
/** The same for a subject with wildcards, which stand for themselves in the result (shadow subscriptions). */
size_t rb_transform_apply_pattern(const struct rb_transform *transform, struct rb_slice subject,
                                  uint8_t *out, size_t cap);
