/* fuzz_s2.c - S2 streams in pieces: the pieces must not matter, and what is written is read again. */
#include <stdint.h>
#include <stdlib.h>

#include "ringbus/check.h"
#include "proto/s2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes decoded before the end or the damage, as a hash. */
static uint64_t read_stream(struct rb_slice stream, size_t piece, bool *ret_bad, uint64_t *ret_len)
{
    struct rb_budget budget = { .limit_bytes = 64u << 20 };
    struct rb_s2_reader reader;
    uint64_t hash = 14695981039346656037u;
    *ret_bad = false;
    *ret_len = 0;
    rb_s2_reader_init(&reader, &budget);
    for (size_t at = 0; at < stream.len && !*ret_bad;) {
        size_t take = stream.len - at < piece ? stream.len - at : piece;
        rb_assert(rb_s2_feed(&reader, rb_slice_of(stream.ptr + at, take)) == RB_OK);
        at += take;
        struct rb_slice block;
        enum rb_s2_next next;
        while ((next = rb_s2_read(&reader, &block)) == RB_S2_BLOCK) {
            rb_assert(block.len > 0 && block.len <= RB_S2_BLOCK_MAX);
            *ret_len += block.len;
            for (size_t i = 0; i < block.len; i += block.len / 64 + 1) {
                hash = (hash ^ block.ptr[i]) * 1099511628211u;
            }
        }
        *ret_bad = next == RB_S2_BAD;
        rb_assert(!*ret_bad || reader.why != NULL);
    }
    rb_s2_reader_deinit(&reader);
    rb_assert(budget.used_bytes == 0);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool bad[2];
    uint64_t len[2];
    uint64_t whole = read_stream(rb_slice_of(data, size), size + 1, &bad[0], &len[0]);
    uint64_t pieces = read_stream(rb_slice_of(data, size), 7, &bad[1], &len[1]);
    rb_assert(whole == pieces && bad[0] == bad[1] && len[0] == len[1]);
    uint8_t out[4096];
    size_t out_len;
    if (rb_s2_decode(rb_slice_of(data, size), out, sizeof(out), &out_len) == RB_OK) {
        rb_assert(out_len <= sizeof(out));
    }
    if (size > 0 && size <= RB_S2_WRITE_MAX) {
        size_t cap = size + RB_S2_HEAD_BYTES + RB_S2_WRITE_EXTRA;
        uint8_t *stream = malloc(cap);
        rb_assert(stream != NULL);
        struct rb_writer writer = rb_writer_over(stream, cap);
        rb_s2_write_head(&writer);
        rb_s2_write_block(&writer, rb_slice_of(data, size));
        (void)read_stream(rb_slice_of(stream, rb_writer_len(&writer)), cap, &bad[0], &len[0]);
        rb_assert(!bad[0] && len[0] == size);
        free(stream);
    }
    return 0;
}
