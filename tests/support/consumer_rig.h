/* consumer_rig.h - consumers on a stream that is not there: its store is the model, its group a list of commands that the test
 * commits, its clients a list of what was sent.
 *
 * The functions of stream.h, js.h and account.h that consumers call are defined in consumer_rig.c, so a test that links it must not
 * use the real ones.
 */
#pragma once

#include "js/consumer.h"
#include "js/consumer_inside.h"
#include "msgstore_model.h"

#define RIG_MS UINT64_C(1000000)
#define RIG_SECOND UINT64_C(1000000000)

struct rig_sent {
    char *to, *subject, *reply;
    uint32_t header_len, len;
    uint8_t *bytes;
    uint64_t at_ns;
    /* of messages with an ack subject */
    uint64_t count, stream_seq, consumer_seq, pending;
};
struct rig_command {
    uint8_t type;
    uint8_t *bytes;
    size_t len;
    struct rb_js_waiter *waiter;
};

struct rig {
    struct rb_budget budget;
    struct rb_env env;
    struct rb_js js;
    struct rb_js_settings settings;
    struct rb_js_shared shared;
    struct rb_account core_account;
    struct rb_js_account account;
    struct rb_js_stream stream;
    struct rb_js_stream_config config;
    struct rb_slice subjects[1];
    struct rb_msgstore_home *home;
    struct rig_command *commands;
    uint32_t command_count, command_cap, committed;
    struct rig_sent *sent;
    uint32_t sent_count, sent_cap, seen;
    char *listening[64]; /* "subject" or "subject queue" */
    uint32_t listening_count;
    uint64_t acked_count, released_count, refiltered_count; /* calls */
    char offline[160];                                      /* why the stream was taken offline */
    bool importer_gone; /* nobody listens behind "_R_." any more */
    uint64_t last_acked;
    struct rb_slice removing; /* a consumer whose ack removes a message */
    enum rb_err refuse;       /* what propose answers; RB_OK: takes */
    bool hold;                /* turns do not commit */
    bool quiet;               /* what is sent is counted only (benchmarks) */
    uint64_t quiet_count;
    uint32_t run_max; /* messages per run; 0: 256 */
    /* of the last change */
    struct rb_js_error error;
    struct rb_js_consumer *consumer;
    uint64_t changed_seq;
    uint32_t changes;
    /* a call from within rb_js_send */
    void (*on_send)(struct rig *rig, const struct rig_sent *sent);
};

struct rig *rig_create(void);
void rig_destroy(struct rig *rig);
/** Somebody subscribes; `queue` NULL: plainly. */
void rig_listen(struct rig *rig, const char *subject, const char *queue);
void rig_unlisten(struct rig *rig, const char *subject);
/** Stores a message, tells consumers. Its sequence. */
uint64_t rig_publish(struct rig *rig, const char *subject, const char *body);
uint64_t rig_publish_headers(struct rig *rig, const char *subject, const char *headers,
                             const char *body);
/** Removes a message, tells consumers. */
bool rig_remove(struct rig *rig, uint64_t seq);
void rig_purge(struct rig *rig, const char *filter, uint64_t below, uint64_t keep);
/** Creates or updates; NULL: rig->error. */
struct rb_js_consumer *rig_consumer(struct rig *rig, const char *config);
struct rb_js_consumer *rig_consumer_action(struct rig *rig, const char *config,
                                           enum rb_js_consumer_action action, bool pedantic);
/** Turns until nothing happens any more. */
void rig_turn(struct rig *rig);
/** Commits what was proposed. */
void rig_commit(struct rig *rig);
/** Time passes, in steps that timers need. */
void rig_pass(struct rig *rig, uint64_t ns);
/** A pull request, and a turn. */
void rig_pull(struct rig *rig, struct rb_js_consumer *consumer, const char *reply,
              const char *body);
void rig_request(struct rig *rig, struct rb_js_consumer *consumer, const char *reply,
                 const char *headers, const char *body);
/** Acks a message that was sent, without a turn. */
void rig_ack(struct rig *rig, struct rb_js_consumer *consumer, const struct rig_sent *sent,
             const char *verb, const char *reply);
/** The next thing sent that was not looked at; NULL: none. */
const struct rig_sent *rig_next(struct rig *rig);
/** Forgets what was sent. */
void rig_forget(struct rig *rig);
/** The next thing is a status with this line, and has these headers in it (NULL: any). */
void rig_expect_status(struct rig *rig, const char *to, const char *line, const char *headers);
/** The next thing is message `stream_seq`, the `count`th delivery. */
const struct rig_sent *rig_expect_message(struct rig *rig, const char *to, uint64_t stream_seq,
                                          uint64_t count);
void rig_expect_nothing(struct rig *rig);
/** An advisory or metric whose subject begins so is next; its text. */
const char *rig_expect_advice(struct rig *rig, const char *subject);
/** True: some sent thing not looked at has this subject and text in it. */
bool rig_saw(struct rig *rig, const char *to, const char *text);
/**
 * Ends this life and begins the next: consumers are loaded from what rb_js_consumer_save wrote when `checkpoint` commands were
 * committed, and the commands behind it are applied.
 */
void rig_checkpoint(struct rig *rig, struct rb_out *out, uint32_t *ret_committed);
void rig_restart(struct rig *rig, const struct rb_out *checkpoint, uint32_t committed);
/** What is not delivered yet by the filters, counted the long way. */
uint64_t rig_naive_pending(struct rig *rig, struct rb_js_consumer *consumer);
