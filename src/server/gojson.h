/* gojson.h - is this text JSON? And if not, why, in the words of Go's encoding/json, which clients of nats-server know. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "ringbus/slice.h"

#define RB_GOJSON_DEPTH_MAX 10000 /* Go's own limit */
#define RB_GOJSON_ERROR_MAX 128

/** False: `error` says what is wrong. */
bool rb_gojson_valid(struct rb_slice text, char error[RB_GOJSON_ERROR_MAX]);
