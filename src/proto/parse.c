/* parse.c - the client protocol, byte by byte where it must and line by line where it can.
 *
 *   START --letters--> VERB --all of them--> GAP --blank--> BLANKS --other byte--> ARGS --LF--> op
 *     |                  |                                   ^                      |
 *     |                  +--CONNECT, INFO (no blank needed)--'                      `--> PAYLOAD
 *     |                  +--PING, PONG, +OK--> SKIP --LF--> op
 *     `--whole PUB or HPUB in the input: take_whole_pub()--> op       any of them --> FAILED
 *
 * 1. take_whole_pub() takes only what is well-formed and complete, and changes nothing otherwise:
 *    every error and every split goes through the one state machine.
 * 2. Which operations come out, and which error ends them, depends on the stream alone, not on
 *    where it is cut. What a state decides, it decides from bytes it has consumed or kept.
 * 3. `hold` keeps arguments from their first byte that is no blank, then the payload. Verbs, blanks
 *    before the arguments and the text after PING need no memory, however long they are.
 * 4. `hold` never has more room than four times what has come (or one small block): an announced
 *    size costs nothing by itself.
 * 5. In START a `hold` belongs to the operation delivered last; the next call gives it back.
 * 6. The first byte of the arguments is taken as it is, even when it is CR or LF: the reference
 *    server does so, and "SUB \nfoo 1\n" is one operation there.
 */
#include "proto/parse.h"

#include <stdio.h>

#include "ringbus/bounds.h"
#include "ringbus/check.h"

#define PAYLOAD_DEFAULT (1024 * 1024)
#define SIZE_DIGITS_MAX 9
#define ARGS_MAX 4
#define SNIPPET_MAX 32
#define HOLD_FIRST_BYTES 1024
#define HOLD_PAYLOAD_BYTES 4096

enum parse_state {
    STATE_START,
    STATE_VERB,
    STATE_GAP,
    STATE_BLANKS,
    STATE_ARGS,
    STATE_SKIP,
    STATE_PAYLOAD,
    STATE_FAILED,
};

enum verb {
    VERB_PUB,
    VERB_PING,
    VERB_PONG,
    VERB_HPUB,
    VERB_SUB,
    VERB_UNSUB,
    VERB_CONNECT,
    VERB_INFO,
    VERB_OK,
    VERB_ERR,
    VERB_NONE,
};

static const struct verb_info {
    char text[8];
    uint8_t len;
    uint8_t next; /* the state after the last letter */
    enum rb_op_kind kind;
} verbs[] = {
    [VERB_PUB] = { "PUB", 3, STATE_GAP, RB_OP_PUB },
    [VERB_PING] = { "PING", 4, STATE_SKIP, RB_OP_PING },
    [VERB_PONG] = { "PONG", 4, STATE_SKIP, RB_OP_PONG },
    [VERB_HPUB] = { "HPUB", 4, STATE_GAP, RB_OP_PUB },
    [VERB_SUB] = { "SUB", 3, STATE_GAP, RB_OP_SUB },
    [VERB_UNSUB] = { "UNSUB", 5, STATE_GAP, RB_OP_UNSUB },
    [VERB_CONNECT] = { "CONNECT", 7, STATE_BLANKS, RB_OP_CONNECT },
    [VERB_INFO] = { "INFO", 4, STATE_BLANKS, RB_OP_INFO },
    [VERB_OK] = { "+OK", 3, STATE_SKIP, RB_OP_OK },
    [VERB_ERR] = { "-ERR", 4, STATE_GAP, RB_OP_ERR },
};

/* The input of one call. */
struct cursor {
    const uint8_t *at, *end;
};

/* What a state says: go on with the next state, or one of the results of rb_parse_next. */
enum step {
    STEP_ON = -1,
    STEP_OP = RB_PARSE_OP,
    STEP_MORE = RB_PARSE_MORE,
    STEP_FAIL = RB_PARSE_FAIL,
};

void rb_parser_init(struct rb_parser *parser, struct rb_bufpool *pool)
{
    *parser = (struct rb_parser){
        .pool = pool,
        .max_control_line = RB_CONTROL_LINE_DEFAULT,
        .max_payload = PAYLOAD_DEFAULT,
        .state = STATE_START,
    };
}

static inline void release_hold(struct rb_parser *parser)
{
    if (parser->hold != NULL) {
        rb_buf_release(parser->hold);
        parser->hold = NULL;
    }
}

void rb_parser_deinit(struct rb_parser *parser)
{
    release_hold(parser);
}

/* ---- failing -------------------------------------------------------------------------------- */

__attribute__((cold, noinline)) static enum step
fail(struct rb_parser *parser, enum rb_parse_fail kind, const char *what, struct rb_slice snippet)
{
    uint8_t quoted[44];
    snippet.len = snippet.len < SNIPPET_MAX ? snippet.len : SNIPPET_MAX;
    size_t len = rb_format_quoted(quoted, sizeof(quoted), snippet);
    snprintf(parser->fail_text, sizeof(parser->fail_text), "%s: \"%.*s\"", what, (int)len,
             (const char *)quoted);
    parser->fail = kind;
    parser->state = STATE_FAILED;
    if (kind != RB_FAIL_PAYLOAD) {
        release_hold(parser);
    }
    return STEP_FAIL;
}

/* An unknown verb: the letters that were right, perhaps of an earlier input, then what followed, up to the first blank,
 * brace or quote: behind a mistyped CONNECT there are secrets. */
__attribute__((cold, noinline)) static enum step fail_verb(struct rb_parser *parser,
                                                           enum rb_parse_fail kind,
                                                           const char *what,
                                                           const struct cursor *cursor)
{
    uint8_t text[SNIPPET_MAX];
    size_t known = parser->verb_len;
    size_t left = (size_t)(cursor->end - cursor->at);
    size_t more = left < sizeof(text) - known ? left : sizeof(text) - known;
    if (known != 0) {
        memcpy(text, verbs[parser->verb].text, known);
    }
    size_t shown = 0;
    while (shown < more && memchr(" \t{\"", cursor->at[shown], 4) == NULL) {
        text[known + shown] = cursor->at[shown];
        shown++;
    }
    return fail(parser, kind, what, rb_slice_of(text, known + shown));
}

/* ---- the block that keeps what is split ----------------------------------------------------- */

static const uint8_t *moved(const uint8_t *ptr, const uint8_t *from, const uint8_t *to)
{
    return ptr == NULL ? NULL : to + (ptr - from);
}

/* The pending slices lie in the arguments, which now begin at `to`. */
static void rebase_pending(struct rb_parser *parser, const uint8_t *from, const uint8_t *to)
{
    struct rb_op *op = &parser->pending;
    op->subject.ptr = moved(op->subject.ptr, from, to);
    op->reply.ptr = moved(op->reply.ptr, from, to);
}

/* Makes room for `len` bytes in `hold`, preferably `cap`; keeps what it has. */
static bool reserve_hold(struct rb_parser *parser, size_t len, size_t cap)
{
    struct rb_buf *old = parser->hold;
    if (old != NULL && old->cap >= len) {
        return true;
    }
    if (cap > UINT32_MAX) {
        return false;
    }
    struct rb_buf *buf = rb_buf_acquire(parser->pool, (uint32_t)cap);
    if (buf == NULL) {
        return false;
    }
    if (old != NULL) {
        memcpy(buf->data, old->data, old->len);
        buf->len = old->len;
        if (parser->state == STATE_PAYLOAD) {
            rebase_pending(parser, old->data, buf->data);
        }
        rb_buf_release(old);
    }
    parser->hold = buf;
    return true;
}

static void append_hold(struct rb_parser *parser, const uint8_t *ptr, size_t len)
{
    struct rb_buf *hold = parser->hold;
    rb_assert_slow(hold->len + len <= hold->cap);
    memcpy(hold->data + hold->len, ptr, len);
    hold->len += (uint32_t)len;
}

/* ---- arguments ------------------------------------------------------------------------------ */

static inline bool is_separator(uint8_t c, bool cr)
{
    return c == ' ' || c == '\t' || c == '\n' || (cr && c == '\r');
}

/*
 * Splits at runs of blanks; the LF of invariant 6 is a blank, too. With `cr`, CR is one as well: the
 * reference server takes it for a part of the argument in PUB, and for a blank in SUB and UNSUB.
 * Returns the number of arguments, ARGS_MAX + 1 for too many.
 */
static inline uint32_t split_args(struct rb_slice line, bool cr, struct rb_slice args[ARGS_MAX])
{
    const uint8_t *at = line.ptr;
    const uint8_t *end = line.ptr + line.len;
    uint32_t count = 0;
    for (;;) {
        while (at < end && is_separator(*at, cr)) {
            at++;
        }
        if (at == end) {
            return count;
        }
        if (count == ARGS_MAX) {
            return ARGS_MAX + 1;
        }
        const uint8_t *begin = at;
        while (at < end && !is_separator(*at, cr)) {
            at++;
        }
        args[count++] = rb_slice_of(begin, (size_t)(at - begin));
    }
}

/* Up to 9 decimal digits and nothing else; -1 otherwise. */
static int64_t parse_size(struct rb_slice text)
{
    int64_t value = 0;
    if (text.len == 0 || text.len > SIZE_DIGITS_MAX) {
        return -1;
    }
    for (size_t i = 0; i < text.len; i++) {
        uint32_t digit = (uint32_t)text.ptr[i] - '0';
        if (digit > 9) {
            return -1;
        }
        value = value * 10 + digit;
    }
    return value;
}

/* Field by field: compilers clear the whole with a string instruction, at the price of a parse. */
static inline void clear_op(struct rb_op *op, enum rb_op_kind kind)
{
    const struct rb_slice none = { NULL, 0 };
    op->kind = kind;
    op->has_header = false;
    op->args = none;
    op->subject = none;
    op->reply = none;
    op->queue = none;
    op->sid = none;
    op->payload = none;
    op->header_len = 0;
    op->total_len = 0;
    op->max = 0;
    op->buf = NULL;
}

/* ---- payload -------------------------------------------------------------------------------- */

static enum step fail_payload_end(struct rb_parser *parser, const uint8_t *at, const uint8_t *end)
{
    return fail(parser, RB_FAIL_PROTOCOL, "payload is not followed by CRLF",
                rb_slice_of(at, (size_t)(end - at)));
}

static enum step step_payload(struct rb_parser *parser, struct cursor *cursor, struct rb_op *op)
{
    size_t line_len = parser->hold_line_len;
    size_t body_end = line_len + parser->pending.total_len;
    size_t whole = body_end + 2;
    size_t wanted = whole - parser->hold->len;
    size_t left = (size_t)(cursor->end - cursor->at);
    size_t take = left < wanted ? left : wanted;
    size_t len = parser->hold->len + take;
    size_t cap = len * 4 > HOLD_PAYLOAD_BYTES ? len * 4 : HOLD_PAYLOAD_BYTES;
    if (!reserve_hold(parser, len, cap < whole ? cap : whole)) {
        return fail(parser, RB_FAIL_MEMORY, "no memory for payload to", parser->pending.subject);
    }
    append_hold(parser, cursor->at, take);
    cursor->at += take;
    const uint8_t *data = parser->hold->data;
    if ((len > body_end && data[body_end] != '\r') || (len == whole && data[whole - 1] != '\n')) {
        return fail_payload_end(parser, data + body_end, data + len);
    }
    if (len < whole) {
        return STEP_MORE;
    }
    *op = parser->pending;
    op->payload = rb_slice_of(data + line_len, op->total_len);
    op->buf = parser->hold;
    parser->state = STATE_START;
    return STEP_OP;
}

/* The control line is done: `op` has all but the payload, its slices lie in `line`. */
static enum step begin_payload(struct rb_parser *parser, struct rb_slice line,
                               struct cursor *cursor, struct rb_op *op)
{
    size_t left = (size_t)(cursor->end - cursor->at);
    size_t size = op->total_len;
    if (left >= size + 2) {
        const uint8_t *tail = cursor->at + size;
        if (tail[0] != '\r' || tail[1] != '\n') {
            return fail_payload_end(parser, tail, cursor->end);
        }
        op->payload = rb_slice_of(cursor->at, size);
        cursor->at = tail + 2;
        parser->state = STATE_START;
        return STEP_OP;
    }
    parser->pending = *op;
    if (parser->hold == NULL) {
        size_t len = line.len + left;
        size_t cap = len * 4 > HOLD_PAYLOAD_BYTES ? len * 4 : HOLD_PAYLOAD_BYTES;
        size_t whole = line.len + size + 2;
        if (!reserve_hold(parser, len, cap < whole ? cap : whole)) {
            return fail(parser, RB_FAIL_MEMORY, "no memory for payload to", op->subject);
        }
        append_hold(parser, line.ptr, line.len);
        rebase_pending(parser, line.ptr, parser->hold->data);
    }
    parser->hold_line_len = parser->hold->len;
    parser->state = STATE_PAYLOAD;
    return STEP_ON;
}

/* ---- whole control lines -------------------------------------------------------------------- */

static enum step fail_args(struct rb_parser *parser, struct rb_slice line, const char *what)
{
    char text[48];
    snprintf(text, sizeof(text), "%s: %s", verbs[parser->verb].text, what);
    return fail(parser, RB_FAIL_ARGS, text, line);
}

static enum step finish_pub(struct rb_parser *parser, struct rb_slice line, struct cursor *cursor,
                            struct rb_op *op)
{
    struct rb_slice args[ARGS_MAX];
    bool with_header = parser->verb == VERB_HPUB;
    if (with_header && !parser->headers) {
        return fail(parser, RB_FAIL_HEADERS, "message headers not supported", line);
    }
    uint32_t count = split_args(line, false, args);
    uint32_t sizes = with_header ? 2 : 1;
    if (count != sizes + 1 && count != sizes + 2) {
        return fail_args(parser, line, "wrong number of arguments");
    }
    int64_t total = parse_size(args[count - 1]);
    int64_t header = with_header ? parse_size(args[count - 2]) : 0;
    if (header < 0 || total < 0) {
        return fail_args(parser, line, "bad or missing size");
    }
    if (header > total) {
        return fail_args(parser, line, "header size above total size");
    }
    clear_op(op, RB_OP_PUB);
    op->subject = args[0];
    if (count == sizes + 2) {
        op->reply = args[1];
    }
    op->has_header = header > 0;
    op->header_len = (uint32_t)header;
    op->total_len = (uint32_t)total;
    if (total > parser->max_payload) {
        char text[48];
        parser->pending = *op;
        snprintf(text, sizeof(text), "payload above %u bytes", parser->max_payload);
        return fail(parser, RB_FAIL_PAYLOAD, text, line);
    }
    return begin_payload(parser, line, cursor, op);
}

static enum step finish_sub(struct rb_parser *parser, struct rb_slice line, struct rb_op *op)
{
    struct rb_slice args[ARGS_MAX];
    uint32_t count = split_args(line, true, args);
    if (count != 2 && count != 3) {
        return fail_args(parser, line, "wrong number of arguments");
    }
    clear_op(op, RB_OP_SUB);
    op->subject = args[0];
    if (count == 3) {
        op->queue = args[1];
    }
    op->sid = args[count - 1];
    parser->state = STATE_START;
    return STEP_OP;
}

static enum step finish_unsub(struct rb_parser *parser, struct rb_slice line, struct rb_op *op)
{
    struct rb_slice args[ARGS_MAX];
    uint32_t count = split_args(line, true, args);
    if (count != 1 && count != 2) {
        return fail_args(parser, line, "wrong number of arguments");
    }
    int64_t max = count == 2 ? parse_size(args[1]) : 0;
    clear_op(op, RB_OP_UNSUB);
    op->sid = args[0];
    op->max = max > 0 ? max : 0;
    parser->state = STATE_START;
    return STEP_OP;
}

static enum step finish_line(struct rb_parser *parser, struct rb_slice line, struct cursor *cursor,
                             struct rb_op *op)
{
    switch (verbs[parser->verb].kind) {
    case RB_OP_PUB:
        return finish_pub(parser, line, cursor, op);
    case RB_OP_SUB:
        return finish_sub(parser, line, op);
    case RB_OP_UNSUB:
        return finish_unsub(parser, line, op);
    default:
        break;
    }
    clear_op(op, verbs[parser->verb].kind);
    op->args = line;
    parser->state = STATE_START;
    return STEP_OP;
}

/* ---- the states ----------------------------------------------------------------------------- */

static inline uint8_t upper(uint8_t c)
{
    return c >= 'a' && c <= 'z' ? (uint8_t)(c - 'a' + 'A') : c;
}

/* The verb that a first letter stands for; the family of P is told apart by the second. */
static enum verb verb_of_first(uint8_t letter)
{
    switch (letter) {
    case 'P':
        return VERB_PUB;
    case 'H':
        return VERB_HPUB;
    case 'S':
        return VERB_SUB;
    case 'U':
        return VERB_UNSUB;
    case 'C':
        return VERB_CONNECT;
    case 'I':
        return VERB_INFO;
    case '+':
        return VERB_OK;
    case '-':
        return VERB_ERR;
    default:
        return VERB_NONE;
    }
}

static enum verb verb_of_second(uint8_t letter)
{
    switch (letter) {
    case 'U':
        return VERB_PUB;
    case 'I':
        return VERB_PING;
    case 'O':
        return VERB_PONG;
    default:
        return VERB_NONE;
    }
}

static enum step step_verb(struct rb_parser *parser, struct cursor *cursor)
{
    while (cursor->at < cursor->end) {
        uint8_t letter = upper(*cursor->at);
        enum verb verb = (enum verb)parser->verb;
        if (parser->verb_len == 0) {
            verb = verb_of_first(letter);
        } else if (parser->verb_len == 1 && verb == VERB_PUB) {
            verb = verb_of_second(letter);
        } else if (letter != (uint8_t)verbs[verb].text[parser->verb_len]) {
            verb = VERB_NONE;
        }
        if (verb == VERB_NONE) {
            return fail_verb(parser, RB_FAIL_PROTOCOL, "unknown operation", cursor);
        }
        parser->verb = (uint8_t)verb;
        parser->verb_len++;
        cursor->at++;
        if (parser->verb_len == verbs[verb].len) {
            parser->state = verbs[verb].next;
            return STEP_ON;
        }
    }
    return STEP_MORE;
}

static enum step step_start(struct rb_parser *parser, struct cursor *cursor)
{
    parser->verb_len = 0;
    if (parser->require_connect && upper(*cursor->at) != 'C') {
        return fail_verb(parser, RB_FAIL_AUTH, "first operation is not CONNECT", cursor);
    }
    parser->state = STATE_VERB;
    return step_verb(parser, cursor);
}

static enum step step_gap(struct rb_parser *parser, struct cursor *cursor)
{
    if (*cursor->at != ' ' && *cursor->at != '\t') {
        return fail_verb(parser, RB_FAIL_PROTOCOL, "no blank after the verb", cursor);
    }
    cursor->at++;
    parser->state = STATE_BLANKS;
    return STEP_ON;
}

static enum step step_blanks(struct rb_parser *parser, struct cursor *cursor)
{
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\t')) {
        cursor->at++;
    }
    if (cursor->at == cursor->end) {
        return STEP_MORE;
    }
    parser->state = STATE_ARGS;
    return STEP_ON;
}

static enum step step_args(struct rb_parser *parser, struct cursor *cursor, struct rb_op *op)
{
    size_t held = parser->hold == NULL ? 0 : parser->hold->len;
    const uint8_t *begin = cursor->at;
    const uint8_t *from = held == 0 ? begin + 1 : begin; /* invariant 6 */
    const uint8_t *lf = NULL;
    if (from < cursor->end) {
        lf = memchr(from, '\n', (size_t)(cursor->end - from));
    }
    const uint8_t *end = lf == NULL ? cursor->end : lf;
    size_t added = (size_t)(end - begin);
    size_t len = held + added;
    uint8_t last = added != 0 ? end[-1] : parser->hold->data[held - 1];
    size_t counted = last == '\r' ? len - 1 : len;
    if (counted > parser->max_control_line) {
        struct rb_slice line =
            held != 0 ? rb_slice_of(parser->hold->data, held) : rb_slice_of(begin, added);
        line.len = parser->verb == VERB_CONNECT ? 0 : line.len; /* may hold a password */
        return fail(parser, RB_FAIL_CONTROL_LINE, "control line too long", line);
    }
    if (held != 0 || lf == NULL) {
        size_t cap = len * 2 > HOLD_FIRST_BYTES ? len * 2 : HOLD_FIRST_BYTES;
        if (!reserve_hold(parser, len, cap)) {
            return fail(parser, RB_FAIL_MEMORY, "no memory for the control line",
                        rb_slice_of(begin, added));
        }
        append_hold(parser, begin, added);
        begin = parser->hold->data;
    }
    cursor->at = lf == NULL ? end : lf + 1;
    return lf == NULL ? STEP_MORE : finish_line(parser, rb_slice_of(begin, counted), cursor, op);
}

static enum step step_skip(struct rb_parser *parser, struct cursor *cursor, struct rb_op *op)
{
    const uint8_t *lf = memchr(cursor->at, '\n', (size_t)(cursor->end - cursor->at));
    if (lf == NULL) {
        cursor->at = cursor->end;
        return STEP_MORE;
    }
    cursor->at = lf + 1;
    clear_op(op, verbs[parser->verb].kind);
    parser->state = STATE_START;
    return STEP_OP;
}

static enum step step_state(struct rb_parser *parser, struct cursor *cursor, struct rb_op *op)
{
    switch ((enum parse_state)parser->state) {
    case STATE_START:
        return step_start(parser, cursor);
    case STATE_VERB:
        return step_verb(parser, cursor);
    case STATE_GAP:
        return step_gap(parser, cursor);
    case STATE_BLANKS:
        return step_blanks(parser, cursor);
    case STATE_ARGS:
        return step_args(parser, cursor, op);
    case STATE_SKIP:
        return step_skip(parser, cursor, op);
    case STATE_PAYLOAD:
        return step_payload(parser, cursor, op);
    case STATE_FAILED:
        break;
    }
    rb_unreachable("a failed parser takes no bytes");
}

/* ---- the short way -------------------------------------------------------------------------- */

/* The first byte at or after `at` that is a blank or a control byte; `end` when there is none. */
static inline const uint8_t *token_end(const uint8_t *at, const uint8_t *end)
{
    const uint64_t ones = UINT64_MAX / 255;
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        /* The lowest marked byte is the first one below 0x21; marks above it may be borrows. */
        uint64_t marks = (word - ones * 0x21) & ~word & (ones * 0x80);
        if (marks != 0) {
            return at + __builtin_ctzll(marks) / 8;
        }
        at += 8;
    }
    while (at<end && * at> ' ') {
        at++;
    }
    return at;
}

/* Reads up to 9 digits at *at. False when there is none, or no byte after them. */
static inline bool take_size(const uint8_t **at, const uint8_t *end, uint32_t *ret_size)
{
    const uint8_t *p = *at;
    const uint8_t *limit = end - p > SIZE_DIGITS_MAX ? p + SIZE_DIGITS_MAX : end;
    uint32_t value = 0;
    while (p < limit) {
        uint32_t digit = (uint32_t)*p - '0';
        if (digit > 9) {
            break;
        }
        value = value * 10 + digit;
        p++;
    }
    bool any = p != *at && p < end;
    *at = p;
    *ret_size = value;
    return any;
}

static inline bool ends_line(uint8_t c)
{
    return c == '\r' || c == '\n';
}

/*
 * "subject [reply] [header] total CRLF payload CRLF" with single spaces and nothing odd, all of it
 * in [at, end). False, with nothing changed, for whatever else: the state machine decides.
 */
static inline bool take_whole_pub(struct rb_parser *parser, const uint8_t *at, const uint8_t *end,
                                  struct rb_op *op, bool with_header, const uint8_t **ret_at)
{
    const uint8_t *line = at;
    uint32_t header = 0;
    uint32_t total = 0;
    struct rb_slice reply = { NULL, 0 };
    const uint8_t *p = token_end(at, end);
    struct rb_slice subject = rb_slice_of(at, (size_t)(p - at));
    if (subject.len == 0 || p == end || *p != ' ') {
        return false;
    }
    at = ++p;
    if (with_header) {
        if (!take_size(&p, end, &header) || *p != ' ') {
            goto has_reply;
        }
        p++;
    }
    if (take_size(&p, end, &total) && ends_line(*p)) {
        goto has_sizes;
    }
has_reply:
    p = token_end(at, end);
    reply = rb_slice_of(at, (size_t)(p - at));
    if (reply.len == 0 || p == end || *p != ' ') {
        return false;
    }
    p++;
    if (with_header) {
        if (!take_size(&p, end, &header) || *p != ' ') {
            return false;
        }
        p++;
    }
    if (!take_size(&p, end, &total) || !ends_line(*p)) {
        return false;
    }
has_sizes:
    if ((size_t)(p - line) > parser->max_control_line) {
        return false;
    }
    p += *p == '\r';
    if (p == end || *p != '\n') {
        return false;
    }
    p++;
    size_t left = (size_t)(end - p);
    if (left < (size_t)total + 2 || total > parser->max_payload || header > total ||
        p[total] != '\r' || p[total + 1] != '\n') {
        return false;
    }
    clear_op(op, RB_OP_PUB);
    op->has_header = header != 0;
    op->subject = subject;
    op->reply = reply;
    op->payload = rb_slice_of(p, total);
    op->header_len = header;
    op->total_len = total;
    *ret_at = p + total + 2;
    return true;
}

#define WORD(a, b, c, d)                                                                           \
    ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

/* True when a whole PUB or HPUB was taken off the front of *input. */
static inline bool take_short_way(struct rb_parser *parser, struct rb_slice *input,
                                  struct rb_op *op)
{
    if (input->len < 8) {
        return false;
    }
    const uint8_t *at = input->ptr;
    const uint8_t *end = at + input->len;
    const uint8_t *rest;
    uint32_t word = WORD(at[0], at[1], at[2], at[3]);
    if ((word & 0xdfdfdfff) == WORD('P', 'U', 'B', ' ')) {
        if (!take_whole_pub(parser, at + 4, end, op, false, &rest)) {
            return false;
        }
    } else if ((word & 0xdfdfdfdf) == WORD('H', 'P', 'U', 'B') && at[4] == ' ' && parser->headers) {
        if (!take_whole_pub(parser, at + 5, end, op, true, &rest)) {
            return false;
        }
    } else {
        return false;
    }
    *input = rb_slice_of(rest, (size_t)(end - rest));
    return true;
}

enum rb_parse_result rb_parse_next(struct rb_parser *parser, struct rb_slice *input,
                                   struct rb_op *op)
{
    if (parser->state == STATE_START) {
        release_hold(parser); /* invariant 5 */
        if (!parser->require_connect && take_short_way(parser, input, op)) {
            return RB_PARSE_OP;
        }
    } else if (parser->state == STATE_FAILED) {
        return RB_PARSE_FAIL;
    }
    struct cursor cursor = { input->ptr, input->len == 0 ? input->ptr : input->ptr + input->len };
    enum step step = STEP_ON;
    while (step == STEP_ON) {
        step = cursor.at < cursor.end ? step_state(parser, &cursor, op) : STEP_MORE;
    }
    *input = rb_slice_of(cursor.at, (size_t)(cursor.end - cursor.at));
    return (enum rb_parse_result)step;
}
