/* source_inside.h - what the two files of pulling share: source.c (life, messages), source_request.c (what is asked and answered). */
#pragma once

#include "js/source.h"
#include "js/stream_inside.h"

#define RB_JS_SOURCE_SUBJECT_MAX 512

enum rb_js_source_state {
    RB_JS_SOURCE_WAITING, /* until it may ask (again) */
    RB_JS_SOURCE_ASKED,
    RB_JS_SOURCE_PULLING,
    RB_JS_SOURCE_ENDED, /* freed once nothing is in flight */
};

struct rb_js_source {
    struct rb_js_alarm alarm;
    struct rb_list of_account, of_stream;
    struct rb_js_stream *stream;
    struct rb_arena *arena; /* of what follows */
    const struct rb_js_source_config *config;
    enum rb_js_source_role role;
    struct rb_transform *
        *transforms; /* one for each of the configuration; NULL: the subject itself */
    struct rb_js_source_header key; /* its part of Nats-Stream-Source */
    enum rb_js_source_state state;
    struct rb_special messages, answers, imported;
    struct rb_account *exporter; /* whose messages `imported` takes; NULL: none */
    bool listening;
    bool restart; /* what is under way is to be ended */
    bool fresh;   /* the origin is another one than before: from its beginning */
    bool plain;   /* the origin's server does not know "sourcing" */
    char deliver[RB_JS_SOURCE_SUBJECT_MAX], answer[64];
    char consumer[RB_JS_NAME_MAX + 1];
    char identity[65];          /* of the origin; empty: not known */
    uint64_t consumer_seq;      /* of the last message that came; 0: none did */
    uint64_t last_seq;          /* its sequence at the origin */
    uint64_t expected;          /* what the copy will have come to when all in flight is applied */
    uint64_t proposed, applied; /* messages, in this life of the source */
    uint64_t confirm_at;        /* confirm_to is answered when `applied` has come so far */
    char confirm_to[RB_JS_SOURCE_SUBJECT_MAX], confirm_fields[128];
    uint64_t try_ns, heard_ns; /* monotonic */
    bool heard;
    uint64_t lag;
    uint32_t failures;
    struct rb_js_error error; /* code 0: none */
};

static inline struct rb_js *rb_js_source_js(const struct rb_js_source *source)
{
    return source->stream->account->js;
}
/** Ends what is under way and tries again after `wait_ns`; from the timer, so that it may be called from a special. */
void rb_js_source_again(struct rb_js_source *source, uint64_t wait_ns);
/** The same, later with each time. */
void rb_js_source_failed(struct rb_js_source *source);

/* source_request.c */
/** Asks the origin for a consumer that begins behind source->expected. False: nobody is there, or memory was refused. */
bool rb_js_source_ask(struct rb_js_source *source);
/** Its consumer is not needed any more. */
void rb_js_source_give_up(struct rb_js_source *source);
/** Of the special. */
bool rb_js_source_take_answer(struct rb_account *account, void *ctx, const struct rb_msg *msg);
/** 8 letters and digits that stand for `text`, as nats-server has them. */
void rb_js_source_hash(struct rb_slice text, char out[9]);
