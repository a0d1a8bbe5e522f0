/* test_docs.c - monitoring documents of a server that does not exist, byte for byte, and their options.
 *
 * The expected documents are in golden/; they were compared with those of nats-server 2.15.2 in the same situation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "fake_view.h"
#include "server/docs.h"

struct fixture {
    struct fake_view fake;
    struct rb_monitor_source source;
    struct rb_doc_error error;
    struct rb_text text;
    bool built;
    uint64_t requests[RB_PAGE_COUNTED];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    fake_init(&f->fake);
    f->source = fake_source(&f->fake);
    (void)setenv("TZ", "UTC", 1);
    tzset();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(f->fake.open_count, 0);
    rb_text_deinit(&f->text);
    fake_deinit(&f->fake);
    free(f);
    return 0;
}

/* Plans, collects and builds as the monitor does; the text, or "" with `error`. */
static const char *build(struct fixture *f, enum rb_monitor_doc kind,
                         const struct rb_doc_options *options, bool system)
{
    struct rb_monitor_view view;
    struct rb_snapshot_request request;
    struct rb_json_out json;
    assert_int_equal(f->source.open(f->source.ctx, &view), RB_OK);
    view.cpu_percent = 1.5;
    view.rss_bytes = 8 << 20;
    view.http_requests = f->requests;
    f->requests[RB_PAGE_ROOT] = 1;
    f->requests[RB_PAGE_VARZ] = 2;
    if (rb_doc_plan(kind, &view, options, &request)) {
        assert_int_equal(f->source.collect(f->source.ctx, &request, &view.snapshot), RB_OK);
    }
    rb_text_deinit(&f->text);
    rb_text_init(&f->text, 1 << 20);
    rb_text_puts(&f->text, "");
    rb_json_out_init(&json, &f->text, system ? 0 : 2);
    f->built = rb_doc_build(kind, &view, options, system, &json, &f->error);
    f->source.close(f->source.ctx, &view);
    assert_false(f->text.failed);
    return f->built ? f->text.ptr : "";
}

/* By query string; "" with `error` when refused. */
static const char *ask(struct fixture *f, enum rb_monitor_doc kind, const char *query)
{
    struct rb_doc_options options;
    if (!rb_doc_from_query(kind, rb_slice_text(query), &options, &f->error)) {
        f->built = false;
        return "";
    }
    return build(f, kind, &options, false);
}

static const char *ask_json(struct fixture *f, enum rb_monitor_doc kind, const char *body)
{
    struct rb_doc_options options;
    if (!rb_doc_from_json(kind, rb_slice_text(body), &options, &f->error)) {
        f->built = false;
        return "";
    }
    const char *text = build(f, kind, &options, true);
    rb_doc_options_deinit(&options);
    return text;
}

/* RB_GOLDEN_WRITE=1 writes the files anew; then look at what changed. */
static void expect_golden(const char *name, const char *text)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/tests/unit/golden/%s.json", RB_SOURCE_DIR, name);
    if (getenv("RB_GOLDEN_WRITE") != NULL) {
        FILE *out = fopen(path, "w");
        assert_non_null(out);
        assert_true(fputs(text, out) >= 0);
        assert_int_equal(fclose(out), 0);
        return;
    }
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    char *wanted = calloc(1, 65536);
    assert_non_null(wanted);
    (void)fread(wanted, 1, 65535, in);
    (void)fclose(in);
    assert_string_equal(text, wanted);
    free(wanted);
}

static void documents_are_exact(void **state)
{
    static const struct {
        const char *name, *query;
        enum rb_monitor_doc kind;
    } cases[] = {
        { "varz", "", RB_DOC_VARZ },
        { "connz", "", RB_DOC_CONNZ },
        { "connz_auth_subs", "auth=1&subs=1", RB_DOC_CONNZ },
        { "connz_detail_closed", "subs=detail&state=closed&auth=true", RB_DOC_CONNZ },
        { "connz_unknown_account", "acc=nope", RB_DOC_CONNZ },
        { "routez", "", RB_DOC_ROUTEZ },
        { "gatewayz", "", RB_DOC_GATEWAYZ },
        { "leafz", "", RB_DOC_LEAFZ },
        { "subsz", "", RB_DOC_SUBSZ },
        { "subsz_list", "subs=1&acc=A", RB_DOC_SUBSZ },
        { "accountz", "", RB_DOC_ACCOUNTZ },
        { "accountz_a", "acc=A", RB_DOC_ACCOUNTZ },
        { "accountz_b", "acc=B", RB_DOC_ACCOUNTZ },
        { "accountz_sys", "acc=SYS", RB_DOC_ACCOUNTZ },
        { "accstatz", "", RB_DOC_ACCSTATZ },
        { "jsz", "", RB_DOC_JSZ },
        { "dashboardz", "", RB_DOC_DASHBOARDZ },
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_golden(cases[i].name, ask(f, cases[i].kind, cases[i].query));
    }
}

static void varz_tells_of_the_websocket_listener(void **state)
{
    struct fixture *f = *state;
    static const char *origins[] = { "http://a.b" };
    f->fake.config.ws_set = true;
    f->fake.config.ws_no_tls = true;
    f->fake.config.ws_same_origin = true;
    f->fake.config.ws_compression = true;
    f->fake.config.ws_handshake_timeout_ns = 3000000000;
    f->fake.lists.ws_origins = origins;
    f->fake.lists.ws_origin_count = 1;
    const char *text = ask(f, RB_DOC_VARZ, "");
    assert_non_null(strstr(text,
                           "\"websocket\": {\n    \"host\": \"0.0.0.0\",\n    \"port\": 4223,\n"
                           "    \"handshake_timeout\": 3000000000,\n    \"no_tls\": true,\n"
                           "    \"same_origin\": true,\n    \"allowed_origins\": [\n"
                           "      \"http://a.b\"\n    ],\n    \"compression\": true\n  },"));
}

/* Options of queries */

static void queries_are_refused_in_natss_words(void **state)
{
    static const struct {
        enum rb_monitor_doc kind;
        const char *query, *text;
    } cases[] = {
        { RB_DOC_CONNZ, "subs=x",
          "Error decoding boolean for 'subs': strconv.ParseBool: parsing \"x\": invalid syntax" },
        { RB_DOC_CONNZ, "auth=yes",
          "Error decoding boolean for 'auth': strconv.ParseBool: parsing \"yes\": invalid syntax" },
        { RB_DOC_CONNZ, "limit=x",
          "Error decoding int for 'limit': strconv.Atoi: parsing \"x\": invalid syntax" },
        { RB_DOC_CONNZ, "offset=1.5",
          "Error decoding int for 'offset': strconv.Atoi: parsing \"1.5\": invalid syntax" },
        { RB_DOC_CONNZ, "limit=-",
          "Error decoding int for 'limit': strconv.Atoi: parsing \"-\": invalid syntax" },
        { RB_DOC_CONNZ, "limit=99999999999999999999",
          "Error decoding int for 'limit': strconv.Atoi: parsing \"99999999999999999999\": value "
          "out "
          "of range" },
        { RB_DOC_CONNZ, "cid=-1",
          "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"-1\": invalid syntax" },
        { RB_DOC_CONNZ, "cid=99999999999999999999",
          "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"99999999999999999999\": "
          "value out of range" },
        { RB_DOC_CONNZ, "state=zz", "Error decoding state for zz" },
        { RB_DOC_CONNZ, "sort=x", "invalid sorting option: x" },
        { RB_DOC_CONNZ, "sort=stop", "sort by stop only valid on closed connections" },
        { RB_DOC_CONNZ, "sort=reason&state=any",
          "sort by reason only valid on closed connections" },
        { RB_DOC_CONNZ, "subs=%22%0a",
          "Error decoding boolean for 'subs': strconv.ParseBool: parsing \"\\\"\\n\": invalid "
          "syntax" },
        { RB_DOC_SUBSZ, "test=a.*", "invalid test subject, must be valid publish subject: a.*" },
        { RB_DOC_SUBSZ, "test=a..b", "invalid test subject, must be valid publish subject: a..b" },
        { RB_DOC_ACCOUNTZ, "acc=x", "Account x does not exist" },
        { RB_DOC_ACCSTATZ, "unused=q",
          "Error decoding boolean for 'unused': strconv.ParseBool: parsing \"q\": invalid syntax" },
        { RB_DOC_JSZ, "leader-only=1", "filtered response: not leader" },
        { RB_DOC_JSZ, "limit=q",
          "Error decoding int for 'limit': strconv.Atoi: parsing \"q\": invalid syntax" },
        { RB_DOC_ROUTEZ, "subs=q",
          "Error decoding boolean for 'subs': strconv.ParseBool: parsing \"q\": invalid syntax" },
        { RB_DOC_IPQUEUESZ, "all=q",
          "Error decoding boolean for 'all': strconv.ParseBool: parsing \"q\": invalid syntax" },
        { RB_DOC_HEALTHZ, "js-meta-only=x",
          "Error decoding boolean for 'js-meta-only': strconv.ParseBool: parsing \"x\": invalid "
          "syntax" },
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)ask(f, cases[i].kind, cases[i].query);
        assert_false(f->built);
        assert_int_equal(f->error.status, 400);
        assert_string_equal(f->error.text, cases[i].text);
    }
}

static void booleans_and_blanks_are_read_as_go_does(void **state)
{
    struct fixture *f = *state;
    struct rb_doc_options options;
    static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
    static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False", "" };
    char query[64];
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        (void)snprintf(query, sizeof(query), "auth=%s", yes[i]);
        assert_true(rb_doc_from_query(RB_DOC_CONNZ, rb_slice_text(query), &options, &f->error));
        assert_true(options.auth);
    }
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        (void)snprintf(query, sizeof(query), "auth=%s&unknown=1", no[i]);
        assert_true(rb_doc_from_query(RB_DOC_CONNZ, rb_slice_text(query), &options, &f->error));
        assert_false(options.auth);
    }
    assert_true(rb_doc_from_query(
        RB_DOC_CONNZ, RB_S("state=CLOSED&subs=DETAIL&limit=%2B7&acc=a%20b"), &options, &f->error));
    assert_int_equal(options.state, 1);
    assert_true(options.subs_detail);
    assert_int_equal(options.limit, 7);
    assert_string_equal(options.account, "a b");
}

static void long_texts_are_refused(void **state)
{
    struct fixture *f = *state;
    char query[RB_DOC_TEXT_MAX + 64] = "acc=";
    memset(query + 4, 'x', RB_DOC_TEXT_MAX);
    struct rb_doc_options options;
    assert_false(rb_doc_from_query(RB_DOC_CONNZ, rb_slice_text(query), &options, &f->error));
    assert_string_equal(f->error.text, "value of 'acc' is longer than 511 bytes");
    query[4 + RB_DOC_TEXT_MAX - 1] = '\0';
    assert_true(rb_doc_from_query(RB_DOC_CONNZ, rb_slice_text(query), &options, &f->error));
}

/* Options of JSON bodies */

static void json_options_are_read(void **state)
{
    struct fixture *f = *state;
    struct rb_doc_options options;
    assert_true(rb_doc_from_json(RB_DOC_CONNZ,
                                 RB_S("{\"SUBSCRIPTIONS\":true,\"state\":2,\"limit\":3,\"cid\":8,"
                                      "\"sort\":\"idle\",\"acc\":\"A\",\"user\":null,\"x\":{}}"),
                                 &options, &f->error));
    assert_true(options.subs);
    assert_int_equal(options.state, 2);
    assert_int_equal(options.limit, 3);
    assert_int_equal(options.cid, 8);
    assert_int_equal(options.sort, RB_SORT_IDLE);
    assert_string_equal(options.account, "A");
    assert_true(rb_doc_from_json(RB_DOC_VARZ, RB_S(""), &options, &f->error));
    assert_true(rb_doc_from_json(RB_DOC_VARZ, RB_S("null"), &options, &f->error));
}

static void json_options_are_refused(void **state)
{
    static const struct {
        const char *body, *text;
    } cases[] = {
        { "[1]", "json: cannot unmarshal array into Go value of type options" },
        { "{\"limit\":\"x\"}",
          "json: cannot unmarshal string into Go struct field limit of type int" },
        { "{\"limit\":1.5}",
          "json: cannot unmarshal number 1.5 into Go struct field limit of type int" },
        { "{\"cid\":-1}",
          "json: cannot unmarshal number -1 into Go struct field cid of type uint64" },
        { "{\"auth\":1}", "json: cannot unmarshal number into Go struct field auth of type bool" },
        { "{\"acc\":[]}", "json: cannot unmarshal array into Go struct field acc of type string" },
        { "{\"sort\":5}",
          "json: cannot unmarshal number into Go struct field sort of type server.SortOpt" },
    };
    struct fixture *f = *state;
    struct rb_doc_options options;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_false(
            rb_doc_from_json(RB_DOC_CONNZ, rb_slice_text(cases[i].body), &options, &f->error));
        assert_int_equal(f->error.status, 400);
        assert_string_equal(f->error.text, cases[i].text);
    }
    assert_false(rb_doc_from_json(RB_DOC_CONNZ, RB_S("{\"sort\":\"bad\"}"), &options, &f->error));
    assert_int_equal(f->error.status, 500); /* as nats-server: it is found when the page is made */
    assert_string_equal(f->error.text, "invalid sorting option: bad");
    assert_false(rb_doc_from_json(RB_DOC_CONNZ, RB_S("{\"limit\":"), &options, &f->error));
    assert_int_equal(f->error.status, 400);
}

static void account_lists_are_read(void **state)
{
    struct fixture *f = *state;
    const char *text = ask_json(f, RB_DOC_ACCSTATZ,
                                "{\"accounts\":[\"SYS\",\"B\",\"no\"],\"include_unused\":true}");
    assert_non_null(strstr(text, "\"acc\":\"SYS\""));
    assert_non_null(strstr(text, "\"acc\":\"B\""));
    assert_null(strstr(text, "\"acc\":\"A\""));
    struct rb_doc_options options;
    assert_false(
        rb_doc_from_json(RB_DOC_ACCSTATZ, RB_S("{\"accounts\":[\"A\",5]}"), &options, &f->error));
    assert_null(options.account_list);
    assert_false(
        rb_doc_from_json(RB_DOC_ACCSTATZ, RB_S("{\"accounts\":\"A\"}"), &options, &f->error));
    assert_true(rb_doc_from_json(
        RB_DOC_ACCSTATZ, RB_S("{\"accounts\":[\"A\"],\"Accounts\":[\"B\"]}"), &options, &f->error));
    assert_string_equal(options.account_list[0], "B");
    rb_doc_options_deinit(&options);
}

/* connz: order, filters, pages */

/* The cids of a page, in order, as "7 8 12". */
static const char *cids(const char *text, char out[512])
{
    size_t len = 0;
    out[0] = '\0';
    while ((text = strstr(text, "{\n      \"cid\": ")) != NULL) {
        text += strlen("{\n      \"cid\": ");
        len += (size_t)snprintf(out + len, 512 - len, "%s%lu", len == 0 ? "" : " ",
                                strtoul(text, NULL, 10));
    }
    return out;
}

static void connz_sorts_filters_and_pages(void **state)
{
    static const struct {
        const char *query, *cids, *head;
    } cases[] = {
        { "", "7 8 12",
          "\"num_connections\": 3,\n  \"total\": 3,\n  \"offset\": 0,\n  \"limit\": 1024," },
        { "sort=cid", "7 8 12", NULL },
        { "sort=start", "7 8 12", NULL },
        { "sort=subs", "7 8 12", NULL },
        { "sort=pending", "8 7 12", NULL },
        { "sort=msgs_to", "8 7 12", NULL },
        { "sort=msgs_from", "12 7 8", NULL },
        { "sort=bytes_to", "8 7 12", NULL },
        { "sort=bytes_from", "7 8 12", NULL },
        { "sort=last", "7 8 12", NULL },
        { "sort=idle", "12 8 7", NULL },
        { "sort=uptime", "7 8 12", NULL },
        { "sort=rtt", "7 8 12", NULL },
        { "sort=stop&state=closed", "10 9", NULL },
        { "sort=reason&state=closed", "10 9", NULL },
        { "state=closed", "9 10", "\"num_connections\": 2,\n  \"total\": 2," },
        { "state=any", "7 8 9 10 12", "\"num_connections\": 5,\n  \"total\": 5," },
        { "state=all&offset=3", "10 12",
          "\"num_connections\": 2,\n  \"total\": 5,\n  \"offset\": 3," },
        { "limit=1&offset=1", "8",
          "\"num_connections\": 1,\n  \"total\": 3,\n  \"offset\": 1,\n  \"limit\": 1," },
        { "offset=-1&limit=-3", "7 8 12", "\"offset\": 0,\n  \"limit\": 1024," },
        { "offset=10", "", "\"num_connections\": 0,\n  \"total\": 3,\n  \"offset\": 10," },
        { "cid=8", "8",
          "\"num_connections\": 1,\n  \"total\": 3,\n  \"offset\": 0,\n  \"limit\": 1," },
        { "cid=99", "", "\"num_connections\": 0,\n  \"total\": 3," },
        { "user=b", "8", "\"num_connections\": 1,\n  \"total\": 3," },
        { "acc=A", "7", "\"num_connections\": 1,\n  \"total\": 1," },
        { "acc=A&user=b", "", "\"num_connections\": 0,\n  \"total\": 1," },
        { "mqtt_client=x", "", "\"num_connections\": 0,\n  \"total\": 3," },
    };
    struct fixture *f = *state;
    char list[512];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *text = ask(f, RB_DOC_CONNZ, cases[i].query);
        assert_true(f->built);
        assert_string_equal(cids(text, list), cases[i].cids);
        if (cases[i].head != NULL) {
            assert_non_null(strstr(text, cases[i].head));
        }
    }
}

static void connz_asks_for_no_more_than_needed(void **state)
{
    struct fixture *f = *state;
    (void)ask(f, RB_DOC_CONNZ, "");
    assert_int_equal(f->fake.last_request.conns, RB_CONNS_OPEN);
    assert_false(f->fake.last_request.conn_subs);
    assert_false(f->fake.last_request.conn_certs);
    assert_false(f->fake.last_request.accounts);
    assert_int_equal(f->fake.last_request.conn_account, -1);
    (void)ask(f, RB_DOC_CONNZ, "acc=B&subs=1&auth=1&state=closed");
    assert_int_equal(f->fake.last_request.conns, RB_CONNS_CLOSED);
    assert_true(f->fake.last_request.conn_subs);
    assert_true(f->fake.last_request.conn_certs);
    assert_int_equal(f->fake.last_request.conn_account, 3);
}

static void connz_filters_by_subject_in_system_requests(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(ask_json(f, RB_DOC_CONNZ, "{\"filter_subject\":\"foo\"}"), "");
    assert_string_equal(f->error.text, "filter by subject only valid with account filtering");
    const char *text = ask_json(f, RB_DOC_CONNZ, "{\"filter_subject\":\"q.1\",\"acc\":\"A\"}");
    assert_non_null(strstr(text, "\"num_connections\":1,"));
    text = ask_json(f, RB_DOC_CONNZ, "{\"filter_subject\":\"zoo\",\"acc\":\"A\"}");
    assert_non_null(strstr(text, "\"num_connections\":0,"));
    text = ask_json(f, RB_DOC_CONNZ, "{\"state\":7}");
    assert_non_null(strstr(text, "\"total\":0,"));
    assert_non_null(strstr(text, "\"connections\":[]"));
}

/* subsz */

static void subsz_lists_and_tests(void **state)
{
    struct fixture *f = *state;
    const char *text = ask(f, RB_DOC_SUBSZ, "subs=1");
    assert_non_null(strstr(text, "\"total\": 5,"));
    text = ask(f, RB_DOC_SUBSZ, "subs=1&limit=1&offset=2");
    assert_non_null(strstr(text, "\"total\": 5,\n  \"offset\": 2,\n  \"limit\": 1,"));
    assert_non_null(strstr(text,
                           "\"subject\": \"foo\",\n      \"sid\": \"3\",\n      \"msgs\": 1,\n"
                           "      \"max\": 7,\n      \"cid\": 7\n    }\n  ]\n}"));
    text = ask(f, RB_DOC_SUBSZ, "subs=1&test=q.1");
    assert_non_null(strstr(text, "\"total\": 2,"));
    text = ask(f, RB_DOC_SUBSZ, "subs=1&test=nobody");
    assert_non_null(strstr(text, "\"total\": 0,"));
    assert_null(strstr(text, "subscriptions_list"));
    text = ask(f, RB_DOC_SUBSZ, "subs=1&acc=nope");
    assert_non_null(strstr(text, "\"num_subscriptions\": 0,"));
    text = ask(f, RB_DOC_SUBSZ, "test=q.1");
    assert_non_null(strstr(text, "\"total\": 0,"));
    assert_false(f->fake.last_request.subs);
}

/* healthz, raftz, ipqueuesz */

static void healthz_says_what_is_wrong(void **state)
{
    static const struct {
        const char *query, *text;
        int status;
        bool closed;
    } cases[] = {
        { "", "{\n  \"status\": \"ok\"\n}", 200, false },
        { "js-enabled-only=1&details=1&account=A&stream=b", "{\n  \"status\": \"ok\"\n}", 200,
          false },
        { "stream=x",
          "{\n  \"status\": \"error\",\n  \"error\": \"\\\"account\\\" must not be empty when "
          "checking "
          "stream health\"\n}",
          400, false },
        { "account=A&consumer=c",
          "{\n  \"status\": \"error\",\n  \"error\": \"\\\"stream\\\" must not be empty when "
          "checking "
          "consumer health\"\n}",
          400, false },
        { "details=1&stream=b",
          "{\n  \"status\": \"error\",\n  \"errors\": [\n    {\n      \"type\": \"BAD_REQUEST\",\n"
          "      \"error\": \"\\\"account\\\" must not be empty when checking stream health\"\n"
          "    }\n  ]\n}",
          400, false },
        { "js-server-only=1",
          "{\n  \"status\": \"error\",\n  \"error\": \"failed to be ready for connections after "
          "1ms: "
          "the client listener is not open\"\n}",
          500, true },
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        f->fake.not_accepting = cases[i].closed;
        assert_string_equal(ask(f, RB_DOC_HEALTHZ, cases[i].query), cases[i].text);
        assert_int_equal(f->error.status, cases[i].status);
    }
    f->fake.not_accepting = false;
    assert_string_equal(ask_json(f, RB_DOC_HEALTHZ, ""), "{\"status\":\"ok\",\"status_code\":200}");
    assert_string_equal(
        ask_json(f, RB_DOC_HEALTHZ, "{\"stream\":\"s\"}"),
        "{\"status\":\"error\",\"status_code\":400,\"error\":\"\\\"account\\\" must not "
        "be empty when checking stream health\"}");
}

static void clusters_pages_are_truly_empty(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(ask(f, RB_DOC_IPQUEUESZ, "all=1&queues=x"), "{}");
    assert_string_equal(ask(f, RB_DOC_RAFTZ, "acc=x"), "");
    assert_int_equal(f->error.status, 404);
    assert_string_equal(f->error.text, "No Raft nodes registered");
    assert_string_equal(ask_json(f, RB_DOC_RAFTZ, "{}"), "{}");
    assert_string_equal(ask_json(f, RB_DOC_JSZ, "{\"leader_only\":true}"), "");
    assert_true(f->error.silent);
}

static void debug_vars_hide_arguments(void **state)
{
    struct fixture *f = *state;
    const char *text = ask(f, RB_DOC_EXPVARZ, "");
    assert_non_null(strstr(text, "\"cmdline\": [\n    \""));
    assert_non_null(strstr(text, "test_docs\"\n  ],\n  \"memstats\": {\n    \"Alloc\": "));
}

/* The process */

static void usage_is_read_from_proc(void **state)
{
    struct rb_process_usage usage = { 0 };
    rb_process_usage_read(&usage, 1000);
    assert_true(usage.rss_bytes > 1 << 20);
    assert_true(usage.cpu_percent >= 0 && usage.cpu_percent < 6400);
    double before = usage.cpu_percent;
    rb_process_usage_read(&usage, 1000 + 999999999);
    assert_true(usage.cpu_percent == before); /* too soon */
    assert_int_equal(usage.at_ns, 1000);
    rb_process_usage_read(&usage, 1000 + UINT64_C(1000000000000));
    assert_true(usage.cpu_percent < 1); /* hardly any work in a thousand seconds */
}

static void stacksz_names_threads(void **state)
{
    struct rb_text text;
    rb_text_init(&text, 1 << 20);
    rb_page_stacksz(&text);
    assert_non_null(strstr(text.ptr, "test_docs"));
    rb_text_deinit(&text);
}

/* Links of the root page lead below the base path, whose last part is no folder for a browser. */
static void root_page_links_below_the_base(void **state)
{
    struct fixture *f = *state;
    struct rb_monitor_view view;
    struct rb_text text;
    assert_int_equal(f->source.open(f->source.ctx, &view), RB_OK);
    rb_text_init(&text, 1 << 20);
    rb_page_root(&view, "", &text);
    assert_non_null(strstr(text.ptr, "href=\"./varz\""));
    rb_text_deinit(&text);
    rb_text_init(&text, 1 << 20);
    rb_page_root(&view, "/a/base", &text);
    assert_non_null(strstr(text.ptr, "href=\"./base/varz\""));
    rb_text_deinit(&text);
    f->source.close(f->source.ctx, &view);
}

static void the_dashboard_needs_nothing_from_outside(void **state)
{
    struct rb_slice page = rb_page_dashboard();
    char *text = calloc(1, page.len + 1);
    assert_non_null(text);
    memcpy(text, page.ptr, page.len);
    assert_non_null(strstr(text, "default-src 'none'"));
    assert_null(strstr(text, "https://"));
    assert_null(strstr(text, "src=\"")); /* no scripts, pictures or frames by address */
    assert_null(strstr(text, "@import"));
    assert_null(strstr(text, "innerHTML")); /* names come from clients */
    free(text);
}

/* JetStream */

static void jsz_pages_accounts_and_cuts_details(void **state)
{
    struct fixture *f = *state;
    f->fake.jetstream = true;
    expect_golden("jsz-all", ask(f, RB_DOC_JSZ, "consumers=1&config=1&raft=1"));
    const char *text = ask(f, RB_DOC_JSZ, "consumers=1&acc=A");
    assert_non_null(strstr(text, "\"num_pending\": 2"));
    assert_null(strstr(text, "\"config\": {\n                \"a\"")); /* not asked for */
    assert_null(strstr(text, "\"name\": \"B\""));
    text = ask(f, RB_DOC_JSZ, "");
    assert_null(strstr(text, "account_details"));
    assert_null(strstr(text, "streams_leader"));
    assert_false(f->fake.last_request.js_streams);
    text = ask(f, RB_DOC_JSZ, "accounts=1&offset=1");
    assert_non_null(strstr(text, "\"name\": \"B\""));
    assert_null(strstr(text, "\"name\": \"A\""));
    assert_null(strstr(text, "stream_detail"));
    text = ask(f, RB_DOC_JSZ, "accounts=1&limit=1");
    assert_non_null(strstr(text, "\"name\": \"A\""));
    assert_null(strstr(text, "\"name\": \"B\""));
    assert_null(strstr(ask(f, RB_DOC_JSZ, "acc=nobody"), "account_details"));
    (void)ask(f, RB_DOC_JSZ, "leader-only=1");
    assert_true(f->built);
    f->fake.jetstream = false;
    (void)ask(f, RB_DOC_JSZ, "leader-only=1");
    assert_false(f->built);
}

static void healthz_looks_at_streams(void **state)
{
    static const struct {
        const char *query, *text;
        int status;
    } cases[] = {
        { "",
          "{\"status\":\"unavailable\",\"status_code\":503,\"error\":\"JetStream stream 'A \\u003e "
          "SPARE' "
          "could not be recovered: a command is unknown\"}",
          503 },
        { "js-enabled-only=1", "{\"status\":\"ok\",\"status_code\":200}", 200 },
        { "js-server-only=1", "{\"status\":\"ok\",\"status_code\":200}", 200 },
        { "account=A&stream=ORDERS&consumer=C", "{\"status\":\"ok\",\"status_code\":200}", 200 },
        { "account=X",
          "{\"status\":\"unavailable\",\"status_code\":404,\"error\":\"JetStream account \\\"X\\\" "
          "not "
          "found\"}",
          404 },
        { "account=A&stream=X",
          "{\"status\":\"unavailable\",\"status_code\":404,\"error\":\"JetStream stream \\\"X\\\" "
          "not found "
          "on account \\\"A\\\"\"}",
          404 },
        { "account=A&stream=ORDERS&consumer=X&details=1",
          "{\"status\":\"error\",\"status_code\":404,\"errors\":[{\"type\":\"CONSUMER\","
          "\"account\":\"A\","
          "\"stream\":\"ORDERS\",\"consumer\":\"X\",\"error\":\"JetStream consumer \\\"X\\\" not "
          "found for "
          "stream \\\"ORDERS\\\" on account \\\"A\\\"\"}]}",
          404 },
    };
    struct fixture *f = *state;
    f->fake.jetstream = true;
    f->fake.stream_broken = true;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rb_doc_options options;
        assert_true(
            rb_doc_from_query(RB_DOC_HEALTHZ, rb_slice_text(cases[i].query), &options, &f->error));
        assert_string_equal(build(f, RB_DOC_HEALTHZ, &options, true), cases[i].text);
        assert_int_equal(f->error.status, cases[i].status);
    }
}

static void varz_tells_of_jetstream(void **state)
{
    struct fixture *f = *state;
    f->fake.jetstream = true;
    const char *text = ask_json(f, RB_DOC_VARZ, "");
    assert_non_null(
        strstr(text, "\"jetstream\":{\"config\":{\"max_memory\":1048576,\"max_storage\":1073741824,"
                     "\"store_dir\":\"/store/jetstream\",\"sync_interval\":120000000000,"
                     "\"sync_always\":true,\"strict\":true},\"stats\":{\"memory\":5,\"storage\":71,"
                     "\"reserved_memory\":0,\"reserved_storage\":7,\"accounts\":2,\"ha_assets\":0,"
                     "\"api\":{\"level\":5,\"total\":9,\"errors\":1}},\"limits\":{}}"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(documents_are_exact),
        TEST(varz_tells_of_the_websocket_listener),
        TEST(queries_are_refused_in_natss_words),
        TEST(booleans_and_blanks_are_read_as_go_does),
        TEST(long_texts_are_refused),
        TEST(json_options_are_read),
        TEST(json_options_are_refused),
        TEST(account_lists_are_read),
        TEST(connz_sorts_filters_and_pages),
        TEST(connz_asks_for_no_more_than_needed),
        TEST(connz_filters_by_subject_in_system_requests),
        TEST(subsz_lists_and_tests),
        TEST(healthz_says_what_is_wrong),
        TEST(jsz_pages_accounts_and_cuts_details),
        TEST(healthz_looks_at_streams),
        TEST(varz_tells_of_jetstream),
        TEST(clusters_pages_are_truly_empty),
        TEST(debug_vars_hide_arguments),
        TEST(usage_is_read_from_proc),
        TEST(stacksz_names_threads),
        TEST(root_page_links_below_the_base),
        TEST(the_dashboard_needs_nothing_from_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
