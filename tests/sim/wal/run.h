/* run.h - one seed: a log that lives through several sessions, each ended by a close, a crash or a power cut. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct run_totals {
    uint64_t sessions, writes, acknowledged, cuts, kills, closes, stops, stuck, spaces, damages,
        flips, torn, opens_failed, exhausted;
};

/** False: `failure` says why. `trace`: prints what happens. Adds to `totals`; *ret_digest: what happened. */
bool run_seed(uint64_t seed, bool trace, struct run_totals *totals, uint64_t *ret_digest,
              char failure[256]);
