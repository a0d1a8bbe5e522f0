/* source.h - mirrors and sources: messages of another stream, pulled and stored here (reference: jetstream.md 13).
 *
 *   asks (CONSUMER.CREATE at the origin's API) --> answered --> messages at a subject of its own --> PUBLISH commands --> applied
 *        ^                                                                                                           |
 *        +--- later: no answer, an error, a gap, silence, a message that was refused ---------------------------------+
 *
 * 1. The origin is asked over its API's subjects, wherever it is: in this account, in another, behind a domain. Its consumer sends
 *    with flow control and heartbeats; what is asked to be confirmed is confirmed once everything before it was applied.
 * 2. Each command says which message of the origin the copy must have come to. A command that does not fit is refused by apply, so
 *    that nothing is taken twice or left out, whatever was under way when a message was refused or the server ended.
 * 3. How far a source came is state of the stream, taken from the Nats-Stream-Source headers of what was applied (source_place.c).
 *    A mirror came as far as its last sequence.
 */
#pragma once

#include "js/stream.h"

struct rb_js_source;

/** What another stream was asked for, as it appears in Nats-Stream-Source and names a place. All borrowed. */
struct rb_js_source_header {
    struct rb_slice origin, filter, destination; /* lists are joined by '\f' */
    struct rb_slice subject, identity;           /* identity: empty when the origin has none */
    uint64_t seq;
};
/** False: it is no such header. */
bool rb_js_source_header_parse(struct rb_slice value, struct rb_js_source_header *ret_header);

/* source_rules.c */
enum rb_js_source_role { RB_JS_MIRROR, RB_JS_SOURCE };
/** Mirror and sources of a configuration: false: error is set. A mirror's mirror_direct is taken from its origin. */
bool rb_js_source_rules(struct rb_js_account *account, struct rb_js_stream_config *config,
                        const struct rb_js_stream_config *update, struct rb_js_error *error);
/** What depends on the other streams: cycles; and filters, which are refused last. */
bool rb_js_source_cycles(struct rb_js_account *account, const struct rb_js_stream_config *config,
                         struct rb_js_error *error);

/* source_place.c: how far each source came */
struct rb_js_places {
    struct rb_budget *budget;
    struct rb_js_place *items;
    uint32_t count, cap;
};
void rb_js_places_init(struct rb_js_places *places, struct rb_budget *budget);
void rb_js_places_deinit(struct rb_js_places *places);
/** 0: none. `ret_identity`: of the origin then, borrowed; may be NULL. */
uint64_t rb_js_place_of(const struct rb_js_places *places, const struct rb_js_source_header *key,
                        struct rb_slice *ret_identity);
/** False: memory refused. */
bool rb_js_place_set(struct rb_js_places *places, const struct rb_js_source_header *header);
void rb_js_places_save(const struct rb_js_places *places, struct rb_out *out);
RB_MUST_CHECK enum rb_err rb_js_places_load(struct rb_js_places *places, struct rb_reader *reader);

/* source.c */
/** Begins, ends and changes what the configuration says. After the stream began to serve, and after each change. */
RB_MUST_CHECK enum rb_err rb_js_sources_configure(struct rb_js_stream *stream);
/** The stream is not served any more: nothing is pulled; consumers at origins are given up when `drop`. */
void rb_js_sources_stop(struct rb_js_stream *stream, bool drop);
/** Frees; nothing is in flight any more, or never comes back. */
void rb_js_sources_free(struct rb_js_stream *stream);
/** While a stream is being restored nothing is pulled. */
void rb_js_sources_hold(struct rb_js_stream *stream, bool hold);
/** A stream came up: who waits for it asks at once. */
void rb_js_sources_wake(struct rb_js_account *account, struct rb_slice origin);
void rb_js_source_timer(struct rb_js_source *source);
/** {..} as in stream info: the n-th source, or the mirror. */
void rb_js_source_write(struct rb_out *out, const struct rb_js_stream *stream, uint32_t n);
