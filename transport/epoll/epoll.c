/* epoll.c - the transport over epoll: its table, its turn, its neighbours.
 *
 *   poll: owed events -> epoll_wait -> note who is ready -> read and write -> owed events
 *
 * 1. Descriptors are watched once, edge-triggered. What the kernel said is kept in the connection
 *    (readable, writable) until a call says otherwise, so credit costs no system call, and a
 *    connection that can go on while there is no room for events waits in `active`.
 * 2. Sockets never block. poll() waits in epoll_wait only, and not at all while events are owed or
 *    a connection is active.
 * 3. Received bytes of one poll() lie behind each other in one mapped area, which the next poll()
 *    uses again: an idle connection has no buffer.
 * 4. Timers (linger, pauses of accept) shorten the wait; the clock is read only while one runs.
 * 5. A member's eventfd is written by whoever first finds `rung` false, and read before `rung` is
 *    set to false again: a wake that comes early, or while the member works, ends its next wait.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "transport/epoll/inside.h"

#define NS_PER_S 1000000000L

uint64_t rb_epoll_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- the group ---- */

void rb_epoll_group_destroy(struct rb_epoll_group *group)
{
    if (group == NULL) {
        return;
    }
    for (uint32_t i = 0; i < group->member_count; i++) {
        rb_assert(!group->members[i].present && group->members[i].handed_count == 0);
        if (group->members[i].wake_fd >= 0) {
            close(group->members[i].wake_fd);
        }
        pthread_mutex_destroy(&group->members[i].lock);
    }
    free(group);
}

enum rb_err rb_epoll_group_create(uint32_t member_count, struct rb_epoll_group **ret_group)
{
    rb_assert(member_count >= 1);
    struct rb_epoll_group *group =
        calloc(1, sizeof(*group) + member_count * sizeof(group->members[0]));
    if (group == NULL) {
        return RB_ERR_MEMORY;
    }
    group->member_count = member_count;
    for (uint32_t i = 0; i < member_count; i++) {
        group->members[i].wake_fd = -1;
        pthread_mutex_init(&group->members[i].lock, NULL);
    }
    for (uint32_t i = 0; i < member_count; i++) {
        group->members[i].wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (group->members[i].wake_fd < 0) {
            enum rb_err err = rb_socket_err(errno);
            rb_epoll_group_destroy(group);
            return err;
        }
    }
    *ret_group = group;
    return RB_OK;
}

void rb_epoll_ring(struct epoll_member *member)
{
    if (!atomic_exchange(&member->rung, true)) { /* invariant 5 */
        int saved = errno;
        int result = eventfd_write(member->wake_fd, 1);
        rb_assert(result == 0);
        errno = saved;
    }
}

void rb_epoll_group_wake(struct rb_epoll_group *group, uint32_t index)
{
    rb_assert(index < group->member_count);
    rb_epoll_ring(&group->members[index]);
}

static void epoll_wake(struct rb_transport *base, uint32_t peer_index)
{
    struct epoll_transport *t = (struct epoll_transport *)base;
    if (peer_index == t->index) {
        t->woken = true;
    } else {
        rb_epoll_group_wake(t->group, peer_index);
    }
}

static void take_wake(struct epoll_transport *t)
{
    eventfd_t count;
    (void)eventfd_read(t->self->wake_fd, &count);
    atomic_exchange(&t->self->rung, false);
    t->handed = true;
}

/* ---- the turn ---- */

struct rb_event *rb_epoll_event(struct epoll_transport *t, enum rb_event_kind kind, enum rb_err err)
{
    rb_assert(t->event_count < RB_EVENTS_MAX);
    struct rb_event *event = &t->events[t->event_count++];
    rb_event_begin(event, kind, err);
    return event;
}

struct rb_event *rb_epoll_conn_event(struct epoll_transport *t, struct epoll_conn *conn,
                                     enum rb_event_kind kind, enum rb_err err)
{
    struct rb_event *event = rb_epoll_event(t, kind, err);
    event->conn = conn->slot.id;
    event->user = conn->slot.user;
    return event;
}

bool rb_epoll_watch(struct epoll_transport *t, int fd, uint32_t events, enum epoll_tag tag,
                    uint64_t what)
{
    struct epoll_event event = { .events = events,
                                 .data.u64 = (uint64_t)tag << EPOLL_TAG_SHIFT | what };
    return epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* Does what timers ask for and returns how long to wait at most. */
static int64_t run_timers(struct epoll_transport *t, int64_t timeout_ns)
{
    uint64_t due_ns = earlier(t->linger_ns, rb_epoll_pause_end(t));
    if (due_ns == 0) {
        return timeout_ns;
    }
    uint64_t now_ns = rb_epoll_now_ns();
    if (now_ns >= due_ns) {
        rb_epoll_linger_tick(t, now_ns);
        rb_epoll_end_pauses(t, now_ns);
        due_ns = earlier(t->linger_ns, rb_epoll_pause_end(t));
    }
    int64_t left_ns = due_ns == 0 ? timeout_ns : due_ns > now_ns ? (int64_t)(due_ns - now_ns) : 0;
    return timeout_ns < 0 || left_ns < timeout_ns ? left_ns : timeout_ns;
}

static int wait_ready(struct epoll_transport *t, int64_t timeout_ns)
{
    int max = (int)epoll_room(t);
    if (!t->no_pwait2 && timeout_ns > 0) {
        struct timespec limit = { .tv_sec = timeout_ns / NS_PER_S,
                                  .tv_nsec = timeout_ns % NS_PER_S };
        int count = epoll_pwait2(t->epoll_fd, t->ready, max, &limit, NULL);
        if (count >= 0 || (errno != ENOSYS && errno != EPERM && errno != EACCES)) {
            return count;
        }
        t->no_pwait2 = true;
    }
    int64_t ms = timeout_ns <= 0 ? timeout_ns : timeout_ns / EPOLL_NS_PER_MS + 1;
    return epoll_wait(t->epoll_fd, t->ready, max, ms > INT32_MAX ? INT32_MAX : (int)ms);
}

static void note_ready(struct epoll_transport *t, const struct epoll_event *ready)
{
    uint64_t what = ready->data.u64 & ((UINT64_C(1) << EPOLL_TAG_SHIFT) - 1);
    switch ((enum epoll_tag)(ready->data.u64 >> EPOLL_TAG_SHIFT)) {
    case EPOLL_TAG_CONN:
        rb_epoll_conn_ready(t, what, ready->events);
        break;
    case EPOLL_TAG_LISTENER:
        rb_epoll_accept_ready(t, (uint32_t)what);
        break;
    case EPOLL_TAG_WAKE:
        take_wake(t);
        break;
    }
}

static uint32_t epoll_poll(struct rb_transport *base, int64_t timeout_ns,
                           struct rb_event **ret_events)
{
    struct epoll_transport *t = (struct epoll_transport *)base;
    t->event_count = 0;
    t->recv_len = 0;
    rb_epoll_deliver_due(t);
    timeout_ns = run_timers(t, timeout_ns);
    if (t->event_count > 0 || t->woken || t->handed || !rb_list_empty(&t->due) ||
        !rb_list_empty(&t->active)) {
        timeout_ns = 0; /* invariant 2 */
    }
    t->woken = false;
    int count = epoll_room(t) == 0 ? 0 : wait_ready(t, timeout_ns);
    rb_assert(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; i++) {
        note_ready(t, &t->ready[i]);
    }
    rb_epoll_take_handed(t);
    rb_epoll_deliver_due(t); /* before their connections run: conn.c, invariant 1 */
    rb_epoll_run_active(t);
    rb_epoll_deliver_due(t);
    *ret_events = t->events;
    return t->event_count;
}

/* ---- begin and end ---- */

static void release(struct epoll_transport *t)
{
    if (t->recv != NULL) {
        munmap(t->recv, t->recv_cap);
    }
    if (t->epoll_fd >= 0) {
        close(t->epoll_fd);
    }
    rb_gather_pools_deinit(&t->gathers);
    rb_slots_deinit(&t->slots);
    free(t);
}

static void epoll_destroy(struct rb_transport *base)
{
    struct epoll_transport *t = (struct epoll_transport *)base;
    for (uint32_t i = 0; i < EPOLL_LISTENERS_MAX; i++) {
        rb_epoll_unlisten(base, i);
    }
    pthread_mutex_lock(&t->self->lock);
    t->self->present = false; /* nobody hands over any more */
    while (t->self->handed_count > 0) {
        close(t->self->handed[--t->self->handed_count].fd);
    }
    pthread_mutex_unlock(&t->self->lock);
    for (uint32_t i = 0; i < t->slots.high; i++) {
        if (t->slots.table[i] != NULL) {
            rb_epoll_conn_drop(t, (struct epoll_conn *)t->slots.table[i]);
        }
    }
    release(t);
}

static const struct rb_transport_ops epoll_ops = {
    .name = "epoll",
    .listen = rb_epoll_listen,
    .unlisten = rb_epoll_unlisten,
    .connect = rb_epoll_connect,
    .send = rb_epoll_send,
    .close = rb_epoll_close,
    .credit = rb_epoll_credit,
    .set_user = rb_epoll_set_user,
    .poll = epoll_poll,
    .wake = epoll_wake,
    .destroy = epoll_destroy,
};

static enum rb_err open_descriptors(struct epoll_transport *t)
{
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (t->epoll_fd < 0 || !rb_epoll_watch(t, t->self->wake_fd, EPOLLIN, EPOLL_TAG_WAKE, 0)) {
        return rb_socket_err(errno);
    }
    void *area =
        mmap(NULL, t->recv_cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) {
        return RB_ERR_MEMORY;
    }
    t->recv = area;
    return RB_OK;
}

enum rb_err rb_epoll_transport_create(const struct rb_epoll_options *options,
                                      struct rb_transport **ret_transport)
{
    rb_assert(options->index < options->group->member_count);
    struct epoll_transport *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return RB_ERR_MEMORY;
    }
    t->base.ops = &epoll_ops;
    t->group = options->group;
    t->index = options->index;
    t->self = &options->group->members[options->index];
    size_t buffers = options->recv_buffers > 0 ? options->recv_buffers : EPOLL_RECV_BUFFERS_DEFAULT;
    t->recv_cap = buffers * RB_RECV_BYTES;
    rb_slots_init(&t->slots, options->budget, sizeof(struct epoll_conn));
    rb_gather_pools_init(&t->gathers, options->budget);
    rb_list_init(&t->due);
    rb_list_init(&t->active);
    rb_list_init(&t->linger_new);
    rb_list_init(&t->linger_old);
    enum rb_err err = open_descriptors(t);
    if (err != RB_OK) {
        release(t);
        return err;
    }
    pthread_mutex_lock(&t->self->lock);
    t->self->present = true;
    pthread_mutex_unlock(&t->self->lock);
    *ret_transport = &t->base;
    return RB_OK;
}
