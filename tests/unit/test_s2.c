/* S2 streams and the archives in them: a backup that nats-server made, one of our own, and damaged ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/crc32c.h"
#include "js/archive.h"
#include "proto/s2.h"

/* nats-server 2.15's backup of a stream with messages 1 and 2 ("m0" and "m1", 600 times each) and 3 removed. */
static const uint8_t backup[] = {
    0xff, 0x06, 0x00, 0x00, 0x53, 0x32, 0x73, 0x54, 0x77, 0x4f, 0x00, 0xe7, 0x00, 0x00, 0x28, 0xc2,
    0xa4, 0xb4, 0xe3, 0x14, 0xc4, 0x4e, 0x41, 0x54, 0x53, 0x41, 0x52, 0x43, 0x31, 0x0a, 0xa0, 0xce,
    0x9d, 0xd2, 0x97, 0xa1, 0x9c, 0xeb, 0x31, 0x00, 0x00, 0xc0, 0x01, 0x73, 0x74, 0x61, 0x74, 0x65,
    0x2e, 0x6a, 0x73, 0x6f, 0x6e, 0x7b, 0x22, 0x6d, 0x65, 0x73, 0x73, 0x61, 0x67, 0x65, 0x73, 0x22,
    0x3a, 0x32, 0x2c, 0x22, 0x62, 0x79, 0x74, 0x05, 0x0a, 0x40, 0x34, 0x36, 0x32, 0x2c, 0x22, 0x66,
    0x69, 0x72, 0x73, 0x74, 0x5f, 0x73, 0x65, 0x71, 0x22, 0x3a, 0x31, 0x11, 0x0e, 0x9c, 0x74, 0x73,
    0x22, 0x3a, 0x22, 0x32, 0x30, 0x32, 0x36, 0x2d, 0x31, 0x31, 0x2d, 0x32, 0x35, 0x54, 0x30, 0x37,
    0x3a, 0x31, 0x36, 0x3a, 0x35, 0x38, 0x2e, 0x37, 0x39, 0x34, 0x32, 0x35, 0x31, 0x33, 0x30, 0x32,
    0x5a, 0x22, 0x2c, 0x22, 0x6c, 0x61, 0x11, 0x39, 0x00, 0x33, 0x0d, 0x0d, 0x6e, 0x38, 0x00, 0x10,
    0x33, 0x35, 0x37, 0x35, 0x37, 0x01, 0x37, 0x24, 0x6e, 0x75, 0x6d, 0x5f, 0x73, 0x75, 0x62, 0x6a,
    0x65, 0x63, 0x01, 0x2f, 0x00, 0x31, 0x09, 0x11, 0x18, 0x64, 0x65, 0x6c, 0x65, 0x74, 0x65, 0x64,
    0x05, 0x10, 0x88, 0x63, 0x6f, 0x6e, 0x73, 0x75, 0x6d, 0x65, 0x72, 0x5f, 0x63, 0x6f, 0x75, 0x6e,
    0x74, 0x22, 0x3a, 0x30, 0x7d, 0x01, 0xcc, 0xd0, 0xe7, 0xd1, 0x94, 0xa1, 0x9c, 0xeb, 0x31, 0x01,
    0x00, 0xb0, 0x09, 0x53, 0x6d, 0x30, 0x11, 0x02, 0x19, 0x00, 0xa2, 0x03, 0x0c, 0x01, 0xb2, 0xf0,
    0xf3, 0x89, 0xbf, 0x00, 0x02, 0x05, 0x00, 0x00, 0x31, 0x11, 0x02, 0x19, 0x00, 0xa2, 0x03, 0x10,
    0x00, 0x00, 0x00, 0x00, 0x00,
};

struct fixture {
    struct rb_budget budget;
    struct rb_s2_reader s2;
    struct rb_archive_reader archive;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    rb_s2_reader_init(&f->s2, &f->budget);
    rb_archive_reader_init(&f->archive, &f->budget);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rb_s2_reader_deinit(&f->s2);
    rb_archive_reader_deinit(&f->archive);
    assert_int_equal(f->budget.used_bytes, 0);
    free(f);
    return 0;
}

static void crc_is_castagnolis(void **state)
{
    (void)state;
    assert_int_equal(rb_crc32c(0, RB_S("123456789")), 0xe3069283);
    assert_int_equal(rb_crc32c(rb_crc32c(0, RB_S("1234")), RB_S("56789")), 0xe3069283);
    assert_int_equal(rb_crc32c(0, RB_S("")), 0);
}

static void decode(const char *block, size_t len, const char *expected)
{
    uint8_t out[256];
    size_t out_len;
    assert_int_equal(rb_s2_decode(rb_slice_of(block, len), out, sizeof(out), &out_len), RB_OK);
    assert_int_equal(out_len, strlen(expected));
    assert_memory_equal(out, expected, out_len);
}

static void refuse(const char *block, size_t len)
{
    uint8_t out[256];
    size_t out_len;
    assert_int_not_equal(rb_s2_decode(rb_slice_of(block, len), out, sizeof(out), &out_len), RB_OK);
}
#define DECODE(block, expected) decode(block, sizeof(block) - 1, expected)
#define REFUSE(block) refuse(block, sizeof(block) - 1)

static void blocks_are_decoded(void **state)
{
    (void)state;
    DECODE("\x00", "");
    DECODE("\x03\x08"
           "abc",
           "abc");
    DECODE("\x03\xf0\x02"
           "abc",
           "abc"); /* a literal with its length in a byte of its own */
    DECODE("\x07\x04"
           "ab\x05\x02",
           "abababa"); /* five bytes from two back */
    DECODE("\x05\x04"
           "ab\x0a\x02\x00",
           "ababa"); /* an offset of 16 bits */
    DECODE("\x05\x04"
           "ab\x0b\x02\x00\x00\x00",
           "ababa"); /* of 32 */
    DECODE("\x0b\x04"
           "ab\x05\x02\x01\x00",
           "abababababa"); /* S2: repeats the offset, four bytes */
    DECODE("\x10\x04"
           "ab\x05\x02\x15\x00\x01",
           "abababababababab"); /* and with its length behind it: 8 and 1 */
}

static void damaged_blocks_are_refused(void **state)
{
    (void)state;
    REFUSE("");
    REFUSE("\x80\x80\x80\x80\x80\x01"); /* no length */
    REFUSE("\x03\x08"
           "ab"); /* a literal that is cut */
    REFUSE("\x02\x08"
           "abc"); /* more than it said */
    REFUSE("\x04\x08"
           "abc"); /* less */
    REFUSE("\x07\x04"
           "ab\x05\x03"); /* from before the beginning */
    REFUSE("\x06\x04"
           "ab\x01\x00"); /* a repeat of nothing */
    REFUSE("\x06\x04"
           "ab\x0a\x02"); /* an offset that is cut */
    REFUSE("\xff\xff\xff\x0f\x00"
           "a"); /* longer than there is room */
}

/* Feeds `stream` in pieces and gives what it decodes to; NULL: it is bad. */
static uint8_t *read_all(struct fixture *f, struct rb_slice stream, size_t piece, size_t *ret_len)
{
    uint8_t *out = NULL;
    size_t len = 0;
    *ret_len = 0;
    for (size_t at = 0; at < stream.len;) {
        size_t take = stream.len - at < piece ? stream.len - at : piece;
        assert_int_equal(rb_s2_feed(&f->s2, rb_slice_of(stream.ptr + at, take)), RB_OK);
        at += take;
        struct rb_slice block;
        enum rb_s2_next next;
        while ((next = rb_s2_read(&f->s2, &block)) == RB_S2_BLOCK) {
            out = realloc(out, len + block.len);
            assert_non_null(out);
            memcpy(out + len, block.ptr, block.len);
            len += block.len;
        }
        if (next == RB_S2_BAD) {
            free(out);
            return NULL;
        }
    }
    *ret_len = len;
    return out;
}

static void check_backup(struct rb_archive_reader *archive)
{
    struct rb_archive_entry entry;
    assert_int_equal(rb_archive_read(archive, &entry), RB_ARCHIVE_ENTRY);
    assert_true(rb_slice_equal(entry.name, RB_S("state.json")));
    assert_true(rb_slice_starts(entry.payload, RB_S("{\"messages\":2,\"bytes\":2462,")));
    assert_int_equal(entry.seq, 0);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        assert_int_equal(rb_archive_read(archive, &entry), RB_ARCHIVE_ENTRY);
        assert_true(rb_slice_equal(entry.name, RB_S("S")));
        assert_int_equal(entry.seq, seq);
        assert_int_equal(entry.header.len, 0);
        assert_int_equal(entry.payload.len, 1200);
        assert_int_equal(entry.payload.ptr[1199], seq == 1 ? '0' : '1');
        assert_true(entry.time_ns > 1790000000000000000);
    }
    assert_int_equal(rb_archive_read(archive, &entry), RB_ARCHIVE_END);
    assert_int_equal(rb_archive_read(archive, &entry), RB_ARCHIVE_END);
}

static void a_backup_of_nats_server_is_read(void **state)
{
    struct fixture *f = *state;
    for (size_t piece = 1; piece <= sizeof(backup); piece += 61) {
        size_t len;
        struct rb_archive_reader archive;
        rb_archive_reader_init(&archive, &f->budget);
        rb_s2_reader_deinit(&f->s2);
        uint8_t *bytes = read_all(f, rb_slice_of(backup, sizeof(backup)), piece, &len);
        assert_non_null(bytes);
        assert_true(rb_s2_at_boundary(&f->s2));
        assert_true(rb_archive_feed(&archive, rb_slice_of(bytes, len)));
        check_backup(&archive);
        rb_archive_reader_deinit(&archive);
        free(bytes);
    }
}

/* Any flipped bit of the stream's data is found by its checksum, or by the frame. */
static void damage_is_found(void **state)
{
    struct fixture *f = *state;
    for (size_t at = 4; at < sizeof(backup); at++) {
        uint8_t copy[sizeof(backup)];
        size_t len;
        memcpy(copy, backup, sizeof(backup));
        copy[at] ^= 0x10;
        rb_s2_reader_deinit(&f->s2);
        uint8_t *bytes = read_all(f, rb_slice_of(copy, sizeof(copy)), sizeof(copy), &len);
        bool whole = bytes != NULL && len > 0 && rb_s2_at_boundary(&f->s2);
        free(bytes);
        assert_false(whole);
    }
}

static void streams_of_ours_are_read(void **state)
{
    struct fixture *f = *state;
    static uint8_t data[RB_S2_WRITE_MAX], out[RB_S2_WRITE_MAX + 64];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * i >> 3);
    }
    struct rb_writer writer = rb_writer_over(out, sizeof(out));
    rb_s2_write_head(&writer);
    rb_s2_write_block(&writer, rb_slice_of(data, 1));
    rb_s2_write_block(&writer, rb_slice_of(data + 1, sizeof(data) - 1));
    assert_true(writer.ok);
    assert_int_equal(rb_writer_len(&writer),
                     RB_S2_HEAD_BYTES + 2 * RB_S2_WRITE_EXTRA + sizeof(data));
    size_t len;
    uint8_t *bytes = read_all(f, rb_slice_of(out, rb_writer_len(&writer)), 1000, &len);
    assert_non_null(bytes);
    assert_int_equal(len, sizeof(data));
    assert_memory_equal(bytes, data, len);
    free(bytes);
}

static void other_chunks_are_known(void **state)
{
    struct fixture *f = *state;
    struct rb_slice block;
    assert_int_equal(rb_s2_feed(&f->s2, RB_S("\xff\x06\x00\x00sNaPpY\xfe\x02\x00\x00pp\x99\x01"
                                             "\x00\x00i")),
                     RB_OK);
    assert_int_equal(rb_s2_read(&f->s2, &block), RB_S2_MORE); /* padding and an index */
    assert_int_equal(rb_s2_feed(&f->s2, RB_S("\x02\x01\x00\x00x")), RB_OK);
    assert_int_equal(rb_s2_read(&f->s2, &block), RB_S2_BAD);
    assert_string_equal(f->s2.why, "chunk of an unknown kind");
    rb_s2_reader_deinit(&f->s2);
    assert_int_equal(rb_s2_feed(&f->s2, RB_S("\x01\x05\x00\x00xxxxx")), RB_OK);
    assert_int_equal(rb_s2_read(&f->s2, &block), RB_S2_BAD);
    assert_string_equal(f->s2.why, "not an S2 stream");
}

static void archives_are_written_and_read(void **state)
{
    struct fixture *f = *state;
    struct rb_out out;
    rb_out_init(&out, &f->budget);
    const struct rb_archive_entry entries[] = {
        { .name = RB_S("state.json"), .payload = RB_S("{}"), .time_ns = -5 },
        { .name = RB_S("a.b"), .header = RB_S("NATS/1.0\r\n\r\n"), .time_ns = 1, .seq = 300 },
        { .name = RB_S("c"), .payload = RB_S("x"), .time_ns = INT64_MAX, .seq = UINT64_MAX },
    };
    rb_archive_begin(&out);
    for (int i = 0; i < 3; i++) {
        rb_archive_put(&out, &entries[i]);
    }
    rb_archive_end(&out);
    int seen = 0;
    for (size_t at = 0; at < out.len; at++) { /* a byte at a time */
        struct rb_archive_entry entry;
        assert_true(rb_archive_feed(&f->archive, rb_slice_of(out.bytes + at, 1)));
        enum rb_archive_next next = rb_archive_read(&f->archive, &entry);
        if (next == RB_ARCHIVE_ENTRY) {
            assert_true(rb_slice_equal(entry.name, entries[seen].name));
            assert_true(rb_slice_equal(entry.header, entries[seen].header));
            assert_true(rb_slice_equal(entry.payload, entries[seen].payload));
            assert_true(entry.time_ns == entries[seen].time_ns && entry.seq == entries[seen].seq);
            seen++;
        } else {
            assert_int_equal(next, at + 1 == out.len ? RB_ARCHIVE_END : RB_ARCHIVE_MORE);
        }
    }
    assert_int_equal(seen, 3);
    rb_out_deinit(&out);
}

static void refuse_archive(struct fixture *f, struct rb_slice text, const char *why)
{
    struct rb_archive_entry entry;
    rb_archive_reader_deinit(&f->archive);
    rb_archive_reader_init(&f->archive, &f->budget);
    assert_true(rb_archive_feed(&f->archive, text));
    assert_int_equal(rb_archive_read(&f->archive, &entry), RB_ARCHIVE_BAD);
    assert_non_null(strstr(f->archive.why, why));
}

static void other_archives_are_refused(void **state)
{
    struct fixture *f = *state;
    refuse_archive(f, RB_S("meta.inf"), "before 2.15 can not be restored");
    refuse_archive(f, RB_S("NATSARC1\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), "number too long");
    refuse_archive(f, RB_S("NATSARC1\x01\0\0\0\xff\xff\xff\xff\x0f"), "entry too long");
    refuse_archive(f, RB_S("NATSARC1\0\x02\0\0\0"), "without a name");
    refuse_archive(f, RB_S("NATSARC1\0\0\0\0\0x"), "behind the end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_is_castagnolis),
        cmocka_unit_test(blocks_are_decoded),
        cmocka_unit_test(damaged_blocks_are_refused),
        cmocka_unit_test_setup_teardown(a_backup_of_nats_server_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(streams_of_ours_are_read, setup, teardown),
        cmocka_unit_test_setup_teardown(other_chunks_are_known, setup, teardown),
        cmocka_unit_test_setup_teardown(archives_are_written_and_read, setup, teardown),
        cmocka_unit_test_setup_teardown(other_archives_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
