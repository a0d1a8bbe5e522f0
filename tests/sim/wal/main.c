/* main.c - ringbus_sim_wal: the log under faults (docs/testing.md); sweep.c reads the command line. */
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
    printf("%llu sessions, %llu writes, %llu acknowledged, %llu power cuts, %llu kills, %llu "
           "closes, %llu stops, "
           "%llu refusals for space, %llu flips, %llu damages named, %llu torn batches\n",
           (unsigned long long)t->sessions, (unsigned long long)t->writes,
           (unsigned long long)t->acknowledged, (unsigned long long)t->cuts,
           (unsigned long long)t->kills, (unsigned long long)t->closes,
           (unsigned long long)t->stops, (unsigned long long)t->spaces,
           (unsigned long long)t->flips, (unsigned long long)t->damages,
           (unsigned long long)t->torn);
}

int main(int argc, char **argv)
{
    static const struct sweep sweep = { "ringbus_sim_wal", sizeof(struct run_totals), run, report };
    return sweep_main(&sweep, argc, argv);
}
