/* feed.h - what a server sends to one connection: counts messages cheaply, checks a sample, knows
 * the control lines. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RB_FEED_INDEX_DIGITS 8
#define RB_FEED_LINE_MAX 120

/** The one shape of message a connection may get: header line, payload and CRLF, all of a fixed
 * length. */
struct rb_expect {
    uint8_t *frame; /* "MSG subject sid size\r\n" 8 digits and more payload "\r\n" */
    size_t len;
    size_t index_offset;  /* of the digits */
    uint32_t index_count; /* the k-th message carries k % index_count ... */
    bool in_order;        /* ... unless others share the subject (queue group): then any below it */
};

/** `sid` and `size` as the server will print them. Dies without memory. The caller frees `frame`.
 */
void rb_expect_init(struct rb_expect *expect, const char *subject, const char *sid, size_t size,
                    uint32_t index_count, bool in_order);
/** The payload of a message: 8 digits, then letters. `size` >= RB_FEED_INDEX_DIGITS. */
void rb_expect_payload(uint8_t *payload, size_t size, uint32_t index);

struct rb_feed {
    const struct rb_expect *expect; /* NULL: a message is an error */
    uint64_t msgs;
    uint32_t infos, pings, pongs;
    uint32_t frame_offset; /* bytes of the current message that have come */
    uint32_t line_len;     /* bytes of the current control line, the first of which are kept */
    char line[RB_FEED_LINE_MAX];
};

/** Takes what a read returned. NULL, or what is wrong (the text stays valid until the next call).
 */
const char *rb_feed_take(struct rb_feed *feed, const uint8_t *ptr, size_t len);
