/* restore.c - $JS.API.STREAM.RESTORE: a stream made anew from its archive.
 *
 *   chunks -> S2 -> archive entries -> stream, consumers, messages as commands -> the configuration that was asked for
 *
 * While it is being filled the stream listens to a subject that nobody knows ("_RESTORE_.<nuid>") instead of its own, so that what
 * clients publish meanwhile can not come between its messages; the last step is an update to the real configuration. A restore that
 * fails or is given up deletes what it made. A chunk is acknowledged once its entries were read; entries are read while fewer than
 * PENDING_MAX commands wait. What is wrong is told in the answer to the empty chunk that ends the archive.
 *
 * `step` says what is waited for; commands under way keep the restore in memory even when its account is gone (rule 2 of
 * api_inside.h).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/nuid.h"
#include "core/account.h"
#include "js/archive.h"
#include "js/source.h"
#include "js/transfer.h"
#include "proto/s2.h"

#define PENDING_MAX 1000
#define TICK_NS 1000000u
#define REPLY_MAX 512
/** Chunks whose acknowledgement is due. */
#define REPLIES_MAX 64

/* ---- documents ---- */

struct lost {
    uint64_t bytes;
};
static const struct rb_doc_field lost_fields[] = {
    { "msgs", RB_DOC_U64S },
    { "bytes", RB_DOC_U64, 0, offsetof(struct lost, bytes) },
};
static const struct rb_doc_type lost_type = { "LostStreamData", sizeof(struct lost), lost_fields,
                                              2 };
struct state {
    uint64_t messages, bytes, first_seq, last_seq;
    int64_t first_ts, last_ts, num_subjects, num_deleted, consumer_count;
    struct lost *lost;
};
#define STATE(field) offsetof(struct state, field)
static const struct rb_doc_field state_fields[] = {
    { "messages", RB_DOC_U64, 0, STATE(messages) },
    { "bytes", RB_DOC_U64, 0, STATE(bytes) },
    { "first_seq", RB_DOC_U64, 0, STATE(first_seq) },
    { "first_ts", RB_DOC_TIME, 0, STATE(first_ts) },
    { "last_seq", RB_DOC_U64, 0, STATE(last_seq) },
    { "last_ts", RB_DOC_TIME, 0, STATE(last_ts) },
    { "num_subjects", RB_DOC_INT, 0, STATE(num_subjects) },
    { "subjects", RB_DOC_COUNTS },
    { "num_deleted", RB_DOC_INT, 0, STATE(num_deleted) },
    { "deleted", RB_DOC_U64S },
    { "lost", RB_DOC_OBJECT, 0, STATE(lost), NULL, &lost_type },
    { "consumer_count", RB_DOC_INT, 0, STATE(consumer_count) },
};
static const struct rb_doc_type state_type = { "StreamState", sizeof(struct state), state_fields,
                                               sizeof(state_fields) / sizeof(state_fields[0]) };
struct restore_request {
    struct rb_js_stream_config config;
    struct state state;
};
static const struct rb_doc_field request_fields[] = {
    { "config", RB_DOC_INLINE, 0, offsetof(struct restore_request, config), NULL,
      &rb_js_stream_config_type },
    { "state", RB_DOC_INLINE, 0, offsetof(struct restore_request, state), NULL, &state_type },
};
static const struct rb_doc_type request_type = { "JSApiStreamRestoreRequest",
                                                 sizeof(struct restore_request), request_fields,
                                                 2 };
/* ---- state ---- */

enum step {
    STEP_CHUNKS,   /* for bytes, or for room among the commands */
    STEP_MAKE,     /* the stream is being made */
    STEP_CONSUMER, /* one consumer is being made */
    STEP_TAIL,     /* the last commands are to be applied */
    STEP_UPDATE,   /* the real configuration is being set */
    STEP_FAILED,   /* chunks are taken and forgotten until the last one */
};

struct restore {
    struct rb_js_transfer transfer;
    struct rb_js *js;
    struct rb_arena *arena;
    const struct rb_js_stream_config *config; /* as it was asked for */
    enum step step;
    struct rb_s2_reader s2;
    struct rb_archive_reader archive;
    struct rb_js_change change;
    struct rb_js_waiter waiter; /* of the trailing gap */
    uint32_t pending;           /* commands under way, this change and this waiter among them */
    uint64_t state_last_seq, last_seq, taken_bytes;
    struct rb_list consumers; /* struct kept.link */
    uint64_t chunk_ns;        /* when the last one came */
    bool changing, gone, ending, later, named;
    char replies[REPLIES_MAX][REPLY_MAX]; /* to be acknowledged */
    uint32_t reply_count;
    char last_reply[REPLY_MAX]; /* of the empty chunk */
    struct rb_js_error error;   /* code 0: none yet */
    char nuid[RB_NUID_LEN];
    size_t bytes;
};

/* A consumer of the archive that is made later. */
struct kept {
    struct rb_list link;
    struct rb_slice name, payload;
    size_t bytes;
    uint8_t text[];
};

/* A message's command under way. */
struct message {
    struct rb_js_change change;
    struct restore *restore;
};

/* Frees what is left once nothing refers to it any more. */
static void maybe_free(struct restore *restore)
{
    if (!restore->gone || restore->pending > 0) {
        return;
    }
    for (struct rb_list *link; (link = rb_list_pop(&restore->consumers)) != NULL;) {
        struct kept *kept = RB_CONTAINER(link, struct kept, link);
        rb_free(restore->js->budget, kept, kept->bytes);
    }
    rb_s2_reader_deinit(&restore->s2);
    rb_archive_reader_deinit(&restore->archive);
    rb_arena_destroy(restore->arena);
    rb_free(restore->js->budget, restore, restore->bytes);
}

/* The account forgets the restore; its memory goes with the last command. */
static void leave(struct restore *restore)
{
    restore->gone = true;
    rb_js_transfer_close(&restore->transfer);
    maybe_free(restore);
}

static void go_on_later(struct restore *restore)
{
    if (!restore->gone && !restore->later) {
        restore->later = true;
        rb_js_transfer_arm(&restore->transfer, TICK_NS);
    }
}

static void dropped(struct rb_js_change *change, struct rb_js_stream *stream,
                    const struct rb_js_outcome *outcome)
{
    struct restore *restore = RB_CONTAINER(change, struct restore, change);
    restore->pending--;
    maybe_free(restore);
}

/* Removes the half-made stream; while it is being changed, changed() does it. */
static void drop_stream(struct restore *restore)
{
    struct rb_js_stream *stream = restore->transfer.stream;
    if (stream != NULL && !restore->changing) {
        restore->transfer.stream = NULL;
        restore->change = (struct rb_js_change){ .done = dropped };
        restore->pending++;
        rb_js_stream_delete(stream, &restore->change);
    }
}

/* Its account or stream goes. */
static void end(struct rb_js_transfer *transfer)
{
    struct restore *restore = RB_CONTAINER(transfer, struct restore, transfer);
    transfer->stream = NULL;
    leave(restore);
}

/* ---- answers ---- */

static void acknowledge(struct restore *restore)
{
    struct rb_js_account *account = restore->transfer.account;
    for (uint32_t i = 0; i < restore->reply_count; i++) {
        (void)rb_js_send(account, rb_slice_text(restore->replies[i]), RB_S(""), RB_S(""), 0,
                         RB_S(""));
    }
    restore->reply_count = 0;
}

/* The answer to the last chunk; then the restore is over. */
static void answer(struct restore *restore)
{
    struct rb_js_account *account = restore->transfer.account;
    struct rb_out out;
    rb_out_init(&out, restore->js->budget);
    rb_out_put(&out, RB_S("{\"type\":\"io.nats.jetstream.api.v1.stream_create_response\","));
    if (restore->error.code != 0) {
        rb_out_put(&out, RB_S("\"error\":"));
        rb_js_error_write(&out, &restore->error);
    } else {
        rb_js_write_info(
            &out, restore->transfer.stream,
            &(struct rb_js_info_options){ .dynamic_metadata = true, .no_domain = true });
    }
    rb_out_put(&out, RB_S("}"));
    acknowledge(restore);
    if (!out.failed && restore->last_reply[0] != '\0') {
        (void)rb_js_send(account, rb_slice_text(restore->last_reply), RB_S(""), RB_S(""), 0,
                         rb_out_slice(&out));
    }
    rb_out_deinit(&out);
    rb_js_transfer_advise(&restore->transfer, RB_JS_RESTORE_COMPLETE, restore->taken_bytes, NULL);
    if (restore->error.code == 0) {
        restore->transfer.stream = NULL; /* it is like any other now */
    }
    leave(restore);
}

static void fail(struct restore *restore, const char *why)
{
    if (restore->error.code == 0) {
        rb_js_error_set(&restore->error, 10062, why);
    }
    restore->step = STEP_FAILED;
    drop_stream(restore);
    go_on_later(restore);
}

static void fail_as(struct restore *restore, const struct rb_js_error *error)
{
    fail(restore, error->text);
}

/* ---- changes ---- */

static void take_outcome(struct restore *restore, struct rb_js_stream *stream,
                         const struct rb_js_outcome *outcome)
{
    if (restore->gone) {
        maybe_free(restore);
        return;
    }
    if (outcome->error.code == 0) {
        restore->transfer.stream = stream;
    }
    if (outcome->error.code != 0) {
        fail_as(restore, &outcome->error);
    } else if (stream == NULL) {
        fail(restore, "stream was removed");
    } else if (restore->step == STEP_FAILED) {
        drop_stream(restore);
    } else if (restore->step == STEP_MAKE || restore->step == STEP_UPDATE) {
        rb_js_sources_hold(stream, restore->step == STEP_MAKE); /* nothing is pulled meanwhile */
    }
    go_on_later(restore);
}

static void changed(struct rb_js_change *change, struct rb_js_stream *stream,
                    const struct rb_js_outcome *outcome)
{
    struct restore *restore = RB_CONTAINER(change, struct restore, change);
    restore->pending--;
    restore->changing = false;
    take_outcome(restore, stream, outcome);
}

static struct rb_js_change *begin_change(struct restore *restore, enum step step)
{
    restore->step = step;
    restore->changing = true;
    restore->pending++;
    restore->change = (struct rb_js_change){ .done = changed };
    return &restore->change;
}

static void message_done(struct rb_js_change *change, struct rb_js_stream *stream,
                         const struct rb_js_outcome *outcome)
{
    struct message *message = RB_CONTAINER(change, struct message, change);
    struct restore *restore = message->restore;
    rb_free(restore->js->budget, message, sizeof(*message));
    restore->pending--;
    if (outcome->error.code != 0 && !restore->gone && restore->step != STEP_FAILED) {
        fail_as(restore, &outcome->error);
    } else if (restore->gone) {
        maybe_free(restore);
    } else {
        go_on_later(restore);
    }
}

static void tail_done(struct rb_js_waiter *waiter, enum rb_err err, const void *outcome)
{
    struct restore *restore = RB_CONTAINER(waiter, struct restore, waiter);
    restore->pending--;
    if (restore->gone) {
        maybe_free(restore);
    } else if (err != RB_OK) {
        fail(restore, rb_err_text(err));
    } else {
        go_on_later(restore);
    }
}

/* ---- entries ---- */

/* The stream as it is while it is being filled. */
static bool make_stream(struct restore *restore)
{
    struct rb_js_stream_config config = *restore->config;
    char subject[RB_NUID_LEN + 16];
    int len = snprintf(subject, sizeof(subject), "_RESTORE_.%.*s", RB_NUID_LEN, restore->nuid);
    struct rb_slice item = rb_slice_of(subject, (size_t)len);
    if (config.mirror == NULL) {
        config.subjects = (struct rb_doc_strings){ &item, 1 };
    }
    config.sealed = false;
    rb_js_stream_create(restore->transfer.account, &config, begin_change(restore, STEP_MAKE));
    return false;
}

static bool read_state(struct restore *restore, const struct rb_archive_entry *entry)
{
    struct state state;
    char why[RB_DOC_ERROR_MAX];
    if (!rb_doc_read(restore->arena, &state_type, entry->payload, false, &state, why)) {
        fail(restore, "state.json of the archive can not be read");
        return false;
    }
    restore->state_last_seq = state.last_seq;
    return true;
}

/* Consumers are made when all messages are there, so that nothing is delivered before. */
static bool keep_consumer(struct restore *restore, const struct rb_archive_entry *entry)
{
    struct rb_slice prefix = RB_S("consumers/");
    struct rb_slice name = rb_slice_of(entry->name.ptr + prefix.len, entry->name.len - prefix.len);
    if (name.len == 0 || name.len > RB_JS_NAME_MAX) {
        fail(restore, "consumer of the archive has no name");
        return false;
    }
    size_t bytes = sizeof(struct kept) + name.len + entry->payload.len;
    struct kept *kept = rb_alloc(restore->js->budget, bytes);
    if (kept == NULL) {
        fail(restore, "not enough memory");
        return false;
    }
    struct rb_writer out = rb_writer_over(kept->text, name.len + entry->payload.len);
    kept->name = rb_slice_of(out.at, name.len);
    rb_write_slice(&out, name);
    kept->payload = rb_slice_of(out.at, entry->payload.len);
    rb_write_slice(&out, entry->payload);
    kept->bytes = bytes;
    rb_list_append(&restore->consumers, &kept->link);
    return true;
}

static void create_consumer(struct restore *restore, struct rb_arena *arena,
                            const struct kept *kept)
{
    struct rb_js_consumer_config config;
    struct rb_out state;
    rb_out_init(&state, restore->js->budget);
    const char *why = rb_js_archived_consumer(restore->transfer.stream->store, arena, kept->payload,
                                              &config, &state);
    if (why == NULL) {
        config.name = kept->name;
        rb_js_consumer_restore(restore->transfer.stream, &config, rb_out_slice(&state),
                               begin_change(restore, STEP_CONSUMER));
    } else {
        fail(restore, why);
    }
    rb_out_deinit(&state);
}

/* The next consumer; false: there is no more. */
static bool make_consumer(struct restore *restore)
{
    struct rb_list *link = rb_list_pop(&restore->consumers);
    if (link == NULL) {
        return false;
    }
    struct kept *kept = RB_CONTAINER(link, struct kept, link);
    struct rb_arena *arena;
    if (rb_arena_create(2048, &arena) == RB_OK) {
        create_consumer(restore, arena, kept);
        rb_arena_destroy(arena);
    } else {
        fail(restore, "not enough memory");
    }
    rb_free(restore->js->budget, kept, kept->bytes);
    return true;
}

static bool put_message(struct restore *restore, const struct rb_archive_entry *entry)
{
    if (entry->seq <= restore->last_seq) {
        fail(restore, "messages of the archive are out of order");
        return false;
    }
    struct message *message = rb_alloc(restore->js->budget, sizeof(*message));
    if (message == NULL) {
        fail(restore, "not enough memory");
        return false;
    }
    message->restore = restore;
    message->change.done = message_done;
    restore->last_seq = entry->seq;
    restore->pending++;
    /* Header and payload lie one behind the other in the archive. */
    const struct rb_command command = {
        .type = RB_COMMAND_PUBLISH,
        .flags = RB_COMMAND_KEEP_SEQ | RB_COMMAND_SOURCED,
        .time_ns = (uint64_t)entry->time_ns,
        .seq = entry->seq,
        .subject = entry->name,
        .text = rb_slice_of(entry->header.ptr, entry->header.len + entry->payload.len),
        .header_len = (uint32_t)entry->header.len,
    };
    rb_js_stream_publish(restore->transfer.stream, &command, &message->change);
    return restore->step == STEP_CHUNKS;
}

/* False: nothing more can be done now. */
static bool take_entry(struct restore *restore, const struct rb_archive_entry *entry)
{
    if (!restore->named) {
        restore->named = true;
        if (!rb_slice_equal(entry->name, RB_S("state.json"))) {
            fail(restore, "archive does not begin with state.json");
            return false;
        }
        return read_state(restore, entry) && make_stream(restore);
    }
    if (entry->seq > 0) {
        return put_message(restore, entry);
    }
    if (rb_slice_starts(entry->name, RB_S("consumers/"))) {
        return keep_consumer(restore, entry);
    }
    fail(restore, "entry of an unknown kind in the archive");
    return false;
}

/* ---- going on ---- */

/* Reads entries while there are bytes and room; true: it wants more bytes. */
static bool read_entries(struct restore *restore)
{
    while (restore->step == STEP_CHUNKS && restore->pending < PENDING_MAX) {
        struct rb_archive_entry entry;
        struct rb_slice block;
        switch (rb_archive_read(&restore->archive, &entry)) {
        case RB_ARCHIVE_ENTRY:
            if (!take_entry(restore, &entry)) {
                return false;
            }
            continue;
        case RB_ARCHIVE_BAD:
            fail(restore, restore->archive.why);
            return false;
        case RB_ARCHIVE_END:
        case RB_ARCHIVE_MORE:
            break;
        }
        switch (rb_s2_read(&restore->s2, &block)) {
        case RB_S2_BLOCK:
            if (!rb_archive_feed(&restore->archive, block)) {
                fail(restore, "not enough memory");
                return false;
            }
            break;
        case RB_S2_BAD:
            fail(restore, restore->s2.why);
            return false;
        case RB_S2_MORE:
            return true;
        }
    }
    return false;
}

/* The archive is whole: what follows its last message is used up too. */
static void finish_messages(struct restore *restore)
{
    if (!restore->archive.ended || !rb_s2_at_boundary(&restore->s2)) {
        fail(restore, restore->taken_bytes == 0 ? "EOF" : "unexpected EOF");
        return;
    }
    restore->step = STEP_TAIL;
    if (restore->state_last_seq > restore->last_seq) {
        const struct rb_command command = { .type = RB_COMMAND_SKIP,
                                            .seq = restore->state_last_seq };
        restore->waiter.done = tail_done;
        restore->pending++;
        enum rb_err err =
            rb_js_stream_propose(restore->transfer.stream, &command, &restore->waiter);
        if (err != RB_OK) {
            restore->pending--;
            fail(restore, rb_err_text(err));
        }
    }
}

static void go_on(struct restore *restore)
{
    if (restore->changing) {
        return; /* changed() wakes it */
    }
    if (restore->step == STEP_MAKE) {
        restore->step = STEP_CHUNKS;
    } else if (restore->step == STEP_CONSUMER) {
        restore->step = STEP_TAIL;
    }
    if (restore->step == STEP_CHUNKS && read_entries(restore)) {
        acknowledge(restore);
        if (restore->ending) {
            finish_messages(restore);
        }
    }
    if (restore->step == STEP_TAIL && restore->pending == 0 && !make_consumer(restore)) {
        rb_js_stream_restored(restore->transfer.stream, restore->config,
                              begin_change(restore, STEP_UPDATE));
        return;
    }
    if (restore->step == STEP_UPDATE && !restore->changing) {
        answer(restore);
    } else if (restore->step == STEP_FAILED) {
        acknowledge(restore);
        if (restore->ending) {
            answer(restore);
        }
    }
}

static void fired(struct rb_js_api_timed *timed)
{
    struct rb_js_transfer *transfer = RB_CONTAINER(timed, struct rb_js_transfer, timed);
    struct restore *restore = RB_CONTAINER(transfer, struct restore, transfer);
    struct rb_js *js = restore->js;
    if (restore->later) {
        restore->later = false;
        rb_js_transfer_arm(transfer, RB_JS_TRANSFER_IDLE_NS);
        go_on(restore);
    } else if (!restore->ending && restore->pending == 0 &&
               js->now_ns - restore->chunk_ns >= RB_JS_TRANSFER_IDLE_NS) {
        drop_stream(restore); /* nobody sends any more */
        rb_js_transfer_advise(transfer, RB_JS_RESTORE_COMPLETE, restore->taken_bytes, NULL);
        leave(restore);
    } else {
        rb_js_transfer_arm(transfer, RB_JS_TRANSFER_IDLE_NS);
    }
}

static void note_reply(char out[REPLY_MAX], struct rb_slice reply)
{
    memcpy(out, reply.ptr, reply.len);
    out[reply.len] = '\0';
}

static bool take_chunk(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct rb_js_transfer *transfer = ctx;
    struct restore *restore = RB_CONTAINER(transfer, struct restore, transfer);
    struct rb_slice chunk =
        rb_slice_of(msg->payload.ptr + msg->header_len, msg->payload.len - msg->header_len);
    if (restore->ending || msg->reply.len >= REPLY_MAX) {
        return true;
    }
    restore->chunk_ns = restore->js->now_ns;
    restore->taken_bytes += chunk.len;
    if (chunk.len == 0) {
        restore->ending = true;
        if (msg->reply.len > 0) {
            note_reply(restore->last_reply, msg->reply);
        }
    } else if (restore->step != STEP_FAILED) {
        enum rb_err err = rb_s2_feed(&restore->s2, chunk);
        if (err != RB_OK) {
            fail(restore, err == RB_ERR_FULL ? "chunks were not waited for" : rb_err_text(err));
        }
    }
    if (chunk.len > 0 && msg->reply.len > 0) {
        if (restore->reply_count == REPLIES_MAX) {
            fail(restore, "chunks were not waited for");
        } else {
            note_reply(restore->replies[restore->reply_count++], msg->reply);
        }
    }
    go_on_later(restore);
    return true;
}

/* ---- requests ---- */

/* Takes the request's arena. */
static struct restore *create(struct rb_js_request *request,
                              const struct rb_js_stream_config *config)
{
    struct rb_js *js = request->js;
    size_t extra = request->name.len + request->client.len;
    struct restore *restore = rb_alloc(js->budget, sizeof(*restore) + extra);
    if (restore == NULL) {
        return NULL;
    }
    struct rb_writer out = rb_writer_over(restore + 1, extra);
    struct rb_js_transfer *transfer = &restore->transfer;
    restore->bytes = sizeof(*restore) + extra;
    restore->js = js;
    restore->config = config;
    transfer->name = rb_slice_of(out.at, request->name.len);
    rb_write_slice(&out, request->name);
    transfer->client = rb_slice_of(out.at, request->client.len);
    rb_write_slice(&out, request->client);
    transfer->api = request->account->api;
    transfer->end = end;
    transfer->timed.fired = fired;
    restore->chunk_ns = js->now_ns;
    rb_list_init(&restore->consumers);
    rb_s2_reader_init(&restore->s2, js->budget);
    rb_archive_reader_init(&restore->archive, js->budget);
    rb_nuid(js->env, restore->nuid);
    char subject[2 * RB_JS_NAME_MAX];
    int len = snprintf(subject, sizeof(subject), "$JS.SNAPSHOT.RESTORE.%.*s.%.*s",
                       RB_S_ARG(request->name), RB_NUID_LEN, restore->nuid);
    if (!rb_js_transfer_open(transfer, rb_slice_of(subject, (size_t)len), take_chunk)) {
        rb_free(js->budget, restore, restore->bytes);
        return NULL;
    }
    restore->arena = request->arena;
    request->arena = NULL;
    return restore;
}

static bool has_separator(struct rb_slice name)
{
    return name.len > 0 &&
           (memchr(name.ptr, '/', name.len) != NULL || memchr(name.ptr, '\\', name.len) != NULL);
}

/* What must hold before anything is sent; false: answered. */
static bool check_request(struct rb_js_request *request, struct rb_js_stream_config *config)
{
    struct rb_js_error error;
    if (config->name.len == 0) {
        config->name = request->name;
    }
    if (!rb_slice_equal(config->name, request->name)) {
        rb_js_answer_code(request, 10056, NULL);
        return false;
    }
    if (has_separator(config->name)) {
        rb_js_answer_code(request, 10128, NULL);
        return false;
    }
    if (rb_js_stream_find(request->account, request->name) != NULL) {
        rb_js_answer_code(request, 10130, NULL);
        return false;
    }
    struct rb_js_stream_config *copy = rb_arena_take(request->arena, sizeof(*copy));
    if (copy == NULL || !rb_doc_copy(request->arena, &rb_js_stream_config_type, config, copy)) {
        rb_js_answer_code(request, 10028, NULL);
        return false;
    }
    if (!rb_js_stream_config_check(request->account, copy, request->arena, NULL, &error)) {
        rb_js_answer_error(request, &error);
        return false;
    }
    return true;
}

void rb_js_api_restore(struct rb_js_request *request)
{
    struct rb_arena *arena = rb_js_request_arena(request);
    if (arena == NULL) {
        return;
    }
    struct restore_request *doc = rb_arena_take(arena, sizeof(*doc));
    if (doc == NULL || rb_js_body_is_empty(request->body)) {
        rb_js_answer_code(request, doc == NULL ? 10028 : 10003, NULL);
        return;
    }
    if (!rb_js_request_read(request, &request_type, false, doc) ||
        !check_request(request, &doc->config)) {
        return;
    }
    struct restore *restore = create(request, &doc->config);
    if (restore == NULL) {
        rb_js_answer_code(request, 10062, "too many transfers of streams");
        return;
    }
    rb_js_transfer_advise(&restore->transfer, RB_JS_RESTORE_CREATE, 0, NULL);
    rb_js_transfer_arm(&restore->transfer, RB_JS_TRANSFER_IDLE_NS);
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_printf(&out, ",\"deliver_subject\":\"$JS.SNAPSHOT.RESTORE.%.*s.%.*s\"",
                  RB_S_ARG(request->name), RB_NUID_LEN, restore->nuid);
    rb_js_answer_send(request, &out, RB_S(""));
}
