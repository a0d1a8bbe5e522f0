/* test_map.c - the hash map against a plain array, with good and with hostile hashes. */
#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ringbus/env.h"

struct item {
    uint32_t key;
    uint64_t hash;
};

static bool item_equal(const void *item, struct rb_slice key)
{
    const struct item *it = item;
    return rb_slice_equal(rb_slice_of(&it->key, sizeof(it->key)), key);
}

static uint64_t item_hash(const void *item)
{
    return ((const struct item *)item)->hash;
}

static struct rb_slice key_of(const uint32_t *key)
{
    return rb_slice_of(key, sizeof(*key));
}

static void empty_map_has_nothing(void **state)
{
    struct rb_budget budget = { .limit_bytes = 0 };
    struct rb_map map;
    struct item item = { 1, 1 };
    uint32_t at = 0;
    rb_map_init(&map, &budget, 0, item_equal, item_hash);
    assert_int_equal(budget.used_bytes, 0);
    assert_null(rb_map_find(&map, 1, key_of(&item.key)));
    assert_false(rb_map_remove(&map, 1, &item));
    assert_null(rb_map_next(&map, &at));
    rb_map_deinit(&map);
}

static void keys_tell_equal_hashes_apart(void **state)
{
    struct rb_map map;
    struct item items[20];
    rb_map_init(&map, NULL, 0, item_equal, item_hash);
    for (uint32_t i = 0; i < 20; i++) {
        items[i] = (struct item){ i, 0x1234 };
        assert_int_equal(rb_map_insert(&map, 0x1234, &items[i]), RB_OK);
    }
    for (uint32_t i = 0; i < 20; i++) {
        assert_ptr_equal(rb_map_find(&map, 0x1234, key_of(&i)), &items[i]);
    }
    uint32_t absent = 20;
    assert_null(rb_map_find(&map, 0x1234, key_of(&absent)));
    struct item twin = items[7]; /* same key and hash, another object: not the one in the map */
    assert_false(rb_map_remove(&map, 0x1234, &twin));
    assert_true(rb_map_remove(&map, 0x1234, &items[7]));
    assert_false(rb_map_remove(&map, 0x1234, &items[7]));
    assert_int_equal(map.count, 19);
    rb_map_deinit(&map);
}

/* Hash 0 and an all-ones tag are hashes like any other. */
static void extreme_hashes_are_found(void **state)
{
    struct rb_map map;
    struct item items[3] = { { 0, 0 }, { 1, UINT64_MAX }, { 2, UINT64_MAX << 48 } };
    rb_map_init(&map, NULL, 0, item_equal, item_hash);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rb_map_insert(&map, items[i].hash, &items[i]), RB_OK);
    }
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(rb_map_find(&map, items[i].hash, key_of(&items[i].key)), &items[i]);
    }
    rb_map_deinit(&map);
}

static void limit_is_a_number_of_items(void **state)
{
    struct rb_map map;
    struct item items[11];
    rb_map_init(&map, NULL, 10, item_equal, item_hash);
    for (uint32_t i = 0; i < 11; i++) {
        items[i] = (struct item){ i, i };
        assert_int_equal(rb_map_insert(&map, i, &items[i]), i < 10 ? RB_OK : RB_ERR_FULL);
    }
    assert_int_equal(map.count, 10);
    assert_true(rb_map_remove(&map, 4, &items[4]));
    assert_int_equal(rb_map_insert(&map, 10, &items[10]), RB_OK);
    rb_map_deinit(&map);
}

/* Without room to grow an insertion is refused, and what was there stays. */
static void budget_refuses_growth(void **state)
{
    struct rb_budget budget = { .limit_bytes = 8 * 8 + 16 * 8 - 1 };
    struct rb_map map;
    struct item items[7];
    rb_map_init(&map, &budget, 0, item_equal, item_hash);
    for (uint32_t i = 0; i < 7; i++) {
        items[i] = (struct item){ i, i * UINT64_C(0x9e3779b97f4a7c15) };
        enum rb_err err = rb_map_insert(&map, items[i].hash, &items[i]);
        assert_int_equal(err, i < 6 ? RB_OK : RB_ERR_MEMORY);
    }
    for (uint32_t i = 0; i < 7; i++) {
        struct item *found = rb_map_find(&map, items[i].hash, key_of(&i));
        assert_ptr_equal(found, i < 6 ? &items[i] : NULL);
    }
    budget.limit_bytes = 0;
    assert_int_equal(rb_map_insert(&map, items[6].hash, &items[6]), RB_OK);
    assert_int_equal(budget.used_bytes, 16 * 8);
    rb_map_deinit(&map);
    assert_int_equal(budget.used_bytes, 0);
}

static void table_grows_and_shrinks(void **state)
{
    enum { COUNT = 10000 };
    struct rb_budget budget = { .limit_bytes = 0 };
    struct rb_map map;
    struct item *items = calloc(COUNT, sizeof(*items));
    assert_non_null(items);
    rb_map_init(&map, &budget, 0, item_equal, item_hash);
    for (uint32_t i = 0; i < COUNT; i++) {
        items[i] = (struct item){ i, rb_slice_hash(key_of(&i)) };
        assert_int_equal(rb_map_insert(&map, items[i].hash, &items[i]), RB_OK);
        assert_true(map.count * 4 <= map.cap * 3);
    }
    assert_int_equal(map.cap, 16384);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(rb_map_remove(&map, items[i].hash, &items[i]));
        assert_true(map.cap == 8 || map.count * 8 >= map.cap);
        assert_int_equal(budget.used_bytes, map.cap * sizeof(uint64_t));
    }
    assert_int_equal(map.cap, 8);
    assert_int_equal(map.count, 0);
    rb_map_deinit(&map);
    free(items);
}

/* A refused shrink is no error: removal works on. */
static void shrinking_may_fail(void **state)
{
    enum { COUNT = 200 };
    struct rb_budget budget = { .limit_bytes = 0 };
    struct rb_map map;
    static struct item items[COUNT];
    rb_map_init(&map, &budget, 0, item_equal, item_hash);
    for (uint32_t i = 0; i < COUNT; i++) {
        items[i] = (struct item){ i, rb_slice_hash(key_of(&i)) };
        assert_int_equal(rb_map_insert(&map, items[i].hash, &items[i]), RB_OK);
    }
    uint32_t cap = map.cap;
    budget.limit_bytes = budget.used_bytes;
    for (uint32_t i = 1; i < COUNT; i++) {
        assert_true(rb_map_remove(&map, items[i].hash, &items[i]));
    }
    assert_int_equal(map.cap, cap);
    uint32_t first = 0;
    assert_ptr_equal(rb_map_find(&map, items[0].hash, key_of(&first)), &items[0]);
    rb_map_deinit(&map);
}

enum { ITEMS = 600 };

struct model {
    struct rb_map map;
    struct item items[ITEMS];
    bool present[ITEMS];
    uint32_t count;
};

static void check_model(struct model *m)
{
    uint32_t seen_count = 0, at = 0;
    bool seen[ITEMS] = { false };
    struct item *item;
    while ((item = rb_map_next(&m->map, &at)) != NULL) {
        uint32_t i = (uint32_t)(item - m->items);
        assert_true(i < ITEMS && m->present[i] && !seen[i]);
        seen[i] = true;
        seen_count++;
    }
    assert_int_equal(seen_count, m->count);
    assert_int_equal(m->map.count, m->count);
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct item *found = rb_map_find(&m->map, m->items[i].hash, key_of(&i));
        assert_ptr_equal(found, m->present[i] ? &m->items[i] : NULL);
    }
}

/* `hash_mask` decides how good the hashes are: all bits, a few (long runs, equal tags), the same
 * home at the end of the table (runs that wrap around). */
static void random_steps(uint64_t seed, uint64_t hash_mask, uint64_t hash_set)
{
    static struct model model;
    struct model *m = &model;
    struct rb_budget budget = { .limit_bytes = 0 };
    struct rb_env env;
    *m = (struct model){ .count = 0 };
    rb_env_seed(&env, seed);
    rb_map_init(&m->map, &budget, 0, item_equal, item_hash);
    for (uint32_t i = 0; i < ITEMS; i++) {
        m->items[i] = (struct item){ i, (rb_env_random(&env) & hash_mask) | hash_set };
    }
    for (int step = 0; step < 6000; step++) {
        uint32_t i = rb_env_below(&env, ITEMS);
        bool fills = step / 1000 % 2 == 0; /* phases of mostly filling, mostly emptying */
        if (!m->present[i] && (fills || rb_env_below(&env, 8) == 0)) {
            assert_int_equal(rb_map_insert(&m->map, m->items[i].hash, &m->items[i]), RB_OK);
            m->present[i] = true;
            m->count++;
        } else if (m->present[i] && (!fills || rb_env_below(&env, 8) == 0)) {
            assert_true(rb_map_remove(&m->map, m->items[i].hash, &m->items[i]));
            m->present[i] = false;
            m->count--;
        } else if (!m->present[i]) {
            assert_false(rb_map_remove(&m->map, m->items[i].hash, &m->items[i]));
        }
        if (step % 50 == 0) {
            check_model(m);
        }
    }
    check_model(m);
    rb_map_deinit(&m->map);
    assert_int_equal(budget.used_bytes, 0);
}

static void map_agrees_with_a_plain_array(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        random_steps(seed, UINT64_MAX, 0);
        random_steps(seed, 0x3f, 0);                            /* 64 homes, one tag */
        random_steps(seed, UINT64_C(0xffff) << 48, 0x7fffffff); /* one home, the last slot */
        random_steps(seed, 0x7, 0xfffffff8); /* homes around the end of the table */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_map_has_nothing),    cmocka_unit_test(keys_tell_equal_hashes_apart),
        cmocka_unit_test(extreme_hashes_are_found), cmocka_unit_test(limit_is_a_number_of_items),
        cmocka_unit_test(budget_refuses_growth),    cmocka_unit_test(table_grows_and_shrinks),
        cmocka_unit_test(shrinking_may_fail),       cmocka_unit_test(map_agrees_with_a_plain_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
