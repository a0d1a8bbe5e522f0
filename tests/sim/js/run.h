/* run.h - one seed of JetStream's simulation. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct run_totals {
    uint64_t sessions, publishes, confirmed, refused, changes, deliveries, redeliveries, acks;
    uint64_t cuts, kills, closes, early, full_starts, holds, flips, offline, unreadable;
};

bool run_seed(uint64_t seed, bool traced, struct run_totals *totals, uint64_t *ret_digest,
              char failure[256]);
