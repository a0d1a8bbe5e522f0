/* cron.h - when a schedule is due: "@at <time>", "@every <duration>", six fields (sec min hour day month weekday) or "@daily" and its
 * like (reference: jetstream.md 10). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "js/zone.h"
#include "ringbus/slice.h"

enum rb_cron_kind { RB_CRON_AT, RB_CRON_EVERY, RB_CRON_FIELDS };
struct rb_cron {
    enum rb_cron_kind kind;
    int64_t at_ns, every_ns;
    uint64_t second, minute; /* bit per value, as the others */
    uint32_t hour, day;
    uint16_t month;
    uint8_t weekday;
    bool any_day, any_weekday; /* the field restricts nothing */
};

/** False: it is none, or it is never due. */
bool rb_cron_parse(struct rb_slice text, struct rb_cron *ret_cron);
/**
 * When it is due after `from_ns`, ns since 1970; UINT64_MAX: not within five years. AT: always the same time. EVERY: from + every.
 * FIELDS: in `zone`, NULL: UTC.
 */
uint64_t rb_cron_next(const struct rb_cron *cron, const struct rb_zone *zone, uint64_t from_ns);
