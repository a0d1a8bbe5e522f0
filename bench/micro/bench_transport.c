/* bench_transport.c - echoes per second, and the shard's processor time for one, of each driver.
 *
 * A blocking client on one thread writes 64 bytes on each of its connections and reads the answers;
 * a shard on another sends back what it receives. Loopback TCP, or in-process pipes.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "ringbus/ring.h"
#include "transport/epoll/epoll.h"
#include "transport/mux/mux.h"
#include "transport/pipe/pipe.h"
#include "transport/uring/uring.h"

#define WORD_BYTES 64
#define CONNS_MAX 200
#define ECHOES 80000
#define POLL_NS 20000000

struct setup {
    const char *name;
    bool epoll, mux, pipes;
};

static const struct setup setups[] = {
    { .name = "io_uring" },
    { .name = "epoll", .epoll = true },
    { .name = "io_uring, idle pipes", .mux = true },
    { .name = "epoll, idle pipes", .epoll = true, .mux = true },
    { .name = "pipes, io_uring", .mux = true, .pipes = true },
    { .name = "pipes, epoll", .epoll = true, .mux = true, .pipes = true },
};

struct bench {
    struct setup setup;
    struct rb_ring *ring;
    struct rb_uring_group *uring_group;
    struct rb_epoll_group *epoll_group;
    struct rb_pipes *pipes;
    struct rb_transport *t;
    struct rb_addr bound;
    pthread_barrier_t ready;
    _Atomic bool stop;
    double cpu_seconds;
};

static void need(bool good)
{
    if (!good) {
        (void)fprintf(stderr, "bench_transport: a call failed\n");
        exit(1);
    }
}

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void wake(void *ctx)
{
    struct bench *b = ctx;
    if (b->setup.epoll) {
        rb_epoll_group_wake(b->epoll_group, 0);
    } else {
        rb_uring_group_wake(b->uring_group, 0);
    }
}

static void open_base(struct bench *b)
{
    if (b->setup.epoll) {
        need(rb_epoll_group_create(1, &b->epoll_group) == RB_OK);
        struct rb_epoll_options options = { .group = b->epoll_group };
        need(rb_epoll_transport_create(&options, &b->t) == RB_OK);
        return;
    }
    char why[128];
    struct rb_ring_options ring_options = { .entries = 4096 };
    need(rb_ring_create(&ring_options, &b->ring, why) == RB_OK);
    need(rb_uring_group_create(1, &b->uring_group) == RB_OK);
    struct rb_uring_options options = { .ring = b->ring, .group = b->uring_group };
    need(rb_uring_transport_create(&options, &b->t) == RB_OK);
}

static void open_mux(struct bench *b)
{
    struct rb_pipes_options pipes_options = { .wake = wake, .wake_ctx = b };
    need(rb_pipes_create(&pipes_options, &b->pipes) == RB_OK);
    struct rb_mux_member members[2] = { { .t = b->t }, rb_pipes_member(b->pipes) };
    struct rb_mux_options options = { .members = members, .member_count = 2 };
    need(rb_mux_create(&options, &b->t) == RB_OK);
}

static void *run_shard(void *arg)
{
    static uint8_t word[WORD_BYTES];
    struct bench *b = arg;
    open_base(b);
    if (b->setup.mux) {
        open_mux(b);
    }
    struct rb_listen_options options = { .addr = { .family = 4, .ip = { 127, 0, 0, 1 } } };
    uint32_t listener;
    need(rb_transport_listen(b->t, &options, &listener, &b->bound) == RB_OK);
    pthread_barrier_wait(&b->ready);
    double begin = seconds(CLOCK_THREAD_CPUTIME_ID);
    while (!b->stop) {
        struct rb_event *events;
        uint32_t count = rb_transport_poll(b->t, POLL_NS, &events);
        for (uint32_t i = 0; i < count; i++) {
            if (events[i].kind == RB_EVENT_RECEIVED) {
                struct rb_slice back = rb_slice_of(word, events[i].bytes.len);
                need(rb_transport_send(b->t, events[i].conn, &back, 1) == RB_OK);
            }
        }
    }
    b->cpu_seconds = seconds(CLOCK_THREAD_CPUTIME_ID) - begin;
    rb_transport_destroy(b->t);
    if (b->ring != NULL) {
        rb_ring_destroy(b->ring);
    }
    return NULL;
}

static int dial(const struct rb_addr *addr)
{
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_port = htons(addr->port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    need(fd >= 0 && connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

struct end {
    int fd;
    struct rb_pipe *pipe; /* NULL: fd */
};

static void write_word(const struct end *end, const uint8_t *word)
{
    need(end->pipe != NULL ? rb_pipe_write(end->pipe, word, WORD_BYTES, -1, NULL) == RB_OK
                           : write(end->fd, word, WORD_BYTES) == WORD_BYTES);
}

static void read_word(const struct end *end, uint8_t *word)
{
    size_t len;
    need(end->pipe != NULL ? rb_pipe_read(end->pipe, word, WORD_BYTES, -1, &len) == RB_OK
                           : read(end->fd, word, WORD_BYTES) == WORD_BYTES);
}

static void measure(const struct setup *setup, uint32_t conns)
{
    struct bench b = { .setup = *setup };
    pthread_t shard;
    pthread_barrier_init(&b.ready, NULL, 2);
    need(pthread_create(&shard, NULL, run_shard, &b) == 0);
    pthread_barrier_wait(&b.ready);
    struct end ends[CONNS_MAX] = { 0 };
    for (uint32_t i = 0; i < conns; i++) {
        if (setup->pipes) {
            need(rb_pipe_connect(b.pipes, &ends[i].pipe) == RB_OK);
        } else {
            ends[i].fd = dial(&b.bound);
        }
    }
    uint8_t word[WORD_BYTES] = { 0 };
    double begin = seconds(CLOCK_MONOTONIC);
    for (uint32_t round = 0; round < ECHOES / conns; round++) {
        for (uint32_t i = 0; i < conns; i++) {
            write_word(&ends[i], word);
        }
        for (uint32_t i = 0; i < conns; i++) {
            read_word(&ends[i], word);
        }
    }
    double passed = seconds(CLOCK_MONOTONIC) - begin;
    b.stop = true;
    wake(&b);
    pthread_join(shard, NULL);
    printf("%-22s %4u conns %9.0f echoes/s %6.2f us CPU/echo\n", setup->name, conns,
           ECHOES / passed, b.cpu_seconds * 1e6 / ECHOES);
    for (uint32_t i = 0; i < conns; i++) {
        if (ends[i].pipe != NULL) {
            rb_pipe_close(ends[i].pipe);
        } else {
            close(ends[i].fd);
        }
    }
    if (b.pipes != NULL) {
        rb_pipes_release(b.pipes);
    }
    rb_uring_group_destroy(b.uring_group);
    rb_epoll_group_destroy(b.epoll_group);
    pthread_barrier_destroy(&b.ready);
}

int main(void)
{
    for (uint32_t i = 0; i < sizeof(setups) / sizeof(setups[0]); i++) {
        measure(&setups[i], 1);
        measure(&setups[i], CONNS_MAX);
    }
    return 0;
}
