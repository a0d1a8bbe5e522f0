/* trace.c - one traced message, from the headers that ask for it to the document that is published.
 *
 *   publisher's shard                                     another shard
 *     begin -> events ... -> send(tag) ------------------> join(tag) -> events ... -> end
 *     end: waits while reports are awaited <-------------- report(tag, events)  ----'
 *     the last report, or the timer: one document
 *
 * 1. nats-server makes one document per server, and those who read them count servers. So the shards' events come together
 *    on the publisher's shard: first its own, then each other shard's as they come.
 * 2. A message that a shard passes on (a queue group whose member has gone) is one level deeper. Reports may overtake each
 *    other, so they are counted per level: a level is complete when its count is 0 and the levels above it are.
 * 3. A report can be lost only with the mail it was in. After WAIT_NS the document goes out with what there is.
 * 4. A message that cannot be traced further (no slot, no memory, too deep) is delivered all the same, but not when it is
 *    only to be traced.
 */
#include "core/trace.h"

#include <stdio.h>

#include "core/conn.h"
#include "core/perms.h"
#include "proto/header.h"
#include "proto/json.h"
#include "proto/subject.h"
#include "proto/trace_header.h"
#include "ringbus/check.h"

#define SLOTS 256 /* traces of a shard that may wait at once */
#define LEVELS RB_TRACE_LEVELS
#define WAIT_NS (2 * UINT64_C(1000000000))
#define EVENTS_MAX (4 * 1024 * 1024)
#define REQUEST_MAX (1024 * 1024)
#define DESTINATION_MAX 4096
#define ERROR_MAX 8192

/* JSON that grows. */
struct text {
    uint8_t *ptr;
    size_t len, cap;
};

struct rb_trace {
    struct rb_core *core;
    struct rb_timer timer;
    struct rb_slice account_name; /* of the account it was published in */
    struct rb_trace_tag tag;      /* id 0: nobody was asked for a report */
    bool home;                    /* this is the publisher's shard */
    int64_t awaited[LEVELS];      /* at home: reports by level (invariant 2) */
    uint32_t sent_on;             /* elsewhere: messages one level deeper */
    uint32_t left_out;            /* events without room */
    bool only;
    struct rb_account *account;  /* at home, as all below */
    struct rb_slice destination; /* allocated */
    enum rb_encoding encoding;
    struct text request, ingress, events,
        error; /* events: each behind a comma, but for the first */
};

struct rb_traces {
    struct rb_trace *slots[SLOTS];
    uint32_t generation;
};

/* Text */

static bool reserve(struct rb_core *core, struct text *text, size_t more, size_t max)
{
    if (more > max || text->len > max - more) {
        return false;
    }
    size_t need = text->len + more;
    if (need <= text->cap) {
        return true;
    }
    size_t cap = text->cap == 0 ? 1024 : text->cap;
    while (cap < need) {
        cap *= 2;
    }
    uint8_t *ptr = rb_realloc(core->budget, text->ptr, text->cap, cap);
    if (ptr == NULL) {
        return false;
    }
    text->ptr = ptr;
    text->cap = cap;
    return true;
}

static struct rb_writer writer_at_end(struct text *text)
{
    return rb_writer_over(text->ptr + text->len, text->cap - text->len);
}

static void take_written(struct text *text, const struct rb_writer *writer)
{
    rb_assert(writer->ok);
    text->len += rb_writer_len(writer);
}

static void free_text(struct rb_core *core, struct text *text)
{
    rb_free(core->budget, text->ptr, text->cap);
}

/* A JSON string is at most so long. */
static size_t quoted_max(struct rb_slice text)
{
    return 6 * text.len + 2;
}

/* The request's object */

/* {"header":{...},"msgsize":N} */
static bool write_request(struct rb_trace *trace, struct rb_slice header, uint32_t field_count,
                          uint32_t msg_bytes)
{
    struct rb_core *core = trace->core;
    size_t bytes = field_count * sizeof(struct rb_trace_field);
    size_t text_bytes = quoted_max(header) + 8 * (size_t)field_count + 64;
    if (!reserve(core, &trace->request, text_bytes, REQUEST_MAX)) {
        return false;
    }
    struct rb_trace_field *fields = rb_alloc(core->budget, bytes);
    if (fields == NULL) {
        return false;
    }
    struct rb_writer out = writer_at_end(&trace->request);
    rb_write_slice(&out, RB_S("{\"header\":"));
    rb_trace_write_headers(&out, header, fields, field_count);
    if (msg_bytes > 0) {
        rb_json_number(&out, RB_S(",\"msgsize\":"), msg_bytes);
    }
    rb_write_u8(&out, '}');
    take_written(&trace->request, &out);
    rb_free(core->budget, fields, bytes);
    return true;
}

/* Events */

/* Begins an event with room for `text_bytes` of texts; false: it is left out. */
static bool begin_event(struct rb_trace *trace, const char *type, size_t text_bytes,
                        struct rb_writer *ret_out)
{
    struct rb_core *core = trace->core;
    if (!reserve(core, &trace->events, text_bytes + 256, EVENTS_MAX)) {
        trace->left_out++;
        return false;
    }
    struct rb_writer out = writer_at_end(&trace->events);
    if (trace->events.len > 0) {
        rb_write_u8(&out, ',');
    }
    rb_json_text(&out, RB_S("{\"type\":"), rb_slice_text(type));
    rb_json_time(&out, RB_S(",\"ts\":"), core->env->wall_ns(core->env->ctx));
    *ret_out = out;
    return true;
}

static void end_event(struct rb_trace *trace, struct rb_writer *out)
{
    rb_write_u8(out, '}');
    take_written(&trace->events, out);
}

static struct rb_slice name_of(const struct rb_conn *conn)
{
    return conn->about == NULL ? (struct rb_slice){ NULL, 0 } : conn->about->name;
}

/* The ingress event stays open: an error may still be added (rb_trace_violation), and the document closes it. */
static bool write_ingress(struct rb_trace *trace, const struct rb_conn *conn,
                          struct rb_slice subject, struct rb_slice error)
{
    struct rb_writer out;
    struct rb_slice name = name_of(conn);
    size_t bytes = quoted_max(name) + quoted_max(trace->account_name) + quoted_max(subject);
    struct text events =
        trace->events; /* it is written as the first of the events, and set apart */
    if (!begin_event(trace, "in", bytes, &out)) {
        return false;
    }
    rb_write_slice(&out, RB_S(",\"kind\":0"));
    rb_json_number(&out, RB_S(",\"cid\":"), conn->cid);
    rb_json_optional(&out, RB_S(",\"name\":"), name);
    rb_json_text(&out, RB_S(",\"acc\":"), trace->account_name);
    rb_json_text(&out, RB_S(",\"subj\":"), subject);
    take_written(&trace->events, &out);
    trace->ingress = trace->events;
    trace->events = events;
    if (error.len > 0 && reserve(trace->core, &trace->error, quoted_max(error), ERROR_MAX)) {
        out = writer_at_end(&trace->error);
        rb_json_string(&out, error);
        take_written(&trace->error, &out);
    }
    return true;
}

void rb_trace_violation(struct rb_trace *trace, const char *what, struct rb_slice name)
{
    enum { NAME_BYTES = 1024 };
    uint8_t quoted[NAME_BYTES];
    char text[NAME_BYTES + 128];
    size_t len = rb_format_quoted(quoted, sizeof(quoted), name);
    int text_len = snprintf(text, sizeof(text), "Permissions Violation for %s \"%.*s\"", what,
                            (int)len, (const char *)quoted);
    struct rb_slice error = rb_slice_of(text, (size_t)text_len);
    if (trace->error.len == 0 &&
        reserve(trace->core, &trace->error, quoted_max(error), ERROR_MAX)) {
        struct rb_writer out = writer_at_end(&trace->error);
        rb_json_string(&out, error);
        take_written(&trace->error, &out);
    }
}

void rb_trace_mapping(struct rb_trace *trace, struct rb_slice to)
{
    struct rb_writer out;
    if (begin_event(trace, "sm", quoted_max(to), &out)) {
        rb_json_text(&out, RB_S(",\"to\":"), to);
        end_event(trace, &out);
    }
}

void rb_trace_stream_export(struct rb_trace *trace, const struct rb_account *importer,
                            struct rb_slice to)
{
    struct rb_writer out;
    if (begin_event(trace, "se", quoted_max(importer->name) + quoted_max(to), &out)) {
        rb_json_text(&out, RB_S(",\"acc\":"), importer->name);
        rb_json_text(&out, RB_S(",\"to\":"), to);
        end_event(trace, &out);
    }
}

void rb_trace_service_import(struct rb_trace *trace, const struct rb_account *exporter,
                             struct rb_slice from, struct rb_slice to)
{
    struct rb_writer out;
    size_t bytes = quoted_max(exporter->name) + quoted_max(from) + quoted_max(to);
    if (begin_event(trace, "si", bytes, &out)) {
        rb_json_text(&out, RB_S(",\"acc\":"), exporter->name);
        rb_json_text(&out, RB_S(",\"from\":"), from);
        rb_json_text(&out, RB_S(",\"to\":"), to);
        end_event(trace, &out);
    }
}

void rb_trace_egress(struct rb_trace *trace, const struct rb_conn *conn, struct rb_slice subject,
                     struct rb_slice queue, const char *error)
{
    struct rb_writer out;
    struct rb_slice name = name_of(conn), account = conn->account->name;
    size_t bytes = quoted_max(name) + quoted_max(account) + quoted_max(subject) + quoted_max(queue);
    if (!begin_event(trace, "eg", bytes, &out)) {
        return;
    }
    rb_write_slice(&out, RB_S(",\"kind\":0"));
    rb_json_number(&out, RB_S(",\"cid\":"), conn->cid);
    rb_json_optional(&out, RB_S(",\"name\":"), name);
    if (!rb_slice_equal(account, trace->account_name)) {
        rb_json_text(&out, RB_S(",\"acc\":"), account);
    }
    rb_json_optional(&out, RB_S(",\"sub\":"), subject);
    rb_json_optional(&out, RB_S(",\"queue\":"), queue);
    if (error != NULL) {
        rb_json_text(&out, RB_S(",\"error\":"), rb_slice_text(error));
    }
    end_event(trace, &out);
}

void rb_trace_stream(struct rb_trace *trace, struct rb_slice stream, struct rb_slice subject,
                     bool nobody, struct rb_slice error)
{
    struct rb_writer out;
    size_t bytes = quoted_max(stream) + quoted_max(subject) + quoted_max(error);
    if (begin_event(trace, "js", bytes, &out)) {
        rb_json_text(&out, RB_S(",\"stream\":"), stream);
        rb_json_optional(&out, RB_S(",\"subject\":"), subject);
        rb_write_slice(&out, nobody ? RB_S(",\"nointerest\":true") : RB_S(""));
        rb_json_optional(&out, RB_S(",\"error\":"), error);
        end_event(trace, &out);
    }
}

bool rb_trace_only(const struct rb_trace *trace)
{
    return trace->only;
}

/* Beginning and end */

static void free_trace(struct rb_trace *trace)
{
    struct rb_core *core = trace->core;
    if (trace->home && trace->tag.id != 0) {
        core->traces->slots[trace->tag.id % SLOTS] = NULL;
        rb_wheel_disarm(&core->wheel, &trace->timer);
    }
    free_text(core, &trace->request);
    free_text(core, &trace->ingress);
    free_text(core, &trace->events);
    free_text(core, &trace->error);
    rb_free(core->budget, (void *)(uintptr_t)trace->destination.ptr, trace->destination.len);
    rb_free(core->budget, trace, sizeof(*trace));
}

static struct rb_trace *new_trace(struct rb_core *core, struct rb_slice account_name, bool only)
{
    struct rb_trace *trace = rb_alloc(core->budget, sizeof(*trace));
    if (trace != NULL) {
        trace->core = core;
        trace->account_name = account_name;
        trace->only = only;
        rb_timer_init(&trace->timer, RB_TIMER_TRACE);
    }
    return trace;
}

static bool says_yes(struct rb_slice value)
{
    return rb_slice_equal(value, RB_S("1")) || rb_slice_equal_fold(value, RB_S("true")) ||
           rb_slice_equal_fold(value, RB_S("on"));
}

static struct rb_trace *make_trace(struct rb_conn *conn, const struct rb_op *op,
                                   struct rb_slice header, struct rb_slice error,
                                   const struct rb_trace_wish *wish, bool only)
{
    struct rb_core *core = conn->core;
    struct rb_trace *trace = new_trace(core, conn->account->name, only);
    if (trace == NULL) {
        return NULL;
    }
    trace->home = true;
    trace->account = conn->account;
    trace->encoding = rb_header_encoding(wish->encoding);
    uint8_t *destination = rb_alloc(core->budget, wish->destination.len);
    if (destination != NULL) {
        memcpy(destination, wish->destination.ptr, wish->destination.len);
        trace->destination = rb_slice_of(destination, wish->destination.len);
    }
    if (destination == NULL || !write_request(trace, header, wish->field_count, op->total_len) ||
        !write_ingress(trace, conn, op->subject, error)) {
        free_trace(trace);
        return NULL;
    }
    return trace;
}

static bool may_publish(const struct rb_conn *conn, struct rb_slice destination)
{
    if (rb_slice_starts(destination, RB_S("_GR_.")) ||
        (rb_slice_starts(destination, RB_S("$NRG.")) && !rb_account_is_system(conn->account))) {
        return false;
    }
    return conn->perms == NULL || rb_perms_publish(conn->perms, destination);
}

static void log_refusal(struct rb_conn *conn, const char *what, struct rb_slice name)
{
    uint8_t quoted[256];
    uint64_t skipped;
    if (rb_log_limit_pass(&conn->core->err_limit, conn->core->now_ns, &skipped)) {
        size_t len = rb_format_quoted(quoted, sizeof(quoted), name);
        rb_conn_log(conn, RB_LOG_ERR, what, (int)len, (const char *)quoted);
    }
}

/* traceparent: the account says where to, and how often. */
static enum rb_trace_verdict read_account(const struct rb_conn *conn, struct rb_trace_wish *wish)
{
    const struct rb_policy_account *policy = conn->account->policy;
    if (policy == NULL || policy->trace_destination.len == 0) {
        return RB_TRACE_NO;
    }
    wish->destination = policy->trace_destination;
    int32_t percent = policy->trace_sampling;
    bool sampled =
        percent <= 0 || percent >= 100 || (int32_t)rb_env_below(conn->core->env, 100) < percent;
    return sampled ? RB_TRACE_YES : RB_TRACE_DISABLE;
}

enum rb_trace_verdict rb_trace_begin(struct rb_conn *conn, const struct rb_op *op,
                                     struct rb_slice header, struct rb_slice error,
                                     struct rb_trace **ret_trace)
{
    struct rb_trace_wish wish = rb_trace_wish(header);
    if (!wish.asked) {
        return RB_TRACE_NO;
    }
    bool only = !wish.external && says_yes(wish.only);
    enum rb_trace_verdict without = only ? RB_TRACE_SKIP : RB_TRACE_NO;
    if (wish.origin.len > 0) {
        log_refusal(conn,
                    "Message tracing disabled because of header \"Nats-Trace-Origin-Account\" "
                    "with value=\"%.*s\"",
                    wish.origin);
        return only ? RB_TRACE_SKIP : RB_TRACE_DISABLE;
    }
    if (wish.external) {
        enum rb_trace_verdict verdict = read_account(conn, &wish);
        if (verdict != RB_TRACE_YES) {
            return verdict;
        }
    }
    if (wish.destination.len > DESTINATION_MAX || !rb_subject_valid(wish.destination) ||
        !rb_subject_valid_literal(wish.destination)) {
        log_refusal(conn, "Destination \"%.*s\" is not valid, won't be able to trace events",
                    wish.destination);
        return without;
    }
    if (!may_publish(conn, wish.destination)) {
        rb_conn_violation(conn, "Publish to", wish.destination, RB_S(""), "");
        return RB_TRACE_SKIP;
    }
    *ret_trace = make_trace(conn, op, header, error, &wish, only);
    if (*ret_trace == NULL) {
        log_refusal(conn, "No room to trace a message to \"%.*s\"", op->subject);
        return without;
    }
    return RB_TRACE_YES;
}

static bool complete(const struct rb_trace *trace)
{
    for (int i = 0; i < LEVELS; i++) {
        if (trace->awaited[i] != 0) {
            return false;
        }
    }
    return true;
}

static void warn(struct rb_core *core, const char *text)
{
    uint64_t skipped;
    if (rb_log_limit_pass(&core->err_limit, core->now_ns, &skipped)) {
        rb_log_wrn(core->log, "%s", text);
    }
}

/* Publishes the document. Takes `trace`. */
static void finish(struct rb_trace *trace)
{
    struct rb_core *core = trace->core;
    if (trace->left_out > 0) {
        warn(core, "trace: events left out, no memory or too many");
    }
    struct rb_trace_document document = {
        .account = trace->account,
        .destination = trace->destination,
        .encoding = trace->encoding,
        .request = rb_slice_of(trace->request.ptr, trace->request.len),
        .ingress = rb_slice_of(trace->ingress.ptr, trace->ingress.len),
        .error = rb_slice_of(trace->error.ptr, trace->error.len),
        .events = rb_slice_of(trace->events.ptr, trace->events.len),
    };
    if (core->hooks.traced != NULL) {
        core->hooks.traced(core->hooks.ctx, &document);
    }
    free_trace(trace);
}

void rb_trace_end(struct rb_trace *trace)
{
    struct rb_core *core = trace->core;
    if (!trace->home) {
        core->peers.report(core->peers.ctx, &trace->tag, trace->sent_on, trace->left_out,
                           rb_slice_of(trace->events.ptr, trace->events.len));
        free_trace(trace);
    } else if (complete(trace)) {
        finish(trace);
    } else {
        rb_wheel_arm(&core->wheel, &trace->timer, core->now_ns + WAIT_NS);
    }
}

struct rb_buf *rb_trace_redirect(struct rb_core *core, const struct rb_msg *msg,
                                 struct rb_slice destination, struct rb_msg *ret_msg)
{
    size_t cap = msg->payload.len + RB_TRACE_DEST.len + destination.len + 32;
    struct rb_buf *buf = cap > UINT32_MAX ? NULL : rb_buf_acquire(&core->bufs, (uint32_t)cap);
    if (buf == NULL) {
        return NULL;
    }
    struct rb_slice block = rb_slice_of(msg->payload.ptr, msg->header_len);
    size_t header_len = rb_header_set(buf->data, buf->cap, block, RB_TRACE_DEST, destination);
    if (header_len == 0) { /* a malformed header block travels as it is */
        memcpy(buf->data, block.ptr, block.len);
        header_len = block.len;
    }
    size_t body_len = msg->payload.len - msg->header_len;
    if (body_len > 0) {
        memcpy(buf->data + header_len, msg->payload.ptr + msg->header_len, body_len);
    }
    buf->len = (uint32_t)(header_len + body_len);
    *ret_msg = *msg;
    ret_msg->buf = buf;
    ret_msg->header_len = (uint32_t)header_len;
    ret_msg->payload = rb_slice_of(buf->data, buf->len);
    return buf;
}

/* Other shards */

/* A slot that reports find the trace by; false: all are taken. */
static bool take_slot(struct rb_trace *trace)
{
    struct rb_core *core = trace->core;
    if (core->traces == NULL) {
        core->traces = rb_alloc(core->budget, sizeof(*core->traces));
        if (core->traces == NULL) {
            return false;
        }
    }
    struct rb_traces *traces = core->traces;
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (traces->slots[i] == NULL) {
            traces->generation = traces->generation % (UINT32_MAX / SLOTS - 1) + 1;
            traces->slots[i] = trace;
            trace->tag = (struct rb_trace_tag){ .id = traces->generation * SLOTS + i,
                                                .account = (uint16_t)trace->account->id,
                                                .shard = (uint8_t)core->options.shard_index,
                                                .only = trace->only };
            return true;
        }
    }
    return false;
}

bool rb_trace_send(struct rb_core *core, uint32_t shard, uint32_t account, const struct rb_msg *msg,
                   const struct rb_slice *queues, uint32_t queue_count)
{
    struct rb_trace *trace = msg->trace;
    uint32_t level = trace->home ? 0 : trace->tag.level + 1u;
    if (level >= LEVELS || (trace->home && trace->tag.id == 0 && !take_slot(trace))) {
        trace->left_out++;
        if (!trace->only) {
            core->peers.msg(core->peers.ctx, shard, account, msg, queues, queue_count);
        }
        return !trace->only;
    }
    struct rb_trace_tag tag = trace->tag;
    tag.level = (uint8_t)level;
    if (!core->peers.traced(core->peers.ctx, shard, account, msg, queues, queue_count, &tag)) {
        return false;
    }
    if (trace->home) {
        trace->awaited[0]++;
    } else {
        trace->sent_on++;
    }
    return true;
}

struct rb_trace *rb_trace_join(struct rb_core *core, const struct rb_trace_tag *tag)
{
    const struct rb_account *account = rb_account_get(core, tag->account);
    struct rb_slice none = { NULL, 0 };
    struct rb_trace *trace = new_trace(core, account == NULL ? none : account->name, tag->only);
    if (trace != NULL) {
        trace->tag = *tag;
    }
    return trace;
}

void rb_trace_reported(struct rb_core *core, const struct rb_trace_tag *tag, uint32_t sent_on,
                       uint32_t left_out, struct rb_slice events)
{
    struct rb_trace *trace = core->traces == NULL ? NULL : core->traces->slots[tag->id % SLOTS];
    if (trace == NULL || trace->tag.id != tag->id) {
        return; /* it went out without this one (invariant 3) */
    }
    trace->left_out += left_out;
    if (events.len > 0) {
        if (reserve(core, &trace->events, events.len + 1, EVENTS_MAX)) {
            struct rb_writer out = writer_at_end(&trace->events);
            if (trace->events.len > 0) {
                rb_write_u8(&out, ',');
            }
            rb_write_slice(&out, events);
            take_written(&trace->events, &out);
        } else {
            trace->left_out++;
        }
    }
    trace->awaited[tag->level]--;
    if (tag->level + 1 < LEVELS) {
        trace->awaited[tag->level + 1] += sent_on;
    }
    if (complete(trace)) {
        finish(trace);
    }
}

void rb_trace_timer(struct rb_core *core, struct rb_timer *timer)
{
    struct rb_trace *trace = RB_CONTAINER(timer, struct rb_trace, timer);
    warn(core, "trace: a shard's report did not come, its events are left out");
    finish(trace);
}

void rb_traces_deinit(struct rb_core *core)
{
    if (core->traces == NULL) {
        return;
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (core->traces->slots[i] != NULL) {
            free_trace(core->traces->slots[i]);
        }
    }
    rb_free(core->budget, core->traces, sizeof(*core->traces));
    core->traces = NULL;
}
