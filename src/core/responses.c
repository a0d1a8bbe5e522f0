/* responses.c - allow_responses: which reply subjects a connection may publish to, because a message brought them.
 *
 * Entries are in the order they came, so the oldest expire first; at most ENTRIES_MAX, then the oldest goes. How many answers,
 * and for how long, is what the permissions say when an answer comes: a reload may have changed that, or taken it away.
 */
#include "core/conn.h"

#include "core/perms.h"
#include "ringbus/check.h"

#define ENTRIES_MAX 16384

struct entry {
    struct rb_list link;
    uint64_t since_ns;
    int64_t used;
    uint32_t reply_len;
    uint8_t reply[];
};

struct rb_responses {
    struct rb_map map;
    struct rb_list order;
};

static bool entry_equal(const void *item, struct rb_slice key)
{
    const struct entry *entry = item;
    return rb_slice_equal(rb_slice_of(entry->reply, entry->reply_len), key);
}

static uint64_t entry_hash(const void *item)
{
    const struct entry *entry = item;
    return rb_slice_hash(rb_slice_of(entry->reply, entry->reply_len));
}

static void remove_entry(struct rb_conn *conn, struct entry *entry)
{
    bool found = rb_map_remove(&conn->responses->map, entry_hash(entry), entry);
    rb_assert(found);
    rb_list_remove(&entry->link);
    rb_free(conn->core->budget, entry, sizeof(*entry) + entry->reply_len);
}

static bool expired(const struct rb_conn *conn, const struct entry *entry, int64_t ttl_ns)
{
    return ttl_ns >= 0 && conn->core->now_ns >= entry->since_ns + (uint64_t)ttl_ns;
}

static void prune(struct rb_conn *conn, int64_t ttl_ns)
{
    struct rb_responses *responses = conn->responses;
    while (!rb_list_empty(&responses->order)) {
        struct entry *oldest = RB_CONTAINER(responses->order.next, struct entry, link);
        if (!expired(conn, oldest, ttl_ns) && responses->map.count < ENTRIES_MAX) {
            return;
        }
        remove_entry(conn, oldest);
    }
}

static bool need_table(struct rb_conn *conn)
{
    if (conn->responses == NULL) {
        conn->responses = rb_alloc(conn->core->budget, sizeof(*conn->responses));
        if (conn->responses == NULL) {
            return false;
        }
        rb_map_init(&conn->responses->map, conn->core->budget, 0, entry_equal, entry_hash);
        rb_list_init(&conn->responses->order);
    }
    return true;
}

void rb_conn_allow_response(struct rb_conn *conn, struct rb_slice reply)
{
    int64_t max, ttl_ns;
    if (!rb_perms_responses(conn->perms, &max, &ttl_ns) || !need_table(conn)) {
        return;
    }
    prune(conn, ttl_ns);
    struct rb_responses *responses = conn->responses;
    struct entry *entry = rb_map_find(&responses->map, rb_slice_hash(reply), reply);
    if (entry == NULL) {
        entry = rb_alloc(conn->core->budget, sizeof(*entry) + reply.len);
        if (entry == NULL) {
            return;
        }
        entry->reply_len = (uint32_t)reply.len;
        memcpy(entry->reply, reply.ptr, reply.len);
        if (rb_map_insert(&responses->map, entry_hash(entry), entry) != RB_OK) {
            rb_free(conn->core->budget, entry, sizeof(*entry) + reply.len);
            return;
        }
    } else {
        rb_list_remove(&entry->link);
    }
    rb_list_append(&responses->order, &entry->link);
    entry->used = 0;
    entry->since_ns = conn->core->now_ns;
}

bool rb_conn_use_response(struct rb_conn *conn, struct rb_slice subject)
{
    int64_t max, ttl_ns;
    if (conn->responses == NULL || !rb_perms_responses(conn->perms, &max, &ttl_ns)) {
        return false;
    }
    struct entry *entry = rb_map_find(&conn->responses->map, rb_slice_hash(subject), subject);
    if (entry == NULL) {
        return false;
    }
    entry->used++;
    bool allowed = !expired(conn, entry, ttl_ns) && (max < 0 || entry->used <= max);
    if (!allowed || entry->used == max) {
        remove_entry(conn, entry);
    }
    return allowed;
}

void rb_conn_drop_responses(struct rb_conn *conn)
{
    struct rb_responses *responses = conn->responses;
    if (responses == NULL) {
        return;
    }
    while (!rb_list_empty(&responses->order)) {
        remove_entry(conn, RB_CONTAINER(responses->order.next, struct entry, link));
    }
    rb_map_deinit(&responses->map);
    rb_free(conn->core->budget, responses, sizeof(*responses));
    conn->responses = NULL;
}
