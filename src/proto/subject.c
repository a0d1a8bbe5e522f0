/* subject.c - tokens and wildcards of subjects.
 *
 * 1. A token is what lies between dots. "a..b" has an empty one in the middle, "a." one at the end.
 * 2. Only a token that is exactly "*" or ">" is a wildcard; inside a longer token both are letters.
 * 3. A literal subject with an empty token matches nothing, so every match ends when it meets one.
 * 4. Nothing here allocates, recurses or reads past a slice; the cost is linear in both arguments.
 */
#include "proto/subject.h"

struct rb_tokens rb_tokens_over(struct rb_slice subject)
{
    return (struct rb_tokens){
        .at = subject.ptr,
        .end = subject.len == 0 ? subject.ptr : subject.ptr + subject.len,
        .done = subject.len == 0,
    };
}

bool rb_tokens_next(struct rb_tokens *tokens, struct rb_slice *ret_token)
{
    if (tokens->done) {
        return false;
    }
    const uint8_t *begin = tokens->at;
    const uint8_t *at = begin;
    while (at < tokens->end && *at != '.') {
        at++;
    }
    *ret_token = rb_slice_of(begin, (size_t)(at - begin));
    if (at < tokens->end) {
        tokens->at = at + 1;
    } else {
        tokens->done = true;
    }
    return true;
}

static inline bool is_star(struct rb_slice token)
{
    return token.len == 1 && token.ptr[0] == '*';
}

static inline bool is_tail(struct rb_slice token)
{
    return token.len == 1 && token.ptr[0] == '>';
}

bool rb_subject_valid_sub(struct rb_slice subject)
{
    struct rb_tokens tokens = rb_tokens_over(subject);
    struct rb_slice token;
    if (subject.len == 0) {
        return false;
    }
    while (rb_tokens_next(&tokens, &token)) {
        if (token.len == 0 || (is_tail(token) && !tokens.done)) {
            return false;
        }
    }
    return true;
}

bool rb_subject_valid_literal(struct rb_slice subject)
{
    struct rb_tokens tokens = rb_tokens_over(subject);
    struct rb_slice token;
    if (subject.len == 0) {
        return false;
    }
    while (rb_tokens_next(&tokens, &token)) {
        if (token.len == 0 || is_star(token) || is_tail(token)) {
            return false;
        }
    }
    return true;
}

bool rb_subject_valid(struct rb_slice subject)
{
    for (size_t i = 0; i < subject.len; i++) {
        switch (subject.ptr[i]) {
        case ' ':
        case '\t':
        case '\r':
        case '\n':
        case '\f':
            return false;
        default:
            break;
        }
    }
    return rb_subject_valid_sub(subject);
}

bool rb_subject_has_wildcard(struct rb_slice subject)
{
    struct rb_tokens tokens = rb_tokens_over(subject);
    struct rb_slice token;
    while (rb_tokens_next(&tokens, &token)) {
        if (is_star(token) || is_tail(token)) {
            return true;
        }
    }
    return false;
}

uint32_t rb_subject_token_count(struct rb_slice subject)
{
    uint32_t count = subject.len == 0 ? 0 : 1;
    for (size_t i = 0; i < subject.len; i++) {
        count += subject.ptr[i] == '.';
    }
    return count;
}

/* What is left of `tokens`, with the token just taken, holds no empty token. */
static bool rest_is_whole(struct rb_tokens tokens, struct rb_slice token)
{
    do {
        if (token.len == 0) {
            return false;
        }
    } while (rb_tokens_next(&tokens, &token));
    return true;
}

bool rb_subject_match(struct rb_slice pattern, struct rb_slice subject)
{
    struct rb_tokens wanted = rb_tokens_over(pattern);
    struct rb_tokens given = rb_tokens_over(subject);
    struct rb_slice want;
    struct rb_slice have;
    if (pattern.len == 0) {
        return false;
    }
    while (rb_tokens_next(&wanted, &want)) {
        if (!rb_tokens_next(&given, &have) || have.len == 0) {
            return false;
        }
        if (is_tail(want) && wanted.done) {
            return rest_is_whole(given, have);
        }
        if (!is_star(want) && !rb_slice_equal(want, have)) {
            return false;
        }
    }
    return given.done;
}

bool rb_subject_overlap(struct rb_slice a, struct rb_slice b)
{
    struct rb_tokens a_tokens = rb_tokens_over(a);
    struct rb_tokens b_tokens = rb_tokens_over(b);
    struct rb_slice a_token;
    struct rb_slice b_token;
    if (!rb_subject_valid_sub(a) || !rb_subject_valid_sub(b)) {
        return false;
    }
    while (rb_tokens_next(&a_tokens, &a_token)) {
        if (!rb_tokens_next(&b_tokens, &b_token)) {
            return false;
        }
        if (is_tail(a_token) || is_tail(b_token)) {
            return true; /* the other side has at least this token, and any more are welcome */
        }
        if (!is_star(a_token) && !is_star(b_token) && !rb_slice_equal(a_token, b_token)) {
            return false;
        }
    }
    return b_tokens.done;
}

bool rb_subject_subset(struct rb_slice pattern, struct rb_slice of_pattern)
{
    struct rb_tokens tokens = rb_tokens_over(pattern);
    struct rb_tokens of_tokens = rb_tokens_over(of_pattern);
    struct rb_slice token;
    struct rb_slice of_token;
    if (!rb_subject_valid_sub(pattern) || !rb_subject_valid_sub(of_pattern)) {
        return false;
    }
    while (rb_tokens_next(&of_tokens, &of_token)) {
        if (!rb_tokens_next(&tokens, &token)) {
            return false;
        }
        if (is_tail(of_token)) {
            return true;
        }
        if (is_tail(token) || (!is_star(of_token) && !rb_slice_equal(of_token, token))) {
            return false; /* a '*' in `pattern` equals no literal token, which is right: it is wider */
        }
    }
    return tokens.done;
}
