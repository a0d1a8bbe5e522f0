/* check.c - what a stream holds against its model, and what a consumer has left. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "js/consumer.h"
#include "js/stream_inside.h"
#include "ringbus/check.h"

#define AGE_NS UINT64_C(3000000000)
#define LATE_NS UINT64_C(1500000000)
#define EARLY_NS UINT64_C(100000000) /* a message has the time of the turn before it */

uint32_t check_body(struct run *r, const struct sim_stream *s, struct rb_slice subject,
                    uint32_t header_len, struct rb_slice payload)
{
    char want[16], head[32], *body;
    if (payload.len < header_len + 4u) {
        return 0;
    }
    size_t len = payload.len - header_len;
    (void)snprintf(head, sizeof(head), "%.*s", (int)(len < 20 ? len : 20),
                   (const char *)payload.ptr + header_len);
    uint32_t number = 0;
    if (sscanf(head, "n %u ", &number) != 1 || number == 0 || number > r->number ||
        r->publishes[number].len != len || &r->streams[r->publishes[number].stream] != s) {
        return 0;
    }
    body = malloc(len + 64);
    rb_assert(body != NULL);
    model_body(body, number, (uint32_t)len);
    ask_subject(r, &r->publishes[number], want);
    bool good = memcmp(body, payload.ptr + header_len, len) == 0 &&
                rb_slice_equal(subject, rb_slice_text(want));
    if (r->publishes[number].key != 0) {
        int head_len =
            snprintf(body, 64, "NATS/1.0\r\nNats-Msg-Id: k%u\r\n\r\n", r->publishes[number].key);
        good =
            good && header_len == (uint32_t)head_len && memcmp(body, payload.ptr, header_len) == 0;
    }
    free(body);
    return good ? number : 0;
}

/* What is there: numbers by sequence into r->actual; false: failed. */
static bool read_stream(struct run *r, struct sim_stream *s, struct rb_js_stream *stream,
                        bool may_be_damaged)
{
    struct rb_message message;
    memset(r->actual, 0, sizeof(r->actual));
    for (uint64_t seq = rb_msgstore_next(stream->store, 1); seq != 0;
         seq = rb_msgstore_next(stream->store, seq + 1)) {
        enum rb_err err = js_rig_get(&r->rig, stream, seq, &message);
        if (err == RB_ERR_MISSING && s->kind == AGED) {
            continue; /* its time came while it was read */
        }
        if (err != RB_OK && may_be_damaged) {
            r->totals->unreadable++;
            continue;
        }
        uint32_t number =
            err != RB_OK || seq > MODEL_MESSAGES
                ? 0
                : check_body(r, s, message.subject, message.header_len, message.payload);
        if (number == 0) {
            run_fail(r, "%s: message %llu cannot be read, or is wrong (%s)", s->name,
                     (unsigned long long)seq, rb_err_text(err));
            return false;
        }
        r->actual[seq] = number;
    }
    return !r->failed;
}

static struct rb_js_stream *serving(struct run *r, struct sim_stream *s)
{
    struct rb_js_stream *stream = js_rig_stream(&r->rig, s->name);
    if (stream == NULL || stream->phase != RB_JS_STREAM_SERVING) {
        run_fail(r, "%s is not served: %s", s->name, stream == NULL ? "not there" : stream->why);
        return NULL;
    }
    return stream;
}

/* ---- exactly the model ---- */

static bool same(const struct run *r, const struct model *m, const struct rb_msgstore_state *state)
{
    return state->last_seq == m->last && state->messages == m->count &&
           memcmp(r->actual, m->at, sizeof(m->at)) == 0;
}

static void check_state(struct run *r, struct sim_stream *s, struct rb_js_stream *stream)
{
    struct rb_msgstore_state state;
    struct model *m = &s->model;
    bool seen[MODEL_SUBJECTS] = { false };
    uint64_t bytes = 0, subjects = 0;
    rb_msgstore_state(stream->store, &state);
    for (uint64_t seq = 1; seq <= m->last; seq++) {
        const struct model_publish *p = &r->publishes[m->at[seq]];
        struct rb_message message;
        if (m->at[seq] == 0) {
            continue;
        }
        enum rb_err err = js_rig_get(&r->rig, stream, seq, &message);
        bytes += err != RB_OK ? 0
                              : message.subject.len + message.payload.len +
                                    (s->memory                ? 16u
                                     : message.header_len > 0 ? 34u
                                                              : 30u);
        subjects += !seen[p->subject];
        seen[p->subject] = true;
    }
    if (!same(r, m, &state) || state.first_seq != model_first(m) || state.bytes != bytes ||
        state.subjects != subjects) {
        run_fail(
            r,
            "%s: %llu messages %llu bytes %llu..%llu %llu subjects, not %llu, %llu, %llu..%llu, "
            "%llu",
            s->name, (unsigned long long)state.messages, (unsigned long long)state.bytes,
            (unsigned long long)state.first_seq, (unsigned long long)state.last_seq,
            (unsigned long long)state.subjects, (unsigned long long)m->count,
            (unsigned long long)bytes, (unsigned long long)model_first(m),
            (unsigned long long)m->last, (unsigned long long)subjects);
    }
    for (uint32_t key = 1; key <= r->key && !r->failed; key++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "k%u", key);
        uint64_t found = rb_js_dedup_find(&stream->inside->dedup, rb_slice_text(id));
        if (found != m->seq_of_key[key]) {
            run_fail(r, "%s: id %s is remembered as %llu, not %llu", s->name, id,
                     (unsigned long long)found, (unsigned long long)m->seq_of_key[key]);
        }
    }
}

/* Some first ones of the operations in flight took place, all that were confirmed among them. */
static void settle_serial(struct run *r, struct sim_stream *s, struct rb_js_stream *stream)
{
    struct rb_msgstore_state state;
    struct model_answer answer;
    uint32_t least = s->op_first;
    rb_msgstore_state(stream->store, &state);
    for (uint32_t i = s->op_first; i < s->op_count; i++) {
        least = s->ops[i].answered ? i + 1 : least;
    }
    r->scratch = s->model;
    for (uint32_t i = s->op_first;; i++) {
        if (i >= least && same(r, &r->scratch, &state)) {
            s->model = r->scratch;
            s->op_first = s->op_count;
            return;
        }
        if (i == s->op_count) {
            break;
        }
        if (!s->ops[i].refused) {
            model_apply(&r->scratch, r->publishes, &s->ops[i], &answer);
        }
    }
    uint64_t seq = 1;
    while (seq < MODEL_MESSAGES && r->actual[seq] == s->model.at[seq]) {
        seq++;
    }
    run_fail(r,
             "%s: neither what was confirmed nor with what was in flight (%u): %llu messages "
             "%llu..%llu, confirmed %llu to %llu; differs at %llu: %u, not %u",
             s->name, s->op_count - s->op_first, (unsigned long long)state.messages,
             (unsigned long long)state.first_seq, (unsigned long long)state.last_seq,
             (unsigned long long)s->model.count, (unsigned long long)s->model.last,
             (unsigned long long)seq, r->actual[seq], s->model.at[seq]);
}

/* ---- what acks and time take away ---- */

/* 0: it must be there; 1: it may be; 2: it must not. */
static int wanted(struct run *r, const struct sim_stream *s, const struct model_publish *p)
{
    if (s->kind == AGED) {
        uint64_t end = p->time_ns + (p->ttl_s > 0 ? p->ttl_s * UINT64_C(1000000000) : AGE_NS);
        return r->rig.now_ns + EARLY_NS < end ? 0 : r->rig.now_ns < end + LATE_NS ? 1 : 2;
    }
    int least = 2, most = 0;
    bool any = false;
    for (uint32_t i = 0; i < CONSUMERS; i++) {
        const struct sim_consumer *c = &r->consumers[i];
        if (&r->streams[c->stream] == s && (c->subject < 0 || c->subject == p->subject)) {
            any = true;
            least = c->acked[p->seq] < least ? c->acked[p->seq] : least;
            most = c->acked[p->seq] > most ? c->acked[p->seq] : most;
        }
    }
    return any ? least : 2;
}

static void check_set(struct run *r, struct sim_stream *s, bool found)
{
    uint32_t stream = (uint32_t)(s - r->streams);
    for (uint64_t seq = 1; seq <= MODEL_MESSAGES; seq++) {
        uint32_t number = r->actual[seq];
        struct model_publish *p = &r->publishes[number];
        if (number == 0) {
            continue;
        }
        if (found && p->seq == 0 && !p->dead) {
            p->seq = seq; /* in flight, and it came through */
        }
        if (p->dead || p->seq != seq) {
            run_fail(r, "%s: message %u is at %llu, %s %llu", s->name, number,
                     (unsigned long long)seq, p->dead ? "but was lost or refused" : "confirmed as",
                     (unsigned long long)p->seq);
        }
    }
    for (uint32_t number = 1; number <= r->number && !r->failed; number++) {
        struct model_publish *p = &r->publishes[number];
        if (p->stream != stream || p->dead) {
            continue;
        }
        if (p->seq == 0) {
            p->dead |= found;
            continue;
        }
        int want = wanted(r, s, p);
        bool there = r->actual[p->seq] == number;
        if ((want == 0 && !there) || (want == 2 && there)) {
            run_fail(r, "%s: message %u (confirmed as %llu) %s", s->name, number,
                     (unsigned long long)p->seq,
                     there ? "is there, it should have gone" : "is missing");
        }
    }
    if (found) {
        s->op_first = s->op_count;
    }
}

/* ---- consumers ---- */

static void check_consumer(struct run *r, const struct sim_consumer *c)
{
    char subject[96];
    struct sim_stream *s = &r->streams[c->stream];
    struct rb_js_stream *stream = serving(r, s);
    if (stream == NULL) {
        return;
    }
    struct rb_js_consumer *consumer = rb_js_consumer_find(stream, rb_slice_text(c->name));
    if (consumer == NULL) {
        run_fail(r, "consumer %s of %s is gone", c->name, s->name);
        return;
    }
    (void)snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.INFO.%s.%s", s->name, c->name);
    const char *answer = js_rig_request(&r->rig, subject, NULL, "");
    const char *at = answer == NULL ? NULL : strstr(answer, "\"num_pending\":");
    uint64_t count = 0;
    static uint8_t text[RB_MSGSTORE_SUBJECT_MAX];
    for (uint64_t seq = rb_msgstore_next(stream->store, consumer->delivered.stream_seq + 1);
         seq != 0; seq = rb_msgstore_next(stream->store, seq + 1)) {
        struct rb_slice of = rb_msgstore_subject_of(stream->store, seq, text);
        count += c->subject < 0 || (of.len == 3 && of.ptr[2] == '0' + c->subject);
    }
    uint64_t said = at == NULL ? UINT64_MAX : strtoull(at + 14, NULL, 10);
    if (said != count) {
        run_fail(r, "%s of %s: %llu pending, counted %llu behind %llu", c->name, s->name,
                 (unsigned long long)said, (unsigned long long)count,
                 (unsigned long long)consumer->delivered.stream_seq);
    }
}

/* ---- all of it ---- */

static void check_stream(struct run *r, struct sim_stream *s, bool found)
{
    struct rb_js_stream *stream = serving(r, s);
    if (stream == NULL || !read_stream(r, s, stream, false)) {
        return;
    }
    if (s->kind != SERIAL) {
        check_set(r, s, found);
        return;
    }
    if (found) {
        settle_serial(r, s, stream);
    } else if (s->op_first < s->op_count) {
        run_fail(r, "%s: operation %u of %u has no answer", s->name, s->op_first, s->op_count);
    }
    if (!r->failed) {
        check_state(r, s, stream);
    }
}

void check_all(struct run *r)
{
    for (uint32_t i = 0; i < STREAMS && !r->failed; i++) {
        check_stream(r, &r->streams[i], false);
    }
    for (uint32_t i = 0; i < CONSUMERS && !r->failed; i++) {
        check_consumer(r, &r->consumers[i]);
    }
    ask_heard(r);
}

void check_found(struct run *r)
{
    for (uint32_t i = 0; i < STREAMS && !r->failed; i++) {
        struct sim_stream *s = &r->streams[i];
        if (s->memory) {
            struct model *m = &s->model;
            *m = (struct model){ .max_msgs = m->max_msgs,
                                 .max_per_subject = m->max_per_subject,
                                 .discard_new = m->discard_new };
            s->op_first = s->op_count;
            for (uint32_t n = 1; n <= r->number; n++) {
                r->publishes[n].dead |= r->publishes[n].stream == i;
            }
        } else if (r->life > 1) {
            check_stream(r, s, true);
        }
    }
    if (r->failed) {
        return;
    }
    struct rb_js_stream *extra = js_rig_stream(&r->rig, "EXTRA");
    if (!r->extra_asked && !r->extra_unsure && r->extra_there != (extra != NULL)) {
        run_fail(r, "EXTRA %s, that was confirmed otherwise",
                 extra == NULL ? "is gone" : "is there");
    }
    r->extra_asked = r->extra_unsure = false;
    r->extra_there = extra != NULL;
}

/* What was confirmed and is not there must have been named as damage. */
static void look_for_loss(struct run *r, struct sim_stream *s)
{
    const struct model *m = &s->model;
    for (uint64_t seq = 1; seq <= m->last && s->op_first == s->op_count; seq++) {
        if (r->actual[seq] != 0 && m->at[seq] != r->actual[seq]) {
            run_fail(r, "%s: %llu is another message after damage", s->name,
                     (unsigned long long)seq);
        } else if (r->actual[seq] != m->at[seq] && r->rig.log_count == 0) {
            run_fail(r, "%s: %llu is lost, no damage was named", s->name, (unsigned long long)seq);
        }
    }
}

void check_damaged(struct run *r)
{
    for (uint32_t i = 0; i < STREAMS && !r->failed; i++) {
        struct sim_stream *s = &r->streams[i];
        struct rb_js_stream *stream = js_rig_stream(&r->rig, s->name);
        if (stream == NULL) {
            continue;
        }
        if (stream->phase == RB_JS_STREAM_OFFLINE) {
            r->totals->offline++;
            if (stream->why[0] == '\0') {
                run_fail(r, "%s is offline without a reason", s->name);
            }
        } else if (read_stream(r, s, stream, true) && s->kind == SERIAL && !s->memory) {
            js_rig_settle(&r->rig); /* damage is told with the next turns */
            look_for_loss(r, s);
        }
    }
}
