#include "server/account_ids.h"

#include <stdlib.h>
#include <string.h>

static bool need_block(struct rb_account_table *table, uint32_t id)
{
    _Atomic(struct rb_account_shared *) *block = &table->blocks[id / RB_ACCOUNT_BLOCK];
    if (atomic_load(block) == NULL) {
        struct rb_account_shared *fresh = calloc(RB_ACCOUNT_BLOCK, sizeof(*fresh));
        if (fresh == NULL) {
            return false;
        }
        atomic_store_explicit(block, fresh, memory_order_release);
    }
    return true;
}

static enum rb_err add_name(struct rb_account_ids *ids, struct rb_slice name)
{
    if (ids->count == RB_ACCOUNTS_MAX) {
        return RB_ERR_FULL;
    }
    if (ids->count == ids->cap) {
        uint32_t cap = ids->cap == 0 ? 64 : ids->cap * 2;
        struct rb_slice *names = realloc(ids->names, cap * sizeof(*names));
        if (names == NULL) {
            return RB_ERR_MEMORY;
        }
        ids->names = names;
        ids->cap = cap;
    }
    uint8_t *copy = malloc(name.len + 1);
    if (copy == NULL) {
        return RB_ERR_MEMORY;
    }
    memcpy(copy, name.ptr, name.len);
    ids->names[ids->count++] = rb_slice_of(copy, name.len);
    return RB_OK;
}

static enum rb_err give_id(struct rb_account_ids *ids, struct rb_account_table *table,
                           struct rb_slice name, uint32_t *ret_id)
{
    enum rb_err err = add_name(ids, name);
    if (err == RB_OK && !need_block(table, ids->count - 1)) {
        err = RB_ERR_MEMORY;
    }
    if (err == RB_OK) {
        *ret_id = ids->count - 1;
    }
    return err;
}

enum rb_err rb_account_ids_assign(struct rb_account_ids *ids, struct rb_account_table *table,
                                  const struct rb_policy *policy)
{
    /* Written here once, before anybody else reads it (policy.h, invariant 3). */
    struct rb_policy_account *accounts = (struct rb_policy_account *)(uintptr_t)policy->accounts;
    for (uint32_t i = 0; i < policy->account_count; i++) {
        accounts[i].id = UINT32_MAX;
    }
    for (uint32_t id = 0; id < ids->count; id++) {
        int32_t index = rb_policy_account_by_name(policy, ids->names[id]);
        if (index >= 0) {
            accounts[index].id = id;
        }
    }
    for (uint32_t i = 0; i < policy->account_count; i++) {
        if (accounts[i].id != UINT32_MAX) {
            continue;
        }
        enum rb_err err = give_id(ids, table, accounts[i].name, &accounts[i].id);
        if (err != RB_OK) {
            return err;
        }
    }
    return RB_OK;
}

enum rb_err rb_account_ids_name(struct rb_account_ids *ids, struct rb_account_table *table,
                                struct rb_slice name, uint32_t *ret_id)
{
    for (uint32_t id = 0; id < ids->count; id++) {
        if (rb_slice_equal(ids->names[id], name)) {
            *ret_id = id;
            return RB_OK;
        }
    }
    return give_id(ids, table, name, ret_id);
}

void rb_account_ids_deinit(struct rb_account_ids *ids, struct rb_account_table *table)
{
    for (uint32_t i = 0; i < ids->count; i++) {
        free((void *)(uintptr_t)ids->names[i].ptr);
    }
    free(ids->names);
    for (uint32_t i = 0; i < RB_ACCOUNTS_MAX / RB_ACCOUNT_BLOCK; i++) {
        free(atomic_load(&table->blocks[i]));
    }
    *ids = (struct rb_account_ids){ 0 };
}
