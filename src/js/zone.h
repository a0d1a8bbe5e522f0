/* zone.h - time zones by their IANA names, from the system's database (/usr/share/zoneinfo, TZif files). Read with plain file calls:
 * small files, each once per shard, and only for schedules that name a zone. */
#pragma once

#include <stdint.h>

#include "ringbus/mem.h"
#include "ringbus/slice.h"

struct rb_zone;
struct rb_zones {
    struct rb_budget *budget;
    struct rb_zone *first;
    uint32_t count;
};

void rb_zones_init(struct rb_zones *zones, struct rb_budget *budget);
void rb_zones_deinit(struct rb_zones *zones);
/** NULL: there is no such zone, or memory was refused. Stays until deinit. */
const struct rb_zone *rb_zone_find(struct rb_zones *zones, struct rb_slice name);
/** Seconds east of UTC at that time (seconds since 1970). `zone` NULL: UTC. */
int32_t rb_zone_offset(const struct rb_zone *zone, int64_t seconds);
