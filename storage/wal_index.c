/* wal_index.c - what the log holds and where: groups, their entries, their states.
 *
 *   groups: id -> wal_group { base | entry places, a ring | term runs | states | newest prefix record }
 *   states: (group, type, key) -> wal_state { place }
 *
 * 1. A file counts the entries that live in it and lists the states and prefix records that do; what this file of code moves
 *    or drops it takes off there. A file with neither may be reused.
 * 2. A write reserves all memory its change needs before it is encoded, so that applying it cannot fail.
 * 3. base <= last; the ring holds the entries base + 1 .. last; runs are ascending, the first begins at base + 1 or before.
 */
#include <string.h>

#include "ringbus/check.h"
#include "storage/wal_inside.h"

#define PLACES_MIN 8u
#define PLACES_MAX (1u << 30)

struct state_key {
    uint64_t group, key;
    uint64_t type;
};

static uint64_t mix(uint64_t value)
{
    value ^= value >> 32;
    value *= UINT64_C(0xD6E8FEB86659FD93);
    value ^= value >> 32;
    value *= UINT64_C(0xD6E8FEB86659FD93);
    return value ^ value >> 32;
}

static uint64_t group_hash(const void *item)
{
    return mix(((const struct wal_group *)item)->id);
}

static bool group_equal(const void *item, struct rb_slice key)
{
    return memcmp(&((const struct wal_group *)item)->id, key.ptr, sizeof(uint64_t)) == 0;
}

static uint64_t state_key_hash(uint64_t group, uint8_t type, uint64_t key)
{
    return mix(mix(group) + mix(key + type * UINT64_C(0x9E3779B97F4A7C15)));
}

static uint64_t state_hash(const void *item)
{
    const struct wal_state *state = item;
    return state_key_hash(state->group, state->type, state->key);
}

static bool state_equal(const void *item, struct rb_slice slice)
{
    const struct wal_state *state = item;
    struct state_key key;
    memcpy(&key, slice.ptr, sizeof(key));
    return state->group == key.group && state->key == key.key && state->type == key.type;
}

void rb_wal_index_init(struct wal *w)
{
    rb_map_init(&w->groups, w->options.budget, 0, group_equal, group_hash);
    rb_map_init(&w->states, w->options.budget, 0, state_equal, state_hash);
    rb_pool_init(&w->group_pool, w->options.budget, sizeof(struct wal_group), 16);
    rb_pool_init(&w->state_pool, w->options.budget, sizeof(struct wal_state), 64);
}

struct wal_group *rb_wal_group_find(struct wal *w, uint64_t id)
{
    return rb_map_find(&w->groups, mix(id), rb_slice_of(&id, sizeof(id)));
}

struct wal_state *rb_wal_state_find(struct wal *w, uint64_t group, uint8_t type, uint64_t key)
{
    struct state_key wanted = { group, key, type };
    return rb_map_find(&w->states, state_key_hash(group, type, key),
                       rb_slice_of(&wanted, sizeof(wanted)));
}

static void check_group(const struct wal_group *g)
{
    rb_assert(g->base <= g->last && g->last - g->base <= g->cap);
    rb_assert(g->last == g->base ? g->run_count == 0 : g->run_count > 0);
    rb_assert_slow(g->run_count == 0 || g->runs[0].from <= g->base + 1);
    rb_assert_slow(g->run_count == 0 || g->runs[g->run_count - 1].from <= g->last);
}

/* ---- places and runs ---- */

static wal_place *place_at(const struct wal_group *g, uint64_t index)
{
    rb_assert(index > g->base && index <= g->last);
    return &g->places[(g->head + (index - g->base - 1)) & (g->cap - 1)];
}

wal_place rb_wal_index_place(const struct wal_group *g, uint64_t index)
{
    return *place_at(g, index);
}

static enum rb_err resize_places(struct wal *w, struct wal_group *g, uint32_t cap)
{
    uint64_t count = g->last - g->base;
    wal_place *places = rb_alloc(w->options.budget, cap * sizeof(wal_place));
    if (places == NULL) {
        return RB_ERR_MEMORY;
    }
    for (uint64_t i = 0; i < count; i++) {
        places[i] = g->places[(g->head + i) & (g->cap - 1)];
    }
    rb_free(w->options.budget, g->places, g->cap * sizeof(wal_place));
    w->index_bytes += ((uint64_t)cap - g->cap) * sizeof(wal_place);
    g->places = places;
    g->cap = cap;
    g->head = 0;
    return RB_OK;
}

static enum rb_err reserve_places(struct wal *w, struct wal_group *g, uint64_t more)
{
    uint64_t need = g->last - g->base + more;
    uint32_t cap = g->cap == 0 ? PLACES_MIN : g->cap;
    if (need > PLACES_MAX) {
        return RB_ERR_MEMORY;
    }
    while (cap < need) {
        cap *= 2;
    }
    return cap == g->cap ? RB_OK : resize_places(w, g, cap);
}

/* Room for one run more. */
static enum rb_err reserve_run(struct wal *w, struct wal_group *g)
{
    if (g->run_count < g->run_cap) {
        return RB_OK;
    }
    uint32_t cap = g->run_cap == 0 ? 4 : g->run_cap * 2;
    struct wal_run *runs =
        rb_realloc(w->options.budget, g->runs, g->run_cap * sizeof(*runs), cap * sizeof(*runs));
    if (runs == NULL) {
        return RB_ERR_MEMORY;
    }
    w->index_bytes += (cap - g->run_cap) * sizeof(*runs);
    g->runs = runs;
    g->run_cap = cap;
    return RB_OK;
}

/* The run that holds `index`: the last one that begins at or before it. */
static uint32_t run_of(const struct wal_group *g, uint64_t index)
{
    uint32_t low = 0;
    uint32_t high = g->run_count;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (g->runs[middle].from <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

uint64_t rb_wal_index_term(const struct wal_group *g, uint64_t index)
{
    if (index == g->base) {
        return g->base_term;
    }
    rb_assert(index > g->base && index <= g->last);
    return g->runs[run_of(g, index)].term;
}

static void push_entry(struct wal *w, struct wal_group *g, uint64_t term, wal_place place)
{
    g->last++;
    *place_at(g, g->last) = place;
    if (g->run_count == 0 || g->runs[g->run_count - 1].term != term) {
        rb_assert(g->run_count < g->run_cap); /* invariant 2 */
        g->runs[g->run_count++] = (struct wal_run){ g->last, term };
    }
    if (place == 0) {
        g->lost_count++;
    } else {
        w->files[wal_place_slot(place)].entry_count++;
    }
    w->stats.entry_count++;
}

static void forget_entry(struct wal *w, struct wal_group *g, wal_place place)
{
    w->stats.entry_count--;
    if (place == 0) {
        g->lost_count--;
        return;
    }
    struct wal_file *file = &w->files[wal_place_slot(place)];
    rb_assert(file->entry_count > 0);
    file->entry_count--;
}

/* Memory follows downward; when the smaller block is refused the larger one stays. */
static void shrink_places(struct wal *w, struct wal_group *g)
{
    uint64_t count = g->last - g->base;
    uint32_t cap = g->cap;
    while (cap > PLACES_MIN && count < cap / 8) {
        cap /= 2;
    }
    if (cap < g->cap / 2) {
        (void)!resize_places(w, g, cap);
    }
}

void rb_wal_index_truncate(struct wal *w, struct wal_group *g, uint64_t from)
{
    rb_assert(from > g->base);
    while (g->last >= from) {
        forget_entry(w, g, *place_at(g, g->last));
        g->last--;
    }
    while (g->run_count > 0 && (g->runs[g->run_count - 1].from > g->last || g->last == g->base)) {
        g->run_count--;
    }
    shrink_places(w, g);
    check_group(g);
}

static void drop_prefix(struct wal *w, struct wal_group *g, uint64_t through, uint64_t term)
{
    while (g->base < through && g->base < g->last) {
        forget_entry(w, g, *place_at(g, g->base + 1));
        g->head = (g->head + 1) & (g->cap - 1);
        g->base++;
    }
    if (g->base == g->last) {
        g->run_count = 0;
        g->last = through;
    } else {
        uint32_t first = run_of(g, through + 1);
        memmove(g->runs, g->runs + first, (g->run_count - first) * sizeof(*g->runs));
        g->run_count -= first;
    }
    g->base = through;
    g->base_term = term;
    shrink_places(w, g);
    check_group(g);
}

enum rb_err rb_wal_index_skip(struct wal *w, struct wal_group *g, uint64_t index)
{
    rb_assert(index > g->last + 1);
    enum rb_err err = reserve_places(w, g, index - g->last);
    err = err == RB_OK ? reserve_run(w, g) : err;
    if (err != RB_OK) {
        return err;
    }
    uint64_t term = g->last == g->base ? g->base_term : g->runs[g->run_count - 1].term;
    while (g->last + 1 < index) {
        push_entry(w, g, term, 0);
    }
    check_group(g);
    return RB_OK;
}

void rb_wal_index_lose_entry(struct wal *w, struct wal_group *g, uint64_t index)
{
    wal_place *place = place_at(g, index);
    forget_entry(w, g, *place);
    *place = 0;
    g->lost_count++;
    g->damaged = true;
    w->stats.entry_count++;
}

/* ---- groups and states ---- */

static struct wal_group *add_group(struct wal *w, uint64_t id)
{
    struct wal_group *g = rb_pool_acquire(&w->group_pool);
    if (g == NULL) {
        return NULL;
    }
    *g = (struct wal_group){ .id = id };
    rb_list_init(&g->states);
    rb_list_init(&g->in_file);
    if (rb_map_insert(&w->groups, mix(id), g) != RB_OK) {
        rb_pool_release(&w->group_pool, g);
        return NULL;
    }
    w->index_bytes += sizeof(*g);
    return g;
}

static void remove_state(struct wal *w, struct wal_group *g, struct wal_state *state)
{
    w->stats.state_bytes -= wal_record_bytes(wal_place_body(state->place));
    rb_list_remove(&state->in_group);
    rb_list_remove(&state->in_file);
    g->state_count--;
    bool found = rb_map_remove(&w->states, state_hash(state), state);
    rb_assert(found);
    w->index_bytes -= sizeof(*state);
    rb_pool_release(&w->state_pool, state);
}

void rb_wal_index_lose_state(struct wal *w, struct wal_state *state)
{
    w->stats.state_bytes -= wal_record_bytes(wal_place_body(state->place)) - wal_record_bytes(0);
    state->place = 0;
    rb_list_remove(&state->in_file);
    rb_wal_group_find(w, state->group)->damaged = true;
}

static void free_group_memory(struct wal *w, struct wal_group *g)
{
    rb_free(w->options.budget, g->places, g->cap * sizeof(wal_place));
    rb_free(w->options.budget, g->runs, g->run_cap * sizeof(*g->runs));
    w->index_bytes -= g->cap * sizeof(wal_place) + g->run_cap * sizeof(*g->runs) + sizeof(*g);
}

static void drop_group(struct wal *w, struct wal_group *g)
{
    while (!rb_list_empty(&g->states)) {
        remove_state(w, g, RB_CONTAINER(g->states.next, struct wal_state, in_group));
    }
    for (uint64_t i = g->base + 1; i <= g->last; i++) {
        forget_entry(w, g, *place_at(g, i));
    }
    rb_list_remove(&g->in_file);
    free_group_memory(w, g);
    bool found = rb_map_remove(&w->groups, mix(g->id), g);
    rb_assert(found);
    rb_pool_release(&w->group_pool, g);
}

void rb_wal_index_deinit(struct wal *w)
{
    uint32_t at = 0;
    struct wal_state *state;
    while ((state = rb_map_next(&w->states, &at)) != NULL) {
        rb_pool_release(&w->state_pool, state);
    }
    struct wal_group *g;
    at = 0;
    while ((g = rb_map_next(&w->groups, &at)) != NULL) {
        free_group_memory(w, g);
        rb_pool_release(&w->group_pool, g);
    }
    rb_map_deinit(&w->states);
    rb_map_deinit(&w->groups);
    rb_pool_deinit(&w->state_pool);
    rb_pool_deinit(&w->group_pool);
}

/* A state without a place yet: it is in no file until the record is applied. */
static enum rb_err reserve_state(struct wal *w, struct wal_group *g,
                                 const struct rb_wal_record *record)
{
    if (rb_wal_state_find(w, record->group, record->type, record->index) != NULL) {
        return RB_OK;
    }
    struct wal_state *state = rb_pool_acquire(&w->state_pool);
    if (state == NULL) {
        return RB_ERR_MEMORY;
    }
    *state =
        (struct wal_state){ .group = record->group, .key = record->index, .type = record->type };
    rb_list_init(&state->in_file);
    if (rb_map_insert(&w->states, state_hash(state), state) != RB_OK) {
        rb_pool_release(&w->state_pool, state);
        return RB_ERR_MEMORY;
    }
    rb_list_append(&g->states, &state->in_group);
    g->state_count++;
    w->index_bytes += sizeof(*state);
    w->stats.state_bytes += wal_record_bytes(0);
    return RB_OK;
}

enum rb_err rb_wal_index_reserve(struct wal *w, const struct rb_wal_record *record)
{
    if (record->kind == RB_WAL_STATE_REMOVE || record->kind == RB_WAL_TRUNCATE ||
        record->kind == RB_WAL_GROUP_DROP) {
        return RB_OK;
    }
    struct wal_group *g = rb_wal_group_find(w, record->group);
    bool added = g == NULL;
    if (added) {
        g = add_group(w, record->group);
        if (g == NULL) {
            return RB_ERR_MEMORY;
        }
    }
    enum rb_err err = RB_OK;
    if (record->kind == RB_WAL_ENTRY) {
        err = reserve_places(w, g, 1);
        err = err == RB_OK ? reserve_run(w, g) : err;
    } else if (record->kind == RB_WAL_STATE) {
        err = reserve_state(w, g, record);
    }
    if (err != RB_OK && added) {
        drop_group(w, g);
    }
    return err;
}

uint16_t rb_wal_index_chain(struct wal *w, const struct rb_wal_record *record)
{
    struct wal_group *g = rb_wal_group_find(w, record->group);
    return g == NULL ? 0 : g->chain++;
}

static void apply_state(struct wal *w, const struct rb_wal_record *record, wal_place place)
{
    struct wal_state *state = rb_wal_state_find(w, record->group, record->type, record->index);
    rb_assert(state != NULL); /* reserved */
    w->stats.state_bytes -= wal_record_bytes(wal_place_body(state->place));
    w->stats.state_bytes += wal_record_bytes(wal_place_body(place));
    state->place = place;
    state->carried_from = 0;
    rb_list_remove(&state->in_file);
    rb_list_append(&w->files[wal_place_slot(place)].states, &state->in_file);
}

static void apply_prefix(struct wal *w, struct wal_group *g, const struct rb_wal_record *record,
                         wal_place place)
{
    if (record->index > g->base) {
        drop_prefix(w, g, record->index, record->term);
    } else if (record->index == g->base) {
        g->base_term = record->term; /* it was guessed while recovering */
    }
    g->guessed = g->guessed && record->index < g->base;
    g->known_base = record->index;
    g->known_term = record->term;
    g->prefix = place;
    rb_list_remove(&g->in_file);
    rb_list_append(&w->files[wal_place_slot(place)].prefixes, &g->in_file);
}

void rb_wal_index_apply(struct wal *w, const struct rb_wal_record *record, wal_place place)
{
    struct wal_group *g = rb_wal_group_find(w, record->group);
    struct wal_state *state;
    if (g == NULL) {
        return; /* only a removal of what is not there, while recovering */
    }
    switch (record->kind) {
    case RB_WAL_ENTRY:
        rb_assert(record->index == g->last + 1);
        push_entry(w, g, record->term, place);
        break;
    case RB_WAL_STATE:
        apply_state(w, record, place);
        break;
    case RB_WAL_STATE_REMOVE:
        state = rb_wal_state_find(w, record->group, record->type, record->index);
        if (state != NULL) {
            remove_state(w, g, state);
        }
        break;
    case RB_WAL_TRUNCATE:
        if (record->index > g->base) {
            rb_wal_index_truncate(w, g, record->index);
        }
        break;
    case RB_WAL_PREFIX:
        apply_prefix(w, g, record, place);
        break;
    case RB_WAL_GROUP_DROP:
        drop_group(w, g);
        return;
    }
    check_group(g);
}
