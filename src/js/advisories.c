/* advisories.c - what the API tells those who watch: who asked what, what became of streams and consumers. */
#include <inttypes.h>
#include <stdio.h>

#include "base/nuid.h"
#include "core/account.h"
#include "js/api_inside.h"

#define SUBJECT_MAX (2 * RB_JS_NAME_MAX + 64)
#define AUDIT_SUBJECT RB_S("$JS.EVENT.ADVISORY.API")

/* `subject` is cut where names do not fit; names of streams and consumers always do. */
static void advise(struct rb_js_account *account, const char *subject, const char *type,
                   const struct rb_out *members)
{
    if (!members->failed) {
        rb_js_advise(account, rb_slice_text(subject), rb_slice_text(type), rb_out_slice(members));
    }
}

void rb_js_advise_audit(struct rb_js_request *request, struct rb_slice response)
{
    struct rb_js_account *account = request->account;
    if (!rb_account_wanted(account->account, AUDIT_SUBJECT)) {
        return;
    }
    struct rb_out members;
    rb_out_init(&members, request->js->budget);
    rb_out_put(&members, RB_S("\"server\":"));
    rb_out_string(&members, request->js->settings->server_name);
    if (request->client.len > 0) {
        rb_out_put(&members, RB_S(",\"client\":"));
        rb_out_put(&members, request->client);
    }
    rb_out_put(&members, RB_S(",\"subject\":"));
    rb_out_string(&members, request->subject);
    if (request->body.len > 0) {
        rb_out_put(&members, RB_S(",\"request\":"));
        rb_out_string(&members, request->body);
    }
    rb_out_put(&members, RB_S(",\"response\":"));
    rb_out_string(&members, response);
    advise(account, "$JS.EVENT.ADVISORY.API", "io.nats.jetstream.advisory.v1.api_audit", &members);
    rb_out_deinit(&members);
}

void rb_js_advise_limit(struct rb_js_account *account, uint64_t dropped)
{
    struct rb_js *js = account->js;
    struct rb_out members;
    rb_out_init(&members, js->budget);
    rb_out_put(&members, RB_S("\"server\":"));
    rb_out_string(&members, js->settings->server_name);
    rb_out_printf(&members, ",\"dropped\":%" PRIu64, dropped);
    if (!members.failed) {
        rb_js_advise_system(js, RB_S("$JS.EVENT.ADVISORY.API.LIMIT_REACHED"),
                            RB_S("io.nats.jetstream.advisory.v1.api_limit_reached"),
                            rb_out_slice(&members));
    }
    rb_out_deinit(&members);
}

void rb_js_advise_out_of_space(struct rb_js_stream *stream)
{
    struct rb_js *js = stream->account->js;
    struct rb_out members;
    rb_out_init(&members, js->budget);
    rb_out_put(&members, RB_S("\"server\":"));
    rb_out_string(&members, js->settings->server_name);
    rb_out_put(&members, RB_S(",\"server_id\":"));
    rb_out_string(&members, js->settings->server_id);
    rb_out_put(&members, RB_S(",\"stream\":"));
    rb_out_string(&members, stream->name);
    if (!members.failed) {
        rb_js_advise_system(js, RB_S("$JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE"),
                            RB_S("io.nats.jetstream.advisory.v1.server_out_of_space"),
                            rb_out_slice(&members));
    }
    rb_out_deinit(&members);
}

static const char *past(const char *action)
{
    return action[0] == 'c' ? "CREATED" : action[0] == 'd' ? "DELETED" : "UPDATED";
}

void rb_js_advise_stream(struct rb_js_stream *stream, const char *action)
{
    char subject[SUBJECT_MAX];
    struct rb_out members;
    (void)snprintf(subject, sizeof(subject), "$JS.EVENT.ADVISORY.STREAM.%s.%.*s", past(action),
                   RB_S_ARG(stream->name));
    rb_out_init(&members, stream->account->js->budget);
    rb_out_put(&members, RB_S("\"stream\":"));
    rb_out_string(&members, stream->name);
    rb_out_printf(&members, ",\"action\":\"%s\"", action);
    advise(stream->account, subject, "io.nats.jetstream.advisory.v1.stream_action", &members);
    rb_out_deinit(&members);
}

void rb_js_advise_consumer(struct rb_js_consumer *consumer, const char *action)
{
    char subject[SUBJECT_MAX];
    struct rb_out members;
    struct rb_js_account *account = consumer->stream->account;
    (void)snprintf(subject, sizeof(subject), "$JS.EVENT.ADVISORY.CONSUMER.%s.%.*s.%.*s",
                   past(action), RB_S_ARG(consumer->stream->name), RB_S_ARG(consumer->name));
    rb_out_init(&members, account->js->budget);
    rb_out_put(&members, RB_S("\"stream\":"));
    rb_out_string(&members, consumer->stream->name);
    rb_out_put(&members, RB_S(",\"consumer\":"));
    rb_out_string(&members, consumer->name);
    rb_out_printf(&members, ",\"action\":\"%s\"", action);
    advise(account, subject, "io.nats.jetstream.advisory.v1.consumer_action", &members);
    rb_out_deinit(&members);
}

void rb_js_advise_transfer(struct rb_js_account *account, enum rb_js_transfer_event event,
                           struct rb_slice stream, const struct rb_out *members)
{
    static const char *const subjects[] = { "SNAPSHOT_CREATE", "SNAPSHOT_COMPLETE",
                                            "RESTORE_CREATE", "RESTORE_COMPLETE" };
    static const char *const types[] = { "snapshot_create", "snapshot_complete", "restore_create",
                                         "restore_complete" };
    char subject[SUBJECT_MAX], type[96];
    (void)snprintf(type, sizeof(type), "io.nats.jetstream.advisory.v1.%s", types[event]);
    (void)snprintf(subject, sizeof(subject), "$JS.EVENT.ADVISORY.STREAM.%s.%.*s", subjects[event],
                   RB_S_ARG(stream));
    advise(account, subject, type, members);
}
