/* conn.c - one connection: receive, send, and an end that does not lose what was sent.
 *
 *   CONNECTING --connected, or FAILED--> OPEN --close: something to keep--> LINGERING
 *       |                                 |                                 | peer ended, enough
 *       |                                 | close: failed, or a send cut    | drained, or two ticks
 *       `-----------close-----------------`--------------> ENDED <----------'
 *                                                            `--CLOSED delivered--> freed
 *
 * 1. All events but RECEIVED are owed through `due` and delivered as far as there is room, those
 *    of one connection in the order of their bits. RECEIVED is made only while nothing is owed
 *    that has to come before it: owed events are delivered before active connections run.
 * 2. A connection is in `active` while the kernel may let it read or write and the owner wants
 *    that. It leaves when a call says that the kernel has nothing (or no room) for it; then the
 *    next edge brings it back. A short read is as good as EAGAIN, unless the peer's end was seen.
 * 3. Each active connection reads once per poll(), so a loud one does not silence the others.
 * 4. close(2) with unread bytes resets the stream and may destroy what the peer has not read yet.
 *    So an orderly end shuts our direction down and discards input until the peer ends too, for
 *    at most DRAIN_BYTES_MAX and two linger ticks. Nothing is kept back when a send is cut or the
 *    stream broke.
 * 5. A readiness names slot and generation: one that outlives its connection (a child process may
 *    hold the socket) finds nobody.
 */
#include <errno.h>
#include <unistd.h>

#include "ringbus/check.h"
#include "transport/epoll/inside.h"

#define WHAT_SLOT_BITS 28
#define WHAT_SLOT_MASK ((1U << WHAT_SLOT_BITS) - 1)
#define WHAT_GENERATION_MASK 0xFFFFFFFU

#define READ_BYTES_MIN 4096        /* less room than that is left for the next poll() */
#define WRITE_CALLS_MAX 16         /* of one connection, in a row */
#define DRAIN_BYTES_MAX (4U << 20) /* a refused payload may still be on its way */
#define LINGER_TICK_NS (100 * (uint64_t)EPOLL_NS_PER_MS) /* one lingers one to two of them */

static uint64_t what_of(const struct epoll_conn *conn)
{
    return (uint64_t)(conn->slot.id.generation & WHAT_GENERATION_MASK) << WHAT_SLOT_BITS |
           conn->slot.id.slot;
}

static struct epoll_conn *find(struct rb_transport *base, struct rb_conn_id id)
{
    return (struct epoll_conn *)rb_slots_find(&((struct epoll_transport *)base)->slots, id);
}

static bool wants_read(const struct epoll_conn *conn)
{
    return conn->readable && conn->receive && !conn->failed &&
           (conn->state == EPOLL_CONN_OPEN || conn->state == EPOLL_CONN_LINGERING);
}

static bool wants_write(const struct epoll_conn *conn)
{
    return conn->writable && conn->left && conn->state == EPOLL_CONN_OPEN;
}

static void check_conn(const struct epoll_conn *conn)
{
    rb_assert_slow(conn->slot.used && conn->state <= EPOLL_CONN_ENDED);
    rb_assert_slow((conn->due == 0) == rb_list_empty(&conn->due_link));
    rb_assert_slow((conn->state == EPOLL_CONN_LINGERING) == !rb_list_empty(&conn->linger_link));
    rb_assert_slow((conn->state == EPOLL_CONN_ENDED) == (conn->fd < 0));
    rb_assert_slow(conn->sending || !conn->left);
    rb_assert_slow(conn->left || conn->out.gather == NULL);
    rb_assert_slow((!wants_read(conn) && !wants_write(conn)) || !rb_list_empty(&conn->active_link));
}

static void owe(struct epoll_transport *t, struct epoll_conn *conn, uint8_t due)
{
    if (conn->due == 0) {
        rb_list_append(&t->due, &conn->due_link);
    }
    conn->due |= due;
}

static void disown(struct epoll_conn *conn, uint8_t due)
{
    conn->due &= (uint8_t)~due;
    if (conn->due == 0) {
        rb_list_remove(&conn->due_link);
    }
}

static void enlist(struct epoll_transport *t, struct epoll_conn *conn)
{
    if (rb_list_empty(&conn->active_link) && (wants_read(conn) || wants_write(conn))) {
        rb_list_append(&t->active, &conn->active_link);
    }
}

static void finish_send(struct epoll_transport *t, struct epoll_conn *conn, enum rb_err err)
{
    rb_outgoing_clear(&conn->out, &t->gathers);
    conn->left = false;
    conn->sent_err = (uint8_t)err;
    owe(t, conn, EPOLL_DUE_SENT);
}

static void fail(struct epoll_transport *t, struct epoll_conn *conn, enum rb_err err)
{
    if (conn->left && err != RB_OK) {
        finish_send(t, conn, err);
    }
    if (!conn->failed) {
        conn->failed = true;
        conn->due_err = (uint8_t)err;
        owe(t, conn, EPOLL_DUE_FAILED);
    }
}

static void end_now(struct epoll_transport *t, struct epoll_conn *conn)
{
    close(conn->fd);
    conn->fd = -1;
    conn->state = EPOLL_CONN_ENDED;
    rb_list_remove(&conn->active_link);
    rb_list_remove(&conn->linger_link);
    if (conn->left) {
        finish_send(t, conn, RB_ERR_CANCELED);
    }
    owe(t, conn, EPOLL_DUE_CLOSED);
}

/* ---- owed events ---- */

static void deliver_connected(struct epoll_transport *t, struct epoll_conn *conn)
{
    struct rb_addr peer, local;
    conn->state = EPOLL_CONN_OPEN;
    if (!rb_socket_ends(conn->fd, &peer, &local)) {
        conn->failed = true;
        rb_epoll_conn_event(t, conn, RB_EVENT_FAILED, rb_socket_err(errno));
        return;
    }
    struct rb_event *event = rb_epoll_conn_event(t, conn, RB_EVENT_CONNECTED, RB_OK);
    event->peer = peer;
    event->local = local;
    conn->fresh = true;
    enlist(t, conn);
}

static void deliver(struct epoll_transport *t, struct epoll_conn *conn, uint8_t due)
{
    switch (due) {
    case EPOLL_DUE_CONNECTED:
        deliver_connected(t, conn);
        break;
    case EPOLL_DUE_CONNECT_FAILED:
        if (conn->state == EPOLL_CONN_CONNECTING) {
            conn->state = EPOLL_CONN_OPEN;
        }
        conn->failed = true;
        rb_epoll_conn_event(t, conn, RB_EVENT_FAILED, conn->due_err);
        break;
    case EPOLL_DUE_SENT:
        conn->sending = false;
        rb_epoll_conn_event(t, conn, RB_EVENT_SENT, conn->sent_err);
        break;
    case EPOLL_DUE_FAILED:
        rb_epoll_conn_event(t, conn, RB_EVENT_FAILED, conn->due_err);
        break;
    case EPOLL_DUE_CLOSED:
        rb_epoll_conn_event(t, conn, RB_EVENT_CLOSED, RB_OK);
        rb_slots_release(&t->slots, &conn->slot);
        break;
    default:
        rb_unreachable("one bit at a time");
    }
}

void rb_epoll_deliver_due(struct epoll_transport *t)
{
    while (epoll_room(t) > 0 && !rb_list_empty(&t->due)) {
        struct epoll_conn *conn = RB_CONTAINER(t->due.next, struct epoll_conn, due_link);
        uint8_t first = (uint8_t)(conn->due & -conn->due);
        disown(conn, first);
        deliver(t, conn, first); /* with CLOSED, the last, the connection is gone */
    }
}

/* ---- receive ---- */

static void on_stream_end(struct epoll_transport *t, struct epoll_conn *conn, enum rb_err err)
{
    conn->readable = false;
    if (conn->state == EPOLL_CONN_LINGERING) {
        end_now(t, conn);
    } else {
        fail(t, conn, err);
    }
}

static void on_bytes(struct epoll_transport *t, struct epoll_conn *conn, struct rb_slice bytes)
{
    if (conn->state == EPOLL_CONN_LINGERING) {
        conn->drained_bytes += (uint32_t)bytes.len;
        if (conn->drained_bytes >= DRAIN_BYTES_MAX) {
            end_now(t, conn);
        }
        return;
    }
    t->recv_len += bytes.len;
    rb_epoll_conn_event(t, conn, RB_EVENT_RECEIVED, RB_OK)->bytes = bytes;
}

static void read_some(struct epoll_transport *t, struct epoll_conn *conn)
{
    size_t room = t->recv_cap - t->recv_len;
    if (room < READ_BYTES_MIN || epoll_room(t) == 0) {
        return; /* it stays active */
    }
    size_t offered = room < RB_RECV_BYTES ? room : RB_RECV_BYTES;
    uint8_t *to = t->recv + t->recv_len;
    ssize_t len = recv(conn->fd, to, offered, 0);
    if (len > 0) {
        conn->readable = (size_t)len == offered || conn->hung_up; /* invariant 2 */
        on_bytes(t, conn, rb_slice_of(to, (size_t)len));
    } else if (len == 0) {
        conn->peer_done = true;
        on_stream_end(t, conn, RB_OK);
    } else if (errno == EAGAIN) {
        conn->readable = false;
    } else if (errno != EINTR) {
        on_stream_end(t, conn, rb_socket_err(errno));
    }
}

void rb_epoll_credit(struct rb_transport *base, struct rb_conn_id id, bool receive)
{
    struct epoll_conn *conn = find(base, id);
    if (conn != NULL && conn->state <= EPOLL_CONN_OPEN) {
        conn->receive = receive;
        enlist((struct epoll_transport *)base, conn);
        check_conn(conn);
    }
}

/* ---- send ---- */

static ssize_t write_once(struct epoll_conn *conn)
{
    if (conn->out.gather != NULL) {
        return sendmsg(conn->fd, &conn->out.gather->header, MSG_NOSIGNAL);
    }
    return send(conn->fd, conn->out.ptr, conn->out.len, MSG_NOSIGNAL);
}

static void write_some(struct epoll_transport *t, struct epoll_conn *conn)
{
    for (int calls = 0; calls < WRITE_CALLS_MAX && wants_write(conn); calls++) {
        ssize_t len = write_once(conn);
        if (len >= 0) {
            if (!rb_outgoing_advance(&conn->out, (size_t)len)) {
                finish_send(t, conn, RB_OK);
            }
        } else if (errno == EAGAIN) {
            conn->writable = false;
        } else if (errno != EINTR) {
            fail(t, conn, rb_socket_err(errno)); /* ends the send as well */
        }
    }
}

enum rb_err rb_epoll_send(struct rb_transport *base, struct rb_conn_id id,
                          const struct rb_slice *slices, uint32_t slice_count)
{
    struct epoll_transport *t = (struct epoll_transport *)base;
    struct epoll_conn *conn = find(base, id);
    if (conn == NULL || conn->state > EPOLL_CONN_OPEN) {
        return RB_ERR_STALE;
    }
    if (conn->failed && !conn->peer_done) {
        return RB_ERR_RESET;
    }
    if (conn->sending || conn->state == EPOLL_CONN_CONNECTING) {
        return RB_ERR_BUSY;
    }
    enum rb_err err = rb_outgoing_set(&conn->out, &t->gathers, slices, slice_count);
    if (err != RB_OK) {
        return err;
    }
    conn->sending = true;
    conn->left = true;
    if (!rb_outgoing_advance(&conn->out, 0)) {
        finish_send(t, conn, RB_OK); /* nothing but empty slices */
    } else {
        write_some(t, conn);
        enlist(t, conn);
    }
    check_conn(conn);
    return RB_OK;
}

/* ---- readiness ---- */

static void on_connect_ready(struct epoll_transport *t, struct epoll_conn *conn)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) {
        error = errno;
    }
    conn->due_err = (uint8_t)rb_socket_err(error);
    owe(t, conn, error == 0 ? EPOLL_DUE_CONNECTED : EPOLL_DUE_CONNECT_FAILED);
}

void rb_epoll_conn_ready(struct epoll_transport *t, uint64_t what, uint32_t events)
{
    uint32_t number = (uint32_t)what & WHAT_SLOT_MASK;
    struct epoll_conn *conn =
        number < t->slots.high ? (struct epoll_conn *)t->slots.table[number] : NULL;
    if (conn == NULL || what_of(conn) != what || conn->state == EPOLL_CONN_ENDED) {
        return; /* invariant 5 */
    }
    bool over = (events & (EPOLLERR | EPOLLHUP)) != 0;
    conn->hung_up = conn->hung_up || over || (events & EPOLLRDHUP) != 0;
    conn->readable = conn->readable || conn->hung_up || (events & EPOLLIN) != 0;
    conn->writable = conn->writable || over || (events & EPOLLOUT) != 0;
    uint8_t known = EPOLL_DUE_CONNECTED | EPOLL_DUE_CONNECT_FAILED;
    if (conn->state != EPOLL_CONN_CONNECTING) {
        enlist(t, conn);
    } else if ((events & EPOLLOUT) != 0 || over) {
        if ((conn->due & known) == 0) {
            on_connect_ready(t, conn);
        }
    }
    check_conn(conn);
}

void rb_epoll_run_active(struct epoll_transport *t)
{
    struct rb_list todo, *link;
    rb_list_init(&todo);
    rb_list_splice(&todo, &t->active);
    while (epoll_room(t) > 0 && t->recv_cap - t->recv_len >= READ_BYTES_MIN &&
           (link = rb_list_pop(&todo)) != NULL) {
        struct epoll_conn *conn = RB_CONTAINER(link, struct epoll_conn, active_link);
        write_some(t, conn);
        if (wants_read(conn) && !conn->fresh) {
            read_some(t, conn); /* invariant 3 */
        }
        conn->fresh = false;
        enlist(t, conn);
        check_conn(conn);
    }
    rb_list_splice(&todo, &t->active); /* who had no turn comes first */
    rb_list_splice(&t->active, &todo);
}

/* ---- begin and end ---- */

struct epoll_conn *rb_epoll_conn_open(struct epoll_transport *t, int fd,
                                      enum epoll_conn_state state)
{
    struct epoll_conn *conn = (struct epoll_conn *)rb_slots_acquire(&t->slots);
    if (conn == NULL) {
        return NULL;
    }
    rb_list_init(&conn->due_link);
    rb_list_init(&conn->active_link);
    rb_list_init(&conn->linger_link);
    conn->fd = fd;
    conn->state = (uint8_t)state;
    conn->receive = true;
    conn->writable = state == EPOLL_CONN_OPEN;
    uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    if (!rb_epoll_watch(t, fd, events, EPOLL_TAG_CONN, what_of(conn))) {
        rb_slots_release(&t->slots, &conn->slot);
        return NULL;
    }
    return conn;
}

enum rb_err rb_epoll_connect(struct rb_transport *base, const struct rb_addr *addr,
                             struct rb_conn_id *ret_conn)
{
    struct epoll_transport *t = (struct epoll_transport *)base;
    struct sockaddr_in6 target;
    socklen_t len;
    int fd;
    enum rb_err err = rb_socket_open(addr, SOCK_NONBLOCK, &target, &len, &fd);
    if (err != RB_OK) {
        return err;
    }
    int error = connect(fd, (struct sockaddr *)&target, len) == 0 ? 0 : errno;
    struct epoll_conn *conn = rb_epoll_conn_open(t, fd, EPOLL_CONN_CONNECTING);
    if (conn == NULL) {
        close(fd);
        return RB_ERR_MEMORY;
    }
    if (error == 0) {
        owe(t, conn, EPOLL_DUE_CONNECTED);
    } else if (error != EINPROGRESS && error != EINTR) {
        conn->due_err = (uint8_t)rb_socket_err(error);
        owe(t, conn, EPOLL_DUE_CONNECT_FAILED);
    }
    *ret_conn = conn->slot.id;
    check_conn(conn);
    return RB_OK;
}

static void linger(struct epoll_transport *t, struct epoll_conn *conn)
{
    conn->state = EPOLL_CONN_LINGERING;
    conn->receive = true;
    rb_list_append(&t->linger_new, &conn->linger_link);
    if (t->linger_ns == 0) {
        t->linger_ns = rb_epoll_now_ns() + LINGER_TICK_NS;
    }
    enlist(t, conn);
}

void rb_epoll_linger_tick(struct epoll_transport *t, uint64_t now_ns)
{
    if (t->linger_ns == 0 || now_ns < t->linger_ns) {
        return;
    }
    while (!rb_list_empty(&t->linger_old)) {
        end_now(t, RB_CONTAINER(t->linger_old.next, struct epoll_conn, linger_link));
    }
    rb_list_splice(&t->linger_old, &t->linger_new);
    t->linger_ns = rb_list_empty(&t->linger_old) ? 0 : now_ns + LINGER_TICK_NS;
}

enum rb_err rb_epoll_close(struct rb_transport *base, struct rb_conn_id id)
{
    struct epoll_transport *t = (struct epoll_transport *)base;
    struct epoll_conn *conn = find(base, id);
    if (conn == NULL || conn->state > EPOLL_CONN_OPEN) {
        return RB_ERR_STALE;
    }
    disown(conn, EPOLL_DUE_FAILED);
    if (conn->state == EPOLL_CONN_CONNECTING && (conn->due & EPOLL_DUE_CONNECT_FAILED) == 0) {
        disown(conn, EPOLL_DUE_CONNECTED);
        conn->due_err = RB_ERR_CANCELED;
        owe(t, conn, EPOLL_DUE_CONNECT_FAILED);
    }
    bool orderly = conn->state == EPOLL_CONN_OPEN && !conn->failed && !conn->left;
    if (orderly && shutdown(conn->fd, SHUT_WR) == 0) {
        linger(t, conn); /* invariant 4 */
    } else {
        end_now(t, conn);
    }
    check_conn(conn);
    return RB_OK;
}

void rb_epoll_set_user(struct rb_transport *base, struct rb_conn_id id, void *user)
{
    struct epoll_conn *conn = find(base, id);
    if (conn != NULL) {
        conn->slot.user = user;
    }
}

void rb_epoll_conn_drop(struct epoll_transport *t, struct epoll_conn *conn)
{
    if (conn->fd >= 0) {
        close(conn->fd);
    }
    rb_outgoing_clear(&conn->out, &t->gathers);
    rb_slots_release(&t->slots, &conn->slot);
}
