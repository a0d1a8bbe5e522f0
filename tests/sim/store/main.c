/* main.c - ringbus_sim_store: message stores under faults (docs/testing.md); sweep.c reads the command line. */
#include <stdio.h>

#include "run.h"
#include "sweep.h"

static bool run(uint64_t seed, bool trace, void *totals, uint64_t *ret_digest, char failure[256])
{
    return run_seed(seed, trace, totals, ret_digest, failure);
}

static void report(const void *totals)
{
    const struct run_totals *t = totals;
    printf(
        "%llu sessions, %llu appends, %llu removes, %llu gets, %llu loads, %llu checkpoints (%llu "
        "failed), %llu power cuts, %llu kills, %llu closes, %llu flips, %llu damages named, %llu "
        "corrupt, %llu older checkpoints, %llu scans, %llu under pressure, %llu destroyed\n",
        (unsigned long long)t->sessions, (unsigned long long)t->appends,
        (unsigned long long)t->removes, (unsigned long long)t->gets, (unsigned long long)t->loads,
        (unsigned long long)t->checkpoints, (unsigned long long)t->checkpoint_errors,
        (unsigned long long)t->cuts, (unsigned long long)t->kills, (unsigned long long)t->closes,
        (unsigned long long)t->flips, (unsigned long long)t->damages,
        (unsigned long long)t->corrupt, (unsigned long long)t->moved_back,
        (unsigned long long)t->scans, (unsigned long long)t->pressure,
        (unsigned long long)t->destroyed);
}

int main(int argc, char **argv)
{
    static const struct sweep sweep = { "ringbus_sim_store", sizeof(struct run_totals), run,
                                        report };
    return sweep_main(&sweep, argc, argv);
}
