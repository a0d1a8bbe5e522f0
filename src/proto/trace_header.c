/* trace_header.c - the headers that ask for a trace, read as nats-server reads them.
 *
 * 1. A field is what stands before a colon, over line ends if need be, and what follows up to CRLF, without blanks around;
 *    a field without name or value does not count, and what comes after the last whole field is not looked at.
 * 2. Names are compared byte for byte, but for "traceparent", which other systems write as they like.
 */
#include "proto/trace_header.h"

#include <stdlib.h>
#include <string.h>

#include "proto/json.h"
#include "ringbus/check.h"

enum {
    FIRST = 10,    /* "NATS/1.0\r\n" */
    LINE_MIN = 19, /* "Nats-Trace-Dest:x\r\n", "traceparent:---01\r\n" */
};

__attribute__((noinline)) static bool line_mentions(struct rb_slice lines)
{
    const struct rb_slice dest = RB_S("Nats-Trace-Dest:"), parent = RB_S("traceparent:");
    const uint8_t *at = lines.ptr, *end = lines.ptr + lines.len;
    while (end - at >= LINE_MIN) {
        if (memcmp(at, dest.ptr, dest.len) == 0 ||
            rb_slice_equal_fold(rb_slice_of(at, parent.len), parent)) {
            return true;
        }
        at = memchr(at, '\n', (size_t)(end - at));
        if (at == NULL) {
            break;
        }
        at++;
    }
    return false;
}

typedef uint8_t bytes16 __attribute__((vector_size(16)));

static inline bytes16 lower_at(const uint8_t *at)
{
    bytes16 bytes;
    memcpy(&bytes, at, sizeof(bytes));
    return bytes | 0x20;
}

/* Both names have "trac" in them, of whatever case: blocks without a "t..c" are told by 16 bytes at a time. */
bool rb_trace_mentioned(struct rb_slice header)
{
    enum { REACH = sizeof(bytes16) + 3 };
    _Static_assert(RB_TRACE_HEADER_MIN - FIRST >= REACH, "the first step stays inside");
    if (header.len < RB_TRACE_HEADER_MIN) {
        return false;
    }
    struct rb_slice lines = rb_slice_of(header.ptr + FIRST, header.len - FIRST);
    const uint8_t *last = lines.ptr + lines.len - REACH;
    bytes16 found = { 0 };
    for (const uint8_t *at = lines.ptr;; at += sizeof(bytes16)) {
        at = at < last ? at : last;
        found |= (bytes16)(lower_at(at) == 't') & (bytes16)(lower_at(at + 3) == 'c');
        if (at == last) {
            break;
        }
    }
    uint64_t any[2];
    memcpy(any, &found, sizeof(any));
    return (any[0] | any[1]) != 0 && line_mentions(lines);
}

static struct rb_slice trimmed(const uint8_t *begin, const uint8_t *end)
{
    while (begin < end && (*begin == ' ' || *begin == '\t')) {
        begin++;
    }
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    return rb_slice_of(begin, (size_t)(end - begin));
}

static const uint8_t *find_crlf(const uint8_t *at, const uint8_t *end)
{
    while ((at = memchr(at, '\r', (size_t)(end - at))) != NULL) {
        if (end - at > 1 && at[1] == '\n') {
            return at;
        }
        at++;
    }
    return NULL;
}

/* The next "key:value\r\n" with neither empty; false at the end. A key is what stands before the colon, whatever that is. */
static bool next_field(struct rb_slice *rest, struct rb_trace_field *ret_field)
{
    while (rest->len > 0) {
        const uint8_t *end = rest->ptr + rest->len;
        const uint8_t *colon = memchr(rest->ptr, ':', rest->len);
        const uint8_t *crlf = colon == NULL ? NULL : find_crlf(colon + 1, end);
        if (crlf == NULL) {
            break;
        }
        ret_field->key = rb_slice_of(rest->ptr, (size_t)(colon - rest->ptr));
        ret_field->value = trimmed(colon + 1, crlf);
        *rest = rb_slice_of(crlf + 2, (size_t)(end - crlf - 2));
        if (ret_field->key.len > 0 && ret_field->value.len > 0) {
            return true;
        }
    }
    return false;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "version-trace-parent-flags" with the lowest flag set. Flags are read as nats-server reads them: two characters that are a
 * number of 8 bits with a sign. */
static bool parent_samples(struct rb_slice value)
{
    uint32_t dashes = 0;
    size_t flags = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] == '-') {
            dashes++;
            flags = dashes == 3 ? i + 1 : flags;
        }
    }
    if (dashes != 3 || value.len - flags != 2) {
        return false;
    }
    uint8_t first = value.ptr[flags];
    int high = hex_digit(first), low = hex_digit(value.ptr[flags + 1]);
    return (first == '+' || (high >= 0 && high < 8)) && low >= 0 && (low & 1) == 1;
}

static void note(struct rb_slice *first, const struct rb_trace_field *field, struct rb_slice key)
{
    if (first->len == 0 && rb_slice_equal(field->key, key)) {
        *first = field->value;
    }
}

/* The lines after "NATS/1.0\r\n"; nothing when the block does not begin so. */
static struct rb_slice header_lines(struct rb_slice header)
{
    struct rb_slice first = RB_S("NATS/1.0\r\n");
    return rb_slice_starts(header, first)
               ? rb_slice_of(header.ptr + first.len, header.len - first.len)
               : (struct rb_slice){ NULL, 0 };
}

struct rb_trace_wish rb_trace_wish(struct rb_slice header)
{
    struct rb_trace_wish wish = { 0 };
    struct rb_slice rest = header_lines(header);
    bool sampled = false;
    for (struct rb_trace_field field; next_field(&rest, &field); wish.field_count++) {
        if (!sampled && rb_slice_equal_fold(field.key, RB_S("traceparent"))) {
            sampled = parent_samples(field.value);
            continue;
        }
        if (wish.destination.len == 0 && rb_slice_equal(field.key, RB_TRACE_DEST) &&
            rb_slice_equal(field.value, RB_TRACE_DISABLED)) {
            return (struct rb_trace_wish){ 0 };
        }
        note(&wish.destination, &field, RB_TRACE_DEST);
        note(&wish.only, &field, RB_S("Nats-Trace-Only"));
        note(&wish.origin, &field, RB_S("Nats-Trace-Origin-Account"));
        note(&wish.encoding, &field, RB_S("Accept-Encoding"));
    }
    if (wish.destination.len == 0 && !sampled) {
        return (struct rb_trace_wish){ 0 };
    }
    wish.asked = true;
    wish.external = wish.destination.len == 0;
    return wish;
}

static int compare_fields(const void *left, const void *right)
{
    const struct rb_trace_field *a = left, *b = right;
    size_t len = a->key.len < b->key.len ? a->key.len : b->key.len;
    int order = memcmp(a->key.ptr, b->key.ptr, len);
    if (order != 0 || a->key.len != b->key.len) {
        return order != 0 ? order : (a->key.len < b->key.len ? -1 : 1);
    }
    return a->key.ptr < b->key.ptr ? -1 : a->key.ptr > b->key.ptr; /* values in their order */
}

void rb_trace_write_headers(struct rb_writer *out, struct rb_slice header,
                            struct rb_trace_field *fields, uint32_t count)
{
    struct rb_slice rest = header_lines(header);
    for (uint32_t i = 0; i < count; i++) {
        bool found = next_field(&rest, &fields[i]);
        rb_assert(found);
    }
    qsort(fields, count, sizeof(*fields), compare_fields);
    rb_write_u8(out, '{');
    for (uint32_t i = 0; i < count; i++) {
        bool again = i > 0 && rb_slice_equal(fields[i].key, fields[i - 1].key);
        if (!again) {
            rb_write_slice(out, i > 0 ? RB_S("],") : RB_S(""));
            rb_json_string(out, fields[i].key);
        }
        rb_write_slice(out, again ? RB_S(",") : RB_S(":["));
        rb_json_string(out, fields[i].value);
    }
    rb_write_slice(out, count > 0 ? RB_S("]}") : RB_S("}"));
}
