/* bench_wal.c - durable appends per second of the log, beside the disk's own write latency in the same run.
 *
 *   bench_wal [DIRECTORY] [SECONDS]
 * For io_uring and for helper threads: 4 KiB writes one at a time, then appends of 128 bytes with 1, 16 and 500 in flight. CPU is
 * that of the whole process, helper threads included. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ringbus/metric.h"
#include "ringbus/ring.h"
#include "storage/disk/posix.h"
#include "storage/disk/uring.h"
#include "storage/wal.h"

#define FLIGHT_MAX 500
#define BODY_BYTES 128
#define KEEP 1000000u

struct bench {
    struct rb_env env;
    struct rb_disk *disk;
    struct rb_wal *log;
    uint64_t next_index, done;
    struct rb_wal_write writes[FLIGHT_MAX];
    struct rb_wal_write prefix;
    uint64_t started_ns[FLIGHT_MAX];
    struct rb_histogram latency;
    uint8_t body[BODY_BYTES];
    double seconds;
};

static void die(const char *what, enum rb_err err)
{
    fprintf(stderr, "bench_wal: %s: %s\n", what, rb_err_text(err));
    exit(1);
}

static uint64_t cpu_ns(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return ((uint64_t)use.ru_utime.tv_sec + (uint64_t)use.ru_stime.tv_sec) * 1000000000 +
           ((uint64_t)use.ru_utime.tv_usec + (uint64_t)use.ru_stime.tv_usec) * 1000;
}

static void wait_op(struct bench *b, struct rb_disk_op *op)
{
    struct rb_disk_op **ops;
    while (op->in_flight) {
        rb_disk_poll(b->disk, -1, &ops);
    }
    if (op->err != RB_OK) {
        die("disk", op->err);
    }
}

static void report(const char *disk, const char *what, uint64_t count, double seconds, uint64_t cpu,
                   const struct rb_histogram *h)
{
    printf("%-6s %-26s %9.0f/s  cpu %7.0f ns each  p50 %7.1f us  p99 %8.1f us\n", disk, what,
           (double)count / seconds, (double)cpu / (double)count,
           (double)rb_histogram_quantile(h, 0.5) / 1000,
           (double)rb_histogram_quantile(h, 0.99) / 1000);
    fflush(stdout);
}

/* 4 KiB writes in a file that has its place, one at a time. */
static void bench_disk(struct bench *b, const char *name)
{
    struct rb_disk_op op = { 0 };
    struct rb_histogram *h = calloc(1, sizeof(*h));
    const uint64_t bytes = 16 << 20;
    uint8_t *block = rb_disk_alloc(b->disk, 4096);
    enum rb_err err = rb_disk_open(b->disk, &op, "latency.tmp", RB_DISK_CREATE | RB_DISK_DURABLE);
    wait_op(b, &op);
    struct rb_disk_file *file = op.file;
    err = err == RB_OK ? rb_disk_preallocate(b->disk, &op, file, bytes) : err;
    wait_op(b, &op);
    uint64_t begin = rb_env_now(&b->env);
    uint64_t cpu = cpu_ns();
    uint64_t now = begin;
    uint64_t count = 0;
    while ((double)(now - begin) < b->seconds * 1e9 && err == RB_OK) {
        memset(block, (int)count, 4096);
        err = rb_disk_write(b->disk, &op, file, count * 4096 % bytes, block, 4096);
        wait_op(b, &op);
        uint64_t end = rb_env_now(&b->env);
        rb_histogram_add(h, end - now);
        now = end;
        count++;
    }
    if (err != RB_OK) {
        die("write", err);
    }
    report(name, "the disk: 4 KiB, 1 in flight", count, (double)(now - begin) / 1e9, cpu_ns() - cpu,
           h);
    rb_disk_close(b->disk, file);
    err = rb_disk_remove(b->disk, &op, "latency.tmp");
    wait_op(b, &op);
    rb_disk_free(b->disk, block, 4096);
    free(h);
}

static enum rb_err append(struct bench *b, uint32_t slot)
{
    enum rb_err err = rb_wal_append(b->log, &b->writes[slot], 1, 1, b->next_index, 0,
                                    rb_slice_of(b->body, BODY_BYTES));
    if (err == RB_OK) {
        b->next_index++;
        b->started_ns[slot] = rb_env_now(&b->env);
    }
    return err;
}

/* One turn; RB_WAL_OPENED or RB_WAL_CLOSED are told. `flight` 0: nothing new is appended. */
static void turn(struct bench *b, uint32_t flight, bool *told)
{
    struct rb_disk_op **ops;
    struct rb_wal_event *events;
    uint32_t count = rb_disk_poll(b->disk, 1000000, &ops);
    for (uint32_t i = 0; i < count; i++) {
        rb_wal_complete(b->log, ops[i]);
    }
    count = rb_wal_poll(b->log, &events);
    uint64_t now = rb_env_now(&b->env);
    for (uint32_t i = 0; i < count; i++) {
        if (events[i].kind == RB_WAL_OPENED || events[i].kind == RB_WAL_CLOSED) {
            *told = true;
        }
        if (events[i].err != RB_OK) {
            die("log", events[i].err);
        }
        if (events[i].kind == RB_WAL_WRITTEN && events[i].write != &b->prefix) {
            uint32_t slot = (uint32_t)(events[i].write - b->writes);
            b->done++;
            rb_histogram_add(&b->latency, now - b->started_ns[slot]);
        }
    }
    for (uint32_t i = 0; i < flight; i++) {
        if (!b->writes[i].in_flight && append(b, i) != RB_OK) {
            break; /* again with the next turn */
        }
    }
    if (flight > 0 && b->next_index % KEEP < flight && b->next_index > KEEP &&
        !b->prefix.in_flight) {
        (void)!rb_wal_drop_prefix(b->log, &b->prefix, 1, b->next_index - KEEP, 1);
    }
    rb_wal_flush(b->log);
}

static void bench_flight(struct bench *b, const char *name, uint32_t flight)
{
    char what[64];
    bool told = false;
    memset(&b->latency, 0, sizeof(b->latency));
    b->done = 0;
    uint64_t begin = rb_env_now(&b->env);
    uint64_t cpu = cpu_ns();
    struct rb_wal_stats before, after;
    rb_wal_stats(b->log, &before);
    while ((double)(rb_env_now(&b->env) - begin) < b->seconds * 1e9) {
        turn(b, flight, &told);
    }
    uint64_t used = cpu_ns() - cpu;
    double seconds = (double)(rb_env_now(&b->env) - begin) / 1e9;
    rb_wal_stats(b->log, &after);
    snprintf(what, sizeof(what), "%u in flight (%.0f a write)", flight,
             (double)(after.records - before.records) / (double)(after.batches - before.batches));
    report(name, what, b->done, seconds, used, &b->latency);
    for (uint32_t i = 0; i < 100000; i++) {
        rb_wal_stats(b->log, &after);
        if (after.waiting == 0) {
            return;
        }
        turn(b, 0, &told);
    }
}

/* Nothing of an earlier run is measured. */
static void clean(const char *path)
{
    char command[600];
    snprintf(command, sizeof(command), "rm -rf '%s/log'", path);
    if (system(command) != 0) {
        die("clean", RB_ERR_IO);
    }
}

static void bench_all(struct bench *b, const char *path, const char *name, uint32_t writes_max)
{
    char label[16];
    bool told = false;
    snprintf(label, sizeof(label), "%s/%u", name, writes_max);
    clean(path);
    struct rb_wal_options options = { .disk = b->disk,
                                      .env = &b->env,
                                      .directory = "log",
                                      .writes_max = writes_max,
                                      .files_max = 64 };
    enum rb_err err = rb_wal_create(&options, &b->log);
    if (err != RB_OK) {
        die("create", err);
    }
    while (!told) {
        turn(b, 0, &told);
    }
    b->next_index = 1;
    for (uint64_t wait = rb_env_now(&b->env); rb_env_now(&b->env) < wait + 2000000000;) {
        turn(b, 0, &told); /* files are made in the background: not what is measured */
    }
    bench_flight(b, label, 1);
    bench_flight(b, label, 16);
    bench_flight(b, label, 500);
    told = false;
    rb_wal_close(b->log);
    while (!told) {
        turn(b, 0, &told);
    }
    rb_wal_destroy(b->log);
    clean(path);
}

int main(int argc, char **argv)
{
    struct bench *b = calloc(1, sizeof(*b));
    const char *path = argc > 1 ? argv[1] : "bench-wal.tmp";
    char why[128];
    b->seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
    rb_env_init_system(&b->env);
    memset(b->body, 'x', sizeof(b->body));
    struct rb_ring *ring = NULL;
    struct rb_ring_options ring_options = { .entries = 256 };
    if (rb_ring_create(&ring_options, &ring, why) == RB_OK) {
        struct rb_uring_disk_options options = { .path = path, .ring = ring };
        if (rb_uring_disk_create(&options, &b->disk, why) == RB_OK) {
            bench_disk(b, "uring");
            bench_all(b, path, "uring", 1);
            bench_all(b, path, "uring", 4);
            rb_disk_destroy(b->disk);
        } else {
            printf("uring: %s\n", why);
        }
        rb_ring_destroy(ring);
    } else {
        printf("uring: %s\n", why);
    }
    struct rb_posix_disk_options options = { .path = path };
    enum rb_err err = rb_posix_disk_create(&options, &b->disk, why);
    if (err != RB_OK) {
        die(why, err);
    }
    bench_disk(b, "posix");
    bench_all(b, path, "posix", 1);
    bench_all(b, path, "posix", 4);
    rb_disk_destroy(b->disk);
    if (rmdir(path) != 0) {
        fprintf(stderr, "bench_wal: %s stays\n", path);
    }
    free(b);
    return 0;
}
