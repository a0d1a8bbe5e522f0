/* uring.c - the transport over io_uring: its table, its turn, its neighbours.
 *
 *   poll: give buffers back -> arm starved receives -> owed events -> enter -> completions -> owed
 *
 * 1. Everything is a queued entry until poll() submits it: a turn costs one io_uring_enter,
 *    whatever it sends. Socket set-up and the end of a connection use plain system calls, which
 *    do not block.
 * 2. A completion adds at most one event, and no more completions are taken than events have
 *    room; the rest wait in the kernel's queue and make the next poll return at once.
 * 3. op_count counts operations that will complete here. destroy() ends them all and waits until
 *    it is 0, so the kernel refers to no memory of ours afterwards.
 * 4. Members find each other's rings in the group: written once by each on create, before any
 *    listens, and set to -1 on destroy. A message that meets a ring that is gone fails, and its
 *    sender goes on.
 * 5. Other threads wake a member through an eventfd of the group's: its count stays until the
 *    member reads it, so a wake that comes early, or while the member works, ends its next wait.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "transport/uring/inside.h"

#define WHAT_MASK ((UINT64_C(1) << URING_OP_SHIFT) - 1)
#define DESTROY_ROUNDS_MAX 1000
#define DESTROY_ROUND_NS (10 * 1000000L)

void rb_uring_group_destroy(struct rb_uring_group *group)
{
    if (group == NULL) {
        return;
    }
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (group->members[i].wake_fd >= 0) {
            close(group->members[i].wake_fd);
        }
    }
    free(group);
}

enum rb_err rb_uring_group_create(uint32_t member_count, struct rb_uring_group **ret_group)
{
    rb_assert(member_count >= 1);
    struct rb_uring_group *group =
        calloc(1, sizeof(*group) + member_count * sizeof(group->members[0]));
    if (group == NULL) {
        return RB_ERR_MEMORY;
    }
    group->member_count = member_count;
    for (uint32_t i = 0; i < member_count; i++) {
        atomic_init(&group->members[i].ring_fd, -1);
        group->members[i].wake_fd = -1;
    }
    for (uint32_t i = 0; i < member_count; i++) {
        /* Blocking, so that io_uring waits for it; a write never blocks before 2^64 wakes. */
        group->members[i].wake_fd = eventfd(0, EFD_CLOEXEC);
        if (group->members[i].wake_fd < 0) {
            enum rb_err err = rb_socket_err(errno);
            rb_uring_group_destroy(group);
            return err;
        }
    }
    *ret_group = group;
    return RB_OK;
}

void rb_uring_group_wake(struct rb_uring_group *group, uint32_t index)
{
    rb_assert(index < group->member_count);
    int saved = errno;
    int result = eventfd_write(group->members[index].wake_fd, 1);
    rb_assert(result == 0);
    errno = saved;
}

struct io_uring_sqe *rb_uring_sqe(struct uring_transport *t, enum uring_op op, uint64_t what)
{
    t->op_count++;
    return rb_ring_sqe(t->ring, RB_URING_KIND, uring_data(op, what));
}

void rb_uring_cancel(struct uring_transport *t, enum uring_op op, uint64_t what)
{
    struct io_uring_sqe *sqe = rb_ring_sqe(t->ring, RB_URING_KIND, uring_data(URING_OP_IGNORE, 0));
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = rb_ring_user_data(RB_URING_KIND, uring_data(op, what));
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
}

void rb_uring_message(struct uring_transport *t, int ring_fd, uint64_t data, uint64_t failure_data)
{
    struct io_uring_sqe *sqe = rb_ring_sqe(t->ring, RB_URING_KIND, failure_data);
    sqe->opcode = IORING_OP_MSG_RING;
    sqe->fd = ring_fd;
    sqe->off = rb_ring_user_data(RB_URING_KIND, data);
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
}

struct rb_event *rb_uring_event(struct uring_transport *t, enum rb_event_kind kind, enum rb_err err)
{
    rb_assert(t->event_count < RB_EVENTS_MAX);
    struct rb_event *event = &t->events[t->event_count++];
    rb_event_begin(event, kind, err);
    return event;
}

struct rb_event *rb_uring_conn_event(struct uring_transport *t, struct uring_conn *conn,
                                     enum rb_event_kind kind, enum rb_err err)
{
    struct rb_event *event = rb_uring_event(t, kind, err);
    event->conn = conn->slot.id;
    event->user = conn->slot.user;
    return event;
}

static void arm_wake(struct uring_transport *t)
{
    struct io_uring_sqe *sqe = rb_uring_sqe(t, URING_OP_WOKEN, 0);
    sqe->opcode = IORING_OP_READ;
    sqe->fd = t->group->members[t->index].wake_fd;
    sqe->addr = (uintptr_t)&t->wake_count;
    sqe->len = sizeof(t->wake_count);
    t->wake_armed = true;
}

static void on_woken(struct uring_transport *t)
{
    t->wake_armed = false;
    if (!t->destroying) {
        arm_wake(t); /* invariant 5 */
    }
}

static void on_completion(void *ctx, uint64_t data, int32_t res, uint32_t flags)
{
    struct uring_transport *t = ctx;
    uint64_t what = data & WHAT_MASK;
    enum uring_op op = (enum uring_op)(data >> URING_OP_SHIFT);
    if (op <= URING_OP_WOKEN && (flags & IORING_CQE_F_MORE) == 0) {
        rb_assert(t->op_count > 0);
        t->op_count--; /* invariant 3 */
    }
    switch (op) {
    case URING_OP_RECV:
        rb_uring_on_recv(t, what, res, flags);
        break;
    case URING_OP_SEND:
        rb_uring_on_send(t, what, res);
        break;
    case URING_OP_CONNECT:
        rb_uring_on_connect(t, what, res);
        break;
    case URING_OP_ACCEPT:
        rb_uring_on_accept(t, (uint32_t)what, res, flags);
        break;
    case URING_OP_BACKOFF:
        rb_uring_on_backoff(t, (uint32_t)what);
        break;
    case URING_OP_LINGER:
        rb_uring_on_linger(t);
        break;
    case URING_OP_WOKEN:
        on_woken(t);
        break;
    case URING_OP_ADOPT:
    case URING_OP_REFUSED:
        rb_uring_adopt(t, (uint32_t)(what >> 32), (int)(uint32_t)what);
        break;
    case URING_OP_IGNORE:
        break;
    }
}

static uint32_t uring_poll(struct rb_transport *base, int64_t timeout_ns,
                           struct rb_event **ret_events)
{
    struct uring_transport *t = (struct uring_transport *)base;
    t->event_count = 0;
    rb_uring_bufs_give_back(&t->bufs);
    rb_uring_feed_starved(t, t->bufs.count);
    rb_uring_deliver_due(t);
    if (t->event_count > 0 || t->woken) {
        timeout_ns = 0;
    }
    t->woken = false;
    rb_ring_wait(t->ring, timeout_ns, RB_EVENTS_MAX - t->event_count); /* invariant 2 */
    rb_uring_deliver_due(t);
    *ret_events = t->events;
    return t->event_count;
}

static void uring_wake(struct rb_transport *base, uint32_t peer_index)
{
    struct uring_transport *t = (struct uring_transport *)base;
    rb_assert(peer_index < t->group->member_count);
    if (peer_index == t->index) {
        t->woken = true;
        return;
    }
    int ring_fd =
        atomic_load_explicit(&t->group->members[peer_index].ring_fd, memory_order_acquire);
    if (ring_fd >= 0) {
        uint64_t nothing = uring_data(URING_OP_IGNORE, 0);
        rb_uring_message(t, ring_fd, nothing, nothing);
    }
}

static void end_operations(struct uring_transport *t)
{
    for (uint32_t i = 0; i < t->slots.high; i++) {
        if (t->slots.table[i] != NULL) {
            rb_uring_conn_abandon(t, (struct uring_conn *)t->slots.table[i]);
        }
    }
    for (uint32_t i = 0; i < URING_LISTENERS_MAX; i++) {
        rb_uring_unlisten(&t->base, i);
    }
    if (t->linger_armed) {
        rb_uring_cancel(t, URING_OP_LINGER, 0);
    }
    if (t->wake_armed) {
        rb_uring_cancel(t, URING_OP_WOKEN, 0);
    }
    /* The first round also takes in what neighbours handed over meanwhile. */
    for (int round = 0; round == 0 || t->op_count > 0; round++) {
        rb_assert(round < DESTROY_ROUNDS_MAX);
        rb_ring_wait(t->ring, round == 0 ? 0 : DESTROY_ROUND_NS, UINT32_MAX);
        rb_uring_bufs_give_back(&t->bufs);
    }
}

static void uring_destroy(struct rb_transport *base)
{
    struct uring_transport *t = (struct uring_transport *)base;
    atomic_store_explicit(&t->group->members[t->index].ring_fd, -1, memory_order_release);
    t->destroying = true;
    end_operations(t);
    for (uint32_t i = 0; i < t->slots.high; i++) {
        struct uring_conn *conn = (struct uring_conn *)t->slots.table[i];
        if (conn != NULL) {
            if (conn->fd >= 0) {
                close(conn->fd);
            }
            rb_slots_release(&t->slots, &conn->slot);
        }
    }
    rb_ring_register(t->ring, RB_URING_KIND, NULL, NULL);
    rb_uring_bufs_deinit(&t->bufs, t->ring);
    rb_gather_pools_deinit(&t->gathers);
    rb_slots_deinit(&t->slots);
    free(t);
}

static const struct rb_transport_ops uring_ops = {
    .name = "io_uring",
    .listen = rb_uring_listen,
    .unlisten = rb_uring_unlisten,
    .connect = rb_uring_connect,
    .send = rb_uring_send,
    .close = rb_uring_close,
    .credit = rb_uring_credit,
    .set_user = rb_uring_set_user,
    .poll = uring_poll,
    .wake = uring_wake,
    .destroy = uring_destroy,
};

enum rb_err rb_uring_transport_create(const struct rb_uring_options *options,
                                      struct rb_transport **ret_transport)
{
    const struct rb_ring_features *features = rb_ring_features(options->ring);
    rb_assert(options->index < options->group->member_count);
    if (!features->buf_ring || !features->accept_multishot || !features->recv_multishot ||
        (options->group->member_count > 1 && !features->msg_ring)) {
        return RB_ERR_UNSUPPORTED;
    }
    struct uring_transport *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return RB_ERR_MEMORY;
    }
    t->base.ops = &uring_ops;
    t->ring = options->ring;
    t->group = options->group;
    t->index = options->index;
    enum rb_err err = rb_uring_bufs_init(&t->bufs, t->ring,
                                         options->recv_buffers > 0 ? options->recv_buffers
                                                                   : URING_RECV_BUFFERS_DEFAULT);
    if (err != RB_OK) {
        free(t);
        return err;
    }
    rb_slots_init(&t->slots, options->budget, sizeof(struct uring_conn));
    rb_gather_pools_init(&t->gathers, options->budget);
    rb_list_init(&t->due);
    rb_list_init(&t->starved);
    rb_list_init(&t->linger_new);
    rb_list_init(&t->linger_old);
    rb_ring_register(t->ring, RB_URING_KIND, on_completion, t);
    arm_wake(t);
    atomic_store_explicit(&t->group->members[t->index].ring_fd, rb_ring_fd(t->ring),
                          memory_order_release);
    *ret_transport = &t->base;
    return RB_OK;
}
