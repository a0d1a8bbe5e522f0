/* gotime.c - walks the layout "2006-01-02T15:04:05Z07:00" beside the text, one element at a time. */
#include "proto/gotime.h"

#include <stdio.h>

#define SECOND_NS 1000000000ll

struct parts {
    int32_t year, month, day, hour, minute, second, fraction_ns, zone_s;
};

struct walk {
    struct rb_slice whole, left;
    char *error;
};

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Texts in these errors are quoted like %q; what does not fit is cut. */
static bool wrong(struct walk *w, struct rb_slice value, const char *element)
{
    uint8_t whole[48], part[48];
    size_t whole_len = rb_format_quoted(whole, sizeof(whole), w->whole);
    size_t part_len = rb_format_quoted(part, sizeof(part), value);
    (void)snprintf(w->error, RB_GO_TIME_ERROR_MAX,
                   "parsing time \"%.*s\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"%.*s\" "
                   "as \"%s\"",
                   (int)whole_len, (const char *)whole, (int)part_len, (const char *)part, element);
    return false;
}

static bool out_of_range(struct walk *w, const char *what)
{
    uint8_t whole[64];
    size_t len = rb_format_quoted(whole, sizeof(whole), w->whole);
    (void)snprintf(w->error, RB_GO_TIME_ERROR_MAX, "parsing time \"%.*s\": %s out of range",
                   (int)len, (const char *)whole, what);
    return false;
}

/* Exactly `digits` of them. */
static bool take_number(struct walk *w, size_t digits, const char *element, int32_t *ret_value)
{
    int32_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        if (i >= w->left.len || !is_digit(w->left.ptr[i])) {
            return wrong(w, w->left, element);
        }
        value = value * 10 + (w->left.ptr[i] - '0');
    }
    w->left = rb_slice_of(w->left.ptr + digits, w->left.len - digits);
    *ret_value = value;
    return true;
}

static bool take_mark(struct walk *w, char mark)
{
    const char element[2] = { mark, '\0' };
    if (w->left.len == 0 || w->left.ptr[0] != (uint8_t)mark) {
        return wrong(w, w->left, element);
    }
    w->left = rb_slice_of(w->left.ptr + 1, w->left.len - 1);
    return true;
}

static int32_t days_in(int32_t year, int32_t month)
{
    static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

static bool take_date(struct walk *w, struct parts *p)
{
    if (!take_number(w, 4, "2006", &p->year) || !take_mark(w, '-') ||
        !take_number(w, 2, "01", &p->month)) {
        return false;
    }
    if (p->month < 1 || p->month > 12) {
        return out_of_range(w, "month");
    }
    return take_mark(w, '-') && take_number(w, 2, "02", &p->day) && take_mark(w, 'T');
}

/* A dot or comma with digits may follow the seconds; digits from the tenth on count for nothing. */
static void take_fraction(struct walk *w, struct parts *p)
{
    if (w->left.len < 2 || (w->left.ptr[0] != '.' && w->left.ptr[0] != ',') ||
        !is_digit(w->left.ptr[1])) {
        return;
    }
    size_t at = 1;
    int32_t scale = (int32_t)SECOND_NS / 10;
    for (; at < w->left.len && is_digit(w->left.ptr[at]); at++, scale /= 10) {
        p->fraction_ns += (w->left.ptr[at] - '0') * scale;
    }
    w->left = rb_slice_of(w->left.ptr + at, w->left.len - at);
}

static bool take_clock(struct walk *w, struct parts *p)
{
    /* Go takes an hour of one digit too. */
    bool one = w->left.len >= 2 && is_digit(w->left.ptr[0]) && !is_digit(w->left.ptr[1]);
    if (!take_number(w, one ? 1 : 2, "15", &p->hour)) {
        return false;
    }
    if (p->hour > 23) {
        return out_of_range(w, "hour");
    }
    if (!take_mark(w, ':') || !take_number(w, 2, "04", &p->minute)) {
        return false;
    }
    if (p->minute > 59) {
        return out_of_range(w, "minute");
    }
    if (!take_mark(w, ':') || !take_number(w, 2, "05", &p->second)) {
        return false;
    }
    if (p->second > 59) {
        return out_of_range(w, "second");
    }
    take_fraction(w, p);
    return true;
}

static bool take_zone(struct walk *w, struct parts *p)
{
    if (w->left.len > 0 && w->left.ptr[0] == 'Z') {
        w->left = rb_slice_of(w->left.ptr + 1, w->left.len - 1);
        return true;
    }
    const uint8_t *z = w->left.ptr;
    if (w->left.len < 6 || (z[0] != '+' && z[0] != '-') || !is_digit(z[1]) || !is_digit(z[2]) ||
        z[3] != ':' || !is_digit(z[4]) || !is_digit(z[5])) {
        return wrong(w, w->left, "Z07:00");
    }
    int32_t hours = (z[1] - '0') * 10 + z[2] - '0', minutes = (z[4] - '0') * 10 + z[5] - '0';
    if (hours > 24) {
        return out_of_range(w, "time zone offset hour");
    }
    if (minutes > 60) {
        return out_of_range(w, "time zone offset minute");
    }
    p->zone_s = (hours * 60 + minutes) * (z[0] == '-' ? -60 : 60);
    w->left = rb_slice_of(z + 6, w->left.len - 6);
    return true;
}

/* Days from 1970-01-01, in the calendar of today for all years. */
static int64_t days_since_1970(const struct parts *p)
{
    int64_t year = p->month <= 2 ? p->year - 1 : p->year;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (p->month + (p->month > 2 ? -3 : 9)) + 2) / 5 + p->day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

bool rb_go_time(struct rb_slice text, int64_t *ret_ns, char error[RB_GO_TIME_ERROR_MAX])
{
    struct walk w = { .whole = text, .left = text, .error = error };
    struct parts p = { 0 };
    if (!take_date(&w, &p) || !take_clock(&w, &p) || !take_zone(&w, &p)) {
        return false;
    }
    if (w.left.len > 0) {
        uint8_t whole[64], left[64];
        size_t whole_len = rb_format_quoted(whole, sizeof(whole), text);
        size_t left_len = rb_format_quoted(left, sizeof(left), w.left);
        (void)snprintf(error, RB_GO_TIME_ERROR_MAX, "parsing time \"%.*s\": extra text: \"%.*s\"",
                       (int)whole_len, (const char *)whole, (int)left_len, (const char *)left);
        return false;
    }
    if (p.day < 1 || p.day > days_in(p.year, p.month)) {
        return out_of_range(&w, "day");
    }
    int64_t seconds = days_since_1970(&p) * 86400 + p.hour * 3600 + p.minute * 60 + p.second;
    seconds -= p.zone_s;
    if (seconds == -62135596800ll && p.fraction_ns == 0) {
        *ret_ns = RB_GO_ZERO_TIME;
    } else if (seconds <= INT64_MIN / SECOND_NS) {
        *ret_ns = INT64_MIN + 1;
    } else if (seconds >= INT64_MAX / SECOND_NS) {
        *ret_ns = INT64_MAX;
    } else {
        *ret_ns = seconds * SECOND_NS + p.fraction_ns;
    }
    return true;
}
