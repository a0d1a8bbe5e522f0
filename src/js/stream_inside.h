/* stream_inside.h - what the files of a stream share: stream, ingest, publish, batch, retention, change, stream_state, recover. */
#pragma once

#include "js/counter.h"
#include "js/dedup.h"
#include "js/expiry.h"
#include "js/msg_headers.h"
#include "js/schedule.h"
#include "js/source.h"
#include "js/stream.h"
#include "proto/transform.h"

/** Types of the states that a group keeps in the log. Never renumbered. */
enum rb_js_state_type {
    RB_JS_STATE_STREAM = 1,   /* key 0: what the stream was made as */
    RB_JS_STATE_NEXT = 2,     /* of RB_JS_HOME_GROUP, key 0: id of the next group */
    RB_JS_STATE_DROPPING = 3, /* of RB_JS_HOME_GROUP, key: group whose files are to be removed */
    RB_JS_STATE_OFFLINE = 4,  /* key 0: why the stream is not served any more */
};
/** The group that holds what concerns all streams of the log. */
#define RB_JS_HOME_GROUP 1u
#define RB_JS_STATE_VERSION 1u
#define RB_JS_DIRECTORY_MAX 48

/** One subject that a stream captures. */
struct rb_js_capture {
    struct rb_special special;
    struct rb_js_stream *stream;
};

/** Messages that go while the store is called: their consumers are told afterwards. */
struct rb_js_gone {
    struct rb_js_consumer *consumer;
    uint64_t seq;
};

struct rb_js_batch;

/** Commands of fast batches that were refused, by their index: those that depend on them are refused, too. */
struct rb_js_fast_refused {
    uint64_t *indexes; /* ascending */
    uint32_t count, cap;
};

/** Whose a store is, in its events: a stream's, or (NULL) files that are to be removed (recover.c). */
struct rb_js_store_owner {
    struct rb_js_stream *stream;
};

/** How far the making, closing or dropping of a stream is. */
struct rb_js_progress {
    bool logging, logged; /* its state, or its drop: written, durable */
    bool store_ready;     /* the store said OPENED */
    bool opening_store, closing, store_gone;
    bool marked; /* it is put down that its files are to be removed */
    enum rb_err err;
};

struct rb_js_stream_inside {
    bool damaged;   /* the store said so since it was opened */
    bool restoring; /* its next configuration ends a restore */
    struct rb_js_stream *stream;
    struct rb_js_store_owner store_owner;
    /* from the configuration */
    struct rb_js_capture *captures;
    uint32_t capture_count;
    struct rb_special acks[2], flows[2]; /* both forms of their subjects */
    bool listening;
    struct rb_transform *transform, *republish; /* NULL: none */
    struct rb_slice ack_head;                   /* of a PubAck, up to the number; allocated */
    int64_t reserved;                           /* counted in the account */
    /* what commands made of it, and the checkpoint keeps */
    uint64_t clock_ns; /* latest time of a command */
    struct rb_slice last_msg_id;
    struct rb_js_dedup dedup;
    struct rb_js_expiry expiry;
    struct rb_js_places places;
    struct rb_js_schedules schedules;
    struct rb_js_counters counters; /* empty unless the stream counts */
    struct rb_js_fast_refused fast_refused;
    /* the rest */
    uint64_t counted_bytes,
        counted_messages; /* of the store's state, in the sums of account and server */
    struct rb_js_gone *gone;
    uint32_t gone_count, gone_cap;
    bool gone_all;                       /* too many: all consumers look anew */
    bool wants_subjects;                 /* the store tells subjects with what it removes */
    const struct rb_js_consumer *acking; /* its ack removes: it is not told */
    struct rb_js_outcome outcome;
    uint64_t refused;
    struct rb_js_alarm alarm;
    struct rb_js_waiter expire_waiter;
    bool expiring;
    uint64_t fired_ns; /* when the alarm last fired */
    /* life */
    struct rb_js_progress progress;
    struct rb_list drop_link;     /* in js->dropped: it has no name any more */
    struct rb_list step_link;     /* in js->stepping: rb_js_stream_step is to be called again */
    struct rb_js_change *waiting; /* for the stream to be made, or to be gone */
    struct rb_wal_write write, prefix_write;
    bool checkpointing, checkpoint_again;
    uint64_t log_bytes_before, checkpoint_failed_ns;
    struct rb_js_recovery *recovery;
    /* what is pulled */
    struct rb_list sources; /* struct rb_js_source, as configured; ended ones behind them */
    bool sources_held;
    /* batches */
    struct rb_list batches; /* struct rb_js_batch, oldest activity first */
    uint32_t batch_count;
    struct rb_list fast;       /* struct rb_js_fast, oldest activity first */
    struct rb_list fast_ended; /* those whose commands are not all applied */
    struct rb_map fast_map;
};

/* stream.c */
bool rb_js_name_valid(struct rb_slice name); /* stream_rules.c */
/** What depends on others: account and server limits, overlaps. `but`: the stream that is updated, or NULL. */
bool rb_js_stream_room_check(struct rb_js_account *account,
                             const struct rb_js_stream_config *config,
                             const struct rb_js_stream *but, struct rb_js_error *error);
/** A stream in phase OPENING, linked into the account, `config` copied. Errors: RB_ERR_MEMORY, RB_ERR_INVALID (a transform). */
RB_MUST_CHECK enum rb_err rb_js_stream_make(struct rb_js_account *account, uint64_t group,
                                            uint64_t created_ns,
                                            const struct rb_js_stream_config *config,
                                            struct rb_js_stream **ret_stream);
RB_MUST_CHECK enum rb_err rb_js_stream_open_store(struct rb_js_stream *stream);
void rb_js_stream_directory(uint64_t group, char out[RB_JS_DIRECTORY_MAX]);
/** Takes it out of the account's names and frees it; its store is gone, nothing waits. */
void rb_js_stream_free(struct rb_js_stream *stream);
/** No name of the account leads to it any more. */
void rb_js_stream_unname(struct rb_js_stream *stream);
/** A stream that exists by that name in whatever phase, but for DELETING. */
struct rb_js_stream *rb_js_stream_any(struct rb_js_account *account, struct rb_slice name);
void rb_js_stream_go_offline(struct rb_js_stream *stream, const char *why);
/** Takes a new configuration (in `arena`, which it takes over on success). */
RB_MUST_CHECK enum rb_err rb_js_stream_set_config(struct rb_js_stream *stream,
                                                  struct rb_arena *arena,
                                                  const struct rb_js_stream_config *config);
/** Parses what a CONFIG command or a state holds. */
RB_MUST_CHECK enum rb_err rb_js_stream_read_config(struct rb_slice json,
                                                   struct rb_arena **ret_arena,
                                                   struct rb_js_stream_config **ret_config);
/** Closes its consumers; they get `line`. */
void rb_js_stream_close_consumers(struct rb_js_stream *stream, struct rb_slice line);
/** Group callback. */
void rb_js_stream_apply(void *owner, const struct rb_command *command, uint64_t index,
                        const void **ret_outcome);

/* ingest.c */
RB_MUST_CHECK enum rb_err rb_js_stream_listen(struct rb_js_stream *stream);
void rb_js_stream_unlisten(struct rb_js_stream *stream);
/** Sends the PubAck of an outcome. `batch` empty: none. */
void rb_js_stream_answer(struct rb_js_stream *stream, struct rb_slice reply,
                         const struct rb_js_outcome *outcome, struct rb_slice batch,
                         uint64_t count);
/** The answer to a proposal that was refused. */
void rb_js_stream_refuse(struct rb_js_stream *stream, struct rb_slice reply, enum rb_err err);
/** Sets the error of a proposal that was refused, or failed. */
void rb_js_stream_error(struct rb_js_error *error, enum rb_err err);
/** Fills a PUBLISH command of a message with its time and the flags of account and server limits. */
void rb_js_stream_stamp(struct rb_js_stream *stream, struct rb_command *command);

/* publish.c */
void rb_js_publish_apply(struct rb_js_stream *stream, const struct rb_command *command,
                         struct rb_js_outcome *outcome);
void rb_js_publish_batch(struct rb_js_stream *stream, const struct rb_command *command,
                         struct rb_js_outcome *outcome);
/** Stores a marker of the server's own. */
void rb_js_publish_marker(struct rb_js_stream *stream, struct rb_slice subject, uint64_t time_ns);
/** The command's time, never before that of an earlier one. */
uint64_t rb_js_stream_clock(struct rb_js_stream *stream, const struct rb_command *command);

/* batch.c */
/** A message with Nats-Batch-Id arrived; `headers` of it. */
void rb_js_batch_take(struct rb_js_stream *stream, struct rb_slice subject, struct rb_slice reply,
                      struct rb_slice payload, uint32_t header_len,
                      const struct rb_js_headers *headers);
/** Gives up every open batch, silently. */
void rb_js_batches_drop(struct rb_js_stream *stream);
/** Abandons what is too old; when the next one will be (UINT64_MAX: none), by js->now_ns. */
uint64_t rb_js_batches_due(struct rb_js_stream *stream);

/* fast_batch.c */
void rb_js_fast_init(struct rb_js_stream *stream);
/** Nothing of a batch waits for the log any more. */
void rb_js_fast_deinit(struct rb_js_stream *stream);
/** Such a reply subject is of a fast batch, valid or not. */
bool rb_js_fast_is(struct rb_slice reply);
/** A message with such a reply subject arrived; it may be proposed. `headers` NULL: it has none. */
void rb_js_fast_take(struct rb_js_stream *stream, struct rb_slice subject, struct rb_slice reply,
                     struct rb_slice payload, uint32_t header_len,
                     const struct rb_js_headers *headers);
/** Ends every batch, silently; one that has messages on their way to the log when those are stored. */
void rb_js_fast_drop(struct rb_js_stream *stream);
/** Ends what was silent too long; when the next one will be (UINT64_MAX: none), by js->now_ns. */
uint64_t rb_js_fast_due(struct rb_js_stream *stream);
void rb_js_fast_apply(struct rb_js_stream *stream, const struct rb_command *command,
                      struct rb_js_headers *headers, struct rb_js_outcome *outcome);
void rb_js_fast_save(const struct rb_js_stream *stream, struct rb_out *out);
RB_MUST_CHECK enum rb_err rb_js_fast_load(struct rb_js_stream *stream, struct rb_reader *reader);

/* retention.c */
void rb_js_removed(void *owner, uint64_t seq, uint64_t bytes, struct rb_slice subject);
/** Tells consumers what went since the last call, and counts what the store holds now. After every change of the store. */
void rb_js_stream_settle(struct rb_js_stream *stream);
/** Enforces the limits of the configuration. `subject` empty: of all subjects. */
void rb_js_stream_limit(struct rb_js_stream *stream, struct rb_slice subject);
/** What it holds counts no more. */
void rb_js_stream_uncount(struct rb_js_stream *stream);
/** A message was stored: tells consumers. */
void rb_js_stream_announce(struct rb_js_stream *stream, struct rb_slice subject, uint64_t seq);
/** True: some consumer's filters match. */
bool rb_js_stream_wanted(struct rb_js_stream *stream, struct rb_slice subject);
void rb_js_stream_expire(struct rb_js_stream *stream, uint64_t now_ns);
/** Every consumer looks anew; forgets what waited to be told. */
void rb_js_stream_purged(struct rb_js_stream *stream);
/** After retention became interest. */
void rb_js_stream_reconsider(struct rb_js_stream *stream);
void rb_js_stream_arm(struct rb_js_stream *stream);

/* change.c */
void rb_js_change_end(struct rb_js_change *change, struct rb_js_stream *stream,
                      const struct rb_js_outcome *outcome);
/** Ends those who wait for the stream to be made, or to be gone, with an error: it is freed in the middle of that. */
void rb_js_change_abandon(struct rb_js_stream *stream);
void rb_js_delete_apply(struct rb_js_stream *stream, const struct rb_command *command,
                        struct rb_js_outcome *outcome);
void rb_js_purge_apply(struct rb_js_stream *stream, const struct rb_command *command,
                       struct rb_js_outcome *outcome);
void rb_js_config_apply(struct rb_js_stream *stream, const struct rb_command *command,
                        struct rb_js_outcome *outcome);
/** Names go, then the log's part, then the files; frees it in the end. */
void rb_js_stream_drop(struct rb_js_stream *stream);
/** Its state or its drop was written, its store opened or went: the next step of its life. */
void rb_js_stream_step(struct rb_js_stream *stream);

/* recover.c */
struct rb_js_recovery;
RB_MUST_CHECK enum rb_err rb_js_recover_create(struct rb_js *js);
void rb_js_recover_deinit(struct rb_js *js);
/** The log is open: begins to read what it has. */
void rb_js_recover_begin(struct rb_js *js);
/** Goes on with streams that wait for their turn. */
void rb_js_recover_turn(struct rb_js *js);
/** Nothing is under way. */
bool rb_js_recover_idle(const struct rb_js *js);
struct rb_slice rb_js_recover_progress(struct rb_js *js, char *out, size_t cap);
void rb_js_recover_read(struct rb_js *js, struct rb_wal_read *read);
void rb_js_recover_disk(struct rb_js *js, struct rb_disk_op *op);
void rb_js_recover_store_opened(struct rb_js_stream *stream, enum rb_err err);
/** The store that was of no use is gone: an empty one takes its place. */
void rb_js_recover_store_closed(struct rb_js_stream *stream);
void rb_js_recover_damage(struct rb_js *js, const struct rb_wal_damage *damage);

/* home_state.c */
/** Takes an id for a new group; that it is used is put down. RB_ERR_FULL: again in the next turn. */
RB_MUST_CHECK enum rb_err rb_js_recover_next_group(struct rb_js *js, uint64_t *ret_group);
/** Puts down that the files of a group are to be removed; before its drop is written. */
RB_MUST_CHECK enum rb_err rb_js_recover_dropping(struct rb_js *js, uint64_t group);
/** They are gone. */
void rb_js_recover_dropped(struct rb_js *js, uint64_t group);
/** Puts down that a stream is not served any more; rb_wal_damage_handled follows when the last one is durable. */
void rb_js_recover_put_offline(struct rb_js *js, uint64_t group, const char *why);
/** All decisions about the damage that was found have been put down. */
void rb_js_recover_decided(struct rb_js *js);
void rb_js_recover_home_written(struct rb_js *js, struct rb_wal_write *write);
/** Opens and removes the files of a group that was dropped before. */
RB_MUST_CHECK enum rb_err rb_js_recover_remove_files(struct rb_js *js, uint64_t group);
/** An event of such a store. */
void rb_js_recover_orphan(struct rb_js *js, struct rb_js_store_owner *owner,
                          const struct rb_msgstore_event *event);
bool rb_js_home_idle(const struct rb_js *js);
void rb_js_home_deinit(struct rb_js *js);

/* checkpoint.c */
void rb_js_checkpoint_timer(struct rb_js *js);
/** Begins one when it is due; `force`: in any case. */
void rb_js_checkpoint(struct rb_js_stream *stream, bool force);
void rb_js_checkpointed(struct rb_js_stream *stream, const struct rb_msgstore_event *event);
