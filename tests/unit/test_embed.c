/* The embedding interface on real sockets: start, talk, several servers in one process, failure, stop. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "ringbus/ringbus.h"

static struct rb_server *start(const char *text, int32_t port)
{
    struct rb_server_options options = { .config_text = text, .port = port };
    char error[512] = "";
    struct rb_server *server = rb_server_start(&options, error, sizeof(error));
    if (server == NULL) {
        fail_msg("start: %s", error);
    }
    return server;
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

/* What cannot start says why and leaves nothing behind. */
static void failure_names_its_cause(void **state)
{
    struct rb_server *server = start("host: 127.0.0.1, shards: 1\n", -1);
    struct rb_server_options options = { .config_text = "host: 127.0.0.1, shards: 1\n",
                                         .port = rb_server_port(server) };
    char error[512] = "";
    assert_null(rb_server_start(&options, error, sizeof(error)));
    assert_non_null(strstr(error, "address already in use"));
    options = (struct rb_server_options){ .config_text = "prot: 1\n", .port = -1 };
    assert_null(rb_server_start(&options, error, sizeof(error)));
    assert_non_null(strstr(error, "unknown field \"prot\""));
    rb_server_stop(server);
    rb_server_stop(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_cross_shards),
        cmocka_unit_test(two_servers_in_one_process),
        cmocka_unit_test(failure_names_its_cause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
