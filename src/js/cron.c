/* cron.c - see cron.h. */
#include "js/cron.h"

#include <string.h>
#include <time.h>

#include "js/duration.h"
#include "proto/gotime.h"

#define SECOND_NS INT64_C(1000000000)
#define DAY 86400
#define HORIZON (INT64_C(5) * 366 * DAY)

struct field {
    uint32_t min, max;
    const char *names; /* three letters each, from min on */
};
static const struct field fields[6] = {
    { 0, 59, NULL },
    { 0, 59, NULL },
    { 0, 23, NULL },
    { 1, 31, NULL },
    { 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec" },
    { 0, 6, "sunmontuewedthufrisat" },
};

static bool value_of(const struct field *field, struct rb_slice text, uint32_t *ret_value)
{
    uint64_t value;
    if (field->names != NULL && text.len == 3) {
        for (uint32_t i = 0; i <= field->max - field->min; i++) {
            if (rb_slice_equal_fold(text, rb_slice_of(field->names + 3 * i, 3))) {
                *ret_value = field->min + i;
                return true;
            }
        }
    }
    if (!rb_slice_decimal(text, 4, &value)) {
        return false;
    }
    *ret_value = (uint32_t)value;
    return true;
}

/* What is before the first `c`; *ret_rest: what follows it, .ptr NULL when it is not there. */
static struct rb_slice before(struct rb_slice text, char c, struct rb_slice *ret_rest)
{
    const uint8_t *at = text.len == 0 ? NULL : memchr(text.ptr, c, text.len);
    if (at == NULL) {
        *ret_rest = rb_slice_of(NULL, 0);
        return text;
    }
    size_t len = (size_t)(at - text.ptr);
    *ret_rest = rb_slice_of(at + 1, text.len - len - 1);
    return rb_slice_of(text.ptr, len);
}

/* "*", "5", "5-10", each maybe with "/step". */
static bool add_range(const struct field *field, struct rb_slice text, uint64_t *bits, bool *any)
{
    struct rb_slice step_text, high_text;
    struct rb_slice range = before(text, '/', &step_text);
    uint32_t low = field->min, high = field->max, step = 1;
    bool all = rb_slice_equal(range, RB_S("*")) || rb_slice_equal(range, RB_S("?"));
    if (!all) {
        struct rb_slice low_text = before(range, '-', &high_text);
        if (!value_of(field, low_text, &low)) {
            return false;
        }
        if (high_text.ptr != NULL) {
            if (!value_of(field, high_text, &high)) {
                return false;
            }
        } else if (step_text.ptr == NULL) {
            high = low;
        }
    }
    uint64_t value;
    if (step_text.ptr != NULL) {
        if (!rb_slice_decimal(step_text, 4, &value)) {
            return false;
        }
        step = (uint32_t)value;
    }
    if (step == 0 || low < field->min || high > field->max || low > high) {
        return false;
    }
    *any |= all && step == 1;
    for (uint32_t i = low; i <= high; i += step) {
        *bits |= UINT64_C(1) << i;
    }
    return true;
}

static bool read_fields(struct rb_slice text, struct rb_cron *cron)
{
    uint64_t bits[6] = { 0 };
    bool any[6] = { false };
    uint32_t count = 0;
    for (size_t at = 0; at < text.len;) {
        size_t begin = at;
        while (at < text.len && text.ptr[at] != ' ' && text.ptr[at] != '\t') {
            at++;
        }
        if (at > begin) {
            if (count == 6) {
                return false;
            }
            struct rb_slice rest = rb_slice_of(text.ptr + begin, at - begin);
            while (rest.ptr != NULL) {
                struct rb_slice one = before(rest, ',', &rest);
                if (!add_range(&fields[count], one, &bits[count], &any[count])) {
                    return false;
                }
            }
            count++;
        } else {
            at++;
        }
    }
    *cron = (struct rb_cron){ .kind = RB_CRON_FIELDS,
                              .second = bits[0],
                              .minute = bits[1],
                              .hour = (uint32_t)bits[2],
                              .day = (uint32_t)bits[3],
                              .month = (uint16_t)bits[4],
                              .weekday = (uint8_t)bits[5],
                              .any_day = any[3],
                              .any_weekday = any[5] };
    return count == 6 && rb_cron_next(cron, NULL, 0) != UINT64_MAX;
}

bool rb_cron_parse(struct rb_slice text, struct rb_cron *ret_cron)
{
    static const struct {
        const char *name, *fields;
    } names[] = {
        { "@yearly", "0 0 0 1 1 *" },  { "@annually", "0 0 0 1 1 *" },
        { "@monthly", "0 0 0 1 * *" }, { "@weekly", "0 0 0 * * 0" },
        { "@daily", "0 0 0 * * *" },   { "@midnight", "0 0 0 * * *" },
        { "@hourly", "0 0 * * * *" },
    };
    char error[RB_GO_TIME_ERROR_MAX];
    *ret_cron = (struct rb_cron){ .kind = RB_CRON_AT };
    if (rb_slice_starts(text, RB_S("@at "))) {
        return rb_go_time(rb_slice_of(text.ptr + 4, text.len - 4), &ret_cron->at_ns, error);
    }
    if (rb_slice_starts(text, RB_S("@every "))) {
        ret_cron->kind = RB_CRON_EVERY;
        return rb_js_duration_parse(rb_slice_of(text.ptr + 7, text.len - 7), &ret_cron->every_ns) &&
               ret_cron->every_ns >= SECOND_NS;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (rb_slice_equal(text, rb_slice_text(names[i].name))) {
            return read_fields(rb_slice_text(names[i].fields), ret_cron);
        }
    }
    return read_fields(text, ret_cron);
}

static bool has(uint64_t bits, int value)
{
    return (bits >> value & 1) != 0;
}

static bool day_fits(const struct rb_cron *cron, const struct tm *local)
{
    bool day = has(cron->day, local->tm_mday), weekday = has(cron->weekday, local->tm_wday);
    return cron->any_day || cron->any_weekday ? day && weekday : day || weekday;
}

/* UTC of a local time without an offset; later than `after` in any case. */
static int64_t to_utc(const struct rb_zone *zone, int64_t local, int64_t after)
{
    int64_t utc = local - rb_zone_offset(zone, local);
    utc = local - rb_zone_offset(zone, utc);
    return utc > after ? utc : after + 3600;
}

uint64_t rb_cron_next(const struct rb_cron *cron, const struct rb_zone *zone, uint64_t from_ns)
{
    if (cron->kind == RB_CRON_AT) {
        return cron->at_ns < 0 ? 0 : (uint64_t)cron->at_ns;
    }
    if (cron->kind == RB_CRON_EVERY) {
        return from_ns + (uint64_t)cron->every_ns;
    }
    int64_t at = (int64_t)(from_ns / (uint64_t)SECOND_NS) + 1, limit = at + HORIZON;
    while (at < limit) {
        time_t shifted = at + rb_zone_offset(zone, at);
        struct tm local;
        if (gmtime_r(&shifted, &local) == NULL) {
            break;
        }
        int64_t midnight = shifted - (local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec);
        if (!has(cron->month, local.tm_mon + 1)) {
            struct tm next = { .tm_year = local.tm_year, .tm_mon = local.tm_mon + 1, .tm_mday = 1 };
            at = to_utc(zone, timegm(&next), at);
        } else if (!day_fits(cron, &local)) {
            at = to_utc(zone, midnight + DAY, at);
        } else if (!has(cron->hour, local.tm_hour)) {
            at += 3600 - (local.tm_min * 60 + local.tm_sec);
        } else if (!has(cron->minute, local.tm_min)) {
            at += 60 - local.tm_sec;
        } else if (!has(cron->second, local.tm_sec)) {
            at++;
        } else {
            return (uint64_t)at * (uint64_t)SECOND_NS;
        }
    }
    return UINT64_MAX;
}
