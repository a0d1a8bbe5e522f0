/* fuzz_subject.c - two subjects, cut at the first LF: the answers about them must fit together. */
#include "ringbus/check.h"
#include "proto/subject.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_one(struct rb_slice s)
{
    struct rb_tokens tokens = rb_tokens_over(s);
    struct rb_slice token;
    uint32_t count = 0;
    size_t bytes = 0;
    while (rb_tokens_next(&tokens, &token)) {
        rb_assert(token.len == 0 || memchr(token.ptr, '.', token.len) == NULL);
        bytes += token.len;
        count++;
    }
    bool sub = rb_subject_valid_sub(s);
    bool literal = rb_subject_valid_literal(s);
    rb_assert(count == rb_subject_token_count(s));
    rb_assert(count == 0 || bytes + count - 1 == s.len);
    rb_assert(literal == (sub && !rb_subject_has_wildcard(s)));
    rb_assert(sub || !rb_subject_valid(s));
    rb_assert(sub == rb_subject_overlap(s, s));
    rb_assert(!literal || rb_subject_match(s, s));
    rb_assert(!sub || rb_subject_match(RB_S(">"), s));
}

static void check_pair(struct rb_slice a, struct rb_slice b)
{
    bool overlap = rb_subject_overlap(a, b);
    rb_assert(overlap == rb_subject_overlap(b, a));
    if (rb_subject_valid_sub(a) && rb_subject_valid_literal(b)) {
        rb_assert(overlap == rb_subject_match(a, b));
    }
    if (rb_subject_valid_literal(a) && rb_subject_valid_literal(b)) {
        rb_assert(overlap == rb_slice_equal(a, b));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *lf = size == 0 ? NULL : memchr(data, '\n', size);
    size_t first = lf == NULL ? size : (size_t)(lf - data);
    struct rb_slice a = rb_slice_of(data, first);
    struct rb_slice b = { NULL, 0 };
    if (lf != NULL) {
        b = rb_slice_of(lf + 1, size - first - 1);
    }
    check_one(a);
    check_one(b);
    check_pair(a, b);
    return 0;
}
