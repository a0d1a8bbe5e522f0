/* api_consumer.c - $JS.API.CONSUMER.*: made in three ways, listed, looked at, paused, unpinned, reset, removed. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "js/api_inside.h"
#include "proto/header.h"

#define COUNT(array) (uint32_t)(sizeof(array) / sizeof((array)[0]))
#define GROUP_NAME_MAX 16

static const char *const actions[] = { "", "create", "update", NULL };

struct create_request {
    struct rb_slice stream_name;
    struct rb_js_consumer_config config;
    uint8_t action;
    bool pedantic;
};
static const struct rb_doc_field create_fields[] = {
    { "stream_name", RB_DOC_STRING, 0, offsetof(struct create_request, stream_name) },
    { "config", RB_DOC_INLINE, 0, offsetof(struct create_request, config), NULL,
      &rb_js_consumer_config_type },
    { "action", RB_DOC_ENUM, 0, offsetof(struct create_request, action), actions, NULL,
      "unknown consumer action: " },
    { "pedantic", RB_DOC_BOOL, 0, offsetof(struct create_request, pedantic) },
};
static const struct rb_doc_type create_type = { "CreateConsumerRequest",
                                                sizeof(struct create_request), create_fields,
                                                COUNT(create_fields) };

struct list_request {
    struct rb_js_paged paged;
};
static const struct rb_doc_field list_fields[] = {
    { NULL, RB_DOC_INLINE, 0, offsetof(struct list_request, paged), NULL, &rb_js_paged_type },
};
static const struct rb_doc_type list_type = { "JSApiConsumersRequest", sizeof(struct list_request),
                                              list_fields, COUNT(list_fields) };

struct pause_request {
    int64_t pause_until;
};
static const struct rb_doc_field pause_fields[] = {
    { "pause_until", RB_DOC_TIME, 0, offsetof(struct pause_request, pause_until) },
};
static const struct rb_doc_type pause_type = { "JSApiConsumerPauseRequest",
                                               sizeof(struct pause_request), pause_fields,
                                               COUNT(pause_fields) };

struct unpin_request {
    struct rb_slice group;
};
static const struct rb_doc_field unpin_fields[] = {
    { "group", RB_DOC_STRING, 0, offsetof(struct unpin_request, group) },
};
static const struct rb_doc_type unpin_type = { "JSApiConsumerUnpinRequest",
                                               sizeof(struct unpin_request), unpin_fields,
                                               COUNT(unpin_fields) };

struct reset_request {
    uint64_t seq;
};
static const struct rb_doc_field reset_fields[] = {
    { "seq", RB_DOC_U64, 0, offsetof(struct reset_request, seq) },
};
static const struct rb_doc_type reset_type = { "JSApiConsumerResetRequest",
                                               sizeof(struct reset_request), reset_fields,
                                               COUNT(reset_fields) };

/* ---- create ---- */

enum form { FORM_LEGACY, FORM_DURABLE, FORM_NAMED };

static bool has_separator(struct rb_slice name)
{
    return name.len > 0 &&
           (memchr(name.ptr, '/', name.len) != NULL || memchr(name.ptr, '\\', name.len) != NULL);
}

/* What subject and document say of names must agree; 0: it does. */
static uint16_t check_names(const struct rb_js_request *request, const struct create_request *doc,
                            enum form form)
{
    const struct rb_js_consumer_config *config = &doc->config;
    bool durable = config->durable_name.len > 0;
    struct rb_slice name = form == FORM_LEGACY ? config->name : request->consumer;
    if (!rb_slice_equal(doc->stream_name, request->name)) {
        return 10056;
    }
    if (has_separator(name)) {
        return 10127;
    }
    if (form == FORM_DURABLE && !durable) {
        return 10018;
    }
    if (form != FORM_LEGACY && durable && !rb_slice_equal(config->durable_name, name)) {
        return 10017;
    }
    if (form == FORM_LEGACY && durable) {
        return 10020;
    }
    if (request->rest.len > 0 && config->filter_subjects.count > 0) {
        return 10137;
    }
    if (request->rest.len > 0 && !rb_slice_equal(config->filter_subject, request->rest)) {
        return 10131;
    }
    return config->num_replicas > 1 ? 10074 : 0;
}

/* Mirrors and sources say which incarnation of the stream they mean. */
static bool check_identity(struct rb_js_request *request, const struct rb_js_stream *stream)
{
    struct rb_slice wanted = request->headers.len == 0
                                 ? request->headers
                                 : rb_header_get(request->headers, RB_S("Nats-Stream-Identity"));
    char identity[9];
    rb_js_stream_identity(stream, identity);
    if (wanted.len > 0 && !rb_slice_equal(wanted, rb_slice_text(identity))) {
        rb_js_answer_code(request, 10225, identity);
        return false;
    }
    return true;
}

static void created(struct rb_js_request *request, struct rb_js_stream *stream,
                    const struct rb_js_outcome *outcome)
{
    struct rb_js_consumer *consumer = outcome->consumer;
    if (stream == NULL || consumer == NULL) {
        rb_js_answer_code(request, stream == NULL ? 10059 : 10014, NULL);
        return;
    }
    char headers[64] = "";
    if (consumer->config->direct || consumer->config->sourcing) {
        char identity[9];
        rb_js_stream_identity(stream, identity);
        (void)snprintf(headers, sizeof(headers), "NATS/1.0\r\nNats-Stream-Identity: %s\r\n\r\n",
                       identity);
    }
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_put(&out, RB_S(","));
    rb_js_write_consumer_info(&out, consumer, true);
    rb_js_answer_send(request, &out, rb_slice_text(headers));
}

/* A mirror or source asks: where messages go once they are taken, it becomes a consumer that stays and confirms; elsewhere it gets
 * a name of its own, because the one before may still be there. False: answered. */
static bool adapt_sourcing(struct rb_js_request *request, const struct rb_js_stream *stream,
                           struct rb_js_consumer_config *config)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if (stream->config->retention != RB_JS_LIMITS) {
        config->durable_name = config->name;
        config->direct = false;
        config->mem_storage = false;
        config->ack_policy = RB_JS_ACK_FLOW_CONTROL;
        config->ack_wait = 0;
        config->max_deliver = -1;
        config->inactive_threshold = 0;
        config->deliver_policy = RB_JS_DELIVER_ALL;
        config->opt_start_seq = 0;
        config->opt_start_time = RB_DOC_NO_TIME;
        return true;
    }
    size_t len = config->name.len + 5;
    uint8_t *name = rb_arena_take(request->arena, len);
    if (name == NULL) {
        rb_js_answer_code(request, 10028, NULL);
        return false;
    }
    memcpy(name, config->name.ptr, config->name.len);
    name[config->name.len] = '-';
    for (size_t i = config->name.len + 1; i < len; i++) {
        name[i] = (uint8_t)digits[rb_env_below(request->js->env, 62)];
    }
    config->name = rb_slice_of(name, len);
    return true;
}

/* It goes on behind what was confirmed; now it may be sent elsewhere. */
static void reset_first(struct rb_js_request *request, struct rb_js_stream *stream,
                        const struct rb_js_outcome *outcome)
{
    struct create_request *doc = request->state;
    if (stream == NULL) {
        rb_js_answer_code(request, 10059, NULL);
        return;
    }
    rb_js_consumer_create(stream, &doc->config, doc->action, doc->pedantic,
                          rb_js_request_change(request, created));
}

static void create(struct rb_js_request *request, enum form form)
{
    struct rb_arena *arena = rb_js_request_arena(request);
    if (arena == NULL) {
        return;
    }
    struct create_request *doc = rb_arena_take(arena, sizeof(*doc));
    if (doc == NULL) {
        rb_js_answer_code(request, 10028, NULL);
        return;
    }
    if (!rb_js_request_read(request, &create_type, false, doc) || !rb_js_request_enabled(request)) {
        return;
    }
    uint16_t code = check_names(request, doc, form);
    if (code != 0) {
        rb_js_answer_code(request, code, NULL);
        return;
    }
    struct rb_js_stream *stream = rb_js_request_stream(request);
    if (stream == NULL || !check_identity(request, stream)) {
        return;
    }
    if (form != FORM_LEGACY) {
        doc->config.name = request->consumer;
    }
    if (doc->config.direct && doc->config.sourcing && doc->config.name.len > 0) {
        if (!adapt_sourcing(request, stream, &doc->config)) {
            return;
        }
        struct rb_js_consumer *existing = rb_js_consumer_find(stream, doc->config.name);
        if (existing != NULL && !existing->config->direct) {
            request->state = doc;
            rb_js_consumer_reset(existing, 0, rb_js_request_change(request, reset_first));
            return;
        }
    }
    rb_js_consumer_create(stream, &doc->config, doc->action, doc->pedantic,
                          rb_js_request_change(request, created));
}

void rb_js_api_consumer_create_legacy(struct rb_js_request *request)
{
    create(request, FORM_LEGACY);
}

void rb_js_api_consumer_create_durable(struct rb_js_request *request)
{
    create(request, FORM_DURABLE);
}

void rb_js_api_consumer_create(struct rb_js_request *request)
{
    create(request, FORM_NAMED);
}

/* ---- lists ---- */

/* Consumers that lists show: not those of mirrors and sources. */
static struct rb_js_consumer *next_listed(struct rb_js_stream *stream, struct rb_list **at)
{
    for (*at = (*at)->next; *at != &stream->consumers; *at = (*at)->next) {
        struct rb_js_consumer *consumer = RB_CONTAINER(*at, struct rb_js_consumer, of_stream);
        if (!consumer->config->direct) {
            return consumer;
        }
    }
    return NULL;
}

static void list(struct rb_js_request *request, uint32_t limit, bool whole)
{
    struct list_request doc;
    if (!rb_js_request_read_optional(request, &list_type, &doc)) {
        return;
    }
    struct rb_js_stream *stream = rb_js_request_stream(request);
    if (stream == NULL) {
        return;
    }
    uint64_t total = 0, index = 0;
    rb_js_consumers_sort(stream);
    struct rb_list *at = &stream->consumers;
    while (next_listed(stream, &at) != NULL) {
        total++;
    }
    uint64_t offset = doc.paged.offset < 0 ? 0 : (uint64_t)doc.paged.offset;
    offset = offset > total ? total : offset;
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_printf(
        &out, ",\"total\":%" PRIu64 ",\"offset\":%" PRIu64 ",\"limit\":%" PRIu32 ",\"consumers\":[",
        total, offset, limit);
    struct rb_js_consumer *consumer;
    at = &stream->consumers;
    while (index < offset + limit && (consumer = next_listed(stream, &at)) != NULL) {
        if (index++ < offset) {
            continue;
        }
        rb_out_put(&out, index - 1 == offset ? RB_S("") : RB_S(","));
        if (whole) {
            rb_out_put(&out, RB_S("{"));
            rb_js_write_consumer_info(&out, consumer, false);
            rb_out_put(&out, RB_S("}"));
        } else {
            rb_out_string(&out, consumer->name);
        }
    }
    rb_out_put(&out, RB_S("]"));
    rb_js_answer_send(request, &out, RB_S(""));
}

void rb_js_api_consumer_names(struct rb_js_request *request)
{
    list(request, RB_JS_PAGE_NAMES, false);
}

void rb_js_api_consumer_list(struct rb_js_request *request)
{
    list(request, RB_JS_PAGE_INFOS, true);
}

/* ---- one consumer ---- */

void rb_js_api_consumer_info(struct rb_js_request *request)
{
    if (!rb_js_request_empty(request) || !rb_js_request_enabled(request)) {
        return;
    }
    struct rb_js_consumer *consumer = rb_js_request_consumer(request);
    if (consumer == NULL) {
        return;
    }
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_put(&out, RB_S(","));
    rb_js_write_consumer_info(&out, consumer, true);
    rb_js_answer_send(request, &out, RB_S(""));
}

static void deleted(struct rb_js_request *request, struct rb_js_stream *stream,
                    const struct rb_js_outcome *outcome)
{
    rb_js_answer_success(request);
}

void rb_js_api_consumer_delete(struct rb_js_request *request)
{
    if (!rb_js_request_empty(request)) {
        return;
    }
    struct rb_js_consumer *consumer = rb_js_request_consumer(request);
    if (consumer != NULL) {
        rb_js_consumer_delete(consumer, rb_js_request_change(request, deleted));
    }
}

static void paused(struct rb_js_request *request, struct rb_js_stream *stream,
                   const struct rb_js_outcome *outcome)
{
    const int64_t *until = request->state;
    int64_t now = (int64_t)request->js->wall_ns;
    bool is_paused = *until != RB_DOC_NO_TIME && *until > now;
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_printf(&out, ",\"paused\":%s,\"pause_until\":", is_paused ? "true" : "false");
    rb_out_time(&out, *until);
    if (is_paused) {
        rb_out_printf(&out, ",\"pause_remaining\":%" PRId64, *until - now);
    }
    rb_js_answer_send(request, &out, RB_S(""));
}

void rb_js_api_consumer_pause(struct rb_js_request *request)
{
    struct rb_arena *arena = rb_js_request_arena(request);
    if (arena == NULL) {
        return;
    }
    struct pause_request *doc = rb_arena_take(arena, sizeof(*doc));
    if (doc == NULL) {
        rb_js_answer_code(request, 10028, NULL);
        return;
    }
    if (!rb_js_request_read_optional(request, &pause_type, doc)) {
        return;
    }
    struct rb_js_consumer *consumer = rb_js_request_consumer(request);
    if (consumer == NULL) {
        return;
    }
    request->state = &doc->pause_until;
    rb_js_consumer_pause(consumer, doc->pause_until, rb_js_request_change(request, paused));
}

static bool is_group_name(struct rb_slice name)
{
    bool ok = name.len <= GROUP_NAME_MAX;
    for (size_t i = 0; ok && i < name.len; i++) {
        uint8_t c = name.ptr[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             (c != 0 && strchr("-_/=)+", c) != NULL);
    }
    return ok;
}

void rb_js_api_consumer_unpin(struct rb_js_request *request)
{
    struct unpin_request doc;
    struct rb_js_error error;
    if (!rb_js_request_read(request, &unpin_type, true, &doc)) {
        return;
    }
    if (doc.group.len == 0) {
        rb_js_answer_code(request, 10025, "consumer group not specified");
        return;
    }
    if (!is_group_name(doc.group)) {
        rb_js_answer_code(request, 10162, NULL);
        return;
    }
    if (!rb_js_request_enabled(request)) {
        return;
    }
    struct rb_js_consumer *consumer = rb_js_request_consumer(request);
    if (consumer == NULL) {
        return;
    }
    if (!rb_js_consumer_unpin(consumer, doc.group, &error)) {
        rb_js_answer_error(request, &error);
        return;
    }
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_js_answer_send(request, &out, RB_S(""));
}

static void was_reset(struct rb_js_request *request, struct rb_js_stream *stream,
                      const struct rb_js_outcome *outcome)
{
    struct rb_js_consumer *consumer =
        stream == NULL ? NULL : rb_js_consumer_find(stream, request->consumer);
    if (consumer == NULL) {
        rb_js_answer_code(request, 10014, NULL);
        return;
    }
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_put(&out, RB_S(","));
    rb_js_write_consumer_info(&out, consumer, true);
    rb_out_printf(&out, ",\"reset_seq\":%" PRIu64, outcome->seq);
    rb_js_answer_send(request, &out, RB_S(""));
}

void rb_js_api_consumer_reset(struct rb_js_request *request)
{
    struct reset_request doc;
    rb_doc_init(&reset_type, &doc);
    if (!request->account->enabled) {
        rb_js_request_free(request); /* there is no consumer that could answer */
        return;
    }
    struct rb_js_consumer *consumer = rb_js_request_consumer(request);
    if (consumer == NULL) {
        return;
    }
    if (rb_js_level_refused(request->headers)) {
        rb_js_answer_code(request, 10185, NULL);
        return;
    }
    if (request->body.len > 0 && !rb_js_request_read(request, &reset_type, true, &doc)) {
        return;
    }
    rb_js_consumer_reset(consumer, doc.seq, rb_js_request_change(request, was_reset));
}
