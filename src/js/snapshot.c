/* snapshot.c - $JS.API.STREAM.SNAPSHOT: a stream's archive, sent in chunks that the receiver acknowledges.
 *
 *   WAIT (somebody must listen) -> CONSUMERS -> MESSAGES -> TAIL -> gone
 *
 * The archive is made as it is sent: `raw` holds entries, `framed` the same in an S2 stream, and neither grows while the window is
 * full. A snapshot shows the messages that are there when their turn comes, of those that were there when it began; what was removed
 * meanwhile is a gap. Consumers are shown with what was delivered set back to what was acknowledged: whoever restores them delivers
 * again what was on its way.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/nuid.h"
#include "core/account.h"
#include "js/archive.h"
#include "js/transfer.h"
#include "proto/s2.h"
#include "proto/subject.h"

#define CHUNK_DEFAULT (128 << 10)
#define CHUNK_MIN (1 << 10)
#define CHUNK_MAX (1 << 20)
#define WINDOW_DEFAULT (8 << 20)
#define WINDOW_MIN (1 << 10)
#define WINDOW_MAX (32 << 20)
#define INTEREST_POLL_NS 50000000u
#define INTEREST_TRIES 40 /* 2 s */
#define TICK_NS 1000000u

struct snapshot_request {
    struct rb_slice deliver_subject;
    bool no_consumers, jsck;
    int64_t chunk_size, window_size;
};
#define AT(field) offsetof(struct snapshot_request, field)
static const struct rb_doc_field request_fields[] = {
    { "deliver_subject", RB_DOC_STRING, 0, AT(deliver_subject) },
    { "no_consumers", RB_DOC_BOOL, 0, AT(no_consumers) },
    { "chunk_size", RB_DOC_INT, 0, AT(chunk_size) },
    { "window_size", RB_DOC_INT, 0, AT(window_size) },
    { "jsck", RB_DOC_BOOL, 0, AT(jsck) }, /* every body's checksum is checked anyway */
};
static const struct rb_doc_type request_type = { "JSApiStreamSnapshotRequest",
                                                 sizeof(struct snapshot_request), request_fields,
                                                 sizeof(request_fields) /
                                                     sizeof(request_fields[0]) };

enum phase { PHASE_WAIT, PHASE_CONSUMERS, PHASE_MESSAGES, PHASE_TAIL };

struct snapshot {
    struct rb_js_transfer transfer;
    struct rb_js_body_wait wait;
    enum phase phase;
    struct rb_slice deliver; /* behind the struct */
    char nuid[RB_NUID_LEN];
    size_t chunk_bytes;
    uint32_t in_flight, in_flight_max, chunk_index, tries;
    bool no_consumers, later;
    uint64_t seq, last_seq;
    uint64_t progress_ns; /* when an ack came or a chunk went */
    struct rb_out raw, framed;
    size_t framed_at;
    size_t bytes; /* of this allocation */
};

static void finish(struct snapshot *snapshot)
{
    struct rb_budget *budget = snapshot->transfer.account->js->budget;
    rb_msgstore_forget(&snapshot->wait.wait);
    rb_js_transfer_close(&snapshot->transfer);
    rb_out_deinit(&snapshot->raw);
    rb_out_deinit(&snapshot->framed);
    rb_free(budget, snapshot, snapshot->bytes);
}

static void end(struct rb_js_transfer *transfer)
{
    struct snapshot *snapshot = RB_CONTAINER(transfer, struct snapshot, transfer);
    rb_js_send_status(transfer->account, snapshot->deliver, RB_S(""), RB_S("500 stream is gone"),
                      RB_S(""));
    finish(snapshot);
}

static void give_up(struct snapshot *snapshot, const char *line)
{
    struct rb_js_account *account = snapshot->transfer.account;
    rb_js_send_status(account, snapshot->deliver, RB_S(""), rb_slice_text(line), RB_S(""));
    bool damaged = line[0] == '5'; /* a receiver that went away is not worth an error */
    rb_js_transfer_advise(&snapshot->transfer, RB_JS_SNAPSHOT_COMPLETE, 0,
                          damaged ? strchr(line, ' ') + 1 : NULL);
    finish(snapshot);
}

/* ---- what is sent ---- */

/* Frames whole blocks of what was made; all of it when `rest`. */
static void frame(struct snapshot *snapshot, bool rest)
{
    struct rb_out *raw = &snapshot->raw;
    size_t at = 0;
    uint8_t block[RB_S2_WRITE_MAX + RB_S2_WRITE_EXTRA];
    while (raw->len - at >= RB_S2_WRITE_MAX || (rest && raw->len > at)) {
        size_t len = raw->len - at < RB_S2_WRITE_MAX ? raw->len - at : RB_S2_WRITE_MAX;
        struct rb_writer out = rb_writer_over(block, sizeof(block));
        rb_s2_write_block(&out, rb_slice_of(raw->bytes + at, len));
        rb_out_put(&snapshot->framed, rb_slice_of(block, rb_writer_len(&out)));
        at += len;
    }
    if (at > 0) {
        memmove(raw->bytes, raw->bytes + at, raw->len - at);
        raw->len -= at;
    }
}

static void send_chunk(struct snapshot *snapshot, size_t len, bool acked)
{
    struct rb_js_account *account = snapshot->transfer.account;
    char reply[2 * RB_JS_NAME_MAX];
    int reply_len = 0;
    snapshot->chunk_index++;
    if (acked) {
        snapshot->in_flight++;
        reply_len = snprintf(reply, sizeof(reply), "$JS.SNAPSHOT.ACK.%.*s.%.*s.%zu.%" PRIu32,
                             RB_S_ARG(snapshot->transfer.name), RB_NUID_LEN, snapshot->nuid, len,
                             snapshot->chunk_index);
    }
    (void)rb_js_send(account, snapshot->deliver, RB_S(""), rb_slice_of(reply, (size_t)reply_len), 0,
                     rb_slice_of(snapshot->framed.bytes + snapshot->framed_at, len));
    snapshot->framed_at += len;
    snapshot->progress_ns = account->js->now_ns;
}

/* Sends whole chunks while the window has room; true: it has. */
static bool send_chunks(struct snapshot *snapshot)
{
    struct rb_out *framed = &snapshot->framed;
    while (framed->len - snapshot->framed_at >= snapshot->chunk_bytes &&
           snapshot->in_flight < snapshot->in_flight_max) {
        send_chunk(snapshot, snapshot->chunk_bytes, true);
    }
    if (snapshot->framed_at > 0) {
        memmove(framed->bytes, framed->bytes + snapshot->framed_at,
                framed->len - snapshot->framed_at);
        framed->len -= snapshot->framed_at;
        snapshot->framed_at = 0;
    }
    return framed->len < snapshot->chunk_bytes;
}

/* The last chunk is short and nobody acknowledges it; an archive that fits into it ends with an empty message without a status. */
static void send_tail(struct snapshot *snapshot)
{
    struct rb_js_account *account = snapshot->transfer.account;
    bool only = snapshot->chunk_index == 0;
    if (snapshot->framed.len > 0) {
        send_chunk(snapshot, snapshot->framed.len, false);
    }
    if (only) {
        (void)rb_js_send(account, snapshot->deliver, RB_S(""), RB_S(""), 0, RB_S(""));
    } else {
        rb_js_send_status(account, snapshot->deliver, RB_S(""), RB_S("204"), RB_S(""));
    }
    rb_js_transfer_advise(&snapshot->transfer, RB_JS_SNAPSHOT_COMPLETE, 0, NULL);
    finish(snapshot);
}

/* ---- what is made ---- */

static void make_begin(struct snapshot *snapshot)
{
    struct rb_js_stream *stream = snapshot->transfer.stream;
    const struct rb_js_info_options options = { .deleted_details = false };
    uint8_t head[RB_S2_HEAD_BYTES];
    struct rb_writer out = rb_writer_over(head, sizeof(head));
    struct rb_out state;
    rb_s2_write_head(&out);
    rb_out_put(&snapshot->framed, rb_slice_of(head, sizeof(head)));
    rb_out_init(&state, snapshot->raw.budget);
    rb_js_write_state(&state, stream, &options);
    rb_archive_begin(&snapshot->raw);
    rb_archive_put(&snapshot->raw,
                   &(struct rb_archive_entry){ .name = RB_S("state.json"),
                                               .payload = rb_out_slice(&state),
                                               .time_ns = (int64_t)stream->account->js->wall_ns });
    snapshot->raw.failed = snapshot->raw.failed || state.failed;
    rb_out_deinit(&state);
}

static void make_consumer(struct snapshot *snapshot, const struct rb_js_consumer *consumer)
{
    char name[RB_JS_NAME_MAX + 16];
    struct rb_out text;
    int len = snprintf(name, sizeof(name), "consumers/%.*s", RB_S_ARG(consumer->name));
    rb_out_init(&text, snapshot->raw.budget);
    rb_out_put(&text, RB_S("{\"config\":"));
    rb_doc_write(&text, &rb_js_consumer_config_type, consumer->config);
    rb_out_put(&text, RB_S(",\"state\":"));
    rb_js_consumer_write_state(&text, consumer);
    rb_out_put(&text, RB_S("}"));
    rb_archive_put(&snapshot->raw,
                   &(struct rb_archive_entry){ .name = rb_slice_of(name, (size_t)len),
                                               .payload = rb_out_slice(&text),
                                               .time_ns = (int64_t)consumer->created_ns });
    snapshot->raw.failed = snapshot->raw.failed || text.failed;
    rb_out_deinit(&text);
}

static void make_consumers(struct snapshot *snapshot)
{
    struct rb_list *consumers = &snapshot->transfer.stream->consumers;
    rb_js_consumers_sort(snapshot->transfer.stream);
    for (struct rb_list *at = consumers->next; at != consumers && !snapshot->no_consumers;
         at = at->next) {
        const struct rb_js_consumer *consumer = RB_CONTAINER(at, struct rb_js_consumer, of_stream);
        if (!consumer->config->direct) {
            make_consumer(snapshot, consumer);
        }
    }
    frame(snapshot, false);
}

enum made { MADE_ALL, MADE_SOME, MADE_WAITING, MADE_DAMAGED };

/* Messages until there is a chunk's worth. */
static enum made make_messages(struct snapshot *snapshot)
{
    struct rb_msgstore *store = snapshot->transfer.stream->store;
    while (snapshot->framed.len < snapshot->chunk_bytes) {
        struct rb_message message;
        uint64_t seq = rb_msgstore_next(store, snapshot->seq);
        if (seq == 0 || seq > snapshot->last_seq) {
            rb_archive_end(&snapshot->raw);
            frame(snapshot, true);
            return MADE_ALL;
        }
        enum rb_err err = rb_msgstore_get(store, seq, &snapshot->wait.wait, &message);
        if (err == RB_ERR_BUSY) {
            return MADE_WAITING;
        }
        if (err != RB_OK) {
            return MADE_DAMAGED;
        }
        rb_archive_put(&snapshot->raw,
                       &(struct rb_archive_entry){
                           .name = message.subject,
                           .header = rb_slice_of(message.payload.ptr, message.header_len),
                           .payload = rb_slice_of(message.payload.ptr + message.header_len,
                                                  message.payload.len - message.header_len),
                           .time_ns = (int64_t)message.time_ns,
                           .seq = seq });
        frame(snapshot, false);
        snapshot->seq = seq + 1;
        if (snapshot->raw.failed || snapshot->framed.failed) {
            return MADE_DAMAGED;
        }
    }
    return MADE_SOME;
}

/* ---- going on ---- */

static void go_on(struct snapshot *snapshot)
{
    uint64_t done = 0;
    while (send_chunks(snapshot)) {
        if (snapshot->phase == PHASE_TAIL) {
            send_tail(snapshot);
            return;
        }
        if (done >= RB_JS_TRANSFER_TURN_BYTES) {
            snapshot->later = true;
            rb_js_transfer_arm(&snapshot->transfer, TICK_NS);
            return;
        }
        switch (make_messages(snapshot)) {
        case MADE_ALL:
            snapshot->phase = PHASE_TAIL;
            break;
        case MADE_WAITING:
            return; /* the body wakes it */
        case MADE_DAMAGED:
            give_up(snapshot, snapshot->raw.failed || snapshot->framed.failed
                                  ? "500 not enough memory"
                                  : "500 message is damaged");
            return;
        case MADE_SOME:
            break;
        }
        done += snapshot->framed.len;
    }
    rb_js_transfer_arm(&snapshot->transfer, RB_JS_TRANSFER_IDLE_NS);
}

static void loaded(struct rb_js_body_wait *wait)
{
    go_on(RB_CONTAINER(wait, struct snapshot, wait));
}

static void start(struct snapshot *snapshot)
{
    make_begin(snapshot);
    make_consumers(snapshot);
    snapshot->phase = PHASE_MESSAGES;
    go_on(snapshot);
}

/* Somebody subscribed to exactly this subject: clients wait for answers with a wildcard that covers it, and subscribe to the subject
 * itself only when they are ready for chunks. */
struct exact {
    struct rb_slice subject;
    bool found;
};

static void look_exact(void *ctx, struct rb_slice subject, struct rb_slice queue, uint32_t local,
                       const uint32_t *remote_weight)
{
    struct exact *exact = ctx;
    exact->found = exact->found || rb_slice_equal(subject, exact->subject);
}

static bool is_listened_to(struct rb_account *account, struct rb_slice subject)
{
    struct exact exact = { .subject = subject };
    if (rb_account_wanted(account, subject)) {
        rb_sublist_each(account->sublist, look_exact, &exact);
    }
    return exact.found;
}

static void fired(struct rb_js_api_timed *timed)
{
    struct rb_js_transfer *transfer = RB_CONTAINER(timed, struct rb_js_transfer, timed);
    struct snapshot *snapshot = RB_CONTAINER(transfer, struct snapshot, transfer);
    struct rb_js *js = transfer->account->js;
    if (snapshot->phase == PHASE_WAIT) {
        if (is_listened_to(transfer->account->account, snapshot->deliver)) {
            start(snapshot);
        } else if (snapshot->tries++ >= INTEREST_TRIES) {
            give_up(snapshot, "408 No Interest");
        } else {
            rb_js_transfer_arm(transfer, INTEREST_POLL_NS);
        }
    } else if (snapshot->later) {
        snapshot->later = false;
        go_on(snapshot);
    } else if (js->now_ns - snapshot->progress_ns >= RB_JS_TRANSFER_IDLE_NS) {
        give_up(snapshot, "408 No Flow Response");
    } else {
        rb_js_transfer_arm(transfer, RB_JS_TRANSFER_IDLE_NS);
    }
}

static bool take_ack(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct rb_js_transfer *transfer = ctx;
    struct snapshot *snapshot = RB_CONTAINER(transfer, struct snapshot, transfer);
    if (snapshot->in_flight == 0) {
        return true;
    }
    snapshot->in_flight--;
    snapshot->progress_ns = transfer->account->js->now_ns;
    if (!snapshot->wait.wait.waiting && !snapshot->later) {
        snapshot->later = true; /* not here: it may end, and this subscription with it */
        rb_js_transfer_arm(transfer, TICK_NS);
    }
    return true;
}

/* ---- requests ---- */

static int64_t between(int64_t value, int64_t absent, int64_t least, int64_t most)
{
    return value <= 0 ? absent : value < least ? least : value > most ? most : value;
}

static struct snapshot *create(struct rb_js_request *request, struct rb_js_stream *stream,
                               const struct snapshot_request *doc)
{
    struct rb_js *js = request->js;
    size_t extra = stream->name.len + request->client.len + doc->deliver_subject.len;
    struct snapshot *snapshot = rb_alloc(js->budget, sizeof(*snapshot) + extra);
    if (snapshot == NULL) {
        return NULL;
    }
    struct rb_writer out = rb_writer_over(snapshot + 1, extra);
    struct rb_js_transfer *transfer = &snapshot->transfer;
    snapshot->bytes = sizeof(*snapshot) + extra;
    transfer->name = rb_slice_of(out.at, stream->name.len);
    rb_write_slice(&out, stream->name);
    transfer->client = rb_slice_of(out.at, request->client.len);
    rb_write_slice(&out, request->client);
    snapshot->deliver = rb_slice_of(out.at, doc->deliver_subject.len);
    rb_write_slice(&out, doc->deliver_subject);
    transfer->api = request->account->api;
    transfer->stream = stream;
    transfer->end = end;
    transfer->timed.fired = fired;
    snapshot->no_consumers = doc->no_consumers;
    snapshot->wait.loaded = loaded;
    snapshot->wait.wait.owner = &snapshot->wait;
    snapshot->wait.wait.tag = RB_JS_WAIT_API;
    snapshot->chunk_bytes = (size_t)between(doc->chunk_size, CHUNK_DEFAULT, CHUNK_MIN, CHUNK_MAX);
    int64_t window = between(doc->window_size, WINDOW_DEFAULT, WINDOW_MIN, WINDOW_MAX);
    snapshot->in_flight_max = (uint32_t)((uint64_t)window / snapshot->chunk_bytes);
    snapshot->in_flight_max += snapshot->in_flight_max == 0;
    rb_out_init(&snapshot->raw, js->budget);
    rb_out_init(&snapshot->framed, js->budget);
    rb_nuid(js->env, snapshot->nuid);
    char subject[2 * RB_JS_NAME_MAX];
    int len = snprintf(subject, sizeof(subject), "$JS.SNAPSHOT.ACK.%.*s.%.*s.*.*",
                       RB_S_ARG(stream->name), RB_NUID_LEN, snapshot->nuid);
    if (!rb_js_transfer_open(transfer, rb_slice_of(subject, (size_t)len), take_ack)) {
        rb_free(js->budget, snapshot, snapshot->bytes);
        return NULL;
    }
    return snapshot;
}

void rb_js_api_snapshot(struct rb_js_request *request)
{
    struct snapshot_request doc;
    if (rb_js_body_is_empty(request->body)) {
        rb_js_answer_code(request, 10003, NULL);
        return;
    }
    if (!rb_js_request_read(request, &request_type, false, &doc)) {
        return;
    }
    struct rb_js_stream *stream = rb_js_request_stream(request);
    if (stream == NULL) {
        return;
    }
    if (!rb_subject_valid(doc.deliver_subject) || rb_subject_has_wildcard(doc.deliver_subject)) {
        rb_js_answer_code(request, 10015, NULL);
        return;
    }
    struct snapshot *snapshot = create(request, stream, &doc);
    if (snapshot == NULL) {
        rb_js_answer_code(request, 10064, "too many transfers of streams");
        return;
    }
    struct rb_msgstore_state state;
    rb_msgstore_state(stream->store, &state);
    snapshot->seq = state.first_seq;
    snapshot->last_seq = state.last_seq;
    const struct rb_js_info_options options = { .deleted_details = false };
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_put(&out, RB_S(",\"config\":"));
    rb_doc_write(&out, &rb_js_stream_config_type, stream->config);
    rb_out_put(&out, RB_S(",\"state\":"));
    rb_js_write_state(&out, stream, &options);
    rb_js_answer_send(request, &out, RB_S(""));
    rb_js_transfer_advise(&snapshot->transfer, RB_JS_SNAPSHOT_CREATE, 0, NULL);
    rb_js_transfer_arm(&snapshot->transfer, TICK_NS);
}
