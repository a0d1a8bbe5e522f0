/* consumer_create.c - what is asked of consumers from outside: checked here, proposed, decided by apply (consumer.c).
 *
 * Limits of account and server are asked when a consumer is proposed: a restart with other limits must find the same consumers.
 * What depends on the stream alone (names, work queues, its own limit) is asked again by apply, which sees all that came before.
 */
#include <string.h>

#include "js/consumer_inside.h"
#include "js/stream_inside.h"
#include "proto/subject.h"
#include "ringbus/check.h"

#define NAME_RANDOM 8
#define CONSUMERS_MAX 1000 /* of a stream that does not say */

static void end_with(struct rb_js_change *change, struct rb_js_stream *stream, uint16_t code,
                     const char *detail)
{
    struct rb_js_outcome outcome = { 0 };
    rb_js_error_set(&outcome.error, code, detail);
    change->done(change, stream, &outcome);
}

static void change_done(struct rb_js_waiter *waiter, enum rb_err err, const void *given)
{
    struct rb_js_change *change = RB_CONTAINER(waiter, struct rb_js_change, waiter);
    if (err == RB_OK) {
        change->done(change, change->stream, given);
        return;
    }
    struct rb_js_outcome outcome = { 0 };
    rb_js_stream_error(&outcome.error, err);
    change->done(change, err == RB_ERR_CANCELED ? NULL : change->stream, &outcome);
}

static void propose(struct rb_js_stream *stream, const struct rb_command *command,
                    struct rb_js_change *change,
                    void (*done)(struct rb_js_waiter *waiter, enum rb_err err, const void *given))
{
    change->stream = stream;
    change->waiter.done = done;
    enum rb_err err = rb_js_stream_propose(stream, command, &change->waiter);
    if (err != RB_OK) {
        done(&change->waiter, err, NULL);
    }
}

/* The filters of a configuration, everything as one ">". */
static const struct rb_slice *filters_of(const struct rb_js_consumer_config *config,
                                         uint32_t *ret_count)
{
    static const struct rb_slice all = { (const uint8_t *)">", 1 };
    *ret_count = 1;
    if (config->filter_subjects.count > 0) {
        *ret_count = config->filter_subjects.count;
        return config->filter_subjects.items;
    }
    return config->filter_subject.len > 0 ? &config->filter_subject : &all;
}

static bool filters_overlap(const struct rb_js_consumer_config *a,
                            const struct rb_js_consumer_config *b)
{
    uint32_t a_count, b_count;
    const struct rb_slice *a_filters = filters_of(a, &a_count),
                          *b_filters = filters_of(b, &b_count);
    for (uint32_t i = 0; i < a_count; i++) {
        for (uint32_t j = 0; j < b_count; j++) {
            if (rb_subject_overlap(a_filters[i], b_filters[j])) {
                return true;
            }
        }
    }
    return false;
}

static bool has_filter(const struct rb_js_consumer_config *config)
{
    return config->filter_subject.len > 0 || config->filter_subjects.count > 0;
}

static bool queue_rules(struct rb_js_stream *stream, const struct rb_js_consumer_config *config,
                        const struct rb_js_consumer *existing, struct rb_js_error *error)
{
    uint16_t code = 0;
    if (existing == NULL && config->ack_policy != RB_JS_ACK_EXPLICIT &&
        config->ack_policy != RB_JS_ACK_FLOW_CONTROL) {
        code = 10098;
    } else if (existing == NULL && config->deliver_policy != RB_JS_DELIVER_ALL) {
        code = 10101;
    } else if (existing == NULL && !has_filter(config) && !rb_list_empty(&stream->consumers)) {
        code = 10099;
    } else {
        for (struct rb_list *at = stream->consumers.next; at != &stream->consumers; at = at->next) {
            const struct rb_js_consumer *other = RB_CONTAINER(at, struct rb_js_consumer, of_stream);
            if (other != existing && filters_overlap(config, other->config)) {
                code = 10100;
                break;
            }
        }
    }
    if (code != 0) {
        rb_js_error_set(error, code, NULL);
    }
    return code == 0;
}

bool rb_js_consumer_may_create(struct rb_js_stream *stream,
                               const struct rb_js_consumer_config *config,
                               const struct rb_js_consumer *existing,
                               enum rb_js_consumer_action action, struct rb_js_error *error)
{
    if (existing != NULL && action == RB_JS_CONSUMER_CREATE) {
        if (rb_doc_equal(&rb_js_consumer_config_type, existing->config, config)) {
            return true;
        }
        rb_js_error_set(error, 10148, NULL);
        return false;
    }
    if (existing == NULL && action == RB_JS_CONSUMER_UPDATE) {
        rb_js_error_set(error, 10149, NULL);
        return false;
    }
    int64_t max = stream->config->max_consumers > 0 ? stream->config->max_consumers : CONSUMERS_MAX;
    if (existing == NULL && !config->direct && stream->consumer_count >= max) {
        rb_js_error_set(error, 10026, NULL);
        return false;
    }
    if (stream->config->retention == RB_JS_WORKQUEUE && !config->direct &&
        !queue_rules(stream, config, existing, error)) {
        return false;
    }
    return existing == NULL || rb_js_consumer_may_become(existing->config, config, error);
}

static void random_name(struct rb_env *env, uint8_t out[NAME_RANDOM])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t bits;
    env->entropy(env->ctx, &bits, sizeof(bits));
    for (uint32_t i = 0; i < NAME_RANDOM; i++, bits /= 62) {
        out[i] = (uint8_t)digits[bits % 62];
    }
}

struct creation {
    struct rb_js_stream *stream;
    struct rb_arena *arena;
    struct rb_js_consumer_config config;
    uint8_t name[NAME_RANDOM];
    enum rb_js_consumer_action action;
    struct rb_js_consumer *existing;
    struct rb_js_outcome outcome;
};

static bool refuse(struct creation *c, uint16_t code)
{
    rb_js_error_set(&c->outcome.error, code, NULL);
    return false;
}

/* The account's limit holds for each of its streams, as in nats-server. What others asked for, and is not applied yet, counts. */
static bool has_room(struct creation *c)
{
    const struct rb_js_stream *stream = c->stream;
    int64_t max = stream->account->limits.max_consumers;
    return c->existing != NULL || c->config.direct || max <= 0 ||
           (int64_t)stream->consumer_count + stream->consumers_coming < max || refuse(c, 10026);
}

/* A consumer that was counted as coming is there, or will not be. */
static void arrived(struct rb_js_waiter *waiter, enum rb_err err, const void *given)
{
    struct rb_js_change *change = RB_CONTAINER(waiter, struct rb_js_change, waiter);
    rb_assert(change->stream->consumers_coming > 0);
    change->stream->consumers_coming--;
    change_done(waiter, err, given);
}

/* True: it is to be proposed. False: the outcome is known. */
static bool prepare(struct creation *c, bool pedantic)
{
    struct rb_slice name = c->config.durable_name.len > 0 ? c->config.durable_name : c->config.name;
    if (name.len > RB_JS_NAME_MAX) {
        rb_js_error_set(&c->outcome.error, 10102, "255");
        return false;
    }
    c->existing = name.len == 0 ? NULL : rb_js_consumer_find(c->stream, name);
    if (c->existing != NULL && c->existing->inside->doomed) {
        c->existing = NULL; /* gone before this is applied */
    }
    bool updates = c->existing != NULL && c->action != RB_JS_CONSUMER_CREATE;
    if (!rb_js_consumer_config_check(c->stream, &c->config, c->arena, pedantic,
                                     c->existing != NULL ? c->existing->config : NULL, updates,
                                     &c->outcome.error)) {
        return false;
    }
    if (c->config.name.len == 0) {
        random_name(c->stream->account->js->env, c->name);
        c->config.name = rb_slice_of(c->name, NAME_RANDOM);
    }
    if (!rb_js_consumer_may_create(c->stream, &c->config, c->existing, c->action,
                                   &c->outcome.error) ||
        !has_room(c)) {
        return false;
    }
    if (c->existing == NULL) {
        return true;
    }
    const struct rb_js_consumer_config *was = c->existing->config;
    if (!rb_slice_equal(was->deliver_subject, c->config.deliver_subject) &&
        c->existing->inside->active) {
        return refuse(c, 10013);
    }
    if (rb_doc_equal(&rb_js_consumer_config_type, was, &c->config)) {
        c->outcome.consumer = c->existing;
        return false;
    }
    return true;
}

static void create(struct rb_js_stream *stream, const struct rb_js_consumer_config *config,
                   enum rb_js_consumer_action action, bool pedantic, struct rb_slice state,
                   struct rb_js_change *change)
{
    struct creation c = { .stream = stream, .action = action };
    struct rb_js *js = stream->account->js;
    if (rb_arena_create(1024, &c.arena) != RB_OK) {
        end_with(change, stream, 10023, NULL);
        return;
    }
    if (!rb_doc_copy(c.arena, &rb_js_consumer_config_type, config, &c.config)) {
        rb_js_error_set(&c.outcome.error, 10023, NULL);
        change->done(change, stream, &c.outcome);
    } else if (!prepare(&c, pedantic)) {
        change->done(change, stream, &c.outcome);
    } else {
        struct rb_out json;
        rb_out_init(&json, js->budget);
        rb_doc_write(&json, &rb_js_consumer_config_type, &c.config);
        struct rb_command command = { .type = RB_COMMAND_CONSUMER,
                                      .name = c.config.name,
                                      .time_ns = js->wall_ns,
                                      .value = (uint64_t)action,
                                      .subject = state,
                                      .text = rb_out_slice(&json) };
        if (json.failed) {
            end_with(change, stream, 10023, NULL);
        } else {
            bool coming = c.existing == NULL && !c.config.direct;
            stream->consumers_coming += coming;
            propose(stream, &command, change, coming ? arrived : change_done);
        }
        rb_out_deinit(&json);
    }
    rb_arena_destroy(c.arena);
}

void rb_js_consumer_create(struct rb_js_stream *stream, const struct rb_js_consumer_config *config,
                           enum rb_js_consumer_action action, bool pedantic,
                           struct rb_js_change *change)
{
    create(stream, config, action, pedantic, RB_S(""), change);
}

void rb_js_consumer_restore(struct rb_js_stream *stream, const struct rb_js_consumer_config *config,
                            struct rb_slice state, struct rb_js_change *change)
{
    create(stream, config, RB_JS_CONSUMER_CREATE, false, state, change);
}

void rb_js_consumer_delete(struct rb_js_consumer *consumer, struct rb_js_change *change)
{
    struct rb_command command = rb_js_consumer_command(consumer, RB_COMMAND_CONSUMER_DELETE);
    propose(consumer->stream, &command, change, change_done);
}

void rb_js_consumer_pause(struct rb_js_consumer *consumer, int64_t until_ns,
                          struct rb_js_change *change)
{
    struct rb_command command = rb_js_consumer_command(consumer, RB_COMMAND_PAUSE);
    command.time_ns = until_ns == RB_DOC_NO_TIME || until_ns < 0 ? 0 : (uint64_t)until_ns;
    propose(consumer->stream, &command, change, change_done);
}

static bool may_reset(struct rb_js_consumer *consumer, uint64_t seq, struct rb_js_error *error)
{
    const struct rb_js_consumer_config *config = consumer->config;
    const char *why = NULL;
    struct rb_msgstore_entry entry;
    uint64_t at = seq == 0 ? 0 : rb_msgstore_next(consumer->stream->store, seq);
    if (seq == 0) {
        return true;
    }
    switch (config->deliver_policy) {
    case RB_JS_DELIVER_ALL:
        break;
    case RB_JS_DELIVER_BY_START_SEQUENCE:
        why = seq < config->opt_start_seq ? "below start seq" : NULL;
        break;
    case RB_JS_DELIVER_BY_START_TIME:
        if (at != 0 && rb_msgstore_find(consumer->stream->store, at, &entry) &&
            (int64_t)entry.time_ns < config->opt_start_time) {
            why = "below start time";
        }
        break;
    default:
        why = "not allowed";
        break;
    }
    if (why != NULL) {
        rb_js_error_set(error, 10204, why);
    }
    return why == NULL;
}

void rb_js_consumer_reset(struct rb_js_consumer *consumer, uint64_t seq,
                          struct rb_js_change *change)
{
    struct rb_js_outcome outcome = { 0 };
    if (!may_reset(consumer, seq, &outcome.error)) {
        change->done(change, consumer->stream, &outcome);
        return;
    }
    struct rb_command command = rb_js_consumer_command(consumer, RB_COMMAND_RESET);
    command.seq = seq;
    propose(consumer->stream, &command, change, change_done);
}
