/* closed.h - the last connections that ended on one shard, for /connz?state=closed. */
#pragma once

#include "ringbus/mem.h"
#include "server/snapshot.h"

struct rb_conn;

/** Slices, and the subscriptions, lie behind the struct. */
struct rb_closed_conn {
    size_t bytes;
    struct rb_conn_snapshot conn;
};

struct rb_closed {
    struct rb_budget *budget;
    struct rb_closed_conn **ring; /* allocated when the first one ends */
    uint32_t cap, count, next;
};

void rb_closed_init(struct rb_closed *closed, struct rb_budget *budget, uint32_t cap);
void rb_closed_deinit(struct rb_closed *closed);
/** A connection that is about to end, its subscriptions still there. Without memory it is forgotten. */
void rb_closed_add(struct rb_closed *closed, const struct rb_conn *conn);
/** Oldest first, i < count. */
const struct rb_closed_conn *rb_closed_at(const struct rb_closed *closed, uint32_t i);

/** Fills everything that a live connection shows; slices point into it. */
void rb_conn_describe(const struct rb_conn *conn, struct rb_conn_snapshot *out);
