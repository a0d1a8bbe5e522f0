/* consumer_inside.h - what the files of a consumer share: its state, and how they call each other.
 *
 *   consumer_config.c   the document and its rules       consumer_create.c   asked for, checked, proposed
 *   consumer.c          life: made, open, close, time    consumer_apply.c    commands, what the stream tells
 *   consumer_info.c     info, why                        consumer_state.c    bytes of commands and checkpoints
 *   consumer_pending.c  unacked messages                 consumer_ack.c      what clients say about them
 *   consumer_deliver.c  the run                          consumer_pull.c     requests
 *   consumer_push.c     interest, flow, heartbeats       consumer_priority.c groups and pins
 *
 * 1. `delivered` and what is pending run ahead of the commands: a delivery counts when it was sent, its DELIVERED follows in the
 *    same turn. Applying it then changes nothing (its consumer sequence is known). After a restart it does the counting.
 * 2. Acks change nothing until their ACKED is applied; the entry is marked meanwhile, so that it is not delivered again.
 * 3. A DELIVERED or ACKED of another consumer of the same name, or from before a reset, is ignored: commands carry id and epoch.
 * 4. rb_js_send may come back into the consumer (an ack, a request, a change of interest). During a run those only note what is
 *    to be done: nothing is freed, the run is asked for again.
 */
#pragma once

#include "js/consumer.h"
#include "js/consumer_pending.h"

#define RB_JS_SECOND_NS 1000000000u
/** After the log refused a command, it is tried again. */
#define RB_JS_RETRY_NS 10000000u

/** A pull request. Sizes and sequences are what is left of it; times are of the monotonic clock, 0: none. */
struct rb_js_request {
    struct rb_list link;
    uint64_t batch, bytes;
    uint64_t expires_ns, beat_ns, next_beat_ns;
    uint64_t min_pending, min_ack_pending;
    uint32_t alloc_bytes;
    uint16_t reply_len, pin_len;
    uint8_t priority;
    bool no_wait, sized, served;
    uint8_t text[]; /* reply, pin */
};

/** Flow control of a push consumer; allocated when it is configured. */
struct rb_js_flow {
    uint64_t window, sent; /* bytes; `sent`: not confirmed yet */
    uint64_t asked; /* bytes that the outstanding request will confirm; 0: none is outstanding */
    char token[4];
};

/** Who is pinned; allocated with the first pin. */
struct rb_js_pin {
    char id[22]; /* first byte 0: nobody */
    int64_t since_ns;
    uint64_t due_ns; /* monotonic: the pin ends */
};

/** Text of commands that grows: DELIVERED of this turn, ACKED of this turn. Runs of sequences are joined. */
struct rb_js_record {
    uint8_t *bytes;
    uint32_t len, cap;
    uint64_t previous;         /* last sequence written */
    uint64_t run_seq, run_len; /* not written yet */
    uint64_t run_count;
    uint8_t run_op;
};
enum rb_js_record_op { RB_JS_RECORD_ONE, RB_JS_RECORD_ALL, RB_JS_RECORD_SPENT, RB_JS_RECORD_AGAIN };

/** Acks that came in one turn. Lives on until its command is durable when somebody waits for that. */
struct rb_js_acks {
    struct rb_js_waiter waiter;
    struct rb_js_account *account;
    struct rb_js_record record;
    uint8_t *replies; /* each: u16 length, subject */
    uint32_t replies_len, replies_cap;
};

/** Push consumers of an account with the same deliver subject; in the account's `watches`. */
struct rb_js_watch {
    struct rb_list consumers; /* struct rb_js_consumer_inside.of_watch */
    size_t len;
    uint8_t subject[];
};

struct rb_js_consumer_inside {
    struct rb_js_consumer *consumer;
    struct rb_js_watch *watch; /* NULL: a pull consumer, not open yet, or memory was refused */
    struct rb_list of_watch;
    struct rb_js_alarm alarm;
    struct rb_special next; /* MSG.NEXT */
    struct rb_special *next_domain;
    struct rb_js_consumer_config *config; /* the consumer's, to be changed */
    struct rb_js_filter *filters;         /* one per subject of `subjects` */
    const struct rb_slice *subjects;      /* filters; one ">" when there are none */
    uint32_t filter_count;                /* 0: everything */
    uint32_t filter_slots;                /* elements of `filters` */
    uint32_t epoch;                       /* resets so far */
    struct rb_msgstore_cursor *cursor;
    struct rb_msgstore_wait wait;
    uint64_t next_seq; /* first that may come next, behind `starts` */
    uint64_t pending;  /* matching messages not delivered yet */
    uint64_t *starts;  /* last_per_subject: the first to be delivered, in order; NULL: done */
    uint32_t start_count, start_at, start_cap;
    uint64_t replay_until; /* replay original ends behind this */
    struct rb_js_pending acks;
    struct rb_js_acks *batch;
    struct rb_js_record deliveries;
    uint64_t deliveries_first,
        deliveries_ns; /* consumer sequence and time of the first in `deliveries` */
    struct rb_list requests;
    uint32_t waiting;
    uint64_t pruned_ns;
    struct rb_js_flow *flow;
    struct rb_js_pin *pin;
    uint64_t
        acked_through; /* policies all and flow_control: the highest that was acked, applied or not */
    uint64_t sending; /* sequence that rb_js_send has just now; 0: none. It may be acked already */
    uint64_t active_ns;      /* last activity of a client, monotonic */
    uint64_t sent_ns;        /* last message or heartbeat of a push consumer */
    uint64_t hold_ns;        /* rate limit or replay: nothing before this; 0: no */
    uint64_t replay_at_ns;   /* monotonic time of the last delivery */
    uint64_t replay_time_ns; /* stored time of the last message */
    uint64_t full_ns;        /* rate limit: when the bucket will be full again */
    uint64_t place_due_ns;   /* the place is to be logged then; 0: it is */
    uint64_t retry_ns;       /* the log refused: try again then; 0: no */
    bool opened, running, again;
    bool active; /* push: somebody listens */
    bool look;   /* interest changed: ask who listens */
    bool paused;
    bool restored; /* was there before this life of the server */
    bool doomed;   /* its deletion was proposed */
};

static inline struct rb_js *rb_js_consumer_js(const struct rb_js_consumer *consumer)
{
    return consumer->stream->account->js;
}
static inline bool rb_js_consumer_is_push(const struct rb_js_consumer *consumer)
{
    return consumer->config->deliver_subject.len > 0;
}
/** Its deliveries and acks are nobody's but this server life's. */
static inline bool rb_js_consumer_is_volatile(const struct rb_js_consumer *consumer)
{
    return consumer->config->mem_storage && consumer->stream->config->retention == RB_JS_LIMITS;
}
/** Deliveries are logged with each turn, not now and then. */
static inline bool rb_js_consumer_logs(const struct rb_js_consumer *consumer)
{
    return !rb_js_consumer_is_volatile(consumer) &&
           (consumer->config->ack_policy != RB_JS_ACK_NONE ||
            consumer->stream->config->retention != RB_JS_LIMITS);
}

/* consumer.c */

/** Has something to do: run is called this turn or the next. */
void rb_js_consumer_ready(struct rb_js_consumer *consumer);
/** The timer fires at `due_ns` (monotonic) or before. */
void rb_js_consumer_want(struct rb_js_consumer *consumer, uint64_t due_ns);
/** Takes `config` (in `arena`) as its own, with filters and cursor. False: memory refused, nothing changed. */
bool rb_js_consumer_configure(struct rb_js_consumer *consumer, struct rb_arena *arena,
                              struct rb_js_consumer_config *config);
/** Makes one and links it into the stream, without a place. NULL: memory refused. Takes `arena` then. */
struct rb_js_consumer *rb_js_consumer_make(struct rb_js_stream *stream, struct rb_slice name,
                                           struct rb_arena *arena,
                                           struct rb_js_consumer_config *config);
void rb_js_consumer_free(struct rb_js_consumer *consumer);
/** After a new configuration, of an opened one: what of it is not asked each time. */
void rb_js_consumer_take_config(struct rb_js_consumer *consumer);
/** Counts `pending` anew. */
void rb_js_consumer_recount(struct rb_js_consumer *consumer);
/** Advisory of a pause that began or ended. */
void rb_js_consumer_tell_pause(struct rb_js_consumer *consumer);
/** `$JS.EVENT.<kind>.<stream>.<consumer>` with this type: members `head` (a comma behind each), stream, consumer, then `format`. */
__attribute__((format(printf, 5, 6))) void rb_js_consumer_advise(struct rb_js_consumer *consumer,
                                                                 const char *kind, const char *type,
                                                                 const char *head,
                                                                 const char *format, ...);
/** Command of this consumer, with id and epoch. */
struct rb_command rb_js_consumer_command(const struct rb_js_consumer *consumer, uint8_t type);

/* consumer_create.c */
/** What apply decides about a CONSUMER command: nothing that may differ between restarts. */
bool rb_js_consumer_may_create(struct rb_js_stream *stream,
                               const struct rb_js_consumer_config *config,
                               const struct rb_js_consumer *existing,
                               enum rb_js_consumer_action action, struct rb_js_error *error);

/* consumer_config.c */
/** What rb_js_consumer_put_state() wrote becomes that of a new consumer. */
bool rb_js_consumer_take_state(struct rb_js_consumer *consumer, struct rb_slice state);
/** Pauses until then (RB_DOC_NO_TIME: not), and says so in the metadata. */
void rb_js_consumer_set_pause(struct rb_js_consumer_config *config, int64_t until_ns);
bool rb_js_consumer_may_become(const struct rb_js_consumer_config *was,
                               const struct rb_js_consumer_config *now, struct rb_js_error *error);
/** -1: not a number. */
int32_t rb_js_sample_percent(struct rb_slice freq);
bool rb_js_group_name_valid(struct rb_slice name);

/* consumer_state.c */
void rb_js_record_init(struct rb_js_record *record);
void rb_js_record_deinit(struct rb_js_record *record, struct rb_budget *budget);
/** Adds a sequence. False: memory refused, nothing was added. */
bool rb_js_record_add(struct rb_js_record *record, struct rb_budget *budget,
                      enum rb_js_record_op op, uint64_t seq, uint64_t count);
/** Writes the run that is open; the text is bytes[0..len) then. False: memory refused. */
bool rb_js_record_end(struct rb_js_record *record, struct rb_budget *budget);
/** Nothing was added. */
static inline bool rb_js_record_empty(const struct rb_js_record *record)
{
    return record->len == 0 && record->run_len == 0;
}
/** Begins anew, keeps its memory unless it is much. */
void rb_js_record_clear(struct rb_js_record *record, struct rb_budget *budget);
/** Walks a text: `next` gives runs. */
struct rb_js_record_reader {
    struct rb_reader reader;
    uint64_t previous;
    bool ok;
};
struct rb_js_record_run {
    enum rb_js_record_op op;
    uint64_t seq, len, count;
};
void rb_js_record_read(struct rb_js_record_reader *at, struct rb_slice text);
bool rb_js_record_next(struct rb_js_record_reader *at, struct rb_js_record_run *ret_run);
/** Proposes what was delivered since the last time; false: it could not, it is kept. */
bool rb_js_consumer_log_deliveries(struct rb_js_consumer *consumer);
/** Proposes the place only. */
bool rb_js_consumer_log_place(struct rb_js_consumer *consumer);
/** Proposes `record` as ACKED. */
RB_MUST_CHECK enum rb_err rb_js_consumer_log_acks(struct rb_js_consumer *consumer,
                                                  struct rb_js_record *record,
                                                  struct rb_js_waiter *waiter);
/** Notes a delivery for the log. False: memory refused. */
bool rb_js_consumer_note_delivery(struct rb_js_consumer *consumer, uint64_t seq, uint64_t count);
void rb_js_consumer_apply_delivered(struct rb_js_consumer *consumer,
                                    const struct rb_command *command);
/** Replay: everything below `below` was delivered, though no command says so. */
void rb_js_consumer_adopt(struct rb_js_consumer *consumer, uint64_t below, uint64_t time_ns);
void rb_js_consumer_apply_acked(struct rb_js_consumer *consumer, const struct rb_command *command);

/* consumer_apply.c */
/** Memory was refused while a command was applied: what it would leave undone, a replay would do. The stream goes offline. */
void rb_js_consumer_give_up(struct rb_js_consumer *consumer);

/* consumer_ack.c */
/** Proposes the acks of this turn; false: it could not, they are kept. */
bool rb_js_consumer_flush_acks(struct rb_js_consumer *consumer);
/** Records that the consumer is done with a message: acked, terminated, gone. */
void rb_js_consumer_done_with(struct rb_js_consumer *consumer, uint64_t seq);
/** Takes the effect of one run, at apply. */
void rb_js_consumer_settle(struct rb_js_consumer *consumer, const struct rb_js_record_run *run,
                           uint64_t time_ns);
/** The message of this consumer sequence is done with and off the table: the floor may move. 0: look in any case. */
void rb_js_consumer_move_floor(struct rb_js_consumer *consumer, uint64_t consumer_seq);
/** Everything up to `seq` is acked (policies all and flow_control). */
void rb_js_consumer_ack_through(struct rb_js_consumer *consumer, uint64_t seq,
                                struct rb_slice reply);
/** Everything that waits for its ack is to be delivered again, in order: it went where nobody listens any more. */
void rb_js_consumer_expire_all(struct rb_js_consumer *consumer);
/** A message that waits for its ack was removed from the stream. */
void rb_js_consumer_lost(struct rb_js_consumer *consumer, struct rb_js_pending_entry *entry);
void rb_js_acks_free(struct rb_js_acks *acks);
/** Queues what is overdue; when to look again (monotonic), UINT64_MAX: never. */
uint64_t rb_js_consumer_overdue(struct rb_js_consumer *consumer);
static inline uint64_t rb_js_consumer_unacked(const struct rb_js_consumer *consumer)
{
    return consumer->inside->acks.live - consumer->inside->acks.acking;
}

/* consumer_pull.c */
/** A request for messages to `reply`. */
void rb_js_consumer_request(struct rb_js_consumer *consumer, struct rb_slice reply,
                            struct rb_slice body);
/** Of the special. */
bool rb_js_consumer_take_next(struct rb_account *account, void *ctx, const struct rb_msg *msg);
/** The request that is served next; NULL: none may be now. */
struct rb_js_request *rb_js_consumer_next_request(struct rb_js_consumer *consumer);
/** One message of `bytes` went to it. */
void rb_js_consumer_served(struct rb_js_consumer *consumer, struct rb_js_request *request,
                           uint64_t bytes);
/** Through an import nobody listens for its messages any more: it ends. True: it did. */
bool rb_js_consumer_end_unheard(struct rb_js_consumer *consumer, struct rb_js_request *request);
/** Ends a request with a status (empty: without), `fields` as its headers. */
void rb_js_consumer_end_request(struct rb_js_consumer *consumer, struct rb_js_request *request,
                                struct rb_slice line, bool with_rest);
/** There is nothing to deliver: requests that do not wait end. */
void rb_js_consumer_nothing_left(struct rb_js_consumer *consumer);
/** Ends what expired, sends heartbeats; when to look again. */
uint64_t rb_js_consumer_requests_due(struct rb_js_consumer *consumer);
/** Drops requests that nobody listens to any more. */
void rb_js_consumer_prune(struct rb_js_consumer *consumer);
void rb_js_consumer_end_requests(struct rb_js_consumer *consumer, struct rb_slice line);
static inline struct rb_slice rb_js_request_reply(const struct rb_js_request *request)
{
    return rb_slice_of(request->text, request->reply_len);
}
static inline struct rb_slice rb_js_request_pin(const struct rb_js_request *request)
{
    return rb_slice_of(request->text + request->reply_len, request->pin_len);
}

/* consumer_priority.c */
/** What a request asks of its group. */
struct rb_js_request_group {
    struct rb_slice group, id;
    int64_t min_pending, min_ack_pending, priority;
};
/** False: the request was refused, with a status. */
bool rb_js_consumer_check_group(struct rb_js_consumer *consumer, struct rb_slice reply,
                                const struct rb_js_request_group *group);
enum rb_js_eligible { RB_JS_ELIGIBLE, RB_JS_WAITS, RB_JS_WRONG_PIN };
enum rb_js_eligible rb_js_consumer_eligible(struct rb_js_consumer *consumer,
                                            struct rb_js_request *request);
/** The request gets the next message: it may become the pinned one. */
void rb_js_consumer_pin_to(struct rb_js_consumer *consumer, struct rb_js_request **request);
/** When the pin ends; UINT64_MAX: never. Ends it when it is time. */
uint64_t rb_js_consumer_pin_due(struct rb_js_consumer *consumer);
/** Empty: nobody is pinned. */
struct rb_slice rb_js_consumer_pinned(const struct rb_js_consumer *consumer);

/* consumer_push.c */
/** Is not told of interest in its deliver subject any more. */
void rb_js_consumer_unwatch(struct rb_js_consumer *consumer);
/** Sees to it that it is told of interest in its deliver subject, and looks who listens now. */
void rb_js_consumer_look_for_interest(struct rb_js_consumer *consumer);
/** May a message be sent now? */
bool rb_js_consumer_push_open(const struct rb_js_consumer *consumer);
void rb_js_consumer_pushed(struct rb_js_consumer *consumer, uint64_t bytes);
/** Asks for confirmation when there is reason to (ack policy flow_control, nothing to deliver or too much pending). */
void rb_js_consumer_flow_idle(struct rb_js_consumer *consumer);
/** Heartbeat of a push consumer; when to look again. */
uint64_t rb_js_consumer_beat_due(struct rb_js_consumer *consumer);

/* consumer_deliver.c */
/** Would send a message now, or end a request, if asked to run. */
bool rb_js_consumer_could_run(const struct rb_js_consumer *consumer);
