/* documents.c - what streams, consumers and accounts look like as JSON: nats-server's fields in its order. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "js/api_inside.h"
#include "js/source.h"

#define METADATA_LEVEL RB_S("_nats.level")
#define METADATA_VERSION RB_S("_nats.ver")

/* ---- text ---- */

void rb_out_base64(struct rb_out *out, struct rb_slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[1024];
    size_t len = 0;
    rb_out_put(out, RB_S("\""));
    for (size_t at = 0; at < bytes.len; at += 3) {
        size_t left = bytes.len - at;
        uint32_t group = (uint32_t)bytes.ptr[at] << 16;
        group |= left > 1 ? (uint32_t)bytes.ptr[at + 1] << 8 : 0;
        group |= left > 2 ? bytes.ptr[at + 2] : 0;
        text[len++] = digits[group >> 18];
        text[len++] = digits[group >> 12 & 63];
        text[len++] = left > 1 ? digits[group >> 6 & 63] : '=';
        text[len++] = left > 2 ? digits[group & 63] : '=';
        if (len == sizeof(text)) {
            rb_out_put(out, rb_slice_of(text, len));
            len = 0;
        }
    }
    rb_out_put(out, rb_slice_of(text, len));
    rb_out_put(out, RB_S("\""));
}

void rb_out_plain_time(struct rb_out *out, int64_t time_ns)
{
    size_t begin = out->len;
    rb_out_time(out, time_ns);
    if (!out->failed) {
        memmove(out->bytes + begin, out->bytes + begin + 1, out->len - begin - 2);
        out->len -= 2;
    }
}

static void put_number(struct rb_out *out, const char *name, uint64_t value)
{
    rb_out_printf(out, ",\"%s\":%" PRIu64, name, value);
}

/* 0: never. */
static void put_time(struct rb_out *out, const char *name, uint64_t time_ns)
{
    rb_out_printf(out, ",\"%s\":", name);
    rb_out_time(out, time_ns == 0 ? RB_DOC_NO_TIME : (int64_t)time_ns);
}

static void put_text(struct rb_out *out, const char *name, struct rb_slice value)
{
    rb_out_printf(out, ",\"%s\":", name);
    rb_out_string(out, value);
}

/* `map` with the keys that tell of this server; sorted, as they are. NULL: no memory. */
static struct rb_doc_pair *add_dynamic(struct rb_out *out, const struct rb_js_settings *settings,
                                       const struct rb_doc_map *map, struct rb_doc_map *ret_map)
{
    static const char level[] = { '0' + RB_JS_API_LEVEL, '\0' };
    const struct rb_doc_pair own[] = { { METADATA_LEVEL, rb_slice_text(level) },
                                       { METADATA_VERSION, settings->version } };
    struct rb_doc_pair *items = rb_alloc(out->budget, (map->count + 2) * sizeof(*items));
    if (items == NULL) {
        out->failed = true;
        return NULL;
    }
    uint32_t count = 0;
    for (uint32_t a = 0, b = 0; a < map->count || b < 2;) {
        int order = -1;
        if (a == map->count || b == 2) {
            order = a == map->count ? 1 : -1;
        } else {
            struct rb_slice x = map->items[a].key, y = own[b].key;
            order = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);
            order = order != 0 ? order : x.len < y.len ? -1 : x.len > y.len;
        }
        a += order == 0; /* what the server says of itself counts */
        items[count++] = order < 0 ? map->items[a++] : own[b++];
    }
    *ret_map = (struct rb_doc_map){ items, count, true };
    return items;
}

/* ---- streams ---- */

static void write_stream_config(struct rb_out *out, const struct rb_js_stream *stream, bool dynamic)
{
    struct rb_js_stream_config config = *stream->config;
    const struct rb_js_settings *settings = stream->account->js->settings;
    struct rb_doc_pair *items = NULL;
    if (dynamic) {
        items = add_dynamic(out, settings, &stream->config->metadata, &config.metadata);
    }
    rb_doc_write(out, &rb_js_stream_config_type, &config);
    rb_free(out->budget, items,
            items == NULL ? 0 : (stream->config->metadata.count + 2) * sizeof(*items));
}

static void write_subjects(struct rb_out *out, const struct rb_js_stream *stream,
                           const struct rb_js_info_options *options)
{
    struct rb_msgstore_subjects at = { 0 };
    struct rb_msgstore_subject subject;
    uint64_t index = 0, written = 0;
    while (written < RB_JS_PAGE_SUBJECTS &&
           rb_msgstore_next_subject(stream->store, options->filter, &at, &subject)) {
        if (index++ < options->offset) {
            continue;
        }
        rb_out_put(out, written++ == 0 ? RB_S(",\"subjects\":{") : RB_S(","));
        rb_out_string(out, subject.subject);
        rb_out_printf(out, ":%" PRIu64, subject.count);
    }
    if (written > 0) {
        rb_out_put(out, RB_S("}"));
    }
}

static void write_deleted(struct rb_out *out, const struct rb_js_stream *stream,
                          const struct rb_msgstore_state *state)
{
    bool first = true;
    rb_out_put(out, RB_S(",\"deleted\":["));
    for (uint64_t gap = rb_msgstore_next_gap(stream->store, state->first_seq);
         gap != 0 && !out->failed;) {
        uint64_t end = rb_msgstore_next(stream->store, gap);
        if (end == 0) {
            end = state->last_seq + 1;
        }
        for (; gap < end; gap++) {
            rb_out_printf(out, first ? "%" PRIu64 : ",%" PRIu64, gap);
            first = false;
        }
        gap = end > state->last_seq ? 0 : rb_msgstore_next_gap(stream->store, end);
    }
    rb_out_put(out, RB_S("]"));
}

void rb_js_write_state(struct rb_out *out, struct rb_js_stream *stream,
                       const struct rb_js_info_options *options)
{
    struct rb_msgstore_state state = { .first_seq = 1 };
    if (stream->store != NULL) {
        rb_msgstore_state(stream->store, &state);
    }
    /* A stream that never had a message has no first one either. */
    uint64_t first = state.last_seq == 0 && state.first_seq == 1 ? 0 : state.first_seq;
    rb_out_printf(out, "{\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"first_seq\":%" PRIu64,
                  state.messages, state.bytes, state.messages > 0 ? state.first_seq : first);
    put_time(out, "first_ts", state.messages > 0 ? state.first_ns : 0);
    put_number(out, "last_seq", state.last_seq);
    put_time(out, "last_ts", state.last_ns);
    if (state.subjects > 0) {
        put_number(out, "num_subjects", state.subjects);
    }
    if (options->subjects && stream->store != NULL) {
        write_subjects(out, stream, options);
    }
    if (state.deleted > 0) {
        put_number(out, "num_deleted", state.deleted);
        if (options->deleted_details) {
            write_deleted(out, stream, &state);
        }
    }
    put_number(out, "consumer_count", stream->consumer_count);
    rb_out_put(out, RB_S("}"));
}

void rb_js_write_info(struct rb_out *out, struct rb_js_stream *stream,
                      const struct rb_js_info_options *options)
{
    const struct rb_js *js = stream->account->js;
    const struct rb_js_stream_config *config = stream->config;
    rb_out_put(out, RB_S("\"config\":"));
    write_stream_config(out, stream, options->dynamic_metadata);
    put_time(out, "created", stream->created_ns);
    rb_out_put(out, RB_S(",\"state\":"));
    rb_js_write_state(out, stream, options);
    if (js->settings->domain.len > 0 && !options->no_domain) {
        put_text(out, "domain", js->settings->domain);
    }
    if (options->cluster) {
        rb_out_put(out, RB_S(",\"cluster\":{\"leader\":"));
        rb_out_string(out, js->settings->server_name);
        rb_out_put(out, RB_S("}"));
    }
    if (config->mirror != NULL) {
        rb_out_put(out, RB_S(",\"mirror\":"));
        rb_js_source_write(out, stream, 0);
    }
    for (uint32_t i = 0; i < config->sources.count; i++) {
        rb_out_put(out, i == 0 ? RB_S(",\"sources\":[") : RB_S(","));
        rb_js_source_write(out, stream, i);
        rb_out_put(out, i + 1 == config->sources.count ? RB_S("]") : RB_S(""));
    }
    put_time(out, "ts", js->wall_ns);
}

void rb_js_write_stream_info(struct rb_out *out, struct rb_js_stream *stream, bool deleted_details,
                             bool dynamic_metadata)
{
    const struct rb_js_info_options options = { .deleted_details = deleted_details,
                                                .dynamic_metadata = dynamic_metadata };
    rb_js_write_info(out, stream, &options);
}

void rb_js_write_stream_state(struct rb_out *out, struct rb_js_stream *stream, bool deleted_details)
{
    const struct rb_js_info_options options = { .deleted_details = deleted_details };
    struct rb_out state;
    rb_out_init(&state, out->budget);
    rb_js_write_state(&state, stream, &options);
    if (state.failed) {
        out->failed = true;
    } else {
        rb_out_put(out, rb_slice_of(state.bytes + 1, state.len - 2));
    }
    rb_out_deinit(&state);
}

void rb_js_stream_identity(const struct rb_js_stream *stream, char out[9])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t hash = rb_slice_hash(stream->name) ^
                    rb_slice_hash(rb_slice_of(&stream->created_ns, sizeof(stream->created_ns)));
    for (int i = 0; i < 8; i++, hash /= 62) {
        out[i] = digits[hash % 62];
    }
    out[8] = '\0';
}

/* ---- consumers ---- */

static void write_place(struct rb_out *out, const char *name,
                        const struct rb_js_consumer_place *place)
{
    rb_out_printf(out, ",\"%s\":{\"consumer_seq\":%" PRIu64 ",\"stream_seq\":%" PRIu64, name,
                  place->consumer_seq, place->stream_seq);
    if (place->last_ns != 0) {
        put_time(out, "last_active", (uint64_t)place->last_ns);
    }
    rb_out_put(out, RB_S("}"));
}

static void write_consumer_config(struct rb_out *out, const struct rb_js_consumer *consumer,
                                  bool dynamic)
{
    struct rb_js_consumer_config config = *consumer->config;
    const struct rb_js_settings *settings = consumer->stream->account->js->settings;
    struct rb_doc_pair *items = NULL;
    if (dynamic) {
        items = add_dynamic(out, settings, &consumer->config->metadata, &config.metadata);
    }
    rb_doc_write(out, &rb_js_consumer_config_type, &config);
    rb_free(out->budget, items,
            items == NULL ? 0 : (consumer->config->metadata.count + 2) * sizeof(*items));
}

static void write_groups(struct rb_out *out, const struct rb_js_consumer *consumer,
                         const struct rb_js_consumer_info *info)
{
    const struct rb_doc_strings *groups = &consumer->config->priority_groups;
    if (groups->count == 0) {
        return;
    }
    rb_out_put(
        out,
        RB_S(",\"priority_groups\":[{\"group\":")); /* of several, the first has all requests */
    rb_out_string(out, groups->items[0]);
    if (info->pinned_id.len > 0) {
        put_text(out, "pinned_client_id", info->pinned_id);
    }
    put_time(out, "pinned_ts", info->pinned_id.len > 0 ? (uint64_t)info->pinned_ns : 0);
    rb_out_put(out, RB_S("}]"));
}

void rb_js_write_consumer_info(struct rb_out *out, struct rb_js_consumer *consumer,
                               bool dynamic_metadata)
{
    struct rb_js_consumer_info info;
    char text[256];
    rb_js_consumer_info(consumer, &info);
    rb_out_put(out, RB_S("\"stream_name\":"));
    rb_out_string(out, consumer->stream->name);
    put_text(out, "name", consumer->name);
    put_time(out, "created", consumer->created_ns);
    rb_out_put(out, RB_S(",\"config\":"));
    write_consumer_config(out, consumer, dynamic_metadata);
    write_place(out, "delivered", &consumer->delivered);
    write_place(out, "ack_floor", &consumer->ack_floor);
    put_number(out, "num_ack_pending", info.ack_pending);
    put_number(out, "num_redelivered", consumer->config->max_deliver == 1 ? 0 : info.redelivered);
    put_number(out, "num_waiting", info.waiting);
    put_number(out, "num_pending", info.pending);
    if (info.push_bound) {
        rb_out_put(out, RB_S(",\"push_bound\":true"));
    }
    if (info.paused) {
        rb_out_put(out, RB_S(",\"paused\":true"));
        if (info.pause_remaining_ns > 0) {
            put_number(out, "pause_remaining", (uint64_t)info.pause_remaining_ns);
        }
    }
    put_time(out, "ts", consumer->stream->account->js->wall_ns);
    write_groups(out, consumer, &info);
    struct rb_slice why = rb_js_consumer_why(consumer, text, sizeof(text));
    if (why.len > 0) {
        put_text(out, "why", why);
    }
}

/* ---- accounts ---- */

void rb_js_write_account_info(struct rb_out *out, struct rb_js_account *account)
{
    const struct rb_js_limits *limits = &account->limits;
    const struct rb_js_api *api = account->api;
    rb_out_printf(out,
                  "\"memory\":%" PRId64 ",\"storage\":%" PRId64 ",\"reserved_memory\":%" PRId64
                  ",\"reserved_storage\":%" PRId64 ",\"streams\":%" PRIu32
                  ",\"consumers\":%" PRIu32,
                  account->memory, account->storage, account->reserved_memory,
                  account->reserved_storage, account->stream_count, account->consumer_count);
    rb_out_printf(out,
                  ",\"limits\":{\"max_memory\":%" PRId64 ",\"max_storage\":%" PRId64
                  ",\"max_streams\":%" PRId64 ",\"max_consumers\":%" PRId64
                  ",\"max_ack_pending\":%" PRId64 ",\"memory_max_stream_bytes\":%" PRId64
                  ",\"storage_max_stream_bytes\":%" PRId64 ",\"max_bytes_required\":%s}",
                  limits->max_memory, limits->max_storage, limits->max_streams,
                  limits->max_consumers, limits->max_ack_pending, limits->memory_max_stream_bytes,
                  limits->storage_max_stream_bytes, limits->max_bytes_required ? "true" : "false");
    if (account->js->settings->domain.len > 0) {
        put_text(out, "domain", account->js->settings->domain);
    }
    rb_out_printf(out, ",\"api\":{\"level\":%d,\"total\":%" PRIu64 ",\"errors\":%" PRIu64,
                  RB_JS_API_LEVEL, account->api_total, account->api_errors);
    if (api != NULL && api->request_count > 1) {
        put_number(out, "inflight", api->request_count - 1);
    }
    rb_out_put(out, RB_S("}"));
}
