#include "base/nuid.h"

void rb_nuid(struct rb_env *env, char out[RB_NUID_LEN])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint8_t bytes[RB_NUID_LEN];
    env->entropy(env->ctx, bytes, sizeof(bytes));
    for (int i = 0; i < RB_NUID_LEN; i++) {
        out[i] = digits[bytes[i] % 62];
    }
}
