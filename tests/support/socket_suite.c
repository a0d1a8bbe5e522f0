/* socket_suite.c - one driver over kernel sockets against raw sockets and threads. */
#include "socket_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "ringbus/bounds.h"

#define ROUNDS_MAX 5000
#define MS 1000000L

static const struct socket_driver *running;

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Every byte that was counted has been given back. */
static void shut_member(struct socket_member *member)
{
    running->member_shut(member);
    assert_int_equal(member->budget.used_bytes, 0);
}

/* ---- the world of the contract suite ---- */

struct pair {
    const struct socket_driver *driver;
    void *groups[2];
    struct socket_member members[2];
};

void socket_pair_open(const struct socket_driver *driver, struct suite_world *ret_world)
{
    struct pair *pair = calloc(1, sizeof(*pair));
    assert_non_null(pair);
    pair->driver = driver;
    for (int i = 0; i < 2; i++) {
        pair->groups[i] = driver->group_create(1);
        driver->member_open(&pair->members[i], pair->groups[i], 0, 0);
    }
    *ret_world = (struct suite_world){ .server = pair->members[0].t,
                                       .client = pair->members[1].t,
                                       .listen_addr = { .family = 4, .ip = { 127, 0, 0, 1 } },
                                       .poll_timeout_ns = MS / 4,
                                       .ctx = pair };
}

void socket_pair_shut(struct suite_world *world)
{
    struct pair *pair = world->ctx;
    for (int i = 0; i < 2; i++) {
        pair->driver->member_shut(&pair->members[i]);
        assert_int_equal(pair->members[i].budget.used_bytes, 0);
        pair->driver->group_destroy(pair->groups[i]);
    }
    free(pair);
}

/* ---- one member against raw sockets ---- */

#define CROWD (RB_EVENTS_MAX + 200) /* more connections than one turn has events for */

struct raw {
    void *group;
    struct socket_member member;
    uint32_t listener;
    struct rb_addr bound;
    uint32_t accepted_count, failed_count, closed_count, accept_failed_count, sent_count;
    enum rb_err accept_failed_err, failed_err, sent_err;
    uint64_t received_bytes;
    bool close_on_failed;
    struct rb_conn_id last, all[CROWD];
    struct rb_addr last_peer;
};

static void open_raw(struct raw *raw, uint32_t recv_buffers, struct rb_addr addr)
{
    *raw = (struct raw){ .close_on_failed = true };
    raw->group = running->group_create(1);
    running->member_open(&raw->member, raw->group, 0, recv_buffers);
    struct rb_listen_options options = { .addr = addr };
    assert_int_equal(rb_transport_listen(raw->member.t, &options, &raw->listener, &raw->bound),
                     RB_OK);
}

static void open_raw_v4(struct raw *raw, uint32_t recv_buffers)
{
    open_raw(raw, recv_buffers, (struct rb_addr){ .family = 4, .ip = { 127, 0, 0, 1 } });
}

static void shut_raw(struct raw *raw)
{
    shut_member(&raw->member);
    running->group_destroy(raw->group);
}

static void raw_event(struct raw *raw, const struct rb_event *event)
{
    switch (event->kind) {
    case RB_EVENT_ACCEPTED:
        assert_true(raw->accepted_count < CROWD);
        raw->all[raw->accepted_count++] = event->conn;
        raw->last = event->conn;
        raw->last_peer = event->peer;
        break;
    case RB_EVENT_RECEIVED:
        raw->received_bytes += event->bytes.len;
        break;
    case RB_EVENT_FAILED:
        raw->failed_count++;
        raw->failed_err = event->err;
        if (raw->close_on_failed) {
            assert_int_equal(rb_transport_close(raw->member.t, event->conn), RB_OK);
        }
        break;
    case RB_EVENT_SENT:
        raw->sent_count++;
        raw->sent_err = event->err;
        break;
    case RB_EVENT_CLOSED:
        raw->closed_count++;
        break;
    case RB_EVENT_ACCEPT_FAILED:
        raw->accept_failed_count++;
        raw->accept_failed_err = event->err;
        assert_int_equal(event->listener, raw->listener);
        break;
    case RB_EVENT_CONNECTED:
        fail_msg("nobody connected");
    }
}

static void poll_raw(struct raw *raw, int64_t timeout_ns)
{
    struct rb_event *events = NULL;
    uint32_t count = rb_transport_poll(raw->member.t, timeout_ns, &events);
    assert_true(count <= RB_EVENTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        raw_event(raw, &events[i]);
    }
}

#define POLL_UNTIL(raw, what)                                                                      \
    for (uint32_t round_ = 0; !(what); round_++) {                                                 \
        if (round_ == ROUNDS_MAX) {                                                                \
            fail_msg("never came true: %s", #what);                                                \
        }                                                                                          \
        poll_raw(raw, MS);                                                                         \
    }

static int dial(const struct rb_addr *addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_port = htons(addr->port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    return fd;
}

static void reset(int fd)
{
    struct linger now = { .l_onoff = 1 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}

static void a_reset_is_told_as_reset(void **state)
{
    struct raw raw;
    open_raw_v4(&raw, 0);
    int fd = dial(&raw.bound);
    POLL_UNTIL(&raw, raw.accepted_count == 1);
    reset(fd);
    POLL_UNTIL(&raw, raw.closed_count == 1);
    assert_int_equal(raw.failed_count, 1);
    assert_int_equal(raw.failed_err, RB_ERR_RESET);
    shut_raw(&raw);
}

/* A client that ends its side still gets what it asked for. */
static void sends_work_after_the_peers_orderly_end(void **state)
{
    struct raw raw;
    open_raw_v4(&raw, 0);
    raw.close_on_failed = false;
    int fd = dial(&raw.bound);
    assert_int_equal(write(fd, "PING\r\n", 6), 6);
    shutdown(fd, SHUT_WR);
    POLL_UNTIL(&raw, raw.failed_count == 1);
    assert_int_equal(raw.failed_err, RB_OK);
    assert_int_equal(raw.received_bytes, 6);
    struct rb_slice pong = RB_S("PONG\r\n");
    assert_int_equal(rb_transport_send(raw.member.t, raw.last, &pong, 1), RB_OK);
    POLL_UNTIL(&raw, raw.sent_count == 1);
    assert_int_equal(raw.sent_err, RB_OK);
    assert_int_equal(rb_transport_close(raw.member.t, raw.last), RB_OK);
    POLL_UNTIL(&raw, raw.closed_count == 1);
    char reply[16];
    assert_int_equal(read(fd, reply, sizeof(reply)), 6);
    assert_memory_equal(reply, "PONG\r\n", 6);
    assert_int_equal(read(fd, reply, sizeof(reply)), 0);
    close(fd);
    shut_raw(&raw);
}

/* A send that meets a reset: SENT with the error and one FAILED, also without receive credit. */
static void a_send_into_a_reset_fails_once(void **state)
{
    struct raw raw;
    open_raw_v4(&raw, 0);
    raw.close_on_failed = false;
    int fd = dial(&raw.bound);
    POLL_UNTIL(&raw, raw.accepted_count == 1);
    rb_transport_credit(raw.member.t, raw.last, false);
    poll_raw(&raw, MS);
    reset(fd);
    struct rb_slice word = RB_S("word");
    enum rb_err err = rb_transport_send(raw.member.t, raw.last, &word, 1);
    assert_int_equal(err, RB_OK);
    POLL_UNTIL(&raw, raw.failed_count == 1);
    assert_int_equal(raw.sent_count, 1);
    assert_int_equal(raw.sent_err, RB_ERR_RESET);
    assert_int_equal(rb_transport_send(raw.member.t, raw.last, &word, 1), RB_ERR_RESET);
    assert_int_equal(rb_transport_close(raw.member.t, raw.last), RB_OK);
    POLL_UNTIL(&raw, raw.closed_count == 1);
    assert_int_equal(raw.failed_count, 1);
    shut_raw(&raw);
}

/* A peer that neither reads nor ends cannot hold a closed connection for long. */
static void a_silent_peer_is_closed_in_bounded_time(void **state)
{
    struct raw raw;
    open_raw_v4(&raw, 0);
    int fd = dial(&raw.bound);
    POLL_UNTIL(&raw, raw.accepted_count == 1);
    double begin = seconds(CLOCK_MONOTONIC);
    assert_int_equal(rb_transport_close(raw.member.t, raw.last), RB_OK);
    POLL_UNTIL(&raw, raw.closed_count == 1);
    assert_true(seconds(CLOCK_MONOTONIC) - begin < 1.0);
    assert_int_equal(raw.failed_count, 0);
    close(fd);
    shut_raw(&raw);
}

/* Two buffers for 200 connections that all have bytes: everybody is served, everything arrives. */
static void few_buffers_serve_many_connections(void **state)
{
    enum { COUNT = 200, BYTES = 100000 };
    struct raw raw;
    open_raw_v4(&raw, 2);
    int *fds = calloc(COUNT, sizeof(*fds));
    uint8_t *block = calloc(1, BYTES);
    uint64_t written = 0;
    for (int i = 0; i < COUNT; i++) {
        fds[i] = dial(&raw.bound);
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
        ssize_t n = write(fds[i], block, BYTES);
        assert_true(n > 0);
        written += (uint64_t)n;
    }
    for (uint32_t round = 0; raw.received_bytes < written; round++) {
        assert_true(round < 100000);
        poll_raw(&raw, MS);
    }
    assert_int_equal(raw.received_bytes, written);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(write(fds[i], "x", 1), 1); /* every receive is armed again */
        close(fds[i]);
    }
    POLL_UNTIL(&raw, raw.closed_count == COUNT);
    assert_int_equal(raw.received_bytes, written + COUNT);
    free(block);
    free(fds);
    shut_raw(&raw);
}

/* Every connection owes two events at once, SENT and FAILED: they come over several turns. */
static void a_crowd_is_served_over_several_turns(void **state)
{
    struct raw raw;
    open_raw_v4(&raw, 0);
    int *fds = calloc(CROWD, sizeof(*fds));
    for (int i = 0; i < CROWD; i++) {
        fds[i] = dial(&raw.bound);
    }
    POLL_UNTIL(&raw, raw.accepted_count == CROWD);
    struct rb_slice word = RB_S("word");
    for (int i = 0; i < CROWD; i++) {
        rb_transport_credit(raw.member.t, raw.all[i], false);
    }
    poll_raw(&raw, 10 * MS);
    for (int i = 0; i < CROWD; i++) {
        reset(fds[i]);
        assert_int_equal(rb_transport_send(raw.member.t, raw.all[i], &word, 1), RB_OK);
    }
    POLL_UNTIL(&raw, raw.closed_count == CROWD);
    assert_int_equal(raw.failed_count, CROWD);
    assert_int_equal(raw.sent_count, CROWD);
    free(fds);
    shut_raw(&raw);
}

/* Takes every descriptor below the limit; returns how many. */
static int use_up_descriptors(int *fds, int cap)
{
    int count = 0;
    while (count < cap && (fds[count] = dup(0)) >= 0) {
        count++;
    }
    assert_true(count < cap);
    return count;
}

/* Descriptors run out: told once per pause, no busy loop; who waits is served later. */
static void accept_survives_a_shortage_of_descriptors(void **state)
{
    struct raw raw;
    struct rlimit before, low;
    getrlimit(RLIMIT_NOFILE, &before);
    low = (struct rlimit){ .rlim_cur = 128, .rlim_max = before.rlim_max };
    setrlimit(RLIMIT_NOFILE, &low); /* before the accept is armed: the kernel notes it then */
    open_raw_v4(&raw, 0);
    int fd = dial(&raw.bound);
    POLL_UNTIL(&raw, raw.accepted_count == 1);
    int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), others[128];
    int other_count = use_up_descriptors(others, 128);
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_port = htons(raw.bound.port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(connect(late, (struct sockaddr *)&in, sizeof(in)), 0);
    double begin = seconds(CLOCK_MONOTONIC);
    uint32_t polls = 0;
    for (; seconds(CLOCK_MONOTONIC) - begin < 0.3; polls++) {
        poll_raw(&raw, 20 * MS);
    }
    while (other_count > 0) {
        close(others[--other_count]);
    }
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(raw.accept_failed_err, RB_ERR_LIMIT);
    assert_in_range(raw.accept_failed_count, 2, 8); /* at 0, 10, 30, 70, 150, 310 ms */
    assert_true(polls < 100);
    POLL_UNTIL(&raw, raw.accepted_count == 2);
    close(late);
    close(fd);
    POLL_UNTIL(&raw, raw.closed_count == 2);
    shut_raw(&raw);
}

/* Without memory for a slot the connection is refused, not half made. */
static void accept_refuses_beyond_the_budget(void **state)
{
    struct raw raw;
    open_raw_v4(&raw, 0);
    raw.member.budget.limit_bytes = 1;
    int fd = dial(&raw.bound);
    POLL_UNTIL(&raw, raw.accept_failed_count == 1);
    assert_int_equal(raw.accept_failed_err, RB_ERR_MEMORY);
    char byte;
    assert_int_equal(read(fd, &byte, 1), 0);
    close(fd);
    raw.member.budget.limit_bytes = 0;
    fd = dial(&raw.bound);
    POLL_UNTIL(&raw, raw.accepted_count == 1);
    close(fd);
    POLL_UNTIL(&raw, raw.closed_count == 1);
    shut_raw(&raw);
}

static void a_wildcard_v6_listener_takes_v4(void **state)
{
    struct raw raw;
    open_raw(&raw, 0, (struct rb_addr){ .family = 6 });
    int fd = dial(&raw.bound);
    POLL_UNTIL(&raw, raw.accepted_count == 1);
    assert_int_equal(raw.last_peer.family, 4);
    assert_int_equal(raw.last_peer.ip[0], 127);
    close(fd);
    POLL_UNTIL(&raw, raw.closed_count == 1);
    shut_raw(&raw);
}

static void listening_reports_what_is_wrong(void **state)
{
    struct raw raw;
    open_raw_v4(&raw, 0);
    struct rb_addr bound;
    uint32_t listener;
    struct rb_listen_options options = { .addr = { .family = 0 } };
    assert_int_equal(rb_transport_listen(raw.member.t, &options, &listener, &bound),
                     RB_ERR_ADDRESS);
    options.addr = (struct rb_addr){ .family = 4, .ip = { 203, 0, 113, 7 } };
    assert_int_equal(rb_transport_listen(raw.member.t, &options, &listener, &bound),
                     RB_ERR_ADDRESS);
    options.addr = (struct rb_addr){ .family = 4, .ip = { 127, 0, 0, 1 } };
    enum rb_err err = RB_OK;
    for (int i = 0; i < 100 && err == RB_OK; i++) {
        err = rb_transport_listen(raw.member.t, &options, &listener, &bound);
    }
    assert_int_equal(err, RB_ERR_LIMIT);
    shut_raw(&raw);
}

/* An idle transport with open connections sleeps; a turn without work costs no processor time. */
static void idle_is_asleep(void **state)
{
    struct raw raw;
    open_raw_v4(&raw, 0);
    int fds[10];
    for (int i = 0; i < 10; i++) {
        fds[i] = dial(&raw.bound);
    }
    POLL_UNTIL(&raw, raw.accepted_count == 10);
    poll_raw(&raw, 10 * MS);
    double cpu_begin = seconds(CLOCK_THREAD_CPUTIME_ID), begin = seconds(CLOCK_MONOTONIC);
    poll_raw(&raw, 200 * MS);
    assert_true(seconds(CLOCK_MONOTONIC) - begin >= 0.19);
    assert_true(seconds(CLOCK_THREAD_CPUTIME_ID) - cpu_begin < 0.1);
    for (int i = 0; i < 10; i++) {
        close(fds[i]);
    }
    POLL_UNTIL(&raw, raw.closed_count == 10);
    shut_raw(&raw);
}

/* ---- Unix-domain sockets ---- */

struct folder {
    char path[64], socket[96];
};

static void make_folder(struct folder *folder)
{
    snprintf(folder->path, sizeof(folder->path), "/tmp/ringbus-test-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
    snprintf(folder->socket, sizeof(folder->socket), "%s/socket", folder->path);
}

static void remove_folder(struct folder *folder)
{
    (void)unlink(folder->socket);
    assert_int_equal(rmdir(folder->path), 0);
}

static enum rb_err listen_at(struct raw *raw, const char *path, uint32_t *ret_listener)
{
    struct rb_listen_options options = { .unix_path = path };
    struct rb_addr bound;
    return rb_transport_listen(raw->member.t, &options, ret_listener, &bound);
}

static int unix_socket(const char *path, bool listens)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (listens) {
        assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
        assert_int_equal(listen(fd, 4), 0);
    } else {
        assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    }
    return fd;
}

static void a_unix_listener_serves_and_cleans_up(void **state)
{
    struct folder folder;
    make_folder(&folder);
    struct raw raw;
    open_raw_v4(&raw, 0);
    mode_t mask = umask(0);
    assert_int_equal(listen_at(&raw, folder.socket, &raw.listener), RB_OK);
    umask(mask);
    struct stat file;
    assert_int_equal(stat(folder.socket, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0660);
    int fd = unix_socket(folder.socket, false);
    POLL_UNTIL(&raw, raw.accepted_count == 1);
    assert_int_equal(raw.last_peer.family, 0);
    char text[RB_ADDR_TEXT_MAX];
    assert_string_equal(rb_addr_format(&raw.last_peer, text), "pipe");
    assert_int_equal(write(fd, "PING\r\n", 6), 6);
    POLL_UNTIL(&raw, raw.received_bytes == 6);
    struct rb_slice pong[2] = { RB_S("PO"), RB_S("NG\r\n") };
    assert_int_equal(rb_transport_send(raw.member.t, raw.last, pong, 2), RB_OK);
    POLL_UNTIL(&raw, raw.sent_count == 1);
    char reply[16];
    assert_int_equal(read(fd, reply, sizeof(reply)), 6);
    close(fd);
    POLL_UNTIL(&raw, raw.closed_count == 1);
    assert_int_equal(raw.failed_err, RB_OK);
    rb_transport_unlisten(raw.member.t, raw.listener);
    assert_int_equal(stat(folder.socket, &file), -1);
    shut_raw(&raw);
    remove_folder(&folder);
}

/* What a killed server leaves behind does not keep the next one from starting. */
static void a_stale_socket_file_is_replaced(void **state)
{
    struct folder folder;
    make_folder(&folder);
    close(unix_socket(folder.socket, true));
    struct stat file;
    assert_int_equal(stat(folder.socket, &file), 0);
    struct raw raw;
    open_raw_v4(&raw, 0);
    assert_int_equal(listen_at(&raw, folder.socket, &raw.listener), RB_OK);
    int fd = unix_socket(folder.socket, false);
    POLL_UNTIL(&raw, raw.accepted_count == 1);
    close(fd);
    POLL_UNTIL(&raw, raw.closed_count == 1);
    shut_raw(&raw); /* destroy removes it too */
    assert_int_equal(stat(folder.socket, &file), -1);
    remove_folder(&folder);
}

static void a_living_socket_is_in_use(void **state)
{
    struct folder folder;
    make_folder(&folder);
    struct raw raw;
    open_raw_v4(&raw, 0);
    uint32_t listener;
    int other = unix_socket(folder.socket, true);
    assert_int_equal(listen_at(&raw, folder.socket, &listener), RB_ERR_IN_USE);
    close(unix_socket(folder.socket, false)); /* it is still there and works */
    close(other);
    assert_int_equal(listen_at(&raw, folder.socket, &raw.listener), RB_OK);
    assert_int_equal(listen_at(&raw, folder.socket, &listener), RB_ERR_IN_USE);
    shut_raw(&raw);
    remove_folder(&folder);
}

static void what_is_no_socket_is_left_alone(void **state)
{
    struct folder folder;
    make_folder(&folder);
    struct raw raw;
    open_raw_v4(&raw, 0);
    uint32_t listener;
    int fd = open(folder.socket, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(listen_at(&raw, folder.socket, &listener), RB_ERR_ADDRESS);
    struct stat file;
    assert_int_equal(stat(folder.socket, &file), 0);
    assert_true(S_ISREG(file.st_mode));
    assert_int_equal(listen_at(&raw, "/nowhere/at/all/socket", &listener), RB_ERR_ADDRESS);
    assert_int_equal(listen_at(&raw, "", &listener), RB_ERR_ADDRESS);
    char longest[200];
    memset(longest, 'x', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(listen_at(&raw, longest, &listener), RB_ERR_ADDRESS);
    shut_raw(&raw);
    remove_folder(&folder);
}

/* A file that took the place of ours is not ours to remove. */
static void unlisten_removes_only_its_own_file(void **state)
{
    struct folder folder;
    make_folder(&folder);
    struct raw raw;
    open_raw_v4(&raw, 0);
    uint32_t listener;
    assert_int_equal(listen_at(&raw, folder.socket, &listener), RB_OK);
    assert_int_equal(unlink(folder.socket), 0);
    int other = unix_socket(folder.socket, true);
    rb_transport_unlisten(raw.member.t, listener);
    close(unix_socket(folder.socket, false));
    close(other);
    shut_raw(&raw);
    remove_folder(&folder);
}

/* ---- several members, a thread each ---- */

#define MEMBERS 3
#define SPREAD_CONNS 90

struct team;
struct worker {
    struct team *team;
    uint32_t index;
    pthread_t thread;
    struct socket_member member;
    uint32_t accepted_count, closed_count, echoed_count;
};

struct team {
    void *group;
    pthread_barrier_t ready;
    struct rb_addr bound;
    _Atomic bool stop;
    struct worker workers[MEMBERS];
};

static void work_event(struct worker *worker, const struct rb_event *event)
{
    static const struct rb_slice hello = { (const uint8_t *)"hello", 5 };
    switch (event->kind) {
    case RB_EVENT_ACCEPTED:
        worker->accepted_count++;
        if (rb_transport_send(worker->member.t, event->conn, &hello, 1) == RB_OK) {
            worker->echoed_count++;
        }
        break;
    case RB_EVENT_FAILED:
        (void)rb_transport_close(worker->member.t, event->conn);
        break;
    case RB_EVENT_CLOSED:
        worker->closed_count++;
        break;
    default:
        break;
    }
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct team *team = worker->team;
    running->member_open(&worker->member, team->group, worker->index, 0);
    pthread_barrier_wait(&team->ready);
    if (worker->index == 0) {
        struct rb_listen_options options = { .addr = { .family = 4, .ip = { 127, 0, 0, 1 } },
                                             .spread = true };
        uint32_t listener;
        assert_int_equal(rb_transport_listen(worker->member.t, &options, &listener, &team->bound),
                         RB_OK);
    }
    pthread_barrier_wait(&team->ready);
    while (!team->stop) {
        struct rb_event *events;
        uint32_t count = rb_transport_poll(worker->member.t, 20 * MS, &events);
        for (uint32_t i = 0; i < count; i++) {
            work_event(worker, &events[i]);
        }
    }
    pthread_barrier_wait(&team->ready); /* nobody hands over to one that is gone */
    shut_member(&worker->member);
    return NULL;
}

static void spread_deals_connections_to_every_member(void **state)
{
    struct team *team = calloc(1, sizeof(*team));
    team->group = running->group_create(MEMBERS);
    pthread_barrier_init(&team->ready, NULL, MEMBERS + 1);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        team->workers[i].team = team;
        team->workers[i].index = i;
        assert_int_equal(pthread_create(&team->workers[i].thread, NULL, work, &team->workers[i]),
                         0);
    }
    pthread_barrier_wait(&team->ready);
    pthread_barrier_wait(&team->ready);
    int fds[SPREAD_CONNS];
    for (int i = 0; i < SPREAD_CONNS; i++) {
        fds[i] = dial(&team->bound);
    }
    for (int i = 0; i < SPREAD_CONNS; i++) {
        char hello[8];
        struct pollfd readable = { .fd = fds[i], .events = POLLIN };
        assert_int_equal(poll(&readable, 1, 5000), 1);
        assert_int_equal(read(fds[i], hello, sizeof(hello)), 5);
        if (i % 2 == 0) {
            close(fds[i]); /* the others are open when the members end */
        }
    }
    team->stop = true;
    pthread_barrier_wait(&team->ready);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        pthread_join(team->workers[i].thread, NULL);
        assert_int_equal(team->workers[i].accepted_count, SPREAD_CONNS / MEMBERS);
    }
    for (int i = 1; i < SPREAD_CONNS; i += 2) {
        close(fds[i]);
    }
    pthread_barrier_destroy(&team->ready);
    running->group_destroy(team->group);
    free(team);
}

/* A member whose ring is gone gets no connections: the one that accepted keeps them. */
static void spread_keeps_what_nobody_else_takes(void **state)
{
    void *group;
    struct socket_member members[2];
    group = running->group_create(2);
    running->member_open(&members[0], group, 0, 0);
    running->member_open(&members[1], group, 1, 0);
    struct rb_listen_options options = { .addr = { .family = 4, .ip = { 127, 0, 0, 1 } },
                                         .spread = true };
    uint32_t listener;
    struct rb_addr bound;
    assert_int_equal(rb_transport_listen(members[0].t, &options, &listener, &bound), RB_OK);
    shut_member(&members[1]);
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = dial(&bound);
    }
    uint32_t accepted = 0;
    for (int round = 0; round < ROUNDS_MAX && accepted < 4; round++) {
        struct rb_event *events;
        uint32_t count = rb_transport_poll(members[0].t, MS, &events);
        for (uint32_t i = 0; i < count; i++) {
            accepted += events[i].kind == RB_EVENT_ACCEPTED;
        }
    }
    assert_int_equal(accepted, 4);
    for (int i = 0; i < 4; i++) {
        close(fds[i]);
    }
    shut_member(&members[0]);
    running->group_destroy(group);
}

/* Two members pass a baton by waking each other; a lost wake would stop them. */
struct baton {
    void *group;
    pthread_barrier_t ready;
    _Atomic uint32_t turn;
};
#define BATON_TURNS 2000

struct runner {
    struct baton *baton;
    uint32_t index;
    uint32_t late_count;
    pthread_t thread;
};

static void *run_baton(void *arg)
{
    struct runner *runner = arg;
    struct baton *baton = runner->baton;
    struct socket_member member;
    struct rb_event *events;
    running->member_open(&member, baton->group, runner->index, 0);
    pthread_barrier_wait(&baton->ready);
    for (uint32_t turn; (turn = baton->turn) < BATON_TURNS;) {
        if (turn % 2 == runner->index) {
            baton->turn = turn + 1;
            rb_transport_wake(member.t, 1 - runner->index);
            rb_transport_poll(member.t, 0, &events);
            continue;
        }
        double begin = seconds(CLOCK_MONOTONIC);
        rb_transport_poll(member.t, 5000 * MS, &events);
        runner->late_count += seconds(CLOCK_MONOTONIC) - begin > 4.0;
    }
    rb_transport_wake(member.t, runner->index); /* itself: the poll returns at once */
    rb_transport_poll(member.t, -1, &events);
    pthread_barrier_wait(&baton->ready);
    shut_member(&member);
    return NULL;
}

static void wakes_are_not_lost(void **state)
{
    struct baton baton = { 0 };
    struct runner runners[2];
    baton.group = running->group_create(2);
    pthread_barrier_init(&baton.ready, NULL, 2);
    for (uint32_t i = 0; i < 2; i++) {
        runners[i] = (struct runner){ .baton = &baton, .index = i };
        assert_int_equal(pthread_create(&runners[i].thread, NULL, run_baton, &runners[i]), 0);
    }
    for (uint32_t i = 0; i < 2; i++) {
        pthread_join(runners[i].thread, NULL);
        assert_int_equal(runners[i].late_count, 0);
    }
    pthread_barrier_destroy(&baton.ready);
    running->group_destroy(baton.group);
}

/* ---- wakes from threads that have no transport ---- */

#define OUTSIDERS 3
#define OUTSIDE_WAKES 1000

struct outsider {
    void *group;
    pthread_t thread;
    _Atomic uint32_t *asked, *answered;
};

/* Each wake is answered before the next: a lost one would stop it. */
static void *wake_from_outside(void *arg)
{
    struct outsider *outsider = arg;
    for (uint32_t i = 0; i < OUTSIDE_WAKES; i++) {
        uint32_t ticket = atomic_fetch_add(outsider->asked, 1) + 1;
        running->group_wake(outsider->group, 0);
        while ((int32_t)(*outsider->answered - ticket) < 0) {
            sched_yield();
        }
    }
    return NULL;
}

static void wakes_from_outside_are_not_lost(void **state)
{
    struct socket_member member;
    struct rb_event *events;
    void *group = running->group_create(2);
    running->group_wake(group, 0); /* before the member exists: it counts */
    running->member_open(&member, group, 0, 0);
    double begin = seconds(CLOCK_MONOTONIC);
    rb_transport_poll(member.t, 5000 * MS, &events);
    assert_true(seconds(CLOCK_MONOTONIC) - begin < 4.0);
    _Atomic uint32_t asked = 0, answered = 0;
    struct outsider outsiders[OUTSIDERS];
    for (int i = 0; i < OUTSIDERS; i++) {
        outsiders[i] = (struct outsider){ .group = group, .asked = &asked, .answered = &answered };
        pthread_create(&outsiders[i].thread, NULL, wake_from_outside, &outsiders[i]);
    }
    uint32_t late_count = 0;
    while (answered < OUTSIDERS * OUTSIDE_WAKES) {
        begin = seconds(CLOCK_MONOTONIC);
        assert_int_equal(rb_transport_poll(member.t, 3000 * MS, &events), 0);
        late_count += seconds(CLOCK_MONOTONIC) - begin > 2.5;
        answered = asked;
    }
    for (int i = 0; i < OUTSIDERS; i++) {
        pthread_join(outsiders[i].thread, NULL);
    }
    assert_int_equal(late_count, 0);
    running->group_wake(group, 0); /* nobody polls it any more; nothing is left of it */
    shut_member(&member);
    running->group_wake(group, 0);
    running->group_wake(group, 1);
    running->group_destroy(group);
}

int socket_suite_run(const struct socket_driver *driver)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(a_reset_is_told_as_reset),
        cmocka_unit_test(sends_work_after_the_peers_orderly_end),
        cmocka_unit_test(a_send_into_a_reset_fails_once),
        cmocka_unit_test(a_silent_peer_is_closed_in_bounded_time),
        cmocka_unit_test(few_buffers_serve_many_connections),
        cmocka_unit_test(a_crowd_is_served_over_several_turns),
        cmocka_unit_test(accept_survives_a_shortage_of_descriptors),
        cmocka_unit_test(accept_refuses_beyond_the_budget),
        cmocka_unit_test(a_wildcard_v6_listener_takes_v4),
        cmocka_unit_test(listening_reports_what_is_wrong),
        cmocka_unit_test(idle_is_asleep),
        cmocka_unit_test(a_unix_listener_serves_and_cleans_up),
        cmocka_unit_test(a_stale_socket_file_is_replaced),
        cmocka_unit_test(a_living_socket_is_in_use),
        cmocka_unit_test(what_is_no_socket_is_left_alone),
        cmocka_unit_test(unlisten_removes_only_its_own_file),
        cmocka_unit_test(spread_deals_connections_to_every_member),
        cmocka_unit_test(spread_keeps_what_nobody_else_takes),
        cmocka_unit_test(wakes_are_not_lost),
        cmocka_unit_test(wakes_from_outside_are_not_lost),
    };
    running = driver;
    return cmocka_run_group_tests_name(driver->name, cases, NULL, NULL);
}
