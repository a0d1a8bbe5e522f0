/* fuzz_wal.c - any bytes as the files of a log, and a real log that was tampered with.
 *
 * First byte even: the rest is the first file, as it is. Odd: a small real log, then the rest as changes to its files, four
 * bytes each: set a byte, make a header's or a record's checksum right again, cut a file off, remove one. Opening must come
 * to an end, and without made-up checksums every record that is given out is one that was written there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "log_rig.h"
#include "ringbus/check.h"
#include "storage/format.h"

#define ENTRIES 60
#define HEADER_SEED UINT64_C(0x52696E674275734C) /* format.c */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_options(struct rig *rig)
{
    rig->options.file_bytes = 32 << 10;
    rig->options.batch_bytes = 8 << 10;
    rig->options.files_max = 20;
}

static void fill(uint8_t *out, uint64_t index, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(index * 3 + i);
    }
}

static size_t len_of(uint64_t index)
{
    return (size_t)(index * 37 % 900);
}

static void write_record(struct rig *rig, struct rb_wal_write *write,
                         const struct rb_wal_record *record)
{
    enum rb_err err;
    while ((err = rig->log->ops->write(rig->log, write, record)) == RB_ERR_FULL) {
        rig_turn(rig); /* the next file is being made */
    }
    rb_assert(err == RB_OK);
}

/* Three groups, some states, a truncation, a prefix. */
static void build(struct rig *rig)
{
    struct rb_wal_write writes[ENTRIES * 2 + 4];
    uint8_t body[1024];
    uint32_t count = 0;
    memset(writes, 0, sizeof(writes));
    enum rb_err err = rig_open(rig);
    rb_assert(err == RB_OK);
    for (uint64_t i = 1; i <= ENTRIES; i++) {
        fill(body, i, len_of(i));
        struct rb_wal_record entry = { RB_WAL_ENTRY, 0,           1 + i % 2,
                                       i / 20,       (i + 1) / 2, rb_slice_of(body, len_of(i)) };
        struct rb_wal_record state = { RB_WAL_STATE, 1, 3, 0, i % 3, RB_S("state") };
        write_record(rig, &writes[count++], &entry);
        if (i % 7 == 0) {
            write_record(rig, &writes[count++], &state);
        }
        rig_settle(rig);
    }
    err = rb_wal_truncate(rig->log, &writes[count++], 1, ENTRIES / 2 - 3);
    rb_assert(err == RB_OK);
    err = rb_wal_drop_prefix(rig->log, &writes[count++], 2, 4, 0);
    rb_assert(err == RB_OK);
    rig_settle(rig);
    rig_close(rig);
}

static void fix_header(uint8_t *block)
{
    uint64_t checksum = XXH3_64bits_withSeed(block, WAL_HEADER_BYTES - 8, HEADER_SEED);
    memcpy(block + WAL_HEADER_BYTES - 8, &checksum, 8);
}

static uint64_t u64_at(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof(value));
    return value;
}

/* The record at `at` gets a checksum that holds, whatever it says. */
static void fix_record(uint8_t *bytes, uint64_t size, uint64_t at)
{
    uint32_t body_bytes;
    if (at + WAL_RECORD_BYTES > size) {
        return;
    }
    memcpy(&body_bytes, bytes + at + 8, sizeof(body_bytes));
    body_bytes %= 1000;
    if (at + wal_record_bytes(body_bytes) > size) {
        return;
    }
    uint8_t body[1000];
    memcpy(body, bytes + at + WAL_RECORD_BYTES, body_bytes);
    struct wal_record record = { .record = { .kind = (enum rb_wal_record_kind)bytes[at + 12],
                                             .type = bytes[at + 13],
                                             .group = u64_at(bytes + at + 16),
                                             .term = u64_at(bytes + at + 24),
                                             .index = u64_at(bytes + at + 32),
                                             .body = rb_slice_of(body, body_bytes) },
                                 .chain = bytes[at + 14] };
    rb_wal_encode_record(bytes + at, u64_at(bytes + 8), u64_at(bytes + 16), at, &record);
}

/* True: checksums were made up. */
static bool tamper(struct rig *rig, const uint8_t *data, size_t size)
{
    bool forged = false;
    for (; size >= 4; data += 4, size -= 4) {
        char name[64];
        uint64_t bytes_count = 0;
        uint64_t at = (uint64_t)data[1] << 8 | data[2];
        snprintf(name, sizeof(name), "wal/%016x.wal", 1 + (data[0] >> 3) % 6);
        uint8_t *bytes = rb_sim_disk_bytes(rig->disk, name, &bytes_count);
        if (bytes == NULL || bytes_count < 4096) {
            continue;
        }
        switch (data[0] & 7) {
        case 0:
        case 1:
        case 2:
        case 3:
            rb_sim_disk_flip(rig->disk, name, at % bytes_count, data[3]);
            break;
        case 4:
            fix_header(bytes + at % bytes_count / 4096 * 4096);
            forged = true;
            break;
        case 5:
            fix_record(bytes, bytes_count, at % bytes_count / 8 * 8);
            forged = true;
            break;
        case 6:
            rb_sim_disk_chop(rig->disk, name, at % bytes_count);
            break;
        default:
            rb_sim_disk_unlink(rig->disk, name);
            break;
        }
    }
    return forged;
}

static void check_entry(struct rig *rig, uint64_t group, uint64_t index, bool forged)
{
    uint8_t body[1024], found[8192];
    size_t len = 0;
    enum rb_err err =
        rig_read(rig, RB_WAL_ENTRY, group, 0, index, found, sizeof(found), &len, NULL);
    rb_assert(err == RB_OK || err == RB_ERR_CORRUPT || err == RB_ERR_INVALID);
    uint64_t number = group == 2 ? index * 2 - 1 : index * 2;
    if (err == RB_OK && !forged) {
        rb_assert(number <= ENTRIES && len == len_of(number));
        fill(body, number, len);
        rb_assert(len == 0 || memcmp(body, found, len) == 0);
    }
}

static void look(struct rig *rig, bool forged)
{
    struct rb_wal_group_info info;
    uint32_t at = 0;
    struct rb_wal_group_info infos[16];
    uint32_t count = 0;
    while (count < 16 && rb_wal_group_next(rig->log, &at, &info)) {
        infos[count++] = info;
    }
    for (uint32_t i = 0; i < count; i++) {
        rb_assert(infos[i].base <= infos[i].last);
        rb_assert(forged || (infos[i].id >= 1 && infos[i].id <= 3));
        for (uint64_t index = infos[i].base + 1;
             index <= infos[i].last && index < infos[i].base + 100; index++) {
            check_entry(rig, infos[i].id, index, forged);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    rb_assert(rig != NULL);
    rig_init_sim(rig, 1);
    set_options(rig);
    bool forged = true;
    if (size > 0 && (data[0] & 1) == 0) {
        struct rb_disk_op op = { 0 };
        struct rb_disk_op **ops;
        enum rb_err err = rb_disk_make_directory(rig->disk, &op, "wal");
        rb_assert(err == RB_OK);
        rig->now_ns += 1000000;
        rb_disk_poll(rig->disk, 0, &ops);
        rb_sim_disk_plant(rig->disk, "wal/0000000000000001.wal", data + 1, size - 1);
    } else if (size > 0) {
        build(rig);
        forged = tamper(rig, data + 1, size - 1);
    }
    enum rb_err err = rig_open(rig);
    rb_assert(err != RB_ERR_TIMEOUT);
    if (err == RB_OK) {
        look(rig, forged);
    }
    rig_close(rig);
    rig_deinit(rig);
    free(rig);
    return 0;
}
