/* test_mapping.c - weights, clusters and order of an account's subject mappings. */
#include "core/mapping.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define T(name, percent, of)                                                                       \
    {                                                                                              \
        rb_slice_text(name), percent, rb_slice_text(of)                                            \
    }

static struct rb_mappings *make(const char *source, const struct rb_mapping_target *targets,
                                uint32_t count, const char *cluster)
{
    struct rb_mapping mapping = { rb_slice_text(source), targets, count };
    struct rb_mappings *mappings = NULL;
    char error[RB_MAPPINGS_ERROR_MAX] = "";
    if (rb_mappings_create(&mapping, 1, rb_slice_text(cluster), &mappings, error) != RB_OK) {
        fail_msg("%s", error);
    }
    return mappings;
}

static void expect_one(const struct rb_mappings *mappings, const char *subject, uint64_t random,
                       const char *want)
{
    uint8_t out[64];
    size_t len = 999;
    enum rb_mapped mapped =
        rb_mappings_apply(mappings, rb_slice_text(subject), random, out, sizeof(out), &len);
    assert_int_equal(mapped, want == NULL ? RB_MAPPED_DROPPED : RB_MAPPED);
    if (want == NULL) {
        assert_int_equal(len, 999);
    } else if (!rb_slice_equal(rb_slice_of(out, len), rb_slice_text(want))) {
        fail_msg("%s became %.*s instead of %s", subject, (int)len, out, want);
    }
}

/* How many of the 100 draws end at `want`; NULL: nowhere. */
static int share(const struct rb_mappings *mappings, const char *subject, const char *want)
{
    int count = 0;
    for (uint64_t random = 0; random < 100; random++) {
        uint8_t out[64];
        size_t len = 0;
        enum rb_mapped mapped =
            rb_mappings_apply(mappings, rb_slice_text(subject), random, out, sizeof(out), &len);
        assert_int_not_equal(mapped, RB_MAPPED_NONE);
        count += want == NULL ? mapped == RB_MAPPED_DROPPED
                              : mapped == RB_MAPPED &&
                                    rb_slice_equal(rb_slice_of(out, len), rb_slice_text(want));
    }
    return count;
}

/* As nats-server 2.15.2 distributes. */
static void weights_share_as_in_nats_server(void **state)
{
    const struct rb_mapping_target half[] = { T("bar", 50, "") };
    const struct rb_mapping_target lossy[] = { T("bar", 20, ""), T("foo", 20, "") };
    const struct rb_mapping_target full[] = { T("bar", 20, ""), T("foo", 80, "") };
    const struct rb_mapping_target zero[] = { T("bar", 0, "") };
    const struct rb_mapping_target self[] = { T("foo", 30, "") };
    struct rb_mappings *m = make("foo", half, 1, "");
    assert_int_equal(share(m, "foo", "bar"), 50);
    assert_int_equal(share(m, "foo", "foo"), 50);
    rb_mappings_destroy(m);
    m = make("foo", lossy, 2, "");
    assert_int_equal(share(m, "foo", "bar"), 20);
    assert_int_equal(share(m, "foo", "foo"), 20);
    assert_int_equal(share(m, "foo", NULL), 60);
    rb_mappings_destroy(m);
    m = make("foo", full, 2, "");
    assert_int_equal(share(m, "foo", "bar"), 20);
    assert_int_equal(share(m, "foo", "foo"), 80);
    rb_mappings_destroy(m);
    m = make("foo", zero, 1, "");
    assert_int_equal(share(m, "foo", "foo"), 100);
    rb_mappings_destroy(m);
    m = make("foo", self, 1, "");
    assert_int_equal(share(m, "foo", "foo"), 30);
    assert_int_equal(share(m, "foo", NULL), 70);
    rb_mappings_destroy(m);
    m = make("foo", NULL, 0, "");
    assert_int_equal(share(m, "foo", "foo"), 100);
    rb_mappings_destroy(m);
}

static void clusters_choose_their_targets(void **state)
{
    const struct rb_mapping_target both[] = { T("bar", 30, "X"), T("baz", 100, "") };
    const struct rb_mapping_target listed[] = { T("bar", 30, "X"), T("foo", 20, "") };
    const struct rb_mapping_target only[] = { T("bar", 100, "X") };
    struct rb_mappings *m = make("foo", both, 2, "X");
    assert_int_equal(share(m, "foo", "bar"), 30);
    assert_int_equal(share(m, "foo", "foo"), 70);
    rb_mappings_destroy(m);
    m = make("foo", both, 2, "Y");
    assert_int_equal(share(m, "foo", "baz"), 100);
    rb_mappings_destroy(m);
    m = make("foo", both, 2, "");
    assert_int_equal(share(m, "foo", "baz"), 100);
    rb_mappings_destroy(m);
    m = make("foo", listed, 2, "X"); /* the source is listed, if for others */
    assert_int_equal(share(m, "foo", "bar"), 30);
    assert_int_equal(share(m, "foo", NULL), 70);
    rb_mappings_destroy(m);
    m = make("foo", only, 1, "");
    assert_int_equal(share(m, "foo", "foo"), 100);
    rb_mappings_destroy(m);
}

static void wildcards_are_taken_over(void **state)
{
    const struct rb_mapping_target half[] = { T("bar.$1", 50, ""), T("foo.$1", 20, "") };
    const struct rb_mapping_target rest[] = { T("bar.>", 50, "") };
    const struct rb_mapping_target split[] = { T("bar.{{split(1,-)}}", 100, "") };
    struct rb_mappings *m = make("foo.*", half, 2, "");
    assert_int_equal(share(m, "foo.a", "bar.a"), 50);
    assert_int_equal(share(m, "foo.a", "foo.a"), 50);
    rb_mappings_destroy(m);
    m = make("foo.>", rest, 1, "");
    assert_int_equal(share(m, "foo.a.b", "bar.a.b"), 50);
    assert_int_equal(share(m, "foo.a.b", "foo.a.b"), 50);
    rb_mappings_destroy(m);
    m = make("foo.*", split, 1, "");
    expect_one(m, "foo.a-b", 0, "bar.a.b");
    expect_one(m, "foo.-", 0, NULL);
    rb_mappings_destroy(m);
}

/* The first one that matches decides, once; equal sources later are never asked. */
static void configuration_order_decides(void **state)
{
    const struct rb_mapping_target t[] = { T("one", 100, ""), T("two", 100, ""),
                                           T("three", 100, ""), T("a.b", 100, "") };
    const struct rb_mapping rows[] = {
        { RB_S("a.b"), &t[0], 1 }, { RB_S("a.*"), &t[1], 1 }, { RB_S("a.c"), &t[2], 1 },
        { RB_S("a.b"), &t[2], 1 }, { RB_S("b"), &t[3], 1 },   { RB_S("*.c"), &t[2], 1 },
    };
    struct rb_mappings *m = NULL;
    char error[RB_MAPPINGS_ERROR_MAX];
    uint8_t out[8];
    size_t len = 7;
    assert_int_equal(rb_mappings_create(rows, 6, RB_S(""), &m, error), RB_OK);
    expect_one(m, "a.b", 0, "one");
    expect_one(m, "a.c", 0, "two");
    expect_one(m, "b", 0, "a.b");
    expect_one(m, "x.c", 0, "three");
    assert_int_equal(rb_mappings_apply(m, RB_S("x"), 0, out, sizeof(out), &len), RB_MAPPED_NONE);
    assert_int_equal(rb_mappings_apply(NULL, RB_S("x"), 0, out, sizeof(out), &len), RB_MAPPED_NONE);
    assert_int_equal(len, 7);
    assert_int_equal(rb_mappings_apply(m, RB_S("x.c"), 0, out, 4, &len), RB_MAPPED_DROPPED);
    rb_mappings_destroy(m);
    rb_mappings_destroy(NULL);
}

static void thousands_of_literals_are_found(void **state)
{
    enum { COUNT = 5000 };
    static char names[COUNT][2][16];
    struct rb_mapping_target *targets = calloc(COUNT, sizeof(*targets));
    struct rb_mapping *rows = calloc(COUNT, sizeof(*rows));
    struct rb_mappings *m = NULL;
    char error[RB_MAPPINGS_ERROR_MAX];
    assert_true(targets != NULL && rows != NULL);
    for (int i = 0; i < COUNT; i++) {
        snprintf(names[i][0], 16, "from.%d", i);
        snprintf(names[i][1], 16, "to.%d", i);
        targets[i] = (struct rb_mapping_target)T(names[i][1], 100, "");
        rows[i] = (struct rb_mapping){ rb_slice_text(names[i][0]), &targets[i], 1 };
    }
    assert_int_equal(rb_mappings_create(rows, COUNT, RB_S(""), &m, error), RB_OK);
    free(targets);
    free(rows);
    for (int i = 0; i < COUNT; i++) {
        expect_one(m, names[i][0], (uint64_t)i, names[i][1]);
    }
    rb_mappings_destroy(m);
}

static void refusals_read_as_in_nats_server(void **state)
{
    const struct rb_mapping_target t[] = { T("bar", 60, ""), T("baz", 60, "") };
    const struct rb_mapping_target twice[] = { T("bar", 30, ""), T("bar", 30, "X") };
    const struct rb_mapping_target other[] = { T("bar", 30, "X"), T("bar2", 80, "X") };
    const struct rb_mapping_target bad[] = { T("ok", 30, ""), T("$1", 30, "X") };
    const struct rb_mapping_target star[] = { T("foo.*", 20, "") };
    const struct {
        struct rb_mapping mapping;
        const char *error;
    } rows[] = {
        { { RB_S("foo"), t, 2 }, "\"foo\" : total weight needs to be <= 100" },
        { { RB_S("foo"), twice, 2 }, "\"foo\" : duplicate entry for \"bar\"" },
        { { RB_S("foo"), other, 2 }, "\"foo\" : total weight needs to be <= 100" },
        { { RB_S("foo"), bad, 2 },
          "\"foo\" : invalid mapping destination: wildcard index out of range in $1" },
        { { RB_S("foo.*"), star, 1 }, "\"foo.*\" : invalid subject" },
        { { RB_S("foo..a"), t, 1 }, "\"foo..a\" : invalid subject" },
        { { RB_S("foo"), t, RB_MAPPING_TARGETS_MAX + 1 }, "\"foo\" : too many destinations" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rb_mappings *m = NULL;
        char error[RB_MAPPINGS_ERROR_MAX] = "";
        assert_int_equal(rb_mappings_create(&rows[i].mapping, 1, RB_S("Y"), &m, error),
                         RB_ERR_INVALID);
        assert_string_equal(error, rows[i].error);
        assert_null(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_share_as_in_nats_server),
        cmocka_unit_test(clusters_choose_their_targets),
        cmocka_unit_test(wildcards_are_taken_over),
        cmocka_unit_test(configuration_order_decides),
        cmocka_unit_test(thousands_of_literals_are_found),
        cmocka_unit_test(refusals_read_as_in_nats_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
