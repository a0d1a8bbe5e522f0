/* dn.h - distinguished names: parsed from text, or taken from a certificate, and compared (RFC 2253, RFC 4514). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/slice.h"

#define RB_DN_ATTRIBUTES_MAX 64
#define RB_DN_TEXT_MAX 4096

struct rb_dn_attribute {
    uint32_t rdn;                /* 0-based; attributes of one RDN lie together */
    struct rb_slice type, value; /* in `text`, or static */
};

/** Bounded, so that it fits on a stack: not to be copied, since its slices point into it. */
struct rb_dn {
    uint32_t attribute_count, rdn_count;
    size_t text_len;
    struct rb_dn_attribute attributes[RB_DN_ATTRIBUTES_MAX];
    uint8_t text[RB_DN_TEXT_MAX];
};

/** No RDNs. */
void rb_dn_init(struct rb_dn *dn);
/**
 * Appends an attribute to RDN `rdn` (the last one, or the next). Copies both. False, and unchanged, beyond the bounds.
 */
bool rb_dn_add(struct rb_dn *dn, uint32_t rdn, struct rb_slice type, struct rb_slice value);
/**
 * "CN=x,OU=a+L=b": at least one RDN. Escapes as in RFC 4514; blanks around names and values do not count. False when `text`
 * is none, is beyond the bounds above, or has a "#hex" value.
 */
bool rb_dn_parse(struct rb_slice text, struct rb_dn *dn);
/** The same RDNs in the same order; inside an RDN order does not count, nor does the case of types. */
bool rb_dn_equal(const struct rb_dn *a, const struct rb_dn *b);
/** The same RDNs in any order. */
bool rb_dn_match(const struct rb_dn *a, const struct rb_dn *b);
/** Equal for names that match. */
uint64_t rb_dn_hash(const struct rb_dn *dn);
