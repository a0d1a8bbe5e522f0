/* zone.c - see zone.h. The 64-bit part of a TZif file (RFC 8536): transitions, and the rule that holds behind the last of them. */
#include "js/zone.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAME_MAX_BYTES 64u
#define FILE_MAX_BYTES (64u << 10)
#define ZONES_MAX 1024u
#define HEAD_BYTES 44u
#define DAY 86400

/* "M3.5.0/2": the day of a year on which an offset changes, and the second of that day. */
struct change {
    int32_t month, week, day, second;
};
struct rule {
    int32_t standard, summer; /* seconds east of UTC */
    struct change begin, end; /* of summer time */
    bool given, has_summer;
};
struct rb_zone {
    struct rb_zone *next;
    size_t bytes;
    char name[NAME_MAX_BYTES + 1];
    uint32_t count; /* transitions */
    int32_t first;  /* offset before the first of them */
    struct rule rule;
    int64_t *times;
    int32_t *offsets;
};

/* ---- days ---- */

/* Days since 1970 of a date (Hinnant's algorithm). */
static int64_t days_of(int64_t year, int32_t month, int32_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int64_t year_of(int64_t seconds)
{
    int64_t days = seconds / DAY - (seconds % DAY < 0);
    int64_t year = 1970 + days / 366;
    while (days_of(year + 1, 1, 1) <= days) {
        year++;
    }
    while (days_of(year, 1, 1) > days) {
        year--;
    }
    return year;
}

/* Local second of a change, as if local time had no offset. */
static int64_t second_of(const struct change *change, int64_t year)
{
    int64_t first = days_of(year, change->month, 1);
    int64_t weekday = ((first + 4) % 7 + 7) % 7;
    int64_t day = first + (change->day - weekday + 7) % 7 + (change->week - 1) * 7;
    int64_t next =
        change->month == 12 ? days_of(year + 1, 1, 1) : days_of(year, change->month + 1, 1);
    while (day >= next) { /* week 5: the last one */
        day -= 7;
    }
    return day * DAY + change->second;
}

/* ---- the rule: "CET-1CEST,M3.5.0,M10.5.0/3" ---- */

struct text {
    const char *at, *end;
    bool good;
};

static int32_t number(struct text *text)
{
    int32_t value = 0;
    bool any = false;
    while (text->at < text->end && *text->at >= '0' && *text->at <= '9' && value < 10000) {
        value = value * 10 + (*text->at++ - '0');
        any = true;
    }
    text->good &= any;
    return value;
}

static bool takes(struct text *text, char wanted)
{
    bool there = text->at < text->end && *text->at == wanted;
    text->at += there;
    return there;
}

static void skip_name(struct text *text)
{
    bool quoted = takes(text, '<');
    const char *begin = text->at;
    while (text->at < text->end && (quoted ? *text->at != '>'
                                           : (*text->at >= 'A' && *text->at <= 'Z') ||
                                                 (*text->at >= 'a' && *text->at <= 'z'))) {
        text->at++;
    }
    text->good &= text->at > begin && (!quoted || takes(text, '>'));
}

/* hh[:mm[:ss]] with a sign, in seconds. */
static int32_t clock_time(struct text *text)
{
    bool negative = takes(text, '-');
    if (!negative) {
        (void)takes(text, '+');
    }
    int32_t value = number(text) * 3600;
    value += takes(text, ':') ? number(text) * 60 : 0;
    value += takes(text, ':') ? number(text) : 0;
    return negative ? -value : value;
}

static struct change read_change(struct text *text)
{
    struct change change = { .second = 7200 };
    text->good &= takes(text, ',') && takes(text, 'M');
    change.month = number(text);
    text->good &= takes(text, '.');
    change.week = number(text);
    text->good &= takes(text, '.');
    change.day = number(text);
    if (takes(text, '/')) {
        change.second = clock_time(text);
    }
    text->good &= change.month >= 1 && change.month <= 12 && change.week >= 1 && change.week <= 5 &&
                  change.day <= 6;
    return change;
}

/* Rules of other forms than M are left alone: then the last transition's offset goes on. */
static struct rule read_rule(const char *at, const char *end)
{
    struct text text = { at, end, true };
    struct rule rule = { .given = false };
    skip_name(&text);
    rule.standard = -clock_time(&text);
    if (text.good && text.at < text.end) {
        rule.has_summer = true;
        skip_name(&text);
        rule.summer = rule.standard + 3600;
        if (text.at < text.end && *text.at != ',') {
            rule.summer = -clock_time(&text);
        }
        rule.begin = read_change(&text);
        rule.end = read_change(&text);
    }
    rule.given = text.good && text.at == text.end;
    return rule;
}

static int32_t offset_by_rule(const struct rule *rule, int64_t seconds)
{
    if (!rule->has_summer) {
        return rule->standard;
    }
    int64_t year = year_of(seconds + rule->standard);
    int64_t begin = second_of(&rule->begin, year) - rule->standard;
    int64_t end = second_of(&rule->end, year) - rule->summer;
    bool summer =
        begin < end ? seconds >= begin && seconds < end : seconds >= begin || seconds < end;
    return summer ? rule->summer : rule->standard;
}

/* ---- files ---- */

static uint32_t big32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

struct counts {
    uint32_t utc, standard, leaps, times, types, chars;
};

static bool read_head(struct rb_slice file, size_t at, struct counts *ret_counts)
{
    if (at > file.len || file.len - at < HEAD_BYTES || memcmp(file.ptr + at, "TZif", 4) != 0 ||
        file.ptr[at + 4] < '2') {
        return false;
    }
    const uint8_t *n = file.ptr + at + 20;
    *ret_counts = (struct counts){ big32(n),      big32(n + 4),  big32(n + 8),
                                   big32(n + 12), big32(n + 16), big32(n + 20) };
    return ret_counts->times < FILE_MAX_BYTES && ret_counts->types < 256 && ret_counts->types > 0 &&
           ret_counts->chars < FILE_MAX_BYTES && ret_counts->leaps < FILE_MAX_BYTES &&
           ret_counts->utc <= 256 && ret_counts->standard <= 256;
}

static size_t body_bytes(const struct counts *counts, size_t time_bytes)
{
    return counts->times * (time_bytes + 1) + counts->types * 6u + counts->chars +
           counts->leaps * (time_bytes + 4) + counts->standard + counts->utc;
}

static struct rb_zone *parse(struct rb_budget *budget, struct rb_slice file)
{
    struct counts old, counts;
    if (!read_head(file, 0, &old)) {
        return NULL;
    }
    size_t second = HEAD_BYTES + body_bytes(&old, 4);
    if (!read_head(file, second, &counts) ||
        file.len - second - HEAD_BYTES < body_bytes(&counts, 8)) {
        return NULL;
    }
    const uint8_t *times = file.ptr + second + HEAD_BYTES;
    const uint8_t *indexes = times + counts.times * 8u, *types = indexes + counts.times;
    size_t bytes = sizeof(struct rb_zone) + counts.times * (sizeof(int64_t) + sizeof(int32_t));
    struct rb_zone *zone = rb_alloc(budget, bytes);
    if (zone == NULL) {
        return NULL;
    }
    zone->bytes = bytes;
    zone->count = counts.times;
    zone->times = (int64_t *)(zone + 1);
    zone->offsets = (int32_t *)(zone->times + counts.times);
    zone->first = (int32_t)big32(types);
    for (uint32_t i = 0; i < counts.times; i++) {
        const uint8_t *at = times + i * 8u;
        uint32_t type = indexes[i] < counts.types ? indexes[i] : 0;
        zone->times[i] = (int64_t)((uint64_t)big32(at) << 32 | big32(at + 4));
        zone->offsets[i] = (int32_t)big32(types + type * 6u);
    }
    const char *end = (const char *)file.ptr + file.len;
    const char *footer = (const char *)times + body_bytes(&counts, 8);
    if (footer < end && *footer == '\n') {
        const char *line = memchr(footer + 1, '\n', (size_t)(end - footer - 1));
        if (line != NULL && line > footer + 1) {
            zone->rule = read_rule(footer + 1, line);
        }
    }
    return zone;
}

static bool is_name(struct rb_slice name)
{
    if (name.len == 0 || name.len > NAME_MAX_BYTES || name.ptr[0] == '/') {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool good = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                    (c != '\0' && strchr("_+-/", c) != NULL);
        if (!good) {
            return false; /* no dots: nothing above the folder */
        }
    }
    return true;
}

static struct rb_zone *load(struct rb_budget *budget, struct rb_slice name)
{
    char path[sizeof("/usr/share/zoneinfo/") + NAME_MAX_BYTES];
    (void)snprintf(path, sizeof(path), "/usr/share/zoneinfo/%.*s", RB_S_ARG(name));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    uint8_t *bytes = rb_alloc(budget, FILE_MAX_BYTES);
    ssize_t len = bytes == NULL ? -1 : read(fd, bytes, FILE_MAX_BYTES);
    (void)close(fd);
    struct rb_zone *zone = len <= 0 ? NULL : parse(budget, rb_slice_of(bytes, (size_t)len));
    rb_free(budget, bytes, FILE_MAX_BYTES);
    return zone;
}

/* ---- outside ---- */

void rb_zones_init(struct rb_zones *zones, struct rb_budget *budget)
{
    *zones = (struct rb_zones){ .budget = budget };
}

void rb_zones_deinit(struct rb_zones *zones)
{
    while (zones->first != NULL) {
        struct rb_zone *zone = zones->first;
        zones->first = zone->next;
        rb_free(zones->budget, zone, zone->bytes);
    }
}

const struct rb_zone *rb_zone_find(struct rb_zones *zones, struct rb_slice name)
{
    if (!is_name(name)) {
        return NULL;
    }
    for (struct rb_zone *zone = zones->first; zone != NULL; zone = zone->next) {
        if (rb_slice_equal(rb_slice_text(zone->name), name)) {
            return zone;
        }
    }
    struct rb_zone *zone = zones->count < ZONES_MAX ? load(zones->budget, name) : NULL;
    if (zone != NULL) {
        memcpy(zone->name, name.ptr, name.len);
        zone->next = zones->first;
        zones->first = zone;
        zones->count++;
    }
    return zone;
}

int32_t rb_zone_offset(const struct rb_zone *zone, int64_t seconds)
{
    if (zone == NULL) {
        return 0;
    }
    uint32_t low = 0, high = zone->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (zone->times[middle] <= seconds) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == zone->count && zone->rule.given) {
        return offset_by_rule(&zone->rule, seconds);
    }
    return low == 0 ? zone->first : zone->offsets[low - 1];
}
