/* fuzz_parse.c - any stream of bytes, cut anywhere, gives the same operations as the whole.
 *
 * The first byte of the input sets the switches, the second seeds the cuts; the rest is the stream.
 */
#include <stdlib.h>

#include "ringbus/buf.h"
#include "ringbus/check.h"
#include "ringbus/mem.h"
#include "proto/parse.h"

#define CONTROL_LINE_MAX 64
#define PAYLOAD_MAX 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What one run saw. */
struct seen {
    uint64_t ops, hash;
    enum rb_parse_fail fail;
};

static void mix(struct seen *seen, uint64_t value)
{
    seen->hash = (seen->hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    seen->hash ^= seen->hash >> 29;
}

static void see_op(struct seen *seen, const struct rb_op *op)
{
    const struct rb_slice slices[] = { op->args,  op->subject, op->reply,
                                       op->queue, op->sid,     op->payload };
    seen->ops++;
    mix(seen, op->kind);
    mix(seen, (uint64_t)op->max);
    mix(seen, op->has_header);
    mix(seen, (uint64_t)op->header_len << 32 | op->total_len);
    for (size_t i = 0; i < sizeof(slices) / sizeof(slices[0]); i++) {
        mix(seen, slices[i].len);
        mix(seen, rb_slice_hash(slices[i]));
    }
    rb_assert(op->payload.len == op->total_len);
    rb_assert(op->header_len <= op->total_len);
    rb_assert(op->kind != RB_OP_PUB || op->subject.len > 0);
}

/* One receive: a block of its own size, so that a read beyond it is found. False after a failure. */
static bool feed(struct rb_parser *parser, struct seen *seen, const uint8_t *data, size_t size)
{
    struct rb_op op;
    uint8_t *copy = malloc(size);
    rb_assert(copy != NULL);
    memcpy(copy, data, size);
    struct rb_slice input = rb_slice_of(copy, size);
    enum rb_parse_result result;
    while ((result = rb_parse_next(parser, &input, &op)) == RB_PARSE_OP) {
        rb_assert(input.ptr + input.len == copy + size);
        see_op(seen, &op);
    }
    rb_assert(result == RB_PARSE_FAIL || input.len == 0);
    free(copy);
    return result == RB_PARSE_MORE;
}

static struct seen run(const uint8_t *data, size_t size, uint8_t switches, uint32_t cuts)
{
    struct rb_budget budget = { 0 };
    struct rb_bufpool pool;
    struct rb_parser parser;
    struct seen seen = { 0 };
    rb_bufpool_init(&pool, &budget);
    rb_parser_init(&parser, &pool);
    parser.max_control_line = CONTROL_LINE_MAX;
    parser.max_payload = PAYLOAD_MAX;
    parser.headers = (switches & 1) != 0;
    parser.require_connect = (switches & 2) != 0;
    bool more = true;
    for (size_t at = 0; more && at < size;) {
        size_t piece = size - at;
        if (cuts != 0) {
            cuts = cuts * 1664525 + 1013904223;
            size_t wanted = 1 + (cuts >> 24) % 24;
            piece = wanted < piece ? wanted : piece;
        }
        more = feed(&parser, &seen, data + at, piece);
        at += piece;
        rb_assert(pool.used_count <= 1);
        rb_assert(pool.used_bytes <= 32768 + 4 * at); /* never far ahead of what came */
    }
    seen.fail = parser.fail;
    rb_assert(more == (parser.fail == RB_FAIL_NONE));
    rb_assert(more || parser.fail_text[0] != 0);
    rb_parser_deinit(&parser);
    rb_assert(pool.used_count == 0);
    rb_bufpool_deinit(&pool);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) {
        return 0;
    }
    struct seen whole = run(data + 2, size - 2, data[0], 0);
    struct seen cut = run(data + 2, size - 2, data[0], 1 + (uint32_t)data[1] * 2654435761u);
    rb_assert(whole.ops == cut.ops && whole.hash == cut.hash && whole.fail == cut.fail);
    return 0;
}
