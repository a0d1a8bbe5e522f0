/* decimal.c - see decimal.h. Schoolbook arithmetic on the digits: numbers are short, and time is linear in their length. */
#include "js/decimal.h"

#include <string.h>

struct number {
    struct rb_slice digits; /* without leading zeroes; empty: zero */
    bool negative;
};

bool rb_decimal_valid(struct rb_slice text)
{
    size_t at = text.len > 0 && (text.ptr[0] == '+' || text.ptr[0] == '-') ? 1 : 0;
    if (at == text.len) {
        return false;
    }
    for (; at < text.len; at++) {
        if (text.ptr[at] < '0' || text.ptr[at] > '9') {
            return false;
        }
    }
    return true;
}

static struct number parse(struct rb_slice text)
{
    struct number number = { .digits = text };
    if (text.ptr[0] == '+' || text.ptr[0] == '-') {
        number.negative = text.ptr[0] == '-';
        number.digits = rb_slice_of(text.ptr + 1, text.len - 1);
    }
    while (number.digits.len > 0 && number.digits.ptr[0] == '0') {
        number.digits = rb_slice_of(number.digits.ptr + 1, number.digits.len - 1);
    }
    return number;
}

static int compare(struct rb_slice a, struct rb_slice b)
{
    if (a.len != b.len) {
        return a.len < b.len ? -1 : 1;
    }
    return a.len == 0 ? 0 : memcmp(a.ptr, b.ptr, a.len);
}

/* The digit of value 10^place. */
static int digit(struct rb_slice digits, size_t place)
{
    return place < digits.len ? digits.ptr[digits.len - 1 - place] - '0' : 0;
}

/* large + small, or large - small, into the end of out[cap]; where the first digit that counts is. */
static size_t combine(struct rb_slice large, struct rb_slice small, bool subtract, uint8_t *out,
                      size_t cap)
{
    int carry = 0;
    for (size_t place = 0; place < cap; place++) {
        int sum = digit(large, place) +
                  (subtract ? -digit(small, place) - carry : digit(small, place) + carry);
        carry = subtract ? sum < 0 : sum > 9;
        out[cap - 1 - place] = (uint8_t)('0' + (sum + 10) % 10);
    }
    size_t first = 0;
    while (first + 1 < cap && out[first] == '0') {
        first++;
    }
    return first;
}

size_t rb_decimal_add(struct rb_slice a, struct rb_slice b, bool subtract, uint8_t *out)
{
    struct number x = parse(a), y = parse(b);
    y.negative ^= subtract;
    int order = compare(x.digits, y.digits);
    const struct number *large = order < 0 ? &y : &x, *small = order < 0 ? &x : &y;
    size_t cap = large->digits.len + 1;
    uint8_t *digits = out + 1; /* room for the sign */
    size_t first = combine(large->digits, small->digits, x.negative != y.negative, digits, cap);
    size_t len = cap - first;
    bool zero = len == 1 && digits[first] == '0';
    size_t sign = large->negative && !zero ? 1 : 0;
    memmove(out + sign, digits + first, len);
    if (sign == 1) {
        out[0] = '-';
    }
    return sign + len;
}
