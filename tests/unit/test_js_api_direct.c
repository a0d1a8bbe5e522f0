/* Direct get: one message, batches, the last of many subjects; statuses and headers as nats-server's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js/api_inside.h"
#include "js_rig.h"

static int setup(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 5);
    js_rig_open(rig);
    assert_non_null(
        js_rig_create(rig, "{\"name\":\"S\",\"subjects\":[\"s.>\"],\"allow_direct\":true}", NULL));
    js_rig_publish(rig, "s.a", NULL, NULL, "1");
    js_rig_publish(rig, "s.b", NULL, NULL, "2");
    js_rig_publish(rig, "s.a", NULL, NULL, "3");
    js_rig_publish(rig, "s.c", NULL, "A: b\r\n", "45");
    js_rig_publish(rig, "s.d.e", NULL, NULL, "5");
    js_rig_settle(rig);
    assert_non_null(js_rig_request(rig, "$JS.API.STREAM.MSG.DELETE.S", NULL, "{\"seq\":2}"));
    js_rig_listen(rig, "in");
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct js_rig *rig = *state;
    js_rig_close(rig);
    js_rig_deinit(rig);
    free(rig);
    return 0;
}

/* Asks, and counts what comes. */
static uint32_t ask(struct js_rig *rig, const char *suffix, const char *body)
{
    char subject[128];
    js_rig_forget(rig);
    (void)snprintf(subject, sizeof(subject), "$JS.API.DIRECT.GET.S%s", suffix);
    js_rig_publish(rig, subject, "in", NULL, body);
    js_rig_settle(rig);
    return js_rig_heard(rig, "in");
}

static void expect_status(struct js_rig *rig, const char *suffix, const char *body,
                          const char *line)
{
    char wanted[160];
    uint32_t count = ask(rig, suffix, body);
    const struct js_rig_message *got = js_rig_nth(rig, "in", 0);
    (void)snprintf(wanted, sizeof(wanted), "NATS/1.0 %s\r\n\r\n", line);
    if (count != 1 || strcmp((const char *)got->payload, wanted) != 0) {
        fail_msg("%s %s: %u answers, %s", suffix, body, count,
                 got == NULL ? "" : (const char *)got->payload);
    }
}

/* The n-th answer: its headers contain `fields` and its body is `body`. */
static void expect_nth(struct js_rig *rig, uint32_t n, const char *fields, const char *body)
{
    const struct js_rig_message *got = js_rig_nth(rig, "in", n);
    assert_non_null(got);
    if (strstr((const char *)got->payload, fields) == NULL || strcmp(got->body, body) != 0) {
        fail_msg("answer %u: %s", n, (const char *)got->payload);
    }
}

#define EMPTY "408 Empty Request"
#define BAD "408 Bad Request"
#define NOT_FOUND "404 Message Not Found"
#define TIME "\"2020-01-01T00:00:00Z\""

static void requests_without_sense_are_refused(void **state)
{
    struct js_rig *rig = *state;
    expect_status(rig, "", "", EMPTY);
    expect_status(rig, "", "{}", EMPTY);
    expect_status(rig, "", "{\"batch\":3}", EMPTY);
    expect_status(rig, "", "{\"up_to_seq\":3}", EMPTY);
    expect_status(rig, "", "{\"multi_last\":[]}", EMPTY);
    expect_status(rig, "", "x", "408 Malformed Request");
    expect_status(rig, "", "{\"seq\":\"x\"}", "408 Malformed Request");
    expect_status(rig, "", "{\"seq\":1,\"last_by_subj\":\"s.a\"}", BAD);
    expect_status(rig, "", "{\"seq\":1,\"start_time\":" TIME "}", BAD);
    expect_status(rig, "", "{\"last_by_subj\":\"s.a\",\"start_time\":" TIME "}", BAD);
    expect_status(rig, "", "{\"last_by_subj\":\"s.a\",\"next_by_subj\":\"s.a\"}", BAD);
    expect_status(rig, "", "{\"last_by_subj\":\"s.a\",\"batch\":1}", BAD);
    expect_status(rig, "", "{\"last_by_subj\":\"s.a\",\"multi_last\":[\"s.a\"]}", BAD);
    expect_status(rig, "", "{\"next_by_subj\":\"s.a\",\"multi_last\":[\"s.a\"]}", BAD);
    expect_status(rig, "", "{\"multi_last\":[\"a\"],\"up_to_seq\":1,\"up_to_time\":" TIME "}", BAD);
    expect_status(rig, ".s.a", "{\"seq\":1}", BAD);
    expect_status(rig, ".s.a", "{\"batch\":1}", BAD);
    expect_status(rig, ".s.a", "{\"up_to_seq\":1}", BAD);
    expect_status(rig, ".s.a", "x", "408 Malformed Request");
}

static void single_messages_are_found(void **state)
{
    struct js_rig *rig = *state;
    expect_status(rig, "", "{\"seq\":2}", NOT_FOUND);
    expect_status(rig, "", "{\"seq\":9}", NOT_FOUND);
    expect_status(rig, "", "{\"last_by_subj\":\"q\"}", NOT_FOUND);
    expect_status(rig, "", "{\"next_by_subj\":\"q\"}", NOT_FOUND);
    expect_status(rig, ".q", "", NOT_FOUND);
    assert_int_equal(ask(rig, "", "{\"seq\":1}"), 1);
    expect_nth(rig, 0,
               "NATS/1.0\r\nNats-Stream: S\r\nNats-Subject: s.a\r\nNats-Sequence: 1\r\n"
               "Nats-Time-Stamp: ",
               "1");
    assert_int_equal(ask(rig, "", "{\"seq\":4}"), 1);
    expect_nth(rig, 0, "NATS/1.0\r\nA: b\r\nNats-Stream: S\r\n", "45");
    assert_int_equal(ask(rig, "", "{\"seq\":4,\"no_hdr\":true}"), 1);
    expect_nth(rig, 0, "45", "45");
    assert_int_equal(ask(rig, ".s.a", ""), 1);
    expect_nth(rig, 0, "Nats-Sequence: 3\r\n", "3");
    assert_int_equal(ask(rig, ".s.d.e", ""), 1);
    expect_nth(rig, 0, "Nats-Sequence: 5\r\n", "5");
    assert_int_equal(ask(rig, "", "{\"next_by_subj\":\"s.a\",\"seq\":2}"), 1);
    expect_nth(rig, 0, "Nats-Sequence: 3\r\n", "3");
}

static void batches_end(void **state)
{
    struct js_rig *rig = *state;
    assert_int_equal(ask(rig, "", "{\"seq\":1,\"batch\":2}"), 3);
    expect_nth(rig, 0, "\r\nNats-Num-Pending: 3\r\nNats-Last-Sequence: 0\r\n\r\n", "1");
    expect_nth(rig, 1, "\r\nNats-Num-Pending: 2\r\nNats-Last-Sequence: 1\r\n\r\n", "3");
    expect_nth(rig, 2, "NATS/1.0 204 EOB\r\nNats-Num-Pending: 2\r\nNats-Last-Sequence: 3\r\n\r\n",
               "");
    assert_int_equal(ask(rig, "", "{\"next_by_subj\":\"s.a\",\"batch\":9}"), 3);
    expect_nth(rig, 2, "Nats-Num-Pending: 0\r\nNats-Last-Sequence: 3\r\n\r\n", "");
    assert_int_equal(ask(rig, "", "{\"seq\":1,\"batch\":9,\"max_bytes\":1}"), 2);
    expect_nth(rig, 1, "204 EOB\r\nNats-Num-Pending: 3\r\n", "");
    expect_status(rig, "", "{\"seq\":6,\"batch\":1}", NOT_FOUND);
    expect_status(rig, "", "{\"next_by_subj\":\"q\",\"batch\":1}", NOT_FOUND);
    assert_int_equal(ask(rig, "", "{\"seq\":1,\"batch\":9,\"no_hdr\":true}"), 5);
    expect_nth(rig, 4, "204 EOB\r\nNats-Num-Pending: 4\r\nNats-Last-Sequence: 5\r\n\r\n", "");
}

static void the_last_of_many_subjects(void **state)
{
    struct js_rig *rig = *state;
    assert_int_equal(ask(rig, "", "{\"multi_last\":[\"s.>\",\"s.a\"]}"), 4);
    expect_nth(rig, 0, "Nats-Sequence: 3\r\n", "3");
    expect_nth(rig, 1, "Nats-Num-Pending: 1\r\nNats-Last-Sequence: 3\r\n", "45");
    expect_nth(rig, 3,
               "204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 5\r\n"
               "Nats-UpTo-Sequence: 5\r\n\r\n",
               "");
    assert_int_equal(ask(rig, "", "{\"multi_last\":[\"s.>\"],\"batch\":1,\"seq\":4}"), 2);
    expect_nth(rig, 1, "Nats-Num-Pending: 1\r\nNats-Last-Sequence: 4\r\nNats-UpTo-Sequence: 5\r\n",
               "");
    assert_int_equal(ask(rig, "", "{\"multi_last\":[\"s.a\"],\"up_to_seq\":2}"), 2);
    expect_nth(rig, 0, "Nats-Sequence: 1\r\n", "1");
    expect_status(rig, "", "{\"multi_last\":[\"q\"]}", "404 No Results");
    expect_status(rig, "", "{\"multi_last\":[\"s.>\"],\"up_to_seq\":99}", "404 No Results");
    expect_status(rig, "", "{\"multi_last\":[\"s.>\"],\"up_to_time\":\"1980-01-01T00:00:00Z\"}",
                  "404 No Results");
}

static void too_many_subjects_are_refused(void **state)
{
    struct js_rig *rig = *state;
    for (int i = 0; i < 1100; i++) {
        char subject[32];
        (void)snprintf(subject, sizeof(subject), "s.many.%d", i);
        js_rig_publish(rig, subject, NULL, NULL, "");
    }
    js_rig_settle(rig);
    expect_status(rig, "", "{\"multi_last\":[\"s.many.*\"]}", "413 Too Many Results");
    expect_status(rig, "", "{\"multi_last\":[\"s.many.*\"],\"batch\":3}", "413 Too Many Results");
}

/* A long batch is sent over several turns, and ends with its stream. */
static void long_batches_take_turns(void **state)
{
    struct js_rig *rig = *state;
    for (int i = 0; i < 2000; i++) {
        js_rig_publish(rig, "s.long", NULL, NULL, "x");
    }
    js_rig_settle(rig);
    uint32_t first = ask(rig, "", "{\"next_by_subj\":\"s.long\",\"batch\":5000}");
    js_rig_advance(rig, 100000000);
    assert_int_equal(js_rig_heard(rig, "in"), 2001);
    assert_true(first <= 2001);
    js_rig_forget(rig);
    js_rig_publish(rig, "$JS.API.DIRECT.GET.S", "in", NULL,
                   "{\"next_by_subj\":\"s.long\",\"batch\":5000}");
    assert_true(js_rig_heard(rig, "in") < 2001); /* it is not sent in one piece */
    assert_true(js_rig_delete(rig, "S", NULL));
    js_rig_advance(rig, 100000000);
    assert_true(js_rig_heard(rig, "in") < 2001);
}

static void direct_follows_the_configuration(void **state)
{
    struct js_rig *rig = *state;
    assert_true(js_rig_update(rig, "{\"name\":\"S\",\"subjects\":[\"s.>\"]}", NULL));
    assert_int_equal(ask(rig, "", "{\"seq\":1}"), 0);
    assert_true(
        js_rig_update(rig, "{\"name\":\"S\",\"subjects\":[\"s.>\"],\"allow_direct\":true}", NULL));
    assert_int_equal(ask(rig, "", "{\"seq\":1}"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_without_sense_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(single_messages_are_found, setup, teardown),
        cmocka_unit_test_setup_teardown(batches_end, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_of_many_subjects, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_subjects_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(long_batches_take_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(direct_follows_the_configuration, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
