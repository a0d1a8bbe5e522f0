/* epoll.h - transport driver over epoll, for kernels and containers that refuse io_uring
 * (docs/transport.md). The same shape as uring.h. */
#pragma once

#include "ringbus/mem.h"
#include "ringbus/transport.h"

/** The transports of one node: who may hand connections to whom. One per node, shared by its
 *  shards' transports; all members join before the first listen. */
struct rb_epoll_group;
/** Errors: RB_ERR_MEMORY, RB_ERR_LIMIT (no descriptor left). */
RB_MUST_CHECK enum rb_err rb_epoll_group_create(uint32_t member_count,
                                                struct rb_epoll_group **ret_group);
/** After its members' transports. NULL is allowed. */
void rb_epoll_group_destroy(struct rb_epoll_group *group);
/**
 * Makes the poll() of member `index` return, now or the next time it is called; also when the
 * member does not exist yet. Any thread, any number at a time, a shard's own included. Never lost;
 * several before one poll() may count as one.
 */
void rb_epoll_group_wake(struct rb_epoll_group *group, uint32_t index);

struct rb_epoll_options {
    struct rb_epoll_group *group;
    uint32_t index;           /* in the group */
    struct rb_budget *budget; /* for connection slots */
    uint32_t recv_buffers;    /* room for RECEIVED in one poll(), in RB_RECV_BYTES; 0: default */
};

/**
 * On the shard's thread, as every later call, rb_transport_destroy() included. The group outlives
 * it. Errors: RB_ERR_MEMORY, RB_ERR_LIMIT (no descriptor left).
 */
RB_MUST_CHECK enum rb_err rb_epoll_transport_create(const struct rb_epoll_options *options,
                                                    struct rb_transport **ret_transport);
