/* doorbell.h - one word that says whether a shard has to look at something, and whether it sleeps.
 *
 *            ring (any thread)                     ring: true, wake the shard
 *   IDLE ------------------------> WORK <--------------------------------- SLEEPING
 *    |  <---answer (the shard)-----'                                          ^
 *    `--------------------------sleep (the shard)-----------------------------'
 *
 * 1. Who has work puts it where it belongs and rings; the shard answers and then looks. All three
 *    are sequentially consistent exchanges, so the shard sees all work whose ring came before.
 * 2. A shard goes to sleep only from IDLE, and who rings at SLEEPING wakes it. The wake ends the
 *    next wait even if it comes before that has begun, so nothing is lost between the two.
 * 3. SLEEPING stays when the shard wakes for other reasons: looking at an empty bell is one load.
 *    At worst that costs a wake that was not needed.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { RB_BELL_IDLE, RB_BELL_WORK, RB_BELL_SLEEPING };

struct rb_doorbell {
    _Atomic uint32_t state;
};

/** Any thread. True: the shard sleeps, or may be about to, and has to be woken. */
static inline bool rb_doorbell_ring(struct rb_doorbell *bell)
{
    return atomic_exchange(&bell->state, RB_BELL_WORK) == RB_BELL_SLEEPING;
}

/** The shard: somebody rang. */
static inline bool rb_doorbell_rang(struct rb_doorbell *bell)
{
    return atomic_load(&bell->state) == RB_BELL_WORK;
}

/** The shard, before it looks. */
static inline void rb_doorbell_answer(struct rb_doorbell *bell)
{
    atomic_exchange(&bell->state, RB_BELL_IDLE);
}

/** The shard: true when it may go to sleep, false when somebody rang. */
static inline bool rb_doorbell_sleep(struct rb_doorbell *bell)
{
    uint32_t state = atomic_load(&bell->state);
    if (state == RB_BELL_IDLE) {
        return atomic_compare_exchange_strong(&bell->state, &state, RB_BELL_SLEEPING);
    }
    return state == RB_BELL_SLEEPING;
}
