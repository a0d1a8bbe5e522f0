/* test_uring_refused.c - what a container's seccomp profile does to a process, done to children:
 * io_uring is refused in words, and epoll serves, also where the profile does not know epoll_pwait2
 * either. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ringbus/ring.h"
#include "transport/epoll/epoll.h"

#define MS 1000000L
#define ROUNDS_MAX 1000

/* Exit codes of the children, beside enum rb_err. */
enum { CHILD_NO_FILTER = 100, CHILD_UNCLEAR, CHILD_NOT_SERVED, CHILD_NO_WAIT };

/* `call` gives `error` in this process from now on. */
static bool refuse(uint32_t call, int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof(filter) / sizeof(filter[0]), .filter = filter };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Runs `child` in a process of its own; returns its exit code. */
static int in_child(int (*child)(int error), int error)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(child(error));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int create_ring(int error)
{
    if (!refuse(__NR_io_uring_setup, error)) {
        return CHILD_NO_FILTER;
    }
    char why[128];
    struct rb_ring *ring = NULL;
    struct rb_ring_options options = { .entries = 8 };
    enum rb_err err = rb_ring_create(&options, &ring, why);
    const char *said = error == ENOSYS ? "no io_uring" : "is refused";
    const char *name = error == ENOSYS ? "ENOSYS" : error == EPERM ? "EPERM" : "EACCES";
    bool clear = strstr(why, said) != NULL && strstr(why, name) != NULL;
    return ring == NULL && clear ? (int)err : CHILD_UNCLEAR;
}

static void a_refused_ring_says_why(void **state)
{
    assert_int_equal(in_child(create_ring, EPERM), RB_ERR_UNSUPPORTED);
    assert_int_equal(in_child(create_ring, EACCES), RB_ERR_UNSUPPORTED);
    assert_int_equal(in_child(create_ring, ENOSYS), RB_ERR_UNSUPPORTED);
}

/* A connection of the transport to itself, and five bytes over it. */
static bool talks_to_itself(struct rb_transport *t)
{
    struct rb_listen_options options = { .addr = { .family = 4, .ip = { 127, 0, 0, 1 } } };
    struct rb_addr bound;
    uint32_t listener;
    struct rb_conn_id conn;
    struct rb_slice hello = RB_S("hello");
    if (rb_transport_listen(t, &options, &listener, &bound) != RB_OK ||
        rb_transport_connect(t, &bound, &conn) != RB_OK) {
        return false;
    }
    size_t received_bytes = 0;
    for (uint32_t round = 0; round < ROUNDS_MAX && received_bytes < hello.len; round++) {
        struct rb_event *events;
        uint32_t count = rb_transport_poll(t, MS, &events);
        for (uint32_t i = 0; i < count; i++) {
            if (events[i].kind == RB_EVENT_CONNECTED &&
                rb_transport_send(t, events[i].conn, &hello, 1) != RB_OK) {
                return false;
            }
            received_bytes += events[i].kind == RB_EVENT_RECEIVED ? events[i].bytes.len : 0;
        }
    }
    return received_bytes == hello.len;
}

static bool waits_for(struct rb_transport *t, int64_t timeout_ns)
{
    struct timespec begin, end;
    struct rb_event *events;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (rb_transport_poll(t, 0, &events) > 0) {
    }
    uint32_t count = rb_transport_poll(t, timeout_ns, &events);
    clock_gettime(CLOCK_MONOTONIC, &end);
    int64_t passed_ns =
        (end.tv_sec - begin.tv_sec) * 1000 * MS + (int64_t)(end.tv_nsec - begin.tv_nsec);
    return count == 0 && passed_ns >= timeout_ns && passed_ns < timeout_ns + 2000 * MS;
}

/* `error` 0: only io_uring is refused. */
static int serve_over_epoll(int error)
{
    if (!refuse(__NR_io_uring_setup, EPERM) || (error != 0 && !refuse(__NR_epoll_pwait2, error))) {
        return CHILD_NO_FILTER;
    }
    struct rb_epoll_group *group = NULL;
    struct rb_transport *t = NULL;
    enum rb_err err = rb_epoll_group_create(1, &group);
    if (err != RB_OK) {
        return (int)err;
    }
    struct rb_epoll_options options = { .group = group };
    err = rb_epoll_transport_create(&options, &t);
    if (err != RB_OK) {
        return (int)err;
    }
    int code = !talks_to_itself(t)          ? CHILD_NOT_SERVED
               : !waits_for(t, 20 * MS + 1) ? CHILD_NO_WAIT
                                            : RB_OK;
    rb_transport_destroy(t);
    rb_epoll_group_destroy(group);
    return code;
}

static void epoll_serves_instead(void **state)
{
    assert_int_equal(in_child(serve_over_epoll, 0), RB_OK);
    assert_int_equal(in_child(serve_over_epoll, ENOSYS), RB_OK);
    assert_int_equal(in_child(serve_over_epoll, EPERM), RB_OK);
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(a_refused_ring_says_why),
        cmocka_unit_test(epoll_serves_instead),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
