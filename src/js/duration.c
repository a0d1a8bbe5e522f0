/* duration.c - see duration.h. */
#include "js/duration.h"

#include <stdio.h>
#include <string.h>

#define SECOND INT64_C(1000000000)

/* `value` in units of 10^digits as a decimal fraction without zeroes at its end. */
static size_t put_fraction(char *out, size_t cap, uint64_t value, uint32_t digits, const char *unit)
{
    uint64_t scale = 1;
    for (uint32_t i = 0; i < digits; i++) {
        scale *= 10;
    }
    int len = snprintf(out, cap, "%llu", (unsigned long long)(value / scale));
    uint64_t rest = value % scale;
    if (rest != 0) {
        int width = (int)digits;
        while (rest % 10 == 0) {
            rest /= 10;
            width--;
        }
        len += snprintf(out + len, cap - (size_t)len, ".%0*llu", width, (unsigned long long)rest);
    }
    return (size_t)len + (size_t)snprintf(out + len, cap - (size_t)len, "%s", unit);
}

size_t rb_js_duration_format(int64_t ns, char out[RB_JS_DURATION_MAX])
{
    uint64_t left = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    size_t at = 0, cap = RB_JS_DURATION_MAX;
    if (ns < 0) {
        out[at++] = '-';
    }
    if (left == 0) {
        return (size_t)snprintf(out, cap, "0s");
    }
    if (left < 1000) {
        return at + put_fraction(out + at, cap - at, left, 0, "ns");
    }
    if (left < 1000000) {
        return at + put_fraction(out + at, cap - at, left, 3, "\xc2\xb5s");
    }
    if (left < (uint64_t)SECOND) {
        return at + put_fraction(out + at, cap - at, left, 6, "ms");
    }
    uint64_t minutes = left / (60 * (uint64_t)SECOND);
    if (minutes >= 60) {
        at += (size_t)snprintf(out + at, cap - at, "%lluh", (unsigned long long)(minutes / 60));
    }
    if (minutes > 0) {
        at += (size_t)snprintf(out + at, cap - at, "%llum", (unsigned long long)(minutes % 60));
    }
    return at + put_fraction(out + at, cap - at, left % (60 * (uint64_t)SECOND), 9, "s");
}

static uint64_t unit_ns(struct rb_slice *rest)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } units[] = { { "ns", 1 },
                  { "us", 1000 },
                  { "\xc2\xb5s", 1000 },
                  { "\xce\xbcs", 1000 },
                  { "ms", 1000000 },
                  { "s", 1000000000 },
                  { "m", UINT64_C(60) * 1000000000 },
                  { "h", UINT64_C(3600) * 1000000000 } };
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        struct rb_slice text = rb_slice_text(units[i].text);
        struct rb_slice after = rb_slice_of(rest->ptr + text.len, rest->len - text.len);
        if (rb_slice_starts(*rest, text) &&
            (after.len == 0 || (after.ptr[0] >= '0' && after.ptr[0] <= '9') ||
             after.ptr[0] == '.')) {
            *rest = after;
            return units[i].ns;
        }
    }
    return 0;
}

static bool digit(struct rb_slice text)
{
    return text.len > 0 && text.ptr[0] >= '0' && text.ptr[0] <= '9';
}

static void step(struct rb_slice *text)
{
    text->ptr++;
    text->len--;
}

/* One number with its unit, added to *sum. */
static bool take_part(struct rb_slice *rest, uint64_t *sum)
{
    uint64_t whole = 0, fraction = 0, scale = 1;
    bool any = false;
    for (; digit(*rest); step(rest)) {
        if (whole > UINT64_MAX / 100) {
            return false;
        }
        whole = whole * 10 + (uint64_t)(rest->ptr[0] - '0');
        any = true;
    }
    if (rest->len > 0 && rest->ptr[0] == '.') {
        for (step(rest); digit(*rest); step(rest)) {
            any = true;
            if (scale < UINT64_C(1000000000000)) {
                fraction = fraction * 10 + (uint64_t)(rest->ptr[0] - '0');
                scale *= 10;
            }
        }
    }
    uint64_t unit = any ? unit_ns(rest) : 0;
    if (unit == 0 || whole > (uint64_t)INT64_MAX / unit) {
        return false;
    }
    uint64_t ns = whole * unit + (uint64_t)((double)fraction * ((double)unit / (double)scale));
    *sum += ns;
    return *sum <= (uint64_t)INT64_MAX;
}

bool rb_js_duration_parse(struct rb_slice text, int64_t *ret_ns)
{
    struct rb_slice rest = text;
    bool negative = rest.len > 0 && rest.ptr[0] == '-';
    if (rest.len > 0 && (rest.ptr[0] == '-' || rest.ptr[0] == '+')) {
        step(&rest);
    }
    uint64_t sum = 0;
    if (rb_slice_equal(rest, RB_S("0"))) {
        *ret_ns = 0;
        return true;
    }
    if (rest.len == 0) {
        return false;
    }
    while (rest.len > 0) {
        if (!take_part(&rest, &sum)) {
            return false;
        }
    }
    *ret_ns = negative ? -(int64_t)sum : (int64_t)sum;
    return true;
}
