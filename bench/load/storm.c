/* storm.c - connections that come and go, and what one that stays notices of it.
 *
 *   storm thread:  INFLIGHT connections: connect, TLS if any, CONNECT, PING, PONG, reset, again
 *   main thread:   a PING on its own connection every 2 ms, the answer waited for
 *
 * 1. First without the storm, for comparison, then with it.
 * 2. PINGs that could not leave in time, because one before was not answered, are counted as if they
 *    had: a server that stands still for 100 ms shows with 50 slow PINGs (100 ms, 98 ms, ...), not
 *    with one.
 */
#include "load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "net.h"
#include "probe.h"

#define INFLIGHT 8
#define PERIOD_NS 2000000u
#define SAMPLES_MAX 4096
#define MEASURE_MIN_NS 2000000000u

struct storm {
    const struct rb_load *load;
    pthread_t thread;
    atomic_bool stopping;
    _Atomic uint64_t done;
};

static void *storm_main(void *arg)
{
    struct storm *storm = arg;
    const struct rb_load *load = storm->load;
    struct rb_client clients[INFLIGHT];
    struct epoll_event events[INFLIGHT];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) {
        rb_load_die("epoll");
    }
    for (uint32_t i = 0; i < INFLIGHT; i++) {
        rb_net_start_one(load, epoll, &clients[i], i);
    }
    while (!atomic_load_explicit(&storm->stopping, memory_order_relaxed)) {
        int count = epoll_wait(epoll, events, INFLIGHT, 20);
        for (int i = 0; i < count; i++) {
            uint32_t index = events[i].data.u32;
            if (rb_net_step_one(load, &load->receiver, &clients[index], index)) {
                atomic_fetch_add_explicit(&storm->done, 1, memory_order_relaxed);
                rb_net_reset(&clients[index]);
                rb_net_start_one(load, epoll, &clients[index], index);
            }
        }
    }
    rb_net_close_many(epoll, clients, INFLIGHT);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Invariant 2. Sorted; returns how many. */
static uint32_t ping(const struct rb_load *load, struct rb_client *client, uint64_t time_ns,
                     uint64_t samples[SAMPLES_MAX])
{
    uint32_t count = 0;
    uint64_t planned_ns = rb_probe_now_ns();
    uint64_t end_ns = planned_ns + time_ns;
    while ((planned_ns += PERIOD_NS) < end_ns) {
        rb_probe_sleep_until(planned_ns);
        uint64_t start_ns = rb_probe_now_ns();
        rb_client_sync(load, client);
        uint64_t took_ns = rb_probe_now_ns() - start_ns;
        for (; count < SAMPLES_MAX; took_ns -= PERIOD_NS) {
            samples[count++] = took_ns;
            if (took_ns <= PERIOD_NS) {
                break;
            }
            planned_ns += PERIOD_NS;
        }
    }
    qsort(samples, count, sizeof(samples[0]), compare);
    return count;
}

static double percentile_us(const uint64_t *samples, uint32_t count, double percent)
{
    uint32_t rank = (uint32_t)((double)count * percent / 100.0);
    return (double)samples[rank < count ? rank : count - 1] / 1000.0;
}

void rb_load_storm(const struct rb_load *load)
{
    static uint64_t quiet[SAMPLES_MAX];
    static uint64_t samples[SAMPLES_MAX];
    struct storm storm = { .load = load };
    struct rb_client client;
    uint64_t time_ns = load->measure_ns;
    if (time_ns < MEASURE_MIN_NS && !load->quick) {
        time_ns = MEASURE_MIN_NS;
    }
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    rb_client_open(load, &client);
    uint32_t quiet_count = ping(load, &client, time_ns / 2, quiet);
    if (pthread_create(&storm.thread, NULL, storm_main, &storm) != 0) {
        rb_load_die("no thread");
    }
    (void)ping(load, &client, load->warmup_ns, samples);
    uint64_t done = atomic_load(&storm.done);
    uint64_t server_ns = rb_probe_cpu_ns(load->server_pid);
    uint64_t start_ns = rb_probe_now_ns();
    uint32_t count = ping(load, &client, time_ns, samples);
    done = atomic_load(&storm.done) - done;
    server_ns = rb_probe_cpu_ns(load->server_pid) - server_ns;
    uint64_t wall_ns = rb_probe_now_ns() - start_ns;
    atomic_store(&storm.stopping, true);
    pthread_join(storm.thread, NULL);
    rb_client_sync(load, &client);
    rb_client_close(&client);
    if (done == 0 || count == 0) {
        rb_load_die("nobody got in");
    }
    rb_load_print_head(load);
    printf(",\"storm_conns\":%llu,\"storm_per_s\":%.1f,\"cpu_us_per_login\":%.1f,\"pings\":%u,"
           "\"quiet_p50_us\":%.1f,\"quiet_p99_us\":%.1f,\"ping_p50_us\":%.1f,\"ping_p99_us\":%.1f,"
           "\"ping_max_us\":%.1f,\"server_cores\":%.3f}\n",
           (unsigned long long)done, (double)done * 1e9 / (double)wall_ns,
           (double)server_ns / 1000.0 / (double)done, count, percentile_us(quiet, quiet_count, 50),
           percentile_us(quiet, quiet_count, 99), percentile_us(samples, count, 50),
           percentile_us(samples, count, 99), (double)samples[count - 1] / 1000.0,
           (double)server_ns / (double)wall_ns);
}
