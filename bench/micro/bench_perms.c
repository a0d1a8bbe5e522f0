/* bench_perms.c - nanoseconds per permission answer: cached, of long lists, and per mapping; best of 7 runs. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/perms.h"
#include "proto/transform.h"

#define COUNT 1000000
#define RUNS 7
#define SPREAD_MAX 100000
#define TEXT_MAX 40

static char texts[SPREAD_MAX][TEXT_MAX];
static struct rb_slice subjects[SPREAD_MAX];
static volatile uint64_t sink;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static struct rb_perms *make(uint32_t count, const char *format)
{
    struct rb_perm_entry *entries = calloc(count, sizeof(*entries));
    char(*names)[TEXT_MAX] = calloc(count, sizeof(*names));
    struct rb_perms *perms = NULL;
    if (entries == NULL || names == NULL) {
        exit(1);
    }
    for (uint32_t i = 0; i < count; i++) {
        snprintf(names[i], TEXT_MAX, format, i);
        entries[i].subject = rb_slice_text(names[i]);
    }
    struct rb_permissions permissions = { .publish_allow = { entries, count, true },
                                          .subscribe_deny = { entries, count, true } };
    if (rb_perms_create(NULL, &permissions, &perms) != RB_OK) {
        exit(1);
    }
    free(entries);
    free(names);
    return perms;
}

static void fill(const char *format)
{
    for (uint32_t i = 0; i < SPREAD_MAX; i++) {
        snprintf(texts[i], TEXT_MAX, format, i);
        subjects[i] = rb_slice_text(texts[i]);
    }
}

enum what { PUBLISH, DELIVER };

static void bench(const char *name, struct rb_perms *perms, uint32_t spread, enum what what)
{
    double best = 1e18;
    for (int run = 0; run < RUNS; run++) {
        uint64_t sum = 0;
        double begin = now_ns();
        for (uint32_t i = 0, at = 0; i < COUNT; i++, at = at + 1 == spread ? 0 : at + 1) {
            sum += what == PUBLISH ? rb_perms_publish(perms, subjects[at])
                                   : rb_perms_deliver(perms, subjects[at], RB_S(""));
        }
        double each = (now_ns() - begin) / COUNT;
        best = each < best ? each : best;
        sink = sink + sum;
    }
    printf("%-44s %7.1f ns/op\n", name, best);
}

static void bench_transform(const char *name, const char *source, const char *destination)
{
    struct rb_transform *transform = NULL;
    char error[RB_TRANSFORM_ERROR_MAX];
    double best = 1e18;
    if (rb_transform_create(RB_TRANSFORM_ANY, rb_slice_text(source), rb_slice_text(destination),
                            &transform, error) != RB_OK) {
        fprintf(stderr, "bench_perms: %s\n", error);
        exit(1);
    }
    for (int run = 0; run < RUNS; run++) {
        uint8_t out[128];
        uint64_t sum = 0;
        double begin = now_ns();
        for (uint32_t i = 0; i < COUNT; i++) {
            sum += rb_transform_apply(transform, subjects[i % 1000], i, out, sizeof(out));
        }
        double each = (now_ns() - begin) / COUNT;
        best = each < best ? each : best;
        sink = sink + sum;
    }
    printf("%-44s %7.1f ns/op\n", name, best);
    rb_transform_destroy(transform);
}

int main(void)
{
    struct rb_perms *few = make(8, "dev.%u.>");
    struct rb_perms *literals = make(10000, "dev.%u.temp");
    struct rb_perms *patterns = make(10000, "dev.%u.*");
    fill("dev.%u.temp");
    bench("publish, 8 patterns, one subject", few, 1, PUBLISH);
    bench("publish, 8 patterns, 100 subjects", few, 100, PUBLISH);
    bench("publish, 8 patterns, 100,000 subjects", few, SPREAD_MAX, PUBLISH);
    bench("publish, 10,000 literals, 100 subjects", literals, 100, PUBLISH);
    bench("publish, 10,000 literals, 100,000 subjects", literals, SPREAD_MAX, PUBLISH);
    bench("publish, 10,000 patterns, 100 subjects", patterns, 100, PUBLISH);
    bench("publish, 10,000 patterns, 100,000 subjects", patterns, SPREAD_MAX, PUBLISH);
    bench("deliver, 10,000 denied patterns", patterns, SPREAD_MAX, DELIVER);
    bench_transform("map, two wildcards", "dev.*.*", "new.$2.$1");
    bench_transform("map, the rest", "dev.>", "new.>");
    bench_transform("map, partition of one token", "dev.*.*", "p.{{partition(16,1)}}.$2");
    rb_perms_release(few);
    rb_perms_release(literals);
    rb_perms_release(patterns);
    return 0;
}
