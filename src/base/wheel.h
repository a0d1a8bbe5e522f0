/* wheel.h - hierarchical timer wheel: 1 ms ticks, 5 levels of 64 slots (12 days), later timers wait
 * apart. Arming and disarming are a few stores; a timer moves down at most once per level. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

#define RB_WHEEL_LEVELS 5
#define RB_WHEEL_SLOTS 64
#define RB_WHEEL_TICK_NS 1000000u

/** Embedded in its owner. `due_ns` is 0 while it is not armed. */
struct rb_timer {
    struct rb_list link;
    uint64_t due_ns;
    uint32_t kind;       /* the owner's to use */
    uint8_t level, slot; /* where it was put last; level RB_WHEEL_LEVELS: `due` or `far` */
};

struct rb_wheel {
    struct rb_list slot[RB_WHEEL_LEVELS][RB_WHEEL_SLOTS];
    uint64_t occupied[RB_WHEEL_LEVELS]; /* a bit per slot that holds timers */
    struct rb_list due;                 /* to be given by rb_wheel_expire */
    struct rb_list far;                 /* beyond the horizon of the levels */
    uint64_t tick;                      /* ticks that have been expired */
    uint64_t now_ns;                    /* the latest time given */
    uint32_t count;                     /* armed timers */
};

void rb_wheel_init(struct rb_wheel *wheel, uint64_t now_ns);
void rb_timer_init(struct rb_timer *timer, uint32_t kind);
/**
 * Arms or re-arms. A due time that is not after the latest time given to the wheel fires at the
 * next call of rb_wheel_expire (so a handler that re-arms for "now" inside the loop is called again
 * by that loop). Never fires early, and less than a tick late.
 */
void rb_wheel_arm(struct rb_wheel *wheel, struct rb_timer *timer, uint64_t due_ns);
/** Harmless when not armed. */
void rb_wheel_disarm(struct rb_wheel *wheel, struct rb_timer *timer);
/**
 * Moves time forward, then gives the due timers one by one (disarmed); NULL when none is left.
 * Earlier ticks come first, within a tick in no particular order. A time before the latest one
 * moves nothing.
 */
struct rb_timer *rb_wheel_expire(struct rb_wheel *wheel, uint64_t now_ns);
/** Nanoseconds until rb_wheel_expire may have work: never later than the earliest due time plus one
 * tick; may be earlier (a cascade). -1 when nothing is armed. */
int64_t rb_wheel_wait_ns(const struct rb_wheel *wheel, uint64_t now_ns);
static inline bool rb_timer_armed(const struct rb_timer *timer)
{
    return timer->due_ns != 0;
}
