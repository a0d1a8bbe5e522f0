/* fuzz_archive.c - archives in pieces: the pieces must not matter, and what was read is written the same. */
#include "js/archive.h"
#include "ringbus/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum rb_archive_next read_archive(struct rb_slice text, size_t piece, struct rb_out *again)
{
    struct rb_archive_reader reader;
    enum rb_archive_next next = RB_ARCHIVE_MORE;
    rb_archive_reader_init(&reader, NULL);
    again->len = 0;
    rb_archive_begin(again);
    for (size_t at = 0; at < text.len && next != RB_ARCHIVE_BAD;) {
        size_t take = text.len - at < piece ? text.len - at : piece;
        rb_assert(rb_archive_feed(&reader, rb_slice_of(text.ptr + at, take)));
        at += take;
        struct rb_archive_entry entry;
        while ((next = rb_archive_read(&reader, &entry)) == RB_ARCHIVE_ENTRY) {
            rb_archive_put(again, &entry);
        }
        rb_assert(next != RB_ARCHIVE_BAD || reader.why != NULL);
    }
    rb_archive_reader_deinit(&reader);
    return next;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rb_slice text = rb_slice_of(data, size);
    struct rb_out whole, pieces, again;
    rb_out_init(&whole, NULL);
    rb_out_init(&pieces, NULL);
    rb_out_init(&again, NULL);
    enum rb_archive_next next = read_archive(text, size + 1, &whole);
    rb_assert(read_archive(text, 3, &pieces) == next);
    rb_assert(rb_slice_equal(rb_out_slice(&whole), rb_out_slice(&pieces)));
    if (next == RB_ARCHIVE_END) {
        rb_archive_end(&whole);
        rb_assert(read_archive(rb_out_slice(&whole), 5, &again) == RB_ARCHIVE_END);
        rb_archive_end(&again);
        rb_assert(rb_slice_equal(rb_out_slice(&whole), rb_out_slice(&again)));
    }
    rb_out_deinit(&whole);
    rb_out_deinit(&pieces);
    rb_out_deinit(&again);
    return 0;
}
