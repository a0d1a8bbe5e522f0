/* password.h - secrets that are shown as they are: user and password, or token; plain or bcrypt in the configuration. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/slice.h"

/** Equal bytes. The time depends on the lengths only. */
bool rb_password_equal(struct rb_slice a, struct rb_slice b);

#define RB_PASSWORD_BYTES_MAX 72 /* of a password, as many count for bcrypt */
#define RB_PASSWORD_SALT_BYTES 16
#define RB_PASSWORD_HASH_CAP 61 /* bytes of a bcrypt hash with its NUL */
#define RB_PASSWORD_COST_MIN 4
#define RB_PASSWORD_COST_MAX 31

/** True when a configured secret is a bcrypt hash by its looks ("$2a$10$..."), so that it is never compared as it is. */
bool rb_password_is_hash(struct rb_slice secret);
/** Of a hash: its cost, each step twice the time (about 50 ms at 10); 0 when `secret` is none, or broken. */
uint32_t rb_password_cost(struct rb_slice secret);
/** Takes as long as the cost says: for helper threads. A broken hash fits no password. */
bool rb_password_check_hash(struct rb_slice hash, struct rb_slice password);
/** "$2a$..." with that salt. RB_ERR_INVALID: cost out of range, or a password of more than 72 bytes or with a NUL. */
RB_MUST_CHECK enum rb_err rb_password_make_hash(struct rb_slice password, uint32_t cost,
                                                const uint8_t salt[RB_PASSWORD_SALT_BYTES],
                                                char ret_hash[RB_PASSWORD_HASH_CAP]);
