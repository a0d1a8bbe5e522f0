/* fuzz_transform.c - rules (first byte), source, destination and subjects, a line each: what comes out is a subject
 * and within its room, and goes back to where it came from where there is a way back. */
#include "proto/subject.h"
#include "proto/transform.h"
#include "ringbus/check.h"

#define CAP 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rb_slice next_line(struct rb_slice *rest)
{
    const uint8_t *lf = rest->len == 0 ? NULL : memchr(rest->ptr, '\n', rest->len);
    size_t len = lf == NULL ? rest->len : (size_t)(lf - rest->ptr);
    struct rb_slice line = rb_slice_of(rest->ptr, len);
    size_t taken = lf == NULL ? len : len + 1;
    *rest = rb_slice_of(taken == 0 ? rest->ptr : rest->ptr + taken, rest->len - taken);
    return line;
}

static void check_back(const struct rb_transform *transform, struct rb_slice subject,
                       struct rb_slice result)
{
    struct rb_transform *back = NULL;
    uint8_t out[CAP];
    if (rb_transform_reverse(transform, &back) != RB_OK) {
        return;
    }
    rb_assert(rb_subject_valid_sub(rb_transform_source(back)));
    if (result.len > 0 && subject.len <= CAP) {
        size_t len = rb_transform_apply(back, result, 0, out, CAP);
        rb_assert(rb_slice_equal(rb_slice_of(out, len), subject));
    }
    rb_transform_destroy(back);
}

static void check_subject(const struct rb_transform *transform, struct rb_slice subject,
                          size_t small_cap)
{
    uint8_t out[CAP + 1];
    uint8_t small[CAP + 1];
    uint8_t pattern[CAP];
    out[CAP] = 0x5a;
    size_t len = rb_transform_apply(transform, subject, small_cap, out, CAP);
    struct rb_slice result = rb_slice_of(out, len);
    rb_assert(len <= CAP && out[CAP] == 0x5a);
    rb_assert(len == 0 || rb_subject_match(rb_transform_source(transform), subject));
    if (rb_subject_valid_literal(subject)) {
        rb_assert(len == 0 || rb_subject_valid_literal(result));
        check_back(transform, subject, result);
    }
    memset(small, 0x5a, sizeof(small));
    size_t small_len = rb_transform_apply(transform, subject, small_cap, small, small_cap);
    rb_assert(small[small_cap] == 0x5a);
    rb_assert(small_len == (len <= small_cap ? len : 0));
    rb_assert(small_len == 0 || memcmp(small, out, len) == 0);
    len = rb_transform_apply_pattern(transform, subject, pattern, CAP);
    rb_assert(len == 0 || rb_subject_valid_sub(rb_slice_of(pattern, len)));
    rb_assert(len == 0 || rb_subject_subset(subject, rb_transform_source(transform)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rb_transform *transform = NULL;
    char error[RB_TRANSFORM_ERROR_MAX];
    if (size == 0) {
        return 0;
    }
    enum rb_transform_rules rules = data[0] % 3;
    size_t small_cap = data[0] / 3;
    struct rb_slice rest = rb_slice_of(data + 1, size - 1);
    struct rb_slice source = next_line(&rest);
    struct rb_slice destination = next_line(&rest);
    memset(error, 0, sizeof(error));
    if (rb_transform_create(rules, source, destination, &transform, error) != RB_OK) {
        rb_assert(error[0] != '\0' && memchr(error, '\0', sizeof(error)) != NULL);
        return 0;
    }
    for (int i = 0; i < 16 && rest.len > 0; i++) {
        check_subject(transform, next_line(&rest), small_cap);
    }
    rb_transform_destroy(transform);
    return 0;
}
