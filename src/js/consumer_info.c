/* consumer_info.c - what a consumer says of itself: numbers for documents, and why nothing is being delivered. */
#include <stdio.h>

#include "js/consumer_inside.h"

void rb_js_consumer_info(struct rb_js_consumer *consumer, struct rb_js_consumer_info *ret_info)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    int64_t until_ns = consumer->config->pause_until, wall_ns = (int64_t)js->wall_ns;
    rb_js_consumer_prune(consumer);
    *ret_info = (struct rb_js_consumer_info){
        .ack_pending = rb_js_consumer_unacked(consumer),
        .redelivered =
            consumer->config->max_deliver == 1 ? 0 : (uint64_t)in->acks.again + in->acks.spent_len,
        .waiting = in->waiting,
        .pending = in->pending,
        .push_bound = rb_js_consumer_is_push(consumer) && in->active,
        .paused = until_ns != RB_DOC_NO_TIME && until_ns > wall_ns,
        .pinned_id = rb_js_consumer_pinned(consumer),
    };
    ret_info->pause_remaining_ns = ret_info->paused ? until_ns - wall_ns : 0;
    ret_info->pinned_ns = ret_info->pinned_id.len > 0 ? in->pin->since_ns : RB_DOC_NO_TIME;
}

static const char *why_push(const struct rb_js_consumer *consumer)
{
    const struct rb_js_consumer_inside *in = consumer->inside;
    if (!in->active) {
        return consumer->config->deliver_group.len > 0
                   ? "nobody of the deliver group subscribed to the deliver subject"
                   : "nobody subscribed to the deliver subject";
    }
    return in->flow != NULL && in->flow->sent > in->flow->window
               ? "the flow control window is full, its request was not answered"
               : NULL;
}

static const char *why_pull(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    if (in->waiting == 0) {
        return "no pull request is waiting";
    }
    for (struct rb_list *at = in->requests.next; at != &in->requests; at = at->next) {
        if (rb_js_consumer_eligible(consumer, RB_CONTAINER(at, struct rb_js_request, link)) ==
            RB_JS_ELIGIBLE) {
            return NULL;
        }
    }
    return consumer->config->priority_policy == RB_JS_PRIORITY_PINNED
               ? "the pinned client has no pull request waiting"
               : "too little is pending for the pull requests that wait";
}

static const char *why_now(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    const char *why = rb_js_consumer_is_push(consumer) ? why_push(consumer) : why_pull(consumer);
    if (why != NULL) {
        return why;
    }
    if (in->wait.waiting) {
        return "waiting for a message from disk";
    }
    if (in->hold_ns > rb_js_consumer_js(consumer)->now_ns) {
        return consumer->config->rate_limit_bps > 0 ? "waiting for the rate limit"
                                                    : "waiting as long as between the messages";
    }
    return in->retry_ns != 0 ? "the log or the memory has no room" : "";
}

struct rb_slice rb_js_consumer_why(struct rb_js_consumer *consumer, char *out, size_t cap)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    int64_t max = consumer->config->max_ack_pending;
    bool again = rb_js_pending_queue_peek(&in->acks) != NULL;
    if (in->pending == 0 && !again) {
        return RB_S("");
    }
    if (!in->opened) {
        return RB_S("the stream is being opened");
    }
    if (in->doomed) {
        return RB_S("it is being deleted");
    }
    if (in->paused) {
        struct rb_out time;
        rb_out_init(&time, rb_js_consumer_js(consumer)->budget);
        rb_out_time(&time, consumer->config->pause_until);
        int len = time.failed || time.len < 2
                      ? snprintf(out, cap, "paused")
                      : snprintf(out, cap, "paused until %.*s", (int)time.len - 2,
                                 (const char *)time.bytes + 1);
        rb_out_deinit(&time);
        return rb_slice_of(out, len > 0 && (size_t)len < cap ? (size_t)len : 0);
    }
    if (!again && max > 0 && rb_js_consumer_unacked(consumer) >= (uint64_t)max) {
        int len = snprintf(out, cap, "max_ack_pending of %lld is reached", (long long)max);
        return rb_slice_of(out, len > 0 && (size_t)len < cap ? (size_t)len : 0);
    }
    return rb_slice_text(why_now(consumer));
}
