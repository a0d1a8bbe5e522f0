/* account_ids.h - numbers for accounts by name: given once, the same for as long as the node lives. */
#pragma once

#include "auth/policy.h"
#include "core/core.h"
#include "ringbus/errors.h"

struct rb_account_ids {
    struct rb_slice *names; /* [id], allocated */
    uint32_t count, cap;
};

/**
 * Sets the ids of a policy that no shard has seen yet, and makes room for their counters in `table`.
 * Errors: RB_ERR_FULL (more than RB_ACCOUNTS_MAX names in this node's life), RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_account_ids_assign(struct rb_account_ids *ids,
                                                struct rb_account_table *table,
                                                const struct rb_policy *policy);
/** The id of a name, which is in no policy, or not in the latest one. Errors as above. */
RB_MUST_CHECK enum rb_err rb_account_ids_name(struct rb_account_ids *ids,
                                              struct rb_account_table *table, struct rb_slice name,
                                              uint32_t *ret_id);
void rb_account_ids_deinit(struct rb_account_ids *ids, struct rb_account_table *table);
