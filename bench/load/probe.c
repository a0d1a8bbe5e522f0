/* probe.c - clocks, CPU time and memory.
 *
 * 1. The server's CPU time is its process clock (clock_getcpuclockid): the scheduler's own
 *    nanoseconds, summed over all threads including those that have ended. /proc/PID/stat counts in
 *    ticks of 10 ms, and the sum over /proc/PID/task/.../schedstat loses threads that end between
 *    two readings (and io_uring's workers do end).
 * 2. Memory comes from smaps_rollup, which walks the page tables. /proc/PID/status is the fallback.
 */
#include "probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "load.h"

static uint64_t read_clock(clockid_t clock)
{
    struct timespec ts;
    if (clock_gettime(clock, &ts) != 0) {
        rb_load_die("reading a clock: %s", strerror(errno));
    }
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t rb_probe_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

void rb_probe_sleep_until(uint64_t when_ns)
{
    struct timespec ts = { .tv_sec = (time_t)(when_ns / 1000000000u),
                           .tv_nsec = (long)(when_ns % 1000000000u) };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR) {
    }
}

uint64_t rb_probe_cpu_ns(pid_t pid)
{
    clockid_t clock;
    int code = clock_getcpuclockid(pid, &clock);
    if (code != 0) {
        rb_load_die("CPU clock of the server, pid %d: %s", (int)pid, strerror(code));
    }
    return read_clock(clock);
}

uint64_t rb_probe_own_cpu_ns(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t rb_probe_thread_cpu_ns(pthread_t thread)
{
    clockid_t clock;
    int code = pthread_getcpuclockid(thread, &clock);
    if (code != 0) {
        rb_load_die("CPU clock of a thread: %s", strerror(code));
    }
    return read_clock(clock);
}

/* The number of KiB after `key` in a /proc file of "Key:  N kB" lines; 0 when there is none. */
static uint64_t read_kib(const char *path, const char *key)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return 0;
    }
    char line[256];
    unsigned long long kib = 0;
    size_t key_len = strlen(key);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, key_len) == 0 && sscanf(line + key_len, "%llu", &kib) == 1) {
            break;
        }
    }
    fclose(file);
    return kib;
}

uint64_t rb_probe_rss_bytes(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    uint64_t kib = read_kib(path, "Rss:");
    if (kib == 0) {
        snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
        kib = read_kib(path, "VmRSS:");
    }
    if (kib == 0) {
        rb_load_die("no resident size for pid %d", (int)pid);
    }
    return kib * 1024;
}
