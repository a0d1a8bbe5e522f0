/* duration.h - lengths of time as Go writes and reads them: "1m0s", "1.5h". */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/slice.h"

#define RB_JS_DURATION_MAX 40
/** Writes "1h2m3.5s" and a NUL; its length. */
size_t rb_js_duration_format(int64_t ns, char out[RB_JS_DURATION_MAX]);
/** As time.ParseDuration reads it: a sign, then numbers with units (ns us ms s m h), or "0". False: malformed or too long. */
bool rb_js_duration_parse(struct rb_slice text, int64_t *ret_ns);
