/* nuid.h - unique ids of 22 characters, as clients and tools know them. */
#pragma once

#include "ringbus/env.h"

#define RB_NUID_LEN 22

/** From the env's entropy. Not NUL-terminated. */
void rb_nuid(struct rb_env *env, char out[RB_NUID_LEN]);
