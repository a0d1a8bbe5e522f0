/* consumer.h - one consumer: what was delivered, what waits for an ack, who asked for more.
 *
 * State that must survive is changed by commands only (CONSUMER, DELIVERED, ACKED, PAUSE, RESET); requests, timers and interest are
 * the leader's and die with it. Deliveries are proposed in the turn that made them (one DELIVERED per consumer and turn) and not
 * waited for; acks take effect, and are confirmed, when ACKED is applied. Consumers with ack none or mem_storage propose no
 * deliveries at each turn: their place is saved lazily (at most once a second) or not at all.
 *
 * A consumer can always say why it is not delivering: rb_js_consumer_why().
 */
#pragma once

#include "js/stream.h"

struct rb_js_consumer_place {
    uint64_t consumer_seq, stream_seq;
    int64_t last_ns; /* wall; 0: never */
};

struct rb_js_consumer {
    struct rb_list link;      /* in js->ready */
    struct rb_list of_stream; /* in the stream */
    struct rb_js_stream *stream;
    struct rb_slice name; /* allocated */
    uint32_t id;
    uint64_t created_ns;
    struct rb_arena *config_arena;
    const struct rb_js_consumer_config *config;
    struct rb_js_consumer_place delivered, ack_floor;
    struct rb_js_consumer_inside *inside; /* consumer.c and its neighbours */
};

enum rb_js_consumer_action { RB_JS_CONSUMER_ANY, RB_JS_CONSUMER_CREATE, RB_JS_CONSUMER_UPDATE };

/** Defaults and rules; `existing`: the config in force of a consumer of that name, or NULL; `updates`: it is to become this one. */
bool rb_js_consumer_config_check(struct rb_js_stream *stream, struct rb_js_consumer_config *config,
                                 struct rb_arena *arena, bool pedantic,
                                 const struct rb_js_consumer_config *existing, bool updates,
                                 struct rb_js_error *error);
struct rb_js_consumer *rb_js_consumer_find(struct rb_js_stream *stream, struct rb_slice name);
/** Checks, then proposes; change->done() with outcome->consumer. `config` is copied. */
void rb_js_consumer_create(struct rb_js_stream *stream, const struct rb_js_consumer_config *config,
                           enum rb_js_consumer_action action, bool pedantic,
                           struct rb_js_change *change);
/** The same, in the state that rb_js_consumer_put_state() wrote. */
void rb_js_consumer_restore(struct rb_js_stream *stream, const struct rb_js_consumer_config *config,
                            struct rb_slice state, struct rb_js_change *change);
/** A message that is waited for, in archives. */
struct rb_js_unacked {
    uint64_t seq, consumer_seq, time_ns;
    uint32_t count; /* deliveries, at least 1 */
};
/** `items` ascend. */
void rb_js_consumer_put_state(struct rb_out *out, const struct rb_js_consumer_place *delivered,
                              const struct rb_js_consumer_place *floor,
                              const struct rb_js_unacked *items, uint32_t count);
/** {"delivered":...} as nats-server's archives have it. */
void rb_js_consumer_write_state(struct rb_out *out, const struct rb_js_consumer *consumer);
void rb_js_consumer_delete(struct rb_js_consumer *consumer, struct rb_js_change *change);
void rb_js_consumer_pause(struct rb_js_consumer *consumer, int64_t until_ns,
                          struct rb_js_change *change);
/** outcome->seq is the sequence it was reset to. */
void rb_js_consumer_reset(struct rb_js_consumer *consumer, uint64_t seq,
                          struct rb_js_change *change);
/** False: error is set. */
bool rb_js_consumer_unpin(struct rb_js_consumer *consumer, struct rb_slice group,
                          struct rb_js_error *error);

/* Applying commands (called by stream.c) */
void rb_js_consumer_apply(struct rb_js_stream *stream, const struct rb_command *command,
                          struct rb_js_outcome *outcome);

/* What the stream tells its consumers */

/** A message that its filters match was stored. */
void rb_js_consumer_stored(struct rb_js_consumer *consumer, uint64_t seq);
/** A message that its filters match was removed (not by this consumer's ack). */
void rb_js_consumer_removed(struct rb_js_consumer *consumer, uint64_t seq);
/** Many went at once (purge): floor, pending and counts are taken anew. */
void rb_js_consumer_purged(struct rb_js_consumer *consumer);
/** Interest retention: does it still need this message, which its filters match? */
bool rb_js_consumer_needs(const struct rb_js_consumer *consumer, uint64_t seq);
/** It delivered this message and waits for an ack, or never got one, whatever its filters are now. */
bool rb_js_consumer_holds(const struct rb_js_consumer *consumer, uint64_t seq);
/** The stream serves: subscribe, arm timers. */
void rb_js_consumer_opened(struct rb_js_consumer *consumer);
/** The stream goes: frees the consumer; pull requests get 409 Consumer Deleted (or `line`). */
void rb_js_consumer_close(struct rb_js_consumer *consumer, struct rb_slice line);
/** For the checkpoint. */
void rb_js_consumer_save(const struct rb_js_consumer *consumer, struct rb_out *out);
/** Reads one consumer and links it into the stream. */
RB_MUST_CHECK enum rb_err rb_js_consumer_load(struct rb_js_stream *stream,
                                              struct rb_reader *reader);

/** Those with ack policy none or flow_control take no acks. */
static inline bool rb_js_consumer_hears_acks(const struct rb_js_consumer *consumer)
{
    return consumer->config->ack_policy == RB_JS_ACK_EXPLICIT ||
           consumer->config->ack_policy == RB_JS_ACK_ALL;
}
/** An ack arrived at $JS.ACK.<stream>.<consumer>...: its tokens are parsed by the stream's special, here is what counts. */
void rb_js_consumer_ack(struct rb_js_consumer *consumer, uint64_t stream_seq, uint64_t consumer_seq,
                        uint64_t delivery_count, struct rb_slice reply, struct rb_slice payload);
/** The answer to a flow control request arrived: `token` is the last of its subject; header, then payload, as they came. */
void rb_js_consumer_flow(struct rb_js_consumer *consumer, struct rb_slice token,
                         uint32_t header_len, struct rb_slice payload);
/** Delivers what it may, at most `max` messages; true: more could follow, keep it in js->ready. */
bool rb_js_consumer_run(struct rb_js_consumer *consumer, uint32_t max);
void rb_js_consumer_timer(struct rb_js_consumer *consumer, struct rb_timer *timer);
void rb_js_consumer_loaded(struct rb_js_consumer *consumer);
/**
 * Consumers whose deliver subject is `subject` look again whether somebody listens. Costs one look-up, whatever the number of
 * consumers; the account asks only while there are push consumers (watch_interest).
 */
void rb_js_watches_interest(struct rb_js_account *account, struct rb_slice subject);
void rb_js_watches_init(struct rb_js_account *account);
/** The stream's consumers by name: to be called before they are listed. They are made in any order. */
void rb_js_consumers_sort(struct rb_js_stream *stream);

/* For documents */
struct rb_js_consumer_info {
    uint64_t ack_pending, redelivered, waiting, pending;
    bool push_bound, paused;
    int64_t pause_remaining_ns;
    struct rb_slice pinned_id; /* empty: none */
    int64_t pinned_ns;
};
void rb_js_consumer_info(struct rb_js_consumer *consumer, struct rb_js_consumer_info *ret_info);
/** One short English sentence: why nothing is being delivered; empty: it is delivering, or there is nothing to deliver. */
struct rb_slice rb_js_consumer_why(struct rb_js_consumer *consumer, char *out, size_t cap);
