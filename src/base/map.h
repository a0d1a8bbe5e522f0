/* map.h - open-addressing hash map from 64-bit hash to pointer; keys live in the pointed-to
 * objects. Linear probing, backward-shift deletion, at most 3/4 full, doubling against a budget. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/mem.h"
#include "ringbus/slice.h"

/** True when `item` has key `key`. */
typedef bool (*rb_map_equal)(const void *item, struct rb_slice key);
/** Hash of the key of `item` (must be what was given at insertion). */
typedef uint64_t (*rb_map_hash)(const void *item);

/** A slot is a pointer with bits 48..63 of the hash above its own 48 bits. */
struct rb_map {
    struct rb_budget *budget;
    uint64_t *slots;
    uint32_t cap;     /* slots: a power of two, 0 until the first insertion */
    uint32_t count;   /* items */
    uint32_t cap_max; /* most items; 0: no limit */
    rb_map_equal equal;
    rb_map_hash hash;
};

void rb_map_init(struct rb_map *map, struct rb_budget *budget, uint32_t cap_max, rb_map_equal equal,
                 rb_map_hash hash);
/** Frees the slots, not the items. */
void rb_map_deinit(struct rb_map *map);
void *rb_map_find(const struct rb_map *map, uint64_t hash, struct rb_slice key);
/** `item` must not be present. RB_ERR_FULL at cap_max, RB_ERR_MEMORY when the budget is spent. */
RB_MUST_CHECK enum rb_err rb_map_insert(struct rb_map *map, uint64_t hash, void *item);
/** Removes exactly `item`; false when absent. Shrinks when under 1/8 full. */
bool rb_map_remove(struct rb_map *map, uint64_t hash, const void *item);
/** Iteration: *at starts at 0; NULL at the end. No insertion or removal meanwhile. */
void *rb_map_next(const struct rb_map *map, uint32_t *at);
