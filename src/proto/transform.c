/* transform.c - checks the two sides of a subject mapping and compiles them into steps.
 *
 * 1. A destination token is a function when it lies in "{{" and "}}" with something between, a reference when it is '$'
 *    and a number, else literal text. A function's name may be written with any case at the start of its words.
 * 2. References count the source's '*' from 1. Smaller ones mean the subject's first token, as in nats-server.
 * 3. A transform is one block: the struct, then tokens, steps, indexes, and both texts that the slices point into.
 * 4. Errors come in nats-server's order: for mappings first each token by itself, then the subjects as a whole, then
 *    each token in the light of the source.
 */
#include "proto/transform.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/subject.h"
#include "proto/transform_inside.h"

#define BAD_SUBJECT "invalid subject"
#define BAD "invalid mapping destination: "
#define BAD_TRANSFORM BAD "invalid transform"
#define BAD_RANGE BAD "wildcard index out of range"
#define BAD_ARGUMENT BAD "function argument is invalid or in the wrong format"
#define TOO_FEW BAD "not enough arguments passed to the function"
#define TOO_MANY BAD "too many arguments passed to the function"

/* A destination token, read but not yet related to a source. */
struct function {
    enum rb_transform_kind kind;
    struct rb_slice token, arguments;
    struct rb_slice text; /* a split's delimiter */
    int64_t index;
    int32_t number;
};

struct compiler {
    enum rb_transform_rules rules;
    struct rb_transform *transform;
    struct rb_transform_step *steps;
    uint16_t *indexes;
    uint32_t index_count, star_count;
    uint16_t star_places[RB_SUBJECT_TOKENS_MAX];
    char *error;
};

static enum rb_err fail(char *error, const char *text)
{
    snprintf(error, RB_TRANSFORM_ERROR_MAX, "%s", text);
    return RB_ERR_INVALID;
}

static enum rb_err fail_token(char *error, const char *text, struct rb_slice token)
{
    int len = (int)(token.len < RB_TRANSFORM_ERROR_MAX ? token.len : RB_TRANSFORM_ERROR_MAX);
    snprintf(error, RB_TRANSFORM_ERROR_MAX, "%s in %.*s", text, len, (const char *)token.ptr);
    return RB_ERR_INVALID;
}

static enum rb_err fail_range(char *error, struct rb_slice token, int64_t index)
{
    int len = (int)(token.len < 160 ? token.len : 160); /* leaves room for the index */
    snprintf(error, RB_TRANSFORM_ERROR_MAX, BAD_RANGE " in %.*s: [%lld]", len,
             (const char *)token.ptr, (long long)index);
    return RB_ERR_INVALID;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r' && c != '\v');
}

static bool has_blank(struct rb_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (is_blank(s.ptr[i])) {
            return true;
        }
    }
    return false;
}

static struct rb_slice trim_left(struct rb_slice s)
{
    while (s.len > 0 && is_blank(s.ptr[0])) {
        s = rb_slice_of(s.ptr + 1, s.len - 1);
    }
    return s;
}

static struct rb_slice trim(struct rb_slice s)
{
    s = trim_left(s);
    while (s.len > 0 && is_blank(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

/* Decimal digits after an optional sign; what does not fit 64 bits is no number. */
static bool parse_number(struct rb_slice s, int64_t *ret_value)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    size_t at = negative || (s.len > 0 && s.ptr[0] == '+') ? 1 : 0;
    int64_t value = 0;
    if (at == s.len) {
        return false;
    }
    for (; at < s.len; at++) {
        if (s.ptr[at] < '0' || s.ptr[at] > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, s.ptr[at] - '0', &value)) {
            return false;
        }
    }
    if (!negative && value == INT64_MIN) {
        return false;
    }
    *ret_value = negative ? value : -value;
    return true;
}

static bool parse_number32(struct rb_slice s, int32_t *ret_value)
{
    int64_t value;
    if (!parse_number(trim(s), &value) || value < INT32_MIN || value > INT32_MAX) {
        return false;
    }
    *ret_value = (int32_t)value;
    return true;
}

static bool is_function(struct rb_slice token)
{
    return token.len > 4 && memcmp(token.ptr, "{{", 2) == 0 &&
           memcmp(token.ptr + token.len - 2, "}}", 2) == 0;
}

static bool is_star(struct rb_slice token)
{
    return token.len == 1 && token.ptr[0] == '*';
}

static bool is_tail(struct rb_slice token)
{
    return token.len == 1 && token.ptr[0] == '>';
}

/* At the start of a word (a capital in `name`) either case will do. */
static size_t match_name(struct rb_slice s, const char *name)
{
    size_t len = strlen(name);
    if (s.len < len) {
        return 0;
    }
    for (size_t i = 0; i < len; i++) {
        uint8_t want = (uint8_t)name[i];
        bool capital = want >= 'A' && want <= 'Z';
        if (s.ptr[i] != want && !(capital && s.ptr[i] == want + ('a' - 'A'))) {
            return 0;
        }
    }
    return len;
}

/* The arguments when `s` goes on with '(' ... ')' and "}}"; the last such end counts. */
static bool match_arguments(struct rb_slice s, struct rb_slice *ret_arguments)
{
    s = trim_left(s);
    if (s.len == 0 || s.ptr[0] != '(') {
        return false;
    }
    for (size_t close = s.len - 1; close > 0; close--) {
        if (s.ptr[close] != ')') {
            continue;
        }
        if (rb_slice_starts(trim_left(rb_slice_of(s.ptr + close + 1, s.len - close - 1)),
                            RB_S("}}"))) {
            *ret_arguments = rb_slice_of(s.ptr + 1, close - 1);
            return true;
        }
    }
    return false;
}

static bool match_function(struct rb_slice s, struct function *function)
{
    static const struct {
        const char *name;
        enum rb_transform_kind kind;
    } names[] = {
        { "Wildcard", RB_STEP_TOKEN },
        { "Partition", RB_STEP_PARTITION },
        { "Random", RB_STEP_RANDOM },
        { "SplitFromLeft", RB_STEP_SPLIT_LEFT },
        { "SplitFromRight", RB_STEP_SPLIT_RIGHT },
        { "SliceFromLeft", RB_STEP_SLICE_LEFT },
        { "SliceFromRight", RB_STEP_SLICE_RIGHT },
        { "Split", RB_STEP_SPLIT },
        { "Left", RB_STEP_LEFT },
        { "Right", RB_STEP_RIGHT },
    };
    s = trim_left(s);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t len = match_name(s, names[i].name);
        if (len > 0 &&
            match_arguments(rb_slice_of(s.ptr + len, s.len - len), &function->arguments)) {
            function->kind = names[i].kind;
            return true;
        }
    }
    return false;
}

/* Takes what lies before the next comma; false when nothing is left. `rest->ptr` NULL marks the end. */
static bool next_argument(struct rb_slice *rest, struct rb_slice *ret_argument)
{
    if (rest->ptr == NULL) {
        return false;
    }
    const uint8_t *comma = rest->len == 0 ? NULL : memchr(rest->ptr, ',', rest->len);
    if (comma == NULL) {
        *ret_argument = *rest;
        *rest = rb_slice_of(NULL, 0);
        return true;
    }
    size_t len = (size_t)(comma - rest->ptr);
    *ret_argument = rb_slice_of(rest->ptr, len);
    *rest = rb_slice_of(comma + 1, rest->len - len - 1);
    return true;
}

/* Reads the fixed arguments; a partition's indexes are checked here and read again by compile_partition. */
static enum rb_err parse_arguments(struct function *function, char *error)
{
    struct rb_slice rest = function->arguments;
    struct rb_slice first = { NULL, 0 };
    struct rb_slice second = { NULL, 0 };
    struct rb_slice more;
    (void)next_argument(&rest, &first);
    bool has_second = next_argument(&rest, &second);
    bool has_more = next_argument(&rest, &more);
    int64_t index;
    switch (function->kind) {
    case RB_STEP_TOKEN:
        if (function->arguments.len == 0 || has_second) {
            return fail_token(error, has_second ? TOO_MANY : TOO_FEW, function->token);
        }
        break;
    case RB_STEP_RANDOM:
        if (has_second) {
            return fail_token(error, TOO_FEW, function->token); /* nats-server's word for it */
        }
        goto number_first;
    case RB_STEP_PARTITION:
        rest = function->arguments;
        (void)next_argument(&rest, &more);
        while (next_argument(&rest, &more)) {
            if (!parse_number(trim(more), &index)) {
                return fail_token(error, BAD_ARGUMENT, function->token);
            }
        }
        goto number_first;
    default:
        if (!has_second || has_more) {
            return fail_token(error, has_more ? TOO_MANY : TOO_FEW, function->token);
        }
        break;
    }
    if (!parse_number(trim(first), &function->index)) {
        return fail_token(error, BAD_ARGUMENT, function->token);
    }
    if (function->kind == RB_STEP_SPLIT) {
        function->text = trim_left(second);
        return has_blank(function->text) ? fail_token(error, BAD_ARGUMENT, function->token) : RB_OK;
    }
    if (function->kind != RB_STEP_TOKEN && !parse_number32(second, &function->number)) {
        return fail_token(error, BAD_ARGUMENT, function->token);
    }
    return RB_OK;
number_first:
    return parse_number32(first, &function->number)
               ? RB_OK
               : fail_token(error, BAD_ARGUMENT, function->token);
}

/* Invariant 1. */
static enum rb_err parse_token(struct rb_slice token, struct function *function, char *error)
{
    *function = (struct function){ .kind = RB_STEP_LITERAL, .token = token };
    if (token.len > 1 && token.ptr[0] == '$' &&
        parse_number(rb_slice_of(token.ptr + 1, token.len - 1), &function->index)) {
        function->kind = RB_STEP_TOKEN;
        return RB_OK;
    }
    if (!is_function(token)) {
        return RB_OK;
    }
    for (size_t at = 0; at + 2 <= token.len; at++) {
        if (memcmp(token.ptr + at, "{{", 2) == 0 &&
            match_function(rb_slice_of(token.ptr + at + 2, token.len - at - 2), function)) {
            return parse_arguments(function, error);
        }
    }
    return fail_token(error, BAD "unknown function", token);
}

/* What nats-server asks of a mapping's destination before it looks at the source. */
static enum rb_err check_mapping(struct rb_slice destination, char *error)
{
    struct rb_tokens tokens = rb_tokens_over(destination);
    struct rb_slice token;
    struct function function;
    bool tail = false;
    while (rb_tokens_next(&tokens, &token)) {
        if (token.len == 0) {
            return fail(error, BAD_TRANSFORM);
        }
        if (tail) {
            return fail_token(error, BAD_TRANSFORM, token);
        }
        if (!is_function(token) && has_blank(token)) {
            return fail(error, BAD_TRANSFORM);
        }
        enum rb_err err = parse_token(token, &function, error);
        if (err != RB_OK) {
            return err;
        }
        tail = is_tail(token);
    }
    return RB_OK;
}

static bool has_tail(struct rb_slice subject)
{
    return is_tail(subject) ||
           (subject.len > 1 && memcmp(subject.ptr + subject.len - 2, ".>", 2) == 0);
}

/* Both are subjects, within bounds, and agree about '>'; the destination has no '*'. */
static bool subjects_fit(struct rb_slice source, struct rb_slice destination)
{
    if (!rb_subject_valid(source) || rb_subject_token_count(source) > RB_SUBJECT_TOKENS_MAX) {
        return false;
    }
    if (destination.len == 0) {
        return true;
    }
    if (!rb_subject_valid_sub(destination) ||
        rb_subject_token_count(destination) > RB_SUBJECT_TOKENS_MAX ||
        has_tail(source) != has_tail(destination)) {
        return false;
    }
    struct rb_tokens tokens = rb_tokens_over(destination);
    struct rb_slice token;
    while (rb_tokens_next(&tokens, &token)) {
        if (is_star(token) || (!is_function(token) && has_blank(token))) {
            return false;
        }
    }
    return true;
}

/* Invariant 3. `index_max` bounds the partition indexes of the destination. */
static struct rb_transform *make_block(struct rb_slice source, struct rb_slice destination,
                                       struct rb_transform_step **ret_steps, uint16_t **ret_indexes)
{
    size_t token_max = rb_subject_token_count(source);
    size_t step_max = rb_subject_token_count(destination);
    size_t index_max = 0;
    for (size_t i = 0; i < destination.len; i++) {
        index_max += destination.ptr[i] == ',';
    }
    size_t tokens_at = sizeof(struct rb_transform);
    size_t steps_at = tokens_at + token_max * sizeof(struct rb_slice);
    size_t indexes_at = steps_at + step_max * sizeof(struct rb_transform_step);
    size_t text_at = indexes_at + index_max * sizeof(uint16_t);
    uint8_t *block = calloc(1, text_at + source.len + destination.len);
    if (block == NULL) {
        return NULL;
    }
    struct rb_transform *transform = (struct rb_transform *)block;
    struct rb_slice *tokens = (struct rb_slice *)(block + tokens_at);
    memcpy(block + text_at, source.ptr, source.len);
    transform->source = rb_slice_of(block + text_at, source.len);
    transform->destination = rb_slice_of(block + text_at + source.len, destination.len);
    if (destination.len > 0) {
        memcpy(block + text_at + source.len, destination.ptr, destination.len);
    }
    transform->tail = has_tail(source);
    transform->identity = destination.len == 0;
    transform->tokens = tokens;
    transform->token_count = (uint32_t)token_max - (transform->tail ? 1 : 0);
    struct rb_tokens walk = rb_tokens_over(transform->source);
    for (uint32_t i = 0; i < transform->token_count; i++) {
        (void)(rb_tokens_next(&walk, &tokens[i]));
        transform->stars[i / 64] |= (uint64_t)is_star(tokens[i]) << i % 64;
    }
    transform->steps = *ret_steps = (struct rb_transform_step *)(block + steps_at);
    transform->indexes = *ret_indexes = (uint16_t *)(block + indexes_at);
    return transform;
}

static enum rb_err place_of(struct compiler *compiler, struct rb_slice token, int64_t index,
                            uint16_t *ret_place)
{
    if (index > (int64_t)compiler->star_count) {
        return fail_range(compiler->error, token, index);
    }
    *ret_place = index < 1 ? 0 : compiler->star_places[index - 1]; /* invariant 2 */
    return RB_OK;
}

static enum rb_err compile_partition(struct compiler *compiler, const struct function *function,
                                     struct rb_transform_step *step)
{
    struct rb_slice rest = function->arguments;
    struct rb_slice argument;
    step->index_first = (uint16_t)compiler->index_count;
    (void)next_argument(&rest, &argument);
    while (next_argument(&rest, &argument)) {
        int64_t index = 0;
        uint16_t place;
        (void)parse_number(trim(argument), &index); /* parse_arguments has seen it */
        enum rb_err err = place_of(compiler, function->token, index, &place);
        if (err != RB_OK) {
            return err;
        }
        compiler->indexes[compiler->index_count++] = place;
        step->index_count++;
    }
    return RB_OK;
}

static enum rb_err compile_token(struct compiler *compiler, struct rb_slice token,
                                 struct rb_transform_step *step)
{
    struct function function;
    struct rb_transform *transform = compiler->transform;
    bool literal = compiler->star_count == 0 && !transform->tail;
    enum rb_err err = RB_OK;
    function = (struct function){ .kind = RB_STEP_LITERAL };
    if (!literal || compiler->rules != RB_TRANSFORM_IMPORT) {
        err = parse_token(token, &function, compiler->error);
    }
    if (err != RB_OK) {
        return err;
    }
    *step = (struct rb_transform_step){ .kind = function.kind, .number = function.number };
    step->text = function.kind == RB_STEP_LITERAL ? token : function.text;
    if (function.kind == RB_STEP_LITERAL) {
        return RB_OK;
    }
    if (compiler->rules == RB_TRANSFORM_IMPORT && function.kind != RB_STEP_TOKEN) {
        return fail_token(compiler->error,
                          BAD "the only mapping function allowed for import transforms is "
                              "{{Wildcard()}}",
                          token);
    }
    switch (function.kind) {
    case RB_STEP_RANDOM:
        return RB_OK;
    case RB_STEP_PARTITION:
        return literal ? RB_OK : compile_partition(compiler, &function, step);
    default:
        return literal ? fail_token(compiler->error, BAD_RANGE, token)
                       : place_of(compiler, token, function.index, &step->token);
    }
}

/* Every '*' of the source is taken over somewhere. */
static bool uses_all(const struct rb_transform *transform)
{
    for (uint32_t i = 0; i < transform->token_count; i++) {
        bool used = !rb_transform_is_star(transform, i);
        for (uint32_t j = 0; j < transform->step_count && !used; j++) {
            used = transform->steps[j].kind == RB_STEP_TOKEN && transform->steps[j].token == i;
        }
        if (!used) {
            return false;
        }
    }
    return true;
}

static enum rb_err compile(struct compiler *compiler)
{
    struct rb_transform *transform = compiler->transform;
    for (uint32_t i = 0; i < transform->token_count; i++) {
        if (rb_transform_is_star(transform, i)) {
            compiler->star_places[compiler->star_count++] = (uint16_t)i;
        }
    }
    struct rb_tokens tokens = rb_tokens_over(transform->destination);
    struct rb_slice token;
    while (rb_tokens_next(&tokens, &token)) {
        struct rb_transform_step *step = &compiler->steps[transform->step_count];
        enum rb_err err = RB_OK;
        if (is_tail(token)) {
            *step = (struct rb_transform_step){ .kind = RB_STEP_REST };
        } else {
            err = compile_token(compiler, token, step);
        }
        if (err != RB_OK) {
            return err;
        }
        transform->step_count++;
    }
    if (compiler->rules == RB_TRANSFORM_IMPORT && !transform->identity && !uses_all(transform)) {
        return fail_token(compiler->error, BAD "not using all of the token wildcard(s)",
                          transform->destination);
    }
    return RB_OK;
}

enum rb_err rb_transform_create(enum rb_transform_rules rules, struct rb_slice source,
                                struct rb_slice destination, struct rb_transform **ret_transform,
                                char error[RB_TRANSFORM_ERROR_MAX])
{
    struct compiler compiler = { .rules = rules, .error = error };
    if (source.len == 0) {
        source = RB_S(">"); /* a stream transform without a source */
    }
    enum rb_err err = rules == RB_TRANSFORM_MAPPING ? check_mapping(destination, error) : RB_OK;
    if (err != RB_OK) {
        return err;
    }
    if (!subjects_fit(source, destination)) {
        return fail(error, BAD_SUBJECT);
    }
    compiler.transform = make_block(source, destination, &compiler.steps, &compiler.indexes);
    if (compiler.transform == NULL) {
        (void)fail(error, rb_err_text(RB_ERR_MEMORY));
        return RB_ERR_MEMORY;
    }
    err = compile(&compiler);
    if (err != RB_OK) {
        rb_transform_destroy(compiler.transform);
        return err;
    }
    *ret_transform = compiler.transform;
    return RB_OK;
}

void rb_transform_destroy(struct rb_transform *transform)
{
    free(transform);
}

struct rb_slice rb_transform_source(const struct rb_transform *transform)
{
    return transform->source;
}

struct rb_slice rb_transform_destination(const struct rb_transform *transform)
{
    return transform->destination;
}

/* Only literals, tokens and the rest: nothing that loses or invents. */
static bool is_reversible(const struct rb_transform *transform)
{
    for (uint32_t i = 0; i < transform->step_count; i++) {
        enum rb_transform_kind kind = transform->steps[i].kind;
        if (kind != RB_STEP_LITERAL && kind != RB_STEP_TOKEN && kind != RB_STEP_REST) {
            return false;
        }
        if (kind == RB_STEP_TOKEN && transform->steps[i].token >= transform->token_count) {
            return false; /* "$0" of ">": a part of the rest, written twice */
        }
    }
    return uses_all(transform);
}

/* The destination as a pattern. A reference to a literal token of the source is that token (invariant 2). */
static void write_reverse_source(const struct rb_transform *transform, struct rb_writer *writer)
{
    for (uint32_t i = 0; i < transform->step_count; i++) {
        const struct rb_transform_step *step = &transform->steps[i];
        if (i > 0) {
            rb_write_u8(writer, '.');
        }
        if (step->kind == RB_STEP_LITERAL) {
            rb_write_slice(writer, step->text);
        } else if (step->kind == RB_STEP_REST) {
            rb_write_u8(writer, '>');
        } else {
            rb_write_slice(writer, transform->tokens[step->token]);
        }
    }
}

/* The 1-based number, among the reverse's wildcards, of the first one that stands for token `place`. */
static uint32_t reverse_index(const struct rb_transform *transform, uint32_t place)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < transform->step_count; i++) {
        const struct rb_transform_step *step = &transform->steps[i];
        if (step->kind == RB_STEP_TOKEN && rb_transform_is_star(transform, step->token)) {
            count++;
            if (step->token == place) {
                return count;
            }
        }
    }
    rb_unreachable("is_reversible has seen each of them");
}

static void write_reverse_destination(const struct rb_transform *transform,
                                      struct rb_writer *writer)
{
    for (uint32_t i = 0; i < transform->token_count; i++) {
        if (i > 0) {
            rb_write_u8(writer, '.');
        }
        if (rb_transform_is_star(transform, i)) {
            rb_write_u8(writer, '$');
            rb_write_decimal(writer, reverse_index(transform, i));
        } else {
            rb_write_slice(writer, transform->tokens[i]);
        }
    }
    if (transform->tail) {
        rb_write_slice(writer, transform->token_count > 0 ? RB_S(".>") : RB_S(">"));
    }
}

/* What looks like a reference or function in the source's own text is text: it must not be parsed again. */
static void keep_literals(const struct rb_transform *forward, struct rb_transform_step *steps,
                          struct rb_transform *reverse)
{
    struct rb_tokens tokens = rb_tokens_over(reverse->destination);
    struct rb_slice token;
    reverse->step_count = 0;
    while (rb_tokens_next(&tokens, &token)) {
        uint32_t place = reverse->step_count;
        struct rb_transform_step step = { .kind = RB_STEP_LITERAL, .text = token };
        if (place == forward->token_count) {
            step = (struct rb_transform_step){ .kind = RB_STEP_REST };
        } else if (rb_transform_is_star(forward, place)) {
            step = (struct rb_transform_step){ .kind = RB_STEP_TOKEN };
            uint32_t wanted = reverse_index(forward, place);
            for (uint32_t at = 0; at < reverse->token_count; at++) {
                wanted -= rb_transform_is_star(reverse, at) ? 1 : 0;
                if (wanted == 0) {
                    step.token = (uint16_t)at;
                    break;
                }
            }
        }
        steps[reverse->step_count++] = step;
    }
}

enum rb_err rb_transform_reverse(const struct rb_transform *transform,
                                 struct rb_transform **ret_reverse)
{
    struct rb_transform_step *steps;
    uint16_t *indexes;
    if (!transform->identity && !is_reversible(transform)) {
        return RB_ERR_INVALID;
    }
    /* A token may grow to what it refers to, and a star to '$' with up to three digits. */
    size_t cap = transform->destination.len + 4 * transform->source.len + 16;
    for (uint32_t i = 0; i < transform->step_count; i++) {
        cap += transform->source.len;
    }
    uint8_t *text = malloc(2 * cap);
    if (text == NULL) {
        return RB_ERR_MEMORY;
    }
    struct rb_writer source = rb_writer_over(text, cap);
    struct rb_writer destination = rb_writer_over(text + cap, cap);
    if (transform->identity) {
        rb_write_slice(&source, transform->source);
    } else {
        write_reverse_source(transform, &source);
        write_reverse_destination(transform, &destination);
    }
    rb_assert(source.ok && destination.ok);
    struct rb_transform *reverse =
        make_block(rb_slice_of(text, rb_writer_len(&source)),
                   rb_slice_of(text + cap, rb_writer_len(&destination)), &steps, &indexes);
    free(text);
    if (reverse == NULL) {
        return RB_ERR_MEMORY;
    }
    if (!reverse->identity) {
        keep_literals(transform, steps, reverse);
    }
    *ret_reverse = reverse;
    return RB_OK;
}

size_t rb_transform_number(struct rb_slice pattern, uint8_t *out, size_t cap)
{
    struct rb_writer writer = rb_writer_over(out, cap);
    struct rb_tokens tokens = rb_tokens_over(pattern);
    uint32_t number = 0;
    for (struct rb_slice token; rb_tokens_next(&tokens, &token);) {
        if (rb_writer_len(&writer) > 0) {
            rb_write_u8(&writer, '.');
        }
        if (rb_slice_equal(token, RB_S("*"))) {
            rb_write_u8(&writer, '$');
            rb_write_decimal(&writer, ++number);
        } else {
            rb_write_slice(&writer, token);
        }
    }
    return writer.ok ? rb_writer_len(&writer) : 0;
}
