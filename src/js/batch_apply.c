/* batch_apply.c - a batch applied: every message is checked against the stream and what the batch has before it, then all are stored,
 * or none. The checks come in another order than for single messages (reference: jetstream.md 11). */
#include "js/publish.h"

#include <string.h>

#define MSGS_MAX 1000u

#define ARENA_BYTES 4096

/* What a counter will hold. */
struct total {
    struct total *next;
    struct rb_slice subject;
    struct rb_js_counter_value value;
};

/* What the messages before this one will have done. */
struct view {
    struct rb_js_staged staged;
    struct rb_arena *arena;   /* of totals; made when needed */
    struct total *totals;     /* the newest first */
    uint64_t *subjects, *ids; /* hashes; as many as there may be messages */
    uint32_t count, id_count;
    bool alone; /* of a fast batch: nothing else depends on it */
};

static bool refuse(struct rb_js_outcome *outcome, uint16_t code, const char *detail)
{
    rb_js_error_set(&outcome->error, code, detail);
    return false;
}

static bool next_command(struct rb_reader *reader, struct rb_command *ret_command)
{
    uint32_t bytes = rb_read_u32(reader);
    struct rb_slice body = rb_read_slice(reader, bytes);
    return rb_reader_ok(reader) &&
           rb_command_decode(RB_COMMAND_PUBLISH, body, ret_command) == RB_OK;
}

static uint64_t count_of(const uint64_t *hashes, uint32_t count, uint64_t hash)
{
    uint64_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        found += hashes[i] == hash;
    }
    return found;
}

static bool check_ids(struct rb_js_stream *stream, struct view *view,
                      const struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    if (!rb_js_headers_has(headers, RB_JS_H_MSG_ID) || stream->config->duplicate_window == 0) {
        return true;
    }
    struct rb_slice id = headers->value[RB_JS_H_MSG_ID];
    uint64_t hash = rb_slice_hash(id);
    uint64_t first = rb_js_dedup_find(&stream->inside->dedup, id);
    if (first != 0 && view->alone) {
        outcome->seq = first;
        outcome->duplicate = true;
        return false;
    }
    if (first != 0 || count_of(view->ids, view->id_count, hash) > 0) {
        return refuse(outcome, 10201, NULL);
    }
    view->ids[view->id_count++] = hash;
    return true;
}

static bool check_sequences(struct rb_js_stream *stream, const struct view *view,
                            const struct rb_command *command, const struct rb_js_headers *headers,
                            uint64_t last_seq, struct rb_js_outcome *outcome)
{
    if (rb_js_headers_has(headers, RB_JS_H_EXPECTED_LAST_SEQ)) {
        uint64_t last = last_seq + view->count; /* with what the batch has before it */
        if (rb_js_header_number(headers->value[RB_JS_H_EXPECTED_LAST_SEQ]) != last) {
            rb_js_error_format(&outcome->error, 10071, "%llu", (unsigned long long)last);
            return false;
        }
        if (view->count > 0) {
            return refuse(outcome, 10164, NULL);
        }
    }
    if (rb_js_headers_has(headers, RB_JS_H_EXPECTED_SUBJECT_SEQ)) {
        struct rb_slice of = rb_js_headers_has(headers, RB_JS_H_EXPECTED_SUBJECT_SEQ_SUBJECT)
                                 ? headers->value[RB_JS_H_EXPECTED_SUBJECT_SEQ_SUBJECT]
                                 : command->subject;
        if (count_of(view->subjects, view->count, rb_slice_hash(of)) > 0) {
            return refuse(outcome, 10164, NULL);
        }
    }
    return rb_js_check_subject_seq(stream, command->subject, headers, outcome);
}

static bool check_rollup(struct rb_js_stream *stream, const struct view *view,
                         const struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    if (!rb_js_check_rollup(stream, headers, outcome)) {
        return false;
    }
    enum rb_js_rollup rollup = rb_js_rollup_of(headers);
    if (rollup == RB_JS_ROLLUP_SUBJECT && view->staged.of_subject > 0) {
        return refuse(outcome, 10111, "batch rollup sub invalid");
    }
    if (rollup == RB_JS_ROLLUP_ALL && view->count > 0) {
        return refuse(outcome, 10111, "batch rollup all invalid");
    }
    return true;
}

static bool check_plain(struct rb_js_stream *stream, const struct view *view,
                        const struct rb_command *command, const struct rb_js_headers *headers,
                        struct rb_js_outcome *outcome)
{
    if (!view->alone && rb_js_headers_has(headers, RB_JS_H_EXPECTED_MSG_ID)) {
        return refuse(outcome, 10177, "Nats-Expected-Last-Msg-Id");
    }
    if (rb_js_headers_has(headers, RB_JS_H_EXPECTED_MSG_ID) &&
        !rb_slice_equal(headers->value[RB_JS_H_EXPECTED_MSG_ID], stream->inside->last_msg_id)) {
        rb_js_error_format(&outcome->error, 10070, "%.*s", RB_S_ARG(stream->inside->last_msg_id));
        return false;
    }
    if (!rb_js_counter_check(stream, command, headers, outcome)) {
        return false;
    }
    if (rb_js_headers_has(headers, RB_JS_H_EXPECTED_STREAM) &&
        !rb_slice_equal(headers->value[RB_JS_H_EXPECTED_STREAM], stream->name)) {
        return refuse(outcome, 10060, NULL);
    }
    if (rb_js_headers_has(headers, RB_JS_H_TTL) && !stream->config->allow_msg_ttl) {
        return refuse(outcome, 10166, NULL);
    }
    return rb_js_check_ttl(headers, outcome);
}

static struct rb_js_counter_value total_before(struct rb_js_stream *stream, const struct view *view,
                                               struct rb_slice subject, bool *ret_known)
{
    struct rb_js_counter_value value;
    *ret_known = true;
    for (const struct total *total = view->totals; total != NULL; total = total->next) {
        if (rb_slice_equal(total->subject, subject)) {
            return total->value;
        }
    }
    *ret_known = rb_js_counter_find(stream, subject, &value);
    return value;
}

/* The subject stays where it is: in the command. */
static bool keep_total(struct view *view, const struct rb_js_counted *counted)
{
    struct rb_slice text = counted->value.total, sources = counted->value.sources;
    if (view->arena == NULL && rb_arena_create(ARENA_BYTES, &view->arena) != RB_OK) {
        view->arena = NULL;
        return false;
    }
    struct total *total = rb_arena_take(view->arena, sizeof(*total) + text.len + sources.len);
    if (total == NULL) {
        return false;
    }
    uint8_t *bytes = (uint8_t *)(total + 1);
    struct rb_writer out = rb_writer_over(bytes, text.len + sources.len);
    rb_write_slice(&out, text);
    rb_write_slice(&out, sources);
    *total = (struct total){ .next = view->totals,
                             .subject = counted->command.subject,
                             .value = { rb_slice_of(bytes, text.len),
                                        rb_slice_of(bytes + text.len, sources.len) } };
    view->totals = total;
    return true;
}

/* Of a counter: the size of what will be stored counts. */
static bool count_message(struct rb_js_stream *stream, struct view *view,
                          const struct rb_command *command, const struct rb_js_headers *headers,
                          struct rb_js_outcome *outcome)
{
    bool known;
    struct rb_js_counted counted;
    if (!stream->config->allow_msg_counter) {
        return true;
    }
    struct rb_js_counter_value before = total_before(stream, view, command->subject, &known);
    if (!known) {
        return refuse(outcome, 10172, NULL);
    }
    if (!rb_js_counter_add(stream, command, headers, &before, &counted, outcome)) {
        return false;
    }
    bool good = rb_js_check_size(stream, counted.command.text.len, outcome) &&
                rb_js_check_header(&counted.command, outcome) &&
                (keep_total(view, &counted) || refuse(outcome, 10023, NULL));
    rb_js_counted_free(stream, &counted);
    return good;
}

static bool check_message(struct rb_js_stream *stream, struct view *view,
                          const struct rb_command *command, const struct rb_js_headers *headers,
                          uint64_t last_seq, struct rb_js_outcome *outcome)
{
    uint64_t hash = rb_slice_hash(command->subject);
    view->staged.of_subject = count_of(view->subjects, view->count, hash);
    if (!rb_js_check_room_flags(command, RB_COMMAND_NO_ROOM, outcome) ||
        !rb_js_check_room_flags(command, RB_COMMAND_OVER_ACCOUNT, outcome) ||
        !rb_js_check_size(stream, command->text.len, outcome) ||
        !rb_js_check_header(command, outcome) ||
        !check_plain(stream, view, command, headers, outcome) ||
        !check_ids(stream, view, headers, outcome)) {
        return false;
    }
    if (rb_js_headers_has(headers, RB_JS_H_STREAM_SOURCE)) {
        return refuse(outcome, 10227, NULL);
    }
    if (!count_message(stream, view, command, headers, outcome) ||
        !check_sequences(stream, view, command, headers, last_seq, outcome)) {
        return false;
    }
    if (!rb_js_schedule_check(stream, command, headers, outcome)) {
        return false;
    }
    if (!check_rollup(stream, view, headers, outcome) ||
        !rb_js_check_room(stream, command, rb_js_headers_has(headers, RB_JS_H_ROLLUP),
                          &view->staged, outcome)) {
        return false;
    }
    view->subjects[view->count++] = hash;
    view->staged.messages++;
    view->staged.bytes +=
        rb_js_message_bytes(stream, command->subject.len, command->text.len, command->header_len);
    return true;
}

static bool check_all(struct rb_js_stream *stream, struct rb_slice commands, struct view *view,
                      struct rb_js_outcome *outcome)
{
    struct rb_reader reader = rb_reader_over(commands);
    struct rb_msgstore_state state;
    struct rb_command command;
    struct rb_js_headers headers;
    rb_msgstore_state(stream->store, &state);
    while (reader.at < reader.end) {
        if (!next_command(&reader, &command) || view->count == MSGS_MAX) {
            rb_js_stream_go_offline(stream, "a batch in its log is not known to this version");
            return refuse(outcome, 10077, "batch cannot be read");
        }
        rb_js_headers_scan(rb_slice_of(command.text.ptr, command.header_len), &headers);
        if (!check_message(stream, view, &command, &headers, state.last_seq, outcome)) {
            return false;
        }
    }
    return true;
}

static void store_scheduled(struct rb_js_stream *stream, const struct rb_command *command,
                            struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_js_scheduled scheduled;
    if (!rb_js_schedule_begin(stream, command, headers, &scheduled, outcome)) {
        rb_js_stream_go_offline(stream, "memory was refused while a batch was stored");
        return;
    }
    rb_js_headers_scan(rb_slice_of(scheduled.command.text.ptr, scheduled.command.header_len),
                       headers);
    rb_js_store_or_skip(stream, &scheduled.command, headers, outcome);
    rb_js_schedule_end(stream, &scheduled, outcome);
}

static void store(struct rb_js_stream *stream, const struct rb_command *command,
                  struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_js_counter_value before;
    struct rb_js_counted counted;
    if (stream->config->allow_msg_schedules) {
        store_scheduled(stream, command, headers, outcome);
        return;
    }
    if (!stream->config->allow_msg_counter) {
        rb_js_store_or_skip(stream, command, headers, outcome);
        return;
    }
    if (!rb_js_counter_find(stream, command->subject, &before) ||
        !rb_js_counter_add(stream, command, headers, &before, &counted, outcome)) {
        rb_js_stream_go_offline(stream, "memory was refused while a batch was stored");
        return;
    }
    rb_js_headers_scan(rb_slice_of(counted.command.text.ptr, counted.command.header_len), headers);
    rb_js_store(stream, &counted.command, headers, outcome);
    rb_js_counted_stored(stream, &counted, outcome);
}

void rb_js_publish_batch(struct rb_js_stream *stream, const struct rb_command *command,
                         struct rb_js_outcome *outcome)
{
    uint64_t window = (uint64_t)stream->config->duplicate_window;
    uint64_t now = rb_js_stream_clock(stream, command);
    rb_js_dedup_forget(&stream->inside->dedup, now > window ? now - window : 0);
    if (stream->config->sealed) {
        rb_js_error_set(&outcome->error, 10109, NULL);
        return;
    }
    uint64_t subjects[MSGS_MAX], ids[MSGS_MAX];
    struct view view = { .staged = { .strict = true }, .subjects = subjects, .ids = ids };
    bool good = check_all(stream, command->text, &view, outcome);
    if (view.arena != NULL) {
        rb_arena_destroy(view.arena);
    }
    if (!good) {
        return;
    }
    struct rb_reader reader = rb_reader_over(command->text);
    struct rb_command one;
    struct rb_js_headers headers;
    while (reader.at < reader.end && next_command(&reader, &one) &&
           stream->phase != RB_JS_STREAM_OFFLINE) {
        rb_js_headers_scan(rb_slice_of(one.text.ptr, one.header_len), &headers);
        store(stream, &one, &headers, outcome);
        rb_counter_add(&stream->account->js->stats.publishes, 1);
    }
}

void rb_js_publish_alone(struct rb_js_stream *stream, const struct rb_command *command,
                         struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    uint64_t subject, id, window = (uint64_t)stream->config->duplicate_window;
    uint64_t now = stream->inside->clock_ns;
    struct rb_msgstore_state state;
    struct view view = {
        .staged = { .strict = true }, .subjects = &subject, .ids = &id, .alone = true
    };
    rb_js_dedup_forget(&stream->inside->dedup, now > window ? now - window : 0);
    if (stream->config->sealed) {
        rb_js_error_set(&outcome->error, 10109, NULL);
        return;
    }
    rb_msgstore_state(stream->store, &state);
    bool good = check_message(stream, &view, command, headers, state.last_seq, outcome);
    if (view.arena != NULL) {
        rb_arena_destroy(view.arena);
    }
    if (good) {
        store(stream, command, headers, outcome);
    }
}
