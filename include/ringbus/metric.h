/* metric.h - single-writer counters and log-linear histograms; any thread may read. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/** One writer adds with plain cost (relaxed load and store); readers see a recent value. */
struct rb_counter {
    _Atomic uint64_t value;
};

static inline void rb_counter_add(struct rb_counter *counter, uint64_t n)
{
    uint64_t now = atomic_load_explicit(&counter->value, memory_order_relaxed);
    atomic_store_explicit(&counter->value, now + n, memory_order_relaxed);
}

static inline void rb_counter_sub(struct rb_counter *counter, uint64_t n)
{
    uint64_t now = atomic_load_explicit(&counter->value, memory_order_relaxed);
    atomic_store_explicit(&counter->value, now - n, memory_order_relaxed);
}

static inline uint64_t rb_counter_get(const struct rb_counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

/** Log-linear: 8 buckets per power of two, values 0 .. 2^40-1 (larger go to the last one). */
#define RB_HISTOGRAM_BUCKETS (8 + 37 * 8)
struct rb_histogram {
    struct rb_counter bucket[RB_HISTOGRAM_BUCKETS];
    struct rb_counter sum, count;
};

uint32_t rb_histogram_index(uint64_t value);
/** Largest value of bucket `index`; of the last one 2^40-1, though it takes larger values too. */
uint64_t rb_histogram_bound(uint32_t index);
void rb_histogram_add(struct rb_histogram *histogram, uint64_t value);
/** Upper bound of the bucket in which the `quantile` (0..1) lies; 0 when empty. */
uint64_t rb_histogram_quantile(const struct rb_histogram *histogram, double quantile);
