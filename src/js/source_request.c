/* source_request.c - what a mirror or source asks its origin's API, and what it is told. */
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "js/source_inside.h"
#include "proto/header.h"
#include "ringbus/check.h"

#define ARENA_BYTES 2048

void rb_js_source_hash(struct rb_slice text, char out[9])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint8_t digest[EVP_MAX_MD_SIZE] = { 0 };
    size_t len = 0;
    int done = EVP_Q_digest(NULL, "SHA256", NULL, text.ptr, text.len, digest, &len);
    rb_assert(done == 1 && len >= 8);
    for (int i = 0; i < 8; i++) {
        out[i] = digits[digest[i] % 62];
    }
    out[8] = '\0';
}

static void name_consumer(struct rb_js_source *source)
{
    struct rb_js *js = rb_js_source_js(source);
    char text[4 * RB_JS_NAME_MAX], hash[9];
    int len =
        snprintf(text, sizeof(text), "%.*s %.*s %.*s ", RB_S_ARG(js->settings->domain),
                 RB_S_ARG(source->stream->account->account->name), RB_S_ARG(source->stream->name));
    size_t at = len < (int)sizeof(text) ? (size_t)len : sizeof(text) - 1;
    for (int i = 0; i < 3; i++) {
        struct rb_slice part = i == 0   ? source->key.origin
                               : i == 1 ? source->key.filter
                                        : source->key.destination;
        size_t more = part.len < sizeof(text) - at ? part.len : sizeof(text) - at;
        memcpy(text + at, part.ptr, more);
        at += more;
    }
    rb_js_source_hash(rb_slice_of(text, at), hash);
    (void)snprintf(source->consumer, sizeof(source->consumer), "%s_%s",
                   source->role == RB_JS_MIRROR ? "JS_MIRROR" : "JS_SRC", hash);
}

static void put_start(struct rb_out *out, const struct rb_js_source *source)
{
    const struct rb_js_source_config *config = source->config;
    bool from_start = source->expected == 0 || source->fresh;
    uint64_t seq = from_start ? config->opt_start_seq : source->expected + 1;
    if (seq > 0) {
        rb_out_printf(out, ",\"deliver_policy\":\"by_start_sequence\",\"opt_start_seq\":%llu",
                      (unsigned long long)seq);
    } else if (from_start && config->opt_start_time != RB_DOC_NO_TIME) {
        rb_out_put(out, RB_S(",\"deliver_policy\":\"by_start_time\",\"opt_start_time\":"));
        rb_out_time(out, config->opt_start_time);
    } else {
        rb_out_put(out, RB_S(",\"deliver_policy\":\"all\""));
    }
}

static struct rb_slice nth_filter(const struct rb_js_source_config *config, uint32_t n)
{
    if (config->subject_transforms.count == 0) {
        return config->filter_subject;
    }
    struct rb_slice src = ((const struct rb_js_transform *)config->subject_transforms.items)[n].src;
    return src.len == 0 ? RB_S(">") : src;
}

static void put_filters(struct rb_out *out, const struct rb_js_source_config *config)
{
    uint32_t count = config->subject_transforms.count;
    if (count > 1) {
        for (uint32_t i = 0; i < count; i++) {
            rb_out_put(out, i == 0 ? RB_S(",\"filter_subjects\":[") : RB_S(","));
            rb_out_string(out, nth_filter(config, i));
        }
        rb_out_put(out, RB_S("]"));
    } else if (nth_filter(config, 0).len > 0) {
        rb_out_put(out, RB_S(",\"filter_subject\":"));
        rb_out_string(out, nth_filter(config, 0));
    }
}

static void put_metadata(struct rb_out *out, const struct rb_js_source *source)
{
    const char *kind = source->role == RB_JS_MIRROR ? "mirror" : "src";
    rb_out_printf(out, ",\"metadata\":{\"_nats.%s.acc\":", kind);
    rb_out_string(out, source->stream->account->account->name);
    rb_out_printf(out, ",\"_nats.%s.stream\":", kind);
    rb_out_string(out, source->stream->name);
    rb_out_put(out, RB_S("}"));
}

static void put_request(struct rb_out *out, const struct rb_js_source *source)
{
    rb_out_put(out, RB_S("{\"stream_name\":"));
    rb_out_string(out, source->config->name);
    rb_out_printf(out, ",\"config\":{\"name\":\"%s\",\"deliver_subject\":", source->consumer);
    rb_out_string(out, rb_slice_text(source->deliver));
    put_start(out, source);
    put_filters(out, source->config);
    rb_out_put(out, RB_S(",\"ack_policy\":\"none\",\"ack_wait\":79200000000000,\"max_deliver\":1,"
                         "\"replay_policy\":\"instant\",\"flow_control\":true,"
                         "\"idle_heartbeat\":1000000000,\"inactive_threshold\":10000000000,"
                         "\"direct\":true"));
    if (!source->plain) {
        rb_out_put(out, RB_S(",\"sourcing\":true"));
    }
    put_metadata(out, source);
    rb_out_put(out, RB_S("},\"action\":\"\"}"));
}

static struct rb_slice api_of(const struct rb_js_source *source)
{
    return source->config->external != NULL ? source->config->external->api : RB_S("$JS.API");
}

static void put_subject(struct rb_out *out, const struct rb_js_source *source)
{
    struct rb_slice filter = nth_filter(source->config, 0);
    rb_out_put(out, api_of(source));
    rb_out_put(out, RB_S(".CONSUMER.CREATE."));
    rb_out_put(out, source->config->name);
    rb_out_printf(out, ".%s", source->consumer);
    if (source->config->subject_transforms.count <= 1 && filter.len > 0) {
        rb_out_put(out, RB_S("."));
        rb_out_put(out, filter);
    }
}

bool rb_js_source_ask(struct rb_js_source *source)
{
    struct rb_budget *budget = rb_js_source_js(source)->budget;
    struct rb_slice identity = rb_slice_of(NULL, 0);
    struct rb_out subject, message;
    rb_out_init(&subject, budget);
    rb_out_init(&message, budget);
    name_consumer(source);
    put_subject(&subject, source);
    if (source->role == RB_JS_SOURCE && !source->fresh) {
        (void)rb_js_place_of(&source->stream->inside->places, &source->key, &identity);
    }
    if (identity.len > 0) {
        rb_out_printf(&message, "NATS/1.0\r\nNats-Stream-Identity: %.*s\r\n\r\n",
                      RB_S_ARG(identity));
    }
    uint32_t header_len = (uint32_t)message.len;
    put_request(&message, source);
    bool sent =
        !subject.failed && !message.failed &&
        rb_account_publish(source->stream->account->account, rb_out_slice(&subject),
                           rb_slice_text(source->answer), header_len, rb_out_slice(&message));
    rb_out_deinit(&subject);
    rb_out_deinit(&message);
    return sent;
}

void rb_js_source_give_up(struct rb_js_source *source)
{
    struct rb_out subject;
    if (source->state != RB_JS_SOURCE_PULLING || rb_js_source_js(source)->closing) {
        return;
    }
    rb_out_init(&subject, rb_js_source_js(source)->budget);
    rb_out_put(&subject, api_of(source));
    rb_out_put(&subject, RB_S(".CONSUMER.DELETE."));
    rb_out_put(&subject, source->config->name);
    rb_out_printf(&subject, ".%s", source->consumer);
    if (!subject.failed) { /* nobody waits for the answer: otherwise it goes for want of activity */
        (void)rb_account_publish(source->stream->account->account, rb_out_slice(&subject),
                                 rb_slice_text(source->answer), 0, rb_slice_of(NULL, 0));
    }
    rb_out_deinit(&subject);
}

/* ---- answers ---- */

struct answer_error {
    int64_t code, err_code;
    struct rb_slice description;
};
static const struct rb_doc_field error_fields[] = {
    { "code", RB_DOC_INT, 0, offsetof(struct answer_error, code) },
    { "err_code", RB_DOC_INT, 0, offsetof(struct answer_error, err_code) },
    { "description", RB_DOC_STRING, 0, offsetof(struct answer_error, description) },
};
static const struct rb_doc_type error_type = { "ApiError", sizeof(struct answer_error),
                                               error_fields, 3 };
struct answer {
    struct answer_error *error;
    struct rb_slice name;
    uint64_t pending;
};
static const struct rb_doc_field answer_fields[] = {
    { "error", RB_DOC_OBJECT, 0, offsetof(struct answer, error), NULL, &error_type },
    { "name", RB_DOC_STRING, 0, offsetof(struct answer, name) },
    { "num_pending", RB_DOC_U64, 0, offsetof(struct answer, pending) },
};
static const struct rb_doc_type answer_type = { "JSApiConsumerCreateResponse",
                                                sizeof(struct answer), answer_fields, 3 };

/* An origin that is not there is waited for without a word. */
static void refused(struct rb_js_source *source, const struct answer_error *error)
{
    bool mirror = source->role == RB_JS_MIRROR;
    if (error->err_code == 10225) {
        source->fresh = true;
        rb_js_source_again(source, 0);
        return;
    }
    if ((error->err_code == 10025 || error->err_code == 10185) && !source->plain) {
        source->plain = true;
        rb_js_source_again(source, 0);
        return;
    }
    source->error.code = 0;
    if (error->err_code != 10059) {
        rb_js_error_format(&source->error, mirror ? 10029 : 10045, "%.*s",
                           RB_S_ARG(error->description));
    }
    rb_js_source_failed(source);
}

static void granted(struct rb_js_source *source, const struct answer *answer,
                    const struct rb_msg *msg)
{
    struct rb_slice identity = rb_slice_of(NULL, 0);
    if (msg->header_len > 0) {
        identity = rb_header_get(rb_slice_of(msg->payload.ptr, msg->header_len),
                                 RB_S("Nats-Stream-Identity"));
    }
    (void)snprintf(source->identity, sizeof(source->identity), "%.*s", RB_S_ARG(identity));
    if (answer->name.len > 0 && answer->name.len < sizeof(source->consumer)) {
        (void)snprintf(source->consumer, sizeof(source->consumer), "%.*s", RB_S_ARG(answer->name));
    }
    source->state = RB_JS_SOURCE_PULLING;
    source->heard_ns = rb_js_source_js(source)->now_ns;
    source->heard = true;
    source->error.code = 0;
    if (source->consumer_seq == 0) {
        source->lag = answer->pending;
    }
}

bool rb_js_source_take_answer(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct rb_js_source *source = ctx;
    struct rb_slice body =
        rb_slice_of(msg->payload.ptr + msg->header_len, msg->payload.len - msg->header_len);
    char why[RB_DOC_ERROR_MAX];
    struct rb_arena *arena;
    struct answer answer;
    if (source->state != RB_JS_SOURCE_ASKED || source->restart) {
        return true;
    }
    if (rb_arena_create(ARENA_BYTES, &arena) != RB_OK) {
        rb_js_source_failed(source);
        return true;
    }
    if (!rb_doc_read(arena, &answer_type, body, false, &answer, why)) {
        rb_js_source_failed(source); /* a status: nobody serves that API */
    } else if (answer.error != NULL) {
        refused(source, answer.error);
    } else {
        granted(source, &answer, msg);
    }
    rb_arena_destroy(arena);
    return true;
}
