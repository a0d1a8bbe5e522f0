/* expiry.c - see expiry.h. */
#include "js/expiry.h"

#include <string.h>

#include "js/saved.h"

void rb_js_expiry_init(struct rb_js_expiry *expiry, struct rb_budget *budget)
{
    *expiry = (struct rb_js_expiry){ .budget = budget };
}

static void free_seqs(struct rb_js_expiry *expiry, struct rb_js_seqs *seqs)
{
    rb_free(expiry->budget, seqs->items, seqs->cap * sizeof(uint64_t));
}

void rb_js_expiry_deinit(struct rb_js_expiry *expiry)
{
    rb_free(expiry->budget, expiry->heap, expiry->heap_cap * sizeof(struct rb_js_due));
    free_seqs(expiry, &expiry->forever);
    free_seqs(expiry, &expiry->quiet);
}

/* ---- ascending sequences ---- */

static bool add_seq(struct rb_js_expiry *expiry, struct rb_js_seqs *seqs, uint64_t seq)
{
    if (seqs->end == seqs->cap && seqs->begin > seqs->cap / 2) {
        memmove(seqs->items, seqs->items + seqs->begin,
                (seqs->end - seqs->begin) * sizeof(uint64_t));
        seqs->end -= seqs->begin;
        seqs->begin = 0;
    }
    if (seqs->end == seqs->cap) {
        uint32_t cap = seqs->cap == 0 ? 16 : 2 * seqs->cap;
        uint64_t *items = rb_realloc(expiry->budget, seqs->items, seqs->cap * sizeof(uint64_t),
                                     cap * sizeof(uint64_t));
        if (items == NULL) {
            return false;
        }
        seqs->items = items;
        seqs->cap = cap;
    }
    seqs->items[seqs->end++] = seq;
    return true;
}

static bool has_seq(const struct rb_js_seqs *seqs, uint64_t seq)
{
    uint32_t low = seqs->begin, high = seqs->end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (seqs->items[middle] < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < seqs->end && seqs->items[low] == seq;
}

static void sweep_seqs(struct rb_js_seqs *seqs, const struct rb_msgstore *store)
{
    struct rb_msgstore_entry entry;
    uint32_t kept = seqs->begin;
    for (uint32_t i = seqs->begin; i < seqs->end; i++) {
        if (rb_msgstore_find(store, seqs->items[i], &entry)) {
            seqs->items[kept++] = seqs->items[i];
        }
    }
    seqs->end = kept;
}

bool rb_js_expiry_add_forever(struct rb_js_expiry *expiry, uint64_t seq)
{
    return add_seq(expiry, &expiry->forever, seq);
}

bool rb_js_expiry_add_quiet(struct rb_js_expiry *expiry, uint64_t seq)
{
    return add_seq(expiry, &expiry->quiet, seq);
}

bool rb_js_expiry_is_quiet(const struct rb_js_expiry *expiry, uint64_t seq)
{
    return has_seq(&expiry->quiet, seq);
}

/* ---- the heap ---- */

static bool before(const struct rb_js_due *a, const struct rb_js_due *b)
{
    return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->seq < b->seq);
}

static void sift_down(struct rb_js_expiry *expiry, uint32_t at)
{
    struct rb_js_due item = expiry->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= expiry->heap_len) {
            break;
        }
        if (child + 1 < expiry->heap_len &&
            before(&expiry->heap[child + 1], &expiry->heap[child])) {
            child++;
        }
        if (!before(&expiry->heap[child], &item)) {
            break;
        }
        expiry->heap[at] = expiry->heap[child];
        at = child;
    }
    expiry->heap[at] = item;
}

bool rb_js_expiry_add(struct rb_js_expiry *expiry, uint64_t due_ns, uint64_t seq)
{
    if (expiry->heap_len == expiry->heap_cap) {
        uint32_t cap = expiry->heap_cap == 0 ? 16 : 2 * expiry->heap_cap;
        struct rb_js_due *heap = rb_realloc(expiry->budget, expiry->heap,
                                            expiry->heap_cap * sizeof(*heap), cap * sizeof(*heap));
        if (heap == NULL) {
            return false;
        }
        expiry->heap = heap;
        expiry->heap_cap = cap;
    }
    struct rb_js_due item = { due_ns, seq };
    uint32_t at = expiry->heap_len++;
    while (at > 0 && before(&item, &expiry->heap[(at - 1) / 2])) {
        expiry->heap[at] = expiry->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    expiry->heap[at] = item;
    return true;
}

static void pop(struct rb_js_expiry *expiry)
{
    expiry->heap[0] = expiry->heap[--expiry->heap_len];
    if (expiry->heap_len > 0) {
        sift_down(expiry, 0);
    }
}

/* ---- what is due ---- */

/* Oldest message that max_age applies to; its time in *ret_ns. 0: none. */
static uint64_t oldest(struct rb_js_expiry *expiry, const struct rb_msgstore *store,
                       uint64_t *ret_ns)
{
    struct rb_msgstore_entry entry;
    for (;;) {
        uint64_t seq = rb_msgstore_next(store, expiry->age_seq);
        if (seq == 0 || !rb_msgstore_find(store, seq, &entry)) {
            return 0;
        }
        expiry->age_seq = seq;
        if (!has_seq(&expiry->forever, seq)) {
            *ret_ns = entry.time_ns;
            return seq;
        }
        expiry->age_seq = seq + 1;
    }
}

uint64_t rb_js_expiry_next(struct rb_js_expiry *expiry, const struct rb_msgstore *store,
                           uint64_t now_ns, uint64_t max_age_ns)
{
    struct rb_msgstore_entry entry;
    while (expiry->heap_len > 0 && expiry->heap[0].due_ns <= now_ns) {
        uint64_t seq = expiry->heap[0].seq;
        pop(expiry);
        if (rb_msgstore_find(store, seq, &entry)) {
            return seq;
        }
    }
    uint64_t time_ns = 0;
    uint64_t seq = max_age_ns == 0 ? 0 : oldest(expiry, store, &time_ns);
    return seq != 0 && time_ns + max_age_ns <= now_ns ? seq : 0;
}

uint64_t rb_js_expiry_due(struct rb_js_expiry *expiry, const struct rb_msgstore *store,
                          uint64_t max_age_ns)
{
    struct rb_msgstore_entry entry;
    while (expiry->heap_len > 0 && !rb_msgstore_find(store, expiry->heap[0].seq, &entry)) {
        pop(expiry);
    }
    uint64_t due = expiry->heap_len > 0 ? expiry->heap[0].due_ns : UINT64_MAX;
    uint64_t time_ns = 0;
    if (max_age_ns != 0 && oldest(expiry, store, &time_ns) != 0 && time_ns + max_age_ns < due) {
        due = time_ns + max_age_ns;
    }
    return due;
}

void rb_js_expiry_again(struct rb_js_expiry *expiry)
{
    expiry->age_seq = 0;
}

void rb_js_expiry_sweep(struct rb_js_expiry *expiry, const struct rb_msgstore *store)
{
    struct rb_msgstore_entry entry;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < expiry->heap_len; i++) {
        if (rb_msgstore_find(store, expiry->heap[i].seq, &entry)) {
            expiry->heap[kept++] = expiry->heap[i];
        }
    }
    expiry->heap_len = kept;
    for (uint32_t i = kept / 2; i-- > 0;) {
        sift_down(expiry, i);
    }
    sweep_seqs(&expiry->forever, store);
    sweep_seqs(&expiry->quiet, store);
}

static void save_seqs(const struct rb_js_seqs *seqs, struct rb_out *out)
{
    rb_js_put_number(out, seqs->end - seqs->begin);
    for (uint32_t i = seqs->begin; i < seqs->end; i++) {
        rb_js_put_number(out, seqs->items[i]);
    }
}

void rb_js_expiry_save(const struct rb_js_expiry *expiry, struct rb_out *out)
{
    rb_js_put_number(out, expiry->heap_len);
    for (uint32_t i = 0; i < expiry->heap_len; i++) {
        rb_js_put_number(out, expiry->heap[i].due_ns);
        rb_js_put_number(out, expiry->heap[i].seq);
    }
    save_seqs(&expiry->forever, out);
    save_seqs(&expiry->quiet, out);
}

static enum rb_err load_seqs(struct rb_js_expiry *expiry, struct rb_js_seqs *seqs,
                             struct rb_reader *reader)
{
    uint64_t count = rb_read_u64(reader), last = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t seq = rb_read_u64(reader);
        if (!rb_reader_ok(reader) || seq <= last) {
            return RB_ERR_CORRUPT;
        }
        last = seq;
        if (!add_seq(expiry, seqs, seq)) {
            return RB_ERR_MEMORY;
        }
    }
    return rb_reader_ok(reader) ? RB_OK : RB_ERR_CORRUPT;
}

enum rb_err rb_js_expiry_load(struct rb_js_expiry *expiry, struct rb_reader *reader)
{
    uint64_t count = rb_read_u64(reader);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t due_ns = rb_read_u64(reader), seq = rb_read_u64(reader);
        if (!rb_reader_ok(reader)) {
            return RB_ERR_CORRUPT;
        }
        if (!rb_js_expiry_add(expiry, due_ns, seq)) {
            return RB_ERR_MEMORY;
        }
    }
    enum rb_err err = load_seqs(expiry, &expiry->forever, reader);
    return err == RB_OK ? load_seqs(expiry, &expiry->quiet, reader) : err;
}
