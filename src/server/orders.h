/* orders.h - what is done to connections from outside of them: by a reload, lame duck mode, an administrator. On the thread
 * of the shard they belong to, in a task. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/shard.h"

/** Ends `count` connections of this shard, but none once the node has no more than `limit`: `maximum connections exceeded`. */
void rb_order_shed(struct rb_shard *shard, int64_t limit, uint64_t count);
/** INFO to every client that understands it and has seen its first PONG. */
void rb_order_tell_info(struct rb_shard *shard);
/** From now on INFO says ldm; told to clients at once. */
void rb_order_lame_duck(struct rb_shard *shard);
/** Ends one connection, the oldest first, without a word. False: there is none. */
bool rb_order_end_one(struct rb_shard *shard);

enum rb_order_result {
    RB_ORDER_UNKNOWN, /* no client with that id here */
    RB_ORDER_DONE,
    RB_ORDER_UNABLE, /* the client cannot be told (protocol 0, or it has not seen its first PONG) */
};
/** Ends the client ("Kicked"). */
enum rb_order_result rb_order_kick(struct rb_shard *shard, uint64_t cid);
/** Tells one client to go elsewhere: INFO with ldm. */
enum rb_order_result rb_order_send_away(struct rb_shard *shard, uint64_t cid);
