/* archive.c - entries of a backup, written one by one and read from pieces. An entry is given when all of it is there. */
#include "js/archive.h"

#include <string.h>

#include "ringbus/msgstore.h"

#define MAGIC RB_S("NATSARC1")
#define NAME_MAX_BYTES (RB_MSGSTORE_SUBJECT_MAX + 64)

/* ---- writing ---- */

static void put_uvarint(struct rb_out *out, uint64_t value)
{
    uint8_t bytes[10];
    size_t len = 0;
    while (value >= 0x80) {
        bytes[len++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[len++] = (uint8_t)value;
    rb_out_put(out, rb_slice_of(bytes, len));
}

void rb_archive_begin(struct rb_out *out)
{
    rb_out_put(out, MAGIC);
}

void rb_archive_put(struct rb_out *out, const struct rb_archive_entry *entry)
{
    put_uvarint(out, entry->name.len);
    put_uvarint(out, (uint64_t)entry->time_ns << 1 ^ (uint64_t)(entry->time_ns >> 63));
    put_uvarint(out, entry->seq);
    put_uvarint(out, entry->header.len);
    put_uvarint(out, entry->payload.len);
    rb_out_put(out, entry->name);
    rb_out_put(out, entry->header);
    rb_out_put(out, entry->payload);
}

void rb_archive_end(struct rb_out *out)
{
    rb_out_put(out, rb_slice_of("\0\0\0\0\0", 5));
}

/* ---- reading ---- */

void rb_archive_reader_init(struct rb_archive_reader *reader, struct rb_budget *budget)
{
    *reader = (struct rb_archive_reader){ .at = 0 };
    rb_out_init(&reader->bytes, budget);
}

void rb_archive_reader_deinit(struct rb_archive_reader *reader)
{
    rb_out_deinit(&reader->bytes);
}

bool rb_archive_feed(struct rb_archive_reader *reader, struct rb_slice piece)
{
    struct rb_out *bytes = &reader->bytes;
    if (reader->at > 0) {
        memmove(bytes->bytes, bytes->bytes + reader->at, bytes->len - reader->at);
        bytes->len -= reader->at;
        reader->at = 0;
    }
    rb_out_put(bytes, piece);
    return !bytes->failed;
}

static enum rb_archive_next bad(struct rb_archive_reader *reader, const char *why)
{
    reader->why = why;
    return RB_ARCHIVE_BAD;
}

/* 1: read; 0: cut; -1: no such number. */
static int take_uvarint(struct rb_slice *from, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < 10; i++) {
        if (i == from->len) {
            return 0;
        }
        uint8_t byte = from->ptr[i];
        if (i == 9 && byte > 1) {
            return -1;
        }
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0) {
            *from = rb_slice_of(from->ptr + i + 1, from->len - i - 1);
            *ret_value = value;
            return 1;
        }
    }
    return -1;
}

enum rb_archive_next rb_archive_read(struct rb_archive_reader *reader,
                                     struct rb_archive_entry *ret_entry)
{
    struct rb_slice left =
        rb_slice_of(reader->bytes.bytes + reader->at, reader->bytes.len - reader->at);
    uint64_t numbers[5];
    if (!reader->begun) {
        size_t have = left.len < MAGIC.len ? left.len : MAGIC.len;
        if (have > 0 && memcmp(left.ptr, MAGIC.ptr, have) != 0) {
            return bad(reader, "not an archive of version 2 (NATSARC1); archives of nats-server "
                               "before 2.15 can not be restored here");
        }
        if (have < MAGIC.len) {
            return RB_ARCHIVE_MORE;
        }
        reader->begun = true;
        reader->at += MAGIC.len;
        left = rb_slice_of(left.ptr + MAGIC.len, left.len - MAGIC.len);
    }
    if (reader->ended) {
        return left.len == 0 ? RB_ARCHIVE_END : bad(reader, "bytes behind the end of the archive");
    }
    for (int i = 0; i < 5; i++) {
        int taken = take_uvarint(&left, &numbers[i]);
        if (taken <= 0) {
            return taken == 0 ? RB_ARCHIVE_MORE : bad(reader, "number too long in the archive");
        }
    }
    uint64_t name = numbers[0], header = numbers[3], payload = numbers[4];
    if (name > NAME_MAX_BYTES || header > RB_MSGSTORE_BYTES_MAX ||
        payload > RB_MSGSTORE_BYTES_MAX || header + payload > RB_MSGSTORE_BYTES_MAX) {
        return bad(reader, "entry too long in the archive");
    }
    if (left.len < name + header + payload) {
        return RB_ARCHIVE_MORE;
    }
    const uint8_t *end = left.ptr + name + header + payload;
    reader->at = (size_t)(end - reader->bytes.bytes);
    if (name == 0) {
        if (numbers[1] != 0 || numbers[2] != 0 || header != 0 || payload != 0) {
            return bad(reader, "entry without a name in the archive");
        }
        reader->ended = true;
        return left.ptr + left.len == end ? RB_ARCHIVE_END
                                          : bad(reader, "bytes behind the end of the archive");
    }
    *ret_entry = (struct rb_archive_entry){
        .name = rb_slice_of(left.ptr, name),
        .header = rb_slice_of(left.ptr + name, header),
        .payload = rb_slice_of(left.ptr + name + header, payload),
        .time_ns = (int64_t)(numbers[1] >> 1 ^ (~(numbers[1] & 1) + 1)),
        .seq = numbers[2],
    };
    return RB_ARCHIVE_ENTRY;
}
