/* Options: which are in force, what they accept, and that every other one is refused by its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ringbus/bounds.h"
#include "server/config.h"

#define SECOND_NS 1000000000ull

static struct rb_config load(const char *text)
{
    struct rb_config config;
    char error[RB_CONFIG_ERROR_MAX];
    rb_config_defaults(&config);
    if (rb_config_load_text(&config, "t.conf", rb_slice_text(text), error) != RB_OK) {
        fail_msg("'%s' is refused: %s", text, error);
    }
    assert_string_equal(error, "");
    return config;
}

/** A refused text leaves the configuration as it was. */
static void expect_error(const char *text, const char *wanted)
{
    static struct rb_config config, before;
    char error[RB_CONFIG_ERROR_MAX] = "";
    rb_config_defaults(&config);
    before = config;
    enum rb_err err = rb_config_load_text(&config, "t.conf", rb_slice_text(text), error);
    if (err != RB_ERR_INVALID || strcmp(error, wanted) != 0) {
        fail_msg("'%s' gives '%s', not '%s'", text, error, wanted);
    }
    assert_memory_equal(&config, &before, sizeof(config));
}

static void defaults_are_those_of_nats_server(void **state)
{
    (void)state;
    struct rb_config config = load("");
    assert_string_equal(config.host, "0.0.0.0");
    assert_int_equal(config.port, 4222);
    assert_true(config.logtime);
    assert_false(config.debug || config.trace || config.logtime_utc || config.no_header_support);
    assert_int_equal(config.max_connections, 65536);
    assert_int_equal(config.max_control_line, 4096);
    assert_int_equal(config.max_payload, 1048576);
    assert_int_equal(config.max_pending_bytes, 67108864);
    assert_int_equal(config.ping_interval_ns, 120 * SECOND_NS);
    assert_int_equal(config.ping_max, 2);
    assert_int_equal(config.write_deadline_ns, 10 * SECOND_NS);
    assert_int_equal(config.auth_timeout_ns, 2 * SECOND_NS);
    assert_int_equal(config.shards, 0);
    assert_string_equal(config.transport, "uring");
}

static void every_option_has_its_effect(void **state)
{
    (void)state;
    struct rb_config config = load(
        "host: h.example; port: 1\nclient_advertise: a:2\nserver_name: n1\ndebug: true\ntrace: on\n"
        "logtime: off\nlogtime_utc: yes\nlog_file: \"l.log\"\npid_file: 'p.pid'\n"
        "max_traced_msg_len: 100\nmax_connections: 7\nmax_subscriptions: 8\nmax_sub_tokens: 9\n"
        "max_control_line: 1KB\nmax_payload: 2MB\nmax_pending: 3MB\nping_interval: "
        "\"30s\"\nping_max: 4\n"
        "write_deadline: \"1m30s\"\nwrite_timeout: close\nno_header_support: true\n"
        "no_fast_producer_stall: true\nshards: 3\ntransport: uring\nmemory_budget: 1GB\n");
    assert_string_equal(config.host, "h.example");
    assert_int_equal(config.port, 1);
    assert_string_equal(config.client_advertise, "a:2");
    assert_string_equal(config.server_name, "n1");
    assert_true(config.debug && config.trace && config.logtime_utc && config.no_header_support);
    assert_false(config.logtime);
    assert_string_equal(config.log_file, "l.log");
    assert_string_equal(config.pid_file, "p.pid");
    assert_int_equal(config.max_traced_msg_bytes, 100);
    assert_int_equal(config.max_connections, 7);
    assert_int_equal(config.max_subscriptions, 8);
    assert_int_equal(config.max_sub_tokens, 9);
    assert_int_equal(config.max_control_line, 1024);
    assert_int_equal(config.max_payload, 2 << 20);
    assert_int_equal(config.max_pending_bytes, 3 << 20);
    assert_int_equal(config.ping_interval_ns, 30 * SECOND_NS);
    assert_int_equal(config.ping_max, 4);
    assert_int_equal(config.write_deadline_ns, 90 * SECOND_NS);
    assert_int_equal(config.shards, 3);
    assert_int_equal(config.memory_budget_bytes, 1 << 30);
}

static void aliases_and_case(void **state)
{
    (void)state;
    struct rb_config config = load("Net: h\nLOGFILE: l\npidfile: p\nmax_conn: 1\nmax_subs: 2\n"
                                   "max_subscription_tokens: 3\n"
                                   "authorization {username: u, password: w}\n");
    assert_string_equal(config.host, "h");
    assert_string_equal(config.log_file, "l");
    assert_string_equal(config.pid_file, "p");
    assert_int_equal(config.max_connections, 1);
    assert_int_equal(config.max_subscriptions, 2);
    assert_int_equal(config.max_sub_tokens, 3);
    assert_string_equal(config.user, "u");
    assert_string_equal(config.pass, "w");
}

static void listen_forms(void **state)
{
    (void)state;
    struct rb_config config = load("listen: 127.0.0.1:-1");
    assert_string_equal(config.host, "127.0.0.1");
    assert_int_equal(config.port, -1);
    config = load("listen: \"[::1]:4223\"");
    assert_string_equal(config.host, "::1");
    assert_int_equal(config.port, 4223);
    config = load("listen: :4224");
    assert_string_equal(config.host, "0.0.0.0");
    assert_int_equal(config.port, 4224);
    config = load("listen: 4225");
    assert_int_equal(config.port, 4225);
    config = load("port: 0");
    assert_int_equal(config.port, 4222);
    expect_error("listen: foo", "t.conf:1:0: could not parse address string \"foo\"");
    expect_error("listen: \"::1:4222\"", "t.conf:1:0: could not parse address string \"::1:4222\"");
    expect_error("listen: \"foo:bar\"", "t.conf:1:0: could not parse port \"bar\"");
    expect_error("listen: \"a:\"", "t.conf:1:0: could not parse port \"\"");
    expect_error("listen: true", "t.conf:1:0: expected port or host:port, got bool");
    expect_error("port: 65536", "t.conf:1:0: port 65536 is not between -1 and 65535");
    expect_error("listen: \"h:-2\"", "t.conf:1:0: port -2 is not between -1 and 65535");
}

static void zero_and_below(void **state)
{
    (void)state;
    struct rb_config config = load("max_connections: 0\nmax_subs: -1\nmax_traced_msg_len: -1\n"
                                   "max_payload: 0\nping_interval: \"0\"\nping_max: 0\n");
    assert_int_equal(config.max_connections, -1);
    assert_int_equal(config.max_subscriptions, 0);
    assert_int_equal(config.max_traced_msg_bytes, 0);
    assert_int_equal(config.max_payload, 1048576);
    assert_int_equal(config.ping_interval_ns, 120 * SECOND_NS);
    assert_int_equal(config.ping_max, 2);
    expect_error("max_payload: -1", "t.conf:1:0: max_payload value can not be negative");
    expect_error("max_payload: 3GB", "t.conf:1:0: max_payload value is too big");
    expect_error("max_control_line: 3GB", "t.conf:1:0: max_control_line value is too big");
    expect_error("max_sub_tokens: 0", "t.conf:1:0: max_sub_tokens value can not be negative");
    expect_error("max_sub_tokens: 256", "t.conf:1:0: max_sub_tokens value is too big");
    expect_error("ping_interval: \"-5s\"", "t.conf:1:0: ping_interval value can not be negative");
}

static void durations(void **state)
{
    (void)state;
    assert_int_equal(load("ping_interval: \"1.5h\"").ping_interval_ns, 5400 * SECOND_NS);
    assert_int_equal(load("ping_interval: \".5s\"").ping_interval_ns, SECOND_NS / 2);
    assert_int_equal(load("ping_interval: \"1h2m3s4ms5us6ns\"").ping_interval_ns,
                     3723 * SECOND_NS + 4005006);
    assert_int_equal(load("ping_interval: \"7\xc2\xb5s\"").ping_interval_ns, 7000);
    expect_error(
        "ping_interval: \"5x\"",
        "t.conf:1:0: error parsing ping_interval: time: unknown unit \"x\" in duration \"5x\"");
    expect_error("ping_interval: \"5\"",
                 "t.conf:1:0: error parsing ping_interval: time: missing unit in duration \"5\"");
    expect_error("ping_interval: \"\"",
                 "t.conf:1:0: error parsing ping_interval: time: invalid duration \"\"");
    expect_error("ping_interval: \".\"",
                 "t.conf:1:0: error parsing ping_interval: time: invalid duration \".\"");
    expect_error("ping_interval: \"9999999h\"",
                 "t.conf:1:0: error parsing ping_interval: time: invalid duration \"9999999h\"");
}

static void bare_seconds_warn(void **state)
{
    (void)state;
    struct rb_config config;
    char error[RB_CONFIG_ERROR_MAX];
    rb_config_defaults(&config);
    assert_int_equal(rb_config_load_text(&config, "t.conf", RB_S("\n write_deadline: 5"), error),
                     RB_OK);
    assert_string_equal(error,
                        "t.conf:2:2: invalid use of field \"write_deadline\": write_deadline "
                        "should be converted to a duration");
    assert_int_equal(config.write_deadline_ns, 5 * SECOND_NS);
    /* warnings come before errors */
    expect_error("foo: 1\nping_interval: true",
                 "t.conf:2:1: invalid use of field \"ping_interval\": ping_interval should be "
                 "converted to a duration\nt.conf:1:0: unknown field \"foo\"\n"
                 "t.conf:2:1: interface conversion: interface {} is bool, not int64");
}

static void wrong_types(void **state)
{
    (void)state;
    expect_error("port: abc",
                 "t.conf:1:0: interface conversion: interface {} is string, not int64");
    expect_error("\ndebug: 1", "t.conf:2:1: interface conversion: interface {} is int64, not bool");
    expect_error("host: 5", "t.conf:1:0: interface conversion: interface {} is int64, not string");
    expect_error("max_payload: 1.5",
                 "t.conf:1:0: interface conversion: interface {} is float64, not int64");
    expect_error(
        "authorization: 1",
        "t.conf:1:0: interface conversion: interface {} is int64, not map[string]interface {}");
    expect_error("host: \"a\\x00b\"", "t.conf:1:0: host contains a zero byte");
}

static void authorization(void **state)
{
    (void)state;
    struct rb_config config = load("authorization {user: u, pass: p, timeout: 0.5}");
    assert_string_equal(config.user, "u");
    assert_string_equal(config.pass, "p");
    assert_int_equal(config.auth_timeout_ns, SECOND_NS / 2);
    config = load("authorization {token: t, timeout: 3}");
    assert_string_equal(config.token, "t");
    assert_int_equal(config.auth_timeout_ns, 3 * SECOND_NS);
    config = load("authorization {token: t, timeout: \"250ms\"}");
    assert_int_equal(config.auth_timeout_ns, SECOND_NS / 4);
    expect_error("authorization {user: a, pass: b, token: c}",
                 "t.conf:1:0: Cannot have a user/pass and token");
    expect_error("authorization {timeout: true}",
                 "t.conf:1:15: error parsing authorization config, 'timeout' wrong type");
    expect_error("authorization {timeout: abc}", "t.conf:1:15: error parsing authorization config, "
                                                 "'timeout' time: invalid duration \"abc\"");
    expect_error(
        "authorization {user: a, pass: $2a$11$abc}",
        "t.conf:1:24: option \"pass\" with a bcrypt value is not supported by ringbus yet");
    expect_error("authorization {users: [{user: a}]}",
                 "t.conf:1:15: option \"users\" is not supported by ringbus yet");
    expect_error("authorization {bla: 1}", "t.conf:1:15: unknown field \"bla\"");
}

static void long_auth_timeouts_warn(void **state)
{
    (void)state;
    struct rb_config config;
    char error[RB_CONFIG_ERROR_MAX];
    rb_config_defaults(&config);
    assert_int_equal(rb_config_load_text(&config, "t.conf",
                                         RB_S("authorization {token: c, timeout: 90}"), error),
                     RB_OK);
    assert_string_equal(
        error, "t.conf:1:25: invalid use of field \"timeout\": timeout of 90 (90.000000 "
               "seconds) is high, consider keeping it under 60 seconds. possibly caused by "
               "unquoted duration; use '1m' instead of 1m, for example");
}

/* What nats-server knows must never be taken for granted, and never for a typing error. */
static void known_options_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {
        "server_tags",
        "server_metadata",
        "feature_flags",
        "trace_verbose",
        "trace_headers",
        "log_size_limit",
        "logfile_size_limit",
        "log_max_num",
        "logfile_max_num",
        "syslog",
        "remote_syslog",
        "ports_file_dir",
        "http",
        "http_port",
        "monitor_port",
        "https",
        "https_port",
        "http_base_path",
        "prof_port",
        "prof_block_rate",
        "max_closed_clients",
        "lame_duck_duration",
        "lame_duck_grace_period",
        "proxy_protocol",
        "proxies",
        "disable_sublist_cache",
        "no_sublist_cache",
        "connect_error_reports",
        "reconnect_error_reports",
        "tls",
        "allow_non_tls",
        "ocsp",
        "ocsp_cache",
        "accounts",
        "mappings",
        "maps",
        "no_auth_user",
        "system_account",
        "system",
        "no_system_account",
        "no_system",
        "no_sys_acc",
        "default_sentinel",
        "operator",
        "operators",
        "root",
        "roots",
        "root_operator",
        "root_operators",
        "trusted_keys",
        "trusted",
        "resolver",
        "account_resolver",
        "accounts_resolver",
        "resolver_tls",
        "resolver_preload",
        "resolver_pinned_accounts",
        "cluster",
        "gateway",
        "leafnodes",
        "leaf",
        "jetstream",
        "websocket",
        "ws",
        "mqtt",
        "store_dir",
        "storedir",
        "default_js_domain",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char text[128], wanted[160];
        snprintf(text, sizeof(text), "%s {}", names[i]);
        snprintf(wanted, sizeof(wanted),
                 "t.conf:1:0: option \"%s\" is not supported by ringbus yet", names[i]);
        expect_error(text, wanted);
    }
    expect_error("write_timeout: retry", "t.conf:1:0: option \"write_timeout\" with the value "
                                         "\"retry\" is not supported by ringbus yet");
    expect_error("write_timeout: x",
                 "t.conf:1:0: write_timeout must be 'default', 'close' or 'retry'");
    expect_error("no_fast_producer_stall: false",
                 "t.conf:1:0: option \"no_fast_producer_stall\" can not be false: ringbus never "
                 "stalls a publisher, a receiver that falls behind is disconnected");
    expect_error("transport: epoll",
                 "t.conf:1:0: transport \"epoll\" is not supported by ringbus yet");
}

static void unknown_fields_unless_variables(void **state)
{
    (void)state;
    expect_error("foo: 1\nbar {x: 2}\n",
                 "t.conf:1:0: unknown field \"foo\"\nt.conf:2:1: unknown field \"bar\"");
    assert_int_equal(load("my_port: 4300\nport: $my_port").port, 4300);
}

static void own_options_have_ranges(void **state)
{
    (void)state;
    expect_error("shards: 0", "t.conf:1:0: shards 0 is not between 1 and 64");
    expect_error("shards: 65", "t.conf:1:0: shards 65 is not between 1 and 64");
    expect_error("memory_budget: 1023KB",
                 "t.conf:1:0: memory_budget must be at least 1048576 bytes");
    assert_int_equal(load("shards: 64").shards, RB_SHARDS_MAX);
}

static void text_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    char text[RB_CONFIG_TEXT_MAX + 64], name[RB_CONFIG_TEXT_MAX + 1];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    snprintf(text, sizeof(text), "server_name: %s", name);
    expect_error(text, "t.conf:1:0: server_name is longer than 255 bytes");
    snprintf(text, sizeof(text), "server_name: %s", name + 1);
    assert_string_equal(load(text).server_name, name + 1);
    expect_error("server_name: \"a b\"", "t.conf:1:0: server name cannot contain spaces");
}

static void many_errors_fit_the_buffer(void **state)
{
    (void)state;
    static char text[8192];
    struct rb_config config;
    char error[RB_CONFIG_ERROR_MAX], line[64];
    text[0] = 0;
    for (int i = 0; i < 100; i++) {
        snprintf(line, sizeof(line), "unknown_option_%d: 1\nping_interval: 5\n", i);
        strcat(text, line);
    }
    rb_config_defaults(&config);
    assert_int_equal(rb_config_load_text(&config, "t.conf", rb_slice_text(text), error),
                     RB_ERR_INVALID);
    assert_true(strlen(error) < sizeof(error));
    assert_non_null(strstr(error, "unknown field \"unknown_option_0\"\n"));
    assert_non_null(strstr(error, " more"));
}

static void rules_between_options(void **state)
{
    (void)state;
    char error[RB_CONFIG_ERROR_MAX];
    struct rb_config config = load("max_payload: 10MB\nmax_pending: 1MB");
    assert_int_equal(rb_config_check(&config, error), RB_ERR_INVALID);
    assert_string_equal(error,
                        "max_payload (10485760) cannot be higher than max_pending (1048576)");
    config = load("max_payload: 1MB\nmax_pending: 1MB");
    assert_int_equal(rb_config_check(&config, error), RB_OK);
    config = load("client_advertise: \"foo:bar\"");
    assert_int_equal(rb_config_check(&config, error), RB_ERR_INVALID);
    assert_string_equal(error, "client_advertise \"foo:bar\" is not host:port");
    config = load("client_advertise: \"foo\"");
    assert_int_equal(rb_config_check(&config, error), RB_OK);
    config = load("");
    snprintf(config.pass, sizeof(config.pass), "$2a$11$x");
    assert_int_equal(rb_config_check(&config, error), RB_ERR_INVALID);
}

static void the_file_and_its_digest_are_kept(void **state)
{
    (void)state;
    struct rb_config config = load("port: 4222\n");
    assert_string_equal(config.config_digest,
                        "sha256:797533ebd0dfba7d34a0f9337ecf147e442871f48ddfd07ed751575a5737267e");
    assert_string_equal(config.config_file, "");
    char error[RB_CONFIG_ERROR_MAX];
    assert_int_equal(rb_config_load_file(&config, "no/such.conf", error), RB_ERR_INVALID);
    assert_string_equal(error, "open no/such.conf: no such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_nats_server),
        cmocka_unit_test(every_option_has_its_effect),
        cmocka_unit_test(aliases_and_case),
        cmocka_unit_test(listen_forms),
        cmocka_unit_test(zero_and_below),
        cmocka_unit_test(durations),
        cmocka_unit_test(bare_seconds_warn),
        cmocka_unit_test(wrong_types),
        cmocka_unit_test(authorization),
        cmocka_unit_test(long_auth_timeouts_warn),
        cmocka_unit_test(known_options_are_refused_by_name),
        cmocka_unit_test(unknown_fields_unless_variables),
        cmocka_unit_test(own_options_have_ranges),
        cmocka_unit_test(text_that_does_not_fit_is_refused),
        cmocka_unit_test(many_errors_fit_the_buffer),
        cmocka_unit_test(rules_between_options),
        cmocka_unit_test(the_file_and_its_digest_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
