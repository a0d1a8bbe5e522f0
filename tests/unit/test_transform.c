/* test_transform.c - subject mappings: what is accepted, the words of refusal, and what comes out. */
#include "proto/transform.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/subject.h"

#define BAD "invalid mapping destination: "
#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static struct rb_transform *make(enum rb_transform_rules rules, const char *source,
                                 const char *destination)
{
    struct rb_transform *transform = NULL;
    char error[RB_TRANSFORM_ERROR_MAX] = "";
    enum rb_err err = rb_transform_create(rules, rb_slice_text(source), rb_slice_text(destination),
                                          &transform, error);
    if (err != RB_OK) {
        fail_msg("%s -> %s: %s", source, destination, error);
    }
    return transform;
}

/* NULL `want`: no result. */
static void expect(struct rb_slice got, const char *want, const char *source,
                   const char *destination, const char *subject)
{
    if (!rb_slice_equal(got, rb_slice_text(want))) {
        fail_msg("%s -> %s of %s: %.*s instead of %s", source, destination, subject, RB_S_ARG(got),
                 want == NULL ? "nothing" : want);
    }
}

/* Results that nats-server 2.15.2 gave. */
static void subjects_come_out_as_in_nats_server(void **state)
{
    static const struct {
        const char *source, *destination, *subject, *want;
    } rows[] = {
        { "foo", "bar", "foo", "bar" },
        { "foo", "bar", "fox", NULL },
        { "foo", "bar", "foo.a", NULL },
        { "foo", "", "foo", "foo" },
        { "foo.>", "", "foo.a.b", "foo.a.b" },
        { "foo.>", "", "bar.a.b", NULL },
        { "", "bar.>", "a.b", "bar.a.b" },
        { "", "", "a.b", "a.b" },
        { "foo.*", "bar", "foo.abc", "bar" },
        { "foo.*", "bar.$1", "foo.abc", "bar.abc" },
        { "foo.*", "bar.$1", "foo", NULL },
        { "foo.*", "bar.$1", "foo.", NULL },
        { "foo.*", "bar.$1", "foo.a.b", NULL },
        { "foo.*", "bar.$1", "", NULL },
        { "foo.*", "bar.$0", "foo.abc", "bar.foo" },
        { "foo.*", "bar.$-1", "foo.abc", "bar.foo" },
        { "foo.*", "bar.$01", "foo.abc", "bar.abc" },
        { "foo.*", "bar.$+1", "foo.abc", "bar.abc" },
        { "foo.*", "bar.$", "foo.abc", "bar.$" },
        { "foo.*", "bar.$x", "foo.abc", "bar.$x" },
        { "foo.*", "bar.$1x", "foo.abc", "bar.$1x" },
        { "foo.*", "bar.$99999999999999999999", "foo.abc", "bar.$99999999999999999999" },
        { "foo.*", "{{wildcard(1)}}", "foo.abc", "abc" },
        { "foo.*", "bar.{{ wildcard(1) }}", "foo.abc", "bar.abc" },
        { "foo.*", "bar.{{wildcard (1)}}", "foo.abc", "bar.abc" },
        { "foo.*", "bar.{{Wildcard( 1 )}}", "foo.abc", "bar.abc" },
        { "foo.*", "bar.{{wildcard(1)}}x", "foo.abc", "bar.{{wildcard(1)}}x" },
        { "foo.*", "bar.x{{wildcard(1)}}", "foo.abc", "bar.x{{wildcard(1)}}" },
        { "foo.*", "bar.{{}}", "foo.abc", "bar.{{}}" },
        { "foo.*", "bar.{{wildcard(1)", "foo.abc", "bar.{{wildcard(1)" },
        { "foo.*", "bar.{wildcard(1)}", "foo.abc", "bar.{wildcard(1)}" },
        { "foo.*", "bar.{{wildcard(1).x}}", "foo.abc", "bar.{{wildcard(1).x}}" },
        { "foo.*", "bar.{{wildcard(1)}}}}", "foo.abc", "bar.abc" },
        { "foo.*", "bar.{{{{wildcard(1)}}}}", "foo.abc", "bar.abc" },
        { "foo.*.*", "bar.$2.$1", "foo.a.b", "bar.b.a" },
        { "foo.*.*", "bar.$1", "foo.a.b", "bar.a" },
        { "foo.*.*", "bar.$1.$1", "foo.a.b", "bar.a.a" },
        { "foo.>", "bar.>", "foo.a", "bar.a" },
        { "foo.>", "bar.>", "foo.a.b.c", "bar.a.b.c" },
        { "foo.>", "bar.>", "foo", NULL },
        { "foo.>", "bar.>", "foo.", NULL },
        { "foo.>", "bar.>", "foo.a..b", NULL },
        { "foo.>", ">", "foo.a.b", "a.b" },
        { ">", "bar.>", "a.b", "bar.a.b" },
        { ">", "bar.$0.>", "a.b", "bar.a.a.b" },
        { "foo.*.>", "bar.$1.>", "foo.a.b", "bar.a.b" },
        { "foo.*.>", "bar.>", "foo.a.b.c", "bar.b.c" },
        { "foo.*.>", "bar.>", "foo.a", NULL },
        { "foo.*", "bar.{{split(1,-)}}", "foo.abc", "bar.abc" },
        { "foo.*", "bar.{{split(1,-)}}", "foo.a-b", "bar.a.b" },
        { "foo.*", "bar.{{split(1,-)}}", "foo.-a-b-", "bar.a.b" },
        { "foo.*", "bar.{{split(1,-)}}", "foo.a--b", "bar.a.b" },
        { "foo.*", "bar.{{split(1,-)}}", "foo.-", NULL },
        { "foo.*", "bar.{{split(1,-)}}.x", "foo.--", NULL },
        { "foo.*", "{{split(1,-)}}.x", "foo.a-b", "a.b.x" },
        { "foo.*", "bar.{{split(1,)}}", "foo.abc", "bar.a.b.c" },
        { "foo.*", "bar.{{split(1, )}}", "foo.abc", "bar.a.b.c" },
        { "foo.*", "bar.{{split(1,)}}", "foo.\xc3\xa4\xe2\x82\xac\xff",
          "bar.\xc3\xa4.\xe2\x82\xac.\xff" },
        { "foo.*", "bar.{{split(1,  -)}}", "foo.a-b", "bar.a.b" },
        { "foo.*", "bar.{{split(1,.)}}", "foo.abc", "bar.{{split(1,.)}}" },
        { "foo.*", "bar.{{split(1,ab)}}", "foo.abc", "bar.c" },
        { "foo.*", "bar.{{split(1,ab)}}", "foo.xabyabz", "bar.x.y.z" },
        { "foo.*", "bar.{{split(1,ab)}}", "foo.abab", NULL },
        { "foo.*", "bar.{{split(1,ab)}}", "foo.aab", "bar.a" },
        { "foo.*", "bar.{{split(1,aa)}}", "foo.baaaac", "bar.b.c" },
        { "foo.*", "bar.{{split(1,))}}", "foo.a)b", "bar.a.b" },
        { "foo.*", "bar.{{split(1,}})}}", "foo.a}}b", "bar.a.b" },
        { "foo.*", "bar.{{split(1,-)}}", "foo.a-*", NULL }, /* never cuts out a wildcard */
        { "foo.*", "bar.{{slicefromleft(1,1)}}", "foo.a>", NULL },
        { "foo.*", "bar.{{splitfromleft(1,3)}}", "foo.a", "bar.a" },
        { "foo.*", "bar.{{splitfromleft(1,3)}}", "foo.abc", "bar.abc" },
        { "foo.*", "bar.{{splitfromleft(1,3)}}", "foo.abcd", "bar.abc.d" },
        { "foo.*", "bar.{{splitfromleft(1,0)}}", "foo.abcd", "bar.abcd" },
        { "foo.*", "bar.{{splitfromleft(1,-1)}}", "foo.abcd", "bar.abcd" },
        { "foo.*", "bar.{{splitfromright(1,3)}}", "foo.abcd", "bar.a.bcd" },
        { "foo.*", "bar.{{splitfromright(1,3)}}", "foo.abcdefgh", "bar.abcde.fgh" },
        { "foo.*", "bar.{{splitfromright(1,3)}}", "foo.abc", "bar.abc" },
        { "foo.*", "bar.{{slicefromleft(1,3)}}", "foo.abcd", "bar.abc.d" },
        { "foo.*", "bar.{{slicefromleft(1,3)}}", "foo.abcdef", "bar.abc.def" },
        { "foo.*", "bar.{{slicefromleft(1,3)}}", "foo.abcdefgh", "bar.abc.def.gh" },
        { "foo.*", "bar.{{slicefromleft(1,0)}}", "foo.abc", "bar.abc" },
        { "foo.*", "bar.{{slicefromright(1,3)}}", "foo.abcd", "bar.a.bcd" },
        { "foo.*", "bar.{{slicefromright(1,3)}}", "foo.abcdef", "bar.abc.def" },
        { "foo.*", "bar.{{slicefromright(1,3)}}", "foo.abcdefgh", "bar.ab.cde.fgh" },
        { "foo.*", "bar.{{SliceFromRight(1,3)}}", "foo.a", "bar.a" },
        { "foo.*", "bar.{{left(1,2)}}", "foo.abcd", "bar.ab" },
        { "foo.*", "bar.{{left(1,2)}}", "foo.a", "bar.a" },
        { "foo.*", "bar.{{left(1,0)}}", "foo.abcd", "bar.abcd" },
        { "foo.*", "bar.{{left(0,2)}}", "foo.abcd", "bar.fo" },
        { "foo.*", "bar.{{right(1,2)}}", "foo.abcd", "bar.cd" },
        { "foo.*", "bar.{{Right( 1 , 2 )}}", "foo.ab", "bar.ab" },
        { "foo.*", "bar.{{random(1)}}.$1", "foo.a", "bar.0.a" },
        { "foo.*", "bar.{{random(0)}}.$1", "foo.a", "bar.0.a" },
        { "foo.*", "bar.{{random(-1)}}.$1", "foo.a", "bar.0.a" },
        { "foo.*", "bar.{{random(10)}}", "foo.a", "bar.7" }, /* of random 7 */
        { "foo", "bar.{{random(5)}}", "foo", "bar.2" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (int rules = RB_TRANSFORM_ANY; rules <= RB_TRANSFORM_MAPPING; rules++) {
            uint8_t out[100];
            struct rb_transform *transform = make(rules, rows[i].source, rows[i].destination);
            size_t len =
                rb_transform_apply(transform, rb_slice_text(rows[i].subject), 7, out, sizeof(out));
            expect(rb_slice_of(out, len), rows[i].want, rows[i].source, rows[i].destination,
                   rows[i].subject);
            rb_transform_destroy(transform);
        }
    }
}

/* Numbers from nats-server 2.15.2, which published to these very subjects. */
static void partitions_hash_as_in_nats_server(void **state)
{
    static const struct {
        const char *source, *destination, *subject, *want;
    } rows[] = {
        { "c16.foo.*", "{{partition(-1,1)}}", "c16.foo.abc", "440920331" },
        { "c17.foo.*", "{{partition(-7,1)}}", "c17.foo.abc", "440920331" },
        { "c18.foo.*", "{{partition(-7)}}", "c18.foo.abc", "2899860211" },
        { "c21.foo.*", "{{partition(2147483647,1)}}", "c21.foo.abc", "440920331" },
        { "c21.foo.*", "{{partition(2147483647,1)}}", "c21.foo.d", "1628185716" },
        { "c22.foo.*", "{{partition(2147483647)}}", "c22.foo.abc", "811751950" },
        { "c22.foo.*", "{{partition(2147483647)}}", "c22.foo.d", "1574978042" },
        { "c23.foo.*.*", "{{partition(2147483647,2,1)}}", "c23.foo.abc.d", "111065005" },
        { "c24.foo.*.*", "{{partition(2147483647,1,2)}}", "c24.foo.abc.d", "1312061886" },
        { "c25.foo.*.*", "{{Partition( +2147483647 , 1,1)}}", "c25.foo.abc.d", "1932372918" },
        { "c7.foo", "{{partition(3,1)}}", "c7.foo",
          "1" }, /* literal source: of the whole subject */
        { "c8.foo", "{{partition(3,2)}}", "c8.foo", "0" },
        { "c9.foo", "{{partition(3)}}", "c9.foo", "1" },
        { "c14.foo.*", "{{partition(0)}}.$1", "c14.foo.abc", "0.abc" },
        { "c19.foo.*", "{{partition(3,0)}}", "c19.foo.abc", "0" },
        { "c20.foo.*", "{{partition(3,-1)}}", "c20.foo.abc", "0" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t out[40];
        struct rb_transform *transform =
            make(RB_TRANSFORM_MAPPING, rows[i].source, rows[i].destination);
        size_t len =
            rb_transform_apply(transform, rb_slice_text(rows[i].subject), 0, out, sizeof(out));
        expect(rb_slice_of(out, len), rows[i].want, rows[i].source, rows[i].destination,
               rows[i].subject);
        rb_transform_destroy(transform);
    }
}

struct refusal {
    const char *source, *destination, *error;
};

static void expect_refusals(enum rb_transform_rules rules, const struct refusal *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct rb_transform *transform = NULL;
        char error[RB_TRANSFORM_ERROR_MAX] = "accepted";
        enum rb_err err =
            rb_transform_create(rules, rb_slice_text(rows[i].source),
                                rb_slice_text(rows[i].destination), &transform, error);
        if (strcmp(error, rows[i].error) != 0) {
            fail_msg("%s -> %s: %s", rows[i].source, rows[i].destination, error);
        }
        assert_int_equal(err, RB_ERR_INVALID);
        assert_null(transform);
    }
}

#define RANGE BAD "wildcard index out of range in "
#define ARGUMENT BAD "function argument is invalid or in the wrong format in "
#define FEW BAD "not enough arguments passed to the function in "
#define MANY BAD "too many arguments passed to the function in "
#define UNKNOWN BAD "unknown function in "

/* The words of `nats-server -t`. */
static void refusals_read_as_in_nats_server(void **state)
{
    static const struct refusal rows[] = {
        { "foo.*", "$2", RANGE "$2: [2]" },
        { "foo", "$1", RANGE "$1" },
        { "foo", "$0", RANGE "$0" },
        { "foo", "{{wildcard(1)}}", RANGE "{{wildcard(1)}}" },
        { "foo", "{{split(1,-)}}", RANGE "{{split(1,-)}}" },
        { "foo", "{{left(0,1)}}", RANGE "{{left(0,1)}}" },
        { "foo", "{{wildcard(x)}}", ARGUMENT "{{wildcard(x)}}" },
        { "foo", "{{partition(1,,1)}}", ARGUMENT "{{partition(1,,1)}}" },
        { "foo.>", "$1.>", RANGE "$1: [1]" },
        { "foo.*", "{{left(9,2)}}.$1", RANGE "{{left(9,2)}}: [9]" },
        { "foo.*", "{{split(2,-)}}", RANGE "{{split(2,-)}}: [2]" },
        { "foo.*", "{{partition(3,5,7)}}", RANGE "{{partition(3,5,7)}}: [5]" },
        { "foo.*", "{{wildcard(4294967297)}}", RANGE "{{wildcard(4294967297)}}: [4294967297]" },
        { "foo.*", "{{wildcard(99999999999999999999)}}",
          ARGUMENT "{{wildcard(99999999999999999999)}}" },
        { "foo.*", "{{wildcard(9223372036854775808)}}",
          ARGUMENT "{{wildcard(9223372036854775808)}}" },
        { "foo.*", "{{wildcard()}}", FEW "{{wildcard()}}" },
        { "foo.*", "{{wildcard( )}}", ARGUMENT "{{wildcard( )}}" },
        { "foo.*", "{{wildcard(1,2)}}", MANY "{{wildcard(1,2)}}" },
        { "foo.*", "{{wildcard((1))}}", ARGUMENT "{{wildcard((1))}}" },
        { "foo.*", "{{random()}}", ARGUMENT "{{random()}}" },
        { "foo.*", "{{random(3,4)}}", FEW "{{random(3,4)}}" },
        { "foo.*", "{{random(99999999999)}}", ARGUMENT "{{random(99999999999)}}" },
        { "foo.*", "{{partition()}}", ARGUMENT "{{partition()}}" },
        { "foo.*", "{{partition(x)}}", ARGUMENT "{{partition(x)}}" },
        { "foo.*", "{{partition(0x3)}}", ARGUMENT "{{partition(0x3)}}" },
        { "foo.*", "{{partition(1_0)}}", ARGUMENT "{{partition(1_0)}}" },
        { "foo.*", "{{partition(3,)}}", ARGUMENT "{{partition(3,)}}" },
        { "foo.*", "{{partition(3,1,)}}", ARGUMENT "{{partition(3,1,)}}" },
        { "foo.*", "{{partition(3 1)}}", ARGUMENT "{{partition(3 1)}}" },
        { "foo.*", "{{partition(2147483648,1)}}", ARGUMENT "{{partition(2147483648,1)}}" },
        { "foo.*", "{{split(1)}}", FEW "{{split(1)}}" },
        { "foo.*", "{{split()}}", FEW "{{split()}}" },
        { "foo.*", "{{split(,)}}", ARGUMENT "{{split(,)}}" },
        { "foo.*", "{{split(1,-,x)}}", MANY "{{split(1,-,x)}}" },
        { "foo.*", "{{split(1, - )}}", ARGUMENT "{{split(1, - )}}" },
        { "foo.*", "{{split(1,a b)}}", ARGUMENT "{{split(1,a b)}}" },
        { "foo.*", "{{left(1)}}", FEW "{{left(1)}}" },
        { "foo.*", "{{left(1,2147483648)}}", ARGUMENT "{{left(1,2147483648)}}" },
        { "foo.*", "{{splitfromright(1,2,3)}}", MANY "{{splitfromright(1,2,3)}}" },
        { "foo.*", "{{splitfromright(1,x)}}", ARGUMENT "{{splitfromright(1,x)}}" },
        { "foo.*", "{{foo}}", UNKNOWN "{{foo}}" },
        { "foo.*", "{{foo(1)}}", UNKNOWN "{{foo(1)}}" },
        { "foo.*", "{{WILDCARD(1)}}", UNKNOWN "{{WILDCARD(1)}}" },
        { "foo.*", "{{sPlit(1,2)}}", UNKNOWN "{{sPlit(1,2)}}" },
        { "foo.*", "{{wildcard(1}}", UNKNOWN "{{wildcard(1}}" },
        { "foo.*", "{{wildcard1)}}", UNKNOWN "{{wildcard1)}}" },
        { "foo.*", "{{wildcard(1)x}}", UNKNOWN "{{wildcard(1)x}}" },
        { "foo.*", "{{xwildcard(1)}}", UNKNOWN "{{xwildcard(1)}}" },
        { "foo.*", "{{   }}", UNKNOWN "{{   }}" },
        { "foo.*", "bar.*", "invalid subject" },
        { "foo.*", "bar.>", "invalid subject" },
        { "foo.>", "bar", "invalid subject" },
        { "foo..x", "bar", "invalid subject" },
        { "foo.* ", "bar", "invalid subject" },
        { "foo.>.x", "bar", "invalid subject" },
    };
    expect_refusals(RB_TRANSFORM_ANY, rows, COUNT(rows));
    expect_refusals(RB_TRANSFORM_MAPPING, rows, COUNT(rows));
    static const struct refusal mapping[] = {
        { "foo.*", "bar..$1", BAD "invalid transform" },
        { "foo.*", ".bar", BAD "invalid transform" },
        { "foo.*", "bar.", BAD "invalid transform" },
        { "foo.*", "bar. $1", BAD "invalid transform" },
        { "foo.>", ">.bar", BAD "invalid transform in bar" },
        { "foo.>", "$2.{{foo}}.>", UNKNOWN "{{foo}}" },
    };
    expect_refusals(RB_TRANSFORM_MAPPING, mapping, COUNT(mapping));
    static const struct refusal any[] = {
        { "foo.*", "bar..$1", "invalid subject" },
        { "foo.*", "bar. $1", "invalid subject" },
        { "foo.>", ">.bar", "invalid subject" },
        { "foo.>", "$2.{{foo}}.>", RANGE "$2: [2]" },
    };
    expect_refusals(RB_TRANSFORM_ANY, any, COUNT(any));
    static const struct refusal import[] = {
        { "foo.*", "bar", BAD "not using all of the token wildcard(s) in bar" },
        { "foo.*.*", "bar.$2", BAD "not using all of the token wildcard(s) in bar.$2" },
        { "foo.*.*", "$1.$1", BAD "not using all of the token wildcard(s) in $1.$1" },
        { "foo.*.>", "bar.>", BAD "not using all of the token wildcard(s) in bar.>" },
        { "foo.*", "{{split(1,-)}}",
          BAD "the only mapping function allowed for import transforms is {{Wildcard()}} in "
              "{{split(1,-)}}" },
        { "foo.*", "{{wildcard(x)}}", ARGUMENT "{{wildcard(x)}}" },
        { "foo.*", "$1.$2", RANGE "$2: [2]" },
        { "foo.>", "bar", "invalid subject" },
        { "foo", "bar.>", "invalid subject" },
    };
    expect_refusals(RB_TRANSFORM_IMPORT, import, COUNT(import));
}

/* A token longer than the error text is cut, not written past it. */
static void long_tokens_are_cut_in_errors(void **state)
{
    char destination[2000];
    struct rb_transform *transform = NULL;
    char error[RB_TRANSFORM_ERROR_MAX];
    memset(destination, 'x', sizeof(destination));
    memcpy(destination, "{{", 2);
    memcpy(destination + sizeof(destination) - 3, "}}", 3);
    assert_int_equal(rb_transform_create(RB_TRANSFORM_ANY, RB_S("foo.*"),
                                         rb_slice_text(destination), &transform, error),
                     RB_ERR_INVALID);
    assert_int_equal(strlen(error), RB_TRANSFORM_ERROR_MAX - 1);
    memset(destination, '0', sizeof(destination));
    destination[0] = '$';
    destination[sizeof(destination) - 2] = '2';
    destination[sizeof(destination) - 1] = '\0';
    assert_int_equal(rb_transform_create(RB_TRANSFORM_ANY, RB_S("foo.*"),
                                         rb_slice_text(destination), &transform, error),
                     RB_ERR_INVALID);
    assert_string_equal(error + strlen(error) - 5, ": [2]");
}

/* 256 tokens on either side are taken, 257 are not. */
static void token_count_is_bounded(void **state)
{
    char subject[600] = "a";
    for (int i = 1; i < 257; i++) {
        strcat(subject, ".*");
    }
    struct rb_transform *transform = NULL;
    char error[RB_TRANSFORM_ERROR_MAX];
    assert_int_equal(rb_transform_create(RB_TRANSFORM_ANY, rb_slice_text(subject), RB_S("$256"),
                                         &transform, error),
                     RB_ERR_INVALID);
    subject[strlen(subject) - 2] = '\0';
    transform = make(RB_TRANSFORM_ANY, subject, "$255");
    uint8_t out[8];
    subject[strlen(subject) - 1] = 'z';
    for (size_t i = 2; i < strlen(subject) - 1; i += 2) {
        subject[i] = 'b';
    }
    assert_int_equal(rb_transform_apply(transform, rb_slice_text(subject), 0, out, 8), 1);
    assert_int_equal(out[0], 'z');
    rb_transform_destroy(transform);
}

static void results_never_pass_cap(void **state)
{
    static const char *const destinations[] = { "bar.$1.$2", "{{slicefromleft(1,1)}}.$2.b",
                                                "x.{{split(1,-)}}.$2" };
    for (size_t i = 0; i < COUNT(destinations); i++) {
        struct rb_transform *transform = make(RB_TRANSFORM_ANY, "foo.*.*", destinations[i]);
        uint8_t out[64];
        struct rb_slice subject = RB_S("foo.a-bc.def");
        size_t full = rb_transform_apply(transform, subject, 0, out, sizeof(out));
        assert_true(full > 0);
        for (size_t cap = 0; cap <= full; cap++) {
            memset(out, '#', sizeof(out));
            assert_int_equal(rb_transform_apply(transform, subject, 0, out, cap),
                             cap == full ? full : 0);
            assert_int_equal(out[cap], '#');
        }
        rb_transform_destroy(transform);
    }
}

static void patterns_keep_their_wildcards(void **state)
{
    static const struct {
        const char *source, *destination, *subject, *want;
    } rows[] = {
        { "foo.*", "bar.$1", "foo.*", "bar.*" },
        { "foo.*", "bar.$1", "foo.a", "bar.a" },
        { "foo.*", "bar.$1", "*.a", NULL },
        { "foo.*", "bar.$1", "foo.>", NULL },
        { "foo.*.*", "$2.bar.$1", "foo.*.b", "b.bar.*" },
        { "foo.>", "bar.>", "foo.>", "bar.>" },
        { "foo.>", "bar.>", "foo.*.a", "bar.*.a" },
        { "foo.>", "bar.>", "foo.a.>", "bar.a.>" },
        { "foo.>", "bar.>", ">", NULL },
        { "foo.>", "bar.>", "foo.>.a", NULL },
        { "foo.*.>", "bar.$1.>", "foo.*.>", "bar.*.>" },
        { "foo.*.>", "bar.$1.>", "foo.>", NULL },
        { ">", "x.>", ">", "x.>" },
        { ">", "x.$0.>", ">", NULL },
        { "foo.*", "", "foo.*", "foo.*" },
        { "foo.*", "{{partition(3)}}", "foo.*", "*" },
        { "foo.*.*", "{{partition(3,2)}}.$1", "foo.*.a", "1.*" },
        { "foo.*", "{{random(3)}}.$1", "foo.a", "*.a" },
        { "foo.*", "{{left(1,1)}}", "foo.*", "*" },
        { "foo.*", "{{split(1,-)}}", "foo.*", NULL },
        { "foo.*", "{{split(1,-)}}", "foo.a-b", "a.b" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t out[40];
        struct rb_transform *transform =
            make(RB_TRANSFORM_ANY, rows[i].source, rows[i].destination);
        size_t len =
            rb_transform_apply_pattern(transform, rb_slice_text(rows[i].subject), out, sizeof(out));
        expect(rb_slice_of(out, len), rows[i].want, rows[i].source, rows[i].destination,
               rows[i].subject);
        rb_transform_destroy(transform);
    }
}

static void reverses_lead_back(void **state)
{
    static const struct {
        const char *source, *destination, *back_source, *back_destination, *subject;
    } rows[] = {
        { "foo.*", "bar.$1", "bar.*", "foo.$1", "foo.a" },
        { "foo.*.*", "bar.$2.$1", "bar.*.*", "foo.$2.$1", "foo.a.b" },
        { "foo.*.*.*", "$3.$1.$2", "*.*.*", "foo.$2.$3.$1", "foo.a.b.c" },
        { "foo.>", "bar.baz.>", "bar.baz.>", "foo.>", "foo.a.b" },
        { ">", "bar.>", "bar.>", ">", "a.b" },
        { "*.x.>", "$1.>", "*.>", "$1.x.>", "a.x.b.c" },
        { "foo", "bar", "bar", "foo", "foo" },
        { "foo", "$1", "$1", "foo", "foo" },
        { "$1.*", "bar.$1", "bar.*", "$1.$1", "$1.a" },
        { "foo.*", "$0.$1", "foo.*", "foo.$1", "foo.a" },
        { "foo.*", "$1.$1", "*.*", "foo.$1", "foo.a" },
        { "foo.*", "", "foo.*", "", "foo.a" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct rb_transform *there = make(RB_TRANSFORM_IMPORT, rows[i].source, rows[i].destination);
        struct rb_transform *back = NULL;
        uint8_t out[40];
        uint8_t again[40];
        assert_int_equal(rb_transform_reverse(there, &back), RB_OK);
        expect(rb_transform_source(back), rows[i].back_source, rows[i].source, rows[i].destination,
               "reverse source");
        expect(rb_transform_destination(back), rows[i].back_destination, rows[i].source,
               rows[i].destination, "reverse destination");
        size_t len = rb_transform_apply(there, rb_slice_text(rows[i].subject), 0, out, sizeof(out));
        assert_true(len > 0);
        len = rb_transform_apply(back, rb_slice_of(out, len), 0, again, sizeof(again));
        expect(rb_slice_of(again, len), rows[i].subject, rows[i].source, rows[i].destination,
               "there and back");
        rb_transform_destroy(there);
        rb_transform_destroy(back);
    }
}

static void lossy_transforms_have_no_reverse(void **state)
{
    static const char *const destinations[] = { "bar", "{{left(1,1)}}", "{{partition(3,1)}}",
                                                "{{random(2)}}.$1", "{{split(1,-)}}" };
    for (size_t i = 0; i < COUNT(destinations); i++) {
        struct rb_transform *there = make(RB_TRANSFORM_ANY, "foo.*", destinations[i]);
        struct rb_transform *back = NULL;
        assert_int_equal(rb_transform_reverse(there, &back), RB_ERR_INVALID);
        assert_null(back);
        rb_transform_destroy(there);
    }
    struct rb_transform *there = make(RB_TRANSFORM_IMPORT, ">", "$0.>");
    struct rb_transform *back = NULL;
    assert_int_equal(rb_transform_reverse(there, &back), RB_ERR_INVALID);
    assert_null(back);
    rb_transform_destroy(there);
    rb_transform_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subjects_come_out_as_in_nats_server),
        cmocka_unit_test(partitions_hash_as_in_nats_server),
        cmocka_unit_test(refusals_read_as_in_nats_server),
        cmocka_unit_test(long_tokens_are_cut_in_errors),
        cmocka_unit_test(token_count_is_bounded),
        cmocka_unit_test(results_never_pass_cap),
        cmocka_unit_test(patterns_keep_their_wildcards),
        cmocka_unit_test(reverses_lead_back),
        cmocka_unit_test(lossy_transforms_have_no_reverse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
