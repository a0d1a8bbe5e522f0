/*
 * interop.c - the C client library (nats.c) against a server binary.
 *
 *   interop SERVER
 *
 * The program starts SERVER itself on a loopback port the server picks, runs every test on it and
 * prints "ok NAME" or "FAIL NAME: why", then "c: N passed, N failed". Exit code 0 when nothing
 * failed. Design:
 *
 * 1. One test is one function that returns NULL or the text of what went wrong; it opens its own
 *    connections and closes them, so tests do not see each other's messages (each has its own
 *    subject prefix).
 * 2. Every wait has an end (WAIT_MS). The server is killed by pid, also when a test failed.
 * 3. Callbacks run in the library's threads: they touch only the struct they were given, under its
 *    lock or with atomics.
 */
#include <errno.h>
#include <fcntl.h>
#include <nats/nats.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 10000
#define PAYLOAD_MAX (1024 * 1024)

/* --- the server process --------------------------------------------------------------------- */

struct server {
    const char *path;
    pid_t pid;
    int log_fd;
    char host[64];
    int port;
};

static struct server server = { .pid = -1, .log_fd = -1, .port = -1 };

static void sleep_ms(int64_t ms)
{
    struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000 };
    while (nanosleep(&pause, &pause) != 0 && errno == EINTR) {
    }
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Reads the log until the server says it is ready; finds its address on the way. */
static bool read_until_ready(FILE *log)
{
    char line[4096];
    while (fgets(line, sizeof(line), log) != NULL) {
        const char *mark = strstr(line, "Listening for client connections on ");
        if (mark != NULL) {
            const char *address = mark + strlen("Listening for client connections on ");
            if (sscanf(address, "%63[^:]:%d", server.host, &server.port) != 2) {
                return false;
            }
        }
        if (strstr(line, "Server is ready") != NULL) {
            return server.port > 0;
        }
    }
    return false;
}

/* What the server logs later is dropped, but somebody has to read it. */
static void *drain_log(void *arg)
{
    FILE *log = arg;
    char line[4096];
    while (fgets(line, sizeof(line), log) != NULL) {
    }
    fclose(log);
    return NULL;
}

static void run_server(int log_fd, int port)
{
    char port_text[16];
    snprintf(port_text, sizeof(port_text), "%d", port);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    execl(server.path, server.path, "-a", "127.0.0.1", "-p", port_text, (char *)NULL);
    _exit(127);
}

/* True when the server ended by itself with exit code 0. */
static bool stop_server(int sig)
{
    if (server.pid <= 0) {
        return false;
    }
    int status = 0;
    pid_t ended = 0;
    kill(server.pid, sig);
    for (int64_t limit = now_ms() + WAIT_MS; ended == 0 && now_ms() < limit;) {
        ended = waitpid(server.pid, &status, WNOHANG);
        if (ended == 0) {
            sleep_ms(10);
        }
    }
    if (ended == 0) {
        kill(server.pid, SIGKILL);
        waitpid(server.pid, &status, 0);
    }
    server.pid = -1;
    return ended > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool start_server(int port)
{
    int pipe_fds[2];
    if (pipe(pipe_fds) != 0) {
        return false;
    }
    fcntl(pipe_fds[0], F_SETFD, FD_CLOEXEC);
    server.pid = fork();
    if (server.pid < 0) {
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        return false;
    }
    if (server.pid == 0) {
        run_server(pipe_fds[1], port);
    }
    close(pipe_fds[1]);
    FILE *log = fdopen(pipe_fds[0], "r");
    pthread_t thread;
    if (log != NULL && read_until_ready(log) &&
        pthread_create(&thread, NULL, drain_log, log) == 0) {
        pthread_detach(thread);
        return true;
    }
    stop_server(SIGKILL);
    if (log != NULL) {
        fclose(log);
    } else {
        close(pipe_fds[0]);
    }
    return false;
}

/* --- shared by the tests -------------------------------------------------------------------- */

/* The first thing that went wrong in a test; later ones are consequences. */
static _Thread_local char why[256];

#define TRY(call)                                                                                  \
    do {                                                                                           \
        natsStatus try_status = (call);                                                            \
        if (try_status != NATS_OK) {                                                               \
            snprintf(why, sizeof(why), "%s: %s", #call, natsStatus_GetText(try_status));           \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            snprintf(why, sizeof(why), "line %d: %s", __LINE__, #condition);                       \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

static const char *verdict(void)
{
    return why[0] == '\0' ? NULL : why;
}

static const char *url(void)
{
    static _Thread_local char text[128];
    snprintf(text, sizeof(text), "nats://%s:%d", server.host, server.port);
    return text;
}

/* Counts what a subscription got. */
struct counter {
    _Atomic int count;
};

static void count_message(natsConnection *conn, natsSubscription *sub, natsMsg *msg, void *arg)
{
    struct counter *counter = arg;
    atomic_fetch_add(&counter->count, 1);
    natsMsg_Destroy(msg);
}

static bool wait_count(_Atomic int *count, int wanted)
{
    int64_t limit = now_ms() + WAIT_MS;
    while (atomic_load(count) < wanted && now_ms() < limit) {
        sleep_ms(2);
    }
    return atomic_load(count) >= wanted;
}

static void reply_twice(natsConnection *conn, natsSubscription *sub, natsMsg *msg, void *arg)
{
    char reply[512];
    const char *data = natsMsg_GetData(msg);
    int len = natsMsg_GetDataLength(msg);
    snprintf(reply, sizeof(reply), "%.*s%.*s", len, data, len, data);
    natsConnection_PublishString(conn, natsMsg_GetReply(msg), reply);
    natsMsg_Destroy(msg);
}

/* --- the tests ------------------------------------------------------------------------------ */

static const char *test_connect(void)
{
    natsConnection *conn = NULL;
    char connected[256] = "";
    TRY(natsConnection_ConnectTo(&conn, url()));
    TRY(natsConnection_GetConnectedUrl(conn, connected, sizeof(connected)));
    EXPECT(natsConnection_GetMaxPayload(conn) == PAYLOAD_MAX);
    EXPECT(natsConnection_HasHeaderSupport(conn) == NATS_OK);
    TRY(natsConnection_FlushTimeout(conn, WAIT_MS));
    int64_t rtt_ns = 0;
    TRY(natsConnection_GetRTT(conn, &rtt_ns));
    EXPECT(rtt_ns > 0);
done:
    natsConnection_Destroy(conn);
    return verdict();
}

static const char *test_request_reply(void)
{
    natsConnection *client = NULL, *service = NULL;
    natsSubscription *sub = NULL;
    natsMsg *reply = NULL;
    TRY(natsConnection_ConnectTo(&service, url()));
    TRY(natsConnection_ConnectTo(&client, url()));
    TRY(natsConnection_Subscribe(&sub, service, "rr.twice", reply_twice, NULL));
    TRY(natsConnection_FlushTimeout(service, WAIT_MS));
    for (int i = 0; i < 200; i++) {
        char text[32], wanted[64];
        snprintf(text, sizeof(text), "req-%d.", i);
        snprintf(wanted, sizeof(wanted), "req-%d.req-%d.", i, i);
        TRY(natsConnection_RequestString(&reply, client, "rr.twice", text, WAIT_MS));
        EXPECT(natsMsg_GetDataLength(reply) == (int)strlen(wanted));
        EXPECT(memcmp(natsMsg_GetData(reply), wanted, strlen(wanted)) == 0);
        natsMsg_Destroy(reply);
        reply = NULL;
    }
done:
    natsMsg_Destroy(reply);
    natsSubscription_Destroy(sub);
    natsConnection_Destroy(client);
    natsConnection_Destroy(service);
    return verdict();
}

static const char *test_old_style_request(void)
{
    natsConnection *client = NULL, *service = NULL;
    natsOptions *options = NULL;
    natsSubscription *sub = NULL;
    natsMsg *reply = NULL;
    TRY(natsOptions_Create(&options));
    TRY(natsOptions_SetURL(options, url()));
    /* One inbox, SUB and UNSUB per request. */
    TRY(natsOptions_UseOldRequestStyle(options, true));
    TRY(natsConnection_Connect(&client, options));
    TRY(natsConnection_ConnectTo(&service, url()));
    TRY(natsConnection_Subscribe(&sub, service, "old.twice", reply_twice, NULL));
    TRY(natsConnection_FlushTimeout(service, WAIT_MS));
    for (int i = 0; i < 50; i++) {
        TRY(natsConnection_RequestString(&reply, client, "old.twice", "ab", WAIT_MS));
        EXPECT(natsMsg_GetDataLength(reply) == 4 && memcmp(natsMsg_GetData(reply), "abab", 4) == 0);
        natsMsg_Destroy(reply);
        reply = NULL;
    }
done:
    natsMsg_Destroy(reply);
    natsSubscription_Destroy(sub);
    natsConnection_Destroy(client);
    natsConnection_Destroy(service);
    natsOptions_Destroy(options);
    return verdict();
}

static const char *test_no_responders(void)
{
    natsConnection *conn = NULL;
    natsMsg *reply = NULL;
    TRY(natsConnection_ConnectTo(&conn, url()));
    int64_t start = now_ms();
    natsStatus status = natsConnection_RequestString(&reply, conn, "nobody.listens", "x", WAIT_MS);
    EXPECT(status == NATS_NO_RESPONDERS);
    EXPECT(now_ms() - start < WAIT_MS / 2);
done:
    natsMsg_Destroy(reply);
    natsConnection_Destroy(conn);
    return verdict();
}

#define QUEUE_MEMBERS 8
#define QUEUE_MESSAGES 4000

/* Which of the numbered messages came, and how often. */
struct tally {
    _Atomic int got[QUEUE_MESSAGES];
    _Atomic int total;
    _Atomic int per_member[QUEUE_MEMBERS];
};

struct member {
    struct tally *tally;
    int index;
};

static void tally_message(natsConnection *conn, natsSubscription *sub, natsMsg *msg, void *arg)
{
    struct member *member = arg;
    int number = atoi(natsMsg_GetData(msg));
    if (number >= 0 && number < QUEUE_MESSAGES) {
        atomic_fetch_add(&member->tally->got[number], 1);
    }
    atomic_fetch_add(&member->tally->per_member[member->index], 1);
    atomic_fetch_add(&member->tally->total, 1);
    natsMsg_Destroy(msg);
}

static const char *test_queue_group(void)
{
    static struct tally tally;
    struct member members[QUEUE_MEMBERS];
    natsConnection *conns[QUEUE_MEMBERS] = { NULL }, *publisher = NULL;
    natsSubscription *subs[QUEUE_MEMBERS] = { NULL };
    memset(&tally, 0, sizeof(tally));
    for (int i = 0; i < QUEUE_MEMBERS; i++) {
        members[i] = (struct member){ .tally = &tally, .index = i };
        TRY(natsConnection_ConnectTo(&conns[i], url()));
        /* Different subjects, one queue name: still one group. */
        TRY(natsConnection_QueueSubscribe(&subs[i], conns[i], i % 2 == 0 ? "queue.jobs" : "queue.*",
                                          "workers", tally_message, &members[i]));
        TRY(natsConnection_FlushTimeout(conns[i], WAIT_MS));
    }
    TRY(natsConnection_ConnectTo(&publisher, url()));
    for (int i = 0; i < QUEUE_MESSAGES; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        TRY(natsConnection_PublishString(publisher, "queue.jobs", text));
    }
    TRY(natsConnection_FlushTimeout(publisher, WAIT_MS));
    EXPECT(wait_count(&tally.total, QUEUE_MESSAGES));
    sleep_ms(100); /* time for a copy too many */
    EXPECT(atomic_load(&tally.total) == QUEUE_MESSAGES);
    for (int i = 0; i < QUEUE_MESSAGES; i++) {
        EXPECT(atomic_load(&tally.got[i]) == 1);
    }
    for (int i = 0; i < QUEUE_MEMBERS; i++) {
        EXPECT(atomic_load(&tally.per_member[i]) > QUEUE_MESSAGES / QUEUE_MEMBERS / 4);
    }
done:
    for (int i = 0; i < QUEUE_MEMBERS; i++) {
        natsSubscription_Destroy(subs[i]);
        natsConnection_Destroy(conns[i]);
    }
    natsConnection_Destroy(publisher);
    sleep_ms(50); /* callbacks still running end before `members` goes */
    return verdict();
}

static const char *test_headers(void)
{
    natsConnection *conn = NULL;
    natsSubscription *sub = NULL;
    natsMsg *out = NULL, *in = NULL;
    const char *value = NULL, **values = NULL;
    int count = 0;
    TRY(natsConnection_ConnectTo(&conn, url()));
    TRY(natsConnection_SubscribeSync(&sub, conn, "headers.*"));
    TRY(natsMsg_Create(&out, "headers.a", "headers.reply", "body", 4));
    TRY(natsMsgHeader_Set(out, "Colour", "red"));
    TRY(natsMsgHeader_Add(out, "Number", "one"));
    TRY(natsMsgHeader_Add(out, "Number", "two"));
    TRY(natsConnection_PublishMsg(conn, out));
    TRY(natsSubscription_NextMsg(&in, sub, WAIT_MS));
    EXPECT(natsMsg_GetDataLength(in) == 4 && memcmp(natsMsg_GetData(in), "body", 4) == 0);
    EXPECT(strcmp(natsMsg_GetReply(in), "headers.reply") == 0);
    TRY(natsMsgHeader_Get(in, "Colour", &value));
    EXPECT(strcmp(value, "red") == 0);
    TRY(natsMsgHeader_Values(in, "Number", &values, &count));
    EXPECT(count == 2 && strcmp(values[0], "one") == 0 && strcmp(values[1], "two") == 0);
    natsMsg_Destroy(in);
    in = NULL;
    TRY(natsConnection_PublishString(conn, "headers.b", "plain"));
    TRY(natsSubscription_NextMsg(&in, sub, WAIT_MS));
    EXPECT(natsMsgHeader_Get(in, "Colour", &value) == NATS_NOT_FOUND);
done:
    free((void *)values);
    natsMsg_Destroy(in);
    natsMsg_Destroy(out);
    natsSubscription_Destroy(sub);
    natsConnection_Destroy(conn);
    return verdict();
}

static const char *test_wildcards(void)
{
    natsConnection *conn = NULL;
    natsSubscription *one = NULL, *rest = NULL, *exact = NULL;
    struct counter one_count = { 0 }, rest_count = { 0 }, exact_count = { 0 }, end_count = { 0 };
    natsSubscription *end = NULL;
    static const char *const subjects[] = { "wild",       "wild.a",  "wild.b", "wild.a.b",
                                            "wild.a.b.c", "other.a", "wildx.a" };
    TRY(natsConnection_ConnectTo(&conn, url()));
    TRY(natsConnection_Subscribe(&one, conn, "wild.*", count_message, &one_count));
    TRY(natsConnection_Subscribe(&rest, conn, "wild.>", count_message, &rest_count));
    TRY(natsConnection_Subscribe(&exact, conn, "wild.a", count_message, &exact_count));
    TRY(natsConnection_Subscribe(&end, conn, "end.of.wild", count_message, &end_count));
    for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
        TRY(natsConnection_PublishString(conn, subjects[i], "x"));
    }
    TRY(natsConnection_PublishString(conn, "end.of.wild", "x"));
    EXPECT(wait_count(&end_count.count, 1));
    EXPECT(wait_count(&rest_count.count, 4));
    EXPECT(wait_count(&one_count.count, 2));
    EXPECT(wait_count(&exact_count.count, 1));
    sleep_ms(50);
    EXPECT(atomic_load(&one_count.count) == 2);
    EXPECT(atomic_load(&rest_count.count) == 4);
    EXPECT(atomic_load(&exact_count.count) == 1);
done:
    natsSubscription_Destroy(one);
    natsSubscription_Destroy(rest);
    natsSubscription_Destroy(exact);
    natsSubscription_Destroy(end);
    natsConnection_Destroy(conn);
    sleep_ms(50);
    return verdict();
}

static const char *test_auto_unsubscribe(void)
{
    natsConnection *conn = NULL, *publisher = NULL;
    natsSubscription *sub = NULL;
    natsMsg *msg = NULL;
    TRY(natsConnection_ConnectTo(&conn, url()));
    TRY(natsConnection_ConnectTo(&publisher, url()));
    TRY(natsConnection_SubscribeSync(&sub, conn, "auto.unsub"));
    TRY(natsSubscription_AutoUnsubscribe(sub, 10));
    TRY(natsConnection_FlushTimeout(conn, WAIT_MS));
    for (int i = 0; i < 25; i++) {
        TRY(natsConnection_PublishString(publisher, "auto.unsub", "x"));
    }
    TRY(natsConnection_FlushTimeout(publisher, WAIT_MS));
    TRY(natsConnection_FlushTimeout(conn, WAIT_MS));
    for (int i = 0; i < 10; i++) {
        TRY(natsSubscription_NextMsg(&msg, sub, WAIT_MS));
        natsMsg_Destroy(msg);
        msg = NULL;
    }
    EXPECT(natsSubscription_NextMsg(&msg, sub, 100) != NATS_OK);
    natsStatistics *stats = NULL;
    uint64_t in_msgs = 0;
    TRY(natsStatistics_Create(&stats));
    natsStatus status = natsConnection_GetStats(conn, stats);
    if (status == NATS_OK) {
        status = natsStatistics_GetCounts(stats, &in_msgs, NULL, NULL, NULL, NULL);
    }
    natsStatistics_Destroy(stats);
    TRY(status);
    EXPECT(in_msgs == 10); /* the server stopped, not only the library */
done:
    natsMsg_Destroy(msg);
    natsSubscription_Destroy(sub);
    natsConnection_Destroy(publisher);
    natsConnection_Destroy(conn);
    return verdict();
}

static const char *test_unsubscribe(void)
{
    natsConnection *conn = NULL;
    natsSubscription *sub = NULL;
    struct counter counter = { 0 };
    TRY(natsConnection_ConnectTo(&conn, url()));
    TRY(natsConnection_Subscribe(&sub, conn, "unsub.a", count_message, &counter));
    TRY(natsConnection_PublishString(conn, "unsub.a", "x"));
    EXPECT(wait_count(&counter.count, 1));
    TRY(natsSubscription_Unsubscribe(sub));
    TRY(natsConnection_PublishString(conn, "unsub.a", "x"));
    TRY(natsConnection_FlushTimeout(conn, WAIT_MS));
    sleep_ms(50);
    EXPECT(atomic_load(&counter.count) == 1);
done:
    natsSubscription_Destroy(sub);
    natsConnection_Destroy(conn);
    sleep_ms(50);
    return verdict();
}

static void slow_count(natsConnection *conn, natsSubscription *sub, natsMsg *msg, void *arg)
{
    sleep_ms(1);
    count_message(conn, sub, msg, arg);
}

static void closed(natsConnection *conn, void *arg)
{
    struct counter *counter = arg;
    atomic_fetch_add(&counter->count, 1);
}

/* Drain must unsubscribe first, then hand over what is here, flush, and close. */
static const char *test_drain(void)
{
    natsConnection *conn = NULL, *publisher = NULL;
    natsOptions *options = NULL;
    natsSubscription *sub = NULL;
    struct counter counter = { 0 }, closes = { 0 };
    TRY(natsOptions_Create(&options));
    TRY(natsOptions_SetURL(options, url()));
    TRY(natsOptions_SetClosedCB(options, closed, &closes));
    TRY(natsConnection_Connect(&conn, options));
    TRY(natsConnection_ConnectTo(&publisher, url()));
    TRY(natsConnection_Subscribe(&sub, conn, "drain.a", slow_count, &counter));
    TRY(natsConnection_FlushTimeout(conn, WAIT_MS));
    for (int i = 0; i < 300; i++) {
        TRY(natsConnection_PublishString(publisher, "drain.a", "x"));
    }
    TRY(natsConnection_FlushTimeout(publisher, WAIT_MS));
    TRY(natsConnection_FlushTimeout(conn, WAIT_MS)); /* all 300 are in the library now */
    TRY(natsConnection_Drain(conn));
    EXPECT(wait_count(&closes.count, 1));
    EXPECT(atomic_load(&counter.count) == 300);
    EXPECT(natsConnection_IsClosed(conn));
    TRY(natsConnection_PublishString(publisher, "drain.a", "x"));
    TRY(natsConnection_FlushTimeout(publisher, WAIT_MS));
    EXPECT(atomic_load(&counter.count) == 300);
done:
    natsSubscription_Destroy(sub);
    natsConnection_Destroy(conn);
    natsConnection_Destroy(publisher);
    natsOptions_Destroy(options);
    sleep_ms(50);
    return verdict();
}

static const char *test_no_echo(void)
{
    natsConnection *silent = NULL, *other = NULL;
    natsOptions *options = NULL;
    natsSubscription *sub = NULL;
    natsMsg *msg = NULL;
    TRY(natsOptions_Create(&options));
    TRY(natsOptions_SetURL(options, url()));
    TRY(natsOptions_SetNoEcho(options, true));
    TRY(natsConnection_Connect(&silent, options));
    TRY(natsConnection_ConnectTo(&other, url()));
    TRY(natsConnection_SubscribeSync(&sub, silent, "echo.a"));
    TRY(natsConnection_PublishString(silent, "echo.a", "own"));
    TRY(natsConnection_FlushTimeout(silent, WAIT_MS));
    TRY(natsConnection_PublishString(other, "echo.a", "other"));
    TRY(natsSubscription_NextMsg(&msg, sub, WAIT_MS));
    EXPECT(natsMsg_GetDataLength(msg) == 5 && memcmp(natsMsg_GetData(msg), "other", 5) == 0);
done:
    natsMsg_Destroy(msg);
    natsSubscription_Destroy(sub);
    natsConnection_Destroy(silent);
    natsConnection_Destroy(other);
    natsOptions_Destroy(options);
    return verdict();
}

static const char *test_max_payload(void)
{
    natsConnection *conn = NULL;
    natsSubscription *sub = NULL;
    natsMsg *msg = NULL;
    char *data = malloc(PAYLOAD_MAX + 1);
    EXPECT(data != NULL);
    for (int i = 0; i <= PAYLOAD_MAX; i++) {
        data[i] = (char)(i * 31 + (i >> 8));
    }
    TRY(natsConnection_ConnectTo(&conn, url()));
    TRY(natsConnection_SubscribeSync(&sub, conn, "max.payload"));
    TRY(natsConnection_Publish(conn, "max.payload", data, PAYLOAD_MAX));
    TRY(natsSubscription_NextMsg(&msg, sub, WAIT_MS));
    EXPECT(natsMsg_GetDataLength(msg) == PAYLOAD_MAX);
    EXPECT(memcmp(natsMsg_GetData(msg), data, PAYLOAD_MAX) == 0);
    EXPECT(natsConnection_Publish(conn, "max.payload", data, PAYLOAD_MAX + 1) == NATS_MAX_PAYLOAD);
done:
    free(data);
    natsMsg_Destroy(msg);
    natsSubscription_Destroy(sub);
    natsConnection_Destroy(conn);
    return verdict();
}

/* --- 8 publishers, 8 subscribers ------------------------------------------------------------ */

#define MESH_PEERS 8
#define MESH_ROUNDS 40
#define MESH_WINDOW 2 /* messages a publisher has unacknowledged: at most 2 MiB per subscriber */

/*
 * A payload is { sum, publisher, round, length } and then bytes made from them, so a receiver can
 * tell loss, repetition, reordering and damage apart. Every subscriber gets every message and
 * answers each to the publisher's inbox; a publisher goes on when all 8 have answered, at most
 * MESH_WINDOW rounds ahead. That keeps the server's queues below their limits.
 */
struct mesh_header {
    uint32_t sum, publisher, round, length;
};

struct mesh_receiver {
    uint32_t next_round[MESH_PEERS];
    _Atomic int received, damaged, misordered;
};

static uint32_t sum_of(const uint8_t *bytes, size_t len)
{
    uint32_t sum = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < len; i++) {
        sum = (sum ^ bytes[i]) * 16777619u;
    }
    return sum;
}

static void mesh_receive(natsConnection *conn, natsSubscription *sub, natsMsg *msg, void *arg)
{
    struct mesh_receiver *receiver = arg;
    const uint8_t *data = (const uint8_t *)natsMsg_GetData(msg);
    size_t len = (size_t)natsMsg_GetDataLength(msg);
    struct mesh_header header = { 0 };
    if (len >= sizeof(header)) {
        memcpy(&header, data, sizeof(header));
    }
    if (len < sizeof(header) || header.length != len || header.publisher >= MESH_PEERS ||
        header.sum != sum_of(data + sizeof(header.sum), len - sizeof(header.sum))) {
        atomic_fetch_add(&receiver->damaged, 1);
    } else if (receiver->next_round[header.publisher]++ != header.round) {
        atomic_fetch_add(&receiver->misordered, 1);
    }
    atomic_fetch_add(&receiver->received, 1);
    natsConnection_PublishString(conn, natsMsg_GetReply(msg), "+");
    natsMsg_Destroy(msg);
}

/* From the header alone to max_payload: small ones are frequent, the largest is always there. */
static size_t mesh_size(unsigned *seed, int round)
{
    static const size_t limits[] = { 64, 1024, 32768, 65536, 200000, PAYLOAD_MAX };
    size_t least = sizeof(struct mesh_header);
    if (round == MESH_ROUNDS / 2) {
        return PAYLOAD_MAX;
    }
    size_t limit = limits[rand_r(seed) % (sizeof(limits) / sizeof(limits[0]))];
    return least + (size_t)rand_r(seed) % (limit - least + 1);
}

struct mesh_publisher {
    uint32_t index;
    char problem[256]; /* empty: all went well */
};

static void mesh_publish_one(uint8_t *data, uint32_t index, uint32_t round, unsigned *seed,
                             size_t *ret_len)
{
    size_t len = mesh_size(seed, (int)round);
    struct mesh_header header = { .publisher = index, .round = round, .length = (uint32_t)len };
    uint32_t word = index * 7919u + round;
    for (size_t i = sizeof(header); i < len; i++) {
        word = word * 1664525u + 1013904223u;
        data[i] = (uint8_t)(word >> 24);
    }
    memcpy(data, &header, sizeof(header));
    header.sum = sum_of(data + sizeof(header.sum), len - sizeof(header.sum));
    memcpy(data, &header, sizeof(header));
    *ret_len = len;
}

static void *mesh_publish(void *arg)
{
    struct mesh_publisher *publisher = arg;
    natsConnection *conn = NULL;
    natsSubscription *acks = NULL;
    natsMsg *ack = NULL;
    char inbox[64];
    unsigned seed = publisher->index + 1;
    uint8_t *data = malloc(PAYLOAD_MAX);
    why[0] = '\0';
    EXPECT(data != NULL);
    snprintf(inbox, sizeof(inbox), "mesh.ack.%u", publisher->index);
    TRY(natsConnection_ConnectTo(&conn, url()));
    TRY(natsConnection_SubscribeSync(&acks, conn, inbox));
    TRY(natsConnection_FlushTimeout(conn, WAIT_MS));
    for (int round = 0; round < MESH_ROUNDS + MESH_WINDOW; round++) {
        if (round >= MESH_WINDOW) {
            for (int i = 0; i < MESH_PEERS; i++) {
                TRY(natsSubscription_NextMsg(&ack, acks, 2 * WAIT_MS));
                natsMsg_Destroy(ack);
                ack = NULL;
            }
        }
        if (round < MESH_ROUNDS) {
            size_t len;
            mesh_publish_one(data, publisher->index, (uint32_t)round, &seed, &len);
            TRY(natsConnection_PublishRequest(conn, "mesh.data", inbox, data, (int)len));
        }
    }
done:
    snprintf(publisher->problem, sizeof(publisher->problem), "%s", why);
    free(data);
    natsMsg_Destroy(ack);
    natsSubscription_Destroy(acks);
    natsConnection_Destroy(conn);
    return NULL;
}

static const char *test_mesh(void)
{
    static struct mesh_receiver receivers[MESH_PEERS];
    struct mesh_publisher publishers[MESH_PEERS];
    natsConnection *conns[MESH_PEERS] = { NULL };
    natsSubscription *subs[MESH_PEERS] = { NULL };
    pthread_t threads[MESH_PEERS];
    int started = 0;
    memset(receivers, 0, sizeof(receivers));
    for (int i = 0; i < MESH_PEERS; i++) {
        TRY(natsConnection_ConnectTo(&conns[i], url()));
        TRY(natsConnection_Subscribe(&subs[i], conns[i], "mesh.data", mesh_receive, &receivers[i]));
        TRY(natsConnection_FlushTimeout(conns[i], WAIT_MS));
    }
    for (int i = 0; i < MESH_PEERS; i++) {
        publishers[i] = (struct mesh_publisher){ .index = (uint32_t)i };
        EXPECT(pthread_create(&threads[i], NULL, mesh_publish, &publishers[i]) == 0);
        started++;
    }
done:
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        if (why[0] == '\0' && publishers[i].problem[0] != '\0') {
            snprintf(why, sizeof(why), "%s", publishers[i].problem);
        }
    }
    for (int i = 0; i < MESH_PEERS && why[0] == '\0'; i++) {
        int got = atomic_load(&receivers[i].received);
        int bad = atomic_load(&receivers[i].damaged), late = atomic_load(&receivers[i].misordered);
        if (got != MESH_PEERS * MESH_ROUNDS || bad != 0 || late != 0) {
            snprintf(why, sizeof(why), "receiver %d: %d of %d came, %d damaged, %d out of order", i,
                     got, MESH_PEERS * MESH_ROUNDS, bad, late);
        }
    }
    for (int i = 0; i < MESH_PEERS; i++) {
        natsSubscription_Destroy(subs[i]);
        natsConnection_Destroy(conns[i]);
    }
    sleep_ms(50);
    return verdict();
}

/* --- the server goes away and comes back ---------------------------------------------------- */

static natsStatus connect_persistent(natsConnection **ret_conn, natsOptions **ret_options,
                                     struct counter *reconnects, struct counter *disconnects)
{
    natsStatus status = natsOptions_Create(ret_options);
    if (status == NATS_OK) {
        status = natsOptions_SetURL(*ret_options, url());
    }
    if (status == NATS_OK) {
        status = natsOptions_SetReconnectWait(*ret_options, 50);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetReconnectJitter(*ret_options, 5, 5);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetMaxReconnect(*ret_options, 400);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetReconnectedCB(*ret_options, closed, reconnects);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetDisconnectedCB(*ret_options, closed, disconnects);
    }
    return status == NATS_OK ? natsConnection_Connect(ret_conn, *ret_options) : status;
}

static const char *test_reconnect(void)
{
    natsConnection *conn = NULL;
    natsOptions *options = NULL;
    natsSubscription *plain = NULL, *queue = NULL;
    struct counter plain_count = { 0 }, queue_count = { 0 };
    struct counter reconnects = { 0 }, disconnects = { 0 };
    TRY(connect_persistent(&conn, &options, &reconnects, &disconnects));
    TRY(natsConnection_Subscribe(&plain, conn, "again.*", count_message, &plain_count));
    TRY(natsConnection_QueueSubscribe(&queue, conn, "again.a", "q", count_message, &queue_count));
    TRY(natsConnection_PublishString(conn, "again.a", "1"));
    EXPECT(wait_count(&plain_count.count, 1) && wait_count(&queue_count.count, 1));
    for (int round = 1; round <= 2; round++) {
        /* First a crash, then an orderly end. */
        bool orderly = stop_server(round == 1 ? SIGKILL : SIGTERM);
        EXPECT(orderly == (round == 2));
        EXPECT(wait_count(&disconnects.count, round));
        EXPECT(start_server(server.port));
        EXPECT(wait_count(&reconnects.count, round));
        TRY(natsConnection_FlushTimeout(conn, WAIT_MS));
        TRY(natsConnection_PublishString(conn, "again.a", "2"));
        EXPECT(wait_count(&plain_count.count, round + 1));
        EXPECT(wait_count(&queue_count.count, round + 1));
    }
done:
    natsSubscription_Destroy(plain);
    natsSubscription_Destroy(queue);
    natsConnection_Destroy(conn);
    natsOptions_Destroy(options);
    sleep_ms(50);
    return verdict();
}

/* --- the program ---------------------------------------------------------------------------- */

static const struct test {
    const char *name;
    const char *(*run)(void);
} tests[] = {
    { "connect", test_connect },
    { "request and reply", test_request_reply },
    { "request, old style", test_old_style_request },
    { "no responders", test_no_responders },
    { "queue group of 8, each message once", test_queue_group },
    { "headers", test_headers },
    { "wildcards", test_wildcards },
    { "unsubscribe", test_unsubscribe },
    { "auto-unsubscribe", test_auto_unsubscribe },
    { "drain", test_drain },
    { "no echo", test_no_echo },
    { "the largest payload", test_max_payload },
    { "8 publishers, 8 subscribers, checksums", test_mesh },
    { "reconnect after a restart", test_reconnect },
};

/* A failed start leaves no server to test the rest on. */
static bool run_test(const struct test *test)
{
    why[0] = '\0';
    if (server.pid <= 0 && !start_server(-1)) {
        printf("FAIL c %s: the server did not start\n", test->name);
        return false;
    }
    const char *problem = test->run();
    if (problem != NULL) {
        printf("FAIL c %s: %s\n", test->name, problem);
    } else {
        printf("ok   c %s\n", test->name);
    }
    fflush(stdout);
    return problem == NULL;
}

static void on_signal(int sig)
{
    if (server.pid > 0) {
        kill(server.pid, SIGKILL);
    }
    _exit(128 + sig);
}

int main(int argc, char **argv)
{
    int passed = 0, failed = 0;
    if (argc != 2) {
        fprintf(stderr, "usage: %s SERVER\n", argv[0]);
        return 2;
    }
    server.path = argv[1];
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (nats_Open(-1) != NATS_OK) {
        fprintf(stderr, "nats_Open failed\n");
        return 1;
    }
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        if (run_test(&tests[i])) {
            passed++;
        } else {
            failed++;
        }
    }
    if (!stop_server(SIGTERM)) {
        printf("FAIL c the server did not end with exit code 0\n");
        failed++;
    }
    printf("c: %d passed, %d failed\n", passed, failed);
    nats_Close();
    return failed == 0 ? 0 : 1;
}
