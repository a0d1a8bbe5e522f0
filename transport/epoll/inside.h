/* inside.h - what the files of the epoll driver share; nobody else includes it. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#include "base/list.h"
#include "transport/epoll/epoll.h"
#include "transport/outgoing.h"
#include "transport/slot.h"
#include "transport/socket.h"

#define EPOLL_LISTENERS_MAX 8
#define EPOLL_RECV_BUFFERS_DEFAULT 32
#define EPOLL_HANDED_MAX 256 /* connections on their way to a member */
#define EPOLL_NS_PER_MS 1000000L

/* data of a readiness: what it belongs to << 56 | which one. */
enum epoll_tag {
    EPOLL_TAG_CONN,     /* generation << 28 | slot */
    EPOLL_TAG_LISTENER, /* index */
    EPOLL_TAG_WAKE,     /* our eventfd: a wake, or connections handed over */
};
#define EPOLL_TAG_SHIFT 56

/* Events that wait for room (struct epoll_conn.due), in the order they are delivered. */
enum {
    EPOLL_DUE_CONNECTED = 1,
    EPOLL_DUE_CONNECT_FAILED = 2, /* FAILED, as the completion of connect() */
    EPOLL_DUE_SENT = 4,
    EPOLL_DUE_FAILED = 8,
    EPOLL_DUE_CLOSED = 16,
};

enum epoll_conn_state {
    EPOLL_CONN_CONNECTING,
    EPOLL_CONN_OPEN,
    EPOLL_CONN_LINGERING, /* closed by the owner; what was sent still has to arrive */
    EPOLL_CONN_ENDED,     /* no descriptor; waits for CLOSED to be delivered */
};

struct epoll_conn {
    struct rb_slot slot;
    struct rb_list due_link;    /* in transport.due while due != 0 */
    struct rb_list active_link; /* in transport.active: may be able to read or write */
    struct rb_list linger_link;
    int fd;
    uint8_t state, due, due_err, sent_err;
    bool receive;   /* the owner gives credit, or we drain */
    bool readable;  /* the kernel may have bytes, an end or an error for us */
    bool writable;  /* the kernel may have room */
    bool sending;   /* SENT was not delivered yet */
    bool left;      /* bytes of the send wait for room in the kernel */
    bool hung_up;   /* the peer's end is behind the bytes: a short read is not the last one */
    bool fresh;     /* CONNECTED is in this batch: RECEIVED waits for the owner's set_user() */
    bool failed;    /* FAILED is due or delivered: no RECEIVED any more */
    bool peer_done; /* the peer ended its side in order: sends still work */
    uint32_t drained_bytes;
    struct rb_outgoing out;
};
_Static_assert(sizeof(struct epoll_conn) <= 256, "idle connections are small");

struct epoll_listener {
    struct rb_listen_socket socket;
    bool used, spread;
    uint32_t next_member;
    uint32_t pause_ms;
    uint64_t pause_until_ns; /* 0: accepting */
};

struct epoll_handed {
    uint32_t listener;
    int fd;
};

struct epoll_member {
    int wake_fd; /* an eventfd */
    _Atomic bool rung;
    pthread_mutex_t lock; /* for what follows; held for a few instructions */
    bool present;
    uint32_t handed_count;
    struct epoll_handed handed[EPOLL_HANDED_MAX];
};

struct rb_epoll_group {
    uint32_t member_count;
    struct epoll_member members[];
};

struct epoll_transport {
    struct rb_transport base;
    struct rb_epoll_group *group;
    struct epoll_member *self;
    uint32_t index;
    int epoll_fd;
    bool no_pwait2; /* the kernel, or a seccomp profile, knows only milliseconds */
    struct rb_slots slots;
    struct rb_gather_pools gathers;
    struct epoll_listener listeners[EPOLL_LISTENERS_MAX];
    struct rb_list due, active;
    struct rb_list linger_new, linger_old;
    uint64_t linger_ns; /* the next linger tick; 0: none */
    bool woken;         /* by ourselves: the next poll does not wait */
    bool handed;        /* connections may wait in our member */
    uint8_t *recv;      /* mapped; the bytes of one poll() */
    size_t recv_cap, recv_len;
    uint32_t event_count;
    struct rb_event events[RB_EVENTS_MAX];
    struct epoll_event ready[RB_EVENTS_MAX];
};

/* epoll.c */
static inline uint32_t epoll_room(const struct epoll_transport *t)
{
    return RB_EVENTS_MAX - t->event_count;
}
uint64_t rb_epoll_now_ns(void);
/* Room was looked for. */
struct rb_event *rb_epoll_event(struct epoll_transport *t, enum rb_event_kind kind,
                                enum rb_err err);
struct rb_event *rb_epoll_conn_event(struct epoll_transport *t, struct epoll_conn *conn,
                                     enum rb_event_kind kind, enum rb_err err);
/* Reports `fd` with `tag` and `what`; false (errno) when the kernel refuses. */
bool rb_epoll_watch(struct epoll_transport *t, int fd, uint32_t events, enum epoll_tag tag,
                    uint64_t what);
void rb_epoll_ring(struct epoll_member *member);

/* listen.c */
enum rb_err rb_epoll_listen(struct rb_transport *base, const struct rb_listen_options *options,
                            uint32_t *ret_listener, struct rb_addr *ret_bound);
void rb_epoll_unlisten(struct rb_transport *base, uint32_t listener);
void rb_epoll_accept_ready(struct epoll_transport *t, uint32_t index);
/* Takes what other members handed over, as far as there is room. */
void rb_epoll_take_handed(struct epoll_transport *t);
/* When a pause ends; 0: no listener pauses. */
uint64_t rb_epoll_pause_end(const struct epoll_transport *t);
void rb_epoll_end_pauses(struct epoll_transport *t, uint64_t now_ns);

/* conn.c */
enum rb_err rb_epoll_connect(struct rb_transport *base, const struct rb_addr *addr,
                             struct rb_conn_id *ret_conn);
enum rb_err rb_epoll_send(struct rb_transport *base, struct rb_conn_id id,
                          const struct rb_slice *slices, uint32_t slice_count);
enum rb_err rb_epoll_close(struct rb_transport *base, struct rb_conn_id id);
void rb_epoll_credit(struct rb_transport *base, struct rb_conn_id id, bool receive);
void rb_epoll_set_user(struct rb_transport *base, struct rb_conn_id id, void *user);
/* Takes `fd` (watched from now on), or leaves it and returns NULL when memory is refused. */
struct epoll_conn *rb_epoll_conn_open(struct epoll_transport *t, int fd,
                                      enum epoll_conn_state state);
void rb_epoll_conn_ready(struct epoll_transport *t, uint64_t what, uint32_t events);
/* Reads and writes what the kernel lets us, while there is room. */
void rb_epoll_run_active(struct epoll_transport *t);
void rb_epoll_deliver_due(struct epoll_transport *t);
void rb_epoll_linger_tick(struct epoll_transport *t, uint64_t now_ns);
/* No events any more (destroy). */
void rb_epoll_conn_drop(struct epoll_transport *t, struct epoll_conn *conn);
