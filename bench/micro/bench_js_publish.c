/* bench_js_publish.c - CPU of one published message in a stream: applying the command alone (real store, file and memory), and the whole
 * way of a memory stream (ingest, group, apply, PubAck). Usage: bench_js_publish [messages] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "js/stream_inside.h"
#include "js_rig.h"

static double now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void report(const char *what, double begin, uint32_t count)
{
    printf("%-52s %8.0f ns per message\n", what, (now_ns() - begin) / count);
}

/* Applies `count` PUBLISH commands; `headers` may be NULL. */
static void apply(struct js_rig *rig, const char *what, const char *stream_name,
                  const char *headers, uint32_t subjects, uint32_t count)
{
    struct rb_js_stream *stream = js_rig_stream(rig, stream_name);
    char subject[32], text[512];
    const void *outcome;
    double begin = now_ns();
    for (uint32_t i = 0; i < count; i++) {
        int subject_len = snprintf(subject, sizeof(subject), "%s.%u", stream_name, i % subjects);
        int header_len = headers == NULL ? 0 : snprintf(text, sizeof(text), headers, i);
        struct rb_command command = { .type = RB_COMMAND_PUBLISH,
                                      .time_ns = rig->now_ns + i,
                                      .subject = rb_slice_of(subject, (size_t)subject_len),
                                      .text = rb_slice_of(text, (size_t)header_len + 128),
                                      .header_len = (uint32_t)header_len };
        rb_js_stream_apply(stream, &command, i + 1, &outcome);
        if (((const struct rb_js_outcome *)outcome)->error.code != 0) {
            printf("%s\n", ((const struct rb_js_outcome *)outcome)->error.text);
            exit(1);
        }
    }
    report(what, begin, count);
}

static void whole_way(struct js_rig *rig, uint32_t count)
{
    static const char body[129] = "x";
    struct rb_js_pools *pools = &rig->js->pools;
    uint64_t before = pools->allocations;
    double begin = now_ns();
    for (uint32_t i = 0; i < count; i++) {
        js_rig_publish_bytes(rig, "W.a", "_INBOX.nobody", 0, rb_slice_of(body, 128));
        if (i % 64 == 63) {
            (void)rb_js_turn(rig->js);
        }
    }
    (void)rb_js_turn(rig->js);
    report("ingest, memory group, apply, PubAck to nobody", begin, count);
    printf("%-52s %8llu\n", "blocks that the pools allocated meanwhile",
           (unsigned long long)(pools->allocations - before));
}

int main(int argc, char **argv)
{
    static struct js_rig rig;
    uint32_t count = argc > 1 ? (uint32_t)atoi(argv[1]) : 300000;
    js_rig_init(&rig, 1);
    js_rig_open(&rig);
    static const char *const streams[] = {
        "{\"name\":\"F\",\"subjects\":[\"F.>\"]}",
        "{\"name\":\"M\",\"subjects\":[\"M.>\"],\"storage\":\"memory\"}",
        "{\"name\":\"L\",\"subjects\":[\"L.>\"],\"max_msgs\":10000,\"max_msgs_per_subject\":5}",
        "{\"name\":\"I\",\"subjects\":[\"I.>\"]}",
        "{\"name\":\"W\",\"subjects\":[\"W.>\"],\"storage\":\"memory\",\"max_msgs\":10000}",
    };
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        if (js_rig_create(&rig, streams[i], NULL) == NULL) {
            return 1;
        }
    }
    apply(&rig, "apply, file, 128 bytes, one subject", "F", NULL, 1, count);
    apply(&rig, "apply, memory, one subject", "M", NULL, 1, count);
    apply(&rig, "apply, file, 10,000 subjects, both limits at work", "L", NULL, 10000, count);
    apply(&rig, "apply, file, Nats-Msg-Id", "I", "NATS/1.0\r\nNats-Msg-Id: id-%u\r\n\r\n", 1,
          count);
    whole_way(&rig, count);
    return 0;
}
