/* latency.c - request and reply at a rate that keeps the server mostly idle.
 *
 * 1. The requester sends on a fixed schedule, blocks for the reply and measures with the monotonic
 *    clock. When a reply is so late that the next request's time has passed, that request is
 *    measured from the time it should have left.
 * 2. Requester and responder block in poll: on few cores a spinning generator would take the
 *    server's core. Four wake-ups are therefore part of each sample, two of them ours; they are the
 *    same for every server.
 */
#include "load.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "background.h"
#include "net.h"
#include "probe.h"

#define REQUESTS_PER_SECOND 500
#define SAMPLES 2000
#define SAMPLES_QUICK 400
#define WARMUP_SAMPLES 200
#define INBOX "_INBOX.ringbus."
#define REQUEST_HEAD "MSG svc.echo 1 "
#define REPLY_HEAD "MSG " INBOX
#define BODY "a payload, 16 B."
#define REQUEST_TAIL " 16\r\n" BODY "\r\n"
#define REPLY_TAIL " 1 16\r\n" BODY "\r\n"

/* Collects one message; control lines pass by. */
struct link {
    struct rb_client client;
    size_t len;
    uint8_t bytes[4096];
};

struct responder {
    struct link link;
    pthread_t thread;
    atomic_bool stopping;
};

/* Cuts control lines off the front. The length of the message that stands there; 0: not yet whole. */
static size_t has_msg(struct link *link)
{
    while (link->len > 0 && link->bytes[0] != 'M' && link->bytes[0] != 'H') {
        uint8_t *end = memchr(link->bytes, '\n', link->len);
        if (end == NULL) {
            return 0;
        }
        size_t line_len = (size_t)(end - link->bytes) + 1;
        rb_client_took(&link->client, link->bytes, (ssize_t)line_len); /* answers a PING */
        link->len -= line_len;
        memmove(link->bytes, link->bytes + line_len, link->len);
    }
    uint8_t *end = memchr(link->bytes, '\n', link->len);
    if (end == NULL) {
        return 0;
    }
    uint8_t *size = end;
    while (size > link->bytes && size[-1] != ' ') {
        size--;
    }
    size_t msg_len = (size_t)(end - link->bytes) + 1 + strtoul((char *)size, NULL, 10) + 2;
    if (msg_len < sizeof(BODY "\r\n") || msg_len > sizeof(link->bytes)) {
        rb_load_die("a message is shorter or longer than it can be");
    }
    return link->len >= msg_len ? msg_len : 0;
}

/* One wait and read. False when nothing came within 100 ms. */
static bool read_more(struct link *link)
{
    struct pollfd poll_fd = { .fd = link->client.fd, .events = POLLIN };
    if (poll(&poll_fd, 1, 100) <= 0) {
        return false;
    }
    size_t room = sizeof(link->bytes) - link->len;
    ssize_t len = recv(link->client.fd, link->bytes + link->len, room, 0);
    if (len <= 0) {
        rb_load_die("the server closed a connection");
    }
    link->len += (size_t)len;
    return true;
}

static void drop_msg(struct link *link, size_t msg_len)
{
    link->len -= msg_len;
    memmove(link->bytes, link->bytes + msg_len, link->len);
}

static void *responder_main(void *arg)
{
    struct responder *responder = arg;
    struct link *link = &responder->link;
    char reply[256];
    const size_t head_len = sizeof(REQUEST_HEAD) - 1;
    const size_t body_len = sizeof(BODY "\r\n") - 1;
    while (!atomic_load_explicit(&responder->stopping, memory_order_relaxed)) {
        size_t msg_len = has_msg(link);
        if (msg_len == 0) {
            (void)read_more(link);
            continue;
        }
        /* Through an import it comes with a header, "HMSG ...", that says who asked. */
        const char *head = (const char *)link->bytes + (link->bytes[0] == 'H');
        if (strncmp(head, REQUEST_HEAD, head_len) != 0 ||
            memcmp(link->bytes + msg_len - body_len, BODY "\r\n", body_len) != 0) {
            rb_load_die("the responder got something else than a request");
        }
        const char *to = head + head_len;
        int len =
            snprintf(reply, sizeof(reply), "PUB %.*s" REQUEST_TAIL, (int)strcspn(to, " "), to);
        if (len >= (int)sizeof(reply)) {
            rb_load_die("a reply subject is longer than expected");
        }
        drop_msg(link, msg_len);
        rb_client_write(&link->client, reply, (size_t)len);
    }
    return NULL;
}

static void open_link(const struct rb_load *load, struct link *link, const char *sub,
                      const struct rb_login *login)
{
    rb_client_open_as(load, &link->client, login);
    link->len = 0;
    rb_client_write(&link->client, sub, strlen(sub));
    rb_client_sync(load, &link->client);
}

static void do_request(const struct rb_load *load, struct link *link, uint32_t token)
{
    char request[128];
    char reply[128];
    int len = snprintf(request, sizeof(request), "PUB svc.echo " INBOX "%08u" REQUEST_TAIL, token);
    size_t reply_len = (size_t)snprintf(reply, sizeof(reply), REPLY_HEAD "%08u" REPLY_TAIL, token);
    rb_client_write(&link->client, request, (size_t)len);
    size_t msg_len;
    while ((msg_len = has_msg(link)) == 0) {
        (void)read_more(link);
        rb_load_check_deadline(load);
    }
    if (msg_len != reply_len || memcmp(link->bytes, reply, reply_len) != 0) {
        rb_load_die("request %u got a wrong reply", token);
    }
    drop_msg(link, msg_len);
    if (link->len > 0 && link->bytes[0] == 'M') {
        rb_load_die("request %u got more than one reply", token);
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Invariant 1. */
static void take_samples(const struct rb_load *load, struct link *link, uint64_t *samples,
                         uint32_t count, uint32_t token)
{
    uint64_t period_ns = 1000000000u / REQUESTS_PER_SECOND;
    uint64_t planned_ns = rb_probe_now_ns();
    for (uint32_t i = 0; i < count; i++) {
        planned_ns += period_ns;
        bool late = rb_probe_now_ns() > planned_ns;
        rb_probe_sleep_until(planned_ns);
        uint64_t start_ns = late ? planned_ns : rb_probe_now_ns();
        do_request(load, link, token + i);
        samples[i] = rb_probe_now_ns() - start_ns;
    }
    qsort(samples, count, sizeof(samples[0]), compare);
}

static double percentile_us(const uint64_t *samples, uint32_t count, double percent)
{
    uint32_t rank = (uint32_t)((double)count * percent / 100.0);
    return (double)samples[rank < count ? rank : count - 1] / 1000.0;
}

void rb_load_latency(const struct rb_load *load)
{
    static struct responder responder;
    static struct link requester;
    static uint64_t samples[SAMPLES];
    uint32_t count = load->quick ? SAMPLES_QUICK : SAMPLES;
    bool churn = strcmp(load->scenario, "latency_churn") == 0;
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    responder = (struct responder){ .link.client.fd = -1 };
    open_link(load, &responder.link, "SUB svc.echo 1\r\n", &load->receiver);
    open_link(load, &requester, "SUB " INBOX "* 1\r\n", &load->publisher);
    struct rb_background *background = churn ? rb_background_start(load) : NULL;
    if (pthread_create(&responder.thread, NULL, responder_main, &responder) != 0) {
        rb_load_die("no thread");
    }
    take_samples(load, &requester, samples, WARMUP_SAMPLES, 0);
    uint64_t server_ns = rb_probe_cpu_ns(load->server_pid);
    take_samples(load, &requester, samples, count, WARMUP_SAMPLES);
    server_ns = rb_probe_cpu_ns(load->server_pid) - server_ns;
    atomic_store(&responder.stopping, true);
    pthread_join(responder.thread, NULL);
    if (background != NULL) {
        rb_background_stop(background);
    }
    rb_client_close(&responder.link.client);
    rb_client_close(&requester.client);
    rb_load_print_head(load);
    printf(",\"samples\":%u,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,"
           "\"server_cpu_us_per_request\":%.2f}\n",
           count, percentile_us(samples, count, 50), percentile_us(samples, count, 90),
           percentile_us(samples, count, 99), (double)samples[count - 1] / 1000.0,
           (double)server_ns / 1000.0 / count);
}
