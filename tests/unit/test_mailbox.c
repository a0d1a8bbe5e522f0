/* Mail between two shards: records arrive whole and in order, blocks come back, sleepers are woken. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/mailbox.h"

struct fixture {
    struct rb_mail mail;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    assert_int_equal(rb_mail_init(&fixture.mail, 3), RB_OK);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    rb_mail_deinit(&f->mail);
    return 0;
}

static void put_number(struct rb_mail *mail, uint32_t from, uint32_t to, uint64_t number)
{
    uint8_t *out = rb_mail_record(mail, from, to, sizeof(number));
    assert_non_null(out);
    memcpy(out, &number, sizeof(number));
}

/* Nothing is seen before publish; then all records of the turn, in order. */
static void published_records_arrive_in_order(void **state)
{
    struct fixture *f = *state;
    put_number(&f->mail, 0, 1, 7);
    put_number(&f->mail, 0, 1, 8);
    assert_null(rb_mail_take(&f->mail, 0, 1));
    assert_false(rb_mail_publish(&f->mail, 0, 1));
    struct rb_mail_block *block = rb_mail_take(&f->mail, 0, 1);
    assert_non_null(block);
    assert_int_equal(block->len, 16);
    uint64_t numbers[2];
    memcpy(numbers, block->data, sizeof(numbers));
    assert_int_equal(numbers[0], 7);
    assert_int_equal(numbers[1], 8);
    assert_false(rb_mail_return(&f->mail, 0, 1, block));
    assert_null(rb_mail_take(&f->mail, 0, 1));
    assert_null(rb_mail_take(&f->mail, 0, 2));
}

/* A record larger than a block gets one of its own, behind what was queued before. */
static void large_record_keeps_its_place(void **state)
{
    struct fixture *f = *state;
    uint32_t large = 3 * RB_MAIL_BLOCK_BYTES;
    put_number(&f->mail, 2, 0, 1);
    uint8_t *out = rb_mail_record(&f->mail, 2, 0, large);
    assert_non_null(out);
    memset(out, 0xab, large);
    put_number(&f->mail, 2, 0, 3);
    (void)rb_mail_publish(&f->mail, 2, 0);
    const uint32_t expected[] = { 8, large, 8 };
    for (size_t i = 0; i < 3; i++) {
        struct rb_mail_block *block = rb_mail_take(&f->mail, 2, 0);
        assert_non_null(block);
        assert_int_equal(block->len, expected[i]);
        (void)rb_mail_return(&f->mail, 2, 0, block);
    }
    assert_null(rb_mail_take(&f->mail, 2, 0));
}

/* Room ends at the agreed number of blocks and comes back with the first one returned. */
static void room_ends_and_returns(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < RB_MAIL_BLOCKS_MAX; i++) {
        assert_true(rb_mail_room(&f->mail, 0, 1, 1));
        put_number(&f->mail, 0, 1, i);
        (void)rb_mail_publish(&f->mail, 0, 1);
    }
    assert_false(rb_mail_room(&f->mail, 0, 1, 1));
    assert_true(rb_mail_room(&f->mail, 1, 0, 1)); /* the other direction has its own */
    struct rb_mail_block *block = rb_mail_take(&f->mail, 0, 1);
    (void)rb_mail_return(&f->mail, 0, 1, block);
    assert_true(rb_mail_room(&f->mail, 0, 1, 1));
    assert_false(rb_mail_room(&f->mail, 0, 1, 2));
}

/* Far beyond the agreement a record is refused, not lost and not written over another. */
static void record_refuses_without_bound(void **state)
{
    struct fixture *f = *state;
    uint32_t accepted = 0;
    while (rb_mail_record(&f->mail, 0, 1, RB_MAIL_BLOCK_BYTES) != NULL) {
        accepted++;
        assert_true(accepted <= 4 * RB_MAIL_BLOCKS_MAX);
    }
    (void)rb_mail_publish(&f->mail, 0, 1);
    uint32_t taken = 0;
    for (struct rb_mail_block *block; (block = rb_mail_take(&f->mail, 0, 1)) != NULL; taken++) {
        (void)rb_mail_return(&f->mail, 0, 1, block);
    }
    assert_int_equal(taken, accepted);
}

/* The bell: no sleep with mail waiting, one wake-up per sleep, one for a producer that waits for room. */
static void bell_rings_once_per_sleep(void **state)
{
    struct fixture *f = *state;
    assert_true(rb_mail_sleep(&f->mail, 1));
    put_number(&f->mail, 0, 1, 1);
    assert_true(rb_mail_publish(&f->mail, 0, 1));
    put_number(&f->mail, 2, 1, 1);
    assert_false(rb_mail_publish(&f->mail, 2, 1));
    assert_false(rb_mail_sleep(&f->mail, 1));

    struct rb_mail_block *block = rb_mail_take(&f->mail, 0, 1);
    assert_true(rb_mail_sleep(&f->mail, 0));
    assert_false(rb_mail_return(&f->mail, 0, 1, block)); /* nobody asked for room */
    block = rb_mail_take(&f->mail, 2, 1);
    rb_mail_want_room(&f->mail, 2);
    assert_true(rb_mail_sleep(&f->mail, 2));
    assert_true(rb_mail_return(&f->mail, 2, 1, block));
}

enum { NUMBERS = 200000 };

static void *produce(void *arg)
{
    struct rb_mail *mail = arg;
    for (uint64_t i = 0; i < NUMBERS;) {
        if (!rb_mail_room(mail, 0, 1, 1)) {
            continue;
        }
        for (uint32_t k = 0; k < 37 && i < NUMBERS; k++) {
            uint8_t *out = rb_mail_record(mail, 0, 1, sizeof(i));
            if (out == NULL) {
                break;
            }
            memcpy(out, &i, sizeof(i));
            i++;
        }
        (void)rb_mail_publish(mail, 0, 1);
    }
    return NULL;
}

/* Two threads: every number arrives once and in order. */
static void numbers_cross_threads(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, produce, &f->mail), 0);
    uint64_t next = 0;
    while (next < NUMBERS) {
        struct rb_mail_block *block = rb_mail_take(&f->mail, 0, 1);
        if (block == NULL) {
            continue;
        }
        for (uint32_t at = 0; at < block->len; at += sizeof(uint64_t)) {
            uint64_t number;
            memcpy(&number, block->data + at, sizeof(number));
            assert_int_equal(number, next);
            next++;
        }
        (void)rb_mail_return(&f->mail, 0, 1, block);
    }
    (void)pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(published_records_arrive_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_record_keeps_its_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(room_ends_and_returns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(record_refuses_without_bound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bell_rings_once_per_sleep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(numbers_cross_threads, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
