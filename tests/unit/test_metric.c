/* test_metric.c - counters and log-linear histograms. */
#include "ringbus/metric.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void counter_adds_and_subtracts(void **state)
{
    struct rb_counter counter = { 0 };
    rb_counter_add(&counter, 5);
    rb_counter_add(&counter, UINT64_C(1) << 40);
    rb_counter_sub(&counter, 3);
    assert_true(rb_counter_get(&counter) == (UINT64_C(1) << 40) + 2);
}

/* Buckets must tile the range: each begins right above the bound of the one before. */
static void buckets_tile_the_range(void **state)
{
    uint64_t first = 0;
    for (uint32_t i = 0; i < RB_HISTOGRAM_BUCKETS; i++) {
        uint64_t last = rb_histogram_bound(i);
        assert_true(last >= first);
        assert_int_equal(rb_histogram_index(first), i);
        assert_int_equal(rb_histogram_index(last), i);
        assert_int_equal(rb_histogram_index(first + (last - first) / 2), i);
        assert_true((last - first) * 8 <= first); /* at most 1/8 wide */
        first = last + 1;
    }
    assert_true(first == UINT64_C(1) << 40);
}

static void large_values_go_to_the_last_bucket(void **state)
{
    assert_int_equal(rb_histogram_index(UINT64_C(1) << 40), RB_HISTOGRAM_BUCKETS - 1);
    assert_int_equal(rb_histogram_index(UINT64_MAX), RB_HISTOGRAM_BUCKETS - 1);
    struct rb_histogram histogram = { 0 };
    rb_histogram_add(&histogram, UINT64_MAX / 2);
    assert_true(rb_histogram_quantile(&histogram, 0.5) == (UINT64_C(1) << 40) - 1);
}

static void empty_histogram_has_no_quantile(void **state)
{
    struct rb_histogram histogram = { 0 };
    assert_int_equal(rb_histogram_quantile(&histogram, 0.99), 0);
}

static void quantiles_bound_the_ranked_value(void **state)
{
    struct rb_histogram histogram = { 0 };
    for (uint64_t value = 1; value <= 1000; value++) {
        rb_histogram_add(&histogram, value);
    }
    assert_int_equal(rb_counter_get(&histogram.count), 1000);
    assert_int_equal(rb_counter_get(&histogram.sum), 500500);
    static const struct {
        double quantile;
        uint64_t value;
    } cases[] = { { 0, 1 },      { 0.001, 1 },   { 0.0011, 2 }, { 0.005, 5 }, { 0.5, 500 },
                  { 0.99, 990 }, { 0.999, 999 }, { 1, 1000 },   { 2, 1000 },  { -1, 1 } };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t bound = rb_histogram_bound(rb_histogram_index(cases[i].value));
        assert_int_equal(rb_histogram_quantile(&histogram, cases[i].quantile), bound);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counter_adds_and_subtracts),
        cmocka_unit_test(buckets_tile_the_range),
        cmocka_unit_test(large_values_go_to_the_last_bucket),
        cmocka_unit_test(empty_histogram_has_no_quantile),
        cmocka_unit_test(quantiles_bound_the_ranked_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
