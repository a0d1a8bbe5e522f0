/* stream.c - one stream: made, found, configured, applied to, freed. Its life is in change.c, its messages in publish.c.
 *
 *   OPENING --logged and store opened, or replayed--> SERVING --delete--> DELETING --drop durable, files gone--> freed
 *      `------------------ damage, a command nobody knows, memory refused in apply ------------------> OFFLINE
 */
#include "js/stream.h"

#include <stdio.h>
#include <string.h>

#include "js/api.h"
#include "js/consumer.h"
#include "js/stream_inside.h"
#include "proto/subject.h"
#include "ringbus/check.h"

#define ARENA_BYTES 1024
#define GONE_FIRST 64u

static bool consumer_equal(const void *item, struct rb_slice key)
{
    return rb_slice_equal(((const struct rb_js_consumer *)item)->name, key);
}

static uint64_t consumer_hash(const void *item)
{
    return rb_slice_hash(((const struct rb_js_consumer *)item)->name);
}

/* ---- names ---- */

struct rb_js_stream *rb_js_stream_any(struct rb_js_account *account, struct rb_slice name)
{
    return rb_map_find(&account->stream_map, rb_slice_hash(name), name);
}

struct rb_js_stream *rb_js_stream_find(struct rb_js_account *account, struct rb_slice name)
{
    struct rb_js_stream *stream = rb_js_stream_any(account, name);
    bool made = stream != NULL &&
                (stream->phase != RB_JS_STREAM_OPENING || stream->inside->recovery != NULL);
    return made ? stream : NULL;
}

struct rb_js_stream *rb_js_stream_overlapping(struct rb_js_account *account,
                                              struct rb_slice subject,
                                              const struct rb_js_stream *but)
{
    for (struct rb_list *link = account->streams.next; link != &account->streams;
         link = link->next) {
        struct rb_js_stream *stream = RB_CONTAINER(link, struct rb_js_stream, link);
        if (stream == but) {
            continue;
        }
        const struct rb_doc_strings *subjects = &stream->config->subjects;
        for (uint32_t i = 0; i < subjects->count; i++) {
            if (rb_subject_overlap(subjects->items[i], subject)) {
                return stream;
            }
        }
    }
    return NULL;
}

static int compare(struct rb_slice a, struct rb_slice b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = memcmp(a.ptr, b.ptr, common);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static enum rb_err name_stream(struct rb_js_stream *stream)
{
    struct rb_js_account *account = stream->account;
    enum rb_err err = rb_map_insert(&account->stream_map, rb_slice_hash(stream->name), stream);
    if (err != RB_OK) {
        return err;
    }
    struct rb_list *at = account->streams.prev;
    while (at != &account->streams &&
           compare(RB_CONTAINER(at, struct rb_js_stream, link)->name, stream->name) > 0) {
        at = at->prev;
    }
    rb_list_append(at->next, &stream->link); /* before the one that follows */
    account->stream_count++;
    atomic_fetch_add_explicit(&account->js->shared->streams, 1, memory_order_relaxed);
    return RB_OK;
}

/* What its configuration reserves counts in account and server. */
static void reserve(struct rb_js_stream *stream, int64_t bytes)
{
    struct rb_js_account *account = stream->account;
    struct rb_js_shared *shared = account->js->shared;
    bool memory = stream->config->storage == RB_JS_MEMORY;
    int64_t more = bytes - stream->inside->reserved;
    stream->inside->reserved = bytes;
    *(memory ? &account->reserved_memory : &account->reserved_storage) += more;
    atomic_fetch_add_explicit(memory ? &shared->reserved_memory : &shared->reserved_storage, more,
                              memory_order_relaxed);
}

void rb_js_stream_unname(struct rb_js_stream *stream)
{
    struct rb_js_account *account = stream->account;
    if (rb_list_empty(&stream->link)) {
        return;
    }
    rb_js_stream_unlisten(stream);
    rb_js_sources_stop(stream, !account->js->closing);
    rb_js_schedules_stop(stream);
    rb_js_batches_drop(stream);
    rb_wheel_disarm(&account->js->wheel, &stream->inside->alarm.timer);
    bool found = rb_map_remove(&account->stream_map, rb_slice_hash(stream->name), stream);
    rb_assert(found);
    rb_list_remove(&stream->link);
    account->stream_count--;
    atomic_fetch_sub_explicit(&account->js->shared->streams, 1, memory_order_relaxed);
    reserve(stream, 0);
}

void rb_js_stream_directory(uint64_t group, char out[RB_JS_DIRECTORY_MAX])
{
    (void)snprintf(out, RB_JS_DIRECTORY_MAX, "streams/%llu", (unsigned long long)group);
}

/* ---- configuration ---- */

/* {"stream":"S","domain":"D","seq": */
static bool make_ack_head(struct rb_js_stream *stream)
{
    struct rb_js *js = stream->account->js;
    uint8_t head[4 * RB_JS_NAME_MAX + 600];
    size_t cap = sizeof(head), at = 0;
    at += (size_t)snprintf((char *)head, cap, "{\"stream\":\"");
    at += rb_format_quoted(head + at, 4 * RB_JS_NAME_MAX, stream->name);
    at += (size_t)snprintf((char *)head + at, cap - at, "\"");
    if (js->settings->domain.len > 0) {
        at += (size_t)snprintf((char *)head + at, cap - at, ",\"domain\":\"");
        at += rb_format_quoted(head + at, 500, js->settings->domain);
        at += (size_t)snprintf((char *)head + at, cap - at, "\"");
    }
    at += (size_t)snprintf((char *)head + at, cap - at, ",\"seq\":");
    uint8_t *copy = rb_alloc(js->budget, at);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, head, at);
    stream->inside->ack_head = rb_slice_of(copy, at);
    return true;
}

static enum rb_err compile(struct rb_slice src, struct rb_slice dest,
                           struct rb_transform **ret_transform)
{
    char text[RB_TRANSFORM_ERROR_MAX];
    *ret_transform = NULL;
    if (dest.len == 0) {
        return RB_OK; /* the subject itself */
    }
    return rb_transform_create(RB_TRANSFORM_ANY, src.len == 0 ? RB_S(">") : src, dest,
                               ret_transform, text);
}

enum rb_err rb_js_stream_read_config(struct rb_slice json, struct rb_arena **ret_arena,
                                     struct rb_js_stream_config **ret_config)
{
    struct rb_arena *arena;
    enum rb_err err = rb_arena_create(ARENA_BYTES, &arena);
    if (err != RB_OK) {
        return err;
    }
    char text[RB_DOC_ERROR_MAX];
    struct rb_js_stream_config *config = rb_arena_take(arena, sizeof(*config));
    if (config == NULL ||
        !rb_doc_read(arena, &rb_js_stream_config_type, json, true, config, text)) {
        rb_arena_destroy(arena);
        return config == NULL ? RB_ERR_MEMORY : RB_ERR_CORRUPT;
    }
    *ret_arena = arena;
    *ret_config = config;
    return RB_OK;
}

enum rb_err rb_js_stream_set_config(struct rb_js_stream *stream, struct rb_arena *arena,
                                    const struct rb_js_stream_config *config)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_transform *transform = NULL, *republish = NULL;
    enum rb_err err = RB_OK;
    if (config->subject_transform != NULL) {
        err = compile(config->subject_transform->src, config->subject_transform->dest, &transform);
    }
    if (err == RB_OK && config->republish != NULL) {
        err = compile(config->republish->src, config->republish->dest, &republish);
    }
    if (err != RB_OK) {
        rb_transform_destroy(transform);
        return err;
    }
    rb_transform_destroy(inside->transform);
    rb_transform_destroy(inside->republish);
    inside->transform = transform;
    inside->republish = republish;
    if (stream->config_arena != NULL) {
        rb_arena_destroy(stream->config_arena);
    }
    stream->config_arena = arena;
    stream->config = config;
    reserve(stream, config->max_bytes > 0 ? config->max_bytes : 0);
    return RB_OK;
}

/* ---- made and freed ---- */

static void free_inside(struct rb_js_stream *stream)
{
    struct rb_js_stream_inside *inside = stream->inside;
    struct rb_js *js = stream->account->js;
    rb_transform_destroy(inside->transform);
    rb_transform_destroy(inside->republish);
    rb_free(js->budget, (void *)(uintptr_t)inside->ack_head.ptr, inside->ack_head.len);
    if (inside->last_msg_id.len > 0) {
        rb_js_pools_give(&js->pools, (void *)(uintptr_t)inside->last_msg_id.ptr,
                         inside->last_msg_id.len);
    }
    rb_js_dedup_deinit(&inside->dedup);
    rb_js_counters_deinit(&inside->counters);
    rb_js_places_deinit(&inside->places);
    rb_js_schedules_deinit(stream);
    rb_js_fast_deinit(stream);
    rb_js_sources_free(stream);
    rb_js_expiry_deinit(&inside->expiry);
    rb_free(js->budget, inside->gone, inside->gone_cap * sizeof(*inside->gone));
    rb_free(js->budget, inside, sizeof(*inside));
}

void rb_js_stream_free(struct rb_js_stream *stream)
{
    struct rb_js *js = stream->account->js;
    rb_js_stream_unname(stream);
    rb_list_remove(&stream->inside->step_link);
    rb_list_remove(&stream->inside->drop_link);
    rb_assert(rb_list_empty(&stream->consumers));
    rb_js_group_deinit(&stream->group);
    free_inside(stream);
    rb_map_deinit(&stream->consumer_map);
    rb_sublist_destroy(stream->filters);
    if (stream->config_arena != NULL) {
        rb_arena_destroy(stream->config_arena);
    }
    rb_free(js->budget, (void *)(uintptr_t)stream->name.ptr, stream->name.len);
    rb_free(js->budget, stream, sizeof(*stream));
}

static enum rb_err fill(struct rb_js_stream *stream, const struct rb_js_stream_config *config)
{
    struct rb_js *js = stream->account->js;
    struct rb_arena *arena;
    enum rb_err err = rb_sublist_create(js->budget, 1, &stream->filters);
    if (err != RB_OK || !make_ack_head(stream)) {
        return RB_ERR_MEMORY;
    }
    err = rb_arena_create(ARENA_BYTES, &arena);
    if (err != RB_OK) {
        return err;
    }
    struct rb_js_stream_config *copy = rb_arena_take(arena, sizeof(*copy));
    if (copy == NULL || !rb_doc_copy(arena, &rb_js_stream_config_type, config, copy)) {
        err = RB_ERR_MEMORY;
    } else {
        stream->config = copy; /* what is reserved depends on it */
        err = rb_js_stream_set_config(stream, arena, copy);
    }
    if (err != RB_OK) {
        rb_arena_destroy(arena);
        stream->config = NULL;
    }
    return err;
}

enum rb_err rb_js_stream_make(struct rb_js_account *account, uint64_t group, uint64_t created_ns,
                              const struct rb_js_stream_config *config,
                              struct rb_js_stream **ret_stream)
{
    struct rb_js *js = account->js;
    struct rb_js_stream *stream = rb_alloc(js->budget, sizeof(*stream));
    struct rb_js_stream_inside *inside = rb_alloc(js->budget, sizeof(*inside));
    uint8_t *name = rb_alloc(js->budget, config->name.len);
    if (stream == NULL || inside == NULL || name == NULL) {
        rb_free(js->budget, stream, sizeof(*stream));
        rb_free(js->budget, inside, sizeof(*inside));
        rb_free(js->budget, name, config->name.len);
        return RB_ERR_MEMORY;
    }
    memcpy(name, config->name.ptr, config->name.len);
    *stream = (struct rb_js_stream){ .account = account,
                                     .name = rb_slice_of(name, config->name.len),
                                     .created_ns = created_ns,
                                     .inside = inside };
    inside->stream = inside->store_owner.stream = stream;
    rb_list_init(&stream->link);
    rb_list_init(&stream->consumers);
    rb_list_init(&inside->batches);
    rb_js_fast_init(stream);
    rb_list_init(&inside->step_link);
    rb_list_init(&inside->drop_link);
    rb_map_init(&stream->consumer_map, js->budget, 0, consumer_equal, consumer_hash);
    rb_js_dedup_init(&inside->dedup, &js->pools);
    rb_js_counters_init(&inside->counters, &js->pools);
    rb_js_places_init(&inside->places, js->budget);
    rb_js_schedules_init(stream);
    rb_list_init(&inside->sources);
    rb_js_expiry_init(&inside->expiry, js->budget);
    rb_timer_init(&inside->alarm.timer, RB_JS_TIMER_STREAM);
    inside->alarm.owner = stream;
    bool memory = config->storage == RB_JS_MEMORY;
    struct rb_js_group_options options = {
        .log = memory ? NULL : js->log,
        .pools = &js->pools,
        .env = js->env,
        .ready = &js->groups_ready,
        .commit_ns = &js->stats.commit_ns,
        .lazy = !memory && (js->settings->lazy || config->persist_mode == RB_JS_PERSIST_ASYNC),
        .id = group,
        .owner = stream,
        .apply = rb_js_stream_apply,
        .pending_max = js->settings->max_buffered_msgs,
        .pending_bytes_max = js->settings->max_buffered_bytes,
    };
    rb_js_group_init(&stream->group, &options);
    enum rb_err err = fill(stream, config);
    if (err == RB_OK) {
        err = name_stream(stream);
    }
    if (err != RB_OK) {
        if (stream->config != NULL) {
            reserve(stream, 0);
        }
        rb_js_stream_free(stream);
        return err;
    }
    *ret_stream = stream;
    return RB_OK;
}

enum rb_err rb_js_stream_open_store(struct rb_js_stream *stream)
{
    char directory[RB_JS_DIRECTORY_MAX];
    rb_js_stream_directory(stream->group.options.id, directory);
    struct rb_msgstore_options options = {
        .owner = &stream->inside->store_owner,
        .directory = stream->config->storage == RB_JS_MEMORY ? NULL : directory,
        .removed = rb_js_removed,
    };
    enum rb_err err = rb_msgstore_open(stream->account->js->store_home, &options, &stream->store);
    stream->inside->progress.opening_store = err == RB_OK;
    return err;
}

void rb_js_stream_go_offline(struct rb_js_stream *stream, const char *why)
{
    struct rb_js *js = stream->account->js;
    if (stream->phase == RB_JS_STREAM_OFFLINE || stream->phase == RB_JS_STREAM_DELETING) {
        return;
    }
    (void)snprintf(stream->why, sizeof(stream->why), "%s", why);
    rb_log_err(js->text_log, "JetStream stream \"%.*s\" of account \"%.*s\" is offline: %s",
               RB_S_ARG(stream->name), RB_S_ARG(stream->account->account->name), why);
    stream->phase = RB_JS_STREAM_OFFLINE;
    rb_js_stream_unlisten(stream);
    rb_js_sources_stop(stream, false);
    rb_js_schedules_stop(stream);
    rb_js_batches_drop(stream);
    rb_js_group_stop(&stream->group, RB_ERR_CORRUPT);
    rb_wheel_disarm(&js->wheel, &stream->inside->alarm.timer);
}

void rb_js_stream_close_consumers(struct rb_js_stream *stream, struct rb_slice line)
{
    while (!rb_list_empty(&stream->consumers)) {
        rb_js_consumer_close(RB_CONTAINER(stream->consumers.next, struct rb_js_consumer, of_stream),
                             line);
    }
}

void rb_js_stream_opened(struct rb_js_stream *stream)
{
    stream->phase = RB_JS_STREAM_SERVING;
    stream->replaying = false;
    rb_js_stream_settle(stream);
    if (rb_js_stream_listen(stream) != RB_OK || rb_js_direct_open(stream) != RB_OK ||
        rb_js_sources_configure(stream) != RB_OK) {
        rb_js_stream_go_offline(stream, "memory budget spent: its subjects are not subscribed");
        return;
    }
    rb_js_sources_wake(stream->account, stream->name);
    rb_js_schedules_open(stream);
    for (struct rb_list *link = stream->consumers.next, *next; link != &stream->consumers;
         link = next) {
        next = link->next;
        rb_js_consumer_opened(RB_CONTAINER(link, struct rb_js_consumer, of_stream));
    }
    rb_js_stream_arm(stream);
}

/* ---- apply ---- */

uint64_t rb_js_stream_clock(struct rb_js_stream *stream, const struct rb_command *command)
{
    struct rb_js_stream_inside *inside = stream->inside;
    if (command->time_ns > inside->clock_ns) {
        inside->clock_ns = command->time_ns;
    }
    return inside->clock_ns;
}

void rb_js_stream_apply(void *owner, const struct rb_command *command, uint64_t index,
                        const void **ret_outcome)
{
    struct rb_js_stream *stream = owner;
    struct rb_js_outcome *outcome = &stream->inside->outcome;
    outcome->error.code = 0;
    outcome->seq = outcome->value = 0;
    outcome->duplicate = outcome->created = outcome->held = false;
    outcome->total = rb_slice_of(NULL, 0);
    outcome->consumer = NULL;
    *ret_outcome = outcome;
    if (stream->phase == RB_JS_STREAM_OFFLINE) {
        rb_js_error_format(&outcome->error, 10194, "%s", stream->why);
        return;
    }
    switch ((enum rb_command_type)command->type) {
    case RB_COMMAND_PUBLISH:
        rb_js_publish_apply(stream, command, outcome);
        break;
    case RB_COMMAND_BATCH:
        rb_js_publish_batch(stream, command, outcome);
        break;
    case RB_COMMAND_DELETE:
        rb_js_delete_apply(stream, command, outcome);
        break;
    case RB_COMMAND_PURGE:
        rb_js_purge_apply(stream, command, outcome);
        break;
    case RB_COMMAND_CONFIG:
        rb_js_config_apply(stream, command, outcome);
        break;
    case RB_COMMAND_EXPIRE:
        rb_js_stream_expire(stream, rb_js_stream_clock(stream, command));
        break;
    case RB_COMMAND_SKIP:
        rb_msgstore_skip(stream->store, command->seq);
        break;
    case RB_COMMAND_CONSUMER:
    case RB_COMMAND_CONSUMER_DELETE:
    case RB_COMMAND_DELIVERED:
    case RB_COMMAND_ACKED:
    case RB_COMMAND_PAUSE:
    case RB_COMMAND_RESET:
        rb_js_consumer_apply(stream, command, outcome);
        break;
    }
    rb_js_stream_settle(stream);
    if (!stream->replaying) {
        rb_js_checkpoint(stream, false);
    }
}

enum rb_err rb_js_stream_propose(struct rb_js_stream *stream, const struct rb_command *command,
                                 struct rb_js_waiter *waiter)
{
    if (stream->phase != RB_JS_STREAM_SERVING || stream->account->js->closing) {
        return RB_ERR_IO;
    }
    return rb_js_group_propose(&stream->group, command, waiter);
}

uint64_t rb_js_stream_refused(const struct rb_js_stream *stream)
{
    return stream->inside->refused;
}
