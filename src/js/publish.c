/* publish.c - what becomes of a message when its command is applied: checks, storing, limits, republishing.
 *
 * The checks stand in nats-server's order (reference: jetstream.md 7.2), because a client that breaks two rules is told of the first.
 * They look at the command and at what earlier commands made of the stream, at nothing else.
 */
#include "js/publish.h"

#include <string.h>

#include "js/consumer.h"
#include "js/duration.h"
#include "proto/header.h"
#include "proto/subject.h"
#include "ringbus/check.h"

#define RECORD_MAX (32u << 20)
#define HEADER_MAX 65535u
#define SECOND_NS INT64_C(1000000000)

static bool refuse(struct rb_js_outcome *outcome, uint16_t code, const char *detail)
{
    rb_js_error_set(&outcome->error, code, detail);
    return false;
}

static bool wrong_sequence(struct rb_js_outcome *outcome, uint64_t actual)
{
    rb_js_error_format(&outcome->error, 10071, "%llu", (unsigned long long)actual);
    return false;
}

uint64_t rb_js_message_bytes(const struct rb_js_stream *stream, size_t subject_bytes,
                             size_t payload_bytes, uint32_t header_len)
{
    uint64_t bytes = subject_bytes + payload_bytes;
    if (stream->config->storage == RB_JS_MEMORY) {
        return bytes + 16;
    }
    return bytes + 30 + (header_len > 0 ? 4 : 0);
}

/* Newest sequence on a subject that may have wildcards; 0: none. */
static uint64_t last_of(struct rb_js_stream *stream, struct rb_slice subject)
{
    struct rb_msgstore_subject info;
    if (rb_subject_has_wildcard(subject)) {
        return rb_subject_valid_sub(subject)
                   ? rb_msgstore_last(stream->store, &subject, 1, UINT64_MAX)
                   : 0;
    }
    return rb_msgstore_subject(stream->store, subject, &info) ? info.last_seq : 0;
}

bool rb_js_check_subject_seq(struct rb_js_stream *stream, struct rb_slice subject,
                             const struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    bool other = rb_js_headers_has(headers, RB_JS_H_EXPECTED_SUBJECT_SEQ_SUBJECT);
    if (!rb_js_headers_has(headers, RB_JS_H_EXPECTED_SUBJECT_SEQ)) {
        return !other || refuse(outcome, 10193, NULL);
    }
    uint64_t wanted = rb_js_header_number(headers->value[RB_JS_H_EXPECTED_SUBJECT_SEQ]);
    uint64_t actual =
        last_of(stream, other ? headers->value[RB_JS_H_EXPECTED_SUBJECT_SEQ_SUBJECT] : subject);
    return wanted == actual || wrong_sequence(outcome, actual);
}

/* Checks 4 to 6 and 8 to 10 of the reference. */
static bool check_headers(struct rb_js_stream *stream, const struct rb_command *command,
                          const struct rb_js_headers *headers, uint64_t last_seq,
                          struct rb_js_outcome *outcome)
{
    const struct rb_js_stream_config *config = stream->config;
    int64_t ttl;
    if (!rb_js_counter_check(stream, command, headers, outcome)) {
        return false;
    }
    if (rb_js_headers_has(headers, RB_JS_H_EXPECTED_STREAM) &&
        !rb_slice_equal(headers->value[RB_JS_H_EXPECTED_STREAM], stream->name)) {
        return refuse(outcome, 10060, NULL);
    }
    if (rb_js_headers_has(headers, RB_JS_H_TTL) && !config->allow_msg_ttl &&
        rb_js_ttl_parse(headers->value[RB_JS_H_TTL], &ttl)) {
        return refuse(outcome, 10166, NULL);
    }
    if (!rb_js_check_subject_seq(stream, command->subject, headers, outcome)) {
        return false;
    }
    if (rb_js_headers_has(headers, RB_JS_H_EXPECTED_LAST_SEQ) &&
        rb_js_header_number(headers->value[RB_JS_H_EXPECTED_LAST_SEQ]) != last_seq) {
        return wrong_sequence(outcome, last_seq);
    }
    if (!rb_js_schedule_check(stream, command, headers, outcome)) {
        return false;
    }
    return !rb_js_headers_has(headers, RB_JS_H_STREAM_SOURCE) || refuse(outcome, 10227, NULL);
}

enum rb_js_rollup rb_js_rollup_of(const struct rb_js_headers *headers)
{
    if (!rb_js_headers_has(headers, RB_JS_H_ROLLUP)) {
        return RB_JS_ROLLUP_NONE;
    }
    struct rb_slice value = headers->value[RB_JS_H_ROLLUP];
    if (rb_slice_equal_fold(value, RB_S("sub"))) {
        return RB_JS_ROLLUP_SUBJECT;
    }
    return rb_slice_equal_fold(value, RB_S("all")) ? RB_JS_ROLLUP_ALL : RB_JS_ROLLUP_INVALID;
}

bool rb_js_check_rollup(struct rb_js_stream *stream, const struct rb_js_headers *headers,
                        struct rb_js_outcome *outcome)
{
    const struct rb_js_stream_config *config = stream->config;
    enum rb_js_rollup rollup = rb_js_rollup_of(headers);
    if (rollup == RB_JS_ROLLUP_NONE) {
        return true;
    }
    if (!config->allow_rollup_hdrs || config->deny_purge) {
        return refuse(outcome, 10111, "rollup not permitted");
    }
    if (rollup == RB_JS_ROLLUP_INVALID) {
        uint8_t quoted[256];
        size_t len = rb_format_quoted(quoted, sizeof(quoted), headers->value[RB_JS_H_ROLLUP]);
        rb_js_error_format(&outcome->error, 10111, "rollup value invalid: \"%.*s\"", (int)len,
                           (const char *)quoted);
        return false;
    }
    return true;
}

bool rb_js_check_size(const struct rb_js_stream *stream, size_t payload_bytes,
                      struct rb_js_outcome *outcome)
{
    return stream->config->max_msg_size < 0 ||
           payload_bytes <= (size_t)stream->config->max_msg_size || refuse(outcome, 10054, NULL);
}

bool rb_js_check_header(const struct rb_command *command, struct rb_js_outcome *outcome)
{
    return command->header_len <= HEADER_MAX || refuse(outcome, 10097, NULL);
}

bool rb_js_check_ttl(const struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    int64_t ttl;
    return !rb_js_headers_has(headers, RB_JS_H_TTL) ||
           rb_js_ttl_parse(headers->value[RB_JS_H_TTL], &ttl) || refuse(outcome, 10165, NULL);
}

/* A message whose subject is full takes the place of the oldest there. */
bool rb_js_check_room(struct rb_js_stream *stream, const struct rb_command *command,
                      bool has_rollup, const struct rb_js_staged *staged,
                      struct rb_js_outcome *outcome)
{
    const struct rb_js_stream_config *config = stream->config;
    if (config->discard != RB_JS_DISCARD_NEW) {
        return true;
    }
    struct rb_msgstore_state state;
    struct rb_msgstore_subject info = { .count = 0 };
    rb_msgstore_state(stream->store, &state);
    bool full = false;
    if (config->max_msgs_per_subject > 0) {
        uint64_t count = rb_msgstore_subject(stream->store, command->subject, &info)
                             ? info.count + staged->of_subject
                             : staged->of_subject;
        full = count >= (uint64_t)config->max_msgs_per_subject;
    }
    if (full && config->discard_new_per_subject && !has_rollup) {
        return refuse(outcome, 10077, "maximum messages per subject exceeded");
    }
    if (config->max_msgs > 0 && state.messages + staged->messages >= (uint64_t)config->max_msgs &&
        (!full || staged->strict)) {
        return refuse(outcome, 10077, "maximum messages exceeded");
    }
    uint64_t bytes =
        rb_js_message_bytes(stream, command->subject.len, command->text.len, command->header_len);
    if (config->max_bytes > 0 &&
        state.bytes + staged->bytes + bytes > (uint64_t)config->max_bytes) {
        struct rb_msgstore_entry oldest;
        if (!full || staged->strict || info.count == 0 ||
            !rb_msgstore_find(stream->store, info.first_seq, &oldest) || oldest.bytes < bytes) {
            return refuse(outcome, 10077, "maximum bytes exceeded");
        }
    }
    return true;
}

static bool is_duplicate(struct rb_js_stream *stream, const struct rb_js_headers *headers,
                         struct rb_js_outcome *outcome)
{
    struct rb_js_dedup *dedup = &stream->inside->dedup;
    uint64_t window = (uint64_t)stream->config->duplicate_window;
    uint64_t now = stream->inside->clock_ns;
    if (window == 0 || !rb_js_headers_has(headers, RB_JS_H_MSG_ID)) {
        return false;
    }
    rb_js_dedup_forget(dedup, now > window ? now - window : 0);
    outcome->seq = rb_js_dedup_find(dedup, headers->value[RB_JS_H_MSG_ID]);
    outcome->duplicate = outcome->seq != 0;
    return outcome->duplicate;
}

bool rb_js_check_room_flags(const struct rb_command *command, uint8_t flag,
                            struct rb_js_outcome *outcome)
{
    if ((command->flags & flag) == 0) {
        return true;
    }
    return refuse(outcome, flag == RB_COMMAND_NO_ROOM ? 10023 : 10002, NULL);
}

/* ---- storing ---- */

/* What cannot be undone and would be otherwise when it is applied again: better no stream than two different ones. */
static void give_up(struct rb_js_stream *stream, struct rb_js_outcome *outcome)
{
    rb_js_stream_go_offline(stream, "memory was refused while a message was stored");
    rb_js_error_set(&outcome->error, 10023, NULL);
}

static bool remember_id(struct rb_js_stream *stream, struct rb_slice id)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_js_pools *pools = &stream->account->js->pools;
    if (inside->last_msg_id.len > 0) {
        rb_js_pools_give(pools, (void *)(uintptr_t)inside->last_msg_id.ptr,
                         inside->last_msg_id.len);
        inside->last_msg_id = rb_slice_of(NULL, 0);
    }
    if (id.len > 0) {
        uint8_t *copy = rb_js_pools_take(pools, id.len);
        if (copy == NULL) {
            return false;
        }
        memcpy(copy, id.ptr, id.len);
        inside->last_msg_id = rb_slice_of(copy, id.len);
    }
    return true;
}

static bool note_id(struct rb_js_stream *stream, const struct rb_js_headers *headers, uint64_t seq)
{
    bool has = rb_js_headers_has(headers, RB_JS_H_MSG_ID);
    struct rb_slice id = has ? headers->value[RB_JS_H_MSG_ID] : rb_slice_of(NULL, 0);
    if (has && stream->config->duplicate_window > 0 &&
        rb_js_dedup_find(&stream->inside->dedup, id) == 0 &&
        !rb_js_dedup_add(&stream->inside->dedup, id, seq, stream->inside->clock_ns)) {
        return false;
    }
    return (!has && stream->inside->last_msg_id.len == 0) || remember_id(stream, id);
}

static bool note_lifetime(struct rb_js_stream *stream, const struct rb_js_headers *headers,
                          uint64_t seq, uint64_t time_ns)
{
    struct rb_js_expiry *expiry = &stream->inside->expiry;
    int64_t ttl;
    if (!stream->config->allow_msg_ttl) {
        return true;
    }
    if (rb_js_headers_has(headers, RB_JS_H_TTL) &&
        rb_js_ttl_parse(headers->value[RB_JS_H_TTL], &ttl)) {
        bool kept = ttl == RB_JS_TTL_NEVER ? rb_js_expiry_add_forever(expiry, seq)
                                           : rb_js_expiry_add(expiry, time_ns + (uint64_t)ttl, seq);
        if (!kept) {
            return false;
        }
    }
    bool quiet = rb_js_headers_has(headers, RB_JS_H_MARKER_REASON) ||
                 (rb_js_headers_has(headers, RB_JS_H_KV_OPERATION) &&
                  rb_slice_equal(headers->value[RB_JS_H_KV_OPERATION], RB_S("PURGE")));
    return !quiet || rb_js_expiry_add_quiet(expiry, seq);
}

static void roll_up(struct rb_js_stream *stream, const struct rb_command *command,
                    enum rb_js_rollup rollup, uint64_t seq)
{
    if (rollup == RB_JS_ROLLUP_SUBJECT) {
        (void)rb_msgstore_purge(stream->store, command->subject, seq, 0);
    } else if (rollup == RB_JS_ROLLUP_ALL) {
        (void)rb_msgstore_purge_below(stream->store, seq);
    }
}

/* The TTL in the header becomes that of the stream's delete markers, when it is shorter. NULL: nothing to change. */
static uint8_t *raise_ttl(struct rb_js_stream *stream, const struct rb_command *command,
                          struct rb_js_headers *headers, struct rb_command *ret_command,
                          size_t *ret_cap)
{
    const struct rb_js_stream_config *config = stream->config;
    int64_t ttl;
    if (config->subject_delete_marker_ttl <= 0 || config->max_msgs_per_subject == 1 ||
        !rb_js_headers_has(headers, RB_JS_H_TTL) ||
        !rb_js_ttl_parse(headers->value[RB_JS_H_TTL], &ttl) ||
        ttl >= config->subject_delete_marker_ttl) {
        return NULL;
    }
    *ret_cap = command->text.len + 32;
    uint8_t *copy = rb_js_pools_take(&stream->account->js->pools, *ret_cap), digits[20];
    if (copy == NULL) {
        return NULL;
    }
    size_t digits_len =
        rb_format_decimal(digits, (uint64_t)(config->subject_delete_marker_ttl / SECOND_NS));
    size_t len = rb_header_set(copy, *ret_cap, rb_slice_of(command->text.ptr, command->header_len),
                               RB_S("Nats-TTL"), rb_slice_of(digits, digits_len));
    if (len == 0) {
        rb_js_pools_give(&stream->account->js->pools, copy, *ret_cap);
        return NULL;
    }
    size_t body = command->text.len - command->header_len;
    memcpy(copy + len, command->text.ptr + command->header_len, body);
    *ret_command = *command;
    ret_command->text = rb_slice_of(copy, len + body);
    ret_command->header_len = (uint32_t)len;
    rb_js_headers_scan(rb_slice_of(copy, len), headers);
    return copy;
}

/* The timer is armed already, but for the first message, or one that is due earlier. */
static void arm_after(struct rb_js_stream *stream, const struct rb_js_headers *headers)
{
    bool lifetime = rb_js_headers_has(headers, RB_JS_H_TTL);
    bool armed = rb_timer_armed(&stream->inside->alarm.timer);
    if (!stream->replaying &&
        (lifetime ||
         (!armed && (stream->config->max_age > 0 || rb_js_headers_has(headers, RB_JS_H_MSG_ID))))) {
        rb_js_stream_arm(stream);
    }
}

void rb_js_store(struct rb_js_stream *stream, const struct rb_command *given,
                 struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_command raised = { 0 };
    size_t cap = 0;
    uint8_t *copy = given->header_len > 0 ? raise_ttl(stream, given, headers, &raised, &cap) : NULL;
    const struct rb_command *command = copy == NULL ? given : &raised;
    struct rb_msgstore_state state;
    struct rb_msgstore_subject before = { .last_seq = 0 };
    rb_msgstore_state(stream->store, &state);
    bool keep = (command->flags & RB_COMMAND_KEEP_SEQ) != 0;
    struct rb_message message = {
        .seq = keep ? command->seq : state.last_seq + 1,
        .time_ns = keep ? command->time_ns : stream->inside->clock_ns,
        .subject = command->subject,
        .payload = command->text,
        .header_len = command->header_len,
    };
    bool republish = stream->inside->republish != NULL && !stream->replaying;
    if (republish) {
        (void)rb_msgstore_subject(stream->store, command->subject, &before);
    }
    if (rb_msgstore_append(stream->store, &message) != RB_OK ||
        !note_id(stream, headers, message.seq) ||
        !note_lifetime(stream, headers, message.seq, message.time_ns)) {
        give_up(stream, outcome);
    } else {
        outcome->seq = message.seq;
        if (!keep) { /* what came with its sequence was rolled up where it came from */
            roll_up(stream, command, rb_js_rollup_of(headers), message.seq);
        }
        rb_js_stream_limit(stream, command->subject);
        rb_js_stream_announce(stream, command->subject, message.seq);
        if (republish) {
            rb_js_republish(stream, &message, before.last_seq);
        }
        arm_after(stream, headers);
    }
    if (copy != NULL) {
        rb_js_pools_give(&stream->account->js->pools, copy, cap);
    }
}

static bool is_unwanted(struct rb_js_stream *stream, struct rb_slice subject)
{
    return stream->config->retention == RB_JS_INTEREST && !rb_js_stream_wanted(stream, subject);
}

/* An interest stream keeps nothing that nobody wants: the sequence is used up. */
static bool skip_unwanted(struct rb_js_stream *stream, const struct rb_command *command,
                          const struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_msgstore_state state;
    if ((command->flags & RB_COMMAND_KEEP_SEQ) != 0 || !is_unwanted(stream, command->subject)) {
        return false; /* what is restored was wanted, its consumers come later */
    }
    rb_msgstore_state(stream->store, &state);
    outcome->seq = state.last_seq + 1;
    rb_msgstore_skip_at(stream->store, outcome->seq, stream->inside->clock_ns);
    if (!note_id(stream, headers, outcome->seq)) {
        give_up(stream, outcome);
    }
    return true;
}

void rb_js_store_or_skip(struct rb_js_stream *stream, const struct rb_command *command,
                         struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    if (!skip_unwanted(stream, command, headers, outcome)) {
        rb_js_store(stream, command, headers, outcome);
    }
}

/* The first check that fails decides. True: it is to be stored. */
static bool check(struct rb_js_stream *stream, const struct rb_command *command,
                  const struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_msgstore_state state;
    bool sourced = (command->flags & (RB_COMMAND_SOURCED | RB_COMMAND_MARKER)) != 0;
    bool kept = (command->flags & RB_COMMAND_KEEP_SEQ) != 0;
    if (rb_js_message_bytes(stream, command->subject.len, command->text.len, command->header_len) >
        RECORD_MAX) {
        return refuse(outcome, 10077, "message too large");
    }
    if (stream->config->sealed) {
        return refuse(outcome, 10109, NULL);
    }
    if (!kept && !rb_js_check_size(stream, command->text.len, outcome)) {
        return false;
    }
    if (headers->found != 0) {
        rb_msgstore_state(stream->store, &state);
        if (!sourced && !check_headers(stream, command, headers, state.last_seq, outcome)) {
            return false;
        }
        if (!kept && is_duplicate(stream, headers, outcome)) {
            return false;
        }
        if (!sourced && rb_js_headers_has(headers, RB_JS_H_EXPECTED_MSG_ID) &&
            !rb_slice_equal(headers->value[RB_JS_H_EXPECTED_MSG_ID], inside->last_msg_id)) {
            rb_js_error_format(&outcome->error, 10070, "%.*s", RB_S_ARG(inside->last_msg_id));
            return false;
        }
        if (!kept && !rb_js_check_rollup(stream, headers, outcome)) {
            return false;
        }
    }
    return true;
}

/* What is asked of messages that are to be kept. */
static bool check_kept(struct rb_js_stream *stream, const struct rb_command *command,
                       const struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    static const struct rb_js_staged nothing = { 0 };
    bool kept = (command->flags & RB_COMMAND_KEEP_SEQ) != 0;
    return rb_js_check_room_flags(command, RB_COMMAND_OVER_ACCOUNT, outcome) &&
           (kept || rb_js_check_ttl(headers, outcome)) &&
           rb_js_check_room(stream, command, rb_js_headers_has(headers, RB_JS_H_ROLLUP), &nothing,
                            outcome);
}

/* Sizes of what will be stored, and the server's room. */
static bool check_stored(struct rb_js_stream *stream, const struct rb_command *command,
                         struct rb_js_outcome *outcome)
{
    bool kept = (command->flags & RB_COMMAND_KEEP_SEQ) != 0;
    return (kept || (rb_js_check_size(stream, command->text.len, outcome) &&
                     rb_js_check_header(command, outcome))) &&
           rb_js_check_room_flags(command, RB_COMMAND_NO_ROOM, outcome);
}

/* What follows once the message is as it will be stored. */
static void publish(struct rb_js_stream *stream, const struct rb_command *command,
                    struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    if (check_stored(stream, command, outcome) &&
        !skip_unwanted(stream, command, headers, outcome) &&
        check_kept(stream, command, headers, outcome)) {
        rb_js_store(stream, command, headers, outcome);
    }
}

/* A counter: what is stored is the total. */
static void count(struct rb_js_stream *stream, const struct rb_command *command,
                  struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_js_counter_value before;
    struct rb_js_counted counted;
    if (!rb_js_counter_find(stream, command->subject, &before)) {
        (void)refuse(outcome, 10172, NULL);
        return;
    }
    if (!rb_js_counter_add(stream, command, headers, &before, &counted, outcome)) {
        return;
    }
    rb_js_headers_scan(rb_slice_of(counted.command.text.ptr, counted.command.header_len), headers);
    publish(stream, &counted.command, headers, outcome);
    rb_js_counted_stored(stream, &counted, outcome);
}

void rb_js_counted_stored(struct rb_js_stream *stream, struct rb_js_counted *counted,
                          struct rb_js_outcome *outcome)
{
    struct rb_js_counter_value now;
    if (outcome->error.code == 0) {
        if (!rb_js_counter_note(stream, counted->command.subject, outcome->seq, &counted->value)) {
            give_up(stream, outcome);
        } else if (rb_js_counter_find(stream, counted->command.subject, &now)) {
            outcome->total = now.total;
        }
    }
    rb_js_counted_free(stream, counted);
}

static void schedule(struct rb_js_stream *stream, const struct rb_command *command,
                     struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_js_scheduled scheduled;
    if (!rb_js_schedule_begin(stream, command, headers, &scheduled, outcome)) {
        return;
    }
    rb_js_headers_scan(rb_slice_of(scheduled.command.text.ptr, scheduled.command.header_len),
                       headers);
    publish(stream, &scheduled.command, headers, outcome);
    rb_js_schedule_end(stream, &scheduled, outcome);
}

static void apply(struct rb_js_stream *stream, const struct rb_command *command,
                  struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    if (!check(stream, command, headers, outcome)) {
        return;
    }
    if (stream->config->allow_msg_schedules) {
        schedule(stream, command, headers, outcome);
    } else if (!stream->config->allow_msg_counter) {
        publish(stream, command, headers, outcome);
    } else if ((command->flags & RB_COMMAND_KEEP_SEQ) == 0) {
        count(stream, command, headers, outcome);
    } else { /* restored: the total is in it */
        publish(stream, command, headers, outcome);
        if (outcome->error.code == 0 && !rb_js_counter_note_stored(stream, command, outcome->seq)) {
            give_up(stream, outcome);
        }
    }
}

/* It does not follow what was taken before it, or there is no room for it: it has to come again. */
static void hold(struct rb_js_outcome *outcome)
{
    if (outcome->error.code == 0) {
        rb_js_error_set(&outcome->error, 10077, "message of another stream is out of order");
    }
    outcome->held = true;
}

static bool is_want_of_room(const struct rb_js_error *error)
{
    return error->code == 10077 || error->code == 10023 || error->code == 10002;
}

/* Of a mirror, or restored: command->value is the last sequence that must be there, 0: whatever it is. */
static void apply_kept(struct rb_js_stream *stream, const struct rb_command *command,
                       struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_msgstore_state state;
    struct rb_js_source_header source;
    rb_msgstore_state(stream->store, &state);
    if (command->seq <= state.last_seq ||
        (command->value != 0 && command->value != state.last_seq)) {
        hold(outcome);
        return;
    }
    bool sourced = rb_js_headers_has(headers, RB_JS_H_STREAM_SOURCE) &&
                   rb_js_source_header_parse(headers->value[RB_JS_H_STREAM_SOURCE], &source);
    apply(stream, command, headers,
          outcome); /* from here on `headers` may be of a copy that is gone */
    if (outcome->error.code != 0) {
        hold(outcome);
    } else if (sourced && !rb_js_place_set(&stream->inside->places, &source)) {
        give_up(stream, outcome);
    }
}

/* Of a source: command->value is how far it must have come. What is refused for good is left out, as its origin's deletions are. */
static void apply_sourced(struct rb_js_stream *stream, const struct rb_command *command,
                          struct rb_js_headers *headers, struct rb_js_outcome *outcome)
{
    struct rb_js_places *places = &stream->inside->places;
    struct rb_js_source_header source;
    if (!rb_js_headers_has(headers, RB_JS_H_STREAM_SOURCE) ||
        !rb_js_source_header_parse(headers->value[RB_JS_H_STREAM_SOURCE], &source) ||
        rb_js_place_of(places, &source, NULL) != command->value) {
        hold(outcome);
        return;
    }
    apply(stream, command, headers, outcome);
    if (is_want_of_room(&outcome->error)) {
        hold(outcome);
    } else if (!rb_js_place_set(places, &source)) {
        give_up(stream, outcome);
    }
}

void rb_js_publish_try(struct rb_js_stream *stream, const struct rb_command *command,
                       struct rb_js_outcome *outcome, struct rb_js_trial *ret_trial)
{
    struct rb_js_headers headers;
    rb_js_headers_scan(rb_slice_of(command->text.ptr, command->header_len), &headers);
    *ret_trial = (struct rb_js_trial){ 0 };
    if (check(stream, command, &headers, outcome) && check_stored(stream, command, outcome)) {
        ret_trial->stored = true;
        ret_trial->nobody = is_unwanted(stream, command->subject);
        (void)(ret_trial->nobody || check_kept(stream, command, &headers, outcome));
    }
}

void rb_js_publish_apply(struct rb_js_stream *stream, const struct rb_command *command,
                         struct rb_js_outcome *outcome)
{
    struct rb_js_headers headers;
    rb_js_headers_scan(rb_slice_of(command->text.ptr, command->header_len), &headers);
    (void)rb_js_stream_clock(stream, command);
    rb_counter_add(&stream->account->js->stats.publishes, 1);
    if ((command->flags & RB_COMMAND_FAST) != 0) {
        rb_js_fast_apply(stream, command, &headers, outcome);
    } else if ((command->flags & RB_COMMAND_KEEP_SEQ) != 0) {
        apply_kept(stream, command, &headers, outcome);
    } else if ((command->flags & RB_COMMAND_SOURCED) != 0) {
        apply_sourced(stream, command, &headers, outcome);
    } else if ((command->flags & RB_COMMAND_MARKER) == 0 ||
               rb_js_schedule_is(stream, &headers, command->value)) {
        apply(stream, command, &headers, outcome);
    } else {
        hold(outcome); /* of a schedule that was replaced */
    }
}

void rb_js_publish_marker(struct rb_js_stream *stream, struct rb_slice subject, uint64_t time_ns)
{
    char duration[RB_JS_DURATION_MAX], text[160];
    (void)rb_js_duration_format(stream->config->subject_delete_marker_ttl, duration);
    int len = snprintf(text, sizeof(text),
                       "NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: %s\r\n"
                       "Nats-Rollup: sub\r\n\r\n",
                       duration);
    struct rb_command command = { .type = RB_COMMAND_PUBLISH,
                                  .flags = RB_COMMAND_MARKER,
                                  .time_ns = time_ns,
                                  .subject = subject,
                                  .text = rb_slice_of(text, (size_t)len),
                                  .header_len = (uint32_t)len };
    struct rb_js_headers headers;
    struct rb_js_outcome outcome = { .seq = 0 };
    rb_js_headers_scan(command.text, &headers);
    rb_js_store(stream, &command, &headers, &outcome);
}
