/* js_link.c - the connection of the JetStream scenarios.
 *
 * 1. Messages are parsed, since acknowledgements and deliveries differ in length; one thread does all, so its own cost
 *    is in gen_cpu_ns_per_msg of the result and never in the server's.
 * 2. Every acknowledgement is looked at: an error, or a sequence that is not the next one, ends the run without a number.
 */
#include "js_link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"
#include "probe.h"

#define CONNECT_WAIT_NS 5000000000u
#define ANSWER_MS 30000
#define DISK_WRITES 100
#define DISK_BYTES 4096

void rb_js_link_open(const struct rb_load *load, struct rb_js_link *link)
{
    uint64_t end_ns = rb_probe_now_ns() + CONNECT_WAIT_NS;
    *link = (struct rb_js_link){ .fd = -1 };
    while ((link->fd = rb_net_try_connect(load->host, load->port)) < 0) {
        if (errno != ECONNREFUSED || rb_probe_now_ns() > end_ns) {
            rb_load_die("connect to %s:%u: %s", load->host, load->port, strerror(errno));
        }
        rb_probe_sleep_until(rb_probe_now_ns() + 1000000u);
    }
    link->bytes = malloc(RB_JS_LINK_READ_BYTES);
    link->out = malloc(RB_JS_LINK_WRITE_BYTES);
    if (link->bytes == NULL || link->out == NULL) {
        rb_load_die("no memory for a connection");
    }
    rb_js_link_printf(link,
                      "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,"
                      "\"no_responders\":true,\"protocol\":1,\"lang\":\"c\",\"version\":\"0.1.0\","
                      "\"name\":\"ringbus_load\"}\r\nSUB " RB_JS_INBOX "> 1\r\n");
    rb_js_link_flush(link);
}

void rb_js_link_close(struct rb_js_link *link)
{
    close(link->fd);
    free(link->bytes);
    free(link->out);
    *link = (struct rb_js_link){ .fd = -1 };
}

void rb_js_link_flush(struct rb_js_link *link)
{
    size_t at = 0;
    while (at < link->out_len) {
        ssize_t sent = send(link->fd, link->out + at, link->out_len - at, MSG_NOSIGNAL);
        if (sent < 0) {
            rb_load_die("write: %s", strerror(errno));
        }
        at += (size_t)sent;
    }
    link->out_len = 0;
}

void rb_js_link_add(struct rb_js_link *link, const void *ptr, size_t len)
{
    if (len > RB_JS_LINK_WRITE_BYTES - link->out_len) {
        rb_js_link_flush(link);
    }
    if (len > RB_JS_LINK_WRITE_BYTES) {
        rb_load_die("%zu bytes are more than is written at once", len);
    }
    memcpy(link->out + link->out_len, ptr, len);
    link->out_len += len;
}

void rb_js_link_printf(struct rb_js_link *link, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (len < 0 || len >= (int)sizeof(text)) {
        rb_load_die("a line is too long");
    }
    rb_js_link_add(link, text, (size_t)len);
}

/* Cuts the tokens of "MSG subject sid [reply] [head] size" or dies. */
static void parse_line(char *line, char *end, struct rb_js_msg *msg, size_t *ret_bytes)
{
    bool headers = line[0] == 'H';
    char *tokens[6];
    size_t lens[6], count = 0;
    for (char *at = line; at < end && count < 6;) {
        char *stop = at;
        while (stop < end && *stop != ' ') {
            stop++;
        }
        if (stop > at) {
            tokens[count] = at;
            lens[count++] = (size_t)(stop - at);
        }
        at = stop + 1;
    }
    size_t numbers = headers ? 2 : 1;
    if (count != 3 + numbers && count != 4 + numbers) {
        rb_load_die("not a message: %.*s", (int)(end - line), line);
    }
    *msg = (struct rb_js_msg){ .subject = tokens[1], .subject_len = lens[1] };
    if (count == 4 + numbers) {
        msg->reply = tokens[3];
        msg->reply_len = lens[3];
    }
    *ret_bytes = strtoul(tokens[count - 1], NULL, 10);
    msg->head_len = headers ? strtoul(tokens[count - 2], NULL, 10) : 0;
}

bool rb_js_link_has(struct rb_js_link *link, struct rb_js_msg *ret_msg)
{
    for (;;) {
        char *line = (char *)link->bytes + link->at;
        size_t left = link->len - link->at;
        char *end = left == 0 ? NULL : memchr(line, '\n', left);
        if (end == NULL) {
            return false;
        }
        size_t line_len = (size_t)(end - line) + 1;
        if (line[0] == 'M' || line[0] == 'H') {
            size_t bytes;
            parse_line(line, end - 1, ret_msg, &bytes);
            if (line_len + bytes + 2 > left) {
                return false;
            }
            ret_msg->head = end + 1;
            ret_msg->body = end + 1 + ret_msg->head_len;
            ret_msg->body_len = bytes - ret_msg->head_len;
            link->at += line_len + bytes + 2;
            return true;
        }
        if (line[0] == '-') {
            rb_load_die("the server said %.*s", (int)line_len - 2, line);
        }
        if (strncmp(line, "PING", 4) == 0) {
            rb_js_link_add(link, "PONG\r\n", 6);
        }
        link->at += line_len;
    }
}

/* One read, after a wait of at most `timeout_ms`. */
static bool read_more(struct rb_js_link *link, int timeout_ms)
{
    struct pollfd poll_fd = { .fd = link->fd, .events = POLLIN };
    if (poll(&poll_fd, 1, timeout_ms) <= 0) {
        return false;
    }
    if (link->at > 0) {
        memmove(link->bytes, link->bytes + link->at, link->len - link->at);
        link->len -= link->at;
        link->at = 0;
    }
    if (link->len == RB_JS_LINK_READ_BYTES) {
        rb_load_die("a message is longer than expected");
    }
    ssize_t len = recv(link->fd, link->bytes + link->len, RB_JS_LINK_READ_BYTES - link->len, 0);
    if (len <= 0) {
        rb_load_die("the server closed a connection");
    }
    link->len += (size_t)len;
    return true;
}

bool rb_js_link_next(const struct rb_load *load, struct rb_js_link *link, struct rb_js_msg *ret_msg,
                     int timeout_ms)
{
    uint64_t end_ns = rb_probe_now_ns() + (uint64_t)timeout_ms * 1000000u;
    while (!rb_js_link_has(link, ret_msg)) {
        rb_js_link_flush(link);
        rb_load_check_deadline(load);
        if (!read_more(link, timeout_ms < 100 ? timeout_ms : 100) && rb_probe_now_ns() > end_ns) {
            return false;
        }
    }
    return true;
}

const char *rb_js_link_api(const struct rb_load *load, struct rb_js_link *link, const char *subject,
                           const char *body)
{
    static char answer[16384];
    struct rb_js_msg msg;
    rb_js_link_printf(link, "PUB $JS.API.%s " RB_JS_INBOX "api %zu\r\n%s\r\n", subject,
                      strlen(body), body);
    do {
        if (!rb_js_link_next(load, link, &msg, ANSWER_MS)) {
            rb_load_die("%s was not answered", subject);
        }
    } while (msg.subject_len != sizeof(RB_JS_INBOX "api") - 1 ||
             memcmp(msg.subject, RB_JS_INBOX "api", msg.subject_len) != 0);
    snprintf(answer, sizeof(answer), "%.*s", (int)msg.body_len, msg.body);
    if (msg.head_len > 0 || strstr(answer, "\"error\":{") != NULL) {
        rb_load_die("%s: %.*s%.200s", subject, (int)msg.head_len, msg.head, answer);
    }
    return answer;
}

uint64_t rb_js_number(const char *document, size_t len, const char *name)
{
    char member[64];
    int member_len = snprintf(member, sizeof(member), "\"%s\":", name);
    const char *found = memmem(document, len, member, (size_t)member_len);
    if (found == NULL) {
        rb_load_die("no %s in %.*s", name, (int)(len > 300 ? 300 : len), document);
    }
    return strtoull(found + member_len, NULL, 10);
}

static void send_one(struct rb_js_link *link, const struct rb_js_publish *publish, uint64_t number,
                     const uint8_t *body)
{
    char line[256];
    int len;
    if (publish->subject_count > 0) {
        len =
            snprintf(line, sizeof(line), "PUB %s.%llu " RB_JS_INBOX "ack %u\r\n", publish->subject,
                     (unsigned long long)((publish->first + number) % publish->subject_count),
                     publish->body_bytes);
    } else {
        len = snprintf(line, sizeof(line), "PUB %s " RB_JS_INBOX "ack %u\r\n", publish->subject,
                       publish->body_bytes);
    }
    rb_js_link_add(link, line, (size_t)len);
    rb_js_link_add(link, body, publish->body_bytes + 2);
}

uint64_t rb_js_publish(const struct rb_load *load, struct rb_js_link *link,
                       struct rb_js_publish *publish)
{
    static uint8_t body[32770];
    if (publish->body_bytes > sizeof(body) - 2) {
        rb_load_die("bodies of %u bytes are too large", publish->body_bytes);
    }
    for (uint32_t i = 0; i < publish->body_bytes; i++) {
        body[i] = (uint8_t)('a' + i % 26);
    }
    memcpy(body + publish->body_bytes, "\r\n", 2);
    uint64_t start_ns = rb_probe_now_ns(), now_ns = start_ns, sent = 0, acked = 0, last = 0;
    uint64_t count = publish->count > 0 ? publish->count : UINT64_MAX;
    bool first = true, ended = false;
    while (!ended || acked < sent) {
        uint64_t sent_ns = rb_probe_now_ns();
        while (!ended && sent - acked < publish->inflight_max) {
            send_one(link, publish, sent++, body);
            ended = sent == count;
        }
        struct rb_js_msg msg;
        if (!rb_js_link_next(load, link, &msg, ANSWER_MS)) {
            rb_load_die("%llu of %llu publishes were not acknowledged",
                        (unsigned long long)(sent - acked), (unsigned long long)sent);
        }
        now_ns = rb_probe_now_ns();
        do {
            if (msg.head_len > 0 || memmem(msg.body, msg.body_len, "\"error\"", 7) != NULL) {
                rb_load_die("acknowledgement: %.*s%.*s", (int)msg.head_len, msg.head,
                            (int)msg.body_len, msg.body);
            }
            uint64_t seq = rb_js_number(msg.body, msg.body_len, "seq");
            if (!first && !publish->any_seq && seq != last + 1) {
                rb_load_die("sequence %llu was acknowledged after %llu", (unsigned long long)seq,
                            (unsigned long long)last);
            }
            first = false;
            last = seq;
            acked++;
        } while (rb_js_link_has(link, &msg));
        if (publish->inflight_max == 1 && publish->sample_count < publish->sample_max) {
            publish->samples_ns[publish->sample_count++] = now_ns - sent_ns;
        }
        if (publish->count == 0 && now_ns - start_ns >= publish->time_ns) {
            ended = true;
        }
    }
    return sent;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

double rb_js_percentile_us(uint64_t *samples_ns, uint32_t count, double percent)
{
    if (count == 0) {
        rb_load_die("there are no samples");
    }
    qsort(samples_ns, count, sizeof(samples_ns[0]), compare);
    uint32_t rank = (uint32_t)((double)count * percent / 100.0);
    return (double)samples_ns[rank < count ? rank : count - 1] / 1000.0;
}

static uint64_t disk_samples[DISK_WRITES];
static bool disk_measured;

void rb_js_measure_disk(const struct rb_load *load)
{
    char path[4096];
    if (load->directory == NULL) {
        return;
    }
    snprintf(path, sizeof(path), "%s/ringbus_load.probe", load->directory);
    /* O_DIRECT is refused by some file systems (tmpfs); then the page cache is part of what is measured. */
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DSYNC | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0) {
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DSYNC | O_CLOEXEC, 0600);
    }
    void *bytes = aligned_alloc(DISK_BYTES, DISK_BYTES);
    if (fd < 0 || bytes == NULL || posix_fallocate(fd, 0, DISK_BYTES * DISK_WRITES) != 0) {
        rb_load_die("the disk at %s: %s", load->directory, strerror(errno));
    }
    memset(bytes, 0x5a, DISK_BYTES);
    for (uint32_t round = 0; round < 2; round++) { /* the first one makes the blocks */
        for (uint32_t i = 0; i < DISK_WRITES; i++) {
            uint64_t start_ns = rb_probe_now_ns();
            if (pwrite(fd, bytes, DISK_BYTES, (off_t)i * DISK_BYTES) != DISK_BYTES) {
                rb_load_die("writing to %s: %s", load->directory, strerror(errno));
            }
            disk_samples[i] = rb_probe_now_ns() - start_ns;
        }
    }
    free(bytes);
    close(fd);
    unlink(path);
    disk_measured = true;
}

void rb_js_print_disk(void)
{
    if (disk_measured) {
        printf(",\"disk_write_p50_us\":%.1f", rb_js_percentile_us(disk_samples, DISK_WRITES, 50));
        printf(",\"disk_write_p99_us\":%.1f", rb_js_percentile_us(disk_samples, DISK_WRITES, 99));
    }
}
