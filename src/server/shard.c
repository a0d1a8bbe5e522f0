/* shard.c - the turn of one reactor.
 *
 *   poll transport -> take mail -> finished jobs, tasks -> step events -> expire timers -> JetStream -> publish
 *   mail, wake neighbours -> flush sends
 *
 * 1. Mail is taken after the poll and before the events of that poll are stepped. What another shard published
 *    before it let its client know (a PONG, say) is therefore seen before anything that client does next.
 * 2. Mail is published before the sends of the same turn are asked for: some drivers send at once.
 * 3. While a ring is nearly full (core.mail_tight) no operation that could need it is begun: input is held,
 *    subscriptions of ended connections stay until there is room again.
 * 4. New settings may change more interest at once than the rings hold. The node lets one shard at a time apply them, so
 *    that this one can wait for the others to take their mail.
 * 5. JetStream takes its turn when all events are stepped, so that one write of its log holds what they brought, and before the sends
 *    of the turn, so that what it acknowledges leaves with them. While a ring is nearly full it waits: its answers need rings, too.
 * 6. A shard that stops closes JetStream first, while its connections live: what waits for the disk is still acknowledged.
 */
#include "server/shard.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "core/account.h"
#include "core/conn.h"
#include "core/deliver.h"
#include "core/trace.h"
#include "ringbus/check.h"
#include "server/closed.h"
#include "server/events.h"
#include "server/jetstream.h"
#include "server/settings.h"

#define TIGHT_BLOCKS 4 /* an operation needs at most one record per shard; this leaves a margin */
#define QUEUES_MAX 256
#define WAIT_NS 100000
#define CLOSE_POLL_NS 5000000
#define CLOSE_NS (10 * UINT64_C(1000000000)) /* JetStream's end; a checkpoint of every stream */
#define ATTACH_BYTES                                                                               \
    16384 /* payloads from here on change their owner instead of being copied twice */

enum { MAIL_MSG = 1, MAIL_INTEREST, MAIL_TRACED, MAIL_REPORT };

/* What every record begins with; then the queue lengths (u16 each), queue names, subject,
 * reply, sender, shown subject, payload. */
struct mail_head {
    uint32_t bytes; /* of the whole record, rounded up to 8 */
    uint8_t type, hop_count;
    uint16_t queue_count;
    uint32_t subject_len, reply_len, header_len, payload_len;
    uint32_t account; /* id */
    uint32_t
        weight; /* of interest; of a message: 1 when the payload is the block's next attached one */
    uint16_t sender_len, import_count;
    uint32_t shown_len;
    struct rb_trace_tag tag; /* of a traced message, and of a report */
    uint64_t silent_cid, published_ns;
};

struct rb_shard {
    struct rb_core core;
    struct rb_shard_options options;
    uint32_t index, count;
    uint32_t listeners[RB_LISTENERS_MAX];
    uint32_t listener_count;
    bool stopping, applying, gave_up;
    struct rb_jetstream_part *jetstream; /* NULL: none */
    uint64_t close_by_ns;                /* of JetStream, once it stops */
    struct rb_log_limit accept_limit;
    pthread_mutex_t task_lock;
    struct rb_task *task_head, *task_tail;
    bool tasks_closed;
    struct rb_closed closed;
    struct rb_events *events;
    _Atomic bool tasks_wait;
};

/* Mail out */

static uint8_t *put(uint8_t *at, struct rb_slice s)
{
    if (s.len > 0) {
        memcpy(at, s.ptr, s.len);
    }
    return at + s.len;
}

static uint8_t *begin_record(struct rb_shard *shard, uint32_t to, struct mail_head *head,
                             const struct rb_slice *queues)
{
    bool attached = head->type != MAIL_INTEREST && head->weight != 0;
    size_t bytes = sizeof(*head) + head->subject_len + head->reply_len + head->sender_len +
                   head->shown_len + (attached ? 0 : head->payload_len);
    for (uint32_t i = 0; i < head->queue_count; i++) {
        bytes += sizeof(uint16_t) + queues[i].len;
    }
    bytes = (bytes + 7) & ~(size_t)7;
    struct rb_mail *mail = shard->options.shared->mail;
    uint8_t *out =
        bytes > UINT32_MAX ? NULL : rb_mail_record(mail, shard->index, to, (uint32_t)bytes);
    if (!rb_mail_room(mail, shard->index, to, TIGHT_BLOCKS)) {
        shard->core.mail_tight = true;
    }
    if (out == NULL) {
        return NULL;
    }
    head->bytes = (uint32_t)bytes;
    uint8_t *at = put(out, rb_slice_of(head, sizeof(*head)));
    for (uint32_t i = 0; i < head->queue_count; i++) {
        uint16_t len = (uint16_t)queues[i].len;
        at = put(at, rb_slice_of(&len, sizeof(len)));
    }
    for (uint32_t i = 0; i < head->queue_count; i++) {
        at = put(at, queues[i]);
    }
    return at;
}

/* An exported copy of a large payload; NULL for a small one, or when memory is refused. */
static struct rb_buf *copy_large(struct rb_shard *shard, struct rb_slice payload)
{
    if (payload.len < ATTACH_BYTES) {
        return NULL;
    }
    struct rb_buf *buf = rb_buf_acquire(&shard->core.bufs, (uint32_t)payload.len);
    if (buf != NULL) {
        memcpy(buf->data, payload.ptr, payload.len);
        buf->len = (uint32_t)payload.len;
        rb_buf_export(buf);
    }
    return buf;
}

static inline __attribute__((always_inline)) bool
put_msg(struct rb_shard *shard, uint32_t to, uint32_t account, const struct rb_msg *msg,
        const struct rb_slice *queues, uint32_t queue_count, const struct rb_trace_tag *tag)
{
    struct mail_head head = { .type = tag != NULL ? MAIL_TRACED : MAIL_MSG,
                              .hop_count = (uint8_t)msg->hop_count,
                              .queue_count = (uint16_t)queue_count,
                              .account = account,
                              .sender_len = (uint16_t)msg->sender.len,
                              .import_count = (uint16_t)msg->import_count,
                              .shown_len = (uint32_t)msg->shown.len,
                              .published_ns = msg->published_ns,
                              .subject_len = (uint32_t)msg->subject.len,
                              .reply_len = (uint32_t)msg->reply.len,
                              .header_len = msg->header_len,
                              .silent_cid = msg->silent_cid,
                              .payload_len = (uint32_t)msg->payload.len };
    if (tag != NULL) {
        head.tag = *tag;
    }
    struct rb_buf *large = copy_large(shard, msg->payload);
    head.weight = large != NULL;
    uint8_t *at = begin_record(shard, to, &head, queues);
    if (at == NULL) {
        rb_counter_add(&shard->core.stats.mail_dropped, 1);
        if (large != NULL) {
            rb_buf_free_exported(large);
        }
        return false;
    }
    at = put(put(put(put(at, msg->subject), msg->reply), msg->sender), msg->shown);
    if (large != NULL) {
        rb_mail_attach(shard->options.shared->mail, shard->index, to, large);
    } else {
        (void)put(at, msg->payload);
    }
    return true;
}

static void send_msg(void *ctx, uint32_t to, uint32_t account, const struct rb_msg *msg,
                     const struct rb_slice *queues, uint32_t queue_count)
{
    (void)put_msg(ctx, to, account, msg, queues, queue_count, NULL);
}

static bool send_traced(void *ctx, uint32_t to, uint32_t account, const struct rb_msg *msg,
                        const struct rb_slice *queues, uint32_t queue_count,
                        const struct rb_trace_tag *tag)
{
    return put_msg(ctx, to, account, msg, queues, queue_count, tag);
}

/* In the fields of a message: what was sent on, what was left out, and the events as payload. */
static void send_report(void *ctx, const struct rb_trace_tag *tag, uint32_t sent_on,
                        uint32_t left_out, struct rb_slice events)
{
    struct rb_shard *shard = ctx;
    if (tag->shard == shard->index) { /* it came home, passed on by another shard */
        rb_trace_reported(&shard->core, tag, sent_on, left_out, events);
        return;
    }
    struct rb_buf *large = copy_large(shard, events);
    struct mail_head head = { .type = MAIL_REPORT,
                              .tag = *tag,
                              .weight = large != NULL,
                              .payload_len = (uint32_t)events.len,
                              .silent_cid = sent_on,
                              .published_ns = left_out };
    uint8_t *at = begin_record(shard, tag->shard, &head, NULL);
    if (at != NULL && large != NULL) {
        rb_mail_attach(shard->options.shared->mail, shard->index, tag->shard, large);
    } else if (at != NULL) {
        (void)put(at, events);
    } else {
        rb_counter_add(&shard->core.stats.mail_dropped, 1);
        if (large != NULL) {
            rb_buf_free_exported(large);
        }
    }
}

/* The other shard runs its turns and takes mail; this one is in the middle of applying settings. */
static void wait_for_room(struct rb_shard *shard, uint32_t to)
{
    const struct rb_node_shared *shared = shard->options.shared;
    rb_assert(shared->wake != NULL);
    (void)rb_mail_publish(shared->mail, shard->index, to);
    shared->wake(shared->wake_ctx, to);
    const struct timespec pause = { .tv_nsec = WAIT_NS };
    (void)nanosleep(&pause, NULL);
}

static void send_interest(void *ctx, uint32_t account, struct rb_slice subject,
                          struct rb_slice queue, uint32_t weight)
{
    struct rb_shard *shard = ctx;
    for (uint32_t to = 0; to < shard->count; to++) {
        if (to == shard->index) {
            continue;
        }
        struct mail_head head = { .type = MAIL_INTEREST,
                                  .queue_count = 1,
                                  .account = account,
                                  .subject_len = (uint32_t)subject.len,
                                  .weight = weight };
        uint8_t *at = begin_record(shard, to, &head, &queue);
        while (at == NULL && shard->applying) { /* invariant 4 */
            wait_for_room(shard, to);
            at = begin_record(shard, to, &head, &queue);
        }
        rb_assert(at != NULL); /* invariant 3 keeps room; losing interest would lose messages */
        (void)put(at, subject);
    }
}

/* Mail in */

__attribute__((noinline)) static void take_traced(struct rb_shard *shard, struct rb_msg *msg,
                                                  const struct mail_head *head,
                                                  const struct rb_slice *queues)
{
    struct rb_account *account = rb_account_get(&shard->core, head->account);
    msg->trace = account == NULL ? NULL : rb_trace_join(&shard->core, &head->tag);
    if (msg->trace != NULL) {
        rb_deliver_traced_mail(account, msg, queues, head->queue_count);
        rb_trace_end(msg->trace);
    } else if (account != NULL && !head->tag.only) {
        rb_deliver_mail(account, msg, queues, head->queue_count);
    } else if (account == NULL) {
        rb_counter_add(&shard->core.stats.mail_dropped, 1);
    }
}

static uint32_t step_record(struct rb_shard *shard, uint32_t from, struct rb_mail_block *block,
                            const uint8_t *at)
{
    struct mail_head head;
    memcpy(&head, at, sizeof(head));
    struct rb_slice queues[QUEUES_MAX];
    rb_assert(head.queue_count <= QUEUES_MAX);
    const uint8_t *lens = at + sizeof(head);
    const uint8_t *rest = lens + head.queue_count * sizeof(uint16_t);
    for (uint32_t i = 0; i < head.queue_count; i++) {
        uint16_t len;
        memcpy(&len, lens + i * sizeof(len), sizeof(len));
        queues[i] = rb_slice_of(rest, len);
        rest += len;
    }
    struct rb_slice subject = rb_slice_of(rest, head.subject_len);
    rest += head.subject_len;
    if (head.type == MAIL_INTEREST) {
        rb_account_remote(&shard->core, head.account, subject, queues[0], from, head.weight);
        return head.bytes;
    }
    struct rb_slice reply = rb_slice_of(rest, head.reply_len);
    rest += head.reply_len;
    struct rb_slice sender = rb_slice_of(rest, head.sender_len);
    rest += head.sender_len;
    struct rb_slice shown = rb_slice_of(rest, head.shown_len);
    rest += head.shown_len;
    struct rb_account *account = rb_account_get(&shard->core, head.account);
    struct rb_msg msg = { .subject = subject,
                          .reply = reply,
                          .payload = rb_slice_of(rest, head.payload_len),
                          .sender = sender,
                          .shown = shown,
                          .published_ns = head.published_ns,
                          .import_count = head.import_count,
                          .header_len = head.header_len,
                          .silent_cid = head.silent_cid,
                          .hop_count = head.hop_count };
    if (head.weight != 0) {
        msg.buf = rb_mail_detach(block);
        rb_buf_adopt(&shard->core.bufs, msg.buf);
        msg.payload = rb_slice_of(msg.buf->data, msg.buf->len);
    }
    if (head.type == MAIL_REPORT) {
        rb_trace_reported(&shard->core, &head.tag, (uint32_t)head.silent_cid,
                          (uint32_t)head.published_ns, msg.payload);
    } else if (head.type == MAIL_TRACED) {
        take_traced(shard, &msg, &head, queues);
    } else if (account != NULL) {
        rb_deliver_mail(account, &msg, queues, head.queue_count);
    } else {
        rb_counter_add(&shard->core.stats.mail_dropped, 1);
    }
    if (msg.buf != NULL) {
        rb_buf_release(msg.buf);
    }
    return head.bytes;
}

static bool take_mail(struct rb_shard *shard)
{
    struct rb_mail *mail = shard->options.shared->mail;
    bool worked = false;
    for (uint32_t from = 0; from < shard->count; from++) {
        if (from == shard->index) {
            continue;
        }
        struct rb_mail_block *block;
        for (uint32_t i = 0;
             i < 4 * RB_MAIL_BLOCKS_MAX && (block = rb_mail_take(mail, from, shard->index)) != NULL;
             i++) {
            for (uint32_t offset = 0; offset < block->len;) {
                offset += step_record(shard, from, block, block->data + offset);
            }
            if (rb_mail_return(mail, from, shard->index, block)) {
                rb_transport_wake(shard->core.transport, from);
            }
            worked = true;
        }
    }
    return worked;
}

static void publish_mail(struct rb_shard *shard)
{
    struct rb_mail *mail = shard->options.shared->mail;
    for (uint32_t to = 0; to < shard->count; to++) {
        if (to != shard->index && mail->pairs[shard->index * shard->count + to].current != NULL &&
            rb_mail_publish(mail, shard->index, to)) {
            rb_transport_wake(shard->core.transport, to);
        }
    }
}

static bool has_room(struct rb_shard *shard)
{
    for (uint32_t to = 0; to < shard->count; to++) {
        if (to != shard->index &&
            !rb_mail_room(shard->options.shared->mail, shard->index, to, TIGHT_BLOCKS)) {
            return false;
        }
    }
    return true;
}

static void look_for_room(struct rb_shard *shard)
{
    if (shard->core.mail_tight && has_room(shard)) {
        shard->core.mail_tight = false;
    }
    if (!shard->core.mail_tight && !rb_list_empty(&shard->core.stalled)) {
        rb_conn_resume(&shard->core);
    }
}

/* Tasks from other threads, jobs that helper threads finished */

bool rb_shard_post(struct rb_shard *shard, struct rb_task *task)
{
    task->next = NULL;
    pthread_mutex_lock(&shard->task_lock);
    bool open = !shard->tasks_closed;
    if (open) {
        if (shard->task_head == NULL) {
            shard->task_head = task;
        } else {
            shard->task_tail->next = task;
        }
        shard->task_tail = task;
        atomic_store(&shard->tasks_wait, true);
    }
    pthread_mutex_unlock(&shard->task_lock);
    return open;
}

static bool run_tasks(struct rb_shard *shard)
{
    if (!atomic_load_explicit(&shard->tasks_wait, memory_order_acquire)) {
        return false;
    }
    pthread_mutex_lock(&shard->task_lock);
    struct rb_task *task = shard->task_head;
    shard->task_head = shard->task_tail = NULL;
    atomic_store(&shard->tasks_wait, false);
    pthread_mutex_unlock(&shard->task_lock);
    while (task != NULL) {
        struct rb_task *next = task->next;
        task->run(shard, task);
        task = next;
    }
    return true;
}

static bool take_jobs(struct rb_shard *shard)
{
    struct rb_core *core = &shard->core;
    bool worked = false;
    for (struct rb_job *job; (job = rb_work_done(core->work, shard->index)) != NULL;) {
        rb_conn_job(core, job);
        worked = true;
    }
    return worked;
}

/* The turn */

/* -1: never. */
static int64_t until_ns(uint64_t due_ns, uint64_t now_ns)
{
    return due_ns == UINT64_MAX ? -1 : due_ns <= now_ns ? 0 : (int64_t)(due_ns - now_ns);
}

static int64_t earlier(int64_t a_ns, int64_t b_ns)
{
    return a_ns < 0 || (b_ns >= 0 && b_ns < a_ns) ? b_ns : a_ns;
}

static int64_t wait_ns(struct rb_shard *shard, int64_t max_ns)
{
    struct rb_core *core = &shard->core;
    if (!rb_list_empty(&core->effects.wanted) ||
        (!core->mail_tight && !rb_list_empty(&core->stalled)) ||
        (!shard->stopping && atomic_load(&shard->options.shared->stopping) != 0) ||
        atomic_load(&shard->tasks_wait)) {
        return 0;
    }
    uint64_t now_ns = rb_env_now(core->env);
    int64_t wait = rb_wheel_wait_ns(&core->wheel, now_ns);
    if (shard->jetstream != NULL && !core->mail_tight) {
        wait = earlier(wait, until_ns(rb_jetstream_part_due(shard->jetstream), now_ns));
    }
    if (shard->close_by_ns != 0) {
        wait = earlier(wait, CLOSE_POLL_NS);
    }
    if (wait < 0 || (max_ns >= 0 && max_ns < wait)) {
        wait = max_ns;
    }
    return wait;
}

/* Blocks in the transport unless mail is there; see the sleep protocol in mailbox.c. */
static uint32_t poll_events(struct rb_shard *shard, int64_t timeout_max_ns,
                            struct rb_event **ret_events)
{
    struct rb_core *core = &shard->core;
    int64_t wait = timeout_max_ns == 0 ? 0 : wait_ns(shard, timeout_max_ns);
    if (wait == 0 || shard->count == 1) {
        return rb_transport_poll(core->transport, wait, ret_events);
    }
    struct rb_mail *mail = shard->options.shared->mail;
    if (core->mail_tight) {
        rb_mail_want_room(mail, shard->index);
    }
    if (!rb_mail_sleep(mail, shard->index) || (core->mail_tight && has_room(shard))) {
        wait = 0;
    }
    uint32_t count = rb_transport_poll(core->transport, wait, ret_events);
    rb_mail_awake(mail, shard->index);
    return count;
}

/* What INFO says of our ports: the advertised one, else the bound one. */
static void set_ports(struct rb_shard *shard)
{
    struct rb_core *core = &shard->core;
    const struct rb_node_shared *shared = shard->options.shared;
    uint32_t port = core->settings->options.info.port;
    core->options.info.port = (uint16_t)(port != 0 ? port : atomic_load(&shared->port));
    core->options.ws_info.port = (uint16_t)atomic_load(&shared->ws_port);
}

static void step_event(struct rb_shard *shard, const struct rb_event *event)
{
    struct rb_core *core = &shard->core;
    if (event->kind == RB_EVENT_ACCEPTED) {
        set_ports(shard);
    }
    if (event->kind != RB_EVENT_ACCEPT_FAILED) {
        rb_conn_event(core, event);
        return;
    }
    uint64_t skipped;
    if (rb_log_limit_pass(&shard->accept_limit, core->now_ns, &skipped)) {
        rb_log_err(core->log, "accept failed: %s%s (%llu more since the last line)",
                   rb_err_text(event->err),
                   event->err == RB_ERR_LIMIT
                       ? "; raise the limit of open files (ulimit -n, LimitNOFILE=)"
                       : "",
                   (unsigned long long)skipped);
    }
}

/* Invariant 6. True when it is closed, or was given up. */
static bool end_jetstream(struct rb_shard *shard)
{
    struct rb_core *core = &shard->core;
    if (shard->jetstream == NULL || shard->gave_up) {
        return true;
    }
    if (shard->close_by_ns == 0) {
        shard->close_by_ns = core->now_ns + CLOSE_NS;
        rb_jetstream_part_close(shard->jetstream);
    }
    if (rb_jetstream_part_closed(shard->jetstream)) {
        shard->close_by_ns = 0;
        shard->jetstream = NULL;
        return true;
    }
    if (core->now_ns >= shard->close_by_ns) {
        rb_log_err(core->log,
                   "JetStream did not close within %u s: its disk does not answer; what was "
                   "acknowledged is there",
                   (uint32_t)(CLOSE_NS / 1000000000));
        shard->gave_up = true;
    }
    return shard->gave_up;
}

static void see_stopping(struct rb_shard *shard)
{
    if (atomic_load(&shard->options.shared->stopping) == 0) {
        return;
    }
    if (!shard->stopping) {
        rb_shard_unlisten(shard);
    }
    shard->stopping = true;
    if (!end_jetstream(shard)) {
        return;
    }
    rb_conn_end_all(&shard->core, RB_CLOSE_SHUTDOWN); /* again each turn: some may still arrive */
}

bool rb_shard_turn(struct rb_shard *shard, int64_t timeout_max_ns)
{
    struct rb_core *core = &shard->core;
    struct rb_event *events;
    uint32_t count = poll_events(shard, timeout_max_ns, &events);
    core->now_ns = rb_env_now(core->env);
    if (shard->jetstream != NULL) {
        rb_jetstream_part_begin(shard->jetstream, core->now_ns);
    }
    bool worked = take_mail(shard) || count > 0;
    worked |= take_jobs(shard);
    worked |= run_tasks(shard);
    for (uint32_t i = 0; i < count; i++) {
        step_event(shard, &events[i]);
    }
    for (struct rb_timer *timer; (timer = rb_wheel_expire(&core->wheel, core->now_ns)) != NULL;) {
        rb_conn_timer(core, timer);
        worked = true;
    }
    if (shard->jetstream != NULL && !core->mail_tight) {
        worked |= rb_jetstream_part_turn(shard->jetstream);
    }
    see_stopping(shard);
    look_for_room(shard);
    if (!worked) {
        rb_core_drop_runs(core); /* idle: keep nothing that only speeds up the next burst */
    }
    worked |= !rb_list_empty(&core->effects.wanted);
    publish_mail(shard); /* invariant 2: epoll and pipes send at once */
    rb_conn_effects(core);
    publish_mail(shard); /* what ended connections withdrew */
    if (worked) {
        rb_histogram_add(&core->stats.turn_ns, rb_env_now(core->env) - core->now_ns);
    }
    return worked;
}

/* Assembly */

static void conn_ended(void *ctx, struct rb_conn *conn)
{
    struct rb_shard *shard = ctx;
    if (!shard->stopping) {
        rb_closed_add(&shard->closed, conn);
        rb_events_conn_ended(shard->events, conn);
    }
}

static void conn_up(void *ctx, struct rb_conn *conn)
{
    struct rb_shard *shard = ctx;
    rb_events_conn_up(shard->events, conn);
}

static void conn_down(void *ctx, struct rb_conn *conn)
{
    struct rb_shard *shard = ctx;
    if (!shard->stopping) {
        rb_events_conn_down(shard->events, conn);
    }
}

static void auth_failed(void *ctx, struct rb_conn *conn)
{
    struct rb_shard *shard = ctx;
    rb_events_auth_failed(shard->events, conn);
}

static void account_up(void *ctx, struct rb_account *account)
{
    struct rb_shard *shard = ctx;
    rb_events_account_up(shard->events, account);
    if (shard->jetstream != NULL) {
        rb_jetstream_part_changed(shard->jetstream);
    }
}

static void interest(void *ctx, struct rb_account *account, struct rb_slice subject)
{
    struct rb_shard *shard = ctx;
    if (shard->jetstream != NULL) {
        rb_jetstream_part_interest(shard->jetstream, account, subject);
    }
}

static void hook_timer(void *ctx, struct rb_timer *timer)
{
    struct rb_shard *shard = ctx;
    rb_events_timer(shard->events, timer);
}

static void traced(void *ctx, const struct rb_trace_document *document)
{
    struct rb_shard *shard = ctx;
    rb_events_traced(shard->events, document);
}

enum rb_err rb_shard_create(const struct rb_shard_options *options, struct rb_shard **ret_shard)
{
    struct rb_shard *shard = calloc(1, sizeof(*shard));
    if (shard == NULL) {
        return RB_ERR_MEMORY;
    }
    shard->options = *options;
    shard->index = options->index;
    shard->count = options->shared->shard_count;
    shard->accept_limit = (struct rb_log_limit){ .interval_ns = 5 * UINT64_C(1000000000) };
    struct rb_core *core = &shard->core;
    (void)pthread_mutex_init(&shard->task_lock, NULL);
    core->options.shard_index = options->index;
    core->settings = rb_settings_hold(options->shared->settings);
    core->work = options->shared->work;
    rb_closed_init(&shard->closed, options->budget,
                   options->shared->config->max_closed_clients / shard->count);
    core->hooks = (struct rb_core_hooks){ .conn_up = conn_up,
                                          .conn_down = conn_down,
                                          .auth_failed = auth_failed,
                                          .account_up = account_up,
                                          .conn_ended = conn_ended,
                                          .timer = hook_timer,
                                          .traced = traced,
                                          .interest = interest,
                                          .ctx = shard };
    core->auth_hook = options->shared->auth_hook;
    core->account_table = options->shared->accounts;
    core->tls_rate = &options->shared->tls_rate;
    core->listener_types = options->shared->listener_types;
    core->peers = (struct rb_core_peers){ .msg = send_msg,
                                          .interest = send_interest,
                                          .traced = send_traced,
                                          .report = send_report,
                                          .ctx = shard };
    core->transport = options->transport;
    core->env = options->env;
    core->log = options->shared->log;
    core->budget = options->budget;
    core->next_cid = &options->shared->next_cid;
    core->conn_count = &options->shared->conn_count;
    enum rb_err err = rb_events_create(shard, options->shared, &shard->events);
    if (err != RB_OK) {
        rb_core_settings_release(core->settings);
        (void)pthread_mutex_destroy(&shard->task_lock);
        free(shard);
        return err;
    }
    err = rb_core_init(core);
    if (err == RB_OK) {
        err = rb_events_start(shard->events);
    }
    if (err != RB_OK) {
        rb_core_deinit(core);
        rb_events_destroy(shard->events);
        (void)pthread_mutex_destroy(&shard->task_lock);
        free(shard);
        return err;
    }
    atomic_store(&options->shared->stats[shard->index], &core->stats);
    publish_mail(shard); /* what the server itself listens to is known before a client comes */
    *ret_shard = shard;
    return RB_OK;
}

void rb_shard_close(struct rb_shard *shard)
{
    pthread_mutex_lock(&shard->task_lock);
    shard->tasks_closed = true;
    pthread_mutex_unlock(&shard->task_lock);
    (void)run_tasks(shard);
}

void rb_shard_destroy(struct rb_shard *shard)
{
    rb_shard_close(shard);
    (void)take_jobs(shard);
    rb_closed_deinit(&shard->closed);
    atomic_store(&shard->options.shared->stats[shard->index], NULL);
    rb_core_deinit(&shard->core);
    rb_events_destroy(shard->events);
    (void)pthread_mutex_destroy(&shard->task_lock);
    free(shard);
}

enum rb_err rb_shard_listen(struct rb_shard *shard, const struct rb_addr *addr,
                            const char *unix_path, uint32_t type, struct rb_addr *ret_addr)
{
    struct rb_node_shared *shared = shard->options.shared;
    struct rb_listen_options options = {
        .addr = *addr, .backlog = 4096, .spread = true, .unix_path = unix_path
    };
    if (shard->listener_count == RB_LISTENERS_MAX) {
        return RB_ERR_FULL;
    }
    uint32_t listener;
    enum rb_err err = rb_transport_listen(shard->core.transport, &options, &listener, ret_addr);
    if (err != RB_OK) {
        return err;
    }
    rb_assert(listener < RB_LISTENERS_MAX);
    atomic_store(&shared->listener_types[listener], (uint8_t)type);
    shard->listeners[shard->listener_count++] = listener;
    if (unix_path == NULL) {
        atomic_store(type == RB_TYPE_WEBSOCKET ? &shared->ws_port : &shared->port, ret_addr->port);
    }
    return RB_OK;
}

enum rb_err rb_shard_apply(struct rb_shard *shard, const struct rb_core_settings *settings)
{
    shard->applying = true;
    enum rb_err err = rb_core_apply(&shard->core, settings);
    shard->applying = false;
    if (shard->jetstream != NULL) {
        rb_jetstream_part_changed(shard->jetstream);
    }
    set_ports(shard);
    return err;
}

void rb_shard_unlisten(struct rb_shard *shard)
{
    while (shard->listener_count > 0) {
        rb_transport_unlisten(shard->core.transport, shard->listeners[--shard->listener_count]);
    }
}

bool rb_shard_stopped(const struct rb_shard *shard)
{
    return shard->stopping && (shard->jetstream == NULL || shard->gave_up) &&
           rb_list_empty(&shard->core.conns);
}

bool rb_shard_gave_up(const struct rb_shard *shard)
{
    return shard->gave_up;
}

void rb_shard_set_jetstream(struct rb_shard *shard, struct rb_jetstream_part *part)
{
    shard->jetstream = part;
}

struct rb_jetstream_part *rb_shard_jetstream(const struct rb_shard *shard)
{
    return shard->jetstream;
}

const struct rb_core_stats *rb_shard_stats(const struct rb_shard *shard)
{
    return &shard->core.stats;
}

const struct rb_sublist *rb_shard_sublist(const struct rb_shard *shard, uint32_t account)
{
    const struct rb_core *core = &shard->core;
    return account < core->account_cap && core->accounts[account] != NULL
               ? core->accounts[account]->sublist
               : NULL;
}

struct rb_core *rb_shard_core(struct rb_shard *shard)
{
    return &shard->core;
}

const struct rb_closed *rb_shard_closed(const struct rb_shard *shard)
{
    return &shard->closed;
}

struct rb_events *rb_shard_events(struct rb_shard *shard)
{
    return shard->events;
}

uint32_t rb_shard_index(const struct rb_shard *shard)
{
    return shard->index;
}
