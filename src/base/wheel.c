/* wheel.c - the timer wheel.
 *
 * A tick number is cut into 6-bit digits. A timer due at tick `d` is kept by the highest digit in
 * which `d` differs from the wheel's tick `t`; the value of that digit in `d` is its slot.
 * Differences above the fifth digit go to `far`.
 *
 *      d:  ... 00 03 17 40 09        differs from t first in the digit of level 2: slot[2][17]
 *      t:  ... 00 03 16 62 58        level:   4  3  2  1  0
 *
 * 1. A timer in a level or in `far` has d > t, and shares with t every digit above its level. So
 *    its slot lies above t's digit there, no slot is ever passed or wraps, and everything in a
 *    level is due before anything in a higher level. The first occupied slot of the lowest occupied
 *    level is next.
 * 2. `t` moves only to the begin of that next slot, or to a tick before it: both keep invariant 1
 *    for all other timers. When it gets there, the slot is emptied: level 0 into `due`, higher ones
 *    downwards.
 * 3. A bit of `occupied` is set exactly when its slot holds timers.
 * 4. d is the due time rounded up to a tick and t the present rounded down: no timer is early.
 * 5. level and slot of a timer in `due` may be stale, but then level is 0 or RB_WHEEL_LEVELS.
 *    Everywhere else they are exact.
 */
#include "base/wheel.h"

#include "ringbus/check.h"

#define DIGIT_BITS 6
#define HORIZON_BITS (DIGIT_BITS * RB_WHEEL_LEVELS)

_Static_assert(RB_WHEEL_SLOTS == 1 << DIGIT_BITS, "a slot per value of a digit");

void rb_wheel_init(struct rb_wheel *wheel, uint64_t now_ns)
{
    for (uint32_t level = 0; level < RB_WHEEL_LEVELS; level++) {
        for (uint32_t slot = 0; slot < RB_WHEEL_SLOTS; slot++) {
            rb_list_init(&wheel->slot[level][slot]);
        }
        wheel->occupied[level] = 0;
    }
    rb_list_init(&wheel->due);
    rb_list_init(&wheel->far);
    wheel->tick = now_ns / RB_WHEEL_TICK_NS;
    wheel->now_ns = now_ns;
    wheel->count = 0;
}

void rb_timer_init(struct rb_timer *timer, uint32_t kind)
{
    *timer = (struct rb_timer){ .kind = kind, .level = RB_WHEEL_LEVELS };
    rb_list_init(&timer->link);
}

static uint64_t due_tick(uint64_t due_ns)
{
    return due_ns / RB_WHEEL_TICK_NS + (due_ns % RB_WHEEL_TICK_NS != 0);
}

/* Level of a timer due at `tick`, which lies after wheel->tick; RB_WHEEL_LEVELS: far. */
static uint32_t level_for(const struct rb_wheel *wheel, uint64_t tick)
{
    uint64_t differing = tick ^ wheel->tick;
    if (differing >> HORIZON_BITS != 0) {
        return RB_WHEEL_LEVELS;
    }
    return (63 - (uint32_t)__builtin_clzll(differing)) / DIGIT_BITS;
}

static uint32_t slot_for(uint64_t tick, uint32_t level)
{
    return (uint32_t)(tick >> DIGIT_BITS * level) % RB_WHEEL_SLOTS;
}

/* Links an unlinked timer into the slot that its due time asks for now. */
static void place_timer(struct rb_wheel *wheel, struct rb_timer *timer)
{
    uint64_t tick = due_tick(timer->due_ns);
    if (tick <= wheel->tick) {
        timer->level = RB_WHEEL_LEVELS;
        rb_list_append(&wheel->due, &timer->link);
        return;
    }
    uint32_t level = level_for(wheel, tick);
    timer->level = (uint8_t)level;
    if (level == RB_WHEEL_LEVELS) {
        rb_list_append(&wheel->far, &timer->link);
        return;
    }
    uint32_t slot = slot_for(tick, level);
    timer->slot = (uint8_t)slot;
    rb_list_append(&wheel->slot[level][slot], &timer->link);
    wheel->occupied[level] |= UINT64_C(1) << slot;
}

static void unlink_timer(struct rb_wheel *wheel, struct rb_timer *timer)
{
    rb_list_remove(&timer->link);
    if (timer->level < RB_WHEEL_LEVELS && rb_list_empty(&wheel->slot[timer->level][timer->slot])) {
        /* With a stale slot (invariant 5) the bit of an empty slot is clear already. */
        wheel->occupied[timer->level] &= ~(UINT64_C(1) << timer->slot);
    }
}

/* True when an armed timer is where `due_ns` would put it. Common for long timeouts that are pushed
 * on and on. Level 0 does not count: a timer that is due may still carry it (invariant 5). */
static bool stays_in_slot(const struct rb_wheel *wheel, const struct rb_timer *timer,
                          uint64_t due_ns)
{
    uint64_t tick = due_tick(due_ns);
    return timer->level > 0 && timer->level < RB_WHEEL_LEVELS &&
           timer->level == level_for(wheel, tick) && timer->slot == slot_for(tick, timer->level);
}

void rb_wheel_arm(struct rb_wheel *wheel, struct rb_timer *timer, uint64_t due_ns)
{
    bool past = due_ns <= wheel->now_ns;
    if (rb_timer_armed(timer)) {
        if (!past && stays_in_slot(wheel, timer, due_ns)) {
            timer->due_ns = due_ns;
            return;
        }
        unlink_timer(wheel, timer);
    } else {
        wheel->count++;
    }
    timer->due_ns = due_ns == 0 ? 1 : due_ns; /* 0 says "not armed" */
    if (past) {
        timer->level = RB_WHEEL_LEVELS;
        rb_list_append(&wheel->due, &timer->link);
        return;
    }
    place_timer(wheel, timer);
}

void rb_wheel_disarm(struct rb_wheel *wheel, struct rb_timer *timer)
{
    if (!rb_timer_armed(timer)) {
        return;
    }
    unlink_timer(wheel, timer);
    timer->due_ns = 0;
    wheel->count--;
}

/* The begin of the next occupied slot and its level; RB_WHEEL_LEVELS stands for `far`. False: none.
 * */
static bool find_next(const struct rb_wheel *wheel, uint64_t *ret_tick, uint32_t *ret_level)
{
    for (uint32_t level = 0; level < RB_WHEEL_LEVELS; level++) {
        uint64_t bits = wheel->occupied[level];
        if (bits != 0) {
            uint32_t shift = DIGIT_BITS * level;
            uint64_t above = wheel->tick >> (shift + DIGIT_BITS) << DIGIT_BITS;
            *ret_tick = (above | (uint64_t)__builtin_ctzll(bits)) << shift;
            *ret_level = level;
            return true;
        }
    }
    if (rb_list_empty(&wheel->far)) {
        return false;
    }
    *ret_tick = ((wheel->tick >> HORIZON_BITS) + 1) << HORIZON_BITS;
    *ret_level = RB_WHEEL_LEVELS;
    return true;
}

/* Empties the slot of `level` that begins at wheel->tick (invariant 2). */
static void empty_slot(struct rb_wheel *wheel, uint32_t level)
{
    struct rb_list moving;
    rb_list_init(&moving);
    if (level == RB_WHEEL_LEVELS) {
        rb_list_splice(&moving, &wheel->far);
    } else {
        uint32_t slot = slot_for(wheel->tick, level);
        wheel->occupied[level] &= ~(UINT64_C(1) << slot);
        rb_list_splice(level == 0 ? &wheel->due : &moving, &wheel->slot[level][slot]);
    }
    struct rb_list *link;
    while ((link = rb_list_pop(&moving)) != NULL) {
        place_timer(wheel, RB_CONTAINER(link, struct rb_timer, link));
    }
}

static void advance(struct rb_wheel *wheel, uint64_t target)
{
    uint64_t tick;
    uint32_t level;
    while (find_next(wheel, &tick, &level) && tick <= target) {
        rb_assert_slow(tick > wheel->tick);
        wheel->tick = tick;
        empty_slot(wheel, level);
    }
    wheel->tick = target;
}

struct rb_timer *rb_wheel_expire(struct rb_wheel *wheel, uint64_t now_ns)
{
    if (now_ns > wheel->now_ns) {
        wheel->now_ns = now_ns;
        uint64_t target = now_ns / RB_WHEEL_TICK_NS;
        if (target > wheel->tick) {
            advance(wheel, target);
        }
    }
    struct rb_list *link = rb_list_pop(&wheel->due);
    if (link == NULL) {
        return NULL;
    }
    struct rb_timer *timer = RB_CONTAINER(link, struct rb_timer, link);
    rb_assert(wheel->count > 0 && timer->due_ns <= wheel->now_ns); /* invariant 4 */
    timer->due_ns = 0;
    timer->level = RB_WHEEL_LEVELS;
    wheel->count--;
    return timer;
}

int64_t rb_wheel_wait_ns(const struct rb_wheel *wheel, uint64_t now_ns)
{
    uint64_t tick;
    uint32_t level;
    if (!rb_list_empty(&wheel->due)) {
        return 0;
    }
    if (!find_next(wheel, &tick, &level)) {
        return -1;
    }
    uint64_t at_ns = tick * RB_WHEEL_TICK_NS;
    return at_ns > now_ns ? (int64_t)(at_ns - now_ns) : 0;
}
