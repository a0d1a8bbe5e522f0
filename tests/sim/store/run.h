/* run.h - one seed of the message stores' simulation. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct run_totals {
    uint64_t sessions, appends, removes, gets, loads, checkpoints, checkpoint_errors;
    uint64_t cuts, kills, closes, flips, damages, corrupt, scans, pressure, destroyed, moved_back;
};

bool run_seed(uint64_t seed, bool traced, struct run_totals *totals, uint64_t *ret_digest,
              char failure[256]);
