/* source.c - the life of a mirror or source: when it asks, what it makes of messages, when it begins anew. */
#include "js/source.h"

#include <stdio.h>
#include <string.h>

#include "js/api.h"
#include "js/source_inside.h"
#include "proto/header.h"
#include "proto/subject.h"
#include "proto/transform.h"
#include "ringbus/check.h"

#define ARENA_BYTES 1024
#define SECOND_NS UINT64_C(1000000000)
#define SILENCE_NS (10 * SECOND_NS)
#define ANSWER_NS (5 * SECOND_NS)
#define BACKOFF_NS (SECOND_NS / 2)
#define BACKOFF_MAX_NS (30 * SECOND_NS)
#define TOKENS_MAX 13u
#define SOURCE_HEADER RB_S("Nats-Stream-Source: ")

static struct rb_js_source *of_stream(struct rb_list *link)
{
    return RB_CONTAINER(link, struct rb_js_source, of_stream);
}

static void arm(struct rb_js_source *source, uint64_t at_ns)
{
    struct rb_js *js = rb_js_source_js(source);
    struct rb_timer *timer = &source->alarm.timer;
    if (!rb_timer_armed(timer) || timer->due_ns > at_ns) {
        rb_wheel_arm(&js->wheel, timer, at_ns);
    }
}

void rb_js_source_again(struct rb_js_source *source, uint64_t wait_ns)
{
    if (source->state != RB_JS_SOURCE_ENDED) {
        source->restart = true;
        source->try_ns = rb_js_source_js(source)->now_ns + wait_ns;
        arm(source, rb_js_source_js(source)->now_ns);
    }
}

void rb_js_source_failed(struct rb_js_source *source)
{
    uint64_t wait_ns = source->failures < 6 ? BACKOFF_NS << source->failures : BACKOFF_MAX_NS;
    source->failures++;
    rb_js_source_again(source, wait_ns < BACKOFF_MAX_NS ? wait_ns : BACKOFF_MAX_NS);
}

/* ---- confirming ---- */

static void confirm(struct rb_js_source *source)
{
    if (source->confirm_to[0] == '\0' || source->applied < source->confirm_at) {
        return;
    }
    char block[160] = "";
    int len = 0;
    if (source->confirm_fields[0] != '\0') {
        len = snprintf(block, sizeof(block), "NATS/1.0\r\n%s\r\n", source->confirm_fields);
    }
    struct rb_slice to = rb_slice_text(source->confirm_to);
    (void)rb_account_publish(source->stream->account->account, to, rb_slice_of(NULL, 0),
                             (uint32_t)len, rb_slice_of(block, (size_t)len));
    source->confirm_to[0] = '\0';
}

/* Everything that came before this is in flight: it is confirmed when that is applied. */
static void confirm_later(struct rb_js_source *source, struct rb_slice to)
{
    if (to.len == 0 || to.len >= sizeof(source->confirm_to)) {
        return;
    }
    (void)snprintf(source->confirm_to, sizeof(source->confirm_to), "%.*s", RB_S_ARG(to));
    source->confirm_fields[0] = '\0';
    if (source->last_seq > 0) { /* a queue takes this for an acknowledgement */
        (void)snprintf(source->confirm_fields, sizeof(source->confirm_fields),
                       "Nats-Last-Consumer: %llu\r\nNats-Last-Stream: %llu\r\n",
                       (unsigned long long)source->consumer_seq,
                       (unsigned long long)source->last_seq);
    }
    source->confirm_at = source->proposed;
    confirm(source);
}

/* ---- messages ---- */

static void free_source(struct rb_js_source *source);

static void applied(struct rb_js_waiter *waiter, enum rb_err err, const void *given)
{
    struct rb_js_replier *replier = RB_CONTAINER(waiter, struct rb_js_replier, waiter);
    struct rb_js_source *source = replier->ctx;
    const struct rb_js_outcome *outcome = given;
    source->applied++;
    if (source->state == RB_JS_SOURCE_ENDED) {
        if (source->applied == source->proposed) {
            free_source(source);
        }
        return;
    }
    if (err == RB_OK && !outcome->held) {
        if (!source->restart) {
            confirm(source);
        }
    } else if (!source->restart) {
        rb_js_source_failed(source);
    }
    if (source->restart && source->applied == source->proposed) {
        arm(source, source->try_ns);
    }
}

static size_t map_subject(const struct rb_js_source *source, struct rb_slice subject, uint8_t *out)
{
    struct rb_js_stream *stream = source->stream;
    struct rb_env *env = rb_js_source_js(source)->env;
    uint8_t first[RB_MSGSTORE_SUBJECT_MAX];
    struct rb_slice mapped = subject;
    for (uint32_t i = 0; i < source->config->subject_transforms.count; i++) {
        size_t len = source->transforms[i] == NULL
                         ? 0
                         : rb_transform_apply(source->transforms[i], subject, rb_env_random(env),
                                              first, sizeof(first));
        if (len > 0) {
            mapped = rb_slice_of(first, len);
            break;
        }
    }
    size_t len = 0;
    if (source->role == RB_JS_SOURCE && stream->inside->transform != NULL) {
        len = rb_transform_apply(stream->inside->transform, mapped, rb_env_random(env), out,
                                 RB_MSGSTORE_SUBJECT_MAX);
    }
    if (len == 0 && mapped.len <= RB_MSGSTORE_SUBJECT_MAX) {
        memcpy(out, mapped.ptr, mapped.len);
        len = mapped.len;
    }
    return len;
}

static bool is_left_out(struct rb_slice line)
{
    return rb_slice_starts(line, RB_S("Nats-Expected-")) ||
           rb_slice_starts(line, RB_S("Nats-Batch-"));
}

/* The header lines that stay, without the empty one at the end; nothing when there are none. */
static void put_lines(struct rb_writer *out, const struct rb_js_source *source,
                      struct rb_slice block)
{
    const uint8_t *at = block.ptr, *end = block.ptr + block.len;
    bool any = false;
    for (uint32_t n = 0; at < end; n++) {
        const uint8_t *next = memmem(at, (size_t)(end - at), "\r\n", 2);
        next = next == NULL ? end : next + 2;
        struct rb_slice line = rb_slice_of(at, (size_t)(next - at));
        at = next;
        if (n == 0 || line.len <= 2 || is_left_out(line) ||
            (source->role == RB_JS_SOURCE && rb_slice_starts(line, RB_S("Nats-Stream-Source:")))) {
            continue;
        }
        if (!any) {
            rb_write_slice(out, RB_S("NATS/1.0\r\n"));
            any = true;
        }
        rb_write_slice(out, line);
    }
    if (source->role == RB_JS_SOURCE && !any) {
        rb_write_slice(out, RB_S("NATS/1.0\r\n"));
    }
}

/* What came, as it will be stored. */
struct arrival {
    uint64_t seq, time_ns, consumer_seq, pending;
    struct rb_slice subject, header, body;
};

static void put_origin(struct rb_writer *out, const struct rb_js_source *source,
                       const struct arrival *arrival)
{
    rb_write_slice(out, SOURCE_HEADER);
    rb_write_slice(out, source->key.origin);
    rb_write_u8(out, ' ');
    rb_write_decimal(out, arrival->seq);
    rb_write_u8(out, ' ');
    rb_write_slice(out, source->key.filter);
    rb_write_u8(out, ' ');
    rb_write_slice(out, source->key.destination);
    rb_write_u8(out, ' ');
    rb_write_slice(out, arrival->subject);
    if (source->identity[0] != '\0') {
        rb_write_u8(out, ' ');
        rb_write_slice(out, rb_slice_text(source->identity));
    }
    rb_write_slice(out, RB_S("\r\n"));
}

static enum rb_err propose(struct rb_js_source *source, const struct arrival *arrival)
{
    struct rb_js_stream *stream = source->stream;
    struct rb_js_pools *pools = &rb_js_source_js(source)->pools;
    uint8_t subject[RB_MSGSTORE_SUBJECT_MAX];
    size_t cap = arrival->header.len + arrival->body.len + arrival->subject.len +
                 source->key.origin.len + source->key.filter.len + source->key.destination.len +
                 256;
    size_t subject_len = map_subject(source, arrival->subject, subject);
    uint8_t *bytes = subject_len == 0 ? NULL : rb_js_pools_take(pools, cap);
    if (bytes == NULL) {
        return RB_ERR_MEMORY;
    }
    struct rb_writer out = rb_writer_over(bytes, cap);
    put_lines(&out, source, arrival->header);
    if (source->role == RB_JS_SOURCE) {
        put_origin(&out, source, arrival);
    }
    if (rb_writer_len(&out) > 0) {
        rb_write_slice(&out, RB_S("\r\n"));
    }
    struct rb_command command = { .type = RB_COMMAND_PUBLISH,
                                  .flags = RB_COMMAND_SOURCED,
                                  .value = source->expected,
                                  .subject = rb_slice_of(subject, subject_len),
                                  .header_len = (uint32_t)rb_writer_len(&out) };
    rb_write_slice(&out, arrival->body);
    command.text = rb_slice_of(bytes, rb_writer_len(&out));
    rb_js_stream_stamp(stream, &command);
    if (source->role == RB_JS_MIRROR) {
        command.flags |= RB_COMMAND_KEEP_SEQ;
        command.seq = arrival->seq;
        command.time_ns = arrival->time_ns;
    }
    enum rb_err err = rb_msgstore_home_pressure(rb_js_source_js(source)->store_home)
                          ? RB_ERR_FULL
                          : rb_js_group_propose_reply(&stream->group, &command, applied, source,
                                                      rb_slice_of(NULL, 0));
    rb_js_pools_give(pools, bytes, cap);
    return err;
}

static void take_status(struct rb_js_source *source, const struct rb_msg *msg)
{
    struct rb_slice block = rb_slice_of(msg->payload.ptr, msg->header_len);
    struct rb_slice last = rb_header_get(block, RB_S("Nats-Last-Consumer"));
    struct rb_slice stalled = rb_header_get(block, RB_S("Nats-Consumer-Stalled"));
    uint64_t consumer_seq;
    if (msg->reply.len > 0) {
        confirm_later(source, msg->reply);
        return;
    }
    if (stalled.len > 0) {
        confirm_later(source, stalled);
    }
    if (last.len > 0 && rb_slice_decimal(last, 19, &consumer_seq) &&
        consumer_seq != source->consumer_seq) {
        if (source->consumer_seq == 0) {
            source->consumer_seq = consumer_seq; /* of an earlier life of this consumer */
        } else {
            rb_js_source_failed(source); /* something was missed */
        }
    }
}

/* $JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer seq>.<time>.<pending>, or with domain and account before the stream. */
static bool read_reply(struct rb_slice reply, struct arrival *ret_arrival)
{
    struct rb_slice words[TOKENS_MAX];
    struct rb_tokens tokens = rb_tokens_over(reply);
    uint32_t count = 0;
    while (count < TOKENS_MAX && rb_tokens_next(&tokens, &words[count])) {
        count++;
    }
    uint32_t at = count >= 11 ? 7 : 5;
    return (count == 9 || count >= 11) && rb_slice_equal(words[1], RB_S("ACK")) &&
           rb_slice_decimal(words[at], 19, &ret_arrival->seq) &&
           rb_slice_decimal(words[at + 1], 19, &ret_arrival->consumer_seq) &&
           rb_slice_decimal(words[at + 2], 19, &ret_arrival->time_ns) &&
           rb_slice_decimal(words[at + 3], 19, &ret_arrival->pending);
}

static void take_message(struct rb_js_source *source, const struct rb_msg *msg)
{
    struct arrival arrival = {
        .subject = msg->shown.len > 0 ? msg->shown : msg->subject,
        .header = rb_slice_of(msg->payload.ptr, msg->header_len),
        .body = rb_slice_of(msg->payload.ptr + msg->header_len, msg->payload.len - msg->header_len),
    };
    if (!read_reply(msg->reply, &arrival)) {
        return; /* not of a consumer */
    }
    if (source->consumer_seq != 0 && arrival.consumer_seq != source->consumer_seq + 1) {
        rb_js_source_failed(source);
        return;
    }
    source->consumer_seq = arrival.consumer_seq;
    source->last_seq = arrival.seq;
    source->lag = arrival.pending;
    if (arrival.seq <= source->expected && !source->fresh) {
        return; /* here already: a queue gives again what was not confirmed */
    }
    enum rb_err err = propose(source, &arrival);
    if (err != RB_OK) {
        rb_js_source_failed(source);
        return;
    }
    source->proposed++;
    source->expected = arrival.seq;
    source->fresh = false;
    source->failures = 0;
}

static bool take(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct rb_js_source *source = ctx;
    if (source->restart ||
        (source->state != RB_JS_SOURCE_PULLING && source->state != RB_JS_SOURCE_ASKED)) {
        return true;
    }
    source->heard_ns = rb_js_source_js(source)->now_ns;
    source->heard = true;
    uint32_t status =
        msg->header_len > 0 ? rb_header_status(rb_slice_of(msg->payload.ptr, msg->header_len)) : 0;
    if (status == 100) {
        take_status(source, msg);
    } else if (status == 0) {
        take_message(source, msg);
    } else {
        rb_js_source_failed(source); /* the consumer is gone */
    }
    return true;
}

/* ---- asking ---- */

static void random_token(struct rb_js *js, char out[9])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for (int i = 0; i < 8; i++) {
        out[i] = digits[rb_env_below(js->env, 62)];
    }
    out[8] = '\0';
}

static void unlisten(struct rb_js_source *source)
{
    struct rb_account *account = source->stream->account->account;
    if (source->listening) {
        rb_account_unlisten(account, &source->messages);
        rb_account_unlisten(account, &source->answers);
        source->listening = false;
    }
    if (source->exporter != NULL) {
        rb_account_unlisten(source->exporter, &source->imported);
        source->exporter = NULL;
    }
}

/* What this account imports from another one does not come to the server's own subscriptions: it is taken where it is exported. */
static bool listen_import(struct rb_js_source *source)
{
    struct rb_account *account = source->stream->account->account;
    struct rb_slice subject = rb_slice_text(source->deliver);
    for (uint32_t i = 0; i < account->stream_count; i++) {
        const struct rb_stream_import *import = &account->streams[i];
        uint8_t theirs[RB_JS_SOURCE_SUBJECT_MAX];
        if (!rb_subject_match(import->local, subject)) {
            continue;
        }
        if (import->back != NULL) {
            size_t len = rb_transform_apply(import->back, subject, 0, theirs, sizeof(theirs));
            subject = rb_slice_of(theirs, len);
        }
        struct rb_account *exporter = rb_account_get(account->core, import->from);
        source->imported = (struct rb_special){ .take = take, .ctx = source };
        if (exporter == NULL || subject.len == 0 ||
            rb_account_listen(exporter, subject, &source->imported) != RB_OK) {
            return false;
        }
        source->exporter = exporter;
        return true;
    }
    return true;
}

static bool listen(struct rb_js_source *source)
{
    struct rb_js *js = rb_js_source_js(source);
    struct rb_account *account = source->stream->account->account;
    const struct rb_js_external *external = source->config->external;
    struct rb_slice prefix =
        external != NULL && external->deliver.len > 0 ? external->deliver : RB_S("$JS");
    char token[9];
    random_token(js, token);
    (void)snprintf(source->deliver, sizeof(source->deliver), "%.*s.%c.%s", RB_S_ARG(prefix),
                   source->role == RB_JS_MIRROR ? 'M' : 'S', token);
    (void)snprintf(source->answer, sizeof(source->answer), "_INBOX.JS.%s", token);
    source->messages = (struct rb_special){ .take = take, .ctx = source };
    source->answers = (struct rb_special){ .take = rb_js_source_take_answer, .ctx = source };
    if (rb_account_listen(account, rb_slice_text(source->deliver), &source->messages) != RB_OK) {
        return false;
    }
    if (rb_account_listen(account, rb_slice_text(source->answer), &source->answers) != RB_OK) {
        rb_account_unlisten(account, &source->messages);
        return false;
    }
    source->listening = true;
    return external == NULL || listen_import(source);
}

static void ask(struct rb_js_source *source)
{
    struct rb_js *js = rb_js_source_js(source);
    struct rb_msgstore_state state;
    rb_msgstore_state(source->stream->store, &state);
    source->expected = source->role == RB_JS_MIRROR
                           ? state.last_seq
                           : rb_js_place_of(&source->stream->inside->places, &source->key, NULL);
    source->consumer_seq = source->last_seq = 0;
    source->confirm_to[0] = '\0';
    source->state = RB_JS_SOURCE_ASKED;
    source->heard_ns = js->now_ns;
    bool good = source->role != RB_JS_MIRROR ||
                rb_js_direct_open(source->stream) == RB_OK; /* its origin may be gone */
    if (!good || !listen(source) || !rb_js_source_ask(source)) {
        rb_js_source_failed(source);
    }
}

void rb_js_source_timer(struct rb_js_source *source)
{
    struct rb_js *js = rb_js_source_js(source);
    if (source->state == RB_JS_SOURCE_ENDED || js->closing ||
        source->stream->phase != RB_JS_STREAM_SERVING) {
        return;
    }
    uint64_t patience_ns = source->state == RB_JS_SOURCE_ASKED ? ANSWER_NS : SILENCE_NS;
    if (!source->restart && source->state != RB_JS_SOURCE_WAITING &&
        js->now_ns >= source->heard_ns + patience_ns) {
        source->restart = true; /* it has gone silent */
        source->try_ns = js->now_ns;
    }
    if (source->restart) {
        unlisten(source);
        source->state = RB_JS_SOURCE_WAITING;
        if (source->applied < source->proposed) {
            return; /* applied() goes on */
        }
        source->restart = false;
    }
    if (source->state == RB_JS_SOURCE_WAITING && !source->stream->inside->sources_held) {
        if (source->try_ns <= js->now_ns) {
            ask(source);
        } else {
            arm(source, source->try_ns);
            return;
        }
    }
    if (source->state != RB_JS_SOURCE_WAITING) {
        arm(source, source->restart ? js->now_ns : source->heard_ns + SECOND_NS * 10);
    }
}

/* ---- configuration ---- */

static void free_source(struct rb_js_source *source)
{
    struct rb_js *js = rb_js_source_js(source);
    unlisten(source);
    rb_wheel_disarm(&js->wheel, &source->alarm.timer);
    rb_list_remove(&source->of_account);
    rb_list_remove(&source->of_stream);
    for (uint32_t i = 0; i < source->config->subject_transforms.count; i++) {
        rb_transform_destroy(source->transforms[i]);
    }
    rb_arena_destroy(source->arena);
    rb_free(js->budget, source, sizeof(*source));
}

static void end(struct rb_js_source *source, bool drop)
{
    if (source->state == RB_JS_SOURCE_ENDED) {
        return;
    }
    unlisten(source);
    rb_wheel_disarm(&rb_js_source_js(source)->wheel, &source->alarm.timer);
    if (drop) {
        rb_js_source_give_up(source);
    }
    source->state = RB_JS_SOURCE_ENDED;
    if (source->applied == source->proposed) {
        free_source(source);
    }
}

static struct rb_slice joined(struct rb_arena *arena, const struct rb_js_source_config *config,
                              bool destination)
{
    const struct rb_js_transform *items = config->subject_transforms.items;
    uint32_t count = config->subject_transforms.count;
    size_t len = 1;
    for (uint32_t i = 0; i < count; i++) {
        len += (destination ? items[i].dest.len : items[i].src.len) + 2;
    }
    uint8_t *text = rb_arena_take(arena, len);
    if (text == NULL) {
        return rb_slice_of(NULL, 0);
    }
    struct rb_writer out = rb_writer_over(text, len);
    for (uint32_t i = 0; i < count; i++) {
        struct rb_slice part = destination ? items[i].dest : items[i].src;
        if (i > 0) {
            rb_write_u8(&out, '\f');
        }
        rb_write_slice(&out, part.len == 0 ? RB_S(">") : part);
    }
    return rb_slice_of(text, rb_writer_len(&out));
}

static bool make_key(struct rb_js_source *source)
{
    const struct rb_js_source_config *config = source->config;
    struct rb_js_source_header *key = &source->key;
    key->origin = config->name;
    if (config->external != NULL) {
        char hash[9];
        uint8_t *text = rb_arena_take(source->arena, config->name.len + 9);
        if (text == NULL) {
            return false;
        }
        rb_js_source_hash(config->external->api, hash);
        struct rb_writer out = rb_writer_over(text, config->name.len + 9);
        rb_write_slice(&out, config->name);
        rb_write_u8(&out, ':');
        rb_write_slice(&out, rb_slice_of(hash, 8));
        key->origin = rb_slice_of(text, config->name.len + 9);
    }
    key->filter = config->filter_subject.len > 0 ? config->filter_subject : RB_S(">");
    key->destination = RB_S(">");
    if (config->subject_transforms.count > 0) {
        key->filter = joined(source->arena, config, false);
        key->destination = joined(source->arena, config, true);
    }
    return key->filter.len > 0 && key->destination.len > 0;
}

static bool compile(struct rb_js_source *source)
{
    const struct rb_js_source_config *config = source->config;
    const struct rb_js_transform *items = config->subject_transforms.items;
    uint32_t count = config->subject_transforms.count;
    char text[RB_TRANSFORM_ERROR_MAX];
    source->transforms = rb_arena_take(source->arena, (count + 1) * sizeof(*source->transforms));
    for (uint32_t i = 0; source->transforms != NULL && i < count; i++) {
        struct rb_slice src = items[i].src.len == 0 ? RB_S(">") : items[i].src;
        if (items[i].dest.len > 0 && rb_transform_create(RB_TRANSFORM_ANY, src, items[i].dest,
                                                         &source->transforms[i], text) != RB_OK) {
            source->transforms[i] = NULL;
            return false;
        }
    }
    return source->transforms != NULL;
}

static enum rb_err make(struct rb_js_stream *stream, const struct rb_js_source_config *config,
                        enum rb_js_source_role role)
{
    struct rb_js *js = stream->account->js;
    struct rb_js_source *source = rb_alloc(js->budget, sizeof(*source));
    if (source == NULL) {
        return RB_ERR_MEMORY;
    }
    source->stream = stream;
    source->role = role;
    rb_timer_init(&source->alarm.timer, RB_JS_TIMER_SOURCE);
    source->alarm.owner = source;
    if (rb_arena_create(ARENA_BYTES, &source->arena) != RB_OK) {
        rb_free(js->budget, source, sizeof(*source));
        return RB_ERR_MEMORY;
    }
    struct rb_js_source_config *copy = rb_arena_take(source->arena, sizeof(*copy));
    if (copy == NULL || !rb_doc_copy(source->arena, &rb_js_source_config_type, config, copy)) {
        rb_arena_destroy(source->arena);
        rb_free(js->budget, source, sizeof(*source));
        return RB_ERR_MEMORY;
    }
    source->config = copy;
    rb_list_append(&stream->account->sources, &source->of_account);
    rb_list_append(&stream->inside->sources, &source->of_stream);
    if (!compile(source) || !make_key(source)) {
        if (source->transforms == NULL) {
            copy->subject_transforms.count = 0; /* none to be freed */
        }
        free_source(source);
        return RB_ERR_MEMORY;
    }
    source->try_ns = js->now_ns;
    arm(source, js->now_ns);
    return RB_OK;
}

static struct rb_js_source *find(const struct rb_js_stream *stream,
                                 const struct rb_js_source_config *config,
                                 enum rb_js_source_role role)
{
    const struct rb_list *all = &stream->inside->sources;
    for (struct rb_list *link = all->next; link != all; link = link->next) {
        struct rb_js_source *source = of_stream(link);
        if (source->state != RB_JS_SOURCE_ENDED && source->role == role &&
            rb_doc_equal(&rb_js_source_config_type, config, source->config)) {
            return source;
        }
    }
    return NULL;
}

static const struct rb_js_source_config *nth(const struct rb_js_stream_config *config, uint32_t n,
                                             enum rb_js_source_role *ret_role)
{
    *ret_role = config->mirror != NULL ? RB_JS_MIRROR : RB_JS_SOURCE;
    if (config->mirror != NULL) {
        return n == 0 ? config->mirror : NULL;
    }
    return n < config->sources.count
               ? &((const struct rb_js_source_config *)config->sources.items)[n]
               : NULL;
}

static bool is_configured(const struct rb_js_stream *stream, const struct rb_js_source *source)
{
    const struct rb_js_source_config *config;
    enum rb_js_source_role role;
    for (uint32_t n = 0; (config = nth(stream->config, n, &role)) != NULL; n++) {
        if (role == source->role &&
            rb_doc_equal(&rb_js_source_config_type, config, source->config)) {
            return true;
        }
    }
    return false;
}

enum rb_err rb_js_sources_configure(struct rb_js_stream *stream)
{
    struct rb_list *all = &stream->inside->sources;
    const struct rb_js_source_config *config;
    enum rb_js_source_role role;
    for (struct rb_list *link = all->next, *next; link != all; link = next) {
        next = link->next;
        if (!is_configured(stream, of_stream(link))) {
            end(of_stream(link), true);
        }
    }
    for (uint32_t n = 0; (config = nth(stream->config, n, &role)) != NULL; n++) {
        if (find(stream, config, role) == NULL) {
            enum rb_err err = make(stream, config, role);
            if (err != RB_OK) {
                return err;
            }
        }
    }
    return RB_OK;
}

void rb_js_sources_stop(struct rb_js_stream *stream, bool drop)
{
    struct rb_list *all = &stream->inside->sources;
    for (struct rb_list *link = all->next, *next; link != all; link = next) {
        next = link->next;
        end(of_stream(link), drop);
    }
}

void rb_js_sources_free(struct rb_js_stream *stream)
{
    struct rb_list *all = &stream->inside->sources;
    while (!rb_list_empty(all)) {
        free_source(of_stream(all->next));
    }
}

void rb_js_sources_hold(struct rb_js_stream *stream, bool hold)
{
    struct rb_list *all = &stream->inside->sources;
    stream->inside->sources_held = hold;
    for (struct rb_list *link = all->next; !hold && link != all; link = link->next) {
        rb_js_source_again(of_stream(link), 0);
    }
}

void rb_js_sources_wake(struct rb_js_account *account, struct rb_slice origin)
{
    struct rb_list *all = &account->sources;
    for (struct rb_list *link = all->next; link != all; link = link->next) {
        struct rb_js_source *source = RB_CONTAINER(link, struct rb_js_source, of_account);
        if (source->config->external == NULL && rb_slice_equal(source->config->name, origin)) {
            source->failures = 0;
            rb_js_source_again(source, 0);
        }
    }
}

/* ---- info ---- */

void rb_js_source_write(struct rb_out *out, const struct rb_js_stream *stream, uint32_t n)
{
    enum rb_js_source_role role;
    const struct rb_js_source_config *config = nth(stream->config, n, &role);
    const struct rb_js_source *source = find(stream, config, role);
    struct rb_js *js = stream->account->js;
    rb_out_put(out, RB_S("{\"name\":"));
    rb_out_string(out, config->name);
    if (config->external != NULL) {
        rb_out_put(out, RB_S(",\"external\":{\"api\":"));
        rb_out_string(out, config->external->api);
        rb_out_put(out, RB_S(",\"deliver\":"));
        rb_out_string(out, config->external->deliver);
        rb_out_put(out, RB_S("}"));
    }
    int64_t active =
        source != NULL && source->heard ? (int64_t)(js->now_ns - source->heard_ns) : -1;
    rb_out_printf(out, ",\"lag\":%llu,\"active\":%lld",
                  (unsigned long long)(source == NULL ? 0 : source->lag), (long long)active);
    uint64_t seq = role == RB_JS_MIRROR || source == NULL
                       ? 0
                       : rb_js_place_of(&stream->inside->places, &source->key, NULL);
    if (seq > 0) {
        rb_out_printf(out, ",\"seq\":%llu", (unsigned long long)seq);
    }
    if (source != NULL && source->error.code != 0) {
        rb_out_put(out, RB_S(",\"error\":"));
        rb_js_error_write(out, &source->error);
    }
    if (config->filter_subject.len > 0) {
        rb_out_put(out, RB_S(",\"filter_subject\":"));
        rb_out_string(out, config->filter_subject);
    }
    for (uint32_t i = 0; i < config->subject_transforms.count; i++) {
        const struct rb_js_transform *transform =
            &((const struct rb_js_transform *)config->subject_transforms.items)[i];
        rb_out_put(out, i == 0 ? RB_S(",\"subject_transforms\":[{\"src\":") : RB_S(",{\"src\":"));
        rb_out_string(out, transform->src);
        rb_out_put(out, RB_S(",\"dest\":"));
        rb_out_string(out, transform->dest);
        rb_out_put(out, i + 1 == config->subject_transforms.count ? RB_S("}]") : RB_S("}"));
    }
    rb_out_put(out, RB_S("}"));
}
