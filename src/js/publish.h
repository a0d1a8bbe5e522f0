/* publish.h - the checks of a published message one by one: single messages and batches take them in different orders. Each sets
 * outcome->error and gives false when it fails. */
#pragma once

#include <stdio.h>

#include "js/stream_inside.h"

enum rb_js_rollup {
    RB_JS_ROLLUP_NONE,
    RB_JS_ROLLUP_SUBJECT,
    RB_JS_ROLLUP_ALL,
    RB_JS_ROLLUP_INVALID,
};
/** What a batch has before the message in question. */
struct rb_js_staged {
    uint64_t messages, bytes, of_subject;
    bool strict; /* no exception for a message that replaces the oldest of its subject */
};

/** As it counts in the store. */
uint64_t rb_js_message_bytes(const struct rb_js_stream *stream, size_t subject_bytes,
                             size_t payload_bytes, uint32_t header_len);
enum rb_js_rollup rb_js_rollup_of(const struct rb_js_headers *headers);
bool rb_js_check_subject_seq(struct rb_js_stream *stream, struct rb_slice subject,
                             const struct rb_js_headers *headers, struct rb_js_outcome *outcome);
bool rb_js_check_rollup(struct rb_js_stream *stream, const struct rb_js_headers *headers,
                        struct rb_js_outcome *outcome);
/** What the stream says of a message's size, with its headers. */
bool rb_js_check_size(const struct rb_js_stream *stream, size_t payload_bytes,
                      struct rb_js_outcome *outcome);
/** What the store can keep of headers. */
bool rb_js_check_header(const struct rb_command *command, struct rb_js_outcome *outcome);
bool rb_js_check_ttl(const struct rb_js_headers *headers, struct rb_js_outcome *outcome);
bool rb_js_check_room(struct rb_js_stream *stream, const struct rb_command *command,
                      bool has_rollup, const struct rb_js_staged *staged,
                      struct rb_js_outcome *outcome);
bool rb_js_check_room_flags(const struct rb_command *command, uint8_t flag,
                            struct rb_js_outcome *outcome);
/** How far a message came that was only tried. */
struct rb_js_trial {
    bool stored; /* it came to be stored, or would have */
    bool nobody; /* an interest stream with no consumer for it */
};
/** What apply would say of the command now: nothing is stored or remembered. */
void rb_js_publish_try(struct rb_js_stream *stream, const struct rb_command *command,
                       struct rb_js_outcome *outcome, struct rb_js_trial *ret_trial);
/** Stores, enforces limits, tells consumers, republishes. */
void rb_js_store(struct rb_js_stream *stream, const struct rb_command *given,
                 struct rb_js_headers *headers, struct rb_js_outcome *outcome);

/** The same, but for what an interest stream has no consumer for. */
void rb_js_store_or_skip(struct rb_js_stream *stream, const struct rb_command *command,
                         struct rb_js_headers *headers, struct rb_js_outcome *outcome);

/** After storing: remembers the total, gives back what rb_js_counter_add took. */
void rb_js_counted_stored(struct rb_js_stream *stream, struct rb_js_counted *counted,
                          struct rb_js_outcome *outcome);

/** A message of a fast batch (batch_apply.c): the checks of a batch's member, but it stands for itself. */
void rb_js_publish_alone(struct rb_js_stream *stream, const struct rb_command *command,
                         struct rb_js_headers *headers, struct rb_js_outcome *outcome);

/* republish.c */
void rb_js_republish(struct rb_js_stream *stream, const struct rb_message *message,
                     uint64_t last_seq);
