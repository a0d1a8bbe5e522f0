/* The configuration grammar: what nats-server 2.15 reads, as what, and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/conf.h"

#define ERROR_MAX 1024

static struct rb_conf parse(const char *text)
{
    struct rb_conf conf = { 0 };
    char error[ERROR_MAX] = "";
    enum rb_err err = rb_conf_parse("t.conf", rb_slice_text(text), &conf, error, sizeof(error));
    if (err != RB_OK) {
        fail_msg("'%s' is refused: %s", text, error);
    }
    return conf;
}

static const struct rb_conf_value *value_of(const struct rb_conf *conf, const char *key)
{
    const struct rb_conf_entry *entry = rb_conf_find(conf->root, rb_slice_text(key));
    if (entry == NULL) {
        fail_msg("key %s is missing", key);
    }
    return entry->value;
}

static void expect_int(const char *text, int64_t wanted)
{
    struct rb_conf conf = parse(text);
    const struct rb_conf_value *value = value_of(&conf, "a");
    if (value->kind != RB_CONF_INT || value->integer != wanted) {
        fail_msg("'%s' is %s", text, rb_conf_kind_text(value->kind));
    }
    rb_conf_deinit(&conf);
}

static void expect_text(const char *text, const char *wanted)
{
    struct rb_conf conf = parse(text);
    const struct rb_conf_value *value = value_of(&conf, "a");
    if (value->kind != RB_CONF_TEXT || !rb_slice_equal(value->text, rb_slice_text(wanted))) {
        fail_msg("'%s' is %s, not '%s'", text, rb_conf_kind_text(value->kind), wanted);
    }
    rb_conf_deinit(&conf);
}

/** The digest is over the whole tree, so it stands for it; wanted ones were printed by nats-server's own parser. */
static void expect_digest(const char *text, const char *wanted)
{
    struct rb_conf conf = parse(text);
    char digest[RB_CONF_DIGEST_MAX];
    assert_int_equal(rb_conf_digest(&conf, digest), RB_OK);
    assert_string_equal(digest, wanted);
    rb_conf_deinit(&conf);
}

static void expect_same(const char *text, const char *other)
{
    struct rb_conf conf = parse(other);
    char digest[RB_CONF_DIGEST_MAX];
    assert_int_equal(rb_conf_digest(&conf, digest), RB_OK);
    rb_conf_deinit(&conf);
    expect_digest(text, digest);
}

static void expect_error(const char *text, const char *wanted)
{
    struct rb_conf conf = { 0 };
    char error[ERROR_MAX] = "";
    enum rb_err err = rb_conf_parse("t.conf", rb_slice_text(text), &conf, error, sizeof(error));
    if (err != RB_ERR_INVALID || strcmp(error, wanted) != 0) {
        fail_msg("'%s' gives '%s', not '%s'", text, error, wanted);
    }
    assert_null(conf.arena);
}

static void numbers_have_units(void **state)
{
    (void)state;
    expect_int("a: 1m", 1000000);
    expect_int("a: 1k", 1000);
    expect_int("a: 1kb", 1024);
    expect_int("a: 1KiB", 1024);
    expect_int("a: 1Mi", 1024 * 1024);
    expect_int("a: 1GB", 1024 * 1024 * 1024);
    expect_int("a: 1e", 1000000000000000000);
    expect_int("a: -1k", -1000);
    expect_int("a: 007", 7);
    expect_int("a: 4222;b:1", 4222);
    expect_int("a: 9223372036854775807", INT64_MAX);
    expect_int("a: -9223372036854775808", INT64_MIN);
}

static void numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    expect_error("a: 9223372036854775808",
                 "integer '9223372036854775808' is out of the range (t.conf:1:22)");
    expect_error("a: 10e", "integer '10e' is out of the range (t.conf:1:6)");
    expect_error("a: 8eb", "integer '8eb' is out of the range (t.conf:1:6)");
}

static void what_only_begins_like_a_number_is_text(void **state)
{
    (void)state;
    expect_text("a: 2s", "2s");
    expect_text("a: 2b", "2b");
    expect_text("a: 127.0.0.1:4222", "127.0.0.1:4222");
    expect_text("a: 127.0.0.1:-1", "127.0.0.1:-1");
    expect_text("a: 0x10", "0x10");
    expect_text("a: +1", "+1");
    expect_text("a: 1_000", "1_000");
    expect_text("a: 1kbb", "1kbb");
    expect_text("a: 1#c", "1#c");
    expect_text("a: 1a\\x41", "1aA");
    expect_text("a: \"1024\"", "1024");
}

static void floats_and_dates(void **state)
{
    (void)state;
    struct rb_conf conf = parse("a: -1.5\nb: 2016-05-04T18:53:41Z\n");
    assert_int_equal(value_of(&conf, "a")->kind, RB_CONF_FLOAT);
    assert_true(value_of(&conf, "a")->real == -1.5);
    assert_int_equal(value_of(&conf, "b")->kind, RB_CONF_TIME);
    rb_conf_deinit(&conf);
    expect_error("a: 2016-15-04T18:53:41Z",
                 "expected Zulu formatted DateTime, but got '2016-15-04T18:53:41Z' (t.conf:1:23)");
    expect_error("a: 5-3", "Parse error on line 1: 'All ISO8601 dates must be in full Zulu form.' "
                           "(t.conf:1:4)");
    expect_error("a: .5", "Parse error on line 1: 'Floats must start with a digit' (t.conf:1:3)");
}

static void booleans_are_bare_words(void **state)
{
    (void)state;
    static const char *const yes[] = { "a: true", "a: YES", "a: On" };
    static const char *const no[] = { "a: false", "a: No", "a: off" };
    for (int i = 0; i < 3; i++) {
        struct rb_conf conf = parse(yes[i]), other = parse(no[i]);
        assert_int_equal(value_of(&conf, "a")->kind, RB_CONF_BOOL);
        assert_true(value_of(&conf, "a")->boolean);
        assert_int_equal(value_of(&other, "a")->kind, RB_CONF_BOOL);
        assert_false(value_of(&other, "a")->boolean);
        rb_conf_deinit(&conf);
        rb_conf_deinit(&other);
    }
    expect_text("a: \"on\"", "on");
    expect_text("a: onx", "onx");
}

static void text_forms(void **state)
{
    (void)state;
    expect_text("a: \"x\\ty\\x41\\\"\"", "x\ty\x41\"");
    expect_text("a: 'x\\ty'", "x\\ty");
    expect_text("a: nats://u:p@h:4222,b: 1", "nats://u:p@h:4222");
    expect_text("a: foo=bar", "foo=bar");
    expect_text("a: :4222", ":4222");
    expect_text("a: b#c", "b#c");
    expect_text("a: b # c", "b");
    expect_text("a: (\nfoo (bar\n)\n", "\nfoo (bar\n");
    expect_text("a: (\r\nfoo\r\n)\r\n", "\r\nfoo\r\n");
    expect_text("a: $2a$10$ab/cd.ef", "$2a$10$ab/cd.ef");
    expect_text("a:", "");
    expect_error("a: \"x\\q\"",
                 "Parse error on line 1: 'Invalid escape character 'q'. Only the following escape "
                 "characters are allowed: \\xXX, \\t, \\n, \\r, \\\", \\\\.' (t.conf:1:6)");
    expect_error("a: \"x", "Parse error on line 1: 'Unexpected EOF.' (t.conf:1:5)");
    expect_error("a: (foo)\n",
                 "Parse error on line 2: 'Unexpected EOF processing block.' (t.conf:2:1)");
}

static void separators(void **state)
{
    (void)state;
    expect_same("a 1\nb = 2, c: 3; d\t4", "a: 1\nb: 2\nc: 3\nd: 4\n");
    expect_same("{\"a\": 1, \"b\": {\"c\": \"x\"}}", "a 1\nb {c: x}");
    expect_same("a {b\n1}\n", "a: {b: 1}");
    expect_same("'a': 1 // c\r\n# d\r\nb: 2\r\n", "a: 1\nb: 2");
    expect_same("a{b: 1", "\"a{b\": 1");
    expect_same("a [x # c\n y, {z: 1}\n]", "a: [x, y, {z: 1}]");
    expect_error("a: b: c",
                 "Parse error on line 1: 'Expected a top-level value to end with a new line, "
                 "comment or EOF, but got 'c' instead.' (t.conf:1:6)");
    expect_error("a: [1,2]",
                 "Parse error on line 1: 'Expected an array value terminator \",\" or an array "
                 "terminator \"]\", but got 'EOF' instead.' (t.conf:1:8)");
    expect_error(
        "a {b: 1 c: 2}",
        "Parse error on line 1: 'Expected a map value terminator \",\" or a map terminator "
        "\"}\", but got 'c' instead.' (t.conf:1:8)");
    expect_error("a\n", "config is invalid (t.conf:2:1)");
    expect_error("a:\n1",
                 "Parse error on line 2: 'Expected value but found new line' (t.conf:1:2)");
}

static void nothing_is_dropped_in_silence(void **state)
{
    (void)state;
    expect_error("a {b}\n}", "Parse error on line 2: 'Expected a map value, but got '}' instead.' "
                             "(t.conf:2:1)");
    expect_error("{a: 1\n", "Parse error on line 2: 'Unexpected EOF: the '{' around the "
                            "configuration is not closed.' (t.conf:2:1)");
    expect_error("/a: 1", "Parse error on line 1: 'A key cannot begin with '/'; a comment begins "
                          "with '//' or '#'' (t.conf:1:0)");
}

static void repeated_keys_replace(void **state)
{
    (void)state;
    expect_same("a {b: 1}\na {c: 2}", "a {c: 2}");
    expect_same("a: 1\nb: 2\na: 3", "a: 3\nb: 2");
}

static void variables_look_outwards_then_at_the_environment(void **state)
{
    (void)state;
    setenv("RB_TEST_FIVE", "5", 1);
    setenv("RB_TEST_WORDS", "hello world", 1);
    setenv("RB_TEST_SELF", "$RB_TEST_SELF", 1);
    unsetenv("RB_TEST_NONE");
    expect_same("x: 3\na: $x\nx: 4", "a: 3\nx: 4");
    expect_same("x: 3\nb {x: 4\n a: $x\n c {d: $x}}\ne: [$x]",
                "x: 3\nb {x: 4, a: 4, c {d: 4}}\ne: [3\n]");
    expect_int("a: $RB_TEST_FIVE", 5);
    expect_text("a: '$RB_TEST_FIVE'", "$RB_TEST_FIVE");
    expect_error("x: 1\na: $RB_TEST_NONE",
                 "variable reference for 'RB_TEST_NONE' on line 2 can not be found (t.conf:2:17)");
    expect_error(
        "a: $RB_TEST_WORDS",
        "variable reference for 'RB_TEST_WORDS' on line 1 could not be parsed: Parse error "
        "on line 1: 'Expected a top-level value to end with a new line, comment or EOF, but "
        "got 'w' instead.' (RB_TEST_WORDS:1:6)");
    expect_error("a: $RB_TEST_SELF",
                 "variable reference for 'RB_TEST_SELF' on line 1 could not be parsed: variable "
                 "reference cycle for 'RB_TEST_SELF' (RB_TEST_SELF:1:13)");
}

static void used_variables_are_marked(void **state)
{
    (void)state;
    struct rb_conf conf = parse("x: 3\ny: 4\na: $x");
    assert_true(rb_conf_find(conf.root, RB_S("x"))->is_variable);
    assert_false(rb_conf_find(conf.root, RB_S("y"))->is_variable);
    rb_conf_deinit(&conf);
}

/* The tree must not point into the environment or the caller's text. */
static void the_tree_owns_its_text(void **state)
{
    (void)state;
    char text[] = "a: $RB_TEST_OWN\nb: word\n";
    struct rb_conf conf;
    char error[ERROR_MAX];
    setenv("RB_TEST_OWN", "before", 1);
    assert_int_equal(rb_conf_parse("t.conf", rb_slice_text(text), &conf, error, sizeof(error)),
                     RB_OK);
    setenv("RB_TEST_OWN", "gone!!", 1);
    memset(text, 'z', sizeof(text) - 1);
    assert_true(rb_slice_equal(value_of(&conf, "a")->text, RB_S("before")));
    assert_true(rb_slice_equal(value_of(&conf, "b")->text, RB_S("word")));
    rb_conf_deinit(&conf);
}

static void positions_are_those_of_nats_server(void **state)
{
    (void)state;
    struct rb_conf conf = parse("a: 1;b: 2\n  c: 3\n\"d\": 4\n");
    const struct rb_conf_entry *b = rb_conf_find(conf.root, RB_S("b"));
    const struct rb_conf_entry *c = rb_conf_find(conf.root, RB_S("c"));
    const struct rb_conf_entry *d = rb_conf_find(conf.root, RB_S("d"));
    assert_int_equal(b->line, 1);
    assert_int_equal(b->column, 5); /* from 0 on the first line */
    assert_int_equal(c->line, 2);
    assert_int_equal(c->column, 3); /* from 1 on the others */
    assert_int_equal(d->column, 2); /* after the quote */
    rb_conf_deinit(&conf);
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[4 * RB_CONF_DEPTH_MAX + 32] = "a: ";
    struct rb_conf conf;
    char error[ERROR_MAX];
    for (int i = 0; i < RB_CONF_DEPTH_MAX - 1; i++) { /* and one level of the file itself */
        strcat(text, "[");
    }
    char deeper[sizeof(text) + 2];
    snprintf(deeper, sizeof(deeper), "%s[", text);
    for (int i = 0; i < RB_CONF_DEPTH_MAX - 1; i++) {
        strcat(text, "]");
        strcat(deeper, "]");
    }
    strcat(deeper, "]");
    assert_int_equal(rb_conf_parse("t.conf", rb_slice_text(text), &conf, error, sizeof(error)),
                     RB_OK);
    rb_conf_deinit(&conf);
    assert_int_equal(rb_conf_parse("t.conf", rb_slice_text(deeper), &conf, error, sizeof(error)),
                     RB_ERR_INVALID);
}

/* Each variable doubles the one before: the tree would have 2^30 values if it were walked. */
static void variables_cannot_multiply_without_bound(void **state)
{
    (void)state;
    char text[4096] = "v0: [x, y]\n", line[64];
    struct rb_conf conf;
    char error[ERROR_MAX];
    for (int i = 1; i < 28; i++) {
        snprintf(line, sizeof(line), "v%d: [$v%d, $v%d]\n", i, i - 1, i - 1);
        strcat(text, line);
    }
    assert_int_equal(rb_conf_parse("t.conf", rb_slice_text(text), &conf, error, sizeof(error)),
                     RB_ERR_INVALID);
    assert_string_equal(error, "configuration has more than 262144 values");
}

static void digests_are_those_of_nats_server(void **state)
{
    (void)state;
    /* printed by nats-server -t */
    expect_digest("port: 4222\n",
                  "sha256:797533ebd0dfba7d34a0f9337ecf147e442871f48ddfd07ed751575a5737267e");
    expect_digest("authorization {token: c, timeout: 0.5}\n",
                  "sha256:361a93dbcd16057bc924ae76cc1d42244a6343d10eed28a2bb1915f7f91fa54c");
    expect_digest("x: 5\nport: $x\n",
                  "sha256:2c5e6fd6870f5614a30d9fa16f626cef8f85600f99dff43b391b62faa056536f");
    /* printed by its parser */
    expect_digest(
        "a: [1.5, -0.1, 0.0000001, 123456789012345678901.5, 3.0 ]\nb: 1000000000000000000000.5\n",
        "sha256:dac2ffc1fb3b57512a949f05e40667831f465cdc7ca8fbe637d89e4313961d73");
    expect_digest("a: \"<b>&\\x01\\x7f\\xff\"\nz: {y: 1, x: [true, no]}\nb: 2016-05-04T18:53:41Z\n",
                  "sha256:f574bdb86151ecb4341fd80b83afd8aba9473cf81663bc3d5b46938378317433");
    expect_digest("a: \"\342\200\250\\t\\n\\r\\\\\\\"\303\251\360\237\230\200\"\n",
                  "sha256:6c3dc2afc974737cd220630a4e5a2baec797fff8c795be3d14395994797f4469");
}

/* ------------------------------------------------------------------ includes */

static char folder[] = "rb_test_conf_XXXXXX"; /* in the folder where the test runs */

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int make_folder(void **state)
{
    (void)state;
    char sub[256];
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(sub, sizeof(sub), "%s/sub", folder);
    return mkdir(sub, 0700);
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = { "main.conf", "one.conf", "sub/two.conf",
                                         "self.conf", "sub",      "" };
    int failed = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[256];
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        failed |= remove(path);
    }
    return failed;
}

static void includes_are_relative_to_their_file(void **state)
{
    (void)state;
    char path[256], error[ERROR_MAX];
    struct rb_conf conf;
    write_file("main.conf", "x: 1\ninclude one.conf\nm {include \"sub/two.conf\"; k: 2}\n");
    write_file("one.conf", "o: 1\ninclude ./sub/two.conf\n");
    write_file("sub/two.conf", "\n t: 7\n");
    write_file("self.conf", "include self.conf\n");
    snprintf(path, sizeof(path), "%s/main.conf", folder);
    assert_int_equal(rb_conf_parse_file(path, &conf, error, sizeof(error)), RB_OK);
    assert_int_equal(conf.root->count, 4);
    assert_int_equal(value_of(&conf, "t")->integer, 7);
    assert_int_equal(value_of(&conf, "m")->count, 2);
    const struct rb_conf_entry *entry = rb_conf_find(conf.root, RB_S("t"));
    snprintf(path, sizeof(path), "%s/sub/two.conf", folder);
    assert_string_equal(entry->path, path);
    assert_int_equal(entry->line, 2);
    rb_conf_deinit(&conf);
}

static void includes_do_not_see_outer_variables(void **state)
{
    (void)state;
    char path[256], error[ERROR_MAX];
    struct rb_conf conf;
    write_file("main.conf", "x: 1\ninclude one.conf\n");
    write_file("one.conf", "o: $x\n");
    snprintf(path, sizeof(path), "%s/main.conf", folder);
    assert_int_equal(rb_conf_parse_file(path, &conf, error, sizeof(error)), RB_ERR_INVALID);
    assert_non_null(strstr(error,
                           "error parsing include file 'one.conf', variable reference for 'x' "
                           "on line 1 can not be found"));
}

static void includes_end(void **state)
{
    (void)state;
    char path[256], error[ERROR_MAX];
    struct rb_conf conf;
    snprintf(path, sizeof(path), "%s/self.conf", folder);
    assert_int_equal(rb_conf_parse_file(path, &conf, error, sizeof(error)), RB_ERR_INVALID);
    assert_non_null(strstr(error, "error parsing include file 'self.conf', "));
}

static void missing_files_are_named(void **state)
{
    (void)state;
    char error[ERROR_MAX];
    struct rb_conf conf;
    assert_int_equal(rb_conf_parse_file("no/such.conf", &conf, error, sizeof(error)),
                     RB_ERR_INVALID);
    assert_string_equal(error, "open no/such.conf: no such file or directory");
    expect_error("include nothing.conf\n", "error parsing include file 'nothing.conf', open "
                                           "nothing.conf: no such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_units),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(what_only_begins_like_a_number_is_text),
        cmocka_unit_test(floats_and_dates),
        cmocka_unit_test(booleans_are_bare_words),
        cmocka_unit_test(text_forms),
        cmocka_unit_test(separators),
        cmocka_unit_test(nothing_is_dropped_in_silence),
        cmocka_unit_test(repeated_keys_replace),
        cmocka_unit_test(variables_look_outwards_then_at_the_environment),
        cmocka_unit_test(used_variables_are_marked),
        cmocka_unit_test(the_tree_owns_its_text),
        cmocka_unit_test(positions_are_those_of_nats_server),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(variables_cannot_multiply_without_bound),
        cmocka_unit_test(digests_are_those_of_nats_server),
        cmocka_unit_test(includes_are_relative_to_their_file),
        cmocka_unit_test(includes_do_not_see_outer_variables),
        cmocka_unit_test(includes_end),
        cmocka_unit_test(missing_files_are_named),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
