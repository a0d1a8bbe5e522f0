/* test_perms.c - permission lists: what may be published, subscribed to and delivered. */
#include "core/perms.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define ENTRIES_MAX 8

static struct rb_slice text(const char *s)
{
    return rb_slice_text(s);
}

/* "a,b q,c": entries with their queues. NULL: not set; "": an empty list. */
static struct rb_perm_list parse_list(struct rb_perm_entry *entries, const char *s)
{
    struct rb_perm_list list = { .entries = entries, .set = s != NULL };
    while (s != NULL && *s != '\0') {
        size_t len = strcspn(s, ",");
        const char *blank = memchr(s, ' ', len);
        size_t subject_len = blank == NULL ? len : (size_t)(blank - s);
        struct rb_perm_entry *entry = &entries[list.count++];
        entry->subject = rb_slice_of(s, subject_len);
        entry->queue = rb_slice_of(NULL, 0);
        if (blank != NULL) {
            entry->queue = rb_slice_of(blank + 1, len - subject_len - 1);
        }
        s += s[len] == ',' ? len + 1 : len;
    }
    return list;
}

static struct rb_perms *make(struct rb_budget *budget, const char *publish_allow,
                             const char *publish_deny, const char *subscribe_allow,
                             const char *subscribe_deny)
{
    struct rb_perm_entry entries[4][ENTRIES_MAX];
    struct rb_permissions permissions = {
        .publish_allow = parse_list(entries[0], publish_allow),
        .publish_deny = parse_list(entries[1], publish_deny),
        .subscribe_allow = parse_list(entries[2], subscribe_allow),
        .subscribe_deny = parse_list(entries[3], subscribe_deny),
    };
    struct rb_perms *perms = NULL;
    assert_int_equal(rb_perms_create(budget, &permissions, &perms), RB_OK);
    memset(entries, 0xee, sizeof(entries)); /* it must have copied what it needs */
    return perms;
}

/* As nats-server 2.15.2 answers. Each is asked twice: of the lists, then of the cache. */
static void publish_agrees_with_the_table(void **state)
{
    static const struct {
        const char *allow, *deny, *subject;
        bool allowed;
    } rows[] = {
        { NULL, NULL, "a", true },
        { "", NULL, "a", false },
        { NULL, "", "a", true },
        { "a.>", "a.b", "a.b", false },
        { "a.>", "a.b", "a.c", true },
        { "a.>", "a.b", "a.b.c", true },
        { "a.>", "a.b", "a", false },
        { "a.>", "a.b", "b", false },
        { "a.*,b.>", "a.b", "a.*", true }, /* wildcards as text */
        { "a.*,b.>", "a.b", "a.>", true },
        { "a.*,b.>", "a.b", "b.*.c", true },
        { "a.*,b.>", "a.b", "a.b", false },
        { NULL, "a.*", "a.b", false },
        { NULL, "a.*", "a.*", false },
        { NULL, "a.*", "a.>", false },
        { NULL, "a.*", ">", true },
        { NULL, "a.*", "a.b.c", true },
        { ">", NULL, "a..b", false },
        { ">", NULL, ".a", false },
        { ">", NULL, "a.", false },
        { ">", NULL, "", false },
        { NULL, ">", "a..b", true },
        { "*.b.>", NULL, "x.b.c", true },
        { "*.b.>", NULL, "x.b", false },
        { "a.*.c,a.b.*", NULL, "a.b.d", true },
        { "a.*.c,a.b.*", NULL, "a.x.c", true },
        { "a.*.c,a.b.*", NULL, "a.x.d", false },
        { "a,a.b,a.b.c", NULL, "a.b", true },
        { "a,a.b,a.b.c", NULL, "a.b.c.d", false },
        { "a", "a", "a", false },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct rb_budget budget = { 0 };
        struct rb_perms *perms = make(&budget, rows[i].allow, rows[i].deny, NULL, NULL);
        for (int times = 0; times < 2; times++) {
            if (rb_perms_publish(perms, text(rows[i].subject)) != rows[i].allowed) {
                fail_msg("row %zu, time %d", i, times);
            }
        }
        rb_perms_release(perms);
        assert_int_equal(budget.used_bytes, 0);
    }
}

/* As nats-server 2.15.2 answers, but for "a.>" under an allow of "a.*": that would be more than was allowed. */
static void subscribe_agrees_with_the_table(void **state)
{
    enum { NO = RB_SUB_DENIED, YES = RB_SUB_ALLOWED, SOME = RB_SUB_FILTERED };
    static const struct {
        const char *allow, *deny, *subject, *queue;
        int want;
    } rows[] = {
        { NULL, NULL, "a", "", YES },
        { NULL, NULL, ">", "q", YES },
        { "", NULL, "a", "", NO },
        { "", NULL, "a", "q", NO },
        { "a.>", "a.b", "a.b", "", NO },
        { "a.>", "a.b", "a.c", "", YES },
        { "a.>", "a.b", "a.*", "", SOME },
        { "a.>", "a.b", "a.>", "", SOME },
        { "a.>", "a.b", "a.*", "q", SOME },
        { "a.>", "a.b", "a.c.*", "", YES },
        { "a.>", "a.b", ">", "", NO },
        { "a.>", "a.b", "*.c", "", NO },
        { "a.>", "a.b", "a", "", NO },
        { "foo q.*,foo.> *.dev,bar", NULL, "foo", "", NO },
        { "foo q.*,foo.> *.dev,bar", NULL, "foo", "q", NO },
        { "foo q.*,foo.> *.dev,bar", NULL, "foo", "q.1", YES },
        { "foo q.*,foo.> *.dev,bar", NULL, "foo", "q.1.2", NO },
        { "foo q.*,foo.> *.dev,bar", NULL, "foo.x", "", NO },
        { "foo q.*,foo.> *.dev,bar", NULL, "foo.x", "v.dev", YES },
        { "foo q.*,foo.> *.dev,bar", NULL, "foo.*", "v.dev", YES },
        { "foo q.*,foo.> *.dev,bar", NULL, "foo.*", "dev", NO },
        { "foo q.*,foo.> *.dev,bar", NULL, "bar", "", YES },
        { "foo q.*,foo.> *.dev,bar", NULL, "bar", "q", YES },
        { "foo,foo q1", NULL, "foo", "", YES },
        { "foo,foo q1", NULL, "foo", "q1", YES },
        { "foo,foo q1", NULL, "foo", "q2", NO },
        { "foo q1,foo", NULL, "foo", "q2", NO },
        { "foo,foo q1", NULL, "foo", "q*", NO },
        { "foo.*,foo.a q1", NULL, "foo.a", "", YES },
        { "foo.*,foo.a q1", NULL, "foo.a", "q1", YES },
        { "foo.*,foo.a q1", NULL, "foo.a", "q2", NO },
        { "foo.*,foo.a q1", NULL, "foo.b", "q2", YES },
        { "foo.*,foo.a q1", NULL, "foo.*", "q2", YES },
        { "foo *", NULL, "foo", "", NO },
        { "foo *", NULL, "foo", "q", YES },
        { "foo *", NULL, "foo", "q.r", NO },
        { "foo >", NULL, "foo", "q.r", YES },
        { "foo,* >", NULL, "bar", "", NO },
        { "foo,* >", NULL, "bar", "q", YES },
        { "foo,* >", NULL, "foo", "q", YES },
        { NULL, "foo.b q1,foo.c", "foo.*", "q1", SOME },
        { NULL, "foo.b q1,foo.c", "foo.*", "", SOME },
        { NULL, "foo.b q1,foo.c", "foo.b", "q1", NO },
        { NULL, "foo.b q1,foo.c", "foo.b", "q2", YES },
        { NULL, "foo.b q1,foo.c", "foo.b", "", YES },
        { NULL, "foo.b q1", "foo.*", "", YES },
        { NULL, "foo.b q1", "foo.*", "q2", YES },
        { NULL, "foo.b q1", "foo.*", "q1", SOME },
        { NULL, "foo q*,bar q.*,baz >", "foo", "q1", YES },
        { NULL, "foo q*,bar q.*,baz >", "foo", "q*", NO },
        { NULL, "foo q*,bar q.*,baz >", "bar", "q.1", NO },
        { NULL, "foo q*,bar q.*,baz >", "bar", "q.1.1", YES },
        { NULL, "foo q*,bar q.*,baz >", "baz", "q", NO },
        { NULL, "foo q*,bar q.*,baz >", "baz", "", YES },
        { NULL, "a.*", "a.*", "", NO },
        { NULL, "a.*", "a.>", "", NO },
        { NULL, "a.*", "*.b", "", SOME },
        { NULL, "a.*", ">", "", SOME },
        { NULL, "a.*", "*.*", "", SOME },
        { NULL, "a.*", "b.*", "", YES },
        { "a.*", NULL, "a.*", "", YES },
        { "a.*", NULL, "a.>", "", NO },
        { "a.*", NULL, "*.b", "", NO },
        { "a.*", "a.>", "a.b", "", NO },
        { ">", "*", "*", "", NO },
        { ">", "*", ">", "", NO },
        { ">", "*", "*.*", "", YES },
        { "a.*.>", "a.*.c", "a.b.*", "", SOME },
        { "a.*.>", "a.*.c", "a.>", "", NO },
        { "a.*.>", "a.*.c", "a.*.>", "", SOME },
        { "a.*.>", "a.*.c", "a.x.c", "", NO },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct rb_perms *perms = make(NULL, NULL, NULL, rows[i].allow, rows[i].deny);
        if ((int)rb_perms_subscribe(perms, text(rows[i].subject), text(rows[i].queue)) !=
            rows[i].want) {
            fail_msg("row %zu: %s %s", i, rows[i].subject, rows[i].queue);
        }
        rb_perms_release(perms);
    }
}

static void deliveries_heed_denies_and_queues(void **state)
{
    struct rb_perms *perms = make(NULL, NULL, NULL, "foo.>", "foo.b q1,foo.c,foo.d.>");
    assert_true(rb_perms_deliver(perms, RB_S("foo.a"), RB_S("")));
    assert_true(rb_perms_deliver(perms, RB_S("foo.b"), RB_S("")));
    assert_true(rb_perms_deliver(perms, RB_S("foo.b"), RB_S("q2")));
    assert_false(rb_perms_deliver(perms, RB_S("foo.b"), RB_S("q1")));
    assert_false(rb_perms_deliver(perms, RB_S("foo.c"), RB_S("")));
    assert_false(rb_perms_deliver(perms, RB_S("foo.c"), RB_S("q1")));
    assert_false(rb_perms_deliver(perms, RB_S("foo.d.e.f"), RB_S("")));
    assert_true(rb_perms_deliver(perms, RB_S("foo.d"), RB_S("")));
    rb_perms_release(perms);
}

static void nobody_means_everything(void **state)
{
    int64_t max = 5;
    int64_t ttl_ns = 6;
    assert_true(rb_perms_publish(NULL, RB_S("a")));
    assert_int_equal(rb_perms_subscribe(NULL, RB_S(">"), RB_S("q")), RB_SUB_ALLOWED);
    assert_true(rb_perms_deliver(NULL, RB_S("a"), RB_S("")));
    assert_false(rb_perms_responses(NULL, &max, &ttl_ns));
    assert_int_equal(max, 5);
    assert_null(rb_perms_source(NULL));
    rb_perms_release(NULL);
}

static void responses_and_source_come_back(void **state)
{
    struct rb_perm_entry entry = { .subject = RB_S("a.*"), .queue = RB_S("q") };
    struct rb_permissions permissions = {
        .publish_allow = { .set = true },
        .subscribe_deny = { .entries = &entry, .count = 1, .set = true },
        .responses = true,
        .responses_max = 3,
        .responses_ttl_ns = -1,
    };
    struct rb_perms *perms = NULL;
    int64_t max = 0;
    int64_t ttl_ns = 0;
    assert_int_equal(rb_perms_create(NULL, &permissions, &perms), RB_OK);
    assert_true(rb_perms_responses(perms, &max, &ttl_ns));
    assert_int_equal(max, 3);
    assert_int_equal(ttl_ns, -1);
    assert_true(rb_permissions_equal(rb_perms_source(perms), &permissions));
    assert_ptr_not_equal(rb_perms_source(perms)->subscribe_deny.entries, &entry);
    rb_perms_release(perms);
}

static void equality_sees_each_difference(void **state)
{
    struct rb_perm_entry one = { .subject = RB_S("a") };
    struct rb_perm_entry other = { .subject = RB_S("a"), .queue = RB_S("q") };
    struct rb_permissions a = { .publish_allow = { &one, 1, true } };
    struct rb_permissions b = a;
    assert_true(rb_permissions_equal(&a, &b));
    assert_true(rb_permissions_equal(NULL, NULL));
    assert_false(rb_permissions_equal(&a, NULL));
    assert_false(rb_permissions_equal(NULL, &a));
    b.publish_allow.entries = &other;
    assert_false(rb_permissions_equal(&a, &b));
    b = a;
    b.publish_deny.set = true;
    assert_false(rb_permissions_equal(&a, &b));
    b = a;
    b.subscribe_allow = a.publish_allow;
    assert_false(rb_permissions_equal(&a, &b));
    b = a;
    b.responses_max = 2; /* says nothing while responses are off */
    assert_true(rb_permissions_equal(&a, &b));
    a.responses = b.responses = true;
    assert_false(rb_permissions_equal(&a, &b));
}

/* Thousands of subjects through a cache of hundreds: every answer stays right, and memory bounded. */
static void answers_survive_replacement(void **state)
{
    struct rb_budget budget = { 0 };
    struct rb_perms *perms = make(&budget, "a.*.x", "a.7.*", NULL, NULL);
    uint64_t before = budget.used_bytes;
    assert_true(rb_perms_publish(perms, RB_S("a.1.x")));
    assert_true(budget.used_bytes > before && budget.used_bytes - before <= 4096);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5000; i++) {
            char subject[32];
            snprintf(subject, sizeof(subject), "a.%d.%s", i, i % 3 == 0 ? "y" : "x");
            assert_int_equal(rb_perms_publish(perms, text(subject)), i % 3 != 0 && i != 7);
        }
    }
    assert_true(budget.used_bytes - before <= 65536);
    struct rb_perms *again = rb_perms_hold(perms);
    rb_perms_release(perms);
    assert_true(rb_perms_publish(again, RB_S("a.1.x")));
    rb_perms_release(again);
    assert_int_equal(budget.used_bytes, 0);
}

/* Subjects around the longest that is cached. */
static void long_subjects_are_answered(void **state)
{
    struct rb_perms *perms = make(NULL, "a.>", NULL, NULL, NULL);
    char subject[400];
    memset(subject, 'x', sizeof(subject));
    for (size_t len = 110; len < sizeof(subject); len++) {
        for (int times = 0; times < 2; times++) {
            memcpy(subject, "a.", 2);
            assert_true(rb_perms_publish(perms, rb_slice_of(subject, len)));
            memcpy(subject, "b.", 2);
            assert_false(rb_perms_publish(perms, rb_slice_of(subject, len)));
        }
    }
    rb_perms_release(perms);
}

/* Without memory for a cache the lists answer; without memory for the lists there is an error. */
static void a_spent_budget_costs_only_speed(void **state)
{
    struct rb_budget budget = { .limit_bytes = 1 };
    struct rb_permissions none = { 0 };
    struct rb_perms *perms = NULL;
    assert_int_equal(rb_perms_create(&budget, &none, &perms), RB_ERR_MEMORY);
    assert_null(perms);
    budget.limit_bytes = 0;
    perms = make(&budget, "a", NULL, NULL, NULL);
    budget.limit_bytes = budget.used_bytes;
    uint64_t refused = budget.refused_count;
    for (int i = 0; i < 3000; i++) {
        assert_true(rb_perms_publish(perms, RB_S("a")));
        assert_false(rb_perms_publish(perms, RB_S("b")));
    }
    assert_in_range(budget.refused_count - refused, 1, 10);
    budget.limit_bytes = 0;
    uint64_t used = budget.used_bytes;
    for (int i = 0; i < 3000; i++) {
        assert_true(rb_perms_publish(perms, RB_S("a")));
    }
    assert_true(budget.used_bytes > used);
    rb_perms_release(perms);
    assert_int_equal(budget.used_bytes, 0);
}

/* Long lists in which literals, patterns of several depths and equal beginnings are mixed. */
static void long_lists_find_each_entry(void **state)
{
    enum { ENTRIES = 6000 };
    static char texts[ENTRIES][40];
    struct rb_perm_entry *entries = calloc(ENTRIES, sizeof(*entries));
    static const char *const forms[] = { "lit.%d", "pre.%d.*", "deep.a.b.%d.>", "same.*.%d" };
    assert_non_null(entries);
    for (int i = 0; i < ENTRIES; i++) {
        char format[40];
        snprintf(format, sizeof(format), "%s", forms[i % 4]);
        char *percent = strstr(format, "%d");
        snprintf(texts[i], sizeof(texts[i]), "%.*s%d%s", (int)(percent - format), format, i,
                 percent + 2);
        entries[i].subject = text(texts[i]);
    }
    struct rb_permissions permissions = { .publish_allow = { entries, ENTRIES, true } };
    struct rb_perms *perms = NULL;
    assert_int_equal(rb_perms_create(NULL, &permissions, &perms), RB_OK);
    free(entries);
    for (int i = 0; i < ENTRIES; i++) {
        char subject[48];
        snprintf(subject, sizeof(subject), "lit.%d", i);
        assert_int_equal(rb_perms_publish(perms, text(subject)), i % 4 == 0);
        snprintf(subject, sizeof(subject), "pre.%d.x", i);
        assert_int_equal(rb_perms_publish(perms, text(subject)), i % 4 == 1);
        snprintf(subject, sizeof(subject), "deep.a.b.%d.x.y", i);
        assert_int_equal(rb_perms_publish(perms, text(subject)), i % 4 == 2);
        snprintf(subject, sizeof(subject), "same.z.%d", i);
        assert_int_equal(rb_perms_publish(perms, text(subject)), i % 4 == 3);
    }
    rb_perms_release(perms);
}

/* More literal tokens before the wildcard than there are bits for depths. */
static void deep_patterns_are_found(void **state)
{
    char pattern[300] = "";
    char subject[300] = "";
    for (int depth = 1; depth < 100; depth++) {
        strcat(pattern, "t.");
        memcpy(subject, pattern, strlen(pattern));
        strcpy(subject + strlen(pattern), "x");
        size_t len = strlen(pattern);
        strcpy(pattern + len, "*");
        struct rb_perms *perms = make(NULL, pattern, NULL, NULL, NULL);
        assert_true(rb_perms_publish(perms, text(subject)));
        assert_false(rb_perms_publish(perms, rb_slice_of(subject, len - 1)));
        rb_perms_release(perms);
        pattern[len] = '\0';
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publish_agrees_with_the_table),
        cmocka_unit_test(subscribe_agrees_with_the_table),
        cmocka_unit_test(deliveries_heed_denies_and_queues),
        cmocka_unit_test(nobody_means_everything),
        cmocka_unit_test(responses_and_source_come_back),
        cmocka_unit_test(equality_sees_each_difference),
        cmocka_unit_test(answers_survive_replacement),
        cmocka_unit_test(long_subjects_are_answered),
        cmocka_unit_test(a_spent_budget_costs_only_speed),
        cmocka_unit_test(long_lists_find_each_entry),
        cmocka_unit_test(deep_patterns_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
