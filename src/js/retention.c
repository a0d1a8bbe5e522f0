/* retention.c - what leaves a stream: limits, lifetimes, acks; and what its consumers are told of it.
 *
 * 1. While the store is called it must not be called again: rb_js_removed() only notes who is to be told, rb_js_stream_settle()
 *    tells when the command is done.
 * 2. Consumers are told of single messages while they are few; of many with one "look anew".
 */
#include <stdio.h>
#include <string.h>

#include "js/consumer.h"
#include "js/duration.h"
#include "js/stream_inside.h"
#include "ringbus/check.h"

#define GONE_FIRST 64u
#define GONE_MAX 4096u
#define EXPIRE_MAX 4096u /* removed by one command, so that a turn stays short */
#define FULL_MAX 2048u   /* subjects found in one walk */
#define REARM_NS UINT64_C(250000000)
#define WINDOW_SLACK_NS UINT64_C(10000000000)

static struct rb_js_filter *filter_of(struct rb_sub_ref *ref)
{
    return RB_CONTAINER(ref, struct rb_js_filter, ref);
}

/* ---- who is told ---- */

static void note_gone(struct rb_js_stream *stream, struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_stream_inside *inside = stream->inside;
    if (inside->gone_count == inside->gone_cap) {
        uint32_t cap = inside->gone_cap == 0 ? GONE_FIRST : 2 * inside->gone_cap;
        struct rb_js_gone *gone =
            cap > GONE_MAX ? NULL
                           : rb_realloc(stream->account->js->budget, inside->gone,
                                        inside->gone_cap * sizeof(*gone), cap * sizeof(*gone));
        if (gone == NULL) {
            inside->gone_all = true;
            return;
        }
        inside->gone = gone;
        inside->gone_cap = cap;
    }
    inside->gone[inside->gone_count++] = (struct rb_js_gone){ consumer, seq };
}

void rb_js_removed(void *owner, uint64_t seq, uint64_t bytes, struct rb_slice subject)
{
    struct rb_js_stream *stream = ((struct rb_js_store_owner *)owner)->stream;
    if (stream == NULL) {
        return;
    }
    struct rb_js_stream_inside *inside = stream->inside;
    if (inside->gone_all || rb_list_empty(&stream->consumers)) {
        return;
    }
    const struct rb_match *match = rb_sublist_match(stream->filters, subject);
    for (uint32_t i = 0; i < match->plain_count && !inside->gone_all; i++) {
        struct rb_js_consumer *consumer = filter_of(match->plain[i])->consumer;
        if (consumer != inside->acking) {
            note_gone(stream, consumer, seq);
        }
    }
}

void rb_js_stream_purged(struct rb_js_stream *stream)
{
    stream->inside->gone_all = true;
}

static void count_as(struct rb_js_stream *stream, uint64_t bytes, uint64_t messages)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_js_account *account = stream->account;
    struct rb_js_shared *shared = account->js->shared;
    int64_t more = (int64_t)(bytes - inside->counted_bytes);
    if (more != 0) {
        bool memory = stream->config->storage == RB_JS_MEMORY;
        *(memory ? &account->memory : &account->storage) += more;
        atomic_fetch_add_explicit(memory ? &shared->memory : &shared->storage, more,
                                  memory_order_relaxed);
        inside->counted_bytes = bytes;
    }
    if (messages != inside->counted_messages) {
        atomic_fetch_add_explicit(&shared->messages, (int64_t)(messages - inside->counted_messages),
                                  memory_order_relaxed);
        inside->counted_messages = messages;
    }
}

/* What the store holds now counts for account and server. */
static void count(struct rb_js_stream *stream)
{
    struct rb_msgstore_state state;
    rb_msgstore_state(stream->store, &state);
    count_as(stream, state.bytes, state.messages);
}

void rb_js_stream_uncount(struct rb_js_stream *stream)
{
    count_as(stream, 0, 0);
}

void rb_js_stream_settle(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    if (stream->store == NULL) {
        return;
    }
    bool consumers = !rb_list_empty(&stream->consumers);
    if (consumers != inside->wants_subjects) {
        inside->wants_subjects = consumers;
        rb_msgstore_want_subjects(stream->store, consumers);
    }
    while (inside->gone_all || inside->gone_count > 0) {
        if (inside->gone_all) {
            inside->gone_all = false;
            inside->gone_count = 0;
            rb_js_expiry_sweep(&inside->expiry, stream->store);
            for (struct rb_list *link = stream->consumers.next, *next; link != &stream->consumers;
                 link = next) {
                next = link->next;
                rb_js_consumer_purged(RB_CONTAINER(link, struct rb_js_consumer, of_stream));
            }
            continue;
        }
        struct rb_js_gone gone = inside->gone[--inside->gone_count];
        rb_js_consumer_removed(gone.consumer, gone.seq);
    }
    count(stream);
}

void rb_js_stream_announce(struct rb_js_stream *stream, struct rb_slice subject, uint64_t seq)
{
    if (rb_list_empty(&stream->consumers)) {
        return;
    }
    const struct rb_match *match = rb_sublist_match(stream->filters, subject);
    for (uint32_t i = 0; i < match->plain_count; i++) {
        rb_js_consumer_stored(filter_of(match->plain[i])->consumer, seq);
    }
}

bool rb_js_stream_wanted(struct rb_js_stream *stream, struct rb_slice subject)
{
    return rb_sublist_match(stream->filters, subject)->plain_count > 0;
}

/* ---- limits ---- */

static void remove_message(struct rb_js_stream *stream, uint64_t seq)
{
    bool removed = rb_msgstore_remove(stream->store, seq, false);
    rb_assert(removed);
}

static void limit_subject(struct rb_js_stream *stream, struct rb_slice subject)
{
    struct rb_msgstore_subject info;
    uint64_t most = (uint64_t)stream->config->max_msgs_per_subject;
    while (rb_msgstore_subject(stream->store, subject, &info) && info.count > most) {
        remove_message(stream, info.first_seq);
    }
}

/* Some subjects with too many messages, copied to `arena`; their number. */
static uint32_t find_full(struct rb_js_stream *stream, struct rb_arena *arena,
                          struct rb_slice out[FULL_MAX])
{
    struct rb_msgstore_subjects at;
    struct rb_msgstore_subject info;
    uint32_t found = 0;
    memset(&at, 0, sizeof(at));
    while (found < FULL_MAX &&
           rb_msgstore_next_subject(stream->store, rb_slice_of(NULL, 0), &at, &info)) {
        if (info.count > (uint64_t)stream->config->max_msgs_per_subject) {
            uint8_t *copy = rb_arena_take(arena, info.subject.len);
            rb_assert(copy != NULL); /* what it would leave undone, a replay would do */
            memcpy(copy, info.subject.ptr, info.subject.len);
            out[found++] = rb_slice_of(copy, info.subject.len);
        }
    }
    return found;
}

static void limit_subjects(struct rb_js_stream *stream)
{
    struct rb_slice full[FULL_MAX];
    uint32_t found = FULL_MAX;
    while (found == FULL_MAX) {
        struct rb_arena *arena;
        enum rb_err err = rb_arena_create(16384, &arena);
        rb_assert(err == RB_OK);
        found = find_full(stream, arena, full);
        for (uint32_t i = 0; i < found; i++) {
            limit_subject(stream, full[i]);
        }
        rb_arena_destroy(arena);
    }
}

void rb_js_stream_limit(struct rb_js_stream *stream, struct rb_slice subject)
{
    const struct rb_js_stream_config *config = stream->config;
    struct rb_msgstore_state state;
    if (config->max_msgs_per_subject > 0) {
        if (subject.len > 0) {
            limit_subject(stream, subject);
        } else {
            limit_subjects(stream);
        }
    }
    if (config->max_msgs <= 0 && config->max_bytes <= 0) {
        return;
    }
    for (;;) {
        rb_msgstore_state(stream->store, &state);
        bool many = config->max_msgs > 0 && state.messages > (uint64_t)config->max_msgs;
        bool big = config->max_bytes > 0 && state.bytes > (uint64_t)config->max_bytes;
        if ((!many && !big) || state.messages == 0) {
            return;
        }
        remove_message(stream, state.first_seq);
    }
}

/* ---- lifetimes ---- */

static void expire_one(struct rb_js_stream *stream, uint64_t seq, uint64_t now_ns)
{
    struct rb_msgstore_subject info;
    uint8_t bytes[RB_MSGSTORE_SUBJECT_MAX];
    struct rb_slice subject = rb_slice_of(NULL, 0);
    bool mark = stream->config->subject_delete_marker_ttl > 0 &&
                !rb_js_expiry_is_quiet(&stream->inside->expiry, seq);
    if (mark) {
        subject = rb_msgstore_subject_of(stream->store, seq, bytes);
    }
    remove_message(stream, seq);
    if (mark && !rb_msgstore_subject(stream->store, subject, &info)) {
        rb_js_publish_marker(stream, subject, now_ns);
    }
}

void rb_js_stream_expire(struct rb_js_stream *stream, uint64_t now_ns)
{
    for (uint32_t i = 0; i < EXPIRE_MAX; i++) {
        uint64_t seq = rb_js_expiry_next(&stream->inside->expiry, stream->store, now_ns,
                                         (uint64_t)stream->config->max_age);
        if (seq == 0) {
            return;
        }
        expire_one(stream, seq, now_ns);
    }
}

static void expired(struct rb_js_waiter *waiter, enum rb_err err, const void *outcome)
{
    struct rb_js_stream_inside *inside =
        RB_CONTAINER(waiter, struct rb_js_stream_inside, expire_waiter);
    inside->expiring = false;
    if (inside->stream->phase == RB_JS_STREAM_SERVING) {
        rb_js_stream_arm(inside->stream);
    }
}

static uint64_t due_ns(struct rb_js_stream *stream)
{
    return rb_js_expiry_due(&stream->inside->expiry, stream->store,
                            (uint64_t)stream->config->max_age);
}

static void propose_expire(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_command command = { .type = RB_COMMAND_EXPIRE,
                                  .time_ns = stream->account->js->wall_ns };
    inside->expire_waiter.done = expired;
    inside->expiring = rb_js_stream_propose(stream, &command, &inside->expire_waiter) == RB_OK;
}

void rb_js_stream_arm(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_js *js = stream->account->js;
    if (stream->store == NULL || js->closing) {
        return;
    }
    uint64_t due = inside->expiring ? UINT64_MAX : due_ns(stream);
    uint64_t oldest = rb_js_dedup_oldest(&inside->dedup);
    if (oldest != UINT64_MAX) {
        uint64_t forget = oldest + (uint64_t)stream->config->duplicate_window + WINDOW_SLACK_NS;
        due = forget < due ? forget : due;
    }
    uint64_t at = UINT64_MAX;
    if (due != UINT64_MAX) { /* wall time to the wheel's; no more often than nats-server looks */
        at = js->now_ns + (due > js->wall_ns ? due - js->wall_ns : 0);
        at = at < inside->fired_ns + REARM_NS ? inside->fired_ns + REARM_NS : at;
    }
    uint64_t batches = rb_js_batches_due(stream);
    at = batches < at ? batches : at;
    uint64_t fast = rb_js_fast_due(stream);
    at = fast < at ? fast : at;
    if (at == UINT64_MAX) {
        rb_wheel_disarm(&js->wheel, &inside->alarm.timer);
    } else if (inside->alarm.timer.due_ns != at) {
        rb_wheel_arm(&js->wheel, &inside->alarm.timer, at);
    }
}

void rb_js_stream_timer(struct rb_js_stream *stream, struct rb_timer *timer)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_js *js = stream->account->js;
    if (stream->phase != RB_JS_STREAM_SERVING || stream->store == NULL || js->closing) {
        return;
    }
    inside->fired_ns = js->now_ns;
    uint64_t window = (uint64_t)stream->config->duplicate_window;
    if (stream->group.pending_count == 0 && js->wall_ns > window + WINDOW_SLACK_NS) {
        rb_js_dedup_forget(&inside->dedup, js->wall_ns - window - WINDOW_SLACK_NS);
    }
    if (!inside->expiring && due_ns(stream) <= js->wall_ns) {
        propose_expire(stream);
    }
    rb_js_stream_arm(stream);
}

/* ---- interest and work queues ---- */

/* Does anybody but `except` still need it? */
static bool needed(struct rb_js_stream *stream, uint64_t seq, struct rb_slice subject,
                   const struct rb_js_consumer *except)
{
    const struct rb_match *match = rb_sublist_match(stream->filters, subject);
    for (uint32_t i = 0; i < match->plain_count; i++) {
        const struct rb_js_consumer *consumer = filter_of(match->plain[i])->consumer;
        if (consumer != except && rb_js_consumer_needs(consumer, seq)) {
            return true;
        }
    }
    return false;
}

static bool matches(struct rb_js_stream *stream, struct rb_slice subject,
                    const struct rb_js_consumer *consumer)
{
    const struct rb_match *match = rb_sublist_match(stream->filters, subject);
    for (uint32_t i = 0; i < match->plain_count; i++) {
        if (filter_of(match->plain[i])->consumer == consumer) {
            return true;
        }
    }
    return false;
}

void rb_js_stream_acked(struct rb_js_stream *stream, struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rb_js_stream_inside *inside = stream->inside;
    uint8_t bytes[RB_MSGSTORE_SUBJECT_MAX];
    if (stream->config->retention == RB_JS_LIMITS) {
        return;
    }
    struct rb_slice subject = rb_msgstore_subject_of(stream->store, seq, bytes);
    if (subject.len == 0 ||
        (stream->config->retention == RB_JS_INTEREST && needed(stream, seq, subject, consumer))) {
        return;
    }
    inside->acking = consumer;
    (void)rb_msgstore_remove(stream->store, seq, false);
    inside->acking = NULL;
}

void rb_js_stream_released(struct rb_js_stream *stream, struct rb_js_consumer *consumer)
{
    struct rb_js_stream_inside *inside = stream->inside;
    uint8_t bytes[RB_MSGSTORE_SUBJECT_MAX];
    if (stream->config->retention != RB_JS_INTEREST) {
        return;
    }
    inside->acking = consumer;
    for (uint64_t seq = rb_msgstore_next(stream->store, 1); seq != 0;
         seq = rb_msgstore_next(stream->store, seq + 1)) {
        struct rb_slice subject = rb_msgstore_subject_of(stream->store, seq, bytes);
        if (matches(stream, subject, consumer) && !needed(stream, seq, subject, consumer)) {
            (void)rb_msgstore_remove(stream->store, seq, false);
        }
    }
    inside->acking = NULL;
}

void rb_js_stream_refiltered(struct rb_js_stream *stream, struct rb_js_consumer *consumer)
{
    uint8_t bytes[RB_MSGSTORE_SUBJECT_MAX];
    if (stream->config->retention != RB_JS_INTEREST) {
        return;
    }
    for (uint64_t seq = rb_msgstore_next(stream->store, 1); seq != 0;
         seq = rb_msgstore_next(stream->store, seq + 1)) {
        struct rb_slice subject = rb_msgstore_subject_of(stream->store, seq, bytes);
        if (!needed(stream, seq, subject, NULL) && !rb_js_consumer_holds(consumer, seq)) {
            (void)rb_msgstore_remove(stream->store, seq, false);
        }
    }
}

void rb_js_stream_reconsider(struct rb_js_stream *stream)
{
    uint8_t bytes[RB_MSGSTORE_SUBJECT_MAX];
    if (stream->config->retention != RB_JS_INTEREST) {
        return;
    }
    for (uint64_t seq = rb_msgstore_next(stream->store, 1); seq != 0;
         seq = rb_msgstore_next(stream->store, seq + 1)) {
        struct rb_slice subject = rb_msgstore_subject_of(stream->store, seq, bytes);
        if (!needed(stream, seq, subject, NULL)) {
            (void)rb_msgstore_remove(stream->store, seq, false);
        }
    }
}
