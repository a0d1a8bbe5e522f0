/* stream_state.c - what a checkpoint holds beside the messages: everything that commands made of the stream. Little-endian:
 *
 *   version 3, clock, id of the last message, configuration as JSON, ids seen, due messages, places of sources, schedules, totals of counters, refused
 *   commands of fast batches (not in version 2), next consumer's id, consumers
 */
#include "js/consumer.h"
#include "js/saved.h"
#include "js/stream_inside.h"

#define VERSION 3u
#define VERSION_WITHOUT_FAST 2u

void rb_js_stream_save(struct rb_js_stream *stream, struct rb_out *out)
{
    const struct rb_js_stream_inside *inside = stream->inside;
    struct rb_out config;
    uint64_t count = 0;
    rb_js_put_number(out, VERSION);
    rb_js_put_number(out, inside->clock_ns);
    rb_js_put_text(out, inside->last_msg_id);
    rb_out_init(&config, out->budget);
    rb_doc_write(&config, &rb_js_stream_config_type, stream->config);
    rb_js_put_text(out, rb_out_slice(&config));
    out->failed |= config.failed;
    rb_out_deinit(&config);
    rb_js_dedup_save(&inside->dedup, out);
    rb_js_expiry_save(&inside->expiry, out);
    rb_js_places_save(&inside->places, out);
    rb_js_schedules_save(stream, out);
    rb_js_counters_save(&inside->counters, stream, out);
    rb_js_fast_save(stream, out);
    rb_js_put_number(out, stream->next_consumer_id);
    for (struct rb_list *link = stream->consumers.next; link != &stream->consumers;
         link = link->next) {
        count++;
    }
    rb_js_put_number(out, count);
    for (struct rb_list *link = stream->consumers.next; link != &stream->consumers;
         link = link->next) {
        rb_js_consumer_save(RB_CONTAINER(link, struct rb_js_consumer, of_stream), out);
    }
}

static enum rb_err load_config(struct rb_js_stream *stream, struct rb_slice json)
{
    struct rb_arena *arena;
    struct rb_js_stream_config *config;
    enum rb_err err = rb_js_stream_read_config(json, &arena, &config);
    if (err != RB_OK) {
        return err;
    }
    if (config->storage != stream->config->storage || !rb_slice_equal(config->name, stream->name)) {
        err = RB_ERR_CORRUPT;
    } else {
        err = rb_js_stream_set_config(stream, arena, config);
    }
    if (err != RB_OK) {
        rb_arena_destroy(arena);
    }
    return err;
}

static enum rb_err load_id(struct rb_js_stream *stream, struct rb_slice id)
{
    if (id.len == 0) {
        return RB_OK;
    }
    uint8_t *copy = rb_js_pools_take(&stream->account->js->pools, id.len);
    if (copy == NULL) {
        return RB_ERR_MEMORY;
    }
    memcpy(copy, id.ptr, id.len);
    stream->inside->last_msg_id = rb_slice_of(copy, id.len);
    return RB_OK;
}

enum rb_err rb_js_stream_load(struct rb_js_stream *stream, struct rb_slice blob)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_reader reader = rb_reader_over(blob);
    uint64_t version = rb_read_u64(&reader);
    if (version != VERSION && version != VERSION_WITHOUT_FAST) {
        return RB_ERR_UNSUPPORTED;
    }
    inside->clock_ns = rb_read_u64(&reader);
    struct rb_slice id = rb_js_get_text(&reader);
    struct rb_slice json = rb_js_get_text(&reader);
    if (!rb_reader_ok(&reader)) {
        return RB_ERR_CORRUPT;
    }
    enum rb_err err = load_config(stream, json);
    if (err == RB_OK) {
        err = load_id(stream, id);
    }
    if (err == RB_OK) {
        err = rb_js_dedup_load(&inside->dedup, &reader);
    }
    if (err == RB_OK) {
        err = rb_js_expiry_load(&inside->expiry, &reader);
    }
    if (err == RB_OK) {
        err = rb_js_places_load(&inside->places, &reader);
    }
    if (err == RB_OK) {
        err = rb_js_schedules_load(stream, &reader);
    }
    if (err == RB_OK) {
        err = rb_js_counters_load(&inside->counters, &reader);
    }
    if (err == RB_OK && version != VERSION_WITHOUT_FAST) {
        err = rb_js_fast_load(stream, &reader);
    }
    if (err != RB_OK) {
        return err;
    }
    stream->next_consumer_id = (uint32_t)rb_read_u64(&reader);
    uint64_t count = rb_read_u64(&reader);
    for (uint64_t i = 0; i < count && rb_reader_ok(&reader); i++) {
        err = rb_js_consumer_load(stream, &reader);
        if (err != RB_OK) {
            return err;
        }
    }
    return rb_reader_ok(&reader) ? RB_OK : RB_ERR_CORRUPT;
}
