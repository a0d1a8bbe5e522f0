/* main.c - ringbus_sim: seeds in, verdicts out (docs/testing.md).
 *
 *   ringbus_sim --seed N [--trace]   one seed, verbosely
 *   ringbus_sim --seeds FROM..TO     a range
 *   ringbus_sim --seconds S          from --seed (or 1) on until the time is up
 *   ringbus_sim --file PATH          seeds listed in a file
 * A seed is of the plain simulation; with an "a" in front ("a17") of the simulation of accounts (acct.h). --seconds runs
 * both kinds of each.
 * The first failure ends the run with exit code 1 and the command that repeats it. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "acct.h"
#include "world.h"

#define TWICE_EVERY 64 /* of so many seeds one runs a second time, to see that it does the same */

static uint64_t current_seed;
static const char *current_kind = "";

void sim_fail(struct sim_world *w, const char *format, ...)
{
    va_list args;
    if (w->failed) {
        return;
    }
    w->failed = true;
    va_start(args, format);
    vsnprintf(w->failure, sizeof(w->failure), format, args);
    va_end(args);
    sim_trace(w, "FAILED: %s", w->failure);
}

void sim_trace(struct sim_world *w, const char *format, ...)
{
    va_list args;
    if (!w->trace) {
        return;
    }
    printf("%10.3f ms  ", w->net == NULL ? 0.0 : (double)rb_sim_net_now(w->net) / 1e6 - 1000);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

void *sim_grow(void *items, uint32_t *cap, uint32_t need, size_t item_bytes)
{
    if (need <= *cap) {
        return items;
    }
    uint32_t grown = *cap == 0 ? 8 : *cap;
    while (grown < need) {
        grown *= 2;
    }
    items = realloc(items, grown * item_bytes);
    if (items == NULL) {
        abort();
    }
    memset((uint8_t *)items + *cap * item_bytes, 0, (grown - *cap) * item_bytes);
    *cap = grown;
    return items;
}

uint32_t sim_below(struct sim_world *w, uint32_t bound)
{
    return rb_env_below(&w->draw, bound);
}

bool sim_chance(struct sim_world *w, uint32_t permille)
{
    return permille > 0 && rb_env_below(&w->draw, 1000) < permille;
}

/** Says which seed it was when an assertion or a sanitizer ends the process. */
static void last_seed(void)
{
    char text[96];
    int len = snprintf(text, sizeof(text), "\nringbus_sim: died in seed %s%llu\n", current_kind,
                       (unsigned long long)current_seed);
    fflush(stdout);
    if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0) {
        _exit(1);
    }
}

static void on_abort(int number)
{
    last_seed();
    signal(number, SIG_DFL);
    raise(number);
}

__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

static void add_totals(struct sim_totals *sum, const struct sim_totals *totals)
{
    sum->publications += totals->publications;
    sum->deliveries += totals->deliveries;
    sum->refusals += totals->refusals;
    sum->slow += totals->slow;
    sum->stale += totals->stale;
    sum->faults += totals->faults;
    sum->sessions += totals->sessions;
    sum->quiets += totals->quiets;
    sum->jumps += totals->jumps;
    sum->acct_seeds += totals->acct_seeds;
    sum->crossed += totals->crossed;
    sum->answers += totals->answers;
    sum->denied += totals->denied;
    sum->refused_logins += totals->refused_logins;
    sum->reloads += totals->reloads;
    sum->crimes += totals->crimes;
    sum->again += totals->again;
    sum->tight += totals->tight;
    sum->over_pending += totals->over_pending;
    sum->over_deadline += totals->over_deadline;
}

/** Runs one seed; false when it failed. What a failed world holds is not given back. */
static bool run_seed(uint64_t seed, bool accounts, bool trace, struct sim_totals *totals,
                     uint64_t *ret_digest)
{
    struct sim_world *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        abort();
    }
    current_seed = seed;
    current_kind = accounts ? "a" : "";
    w->clients = accounts ? &acct_clients : &sim_plain_clients;
    w->seed = seed;
    w->trace = trace;
    w->starved = UINT32_MAX;
    w->scratch = malloc(SIM_BODY_MAX + SIM_HEADER_MAX);
    rb_env_seed(&w->draw, seed);
    if (accounts) {
        acct_plan_draw(w);
    } else {
        sim_plan_draw(w);
    }
    if (!sim_node_start(w)) {
        sim_fail(w, "the node does not start");
    }
    if (!w->failed) {
        if (accounts) {
            acct_run(w);
        } else {
            sim_workload_run(w);
        }
    }
    if (!w->failed) {
        sim_node_stop(w);
    }
    if (accounts) {
        w->totals.acct_seeds = 1;
        w->totals.crossed = w->acct->crossed;
        w->totals.answers = w->acct->answered;
        w->totals.denied = w->acct->denied_pubs + w->acct->denied_subs;
        w->totals.refused_logins = w->acct->refused_logins;
        w->totals.reloads = w->acct->reloads;
    }
    add_totals(totals, &w->totals);
    if (w->failed) {
        printf("seed %s%llu: %s\n", current_kind, (unsigned long long)seed, w->failure);
        printf("repeat: ringbus_sim --seed %s%llu --trace\n", current_kind,
               (unsigned long long)seed);
        return false;
    }
    *ret_digest = w->digest ^ w->stamp;
    if (accounts) {
        acct_free(w);
    }
    sim_sessions_free(w);
    free(w->scratch);
    free(w);
    return true;
}

struct run {
    uint64_t passed, failed;
    bool trace;
    struct sim_totals totals;
};

static bool try_seed(struct run *run, uint64_t seed, bool accounts)
{
    uint64_t digest = 0, again = 0;
    bool ok = run_seed(seed, accounts, run->trace, &run->totals, &digest);
    if (ok && seed % TWICE_EVERY == 0) {
        struct sim_totals ignored = { 0 };
        ok = run_seed(seed, accounts, false, &ignored, &again);
        if (ok && digest != again) {
            printf("seed %s%llu: two runs of it differ\n", current_kind, (unsigned long long)seed);
            ok = false;
        }
    }
    run->passed += ok;
    run->failed += !ok;
    return ok;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool run_file(struct run *run, const char *path)
{
    char line[512];
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "ringbus_sim: cannot read %s\n", path);
        return false;
    }
    bool ok = true;
    while (ok && fgets(line, sizeof(line), file) != NULL) {
        char *end;
        bool accounts = line[0] == 'a';
        unsigned long long seed = strtoull(line + accounts, &end, 10);
        if (end != line + accounts) { /* others are comments */
            ok = try_seed(run, seed, accounts);
        }
    }
    fclose(file);
    return ok;
}

struct arguments {
    uint64_t from, to;
    double seconds;
    const char *file;
    bool trace, accounts;
};

static bool parse_arguments(int argc, char **argv, struct arguments *arguments)
{
    *arguments = (struct arguments){ .from = 1, .to = 1 };
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        char *end = NULL;
        if (strcmp(name, "--trace") == 0) {
            arguments->trace = true;
            continue;
        }
        if (value == NULL) {
            return false;
        }
        i++;
        if (strncmp(name, "--seed", 6) == 0 && *value == 'a') {
            arguments->accounts = true;
            value++;
        }
        if (strcmp(name, "--seed") == 0) {
            arguments->from = arguments->to = strtoull(value, &end, 10);
        } else if (strcmp(name, "--seeds") == 0) {
            arguments->from = strtoull(value, &end, 10);
            if (strncmp(end, "..", 2) != 0) {
                return false;
            }
            arguments->to = strtoull(end + 2, &end, 10);
        } else if (strcmp(name, "--seconds") == 0) {
            arguments->seconds = strtod(value, &end);
        } else if (strcmp(name, "--file") == 0) {
            arguments->file = value;
            continue;
        }
        if (end == NULL || end == value || *end != '\0') {
            return false;
        }
    }
    return true;
}

static void print_totals(const struct run *run)
{
    const struct sim_totals *t = &run->totals;
    printf("%llu connections, %llu published, %llu delivered, %llu refused, %llu quiet points\n",
           (unsigned long long)t->sessions, (unsigned long long)t->publications,
           (unsigned long long)t->deliveries, (unsigned long long)t->refusals,
           (unsigned long long)t->quiets);
    printf(
        "ended: %llu slow (%llu over pending, %llu over deadline), %llu stale, %llu broken, "
        "%llu for what they did; %llu jumps, %llu turns in tight mail, %llu with CONNECT waiting\n",
        (unsigned long long)t->slow, (unsigned long long)t->over_pending,
        (unsigned long long)t->over_deadline, (unsigned long long)t->stale,
        (unsigned long long)t->faults, (unsigned long long)t->crimes, (unsigned long long)t->jumps,
        (unsigned long long)t->tight, (unsigned long long)t->again);
    printf(
        "%llu seeds of accounts: %llu requests heard in another account, %llu answers came back, "
        "%llu operations and %llu logins refused, %llu reloads\n",
        (unsigned long long)t->acct_seeds, (unsigned long long)t->crossed,
        (unsigned long long)t->answers, (unsigned long long)t->denied,
        (unsigned long long)t->refused_logins, (unsigned long long)t->reloads);
    printf("%llu passed, %llu failed\n", (unsigned long long)run->passed,
           (unsigned long long)run->failed);
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    if (!parse_arguments(argc, argv, &arguments)) {
        fprintf(stderr, "usage: ringbus_sim [--seed N] [--trace] [--seeds FROM..TO] [--seconds S] "
                        "[--file PATH]\n");
        return 2;
    }
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    if (__sanitizer_set_death_callback != NULL) {
        __sanitizer_set_death_callback(last_seed);
    }
    struct run run = { .trace = arguments.trace };
    bool ok = true;
    if (arguments.file != NULL) {
        ok = run_file(&run, arguments.file);
    } else if (arguments.seconds > 0) {
        double end = seconds_now() + arguments.seconds;
        for (uint64_t seed = arguments.from; ok && seconds_now() < end; seed++) {
            ok = try_seed(&run, seed, true) && try_seed(&run, seed, false);
        }
    } else {
        for (uint64_t seed = arguments.from; ok && seed <= arguments.to; seed++) {
            ok = try_seed(&run, seed, arguments.accounts);
        }
    }
    print_totals(&run);
    fflush(stdout);
    if (!ok) {
        _exit(1);
    }
    return 0;
}
