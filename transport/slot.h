/* slot.h - connection slots with generations, and the events about them: used by every driver. */
#pragma once

#include "ringbus/mem.h"
#include "ringbus/transport.h"

/** First member of a driver's own connection struct. */
struct rb_slot {
    struct rb_conn_id id;
    void *user;
    bool used;
};

/** Slots are allocated singly (stable addresses), found through a doubling table of pointers. */
struct rb_slots {
    struct rb_budget *budget;
    struct rb_slot **table;
    uint32_t *free; /* stack of unused slot numbers */
    uint32_t free_count, cap, used_count, high;
    size_t slot_bytes;
    struct rb_pool pool;
    uint32_t *generation; /* next generation per slot number */
};

void rb_slots_init(struct rb_slots *slots, struct rb_budget *budget, size_t slot_bytes);
void rb_slots_deinit(struct rb_slots *slots);
/** Zeroed but for id; NULL when memory is refused. */
struct rb_slot *rb_slots_acquire(struct rb_slots *slots);
/** NULL for a stale or unknown id. */
static inline struct rb_slot *rb_slots_find(struct rb_slots *slots, struct rb_conn_id id)
{
    if (id.slot >= slots->high || slots->table[id.slot] == NULL ||
        slots->table[id.slot]->id.generation != id.generation) {
        return NULL;
    }
    return slots->table[id.slot];
}
/** The id is stale from now on. */
void rb_slots_release(struct rb_slots *slots, struct rb_slot *slot);

/** Of no connection yet, and without addresses: those who tell of them fill them in. */
static inline void rb_event_begin(struct rb_event *event, enum rb_event_kind kind, enum rb_err err)
{
    event->kind = kind;
    event->err = err;
    event->conn = (struct rb_conn_id){ 0 };
    event->user = NULL;
    event->listener = 0;
    event->bytes = (struct rb_slice){ 0 };
}
