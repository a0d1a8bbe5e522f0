/* js_link.h - a connection that speaks JetStream: requests, acknowledged publishes, messages one by one. Dies on failure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "load.h"

#define RB_JS_LINK_READ_BYTES (1u << 20)
#define RB_JS_LINK_WRITE_BYTES (64u << 10)
#define RB_JS_INBOX "_INBOX.bench."

struct rb_js_link {
    int fd;
    uint8_t *bytes; /* RB_JS_LINK_READ_BYTES: at..len is not taken yet */
    size_t at, len;
    uint8_t *out; /* RB_JS_LINK_WRITE_BYTES, out_len used */
    size_t out_len;
};

/** Points into the link's bytes: valid until the next call. */
struct rb_js_msg {
    const char *subject, *reply; /* subject_len bytes; reply_len 0: none */
    size_t subject_len, reply_len;
    const char *head, *body;
    size_t head_len, body_len;
};

/** Connects; all that is sent to RB_JS_INBOX> comes. */
void rb_js_link_open(const struct rb_load *load, struct rb_js_link *link);
void rb_js_link_close(struct rb_js_link *link);
/** Adds to what is written by the next flush; flushes when it is full. */
__attribute__((format(printf, 2, 3))) void rb_js_link_printf(struct rb_js_link *link,
                                                             const char *format, ...);
void rb_js_link_add(struct rb_js_link *link, const void *ptr, size_t len);
void rb_js_link_flush(struct rb_js_link *link);
/** Is a whole message here already? Without a read. */
bool rb_js_link_has(struct rb_js_link *link, struct rb_js_msg *ret_msg);
/** The next message; false: none within `timeout_ms`. Flushes first; answers PING. */
bool rb_js_link_next(const struct rb_load *load, struct rb_js_link *link, struct rb_js_msg *ret_msg,
                     int timeout_ms);
/** $JS.API request whose answer must not be an error. The answer, NUL-terminated, until the next request. */
const char *rb_js_link_api(const struct rb_load *load, struct rb_js_link *link, const char *subject,
                           const char *body);
/** The number behind "name": in a document; dies when there is none. */
uint64_t rb_js_number(const char *document, size_t len, const char *name);

/** Publishes with acknowledgements. */
struct rb_js_publish {
    const char *subject;    /* with `subject_count` above 0: "<subject>.<number>" */
    uint64_t subject_count; /* numbers go around; 0: only one subject */
    uint64_t first;         /* number of the first */
    uint32_t body_bytes, inflight_max;
    uint64_t count;   /* messages, or */
    uint64_t time_ns; /* how long */
    bool any_seq;     /* else acknowledged sequences must go up by one */
    uint64_t *samples_ns;
    uint32_t sample_max; /* round trips, when inflight_max is 1 */
    uint32_t sample_count;
};
/** Until all is acknowledged; the number of messages. */
uint64_t rb_js_publish(const struct rb_load *load, struct rb_js_link *link,
                       struct rb_js_publish *publish);
/** Sorts and gives the percentile in us. */
double rb_js_percentile_us(uint64_t *samples_ns, uint32_t count, double percent);
/** What one durable write of 4 KiB to load->directory takes, now. Nothing when the directory was not given. */
void rb_js_measure_disk(const struct rb_load *load);
/** What was measured, as members. */
void rb_js_print_disk(void);
