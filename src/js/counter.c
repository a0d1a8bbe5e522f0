/* counter.c - see counter.h. */
#include "js/counter.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "js/decimal.h"
#include "js/publish.h"
#include "js/saved.h"
#include "proto/header.h"

#define SOURCES RB_S("Nats-Counter-Sources")
#define STALE_MIN 1024u
#define ARENA_BYTES 1024

struct rb_js_counter {
    uint64_t seq;
    uint32_t subject_len, total_len, sources_len;
    uint8_t text[]; /* subject, total, sources */
};

static struct rb_slice subject_of(const struct rb_js_counter *counter)
{
    return rb_slice_of(counter->text, counter->subject_len);
}

static struct rb_js_counter_value value_of(const struct rb_js_counter *counter)
{
    const uint8_t *total = counter->text + counter->subject_len;
    return (struct rb_js_counter_value){
        rb_slice_of(total, counter->total_len),
        rb_slice_of(total + counter->total_len, counter->sources_len),
    };
}

static size_t bytes_of(const struct rb_js_counter *counter)
{
    return sizeof(*counter) + counter->subject_len + counter->total_len + counter->sources_len;
}

static bool counter_equal(const void *item, struct rb_slice key)
{
    return rb_slice_equal(subject_of(item), key);
}

static uint64_t counter_hash(const void *item)
{
    return rb_slice_hash(subject_of(item));
}

void rb_js_counters_init(struct rb_js_counters *counters, struct rb_js_pools *pools)
{
    counters->pools = pools;
    rb_map_init(&counters->map, pools->budget, 0, counter_equal, counter_hash);
}

void rb_js_counters_deinit(struct rb_js_counters *counters)
{
    struct rb_js_counter *counter;
    for (uint32_t at = 0; (counter = rb_map_next(&counters->map, &at)) != NULL;) {
        rb_js_pools_give(counters->pools, counter, bytes_of(counter));
    }
    rb_map_deinit(&counters->map);
}

/* ---- what is known ---- */

static bool put(struct rb_js_counters *counters, struct rb_slice subject, uint64_t seq,
                const struct rb_js_counter_value *value)
{
    size_t bytes =
        sizeof(struct rb_js_counter) + subject.len + value->total.len + value->sources.len;
    struct rb_js_counter *counter = rb_js_pools_take(counters->pools, bytes);
    if (counter == NULL) {
        return false;
    }
    *counter = (struct rb_js_counter){ .seq = seq,
                                       .subject_len = (uint32_t)subject.len,
                                       .total_len = (uint32_t)value->total.len,
                                       .sources_len = (uint32_t)value->sources.len };
    struct rb_writer out = rb_writer_over(counter->text, bytes - sizeof(*counter));
    rb_write_slice(&out, subject);
    rb_write_slice(&out, value->total);
    rb_write_slice(&out, value->sources);
    uint64_t hash = rb_slice_hash(subject_of(counter));
    struct rb_js_counter *old = rb_map_find(&counters->map, hash, subject_of(counter));
    if (old != NULL) {
        (void)rb_map_remove(&counters->map, hash, old);
        rb_js_pools_give(counters->pools, old, bytes_of(old));
    }
    if (rb_map_insert(&counters->map, hash, counter) != RB_OK) {
        rb_js_pools_give(counters->pools, counter, bytes);
        return false;
    }
    return true;
}

static bool is_newest(const struct rb_js_stream *stream, const struct rb_js_counter *counter)
{
    struct rb_msgstore_subject info;
    return rb_msgstore_subject(stream->store, subject_of(counter), &info) &&
           info.last_seq == counter->seq;
}

/* Of subjects that have no messages any more nothing is kept: when they are the larger half, they go. */
static void sweep(struct rb_js_stream *stream, struct rb_js_counters *counters)
{
    struct rb_msgstore_state state;
    rb_msgstore_state(stream->store, &state);
    if (counters->map.count < STALE_MIN || counters->map.count / 2 < state.subjects) {
        return;
    }
    struct rb_js_counters kept;
    struct rb_js_counter *counter;
    rb_js_counters_init(&kept, counters->pools);
    for (uint32_t at = 0; (counter = rb_map_next(&counters->map, &at)) != NULL;) {
        if (is_newest(stream, counter) &&
            rb_map_insert(&kept.map, rb_slice_hash(subject_of(counter)), counter) != RB_OK) {
            rb_map_deinit(&kept.map); /* another time */
            return;
        }
    }
    for (uint32_t at = 0; (counter = rb_map_next(&counters->map, &at)) != NULL;) {
        if (!is_newest(stream, counter)) {
            rb_js_pools_give(counters->pools, counter, bytes_of(counter));
        }
    }
    rb_map_deinit(&counters->map);
    *counters = kept;
}

bool rb_js_counter_find(struct rb_js_stream *stream, struct rb_slice subject,
                        struct rb_js_counter_value *ret_value)
{
    struct rb_msgstore_subject info;
    *ret_value = (struct rb_js_counter_value){ 0 };
    if (!rb_msgstore_subject(stream->store, subject, &info)) {
        return true;
    }
    const struct rb_js_counter *counter =
        rb_map_find(&stream->inside->counters.map, rb_slice_hash(subject), subject);
    if (counter == NULL || counter->seq != info.last_seq || counter->total_len == 0) {
        return false;
    }
    *ret_value = value_of(counter);
    return true;
}

bool rb_js_counter_note(struct rb_js_stream *stream, struct rb_slice subject, uint64_t seq,
                        const struct rb_js_counter_value *value)
{
    sweep(stream, &stream->inside->counters);
    return put(&stream->inside->counters, subject, seq, value);
}

struct body {
    struct rb_slice val;
};
static const struct rb_doc_field body_fields[] = {
    { "val", RB_DOC_STRING, 0, offsetof(struct body, val) },
};
static const struct rb_doc_type body_type = { "CounterValue", sizeof(struct body), body_fields, 1 };

bool rb_js_counter_read(struct rb_arena *arena, struct rb_slice payload, uint32_t header_len,
                        struct rb_js_counter_value *ret_value)
{
    struct body body;
    char why[RB_DOC_ERROR_MAX];
    *ret_value = (struct rb_js_counter_value){ 0 };
    struct rb_slice json = rb_slice_of(payload.ptr + header_len, payload.len - header_len);
    if (!rb_doc_read(arena, &body_type, json, false, &body, why) || !rb_decimal_valid(body.val)) {
        return true;
    }
    ret_value->total = body.val;
    if (header_len > 0) {
        struct rb_slice sources = rb_header_get(rb_slice_of(payload.ptr, header_len), SOURCES);
        if (sources.len > 0) {
            uint8_t *copy = rb_arena_take(arena, sources.len);
            if (copy == NULL) {
                return false;
            }
            memcpy(copy, sources.ptr, sources.len);
            ret_value->sources = rb_slice_of(copy, sources.len);
        }
    }
    return true;
}

bool rb_js_counter_note_stored(struct rb_js_stream *stream, const struct rb_command *command,
                               uint64_t seq)
{
    struct rb_arena *arena;
    struct rb_js_counter_value value;
    if (rb_arena_create(ARENA_BYTES, &arena) != RB_OK) {
        return false;
    }
    bool noted = rb_js_counter_read(arena, command->text, command->header_len, &value) &&
                 rb_js_counter_note(stream, command->subject, seq, &value);
    rb_arena_destroy(arena);
    return noted;
}

/* ---- one message ---- */

static bool refuse(struct rb_js_outcome *outcome, uint16_t code)
{
    rb_js_error_set(&outcome->error, code, NULL);
    return false;
}

bool rb_js_counter_check(struct rb_js_stream *stream, const struct rb_command *command,
                         const struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    static const enum rb_js_header never[] = {
        RB_JS_H_ROLLUP,
        RB_JS_H_EXPECTED_STREAM,
        RB_JS_H_EXPECTED_LAST_SEQ,
        RB_JS_H_EXPECTED_SUBJECT_SEQ,
        RB_JS_H_EXPECTED_SUBJECT_SEQ_SUBJECT,
        RB_JS_H_EXPECTED_MSG_ID,
    };
    if (!rb_js_headers_has(headers, RB_JS_H_INCR)) {
        return true;
    }
    if (!rb_decimal_valid(headers->value[RB_JS_H_INCR])) {
        return refuse(outcome, 10171);
    }
    if (!stream->config->allow_msg_counter) {
        return refuse(outcome, 10168);
    }
    if (command->text.len > command->header_len) {
        return refuse(outcome, 10170);
    }
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        if (rb_js_headers_has(headers, never[i])) {
            return refuse(outcome, 10171);
        }
    }
    return true;
}

/* The n-th word of Nats-Stream-Source; empty: it has fewer. */
static struct rb_slice source_field(struct rb_slice header, uint32_t n)
{
    size_t at = 0;
    for (;; n--) {
        size_t end = at;
        while (end < header.len && header.ptr[end] != ' ') {
            end++;
        }
        if (n == 0) {
            return rb_slice_of(header.ptr + at, end - at);
        }
        if (end == header.len) {
            return rb_slice_of(NULL, 0);
        }
        at = end + 1;
    }
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void write_json(struct rb_out *out, json_t *value)
{
    if (json_is_string(value)) {
        rb_out_string(out, rb_slice_of(json_string_value(value), json_string_length(value)));
        return;
    }
    size_t count = json_object_size(value), at = 0;
    const char **keys = rb_alloc(out->budget, count * sizeof(*keys));
    if (keys == NULL && count > 0) {
        out->failed = true;
        return;
    }
    const char *key;
    json_t *member;
    json_object_foreach(value, key, member)
    {
        keys[at++] = key;
    }
    if (count > 0) {
        qsort(keys, count, sizeof(*keys), compare_keys);
    }
    rb_out_put(out, RB_S("{"));
    for (at = 0; at < count; at++) {
        if (at > 0) {
            rb_out_put(out, RB_S(","));
        }
        rb_out_string(out, rb_slice_text(keys[at]));
        rb_out_put(out, RB_S(":"));
        write_json(out, json_object_get(value, keys[at]));
    }
    rb_out_put(out, RB_S("}"));
    rb_free(out->budget, keys, count * sizeof(*keys));
}

/* {"stream":{"subject":"number"}}: as it is in `text`, or new. NULL: it is something else, or memory was refused. */
static json_t *read_sources(struct rb_slice text)
{
    if (text.len == 0) {
        return json_object();
    }
    json_t *sources = json_loadb((const char *)text.ptr, text.len, 0, NULL);
    bool good = json_is_object(sources);
    const char *key, *subject;
    json_t *of_stream, *value;
    json_object_foreach(sources, key, of_stream)
    {
        good = good && json_is_object(of_stream);
        json_object_foreach(of_stream, subject, value)
        {
            good =
                good && json_is_string(value) &&
                rb_decimal_valid(rb_slice_of(json_string_value(value), json_string_length(value)));
        }
    }
    if (!good) {
        json_decref(sources);
        return NULL;
    }
    return sources;
}

/* Sets what the source holds now; what it held before (or "0") is written to `out`. */
static bool replace_source(json_t *sources, struct rb_slice stream, struct rb_slice subject,
                           struct rb_slice total, struct rb_out *out)
{
    json_t *of_stream = json_object_getn(sources, (const char *)stream.ptr, stream.len);
    if (of_stream == NULL) {
        of_stream = json_object();
        if (of_stream == NULL ||
            json_object_setn_new(sources, (const char *)stream.ptr, stream.len, of_stream) != 0) {
            return false;
        }
    }
    json_t *before = json_object_getn(of_stream, (const char *)subject.ptr, subject.len);
    rb_out_put(out, before == NULL ? RB_S("0") : rb_slice_text(json_string_value(before)));
    return !out->failed &&
           json_object_setn_new(of_stream, (const char *)subject.ptr, subject.len,
                                json_stringn((const char *)total.ptr, total.len)) == 0;
}

/* A message of another counter: the increment is what it holds more than it held the last time. */
struct from_source {
    struct rb_out increment, sources;
};

static bool read_source(struct rb_js_stream *stream, const struct rb_command *command,
                        struct rb_slice header, struct rb_slice sources_text,
                        struct from_source *from)
{
    struct rb_budget *budget = stream->account->js->budget;
    struct rb_slice origin = source_field(header, 0), subject = source_field(header, 4);
    struct rb_js_counter_value value;
    struct rb_arena *arena;
    struct rb_out before;
    if (rb_arena_create(ARENA_BYTES, &arena) != RB_OK) {
        return false;
    }
    rb_out_init(&before, budget);
    json_t *sources = read_sources(sources_text);
    bool good = sources != NULL &&
                rb_js_counter_read(arena, command->text, command->header_len, &value) &&
                value.total.len > 0 &&
                replace_source(sources, origin, subject.len > 0 ? subject : command->subject,
                               value.total, &before);
    if (good) {
        struct rb_slice old = rb_out_slice(&before);
        size_t cap = rb_decimal_cap(value.total, old);
        uint8_t *digits = rb_arena_take(arena, cap);
        good = digits != NULL;
        if (good) {
            rb_out_put(&from->increment,
                       rb_slice_of(digits, rb_decimal_add(value.total, old, true, digits)));
            write_json(&from->sources, sources);
            good = !from->increment.failed && !from->sources.failed;
        }
    }
    json_decref(sources);
    rb_out_deinit(&before);
    rb_arena_destroy(arena);
    return good;
}

/* Headers, then {"val":"..."}. */
static bool build(struct rb_js_stream *stream, const struct rb_command *command,
                  struct rb_slice before, struct rb_slice increment, struct rb_slice sources,
                  struct rb_js_counted *ret_counted)
{
    struct rb_js_pools *pools = &stream->account->js->pools;
    size_t digits = rb_decimal_cap(before, increment);
    size_t headers = command->header_len + increment.len + sources.len + 64;
    size_t body = digits + 16;
    size_t cap = 2 * headers + body + digits + sources.len;
    uint8_t *bytes = rb_js_pools_take(pools, cap);
    if (bytes == NULL) {
        return false;
    }
    struct rb_slice block = rb_slice_of(command->text.ptr, command->header_len);
    size_t len = command->header_len;
    memcpy(bytes, block.ptr, block.len);
    if (sources.len > 0) {
        uint8_t *other = bytes + headers;
        size_t first = rb_header_set(other, headers, block, RB_S("Nats-Incr"), increment);
        len = rb_header_set(bytes, headers, rb_slice_of(other, first), SOURCES, sources);
        if (first == 0 || len == 0) {
            rb_js_pools_give(pools, bytes, cap);
            return false;
        }
    }
    uint8_t *total = bytes + 2 * headers + body, *at = bytes + len;
    size_t total_len = rb_decimal_add(before, increment, false, total);
    struct rb_writer out = rb_writer_over(at, body);
    rb_write_slice(&out, RB_S("{\"val\":\""));
    rb_write_slice(&out, rb_slice_of(total, total_len));
    rb_write_slice(&out, RB_S("\"}"));
    *ret_counted = (struct rb_js_counted){ .command = *command, .bytes = bytes, .cap = cap };
    ret_counted->command.header_len = (uint32_t)len;
    ret_counted->command.text = rb_slice_of(bytes, len + rb_writer_len(&out));
    uint8_t *kept = total + digits;
    if (sources.len > 0) {
        memcpy(kept, sources.ptr, sources.len);
    }
    ret_counted->value.total = rb_slice_of(total, total_len);
    ret_counted->value.sources = rb_slice_of(kept, sources.len);
    return true;
}

bool rb_js_counter_add(struct rb_js_stream *stream, const struct rb_command *command,
                       const struct rb_js_headers *headers,
                       const struct rb_js_counter_value *before, struct rb_js_counted *ret_counted,
                       struct rb_js_outcome *outcome)
{
    struct rb_budget *budget = stream->account->js->budget;
    if (!rb_js_headers_has(headers, RB_JS_H_INCR)) {
        return refuse(outcome, 10169);
    }
    struct rb_slice increment = headers->value[RB_JS_H_INCR], sources = before->sources;
    struct rb_slice total = before->total.len > 0 ? before->total : RB_S("0");
    struct from_source from;
    rb_out_init(&from.increment, budget);
    rb_out_init(&from.sources, budget);
    bool good = true;
    if (rb_js_headers_has(headers, RB_JS_H_STREAM_SOURCE)) {
        good = read_source(stream, command, headers->value[RB_JS_H_STREAM_SOURCE], sources, &from);
        increment = rb_out_slice(&from.increment);
        sources = rb_out_slice(&from.sources);
    }
    good = good && rb_decimal_valid(increment);
    if (!good || !build(stream, command, total, increment, sources, ret_counted)) {
        (void)refuse(outcome, good ? 10023 : 10172);
        good = false;
    }
    rb_out_deinit(&from.increment);
    rb_out_deinit(&from.sources);
    uint32_t most = stream->account->js->core->settings->options.max_payload;
    if (good && most > 0 && ret_counted->command.text.len > most) {
        rb_js_counted_free(stream, ret_counted);
        return refuse(outcome, 10054);
    }
    return good;
}

void rb_js_counted_free(struct rb_js_stream *stream, struct rb_js_counted *counted)
{
    if (counted->bytes != NULL) {
        rb_js_pools_give(&stream->account->js->pools, counted->bytes, counted->cap);
        counted->bytes = NULL;
    }
}

/* ---- checkpoints ---- */

void rb_js_counters_save(const struct rb_js_counters *counters, const struct rb_js_stream *stream,
                         struct rb_out *out)
{
    uint64_t count = 0;
    const struct rb_js_counter *counter;
    for (uint32_t at = 0; (counter = rb_map_next(&counters->map, &at)) != NULL;) {
        count += is_newest(stream, counter);
    }
    rb_js_put_number(out, count);
    for (uint32_t at = 0; (counter = rb_map_next(&counters->map, &at)) != NULL;) {
        if (is_newest(stream, counter)) {
            struct rb_js_counter_value value = value_of(counter);
            rb_js_put_number(out, counter->seq);
            rb_js_put_text(out, subject_of(counter));
            rb_js_put_text(out, value.total);
            rb_js_put_text(out, value.sources);
        }
    }
}

enum rb_err rb_js_counters_load(struct rb_js_counters *counters, struct rb_reader *reader)
{
    uint64_t count = rb_read_u64(reader);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t seq = rb_read_u64(reader);
        struct rb_slice subject = rb_js_get_text(reader);
        struct rb_js_counter_value value = { .total = rb_js_get_text(reader) };
        value.sources = rb_js_get_text(reader);
        if (!rb_reader_ok(reader) || subject.len > RB_MSGSTORE_SUBJECT_MAX) {
            return RB_ERR_CORRUPT;
        }
        if (!put(counters, subject, seq, &value)) {
            return RB_ERR_MEMORY;
        }
    }
    return rb_reader_ok(reader) ? RB_OK : RB_ERR_CORRUPT;
}
