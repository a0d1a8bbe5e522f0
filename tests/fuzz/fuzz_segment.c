/* fuzz_segment.c - any bytes as a segment file, and a store whose segments were tampered with.
 *
 * First byte even: the rest is scanned as it is, and decoded as a header. Odd: a small real store, then the rest as changes to its
 * segment files, four bytes each: change a byte, make a record's checksum right again, cut a file off, remove one; with the
 * second bit of the first byte both checkpoints are gone as well. Opening comes to an end, and without made-up checksums every
 * body that is given out is one that was appended there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"
#include "storage/segment.h"
#include "store_rig.h"

#define MESSAGES 60
#define SEED UINT64_C(77)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t len_of(uint64_t seq)
{
    return (uint32_t)(seq * 37 % 900);
}

static void fill(uint8_t *out, uint64_t seq)
{
    for (uint32_t i = 0; i < len_of(seq); i++) {
        out[i] = (uint8_t)(seq * 3 + i);
    }
}

static void scan(const uint8_t *data, size_t size)
{
    struct store_segment_header header;
    struct store_record record;
    bool damaged;
    uint32_t at = 0;
    (void)!rb_store_decode_segment(rb_slice_of(data, size), &header);
    while (rb_store_scan(rb_slice_of(data, size), SEED, 1, &at, &record, &damaged)) {
        rb_assert(record.bytes >= STORE_RECORD_BYTES && record.bytes <= size - at);
        at += record.bytes;
    }
    rb_assert(at == size);
}

static void build(struct store_rig *rig)
{
    struct rb_msgstore *store;
    uint8_t body[1024];
    enum rb_err err = store_rig_open(rig, "s", &store);
    rb_assert(err == RB_OK);
    for (uint64_t seq = 1; seq <= MESSAGES; seq++) {
        fill(body, seq);
        struct rb_message message = { .seq = seq,
                                      .time_ns = seq,
                                      .subject = RB_S("a.b"),
                                      .payload = rb_slice_of(body, len_of(seq)) };
        err = rb_msgstore_append(store, &message);
        rb_assert(err == RB_OK);
        if (seq % 20 == 0) {
            (void)rb_msgstore_remove(store, seq - 3, true);
            err = store_rig_checkpoint(rig, store, seq, RB_S("x"));
            rb_assert(err == RB_OK);
        }
    }
    store_rig_close(rig, store);
}

/* The record at `at` gets a checksum that holds, if it is one: its store's seed is in the file's header. */
static void fix_record(uint8_t *bytes, uint64_t size, uint64_t at)
{
    struct store_segment_header header;
    struct store_record record;
    if (rb_store_decode_segment(rb_slice_of(bytes, size), &header) != RB_OK || at >= size ||
        !rb_store_decode_record(rb_slice_of(bytes + at, size - at), &record)) {
        return;
    }
    uint8_t *copy = malloc(record.bytes);
    rb_assert(copy != NULL);
    struct rb_message message = { .seq = record.seq,
                                  .time_ns = record.time_ns,
                                  .subject = record.subject,
                                  .payload = record.payload,
                                  .header_len = record.header_len };
    rb_store_encode_record(copy, &message, record.flags, true,
                           rb_store_place_key(header.seed, header.serial, at));
    memcpy(bytes + at, copy, record.bytes);
    free(copy);
}

/* True: checksums were made up. */
static bool tamper(struct store_rig *rig, const uint8_t *data, size_t size)
{
    bool forged = false;
    for (; size >= 4; data += 4, size -= 4) {
        char name[64];
        uint64_t count = 0;
        uint64_t at = (uint64_t)data[1] << 8 | data[2];
        snprintf(name, sizeof(name), "s/%016x.seg", 1 + (data[0] >> 3) % 3);
        uint8_t *bytes = rb_sim_disk_bytes(rig->disk, name, &count);
        if (bytes == NULL || count == 0) {
            continue;
        }
        switch (data[0] & 7) {
        case 5:
            fix_record(bytes, count, at % count / 8 * 8);
            forged = true;
            break;
        case 6:
            rb_sim_disk_chop(rig->disk, name, at % count);
            break;
        case 7:
            rb_sim_disk_unlink(rig->disk, name);
            break;
        default:
            rb_sim_disk_flip(rig->disk, name, at % count, data[3]);
            break;
        }
    }
    return forged;
}

static void look(struct store_rig *rig, struct rb_msgstore *store, bool forged)
{
    uint8_t body[1024];
    uint32_t looked = 0;
    for (uint64_t seq = rb_msgstore_next(store, 1); seq != 0 && looked++ < 200;
         seq = rb_msgstore_next(store, seq + 1)) {
        struct rb_message found;
        enum rb_err err = store_rig_get(rig, store, seq, &found);
        rb_assert(err == RB_OK || err == RB_ERR_CORRUPT);
        if (err == RB_OK && !forged) {
            rb_assert(seq <= MESSAGES && found.payload.len == len_of(seq));
            fill(body, seq);
            rb_assert(found.payload.len == 0 ||
                      memcmp(found.payload.ptr, body, found.payload.len) == 0);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || (data[0] & 1) == 0) {
        scan(data + (size > 0), size - (size > 0));
        return 0;
    }
    struct store_rig *rig = calloc(1, sizeof(*rig));
    struct rb_msgstore *store;
    rb_assert(rig != NULL);
    store_rig_init(rig, 1);
    build(rig);
    bool forged = tamper(rig, data + 1, size - 1);
    if ((data[0] & 2) != 0) {
        rb_sim_disk_unlink(rig->disk, "s/0.ckpt");
        rb_sim_disk_unlink(rig->disk, "s/1.ckpt");
    }
    enum rb_err err = store_rig_open(rig, "s", &store);
    rb_assert(err == RB_OK || err == RB_ERR_UNSUPPORTED);
    if (err == RB_OK) {
        look(rig, store, forged);
    }
    store_rig_destroy_store(rig, store);
    store_rig_deinit(rig);
    free(rig);
    return 0;
}
