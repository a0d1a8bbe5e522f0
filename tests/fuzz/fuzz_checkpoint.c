/* fuzz_checkpoint.c - any bytes as a checkpoint, and a store whose checkpoints were tampered with.
 *
 * First byte even: the rest is the first checkpoint file of a store, as it is. Odd: a small real store, then the rest as changes to
 * its two checkpoint files, four bytes each: change a byte (of the first page, of what follows), make the header's checksum
 * right again, cut a file off. Opening comes to an end; a store that opened answers every question and can be written to.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "ringbus/check.h"
#include "storage/checkpoint.h"
#include "storage/index.h"
#include "store_rig.h"

#define MESSAGES 80
#define HEADER_KEY UINT64_C(0x5242434B736D6831) /* checkpoint.c */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum rb_err append(struct rb_msgstore *store, uint64_t seq)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "a.%u.c", (unsigned)(seq % 7));
    struct rb_message message = { .seq = seq,
                                  .time_ns = seq,
                                  .subject = rb_slice_of(text, (size_t)len),
                                  .payload = RB_S("some bytes") };
    return rb_msgstore_append(store, &message);
}

static void build(struct store_rig *rig)
{
    struct rb_msgstore *store;
    enum rb_err err = store_rig_open(rig, "s", &store);
    rb_assert(err == RB_OK);
    for (uint64_t seq = 1; seq <= MESSAGES; seq++) {
        err = append(store, seq);
        rb_assert(err == RB_OK);
        if (seq % 40 == 0) {
            err = store_rig_checkpoint(rig, store, seq, RB_S("x"));
            rb_assert(err == RB_OK);
        }
    }
    store_rig_close(rig, store);
}

/* Header, pages and table get checksums that hold, whatever they say. */
static void fix(uint8_t *bytes, uint64_t size)
{
    struct checkpoint_header header;
    if (size < CHECKPOINT_PAGES_AT) {
        return;
    }
    uint64_t checksum = XXH3_64bits(bytes, CHECKPOINT_HEADER_BYTES - 8) ^ HEADER_KEY;
    memcpy(bytes + CHECKPOINT_HEADER_BYTES - 8, &checksum, sizeof(checksum));
    if (rb_checkpoint_decode(rb_slice_of(bytes, CHECKPOINT_HEADER_BYTES), &header) != RB_OK ||
        header.table_offset > size || header.table_bytes > size - header.table_offset) {
        return;
    }
    uint8_t *table = bytes + header.table_offset;
    for (uint32_t i = 0; i < header.page_count; i++) {
        uint32_t len;
        uint8_t *entry = table + (size_t)i * CHECKPOINT_PAGE_ENTRY_BYTES;
        uint64_t at = CHECKPOINT_PAGES_AT + (uint64_t)i * RB_PAGE_BYTES;
        memcpy(&len, entry, sizeof(len));
        if (len > RB_PAGE_BYTES || at + len > size) {
            return;
        }
        checksum = rb_checkpoint_page_checksum(header.seed, i, rb_slice_of(bytes + at, len));
        memcpy(entry + 8, &checksum, sizeof(checksum));
    }
    header.table_checksum =
        rb_checkpoint_table_checksum(&header, rb_slice_of(table, (size_t)header.table_bytes));
    rb_checkpoint_encode(bytes, &header);
}

static void tamper(struct store_rig *rig, const uint8_t *data, size_t size)
{
    for (; size >= 4; data += 4, size -= 4) {
        const char *name = (data[0] & 1) != 0 ? "s/0.ckpt" : "s/1.ckpt";
        uint64_t count = 0;
        uint64_t at = (uint64_t)(data[0] >> 4) << 16 | (uint64_t)data[1] << 8 | data[2];
        uint8_t *bytes = rb_sim_disk_bytes(rig->disk, name, &count);
        if (bytes == NULL || count == 0) {
            continue;
        }
        switch (data[0] >> 1 & 7) {
        case 6:
            rb_sim_disk_chop(rig->disk, name, at % count);
            break;
        case 7:
            fix(bytes, count);
            break;
        default:
            rb_sim_disk_flip(rig->disk, name, at % count, data[3]);
            break;
        }
    }
}

static void look(struct store_rig *rig, struct rb_msgstore *store)
{
    struct rb_msgstore_state state;
    struct rb_msgstore_subjects subjects = { 0 };
    struct rb_msgstore_subject subject;
    uint32_t looked = 0;
    rb_msgstore_state(store, &state);
    for (uint64_t seq = rb_msgstore_next(store, 1); seq != 0 && looked++ < 200;
         seq = rb_msgstore_next(store, seq + 1)) {
        struct rb_message found;
        enum rb_err err = store_rig_get(rig, store, seq, &found);
        rb_assert(err == RB_OK || err == RB_ERR_CORRUPT);
    }
    looked = 0;
    while (rb_msgstore_next_subject(store, RB_S(">"), &subjects, &subject) && looked++ < 200) {
    }
    if (state.last_seq < UINT64_MAX - 10 && state.last_seq < UINT64_C(1) << 40) {
        enum rb_err err = append(store, state.last_seq + 1);
        rb_assert(err != RB_ERR_BUSY);
    }
    rb_msgstore_purge(store, RB_S("a.3.c"), 0, 0);
    rb_msgstore_purge_below(store, 20);
    struct rb_slice blob;
    uint64_t index = rb_msgstore_restored(store, &blob);
    enum rb_err err = store_rig_checkpoint(rig, store, index, RB_S("y"));
    rb_assert(err != RB_ERR_TIMEOUT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store_rig *rig = calloc(1, sizeof(*rig));
    struct rb_msgstore *store;
    rb_assert(rig != NULL);
    store_rig_init(rig, 1);
    build(rig);
    if (size > 0 && (data[0] & 1) == 0) {
        rb_sim_disk_plant(rig->disk, "s/0.ckpt", data + 1, size - 1);
        rb_sim_disk_unlink(rig->disk, "s/1.ckpt");
    } else if (size > 0) {
        tamper(rig, data + 1, size - 1);
    }
    enum rb_err err = store_rig_open(rig, "s", &store);
    rb_assert(err != RB_ERR_TIMEOUT);
    if (err == RB_OK) {
        look(rig, store);
    }
    store_rig_destroy_store(rig, store);
    store_rig_deinit(rig);
    free(rig);
    return 0;
}
