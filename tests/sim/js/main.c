/* main.c - ringbus_sim_js: JetStream of one shard under faults, seeds in, verdicts out (docs/testing.md).
 *
 *   ringbus_sim_js --seed N [--trace]   one seed
 *   ringbus_sim_js --seconds S          from --seed (or 1) on until the time is up
 *   ringbus_sim_js --seeds FROM..TO     a range
 *   ringbus_sim_js --file PATH          seeds listed in a file
 * The first failure ends the run with exit code 1 and the command that repeats it. Every 16th seed runs twice, to see that it
 * does the same. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

#define TWICE_EVERY 16

static uint64_t current_seed;

static void on_abort(int number)
{
    char text[96];
    int len = snprintf(text, sizeof(text), "\nringbus_sim_js: died in seed %llu\n",
                       (unsigned long long)current_seed);
    if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0) {
        _exit(1);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static bool one(uint64_t seed, bool trace, struct run_totals *totals)
{
    char failure[256] = "";
    uint64_t first = 0;
    uint64_t second = 0;
    current_seed = seed;
    bool good = run_seed(seed, trace, totals, &first, failure);
    if (good && seed % TWICE_EVERY == 0) {
        struct run_totals ignored = { 0 };
        good = run_seed(seed, false, &ignored, &second, failure);
        if (good && first != second) {
            snprintf(failure, sizeof(failure), "the second run of the seed was another one");
            good = false;
        }
    }
    if (!good) {
        printf("seed %llu: %s\nrepeat: ringbus_sim_js --seed %llu --trace\n",
               (unsigned long long)seed, failure, (unsigned long long)seed);
    }
    return good;
}

static bool from_file(const char *path, struct run_totals *totals)
{
    char line[128];
    FILE *file = fopen(path, "r");
    bool good = file != NULL;
    while (good && fgets(line, sizeof(line), file) != NULL) {
        if (line[0] >= '0' && line[0] <= '9') {
            good = one(strtoull(line, NULL, 10), false, totals);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return good;
}

static bool until(uint64_t seed, double seconds, struct run_totals *totals)
{
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    bool good = true;
    do {
        good = one(seed++, false, totals);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (good &&
             (double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9 <
                 seconds);
    return good;
}

static void report(const struct run_totals *t, bool good)
{
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
    printf("%llu passed, %d failed\n", (unsigned long long)(t->seeds - (good ? 0 : 1)),
           good ? 0 : 1);
}

int main(int argc, char **argv)
{
    struct run_totals totals = { 0 };
    uint64_t seed = 1;
    uint64_t last = 0;
    double seconds = 0;
    const char *path = NULL;
    bool trace = false;
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--seed") == 0 && more) {
            seed = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seconds") == 0 && more) {
            seconds = strtod(argv[++i], NULL);
        } else if (strcmp(argv[i], "--file") == 0 && more) {
            path = argv[++i];
        } else if (strcmp(argv[i], "--seeds") == 0 && more &&
                   sscanf(argv[++i], "%lu..%lu", &seed, &last) == 2) {
            continue;
        } else {
            fprintf(stderr, "usage: ringbus_sim_js [--seed N] [--trace] [--seconds S] [--seeds "
                            "A..B] [--file PATH]\n");
            return 2;
        }
    }
    bool good = true;
    if (path != NULL) {
        good = from_file(path, &totals);
    } else if (seconds > 0) {
        good = until(seed, seconds, &totals);
    } else {
        for (last = last < seed ? seed : last; good && seed <= last; seed++) {
            good = one(seed, trace, &totals);
        }
    }
    report(&totals, good);
    return good ? 0 : 1;
}
