/* wheel.h - hierarchical timer wheel: 1 ms ticks, 4 levels of 64 slots... coarse timers stay put until due. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

#define RB_WHEEL_LEVELS 5
#define RB_WHEEL_SLOTS 64

/** Embedded in its owner. `due_ns` is 0 while it is not armed. */
struct rb_timer {
    struct rb_list link;
    uint64_t due_ns;
    uint32_t kind; /* the owner's to use */
};

struct rb_wheel {
    struct rb_list slot[RB_WHEEL_LEVELS][RB_WHEEL_SLOTS];
    uint64_t occupied[RB_WHEEL_LEVELS]; /* a bit per slot that may hold timers */
    struct rb_list due;
    uint64_t tick;    /* ticks that have been expired */
    uint64_t tick_ns; /* length of a tick */
    uint32_t count;   /* armed timers */
};

void rb_wheel_init(struct rb_wheel *wheel, uint64_t now_ns);
void rb_timer_init(struct rb_timer *timer, uint32_t kind);
/** Arms or re-arms. A due time in the past fires at the next expiry. Never fires early. */
void rb_wheel_arm(struct rb_wheel *wheel, struct rb_timer *timer, uint64_t due_ns);
/** Harmless when not armed. */
void rb_wheel_disarm(struct rb_wheel *wheel, struct rb_timer *timer);
/** Moves time forward, then gives the due timers one by one (disarmed); NULL when none is left. */
struct rb_timer *rb_wheel_expire(struct rb_wheel *wheel, uint64_t now_ns);
/** Nanoseconds until rb_wheel_expire may have work: never later than the earliest due time plus one
 * tick; may be earlier (a cascade). -1 when nothing is armed. */
int64_t rb_wheel_wait_ns(const struct rb_wheel *wheel, uint64_t now_ns);
static inline bool rb_timer_armed(const struct rb_timer *timer)
{
    return timer->due_ns != 0;
}
