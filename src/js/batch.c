/* batch.c - messages that are published together: staged here until the last one came, then proposed as one command. What is staged
 * is the proposer's alone: nobody sees it, a restart forgets it, as if its publisher had been too slow. */
#include <string.h>

#include "js/publish.h"
#include "proto/header.h"

#define ID_MAX 64u
#define MSGS_MAX 1000u
#define PER_STREAM 50u
#define TOTAL 1000u
#define TIMEOUT_NS UINT64_C(10000000000)
#define BYTES_MAX ((32u << 20) - 4096)

struct rb_js_batch {
    struct rb_list link; /* in the stream, the one that was silent longest first */
    struct rb_js_stream *stream;
    struct rb_out commands; /* each with its length before it, 4 bytes */
    uint64_t touched_ns;
    size_t last; /* where the last command begins */
    uint32_t count, id_len;
    uint8_t id[ID_MAX];
};

/* Who is answered once the batch was applied. */
struct commit {
    struct rb_js_waiter waiter;
    struct rb_js_stream *stream;
    uint32_t count, id_len, reply_len, bytes;
    uint8_t text[]; /* id, reply */
};

static uint64_t or_default(uint64_t value, uint64_t fallback)
{
    return value == 0 ? fallback : value;
}

static struct rb_js_batch *find(struct rb_js_stream *stream, struct rb_slice id)
{
    struct rb_list *batches = &stream->inside->batches;
    for (struct rb_list *link = batches->next; link != batches; link = link->next) {
        struct rb_js_batch *batch = RB_CONTAINER(link, struct rb_js_batch, link);
        if (rb_slice_equal(rb_slice_of(batch->id, batch->id_len), id)) {
            return batch;
        }
    }
    return NULL;
}

static void drop(struct rb_js_batch *batch)
{
    struct rb_js_stream *stream = batch->stream;
    struct rb_js *js = stream->account->js;
    rb_list_remove(&batch->link);
    stream->inside->batch_count--;
    atomic_fetch_sub_explicit(&js->shared->batches, 1, memory_order_relaxed);
    rb_out_deinit(&batch->commands);
    rb_free(js->budget, batch, sizeof(*batch));
}

void rb_js_batches_drop(struct rb_js_stream *stream)
{
    rb_js_fast_drop(stream);
    while (!rb_list_empty(&stream->inside->batches)) {
        drop(RB_CONTAINER(stream->inside->batches.next, struct rb_js_batch, link));
    }
}

static void advise(struct rb_js_stream *stream, struct rb_slice id, const char *reason)
{
    struct rb_out members, subject;
    struct rb_js *js = stream->account->js;
    rb_out_init(&members, js->budget);
    rb_out_init(&subject, js->budget);
    rb_out_put(&members, RB_S("\"stream\":"));
    rb_out_string(&members, stream->name);
    rb_out_put(&members, RB_S(",\"batch\":"));
    rb_out_string(&members, id);
    rb_out_printf(&members, ",\"reason\":\"%s\"", reason);
    rb_out_printf(&subject, "$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.%.*s",
                  RB_S_ARG(stream->name));
    struct rb_slice type = RB_S("io.nats.jetstream.advisory.v1.stream_batch_abandoned");
    if (!members.failed && !subject.failed) {
        rb_js_advise(stream->account, rb_out_slice(&subject), type, rb_out_slice(&members));
        rb_out_put(&members, RB_S(",\"account\":"));
        rb_out_string(&members, stream->account->account->name);
        if (!members.failed) {
            rb_js_advise_system(js, rb_out_slice(&subject), type, rb_out_slice(&members));
        }
    }
    rb_out_deinit(&members);
    rb_out_deinit(&subject);
}

static void abandon(struct rb_js_batch *batch, const char *reason)
{
    advise(batch->stream, rb_slice_of(batch->id, batch->id_len), reason);
    drop(batch);
}

uint64_t rb_js_batches_due(struct rb_js_stream *stream)
{
    struct rb_js *js = stream->account->js;
    uint64_t timeout_ns = or_default(js->settings->batch_timeout_ns, TIMEOUT_NS);
    while (!rb_list_empty(&stream->inside->batches)) {
        struct rb_js_batch *batch =
            RB_CONTAINER(stream->inside->batches.next, struct rb_js_batch, link);
        if (batch->touched_ns + timeout_ns > js->now_ns) {
            return batch->touched_ns + timeout_ns;
        }
        abandon(batch, "timeout");
    }
    return UINT64_MAX;
}

static void refuse(struct rb_js_stream *stream, struct rb_slice reply, uint16_t code,
                   const char *detail)
{
    struct rb_js_outcome outcome = { .seq = 0 };
    rb_js_error_set(&outcome.error, code, detail);
    rb_js_stream_answer(stream, reply, &outcome, rb_slice_of(NULL, 0), 0);
}

static struct rb_js_batch *make(struct rb_js_stream *stream, struct rb_slice id)
{
    struct rb_js *js = stream->account->js;
    struct rb_js_batch *batch = rb_alloc(js->budget, sizeof(*batch));
    if (batch == NULL) {
        return NULL;
    }
    batch->stream = stream;
    batch->id_len = (uint32_t)id.len;
    memcpy(batch->id, id.ptr, id.len);
    rb_out_init(&batch->commands, js->budget);
    rb_list_append(&stream->inside->batches, &batch->link);
    stream->inside->batch_count++;
    atomic_fetch_add_explicit(&js->shared->batches, 1, memory_order_relaxed);
    return batch;
}

/* False: memory refused, or too many bytes for one command. */
static bool stage(struct rb_js_batch *batch, const struct rb_command *command)
{
    struct rb_js_pools *pools = &batch->stream->account->js->pools;
    size_t bytes = rb_command_bytes(command);
    if (batch->commands.len + bytes + 4 > BYTES_MAX) {
        return false;
    }
    uint8_t *copy = rb_js_pools_take(pools, bytes + 4);
    if (copy == NULL) {
        return false;
    }
    struct rb_writer writer = rb_writer_over(copy, 4);
    rb_write_u32(&writer, (uint32_t)bytes);
    rb_command_encode(command, copy + 4);
    batch->last = batch->commands.len;
    rb_out_put(&batch->commands, rb_slice_of(copy, bytes + 4));
    rb_js_pools_give(pools, copy, bytes + 4);
    return !batch->commands.failed;
}

/* The last message becomes the one that commits. */
static bool mark_last(struct rb_js_batch *batch)
{
    struct rb_js_pools *pools = &batch->stream->account->js->pools;
    struct rb_command command;
    struct rb_slice body =
        rb_slice_of(batch->commands.bytes + batch->last + 4, batch->commands.len - batch->last - 4);
    if (rb_command_decode(RB_COMMAND_PUBLISH, body, &command) != RB_OK) {
        return false;
    }
    size_t cap = body.len + 64;
    uint8_t *copy = rb_js_pools_take(pools, cap);
    if (copy == NULL) {
        return false;
    }
    size_t len = rb_header_set(copy, command.text.len + 64,
                               rb_slice_of(command.text.ptr, command.header_len),
                               RB_S("Nats-Batch-Commit"), RB_S("1"));
    bool marked = len > 0;
    if (marked) {
        size_t rest = command.text.len - command.header_len;
        memcpy(copy + len, command.text.ptr + command.header_len, rest);
        uint8_t subject[RB_MSGSTORE_SUBJECT_MAX];
        memcpy(subject, command.subject.ptr, command.subject.len);
        command.subject = rb_slice_of(subject, command.subject.len);
        command.text = rb_slice_of(copy, len + rest);
        command.header_len = (uint32_t)len;
        batch->commands.len = batch->last;
        marked = stage(batch, &command);
    }
    rb_js_pools_give(pools, copy, cap);
    return marked;
}

static void committed(struct rb_js_waiter *waiter, enum rb_err err, const void *outcome)
{
    struct commit *commit = RB_CONTAINER(waiter, struct commit, waiter);
    struct rb_slice reply = rb_slice_of(commit->text + commit->id_len, commit->reply_len);
    if (err != RB_OK) {
        rb_js_stream_refuse(commit->stream, reply, err);
    } else {
        rb_js_stream_answer(commit->stream, reply, outcome,
                            rb_slice_of(commit->text, commit->id_len), commit->count);
    }
    rb_js_pools_give(&commit->stream->account->js->pools, commit, commit->bytes);
}

static enum rb_err propose(struct rb_js_batch *batch, struct rb_slice reply)
{
    struct rb_js_stream *stream = batch->stream;
    struct rb_js_pools *pools = &stream->account->js->pools;
    uint32_t bytes = (uint32_t)(sizeof(struct commit) + batch->id_len + reply.len);
    struct commit *commit = rb_js_pools_take(pools, bytes);
    if (commit == NULL) {
        return RB_ERR_MEMORY;
    }
    *commit = (struct commit){ .waiter = { committed },
                               .stream = stream,
                               .count = batch->count,
                               .id_len = batch->id_len,
                               .reply_len = (uint32_t)reply.len,
                               .bytes = bytes };
    memcpy(commit->text, batch->id, batch->id_len);
    if (reply.len > 0) {
        memcpy(commit->text + batch->id_len, reply.ptr, reply.len);
    }
    struct rb_command command = { .type = RB_COMMAND_BATCH,
                                  .time_ns = stream->account->js->wall_ns,
                                  .text = rb_out_slice(&batch->commands) };
    enum rb_err err = rb_js_stream_propose(stream, &command, &commit->waiter);
    if (err != RB_OK) {
        rb_js_pools_give(pools, commit, bytes);
    }
    return err;
}

static void commit(struct rb_js_batch *batch, struct rb_slice reply, bool marker)
{
    struct rb_js_stream *stream = batch->stream;
    enum rb_err err = marker && !mark_last(batch) ? RB_ERR_MEMORY : propose(batch, reply);
    drop(batch);
    if (err != RB_OK) {
        rb_js_stream_refuse(stream, reply, err);
    }
}

enum commit_kind { COMMIT_NO, COMMIT_STORED, COMMIT_MARKER, COMMIT_INVALID };

static enum commit_kind commit_of(const struct rb_js_headers *headers)
{
    if (!rb_js_headers_has(headers, RB_JS_H_BATCH_COMMIT)) {
        return COMMIT_NO;
    }
    struct rb_slice value = headers->value[RB_JS_H_BATCH_COMMIT];
    if (rb_slice_equal(value, RB_S("1"))) {
        return COMMIT_STORED;
    }
    return rb_slice_equal(value, RB_S("eob")) ? COMMIT_MARKER : COMMIT_INVALID;
}

/* The batch that this message belongs to, begun when it is the first. NULL: answered. */
static struct rb_js_batch *batch_for(struct rb_js_stream *stream, struct rb_slice id,
                                     struct rb_slice reply, uint64_t sequence, bool lone)
{
    struct rb_js *js = stream->account->js;
    struct rb_js_batch *batch = find(stream, id);
    if (batch == NULL) {
        if (sequence != 1 || lone) {
            refuse(stream, reply, 10176, NULL);
            return NULL;
        }
        uint64_t total = atomic_load_explicit(&js->shared->batches, memory_order_relaxed);
        if (stream->inside->batch_count >=
                or_default(js->settings->batch_inflight_per_stream, PER_STREAM) ||
            total >= or_default(js->settings->batch_inflight_total, TOTAL)) {
            refuse(stream, reply, 10210, NULL);
            return NULL;
        }
        batch = make(stream, id);
        if (batch == NULL) {
            rb_js_stream_refuse(stream, reply, RB_ERR_MEMORY);
        }
        return batch;
    }
    if (sequence != batch->count + 1u) {
        abandon(batch, "incomplete");
        refuse(stream, reply, 10176, NULL);
        return NULL;
    }
    return batch;
}

static bool level_unmet(const struct rb_js_headers *headers)
{
    return rb_js_headers_has(headers, RB_JS_H_API_LEVEL) &&
           rb_js_header_number(headers->value[RB_JS_H_API_LEVEL]) > RB_JS_API_LEVEL;
}

void rb_js_batch_take(struct rb_js_stream *stream, struct rb_slice subject, struct rb_slice reply,
                      struct rb_slice payload, uint32_t header_len,
                      const struct rb_js_headers *headers)
{
    struct rb_js *js = stream->account->js;
    struct rb_slice id = headers->value[RB_JS_H_BATCH_ID];
    uint64_t sequence = rb_js_headers_has(headers, RB_JS_H_BATCH_SEQUENCE)
                            ? rb_js_header_number(headers->value[RB_JS_H_BATCH_SEQUENCE])
                            : UINT64_MAX;
    enum commit_kind kind = commit_of(headers);
    if (id.len > ID_MAX) {
        refuse(stream, reply, 10179, NULL);
        return;
    }
    if (sequence == UINT64_MAX) {
        refuse(stream, reply, 10175, NULL);
        return;
    }
    struct rb_js_batch *batch =
        batch_for(stream, id, reply, sequence, kind == COMMIT_MARKER && sequence == 1);
    if (batch == NULL) {
        return;
    }
    uint32_t most = (uint32_t)or_default(js->settings->batch_msgs, MSGS_MAX);
    if (batch->count >= most && kind != COMMIT_MARKER) {
        abandon(batch, "large");
        struct rb_js_outcome outcome = { .seq = 0 };
        rb_js_error_format(&outcome.error, 10199, "%u", most);
        rb_js_stream_answer(stream, reply, &outcome, rb_slice_of(NULL, 0), 0);
        return;
    }
    if (level_unmet(headers)) {
        abandon(batch, "unsupported");
        refuse(stream, reply, 10185, NULL);
        return;
    }
    if (kind == COMMIT_INVALID) {
        drop(batch);
        refuse(stream, reply, 10200, NULL);
        return;
    }
    if (kind == COMMIT_MARKER) {
        commit(batch, reply, true);
        return;
    }
    struct rb_command command = {
        .type = RB_COMMAND_PUBLISH, .subject = subject, .text = payload, .header_len = header_len
    };
    rb_js_stream_stamp(stream, &command);
    if (!stage(batch, &command)) {
        abandon(batch, "large");
        refuse(stream, reply, 10199, "1000");
        return;
    }
    batch->count++;
    if (kind == COMMIT_STORED) {
        commit(batch, reply, false);
        return;
    }
    batch->touched_ns = rb_env_now(js->env); /* js->now_ns is the last turn's, maybe long ago */
    rb_list_remove(&batch->link);
    rb_list_append(&stream->inside->batches, &batch->link);
    rb_js_stream_arm(stream);
    if (reply.len > 0 && !stream->config->no_ack) {
        (void)rb_js_send(stream->account, reply, rb_slice_of(NULL, 0), rb_slice_of(NULL, 0), 0,
                         rb_slice_of(NULL, 0));
    }
}
