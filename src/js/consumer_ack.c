/* consumer_ack.c - what clients say about messages, and what becomes of it.
 *
 *   ack --> batch of this turn --ACKED--> group --durable--> settle(): table, floor, stream --> replies
 *
 * 1. All acks of a turn are one command. Who asked for an answer gets it once that command is durable.
 * 2. A volatile consumer settles at once.
 * 3. Refusals, delays and prolongations are this server life's: after a restart the ack wait decides.
 */
#include <stdio.h>
#include <string.h>

#include "js/consumer_inside.h"
#include "js/duration.h"
#include "ringbus/check.h"

#define BATCH_BYTES_MAX (64 * 1024) /* of the command; then it is proposed within the turn */
#define REPLIES_MAX (4u << 20)
#define REASON_MAX 256

static struct rb_slice trim(struct rb_slice s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || (s.ptr[0] >= '\t' && s.ptr[0] <= '\r'))) {
        s = rb_slice_of(s.ptr + 1, s.len - 1);
    }
    while (s.len > 0 &&
           (s.ptr[s.len - 1] == ' ' || (s.ptr[s.len - 1] >= '\t' && s.ptr[s.len - 1] <= '\r'))) {
        s.len--;
    }
    return s;
}

static void answer(struct rb_js_account *account, struct rb_slice reply)
{
    if (reply.len > 0) {
        (void)rb_js_send(account, reply, RB_S(""), RB_S(""), 0, RB_S(""));
    }
}

/* The batch */

static struct rb_js_acks *need_batch(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    if (in->batch == NULL) {
        in->batch = rb_alloc(js->budget, sizeof(*in->batch));
        if (in->batch != NULL) {
            in->batch->account = consumer->stream->account;
            rb_js_record_init(&in->batch->record);
        }
    }
    return in->batch;
}

void rb_js_acks_free(struct rb_js_acks *acks)
{
    struct rb_budget *budget = acks->account->js->budget;
    rb_js_record_deinit(&acks->record, budget);
    rb_free(budget, acks->replies, acks->replies_cap);
    rb_free(budget, acks, sizeof(*acks));
}

static void answer_all(struct rb_js_acks *acks)
{
    struct rb_reader reader = rb_reader_over(rb_slice_of(acks->replies, acks->replies_len));
    while (reader.at < reader.end) {
        answer(acks->account, rb_read_slice(&reader, rb_read_u16(&reader)));
    }
}

static void acks_done(struct rb_js_waiter *waiter, enum rb_err err, const void *outcome)
{
    struct rb_js_acks *acks = RB_CONTAINER(waiter, struct rb_js_acks, waiter);
    if (err == RB_OK) {
        answer_all(acks);
    }
    rb_js_acks_free(acks);
}

static bool keep_reply(struct rb_js_consumer *consumer, struct rb_slice reply)
{
    struct rb_js_acks *acks = need_batch(consumer);
    if (reply.len == 0) {
        return true;
    }
    if (acks == NULL || reply.len > UINT16_MAX || acks->replies_len > REPLIES_MAX) {
        return false;
    }
    uint32_t need = acks->replies_len + 2 + (uint32_t)reply.len;
    if (need > acks->replies_cap) {
        uint32_t cap = acks->replies_cap == 0 ? 256 : acks->replies_cap * 2;
        cap = cap < need ? need : cap;
        uint8_t *grown =
            rb_realloc(rb_js_consumer_js(consumer)->budget, acks->replies, acks->replies_cap, cap);
        if (grown == NULL) {
            return false;
        }
        acks->replies = grown;
        acks->replies_cap = cap;
    }
    acks->replies[acks->replies_len] = (uint8_t)reply.len;
    acks->replies[acks->replies_len + 1] = (uint8_t)(reply.len >> 8);
    memcpy(acks->replies + acks->replies_len + 2, reply.ptr, reply.len);
    acks->replies_len = need;
    return true;
}

/* The log will not take it any more: entries wait for their ack again. */
static void forget_batch(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    for (struct rb_js_pending_entry *entry = rb_js_pending_first(&in->acks); entry != NULL;
         entry = rb_js_pending_after(&in->acks, entry)) {
        if ((entry->flags & RB_JS_PENDING_ACKING) != 0) {
            entry->flags = (uint8_t)(entry->flags & ~RB_JS_PENDING_ACKING);
            in->acks.acking--;
        }
    }
    in->acked_through = 0;
    rb_js_acks_free(in->batch);
    in->batch = NULL;
}

/* Of a volatile consumer: acks that came during its run. */
static void settle_now(struct rb_js_consumer *consumer, struct rb_js_acks *acks)
{
    struct rb_js *js = rb_js_consumer_js(consumer);
    struct rb_js_record_reader at;
    struct rb_js_record_run run;
    if (rb_js_record_end(&acks->record, js->budget)) {
        rb_js_record_read(&at, rb_slice_of(acks->record.bytes, acks->record.len));
        while (rb_js_record_next(&at, &run)) {
            rb_js_consumer_settle(consumer, &run, js->wall_ns);
        }
        answer_all(acks);
    }
    rb_js_acks_free(acks);
}

bool rb_js_consumer_flush_acks(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js_acks *acks = in->batch;
    if (acks == NULL || (rb_js_record_empty(&acks->record) && acks->replies_len == 0)) {
        return true;
    }
    in->batch = NULL; /* done() may come at once */
    if (rb_js_consumer_is_volatile(consumer)) {
        settle_now(consumer, acks);
        return true;
    }
    acks->waiter.done = acks_done;
    enum rb_err err = rb_js_consumer_log_acks(consumer, &acks->record,
                                              acks->replies_len > 0 ? &acks->waiter : NULL);
    if (err == RB_ERR_FULL || err == RB_ERR_SPACE || err == RB_ERR_MEMORY) {
        in->batch = acks;
        return false;
    }
    if (err != RB_OK) {
        in->batch = acks;
        forget_batch(consumer);
    } else if (acks->replies_len == 0) {
        rb_js_record_clear(&acks->record, rb_js_consumer_js(consumer)->budget);
        in->batch = acks;
    }
    return true;
}

/* False: it could not be noted; the client will have to say it again. */
static bool note(struct rb_js_consumer *consumer, enum rb_js_record_op op, uint64_t seq,
                 uint64_t count, struct rb_slice reply)
{
    struct rb_js *js = rb_js_consumer_js(consumer);
    if (rb_js_consumer_is_volatile(consumer) && !consumer->inside->running) {
        struct rb_js_record_run run = { op, seq, 1, count };
        rb_js_consumer_settle(consumer, &run, js->wall_ns);
        answer(consumer->stream->account, reply);
        return true;
    }
    struct rb_js_acks *acks = need_batch(consumer);
    if (acks == NULL || !keep_reply(consumer, reply) ||
        !rb_js_record_add(&acks->record, js->budget, op, seq, count)) {
        return false;
    }
    rb_js_consumer_ready(consumer);
    if (acks->record.len >= BATCH_BYTES_MAX && !consumer->inside->running) {
        (void)rb_js_consumer_flush_acks(consumer);
    }
    return true;
}

static void mark_acking(struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js_pending_entry *entry = rb_js_pending_find(&in->acks, seq);
    if (entry != NULL && (entry->flags & RB_JS_PENDING_ACKING) == 0) {
        entry->flags |= RB_JS_PENDING_ACKING;
        in->acks.acking++;
    }
}

void rb_js_consumer_done_with(struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_pending_entry *entry;
    if (note(consumer, RB_JS_RECORD_ONE, seq, 1, RB_S(""))) {
        mark_acking(consumer, seq);
    } else if ((entry = rb_js_pending_find(&consumer->inside->acks, seq)) != NULL) {
        rb_js_pending_touch(&consumer->inside->acks, entry, consumer->config,
                            rb_js_consumer_js(consumer)->wall_ns);
    }
}

/* At apply */

void rb_js_consumer_move_floor(struct rb_js_consumer *consumer, uint64_t consumer_seq)
{
    const struct rb_js_pending_entry *first = rb_js_pending_first(&consumer->inside->acks);
    struct rb_js_consumer_place *floor = &consumer->ack_floor;
    struct rb_js_consumer_place next = consumer->delivered;
    if (first != NULL && consumer_seq != 0 && consumer_seq != floor->consumer_seq + 1) {
        return;
    }
    if (first != NULL) {
        next.consumer_seq = first->consumer_seq - 1;
        next.stream_seq = first->seq - 1;
    }
    if (next.consumer_seq > floor->consumer_seq) {
        floor->consumer_seq = next.consumer_seq;
        floor->stream_seq =
            next.stream_seq > floor->stream_seq ? next.stream_seq : floor->stream_seq;
    }
}

static void settle_one(struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js_pending_entry *entry = rb_js_pending_find(&in->acks, seq);
    if (entry != NULL) {
        uint64_t consumer_seq = entry->consumer_seq;
        rb_js_pending_drop(&in->acks, entry);
        rb_js_consumer_move_floor(consumer, consumer_seq);
    } else if (!rb_js_pending_unspend(&in->acks, seq)) {
        return;
    } else if (in->acks.live == 0) { /* what was spent does not move the floor, its ack may */
        rb_js_consumer_move_floor(consumer, 0);
    }
    rb_js_stream_acked(consumer->stream, consumer, seq);
}

static void settle_all(struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js_pending_entry *entry;
    uint64_t consumer_seq = consumer->ack_floor.consumer_seq;
    while ((entry = rb_js_pending_first(&in->acks)) != NULL && entry->seq <= seq) {
        uint64_t acked = entry->seq;
        consumer_seq = entry->consumer_seq > consumer_seq ? entry->consumer_seq : consumer_seq;
        rb_js_pending_drop(&in->acks, entry);
        rb_js_stream_acked(consumer->stream, consumer, acked);
    }
    while (in->acks.spent_len > 0 && in->acks.spent[0].seq <= seq) {
        uint64_t acked = in->acks.spent[0].seq;
        (void)rb_js_pending_unspend(&in->acks, acked);
        rb_js_stream_acked(consumer->stream, consumer, acked);
    }
    if (seq > consumer->ack_floor.stream_seq) {
        consumer->ack_floor.stream_seq = seq;
        consumer->ack_floor.consumer_seq = consumer_seq;
    }
}

static void settle_spent(struct rb_js_consumer *consumer, uint64_t seq, uint32_t count)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js_pending_entry *entry = rb_js_pending_find(&in->acks, seq);
    if (entry == NULL) {
        return;
    }
    if (!rb_js_pending_spend(&in->acks, seq, count)) {
        rb_js_consumer_give_up(consumer);
        return;
    }
    rb_js_pending_drop(&in->acks, entry);
}

void rb_js_consumer_settle(struct rb_js_consumer *consumer, const struct rb_js_record_run *run,
                           uint64_t time_ns)
{
    uint64_t last = run->seq + run->len - 1;
    if (last > consumer->delivered.stream_seq && consumer->stream->replaying) {
        rb_js_consumer_adopt(consumer, last + 1, time_ns);
    }
    if (last > consumer->delivered.stream_seq) {
        if (run->seq > consumer->delivered.stream_seq) {
            return; /* of messages that this consumer never delivered */
        }
        last = consumer->delivered.stream_seq;
    }
    for (uint64_t seq = run->seq; seq <= last; seq++) {
        switch (run->op) {
        case RB_JS_RECORD_ALL:
            settle_all(consumer, seq);
            break;
        case RB_JS_RECORD_SPENT:
            settle_spent(consumer, seq, (uint32_t)run->count);
            break;
        default:
            settle_one(consumer, seq);
            break;
        }
    }
    if (run->op != RB_JS_RECORD_SPENT) {
        consumer->ack_floor.last_ns = (int64_t)time_ns;
    }
    if (consumer->inside->opened && rb_js_consumer_could_run(consumer)) {
        rb_js_consumer_ready(consumer);
    }
}

/* Verbs */

/* `consumer_seq`: of the delivery that is acknowledged. */
static void sample(struct rb_js_consumer *consumer, const struct rb_js_pending_entry *entry,
                   uint64_t consumer_seq)
{
    struct rb_js *js = rb_js_consumer_js(consumer);
    int32_t percent = consumer->config->sample_freq.len == 0
                          ? 0
                          : rb_js_sample_percent(consumer->config->sample_freq);
    if (percent <= 0 || (percent < 100 && (int32_t)rb_env_below(js->env, 100) >= percent)) {
        return;
    }
    uint64_t since_ns = entry->time_ns < js->wall_ns ? js->wall_ns - entry->time_ns : 0;
    rb_js_consumer_advise(consumer, "METRIC.CONSUMER.ACK",
                          "io.nats.jetstream.metric.v1.consumer_ack", "",
                          ",\"consumer_seq\":%llu,\"stream_seq\":%llu,\"ack_time\":%llu,"
                          "\"deliveries\":%u",
                          (unsigned long long)consumer_seq, (unsigned long long)entry->seq,
                          (unsigned long long)since_ns, entry->count);
}

static void ack_one(struct rb_js_consumer *consumer, uint64_t seq, uint64_t consumer_seq,
                    struct rb_slice reply, bool sampled)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js_pending_entry *entry = rb_js_pending_find(&in->acks, seq);
    if (entry == NULL && seq != in->sending && !rb_js_pending_is_spent(&in->acks, seq)) {
        answer(consumer->stream->account, reply); /* it is acked */
        return;
    }
    if (entry != NULL && (entry->flags & RB_JS_PENDING_ACKING) == 0) {
        rb_counter_add(&rb_js_consumer_js(consumer)->stats.consumer_acks, 1);
        if (sampled && consumer->config->ack_policy == RB_JS_ACK_EXPLICIT) {
            sample(consumer, entry, consumer_seq);
        }
    } else if (entry != NULL && reply.len == 0) {
        return; /* said twice */
    }
    if (note(consumer, RB_JS_RECORD_ONE, seq, 1, reply)) {
        mark_acking(consumer, seq);
    }
}

void rb_js_consumer_ack_through(struct rb_js_consumer *consumer, uint64_t seq,
                                struct rb_slice reply)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    const struct rb_js_pending_entry *first = rb_js_pending_first(&in->acks);
    if (seq != in->sending && (first == NULL || first->seq > seq)) {
        answer(consumer->stream->account, reply);
        return;
    }
    rb_counter_add(&rb_js_consumer_js(consumer)->stats.consumer_acks, 1);
    if (!note(consumer, RB_JS_RECORD_ALL, seq, 1, reply)) {
        return;
    }
    /* Those up to the last one that was said are marked already. */
    for (struct rb_js_pending_entry *entry = rb_js_pending_from(&in->acks, in->acked_through + 1);
         entry != NULL && entry->seq <= seq; entry = rb_js_pending_after(&in->acks, entry)) {
        if ((entry->flags & RB_JS_PENDING_ACKING) == 0) {
            entry->flags |= RB_JS_PENDING_ACKING;
            in->acks.acking++;
        }
    }
    in->acked_through = seq > in->acked_through ? seq : in->acked_through;
}

static void ack(struct rb_js_consumer *consumer, uint64_t seq, uint64_t consumer_seq,
                struct rb_slice reply, bool sampled)
{
    if (consumer->config->ack_policy == RB_JS_ACK_EXPLICIT) {
        ack_one(consumer, seq, consumer_seq, reply, sampled);
    } else {
        rb_js_consumer_ack_through(consumer, seq, reply);
    }
}

/* Delivered as often as allowed. False: it could not be noted. */
static bool spend(struct rb_js_consumer *consumer, const struct rb_js_pending_entry *entry)
{
    uint64_t seq = entry->seq;
    uint32_t count = entry->count;
    if (!note(consumer, RB_JS_RECORD_SPENT, seq, count, RB_S(""))) {
        return false;
    }
    mark_acking(consumer, seq);
    rb_js_consumer_advise(consumer, "ADVISORY.CONSUMER.MAX_DELIVERIES",
                          "io.nats.jetstream.advisory.v1.max_deliver", "",
                          ",\"stream_seq\":%llu,\"deliveries\":%u", (unsigned long long)seq, count);
    return true;
}

static bool may_deliver_again(const struct rb_js_consumer *consumer,
                              const struct rb_js_pending_entry *entry)
{
    int64_t max = consumer->config->max_deliver;
    return max <= 0 || (int64_t)entry->count < max;
}

static void queue_again(struct rb_js_consumer *consumer, struct rb_js_pending_entry *entry)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    bool again = may_deliver_again(consumer, entry);
    if (again && rb_js_pending_queue(&in->acks, entry->seq)) {
        entry->flags |= RB_JS_PENDING_QUEUED;
        rb_js_consumer_ready(consumer);
    } else if (again || !spend(consumer, entry)) { /* memory was refused: it waits once more */
        rb_js_pending_touch(&in->acks, entry, consumer->config,
                            rb_js_consumer_js(consumer)->wall_ns);
    }
}

void rb_js_consumer_expire_all(struct rb_js_consumer *consumer)
{
    struct rb_js_pending *acks = &consumer->inside->acks;
    uint32_t before = acks->queue_len;
    for (struct rb_js_pending_entry *entry = rb_js_pending_first(acks), *next; entry != NULL;
         entry = next) {
        next = rb_js_pending_after(acks, entry);
        if ((entry->flags & (RB_JS_PENDING_QUEUED | RB_JS_PENDING_ACKING)) == 0) {
            queue_again(consumer, entry);
        }
    }
    rb_js_pending_queue_sort(acks, acks->queue_len - before);
}

struct nak {
    int64_t delay;
};
static const struct rb_doc_field nak_fields[] = { { "delay", RB_DOC_DURATION, 0,
                                                    offsetof(struct nak, delay) } };
static const struct rb_doc_type nak_type = { "ConsumerNakOptions", sizeof(struct nak), nak_fields,
                                             1 };

/* What follows -NAK; 0: at once, also when it cannot be read. */
static int64_t nak_delay(struct rb_slice text)
{
    text = trim(text);
    int64_t delay_ns = 0;
    if (text.len == 0) {
        return 0;
    }
    if (text.ptr[0] != '{') {
        return rb_js_duration_parse(text, &delay_ns) ? delay_ns : 0;
    }
    struct rb_arena *arena;
    struct nak options = { 0 };
    char error[RB_DOC_ERROR_MAX];
    if (rb_arena_create(256, &arena) != RB_OK) {
        return 0;
    }
    delay_ns = rb_doc_read(arena, &nak_type, text, false, &options, error) ? options.delay : 0;
    rb_arena_destroy(arena);
    return delay_ns;
}

static struct rb_js_pending_entry *unacked(struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_pending_entry *entry = rb_js_pending_find(&consumer->inside->acks, seq);
    return entry == NULL || (entry->flags & RB_JS_PENDING_ACKING) != 0 ? NULL : entry;
}

static void refuse(struct rb_js_consumer *consumer, uint64_t seq, uint64_t consumer_seq,
                   uint64_t deliveries, struct rb_slice text)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    struct rb_js_pending_entry *entry = unacked(consumer, seq);
    if (entry == NULL) {
        return;
    }
    rb_js_consumer_advise(
        consumer, "ADVISORY.CONSUMER.MSG_NAKED", "io.nats.jetstream.advisory.v1.nak", "",
        ",\"consumer_seq\":%llu,\"stream_seq\":%llu,\"deliveries\":%llu",
        (unsigned long long)consumer_seq, (unsigned long long)seq, (unsigned long long)deliveries);
    int64_t delay_ns = nak_delay(text);
    if (delay_ns > 0) {
        uint64_t wait_ns = rb_js_pending_wait_ns(consumer->config, entry->count);
        rb_js_pending_touch(&in->acks, entry, consumer->config,
                            js->wall_ns - wait_ns + (uint64_t)delay_ns);
        rb_js_consumer_want(consumer, js->now_ns + (uint64_t)delay_ns);
    } else if ((entry->flags & RB_JS_PENDING_QUEUED) == 0) {
        queue_again(consumer, entry);
    }
}

static void prolong(struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_pending_entry *entry = unacked(consumer, seq);
    if (entry != NULL) {
        rb_js_pending_touch(&consumer->inside->acks, entry, consumer->config,
                            rb_js_consumer_js(consumer)->wall_ns);
    }
}

static void advise_terminated(struct rb_js_consumer *consumer, uint64_t seq, uint64_t consumer_seq,
                              uint64_t deliveries, struct rb_slice reason)
{
    struct rb_out out;
    rb_out_init(&out, rb_js_consumer_js(consumer)->budget);
    if (reason.len > 0) {
        rb_out_printf(&out, ",\"reason\":");
        rb_out_string(&out,
                      rb_slice_of(reason.ptr, reason.len < REASON_MAX ? reason.len : REASON_MAX));
    }
    struct rb_slice text = out.failed || out.len > 700 ? RB_S("") : rb_out_slice(&out);
    rb_js_consumer_advise(consumer, "ADVISORY.CONSUMER.MSG_TERMINATED",
                          "io.nats.jetstream.advisory.v1.terminated", "",
                          ",\"consumer_seq\":%llu,\"stream_seq\":%llu,\"deliveries\":%llu%.*s",
                          (unsigned long long)consumer_seq, (unsigned long long)seq,
                          (unsigned long long)deliveries, RB_S_ARG(text));
    rb_out_deinit(&out);
}

static void terminate(struct rb_js_consumer *consumer, uint64_t seq, uint64_t consumer_seq,
                      uint64_t deliveries, struct rb_slice reason, struct rb_slice reply)
{
    if (unacked(consumer, seq) == NULL) {
        answer(consumer->stream->account, reply);
        return;
    }
    advise_terminated(consumer, seq, consumer_seq, deliveries, trim(reason));
    ack_one(consumer, seq, consumer_seq, reply, false);
}

static bool starts(struct rb_slice payload, struct rb_slice verb, struct rb_slice *ret_rest)
{
    if (!rb_slice_starts(payload, verb)) {
        return false;
    }
    *ret_rest = rb_slice_of(payload.ptr + verb.len, payload.len - verb.len);
    return true;
}

void rb_js_consumer_ack(struct rb_js_consumer *consumer, uint64_t stream_seq, uint64_t consumer_seq,
                        uint64_t delivery_count, struct rb_slice reply, struct rb_slice payload)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_slice rest;
    if (!rb_js_consumer_hears_acks(consumer) || !in->opened || in->doomed) {
        return;
    }
    in->active_ns = rb_js_consumer_js(consumer)->now_ns;
    bool delivered = stream_seq <= consumer->delivered.stream_seq || stream_seq == in->sending;
    if (payload.len == 0 || rb_slice_equal(payload, RB_S("+ACK")) ||
        rb_slice_equal(payload, RB_S("+OK"))) {
        if (delivered) {
            ack(consumer, stream_seq, consumer_seq, reply, true);
        }
    } else if (starts(payload, RB_S("+NXT"), &rest)) {
        if (delivered) {
            ack(consumer, stream_seq, consumer_seq, RB_S(""), true);
        }
        if (reply.len > 0 && !rb_js_consumer_is_push(consumer)) {
            rb_js_consumer_request(consumer, reply, trim(rest));
        }
    } else if (starts(payload, RB_S("+TERM"), &rest)) {
        if (delivered) {
            terminate(consumer, stream_seq, consumer_seq, delivery_count, rest, reply);
        }
    } else {
        if (starts(payload, RB_S("-NAK"), &rest)) {
            refuse(consumer, stream_seq, consumer_seq, delivery_count, rest);
        } else if (rb_slice_equal(payload, RB_S("+WPI"))) {
            prolong(consumer, stream_seq);
        }
        answer(consumer->stream->account, reply);
    }
}

/* At apply: the same on every replay. Advisories are not sent then. */
void rb_js_consumer_lost(struct rb_js_consumer *consumer, struct rb_js_pending_entry *entry)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_msgstore_state state;
    uint64_t seq = entry->seq, consumer_seq = entry->consumer_seq;
    uint32_t count = entry->count;
    rb_js_pending_drop(&in->acks, entry);
    rb_js_consumer_move_floor(consumer, consumer_seq);
    if (in->opened) {
        consumer->ack_floor.last_ns = (int64_t)rb_js_consumer_js(consumer)->wall_ns;
        rb_msgstore_state(consumer->stream->store, &state);
        advise_terminated(consumer, seq, consumer_seq, count,
                          seq < state.first_seq ? RB_S("Message deleted by stream limits")
                                                : RB_S("Unacknowledged message was deleted"));
        rb_js_consumer_ready(consumer);
    }
}

uint64_t rb_js_consumer_overdue(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    uint64_t due_ns = UINT64_MAX;
    uint32_t queued = 0;
    if (consumer->config->ack_wait == 0 || consumer->config->ack_policy == RB_JS_ACK_FLOW_CONTROL) {
        return UINT64_MAX;
    }
    struct rb_js_pending_entry *entry;
    while ((entry = rb_js_pending_overdue(&in->acks, consumer->config, js->wall_ns, &due_ns)) !=
           NULL) {
        if ((entry->flags & RB_JS_PENDING_ACKING) != 0) {
            /* Its ack is on the way to the disk; should the log refuse it, its time comes again. */
            rb_js_pending_touch(&in->acks, entry, consumer->config, js->wall_ns);
            continue;
        }
        uint32_t before = in->acks.queue_len;
        entry->flags = (uint8_t)(entry->flags & ~RB_JS_PENDING_QUEUED);
        queue_again(consumer, entry);
        queued += in->acks.queue_len - before;
    }
    rb_js_pending_queue_sort(&in->acks, queued);
    if (due_ns == UINT64_MAX) {
        return UINT64_MAX;
    }
    return js->now_ns + (due_ns > js->wall_ns ? due_ns - js->wall_ns : 0);
}
