/* test_sublist.c - against a naive model, with and without cache, and with budgets that refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/sublist.h"
#include "proto/subject.h"
#include "ringbus/bounds.h"

#define PATTERNS_MAX 256
#define LITERALS_MAX 256
#define QUEUES 4 /* the first is "no queue" */
#define SHARDS 5
#define SUBS_MAX 400
#define TEXT_MAX 32

static const char *const queue_names[QUEUES] = { "", "q", "workers", "r" };

struct sub {
    struct rb_sub_ref ref;
    uint32_t pattern, queue;
    uint32_t mark; /* of the check that saw it last */
    bool live;
};

struct model {
    struct rb_budget budget;
    struct rb_sublist *list;
    char patterns[PATTERNS_MAX][TEXT_MAX], literals[LITERALS_MAX][TEXT_MAX];
    uint32_t pattern_count, literal_count, queue_count;
    bool matches[PATTERNS_MAX][LITERALS_MAX];
    uint32_t local[PATTERNS_MAX][QUEUES], remote[PATTERNS_MAX][QUEUES][SHARDS];
    struct sub subs[SUBS_MAX];
    uint32_t sub_count; /* live ones */
    uint32_t mark;
    uint64_t random;
    struct rb_match_hint hint;
};

static uint32_t below(struct model *m, uint32_t bound)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return (uint32_t)(m->random >> 20) % bound;
}

static struct rb_slice queue_of(uint32_t queue)
{
    return rb_slice_text(queue_names[queue]);
}

/* Every text of up to `depth` tokens of `tokens`; with `full` also those that end in ">". */
static uint32_t spell(char (*out)[TEXT_MAX], const char *const *tokens, uint32_t token_count,
                      uint32_t depth, bool full)
{
    uint32_t count = 0, begin = 0;
    for (uint32_t i = 0; i < token_count; i++) {
        snprintf(out[count++], TEXT_MAX, "%s", tokens[i]);
    }
    for (uint32_t level = 1; level < depth; level++) {
        uint32_t end = count;
        for (; begin < end; begin++) {
            for (uint32_t i = 0; i < token_count; i++) {
                snprintf(out[count++], TEXT_MAX, "%.20s.%s", out[begin], tokens[i]);
            }
        }
    }
    uint32_t plain = count;
    for (uint32_t i = 0; full && i < plain; i++) {
        snprintf(out[count++], TEXT_MAX, "%.20s.>", out[i]);
    }
    if (full) {
        snprintf(out[count++], TEXT_MAX, ">");
    }
    return count;
}

static struct model *open_model(uint64_t seed)
{
    static const char *const tokens[] = { "a", "b", "*", "a*" };
    static const char *const odd[] = { "", ".", "a.", ".a", "a..b", "..", "b.b.b.b.b", "a.>", ">" };
    struct model *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    m->random = seed;
    m->queue_count = QUEUES;
    m->pattern_count = spell(m->patterns, tokens, 4, 3, true);
    m->literal_count = spell(m->literals, tokens, 3, 4, false);
    for (uint32_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        snprintf(m->literals[m->literal_count++], TEXT_MAX, "%s", odd[i]);
    }
    assert_true(m->pattern_count <= PATTERNS_MAX && m->literal_count <= LITERALS_MAX);
    for (uint32_t p = 0; p < m->pattern_count; p++) {
        for (uint32_t l = 0; l < m->literal_count; l++) {
            m->matches[p][l] =
                rb_subject_match(rb_slice_text(m->patterns[p]), rb_slice_text(m->literals[l]));
        }
    }
    assert_int_equal(rb_sublist_create(&m->budget, SHARDS, &m->list), RB_OK);
    return m;
}

static void close_model(struct model *m)
{
    rb_sublist_destroy(m->list);
    assert_int_equal(m->budget.used_bytes, 0);
    free(m);
}

/* ---- checking a match ---- */

static struct sub *check_ref(struct model *m, const struct rb_sub_ref *ref, uint32_t literal)
{
    struct sub *sub = (struct sub *)(uintptr_t)ref; /* the ref comes first */
    assert_true(sub >= m->subs && sub < m->subs + SUBS_MAX);
    assert_true(sub->live && m->matches[sub->pattern][literal]);
    assert_int_not_equal(sub->mark, m->mark); /* nobody twice */
    sub->mark = m->mark;
    return sub;
}

static void check_plain(struct model *m, const struct rb_match *match, uint32_t literal)
{
    uint32_t count = 0;
    uint64_t remote = 0;
    for (uint32_t p = 0; p < m->pattern_count; p++) {
        for (uint32_t shard = 0; m->matches[p][literal] && shard < SHARDS; shard++) {
            remote |= (uint64_t)m->remote[p][0][shard] << shard;
        }
        count += m->matches[p][literal] ? m->local[p][0] : 0;
    }
    assert_int_equal(match->plain_count, count);
    assert_int_equal(match->remote_plain, remote);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(check_ref(m, match->plain[i], literal)->queue, 0);
    }
}

static const struct rb_match_group *group_named(const struct rb_match *match, struct rb_slice queue)
{
    const struct rb_match_group *found = NULL;
    for (uint32_t i = 0; i < match->group_count; i++) {
        if (rb_slice_equal(match->groups[i].queue, queue)) {
            assert_null(found); /* same names are merged */
            found = &match->groups[i];
        }
    }
    return found;
}

/* Returns 1 when the model says that the group is part of the match. */
static uint32_t check_group(struct model *m, const struct rb_match *match, uint32_t literal,
                            uint32_t queue)
{
    uint32_t local = 0, total = 0, remotes = 0, weight[SHARDS] = { 0 };
    for (uint32_t p = 0; p < m->pattern_count; p++) {
        for (uint32_t shard = 0; m->matches[p][literal] && shard < SHARDS; shard++) {
            weight[shard] += m->remote[p][queue][shard];
        }
        local += m->matches[p][literal] ? m->local[p][queue] : 0;
    }
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        total += weight[shard];
        remotes += weight[shard] > 0;
    }
    const struct rb_match_group *group = group_named(match, queue_of(queue));
    if (local + total == 0) {
        assert_null(group);
        return 0;
    }
    assert_non_null(group);
    assert_int_equal(group->sub_count, local);
    assert_int_equal(group->weight, local + total);
    assert_int_equal(group->remote_count, remotes);
    for (uint32_t i = 0; i < remotes; i++) {
        assert_true(group->remotes[i].weight > 0);
        assert_int_equal(group->remotes[i].weight, weight[group->remotes[i].shard]);
        weight[group->remotes[i].shard] = 0;
    }
    for (uint32_t i = 0; i < local; i++) {
        assert_int_equal(check_ref(m, group->subs[i], literal)->queue, queue);
    }
    return 1;
}

static void check_result(struct model *m, const struct rb_match *match, uint32_t literal)
{
    uint32_t groups = 0;
    m->mark++;
    check_plain(m, match, literal);
    for (uint32_t queue = 1; queue < QUEUES; queue++) {
        groups += check_group(m, match, literal, queue);
    }
    assert_int_equal(match->group_count, groups);
}

/* The first lookup may find a cached result; after the second there is one; the third uses it. */
static void check_literal(struct model *m, uint32_t literal)
{
    struct rb_sublist_stats before, after;
    struct rb_slice subject = rb_slice_text(m->literals[literal]);
    check_result(m, rb_sublist_match(m->list, subject), literal);
    check_result(m, rb_sublist_match(m->list, subject), literal);
    rb_sublist_stats(m->list, &before);
    check_result(m, rb_sublist_match(m->list, subject), literal);
    check_result(m, rb_sublist_match_hinted(m->list, subject, &m->hint), literal);
    check_result(m, rb_sublist_match_hinted(m->list, subject, &m->hint), literal);
    rb_sublist_stats(m->list, &after);
    assert_int_equal(after.match_count - before.match_count, 3);
    if (m->budget.limit_bytes == 0) {
        assert_int_equal(after.cache_hit_count - before.cache_hit_count, 3);
    }
}

/* ---- checking the visit of everything ---- */

struct seen {
    struct model *m;
    uint32_t count;
};

static void see(void *ctx, struct rb_slice subject, struct rb_slice queue, uint32_t local,
                const uint32_t *remote_weight)
{
    struct seen *seen = ctx;
    struct model *m = seen->m;
    uint32_t p = 0, q = 0;
    while (p < m->pattern_count && !rb_slice_equal(rb_slice_text(m->patterns[p]), subject)) {
        p++;
    }
    while (q < QUEUES && !rb_slice_equal(queue_of(q), queue)) {
        q++;
    }
    assert_true(p < m->pattern_count && q < QUEUES);
    assert_int_equal(local, m->local[p][q]);
    for (uint32_t shard = 0; shard < RB_SHARDS_MAX; shard++) {
        assert_int_equal(remote_weight[shard], shard < SHARDS ? m->remote[p][q][shard] : 0);
    }
    seen->count++;
}

static void check_all(struct model *m)
{
    uint32_t pairs = 0, nodes = 0;
    for (uint32_t p = 0; p < m->pattern_count; p++) {
        uint32_t used = 0;
        for (uint32_t q = 0; q < QUEUES; q++) {
            uint32_t sum = m->local[p][q];
            for (uint32_t shard = 0; shard < SHARDS; shard++) {
                sum += m->remote[p][q][shard];
            }
            used += sum > 0;
        }
        pairs += used;
        nodes += used > 0;
    }
    struct seen seen = { .m = m };
    rb_sublist_each(m->list, see, &seen);
    assert_int_equal(seen.count, pairs);
    struct rb_sublist_stats stats;
    rb_sublist_stats(m->list, &stats);
    assert_int_equal(stats.node_count, nodes);
    assert_int_equal(stats.sub_count, m->sub_count);
    assert_int_equal(stats.insert_count - stats.remove_count, m->sub_count);
    for (uint32_t literal = 0; literal < m->literal_count; literal++) {
        check_literal(m, literal);
    }
}

/* ---- changes to list and model together ---- */

static enum rb_err add_sub(struct model *m, uint32_t pattern, uint32_t queue)
{
    struct sub *sub = m->subs;
    while (sub->live) {
        sub++;
    }
    assert_true(sub < m->subs + SUBS_MAX);
    struct rb_slice subject = rb_slice_text(m->patterns[pattern]);
    struct rb_interest_change change;
    enum rb_err err = rb_sublist_add(m->list, subject, queue_of(queue), &sub->ref, &change);
    if (err != RB_OK) {
        return err;
    }
    sub->live = true;
    sub->pattern = pattern;
    sub->queue = queue;
    m->sub_count++;
    uint32_t local = ++m->local[pattern][queue];
    assert_int_equal(change.tell, queue != 0 || local == 1);
    assert_int_equal(change.weight, queue == 0 ? 1 : local);
    assert_true(rb_slice_equal(rb_sublist_subject(&sub->ref), subject));
    assert_true(rb_slice_equal(rb_sublist_queue(&sub->ref), queue_of(queue)));
    return RB_OK;
}

static void remove_sub(struct model *m, struct sub *sub)
{
    struct rb_interest_change change;
    struct rb_slice subject = rb_sublist_subject(&sub->ref);
    struct rb_slice queue = rb_sublist_queue(&sub->ref);
    rb_sublist_remove(m->list, &sub->ref, &change);
    assert_true(rb_slice_equal(rb_slice_text(m->patterns[sub->pattern]), subject));
    assert_true(rb_slice_equal(queue_of(sub->queue), queue));
    assert_null(sub->ref.node);
    sub->live = false;
    m->sub_count--;
    uint32_t local = --m->local[sub->pattern][sub->queue];
    assert_int_equal(change.tell, sub->queue != 0 || local == 0);
    assert_int_equal(change.weight, sub->queue == 0 ? local > 0 : local);
}

static enum rb_err set_remote(struct model *m, uint32_t pattern, uint32_t queue, uint32_t shard,
                              uint32_t weight)
{
    enum rb_err err = rb_sublist_remote(m->list, rb_slice_text(m->patterns[pattern]),
                                        queue_of(queue), shard, weight);
    if (err == RB_OK) {
        m->remote[pattern][queue][shard] = queue == 0 ? weight > 0 : weight;
    }
    return err;
}

static struct sub *any_sub(struct model *m)
{
    uint32_t at = below(m, SUBS_MAX);
    for (uint32_t i = 0; i < SUBS_MAX; i++, at = (at + 1) % SUBS_MAX) {
        if (m->subs[at].live) {
            return &m->subs[at];
        }
    }
    return NULL;
}

/* One random change; the list holds about `target` subscriptions. */
static void change_something(struct model *m, uint32_t target, uint32_t pattern_count)
{
    uint32_t pattern = below(m, pattern_count), queue = below(m, m->queue_count);
    if (below(m, 3) == 0) {
        uint32_t weight = below(m, 2) == 0 ? 0 : queue == 0 ? 1 : 1 + below(m, 3);
        assert_int_equal(set_remote(m, pattern, queue, below(m, SHARDS), weight), RB_OK);
    } else if (m->sub_count > 0 && below(m, 2 * target) < m->sub_count) {
        remove_sub(m, any_sub(m));
    } else {
        assert_int_equal(add_sub(m, pattern, queue), RB_OK);
    }
}

static void remove_everything(struct model *m)
{
    while (m->sub_count > 0) {
        remove_sub(m, any_sub(m));
    }
    for (uint32_t p = 0; p < m->pattern_count; p++) {
        for (uint32_t q = 0; q < QUEUES; q++) {
            for (uint32_t shard = 0; shard < SHARDS; shard++) {
                assert_int_equal(set_remote(m, p, q, shard, 0), RB_OK);
            }
        }
    }
}

/* Random changes agree with the model, and the last removal leaves no node behind. */
static void agrees_with_model(void **state)
{
    static const struct {
        uint32_t steps, target, patterns;
    } runs[] = { { 4000, 10, 168 }, { 4000, 150, 168 }, { 3000, 150, 12 } };
    for (uint32_t run = 0; run < 3; run++) {
        struct model *m = open_model(88172645463325252u + run);
        for (uint32_t step = 0; step < runs[run].steps; step++) {
            change_something(m, runs[run].target, runs[run].patterns);
            check_literal(m, below(m, m->literal_count));
            check_literal(m, below(m, m->literal_count));
            if (step % 250 == 0) {
                check_all(m);
            }
        }
        remove_everything(m);
        check_all(m);
        struct rb_sublist_stats stats;
        rb_sublist_stats(m->list, &stats);
        assert_int_equal(stats.node_count, 0);
        close_model(m);
    }
}

/* Destroying a list with everything in it gives every byte back. */
static void destroy_frees_all(void **state)
{
    struct model *m = open_model(7);
    for (uint32_t p = 0; p < m->pattern_count; p++) {
        assert_int_equal(add_sub(m, p, p % QUEUES), RB_OK);
        assert_int_equal(set_remote(m, p, (p + 1) % QUEUES, p % SHARDS, 1), RB_OK);
        assert_int_equal(set_remote(m, p, 1, (p + 1) % SHARDS, 3), RB_OK);
    }
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(add_sub(m, 3, i % 2), RB_OK);
    }
    check_all(m);
    remove_sub(m, any_sub(m)); /* destroyed while its text is still readable */
    close_model(m);
}

/* Text of a removed subscription may be the argument of the next call. */
static void removed_text_can_be_used(void **state)
{
    static const char *const subjects[] = { "only.one", "only.*" };
    for (uint32_t i = 0; i < 2; i++) {
        struct rb_budget budget = { 0 };
        struct rb_sublist *list;
        struct rb_sub_ref ref, other;
        struct rb_interest_change change;
        struct rb_slice text = rb_slice_text(subjects[i]);
        assert_int_equal(rb_sublist_create(&budget, 2, &list), RB_OK);
        assert_int_equal(rb_sublist_add(list, text, RB_S("q"), &ref, &change), RB_OK);
        struct rb_slice subject = rb_sublist_subject(&ref), queue = rb_sublist_queue(&ref);
        rb_sublist_remove(list, &ref, &change);
        assert_true(change.tell && change.weight == 0);
        assert_int_equal(rb_sublist_add(list, subject, queue, &other, &change), RB_OK);
        assert_true(rb_slice_equal(rb_sublist_subject(&other), text));
        assert_true(rb_slice_equal(rb_sublist_queue(&other), RB_S("q")));
        rb_sublist_remove(list, &other, &change);
        rb_sublist_destroy(list);
        assert_int_equal(budget.used_bytes, 0);
    }
}

/* ---- the cache ---- */

struct small {
    struct rb_budget budget;
    struct rb_sublist *list;
};

static void open_small(struct small *s)
{
    *s = (struct small){ 0 };
    assert_int_equal(rb_sublist_create(&s->budget, 2, &s->list), RB_OK);
}

static void close_small(struct small *s)
{
    rb_sublist_destroy(s->list);
    assert_int_equal(s->budget.used_bytes, 0);
}

/* Is the next lookup of `subject` answered by the cache? */
static bool hits(struct small *s, const char *subject)
{
    struct rb_sublist_stats before, after;
    rb_sublist_stats(s->list, &before);
    (void)rb_sublist_match(s->list, rb_slice_text(subject));
    rb_sublist_stats(s->list, &after);
    return after.cache_hit_count > before.cache_hit_count;
}

/* Adds and removes a subscription. */
static void flicker(struct small *s, const char *subject)
{
    struct rb_sub_ref ref;
    struct rb_interest_change change;
    assert_int_equal(rb_sublist_add(s->list, rb_slice_text(subject), RB_S(""), &ref, &change),
                     RB_OK);
    rb_sublist_remove(s->list, &ref, &change);
}

/* Changes of other subjects leave a hot entry alone; those that could reach it do not. */
static void cache_forgets_what_changed_only(void **state)
{
    static const char *const near[] = { "orders.eu.new", "orders.eu.*", "orders.eu.>", "*.*.*",
                                        "orders.*.new",  "orders.>",    "*.eu.new",    ">" };
    static const char *const far[] = { "orders.us.new", "orders.us.*", "order.>", "order.*.new",
                                       "orders.eu",     "orders.e*",   "x.*.>" };
    struct small s;
    open_small(&s);
    assert_false(hits(&s, "orders.eu.new")); /* seen once: not yet worth an entry */
    assert_false(hits(&s, "orders.eu.new"));
    assert_true(hits(&s, "orders.eu.new"));
    for (uint32_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
        flicker(&s, far[i]);
        assert_true(hits(&s, "orders.eu.new"));
    }
    for (uint32_t i = 0; i < 1000; i++) {
        char text[TEXT_MAX];
        snprintf(text, sizeof(text), "other.%u.new", i);
        flicker(&s, text);
        assert_true(hits(&s, "orders.eu.new"));
    }
    for (uint32_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
        flicker(&s, near[i]);
        assert_false(hits(&s, "orders.eu.new")); /* known to be hot: it comes back at once */
        assert_true(hits(&s, "orders.eu.new"));
        assert_int_equal(rb_sublist_remote(s.list, rb_slice_text(near[i]), RB_S(""), 1, 1), RB_OK);
        assert_false(hits(&s, "orders.eu.new"));
        assert_int_equal(rb_sublist_match(s.list, RB_S("orders.eu.new"))->remote_plain, 2);
        assert_int_equal(rb_sublist_remote(s.list, rb_slice_text(near[i]), RB_S(""), 1, 0), RB_OK);
        assert_int_equal(rb_sublist_match(s.list, RB_S("orders.eu.new"))->remote_plain, 0);
    }
    close_small(&s);
}

/* A hint that is foreign, outdated or plain nonsense only costs time. */
static void hints_are_harmless(void **state)
{
    struct small s;
    struct rb_sub_ref ref;
    struct rb_interest_change change;
    struct rb_match_hint hint = { 0 };
    open_small(&s);
    assert_int_equal(rb_sublist_add(s.list, RB_S("a.b"), RB_S(""), &ref, &change), RB_OK);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(rb_sublist_match_hinted(s.list, RB_S("a.b"), &hint)->plain_count, 1);
        assert_int_equal(rb_sublist_match_hinted(s.list, RB_S("a.c"), &hint)->plain_count, 0);
        assert_int_equal(rb_sublist_match_hinted(s.list, RB_S("a.b"), &hint)->plain_count, 1);
        hint.slot = UINT32_MAX - 7 * i;
    }
    (void)rb_sublist_match_hinted(s.list, RB_S("a.b"), &hint);
    rb_sublist_remove(s.list, &ref, &change);
    assert_int_equal(rb_sublist_match_hinted(s.list, RB_S("a.b"), &hint)->plain_count, 0);
    close_small(&s);
}

/* More subjects than entries: the cache stays bounded and right; subjects used once stay out. */
static void cache_is_bounded(void **state)
{
    struct small s;
    struct rb_sub_ref ref;
    struct rb_interest_change change;
    struct rb_sublist_stats stats;
    char text[TEXT_MAX];
    open_small(&s);
    assert_int_equal(rb_sublist_add(s.list, RB_S("*.7"), RB_S(""), &ref, &change), RB_OK);
    for (uint32_t i = 0; i < 20000; i++) {
        snprintf(text, sizeof(text), "inbox.%u", i + 100);
        assert_int_equal(rb_sublist_match(s.list, rb_slice_text(text))->plain_count, 0);
    }
    rb_sublist_stats(s.list, &stats);
    assert_true(stats.cache_count < 20);
    for (uint32_t i = 0; i < 40000; i++) {
        snprintf(text, sizeof(text), "%u.%u", i / 20, i / 2 % 10);
        uint32_t expected = i / 2 % 10 == 7;
        assert_int_equal(rb_sublist_match(s.list, rb_slice_text(text))->plain_count, expected);
    }
    rb_sublist_stats(s.list, &stats);
    assert_in_range(stats.cache_count, 2000, 4096);
    rb_sublist_remove(s.list, &ref, &change);
    close_small(&s);
}

/* What is used again and again outlives any number of subjects that come twice. */
static void hot_entries_stay(void **state)
{
    struct small s;
    char text[TEXT_MAX];
    open_small(&s);
    (void)hits(&s, "hot");
    (void)hits(&s, "hot");
    for (uint32_t i = 0; i < 20000; i++) {
        snprintf(text, sizeof(text), "twice.%u", i);
        (void)hits(&s, text);
        (void)hits(&s, text);
        assert_true(hits(&s, "hot"));
    }
    close_small(&s);
}

/* Large merged results are bounded in bytes, and complete. */
static void large_results_are_bounded(void **state)
{
    enum { COUNT = 70000 };
    struct small s;
    struct rb_interest_change change;
    struct rb_sub_ref *refs = calloc(COUNT, sizeof(*refs));
    assert_non_null(refs);
    open_small(&s);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct rb_slice subject = i % 2 == 0 ? RB_S("big.*") : RB_S("big.>");
        assert_int_equal(rb_sublist_add(s.list, subject, RB_S(""), &refs[i], &change), RB_OK);
    }
    uint64_t base = s.budget.used_bytes;
    for (uint32_t i = 0; i < 120; i++) {
        char text[TEXT_MAX];
        snprintf(text, sizeof(text), "big.%u", i / 2);
        const struct rb_match *match = rb_sublist_match(s.list, rb_slice_text(text));
        assert_int_equal(match->plain_count, COUNT);
        assert_true(match->plain[0] != match->plain[COUNT - 1]);
        assert_true(s.budget.used_bytes - base < (18u << 20));
    }
    assert_true(s.budget.used_bytes - base > (8u << 20));
    for (uint32_t i = 0; i < COUNT; i++) {
        rb_sublist_remove(s.list, &refs[i], &change);
    }
    assert_int_equal(rb_sublist_match(s.list, RB_S("big.1"))->plain_count, 0);
    close_small(&s);
    free(refs);
}

/* ---- budgets that refuse ---- */

static void create_fails_clean(void **state)
{
    uint32_t refused = 0;
    for (uint64_t limit = 64;; limit += 512) {
        struct rb_budget budget = { .limit_bytes = limit };
        struct rb_sublist *list = NULL;
        enum rb_err err = rb_sublist_create(&budget, 2, &list);
        if (err == RB_OK) {
            rb_sublist_destroy(list);
            assert_int_equal(budget.used_bytes, 0);
            break;
        }
        assert_int_equal(err, RB_ERR_MEMORY);
        assert_null(list);
        assert_int_equal(budget.used_bytes, 0);
        refused++;
    }
    assert_true(refused > 10);
}

/* Checks without room for cache entries, which would give way to a subscription. */
static void check_spent(struct model *m)
{
    m->budget.limit_bytes = m->budget.used_bytes;
    check_all(m);
    m->budget.limit_bytes = 0;
}

/* A budget that allows ever more, until one more subscription or interest fits: refused at every
 * allocation in turn. Each refusal must leave the list as it was. Returns the refusals. */
static uint32_t squeeze(struct model *m, bool remote, uint32_t pattern, uint32_t queue,
                        uint32_t weight)
{
    uint32_t refused = 0;
    for (uint64_t room = 0;; room += 16) {
        m->budget.limit_bytes = m->budget.used_bytes + room;
        enum rb_err err = remote ? set_remote(m, pattern, queue, weight % SHARDS, weight)
                                 : add_sub(m, pattern, queue);
        if (err == RB_OK) {
            break;
        }
        assert_int_equal(err, RB_ERR_MEMORY);
        if (refused++ % 64 == 0) {
            check_spent(m);
        }
    }
    m->budget.limit_bytes = 0;
    return refused;
}

static void refusals_change_nothing(void **state)
{
    uint32_t refused = 0;
    for (uint32_t first = 0; first < 168; first += 11) {
        struct model *m = open_model(99 + first);
        for (uint32_t step = 0; step < 12; step++) {
            uint32_t pattern = step % 3 == 2 ? first : (first + step) % m->pattern_count;
            refused += squeeze(m, step % 4 == 3, pattern, (step + first) % QUEUES, 1 + step % 5);
        }
        check_spent(m);
        for (uint32_t i = 0; i < 70; i++) { /* arrays that grow beyond the pools */
            refused += squeeze(m, false, first, first % QUEUES, 0);
        }
        for (uint32_t shard = 0; shard < SHARDS; shard++) {
            refused += squeeze(m, true, first, 1, 1 + shard);
        }
        check_all(m);
        remove_everything(m);
        check_all(m);
        close_model(m);
    }
    assert_true(refused > 10000);
}

/* The levels made for a wildcard that is then refused are taken back: once the list is empty, its
 * pools are given back, which asserts that nothing is taken from them. */
static void refused_wildcard_leaves_no_level(void **state)
{
    static const char *const pattern = "a.*.a-token-of-thirty-bytes-in-all.a-token-longer-than-"
                                       "the-one-before-it-by-some-forty-bytes.*.x.>";
    static struct rb_sub_ref refs[1500];
    struct rb_interest_change change;
    struct rb_sub_ref ref;
    enum rb_err err = RB_ERR_MEMORY;
    uint32_t tries = 0;
    for (uint64_t room = 0; err != RB_OK; room += 512, tries++) {
        struct small s;
        open_small(&s);
        uint64_t base = s.budget.used_bytes;
        s.budget.limit_bytes = base + room;
        err = rb_sublist_add(s.list, rb_slice_text(pattern), RB_S("q"), &ref, &change);
        s.budget.limit_bytes = 0;
        if (err == RB_OK) {
            rb_sublist_remove(s.list, &ref, &change);
        }
        for (uint32_t i = 0; i < 1500; i++) {
            char text[TEXT_MAX];
            snprintf(text, sizeof(text), "w.%u.*", i);
            struct rb_slice subject = rb_slice_text(text);
            assert_int_equal(rb_sublist_add(s.list, subject, RB_S(""), &refs[i], &change), RB_OK);
        }
        for (uint32_t i = 0; i < 1500; i++) {
            rb_sublist_remove(s.list, &refs[i], &change);
        }
        assert_true(s.budget.used_bytes - base > 131072);
        flicker(&s, "a.b");
        assert_true(s.budget.used_bytes - base < 65536);
        close_small(&s);
    }
    assert_true(tries > 20);
}

/* A spent budget costs the cache, neither a result nor a subscription that could have its room. */
static void spent_budget_matches_uncached(void **state)
{
    struct model *m = open_model(5);
    for (uint32_t i = 0; i < 300; i++) {
        change_something(m, 150, m->pattern_count);
    }
    m->budget.limit_bytes = m->budget.used_bytes;
    for (uint32_t literal = 0; literal < m->literal_count; literal++) {
        check_literal(m, literal);
    }
    m->budget.limit_bytes = 0;
    check_all(m); /* now there are entries */
    struct rb_sublist_stats before, after;
    rb_sublist_stats(m->list, &before);
    assert_true(before.cache_count > 50);
    m->budget.limit_bytes = m->budget.used_bytes;
    uint32_t added = 0;
    do { /* until the pools have to grow */
        assert_int_equal(add_sub(m, below(m, m->pattern_count), 0), RB_OK);
        rb_sublist_stats(m->list, &after);
    } while (after.cache_count > 0 && ++added < 200);
    assert_int_equal(after.cache_count, 0);
    m->budget.limit_bytes = 0;
    check_all(m);
    close_model(m);
}

/* ---- size ---- */

/* A literal subject with one plain subscriber, and one with plain interest of one other shard. */
static void literal_is_small(void **state)
{
    enum { COUNT = 200000 };
    struct small s;
    struct rb_interest_change change;
    struct rb_sub_ref *refs = calloc(COUNT, sizeof(*refs));
    assert_non_null(refs);
    char text[TEXT_MAX];
    for (uint32_t remote = 0; remote < 2; remote++) {
        open_small(&s);
        uint64_t base = s.budget.used_bytes, subject_bytes = 0;
        for (uint32_t i = 0; i < COUNT; i++) {
            snprintf(text, sizeof(text), "device.%06u.state", i);
            struct rb_slice subject = rb_slice_text(text);
            subject_bytes += subject.len;
            assert_int_equal(remote ? rb_sublist_remote(s.list, subject, RB_S(""), 1, 1)
                                    : rb_sublist_add(s.list, subject, RB_S(""), &refs[i], &change),
                             RB_OK);
        }
        uint64_t used = s.budget.used_bytes - base - subject_bytes;
        print_message("%s: %.1f bytes each beside the subject\n", remote ? "remote" : "local",
                      (double)used / COUNT);
        assert_true(used < 50 * (uint64_t)COUNT); /* 12 and rounding, and a slot of 21 at worst */
        for (uint32_t i = 0; i < COUNT; i += 997) {
            snprintf(text, sizeof(text), "device.%06u.state", i);
            const struct rb_match *match = rb_sublist_match(s.list, rb_slice_text(text));
            assert_int_equal(match->plain_count, !remote);
            assert_int_equal(match->remote_plain, remote ? 2 : 0);
            assert_true(remote || match->plain[0] == &refs[i]);
        }
        for (uint32_t i = 0; i < COUNT && !remote; i++) {
            rb_sublist_remove(s.list, &refs[i], &change);
        }
        flicker(&s, "one.more"); /* an empty list gives its slabs back with the next change */
        assert_true(remote || s.budget.used_bytes - base < 65536);
        close_small(&s);
    }
    free(refs);
}

static void many_wildcards_share_a_prefix(void **state)
{
    enum { COUNT = 100000 };
    struct small s;
    struct rb_interest_change change;
    struct rb_sub_ref *refs = calloc(COUNT, sizeof(*refs));
    assert_non_null(refs);
    char text[TEXT_MAX];
    open_small(&s);
    uint64_t base = s.budget.used_bytes;
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(text, sizeof(text), "p.*.%u", i);
        struct rb_slice subject = rb_slice_text(text);
        assert_int_equal(rb_sublist_add(s.list, subject, RB_S(""), &refs[i], &change), RB_OK);
    }
    print_message("wildcard: %.1f bytes each\n", (double)(s.budget.used_bytes - base) / COUNT);
    for (uint32_t i = 0; i < COUNT; i += 37) {
        snprintf(text, sizeof(text), "p.x.%u", i);
        const struct rb_match *match = rb_sublist_match(s.list, rb_slice_text(text));
        assert_int_equal(match->plain_count, 1);
        assert_ptr_equal(match->plain[0], &refs[i]);
        rb_sublist_remove(s.list, &refs[i], &change);
        assert_int_equal(rb_sublist_match(s.list, rb_slice_text(text))->plain_count, 0);
    }
    close_small(&s);
    free(refs);
}

/* Subjects far deeper than usual; every second token a wildcard. */
static void deep_subjects_match(void **state)
{
    enum { TOKENS = 2000 };
    static char pattern[2 * TOKENS], literal[2 * TOKENS];
    struct small s;
    struct rb_sub_ref deep, full, other;
    struct rb_interest_change change;
    for (uint32_t i = 0; i < TOKENS; i++) {
        pattern[2 * i] = i % 2 == 0 ? '*' : 'x';
        literal[2 * i] = 'x';
        pattern[2 * i + 1] = literal[2 * i + 1] = '.';
    }
    struct rb_slice subject = rb_slice_of(literal, sizeof(literal) - 1);
    struct rb_slice wild = rb_slice_of(pattern, sizeof(pattern) - 1);
    open_small(&s);
    assert_int_equal(rb_sublist_add(s.list, RB_S(">"), RB_S(""), &full, &change), RB_OK);
    assert_int_equal(rb_sublist_match(s.list, subject)->plain_count, 1);
    assert_int_equal(rb_sublist_add(s.list, wild, RB_S(""), &deep, &change), RB_OK);
    assert_int_equal(rb_sublist_add(s.list, subject, RB_S(""), &other, &change), RB_OK);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(rb_sublist_match(s.list, subject)->plain_count, 3);
    }
    rb_sublist_remove(s.list, &deep, &change);
    assert_int_equal(rb_sublist_match(s.list, subject)->plain_count, 2);
    rb_sublist_remove(s.list, &full, &change);
    rb_sublist_remove(s.list, &other, &change);
    assert_int_equal(rb_sublist_match(s.list, subject)->plain_count, 0);
    close_small(&s);
}

/* Queue names of several matching subjects meet in one group, with all 64 shards in play. */
static void groups_merge_over_all_shards(void **state)
{
    struct rb_budget budget = { 0 };
    struct rb_sublist *list;
    assert_int_equal(rb_sublist_create(&budget, RB_SHARDS_MAX, &list), RB_OK);
    for (uint32_t shard = 0; shard < RB_SHARDS_MAX; shard++) {
        assert_int_equal(rb_sublist_remote(list, RB_S("a.b"), RB_S("q"), shard, shard + 1), RB_OK);
        assert_int_equal(rb_sublist_remote(list, RB_S("a.*"), RB_S("q"), shard, 1), RB_OK);
        assert_int_equal(rb_sublist_remote(list, RB_S("a.>"), RB_S(""), shard, 1), RB_OK);
    }
    const struct rb_match *match = rb_sublist_match(list, RB_S("a.b"));
    assert_true(match->remote_plain == UINT64_MAX && match->plain_count == 0);
    assert_int_equal(match->group_count, 1);
    assert_int_equal(match->groups[0].remote_count, RB_SHARDS_MAX);
    assert_int_equal(match->groups[0].weight, 64 * 65 / 2 + 64);
    for (uint32_t shard = 0; shard < RB_SHARDS_MAX; shard++) {
        assert_int_equal(rb_sublist_remote(list, RB_S("a.b"), RB_S("q"), shard, 0), RB_OK);
        assert_int_equal(rb_sublist_remote(list, RB_S("a.*"), RB_S("q"), shard, 0), RB_OK);
        assert_int_equal(rb_sublist_remote(list, RB_S("a.>"), RB_S(""), shard, 0), RB_OK);
    }
    struct rb_sublist_stats stats;
    rb_sublist_stats(list, &stats);
    assert_int_equal(stats.node_count, 0);
    rb_sublist_destroy(list);
    assert_int_equal(budget.used_bytes, 0);
}

/* The very subject, not what a wildcard matches; plain and queue groups apart; here and elsewhere. */
static void has_is_of_the_very_subject(void **state)
{
    struct rb_budget budget = { 0 };
    struct rb_sublist *list;
    struct rb_sub_ref wild, plain, member;
    struct rb_interest_change change;
    assert_int_equal(rb_sublist_create(&budget, 2, &list), RB_OK);
    assert_int_equal(rb_sublist_add(list, RB_S("a.*"), RB_S(""), &wild, &change), RB_OK);
    assert_false(rb_sublist_has(list, RB_S("a.b"), RB_S("")));
    assert_int_equal(rb_sublist_add(list, RB_S("a.b"), RB_S("q"), &member, &change), RB_OK);
    assert_false(rb_sublist_has(list, RB_S("a.b"), RB_S("")));
    assert_true(rb_sublist_has(list, RB_S("a.b"), RB_S("q")));
    assert_false(rb_sublist_has(list, RB_S("a.b"), RB_S("r")));
    assert_int_equal(rb_sublist_add(list, RB_S("a.b"), RB_S(""), &plain, &change), RB_OK);
    assert_true(rb_sublist_has(list, RB_S("a.b"), RB_S("")));
    rb_sublist_remove(list, &plain, &change);
    assert_false(rb_sublist_has(list, RB_S("a.b"), RB_S("")));
    assert_int_equal(rb_sublist_remote(list, RB_S("a.b"), RB_S(""), 1, 1), RB_OK);
    assert_true(rb_sublist_has(list, RB_S("a.b"), RB_S("")));
    assert_int_equal(rb_sublist_remote(list, RB_S("a.b"), RB_S("r"), 1, 3), RB_OK);
    assert_true(rb_sublist_has(list, RB_S("a.b"), RB_S("r")));
    assert_int_equal(rb_sublist_remote(list, RB_S("a.b"), RB_S("r"), 1, 0), RB_OK);
    assert_false(rb_sublist_has(list, RB_S("a.b"), RB_S("r")));
    rb_sublist_destroy(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_model),
        cmocka_unit_test(destroy_frees_all),
        cmocka_unit_test(has_is_of_the_very_subject),
        cmocka_unit_test(removed_text_can_be_used),
        cmocka_unit_test(cache_forgets_what_changed_only),
        cmocka_unit_test(hints_are_harmless),
        cmocka_unit_test(cache_is_bounded),
        cmocka_unit_test(hot_entries_stay),
        cmocka_unit_test(large_results_are_bounded),
        cmocka_unit_test(create_fails_clean),
        cmocka_unit_test(refusals_change_nothing),
        cmocka_unit_test(refused_wildcard_leaves_no_level),
        cmocka_unit_test(spent_budget_matches_uncached),
        cmocka_unit_test(literal_is_small),
        cmocka_unit_test(many_wildcards_share_a_prefix),
        cmocka_unit_test(deep_subjects_match),
        cmocka_unit_test(groups_merge_over_all_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
