/* deliver.c - fan-out of one message.
 *
 * 1. Match results stay valid for a whole delivery: whatever would change the sublist (a maximum reached, a
 *    connection that must end) is noted and carried out afterwards.
 * 2. A queue group is decided once, by the publishing shard, by weight: a local member counts 1, another shard
 *    as many as it said. A shard that is chosen but has no member left passes the message on, at most HOPS_MAX times.
 * 3. The protocol line is made once per message; only the sid differs between receivers.
 * 4. Receivers with the same sid (clients of one program) get the same bytes. In a fan-out these are made once, in a
 *    block kept per kind of sid (core->runs), and every receiver refers to them; messages that follow one another continue
 *    the same segment. A receiver with other output in between gets a copy.
 * 5. Functions of the server (specials, service imports among them) publish themselves, which would end invariant 1: they are noted
 *    and run when the receivers have theirs.
 */
#include "core/deliver.h"

#include "core/account.h"
#include "core/conn.h"
#include "core/perms.h"
#include "core/trace.h"
#include "ringbus/check.h"

#define HOPS_MAX 4
#define QUEUES_MAX 256        /* groups sent to other shards in one batch */
#define REFERENCE_BYTES 16384 /* payloads from here on are referenced, not copied */
#define LINE_SMALL 512
#define RUN_RECEIVERS 3 /* from so many plain receivers on, equal output is made once */
#define RUN_BYTES (128 * 1024)
#define VARIANTS_MAX 4
#define SPECIALS_MAX 128 /* functions of the server that take one message; more are left out */
#define SUBJECT_MAX 4096

/* The parts of "MSG subject sid reply size\r\n" that all receivers share. */
struct lines {
    struct rb_slice head, tail; /* for receivers with headers, or messages without */
    struct rb_slice plain_tail; /* for receivers without headers: MSG, the header cut off */
    bool made, hmsg;
    uint8_t *allocated;
    uint8_t small[LINE_SMALL];
};

/* Bytes in a run for one sid and one form of header. */
struct variant {
    const struct rb_sub *sub; /* whose sid it was made with */
    struct rb_buf *buf;
    uint32_t offset, len;
    bool plain;
};

struct delivery {
    struct rb_core *core;
    struct rb_account *account;
    uint32_t special_count;
    uint32_t variant_count;
    bool fan_out;
    const struct rb_msg *msg;
    struct lines lines;
    struct rb_buf *shared; /* the payload's block, once referenced */
    uint32_t shared_offset;
    uint64_t out_msgs, out_bytes; /* delivered within `account`, not yet in its counters */
    struct variant variants[VARIANTS_MAX];
    struct rb_special *specials[SPECIALS_MAX];
};

static void begin_delivery(struct delivery *d, struct rb_account *account, const struct rb_msg *msg,
                           const struct rb_match *match)
{
    d->core = account->core;
    d->account = account;
    d->special_count = 0;
    d->msg = msg;
    d->shared = NULL;
    d->shared_offset = 0;
    d->out_msgs = 0;
    d->out_bytes = 0;
    d->variant_count = 0;
    d->fan_out = match != NULL && match->plain_count >= RUN_RECEIVERS;
    d->lines.made = false;
    d->lines.allocated = NULL;
}

static inline uint8_t *put(uint8_t *at, struct rb_slice s)
{
    memcpy(at, s.ptr, s.len);
    return at + s.len;
}

/* Numbers here are short: the digits are written from their end, in their place. */
static inline uint8_t *put_decimal(uint8_t *at, uint32_t value)
{
    uint8_t *end = at + 1;
    for (uint32_t rest = value; rest >= 10; rest /= 10) {
        end++;
    }
    uint8_t *digit = end;
    do {
        *--digit = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (digit != at);
    return end;
}

/* " reply size\r\n", with `header_len` 0: of a message without headers. */
static inline uint8_t *put_tail(uint8_t *at, struct rb_slice reply, uint32_t header_len,
                                uint32_t total_len)
{
    *at++ = ' ';
    if (reply.len > 0) {
        at = put(at, reply);
        *at++ = ' ';
    }
    if (header_len > 0) {
        at = put_decimal(at, header_len);
        *at++ = ' ';
    }
    at = put_decimal(at, total_len);
    memcpy(at, "\r\n", 2);
    return at + 2;
}

static inline struct rb_slice shown_subject(const struct rb_msg *msg)
{
    return msg->shown.len > 0 ? msg->shown : msg->subject;
}

static size_t lines_bytes(const struct rb_msg *msg)
{
    return shown_subject(msg).len + 2 * msg->reply.len + 2 * RB_MSG_LINE_EXTRA;
}

__attribute__((noinline)) static bool make_lines(struct delivery *d)
{
    const struct rb_msg *msg = d->msg;
    struct lines *lines = &d->lines;
    size_t need = lines_bytes(msg);
    uint8_t *out = lines->small;
    if (need > LINE_SMALL) {
        out = lines->allocated = rb_alloc(d->core->budget, need);
        if (out == NULL) {
            return false;
        }
    }
    lines->hmsg = msg->header_len > 0;
    uint8_t *at = out;
    if (lines->hmsg) {
        *at++ = 'H';
    }
    memcpy(at, "MSG ", 4);
    at = put(at + 4, shown_subject(msg));
    *at++ = ' ';
    lines->head = rb_slice_of(out, (size_t)(at - out));
    uint8_t *begin = at;
    uint32_t total_len = (uint32_t)msg->payload.len;
    at = put_tail(at, msg->reply, msg->header_len, total_len);
    lines->tail = rb_slice_of(begin, (size_t)(at - begin));
    if (lines->hmsg) {
        begin = at;
        at = put_tail(at, msg->reply, 0, total_len - msg->header_len);
        lines->plain_tail = rb_slice_of(begin, (size_t)(at - begin));
    }
    rb_assert((size_t)(at - out) <= need);
    lines->made = true;
    return true;
}

static void count_out(struct rb_core *core, struct rb_account *account, uint64_t msgs,
                      uint64_t bytes)
{
    rb_counter_add(&core->stats.out_msgs, msgs);
    rb_counter_add(&core->stats.out_bytes, bytes);
    rb_counter_add(&account->out_msgs, msgs);
    rb_counter_add(&account->out_bytes, bytes);
}

static void end_message(struct delivery *d)
{
    struct rb_core *core = d->core;
    if (d->out_msgs > 0) {
        count_out(core, d->account, d->out_msgs, d->out_bytes);
    }
    if (d->lines.allocated != NULL) {
        rb_free(core->budget, d->lines.allocated, lines_bytes(d->msg));
    }
    if (d->shared != NULL) {
        rb_buf_release(d->shared);
    }
}

/* Ends the delivery: subscriptions that reached their maximum go, the server's own functions run. */
static bool end_delivery(struct delivery *d)
{
    struct rb_core *core = d->core;
    bool delivered = false;
    end_message(d);
    while (core->subs_done != NULL) {
        struct rb_sub *sub = core->subs_done;
        core->subs_done = sub->next_done;
        if (core->log->trace) {
            rb_conn_log(sub->conn, RB_LOG_TRC, "<-> [DELSUB %.*s]", (int)sub->sid_len, sub->sid);
        }
        rb_conn_unsubscribe(sub->conn, sub);
    }
    for (uint32_t i = 0; i < d->special_count; i++) {
        const struct rb_special *special = d->specials[i];
        if (d->msg->trace == NULL || special->traces || !rb_trace_only(d->msg->trace)) {
            delivered |= special->take(d->account, special->ctx, d->msg);
        }
    }
    return delivered;
}

/* The payload as a counted block that receivers can refer to. */
static bool share_payload(struct delivery *d)
{
    if (d->shared != NULL) {
        return true;
    }
    const struct rb_msg *msg = d->msg;
    if (msg->buf != NULL) {
        d->shared = msg->buf;
        d->shared_offset = (uint32_t)(msg->payload.ptr - msg->buf->data);
        rb_buf_hold(d->shared);
        return true;
    }
    d->shared = rb_buf_acquire(&d->core->bufs, (uint32_t)msg->payload.len);
    if (d->shared == NULL) {
        return false;
    }
    memcpy(d->shared->data, msg->payload.ptr, msg->payload.len);
    d->shared->len = (uint32_t)msg->payload.len;
    return true;
}

static uint8_t *put_message(uint8_t *at, struct rb_slice head, struct rb_slice tail,
                            const struct rb_sub *sub, struct rb_slice payload)
{
    at = put(at, head);
    at = put(at, rb_slice_of(sub->sid, sub->sid_len));
    at = put(at, tail);
    if (payload.len > 0) {
        at = put(at, payload);
    }
    at[0] = '\r';
    at[1] = '\n';
    return at + 2;
}

static inline bool same_sid(const struct rb_sub *a, const struct rb_sub *b)
{
    return a->sid_len == b->sid_len && a->sid[0] == b->sid[0] &&
           (a->sid_len == 1 || memcmp(a->sid, b->sid, a->sid_len) == 0);
}

/* Finds or makes the shared bytes for this sid; NULL when there are too many kinds, or no memory. */
static const struct variant *find_variant(struct delivery *d, const struct rb_sub *sub, bool plain,
                                          struct rb_slice head, struct rb_slice tail,
                                          struct rb_slice payload)
{
    for (uint32_t i = 0; i < d->variant_count; i++) {
        const struct variant *variant = &d->variants[i];
        if (variant->plain == plain && same_sid(variant->sub, sub)) {
            return variant;
        }
    }
    size_t bytes = head.len + sub->sid_len + tail.len + payload.len + 2;
    if (d->variant_count == VARIANTS_MAX || bytes > RUN_BYTES) {
        return NULL;
    }
    uint32_t kind =
        (uint32_t)sub->sid_len * 7 + (sub->sid_len > 0 ? sub->sid[sub->sid_len - 1] : 0);
    struct rb_buf **run = &d->core->runs[(kind + (plain ? 4 : 0)) % RB_CORE_RUNS];
    if (*run == NULL || (*run)->cap - (*run)->len < bytes) {
        if (*run != NULL) {
            rb_buf_release(*run);
        }
        *run = rb_buf_acquire(&d->core->bufs, RUN_BYTES);
        if (*run == NULL) {
            return NULL;
        }
    }
    struct variant *variant = &d->variants[d->variant_count++];
    *variant = (struct variant){
        .sub = sub, .buf = *run, .offset = (*run)->len, .len = (uint32_t)bytes, .plain = plain
    };
    (void)put_message((*run)->data + (*run)->len, head, tail, sub, payload);
    (*run)->len += (uint32_t)bytes;
    return variant;
}

/* Line and payload in one piece. */
static bool write_copied(struct rb_conn *conn, struct rb_slice head, struct rb_slice tail,
                         const struct rb_sub *sub, struct rb_slice payload)
{
    size_t bytes = head.len + sub->sid_len + tail.len + payload.len + 2;
    uint8_t *begin = rb_conn_reserve(conn, (uint32_t)bytes);
    if (begin == NULL) {
        return false;
    }
    (void)put_message(begin, head, tail, sub, payload);
    rb_conn_commit(conn, (uint32_t)bytes);
    return true;
}

static bool write_small(struct delivery *d, struct rb_conn *conn, struct rb_slice head,
                        struct rb_slice tail, const struct rb_sub *sub, bool plain,
                        struct rb_slice payload)
{
    if (d->fan_out) {
        const struct variant *variant = find_variant(d, sub, plain, head, tail, payload);
        if (variant != NULL &&
            rb_conn_write_run(conn, variant->buf, variant->offset, variant->len)) {
            return true;
        }
    }
    return write_copied(conn, head, tail, sub, payload);
}

static bool write_referenced(struct delivery *d, struct rb_conn *conn, struct rb_slice head,
                             struct rb_slice tail, const struct rb_sub *sub, uint32_t skip)
{
    size_t bytes = head.len + sub->sid_len + tail.len;
    uint8_t *begin = rb_conn_reserve(conn, (uint32_t)bytes);
    if (begin == NULL || !share_payload(d)) {
        return false;
    }
    (void)put(put(put(begin, head), rb_slice_of(sub->sid, sub->sid_len)), tail);
    rb_conn_commit(conn, (uint32_t)bytes);
    if (!rb_conn_write_ref(conn, d->shared, d->shared_offset + skip,
                           (uint32_t)d->msg->payload.len - skip)) {
        return false;
    }
    uint8_t *end = rb_conn_reserve(conn, 2);
    if (end == NULL) {
        return false;
    }
    end[0] = '\r';
    end[1] = '\n';
    rb_conn_commit(conn, 2);
    return true;
}

/* The counters of shard and account are added to once per message, not per receiver. */
static void count_delivery(struct delivery *d, struct rb_conn *conn, struct rb_sub *sub,
                           size_t bytes)
{
    struct rb_core *core = d->core;
    conn->out_msgs++;
    conn->out_bytes += bytes;
    if (conn->queued_ns == 0) {
        conn->queued_ns = d->msg->published_ns;
    }
    if (conn->account == d->account) {
        d->out_msgs++;
        d->out_bytes += bytes;
    } else { /* an importer's */
        count_out(core, conn->account, 1, bytes);
    }
    sub->delivered++;
    if (sub->max != 0 && sub->delivered >= sub->max && (sub->flags & RB_SUB_DONE) == 0) {
        sub->flags |= RB_SUB_DONE;
        sub->next_done = core->subs_done;
        core->subs_done = sub;
    }
}

static bool deliver_shadow(struct delivery *d, struct rb_shadow *shadow);

static void note_special(struct delivery *d, struct rb_sub *sub)
{
    if (d->special_count < SPECIALS_MAX) {
        d->specials[d->special_count++] = RB_CONTAINER(sub, struct rb_special, sub);
    }
}

/* What a subscription that is not a plain client's does with the message. True: that is all. */
__attribute__((noinline)) static bool deliver_odd(struct delivery *d, struct rb_sub *sub,
                                                  bool *ret_delivered)
{
    *ret_delivered = false;
    if ((sub->flags & RB_SUB_SPECIAL) != 0) {
        note_special(d, sub);
        return true;
    }
    if ((sub->flags & RB_SUB_SHADOW) != 0) {
        *ret_delivered = deliver_shadow(d, RB_CONTAINER(sub, struct rb_shadow, sub));
        return true;
    }
    return (sub->flags & RB_SUB_DONE) != 0 ||
           ((sub->flags & RB_SUB_FILTER) != 0 &&
            !rb_perms_deliver(sub->conn->perms, d->msg->subject, rb_sublist_queue(&sub->ref)));
}

/* True when the subscription took the message. */
static bool deliver_to(struct delivery *d, struct rb_sub *sub)
{
    struct rb_conn *conn = sub->conn;
    const struct rb_msg *msg = d->msg;
    bool delivered;
    if ((sub->flags & (RB_SUB_SPECIAL | RB_SUB_SHADOW | RB_SUB_FILTER | RB_SUB_DONE)) != 0 &&
        deliver_odd(d, sub, &delivered)) {
        return delivered;
    }
    if (!rb_conn_open(conn) || conn->cid == msg->silent_cid) {
        return false;
    }
    struct lines *lines = &d->lines;
    if (!lines->made && !make_lines(d)) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return false;
    }
    struct rb_slice head = lines->head, tail = lines->tail, payload = msg->payload;
    uint32_t skip = 0;
    if (lines->hmsg && !conn->headers) {
        head = rb_slice_of(head.ptr + 1, head.len - 1); /* "HMSG " without its H */
        tail = lines->plain_tail;
        skip = msg->header_len;
        payload = rb_slice_of(payload.ptr + skip, payload.len - skip);
    }
    bool written = payload.len < REFERENCE_BYTES
                       ? write_small(d, conn, head, tail, sub, skip > 0, payload)
                       : write_referenced(d, conn, head, tail, sub, skip);
    if (!written) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return false;
    }
    if (d->core->log->trace) {
        rb_conn_log(conn, RB_LOG_TRC, "->> [%.*s%.*s%.*s]", RB_S_ARG(head), (int)sub->sid_len,
                    sub->sid, (int)tail.len - 2, (const char *)tail.ptr);
    }
    rb_conn_written(conn);
    count_delivery(d, conn, sub, payload.len);
    if (conn->perms != NULL && msg->reply.len > 0 && !rb_perms_publish(conn->perms, msg->reply)) {
        rb_conn_allow_response(conn, msg->reply);
    }
    return true;
}

/* An importer's subscription: the same message on the importer's subject. */
static bool deliver_shadow(struct delivery *d, struct rb_shadow *shadow)
{
    uint8_t subject[SUBJECT_MAX];
    size_t len = rb_shadow_subject(shadow, d->msg->subject, subject, sizeof(subject));
    if (len == 0) {
        return false;
    }
    struct rb_msg msg = *d->msg;
    msg.subject = rb_slice_of(subject, len);
    struct delivery inner; /* most of it stays untouched */
    begin_delivery(&inner, d->account, &msg, NULL);
    bool delivered = deliver_to(&inner, shadow->of);
    end_message(&inner);
    return delivered;
}

/* Traced messages take the same way through the functions below with `traced` set, a constant: others pay nothing for it. */
#define INLINE static inline __attribute__((always_inline))

/* Tells the trace what becomes of the message at `sub`; `named` is the subscription that matched, a shadow perhaps. */
static bool trace_receiver(struct delivery *d, struct rb_sub *sub, const struct rb_sub *named)
{
    struct rb_conn *conn = sub->conn;
    struct rb_trace *trace = d->msg->trace;
    struct rb_slice queue = rb_sublist_queue(&sub->ref);
    const char *error = NULL;
    bool delivered = false;
    if (conn->cid == d->msg->silent_cid) {
        error = "Not delivered because of no echo";
    } else if ((sub->flags & RB_SUB_FILTER) != 0 &&
               !rb_perms_deliver(conn->perms, d->msg->subject, queue)) {
        error = "Not delivered because subscription denies this subject";
    } else if ((sub->flags & RB_SUB_DONE) != 0) {
        error = "Not delivered because auto-unsubscribe exceeded";
    } else if (!rb_conn_open(conn)) {
        error = "Not delivered because client is closed";
    } else {
        delivered = rb_trace_only(trace) || deliver_to(d, sub);
        error = delivered ? NULL : "Not delivered because client is closed";
    }
    rb_trace_egress(trace, conn, rb_sublist_subject(&named->ref), queue, error);
    return delivered;
}

static bool trace_shadow(struct delivery *d, struct rb_shadow *shadow)
{
    struct rb_trace *trace = d->msg->trace;
    uint8_t subject[SUBJECT_MAX];
    size_t len = rb_shadow_subject(shadow, d->msg->subject, subject, sizeof(subject));
    if (len == 0) {
        return false;
    }
    struct rb_msg msg = *d->msg;
    msg.subject = rb_slice_of(subject, len);
    rb_trace_stream_export(trace, shadow->of->conn->account, msg.subject);
    if (!shadow->import->allow_trace && rb_trace_only(trace)) {
        return true; /* not delivered, but not without a taker either */
    }
    struct delivery inner;
    begin_delivery(&inner, d->account, &msg, NULL);
    bool delivered = shadow->import->allow_trace ? trace_receiver(&inner, shadow->of, &shadow->sub)
                                                 : deliver_to(&inner, shadow->of);
    end_message(&inner);
    return delivered;
}

static bool trace_to(struct delivery *d, struct rb_sub *sub)
{
    if ((sub->flags & RB_SUB_SPECIAL) != 0) {
        note_special(d, sub);
        return false;
    }
    return (sub->flags & RB_SUB_SHADOW) != 0
               ? trace_shadow(d, RB_CONTAINER(sub, struct rb_shadow, sub))
               : trace_receiver(d, sub, sub);
}

INLINE bool give(struct delivery *d, struct rb_sub *sub, bool traced)
{
    return traced ? trace_to(d, sub) : deliver_to(d, sub);
}

/* False: it was not sent. */
INLINE bool mail_to(struct rb_core *core, uint32_t shard, uint32_t account,
                    const struct rb_msg *msg, const struct rb_slice *queues, uint32_t queue_count,
                    bool traced)
{
    if (traced) {
        return rb_trace_send(core, shard, account, msg, queues, queue_count);
    }
    core->peers.msg(core->peers.ctx, shard, account, msg, queues, queue_count);
    return true;
}

static struct rb_sub *sub_of(struct rb_sub_ref *ref)
{
    return RB_CONTAINER(ref, struct rb_sub, ref);
}

/* Members one after the other from `start` until one takes the message. */
INLINE bool deliver_member(struct delivery *d, const struct rb_match_group *group, uint32_t start,
                           bool traced)
{
    for (uint32_t i = 0; i < group->sub_count; i++) {
        uint32_t at = start + i;
        if (at >= group->sub_count) {
            at -= group->sub_count;
        }
        if (give(d, sub_of(group->subs[at]), traced)) {
            return true;
        }
    }
    return false;
}

/* The shard in which position `at` of the remote weights lies. */
static uint32_t shard_at(const struct rb_match_group *group, uint32_t at)
{
    for (uint32_t i = 0; i < group->remote_count; i++) {
        if (at < group->remotes[i].weight) {
            return group->remotes[i].shard;
        }
        at -= group->remotes[i].weight;
    }
    rb_unreachable("a weight within the group's sum belongs to a shard");
}

enum { SHARD_NONE = UINT32_MAX };

/* One member of the group; SHARD_NONE when it is done (or nobody is left), else the shard that is to do it. */
INLINE uint32_t deliver_group(struct delivery *d, const struct rb_match_group *group,
                              bool *ret_delivered, bool traced)
{
    uint32_t pick = rb_env_below(d->core->env, group->weight);
    uint32_t remote_weight = group->weight - group->sub_count;
    if (pick < group->sub_count || remote_weight == 0) {
        if (deliver_member(d, group, pick < group->sub_count ? pick : 0, traced)) {
            *ret_delivered = true;
            return SHARD_NONE;
        }
        if (remote_weight == 0) {
            return SHARD_NONE;
        }
        pick = rb_env_below(d->core->env, remote_weight);
    } else {
        pick -= group->sub_count;
    }
    *ret_delivered = true;
    return shard_at(group, pick);
}

/* Which group goes to which shard. */
struct routed {
    uint64_t shards; /* with a queue group to decide */
    uint32_t count;
    uint8_t shard[QUEUES_MAX];
    struct rb_slice queue[QUEUES_MAX];
};

INLINE void send_to_shards(struct rb_core *core, uint32_t account, const struct rb_msg *msg,
                           uint64_t plain, const struct routed *routed, bool traced)
{
    struct rb_slice queues[QUEUES_MAX];
    for (uint64_t rest = plain | routed->shards; rest != 0; rest &= rest - 1) {
        uint32_t shard = (uint32_t)__builtin_ctzll(rest);
        uint32_t count = 0;
        for (uint32_t i = 0; i < routed->count; i++) {
            if (routed->shard[i] == shard) {
                queues[count++] = routed->queue[i];
            }
        }
        (void)mail_to(core, shard, account, msg, queues, count, traced);
    }
}

/* A receiving shard gives plain subscribers the message too, so more than QUEUES_MAX groups go out as messages of their
 * own that name no plain interest: rb_deliver_mail is told by hop_count > 0. */
INLINE void route_group(struct rb_account *account, const struct rb_msg *msg, struct routed *routed,
                        uint32_t shard, struct rb_slice queue, bool traced)
{
    if (routed->count == QUEUES_MAX) {
        struct rb_msg extra = *msg;
        extra.hop_count = msg->hop_count + 1;
        (void)mail_to(account->core, shard, account->id, &extra, &queue, 1, traced);
        return;
    }
    routed->shard[routed->count] = (uint8_t)shard;
    routed->queue[routed->count++] = queue;
    routed->shards |= UINT64_C(1) << shard;
}

/* Every member of the group of local specials. */
static void note_local(struct delivery *d, const struct rb_match_group *group)
{
    for (uint32_t i = 0; i < group->sub_count; i++) {
        note_special(d, sub_of(group->subs[i]));
    }
}

INLINE bool deliver_groups(struct delivery *d, const struct rb_match *match, bool traced)
{
    const struct rb_msg *msg = d->msg;
    bool delivered = false;
    struct routed routed;
    routed.shards = 0;
    routed.count = 0;
    for (uint32_t i = 0; i < match->group_count; i++) {
        const struct rb_match_group *group = &match->groups[i];
        if (rb_slice_equal(group->queue, RB_LOCAL_QUEUE)) {
            note_local(d, group);
            continue;
        }
        uint32_t shard = deliver_group(d, group, &delivered, traced);
        if (shard != SHARD_NONE) {
            route_group(d->account, msg, &routed, shard, group->queue, traced);
        }
    }
    send_to_shards(d->core, d->account->id, msg, match->remote_plain, &routed, traced);
    return delivered;
}

INLINE bool publish_in(struct rb_account *account, const struct rb_msg *msg, bool traced)
{
    struct rb_core *core = account->core;
    if (account->sublist == NULL) {
        return false;
    }
    const struct rb_match *match =
        msg->from != NULL && msg->from->account == account
            ? rb_sublist_match_hinted(account->sublist, msg->subject, &msg->from->hint)
            : rb_sublist_match(account->sublist, msg->subject);
    if (match->plain_count == 0 && match->group_count == 0 && match->remote_plain == 0) {
        return false;
    }
    struct delivery d;
    begin_delivery(&d, account, msg, match);
    bool delivered = match->remote_plain != 0;
    for (uint32_t i = 0; i < match->plain_count; i++) {
        delivered |= give(&d, sub_of(match->plain[i]), traced);
    }
    if (match->group_count == 0) {
        for (uint64_t rest = match->remote_plain; rest != 0; rest &= rest - 1) {
            (void)mail_to(core, (uint32_t)__builtin_ctzll(rest), account->id, msg, NULL, 0, traced);
        }
    } else {
        delivered |= deliver_groups(&d, match, traced);
    }
    return end_delivery(&d) || delivered;
}

bool rb_deliver_publish(struct rb_account *account, const struct rb_msg *msg)
{
    return publish_in(account, msg, false);
}

bool rb_deliver_traced(struct rb_account *account, const struct rb_msg *msg)
{
    return publish_in(account, msg, true);
}

static const struct rb_match_group *find_group(const struct rb_match *match, struct rb_slice queue)
{
    for (uint32_t i = 0; i < match->group_count; i++) {
        if (rb_slice_equal(match->groups[i].queue, queue)) {
            return &match->groups[i];
        }
    }
    return NULL;
}

/* The group another shard chose us for. Without a member here the message goes on to a shard that has one. */
INLINE void deliver_chosen(struct delivery *d, const struct rb_match *match, struct rb_slice queue,
                           bool traced)
{
    struct rb_core *core = d->core;
    const struct rb_match_group *group = find_group(match, queue);
    if (group != NULL && group->sub_count > 0 &&
        deliver_member(d, group, rb_env_below(core->env, group->sub_count), traced)) {
        return;
    }
    uint32_t remote_weight = group == NULL ? 0 : group->weight - group->sub_count;
    if (remote_weight == 0 || d->msg->hop_count >= HOPS_MAX) {
        rb_counter_add(&core->stats.queue_dropped, 1);
        return;
    }
    struct rb_msg onward = *d->msg;
    onward.hop_count++;
    uint32_t shard = shard_at(group, rb_env_below(core->env, remote_weight));
    (void)mail_to(core, shard, d->account->id, &onward, &queue, 1, traced);
}

INLINE void mail_in(struct rb_account *account, const struct rb_msg *msg,
                    const struct rb_slice *queues, uint32_t queue_count, bool traced)
{
    static const struct rb_match nobody;
    const struct rb_match *match =
        account->sublist == NULL ? &nobody : rb_sublist_match(account->sublist, msg->subject);
    struct delivery d;
    begin_delivery(&d, account, msg, match);
    if (msg->hop_count == 0) {
        for (uint32_t i = 0; i < match->plain_count; i++) {
            (void)give(&d, sub_of(match->plain[i]), traced);
        }
    }
    for (uint32_t i = 0; i < queue_count; i++) {
        deliver_chosen(&d, match, queues[i], traced);
    }
    (void)end_delivery(&d);
}

void rb_deliver_mail(struct rb_account *account, const struct rb_msg *msg,
                     const struct rb_slice *queues, uint32_t queue_count)
{
    mail_in(account, msg, queues, queue_count, false);
}

void rb_deliver_traced_mail(struct rb_account *account, const struct rb_msg *msg,
                            const struct rb_slice *queues, uint32_t queue_count)
{
    mail_in(account, msg, queues, queue_count, true);
}

/* The subscription of `conn` that waits for `reply`; NULL: none. */
static const struct rb_sub *waiting_sub(struct rb_conn *conn, struct rb_slice reply)
{
    const struct rb_match *match =
        conn->account->sublist == NULL ? NULL : rb_sublist_match(conn->account->sublist, reply);
    for (uint32_t i = 0; match != NULL && i < match->plain_count; i++) {
        const struct rb_sub *sub = sub_of(match->plain[i]);
        if (sub->conn == conn && (sub->flags & RB_SUB_SHADOW) == 0) {
            return sub;
        }
    }
    return NULL;
}

void rb_deliver_no_responders(struct rb_conn *conn, struct rb_slice reply, struct rb_slice subject)
{
    const struct rb_sub *sub = waiting_sub(conn, reply);
    if (sub == NULL) {
        return;
    }
    size_t cap = reply.len + sub->sid_len + subject.len + 128;
    uint8_t *out = rb_conn_reserve(conn, (uint32_t)cap);
    if (out == NULL) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return;
    }
    size_t len =
        rb_encode_no_responders(out, cap, reply, rb_slice_of(sub->sid, sub->sid_len), subject);
    rb_assert(len > 0);
    rb_conn_commit(conn, (uint32_t)len);
    rb_conn_written(conn);
}
