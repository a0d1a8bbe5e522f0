/* test_sdnotify.c - messages to a service manager, over a real datagram socket. */
#include "server/sdnotify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define NONE rb_slice_of(NULL, 0)

/* The manager's end: a socket at a path in a directory of its own. */
struct fixture {
    char dir[32];
    char path[64];
    int fd;
};

static int bind_name(const char *name)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    size_t len = strlen(name);
    assert_true(len <= sizeof(addr.sun_path));
    memcpy(addr.sun_path, name, len);
    if (name[0] == '@') {
        addr.sun_path[0] = '\0';
    } else {
        assert_true(len < sizeof(addr.sun_path));
        len++;
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, size), 0);
    return fd;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    snprintf(f->dir, sizeof(f->dir), "/tmp/sdnotify.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/socket", f->dir);
    f->fd = bind_name(f->path);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)close(f->fd);
    (void)unlink(f->path);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

static void assert_got(int fd, const char *wanted)
{
    char text[1024];
    ssize_t len = recv(fd, text, sizeof(text) - 1, 0);
    assert_true(len >= 0);
    text[len] = '\0';
    assert_string_equal(text, wanted);
}

static void assert_silent(int fd)
{
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
}

static void each_message_is_one_datagram(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(rb_sdnotify_ready(f->path, NONE), RB_OK);
    assert_int_equal(rb_sdnotify_ready(f->path, RB_S("serving on [::]:4222")), RB_OK);
    assert_int_equal(rb_sdnotify_reloading(f->path, UINT64_MAX), RB_OK);
    assert_int_equal(rb_sdnotify_stopping(f->path, RB_S("lame duck")), RB_OK);
    assert_int_equal(rb_sdnotify_status(f->path, RB_S("3 connections")), RB_OK);
    assert_int_equal(rb_sdnotify_status(f->path, NONE), RB_OK);
    assert_int_equal(rb_sdnotify_watchdog(f->path), RB_OK);
    assert_got(f->fd, "READY=1\n");
    assert_got(f->fd, "READY=1\nSTATUS=serving on [::]:4222\n");
    assert_got(f->fd, "RELOADING=1\nMONOTONIC_USEC=18446744073709551615\n");
    assert_got(f->fd, "STOPPING=1\nSTATUS=lame duck\n");
    assert_got(f->fd, "STATUS=3 connections\n");
    assert_got(f->fd, "STATUS=\n");
    assert_got(f->fd, "WATCHDOG=1\n");
    assert_silent(f->fd);
}

static void abstract_names(void **state)
{
    struct fixture *f = *state;
    char name[64];
    snprintf(name, sizeof(name), "@%s", f->dir);
    int fd = bind_name(name);
    assert_int_equal(rb_sdnotify_ready(name, NONE), RB_OK);
    assert_got(fd, "READY=1\n");
    assert_silent(f->fd);
    (void)close(fd);
    assert_int_equal(rb_sdnotify_ready(name, NONE), RB_ERR_ADDRESS);
}

static void nobody_to_tell(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(rb_sdnotify_ready(NULL, NONE), RB_OK);
    assert_int_equal(rb_sdnotify_reloading("", 1), RB_OK);
    assert_int_equal(rb_sdnotify_stopping(NULL, RB_S("x")), RB_OK);
    assert_int_equal(rb_sdnotify_status("", RB_S("x")), RB_OK);
    assert_int_equal(rb_sdnotify_watchdog(NULL), RB_OK);
    assert_silent(f->fd);
}

/* A name is as long as the kernel's field, and not longer: a cut name could be someone else's. */
static void names_have_a_longest(void **state)
{
    char name[110];
    memset(name, 'x', sizeof(name));
    name[0] = '@';
    name[1] = '/';
    snprintf(name + 2, 16, "%010ld", (long)getpid());
    name[12] = 'x';
    name[108] = '\0';
    int fd = bind_name(name);
    assert_int_equal(rb_sdnotify_ready(name, NONE), RB_OK);
    assert_got(fd, "READY=1\n");
    (void)close(fd);
    name[108] = 'x';
    name[109] = '\0';
    assert_int_equal(rb_sdnotify_ready(name, NONE), RB_ERR_INVALID);
    memset(name, '/', sizeof(name));
    name[107] = '\0';
    assert_int_equal(rb_sdnotify_ready(name, NONE), RB_ERR_ADDRESS); /* fits; it is a directory */
    name[107] = '/';
    name[108] = '\0';
    assert_int_equal(rb_sdnotify_ready(name, NONE), RB_ERR_INVALID);
}

static void bad_names(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(rb_sdnotify_ready("run/notify", NONE), RB_ERR_INVALID);
    assert_int_equal(rb_sdnotify_ready("/", NONE), RB_ERR_INVALID);
    assert_int_equal(rb_sdnotify_ready("@", NONE), RB_ERR_INVALID);
    assert_int_equal(rb_sdnotify_ready("vsock:2:1234", NONE), RB_ERR_UNSUPPORTED);
    char gone[80];
    snprintf(gone, sizeof(gone), "%s/gone", f->dir);
    assert_int_equal(rb_sdnotify_ready(gone, NONE), RB_ERR_ADDRESS);
}

static void a_status_is_one_line(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(rb_sdnotify_status(f->path, RB_S("a\nMAINPID=1\r\tb\x7f\0c")), RB_OK);
    assert_got(f->fd, "STATUS=a MAINPID=1  b  c\n");
}

static void a_status_is_cut(void **state)
{
    struct fixture *f = *state;
    uint8_t status[RB_SDNOTIFY_STATUS_MAX + 1];
    char wanted[RB_SDNOTIFY_STATUS_MAX + 32];
    memset(status, 's', sizeof(status));
    snprintf(wanted, sizeof(wanted), "READY=1\nSTATUS=%.*s\n", RB_SDNOTIFY_STATUS_MAX,
             (const char *)status);
    assert_int_equal(rb_sdnotify_ready(f->path, rb_slice_of(status, sizeof(status))), RB_OK);
    assert_got(f->fd, wanted);
}

/* A manager that reads nothing: the call gives up after its time, and does not hang. */
static void a_busy_manager(void **state)
{
    struct fixture *f = *state;
    int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", f->path);
    int sent = 0;
    while (sendto(sender, "x", 1, 0, (struct sockaddr *)&addr, sizeof(addr)) == 1) {
        assert_true(++sent < 100000);
    }
    struct timespec before, after;
    (void)clock_gettime(CLOCK_MONOTONIC, &before);
    assert_int_equal(rb_sdnotify_watchdog(f->path), RB_ERR_TIMEOUT);
    (void)clock_gettime(CLOCK_MONOTONIC, &after);
    int64_t ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    assert_in_range(ms, RB_SDNOTIFY_WAIT_MS - 100, RB_SDNOTIFY_WAIT_MS + 4000);
    (void)close(sender);
}

static void no_descriptor_stays(void **state)
{
    struct fixture *f = *state;
    int before = dup(f->fd);
    (void)close(before);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(rb_sdnotify_watchdog(i % 2 == 0 ? f->path : "/gone/x"),
                         i % 2 == 0 ? RB_OK : RB_ERR_ADDRESS);
        char text[16];
        (void)recv(f->fd, text, sizeof(text), 0);
    }
    int after = dup(f->fd);
    (void)close(after);
    assert_int_equal(after, before);
}

static void watchdog_intervals(void **state)
{
    static const struct {
        const char *usec, *pid;
        enum rb_err err;
        uint64_t wanted;
    } rows[] = {
        { NULL, NULL, RB_OK, 0 },
        { "", "42", RB_OK, 0 },
        { NULL, "43", RB_OK, 0 },
        { "30000000", NULL, RB_OK, 30000000 },
        { "30000000", "", RB_OK, 30000000 },
        { "30000000", "42", RB_OK, 30000000 },
        { "30000000", "43", RB_OK, 0 },
        { "18446744073709551615", "42", RB_OK, UINT64_MAX },
        { "18446744073709551616", "42", RB_ERR_INVALID, 7 },
        { "0", "42", RB_ERR_INVALID, 7 },
        { "-1", "42", RB_ERR_INVALID, 7 },
        { " 1", "42", RB_ERR_INVALID, 7 },
        { "30s", "42", RB_ERR_INVALID, 7 },
        { "30", "x", RB_ERR_INVALID, 7 },
        { "30", "0", RB_ERR_INVALID, 7 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t usec = 7;
        assert_int_equal(rb_sdnotify_watchdog_usec(rows[i].usec, rows[i].pid, 42, &usec),
                         rows[i].err);
        assert_int_equal(usec, rows[i].wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_message_is_one_datagram, setup, teardown),
        cmocka_unit_test_setup_teardown(abstract_names, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_to_tell, setup, teardown),
        cmocka_unit_test_setup_teardown(names_have_a_longest, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_names, setup, teardown),
        cmocka_unit_test_setup_teardown(a_status_is_one_line, setup, teardown),
        cmocka_unit_test_setup_teardown(a_status_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(a_busy_manager, setup, teardown),
        cmocka_unit_test_setup_teardown(no_descriptor_stays, setup, teardown),
        cmocka_unit_test(watchdog_intervals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
