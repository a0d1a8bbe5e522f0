/* test_connect.c - what CONNECT documents mean, and the bytes of INFO. */
#include "proto/connect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Parses a heap copy of exactly the text's size, over the defaults. */
static enum rb_err parse_slice(struct rb_slice json, struct rb_connect *connect,
                               struct rb_connect_doc **doc)
{
    uint8_t *copy = malloc(json.len + (json.len == 0));
    if (json.len != 0) {
        memcpy(copy, json.ptr, json.len);
    }
    rb_connect_defaults(connect);
    *doc = NULL;
    enum rb_err err = rb_connect_parse(rb_slice_of(copy, json.len), connect, doc);
    free(copy); /* the document must stand on its own */
    return err;
}

static enum rb_err parse(const char *json, struct rb_connect *connect, struct rb_connect_doc **doc)
{
    return parse_slice(rb_slice_text(json), connect, doc);
}

static void assert_text(struct rb_slice s, const char *wanted)
{
    assert_int_equal(s.len, strlen(wanted));
    assert_memory_equal(s.ptr, wanted, s.len);
}

static void defaults_stay_without_fields(void **state)
{
    static const char *const empty[] = { "{}", "  {} ", "null", "{\"unknown\":[1,{\"a\":null}]}",
                                         "{\"verbose\":null,\"protocol\":null,\"name\":null}" };
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
        struct rb_connect connect;
        struct rb_connect_doc *doc;
        assert_int_equal(parse(empty[i], &connect, &doc), RB_OK);
        assert_true(connect.verbose && connect.pedantic && connect.echo);
        assert_false(connect.headers || connect.no_responders || connect.tls_required ||
                     connect.has_account);
        assert_true(connect.protocol == 0 && connect.name.len == 0 && connect.jwt.len == 0);
        rb_connect_doc_free(doc);
    }
    rb_connect_doc_free(NULL);
}

static void all_fields(void **state)
{
    struct rb_connect c;
    struct rb_connect_doc *doc;
    assert_int_equal(parse("{\"verbose\":false,\"pedantic\":false,\"echo\":false,\"headers\":true,"
                           "\"no_responders\":true,\"tls_required\":true,\"protocol\":1,"
                           "\"name\":\"n\",\"lang\":\"c\",\"version\":\"3.9\",\"auth_token\":\"t\","
                           "\"user\":\"u\",\"pass\":\"p\\u00e9\\n\",\"nkey\":\"UA\",\"sig\":\"s\","
                           "\"jwt\":\"eyJ\",\"proxy_sig\":\"\",\"import\":{},\"export\":null}",
                           &c, &doc),
                     RB_OK);
    assert_false(c.verbose || c.pedantic || c.echo || c.has_account);
    assert_true(c.headers && c.no_responders && c.tls_required && c.protocol == 1);
    assert_text(c.name, "n");
    assert_text(c.lang, "c");
    assert_text(c.version, "3.9");
    assert_text(c.auth_token, "t");
    assert_text(c.user, "u");
    assert_text(c.pass, "p\xc3\xa9\n");
    assert_text(c.nkey, "UA");
    assert_text(c.sig, "s");
    assert_text(c.jwt, "eyJ");
    rb_connect_doc_free(doc);
}

/* A later CONNECT is laid over what an earlier one said. */
static void fields_are_laid_over(void **state)
{
    struct rb_connect c;
    struct rb_connect_doc *first, *second;
    assert_int_equal(parse("{\"verbose\":false,\"user\":\"u\"}", &c, &first), RB_OK);
    assert_int_equal(rb_connect_parse(RB_S("{\"echo\":false}"), &c, &second), RB_OK);
    assert_false(c.verbose || c.echo);
    assert_text(c.user, "u");
    rb_connect_doc_free(first);
    rb_connect_doc_free(second);
}

static void keys_ignore_case_and_the_last_wins(void **state)
{
    static const char *const quiet[] = {
        "{\"VERBOSE\":false}",
        "{\"verbose\":true,\"Verbose\":false}",
        "{\"VERBOSE\":true,\"verbose\":false}",
        "{\"verbose\":true,\"verbose\":false}",
        "{\"verbo\\u0073e\":false}",
        "{\"verbos\":true,\"verbosee\":true,\"verbose\":false}",
    };
    for (size_t i = 0; i < sizeof(quiet) / sizeof(quiet[0]); i++) {
        struct rb_connect c;
        struct rb_connect_doc *doc;
        assert_int_equal(parse(quiet[i], &c, &doc), RB_OK);
        assert_false(c.verbose);
        rb_connect_doc_free(doc);
    }
}

static void wrong_documents_are_refused(void **state)
{
    static const char *const wrong[] = {
        "",
        " ",
        "{",
        "}",
        "[]",
        "true",
        "1",
        "\"\"",
        "{} x",
        "{}{}",
        "{},",
        "{\"a\":1,}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":1.}",
        "{\"a\":1e}",
        "{\"a\":.5}",
        "{\"a\":1-2}",
        "{\"a\":0x1}",
        "{\"name\":\"a\tb\"}",
        "{\"name\":\"\\x\"}",
        "{\"name\":\"\\ud8\"}",
        "{\"name\":\"a}",
        "{\"name\":\"a\\",
        "\xef\xbb\xbf{}",
        "{\"verbose\":\"x\"}",
        "{\"verbose\":1}",
        "{\"echo\":[]}",
        "{\"protocol\":\"1\"}",
        "{\"protocol\":1.0}",
        "{\"protocol\":1e0}",
        "{\"protocol\":99999999999999999999}",
        "{\"protocol\":true}",
        "{\"name\":5}",
        "{\"jwt\":{}}",
        "{\"account\":true}",
        "{\"new_account\":\"x\"}",
        "{\"import\":1}",
        "{\"export\":\"x\"}",
        "{\"remote_account\":1}",
        "{\"proxy_sig\":1}",
        "{\"verbose\":\"x\",\"Verbose\":true}",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct rb_connect c;
        struct rb_connect_doc *doc;
        if (parse(wrong[i], &c, &doc) != RB_ERR_INVALID) {
            fail_msg("accepted %s", wrong[i]);
        }
        assert_null(doc);
    }
}

/* A refused document changes nothing, also when its first fields were right. */
static void refusal_changes_nothing(void **state)
{
    struct rb_connect c;
    struct rb_connect_doc *doc;
    assert_int_equal(parse("{\"verbose\":false,\"user\":\"u\",\"echo\":1}", &c, &doc),
                     RB_ERR_INVALID);
    assert_true(c.verbose);
    assert_null(c.user.ptr);
}

/* What clients may send though it is not quite JSON: see invariant 1 of connect.c. */
static void text_is_read_as_clients_expect(void **state)
{
    static const struct {
        const char *json, *name;
    } rows[] = {
        { "{\"name\":\"a\xff\"}", "a\xef\xbf\xbd" },
        { "{\"name\":\"\xc0\xaf\"}", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "{\"name\":\"\xed\xa0\x80\"}", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "{\"name\":\"\xe2\x82\"}", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "{\"name\":\"\xf4\x90\x80\x80.\"}", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd." },
        { "{\"name\":\"\xe2\x82\xac\xf0\x9f\x98\x80\"}", "\xe2\x82\xac\xf0\x9f\x98\x80" },
        { "{\"name\":\"\\ud800\"}", "\xef\xbf\xbd" },
        { "{\"name\":\"\\udc00x\"}", "\xef\xbf\xbdx" },
        { "{\"name\":\"\\ud800\\ud83d\\ude00\"}", "\xef\xbf\xbd\xf0\x9f\x98\x80" },
        { "{\"name\":\"\\ud83d\\u0041\"}", "\xef\xbf\xbd"
                                           "A" },
        { "{\"name\":\"\\\"{[\\\\\"}", "\"{[\\" },
        { "{\"x\":99999999999999999999,\"y\":-1e999,\"z\":0.5E-3,\"name\":\"1e999\"}", "1e999" },
        { "{\"x\":\"\\\\\",\"y\":[-0,10.25,1E+2],\"name\":\"n\"}", "n" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rb_connect c;
        struct rb_connect_doc *doc;
        if (parse(rows[i].json, &c, &doc) != RB_OK) {
            fail_msg("refused %s", rows[i].json);
        }
        assert_text(c.name, rows[i].name);
        rb_connect_doc_free(doc);
    }
}

static void zero_bytes_are_kept(void **state)
{
    struct rb_connect c;
    struct rb_connect_doc *doc;
    assert_int_equal(parse("{\"pass\":\"a\\u0000b\"}", &c, &doc), RB_OK);
    assert_int_equal(c.pass.len, 3);
    assert_memory_equal(c.pass.ptr, "a\0b", 3);
    rb_connect_doc_free(doc);
    assert_int_equal(parse_slice(RB_S("{\"pass\":\"a\0b\"}"), &c, &doc), RB_ERR_INVALID);
    assert_int_equal(parse_slice(RB_S("{}\0"), &c, &doc), RB_ERR_INVALID);
}

static void obsolete_accounts(void **state)
{
    static const struct {
        const char *json;
        bool has_account;
    } rows[] = {
        { "{\"account\":\"x\"}", true },
        { "{\"new_account\":true}", true },
        { "{\"account\":\"\"}", false },
        { "{\"new_account\":false,\"account\":null}", false },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rb_connect c;
        struct rb_connect_doc *doc;
        assert_int_equal(parse(rows[i].json, &c, &doc), RB_OK);
        assert_int_equal(c.has_account, rows[i].has_account);
        rb_connect_doc_free(doc);
    }
}

/* Names are cut to whole characters; credentials are not cut. */
static void long_names_are_cut(void **state)
{
    char json[2048];
    struct rb_connect c;
    struct rb_connect_doc *doc;
    char name[301] = "x";
    for (size_t i = 1; i + 2 < sizeof(name); i += 2) {
        memcpy(name + i, "\xc3\xa9", 3);
    }
    snprintf(json, sizeof(json), "{\"name\":\"%s\",\"pass\":\"%s\"}", name, name);
    assert_int_equal(parse(json, &c, &doc), RB_OK);
    assert_int_equal(c.name.len, RB_CONNECT_TEXT_MAX - 1);
    assert_memory_equal(c.name.ptr, name, c.name.len);
    assert_int_equal(c.pass.len, strlen(name));
    rb_connect_doc_free(doc);
}

static void depth_is_bounded(void **state)
{
    char json[4 * RB_CONNECT_DEPTH_MAX + 64];
    for (int over = 0; over <= 1; over++) {
        struct rb_connect c;
        struct rb_connect_doc *doc;
        int depth = RB_CONNECT_DEPTH_MAX - 1 + over; /* the object itself is one */
        char *at = json + sprintf(json, "{\"[[[[\":");
        memset(at, '[', (size_t)depth);
        memset(at + depth, ']', (size_t)depth);
        strcpy(at + 2 * depth, "}");
        assert_int_equal(parse(json, &c, &doc), over ? RB_ERR_INVALID : RB_OK);
        rb_connect_doc_free(doc);
    }
}

/* ---- INFO ----------------------------------------------------------------------------------- */

static void assert_info(const struct rb_info *info, const char *wanted)
{
    size_t len = strlen(wanted);
    uint8_t *out = malloc(len);
    assert_int_equal(rb_info_format(out, len, info), len);
    assert_memory_equal(out, wanted, len);
    for (size_t cap = 0; cap < len; cap++) {
        assert_int_equal(rb_info_format(out, cap, info), 0);
    }
    free(out);
}

static void info_leaves_out_what_is_empty(void **state)
{
    const struct rb_info info = { .port = 4222 };
    assert_info(&info, "INFO {\"server_id\":\"\",\"server_name\":\"\",\"version\":\"\",\"proto\":1,"
                       "\"go\":\"\",\"host\":\"\",\"port\":4222,\"headers\":false,"
                       "\"max_payload\":0} \r\n");
}

static void info_has_all_fields_in_order(void **state)
{
    const struct rb_slice urls[] = { RB_S("10.0.0.1:4222"), RB_S("[::1]:4222") };
    const struct rb_info info = {
        .server_id = RB_S("NID"),
        .server_name = RB_S("name"),
        .version = RB_S("2.15.2"),
        .git_commit = RB_S("abc"),
        .runtime = RB_S("go1"),
        .host = RB_S("0.0.0.0"),
        .nonce = RB_S("nonce"),
        .cluster = RB_S("c1"),
        .domain = RB_S("hub"),
        .xkey = RB_S("XK"),
        .ringbus_version = RB_S("0.1.0"),
        .connect_urls = urls,
        .connect_url_count = 2,
        .port = 65535,
        .headers = true,
        .auth_required = true,
        .tls_required = true,
        .tls_verify = true,
        .tls_available = true,
        .jetstream = true,
        .ldm = true,
        .connect_info = true,
        .acc_is_sys = true,
        .remote_account = RB_S("$SYS"),
        .client_id = UINT64_MAX,
        .client_ip = RB_S("127.0.0.1"),
        .max_payload = 1048576,
        .api_lvl = 5,
    };
    assert_info(&info,
                "INFO {\"server_id\":\"NID\",\"server_name\":\"name\",\"version\":\"2.15.2\","
                "\"proto\":1,\"git_commit\":\"abc\",\"go\":\"go1\",\"host\":\"0.0.0.0\","
                "\"port\":65535,\"headers\":true,\"auth_required\":true,\"tls_required\":true,"
                "\"tls_verify\":true,\"tls_available\":true,\"max_payload\":1048576,"
                "\"jetstream\":true,\"client_id\":18446744073709551615,"
                "\"client_ip\":\"127.0.0.1\",\"nonce\":\"nonce\",\"cluster\":\"c1\","
                "\"domain\":\"hub\",\"connect_urls\":[\"10.0.0.1:4222\",\"[::1]:4222\"],"
                "\"ldm\":true,\"connect_info\":true,\"remote_account\":\"$SYS\","
                "\"acc_is_sys\":true,\"api_lvl\":5,\"xkey\":\"XK\",\"ringbus\":\"0.1.0\"} \r\n");
}

static void account_comes_with_connect_info_only(void **state)
{
    const struct rb_info info = { .remote_account = RB_S("$G"), .acc_is_sys = true };
    uint8_t out[512];
    size_t len = rb_info_format(out, sizeof(out), &info);
    assert_true(len > 0 && len < sizeof(out));
    out[len] = 0;
    assert_null(strstr((char *)out, "remote_account"));
    assert_null(strstr((char *)out, "acc_is_sys"));
}

static void info_escapes_text(void **state)
{
    const struct rb_info info = {
        .server_id = RB_S("\"\\/\b\f\n\r\t\x01\x1f\x7f"),
        .server_name = RB_S("<a>&\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa"),
        .version = RB_S("\xff\xc3\xa9\xed\xa0\x80\xe2\x82"),
    };
    assert_info(&info,
                "INFO {\"server_id\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\","
                "\"server_name\":\"\\u003ca\\u003e\\u0026\\u2028\\u2029\xe2\x80\xaa\","
                "\"version\":\"\\ufffd\xc3\xa9\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\",\"proto\":1,"
                "\"go\":\"\",\"host\":\"\",\"port\":0,\"headers\":false,\"max_payload\":0} \r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_stay_without_fields),
        cmocka_unit_test(all_fields),
        cmocka_unit_test(fields_are_laid_over),
        cmocka_unit_test(keys_ignore_case_and_the_last_wins),
        cmocka_unit_test(wrong_documents_are_refused),
        cmocka_unit_test(refusal_changes_nothing),
        cmocka_unit_test(text_is_read_as_clients_expect),
        cmocka_unit_test(zero_bytes_are_kept),
        cmocka_unit_test(obsolete_accounts),
        cmocka_unit_test(long_names_are_cut),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(info_leaves_out_what_is_empty),
        cmocka_unit_test(info_has_all_fields_in_order),
        cmocka_unit_test(account_comes_with_connect_info_only),
        cmocka_unit_test(info_escapes_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
