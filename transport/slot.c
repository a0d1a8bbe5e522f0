/* slot.c - connection slots with generations.
 *
 *   table:      [0] -> slot   [1] NULL   [2] -> slot   ...   high   ...   cap
 *   free:       1                                    (numbers below high that are not in use)
 *   generation: what the next user of each number gets
 *
 * 1. A number below `high` is either in the table (used) or on the free stack, never both.
 * 2. The generation of a number grows by one with every use and skips 0, so an id is not given out
 *    again before 2^32 - 1 other uses of its number.
 * 3. Slots do not move; only the table of pointers to them grows.
 */
#include "transport/slot.h"

#include <string.h>

#include "ringbus/check.h"

#define SLOT_COUNT_MAX (1U << 28) /* drivers put slot numbers into 28 bits */
#define CAP_FIRST 64
#define SLAB_BYTES 16384

void rb_slots_init(struct rb_slots *slots, struct rb_budget *budget, size_t slot_bytes)
{
    rb_assert(slot_bytes >= sizeof(struct rb_slot));
    *slots = (struct rb_slots){ .budget = budget, .slot_bytes = slot_bytes };
    size_t slab_objects = SLAB_BYTES / slot_bytes;
    rb_pool_init(&slots->pool, budget, slot_bytes, slab_objects > 0 ? slab_objects : 1);
}

void rb_slots_deinit(struct rb_slots *slots)
{
    rb_assert(slots->used_count == 0);
    rb_free(slots->budget, slots->table, slots->cap * sizeof(*slots->table));
    rb_free(slots->budget, slots->free, slots->cap * sizeof(*slots->free));
    rb_free(slots->budget, slots->generation, slots->cap * sizeof(*slots->generation));
    rb_pool_deinit(&slots->pool);
    *slots = (struct rb_slots){ 0 };
}

/* Replaces `*array` by one twice as long; false leaves it as it was. */
static bool grow_array(struct rb_slots *slots, void **array, size_t item_bytes, uint32_t cap)
{
    void *longer = rb_alloc(slots->budget, cap * item_bytes);
    if (longer == NULL) {
        return false;
    }
    if (slots->cap > 0) {
        memcpy(longer, *array, slots->cap * item_bytes);
    }
    *array = longer;
    return true;
}

static bool grow(struct rb_slots *slots)
{
    uint32_t cap = slots->cap == 0 ? CAP_FIRST : slots->cap * 2;
    if (cap > SLOT_COUNT_MAX) {
        return false;
    }
    void *table = slots->table, *free_stack = slots->free, *generation = slots->generation;
    if (!grow_array(slots, &table, sizeof(*slots->table), cap)) {
        return false;
    }
    if (!grow_array(slots, &free_stack, sizeof(*slots->free), cap)) {
        goto fail_table;
    }
    if (!grow_array(slots, &generation, sizeof(*slots->generation), cap)) {
        goto fail_free;
    }
    rb_free(slots->budget, slots->table, slots->cap * sizeof(*slots->table));
    rb_free(slots->budget, slots->free, slots->cap * sizeof(*slots->free));
    rb_free(slots->budget, slots->generation, slots->cap * sizeof(*slots->generation));
    slots->table = table;
    slots->free = free_stack;
    slots->generation = generation;
    slots->cap = cap;
    return true;

fail_free:
    rb_free(slots->budget, free_stack, cap * sizeof(*slots->free));
fail_table:
    rb_free(slots->budget, table, cap * sizeof(*slots->table));
    return false;
}

struct rb_slot *rb_slots_acquire(struct rb_slots *slots)
{
    if (slots->free_count == 0 && slots->high == slots->cap && !grow(slots)) {
        return NULL;
    }
    struct rb_slot *slot = rb_pool_acquire(&slots->pool);
    if (slot == NULL) {
        return NULL;
    }
    uint32_t number = slots->free_count > 0 ? slots->free[--slots->free_count] : slots->high++;
    rb_assert(slots->table[number] == NULL); /* invariant 1 */
    if (slots->generation[number] == 0) {
        slots->generation[number] = 1;
    }
    memset(slot, 0, slots->slot_bytes);
    slot->id = (struct rb_conn_id){ .slot = number, .generation = slots->generation[number]++ };
    slot->used = true;
    slots->table[number] = slot;
    slots->used_count++;
    return slot;
}

void rb_slots_release(struct rb_slots *slots, struct rb_slot *slot)
{
    uint32_t number = slot->id.slot;
    rb_assert(slot->used && slots->table[number] == slot);
    slots->table[number] = NULL;
    slots->free[slots->free_count++] = number;
    slots->used_count--;
    slot->used = false;
    rb_pool_release(&slots->pool, slot);
}
