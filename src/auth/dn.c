/* dn.c - distinguished names.
 *
 * 1. Attributes of one RDN lie together, in ascending order of `rdn`; there is no empty RDN.
 * 2. Two RDNs are equal when they have as many attributes and each one's attributes are found in the other (RFC 4517,
 *    section 4.2.15, as nats-server reads it). Types are compared without case, values byte by byte.
 * 3. The hash adds up what it makes of each RDN, and inside an RDN of each distinct attribute, so that neither order nor
 *    a repeated attribute (see 2) changes it. It only finds candidates.
 */
#include "auth/dn.h"

#include <string.h>

#include "ringbus/check.h"

void rb_dn_init(struct rb_dn *dn)
{
    dn->attribute_count = dn->rdn_count = 0;
    dn->text_len = 0;
}

bool rb_dn_add(struct rb_dn *dn, uint32_t rdn, struct rb_slice type, struct rb_slice value)
{
    rb_assert(rdn == dn->rdn_count || rdn + 1 == dn->rdn_count); /* invariant 1 */
    if (dn->attribute_count == RB_DN_ATTRIBUTES_MAX || type.len > sizeof(dn->text) - dn->text_len ||
        value.len > sizeof(dn->text) - dn->text_len - type.len) {
        return false;
    }
    uint8_t *at = dn->text + dn->text_len;
    if (type.len > 0) {
        memcpy(at, type.ptr, type.len);
    }
    if (value.len > 0) {
        memcpy(at + type.len, value.ptr, value.len);
    }
    dn->text_len += type.len + value.len;
    dn->attributes[dn->attribute_count++] = (struct rb_dn_attribute){
        .rdn = rdn,
        .type = rb_slice_of(at, type.len),
        .value = rb_slice_of(at + type.len, value.len),
    };
    if (rdn == dn->rdn_count) {
        dn->rdn_count++;
    }
    return true;
}

/* ------------------------------------------------------------------ text */

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    uint8_t lower = c | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Takes one character or escape from *text. False: a broken escape. */
static bool take_char(struct rb_slice *text, uint8_t *ret_byte, bool *ret_escaped)
{
    const uint8_t *p = text->ptr;
    size_t used = 1;
    *ret_escaped = p[0] == '\\';
    *ret_byte = p[0];
    if (*ret_escaped) {
        if (text->len >= 2 && strchr(" \"#+,;<=>\\", p[1]) != NULL && p[1] != '\0') {
            *ret_byte = p[1];
            used = 2;
        } else if (text->len >= 3 && hex_value(p[1]) >= 0 && hex_value(p[2]) >= 0) {
            *ret_byte = (uint8_t)(hex_value(p[1]) << 4 | hex_value(p[2]));
            used = 3;
        } else {
            return false;
        }
    }
    *text = rb_slice_of(p + used, text->len - used);
    return true;
}

/*
 * Takes text up to the first unescaped byte of `ends`, or all of it, into `out`, without the unescaped blanks around it.
 * *ret_end is the byte that ended it, 0 at the end of the text. Returns the length; -1 on a broken escape.
 */
static int take_part(struct rb_slice *text, const char *ends, uint8_t out[RB_DN_TEXT_MAX],
                     uint8_t *ret_end)
{
    size_t len = 0, kept = 0; /* `kept`: up to the last byte that is no blank at the end */
    *ret_end = 0;
    while (text->len > 0) {
        uint8_t byte;
        bool escaped;
        if (!take_char(text, &byte, &escaped)) {
            return -1;
        }
        if (!escaped && byte != '\0' && strchr(ends, byte) != NULL) {
            *ret_end = byte;
            break;
        }
        bool blank = byte == ' ' && !escaped;
        if (blank && len == 0) {
            continue;
        }
        out[len++] = byte; /* the whole text fits, so a part does */
        kept = blank ? kept : len;
    }
    return (int)kept;
}

bool rb_dn_parse(struct rb_slice text, struct rb_dn *dn)
{
    rb_dn_init(dn);
    if (text.len > RB_DN_TEXT_MAX) {
        return false;
    }
    uint8_t type[RB_DN_TEXT_MAX], value[RB_DN_TEXT_MAX];
    uint32_t rdn = 0;
    for (;;) {
        uint8_t end;
        int type_len = take_part(&text, "=,+", type, &end);
        if (type_len <= 0 || end != '=' || (text.len > 0 && text.ptr[0] == '#')) {
            return false;
        }
        int value_len = take_part(&text, ",+", value, &end);
        if (value_len < 0 || !rb_dn_add(dn, rdn, rb_slice_of(type, (size_t)type_len),
                                        rb_slice_of(value, (size_t)value_len))) {
            return false;
        }
        if (end == 0) {
            return true;
        }
        rdn += end == ',';
    }
}

/* ------------------------------------------------------------------ comparing */

/* The attributes of one RDN. */
struct rdn {
    const struct rb_dn_attribute *first;
    uint32_t count;
};

static struct rdn rdn_at(const struct rb_dn *dn, uint32_t first)
{
    struct rdn rdn = { .first = &dn->attributes[first], .count = 1 };
    while (first + rdn.count < dn->attribute_count && rdn.first[rdn.count].rdn == rdn.first->rdn) {
        rdn.count++;
    }
    return rdn;
}

static bool has_attribute(struct rdn rdn, const struct rb_dn_attribute *wanted)
{
    for (uint32_t i = 0; i < rdn.count; i++) {
        if (rb_slice_equal_fold(rdn.first[i].type, wanted->type) &&
            rb_slice_equal(rdn.first[i].value, wanted->value)) {
            return true;
        }
    }
    return false;
}

static bool rdns_equal(struct rdn a, struct rdn b)
{
    bool equal = a.count == b.count;
    for (uint32_t i = 0; equal && i < a.count; i++) {
        equal = has_attribute(b, &a.first[i]) && has_attribute(a, &b.first[i]);
    }
    return equal;
}

bool rb_dn_equal(const struct rb_dn *a, const struct rb_dn *b)
{
    bool equal = a->rdn_count == b->rdn_count && a->attribute_count == b->attribute_count;
    for (uint32_t at = 0; equal && at < a->attribute_count;) {
        struct rdn left = rdn_at(a, at);
        equal = rdns_equal(left, rdn_at(b, at));
        at += left.count;
    }
    return equal;
}

bool rb_dn_match(const struct rb_dn *a, const struct rb_dn *b)
{
    if (a->rdn_count != b->rdn_count || a->attribute_count != b->attribute_count) {
        return false;
    }
    bool taken[RB_DN_ATTRIBUTES_MAX] = { false }; /* RDNs of b, by number */
    for (uint32_t at = 0; at < a->attribute_count;) {
        struct rdn left = rdn_at(a, at), right = { NULL, 0 };
        bool found = false;
        for (uint32_t other = 0; !found && other < b->attribute_count; other += right.count) {
            right = rdn_at(b, other);
            found = !taken[right.first->rdn] && rdns_equal(left, right);
        }
        if (!found) {
            return false;
        }
        taken[right.first->rdn] = true;
        at += left.count;
    }
    return true;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 32) * UINT64_C(0x9e3779b97f4a7c15);
    return x ^ x >> 29;
}

static uint64_t hash_attribute(const struct rb_dn_attribute *attribute)
{
    uint64_t hash = rb_slice_hash(attribute->value);
    for (size_t i = 0; i < attribute->type.len; i++) {
        uint8_t c = attribute->type.ptr[i];
        hash = mix(hash + (c >= 'A' && c <= 'Z' ? c | 0x20 : c));
    }
    return mix(hash + attribute->type.len);
}

uint64_t rb_dn_hash(const struct rb_dn *dn)
{
    uint64_t sum = 0;
    for (uint32_t at = 0; at < dn->attribute_count;) {
        struct rdn rdn = rdn_at(dn, at);
        uint64_t inner = 0;
        for (uint32_t i = 0; i < rdn.count; i++) {
            if (!has_attribute((struct rdn){ rdn.first, i }, &rdn.first[i])) { /* invariant 3 */
                inner += hash_attribute(&rdn.first[i]);
            }
        }
        sum += mix(inner + rdn.count);
        at += rdn.count;
    }
    return sum;
}
