/* counter.h - message counters: what was counted on each subject (reference: jetstream.md 9).
 *
 * A message of a counter says by how much; what is stored is the total. To apply it the total before must be known at once, but
 * it is the body of a message that may be on disk. So the totals are state of the stream, one per subject, kept by the commands
 * and in the checkpoint (docs/jetstream.md). A total belongs to the newest message of its subject: when another message is the
 * newest, it does not count. That can only happen by deleting the newest message, so a command that deletes says what the one
 * before it holds.
 */
#pragma once

#include "base/map.h"
#include "js/command.h"
#include "js/doc.h"
#include "js/pools.h"

struct rb_js_headers;
struct rb_js_outcome;
struct rb_js_stream;

struct rb_js_counters {
    struct rb_js_pools *pools;
    struct rb_map map; /* struct rb_js_counter, by subject */
};
struct rb_js_counter_value {
    struct rb_slice total, sources; /* sources: value of Nats-Counter-Sources; empty: none */
};

void rb_js_counters_init(struct rb_js_counters *counters, struct rb_js_pools *pools);
void rb_js_counters_deinit(struct rb_js_counters *counters);

/** A message with its total in place of the increment. `bytes` belong to the pools: rb_js_counted_free. */
struct rb_js_counted {
    struct rb_command command;
    struct rb_js_counter_value value; /* in `bytes` */
    uint8_t *bytes;
    size_t cap;
};
/** What holds before anything else is looked at: a number, no body, no rollup, no expectations. */
bool rb_js_counter_check(struct rb_js_stream *stream, const struct rb_command *command,
                         const struct rb_js_headers *headers, struct rb_js_outcome *outcome);
/** `before`: what the subject held, total empty: nothing. False: outcome->error is set, nothing is to be freed. */
bool rb_js_counter_add(struct rb_js_stream *stream, const struct rb_command *command,
                       const struct rb_js_headers *headers,
                       const struct rb_js_counter_value *before, struct rb_js_counted *ret_counted,
                       struct rb_js_outcome *outcome);
void rb_js_counted_free(struct rb_js_stream *stream, struct rb_js_counted *counted);
/** What the newest message of `subject` holds (total empty: there is none). False: not known, it is broken. Borrowed. */
bool rb_js_counter_find(struct rb_js_stream *stream, struct rb_slice subject,
                        struct rb_js_counter_value *ret_value);
/** Message `seq`, the newest of `subject`, holds `value`. False: memory refused. */
bool rb_js_counter_note(struct rb_js_stream *stream, struct rb_slice subject, uint64_t seq,
                        const struct rb_js_counter_value *value);
/** The same of a message that was stored as it came: what it holds is found in it. */
bool rb_js_counter_note_stored(struct rb_js_stream *stream, const struct rb_command *command,
                               uint64_t seq);
/** Reads a stored message into `arena`; total stays empty when it is no counter's. False: memory refused. */
bool rb_js_counter_read(struct rb_arena *arena, struct rb_slice payload, uint32_t header_len,
                        struct rb_js_counter_value *ret_value);
void rb_js_counters_save(const struct rb_js_counters *counters, const struct rb_js_stream *stream,
                         struct rb_out *out);
RB_MUST_CHECK enum rb_err rb_js_counters_load(struct rb_js_counters *counters,
                                              struct rb_reader *reader);
