/* monitor_demo.c - the monitor over a server that does not exist, with traffic that grows: for looking at the dashboard
 * and for tests/interop/py/monitor.py. Usage: monitor_demo PORT SECONDS [BASE_PATH [CONNECTIONS]] */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fake_view.h"

static struct fake_view fake;

/* The monitor asks on its own thread only: what it changes here nobody else reads. */
static enum rb_err (*open_before)(void *ctx, struct rb_monitor_view *view);
static uint64_t step;

static enum rb_err open_now(void *ctx, struct rb_monitor_view *view)
{
    /* Time goes by request, five of which are a refresh of the dashboard: pictures are the same on any machine. */
    fake.now_wall_ns += 400000000;
    step++;
    uint64_t wave = step / 40 % 5 * (step / 40 % 5) + step * 7919 % 13;
    fake.extra_msgs += 40000 + wave * 3000;
    for (uint32_t i = 0; i < 2; i++) {
        rb_histogram_add(&fake.turn[i], 4000 + 1000 * wave);
        rb_histogram_add(&fake.delivery[i], 20000 + 9000 * wave);
        rb_histogram_add(&fake.pending[i], 512);
    }
    return open_before(ctx, view);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        (void)fprintf(stderr, "usage: monitor_demo PORT SECONDS [BASE_PATH [CONNECTIONS]]\n");
        return 2;
    }
    fake_init(&fake);
    fake.many_conns = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 40;
    fake.now_wall_ns = FAKE_NOW_NS;
    struct rb_log log;
    rb_log_init(&log);
    struct rb_monitor_options options = { .source = fake_source(&fake),
                                          .log = &log,
                                          .asked_host = "0.0.0.0",
                                          .port = atoi(argv[1]),
                                          .base_path = argc > 3 ? argv[3] : "/" };
    open_before = options.source.open;
    options.source.open = open_now;
    struct rb_monitor *monitor;
    char error[RB_MONITOR_ERROR_MAX];
    if (rb_monitor_factory(&options.factory) != RB_OK ||
        rb_monitor_start(&options, &monitor, error) != RB_OK) {
        (void)fprintf(stderr, "%s\n", error);
        return 1;
    }
    (void)sleep((unsigned)atoi(argv[2]));
    rb_monitor_stop(monitor);
    fake_deinit(&fake);
    return 0;
}
