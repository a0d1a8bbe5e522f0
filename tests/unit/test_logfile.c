/* The log in a file: what is written, reopening, rotation, threads; and syslog on sockets of our own. */
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/logout.h"
#include "server/syslog.h"

#define TEXT_MAX (1 << 20)

struct fixture {
    char dir[64], path[128];
    struct rb_config config;
    struct rb_log log;
    struct rb_logout *logout;
    char *text;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->text = malloc(TEXT_MAX);
    snprintf(f->dir, sizeof(f->dir), "/tmp/rb_test_log_XXXXXX");
    if (mkdtemp(f->dir) == NULL) {
        return -1;
    }
    snprintf(f->path, sizeof(f->path), "%s/x.log", f->dir);
    rb_config_defaults(&f->config);
    f->config.logtime = false;
    snprintf(f->config.log_file, sizeof(f->config.log_file), "%s", f->path);
    *state = f;
    return 0;
}

/** Names in the directory, sorted; the caller frees them. */
static int list(const struct fixture *f, struct dirent ***ret_names)
{
    return scandir(f->dir, ret_names, NULL, alphasort);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct dirent **names;
    char path[512];
    rb_logout_close(f->logout);
    int count = list(f, &names);
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]->d_name);
        (void)unlink(path);
        free(names[i]);
    }
    free(names);
    int result = rmdir(f->dir);
    free(f->text);
    free(f);
    return result;
}

static void open_log(struct fixture *f)
{
    char error[512] = "";
    if (rb_logout_open(&f->config, "ringbus", &f->log, &f->logout, error, sizeof(error)) != RB_OK) {
        fail_msg("%s", error);
    }
    f->log.pid = 1;
}

static const char *read_file(struct fixture *f, const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t len = fread(f->text, 1, TEXT_MAX - 1, file);
    f->text[len] = 0;
    assert_int_equal(fclose(file), 0);
    return f->text;
}

static uint32_t count_files(const struct fixture *f)
{
    struct dirent **names;
    int count = list(f, &names);
    for (int i = 0; i < count; i++) {
        free(names[i]);
    }
    free(names);
    return (uint32_t)count - 2; /* "." and ".." */
}

static void lines_are_appended(void **state)
{
    struct fixture *f = *state;
    char wanted[256];
    struct stat info;
    FILE *file = fopen(f->path, "w");
    assert_non_null(file);
    fputs("old\n", file);
    fclose(file);
    open_log(f);
    rb_log_inf(&f->log, "one %d", 1);
    rb_log_err(&f->log, "two\n");
    rb_log_dbg(&f->log, "not shown");
    snprintf(wanted, sizeof(wanted), "old\n[%ld] [INF] one 1\n[%ld] [ERR] two\n", (long)getpid(),
             (long)getpid());
    assert_string_equal(read_file(f, f->path), wanted);
    rb_logout_close(f->logout);
    f->logout = NULL;
    assert_int_equal(unlink(f->path), 0);
    open_log(f);
    assert_int_equal(stat(f->path, &info), 0);
    assert_int_equal(info.st_mode & 0777 & ~0640u, 0);
}

static void a_file_that_cannot_be_opened_is_told(void **state)
{
    struct fixture *f = *state;
    char error[512];
    snprintf(f->config.log_file, sizeof(f->config.log_file), "/no/such/x.log");
    assert_int_equal(
        rb_logout_open(&f->config, "ringbus", &f->log, &f->logout, error, sizeof(error)),
        RB_ERR_IO);
    assert_string_equal(error, "open /no/such/x.log: no such file or directory");
    assert_null(f->log.sink);
}

static void reopening_follows_the_name(void **state)
{
    struct fixture *f = *state;
    char moved[160], error[512];
    snprintf(moved, sizeof(moved), "%s/moved", f->dir);
    open_log(f);
    rb_log_inf(&f->log, "before");
    assert_int_equal(rename(f->path, moved), 0);
    rb_log_inf(&f->log, "between");
    assert_int_equal(rb_logout_reopen(f->logout, error, sizeof(error)), RB_OK);
    rb_log_inf(&f->log, "after");
    assert_non_null(strstr(read_file(f, moved), "between"));
    assert_null(strstr(f->text, "after"));
    assert_non_null(strstr(read_file(f, f->path), "after"));
    rb_logout_close(f->logout);
    f->config.log_file[0] = 0;
    open_log(f);
    assert_int_equal(rb_logout_reopen(f->logout, error, sizeof(error)), RB_ERR_UNSUPPORTED);
}

static void a_switch_changes_the_target_and_the_form(void **state)
{
    struct fixture *f = *state;
    char other[160], error[512];
    snprintf(other, sizeof(other), "%s/other.log", f->dir);
    open_log(f);
    rb_log_inf(&f->log, "first");
    snprintf(f->config.log_file, sizeof(f->config.log_file), "%s", other);
    f->config.logtime = true;
    assert_int_equal(rb_logout_switch(f->logout, &f->config, error, sizeof(error)), RB_OK);
    rb_log_inf(&f->log, "second");
    assert_null(strstr(read_file(f, f->path), "second"));
    assert_non_null(strstr(read_file(f, other), "/")); /* the date */
    snprintf(f->config.log_file, sizeof(f->config.log_file), "/no/such/x.log");
    assert_int_equal(rb_logout_switch(f->logout, &f->config, error, sizeof(error)), RB_ERR_IO);
    rb_log_inf(&f->log, "third");
    assert_non_null(strstr(read_file(f, other), "third"));
}

static void a_grown_file_is_moved_away(void **state)
{
    struct fixture *f = *state;
    char backup[512];
    f->config.log_size_limit = 200;
    open_log(f);
    for (int i = 0; i < 5; i++) {
        rb_log_inf(&f->log, "a line of some fifty bytes, or not many more: %02d", i);
    }
    assert_int_equal(count_files(f), 2);
    const char *text = read_file(f, f->path);
    const char *begin = strstr(text, "Rotated log, backup saved as \"");
    assert_non_null(begin);
    begin = strchr(begin, '"') + 1;
    assert_true(strncmp(begin, f->path, strlen(f->path)) == 0);
    snprintf(backup, sizeof(backup), "%.*s", (int)strcspn(begin, "\""), begin);
    assert_int_equal(strlen(backup), strlen(f->path) + 30);
    assert_memory_equal(begin + strlen(backup), "\"\r\n", 3);
    assert_non_null(strstr(read_file(f, backup), "more: 00"));
}

static void only_so_many_are_kept(void **state)
{
    struct fixture *f = *state;
    char stranger[160];
    f->config.log_size_limit = 100;
    f->config.log_max_num = 3;
    snprintf(stranger, sizeof(stranger), "%s.2026.backup-of-mine", f->path);
    FILE *file = fopen(stranger, "w");
    assert_non_null(file);
    fclose(file);
    open_log(f);
    for (int i = 0; i < 20; i++) {
        rb_log_inf(&f->log,
                   "a line that is longer than the limit says, so that each rotates: "
                   "ringbus ringbus ringbus %02d",
                   i);
    }
    assert_int_equal(count_files(f), 3 + 1);
    assert_int_equal(access(stranger, F_OK), 0); /* not a name of ours */
    assert_non_null(strstr(read_file(f, f->path), "Purged log file \"x.log.20"));
}

static void a_file_over_the_limit_at_start_is_rotated(void **state)
{
    struct fixture *f = *state;
    open_log(f);
    rb_log_inf(&f->log, "%0300d", 7);
    rb_logout_close(f->logout);
    f->logout = NULL;
    f->config.log_size_limit = 100;
    open_log(f);
    assert_int_equal(count_files(f), 2);
    assert_null(strstr(read_file(f, f->path), "00007"));
}

/* What can neither be renamed nor opened must not lose lines. */
static void a_rotation_that_fails_goes_on_in_the_old_file(void **state)
{
    struct fixture *f = *state;
    f->config.log_size_limit = 100;
    open_log(f);
    assert_int_equal(unlink(f->path), 0); /* nothing to rename */
    int fd = dup(2);                      /* keeps descriptor numbers apart */
    for (int i = 0; i < 10; i++) {
        rb_log_inf(&f->log, "a line that is longer than sixty bytes for sure, number %02d", i);
    }
    close(fd);
    assert_int_equal(count_files(f), 0); /* still the file that has no name */
}

#define THREADS 4
#define LINES 400

static void *write_many(void *arg)
{
    struct rb_log *log = arg;
    for (int i = 0; i < LINES; i++) {
        rb_log_inf(log, "line-of-a-thread %04d", i);
    }
    return NULL;
}

static void no_line_is_lost_or_torn_by_rotation(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[THREADS];
    struct dirent **names;
    char path[512], error[512];
    uint32_t seen = 0;
    f->config.log_size_limit = 4096;
    open_log(f);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &f->log), 0);
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(rb_logout_reopen(f->logout, error, sizeof(error)), RB_OK);
        assert_int_equal(rb_logout_switch(f->logout, &f->config, error, sizeof(error)), RB_OK);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    int count = list(f, &names);
    assert_true(count > 4);
    for (int i = 0; i < count; i++) {
        if (names[i]->d_name[0] == 'x') {
            snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]->d_name);
            char *at = (char *)(uintptr_t)read_file(f, path);
            for (char *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
                *end = 0;
                char *line = strstr(at, "line-of-a-thread ");
                assert_true(at[0] == '[');
                seen += line != NULL && strlen(line) == strlen("line-of-a-thread 0000");
            }
            assert_string_equal(at, ""); /* no line without an end */
        }
        free(names[i]);
    }
    free(names);
    assert_int_equal(seen, THREADS * LINES);
}

/* ------------------------------------------------------------------ syslog */

static int listen_unix(const char *path, int type)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%.100s", path);
    int fd = socket(AF_UNIX, type, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static void syslog_lines(void **state)
{
    struct fixture *f = *state;
    char path[160], line[512];
    snprintf(path, sizeof(path), "%s/log", f->dir);
    int fd = listen_unix(path, SOCK_DGRAM);
    f->config.log_file[0] = 0;
    snprintf(f->config.remote_syslog, sizeof(f->config.remote_syslog), "unix://%s", path);
    open_log(f);
    static const struct {
        enum rb_log_level level;
        int priority;
    } levels[] = { { RB_LOG_FTL, 26 }, { RB_LOG_ERR, 27 }, { RB_LOG_WRN, 28 },
                   { RB_LOG_INF, 29 }, { RB_LOG_DBG, 31 }, { RB_LOG_TRC, 29 } };
    f->log.debug = f->log.trace = true;
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        char head[16], tail[64];
        rb_log_line(&f->log, levels[i].level, "hello\nworld");
        ssize_t len = recv(fd, line, sizeof(line) - 1, MSG_DONTWAIT);
        assert_true(len > 0);
        line[len] = 0;
        snprintf(head, sizeof(head), "<%d>", levels[i].priority);
        snprintf(tail, sizeof(tail), " ringbus[%ld]: hello world\n", (long)getpid());
        assert_memory_equal(line, head, strlen(head));
        assert_string_equal(line + strlen(line) - strlen(tail), tail);
    }
    close(fd);
    rb_log_inf(&f->log, "nobody listens"); /* dropped, no more */
    unlink(path);
}

/* Over a stream each line is whole; a peer that went away is found again. */
static void syslog_over_tcp(void **state)
{
    (void)state;
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(addr);
    struct rb_syslog *syslog = NULL;
    char target[64], error[512], line[512];
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    snprintf(target, sizeof(target), "tcp://127.0.0.1:%u", ntohs(addr.sin_port));
    assert_int_equal(rb_syslog_open(target, "tag", &syslog, error, sizeof(error)), RB_OK);
    int peer = accept(listener, NULL, NULL);
    assert_true(peer >= 0);
    rb_syslog_write(syslog, RB_LOG_WRN, RB_S("hello"));
    ssize_t got = recv(peer, line, sizeof(line) - 1, 0);
    assert_true(got > 0);
    line[got] = 0;
    assert_memory_equal(line, "<28>20", 6); /* RFC 3339 time, then host and tag */
    assert_non_null(strstr(line, " tag["));
    assert_non_null(strstr(line, "]: hello\n"));
    close(peer);
    for (int i = 0; i < 300; i++) { /* the next second's line connects again */
        rb_syslog_write(syslog, RB_LOG_INF, RB_S("again"));
        usleep(10000);
    }
    peer = accept(listener, NULL, NULL);
    assert_true(peer >= 0);
    close(peer);
    close(listener);
    rb_syslog_close(syslog);
}

static void syslog_targets_are_checked(void **state)
{
    (void)state;
    struct rb_syslog *syslog = NULL;
    char error[512];
    assert_int_equal(rb_syslog_open("foo", "t", &syslog, error, sizeof(error)), RB_ERR_ADDRESS);
    assert_string_equal(error, "invalid network type: \"foo\"");
    assert_int_equal(rb_syslog_open("unix:///no/such", "t", &syslog, error, sizeof(error)),
                     RB_ERR_IO);
    struct sockaddr_in taken = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(taken);
    char target[64];
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound but not listening: refuses */
    assert_int_equal(bind(fd, (struct sockaddr *)&taken, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&taken, &len), 0);
    snprintf(target, sizeof(target), "tcp://127.0.0.1:%u", ntohs(taken.sin_port));
    assert_int_equal(rb_syslog_open(target, "t", &syslog, error, sizeof(error)), RB_ERR_IO);
    assert_non_null(strstr(error, "127.0.0.1"));
    close(fd);
    assert_int_equal(rb_syslog_open("udp://[::1]:5140", "t", &syslog, error, sizeof(error)), RB_OK);
    rb_syslog_write(syslog, RB_LOG_INF, RB_S("x"));
    rb_syslog_close(syslog);
    rb_syslog_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_are_appended, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_cannot_be_opened_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(reopening_follows_the_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_switch_changes_the_target_and_the_form, setup, teardown),
        cmocka_unit_test_setup_teardown(a_grown_file_is_moved_away, setup, teardown),
        cmocka_unit_test_setup_teardown(only_so_many_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_over_the_limit_at_start_is_rotated, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rotation_that_fails_goes_on_in_the_old_file, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(no_line_is_lost_or_torn_by_rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(syslog_lines, setup, teardown),
        cmocka_unit_test(syslog_over_tcp),
        cmocka_unit_test_setup_teardown(syslog_targets_are_checked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
