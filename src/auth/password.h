/* password.h - proof of identity by token or by user and password, from the configuration. */
#pragma once

#include <stdbool.h>

#include "ringbus/slice.h"

/** What a connection may prove itself with. All slices empty: no authentication is required. */
struct rb_auth_password {
    struct rb_slice user, pass, token; /* borrowed from the configuration */
};

/** True when clients must prove who they are. */
bool rb_auth_password_required(const struct rb_auth_password *auth);

/**
 * Judges what CONNECT carried. Takes the same time for every wrong secret of one length.
 * Source: nats-server's order: user and password when configured, else the token.
 */
bool rb_auth_password_check(const struct rb_auth_password *auth, struct rb_slice user,
                            struct rb_slice pass, struct rb_slice token);
