/* command.h - what is written into a stream's raft group: every change of a stream is one of these, decided when it is applied.
 *
 * Little-endian, packed by rb_command_encode, version in the entry's type range; docs/ondisk.md has every byte. A command that
 * this version does not know stops the stream (named in the log), it is never skipped.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/slice.h"

/** Record type of the log's entries. Never renumbered. */
enum rb_command_type {
    RB_COMMAND_PUBLISH = 1, /* a message: time_ns, subject, payload with header_len, flags */
    RB_COMMAND_DELETE =
        2, /* seq, flags: ERASE; of a counter: value: the message before it on its subject, text: its total, subject: its sources */
    RB_COMMAND_PURGE = 3,  /* text: filter; seq: below; value: keep */
    RB_COMMAND_CONFIG = 4, /* text: the whole new StreamConfig as JSON */
    RB_COMMAND_EXPIRE = 5, /* time_ns: everything due by then goes */
    RB_COMMAND_CONSUMER =
        6, /* name; time_ns: created; text: ConsumerConfig as JSON: created or updated; subject: its state (restore) */
    RB_COMMAND_CONSUMER_DELETE = 7, /* name */
    RB_COMMAND_DELIVERED = 8,       /* name; text: as consumer_state.c encodes it */
    RB_COMMAND_ACKED = 9,           /* name; text: as consumer_state.c encodes it */
    RB_COMMAND_PAUSE = 10,          /* name; time_ns: until, 0 resumes */
    RB_COMMAND_RESET = 11,          /* name; seq */
    RB_COMMAND_BATCH =
        12, /* text: commands PUBLISH, each with its length before it: all or nothing */
    RB_COMMAND_SKIP = 13, /* seq: used up without a message (mirrors, restore) */
};
enum rb_command_flags {
    RB_COMMAND_ERASE = 1,
    RB_COMMAND_KEEP_SEQ = 2, /* a message that keeps `seq` and `time_ns` (mirror, restore) */
    RB_COMMAND_SOURCED =
        4, /* came from another stream: no expectations, no client's rules for its headers */
    RB_COMMAND_MARKER = 8, /* a delete marker or a message that a schedule produced */
    RB_COMMAND_NO_ROOM =
        16, /* no room in the server when it was proposed: to be refused, once its other checks are passed */
    RB_COMMAND_NO_ZONE = 64, /* the time zone of a schedule was not known when it was proposed */
    RB_COMMAND_OVER_ACCOUNT = 32, /* the same for the account's limit */
    RB_COMMAND_FAST =
        128, /* of a fast batch. seq 1: refused when command `value` (an index, 0: none) was; 0: not */
};
struct rb_command {
    uint8_t type, flags;
    uint64_t time_ns, seq, value;
    struct rb_slice name, subject, text;
    uint32_t header_len; /* of text when type is PUBLISH */
};
/** Bytes that encode() writes. */
size_t rb_command_bytes(const struct rb_command *command);
/** Into out[rb_command_bytes()]. */
void rb_command_encode(const struct rb_command *command, uint8_t *out);
/** Slices point into `body`. RB_ERR_CORRUPT. */
RB_MUST_CHECK enum rb_err rb_command_decode(uint8_t type, struct rb_slice body,
                                            struct rb_command *ret_command);
