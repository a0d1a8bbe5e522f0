/* test_subject.c - tokens, validity, matching and overlap of subjects. */
#include "proto/subject.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct rb_slice text(const char *s)
{
    return rb_slice_text(s);
}

/* What each check says about one subject, written as the letters of those that say yes. */
static void checks_agree_with_the_table(void **state)
{
    static const struct {
        const char *subject;
        bool sub, literal, strict, wildcard;
        uint32_t tokens;
    } rows[] = {
        { "", false, false, false, false, 0 },         { "foo", true, true, true, false, 1 },
        { "foo.bar.baz", true, true, true, false, 3 }, { "foo.*.baz", true, false, true, true, 3 },
        { "*", true, false, true, true, 1 },           { ">", true, false, true, true, 1 },
        { "foo.>", true, false, true, true, 2 },       { ">.foo", false, false, false, true, 2 },
        { "a.>.b", false, false, false, true, 3 },     { "a>", true, true, true, false, 1 },
        { "a.b*.c>d.>>", true, true, true, false, 4 }, { "**", true, true, true, false, 1 },
        { ".", false, false, false, false, 2 },        { ".a", false, false, false, false, 2 },
        { "a.", false, false, false, false, 2 },       { "a..b", false, false, false, false, 3 },
        { "a..*", false, false, false, true, 3 },      { "a b", true, true, false, false, 1 },
        { "a\tb", true, true, false, false, 1 },       { "a\r", true, true, false, false, 1 },
        { "a\n", true, true, false, false, 1 },        { "a\f", true, true, false, false, 1 },
        { "a\v\xff", true, true, true, false, 1 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rb_slice subject = text(rows[i].subject);
        assert_int_equal(rb_subject_valid_sub(subject), rows[i].sub);
        assert_int_equal(rb_subject_valid_literal(subject), rows[i].literal);
        assert_int_equal(rb_subject_valid(subject), rows[i].strict);
        assert_int_equal(rb_subject_has_wildcard(subject), rows[i].wildcard);
        assert_int_equal(rb_subject_token_count(subject), rows[i].tokens);
    }
    assert_false(rb_subject_valid_sub(rb_slice_of(NULL, 0)));
    assert_int_equal(rb_subject_token_count(rb_slice_of(NULL, 0)), 0);
}

static void tokens_are_walked(void **state)
{
    static const char *const wanted[] = { "", "a", "", "bc", "" };
    struct rb_tokens tokens = rb_tokens_over(RB_S(".a..bc."));
    struct rb_slice token;
    for (size_t i = 0; i < 5; i++) {
        assert_true(rb_tokens_next(&tokens, &token));
        assert_true(rb_slice_equal(token, text(wanted[i])));
    }
    assert_false(rb_tokens_next(&tokens, &token));
    assert_false(rb_tokens_next(&tokens, &token));
    tokens = rb_tokens_over(rb_slice_of(NULL, 0));
    assert_false(rb_tokens_next(&tokens, &token));
}

static void patterns_match(void **state)
{
    static const struct {
        const char *pattern, *subject;
        bool match;
    } rows[] = {
        { "foo", "foo", true },
        { "foo", "bar", false },
        { "foo", "Foo", false },
        { "foo", "foo.bar", false },
        { "foo.bar", "foo", false },
        { "foo.*", "foo.bar", true },
        { "foo.*", "foo", false },
        { "foo.*", "foo.bar.baz", false },
        { "*.bar", "foo.bar", true },
        { "*", "foo", true },
        { "*", "", false },
        { ">", "foo", true },
        { ">", "foo.bar.baz", true },
        { ">", "", false },
        { "foo.>", "foo", false },
        { "foo.>", "foo.bar", true },
        { "foo.>", "foo.b.c", true },
        { "foo.>", "bar.b.c", false },
        { "*.*.c", "a.b.c", true },
        { "*.*.c", "a.b.d", false },
        { "a.*.>", "a.b", false },
        { "a.*.>", "a.b.c", true },
        { "foo.*", "foo.", false },
        { "foo.>", "foo..a", false },
        { ">", "foo.", false },
        { ">", ".foo", false },
        { "a..b", "a..b", false },
        { "foo*", "foo*", true },
        { "foo*", "foobar", false },
        { "foo.*", "foo.*", true },
        { "foo.bar", "foo.*", false },
        { "a.>", "a.b.", false },
        { "", "", false },
        { "", "a", false },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rb_subject_match(text(rows[i].pattern), text(rows[i].subject)) != rows[i].match) {
            fail_msg("%s and %s", rows[i].pattern, rows[i].subject);
        }
    }
}

static void patterns_overlap(void **state)
{
    static const struct {
        const char *a, *b;
        bool overlap;
    } rows[] = {
        { "foo", "foo", true },     { "foo", "bar", false },     { "foo.*", "foo.bar", true },
        { "foo.*", "*.bar", true }, { "foo.*", "bar.*", false }, { "foo.>", "foo", false },
        { "foo.>", "*.*.c", true }, { ">", "a", true },          { ">", ">", true },
        { "a.>", "b.>", false },    { "a.*", "a.*.c", false },   { "a.b.>", "a.b", false },
        { "a.*.c", "a.b.*", true }, { "a.*.c", "*.b.d", false }, { "a.b*", "a.bc", false },
        { "a..b", "a..b", false },  { "", ">", false },          { "a.>.b", "a.c.b", false },
        { "*.>", "a.b.c.d", true }, { "*.>", "a", false },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(rb_subject_overlap(text(rows[i].a), text(rows[i].b)), rows[i].overlap);
        assert_int_equal(rb_subject_overlap(text(rows[i].b), text(rows[i].a)), rows[i].overlap);
    }
}

/* All patterns over a small alphabet: two overlap exactly when some literal matches both. */
static void overlap_is_a_common_match(void **state)
{
    static const char *const tokens[] = { "a", "b", "*", ">" };
    enum { PATTERNS = 4 + 16 + 64, LITERALS = 2 + 4 + 8 + 16 };
    static char patterns[PATTERNS][8];
    static char literals[LITERALS][8];
    size_t pattern_count = 0;
    size_t literal_count = 0;
    for (unsigned len = 1; len <= 4; len++) {
        for (unsigned code = 0; code < 1u << (2 * len); code++) {
            char subject[8] = "";
            bool wild = false;
            for (unsigned i = 0; i < len; i++) {
                unsigned token = (code >> (2 * i)) & 3;
                wild = wild || token > 1;
                strcat(subject, i == 0 ? "" : ".");
                strcat(subject, tokens[token]);
            }
            if (len < 4 && rb_subject_valid_sub(text(subject))) {
                strcpy(patterns[pattern_count++], subject);
            }
            if (!wild) {
                strcpy(literals[literal_count++], subject);
            }
        }
    }
    assert_int_equal(literal_count, LITERALS);
    for (size_t i = 0; i < pattern_count; i++) {
        for (size_t j = 0; j < pattern_count; j++) {
            bool common = false;
            for (size_t k = 0; k < literal_count && !common; k++) {
                common = rb_subject_match(text(patterns[i]), text(literals[k])) &&
                         rb_subject_match(text(patterns[j]), text(literals[k]));
            }
            assert_int_equal(rb_subject_overlap(text(patterns[i]), text(patterns[j])), common);
        }
    }
}

/* Every literal of the first is one of the second; the odd ones are no subjects at all. */
static void subset_agrees_with_the_table(void **state)
{
    static const struct {
        const char *pattern, *of;
        bool subset;
    } rows[] = {
        { "a", "a", true },         { "a", "b", false },      { "a", "a.b", false },
        { "a.b", "a", false },      { "a", "*", true },       { "*", "a", false },
        { "*", "*", true },         { "*", ">", true },       { ">", "*", false },
        { ">", ">", true },         { "a.>", ">", true },     { "a.>", "a.>", true },
        { "a.>", "a.*", false },    { "a.*", "a.>", true },   { "a.*", "*.*", true },
        { "*.*", "a.*", false },    { "*.b", "*.>", true },   { "*.>", "*.*", false },
        { "a", "a.>", false },      { "a.b.c", "a.>", true }, { ">", "*.>", false },
        { "*.>", ">", true },       { "a.*.>", "a.>", true }, { "a.>", "a.*.>", false },
        { "a.*.c", "a.*.*", true }, { "a*", "a*", true },     { "a*", "*", true },
        { "", "", false },          { "", ">", false },       { "a", "", false },
        { "a..b", ">", false },     { "a.b", "a..b", false }, { "a.", "a.>", false },
        { ">.a", ">", false },      { "a", ">.a", false },    { "a>", ">", true },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rb_subject_subset(text(rows[i].pattern), text(rows[i].of)) != rows[i].subset) {
            fail_msg("subset of %s and %s", rows[i].pattern, rows[i].of);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_agree_with_the_table),
        cmocka_unit_test(tokens_are_walked),
        cmocka_unit_test(patterns_match),
        cmocka_unit_test(patterns_overlap),
        cmocka_unit_test(subset_agrees_with_the_table),
        cmocka_unit_test(overlap_is_a_common_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
