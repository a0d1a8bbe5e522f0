/* direct.c - $JS.API.DIRECT.GET: messages as messages, without an API request.
 *
 * A get is worked on at once. What does not end at once (a body must be read from disk, a batch is long) goes on later: it is put
 * aside in the account's list `gets`, and is woken by its body or by its timer. A batch sends at most TURN_BYTES per turn, so that
 * the receiver's output is flushed in between and other work of the shard gets its turn.
 *
 *   single:  find -> send
 *   batch:   from `at` on: next message that matches -> send, until `left`, bytes or messages are used up -> EOB
 *   multi:   the last sequences of the subjects, computed at first, one after the other -> EOB
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/account.h"
#include "js/api_inside.h"
#include "js/message_get.h"
#include "js/stream_inside.h"
#include "proto/subject.h"

#define TURN_BYTES (512u << 10)
#define TURN_MESSAGES 512
#define TICK_NS 1000000u
/** Gets put aside in one account. */
#define GETS_MAX 10000
/** Subjects that multi_last may mean without paging; with paging, what is kept in memory. */
#define MULTI_MAX 1024
#define SCRATCH_KEEP (256u << 10)
#define SUBJECTS 4 /* plain and with a subject behind, without and with domain */

/* The subjects of one stream. */
struct direct {
    struct rb_list link; /* api->directs */
    struct rb_js_stream *stream;
    struct rb_slice name; /* the stream's, or that of the origin of a mirror; allocated */
    struct rb_special specials[SUBJECTS];
    uint32_t listening;
};

struct get {
    struct rb_list link; /* api->gets, once it was put aside */
    struct rb_js_body_wait wait;
    struct rb_js_api_timed timed;
    struct rb_js_api *api;
    struct rb_js_stream *stream;
    struct rb_slice reply, filter; /* filter: of batches; empty: all */
    bool batch, no_hdr;
    uint64_t at;         /* next sequence to look at; of a single get the one that is meant */
    int64_t left;        /* messages of the batch */
    uint64_t bytes_left; /* of max_bytes */
    uint64_t pending;    /* as Nats-Num-Pending says it */
    uint64_t last_sent, sent;
    uint64_t *seqs; /* multi: ascending */
    uint32_t seq_count, seq_index, seq_cap;
    uint64_t up_to_seq; /* of multi; 0: no multi */
    size_t bytes;       /* of this allocation; 0: on the stack */
};

enum step { STEP_DONE, STEP_BODY, STEP_LATER };

/* ---- answers ---- */

static void send_status(struct get *get, const char *line, struct rb_slice fields)
{
    rb_js_send_status(get->api->account, get->reply, RB_S(""), rb_slice_text(line), fields);
}

static void put_fields(struct rb_out *out, const struct get *get, const struct rb_message *message)
{
    /* A stored block ends with an empty line: fields go before it. */
    if (message->header_len > 2) {
        rb_out_put(out, rb_slice_of(message->payload.ptr, message->header_len - 2));
    } else {
        rb_out_put(out, RB_S("NATS/1.0\r\n"));
    }
    rb_out_printf(out, "Nats-Stream: %.*s\r\nNats-Subject: ", RB_S_ARG(get->stream->name));
    rb_out_put(out, message->subject);
    rb_out_printf(out, "\r\nNats-Sequence: %" PRIu64 "\r\nNats-Time-Stamp: ", message->seq);
    rb_out_plain_time(out, (int64_t)message->time_ns);
    if (get->batch) {
        rb_out_printf(out, "\r\nNats-Num-Pending: %" PRIu64 "\r\nNats-Last-Sequence: %" PRIu64,
                      get->pending, get->last_sent);
    }
    rb_out_put(out, RB_S("\r\n\r\n"));
}

static void send_message(struct get *get, const struct rb_message *message)
{
    struct rb_slice body = rb_slice_of(message->payload.ptr + message->header_len,
                                       message->payload.len - message->header_len);
    if (get->no_hdr) {
        (void)rb_js_send(get->api->account, get->reply, RB_S(""), RB_S(""), 0, body);
    } else {
        struct rb_out *out = &get->api->scratch;
        get->pending -= get->pending > 0;
        out->len = 0;
        put_fields(out, get, message);
        uint32_t header_len = (uint32_t)out->len;
        rb_out_put(out, body);
        if (!out->failed) {
            (void)rb_js_send(get->api->account, get->reply, RB_S(""), RB_S(""), header_len,
                             rb_out_slice(out));
        }
        if (out->failed || out->cap > SCRATCH_KEEP) {
            rb_out_deinit(out);
        }
    }
    uint64_t size = message->subject.len + message->payload.len;
    get->bytes_left -= size < get->bytes_left ? size : get->bytes_left;
    get->last_sent = message->seq;
    get->sent++;
    get->left--;
}

static void send_end(struct get *get)
{
    char fields[128];
    int len = snprintf(fields, sizeof(fields),
                       "Nats-Num-Pending: %" PRIu64 "\r\nNats-Last-Sequence: %" PRIu64 "\r\n",
                       get->pending, get->last_sent);
    if (get->up_to_seq > 0) {
        len += snprintf(fields + len, sizeof(fields) - (size_t)len,
                        "Nats-UpTo-Sequence: %" PRIu64 "\r\n", get->up_to_seq);
    }
    send_status(get, "204 EOB", rb_slice_of(fields, (size_t)len));
}

/* ---- one step after the other ---- */

static void free_get(struct get *get)
{
    struct rb_js *js = get->api->account->js;
    rb_free(js->budget, get->seqs, get->seq_cap * sizeof(*get->seqs));
    if (get->bytes == 0) {
        return;
    }
    rb_msgstore_forget(&get->wait.wait);
    rb_wheel_disarm(&js->wheel, &get->timed.timer);
    rb_list_remove(&get->link);
    get->api->get_count--;
    rb_free(js->budget, get, get->bytes);
}

/* The next sequence to send; 0: none. */
static uint64_t next_seq(struct get *get)
{
    if (get->up_to_seq > 0) {
        return get->seq_index < get->seq_count ? get->seqs[get->seq_index] : 0;
    }
    return get->filter.len > 0 ? rb_msgstore_first(get->stream->store, &get->filter, 1, get->at)
                               : rb_msgstore_next(get->stream->store, get->at);
}

static enum step run_single(struct get *get)
{
    struct rb_message message;
    enum rb_err err = get->at == 0
                          ? RB_ERR_MISSING
                          : rb_msgstore_get(get->stream->store, get->at,
                                            get->bytes > 0 ? &get->wait.wait : NULL, &message);
    if (err == RB_ERR_BUSY) {
        return STEP_BODY;
    }
    if (err == RB_OK) {
        send_message(get, &message);
    } else {
        send_status(get, err == RB_ERR_MISSING ? "404 Message Not Found" : "500 message is damaged",
                    RB_S(""));
    }
    return STEP_DONE;
}

static enum step run_batch(struct get *get)
{
    uint64_t sent_bytes = 0;
    for (uint32_t count = 0; get->left > 0 && get->bytes_left > 0; count++) {
        uint64_t seq = next_seq(get);
        struct rb_message message;
        if (seq == 0) {
            break;
        }
        if (count >= TURN_MESSAGES || sent_bytes >= TURN_BYTES) {
            return STEP_LATER;
        }
        enum rb_err err = rb_msgstore_get(get->stream->store, seq,
                                          get->bytes > 0 ? &get->wait.wait : NULL, &message);
        if (err == RB_ERR_BUSY) {
            return STEP_BODY;
        }
        get->at = seq + 1;
        get->seq_index++;
        if (err == RB_OK) {
            sent_bytes += message.payload.len;
            send_message(get, &message);
        }
    }
    if (get->sent == 0 && get->left > 0 && get->up_to_seq == 0) {
        send_status(get, "404 Message Not Found", RB_S(""));
    } else {
        send_end(get);
    }
    return STEP_DONE;
}

static enum step run(struct get *get)
{
    return get->batch ? run_batch(get) : run_single(get);
}

static void go_on(struct get *get)
{
    struct rb_js *js = get->api->account->js;
    switch (run(get)) {
    case STEP_DONE:
        free_get(get);
        break;
    case STEP_LATER:
        rb_wheel_arm(&js->wheel, &get->timed.timer, js->now_ns + TICK_NS);
        break;
    case STEP_BODY:
        break; /* the wait wakes it */
    }
}

static void get_loaded(struct rb_js_body_wait *wait)
{
    go_on(RB_CONTAINER(wait, struct get, wait));
}

static void get_fired(struct rb_js_api_timed *timed)
{
    go_on(RB_CONTAINER(timed, struct get, timed));
}

/* `get` lives on the caller's stack, and what it points to in the request: makes a copy that stays. */
static void put_aside(struct get *get, enum step step)
{
    struct rb_js_api *api = get->api;
    struct rb_js *js = api->account->js;
    size_t bytes = sizeof(*get) + get->reply.len + get->filter.len;
    struct get *copy = api->get_count < GETS_MAX ? rb_alloc(js->budget, bytes) : NULL;
    if (copy == NULL) {
        send_status(get, "429 Too Many Requests", RB_S(""));
        free_get(get);
        return;
    }
    *copy = *get;
    copy->bytes = bytes;
    struct rb_writer out = rb_writer_over(copy + 1, get->reply.len + get->filter.len);
    copy->reply.ptr = out.at;
    rb_write_slice(&out, get->reply);
    copy->filter.ptr = out.at;
    rb_write_slice(&out, get->filter);
    copy->wait.loaded = get_loaded;
    copy->wait.wait = (struct rb_msgstore_wait){ .owner = &copy->wait, .tag = RB_JS_WAIT_API };
    copy->timed.fired = get_fired;
    rb_timer_init(&copy->timed.timer, RB_JS_TIMER_API);
    rb_list_append(&api->gets, &copy->link);
    api->get_count++;
    if (step == STEP_LATER) {
        rb_wheel_arm(&js->wheel, &copy->timed.timer, js->now_ns + TICK_NS);
    } else {
        go_on(copy); /* asks again, with a wait this time */
    }
}

static void begin(struct get *get)
{
    enum step step = run(get);
    if (step == STEP_DONE) {
        free_get(get);
    } else {
        put_aside(get, step);
    }
}

void rb_js_gets_end(struct rb_js_api *api, const struct rb_js_stream *stream)
{
    for (struct rb_list *at = api->gets.next, *next; at != &api->gets; at = next) {
        struct get *get = RB_CONTAINER(at, struct get, link);
        next = at->next;
        if (stream == NULL || get->stream == stream) {
            free_get(get);
        }
    }
}

/* ---- multi_last ---- */

static bool add_seq(struct get *get, uint64_t seq)
{
    if (get->seq_count == get->seq_cap) {
        uint32_t cap = get->seq_cap == 0 ? 64 : get->seq_cap * 2;
        uint64_t *seqs = rb_realloc(get->api->account->js->budget, get->seqs,
                                    get->seq_cap * sizeof(*seqs), cap * sizeof(*seqs));
        if (seqs == NULL) {
            return false;
        }
        get->seqs = seqs;
        get->seq_cap = cap;
    }
    get->seqs[get->seq_count++] = seq;
    return true;
}

static int compare_seqs(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Sorts, and keeps each once: filters may overlap. */
static void compact(struct get *get)
{
    uint32_t kept = 0;
    if (get->seq_count > 0) {
        qsort(get->seqs, get->seq_count, sizeof(*get->seqs), compare_seqs);
    }
    for (uint32_t i = 0; i < get->seq_count; i++) {
        if (kept == 0 || get->seqs[kept - 1] != get->seqs[i]) {
            get->seqs[kept++] = get->seqs[i];
        }
    }
    get->seq_count = kept;
}

/* The last message of each subject that one of the filters matches, up to get->up_to_seq. False: too many, or no memory. */
static bool collect(struct get *get, const struct rb_doc_strings *filters, uint32_t max)
{
    const struct rb_msgstore *store = get->stream->store;
    for (uint32_t i = 0; i < filters->count; i++) {
        struct rb_msgstore_subjects at = { 0 };
        struct rb_msgstore_subject subject;
        while (rb_msgstore_next_subject(store, filters->items[i], &at, &subject)) {
            uint64_t seq = subject.last_seq;
            if (seq > get->up_to_seq) {
                seq = rb_msgstore_last(store, &subject.subject, 1, get->up_to_seq);
            }
            if (seq > 0 && !add_seq(get, seq)) {
                return false;
            }
            if (get->seq_count > 2 * max) {
                compact(get);
            }
            if (get->seq_count > 2 * max) {
                return false;
            }
        }
    }
    compact(get);
    return get->seq_count <= max;
}

/* NULL: there are results. Otherwise what to answer. */
static const char *prepare_multi(struct get *get, const struct rb_js_message_get *doc)
{
    struct rb_msgstore_state state;
    rb_msgstore_state(get->stream->store, &state);
    get->up_to_seq = state.last_seq;
    if (doc->up_to_seq > 0) {
        get->up_to_seq = doc->up_to_seq;
    } else if (doc->up_to_time != RB_DOC_NO_TIME) {
        uint64_t first_after = rb_msgstore_at_time(
            get->stream->store, doc->up_to_time < 0 ? 0 : (uint64_t)doc->up_to_time);
        if (first_after != 0) {
            get->up_to_seq = first_after - 1;
        }
    }
    if (state.messages == 0 || get->up_to_seq < state.first_seq ||
        get->up_to_seq > state.last_seq) {
        return "404 No Results";
    }
    if (!collect(get, &doc->multi_last, MULTI_MAX)) {
        return "413 Too Many Results";
    }
    while (get->seq_index < get->seq_count && get->seqs[get->seq_index] < doc->seq) {
        get->seq_index++;
    }
    get->pending = get->seq_count - get->seq_index;
    get->no_hdr = false; /* not of these */
    get->left = doc->batch > 0 ? doc->batch : INT64_MAX;
    return get->pending == 0 ? "404 No Results" : NULL;
}

/* ---- requests ---- */

static bool is_bad(const struct rb_js_message_get *doc)
{
    bool last = doc->last_by_subj.len > 0, next = doc->next_by_subj.len > 0;
    bool multi = doc->multi_last.count > 0;
    return rb_js_message_get_conflicts(doc) || (last && doc->batch != 0) ||
           (multi && (last || next)) || (doc->up_to_seq > 0 && doc->up_to_time != RB_DOC_NO_TIME);
}

static bool is_nothing(const struct rb_js_message_get *doc)
{
    return doc->seq == 0 && doc->last_by_subj.len == 0 && doc->next_by_subj.len == 0 &&
           doc->multi_last.count == 0 && doc->start_time == RB_DOC_NO_TIME;
}

static void begin_batch(struct get *get, const struct rb_js_message_get *doc)
{
    const struct rb_msgstore *store = get->stream->store;
    get->at = doc->seq > 0 ? doc->seq : 1;
    if (doc->start_time != RB_DOC_NO_TIME) {
        get->at = rb_msgstore_at_time(store, doc->start_time < 0 ? 0 : (uint64_t)doc->start_time);
        if (get->at == 0) {
            get->at = UINT64_MAX; /* behind everything */
        }
    }
    get->filter = doc->next_by_subj;
    get->left = doc->batch;
    get->pending = rb_msgstore_count(store, &get->filter, get->filter.len > 0 ? 1 : 0, get->at);
    begin(get);
}

/* `doc` lives in the caller's arena. */
static void begin_get(struct get *get, const struct rb_js_message_get *doc)
{
    uint64_t most = get->api->account->js->core->options.max_pending;
    get->bytes_left = doc->max_bytes > 0 ? (uint64_t)doc->max_bytes : most > 0 ? most : UINT64_MAX;
    get->no_hdr = doc->no_hdr;
    get->batch = doc->batch != 0 || doc->multi_last.count > 0;
    if (doc->multi_last.count > 0) {
        const char *refusal = prepare_multi(get, doc);
        if (refusal == NULL) {
            begin(get);
        } else {
            send_status(get, refusal, RB_S(""));
            free_get(get);
        }
    } else if (get->batch) {
        begin_batch(get, doc);
    } else {
        get->at = rb_js_message_get_find(doc, get->stream->store);
        begin(get);
    }
}

static const char *read_request(struct rb_arena *arena, struct rb_slice subject,
                                const struct rb_msg *msg, struct rb_js_message_get *doc)
{
    char why[RB_DOC_ERROR_MAX];
    struct rb_slice body =
        rb_slice_of(msg->payload.ptr + msg->header_len, msg->payload.len - msg->header_len);
    if (rb_js_level_refused(rb_slice_of(msg->payload.ptr, msg->header_len))) {
        return "412 Required Api Level";
    }
    rb_doc_init(&rb_js_message_get_type, doc);
    if (body.len == 0 && subject.len == 0) {
        return "408 Empty Request";
    }
    if (body.len > 0 && !rb_doc_read(arena, &rb_js_message_get_type, body, false, doc, why)) {
        return "408 Malformed Request";
    }
    if (subject.len > 0) {
        if (!is_nothing(doc) || doc->batch != 0 || doc->up_to_seq > 0 ||
            doc->up_to_time != RB_DOC_NO_TIME) {
            return "408 Bad Request";
        }
        doc->last_by_subj = subject;
        return NULL;
    }
    return is_nothing(doc) ? "408 Empty Request" : is_bad(doc) ? "408 Bad Request" : NULL;
}

/* What follows the stream's name; empty: nothing. */
static struct rb_slice subject_behind(const struct direct *direct, struct rb_slice subject)
{
    static const char words[] = ".DIRECT.GET.";
    const uint8_t *at = memmem(subject.ptr, subject.len, words, sizeof(words) - 1);
    size_t ahead = (size_t)(at - subject.ptr) + sizeof(words) - 1 + direct->name.len;
    return ahead < subject.len ? rb_slice_of(subject.ptr + ahead + 1, subject.len - ahead - 1)
                               : rb_slice_of(NULL, 0);
}

static bool take(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct direct *direct = ctx;
    struct rb_js_stream *stream = direct->stream;
    struct get get = { .api = stream->account->api, .stream = stream, .reply = msg->reply };
    struct rb_arena *arena;
    if (!stream->account->enabled) {
        return false;
    }
    if (msg->reply.len == 0) {
        return true;
    }
    if (rb_arena_create(1024, &arena) != RB_OK) {
        send_status(&get, "429 Too Many Requests", RB_S(""));
        return true;
    }
    struct rb_js_message_get doc;
    const char *refusal = read_request(arena, subject_behind(direct, msg->subject), msg, &doc);
    if (refusal != NULL) {
        send_status(&get, refusal, RB_S(""));
    } else {
        begin_get(&get, &doc);
    }
    rb_arena_destroy(arena);
    return true;
}

/* ---- life ---- */

static bool direct_equal(const void *item, struct rb_slice key)
{
    return rb_slice_equal(((const struct direct *)item)->name, key);
}

static uint64_t direct_hash(const void *item)
{
    return rb_slice_hash(((const struct direct *)item)->name);
}

void rb_js_directs_init(struct rb_js_api *api)
{
    rb_list_init(&api->directs);
    rb_map_init(&api->direct_map, api->account->js->budget, 0, direct_equal, direct_hash);
}

static void close_direct(struct rb_js_api *api, struct direct *direct)
{
    struct rb_account *account = api->account->account;
    for (uint32_t i = 0; i < direct->listening; i++) {
        rb_account_unlisten(account, &direct->specials[i]);
    }
    (void)rb_map_remove(&api->direct_map, direct_hash(direct), direct);
    rb_list_remove(&direct->link);
    rb_free(api->account->js->budget, (void *)(uintptr_t)direct->name.ptr, direct->name.len);
    rb_free(api->account->js->budget, direct, sizeof(*direct));
}

void rb_js_directs_close(struct rb_js_api *api)
{
    rb_js_gets_end(api, NULL);
    for (struct rb_list *at = api->directs.next, *next; at != &api->directs; at = next) {
        next = at->next;
        close_direct(api, RB_CONTAINER(at, struct direct, link));
    }
    rb_map_deinit(&api->direct_map);
}

static enum rb_err listen(struct rb_js_api *api, struct direct *direct)
{
    struct rb_slice domain = api->account->js->settings->domain;
    for (int i = 0; i < (domain.len > 0 ? SUBJECTS : 2); i++) {
        char subject[2 * RB_JS_NAME_MAX + 64];
        int len = snprintf(subject, sizeof(subject), "$JS.%.*s%sAPI.DIRECT.GET.%.*s%s",
                           i < 2 ? 0 : (int)domain.len, (const char *)domain.ptr, i < 2 ? "" : ".",
                           RB_S_ARG(direct->name), i % 2 == 0 ? "" : ".>");
        struct rb_special *special = &direct->specials[i];
        special->take = take;
        special->ctx = direct;
        enum rb_err err = len >= (int)sizeof(subject)
                              ? RB_ERR_INVALID
                              : rb_account_listen(api->account->account,
                                                  rb_slice_of(subject, (size_t)len), special);
        if (err != RB_OK) {
            return err;
        }
        direct->listening++;
    }
    return RB_OK;
}

static struct direct *find(const struct rb_js_api *api, struct rb_slice name)
{
    return rb_map_find(&api->direct_map, rb_slice_hash(name), name);
}

/* `stream` answers for `name` from now on, whoever did before. */
static enum rb_err open_as(struct rb_js_api *api, struct rb_js_stream *stream, struct rb_slice name)
{
    struct rb_budget *budget = api->account->js->budget;
    struct direct *direct = find(api, name);
    if (direct != NULL) {
        direct->stream = stream;
        return RB_OK;
    }
    direct = rb_alloc(budget, sizeof(*direct));
    uint8_t *copy = rb_alloc(budget, name.len);
    if (direct == NULL || copy == NULL) {
        rb_free(budget, direct, sizeof(*direct));
        rb_free(budget, copy, name.len);
        return RB_ERR_MEMORY;
    }
    memcpy(copy, name.ptr, name.len);
    direct->stream = stream;
    direct->name = rb_slice_of(copy, name.len);
    rb_list_append(&api->directs, &direct->link);
    enum rb_err err = rb_map_insert(&api->direct_map, direct_hash(direct), direct);
    if (err == RB_OK) {
        err = listen(api, direct);
    }
    if (err != RB_OK) {
        close_direct(api, direct);
    }
    return err;
}

/* All that `stream` answers for, but for its own name when `keep_own`. */
static void close_all(struct rb_js_api *api, const struct rb_js_stream *stream, bool keep_own)
{
    for (struct rb_list *at = api->directs.next, *next; at != &api->directs; at = next) {
        struct direct *direct = RB_CONTAINER(at, struct direct, link);
        next = at->next;
        if (direct->stream == stream && !(keep_own && rb_slice_equal(direct->name, stream->name))) {
            close_direct(api, direct);
        }
    }
}

/* A mirror answers for its origin when that is not there (any more). */
static bool stands_in(const struct rb_js_stream *stream)
{
    const struct rb_js_source_config *mirror = stream->config->mirror;
    return mirror != NULL && mirror->external == NULL && stream->config->mirror_direct &&
           rb_js_stream_any(stream->account, mirror->name) == NULL;
}

enum rb_err rb_js_direct_open(struct rb_js_stream *stream)
{
    struct rb_js_api *api = rb_js_api_of(stream->account);
    if (api == NULL) {
        return RB_ERR_MEMORY;
    }
    close_all(api, stream, stream->config->allow_direct);
    enum rb_err err = RB_OK;
    if (stream->config->allow_direct) {
        err = open_as(api, stream, stream->name);
    }
    if (err == RB_OK && stands_in(stream) && find(api, stream->config->mirror->name) == NULL) {
        err = open_as(api, stream, stream->config->mirror->name);
    }
    return err;
}

void rb_js_direct_close(struct rb_js_stream *stream)
{
    struct rb_js_api *api = stream->account->api;
    if (api == NULL) {
        return;
    }
    rb_js_gets_end(api, stream);
    rb_js_message_gets_end(api, stream);
    rb_js_transfers_end(api, stream);
    close_all(api, stream, false);
}
