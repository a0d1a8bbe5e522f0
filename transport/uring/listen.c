/* listen.c - listeners: multishot accept, spreading over the members, pauses in a shortage.
 *
 *            ,---accept failed---> PAUSING --backoff over--.
 *   ARMED <--'                                             |
 *     ^----------------------------------------------------'     unlisten: CLOSING until both ended
 *
 * 1. At most one accept and one backoff timer per listener are in the kernel; the entry is used
 *    again only when neither is.
 * 2. An accepted descriptor has one owner at any time: this member, the message on its way to
 *    another member, or that member. A message that fails comes back and the connection stays
 *    here.
 */
#include <errno.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "transport/uring/inside.h"

#define PAUSE_FIRST_MS 10
#define PAUSE_MAX_MS 1000

static void arm_accept(struct uring_transport *t, uint32_t index)
{
    struct uring_listener *listener = &t->listeners[index];
    rb_assert(!listener->armed && !listener->pausing);
    struct io_uring_sqe *sqe = rb_uring_sqe(t, URING_OP_ACCEPT, index);
    sqe->opcode = IORING_OP_ACCEPT;
    sqe->fd = listener->socket.fd;
    sqe->accept_flags = SOCK_CLOEXEC; /* blocking, so that io_uring waits for readiness itself */
    sqe->ioprio = IORING_ACCEPT_MULTISHOT;
    listener->armed = true;
}

static void pause_accept(struct uring_transport *t, uint32_t index)
{
    struct uring_listener *listener = &t->listeners[index];
    uint32_t doubled = listener->pause_ms == 0 ? PAUSE_FIRST_MS : listener->pause_ms * 2;
    listener->pause_ms = doubled < PAUSE_MAX_MS ? doubled : PAUSE_MAX_MS;
    listener->pause = (struct __kernel_timespec){ .tv_sec = listener->pause_ms / 1000,
                                                  .tv_nsec = listener->pause_ms % 1000 * 1000000L };
    struct io_uring_sqe *sqe = rb_uring_sqe(t, URING_OP_BACKOFF, index);
    sqe->opcode = IORING_OP_TIMEOUT;
    sqe->addr = (uintptr_t)&listener->pause;
    sqe->len = 1;
    listener->pausing = true;
}

enum rb_err rb_uring_listen(struct rb_transport *base, const struct rb_listen_options *options,
                            uint32_t *ret_listener, struct rb_addr *ret_bound)
{
    struct uring_transport *t = (struct uring_transport *)base;
    uint32_t index = 0;
    while (index < URING_LISTENERS_MAX && t->listeners[index].used) {
        index++;
    }
    if (index == URING_LISTENERS_MAX) {
        return RB_ERR_LIMIT;
    }
    struct rb_listen_socket socket;
    enum rb_err err = rb_listen_socket_open(options, 0, &socket, ret_bound);
    if (err != RB_OK) {
        return err;
    }
    t->listeners[index] = (struct uring_listener){
        .used = true, .socket = socket, .spread = options->spread, .next_member = t->index
    };
    arm_accept(t, index);
    *ret_listener = index;
    return RB_OK;
}

static void forget_if_idle(struct uring_listener *listener)
{
    if (listener->closing && !listener->armed && !listener->pausing) {
        listener->used = false; /* invariant 1 */
    }
}

void rb_uring_unlisten(struct rb_transport *base, uint32_t index)
{
    struct uring_transport *t = (struct uring_transport *)base;
    rb_assert(index < URING_LISTENERS_MAX);
    struct uring_listener *listener = &t->listeners[index];
    if (!listener->used || listener->closing) {
        return;
    }
    listener->closing = true;
    /* The accept in the kernel still refers to the socket: end the listening itself, at once. */
    shutdown(listener->socket.fd, SHUT_RDWR);
    if (listener->armed) {
        rb_uring_cancel(t, URING_OP_ACCEPT, index);
    }
    if (listener->pausing) {
        rb_uring_cancel(t, URING_OP_BACKOFF, index);
    }
    rb_listen_socket_close(&listener->socket);
    forget_if_idle(listener);
}

static void hand_out(struct uring_transport *t, uint32_t index, int fd)
{
    struct uring_listener *listener = &t->listeners[index];
    uint32_t member = listener->next_member;
    if (listener->spread) {
        listener->next_member = (member + 1) % t->group->member_count;
    }
    int ring_fd = atomic_load_explicit(&t->group->members[member].ring_fd, memory_order_acquire);
    if (member == t->index || ring_fd < 0) {
        rb_uring_adopt(t, index, fd);
        return;
    }
    uint64_t what = (uint64_t)index << 32 | (uint32_t)fd;
    rb_uring_message(t, ring_fd, uring_data(URING_OP_ADOPT, what),
                     uring_data(URING_OP_REFUSED, what));
}

void rb_uring_on_accept(struct uring_transport *t, uint32_t index, int32_t res, uint32_t flags)
{
    struct uring_listener *listener = &t->listeners[index];
    if ((flags & IORING_CQE_F_MORE) == 0) {
        listener->armed = false;
    }
    if (listener->closing) {
        if (res >= 0) {
            close(res);
        }
        forget_if_idle(listener);
        return;
    }
    if (res >= 0) {
        listener->pause_ms = 0;
        hand_out(t, index, res);
    } else if (!rb_socket_accept_passes_by(-res)) {
        enum rb_err err = rb_socket_err(-res);
        bool short_of = err == RB_ERR_MEMORY || err == RB_ERR_LIMIT;
        rb_uring_event(t, RB_EVENT_ACCEPT_FAILED, short_of ? RB_ERR_LIMIT : RB_ERR_IO)->listener =
            index;
        if (!listener->armed) {
            pause_accept(t, index);
        }
        return;
    }
    if (!listener->armed) {
        arm_accept(t, index);
    }
}

void rb_uring_on_backoff(struct uring_transport *t, uint32_t index)
{
    struct uring_listener *listener = &t->listeners[index];
    listener->pausing = false;
    if (listener->closing) {
        forget_if_idle(listener);
    } else {
        arm_accept(t, index);
    }
}

void rb_uring_adopt(struct uring_transport *t, uint32_t listener, int fd)
{
    struct rb_addr peer, local;
    if (t->destroying || !rb_socket_ends(fd, &peer, &local)) {
        close(fd); /* gone before we looked at it */
        return;
    }
    struct uring_conn *conn = rb_uring_conn_open(t, fd, URING_CONN_OPEN);
    if (conn == NULL) {
        close(fd);
        rb_uring_event(t, RB_EVENT_ACCEPT_FAILED, RB_ERR_MEMORY)->listener = listener;
        return;
    }
    struct rb_event *event = rb_uring_conn_event(t, conn, RB_EVENT_ACCEPTED, RB_OK);
    event->listener = listener;
    event->peer = peer;
    event->local = local;
    rb_uring_conn_start(t, conn);
}
