/* feed.c - the receiving side's view of one connection.
 *
 * 1. All messages of a connection have one length, so the next boundary is known without parsing.
 *    At each boundary one byte tells a message from a control line, and each message must end with
 *    CRLF: a byte too many or too few shows at the next boundary.
 * 2. The first whole message of each call is compared byte for byte, its index included. A lost
 *    or doubled message shifts all later indexes and so is seen; one that is damaged or out of its
 *    place is seen when the sample hits it. The exact count is the caller's check.
 * 3. The cost is two loads per message; reading from the socket costs many times that.
 */
#include "feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

void rb_expect_payload(uint8_t *payload, size_t size, uint32_t index)
{
    for (size_t i = RB_FEED_INDEX_DIGITS; i < size; i++) {
        payload[i] = (uint8_t)('a' + i % 26);
    }
    for (size_t i = RB_FEED_INDEX_DIGITS; i > 0; i--) {
        payload[i - 1] = (uint8_t)('0' + index % 10);
        index /= 10;
    }
}

void rb_expect_init(struct rb_expect *expect, const char *subject, const char *sid, size_t size,
                    uint32_t index_count, bool in_order)
{
    size_t cap = strlen(subject) + strlen(sid) + 40 + size;
    uint8_t *frame = malloc(cap);
    if (frame == NULL) {
        rb_load_die("no memory");
    }
    size_t head = (size_t)snprintf((char *)frame, cap, "MSG %s %s %zu\r\n", subject, sid, size);
    rb_expect_payload(frame + head, size, 0);
    memcpy(frame + head + size, "\r\n", 2);
    *expect = (struct rb_expect){ .frame = frame,
                                  .len = head + size + 2,
                                  .index_offset = head,
                                  .index_count = index_count,
                                  .in_order = in_order };
}

/* Invariant 2. */
static const char *check_frame(const struct rb_feed *feed, const uint8_t *ptr)
{
    const struct rb_expect *expect = feed->expect;
    size_t after = expect->index_offset + RB_FEED_INDEX_DIGITS;
    if (memcmp(ptr, expect->frame, expect->index_offset) != 0 ||
        memcmp(ptr + after, expect->frame + after, expect->len - after) != 0) {
        return "a message differs from what was published";
    }
    uint32_t index = 0;
    for (size_t i = expect->index_offset; i < after; i++) {
        index = index * 10 + (uint32_t)(ptr[i] - '0');
    }
    if (expect->in_order ? index != feed->msgs % expect->index_count
                         : index >= expect->index_count) {
        return "a message is lost, doubled or out of order";
    }
    return NULL;
}

/* Counts the whole messages at the start of the bytes; *ret_taken is how far they reach. */
static const char *take_whole(struct rb_feed *feed, const uint8_t *ptr, size_t len,
                              size_t *ret_taken)
{
    size_t frame_len = feed->expect->len;
    if (len < frame_len) {
        *ret_taken = 0;
        return NULL;
    }
    const char *wrong = check_frame(feed, ptr);
    size_t taken = 0;
    uint64_t msgs = feed->msgs;
    while (wrong == NULL && len - taken >= frame_len && ptr[taken] == 'M') {
        taken += frame_len;
        msgs++;
        if (ptr[taken - 1] != '\n' || ptr[taken - 2] != '\r') {
            wrong = "a message does not end where it should";
        }
    }
    feed->msgs = msgs;
    *ret_taken = taken;
    return wrong;
}

static const char *end_line(struct rb_feed *feed)
{
    size_t len = feed->line_len < RB_FEED_LINE_MAX ? feed->line_len : RB_FEED_LINE_MAX - 1;
    feed->line[len] = '\0';
    feed->line_len = 0;
    if (strncmp(feed->line, "PONG", 4) == 0) {
        feed->pongs++;
    } else if (strncmp(feed->line, "PING", 4) == 0) {
        feed->pings++;
    } else if (strncmp(feed->line, "INFO ", 5) == 0) {
        feed->infos++;
    } else {
        return feed->line; /* "-ERR '...'" explains itself */
    }
    return NULL;
}

const char *rb_feed_take(struct rb_feed *feed, const uint8_t *ptr, size_t len)
{
    const char *wrong = NULL;
    while (len > 0 && wrong == NULL) {
        size_t taken = 0;
        if (feed->frame_offset > 0 || (feed->line_len == 0 && *ptr == 'M')) {
            if (feed->expect == NULL) {
                return "a message that nobody asked for";
            }
            if (feed->frame_offset == 0) {
                wrong = take_whole(feed, ptr, len, &taken);
            }
            if (taken == 0) { /* in the middle of one, or the start of one that is not all here */
                size_t rest = feed->expect->len - feed->frame_offset;
                taken = rest < len ? rest : len;
                feed->frame_offset += (uint32_t)taken;
                if (taken == rest) {
                    feed->frame_offset = 0;
                    feed->msgs++;
                }
            }
        } else {
            taken = 1;
            if (*ptr == '\n') {
                wrong = end_line(feed);
            } else {
                if (feed->line_len < RB_FEED_LINE_MAX - 1) {
                    feed->line[feed->line_len] = (char)*ptr;
                }
                feed->line_len++;
            }
        }
        ptr += taken;
        len -= taken;
    }
    return wrong;
}
