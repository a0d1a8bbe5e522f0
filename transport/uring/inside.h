/* inside.h - what the files of the io_uring driver share; nobody else includes it. */
#pragma once

#include <liburing.h>
#include <stdatomic.h>

#include "base/list.h"
#include "ringbus/bounds.h"
#include "transport/outgoing.h"
#include "transport/slot.h"
#include "transport/socket.h"
#include "transport/uring/uring.h"

#define URING_LISTENERS_MAX 8
#define URING_RECV_BUFFERS_DEFAULT 64
#define URING_BUF_GROUP 0

/* data of a completion: operation << 52 | what it belongs to. */
enum uring_op {
    URING_OP_RECV,    /* conn */
    URING_OP_SEND,    /* conn */
    URING_OP_CONNECT, /* conn */
    URING_OP_ACCEPT,  /* listener */
    URING_OP_BACKOFF, /* listener: the pause after a failed accept is over */
    URING_OP_LINGER,  /* the linger tick */
    URING_OP_WOKEN,   /* the read of our eventfd */
    URING_OP_ADOPT,   /* from another member: listener << 32 | descriptor */
    URING_OP_REFUSED, /* to ourselves: the same, the other member could not be told */
    URING_OP_IGNORE,  /* wakes, cancels */
};
#define URING_OP_SHIFT 52

/* Events that wait for room (struct uring_conn.due). */
enum { URING_DUE_FAILED = 1, URING_DUE_CLOSED = 2 };

enum uring_conn_state {
    URING_CONN_CONNECTING,
    URING_CONN_OPEN,
    URING_CONN_LINGERING, /* closed by the owner; what was sent still has to arrive */
    URING_CONN_ENDING,    /* waits for its operations to end, then for CLOSED to be delivered */
};

struct uring_conn {
    struct rb_slot slot;
    struct rb_list due_link; /* in transport.due while due != 0 */
    struct rb_list starved_link, linger_link;
    int fd;
    uint8_t state, due, due_err;
    bool receive;     /* the owner gives credit, or we drain */
    bool recv_armed;  /* a multishot receive is in the kernel */
    bool recv_cancel; /* it has been asked to end */
    bool sending;     /* a send (or the connect) is in the kernel */
    bool failed;      /* FAILED is due or delivered: no RECEIVED any more */
    bool peer_done;   /* the peer ended its side in order: sends still work */
    uint32_t drained_bytes;
    union {
        struct rb_outgoing bytes;   /* of the send in flight */
        struct sockaddr_in6 target; /* while connecting; room for either family */
    } out;
};
_Static_assert(sizeof(struct uring_conn) <= 256, "idle connections are small");

struct uring_listener {
    struct rb_listen_socket socket;
    bool used, spread, armed, pausing, closing;
    uint32_t pause_ms;
    uint32_t next_member;
    struct __kernel_timespec pause;
};

/* The receive buffers the kernel chooses from. Held ones carry the bytes of this turn's events. */
struct uring_bufs {
    struct io_uring_buf_ring *ring;
    uint8_t *memory;
    uint16_t *held;
    uint32_t count, held_count;
};

struct rb_uring_group {
    uint32_t member_count;
    struct {
        _Atomic int ring_fd; /* -1: not there, or gone */
        int wake_fd;         /* an eventfd, for threads without a ring */
    } members[];
};

struct uring_transport {
    struct rb_transport base;
    struct rb_ring *ring;
    struct rb_uring_group *group;
    uint32_t index;
    struct rb_slots slots;
    struct rb_gather_pools gathers;
    struct uring_bufs bufs;
    struct uring_listener listeners[URING_LISTENERS_MAX];
    struct rb_list due;     /* conns that owe events */
    struct rb_list starved; /* conns whose receive ended for want of a buffer */
    struct rb_list linger_new, linger_old;
    struct __kernel_timespec linger_tick;
    bool linger_armed;
    bool wake_armed;     /* the read of our eventfd is in the kernel */
    uint64_t wake_count; /* what it reads into */
    bool woken;          /* by ourselves: the next poll does not wait */
    bool destroying;     /* no events, nothing is armed again */
    uint32_t op_count;   /* operations in the kernel that will complete */
    uint32_t event_count;
    struct rb_event events[RB_EVENTS_MAX];
};

/* uring.c */
/* An entry whose completion is counted. */
struct io_uring_sqe *rb_uring_sqe(struct uring_transport *t, enum uring_op op, uint64_t what);
/* Asks the kernel to end the operation with that data; its own completion comes in any case. */
void rb_uring_cancel(struct uring_transport *t, enum uring_op op, uint64_t what);
/* A message to another ring of the group; only its failure completes here, with `failure_data`. */
void rb_uring_message(struct uring_transport *t, int ring_fd, uint64_t data, uint64_t failure_data);
static inline uint64_t uring_data(enum uring_op op, uint64_t what)
{
    return (uint64_t)op << URING_OP_SHIFT | what;
}
/* Room was kept: every completion adds at most one event. */
struct rb_event *rb_uring_event(struct uring_transport *t, enum rb_event_kind kind,
                                enum rb_err err);
struct rb_event *rb_uring_conn_event(struct uring_transport *t, struct uring_conn *conn,
                                     enum rb_event_kind kind, enum rb_err err);

/* bufring.c */
RB_MUST_CHECK enum rb_err rb_uring_bufs_init(struct uring_bufs *bufs, struct rb_ring *ring,
                                             uint32_t count);
void rb_uring_bufs_deinit(struct uring_bufs *bufs, struct rb_ring *ring);
/* The bytes of a completion with IORING_CQE_F_BUFFER; held until the next give_back. */
struct rb_slice rb_uring_bufs_take(struct uring_bufs *bufs, uint32_t cqe_flags, int32_t res);
/* Gives the held buffers to the kernel again; returns their number. */
uint32_t rb_uring_bufs_give_back(struct uring_bufs *bufs);

/* listen.c */
enum rb_err rb_uring_listen(struct rb_transport *base, const struct rb_listen_options *options,
                            uint32_t *ret_listener, struct rb_addr *ret_bound);
void rb_uring_unlisten(struct rb_transport *base, uint32_t listener);
void rb_uring_on_accept(struct uring_transport *t, uint32_t index, int32_t res, uint32_t flags);
void rb_uring_on_backoff(struct uring_transport *t, uint32_t index);
/* Makes a descriptor accepted by this or another member a connection of ours. */
void rb_uring_adopt(struct uring_transport *t, uint32_t listener, int fd);

/* conn.c */
enum rb_err rb_uring_connect(struct rb_transport *base, const struct rb_addr *addr,
                             struct rb_conn_id *ret_conn);
enum rb_err rb_uring_send(struct rb_transport *base, struct rb_conn_id id,
                          const struct rb_slice *slices, uint32_t slice_count);
enum rb_err rb_uring_close(struct rb_transport *base, struct rb_conn_id id);
void rb_uring_credit(struct rb_transport *base, struct rb_conn_id id, bool receive);
void rb_uring_set_user(struct rb_transport *base, struct rb_conn_id id, void *user);
/* NULL when a slot is refused; then `fd` is still the caller's. */
struct uring_conn *rb_uring_conn_open(struct uring_transport *t, int fd,
                                      enum uring_conn_state state);
/* Starts to receive on a new connection. */
void rb_uring_conn_start(struct uring_transport *t, struct uring_conn *conn);
void rb_uring_on_recv(struct uring_transport *t, uint64_t what, int32_t res, uint32_t flags);
void rb_uring_on_send(struct uring_transport *t, uint64_t what, int32_t res);
void rb_uring_on_connect(struct uring_transport *t, uint64_t what, int32_t res);
void rb_uring_on_linger(struct uring_transport *t);
/* Arms again at most `count` receives that ended for want of a buffer. */
void rb_uring_feed_starved(struct uring_transport *t, uint32_t count);
/* Delivers owed events while there is room. */
void rb_uring_deliver_due(struct uring_transport *t);
/* Tells the kernel to end everything of this connection; no events (destroy). */
void rb_uring_conn_abandon(struct uring_transport *t, struct uring_conn *conn);
