/* perms.h - a user's permissions, ready to be asked: one per (shard, user), shared by the user's connections.
 *
 * Lists of a policy become tables here; answers for publish subjects are cached per shard and subject hash.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "auth/policy.h"
#include "ringbus/errors.h"
#include "ringbus/mem.h"

struct rb_perms;

/** Copies what it needs of `permissions`. One count. RB_ERR_MEMORY. Thread: one shard's, as all calls. */
RB_MUST_CHECK enum rb_err rb_perms_create(struct rb_budget *budget,
                                          const struct rb_permissions *permissions,
                                          struct rb_perms **ret_perms);
struct rb_perms *rb_perms_hold(struct rb_perms *perms);
void rb_perms_release(struct rb_perms *perms); /* NULL is allowed */

/** NULL permits everything in all three. `subject` of a publish is literal (or whatever a client sent: wildcards match as text). */
bool rb_perms_publish(struct rb_perms *perms, struct rb_slice subject);
enum rb_perms_sub {
    RB_SUB_DENIED,
    RB_SUB_ALLOWED,
    RB_SUB_FILTERED, /* allowed, but a deny overlaps: ask rb_perms_deliver for each message */
};
enum rb_perms_sub rb_perms_subscribe(struct rb_perms *perms, struct rb_slice subject,
                                     struct rb_slice queue);
/** For RB_SUB_FILTERED: may a message on `subject` go to this subscriber? */
bool rb_perms_deliver(struct rb_perms *perms, struct rb_slice subject, struct rb_slice queue);

bool rb_perms_responses(const struct rb_perms *perms, int64_t *ret_max, int64_t *ret_ttl_ns);
/** What it was made of, for $SYS.REQ.USER.INFO and monitoring; borrowed. */
const struct rb_permissions *rb_perms_source(const struct rb_perms *perms);
bool rb_permissions_equal(const struct rb_permissions *a, const struct rb_permissions *b);
