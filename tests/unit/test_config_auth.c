/* Accounts, users, permissions, exports, imports, mappings: what becomes of them, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/config.h"

#define SECOND_NS 1000000000ll
#define USER_KEY "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
#define USER_KEY_2 "UAYDCMRTGQ2TMNZYHFQWEY3EMVTDAMJSGM2DKNRXHA4WCYTDMRSWNN5Y"
#define ACCOUNT_KEY "AAYDCMRTGQ2TMNZYHFQWEY3EMVTDAMJSGM2DKNRXHA4WCYTDMRSWMJOH"
#define CURVE_KEY "XAYDCMRTGQ2TMNZYHFQWEY3EMVTDAMJSGM2DKNRXHA4WCYTDMRSWMG6K"
#define SEED "SAYDCMRTGQ2TMNZYHFQWEY3EMVTDAMJSGM2DKNRXHA4WCYTDMRSWN325"

static struct rb_config config;

static int give_back(void **state)
{
    (void)state;
    rb_config_deinit(&config);
    return 0;
}

static const struct rb_policy *load(const char *text)
{
    char error[RB_CONFIG_ERROR_MAX];
    rb_config_deinit(&config);
    rb_config_defaults(&config);
    if (rb_config_load_text(&config, "t.conf", rb_slice_text(text), error) != RB_OK) {
        fail_msg("'%s' is refused: %s", text, error);
    }
    assert_string_equal(error, "");
    assert_true(config.policy->sealed);
    return config.policy;
}

static void expect_error(const char *text, const char *wanted)
{
    struct rb_config other;
    char error[RB_CONFIG_ERROR_MAX] = "";
    rb_config_defaults(&other);
    enum rb_err err = rb_config_load_text(&other, "t.conf", rb_slice_text(text), error);
    if (err != RB_ERR_INVALID || strcmp(error, wanted) != 0) {
        fail_msg("'%s' gives '%s', not '%s'", text, error, wanted);
    }
    assert_null(other.policy);
}

static void is(struct rb_slice slice, const char *wanted)
{
    if (!rb_slice_equal(slice, rb_slice_text(wanted))) {
        fail_msg("'%.*s' is not '%s'", RB_S_ARG(slice), wanted);
    }
}

static void the_two_accounts_are_always_there(void **state)
{
    (void)state;
    const struct rb_policy *policy = load("");
    assert_int_equal(policy->account_count, 2);
    is(policy->accounts[0].name, "$G");
    is(policy->accounts[1].name, "$SYS");
    assert_int_equal(policy->system_account, 1);
    assert_int_equal(policy->accounts[0].id, UINT32_MAX);
    assert_int_equal(policy->accounts[0].limits.connections, -1);
    policy = load("no_system_account: true");
    assert_int_equal(policy->account_count, 1);
    assert_int_equal(policy->system_account, -1);
}

static void accounts_have_their_places(void **state)
{
    (void)state;
    const struct rb_policy *policy =
        load("accounts {A: {}, b: {users: [{user: u, pass: p}]}, S {}}\nsystem_account: S");
    assert_int_equal(policy->account_count, 4);
    is(policy->accounts[1].name, "S");
    is(policy->accounts[2].name, "A");
    is(policy->accounts[3].name, "b");
    assert_int_equal(policy->users[0].account, 3);
    policy = load("accounts [A, B]");
    assert_int_equal(policy->account_count, 4);
    policy = load("accounts {\"$SYS\": {users: [{user: u, pass: p}]}}");
    assert_int_equal(policy->account_count, 2);
    assert_int_equal(policy->users[0].account, 1);
    policy = load("accounts {A: {nkey: " ACCOUNT_KEY
                  ", limits {max_conn: 1, max_subs: 2, max_pay: 3, max_leafs: -7}}}");
    is(policy->accounts[2].nkey, ACCOUNT_KEY);
    assert_int_equal(policy->accounts[2].limits.connections, 1);
    assert_int_equal(policy->accounts[2].limits.subscriptions, 2);
    assert_int_equal(policy->accounts[2].limits.payload, 3);
    assert_int_equal(policy->accounts[2].limits.leafnodes, -1);
}

static void accounts_have_jetstream(void **state)
{
    (void)state;
    assert_null(load("accounts {A: {jetstream: disabled}}")->accounts[2].jetstream);
    const struct rb_policy_jetstream *js =
        load("accounts {A: {jetstream: enabled}}")->accounts[2].jetstream;
    assert_non_null(js);
    assert_int_equal(js->max_storage, -1);
    js = load("accounts {A: {jetstream: {max_mem: 1, max_file: 2, streams: 3, consumers: 4,"
              " max_bytes: true, max_ack_pending: 5, mem_max_stream_bytes: 6,"
              " disk_max_stream_bytes: 7}}}")
             ->accounts[2]
             .jetstream;
    assert_int_equal(js->max_memory, 1);
    assert_int_equal(js->max_storage, 2);
    assert_int_equal(js->max_streams, 3);
    assert_int_equal(js->max_consumers, 4);
    assert_true(js->max_bytes_required);
    assert_int_equal(js->max_ack_pending, 5);
    assert_int_equal(js->memory_max_stream_bytes, 6);
    assert_int_equal(js->storage_max_stream_bytes, 7);
}

static void accounts_are_checked(void **state)
{
    (void)state;
    expect_error("accounts {\"$G\": {}}", "t.conf:1:11: \"$G\" is a Reserved Account");
    expect_error("accounts [A, A]", "t.conf:1:13: Duplicate Account Entry: A");
    expect_error("accounts {A: 1}", "t.conf:1:10: Expected map entries for accounts");
    expect_error("accounts {\"\": {}}", "t.conf:1:11: an account needs a name");
    expect_error("accounts {A: {foo: 1}}", "t.conf:1:14: unknown field \"foo\"");
    expect_error("accounts {A: {nkey: foo}}",
                 "t.conf:1:14: Not a valid public nkey for an account: \"foo\"");
    expect_error("accounts {A: {nkey: " USER_KEY "}}",
                 "t.conf:1:14: Not a valid public nkey for an account: \"" USER_KEY "\"");
    expect_error("accounts {A: {limits {foo: 1}}}",
                 "t.conf:1:22: Unknown field \"foo\" parsing account limits");
    expect_error("accounts {A: {msg_trace: 5}}",
                 "t.conf:1:14: Expected account message trace \"msg_trace\" to be a string or a "
                 "map/struct, got int64");
    expect_error("accounts {A: {msg_trace: \"a.*\"}}",
                 "t.conf:1:14: Trace destination \"a.*\" is not valid");
    expect_error("system_account: NOPE",
                 "t.conf:1:0: error resolving system account: account missing");
    expect_error("system_account: 5", "t.conf:1:0: system account name must be a string");
}

static void users_and_nkeys(void **state)
{
    (void)state;
    const struct rb_policy *policy =
        load("authorization {users: [{user: a, pass: \"$2a$11$xyz\", proxy_required: true}\n"
             "{nkey: " USER_KEY ", allowed_connection_types: [standard, WEBSOCKET]}\n"
             "{username: b, password: p}]}\nno_auth_user: b");
    assert_int_equal(policy->user_count, 3);
    assert_int_equal(policy->nkey_count, 1);
    is(policy->users[0].pass, "$2a$11$xyz");
    assert_true(policy->users[0].proxy_required);
    assert_int_equal(policy->users[0].types, RB_TYPE_ALL);
    assert_int_equal(policy->users[1].types, RB_TYPE_STANDARD | RB_TYPE_WEBSOCKET);
    assert_int_equal(policy->login.no_auth_user, 2);
    assert_ptr_equal(rb_policy_user_by_name(policy, RB_S("b")), &policy->users[2]);
    assert_ptr_equal(rb_policy_user_by_nkey(policy, RB_S(USER_KEY)), &policy->users[1]);
    assert_true(policy->plain_passwords);
    assert_false(load("authorization {users: [{user: a, pass: \"$2a$11$xyz\"}]}")->plain_passwords);
    assert_true(load("authorization {token: t}")->plain_passwords);
    policy = load("no_auth_user: " USER_KEY "\nauthorization {users: [{nkey: " USER_KEY "}]}");
    assert_int_equal(policy->login.no_auth_user, 0);
    assert_int_equal(load("")->login.no_auth_user, -1);
}

static void users_are_checked(void **state)
{
    (void)state;
    expect_error("authorization {users: [c]}",
                 "t.conf:1:23: Expected user entry to be a map/struct, got c");
    expect_error("authorization {users: c}",
                 "t.conf:1:15: Expected users field to be an array, got c");
    expect_error("authorization {users: [{password: c}]}",
                 "t.conf:1:24: User entry requires a user");
    expect_error("authorization {users: [{}]}", "t.conf:1:25: User entry requires a user");
    expect_error("authorization {users: [{user: a, pass: b, foo: 1}]}",
                 "t.conf:1:42: unknown field \"foo\"");
    expect_error("authorization {users: [{user: c}, {user: c}]}",
                 "t.conf:1:0: Duplicate user \"c\" detected");
    expect_error("authorization {users: [{nkey: " USER_KEY "}, {nkey: " USER_KEY "}]}",
                 "t.conf:1:0: Duplicate nkey \"" USER_KEY "\" detected");
    expect_error("accounts {A: {users: [{user: a}]}, B: {users: [{user: a}]}}",
                 "t.conf:1:39: Duplicate user \"a\" detected");
    expect_error("authorization {users: [{nkey: " SEED "}]}",
                 "t.conf:1:24: Not a valid public nkey for a user");
    expect_error("authorization {users: [{nkey: " ACCOUNT_KEY "}]}",
                 "t.conf:1:24: Not a valid public nkey for a user");
    expect_error("authorization {users: [{nkey: " USER_KEY_2 ", pass: b}]}",
                 "t.conf:1:88: Nkey users do not take usernames or passwords");
    expect_error("authorization {users: [{user: a, allowed_connection_types: [standard, foo]}]}",
                 "t.conf:1:33: invalid connection types [\"FOO\"]");
    expect_error("authorization {user: a, pass: b, users: [{user: c}]}",
                 "t.conf:1:0: Can not have a single user/pass and a users array");
    expect_error("authorization {token: b, users: [{user: c}]}",
                 "t.conf:1:0: Can not have a token and a users array");
    expect_error("accounts {A: {users: [{user: a}]}}\nauthorization {token: x}",
                 "t.conf:2:1: Can not have a token and a users array");
    expect_error("no_auth_user: x", "t.conf:1:0: no_auth_user: \"x\" present, but users/nkeys are "
                                    "not defined");
    expect_error("no_auth_user: x\nauthorization {users: [{user: a}]}",
                 "t.conf:1:0: no_auth_user: \"x\" not present as user or nkey in authorization "
                 "block or account configuration");
    expect_error("authorization {auth_callout: {}}",
                 "t.conf:1:15: option \"auth_callout\" is not supported by ringbus yet");
}

/* Refusals must name the wrong thing, and never show a password. */
static void errors_hold_no_secrets(void **state)
{
    (void)state;
    struct rb_config other;
    char error[RB_CONFIG_ERROR_MAX];
    static const char *const texts[] = {
        "authorization {user: a, pass: hush, token: hush}",
        "authorization {users: [{user: a, pass: hush}, {user: a, pass: hush}]}",
        "authorization {users: [{pass: hush}]}",
        "authorization {pass: [hush]}",
        "authorization {users: [{user: u, pass: {x: hush}}]}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        rb_config_defaults(&other);
        assert_int_equal(rb_config_load_text(&other, "t.conf", rb_slice_text(texts[i]), error),
                         RB_ERR_INVALID);
        assert_null(strstr(error, "hush"));
    }
}

static void permission_lists(void **state)
{
    (void)state;
    const struct rb_policy *policy = load(
        "authorization {default_permissions: {publish: \"d\"}\n"
        "users: [{user: a, pass: b, permissions: {publish: {allow: [\"x\", \"y.>\"], deny: z}\n"
        "  subscribe: [\"s q.*\", \"t\"], allow_responses: {max: 5, expires: \"1m\"}}}\n"
        "{user: c}, {user: d, permissions: {pub: [], allow_responses: true}}\n"
        "{user: e, permissions: {allow_responses: {max: -1, ttl: \"-1s\"}}}\n"
        "{user: f, permissions: {import: i, export: j, allow_responses: false}}\n"
        "{user: g, permissions: {pub: [], sub: {allow: [], deny: []}}}]}");
    const struct rb_permissions *p = policy->users[0].permissions;
    assert_int_equal(p->publish_allow.count, 2);
    is(p->publish_allow.entries[1].subject, "y.>");
    assert_int_equal(p->publish_deny.count, 1);
    assert_int_equal(p->subscribe_allow.count, 2);
    is(p->subscribe_allow.entries[0].subject, "s");
    is(p->subscribe_allow.entries[0].queue, "q.*");
    assert_int_equal(p->subscribe_allow.entries[1].queue.len, 0);
    assert_false(p->subscribe_deny.set);
    assert_true(p->responses);
    assert_int_equal(p->responses_max, 5);
    assert_int_equal(p->responses_ttl_ns, 60 * SECOND_NS);
    assert_ptr_equal(policy->users[1].permissions, policy->default_permissions);
    p = policy->users[2].permissions;
    assert_true(p->publish_allow.set && p->publish_allow.count == 0);
    assert_int_equal(p->responses_max, 1);
    assert_int_equal(p->responses_ttl_ns, 120 * SECOND_NS);
    p = policy->users[3].permissions;
    assert_true(p->publish_allow.set && p->publish_allow.count == 0); /* responses only */
    assert_int_equal(p->responses_max, -1);
    assert_int_equal(p->responses_ttl_ns, -1);
    p = policy->users[4].permissions;
    is(p->publish_allow.entries[0].subject, "i");
    is(p->subscribe_allow.entries[0].subject, "j");
    assert_false(p->responses);
    p = policy->users[5].permissions; /* empty is as not given */
    assert_false(p->publish_allow.set || p->subscribe_allow.set || p->subscribe_deny.set);
    policy = load("accounts {A: {default_permissions: {sub: x}, users: [{user: a}]}, "
                  "B: {users: [{user: b}]}}\nauthorization {default_permissions: {pub: y}}");
    is(policy->users[0].permissions->subscribe_allow.entries[0].subject, "x");
    assert_false(policy->users[0].permissions->publish_allow.set);
    assert_null(policy->users[1].permissions); /* defaults are of their own block only */
}

static void permission_lists_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *permissions, *wanted;
    } rows[] = {
        { "a", "t.conf:1:33: Expected permissions to be a map/struct, got a" },
        { "{foo: a}", "t.conf:1:47: Unknown field \"foo\" parsing permissions" },
        { "{pub: \"a..b\"}", "t.conf:1:47: subject \"a..b\" is not a valid subject" },
        { "{pub: \"a b\"}", "t.conf:1:47: subject \"a b\" is not a valid subject" },
        { "{pub: [\"\"]}", "t.conf:1:54: subject \"\" is not a valid subject" },
        { "{sub: \"a b c\"}", "t.conf:1:47: subject \"a b c\" is not a valid subject" },
        { "{sub: \" a\"}", "t.conf:1:47: subject \" a\" is not a valid subject" },
        { "{sub: \"a q..x\"}", "t.conf:1:47: queue \"q..x\" is not a valid queue" },
        { "{pub: 1}", "t.conf:1:47: Expected subject permissions to be a subject, or array of "
                      "subjects, got int64" },
        { "{pub: [true]}", "t.conf:1:53: Subject in permissions array cannot be cast to string" },
        { "{pub: {foo: a}}", "t.conf:1:53: Unknown field name \"foo\" parsing subject permissions, "
                             "only 'allow' or 'deny' are permitted" },
        { "{allow_responses: 5}", "t.conf:1:47: error parsing response permissions, expected a "
                                  "boolean or a map" },
        { "{allow_responses: {ttl: 5}}",
          "t.conf:1:65: error parsing expires, not a duration string" },
        { "{allow_responses: {ttl: x}}",
          "t.conf:1:65: error parsing expires: time: invalid duration \"x\"" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "authorization {users: [{user: a, permissions: %s}]}",
                 rows[i].permissions);
        expect_error(text, rows[i].wanted);
    }
}

static void logins_and_timeouts(void **state)
{
    (void)state;
    const struct rb_policy *policy = load("authorization {user: u, pass: p, timeout: 5}");
    is(policy->login.user, "u");
    is(policy->login.pass, "p");
    assert_int_equal(policy->login.timeout_ns, 5 * SECOND_NS);
    assert_false(policy->proxy_required);
    policy = load("authorization {token: t, proxy_required: true}\nproxies {trusted: "
                  "[{key: " USER_KEY "}, {public_key: " CURVE_KEY "}]}");
    is(policy->login.token, "t");
    assert_true(policy->proxy_required);
    assert_int_equal(policy->proxy_count, 2);
    is(policy->proxies[1], CURVE_KEY);
    expect_error("proxies {trusted: [{key: foo}]}", "t.conf:1:20: invalid proxy key \"foo\"");
    expect_error("proxies {trusted: [{key: a, KEY: b, Key: c, kEy: d}]}",
                 "t.conf:1:20: invalid proxy key \"a\"\nt.conf:1:28: invalid proxy key \"b\"\n"
                 "t.conf:1:36: invalid proxy key \"c\"\nt.conf:1:44: invalid proxy key \"d\"");
    expect_error("proxies 5", "t.conf:1:0: expected proxies to be a map/struct, got int64");
}

static void exports(void **state)
{
    (void)state;
    const struct rb_policy *policy = load(
        "accounts {A: {exports: [{stream: \"s.>\", accounts: [B]}\n"
        "{service: r, response_type: stream, response_threshold: \"5s\", allow_trace: true}\n"
        "{service: \"l.*\", latency: {subject: lat, sampling: \"25%\"}, account_token_position: "
        "2}\n"
        "{service: h, latency: {subject: lat, sampling: headers}}, {service: p, latency: lat}\n"
        "{service: r, response_type: chunked}]}, B: {}}");
    const struct rb_policy_account *a = &policy->accounts[2];
    assert_int_equal(a->export_count, 5);
    assert_true(!a->exports[0].service && a->exports[0].restricted);
    assert_int_equal(a->exports[0].account_count, 1);
    assert_int_equal(a->exports[0].accounts[0], 3);
    assert_int_equal(a->exports[1].response, RB_RESPONSE_CHUNKED); /* the last one counts */
    is(a->exports[2].latency_subject, "lat");
    assert_int_equal(a->exports[2].latency_sampling, 25);
    assert_int_equal(a->exports[2].account_token_position, 2);
    assert_true(a->exports[2].restricted);
    assert_int_equal(a->exports[3].latency_sampling, 0);
    assert_int_equal(a->exports[4].latency_sampling, 100);
}

static void exports_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *export, *wanted;
    } rows[] = {
        { "{stream: \"a..b\"}", "t.conf:1:25: subject \"a..b\" is not a valid subject" },
        { "{}", "t.conf:1:26: an export needs a stream or a service" },
        { "{stream: a, foo: 1}", "t.conf:1:36: unknown field \"foo\"" },
        { "{stream: a, accounts: [X]}", "t.conf:1:0: \"X\" account not defined for stream export" },
        { "{stream: a, accounts: [\"$G\"]}",
          "t.conf:1:0: \"$G\" account not defined for stream export" },
        { "{stream: a, latency: x}", "t.conf:1:36: Detected latency directive on non-service" },
        { "{response: single, stream: a}",
          "t.conf:1:25: Detected response directive on non-service" },
        { "{service: a, response: foo}", "t.conf:1:37: Unknown response type: \"foo\"" },
        { "{service: a, latency: {subject: b, sampling: 101}}",
          "t.conf:1:59: bad sampling percentage, should be 1-100" },
        { "{service: a, latency: {subject: \"b.*\"}}",
          "t.conf:1:0: Error adding service latency sampling for \"a\" on subject \"b.*\": invalid "
          "publish subject" },
        { "{service: a, response: stream, latency: b}",
          "t.conf:1:0: Error adding service latency sampling for \"a\" on subject \"b\": bad "
          "service response type" },
        { "{service: \"a.*\", account_token_position: 1}",
          "t.conf:1:0: Error adding service export \"a.*\": sublist: invalid subject" },
        { "{service: \"a.*\", account_token_position: 5}",
          "t.conf:1:0: Error adding service export \"a.*\": sublist: invalid subject" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "accounts {A: {exports: [%s]}}", rows[i].export);
        expect_error(text, rows[i].wanted);
    }
}

#define SHARED                                                                                     \
    "accounts {A: {exports: [{stream: \"a.>\"}, {service: \"q.>\"}, {stream: p, accounts: [B]}, "  \
    "{stream: \"t.*\", account_token_position: 2}]}, B: {}, C: {imports: [%s]}}"

static void imports(void **state)
{
    (void)state;
    char text[1024];
    snprintf(text, sizeof(text), SHARED,
             "{stream: {account: A, subject: \"a.b\"}, prefix: x, allow_trace: true}\n"
             "{stream: {account: A, subject: \"a.*.*\"}, to: \"y.$2.$1\"}\n"
             "{service: {account: A, subject: \"q.*\"}, to: \"z.*\", share: true}\n"
             "{stream: {account: A, subject: \"t.C\"}}");
    const struct rb_policy_account *c = &load(text)->accounts[4];
    assert_int_equal(c->import_count, 4);
    is(c->imports[0].prefix, "x");
    assert_true(c->imports[0].allow_trace && !c->imports[0].service);
    assert_int_equal(c->imports[0].account, 2);
    is(c->imports[1].to, "y.$2.$1");
    is(c->imports[2].subject, "q.*");
    is(c->imports[2].to, "z.$1"); /* as a transform's destination */
    assert_true(c->imports[2].service && c->imports[2].share);
}

static void imports_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *import, *wanted;
    } rows[] = {
        { "{stream: {account: A, subject: b}}",
          "t.conf:1:0: Error adding stream import \"b\": stream import not authorized" },
        { "{stream: {account: A, subject: p}}",
          "t.conf:1:0: Error adding stream import \"p\": stream import not authorized" },
        { "{stream: {account: A, subject: t.D}}",
          "t.conf:1:0: Error adding stream import \"t.D\": stream import not authorized" },
        { "{service: {account: A, subject: a.b}}",
          "t.conf:1:0: Error adding service import \"a.b\": service import not authorized" },
        { "{stream: {account: X, subject: a}}",
          "t.conf:1:0: \"X\" account not defined for stream import" },
        { "{service: {account: \"$SYS\", subject: a}}",
          "t.conf:1:0: \"$SYS\" account not defined for service import" },
        { "{stream: {account: A, subject: a.b}, prefix: \"x.*\"}",
          "t.conf:1:0: Error adding stream import \"a.b\": stream import prefix can not contain "
          "wildcard tokens" },
        { "{stream: {account: A, subject: \"a.*\"}, to: x}",
          "t.conf:1:0: Error adding stream import \"a.*\": failed to create mapping transform for "
          "stream import subject from \"a.*\" to \"x\": invalid mapping destination: not using all "
          "of the token wildcard(s) in x" },
        { "{stream: {account: A, subject: a.b}} {stream: {account: A, subject: a.b}}",
          "t.conf:1:0: Error adding stream import \"a.b\": stream import already exists" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[1024], list[256];
        snprintf(list, sizeof(list), "%s", rows[i].import);
        char *second = strstr(list, "} {stream");
        if (second != NULL) {
            second[1] = ',';
        }
        snprintf(text, sizeof(text), SHARED, list);
        expect_error(text, rows[i].wanted);
    }
}

static void cycles_are_refused(void **state)
{
    (void)state;
    /* Two, three, by way of prefixes and wildcards; and a way that looks like one and is not. */
    expect_error("accounts {A: {exports: [{service: q}], imports: [{service: {account: B, subject: "
                 "q}}]}, B: {exports: [{service: q}], imports: [{service: {account: A, subject: "
                 "q}}]}}",
                 "t.conf:1:0: Error adding service import \"q\": import forms a cycle");
    expect_error("accounts {A: {exports: [{stream: a}], imports: [{stream: {account: B, subject: "
                 "b}, to: a}]}, B: {exports: [{stream: b}], imports: [{stream: {account: C, "
                 "subject: c}, to: b}]}, C: {exports: [{stream: c}], imports: [{stream: {account: "
                 "A, subject: a}, to: c}]}}",
                 "t.conf:1:0: Error adding stream import \"b\": import forms a cycle");
    expect_error("accounts {A: {exports: [{stream: \"x.>\"}], imports: [{stream: {account: B, "
                 "subject: \"y.>\"}, prefix: x}]}, B: {exports: [{stream: \"y.>\"}], imports: "
                 "[{stream: {account: A, subject: \"x.*.*\"}, to: \"y.$1.$2\"}]}}",
                 "t.conf:1:0: Error adding stream import \"y.>\": import forms a cycle");
    (void)load("accounts {A: {exports: [{service: a}], imports: [{service: {account: B, subject: "
               "b}, to: z}]}, B: {exports: [{service: b}], imports: [{service: {account: A, "
               "subject: a}, to: y}]}}");
    (void)load("accounts {A: {exports: [{service: a}], imports: [{service: {account: A, subject: "
               "a}, to: b}]}}");
}

static void mappings(void **state)
{
    (void)state;
    const struct rb_policy *policy = load(
        "mappings: {a: b, \"c.*\": [{destination: \"d.$1\", weight: \"40%\"}, {dest: e, weight: "
        "60, cluster: k}], f: []}\naccounts {A: {maps: {x: {dest: y, weight: 7}}}}");
    const struct rb_policy_account *global = &policy->accounts[0];
    assert_int_equal(global->mapping_count, 2);
    is(global->mappings[0].source, "a");
    is(global->mappings[0].targets[0].subject, "b");
    assert_int_equal(global->mappings[0].targets[0].weight, 100);
    assert_int_equal(global->mappings[1].target_count, 2);
    assert_int_equal(global->mappings[1].targets[0].weight, 40);
    is(global->mappings[1].targets[1].cluster, "k");
    assert_int_equal(policy->accounts[2].mappings[0].targets[0].weight, 7);
}

static void mappings_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *mapping, *wanted;
    } rows[] = {
        { "\"a..b\": x", "t.conf:1:0: Subject \"a..b\" is not a valid subject" },
        { "a: \"b.*\"",
          "t.conf:1:11: Error adding mapping for \"a\" to \"b.*\" : invalid subject" },
        { "a: 1", "t.conf:1:11: Expected an entry for the mapping destination" },
        { "a: {dest: x}", "t.conf:1:11: Missing weight for mapping destination \"x\"" },
        { "a: {weight: 5}", "t.conf:1:11: Missing destination for mapping" },
        { "a: {dest: x, weight: 101}", "t.conf:1:24: Invalid weight 101 for mapping destination" },
        { "a: {dest: x, weight: \"x%\"}",
          "t.conf:1:24: Invalid weight \"x\" for mapping destination" },
        { "a: {dest: x, weight: 1.5}", "t.conf:1:24: Unknown entry type for weight of 1.5" },
        { "a: {dest: x, foo: 1}", "t.conf:1:24: Unknown field \"foo\" for mapping destination" },
        { "a: [{dest: x, weight: 50}, {dest: y, weight: 51}]",
          "t.conf:1:11: Error adding mapping for \"a\" : total weight needs to be <= 100" },
        { "a: [{dest: x, weight: 5}, {dest: x, weight: 5}]",
          "t.conf:1:11: Error adding mapping for \"a\" : duplicate entry for \"x\"" },
        { "\"a.*\": \"b.$2\"", "t.conf:1:12: Error adding mapping for \"a.*\" to \"b.$2\" : "
                               "invalid mapping destination: "
                               "wildcard index out of range in $2: [2]" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "mappings: {%s}", rows[i].mapping);
        expect_error(text, rows[i].wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_two_accounts_are_always_there, give_back),
        cmocka_unit_test_teardown(accounts_have_their_places, give_back),
        cmocka_unit_test_teardown(accounts_are_checked, give_back),
        cmocka_unit_test_teardown(accounts_have_jetstream, give_back),
        cmocka_unit_test_teardown(users_and_nkeys, give_back),
        cmocka_unit_test_teardown(users_are_checked, give_back),
        cmocka_unit_test_teardown(errors_hold_no_secrets, give_back),
        cmocka_unit_test_teardown(permission_lists, give_back),
        cmocka_unit_test_teardown(permission_lists_are_checked, give_back),
        cmocka_unit_test_teardown(logins_and_timeouts, give_back),
        cmocka_unit_test_teardown(exports, give_back),
        cmocka_unit_test_teardown(exports_are_checked, give_back),
        cmocka_unit_test_teardown(imports, give_back),
        cmocka_unit_test_teardown(imports_are_checked, give_back),
        cmocka_unit_test_teardown(cycles_are_refused, give_back),
        cmocka_unit_test_teardown(mappings, give_back),
        cmocka_unit_test_teardown(mappings_are_checked, give_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
