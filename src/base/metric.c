/* metric.c - log-linear histograms.
 *
 *   value   0 .. 7 | 8 .. 15 | 16 .. 31 | 32 .. 63 | ...      up to 2^40-1
 *   buckets   8    |    8    |    8     |    8     | ...      RB_HISTOGRAM_BUCKETS in all
 *
 * 1. Each power of two from 8 on is cut into 8 buckets, so a bound is at most 1/8 above a value in
 *    it.
 * 2. Readers sum the buckets instead of using `count`: while the writer goes on, only what they
 *    summed is consistent with what they then walk through, and buckets only grow.
 */
#include "ringbus/metric.h"

#include "ringbus/check.h"

#define EXACT_BITS 3
#define EXACT 8 /* values with a bucket of their own; also the buckets of each power of two */
#define VALUE_MAX ((UINT64_C(1) << 40) - 1)

_Static_assert(RB_HISTOGRAM_BUCKETS == EXACT + (40 - EXACT_BITS) * EXACT, "up to VALUE_MAX");

uint32_t rb_histogram_index(uint64_t value)
{
    if (value < EXACT) {
        return (uint32_t)value;
    }
    if (value > VALUE_MAX) {
        return RB_HISTOGRAM_BUCKETS - 1;
    }
    uint32_t power = 63 - (uint32_t)__builtin_clzll(value) - EXACT_BITS;
    return EXACT + power * EXACT + (uint32_t)(value >> power) % EXACT;
}

uint64_t rb_histogram_bound(uint32_t index)
{
    rb_assert(index < RB_HISTOGRAM_BUCKETS);
    if (index < EXACT) {
        return index;
    }
    uint32_t power = (index - EXACT) / EXACT;
    uint64_t first = (uint64_t)(EXACT + index % EXACT) << power;
    return first + (UINT64_C(1) << power) - 1;
}

void rb_histogram_add(struct rb_histogram *histogram, uint64_t value)
{
    rb_counter_add(&histogram->bucket[rb_histogram_index(value)], 1);
    rb_counter_add(&histogram->sum, value);
    rb_counter_add(&histogram->count, 1);
}

/* Which of `total` sorted values, counted from 1, has the share `quantile` of them at or below it.
 * */
static uint64_t rank_of(double quantile, uint64_t total)
{
    double wanted = quantile * (double)total;
    if (wanted >= (double)total) {
        return total;
    }
    uint64_t rank = wanted > 0 ? (uint64_t)wanted : 0;
    return (double)rank < wanted || rank == 0 ? rank + 1 : rank;
}

uint64_t rb_histogram_quantile(const struct rb_histogram *histogram, double quantile)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < RB_HISTOGRAM_BUCKETS; i++) {
        total += rb_counter_get(&histogram->bucket[i]);
    }
    if (total == 0) {
        return 0;
    }
    uint64_t rank = rank_of(quantile, total);
    uint64_t passed = 0;
    for (uint32_t i = 0; i < RB_HISTOGRAM_BUCKETS; i++) {
        passed += rb_counter_get(&histogram->bucket[i]);
        if (passed >= rank) {
            return rb_histogram_bound(i);
        }
    }
    return VALUE_MAX;
}
