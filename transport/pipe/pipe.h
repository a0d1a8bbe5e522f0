/* pipe.h - connections inside the process that never touch a socket.
 *
 *   program's threads:  rb_pipe_connect, rb_pipe_write, rb_pipe_read ...
 *                           |   two bounded rings of bytes per pipe  ^
 *                           v                                        |
 *   shard:              a transport: ACCEPTED (RB_LISTENER_IN_PROCESS, family 0), RECEIVED, send ...
 *
 * The shard's side never blocks and never waits for a lock. It is made to be a member of a mux
 * (transport/mux/mux.h); its own poll() does not wait, whatever the timeout.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ringbus/mem.h"
#include "ringbus/transport.h"
#include "transport/mux/mux.h"

#define RB_PIPE_RING_BYTES_DEFAULT 65536
#define RB_PIPE_COUNT_MAX_DEFAULT 1024

struct rb_pipes; /* of one shard */
struct rb_pipe;  /* the program's end of a connection */

struct rb_pipes_options {
    struct rb_budget *budget; /* the shard's; may be NULL */
    uint32_t ring_bytes;      /* each way; a power of two from 4096 on; 0: 64 KiB */
    uint32_t pipe_count_max;  /* open at a time; 0: 1024 */
    /** Makes the poll() around this transport return (rb_uring_group_wake, rb_epoll_group_wake).
     *  Called from the program's threads, with a lock held: it must not call into the pipes. Not
     *  called any more once the transport is destroyed. */
    void (*wake)(void *ctx);
    void *wake_ctx;
};

/** Errors: RB_ERR_INVALID (ring_bytes), RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_pipes_create(const struct rb_pipes_options *options,
                                          struct rb_pipes **ret_pipes);
/**
 * After the transport was destroyed and when no rb_pipe_connect() runs or follows. Pipes that are
 * still open stay valid until rb_pipe_close().
 */
void rb_pipes_release(struct rb_pipes *pipes);
/** What a mux takes. Its transport is used and destroyed on the shard's thread. */
struct rb_mux_member rb_pipes_member(struct rb_pipes *pipes);

/**
 * Opens a connection to the shard. It may be written to at once; the shard accepts it when it
 * looks (or, out of memory, breaks it). Any thread.
 * Errors: RB_ERR_FULL (pipe_count_max are open), RB_ERR_RESET (the shard has ended), RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_pipe_connect(struct rb_pipes *pipes, struct rb_pipe **ret_pipe);

/* One thread may write and one may read a pipe at the same time. `timeout_ns`: 0 does not wait, -1
 * has no limit. */

/**
 * Writes all of `bytes`, waiting for room. `ret_len` (may be NULL) is set in any case: how much was
 * taken. Errors: RB_ERR_TIMEOUT, RB_ERR_RESET (the server closed), RB_ERR_CANCELED (rb_pipe_end or
 * rb_pipe_shutdown was called).
 */
RB_MUST_CHECK enum rb_err rb_pipe_write(struct rb_pipe *pipe, const void *bytes, size_t len,
                                        int64_t timeout_ns, size_t *ret_len);
/**
 * Reads what is there, at least one byte and at most `cap` (> 0). RB_OK with 0 bytes: the server
 * ended the connection in order. Errors: RB_ERR_TIMEOUT, RB_ERR_RESET (a send of the server's was
 * cut, or the server is gone), RB_ERR_CANCELED (rb_pipe_shutdown was called).
 */
RB_MUST_CHECK enum rb_err rb_pipe_read(struct rb_pipe *pipe, void *buf, size_t cap,
                                       int64_t timeout_ns, size_t *ret_len);
/**
 * A descriptor that poll(2) finds readable when a read has something to give or an end to tell, or
 * a write that came back with RB_ERR_TIMEOUT can go on. Reads and writes that come back with
 * RB_ERR_TIMEOUT make it unreadable again; the program only polls it. It belongs to the pipe.
 * -1: no descriptor left.
 */
int rb_pipe_fd(struct rb_pipe *pipe);
/** Ends the program's side in order: the server sees what was written, then the end. Reads go on.
 *  Any thread. */
void rb_pipe_end(struct rb_pipe *pipe);
/** rb_pipe_end(), and reads and writes that run or follow give RB_ERR_CANCELED. Any thread. */
void rb_pipe_shutdown(struct rb_pipe *pipe);
/** Ends in order, and frees the pipe: no other call on it may run or follow. What was written
 *  still arrives. */
void rb_pipe_close(struct rb_pipe *pipe);
