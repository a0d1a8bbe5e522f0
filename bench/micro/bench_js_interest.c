/* What subscriptions cost in an account with many consumers, and what making and listing those costs. Usage: bench_js_interest [N] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "js_rig.h"

#define PAIRS 20000u

static double now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void report(const char *what, double begin, uint32_t count)
{
    printf("%-60s %10.1f ns each\n", what, (now_ns() - begin) / count);
}

static void nobody(struct rb_js_waiter *waiter, enum rb_err err, const void *outcome)
{
}

static bool take(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    return true;
}

/* Names are random: their order must not matter. */
static void make_consumers(struct js_rig *rig, const char *what, const char *more, uint32_t count)
{
    struct rb_js_waiter waiter = { .done = nobody };
    struct rb_js_stream *stream = js_rig_stream(rig, "S");
    double begin = now_ns();
    for (uint32_t i = 0; i < count; i++) {
        char name[32], text[256];
        (void)snprintf(name, sizeof(name), "%016llx", (unsigned long long)rb_env_random(&rig->env));
        int len =
            snprintf(text, sizeof(text),
                     "{\"name\":\"%s\",\"durable_name\":\"%s\",\"ack_policy\":\"explicit\"%s}",
                     name, name, more);
        struct rb_command command = { .type = RB_COMMAND_CONSUMER,
                                      .name = rb_slice_text(name),
                                      .time_ns = 1,
                                      .text = rb_slice_of(text, (size_t)len) };
        if (rb_js_stream_propose(stream, &command, &waiter) != RB_OK) {
            printf("refused\n");
            exit(1);
        }
        if (i % 64 == 0) {
            (void)js_rig_turn(rig);
        }
    }
    js_rig_settle(rig);
    report(what, begin, count);
}

static void subscribe(struct js_rig *rig, const char *what)
{
    struct rb_special special = { .take = take };
    double begin = now_ns();
    for (uint32_t i = 0; i < PAIRS; i++) {
        char subject[32];
        (void)snprintf(subject, sizeof(subject), "_INBOX.%u", i);
        if (rb_account_listen(rig->account, rb_slice_text(subject), &special) != RB_OK) {
            exit(1);
        }
        rb_account_unlisten(rig->account, &special);
    }
    report(what, begin, PAIRS);
}

int main(int argc, char **argv)
{
    static struct js_rig rig;
    uint32_t count = argc > 1 ? (uint32_t)atoi(argv[1]) : 10000;
    js_rig_init(&rig, 1);
    js_rig_open(&rig);
    if (js_rig_create(&rig,
                      "{\"name\":\"S\",\"subjects\":[\"s.>\"],\"storage\":\"memory\",\"max_"
                      "consumers\":1000000}",
                      NULL) == NULL) {
        return 1;
    }
    subscribe(&rig, "SUB and UNSUB, no consumers");
    make_consumers(&rig, "a pull consumer is made", "", count);
    subscribe(&rig, "SUB and UNSUB, pull consumers only");
    double begin = now_ns();
    (void)js_rig_request(&rig, "$JS.API.CONSUMER.NAMES.S", NULL, "{\"offset\":100}");
    report("NAMES after they were made", begin, 1);
    begin = now_ns();
    (void)js_rig_request(&rig, "$JS.API.CONSUMER.NAMES.S", NULL, "{\"offset\":100}");
    report("NAMES once more", begin, 1);
    make_consumers(&rig, "a push consumer is made", ",\"deliver_subject\":\"d\"", count);
    subscribe(&rig, "SUB and UNSUB, push consumers of another subject as well");
    return 0;
}
