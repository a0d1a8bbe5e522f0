/* The embedding interface on real sockets: start, talk, several servers in one process, failure, time-out, reload, lame duck
 * mode, stop. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "ringbus/ringbus.h"

static struct rb_server *start_with(const struct rb_server_options *options)
{
    char error[512] = "";
    struct rb_server *server = rb_server_start(options, error, sizeof(error));
    if (server == NULL) {
        fail_msg("start: %s", error);
    }
    return server;
}

static struct rb_server *start(const char *text, int32_t port)
{
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.config_text = text;
    options.port = port;
    return start_with(&options);
}

static int dial(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* Reads until `text` was seen, at most 5 s between bytes. */
static void expect(int fd, const char *text)
{
    char buf[8192];
    size_t len = 0;
    while (len < sizeof(buf) - 1) {
        struct pollfd pfd = { .fd = fd, .events = POLLIN };
        assert_int_equal(poll(&pfd, 1, 5000), 1);
        ssize_t got = read(fd, buf + len, 1); /* byte by byte: nothing after `text` is taken */
        assert_true(got > 0);
        len += (size_t)got;
        buf[len] = '\0';
        if (len >= strlen(text) && strcmp(buf + len - strlen(text), text) == 0) {
            return;
        }
    }
    fail_msg("\"%s\" did not come", text);
}

static void say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* Connections spread over two shards, and a message crosses in both directions. */
static void messages_cross_shards(void **state)
{
    struct rb_server *server = start("host: 127.0.0.1, port: -1, shards: 2\n", 0);
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = dial(rb_server_port(server));
        expect(fds[i], " \r\n");
        say(fds[i], "CONNECT {\"verbose\":false}\r\nSUB all 1\r\nSUB group q 2\r\nPING\r\n");
        expect(fds[i], "PONG\r\n");
    }
    for (int i = 0; i < 4; i++) {
        char text[64], expected[64];
        (void)snprintf(text, sizeof(text), "PUB all 1\r\n%d\r\n", i);
        (void)snprintf(expected, sizeof(expected), "MSG all 1 1\r\n%d\r\n", i);
        say(fds[i], text);
        for (int k = 0; k < 4; k++) {
            expect(fds[k], expected);
        }
    }
    say(fds[0], "PUB group 0\r\n\r\n");
    struct pollfd pfds[4];
    for (int i = 0; i < 4; i++) {
        pfds[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
    }
    assert_int_equal(poll(pfds, 4, 5000), 1); /* one member got it */
    for (int i = 0; i < 4; i++) {
        (void)close(fds[i]);
    }
    rb_server_stop(server);
}

/* Two servers live side by side; stopping one ends its clients only. */
static void two_servers_in_one_process(void **state)
{
    struct rb_server *a = start("host: 127.0.0.1, shards: 1\n", -1);
    struct rb_server *b = start("host: 127.0.0.1, shards: 1\n", -1);
    assert_int_not_equal(rb_server_port(a), rb_server_port(b));
    char url[64];
    (void)snprintf(url, sizeof(url), "nats://127.0.0.1:%u", rb_server_port(a));
    assert_string_equal(rb_server_client_url(a), url);
    int fd_a = dial(rb_server_port(a)), fd_b = dial(rb_server_port(b));
    expect(fd_a, " \r\n");
    expect(fd_b, " \r\n");
    rb_server_stop(a);
    char byte;
    assert_true(read(fd_a, &byte, 1) <= 0);
    say(fd_b, "PING\r\n");
    expect(fd_b, "PONG\r\n");
    (void)close(fd_a);
    (void)close(fd_b);
    rb_server_stop(b);
}

static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    int count = 0;
    while (readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir);
    return count;
}

static void pause_ms(int ms)
{
    const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
    (void)nanosleep(&pause, NULL);
}

/* An ended thread's entry may outlive its join by a moment. */
static void settles(const char *path, int count)
{
    for (int i = 0; i < 500 && count_entries(path) != count; i++) {
        pause_ms(10);
    }
    assert_int_equal(count_entries(path), count);
}

static void refused(const struct rb_server_options *options, const char *why)
{
    int threads = count_entries("/proc/self/task"), fds = count_entries("/proc/self/fd");
    char error[512] = "";
    assert_null(rb_server_start(options, error, sizeof(error)));
    if (strstr(error, why) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", why, error);
    }
    settles("/proc/self/task", threads);
    settles("/proc/self/fd", fds);
}

/* What cannot start says why and leaves nothing behind: no thread, no descriptor. */
static void failure_names_its_cause(void **state)
{
    struct rb_server *server = start("host: 127.0.0.1, shards: 1\n", -1);
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.config_text = "host: 127.0.0.1, shards: 2\n";
    options.port = rb_server_port(server);
    refused(&options, "address already in use");
    options.config_text = "prot: 1\n";
    refused(&options, "unknown field \"prot\"");
    options.config_text = "tls { cert_file: \"/nowhere.pem\", key_file: \"/nowhere.key\" }\n";
    options.port = -1;
    refused(&options, "/nowhere.pem");
    options.config_text = NULL;
    options.host = "127.0.0.1";
    options.unix_socket = "/nowhere/socket";
    refused(&options, "/nowhere/socket");
    options.unix_socket = NULL;
    options.struct_bytes = 0;
    refused(&options, "struct_bytes");
    rb_server_stop(server);
    rb_server_stop(NULL);
}

/* A program that is older or newer than the library. */
static void options_of_other_versions(void **state)
{
    struct {
        struct rb_server_options options;
        uint64_t added;
    } newer = { .options = RB_SERVER_OPTIONS_INIT };
    newer.options.struct_bytes = sizeof(newer);
    newer.options.host = "127.0.0.1";
    newer.options.port = -1;
    newer.options.shards = 1;
    rb_server_stop(start_with(&newer.options));
    newer.added = 1;
    refused(&newer.options, "newer version");
    struct rb_server_options older = newer.options;
    older.struct_bytes = offsetof(struct rb_server_options, log);
    older.log_ctx = (void *)1; /* beyond what it says it has */
    older.decide = (rb_auth_decide)(uintptr_t)1;
    rb_server_stop(start_with(&older));
}

/* A start that hangs is given up, and undone when it comes back. */
static void slow_start_is_given_up(void **state)
{
    char dir[] = "/tmp/embed-XXXXXX", path[64], text[128];
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir("/"), 0); /* includes are relative, as in nats-server */
    (void)snprintf(path, sizeof(path), "%s/slow.conf", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    (void)snprintf(text, sizeof(text), "include \"%s\"\n", path);
    int threads = count_entries("/proc/self/task"), fds = count_entries("/proc/self/fd");
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.config_text = text;
    options.port = -1;
    options.start_timeout_ns = 200000000;
    char error[256] = "";
    struct timespec begin, end;
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    struct rb_server *server = rb_server_start(&options, error, sizeof(error));
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    assert_null(server);
    assert_non_null(strstr(error, "in time"));
    assert_true(end.tv_sec - begin.tv_sec < 3);
    int fd = open(path, O_WRONLY | O_CLOEXEC); /* lets it go on: a configuration that starts */
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "host: 127.0.0.1\n", 16), 16);
    (void)close(fd);
    settles("/proc/self/task", threads);
    settles("/proc/self/fd", fds);
    (void)unlink(path);
    (void)rmdir(dir);
}

struct seen {
    pthread_mutex_t lock;
    char lines[65536];
    size_t len;
    _Atomic int sleep_ms;
    _Atomic bool over; /* no line may come any more */
    _Atomic int late;
};

static void see(void *ctx, int level, const char *line)
{
    struct seen *seen = ctx;
    if (atomic_load(&seen->over)) {
        atomic_fetch_add(&seen->late, 1);
    }
    if (atomic_load(&seen->sleep_ms) > 0) {
        pause_ms(atomic_load(&seen->sleep_ms));
    }
    pthread_mutex_lock(&seen->lock);
    int len =
        snprintf(seen->lines + seen->len, sizeof(seen->lines) - seen->len, "%d %s\n", level, line);
    if (len > 0 && (size_t)len < sizeof(seen->lines) - seen->len) {
        seen->len += (size_t)len;
    }
    pthread_mutex_unlock(&seen->lock);
}

static bool was_seen(struct seen *seen, const char *text)
{
    pthread_mutex_lock(&seen->lock);
    bool found = strstr(seen->lines, text) != NULL;
    pthread_mutex_unlock(&seen->lock);
    return found;
}

/* A program that is slow in its own log callback; once the start was given up no line comes. */
static void no_callback_after_giving_up(void **state)
{
    struct seen *seen = calloc(1, sizeof(*seen));
    (void)pthread_mutex_init(&seen->lock, NULL);
    seen->sleep_ms = 300;
    int threads = count_entries("/proc/self/task");
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.host = "127.0.0.1";
    options.port = -1;
    options.start_timeout_ns = 100000000;
    options.log = see;
    options.log_ctx = seen;
    char error[256] = "";
    assert_null(rb_server_start(&options, error, sizeof(error)));
    atomic_store(&seen->over, true);
    assert_non_null(strstr(error, "in time"));
    settles("/proc/self/task", threads);
    assert_int_equal(atomic_load(&seen->late), 0);
    (void)pthread_mutex_destroy(&seen->lock);
    free(seen);
}

/* The log goes to the callback, in nats-server's words; nothing of it before the start and after the stop. */
static void log_and_facts(void **state)
{
    struct seen *seen = calloc(1, sizeof(*seen));
    (void)pthread_mutex_init(&seen->lock, NULL);
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.config_text = "host: 127.0.0.1, debug: true, log_file: \"/nowhere/log\"\n"
                          "websocket { listen: \"127.0.0.1:-1\", no_tls: true }\n";
    options.port = -1;
    options.monitor_port = -1;
    options.server_name = "embedded";
    options.log = see;
    options.log_ctx = seen;
    struct rb_server *server = start_with(&options);
    assert_true(was_seen(seen, "3 Starting nats-server\n"));
    assert_true(was_seen(seen, "3 Server is ready\n"));
    assert_true(was_seen(seen, "2 the configuration names a log"));
    assert_string_equal(rb_server_name(server), "embedded");
    assert_int_equal(rb_server_id(server)[0], 'N');
    assert_int_equal(strncmp(rb_server_websocket_url(server), "ws://127.0.0.1:", 15), 0);
    assert_int_equal(strncmp(rb_server_monitor_url(server), "http://127.0.0.1:", 17), 0);
    int monitor = dial((uint16_t)atoi(rb_server_monitor_url(server) + 17));
    say(monitor, "GET /varz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    expect(monitor, "\"server_name\": \"embedded\"");
    (void)close(monitor);
    int fd = dial(rb_server_port(server));
    expect(fd, " \r\n");
    say(fd, "CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n");
    expect(fd, "PONG\r\n");
    struct rb_server_metrics metrics;
    rb_server_metrics(server, &metrics, sizeof(metrics));
    assert_int_equal(metrics.connections, 1);
    assert_int_equal(metrics.in_messages, 1);
    assert_int_equal(metrics.in_bytes, 2);
    assert_int_equal(metrics.subscriptions, 1);
    (void)close(fd);
    rb_server_stop(server);
    atomic_store(&seen->over, true);
    assert_true(was_seen(seen, "3 Server Exiting..\n"));
    assert_int_equal(atomic_load(&seen->late), 0);
    (void)pthread_mutex_destroy(&seen->lock);
    free(seen);
}

/* A Unix-domain listener beside TCP. */
static void unix_socket(void **state)
{
    char dir[] = "/tmp/embed-XXXXXX";
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    assert_non_null(mkdtemp(dir));
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/nats", dir);
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.host = "127.0.0.1";
    options.port = -1;
    options.unix_socket = addr.sun_path;
    struct rb_server *server = start_with(&options);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    expect(fd, " \r\n");
    say(fd, "CONNECT {\"verbose\":false}\r\nPING\r\n");
    expect(fd, "PONG\r\n");
    (void)close(fd);
    rb_server_stop(server);
    assert_int_not_equal(access(addr.sun_path, F_OK), 0);
    (void)rmdir(dir);
}

/* Many servers, each with clients of its own; they end in another order than they began. */
static void many_servers(void **state)
{
    enum { COUNT = 6 };
    int threads = count_entries("/proc/self/task"), files = count_entries("/proc/self/fd");
    struct rb_server *servers[COUNT];
    int fds[COUNT];
    for (int i = 0; i < COUNT; i++) {
        servers[i] = start("host: 127.0.0.1, shards: 2\n", -1);
        fds[i] = dial(rb_server_port(servers[i]));
        expect(fds[i], " \r\n");
    }
    for (int i = 0; i < COUNT; i += 2) {
        rb_server_stop(servers[i]);
    }
    for (int i = 1; i < COUNT; i += 2) {
        say(fds[i], "PING\r\n");
        expect(fds[i], "PONG\r\n");
        rb_server_stop(servers[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        (void)close(fds[i]);
    }
    settles("/proc/self/task", threads);
    settles("/proc/self/fd", files);
}

/* A program's signals are its own: no thread of a server takes them. */
static _Atomic int signals_seen;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals_seen, 1);
}

static void signals_stay_the_programs(void **state)
{
    struct sigaction action = { .sa_handler = on_signal }, before, after;
    (void)sigaction(SIGUSR2, &action, &before);
    struct rb_server *server = start("host: 127.0.0.1, shards: 2\n", -1);
    (void)sigaction(SIGUSR2, NULL, &after);
    assert_ptr_equal(after.sa_handler, on_signal);
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[300], line[256];
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
        FILE *file =
            entry->d_name[0] == '.' || atoi(entry->d_name) == getpid() ? NULL : fopen(path, "r");
        while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
            if (strncmp(line, "SigBlk:", 7) == 0) {
                assert_int_not_equal(strtoull(line + 7, NULL, 16) & (1ULL << (SIGUSR2 - 1)), 0);
            }
        }
        if (file != NULL) {
            (void)fclose(file);
        }
    }
    (void)closedir(dir);
    (void)raise(SIGUSR2);
    assert_int_equal(atomic_load(&signals_seen), 1);
    rb_server_stop(server);
    (void)sigaction(SIGUSR2, &before, NULL);
}

/* Another configuration is taken as a whole or not at all; what the options overrode stays. */
static void reload_by_text(void **state)
{
    struct rb_server *server = start("host: 127.0.0.1, max_payload: 1000\n", -1);
    int fd = dial(rb_server_port(server));
    expect(fd, "\"max_payload\":1000,");
    expect(fd, " \r\n");
    char error[512] = "";
    assert_false(rb_server_reload(server, "host: 127.0.0.1, max_payload: 50, max_subs: 5\n", error,
                                  sizeof(error)));
    assert_non_null(strstr(error, "config reload not supported for MaxSubs"));
    assert_false(rb_server_reload(server, "nonsense: 1\n", error, sizeof(error)));
    assert_non_null(strstr(error, "unknown field"));
    assert_true(
        rb_server_reload(server, "host: 127.0.0.1, max_payload: 50\n", error, sizeof(error)));
    int late = dial(rb_server_port(server));
    expect(late, "\"max_payload\":50,");
    say(fd, "CONNECT {\"verbose\":false}\r\nPING\r\n"); /* the old connection still works */
    expect(fd, "PONG\r\n");
    say(fd, "PUB a 51\r\n");
    expect(fd, "-ERR 'Maximum Payload Violation'\r\n");
    assert_true(rb_server_reload(server, NULL, error, sizeof(error))); /* the first text again */
    (void)close(fd);
    (void)close(late);
    rb_server_stop(server);
}

/* Lame duck mode tells clients, closes them after the grace period, and then the server has ended. */
static void lame_duck(void **state)
{
    struct rb_server *server = start("host: 127.0.0.1, shards: 2\nlame_duck_duration: \"30s\"\n"
                                     "lame_duck_grace_period: \"200ms\"\n",
                                     -1);
    enum { COUNT = 3 };
    int fds[COUNT];
    for (int i = 0; i < COUNT; i++) {
        fds[i] = dial(rb_server_port(server));
        expect(fds[i], " \r\n");
        say(fds[i], "CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n");
        expect(fds[i], "PONG\r\n");
        expect(fds[i], " \r\n");
    }
    assert_false(rb_server_wait(server, 0));
    assert_true(rb_server_lame_duck(server));
    assert_false(rb_server_lame_duck(server));
    for (int i = 0; i < COUNT; i++) {
        expect(fds[i], "\"ldm\":true");
        say(fds[i], "PING\r\n");
        expect(fds[i], "PONG\r\n");
    }
    assert_true(rb_server_wait(server, INT64_C(20000000000)));
    for (int i = 0; i < COUNT; i++) {
        char byte;
        while (read(fds[i], &byte, 1) > 0) { /* a PING, perhaps */
        }
        (void)close(fds[i]);
    }
    struct rb_server_metrics metrics; /* what it did can still be asked */
    rb_server_metrics(server, &metrics, sizeof(metrics));
    assert_int_equal(metrics.connections, 0);
    assert_int_equal(metrics.connections_total, COUNT);
    rb_server_stop(server);
}

/* Stop does not wait for the end of lame duck mode. */
static void stop_in_lame_duck(void **state)
{
    struct rb_server *server = start("host: 127.0.0.1\n", -1);
    int fd = dial(rb_server_port(server));
    expect(fd, " \r\n");
    assert_true(rb_server_lame_duck(server));
    time_t begin = time(NULL);
    rb_server_stop(server);
    assert_true(time(NULL) - begin < 5);
    (void)close(fd);
}

static void switches_are_pure(void **state)
{
    struct rb_log_opts opts = rb_log_opts("1", NULL);
    assert_true(opts.debug && !opts.trace && opts.monitor);
    opts = rb_log_opts("2", NULL);
    assert_true(opts.debug && opts.trace && opts.monitor);
    opts = rb_log_opts(NULL, "1");
    assert_true(!opts.debug && !opts.trace && opts.monitor);
    opts = rb_log_opts("yes", "2");
    assert_true(!opts.debug && !opts.trace && !opts.monitor);
}

/* Defaults: a store of the server's own, gone with it. Given: it stays, and nobody else may have it. */
static void jetstream_is_on(void **state)
{
    (void)state;
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    char path[512], error[512];
    options.port = -1;
    options.shards = 2;
    struct rb_server *server = start_with(&options);
    assert_non_null(rb_server_store_directory(server));
    (void)snprintf(path, sizeof(path), "%s", rb_server_store_directory(server));
    assert_int_equal(access(path, F_OK), 0);
    rb_server_stop(server);
    assert_int_not_equal(access(path, F_OK), 0);
    options.jetstream = RB_JETSTREAM_OFF;
    server = start_with(&options);
    assert_null(rb_server_store_directory(server));
    rb_server_stop(server);
    options.jetstream = RB_JETSTREAM_DEFAULT;
    options.config_text = "port: -1";
    server = start_with(&options);
    assert_null(rb_server_store_directory(server)); /* the text does not have it */
    rb_server_stop(server);
    char directory[] = "/tmp/ringbus-test-XXXXXX";
    assert_non_null(mkdtemp(directory));
    options.jetstream = RB_JETSTREAM_ON;
    options.store_dir = directory;
    server = start_with(&options);
    (void)snprintf(path, sizeof(path), "%s/jetstream", directory);
    assert_string_equal(rb_server_store_directory(server), path);
    assert_null(rb_server_start(&options, error, sizeof(error)));
    assert_non_null(strstr(error, "is in use by another server"));
    rb_server_stop(server);
    assert_int_equal(access(path, F_OK), 0);
    options.jetstream = 7;
    refused(&options, "jetstream 7 is no choice");
    char command[600];
    (void)snprintf(command, sizeof(command), "rm -rf %s", directory);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_cross_shards),
        cmocka_unit_test(two_servers_in_one_process),
        cmocka_unit_test(failure_names_its_cause),
        cmocka_unit_test(options_of_other_versions),
        cmocka_unit_test(slow_start_is_given_up),
        cmocka_unit_test(no_callback_after_giving_up),
        cmocka_unit_test(log_and_facts),
        cmocka_unit_test(unix_socket),
        cmocka_unit_test(many_servers),
        cmocka_unit_test(signals_stay_the_programs),
        cmocka_unit_test(reload_by_text),
        cmocka_unit_test(lame_duck),
        cmocka_unit_test(stop_in_lame_duck),
        cmocka_unit_test(switches_are_pure),
        cmocka_unit_test(jetstream_is_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
