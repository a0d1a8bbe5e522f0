/* checkpoint.c - encodes and decodes checkpoints. What a reader gives out has been checked: counts, lengths, order. */
#include "storage/checkpoint.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "storage/index.h"

#define HEADER_KEY UINT64_C(0x5242434B736D6831)
#define CHECKSUM_AT (CHECKPOINT_HEADER_BYTES - 8)

static uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ value >> 27) * UINT64_C(0x94D049BB133111EB);
    return value ^ value >> 31;
}

void rb_checkpoint_encode(uint8_t *out, const struct checkpoint_header *header)
{
    struct rb_writer writer = rb_writer_over(out, CHECKPOINT_HEADER_BYTES);
    memset(out, 0, CHECKPOINT_HEADER_BYTES);
    rb_write_u32(&writer, CHECKPOINT_MAGIC);
    rb_write_u16(&writer, CHECKPOINT_VERSION);
    rb_write_u16(&writer, CHECKPOINT_HEADER_BYTES);
    rb_write_u64(&writer, header->seed);
    rb_write_u64(&writer, header->generation);
    rb_write_u64(&writer, header->index);
    rb_write_u64(&writer, header->before_index);
    rb_write_u64(&writer, header->next_serial);
    rb_write_u64(&writer, header->first_seq);
    rb_write_u64(&writer, header->last_seq);
    rb_write_u64(&writer, header->table_offset);
    rb_write_u64(&writer, header->table_bytes);
    rb_write_u64(&writer, header->table_checksum);
    rb_write_u32(&writer, header->page_count);
    rb_write_u32(&writer, header->segment_count);
    rb_write_u32(&writer, header->blob_bytes);
    writer = rb_writer_over(out + CHECKSUM_AT, 8);
    rb_write_u64(&writer, XXH3_64bits(out, CHECKSUM_AT) ^ HEADER_KEY);
}

static bool header_sound(const struct checkpoint_header *h)
{
    uint64_t least = (uint64_t)h->page_count * CHECKPOINT_PAGE_ENTRY_BYTES +
                     (uint64_t)h->segment_count * CHECKPOINT_SEGMENT_BYTES + h->blob_bytes;
    uint64_t most = least + (uint64_t)h->segment_count * CHECKPOINT_BLOCKS_MAX * sizeof(uint16_t);
    uint64_t pages_end = CHECKPOINT_PAGES_AT + (uint64_t)h->page_count * RB_PAGE_BYTES;
    return h->generation > 0 && h->before_index <= h->index && h->next_serial > 0 &&
           h->first_seq > 0 && h->first_seq <= h->last_seq + 1 &&
           h->page_count <= CHECKPOINT_PAGES_MAX && h->segment_count <= CHECKPOINT_SEGMENTS_MAX &&
           h->blob_bytes <= CHECKPOINT_BLOB_MAX && h->table_bytes >= least &&
           h->table_bytes <= most && h->table_bytes < UINT64_C(1) << 40 &&
           h->table_offset % RB_DISK_ALIGN == 0 && h->table_offset >= CHECKPOINT_PAGES_AT &&
           h->table_offset <= pages_end && h->table_offset + RB_PAGE_BYTES >= pages_end;
}

enum rb_err rb_checkpoint_decode(struct rb_slice bytes, struct checkpoint_header *ret_header)
{
    struct checkpoint_header header;
    if (bytes.len < CHECKPOINT_HEADER_BYTES) {
        return RB_ERR_CORRUPT;
    }
    struct rb_reader reader = rb_reader_over(bytes);
    struct rb_reader tail = rb_reader_over(rb_slice_of(bytes.ptr + CHECKSUM_AT, 8));
    if (rb_read_u32(&reader) != CHECKPOINT_MAGIC ||
        rb_read_u64(&tail) != (XXH3_64bits(bytes.ptr, CHECKSUM_AT) ^ HEADER_KEY)) {
        return RB_ERR_CORRUPT;
    }
    if (rb_read_u16(&reader) != CHECKPOINT_VERSION ||
        rb_read_u16(&reader) != CHECKPOINT_HEADER_BYTES) {
        return RB_ERR_UNSUPPORTED;
    }
    header.seed = rb_read_u64(&reader);
    header.generation = rb_read_u64(&reader);
    header.index = rb_read_u64(&reader);
    header.before_index = rb_read_u64(&reader);
    header.next_serial = rb_read_u64(&reader);
    header.first_seq = rb_read_u64(&reader);
    header.last_seq = rb_read_u64(&reader);
    header.table_offset = rb_read_u64(&reader);
    header.table_bytes = rb_read_u64(&reader);
    header.table_checksum = rb_read_u64(&reader);
    header.page_count = rb_read_u32(&reader);
    header.segment_count = rb_read_u32(&reader);
    header.blob_bytes = rb_read_u32(&reader);
    if (!header_sound(&header)) {
        return RB_ERR_CORRUPT;
    }
    *ret_header = header;
    return RB_OK;
}

uint64_t rb_checkpoint_table_checksum(const struct checkpoint_header *header, struct rb_slice table)
{
    return XXH3_64bits(table.ptr, table.len) ^ mix(header->seed + header->generation);
}

uint32_t rb_checkpoint_page_len(const uint8_t *page)
{
    static const uint8_t zeroes[4096];
    uint32_t len = RB_PAGE_BYTES;
    while (len > 0 && memcmp(page + len - sizeof(zeroes), zeroes, sizeof(zeroes)) == 0) {
        len -= (uint32_t)sizeof(zeroes);
    }
    while (len > 0 && memcmp(page + len - 8, zeroes, 8) == 0) {
        len -= 8;
    }
    return len;
}

uint64_t rb_checkpoint_page_checksum(uint64_t seed, uint32_t number, struct rb_slice page)
{
    return XXH3_64bits(page.ptr, page.len) ^
           mix(seed ^ (number + UINT64_C(1)) * UINT64_C(0x9E3779B97F4A7C15));
}

void rb_checkpoint_write_page(struct rb_writer *writer, const struct checkpoint_page *page)
{
    rb_write_u32(writer, page->len);
    rb_write_u32(writer, 0);
    rb_write_u64(writer, page->checksum);
}

void rb_checkpoint_write_segment(struct rb_writer *writer, const struct checkpoint_segment *segment)
{
    rb_write_u64(writer, segment->serial);
    rb_write_u64(writer, segment->first_seq);
    rb_write_u32(writer, segment->bytes);
    rb_write_u32(writer, segment->live_bytes);
    rb_write_u32(writer, segment->live_count);
    rb_write_u32(writer, segment->block_count);
    rb_write_u64(writer, 0);
    rb_write_slice(writer, segment->blocks);
}

enum rb_err rb_checkpoint_read_page(struct rb_reader *reader, struct checkpoint_page *ret_page)
{
    ret_page->len = rb_read_u32(reader);
    (void)rb_read_u32(reader);
    ret_page->checksum = rb_read_u64(reader);
    return rb_reader_ok(reader) && ret_page->len <= RB_PAGE_BYTES && ret_page->len % 8 == 0
               ? RB_OK
               : RB_ERR_CORRUPT;
}

enum rb_err rb_checkpoint_read_segment(struct rb_reader *reader,
                                       const struct checkpoint_segment *before,
                                       struct checkpoint_segment *ret_segment)
{
    struct checkpoint_segment s;
    s.serial = rb_read_u64(reader);
    s.first_seq = rb_read_u64(reader);
    s.bytes = rb_read_u32(reader);
    s.live_bytes = rb_read_u32(reader);
    s.live_count = rb_read_u32(reader);
    s.block_count = rb_read_u32(reader);
    (void)rb_read_u64(reader);
    if (!rb_reader_ok(reader) || s.serial == 0 || s.block_count > CHECKPOINT_BLOCKS_MAX ||
        (before->serial != 0 && s.first_seq <= before->first_seq) || s.bytes % RB_DISK_ALIGN != 0) {
        return RB_ERR_CORRUPT;
    }
    s.blocks = rb_read_slice(reader, (size_t)s.block_count * sizeof(uint16_t));
    if (!rb_reader_ok(reader)) {
        return RB_ERR_CORRUPT;
    }
    struct rb_reader lens = rb_reader_over(s.blocks);
    uint64_t whole = 0;
    for (uint32_t i = 0; i < s.block_count; i++) {
        uint16_t len = rb_read_u16(&lens);
        whole += (uint64_t)len * RB_DISK_ALIGN;
        if (len == 0) {
            return RB_ERR_CORRUPT;
        }
    }
    if (whole != s.bytes) {
        return RB_ERR_CORRUPT;
    }
    *ret_segment = s;
    return RB_OK;
}
