/* stream_rules.c - what a stream may be configured as: defaults, rules, what an update may change. Checks come in nats-server's
 * order, so that the first broken rule is the one that is named (reference: jetstream.md 5, 6). */
#include <stdio.h>
#include <string.h>

#include "js/duration.h"
#include "js/js.h"
#include "js/source.h"
#include "js/stream.h"
#include "js/stream_inside.h"
#include "proto/subject.h"
#include "proto/transform.h"

#define DESCRIPTION_MAX 4096u
#define METADATA_MAX (128u << 10)
#define WINDOW_NS (INT64_C(120) * 1000000000)
#define SMALLEST_NS INT64_C(100000000)
#define SECOND_NS INT64_C(1000000000)
#define LEVEL_KEY RB_S("_nats.req.level")

struct check {
    struct rb_js_account *account;
    struct rb_js_stream_config *config;
    struct rb_arena *arena;
    const struct rb_js_stream_config *update;
    struct rb_js_error *error;
};

static bool invalid(struct check *c, const char *text)
{
    rb_js_error_set(c->error, 10052, text);
    return false;
}

static bool pedantic(struct check *c, const char *text)
{
    rb_js_error_set(c->error, 10157, text);
    return false;
}

static bool refused(struct check *c, uint16_t code)
{
    rb_js_error_set(c->error, code, NULL);
    return false;
}

static bool unsupported(struct check *c, const char *option)
{
    rb_js_error_format(c->error, 10052, "%s is not supported by ringbus yet", option);
    return false;
}

bool rb_js_name_valid(struct rb_slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '\0' || strchr(" \t\r\n\f.*>\\/", name.ptr[i]) != NULL) {
            return false;
        }
    }
    return name.len > 0;
}

static bool check_texts(struct check *c)
{
    const struct rb_js_stream_config *config = c->config;
    if (!rb_js_name_valid(config->name)) {
        return invalid(c, "stream name is required and can not contain '.', '*', '>', '\\', '/'");
    }
    if (config->name.len > RB_JS_NAME_MAX) {
        return invalid(c, "stream name is too long, maximum allowed is 255");
    }
    if (config->description.len > DESCRIPTION_MAX) {
        return invalid(c, "stream description is too long, maximum allowed is 4096");
    }
    size_t bytes = 0;
    for (uint32_t i = 0; i < config->metadata.count; i++) {
        bytes += config->metadata.items[i].key.len + config->metadata.items[i].value.len;
    }
    return bytes <= METADATA_MAX ||
           invalid(c, "stream metadata exceeds maximum size of 131072 bytes");
}

/* 0 and less become -1. */
static bool check_limit(struct check *c, int64_t *value, const char *name)
{
    if (*value < -1 && c->config->pedantic) {
        char text[64];
        (void)snprintf(text, sizeof(text), "%s must be set to -1", name);
        return pedantic(c, text);
    }
    *value = *value <= 0 ? -1 : *value;
    return true;
}

static bool check_limits(struct check *c)
{
    struct rb_js_stream_config *config = c->config;
    if (config->num_replicas == 0) {
        config->num_replicas = 1;
    }
    if (config->num_replicas > 5) {
        return invalid(c, "maximum replicas is 5");
    }
    if (config->num_replicas < 0) {
        return refused(c, 10133);
    }
    int64_t size = config->max_msg_size;
    bool good = check_limit(c, &config->max_msgs, "max_msgs") &&
                check_limit(c, &config->max_msgs_per_subject, "max_msgs_per_subject") &&
                check_limit(c, &config->max_bytes, "max_bytes") &&
                check_limit(c, &size, "max_msg_size") &&
                check_limit(c, &config->max_consumers, "max_consumers");
    config->max_msg_size = (int32_t)size;
    if (!good) {
        return false;
    }
    if (config->max_age < 0) {
        return invalid(c, "max age can not be negative");
    }
    return config->max_age == 0 || config->max_age >= SMALLEST_NS ||
           invalid(c, "max age needs to be >= 100ms");
}

static bool check_window(struct check *c)
{
    struct rb_js_stream_config *config = c->config;
    int64_t limit = c->account->js->settings->duplicate_window;
    if (config->duplicate_window == 0 && config->mirror == NULL && config->sources.count == 0) {
        int64_t window = WINDOW_NS;
        if (limit > 0 && window > limit) {
            if (config->pedantic) {
                return pedantic(c, "duplicate window limits are higher than current limits");
            }
            window = limit;
        }
        if (config->max_age != 0 && config->max_age < window) {
            if (config->pedantic) {
                return pedantic(c, "duplicate window cannot be bigger than max age");
            }
            window = config->max_age;
        }
        config->duplicate_window = window;
    }
    if (config->duplicate_window < 0) {
        return invalid(c, "duplicates window can not be negative");
    }
    if (config->max_age > 0 && config->duplicate_window > config->max_age) {
        return invalid(c, "duplicates window can not be larger then max age");
    }
    if (limit > 0 && config->duplicate_window > limit) {
        char duration[RB_JS_DURATION_MAX], text[128];
        (void)rb_js_duration_format(limit, duration);
        (void)snprintf(text, sizeof(text),
                       "duplicates window can not be larger then server limit of %s", duration);
        return invalid(c, text);
    }
    return config->duplicate_window == 0 || config->duplicate_window >= SMALLEST_NS ||
           invalid(c, "duplicates window needs to be >= 100ms");
}

static bool check_marker(struct check *c)
{
    struct rb_js_stream_config *config = c->config;
    if (config->subject_delete_marker_ttl < 0) {
        return invalid(c, "subject delete marker TTL must not be negative");
    }
    if (config->subject_delete_marker_ttl == 0) {
        return true;
    }
    if (config->subject_delete_marker_ttl < SECOND_NS) {
        return invalid(c, "subject delete marker TTL must be at least 1 second");
    }
    if (config->pedantic && !config->allow_msg_ttl) {
        return invalid(c, "subject delete marker cannot be set if message TTLs are disabled");
    }
    if (config->pedantic && !config->allow_rollup_hdrs) {
        return invalid(c, "subject delete marker cannot be set if roll-ups are disabled");
    }
    config->allow_msg_ttl = config->allow_rollup_hdrs = true;
    config->deny_purge = false;
    return true;
}

static bool check_counter(struct check *c)
{
    const struct rb_js_stream_config *config = c->config;
    if (config->discard == RB_JS_DISCARD_NEW) {
        return invalid(c, "counter stream cannot use discard new");
    }
    if (config->allow_msg_ttl) {
        return invalid(c, "counter stream cannot use message TTLs");
    }
    if (config->allow_msg_schedules) {
        return invalid(c, "counter stream cannot use message schedules");
    }
    return config->retention == RB_JS_LIMITS ||
           invalid(c, "counter stream can only use limits retention");
}

static bool check_persist(struct check *c)
{
    const struct rb_js_stream_config *config = c->config;
    if (config->persist_mode == RB_JS_PERSIST_ASYNC) {
        if (config->storage != RB_JS_FILE) {
            return invalid(c, "async persist mode is only supported on file storage");
        }
        if (config->num_replicas > 1) {
            return invalid(c, "async persist mode is not supported on replicated streams");
        }
        if (config->allow_atomic) {
            return invalid(c, "async persist mode is not supported with atomic batch publish");
        }
    }
    return true;
}

/* What is known, and refused by name. */
static bool check_supported(struct check *c)
{
    const struct rb_js_stream_config *config = c->config;
    if (config->compression == RB_JS_COMPRESSION_S2) {
        return unsupported(c, "compression s2");
    }
    return true;
}

static bool check_options(struct check *c)
{
    struct rb_js_stream_config *config = c->config;
    if (config->deny_purge && config->allow_rollup_hdrs) {
        return invalid(c, "roll-ups require the purge permission");
    }
    if (config->allow_msg_counter && !check_counter(c)) {
        return false;
    }
    if (config->discard_new_per_subject && config->discard != RB_JS_DISCARD_NEW) {
        return invalid(c, "discard new per subject requires discard new policy to be set");
    }
    if (config->discard_new_per_subject && config->max_msgs_per_subject <= 0) {
        return invalid(c, "discard new per subject requires max msgs per subject > 0");
    }
    if (!check_marker(c)) {
        return false;
    }
    if (config->allow_msg_schedules && config->discard == RB_JS_DISCARD_NEW) {
        return invalid(c, "message scheduling cannot use discard new");
    }
    if (config->allow_msg_schedules && config->pedantic && !config->allow_rollup_hdrs) {
        return invalid(c, "message scheduling cannot be set if roll-ups are disabled");
    }
    if (config->allow_msg_schedules) {
        config->allow_rollup_hdrs = true;
        config->deny_purge = false;
    }
    return check_persist(c) && rb_js_source_rules(c->account, config, c->update, c->error) &&
           check_supported(c);
}

/* Subjects that are the server's own. */
static bool check_reserved(struct check *c, struct rb_slice subject)
{
    const struct rb_js_stream_config *config = c->config;
    if (rb_slice_equal(subject, RB_S(">"))) {
        if (!config->no_ack) {
            return invalid(c, "capturing all subjects requires no-ack to be true");
        }
        if (config->num_replicas != 1) {
            return invalid(c, "capturing all subjects requires replicas of 1");
        }
    }
    if (config->no_ack) {
        return true;
    }
    static const struct rb_slice api[] = { { (const uint8_t *)"$JS.>", 5 },
                                           { (const uint8_t *)"$JSC.>", 6 },
                                           { (const uint8_t *)"$NRG.>", 6 } };
    for (size_t i = 0; i < sizeof(api) / sizeof(api[0]); i++) {
        if (rb_subject_overlap(subject, api[i]) &&
            !rb_subject_subset(subject, RB_S("$JS.EVENT.>"))) {
            return invalid(c, "subjects that overlap with jetstream api require no-ack to be true");
        }
    }
    if (rb_subject_overlap(subject, RB_S("$SYS.>")) &&
        !rb_subject_subset(subject, RB_S("$SYS.ACCOUNT.>"))) {
        return invalid(c, "subjects that overlap with system api require no-ack to be true");
    }
    return true;
}

static bool check_subjects(struct check *c)
{
    struct rb_js_stream_config *config = c->config;
    if (config->subjects.count == 0 && config->mirror == NULL && config->sources.count == 0) {
        struct rb_slice *items = rb_arena_take(c->arena, sizeof(*items));
        if (items == NULL) {
            return refused(c, 10023);
        }
        items[0] = config->name;
        config->subjects = (struct rb_doc_strings){ items, 1 };
    }
    for (uint32_t i = 0; i < config->subjects.count; i++) {
        struct rb_slice subject = config->subjects.items[i];
        if (!rb_subject_valid(subject)) {
            return invalid(c, "invalid subject");
        }
        if (!check_reserved(c, subject)) {
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            struct rb_slice other = config->subjects.items[k];
            if (rb_subject_overlap(other, subject)) {
                rb_js_error_format(c->error, 10052, "subject \"%.*s\" overlaps with \"%.*s\"",
                                   RB_S_ARG(other), RB_S_ARG(subject));
                return false;
            }
        }
    }
    return true;
}

static bool check_transform(struct check *c)
{
    const struct rb_js_transform *transform = c->config->subject_transform;
    if (transform == NULL) {
        return true;
    }
    char text[RB_TRANSFORM_ERROR_MAX];
    if (transform->src.len > 0 && !rb_subject_valid(transform->src)) {
        rb_js_error_format(c->error, 10155, "invalid subject %.*s", RB_S_ARG(transform->src));
        return false;
    }
    struct rb_transform *compiled;
    if (rb_transform_create(RB_TRANSFORM_ANY, transform->src.len == 0 ? RB_S(">") : transform->src,
                            transform->dest, &compiled, text) != RB_OK) {
        rb_js_error_set(c->error, 10156, text);
        return false;
    }
    rb_transform_destroy(compiled);
    return true;
}

static bool invalid_republish(struct check *c)
{
    const struct rb_js_republish *republish = c->config->republish;
    rb_js_error_format(
        c->error, 10052,
        "stream configuration for republish with transform from '%.*s' to '%.*s' not valid",
        RB_S_ARG(republish->src), RB_S_ARG(republish->dest));
    return false;
}

static bool check_republish(struct check *c)
{
    struct rb_js_stream_config *config = c->config;
    struct rb_js_republish *republish = config->republish;
    if (republish == NULL) {
        return true;
    }
    if (republish->src.len == 0) {
        if (config->pedantic) {
            return pedantic(c, "republish source can not be empty");
        }
        republish->src = RB_S(">");
    }
    const struct rb_js_transform *transform = config->subject_transform;
    if (rb_slice_equal(republish->src, RB_S(">")) && rb_slice_equal(republish->dest, RB_S(">")) &&
        transform != NULL && config->subjects.count == 1 &&
        rb_slice_equal(transform->src, config->subjects.items[0])) {
        if (config->pedantic) {
            return pedantic(c, "implicit republish based on subject transform");
        }
        republish->src = republish->dest = transform->dest;
    }
    for (uint32_t i = 0; i < config->subjects.count; i++) {
        if (rb_subject_overlap(republish->dest, config->subjects.items[i])) {
            return invalid(c, "stream configuration for republish destination forms a cycle");
        }
    }
    char text[RB_TRANSFORM_ERROR_MAX];
    struct rb_transform *compiled;
    if (rb_transform_create(RB_TRANSFORM_ANY, republish->src, republish->dest, &compiled, text) !=
        RB_OK) {
        return invalid_republish(c);
    }
    rb_transform_destroy(compiled);
    return true;
}

static bool check_placement(struct check *c)
{
    struct rb_js_placement *placement = c->config->placement;
    if (placement == NULL) {
        return true;
    }
    if (placement->preferred.len > 0) {
        return invalid(c, "preferred server not permitted in placement");
    }
    if (placement->cluster.len == 0 && placement->tags.count == 0) {
        c->config->placement = NULL;
    }
    return true;
}

static uint32_t level_of(const struct rb_js_stream_config *config)
{
    if (config->allow_batched) {
        return 4;
    }
    if (config->allow_msg_counter || config->allow_atomic || config->allow_msg_schedules ||
        config->persist_mode == RB_JS_PERSIST_ASYNC) {
        return 2;
    }
    return config->allow_msg_ttl || config->subject_delete_marker_ttl != 0 ? 1 : 0;
}

/* The level that is needed is kept with the configuration; what only describes this server is not. */
static bool set_metadata(struct check *c)
{
    static const char *const levels[] = { "0", "1", "2", "3", "4" };
    struct rb_doc_map *metadata = &c->config->metadata;
    struct rb_doc_pair *items =
        rb_arena_take(c->arena, (metadata->count + 1) * sizeof(struct rb_doc_pair));
    if (items == NULL) {
        return refused(c, 10023);
    }
    struct rb_doc_pair level = { LEVEL_KEY, rb_slice_text(levels[level_of(c->config)]) };
    uint32_t count = 0;
    bool placed = false;
    for (uint32_t i = 0; i < metadata->count; i++) {
        struct rb_doc_pair pair = metadata->items[i];
        if (rb_slice_equal(pair.key, LEVEL_KEY) || rb_slice_equal(pair.key, RB_S("_nats.ver")) ||
            rb_slice_equal(pair.key, RB_S("_nats.level"))) {
            continue;
        }
        size_t common = pair.key.len < level.key.len ? pair.key.len : level.key.len;
        int order = memcmp(pair.key.ptr, level.key.ptr, common);
        if (!placed && (order > 0 || (order == 0 && pair.key.len > level.key.len))) {
            items[count++] = level;
            placed = true;
        }
        items[count++] = pair;
    }
    if (!placed) {
        items[count++] = level;
    }
    *metadata = (struct rb_doc_map){ .items = items, .count = count, .present = true };
    return true;
}

/* What an update may not change. */
static bool check_update(struct check *c)
{
    struct rb_js_stream_config *config = c->config;
    const struct rb_js_stream_config *old = c->update;
    if (!rb_slice_equal(config->name, old->name)) {
        return invalid(c, "stream configuration name must match original");
    }
    if (config->storage != old->storage) {
        return invalid(c, "stream configuration update can not change storage type");
    }
    if (config->retention != old->retention &&
        (config->retention == RB_JS_WORKQUEUE || old->retention == RB_JS_WORKQUEUE)) {
        return invalid(
            c, "stream configuration update can not change retention policy to/from workqueue");
    }
    if (!config->sealed && old->sealed) {
        return invalid(c, "stream configuration update can not unseal a sealed stream");
    }
    if (!config->deny_delete && old->deny_delete) {
        return invalid(c, "stream configuration update can not cancel deny message deletes");
    }
    if (!config->deny_purge && old->deny_purge) {
        return invalid(c, "stream configuration update can not cancel deny purge");
    }
    if (!config->allow_msg_ttl && old->allow_msg_ttl) {
        return invalid(c, "message TTL status can not be disabled");
    }
    if (config->allow_msg_counter != old->allow_msg_counter) {
        return invalid(c, "stream configuration update can not change message counter setting");
    }
    if (!config->allow_msg_schedules && old->allow_msg_schedules) {
        return invalid(c, "message schedules can not be disabled");
    }
    if (config->persist_mode != old->persist_mode) {
        return invalid(c, "stream configuration update can not change persist mode");
    }
    if (config->mirror != NULL &&
        (old->mirror == NULL ||
         !rb_doc_equal(&rb_js_source_config_type, config->mirror, old->mirror))) {
        return refused(c, 10055);
    }
    if (config->sealed && !old->sealed) {
        config->max_age = 0;
        config->discard = RB_JS_DISCARD_NEW;
        config->deny_delete = config->deny_purge = true;
        config->allow_rollup_hdrs = false;
    }
    return true;
}

static bool check_account_limits(struct check *c)
{
    const struct rb_js_stream_config *config = c->config, *old = c->update;
    const struct rb_js_account *account = c->account;
    const struct rb_js_limits *limits = &account->limits;
    struct rb_js *js = account->js;
    bool memory = config->storage == RB_JS_MEMORY;
    if (old == NULL && limits->max_streams > 0 &&
        (int64_t)account->stream_count >= limits->max_streams) {
        return refused(c, 10027);
    }
    if (config->max_consumers > 0 && limits->max_consumers > 0 &&
        config->max_consumers > limits->max_consumers) {
        return refused(c, 10026);
    }
    if (config->max_bytes <= 0) {
        return true;
    }
    int64_t before = old != NULL && old->max_bytes > 0 ? old->max_bytes : 0;
    int64_t more = config->max_bytes - before;
    int64_t account_limit = memory ? limits->max_memory : limits->max_storage;
    int64_t account_now = memory ? account->reserved_memory : account->reserved_storage;
    int64_t server_limit = memory ? js->settings->max_memory : js->settings->max_storage;
    int64_t server_now =
        atomic_load_explicit(memory ? &js->shared->reserved_memory : &js->shared->reserved_storage,
                             memory_order_relaxed);
    bool over = (account_limit >= 0 && more > account_limit - account_now) ||
                (server_limit >= 0 && more > server_limit - server_now);
    return more <= 0 || !over || refused(c, memory ? 10028 : 10047);
}

static bool check_bytes(struct check *c)
{
    const struct rb_js_stream_config *config = c->config;
    const struct rb_js_limits *limits = &c->account->limits;
    int64_t cap = config->storage == RB_JS_MEMORY ? limits->memory_max_stream_bytes
                                                  : limits->storage_max_stream_bytes;
    if (limits->max_bytes_required && config->max_bytes <= 0) {
        return refused(c, 10113);
    }
    return cap <= 0 || config->max_bytes <= cap || refused(c, 10122);
}

bool rb_js_stream_config_check(struct rb_js_account *account, struct rb_js_stream_config *config,
                               struct rb_arena *arena, const struct rb_js_stream_config *update,
                               struct rb_js_error *error)
{
    struct check c = { account, config, arena, update, error };
    if (update == NULL && config->sealed) {
        return invalid(&c, "stream configuration for create can not be sealed");
    }
    if (update == NULL && config->mirror == NULL && config->mirror_direct) {
        return invalid(&c, "stream has no mirror but does have mirror direct");
    }
    bool good = check_texts(&c) && check_limits(&c) && check_window(&c) && check_options(&c) &&
                check_subjects(&c) && check_bytes(&c) && check_transform(&c) &&
                check_republish(&c) && check_placement(&c) &&
                rb_js_source_cycles(account, config, error) && (update == NULL || check_update(&c));
    if (!good) {
        return false;
    }
    if (config->num_replicas > 1) {
        return refused(&c, 10074);
    }
    return set_metadata(&c);
}

bool rb_js_stream_room_check(struct rb_js_account *account,
                             const struct rb_js_stream_config *config,
                             const struct rb_js_stream *but, struct rb_js_error *error)
{
    struct check c = { .account = account,
                       .config = (struct rb_js_stream_config *)(uintptr_t)config,
                       .update = but == NULL ? NULL : but->config,
                       .error = error };
    if (!check_account_limits(&c)) {
        return false;
    }
    for (uint32_t i = 0; i < config->subjects.count; i++) {
        if (rb_js_stream_overlapping(account, config->subjects.items[i], but) != NULL) {
            return refused(&c, 10065);
        }
    }
    return true;
}
