/* bench_msgstore.c - what message stores cost: append, get in order, checkpoint, opening.
 *
 *   bench_msgstore [DIRECTORY] [MESSAGES]
 * Messages of 128 bytes; once on one subject, once with a subject of its own each. CPU is that of the whole process. The index is part
 * of what appends cost; the line "index" says how much of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "ringbus/msgstore.h"
#include "ringbus/ring.h"
#include "storage/disk/choose.h"
#include "storage/index.h"

#define BODY_BYTES 128

struct bench {
    struct rb_env env;
    struct rb_budget budget;
    struct rb_disk *disk;
    struct rb_msgstore_home *home;
    struct rb_msgstore *store;
    uint64_t count;
    bool own_subjects, opened, checkpointed, closed;
    uint8_t body[BODY_BYTES];
};

static void die(const char *what, enum rb_err err)
{
    fprintf(stderr, "bench_msgstore: %s: %s\n", what, rb_err_text(err));
    exit(1);
}

static uint64_t cpu_ns(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return ((uint64_t)use.ru_utime.tv_sec + (uint64_t)use.ru_stime.tv_sec) * 1000000000 +
           ((uint64_t)use.ru_utime.tv_usec + (uint64_t)use.ru_stime.tv_usec) * 1000;
}

static void turn(struct bench *b, int64_t timeout_ns)
{
    struct rb_msgstore_event *events;
    struct rb_disk_op **ops;
    uint32_t count = rb_disk_poll(b->disk, timeout_ns, &ops);
    for (uint32_t i = 0; i < count; i++) {
        rb_msgstore_home_complete(b->home, ops[i]);
    }
    count = rb_msgstore_home_poll(b->home, &events);
    for (uint32_t i = 0; i < count; i++) {
        b->opened = b->opened || events[i].kind == RB_MSGSTORE_OPENED;
        b->checkpointed = b->checkpointed || events[i].kind == RB_MSGSTORE_CHECKPOINTED;
        b->closed = b->closed || events[i].kind == RB_MSGSTORE_CLOSED;
        if (events[i].err != RB_OK) {
            die("event", events[i].err);
        }
    }
}

static void until(struct bench *b, bool *flag)
{
    *flag = false;
    while (!*flag) {
        turn(b, 1000000);
    }
}

static struct rb_slice subject_of(const struct bench *b, uint64_t seq, char *out)
{
    int len = b->own_subjects ? sprintf(out, "orders.%llu", (unsigned long long)seq)
                              : sprintf(out, "orders.new");
    return rb_slice_of(out, (size_t)len);
}

static void report(const char *what, uint64_t count, uint64_t wall, uint64_t cpu)
{
    printf("  %-34s %9.1f ns each  cpu %8.1f ns  (%.3f s)\n", what, (double)wall / (double)count,
           (double)cpu / (double)count, (double)wall / 1e9);
    fflush(stdout);
}

/* The same appends to an index alone. */
static void bench_index(struct bench *b)
{
    struct rb_index *index;
    char text[32];
    enum rb_err err = rb_index_create(&b->budget, &index);
    uint64_t wall = rb_env_now(&b->env);
    uint64_t cpu = cpu_ns();
    for (uint64_t seq = 1; seq <= b->count && err == RB_OK; seq++) {
        struct rb_index_message entry = {
            .seq = seq, .time_us = seq, .bytes = 200, .subject = subject_of(b, seq, text)
        };
        err = rb_index_append(index, &entry);
    }
    if (err != RB_OK) {
        die("index", err);
    }
    report("index (and making the subject)", b->count, rb_env_now(&b->env) - wall, cpu_ns() - cpu);
    printf("  %-34s %9.1f bytes each\n", "index, memory",
           (double)rb_index_bytes(index) / (double)b->count);
    rb_index_destroy(index);
}

static void bench_append(struct bench *b)
{
    char text[32];
    uint64_t wall = rb_env_now(&b->env);
    uint64_t cpu = cpu_ns();
    for (uint64_t seq = 1; seq <= b->count; seq++) {
        struct rb_message message = { .seq = seq,
                                      .time_ns = seq * 1000,
                                      .subject = subject_of(b, seq, text),
                                      .payload = rb_slice_of(b->body, BODY_BYTES) };
        enum rb_err err = rb_msgstore_append(b->store, &message);
        if (err != RB_OK) {
            die("append", err);
        }
        if (seq % 512 == 0) {
            turn(b, 0);
            while (rb_msgstore_home_pressure(b->home)) {
                turn(b, 1000000);
            }
        }
    }
    report("append, write behind included", b->count, rb_env_now(&b->env) - wall, cpu_ns() - cpu);
}

static void bench_get(struct bench *b, const char *what, uint64_t from, uint64_t to)
{
    struct rb_msgstore_wait wait = { 0 };
    struct rb_message message;
    uint64_t wall = rb_env_now(&b->env);
    uint64_t cpu = cpu_ns();
    uint64_t sum = 0;
    for (uint64_t seq = from; seq <= to; seq++) {
        enum rb_err err;
        while ((err = rb_msgstore_get(b->store, seq, &wait, &message)) == RB_ERR_BUSY) {
            turn(b, 1000000);
        }
        if (err != RB_OK) {
            die("get", err);
        }
        sum += message.payload.ptr[0] + message.payload.len;
        if (seq % 512 == 0) {
            turn(b, 0);
        }
    }
    if (sum == 0) {
        die("nothing was read", RB_ERR_CORRUPT);
    }
    report(what, to - from + 1, rb_env_now(&b->env) - wall, cpu_ns() - cpu);
}

static void bench_checkpoint(struct bench *b, uint64_t index)
{
    uint64_t bytes = rb_msgstore_checkpoint_bytes(b->store);
    uint64_t wall = rb_env_now(&b->env);
    uint64_t cpu = cpu_ns();
    enum rb_err err = rb_msgstore_checkpoint(b->store, index, RB_S("blob"));
    uint64_t call = rb_env_now(&b->env) - wall;
    if (err != RB_OK) {
        die("checkpoint", err);
    }
    until(b, &b->checkpointed);
    printf("  %-34s %9.1f ms wall, %.1f ms cpu, %.1f us in the call; %.1f MB were expected\n",
           "checkpoint", (double)(rb_env_now(&b->env) - wall) / 1e6, (double)(cpu_ns() - cpu) / 1e6,
           (double)call / 1e3, (double)bytes / 1e6);
}

static void open_store(struct bench *b, const char *directory)
{
    struct rb_msgstore_options options = { .directory = directory };
    uint64_t wall = rb_env_now(&b->env);
    uint64_t cpu = cpu_ns();
    enum rb_err err = rb_msgstore_open(b->home, &options, &b->store);
    if (err != RB_OK) {
        die("open", err);
    }
    until(b, &b->opened);
    printf("  %-34s %9.1f ms wall, %.1f ms cpu\n", "open",
           (double)(rb_env_now(&b->env) - wall) / 1e6, (double)(cpu_ns() - cpu) / 1e6);
}

static void bench_file(struct bench *b, bool own_subjects)
{
    b->own_subjects = own_subjects;
    printf("file, %llu messages, %s\n", (unsigned long long)b->count,
           own_subjects ? "a subject each" : "one subject");
    bench_index(b);
    open_store(b, "bench");
    bench_append(b);
    uint64_t last = b->count;
    uint64_t recent = last > 100000 ? last - 100000 : 1;
    bench_get(b, "get in order, from the cache", recent, last);
    bench_checkpoint(b, 1);
    bench_checkpoint(b, 2);
    rb_msgstore_close(b->store);
    until(b, &b->closed);
    open_store(b, "bench");
    bench_get(b, "get in order, from the disk", 1, last);
    rb_msgstore_destroy(b->store);
    until(b, &b->closed);
}

static void bench_memory(struct bench *b)
{
    b->own_subjects = false;
    printf("memory, %llu messages, one subject\n", (unsigned long long)b->count);
    open_store(b, NULL);
    bench_append(b);
    bench_get(b, "get in order", 1, b->count);
    uint64_t cpu = cpu_ns();
    uint64_t wall = rb_env_now(&b->env);
    rb_msgstore_purge_below(b->store, b->count + 1);
    report("purge", b->count, rb_env_now(&b->env) - wall, cpu_ns() - cpu);
    rb_msgstore_close(b->store);
    until(b, &b->closed);
}

int main(int argc, char **argv)
{
    struct bench *b = calloc(1, sizeof(*b));
    const char *path = argc > 1 ? argv[1] : "bench-msgstore.tmp";
    char why[128] = "";
    if (b == NULL) {
        return 1;
    }
    b->count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    rb_env_init_system(&b->env);
    struct rb_ring *ring = NULL;
    struct rb_ring_options ring_options = { .entries = 256 };
    if (rb_ring_create(&ring_options, &ring, why) != RB_OK) {
        ring = NULL;
    }
    struct rb_disk_options disk = { .path = path, .ring = ring };
    enum rb_err err = rb_disk_choose(&disk, &b->disk, why);
    if (err != RB_OK) {
        die(why, err);
    }
    struct rb_msgstore_home_options options = { .disk = b->disk,
                                                .env = &b->env,
                                                .budget = &b->budget };
    err = rb_msgstore_home_create(&options, &b->home);
    if (err != RB_OK) {
        die("home", err);
    }
    printf("disk: %s %s\n", b->disk->ops->name, why);
    bench_memory(b);
    bench_file(b, false);
    bench_file(b, true);
    rb_msgstore_home_destroy(b->home);
    rb_disk_destroy(b->disk);
    if (ring != NULL) {
        rb_ring_destroy(ring);
    }
    free(b);
    return 0;
}
