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

/* Every configuration that a test loads, to be given back at its end. */
#define LOADED_MAX 64
static struct rb_config loaded[LOADED_MAX];
static size_t loaded_count;

static int give_back(void **state)
{
    (void)state;
    while (loaded_count > 0) {
        rb_config_deinit(&loaded[--loaded_count]);
    }
    return 0;
}

static struct rb_config load(const char *text)
{
    assert_true(loaded_count < LOADED_MAX);
    struct rb_config *config = &loaded[loaded_count];
    char error[RB_CONFIG_ERROR_MAX];
    rb_config_defaults(config);
    if (rb_config_load_text(config, "t.conf", rb_slice_text(text), error) != RB_OK) {
        fail_msg("'%s' is refused: %s", text, error);
    }
    loaded_count++;
    assert_string_equal(error, "");
    return *config;
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
    rb_config_deinit(&config);
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
    config = load("authorization {user: a, pass: $2a$11$abc}");
    assert_string_equal(config.pass, "$2a$11$abc");
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
    rb_config_deinit(&config);
}

/* What nats-server knows must never be taken for granted, and never for a typing error. */
static void known_options_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {
        "feature_flags",
        "prof_port",
        "prof_block_rate",
        "disable_sublist_cache",
        "no_sublist_cache",
        "connect_error_reports",
        "reconnect_error_reports",
        "ocsp",
        "ocsp_cache",
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
        "mqtt",
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
    expect_error("transport: carrier_pigeon",
                 "t.conf:1:0: transport \"carrier_pigeon\" is not supported by ringbus yet");
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
}

static void expect_conflict(const char *text, const char *wanted)
{
    char error[RB_CONFIG_ERROR_MAX];
    struct rb_config config = load(text);
    enum rb_err err = rb_config_check(&config, error);
    if (err != RB_ERR_INVALID || strcmp(error, wanted) != 0) {
        fail_msg("'%s' gives '%s', not '%s'", text, error, wanted);
    }
}

static void more_rules_between_options(void **state)
{
    (void)state;
    char error[RB_CONFIG_ERROR_MAX];
    expect_conflict("lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"30s\"",
                    "lame duck grace period (30s) should be strictly lower than lame duck duration "
                    "(30s)");
    expect_conflict("http: 8222\nhttps: 8223",
                    "can't specify both HTTP (8222) and HTTPs (8223) ports");
    expect_conflict("https_port: 8223", "TLS cert and key required for HTTPS");
    expect_conflict(
        "remote_syslog: \"foo\"",
        "remote_syslog \"foo\" is not udp://host:port, tcp://host:port or unix:///path");
    expect_conflict("websocket {port: 1}", "websocket requires TLS configuration");
    expect_conflict("websocket {port: 1, no_tls: true, allowed_origins: [\"x\"]}",
                    "unable to parse allowed origin: parse \"x\": invalid URI for request");
    expect_conflict("websocket {port: 1, no_tls: true, allowed_origins: \"a:b:c\"}",
                    "unable to parse allowed origin \"a:b:c\": allowed origins must be absolute "
                    "URLs with http or https scheme");
    expect_conflict("websocket {port: 1, no_tls: true, advertise: \"a:b\"}",
                    "websocket advertise \"a:b\" is not host:port");
    expect_conflict("websocket {port: 1, no_tls: true, authorization {token: a}}\n"
                    "authorization {users: [{user: a, pass: b}]}",
                    "websocket authentication token not compatible with presence of users/nkeys");
    expect_conflict("websocket {port: 1, no_tls: true, authorization {user: a}}\n"
                    "authorization {users: [{user: a, pass: b}]}",
                    "websocket authentication username not compatible with presence of "
                    "users/nkeys");
    struct rb_config config = load("websocket {}\nremote_syslog: \"udp://h:1\"");
    assert_int_equal(rb_config_check(&config, error), RB_OK);
    memset(config.unix_socket, 'x', sizeof(config.unix_socket) - 1);
    assert_int_equal(rb_config_check(&config, error), RB_ERR_INVALID);
}

/* The options that came after the first ones, each with a value that is not its default. */
static void every_later_option_has_its_effect(void **state)
{
    (void)state;
    struct rb_config config =
        load("server_tags: [A, b, \" a \", \"\"]\nserver_metadata: {Rack: \"7\", zone: z}\n"
             "trace_verbose: true\ntrace_headers: true\nlog_size_limit: 1KB\nlogfile_max_num: 3\n"
             "syslog: true\nremote_syslog: \"udp://h:514\"\nports_file_dir: \"/tmp\"\n"
             "http: \"127.0.0.1:8222\"\nhttp_base_path: \"base/\"\nmax_closed_clients: 5\n"
             "lame_duck_duration: \"1m30s\"\nlame_duck_grace_period: \"5s\"\nproxy_protocol: true\n"
             "allow_non_tls: true\nunix_socket: \"/run/r.sock\"\npin_shards: true\n");
    const struct rb_config_lists *lists = config.lists;
    assert_int_equal(lists->tag_count, 2);
    assert_string_equal(lists->tags[0], "a");
    assert_string_equal(lists->tags[1], "b");
    assert_int_equal(lists->metadata_count, 2);
    assert_string_equal(lists->metadata[0].key, "Rack");
    assert_string_equal(lists->metadata[0].value, "7");
    assert_true(config.trace_verbose && config.trace_headers && config.trace);
    assert_int_equal(config.log_size_limit, 1024);
    assert_int_equal(config.log_max_num, 3);
    assert_true(config.syslog);
    assert_string_equal(config.remote_syslog, "udp://h:514");
    assert_string_equal(config.ports_file_dir, "/tmp");
    assert_string_equal(config.http_host, "127.0.0.1");
    assert_int_equal(config.http_port, 8222);
    assert_string_equal(config.http_base_path, "/base");
    assert_int_equal(config.max_closed_clients, 5);
    assert_int_equal(config.lame_duck_duration_ns, 90 * SECOND_NS);
    assert_int_equal(config.lame_duck_grace_ns, 5 * SECOND_NS);
    assert_true(config.proxy_protocol && config.allow_non_tls && config.pin_shards);
    assert_string_equal(config.unix_socket, "/run/r.sock");
    config = load("server_tags: One\nhttps_port: -1\nmax_closed_clients: 0\nlog_size_limit: -1");
    assert_string_equal(config.lists->tags[0], "one");
    assert_int_equal(config.https_port, -1);
    assert_int_equal(config.max_closed_clients, 10000);
    assert_int_equal(config.log_size_limit, 0);
}

static void later_options_are_checked(void **state)
{
    (void)state;
    expect_error("server_tags: 5", "t.conf:1:0: error parsing tags: unsupported type int64");
    expect_error("server_metadata: a",
                 "t.conf:1:0: error parsing metadata: unsupported type string");
    expect_error("server_metadata: {a: 1}",
                 "t.conf:1:18: interface conversion: interface {} is int64, not string");
    expect_error("lame_duck_duration: \"10s\"",
                 "t.conf:1:0: invalid lame_duck_duration of 10s, minimum is 30 seconds");
    expect_error("lame_duck_duration: 31",
                 "t.conf:1:0: interface conversion: interface {} is int64, not string");
    expect_error("lame_duck_grace_period: \"-1s\"",
                 "t.conf:1:0: invalid lame_duck_grace_period, needs to be positive");
    expect_error("lame_duck_grace_period: x",
                 "t.conf:1:0: error parsing lame_duck_grace_period: time: invalid duration \"x\"");
    expect_error("max_closed_clients: -1",
                 "t.conf:1:0: max_closed_clients value can not be negative");
    expect_error("http_port: 99999", "t.conf:1:0: port 99999 is not between -1 and 65535");
    expect_error("http: x", "t.conf:1:0: could not parse address string \"x\"");
    expect_error("http_base_path: \"a?b\"", "t.conf:1:0: http_base_path \"a?b\" is not a path");
    expect_error("jetstream: x",
                 "t.conf:1:0: Expected 'enabled' or 'disabled' for string value, got 'x'");
}

/* What is off with ringbus may be said to be off. */
static void off_is_accepted(void **state)
{
    (void)state;
    (void)load("jetstream: false\ndisable_sublist_cache: false\nprof_port: 0\nocsp: false\n"
               "ocsp_cache: false\nprof_block_rate: 0");
    (void)load("jetstream: disabled");
    (void)load("jetstream: {enabled: false}");
    (void)load("jetstream {enabled: false, max_mem: 1}");
    expect_error("disable_sublist_cache: true",
                 "t.conf:1:0: option \"disable_sublist_cache\" is not supported by ringbus yet");
    expect_error("prof_port: 1",
                 "t.conf:1:0: option \"prof_port\" is not supported by ringbus yet");
}

static void jetstream_options_have_their_effect(void **state)
{
    (void)state;
    struct rb_config config = load(
        "jetstream {store_dir: \"/s\", max_mem: 1G, max_file: \"2G\", domain: hub, strict: false,"
        " sync_interval: \"1m\", max_buffered_msgs: 5, max_buffered_size: \"1K\","
        " request_queue_limit: 10, limits {max_ack_pending: 1, max_request_batch: 2,"
        " duplicate_window: \"3s\", batch {max_inflight_per_stream: 4, max_inflight_total: 5,"
        " max_msgs: 6, timeout: \"7s\"}}}");
    const struct rb_config_jetstream *js = &config.jetstream;
    assert_true(js->enabled && js->lenient && js->lazy);
    assert_string_equal(js->store_dir, "/s");
    assert_string_equal(js->domain, "hub");
    assert_int_equal(js->max_memory, 1000000000);
    assert_int_equal(js->max_storage, INT64_C(2) << 30);
    assert_int_equal(js->sync_interval_ns, 60 * INT64_C(1000000000));
    assert_int_equal(js->max_buffered_msgs, 5);
    assert_int_equal(js->max_buffered_bytes, 1024);
    assert_int_equal(js->max_ack_pending, 1);
    assert_int_equal(js->max_request_batch, 2);
    assert_int_equal(js->duplicate_window_ns, 3 * INT64_C(1000000000));
    assert_int_equal(js->batch_inflight_per_stream, 4);
    assert_int_equal(js->batch_inflight_total, 5);
    assert_int_equal(js->batch_msgs, 6);
    assert_int_equal(js->batch_timeout_ns, 7 * INT64_C(1000000000));
    config = load("jetstream: enabled\nstore_dir: \"/t\"");
    assert_true(js->enabled && !js->lenient && !js->lazy);
    assert_string_equal(js->store_dir, "/t");
    assert_int_equal(js->max_memory, -1);
    assert_int_equal(js->max_storage, -1);
    config = load("jetstream {max_mem: 0, sync: always}");
    assert_int_equal(js->max_memory, 0);
    assert_false(js->lazy);
    expect_error("jetstream {store_dir: \"/a\"}\nstore_dir: \"/b\"",
                 "t.conf:2:1: Duplicate 'store_dir' configuration");
    expect_error("jetstream {key: abc}",
                 "t.conf:1:11: option \"key\" is not supported by ringbus yet");
    expect_error("jetstream {max_mem: \"9999999999T\"}", "t.conf:1:11: max_mem_store is too big");
}

static void websocket_options_have_their_effect(void **state)
{
    (void)state;
    struct rb_config config =
        load("ws {listen: \"127.0.0.1:8080\", no_tls: true, same_origin: true, advertise: \"a:1\"\n"
             "allowed_origins: [\"http://a.b\", \"https://c\"]\nhandshake_timeout: \"1s\"\n"
             "compression: true\nheaders {X-A: b}\nping_interval: \"5s\"\nuser_cookie: u\n"
             "pass_cookie: p\ntoken_cookie: t\nauthorization {user: a, pass: b, timeout: 3}}");
    const struct rb_config_lists *lists = config.lists;
    assert_true(config.ws_set && config.ws_no_tls && config.ws_same_origin);
    assert_true(config.ws_compression);
    assert_string_equal(config.ws_host, "127.0.0.1");
    assert_int_equal(config.ws_port, 8080);
    assert_string_equal(config.ws_advertise, "a:1");
    assert_int_equal(lists->ws_origin_count, 2);
    assert_string_equal(lists->ws_origins[1], "https://c");
    assert_int_equal(config.ws_handshake_timeout_ns, SECOND_NS);
    assert_int_equal(config.ws_ping_interval_ns, 5 * SECOND_NS);
    assert_int_equal(lists->ws_header_count, 1);
    assert_string_equal(lists->ws_headers[0].key, "X-A");
    assert_string_equal(lists->ws_user_cookie, "u");
    assert_string_equal(lists->ws_pass_cookie, "p");
    assert_string_equal(lists->ws_token_cookie, "t");
    assert_true(config.policy->websocket_login.overrides);
    assert_int_equal(config.policy->websocket_login.timeout_ns, 3 * SECOND_NS);
    config = load("websocket {port: -1, no_tls: true}");
    assert_false(config.policy->websocket_login.overrides);
    assert_int_equal(config.ws_handshake_timeout_ns, 2 * SECOND_NS);
    assert_string_equal(config.ws_host, "0.0.0.0");
}

static void websocket_options_are_checked(void **state)
{
    (void)state;
    expect_error("websocket: 1", "t.conf:1:0: Expected websocket to be a map, got int64");
    expect_error("websocket {foo: 1}", "t.conf:1:11: unknown field \"foo\"");
    expect_error("websocket {handshake_timeout: x}", "t.conf:1:11: time: invalid duration \"x\"");
    expect_error("websocket {jwt_cookie: x}",
                 "t.conf:1:11: trusted operators or trusted keys configuration is required for JWT "
                 "authentication via cookie \"x\"");
    expect_error("websocket {headers: {\"sec-websocket-Accept\": x}}",
                 "t.conf:1:22: websocket: invalid header \"sec-websocket-Accept\", "
                 "\"Sec-WebSocket-\" prefix not allowed");
    expect_error("websocket {headers: {Upgrade: x}}",
                 "t.conf:1:21: websocket: invalid header \"Upgrade\" not allowed");
    expect_error("websocket {headers: {a: \"x\\ny\"}}",
                 "t.conf:1:21: websocket: invalid header \"a\" not allowed");
    expect_error("websocket {headers: {\"a:b\": x}}",
                 "t.conf:1:22: websocket: invalid header \"a:b\" not allowed");
    expect_error("websocket {headers: {a: 1}}",
                 "t.conf:1:21: error parsing header key a: unsupported type int64");
    expect_error("websocket {authorization: {user: a, token: c}}",
                 "t.conf:1:11: Cannot have a user/pass and token");
    expect_error("websocket {no_auth_user: a}",
                 "t.conf:1:11: no_auth_user: \"a\" present, but users/nkeys are not defined");
}

/* A text from outside must not make us read files or the environment. */
static void closed_texts_read_nothing_else(void **state)
{
    (void)state;
    struct rb_config config;
    char error[RB_CONFIG_ERROR_MAX];
    rb_config_defaults(&config);
    assert_int_equal(
        rb_config_load_closed(&config, "t.conf", RB_S("include \"/etc/passwd\""), error),
        RB_ERR_INVALID);
    assert_non_null(strstr(error, "files can not be included here"));
    assert_int_equal(rb_config_load_closed(&config, "t.conf", RB_S("port: $PATH"), error),
                     RB_ERR_INVALID);
    assert_non_null(strstr(error, "variable reference for 'PATH'"));
    assert_int_equal(
        rb_config_load_closed(&config, "t.conf",
                              RB_S("tls {cert_file: \"/no/such\", key_file: \"/no/such\"}"), error),
        RB_OK);
    assert_true(config.lists->tls.set);
    rb_config_deinit(&config);
}

/* Programs fill the struct themselves and seal it. */
static void a_configuration_without_text_can_be_sealed(void **state)
{
    (void)state;
    struct rb_config config, copy;
    char error[RB_CONFIG_ERROR_MAX];
    rb_config_defaults(&config);
    snprintf(config.user, sizeof(config.user), "u");
    snprintf(config.pass, sizeof(config.pass), "p");
    assert_int_equal(rb_config_seal(&config, error), RB_OK);
    assert_true(config.policy->sealed && config.policy->plain_passwords);
    assert_int_equal(config.policy->account_count, 2);
    assert_int_equal(config.policy->system_account, 1);
    assert_true(rb_slice_equal(config.policy->login.user, RB_S("u")));
    assert_int_equal(config.policy->login.timeout_ns, 2 * SECOND_NS);
    rb_config_copy(&copy, &config);
    rb_config_deinit(&config);
    assert_true(rb_slice_equal(copy.policy->login.pass, RB_S("p"))); /* lives on */
    rb_config_deinit(&copy);
    rb_config_defaults(&config);
    snprintf(config.user, sizeof(config.user), "u");
    snprintf(config.token, sizeof(config.token), "t");
    assert_int_equal(rb_config_seal(&config, error), RB_ERR_INVALID);
    assert_string_equal(error, "Cannot have a user/pass and token");
    rb_config_deinit(&config);
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
        cmocka_unit_test_teardown(defaults_are_those_of_nats_server, give_back),
        cmocka_unit_test_teardown(every_option_has_its_effect, give_back),
        cmocka_unit_test_teardown(aliases_and_case, give_back),
        cmocka_unit_test_teardown(listen_forms, give_back),
        cmocka_unit_test_teardown(zero_and_below, give_back),
        cmocka_unit_test_teardown(durations, give_back),
        cmocka_unit_test_teardown(bare_seconds_warn, give_back),
        cmocka_unit_test_teardown(wrong_types, give_back),
        cmocka_unit_test_teardown(authorization, give_back),
        cmocka_unit_test_teardown(long_auth_timeouts_warn, give_back),
        cmocka_unit_test_teardown(known_options_are_refused_by_name, give_back),
        cmocka_unit_test_teardown(unknown_fields_unless_variables, give_back),
        cmocka_unit_test_teardown(own_options_have_ranges, give_back),
        cmocka_unit_test_teardown(text_that_does_not_fit_is_refused, give_back),
        cmocka_unit_test_teardown(many_errors_fit_the_buffer, give_back),
        cmocka_unit_test_teardown(rules_between_options, give_back),
        cmocka_unit_test_teardown(more_rules_between_options, give_back),
        cmocka_unit_test_teardown(every_later_option_has_its_effect, give_back),
        cmocka_unit_test_teardown(later_options_are_checked, give_back),
        cmocka_unit_test_teardown(off_is_accepted, give_back),
        cmocka_unit_test_teardown(jetstream_options_have_their_effect, give_back),
        cmocka_unit_test_teardown(websocket_options_have_their_effect, give_back),
        cmocka_unit_test_teardown(websocket_options_are_checked, give_back),
        cmocka_unit_test_teardown(closed_texts_read_nothing_else, give_back),
        cmocka_unit_test_teardown(a_configuration_without_text_can_be_sealed, give_back),
        cmocka_unit_test_teardown(the_file_and_its_digest_are_kept, give_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
