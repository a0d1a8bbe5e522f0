/* Reload: what may change, in which words, and what refuses the whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/config_diff.h"

static struct rb_config_changes changes;

static void load(struct rb_config *config, const char *text)
{
    char error[RB_CONFIG_ERROR_MAX];
    rb_config_defaults(config);
    if (rb_config_load_closed(config, "t.conf", rb_slice_text(text), error) != RB_OK) {
        fail_msg("'%s' is refused: %s", text, error);
    }
}

static enum rb_err diff(const char *old, const char *new, char error[RB_CONFIG_ERROR_MAX])
{
    struct rb_config running, wanted;
    load(&running, old);
    load(&wanted, new);
    enum rb_err err = rb_config_diff(&running, &wanted, &changes, error);
    rb_config_deinit(&running);
    rb_config_deinit(&wanted);
    return err;
}

/** The lines before the two that always come, joined by "|". */
static void expect_changes(const char *old, const char *new, const char *wanted, uint32_t what)
{
    char error[RB_CONFIG_ERROR_MAX], lines[2048] = "";
    if (diff(old, new, error) != RB_OK) {
        fail_msg("'%s' -> '%s' is refused: %s", old, new, error);
    }
    assert_true(changes.count >= 2);
    assert_string_equal(changes.lines[changes.count - 2], "Reloaded: accounts");
    assert_string_equal(changes.lines[changes.count - 1], "Reloaded: authorization users");
    for (uint32_t i = 0; i + 2 < changes.count; i++) {
        size_t len = strlen(lines);
        snprintf(lines + len, sizeof(lines) - len, "%s%s", i == 0 ? "" : "|", changes.lines[i]);
    }
    if (strcmp(lines, wanted) != 0) {
        fail_msg("'%s' -> '%s' gives '%s', not '%s'", old, new, lines, wanted);
    }
    assert_int_equal(changes.what & ~(uint32_t)RB_CHANGE_AUTH, what);
    assert_true((changes.what & RB_CHANGE_AUTH) != 0);
}

static void expect_refusal(const char *old, const char *new, const char *wanted)
{
    char error[RB_CONFIG_ERROR_MAX], text[512];
    memset(&changes, 0x5a, sizeof(changes));
    snprintf(text, sizeof(text), "config reload not supported for %s", wanted);
    enum rb_err err = diff(old, new, error);
    if (err != RB_ERR_UNSUPPORTED || strcmp(error, text) != 0) {
        fail_msg("'%s' -> '%s' gives '%s', not '%s'", old, new, error, text);
    }
    assert_int_equal(changes.count, 0x5a5a5a5a);
}

static void nothing_changed(void **state)
{
    (void)state;
    expect_changes("", "", "", 0);
    expect_changes("port: -1", "port: -1", "", 0);
}

static void what_may_change(void **state)
{
    (void)state;
    static const struct {
        const char *new, *line;
        uint32_t what;
    } rows[] = {
        { "debug: true", "Reloaded: debug = true", RB_CHANGE_LOG },
        { "trace_verbose: true", "Reloaded: trace = true|Reloaded: trace_verbose = true",
          RB_CHANGE_LOG },
        { "trace_headers: true", "Reloaded: trace = true|Reloaded: trace_headers = true",
          RB_CHANGE_LOG },
        { "logtime: false", "Reloaded: logtime = false", RB_CHANGE_LOG },
        { "logtime_utc: true", "Reloaded: logtime_utc = true", RB_CHANGE_LOG },
        { "log_file: \"/l\"", "Reloaded: log_file = /l", RB_CHANGE_LOG },
        { "syslog: true", "Reloaded: syslog = true", RB_CHANGE_LOG },
        { "remote_syslog: \"udp://h:1\"", "Reloaded: remote_syslog = udp://h:1", RB_CHANGE_LOG },
        { "max_traced_msg_len: 5", "Reloaded: max_traced_msg_len = 5", RB_CHANGE_LOG },
        { "pid_file: \"/p\"", "Reloaded: pid_file = /p", RB_CHANGE_FILES },
        { "ports_file_dir: \"/d\"", "Reloaded: ports_file_dir = /d", RB_CHANGE_FILES },
        { "max_connections: 10", "Reloaded: max_connections = 10", RB_CHANGE_CONNECTIONS },
        { "max_connections: 0", "Reloaded: max_connections = -1", RB_CHANGE_CONNECTIONS },
        { "max_control_line: 2048", "Reloaded: max_control_line = 2048", RB_CHANGE_LIMITS },
        { "max_payload: 2048", "Reloaded: max_payload = 2048", RB_CHANGE_LIMITS },
        { "ping_interval: \"5s\"", "Reloaded: ping_interval = 5s", RB_CHANGE_LIMITS },
        { "ping_interval: \"90s\"", "Reloaded: ping_interval = 1m30s", RB_CHANGE_LIMITS },
        { "ping_max: 7", "Reloaded: ping_max = 7", RB_CHANGE_LIMITS },
        { "write_deadline: \"1500ms\"", "Reloaded: write_deadline = 1.5s", RB_CHANGE_LIMITS },
        { "client_advertise: \"a:5\"", "Reload: client_advertise = a:5", RB_CHANGE_INFO },
        { "server_tags: [a]", "Reloaded: tags", RB_CHANGE_TAGS },
        { "server_metadata: {a: b}", "Reloaded: metadata", RB_CHANGE_TAGS },
        { "no_fast_producer_stall: true", "Reloaded: fast producers will not be stalled", 0 },
        { "proxies {trusted: [{key: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}]}",
          "Reloaded: proxies", RB_CHANGE_PROXIES },
        { "authorization {user: a, pass: b}",
          "Reloaded: authorization username|Reloaded: authorization password", 0 },
        { "authorization {token: b}", "Reloaded: authorization token", 0 },
        { "authorization {timeout: 5}", "Reloaded: authorization timeout = 5", RB_CHANGE_LIMITS },
        { "authorization {users: [{nkey: "
          "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}]}",
          "Reloaded: authorization nkey users", 0 },
        { "accounts {A: {users: [{user: a, pass: b}]}}", "", 0 },
        { "mappings: {a: b}", "", 0 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        expect_changes("", rows[i].new, rows[i].line, rows[i].what);
    }
}

#define TLS(more) "tls {cert_file: c, key_file: k" more "}"

static void tls_may_change(void **state)
{
    (void)state;
    expect_changes("", TLS(""), "Reloaded: tls = enabled|Reloaded: authorization timeout = 3",
                   RB_CHANGE_TLS | RB_CHANGE_LIMITS);
    expect_changes(TLS(""), "", "Reloaded: tls = disabled|Reloaded: authorization timeout = 2",
                   RB_CHANGE_TLS | RB_CHANGE_LIMITS);
    expect_changes(TLS(""), TLS(""), "", RB_CHANGE_TLS); /* the files may have changed */
    expect_changes(TLS(""), TLS(", timeout: 3"),
                   "Reloaded: tls timeout = 3|Reloaded: authorization timeout = 4",
                   RB_CHANGE_TLS | RB_CHANGE_LIMITS);
    expect_changes(TLS(""), TLS(", verify: true"), "Reloaded: tls = enabled", RB_CHANGE_TLS);
    expect_changes(
        TLS(""), TLS(", handshake_first: auto"),
        "Reloaded: Client TLS handshake first: true|Reloaded: Client TLS handshake first "
        "fallback delay: 50ms",
        RB_CHANGE_TLS);
    expect_changes(TLS(""),
                   TLS(", pinned_certs: "
                       "[\"aabb00112233445566778899aabb00112233445566778899aabb001122334455\"]"),
                   "Reloaded: 1 pinned_certs", RB_CHANGE_TLS);
    expect_refusal(TLS(""), TLS(", verify_and_map: true"), "TLSMap: old=false, new=true");
    expect_refusal(TLS(""), TLS(", connection_rate_limit: 5"), "TLSRateLimit: old=0, new=5");
}

static void what_may_not_change(void **state)
{
    (void)state;
    static const struct {
        const char *new, *wanted;
    } rows[] = {
        { "server_name: x", "ServerName: old=, new=x" },
        { "port: 4555", "Port: old=4222, new=4555" },
        { "host: localhost", "Host: old=0.0.0.0, new=localhost" },
        { "http_port: -1", "HTTPPort: old=0, new=-1" },
        { "https_port: 5555", "HTTPSPort: old=0, new=5555" },
        { "http_base_path: \"/x\"", "HTTPBasePath: old=, new=/x" },
        { "max_pending: 100MB", "MaxPending: old=67108864, new=104857600" },
        { "max_subs: 5", "MaxSubs: old=0, new=5" },
        { "max_sub_tokens: 5", "MaxSubTokens: old=0, new=5" },
        { "lame_duck_duration: \"40s\"", "LameDuckDuration: old=2m0s, new=40s" },
        { "lame_duck_grace_period: \"5s\"", "LameDuckGracePeriod: old=10s, new=5s" },
        { "allow_non_tls: true", "AllowNonTLS: old=false, new=true" },
        { "proxy_protocol: true", "ProxyProtocol: old=false, new=true" },
        { "max_closed_clients: 5", "MaxClosedClients: old=10000, new=5" },
        { "log_size_limit: 1000", "LogSizeLimit: old=0, new=1000" },
        { "log_max_num: 3", "LogMaxFiles: old=0, new=3" },
        { "no_header_support: true", "NoHeaderSupport: old=false, new=true" },
        { "no_system_account: true", "NoSystemAccount: old=false, new=true" },
        { "accounts {A: {}}\nsystem_account: A", "SystemAccount: old=, new=A" },
        { "authorization {proxy_required: true}", "ProxyRequired: old=false, new=true" },
        { "shards: 2", "shards: old=0, new=2" },
        { "pin_shards: true", "pin_shards: old=false, new=true" },
        { "transport: epoll", "transport: old=uring, new=epoll" },
        { "memory_budget: 2MB", "memory_budget: old=0, new=2097152" },
        { "unix_socket: \"/s\"", "unix_socket: old=, new=/s" },
        { "websocket {port: -1, no_tls: true}", "Websocket: port: old={...}, new={...}" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        expect_refusal("", rows[i].new, rows[i].wanted);
    }
    expect_refusal("accounts {A: {}}\nsystem_account: A", "accounts {A: {}}",
                   "SystemAccount: old=A, new=");
}

static void websocket_parts(void **state)
{
    (void)state;
    static const struct {
        const char *part, *more;
    } rows[] = {
        { "compression", "compression: true" },
        { "same_origin", "same_origin: true" },
        { "advertise", "advertise: \"a:1\"" },
        { "allowed_origins", "origin: \"http://a\"" },
        { "headers", "headers {a: b}" },
        { "cookies", "user_cookie: u" },
        { "ping_interval", "ping_interval: \"3s\"" },
        { "handshake_timeout", "handshake_timeout: \"3s\"" },
    };
    char text[256], wanted[128];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(text, sizeof(text), "websocket {port: -1, no_tls: true, %s}", rows[i].more);
        snprintf(wanted, sizeof(wanted), "Websocket: %s: old={...}, new={...}", rows[i].part);
        expect_refusal("websocket {port: -1, no_tls: true}", text, wanted);
        expect_changes(text, text, "", 0);
    }
    expect_refusal("websocket {port: -1, no_tls: true}",
                   "websocket {port: -1, no_tls: true, authorization {user: a, pass: hush}}",
                   "Websocket: authorization: old=[REDACTED], new=[REDACTED]");
}

#define USERS "authorization {users: [{user: a, pass: b}]}\n"

static void no_auth_user_goes_with_its_user_only(void **state)
{
    (void)state;
    expect_refusal(USERS, USERS "no_auth_user: a", "NoAuthUser: old=, new=a");
    expect_refusal(USERS "no_auth_user: a", USERS, "NoAuthUser: old=a, new=");
    expect_changes(USERS "no_auth_user: a", "", "", 0);
    expect_changes(USERS "no_auth_user: a",
                   "authorization {users: [{user: z, pass: b}, {user: a, pass: c}]}\n"
                   "no_auth_user: a",
                   "", 0); /* the same user at another place */
}

static void everything_at_once_fits(void **state)
{
    (void)state;
    char error[RB_CONFIG_ERROR_MAX];
    assert_int_equal(
        diff("",
             "debug: true, trace_verbose: true, trace_headers: true, logtime: false\n"
             "logtime_utc: true, log_file: l, syslog: true, remote_syslog: \"udp://h:1\"\n"
             "pid_file: p, ports_file_dir: d, max_traced_msg_len: 1, max_connections: 1\n"
             "max_control_line: 9, max_payload: 9, ping_interval: \"1s\", ping_max: 9\n"
             "write_deadline: \"1s\", client_advertise: \"a:1\", server_tags: t\n"
             "server_metadata {a: b}, no_fast_producer_stall: true\n"
             "proxies {trusted: [{key: "
             "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}]}\n"
             "authorization {user: a, pass: b, timeout: 9}\n" TLS(
                 ", timeout: 9, handshake_first: auto, pinned_certs: "
                 "[\"aabb00112233445566778899aabb00112233445566778899aabb001122334455\"]"),
             error),
        RB_OK);
    assert_true(changes.count < RB_CONFIG_CHANGES_MAX);
    for (uint32_t i = 0; i < changes.count; i++) {
        assert_true(strncmp(changes.lines[i], "Reload", 6) == 0);
    }
}

static void jetstream_sizes_may_grow(void **state)
{
    (void)state;
    static const char *const js = "jetstream {store_dir: \"/s\", max_mem: 1024, max_file: 2048%s}";
    char same[256], limits[256];
    snprintf(same, sizeof(same), js, "");
    snprintf(limits, sizeof(limits), js, ", limits {max_ack_pending: 5}");
    expect_changes(same, same, "", 0);
    expect_changes(same, "jetstream {store_dir: \"/s\", max_mem: 1536, max_file: 4096}",
                   "Reloaded: JetStream max_mem_store = 1.50 KB|"
                   "Reloaded: JetStream max_file_store = 4.00 KB",
                   RB_CHANGE_JETSTREAM);
    expect_changes(same, limits, "Reloaded: JetStream limits", RB_CHANGE_JETSTREAM);
    expect_changes("", "jetstream {enabled: false, max_mem: 5}", "", 0);
    expect_refusal("", same, "JetStream: old=false, new=true");
    expect_refusal(same, "", "JetStream: old=true, new=false");
    expect_refusal(same, "jetstream {store_dir: \"/t\", max_mem: 1024, max_file: 2048}",
                   "jetstream storage directory");
    expect_refusal(same, "jetstream {store_dir: \"/s\", max_mem: 1023, max_file: 2048}",
                   "decreasing jetstream max memory and store");
    expect_refusal(same, "jetstream {store_dir: \"/s\", max_mem: 1024}",
                   "jetstream max memory and max store");
    expect_refusal("jetstream {max_mem: 1}", "jetstream {max_mem: 1, max_file: 1}",
                   "jetstream dynamic max memory and store");
    expect_refusal("jetstream {}", "jetstream {domain: d}", "JetStreamDomain: old=, new=d");
    expect_refusal("jetstream {}", "jetstream {strict: false}",
                   "NoJetStreamStrict: old=false, new=true");
    expect_refusal("jetstream {}", "jetstream {sync: \"1m\"}",
                   "sync_interval: old=false, new=true");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changed),
        cmocka_unit_test(what_may_change),
        cmocka_unit_test(tls_may_change),
        cmocka_unit_test(what_may_not_change),
        cmocka_unit_test(websocket_parts),
        cmocka_unit_test(no_auth_user_goes_with_its_user_only),
        cmocka_unit_test(everything_at_once_fits),
        cmocka_unit_test(jetstream_sizes_may_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
