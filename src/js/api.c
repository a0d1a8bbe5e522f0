/* api.c - $JS.API of an account: which subject is whose, what every request has in common.
 *
 * Subjects that this server serves elsewhere (DIRECT.GET per stream, MSG.NEXT by consumers) are not listened to here, so that a
 * stream or consumer that is not there gives the core's "no responders". All others are, also those that nobody knows: they stay
 * without an answer. An account without JetStream has one subscription for everything, and is told so.
 */
#include "js/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/account.h"
#include "core/conn.h"
#include "js/api_inside.h"
#include "proto/gojson.h"
#include "proto/header.h"
#include "proto/subject.h"

#define CLIENT_INFO_MAX 4096
#define DOMAIN_MAX 255

#define PAGED_TAIL ",\"total\":0,\"offset\":0,\"limit\":0"

static const struct rb_js_endpoint endpoints[] = {
    { "INFO", "account_info", "", RB_JS_QUERY, rb_js_api_info },
    { "STREAM.CREATE.*", "stream_create", "", 0, rb_js_api_stream_create },
    { "STREAM.UPDATE.*", "stream_update", "", 0, rb_js_api_stream_update },
    { "STREAM.NAMES", "stream_names", PAGED_TAIL ",\"streams\":null", RB_JS_QUERY,
      rb_js_api_stream_names },
    { "STREAM.LIST", "stream_list", PAGED_TAIL ",\"streams\":[]", RB_JS_QUERY,
      rb_js_api_stream_list },
    { "STREAM.INFO.*", "stream_info", PAGED_TAIL, RB_JS_QUERY, rb_js_api_stream_info },
    { "STREAM.DELETE.*", "stream_delete", "", 0, rb_js_api_stream_delete },
    { "STREAM.PURGE.*", "stream_purge", ",\"purged\":0", 0, rb_js_api_stream_purge },
    { "STREAM.MSG.GET.*", "stream_msg_get", "", RB_JS_NO_AUDIT | RB_JS_AUDIT_ERRORS | RB_JS_QUERY,
      rb_js_api_message_get },
    { "STREAM.MSG.DELETE.*", "stream_msg_delete", "", 0, rb_js_api_message_delete },
    { "STREAM.SNAPSHOT.*", "stream_snapshot", "", 0, rb_js_api_snapshot },
    { "STREAM.RESTORE.*", "stream_restore", ",\"deliver_subject\":\"\"", 0, rb_js_api_restore },
    { "STREAM.LEADER.STEPDOWN.*", "stream_leader_stepdown", "", RB_JS_CLUSTER_ONLY, NULL },
    { "STREAM.PEER.REMOVE.*", "stream_remove_peer", "", RB_JS_CLUSTER_ONLY, NULL },
    { "STREAM.PEER.EVACUATE.*", "stream_evacuate_peer", "", RB_JS_CLUSTER_ONLY, NULL },
    { "STREAM.CANCEL_MOVE.*", "stream_cancel_move", "", RB_JS_CLUSTER_ONLY, NULL },
    { "CONSUMER.CREATE.*", "consumer_create", "", RB_JS_LATE, rb_js_api_consumer_create_legacy },
    { "CONSUMER.CREATE.*.*", "consumer_create", "", RB_JS_LATE, rb_js_api_consumer_create },
    { "CONSUMER.CREATE.*.*.>", "consumer_create", "", RB_JS_LATE, rb_js_api_consumer_create },
    { "CONSUMER.DURABLE.CREATE.*.*", "consumer_create", "", RB_JS_LATE,
      rb_js_api_consumer_create_durable },
    { "CONSUMER.NAMES.*", "consumer_names", PAGED_TAIL ",\"consumers\":[]", RB_JS_QUERY,
      rb_js_api_consumer_names },
    { "CONSUMER.LIST.*", "consumer_list", PAGED_TAIL ",\"consumers\":[]", RB_JS_QUERY,
      rb_js_api_consumer_list },
    { "CONSUMER.INFO.*.*", "consumer_info", "", RB_JS_LATE | RB_JS_QUERY, rb_js_api_consumer_info },
    { "CONSUMER.DELETE.*.*", "consumer_delete", "", 0, rb_js_api_consumer_delete },
    { "CONSUMER.PAUSE.*.*", "consumer_pause",
      ",\"paused\":false,\"pause_until\":\"0001-01-01T00:00:00Z\"", 0, rb_js_api_consumer_pause },
    { "CONSUMER.UNPIN.*.*", "consumer_unpin", "", RB_JS_LATE, rb_js_api_consumer_unpin },
    { "CONSUMER.RESET.*.*", "consumer_reset", ",\"reset_seq\":0",
      RB_JS_LATE | RB_JS_SILENT_UNKNOWN | RB_JS_NO_AUDIT, rb_js_api_consumer_reset },
    { "CONSUMER.LEADER.STEPDOWN.*.*", "consumer_leader_stepdown", "", RB_JS_CLUSTER_ONLY, NULL },
    { "ACCOUNT.PURGE.*", "account_purge", ",\"initiated\":false", RB_JS_SYSTEM_ONLY | RB_JS_LATE,
      rb_js_api_account_purge },
};
/* What the system account, which has no streams, is told about everything of an account. */
static const struct rb_js_endpoint of_system = { "", "system", "", RB_JS_NO_AUDIT, NULL };

static const struct rb_doc_field paged_fields[] = {
    { "offset", RB_DOC_INT, 0, offsetof(struct rb_js_paged, offset) },
};
const struct rb_doc_type rb_js_paged_type = { "ApiPagedRequest", sizeof(struct rb_js_paged),
                                              paged_fields, 1 };

/* What is listened to, behind "$JS.API." or "$JS.<domain>.API.". */
static const char *const listened[] = {
    "*",
    "STREAM.>",
    "CONSUMER.*",
    "CONSUMER.CREATE.>",
    "CONSUMER.DURABLE.>",
    "CONSUMER.NAMES.>",
    "CONSUMER.LIST.>",
    "CONSUMER.INFO.>",
    "CONSUMER.DELETE.>",
    "CONSUMER.PAUSE.>",
    "CONSUMER.UNPIN.>",
    "CONSUMER.RESET.>",
    "CONSUMER.LEADER.>",
    "META.>",
    "SERVER.>",
    "ACCOUNT.>",
};
#define LISTENED (sizeof(listened) / sizeof(listened[0]))

/* ---- requests ---- */

static void uncount(struct rb_js_api *api, const struct rb_js_request *request)
{
    api->request_count--;
    api->query_count -= (request->endpoint->flags & RB_JS_QUERY) != 0;
}

void rb_js_request_free(struct rb_js_request *request)
{
    rb_msgstore_forget(&request->wait.wait);
    rb_list_remove(&request->link);
    if (request->account != NULL) {
        uncount(request->account->api, request);
    }
    if (request->arena != NULL) {
        rb_arena_destroy(request->arena);
    }
    rb_free(request->js->budget, request, request->bytes);
}

static struct rb_slice copy_into(struct rb_writer *out, struct rb_slice from)
{
    struct rb_slice copy = rb_slice_of(out->at, from.len);
    rb_write_slice(out, from);
    return copy;
}

/* Who asks: the connection, what its shard says of it, or what came with a request from another account. */
static struct rb_slice client_of(const struct rb_msg *msg, uint8_t *out, size_t cap)
{
    if (msg->from != NULL) {
        return rb_slice_of(out, rb_conn_client_info(msg->from, true, out, cap));
    }
    if (msg->sender.len > 0) {
        return msg->sender;
    }
    struct rb_slice headers = rb_slice_of(msg->payload.ptr, msg->header_len);
    struct rb_slice info =
        headers.len == 0 ? headers : rb_header_get(headers, RB_S("Nats-Request-Info"));
    char why[RB_GOJSON_ERROR_MAX];
    if (info.len < 2 || info.ptr[0] != '{' || !rb_gojson_valid(info, why)) {
        return rb_slice_of(NULL, 0);
    }
    return info;
}

/* Puts the tokens behind the endpoint's words into name, consumer and rest: the last '*' tokens of its subject. */
static void split_names(struct rb_js_request *request, struct rb_slice path)
{
    struct rb_slice *into[] = { &request->name, &request->consumer };
    const char *pattern = request->endpoint->subject;
    struct rb_tokens tokens = rb_tokens_over(path);
    struct rb_tokens words = rb_tokens_over(rb_slice_text(pattern));
    struct rb_slice token, word;
    for (uint32_t count = 0; rb_tokens_next(&words, &word) && rb_tokens_next(&tokens, &token);) {
        if (rb_slice_equal(word, RB_S(">"))) {
            request->rest = rb_slice_of(token.ptr, (size_t)(path.ptr + path.len - token.ptr));
            return;
        }
        if (rb_slice_equal(word, RB_S("*"))) {
            *into[count++] = token;
        }
    }
}

static struct rb_js_request *request_create(struct rb_js_api *api,
                                            const struct rb_js_endpoint *endpoint,
                                            const struct rb_msg *msg, struct rb_slice path)
{
    struct rb_js *js = api->account->js;
    uint8_t info[CLIENT_INFO_MAX];
    struct rb_slice client = client_of(msg, info, sizeof(info));
    struct rb_slice prefix = RB_S("$JS.API.");
    size_t extra = prefix.len + path.len + msg->reply.len + msg->payload.len + client.len;
    struct rb_js_request *request = rb_alloc(js->budget, sizeof(*request) + extra);
    if (request == NULL) {
        return NULL;
    }
    struct rb_writer out = rb_writer_over(request + 1, extra);
    request->bytes = sizeof(*request) + extra;
    request->js = js;
    request->account = api->account;
    request->endpoint = endpoint;
    request->subject = rb_slice_of(copy_into(&out, prefix).ptr, prefix.len + path.len);
    split_names(request, copy_into(&out, path));
    request->reply = copy_into(&out, msg->reply);
    struct rb_slice payload = copy_into(&out, msg->payload);
    request->headers = rb_slice_of(payload.ptr, msg->header_len);
    request->body = rb_slice_of(payload.ptr + msg->header_len, payload.len - msg->header_len);
    request->client = copy_into(&out, client);
    rb_list_append(&api->requests, &request->link);
    api->request_count++;
    api->query_count += (endpoint->flags & RB_JS_QUERY) != 0;
    return request;
}

static void change_done(struct rb_js_change *change, struct rb_js_stream *stream,
                        const struct rb_js_outcome *outcome)
{
    struct rb_js_request *request = RB_CONTAINER(change, struct rb_js_request, change);
    if (request->account == NULL) {
        rb_js_request_free(request); /* rule 2 of api_inside.h */
    } else if (outcome->error.code != 0) {
        rb_js_answer_error(request, &outcome->error);
    } else {
        request->finish(request, stream, outcome);
    }
}

struct rb_js_change *rb_js_request_change(struct rb_js_request *request, rb_js_finish finish)
{
    request->finish = finish;
    request->change.done = change_done;
    return &request->change;
}

/* ---- answers ---- */

void rb_js_answer_begin(struct rb_js_request *request, struct rb_out *out)
{
    rb_out_init(out, request->js->budget);
    rb_out_printf(out, "{\"type\":\"io.nats.jetstream.api.v1.%s_response\"",
                  request->endpoint->type);
}

static void send(struct rb_js_request *request, struct rb_out *out, struct rb_slice headers,
                 bool failed)
{
    struct rb_js_account *account = request->account;
    rb_out_put(out, RB_S("}"));
    if (out->failed) {
        rb_out_deinit(out); /* no memory: the client's timeout says it */
        rb_js_request_free(request);
        return;
    }
    struct rb_slice body = rb_out_slice(out);
    if (request->reply.len > 0 && headers.len == 0) {
        (void)rb_js_send(account, request->reply, RB_S(""), RB_S(""), 0, body);
    } else if (request->reply.len > 0) {
        struct rb_out with;
        rb_out_init(&with, request->js->budget);
        rb_out_put(&with, headers);
        rb_out_put(&with, body);
        if (!with.failed) {
            (void)rb_js_send(account, request->reply, RB_S(""), RB_S(""), (uint32_t)headers.len,
                             rb_out_slice(&with));
        }
        rb_out_deinit(&with);
    }
    uint32_t flags = request->endpoint->flags;
    if ((flags & RB_JS_NO_AUDIT) == 0 || (failed && (flags & RB_JS_AUDIT_ERRORS) != 0)) {
        struct rb_js *js = request->js;
        account->api_total++;
        atomic_fetch_add_explicit(&js->shared->api_total, 1, memory_order_relaxed);
        rb_counter_add(&js->stats.api_total, 1);
        if (failed) {
            account->api_errors++;
            atomic_fetch_add_explicit(&js->shared->api_errors, 1, memory_order_relaxed);
            rb_counter_add(&js->stats.api_errors, 1);
        }
        rb_js_advise_audit(request, body);
    }
    rb_out_deinit(out);
    rb_js_request_free(request);
}

void rb_js_answer_send(struct rb_js_request *request, struct rb_out *out, struct rb_slice headers)
{
    send(request, out, headers, false);
}

void rb_js_answer_error(struct rb_js_request *request, const struct rb_js_error *error)
{
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_put(&out, RB_S(",\"error\":"));
    rb_js_error_write(&out, error);
    rb_out_put(&out, rb_slice_text(request->endpoint->tail));
    send(request, &out, RB_S(""), true);
}

void rb_js_answer_code(struct rb_js_request *request, uint16_t code, const char *detail)
{
    struct rb_js_error error;
    rb_js_error_set(&error, code, detail);
    rb_js_answer_error(request, &error);
}

void rb_js_answer_success(struct rb_js_request *request)
{
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_put(&out, RB_S(",\"success\":true"));
    rb_js_answer_send(request, &out, RB_S(""));
}

/* ---- what handlers begin with ---- */

struct rb_arena *rb_js_request_arena(struct rb_js_request *request)
{
    if (request->arena == NULL && rb_arena_create(2048, &request->arena) != RB_OK) {
        request->arena = NULL;
        rb_js_answer_code(request, 10028, NULL);
    }
    return request->arena;
}

bool rb_js_request_read(struct rb_js_request *request, const struct rb_doc_type *type, bool lenient,
                        void *doc)
{
    char why[RB_DOC_ERROR_MAX];
    struct rb_arena *arena = rb_js_request_arena(request);
    if (arena == NULL) {
        return false;
    }
    /* A server that is not strict tries the strict way too, since it takes no body for an empty document. */
    if ((!lenient && rb_doc_read(arena, type, request->body, true, doc, why)) ||
        ((lenient || !request->js->settings->strict) &&
         rb_doc_read(arena, type, request->body, false, doc, why))) {
        return true;
    }
    rb_js_answer_code(request, 10025, why);
    return false;
}

/* Begins like an object or array. */
static bool is_document(struct rb_slice body)
{
    size_t at = 0;
    while (at < body.len && strchr(" \t\r\n\v\f", body.ptr[at]) != NULL && body.ptr[at] != 0) {
        at++;
    }
    return at < body.len && (body.ptr[at] == '{' || body.ptr[at] == '[');
}

bool rb_js_request_read_optional(struct rb_js_request *request, const struct rb_doc_type *type,
                                 void *doc)
{
    if (!is_document(request->body)) {
        rb_doc_init(type, doc);
        return true;
    }
    return rb_js_request_read(request, type, false, doc);
}

bool rb_js_body_is_empty(struct rb_slice body)
{
    char why[RB_GOJSON_ERROR_MAX];
    if (body.len == 0) {
        return true;
    }
    if (!rb_gojson_valid(body, why)) {
        return false;
    }
    /* Valid: an empty object is two brackets among blanks. */
    size_t open = 0, close = 0;
    for (size_t i = 0; i < body.len; i++) {
        if (body.ptr[i] == '{') {
            open++;
        } else if (body.ptr[i] == '}') {
            close++;
        } else if (strchr(" \t\r\n", body.ptr[i]) == NULL) {
            return false;
        }
    }
    return open == 1 && close == 1;
}

bool rb_js_request_empty(struct rb_js_request *request)
{
    if (!rb_js_body_is_empty(request->body)) {
        rb_js_answer_code(request, 10038, NULL);
        return false;
    }
    return true;
}

bool rb_js_request_enabled(struct rb_js_request *request)
{
    if (!request->account->enabled) {
        rb_js_answer_code(request, 10039, NULL);
        return false;
    }
    return true;
}

static void answer_unknown(struct rb_js_request *request, uint16_t code)
{
    if ((request->endpoint->flags & RB_JS_SILENT_UNKNOWN) != 0) {
        rb_js_request_free(request);
    } else {
        rb_js_answer_code(request, code, NULL);
    }
}

struct rb_js_stream *rb_js_request_stream(struct rb_js_request *request)
{
    struct rb_js_stream *stream = rb_js_stream_find(request->account, request->name);
    if (stream == NULL) {
        answer_unknown(request, 10059);
        return NULL;
    }
    if (stream->phase == RB_JS_STREAM_OFFLINE) {
        rb_js_answer_code(request, 10194, stream->why);
        return NULL;
    }
    if (stream->phase == RB_JS_STREAM_OPENING) {
        rb_js_answer_code(request, 10008, NULL);
        return NULL;
    }
    return stream;
}

struct rb_js_consumer *rb_js_request_consumer(struct rb_js_request *request)
{
    struct rb_js_stream *stream = rb_js_request_stream(request);
    if (stream == NULL) {
        return NULL;
    }
    struct rb_js_consumer *consumer = rb_js_consumer_find(stream, request->consumer);
    if (consumer == NULL) {
        answer_unknown(request, 10014);
    }
    return consumer;
}

bool rb_js_level_refused(struct rb_slice headers)
{
    struct rb_slice value =
        headers.len == 0 ? headers : rb_header_get(headers, RB_S("Nats-Required-Api-Level"));
    if (value.len == 0) {
        return false;
    }
    char text[24], *end;
    if (value.len >= sizeof(text)) {
        return true;
    }
    memcpy(text, value.ptr, value.len);
    text[value.len] = '\0';
    if (text[0] == ' ') {
        return true;
    }
    long level = strtol(text, &end, 10);
    return *end != '\0' || level > RB_JS_API_LEVEL;
}

/* ---- dispatch ---- */

/* The subject behind "$JS.API." or "$JS.<domain>.API."; empty: it is neither. */
static struct rb_slice behind_prefix(const struct rb_js *js, struct rb_slice subject)
{
    struct rb_slice prefix = RB_S("$JS.API.");
    char text[DOMAIN_MAX + 16];
    if (!rb_slice_starts(subject, prefix)) {
        int len = snprintf(text, sizeof(text), "$JS.%.*s.API.", RB_S_ARG(js->settings->domain));
        prefix = rb_slice_of(text, (size_t)len);
        if (js->settings->domain.len == 0 || !rb_slice_starts(subject, prefix)) {
            return rb_slice_of(NULL, 0);
        }
    }
    return rb_slice_of(subject.ptr + prefix.len, subject.len - prefix.len);
}

static void dispatch(struct rb_js_request *request)
{
    const struct rb_js_endpoint *endpoint = request->endpoint;
    if (endpoint == &of_system) {
        rb_js_answer_code(request, 10039, NULL);
    } else if ((endpoint->flags & RB_JS_CLUSTER_ONLY) != 0) {
        rb_js_answer_code(request, 10010, NULL);
    } else if ((endpoint->flags & RB_JS_SILENT_UNKNOWN) == 0 &&
               rb_js_level_refused(request->headers)) {
        rb_js_answer_code(request, 10185, NULL);
    } else if ((endpoint->flags & RB_JS_LATE) != 0 || rb_js_request_enabled(request)) {
        endpoint->run(request);
    }
}

/* More requests wait than an account may have: the advisory comes once a second at most. */
static void drop_request(struct rb_js_api *api)
{
    struct rb_js *js = api->account->js;
    api->dropped++;
    if (js->now_ns - api->dropped_told_ns >= 1000000000u || api->dropped_told_ns == 0) {
        rb_js_advise_limit(api->account, api->dropped);
        api->dropped = 0;
        api->dropped_told_ns = js->now_ns;
    }
}

/* What serves `path`; NULL: nobody answers. Wildcards in requests ("CONSUMER.CREATE.S.C.>") are words like others. */
static const struct rb_js_endpoint *find_endpoint(struct rb_slice path, bool system)
{
    for (size_t i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
        const struct rb_js_endpoint *endpoint = &endpoints[i];
        bool of_this_account = i == 0 || system == ((endpoint->flags & RB_JS_SYSTEM_ONLY) != 0);
        if (of_this_account && rb_subject_match(rb_slice_text(endpoint->subject), path)) {
            return endpoint;
        }
    }
    bool cluster = rb_slice_starts(path, RB_S("META.")) || rb_slice_starts(path, RB_S("SERVER.")) ||
                   rb_slice_starts(path, RB_S("ACCOUNT."));
    return system && !cluster ? &of_system : NULL;
}

static bool has_room(const struct rb_js_api *api, const struct rb_js_endpoint *endpoint)
{
    const struct rb_js_settings *settings = api->account->js->settings;
    bool query = (endpoint->flags & RB_JS_QUERY) != 0;
    uint32_t most = query ? settings->queries_max : settings->requests_max;
    return (query ? api->query_count : api->request_count - api->query_count) <
           (most == 0 ? RB_JS_REQUESTS_MAX : most);
}

static bool take(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct rb_js_api *api = ctx;
    struct rb_slice path = behind_prefix(api->account->js, msg->subject);
    bool system = rb_account_is_system(account);
    if (!system && (rb_slice_starts(path, RB_S("DIRECT.GET.")) ||
                    rb_slice_starts(path, RB_S("CONSUMER.MSG.NEXT.")))) {
        return false; /* heard only where JetStream is off: nobody serves these */
    }
    if (!system && rb_slice_starts(path, RB_S("ACCOUNT.PURGE."))) {
        rb_js_api_purge_here(api->account, rb_slice_of(msg->payload.ptr + msg->header_len,
                                                       msg->payload.len - msg->header_len));
        return true;
    }
    const struct rb_js_endpoint *endpoint = path.len == 0 ? NULL : find_endpoint(path, system);
    if (endpoint == NULL) {
        return true;
    }
    struct rb_js_request *request =
        has_room(api, endpoint) ? request_create(api, endpoint, msg, path) : NULL;
    if (request == NULL) {
        drop_request(api);
        return true;
    }
    dispatch(request);
    return true;
}

/* ---- life ---- */

struct rb_js_api *rb_js_api_of(struct rb_js_account *account)
{
    if (account->api == NULL) {
        struct rb_js_api *api = rb_alloc(account->js->budget, sizeof(*api));
        if (api == NULL) {
            return NULL;
        }
        api->account = account;
        rb_list_init(&api->requests);
        rb_js_directs_init(api);
        rb_list_init(&api->gets);
        rb_list_init(&api->transfers);
        rb_out_init(&api->scratch, account->js->budget);
        account->api = api;
    }
    return account->api;
}

static void stop_listening(struct rb_js_api *api)
{
    struct rb_js_account *account = api->account;
    for (uint32_t i = 0; i < api->listen_count; i++) {
        rb_account_unlisten(account->account, &api->listens[i]);
    }
    rb_free(account->js->budget, api->listens, api->listen_cap * sizeof(*api->listens));
    api->listens = NULL;
    api->listen_count = api->listen_cap = 0;
}

static enum rb_err listen_under(struct rb_js_api *api, struct rb_slice prefix)
{
    for (size_t i = 0; i < (api->whole ? LISTENED : 1); i++) {
        char subject[DOMAIN_MAX + 64];
        int len = snprintf(subject, sizeof(subject), "%.*s%s", RB_S_ARG(prefix),
                           api->whole ? listened[i] : ">");
        struct rb_special *special = &api->listens[api->listen_count];
        special->take = take;
        special->ctx = api;
        enum rb_err err =
            rb_account_listen(api->account->account, rb_slice_of(subject, (size_t)len), special);
        if (err != RB_OK) {
            return err;
        }
        api->listen_count++;
    }
    return RB_OK;
}

enum rb_err rb_js_api_open(struct rb_js_account *account)
{
    struct rb_js *js = account->js;
    struct rb_js_api *api = rb_js_api_of(account);
    if (api == NULL) {
        return RB_ERR_MEMORY;
    }
    if (api->listens != NULL && api->whole == account->enabled) {
        return RB_OK;
    }
    stop_listening(api);
    api->whole = account->enabled;
    api->listen_cap = 2 * (api->whole ? LISTENED : 1);
    api->listens = rb_alloc(js->budget, api->listen_cap * sizeof(*api->listens));
    enum rb_err err = api->listens == NULL ? RB_ERR_MEMORY : listen_under(api, RB_S("$JS.API."));
    struct rb_slice domain = js->settings->domain;
    if (err == RB_OK && domain.len > 0 && domain.len <= DOMAIN_MAX) {
        char prefix[DOMAIN_MAX + 16];
        int len = snprintf(prefix, sizeof(prefix), "$JS.%.*s.API.", RB_S_ARG(domain));
        err = listen_under(api, rb_slice_of(prefix, (size_t)len));
    }
    if (err != RB_OK) {
        stop_listening(api);
    }
    return err;
}

/* Forgets requests; those whose change is under way go when its outcome comes. */
static void end_requests(struct rb_js_api *api)
{
    struct rb_list *at;
    while ((at = rb_list_pop(&api->requests)) != NULL) {
        struct rb_js_request *request = RB_CONTAINER(at, struct rb_js_request, link);
        if (request->finish != NULL) {
            request->account = NULL;
            uncount(api, request);
            rb_list_append(&request->js->orphans, at);
        } else {
            rb_js_request_free(request);
        }
    }
}

void rb_js_api_close(struct rb_js_account *account)
{
    struct rb_js_api *api = account->api;
    if (api == NULL) {
        return;
    }
    struct rb_budget *budget = account->js->budget;
    stop_listening(api);
    rb_js_transfers_end(api, NULL);
    rb_js_directs_close(api);
    end_requests(api);
    rb_out_deinit(&api->scratch);
    rb_free(budget, api, sizeof(*api));
    account->api = NULL;
}

void rb_js_api_abandon(struct rb_js *js)
{
    while (!rb_list_empty(&js->orphans)) {
        rb_js_request_free(RB_CONTAINER(js->orphans.next, struct rb_js_request, link));
    }
}

void rb_js_api_loaded(struct rb_js *js, struct rb_msgstore_wait *wait)
{
    struct rb_js_body_wait *owner = wait->owner;
    owner->loaded(owner);
}

void rb_js_api_timer(struct rb_js *js, struct rb_timer *timer)
{
    struct rb_js_api_timed *timed = RB_CONTAINER(timer, struct rb_js_api_timed, timer);
    timed->fired(timed);
}
