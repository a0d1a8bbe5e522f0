/* js_flow.c - JetStream in motion: publishes with acknowledgements, consumers, keys and values.
 *
 * The disk is measured right before the clock starts, in the directory the server stores to, so that a result says what
 * the machine could do at that moment.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "js_link.h"
#include "probe.h"

#define BODY_BYTES 128
#define SAMPLES_MAX 100000
#define PULL_BATCH 100
#define PUSH_SUBJECT "_PUSH.bench"
#define KEYS 10000
#define KV_INFLIGHT 64
#define FILL_INFLIGHT 2000

/* What ran between two readings of the clocks. */
struct span {
    uint64_t start_ns, cpu_ns, own_ns;
};

static struct span begin(const struct rb_load *load)
{
    return (struct span){ rb_probe_now_ns(), rb_probe_cpu_ns(load->server_pid),
                          rb_probe_own_cpu_ns() };
}

static void end(const struct rb_load *load, const struct span *from, uint64_t count)
{
    double cpu = (double)(rb_probe_cpu_ns(load->server_pid) - from->cpu_ns);
    double own = (double)(rb_probe_own_cpu_ns() - from->own_ns);
    double wall = (double)(rb_probe_now_ns() - from->start_ns);
    rb_load_print_head(load);
    rb_js_print_disk();
    printf(",\"cpu_ns_per_msg\":%.1f,\"msgs\":%llu,\"msgs_per_s\":%.0f,\"us_per_msg\":%.3f,"
           "\"server_cores\":%.2f,\"gen_cpu_ns_per_msg\":%.1f",
           cpu / (double)count, (unsigned long long)count, (double)count / wall * 1e9,
           wall / (double)count / 1e3, cpu / wall, own / (double)count);
}

static void make_stream(const struct rb_load *load, struct rb_js_link *link, const char *storage)
{
    char body[256];
    snprintf(body, sizeof(body),
             "{\"name\":\"BENCH\",\"subjects\":[\"bench.>\"],\"storage\":\"%s\"}", storage);
    (void)rb_js_link_api(load, link, "STREAM.CREATE.BENCH", body);
}

static void fill(const struct rb_load *load, struct rb_js_link *link, uint64_t subject_count)
{
    struct rb_js_publish publish = { .subject = "bench.data",
                                     .subject_count = subject_count,
                                     .body_bytes = BODY_BYTES,
                                     .inflight_max = FILL_INFLIGHT,
                                     .count = load->count };
    (void)rb_js_publish(load, link, &publish);
}

void rb_load_js_pub(const struct rb_load *load)
{
    static uint64_t samples[SAMPLES_MAX];
    const char *number = strrchr(load->shape, '_');
    uint32_t inflight = number == NULL ? 0 : (uint32_t)strtoul(number + 1, NULL, 10);
    if (inflight == 0 || inflight > 100000) {
        rb_load_die("the name must end in how many publishes are in flight");
    }
    bool memory = strncmp(load->shape, "js_pub_memory", 13) == 0;
    struct rb_js_link link;
    rb_js_link_open(load, &link);
    make_stream(load, &link, memory ? "memory" : "file");
    struct rb_js_publish publish = { .subject = "bench.data",
                                     .body_bytes = BODY_BYTES,
                                     .inflight_max = inflight,
                                     .time_ns = load->warmup_ns,
                                     .samples_ns = samples };
    (void)rb_js_publish(load, &link, &publish);
    rb_js_measure_disk(load);
    publish.time_ns = load->measure_ns;
    publish.sample_max = SAMPLES_MAX;
    struct span from = begin(load);
    uint64_t count = rb_js_publish(load, &link, &publish);
    end(load, &from, count);
    if (publish.sample_count > 0) {
        printf(",\"ack_p50_us\":%.1f", rb_js_percentile_us(samples, publish.sample_count, 50));
        printf(",\"ack_p99_us\":%.1f", rb_js_percentile_us(samples, publish.sample_count, 99));
    }
    printf("}\n");
    rb_js_link_close(&link);
}

/* The stream sequence in $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>...; `token` counts from 0. */
static uint64_t ack_token(const struct rb_js_msg *msg, uint32_t token)
{
    const char *at = msg->reply, *stop = msg->reply + msg->reply_len;
    while (token > 0 && at < stop) {
        token -= *at++ == '.';
    }
    return at < stop ? strtoull(at, NULL, 10) : 0;
}

static void ask(struct rb_js_link *link, uint32_t batch)
{
    char body[64];
    int len = snprintf(body, sizeof(body), "{\"batch\":%u,\"expires\":20000000000}", batch);
    rb_js_link_printf(
        link, "PUB $JS.API.CONSUMER.MSG.NEXT.BENCH.C " RB_JS_INBOX "pull %d\r\n%s\r\n", len, body);
}

/* `count` messages by pulls of 100, two of them asked for ahead; acknowledged each when they want it. */
static void pull_all(const struct rb_load *load, struct rb_js_link *link, uint64_t count, bool ack,
                     uint64_t step)
{
    uint64_t asked = 0, got = 0, last = 0;
    while (got < count) {
        while (asked < count && asked - got <= PULL_BATCH) {
            uint64_t batch = count - asked < PULL_BATCH ? count - asked : PULL_BATCH;
            ask(link, (uint32_t)batch);
            asked += batch;
        }
        struct rb_js_msg msg;
        if (!rb_js_link_next(load, link, &msg, 20000)) {
            rb_load_die("%llu of %llu messages came", (unsigned long long)got,
                        (unsigned long long)count);
        }
        if (msg.head_len > 0) {
            rb_load_die("pull: %.*s", (int)msg.head_len, msg.head);
        }
        uint64_t seq = ack_token(&msg, 5);
        if (last != 0 && seq != last + step) {
            rb_load_die("sequence %llu came after %llu", (unsigned long long)seq,
                        (unsigned long long)last);
        }
        last = seq;
        got++;
        if (ack) {
            rb_js_link_printf(link, "PUB %.*s 4\r\n+ACK\r\n", (int)msg.reply_len, msg.reply);
        }
    }
    rb_js_link_flush(link);
}

static void make_consumer(const struct rb_load *load, struct rb_js_link *link, const char *ack,
                          const char *more)
{
    char body[512];
    snprintf(
        body, sizeof(body),
        "{\"stream_name\":\"BENCH\",\"config\":{\"durable_name\":\"C\",\"ack_policy\":\"%s\"%s}}",
        ack, more);
    (void)rb_js_link_api(load, link, "CONSUMER.CREATE.BENCH.C", body);
}

/* All acknowledgements are worked on when the consumer says that nothing is pending. */
static void await_acks(const struct rb_load *load, struct rb_js_link *link)
{
    const char *answer;
    do {
        rb_load_check_deadline(load);
        answer = rb_js_link_api(load, link, "CONSUMER.INFO.BENCH.C", "");
    } while (rb_js_number(answer, strlen(answer), "num_ack_pending") > 0);
}

void rb_load_js_pull(const struct rb_load *load)
{
    bool ack = strcmp(load->shape, "js_pull") == 0;
    struct rb_js_link link;
    rb_js_link_open(load, &link);
    make_stream(load, &link, "file");
    fill(load, &link, 0);
    make_consumer(load, &link, ack ? "explicit" : "none", "");
    rb_js_measure_disk(load);
    struct span from = begin(load);
    pull_all(load, &link, load->count, ack, 1);
    if (ack) {
        await_acks(load, &link);
    }
    end(load, &from, load->count);
    printf("}\n");
    rb_js_link_close(&link);
}

void rb_load_js_ordered(const struct rb_load *load)
{
    struct rb_js_link link;
    rb_js_link_open(load, &link);
    make_stream(load, &link, "file");
    fill(load, &link, 0);
    rb_js_measure_disk(load);
    struct span from = begin(load);
    /* Not under the inbox: only a subscription of the subject itself is interest for nats-server. */
    rb_js_link_printf(&link, "SUB " PUSH_SUBJECT " 2\r\n");
    make_consumer(load, &link, "none",
                  ",\"deliver_subject\":\"" PUSH_SUBJECT "\",\"flow_control\":true,"
                  "\"idle_heartbeat\":5000000000,\"max_deliver\":1,\"mem_storage\":true");
    uint64_t got = 0, requests = 0;
    while (got < load->count) {
        struct rb_js_msg msg;
        if (!rb_js_link_next(load, &link, &msg, 20000)) {
            rb_load_die("%llu of %llu messages came", (unsigned long long)got,
                        (unsigned long long)load->count);
        }
        if (msg.head_len > 0) { /* a heartbeat, or a request with a reply subject */
            if (msg.reply_len > 0) {
                requests++;
                rb_js_link_printf(&link, "PUB %.*s 0\r\n\r\n", (int)msg.reply_len, msg.reply);
                rb_js_link_flush(&link);
            }
            continue;
        }
        if (ack_token(&msg, 6) != ++got) {
            rb_load_die("consumer sequence %llu came as number %llu",
                        (unsigned long long)ack_token(&msg, 6), (unsigned long long)got);
        }
    }
    end(load, &from, load->count);
    printf(",\"flow_requests\":%llu}\n", (unsigned long long)requests);
    rb_js_link_close(&link);
}

/* One of 1,000 subjects out of `count` messages: what is found must not cost what is skipped. */
void rb_load_js_filter(const struct rb_load *load)
{
    struct rb_js_link link;
    rb_js_link_open(load, &link);
    make_stream(load, &link, "file");
    fill(load, &link, 1000);
    rb_js_measure_disk(load);
    struct span from = begin(load);
    make_consumer(load, &link, "none", ",\"filter_subject\":\"bench.data.7\"");
    pull_all(load, &link, load->count / 1000, false, 1000);
    end(load, &from, load->count / 1000);
    printf(",\"stored\":%llu}\n", (unsigned long long)load->count);
    rb_js_link_close(&link);
}

static void make_bucket(const struct rb_load *load, struct rb_js_link *link)
{
    (void)rb_js_link_api(load, link, "STREAM.CREATE.KV_b",
                         "{\"name\":\"KV_b\",\"subjects\":[\"$KV.b.>\"],\"max_msgs_per_subject\":1,"
                         "\"discard\":\"new\",\"allow_rollup_hdrs\":true,\"deny_delete\":true,"
                         "\"allow_direct\":true}");
}

void rb_load_js_kv_put(const struct rb_load *load)
{
    struct rb_js_link link;
    rb_js_link_open(load, &link);
    make_bucket(load, &link);
    struct rb_js_publish publish = { .subject = "$KV.b",
                                     .subject_count = KEYS,
                                     .body_bytes = BODY_BYTES,
                                     .inflight_max = KV_INFLIGHT,
                                     .count = KEYS };
    (void)rb_js_publish(load, &link, &publish);
    rb_js_measure_disk(load);
    publish.count = 0;
    publish.time_ns = load->measure_ns;
    struct span from = begin(load);
    uint64_t count = rb_js_publish(load, &link, &publish);
    end(load, &from, count);
    printf("}\n");
    rb_js_link_close(&link);
}

void rb_load_js_kv_get(const struct rb_load *load)
{
    struct rb_js_link link;
    rb_js_link_open(load, &link);
    make_bucket(load, &link);
    struct rb_js_publish publish = { .subject = "$KV.b",
                                     .subject_count = KEYS,
                                     .body_bytes = BODY_BYTES,
                                     .inflight_max = FILL_INFLIGHT,
                                     .count = KEYS };
    (void)rb_js_publish(load, &link, &publish);
    uint64_t end_ns = rb_probe_now_ns() + load->measure_ns, sent = 0, got = 0;
    struct span from = begin(load);
    bool ended = false;
    while (!ended || got < sent) {
        for (; !ended && sent - got < KV_INFLIGHT; sent++) {
            /* 7919 is coprime to KEYS: every key, in no order */
            rb_js_link_printf(&link,
                              "PUB $JS.API.DIRECT.GET.KV_b.$KV.b.%llu " RB_JS_INBOX "get 0\r\n\r\n",
                              (unsigned long long)(sent * 7919 % KEYS));
        }
        struct rb_js_msg msg;
        if (!rb_js_link_next(load, &link, &msg, 20000)) {
            rb_load_die("a get was not answered");
        }
        do {
            if (msg.body_len != BODY_BYTES ||
                memmem(msg.head, msg.head_len, "Nats-Subject: $KV.b.", 20) == NULL) {
                rb_load_die("get: %.*s", (int)msg.head_len, msg.head);
            }
            got++;
        } while (rb_js_link_has(&link, &msg));
        ended = ended || rb_probe_now_ns() > end_ns;
    }
    end(load, &from, got);
    printf("}\n");
    rb_js_link_close(&link);
}

/* What a publish costs in an empty stream, and in one that holds `count` messages of 1,000 subjects. */
void rb_load_js_depth(const struct rb_load *load)
{
    struct rb_js_link link;
    rb_js_link_open(load, &link);
    make_stream(load, &link, "file");
    struct rb_js_publish publish = { .subject = "bench.data",
                                     .subject_count = 1000,
                                     .body_bytes = BODY_BYTES,
                                     .inflight_max = 500,
                                     .time_ns = load->measure_ns };
    rb_js_measure_disk(load);
    uint64_t cpu_ns = rb_probe_cpu_ns(load->server_pid);
    uint64_t count = rb_js_publish(load, &link, &publish);
    double empty = (double)(rb_probe_cpu_ns(load->server_pid) - cpu_ns) / (double)count;
    fill(load, &link, 1000);
    struct span from = begin(load);
    count = rb_js_publish(load, &link, &publish);
    double deep = (double)(rb_probe_cpu_ns(load->server_pid) - from.cpu_ns) / (double)count;
    end(load, &from, count);
    printf(",\"empty_cpu_ns_per_msg\":%.1f,\"depth_ratio\":%.3f,\"stored\":%llu}\n", empty,
           deep / empty, (unsigned long long)load->count);
    rb_js_link_close(&link);
}
