/* config_auth.c - `accounts` and `authorization`: value tree -> the accounts and users of a policy.
 *
 * 1. Accounts are declared first (index 0 "$G", 1 the system account unless there is none, then file order), so that
 *    users, imports and exports can name them in any order.
 * 2. Users of all blocks are collected, checked for names that come twice, and then become the policy's array.
 * 3. Imports are checked against exports when every account was read.
 */
#include "server/config_load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/nkey.h"
#include "proto/subject.h"
#include "ringbus/check.h"

#define SYSTEM_DEFAULT "$SYS"
#define GLOBAL "$G"
#define ACCOUNTS_MAX (1u << 14)

/** What one `authorization` block says besides users. */
struct authorization {
    struct rb_slice user, pass, token;
    bool users_given;
    const struct rb_permissions *permissions;
};

/** What one account's block says besides what goes into the policy at once. */
struct account_block {
    uint32_t index;
    const struct rb_permissions *permissions;
};

/* ------------------------------------------------------------------ accounts: names */

/** One name that the file declares. `block` is NULL in the array form. */
struct declared {
    struct rb_slice name;
    const struct rb_conf_entry *block;
};

struct declarations {
    struct declared *items;
    uint32_t count;
};

static int compare_declared(const void *a, const void *b)
{
    const struct rb_slice *left = &((const struct declared *)a)->name;
    const struct rb_slice *right = &((const struct declared *)b)->name;
    size_t len = left->len < right->len ? left->len : right->len;
    int order = len == 0 ? 0 : memcmp(left->ptr, right->ptr, len);
    return order != 0 ? order : (left->len > right->len) - (left->len < right->len);
}

static bool declare(struct rb_load *load, const struct rb_conf_entry *place, struct rb_slice name,
                    const struct rb_conf_entry *block, struct declarations *all)
{
    if (rb_slice_equal(name, RB_S(GLOBAL))) {
        rb_load_error(load, place, "\"" GLOBAL "\" is a Reserved Account");
        return false;
    }
    if (name.len == 0 || memchr(name.ptr, 0, name.len) != NULL) {
        rb_load_error(load, place, "an account needs a name");
        return false;
    }
    all->items[all->count++] =
        (struct declared){ .name = rb_load_copy(load, name), .block = block };
    return true;
}

static void declare_array(struct rb_load *load, const struct rb_conf_entry *entry,
                          struct declarations *all)
{
    for (const struct rb_conf_item *i = entry->value->array.first; i != NULL; i = i->next) {
        struct rb_conf_entry item = rb_load_item(entry, i);
        if (!rb_load_kind(load, &item, RB_CONF_TEXT)) {
            continue;
        }
        bool twice = false;
        for (uint32_t at = 0; at < all->count && !twice; at++) {
            twice = rb_slice_equal(all->items[at].name, item.value->text);
        }
        if (twice) {
            rb_load_error(load, &item, "Duplicate Account Entry: %.*s", RB_S_ARG(item.value->text));
        } else {
            (void)declare(load, &item, item.value->text, NULL, all);
        }
    }
}

static bool collect_declarations(struct rb_load *load, struct declarations *all)
{
    const struct rb_conf_entry *entry = load->blocks.accounts;
    if (entry == NULL) {
        return true;
    }
    if (entry->value->kind != RB_CONF_MAP && entry->value->kind != RB_CONF_ARRAY) {
        rb_load_error(load, entry, "expected accounts to be a map or an array, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return true;
    }
    if (entry->value->count > ACCOUNTS_MAX) {
        rb_load_error(load, entry, "more than %u accounts", ACCOUNTS_MAX);
        return true;
    }
    all->items = rb_load_take(load, (entry->value->count + 1) * sizeof(*all->items));
    if (all->items == NULL) {
        return false;
    }
    if (entry->value->kind == RB_CONF_ARRAY) {
        declare_array(load, entry, all);
        return true;
    }
    for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
        if (e->value->kind == RB_CONF_MAP) {
            (void)declare(load, e, e->key, e, all);
        } else if (!e->is_variable) {
            rb_load_error(load, e, "Expected map entries for accounts");
        }
    }
    return true;
}

static struct rb_policy_account new_account(struct rb_slice name)
{
    return (
        struct rb_policy_account){ .name = name, .id = UINT32_MAX, .limits = { -1, -1, -1, -1 } };
}

/** Index among the declared names; -1. */
static int64_t find_declared(const struct declarations *all, struct rb_slice name)
{
    for (uint32_t i = 0; i < all->count; i++) {
        if (rb_slice_equal(all->items[i].name, name)) {
            return i;
        }
    }
    return -1;
}

bool rb_load_accounts_declare(struct rb_load *load)
{
    struct declarations all = { 0 };
    const struct rb_conf_entry *wanted = load->blocks.system_account;
    struct rb_slice system = RB_S(SYSTEM_DEFAULT);
    if (!collect_declarations(load, &all)) {
        return false;
    }
    bool have_system = !load->config->no_system_account;
    if (wanted != NULL && wanted->value->kind != RB_CONF_TEXT) {
        rb_load_error(load, wanted, "system account name must be a string");
    } else if (wanted != NULL && wanted->value->text.len > 0) {
        system = wanted->value->text;
        have_system = find_declared(&all, system) >= 0;
        if (rb_slice_equal(system, RB_S(GLOBAL))) {
            rb_load_error(load, wanted,
                          "the account \"" GLOBAL
                          "\" as system account is not supported by ringbus yet");
        } else if (!have_system) {
            rb_load_error(load, wanted, "error resolving system account: account missing");
        }
    }
    struct rb_policy_account *accounts = rb_load_take(load, (all.count + 2) * sizeof(*accounts));
    if (accounts == NULL) {
        return false;
    }
    uint32_t count = 0;
    accounts[count++] = new_account(RB_S(GLOBAL));
    if (have_system) {
        accounts[count++] = new_account(rb_load_copy(load, system));
    }
    for (uint32_t i = 0; i < all.count; i++) {
        if (!have_system || !rb_slice_equal(all.items[i].name, system)) {
            accounts[count++] = new_account(all.items[i].name);
        }
    }
    load->system_named = have_system && find_declared(&all, system) >= 0;
    load->accounts = accounts;
    load->policy->accounts = accounts;
    load->policy->account_count = count;
    load->policy->system_account = have_system ? 1 : -1;
    return true;
}

int32_t rb_load_account(const struct rb_load *load, struct rb_slice name)
{
    for (uint32_t i = 0; i < load->policy->account_count; i++) {
        if (rb_slice_equal(load->accounts[i].name, name)) {
            return (int32_t)i;
        }
    }
    return -1;
}

int32_t rb_load_account_named(const struct rb_load *load, struct rb_slice name)
{
    int32_t index = rb_load_account(load, name);
    return index > 1 || (index == 1 && (load->system_named || load->policy->system_account < 0))
               ? index
               : -1;
}

/* ------------------------------------------------------------------ accounts: blocks */

static void read_limit(struct rb_load *load, const struct rb_conf_entry *entry, int64_t *field)
{
    int64_t value;
    if (rb_load_int(load, entry, &value)) {
        *field = value < 0 ? -1 : value;
    }
}

static void read_limits(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    static const struct {
        const char *name;
        size_t offset;
    } names[] = {
        { "max_connections", offsetof(struct rb_account_limits, connections) },
        { "max_conn", offsetof(struct rb_account_limits, connections) },
        { "max_subscriptions", offsetof(struct rb_account_limits, subscriptions) },
        { "max_subs", offsetof(struct rb_account_limits, subscriptions) },
        { "max_payload", offsetof(struct rb_account_limits, payload) },
        { "max_pay", offsetof(struct rb_account_limits, payload) },
        { "max_leafnodes", offsetof(struct rb_account_limits, leafnodes) },
        { "max_leafs", offsetof(struct rb_account_limits, leafnodes) },
    };
    char shown[RB_SHOWN_MAX];
    const struct account_block *block = base;
    char *limits = (char *)&load->accounts[block->index].limits;
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "Expected account limits to be a map/struct, got %s",
                      rb_load_show(entry->value, shown));
        return;
    }
    for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
        size_t i = 0, count = sizeof(names) / sizeof(names[0]);
        while (i < count && !rb_slice_equal_fold(e->key, rb_slice_text(names[i].name))) {
            i++;
        }
        if (i < count) {
            read_limit(load, e, (int64_t *)(void *)(limits + names[i].offset));
        } else if (!e->is_variable) {
            rb_load_error(load, e, "Unknown field \"%.*s\" parsing account limits", RB_KEY(e));
        }
    }
}

static void read_account_nkey(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    const struct account_block *block = base;
    struct rb_slice key;
    if (!rb_load_slice(load, entry, &key)) {
        return;
    }
    if (!rb_nkey_is_public(key, RB_NKEY_ACCOUNT)) {
        rb_load_error(load, entry, "Not a valid public nkey for an account: \"%.*s\"",
                      RB_S_ARG(key));
        return;
    }
    load->accounts[block->index].nkey = key;
}

static void read_account_jetstream(struct rb_load *load, const struct rb_conf_entry *entry,
                                   void *base)
{
    const struct account_block *block = base;
    rb_load_account_jetstream(load, entry, block->index);
}

static void read_account_users(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    const struct account_block *block = base;
    rb_load_users(load, entry, entry, block->index);
}

static void read_account_permissions(struct rb_load *load, const struct rb_conf_entry *entry,
                                     void *base)
{
    struct account_block *block = base;
    block->permissions = rb_load_permissions(load, entry);
}

static void read_account_exports(struct rb_load *load, const struct rb_conf_entry *entry,
                                 void *base)
{
    const struct account_block *block = base;
    rb_load_exports(load, entry, block->index);
}

static void read_account_imports(struct rb_load *load, const struct rb_conf_entry *entry,
                                 void *base)
{
    const struct account_block *block = base;
    rb_load_imports(load, entry, block->index);
}

static void read_account_mappings(struct rb_load *load, const struct rb_conf_entry *entry,
                                  void *base)
{
    const struct account_block *block = base;
    rb_load_mappings(load, entry, block->index);
}

/* msg_trace; false after an error, at which nats-server stops reading it. */

static bool read_trace_destination(struct rb_load *load, const struct rb_conf_entry *entry,
                                   struct rb_policy_account *account)
{
    const struct rb_conf_value *value = entry->value;
    if (value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry, "Field \"%.*s\" should be a string, got %s", RB_KEY(entry),
                      rb_conf_kind_text(value->kind));
        return false;
    }
    if (!rb_subject_valid(value->text) || !rb_subject_valid_literal(value->text)) {
        rb_load_error(load, entry, "Trace destination \"%.*s\" is not valid",
                      RB_S_ARG(value->text));
        return false;
    }
    return rb_load_slice(load, entry, &account->trace_destination);
}

/* "25%", "25", with a sign if need be. */
static bool signed_percent(struct rb_slice text, int64_t *ret_percent)
{
    bool sign = text.len > 0 && (text.ptr[0] == '-' || text.ptr[0] == '+');
    struct rb_slice digits = rb_slice_of(text.ptr + sign, text.len - sign);
    if (!rb_load_percent_text(digits, ret_percent)) {
        return false;
    }
    if (sign && text.ptr[0] == '-') {
        *ret_percent = -*ret_percent;
    }
    return true;
}

static bool read_trace_sampling(struct rb_load *load, const struct rb_conf_entry *entry,
                                struct rb_policy_account *account)
{
    const struct rb_conf_value *value = entry->value;
    int64_t percent;
    if (value->kind == RB_CONF_INT) {
        percent = value->integer;
    } else if (value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry,
                      "Trace destination sampling field \"%.*s\" should be an integer or a "
                      "percentage, got %s",
                      RB_KEY(entry), rb_conf_kind_text(value->kind));
        return false;
    } else if (!signed_percent(value->text, &percent)) {
        rb_load_error(load, entry, "Invalid trace destination sampling value \"%.*s\"",
                      RB_S_ARG(value->text));
        return false;
    }
    if (percent < 1 || percent > 100) { /* the word is nats-server's */
        rb_load_error(load, entry,
                      "Ttrace destination sampling value %lld is invalid, needs to be [1..100]",
                      (long long)percent);
        return false;
    }
    account->trace_sampling = (int32_t)percent;
    return true;
}

static bool read_trace_map(struct rb_load *load, const struct rb_conf_entry *entry,
                           struct rb_policy_account *account)
{
    for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
        if (rb_slice_equal_fold(e->key, RB_S("dest"))) {
            if (!read_trace_destination(load, e, account)) {
                return false;
            }
        } else if (rb_slice_equal_fold(e->key, RB_S("sampling"))) {
            if (!read_trace_sampling(load, e, account)) {
                return false;
            }
        } else if (!e->is_variable) {
            rb_load_error(load, e,
                          "Unknown field \"%.*s\" parsing account message trace map/struct "
                          "\"%.*s\"",
                          RB_KEY(e), RB_KEY(entry));
            return false;
        }
    }
    return true;
}

/* A subject, or { dest, sampling }. */
static void read_account_trace(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    const struct account_block *block = base;
    const struct rb_conf_value *value = entry->value;
    struct rb_policy_account *account = &load->accounts[block->index];
    if (value->kind != RB_CONF_TEXT && value->kind != RB_CONF_MAP) {
        rb_load_error(
            load, entry,
            "Expected account message trace \"%.*s\" to be a string or a map/struct, got %s",
            RB_KEY(entry), rb_conf_kind_text(value->kind));
        return;
    }
    if (!(value->kind == RB_CONF_TEXT ? read_trace_destination(load, entry, account)
                                      : read_trace_map(load, entry, account))) {
        return;
    }
    if (account->trace_destination.len > 0 && account->trace_sampling == 0) {
        account->trace_sampling = 100;
    } else if (account->trace_destination.len == 0 && account->trace_sampling > 0) {
        rb_load_warning(load, entry,
                        "Trace destination sampling ignored since no destination was set");
        account->trace_sampling = 0;
    }
}

static const struct rb_option account_options[] = {
    { "nkey", RB_OPTION_CALL, .set = read_account_nkey },
    { "users", RB_OPTION_CALL, .set = read_account_users },
    { "default_permissions", RB_OPTION_CALL, .set = read_account_permissions },
    { "limits", RB_OPTION_CALL, .set = read_limits },
    { "jetstream", RB_OPTION_CALL, .set = read_account_jetstream },
    { "mappings maps", RB_OPTION_CALL, .set = read_account_mappings },
    { "exports", RB_OPTION_CALL, .set = read_account_exports },
    { "imports", RB_OPTION_CALL, .set = read_account_imports },
    { "msg_trace trace_dest", RB_OPTION_CALL, .set = read_account_trace },
    { NULL },
};

/** Users from `first` on that have no permissions of their own get the block's. */
static void fill_permissions(struct rb_load *load, uint32_t first,
                             const struct rb_permissions *permissions)
{
    for (uint32_t i = first; i < load->user_count; i++) {
        struct rb_policy_user *user = &load->users[i].user;
        user->permissions = user->permissions == NULL ? permissions : user->permissions;
    }
}

void rb_load_accounts(struct rb_load *load)
{
    const struct rb_conf_entry *entry = load->blocks.accounts;
    if (entry == NULL || entry->value->kind != RB_CONF_MAP) {
        return;
    }
    for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
        int32_t index = rb_load_account(load, e->key);
        if (e->value->kind != RB_CONF_MAP || index <= 0) {
            continue; /* told when it was declared */
        }
        struct account_block block = { .index = (uint32_t)index };
        uint32_t first = load->user_count;
        rb_load_options(load, e->value, account_options, &block);
        fill_permissions(load, first, block.permissions);
    }
    if (load->errors.count == 0) {
        rb_load_check_imports(load);
    }
}

/* ------------------------------------------------------------------ authorization */

static void read_auth_timeout(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    int64_t ns;
    if (!rb_load_timeout(load, entry, "error parsing authorization config", true, &ns)) {
        return;
    }
    load->lists->auth_timeout_set = ns != 0;
    load->config->auth_timeout_ns = ns == 0 ? RB_AUTH_TIMEOUT_DEFAULT_NS : (uint64_t)ns;
}

static void read_global_users(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct authorization *auth = base;
    uint32_t before = load->user_count;
    rb_load_users(load, entry, load->blocks.authorization, 0);
    auth->users_given = load->user_count > before;
}

static void read_default_permissions(struct rb_load *load, const struct rb_conf_entry *entry,
                                     void *base)
{
    struct authorization *auth = base;
    auth->permissions = rb_load_permissions(load, entry);
}

static void read_proxy_required(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    (void)rb_load_bool(load, entry, &load->policy->proxy_required);
}

static void put_text(struct rb_load *load, const struct rb_conf_entry *entry, const char *name,
                     struct rb_slice text, char out[RB_CONFIG_TEXT_MAX])
{
    if (text.len >= RB_CONFIG_TEXT_MAX) {
        rb_load_error(load, entry, "%s is longer than %d bytes", name, RB_CONFIG_TEXT_MAX - 1);
        return;
    }
    snprintf(out, RB_CONFIG_TEXT_MAX, "%.*s", RB_S_ARG(text));
}

void rb_load_authorization(struct rb_load *load, const struct rb_conf_entry *entry)
{
    static const struct rb_option options[] = {
        { "user username", RB_OPTION_SLICE, offsetof(struct authorization, user) },
        { "pass password", RB_OPTION_SLICE, offsetof(struct authorization, pass) },
        { "token", RB_OPTION_SLICE, offsetof(struct authorization, token) },
        { "timeout", RB_OPTION_CALL, .set = read_auth_timeout },
        { "users", RB_OPTION_CALL, .set = read_global_users },
        { "default_permissions default_permission permissions", RB_OPTION_CALL,
          .set = read_default_permissions },
        { "proxy_required", RB_OPTION_CALL, .set = read_proxy_required },
        { "auth_callout auth_hook", RB_OPTION_REFUSED },
        { NULL },
    };
    struct rb_config *config = load->config;
    struct authorization auth = { 0 };
    uint32_t first = load->user_count;
    if (!rb_load_kind(load, entry, RB_CONF_MAP)) {
        return;
    }
    rb_load_options(load, entry->value, options, &auth);
    fill_permissions(load, first, auth.permissions);
    load->policy->default_permissions = auth.permissions;
    put_text(load, entry, "user", auth.user, config->user);
    put_text(load, entry, "password", auth.pass, config->pass);
    put_text(load, entry, "token", auth.token, config->token);
    bool named = auth.user.len > 0 || auth.pass.len > 0, users = load->user_count > 0;
    if (named && auth.token.len > 0) {
        rb_load_error(load, entry, "Cannot have a user/pass and token");
    } else if (named && users) {
        rb_load_error(load, entry, "Can not have a single user/pass and a users array");
    } else if (auth.token.len > 0 && users) {
        rb_load_error(load, entry, "Can not have a token and a users array");
    }
}

/* ------------------------------------------------------------------ users, all together */

static struct rb_slice user_key(const struct rb_load_user *user)
{
    return user->user.nkey.len > 0 ? user->user.nkey : user->user.name;
}

/** By kind, then name, then place in the file. */
static int compare_users(const void *a, const void *b)
{
    const struct rb_load_user *left = *(const struct rb_load_user *const *)a;
    const struct rb_load_user *right = *(const struct rb_load_user *const *)b;
    int left_kind = left->user.nkey.len > 0, right_kind = right->user.nkey.len > 0;
    if (left_kind != right_kind) {
        return left_kind - right_kind;
    }
    struct declared left_name = { .name = user_key(left) },
                    right_name = { .name = user_key(right) };
    int order = compare_declared(&left_name, &right_name);
    return order != 0 ? order : (left > right) - (left < right);
}

static void check_twice(struct rb_load *load)
{
    const struct rb_load_user **sorted = calloc(load->user_count + 1, sizeof(*sorted));
    if (sorted == NULL) {
        load->out_of_memory = true;
        return;
    }
    for (uint32_t i = 0; i < load->user_count; i++) {
        sorted[i] = &load->users[i];
    }
    qsort(sorted, load->user_count, sizeof(*sorted), compare_users);
    for (uint32_t i = 1; i < load->user_count; i++) {
        struct rb_slice name = user_key(sorted[i]), before = user_key(sorted[i - 1]);
        bool is_nkey = sorted[i]->user.nkey.len > 0;
        if (is_nkey == (sorted[i - 1]->user.nkey.len > 0) && rb_slice_equal(name, before)) {
            rb_load_error(load, sorted[i]->from, "Duplicate %s \"%.*s\" detected",
                          is_nkey ? "nkey" : "user", RB_S_ARG(name));
        }
    }
    free(sorted);
}

/** A file that only gives the system account users leaves "$G" open, as in nats-server. */
static bool is_open(const struct rb_load *load)
{
    return load->system_named && load->policy->account_count == 2 &&
           load->blocks.authorization == NULL && load->blocks.no_auth_user == NULL;
}

/** The user all who show nothing become then: of the name no other user has; without a password. */
static struct rb_policy_user nobody(struct rb_load *load)
{
    static const char name[] = "nats-nobody-------------------------------";
    size_t len = sizeof("nats-nobody") - 1;
    for (uint32_t i = 0; i < load->user_count && len < sizeof(name) - 1;) {
        bool taken = rb_slice_equal(load->users[i].user.name, rb_slice_of(name, len));
        len += taken;
        i = taken ? 0 : i + 1;
    }
    return (struct rb_policy_user){ .name = rb_slice_of(name, len), .types = RB_TYPE_ALL };
}

void rb_load_users_finish(struct rb_load *load)
{
    struct rb_policy *policy = load->policy;
    struct rb_policy_user *users = rb_load_take(load, (load->user_count + 1) * sizeof(*users));
    check_twice(load);
    if (users == NULL) {
        return;
    }
    uint32_t count = 0;
    while (count < load->user_count) {
        users[count] = load->users[count].user;
        count++;
    }
    if (is_open(load)) {
        policy->login.no_auth_user = (int32_t)count;
        policy->login.invented = true;
        users[count++] = nobody(load);
    }
    policy->users = users;
    policy->user_count = count;
}

/* ------------------------------------------------------------------ proxies */

static void read_proxy(struct rb_load *load, const struct rb_conf_entry *entry,
                       struct rb_slice *proxies, uint32_t *count)
{
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "expected proxies' trusted entry to be a map/struct, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
        struct rb_slice key;
        if (!rb_slice_equal_fold(e->key, RB_S("key")) &&
            !rb_slice_equal_fold(e->key, RB_S("public_key"))) {
            rb_load_unknown(load, e);
        } else if (rb_load_slice(load, e, &key)) {
            if (!rb_nkey_is_any_public(key)) {
                rb_load_error(load, e, "invalid proxy key \"%.*s\"", RB_S_ARG(key));
            } else {
                proxies[(*count)++] = key;
            }
        }
    }
}

static void read_trusted(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    if (entry->value->kind != RB_CONF_ARRAY) {
        rb_load_error(load, entry, "expected proxies' trusted field to be an array, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    uint32_t count = 0, keys = 1; /* an entry may hold "key" and "public_key" both */
    for (const struct rb_conf_item *i = entry->value->array.first; i != NULL; i = i->next) {
        keys += i->value->kind == RB_CONF_MAP ? i->value->count : 0;
    }
    struct rb_slice *proxies = rb_load_take(load, keys * sizeof(*proxies));
    if (proxies == NULL) {
        return;
    }
    for (const struct rb_conf_item *i = entry->value->array.first; i != NULL; i = i->next) {
        struct rb_conf_entry item = rb_load_item(entry, i);
        read_proxy(load, &item, proxies, &count);
    }
    load->policy->proxies = proxies;
    load->policy->proxy_count = count;
}

void rb_load_proxies(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    static const struct rb_option options[] = { { "trusted", RB_OPTION_CALL, .set = read_trusted },
                                                { NULL } };
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "expected proxies to be a map/struct, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    rb_load_options(load, entry->value, options, base);
}
