/* The two environment switches: the whole table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/switches.h"

static void the_table(void **state)
{
    (void)state;
    static const struct {
        const char *debug, *monitor;
        bool log, trace, opens;
    } rows[] = {
        { NULL, NULL, false, false, false },     { NULL, "", false, false, false },
        { NULL, "0", false, false, false },      { NULL, "1", false, false, true },
        { NULL, "2", false, false, false },      { "", NULL, false, false, false },
        { "", "1", false, false, true },         { "0", NULL, false, false, false },
        { "0", "1", false, false, true },        { "1", NULL, true, false, true },
        { "1", "0", true, false, true },         { "1", "1", true, false, true },
        { "2", NULL, true, true, true },         { "2", "1", true, true, true },
        { "2", "", true, true, true },           { "3", NULL, false, false, false },
        { "true", "true", false, false, false }, { "1 ", " 1", false, false, false },
        { "11", "11", false, false, false },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rb_log_opts opts = rb_log_opts(rows[i].debug, rows[i].monitor);
        assert_int_equal(opts.debug, rows[i].log);
        assert_int_equal(opts.trace, rows[i].trace);
        assert_int_equal(opts.monitor, rows[i].opens);
    }
}

static void they_only_switch_on(void **state)
{
    (void)state;
    struct rb_config config;
    rb_config_defaults(&config);
    config.debug = true;
    rb_log_opts_apply(&(struct rb_log_opts){ 0 }, &config);
    assert_true(config.debug && !config.trace);
    assert_int_equal(config.http_port, 0);
    rb_log_opts_apply(&(struct rb_log_opts){ .monitor = true }, &config);
    assert_int_equal(config.http_port, 8222);
    assert_string_equal(config.http_host, "127.0.0.1");
    config.http_port = 9000;
    rb_log_opts_apply(&(struct rb_log_opts){ true, true, true }, &config);
    assert_int_equal(config.http_port, 9000);
    assert_true(config.debug && config.trace);
    config.http_port = 0;
    config.https_port = 9001;
    rb_log_opts_apply(&(struct rb_log_opts){ .monitor = true }, &config);
    assert_int_equal(config.http_port, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table),
        cmocka_unit_test(they_only_switch_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
