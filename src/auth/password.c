/* password.c - plain secrets, compared without an early exit so that time tells nothing of the content. */
#include "auth/password.h"

static bool equal_secret(struct rb_slice a, struct rb_slice b)
{
    if (a.len != b.len) {
        return false;
    }
    unsigned difference = 0;
    for (size_t i = 0; i < a.len; i++) {
        difference |= (unsigned)(a.ptr[i] ^ b.ptr[i]);
    }
    return difference == 0;
}

bool rb_auth_password_required(const struct rb_auth_password *auth)
{
    return auth->user.len > 0 || auth->token.len > 0;
}

bool rb_auth_password_check(const struct rb_auth_password *auth, struct rb_slice user,
                            struct rb_slice pass, struct rb_slice token)
{
    if (auth->token.len > 0) {
        return equal_secret(auth->token, token);
    }
    if (auth->user.len > 0) {
        bool user_ok = equal_secret(auth->user, user);
        bool pass_ok = equal_secret(auth->pass, pass);
        return user_ok && pass_ok;
    }
    return true;
}
