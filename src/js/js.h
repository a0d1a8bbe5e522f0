/* js.h - JetStream of one shard: accounts whose streams live here, their log, their store, the turn (docs/jetstream.md).
 *
 * All streams of an account live on one shard, its *home*: name spaces, overlaps and account limits are decided there without
 * asking anybody. Messages that clients of other shards publish come by mail like any other, since a stream is a subscription of
 * the server's own on its home shard.
 *
 * One turn (rb_js_turn): completions of disk -> log -> committed commands applied -> bodies loaded -> consumers deliver -> timers
 * -> proposals to the log, one write. Everything that clients send comes in between, through the specials of account.h.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/wheel.h"
#include "core/account.h"
#include "core/core.h"
#include "js/config.h"
#include "js/errors.h"
#include "js/pools.h"
#include "js/zone.h"
#include "ringbus/disk.h"
#include "ringbus/log.h"
#include "ringbus/metric.h"
#include "ringbus/msgstore.h"
#include "ringbus/storage.h"

/** An account's part of ack subjects with a domain. */
#define RB_JS_ACCOUNT_HASH_LEN 8

/** What Nats-Required-Api-Level is compared with. */
#define RB_JS_API_LEVEL 5

/** Purges of accounts that may be on their way at once. */
#define RB_JS_PURGES_MAX 16

struct rb_js;
struct rb_js_account;
struct rb_js_consumer;
struct rb_js_stream;

/** -1: none. Of an account, or of an account's tier. */
struct rb_js_limits {
    int64_t max_memory, max_storage, max_streams, max_consumers, max_ack_pending;
    int64_t memory_max_stream_bytes, storage_max_stream_bytes;
    bool max_bytes_required;
};
/** Of the server; fixed while it runs. Slices live as long as the node. */
struct rb_js_settings {
    int64_t max_memory, max_storage; /* of the server; -1: none */
    struct rb_slice domain;          /* empty: none */
    bool strict;
    bool lazy; /* sync_interval was given as a duration: acknowledge before the disk has it */
    int64_t max_ack_pending, max_request_batch, duplicate_window; /* of limits{}; 0: none */
    uint32_t max_buffered_msgs;                                   /* 0: 100,000 */
    uint64_t max_buffered_bytes;                                  /* 0: 128 MiB */
    uint32_t batch_inflight_per_stream, batch_inflight_total,
        batch_msgs;                     /* 0: 50 (fast: 1000), 1000 (fast: 50,000), 1000 */
    uint64_t batch_timeout_ns;          /* 0: 10 s */
    uint32_t requests_max, queries_max; /* in progress per account; 0: 10,000 */
    struct rb_slice server_name, server_id, version;
    uint64_t cache_bytes; /* 0: 64 MiB */
};
/** What all shards of a node share: any thread reads and adds. */
struct rb_js_shared {
    _Atomic int64_t memory, storage;                   /* bytes in use, whole server */
    _Atomic int64_t reserved_memory, reserved_storage; /* by max_bytes */
    _Atomic uint64_t api_total, api_errors;
    _Atomic int64_t streams, consumers, messages;
    _Atomic uint32_t batches, fast_batches;
    _Atomic bool out_of_space; /* a log found the disk full, and has no room again yet */
    /** Purges of accounts that their homes are to do: a random number mixed with the account's name; 0: free. */
    _Atomic uint64_t purges[RB_JS_PURGES_MAX];
};

struct rb_js_options {
    struct rb_core *core;
    const struct rb_js_settings *settings;
    struct rb_js_shared *shared;
    struct rb_disk *disk; /* of this shard's directory; completions come through rb_js_complete */
    /** Being opened (no event taken yet); js polls it from now on. rb_js_create takes it, rb_js_destroy destroys it. */
    struct rb_wal *log;
    /** Limits of an account by its id; false: JetStream is off for it. Asked again after a reload. */
    bool (*limits)(void *ctx, uint32_t account, struct rb_js_limits *ret_limits);
    /** The account's id by name, made when the configuration does not have it (any more); UINT32_MAX: refused. */
    uint32_t (*account_id)(void *ctx, struct rb_slice name);
    /** An account is at home on this shard. */
    bool (*is_home)(void *ctx, struct rb_slice name);
    void *ctx;
};
struct rb_js_stats {
    struct rb_counter publishes, acks, refused, delivered, redelivered, consumer_acks, api_total,
        api_errors;
    struct rb_histogram commit_ns; /* from proposal to durable */
};

enum rb_js_close_stage {
    RB_JS_CLOSE_WRITES,
    RB_JS_CLOSE_CHECKPOINTS,
    RB_JS_CLOSE_STORES,
    RB_JS_CLOSE_LOG,
};

/** Every timer in js->wheel is the `timer` of one of these; its kind is an enum rb_js_timer. */
struct rb_js_alarm {
    struct rb_timer timer;
    void *
        owner; /* CONSUMER: struct rb_js_consumer; STREAM: struct rb_js_stream; the rest: as their files say */
};

struct rb_js {
    struct rb_js_options options;
    struct rb_core *core;
    struct rb_env *env;
    struct rb_log *text_log;
    struct rb_budget *budget;
    const struct rb_js_settings *settings;
    struct rb_js_shared *shared;
    struct rb_wal *log;
    struct rb_disk *disk;
    struct rb_msgstore_home *store_home;
    struct rb_list accounts;     /* struct rb_js_account */
    struct rb_list groups_ready; /* struct rb_js_group.link: to be sent or committed this turn */
    struct rb_list ready;        /* struct rb_js_consumer.link: may have something to deliver */
    struct rb_list orphans;      /* requests whose account went before their outcome came (api.c) */
    struct rb_list stepping;     /* streams being made or dropped that the log had no room for */
    struct rb_wheel wheel;       /* alarms, of kind enum rb_js_timer */
    struct rb_zones zones;       /* that schedules named */
    struct rb_js_pools pools;    /* commands, ids, answers */
    struct rb_js_alarm checkpoint_alarm;
    struct rb_js_start *start; /* recover.c; NULL once everything is recovered */
    struct rb_js_home_writes
        *home_writes; /* home_state.c: what is put down for all streams, on its way */
    struct rb_js_home_read *home_read; /* recover.c: which ids were given out */
    uint64_t next_group,
        reserved_group; /* id of the next stream's group; ids below `reserved` are put down as used */
    uint64_t now_ns,
        wall_ns; /* of this turn of the shard; wall_ns never goes back within one life of the server */
    uint32_t opening;       /* stores and logs not ready yet */
    struct rb_list dropped; /* streams without a name whose end is not done yet */
    enum rb_js_close_stage close_stage;
    bool ready_to_serve, failed, closing, closed;
    bool log_opened, log_closing, log_closed, streams_directory;
    char failure[256]; /* why it cannot start */
    struct rb_js_stats stats;
};

enum rb_js_timer {
    RB_JS_TIMER_CONSUMER = 1, /* consumer.c: ack wait, heartbeat, pull expiry, inactivity, pause */
    RB_JS_TIMER_STREAM,       /* stream.c: expiry, dedup window */
    RB_JS_TIMER_CHECKPOINT,   /* recover.c */
    RB_JS_TIMER_API,          /* api: snapshot flow and the like */
    RB_JS_TIMER_SOURCE,
    RB_JS_TIMER_SCHEDULE, /* schedule.c: one is due */
};

/** What write->tag of a write to the log says. */
enum rb_js_write_tag {
    RB_JS_WRITE_ENTRY = 1, /* of a group (group.c) */
    RB_JS_WRITE_STREAM,    /* owner: struct rb_js_stream: made, dropped, prefix dropped */
    RB_JS_WRITE_HOME,      /* what concerns all streams (recover.c) */
};

/** One account's JetStream, on its home shard. */
struct rb_js_account {
    struct rb_list link;
    struct rb_js *js;
    struct rb_account *account;
    struct rb_js_limits limits;
    bool enabled;
    struct rb_list streams; /* struct rb_js_stream.link, by name */
    struct rb_list sources; /* struct rb_js_source.of_account */
    struct rb_map stream_map;
    struct rb_map watches; /* consumer_push.c: who waits for interest in which subject */
    uint32_t stream_count, consumer_count;
    int64_t memory, storage, reserved_memory, reserved_storage;
    uint64_t api_total, api_errors;
    void *api;                         /* api.c: its specials */
    char hash[RB_JS_ACCOUNT_HASH_LEN]; /* first byte 0: not known yet */
};

RB_MUST_CHECK enum rb_err rb_js_create(const struct rb_js_options *options, struct rb_js **ret_js);
/** A completion of the disk: its op->owner is the log, the store's home, or this. */
void rb_js_complete(struct rb_js *js, struct rb_disk_op *op);
/**
 * A turn of the shard begins, at `now_ns` of the core's clock: what clients send until the next one, and rb_js_turn, happen then.
 */
void rb_js_begin(struct rb_js *js, uint64_t now_ns);
/** One turn, after rb_js_begin; true if it did work. */
bool rb_js_turn(struct rb_js *js);
/** When rb_js_turn has work though nothing completed or arrived (core's clock); UINT64_MAX: never; now: at once. */
uint64_t rb_js_due(struct rb_js *js);
/** Accounts or their limits changed (start, reload, an account came up on this shard). */
void rb_js_accounts_changed(struct rb_js *js);
/** Interest in a subject of this account came or went anywhere on the node (push consumers look again). */
void rb_js_interest(struct rb_js *js, struct rb_account *account, struct rb_slice subject);
/** "recovering 1,200,000 of 3,000,000 messages" or empty once it serves. */
struct rb_slice rb_js_progress(struct rb_js *js, char *out, size_t cap);
/** Checkpoints everything and closes; rb_js_closed() says when. No proposals any more. */
void rb_js_close(struct rb_js *js);
bool rb_js_closed(const struct rb_js *js);
/** After rb_js_closed(), or when disk and store home lost their power (js->store_home was taken care of and is NULL). */
void rb_js_destroy(struct rb_js *js);

struct rb_js_account *rb_js_account_of(struct rb_js *js, const struct rb_account *account);
/** Makes it when needed; NULL: memory refused. */
struct rb_js_account *rb_js_account_need(struct rb_js *js, struct rb_account *account);

/** RB_JS_ACCOUNT_HASH_LEN letters and digits, from the account's name. Empty: it could not be made. */
struct rb_slice rb_js_account_hash(struct rb_js_account *account);

/**
 * Sends a message of the server to whoever subscribed to `to`, shown with subject `subject` there (empty: `to`). True if anybody
 * got it.
 */
bool rb_js_send(struct rb_js_account *account, struct rb_slice to, struct rb_slice subject,
                struct rb_slice reply, uint32_t header_len, struct rb_slice payload);
/** A status: "NATS/1.0 <line>\r\n<fields>\r\n", no body. `fields` are whole lines with CRLF, may be empty. */
void rb_js_send_status(struct rb_js_account *account, struct rb_slice to, struct rb_slice reply,
                       struct rb_slice line, struct rb_slice fields);
/** An advisory or metric: `members` are JSON members without the outer braces, behind type, id, timestamp. Nothing when nobody listens. */
void rb_js_advise(struct rb_js_account *account, struct rb_slice subject, struct rb_slice type,
                  struct rb_slice members);
/** The same in the system account, which has no JetStream of its own. */
void rb_js_advise_system(struct rb_js *js, struct rb_slice subject, struct rb_slice type,
                         struct rb_slice members);
