/* stream.h - one stream: takes messages, applies commands, keeps its limits, holds its consumers.
 *
 *   ingest (a special of the account) --PUBLISH--> group --durable--> apply: checks in nats-server's order, store, ack
 *
 * 1. Everything that decides is in apply(); ingest only refuses what cannot be proposed (stopped, full, too large).
 * 2. Limits, dedup, retention and rollup are deterministic functions of the commands: their time is the command's.
 * 3. The checkpoint's blob (stream_state.c) holds everything that is not in the store: configuration, dedup window, expiry queue,
 *    consumers with their acks.
 */
#pragma once

#include "core/sublist.h"
#include "js/group.h"
#include "js/js.h"

#define RB_JS_NAME_MAX 255

/** What became of a command; what done() of a waiter gets. */
struct rb_js_counter_value;
struct rb_js_outcome {
    struct rb_js_error error; /* code 0: it took effect */
    uint64_t seq;             /* PUBLISH: of the message; DELETE */
    uint64_t value;           /* PURGE: removed */
    bool duplicate, created;
    bool held; /* PUBLISH from another stream: it was not taken, and what follows will not be */
    struct rb_slice total; /* PUBLISH into a counter: what it is now; borrowed, empty: it is none */
    struct rb_js_consumer *consumer; /* CONSUMER */
};

enum rb_js_stream_phase {
    RB_JS_STREAM_OPENING, /* store opens, log is replayed */
    RB_JS_STREAM_SERVING,
    RB_JS_STREAM_DELETING, /* found by nobody any more */
    RB_JS_STREAM_OFFLINE,  /* cannot be served (damage, unknown command, future version): `why` */
};

/** What stream->filters holds; embedded in the consumer's inside. A consumer's filters never overlap. */
struct rb_js_filter {
    struct rb_sub_ref ref;
    struct rb_js_consumer *consumer;
};

struct rb_js_stream {
    struct rb_list link; /* in the account */
    struct rb_js_account *account;
    struct rb_slice name; /* allocated */
    uint64_t created_ns;
    enum rb_js_stream_phase phase;
    char why[160];
    struct rb_arena *config_arena;
    const struct rb_js_stream_config *config; /* in config_arena; replaced as a whole */
    struct rb_js_group group;
    struct rb_msgstore *store;
    struct rb_list consumers; /* struct rb_js_consumer.of_stream; rb_js_consumers_sort() */
    bool consumers_mixed;     /* they are not in the order of their names */
    struct rb_map consumer_map;
    uint32_t consumer_count;   /* without direct ones */
    uint32_t consumers_coming; /* proposed, not applied yet */
    uint32_t next_consumer_id;
    struct rb_sublist
        *filters;   /* of struct rb_js_filter, plain: which consumers match a stored message */
    bool replaying; /* commands come from the log after a restart: nothing is sent */
    struct rb_js_stream_inside *inside; /* stream.c: ingest, dedup, expiry, timers, batches */
};

/** By name; NULL: none (also while it is being deleted). */
struct rb_js_stream *rb_js_stream_find(struct rb_js_account *account, struct rb_slice name);
/** The stream that captures `subject` whole or in part; NULL: none. */
struct rb_js_stream *rb_js_stream_overlapping(struct rb_js_account *account,
                                              struct rb_slice subject,
                                              const struct rb_js_stream *but);
/** rb_doc defaults and nats-server's normalisation; then its rules. `update`: the config in force, NULL when it is made. */
bool rb_js_stream_config_check(struct rb_js_account *account, struct rb_js_stream_config *config,
                               struct rb_arena *arena, const struct rb_js_stream_config *update,
                               struct rb_js_error *error);

/** A change of streams or consumers that an API request waits for. Embedded; lent until done(). */
struct rb_js_change {
    struct rb_js_waiter waiter;
    void (*done)(struct rb_js_change *change, struct rb_js_stream *stream,
                 const struct rb_js_outcome *outcome); /* stream: NULL once it is gone */
    struct rb_js_stream *stream;                       /* from here on the stream's */
    struct rb_js_change *next;
};
/**
 * Each checks, then proposes; done() follows exactly once, maybe before return when the outcome is known already (an error, an
 * equal stream). `config` is copied.
 */
void rb_js_stream_create(struct rb_js_account *account, const struct rb_js_stream_config *config,
                         struct rb_js_change *change);
void rb_js_stream_update(struct rb_js_stream *stream, const struct rb_js_stream_config *config,
                         struct rb_js_change *change);
/** An update at the end of a restore: it is none to those who watch. */
void rb_js_stream_restored(struct rb_js_stream *stream, const struct rb_js_stream_config *config,
                           struct rb_js_change *change);
void rb_js_stream_delete(struct rb_js_stream *stream, struct rb_js_change *change);
void rb_js_stream_delete_message(struct rb_js_stream *stream, uint64_t seq, bool erase,
                                 struct rb_js_change *change);
/** Of a counter, when its subject has older messages: `before` is what the newest of them, before_seq, holds. */
void rb_js_stream_delete_counted(struct rb_js_stream *stream, uint64_t seq, bool erase,
                                 const struct rb_js_counter_value *before, uint64_t before_seq,
                                 struct rb_js_change *change);
void rb_js_stream_purge(struct rb_js_stream *stream, struct rb_slice filter, uint64_t below,
                        uint64_t keep, struct rb_js_change *change);
/** A message as a client would have published it, from inside (sources, schedules). */
void rb_js_stream_publish(struct rb_js_stream *stream, const struct rb_command *command,
                          struct rb_js_change *change);

/* For consumers */

/** A consumer is done with a message: acked or terminated, at apply. Retention may remove it. */
void rb_js_stream_acked(struct rb_js_stream *stream, struct rb_js_consumer *consumer, uint64_t seq);
/** The consumer goes: interest streams release what only it wanted. Before it is unlinked. */
void rb_js_stream_released(struct rb_js_stream *stream, struct rb_js_consumer *consumer);
/** Its filters changed: interest streams release what only the old ones wanted, but for what waits for its ack. */
void rb_js_stream_refiltered(struct rb_js_stream *stream, struct rb_js_consumer *consumer);
/** Proposes; errors of rb_js_group_propose. */
RB_MUST_CHECK enum rb_err rb_js_stream_propose(struct rb_js_stream *stream,
                                               const struct rb_command *command,
                                               struct rb_js_waiter *waiter);

/* For recovery and checkpoints (recover.c) */
void rb_js_stream_opened(
    struct rb_js_stream *stream); /* replay is over: subscribe, arm timers, deliver */
/** Everything outside the store, for the checkpoint. */
void rb_js_stream_save(struct rb_js_stream *stream, struct rb_out *out);
RB_MUST_CHECK enum rb_err rb_js_stream_load(struct rb_js_stream *stream, struct rb_slice blob);
void rb_js_stream_timer(struct rb_js_stream *stream, struct rb_timer *timer);
/** Counted for /jsz: messages refused or dropped at ingest. */
uint64_t rb_js_stream_refused(const struct rb_js_stream *stream);
