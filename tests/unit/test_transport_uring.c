/* test_transport_uring.c - the contract suite over io_uring; then slots, the ring, and what only
 * real sockets, several members or a short supply of descriptors, buffers and memory show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ringbus/bounds.h"
#include "ringbus/ring.h"
#include "transport/slot.h"
#include "transport/uring/uring.h"
#include "transport_suite.h"

#define ROUNDS_MAX 5000
#define MS 1000000L

/* ---- a member: ring, budget, transport ---- */

struct member {
    struct rb_ring *ring;
    struct rb_budget budget;
    struct rb_transport *t;
};

static struct rb_ring *make_ring(uint32_t entries)
{
    char why[128];
    struct rb_ring *ring = NULL;
    struct rb_ring_options options = { .entries = entries };
    if (rb_ring_create(&options, &ring, why) != RB_OK) {
        fail_msg("%s", why);
    }
    return ring;
}

static void open_member(struct member *member, struct rb_uring_group *group, uint32_t index,
                        uint32_t recv_buffers)
{
    *member = (struct member){ .ring = make_ring(64) };
    struct rb_uring_options options = { .ring = member->ring,
                                        .group = group,
                                        .index = index,
                                        .budget = &member->budget,
                                        .recv_buffers = recv_buffers };
    assert_int_equal(rb_uring_transport_create(&options, &member->t), RB_OK);
}

/* Every byte that was counted has been given back. */
static void shut_member(struct member *member)
{
    rb_transport_destroy(member->t);
    assert_int_equal(member->budget.used_bytes, 0);
    rb_ring_destroy(member->ring);
}

/* ---- the suite's driver ---- */

struct pair {
    struct rb_uring_group *groups[2];
    struct member members[2];
};

static void open_pair(struct suite_world *ret_world)
{
    struct pair *pair = calloc(1, sizeof(*pair));
    assert_non_null(pair);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rb_uring_group_create(1, &pair->groups[i]), RB_OK);
        open_member(&pair->members[i], pair->groups[i], 0, 0);
    }
    *ret_world = (struct suite_world){ .server = pair->members[0].t,
                                       .client = pair->members[1].t,
                                       .listen_addr = { .family = 4, .ip = { 127, 0, 0, 1 } },
                                       .poll_timeout_ns = MS,
                                       .ctx = pair };
}

static void shut_pair(struct suite_world *world)
{
    struct pair *pair = world->ctx;
    for (int i = 0; i < 2; i++) {
        shut_member(&pair->members[i]);
        rb_uring_group_destroy(pair->groups[i]);
    }
    free(pair);
}

static const struct suite_driver uring_driver = { .name = "io_uring: the contract",
                                                  .open = open_pair,
                                                  .shut = shut_pair };

/* ---- slots ---- */

static void slots_find_only_the_current_generation(void **state)
{
    struct rb_budget budget = { 0 };
    struct rb_slots slots;
    rb_slots_init(&slots, &budget, sizeof(struct rb_slot) + 40);
    struct rb_slot *first = rb_slots_acquire(&slots);
    assert_non_null(first);
    struct rb_conn_id id = first->id;
    assert_int_not_equal(id.generation, 0);
    assert_ptr_equal(rb_slots_find(&slots, id), first);
    rb_slots_release(&slots, first);
    assert_null(rb_slots_find(&slots, id));
    struct rb_slot *second = rb_slots_acquire(&slots);
    assert_int_equal(second->id.slot, id.slot);
    assert_int_not_equal(second->id.generation, id.generation);
    assert_null(rb_slots_find(&slots, id));
    assert_null(rb_slots_find(&slots, (struct rb_conn_id){ .slot = 1, .generation = 1 }));
    assert_null(rb_slots_find(&slots, (struct rb_conn_id){ .slot = UINT32_MAX, .generation = 1 }));
    rb_slots_release(&slots, second);
    rb_slots_deinit(&slots);
    assert_int_equal(budget.used_bytes, 0);
}

static void slots_grow_without_moving(void **state)
{
    enum { COUNT = 1000 };
    struct rb_budget budget = { 0 };
    struct rb_slots slots;
    struct rb_slot *all[COUNT];
    rb_slots_init(&slots, &budget, 200);
    for (uint32_t i = 0; i < COUNT; i++) {
        all[i] = rb_slots_acquire(&slots);
        assert_non_null(all[i]);
        all[i]->user = all[i];
    }
    assert_int_equal(slots.used_count, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(rb_slots_find(&slots, all[i]->id), all[i]);
        assert_ptr_equal(all[i]->user, all[i]);
        rb_slots_release(&slots, all[i]);
    }
    rb_slots_deinit(&slots);
    assert_int_equal(budget.used_bytes, 0);
}

static void slots_refuse_beyond_the_budget(void **state)
{
    struct rb_budget budget = { .limit_bytes = 100000 };
    struct rb_slots slots;
    rb_slots_init(&slots, &budget, 200);
    struct rb_slot *taken[1000];
    uint32_t count = 0;
    while (count < 1000 && (taken[count] = rb_slots_acquire(&slots)) != NULL) {
        count++;
    }
    assert_in_range(count, 64, 500);
    assert_true(budget.refused_count > 0);
    rb_slots_release(&slots, taken[0]);
    taken[0] = rb_slots_acquire(&slots);
    assert_non_null(taken[0]);
    while (count > 0) {
        rb_slots_release(&slots, taken[--count]);
    }
    rb_slots_deinit(&slots);
    assert_int_equal(budget.used_bytes, 0);
}

/* ---- the ring ---- */

struct tally {
    uint32_t count;
    uint64_t next; /* data is expected to count up */
    int32_t res;
};

static void on_tally(void *ctx, uint64_t data, int32_t res, uint32_t flags)
{
    struct tally *tally = ctx;
    assert_int_equal(data, tally->next++);
    tally->count++;
    tally->res = res;
}

/* More than the submission and the completion queue hold: nothing is lost, order is kept. */
static void ring_takes_more_entries_than_its_queues(void **state)
{
    struct rb_ring *ring = make_ring(8);
    struct tally tally = { 0 };
    rb_ring_register(ring, 3, on_tally, &tally);
    for (uint64_t i = 0; i < 100; i++) {
        rb_ring_sqe(ring, 3, i)->opcode = IORING_OP_NOP;
    }
    uint32_t handed = 0;
    for (int round = 0; round < 20 && handed < 100; round++) {
        uint32_t count = rb_ring_wait(ring, MS, 10);
        assert_true(count <= 10);
        handed += count;
    }
    assert_int_equal(handed, 100);
    assert_int_equal(tally.count, 100);
    assert_int_equal(rb_ring_wait(ring, 0, 10), 0);
    rb_ring_destroy(ring);
}

static void ring_separates_kinds(void **state)
{
    struct rb_ring *ring = make_ring(8);
    struct tally a = { 0 }, b = { .next = (UINT64_C(1) << 56) - 1 };
    rb_ring_register(ring, 0, on_tally, &a);
    rb_ring_register(ring, 15, on_tally, &b);
    rb_ring_sqe(ring, 0, 0)->opcode = IORING_OP_NOP;
    rb_ring_sqe(ring, 15, (UINT64_C(1) << 56) - 1)->opcode = IORING_OP_NOP;
    rb_ring_sqe(ring, 7, 5)->opcode = IORING_OP_NOP; /* nobody's */
    assert_int_equal(rb_ring_wait(ring, MS, 10), 3);
    assert_int_equal(a.count, 1);
    assert_int_equal(b.count, 1);
    rb_ring_destroy(ring);
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Waiting is sleeping: time passes, the processor does not notice. */
static void ring_waits_asleep_until_the_timeout(void **state)
{
    struct rb_ring *ring = make_ring(8);
    double begin = seconds(CLOCK_MONOTONIC), cpu_begin = seconds(CLOCK_THREAD_CPUTIME_ID);
    assert_int_equal(rb_ring_wait(ring, 100 * MS, 10), 0);
    assert_true(seconds(CLOCK_MONOTONIC) - begin >= 0.099);
    assert_true(seconds(CLOCK_THREAD_CPUTIME_ID) - cpu_begin < 0.05);
    begin = seconds(CLOCK_MONOTONIC);
    assert_int_equal(rb_ring_wait(ring, 0, 10), 0);
    assert_true(seconds(CLOCK_MONOTONIC) - begin < 0.05);
    rb_ring_destroy(ring);
}

static void ring_reports_what_the_kernel_offers(void **state)
{
    struct rb_ring *ring = make_ring(8);
    const struct rb_ring_features *features = rb_ring_features(ring);
    assert_true(features->buf_ring && features->accept_multishot && features->recv_multishot);
    assert_true(features->msg_ring);
    assert_true(rb_ring_fd(ring) >= 0);
    rb_ring_destroy(ring);
}

/* No descriptor is left: refused with words, nothing leaks, and it works again afterwards. */
static void ring_refusal_is_explained(void **state)
{
    struct rlimit before, none;
    getrlimit(RLIMIT_NOFILE, &before);
    none = (struct rlimit){ .rlim_cur = 3, .rlim_max = before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    char why[128];
    struct rb_ring *ring = NULL;
    struct rb_ring_options options = { .entries = 8 };
    enum rb_err err = rb_ring_create(&options, &ring, why);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(err, RB_ERR_LIMIT);
    assert_non_null(strstr(why, "descriptor"));
    rb_ring_destroy(make_ring(8));
}

/* What a container's seccomp profile does to a process, done to a child. */
static int create_while_refused(int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = 4, .filter = filter };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        return 100;
    }
    char why[128];
    struct rb_ring *ring = NULL;
    struct rb_ring_options options = { .entries = 8 };
    enum rb_err err = rb_ring_create(&options, &ring, why);
    return strstr(why, error == EPERM ? "refused" : "no io_uring") == NULL ? 101 : (int)err;
}

static void ring_refused_by_the_system_is_unsupported(void **state)
{
    static const int errors[] = { EPERM, ENOSYS };
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            _exit(create_while_refused(errors[i]));
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), RB_ERR_UNSUPPORTED);
    }
}

/* ---- one member against raw sockets ---- */

#define CROWD (RB_EVENTS_MAX + 200) /* more connections than one turn has events for */

struct raw {
    struct rb_uring_group *group;
    struct member member;
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
    assert_int_equal(rb_uring_group_create(1, &raw->group), RB_OK);
    open_member(&raw->member, raw->group, 0, recv_buffers);
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
    rb_uring_group_destroy(raw->group);
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

static void a_strange_number_of_buffers_is_refused(void **state)
{
    struct rb_uring_group *group;
    assert_int_equal(rb_uring_group_create(1, &group), RB_OK);
    struct rb_budget budget = { 0 };
    struct rb_uring_options options = {
        .ring = make_ring(8), .group = group, .budget = &budget, .recv_buffers = 48
    };
    struct rb_transport *t;
    assert_int_equal(rb_uring_transport_create(&options, &t), RB_ERR_INVALID);
    rb_ring_destroy(options.ring);
    rb_uring_group_destroy(group);
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

/* ---- several members, a thread each ---- */

#define MEMBERS 3
#define SPREAD_CONNS 90

struct team;
struct worker {
    struct team *team;
    uint32_t index;
    pthread_t thread;
    struct member member;
    uint32_t accepted_count, closed_count, echoed_count;
};

struct team {
    struct rb_uring_group *group;
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
    open_member(&worker->member, team->group, worker->index, 0);
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
    assert_int_equal(rb_uring_group_create(MEMBERS, &team->group), RB_OK);
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
    rb_uring_group_destroy(team->group);
    free(team);
}

/* A member whose ring is gone gets no connections: the one that accepted keeps them. */
static void spread_keeps_what_nobody_else_takes(void **state)
{
    struct rb_uring_group *group;
    struct member members[2];
    assert_int_equal(rb_uring_group_create(2, &group), RB_OK);
    open_member(&members[0], group, 0, 0);
    open_member(&members[1], group, 1, 0);
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
    rb_uring_group_destroy(group);
}

/* Two members pass a baton by waking each other; a lost wake would stop them. */
struct baton {
    struct rb_uring_group *group;
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
    struct member member;
    struct rb_event *events;
    open_member(&member, baton->group, runner->index, 0);
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
    assert_int_equal(rb_uring_group_create(2, &baton.group), RB_OK);
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
    rb_uring_group_destroy(baton.group);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(slots_find_only_the_current_generation),
        cmocka_unit_test(slots_grow_without_moving),
        cmocka_unit_test(slots_refuse_beyond_the_budget),
        cmocka_unit_test(ring_takes_more_entries_than_its_queues),
        cmocka_unit_test(ring_separates_kinds),
        cmocka_unit_test(ring_waits_asleep_until_the_timeout),
        cmocka_unit_test(ring_reports_what_the_kernel_offers),
        cmocka_unit_test(ring_refusal_is_explained),
        cmocka_unit_test(ring_refused_by_the_system_is_unsupported),
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
        cmocka_unit_test(a_strange_number_of_buffers_is_refused),
        cmocka_unit_test(idle_is_asleep),
        cmocka_unit_test(spread_deals_connections_to_every_member),
        cmocka_unit_test(spread_keeps_what_nobody_else_takes),
        cmocka_unit_test(wakes_are_not_lost),
    };
    int failed_count = suite_run(&uring_driver);
    return failed_count + cmocka_run_group_tests_name("io_uring: its own", cases, NULL, NULL);
}
