/* A real server with four shards under subscription churn: what was settled stays exact. Also run under
 * ThreadSanitizer, which is why it keeps all shards and the mail between them busy at once. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "ringbus/ringbus.h"

enum { PUBLISHERS = 4, CHURNERS = 4, RECEIVERS = 4, MESSAGES = 3000, BATCH = 100 };

struct client {
    uint16_t port;
    uint32_t index;
    pthread_t thread;
    _Atomic uint32_t *done;
    uint64_t heard; /* receivers: messages on "work.*"; queue members count theirs apart */
    uint64_t queued;
    uint64_t next[PUBLISHERS];
    bool broken; /* out of order, doubled, or a socket failed */
};

static int dial(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static bool say(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t wrote = write(fd, text, len);
        if (wrote <= 0) {
            return false;
        }
        text += wrote;
        len -= (size_t)wrote;
    }
    return true;
}

/* One line without its end; false at the end of the stream or after 20 s of silence. */
static bool hear_line(FILE *in, char *line, int cap)
{
    if (fgets(line, cap, in) == NULL) {
        return false;
    }
    line[strcspn(line, "\r\n")] = '\0';
    return true;
}

static bool await_pong(FILE *in)
{
    char line[1024];
    while (hear_line(in, line, sizeof(line))) {
        if (strcmp(line, "PONG") == 0) {
            return true;
        }
    }
    return false;
}

static FILE *open_client(uint16_t port, const char *first)
{
    int fd = dial(port);
    if (fd < 0) {
        return NULL;
    }
    struct timeval limit = { .tv_sec = 20 };
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    FILE *in = fdopen(fd, "r");
    if (in == NULL || !say(fd, first, strlen(first)) || !await_pong(in)) {
        return NULL;
    }
    return in;
}

static void *publish(void *arg)
{
    struct client *self = arg;
    FILE *in = open_client(self->port, "CONNECT {\"verbose\":false}\r\nPING\r\n");
    self->broken = in == NULL;
    for (uint32_t i = 0; i < MESSAGES && !self->broken; i += BATCH) {
        char text[BATCH * 64];
        size_t len = 0;
        for (uint32_t k = 0; k < BATCH; k++) {
            char body[32];
            int body_len = snprintf(body, sizeof(body), "%u %u", self->index, i + k);
            len += (size_t)snprintf(text + len, sizeof(text) - len, "PUB work.%u %d\r\n%s\r\n",
                                    k % 3, body_len, body);
        }
        len += (size_t)snprintf(text + len, sizeof(text) - len, "PING\r\n");
        self->broken = !say(fileno(in), text, len) || !await_pong(in);
    }
    atomic_fetch_add(self->done, 1);
    if (in != NULL) {
        (void)fclose(in);
    }
    return NULL;
}

static void *churn(void *arg)
{
    struct client *self = arg;
    FILE *in = open_client(self->port, "CONNECT {\"verbose\":false}\r\nPING\r\n");
    self->broken = in == NULL;
    for (uint32_t round = 0; atomic_load(self->done) < PUBLISHERS && !self->broken; round++) {
        char text[1024];
        int len =
            snprintf(text, sizeof(text),
                     "SUB other.%u.%u 1\r\nSUB work.* pool 2\r\nSUB other.*.%u 3\r\n"
                     "SUB other.> q%u 4\r\nUNSUB 1\r\nUNSUB 2\r\nUNSUB 3\r\nUNSUB 4\r\nPING\r\n",
                     self->index, round, round, round % 5);
        self->broken = !say(fileno(in), text, (size_t)len) || !await_pong(in);
    }
    if (in != NULL) {
        (void)fclose(in);
    }
    return NULL;
}

static void take_message(struct client *self, const char *sid, const char *body)
{
    char *end;
    unsigned long publisher = strtoul(body, &end, 10);
    unsigned long number = strtoul(end, NULL, 10);
    if (sid[0] == '2') {
        self->queued++;
        return;
    }
    if (publisher >= PUBLISHERS || self->next[publisher] != number) {
        self->broken = true;
        return;
    }
    self->next[publisher]++;
    self->heard++;
}

static void *receive(void *arg)
{
    struct client *self = arg;
    FILE *in = open_client(self->port, "CONNECT {\"verbose\":false}\r\nSUB work.* 1\r\n"
                                       "SUB work.> stable 2\r\nPING\r\n");
    self->broken = in == NULL;
    atomic_fetch_add(self->done, 1); /* settled: publishing may begin */
    char line[1024], body[256], sid[16];
    while (!self->broken && self->heard < (uint64_t)PUBLISHERS * MESSAGES &&
           hear_line(in, line, sizeof(line))) {
        if (sscanf(line, "MSG %*s %15s %*u", sid) == 1 && hear_line(in, body, sizeof(body))) {
            take_message(self, sid, body);
        }
    }
    /* what is left of the queue group's share arrives before this PONG */
    if (!self->broken && say(fileno(in), "PING\r\n", 6)) {
        while (hear_line(in, line, sizeof(line)) && strcmp(line, "PONG") != 0) {
            if (sscanf(line, "MSG %*s %15s %*u", sid) == 1 && hear_line(in, body, sizeof(body))) {
                take_message(self, sid, body);
            }
        }
    }
    if (in != NULL) {
        (void)fclose(in);
    }
    return NULL;
}

static void settled_receivers_hear_everything_in_order(void **state)
{
    struct rb_server_options options = { .struct_bytes = sizeof(options),
                                         .config_text = "host: 127.0.0.1, shards: 4\n",
                                         .port = -1 };
    char error[512] = "";
    struct rb_server *server = rb_server_start(&options, error, sizeof(error));
    if (server == NULL) {
        fail_msg("start: %s", error);
    }
    static _Atomic uint32_t ready, done;
    struct client clients[RECEIVERS + PUBLISHERS + CHURNERS];
    memset(clients, 0, sizeof(clients));
    for (uint32_t i = 0; i < RECEIVERS + PUBLISHERS + CHURNERS; i++) {
        struct client *client = &clients[i];
        client->port = rb_server_port(server);
        client->index = i < RECEIVERS ? i : (i - RECEIVERS) % PUBLISHERS;
        client->done = i < RECEIVERS ? &ready : &done;
        void *(*run)(void *) = i < RECEIVERS                ? receive
                               : i < RECEIVERS + PUBLISHERS ? publish
                                                            : churn;
        while (i == RECEIVERS && atomic_load(&ready) < RECEIVERS) {
            (void)usleep(1000);
        }
        assert_int_equal(pthread_create(&client->thread, NULL, run, client), 0);
    }
    uint64_t queued = 0;
    for (uint32_t i = 0; i < RECEIVERS + PUBLISHERS + CHURNERS; i++) {
        (void)pthread_join(clients[i].thread, NULL);
        assert_false(clients[i].broken);
        queued += clients[i].queued;
        if (i < RECEIVERS) {
            assert_int_equal(clients[i].heard, PUBLISHERS * MESSAGES);
        }
    }
    /* One member each; the last few may still be on their way to a receiver that has left. */
    assert_true(queued <= PUBLISHERS * MESSAGES);
    assert_true(queued >= PUBLISHERS * MESSAGES * 9 / 10);
    rb_server_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settled_receivers_hear_everything_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
