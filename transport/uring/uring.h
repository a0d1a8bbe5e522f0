/* uring.h - transport driver over io_uring (docs/transport.md). */
#pragma once

#include "ringbus/env.h"
#include "ringbus/log.h"
#include "ringbus/mem.h"
#include "ringbus/ring.h"
#include "ringbus/transport.h"

/** The kind of its completions, the same in every ring of a group; other drivers choose others. */
#define RB_URING_KIND 0

/** The transports of one node: who may hand connections to whom. One per node, shared by its
 *  shards' transports; all members join before the first listen. */
struct rb_uring_group;
/** Errors: RB_ERR_MEMORY, RB_ERR_LIMIT (no descriptor left). */
RB_MUST_CHECK enum rb_err rb_uring_group_create(uint32_t member_count,
                                                struct rb_uring_group **ret_group);
/** After its members' transports. NULL is allowed. */
void rb_uring_group_destroy(struct rb_uring_group *group);
/**
 * Makes the poll() of member `index` return, now or the next time it is called; also when the
 * member does not exist yet. Any thread, any number at a time, a shard's own included. Never lost;
 * several before one poll() may count as one.
 */
void rb_uring_group_wake(struct rb_uring_group *group, uint32_t index);

struct rb_uring_options {
    struct rb_ring *ring; /* the shard's; lives longer than the transport */
    struct rb_uring_group *group;
    uint32_t index;           /* in the group */
    struct rb_budget *budget; /* for connection slots */
    uint32_t recv_buffers;    /* provided buffers of RB_RECV_BYTES; a power of two; 0: default */
};

/**
 * On the shard's thread, as every later call, rb_transport_destroy() included. The group and the
 * ring outlive it.
 * Errors: RB_ERR_UNSUPPORTED (no multishot receive, buffer rings or MSG_RING in this kernel),
 * RB_ERR_INVALID (recv_buffers), RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_uring_transport_create(const struct rb_uring_options *options,
                                                    struct rb_transport **ret_transport);
