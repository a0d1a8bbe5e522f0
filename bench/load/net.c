/* net.c - connections: one at a time (blocking), or by the thousand (epoll).
 *
 * Thousands of connections to one address and port run out of ephemeral ports, so each block of
 * SOURCE_CONNS_MAX leaves from its own loopback address 127.0.0.2, 127.0.0.3, ... (only for a
 * server on 127/8).
 */
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe.h"

#define SOURCE_CONNS_MAX 10000
#define CONNECT_RETRY_NS 1000000u
#define CONNECT_WAIT_NS 5000000000u /* for a server that was just started */
#define EVENTS_MAX 256
#define FILES_RESERVE 256 /* descriptors that are not the counted connections */

static struct sockaddr_in make_addr(const char *host, uint16_t port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) };
    if (inet_pton(AF_INET, host, &addr.sin_addr) != 1) {
        rb_load_die("not an IPv4 address: %s", host);
    }
    return addr;
}

static void set_nodelay(int fd)
{
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
        rb_load_die("TCP_NODELAY: %s", strerror(errno));
    }
}

int rb_net_try_connect(const char *host, uint16_t port)
{
    struct sockaddr_in addr = make_addr(host, port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        rb_load_die("socket: %s", strerror(errno));
    }
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
        int code = errno;
        close(fd);
        errno = code;
        return -1;
    }
    set_nodelay(fd);
    return fd;
}

uint16_t rb_net_free_port(void)
{
    struct sockaddr_in addr = make_addr("127.0.0.1", 0);
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
        rb_load_die("looking for a port: %s", strerror(errno));
    }
    close(fd);
    return ntohs(addr.sin_port);
}

uint32_t rb_net_allowed_conns(const struct rb_load *load, uint32_t count)
{
    struct rlimit ours;
    struct rlimit theirs;
    rlim_t want = (rlim_t)count + FILES_RESERVE;
    if (getrlimit(RLIMIT_NOFILE, &ours) != 0 ||
        prlimit(load->server_pid, RLIMIT_NOFILE, NULL, &theirs) != 0) {
        rb_load_die("reading the limits on open files: %s", strerror(errno));
    }
    if (ours.rlim_cur < want) {
        struct rlimit raised = { .rlim_cur = want,
                                 .rlim_max = ours.rlim_max < want ? want : ours.rlim_max };
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            ours = raised;
        } else { /* the hard limit is final here */
            ours.rlim_cur = ours.rlim_max;
            (void)setrlimit(RLIMIT_NOFILE, &ours);
        }
    }
    rlim_t limit = ours.rlim_cur < theirs.rlim_cur ? ours.rlim_cur : theirs.rlim_cur;
    if (limit < 2 * FILES_RESERVE) {
        rb_load_die("only %llu open files are allowed", (unsigned long long)limit);
    }
    return limit >= want ? count : (uint32_t)(limit - FILES_RESERVE);
}

void rb_client_feed(struct rb_client *client, const uint8_t *ptr, size_t len)
{
    const char *wrong = rb_feed_take(&client->feed, ptr, len);
    if (wrong != NULL) {
        rb_load_die("%s (after %llu messages)", wrong, (unsigned long long)client->feed.msgs);
    }
}

void rb_client_took(struct rb_client *client, const uint8_t *ptr, ssize_t len)
{
    if (len < 0) {
        rb_load_die("read: %s", strerror(errno));
    }
    if (len == 0) {
        rb_load_die("the server closed a connection");
    }
    uint32_t pings = client->feed.pings;
    if (client->stream == NULL) {
        rb_client_feed(client, ptr, (size_t)len);
    } else {
        rb_stream_take(client, ptr, (size_t)len);
    }
    for (; pings != client->feed.pings; pings++) {
        if (client->stream == NULL) {
            (void)!send(client->fd, "PONG\r\n", 6, MSG_NOSIGNAL | MSG_DONTWAIT);
        } else {
            rb_client_write(client, "PONG\r\n", 6);
        }
    }
}

bool rb_client_read(struct rb_client *client, int timeout_ms)
{
    static _Thread_local uint8_t bytes[16384];
    struct pollfd poll_fd = { .fd = client->fd, .events = POLLIN };
    if (poll(&poll_fd, 1, timeout_ms) <= 0) {
        return false;
    }
    rb_client_took(client, bytes, recv(client->fd, bytes, sizeof(bytes), 0));
    return true;
}

void rb_client_write_raw(struct rb_client *client, const void *ptr, size_t len)
{
    const uint8_t *bytes = ptr;
    while (len > 0) {
        ssize_t sent = send(client->fd, bytes, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd poll_fd = { .fd = client->fd, .events = POLLOUT };
            (void)poll(&poll_fd, 1, 100);
            continue;
        }
        if (sent < 0) {
            rb_load_die("write: %s", strerror(errno));
        }
        bytes += sent;
        len -= (size_t)sent;
    }
}

void rb_client_write(struct rb_client *client, const void *ptr, size_t len)
{
    if (client->stream == NULL) {
        rb_client_write_raw(client, ptr, len);
    } else {
        struct rb_wire_bytes out = rb_stream_encode(client->stream, ptr, len);
        rb_client_write_raw(client, out.ptr, out.len);
    }
}

static bool is_greeted(const struct rb_client *client)
{
    return client->feed.infos > 0 && (client->stream == NULL || rb_stream_ready(client->stream));
}

/* CONNECT and PING. */
static void introduce(const struct rb_load *load, const struct rb_login *login,
                      struct rb_client *client, uint32_t index)
{
    char text[512];
    char who[128] = "";
    if (load->numbered_users) {
        snprintf(who, sizeof(who), ",\"user\":\"u%05u\",\"pass\":\"p\"", index);
    } else if (login->user != NULL) {
        snprintf(who, sizeof(who), ",\"user\":\"%s\",\"pass\":\"%s\"", login->user, login->pass);
    }
    int len = snprintf(text, sizeof(text),
                       "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true,"
                       "\"headers\":true,\"no_responders\":true,\"protocol\":1,\"lang\":\"c\","
                       "\"version\":\"0.1.0\",\"name\":\"ringbus_load\"%s}\r\nPING\r\n",
                       who);
    rb_client_write(client, text, (size_t)len);
}

static void wait_pong(const struct rb_load *load, struct rb_client *client, uint32_t pongs)
{
    while (client->feed.pongs < pongs) {
        (void)rb_client_read(client, 100);
        rb_load_check_deadline(load);
    }
}

void rb_client_sync(const struct rb_load *load, struct rb_client *client)
{
    uint32_t pongs = client->feed.pongs + 1;
    rb_client_write(client, "PING\r\n", 6);
    wait_pong(load, client, pongs);
}

void rb_client_open(const struct rb_load *load, struct rb_client *client)
{
    rb_client_open_as(load, client, &load->publisher);
}

void rb_client_open_as(const struct rb_load *load, struct rb_client *client,
                       const struct rb_login *login)
{
    uint64_t end_ns = rb_probe_now_ns() + CONNECT_WAIT_NS;
    *client = (struct rb_client){ .fd = -1 };
    while ((client->fd = rb_net_try_connect(load->host, load->port)) < 0) {
        if (errno != ECONNREFUSED || rb_probe_now_ns() > end_ns) {
            rb_load_die("connect to %s:%u: %s", load->host, load->port, strerror(errno));
        }
        rb_probe_sleep_until(rb_probe_now_ns() + CONNECT_RETRY_NS);
    }
    client->stream = rb_stream_create(load);
    rb_stream_begin(load, client);
    while (!is_greeted(client)) {
        (void)rb_client_read(client, 100);
        rb_load_check_deadline(load);
    }
    introduce(load, login, client, 0);
    wait_pong(load, client, 1);
}

void rb_client_close(struct rb_client *client)
{
    close(client->fd);
    client->fd = -1;
    rb_stream_destroy(client->stream);
    client->stream = NULL;
}

static void bind_source(const struct rb_load *load, int fd, uint32_t index)
{
    if (strncmp(load->host, "127.", 4) != 0) {
        return;
    }
    int on = 1;
    struct sockaddr_in addr = { .sin_family = AF_INET };
    addr.sin_addr.s_addr = htonl(0x7f000002u + index / SOURCE_CONNS_MAX);
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
        rb_load_die("bind to a loopback source address: %s", strerror(errno));
    }
}

void rb_net_start_one(const struct rb_load *load, int epoll, struct rb_client *client,
                      uint32_t index)
{
    if (load->wire == RB_WIRE_WS || load->wire == RB_WIRE_WS_DEFLATE) {
        rb_load_die("many connections at once must be ones on which the server speaks first");
    }
    struct sockaddr_in addr = make_addr(load->host, load->port);
    *client =
        (struct rb_client){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) };
    if (client->fd < 0) {
        rb_load_die("socket %u: %s", index, strerror(errno));
    }
    client->stream = rb_stream_create(load);
    bind_source(load, client->fd, index);
    set_nodelay(client->fd);
    if (connect(client->fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 && errno != EINPROGRESS) {
        rb_load_die("connection %u: %s", index, strerror(errno));
    }
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = index };
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event) != 0) {
        rb_load_die("epoll_ctl: %s", strerror(errno));
    }
}

/* The server speaks first, so readable (or an error) is the first thing a new connection is. True
 * once PONG is here. */
bool rb_net_step_one(const struct rb_load *load, const struct rb_login *login,
                     struct rb_client *client, uint32_t index)
{
    uint8_t bytes[8192];
    bool was_greeted = is_greeted(client);
    bool was_ready = client->feed.pongs > 0;
    ssize_t len = recv(client->fd, bytes, sizeof(bytes), 0);
    if (len < 0 && errno == EAGAIN) {
        return false;
    }
    rb_client_took(client, bytes, len);
    if (!was_greeted && is_greeted(client)) {
        introduce(load, login, client, index);
    }
    return !was_ready && client->feed.pongs > 0;
}

int rb_net_open_many(const struct rb_load *load, struct rb_client *clients, uint32_t count,
                     uint32_t inflight)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) {
        rb_load_die("epoll: %s", strerror(errno));
    }
    struct epoll_event events[EVENTS_MAX];
    uint32_t started = 0;
    uint32_t ready = 0;
    while (ready < count) {
        for (; started < count && started - ready < inflight; started++) {
            rb_net_start_one(load, epoll, &clients[started], started);
        }
        int event_count = epoll_wait(epoll, events, EVENTS_MAX, 100);
        for (int i = 0; i < event_count; i++) {
            uint32_t index = events[i].data.u32;
            ready += rb_net_step_one(load, &load->publisher, &clients[index], index);
        }
        rb_load_check_deadline(load);
    }
    return epoll;
}

void rb_net_reset(struct rb_client *client)
{
    struct linger reset = { .l_onoff = 1, .l_linger = 0 };
    (void)setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    rb_client_close(client);
}

void rb_net_close_many(int epoll, struct rb_client *clients, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        rb_net_reset(&clients[i]);
    }
    close(epoll);
}
