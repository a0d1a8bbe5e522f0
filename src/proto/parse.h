/* parse.h - resumable zero-copy parser of the client protocol (docs/protocol.md). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/buf.h"
#include "ringbus/slice.h"

enum rb_op_kind {
    RB_OP_CONNECT, /* args: the JSON */
    RB_OP_PUB,     /* PUB and HPUB: subject, reply, payload, header_len (0 for PUB), total_len */
    RB_OP_SUB,     /* subject, queue, sid */
    RB_OP_UNSUB,   /* sid, max (0: now) */
    RB_OP_PING,
    RB_OP_PONG,
    RB_OP_OK,   /* +OK */
    RB_OP_ERR,  /* -ERR; args: the text */
    RB_OP_INFO, /* args: the JSON */
};

struct rb_op {
    enum rb_op_kind kind;
    bool has_header; /* came as HPUB with a header size above 0 */
    struct rb_slice args, subject, reply, queue, sid;
    struct rb_slice payload; /* headers and body, without the final CRLF; total_len bytes */
    uint32_t header_len, total_len;
    int64_t max;
    struct rb_buf *buf; /* when set, `payload` lies in it (hold it to keep the bytes) */
};

enum rb_parse_result {
    RB_PARSE_OP, /* *op is filled; its slices are borrowed until the next call or the input's end */
    RB_PARSE_MORE, /* all input was taken; come back with more */
    RB_PARSE_FAIL, /* see parser->fail; the connection must end */
};

enum rb_parse_fail {
    RB_FAIL_NONE,
    RB_FAIL_PROTOCOL,     /* -ERR 'Unknown Protocol Operation' */
    RB_FAIL_CONTROL_LINE, /* -ERR 'maximum control line exceeded' */
    RB_FAIL_PAYLOAD, /* -ERR 'Maximum Payload Violation' (known from the size, before the body) */
    RB_FAIL_AUTH,    /* -ERR 'Authorization Violation': first verb is not CONNECT */
    RB_FAIL_ARGS,    /* close without a word: argument count, bad size */
    RB_FAIL_HEADERS, /* close without a word: HPUB without negotiated headers */
    RB_FAIL_MEMORY,  /* close without a word: the budget is spent */
};

/** The limits, `headers` and `require_connect` may be changed by the owner between calls. */
struct rb_parser {
    struct rb_bufpool *pool;
    uint32_t max_control_line, max_payload;
    bool headers;           /* HPUB allowed */
    bool require_connect;   /* only CONNECT may come */
    uint8_t state;          /* private: which part of an operation comes next */
    uint8_t verb, verb_len; /* private: the verb in hand, and how many of its letters came */
    enum rb_parse_fail fail;
    char fail_text[96];     /* for the log: what was wrong and the first bytes of it */
    struct rb_buf *hold;    /* private: partial arguments, or arguments and partial payload */
    uint32_t hold_line_len; /* private: bytes of arguments before the payload in `hold` */
    /* private: the PUB whose payload is coming; slices lie in `hold`. After RB_FAIL_PAYLOAD the one that is too big, for its
     * owner: what came of its payload is left in *input, with which the slices end. */
    struct rb_op pending;
};

/** Default limits, headers and require_connect off. `pool` gives blocks when bytes must be kept. */
void rb_parser_init(struct rb_parser *parser, struct rb_bufpool *pool);
/** Gives back what is held. */
void rb_parser_deinit(struct rb_parser *parser);

/**
 * Takes bytes off the front of *input up to and including one operation.
 * Zero-copy when the operation lies whole in *input; otherwise what is there is kept in `hold`
 * (never more than the control line limit plus the announced payload).
 * After an op that was assembled in `hold`, its bytes stay valid until the next call;
 * a call that finds nothing more (RB_PARSE_MORE) gives the block back.
 * After RB_PARSE_FAIL every further call fails the same way.
 */
enum rb_parse_result rb_parse_next(struct rb_parser *parser, struct rb_slice *input,
                                   struct rb_op *op);
