/* consumer_pending.c - the table of unacked messages.
 *
 *   entries:  [0 .. begin: free | begin .. end: in order of seq, some GONE | end .. cap: free]
 *
 * 1. entries[begin] is never GONE unless begin == end; `live` counts the others.
 * 2. An entry that is neither GONE, ODD nor QUEUED is at or behind `walked`, and times do not fall from one such entry to the next.
 * 3. Every entry with ODD and without QUEUED has an element in the heap with its due time; elements of others are stale, and
 *    recognised by their time.
 */
#include "js/consumer_pending.h"

#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"

#define CAP_MIN 16
#define CAP_KEPT 64 /* entries that an empty table keeps its memory for */

void rb_js_pending_init(struct rb_js_pending *pending, struct rb_budget *budget)
{
    *pending = (struct rb_js_pending){ .budget = budget };
}

static void free_entries(struct rb_js_pending *pending)
{
    rb_free(pending->budget, pending->entries, pending->cap * sizeof(*pending->entries));
    rb_free(pending->budget, pending->heap, pending->heap_cap * sizeof(*pending->heap));
    rb_free(pending->budget, pending->queue, pending->queue_cap * sizeof(*pending->queue));
    pending->entries = NULL;
    pending->heap = NULL;
    pending->queue = NULL;
    pending->cap = pending->heap_cap = pending->queue_cap = 0;
}

static void reset(struct rb_js_pending *pending)
{
    pending->begin = pending->end = pending->walked = 0;
    pending->live = pending->again = pending->acking = 0;
    pending->heap_len = 0;
    pending->heap_short = false;
    pending->queue_head = pending->queue_len = 0;
}

void rb_js_pending_clear(struct rb_js_pending *pending)
{
    reset(pending);
    free_entries(pending);
    rb_free(pending->budget, pending->spent, pending->spent_cap * sizeof(*pending->spent));
    pending->spent = NULL;
    pending->spent_len = pending->spent_cap = 0;
}

void rb_js_pending_deinit(struct rb_js_pending *pending)
{
    rb_js_pending_clear(pending);
}

/* First entry at or above `seq`; end when there is none. */
static uint32_t lower_bound(const struct rb_js_pending *pending, uint64_t seq)
{
    uint32_t low = pending->begin, high = pending->end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pending->entries[middle].seq < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct rb_js_pending_entry *rb_js_pending_find(const struct rb_js_pending *pending, uint64_t seq)
{
    if (pending->live == 0 || seq < pending->entries[pending->begin].seq) {
        return NULL;
    }
    uint64_t ahead = seq - pending->entries[pending->begin].seq;
    uint32_t at = pending->end;
    if (ahead < pending->end - pending->begin) {
        at = pending->begin + (uint32_t)ahead;
    }
    if (at == pending->end || pending->entries[at].seq != seq) {
        at = lower_bound(pending, seq);
    }
    if (at == pending->end || pending->entries[at].seq != seq ||
        (pending->entries[at].flags & RB_JS_PENDING_GONE) != 0) {
        return NULL;
    }
    return &pending->entries[at];
}

/* Moves what is live to the front. */
static void compact(struct rb_js_pending *pending)
{
    uint32_t to = 0, walked = 0;
    for (uint32_t from = pending->begin; from < pending->end; from++) {
        if (from == pending->walked) {
            walked = to;
        }
        if ((pending->entries[from].flags & RB_JS_PENDING_GONE) == 0) {
            pending->entries[to++] = pending->entries[from];
        }
    }
    pending->walked = pending->walked >= pending->end ? to : walked;
    pending->begin = 0;
    pending->end = to;
}

bool rb_js_pending_reserve(struct rb_js_pending *pending)
{
    if (pending->end < pending->cap) {
        return true;
    }
    if (pending->cap > 0 && pending->live <= pending->cap / 2) {
        compact(pending);
        return true;
    }
    if (pending->cap >= UINT32_MAX / 2) {
        return false;
    }
    uint32_t cap = pending->cap == 0 ? CAP_MIN : pending->cap * 2;
    struct rb_js_pending_entry *grown = rb_realloc(
        pending->budget, pending->entries, pending->cap * sizeof(*grown), cap * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    pending->entries = grown;
    pending->cap = cap;
    return true;
}

struct rb_js_pending_entry *rb_js_pending_add(struct rb_js_pending *pending, uint64_t seq,
                                              uint64_t consumer_seq, uint64_t time_ns,
                                              uint32_t count)
{
    rb_assert(pending->end < pending->cap);
    rb_assert(pending->begin == pending->end || pending->entries[pending->end - 1].seq < seq);
    struct rb_js_pending_entry *entry = &pending->entries[pending->end++];
    *entry = (struct rb_js_pending_entry){ seq, consumer_seq, time_ns, count, 0 };
    pending->live++;
    pending->again += count > 1;
    return entry;
}

void rb_js_pending_drop(struct rb_js_pending *pending, struct rb_js_pending_entry *entry)
{
    rb_assert((entry->flags & RB_JS_PENDING_GONE) == 0);
    pending->live--;
    pending->again -= entry->count > 1;
    pending->acking -= (entry->flags & RB_JS_PENDING_ACKING) != 0;
    entry->flags |= RB_JS_PENDING_GONE;
    while (pending->begin < pending->end &&
           (pending->entries[pending->begin].flags & RB_JS_PENDING_GONE) != 0) {
        pending->begin++;
    }
    if (pending->live == 0) {
        reset(pending);
        if (pending->cap > CAP_KEPT) {
            free_entries(pending);
        }
    } else if (pending->walked < pending->begin) {
        pending->walked = pending->begin;
    }
}

struct rb_js_pending_entry *rb_js_pending_first(const struct rb_js_pending *pending)
{
    return pending->live == 0 ? NULL : &pending->entries[pending->begin];
}

struct rb_js_pending_entry *rb_js_pending_from(const struct rb_js_pending *pending, uint64_t seq)
{
    uint32_t at = lower_bound(pending, seq);
    while (at < pending->end && (pending->entries[at].flags & RB_JS_PENDING_GONE) != 0) {
        at++;
    }
    return at < pending->end ? &pending->entries[at] : NULL;
}

struct rb_js_pending_entry *rb_js_pending_after(const struct rb_js_pending *pending,
                                                const struct rb_js_pending_entry *entry)
{
    uint32_t at = (uint32_t)(entry - pending->entries) + 1;
    while (at < pending->end && (pending->entries[at].flags & RB_JS_PENDING_GONE) != 0) {
        at++;
    }
    return at < pending->end ? &pending->entries[at] : NULL;
}

uint64_t rb_js_pending_wait_ns(const struct rb_js_consumer_config *config, uint32_t count)
{
    if (config->backoff.count == 0 || count == 0) {
        return (uint64_t)config->ack_wait;
    }
    uint32_t at = count <= config->backoff.count ? count - 1 : config->backoff.count - 1;
    return (uint64_t)config->backoff.items[at];
}

static uint64_t due_of(const struct rb_js_pending_entry *entry,
                       const struct rb_js_consumer_config *config)
{
    return entry->time_ns + rb_js_pending_wait_ns(config, entry->count);
}

/* The heap: the earliest first. */

static bool grow_heap(struct rb_js_pending *pending)
{
    if (pending->heap_len < pending->heap_cap) {
        return true;
    }
    uint32_t cap = pending->heap_cap == 0 ? CAP_MIN : pending->heap_cap * 2;
    struct rb_js_pending_due *grown = rb_realloc(
        pending->budget, pending->heap, pending->heap_cap * sizeof(*grown), cap * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    pending->heap = grown;
    pending->heap_cap = cap;
    return true;
}

static void heap_push(struct rb_js_pending *pending, struct rb_js_pending_due due)
{
    if (!grow_heap(pending)) {
        pending->heap_short = true;
        return;
    }
    uint32_t at = pending->heap_len++;
    while (at > 0 && pending->heap[(at - 1) / 2].due_ns > due.due_ns) {
        pending->heap[at] = pending->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    pending->heap[at] = due;
}

static void heap_pop(struct rb_js_pending *pending)
{
    struct rb_js_pending_due last = pending->heap[--pending->heap_len];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= pending->heap_len) {
            break;
        }
        if (child + 1 < pending->heap_len &&
            pending->heap[child + 1].due_ns < pending->heap[child].due_ns) {
            child++;
        }
        if (pending->heap[child].due_ns >= last.due_ns) {
            break;
        }
        pending->heap[at] = pending->heap[child];
        at = child;
    }
    pending->heap[at] = last;
}

static void remake_heap(struct rb_js_pending *pending, const struct rb_js_consumer_config *config)
{
    pending->heap_len = 0;
    pending->heap_short = false;
    for (uint32_t i = pending->begin; i < pending->end; i++) {
        const struct rb_js_pending_entry *entry = &pending->entries[i];
        if ((entry->flags & (RB_JS_PENDING_GONE | RB_JS_PENDING_QUEUED | RB_JS_PENDING_ODD)) ==
            RB_JS_PENDING_ODD) {
            heap_push(pending, (struct rb_js_pending_due){ due_of(entry, config), entry->seq });
        }
    }
}

void rb_js_pending_redelivered(struct rb_js_pending *pending, struct rb_js_pending_entry *entry,
                               uint32_t count)
{
    pending->again += (count > 1) - (entry->count > 1);
    entry->count = count;
}

void rb_js_pending_touch(struct rb_js_pending *pending, struct rb_js_pending_entry *entry,
                         const struct rb_js_consumer_config *config, uint64_t time_ns)
{
    entry->time_ns = time_ns;
    entry->flags = (uint8_t)((entry->flags & ~RB_JS_PENDING_QUEUED) | RB_JS_PENDING_ODD);
    if (pending->heap_len > 64 && pending->heap_len / 4 > pending->live) {
        remake_heap(pending, config); /* mostly stale: much was prolonged again and again */
        return;
    }
    heap_push(pending, (struct rb_js_pending_due){ due_of(entry, config), entry->seq });
}

static struct rb_js_pending_entry *overdue_walk(struct rb_js_pending *pending,
                                                const struct rb_js_consumer_config *config,
                                                uint64_t wall_ns, uint64_t *ret_due_ns)
{
    for (; pending->walked < pending->end; pending->walked++) {
        struct rb_js_pending_entry *entry = &pending->entries[pending->walked];
        if ((entry->flags & (RB_JS_PENDING_GONE | RB_JS_PENDING_QUEUED | RB_JS_PENDING_ODD)) != 0) {
            continue;
        }
        uint64_t due_ns = due_of(entry, config);
        if (due_ns > wall_ns) {
            *ret_due_ns = due_ns;
            return NULL;
        }
        pending->walked++;
        return entry;
    }
    return NULL;
}

static struct rb_js_pending_entry *overdue_heap(struct rb_js_pending *pending,
                                                const struct rb_js_consumer_config *config,
                                                uint64_t wall_ns, uint64_t *ret_due_ns)
{
    if (pending->heap_short) {
        remake_heap(pending, config);
    }
    while (pending->heap_len > 0) {
        struct rb_js_pending_due top = pending->heap[0];
        struct rb_js_pending_entry *entry = rb_js_pending_find(pending, top.seq);
        bool stale = entry == NULL || (entry->flags & RB_JS_PENDING_QUEUED) != 0 ||
                     (entry->flags & RB_JS_PENDING_ODD) == 0 || due_of(entry, config) != top.due_ns;
        if (!stale && top.due_ns > wall_ns) {
            *ret_due_ns = top.due_ns < *ret_due_ns ? top.due_ns : *ret_due_ns;
            return NULL;
        }
        heap_pop(pending);
        if (!stale) {
            return entry;
        }
    }
    return NULL;
}

struct rb_js_pending_entry *rb_js_pending_overdue(struct rb_js_pending *pending,
                                                  const struct rb_js_consumer_config *config,
                                                  uint64_t wall_ns, uint64_t *ret_due_ns)
{
    *ret_due_ns = UINT64_MAX;
    struct rb_js_pending_entry *entry = overdue_walk(pending, config, wall_ns, ret_due_ns);
    if (entry == NULL) {
        entry = overdue_heap(pending, config, wall_ns, ret_due_ns);
    }
    if (entry != NULL) {
        entry->flags |= RB_JS_PENDING_QUEUED;
    }
    return entry;
}

void rb_js_pending_reorder(struct rb_js_pending *pending)
{
    for (uint32_t i = pending->begin; i < pending->end; i++) {
        struct rb_js_pending_entry *entry = &pending->entries[i];
        if ((entry->flags & (RB_JS_PENDING_GONE | RB_JS_PENDING_QUEUED)) == 0) {
            entry->flags |= RB_JS_PENDING_ODD;
        }
    }
    pending->walked = pending->end;
    pending->heap_short = true;
}

bool rb_js_pending_queue(struct rb_js_pending *pending, uint64_t seq)
{
    if (pending->queue_len == pending->queue_cap) {
        uint32_t cap = pending->queue_cap == 0 ? CAP_MIN : pending->queue_cap * 2;
        uint64_t *grown = rb_alloc(pending->budget, cap * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        for (uint32_t i = 0; i < pending->queue_len; i++) {
            grown[i] = pending->queue[(pending->queue_head + i) & (pending->queue_cap - 1)];
        }
        rb_free(pending->budget, pending->queue, pending->queue_cap * sizeof(*grown));
        pending->queue = grown;
        pending->queue_cap = cap;
        pending->queue_head = 0;
    }
    pending->queue[(pending->queue_head + pending->queue_len++) & (pending->queue_cap - 1)] = seq;
    return true;
}

static int compare_seqs(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

void rb_js_pending_queue_sort(struct rb_js_pending *pending, uint32_t count)
{
    if (count < 2) {
        return;
    }
    rb_assert(count <= pending->queue_len);
    uint32_t first = pending->queue_head + pending->queue_len - count,
             mask = pending->queue_cap - 1;
    bool sorted = true;
    for (uint32_t i = 1; i < count && sorted; i++) {
        sorted = pending->queue[(first + i - 1) & mask] <= pending->queue[(first + i) & mask];
    }
    if (sorted) {
        return;
    }
    if ((first & mask) + count > pending->queue_cap) { /* around the end: turn it to the front */
        uint64_t *turned = rb_alloc(pending->budget, pending->queue_cap * sizeof(*turned));
        if (turned == NULL) {
            return; /* out of order is not wrong, only unusual */
        }
        for (uint32_t i = 0; i < pending->queue_len; i++) {
            turned[i] = pending->queue[(pending->queue_head + i) & mask];
        }
        rb_free(pending->budget, pending->queue, pending->queue_cap * sizeof(*turned));
        pending->queue = turned;
        pending->queue_head = 0;
        first = pending->queue_len - count;
    }
    qsort(&pending->queue[first & mask], count, sizeof(uint64_t), compare_seqs);
}

struct rb_js_pending_entry *rb_js_pending_queue_peek(struct rb_js_pending *pending)
{
    while (pending->queue_len > 0) {
        uint64_t seq = pending->queue[pending->queue_head];
        struct rb_js_pending_entry *entry = rb_js_pending_find(pending, seq);
        if (entry != NULL && (entry->flags & RB_JS_PENDING_QUEUED) != 0 &&
            (entry->flags & RB_JS_PENDING_ACKING) == 0) {
            return entry;
        }
        rb_js_pending_queue_pop(pending);
    }
    return NULL;
}

void rb_js_pending_queue_pop(struct rb_js_pending *pending)
{
    rb_assert(pending->queue_len > 0);
    pending->queue_head = (pending->queue_head + 1) & (pending->queue_cap - 1);
    pending->queue_len--;
}

/* Spent: an array in order, few as a rule. */

static uint32_t spent_bound(const struct rb_js_pending *pending, uint64_t seq)
{
    uint32_t low = 0, high = pending->spent_len;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pending->spent[middle].seq < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool rb_js_pending_is_spent(const struct rb_js_pending *pending, uint64_t seq)
{
    uint32_t at = spent_bound(pending, seq);
    return at < pending->spent_len && pending->spent[at].seq == seq;
}

bool rb_js_pending_spend(struct rb_js_pending *pending, uint64_t seq, uint32_t count)
{
    uint32_t at = spent_bound(pending, seq);
    if (at < pending->spent_len && pending->spent[at].seq == seq) {
        pending->spent[at].count = count;
        return true;
    }
    if (pending->spent_len == pending->spent_cap) {
        uint32_t cap = pending->spent_cap == 0 ? CAP_MIN : pending->spent_cap * 2;
        struct rb_js_spent *grown =
            rb_realloc(pending->budget, pending->spent, pending->spent_cap * sizeof(*grown),
                       cap * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        pending->spent = grown;
        pending->spent_cap = cap;
    }
    memmove(&pending->spent[at + 1], &pending->spent[at],
            (pending->spent_len - at) * sizeof(*pending->spent));
    pending->spent[at] = (struct rb_js_spent){ seq, count };
    pending->spent_len++;
    return true;
}

bool rb_js_pending_unspend(struct rb_js_pending *pending, uint64_t seq)
{
    uint32_t at = spent_bound(pending, seq);
    if (at == pending->spent_len || pending->spent[at].seq != seq) {
        return false;
    }
    pending->spent_len--;
    memmove(&pending->spent[at], &pending->spent[at + 1],
            (pending->spent_len - at) * sizeof(*pending->spent));
    if (pending->spent_len == 0) {
        rb_free(pending->budget, pending->spent, pending->spent_cap * sizeof(*pending->spent));
        pending->spent = NULL;
        pending->spent_cap = 0;
    }
    return true;
}
