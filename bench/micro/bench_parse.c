/* bench_parse.c - nanoseconds per operation of the parser and of the MSG line encoder.
 *
 * The input is a 32 KiB block of equal operations, as a receive buffer would hold; best of 7 runs.
 */
#include <stdio.h>
#include <time.h>

#include "ringbus/buf.h"
#include "proto/encode.h"
#include "proto/parse.h"

#define BLOCK_BYTES 32768
#define ROUNDS 200
#define RUNS 7

static uint8_t block[BLOCK_BYTES];
static volatile uint64_t sink;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Parses the block in pieces of `piece` bytes; returns the number of operations. */
static uint64_t parse_block(struct rb_parser *parser, size_t len, size_t piece)
{
    uint64_t ops = 0;
    uint64_t sum = 0;
    struct rb_op op;
    for (size_t at = 0; at < len; at += piece) {
        struct rb_slice input = rb_slice_of(block + at, len - at < piece ? len - at : piece);
        while (rb_parse_next(parser, &input, &op) == RB_PARSE_OP) {
            sum += op.subject.len + op.payload.len;
            ops++;
        }
    }
    sink = sink + sum;
    return ops;
}

static void bench_parse(const char *name, struct rb_slice text, size_t piece)
{
    struct rb_budget budget = { 0 };
    struct rb_bufpool pool;
    struct rb_parser parser;
    size_t len = 0;
    double best = 1e18;
    rb_bufpool_init(&pool, &budget);
    rb_parser_init(&parser, &pool);
    parser.headers = true;
    while (len + text.len <= sizeof(block)) {
        memcpy(block + len, text.ptr, text.len);
        len += text.len;
    }
    for (int run = 0; run < RUNS; run++) {
        uint64_t ops = 0;
        double begin = now_ns();
        for (int round = 0; round < ROUNDS; round++) {
            ops += parse_block(&parser, len, piece);
        }
        double each = (now_ns() - begin) / (double)ops;
        best = each < best ? each : best;
    }
    printf("parse  %-28s %7.1f ns/op\n", name, best);
    rb_parser_deinit(&parser);
    rb_bufpool_deinit(&pool);
}

static void bench_encode(const char *name, struct rb_slice reply, uint32_t header_len,
                         uint32_t total_len)
{
    const struct rb_slice subjects[] = { RB_S("orders.eu.created"), RB_S("foo"), RB_S("a.b.c.d") };
    const int count = 1000000;
    double best = 1e18;
    for (int run = 0; run < RUNS; run++) {
        uint64_t sum = 0;
        double begin = now_ns();
        for (int i = 0; i < count; i++) {
            sum += rb_encode_msg(block, subjects[i % 3], RB_S("17"), reply, header_len, total_len);
        }
        double each = (now_ns() - begin) / count;
        best = each < best ? each : best;
        sink = sink + sum;
    }
    printf("encode %-28s %7.1f ns/op\n", name, best);
}

int main(void)
{
    const struct rb_slice pub = RB_S("PUB orders.eu.created 16\r\n0123456789abcdef\r\n");
    const struct rb_slice reply = RB_S("PUB orders.eu.created _INBOX.Zc8fKq2vWmYtR1.7 16\r\n"
                                       "0123456789abcdef\r\n");
    const struct rb_slice header = RB_S("HPUB orders.eu.created 18 34\r\nNATS/1.0\r\nA: b\r\n\r\n"
                                        "0123456789abcdef\r\n");
    bench_parse("PUB 16 B", pub, sizeof(block));
    bench_parse("PUB 16 B, short subject", RB_S("PUB foo 16\r\n0123456789abcdef\r\n"),
                sizeof(block));
    bench_parse("PUB 16 B with reply", reply, sizeof(block));
    bench_parse("HPUB 34 B", header, sizeof(block));
    bench_parse("PUB 16 B in pieces of 1000", pub, 1000);
    bench_parse("PUB 16 B in pieces of 7", pub, 7);
    bench_parse("SUB", RB_S("SUB orders.*.created 17\r\n"), sizeof(block));
    bench_parse("PING", RB_S("PING\r\n"), sizeof(block));
    bench_encode("MSG", (struct rb_slice){ NULL, 0 }, 0, 16);
    bench_encode("MSG with reply", RB_S("_INBOX.Zc8fKq2vWmYtR1.7"), 0, 128);
    bench_encode("HMSG", (struct rb_slice){ NULL, 0 }, 18, 1234);
    return 0;
}
