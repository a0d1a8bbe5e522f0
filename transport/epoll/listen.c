/* listen.c - listeners: accept in batches, spreading over the members, pauses in a shortage.
 *
 *   ACCEPTING --accept failed: not watched--> PAUSING --time over: watched again--> ACCEPTING
 *
 * 1. Listeners are watched level-triggered: what is not accepted in this poll(), for want of room,
 *    ends the next wait at once.
 * 2. An accepted descriptor has one owner at any time: this member, the array of another member,
 *    or that member. When the other is gone or its array is full, the connection stays here.
 */
#include <errno.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "transport/epoll/inside.h"

#define ACCEPTS_MAX 128 /* of one listener in one poll() */
#define PAUSE_FIRST_MS 10
#define PAUSE_MAX_MS 1000

enum rb_err rb_epoll_listen(struct rb_transport *base, const struct rb_listen_options *options,
                            uint32_t *ret_listener, struct rb_addr *ret_bound)
{
    struct epoll_transport *t = (struct epoll_transport *)base;
    uint32_t index = 0;
    while (index < EPOLL_LISTENERS_MAX && t->listeners[index].used) {
        index++;
    }
    if (index == EPOLL_LISTENERS_MAX) {
        return RB_ERR_LIMIT;
    }
    struct rb_listen_socket socket;
    struct rb_addr bound;
    enum rb_err err = rb_listen_socket_open(options, SOCK_NONBLOCK, &socket, &bound);
    if (err != RB_OK) {
        return err;
    }
    if (!rb_epoll_watch(t, socket.fd, EPOLLIN, EPOLL_TAG_LISTENER, index)) {
        err = rb_socket_err(errno);
        rb_listen_socket_close(&socket);
        return err;
    }
    t->listeners[index] = (struct epoll_listener){
        .used = true, .socket = socket, .spread = options->spread, .next_member = t->index
    };
    *ret_listener = index;
    *ret_bound = bound;
    return RB_OK;
}

void rb_epoll_unlisten(struct rb_transport *base, uint32_t index)
{
    struct epoll_transport *t = (struct epoll_transport *)base;
    rb_assert(index < EPOLL_LISTENERS_MAX);
    struct epoll_listener *listener = &t->listeners[index];
    if (listener->used) {
        /* Also when a child process of somebody else still holds the socket. */
        shutdown(listener->socket.fd, SHUT_RDWR);
        rb_listen_socket_close(&listener->socket);
        *listener = (struct epoll_listener){ 0 };
    }
}

static void adopt(struct epoll_transport *t, uint32_t listener, int fd)
{
    struct rb_addr peer, local;
    if (!rb_socket_ends(fd, &peer, &local)) {
        close(fd); /* gone before we looked at it */
        return;
    }
    struct epoll_conn *conn = rb_epoll_conn_open(t, fd, EPOLL_CONN_OPEN);
    if (conn == NULL) {
        close(fd);
        rb_epoll_event(t, RB_EVENT_ACCEPT_FAILED, RB_ERR_MEMORY)->listener = listener;
        return;
    }
    struct rb_event *event = rb_epoll_conn_event(t, conn, RB_EVENT_ACCEPTED, RB_OK);
    event->listener = listener;
    event->peer = peer;
    event->local = local;
}

static bool hand_over(struct epoll_member *member, struct epoll_handed handed)
{
    pthread_mutex_lock(&member->lock);
    bool takes = member->present && member->handed_count < EPOLL_HANDED_MAX;
    if (takes) {
        member->handed[member->handed_count++] = handed;
    }
    pthread_mutex_unlock(&member->lock);
    return takes;
}

static void hand_out(struct epoll_transport *t, uint32_t index, int fd)
{
    struct epoll_listener *listener = &t->listeners[index];
    uint32_t number = listener->next_member;
    if (listener->spread) {
        listener->next_member = (number + 1) % t->group->member_count;
    }
    struct epoll_member *member = &t->group->members[number];
    struct epoll_handed handed = { .listener = index, .fd = fd };
    if (number == t->index || !hand_over(member, handed)) {
        adopt(t, index, fd); /* invariant 2 */
    } else {
        rb_epoll_ring(member);
    }
}

void rb_epoll_take_handed(struct epoll_transport *t)
{
    if (!t->handed || epoll_room(t) == 0) {
        return;
    }
    struct epoll_handed taken[EPOLL_HANDED_MAX];
    struct epoll_member *self = t->self;
    pthread_mutex_lock(&self->lock);
    uint32_t count = self->handed_count < epoll_room(t) ? self->handed_count : epoll_room(t);
    uint32_t left = self->handed_count - count;
    for (uint32_t i = 0; i < count; i++) {
        taken[i] = self->handed[i];
    }
    for (uint32_t i = 0; i < left; i++) {
        self->handed[i] = self->handed[count + i];
    }
    self->handed_count = left;
    pthread_mutex_unlock(&self->lock);
    t->handed = left > 0;
    for (uint32_t i = 0; i < count; i++) {
        adopt(t, taken[i].listener, taken[i].fd);
    }
}

static void pause_accept(struct epoll_transport *t, struct epoll_listener *listener)
{
    uint32_t doubled = listener->pause_ms == 0 ? PAUSE_FIRST_MS : listener->pause_ms * 2;
    listener->pause_ms = doubled < PAUSE_MAX_MS ? doubled : PAUSE_MAX_MS;
    listener->pause_until_ns = rb_epoll_now_ns() + listener->pause_ms * (uint64_t)EPOLL_NS_PER_MS;
    (void)epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, listener->socket.fd, NULL);
}

void rb_epoll_accept_ready(struct epoll_transport *t, uint32_t index)
{
    struct epoll_listener *listener = &t->listeners[index];
    if (!listener->used || listener->pause_until_ns != 0) {
        return;
    }
    for (uint32_t i = 0; i < ACCEPTS_MAX && epoll_room(t) > 0; i++) {
        int fd = accept4(listener->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            listener->pause_ms = 0;
            hand_out(t, index, fd);
        } else if (errno == EAGAIN) {
            return;
        } else if (!rb_socket_accept_passes_by(errno)) {
            enum rb_err err = rb_socket_err(errno);
            bool short_of = err == RB_ERR_MEMORY || err == RB_ERR_LIMIT;
            rb_epoll_event(t, RB_EVENT_ACCEPT_FAILED, short_of ? RB_ERR_LIMIT : RB_ERR_IO)
                ->listener = index;
            pause_accept(t, listener);
            return;
        }
    }
}

uint64_t rb_epoll_pause_end(const struct epoll_transport *t)
{
    uint64_t end_ns = 0;
    for (uint32_t i = 0; i < EPOLL_LISTENERS_MAX; i++) {
        uint64_t until_ns = t->listeners[i].pause_until_ns;
        if (until_ns != 0 && (end_ns == 0 || until_ns < end_ns)) {
            end_ns = until_ns;
        }
    }
    return end_ns;
}

void rb_epoll_end_pauses(struct epoll_transport *t, uint64_t now_ns)
{
    for (uint32_t i = 0; i < EPOLL_LISTENERS_MAX; i++) {
        struct epoll_listener *listener = &t->listeners[i];
        if (listener->pause_until_ns == 0 || listener->pause_until_ns > now_ns) {
            continue;
        }
        if (rb_epoll_watch(t, listener->socket.fd, EPOLLIN, EPOLL_TAG_LISTENER, i)) {
            listener->pause_until_ns = 0;
        } else { /* no memory for it: later, then */
            listener->pause_until_ns = now_ns + PAUSE_MAX_MS * (uint64_t)EPOLL_NS_PER_MS;
        }
    }
}
