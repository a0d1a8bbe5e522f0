/* main.c - ringbus_sim_js: JetStream of one shard under faults (docs/testing.md); sweep.c reads the command line. */
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
    printf("%llu sessions, %llu publishes (%llu confirmed, %llu refused), %llu deletes and purges, "
           "%llu "
           "deliveries (%llu again), %llu acks confirmed, %llu power cuts, %llu kills, %llu "
           "closes, %llu cut while "
           "starting, %llu starts on a full disk, %llu holds, %llu flips, %llu streams offline, "
           "%llu unreadable\n",
           (unsigned long long)t->sessions, (unsigned long long)t->publishes,
           (unsigned long long)t->confirmed, (unsigned long long)t->refused,
           (unsigned long long)t->changes, (unsigned long long)t->deliveries,
           (unsigned long long)t->redeliveries, (unsigned long long)t->acks,
           (unsigned long long)t->cuts, (unsigned long long)t->kills, (unsigned long long)t->closes,
           (unsigned long long)t->early, (unsigned long long)t->full_starts,
           (unsigned long long)t->holds, (unsigned long long)t->flips,
           (unsigned long long)t->offline, (unsigned long long)t->unreadable);
}

int main(int argc, char **argv)
{
    static const struct sweep sweep = { "ringbus_sim_js", sizeof(struct run_totals), run, report };
    return sweep_main(&sweep, argc, argv);
}
