/* Which servers a system request is meant for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "server/filter.h"

static const char *const tags[] = { "az:1", "east" };
static const struct rb_filter_facts facts = {
    .name = "alpha-1", .host = "127.0.0.1", .tags = tags, .tag_count = 2
};

static bool meant(const char *body)
{
    struct rb_filter filter;
    char error[RB_FILTER_ERROR_MAX] = "";
    if (!rb_filter_parse(rb_slice_text(body), "VarzEventOptions", &filter, error)) {
        fail_msg("%s: %s", body, error);
    }
    bool is = rb_filter_meant(&filter, &facts);
    rb_filter_deinit(&filter);
    return is;
}

static void refuse(const char *body, const char *why)
{
    struct rb_filter filter;
    char error[RB_FILTER_ERROR_MAX] = "";
    assert_false(rb_filter_parse(rb_slice_text(body), "VarzEventOptions", &filter, error));
    assert_string_equal(error, why);
}

static void nobody_is_left_out_without_options(void **state)
{
    (void)state;
    assert_true(meant(""));
    assert_true(meant("null"));
    assert_true(meant("{}"));
    assert_true(meant("{\"server_name\":null,\"unknown\":[1]}"));
}

static void names_are_contained_or_equal(void **state)
{
    (void)state;
    assert_true(meant("{\"server_name\":\"pha\"}"));
    assert_true(meant("{\"SERVER_NAME\":\"alpha-1\",\"exact_match\":true}"));
    assert_false(meant("{\"server_name\":\"pha\",\"exact_match\":true}"));
    assert_false(meant("{\"server_name\":\"Alpha\"}"));
    assert_true(meant("{\"host\":\"127\"}"));
    assert_false(meant("{\"host\":\"127\",\"exact_match\":true}"));
    assert_false(meant("{\"cluster\":\"c\"}"));
    assert_false(meant("{\"domain\":\"hub\"}"));
    assert_true(meant("{\"domain\":\"\",\"cluster\":\"\"}"));
}

static void every_tag_is_needed(void **state)
{
    (void)state;
    assert_true(meant("{\"tags\":[]}"));
    assert_true(meant("{\"tags\":[\"EAST\"]}"));
    assert_true(meant("{\"tags\":[\"east\",\"az:1\"]}"));
    assert_false(meant("{\"tags\":[\"east\",\"az:2\"]}"));
    assert_false(meant("{\"tags\":[\"eas\"]}"));
}

static void wrong_types_are_named(void **state)
{
    (void)state;
    refuse("{\"server_name\":1}", "json: cannot unmarshal number into Go struct field "
                                  "VarzEventOptions.EventFilterOptions.server_name of type string");
    refuse("{\"tags\":\"a\"}", "json: cannot unmarshal string into Go struct field "
                               "VarzEventOptions.EventFilterOptions.tags of type []string");
    refuse("{\"tags\":[\"a\",{}]}", "json: cannot unmarshal object into Go struct field "
                                    "VarzEventOptions.EventFilterOptions.tags of type string");
    refuse("{\"exact_match\":0}", "json: cannot unmarshal number into Go struct field "
                                  "VarzEventOptions.EventFilterOptions.exact_match of type bool");
    refuse("[]", "json: cannot unmarshal array into Go value of type server.VarzEventOptions");
    refuse("{\"server_name\"", "unexpected end of JSON input");
}

static void texts_and_lists_are_bounded(void **state)
{
    (void)state;
    char body[RB_FILTER_TEXT_MAX + 64], name[RB_FILTER_TEXT_MAX + 1];
    memset(name, 'a', sizeof(name) - 1);
    name[RB_FILTER_TEXT_MAX] = '\0';
    (void)snprintf(body, sizeof(body), "{\"host\":\"%s\"}", name);
    refuse(body, "value of 'host' is longer than 511 bytes");
    (void)snprintf(body, sizeof(body), "{\"host\":\"%s\"}", name + 1);
    assert_false(meant(body));
    size_t len = (size_t)snprintf(body, sizeof(body), "{\"tags\":[\"\"");
    for (int i = 0; i < RB_FILTER_TAGS_MAX; i++) {
        len += (size_t)snprintf(body + len, sizeof(body) - len, ",\"\"");
    }
    (void)snprintf(body + len, sizeof(body) - len, "]}");
    refuse(body, "more than 64 tags");
}

static void a_connection_is_a_number(void **state)
{
    (void)state;
    struct rb_filter filter;
    char error[RB_FILTER_ERROR_MAX];
    assert_true(rb_filter_parse(RB_S("{\"cid\":7}"), "X", &filter, error));
    assert_int_equal(filter.cid, 7);
    assert_false(filter.cid_bad);
    assert_true(rb_filter_parse(RB_S("{\"cid\":\"7\"}"), "X", &filter, error));
    assert_true(filter.cid_bad);
    assert_true(rb_filter_parse(RB_S("{\"cid\":-7}"), "X", &filter, error));
    assert_true(filter.cid_bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_left_out_without_options),
        cmocka_unit_test(names_are_contained_or_equal),
        cmocka_unit_test(every_tag_is_needed),
        cmocka_unit_test(wrong_types_are_named),
        cmocka_unit_test(texts_and_lists_are_bounded),
        cmocka_unit_test(a_connection_is_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
