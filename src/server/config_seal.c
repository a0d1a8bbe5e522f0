/* config_seal.c - the policy and lists of a configuration: made, completed, sealed, shared, given back.
 *
 * 1. Until the seal the configuration holds the only count of its policy and may change it: that is how flags come
 *    on top of a file. Afterwards nothing changes.
 * 2. `user`, `pass`, `token` and `auth_timeout_ns` of rb_config are what the caller sets; the seal makes the policy's
 *    login of them.
 */
#include "server/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/password.h"
#include "ringbus/check.h"
#include "server/config_load.h"

static struct rb_policy_account plain_account(struct rb_slice name)
{
    return (
        struct rb_policy_account){ .name = name, .id = UINT32_MAX, .limits = { -1, -1, -1, -1 } };
}

struct rb_policy *rb_config_draft(bool system, struct rb_config_lists **ret_lists)
{
    struct rb_policy *policy;
    if (rb_policy_create(&policy) != RB_OK) {
        return NULL;
    }
    struct rb_config_lists *lists = rb_arena_take(policy->arena, sizeof(*lists));
    struct rb_policy_account *accounts = rb_arena_take(policy->arena, 2 * sizeof(*accounts));
    if (lists == NULL || accounts == NULL) {
        rb_policy_release(policy);
        return NULL;
    }
    accounts[0] = plain_account(RB_S("$G"));
    accounts[1] = plain_account(RB_S("$SYS"));
    policy->accounts = accounts;
    policy->account_count = system ? 2 : 1;
    policy->system_account = system ? 1 : -1;
    *ret_lists = lists;
    return policy;
}

struct rb_policy *rb_config_own_policy(struct rb_config *config)
{
    struct rb_policy *policy = (struct rb_policy *)(uintptr_t)config->policy;
    rb_assert(policy != NULL && !policy->sealed && atomic_load(&policy->ref_count) == 1);
    return policy;
}

struct rb_config_lists *rb_config_own_lists(struct rb_config *config)
{
    (void)rb_config_own_policy(config);
    return (struct rb_config_lists *)(uintptr_t)config->lists;
}

const char *rb_config_keep(struct rb_config *config, const char *text)
{
    char *copy = rb_arena_take(config->policy->arena, strlen(text) + 1);
    if (copy != NULL) {
        memcpy(copy, text, strlen(text) + 1);
    }
    return copy;
}

/** False: no memory. The slice of an empty text is empty. */
static bool keep_slice(struct rb_config *config, const char *text, struct rb_slice *ret_slice)
{
    const char *kept = rb_config_keep(config, text);
    *ret_slice = kept == NULL ? RB_S("") : rb_slice_text(kept);
    return kept != NULL;
}

static bool has_plain_secret(const struct rb_policy *policy)
{
    const struct rb_slice secrets[] = { policy->login.pass, policy->login.token,
                                        policy->websocket_login.pass,
                                        policy->websocket_login.token };
    for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
        if (secrets[i].len > 0 && !rb_password_is_hash(secrets[i])) {
            return true;
        }
    }
    for (uint32_t i = 0; i < policy->user_count; i++) {
        if (policy->users[i].pass.len > 0 && !rb_password_is_hash(policy->users[i].pass)) {
            return true;
        }
    }
    return false;
}

/** What each listener asks for, and how long it waits. */
static enum rb_err seal_logins(struct rb_config *config, struct rb_policy *policy,
                               struct rb_config_lists *lists)
{
    struct rb_policy_login *login = &policy->login, *websocket = &policy->websocket_login;
    if (!keep_slice(config, config->user, &login->user) ||
        !keep_slice(config, config->pass, &login->pass) ||
        !keep_slice(config, config->token, &login->token)) {
        return RB_ERR_MEMORY;
    }
    if (!lists->auth_timeout_set) { /* a handshake comes first */
        lists->auth_timeout_follows |= config->auth_timeout_ns == RB_AUTH_TIMEOUT_DEFAULT_NS;
        if (lists->auth_timeout_follows) {
            config->auth_timeout_ns = lists->tls.set
                                          ? (uint64_t)lists->tls.timeout_ns + RB_SECOND_NS
                                          : RB_AUTH_TIMEOUT_DEFAULT_NS;
        }
    }
    login->timeout_ns = (int64_t)config->auth_timeout_ns;
    websocket->overrides =
        websocket->user.len > 0 || websocket->token.len > 0 || websocket->no_auth_user >= 0;
    if (websocket->timeout_ns == 0) {
        websocket->timeout_ns = lists->websocket_tls.set
                                    ? lists->websocket_tls.timeout_ns + (int64_t)RB_SECOND_NS
                                    : (int64_t)RB_AUTH_TIMEOUT_DEFAULT_NS;
    }
    return RB_OK;
}

static enum rb_err no_memory(char error[RB_CONFIG_ERROR_MAX])
{
    snprintf(error, RB_CONFIG_ERROR_MAX, "out of memory while reading the configuration");
    return RB_ERR_MEMORY;
}

enum rb_err rb_config_seal(struct rb_config *config, char error[RB_CONFIG_ERROR_MAX])
{
    error[0] = 0;
    if (config->policy == NULL) {
        struct rb_config_lists *made = NULL;
        config->policy = rb_config_draft(!config->no_system_account, &made);
        config->lists = made;
    }
    if (config->policy == NULL) {
        return no_memory(error);
    }
    struct rb_policy *policy = rb_config_own_policy(config);
    struct rb_config_lists *lists = rb_config_own_lists(config);
    bool named = config->user[0] != 0 || config->pass[0] != 0, token = config->token[0] != 0;
    if (named && token) {
        snprintf(error, RB_CONFIG_ERROR_MAX, "Cannot have a user/pass and token");
    } else if (policy->user_count > 0 && named) {
        snprintf(error, RB_CONFIG_ERROR_MAX, "Can not have a single user/pass and a users array");
    } else if (policy->user_count > 0 && token) {
        snprintf(error, RB_CONFIG_ERROR_MAX, "Can not have a token and a users array");
    }
    if (error[0] != 0) {
        return RB_ERR_INVALID;
    }
    policy->tls_map = lists->tls.map;
    policy->websocket_tls_map = lists->websocket_tls.map;
    enum rb_err err = seal_logins(config, policy, lists);
    if (err == RB_OK) {
        policy->plain_passwords = has_plain_secret(policy);
        err = rb_policy_seal(policy);
    }
    return err == RB_OK ? RB_OK : no_memory(error);
}

void rb_config_copy(struct rb_config *to, const struct rb_config *from)
{
    *to = *from;
    if (from->policy != NULL) {
        (void)rb_policy_hold(from->policy);
    }
}

void rb_config_deinit(struct rb_config *config)
{
    rb_policy_release(config->policy);
    config->policy = NULL;
    config->lists = NULL;
}
