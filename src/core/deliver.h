/* deliver.h - fan-out: from one message to the connections and shards that want it. */
#pragma once

#include "core/core.h"

/** A message published in `account` on this shard: local subscribers, one member of each queue group, other shards, imports. True
 *  if anybody got it. */
bool rb_deliver_publish(struct rb_account *account, const struct rb_msg *msg);
/** A message from another shard: every plain subscriber here, and one member of each queue named. */
void rb_deliver_mail(struct rb_account *account, const struct rb_msg *msg,
                     const struct rb_slice *queues, uint32_t queue_count);
/** rb_deliver_publish, and rb_deliver_mail, of a message with `trace`. */
bool rb_deliver_traced(struct rb_account *account, const struct rb_msg *msg);
void rb_deliver_traced_mail(struct rb_account *account, const struct rb_msg *msg,
                            const struct rb_slice *queues, uint32_t queue_count);
/** The 503 for a request that nobody received. */
void rb_deliver_no_responders(struct rb_conn *conn, struct rb_slice reply, struct rb_slice subject);
