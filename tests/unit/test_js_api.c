/* The requests of $JS.API, byte for byte as nats-server answers them, but for times (TS) and ids. */
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

#define TYPE(name) "{\"type\":\"io.nats.jetstream.api.v1." name "_response\""
#define ERROR(name, status, code, text)                                                            \
    TYPE(name)                                                                                     \
    ",\"error\":{\"code\":" #status ",\"err_code\":" #code ",\"description\":\"" text "\"}"
#define CONFIG_HEAD(name, subjects)                                                                \
    "\"config\":{\"name\":\"" name "\",\"subjects\":[" subjects                                    \
    "],\"retention\":\"limits\",\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,"            \
    "\"max_age\":0,\"max_msgs_per_subject\":-1,\"max_msg_size\":-1,\"discard\":\"old\","           \
    "\"storage\":\"file\",\"num_replicas\":1,\"duplicate_window\":120000000000,"                   \
    "\"compression\":\"none\",\"allow_direct\":true,\"mirror_direct\":false,\"sealed\":false,"     \
    "\"deny_delete\":false,\"deny_purge\":false,\"allow_rollup_hdrs\":false,"                      \
    "\"consumer_limits\":{},\"allow_msg_ttl\":false,\"metadata\":{"
#define DYNAMIC "\"_nats.level\":\"5\",\"_nats.req.level\":\"0\",\"_nats.ver\":\"V\"}}"
#define NO_STATE                                                                                   \
    "\"state\":{\"messages\":0,\"bytes\":0,\"first_seq\":0,\"first_ts\":\"0001-01-01T00:00:00Z\"," \
    "\"last_seq\":0,\"last_ts\":\"0001-01-01T00:00:00Z\",\"consumer_count\":0}"

static int setup(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 11);
    rig->settings.version = RB_S("V");
    rig->settings.server_name = RB_S("srv");
    rig->settings.strict = true;
    js_rig_open(rig);
    assert_true(rig->js->ready_to_serve);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct js_rig *rig = *state;
    if (rig->js != NULL) {
        js_rig_close(rig);
    }
    js_rig_deinit(rig);
    free(rig);
    return 0;
}

/* Quoted times that are not the zero time become TS. */
static void hide_times(char *text)
{
    char *out = text;
    for (char *at = text; *at != '\0';) {
        char *end = at[0] == '"' && strncmp(at + 1, "0001", 4) != 0 && strlen(at) > 20 &&
                            at[5] == '-' && at[8] == '-' && at[11] == 'T'
                        ? strchr(at + 1, '"')
                        : NULL;
        if (end != NULL) {
            memcpy(out, "\"TS\"", 4);
            out += 4;
            at = end + 1;
        } else {
            *out++ = *at++;
        }
    }
    *out = '\0';
}

static void expect(struct js_rig *rig, const char *request, const char *body, const char *wanted)
{
    char subject[256];
    (void)snprintf(subject, sizeof(subject), "$JS.API.%s", request);
    const char *got = js_rig_request(rig, subject, NULL, body);
    if (got == NULL || wanted == NULL) {
        if (got != wanted) {
            fail_msg("%s %s: %s", request, body, got == NULL ? "no answer" : got);
        }
        return;
    }
    char *copy = strdup(got);
    assert_non_null(copy);
    hide_times(copy);
    if (strcmp(copy, wanted) != 0) {
        fail_msg("%s %s:\n got %s\nwant %s", request, body, copy, wanted);
    }
    free(copy);
}

static void make(struct js_rig *rig)
{
    expect(rig, "STREAM.CREATE.S", "{\"name\":\"S\",\"subjects\":[\"s.>\"],\"allow_direct\":true}",
           TYPE("stream_create") "," CONFIG_HEAD("S", "\"s.\\u003e\"") DYNAMIC
           ",\"created\":\"TS\"," NO_STATE ",\"ts\":\"TS\",\"did_create\":true}");
}

static void fill(struct js_rig *rig)
{
    make(rig);
    js_rig_publish(rig, "s.a", NULL, NULL, "1");
    js_rig_publish(rig, "s.b", NULL, NULL, "2");
    js_rig_publish(rig, "s.a", NULL, NULL, "3");
    js_rig_publish(rig, "s.c", NULL, "A: b\r\n", "45");
    js_rig_settle(rig);
    expect(rig, "STREAM.MSG.DELETE.S", "{\"seq\":2}",
           TYPE("stream_msg_delete") ",\"success\":true}");
}

static void streams_live_and_end(void **state)
{
    struct js_rig *rig = *state;
    expect(rig, "STREAM.NAMES", "",
           TYPE("stream_names") ",\"total\":0,\"offset\":0,\"limit\":1024,\"streams\":null}");
    make(rig);
    make(rig); /* the same again is no error */
    expect(rig, "STREAM.CREATE.S", "{\"name\":\"S\",\"subjects\":[\"t\"]}",
           ERROR("stream_create", 400, 10058,
                 "stream name already in use with a different configuration") "}");
    expect(rig, "STREAM.NAMES", "{\"subject\":\"s.x\"}",
           TYPE("stream_names") ",\"total\":1,\"offset\":0,\"limit\":1024,\"streams\":[\"S\"]}");
    expect(rig, "STREAM.NAMES", "{\"offset\":9}",
           TYPE("stream_names") ",\"total\":1,\"offset\":1,\"limit\":1024,\"streams\":null}");
    expect(rig, "STREAM.LIST", "",
           TYPE("stream_list") ",\"total\":1,\"offset\":0,\"limit\":256,\"streams\":[{" CONFIG_HEAD(
               "S", "\"s.\\u003e\"") "\"_nats.req.level\":\"0\"}},\"created\":\"TS\"," NO_STATE
                                     ",\"ts\":\"TS\"}]}");
    expect(rig, "STREAM.INFO.S", "",
           TYPE("stream_info") ",\"total\":0,\"offset\":0,\"limit\":0," CONFIG_HEAD(
               "S", "\"s.\\u003e\"") DYNAMIC ",\"created\":\"TS\"," NO_STATE
                                             ",\"cluster\":{\"leader\":\"srv\"},\"ts\":\"TS\"}");
    expect(rig, "STREAM.DELETE.S", "x",
           ERROR("stream_delete", 400, 10038, "expected an empty request payload") "}");
    expect(rig, "STREAM.DELETE.S", " { } ", TYPE("stream_delete") ",\"success\":true}");
    expect(rig, "STREAM.DELETE.S", "", ERROR("stream_delete", 404, 10059, "stream not found") "}");
    expect(rig, "STREAM.INFO.S", "",
           ERROR("stream_info", 404, 10059,
                 "stream not found") ",\"total\":0,\"offset\":0,\"limit\":0}");
}

static void requests_are_refused(void **state)
{
    struct js_rig *rig = *state;
    make(rig);
#define NOT_MATCHING "stream name in subject does not match request"
    expect(rig, "STREAM.CREATE.S", "{\"name\":\"T\"}",
           ERROR("stream_create", 400, 10056, NOT_MATCHING) "}");
    expect(rig, "STREAM.CREATE.S", "", ERROR("stream_create", 400, 10056, NOT_MATCHING) "}");
    expect(rig, "STREAM.CREATE.a/b", "{\"name\":\"a/b\"}",
           ERROR("stream_create", 400, 10128, "Stream name can not contain path separators") "}");
    expect(rig, "STREAM.CREATE.X", "{\"name\":\"X\",\"sealed\":true}",
           ERROR("stream_create", 500, 10052,
                 "stream configuration for create can not be sealed") "}");
    expect(
        rig, "STREAM.CREATE.X", "{\"name\":\"X\",\"bogus\":1}",
        ERROR("stream_create", 400, 10025, "invalid JSON: json: unknown field \\\"bogus\\\"") "}");
    expect(rig, "STREAM.CREATE.X", "{\"pedantic\":5}",
           ERROR("stream_create", 400, 10025,
                 "invalid JSON: json: cannot unmarshal number into Go struct field "
                 "StreamConfigRequest.pedantic of type bool") "}");
    expect(rig, "STREAM.CREATE.X", "{\"mirror\":{\"name\":5}}",
           ERROR("stream_create", 400, 10025,
                 "invalid JSON: json: cannot unmarshal number into Go struct field "
                 "StreamSource.StreamConfig.mirror.name of type string") "}");
    expect(rig, "STREAM.UPDATE.X", "{\"name\":\"X\"}",
           ERROR("stream_update", 404, 10059, "stream not found") "}");
    expect(rig, "STREAM.PURGE.S", "{\"seq\":1,\"keep\":1}",
           ERROR("stream_purge", 400, 10003, "bad request") ",\"purged\":0}");
    expect(
        rig, "STREAM.LEADER.STEPDOWN.S", "",
        ERROR("stream_leader_stepdown", 503, 10010, "JetStream clustering support required") "}");
    expect(rig, "STREAM.SNAPSHOT.S", "{\"deliver_subject\":\"a.*\"}",
           ERROR("stream_snapshot", 400, 10015, "deliver subject not valid") "}");
    expect(rig, "STREAM.RESTORE.S", "{\"config\":{\"name\":\"S\"}}",
           ERROR("stream_restore", 400, 10130,
                 "stream name already in use, cannot restore") ",\"deliver_subject\":\"\"}");
    expect(rig, "NOPE", "", NULL);
    expect(rig, "STREAM.NOPE.S", "", NULL);
    expect(rig, "STREAM.INFO.a.b", "", NULL);
    expect(rig, "CONSUMER.RESET.S.nobody", "", NULL);
}

/* A server that is not strict reads what it knows. */
static void lenient_servers_ignore_unknown_fields(void **state)
{
    struct js_rig *rig = *state;
    make(rig);
    rig->settings.strict = false;
    expect(rig, "STREAM.NAMES", "{\"bogus\":1}",
           TYPE("stream_names") ",\"total\":1,\"offset\":0,\"limit\":1024,\"streams\":[\"S\"]}");
    expect(rig, "STREAM.MSG.GET.S", "{\"seq\":\"x\"}",
           ERROR("stream_msg_get", 400, 10025,
                 "invalid JSON: json: cannot unmarshal string into Go struct field "
                 "JSApiMsgGetRequest.seq of type uint64") "}");
}

static void levels_are_asked_for(void **state)
{
    struct js_rig *rig = *state;
    const char *got =
        js_rig_request(rig, "$JS.API.STREAM.NAMES", "Nats-Required-Api-Level: 6\r\n", "");
    assert_string_equal(got,
                        ERROR("stream_names", 412, 10185,
                              "JetStream minimum api level required") ",\"total\":0,"
                                                                      "\"offset\":0,\"limit\":0,"
                                                                      "\"streams\":null}");
    got = js_rig_request(rig, "$JS.API.STREAM.NAMES", "Nats-Required-Api-Level: 5\r\n", "");
    assert_non_null(strstr(got, "\"total\":0"));
}

static void accounts_without_jetstream_are_told(void **state)
{
    struct js_rig *rig = *state;
    struct rb_js_account *account = js_rig_js_account(rig);
    make(rig);
    account->enabled = false;
    assert_int_equal(rb_js_api_open(account), RB_OK);
    expect(rig, "INFO", "",
           ERROR("account_info", 503, 10039, "JetStream not enabled for account") "}");
    expect(
        rig, "CONSUMER.CREATE.S", "x",
        ERROR(
            "consumer_create", 400, 10025,
            "invalid JSON: invalid character 'x' looking for beginning of value at offset 1") "}");
    expect(rig, "DIRECT.GET.S", "{\"seq\":1}", NULL);
    account->enabled = true;
    assert_int_equal(rb_js_api_open(account), RB_OK);
    assert_non_null(strstr(js_rig_request(rig, "$JS.API.INFO", NULL, ""), "\"streams\":1"));
}

static void messages_are_got_and_deleted(void **state)
{
    struct js_rig *rig = *state;
    fill(rig);
#define GOT(fields) TYPE("stream_msg_get") ",\"message\":{" fields ",\"time\":\"TS\"}}"
#define BAD ERROR("stream_msg_get", 400, 10003, "bad request") "}"
#define NONE ERROR("stream_msg_get", 404, 10037, "no message found") "}"
    expect(rig, "STREAM.MSG.GET.S", "{\"seq\":1}",
           GOT("\"subject\":\"s.a\",\"seq\":1,\"data\":\"MQ==\""));
    expect(rig, "STREAM.MSG.GET.S", "{\"seq\":4}",
           GOT("\"subject\":\"s.c\",\"seq\":4,\"hdrs\":\"TkFUUy8xLjANCkE6IGINCg0K\","
               "\"data\":\"NDU=\""));
    expect(rig, "STREAM.MSG.GET.S", "{\"seq\":4,\"no_hdr\":true}",
           GOT("\"subject\":\"s.c\",\"seq\":4,\"data\":\"NDU=\""));
    expect(rig, "STREAM.MSG.GET.S", "{\"last_by_subj\":\"s.a\"}",
           GOT("\"subject\":\"s.a\",\"seq\":3,\"data\":\"Mw==\""));
    expect(rig, "STREAM.MSG.GET.S", "{\"next_by_subj\":\"s.*\",\"seq\":2}",
           GOT("\"subject\":\"s.a\",\"seq\":3,\"data\":\"Mw==\""));
    expect(rig, "STREAM.MSG.GET.S", "{\"start_time\":\"1980-01-01T00:00:00Z\"}",
           GOT("\"subject\":\"s.a\",\"seq\":1,\"data\":\"MQ==\""));
    expect(rig, "STREAM.MSG.GET.S", "{\"seq\":2}", NONE);
    expect(rig, "STREAM.MSG.GET.S", "{\"last_by_subj\":\"q\"}", NONE);
    expect(rig, "STREAM.MSG.GET.S", "{\"seq\":1,\"last_by_subj\":\"s.a\"}", BAD);
    expect(rig, "STREAM.MSG.GET.S", "{\"seq\":1,\"batch\":1}", BAD);
    expect(rig, "STREAM.MSG.GET.S", "{}", BAD);
    expect(rig, "STREAM.MSG.GET.X", "{\"seq\":1}",
           ERROR("stream_msg_get", 404, 10059, "stream not found") "}");
    expect(rig, "STREAM.MSG.DELETE.S", "{\"seq\":2}",
           ERROR("stream_msg_delete", 400, 10043, "sequence 2 not found") "}");
    expect(rig, "STREAM.MSG.DELETE.S", "{\"seq\":9}",
           ERROR("stream_msg_delete", 500, 10057, "stream store EOF") "}");
    expect(rig, "STREAM.PURGE.S", "{\"filter\":\"s.a\",\"keep\":1}",
           TYPE("stream_purge") ",\"success\":true,\"purged\":1}");
}

static void details_are_paged(void **state)
{
    struct js_rig *rig = *state;
    fill(rig);
    const char *got = js_rig_request(rig, "$JS.API.STREAM.INFO.S", NULL,
                                     "{\"subjects_filter\":\">\",\"offset\":1}");
    assert_non_null(strstr(got, "\"total\":2,\"offset\":1,\"limit\":100000,"));
    assert_non_null(strstr(got, "\"num_subjects\":2,\"subjects\":{\"s.c\":1},\"num_deleted\":1,"));
    got = js_rig_request(rig, "$JS.API.STREAM.INFO.S", NULL, "{\"deleted_details\":true}");
    assert_non_null(strstr(got, "\"num_deleted\":1,\"deleted\":[2],\"consumer_count\":0}"));
    got = js_rig_request(rig, "$JS.API.STREAM.INFO.S", NULL, "{\"subjects_filter\":\"q\"}");
    assert_non_null(strstr(got, "\"total\":0,\"offset\":0,\"limit\":0,"));
}

static void consumers_are_made_by_name(void **state)
{
    struct js_rig *rig = *state;
    make(rig);
#define REFUSED(status, code, text) ERROR("consumer_create", status, code, text) "}"
    expect(rig, "CONSUMER.CREATE.X", "{\"stream_name\":\"X\"}",
           REFUSED(404, 10059, "stream not found"));
    expect(rig, "CONSUMER.CREATE.S", "{\"stream_name\":\"X\"}", REFUSED(400, 10056, NOT_MATCHING));
    expect(rig, "CONSUMER.CREATE.S", "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"d\"}}",
           REFUSED(400, 10020,
                   "consumer expected to be ephemeral but a durable name was set in request"));
    expect(rig, "CONSUMER.DURABLE.CREATE.S.d", "{\"stream_name\":\"S\",\"config\":{}}",
           REFUSED(400, 10018, "consumer expected to be durable but a durable name was not set"));
    expect(rig, "CONSUMER.DURABLE.CREATE.S.d",
           "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"e\"}}",
           REFUSED(400, 10017, "consumer name in subject does not match durable name in request"));
    expect(rig, "CONSUMER.CREATE.S.a/b", "{\"stream_name\":\"S\"}",
           REFUSED(400, 10127, "Consumer name can not contain path separators"));
    expect(rig, "CONSUMER.CREATE.S.c.s.a",
           "{\"stream_name\":\"S\",\"config\":{\"filter_subject\":\"s.b\"}}",
           REFUSED(400, 10131,
                   "Consumer create request did not match filtered subject from create subject"));
    expect(
        rig, "CONSUMER.CREATE.S.c.s.a",
        "{\"stream_name\":\"S\",\"config\":{\"filter_subjects\":[\"s.b\"]}}",
        REFUSED(400, 10137, "consumer with multiple subject filters cannot use subject based API"));
    expect(rig, "CONSUMER.CREATE.S.c", "{\"stream_name\":\"S\",\"config\":{\"num_replicas\":3}}",
           REFUSED(500, 10074, "replicas \\u003e 1 not supported in non-clustered mode"));
    expect(rig, "CONSUMER.CREATE.S.c", "{\"action\":\"x\"}",
           REFUSED(400, 10025, "invalid JSON: unknown consumer action: \\\"x\\\""));
    const char *got = js_rig_request(
        rig, "$JS.API.CONSUMER.CREATE.S.c.s.a", NULL,
        "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c\",\"ack_policy\":\"explicit\","
        "\"filter_subject\":\"s.a\"},\"action\":\"create\"}");
    assert_non_null(got);
    assert_non_null(strstr(got, TYPE("consumer_create") ",\"stream_name\":\"S\",\"name\":\"c\","));
    assert_non_null(strstr(got, "\"filter_subject\":\"s.a\""));
    expect(
        rig, "CONSUMER.NAMES.S", "",
        TYPE("consumer_names") ",\"total\":1,\"offset\":0,\"limit\":1024,\"consumers\":[\"c\"]}");
    expect(rig, "CONSUMER.INFO.S.c", "x",
           ERROR("consumer_info", 400, 10038, "expected an empty request payload") "}");
    expect(rig, "CONSUMER.INFO.S.d", "",
           ERROR("consumer_info", 404, 10014, "consumer not found") "}");
    expect(rig, "CONSUMER.PAUSE.S.c", "{\"pause_until\":\"1980-01-01T00:00:00Z\"}",
           TYPE("consumer_pause") ",\"paused\":false,\"pause_until\":\"TS\"}");
    expect(rig, "CONSUMER.UNPIN.S.c", "{}",
           ERROR("consumer_unpin", 400, 10025, "invalid JSON: consumer group not specified") "}");
    expect(rig, "CONSUMER.UNPIN.S.c", "{\"group\":\"a b\"}",
           ERROR("consumer_unpin", 400, 10162,
                 "Valid priority group name must match A-Z, a-z, 0-9, -_/=)+ and may not exceed 16 "
                 "characters") "}");
    got = js_rig_request(rig, "$JS.API.CONSUMER.RESET.S.c", NULL, "{\"seq\":5}");
    assert_non_null(got);
    assert_non_null(strstr(got, ",\"reset_seq\":5}"));
    expect(rig, "CONSUMER.DELETE.S.c", "", TYPE("consumer_delete") ",\"success\":true}");
    expect(rig, "CONSUMER.DELETE.S.c", "",
           ERROR("consumer_delete", 404, 10014, "consumer not found") "}");
}

/* Mirrors say which stream they mean; a stream that was made anew is another one. */
static void identities_tell_streams_apart(void **state)
{
    struct js_rig *rig = *state;
    make(rig);
    char headers[64], identity[9], second[9];
    rb_js_stream_identity(js_rig_stream(rig, "S"), identity);
    (void)snprintf(headers, sizeof(headers), "Nats-Stream-Identity: %s\r\n", identity);
    const char *body =
        "{\"stream_name\":\"S\",\"config\":{\"direct\":true,\"deliver_subject\":\"x\"}}";
    const struct js_rig_message *got =
        js_rig_request_message(rig, "$JS.API.CONSUMER.CREATE.S.m", headers, body);
    assert_non_null(got);
    assert_non_null(strstr((const char *)got->payload, headers));
    expect(rig, "STREAM.DELETE.S", "", TYPE("stream_delete") ",\"success\":true}");
    js_rig_advance(rig, 1000000);
    make(rig);
    rb_js_stream_identity(js_rig_stream(rig, "S"), second);
    assert_string_not_equal(identity, second);
    const char *text = js_rig_request(rig, "$JS.API.CONSUMER.CREATE.S.m", headers, body);
    assert_non_null(
        strstr(text, "\"err_code\":10225,\"description\":\"consumer's stream identity"));
}

static void audits_say_who_asked_what(void **state)
{
    struct js_rig *rig = *state;
    js_rig_listen(rig, "$JS.EVENT.ADVISORY.API");
    expect(rig, "STREAM.NAMES", "{\"offset\":0}",
           TYPE("stream_names") ",\"total\":0,\"offset\":0,\"limit\":1024,\"streams\":null}");
    const struct js_rig_message *audit = js_rig_nth(rig, "$JS.EVENT.ADVISORY.API", 0);
    assert_non_null(audit);
    assert_non_null(strstr(audit->body,
                           ",\"server\":\"srv\",\"subject\":\"$JS.API.STREAM.NAMES\","
                           "\"request\":\"{\\\"offset\\\":0}\",\"response\":\"{\\\"type"));
    assert_int_equal(js_rig_js_account(rig)->api_total, 1);
    assert_int_equal(js_rig_js_account(rig)->api_errors, 0);
}

/* An account that goes while its request waits for the log is not answered any more, and nothing is left of it. */
static void accounts_may_go_with_requests_under_way(void **state)
{
    struct js_rig *rig = *state;
    struct rb_js_account *account = js_rig_js_account(rig);
    js_rig_listen(rig, "in");
    js_rig_publish(rig, "$JS.API.STREAM.CREATE.S", "in", NULL, "{\"name\":\"S\"}");
    rb_js_api_close(account);
    js_rig_settle(rig);
    assert_int_equal(js_rig_heard(rig, "in"), 0);
    assert_non_null(js_rig_stream(rig, "S"));
    assert_int_equal(rb_js_api_open(account), RB_OK);
    assert_non_null(js_rig_request(rig, "$JS.API.STREAM.INFO.S", NULL, ""));
}

static void requests_are_bounded(void **state)
{
    struct js_rig *rig = *state;
    struct rb_js_api *api = js_rig_js_account(rig)->api;
    const char *missing =
        "{\"type\":\"io.nats.jetstream.api.v1.stream_delete_response\",\"error\":{\"code\":404,"
        "\"err_code\":10059,\"description\":\"stream not found\"}}";
    api->request_count += RB_JS_REQUESTS_MAX;
    api->query_count += RB_JS_REQUESTS_MAX;
    expect(rig, "STREAM.NAMES", "", NULL);
    assert_int_equal(js_rig_js_account(rig)->api_total, 0);
    expect(rig, "STREAM.DELETE.X", "", missing);
    api->query_count -= RB_JS_REQUESTS_MAX;
    expect(rig, "STREAM.DELETE.X", "", NULL);
    api->request_count -= RB_JS_REQUESTS_MAX;
    expect(rig, "STREAM.DELETE.X", "", missing);
    expect(rig, "STREAM.NAMES", "",
           TYPE("stream_names") ",\"total\":0,\"offset\":0,\"limit\":1024,\"streams\":null}");
    assert_int_equal(api->request_count, 0);
    assert_int_equal(api->query_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(streams_live_and_end, setup, teardown),
        cmocka_unit_test_setup_teardown(requests_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(lenient_servers_ignore_unknown_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(levels_are_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(accounts_without_jetstream_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_are_got_and_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(details_are_paged, setup, teardown),
        cmocka_unit_test_setup_teardown(consumers_are_made_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(identities_tell_streams_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(audits_say_who_asked_what, setup, teardown),
        cmocka_unit_test_setup_teardown(accounts_may_go_with_requests_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(requests_are_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
