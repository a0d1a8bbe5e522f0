/* checkpoint.c - when the stores are made findable, and what the log forgets then.
 *
 * A stream is checkpointed when its part of the log since the last time is worth it, when its entries keep the log's oldest file
 * from being reused, and at the end. The log forgets up to the checkpoint before the newest (msgstore.h, rule 3): a stream that pins
 * the log is checkpointed twice.
 */
#include "js/stream_inside.h"

#define LOG_BYTES (32u << 20)
#define PINNED_FILES 16u /* files that the log may have before pinned ones are looked after */
#define PINNED_MAX 64u
#define RETRY_NS UINT64_C(5000000000) /* after one that failed */
#define PERIOD_NS UINT64_C(1000000000)

static void begin(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_js *js = stream->account->js;
    struct rb_out out;
    rb_out_init(&out, js->budget);
    rb_js_stream_save(stream, &out);
    enum rb_err err = out.failed ? RB_ERR_MEMORY
                                 : rb_msgstore_checkpoint(stream->store, stream->group.applied,
                                                          rb_out_slice(&out));
    rb_out_deinit(&out);
    if (err == RB_OK) {
        inside->checkpointing = true;
        inside->log_bytes_before = stream->group.log_bytes;
        stream->group.log_bytes = 0;
    } else if (err != RB_ERR_BUSY) {
        rb_log_err(js->text_log, "JetStream stream \"%.*s\": checkpoint failed: %s",
                   RB_S_ARG(stream->name), rb_err_text(err));
    }
}

void rb_js_checkpoint(struct rb_js_stream *stream, bool force)
{
    if (stream->store == NULL || stream->inside->checkpointing ||
        stream->group.options.log == NULL || stream->phase != RB_JS_STREAM_SERVING) {
        return;
    }
    uint64_t worth = LOG_BYTES;
    if (!force) {
        uint64_t failed_ns = stream->inside->checkpoint_failed_ns;
        if (stream->group.log_bytes < worth ||
            (failed_ns != 0 && stream->account->js->now_ns < failed_ns + RETRY_NS)) {
            return;
        }
        uint64_t bytes = rb_msgstore_checkpoint_bytes(stream->store);
        worth = bytes > worth ? bytes : worth;
    }
    if (force || stream->group.log_bytes >= worth) {
        begin(stream);
    }
}

/* What the log need not keep any more. */
static void drop_prefix(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_js *js = stream->account->js;
    struct rb_wal_group_info info;
    uint64_t through = rb_msgstore_durable_index(stream->store);
    if (inside->prefix_write.in_flight || !rb_wal_group(js->log, stream->group.options.id, &info) ||
        through <= info.base) {
        return;
    }
    inside->prefix_write = (struct rb_wal_write){ .owner = stream, .tag = RB_JS_WRITE_STREAM };
    enum rb_err err = rb_wal_drop_prefix(js->log, &inside->prefix_write, stream->group.options.id,
                                         through, stream->group.term);
    if (err != RB_OK && err != RB_ERR_FULL && err != RB_ERR_SPACE) { /* those: the next time */
        rb_log_err(js->text_log, "JetStream stream \"%.*s\": the log was not cut: %s",
                   RB_S_ARG(stream->name), rb_err_text(err));
    }
}

void rb_js_checkpointed(struct rb_js_stream *stream, const struct rb_msgstore_event *event)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_js *js = stream->account->js;
    inside->checkpointing = false;
    if (stream->phase == RB_JS_STREAM_DELETING) {
        rb_js_stream_step(stream);
        return;
    }
    if (event->err != RB_OK) {
        stream->group.log_bytes += inside->log_bytes_before;
        inside->checkpoint_failed_ns = js->now_ns;
        rb_log_err(js->text_log, "JetStream stream \"%.*s\": checkpoint failed: %s",
                   RB_S_ARG(stream->name), rb_err_text(event->err));
        return;
    }
    drop_prefix(stream);
    if (inside->checkpoint_again && !js->closing) {
        inside->checkpoint_again = false;
        rb_js_checkpoint(stream, true);
    }
}

static struct rb_js_stream *stream_of_group(struct rb_js *js, uint64_t group)
{
    for (struct rb_list *at = js->accounts.next; at != &js->accounts; at = at->next) {
        struct rb_js_account *account = RB_CONTAINER(at, struct rb_js_account, link);
        for (struct rb_list *link = account->streams.next; link != &account->streams;
             link = link->next) {
            struct rb_js_stream *stream = RB_CONTAINER(link, struct rb_js_stream, link);
            if (stream->group.options.id == group && stream->group.options.log != NULL) {
                return stream;
            }
        }
    }
    return NULL;
}

static void unpin(struct rb_js *js)
{
    uint64_t groups[PINNED_MAX];
    uint32_t count = rb_wal_pinned_by(js->log, groups, PINNED_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct rb_js_stream *stream = stream_of_group(js, groups[i]);
        if (stream != NULL && !stream->inside->checkpointing) {
            stream->inside->checkpoint_again = true;
            rb_js_checkpoint(stream, true);
            if (!stream->inside->checkpointing) {
                stream->inside->checkpoint_again = false;
            }
        }
    }
}

void rb_js_checkpoint_timer(struct rb_js *js)
{
    struct rb_wal_stats stats;
    rb_wal_stats(js->log, &stats);
    if (!js->closing && (stats.file_count >= PINNED_FILES || stats.full)) {
        unpin(js);
    }
    rb_wheel_arm(&js->wheel, &js->checkpoint_alarm.timer, js->now_ns + PERIOD_NS);
}
