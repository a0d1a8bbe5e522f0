/* scale.c - what an idle connection and a subscription cost, and what many connections do.
 *
 * 1. Memory is the growth of the server's resident set between two quiet moments, divided by the
 *    number of things added: it counts what the allocator rounds up and what tables keep in
 *    reserve, and not what the kernel holds for sockets (equal for all servers, and outside every
 *    process).
 * 2. A few connections are opened before the first reading, so that what a server sets up once is
 *    not counted.
 */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "net.h"
#include "probe.h"

#define WARM_CONNS 10
#define IDLE_CONNS 5000
#define MANY_CONNS 20000
#define MANY_CONNS_QUICK 5000
#define SUB_CONNS 10
#define SUBS_PER_CONN 20000
#define INFLIGHT 256
#define DELIVER_ROUNDS 3
#define REST_NS 1000000000u
#define REST_QUICK_NS 300000000u
#define NOTE_SUBJECT "note.all"
#define NOTE_SIZE 128

static void rest(const struct rb_load *load)
{
    rb_probe_sleep_until(rb_probe_now_ns() + (load->quick ? REST_QUICK_NS : REST_NS));
}

static struct rb_client *make_clients(uint32_t count)
{
    struct rb_client *clients = calloc(count, sizeof(*clients));
    if (clients == NULL) {
        rb_load_die("no memory");
    }
    return clients;
}

static void open_warm(const struct rb_load *load, struct rb_client warm[WARM_CONNS])
{
    for (uint32_t i = 0; i < WARM_CONNS; i++) {
        rb_client_open(load, &warm[i]);
    }
    rest(load);
}

static void close_warm(struct rb_client warm[WARM_CONNS])
{
    for (uint32_t i = 0; i < WARM_CONNS; i++) {
        rb_client_close(&warm[i]);
    }
}

void rb_load_mem_conns(const struct rb_load *load)
{
    struct rb_client warm[WARM_CONNS];
    uint32_t count = rb_net_allowed_conns(load, IDLE_CONNS);
    struct rb_client *clients = make_clients(count);
    open_warm(load, warm);
    uint64_t before = rb_probe_rss_bytes(load->server_pid);
    int epoll = rb_net_open_many(load, clients, count, INFLIGHT);
    rest(load);
    uint64_t after = rb_probe_rss_bytes(load->server_pid);
    rb_net_close_many(epoll, clients, count);
    close_warm(warm);
    free(clients);
    rb_load_print_head(load);
    printf(",\"conns\":%u,\"rss_before_kib\":%llu,\"rss_after_kib\":%llu,"
           "\"bytes_per_conn\":%.0f}\n",
           count, (unsigned long long)before / 1024, (unsigned long long)after / 1024,
           ((double)after - (double)before) / count);
}

void rb_load_mem_subs(const struct rb_load *load)
{
    struct rb_client clients[SUB_CONNS];
    char text[16384];
    size_t subject_bytes = 0;
    for (uint32_t c = 0; c < SUB_CONNS; c++) {
        rb_client_open(load, &clients[c]);
    }
    rest(load);
    uint64_t before = rb_probe_rss_bytes(load->server_pid);
    for (uint32_t c = 0; c < SUB_CONNS; c++) {
        size_t len = 0;
        for (uint32_t s = 0; s < SUBS_PER_CONN; s++) {
            char subject[32];
            subject_bytes = (size_t)snprintf(subject, sizeof(subject), "mems.sub.%02u.%08u", c, s);
            len +=
                (size_t)snprintf(text + len, sizeof(text) - len, "SUB %s %u\r\n", subject, s + 1);
            if (len > sizeof(text) - 128 || s == SUBS_PER_CONN - 1) {
                rb_client_write(&clients[c], text, len);
                len = 0;
            }
        }
        rb_client_sync(load, &clients[c]);
    }
    rest(load);
    uint64_t after = rb_probe_rss_bytes(load->server_pid);
    for (uint32_t c = 0; c < SUB_CONNS; c++) {
        rb_client_close(&clients[c]);
    }
    uint32_t subs = SUB_CONNS * SUBS_PER_CONN;
    rb_load_print_head(load);
    printf(",\"subs\":%u,\"subject_bytes\":%zu,\"rss_before_kib\":%llu,\"rss_after_kib\":%llu,"
           "\"bytes_per_sub\":%.1f}\n",
           subs, subject_bytes, (unsigned long long)before / 1024, (unsigned long long)after / 1024,
           ((double)after - (double)before) / subs);
}

/* What every connection must have seen by now. */
struct goal {
    uint64_t msgs;
    uint32_t pongs;
};

static bool reached(const struct rb_client *client, struct goal goal)
{
    return client->feed.msgs >= goal.msgs && client->feed.pongs >= goal.pongs;
}

/* Reads until each connection has what `goal` says, and dies if one has more. */
static void read_all(const struct rb_load *load, int epoll, struct rb_client *clients,
                     uint32_t count, struct goal goal)
{
    uint8_t bytes[16384];
    struct epoll_event events[256];
    uint32_t done = 0;
    for (uint32_t i = 0; i < count; i++) {
        done += reached(&clients[i], goal);
    }
    while (done < count) {
        int event_count = epoll_wait(epoll, events, 256, 100);
        for (int i = 0; i < event_count; i++) {
            struct rb_client *client = &clients[events[i].data.u32];
            bool was_done = reached(client, goal);
            ssize_t len = recv(client->fd, bytes, sizeof(bytes), 0);
            if (len >= 0 || errno != EAGAIN) {
                rb_client_took(client, bytes, len);
            }
            done += !was_done && reached(client, goal);
        }
        rb_load_check_deadline(load);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (clients[i].feed.msgs != goal.msgs || clients[i].feed.pongs != goal.pongs) {
            rb_load_die("connection %u got more than was sent", i);
        }
    }
}

static void write_each(struct rb_client *clients, uint32_t count, const char *text)
{
    for (uint32_t i = 0; i < count; i++) {
        rb_client_write(&clients[i], text, strlen(text));
    }
}

struct spent {
    uint64_t wall_ns, server_ns;
};

static struct spent spent_now(const struct rb_load *load)
{
    return (struct spent){ .wall_ns = rb_probe_now_ns(),
                           .server_ns = rb_probe_cpu_ns(load->server_pid) };
}

static struct spent spent_since(const struct rb_load *load, struct spent from)
{
    struct spent now = spent_now(load);
    return (struct spent){ .wall_ns = now.wall_ns - from.wall_ns,
                           .server_ns = now.server_ns - from.server_ns };
}

/* Publishes one message at a time and waits until every connection has it. The sum over the
 * rounds. */
static struct spent deliver(const struct rb_load *load, int epoll, struct rb_client *clients,
                            uint32_t count, struct goal *goal)
{
    struct rb_client publisher;
    uint8_t payload[NOTE_SIZE];
    char line[256];
    rb_client_open(load, &publisher);
    struct spent from = spent_now(load);
    for (uint32_t i = 0; i < DELIVER_ROUNDS; i++) {
        rb_expect_payload(payload, sizeof(payload), i);
        int len = snprintf(line, sizeof(line), "PUB " NOTE_SUBJECT " %u\r\n%.*s\r\n", NOTE_SIZE,
                           NOTE_SIZE, (const char *)payload);
        rb_client_write(&publisher, line, (size_t)len);
        goal->msgs++;
        read_all(load, epoll, clients, count, *goal);
    }
    struct spent all = spent_since(load, from);
    rb_client_sync(load, &publisher);
    rb_client_close(&publisher);
    return all;
}

void rb_load_conns(const struct rb_load *load)
{
    struct rb_client warm[WARM_CONNS];
    struct rb_expect expect;
    uint32_t count = rb_net_allowed_conns(load, load->quick ? MANY_CONNS_QUICK : MANY_CONNS);
    struct rb_client *clients = make_clients(count);
    open_warm(load, warm);
    uint64_t rss_before = rb_probe_rss_bytes(load->server_pid);

    struct spent from = spent_now(load);
    int epoll = rb_net_open_many(load, clients, count, INFLIGHT);
    struct spent opened = spent_since(load, from);
    rest(load);
    uint64_t rss_after = rb_probe_rss_bytes(load->server_pid);

    struct goal goal = { .pongs = 2 }; /* the first belongs to CONNECT */
    from = spent_now(load);
    write_each(clients, count, "PING\r\n");
    read_all(load, epoll, clients, count, goal);
    struct spent pinged = spent_since(load, from);

    rb_expect_init(&expect, NOTE_SUBJECT, "1", NOTE_SIZE, DELIVER_ROUNDS, true);
    for (uint32_t i = 0; i < count; i++) {
        clients[i].feed.expect = &expect;
    }
    write_each(clients, count, "SUB " NOTE_SUBJECT " 1\r\nPING\r\n");
    goal.pongs++;
    read_all(load, epoll, clients, count, goal);
    struct spent delivered = deliver(load, epoll, clients, count, &goal);

    write_each(clients, count, "PING\r\n"); /* nobody got more than it should */
    goal.pongs++;
    read_all(load, epoll, clients, count, goal);
    rb_net_close_many(epoll, clients, count);
    close_warm(warm);
    free(clients);
    free(expect.frame);
    rb_load_print_head(load);
    printf(",\"conns\":%u,\"conns_per_s\":%.0f,\"open_cpu_us_per_conn\":%.2f,"
           "\"bytes_per_conn\":%.0f,\"ping_round_ms\":%.2f,\"ping_cpu_us_per_conn\":%.3f,"
           "\"deliver_ms\":%.2f,\"deliver_cpu_us_per_conn\":%.3f}\n",
           count, (double)count * 1e9 / (double)opened.wall_ns,
           (double)opened.server_ns / 1000.0 / count,
           ((double)rss_after - (double)rss_before) / count, (double)pinged.wall_ns / 1e6,
           (double)pinged.server_ns / 1000.0 / count,
           (double)delivered.wall_ns / 1e6 / DELIVER_ROUNDS,
           (double)delivered.server_ns / 1000.0 / count / DELIVER_ROUNDS);
}
