/* map.c - open addressing over one word per slot.
 *
 *   slot:  | 16 bits: hash 48..63 (tag) | 48 bits: address of the item |     0: empty
 *
 * 1. An item sits in the first free slot at or after its home, hash modulo `cap`, wrapping around:
 *    there is no empty slot between the two. A search ends at the first empty slot.
 * 2. At most 3/4 of the slots are in use, so searches end. Home and tag come from different bits of
 *    the hash, so a foreign item is looked at in one of 65536 cases only.
 * 3. Removal closes the gap: later items of the run that may stand nearer to their home move back.
 *    There are no tombstones, and a map that once was large is not slow.
 * 4. Resizing asks map->hash for each item and fills a fresh table; the old one stays until that
 *    worked. Growing is needed and may fail; shrinking is a favour and may fail silently.
 */
#include "base/map.h"

#include "ringbus/check.h"

#define TAG_SHIFT 48
#define ADDRESS_MASK ((UINT64_C(1) << TAG_SHIFT) - 1)
#define CAP_SMALLEST 8u
#define CAP_LARGEST (UINT32_C(1) << 31)

static uint64_t slot_word(uint64_t hash, const void *item)
{
    uint64_t address = (uint64_t)(uintptr_t)item;
    rb_assert(item != NULL && (address & ~ADDRESS_MASK) == 0);
    return (hash & ~ADDRESS_MASK) | address;
}

static void *slot_item(uint64_t word)
{
    return (void *)(uintptr_t)(word & ADDRESS_MASK);
}

static void check_map(const struct rb_map *map)
{
    rb_assert((map->cap & (map->cap - 1)) == 0);
    rb_assert((map->cap == 0) == (map->slots == NULL));
    rb_assert(map->count <= map->cap - map->cap / 4);
}

void rb_map_init(struct rb_map *map, struct rb_budget *budget, uint32_t cap_max, rb_map_equal equal,
                 rb_map_hash hash)
{
    *map = (struct rb_map){ .budget = budget, .cap_max = cap_max, .equal = equal, .hash = hash };
}

void rb_map_deinit(struct rb_map *map)
{
    rb_free(map->budget, map->slots, (size_t)map->cap * sizeof(*map->slots));
    map->slots = NULL;
    map->cap = map->count = 0;
}

void *rb_map_find(const struct rb_map *map, uint64_t hash, struct rb_slice key)
{
    if (map->count == 0) {
        return NULL;
    }
    const uint64_t *slots = map->slots;
    uint32_t mask = map->cap - 1;
    uint64_t word;
    for (uint32_t at = (uint32_t)hash & mask; (word = slots[at]) != 0; at = (at + 1) & mask) {
        if ((word ^ hash) >> TAG_SHIFT == 0) {
            void *item = slot_item(word);
            if (map->equal(item, key)) {
                return item;
            }
        }
    }
    return NULL;
}

/* Puts `word` into the first free slot from its home on (invariant 1). */
static void put_word(uint64_t *slots, uint32_t cap, uint64_t hash, uint64_t word)
{
    uint32_t mask = cap - 1;
    uint32_t at = (uint32_t)hash & mask;
    while (slots[at] != 0) {
        at = (at + 1) & mask;
    }
    slots[at] = word;
}

static enum rb_err resize(struct rb_map *map, uint32_t cap)
{
    uint64_t *slots = rb_alloc(map->budget, (size_t)cap * sizeof(*slots));
    if (slots == NULL) {
        return RB_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < map->cap; i++) {
        uint64_t word = map->slots[i];
        if (word != 0) {
            uint64_t hash = map->hash(slot_item(word));
            rb_assert_slow((hash ^ word) >> TAG_SHIFT == 0);
            put_word(slots, cap, hash, word);
        }
    }
    rb_free(map->budget, map->slots, (size_t)map->cap * sizeof(*map->slots));
    map->slots = slots;
    map->cap = cap;
    return RB_OK;
}

enum rb_err rb_map_insert(struct rb_map *map, uint64_t hash, void *item)
{
    check_map(map);
    uint64_t word = slot_word(hash, item);
    rb_assert_slow(map->hash(item) == hash);
    if (map->cap_max != 0 && map->count >= map->cap_max) {
        return RB_ERR_FULL;
    }
    if (map->count == map->cap - map->cap / 4) { /* 3/4; also when there is no table yet */
        if (map->cap == CAP_LARGEST) {
            return RB_ERR_FULL;
        }
        enum rb_err err = resize(map, map->cap == 0 ? CAP_SMALLEST : map->cap * 2);
        if (err != RB_OK) {
            return err;
        }
    }
    put_word(map->slots, map->cap, hash, word);
    map->count++;
    return RB_OK;
}

/* Empties slot `gap` and moves back what would no longer be found behind it (invariant 3). */
static void close_gap(struct rb_map *map, uint32_t gap)
{
    uint64_t *slots = map->slots;
    uint32_t mask = map->cap - 1;
    uint64_t word;
    for (uint32_t at = (gap + 1) & mask; (word = slots[at]) != 0; at = (at + 1) & mask) {
        uint32_t home = (uint32_t)map->hash(slot_item(word)) & mask;
        if (((at - home) & mask) >= ((at - gap) & mask)) { /* the gap lies between home and here */
            slots[gap] = word;
            gap = at;
        }
    }
    slots[gap] = 0;
}

bool rb_map_remove(struct rb_map *map, uint64_t hash, const void *item)
{
    check_map(map);
    if (map->count == 0) {
        return false;
    }
    uint64_t wanted = slot_word(hash, item);
    uint32_t mask = map->cap - 1;
    uint32_t at = (uint32_t)hash & mask;
    while (map->slots[at] != wanted) {
        if (map->slots[at] == 0) {
            return false;
        }
        at = (at + 1) & mask;
    }
    close_gap(map, at);
    map->count--;
    if (map->cap > CAP_SMALLEST && map->count < map->cap / 8) {
        (void)!resize(map, map->cap / 2); /* invariant 4 */
    }
    return true;
}

void *rb_map_next(const struct rb_map *map, uint32_t *at)
{
    while (*at < map->cap) {
        uint64_t word = map->slots[(*at)++];
        if (word != 0) {
            return slot_item(word);
        }
    }
    return NULL;
}
