/* test_transport_pipe.c - in-process pipes behind a mux: the contract suite, then programs on
 * threads of their own, and a mux of two networks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "pipe_client.h"
#include "ringbus/bounds.h"
#include "ringbus/env.h"
#include "ringbus/ring.h"
#include "transport/epoll/epoll.h"
#include "transport/uring/uring.h"
#include "transport_suite.h"

#define MS 1000000L
#define LONG_NS (10000 * MS)
#define ROUNDS_MAX 5000
#define PIPES_MAX 600

/* ---- a shard: epoll and pipes behind a mux ---- */

static bool over_uring; /* the base; else epoll */

struct shard {
    struct rb_epoll_group *group;
    struct rb_uring_group *uring_group;
    struct rb_ring *ring;
    struct rb_budget budget;
    struct rb_pipes *pipes;
    struct rb_transport *t;
    _Atomic uint32_t wake_count;
};

static void wake_shard(void *ctx)
{
    struct shard *shard = ctx;
    atomic_fetch_add(&shard->wake_count, 1);
    if (shard->ring != NULL) {
        rb_uring_group_wake(shard->uring_group, 0);
    } else {
        rb_epoll_group_wake(shard->group, 0);
    }
}

static struct rb_transport *open_base(struct shard *shard)
{
    struct rb_transport *t;
    if (over_uring) {
        char why[128];
        struct rb_ring_options ring_options = { .entries = 64 };
        assert_int_equal(rb_ring_create(&ring_options, &shard->ring, why), RB_OK);
        assert_int_equal(rb_uring_group_create(1, &shard->uring_group), RB_OK);
        struct rb_uring_options options = { .ring = shard->ring,
                                            .group = shard->uring_group,
                                            .budget = &shard->budget };
        assert_int_equal(rb_uring_transport_create(&options, &t), RB_OK);
        return t;
    }
    assert_int_equal(rb_epoll_group_create(1, &shard->group), RB_OK);
    struct rb_epoll_options options = { .group = shard->group, .budget = &shard->budget };
    assert_int_equal(rb_epoll_transport_create(&options, &t), RB_OK);
    return t;
}

static void open_shard(struct shard *shard, uint32_t ring_bytes, uint32_t pipe_count_max)
{
    memset(shard, 0, sizeof(*shard));
    struct rb_mux_member members[2] = { { .t = open_base(shard) } };
    struct rb_pipes_options pipes_options = { .budget = &shard->budget,
                                              .ring_bytes = ring_bytes,
                                              .pipe_count_max = pipe_count_max,
                                              .wake = wake_shard,
                                              .wake_ctx = shard };
    assert_int_equal(rb_pipes_create(&pipes_options, &shard->pipes), RB_OK);
    members[1] = rb_pipes_member(shard->pipes);
    struct rb_mux_options options = { .members = members, .member_count = 2 };
    assert_int_equal(rb_mux_create(&options, &shard->t), RB_OK);
}

static void end_shard(struct shard *shard)
{
    rb_transport_destroy(shard->t);
    assert_int_equal(shard->budget.used_bytes, 0);
    if (shard->ring != NULL) {
        rb_ring_destroy(shard->ring);
    }
}

static void free_shard(struct shard *shard)
{
    rb_pipes_release(shard->pipes);
    rb_epoll_group_destroy(shard->group);
    rb_uring_group_destroy(shard->uring_group);
}

/* ---- the suite ---- */

static void open_pipes(struct suite_world *ret_world)
{
    struct shard *shard = malloc(sizeof(*shard));
    assert_non_null(shard);
    open_shard(shard, 0, 4096);
    *ret_world = (struct suite_world){ .server = shard->t,
                                       .client = pipe_client_create(shard->pipes),
                                       .poll_timeout_ns = MS / 4,
                                       .ctx = shard };
}

static void shut_pipes(struct suite_world *world)
{
    struct shard *shard = world->ctx;
    end_shard(shard); /* the program's ends outlive it */
    rb_transport_destroy(world->client);
    free_shard(shard);
    free(shard);
}

static const struct suite_driver pipe_suite = { .name = "pipes: the contract",
                                                .without = SUITE_NO_LISTENERS | SUITE_NO_DRAIN,
                                                .open = open_pipes,
                                                .shut = shut_pipes };

/* A mux whose second member has the loopback: every id of the suite is that member's. */
struct two_networks {
    struct rb_epoll_group *groups[3];
    struct rb_budget budget;
};

static struct rb_transport *open_epoll(struct two_networks *two, uint32_t which)
{
    struct rb_transport *t;
    assert_int_equal(rb_epoll_group_create(1, &two->groups[which]), RB_OK);
    struct rb_epoll_options options = { .group = two->groups[which], .budget = &two->budget };
    assert_int_equal(rb_epoll_transport_create(&options, &t), RB_OK);
    return t;
}

static void open_two(struct suite_world *ret_world)
{
    struct two_networks *two = calloc(1, sizeof(*two));
    assert_non_null(two);
    struct rb_mux_member members[2] = { { .t = open_epoll(two, 0) },
                                        { .t = open_epoll(two, 1), .local = true } };
    struct rb_mux_options options = { .members = members, .member_count = 2 };
    struct suite_world world = { .client = open_epoll(two, 2),
                                 .listen_addr = { .family = 4, .ip = { 127, 0, 0, 1 } },
                                 .poll_timeout_ns = MS / 4,
                                 .ctx = two };
    assert_int_equal(rb_mux_create(&options, &world.server), RB_OK);
    *ret_world = world;
}

static void shut_two(struct suite_world *world)
{
    struct two_networks *two = world->ctx;
    rb_transport_destroy(world->server);
    rb_transport_destroy(world->client);
    assert_int_equal(two->budget.used_bytes, 0);
    for (int i = 0; i < 3; i++) {
        rb_epoll_group_destroy(two->groups[i]);
    }
    free(two);
}

static const struct suite_driver two_suite = { .name = "mux of two networks: the contract",
                                               .crowd_count = 1000,
                                               .open = open_two,
                                               .shut = shut_two };

/* ---- the shard's side by hand ---- */

struct hand {
    struct shard shard;
    uint32_t accepted_count, failed_count, closed_count, sent_count, accept_failed_count;
    enum rb_err failed_err, sent_err;
    size_t received_bytes;
    struct rb_conn_id last;
};

static void hand_poll(struct hand *h, int64_t timeout_ns)
{
    struct rb_event *events;
    uint32_t count = rb_transport_poll(h->shard.t, timeout_ns, &events);
    for (uint32_t i = 0; i < count; i++) {
        const struct rb_event *event = &events[i];
        switch (event->kind) {
        case RB_EVENT_ACCEPTED:
            assert_int_equal(event->listener, RB_LISTENER_IN_PROCESS);
            assert_int_equal(event->peer.family, 0);
            h->accepted_count++;
            h->last = event->conn;
            break;
        case RB_EVENT_RECEIVED:
            h->received_bytes += event->bytes.len;
            break;
        case RB_EVENT_SENT:
            h->sent_count++;
            h->sent_err = event->err;
            break;
        case RB_EVENT_FAILED:
            h->failed_count++;
            h->failed_err = event->err;
            break;
        case RB_EVENT_CLOSED:
            h->closed_count++;
            break;
        case RB_EVENT_ACCEPT_FAILED:
            assert_int_equal(event->listener, RB_LISTENER_IN_PROCESS);
            assert_int_equal(event->err, RB_ERR_MEMORY);
            h->accept_failed_count++;
            break;
        case RB_EVENT_CONNECTED:
            fail_msg("nobody connects from here");
        }
    }
}

#define HAND_UNTIL(h, what)                                                                        \
    for (uint32_t round_ = 0; !(what); round_++) {                                                 \
        if (round_ == ROUNDS_MAX) {                                                                \
            fail_msg("never came true: %s", #what);                                                \
        }                                                                                          \
        hand_poll(h, MS);                                                                          \
    }

static struct rb_pipe *connect_hand(struct hand *h)
{
    struct rb_pipe *pipe;
    uint32_t before = h->accepted_count;
    assert_int_equal(rb_pipe_connect(h->shard.pipes, &pipe), RB_OK);
    HAND_UNTIL(h, h->accepted_count == before + 1);
    return pipe;
}

static void open_hand(struct hand *h, uint32_t ring_bytes)
{
    memset(h, 0, sizeof(*h));
    open_shard(&h->shard, ring_bytes, PIPES_MAX);
}

static void shut_hand(struct hand *h)
{
    end_shard(&h->shard);
    free_shard(&h->shard);
}

/* The ring is the bound: a write takes what fits and says so; credit lets it go on. */
static void a_write_without_a_reader_times_out(void **state)
{
    enum { BYTES = 10000 };
    struct hand h;
    open_hand(&h, 4096);
    struct rb_pipe *pipe = connect_hand(&h);
    rb_transport_credit(h.shard.t, h.last, false);
    static const uint8_t bytes[BYTES];
    size_t taken = 0;
    assert_int_equal(rb_pipe_write(pipe, bytes, BYTES, 20 * MS, &taken), RB_ERR_TIMEOUT);
    assert_int_equal(taken, 4096);
    assert_int_equal(rb_pipe_write(pipe, bytes, 1, 0, NULL), RB_ERR_TIMEOUT);
    hand_poll(&h, MS);
    assert_int_equal(h.received_bytes, 0);
    rb_transport_credit(h.shard.t, h.last, true);
    HAND_UNTIL(&h, h.received_bytes == 4096);
    hand_poll(&h, 0); /* gives the room back */
    assert_int_equal(rb_pipe_write(pipe, bytes, 4096, 0, &taken), RB_OK);
    assert_int_equal(taken, 4096);
    rb_pipe_close(pipe);
    HAND_UNTIL(&h, h.failed_count == 1);
    assert_int_equal(h.received_bytes, 8192); /* what was written before the close arrived */
    assert_int_equal(h.failed_err, RB_OK);
    shut_hand(&h);
}

static void a_read_without_bytes_times_out(void **state)
{
    struct hand h;
    open_hand(&h, 0);
    struct rb_pipe *pipe = connect_hand(&h);
    uint8_t byte;
    size_t len;
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    assert_int_equal(rb_pipe_read(pipe, &byte, 1, 30 * MS, &len), RB_ERR_TIMEOUT);
    clock_gettime(CLOCK_MONOTONIC, &end);
    int64_t passed_ns = (end.tv_sec - begin.tv_sec) * 1000 * MS + end.tv_nsec - begin.tv_nsec;
    assert_in_range(passed_ns, 29 * MS, 5000 * MS);
    assert_int_equal(rb_pipe_read(pipe, &byte, 1, 0, &len), RB_ERR_TIMEOUT);
    rb_pipe_close(pipe);
    shut_hand(&h);
}

static void sends_work_after_the_programs_orderly_end(void **state)
{
    struct hand h;
    open_hand(&h, 0);
    struct rb_pipe *pipe = connect_hand(&h);
    assert_int_equal(rb_pipe_write(pipe, "PING\r\n", 6, 0, NULL), RB_OK);
    rb_pipe_end(pipe);
    assert_int_equal(rb_pipe_write(pipe, "x", 1, 0, NULL), RB_ERR_CANCELED);
    HAND_UNTIL(&h, h.failed_count == 1);
    assert_int_equal(h.failed_err, RB_OK);
    assert_int_equal(h.received_bytes, 6);
    struct rb_slice pong[2] = { RB_S("PO"), RB_S("NG\r\n") };
    assert_int_equal(rb_transport_send(h.shard.t, h.last, pong, 2), RB_OK);
    HAND_UNTIL(&h, h.sent_count == 1);
    assert_int_equal(rb_transport_close(h.shard.t, h.last), RB_OK);
    HAND_UNTIL(&h, h.closed_count == 1);
    char reply[16];
    size_t len = 0;
    assert_int_equal(rb_pipe_read(pipe, reply, sizeof(reply), 0, &len), RB_OK);
    assert_int_equal(len, 6);
    assert_memory_equal(reply, "PONG\r\n", 6);
    assert_int_equal(rb_pipe_read(pipe, reply, sizeof(reply), -1, &len), RB_OK);
    assert_int_equal(len, 0); /* the end */
    rb_pipe_close(pipe);
    shut_hand(&h);
}

/* A send that waits for a program that goes away: SENT with the error, FAILED, no lost wake. */
static void a_send_to_a_program_that_left_fails(void **state)
{
    struct hand h;
    open_hand(&h, 4096);
    static const uint8_t bytes[10000];
    struct rb_slice slice = rb_slice_of(bytes, sizeof(bytes));
    for (int credit = 0; credit < 2; credit++) {
        struct rb_pipe *pipe = connect_hand(&h);
        rb_transport_credit(h.shard.t, h.last, credit == 1);
        assert_int_equal(rb_transport_send(h.shard.t, h.last, &slice, 1), RB_OK);
        hand_poll(&h, MS);
        assert_int_equal(h.sent_count, (uint32_t)credit);
        rb_pipe_close(pipe);
        HAND_UNTIL(&h, h.sent_count == (uint32_t)credit + 1 && h.failed_count == h.sent_count);
        assert_int_equal(h.sent_err, RB_ERR_RESET);
        assert_int_equal(h.failed_err, credit == 1 ? RB_OK : RB_ERR_RESET);
        assert_int_equal(rb_transport_send(h.shard.t, h.last, &slice, 1), RB_ERR_RESET);
        assert_int_equal(rb_transport_close(h.shard.t, h.last), RB_OK);
        HAND_UNTIL(&h, h.closed_count == (uint32_t)credit + 1);
    }
    shut_hand(&h);
}

static bool readable(int fd)
{
    struct pollfd pollfd = { .fd = fd, .events = POLLIN };
    return poll(&pollfd, 1, 0) == 1;
}

static void the_descriptor_tells_when_to_go_on(void **state)
{
    struct hand h;
    open_hand(&h, 4096);
    struct rb_pipe *pipe = connect_hand(&h);
    static uint8_t bytes[10000];
    size_t len;
    int fd = rb_pipe_fd(pipe);
    assert_true(fd >= 0);
    assert_int_equal(rb_pipe_fd(pipe), fd);
    assert_int_equal(rb_pipe_read(pipe, bytes, sizeof(bytes), 0, &len), RB_ERR_TIMEOUT);
    assert_false(readable(fd));
    struct rb_slice hello = RB_S("hello");
    assert_int_equal(rb_transport_send(h.shard.t, h.last, &hello, 1), RB_OK);
    assert_true(readable(fd));
    assert_int_equal(rb_pipe_read(pipe, bytes, 2, 0, &len), RB_OK);
    assert_true(readable(fd)); /* more is there */
    rb_transport_credit(h.shard.t, h.last, false);
    assert_int_equal(rb_pipe_write(pipe, bytes, 5000, 0, &len), RB_ERR_TIMEOUT);
    assert_true(readable(fd)); /* still: the reader's bytes */
    assert_int_equal(rb_pipe_read(pipe, bytes, sizeof(bytes), 0, &len), RB_OK);
    assert_int_equal(len, 3);
    assert_int_equal(rb_pipe_read(pipe, bytes, sizeof(bytes), 0, &len), RB_ERR_TIMEOUT);
    assert_false(readable(fd));
    rb_transport_credit(h.shard.t, h.last, true);
    HAND_UNTIL(&h, h.received_bytes == 4096);
    hand_poll(&h, 0);
    assert_true(readable(fd)); /* room for the writer */
    assert_int_equal(rb_pipe_read(pipe, bytes, sizeof(bytes), 0, &len), RB_ERR_TIMEOUT);
    assert_true(readable(fd)); /* the reader did not take that away */
    assert_int_equal(rb_pipe_write(pipe, bytes, 904, 0, &len), RB_OK);
    assert_int_equal(rb_pipe_read(pipe, bytes, sizeof(bytes), 0, &len), RB_ERR_TIMEOUT);
    assert_false(readable(fd));
    assert_int_equal(rb_transport_close(h.shard.t, h.last), RB_OK);
    assert_true(readable(fd)); /* the end */
    assert_int_equal(rb_pipe_read(pipe, bytes, sizeof(bytes), 0, &len), RB_OK);
    assert_int_equal(len, 0);
    rb_pipe_close(pipe);
    shut_hand(&h);
}

static void connecting_has_bounds(void **state)
{
    struct hand h;
    open_hand(&h, 4096);
    static struct rb_pipe *pipes[PIPES_MAX];
    for (int i = 0; i < PIPES_MAX; i++) {
        assert_int_equal(rb_pipe_connect(h.shard.pipes, &pipes[i]), RB_OK);
    }
    struct rb_pipe *late;
    assert_int_equal(rb_pipe_connect(h.shard.pipes, &late), RB_ERR_FULL);
    HAND_UNTIL(&h, h.accepted_count == PIPES_MAX); /* more than one batch */
    rb_pipe_close(pipes[0]);
    assert_int_equal(rb_pipe_connect(h.shard.pipes, &late), RB_ERR_FULL); /* the shard has it */
    HAND_UNTIL(&h, h.failed_count == 1);
    shut_hand(&h); /* the program's ends are still open */
    uint8_t byte;
    size_t len;
    for (int i = 1; i < PIPES_MAX; i++) {
        assert_int_equal(rb_pipe_read(pipes[i], &byte, 1, -1, &len), RB_ERR_RESET);
        assert_int_equal(rb_pipe_write(pipes[i], &byte, 1, -1, &len), RB_ERR_RESET);
        rb_pipe_close(pipes[i]);
    }
}

static void the_end_of_the_shard_reaches_who_was_not_accepted(void **state)
{
    struct hand h;
    open_hand(&h, 4096);
    struct rb_pipe *pipe, *late;
    assert_int_equal(rb_pipe_connect(h.shard.pipes, &pipe), RB_OK);
    assert_int_equal(rb_pipe_write(pipe, "x", 1, 0, NULL), RB_OK);
    end_shard(&h.shard);
    uint8_t byte;
    size_t len;
    assert_int_equal(rb_pipe_read(pipe, &byte, 1, -1, &len), RB_ERR_RESET);
    assert_int_equal(rb_pipe_connect(h.shard.pipes, &late), RB_ERR_RESET);
    rb_pipe_close(pipe);
    free_shard(&h.shard);
}

/* Without memory the pipe is broken and both sides are told. */
static void accept_refuses_beyond_the_budget(void **state)
{
    struct hand h;
    open_hand(&h, 4096);
    h.shard.budget.limit_bytes = 1000;
    struct rb_pipe *pipe;
    assert_int_equal(rb_pipe_connect(h.shard.pipes, &pipe), RB_OK);
    HAND_UNTIL(&h, h.accept_failed_count == 1);
    uint8_t byte;
    size_t len;
    assert_int_equal(rb_pipe_read(pipe, &byte, 1, -1, &len), RB_ERR_RESET);
    rb_pipe_close(pipe);
    h.shard.budget.limit_bytes = 0;
    pipe = connect_hand(&h);
    rb_pipe_close(pipe);
    HAND_UNTIL(&h, h.failed_count == 1);
    shut_hand(&h);
}

static void a_strange_ring_is_refused(void **state)
{
    static const uint32_t sizes[] = { 1, 2048, 5000, 3U << 30 };
    for (int i = 0; i < 4; i++) {
        struct rb_pipes_options options = { .ring_bytes = sizes[i] };
        struct rb_pipes *pipes;
        assert_int_equal(rb_pipes_create(&options, &pipes), RB_ERR_INVALID);
    }
}

/* ---- programs on threads of their own ---- */

#define PROGRAMS 4
#define STREAM_BYTES (3U << 20)
#define PINGS 2000

struct echo_shard {
    struct shard shard;
    uint32_t ring_bytes;
    pthread_t thread;
    pthread_barrier_t ready;
    _Atomic bool stop;
};

struct echo_conn {
    struct rb_conn_id id;
    uint8_t bytes[2 * 65536]; /* of one batch at most, twice */
    size_t held_len, sending_len;
};

static void echo_back(struct rb_transport *t, struct echo_conn *conn)
{
    struct rb_slice slice = rb_slice_of(conn->bytes, conn->held_len);
    if (conn->held_len > 0 && rb_transport_send(t, conn->id, &slice, 1) == RB_OK) {
        conn->sending_len = conn->held_len;
    }
    rb_transport_credit(t, conn->id, conn->sending_len == 0);
}

/* Sends back what comes; takes no more while that is under way. */
static void echo_event(struct echo_shard *echo, const struct rb_event *event)
{
    struct echo_conn *conn = event->user;
    struct rb_transport *t = echo->shard.t;
    switch (event->kind) {
    case RB_EVENT_ACCEPTED:
        conn = calloc(1, sizeof(*conn));
        assert_non_null(conn);
        conn->id = event->conn;
        rb_transport_set_user(t, event->conn, conn);
        break;
    case RB_EVENT_RECEIVED:
        assert_true(conn->held_len + event->bytes.len <= sizeof(conn->bytes));
        memcpy(conn->bytes + conn->held_len, event->bytes.ptr, event->bytes.len);
        conn->held_len += event->bytes.len;
        if (conn->sending_len == 0) {
            echo_back(t, conn);
        }
        break;
    case RB_EVENT_SENT:
        conn->held_len -= conn->sending_len;
        memmove(conn->bytes, conn->bytes + conn->sending_len, conn->held_len);
        conn->sending_len = 0;
        echo_back(t, conn);
        break;
    case RB_EVENT_FAILED:
        (void)rb_transport_close(t, event->conn);
        break;
    case RB_EVENT_CLOSED:
        free(conn);
        break;
    default:
        fail_msg("unexpected event");
    }
}

static void echo_poll(struct echo_shard *echo, int64_t timeout_ns)
{
    struct rb_event *events;
    uint32_t count = rb_transport_poll(echo->shard.t, timeout_ns, &events);
    for (uint32_t i = 0; i < count; i++) {
        echo_event(echo, &events[i]);
    }
}

static void *run_echo(void *arg)
{
    struct echo_shard *echo = arg;
    open_shard(&echo->shard, echo->ring_bytes, 0);
    pthread_barrier_wait(&echo->ready);
    while (!echo->stop) {
        echo_poll(echo, -1);
    }
    for (int round = 0; round < 20; round++) {
        echo_poll(echo, MS); /* all programs have closed: frees the connections' memory */
    }
    end_shard(&echo->shard);
    return NULL;
}

static struct echo_shard *start_echo(uint32_t ring_bytes)
{
    struct echo_shard *echo = calloc(1, sizeof(*echo));
    assert_non_null(echo);
    echo->ring_bytes = ring_bytes;
    pthread_barrier_init(&echo->ready, NULL, 2);
    assert_int_equal(pthread_create(&echo->thread, NULL, run_echo, echo), 0);
    pthread_barrier_wait(&echo->ready);
    return echo;
}

static void stop_echo(struct echo_shard *echo)
{
    echo->stop = true;
    wake_shard(&echo->shard);
    pthread_join(echo->thread, NULL);
    free_shard(&echo->shard);
    pthread_barrier_destroy(&echo->ready);
    free(echo);
}

struct program {
    struct rb_pipes *pipes;
    struct rb_pipe *pipe;
    pthread_t threads[2];
    uint64_t seed;
    uint32_t wrong_count;
    enum rb_err read_err, write_err;
};

static void *read_stream(void *arg)
{
    struct program *program = arg;
    static _Thread_local uint8_t buf[50000];
    struct rb_env draw = { 0 };
    rb_env_seed(&draw, program->seed);
    for (uint32_t at = 0; at < STREAM_BYTES;) {
        size_t len;
        size_t cap = 1 + rb_env_below(&draw, sizeof(buf));
        program->read_err = rb_pipe_read(program->pipe, buf, cap, LONG_NS, &len);
        if (program->read_err != RB_OK || len == 0) {
            program->wrong_count++;
            break;
        }
        for (size_t i = 0; i < len; i++, at++) {
            program->wrong_count += buf[i] != (uint8_t)(at ^ at >> 8);
        }
    }
    return NULL;
}

static void *write_stream(void *arg)
{
    struct program *program = arg;
    static _Thread_local uint8_t buf[100000];
    struct rb_env draw = { 0 };
    rb_env_seed(&draw, program->seed + 1);
    for (uint32_t at = 0; at < STREAM_BYTES && program->write_err == RB_OK;) {
        uint32_t len = 1 + rb_env_below(&draw, rb_env_below(&draw, 2) == 0 ? 100 : sizeof(buf));
        len = len < STREAM_BYTES - at ? len : STREAM_BYTES - at;
        for (uint32_t i = 0; i < len; i++, at++) {
            buf[i] = (uint8_t)(at ^ at >> 8);
        }
        program->write_err = rb_pipe_write(program->pipe, buf, len, LONG_NS, NULL);
    }
    return NULL;
}

/* Both ways at once, everybody blocking, rings of the smallest size: a lost wake would stop it. */
static void streams_pass_whole_through_small_rings(void **state)
{
    struct echo_shard *echo = start_echo(4096);
    struct program programs[PROGRAMS] = { 0 };
    for (uint64_t i = 0; i < PROGRAMS; i++) {
        programs[i].seed = i;
        assert_int_equal(rb_pipe_connect(echo->shard.pipes, &programs[i].pipe), RB_OK);
        pthread_create(&programs[i].threads[0], NULL, read_stream, &programs[i]);
        pthread_create(&programs[i].threads[1], NULL, write_stream, &programs[i]);
    }
    for (int i = 0; i < PROGRAMS; i++) {
        pthread_join(programs[i].threads[0], NULL);
        pthread_join(programs[i].threads[1], NULL);
        assert_int_equal(programs[i].read_err, RB_OK);
        assert_int_equal(programs[i].write_err, RB_OK);
        assert_int_equal(programs[i].wrong_count, 0);
        rb_pipe_close(programs[i].pipe);
    }
    stop_echo(echo);
}

/* Each side sleeps before the other answers. */
static void round_trips_lose_no_wake(void **state)
{
    struct echo_shard *echo = start_echo(0);
    struct rb_pipe *pipe;
    assert_int_equal(rb_pipe_connect(echo->shard.pipes, &pipe), RB_OK);
    for (uint32_t i = 0; i < PINGS; i++) {
        uint32_t back = 0;
        size_t len;
        assert_int_equal(rb_pipe_write(pipe, &i, sizeof(i), LONG_NS, NULL), RB_OK);
        assert_int_equal(rb_pipe_read(pipe, &back, sizeof(back), LONG_NS, &len), RB_OK);
        assert_int_equal(len, sizeof(back));
        assert_int_equal(back, i);
    }
    rb_pipe_close(pipe);
    stop_echo(echo);
}

static void *block_in_read(void *arg)
{
    struct program *program = arg;
    uint8_t byte;
    size_t len;
    program->read_err = rb_pipe_read(program->pipe, &byte, 1, -1, &len);
    return NULL;
}

static void shutdown_ends_a_read_that_waits(void **state)
{
    struct echo_shard *echo = start_echo(0);
    struct program program = { 0 };
    assert_int_equal(rb_pipe_connect(echo->shard.pipes, &program.pipe), RB_OK);
    pthread_create(&program.threads[0], NULL, block_in_read, &program);
    struct timespec moment = { .tv_nsec = 20 * MS };
    nanosleep(&moment, NULL);
    rb_pipe_shutdown(program.pipe);
    pthread_join(program.threads[0], NULL);
    assert_int_equal(program.read_err, RB_ERR_CANCELED);
    assert_int_equal(rb_pipe_write(program.pipe, "x", 1, -1, NULL), RB_ERR_CANCELED);
    rb_pipe_close(program.pipe);
    stop_echo(echo);
}

static void *connect_and_close(void *arg)
{
    struct program *program = arg;
    for (;;) {
        struct rb_pipe *pipe;
        enum rb_err err = rb_pipe_connect(program->pipes, &pipe);
        if (err == RB_ERR_RESET) {
            return NULL; /* the shard has ended */
        }
        if (err != RB_OK) {
            continue;
        }
        program->write_err = rb_pipe_write(pipe, "hello", 5, LONG_NS, NULL);
        if (program->seed % 2 == 0) {
            uint8_t buf[16];
            size_t len;
            program->read_err = rb_pipe_read(pipe, buf, sizeof(buf), LONG_NS, &len);
        }
        rb_pipe_close(pipe);
    }
}

/* Connections come and go on several threads, and the shard ends in the middle of it. */
static void the_shard_may_end_amid_everything(void **state)
{
    for (int round = 0; round < 5; round++) {
        struct hand h;
        open_hand(&h, 4096);
        struct program programs[PROGRAMS] = { 0 };
        for (uint64_t i = 0; i < PROGRAMS; i++) {
            programs[i] = (struct program){ .pipes = h.shard.pipes, .seed = i };
            pthread_create(&programs[i].threads[0], NULL, connect_and_close, &programs[i]);
        }
        struct rb_slice hello = RB_S("hello");
        uint32_t sent_count = 0;
        for (uint32_t turn = 0; turn < 100; turn++) {
            struct rb_event *events;
            uint32_t count = rb_transport_poll(h.shard.t, MS, &events);
            for (uint32_t i = 0; i < count; i++) {
                if (events[i].kind == RB_EVENT_RECEIVED) {
                    sent_count += rb_transport_send(h.shard.t, events[i].conn, &hello, 1) == RB_OK;
                } else if (events[i].kind == RB_EVENT_FAILED) {
                    (void)rb_transport_close(h.shard.t, events[i].conn);
                }
            }
        }
        assert_true(sent_count > 0);
        end_shard(&h.shard);
        for (int i = 0; i < PROGRAMS; i++) {
            pthread_join(programs[i].threads[0], NULL);
        }
        free_shard(&h.shard);
    }
}

/* ---- the mux ---- */

/* Pipes that nobody uses cost no wake, no event and no processor time. */
static void an_idle_pipe_lets_the_base_sleep(void **state)
{
    struct hand h;
    open_hand(&h, 0);
    struct rb_pipe *pipe = connect_hand(&h);
    hand_poll(&h, MS);
    uint32_t wakes = h.shard.wake_count;
    struct timespec cpu_begin, cpu_end;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu_begin);
    hand_poll(&h, 100 * MS);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu_end);
    int64_t cpu_ns =
        (cpu_end.tv_sec - cpu_begin.tv_sec) * 1000 * MS + cpu_end.tv_nsec - cpu_begin.tv_nsec;
    assert_true(cpu_ns < 50 * MS);
    assert_int_equal(h.shard.wake_count, wakes);
    /* It sleeps, or would: the first write wakes it, the next ones find it awake. */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(rb_pipe_write(pipe, "x", 1, 0, NULL), RB_OK);
    }
    assert_int_equal(h.shard.wake_count, wakes + 1);
    hand_poll(&h, -1);
    assert_int_equal(h.received_bytes, 100);
    rb_pipe_close(pipe);
    shut_hand(&h);
}

/* A base that fills every batch. */
struct busy {
    struct rb_transport base;
    struct rb_event events[RB_EVENTS_MAX];
};

static uint32_t busy_poll(struct rb_transport *t, int64_t timeout_ns, struct rb_event **ret_events)
{
    *ret_events = ((struct busy *)t)->events;
    return RB_EVENTS_MAX;
}

static void busy_destroy(struct rb_transport *t)
{
}

static const struct rb_transport_ops busy_ops = { .name = "busy",
                                                  .poll = busy_poll,
                                                  .destroy = busy_destroy };

static void wake_nobody(void *ctx)
{
}

/* Both the base and a member that always has something are heard. */
static void a_busy_base_starves_nobody(void **state)
{
    struct busy *busy = calloc(1, sizeof(*busy));
    busy->base.ops = &busy_ops;
    for (int i = 0; i < RB_EVENTS_MAX; i++) {
        busy->events[i].kind = RB_EVENT_RECEIVED;
        busy->events[i].conn = (struct rb_conn_id){ .slot = 3, .generation = 1 };
    }
    struct rb_pipes_options pipes_options = { .wake = wake_nobody };
    struct rb_pipes *pipes;
    assert_int_equal(rb_pipes_create(&pipes_options, &pipes), RB_OK);
    struct rb_mux_member members[2] = { { .t = &busy->base }, rb_pipes_member(pipes) };
    struct rb_mux_options options = { .members = members, .member_count = 2 };
    struct rb_transport *t;
    assert_int_equal(rb_mux_create(&options, &t), RB_OK);
    struct rb_pipe *pipe;
    assert_int_equal(rb_pipe_connect(pipes, &pipe), RB_OK);
    size_t received_bytes = 0, written_bytes = 0, base_count = 0;
    for (int turn = 0; turn < 100; turn++) {
        written_bytes += rb_pipe_write(pipe, "x", 1, 0, NULL) == RB_OK;
        struct rb_event *events;
        uint32_t count = rb_transport_poll(t, -1, &events);
        assert_true(count > 0 && count <= RB_EVENTS_MAX);
        for (uint32_t i = 0; i < count; i++) {
            bool of_pipe = events[i].conn.slot >> 28 == 1;
            base_count += !of_pipe;
            received_bytes += of_pipe ? events[i].bytes.len : 0;
        }
    }
    assert_int_equal(written_bytes, 100);
    assert_true(received_bytes >= 90);
    assert_true(base_count >= (size_t)40 * RB_EVENTS_MAX);
    rb_transport_destroy(t);
    rb_pipe_close(pipe);
    rb_pipes_release(pipes);
    free(busy);
}

static void ids_of_no_member_are_stale(void **state)
{
    struct hand h;
    open_hand(&h, 0);
    struct rb_slice word = RB_S("word");
    struct rb_conn_id id = { .slot = 5U << 28, .generation = 1 };
    assert_int_equal(rb_transport_send(h.shard.t, id, &word, 1), RB_ERR_STALE);
    assert_int_equal(rb_transport_close(h.shard.t, id), RB_ERR_STALE);
    rb_transport_credit(h.shard.t, id, false);
    rb_transport_set_user(h.shard.t, id, &h);
    shut_hand(&h);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(a_write_without_a_reader_times_out),
        cmocka_unit_test(a_read_without_bytes_times_out),
        cmocka_unit_test(sends_work_after_the_programs_orderly_end),
        cmocka_unit_test(a_send_to_a_program_that_left_fails),
        cmocka_unit_test(the_descriptor_tells_when_to_go_on),
        cmocka_unit_test(connecting_has_bounds),
        cmocka_unit_test(the_end_of_the_shard_reaches_who_was_not_accepted),
        cmocka_unit_test(accept_refuses_beyond_the_budget),
        cmocka_unit_test(a_strange_ring_is_refused),
        cmocka_unit_test(streams_pass_whole_through_small_rings),
        cmocka_unit_test(round_trips_lose_no_wake),
        cmocka_unit_test(shutdown_ends_a_read_that_waits),
        cmocka_unit_test(the_shard_may_end_amid_everything),
        cmocka_unit_test(an_idle_pipe_lets_the_base_sleep),
        cmocka_unit_test(a_busy_base_starves_nobody),
        cmocka_unit_test(ids_of_no_member_are_stale),
    };
    int failed_count = suite_run(&pipe_suite);
    failed_count += suite_run(&two_suite);
    failed_count +=
        cmocka_run_group_tests_name("pipes and mux over epoll: their own", cases, NULL, NULL);
    over_uring = true;
    return failed_count +
           cmocka_run_group_tests_name("pipes and mux over io_uring: their own", cases, NULL, NULL);
}
