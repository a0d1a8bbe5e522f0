#include "server/closed.h"

#include <string.h>

#include "core/conn.h"

#define SUBS_KEPT_MAX 1024 /* of one connection */

void rb_closed_init(struct rb_closed *closed, struct rb_budget *budget, uint32_t cap)
{
    *closed = (struct rb_closed){ .budget = budget, .cap = cap };
}

void rb_closed_deinit(struct rb_closed *closed)
{
    for (uint32_t i = 0; i < closed->count; i++) {
        struct rb_closed_conn *entry = (struct rb_closed_conn *)(uintptr_t)rb_closed_at(closed, i);
        rb_free(closed->budget, entry, entry->bytes);
    }
    rb_free(closed->budget, closed->ring, closed->cap * sizeof(struct rb_closed_conn *));
    closed->ring = NULL;
    closed->count = 0;
}

const struct rb_closed_conn *rb_closed_at(const struct rb_closed *closed, uint32_t i)
{
    uint32_t oldest = closed->count < closed->cap ? 0 : closed->next;
    return closed->ring[(oldest + i) % closed->cap];
}

static size_t text_bytes(const struct rb_conn_snapshot *conn)
{
    return conn->name.len + conn->lang.len + conn->version.len + conn->account_name.len +
           conn->user.len + conn->proxy_key.len;
}

static struct rb_slice move(struct rb_writer *out, struct rb_slice text)
{
    struct rb_slice copy = rb_slice_of(out->at, text.len);
    rb_write_slice(out, text);
    return copy;
}

static size_t subs_bytes(const struct rb_conn *conn, uint32_t *ret_count)
{
    size_t bytes = 0;
    uint32_t at = 0, count = 0;
    for (const struct rb_sub *sub;
         count < SUBS_KEPT_MAX && (sub = rb_map_next(&conn->subs, &at)) != NULL; count++) {
        bytes += sizeof(struct rb_sub_snapshot) + sub->sid_len + rb_sublist_subject(&sub->ref).len +
                 rb_sublist_queue(&sub->ref).len;
    }
    *ret_count = count;
    return bytes;
}

static void copy_subs(const struct rb_conn *conn, struct rb_sub_snapshot *subs, uint32_t count,
                      struct rb_writer *out)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct rb_sub *sub = rb_map_next(&conn->subs, &at);
        subs[i] = (struct rb_sub_snapshot){ .subject = move(out, rb_sublist_subject(&sub->ref)),
                                            .queue = move(out, rb_sublist_queue(&sub->ref)),
                                            .sid = move(out, rb_slice_of(sub->sid, sub->sid_len)),
                                            .cid = conn->cid,
                                            .msgs = sub->delivered,
                                            .max = sub->max,
                                            .account = conn->account->id };
    }
}

static bool need_ring(struct rb_closed *closed)
{
    if (closed->ring == NULL && closed->cap > 0) {
        closed->ring = rb_alloc(closed->budget, closed->cap * sizeof(struct rb_closed_conn *));
    }
    return closed->ring != NULL;
}

void rb_closed_add(struct rb_closed *closed, const struct rb_conn *conn)
{
    struct rb_conn_snapshot shown;
    uint32_t sub_count;
    rb_conn_describe(conn, &shown);
    size_t bytes =
        sizeof(struct rb_closed_conn) + text_bytes(&shown) + subs_bytes(conn, &sub_count);
    struct rb_closed_conn *entry = need_ring(closed) ? rb_alloc(closed->budget, bytes) : NULL;
    if (entry == NULL) {
        return;
    }
    struct rb_sub_snapshot *subs = (struct rb_sub_snapshot *)(entry + 1);
    size_t head = sizeof(*entry) + sub_count * sizeof(*subs);
    struct rb_writer out = rb_writer_over((uint8_t *)entry + head, bytes - head);
    entry->bytes = bytes;
    entry->conn = shown;
    entry->conn.reason = rb_close_reason_text((enum rb_close_reason)conn->end_reason);
    entry->conn.stop_wall_ns = conn->core->env->wall_ns(conn->core->env->ctx);
    entry->conn.pending_bytes = 0;
    struct rb_slice *texts[] = { &entry->conn.name,    &entry->conn.lang,
                                 &entry->conn.version, &entry->conn.account_name,
                                 &entry->conn.user,    &entry->conn.proxy_key };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        *texts[i] = move(&out, *texts[i]);
    }
    entry->conn.sub_count = sub_count;
    entry->conn.subs = subs;
    copy_subs(conn, subs, sub_count, &out);
    if (closed->count == closed->cap) {
        struct rb_closed_conn *oldest = closed->ring[closed->next];
        rb_free(closed->budget, oldest, oldest->bytes);
    } else {
        closed->count++;
    }
    closed->ring[closed->next] = entry;
    closed->next = (closed->next + 1) % closed->cap;
}
