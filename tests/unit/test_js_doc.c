/* Documents: what is read, what is said of what cannot be read (compared with nats-server), what is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js/doc.h"

/* A document with a field of each kind, nested as those of the API are. */
struct part {
    struct rb_slice name;
    int64_t since;
    uint64_t seq;
};
struct base {
    struct rb_slice name;
    uint8_t color, shade, level;
    int64_t count, whole, age;
    int32_t size;
    bool on;
    struct rb_doc_strings subjects;
    struct rb_doc_i64s backoff;
    struct rb_doc_map metadata;
    struct part *mirror;
    struct part limits;
    struct rb_doc_objects sources;
    struct rb_slice raw;
};
struct request {
    struct base base;
    bool pedantic;
};
static const char *const colors[] = { "red", "green", NULL };
#define PART(field) offsetof(struct part, field)
static const struct rb_doc_field part_fields[] = {
    { "name", RB_DOC_STRING, 0, PART(name) },
    { "since", RB_DOC_TIME, RB_DOC_OMIT, PART(since) },
    { "seq", RB_DOC_U64, RB_DOC_OMIT, PART(seq) },
};
static const struct rb_doc_type part_type = { "Part", sizeof(struct part), part_fields, 3 };
#define BASE(field) offsetof(struct base, field)
static const struct rb_doc_field base_fields[] = {
    { "name", RB_DOC_STRING, 0, BASE(name) },
    { "color", RB_DOC_ENUM, 0, BASE(color), colors },
    { "shade", RB_DOC_ENUM, RB_DOC_OMIT | RB_DOC_ANY_CASE, BASE(shade), colors, NULL,
      "unknown shade: " },
    { "level", RB_DOC_ENUM, RB_DOC_OMIT | RB_DOC_TEXT, BASE(level), colors, NULL, "unknown level" },
    { "count", RB_DOC_I64, 0, BASE(count) },
    { "whole", RB_DOC_INT, RB_DOC_OMIT, BASE(whole) },
    { "age", RB_DOC_DURATION, RB_DOC_OMIT, BASE(age) },
    { "size", RB_DOC_I32, RB_DOC_OMIT, BASE(size) },
    { "on", RB_DOC_BOOL, RB_DOC_OMIT, BASE(on) },
    { "subjects", RB_DOC_STRINGS, RB_DOC_OMIT, BASE(subjects) },
    { "backoff", RB_DOC_I64S, RB_DOC_OMIT, BASE(backoff) },
    { "metadata", RB_DOC_MAP, RB_DOC_OMIT, BASE(metadata) },
    { "mirror", RB_DOC_OBJECT, RB_DOC_OMIT, BASE(mirror), NULL, &part_type },
    { "limits", RB_DOC_INLINE, 0, BASE(limits), NULL, &part_type },
    { "sources", RB_DOC_OBJECTS, RB_DOC_OMIT | RB_DOC_POINTERS, BASE(sources), NULL, &part_type },
    { "raw", RB_DOC_RAW, RB_DOC_OMIT, BASE(raw) },
    { "deleted", RB_DOC_U64S },
    { "counts", RB_DOC_COUNTS },
    { "hidden", RB_DOC_BOOL, RB_DOC_READ_ONLY | RB_DOC_OMIT, BASE(on) },
};
static const struct rb_doc_type base_type = { "Base", sizeof(struct base), base_fields, 19 };
static const struct rb_doc_field request_fields[] = {
    { NULL, RB_DOC_INLINE, 0, offsetof(struct request, base), NULL, &base_type },
    { "pedantic", RB_DOC_BOOL, RB_DOC_NO_WRITE, offsetof(struct request, pedantic) },
};
static const struct rb_doc_type request_type = { "Request", sizeof(struct request), request_fields,
                                                 2 };

struct fixture {
    struct rb_arena *arena;
    struct rb_out out;
    struct request request;
    char error[RB_DOC_ERROR_MAX];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    assert_int_equal(rb_arena_create(4096, &f->arena), RB_OK);
    rb_out_init(&f->out, NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rb_out_deinit(&f->out);
    rb_arena_destroy(f->arena);
    free(f);
    return 0;
}

static bool read(struct fixture *f, const char *json, bool strict)
{
    return rb_doc_read(f->arena, &request_type, rb_slice_text(json), strict, &f->request, f->error);
}

static void accept(struct fixture *f, const char *json, const char *written)
{
    if (!read(f, json, true)) {
        fail_msg("%s: %s", json, f->error);
    }
    f->out.len = 0;
    rb_doc_write(&f->out, &request_type, &f->request);
    rb_out_put(&f->out, rb_slice_of("", 1));
    assert_string_equal((const char *)f->out.bytes, written);
}

static void refuse(struct fixture *f, const char *json, const char *why)
{
    assert_false(read(f, json, true));
    assert_string_equal(f->error, why);
}

static void documents_are_read_and_written(void **state)
{
    struct fixture *f = *state;
    accept(f, "", "{\"name\":\"\",\"color\":\"red\",\"count\":0,\"limits\":{\"name\":\"\"}}");
    accept(f, "null", "{\"name\":\"\",\"color\":\"red\",\"count\":0,\"limits\":{\"name\":\"\"}}");
    accept(f, " {\"NAME\" : \"a<\\u00e9\\ud83d\\ude00\\ud800\xff\" , \"color\":\"green\"}\n",
           "{\"name\":\"a\\u003c\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd\",\"color\":"
           "\"green\","
           "\"count\":0,\"limits\":{\"name\":\"\"}}");
    accept(
        f,
        "{\"count\":-5,\"whole\":7,\"age\":9223372036854775807,\"size\":-2147483648,\"on\":true,"
        "\"subjects\":[\"a\",null],\"backoff\":[1,2],\"metadata\":{\"b\":\"1\",\"a\":null,"
        "\"b\":\"2\"},\"shade\":\"GREEN\",\"level\":\"green\",\"mirror\":{\"name\":\"m\","
        "\"since\":\"2021-02-03T04:05:06.07+01:00\",\"seq\":18446744073709551615},"
        "\"limits\":{\"name\":\"l\"},\"sources\":[{\"name\":\"s\"},null],\"raw\":{ \"x\":[1]},"
        "\"deleted\":[1,2],\"counts\":{\"x\":1},\"pedantic\":true}",
        "{\"name\":\"\",\"color\":\"red\",\"shade\":\"green\",\"level\":\"green\",\"count\":-5,"
        "\"whole\":7,\"age\":9223372036854775807,\"size\":-2147483648,\"on\":true,"
        "\"subjects\":[\"a\",\"\"],\"backoff\":[1,2],\"metadata\":{\"a\":\"\",\"b\":\"2\"},"
        "\"mirror\":{\"name\":\"m\",\"since\":\"2021-02-03T03:05:06.07Z\","
        "\"seq\":18446744073709551615},\"limits\":{\"name\":\"l\"},\"sources\":[{\"name\":\"s\"},"
        "{\"name\":\"\"}],\"raw\":{ \"x\":[1]},\"hidden\":true}");
    assert_true(f->request.pedantic);
}

/* Several values are one document after the other into the same struct; null takes back what points somewhere. */
static void values_follow_each_other(void **state)
{
    struct fixture *f = *state;
    accept(f, "{\"count\":1,\"mirror\":{\"name\":\"a\"}} {\"mirror\":{\"seq\":2},\"count\":null}",
           "{\"name\":\"\",\"color\":\"red\",\"count\":1,\"mirror\":{\"name\":\"a\",\"seq\":2},"
           "\"limits\":{\"name\":\"\"}}");
    accept(f, "{\"mirror\":{},\"mirror\":null,\"subjects\":[\"a\"],\"subjects\":null}",
           "{\"name\":\"\",\"color\":\"red\",\"count\":0,\"limits\":{\"name\":\"\"}}");
    refuse(f, "{} x", "invalid character 'x' looking for beginning of value at offset 4");
    assert_false(read(f, "{} {}", false));
    assert_string_equal(f->error, "invalid character '{' after top-level value");
}

static void wrong_types_are_named_as_go_does(void **state)
{
    struct fixture *f = *state;
#define WRONG(what, field, type)                                                                   \
    "json: cannot unmarshal " what " into Go struct field " field " of type " type
    refuse(f, "{\"count\":\"x\"}", WRONG("string", "Request.Base.count", "int64"));
    refuse(f, "{\"count\":1.5}", WRONG("number 1.5", "Request.Base.count", "int64"));
    refuse(f, "{\"count\":99999999999999999999}",
           WRONG("number 99999999999999999999", "Request.Base.count", "int64"));
    refuse(f, "{\"size\":3000000000}", WRONG("number 3000000000", "Request.Base.size", "int32"));
    refuse(f, "{\"whole\":true}", WRONG("bool", "Request.Base.whole", "int"));
    refuse(f, "{\"age\":\"5s\"}", WRONG("string", "Request.Base.age", "time.Duration"));
    refuse(f, "{\"age\":1e3}", WRONG("number 1e3", "Request.Base.age", "time.Duration"));
    refuse(f, "{\"name\":5}", WRONG("number", "Request.Base.name", "string"));
    refuse(f, "{\"on\":5}", WRONG("number", "Request.Base.on", "bool"));
    refuse(f, "{\"subjects\":\"a\"}", WRONG("string", "Request.Base.subjects", "[]string"));
    refuse(f, "{\"subjects\":[5]}", WRONG("number", "Request.Base.subjects", "string"));
    refuse(f, "{\"backoff\":[\"x\"]}", WRONG("string", "Request.Base.backoff", "time.Duration"));
    refuse(f, "{\"backoff\":5}", WRONG("number", "Request.Base.backoff", "[]time.Duration"));
    refuse(f, "{\"metadata\":5}", WRONG("number", "Request.Base.metadata", "map[string]string"));
    refuse(f, "{\"metadata\":{\"a\":5}}", WRONG("number", "Request.Base.metadata", "string"));
    refuse(f, "{\"mirror\":[]}", WRONG("array", "Request.Base.mirror", "server.Part"));
    refuse(f, "{\"mirror\":{\"name\":5}}", WRONG("number", "Part.Base.mirror.name", "string"));
    refuse(f, "{\"limits\":{\"seq\":-1}}", WRONG("number -1", "Part.Base.limits.seq", "uint64"));
    refuse(f, "{\"sources\":{}}", WRONG("object", "Request.Base.sources", "[]*server.Part"));
    refuse(f, "{\"sources\":[5]}", WRONG("number", "Request.Base.sources", "server.Part"));
    refuse(f, "{\"sources\":[{\"name\":{}}]}", WRONG("object", "Part.Base.sources.name", "string"));
    refuse(f, "{\"deleted\":[-1]}", WRONG("number -1", "Request.Base.deleted", "uint64"));
    refuse(f, "{\"counts\":[]}", WRONG("array", "Request.Base.counts", "map[string]uint64"));
    refuse(f, "{\"pedantic\":5}", WRONG("number", "Request.pedantic", "bool"));
    refuse(f, "{\"level\":5}", WRONG("number", "Request.Base.level", "string"));
    refuse(f, "5", "json: cannot unmarshal number into Go value of type server.Request");
    refuse(f, "[]", "json: cannot unmarshal array into Go value of type server.Request");
}

static void the_first_error_counts_unless_one_ends_the_reading(void **state)
{
    struct fixture *f = *state;
    refuse(f, "{\"bogus\":1,\"count\":\"x\"}", "json: unknown field \"bogus\"");
    refuse(f, "{\"a\\\"b\":1}", "json: unknown field \"a\\\"b\"");
    refuse(f, "{\"count\":\"x\",\"bogus\":1}", WRONG("string", "Request.Base.count", "int64"));
    refuse(f, "{\"count\":\"x\",\"color\":\"blue\"}", "can not unmarshal \"\\\"blue\\\"\"");
    refuse(f, "{\"color\":5}", "can not unmarshal \"5\"");
    refuse(f, "{\"color\":null}", "can not unmarshal \"null\"");
    refuse(f, "{\"shade\":\"x\"}", "unknown shade: \"x\"");
    refuse(f, "{\"shade\":5}", "unknown shade: 5");
    refuse(f, "{\"level\":\"x\"}", "unknown level");
    refuse(f, "{\"hidden\":true}", "json: unknown field \"hidden\"");
    assert_true(read(f, "{\"bogus\":[{\"a\":\"}\"}],\"count\":3}", false));
    assert_int_equal(f->request.base.count, 3);
}

static void syntax_errors_say_where(void **state)
{
    struct fixture *f = *state;
    refuse(f, "{\"name\":\"S\",", "unexpected EOF");
    refuse(f, "\"a", "unexpected EOF");
    refuse(f, "{\"name\":\"S\",}",
           "invalid character '}' looking for beginning of object key string at offset 13");
    refuse(f, "{\"a\":tru}", "invalid character '}' in literal true (expecting 'e') at offset 9");
    assert_false(read(f, "x", false));
    assert_string_equal(f->error, "invalid character 'x' looking for beginning of value");
    assert_false(read(f, "", false));
    assert_string_equal(f->error, "unexpected end of JSON input");
}

static void refuse_time(struct fixture *f, const char *time, const char *why)
{
    char json[128];
    (void)snprintf(json, sizeof(json), "{\"limits\":{\"since\":%s}}", time);
    refuse(f, json, why);
}

static void times_are_those_of_go(void **state)
{
    struct fixture *f = *state;
#define CANNOT(text, part, element)                                                                \
    "parsing time \"" text "\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"" part             \
    "\" as \"" element "\""
    refuse_time(f, "5", "Time.UnmarshalJSON: input is not a JSON string");
    refuse_time(f, "\"\"", CANNOT("", "", "2006"));
    refuse_time(f, "\"x\"", CANNOT("x", "x", "2006"));
    refuse_time(f, "\"2020-12-31 00:00:00Z\"", CANNOT("2020-12-31 00:00:00Z", " 00:00:00Z", "T"));
    refuse_time(f, "\"2020-12-31T00:00:00\"", CANNOT("2020-12-31T00:00:00", "", "Z07:00"));
    refuse_time(f, "\"2020-12-31T05:00:00.Z\"", CANNOT("2020-12-31T05:00:00.Z", ".Z", "Z07:00"));
    refuse_time(f, "\"2020-13-01T00:00:00Z\"",
                "parsing time \"2020-13-01T00:00:00Z\": month out of range");
    refuse_time(f, "\"2020-02-30T05:00:00Z\"",
                "parsing time \"2020-02-30T05:00:00Z\": day out of range");
    refuse_time(f, "\"2020-12-31T25:00:00Z\"",
                "parsing time \"2020-12-31T25:00:00Z\": hour out of range");
    refuse_time(f, "\"2020-12-31T05:00:00+25:00\"",
                "parsing time \"2020-12-31T05:00:00+25:00\": time zone offset hour out of range");
    refuse_time(f, "\"2020-12-31T00:00:00Zx\"",
                "parsing time \"2020-12-31T00:00:00Zx\": extra text: \"x\"");
    assert_true(read(f, "{\"limits\":{\"since\":\"1970-01-02T5:00:00,000000001Z\"}}", true));
    assert_int_equal(f->request.base.limits.since, (24 + 5) * 3600 * 1000000000ll + 1);
    assert_true(read(f, "{\"limits\":{\"since\":\"0001-01-01T00:00:00Z\"}}", true));
    assert_true(f->request.base.limits.since == RB_DOC_NO_TIME);
    assert_true(read(f, "{\"limits\":{\"since\":\"9999-01-01T00:00:00Z\"}}", true));
    assert_true(f->request.base.limits.since == INT64_MAX);
    f->out.len = 0;
    rb_out_time(&f->out, -1);
    rb_out_time(&f->out, RB_DOC_NO_TIME);
    assert_true(rb_slice_equal(rb_out_slice(&f->out),
                               RB_S("\"1969-12-31T23:59:59.999999999Z\"\"0001-01-01T00:00:00Z\"")));
}

static void copies_are_equal_and_own_their_text(void **state)
{
    struct fixture *f = *state;
    char json[] = "{\"name\":\"n\",\"subjects\":[\"a\",\"b\"],\"backoff\":[1],\"metadata\":{\"k\":"
                  "\"v\"},\"mirror\":{\"name\":\"m\"},\"sources\":[{\"name\":\"s\"}],\"raw\":[]}";
    assert_true(read(f, json, true));
    struct rb_arena *arena;
    assert_int_equal(rb_arena_create(4096, &arena), RB_OK);
    struct request copy;
    assert_true(rb_doc_copy(arena, &request_type, &f->request, &copy));
    assert_true(rb_doc_equal(&request_type, &f->request, &copy));
    assert_ptr_not_equal(copy.base.mirror, f->request.base.mirror);
    assert_ptr_not_equal(copy.base.subjects.items[1].ptr, f->request.base.subjects.items[1].ptr);
    copy.pedantic = true; /* never written: never compared */
    assert_true(rb_doc_equal(&request_type, &f->request, &copy));
    copy.base.mirror->name = RB_S("x");
    assert_false(rb_doc_equal(&request_type, &f->request, &copy));
    copy.base.mirror = NULL;
    assert_false(rb_doc_equal(&request_type, &f->request, &copy));
    assert_true(read(f, "{\"metadata\":{}}", true));
    assert_true(rb_doc_copy(arena, &request_type, &f->request, &copy));
    copy.base.metadata.present = false; /* nothing differs from {} */
    assert_false(rb_doc_equal(&request_type, &f->request, &copy));
    rb_arena_destroy(arena);
}

static void arrays_of_objects_are_bounded(void **state)
{
    struct fixture *f = *state;
    size_t len = 3 * (RB_DOC_OBJECTS_MAX + 1) + 32;
    char *json = malloc(len);
    assert_non_null(json);
    size_t at = (size_t)snprintf(json, len, "{\"sources\":[{}");
    for (int i = 0; i < RB_DOC_OBJECTS_MAX; i++) {
        at += (size_t)snprintf(json + at, len - at, ",{}");
    }
    (void)snprintf(json + at, len - at, "]}");
    refuse(f, json, "too many items in an array");
    free(json);
}

/* When memory is refused the text is of no use, and says so. */
static void text_without_memory_fails(void **state)
{
    (void)state;
    struct rb_budget budget = { .limit_bytes = 1000 };
    struct rb_out out;
    rb_out_init(&out, &budget);
    for (int i = 0; i < 100; i++) {
        rb_out_printf(&out, "%d %s", i, "and so on");
    }
    assert_true(out.failed);
    rb_out_put(&out, RB_S("x"));
    rb_out_deinit(&out);
    assert_int_equal(budget.used_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(documents_are_read_and_written, setup, teardown),
        cmocka_unit_test_setup_teardown(values_follow_each_other, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_types_are_named_as_go_does, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_error_counts_unless_one_ends_the_reading, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(syntax_errors_say_where, setup, teardown),
        cmocka_unit_test_setup_teardown(times_are_those_of_go, setup, teardown),
        cmocka_unit_test_setup_teardown(copies_are_equal_and_own_their_text, setup, teardown),
        cmocka_unit_test_setup_teardown(arrays_of_objects_are_bounded, setup, teardown),
        cmocka_unit_test(text_without_memory_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
