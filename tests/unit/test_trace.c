/* A trace on the publisher's shard and on others: whose reports are awaited, and what happens when they do not come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/conn.h"
#include "core/trace.h"

#define HEADER "NATS/1.0\r\nNats-Trace-Dest: there\r\n\r\n"
#define HEADER_ONLY "NATS/1.0\r\nNats-Trace-Dest: there\r\nNats-Trace-Only: 1\r\n\r\n"
#define TAGS_MAX 512

struct fixture {
    struct rb_budget budget;
    struct rb_env env;
    struct rb_log log;
    struct rb_core core;
    struct rb_account account, other, *accounts[2];
    struct rb_conn conn;
    bool refuse_mail;
    uint32_t plain_count, tag_count, document_count, reported_on;
    struct rb_trace_tag tags[TAGS_MAX], report_tag;
    char events[65536], report[65536];
    size_t events_len;
};

static uint64_t some_time(void *ctx)
{
    (void)ctx;
    return UINT64_C(1700000000000000000);
}

static void take_plain(void *ctx, uint32_t shard, uint32_t account, const struct rb_msg *msg,
                       const struct rb_slice *queues, uint32_t queue_count)
{
    struct fixture *f = ctx;
    f->plain_count++;
}

static bool take_traced(void *ctx, uint32_t shard, uint32_t account, const struct rb_msg *msg,
                        const struct rb_slice *queues, uint32_t queue_count,
                        const struct rb_trace_tag *tag)
{
    struct fixture *f = ctx;
    if (f->refuse_mail) {
        return false;
    }
    assert_true(f->tag_count < TAGS_MAX);
    f->tags[f->tag_count++] = *tag;
    return true;
}

static void take_report(void *ctx, const struct rb_trace_tag *tag, uint32_t sent_on,
                        uint32_t left_out, struct rb_slice events)
{
    struct fixture *f = ctx;
    f->report_tag = *tag;
    f->reported_on = sent_on;
    (void)snprintf(f->report, sizeof(f->report), "%.*s", RB_S_ARG(events));
}

static void take_document(void *ctx, const struct rb_trace_document *document)
{
    struct fixture *f = ctx;
    f->document_count++;
    f->events_len = document->events.len;
    (void)snprintf(f->events, sizeof(f->events), "%.*s", RB_S_ARG(document->events));
    assert_true(rb_slice_equal(document->destination, RB_S("there")));
    assert_true(rb_slice_starts(document->ingress, RB_S("{\"type\":\"in\",\"ts\":\"2023-")));
    assert_true(rb_slice_starts(document->request, RB_S("{\"header\":{\"Nats-Trace-Dest\":[")));
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    struct rb_core *core = &f->core;
    f->env = (struct rb_env){ .wall_ns = some_time };
    f->log = (struct rb_log){ .fd = -1 };
    core->env = &f->env;
    core->log = &f->log;
    core->budget = &f->budget;
    core->peers = (struct rb_core_peers){
        .msg = take_plain, .traced = take_traced, .report = take_report, .ctx = f
    };
    core->hooks = (struct rb_core_hooks){ .traced = take_document, .ctx = f };
    core->options.shard_index = 3;
    rb_wheel_init(&core->wheel, 0);
    f->account = (struct rb_account){ .core = core, .id = 0, .name = RB_S("A") };
    f->other = (struct rb_account){ .core = core, .id = 1, .name = RB_S("B") };
    f->accounts[0] = &f->account;
    f->accounts[1] = &f->other;
    core->accounts = f->accounts;
    core->account_cap = 2;
    f->conn.core = core;
    f->conn.account = &f->account;
    f->conn.cid = 7;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rb_traces_deinit(&f->core);
    assert_int_equal(f->core.wheel.count, 0);
    assert_int_equal(f->budget.used_bytes, 0);
    free(f);
    return 0;
}

static enum rb_trace_verdict begin_with(struct fixture *f, const char *header,
                                        struct rb_trace **ret_trace)
{
    struct rb_op op = { .subject = RB_S("here"), .total_len = 40 };
    return rb_trace_begin(&f->conn, &op, rb_slice_text(header), RB_S(""), ret_trace);
}

static struct rb_trace *begin(struct fixture *f)
{
    struct rb_trace *trace = NULL;
    assert_int_equal(begin_with(f, HEADER, &trace), RB_TRACE_YES);
    return trace;
}

static bool send(struct fixture *f, struct rb_trace *trace)
{
    struct rb_msg msg = { .subject = RB_S("here"), .trace = trace };
    return rb_trace_send(&f->core, 1, 0, &msg, NULL, 0);
}

static void report(struct fixture *f, const struct rb_trace_tag *tag, uint32_t sent_on,
                   const char *events)
{
    rb_trace_reported(&f->core, tag, sent_on, 0, rb_slice_text(events));
}

static void events_in_order(void **state)
{
    struct fixture *f = *state;
    struct rb_trace *trace = begin(f);
    f->conn.account = &f->other;
    rb_trace_mapping(trace, RB_S("x<"));
    rb_trace_service_import(trace, &f->other, RB_S("x"), RB_S("y"));
    rb_trace_egress(trace, &f->conn, RB_S("y"), RB_S("q"), NULL);
    rb_trace_end(trace);
    assert_int_equal(f->document_count, 1);
#define TS "\"ts\":\"2023-11-14T22:13:20Z\""
    assert_string_equal(f->events,
                        "{\"type\":\"sm\"," TS ",\"to\":\"x\\u003c\"},"
                        "{\"type\":\"si\"," TS ",\"acc\":\"B\",\"from\":\"x\",\"to\":\"y\"},"
                        "{\"type\":\"eg\"," TS ",\"kind\":0,\"cid\":7,\"acc\":\"B\",\"sub\":\"y\","
                        "\"queue\":\"q\"}");
}

static void waits_for_every_shard(void **state)
{
    struct fixture *f = *state;
    struct rb_trace *trace = begin(f);
    assert_true(send(f, trace) && send(f, trace));
    rb_trace_mapping(trace, RB_S("x"));
    rb_trace_end(trace);
    assert_int_equal(f->tags[0].shard, 3);
    report(f, &f->tags[0], 0, "{1}");
    assert_int_equal(f->document_count, 0);
    report(f, &f->tags[1], 0, "");
    assert_int_equal(f->document_count, 1);
    assert_string_equal(f->events, "{\"type\":\"sm\"," TS ",\"to\":\"x\"},{1}");
    report(f, &f->tags[1], 0, "{late}"); /* its slot is free, or another's */
    trace = begin(f);
    assert_true(send(f, trace));
    rb_trace_end(trace);
    report(f, &f->tags[1], 0, "{late}");
    assert_int_equal(f->document_count, 1);
    report(f, &f->tags[2], 0, "{2}");
    assert_int_equal(f->document_count, 2);
    assert_string_equal(f->events, "{2}");
}

/* 0 -> B -> C -> D: their reports come in the order B, D, C and in the order D, C, B. */
static void reports_overtake(void **state)
{
    struct fixture *f = *state;
    static const int orders[2][3] = { { 0, 2, 1 }, { 2, 1, 0 } };
    for (uint32_t i = 0; i < 2; i++) {
        struct rb_trace *trace = begin(f);
        assert_true(send(f, trace));
        rb_trace_end(trace);
        for (int at = 0; at < 3; at++) {
            struct rb_trace_tag tag = f->tags[f->tag_count - 1];
            tag.level = (uint8_t)orders[i][at] & 7;
            assert_int_equal(f->document_count, i);
            report(f, &tag, orders[i][at] < 2 ? 1 : 0, "{}");
        }
        assert_int_equal(f->document_count, i + 1);
        assert_string_equal(f->events, "{},{},{}");
    }
}

static void lost_report(void **state)
{
    struct fixture *f = *state;
    struct rb_trace *trace = begin(f);
    assert_true(send(f, trace) && send(f, trace));
    rb_trace_end(trace);
    report(f, &f->tags[0], 0, "{1}");
    struct rb_timer *timer = NULL;
    assert_null(rb_wheel_expire(&f->core.wheel, 1000000000));
    timer = rb_wheel_expire(&f->core.wheel, UINT64_C(3000000000));
    assert_non_null(timer);
    assert_int_equal(timer->kind, RB_TIMER_TRACE);
    rb_trace_timer(&f->core, timer);
    assert_int_equal(f->document_count, 1);
    assert_string_equal(f->events, "{1}");
    report(f, &f->tags[1], 0, "{2}");
    assert_int_equal(f->document_count, 1);
}

static void mail_that_was_not_sent(void **state)
{
    struct fixture *f = *state;
    struct rb_trace *trace = begin(f);
    f->refuse_mail = true;
    assert_false(send(f, trace));
    rb_trace_end(trace);
    assert_int_equal(f->document_count, 1);
}

static void other_shard(void **state)
{
    struct fixture *f = *state;
    struct rb_trace_tag tag = { .id = 900, .account = 1, .shard = 2, .level = 1 };
    struct rb_trace *trace = rb_trace_join(&f->core, &tag);
    assert_non_null(trace);
    assert_false(rb_trace_only(trace));
    rb_trace_egress(trace, &f->conn, RB_S("y"), RB_S(""), "no");
    assert_true(send(f, trace));
    assert_int_equal(f->tags[0].level, 2);
    assert_int_equal(f->tags[0].shard, 2);
    assert_int_equal(f->tags[0].id, 900);
    rb_trace_end(trace);
    assert_int_equal(f->document_count, 0);
    assert_int_equal(f->report_tag.level, 1);
    assert_int_equal(f->reported_on, 1);
    assert_string_equal(f->report, "{\"type\":\"eg\"," TS ",\"kind\":0,\"cid\":7,\"acc\":\"A\","
                                   "\"sub\":\"y\",\"error\":\"no\"}");
    /* at the last level it goes on without a trace, or not at all */
    tag.level = RB_TRACE_LEVELS - 1;
    for (int only = 0; only < 2; only++) {
        tag.only = only & 1;
        trace = rb_trace_join(&f->core, &tag);
        assert_int_equal(send(f, trace), only == 0);
        assert_int_equal(f->plain_count, 1);
        rb_trace_end(trace);
        assert_int_equal(f->reported_on, 0);
    }
}

/* With every slot taken a message is still delivered, but not when it is only to be traced. */
static void too_many_wait(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 256; i++) {
        struct rb_trace *trace = begin(f);
        assert_true(send(f, trace));
        rb_trace_end(trace);
    }
    struct rb_trace *trace = begin(f);
    assert_true(send(f, trace));
    rb_trace_end(trace);
    assert_int_equal(f->document_count, 1);
    assert_int_equal(f->plain_count, 1);
    assert_int_equal(begin_with(f, HEADER_ONLY, &trace), RB_TRACE_YES);
    assert_true(rb_trace_only(trace));
    assert_false(send(f, trace));
    rb_trace_end(trace);
    assert_int_equal(f->document_count, 2);
    assert_int_equal(f->plain_count, 1);
    report(f, &f->tags[100], 0, ""); /* makes room */
    trace = begin(f);
    assert_true(send(f, trace));
    assert_int_equal(f->plain_count, 1);
    rb_trace_end(trace);
    assert_int_equal(f->document_count, 3);
}

static void too_many_events(void **state)
{
    struct fixture *f = *state;
    struct rb_trace *trace = begin(f);
    for (int i = 0; i < 60000; i++) {
        rb_trace_egress(trace, &f->conn, RB_S("y"), RB_S("queue"), NULL);
    }
    rb_trace_end(trace);
    assert_int_equal(f->document_count, 1);
    assert_in_range(f->events_len, 4 * 1024 * 1024 - 512, 4 * 1024 * 1024);
}

/* Whatever step memory ends at, nothing stays behind. */
static void no_memory(void **state)
{
    struct fixture *f = *state;
    struct rb_trace *trace = NULL;
    enum rb_trace_verdict verdict = RB_TRACE_NO;
    uint32_t refusal_count = 0;
    for (uint64_t limit = 1; verdict != RB_TRACE_YES; limit += 8) {
        f->budget.limit_bytes = limit;
        verdict = begin_with(f, HEADER, &trace);
        if (verdict != RB_TRACE_YES) {
            assert_int_equal(verdict, RB_TRACE_NO);
            assert_int_equal(begin_with(f, HEADER_ONLY, &trace), RB_TRACE_SKIP);
            assert_null(trace);
            assert_int_equal(f->budget.used_bytes, 0);
            refusal_count++;
        }
    }
    assert_true(refusal_count > 100);
    rb_trace_end(trace);
    assert_int_equal(f->document_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(events_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(waits_for_every_shard, setup, teardown),
        cmocka_unit_test_setup_teardown(reports_overtake, setup, teardown),
        cmocka_unit_test_setup_teardown(lost_report, setup, teardown),
        cmocka_unit_test_setup_teardown(mail_that_was_not_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(other_shard, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_events, setup, teardown),
        cmocka_unit_test_setup_teardown(no_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
