/* consumer_push.c - push consumers: who listens, how much may be on the way, signs of life (jetstream.md 19).
 *
 *   sent:  |--- confirmed ---|--- asked: a request with this many bytes is outstanding ---|--- since then ---|
 *
 * A window begins small and doubles with each confirmation. Only the latest request is honoured.
 */
#include <stdio.h>
#include <string.h>

#include "core/account.h"
#include "js/consumer_inside.h"
#include "proto/header.h"
#include "ringbus/check.h"

#define WINDOW_MAX (32u << 20)
#define WINDOW_MIN (WINDOW_MAX / 16)
#define SUBJECT_BYTES (2 * RB_JS_NAME_MAX + 32)

/* A wildcard that happens to match is no interest: who looks at everything does not set consumers going. */
static bool somebody_listens(const struct rb_js_consumer *consumer)
{
    const struct rb_account *account = consumer->stream->account->account;
    const struct rb_js_consumer_config *config = consumer->config;
    return account->sublist != NULL &&
           rb_sublist_has(account->sublist, config->deliver_subject, config->deliver_group);
}

static void restart_flow(struct rb_js_consumer *consumer)
{
    struct rb_js_flow *flow = consumer->inside->flow;
    if (flow != NULL) {
        *flow = (struct rb_js_flow){ .window = WINDOW_MIN };
    }
}

/* Who is told when interest comes or goes */

static bool watch_equal(const void *item, struct rb_slice key)
{
    const struct rb_js_watch *watch = item;
    return rb_slice_equal(rb_slice_of(watch->subject, watch->len), key);
}

static uint64_t watch_hash(const void *item)
{
    const struct rb_js_watch *watch = item;
    return rb_slice_hash(rb_slice_of(watch->subject, watch->len));
}

void rb_js_watches_init(struct rb_js_account *account)
{
    rb_map_init(&account->watches, account->js->budget, 0, watch_equal, watch_hash);
}

static struct rb_js_watch *need_watch(struct rb_js_account *account, struct rb_slice subject)
{
    struct rb_budget *budget = account->js->budget;
    struct rb_js_watch *watch = rb_map_find(&account->watches, rb_slice_hash(subject), subject);
    if (watch != NULL) {
        return watch;
    }
    watch = rb_alloc(budget, sizeof(*watch) + subject.len);
    if (watch == NULL) {
        return NULL;
    }
    rb_list_init(&watch->consumers);
    watch->len = subject.len;
    memcpy(watch->subject, subject.ptr, subject.len);
    if (rb_map_insert(&account->watches, watch_hash(watch), watch) != RB_OK) {
        rb_free(budget, watch, sizeof(*watch) + watch->len);
        return NULL;
    }
    account->account->watch_interest = true;
    return watch;
}

/* False: memory was refused. */
static bool watch(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    if (in->watch == NULL) {
        in->watch = need_watch(consumer->stream->account, consumer->config->deliver_subject);
        if (in->watch == NULL) {
            return false;
        }
        rb_list_append(&in->watch->consumers, &in->of_watch);
    }
    return true;
}

void rb_js_consumer_unwatch(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js_account *account = consumer->stream->account;
    struct rb_js_watch *watch = in->watch;
    if (watch == NULL) {
        return;
    }
    in->watch = NULL;
    rb_list_remove(&in->of_watch);
    if (rb_list_empty(&watch->consumers)) {
        bool removed = rb_map_remove(&account->watches, watch_hash(watch), watch);
        rb_assert(removed);
        rb_free(account->js->budget, watch, sizeof(*watch) + watch->len);
        account->account->watch_interest = account->watches.count > 0;
    }
}

/* The account is being changed, and `subject` is valid until it is asked anything: it is asked by the run. */
void rb_js_watches_interest(struct rb_js_account *account, struct rb_slice subject)
{
    const struct rb_js_watch *watch =
        rb_map_find(&account->watches, rb_slice_hash(subject), subject);
    if (watch == NULL) {
        return;
    }
    for (struct rb_list *at = watch->consumers.next; at != &watch->consumers; at = at->next) {
        struct rb_js_consumer_inside *in = RB_CONTAINER(at, struct rb_js_consumer_inside, of_watch);
        in->look = true;
        rb_js_consumer_ready(in->consumer);
    }
}

void rb_js_consumer_look_for_interest(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    if (!rb_js_consumer_is_push(consumer) || !in->opened) {
        return;
    }
    in->look = !watch(consumer);
    if (in->look) {
        in->retry_ns = js->now_ns + RB_JS_SECOND_NS; /* then it looks again */
        rb_js_consumer_want(consumer, in->retry_ns);
    }
    bool active = somebody_listens(consumer);
    if (active == in->active) {
        return;
    }
    in->active = active;
    in->active_ns = js->now_ns;
    if (active) {
        restart_flow(consumer);
        in->sent_ns = js->now_ns;
        rb_js_consumer_ready(consumer);
    }
    rb_js_consumer_want(consumer, js->now_ns);
}

bool rb_js_consumer_push_open(const struct rb_js_consumer *consumer)
{
    const struct rb_js_consumer_inside *in = consumer->inside;
    return in->active && (in->flow == NULL || in->flow->sent <= in->flow->window);
}

static void random_token(struct rb_env *env, char out[4])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for (uint32_t i = 0; i < 4; i++) {
        out[i] = digits[rb_env_below(env, 62)];
    }
}

static struct rb_slice flow_subject(const struct rb_js_consumer *consumer, char out[SUBJECT_BYTES])
{
    int len =
        snprintf(out, SUBJECT_BYTES, "$JS.FC.%.*s.%.*s.%.4s", RB_S_ARG(consumer->stream->name),
                 RB_S_ARG(consumer->name), consumer->inside->flow->token);
    rb_assert(len > 0 && len < SUBJECT_BYTES);
    return rb_slice_of(out, (size_t)len);
}

static void ask(struct rb_js_consumer *consumer)
{
    struct rb_js_flow *flow = consumer->inside->flow;
    char subject[SUBJECT_BYTES];
    random_token(rb_js_consumer_js(consumer)->env, flow->token);
    flow->asked = flow->sent > 0 ? flow->sent : 1;
    rb_js_send_status(consumer->stream->account, consumer->config->deliver_subject,
                      flow_subject(consumer, subject), RB_S("100 FlowControl Request"), RB_S(""));
}

void rb_js_consumer_pushed(struct rb_js_consumer *consumer, uint64_t bytes)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js_flow *flow = in->flow;
    in->sent_ns = rb_js_consumer_js(consumer)->now_ns;
    if (flow == NULL) {
        return;
    }
    flow->sent += bytes;
    if (flow->asked == 0 && flow->sent > flow->window / 2) {
        ask(consumer);
    }
}

void rb_js_consumer_flow_idle(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    int64_t max = consumer->config->max_ack_pending;
    if (in->flow != NULL && in->active && in->flow->asked == 0 &&
        consumer->config->ack_policy == RB_JS_ACK_FLOW_CONTROL && max > 0 &&
        rb_js_consumer_unacked(consumer) >= (uint64_t)max) {
        ask(consumer);
    }
}

static void ack_by_flow(struct rb_js_consumer *consumer, uint32_t header_len,
                        struct rb_slice payload)
{
    uint64_t stream_seq;
    struct rb_slice last =
        rb_header_get(rb_slice_of(payload.ptr, header_len), RB_S("Nats-Last-Stream"));
    if (last.len > 0 && rb_slice_decimal(last, 18, &stream_seq) && stream_seq > 0 &&
        stream_seq <= consumer->delivered.stream_seq) {
        rb_js_consumer_ack_through(consumer, stream_seq, RB_S(""));
    }
}

void rb_js_consumer_flow(struct rb_js_consumer *consumer, struct rb_slice token,
                         uint32_t header_len, struct rb_slice payload)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js_flow *flow = in->flow;
    if (flow == NULL || flow->asked == 0 || in->doomed ||
        !rb_slice_equal(token, rb_slice_of(flow->token, sizeof(flow->token)))) {
        return;
    }
    in->active_ns = rb_js_consumer_js(consumer)->now_ns;
    flow->window = flow->window * 2 > WINDOW_MAX ? WINDOW_MAX : flow->window * 2;
    flow->sent -= flow->asked < flow->sent ? flow->asked : flow->sent;
    flow->asked = 0;
    if (consumer->config->ack_policy == RB_JS_ACK_FLOW_CONTROL && header_len > 0) {
        ack_by_flow(consumer, header_len, payload);
    }
    rb_js_consumer_ready(consumer);
}

static void beat(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    char subject[SUBJECT_BYTES], fields[160 + SUBJECT_BYTES];
    int len =
        snprintf(fields, sizeof(fields), "Nats-Last-Consumer: %llu\r\nNats-Last-Stream: %llu\r\n",
                 (unsigned long long)consumer->delivered.consumer_seq,
                 (unsigned long long)consumer->delivered.stream_seq);
    if (in->flow != NULL && in->flow->asked != 0) {
        struct rb_slice stalled = flow_subject(consumer, subject);
        len += snprintf(fields + len, sizeof(fields) - (size_t)len,
                        "Nats-Consumer-Stalled: %.*s\r\n", RB_S_ARG(stalled));
    }
    rb_js_send_status(consumer->stream->account, consumer->config->deliver_subject, RB_S(""),
                      RB_S("100 Idle Heartbeat"), rb_slice_of(fields, (size_t)len));
}

uint64_t rb_js_consumer_beat_due(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    uint64_t interval_ns = (uint64_t)consumer->config->idle_heartbeat,
             now_ns = rb_js_consumer_js(consumer)->now_ns;
    if (interval_ns == 0 || !in->active) {
        return UINT64_MAX;
    }
    if (now_ns >= in->sent_ns + interval_ns) {
        in->sent_ns = now_ns;
        beat(consumer);
        if (consumer->config->ack_policy == RB_JS_ACK_FLOW_CONTROL && in->flow != NULL &&
            in->flow->asked == 0 && in->acks.live > 0) {
            ask(consumer); /* what is pending can be confirmed by this only */
        }
    }
    return in->sent_ns + interval_ns;
}
