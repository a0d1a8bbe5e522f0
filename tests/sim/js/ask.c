/* ask.c - the clients: what they send, and what they make of what they hear. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "ringbus/check.h"

void ask_subject(const struct run *r, const struct model_publish *publish, char *out)
{
    (void)snprintf(out, 16, "%c.%u", r->streams[publish->stream].prefix, publish->subject);
}

/* ---- streams and consumers ---- */

static void make_consumer(struct run *r, const struct sim_consumer *c)
{
    static const char *const rules[] = {
        "\"ack_policy\":\"explicit\",\"ack_wait\":1000000000",
        "\"ack_policy\":\"all\",\"ack_wait\":1000000000",
        "\"ack_policy\":\"explicit\",\"ack_wait\":1000000000",
        ("\"ack_policy\":\"none\",\"mem_storage\":true,\"max_deliver\":1,"
         "\"inactive_threshold\":300000000000"),
    };
    const struct sim_stream *s = &r->streams[c->stream];
    char subject[96], body[512], filter[64] = "", push[64] = "";
    (void)snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.CREATE.%s.%s", s->name, c->name);
    if (c->subject >= 0) {
        (void)snprintf(filter, sizeof(filter), "\"filter_subject\":\"%c.%d\",", s->prefix,
                       c->subject);
        (void)snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.CREATE.%s.%s.%c.%d", s->name,
                       c->name, s->prefix, c->subject);
    }
    if (c->kind == PUSH || c->kind == ORDERED) {
        (void)snprintf(push, sizeof(push), "\"deliver_subject\":\"push.%d\",",
                       (int)(c - r->consumers));
    }
    (void)snprintf(body, sizeof(body), "{\"stream_name\":\"%s\",\"config\":{\"%s\":\"%s\",%s%s%s}}",
                   s->name, c->kind == ORDERED ? "name" : "durable_name", c->name, filter, push,
                   rules[c->kind]);
    const char *answer = js_rig_request(&r->rig, subject, NULL, body);
    if (answer == NULL || strstr(answer, "\"error\"") != NULL) {
        run_fail(r, "consumer %s of %s cannot be made: %.150s", c->name, s->name,
                 answer == NULL ? "no answer" : answer);
    }
}

void ask_streams(struct run *r)
{
    char subject[64];
    for (uint32_t i = 0; i < STREAMS && !r->failed; i++) {
        struct sim_stream *s = &r->streams[i];
        if (js_rig_stream(&r->rig, s->name) != NULL) {
            continue;
        }
        (void)snprintf(subject, sizeof(subject), "$JS.API.STREAM.CREATE.%s", s->name);
        const char *answer = js_rig_request(&r->rig, subject, NULL, s->config);
        if (answer == NULL || strstr(answer, "\"error\"") != NULL) {
            run_fail(r, "stream %s cannot be made: %.150s", s->name,
                     answer == NULL ? "no answer" : answer);
        }
    }
    for (uint32_t i = 0; i < CONSUMERS && !r->failed; i++) {
        struct sim_consumer *c = &r->consumers[i];
        struct rb_js_stream *stream = js_rig_stream(&r->rig, r->streams[c->stream].name);
        const char *name = c->name;
        char info[96];
        (void)snprintf(info, sizeof(info), "$JS.API.CONSUMER.INFO.%s.%s",
                       r->streams[c->stream].name, name);
        const char *answer = stream == NULL ? NULL : js_rig_request(&r->rig, info, NULL, "");
        if (answer == NULL || strstr(answer, "\"error\"") != NULL) {
            if (r->life > 1 && c->kind != ORDERED && !r->streams[c->stream].memory) {
                run_fail(r, "consumer %s of %s is gone", name, r->streams[c->stream].name);
                return;
            }
            c->last_consumer = 0;
            c->last_stream = 0;
            make_consumer(r, c);
        }
    }
    ask_heard(r);
}

/* ---- operations ---- */

static struct model_op *new_op(struct sim_stream *s, enum op_kind kind)
{
    struct model_op *op = &s->ops[s->op_count++];
    *op = (struct model_op){ .kind = kind };
    return op;
}

static void send(struct run *r, uint32_t number, const char *reply, const char *headers)
{
    struct model_publish *p = &r->publishes[number];
    char subject[16], *body = malloc(p->len + 64);
    rb_assert(body != NULL);
    p->time_ns = r->rig.now_ns;
    ask_subject(r, p, subject);
    model_body(body, number, p->len);
    r->totals->publishes++;
    js_rig_publish(&r->rig, subject, reply, headers, body);
    free(body);
}

static uint32_t new_publish(struct run *r, uint32_t stream, bool keyed)
{
    uint32_t number = ++r->number;
    r->publishes[number] = (struct model_publish){
        .stream = stream,
        .subject = (uint8_t)run_below(r, MODEL_SUBJECTS),
        .len = 24 + run_below(r, run_chance(r, 50) ? r->body_max : 200),
    };
    if (keyed) {
        r->publishes[number].key =
            run_chance(r, 150) && r->key > 0 ? 1 + run_below(r, r->key) : ++r->key;
    }
    return number;
}

static void publish(struct run *r, uint32_t stream)
{
    struct sim_stream *s = &r->streams[stream];
    char reply[64], headers[96];
    uint32_t number = new_publish(r, stream, s->kind == SERIAL && run_chance(r, 700));
    struct model_publish *p = &r->publishes[number];
    size_t at = 0;
    headers[0] = '\0';
    if (p->key != 0) {
        at += (size_t)snprintf(headers, sizeof(headers), "Nats-Msg-Id: k%u\r\n", p->key);
    }
    if (s->kind == AGED && run_chance(r, 300)) {
        p->ttl_s = 1;
        at += (size_t)snprintf(headers + at, sizeof(headers) - at, "Nats-TTL: 1s\r\n");
    }
    struct model_op *op = new_op(s, OP_PUBLISH);
    op->first = number;
    op->count = 1;
    (void)snprintf(reply, sizeof(reply), "_INBOX.sim.o.%u.%u", stream, s->op_count - 1);
    send(r, number, reply, at > 0 ? headers : NULL);
}

static void publish_batch(struct run *r, uint32_t stream)
{
    struct sim_stream *s = &r->streams[stream];
    uint32_t count = 1 + run_below(r, BATCH_MAX), first = r->number + 1, batch = ++r->batch;
    char reply[64], headers[128];
    struct model_op *op = new_op(s, OP_BATCH);
    op->first = first;
    op->count = count;
    (void)snprintf(reply, sizeof(reply), "_INBOX.sim.o.%u.%u", stream, s->op_count - 1);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = new_publish(r, stream, false);
        (void)snprintf(headers, sizeof(headers),
                       "Nats-Batch-Id: b%u\r\nNats-Batch-Sequence: %u\r\n%s", batch, i + 1,
                       i + 1 == count ? "Nats-Batch-Commit: 1\r\n" : "");
        send(r, number, i + 1 == count ? reply : NULL, headers);
    }
}

static void change(struct run *r, uint32_t stream)
{
    struct sim_stream *s = &r->streams[stream];
    char reply[64], subject[64], body[128];
    bool purge = run_chance(r, 150);
    struct model_op *op = new_op(s, purge ? OP_PURGE : OP_DELETE);
    (void)snprintf(reply, sizeof(reply), "_INBOX.sim.o.%u.%u", stream, s->op_count - 1);
    if (purge) {
        op->subject = (int)run_below(r, MODEL_SUBJECTS + 1) - 1;
        op->keep = run_chance(r, 300) ? run_below(r, 3) : 0;
        char filter[32] = "";
        if (op->subject >= 0) {
            (void)snprintf(filter, sizeof(filter), ",\"filter\":\"%c.%d\"", s->prefix, op->subject);
        }
        (void)snprintf(subject, sizeof(subject), "$JS.API.STREAM.PURGE.%s", s->name);
        (void)snprintf(body, sizeof(body), "{\"keep\":%u%s}", (unsigned)op->keep, filter);
    } else {
        op->seq = 1 + run_below(r, (uint32_t)s->model.last + 2);
        (void)snprintf(subject, sizeof(subject), "$JS.API.STREAM.MSG.DELETE.%s", s->name);
        (void)snprintf(body, sizeof(body), "{\"seq\":%u%s}", (unsigned)op->seq,
                       run_chance(r, 500) ? ",\"no_erase\":true" : "");
    }
    r->totals->changes++;
    js_rig_publish(&r->rig, subject, reply, NULL, body);
}

static void extra(struct run *r)
{
    if (r->extra_asked || r->held) {
        return;
    }
    r->extra_asked = true;
    js_rig_publish(
        &r->rig, r->extra_there ? "$JS.API.STREAM.DELETE.EXTRA" : "$JS.API.STREAM.CREATE.EXTRA",
        "_INBOX.sim.x", NULL, r->extra_there ? "" : "{\"name\":\"EXTRA\",\"subjects\":[\"x.>\"]}");
}

void ask_pulls(struct run *r, bool again)
{
    char subject[96], reply[32];
    for (uint32_t i = 0; i < CONSUMERS; i++) {
        const struct sim_consumer *c = &r->consumers[i];
        if ((c->kind == PULL || c->kind == ACK_ALL) && (again || run_chance(r, 500))) {
            (void)snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.MSG.NEXT.%s.%s",
                           r->streams[c->stream].name, c->name);
            (void)snprintf(reply, sizeof(reply), "_INBOX.sim.p.%u", i);
            js_rig_publish(&r->rig, subject, reply, NULL,
                           run_chance(r, 500) ? "{\"batch\":10,\"no_wait\":true}"
                                              : "{\"batch\":7,\"expires\":500000000}");
        }
    }
}

void ask_something(struct run *r)
{
    uint32_t stream = run_below(r, STREAMS), what = run_below(r, 100);
    struct sim_stream *s = &r->streams[stream];
    if (r->number + BATCH_MAX + 1 >= MODEL_MESSAGES || s->op_count + 1 >= OPS_MAX) {
        return;
    }
    if (what < 70) {
        publish(r, stream);
    } else if (what < 78 && s->kind == SERIAL && !s->memory) {
        publish_batch(r, stream);
    } else if (what < 90 && s->kind == SERIAL) {
        change(r, stream);
    } else if (what < 98) {
        ask_pulls(r, false);
    } else {
        extra(r);
    }
}

/* ---- answers ---- */

/* In order: what is answered goes into the model, and must be what it says. */
static void advance(struct run *r, struct sim_stream *s)
{
    while (!r->failed && s->op_first < s->op_count) {
        struct model_op *op = &s->ops[s->op_first];
        struct model_answer answer;
        if (!op->answered && !op->refused) {
            return;
        }
        s->op_first++;
        if (op->refused || s->kind != SERIAL) {
            continue;
        }
        model_apply(&s->model, r->publishes, op, &answer);
        if (answer.failed != op->failed || answer.duplicate != op->duplicate ||
            (!answer.failed && op->kind != OP_DELETE && answer.said != op->said)) {
            run_fail(r, "%s: operation %u (%d) was answered %s%s%llu, not %s%s%llu", s->name,
                     s->op_first - 1, op->kind, op->failed ? "error " : "",
                     op->duplicate ? "duplicate " : "", (unsigned long long)op->said,
                     answer.failed ? "error " : "", answer.duplicate ? "duplicate " : "",
                     (unsigned long long)answer.said);
        }
    }
}

static uint64_t number_behind(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at == NULL ? 0 : strtoull(at + strlen(key), NULL, 10);
}

static void take_error(struct run *r, struct sim_stream *s, struct model_op *op, const char *body)
{
    uint64_t code = number_behind(body, "\"err_code\":");
    bool settled = op->kind == OP_PUBLISH || op->kind == OP_BATCH ? code == 10077
                                                                  : code == 10057 || code == 10043;
    if (code == 10023 || code == 10167) {
        op->refused = true;
        r->totals->refused++;
        for (uint32_t i = 0; i < op->count; i++) {
            r->publishes[op->first + i].dead = true;
        }
    } else if (settled && op->kind != OP_PUBLISH && op->kind != OP_BATCH) {
        op->refused = true; /* nothing to delete: looked at when it came, or when it was applied */
    } else if (settled && strstr(body, "I/O") == NULL) {
        op->answered = op->failed = true;
    } else if (op->kind == OP_PUBLISH || op->kind == OP_BATCH) {
        run_fail(r, "%s: a publish was answered %.150s", s->name, body);
    } /* else: the log failed, nobody knows */
}

static void take_answer(struct run *r, uint32_t stream, uint32_t index, const char *body)
{
    struct sim_stream *s = &r->streams[stream];
    struct model_op *op = &s->ops[index];
    if (index < s->op_first || op->answered || op->refused) {
        run_fail(r, "%s: operation %u was answered twice: %.100s", s->name, index, body);
        return;
    }
    if (strstr(body, "\"error\":") != NULL) {
        take_error(r, s, op, body);
    } else {
        op->answered = true;
        op->duplicate = strstr(body, "\"duplicate\": true") != NULL;
        op->said = number_behind(body, op->kind == OP_PURGE ? "\"purged\":" : "\"seq\":");
        if (op->kind == OP_PUBLISH || op->kind == OP_BATCH) {
            r->totals->confirmed++;
            for (uint32_t i = 0; i < op->count && !op->duplicate; i++) {
                r->publishes[op->first + i].seq = op->said + 1 + i - op->count;
            }
        }
    }
    if (op->answered && r->held && !s->memory) {
        run_fail(r, "%s: operation %u was answered while no write completes: %.100s", s->name,
                 index, body);
    }
    advance(r, s);
}

static void take_ack(struct run *r, uint32_t index)
{
    const struct sim_ack *ack = &r->acks[index];
    struct sim_consumer *c = &r->consumers[ack->consumer];
    r->totals->acks++;
    if (r->held && !r->streams[c->stream].memory) {
        run_fail(r, "%s: an ack was confirmed while no write completes", c->name);
    }
    if (c->kind == ACK_ALL) {
        for (uint64_t seq = 1; seq <= ack->seq; seq++) {
            c->acked[seq] = 2;
        }
    }
    c->acked[ack->seq] = 2;
}

static void ack(struct run *r, uint32_t consumer, uint64_t seq, const char *subject)
{
    struct sim_consumer *c = &r->consumers[consumer];
    char reply[48];
    if (r->ack_count == ACKS_MAX) {
        return;
    }
    r->acks[r->ack_count] = (struct sim_ack){ consumer, seq };
    (void)snprintf(reply, sizeof(reply), "_INBOX.sim.a.%u", r->ack_count++);
    c->acked[seq] = c->acked[seq] == 0 ? 1 : c->acked[seq];
    js_rig_publish(&r->rig, subject, reply, NULL, "+ACK");
}

static void take_delivery(struct run *r, uint32_t consumer, const struct js_rig_message *message)
{
    struct sim_consumer *c = &r->consumers[consumer];
    struct sim_stream *s = &r->streams[c->stream];
    unsigned long long times, stream_seq, consumer_seq;
    const char *at = strstr(message->reply, c->name);
    if (strncmp(message->reply, "$JS.ACK.", 8) != 0) {
        return; /* a status */
    }
    if (at == NULL ||
        sscanf(at + strlen(c->name), ".%llu.%llu.%llu.", &times, &stream_seq, &consumer_seq) != 3 ||
        stream_seq == 0 || stream_seq > MODEL_MESSAGES) {
        run_fail(r, "%s: delivered with reply %s", c->name, message->reply);
        return;
    }
    r->totals->deliveries++;
    r->totals->redeliveries += times > 1;
    uint32_t number = check_body(r, s, rb_slice_text(message->subject), message->header_len,
                                 rb_slice_of(message->payload, message->len));
    if (number == 0 || r->failed) {
        run_fail(r, "%s of %s: %llu was delivered with wrong bytes", c->name, s->name, stream_seq);
        return;
    }
    if (r->publishes[number].seq != 0 && r->publishes[number].seq != stream_seq) {
        run_fail(r, "%s of %s: message %u came as %llu, confirmed as %llu", c->name, s->name,
                 number, stream_seq, (unsigned long long)r->publishes[number].seq);
    }
    if (c->acked[stream_seq] == 2) {
        run_fail(r, "%s of %s: %llu was delivered again, its ack was confirmed", c->name, s->name,
                 stream_seq);
    }
    if (c->kind == ORDERED) {
        if (consumer_seq != c->last_consumer + 1 || stream_seq <= c->last_stream) {
            run_fail(r, "%s of %s: %llu (%llu) came after %llu (%llu)", c->name, s->name,
                     stream_seq, consumer_seq, (unsigned long long)c->last_stream,
                     (unsigned long long)c->last_consumer);
        }
        c->last_consumer = consumer_seq;
        c->last_stream = stream_seq;
    } else if (!run_chance(r, 200) && (c->kind != ACK_ALL || run_chance(r, 300))) {
        ack(r, consumer, stream_seq, message->reply);
    }
}

static void take_extra(struct run *r, const char *body)
{
    r->extra_asked = false;
    if (strstr(body, "\"error\":") == NULL) {
        r->extra_there = !r->extra_there;
    } else {
        r->extra_unsure = true; /* the log failed, or was full */
    }
}

void ask_heard(struct run *r)
{
    while (r->rig.first != NULL && !r->failed) {
        /* What is sent meanwhile comes into a list of its own. */
        struct js_rig_message *first = r->rig.first, *last = r->rig.last;
        r->rig.first = r->rig.last = NULL;
        for (const struct js_rig_message *m = first; m != NULL && !r->failed; m = m->next) {
            unsigned a, b;
            run_stir(r, rb_slice_hash(rb_slice_text(m->to)) ^ m->len);
            run_trace(r, "heard %s: %.90s", m->to, m->body);
            if (sscanf(m->to, "_INBOX.sim.o.%u.%u", &a, &b) == 2) {
                take_answer(r, a, b, m->body);
            } else if (sscanf(m->to, "_INBOX.sim.a.%u", &a) == 1) {
                take_ack(r, a);
            } else if (sscanf(m->to, "_INBOX.sim.p.%u", &a) == 1 ||
                       sscanf(m->to, "push.%u", &a) == 1) {
                take_delivery(r, a, m);
            } else if (strcmp(m->to, "_INBOX.sim.x") == 0) {
                take_extra(r, m->body);
            }
        }
        struct js_rig_message *more = r->rig.first, *more_last = r->rig.last;
        r->rig.first = first;
        r->rig.last = last;
        js_rig_forget(&r->rig);
        r->rig.first = more;
        r->rig.last = more_last;
    }
}
