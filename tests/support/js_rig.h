/* js_rig.h - JetStream of one shard by hand: a core without connections, a simulated disk, virtual time. Tests publish as clients do
 * and see what would have been sent to them. */
#pragma once

#include "core/account.h"
#include "core/core.h"
#include "js/js.h"
#include "js/stream.h"

#define JS_RIG_LISTENERS 16
#define JS_RIG_LOGS 64
/** Account ids: "$G" is 0, "A" is 1. */
#define JS_RIG_ACCOUNTS 2

/** A message that somebody got. Texts are NUL-terminated copies. */
struct js_rig_message {
    struct js_rig_message *next;
    char *to, *subject, *reply; /* where it was sent, what is shown there */
    uint8_t *payload;           /* headers, then body; NUL behind */
    uint32_t header_len, len;
    const char *body; /* payload behind the headers */
};

struct js_rig {
    uint64_t now_ns, wall_offset_ns;
    struct rb_env env;
    struct rb_budget budget;
    struct rb_log log;
    struct rb_disk *disk;
    struct rb_core core;
    struct rb_account_table table;
    struct rb_account_shared accounts[RB_ACCOUNT_BLOCK];
    _Atomic uint64_t next_cid;
    _Atomic int64_t conn_count;
    struct rb_js_settings settings; /* to be changed before js_rig_open() */
    struct rb_js_limits limits;     /* of every account; after a change js_rig_accounts_changed() */
    struct rb_js_shared shared;
    uint64_t wal_file_bytes; /* 0: 4 MiB */
    uint32_t wal_files_max;  /* 0: 64 */
    struct rb_js *js;
    struct rb_account *account; /* the one that publish, listen and request use: "A" */
    struct rb_special listeners[JS_RIG_LISTENERS];
    uint32_t listener_count;
    struct js_rig_message *first, *last; /* what was heard, oldest first */
    uint32_t message_count;
    char logs[JS_RIG_LOGS][256]; /* warnings and errors */
    uint32_t log_count;
    uint64_t inbox; /* number of the last request */
    bool requesting;
    uint32_t inbox_heard;
};

/** A disk and a core; nothing is open yet. */
void js_rig_init(struct js_rig *rig, uint64_t seed);
/** Creates log and JetStream; they come up while turns are taken. */
void js_rig_start(struct js_rig *rig);
/** The same, and waits until it serves, or failed. */
void js_rig_open(struct js_rig *rig);
void js_rig_accounts_changed(struct js_rig *rig);
/** A turn of the shard begins now: clients' messages come before JetStream's part of it. */
void js_rig_begin(struct js_rig *rig);
/** One turn without moving the time; true if it did work. */
bool js_rig_turn(struct js_rig *rig);
/** Turns until nothing is under way; time moves as far as the disk needs. */
void js_rig_settle(struct js_rig *rig);
/** Lets time pass, with all timers on the way. */
void js_rig_advance(struct js_rig *rig, uint64_t ns);
/** Closes in order and frees JetStream; the disk stays for the next js_rig_open(). */
void js_rig_close(struct js_rig *rig);
/** The machine loses its power, or (power false) the process its life; what was heard stays. */
void js_rig_cut(struct js_rig *rig, bool power);
void js_rig_deinit(struct js_rig *rig);

/** Somebody subscribes; what comes is kept. */
void js_rig_listen(struct js_rig *rig, const char *subject);
/** `headers`: lines with CRLF ("A: b\r\n"), NULL: none. Not settled. */
void js_rig_publish(struct js_rig *rig, const char *subject, const char *reply, const char *headers,
                    const char *body);
void js_rig_publish_bytes(struct js_rig *rig, const char *subject, const char *reply,
                          uint32_t header_len, struct rb_slice payload);
/** Publishes, settles, gives the first answer: headers if any, then body. NULL: none came. Valid until js_rig_forget(). */
const struct js_rig_message *js_rig_request_message(struct js_rig *rig, const char *subject,
                                                    const char *headers, const char *body);
/** The same; its body. */
const char *js_rig_request(struct js_rig *rig, const char *subject, const char *headers,
                           const char *body);
/** Messages heard so far that were sent to `to`, or all (NULL). */
uint32_t js_rig_heard(const struct js_rig *rig, const char *to);
/** The n-th of them, from 0; NULL. */
const struct js_rig_message *js_rig_nth(const struct js_rig *rig, const char *to, uint32_t n);
void js_rig_forget(struct js_rig *rig);

struct rb_js_account *js_rig_js_account(struct js_rig *rig);
struct rb_js_stream *js_rig_stream(struct js_rig *rig, const char *name);
/**
 * Makes or updates a stream from its JSON and settles. The stream, or NULL: *ret_error (may be NULL) says why.
 */
struct rb_js_stream *js_rig_create(struct js_rig *rig, const char *json,
                                   struct rb_js_error *ret_error);
bool js_rig_update(struct js_rig *rig, const char *json, struct rb_js_error *ret_error);
/** rb_msgstore_get that waits for the disk. */
enum rb_err js_rig_get(struct js_rig *rig, struct rb_js_stream *stream, uint64_t seq,
                       struct rb_message *ret_message);
bool js_rig_delete(struct js_rig *rig, const char *name, struct rb_js_error *ret_error);
