/* archive.h - what a stream's backup holds (version 2 of nats-server's archives), without the S2 around it.
 *
 *   "NATSARC1" entry... end
 *   entry: uvarint name length, varint time ns, uvarint sequence, uvarint header length, uvarint payload length, name, header, payload
 *   end: an entry of zeroes
 *
 * First "state.json", then "consumers/<name>", then one entry per message, named by its subject, in order.
 */
#pragma once

#include "js/doc.h"

struct rb_archive_entry {
    struct rb_slice name, header, payload;
    int64_t time_ns;
    uint64_t seq; /* 0: no message */
};

void rb_archive_begin(struct rb_out *out);
void rb_archive_put(struct rb_out *out, const struct rb_archive_entry *entry);
void rb_archive_end(struct rb_out *out);

/** Reads what comes in pieces of any size. */
struct rb_archive_reader {
    struct rb_out bytes; /* not read yet, from `at` on */
    size_t at;
    bool begun, ended;
    const char *why; /* of BAD; static */
};
enum rb_archive_next { RB_ARCHIVE_ENTRY, RB_ARCHIVE_MORE, RB_ARCHIVE_END, RB_ARCHIVE_BAD };

void rb_archive_reader_init(struct rb_archive_reader *reader, struct rb_budget *budget);
void rb_archive_reader_deinit(struct rb_archive_reader *reader);
/** Copied. False: no memory. */
bool rb_archive_feed(struct rb_archive_reader *reader, struct rb_slice piece);
/** Slices of the entry are borrowed until the next feed. */
enum rb_archive_next rb_archive_read(struct rb_archive_reader *reader,
                                     struct rb_archive_entry *ret_entry);
