/* consumer_deliver.c - the run: one message after the other, to whoever is next, until something is missing.
 *
 *   who (request, or deliver subject) -> which (redelivery, start, next) -> when (rate, replay) -> body -> send -> count
 *
 * 1. A message counts as delivered when rb_js_send() says that somebody got it; else the request is dropped and the next one gets
 *    it, under the same consumer sequence.
 * 2. Room for what has to be remembered is reserved before it is sent.
 * 3. The head of the ack subject is made once per run; nothing is allocated per message but for headers that are added.
 */
#include <string.h>

#include "js/consumer_inside.h"
#include "ringbus/check.h"

#define ACK_HEAD_MAX (16 + 2 * RB_JS_NAME_MAX)
#define ACK_MAX (ACK_HEAD_MAX + 5 * 21)
#define REPLAY_MIN_NS 1000000u
/** Deliveries whose DELIVERED the log refused: no more than these are made meanwhile. */
#define UNLOGGED_BYTES_MAX 4096
#define PAYLOAD_MAX (1 << 20) /* burst of the rate limit when the stream names no largest message */

struct run {
    struct rb_js_consumer *consumer;
    struct rb_js *js;
    struct rb_js_account *account;
    bool push;
    uint32_t head_len;
    uint32_t scratch_cap;
    uint8_t *scratch; /* payloads with added headers */
    uint8_t reply[ACK_MAX];
};

enum step { STEP_SENT, STEP_AGAIN, STEP_STOP };

/* What is to be delivered. `entry` NULL: for the first time. */
struct choice {
    uint64_t seq;
    struct rb_js_pending_entry *entry;
};

static uint8_t *put(uint8_t *at, struct rb_slice text)
{
    memcpy(at, text.ptr, text.len);
    return at + text.len;
}

static void begin(struct run *run, struct rb_js_consumer *consumer)
{
    const struct rb_js_stream *stream = consumer->stream;
    run->consumer = consumer;
    run->js = rb_js_consumer_js(consumer);
    run->account = stream->account;
    run->push = rb_js_consumer_is_push(consumer);
    run->scratch = NULL;
    run->scratch_cap = 0;
    uint8_t *at = put(run->reply, RB_S("$JS.ACK."));
    at = put(at, stream->name);
    *at++ = '.';
    at = put(at, consumer->name);
    *at++ = '.';
    run->head_len = (uint32_t)(at - run->reply);
}

static struct rb_slice ack_subject(struct run *run, uint64_t count, uint64_t seq,
                                   uint64_t consumer_seq, uint64_t time_ns, uint64_t pending)
{
    uint8_t *at = run->reply + run->head_len;
    at += rb_format_decimal(at, count);
    *at++ = '.';
    at += rb_format_decimal(at, seq);
    *at++ = '.';
    at += rb_format_decimal(at, consumer_seq);
    *at++ = '.';
    at += rb_format_decimal(at, time_ns);
    *at++ = '.';
    at += rb_format_decimal(at, pending);
    return rb_slice_of(run->reply, (size_t)(at - run->reply));
}

/* Which */

static bool pending_full(const struct rb_js_consumer *consumer)
{
    int64_t max = consumer->config->max_ack_pending;
    return max > 0 && consumer->config->ack_policy != RB_JS_ACK_NONE &&
           rb_js_consumer_unacked(consumer) >= (uint64_t)max;
}

static uint64_t next_new(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    if (in->start_at < in->start_count) {
        return in->starts[in->start_at];
    }
    if (in->pending == 0) {
        return 0;
    }
    uint64_t seq = rb_msgstore_cursor_next(in->cursor, in->next_seq);
    if (seq == 0) {
        rb_assert_slow(in->pending == 0); /* it is exact */
        in->pending = 0;
    }
    return seq;
}

static struct choice choose(struct rb_js_consumer *consumer)
{
    struct choice choice = { .entry = rb_js_pending_queue_peek(&consumer->inside->acks) };
    if (choice.entry != NULL) {
        choice.seq = choice.entry->seq;
    } else if (!pending_full(consumer)) {
        choice.seq = next_new(consumer);
    }
    return choice;
}

/* Its turn is over without a delivery. */
static void skip(struct rb_js_consumer *consumer, const struct choice *choice)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    if (choice->entry != NULL) {
        rb_js_pending_queue_pop(&in->acks);
        rb_js_consumer_done_with(consumer, choice->seq);
        return;
    }
    if (in->start_at < in->start_count) {
        in->start_at++;
    } else {
        in->next_seq = choice->seq + 1;
    }
    in->pending -= in->pending > 0;
}

/* When */

/* The bucket is kept as the time when it will be full again; a message costs the time that its bytes take at that rate. */
static uint64_t rate_wait(struct run *run, uint64_t bytes)
{
    struct rb_js_consumer_inside *in = run->consumer->inside;
    uint64_t bits_per_second = run->consumer->config->rate_limit_bps, now_ns = run->js->now_ns;
    int32_t max = run->consumer->stream->config->max_msg_size;
    uint64_t cost_ns = bytes * 8 * RB_JS_SECOND_NS / bits_per_second;
    uint64_t burst_ns =
        (uint64_t)(max > 0 ? max : PAYLOAD_MAX) * 8 * RB_JS_SECOND_NS / bits_per_second;
    uint64_t full_ns = (in->full_ns > now_ns ? in->full_ns : now_ns) + cost_ns;
    uint64_t most_ns = cost_ns > burst_ns ? cost_ns : burst_ns;
    if (full_ns > now_ns + most_ns) {
        return full_ns - most_ns;
    }
    in->full_ns = full_ns;
    return 0;
}

/* 0: now; else when the time between this message and the one before has passed again. */
static uint64_t replay_wait(struct run *run, const struct rb_message *message)
{
    const struct rb_js_consumer_inside *in = run->consumer->inside;
    if (message->seq > in->replay_until || in->replay_time_ns == 0 ||
        message->time_ns <= in->replay_time_ns + REPLAY_MIN_NS) {
        return 0;
    }
    uint64_t due_ns = in->replay_at_ns + (message->time_ns - in->replay_time_ns);
    return due_ns > run->js->now_ns ? due_ns : 0;
}

static bool must_wait(struct run *run, const struct rb_message *message, uint64_t bytes, bool again)
{
    struct rb_js_consumer *consumer = run->consumer;
    uint64_t due_ns = 0;
    if (!again && consumer->config->replay_policy == RB_JS_REPLAY_ORIGINAL) {
        due_ns = replay_wait(run, message);
    }
    if (due_ns == 0 && consumer->config->rate_limit_bps > 0) {
        due_ns = rate_wait(run, bytes);
    }
    if (due_ns != 0) {
        consumer->inside->hold_ns = due_ns;
        rb_js_consumer_want(consumer, due_ns);
    }
    return due_ns != 0;
}

/* Bytes */

static uint8_t *scratch(struct run *run, size_t bytes)
{
    if (bytes > run->scratch_cap) {
        size_t cap = bytes < 4096 ? 4096 : bytes;
        uint8_t *grown = rb_realloc(run->js->budget, run->scratch, run->scratch_cap, cap);
        if (grown == NULL) {
            return NULL;
        }
        run->scratch = grown;
        run->scratch_cap = (uint32_t)cap;
    }
    return run->scratch;
}

/* Adds "key: value" lines behind the message's headers; `body` false: headers only. False: memory refused. */
static bool add_headers(struct run *run, struct rb_message *message, struct rb_slice pin)
{
    bool headers_only = run->consumer->config->headers_only;
    size_t body_len = message->payload.len - message->header_len;
    uint8_t *out = scratch(run, message->payload.len + 160);
    if (out == NULL) {
        return false;
    }
    uint8_t *at = out;
    if (message->header_len > 2) {
        at = put(at, rb_slice_of(message->payload.ptr, message->header_len - 2));
    } else {
        at = put(at, RB_S("NATS/1.0\r\n"));
    }
    if (headers_only) {
        at = put(at, RB_S("Nats-Msg-Size: "));
        at += rb_format_decimal(at, body_len);
        at = put(at, RB_S("\r\n"));
    }
    if (pin.len > 0) {
        at = put(at, RB_S("Nats-Pin-Id: "));
        at = put(at, pin);
        at = put(at, RB_S("\r\n"));
    }
    at = put(at, RB_S("\r\n"));
    uint32_t header_len = (uint32_t)(at - out);
    if (!headers_only && body_len > 0) {
        at = put(at, rb_slice_of(message->payload.ptr + message->header_len, body_len));
    }
    message->payload = rb_slice_of(out, (size_t)(at - out));
    message->header_len = header_len;
    return true;
}

/* Counting */

static void count_new(struct run *run, uint64_t seq)
{
    struct rb_js_consumer *consumer = run->consumer;
    struct rb_js_consumer_inside *in = consumer->inside;
    if (in->start_at < in->start_count) {
        in->start_at++;
    } else {
        in->next_seq = seq + 1;
    }
    in->pending -= in->pending > 0;
    consumer->delivered.stream_seq = seq;
    if (consumer->config->ack_policy == RB_JS_ACK_NONE) {
        consumer->ack_floor.consumer_seq = consumer->delivered.consumer_seq;
        consumer->ack_floor.stream_seq = seq;
        return;
    }
    bool first = in->acks.live == 0;
    (void)rb_js_pending_add(&in->acks, seq, consumer->delivered.consumer_seq, run->js->wall_ns, 1);
    if (first && consumer->config->ack_wait > 0) {
        rb_js_consumer_want(consumer, run->js->now_ns + rb_js_pending_wait_ns(consumer->config, 1));
    }
}

static void count_again(struct run *run, struct rb_js_pending_entry *entry)
{
    struct rb_js_consumer *consumer = run->consumer;
    struct rb_js_consumer_inside *in = consumer->inside;
    rb_js_pending_redelivered(&in->acks, entry, entry->count + 1);
    rb_js_pending_touch(&in->acks, entry, consumer->config, run->js->wall_ns);
    rb_js_consumer_want(consumer,
                        run->js->now_ns + rb_js_pending_wait_ns(consumer->config, entry->count));
    rb_counter_add(&run->js->stats.redelivered, 1);
}

static void count_delivery(struct run *run, const struct choice *choice, uint64_t time_ns)
{
    struct rb_js_consumer *consumer = run->consumer;
    struct rb_js_consumer_inside *in = consumer->inside;
    uint64_t count = 1;
    consumer->delivered.consumer_seq++;
    consumer->delivered.last_ns = (int64_t)run->js->wall_ns;
    if (choice->entry == NULL) {
        count_new(run, choice->seq);
        in->replay_at_ns = run->js->now_ns;
        in->replay_time_ns = time_ns;
    } else {
        /* It is still the head of the queue, and nobody acks it but through apply. */
        count = (uint64_t)choice->entry->count + 1;
        rb_js_pending_queue_pop(&in->acks);
        count_again(run, choice->entry);
    }
    rb_counter_add(&run->js->stats.delivered, 1);
    if (rb_js_consumer_logs(consumer)) {
        (void)rb_js_consumer_note_delivery(consumer, choice->seq, count);
    } else if (!rb_js_consumer_is_volatile(consumer) && in->place_due_ns == 0) {
        in->place_due_ns = run->js->now_ns + RB_JS_SECOND_NS;
        rb_js_consumer_want(consumer, in->place_due_ns);
    }
}

/* One message */

static bool load(struct run *run, const struct choice *choice, struct rb_message *ret_message,
                 enum step *ret_step)
{
    struct rb_js_consumer *consumer = run->consumer;
    enum rb_err err =
        rb_msgstore_get(consumer->stream->store, choice->seq, &consumer->inside->wait, ret_message);
    if (err == RB_OK) {
        return true;
    }
    *ret_step = STEP_STOP;
    if (err == RB_ERR_MISSING || err == RB_ERR_CORRUPT) {
        skip(consumer, choice); /* a damaged body was named by the store */
        *ret_step = STEP_AGAIN;
    } else if (err != RB_ERR_BUSY) {
        consumer->inside->retry_ns = run->js->now_ns + RB_JS_RETRY_NS;
        rb_js_consumer_want(consumer, consumer->inside->retry_ns);
    }
    return false;
}

/* Room for what the delivery leaves behind. */
static bool reserve(struct run *run, const struct choice *choice)
{
    struct rb_js_consumer *consumer = run->consumer;
    if (choice->entry != NULL || consumer->config->ack_policy == RB_JS_ACK_NONE ||
        rb_js_pending_reserve(&consumer->inside->acks)) {
        return true;
    }
    consumer->inside->retry_ns = run->js->now_ns + RB_JS_SECOND_NS;
    rb_js_consumer_want(consumer, consumer->inside->retry_ns);
    return false;
}

static enum step deliver_one(struct run *run)
{
    struct rb_js_consumer *consumer = run->consumer;
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js_request *request = NULL;
    struct choice choice = choose(consumer);
    if (choice.seq == 0) {
        return STEP_STOP;
    }
    if (run->push ? !rb_js_consumer_push_open(consumer)
                  : (request = rb_js_consumer_next_request(consumer)) == NULL) {
        return STEP_STOP;
    }
    if (!reserve(run, &choice)) {
        return STEP_STOP;
    }
    if (choice.entry != NULL) { /* reserve() and status lines may have moved it */
        choice.entry = rb_js_pending_find(&in->acks, choice.seq);
        if (choice.entry == NULL) {
            return STEP_AGAIN;
        }
    }
    struct rb_message message;
    enum step step;
    if (!load(run, &choice, &message, &step)) {
        return step;
    }
    uint64_t stored_ns = message.time_ns;
    if (request != NULL && consumer->config->priority_policy == RB_JS_PRIORITY_PINNED) {
        rb_js_consumer_pin_to(consumer, &request);
        if (request == NULL) {
            return STEP_STOP; /* memory was refused */
        }
    }
    struct rb_slice pin = request == NULL ? RB_S("") : rb_js_consumer_pinned(consumer);
    if ((consumer->config->headers_only || pin.len > 0) && !add_headers(run, &message, pin)) {
        return STEP_STOP;
    }
    uint64_t count = choice.entry == NULL ? 1 : (uint64_t)choice.entry->count + 1;
    uint64_t pending = choice.entry == NULL ? in->pending - (in->pending > 0) : in->pending;
    struct rb_slice reply = ack_subject(run, count, choice.seq,
                                        consumer->delivered.consumer_seq + 1, stored_ns, pending);
    uint64_t bytes = message.subject.len + reply.len + message.payload.len;
    if (request != NULL && request->sized && bytes > request->bytes) {
        rb_js_consumer_end_request(consumer, request, RB_S("409 Message Size Exceeds MaxBytes"),
                                   true);
        return STEP_AGAIN;
    }
    if (must_wait(run, &message, bytes, choice.entry != NULL)) {
        return STEP_STOP;
    }
    struct rb_slice to =
        request == NULL ? consumer->config->deliver_subject : rb_js_request_reply(request);
    in->sending = choice.seq;
    bool sent =
        rb_js_send(run->account, to, message.subject, reply, message.header_len, message.payload);
    in->sending = 0;
    if (!sent) {
        if (request != NULL) {
            rb_js_consumer_end_request(consumer, request, RB_S(""), false);
            return STEP_AGAIN;
        }
        rb_js_consumer_look_for_interest(consumer);
        in->retry_ns = run->js->now_ns + RB_JS_RETRY_NS; /* subscribed, but closing */
        rb_js_consumer_want(consumer, in->retry_ns);
        return STEP_STOP;
    }
    count_delivery(run, &choice, stored_ns);
    if (request != NULL) {
        rb_js_consumer_served(consumer, request, bytes);
    } else {
        rb_js_consumer_pushed(consumer, bytes);
    }
    return STEP_SENT;
}

bool rb_js_consumer_could_run(const struct rb_js_consumer *consumer)
{
    const struct rb_js_consumer_inside *in = consumer->inside;
    return in->opened && !in->paused &&
           (rb_js_consumer_is_push(consumer) ? in->active : in->waiting > 0);
}

/* True: nothing is left that could be delivered, whoever asked for it. */
static bool nothing_left(struct rb_js_consumer *consumer)
{
    return consumer->inside->pending == 0 &&
           rb_js_pending_queue_peek(&consumer->inside->acks) == NULL;
}

static bool log_turn(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    bool logged = rb_js_consumer_flush_acks(consumer);
    logged &= rb_js_consumer_log_deliveries(consumer);
    if (!logged) {
        in->retry_ns = rb_js_consumer_js(consumer)->now_ns + RB_JS_RETRY_NS;
        rb_js_consumer_want(consumer, in->retry_ns);
    }
    return in->deliveries.len < UNLOGGED_BYTES_MAX;
}

/* How many were sent; the run is over when it is less than `max`. */
static uint32_t deliver(struct rb_js_consumer *consumer, uint32_t max)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct run run;
    uint32_t sent = 0;
    begin(&run, consumer);
    in->hold_ns = 0;
    while (sent < max) {
        enum step step = deliver_one(&run);
        if (step == STEP_STOP) {
            break;
        }
        sent += step == STEP_SENT;
    }
    rb_free(run.js->budget, run.scratch, run.scratch_cap);
    return sent;
}

bool rb_js_consumer_run(struct rb_js_consumer *consumer, uint32_t max)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    if (!in->opened || in->doomed || in->running) {
        return false;
    }
    in->running = true;
    in->again = false;
    bool more = false;
    if (in->look) {
        rb_js_consumer_look_for_interest(consumer);
    }
    if (log_turn(consumer) && rb_js_consumer_could_run(consumer) && !in->wait.waiting &&
        in->hold_ns <= js->now_ns) {
        more = deliver(consumer, max) == max;
        if (!more && !rb_js_consumer_is_push(consumer) && nothing_left(consumer)) {
            rb_js_consumer_nothing_left(consumer);
        }
        if (!more && rb_js_consumer_is_push(consumer)) {
            rb_js_consumer_flow_idle(consumer);
        }
        (void)log_turn(consumer);
    }
    if (in->paused && !rb_js_consumer_is_push(consumer)) {
        rb_js_consumer_nothing_left(consumer);
    }
    in->running = false;
    return more || in->again;
}
