/* orders.c - orders to the connections of one shard. */
#include "server/orders.h"

#include "core/conn.h"

static struct rb_conn *conn_at(struct rb_list *link)
{
    return RB_CONTAINER(link, struct rb_conn, link_all);
}

/* Takes one off the node's count, unless no more than `limit` are left. */
static bool take_excess(struct rb_core *core, int64_t limit)
{
    int64_t seen = atomic_load_explicit(core->conn_count, memory_order_relaxed);
    while (seen > limit) {
        if (atomic_compare_exchange_weak_explicit(core->conn_count, &seen, seen - 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

/* The newest are at the end of the list; old connections are spared. */
void rb_order_shed(struct rb_shard *shard, int64_t limit, uint64_t count)
{
    struct rb_core *core = rb_shard_core(shard);
    for (struct rb_list *link = core->conns.prev; link != &core->conns && count > 0;
         link = link->prev) {
        struct rb_conn *conn = conn_at(link);
        if (!rb_conn_open(conn) || !conn->counted) {
            continue;
        }
        if (!take_excess(core, limit < 0 ? 0 : limit)) {
            return;
        }
        conn->counted = false;
        count--;
        rb_conn_send_err(conn, "maximum connections exceeded");
        rb_conn_log(conn, RB_LOG_ERR, "maximum connections exceeded");
        rb_conn_want_end(conn, RB_CLOSE_MAX_CONNS, false);
    }
}

void rb_order_tell_info(struct rb_shard *shard)
{
    struct rb_core *core = rb_shard_core(shard);
    for (struct rb_list *link = core->conns.next; link != &core->conns; link = link->next) {
        (void)rb_conn_tell_info(conn_at(link), core->lame_duck);
    }
}

void rb_order_lame_duck(struct rb_shard *shard)
{
    rb_shard_core(shard)->lame_duck = true;
    rb_order_tell_info(shard);
}

bool rb_order_end_one(struct rb_shard *shard)
{
    struct rb_core *core = rb_shard_core(shard);
    for (struct rb_list *link = core->conns.next; link != &core->conns; link = link->next) {
        if (rb_conn_open(conn_at(link))) {
            rb_conn_want_end(conn_at(link), RB_CLOSE_SHUTDOWN, false);
            return true;
        }
    }
    return false;
}

static struct rb_conn *find_conn(struct rb_core *core, uint64_t cid)
{
    for (struct rb_list *link = core->conns.next; link != &core->conns; link = link->next) {
        if (conn_at(link)->cid == cid && rb_conn_open(conn_at(link))) {
            return conn_at(link);
        }
    }
    return NULL;
}

enum rb_order_result rb_order_kick(struct rb_shard *shard, uint64_t cid)
{
    struct rb_conn *conn = find_conn(rb_shard_core(shard), cid);
    if (conn == NULL) {
        return RB_ORDER_UNKNOWN;
    }
    rb_conn_want_end(conn, RB_CLOSE_KICKED, false);
    return RB_ORDER_DONE;
}

enum rb_order_result rb_order_send_away(struct rb_shard *shard, uint64_t cid)
{
    struct rb_conn *conn = find_conn(rb_shard_core(shard), cid);
    if (conn == NULL) {
        return RB_ORDER_UNKNOWN;
    }
    return rb_conn_tell_info(conn, true) ? RB_ORDER_DONE : RB_ORDER_UNABLE;
}
