/* Text -> tree -> options -> policy, without files and environment: no input crashes, hangs, or leaves half a result.
 *
 * What is accepted must be sealed and must not differ from itself; what is refused must say why.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"
#include "server/config.h"
#include "server/config_diff.h"

#define INPUT_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Every name in a policy leads back to where it came from. */
static void check_policy(const struct rb_policy *policy)
{
    rb_assert(policy->sealed && policy->account_count >= 1);
    rb_assert(policy->system_account < (int32_t)policy->account_count);
    for (uint32_t i = 0; i < policy->account_count; i++) {
        const struct rb_policy_account *account = &policy->accounts[i];
        rb_assert(rb_policy_account_by_name(policy, account->name) == (int32_t)i);
        for (uint32_t k = 0; k < account->import_count; k++) {
            rb_assert(account->imports[k].account < policy->account_count);
            rb_assert(account->imports[k].subject.len > 0);
        }
        for (uint32_t k = 0; k < account->export_count; k++) {
            for (uint32_t a = 0; a < account->exports[k].account_count; a++) {
                rb_assert(account->exports[k].accounts[a] < policy->account_count);
            }
        }
    }
    for (uint32_t i = 0; i < policy->user_count; i++) {
        const struct rb_policy_user *user = &policy->users[i];
        rb_assert(user->account < policy->account_count);
        rb_assert(user->nkey.len > 0 ? rb_policy_user_by_nkey(policy, user->nkey) == user
                                     : rb_policy_user_by_name(policy, user->name) == user);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rb_config_changes changes;
    static struct rb_config config, copy;
    char error[RB_CONFIG_ERROR_MAX];
    if (size > INPUT_MAX) {
        return 0;
    }
    rb_config_defaults(&config);
    enum rb_err err = rb_config_load_closed(&config, "fuzz.conf", rb_slice_of(data, size), error);
    rb_assert(strlen(error) < sizeof(error));
    if (err != RB_OK) {
        rb_assert(err == RB_ERR_INVALID && error[0] != 0 && config.policy == NULL);
        return 0;
    }
    check_policy(config.policy);
    rb_config_copy(&copy, &config);
    err = rb_config_diff(&config, &copy, &changes, error);
    rb_assert(err == RB_OK && changes.count >= 2);
    if (rb_config_check(&config, error) != RB_OK) {
        rb_assert(error[0] != 0);
    }
    rb_config_deinit(&copy);
    rb_config_deinit(&config);
    return 0;
}
