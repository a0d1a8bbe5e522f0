/* api_inside.h - what the files of the API share: requests in progress, their answers, who waits for bodies.
 *
 *   special -> dispatch (api.c) -> handler -> rb_js_answer_*()            at once
 *                                          -> change or wait -> finish()  later
 *
 * 1. A request is answered once, by rb_js_answer_send, rb_js_answer_error or rb_js_answer_code, which free it.
 * 2. What waits for the outcome of a change is freed when the outcome comes, whatever happened to its account meanwhile; what
 *    waits for a body, a timer or an acknowledgement is freed with its account or stream.
 */
#pragma once

#include "base/wheel.h"
#include "js/api.h"

/** Requests in progress of one account, and those that only ask, unless the server says otherwise; one more is dropped, and
 *  API.LIMIT_REACHED says so. */
#define RB_JS_REQUESTS_MAX 10000
/** Entries of one page. */
#define RB_JS_PAGE_NAMES 1024
#define RB_JS_PAGE_INFOS 256
#define RB_JS_PAGE_SUBJECTS 100000

struct rb_js_api;
struct rb_js_endpoint;
struct rb_js_request;

/** Whoever waits for a body begins with this: wait.owner points to it. */
struct rb_js_body_wait {
    struct rb_msgstore_wait wait;
    void (*loaded)(struct rb_js_body_wait *wait);
};
/** The same for timers of kind RB_JS_TIMER_API. */
struct rb_js_api_timed {
    struct rb_timer timer;
    void (*fired)(struct rb_js_api_timed *timed);
};

typedef void (*rb_js_finish)(struct rb_js_request *request, struct rb_js_stream *stream,
                             const struct rb_js_outcome *outcome);

struct rb_js_request {
    struct rb_list link; /* api->requests */
    struct rb_js *js;
    struct rb_js_account *account; /* NULL: it went while a change was under way */
    const struct rb_js_endpoint *endpoint;
    struct rb_slice subject;              /* without a domain */
    struct rb_slice name, consumer, rest; /* of the subject: stream, consumer, what follows */
    struct rb_slice reply, headers, body; /* copies, as all slices here */
    struct rb_slice client;               /* ClientInfo as JSON; empty: not known */
    struct rb_arena *arena;               /* of documents; made when needed */
    struct rb_js_change change;
    struct rb_js_body_wait wait;
    rb_js_finish finish;
    void *state;                  /* the handler's */
    struct rb_js_stream *reading; /* a body of this stream is waited for */
    size_t bytes;
};

enum rb_js_endpoint_flags {
    RB_JS_CLUSTER_ONLY = 1,    /* answered with E10010, nothing else is looked at */
    RB_JS_SYSTEM_ONLY = 2,     /* in the system account; others get no answer */
    RB_JS_NO_AUDIT = 4,        /* neither counted nor told to $JS.EVENT.ADVISORY.API */
    RB_JS_LATE = 8,            /* the handler asks itself whether JetStream is on */
    RB_JS_SILENT_UNKNOWN = 16, /* nobody answers for a stream or consumer that is not there */
    RB_JS_AUDIT_ERRORS = 64,   /* with NO_AUDIT: but for errors */
    RB_JS_QUERY = 32,          /* changes nothing: counted on its own */
};
struct rb_js_endpoint {
    const char *subject; /* behind "$JS.API."; '*' and a final '>' */
    const char *type;    /* without io.nats.jetstream.api.v1. and _response */
    const char *tail;    /* members that errors have too */
    uint32_t flags;
    void (*run)(struct rb_js_request *request);
};

/** What every list is asked with (Go: embedded). */
struct rb_js_paged {
    int64_t offset;
};
extern const struct rb_doc_type rb_js_paged_type;

/** An account's API, in account->api. */
struct rb_js_api {
    struct rb_js_account *account;
    struct rb_list requests;
    uint32_t request_count, query_count;     /* of all; of those that only ask */
    struct rb_list directs, gets, transfers; /* direct.c; snapshot.c and restore.c */
    uint32_t get_count, transfer_count;
    struct rb_map direct_map; /* by the stream's name */
    struct rb_out scratch;    /* messages being put together */
    uint64_t dropped;         /* since the last advisory */
    uint64_t dropped_told_ns;
    bool whole; /* every subject is listened to on its own; else JetStream is off here */
    uint32_t listen_count, listen_cap;
    struct rb_special *listens; /* [listen_cap] */
};

/** Made on first use; NULL: memory refused. */
struct rb_js_api *rb_js_api_of(struct rb_js_account *account);

/* Answers */

/** {"type":"..." */
void rb_js_answer_begin(struct rb_js_request *request, struct rb_out *out);
/** Closes the document, sends it (with `headers` when not empty), counts, tells the audit, frees request and text. */
void rb_js_answer_send(struct rb_js_request *request, struct rb_out *out, struct rb_slice headers);
void rb_js_answer_error(struct rb_js_request *request, const struct rb_js_error *error);
void rb_js_answer_code(struct rb_js_request *request, uint16_t code, const char *detail);
/** {"type":"...","success":true} */
void rb_js_answer_success(struct rb_js_request *request);
/** Without an answer. */
void rb_js_request_free(struct rb_js_request *request);

/* What handlers begin with; false or NULL: the request was answered */

/** The body as a document, in the mode of the server; `lenient`: unknown fields are always let through. */
bool rb_js_request_read(struct rb_js_request *request, const struct rb_doc_type *type, bool lenient,
                        void *doc);
/** As read, but a body that is no object or array is none: `doc` is initialised, and the answer is true. */
bool rb_js_request_read_optional(struct rb_js_request *request, const struct rb_doc_type *type,
                                 void *doc);
/** E10038 unless the body is empty or an empty object. */
bool rb_js_request_empty(struct rb_js_request *request);
/** Nothing, or an object without members. */
bool rb_js_body_is_empty(struct rb_slice body);
bool rb_js_request_enabled(struct rb_js_request *request);
struct rb_js_stream *rb_js_request_stream(struct rb_js_request *request);
struct rb_js_consumer *rb_js_request_consumer(struct rb_js_request *request);
/** Made on first use; NULL: answered. */
struct rb_arena *rb_js_request_arena(struct rb_js_request *request);
/** The change to pass on; `finish` is called with outcomes that are no errors. */
struct rb_js_change *rb_js_request_change(struct rb_js_request *request, rb_js_finish finish);
/** "Nats-Required-Api-Level" asks for more than this server has. */
bool rb_js_level_refused(struct rb_slice headers);

/* Handlers by file */
void rb_js_api_info(struct rb_js_request *request);
void rb_js_api_account_purge(struct rb_js_request *request);
/** What arrives in the account itself; anything that no system account asked for is ignored. */
void rb_js_api_purge_here(struct rb_js_account *account, struct rb_slice body);
void rb_js_api_stream_create(struct rb_js_request *request);
void rb_js_api_stream_update(struct rb_js_request *request);
void rb_js_api_stream_names(struct rb_js_request *request);
void rb_js_api_stream_list(struct rb_js_request *request);
void rb_js_api_stream_info(struct rb_js_request *request);
void rb_js_api_stream_delete(struct rb_js_request *request);
void rb_js_api_stream_purge(struct rb_js_request *request);
void rb_js_api_message_get(struct rb_js_request *request);
void rb_js_api_message_delete(struct rb_js_request *request);
void rb_js_api_consumer_create(struct rb_js_request *request);
void rb_js_api_consumer_create_legacy(struct rb_js_request *request);
void rb_js_api_consumer_create_durable(struct rb_js_request *request);
void rb_js_api_consumer_names(struct rb_js_request *request);
void rb_js_api_consumer_list(struct rb_js_request *request);
void rb_js_api_consumer_info(struct rb_js_request *request);
void rb_js_api_consumer_delete(struct rb_js_request *request);
void rb_js_api_consumer_pause(struct rb_js_request *request);
void rb_js_api_consumer_unpin(struct rb_js_request *request);
void rb_js_api_consumer_reset(struct rb_js_request *request);
void rb_js_api_snapshot(struct rb_js_request *request);
void rb_js_api_restore(struct rb_js_request *request);
/** End what goes on for a stream (NULL: for the whole account). */
void rb_js_gets_end(struct rb_js_api *api, const struct rb_js_stream *stream);
void rb_js_message_gets_end(struct rb_js_api *api, const struct rb_js_stream *stream);
void rb_js_directs_init(struct rb_js_api *api);
void rb_js_directs_close(struct rb_js_api *api);
void rb_js_transfers_end(struct rb_js_api *api, const struct rb_js_stream *stream);

/* Documents (documents.c) */
struct rb_js_info_options {
    bool deleted_details, dynamic_metadata, cluster;
    bool no_domain; /* answers to CREATE do not have it */
    bool subjects;  /* those that match `filter`, from the `offset`th on, one page */
    struct rb_slice filter;
    uint64_t offset;
};
void rb_js_write_info(struct rb_out *out, struct rb_js_stream *stream,
                      const struct rb_js_info_options *options);
/** {...} */
void rb_js_write_state(struct rb_out *out, struct rb_js_stream *stream,
                       const struct rb_js_info_options *options);
/** Of this incarnation of the stream: 8 letters and digits. */
void rb_js_stream_identity(const struct rb_js_stream *stream, char out[9]);
/** Base64 as JSON has it, quoted. */
void rb_out_base64(struct rb_out *out, struct rb_slice bytes);
/** As rb_out_time without quotes. */
void rb_out_plain_time(struct rb_out *out, int64_t time_ns);

/* Advisories (advisories.c) */
void rb_js_advise_audit(struct rb_js_request *request, struct rb_slice response);
void rb_js_advise_limit(struct rb_js_account *account, uint64_t dropped);
enum rb_js_transfer_event {
    RB_JS_SNAPSHOT_CREATE,
    RB_JS_SNAPSHOT_COMPLETE,
    RB_JS_RESTORE_CREATE,
    RB_JS_RESTORE_COMPLETE,
};
void rb_js_advise_transfer(struct rb_js_account *account, enum rb_js_transfer_event event,
                           struct rb_slice stream, const struct rb_out *members);
