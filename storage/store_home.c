/* store_home.c - what the stores of a shard share: whose turn it is, completions, events.
 *
 * 1. A store is in `busy` when a step of it may get on; a completion puts it there, or its own wish for the next poll.
 * 2. A poll: free what was dropped, drop what is too much, step busy stores, start reads and writes, give events.
 * 3. An event is given once. What it borrows stays until the next poll.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/store_inside.h"

#define CACHE_BYTES_DEFAULT (UINT64_C(64) << 20)
#define BEHIND_BYTES_DEFAULT (UINT64_C(256) << 20)
#define SEGMENT_BYTES_DEFAULT (32u << 20)
#define SEGMENT_BYTES_MIN (64u << 10)
#define SEGMENT_BYTES_MAX (1u << 30)

enum rb_err rb_msgstore_home_create(const struct rb_msgstore_home_options *options,
                                    struct rb_msgstore_home **ret_home)
{
    struct rb_msgstore_home *home = rb_alloc(options->budget, sizeof(*home));
    if (home == NULL) {
        return RB_ERR_MEMORY;
    }
    struct rb_msgstore_home_options *o = &home->options;
    *o = *options;
    o->cache_bytes = o->cache_bytes == 0 ? CACHE_BYTES_DEFAULT : o->cache_bytes;
    o->behind_bytes = o->behind_bytes == 0 ? BEHIND_BYTES_DEFAULT : o->behind_bytes;
    o->segment_bytes = o->segment_bytes == 0 ? SEGMENT_BYTES_DEFAULT : o->segment_bytes;
    o->segment_bytes = o->segment_bytes < SEGMENT_BYTES_MIN ? SEGMENT_BYTES_MIN : o->segment_bytes;
    o->segment_bytes = o->segment_bytes > SEGMENT_BYTES_MAX ? SEGMENT_BYTES_MAX : o->segment_bytes;
    home->disk = options->disk;
    home->env = options->env;
    home->budget = options->budget;
    struct rb_list *lists[] = { &home->stores, &home->busy,    &home->told,         &home->partial,
                                &home->writes, &home->loads,   &home->clean,        &home->dying,
                                &home->files,  &home->damages, &home->damages_given };
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        rb_list_init(lists[i]);
    }
    home->ready_end = &home->ready;
    *ret_home = home;
    return RB_OK;
}

static void free_damages(struct rb_msgstore_home *home, struct rb_list *list)
{
    struct rb_list *item;
    while ((item = rb_list_pop(list)) != NULL) {
        rb_free(home->budget, RB_CONTAINER(item, struct store_damage, link),
                sizeof(struct store_damage));
    }
}

void rb_msgstore_home_destroy(struct rb_msgstore_home *home)
{
    home->ending = true;
    while (!rb_list_empty(
        &home->stores)) { /* the simulated disk lost its power; nothing is in flight */
        rb_store_free(RB_CONTAINER(home->stores.next, struct rb_msgstore, link));
    }
    while (!rb_list_empty(&home->dying)) {
        rb_store_block_free(home, RB_CONTAINER(home->dying.next, struct store_block, link));
    }
    while (home->spare_count > 0) {
        uint8_t *spare = home->spare[--home->spare_count];
        if (home->disk != NULL) {
            rb_disk_free(home->disk, spare, STORE_BLOCK_BYTES);
        } else {
            free(spare);
        }
    }
    free_damages(home, &home->damages);
    free_damages(home, &home->damages_given);
    rb_free(home->budget, home, sizeof(*home));
}

/* ---- completions ---- */

void rb_store_own(struct rb_msgstore_home *home, struct rb_disk_op *op, enum store_op_tag tag)
{
    *op = (struct rb_disk_op){ .owner = home, .tag = tag };
}

static void store_completed(struct rb_msgstore *store, struct rb_disk_op *op)
{
    store->op_count--;
    rb_store_wake(store);
    if (store->state == STORE_CLOSING) {
        rb_store_end_done(store, op);
    } else if (store->state == STORE_OPENING) {
        rb_store_open_done(store, op);
    } else {
        rb_store_checkpoint_done(store, op);
    }
}

static void piece_completed(struct store_piece *piece)
{
    struct rb_msgstore *store = piece->store;
    store->op_count--;
    rb_store_wake(store);
    if (store->state == STORE_OPENING) {
        rb_store_open_piece(store, piece);
    } else if (store->state == STORE_READY) {
        rb_store_checkpoint_piece(store, piece);
    }
}

void rb_msgstore_home_complete(struct rb_msgstore_home *home, struct rb_disk_op *op)
{
    switch ((enum store_op_tag)op->tag) {
    case STORE_OP_BLOCK:
        rb_store_block_completed(home, RB_CONTAINER(op, struct store_block, op));
        return;
    case STORE_OP_SEGMENT:
        rb_store_segment_completed(home, RB_CONTAINER(op, struct store_segment, op));
        return;
    case STORE_OP_STORE:
        store_completed(RB_CONTAINER(op, struct rb_msgstore, op), op);
        return;
    case STORE_OP_PIECE:
        piece_completed(RB_CONTAINER(op, struct store_piece, op));
        return;
    }
    rb_unreachable("every tag is handled above");
}

void rb_store_behind(struct store_segment *segment, int64_t more)
{
    segment->behind_bytes += (uint32_t)more;
    segment->store->behind_bytes += (uint64_t)more;
    segment->store->home->behind_bytes += (uint64_t)more;
}

void rb_store_file_name(const struct rb_msgstore *store, char *out, const char *file)
{
    int len = snprintf(out, STORE_NAME_BYTES, "%s/%s", store->directory, file);
    rb_assert(len > 0 && len < (int)STORE_NAME_BYTES); /* checked when the store was opened */
}

void rb_store_hold_writes(struct rb_msgstore_home *home, enum rb_err err)
{
    home->disk_full = home->disk_full || err == RB_ERR_SPACE;
    home->retry_ns = rb_env_now(home->env) + STORE_RETRY_NS;
}

/* ---- events ---- */

void rb_store_wake(struct rb_msgstore *store)
{
    if (rb_list_empty(&store->busy_link)) {
        rb_list_append(&store->home->busy, &store->busy_link);
    }
}

void rb_store_tell(struct rb_msgstore *store, enum store_told what)
{
    store->told |= what;
    if (rb_list_empty(&store->told_link)) {
        rb_list_append(&store->home->told, &store->told_link);
    }
}

void rb_store_damage(struct rb_msgstore *store, const char *file, const char *format, ...)
{
    struct rb_msgstore_home *home = store->home;
    bool closing = store->state == STORE_CLOSING;
    struct store_damage *damage = closing || home->damage_count >= STORE_DAMAGES_MAX
                                      ? NULL
                                      : rb_alloc(home->budget, sizeof(*damage));
    if (damage == NULL) {
        return; /* more than anybody will read */
    }
    damage->store = store;
    int len = file == NULL
                  ? snprintf(damage->text, sizeof(damage->text), "%s: ", store->directory)
                  : snprintf(damage->text, sizeof(damage->text), "%s/%s: ", store->directory, file);
    if (len > 0 && (size_t)len < sizeof(damage->text)) {
        va_list args;
        va_start(args, format);
        vsnprintf(damage->text + len, sizeof(damage->text) - (size_t)len, format, args);
        va_end(args);
    }
    rb_list_append(&home->damages, &damage->link);
    home->damage_count++;
}

void rb_store_end_waits(struct store_block *block)
{
    struct rb_msgstore_home *home = block->segment->store->home;
    if (block->waits == NULL) {
        return;
    }
    *home->ready_end = block->waits;
    while (*home->ready_end != NULL) {
        home->ready_end = &(*home->ready_end)->next;
    }
    block->waits = NULL;
}

static bool unlink_wait(struct rb_msgstore_wait **list, const struct rb_msgstore_wait *wait)
{
    for (; *list != NULL; list = &(*list)->next) {
        if (*list == wait) {
            *list = wait->next;
            return true;
        }
    }
    return false;
}

static bool unlink_from_loads(struct rb_msgstore_home *home, struct rb_msgstore_wait *wait)
{
    for (struct rb_list *at = home->loads.next; at != &home->loads; at = at->next) {
        if (unlink_wait(&RB_CONTAINER(at, struct store_block, link)->waits, wait)) {
            return true;
        }
    }
    for (uint32_t i = 0; i < wait->store->segment_count; i++) { /* being read: in no list */
        struct store_segment *segment = wait->store->segments[i];
        for (uint32_t n = 0; n < segment->block_count && segment->op_count > 0; n++) {
            if (segment->blocks[n] != NULL && unlink_wait(&segment->blocks[n]->waits, wait)) {
                return true;
            }
        }
    }
    struct rb_list *dead = &wait->store->dead;
    for (struct rb_list *at = dead->next; at != dead; at = at->next) {
        struct store_segment *segment = RB_CONTAINER(at, struct store_segment, dead_link);
        for (uint32_t n = 0; n < segment->block_count; n++) {
            if (segment->blocks[n] != NULL && unlink_wait(&segment->blocks[n]->waits, wait)) {
                return true;
            }
        }
    }
    return false;
}

void rb_msgstore_forget(struct rb_msgstore_wait *wait)
{
    if (!wait->waiting) {
        return;
    }
    struct rb_msgstore_home *home = wait->store->home;
    if (unlink_wait(&home->ready, wait)) {
        home->ready_end = &home->ready;
        while (*home->ready_end != NULL) {
            home->ready_end = &(*home->ready_end)->next;
        }
    } else {
        bool found = unlink_from_loads(home, wait);
        rb_assert(found);
    }
    wait->waiting = false;
    wait->next = NULL;
}

/* ---- the turn ---- */

static bool step(struct rb_msgstore *store)
{
    switch (store->state) {
    case STORE_OPENING:
        return rb_store_open_step(store);
    case STORE_READY: {
        bool again = rb_store_erase_step(store);
        again = rb_store_compact_step(store) || again;
        again = rb_store_checkpoint_step(store) || again;
        return rb_store_dead_step(store) || again;
    }
    case STORE_CLOSING:
        return rb_store_end_step(store);
    case STORE_FAILED:
    case STORE_CLOSED:
        break;
    }
    return false;
}

static void step_busy(struct rb_msgstore_home *home)
{
    struct rb_list now, *item;
    rb_list_init(&now);
    rb_list_splice(&now, &home->busy);
    while ((item = rb_list_pop(&now)) != NULL) {
        struct rb_msgstore *store = RB_CONTAINER(item, struct rb_msgstore, busy_link);
        if (step(store)) {
            rb_store_wake(store);
        }
    }
}

static void give_damages(struct rb_msgstore_home *home, uint32_t *count)
{
    free_damages(home, &home->damages_given);
    struct rb_list *item;
    while (*count < RB_MSGSTORE_EVENTS_MAX / 2 && (item = rb_list_pop(&home->damages)) != NULL) {
        struct store_damage *damage = RB_CONTAINER(item, struct store_damage, link);
        home->damage_count--;
        rb_list_append(&home->damages_given, &damage->link);
        home->events[(*count)++] = (struct rb_msgstore_event){ .kind = RB_MSGSTORE_DAMAGED,
                                                               .err = RB_ERR_CORRUPT,
                                                               .store = damage->store,
                                                               .owner = damage->store->owner,
                                                               .text = damage->text };
    }
}

static void give_told(struct rb_msgstore_home *home, uint32_t *count)
{
    struct rb_list *item;
    while (*count + 2 <= RB_MSGSTORE_EVENTS_MAX && (item = rb_list_pop(&home->told)) != NULL) {
        struct rb_msgstore *store = RB_CONTAINER(item, struct rb_msgstore, told_link);
        struct rb_msgstore_event event = { .store = store, .owner = store->owner };
        if ((store->told & TELL_CLOSED) != 0) {
            event.kind = RB_MSGSTORE_CLOSED;
            home->events[(*count)++] = event;
            rb_store_free(store);
            continue;
        }
        if ((store->told & TELL_OPENED) != 0) {
            event.kind = RB_MSGSTORE_OPENED;
            event.err = store->opened_err;
            home->events[(*count)++] = event;
        }
        if ((store->told & TELL_CHECKPOINTED) != 0) {
            event.kind = RB_MSGSTORE_CHECKPOINTED;
            event.err = store->reported_err;
            event.index = store->reported_index;
            home->events[(*count)++] = event;
        }
        store->told = 0;
    }
}

static void give_ready(struct rb_msgstore_home *home, uint32_t *count)
{
    while (*count < RB_MSGSTORE_EVENTS_MAX && home->ready != NULL) {
        struct rb_msgstore_wait *wait = home->ready;
        home->ready = wait->next;
        if (home->ready == NULL) {
            home->ready_end = &home->ready;
        }
        wait->waiting = false;
        wait->next = NULL;
        home->events[(*count)++] = (struct rb_msgstore_event){ .kind = RB_MSGSTORE_LOADED,
                                                               .store = wait->store,
                                                               .owner = wait->store->owner,
                                                               .wait = wait };
    }
}

uint32_t rb_msgstore_home_poll(struct rb_msgstore_home *home, struct rb_msgstore_event **ret_events)
{
    uint32_t count = 0;
    home->work_bytes = STORE_WORK_BYTES;
    rb_store_evict(home);
    step_busy(home);
    rb_store_pump(home);
    give_damages(home, &count);
    give_ready(home, &count);
    give_told(home, &count);
    *ret_events = home->events;
    return count;
}

void rb_msgstore_home_flush(struct rb_msgstore_home *home)
{
    rb_store_pump(home);
}

uint64_t rb_msgstore_home_due(const struct rb_msgstore_home *home)
{
    uint64_t now_ns = rb_env_now(home->env), due_ns = UINT64_MAX;
    if (!rb_list_empty(&home->damages) || !rb_list_empty(&home->told) || home->ready != NULL) {
        return now_ns;
    }
    if (home->retry_ns != 0) {
        due_ns = home->retry_ns;
    }
    bool in_flight = home->write_count > 0 || home->load_count > 0;
    for (const struct rb_list *at = home->busy.next; at != &home->busy; at = at->next) {
        const struct rb_msgstore *store = RB_CONTAINER(at, struct rb_msgstore, busy_link);
        uint64_t own_ns = store->retry_ns > now_ns ? store->retry_ns
                          : in_flight || store->op_count > 0
                              ? UINT64_MAX /* goes on with a completion */
                              : now_ns;
        due_ns = own_ns < due_ns ? own_ns : due_ns;
    }
    return due_ns;
}

bool rb_msgstore_home_pressure(const struct rb_msgstore_home *home)
{
    return home->disk_full || home->behind_bytes > home->options.behind_bytes;
}

void rb_msgstore_home_stats(const struct rb_msgstore_home *home,
                            struct rb_msgstore_home_stats *ret_stats)
{
    uint64_t index_bytes = 0;
    for (const struct rb_list *at = home->stores.next; at != &home->stores; at = at->next) {
        index_bytes += rb_index_bytes(RB_CONTAINER(at, struct rb_msgstore, link)->index);
    }
    *ret_stats = (struct rb_msgstore_home_stats){ .cache_bytes = home->clean_bytes,
                                                  .behind_bytes = home->behind_bytes,
                                                  .index_bytes = index_bytes,
                                                  .disk_bytes = home->disk_bytes,
                                                  .loads = home->load_total,
                                                  .writes = home->write_total,
                                                  .write_errors = home->write_errors,
                                                  .checkpoints = home->checkpoints,
                                                  .disk_full = home->disk_full };
}
