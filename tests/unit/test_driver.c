/* A server's choice of driver: io_uring where it works; where a seccomp profile refuses it, epoll with one WRN line; epoll when
 * it is asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ringbus/ringbus.h"
#include "server/driver.h"

#define WAIT_NS INT64_C(20000000000)

/* Exit codes of the child. */
enum { CHILD_GOOD, CHILD_NO_FILTER, CHILD_NO_SERVER, CHILD_WRONG_DRIVER, CHILD_SILENT, CHILD_DEAF };

static bool refuse_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof(filter) / sizeof(filter[0]), .filter = filter };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void count_warnings(void *ctx, int level, const char *line)
{
    int *count = ctx;
    *count +=
        level == RB_LINE_WRN && strstr(line, "epoll") != NULL && strstr(line, "io_uring") != NULL;
}

static bool talks(struct rb_server *server)
{
    struct rb_connection *connections[2];
    char buf[4096] = "";
    size_t len = 0, count;
    for (int i = 0; i < 2; i++) { /* one on each shard */
        if (rb_server_connect(server, &connections[i]) != RB_IO_OK) {
            return false;
        }
    }
    const char *subscribe = "CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPING\r\n";
    (void)rb_connection_write(connections[0], subscribe, strlen(subscribe), WAIT_NS, NULL);
    while (len < sizeof(buf) - 1 && strstr(buf, "PONG\r\n") == NULL) {
        if (rb_connection_read(connections[0], buf + len, sizeof(buf) - 1 - len, WAIT_NS, &count) !=
            RB_IO_OK) {
            return false;
        }
        len += count;
        buf[len] = '\0';
    }
    (void)rb_connection_write(connections[1], "PUB a 2\r\nhi\r\n", 13, WAIT_NS, NULL);
    bool heard = rb_connection_read(connections[0], buf, 17, WAIT_NS, &count) == RB_IO_OK;
    rb_connection_close(connections[0]);
    rb_connection_close(connections[1]);
    return heard && memcmp(buf, "MSG a 1 2", 9) == 0;
}

static int serve(const char *text, const char *transport, int warnings)
{
    int seen = 0;
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.config_text = text;
    options.host = "127.0.0.1";
    options.port = -1;
    options.shards = 2;
    options.in_process = true;
    options.log = count_warnings;
    options.log_ctx = &seen;
    char error[256];
    struct rb_server *server = rb_server_start(&options, error, sizeof(error));
    if (server == NULL) {
        return CHILD_NO_SERVER;
    }
    int code = strcmp(rb_server_transport(server), transport) != 0 ? CHILD_WRONG_DRIVER
               : !talks(server)                                    ? CHILD_DEAF
                                                                   : CHILD_GOOD;
    rb_server_stop(server);
    return code == CHILD_GOOD && seen != warnings ? CHILD_SILENT : code;
}

static int serve_refused(void)
{
    return refuse_uring() ? serve(NULL, "epoll", 1) : CHILD_NO_FILTER;
}

static int serve_epoll(void)
{
    return refuse_uring() ? serve("transport: epoll\n", "epoll", 0) : CHILD_NO_FILTER;
}

static int in_child(int (*child)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(child());
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void where_refused_epoll_serves(void **state)
{
    assert_int_equal(in_child(serve_refused), CHILD_GOOD);
}

static void epoll_when_asked_for(void **state)
{
    assert_int_equal(in_child(serve_epoll), CHILD_GOOD);
    assert_int_equal(serve("transport: epoll\n", "epoll", 0), CHILD_GOOD);
}

static void unknown_transport(void **state)
{
    char why[RB_DRIVER_WHY_MAX];
    struct rb_log log = { .fd = -1 };
    struct rb_driver *driver = NULL;
    struct rb_driver_options options = { .shard_count = 1, .transport = "pigeons", .log = &log };
    assert_int_equal(rb_driver_create(&options, &driver, why), RB_ERR_UNSUPPORTED);
    assert_non_null(strstr(why, "pigeons"));
    assert_null(driver);
    rb_driver_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_refused_epoll_serves),
        cmocka_unit_test(epoll_when_asked_for),
        cmocka_unit_test(unknown_transport),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
