/* consumer_pull.c - pull requests: taken, queued, served in turn, ended with a status.
 *
 *   special --> check (jetstream.md 18) --> queue: [next ... last]   served: a message, then to the tail
 *
 * 1. A request that is not at its end goes behind the others after each message, within its priority.
 * 2. Requests whose reply subject nobody listens to are found when a message for them is not taken, when the queue is full, and when
 *    somebody asks for the count; they end silently, or, when they came through an import, with 408 Interest Expired.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/nuid.h"
#include "core/service.h"
#include "js/consumer_inside.h"
#include "js/duration.h"
#include "proto/header.h"
#include "ringbus/check.h"

#define LINE_MAX 600

struct body {
    int64_t batch, expires, max_bytes, idle_heartbeat;
    bool no_wait;
    struct rb_js_request_group group;
};
#define AT(field) offsetof(struct body, field)
static const struct rb_doc_field body_fields[] = {
    { "expires", RB_DOC_DURATION, 0, AT(expires) },
    { "batch", RB_DOC_INT, 0, AT(batch) },
    { "max_bytes", RB_DOC_INT, 0, AT(max_bytes) },
    { "no_wait", RB_DOC_BOOL, 0, AT(no_wait) },
    { "idle_heartbeat", RB_DOC_DURATION, 0, AT(idle_heartbeat) },
    { "group", RB_DOC_STRING, 0, AT(group.group) },
    { "min_pending", RB_DOC_I64, 0, AT(group.min_pending) },
    { "min_ack_pending", RB_DOC_I64, 0, AT(group.min_ack_pending) },
    { "id", RB_DOC_STRING, 0, AT(group.id) },
    { "priority", RB_DOC_INT, 0, AT(group.priority) },
};
static const struct rb_doc_type body_type = { "JSApiConsumerGetNextRequest", sizeof(struct body),
                                              body_fields,
                                              sizeof(body_fields) / sizeof(body_fields[0]) };

static void status(struct rb_js_consumer *consumer, struct rb_slice reply, struct rb_slice line)
{
    rb_js_send_status(consumer->stream->account, reply, RB_S(""), line, RB_S(""));
}

__attribute__((format(printf, 3, 4))) static void
status_format(struct rb_js_consumer *consumer, struct rb_slice reply, const char *format, ...)
{
    char line[LINE_MAX];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (len < 0) {
        return;
    }
    status(consumer, reply,
           rb_slice_of(line, (size_t)len < sizeof(line) ? (size_t)len : sizeof(line) - 1));
}

/* Ending */

static void free_request(struct rb_js_consumer *consumer, struct rb_js_request *request)
{
    rb_list_remove(&request->link);
    consumer->inside->waiting--;
    consumer->inside->active_ns = rb_js_consumer_js(consumer)->now_ns;
    rb_free(rb_js_consumer_js(consumer)->budget, request, request->alloc_bytes);
}

void rb_js_consumer_end_request(struct rb_js_consumer *consumer, struct rb_js_request *request,
                                struct rb_slice line, bool with_rest)
{
    char fields[96];
    int len = 0;
    if (with_rest) {
        len = snprintf(fields, sizeof(fields),
                       "Nats-Pending-Messages: %llu\r\nNats-Pending-Bytes: %llu\r\n",
                       (unsigned long long)request->batch,
                       (unsigned long long)(request->sized ? request->bytes : 0));
    }
    if (line.len > 0) {
        rb_js_send_status(consumer->stream->account, rb_js_request_reply(request), RB_S(""), line,
                          rb_slice_of(fields, (size_t)len));
    }
    free_request(consumer, request);
}

bool rb_js_consumer_end_unheard(struct rb_js_consumer *consumer, struct rb_js_request *request)
{
    struct rb_core *core = rb_js_consumer_js(consumer)->core;
    if (rb_service_wanted(core, rb_js_request_reply(request))) {
        return false;
    }
    rb_js_consumer_end_request(consumer, request, RB_S("408 Interest Expired"), true);
    return true;
}

void rb_js_consumer_end_requests(struct rb_js_consumer *consumer, struct rb_slice line)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    bool rest = rb_slice_equal(line, RB_S("409 Server Shutdown"));
    while (!rb_list_empty(&in->requests)) {
        rb_js_consumer_end_request(
            consumer, RB_CONTAINER(in->requests.next, struct rb_js_request, link), line, rest);
    }
}

void rb_js_consumer_prune(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_account *account = consumer->stream->account->account;
    if (in->running) {
        return; /* the run holds one of them */
    }
    for (struct rb_list *at = in->requests.next, *next; at != &in->requests; at = next) {
        struct rb_js_request *request = RB_CONTAINER(at, struct rb_js_request, link);
        next = at->next;
        if (!rb_account_wanted(account, rb_js_request_reply(request))) {
            free_request(consumer, request);
        } else {
            (void)rb_js_consumer_end_unheard(consumer, request);
        }
    }
}

/* Taking */

static bool read_body(struct rb_js_consumer *consumer, struct rb_arena *arena,
                      struct rb_slice reply, struct rb_slice text, struct body *ret_body)
{
    char error[RB_DOC_ERROR_MAX];
    uint64_t batch;
    *ret_body = (struct body){ .batch = 1 };
    if (text.len > 0 && text.ptr[0] == '{') {
        if (!rb_doc_read(arena, &body_type, text, false, ret_body, error)) {
            status_format(consumer, reply, "400 Bad Request - %s", error);
            return false;
        }
    } else if (rb_slice_decimal(text, 9, &batch)) {
        ret_body->batch = (int64_t)batch;
    }
    if (ret_body->batch <= 0) {
        ret_body->batch = 1;
    }
    return true;
}

static bool check_limits(struct rb_js_consumer *consumer, struct rb_slice reply,
                         const struct body *body)
{
    const struct rb_js_consumer_config *config = consumer->config;
    if (body->idle_heartbeat > 0 && body->idle_heartbeat > body->expires / 2) {
        status(consumer, reply, RB_S("400 Bad Request - heartbeat value too large"));
        return false;
    }
    if (config->max_batch > 0 && body->batch > config->max_batch) {
        status_format(consumer, reply, "409 Exceeded MaxRequestBatch of %lld",
                      (long long)config->max_batch);
        return false;
    }
    if (config->max_expires > 0 && body->expires > config->max_expires) {
        char text[RB_JS_DURATION_MAX];
        (void)rb_js_duration_format(config->max_expires, text);
        status_format(consumer, reply, "409 Exceeded MaxRequestExpires of %s", text);
        return false;
    }
    if (config->max_bytes > 0 && body->max_bytes > config->max_bytes) {
        status_format(consumer, reply, "409 Exceeded MaxRequestMaxBytes of %lld",
                      (long long)config->max_bytes);
        return false;
    }
    return rb_js_consumer_check_group(consumer, reply, &body->group);
}

/* For requests that do not wait: false when it was answered. */
static bool check_no_wait(struct rb_js_consumer *consumer, struct rb_slice reply,
                          const struct body *body)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    uint64_t there = in->pending + in->acks.queue_len, wanted = 0;
    if (there == 0 && body->expires == 0) {
        status(consumer, reply, RB_S("404 No Messages"));
        return false;
    }
    for (struct rb_list *at = in->requests.next; at != &in->requests; at = at->next) {
        wanted += RB_CONTAINER(at, struct rb_js_request, link)->batch;
    }
    if (there > 0 && there < wanted) {
        status(consumer, reply, RB_S("408 Requests Pending"));
        return false;
    }
    return true;
}

static bool has_room(struct rb_js_consumer *consumer, struct rb_slice reply,
                     const struct body *body)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    uint64_t max = (uint64_t)consumer->config->max_waiting,
             now_ns = rb_js_consumer_js(consumer)->now_ns;
    if (in->waiting >= max && (in->pruned_ns == 0 || now_ns >= in->pruned_ns + RB_JS_SECOND_NS)) {
        rb_js_consumer_prune(consumer);
        in->pruned_ns = now_ns;
    }
    if (in->waiting < max) {
        return true;
    }
    if (body->idle_heartbeat <= 0) {
        status(consumer, reply, RB_S("409 Exceeded MaxWaiting"));
    }
    return false;
}

/* Behind those of the same or a better priority. */
static void queue_request(struct rb_js_consumer *consumer, struct rb_js_request *request)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_list *behind = in->requests.prev;
    while (behind != &in->requests &&
           RB_CONTAINER(behind, struct rb_js_request, link)->priority > request->priority) {
        behind = behind->prev;
    }
    rb_list_append(behind->next, &request->link);
}

static void add_request(struct rb_js_consumer *consumer, struct rb_slice reply,
                        const struct body *body)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    struct rb_slice pin = body->group.id;
    if (pin.len > RB_NUID_LEN) {
        pin.len = RB_NUID_LEN; /* longer ones are wrong in any case */
    }
    size_t bytes = sizeof(struct rb_js_request) + reply.len + RB_NUID_LEN;
    struct rb_js_request *request = rb_alloc(js->budget, bytes);
    if (request == NULL) {
        status(consumer, reply, RB_S("409 Exceeded MaxWaiting"));
        return;
    }
    *request = (struct rb_js_request){
        .batch = (uint64_t)body->batch,
        .bytes = body->max_bytes > 0 ? (uint64_t)body->max_bytes : 0,
        .sized = body->max_bytes > 0,
        .no_wait = body->no_wait,
        .expires_ns = body->expires > 0   ? js->now_ns + (uint64_t)body->expires
                      : body->expires < 0 ? js->now_ns /* over when it came */
                                          : 0,
        .beat_ns = body->idle_heartbeat > 0 ? (uint64_t)body->idle_heartbeat : 0,
        .min_pending = body->group.min_pending > 0 ? (uint64_t)body->group.min_pending : 0,
        .min_ack_pending =
            body->group.min_ack_pending > 0 ? (uint64_t)body->group.min_ack_pending : 0,
        .priority = consumer->config->priority_policy == RB_JS_PRIORITY_PRIORITIZED
                        ? (uint8_t)body->group.priority
                        : 0,
        .alloc_bytes = (uint32_t)bytes,
        .reply_len = (uint16_t)reply.len,
        .pin_len = (uint16_t)pin.len,
    };
    memcpy(request->text, reply.ptr, reply.len);
    if (pin.len > 0) {
        memcpy(request->text + reply.len, pin.ptr, pin.len);
    }
    queue_request(consumer, request);
    in->waiting++;
    if (request->beat_ns > 0) {
        request->next_beat_ns = js->now_ns + request->beat_ns;
        rb_js_consumer_want(consumer, request->next_beat_ns);
    }
    if (request->expires_ns > 0) {
        rb_js_consumer_want(consumer, request->expires_ns);
    }
    rb_js_consumer_ready(consumer);
}

void rb_js_consumer_request(struct rb_js_consumer *consumer, struct rb_slice reply,
                            struct rb_slice text)
{
    struct rb_arena *arena;
    struct body body;
    consumer->inside->active_ns = rb_js_consumer_js(consumer)->now_ns;
    if (rb_arena_create(512, &arena) != RB_OK) {
        return;
    }
    if (read_body(consumer, arena, reply, text, &body) && check_limits(consumer, reply, &body) &&
        (!body.no_wait || check_no_wait(consumer, reply, &body)) &&
        has_room(consumer, reply, &body)) {
        add_request(consumer, reply, &body);
    }
    rb_arena_destroy(arena);
}

static bool level_too_high(const struct rb_msg *msg)
{
    if (msg->header_len == 0) {
        return false;
    }
    struct rb_slice level = rb_header_get(rb_slice_of(msg->payload.ptr, msg->header_len),
                                          RB_S("Nats-Required-Api-Level"));
    uint64_t needed;
    return level.ptr != NULL && level.len > 0 &&
           (!rb_slice_decimal(level, 9, &needed) || needed > RB_JS_API_LEVEL);
}

bool rb_js_consumer_take_next(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct rb_js_consumer *consumer = ctx;
    if (msg->reply.len == 0 || consumer->inside->doomed) {
        return true;
    }
    if (rb_js_consumer_is_push(consumer)) {
        status(consumer, msg->reply, RB_S("409 Consumer is push based"));
    } else if (level_too_high(msg)) {
        status(consumer, msg->reply, RB_S("412 Required Api Level"));
    } else {
        rb_js_consumer_request(
            consumer, msg->reply,
            rb_slice_of(msg->payload.ptr + msg->header_len, msg->payload.len - msg->header_len));
    }
    return true;
}

/* Serving */

struct rb_js_request *rb_js_consumer_next_request(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    uint64_t now_ns = rb_js_consumer_js(consumer)->now_ns;
    for (struct rb_list *at = in->requests.next, *next; at != &in->requests; at = next) {
        struct rb_js_request *request = RB_CONTAINER(at, struct rb_js_request, link);
        next = at->next;
        if (request->expires_ns != 0 && now_ns >= request->expires_ns) {
            rb_js_consumer_end_request(consumer, request, RB_S("408 Request Timeout"), true);
            continue;
        }
        switch (rb_js_consumer_eligible(consumer, request)) {
        case RB_JS_ELIGIBLE:
            if (rb_js_consumer_end_unheard(consumer, request)) {
                break;
            }
            return request;
        case RB_JS_WRONG_PIN:
            request->batch--; /* the message that it would have got */
            rb_js_consumer_end_request(consumer, request, RB_S("423 Nats-Wrong-Pin-Id"), true);
            break;
        case RB_JS_WAITS:
            break;
        }
    }
    return NULL;
}

void rb_js_consumer_served(struct rb_js_consumer *consumer, struct rb_js_request *request,
                           uint64_t bytes)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    request->batch--;
    request->served = true;
    if (request->sized) {
        request->bytes -= bytes;
    }
    if (request->sized && request->bytes == 0) {
        free_request(consumer, request);
    } else if (request->batch == 0) {
        rb_js_consumer_end_request(consumer, request,
                                   request->sized ? RB_S("409 Batch Completed") : RB_S(""), true);
    } else {
        if (request->beat_ns != 0) {
            request->next_beat_ns = rb_js_consumer_js(consumer)->now_ns + request->beat_ns;
        }
        if (in->waiting > 1) {
            rb_list_remove(&request->link);
            queue_request(consumer, request);
        }
    }
}

void rb_js_consumer_nothing_left(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    for (struct rb_list *at = in->requests.next, *next; at != &in->requests; at = next) {
        struct rb_js_request *request = RB_CONTAINER(at, struct rb_js_request, link);
        next = at->next;
        if (request->no_wait && (request->served || request->expires_ns == 0)) {
            rb_js_consumer_end_request(consumer, request, RB_S("404 No Messages"), false);
        }
    }
}

static void beat(struct rb_js_consumer *consumer, struct rb_js_request *request)
{
    char fields[96];
    int len =
        snprintf(fields, sizeof(fields), "Nats-Last-Consumer: %llu\r\nNats-Last-Stream: %llu\r\n",
                 (unsigned long long)consumer->delivered.consumer_seq,
                 (unsigned long long)consumer->delivered.stream_seq);
    rb_js_send_status(consumer->stream->account, rb_js_request_reply(request), RB_S(""),
                      RB_S("100 Idle Heartbeat"), rb_slice_of(fields, (size_t)len));
}

uint64_t rb_js_consumer_requests_due(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    uint64_t now_ns = rb_js_consumer_js(consumer)->now_ns, due_ns = UINT64_MAX;
    for (struct rb_list *at = in->requests.next, *next; at != &in->requests; at = next) {
        struct rb_js_request *request = RB_CONTAINER(at, struct rb_js_request, link);
        next = at->next;
        if (request->expires_ns != 0 && now_ns >= request->expires_ns) {
            rb_js_consumer_end_request(consumer, request, RB_S("408 Request Timeout"), true);
            continue;
        }
        if (request->next_beat_ns != 0 && now_ns >= request->next_beat_ns) {
            beat(consumer, request);
            request->next_beat_ns = now_ns + request->beat_ns;
        }
        if (request->expires_ns != 0 && request->expires_ns < due_ns) {
            due_ns = request->expires_ns;
        }
        if (request->next_beat_ns != 0 && request->next_beat_ns < due_ns) {
            due_ns = request->next_beat_ns;
        }
    }
    return due_ns;
}
