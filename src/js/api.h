/* api.h - $JS.API: requests in, documents out; direct get; account information. */
#pragma once

#include "js/consumer.h"
#include "js/stream.h"

/**
 * Subscribes the account's API subjects, also under $JS.<domain>.API; again harmless, and needed when account->enabled changed: an
 * account without JetStream is told E10039.
 */
RB_MUST_CHECK enum rb_err rb_js_api_open(struct rb_js_account *account);
void rb_js_api_close(struct rb_js_account *account);
/** Requests whose account went and whose outcome never comes: the groups were abandoned. */
void rb_js_api_abandon(struct rb_js *js);
/** The direct get subjects of a stream, by its configuration; called when it serves, changes, goes. */
RB_MUST_CHECK enum rb_err rb_js_direct_open(struct rb_js_stream *stream);
void rb_js_direct_close(struct rb_js_stream *stream);
/** LOADED of a wait that the API made (wait->tag RB_JS_WAIT_API). */
void rb_js_api_loaded(struct rb_js *js, struct rb_msgstore_wait *wait);
void rb_js_api_timer(struct rb_js *js, struct rb_timer *timer);

/** Whose a wait for a body is. */
enum rb_js_wait_tag {
    RB_JS_WAIT_CONSUMER = 1,
    RB_JS_WAIT_API,
    RB_JS_WAIT_STREAM,
    RB_JS_WAIT_SCHEDULE,
};

/* Documents, for the API, advisories and the monitor. Each writes members without braces, no leading comma. */
void rb_js_write_stream_info(struct rb_out *out, struct rb_js_stream *stream, bool deleted_details,
                             bool dynamic_metadata);
void rb_js_write_stream_state(struct rb_out *out, struct rb_js_stream *stream,
                              bool deleted_details);
void rb_js_write_consumer_info(struct rb_out *out, struct rb_js_consumer *consumer,
                               bool dynamic_metadata);
void rb_js_write_account_info(struct rb_out *out, struct rb_js_account *account);
/** Advisories of the life of streams and consumers; action: "create", "modify", "delete". */
void rb_js_advise_stream(struct rb_js_stream *stream, const char *action);
void rb_js_advise_consumer(struct rb_js_consumer *consumer, const char *action);
/** To the system account: the disk has no room for what was published to `stream`. */
void rb_js_advise_out_of_space(struct rb_js_stream *stream);
