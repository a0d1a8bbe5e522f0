/* subject.h - tokens, wildcards, validity (reference: subjects of the NATS protocol). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/slice.h"

/** May be subscribed to: no empty token, '>' only as the last whole token. */
bool rb_subject_valid_sub(struct rb_slice subject);
/** May be published to in pedantic mode: no empty token, no token that is exactly '*' or '>'. */
bool rb_subject_valid_literal(struct rb_slice subject);
/** Strict form for configuration: valid_sub and no blank, tab, CR, LF, FF. */
bool rb_subject_valid(struct rb_slice subject);
/** Has a token that is exactly '*' or '>'. */
bool rb_subject_has_wildcard(struct rb_slice subject);
/** Number of tokens (dots + 1; 0 for the empty subject). */
uint32_t rb_subject_token_count(struct rb_slice subject);
/** Does literal `subject` match `pattern`? Empty tokens in `subject` match nothing. */
bool rb_subject_match(struct rb_slice pattern, struct rb_slice subject);
/** Could one literal subject match both patterns? */
bool rb_subject_overlap(struct rb_slice a, struct rb_slice b);
/** Is every literal that `pattern` matches matched by `of_pattern` too? False when one is no subject. */
bool rb_subject_subset(struct rb_slice pattern, struct rb_slice of_pattern);

/** Walks tokens: `rest` begins as the subject; false at the end. An empty subject has no token. */
struct rb_tokens {
    const uint8_t *at, *end;
    bool done;
};
struct rb_tokens rb_tokens_over(struct rb_slice subject);
bool rb_tokens_next(struct rb_tokens *tokens, struct rb_slice *ret_token);
