/* consumer_config.c - ConsumerConfig: the document, what is filled in, what is refused and in which order.
 *
 * 1. Filling in comes first, then the rules look at what would be in force. In pedantic requests filling in what was asked for
 *    otherwise is an error of its own.
 * 2. Nothing here depends on other consumers: what does (work queues, names, limits of their number) is in consumer_create.c.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "js/config.h"
#include "js/consumer.h"
#include "js/consumer_inside.h"
#include "js/duration.h"
#include "proto/subject.h"

#define DESCRIPTION_MAX 4096
#define METADATA_MAX 131072
#define WAITING_DEFAULT 512
#define ACK_PENDING_DEFAULT 1000
#define ACK_WAIT_DEFAULT (30 * (int64_t)1000000000)
#define INACTIVE_DEFAULT (5 * (int64_t)1000000000)
#define PIN_TIMEOUT_DEFAULT (120 * (int64_t)1000000000)
#define HEARTBEAT_MIN 100000000
#define FLOW_HEARTBEAT 1000000000
#define EXPIRES_MIN 1000000
#define GROUP_NAME_MAX 16

static const char *const deliver_names[] = {
    "all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject", NULL
};
static const char *const ack_names[] = { "none", "all", "explicit", "flow_control", NULL };
static const char *const replay_names[] = { "instant", "original", NULL };
static const char *const priority_names[] = { "none", "overflow", "pinned_client", "prioritized",
                                              NULL };

#define AT(field) offsetof(struct rb_js_consumer_config, field)
static const struct rb_doc_field fields[] = {
    { "durable_name", RB_DOC_STRING, RB_DOC_OMIT, AT(durable_name) },
    { "name", RB_DOC_STRING, RB_DOC_OMIT, AT(name) },
    { "description", RB_DOC_STRING, RB_DOC_OMIT, AT(description) },
    { "deliver_policy", RB_DOC_ENUM, 0, AT(deliver_policy), deliver_names },
    { "opt_start_seq", RB_DOC_U64, RB_DOC_OMIT, AT(opt_start_seq) },
    { "opt_start_time", RB_DOC_TIME, RB_DOC_OMIT, AT(opt_start_time) },
    { "ack_policy", RB_DOC_ENUM, 0, AT(ack_policy), ack_names },
    { "ack_wait", RB_DOC_DURATION, RB_DOC_OMIT, AT(ack_wait) },
    { "max_deliver", RB_DOC_INT, RB_DOC_OMIT, AT(max_deliver) },
    { "backoff", RB_DOC_I64S, RB_DOC_OMIT, AT(backoff) },
    { "filter_subject", RB_DOC_STRING, RB_DOC_OMIT, AT(filter_subject) },
    { "filter_subjects", RB_DOC_STRINGS, RB_DOC_OMIT, AT(filter_subjects) },
    { "replay_policy", RB_DOC_ENUM, 0, AT(replay_policy), replay_names },
    { "rate_limit_bps", RB_DOC_U64, RB_DOC_OMIT, AT(rate_limit_bps) },
    { "sample_freq", RB_DOC_STRING, RB_DOC_OMIT, AT(sample_freq) },
    { "max_waiting", RB_DOC_INT, RB_DOC_OMIT, AT(max_waiting) },
    { "max_ack_pending", RB_DOC_INT, RB_DOC_OMIT, AT(max_ack_pending) },
    { "flow_control", RB_DOC_BOOL, RB_DOC_OMIT, AT(flow_control) },
    { "headers_only", RB_DOC_BOOL, RB_DOC_OMIT, AT(headers_only) },
    { "max_batch", RB_DOC_INT, RB_DOC_OMIT, AT(max_batch) },
    { "max_expires", RB_DOC_DURATION, RB_DOC_OMIT, AT(max_expires) },
    { "max_bytes", RB_DOC_INT, RB_DOC_OMIT, AT(max_bytes) },
    { "deliver_subject", RB_DOC_STRING, RB_DOC_OMIT, AT(deliver_subject) },
    { "deliver_group", RB_DOC_STRING, RB_DOC_OMIT, AT(deliver_group) },
    { "idle_heartbeat", RB_DOC_DURATION, RB_DOC_OMIT, AT(idle_heartbeat) },
    { "inactive_threshold", RB_DOC_DURATION, RB_DOC_OMIT, AT(inactive_threshold) },
    { "num_replicas", RB_DOC_INT, 0, AT(num_replicas) },
    { "mem_storage", RB_DOC_BOOL, RB_DOC_OMIT, AT(mem_storage) },
    { "direct", RB_DOC_BOOL, RB_DOC_OMIT, AT(direct) },
    { "sourcing", RB_DOC_BOOL, RB_DOC_OMIT, AT(sourcing) },
    { "metadata", RB_DOC_MAP, RB_DOC_OMIT, AT(metadata) },
    { "pause_until", RB_DOC_TIME, RB_DOC_OMIT, AT(pause_until) },
    { "priority_groups", RB_DOC_STRINGS, RB_DOC_OMIT, AT(priority_groups) },
    { "priority_policy", RB_DOC_ENUM, RB_DOC_OMIT, AT(priority_policy), priority_names, NULL,
      "unknown priority policy: " },
    { "priority_timeout", RB_DOC_DURATION, RB_DOC_OMIT, AT(priority_timeout) },
};
const struct rb_doc_type rb_js_consumer_config_type = { "ConsumerConfig",
                                                        sizeof(struct rb_js_consumer_config),
                                                        fields,
                                                        sizeof(fields) / sizeof(fields[0]) };

struct check {
    struct rb_js_stream *stream;
    struct rb_js_consumer_config *config;
    struct rb_arena *arena;
    struct rb_js_error *error;
    bool pedantic;
    bool exists;      /* what is filled in for a new one is not */
    bool pin_timeout; /* one was asked for */
};

static bool refuse(struct check *c, uint16_t code, const char *detail)
{
    rb_js_error_set(c->error, code, detail);
    return false;
}

/* Sets `value` where the request has something else; pedantic requests are told so. */
static bool settle(struct check *c, int64_t *field, int64_t value, const char *text)
{
    if (c->pedantic) {
        return refuse(c, 10157, text);
    }
    *field = value;
    return true;
}

/* What is below its least value takes it. */
static bool settle_low(struct check *c)
{
    struct rb_js_consumer_config *config = c->config;
    const struct {
        int64_t *field, least;
        const char *text;
    } rules[] = {
        { &config->max_deliver, -1, "max_deliver must be set to -1" },
        { &config->max_waiting, 0, "max_waiting must not be negative" },
        { &config->max_ack_pending, -1, "max_ack_pending must be set to -1" },
        { &config->max_batch, 0, "max_batch must not be negative" },
        { &config->max_expires, 0, "max_expires must not be negative" },
        { &config->max_bytes, 0, "max_bytes must not be negative" },
        { &config->idle_heartbeat, 0, "idle_heartbeat must not be negative" },
        { &config->inactive_threshold, 0, "inactive_threshold must not be negative" },
        { &config->priority_timeout, 0, "priority_timeout must not be negative" },
    };
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (*rules[i].field < rules[i].least &&
            !settle(c, rules[i].field, rules[i].least, rules[i].text)) {
            return false;
        }
    }
    return true;
}

static int64_t smaller_limit(int64_t value, int64_t limit)
{
    return limit > 0 && limit < value ? limit : value;
}

static bool fill_acks(struct check *c)
{
    struct rb_js_consumer_config *config = c->config;
    const struct rb_js_consumer_limits *limits = &c->stream->config->consumer_limits;
    const struct rb_js_account *account = c->stream->account;
    bool timed = config->ack_policy == RB_JS_ACK_EXPLICIT || config->ack_policy == RB_JS_ACK_ALL;
    if (config->backoff.count > 0 && config->backoff.items[0] != config->ack_wait) {
        if (c->pedantic) {
            return refuse(c, 10157, "first backoff value has to equal batch AckWait");
        }
        config->ack_wait = config->backoff.items[0];
    }
    if (config->ack_wait == 0 && timed) {
        config->ack_wait = ACK_WAIT_DEFAULT;
    }
    if (config->max_ack_pending == 0 && limits->max_ack_pending > 0 &&
        !settle(c, &config->max_ack_pending, limits->max_ack_pending,
                "max_ack_pending must be set if it's configured in stream limits")) {
        return false;
    }
    if (config->max_ack_pending == 0 && config->ack_policy != RB_JS_ACK_NONE) {
        config->max_ack_pending = smaller_limit(
            smaller_limit(ACK_PENDING_DEFAULT, account->js->settings->max_ack_pending),
            account->limits.max_ack_pending);
    }
    return true;
}

static bool fill_in(struct check *c)
{
    struct rb_js_consumer_config *config = c->config;
    const struct rb_js_consumer_limits *limits = &c->stream->config->consumer_limits;
    int64_t max_batch = c->stream->account->js->settings->max_request_batch;
    bool pull = config->deliver_subject.len == 0;
    if (!settle_low(c)) {
        return false;
    }
    if (config->max_deliver == 0) {
        config->max_deliver = -1;
    }
    if (config->name.len == 0) {
        config->name = config->durable_name;
    }
    if (config->ack_policy == RB_JS_ACK_FLOW_CONTROL && !c->pedantic) {
        config->flow_control = true;
        config->idle_heartbeat = FLOW_HEARTBEAT;
    }
    if (!fill_acks(c)) {
        return false;
    }
    if (pull && config->max_waiting == 0) {
        config->max_waiting = WAITING_DEFAULT;
    }
    if (config->inactive_threshold == 0 && limits->inactive_threshold > 0 &&
        !settle(c, &config->inactive_threshold, limits->inactive_threshold,
                "inactive_threshold must be set if it's configured in stream limits")) {
        return false;
    }
    if (config->inactive_threshold == 0 && config->durable_name.len == 0 && !c->exists) {
        config->inactive_threshold = INACTIVE_DEFAULT;
    }
    if (pull && config->max_batch == 0 && max_batch > 0 &&
        !settle(c, &config->max_batch, max_batch,
                "max_request_batch must be set if it's JetStream limits are set")) {
        return false;
    }
    if (config->priority_policy == RB_JS_PRIORITY_PINNED && config->priority_timeout == 0) {
        config->priority_timeout = PIN_TIMEOUT_DEFAULT;
    }
    return true;
}

static bool name_has_bad(struct rb_slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (memchr(" \t\r\n\f.*>\\/", name.ptr[i], 11) != NULL || name.ptr[i] == 0) {
            return true;
        }
    }
    return false;
}

static bool check_names(struct check *c)
{
    struct rb_js_consumer_config *config = c->config;
    if (config->name.len > 0 && name_has_bad(config->name)) {
        return refuse(c, 10052, "consumer name can not contain '.', '*', '>', '\\', '/'");
    }
    if (config->durable_name.len > 0 && name_has_bad(config->durable_name)) {
        return refuse(c, 10052, "consumer durable name can not contain '.', '*', '>', '\\', '/'");
    }
    return true;
}

static bool check_replicas(struct check *c)
{
    int64_t wanted = c->config->num_replicas, of_stream = c->stream->config->num_replicas;
    if (wanted > 0 && wanted > of_stream) {
        return refuse(c, 10126, NULL);
    }
    if (wanted < 0) {
        return refuse(c, 10133, NULL);
    }
    if (c->stream->config->retention != RB_JS_LIMITS && wanted != 0 && wanted != of_stream) {
        return refuse(c, 10134, NULL);
    }
    return true;
}

static bool check_acks(struct check *c)
{
    struct rb_js_consumer_config *config = c->config;
    for (uint32_t i = 0; i < config->backoff.count; i++) {
        if (config->backoff.items[i] < 0) {
            return refuse(c, 10184, NULL);
        }
    }
    if (config->ack_wait < 0) {
        return refuse(c, 10183, NULL);
    }
    if (config->ack_policy == RB_JS_ACK_FLOW_CONTROL) {
        if (config->deliver_subject.len == 0) {
            return refuse(c, 10218, NULL);
        }
        if (!config->flow_control) {
            return refuse(c, 10219, NULL);
        }
        if (config->idle_heartbeat != FLOW_HEARTBEAT) {
            return refuse(c, 10052, "flow control ack policy heartbeat needs to be 1s");
        }
        if (config->max_ack_pending <= 0) {
            return refuse(c, 10220, NULL);
        }
        if (config->ack_wait != 0 || config->backoff.count > 0) {
            return refuse(c, 10221, NULL);
        }
        if (config->max_deliver > 0) {
            return refuse(c, 10222, NULL);
        }
    }
    if (config->max_deliver > 0 && (int64_t)config->backoff.count > config->max_deliver) {
        return refuse(c, 10116, NULL);
    }
    return true;
}

static bool forms_cycle(const struct check *c)
{
    const struct rb_doc_strings *subjects = &c->stream->config->subjects;
    for (uint32_t i = 0; i < subjects->count; i++) {
        if (rb_subject_overlap(subjects->items[i], c->config->deliver_subject)) {
            return true;
        }
    }
    return false;
}

static bool check_push(struct check *c)
{
    struct rb_js_consumer_config *config = c->config;
    if (rb_subject_has_wildcard(config->deliver_subject)) {
        return refuse(c, 10079, NULL);
    }
    if (!rb_subject_valid(config->deliver_subject)) {
        return refuse(c, 10112, NULL);
    }
    if (forms_cycle(c)) {
        return refuse(c, 10081, NULL);
    }
    if (config->max_waiting != 0) {
        return refuse(c, 10080, NULL);
    }
    if (config->max_ack_pending > 0 && config->ack_policy == RB_JS_ACK_NONE) {
        return refuse(c, 10082, NULL);
    }
    if (config->idle_heartbeat > 0 && config->idle_heartbeat < HEARTBEAT_MIN) {
        return refuse(c, 10083, NULL);
    }
    return true;
}

static bool check_pull(struct check *c)
{
    struct rb_js_consumer_config *config = c->config;
    int64_t max_batch = c->stream->account->js->settings->max_request_batch;
    if (config->ack_policy == RB_JS_ACK_NONE && c->stream->config->retention == RB_JS_WORKQUEUE) {
        return refuse(c, 10084, NULL);
    }
    if (config->rate_limit_bps > 0) {
        return refuse(c, 10086, NULL);
    }
    if (config->idle_heartbeat > 0) {
        return refuse(c, 10088, NULL);
    }
    if (config->flow_control) {
        return refuse(c, 10089, NULL);
    }
    if (config->max_expires > 0 && config->max_expires < EXPIRES_MIN) {
        return refuse(c, 10115, NULL);
    }
    if (max_batch > 0 && config->max_batch > max_batch) {
        char limit[24];
        (void)snprintf(limit, sizeof(limit), "%lld", (long long)max_batch);
        return refuse(c, 10125, limit);
    }
    return true;
}

static bool within(struct check *c, int64_t value, int64_t limit, uint16_t code)
{
    if (limit <= 0 || value <= limit) {
        return true;
    }
    char text[24];
    (void)snprintf(text, sizeof(text), "%lld", (long long)limit);
    return refuse(c, code, text);
}

static bool check_limits(struct check *c)
{
    const struct rb_js_account *account = c->stream->account;
    const struct rb_js_consumer_limits *limits = &c->stream->config->consumer_limits;
    int64_t pending = c->config->max_ack_pending;
    if (c->config->ack_policy != RB_JS_ACK_NONE &&
        !(within(c, pending, account->js->settings->max_ack_pending, 10121) &&
          within(c, pending, account->limits.max_ack_pending, 10121) &&
          within(c, pending, limits->max_ack_pending, 10121))) {
        return false;
    }
    int64_t limit = limits->inactive_threshold;
    if (limit > 0 && c->config->inactive_threshold > limit) {
        char text[RB_JS_DURATION_MAX];
        (void)rb_js_duration_format(limit, text);
        return refuse(c, 10153, text);
    }
    return true;
}

static bool check_filters(struct check *c)
{
    struct rb_js_consumer_config *config = c->config;
    const struct rb_doc_strings *filters = &config->filter_subjects;
    if (config->filter_subject.len > 0 && filters->count > 0) {
        return refuse(c, 10136, NULL);
    }
    if (config->filter_subject.len > 0 && !rb_subject_valid(config->filter_subject)) {
        return refuse(c, 10052, "invalid subject");
    }
    for (uint32_t i = 0; i < filters->count; i++) {
        struct rb_slice filter = filters->items[i];
        if (filter.len == 0) {
            return refuse(c, 10139, NULL);
        }
        if (!rb_subject_valid(filter)) {
            return refuse(c, 10052, "invalid subject");
        }
        for (uint32_t j = 0; j < filters->count; j++) {
            if (j != i && rb_subject_overlap(filters->items[j], filter)) {
                return refuse(c, 10138, NULL);
            }
        }
    }
    return true;
}

static bool refuse_start(struct check *c, const char *policy, const char *but)
{
    rb_js_error_format(c->error, 10094, "consumer delivery policy is deliver %s, but optional %s",
                       policy, but);
    return false;
}

static bool check_start(struct check *c)
{
    static const char *const names[] = { "all",           "last",
                                         "new",           "by start sequence",
                                         "by start time", "last per subject" };
    const struct rb_js_consumer_config *config = c->config;
    const char *name = names[config->deliver_policy];
    bool sequence = config->opt_start_seq > 0, time = config->opt_start_time != RB_DOC_NO_TIME;
    switch (config->deliver_policy) {
    case RB_JS_DELIVER_BY_START_SEQUENCE:
        if (!sequence) {
            return refuse_start(c, name, "start sequence is not set");
        }
        return !time || refuse_start(c, name, "start time is also set");
    case RB_JS_DELIVER_BY_START_TIME:
        if (!time) {
            return refuse_start(c, name, "start time is not set");
        }
        return !sequence || refuse_start(c, name, "start start sequence is also set");
    case RB_JS_DELIVER_LAST_PER_SUBJECT:
        if (sequence) {
            return refuse_start(c, name, "start sequence is also set");
        }
        if (time) {
            return refuse_start(c, name, "start time is also set");
        }
        return config->filter_subject.len > 0 || config->filter_subjects.count > 0 ||
               refuse_start(c, name, "filter subject is not set");
    default:
        if (sequence) {
            return refuse_start(c, name, "start sequence is also set");
        }
        return !time || refuse_start(c, name, "start time is also set");
    }
}

int32_t rb_js_sample_percent(struct rb_slice freq)
{
    uint64_t percent;
    if (freq.len > 0 && freq.ptr[freq.len - 1] == '%') {
        freq.len--;
    }
    return rb_slice_decimal(freq, 9, &percent) ? (int32_t)percent : -1;
}

static bool check_sampling(struct check *c)
{
    struct rb_slice freq = c->config->sample_freq;
    if (freq.len == 0 || rb_js_sample_percent(freq) >= 0) {
        return true;
    }
    if (freq.ptr[freq.len - 1] == '%') {
        freq.len--;
    }
    uint64_t number;
    if (freq.len > 1 && freq.ptr[0] == '-' &&
        rb_slice_decimal(rb_slice_of(freq.ptr + 1, freq.len - 1), 9, &number)) {
        return refuse(c, 10095, "<nil>"); /* a number, but not one of percent */
    }
    char quoted[200], text[240];
    size_t len = rb_format_quoted((uint8_t *)quoted, sizeof(quoted) - 1, freq);
    quoted[len] = '\0';
    (void)snprintf(text, sizeof(text), "strconv.Atoi: parsing \"%s\": invalid syntax", quoted);
    return refuse(c, 10095, text);
}

bool rb_js_group_name_valid(struct rb_slice name)
{
    if (name.len == 0 || name.len > GROUP_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t at = name.ptr[i];
        if (!((at >= 'a' && at <= 'z') || (at >= 'A' && at <= 'Z') || (at >= '0' && at <= '9') ||
              at == '/' || at == '_' || at == '=' || at == '-')) {
            return false;
        }
    }
    return true;
}

static bool check_priority(struct check *c)
{
    const struct rb_js_consumer_config *config = c->config;
    const struct rb_doc_strings *groups = &config->priority_groups;
    if (config->priority_policy == RB_JS_PRIORITY_NONE) {
        if (groups->count > 0) {
            return refuse(c, 10196, NULL);
        }
        return config->priority_timeout == 0 || refuse(c, 10197, NULL);
    }
    if (config->deliver_subject.len > 0) {
        return refuse(c, 10178, NULL);
    }
    if (groups->count == 0) {
        return refuse(c, 10159, NULL);
    }
    for (uint32_t i = 0; i < groups->count; i++) {
        if (groups->items[i].len == 0) {
            return refuse(c, 10161, NULL);
        }
        if (!rb_js_group_name_valid(groups->items[i])) {
            return refuse(c, 10162, NULL);
        }
    }
    return true;
}

static bool check_rest(struct check *c)
{
    const struct rb_js_consumer_config *config = c->config;
    if (config->flow_control && config->idle_heartbeat == 0) {
        return refuse(c, 10108, NULL);
    }
    if (config->durable_name.len > 0 && !rb_slice_equal(config->durable_name, config->name)) {
        return refuse(c, 10132, NULL);
    }
    size_t bytes = 0;
    for (uint32_t i = 0; i < config->metadata.count; i++) {
        bytes += config->metadata.items[i].key.len + config->metadata.items[i].value.len;
    }
    if (bytes > METADATA_MAX) {
        return refuse(c, 10135, "128KB");
    }
    return check_priority(c);
}

static bool check_rules(struct check *c)
{
    const struct rb_js_consumer_config *config = c->config;
    if (!check_names(c) || !check_replicas(c) || !check_acks(c)) {
        return false;
    }
    if (config->description.len > DESCRIPTION_MAX) {
        return refuse(c, 10107, "4096");
    }
    if (!(config->deliver_subject.len > 0 ? check_push(c) : check_pull(c)) || !check_limits(c)) {
        return false;
    }
    if (config->direct && config->deliver_subject.len == 0) {
        return refuse(c, 10090, NULL);
    }
    if (config->direct && config->durable_name.len > 0) {
        return refuse(c, 10091, NULL);
    }
    return check_filters(c) && check_start(c) && check_sampling(c) && check_rest(c);
}

bool rb_js_consumer_may_become(const struct rb_js_consumer_config *was,
                               const struct rb_js_consumer_config *now, struct rb_js_error *error)
{
    const struct {
        bool changed;
        const char *text;
    } rules[] = {
        { now->deliver_policy != was->deliver_policy, "deliver policy can not be updated" },
        { now->mem_storage != was->mem_storage, "storage type can not be updated" },
        { now->direct != was->direct, "direct can not be updated" },
        { now->sourcing != was->sourcing, "sourcing can not be updated" },
        { now->opt_start_seq != was->opt_start_seq, "start sequence can not be updated" },
        { now->opt_start_time != was->opt_start_time, "start time can not be updated" },
        { now->ack_policy != was->ack_policy, "ack policy can not be updated" },
        { now->replay_policy != was->replay_policy, "replay policy can not be updated" },
        { now->idle_heartbeat != was->idle_heartbeat, "heart beats can not be updated" },
        { now->flow_control != was->flow_control, "flow control can not be updated" },
        { now->deliver_subject.len > 0 && was->deliver_subject.len == 0,
          "can not update pull consumer to push based" },
        { now->deliver_subject.len == 0 && was->deliver_subject.len > 0,
          "can not update push consumer to pull based" },
        { now->max_waiting != was->max_waiting, "max waiting can not be updated" },
    };
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (rules[i].changed) {
            rb_js_error_set(error, 10012, rules[i].text);
            return false;
        }
    }
    return true;
}

static const struct rb_slice level_key = { (const uint8_t *)"_nats.req.level", 15 };

static struct rb_slice level_of(const struct rb_js_consumer_config *config, bool pin_timeout)
{
    if (config->ack_policy == RB_JS_ACK_FLOW_CONTROL) {
        return RB_S("4");
    }
    return config->pause_until != RB_DOC_NO_TIME ||
                   config->priority_policy != RB_JS_PRIORITY_NONE || pin_timeout
               ? RB_S("1")
               : RB_S("0");
}

void rb_js_consumer_set_pause(struct rb_js_consumer_config *config, int64_t until_ns)
{
    config->pause_until = until_ns;
    for (uint32_t i = 0; i < config->metadata.count; i++) {
        if (rb_slice_equal(config->metadata.items[i].key, level_key)) {
            config->metadata.items[i].value = level_of(config, config->priority_timeout != 0);
        }
    }
}

/* Says in the metadata which level of the API it needs; keys of the server that a client sent go. */
static bool note_level(struct check *c)
{
    const struct rb_slice key = level_key;
    struct rb_js_consumer_config *config = c->config;
    struct rb_doc_pair *items =
        rb_arena_take(c->arena, (config->metadata.count + 1) * sizeof(*items));
    if (items == NULL) {
        return refuse(c, 10023, NULL);
    }
    struct rb_slice level = level_of(config, c->pin_timeout);
    uint32_t count = 0;
    bool placed = false;
    for (uint32_t i = 0; i < config->metadata.count; i++) {
        struct rb_doc_pair pair = config->metadata.items[i];
        size_t least = pair.key.len < key.len ? pair.key.len : key.len;
        int order = least == 0 ? 0 : memcmp(pair.key.ptr, key.ptr, least);
        if (rb_slice_starts(pair.key, RB_S("_nats."))) {
            continue;
        }
        if (!placed && (order > 0 || (order == 0 && pair.key.len > least))) {
            items[count++] = (struct rb_doc_pair){ key, level };
            placed = true;
        }
        items[count++] = pair;
    }
    if (!placed) {
        items[count++] = (struct rb_doc_pair){ key, level };
    }
    config->metadata.items = items;
    config->metadata.count = count;
    config->metadata.present = true;
    return true;
}

bool rb_js_consumer_config_check(struct rb_js_stream *stream, struct rb_js_consumer_config *config,
                                 struct rb_arena *arena, bool pedantic,
                                 const struct rb_js_consumer_config *existing, bool updates,
                                 struct rb_js_error *error)
{
    struct check c = {
        stream, config, arena, error, pedantic, existing != NULL, config->priority_timeout != 0
    };
    if (!fill_in(&c) || !check_rules(&c)) {
        return false;
    }
    if (existing != NULL) {
        config->pause_until = existing->pause_until;
        if (updates && !rb_js_consumer_may_become(existing, config, error)) {
            return false;
        }
    }
    return note_level(&c);
}
