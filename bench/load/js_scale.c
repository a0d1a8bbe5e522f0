/* js_scale.c - JetStream at rest: memory of stored messages and of consumers, and the way back after a kill. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "js_link.h"
#include "probe.h"

#define BODY_BYTES 16
#define FILL_INFLIGHT 2000
#define CONSUMERS_INFLIGHT 100
#define REST_NS 1000000000u
#define IDLE_NS 3000000000u
#define IDLE_QUICK_NS 1000000000u

static void rest(uint64_t ns)
{
    rb_probe_sleep_until(rb_probe_now_ns() + ns);
}

static void fill(const struct rb_load *load, struct rb_js_link *link)
{
    (void)rb_js_link_api(load, link, "STREAM.CREATE.BENCH",
                         "{\"name\":\"BENCH\",\"subjects\":[\"bench.>\"]}");
    struct rb_js_publish publish = { .subject = "bench.own",
                                     .subject_count = load->count,
                                     .body_bytes = BODY_BYTES,
                                     .inflight_max = FILL_INFLIGHT,
                                     .count = load->count };
    (void)rb_js_publish(load, link, &publish);
}

/* Bytes of "bench.own.<number>", on average. */
static double subject_bytes(uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        char text[64];
        sum += snprintf(text, sizeof(text), "bench.own.%llu", (unsigned long long)i);
    }
    return sum / (double)count;
}

void rb_load_js_mem_subjects(const struct rb_load *load)
{
    struct rb_js_link link;
    rb_js_link_open(load, &link);
    rest(REST_NS / 2);
    uint64_t before = rb_probe_rss_bytes(load->server_pid);
    fill(load, &link);
    uint64_t filled = rb_probe_rss_bytes(load->server_pid);
    rest(REST_NS);
    uint64_t after = rb_probe_rss_bytes(load->server_pid);
    rb_load_print_head(load);
    printf(",\"bytes_per_stored\":%.1f,\"bytes_per_stored_at_once\":%.1f,\"stored\":%llu,"
           "\"subject_bytes\":%.1f,\"rss_kib\":%llu}\n",
           ((double)after - (double)before) / (double)load->count,
           ((double)filled - (double)before) / (double)load->count, (unsigned long long)load->count,
           subject_bytes(load->count), (unsigned long long)after / 1024);
    rb_js_link_close(&link);
}

void rb_load_js_idle_consumers(const struct rb_load *load)
{
    struct rb_js_link link;
    rb_js_link_open(load, &link);
    char stream[128]; /* nats-server allows 1,000 when nothing is said */
    snprintf(stream, sizeof(stream),
             "{\"name\":\"BENCH\",\"subjects\":[\"bench.>\"],\"max_consumers\":%llu}",
             (unsigned long long)load->count);
    (void)rb_js_link_api(load, &link, "STREAM.CREATE.BENCH", stream);
    rest(REST_NS / 2);
    uint64_t before = rb_probe_rss_bytes(load->server_pid);
    uint64_t cpu_ns = rb_probe_cpu_ns(load->server_pid), start_ns = rb_probe_now_ns();
    uint64_t sent = 0, made = 0;
    while (made < load->count) {
        for (; sent < load->count && sent - made < CONSUMERS_INFLIGHT; sent++) {
            char body[256];
            int len = snprintf(body, sizeof(body),
                               "{\"stream_name\":\"BENCH\",\"config\":{\"durable_name\":\"C%llu\","
                               "\"ack_policy\":\"explicit\",\"filter_subject\":\"bench.%llu\"}}",
                               (unsigned long long)sent, (unsigned long long)sent);
            rb_js_link_printf(&link,
                              "PUB $JS.API.CONSUMER.CREATE.BENCH.C%llu.bench.%llu " RB_JS_INBOX
                              "made %d\r\n%s\r\n",
                              (unsigned long long)sent, (unsigned long long)sent, len, body);
        }
        struct rb_js_msg msg;
        if (!rb_js_link_next(load, &link, &msg, 30000)) {
            rb_load_die("%llu of %llu consumers were made", (unsigned long long)made,
                        (unsigned long long)load->count);
        }
        if (memmem(msg.body, msg.body_len, "\"error\":{", 9) != NULL) {
            rb_load_die("consumer: %.*s", (int)msg.body_len, msg.body);
        }
        made++;
    }
    double count = (double)load->count;
    double create_us = (double)(rb_probe_cpu_ns(load->server_pid) - cpu_ns) / count / 1e3;
    double created_s = (double)(rb_probe_now_ns() - start_ns) / 1e9;
    rest(REST_NS);
    uint64_t after = rb_probe_rss_bytes(load->server_pid);
    cpu_ns = rb_probe_cpu_ns(load->server_pid);
    uint64_t idle_ns = load->quick ? IDLE_QUICK_NS : IDLE_NS;
    rest(idle_ns);
    double idle = (double)(rb_probe_cpu_ns(load->server_pid) - cpu_ns) / (double)idle_ns * 1e6;
    rb_load_print_head(load);
    printf(",\"consumers\":%llu,\"bytes_per_consumer\":%.0f,\"idle_cpu_us_per_s\":%.1f,"
           "\"create_cpu_us_per_consumer\":%.1f,\"created_per_s\":%.0f}\n",
           (unsigned long long)load->count, ((double)after - (double)before) / count, idle,
           create_us, count / created_s);
    rb_js_link_close(&link);
}

/* From the start of the process until the stream says how many messages it has. */
static double time_to_ready_ms(const struct rb_load *load, pid_t *ret_pid)
{
    uint64_t start_ns = rb_probe_now_ns();
    *ret_pid = rb_load_start_server(load);
    rb_load_await_info(load, *ret_pid);
    struct rb_js_link link;
    rb_js_link_open(load, &link);
    const char *answer = rb_js_link_api(load, &link, "STREAM.INFO.BENCH", "");
    double ms = (double)(rb_probe_now_ns() - start_ns) / 1e6;
    uint64_t messages = rb_js_number(answer, strlen(answer), "messages");
    if (messages != load->count) {
        rb_load_die("%llu of %llu messages are there after the restart",
                    (unsigned long long)messages, (unsigned long long)load->count);
    }
    rb_js_link_close(&link);
    return ms;
}

void rb_load_js_restart(const struct rb_load *load)
{
    if (load->command == NULL || load->command[0] == NULL) {
        rb_load_die("js_restart needs the server's command after --");
    }
    pid_t pid = rb_load_start_server(load);
    rb_load_await_info(load, pid);
    struct rb_js_link link;
    rb_js_link_open(load, &link);
    uint64_t start_ns = rb_probe_now_ns();
    fill(load, &link);
    double fill_s = (double)(rb_probe_now_ns() - start_ns) / 1e9;
    rb_js_link_close(&link);
    rest(REST_NS);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    rb_js_measure_disk(load);
    double killed_ms = time_to_ready_ms(load, &pid);
    uint64_t rss_bytes = rb_probe_rss_bytes(pid);
    rb_load_stop_server(pid);
    double stopped_ms = time_to_ready_ms(load, &pid);
    rb_load_stop_server(pid);
    rb_load_print_head(load);
    rb_js_print_disk();
    printf(",\"ready_ms\":%.1f,\"ready_after_stop_ms\":%.1f,\"stored\":%llu,\"fill_s\":%.1f,"
           "\"rss_kib\":%llu}\n",
           killed_ms, stopped_ms, (unsigned long long)load->count, fill_s,
           (unsigned long long)rss_bytes / 1024);
}
