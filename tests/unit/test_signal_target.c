/* "--signal": on a /proc of our own, with nothing really sent. */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/signal_target.h"

struct fixture {
    char proc[64];
    struct rb_signal_world world;
    char sent[256]; /* "pid:number " for each */
    long gone;      /* a pid that is no process */
};

static int record(void *ctx, long pid, int number)
{
    struct fixture *f = ctx;
    if (pid == f->gone) {
        return ESRCH;
    }
    size_t len = strlen(f->sent);
    snprintf(f->sent + len, sizeof(f->sent) - len, "%ld:%d ", pid, number);
    return 0;
}

static void put_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/** A process: `exe` NULL: may not be read, and `comm` counts. */
static void add_process(struct fixture *f, const char *pid, const char *exe, const char *comm)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/%s", f->proc, pid);
    assert_int_equal(mkdir(path, 0700), 0);
    if (exe != NULL) {
        snprintf(path, sizeof(path), "%s/%s/exe", f->proc, pid);
        assert_int_equal(symlink(exe, path), 0);
    }
    snprintf(path, sizeof(path), "%s/%s/comm", f->proc, pid);
    put_file(path, comm);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    snprintf(f->proc, sizeof(f->proc), "/tmp/rb_test_signal_XXXXXX");
    if (f == NULL || mkdtemp(f->proc) == NULL) {
        return -1;
    }
    f->world = (struct rb_signal_world){ .proc = f->proc, .own_pid = 7, .send = record, .ctx = f };
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info, (void)kind, (void)where;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    int result = nftw(f->proc, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return result;
}

static void expect_sent(struct fixture *f, const char *command, const char *wanted)
{
    char error[512] = "";
    f->sent[0] = 0;
    if (!rb_signal_run(&f->world, command, error, sizeof(error))) {
        fail_msg("'%s' is refused: %s", command, error);
    }
    assert_string_equal(f->sent, wanted);
}

static void expect_error(struct fixture *f, const char *command, const char *wanted)
{
    char error[512] = "";
    f->sent[0] = 0;
    assert_false(rb_signal_run(&f->world, command, error, sizeof(error)));
    assert_string_equal(error, wanted);
}

static void commands_are_signals(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        int number;
    } commands[] = { { "stop", SIGKILL },   { "quit", SIGINT }, { "term", SIGTERM },
                     { "reopen", SIGUSR1 }, { "ldm", SIGUSR2 }, { "reload", SIGHUP } };
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        char command[32], wanted[32];
        snprintf(command, sizeof(command), "%s=123", commands[i].name);
        snprintf(wanted, sizeof(wanted), "123:%d ", commands[i].number);
        expect_sent(f, command, wanted);
    }
    expect_error(f, "foo=123", "unknown signal \"foo\"");
    expect_error(f, "=5", "unknown signal \"\"");
    expect_error(f, "quit=1=2", "invalid signal parameters: [2]");
}

static void without_a_target_the_only_server(void **state)
{
    struct fixture *f = *state;
    expect_error(f, "quit", "no nats-server processes running");
    add_process(f, "7", "/usr/bin/ringbus", "ringbus\n"); /* ourselves */
    add_process(f, "30", "/usr/bin/grep", "ringbus\n");   /* its executable tells */
    add_process(f, "31", "/usr/bin/ringbus-tool", "x\n");
    add_process(f, "self", "/usr/bin/ringbus", "ringbus\n");
    expect_error(f, "quit", "no nats-server processes running");
    add_process(f, "40", "/opt/bin/ringbus (deleted)", "ringbus\n");
    expect_sent(f, "quit", "40:2 ");
    expect_sent(f, "quit=", "40:2 ");
    add_process(f, "9", NULL, "nats-server\n");
    expect_error(f, "quit", "multiple nats-server processes running:\n9\n40");
}

static void prefixes_send_to_all_that_fit(void **state)
{
    struct fixture *f = *state;
    add_process(f, "41", "/usr/bin/ringbus", "ringbus\n");
    add_process(f, "412", "/usr/bin/nats-server", "nats-server\n");
    add_process(f, "52", "/usr/bin/nats-server", "nats-server\n");
    add_process(f, "413", "/usr/bin/cat", "cat\n");
    expect_sent(f, "reload=41*", "41:1 412:1 ");
    expect_sent(f, "reload=*", "41:1 52:1 412:1 ");
    expect_sent(f, "reload=9*", ""); /* as nats-server: no process is no error here */
    f->gone = 41;
    expect_error(f, "ldm=41*", "\nsignal \"ldm\" 41: no such process");
    assert_string_equal(f->sent, "412:12 "); /* the others got theirs */
}

static void pids_and_pid_files(void **state)
{
    struct fixture *f = *state;
    char path[128], command[160], wanted[192];
    f->gone = 99;
    expect_error(f, "ldm=99", "\nsignal \"ldm\" 99: no such process");
    expect_error(f, "quit=abc", "invalid pid: abc");
    expect_error(f, "quit=-5", "invalid pid: -5");
    expect_error(f, "quit=0", "invalid pid: 0");
    expect_error(f, "quit=99999999999999999999", "invalid pid: 99999999999999999999");
    snprintf(path, sizeof(path), "%s/pid", f->proc);
    snprintf(command, sizeof(command), "term=%s", path);
    put_file(path, " 123\n");
    expect_sent(f, command, "123:15 ");
    put_file(path, "123");
    expect_sent(f, command, "123:15 ");
    snprintf(wanted, sizeof(wanted), "invalid pid: %s", path);
    put_file(path, "12x");
    expect_error(f, command, wanted);
    put_file(path, "");
    expect_error(f, command, wanted);
}

static void a_missing_proc_is_told(void **state)
{
    struct fixture *f = *state;
    f->world.proc = "/no/such/proc";
    expect_error(f, "quit", "unable to resolve pid, try providing one");
    expect_sent(f, "quit=5", "5:2 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commands_are_signals, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_target_the_only_server, setup, teardown),
        cmocka_unit_test_setup_teardown(prefixes_send_to_all_that_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(pids_and_pid_files, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_proc_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
