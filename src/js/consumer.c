/* consumer.c - the life of a consumer: made by a command (consumer_apply.c), opened when the stream serves, its time, its end.
 *
 *   CONSUMER applied, or loaded --> [closed to clients] --opened()--> serves --CONSUMER_DELETE applied, close()--> gone
 *
 * 1. While the stream is replayed nothing is sent, counted or timed: opened() does it once.
 * 2. One timer: it is armed for the nearest due thing or earlier; when it fires, everything that is due is done and the next is
 *    found. Serving only ever moves it nearer, so a busy consumer does not touch the wheel.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/account.h"
#include "js/api.h"
#include "js/consumer_inside.h"
#include "ringbus/check.h"

#define SUBJECT_BYTES (2 * RB_JS_NAME_MAX + 300)

struct block {
    struct rb_js_consumer consumer;
    struct rb_js_consumer_inside inside;
    uint8_t name[];
};

struct rb_js_consumer *rb_js_consumer_find(struct rb_js_stream *stream, struct rb_slice name)
{
    return rb_map_find(&stream->consumer_map, rb_slice_hash(name), name);
}

void rb_js_consumer_ready(struct rb_js_consumer *consumer)
{
    if (consumer->inside->running) {
        consumer->inside->again = true;
    } else if (rb_list_empty(&consumer->link)) {
        rb_list_append(&rb_js_consumer_js(consumer)->ready, &consumer->link);
    }
}

void rb_js_consumer_want(struct rb_js_consumer *consumer, uint64_t due_ns)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    if (due_ns != UINT64_MAX && in->opened &&
        (in->alarm.timer.due_ns == 0 || due_ns < in->alarm.timer.due_ns)) {
        rb_wheel_arm(&rb_js_consumer_js(consumer)->wheel, &in->alarm.timer, due_ns);
    }
}

void rb_js_consumer_advise(struct rb_js_consumer *consumer, const char *kind, const char *type,
                           const char *head_members, const char *format, ...)
{
    const struct rb_js_stream *stream = consumer->stream;
    if (stream->replaying) {
        return;
    }
    char subject[SUBJECT_BYTES], members[2 * RB_JS_NAME_MAX + 1024];
    int subject_len = snprintf(subject, sizeof(subject), "$JS.EVENT.%s.%.*s.%.*s", kind,
                               RB_S_ARG(stream->name), RB_S_ARG(consumer->name));
    rb_assert(subject_len > 0 && (size_t)subject_len < sizeof(subject));
    if (!rb_account_wanted(stream->account->account, rb_slice_of(subject, (size_t)subject_len))) {
        return;
    }
    int head = snprintf(members, sizeof(members), "%s\"stream\":\"%.*s\",\"consumer\":\"%.*s\"",
                        head_members, RB_S_ARG(stream->name), RB_S_ARG(consumer->name));
    va_list args;
    va_start(args, format);
    int tail = vsnprintf(members + head, sizeof(members) - (size_t)head, format, args);
    va_end(args);
    rb_assert(tail >= 0 && (size_t)(head + tail) < sizeof(members));
    rb_js_advise(stream->account, rb_slice_of(subject, (size_t)subject_len), rb_slice_text(type),
                 rb_slice_of(members, (size_t)(head + tail)));
}

/* Making and freeing */

static const struct rb_slice everything = { (const uint8_t *)">", 1 };

static void drop_filters(struct rb_js_stream *stream, struct rb_js_filter *filters, uint32_t count,
                         uint32_t slots)
{
    struct rb_interest_change change;
    for (uint32_t i = 0; i < count; i++) {
        rb_sublist_remove(stream->filters, &filters[i].ref, &change);
    }
    rb_free(stream->account->js->budget, filters, slots * sizeof(*filters));
}

static struct rb_js_filter *add_filters(struct rb_js_consumer *consumer,
                                        const struct rb_slice *subjects, uint32_t count)
{
    struct rb_js_stream *stream = consumer->stream;
    struct rb_js_filter *filters =
        rb_alloc(rb_js_consumer_js(consumer)->budget, count * sizeof(*filters));
    struct rb_interest_change change;
    for (uint32_t i = 0; filters != NULL && i < count; i++) {
        filters[i].consumer = consumer;
        if (rb_sublist_add(stream->filters, subjects[i], RB_S(""), &filters[i].ref, &change) !=
            RB_OK) {
            drop_filters(stream, filters, i, count);
            return NULL;
        }
    }
    return filters;
}

bool rb_js_consumer_configure(struct rb_js_consumer *consumer, struct rb_arena *arena,
                              struct rb_js_consumer_config *config)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    uint32_t count = config->filter_subjects.count;
    const struct rb_slice *subjects = config->filter_subjects.items;
    if (count == 0 && config->filter_subject.len > 0) {
        subjects = &config->filter_subject;
        count = 1;
    } else if (count == 0) {
        subjects = &everything;
    }
    uint32_t slots = count == 0 ? 1 : count;
    struct rb_js_filter *filters = add_filters(consumer, subjects, slots);
    if (filters == NULL) {
        return false;
    }
    struct rb_msgstore_cursor *cursor;
    if (rb_msgstore_cursor_create(consumer->stream->store, subjects, count, &cursor) != RB_OK) {
        drop_filters(consumer->stream, filters, slots, slots);
        return false;
    }
    if (in->filters != NULL) {
        drop_filters(consumer->stream, in->filters, in->filter_slots, in->filter_slots);
    }
    if (in->cursor != NULL) {
        rb_msgstore_cursor_destroy(in->cursor);
    }
    rb_js_consumer_unwatch(consumer);
    rb_arena_destroy(consumer->config_arena);
    in->filters = filters;
    in->filter_slots = slots;
    in->filter_count = count;
    in->subjects = subjects;
    in->cursor = cursor;
    in->config = config;
    consumer->config = config;
    consumer->config_arena = arena;
    return true;
}

/* Order of names; the shorter one first. */
static bool comes_before(const struct rb_list *a, const struct rb_list *b)
{
    struct rb_slice left = RB_CONTAINER(a, struct rb_js_consumer, of_stream)->name,
                    right = RB_CONTAINER(b, struct rb_js_consumer, of_stream)->name;
    int order = memcmp(left.ptr, right.ptr, left.len < right.len ? left.len : right.len);
    return order < 0 || (order == 0 && left.len < right.len);
}

static void link_to_stream(struct rb_js_stream *stream, struct rb_js_consumer *consumer)
{
    if (!rb_list_empty(&stream->consumers) &&
        comes_before(&consumer->of_stream, stream->consumers.prev)) {
        stream->consumers_mixed = true;
    }
    rb_list_append(&stream->consumers, &consumer->of_stream);
}

/* Of lists linked forwards only. */
static struct rb_list *merge(struct rb_list *a, struct rb_list *b)
{
    struct rb_list head, *tail = &head;
    while (a != NULL && b != NULL) {
        struct rb_list **least = comes_before(b, a) ? &b : &a;
        tail->next = *least;
        tail = *least;
        *least = (*least)->next;
    }
    tail->next = a != NULL ? a : b;
    return head.next;
}

/* Merging from below: sorted[i] has 2^i of them, or is empty. */
void rb_js_consumers_sort(struct rb_js_stream *stream)
{
    struct rb_list *sorted[32] = { NULL }, *all = NULL;
    if (!stream->consumers_mixed) {
        return;
    }
    for (struct rb_list *link; (link = rb_list_pop(&stream->consumers)) != NULL;) {
        uint32_t i = 0;
        link->next = NULL;
        for (; sorted[i] != NULL; i++) {
            link = merge(sorted[i], link);
            sorted[i] = NULL;
        }
        sorted[i] = link;
    }
    for (uint32_t i = 0; i < 32; i++) {
        all = merge(sorted[i], all);
    }
    while (all != NULL) {
        struct rb_list *link = all;
        all = all->next;
        rb_list_init(link);
        rb_list_append(&stream->consumers, link);
    }
    stream->consumers_mixed = false;
}

static void count_consumer(struct rb_js_consumer *consumer, int32_t by)
{
    struct rb_js_stream *stream = consumer->stream;
    if (!consumer->config->direct) {
        stream->consumer_count += (uint32_t)by;
        stream->account->consumer_count += (uint32_t)by;
        atomic_fetch_add_explicit(&rb_js_consumer_js(consumer)->shared->consumers, by,
                                  memory_order_relaxed);
    }
}

static void free_block(struct rb_js *js, struct rb_js_consumer *consumer)
{
    rb_free(js->budget, consumer, sizeof(struct block) + consumer->name.len);
}

struct rb_js_consumer *rb_js_consumer_make(struct rb_js_stream *stream, struct rb_slice name,
                                           struct rb_arena *arena,
                                           struct rb_js_consumer_config *config)
{
    struct rb_js *js = stream->account->js;
    struct block *block = rb_alloc(js->budget, sizeof(*block) + name.len);
    if (block == NULL) {
        return NULL;
    }
    struct rb_js_consumer *consumer = &block->consumer;
    struct rb_js_consumer_inside *in = &block->inside;
    memcpy(block->name, name.ptr, name.len);
    consumer->name = rb_slice_of(block->name, name.len);
    consumer->stream = stream;
    consumer->inside = in;
    rb_list_init(&consumer->link);
    rb_list_init(&consumer->of_stream);
    in->consumer = consumer;
    rb_list_init(&in->of_watch);
    in->alarm.owner = consumer;
    rb_timer_init(&in->alarm.timer, RB_JS_TIMER_CONSUMER);
    in->wait = (struct rb_msgstore_wait){ .owner = consumer, .tag = RB_JS_WAIT_CONSUMER };
    rb_list_init(&in->requests);
    rb_js_pending_init(&in->acks, js->budget);
    if (!rb_js_consumer_configure(consumer, arena, config)) {
        free_block(js, consumer);
        return NULL;
    }
    if (rb_map_insert(&stream->consumer_map, rb_slice_hash(name), consumer) != RB_OK) {
        drop_filters(stream, in->filters, in->filter_slots, in->filter_slots);
        rb_msgstore_cursor_destroy(in->cursor);
        free_block(js, consumer);
        return NULL;
    }
    link_to_stream(stream, consumer);
    count_consumer(consumer, 1);
    return consumer;
}

static void unlisten(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_account *account = consumer->stream->account->account;
    if (in->next.take != NULL) {
        rb_account_unlisten(account, &in->next);
        in->next.take = NULL;
    }
    if (in->next_domain != NULL) {
        rb_account_unlisten(account, in->next_domain);
        rb_free(rb_js_consumer_js(consumer)->budget, in->next_domain, sizeof(*in->next_domain));
        in->next_domain = NULL;
    }
}

void rb_js_consumer_free(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js_stream *stream = consumer->stream;
    struct rb_js *js = rb_js_consumer_js(consumer);
    rb_assert(!in->running && rb_list_empty(&in->requests));
    unlisten(consumer);
    rb_js_consumer_unwatch(consumer);
    rb_wheel_disarm(&js->wheel, &in->alarm.timer);
    rb_msgstore_forget(&in->wait);
    rb_list_remove(&consumer->link);
    rb_list_remove(&consumer->of_stream);
    (void)rb_map_remove(&stream->consumer_map, rb_slice_hash(consumer->name), consumer);
    count_consumer(consumer, -1);
    drop_filters(stream, in->filters, in->filter_slots, in->filter_slots);
    rb_msgstore_cursor_destroy(in->cursor);
    rb_js_pending_deinit(&in->acks);
    rb_js_record_deinit(&in->deliveries, js->budget);
    if (in->batch != NULL) {
        rb_js_acks_free(in->batch);
    }
    rb_free(js->budget, in->starts, in->start_cap * sizeof(*in->starts));
    rb_free(js->budget, in->flow, in->flow == NULL ? 0 : sizeof(*in->flow));
    rb_free(js->budget, in->pin, in->pin == NULL ? 0 : sizeof(*in->pin));
    rb_arena_destroy(consumer->config_arena);
    free_block(js, consumer);
}

void rb_js_consumer_close(struct rb_js_consumer *consumer, struct rb_slice line)
{
    rb_js_consumer_end_requests(consumer, line.len > 0 ? line : RB_S("409 Consumer Deleted"));
    rb_js_consumer_free(consumer);
}

/* Opened: clients may come */

static enum rb_err listen_next(struct rb_js_consumer *consumer, struct rb_special *special,
                               struct rb_slice domain)
{
    const struct rb_js_stream *stream = consumer->stream;
    char subject[SUBJECT_BYTES + RB_JS_NAME_MAX];
    int len = snprintf(subject, sizeof(subject), "$JS.%.*s%sAPI.CONSUMER.MSG.NEXT.%.*s.%.*s",
                       RB_S_ARG(domain), domain.len > 0 ? "." : "", RB_S_ARG(stream->name),
                       RB_S_ARG(consumer->name));
    if (len < 0 || (size_t)len >= sizeof(subject)) {
        return RB_ERR_INVALID;
    }
    special->take = rb_js_consumer_take_next;
    special->ctx = consumer;
    enum rb_err err =
        rb_account_listen(stream->account->account, rb_slice_of(subject, (size_t)len), special);
    if (err != RB_OK) {
        special->take = NULL;
    }
    return err;
}

static void listen_all(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    enum rb_err err = listen_next(consumer, &in->next, RB_S(""));
    if (err == RB_OK && js->settings->domain.len > 0) {
        in->next_domain = rb_alloc(js->budget, sizeof(*in->next_domain));
        err = in->next_domain == NULL
                  ? RB_ERR_MEMORY
                  : listen_next(consumer, in->next_domain, js->settings->domain);
        if (err != RB_OK) {
            rb_free(js->budget, in->next_domain, sizeof(*in->next_domain));
            in->next_domain = NULL;
        }
    }
    if (err != RB_OK) {
        rb_log_err(js->text_log,
                   "jetstream: a consumer cannot be asked for messages stream=%.*s consumer=%.*s "
                   "reason=\"%s\"",
                   RB_S_ARG(consumer->stream->name), RB_S_ARG(consumer->name), rb_err_text(err));
    }
}

/* The stream may have lost messages that were delivered: then it goes on at its end. Clocks may have gone back. */
static void mend(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    uint64_t wall_ns = rb_js_consumer_js(consumer)->wall_ns;
    struct rb_msgstore_state state;
    rb_msgstore_state(consumer->stream->store, &state);
    if (consumer->delivered.consumer_seq > 0 && in->next_seq > state.last_seq + 1) {
        in->next_seq = state.last_seq + 1;
        if (consumer->delivered.stream_seq > state.last_seq) {
            consumer->delivered.stream_seq = state.last_seq;
        }
        if (consumer->ack_floor.stream_seq > state.last_seq) {
            consumer->ack_floor.stream_seq = state.last_seq;
        }
    }
    struct rb_js_pending_entry *entry = rb_js_pending_first(&in->acks);
    while (entry != NULL) {
        struct rb_js_pending_entry *next = rb_js_pending_after(&in->acks, entry);
        struct rb_msgstore_entry there;
        entry->time_ns = entry->time_ns > wall_ns ? wall_ns : entry->time_ns;
        if (!rb_msgstore_find(consumer->stream->store, entry->seq, &there)) {
            rb_js_pending_drop(&in->acks, entry);
        }
        entry = next;
    }
    rb_js_pending_reorder(&in->acks);
}

static bool propose_end(struct rb_js_consumer *consumer)
{
    struct rb_command command = rb_js_consumer_command(consumer, RB_COMMAND_CONSUMER_DELETE);
    enum rb_err err = rb_js_stream_propose(consumer->stream, &command, NULL);
    if (err == RB_OK) {
        consumer->inside->doomed = true;
    }
    return err == RB_OK;
}

void rb_js_consumer_take_config(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    const struct rb_js_consumer_config *config = consumer->config;
    in->paused =
        config->pause_until != RB_DOC_NO_TIME && config->pause_until > (int64_t)js->wall_ns;
    if (config->flow_control && in->flow == NULL) {
        in->flow =
            rb_alloc(js->budget, sizeof(*in->flow)); /* without it there is no flow control */
    }
    rb_js_consumer_look_for_interest(consumer);
}

void rb_js_consumer_opened(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    rb_assert(!in->opened);
    in->opened = true;
    in->active_ns = in->sent_ns = js->now_ns;
    if (in->restored) {
        mend(consumer);
    }
    if (in->restored && consumer->config->mem_storage && propose_end(consumer)) {
        return; /* what it knew is gone with the life of the server that it was made in */
    }
    rb_js_consumer_recount(consumer);
    listen_all(consumer);
    rb_js_consumer_take_config(consumer);
    rb_js_consumer_want(consumer, js->now_ns);
    rb_js_consumer_ready(consumer);
}

/* Time */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t pause_due(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    if (!in->paused) {
        return UINT64_MAX;
    }
    uint64_t until_ns = (uint64_t)consumer->config->pause_until;
    if (until_ns > js->wall_ns) {
        return js->now_ns + (until_ns - js->wall_ns);
    }
    in->paused = false;
    rb_js_consumer_tell_pause(consumer);
    rb_js_consumer_ready(consumer);
    return UINT64_MAX;
}

/* Nobody used it for inactive_threshold: it goes. */
static uint64_t inactive_due(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    uint64_t threshold_ns = (uint64_t)consumer->config->inactive_threshold,
             since_ns = in->active_ns;
    if (threshold_ns == 0 || in->doomed || (rb_js_consumer_is_push(consumer) && in->active)) {
        return UINT64_MAX;
    }
    if (in->waiting > 0) {
        rb_js_consumer_prune(consumer);
        if (in->waiting > 0) {
            return js->now_ns + threshold_ns;
        }
    }
    if (in->acks.live > 0 && !rb_js_consumer_is_push(consumer)) {
        uint64_t age_ns = js->wall_ns - earlier(js->wall_ns, (uint64_t)consumer->delivered.last_ns);
        uint64_t wait_ns = rb_js_pending_wait_ns(consumer->config, UINT32_MAX);
        uint64_t waited_ns = js->now_ns - earlier(js->now_ns, age_ns) + wait_ns;
        since_ns = waited_ns > since_ns ? waited_ns : since_ns;
    }
    if (js->now_ns < since_ns + threshold_ns) {
        return since_ns + threshold_ns;
    }
    return propose_end(consumer) ? UINT64_MAX : js->now_ns + RB_JS_SECOND_NS;
}

static uint64_t place_due(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    if (in->place_due_ns == 0) {
        return UINT64_MAX;
    }
    if (js->now_ns >= in->place_due_ns) {
        in->place_due_ns = rb_js_consumer_log_place(consumer) ? 0 : js->now_ns + RB_JS_SECOND_NS;
    }
    return in->place_due_ns == 0 ? UINT64_MAX : in->place_due_ns;
}

static uint64_t held_due(struct rb_js_consumer *consumer, uint64_t *due_ns)
{
    if (*due_ns == 0) {
        return UINT64_MAX;
    }
    if (*due_ns > rb_js_consumer_js(consumer)->now_ns) {
        return *due_ns;
    }
    *due_ns = 0;
    rb_js_consumer_ready(consumer);
    return UINT64_MAX;
}

void rb_js_consumer_timer(struct rb_js_consumer *consumer, struct rb_timer *timer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    rb_assert(timer == &in->alarm.timer && in->opened && !in->running);
    in->running = true; /* what is sent may come back: it only notes then (consumer_inside.h, 4) */
    in->again = false;
    uint64_t due_ns = pause_due(consumer);
    due_ns = earlier(due_ns, rb_js_consumer_overdue(consumer));
    due_ns = earlier(due_ns, rb_js_consumer_pin_due(consumer));
    due_ns =
        earlier(due_ns, rb_js_consumer_is_push(consumer) ? rb_js_consumer_beat_due(consumer)
                                                         : rb_js_consumer_requests_due(consumer));
    due_ns = earlier(due_ns, held_due(consumer, &in->hold_ns));
    due_ns = earlier(due_ns, held_due(consumer, &in->retry_ns));
    due_ns = earlier(due_ns, place_due(consumer));
    in->running = false;
    if (in->again) {
        rb_js_consumer_ready(consumer);
    }
    due_ns = earlier(due_ns, inactive_due(consumer));
    rb_js_consumer_want(consumer, due_ns);
}
