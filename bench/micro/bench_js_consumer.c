/* Deliveries and acks of one consumer on a memory store, without connections: what the consumer itself costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "consumer_rig.h"

#define MESSAGES 1000000u
#define BATCH 100u

static double now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void ack_batch(struct rig *rig, struct rb_js_consumer *consumer, uint64_t first)
{
    for (uint64_t seq = first; seq < first + BATCH; seq++) {
        rb_js_consumer_ack(consumer, seq, seq, 1, RB_S(""), RB_S("+ACK"));
    }
    rig_turn(rig);
}

static void measure(struct rig *rig, const char *config, bool acks)
{
    double pulled = 0, acked = 0;
    struct rb_js_consumer *consumer = rig_consumer(rig, config);
    for (uint64_t seq = 1; seq <= MESSAGES; seq += BATCH) {
        double begin = now_ns();
        rig_pull(rig, consumer, "r.1", "{\"batch\":100,\"expires\":5000000000}");
        pulled += now_ns() - begin;
        if (acks) {
            begin = now_ns();
            ack_batch(rig, consumer, seq);
            acked += now_ns() - begin;
        }
    }
    printf("%-70s %6.1f ns per delivery", config, pulled / MESSAGES);
    printf(acks ? ", %6.1f ns per ack\n" : "\n", acked / MESSAGES);
}

int main(void)
{
    struct rig *rig = rig_create();
    rig->quiet = true;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        (void)rig_publish(rig, "s.a",
                          "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    }
    measure(rig, "{\"durable_name\":\"none\"}", false);
    measure(rig, "{\"durable_name\":\"explicit\",\"ack_policy\":\"explicit\"}", true);
    measure(rig,
            "{\"durable_name\":\"filter\",\"ack_policy\":\"explicit\",\"filter_subject\":\"s.*\"}",
            true);
    rig_destroy(rig);
    return 0;
}
