/* msg_headers.c - see msg_headers.h. Most messages have no header that a stream looks at, and most headers begin with another
 * letter: names are compared by length and first differing part only when they begin with "Nats-" or "KV-". */
#include "js/msg_headers.h"

#include <string.h>

#include "js/duration.h"

#define SECOND_NS INT64_C(1000000000)

static const struct {
    const char *name; /* behind "Nats-" */
    uint8_t len, which;
} known[] = {
#define NAME(text, which)                                                                          \
    {                                                                                              \
        text, sizeof(text) - 1, which                                                              \
    }
    NAME("TTL", RB_JS_H_TTL),
    NAME("Incr", RB_JS_H_INCR),
    NAME("Msg-Id", RB_JS_H_MSG_ID),
    NAME("Rollup", RB_JS_H_ROLLUP),
    NAME("Batch-Id", RB_JS_H_BATCH_ID),
    NAME("Schedule", RB_JS_H_SCHEDULE),
    NAME("Scheduler", RB_JS_H_SCHEDULER),
    NAME("Batch-Commit", RB_JS_H_BATCH_COMMIT),
    NAME("Request-Info", RB_JS_H_REQUEST_INFO),
    NAME("Schedule-TTL", RB_JS_H_SCHEDULE_TTL),
    NAME("Marker-Reason", RB_JS_H_MARKER_REASON),
    NAME("Schedule-Next", RB_JS_H_SCHEDULE_NEXT),
    NAME("Stream-Source", RB_JS_H_STREAM_SOURCE),
    NAME("Batch-Sequence", RB_JS_H_BATCH_SEQUENCE),
    NAME("Expected-Stream", RB_JS_H_EXPECTED_STREAM),
    NAME("Schedule-Rollup", RB_JS_H_SCHEDULE_ROLLUP),
    NAME("Schedule-Source", RB_JS_H_SCHEDULE_SOURCE),
    NAME("Schedule-Target", RB_JS_H_SCHEDULE_TARGET),
    NAME("Required-Api-Level", RB_JS_H_API_LEVEL),
    NAME("Expected-Last-Msg-Id", RB_JS_H_EXPECTED_MSG_ID),
    NAME("Expected-Last-Sequence", RB_JS_H_EXPECTED_LAST_SEQ),
    NAME("Expected-Last-Subject-Sequence", RB_JS_H_EXPECTED_SUBJECT_SEQ),
    NAME("Expected-Last-Subject-Sequence-Subject", RB_JS_H_EXPECTED_SUBJECT_SEQ_SUBJECT),
#undef NAME
};

static int which_of(struct rb_slice name)
{
    if (name.len > 5 && memcmp(name.ptr, "Nats-", 5) == 0) {
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && known[i].len <= name.len - 5;
             i++) {
            if (known[i].len == name.len - 5 &&
                memcmp(known[i].name, name.ptr + 5, known[i].len) == 0) {
                return known[i].which;
            }
        }
        return -1;
    }
    return rb_slice_equal(name, RB_S("KV-Operation")) ? RB_JS_H_KV_OPERATION : -1;
}

/* The next line without its CRLF; false at the end. */
static bool next_line(const uint8_t **at, const uint8_t *end, struct rb_slice *ret_line)
{
    if (*at >= end) {
        return false;
    }
    const uint8_t *begin = *at, *stop = begin;
    for (;;) {
        stop = memchr(stop, '\r', (size_t)(end - stop));
        if (stop == NULL || (stop + 1 < end && stop[1] == '\n')) {
            break;
        }
        stop++;
    }
    *ret_line = rb_slice_of(begin, (size_t)((stop == NULL ? end : stop) - begin));
    *at = stop == NULL ? end : stop + 2;
    return true;
}

void rb_js_headers_scan(struct rb_slice block, struct rb_js_headers *ret_headers)
{
    ret_headers->found = 0;
    const uint8_t *at = block.ptr, *end = block.ptr + block.len;
    struct rb_slice line;
    if (block.len == 0 || !next_line(&at, end, &line)) {
        return;
    }
    while (next_line(&at, end, &line)) {
        if (line.len < 4 || (line.ptr[0] != 'N' && line.ptr[0] != 'K')) {
            continue;
        }
        const uint8_t *colon = memchr(line.ptr, ':', line.len);
        if (colon == NULL) {
            continue;
        }
        int which = which_of(rb_slice_of(line.ptr, (size_t)(colon - line.ptr)));
        if (which < 0 || rb_js_headers_has(ret_headers, (enum rb_js_header)which)) {
            continue;
        }
        const uint8_t *value = colon + 1, *stop = line.ptr + line.len;
        while (value < stop && *value == ' ') {
            value++;
        }
        if (value < stop || which == RB_JS_H_BATCH_COMMIT) {
            ret_headers->found |= 1u << which;
            ret_headers->value[which] = rb_slice_of(value, (size_t)(stop - value));
        }
    }
}

uint64_t rb_js_header_number(struct rb_slice value)
{
    uint64_t number;
    return rb_slice_decimal(value, 18, &number) ? number : UINT64_MAX;
}

bool rb_js_ttl_parse(struct rb_slice value, int64_t *ret_ns)
{
    int64_t ns;
    uint64_t seconds;
    if (rb_slice_equal_fold(value, RB_S("never"))) {
        *ret_ns = RB_JS_TTL_NEVER;
        return true;
    }
    if (rb_slice_decimal(value, 18, &seconds)) {
        const uint64_t most = (uint64_t)(INT64_MAX / 2 / SECOND_NS);
        ns = (int64_t)(seconds > most ? most : seconds) * SECOND_NS;
    } else if (!rb_js_duration_parse(value, &ns)) {
        return false;
    }
    ns = ns / SECOND_NS * SECOND_NS;
    if (ns < SECOND_NS) {
        return false;
    }
    *ret_ns = ns;
    return true;
}

size_t rb_js_headers_without(struct rb_slice block, struct rb_slice begin, uint8_t *out, size_t cap)
{
    const uint8_t *at = block.ptr, *end = block.ptr + block.len;
    struct rb_slice line;
    struct rb_writer writer = rb_writer_over(out, cap);
    bool any = false;
    (void)next_line(&at, end, &line);
    rb_write_slice(&writer, RB_S("NATS/1.0\r\n"));
    while (next_line(&at, end, &line) && line.len > 0) {
        if (!rb_slice_starts(line, begin)) {
            rb_write_slice(&writer, line);
            rb_write_slice(&writer, RB_S("\r\n"));
            any = true;
        }
    }
    rb_write_slice(&writer, RB_S("\r\n"));
    return any && writer.ok ? rb_writer_len(&writer) : 0;
}

bool rb_js_headers_clean(struct rb_slice block, const struct rb_js_headers *headers, uint8_t *out,
                         size_t *ret_len)
{
    static const char first[] = "NATS/1.0";
    const size_t first_len = sizeof(first) - 1;
    bool status = block.len > first_len && block.ptr[first_len] != '\r';
    if (!status && !rb_js_headers_has(headers, RB_JS_H_REQUEST_INFO)) {
        return false;
    }
    *ret_len = rb_js_headers_without(block, RB_S("Nats-Request-Info:"), out, block.len);
    return true;
}
