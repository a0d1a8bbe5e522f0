/* The command line: Go's rules for flags, what each flag sets, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/config.h"

#define WORDS_MAX 24

static struct rb_config config;
static char output[16384];

/** Parses a command line given as words with single blanks between them. */
static enum rb_args_action parse(const char *line)
{
    static char words[512];
    char *argv[WORDS_MAX + 1] = { 0 }, *rest = NULL;
    int argc = 0;
    snprintf(words, sizeof(words), "%s", line);
    for (char *word = strtok_r(words, " ", &rest); word != NULL;
         word = strtok_r(NULL, " ", &rest)) {
        assert_true(argc < WORDS_MAX);
        argv[argc++] = strcmp(word, "''") == 0 ? word + 2 : word;
    }
    rb_config_deinit(&config);
    rb_config_defaults(&config);
    memset(output, 'x', sizeof(output) - 1);
    return rb_args_parse(&config, argc, argv, output, sizeof(output));
}

static void expect(const char *line, enum rb_args_action action, const char *wanted)
{
    enum rb_args_action got = parse(line);
    if (got != action || strcmp(output, wanted) != 0) {
        fail_msg("'%s' gives %d '%s', not %d '%s'", line, (int)got, output, (int)action, wanted);
    }
}

static void expect_bad(const char *line, const char *wanted)
{
    expect(line, RB_ARGS_BAD_FLAG, wanted);
    assert_non_null(strstr(output + strlen(output) + 1, "Usage: ringbus [options]"));
}

static void nothing_given_means_defaults(void **state)
{
    (void)state;
    struct rb_config defaults;
    rb_config_defaults(&defaults);
    expect("ringbus", RB_ARGS_RUN, "");
    assert_true(config.policy->sealed);
    rb_config_deinit(&config);
    assert_memory_equal(&config, &defaults, sizeof(config));
    expect("ringbus --", RB_ARGS_RUN, "");
}

static void every_flag_has_its_effect(void **state)
{
    (void)state;
    expect("bin/ringbus -a h --port=5 -n n1 -client_advertise a:6 -P p -l l -D -V -T=false "
           "-logtime_utc -max_traced_msg_len 9",
           RB_ARGS_RUN, "");
    assert_string_equal(config.host, "h");
    assert_int_equal(config.port, 5);
    assert_string_equal(config.server_name, "n1");
    assert_string_equal(config.client_advertise, "a:6");
    assert_string_equal(config.pid_file, "p");
    assert_string_equal(config.log_file, "l");
    assert_true(config.debug && config.trace && config.logtime_utc);
    assert_false(config.logtime);
    assert_int_equal(config.max_traced_msg_bytes, 9);
    expect("ringbus --user u --pass w -shards 2", RB_ARGS_RUN, "");
    assert_string_equal(config.user, "u");
    assert_string_equal(config.pass, "w");
    assert_int_equal(config.shards, 2);
    expect("ringbus --auth t", RB_ARGS_RUN, "");
    assert_string_equal(config.token, "t");
}

static void aliases(void **state)
{
    (void)state;
    expect("ringbus --addr a1 --net a2 -server_name s -pid p -log l -DVV", RB_ARGS_RUN, "");
    assert_string_equal(config.host, "a2");
    assert_string_equal(config.server_name, "s");
    assert_string_equal(config.pid_file, "p");
    assert_string_equal(config.log_file, "l");
    assert_true(config.debug && config.trace);
    expect("ringbus -VV", RB_ARGS_RUN, "");
    assert_true(config.trace && config.trace_verbose && !config.debug);
    expect("ringbus -DV", RB_ARGS_RUN, "");
    assert_true(config.debug && config.trace && !config.trace_verbose);
    expect("ringbus -DVV", RB_ARGS_RUN, "");
    assert_true(config.debug && config.trace && config.trace_verbose);
}

static void values_may_begin_with_a_dash(void **state)
{
    (void)state;
    expect("ringbus -p -1", RB_ARGS_RUN, "");
    assert_int_equal(config.port, -1);
    expect("ringbus -p 0x10", RB_ARGS_RUN, "");
    assert_int_equal(config.port, 16);
    expect("ringbus -p 010", RB_ARGS_RUN, "");
    assert_int_equal(config.port, 8);
    expect("ringbus -p 0", RB_ARGS_RUN, "");
    assert_int_equal(config.port, 4222);
}

static void booleans_take_values_with_an_equals_sign_only(void **state)
{
    (void)state;
    expect("ringbus -D=false -V=T", RB_ARGS_RUN, "");
    assert_false(config.debug);
    assert_true(config.trace);
    expect("ringbus -D true", RB_ARGS_EXIT_FAIL, "ringbus: unrecognized command: \"true\"\n");
    expect_bad("ringbus -D=maybe", "invalid boolean value \"maybe\" for -D: parse error\n");
    expect_bad("ringbus -D=", "invalid boolean value \"\" for -D: parse error\n");
}

static void bad_flags_show_the_usage(void **state)
{
    (void)state;
    expect_bad("ringbus -foo", "flag provided but not defined: -foo\n");
    expect_bad("ringbus --foo=1", "flag provided but not defined: -foo\n");
    expect_bad("ringbus -p", "flag needs an argument: -p\n");
    expect_bad("ringbus -p abc", "invalid value \"abc\" for flag -p: parse error\n");
    expect_bad("ringbus -p ''", "invalid value \"\" for flag -p: parse error\n");
    expect_bad("ringbus -p 99999999999999999999",
               "invalid value \"99999999999999999999\" for flag -p: value out of range\n");
    expect_bad("ringbus ---p", "bad flag syntax: ---p\n");
    expect_bad("ringbus -=", "bad flag syntax: -=\n");
}

static void words_after_the_flags(void **state)
{
    (void)state;
    expect("ringbus foo -p 1", RB_ARGS_EXIT_FAIL, "ringbus: unrecognized command: \"foo\"\n");
    expect("ringbus -", RB_ARGS_EXIT_FAIL, "ringbus: unrecognized command: \"-\"\n");
    assert_int_equal(parse("ringbus help"), RB_ARGS_EXIT_OK);
    assert_non_null(strstr(output, "Usage: ringbus [options]"));
    assert_int_equal(parse("nats-server -help"), RB_ARGS_EXIT_OK);
    assert_non_null(strstr(output, "Usage: nats-server [options]"));
}

static void versions(void **state)
{
    (void)state;
    static const char own[] = "ringbus: v" RB_VERSION " (compatible with nats-server v2.15.1)\n";
    static const char other[] = "nats-server: v2.15.1\nringbus: v" RB_VERSION "\n";
    expect("ringbus -v", RB_ARGS_EXIT_OK, own);
    expect("ringbus version", RB_ARGS_EXIT_OK, own);
    expect("ringbus -c none.conf --version", RB_ARGS_EXIT_OK, own);
    expect("usr/bin/nats-server -v", RB_ARGS_EXIT_OK, other);
    expect("ringbus -v=false", RB_ARGS_RUN, "");
}

/* Each with a value when it takes one, so that a flag taken for another kind shows. */
static void flags_not_supported_are_named(void **state)
{
    (void)state;
    static const char *const flags[] = {
        "routes r",          "cluster c",           "cluster_listen c",
        "cluster_name n",    "cluster_advertise a", "no_advertise",
        "connect_retries 1", "profile 1",
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        char line[128], wanted[128];
        snprintf(line, sizeof(line), "ringbus -%s -p 1", flags[i]);
        snprintf(wanted, sizeof(wanted), "ringbus: flag -%.*s is not supported by ringbus yet\n",
                 (int)strcspn(flags[i], " "), flags[i]);
        expect(line, RB_ARGS_EXIT_FAIL, wanted);
    }
    expect("nats-server -routes r", RB_ARGS_EXIT_FAIL,
           "nats-server: flag -routes is not supported by ringbus yet\n");
    expect("ringbus -no_advertise=false", RB_ARGS_RUN, ""); /* off is what it is */
}

static void flags_of_jetstream(void **state)
{
    (void)state;
    expect("ringbus -p 1", RB_ARGS_RUN, "");
    assert_false(config.jetstream.enabled);
    assert_int_equal(config.jetstream.max_memory, -1);
    expect("ringbus -js -sd /tmp/x", RB_ARGS_RUN, "");
    assert_true(config.jetstream.enabled);
    assert_string_equal(config.jetstream.store_dir, "/tmp/x");
    expect("ringbus --jetstream=false --store_dir=/y", RB_ARGS_RUN, "");
    assert_false(config.jetstream.enabled);
    assert_string_equal(config.jetstream.store_dir, "/y");
}

static void flags_of_monitor_log_and_files(void **state)
{
    (void)state;
    expect("ringbus -m 8222 -s -r udp://h:1 -ports_file_dir d -log_size_limit 100", RB_ARGS_RUN,
           "");
    assert_int_equal(config.http_port, 8222);
    assert_true(config.syslog);
    assert_string_equal(config.remote_syslog, "udp://h:1");
    assert_string_equal(config.ports_file_dir, "d");
    assert_int_equal(config.log_size_limit, 100);
    expect("ringbus --http_port=-1", RB_ARGS_RUN, "");
    assert_int_equal(config.http_port, -1);
    expect("ringbus -ms 1", RB_ARGS_EXIT_FAIL, "ringbus: TLS cert and key required for HTTPS\n");
    expect("ringbus -m 1 -https_port 2", RB_ARGS_EXIT_FAIL,
           "ringbus: can't specify both HTTP (1) and HTTPs (2) ports\n");
}

static void tls_flags(void **state)
{
    (void)state;
    expect("ringbus -tls", RB_ARGS_EXIT_FAIL,
           "ringbus: TLS Server certificate must be present and valid\n");
    expect("ringbus -tlscert c", RB_ARGS_EXIT_FAIL,
           "ringbus: TLS Server private key must be present and valid\n");
    expect("ringbus -tlsverify", RB_ARGS_EXIT_FAIL,
           "ringbus: TLS Server certificate must be present and valid\n");
    expect("ringbus -tls=false -tlscert c", RB_ARGS_RUN, "");
    assert_false(config.lists->tls.set);
    assert_int_equal(parse("ringbus -tls -tlscert /no/c -tlskey /no/k"), RB_ARGS_EXIT_FAIL);
    assert_non_null(strstr(output, "/no/"));
    assert_int_equal(parse("ringbus -help_tls"), RB_ARGS_EXIT_OK);
    assert_non_null(strstr(output, "cert_file"));
}

static void signals_are_passed_on_before_the_file_is_read(void **state)
{
    (void)state;
    expect("ringbus -c /no/such --signal ldm=12*", RB_ARGS_SIGNAL, "ldm=12*");
    expect("ringbus -sl quit", RB_ARGS_SIGNAL, "quit");
    expect("ringbus -signal=reopen=/run/p.pid", RB_ARGS_SIGNAL, "reopen=/run/p.pid");
}

static void values_are_checked(void **state)
{
    (void)state;
    expect("ringbus -p 99999", RB_ARGS_EXIT_FAIL,
           "ringbus: port 99999 is not between -1 and 65535\n");
    expect("ringbus -shards 65", RB_ARGS_EXIT_FAIL, "ringbus: shards 65 is not between 1 and 64\n");
    expect("ringbus -shards 0", RB_ARGS_EXIT_FAIL, "ringbus: shards 0 is not between 1 and 64\n");
    expect("ringbus -client_advertise a:b", RB_ARGS_EXIT_FAIL,
           "ringbus: client_advertise \"a:b\" is not host:port\n");
    expect("ringbus -user u -auth t", RB_ARGS_EXIT_FAIL,
           "ringbus: Cannot have a user/pass and token\n");
}

/* ------------------------------------------------------------------ with a file */

static char path[] = "rb_test_args_XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    rb_config_deinit(&config);
    return unlink(path);
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static enum rb_args_action parse_with_file(const char *program, const char *flags)
{
    char line[256];
    snprintf(line, sizeof(line), "%s -c %s %s", program, path, flags);
    return parse(line);
}

static void flags_lie_over_the_file(void **state)
{
    (void)state;
    write_file("port: 1000\ndebug: true\nserver_name: filed\n");
    assert_int_equal(parse_with_file("ringbus", "-p 2000 -D=false"), RB_ARGS_RUN);
    assert_int_equal(config.port, 2000);
    assert_false(config.debug);
    assert_string_equal(config.server_name, "filed");
    assert_string_equal(config.config_file, path);
    assert_int_equal(strlen(config.config_digest), 7 + 64);
}

static void check_mode(void **state)
{
    (void)state;
    char wanted[256];
    write_file("port: 4222\n");
    assert_int_equal(parse_with_file("nats-server", "-t"), RB_ARGS_CHECKED);
    snprintf(wanted, sizeof(wanted),
             "nats-server: configuration file %s is valid "
             "(sha256:797533ebd0dfba7d34a0f9337ecf147e442871f48ddfd07ed751575a5737267e)\n",
             path);
    assert_string_equal(output, wanted);
    assert_string_equal(output + strlen(output) + 1, "");
    write_file("foo: 1\n");
    assert_int_equal(parse_with_file("ringbus", "-t"), RB_ARGS_EXIT_FAIL);
    snprintf(wanted, sizeof(wanted), "ringbus: %s:1:0: unknown field \"foo\"\n", path);
    assert_string_equal(output, wanted);
    expect("ringbus -t", RB_ARGS_EXIT_FAIL,
           "ringbus: must specify [-c, --config] option to check configuration file syntax\n");
    expect("ringbus -t -c no/such.conf", RB_ARGS_EXIT_FAIL,
           "ringbus: open no/such.conf: no such file or directory\n");
}

static void warnings_pass_but_not_in_check_mode(void **state)
{
    (void)state;
    char wanted[256];
    write_file("ping_interval: 5\n");
    assert_int_equal(parse_with_file("ringbus", ""), RB_ARGS_RUN);
    snprintf(
        wanted, sizeof(wanted),
        "%s:1:0: invalid use of field \"ping_interval\": ping_interval should be converted to a "
        "duration\n",
        path);
    assert_string_equal(output, wanted);
    assert_int_equal(parse_with_file("ringbus", "-t"), RB_ARGS_EXIT_FAIL);
}

/* -user is over the file's token, -auth over the file's user; over users it cannot lie. */
static void login_flags_over_the_file(void **state)
{
    (void)state;
    write_file("authorization {token: t}\n");
    assert_int_equal(parse_with_file("ringbus", "-user u -pass p"), RB_ARGS_RUN);
    assert_string_equal(config.token, "");
    assert_true(rb_slice_equal(config.policy->login.user, RB_S("u")));
    assert_int_equal(config.policy->login.token.len, 0);
    write_file("authorization {user: u, pass: p}\n");
    assert_int_equal(parse_with_file("ringbus", "-auth t"), RB_ARGS_RUN);
    assert_string_equal(config.user, "");
    write_file("authorization {users: [{user: u, pass: p}]}\n");
    assert_int_equal(parse_with_file("ringbus", "-auth t"), RB_ARGS_EXIT_FAIL);
    assert_string_equal(output, "ringbus: Can not have a token and a users array\n");
}

static void a_reload_lays_the_flags_over_the_new_file(void **state)
{
    (void)state;
    struct rb_config reloaded;
    char error[RB_CONFIG_ERROR_MAX];
    write_file("debug: true\nmax_payload: 100\n");
    assert_int_equal(parse_with_file("ringbus", "-p 2000 -D=false -user u"), RB_ARGS_RUN);
    write_file("debug: true\nmax_payload: 200\nport: 1\nping_interval: 5\n");
    assert_int_equal(rb_config_reload(&config, &reloaded, error), RB_OK);
    assert_non_null(strstr(error, "should be converted to a duration")); /* a warning */
    assert_int_equal(reloaded.port, 2000);
    assert_int_equal(reloaded.max_payload, 200);
    assert_false(reloaded.debug);
    assert_string_equal(reloaded.user, "u");
    assert_string_equal(reloaded.config_file, path);
    assert_string_not_equal(reloaded.config_digest, config.config_digest);
    struct rb_config again; /* also from one that was reloaded */
    assert_int_equal(rb_config_reload(&reloaded, &again, error), RB_OK);
    assert_int_equal(again.port, 2000);
    rb_config_deinit(&again);
    rb_config_deinit(&reloaded);
}

static void a_reload_that_fails_says_why(void **state)
{
    (void)state;
    struct rb_config reloaded;
    char error[RB_CONFIG_ERROR_MAX];
    write_file("port: 1\n");
    assert_int_equal(parse_with_file("ringbus", ""), RB_ARGS_RUN);
    write_file("nonsense: 1\n");
    assert_int_equal(rb_config_reload(&config, &reloaded, error), RB_ERR_INVALID);
    assert_non_null(strstr(error, "unknown field \"nonsense\""));
    write_file("max_payload: 100MB\n");
    assert_int_equal(rb_config_reload(&config, &reloaded, error), RB_ERR_INVALID);
    assert_string_equal(error,
                        "max_payload (104857600) cannot be higher than max_pending (67108864)");
    expect("ringbus", RB_ARGS_RUN, "");
    assert_int_equal(rb_config_reload(&config, &reloaded, error), RB_ERR_INVALID);
    assert_string_equal(error,
                        "can only reload config when a file is provided using -c or --config");
}

static void refusals_leave_the_configuration(void **state)
{
    (void)state;
    struct rb_config defaults;
    rb_config_defaults(&defaults);
    write_file("max_payload: 10MB\nmax_pending: 1MB\n");
    assert_int_equal(parse_with_file("ringbus", "-p 1"), RB_ARGS_EXIT_FAIL);
    assert_string_equal(
        output, "ringbus: max_payload (10485760) cannot be higher than max_pending (1048576)\n");
    assert_memory_equal(&config, &defaults, sizeof(config));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_given_means_defaults),
        cmocka_unit_test(every_flag_has_its_effect),
        cmocka_unit_test(aliases),
        cmocka_unit_test(values_may_begin_with_a_dash),
        cmocka_unit_test(booleans_take_values_with_an_equals_sign_only),
        cmocka_unit_test(bad_flags_show_the_usage),
        cmocka_unit_test(words_after_the_flags),
        cmocka_unit_test(versions),
        cmocka_unit_test(flags_not_supported_are_named),
        cmocka_unit_test(values_are_checked),
        cmocka_unit_test(flags_of_monitor_log_and_files),
        cmocka_unit_test(flags_of_jetstream),
        cmocka_unit_test(tls_flags),
        cmocka_unit_test(signals_are_passed_on_before_the_file_is_read),
        cmocka_unit_test(login_flags_over_the_file),
        cmocka_unit_test(a_reload_lays_the_flags_over_the_new_file),
        cmocka_unit_test(a_reload_that_fails_says_why),
        cmocka_unit_test(flags_lie_over_the_file),
        cmocka_unit_test(check_mode),
        cmocka_unit_test(warnings_pass_but_not_in_check_mode),
        cmocka_unit_test(refusals_leave_the_configuration),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
