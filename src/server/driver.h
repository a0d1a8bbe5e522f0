/* driver.h - which transport carries a node: io_uring, epoll where that is refused, in-process pipes beside either.
 *
 * The one file besides node.c that names drivers, and the only one in this folder that knows of rings.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/log.h"
#include "ringbus/mem.h"
#include "ringbus/transport.h"

struct rb_driver; /* of one node */
struct rb_disk;
struct rb_pipe; /* transport/pipe/pipe.h */

#define RB_DRIVER_WHY_MAX 128

struct rb_driver_options {
    uint32_t shard_count;
    const char *transport; /* "uring" (falls back to epoll, with a WRN line) or "epoll" */
    bool pipes; /* rb_driver_connect will be used; without it shards pay nothing for it */
    struct rb_log *log;
};

/** Errors: RB_ERR_MEMORY, RB_ERR_LIMIT (no descriptor left), RB_ERR_UNSUPPORTED (no such transport). */
RB_MUST_CHECK enum rb_err rb_driver_create(const struct rb_driver_options *options,
                                           struct rb_driver **ret_driver,
                                           char why[RB_DRIVER_WHY_MAX]);
/** After every shard closed its own, and no rb_driver_connect runs or follows. NULL is allowed. */
void rb_driver_destroy(struct rb_driver *driver);
/** "uring" or "epoll". */
const char *rb_driver_name(const struct rb_driver *driver);
/** Makes the poll() of a shard return, now or the next time. Any thread. */
void rb_driver_wake(struct rb_driver *driver, uint32_t shard);
/** A shard's transport, made on its thread. */
RB_MUST_CHECK enum rb_err rb_driver_open(struct rb_driver *driver, uint32_t shard,
                                         struct rb_budget *budget,
                                         struct rb_transport **ret_transport,
                                         char why[RB_DRIVER_WHY_MAX]);
/**
 * A disk for a directory (made when missing, its parent must exist), on the shard's ring where that works; on its thread, after
 * rb_driver_open. `why` says why it is not, or what is wrong. It is destroyed by rb_driver_close; nothing of its owner's is in
 * flight then.
 */
RB_MUST_CHECK enum rb_err rb_driver_open_disk(struct rb_driver *driver, uint32_t shard,
                                              const char *path, struct rb_disk **ret_disk,
                                              char why[RB_DRIVER_WHY_MAX]);
/** The reverse, on the same thread; also when opening failed. */
void rb_driver_close(struct rb_driver *driver, uint32_t shard);
/**
 * A connection inside the process, to each shard in turn. Any thread, after every shard opened and before one closes.
 * Errors: RB_ERR_UNSUPPORTED (`pipes` was not set), RB_ERR_FULL, RB_ERR_RESET, RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_driver_connect(struct rb_driver *driver, struct rb_pipe **ret_pipe);
