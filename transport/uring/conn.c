/* conn.c - one connection: receive, send, and an end that does not lose what was sent.
 *
 *   CONNECTING --connected, or FAILED--> OPEN --close: something to keep--> LINGERING
 *       |                                 |                                 | peer ended, enough
 *       |                                 | close: failed, or a send cut    | drained, or two ticks
 *       `-----------close-----------------`--------------> ENDING <---------'
 *                                                            `--operations ended--> CLOSED, freed
 *
 * 1. A slot lives until its descriptor is closed, no operation in the kernel refers to it and
 *    CLOSED was delivered. Completions of cancels carry no slot, so the generation check never
 *    meets a reused one.
 * 2. One multishot receive and one send (or the connect) are in the kernel at most.
 * 3. A receive that ends is armed again while there is credit and the stream is whole. One that
 *    ended for want of a buffer waits in `starved`; as many are armed per turn as buffers came
 *    back.
 * 4. close(2) with unread bytes resets the stream and may destroy what the peer has not read yet.
 *    So an orderly end shuts our direction down and discards input until the peer ends too, for
 *    at most DRAIN_BYTES_MAX and two linger ticks. Nothing is kept back when a send is cut or the
 *    stream broke.
 * 5. A completion adds at most one event itself; FAILED (but for connect) and CLOSED are owed
 *    through `due`, which is delivered after the completions of the turn, as far as there is
 *    room.
 */
#include <errno.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "transport/uring/inside.h"

#define WHAT_SLOT_BITS 28
#define WHAT_SLOT_MASK ((1U << WHAT_SLOT_BITS) - 1)
#define WHAT_GENERATION_MASK 0xFFFFFFU

#define SEND_BYTES_MAX (1U << 30)       /* of one slice in one operation: results are int32_t */
#define DRAIN_BYTES_MAX (4U << 20)      /* a refused payload may still be on its way */
#define LINGER_TICK_NS (100 * 1000000L) /* a connection lingers one to two of them */

static uint64_t what_of(const struct uring_conn *conn)
{
    return (uint64_t)(conn->slot.id.generation & WHAT_GENERATION_MASK) << WHAT_SLOT_BITS |
           conn->slot.id.slot;
}

static struct uring_conn *find_what(struct uring_transport *t, uint64_t what)
{
    uint32_t number = (uint32_t)what & WHAT_SLOT_MASK;
    struct uring_conn *conn =
        number < t->slots.high ? (struct uring_conn *)t->slots.table[number] : NULL;
    return conn != NULL && what_of(conn) == what ? conn : NULL;
}

static struct uring_conn *find(struct rb_transport *base, struct rb_conn_id id)
{
    return (struct uring_conn *)rb_slots_find(&((struct uring_transport *)base)->slots, id);
}

static void check_conn(const struct uring_conn *conn)
{
    rb_assert_slow(conn->slot.used && conn->state <= URING_CONN_ENDING);
    rb_assert_slow(conn->recv_armed || !conn->recv_cancel);
    rb_assert_slow(conn->sending || conn->out.bytes.gather == NULL);
    rb_assert_slow((conn->due == 0) == rb_list_empty(&conn->due_link));
    rb_assert_slow((conn->state == URING_CONN_LINGERING) == !rb_list_empty(&conn->linger_link));
    rb_assert_slow(!conn->recv_armed || rb_list_empty(&conn->starved_link));
    rb_assert_slow(conn->state == URING_CONN_ENDING || conn->fd >= 0);
}

static void owe(struct uring_transport *t, struct uring_conn *conn, uint8_t due, enum rb_err err)
{
    if (conn->due == 0) {
        rb_list_append(&t->due, &conn->due_link);
    }
    conn->due |= due;
    conn->due_err = (uint8_t)err;
}

static void fail(struct uring_transport *t, struct uring_conn *conn, enum rb_err err)
{
    if (!conn->failed) {
        conn->failed = true;
        owe(t, conn, URING_DUE_FAILED, err);
    }
}

static void end_if_idle(struct uring_transport *t, struct uring_conn *conn)
{
    if (conn->state == URING_CONN_ENDING && !conn->recv_armed && !conn->sending && conn->fd >= 0) {
        close(conn->fd);
        conn->fd = -1;
        owe(t, conn, URING_DUE_CLOSED, RB_OK);
    }
}

static void cancel_recv(struct uring_transport *t, struct uring_conn *conn)
{
    if (conn->recv_armed && !conn->recv_cancel) {
        conn->recv_cancel = true;
        rb_uring_cancel(t, URING_OP_RECV, what_of(conn));
    }
}

static void begin_end(struct uring_transport *t, struct uring_conn *conn)
{
    enum uring_op out_op = conn->state == URING_CONN_CONNECTING ? URING_OP_CONNECT : URING_OP_SEND;
    conn->state = URING_CONN_ENDING;
    conn->receive = false;
    rb_list_remove(&conn->linger_link);
    rb_list_remove(&conn->starved_link);
    cancel_recv(t, conn);
    if (conn->sending) {
        rb_uring_cancel(t, out_op, what_of(conn));
    }
    end_if_idle(t, conn);
}

void rb_uring_deliver_due(struct uring_transport *t)
{
    while (t->event_count < RB_EVENTS_MAX && !rb_list_empty(&t->due)) {
        struct uring_conn *conn = RB_CONTAINER(rb_list_pop(&t->due), struct uring_conn, due_link);
        uint8_t due = conn->due;
        conn->due = 0;
        if ((due & URING_DUE_CLOSED) != 0) {
            rb_uring_conn_event(t, conn, RB_EVENT_CLOSED, RB_OK);
            rb_slots_release(&t->slots, &conn->slot);
        } else if ((due & URING_DUE_FAILED) != 0) {
            rb_uring_conn_event(t, conn, RB_EVENT_FAILED, conn->due_err);
        }
    }
}

/* ---- receive ---- */

/* A fresh connection rarely has bytes yet (the server speaks first): wait before trying to read. */
static void arm_recv(struct uring_transport *t, struct uring_conn *conn, bool poll_first)
{
    struct io_uring_sqe *sqe = rb_uring_sqe(t, URING_OP_RECV, what_of(conn));
    sqe->opcode = IORING_OP_RECV;
    sqe->fd = conn->fd;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_BUF_GROUP;
    sqe->ioprio = IORING_RECV_MULTISHOT | (poll_first ? IORING_RECVSEND_POLL_FIRST : 0);
    conn->recv_armed = true;
}

static bool may_receive(const struct uring_conn *conn)
{
    return conn->receive && !conn->failed && !conn->recv_armed &&
           (conn->state == URING_CONN_OPEN || conn->state == URING_CONN_LINGERING) &&
           rb_list_empty(&conn->starved_link);
}

void rb_uring_conn_start(struct uring_transport *t, struct uring_conn *conn)
{
    if (may_receive(conn)) {
        arm_recv(t, conn, true);
    }
}

void rb_uring_feed_starved(struct uring_transport *t, uint32_t count)
{
    for (; count > 0 && !rb_list_empty(&t->starved); count--) {
        struct uring_conn *conn =
            RB_CONTAINER(rb_list_pop(&t->starved), struct uring_conn, starved_link);
        if (may_receive(conn)) {
            arm_recv(t, conn, false);
        }
    }
}

static void on_bytes(struct uring_transport *t, struct uring_conn *conn, struct rb_slice bytes)
{
    if (conn->state == URING_CONN_LINGERING) {
        conn->drained_bytes += (uint32_t)bytes.len;
        if (conn->drained_bytes >= DRAIN_BYTES_MAX) {
            begin_end(t, conn);
        }
        return;
    }
    bool told = conn->failed && (conn->due & URING_DUE_FAILED) == 0;
    if (conn->state == URING_CONN_OPEN && !told) {
        rb_uring_conn_event(t, conn, RB_EVENT_RECEIVED, RB_OK)->bytes = bytes;
    }
}

static void on_stream_end(struct uring_transport *t, struct uring_conn *conn, enum rb_err err)
{
    if (conn->state == URING_CONN_LINGERING) {
        begin_end(t, conn);
    } else if (conn->state == URING_CONN_OPEN) {
        fail(t, conn, err);
    }
}

void rb_uring_on_recv(struct uring_transport *t, uint64_t what, int32_t res, uint32_t flags)
{
    struct rb_slice bytes = { 0 };
    if ((flags & IORING_CQE_F_BUFFER) != 0) {
        bytes = rb_uring_bufs_take(&t->bufs, flags, res);
    }
    struct uring_conn *conn = find_what(t, what);
    rb_assert(conn != NULL); /* invariant 1 */
    if ((flags & IORING_CQE_F_MORE) == 0) {
        conn->recv_armed = false;
        conn->recv_cancel = false;
    }
    if (t->destroying) {
        return;
    }
    if (res > 0) {
        on_bytes(t, conn, bytes);
    } else if (res == 0) {
        conn->peer_done = !conn->failed;
        on_stream_end(t, conn, RB_OK);
    } else if (res == -ENOBUFS) {
        if (may_receive(conn)) {
            rb_list_append(&t->starved, &conn->starved_link);
        }
    } else if (res != -ECANCELED && res != -EINTR && res != -EAGAIN) {
        on_stream_end(t, conn, rb_socket_err(-res));
    }
    if (may_receive(conn)) {
        arm_recv(t, conn, false); /* invariant 3 */
    }
    end_if_idle(t, conn);
    check_conn(conn);
}

void rb_uring_credit(struct rb_transport *base, struct rb_conn_id id, bool receive)
{
    struct uring_transport *t = (struct uring_transport *)base;
    struct uring_conn *conn = find(base, id);
    if (conn == NULL || conn->state > URING_CONN_OPEN || conn->receive == receive) {
        return;
    }
    conn->receive = receive;
    if (!receive) {
        rb_list_remove(&conn->starved_link);
        cancel_recv(t, conn);
    } else if (may_receive(conn)) {
        arm_recv(t, conn, false);
    }
    check_conn(conn);
}

/* ---- send ---- */

static void queue_send(struct uring_transport *t, struct uring_conn *conn)
{
    struct io_uring_sqe *sqe = rb_uring_sqe(t, URING_OP_SEND, what_of(conn));
    sqe->fd = conn->fd;
    sqe->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
    struct rb_outgoing *out = &conn->out.bytes;
    if (out->gather != NULL) {
        sqe->opcode = IORING_OP_SENDMSG;
        sqe->addr = (uintptr_t)&out->gather->header;
        sqe->len = 1;
    } else {
        size_t len = out->len;
        sqe->opcode = IORING_OP_SEND;
        sqe->addr = (uintptr_t)out->ptr;
        sqe->len = len < SEND_BYTES_MAX ? (uint32_t)len : SEND_BYTES_MAX;
    }
    conn->sending = true;
}

enum rb_err rb_uring_send(struct rb_transport *base, struct rb_conn_id id,
                          const struct rb_slice *slices, uint32_t slice_count)
{
    struct uring_transport *t = (struct uring_transport *)base;
    struct uring_conn *conn = find(base, id);
    if (conn == NULL || conn->state > URING_CONN_OPEN) {
        return RB_ERR_STALE;
    }
    if (conn->failed && !conn->peer_done) {
        return RB_ERR_RESET;
    }
    if (conn->sending) {
        return RB_ERR_BUSY;
    }
    enum rb_err err = rb_outgoing_set(&conn->out.bytes, &t->gathers, slices, slice_count);
    if (err == RB_OK) {
        queue_send(t, conn);
    }
    check_conn(conn);
    return err;
}

void rb_uring_on_send(struct uring_transport *t, uint64_t what, int32_t res)
{
    struct uring_conn *conn = find_what(t, what);
    rb_assert(conn != NULL && conn->sending);
    conn->sending = false;
    bool left = res < 0 || rb_outgoing_advance(&conn->out.bytes, (size_t)res);
    bool again = res > 0 || res == -EINTR || res == -EAGAIN;
    if (left && again && conn->state == URING_CONN_OPEN && !t->destroying) {
        queue_send(t, conn); /* a short result; what stopped it, if anything, shows now */
        return;
    }
    rb_outgoing_clear(&conn->out.bytes, &t->gathers);
    if (t->destroying) {
        return;
    }
    enum rb_err err = RB_OK;
    if (left) {
        err =
            conn->state != URING_CONN_OPEN ? RB_ERR_CANCELED : rb_socket_err(res < 0 ? -res : EIO);
    }
    rb_uring_conn_event(t, conn, RB_EVENT_SENT, err);
    if (left && conn->state == URING_CONN_OPEN) {
        fail(t, conn, err);
    }
    end_if_idle(t, conn);
    check_conn(conn);
}

/* ---- begin and end ---- */

struct uring_conn *rb_uring_conn_open(struct uring_transport *t, int fd,
                                      enum uring_conn_state state)
{
    struct uring_conn *conn = (struct uring_conn *)rb_slots_acquire(&t->slots);
    if (conn != NULL) {
        rb_list_init(&conn->due_link);
        rb_list_init(&conn->starved_link);
        rb_list_init(&conn->linger_link);
        conn->fd = fd;
        conn->state = (uint8_t)state;
        conn->receive = true;
    }
    return conn;
}

enum rb_err rb_uring_connect(struct rb_transport *base, const struct rb_addr *addr,
                             struct rb_conn_id *ret_conn)
{
    struct uring_transport *t = (struct uring_transport *)base;
    struct sockaddr_in6 target;
    socklen_t len;
    int fd;
    enum rb_err err = rb_socket_open(addr, 0, &target, &len, &fd);
    if (err != RB_OK) {
        return err;
    }
    struct uring_conn *conn = rb_uring_conn_open(t, fd, URING_CONN_CONNECTING);
    if (conn == NULL) {
        close(fd);
        return RB_ERR_MEMORY;
    }
    conn->out.target = target;
    struct io_uring_sqe *sqe = rb_uring_sqe(t, URING_OP_CONNECT, what_of(conn));
    sqe->opcode = IORING_OP_CONNECT;
    sqe->fd = fd;
    sqe->addr = (uintptr_t)&conn->out.target;
    sqe->off = len;
    conn->sending = true;
    *ret_conn = conn->slot.id;
    check_conn(conn);
    return RB_OK;
}

void rb_uring_on_connect(struct uring_transport *t, uint64_t what, int32_t res)
{
    struct uring_conn *conn = find_what(t, what);
    rb_assert(conn != NULL && conn->sending);
    conn->sending = false;
    conn->out.bytes = (struct rb_outgoing){ 0 };
    if (t->destroying) {
        return;
    }
    if (conn->state == URING_CONN_ENDING) {
        conn->failed = true;
        rb_uring_conn_event(t, conn, RB_EVENT_FAILED, RB_ERR_CANCELED);
        end_if_idle(t, conn);
        return;
    }
    struct rb_addr peer, local;
    if (res == 0 && !rb_socket_ends(conn->fd, &peer, &local)) {
        res = -errno;
    }
    conn->state = URING_CONN_OPEN;
    if (res < 0) {
        conn->failed = true;
        rb_uring_conn_event(t, conn, RB_EVENT_FAILED, rb_socket_err(-res));
    } else {
        struct rb_event *event = rb_uring_conn_event(t, conn, RB_EVENT_CONNECTED, RB_OK);
        event->peer = peer;
        event->local = local;
        rb_uring_conn_start(t, conn);
    }
    check_conn(conn);
}

static void arm_linger_tick(struct uring_transport *t)
{
    if (t->linger_armed) {
        return;
    }
    t->linger_tick = (struct __kernel_timespec){ .tv_nsec = LINGER_TICK_NS };
    struct io_uring_sqe *sqe = rb_uring_sqe(t, URING_OP_LINGER, 0);
    sqe->opcode = IORING_OP_TIMEOUT;
    sqe->addr = (uintptr_t)&t->linger_tick;
    sqe->len = 1;
    t->linger_armed = true;
}

static void linger(struct uring_transport *t, struct uring_conn *conn)
{
    conn->state = URING_CONN_LINGERING;
    conn->receive = true;
    rb_list_append(&t->linger_new, &conn->linger_link);
    arm_linger_tick(t);
    if (may_receive(conn)) {
        arm_recv(t, conn, false);
    }
}

void rb_uring_on_linger(struct uring_transport *t)
{
    t->linger_armed = false;
    if (t->destroying) {
        return;
    }
    while (!rb_list_empty(&t->linger_old)) {
        begin_end(t, RB_CONTAINER(t->linger_old.next, struct uring_conn, linger_link));
    }
    rb_list_splice(&t->linger_old, &t->linger_new);
    if (!rb_list_empty(&t->linger_old)) {
        arm_linger_tick(t);
    }
}

enum rb_err rb_uring_close(struct rb_transport *base, struct rb_conn_id id)
{
    struct uring_transport *t = (struct uring_transport *)base;
    struct uring_conn *conn = find(base, id);
    if (conn == NULL || conn->state > URING_CONN_OPEN) {
        return RB_ERR_STALE;
    }
    if ((conn->due & URING_DUE_FAILED) != 0) {
        conn->due = 0;
        rb_list_remove(&conn->due_link);
    }
    bool orderly = conn->state == URING_CONN_OPEN && !conn->failed && !conn->sending;
    if (orderly && shutdown(conn->fd, SHUT_WR) == 0) {
        linger(t, conn); /* invariant 4 */
    } else {
        begin_end(t, conn);
    }
    check_conn(conn);
    return RB_OK;
}

void rb_uring_set_user(struct rb_transport *base, struct rb_conn_id id, void *user)
{
    struct uring_conn *conn = find(base, id);
    if (conn != NULL) {
        conn->slot.user = user;
    }
}

void rb_uring_conn_abandon(struct uring_transport *t, struct uring_conn *conn)
{
    if (conn->state != URING_CONN_ENDING) {
        begin_end(t, conn);
    }
}
