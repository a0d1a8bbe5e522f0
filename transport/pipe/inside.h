/* inside.h - what both sides of the pipes share; nobody else includes it.
 *
 * 1. Each ring has one writing and one reading thread at a time. Positions run freely through 32
 *    bits; `tail - head` bytes are inside. Bytes are written before `tail` is stored, and read
 *    before `head` is.
 * 2. To the shard: the program puts the pipe into the list of those to look at (`queued` says that
 *    it is there) and rings. The shard takes the whole list, clears `queued` of each and then
 *    looks, so it sees what was done before.
 * 3. To the program: the shard changes something, counts `changed` up and wakes who waits for
 *    another value of it.
 * 4. A pipe is counted by the program's end (until rb_pipe_close) and by the shard (until CLOSED).
 *    The shard's count is dropped where the pipe can no longer be in the list: `queued` stays set
 *    then, and nobody puts it there again.
 * 5. The pipes themselves are counted by their creator and by each program's end. Whoever is last
 *    drops the counts of what a program queued after the shard's end.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "ringbus/bounds.h"
#include "transport/pipe/pipe.h"
#include "transport/slot.h"

/* struct rb_pipe.flags */
enum {
    PIPE_PROGRAM_ENDED = 1,    /* writes no more */
    PIPE_PROGRAM_GONE = 2,     /* and does not read either */
    PIPE_PROGRAM_CANCELED = 4, /* rb_pipe_shutdown */
    PIPE_SHARD_ENDED = 8,      /* what is in the ring is the last */
    PIPE_SHARD_BROKEN = 16,    /* and it is not all that was to come */
};

struct pipe_ring {
    _Alignas(64) _Atomic uint32_t head; /* written by the reader */
    _Alignas(64) _Atomic uint32_t tail; /* written by the writer */
    uint8_t *bytes;
};

struct pipe_conn;

struct rb_pipe {
    struct pipe_ring in, out; /* as the shard sees them */
    _Alignas(64) struct rb_pipes *pipes;
    uint32_t ring_bytes;
    _Atomic uint32_t flags;
    _Atomic uint32_t count; /* invariant 4 */
    _Atomic bool queued;
    struct rb_pipe *next_queued;
    _Atomic bool shard_wants_room; /* a send waits for room in `out` */
    _Atomic bool write_wanted;     /* a write timed out: its room makes `fd` readable */
    _Atomic uint32_t changed, waiting;
    _Atomic int fd; /* -1: nobody asked for it */
    _Atomic bool fd_set;
    struct pipe_conn *conn; /* the shard's; NULL before it accepts and after CLOSED */
    bool shard_done;        /* the shard's: it has been closed, or refused */
};

struct pipe_conn {
    struct rb_slot slot;
    struct rb_list active_link;
    struct rb_list borrowed_link;
    struct rb_pipe *pipe;
    bool accepted; /* ACCEPTED was delivered */
    bool receive;  /* the owner gives credit */
    bool sending;  /* SENT was not delivered yet */
    bool left;     /* bytes of the send wait for room */
    bool failed;   /* FAILED was delivered */
    bool broken;   /* sends make no sense any more */
    bool closing;  /* the owner closed it; CLOSED follows SENT */
    uint8_t sent_err;
    uint32_t borrowed_bytes; /* of `in`, in RECEIVED events of the last batch */
    uint32_t slice_index, slice_count;
    struct rb_slice slices[RB_SEND_SLICES_MAX]; /* [slice_index] moves forward */
};

struct rb_pipes {
    struct rb_transport base; /* first */
    struct rb_budget *budget;
    uint32_t ring_bytes, pipe_count_max;
    void (*wake)(void *ctx);
    void *wake_ctx;
    struct rb_doorbell bell;
    _Atomic uint32_t count; /* invariant 5 */
    _Atomic uint32_t pipe_count;
    _Atomic(struct rb_pipe *) queue; /* last in, first out; taken whole */
    pthread_mutex_t lock;            /* for `alive`, around connect and wake */
    bool alive;
    /* The shard's. */
    struct rb_slots slots;
    struct rb_list active, borrowed;
    uint32_t event_count, event_max;
    struct rb_event events[RB_EVENTS_MAX];
};

static inline size_t pipe_bytes(uint32_t ring_bytes)
{
    return sizeof(struct rb_pipe) + 2 * (size_t)ring_bytes;
}

/* ring.c */
uint32_t rb_pipe_ring_used(const struct pipe_ring *ring);
/* Copies at most `len` bytes in, as many as there is room for; returns their number. */
uint32_t rb_pipe_ring_put(struct pipe_ring *ring, uint32_t ring_bytes, const uint8_t *bytes,
                          size_t len);
/* The bytes `skip` behind the first one that lie behind each other; at most `max`. */
struct rb_slice rb_pipe_ring_peek(const struct pipe_ring *ring, uint32_t ring_bytes, uint32_t skip,
                                  uint32_t max);
/* Gives the first `len` bytes' room back. */
void rb_pipe_ring_drop(struct pipe_ring *ring, uint32_t len);

/* pipe.c */
void rb_pipe_notify_shard(struct rb_pipe *pipe);
void rb_pipe_notify_program(struct rb_pipe *pipe);
void rb_pipe_unref(struct rb_pipe *pipe);
void rb_pipes_unref(struct rb_pipes *pipes);
/* All that is queued, oldest first. */
struct rb_pipe *rb_pipes_take_queue(struct rb_pipes *pipes);
/* The shard drops its count of a pipe that has no connection any more. */
void rb_pipe_forget(struct rb_pipe *pipe);

/* shard.c */
extern const struct rb_transport_ops rb_pipe_ops;
uint32_t rb_pipes_poll_some(struct rb_transport *base, uint32_t max, struct rb_event **ret_events);
