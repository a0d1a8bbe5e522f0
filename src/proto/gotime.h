/* gotime.h - times as Go reads them from JSON: RFC 3339, and what is wrong in the words of its time package. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/slice.h"

/** Go's zero time: the beginning of the year 1. */
#define RB_GO_ZERO_TIME INT64_MIN
#define RB_GO_TIME_ERROR_MAX 160

/**
 * ns since 1970. Years outside 1677..2262 become the nearest time that fits, but for the zero time. False: `error` says what is
 * wrong.
 */
bool rb_go_time(struct rb_slice text, int64_t *ret_ns, char error[RB_GO_TIME_ERROR_MAX]);
