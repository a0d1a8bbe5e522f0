/* flow.c - publish at full speed and count what arrives.
 *
 *   publisher (calling thread) --batches--> server --messages--> receiver threads (epoll)
 *        ^------------------- window: progress of the slowest --------------'
 *
 * 1. A batch is one buffer of ready PUB lines, written whole, again and again; its messages carry
 *    their place in it. So the generator's part per message is a copy into a socket, and the k-th
 *    message of a receiver is known.
 * 2. At most `window_msgs` messages are published and not yet read by the slowest receiver. The
 *    server always has work waiting, and never so much that it takes a receiver for a slow consumer
 *    (64 MiB by default).
 * 3. The clock runs from the first batch after the warm-up until every message has been read and
 *    each publisher's PING is answered. Then each receiver does PING and PONG too, and the counts
 *    must be exact.
 */
#include "load.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "background.h"
#include "net.h"
#include "probe.h"

#define PUBLISHERS_MAX 2
#define RECEIVERS_MAX 1000
#define RECEIVE_THREADS_MAX 16
#define SIZE_MAX_BYTES (1024u * 1024u)
#define WINDOW_BYTES_MAX (8u << 20)
#define WINDOW_BYTES_MIN (256u << 10)
#define WINDOW_BYTES_ALL (64u << 20) /* over all receivers: what the server may have to hold */
#define BATCH_BYTES_MAX (256u << 10)
#define BATCH_BYTES_MIN (64u << 10)
#define MEASURE_MSGS_MAX 100000000u
#define FRAME_EXTRA 64 /* how much longer than its message a frame may be */

enum shape {
    SHAPE_PUB,   /* nobody listens */
    SHAPE_FAN,   /* every receiver gets every message */
    SHAPE_QUEUE, /* one queue group: one receiver gets it */
};

struct publisher {
    struct rb_client client;
    struct rb_wire_bytes out; /* the batch as it goes to the socket */
    size_t offset;            /* of it, written so far */
    bool busy;                /* in the middle of a batch */
};

struct flow;
struct receive_thread {
    struct flow *flow;
    pthread_t thread;
    uint32_t index;
    int epoll;
    _Atomic uint64_t progress; /* messages: the slowest receiver's, or the sum in a queue group */
    uint8_t *bytes;
};

struct flow {
    const struct rb_load *load;
    enum shape shape;
    bool churn;
    uint32_t receiver_count, publisher_count, thread_count;
    size_t size;
    struct rb_expect expect;
    struct rb_client *receivers;
    struct publisher publishers[PUBLISHERS_MAX];
    struct receive_thread threads[RECEIVE_THREADS_MAX];
    uint8_t *batch; /* plain, or of frames; TLS makes records of it each time */
    size_t batch_len;
    uint32_t batch_msgs;
    uint64_t window_msgs;
    uint64_t published;
    atomic_bool stopping;
    _Atomic uint64_t wake_at;  /* progress the publisher sleeps for; UINT64_MAX: it is awake */
    _Atomic uint32_t wake_seq; /* futex */
};

/* "128" or "16k" up to the end of the text. */
static bool parse_size(const char *text, size_t *ret_size)
{
    char *end = NULL;
    unsigned long size = strtoul(text, &end, 10);
    if (end != text && *end == 'k') {
        size *= 1024;
        end++;
    }
    if (end == text || *end != '\0' || size < RB_FEED_INDEX_DIGITS || size > SIZE_MAX_BYTES) {
        return false;
    }
    *ret_size = size;
    return true;
}

/* pub<size>, 1to1_<size>, fan<n>_<size>, queue<n>_<size>, each also with _churn. */
static bool parse_scenario(struct flow *flow, const char *name)
{
    char text[64];
    unsigned count = 0;
    int used = 0;
    snprintf(text, sizeof(text), "%s", name);
    char *suffix = strstr(text, "_churn");
    if (suffix != NULL && suffix[6] == '\0') {
        *suffix = '\0';
        flow->churn = true;
    }
    flow->publisher_count = 1;
    if (strncmp(text, "pub", 3) == 0) {
        flow->shape = SHAPE_PUB;
        flow->publisher_count = 2;
        return parse_size(text + 3, &flow->size);
    }
    if (strncmp(text, "1to1_", 5) == 0) {
        flow->shape = SHAPE_FAN;
        flow->receiver_count = 1;
        return parse_size(text + 5, &flow->size);
    }
    if (sscanf(text, "fan%u_%n", &count, &used) == 1 && used > 0) {
        flow->shape = SHAPE_FAN;
    } else if (sscanf(text, "queue%u_%n", &count, &used) == 1 && used > 0) {
        flow->shape = SHAPE_QUEUE;
    } else {
        return false;
    }
    flow->receiver_count = count;
    return count >= 1 && count <= RECEIVERS_MAX && parse_size(text + used, &flow->size);
}

static uint32_t clamp(uint32_t value, uint32_t min, uint32_t max)
{
    return value < min ? min : value > max ? max : value;
}

/* The message at `at` becomes a frame there when there are frames. Returns its length. */
static size_t frame_msg(struct rb_stream *stream, uint8_t *at, size_t msg_len)
{
    if (stream == NULL) {
        return msg_len;
    }
    struct rb_wire_bytes frame = rb_stream_encode(stream, at, msg_len);
    if (frame.len > msg_len + FRAME_EXTRA) {
        rb_load_die("a frame is longer than expected");
    }
    memcpy(at, frame.ptr, frame.len);
    return frame.len;
}

static void build_batch(struct flow *flow)
{
    char head[64];
    size_t head_len =
        (size_t)snprintf(head, sizeof(head), "PUB %s %zu\r\n", RB_LOAD_SUBJECT, flow->size);
    size_t msg_len = head_len + flow->size + 2;
    uint32_t window_bytes = WINDOW_BYTES_MAX;
    if (flow->shape == SHAPE_FAN) {
        window_bytes =
            clamp(WINDOW_BYTES_ALL / flow->receiver_count, WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
    }
    size_t batch_bytes = clamp(window_bytes / 8, BATCH_BYTES_MIN, BATCH_BYTES_MAX);
    flow->batch_msgs = (uint32_t)(batch_bytes / msg_len) + (batch_bytes < msg_len);
    flow->batch = malloc(flow->batch_msgs * (msg_len + FRAME_EXTRA));
    if (flow->batch == NULL) {
        rb_load_die("no memory");
    }
    struct rb_stream *stream =
        flow->load->wire == RB_WIRE_TLS ? NULL : rb_stream_create(flow->load);
    uint8_t *at = flow->batch;
    for (uint32_t i = 0; i < flow->batch_msgs; i++) {
        memcpy(at, head, head_len);
        rb_expect_payload(at + head_len, flow->size, i);
        memcpy(at + head_len + flow->size, "\r\n", 2);
        at += frame_msg(stream, at, msg_len);
    }
    rb_stream_destroy(stream);
    flow->batch_len = (size_t)(at - flow->batch);
    rb_expect_init(&flow->expect, flow->load->receive_subject, "1", flow->size, flow->batch_msgs,
                   flow->shape == SHAPE_FAN);
    flow->window_msgs = window_bytes / flow->expect.len;
    if (flow->window_msgs < 2 * (uint64_t)flow->batch_msgs) {
        flow->window_msgs = 2 * (uint64_t)flow->batch_msgs;
    }
}

static uint64_t progress_of(const struct flow *flow)
{
    uint64_t all = flow->shape == SHAPE_QUEUE ? 0 : UINT64_MAX;
    for (uint32_t i = 0; i < flow->thread_count; i++) {
        uint64_t one = atomic_load(&flow->threads[i].progress);
        all = flow->shape == SHAPE_QUEUE ? all + one : (one < all ? one : all);
    }
    return all;
}

static void publish_progress(struct receive_thread *thread)
{
    struct flow *flow = thread->flow;
    uint64_t all = flow->shape == SHAPE_QUEUE ? 0 : UINT64_MAX;
    for (uint32_t i = thread->index; i < flow->receiver_count; i += flow->thread_count) {
        uint64_t one = flow->receivers[i].feed.msgs;
        all = flow->shape == SHAPE_QUEUE ? all + one : (one < all ? one : all);
    }
    atomic_store(&thread->progress, all);
    uint64_t wake_at = atomic_load(&flow->wake_at);
    if (wake_at != UINT64_MAX && progress_of(flow) >= wake_at) {
        atomic_store(&flow->wake_at, UINT64_MAX);
        atomic_fetch_add(&flow->wake_seq, 1);
        syscall(SYS_futex, &flow->wake_seq, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void *receive_main(void *arg)
{
    struct receive_thread *thread = arg;
    struct flow *flow = thread->flow;
    struct epoll_event events[128];
    while (!atomic_load_explicit(&flow->stopping, memory_order_relaxed)) {
        int count = epoll_wait(thread->epoll, events, 128, 20);
        for (int i = 0; i < count; i++) {
            struct rb_client *client = &flow->receivers[events[i].data.u32];
            ssize_t len = recv(client->fd, thread->bytes, RB_LOAD_READ_BYTES, MSG_DONTWAIT);
            if (len >= 0 || errno != EAGAIN) {
                rb_client_took(client, thread->bytes, len);
            }
        }
        publish_progress(thread);
    }
    return NULL;
}

/* Sleeps until the receivers have come to `needed`. */
static void wait_progress(struct flow *flow, uint64_t needed)
{
    const struct timespec nap = { .tv_nsec = 20000000 };
    while (progress_of(flow) < needed) {
        uint32_t seq = atomic_load(&flow->wake_seq);
        atomic_store(&flow->wake_at, needed);
        if (progress_of(flow) < needed) {
            syscall(SYS_futex, &flow->wake_seq, FUTEX_WAIT_PRIVATE, seq, &nap, NULL, 0);
        }
        rb_load_check_deadline(flow->load);
    }
    atomic_store(&flow->wake_at, UINT64_MAX);
}

static void wait_writable(struct flow *flow)
{
    struct pollfd fds[PUBLISHERS_MAX];
    for (uint32_t i = 0; i < flow->publisher_count; i++) {
        fds[i] =
            (struct pollfd){ .fd = flow->publishers[i].busy ? flow->publishers[i].client.fd : -1,
                             .events = POLLOUT };
    }
    (void)poll(fds, flow->publisher_count, 100);
    rb_load_check_deadline(flow->load);
}

static void begin_batch(const struct flow *flow, struct publisher *publisher)
{
    publisher->busy = true;
    publisher->out = (struct rb_wire_bytes){ .ptr = flow->batch, .len = flow->batch_len };
    if (flow->load->wire == RB_WIRE_TLS) {
        publisher->out = rb_stream_encode(publisher->client.stream, flow->batch, flow->batch_len);
    }
}

/* One write of a batch that has begun. True when the socket took some. */
static bool write_some(struct publisher *publisher)
{
    ssize_t sent = send(publisher->client.fd, publisher->out.ptr + publisher->offset,
                        publisher->out.len - publisher->offset, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EAGAIN) {
        return false;
    }
    if (sent < 0) {
        rb_load_die("publishing: %s", strerror(errno));
    }
    publisher->offset += (size_t)sent;
    if (publisher->offset == publisher->out.len) {
        publisher->offset = 0;
        publisher->busy = false;
    }
    return true;
}

/* Publishes whole batches for `time_ns`, then waits until all of it has been worked on. Returns
 * their number. */
static uint64_t publish(struct flow *flow, uint64_t time_ns)
{
    uint64_t before = flow->published;
    uint64_t end_ns = rb_probe_now_ns() + time_ns;
    uint32_t busy_count = 0;
    do {
        bool progressed = false;
        bool more = flow->published - before < MEASURE_MSGS_MAX && rb_probe_now_ns() < end_ns;
        busy_count = 0;
        for (uint32_t i = 0; i < flow->publisher_count; i++) {
            struct publisher *publisher = &flow->publishers[i];
            if (!publisher->busy && more) {
                if (flow->receiver_count > 0 &&
                    progress_of(flow) + flow->window_msgs < flow->published + flow->batch_msgs) {
                    wait_progress(flow, flow->published - flow->window_msgs / 2);
                }
                begin_batch(flow, publisher);
                flow->published += flow->batch_msgs;
            }
            progressed |= publisher->busy && write_some(publisher);
            busy_count += publisher->busy || more;
        }
        if (!progressed && busy_count > 0) {
            wait_writable(flow);
        }
    } while (busy_count > 0);
    if (flow->receiver_count > 0) {
        wait_progress(flow, flow->published);
    }
    for (uint32_t i = 0; i < flow->publisher_count; i++) {
        rb_client_sync(flow->load, &flow->publishers[i].client);
    }
    return flow->published - before;
}

static void open_receivers(struct flow *flow)
{
    char line[96];
    int len = snprintf(line, sizeof(line), "SUB %s %s1\r\n", flow->load->receive_subject,
                       flow->shape == SHAPE_QUEUE ? "workers " : "");
    flow->receivers = calloc(flow->receiver_count + 1, sizeof(*flow->receivers));
    if (flow->receivers == NULL) {
        rb_load_die("no memory");
    }
    for (uint32_t i = 0; i < flow->receiver_count; i++) {
        rb_client_open_as(flow->load, &flow->receivers[i], &flow->load->receiver);
        flow->receivers[i].feed.expect = &flow->expect;
        rb_client_write(&flow->receivers[i], line, (size_t)len);
        rb_client_sync(flow->load, &flow->receivers[i]);
    }
}

static void start_threads(struct flow *flow)
{
    flow->thread_count = clamp(flow->load->receive_threads, 1, RECEIVE_THREADS_MAX);
    if (flow->thread_count > flow->receiver_count) {
        flow->thread_count = flow->receiver_count;
    }
    for (uint32_t i = 0; i < flow->thread_count; i++) {
        struct receive_thread *thread = &flow->threads[i];
        thread->flow = flow;
        thread->index = i;
        thread->epoll = epoll_create1(EPOLL_CLOEXEC);
        thread->bytes = malloc(RB_LOAD_READ_BYTES);
        for (uint32_t r = i; r < flow->receiver_count; r += flow->thread_count) {
            struct epoll_event event = { .events = EPOLLIN, .data.u32 = r };
            if (epoll_ctl(thread->epoll, EPOLL_CTL_ADD, flow->receivers[r].fd, &event) != 0) {
                rb_load_die("epoll_ctl: %s", strerror(errno));
            }
        }
    }
    for (uint32_t i = 0; i < flow->thread_count; i++) {
        if (flow->threads[i].bytes == NULL ||
            pthread_create(&flow->threads[i].thread, NULL, receive_main, &flow->threads[i]) != 0) {
            rb_load_die("no memory or no thread");
        }
    }
}

/* Invariant 3: nothing is missing, and nothing more comes. */
static void check_counts(struct flow *flow)
{
    uint64_t sum = 0;
    atomic_store(&flow->stopping, true);
    for (uint32_t i = 0; i < flow->thread_count; i++) {
        pthread_join(flow->threads[i].thread, NULL);
        close(flow->threads[i].epoll);
        free(flow->threads[i].bytes);
    }
    for (uint32_t i = 0; i < flow->receiver_count; i++) {
        struct rb_client *client = &flow->receivers[i];
        rb_client_sync(flow->load, client);
        sum += client->feed.msgs;
        if (client->feed.frame_offset != 0 ||
            (flow->shape == SHAPE_FAN && client->feed.msgs != flow->published)) {
            rb_load_die("receiver %u has %llu of %llu messages", i,
                        (unsigned long long)client->feed.msgs, (unsigned long long)flow->published);
        }
        rb_client_close(client);
    }
    if (flow->shape == SHAPE_QUEUE && sum != flow->published) {
        rb_load_die("the group has %llu of %llu messages", (unsigned long long)sum,
                    (unsigned long long)flow->published);
    }
    for (uint32_t i = 0; i < flow->publisher_count; i++) {
        rb_client_close(&flow->publishers[i].client);
    }
}

/* The readings before and after. */
struct reading {
    uint64_t now_ns, server_ns, own_ns, busiest_ns[RECEIVE_THREADS_MAX + 1];
};

static void take_reading(const struct flow *flow, struct reading *reading)
{
    reading->now_ns = rb_probe_now_ns();
    reading->server_ns = rb_probe_cpu_ns(flow->load->server_pid);
    reading->own_ns = rb_probe_own_cpu_ns();
    reading->busiest_ns[0] = rb_probe_thread_cpu_ns(pthread_self());
    for (uint32_t i = 0; i < flow->thread_count; i++) {
        reading->busiest_ns[i + 1] = rb_probe_thread_cpu_ns(flow->threads[i].thread);
    }
}

static void print_result(const struct flow *flow, const struct reading *from,
                         const struct reading *to, uint64_t published, uint64_t changes)
{
    double wall_ns = (double)(to->now_ns - from->now_ns);
    double server_ns = (double)(to->server_ns - from->server_ns);
    double own_ns = (double)(to->own_ns - from->own_ns);
    double msgs = (double)published * (flow->shape == SHAPE_FAN ? flow->receiver_count : 1);
    double busiest_ns = 0;
    for (uint32_t i = 0; i <= flow->thread_count; i++) {
        double one = (double)(to->busiest_ns[i] - from->busiest_ns[i]);
        busiest_ns = one > busiest_ns ? one : busiest_ns;
    }
    rb_load_print_head(flow->load);
    printf(",\"published\":%llu,\"delivered\":%.0f,\"wall_s\":%.4f,\"cpu_ns_per_msg\":%.2f,"
           "\"msgs_per_s\":%.0f,\"server_cores\":%.3f,\"gen_cpu_ns_per_msg\":%.2f,"
           "\"gen_busy\":%.3f,\"rss_kib\":%llu,\"sub_changes_per_s\":%.0f}\n",
           (unsigned long long)published, flow->shape == SHAPE_PUB ? 0.0 : msgs, wall_ns / 1e9,
           server_ns / msgs, msgs * 1e9 / wall_ns, server_ns / wall_ns, own_ns / msgs,
           busiest_ns / wall_ns,
           (unsigned long long)rb_probe_rss_bytes(flow->load->server_pid) / 1024,
           (double)changes * 1e9 / wall_ns);
}

bool rb_load_flow(const struct rb_load *load)
{
    static struct flow flow;
    flow = (struct flow){ .load = load, .wake_at = UINT64_MAX };
    if (!parse_scenario(&flow, load->shape)) {
        return false;
    }
    build_batch(&flow);
    open_receivers(&flow);
    for (uint32_t i = 0; i < flow.publisher_count; i++) {
        rb_client_open(load, &flow.publishers[i].client);
    }
    struct rb_background *background = flow.churn ? rb_background_start(load) : NULL;
    start_threads(&flow);
    (void)publish(&flow, load->warmup_ns);

    struct reading from;
    struct reading to;
    uint64_t changes = background != NULL ? rb_background_changes(background) : 0;
    take_reading(&flow, &from);
    uint64_t published = publish(&flow, load->measure_ns);
    take_reading(&flow, &to);
    changes = background != NULL ? rb_background_changes(background) - changes : 0;
    check_counts(&flow);
    if (background != NULL) {
        rb_background_stop(background);
    }
    print_result(&flow, &from, &to, published, changes);
    free(flow.batch);
    free(flow.receivers);
    free(flow.expect.frame);
    return true;
}
