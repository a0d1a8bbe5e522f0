/* fast_batch.c - fast batches: a publisher sends without waiting, numbers its messages in the reply subject, and is told now and then
 * how far they are stored.
 *
 *   <inbox>.<id>.<flow>.<fail|ok>.<sequence>.<operation>.$FI      operation: 0 first, 1 next, 2 last, 3 end (not stored), 4 ping
 *
 *   arrival: lost and repeated messages, the end  ->  one PUBLISH command each  ->  stored(): flow acks, errors, the final PubAck
 *
 * 1. A batch is the proposer's alone, and a restart forgets it. Its messages are visible as soon as each is stored.
 * 2. Publisher and log are both ahead: what follows a refused message is in the log before anybody knows. With `fail` nothing may be
 *    stored behind such a gap, so each command names the one before it, and apply() refuses it when that one was refused. Which
 *    were is state of the stream. Only WINDOW commands can be between the two, so older ones are forgotten.
 * 3. Commands are applied in order: when one is, all before it of its batch have been.
 * 4. A batch lives until its last command is applied; ended ones are found by nobody. Who comes too late is told E10208.
 */
#include <stdio.h>
#include <string.h>

#include "js/publish.h"
#include "js/saved.h"
#include "ringbus/check.h"

#define ID_MAX 64u
#define PER_STREAM 1000u
#define TOTAL 50000u
#define TIMEOUT_NS UINT64_C(10000000000)
#define FLOW_DEFAULT 10u
#define FLOW_ALONE 500u /* shared by the open batches of a stream */
#define WINDOW 131072u  /* commands of one stream that may wait while it has fast batches */
#define ANSWER_BYTES_MAX 4096u
#define SUFFIX RB_S(".$FI")

enum operation { FIRST, NEXT, LAST, END, PING };

/* What a reply subject says. */
struct ask {
    struct rb_slice id;
    uint64_t sequence;
    uint16_t flow;
    enum operation operation;
    bool gap_ok;
};

struct rb_js_fast {
    struct rb_list link; /* in the stream, the one that was silent longest first */
    struct rb_js_stream *stream;
    uint64_t id_hash, touched_ns;
    uint64_t arrived, stored,
        told;            /* sequences: last that counts, last that was decided, last flow ack */
    uint64_t stream_seq; /* of the last one stored */
    uint64_t previous;   /* index of the last command; 0: none */
    uint8_t *end_reply;  /* who ended it and waits; allocated, NULL: nobody */
    uint32_t end_reply_len, pending, id_len;
    uint16_t flow_max, flow;
    bool gap_ok, ending, ended, leaving, end_too_late;
    uint8_t id[ID_MAX];
};

static uint64_t or_default(uint64_t value, uint64_t fallback)
{
    return value == 0 ? fallback : value;
}

/* ---- reply subjects ---- */

bool rb_js_fast_is(struct rb_slice reply)
{
    return reply.len > SUFFIX.len &&
           memcmp(reply.ptr + reply.len - SUFFIX.len, SUFFIX.ptr, SUFFIX.len) == 0;
}

/* Takes the last token and its dot off; false: there is no dot. */
static bool last_token(struct rb_slice *subject, struct rb_slice *ret_token)
{
    for (size_t at = subject->len; at > 0; at--) {
        if (subject->ptr[at - 1] == '.') {
            *ret_token = rb_slice_of(subject->ptr + at, subject->len - at);
            subject->len = at - 1;
            return true;
        }
    }
    return false;
}

static bool parse(struct rb_slice reply, struct ask *ret_ask)
{
    struct rb_slice operation, sequence, gap, flow;
    struct ask ask;
    reply.len -= SUFFIX.len;
    if (!last_token(&reply, &operation) || !last_token(&reply, &sequence) ||
        !last_token(&reply, &gap) || !last_token(&reply, &flow) || !last_token(&reply, &ask.id)) {
        return false;
    }
    uint64_t kind = rb_js_header_number(operation), most = rb_js_header_number(flow);
    ask.sequence = rb_js_header_number(sequence);
    ask.gap_ok = rb_slice_equal(gap, RB_S("ok"));
    if (kind > PING || ask.sequence == 0 || ask.sequence == UINT64_MAX ||
        (!ask.gap_ok && !rb_slice_equal(gap, RB_S("fail")))) {
        return false;
    }
    ask.operation = (enum operation)kind;
    if (most == 0 || most == UINT64_MAX) {
        most = FLOW_DEFAULT;
    }
    ask.flow = (uint16_t)(most > UINT16_MAX ? UINT16_MAX : most);
    bool first = ask.sequence == 1;
    if ((ask.operation == FIRST && !first) || (ask.operation == NEXT && first) ||
        (ask.operation == END && first)) {
        return false;
    }
    *ret_ask = ask;
    return true;
}

/* ---- answers ---- */

static void say(struct rb_js_stream *stream, struct rb_slice to, struct rb_slice body)
{
    (void)rb_js_send(stream->account, to, rb_slice_of(NULL, 0), rb_slice_of(NULL, 0), 0, body);
}

static void say_flow(struct rb_js_fast *fast, struct rb_slice to, uint64_t sequence)
{
    char text[96];
    (void)snprintf(text, sizeof(text), "{\"type\":\"ack\",\"seq\":%llu,\"msgs\":%u}",
                   (unsigned long long)sequence, (unsigned)fast->flow);
    say(fast->stream, to, rb_slice_text(text));
}

static void say_gap(struct rb_js_stream *stream, struct rb_slice to, uint64_t expected,
                    uint64_t sequence)
{
    char text[96];
    (void)snprintf(text, sizeof(text), "{\"type\":\"gap\",\"last_seq\":%llu,\"seq\":%llu}",
                   (unsigned long long)expected, (unsigned long long)sequence);
    say(stream, to, rb_slice_text(text));
}

static void say_error(struct rb_js_stream *stream, struct rb_slice to, uint64_t sequence,
                      const struct rb_js_error *error)
{
    struct rb_out out;
    rb_out_init(&out, stream->account->js->budget);
    rb_out_printf(&out, "{\"type\":\"err\",\"seq\":%llu,\"error\":", (unsigned long long)sequence);
    rb_js_error_write(&out, error);
    rb_out_put(&out, RB_S("}"));
    if (!out.failed) {
        say(stream, to, rb_out_slice(&out));
    }
    rb_out_deinit(&out);
}

/* The PubAck at the end; also where the stream acknowledges nothing else (no_ack). */
static void say_end(struct rb_js_fast *fast, struct rb_slice to, uint64_t stream_seq,
                    bool duplicate, uint64_t count)
{
    struct rb_js_stream *stream = fast->stream;
    uint8_t bytes[ANSWER_BYTES_MAX], quoted[4 * ID_MAX];
    size_t len = rb_format_quoted(quoted, sizeof(quoted), rb_slice_of(fast->id, fast->id_len));
    struct rb_writer writer = rb_writer_over(bytes, sizeof(bytes));
    rb_write_slice(&writer, stream->inside->ack_head);
    rb_write_decimal(&writer, stream_seq);
    if (duplicate) {
        rb_write_slice(&writer, RB_S(",\"duplicate\": true"));
    }
    rb_write_slice(&writer, RB_S(",\"batch\":\""));
    rb_write_slice(&writer, rb_slice_of(quoted, len));
    rb_write_slice(&writer, RB_S("\",\"count\":"));
    rb_write_decimal(&writer, count);
    rb_write_u8(&writer, '}');
    rb_counter_add(&stream->account->js->stats.acks, 1);
    say(stream, to, rb_slice_of(bytes, rb_writer_len(&writer)));
}

static void refuse(struct rb_js_stream *stream, struct rb_slice reply, uint16_t code)
{
    struct rb_js_outcome outcome = { .seq = 0 };
    rb_js_error_set(&outcome.error, code, NULL);
    rb_js_stream_answer(stream, reply, &outcome, rb_slice_of(NULL, 0), 0);
}

/* ---- life ---- */

static bool has_id(const void *item, struct rb_slice key)
{
    const struct rb_js_fast *fast = item;
    return rb_slice_equal(rb_slice_of(fast->id, fast->id_len), key);
}

static uint64_t hash_of(const void *item)
{
    return ((const struct rb_js_fast *)item)->id_hash;
}

void rb_js_fast_init(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    rb_list_init(&inside->fast);
    rb_list_init(&inside->fast_ended);
    rb_map_init(&inside->fast_map, stream->account->js->budget, 0, has_id, hash_of);
}

static void touch(struct rb_js_fast *fast)
{
    fast->touched_ns = rb_env_now(fast->stream->account->js->env); /* the turn is older */
    rb_list_remove(&fast->link);
    rb_list_append(&fast->stream->inside->fast, &fast->link);
}

/* Nobody finds it any more; release() frees it. */
static void end(struct rb_js_fast *fast)
{
    struct rb_js_stream *stream = fast->stream;
    bool found = rb_map_remove(&stream->inside->fast_map, fast->id_hash, fast);
    rb_assert(found && !fast->ended);
    rb_list_remove(&fast->link);
    rb_list_append(&stream->inside->fast_ended, &fast->link);
    fast->ended = true;
    atomic_fetch_sub_explicit(&stream->account->js->shared->fast_batches, 1, memory_order_relaxed);
}

static void free_batch(struct rb_js_fast *fast)
{
    struct rb_budget *budget = fast->stream->account->js->budget;
    rb_free(budget, fast->end_reply, fast->end_reply_len);
    rb_free(budget, fast, sizeof(*fast));
}

static void release(struct rb_js_fast *fast)
{
    if (fast->ended && fast->pending == 0) {
        rb_list_remove(&fast->link);
        free_batch(fast);
    }
}

void rb_js_fast_deinit(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    while (!rb_list_empty(&inside->fast)) {
        end(RB_CONTAINER(inside->fast.next, struct rb_js_fast, link));
    }
    for (struct rb_list *link; (link = rb_list_pop(&inside->fast_ended)) != NULL;) {
        free_batch(RB_CONTAINER(link, struct rb_js_fast, link)); /* the log forgot its commands */
    }
    rb_map_deinit(&inside->fast_map);
    rb_free(stream->account->js->budget, inside->fast_refused.indexes,
            inside->fast_refused.cap * sizeof(uint64_t));
}

void rb_js_fast_drop(struct rb_js_stream *stream)
{
    struct rb_list *batches = &stream->inside->fast;
    for (struct rb_list *link = batches->next, *next; link != batches; link = next) {
        next = link->next;
        struct rb_js_fast *fast = RB_CONTAINER(link, struct rb_js_fast, link);
        fast->leaving = true;
        if (fast->pending == 0) {
            end(fast);
            release(fast);
        }
    }
}

uint64_t rb_js_fast_due(struct rb_js_stream *stream)
{
    struct rb_js *js = stream->account->js;
    struct rb_list *batches = &stream->inside->fast;
    uint64_t timeout_ns = or_default(js->settings->batch_timeout_ns, TIMEOUT_NS);
    while (!rb_list_empty(batches)) {
        struct rb_js_fast *fast = RB_CONTAINER(batches->next, struct rb_js_fast, link);
        if (fast->touched_ns + timeout_ns > js->now_ns) {
            return fast->touched_ns + timeout_ns;
        }
        if (fast->pending > 0) { /* it is not its publisher that is slow */
            touch(fast);
        } else {
            end(fast);
            release(fast);
        }
    }
    return UINT64_MAX;
}

static struct rb_js_fast *make(struct rb_js_stream *stream, const struct ask *ask)
{
    struct rb_js *js = stream->account->js;
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_js_fast *fast = rb_alloc(js->budget, sizeof(*fast));
    if (fast == NULL) {
        return NULL;
    }
    *fast = (struct rb_js_fast){ .stream = stream,
                                 .id_hash = rb_slice_hash(ask->id),
                                 .id_len = (uint32_t)ask->id.len,
                                 .flow_max = ask->flow,
                                 .touched_ns = rb_env_now(js->env),
                                 .gap_ok = ask->gap_ok };
    memcpy(fast->id, ask->id.ptr, ask->id.len);
    rb_list_init(&fast->link);
    if (rb_map_insert(&inside->fast_map, fast->id_hash, fast) != RB_OK) {
        rb_free(js->budget, fast, sizeof(*fast));
        return NULL;
    }
    rb_list_append(&inside->fast, &fast->link);
    atomic_fetch_add_explicit(&js->shared->fast_batches, 1, memory_order_relaxed);
    fast->flow = ask->flow < FLOW_ALONE ? ask->flow : FLOW_ALONE;
    if (inside->fast_map.count > 1) {
        fast->flow = 1;
    }
    rb_js_stream_arm(stream);
    return fast;
}

/* The batch that is asked for, begun when this is its first message. NULL: answered. */
static struct rb_js_fast *batch_for(struct rb_js_stream *stream, const struct ask *ask,
                                    struct rb_slice reply)
{
    struct rb_js *js = stream->account->js;
    const struct rb_map *map = &stream->inside->fast_map;
    struct rb_js_fast *fast = rb_map_find(map, rb_slice_hash(ask->id), ask->id);
    if (fast != NULL) {
        return fast;
    }
    if (ask->sequence != 1 || ask->operation == PING) {
        refuse(stream, reply, 10208);
        return NULL;
    }
    uint64_t total = atomic_load_explicit(&js->shared->fast_batches, memory_order_relaxed);
    if (map->count >= or_default(js->settings->batch_inflight_per_stream, PER_STREAM) ||
        total >= or_default(js->settings->batch_inflight_total, TOTAL)) {
        refuse(stream, reply, 10211);
        return NULL;
    }
    fast = make(stream, ask);
    if (fast == NULL) {
        rb_js_stream_refuse(stream, reply, RB_ERR_MEMORY);
    }
    return fast;
}

/* ---- flow and end ---- */

/* True: told. Open batches share what may be unacknowledged, and approach their part of it by doubling. */
static bool check_flow(struct rb_js_fast *fast, struct rb_slice reply)
{
    if (fast->stored < fast->told + fast->flow) {
        return false;
    }
    fast->told += (fast->stored - fast->told) / fast->flow * fast->flow;
    uint32_t most = FLOW_ALONE / fast->stream->inside->fast_map.count;
    most = most < 1 ? 1 : most;
    most = most > fast->flow_max ? fast->flow_max : most;
    uint32_t flow = fast->flow;
    if (flow < most) {
        flow = flow * 2 > most ? most : flow * 2;
    } else if (flow > most) {
        flow = flow / 2 < most ? most : flow / 2;
    }
    fast->flow = (uint16_t)flow;
    say_flow(fast, reply, fast->told);
    return true;
}

static void finish(struct rb_js_fast *fast, struct rb_slice reply)
{
    say_end(fast, reply, fast->stream_seq, false, fast->arrived);
    end(fast);
}

/* What arrived is all that comes: at once when it is stored, else when that is so. */
static void end_with(struct rb_js_fast *fast, struct rb_slice reply)
{
    if (fast->pending == 0) {
        finish(fast, reply);
        return;
    }
    fast->ending = true;
    if (fast->end_reply == NULL && reply.len > 0) {
        fast->end_reply = rb_alloc(fast->stream->account->js->budget, reply.len);
        if (fast->end_reply != NULL) { /* else whoever sent the last message is told */
            fast->end_reply_len = (uint32_t)reply.len;
            memcpy(fast->end_reply, reply.ptr, reply.len);
        }
    }
}

static struct rb_slice end_reply(const struct rb_js_fast *fast, struct rb_slice otherwise)
{
    return fast->end_reply == NULL ? otherwise : rb_slice_of(fast->end_reply, fast->end_reply_len);
}

/* ---- what became of a message ---- */

static void was_duplicate(struct rb_js_fast *fast, const struct ask *ask, struct rb_slice reply,
                          const struct rb_js_outcome *outcome)
{
    if (fast->pending > 0) {
        return; /* counted with those behind it */
    }
    fast->stored = fast->arrived;
    (void)check_flow(fast, reply);
    if (!fast->ending) {
        return;
    }
    if (ask->operation == LAST && !ask->gap_ok && fast->arrived == 1) {
        say_end(fast, reply, outcome->seq, true, 1);
        end(fast);
    } else {
        finish(fast, end_reply(fast, reply));
    }
}

static void was_refused(struct rb_js_fast *fast, const struct ask *ask, struct rb_slice reply,
                        const struct rb_js_outcome *outcome)
{
    struct rb_js_stream *stream = fast->stream;
    if (ask->gap_ok && ask->operation != LAST) {
        say_error(stream, reply, ask->sequence, &outcome->error);
        if (fast->ending && fast->pending == 0) {
            finish(fast, end_reply(fast, reply));
        }
        return;
    }
    if (!ask->gap_ok && ask->sequence == 1) {
        rb_js_stream_answer(stream, reply, outcome, rb_slice_of(NULL, 0), 0);
        end(fast);
    } else {
        say_error(stream, reply, ask->sequence, &outcome->error);
        fast->arrived = ask->sequence - 1; /* invariant 3 */
        finish(fast, reply);
    }
    fast->end_too_late = fast->end_reply != NULL;
}

static void was_stored(struct rb_js_fast *fast, const struct ask *ask, struct rb_slice reply,
                       const struct rb_js_outcome *outcome)
{
    fast->stream_seq = outcome->seq;
    fast->stored = fast->pending == 0 ? fast->arrived : ask->sequence;
    if (fast->ending && fast->pending == 0) {
        finish(fast, end_reply(fast, reply));
    } else {
        (void)check_flow(fast, reply);
    }
}

static void stored(struct rb_js_waiter *waiter, enum rb_err err, const void *result)
{
    struct rb_js_replier *replier = RB_CONTAINER(waiter, struct rb_js_replier, waiter);
    struct rb_js_fast *fast = replier->ctx;
    const struct rb_js_outcome *outcome = result;
    struct ask ask;
    bool good = parse(replier->reply, &ask);
    rb_assert(good && fast->pending > 0); /* it was read when it came */
    fast->pending--;
    if (err != RB_OK) {
        rb_js_stream_refuse(fast->stream, replier->reply, err);
        if (!fast->ended) {
            end(fast);
        }
    } else if (fast->ended) {
        if (outcome->held) {
            refuse(fast->stream, replier->reply, 10208);
        }
    } else if (outcome->error.code != 0) {
        was_refused(fast, &ask, replier->reply, outcome);
    } else if (outcome->duplicate) {
        was_duplicate(fast, &ask, replier->reply, outcome);
    } else {
        was_stored(fast, &ask, replier->reply, outcome);
    }
    if (fast->end_too_late && fast->pending == 0) {
        refuse(fast->stream, end_reply(fast, replier->reply), 10208);
    }
    if (fast->leaving && !fast->ended && fast->pending == 0) {
        end(fast);
    }
    release(fast);
}

/* ---- arrival ---- */

static void take_ping(struct rb_js_fast *fast, const struct ask *ask, struct rb_slice reply)
{
    bool tell = true;
    if (ask->sequence > fast->arrived) {
        say_gap(fast->stream, reply, fast->arrived + 1, ask->sequence + 1);
        if (fast->gap_ok) {
            fast->arrived = ask->sequence;
            if (fast->pending == 0) {
                fast->stored = fast->arrived;
            }
            tell = !check_flow(fast, reply);
        } else {
            end_with(fast, reply);
            tell = !fast->ended;
        }
    }
    if (tell) {
        say_flow(fast, reply, fast->told);
    }
}

/* False: it cannot follow what came before it, and the batch ends there. */
static bool follows(struct rb_js_fast *fast, const struct ask *ask, struct rb_slice reply)
{
    if (ask->sequence == fast->arrived + 1) {
        return true;
    }
    say_gap(fast->stream, reply, fast->arrived + 1, ask->sequence);
    if (fast->gap_ok && ask->sequence > fast->arrived) {
        return true;
    }
    end_with(fast, reply);
    return false;
}

static enum rb_err propose(struct rb_js_fast *fast, const struct ask *ask, struct rb_slice reply,
                           struct rb_command *command)
{
    struct rb_js_group *group = &fast->stream->group;
    command->flags |= RB_COMMAND_FAST;
    command->seq = ask->gap_ok ? 0 : 1;
    command->value = fast->previous;
    if (group->last - group->applied >= WINDOW) {
        return RB_ERR_FULL;
    }
    enum rb_err err = rb_js_group_propose_reply(group, command, stored, fast, reply);
    if (err == RB_OK) {
        fast->previous = group->last;
        fast->pending++;
    }
    return err;
}

static void take_message(struct rb_js_fast *fast, const struct ask *ask, struct rb_slice reply,
                         struct rb_command *command)
{
    struct rb_js_stream *stream = fast->stream;
    if (!follows(fast, ask, reply)) {
        return;
    }
    if (ask->operation == END) {
        fast->arrived = ask->sequence - 1;
        end_with(fast, reply);
        return;
    }
    enum rb_err err = propose(fast, ask, reply, command);
    if (err != RB_OK) { /* as if it had been lost: the next one will show the gap */
        rb_js_stream_refuse(stream, reply, err);
        if (fast->previous == 0) {
            end(fast);
        }
        return;
    }
    fast->arrived = ask->sequence;
    fast->ending = ask->operation == LAST;
    if (ask->sequence == 1 && !fast->ending && !stream->config->no_ack) {
        say_flow(fast, reply, 0);
    }
}

static void take(struct rb_js_fast *fast, const struct ask *ask, struct rb_slice reply,
                 struct rb_command *command)
{
    touch(fast);
    if (ask->operation == PING) {
        take_ping(fast, ask, reply);
    } else if (!fast->ending) { /* else the end is on its way to whoever waits */
        take_message(fast, ask, reply, command);
    }
}

/* What is refused before it is looked at as part of a batch. */
static bool check_plain(struct rb_js_stream *stream, const struct rb_command *command,
                        struct rb_js_outcome *outcome)
{
    if (stream->config->sealed) {
        rb_js_error_set(&outcome->error, 10109, NULL);
        return false;
    }
    if (!rb_js_check_room_flags(command, RB_COMMAND_NO_ROOM, outcome) ||
        !rb_js_check_room_flags(command, RB_COMMAND_OVER_ACCOUNT, outcome) ||
        !rb_js_check_size(stream, command->text.len, outcome)) {
        return false;
    }
    if (!stream->config->allow_batched) {
        rb_js_error_set(&outcome->error, 10205, NULL);
        return false;
    }
    return true;
}

/* The header that asks for a level of the server is not stored. NULL: memory refused. */
static uint8_t *without_level(struct rb_js_stream *stream, struct rb_command *command)
{
    uint8_t *copy = rb_js_pools_take(&stream->account->js->pools, command->text.len);
    if (copy == NULL) {
        return NULL;
    }
    struct rb_slice text = command->text;
    size_t body = text.len - command->header_len;
    size_t len = rb_js_headers_without(rb_slice_of(text.ptr, command->header_len),
                                       RB_S("Nats-Required-Api-Level:"), copy, command->header_len);
    memcpy(copy + len, text.ptr + command->header_len, body);
    command->text = rb_slice_of(copy, len + body);
    command->header_len = (uint32_t)len;
    return copy;
}

/* Asks for a level: refused and ended, or taken without that header. */
static void take_level(struct rb_js_fast *fast, const struct ask *ask, struct rb_slice reply,
                       struct rb_command *command, struct rb_slice level)
{
    struct rb_js_stream *stream = fast->stream;
    uint64_t wanted = rb_js_header_number(level);
    size_t bytes = command->text.len;
    if (wanted > RB_JS_API_LEVEL) { /* or no number */
        refuse(stream, reply, 10185);
        end(fast);
        return;
    }
    uint8_t *copy = without_level(stream, command);
    if (copy == NULL) {
        rb_js_stream_refuse(stream, reply, RB_ERR_MEMORY);
        end(fast);
        return;
    }
    take(fast, ask, reply, command);
    rb_js_pools_give(&stream->account->js->pools, copy, bytes);
}

void rb_js_fast_take(struct rb_js_stream *stream, struct rb_slice subject, struct rb_slice reply,
                     struct rb_slice payload, uint32_t header_len,
                     const struct rb_js_headers *headers)
{
    struct ask ask;
    struct rb_js_outcome outcome = { .seq = 0 };
    struct rb_command command = {
        .type = RB_COMMAND_PUBLISH, .subject = subject, .text = payload, .header_len = header_len
    };
    rb_js_stream_stamp(stream, &command);
    if (!check_plain(stream, &command, &outcome)) {
        rb_js_stream_answer(stream, reply, &outcome, rb_slice_of(NULL, 0), 0);
        return;
    }
    if (!parse(reply, &ask)) {
        refuse(stream, reply, 10206);
        return;
    }
    if (ask.id.len > ID_MAX) {
        refuse(stream, reply, 10207);
        return;
    }
    struct rb_js_fast *fast = batch_for(stream, &ask, reply);
    if (fast == NULL) {
        return;
    }
    if (headers != NULL && rb_js_headers_has(headers, RB_JS_H_API_LEVEL)) {
        take_level(fast, &ask, reply, &command, headers->value[RB_JS_H_API_LEVEL]);
    } else {
        take(fast, &ask, reply, &command);
    }
    release(fast);
}

/* ---- applying ---- */

static bool was_index_refused(const struct rb_js_fast_refused *refused, uint64_t index)
{
    uint32_t low = 0, high = refused->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (refused->indexes[middle] == index) {
            return true;
        }
        if (refused->indexes[middle] < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

static void forget_refused(struct rb_js_fast_refused *refused, uint64_t now)
{
    uint32_t gone = 0;
    while (gone < refused->count && refused->indexes[gone] + WINDOW < now) {
        gone++;
    }
    refused->count -= gone;
    memmove(refused->indexes, refused->indexes + gone, refused->count * sizeof(uint64_t));
}

static bool note_refused(struct rb_js_fast_refused *refused, struct rb_budget *budget,
                         uint64_t index)
{
    bool full = refused->count == refused->cap;
    if (full && refused->count > 0) {
        forget_refused(refused, index);
    }
    if (full && refused->count >= refused->cap / 2) { /* else it will be a while */
        uint32_t cap = refused->cap == 0 ? 16 : refused->cap * 2;
        uint64_t *grown = rb_realloc(budget, refused->indexes, refused->cap * sizeof(uint64_t),
                                     cap * sizeof(uint64_t));
        if (grown == NULL) {
            return false;
        }
        refused->indexes = grown;
        refused->cap = cap;
    }
    refused->indexes[refused->count++] = index;
    return true;
}

void rb_js_fast_apply(struct rb_js_stream *stream, const struct rb_command *command,
                      struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_js_fast_refused *refused = &stream->inside->fast_refused;
    bool chained = command->seq != 0;
    if (chained && command->value != 0 && was_index_refused(refused, command->value)) {
        rb_js_error_set(&outcome->error, 10208, NULL);
        outcome->held = true;
    } else {
        rb_js_publish_alone(stream, command, headers, outcome);
    }
    if (chained && outcome->error.code != 0 &&
        !note_refused(refused, stream->account->js->budget, stream->group.applied)) {
        rb_js_stream_go_offline(stream, "memory was refused while a message was applied");
    }
}

void rb_js_fast_save(const struct rb_js_stream *stream, struct rb_out *out)
{
    const struct rb_js_fast_refused *refused = &stream->inside->fast_refused;
    rb_js_put_number(out, refused->count);
    for (uint32_t i = 0; i < refused->count; i++) {
        rb_js_put_number(out, refused->indexes[i]);
    }
}

enum rb_err rb_js_fast_load(struct rb_js_stream *stream, struct rb_reader *reader)
{
    struct rb_js_fast_refused *refused = &stream->inside->fast_refused;
    uint64_t count = rb_read_u64(reader), before = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t index = rb_read_u64(reader);
        if (!rb_reader_ok(reader) || index <= before) {
            return RB_ERR_CORRUPT;
        }
        if (!note_refused(refused, stream->account->js->budget, index)) {
            return RB_ERR_MEMORY;
        }
        before = index;
    }
    return rb_reader_ok(reader) ? RB_OK : RB_ERR_CORRUPT;
}
