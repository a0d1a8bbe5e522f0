/* transport.h - seam: byte streams for one shard. Completion-based, no callbacks, no descriptors.
 *
 * One struct rb_transport per shard, used by that shard's thread only (except rb_transport_wake).
 * The contract every driver keeps (tests/transport suite):
 *  1. After listen/connect/send/close returned RB_OK exactly one completion event follows
 *     (connect: CONNECTED or FAILED; send: SENT; close: CLOSED); after an error none does.
 *  2. Events of one connection come in order. After CLOSED its id is stale and no event names it.
 *  3. FAILED says the peer is gone or the stream broke; it comes at most once per connection, and the
 *     owner then calls close(). After FAILED or close() no more RECEIVED comes.
 *  4. Bytes of RECEIVED and the event array itself are borrowed until the next poll().
 *  5. Slices given to send() are lent until its SENT, which also comes (with an error) when the
 *     connection is closed first. At most one send per connection is in flight. SENT with RB_OK means
 *     that every byte was taken by the peer's kernel or ours.
 *  6. close() of an open connection: SENT of a send in flight comes before CLOSED.
 *  7. With receive credit withdrawn a bounded number of RECEIVED events already taken from the kernel
 *     may still come; then none until credit is given back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/slice.h"

/** Names a connection of one transport. Generation 0 is never given out. */
struct rb_conn_id {
    uint32_t slot, generation;
};

static inline bool rb_conn_id_equal(struct rb_conn_id a, struct rb_conn_id b)
{
    return a.slot == b.slot && a.generation == b.generation;
}

/** An IPv4 or IPv6 end point; `family` is 4, 6, or 0 for none (in-process, Unix, simulated). */
struct rb_addr {
    uint8_t family;
    uint8_t ip[16]; /* network order; IPv4 uses the first 4 */
    uint16_t port;  /* host order */
    uint32_t scope; /* IPv6 zone index */
};

#define RB_ADDR_TEXT_MAX 64
/** "1.2.3.4:5", "[::1]:5", or "pipe:5" for family 0 ("pipe" when the port is 0); returns `out`. */
const char *rb_addr_format(const struct rb_addr *addr, char out[RB_ADDR_TEXT_MAX]);
/** "1.2.3.4", "::1" or "pipe", without the port. */
const char *rb_addr_format_ip(const struct rb_addr *addr, char out[RB_ADDR_TEXT_MAX]);
/** Parses a literal IP or a host name ("localhost", resolved once, blocking: start-up only). Empty: "0.0.0.0". */
RB_MUST_CHECK enum rb_err rb_addr_parse(const char *host, uint16_t port, struct rb_addr *ret_addr);

enum rb_event_kind {
    RB_EVENT_ACCEPTED,  /* conn, peer, local, listener */
    RB_EVENT_CONNECTED, /* conn, peer, local */
    RB_EVENT_RECEIVED,  /* conn, bytes */
    RB_EVENT_SENT,      /* conn, err */
    RB_EVENT_FAILED, /* conn, err: RB_OK when the peer ended its side in order (sends still work), */
                     /* RB_ERR_RESET and others when the connection is broken */
    RB_EVENT_CLOSED,        /* conn */
    RB_EVENT_ACCEPT_FAILED, /* listener, err: RB_ERR_LIMIT when descriptors are used up */
};

struct rb_event {
    enum rb_event_kind kind;
    enum rb_err err;
    struct rb_conn_id conn;
    void *user; /* what rb_transport_set_user() last gave, NULL before */
    uint32_t listener;
    struct rb_slice bytes;
    struct rb_addr peer, local;
};

/** `listener` of a connection opened inside this process (transport/pipe/pipe.h). */
#define RB_LISTENER_IN_PROCESS UINT32_MAX

struct rb_listen_options {
    struct rb_addr addr; /* port 0: any */
    uint32_t backlog;
    bool spread; /* hand accepted connections round-robin to all transports of the group */
    /**
     * NULL: the address. Else the Unix-domain socket to listen at, and `addr` is not looked at.
     * A stale socket file is replaced, the new one has mode 0660 and is removed by unlisten and
     * destroy. `bound`, `peer` and `local` are of family 0 then. Borrowed during the call.
     */
    const char *unix_path;
};

struct rb_transport;
struct rb_transport_ops {
    const char *name;
    enum rb_err (*listen)(struct rb_transport *t, const struct rb_listen_options *options,
                          uint32_t *ret_listener, struct rb_addr *ret_bound);
    void (*unlisten)(struct rb_transport *t, uint32_t listener);
    enum rb_err (*connect)(struct rb_transport *t, const struct rb_addr *addr,
                           struct rb_conn_id *ret_conn);
    enum rb_err (*send)(struct rb_transport *t, struct rb_conn_id conn,
                        const struct rb_slice *slices, uint32_t slice_count);
    enum rb_err (*close)(struct rb_transport *t, struct rb_conn_id conn);
    void (*credit)(struct rb_transport *t, struct rb_conn_id conn, bool receive);
    void (*set_user)(struct rb_transport *t, struct rb_conn_id conn, void *user);
    uint32_t (*poll)(struct rb_transport *t, int64_t timeout_ns, struct rb_event **ret_events);
    void (*wake)(struct rb_transport *t, uint32_t peer_index);
    void (*destroy)(struct rb_transport *t);
};
/** Drivers embed this first in their own struct. */
struct rb_transport {
    const struct rb_transport_ops *ops;
};

/**
 * Binds and starts accepting. Errors: RB_ERR_IN_USE, RB_ERR_ADDRESS, RB_ERR_LIMIT, RB_ERR_IO,
 * RB_ERR_MEMORY, RB_ERR_UNSUPPORTED (a Unix-domain path, where the driver has none).
 * With `spread`, ACCEPTED comes out of the poll() of one transport of the group in turn.
 */
RB_MUST_CHECK static inline enum rb_err rb_transport_listen(struct rb_transport *t,
                                                            const struct rb_listen_options *options,
                                                            uint32_t *ret_listener,
                                                            struct rb_addr *ret_bound)
{
    return t->ops->listen(t, options, ret_listener, ret_bound);
}

/** Stops accepting and releases the address; connections stay. */
static inline void rb_transport_unlisten(struct rb_transport *t, uint32_t listener)
{
    t->ops->unlisten(t, listener);
}

RB_MUST_CHECK static inline enum rb_err rb_transport_connect(struct rb_transport *t,
                                                             const struct rb_addr *addr,
                                                             struct rb_conn_id *ret_conn)
{
    return t->ops->connect(t, addr, ret_conn);
}

/**
 * Queues one gathered send; it leaves with the next poll(). `slice_count` is 1..RB_SEND_SLICES_MAX.
 * The slice array is copied; the bytes are lent until SENT.
 * Errors: RB_ERR_BUSY (one is in flight), RB_ERR_STALE, RB_ERR_RESET (already failed), RB_ERR_FULL.
 */
RB_MUST_CHECK static inline enum rb_err rb_transport_send(struct rb_transport *t,
                                                          struct rb_conn_id conn,
                                                          const struct rb_slice *slices,
                                                          uint32_t slice_count)
{
    return t->ops->send(t, conn, slices, slice_count);
}

/** Ends the connection now; unsent bytes of a send in flight may be lost. Errors: RB_ERR_STALE. */
static inline enum rb_err rb_transport_close(struct rb_transport *t, struct rb_conn_id conn)
{
    return t->ops->close(t, conn);
}

/** Withdraws (false) or gives back (true) receive credit. New connections have it. */
static inline void rb_transport_credit(struct rb_transport *t, struct rb_conn_id conn, bool receive)
{
    t->ops->credit(t, conn, receive);
}

/** What later events of `conn` carry in `user`. */
static inline void rb_transport_set_user(struct rb_transport *t, struct rb_conn_id conn, void *user)
{
    t->ops->set_user(t, conn, user);
}

/**
 * Submits what was queued, waits up to `timeout_ns` (0: do not wait, -1: no limit) for an event or a
 * wake, and gives at most RB_EVENTS_MAX events.
 */
static inline uint32_t rb_transport_poll(struct rb_transport *t, int64_t timeout_ns,
                                         struct rb_event **ret_events)
{
    return t->ops->poll(t, timeout_ns, ret_events);
}

/** Makes the poll() of transport `peer_index` of the same group return. Called on t's own thread. */
static inline void rb_transport_wake(struct rb_transport *t, uint32_t peer_index)
{
    t->ops->wake(t, peer_index);
}

/** Closes everything without events and frees the transport. */
static inline void rb_transport_destroy(struct rb_transport *t)
{
    t->ops->destroy(t);
}
