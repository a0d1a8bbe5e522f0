/* consumer_apply.c - what commands make of consumers, and what the stream tells them: the same on every replay.
 *
 * Nothing here depends on limits, clocks or clients; what is sent is sent only when the stream serves.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "js/api.h"
#include "js/consumer_inside.h"
#include "js/stream_inside.h"
#include "ringbus/check.h"

void rb_js_consumer_give_up(struct rb_js_consumer *consumer)
{
    char why[160];
    struct rb_slice name = consumer->name;
    name.len = name.len < 64 ? name.len : 64;
    (void)snprintf(why, sizeof(why), "memory was refused for the state of consumer \"%.*s\"",
                   RB_S_ARG(name));
    rb_js_stream_go_offline(consumer->stream, why);
}

/* Where it starts (jetstream.md 16.3) */

static bool add_start(struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    if (in->start_count == in->start_cap) {
        uint32_t cap = in->start_cap == 0 ? 64 : in->start_cap * 2;
        uint64_t *grown = rb_realloc(rb_js_consumer_js(consumer)->budget, in->starts,
                                     in->start_cap * sizeof(*grown), cap * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        in->starts = grown;
        in->start_cap = cap;
    }
    in->starts[in->start_count++] = seq;
    return true;
}

static int compare_seqs(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static bool list_lasts(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_msgstore *store = consumer->stream->store;
    struct rb_msgstore_subjects *at =
        rb_alloc(rb_js_consumer_js(consumer)->budget, sizeof(*at)); /* 4 KiB */
    bool ok = at != NULL;
    for (uint32_t i = 0; ok && i < in->filter_slots; i++) {
        struct rb_msgstore_subject subject;
        memset(at, 0, sizeof(*at));
        while (ok && rb_msgstore_next_subject(store, in->subjects[i], at, &subject)) {
            ok = add_start(consumer, subject.last_seq);
        }
    }
    rb_free(rb_js_consumer_js(consumer)->budget, at, sizeof(*at));
    if (ok && in->start_count > 1) {
        qsort(in->starts, in->start_count, sizeof(*in->starts), compare_seqs);
    }
    return ok;
}

static bool find_start(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    const struct rb_js_consumer_config *config = consumer->config;
    struct rb_msgstore *store = consumer->stream->store;
    struct rb_msgstore_state state;
    rb_msgstore_state(store, &state);
    uint64_t first = state.first_seq > 0 ? state.first_seq : 1, start = first, found;
    switch (config->deliver_policy) {
    case RB_JS_DELIVER_LAST:
        found = rb_msgstore_last(store, in->subjects, in->filter_count, state.last_seq);
        start = found != 0 ? found : first;
        break;
    case RB_JS_DELIVER_NEW:
        start = state.last_seq + 1;
        break;
    case RB_JS_DELIVER_BY_START_SEQUENCE:
        start = config->opt_start_seq < state.first_seq ? state.first_seq : config->opt_start_seq;
        break;
    case RB_JS_DELIVER_BY_START_TIME:
        found = config->opt_start_time <= 0
                    ? rb_msgstore_next(store, 1)
                    : rb_msgstore_at_time(store, (uint64_t)config->opt_start_time);
        start = found == 0 ? state.last_seq + 1 : found;
        break;
    case RB_JS_DELIVER_LAST_PER_SUBJECT:
        if (consumer->stream->config->max_msgs_per_subject == 1) {
            break;
        }
        if (!list_lasts(consumer)) {
            return false;
        }
        in->next_seq = state.last_seq + 1;
        start = in->start_count > 0 ? in->starts[0] : state.last_seq > 0 ? state.last_seq : 1;
        break;
    default:
        break;
    }
    if (in->next_seq == 0) {
        in->next_seq = start;
    }
    in->replay_until = config->replay_policy == RB_JS_REPLAY_ORIGINAL ? state.last_seq : 0;
    consumer->delivered.stream_seq = consumer->ack_floor.stream_seq = start - 1;
    return true;
}

void rb_js_consumer_recount(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    if (in->opened) {
        in->pending = in->start_count - in->start_at +
                      rb_msgstore_count(consumer->stream->store, in->subjects, in->filter_count,
                                        in->next_seq);
    }
}

/* Commands */

void rb_js_consumer_tell_pause(struct rb_js_consumer *consumer)
{
    struct rb_out out;
    rb_out_init(&out, rb_js_consumer_js(consumer)->budget);
    rb_out_time(&out, consumer->config->pause_until);
    struct rb_slice until = rb_out_slice(&out);
    rb_js_consumer_advise(consumer, "ADVISORY.CONSUMER.PAUSE",
                          "io.nats.jetstream.advisory.v1.consumer_pause", "",
                          ",\"paused\":%s,\"pause_until\":%.*s",
                          consumer->inside->paused ? "true" : "false", RB_S_ARG(until));
    rb_out_deinit(&out);
}

static bool read_config(struct rb_slice json, struct rb_arena **ret_arena,
                        struct rb_js_consumer_config **ret_config)
{
    char error[RB_DOC_ERROR_MAX];
    struct rb_arena *arena;
    enum rb_err err = rb_arena_create(1024, &arena);
    rb_assert(err == RB_OK); /* what it would leave undone, a replay would do */
    struct rb_js_consumer_config *config = rb_arena_take(arena, sizeof(*config));
    if (config == NULL ||
        !rb_doc_read(arena, &rb_js_consumer_config_type, json, true, config, error)) {
        rb_arena_destroy(arena);
        return false;
    }
    *ret_arena = arena;
    *ret_config = config;
    return true;
}

static bool same_filters(const struct rb_js_consumer_config *a,
                         const struct rb_js_consumer_config *b)
{
    if (!rb_slice_equal(a->filter_subject, b->filter_subject) ||
        a->filter_subjects.count != b->filter_subjects.count) {
        return false;
    }
    for (uint32_t i = 0; i < a->filter_subjects.count; i++) {
        if (!rb_slice_equal(a->filter_subjects.items[i], b->filter_subjects.items[i])) {
            return false;
        }
    }
    return true;
}

/* Takes the arena on success. */
static bool update(struct rb_js_consumer *consumer, struct rb_arena *arena,
                   struct rb_js_consumer_config *config)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    bool filters_changed = !same_filters(consumer->config, config);
    bool moved = rb_js_consumer_is_push(consumer) &&
                 !rb_slice_equal(consumer->config->deliver_subject, config->deliver_subject);
    if (!rb_js_consumer_configure(consumer, arena, config)) {
        rb_js_consumer_give_up(consumer);
        return false;
    }
    if (filters_changed) {
        rb_js_consumer_recount(consumer);
        rb_js_stream_refiltered(consumer->stream, consumer);
    }
    rb_js_pending_reorder(&in->acks);
    in->full_ns = 0;
    if (in->opened) {
        if (moved) {
            rb_js_consumer_expire_all(consumer);
        }
        rb_js_consumer_take_config(consumer);
        rb_js_consumer_want(consumer, rb_js_consumer_js(consumer)->now_ns);
        rb_js_consumer_ready(consumer);
    }
    return true;
}

static struct rb_js_consumer *create(struct rb_js_stream *stream, const struct rb_command *command,
                                     struct rb_arena *arena, struct rb_js_consumer_config *config)
{
    struct rb_js_consumer *consumer = rb_js_consumer_make(stream, command->name, arena, config);
    if (consumer == NULL) {
        rb_js_stream_go_offline(stream, "memory was refused for a consumer");
        rb_arena_destroy(arena);
        return NULL;
    }
    consumer->id = ++stream->next_consumer_id;
    consumer->created_ns = command->time_ns;
    consumer->inside->restored = stream->replaying;
    if (!find_start(consumer)) {
        rb_js_consumer_give_up(consumer);
        rb_js_consumer_free(consumer);
        return NULL;
    }
    if (command->subject.len > 0 && !rb_js_consumer_take_state(consumer, command->subject)) {
        rb_js_consumer_free(consumer);
        return NULL;
    }
    if (!stream->replaying) {
        rb_js_consumer_opened(consumer);
        if (!config->direct) {
            rb_js_advise_consumer(consumer, "create");
        }
    }
    return consumer;
}

static void apply_consumer(struct rb_js_stream *stream, const struct rb_command *command,
                           struct rb_js_outcome *outcome)
{
    struct rb_arena *arena;
    struct rb_js_consumer_config *config;
    if (!read_config(command->text, &arena, &config)) {
        rb_js_error_set(&outcome->error, 10023, NULL);
        return;
    }
    struct rb_js_consumer *existing = rb_js_consumer_find(stream, command->name);
    enum rb_js_consumer_action action = (enum rb_js_consumer_action)command->value;
    if (!rb_js_consumer_may_create(stream, config, existing, action, &outcome->error)) {
        rb_arena_destroy(arena);
        return;
    }
    if (existing == NULL) {
        outcome->consumer = create(stream, command, arena, config);
        outcome->created = outcome->consumer != NULL;
    } else if (action == RB_JS_CONSUMER_CREATE || update(existing, arena, config)) {
        if (action == RB_JS_CONSUMER_CREATE) {
            rb_arena_destroy(arena);
        }
        outcome->consumer = existing;
    } else {
        rb_arena_destroy(arena);
    }
    if (outcome->consumer == NULL) {
        rb_js_error_set(&outcome->error, 10023, NULL);
    }
}

static void apply_delete(struct rb_js_consumer *consumer)
{
    struct rb_js_stream *stream = consumer->stream;
    if (!stream->replaying && !consumer->config->direct) {
        rb_js_advise_consumer(consumer, "delete");
    }
    rb_js_stream_released(stream, consumer);
    rb_js_consumer_close(consumer, RB_S(""));
}

static void apply_pause(struct rb_js_consumer *consumer, uint64_t until_ns)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    int64_t was = in->config->pause_until;
    rb_js_consumer_set_pause(in->config, until_ns == 0 ? RB_DOC_NO_TIME : (int64_t)until_ns);
    if (!in->opened) {
        return;
    }
    in->paused = until_ns > js->wall_ns;
    if (was != in->config->pause_until) {
        rb_js_consumer_tell_pause(consumer);
    }
    rb_js_consumer_want(consumer, js->now_ns);
    rb_js_consumer_ready(consumer);
}

static uint64_t apply_reset(struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    if (seq == 0) {
        seq = consumer->ack_floor.stream_seq + 1;
    }
    in->epoch++;
    rb_js_pending_clear(&in->acks);
    rb_js_record_clear(&in->deliveries, js->budget);
    if (in->batch != NULL) {
        rb_js_acks_free(in->batch);
        in->batch = NULL;
    }
    consumer->delivered = consumer->ack_floor =
        (struct rb_js_consumer_place){ .consumer_seq = 0, .stream_seq = seq - 1 };
    in->start_at = 0;
    while (in->start_at < in->start_count && in->starts[in->start_at] < seq) {
        in->start_at++;
    }
    if (in->start_at == in->start_count) {
        in->next_seq = seq;
    }
    in->hold_ns = in->acked_through = 0;
    in->replay_time_ns = 0;
    rb_js_consumer_recount(consumer);
    if (in->opened) {
        rb_js_consumer_ready(consumer);
    }
    return seq;
}

void rb_js_consumer_apply(struct rb_js_stream *stream, const struct rb_command *command,
                          struct rb_js_outcome *outcome)
{
    if (command->type == RB_COMMAND_CONSUMER) {
        apply_consumer(stream, command, outcome);
        return;
    }
    struct rb_js_consumer *consumer = rb_js_consumer_find(stream, command->name);
    if (consumer == NULL || command->value >> 32 != consumer->id) {
        rb_js_error_set(&outcome->error, 10014, NULL); /* gone meanwhile */
        return;
    }
    outcome->consumer = consumer;
    switch (command->type) {
    case RB_COMMAND_CONSUMER_DELETE:
        outcome->consumer = NULL;
        apply_delete(consumer);
        break;
    case RB_COMMAND_DELIVERED:
        rb_js_consumer_apply_delivered(consumer, command);
        break;
    case RB_COMMAND_ACKED:
        rb_js_consumer_apply_acked(consumer, command);
        break;
    case RB_COMMAND_PAUSE:
        apply_pause(consumer, command->time_ns);
        break;
    case RB_COMMAND_RESET:
        outcome->seq = apply_reset(consumer, command->seq);
        break;
    default:
        rb_unreachable("not a command of consumers");
    }
}

/* What the stream tells */

void rb_js_consumer_stored(struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    if (!in->opened || seq < in->next_seq) {
        return; /* counted by opened(), or before where it starts */
    }
    in->pending++;
    rb_msgstore_cursor_hint(in->cursor, seq);
    if (rb_js_consumer_could_run(consumer)) {
        rb_js_consumer_ready(consumer);
    }
}

/* Position of `seq` among the starts that are left; UINT32_MAX: not there. */
static uint32_t find_in_starts(const struct rb_js_consumer_inside *in, uint64_t seq)
{
    uint32_t low = in->start_at, high = in->start_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (in->starts[middle] < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < in->start_count && in->starts[low] == seq ? low : UINT32_MAX;
}

void rb_js_consumer_removed(struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    if (in->start_at < in->start_count) {
        uint32_t at = find_in_starts(in, seq);
        if (at != UINT32_MAX) {
            memmove(&in->starts[at], &in->starts[at + 1],
                    (in->start_count - at - 1) * sizeof(*in->starts));
            in->start_count--;
            in->pending -= in->pending > 0;
            return;
        }
    }
    if (seq >= in->next_seq) {
        in->pending -= in->pending > 0;
        return;
    }
    (void)rb_js_pending_unspend(&in->acks, seq);
    struct rb_js_pending_entry *entry = rb_js_pending_find(&in->acks, seq);
    if (entry != NULL) {
        rb_js_consumer_lost(consumer, entry);
    }
}

static void drop_missing(struct rb_js_consumer *consumer, uint64_t first_seq)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_msgstore *store = consumer->stream->store;
    struct rb_msgstore_entry there;
    bool dropped = false;
    struct rb_js_pending_entry *entry = rb_js_pending_first(&in->acks);
    while (entry != NULL) {
        struct rb_js_pending_entry *next = rb_js_pending_after(&in->acks, entry);
        if (entry->seq < first_seq || !rb_msgstore_find(store, entry->seq, &there)) {
            rb_js_pending_drop(&in->acks, entry);
            dropped = true;
        }
        entry = next;
    }
    if (dropped && in->opened) {
        consumer->ack_floor.last_ns = (int64_t)rb_js_consumer_js(consumer)->wall_ns;
    }
    for (uint32_t i = in->acks.spent_len; i > 0; i--) {
        if (!rb_msgstore_find(store, in->acks.spent[i - 1].seq, &there)) {
            (void)rb_js_pending_unspend(&in->acks, in->acks.spent[i - 1].seq);
        }
    }
    uint32_t kept = in->start_at;
    for (uint32_t i = in->start_at; i < in->start_count; i++) {
        if (rb_msgstore_find(store, in->starts[i], &there)) {
            in->starts[kept++] = in->starts[i];
        }
    }
    in->start_count = kept;
}

void rb_js_consumer_purged(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_msgstore_state state;
    rb_msgstore_state(consumer->stream->store, &state);
    drop_missing(consumer, state.first_seq);
    if (in->next_seq < state.first_seq) {
        in->next_seq = state.first_seq;
    }
    if (in->start_at == in->start_count && consumer->delivered.stream_seq + 1 < state.first_seq) {
        consumer->delivered.stream_seq = state.first_seq - 1;
    }
    if (consumer->ack_floor.stream_seq + 1 < state.first_seq) {
        consumer->ack_floor.stream_seq = state.first_seq - 1;
    }
    rb_js_consumer_move_floor(consumer, 0);
    rb_js_consumer_recount(consumer);
    if (in->opened) {
        rb_js_consumer_ready(consumer);
    }
}

bool rb_js_consumer_holds(const struct rb_js_consumer *consumer, uint64_t seq)
{
    const struct rb_js_pending *acks = &consumer->inside->acks;
    return rb_js_pending_find(acks, seq) != NULL || rb_js_pending_is_spent(acks, seq);
}

bool rb_js_consumer_needs(const struct rb_js_consumer *consumer, uint64_t seq)
{
    const struct rb_js_consumer_inside *in = consumer->inside;
    return seq >= in->next_seq ||
           (in->start_at < in->start_count && find_in_starts(in, seq) != UINT32_MAX) ||
           rb_js_consumer_holds(consumer, seq);
}

void rb_js_consumer_loaded(struct rb_js_consumer *consumer)
{
    rb_js_consumer_ready(consumer);
}
