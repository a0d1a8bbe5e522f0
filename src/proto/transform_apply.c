/* transform_apply.c - a subject goes through a compiled transform.
 *
 * 1. The subject is split once, as far as the source has tokens; what follows is one slice, the rest.
 * 2. Steps write tokens with a dot between them. A result with an empty token, or in which a function has cut out
 *    a '*' or '>', is no subject: then there is no result (0).
 * 3. No allocation: the split lies on the stack, with room for the longest source.
 * 4. In a pattern a wildcard stands for a token nobody knows. What depends on one is written as '*' where that is one
 *    token in any case; a split of it may be any number, so there is no result.
 */
#include "proto/subject.h"
#include "proto/transform_inside.h"

struct run {
    const struct rb_transform *transform;
    struct rb_slice subject, rest;
    uint64_t random;
    uint8_t *out;
    size_t cap, len;
    bool pattern, failed;
    struct rb_slice tokens[RB_SUBJECT_TOKENS_MAX];
};

static bool is_char(struct rb_slice token, char c)
{
    return token.len == 1 && token.ptr[0] == (uint8_t)c;
}

static bool is_wildcard(struct rb_slice token)
{
    return is_char(token, '*') || is_char(token, '>');
}

/* Writes one token, or the rest of a subject, as it is. */
static void put(struct run *run, struct rb_slice token)
{
    size_t dot = run->len > 0 ? 1 : 0;
    if (token.len == 0 || token.len > run->cap || run->len + dot > run->cap - token.len) {
        run->failed = true; /* invariant 2 */
        return;
    }
    if (dot > 0) {
        run->out[run->len++] = '.';
    }
    memcpy(run->out + run->len, token.ptr, token.len);
    run->len += token.len;
}

/* Writes a piece that a function has cut (invariant 2). */
static void put_piece(struct run *run, struct rb_slice piece)
{
    if (is_wildcard(piece)) {
        run->failed = true;
        return;
    }
    put(run, piece);
}

static void put_number(struct run *run, uint64_t number)
{
    uint8_t digits[20];
    put(run, rb_slice_of(digits, rb_format_decimal(digits, number)));
}

/* FNV-1a, 32 bits. Source: Fowler, Noll, Vo; draft-eastlake-fnv, section 2. */
static uint32_t add_hash(uint32_t hash, struct rb_slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        hash = (hash ^ bytes.ptr[i]) * UINT32_C(16777619);
    }
    return hash;
}

static void step_partition(struct run *run, const struct rb_transform_step *step)
{
    uint32_t hash = UINT32_C(2166136261);
    bool known = true;
    if (step->index_count == 0) {
        hash = add_hash(hash, run->subject);
        known = !run->pattern || !rb_subject_has_wildcard(run->subject);
    }
    for (uint32_t i = 0; i < step->index_count; i++) {
        struct rb_slice token = run->tokens[run->transform->indexes[step->index_first + i]];
        hash = add_hash(hash, token);
        known = known && !(run->pattern && is_wildcard(token));
    }
    uint32_t parts = (uint32_t)step->number;
    if (!known) {
        put(run, RB_S("*"));
    } else {
        put_number(run, parts == 0 ? 0 : hash % parts);
    }
}

static void step_random(struct run *run, const struct rb_transform_step *step)
{
    if (run->pattern) {
        put(run, RB_S("*"));
        return;
    }
    put_number(run, step->number <= 0 ? 0 : run->random % (uint32_t)step->number);
    run->random = (run->random ^ run->random >> 29) * UINT64_C(0xbf58476d1ce4e5b9) + 1;
}

/* Bytes of the UTF-8 character that `s` begins with; 1 for a byte that begins none. */
static size_t char_len(struct rb_slice s)
{
    uint8_t first = s.ptr[0];
    size_t len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 1;
    if (first > 0xf4 || len > s.len) {
        return 1;
    }
    for (size_t i = 1; i < len; i++) {
        if ((s.ptr[i] & 0xc0) != 0x80) {
            return 1;
        }
    }
    return len;
}

/* Place of `part` in `s`, or s.len. */
static size_t find(struct rb_slice s, struct rb_slice part)
{
    const uint8_t *at = memmem(s.ptr, s.len, part.ptr, part.len);
    return at == NULL ? s.len : (size_t)(at - s.ptr);
}

static struct rb_slice skip(struct rb_slice s, size_t len)
{
    return rb_slice_of(s.ptr + len, s.len - len);
}

/* An empty delimiter splits into characters, as Go's strings.Split does. */
static void step_split(struct run *run, struct rb_slice token, struct rb_slice delimiter)
{
    size_t before = run->len;
    while (token.len > 0 && !run->failed) {
        size_t len = delimiter.len == 0 ? char_len(token) : find(token, delimiter);
        if (len > 0) {
            put_piece(run, rb_slice_of(token.ptr, len));
        }
        bool more = token.len - len >= delimiter.len;
        token = skip(token, more ? len + delimiter.len : token.len);
    }
    run->failed = run->failed || run->len == before; /* nothing but delimiters */
}

static void step_cut(struct run *run, struct rb_slice token, size_t at)
{
    put_piece(run, rb_slice_of(token.ptr, at));
    put_piece(run, skip(token, at));
}

static void step_slices(struct run *run, struct rb_slice token, size_t first, size_t size)
{
    for (size_t len = first; token.len > 0 && !run->failed; len = size) {
        len = len < token.len ? len : token.len;
        put_piece(run, rb_slice_of(token.ptr, len));
        token = skip(token, len);
    }
}

/* Functions of one token and a number; a number that leaves the token whole does just that. */
static void step_measured(struct run *run, const struct rb_transform_step *step,
                          struct rb_slice token)
{
    size_t number = step->number <= 0 ? token.len : (size_t)step->number;
    if (number >= token.len) {
        put_piece(run, token);
        return;
    }
    switch (step->kind) {
    case RB_STEP_SPLIT_LEFT:
        step_cut(run, token, number);
        break;
    case RB_STEP_SPLIT_RIGHT:
        step_cut(run, token, token.len - number);
        break;
    case RB_STEP_SLICE_LEFT:
        step_slices(run, token, number, number);
        break;
    case RB_STEP_SLICE_RIGHT:
        step_slices(run, token, token.len % number == 0 ? number : token.len % number, number);
        break;
    case RB_STEP_LEFT:
        put_piece(run, rb_slice_of(token.ptr, number));
        break;
    case RB_STEP_RIGHT:
        put_piece(run, skip(token, token.len - number));
        break;
    default:
        rb_unreachable("a function of one token and a number");
    }
}

/* Invariant 4. */
static void step_unknown(struct run *run, const struct rb_transform_step *step)
{
    if (step->kind == RB_STEP_LEFT || step->kind == RB_STEP_RIGHT) {
        put(run, RB_S("*"));
    } else {
        run->failed = true;
    }
}

static void step_once(struct run *run, const struct rb_transform_step *step)
{
    switch (step->kind) {
    case RB_STEP_LITERAL:
        put(run, step->text);
        return;
    case RB_STEP_TOKEN:
        run->failed = run->pattern && is_char(run->tokens[step->token], '>');
        put(run, run->tokens[step->token]);
        return;
    case RB_STEP_REST:
        put(run, run->rest);
        return;
    case RB_STEP_PARTITION:
        step_partition(run, step);
        return;
    case RB_STEP_RANDOM:
        step_random(run, step);
        return;
    default:
        break;
    }
    struct rb_slice token = run->tokens[step->token];
    if (run->pattern && is_wildcard(token)) {
        step_unknown(run, step);
    } else if (step->kind == RB_STEP_SPLIT) {
        step_split(run, token, step->text);
    } else {
        step_measured(run, step, token);
    }
}

/* A token of a pattern may be narrower than the source's, never wider. */
static bool token_fits(const struct run *run, uint32_t at, struct rb_slice token)
{
    if (token.len == 0 || (run->pattern && is_char(token, '>'))) {
        return false;
    }
    if (rb_transform_is_star(run->transform, at)) {
        return true;
    }
    return rb_slice_equal(run->transform->tokens[at], token) &&
           !(run->pattern && is_char(token, '*'));
}

static bool split_subject(struct run *run)
{
    const struct rb_transform *transform = run->transform;
    struct rb_tokens tokens = rb_tokens_over(run->subject);
    if (transform->token_count == 0) {
        struct rb_tokens first =
            tokens; /* "$0" is the subject's first token, also when the source is ">" */
        (void)(rb_tokens_next(&first, &run->tokens[0]));
    }
    for (uint32_t i = 0; i < transform->token_count; i++) {
        if (!rb_tokens_next(&tokens, &run->tokens[i]) || !token_fits(run, i, run->tokens[i])) {
            return false;
        }
    }
    if (tokens.done) {
        return !transform->tail && run->subject.len > 0;
    }
    if (!transform->tail) {
        return false;
    }
    run->rest = rb_slice_of(tokens.at, (size_t)(tokens.end - tokens.at));
    struct rb_slice token;
    while (rb_tokens_next(&tokens, &token)) {
        if (token.len == 0) {
            return false;
        }
    }
    return run->rest.len > 0;
}

static size_t apply(struct run *run)
{
    const struct rb_transform *transform = run->transform;
    if (!split_subject(run)) {
        return 0;
    }
    if (transform->identity) {
        put(run, run->subject);
    }
    for (uint32_t i = 0; i < transform->step_count && !run->failed; i++) {
        step_once(run, &transform->steps[i]);
    }
    return run->failed ? 0 : run->len;
}

size_t rb_transform_apply(const struct rb_transform *transform, struct rb_slice subject,
                          uint64_t random, uint8_t *out, size_t cap)
{
    struct run run; /* field by field: the tokens need no clearing */
    run.transform = transform;
    run.subject = subject;
    run.rest = rb_slice_of(NULL, 0);
    run.random = random;
    run.out = out;
    run.cap = cap;
    run.len = 0;
    run.pattern = run.failed = false;
    return apply(&run);
}

size_t rb_transform_apply_pattern(const struct rb_transform *transform, struct rb_slice subject,
                                  uint8_t *out, size_t cap)
{
    struct run run;
    if (!rb_subject_valid_sub(subject)) {
        return 0;
    }
    run.transform = transform;
    run.subject = subject;
    run.rest = rb_slice_of(NULL, 0);
    run.random = 0;
    run.out = out;
    run.cap = cap;
    run.len = 0;
    run.pattern = true;
    run.failed = false;
    return apply(&run);
}
