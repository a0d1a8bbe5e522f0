/* policy.c - the policy's count, its indexes and its plain questions.
 *
 * 1. Look-ups go through indexes that rb_policy_seal builds once: a policy is read by all shards at the same time, so
 *    nothing is built when it is first asked for.
 * 2. An index holds no keys: a hit is compared with the name in the array it points to. It is at most half full, so a
 *    probe ends soon, and always.
 * 3. The last count frees the arena, and with it the policy itself.
 */
#include "auth/policy.h"

#include <stdlib.h>

#include "auth/dn.h"
#include "auth/password.h"

#define ARENA_BLOCK_BYTES (16 * 1024)

enum rb_err rb_policy_create(struct rb_policy **ret_policy)
{
    struct rb_arena *arena;
    enum rb_err err = rb_arena_create(ARENA_BLOCK_BYTES, &arena);
    if (err != RB_OK) {
        return err;
    }
    struct rb_policy *policy = rb_arena_take(arena, sizeof(*policy));
    if (policy == NULL) {
        rb_arena_destroy(arena);
        return RB_ERR_MEMORY;
    }
    atomic_init(&policy->ref_count, 1);
    policy->arena = arena;
    policy->system_account = -1;
    policy->login.no_auth_user = policy->websocket_login.no_auth_user = -1;
    *ret_policy = policy;
    return RB_OK;
}

void rb_policy_release(const struct rb_policy *policy)
{
    if (policy == NULL) {
        return;
    }
    struct rb_policy *mine = (struct rb_policy *)(uintptr_t)policy;
    uint32_t before = atomic_fetch_sub_explicit(&mine->ref_count, 1, memory_order_acq_rel);
    rb_assert(before > 0);
    if (before == 1) {
        rb_arena_destroy(mine->arena); /* invariant 3 */
    }
}

/* ------------------------------------------------------------------ building the indexes */

/* The names an index is made of. */
enum key_kind { KEY_USER, KEY_NKEY, KEY_ACCOUNT };

static struct rb_slice key_of(const struct rb_policy *policy, enum key_kind kind, uint32_t at)
{
    switch (kind) {
    case KEY_USER:
        return policy->users[at].name;
    case KEY_NKEY:
        return policy->users[at].nkey;
    case KEY_ACCOUNT:
        return policy->accounts[at].name;
    }
    rb_unreachable("no other kind");
}

static enum rb_err build_index(struct rb_policy *policy, enum key_kind kind, uint32_t count,
                               struct rb_policy_index *index)
{
    uint32_t cap = 4;
    while (cap / 2 < count) {
        cap *= 2;
    }
    uint32_t *slots = rb_arena_take(policy->arena, (size_t)cap * sizeof(*slots));
    if (slots == NULL) {
        return RB_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct rb_slice key = key_of(policy, kind, i);
        if (key.len == 0) {
            continue;
        }
        uint32_t at = (uint32_t)rb_slice_hash(key) & (cap - 1);
        while (slots[at] != 0 && !rb_slice_equal(key_of(policy, kind, slots[at] - 1), key)) {
            at = (at + 1) & (cap - 1);
        }
        if (slots[at] == 0) {
            slots[at] = i + 1;
        }
    }
    *index = (struct rb_policy_index){ .slots = slots, .mask = cap - 1 };
    return RB_OK;
}

static int compare_dns(const void *left, const void *right)
{
    const struct rb_policy_dn *a = left, *b = right;
    if (a->hash != b->hash) {
        return a->hash < b->hash ? -1 : 1;
    }
    return a->user < b->user ? -1 : a->user > b->user;
}

/* Only names with a "=" can be distinguished names; that spares the room for all others. */
static enum rb_err build_dns(struct rb_policy *policy)
{
    uint32_t room = 0;
    for (uint32_t i = 0; i < policy->user_count; i++) {
        struct rb_slice name = policy->users[i].name;
        room += name.len > 0 && memchr(name.ptr, '=', name.len) != NULL;
    }
    if (room == 0 || !(policy->tls_map || policy->websocket_tls_map)) {
        return RB_OK;
    }
    struct rb_policy_dn *dns = rb_arena_take(policy->arena, room * sizeof(*dns));
    if (dns == NULL) {
        return RB_ERR_MEMORY;
    }
    struct rb_dn dn;
    for (uint32_t i = 0; i < policy->user_count; i++) {
        if (rb_dn_parse(policy->users[i].name, &dn)) {
            rb_assert(policy->dn_count < room);
            dns[policy->dn_count++] = (struct rb_policy_dn){ .hash = rb_dn_hash(&dn), .user = i };
        }
    }
    qsort(dns, policy->dn_count, sizeof(*dns), compare_dns);
    policy->dns = dns;
    return RB_OK;
}

/* What the users' array tells at a glance. */
static void scan_users(struct rb_policy *policy)
{
    uint32_t cost_max = 0;
    policy->nkey_count = 0;
    for (uint32_t i = 0; i < policy->user_count; i++) {
        const struct rb_policy_user *user = &policy->users[i];
        rb_assert(user->account < policy->account_count);
        policy->nkey_count += user->nkey.len > 0;
        uint32_t cost = rb_password_cost(user->pass);
        if (cost > cost_max) {
            cost_max = cost;
            policy->slow_secret = user->pass;
        }
    }
}

enum rb_err rb_policy_seal(struct rb_policy *policy)
{
    rb_assert(!policy->sealed);
    rb_assert(policy->login.no_auth_user < (int64_t)policy->user_count);
    rb_assert(policy->websocket_login.no_auth_user < (int64_t)policy->user_count);
    scan_users(policy);
    enum rb_err err = build_index(policy, KEY_USER, policy->user_count, &policy->user_index);
    if (err == RB_OK) {
        err = build_index(policy, KEY_NKEY, policy->user_count, &policy->nkey_index);
    }
    if (err == RB_OK) {
        err = build_index(policy, KEY_ACCOUNT, policy->account_count, &policy->account_index);
    }
    if (err == RB_OK) {
        err = build_dns(policy);
    }
    policy->sealed = err == RB_OK;
    return err;
}

/* ------------------------------------------------------------------ questions */

static int32_t find(const struct rb_policy *policy, const struct rb_policy_index *index,
                    enum key_kind kind, struct rb_slice key)
{
    rb_assert(policy->sealed);
    if (key.len == 0) {
        return -1;
    }
    uint32_t at = (uint32_t)rb_slice_hash(key) & index->mask;
    for (; index->slots[at] != 0; at = (at + 1) & index->mask) {
        if (rb_slice_equal(key_of(policy, kind, index->slots[at] - 1), key)) {
            return (int32_t)(index->slots[at] - 1);
        }
    }
    return -1;
}

const struct rb_policy_user *rb_policy_user_by_name(const struct rb_policy *policy,
                                                    struct rb_slice name)
{
    int32_t at = find(policy, &policy->user_index, KEY_USER, name);
    return at < 0 ? NULL : &policy->users[at];
}

const struct rb_policy_user *rb_policy_user_by_nkey(const struct rb_policy *policy,
                                                    struct rb_slice nkey)
{
    int32_t at = find(policy, &policy->nkey_index, KEY_NKEY, nkey);
    return at < 0 ? NULL : &policy->users[at];
}

int32_t rb_policy_account_by_name(const struct rb_policy *policy, struct rb_slice name)
{
    return find(policy, &policy->account_index, KEY_ACCOUNT, name);
}

const struct rb_policy_dn *rb_policy_dns_of(const struct rb_policy *policy, uint64_t hash,
                                            uint32_t *ret_count)
{
    rb_assert(policy->sealed);
    uint32_t low = 0, high = policy->dn_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (policy->dns[middle].hash < hash) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    uint32_t count = 0;
    while (low + count < policy->dn_count && policy->dns[low + count].hash == hash) {
        count++;
    }
    *ret_count = count;
    return count == 0 ? NULL : &policy->dns[low];
}

bool rb_policy_user_mappable(const struct rb_policy *policy, const struct rb_policy_user *user)
{
    return (policy->tls_map && (user->types & RB_TYPE_STANDARD) != 0) ||
           (policy->websocket_tls_map && (user->types & RB_TYPE_WEBSOCKET) != 0);
}

bool rb_policy_auth_required(const struct rb_policy *policy, bool websocket)
{
    return policy->custom || policy->user_count > 0 || policy->login.user.len > 0 ||
           policy->login.token.len > 0 || (websocket && policy->websocket_login.overrides);
}

bool rb_policy_nonce_required(const struct rb_policy *policy)
{
    rb_assert(policy->sealed);
    return policy->custom || policy->nkey_count > 0 || policy->proxy_count > 0;
}

const struct rb_policy_jetstream *rb_policy_jetstream_of(const struct rb_policy *policy,
                                                         uint32_t index)
{
    static const struct rb_policy_jetstream unlimited = RB_POLICY_JETSTREAM_UNLIMITED;
    uint32_t fixed = policy->system_account < 0 ? 1 : 2;
    if (policy->system_account == (int32_t)index) {
        return NULL;
    }
    return index == 0 && policy->account_count == fixed ? &unlimited
                                                        : policy->accounts[index].jetstream;
}
