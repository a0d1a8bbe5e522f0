/* mux.h - one transport over several: the base driver, in-process pipes, a second network.
 *
 * How a poll() goes, and why no wake-up is lost:
 *  1. Before the base may block, each other member's doorbell is put to SLEEPING (doorbell.h),
 *     which fails when work waits; then the base does not block. Work that comes later finds
 *     SLEEPING, and who brings it wakes the base from its thread (rb_uring_group_wake,
 *     rb_epoll_group_wake), which ends the base's wait, also when it has not begun yet.
 *  2. After the base the members that rang are polled without waiting, in the same batch.
 *  3. A member without a doorbell is polled each time, and the base never blocks for longer than
 *     `poll_ns` of that member: for a second network beside a poll-mode driver, which does not
 *     sleep anyway.
 * With nothing to do a member costs one atomic load before and one after the base's poll.
 *
 * Connections are told apart by the highest 4 bits of their slot number; the base's are 0, so its
 * ids, listeners and event arrays pass through untouched.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/transport.h"
#include "transport/mux/doorbell.h"

#define RB_MUX_MEMBERS_MAX 16

struct rb_mux_member {
    struct rb_transport *t;
    struct rb_doorbell *bell; /* NULL: poll it each time */
    int64_t poll_ns;          /* without a bell: how long the base may block; -1: no limit */
    /** Listens at Unix-domain paths and on, and connects to, loopback addresses (127.0.0.0/8, ::1)
     *  instead of the base. The first such member is used. */
    bool local;
    /** Polls t without waiting, for at most `max` events. NULL: t's poll() is used, in batches that
     *  the member has for itself. */
    uint32_t (*poll_some)(struct rb_transport *t, uint32_t max, struct rb_event **ret_events);
};

struct rb_mux_options {
    const struct rb_mux_member *members; /* [0] is the base: only its `t` counts */
    uint32_t member_count;               /* 1 .. RB_MUX_MEMBERS_MAX */
};

/**
 * Takes the members' transports: they are destroyed with the mux, the base last.
 * On the shard's thread, as every later call. Errors: RB_ERR_MEMORY (then nothing was taken).
 */
RB_MUST_CHECK enum rb_err rb_mux_create(const struct rb_mux_options *options,
                                        struct rb_transport **ret_transport);
