/* mapping.h - an account's subject mappings, ready to be applied (client-protocol.md 16). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "auth/policy.h"
#include "ringbus/errors.h"

struct rb_mappings;

#define RB_MAPPINGS_ERROR_MAX 512
#define RB_MAPPING_TARGETS_MAX 1024 /* of one mapping; more are refused */

/**
 * Compiles an account's mappings; they are copied. `cluster` is the own cluster's name, or empty: targets of a mapping
 * that name it replace those that name none. RB_ERR_INVALID with nats-server's words in `error`, after "Error adding
 * mapping for ". Immutable afterwards, so that all shards may share it; destroy it when no shard asks any more.
 */
RB_MUST_CHECK enum rb_err rb_mappings_create(const struct rb_mapping *mappings, uint32_t count,
                                             struct rb_slice cluster,
                                             struct rb_mappings **ret_mappings,
                                             char error[RB_MAPPINGS_ERROR_MAX]);
void rb_mappings_destroy(struct rb_mappings *mappings); /* NULL is allowed */

enum rb_mapped {
    RB_MAPPED_NONE, /* no mapping matches: the subject stays, `out` and `ret_len` are untouched */
    RB_MAPPED,      /* `out` holds the new subject, which may be the old one */
    RB_MAPPED_DROPPED, /* the weights lose this message, or the result is no subject of at most `cap` bytes */
};

/** The first mapping in the order of configuration that matches decides. NULL mappings: none. `random`: 64 even bits. */
enum rb_mapped rb_mappings_apply(const struct rb_mappings *mappings, struct rb_slice subject,
                                 uint64_t random, uint8_t *out, size_t cap, size_t *ret_len);
