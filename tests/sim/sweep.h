/* sweep.h - the command line of a simulator that runs seeds: which ones, how often, what it says of them (docs/testing.md). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sweep {
    const char *name; /* of the program */
    size_t totals_bytes;
    /** False: `failure` says why. Adds to `totals` (totals_bytes, zeroed at first); *ret_digest: what happened. */
    bool (*run)(uint64_t seed, bool trace, void *totals, uint64_t *ret_digest, char failure[256]);
    void (*report)(const void *totals);
};

/** The whole of main(). */
int sweep_main(const struct sweep *sweep, int argc, char **argv);
