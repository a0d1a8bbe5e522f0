/* sweep.c - seeds in, verdicts out.
 *
 *   PROGRAM --seed N [--trace]   one seed
 *   PROGRAM --seconds S          from --seed (or 1) on until the time is up
 *   PROGRAM --seeds FROM..TO     a range
 *   PROGRAM --file PATH          seeds listed in a file
 * The first failure ends the run with exit code 1 and the command that repeats it. Every 16th seed runs twice, to see that it
 * does the same. */
#include "sweep.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TWICE_EVERY 16

static const struct sweep *sweep_of; /* for on_abort and all that follows */
static uint64_t current_seed, seed_count;
static void *totals, *ignored;

static void on_abort(int number)
{
    char text[96];
    int len = snprintf(text, sizeof(text), "\n%s: died in seed %llu\n", sweep_of->name,
                       (unsigned long long)current_seed);
    if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0) {
        _exit(1);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static bool one(uint64_t seed, bool trace)
{
    char failure[256] = "";
    uint64_t first = 0;
    uint64_t second = 0;
    current_seed = seed;
    seed_count++;
    bool good = sweep_of->run(seed, trace, totals, &first, failure);
    if (good && seed % TWICE_EVERY == 0) {
        memset(ignored, 0, sweep_of->totals_bytes);
        good = sweep_of->run(seed, false, ignored, &second, failure);
        if (good && first != second) {
            snprintf(failure, sizeof(failure), "the second run of the seed was another one");
            good = false;
        }
    }
    if (!good) {
        printf("seed %llu: %s\nrepeat: %s --seed %llu --trace\n", (unsigned long long)seed, failure,
               sweep_of->name, (unsigned long long)seed);
    }
    return good;
}

static bool from_file(const char *path)
{
    char line[128];
    FILE *file = fopen(path, "r");
    bool good = file != NULL;
    while (good && fgets(line, sizeof(line), file) != NULL) {
        if (line[0] >= '0' && line[0] <= '9') {
            good = one(strtoull(line, NULL, 10), false);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return good;
}

static bool until(uint64_t seed, double seconds)
{
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    bool good = true;
    do {
        good = one(seed++, false);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (good &&
             (double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9 <
                 seconds);
    return good;
}

int sweep_main(const struct sweep *sweep, int argc, char **argv)
{
    uint64_t seed = 1;
    uint64_t last = 0;
    double seconds = 0;
    const char *path = NULL;
    bool trace = false;
    sweep_of = sweep;
    totals = calloc(1, sweep->totals_bytes);
    ignored = calloc(1, sweep->totals_bytes);
    if (totals == NULL || ignored == NULL) {
        fprintf(stderr, "%s: no memory\n", sweep->name);
        return 2;
    }
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
            fprintf(stderr,
                    "usage: %s [--seed N] [--trace] [--seconds S] [--seeds "
                    "A..B] [--file PATH]\n",
                    sweep->name);
            return 2;
        }
    }
    bool good = true;
    if (path != NULL) {
        good = from_file(path);
    } else if (seconds > 0) {
        good = until(seed, seconds);
    } else {
        for (last = last < seed ? seed : last; good && seed <= last; seed++) {
            good = one(seed, trace);
        }
    }
    sweep->report(totals);
    printf("%llu passed, %d failed\n", (unsigned long long)(seed_count - (good ? 0 : 1)),
           good ? 0 : 1);
    free(totals);
    free(ignored);
    return good ? 0 : 1;
}
