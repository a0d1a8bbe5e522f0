/* consumer_priority.c - priority groups of pull consumers: overflow, pinned, prioritized (jetstream.md 20).
 *
 * The pin belongs to this server life: after a restart the first request without an id is pinned anew.
 */
#include <string.h>

#include "base/nuid.h"
#include "js/consumer_inside.h"
#include "ringbus/check.h"

static void bad_request(struct rb_js_consumer *consumer, struct rb_slice reply,
                        struct rb_slice line)
{
    rb_js_send_status(consumer->stream->account, reply, RB_S(""), line, RB_S(""));
}

static bool has_group(const struct rb_js_consumer *consumer, struct rb_slice group)
{
    const struct rb_doc_strings *groups = &consumer->config->priority_groups;
    for (uint32_t i = 0; i < groups->count; i++) {
        if (rb_slice_equal(groups->items[i], group)) {
            return true;
        }
    }
    return false;
}

struct rb_slice rb_js_consumer_pinned(const struct rb_js_consumer *consumer)
{
    const struct rb_js_pin *pin = consumer->inside->pin;
    return pin == NULL || pin->id[0] == '\0' ? RB_S("") : rb_slice_of(pin->id, RB_NUID_LEN);
}

static void extend_pin(struct rb_js_consumer *consumer)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    in->pin->due_ns =
        rb_js_consumer_js(consumer)->now_ns + (uint64_t)consumer->config->priority_timeout;
    rb_js_consumer_want(consumer, in->pin->due_ns);
}

bool rb_js_consumer_check_group(struct rb_js_consumer *consumer, struct rb_slice reply,
                                const struct rb_js_request_group *group)
{
    uint8_t policy = consumer->config->priority_policy;
    struct rb_slice pinned = rb_js_consumer_pinned(consumer);
    if (policy != RB_JS_PRIORITY_OVERFLOW &&
        (group->min_pending > 0 || group->min_ack_pending > 0)) {
        bad_request(consumer, reply, RB_S("400 Bad Request - Not a Overflow Priority consumer"));
        return false;
    }
    if (policy != RB_JS_PRIORITY_PINNED && group->id.len > 0) {
        bad_request(consumer, reply,
                    RB_S("400 Bad Request - Not a Pinned Client Priority consumer"));
        return false;
    }
    if (group->priority < 0 || group->priority > 9) {
        bad_request(consumer, reply, RB_S("400 Bad Request - Priority must be between 0 and 9"));
        return false;
    }
    if (policy == RB_JS_PRIORITY_NONE) {
        return true;
    }
    if (group->group.len == 0) {
        bad_request(consumer, reply, RB_S("400 Bad Request - Priority Group missing"));
        return false;
    }
    if (!has_group(consumer, group->group)) {
        bad_request(consumer, reply, RB_S("400 Bad Request - Invalid Priority Group"));
        return false;
    }
    if (policy == RB_JS_PRIORITY_PINNED && group->id.len > 0) {
        if (pinned.len > 0 && !rb_slice_equal(group->id, pinned)) {
            bad_request(consumer, reply, RB_S("423 Nats-Pin-Id mismatch"));
            return false;
        }
        if (pinned.len > 0) {
            extend_pin(consumer);
        }
    }
    return true;
}

enum rb_js_eligible rb_js_consumer_eligible(struct rb_js_consumer *consumer,
                                            struct rb_js_request *request)
{
    const struct rb_js_consumer_inside *in = consumer->inside;
    if (consumer->config->priority_policy == RB_JS_PRIORITY_OVERFLOW) {
        bool any = request->min_pending == 0 && request->min_ack_pending == 0;
        bool pending = request->min_pending > 0 && in->pending >= request->min_pending;
        bool unacked = request->min_ack_pending > 0 &&
                       rb_js_consumer_unacked(consumer) >= request->min_ack_pending;
        return any || pending || unacked ? RB_JS_ELIGIBLE : RB_JS_WAITS;
    }
    if (consumer->config->priority_policy != RB_JS_PRIORITY_PINNED) {
        return RB_JS_ELIGIBLE;
    }
    struct rb_slice pinned = rb_js_consumer_pinned(consumer), id = rb_js_request_pin(request);
    if (id.len == 0) {
        return pinned.len == 0 ? RB_JS_ELIGIBLE : RB_JS_WAITS;
    }
    return rb_slice_equal(id, pinned) ? RB_JS_ELIGIBLE : RB_JS_WRONG_PIN;
}

static struct rb_slice first_group(const struct rb_js_consumer *consumer)
{
    const struct rb_doc_strings *groups = &consumer->config->priority_groups;
    return groups->count > 0 ? groups->items[0] : RB_S("");
}

static void advise_pin(struct rb_js_consumer *consumer, bool pinned, const char *text)
{
    struct rb_slice group = first_group(consumer);
    struct rb_out account;
    rb_out_init(&account, rb_js_consumer_js(consumer)->budget);
    rb_out_printf(&account, "\"account\":");
    rb_out_string(&account, consumer->stream->account->account->name);
    rb_out_put(&account, rb_slice_of(",", 2)); /* and its end */
    const char *head = account.failed || account.len > 300 ? "" : (const char *)account.bytes;
    rb_js_consumer_advise(
        consumer, pinned ? "ADVISORY.CONSUMER.PINNED" : "ADVISORY.CONSUMER.UNPINNED",
        pinned ? "io.nats.jetstream.advisory.v1.consumer_group_pinned"
               : "io.nats.jetstream.advisory.v1.consumer_group_unpinned",
        head, ",\"group\":\"%.*s\",\"%s\":\"%.*s\"", RB_S_ARG(group),
        pinned ? "pinned_id" : "reason", pinned ? RB_NUID_LEN : (int)strlen(text), text);
    rb_out_deinit(&account);
}

void rb_js_consumer_pin_to(struct rb_js_consumer *consumer, struct rb_js_request **request)
{
    struct rb_js_consumer_inside *in = consumer->inside;
    struct rb_js *js = rb_js_consumer_js(consumer);
    if (rb_js_consumer_pinned(consumer).len > 0) {
        return; /* it is the one, or it would not be served */
    }
    if (in->pin == NULL) {
        in->pin = rb_alloc(js->budget, sizeof(*in->pin));
        if (in->pin == NULL) {
            *request = NULL;
            return;
        }
    }
    rb_nuid(js->env, in->pin->id);
    in->pin->since_ns = (int64_t)js->wall_ns;
    extend_pin(consumer);
    struct rb_js_request *pinned = *request;
    memcpy(pinned->text + pinned->reply_len, in->pin->id, RB_NUID_LEN);
    pinned->pin_len = RB_NUID_LEN;
    advise_pin(consumer, true, in->pin->id);
}

static void end_pin(struct rb_js_consumer *consumer, const char *reason)
{
    if (consumer->inside->pin != NULL) {
        consumer->inside->pin->id[0] = '\0';
    }
    advise_pin(consumer, false, reason);
    rb_js_consumer_ready(consumer);
}

uint64_t rb_js_consumer_pin_due(struct rb_js_consumer *consumer)
{
    if (rb_js_consumer_pinned(consumer).len == 0) {
        return UINT64_MAX;
    }
    if (rb_js_consumer_js(consumer)->now_ns < consumer->inside->pin->due_ns) {
        return consumer->inside->pin->due_ns;
    }
    end_pin(consumer, "timeout");
    return UINT64_MAX;
}

bool rb_js_consumer_unpin(struct rb_js_consumer *consumer, struct rb_slice group,
                          struct rb_js_error *error)
{
    if (!rb_js_group_name_valid(group)) {
        rb_js_error_set(error, 10162, NULL);
        return false;
    }
    if (consumer->config->priority_policy != RB_JS_PRIORITY_PINNED || !has_group(consumer, group)) {
        rb_js_error_set(error, 10160, NULL);
        return false;
    }
    end_pin(consumer, "admin");
    return true;
}
