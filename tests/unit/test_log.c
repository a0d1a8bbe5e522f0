/* test_log.c - the shape of log lines, what is cut, what is left out, and the sink. */
#include "ringbus/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* A log into a packet socket: each write(2) arrives as one packet, so lines and writes can be
 * counted. */
struct fixture {
    struct rb_log log;
    int reader;
    char line[RB_LOG_LINE_MAX + 16];
};

static int open_log(void **state)
{
    static struct fixture f;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0) {
        return -1;
    }
    rb_log_init(&f.log);
    f.log.fd = ends[0];
    f.log.color = false;
    f.log.pid = 4711;
    f.reader = ends[1];
    *state = &f;
    return 0;
}

static int close_log(void **state)
{
    struct fixture *f = *state;
    close(f->log.fd);
    close(f->reader);
    return 0;
}

/* The next line, with its length; -1 when none was written. */
static ssize_t next_line(struct fixture *f)
{
    ssize_t len = recv(f->reader, f->line, sizeof(f->line) - 1, MSG_DONTWAIT);
    f->line[len < 0 ? 0 : len] = '\0';
    return len;
}

static bool matches(const char *text, const char *pattern)
{
    regex_t regex;
    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool result = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return result;
}

static void defaults_are_a_servers(void **state)
{
    struct rb_log log;
    rb_log_init(&log);
    assert_int_equal(log.fd, STDERR_FILENO);
    assert_true(log.time);
    assert_false(log.utc || log.debug || log.trace);
    assert_int_equal(log.color, isatty(STDERR_FILENO));
    assert_int_equal(log.pid, getpid());
    assert_null(log.sink);
}

static void line_has_pid_time_label_message(void **state)
{
    struct fixture *f = *state;
    rb_log_inf(&f->log, "Listening for client connections on %s:%d", "0.0.0.0", 4222);
    assert_true(next_line(f) > 0);
    assert_true(matches(f->line,
                        "^\\[4711\\] [0-9]{4}/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\\."
                        "[0-9]{6} \\[INF\\] Listening for client connections on "
                        "0\\.0\\.0\\.0:4222\n$"));
    assert_true(next_line(f) < 0);
}

static void levels_have_labels(void **state)
{
    struct fixture *f = *state;
    f->log.time = false;
    f->log.debug = f->log.trace = true;
    rb_log_ftl(&f->log, "a");
    rb_log_err(&f->log, "b");
    rb_log_wrn(&f->log, "c");
    rb_log_inf(&f->log, "d");
    rb_log_dbg(&f->log, "e");
    rb_log_trc(&f->log, "%s", "f");
    static const char *const expected[] = {
        "[4711] [FTL] a\n", "[4711] [ERR] b\n", "[4711] [WRN] c\n",
        "[4711] [INF] d\n", "[4711] [DBG] e\n", "[4711] [TRC] f\n",
    };
    for (int i = 0; i < 6; i++) {
        next_line(f);
        assert_string_equal(f->line, expected[i]);
    }
}

static void labels_are_coloured_for_terminals(void **state)
{
    static const char *const colors[] = { "31mFTL", "31mERR", "0;93mWRN",
                                          "32mINF", "36mDBG", "33mTRC" };
    struct fixture *f = *state;
    f->log.time = false;
    f->log.color = true;
    f->log.debug = true;
    f->log.trace = true;
    for (int level = RB_LOG_FTL; level <= RB_LOG_TRC; level++) {
        char expected[64];
        snprintf(expected, sizeof(expected), "[4711] [\033[%s\033[0m] x\n", colors[level]);
        rb_log_line(&f->log, (enum rb_log_level)level, "x");
        next_line(f);
        assert_string_equal(f->line, expected);
    }
}

static void quiet_levels_print_nothing(void **state)
{
    struct fixture *f = *state;
    rb_log_dbg(&f->log, "hidden");
    rb_log_line(&f->log, RB_LOG_DBG, "hidden");
    rb_log_trc(&f->log, "hidden");
    f->log.debug = true;
    rb_log_line(&f->log, RB_LOG_TRC, "hidden");
    assert_true(next_line(f) < 0);
    rb_log_dbg(&f->log, "shown");
    assert_true(next_line(f) > 0);
}

/* A zone 14 hours east shows the difference between local time and UTC at any moment. */
static void time_is_local_or_utc(void **state)
{
    struct fixture *f = *state;
    setenv("TZ", "XXX-14", 1);
    tzset();
    char before[64], after[64];
    for (int utc = 0; utc <= 1; utc++) {
        f->log.utc = utc != 0;
        struct tm tm;
        time_t now = time(NULL);
        strftime(before, sizeof(before), "[4711] %Y/%m/%d %H:%M:%S.",
                 utc != 0 ? gmtime_r(&now, &tm) : localtime_r(&now, &tm));
        rb_log_inf(&f->log, "x");
        now = time(NULL);
        strftime(after, sizeof(after), "[4711] %Y/%m/%d %H:%M:%S.",
                 utc != 0 ? gmtime_r(&now, &tm) : localtime_r(&now, &tm));
        assert_true(next_line(f) > 0);
        assert_true(strncmp(f->line, before, strlen(before)) >= 0);
        assert_true(strncmp(f->line, after, strlen(after)) <= 0);
    }
    unsetenv("TZ");
    tzset();
}

/* Around the size of the stack buffer and far above it a message must arrive whole, in one write.
 * */
static void long_lines_stay_whole(void **state)
{
    struct fixture *f = *state;
    f->log.time = false;
    static const size_t lens[] = { 0, 1, 2030, 2031, 2032, 2033, 2034, 2035, 2048, 9000, 60000 };
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        char *text = malloc(lens[i] + 1);
        assert_non_null(text);
        memset(text, 'm', lens[i]);
        text[lens[i]] = '\0';
        rb_log_inf(&f->log, "%s", text);
        assert_int_equal(next_line(f), 13 + lens[i] + 1);
        assert_memory_equal(f->line, "[4711] [INF] ", 13);
        assert_memory_equal(f->line + 13, text, lens[i]);
        assert_int_equal(f->line[13 + lens[i]], '\n');
        free(text);
    }
}

/* Beyond the limit a line ends in "...", and never in half a character, wherever the cut falls. */
static void longest_lines_are_cut(void **state)
{
    struct fixture *f = *state;
    f->log.time = false;
    char *text = malloc(100001);
    assert_non_null(text);
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 4 <= 100000; i += 4) {
            memcpy(text + i, "\xf0\x9f\x98\x80", 4);
        }
        text[99996] = '\0';
        rb_log_inf(&f->log, "%s", text);
        ssize_t len = next_line(f);
        assert_in_range(len, RB_LOG_LINE_MAX - 3, RB_LOG_LINE_MAX);
        assert_string_equal(f->line + len - 4, "...\n");
        size_t kept = (size_t)len - 4 - 13;
        assert_int_equal((kept - shift) % 4, 0);
        assert_memory_equal(f->line + 13, text, kept);
    }
    free(text);
}

static void exact_limit_is_not_cut(void **state)
{
    struct fixture *f = *state;
    f->log.time = false;
    size_t len = RB_LOG_LINE_MAX - 13 - 1;
    char *text = malloc(len + 2);
    assert_non_null(text);
    memset(text, 'x', len + 1);
    text[len] = '\0';
    rb_log_inf(&f->log, "%s", text);
    assert_int_equal(next_line(f), RB_LOG_LINE_MAX);
    assert_string_equal(f->line + RB_LOG_LINE_MAX - 4, "xxx\n");
    text[len] = 'x';
    text[len + 1] = '\0';
    rb_log_inf(&f->log, "%s", text);
    assert_int_equal(next_line(f), RB_LOG_LINE_MAX);
    assert_string_equal(f->line + RB_LOG_LINE_MAX - 4, "...\n");
    free(text);
}

static void newline_is_not_doubled(void **state)
{
    struct fixture *f = *state;
    f->log.time = false;
    rb_log_inf(&f->log, "done\n");
    next_line(f);
    assert_string_equal(f->line, "[4711] [INF] done\n");
}

struct heard {
    int count;
    enum rb_log_level level;
    char message[8192];
};

static void hear(void *ctx, enum rb_log_level level, const char *message)
{
    struct heard *heard = ctx;
    heard->count++;
    heard->level = level;
    snprintf(heard->message, sizeof(heard->message), "%s", message);
}

static void sink_gets_the_message_only(void **state)
{
    struct fixture *f = *state;
    struct heard heard = { .count = 0 };
    f->log.sink = hear;
    f->log.sink_ctx = &heard;
    rb_log_wrn(&f->log, "cid:%d", 7);
    assert_int_equal(heard.count, 1);
    assert_int_equal(heard.level, RB_LOG_WRN);
    assert_string_equal(heard.message, "cid:7");
    rb_log_wrn(&f->log, "%05000d", 1);
    assert_int_equal(strlen(heard.message), 5000);
    assert_int_equal(heard.message[4999], '1');
    rb_log_dbg(&f->log, "off");
    assert_int_equal(heard.count, 2);
    assert_true(next_line(f) < 0); /* nothing goes to the descriptor */
    int fd = f->log.fd;
    f->log.fd = -1;
    rb_log_inf(&f->log, "still heard");
    assert_int_equal(heard.count, 3);
    f->log.fd = fd;
}

static void failing_writes_are_dropped(void **state)
{
    struct fixture *f = *state;
    struct rb_log log = f->log;
    log.fd = -1;
    rb_log_inf(&log, "nowhere");
    log.fd = open("/dev/full", O_WRONLY);
    assert_true(log.fd >= 0);
    errno = EDOM;
    rb_log_inf(&log, "no room");
    assert_int_equal(errno, EDOM);
    close(log.fd);
    rb_log_inf(&log, "closed descriptor");
    assert_int_equal(errno, EDOM);
}

enum { WRITERS = 3, LINES = 200 };

static void *write_lines(void *arg)
{
    struct rb_log *log = arg;
    for (int i = 0; i < LINES; i++) {
        rb_log_inf(log, "%0200d end", i);
    }
    return NULL;
}

/* Lines of several threads in one file must never mix. */
static void threads_do_not_mix_lines(void **state)
{
    struct fixture *f = *state;
    struct rb_log log = f->log;
    FILE *file = tmpfile();
    assert_non_null(file);
    log.fd = fileno(file);
    assert_int_equal(fcntl(log.fd, F_SETFL, O_APPEND), 0);
    pthread_t threads[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &log), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    rewind(file);
    char line[1024];
    int count = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        assert_true(matches(line, "^\\[4711\\] [^ ]+ [^ ]+ \\[INF\\] [0-9]{200} end\n$"));
        count++;
    }
    assert_int_equal(count, WRITERS * LINES);
    fclose(file);
}

static void limit_counts_what_it_skips(void **state)
{
    struct rb_log_limit limit = { .interval_ns = 1000 };
    uint64_t skipped = 99;
    assert_true(rb_log_limit_pass(&limit, 0, &skipped)); /* virtual time may begin at 0 */
    assert_int_equal(skipped, 0);
    skipped = 99;
    for (int i = 0; i < 5; i++) {
        assert_false(rb_log_limit_pass(&limit, 500, &skipped));
    }
    assert_int_equal(skipped, 99);
    assert_true(rb_log_limit_pass(&limit, 1001, &skipped));
    assert_int_equal(skipped, 5);
    assert_false(rb_log_limit_pass(&limit, 2000, &skipped));
    assert_true(rb_log_limit_pass(&limit, 2001, &skipped));
    assert_int_equal(skipped, 1);
    assert_true(rb_log_limit_pass(&limit, 9001, &skipped));
    assert_int_equal(skipped, 0);
}

#define LOG_TEST(test) cmocka_unit_test_setup_teardown(test, open_log, close_log)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_a_servers),
        LOG_TEST(line_has_pid_time_label_message),
        LOG_TEST(levels_have_labels),
        LOG_TEST(labels_are_coloured_for_terminals),
        LOG_TEST(quiet_levels_print_nothing),
        LOG_TEST(time_is_local_or_utc),
        LOG_TEST(long_lines_stay_whole),
        LOG_TEST(longest_lines_are_cut),
        LOG_TEST(exact_limit_is_not_cut),
        LOG_TEST(newline_is_not_doubled),
        LOG_TEST(sink_gets_the_message_only),
        LOG_TEST(failing_writes_are_dropped),
        LOG_TEST(threads_do_not_mix_lines),
        cmocka_unit_test(limit_counts_what_it_skips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
