/* decimal.h - whole numbers of any size as text: sign and digits, as message counters have them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/slice.h"

/** Digits, maybe with '+' or '-' before them. */
bool rb_decimal_valid(struct rb_slice text);
/** Bytes that rb_decimal_add may need. */
static inline size_t rb_decimal_cap(struct rb_slice a, struct rb_slice b)
{
    return (a.len > b.len ? a.len : b.len) + 2;
}
/**
 * a + b, or a - b: into out[rb_decimal_cap(a, b)], which overlaps neither; returns its length. Without leading zeroes, '-' only
 * below zero. Both are valid.
 */
size_t rb_decimal_add(struct rb_slice a, struct rb_slice b, bool subtract, uint8_t *out);
