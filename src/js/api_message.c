/* api_message.c - $JS.API.STREAM.MSG.*: one message as a document, and its removal. */
#include <inttypes.h>
#include <stdio.h>

#include "js/api_inside.h"
#include "js/counter.h"
#include "js/message_get.h"

#define AT(field) offsetof(struct rb_js_message_get, field)
static const struct rb_doc_field get_fields[] = {
    { "seq", RB_DOC_U64, 0, AT(seq) },
    { "last_by_subj", RB_DOC_STRING, 0, AT(last_by_subj) },
    { "next_by_subj", RB_DOC_STRING, 0, AT(next_by_subj) },
    { "batch", RB_DOC_INT, 0, AT(batch) },
    { "max_bytes", RB_DOC_INT, 0, AT(max_bytes) },
    { "start_time", RB_DOC_TIME, 0, AT(start_time) },
    { "multi_last", RB_DOC_STRINGS, 0, AT(multi_last) },
    { "up_to_seq", RB_DOC_U64, 0, AT(up_to_seq) },
    { "up_to_time", RB_DOC_TIME, 0, AT(up_to_time) },
    { "no_hdr", RB_DOC_BOOL, 0, AT(no_hdr) },
};
const struct rb_doc_type rb_js_message_get_type = { "JSApiMsgGetRequest",
                                                    sizeof(struct rb_js_message_get), get_fields,
                                                    sizeof(get_fields) / sizeof(get_fields[0]) };

struct delete_request {
    uint64_t seq;
    bool no_erase;
};
static const struct rb_doc_field delete_fields[] = {
    { "seq", RB_DOC_U64, 0, offsetof(struct delete_request, seq) },
    { "no_erase", RB_DOC_BOOL, 0, offsetof(struct delete_request, no_erase) },
};
static const struct rb_doc_type delete_type = { "JSApiMsgDeleteRequest",
                                                sizeof(struct delete_request), delete_fields, 2 };

bool rb_js_message_get_conflicts(const struct rb_js_message_get *get)
{
    bool last = get->last_by_subj.len > 0, next = get->next_by_subj.len > 0;
    bool timed = get->start_time != RB_DOC_NO_TIME;
    return (get->seq > 0 && (last || timed)) || (last && (timed || next));
}

uint64_t rb_js_message_get_find(const struct rb_js_message_get *get,
                                const struct rb_msgstore *store)
{
    uint64_t from = get->seq > 0 ? get->seq : 1;
    if (get->last_by_subj.len > 0) {
        return rb_msgstore_last(store, &get->last_by_subj, 1, UINT64_MAX);
    }
    if (get->start_time != RB_DOC_NO_TIME) {
        from = rb_msgstore_at_time(store, get->start_time < 0 ? 0 : (uint64_t)get->start_time);
        if (from == 0 || get->next_by_subj.len == 0) {
            return from;
        }
    }
    return get->next_by_subj.len > 0 ? rb_msgstore_first(store, &get->next_by_subj, 1, from)
                                     : get->seq;
}

/* ---- get ---- */

/* What is left of a request while its message is being read. */
struct get_state {
    uint64_t seq;
    bool no_hdr;
};

static void answer_message(struct rb_js_request *request, const struct rb_message *message,
                           bool no_hdr)
{
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_put(&out, RB_S(",\"message\":{\"subject\":"));
    rb_out_string(&out, message->subject);
    rb_out_printf(&out, ",\"seq\":%" PRIu64, message->seq);
    if (message->header_len > 0 && !no_hdr) {
        rb_out_put(&out, RB_S(",\"hdrs\":"));
        rb_out_base64(&out, rb_slice_of(message->payload.ptr, message->header_len));
    }
    if (message->payload.len > message->header_len) {
        rb_out_put(&out, RB_S(",\"data\":"));
        rb_out_base64(&out, rb_slice_of(message->payload.ptr + message->header_len,
                                        message->payload.len - message->header_len));
    }
    rb_out_put(&out, RB_S(",\"time\":"));
    rb_out_time(&out, (int64_t)message->time_ns);
    rb_out_put(&out, RB_S("}"));
    rb_js_answer_send(request, &out, RB_S(""));
}

/* Answers, or waits for the body. */
static void get_message(struct rb_js_request *request)
{
    const struct get_state *state = request->state;
    struct rb_js_stream *stream = rb_js_request_stream(request);
    if (stream == NULL) {
        return;
    }
    struct rb_message message;
    enum rb_err err =
        state->seq == 0 ? RB_ERR_MISSING
                        : rb_msgstore_get(stream->store, state->seq, &request->wait.wait, &message);
    switch (err) {
    case RB_OK:
        answer_message(request, &message, state->no_hdr);
        break;
    case RB_ERR_BUSY:
        request->reading = stream; /* the wait calls again */
        break;
    case RB_ERR_MISSING:
        rb_js_answer_code(request, 10037, NULL);
        break;
    default:
        rb_js_answer_code(request, 10051, "message is damaged");
        break;
    }
}

static void message_loaded(struct rb_js_body_wait *wait)
{
    get_message(RB_CONTAINER(wait, struct rb_js_request, wait));
}

void rb_js_message_gets_end(struct rb_js_api *api, const struct rb_js_stream *stream)
{
    for (struct rb_list *at = api->requests.next, *next; at != &api->requests; at = next) {
        struct rb_js_request *request = RB_CONTAINER(at, struct rb_js_request, link);
        next = at->next;
        if (request->reading == stream) {
            rb_js_answer_code(request, 10059, NULL);
        }
    }
}

void rb_js_api_message_get(struct rb_js_request *request)
{
    struct rb_js_message_get get;
    if (rb_js_body_is_empty(request->body)) {
        rb_js_answer_code(request, 10003, NULL);
        return;
    }
    if (!rb_js_request_read(request, &rb_js_message_get_type, false, &get)) {
        return;
    }
    bool nothing = get.seq == 0 && get.last_by_subj.len == 0 && get.next_by_subj.len == 0 &&
                   get.start_time == RB_DOC_NO_TIME;
    if (nothing || get.batch != 0 || get.max_bytes != 0 || rb_js_message_get_conflicts(&get)) {
        rb_js_answer_code(request, 10003, NULL);
        return;
    }
    struct rb_js_stream *stream = rb_js_request_stream(request);
    if (stream == NULL) {
        return;
    }
    struct get_state *state = rb_arena_take(request->arena, sizeof(*state));
    if (state == NULL) {
        rb_js_answer_code(request, 10028, NULL);
        return;
    }
    *state = (struct get_state){ rb_js_message_get_find(&get, stream->store), get.no_hdr };
    request->state = state;
    request->wait.loaded = message_loaded;
    request->wait.wait.owner = &request->wait;
    request->wait.wait.tag = RB_JS_WAIT_API;
    get_message(request);
}

/* ---- delete ---- */

static void message_deleted(struct rb_js_request *request, struct rb_js_stream *stream,
                            const struct rb_js_outcome *outcome)
{
    rb_js_answer_success(request);
}

/* What is left of a request while the message before is being read. */
struct delete_state {
    uint64_t seq, before_seq;
    bool erase;
};

/* Of a counter: what the subject holds once the message is gone. Deletes, answers, or waits for the body. */
static void delete_counted(struct rb_js_request *request)
{
    const struct delete_state *state = request->state;
    struct rb_js_stream *stream = rb_js_request_stream(request);
    struct rb_js_counter_value before = { 0 };
    struct rb_message message;
    if (stream == NULL) {
        return;
    }
    enum rb_err err =
        rb_msgstore_get(stream->store, state->before_seq, &request->wait.wait, &message);
    if (err == RB_ERR_BUSY) {
        request->reading = stream;
        return;
    }
    if (err == RB_OK &&
        !rb_js_counter_read(request->arena, message.payload, message.header_len, &before)) {
        rb_js_answer_code(request, 10028, NULL);
        return;
    }
    request->reading = NULL;
    rb_js_stream_delete_counted(stream, state->seq, state->erase, &before, state->before_seq,
                                rb_js_request_change(request, message_deleted));
}

static void before_loaded(struct rb_js_body_wait *wait)
{
    delete_counted(RB_CONTAINER(wait, struct rb_js_request, wait));
}

static void delete_message(struct rb_js_request *request, struct rb_js_stream *stream,
                           const struct delete_request *doc)
{
    uint8_t bytes[RB_MSGSTORE_SUBJECT_MAX];
    struct rb_slice subject = rb_slice_of(NULL, 0);
    uint64_t before = 0;
    if (stream->config->allow_msg_counter) {
        subject = rb_msgstore_subject_of(stream->store, doc->seq, bytes);
    }
    if (subject.len > 0) {
        before = rb_msgstore_last(stream->store, &subject, 1, doc->seq - 1);
    }
    if (before == 0) {
        rb_js_stream_delete_message(stream, doc->seq, !doc->no_erase,
                                    rb_js_request_change(request, message_deleted));
        return;
    }
    struct delete_state *state = rb_arena_take(request->arena, sizeof(*state));
    if (state == NULL) {
        rb_js_answer_code(request, 10028, NULL);
        return;
    }
    *state = (struct delete_state){ doc->seq, before, !doc->no_erase };
    request->state = state;
    request->wait.loaded = before_loaded;
    request->wait.wait.owner = &request->wait;
    request->wait.wait.tag = RB_JS_WAIT_API;
    delete_counted(request);
}

void rb_js_api_message_delete(struct rb_js_request *request)
{
    struct delete_request doc;
    if (rb_js_body_is_empty(request->body)) {
        rb_js_answer_code(request, 10003, NULL);
        return;
    }
    if (!rb_js_request_read(request, &delete_type, false, &doc)) {
        return;
    }
    struct rb_js_stream *stream = rb_js_request_stream(request);
    if (stream == NULL) {
        return;
    }
    struct rb_msgstore_state state;
    rb_msgstore_state(stream->store, &state);
    if (stream->config->sealed) {
        rb_js_answer_code(request, 10109, NULL);
    } else if (stream->config->deny_delete) {
        rb_js_answer_code(request, 10057, "message delete not permitted");
    } else if (doc.seq == 0) {
        rb_js_answer_code(request, 10057, "no message found");
    } else if (doc.seq > state.last_seq) {
        rb_js_answer_code(request, 10057, "stream store EOF");
    } else if (doc.seq < state.first_seq) {
        rb_js_answer_code(request, 10057, "no message found");
    } else {
        delete_message(request, stream, &doc);
    }
}
