/* collect_js.c - what a shard's JetStream knows, copied for monitoring between two turns. */
#include "js/api.h"
#include "server/jetstream.h"
#include "server/shard.h"
#include "server/snapshot.h"

/* What the API's writers wrote, in the snapshot's arena; empty, and incomplete, when memory was refused. */
static struct rb_slice keep(struct rb_snapshot *snapshot, struct rb_out *out)
{
    struct rb_slice kept = { 0 };
    if (out->failed) {
        snapshot->incomplete = true;
    } else {
        kept = rb_snapshot_text(snapshot, rb_out_slice(out));
    }
    rb_out_deinit(out);
    return kept;
}

static void copy_consumer(struct rb_snapshot *snapshot, struct rb_js *js,
                          struct rb_js_consumer *consumer, struct rb_consumer_snapshot *to)
{
    struct rb_js_consumer_info info;
    rb_js_consumer_info(consumer, &info);
    *to = (struct rb_consumer_snapshot){
        .name = rb_snapshot_text(snapshot, consumer->name),
        .description = rb_snapshot_text(snapshot, consumer->config->description),
        .created_ns = consumer->created_ns,
        .direct = consumer->config->direct,
        .delivered_consumer_seq = consumer->delivered.consumer_seq,
        .delivered_stream_seq = consumer->delivered.stream_seq,
        .floor_consumer_seq = consumer->ack_floor.consumer_seq,
        .floor_stream_seq = consumer->ack_floor.stream_seq,
        .ack_pending = info.ack_pending,
        .redelivered = info.redelivered,
        .waiting = info.waiting,
        .pending = info.pending,
    };
    if (snapshot->request.js_documents) {
        struct rb_out out;
        rb_out_init(&out, js->budget);
        rb_js_write_consumer_info(&out, consumer, false);
        to->info = keep(snapshot, &out);
    }
}

static void copy_consumers(struct rb_snapshot *snapshot, struct rb_js_stream *stream,
                           struct rb_stream_snapshot *to)
{
    uint32_t count = 0;
    rb_js_consumers_sort(stream);
    for (struct rb_list *link = stream->consumers.next; link != &stream->consumers;
         link = link->next) {
        count++;
    }
    to->consumers = count == 0 ? NULL : rb_snapshot_take(snapshot, count * sizeof(*to->consumers));
    for (struct rb_list *link = stream->consumers.next;
         to->consumers != NULL && link != &stream->consumers; link = link->next) {
        copy_consumer(snapshot, stream->account->js,
                      RB_CONTAINER(link, struct rb_js_consumer, of_stream),
                      &to->consumers[to->listed_count++]);
    }
}

static void copy_stream(struct rb_snapshot *snapshot, struct rb_js_stream *stream,
                        struct rb_stream_snapshot *to)
{
    struct rb_js *js = stream->account->js;
    const char *why = stream->phase == RB_JS_STREAM_OFFLINE ? stream->why
                      : stream->group.stopped               ? "its log has stopped"
                                                            : "";
    *to = (struct rb_stream_snapshot){
        .name = rb_snapshot_text(snapshot, stream->name),
        .created_ns = stream->created_ns,
        .offline = stream->phase == RB_JS_STREAM_OFFLINE,
        .why = rb_snapshot_text(snapshot, rb_slice_text(why)),
        .consumer_count = stream->consumer_count,
    };
    if (stream->phase != RB_JS_STREAM_SERVING) {
        return;
    }
    struct rb_msgstore_state state;
    rb_msgstore_state(stream->store, &state);
    to->messages = state.messages;
    to->bytes = state.bytes;
    to->first_seq = state.last_seq == 0 ? 0 : state.first_seq; /* nothing was ever stored */
    to->last_seq = state.last_seq;
    if (snapshot->request.js_documents) {
        struct rb_out out;
        rb_out_init(&out, js->budget);
        rb_doc_write(&out, &rb_js_stream_config_type, stream->config);
        to->config = keep(snapshot, &out);
        rb_out_init(&out, js->budget);
        rb_out_put(&out, RB_S("{"));
        rb_js_write_stream_state(&out, stream, false);
        rb_out_put(&out, RB_S("}"));
        to->state = keep(snapshot, &out);
    }
    if (snapshot->request.js_consumers) {
        copy_consumers(snapshot, stream, to);
    }
}

static void copy_account(struct rb_snapshot *snapshot, struct rb_js_account *account)
{
    struct rb_js_account_snapshot *to = rb_snapshot_js_account(snapshot);
    if (to == NULL) {
        return;
    }
    *to = (struct rb_js_account_snapshot){
        .name = rb_snapshot_text(snapshot, account->account->name),
        .memory = account->memory,
        .storage = account->storage,
        .max_memory = account->limits.max_memory,
        .max_storage = account->limits.max_storage,
        .api_total = account->api_total,
        .api_errors = account->api_errors,
        .stream_count = account->stream_count,
        .consumer_count = account->consumer_count,
    };
    uint32_t count = 0;
    for (struct rb_list *link = account->streams.next; link != &account->streams;
         link = link->next) {
        count++;
    }
    if (!snapshot->request.js_streams || count == 0) {
        return;
    }
    to->streams = rb_snapshot_take(snapshot, count * sizeof(*to->streams));
    for (struct rb_list *link = account->streams.next;
         to->streams != NULL && link != &account->streams; link = link->next) {
        copy_stream(snapshot, RB_CONTAINER(link, struct rb_js_stream, link),
                    &to->streams[to->listed_count++]);
    }
}

static void note_failure(struct rb_snapshot *snapshot, const struct rb_js *js)
{
    struct rb_wal_stats stats;
    rb_wal_stats(js->log, &stats);
    if (stats.stopped) {
        snapshot->js_failure = RB_S("the log has stopped after a failed write");
    } else if (snapshot->js_failure.len == 0 && stats.full) {
        snapshot->js_failure = RB_S("no space left on the disk");
    }
}

void rb_shard_snapshot_js(void *shard, struct rb_snapshot *snapshot)
{
    const struct rb_jetstream_part *part = rb_shard_jetstream(shard);
    struct rb_slice only = rb_slice_text(snapshot->request.js_account);
    struct rb_js *js;
    for (uint32_t i = 0; part != NULL && (js = rb_jetstream_part_js(part, i)) != NULL; i++) {
        if (js->failed || js->closing) {
            continue;
        }
        note_failure(snapshot, js);
        for (struct rb_list *link = js->accounts.next; link != &js->accounts; link = link->next) {
            struct rb_js_account *account = RB_CONTAINER(link, struct rb_js_account, link);
            if (account->enabled &&
                (only.len == 0 || rb_slice_equal(only, account->account->name))) {
                copy_account(snapshot, account);
            }
        }
    }
}
