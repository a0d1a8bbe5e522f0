/* bench_sublist.c - nanoseconds per match and per change of the subscription list.
 *
 * 100,000 literal and 1,000 wildcard subscriptions of one shard of two; best of 7 runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/sublist.h"

#define LITERALS 100000
#define WILDCARDS 1000
#define COUNT 1000000
#define RUNS 7
#define TEXT_MAX 32

static struct rb_sublist *list;
static struct rb_sub_ref *refs;
static char (*texts)[TEXT_MAX];
static volatile uint64_t sink;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void add(const char *subject, struct rb_sub_ref *ref)
{
    struct rb_interest_change change;
    if (rb_sublist_add(list, rb_slice_text(subject), RB_S(""), ref, &change) != RB_OK) {
        fprintf(stderr, "bench_sublist: out of memory\n");
        exit(1);
    }
}

static void fill(void)
{
    refs = calloc(LITERALS + WILDCARDS, sizeof(*refs));
    texts = calloc(LITERALS, sizeof(*texts));
    if (refs == NULL || texts == NULL) {
        exit(1);
    }
    for (uint32_t i = 0; i < LITERALS; i++) {
        snprintf(texts[i], TEXT_MAX, "dev.%05u", i);
        add(texts[i], &refs[i]);
    }
    for (uint32_t i = 0; i < WILDCARDS; i++) {
        char text[TEXT_MAX];
        snprintf(text, sizeof(text), "wild.*.%u", i);
        add(text, &refs[LITERALS + i]);
    }
}

/* Matches the first `spread` texts, `step` apart, in turn. */
static void bench_spread(const char *name, uint32_t spread, uint32_t step)
{
    double best = 1e18;
    struct rb_slice *subjects = calloc(spread, sizeof(*subjects));
    if (subjects == NULL) {
        exit(1);
    }
    for (uint32_t i = 0; i < spread; i++) {
        subjects[i] = rb_slice_text(texts[(uint64_t)i * step % LITERALS]);
    }
    for (int run = 0; run < RUNS; run++) {
        uint64_t sum = 0;
        double begin = now_ns();
        for (uint32_t i = 0, at = 0; i < COUNT; i++, at = at + 1 == spread ? 0 : at + 1) {
            sum += rb_sublist_match(list, subjects[at])->plain_count;
        }
        double each = (now_ns() - begin) / COUNT;
        best = each < best ? each : best;
        sink = sink + sum;
    }
    printf("match  %-34s %7.1f ns/op\n", name, best);
    free(subjects);
}

static void bench_same(const char *name, struct rb_slice subject, bool hinted)
{
    double best = 1e18;
    for (int run = 0; run < RUNS; run++) {
        struct rb_match_hint hint = { 0 };
        uint64_t sum = 0;
        double begin = now_ns();
        for (int i = 0; i < COUNT; i++) {
            sum += hinted ? rb_sublist_match_hinted(list, subject, &hint)->plain_count
                          : rb_sublist_match(list, subject)->plain_count;
        }
        double each = (now_ns() - begin) / COUNT;
        best = each < best ? each : best;
        sink = sink + sum;
    }
    printf("match  %-34s %7.1f ns/op\n", name, best);
}

/* Subjects that never come twice: every lookup is a miss. */
static void bench_once(const char *name, const char *format)
{
    static char unique[COUNT / 10][TEXT_MAX];
    double best = 1e18;
    for (uint32_t run = 0; run < RUNS; run++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < COUNT / 10; i++) {
            snprintf(unique[i], TEXT_MAX, format, run * (COUNT / 10) + i);
        }
        double begin = now_ns();
        for (uint32_t i = 0; i < COUNT / 10; i++) {
            sum += rb_sublist_match(list, rb_slice_text(unique[i]))->plain_count;
        }
        double each = (now_ns() - begin) / (COUNT / 10);
        best = each < best ? each : best;
        sink = sink + sum;
    }
    printf("match  %-34s %7.1f ns/op\n", name, best);
}

/* Adds and removes a subscription, on a hot subject or beside it. */
static void bench_change(const char *name, const char *subject, bool match_between)
{
    double best = 1e18;
    for (int run = 0; run < RUNS; run++) {
        struct rb_interest_change change;
        struct rb_sub_ref ref;
        uint64_t sum = 0;
        double begin = now_ns();
        for (int i = 0; i < COUNT / 10; i++) {
            add(subject, &ref);
            if (match_between) {
                sum += rb_sublist_match(list, RB_S("hot.a.b"))->plain_count;
            }
            rb_sublist_remove(list, &ref, &change);
        }
        double each = (now_ns() - begin) / (COUNT / 10);
        best = each < best ? each : best;
        sink = sink + sum;
    }
    printf("change %-34s %7.1f ns/op\n", name, best);
}

int main(void)
{
    struct rb_budget budget = { 0 };
    if (rb_sublist_create(&budget, 2, &list) != RB_OK) {
        return 1;
    }
    fill();
    bench_same("one subscriber, repeated", RB_S("dev.00017"), false);
    bench_same("nobody, repeated", RB_S("nobody.123"), false);
    bench_same("one subscriber, hinted", RB_S("dev.00017"), true);
    bench_same("nobody, hinted", RB_S("nobody.123"), true);
    bench_spread("1,000 subjects in turn", 1000, 1);
    bench_spread("100,000 subjects in turn", LITERALS, 77773);
    bench_once("nobody, never twice", "inbox.%u");
    bench_once("wildcard level, never twice", "wild.%u.5");
    bench_change("add and remove", "hot.a.c", false);
    bench_change("add and remove a wildcard", "hot.*.c", false);
    bench_change("... with a match beside it", "hot.a.c", true);
    bench_change("... with a match of it", "hot.a.b", true);
    rb_sublist_destroy(list);
    free(refs);
    free(texts);
    return 0;
}
