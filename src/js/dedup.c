/* dedup.c - see dedup.h. An id is one block: its entry and its bytes. */
#include "js/dedup.h"

#include "js/saved.h"
#include "ringbus/check.h"

struct seen {
    struct rb_list link;
    uint64_t time_ns, seq;
    uint32_t len;
    uint8_t id[];
};

static bool seen_equal(const void *item, struct rb_slice key)
{
    const struct seen *seen = item;
    return rb_slice_equal(rb_slice_of(seen->id, seen->len), key);
}

static uint64_t seen_hash(const void *item)
{
    const struct seen *seen = item;
    return rb_slice_hash(rb_slice_of(seen->id, seen->len));
}

void rb_js_dedup_init(struct rb_js_dedup *dedup, struct rb_js_pools *pools)
{
    dedup->pools = pools;
    rb_list_init(&dedup->order);
    rb_map_init(&dedup->map, pools->budget, 0, seen_equal, seen_hash);
}

static void drop(struct rb_js_dedup *dedup, struct seen *seen)
{
    rb_list_remove(&seen->link);
    bool found = rb_map_remove(&dedup->map, seen_hash(seen), seen);
    rb_assert(found);
    rb_js_pools_give(dedup->pools, seen, sizeof(*seen) + seen->len);
}

void rb_js_dedup_deinit(struct rb_js_dedup *dedup)
{
    rb_js_dedup_forget(dedup, UINT64_MAX);
    rb_map_deinit(&dedup->map);
}

uint64_t rb_js_dedup_find(const struct rb_js_dedup *dedup, struct rb_slice id)
{
    const struct seen *seen = rb_map_find(&dedup->map, rb_slice_hash(id), id);
    return seen == NULL ? 0 : seen->seq;
}

bool rb_js_dedup_add(struct rb_js_dedup *dedup, struct rb_slice id, uint64_t seq, uint64_t time_ns)
{
    struct seen *seen = rb_js_pools_take(dedup->pools, sizeof(*seen) + id.len);
    if (seen == NULL) {
        return false;
    }
    seen->time_ns = time_ns;
    seen->seq = seq;
    seen->len = (uint32_t)id.len;
    if (id.len > 0) {
        memcpy(seen->id, id.ptr, id.len);
    }
    if (rb_map_insert(&dedup->map, rb_slice_hash(id), seen) != RB_OK) {
        rb_js_pools_give(dedup->pools, seen, sizeof(*seen) + id.len);
        return false;
    }
    rb_list_append(&dedup->order, &seen->link);
    return true;
}

void rb_js_dedup_forget(struct rb_js_dedup *dedup, uint64_t time_ns)
{
    while (!rb_list_empty(&dedup->order)) {
        struct seen *seen = RB_CONTAINER(dedup->order.next, struct seen, link);
        if (seen->time_ns > time_ns) {
            return;
        }
        drop(dedup, seen);
    }
}

uint64_t rb_js_dedup_oldest(const struct rb_js_dedup *dedup)
{
    return rb_list_empty(&dedup->order)
               ? UINT64_MAX
               : RB_CONTAINER(dedup->order.next, struct seen, link)->time_ns;
}

void rb_js_dedup_save(const struct rb_js_dedup *dedup, struct rb_out *out)
{
    rb_js_put_number(out, dedup->map.count);
    for (struct rb_list *link = dedup->order.next; link != &dedup->order; link = link->next) {
        const struct seen *seen = RB_CONTAINER(link, struct seen, link);
        rb_js_put_number(out, seen->time_ns);
        rb_js_put_number(out, seen->seq);
        rb_js_put_text(out, rb_slice_of(seen->id, seen->len));
    }
}

enum rb_err rb_js_dedup_load(struct rb_js_dedup *dedup, struct rb_reader *reader)
{
    uint64_t count = rb_read_u64(reader);
    for (uint64_t i = 0; i < count && rb_reader_ok(reader); i++) {
        uint64_t time_ns = rb_read_u64(reader), seq = rb_read_u64(reader);
        struct rb_slice id = rb_js_get_text(reader);
        if (!rb_reader_ok(reader) || rb_js_dedup_find(dedup, id) != 0) {
            return RB_ERR_CORRUPT;
        }
        if (!rb_js_dedup_add(dedup, id, seq, time_ns)) {
            return RB_ERR_MEMORY;
        }
    }
    return rb_reader_ok(reader) ? RB_OK : RB_ERR_CORRUPT;
}
