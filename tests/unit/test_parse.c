/* test_parse.c - the client parser: grammar, limits, errors; and cuts in the stream change nothing.
 *
 * A script is fed in pieces, each a heap block of exactly its size, so that the sanitizer sees a
 * read beyond it. What comes out is written down as text; the text must be the same for every cut.
 */
#include "proto/parse.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ringbus/buf.h"
#include "ringbus/mem.h"

#define TEXT_MAX 65536

struct fixture {
    struct rb_budget budget;
    struct rb_bufpool pool;
    struct rb_parser parser;
    char text[TEXT_MAX]; /* what came out */
    size_t text_len;
    bool failed;
};

static void begin(struct fixture *f)
{
    f->budget = (struct rb_budget){ 0 };
    rb_bufpool_init(&f->pool, &f->budget);
    rb_parser_init(&f->parser, &f->pool);
    f->parser.headers = true;
    f->text_len = 0;
    f->text[0] = 0;
    f->failed = false;
}

static void end(struct fixture *f)
{
    rb_parser_deinit(&f->parser);
    assert_int_equal(f->pool.used_count, 0);
    rb_bufpool_deinit(&f->pool);
    assert_int_equal(f->budget.used_bytes, 0);
}

static int setup(void **state)
{
    struct fixture *f = malloc(sizeof(*f));
    begin(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    end(*state);
    free(*state);
    return 0;
}

__attribute__((format(printf, 2, 3))) static void note(struct fixture *f, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(f->text + f->text_len, TEXT_MAX - f->text_len, format, args);
    va_end(args);
    assert_true(len >= 0 && (size_t)len < TEXT_MAX - f->text_len);
    f->text_len += (size_t)len;
}

/* Bytes that are no letters as in %q; long texts by their length and sum. */
static void note_slice(struct fixture *f, const char *name, struct rb_slice s)
{
    uint8_t quoted[256];
    if (s.ptr == NULL) {
        return;
    }
    if (s.len > 64) {
        note(f, " %s=#%zu:%" PRIx64, name, s.len, rb_slice_hash(s));
        return;
    }
    size_t len = rb_format_quoted(quoted, sizeof(quoted), s);
    note(f, " %s=%.*s", name, (int)len, (const char *)quoted);
}

static void note_op(struct fixture *f, const struct rb_op *op)
{
    static const char *const names[] = { "CONNECT", "PUB", "SUB", "UNSUB", "PING",
                                         "PONG",    "OK",  "ERR", "INFO" };
    note(f, "%s", names[op->kind]);
    note_slice(f, "args", op->args);
    note_slice(f, "subject", op->subject);
    note_slice(f, "reply", op->reply);
    note_slice(f, "queue", op->queue);
    note_slice(f, "sid", op->sid);
    if (op->kind == RB_OP_PUB) {
        note(f, " %u/%u", op->header_len, op->total_len);
        note_slice(f, "payload", op->payload);
        assert_int_equal(op->payload.len, op->total_len);
        assert_int_equal(op->has_header, op->header_len != 0);
    } else if (op->kind == RB_OP_UNSUB) {
        note(f, " max=%" PRId64, op->max);
    }
    if (op->buf != NULL) {
        assert_true(op->payload.ptr >= op->buf->data);
        assert_true(op->payload.ptr + op->payload.len <= op->buf->data + op->buf->cap);
    }
    note(f, "\n");
}

static void feed(struct fixture *f, struct rb_slice bytes)
{
    struct rb_op op;
    uint8_t *copy = malloc(bytes.len + (bytes.len == 0));
    if (bytes.len != 0) {
        memcpy(copy, bytes.ptr, bytes.len);
    }
    struct rb_slice input = rb_slice_of(copy, bytes.len);
    while (!f->failed) {
        memset(&op, 0xee, sizeof(op));
        enum rb_parse_result result = rb_parse_next(&f->parser, &input, &op);
        assert_true(input.ptr >= copy && input.ptr + input.len == copy + bytes.len);
        if (result == RB_PARSE_MORE) {
            assert_int_equal(input.len, 0);
            break;
        }
        if (result == RB_PARSE_FAIL) {
            static const char *const kinds[] = { "none", "protocol", "line",    "payload",
                                                 "auth", "args",     "headers", "memory" };
            note(f, "fail %s\n", kinds[f->parser.fail]);
            assert_true(strlen(f->parser.fail_text) > 0);
            f->failed = true;
            assert_int_equal(rb_parse_next(&f->parser, &input, &op), RB_PARSE_FAIL);
            assert_true(f->parser.hold == NULL || f->parser.fail == RB_FAIL_PAYLOAD);
            break;
        }
        note_op(f, &op);
    }
    free(copy);
}

static void parse(struct fixture *f, const char *script)
{
    feed(f, rb_slice_text(script));
}

/* ---- scripts and what they mean ------------------------------------------------------------- */

static const struct script {
    const char *bytes, *text;
} scripts[] = {
    { "PING\r\n", "PING\n" },
    { "ping\n", "PING\n" },
    { "PINGfoo bar\r\nPONG x\r\nPiNg \t\n", "PING\nPONG\nPING\n" },
    { "pong\r\n", "PONG\n" },
    { "+OK\r\n+ok\n+OKfoo\r\nPING\r\n", "OK\nOK\nOK\nPING\n" },
    { "-ERR 'x'\r\n", "ERR args='x'\n" },
    { "-err \t why\n", "ERR args=why\n" },
    { "-ERR\r\n", "fail protocol\n" },
    { "-ERRx\r\n", "fail protocol\n" },
    { "INFO {}\r\nINFO{}\n", "INFO args={}\nINFO args={}\n" },
    { "CONNECT {\"verbose\":false}\r\nPING\r\n", "CONNECT args={\\\"verbose\\\":false}\nPING\n" },
    { "connect{} \r\n", "CONNECT args={} \n" },
    { "CONNECT\n{}\n", "CONNECT args=\\n{}\n" },
    { "CONNECX {}\r\n", "fail protocol\n" },

    { "PUB foo 2\r\nhi\r\n", "PUB subject=foo 0/2 payload=hi\n" },
    { "pub foo bar 2\r\nhi\r\n", "PUB subject=foo reply=bar 0/2 payload=hi\n" },
    { "PuB foo 2\nhi\r\nPING\r\n", "PUB subject=foo 0/2 payload=hi\nPING\n" },
    { "PUB  \t  foo\t\tbar   2  \t\r\nhi\r\n", "PUB subject=foo reply=bar 0/2 payload=hi\n" },
    { "PUB\tfoo\t2\r\nhi\r\n", "PUB subject=foo 0/2 payload=hi\n" },
    { "PUB foo 0\r\n\r\nPUB b 0\n\r\n",
      "PUB subject=foo 0/0 payload=\nPUB subject=b 0/0 payload=\n" },
    { "PUB foo 000000002\r\nhi\r\n", "PUB subject=foo 0/2 payload=hi\n" },
    { "PUB 12345678 12 3\r\nabc\r\n", "PUB subject=12345678 reply=12 0/3 payload=abc\n" },
    { "PUB a 99999999999 1\r\nx\r\n", "PUB subject=a reply=99999999999 0/1 payload=x\n" },
    { "PUB foo\rbar 2\r\nhi\r\n", "PUB subject=foo\\rbar 0/2 payload=hi\n" },
    { "PUB \r 2\r\nhi\r\n", "PUB subject=\\r 0/2 payload=hi\n" },
    { "PUB foo 2\r\r\nhi\r\n", "fail args\n" },
    { "PUB foo 2 \r \r\nhi\r\n", "fail args\n" },
    { "HPUB foo \r 0 2\r\nhi\r\n", "PUB subject=foo reply=\\r 0/2 payload=hi\n" },
    { "SUB foo\r1\r\n", "SUB subject=foo sid=1\n" },
    { "PUB \nfoo 2\nhi\r\n", "PUB subject=foo 0/2 payload=hi\n" },
    { "PUB f\x01o 2\r\nhi\r\n", "PUB subject=f\\x01o 0/2 payload=hi\n" },
    { "PUB f\xc3\xa9\xff o 2\r\nhi\r\n", "PUB subject=fé\\xff reply=o 0/2 payload=hi\n" },
    { "PUB foo 4\r\n\r\n\r\n\r\nPING\r\n", "PUB subject=foo 0/4 payload=\\r\\n\\r\\n\nPING\n" },
    { "PUB abcdefgh.ijklmnop.qrst _INBOX.abcdefghijklmnop 10\r\n0123456789\r\n",
      "PUB subject=abcdefgh.ijklmnop.qrst reply=_INBOX.abcdefghijklmnop 0/10 "
      "payload=0123456789\n" },
    { "PUB a 1\r\nxPUB b 1\r\n", "fail protocol\n" },
    { "PUB foo 3\r\nabcde\r\n", "fail protocol\n" },
    { "PUB foo 3\r\nabc\rx", "fail protocol\n" },
    { "PUB foo 2\nhi\nPING\n", "fail protocol\n" },
    { "PUB foo 0\r\n\n", "fail protocol\n" },
    { "PUB\r\n", "fail protocol\n" },
    { "PUB \r\n", "fail args\n" },
    { "PUB foo\r\n", "fail args\n" },
    { "PUB a b c 2\r\nhi\r\n", "fail args\n" },
    { "PUB a b c d e 2\r\nhi\r\n", "fail args\n" },
    { "PUB foo x\r\n", "fail args\n" },
    { "PUB foo 2x\r\n", "fail args\n" },
    { "PUB foo -2\r\n", "fail args\n" },
    { "PUB foo +2\r\n", "fail args\n" },
    { "PUB foo 0000000002\r\nhi\r\n", "fail args\n" },
    { "PUB foo 101\r\n", "fail payload\n" },
    { "PUB foo bar 999999999\r\n", "fail payload\n" },

    { "HPUB foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
      "PUB subject=foo 12/14 payload=NATS/1.0\\r\\n\\r\\nhi\n" },
    { "hpub foo bar 12 12\nNATS/1.0\r\n\r\n\r\n",
      "PUB subject=foo reply=bar 12/12 payload=NATS/1.0\\r\\n\\r\\n\n" },
    { "HPUB foo 5 2 3\r\nabc\r\nHPUB foo 5 12 12\r\nNATS/1.0\r\n\r\n\r\n",
      "PUB subject=foo reply=5 2/3 payload=abc\n"
      "PUB subject=foo reply=5 12/12 payload=NATS/1.0\\r\\n\\r\\n\n" },
    { "HPUB\tfoo\t12\t14\r\nNATS/1.0\r\n\r\nhi\r\n",
      "PUB subject=foo 12/14 payload=NATS/1.0\\r\\n\\r\\nhi\n" },
    { "HPUB foo 0 2\r\nhi\r\n", "PUB subject=foo 0/2 payload=hi\n" },
    { "HPUB foo 3 2\r\nhi\r\n", "fail args\n" },
    { "HPUB foo 200 2\r\nhi\r\n", "fail args\n" },
    { "HPUB foo 2 200\r\nhi\r\n", "fail payload\n" },
    { "HPUB foo x 2\r\nhi\r\n", "fail args\n" },
    { "HPUB foo 2\r\nhi\r\n", "fail args\n" },
    { "HPUB a b c 2 2\r\nhi\r\n", "fail args\n" },
    { "HPUB foo 0000000002 2\r\nhi\r\n", "fail args\n" },
    { "HPUB\r\n", "fail protocol\n" },
    { "HMSG foo\r\n", "fail protocol\n" },

    { "SUB foo 1\r\nsub foo.* workers q1\n",
      "SUB subject=foo sid=1\nSUB subject=foo.* queue=workers sid=q1\n" },
    { "SUB \nfoo 1\n", "SUB subject=foo sid=1\n" },
    { "SUB  foo\t1 \r\r\n", "SUB subject=foo sid=1\n" },
    { "SUB a\r\n", "fail args\n" },
    { "SUB a b c d\r\n", "fail args\n" },
    { "SUBx a 1\r\n", "fail protocol\n" },
    { "UNSUB 1\r\nUNSUB 1 5\r\nunsub a x\nUNSUB a 0000000002\n",
      "UNSUB sid=1 max=0\nUNSUB sid=1 max=5\nUNSUB sid=a max=0\nUNSUB sid=a max=0\n" },
    { "UNSUB a -3\r\nUNSUB a 999999999\r\n", "UNSUB sid=a max=0\nUNSUB sid=a max=999999999\n" },
    { "UNSUB\r\n", "fail protocol\n" },
    { "UNSUB \r\n", "fail args\n" },
    { "UNSUB a b c\r\n", "fail args\n" },

    { "FOO\r\n", "fail protocol\n" },
    { "\r\nPING\r\n", "fail protocol\n" },
    { " PING\r\n", "fail protocol\n" },
    { "PING\r\n\r\n", "PING\nfail protocol\n" },
    { "RS+ a\r\n", "fail protocol\n" },
    { "LS+ a\r\n", "fail protocol\n" },
    { "A+ a\r\n", "fail protocol\n" },
    { "MSG a 1 1\r\n", "fail protocol\n" },
    { "PAX", "fail protocol\n" },
    { "\x10UB a 1\r\nx\r\n", "fail protocol\n" },
    { "\x0bOK\r\n", "fail protocol\n" },
    { "\rERR x\r\n", "fail protocol\n" },
    { "P", "" },
    { "PUB foo 5\r\nab", "" },
    { "SUB \n", "" },
    { "PUB a 1\r\nx\r\nSUB a 1\r\nPUB a b 2\r\nxy\r\nPING\r\nUNSUB 1\r\nHPUB a 1 "
      "2\r\nxy\r\nPING\r\n",
      "PUB subject=a 0/1 payload=x\nSUB subject=a sid=1\nPUB subject=a reply=b 0/2 payload=xy\n"
      "PING\nUNSUB sid=1 max=0\nPUB subject=a 1/2 payload=xy\nPING\n" },
};

#define SCRIPT_COUNT (sizeof(scripts) / sizeof(scripts[0]))
#define SMALL_PAYLOAD_MAX 100

/* Feeds `script` cut at `first` and `second` and asserts what comes out. */
static void parse_cut(struct fixture *f, const struct script *script, size_t first, size_t second)
{
    struct rb_slice all = rb_slice_text(script->bytes);
    begin(f);
    f->parser.max_payload = SMALL_PAYLOAD_MAX;
    feed(f, rb_slice_of(all.ptr, first));
    feed(f, rb_slice_of(all.ptr + first, second - first));
    feed(f, rb_slice_of(all.ptr + second, all.len - second));
    if (strcmp(f->text, script->text) != 0) {
        print_error("script \"%s\" cut at %zu, %zu\n", script->bytes, first, second);
    }
    assert_string_equal(f->text, script->text);
    end(f);
}

static void whole_scripts(void **state)
{
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        parse_cut(*state, &scripts[i], 0, 0);
    }
}

static void cut_anywhere_twice(void **state)
{
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        size_t len = strlen(scripts[i].bytes);
        for (size_t first = 0; first <= len; first++) {
            for (size_t second = first; second <= len; second++) {
                parse_cut(*state, &scripts[i], first, second);
            }
        }
    }
}

static void byte_at_a_time(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        begin(f);
        f->parser.max_payload = SMALL_PAYLOAD_MAX;
        for (const char *at = scripts[i].bytes; *at != 0; at++) {
            feed(f, rb_slice_of(at, 1));
        }
        assert_string_equal(f->text, scripts[i].text);
        end(f);
    }
}

/* An error is seen with the byte that makes it, not with the end of its line. */
static void errors_do_not_wait(void **state)
{
    static const char *const wrong[] = { "F", "PX", "PUBx", "SUBS", "R", "+N", "PUB a 1\r\nxy" };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct fixture *f = *state;
        size_t last = strlen(wrong[i]) - 1;
        begin(f);
        feed(f, rb_slice_of(wrong[i], last));
        assert_false(f->failed);
        parse(f, wrong[i] + last);
        assert_true(f->failed);
        assert_int_equal(f->parser.fail, RB_FAIL_PROTOCOL);
        end(f);
    }
}

/* ---- limits --------------------------------------------------------------------------------- */

/* Builds "SUB <len bytes in all><tail>" and feeds it in pieces; the arguments are all letters. */
static void feed_sub(struct fixture *f, size_t len, const char *line_end, size_t piece)
{
    size_t tail = strlen(line_end);
    uint8_t *bytes = malloc(4 + len + tail);
    memcpy(bytes, "SUB ", 4);
    memset(bytes + 4, 'a', len);
    bytes[4 + len / 2] = ' ';
    memcpy(bytes + 4 + len, line_end, tail);
    for (size_t at = 0; at < 4 + len + tail; at += piece) {
        size_t left = 4 + len + tail - at;
        feed(f, rb_slice_of(bytes + at, left < piece ? left : piece));
    }
    free(bytes);
}

/* The limit counts the arguments: not the verb, not the CR before the LF. */
static void control_line_limit(void **state)
{
    static const size_t pieces[] = { SIZE_MAX / 2, 4096, 1000, 100, 1 };
    static const char *const ends[] = { "\r\n", "\n" };
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < 2; j++) {
            struct fixture *f = *state;
            begin(f);
            feed_sub(f, 4096, ends[j], pieces[i]);
            assert_false(f->failed);
            assert_int_equal(strncmp(f->text, "SUB ", 4), 0);
            end(f);
            begin(f);
            feed_sub(f, 4097, ends[j], pieces[i]);
            assert_string_equal(f->text, "fail line\n");
            end(f);
        }
    }
}

static void unterminated_line_has_the_same_limit(void **state)
{
    struct fixture *f = *state;
    feed_sub(f, 4096, "\r", 700);
    assert_false(f->failed);
    feed(f, RB_S("x"));
    assert_string_equal(f->text, "fail line\n");
    end(f);
    begin(f);
    feed_sub(f, 4097, "", 700);
    assert_string_equal(f->text, "fail line\n");
    end(f);
    begin(f);
    feed_sub(f, 4097, "", SIZE_MAX / 2);
    assert_string_equal(f->text, "fail line\n");
}

/* The same for PUB, whose complete lines take the short way. */
static void control_line_limit_of_pub(void **state)
{
    struct fixture *f = *state;
    f->parser.max_control_line = 8;
    parse(f, "PUB abcde 12\r\n012345678901\r\nPUB abcdef 12\r\n012345678901\r\n");
    assert_string_equal(f->text, "PUB subject=abcde 0/12 payload=012345678901\nfail line\n");
    end(f);
    begin(f);
    f->parser.max_control_line = 8;
    parse(f, "PUB      abcde 2\r\nhi\r\nPUB a 2      \r\nhi\r\n");
    assert_string_equal(f->text, "PUB subject=abcde 0/2 payload=hi\nfail line\n");
}

/* The text of an over-long CONNECT may hold a password and must not reach the log. */
static void long_connect_is_not_quoted(void **state)
{
    struct fixture *f = *state;
    f->parser.max_control_line = 20;
    parse(f, "CONNECT {\"pass\":\"secret-word\"}\r\n");
    assert_string_equal(f->text, "fail line\n");
    assert_null(strstr(f->parser.fail_text, "secret"));
    end(f);
    begin(f);
    f->parser.max_control_line = 20;
    parse(f, "SUB an.uncommonly.long.subject 1\r\n");
    assert_non_null(strstr(f->parser.fail_text, "an.uncommonly"));
}

/* Text after PING and blanks before arguments are without limit, and kept nowhere. */
static void endless_blanks_cost_nothing(void **state)
{
    struct fixture *f = *state;
    uint8_t blanks[1000];
    memset(blanks, ' ', sizeof(blanks));
    parse(f, "PING");
    for (int i = 0; i < 20; i++) {
        feed(f, rb_slice_of(blanks, sizeof(blanks)));
        assert_int_equal(f->pool.used_count, 0);
    }
    parse(f, "\r\nPUB ");
    for (int i = 0; i < 20; i++) {
        feed(f, rb_slice_of(blanks, sizeof(blanks)));
        assert_int_equal(f->pool.used_count, 0);
    }
    parse(f, "a 1\r\nx\r\n");
    assert_string_equal(f->text, "PING\nPUB subject=a 0/1 payload=x\n");
}

/* Known from the size: no byte of the body is needed, the limit itself is allowed. */
static void payload_limit(void **state)
{
    struct fixture *f = *state;
    f->parser.max_payload = 4;
    parse(f, "PUB a 4\r\nabcd\r\nPUB a 5\r\n");
    assert_string_equal(f->text, "PUB subject=a 0/4 payload=abcd\nfail payload\n");
    end(f);
    begin(f);
    f->parser.max_payload = 4;
    parse(f, "PUB a 5\r\nabcde\r\n");
    assert_string_equal(f->text, "fail payload\n");
}

/* ---- gates ---------------------------------------------------------------------------------- */

static void connect_must_come_first(void **state)
{
    static const char *const others[] = { "P",      "PUB a 1\r\nx\r\n", "FOO",   "+OK\r\n", "\r\n",
                                          "PING\n", "HPUB a 1 1\r\n",   "-ERR ", "\x03" };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        begin(f);
        f->parser.require_connect = true;
        parse(f, others[i]);
        assert_string_equal(f->text, "fail auth\n");
        end(f);
    }
    begin(f);
    f->parser.require_connect = true;
    parse(f, "c");
    parse(f, "onnect {}\r\n");
    f->parser.require_connect = false;
    parse(f, "PING\r\n");
    assert_string_equal(f->text, "CONNECT args={}\nPING\n");
    end(f);
    begin(f);
    f->parser.require_connect = true;
    parse(f, "CX");
    assert_string_equal(f->text, "fail protocol\n");
}

/* Headers are refused before anything else about the line, but not before its length. */
static void headers_must_be_negotiated(void **state)
{
    static const char *const lines[] = { "HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n", "HPUB a\r\n",
                                         "HPUB a 1 999999999\r\n" };
    struct fixture *f = *state;
    for (size_t i = 0; i < 3; i++) {
        begin(f);
        f->parser.headers = false;
        parse(f, lines[i]);
        assert_string_equal(f->text, "fail headers\n");
        end(f);
    }
    begin(f);
    f->parser.headers = false;
    f->parser.max_control_line = 10;
    parse(f, "HPUB aaaaaaaaaaaa 1 1\r\n");
    assert_string_equal(f->text, "fail line\n");
}

/* ---- memory --------------------------------------------------------------------------------- */

/* A whole operation is borrowed from the input, a finished one leaves nothing behind. */
static void whole_operations_are_borrowed(void **state)
{
    struct fixture *f = *state;
    struct rb_op op;
    struct rb_slice all = RB_S("PUB a 2\r\nhi\r\nSUB a 1\r\n");
    struct rb_slice input = all;
    assert_int_equal(rb_parse_next(&f->parser, &input, &op), RB_PARSE_OP);
    assert_null(op.buf);
    assert_ptr_equal(op.subject.ptr, all.ptr + 4);
    assert_ptr_equal(op.payload.ptr, all.ptr + 9);
    assert_int_equal(input.len, 9);
    assert_int_equal(rb_parse_next(&f->parser, &input, &op), RB_PARSE_OP);
    assert_ptr_equal(op.subject.ptr, all.ptr + 17);
    assert_int_equal(f->pool.used_count, 0);
}

static void held_payload_may_be_kept(void **state)
{
    struct fixture *f = *state;
    struct rb_op op;
    struct rb_slice input = RB_S("PUB a.b reply 5\r\nhe");
    assert_int_equal(rb_parse_next(&f->parser, &input, &op), RB_PARSE_MORE);
    assert_int_equal(f->pool.used_count, 1);
    input = RB_S("llo\r\nPING\r\n");
    assert_int_equal(rb_parse_next(&f->parser, &input, &op), RB_PARSE_OP);
    assert_non_null(op.buf);
    assert_true(rb_slice_equal(op.payload, RB_S("hello")));
    assert_true(rb_slice_equal(op.subject, RB_S("a.b")));
    assert_true(rb_slice_equal(op.reply, RB_S("reply")));
    struct rb_buf *kept = op.buf;
    struct rb_slice payload = op.payload;
    rb_buf_hold(kept);
    assert_int_equal(rb_parse_next(&f->parser, &input, &op), RB_PARSE_OP);
    assert_int_equal(op.kind, RB_OP_PING);
    assert_int_equal(kept->ref_count, 1);
    assert_true(rb_slice_equal(payload, RB_S("hello")));
    rb_buf_release(kept);
    assert_int_equal(f->pool.used_count, 0);
}

/* The line was cut, the payload was not: that is borrowed, the line stays valid in the block. */
static void cut_line_with_whole_payload(void **state)
{
    struct fixture *f = *state;
    struct rb_op op;
    struct rb_slice input = RB_S("PUB a.b 5");
    assert_int_equal(rb_parse_next(&f->parser, &input, &op), RB_PARSE_MORE);
    struct rb_slice second = RB_S("\r\nhello\r\n");
    input = second;
    assert_int_equal(rb_parse_next(&f->parser, &input, &op), RB_PARSE_OP);
    assert_null(op.buf);
    assert_ptr_equal(op.payload.ptr, second.ptr + 2);
    assert_true(rb_slice_equal(op.subject, RB_S("a.b")));
    assert_int_equal(rb_parse_next(&f->parser, &input, &op), RB_PARSE_MORE);
    assert_int_equal(f->pool.used_count, 0);
}

/* A million bytes announced and a few sent: what is held follows what came. */
static void announcing_costs_little(void **state)
{
    struct fixture *f = *state;
    const size_t size = 1000000;
    const char line[] = "PUB big.subject big.reply 1000000\r\n";
    uint8_t *bytes = malloc(size + 2);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 251);
    }
    memcpy(bytes + size, "\r\n", 2);
    parse(f, line);
    assert_true(f->pool.used_bytes <= 4096);
    for (size_t at = 0; at < size + 2; at += 1500) {
        size_t left = size + 2 - at;
        feed(f, rb_slice_of(bytes + at, left < 1500 ? left : 1500));
        assert_true(f->pool.used_bytes <= 32768 + 4 * (at + 1500 + sizeof(line)));
        assert_true(f->pool.used_count <= 1);
    }
    char wanted[128];
    snprintf(wanted, sizeof(wanted),
             "PUB subject=big.subject reply=big.reply 0/1000000 payload=#1000000:%" PRIx64 "\n",
             rb_slice_hash(rb_slice_of(bytes, size)));
    assert_string_equal(f->text, wanted);
    assert_int_equal(f->pool.used_count, 0);
    free(bytes);
}

static void spent_budget_ends_the_connection(void **state)
{
    static const char *const cut[] = { "SUB foo", "PUB foo 5\r\nab", "PUB foo 5\r\n" };
    struct fixture *f = *state;
    for (size_t i = 0; i < 3; i++) {
        begin(f);
        f->budget.limit_bytes = 100;
        parse(f, "PUB a 1\r\nx\r\n");
        parse(f, cut[i]);
        assert_string_equal(f->text, "PUB subject=a 0/1 payload=x\nfail memory\n");
        end(f);
    }
    begin(f);
    f->budget.limit_bytes = 20000; /* room to begin, not to go on */
    parse(f, "PUB foo 100000\r\n");
    uint8_t some[1000] = { 0 };
    for (int i = 0; i < 50 && !f->failed; i++) {
        feed(f, rb_slice_of(some, sizeof(some)));
    }
    assert_string_equal(f->text, "fail memory\n");
}

static void limits_may_change_between_calls(void **state)
{
    struct fixture *f = *state;
    f->parser.max_payload = 1;
    parse(f, "PUB a 1\r\nx\r\n");
    f->parser.max_payload = 3;
    parse(f, "PUB a 3\r\nxyz\r\n");
    f->parser.max_payload = 2;
    parse(f, "PUB a 3\r\nxyz\r\n");
    assert_string_equal(f->text, "PUB subject=a 0/1 payload=x\nPUB subject=a 0/3 payload=xyz\n"
                                 "fail payload\n");
}

/* What the log gets: the reason and at most 32 bytes, quoted. */
static void failures_are_explained(void **state)
{
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        { "FOO\r\n", "unknown operation: \"FOO\\r\\n\"" },
        { "PUT a\r\n", "unknown operation: \"PUT\"" },
        { "CONNEC {\"pass\":\"x\"}\r\n", "unknown operation: \"CONNEC\"" },
        { "\"pass\":\"x\"}\r\n", "unknown operation: \"\"" },
        { "PUB a 1\r\nxy\r\n", "payload is not followed by CRLF: \"y\\r\\n\"" },
        { "SUB a\r\n", "SUB: wrong number of arguments: \"a\"" },
        { "PUB a 1048577\r\n", "payload above 1048576 bytes: \"a 1048577\"" },
        { "\x01\xff_345678901234567890123456789012345678901234567890",
          "unknown operation: \"\\x01\\xff_34567890123456789012345678901\"" },
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin(f);
        parse(f, cases[i].bytes);
        assert_true(f->failed);
        assert_string_equal(f->parser.fail_text, cases[i].text);
        end(f);
    }
    begin(f);
    parse(f, "CONN");
    parse(f, "EXT\r\n");
    assert_string_equal(f->parser.fail_text, "unknown operation: \"CONNEXT\\r\\n\"");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(whole_scripts),
        CASE(cut_anywhere_twice),
        CASE(byte_at_a_time),
        CASE(errors_do_not_wait),
        CASE(control_line_limit),
        CASE(unterminated_line_has_the_same_limit),
        CASE(control_line_limit_of_pub),
        CASE(long_connect_is_not_quoted),
        CASE(endless_blanks_cost_nothing),
        CASE(payload_limit),
        CASE(connect_must_come_first),
        CASE(headers_must_be_negotiated),
        CASE(whole_operations_are_borrowed),
        CASE(held_payload_may_be_kept),
        CASE(cut_line_with_whole_payload),
        CASE(announcing_costs_little),
        CASE(spent_budget_ends_the_connection),
        CASE(limits_may_change_between_calls),
        CASE(failures_are_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
