/* ingest.c - what arrives for a stream: messages on its subjects, acks and flow control of its consumers; and the answers.
 *
 * Nothing is decided here but what cannot be proposed. What depends on more than the stream's commands (room in server and
 * account) is looked at now and travels as a flag of the command, so that applying it again comes to the same end.
 */
#include <stdio.h>
#include <string.h>

#include "core/trace.h"
#include "js/api.h"
#include "js/consumer.h"
#include "js/publish.h"
#include "proto/subject.h"
#include "ringbus/check.h"

#define ACK_BYTES_MAX 4096u
#define TOKENS_MAX 13u

/* ---- answers ---- */

static void answer_error(struct rb_js_stream *stream, struct rb_slice reply,
                         const struct rb_js_error *error)
{
    struct rb_out out;
    rb_out_init(&out, stream->account->js->budget);
    rb_out_put(&out, RB_S("{\"error\":"));
    rb_js_error_write(&out, error);
    rb_out_put(&out, RB_S(",\"stream\":"));
    rb_out_string(&out, stream->name);
    rb_out_put(&out, RB_S(",\"seq\":0}"));
    if (!out.failed) {
        (void)rb_js_send(stream->account, reply, rb_slice_of(NULL, 0), rb_slice_of(NULL, 0), 0,
                         rb_out_slice(&out));
    }
    rb_out_deinit(&out);
}

/* Of a counter: with a number of any length. */
static void answer_total(struct rb_js_stream *stream, struct rb_slice reply,
                         const struct rb_js_outcome *outcome)
{
    struct rb_out out;
    rb_out_init(&out, stream->account->js->budget);
    rb_out_put(&out, stream->inside->ack_head);
    rb_out_printf(&out, "%llu,\"val\":\"", (unsigned long long)outcome->seq);
    rb_out_put(&out, outcome->total);
    rb_out_put(&out, RB_S("\"}"));
    if (!out.failed) {
        (void)rb_js_send(stream->account, reply, rb_slice_of(NULL, 0), rb_slice_of(NULL, 0), 0,
                         rb_out_slice(&out));
    }
    rb_out_deinit(&out);
}

void rb_js_stream_answer(struct rb_js_stream *stream, struct rb_slice reply,
                         const struct rb_js_outcome *outcome, struct rb_slice batch, uint64_t count)
{
    if (reply.len == 0 || stream->config->no_ack) {
        return;
    }
    if (outcome->error.code != 0) {
        answer_error(stream, reply, &outcome->error);
        return;
    }
    rb_counter_add(&stream->account->js->stats.acks, 1);
    if (outcome->total.len > 0 && batch.len == 0) {
        answer_total(stream, reply, outcome);
        return;
    }
    uint8_t bytes[ACK_BYTES_MAX];
    struct rb_writer writer = rb_writer_over(bytes, sizeof(bytes));
    rb_write_slice(&writer, stream->inside->ack_head);
    rb_write_decimal(&writer, outcome->seq);
    if (batch.len > 0) {
        uint8_t quoted[4 * 64];
        size_t len = rb_format_quoted(quoted, sizeof(quoted), batch);
        rb_write_slice(&writer, RB_S(",\"batch\":\""));
        rb_write_slice(&writer, rb_slice_of(quoted, len));
        rb_write_slice(&writer, RB_S("\",\"count\":"));
        rb_write_decimal(&writer, count);
    } else if (outcome->duplicate) {
        rb_write_slice(&writer, RB_S(",\"duplicate\": true"));
    }
    rb_write_u8(&writer, '}');
    (void)rb_js_send(stream->account, reply, rb_slice_of(NULL, 0), rb_slice_of(NULL, 0), 0,
                     rb_slice_of(bytes, rb_writer_len(&writer)));
}

void rb_js_stream_error(struct rb_js_error *error, enum rb_err err)
{
    switch (err) {
    case RB_ERR_LIMIT:
        rb_js_error_set(error, 10077, "message too large");
        break;
    case RB_ERR_FULL:
        rb_js_error_set(error, 10167, NULL);
        break;
    case RB_ERR_SPACE:
    case RB_ERR_MEMORY:
        rb_js_error_set(error, 10023, NULL);
        break;
    default:
        rb_js_error_set(error, 10077, rb_err_text(err));
        break;
    }
}

/* The disk is full: said once, until the log has room again. */
static void note_full(struct rb_js_stream *stream)
{
    struct rb_js *js = stream->account->js;
    if (!atomic_exchange(&js->shared->out_of_space, true)) {
        rb_log_err(js->text_log,
                   "JetStream out of space: publishes to streams on disk are refused");
        rb_js_advise_out_of_space(stream);
    }
}

void rb_js_stream_refuse(struct rb_js_stream *stream, struct rb_slice reply, enum rb_err err)
{
    stream->inside->refused++;
    rb_counter_add(&stream->account->js->stats.refused, 1);
    if (err == RB_ERR_SPACE) {
        note_full(stream);
    }
    if (reply.len == 0 || stream->config->no_ack || err == RB_ERR_IO || err == RB_ERR_CANCELED ||
        err == RB_ERR_CORRUPT) {
        return; /* a log that failed: what became of the message is unknown, so nothing is said */
    }
    struct rb_js_error error;
    rb_js_stream_error(&error, err);
    if (err != RB_ERR_FULL) {
        answer_error(stream, reply, &error);
        return;
    }
    static const char head[] = "NATS/1.0 429 Too Many Requests\r\n\r\n";
    struct rb_out out;
    rb_out_init(&out, stream->account->js->budget);
    rb_out_put(&out, rb_slice_text(head));
    rb_out_put(&out, RB_S("{\"error\":"));
    rb_js_error_write(&out, &error);
    rb_out_put(&out, RB_S(",\"stream\":"));
    rb_out_string(&out, stream->name);
    rb_out_put(&out, RB_S(",\"seq\":0}"));
    if (!out.failed) {
        (void)rb_js_send(stream->account, reply, rb_slice_of(NULL, 0), rb_slice_of(NULL, 0),
                         sizeof(head) - 1, rb_out_slice(&out));
    }
    rb_out_deinit(&out);
}

static void published(struct rb_js_waiter *waiter, enum rb_err err, const void *outcome)
{
    struct rb_js_replier *replier = RB_CONTAINER(waiter, struct rb_js_replier, waiter);
    struct rb_js_stream *stream = replier->ctx;
    if (err != RB_OK) {
        rb_js_stream_refuse(stream, replier->reply, err);
        return;
    }
    rb_js_stream_answer(stream, replier->reply, outcome, rb_slice_of(NULL, 0), 0);
}

/* ---- messages ---- */

static bool over(int64_t limit, int64_t used, uint64_t more)
{
    return limit >= 0 && used + (int64_t)more > limit;
}

void rb_js_stream_stamp(struct rb_js_stream *stream, struct rb_command *command)
{
    struct rb_js_account *account = stream->account;
    struct rb_js *js = account->js;
    bool memory = stream->config->storage == RB_JS_MEMORY;
    uint64_t more = stream->group.pending_bytes + command->subject.len + command->text.len;
    command->time_ns = js->wall_ns;
    if (command->header_len > 0) {
        command->flags |=
            rb_js_schedule_flags(stream, rb_slice_of(command->text.ptr, command->header_len));
    }
    int64_t server = atomic_load_explicit(memory ? &js->shared->memory : &js->shared->storage,
                                          memory_order_relaxed);
    bool full = !memory && atomic_load_explicit(&js->shared->out_of_space, memory_order_relaxed);
    if (full || over(memory ? js->settings->max_memory : js->settings->max_storage, server,
                     stream->group.pending_bytes)) {
        command->flags |= RB_COMMAND_NO_ROOM;
    }
    if (over(memory ? account->limits.max_memory : account->limits.max_storage,
             memory ? account->memory : account->storage, more)) {
        command->flags |= RB_COMMAND_OVER_ACCOUNT;
    }
}

/* What apply() could not bear must not come so far. */
static enum rb_err may_propose(struct rb_js_stream *stream)
{
    struct rb_js *js = stream->account->js;
    const struct rb_budget *budget = js->budget;
    if (stream->phase != RB_JS_STREAM_SERVING || js->closing) {
        return RB_ERR_CANCELED;
    }
    if (stream->group.no_space) {
        return RB_ERR_SPACE;
    }
    if (budget != NULL && budget->limit_bytes > 0 &&
        budget->used_bytes > budget->limit_bytes - budget->limit_bytes / 32) {
        return RB_ERR_MEMORY;
    }
    return rb_msgstore_home_pressure(js->store_home) ? RB_ERR_FULL : RB_OK;
}

static void take_message(struct rb_js_stream *stream, struct rb_slice subject,
                         struct rb_slice reply, struct rb_slice payload, uint32_t header_len)
{
    struct rb_command command = {
        .type = RB_COMMAND_PUBLISH, .subject = subject, .text = payload, .header_len = header_len
    };
    enum rb_err err = may_propose(stream);
    if (err == RB_OK) {
        rb_js_stream_stamp(stream, &command);
        bool answer = reply.len > 0 && !stream->config->no_ack;
        err = answer ? rb_js_group_propose_reply(&stream->group, &command, published, stream, reply)
                     : rb_js_group_propose(&stream->group, &command, NULL);
    }
    if (err != RB_OK) {
        rb_js_stream_refuse(stream, reply, err);
    }
}

static void take_fast(struct rb_js_stream *stream, struct rb_slice subject, struct rb_slice reply,
                      struct rb_slice payload, uint32_t header_len,
                      const struct rb_js_headers *headers)
{
    enum rb_err err = may_propose(stream);
    if (err != RB_OK) {
        rb_js_stream_refuse(stream, reply, err);
    } else {
        rb_js_fast_take(stream, subject, reply, payload, header_len, headers);
    }
}

static void take_batched(struct rb_js_stream *stream, struct rb_slice subject,
                         const struct rb_msg *msg, struct rb_slice payload, uint32_t header_len,
                         const struct rb_js_headers *headers)
{
    struct rb_js_outcome outcome = { .seq = 0 };
    if (stream->config->sealed) {
        rb_js_error_set(&outcome.error, 10109, NULL);
    } else if (rb_js_check_size(stream, payload.len, &outcome) && !stream->config->allow_atomic) {
        rb_js_error_set(&outcome.error, 10174, NULL);
    }
    if (outcome.error.code != 0) { /* the batch goes on without it */
        rb_js_stream_answer(stream, msg->reply, &outcome, rb_slice_of(NULL, 0), 0);
        return;
    }
    enum rb_err err = may_propose(stream);
    if (err != RB_OK) {
        rb_js_stream_refuse(stream, msg->reply, err);
        return;
    }
    rb_js_batch_take(stream, subject, msg->reply, payload, header_len, headers);
}

/* With headers: cleaned, and looked at for a batch. */
static void take_headers(struct rb_js_stream *stream, struct rb_slice subject,
                         const struct rb_msg *msg)
{
    struct rb_js *js = stream->account->js;
    struct rb_js_headers headers;
    struct rb_slice block = rb_slice_of(msg->payload.ptr, msg->header_len), payload = msg->payload;
    uint32_t header_len = msg->header_len;
    rb_js_headers_scan(block, &headers);
    uint8_t *copy = NULL;
    bool odd = block.len > 8 && block.ptr[8] != '\r';
    if (odd || rb_js_headers_has(&headers, RB_JS_H_REQUEST_INFO)) {
        copy = rb_js_pools_take(&js->pools, payload.len);
        if (copy == NULL) {
            rb_js_stream_refuse(stream, msg->reply, RB_ERR_MEMORY);
            return;
        }
        size_t len = 0, body_len = payload.len - block.len;
        if (rb_js_headers_clean(block, &headers, copy, &len)) {
            memcpy(copy + len, payload.ptr + block.len, body_len);
            payload = rb_slice_of(copy, len + body_len);
            header_len = (uint32_t)len;
            rb_js_headers_scan(rb_slice_of(copy, len), &headers);
        }
    }
    if (rb_js_fast_is(msg->reply)) {
        take_fast(stream, subject, msg->reply, payload, header_len, &headers);
    } else if (rb_js_headers_has(&headers, RB_JS_H_BATCH_ID)) {
        take_batched(stream, subject, msg, payload, header_len, &headers);
    } else {
        take_message(stream, subject, msg->reply, payload, header_len);
    }
    if (copy != NULL) {
        rb_js_pools_give(&js->pools, copy, msg->payload.len);
    }
}

static void put_error(struct rb_out *out, const struct rb_js_headers *headers,
                      const struct rb_js_outcome *outcome)
{
    const struct rb_js_error *error = &outcome->error;
    if (outcome->duplicate) {
        rb_out_put(out, RB_S("msgid is duplicate"));
    } else if (error->code == 10054) {
        rb_out_put(out, RB_S("maximum payload exceeded"));
    } else if (error->code == 10071) { /* "wrong last sequence: 4" */
        bool of_subject = rb_js_headers_has(headers, RB_JS_H_EXPECTED_SUBJECT_SEQ);
        struct rb_slice wanted =
            headers->value[of_subject ? RB_JS_H_EXPECTED_SUBJECT_SEQ : RB_JS_H_EXPECTED_LAST_SEQ];
        const char *actual = strrchr(error->text, ' ');
        rb_out_printf(out, "last sequence%s mismatch: %.*s vs%s", of_subject ? " by subject" : "",
                      RB_S_ARG(wanted), actual == NULL ? "" : actual);
    } else if (error->code == 10111) {
        rb_out_put(out, rb_slice_text(error->text));
    } else if (error->code != 0) {
        rb_out_printf(out, "%s (%u)", error->text, error->code);
    }
}

/* Says in the trace what the checks say of it now. True: it is to be stored. */
static bool try_traced(struct rb_js_stream *stream, struct rb_slice subject,
                       const struct rb_msg *msg)
{
    struct rb_js_outcome outcome = { .seq = 0 };
    struct rb_js_trial trial = { 0 };
    struct rb_js_headers headers;
    struct rb_command command = { .type = RB_COMMAND_PUBLISH,
                                  .subject = subject,
                                  .text = msg->payload,
                                  .header_len = msg->header_len };
    rb_js_headers_scan(rb_slice_of(msg->payload.ptr, msg->header_len), &headers);
    enum rb_err err = may_propose(stream);
    if (err == RB_OK) {
        rb_js_stream_stamp(stream, &command);
        rb_js_publish_try(stream, &command, &outcome, &trial);
    } else {
        rb_js_stream_error(&outcome.error, err);
    }
    struct rb_out error;
    rb_out_init(&error, stream->account->js->budget);
    put_error(&error, &headers, &outcome);
    rb_trace_stream(msg->trace, stream->name, trial.stored ? subject : rb_slice_of(NULL, 0),
                    trial.nobody, rb_out_slice(&error));
    rb_out_deinit(&error);
    if (rb_trace_only(msg->trace)) {
        if (outcome.error.code != 0 || outcome.duplicate) {
            rb_js_stream_answer(stream, msg->reply, &outcome, rb_slice_of(NULL, 0), 0);
        }
        return false;
    }
    return true;
}

/* What is stored must not be traced again when it is delivered. */
static void take_traced(struct rb_js_stream *stream, struct rb_slice subject,
                        const struct rb_msg *msg)
{
    struct rb_msg plain;
    struct rb_buf *buf =
        rb_trace_redirect(stream->account->js->core, msg, RB_TRACE_DISABLED, &plain);
    if (buf == NULL) {
        rb_js_stream_refuse(stream, msg->reply, RB_ERR_MEMORY);
        return;
    }
    plain.trace = msg->trace;
    if (try_traced(stream, subject, &plain)) {
        take_headers(stream, subject, &plain);
    }
    rb_buf_release(buf);
}

static bool take(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct rb_js_stream *stream = ((struct rb_js_capture *)ctx)->stream;
    struct rb_slice subject = msg->subject;
    uint8_t mapped[RB_MSGSTORE_SUBJECT_MAX];
    if (subject.len > RB_MSGSTORE_SUBJECT_MAX || rb_subject_has_wildcard(subject)) {
        return false; /* no subject that could be asked for again */
    }
    if (stream->inside->transform != NULL) {
        size_t len =
            rb_transform_apply(stream->inside->transform, subject,
                               rb_env_random(stream->account->js->env), mapped, sizeof(mapped));
        subject = len > 0 ? rb_slice_of(mapped, len) : subject;
    }
    if (msg->trace != NULL) {
        take_traced(stream, subject, msg);
    } else if (msg->header_len > 0) {
        take_headers(stream, subject, msg);
    } else if (rb_js_fast_is(msg->reply)) {
        take_fast(stream, subject, msg->reply, msg->payload, 0, NULL);
    } else {
        take_message(stream, subject, msg->reply, msg->payload, 0);
    }
    return true;
}

/* ---- acks and flow control ---- */

static uint32_t split(struct rb_slice subject, struct rb_slice out[TOKENS_MAX])
{
    struct rb_tokens tokens = rb_tokens_over(subject);
    uint32_t count = 0;
    while (count < TOKENS_MAX && rb_tokens_next(&tokens, &out[count])) {
        count++;
    }
    return count;
}

/* <stream>.<consumer> at `at`: directly, or behind <domain>.<hash of the account>. */
static struct rb_js_consumer *addressed(struct rb_js_stream *stream, const struct rb_slice *tokens,
                                        uint32_t at)
{
    struct rb_slice domain = stream->account->js->settings->domain;
    if (stream->phase != RB_JS_STREAM_SERVING || !rb_slice_equal(tokens[at], stream->name) ||
        (at == 4 && (!rb_slice_equal(tokens[2], domain.len > 0 ? domain : RB_S("_")) ||
                     !rb_slice_equal(tokens[3], rb_js_account_hash(stream->account))))) {
        return NULL;
    }
    return rb_js_consumer_find(stream, tokens[at + 1]);
}

/* Nobody takes this: who asked hears it from his connection, or, when that is on another shard, from here. */
static bool not_taken(struct rb_js_stream *stream, const struct rb_msg *msg)
{
    struct rb_out fields;
    if (msg->from != NULL || msg->reply.len == 0) {
        return false;
    }
    rb_out_init(&fields, stream->account->js->budget);
    rb_out_printf(&fields, "Nats-Subject: %.*s\r\n", RB_S_ARG(msg->subject));
    if (!fields.failed) {
        rb_js_send_status(stream->account, msg->reply, RB_S(""), RB_S("503"),
                          rb_out_slice(&fields));
    }
    rb_out_deinit(&fields);
    return false;
}

/* $JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<ts>.<pending>, or with <domain>.<hash> before the stream: 9 tokens, or 11
 * and more. */
static bool take_ack(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct rb_js_stream *stream = ctx;
    struct rb_slice tokens[TOKENS_MAX];
    uint32_t count = split(msg->subject, tokens), at = count >= 11 ? 4 : 2;
    uint64_t delivered, stream_seq, consumer_seq;
    struct rb_js_consumer *consumer =
        count == 9 || count >= 11 ? addressed(stream, tokens, at) : NULL;
    if (consumer == NULL || !rb_js_consumer_hears_acks(consumer)) {
        return not_taken(stream, msg);
    }
    if (!rb_slice_decimal(tokens[at + 2], 18, &delivered) ||
        !rb_slice_decimal(tokens[at + 3], 18, &stream_seq) ||
        !rb_slice_decimal(tokens[at + 4], 18, &consumer_seq)) {
        return true; /* it was meant for this consumer, which says nothing to it */
    }
    struct rb_slice body =
        rb_slice_of(msg->payload.ptr + msg->header_len, msg->payload.len - msg->header_len);
    rb_js_consumer_ack(consumer, stream_seq, consumer_seq, delivered, msg->reply, body);
    return true;
}

/* $JS.FC.<stream>.<consumer>.<token>, or with <domain>.<hash> before the stream. */
static bool take_flow(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct rb_js_stream *stream = ctx;
    struct rb_slice tokens[TOKENS_MAX];
    uint32_t count = split(msg->subject, tokens), at = count >= 7 ? 4 : 2;
    struct rb_js_consumer *consumer = count < 5 ? NULL : addressed(stream, tokens, at);
    if (consumer == NULL || !consumer->config->flow_control) {
        return not_taken(stream, msg);
    }
    rb_js_consumer_flow(consumer, tokens[count - 1], msg->header_len, msg->payload);
    return true;
}

/* ---- subscriptions ---- */

static enum rb_err listen_one(struct rb_js_stream *stream, struct rb_special *special,
                              const char *prefix, rb_special_take function)
{
    char subject[64 + RB_JS_NAME_MAX];
    (void)snprintf(subject, sizeof(subject), "%s%.*s.>", prefix, RB_S_ARG(stream->name));
    *special = (struct rb_special){ .take = function, .ctx = stream };
    return rb_account_listen(stream->account->account, rb_slice_text(subject), special);
}

static void unlisten_one(struct rb_js_stream *stream, struct rb_special *special)
{
    if (special->take != NULL) {
        rb_account_unlisten(stream->account->account, special);
        special->take = NULL;
    }
}

static void unlisten_subjects(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    for (uint32_t i = 0; i < inside->capture_count; i++) {
        unlisten_one(stream, &inside->captures[i].special);
    }
    rb_free(stream->account->js->budget, inside->captures,
            inside->capture_count * sizeof(struct rb_js_capture));
    inside->captures = NULL;
    inside->capture_count = 0;
}

static enum rb_err listen_subjects(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    const struct rb_doc_strings *subjects = &stream->config->subjects;
    if (subjects->count == 0) {
        return RB_OK;
    }
    inside->captures =
        rb_alloc(stream->account->js->budget, subjects->count * sizeof(struct rb_js_capture));
    if (inside->captures == NULL) {
        return RB_ERR_MEMORY;
    }
    inside->capture_count = subjects->count;
    for (uint32_t i = 0; i < subjects->count; i++) {
        struct rb_js_capture *capture = &inside->captures[i];
        *capture = (struct rb_js_capture){ .stream = stream };
        struct rb_special special = { .take = take, .ctx = capture, .traces = true };
        capture->special = special;
        enum rb_err err =
            rb_account_listen(stream->account->account, subjects->items[i], &capture->special);
        if (err != RB_OK) {
            capture->special.take = NULL;
            return err;
        }
    }
    return RB_OK;
}

enum rb_err rb_js_stream_listen(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    unlisten_subjects(stream);
    enum rb_err err = listen_subjects(stream);
    if (err == RB_OK && !inside->listening) {
        inside->listening = true;
        static const struct {
            const char *prefix;
            rb_special_take take;
        } kinds[4] = { { "$JS.ACK.", take_ack },
                       { "$JS.ACK.*.*.", take_ack },
                       { "$JS.FC.", take_flow },
                       { "$JS.FC.*.*.", take_flow } };
        struct rb_special *specials[4] = { &inside->acks[0], &inside->acks[1], &inside->flows[0],
                                           &inside->flows[1] };
        for (int i = 0; i < 4 && err == RB_OK; i++) {
            err = listen_one(stream, specials[i], kinds[i].prefix, kinds[i].take);
            if (err != RB_OK) {
                specials[i]->take = NULL;
            }
        }
    }
    return err;
}

void rb_js_stream_unlisten(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    unlisten_subjects(stream);
    if (inside->listening) {
        inside->listening = false;
        for (int i = 0; i < 2; i++) {
            unlisten_one(stream, &inside->acks[i]);
            unlisten_one(stream, &inside->flows[i]);
        }
        rb_js_direct_close(stream);
    }
}
