/* The naive message store that tests of src/js stand on: what they rely on must be so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "msgstore_model.h"

struct fixture {
    struct rb_disk disk; /* a name for the shelf: never called */
    struct rb_budget budget;
    struct rb_msgstore_home *home;
    struct rb_msgstore *store;
    uint64_t gone_count, gone_bytes;
    struct rb_slice gone_subject;
};

static void removed(void *owner, uint64_t seq, uint64_t bytes, struct rb_slice subject)
{
    struct fixture *f = owner;
    f->gone_count++;
    f->gone_bytes += bytes;
    f->gone_subject = subject;
}

/** The only event of a poll. */
static struct rb_msgstore_event one_event(struct fixture *f, enum rb_msgstore_event_kind kind)
{
    struct rb_msgstore_event *events;
    assert_int_equal(rb_msgstore_home_poll(f->home, &events), 1);
    assert_int_equal(events[0].kind, kind);
    return events[0];
}

static void open_store(struct fixture *f, const char *directory)
{
    struct rb_msgstore_home_options options = { .disk = &f->disk, .budget = &f->budget };
    assert_int_equal(rb_msgstore_home_create(&options, &f->home), RB_OK);
    struct rb_msgstore_options store = { .owner = f, .directory = directory, .removed = removed };
    assert_int_equal(rb_msgstore_open(f->home, &store, &f->store), RB_OK);
    assert_int_equal(one_event(f, RB_MSGSTORE_OPENED).err, RB_OK);
}

static void close_store(struct fixture *f)
{
    rb_msgstore_close(f->store);
    assert_ptr_equal(one_event(f, RB_MSGSTORE_CLOSED).owner, f);
    rb_msgstore_home_destroy(f->home);
    assert_int_equal(f->budget.used_bytes, 0);
}

static void append(struct fixture *f, uint64_t seq, const char *subject, const char *body)
{
    struct rb_message message = { .seq = seq,
                                  .time_ns = 1000 * seq,
                                  .subject = rb_slice_text(subject),
                                  .payload = rb_slice_text(body) };
    assert_int_equal(rb_msgstore_append(f->store, &message), RB_OK);
}

static void questions_are_answered(void **state)
{
    struct fixture f = { 0 };
    open_store(&f, NULL);
    append(&f, 1, "a.x", "one");
    append(&f, 2, "b", "two");
    append(&f, 5, "a.y", "five");
    append(&f, 6, "a.x", "six");
    struct rb_msgstore_state s;
    rb_msgstore_state(f.store, &s);
    assert_int_equal(s.messages, 4);
    assert_int_equal(s.bytes, 4 * 16 + 10 + 13);
    assert_int_equal(s.subjects, 3);
    assert_int_equal(s.deleted, 2);
    struct rb_slice filters[] = { RB_S("a.*"), RB_S("b") };
    assert_int_equal(rb_msgstore_count(f.store, filters, 1, 2), 2);
    assert_int_equal(rb_msgstore_last(f.store, filters, 2, 5), 5);
    assert_int_equal(rb_msgstore_first(f.store, filters, 2, 3), 5);
    assert_int_equal(rb_msgstore_next_gap(f.store, 1), 3);
    assert_int_equal(rb_msgstore_at_time(f.store, 2001), 5);
    struct rb_msgstore_subjects at = { 0 };
    struct rb_msgstore_subject subject;
    assert_true(rb_msgstore_next_subject(f.store, filters[0], &at, &subject));
    assert_true(rb_slice_equal(subject.subject, RB_S("a.x")));
    assert_int_equal(subject.count, 2);
    assert_int_equal(subject.last_seq, 6);
    assert_true(rb_msgstore_next_subject(f.store, filters[0], &at, &subject));
    assert_true(rb_slice_equal(subject.subject, RB_S("a.y")));
    assert_false(rb_msgstore_next_subject(f.store, filters[0], &at, &subject));
    assert_int_equal(rb_msgstore_purge(f.store, RB_S("a.x"), 0, 1), 1);
    assert_false(rb_msgstore_remove(f.store, 1, false));
    assert_int_equal(rb_msgstore_purge_below(f.store, 9), 3);
    assert_int_equal(f.gone_count, 4);
    assert_int_equal(f.gone_bytes, s.bytes);
    assert_int_equal(f.gone_subject.len, 0);
    rb_msgstore_state(f.store, &s);
    assert_int_equal(s.first_seq, 9);
    assert_int_equal(s.last_seq, 8);
    assert_int_equal(s.last_ns, 6000);
    close_store(&f);
}

/* Bodies come when they are asked for twice; a withdrawn wait gets no event. */
static void bodies_may_be_cold(void **state)
{
    struct fixture f = { 0 };
    open_store(&f, NULL);
    append(&f, 1, "a", "one");
    rb_msgstore_model_set_cold(f.store, true);
    struct rb_message message;
    struct rb_msgstore_wait wait = { 0 }, other = { 0 };
    assert_int_equal(rb_msgstore_get(f.store, 1, NULL, &message), RB_ERR_BUSY);
    assert_int_equal(rb_msgstore_get(f.store, 1, &wait, &message), RB_ERR_BUSY);
    assert_int_equal(rb_msgstore_get(f.store, 1, &other, &message), RB_ERR_BUSY);
    rb_msgstore_forget(&other);
    assert_ptr_equal(one_event(&f, RB_MSGSTORE_LOADED).wait, &wait);
    assert_false(wait.waiting);
    assert_int_equal(rb_msgstore_get(f.store, 1, &wait, &message), RB_OK);
    assert_true(rb_slice_equal(message.payload, RB_S("one")));
    assert_int_equal(rb_msgstore_get(f.store, 1, NULL, &message), RB_ERR_BUSY);
    rb_msgstore_model_set_cold(f.store, false);
    assert_true(rb_msgstore_model_damage(f.store, 1));
    assert_int_equal(rb_msgstore_get(f.store, 1, &wait, &message), RB_ERR_CORRUPT);
    assert_non_null(one_event(&f, RB_MSGSTORE_DAMAGED).text);
    assert_int_equal(rb_msgstore_get(f.store, 2, &wait, &message), RB_ERR_MISSING);
    close_store(&f);
}

/* Reopening finds the newest checkpoint that was reported, and nothing behind it. */
static void checkpoints_are_what_is_found(void **state)
{
    struct fixture f = { 0 };
    open_store(&f, "s");
    append(&f, 1, "a", "one");
    assert_int_equal(rb_msgstore_checkpoint(f.store, 10, RB_S("ten")), RB_OK);
    assert_int_equal(rb_msgstore_checkpoint(f.store, 10, RB_S("ten")), RB_ERR_BUSY);
    append(&f, 2, "a", "two");
    assert_int_equal(one_event(&f, RB_MSGSTORE_CHECKPOINTED).index, 10);
    assert_int_equal(rb_msgstore_durable_index(f.store), 0);
    assert_int_equal(rb_msgstore_checkpoint(f.store, 11, RB_S("eleven")), RB_OK);
    assert_int_equal(one_event(&f, RB_MSGSTORE_CHECKPOINTED).err, RB_OK);
    assert_int_equal(rb_msgstore_durable_index(f.store), 10);
    append(&f, 3, "a", "three");
    assert_int_equal(rb_msgstore_checkpoint(f.store, 12, RB_S("twelve")), RB_OK);
    rb_msgstore_model_crash(f.home);
    open_store(&f, "s");
    struct rb_slice blob;
    assert_int_equal(rb_msgstore_restored(f.store, &blob), 11);
    assert_true(rb_slice_equal(blob, RB_S("eleven")));
    assert_int_equal(rb_msgstore_next(f.store, 2), 2);
    assert_int_equal(rb_msgstore_next(f.store, 3), 0);
    rb_msgstore_destroy(f.store);
    one_event(&f, RB_MSGSTORE_CLOSED);
    rb_msgstore_home_destroy(f.home);
    open_store(&f, "s");
    assert_int_equal(rb_msgstore_restored(f.store, &blob), 0);
    assert_int_equal(rb_msgstore_next(f.store, 1), 0);
    close_store(&f);
    rb_msgstore_model_wipe();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(questions_are_answered),
        cmocka_unit_test(bodies_may_be_cold),
        cmocka_unit_test(checkpoints_are_what_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
