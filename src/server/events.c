/* events.c - what the system account is told.
 *
 * 1. An event is built only when somebody listens to its subject, so an idle system account costs a look-up per
 *    connection and nothing per message.
 * 2. Every shard publishes what happens to its own connections. What concerns the node (STATSZ, accounts each 30 s,
 *    SHUTDOWN) is shard 0's.
 * 3. Counters of other shards are read in place: they are single-writer counters that live until every shard has stopped.
 */
#include "server/events_inside.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/subject.h"
#include "ringbus/check.h"

#define SECOND_NS UINT64_C(1000000000)
#define STATSZ_FIRST_NS (SECOND_NS / 4)
#define STATSZ_NS (10 * SECOND_NS)
#define STATSZ_RATE_NS SECOND_NS
#define TRACE_GZIP_MAX 65536 /* the shard's connections wait while it compresses */
#define ACCOUNTS_NS (30 * SECOND_NS)
#define SUBJECT_MAX 4096

static bool stopping(const struct rb_events *events)
{
    return atomic_load(&events->shared->stopping) != 0;
}

/* The system account and the subject, when somebody listens; else NULL. */
__attribute__((format(printf, 4, 5))) static struct rb_account *
listener(struct rb_events *events, char subject[SUBJECT_MAX], struct rb_slice *ret_subject,
         const char *format, ...)
{
    struct rb_account *system = rb_account_system(events->core);
    if (system == NULL || system->sublist == NULL || stopping(events)) {
        return NULL;
    }
    va_list args;
    va_start(args, format);
    int len = vsnprintf(subject, SUBJECT_MAX, format, args);
    va_end(args);
    *ret_subject = rb_slice_of(subject, len < 0 ? 0 : (size_t)len);
    /* An account's name may hold what a subject cannot. */
    if (len <= 0 || len >= SUBJECT_MAX || !rb_subject_valid(*ret_subject) ||
        rb_subject_has_wildcard(*ret_subject) || !rb_account_wanted(system, *ret_subject)) {
        return NULL;
    }
    return system;
}

static void publish(struct rb_account *account, struct rb_slice subject, const struct rb_text *text)
{
    if (!text->failed && text->len > 0) {
        (void)rb_account_publish(account, subject, RB_S(""), 0, rb_slice_of(text->ptr, text->len));
    }
}

void rb_events_send(struct rb_account *account, struct rb_slice subject, struct rb_text *text)
{
    publish(account, subject, text);
    rb_text_deinit(text);
}

/* Connections */

/* nats-server has two subjects for it; one document serves both. */
static void account_changed(struct rb_events *events, struct rb_account *account)
{
    char old_text[SUBJECT_MAX], text[SUBJECT_MAX];
    struct rb_slice old_subject, subject;
    if (rb_slice_equal(account->name, RB_S("$G"))) {
        return;
    }
    struct rb_account *old = listener(events, old_text, &old_subject,
                                      "$SYS.SERVER.ACCOUNT.%.*s.CONNS", RB_S_ARG(account->name));
    struct rb_account *system =
        listener(events, text, &subject, "$SYS.ACCOUNT.%.*s.SERVER.CONNS", RB_S_ARG(account->name));
    if (old == NULL && system == NULL) {
        return;
    }
    struct rb_text document;
    rb_text_init(&document, RB_EVENT_BYTES_MAX);
    rb_event_account(&document, &(struct rb_event_origin){ events->shared, events->core->settings },
                     events->core->env, account->name, account->shared);
    if (old != NULL) {
        publish(old, old_subject, &document);
    }
    if (system != NULL) {
        publish(system, subject, &document);
    }
    rb_text_deinit(&document);
}

void rb_events_conn_up(struct rb_events *events, struct rb_conn *conn)
{
    char subject[SUBJECT_MAX];
    struct rb_slice at;
    account_changed(events, conn->account);
    struct rb_account *system =
        listener(events, subject, &at, "$SYS.ACCOUNT.%.*s.CONNECT", RB_S_ARG(conn->account->name));
    if (system != NULL) {
        struct rb_text text;
        rb_text_init(&text, RB_EVENT_BYTES_MAX);
        rb_event_connect(&text, &(struct rb_event_origin){ events->shared, events->core->settings },
                         conn);
        rb_events_send(system, at, &text);
    }
}

void rb_events_conn_down(struct rb_events *events, struct rb_conn *conn)
{
    account_changed(events, conn->account);
}

static void send_disconnect(struct rb_events *events, const struct rb_conn *conn,
                            struct rb_account *system, struct rb_slice subject)
{
    struct rb_text text;
    rb_text_init(&text, RB_EVENT_BYTES_MAX);
    rb_event_disconnect(&text, &(struct rb_event_origin){ events->shared, events->core->settings },
                        conn, rb_close_reason_text((enum rb_close_reason)conn->end_reason));
    rb_events_send(system, subject, &text);
}

void rb_events_conn_ended(struct rb_events *events, struct rb_conn *conn)
{
    char subject[SUBJECT_MAX];
    struct rb_slice at;
    struct rb_account *system = listener(events, subject, &at, "$SYS.ACCOUNT.%.*s.DISCONNECT",
                                         RB_S_ARG(conn->account->name));
    if (system != NULL) {
        send_disconnect(events, conn, system, at);
    }
}

void rb_events_auth_failed(struct rb_events *events, struct rb_conn *conn)
{
    char subject[SUBJECT_MAX];
    struct rb_slice at;
    struct rb_account *system =
        listener(events, subject, &at, "$SYS.SERVER.%s.CLIENT.AUTH.ERR", events->shared->server_id);
    if (system != NULL) {
        send_disconnect(events, conn, system, at);
    }
}

/* STATSZ */

void rb_events_statsz(struct rb_events *events, struct rb_account *account, struct rb_slice subject)
{
    if (stopping(events) || !rb_account_wanted(account, subject)) {
        return;
    }
    struct rb_text text;
    if (events->shared->process_usage != NULL) {
        events->shared->process_usage(&events->usage, events->core->now_ns);
    }
    rb_text_init(&text, RB_EVENT_BYTES_MAX);
    rb_event_statsz(&text, &(struct rb_event_origin){ events->shared, events->core->settings },
                    events->core, &events->usage);
    rb_events_send(account, subject, &text);
}

static void publish_statsz(struct rb_events *events)
{
    char subject[SUBJECT_MAX];
    struct rb_slice at;
    struct rb_account *system =
        listener(events, subject, &at, "$SYS.SERVER.%s.STATSZ", events->shared->server_id);
    events->statsz_last_ns = events->core->now_ns;
    if (system != NULL) {
        rb_events_statsz(events, system, at);
    }
}

/* Soon after the start, then less often, up to each 10 s; never more than one a second. */
static void beat_statsz(struct rb_events *events)
{
    struct rb_core *core = events->core;
    uint64_t rate_ns =
        events->statsz_interval_ns < STATSZ_RATE_NS ? events->statsz_interval_ns : STATSZ_RATE_NS;
    uint64_t next_ns = events->statsz_last_ns + rate_ns;
    if (events->statsz_last_ns != 0 && core->now_ns < next_ns) {
        rb_wheel_arm(&core->wheel, &events->statsz_timer, next_ns);
        return;
    }
    events->statsz_interval_ns *= 2;
    if (events->statsz_interval_ns > STATSZ_NS) {
        events->statsz_interval_ns = STATSZ_NS;
    }
    rb_wheel_arm(&core->wheel, &events->statsz_timer, core->now_ns + events->statsz_interval_ns);
    publish_statsz(events);
}

void rb_events_broadcast(struct rb_events *events)
{
    publish_statsz(events);
}

/* Accounts that have connections, each 30 s. */
static void beat_accounts(struct rb_events *events)
{
    struct rb_core *core = events->core;
    rb_wheel_arm(&core->wheel, &events->accounts_timer, core->now_ns + ACCOUNTS_NS);
    for (uint32_t id = 0; id < core->account_cap; id++) {
        struct rb_account *account = core->accounts[id];
        if (account != NULL && account->policy != NULL &&
            atomic_load(&account->shared->conns) + atomic_load(&account->shared->leafnodes) > 0) {
            account_changed(events, account);
        }
    }
}

void rb_events_timer(struct rb_events *events, struct rb_timer *timer)
{
    if (stopping(events)) {
        return;
    }
    if (timer == &events->statsz_timer) {
        beat_statsz(events);
    } else if (timer == &events->accounts_timer) {
        beat_accounts(events);
    }
}

void rb_events_traced(struct rb_events *events, const struct rb_trace_document *document)
{
    struct rb_text text, packed;
    uint64_t skipped;
    struct rb_env *env = events->core->env;
    if (rb_account_system(events->core) == NULL) {
        return;
    }
    rb_text_init(&text, RB_TRACE_BYTES_MAX);
    rb_text_init(&packed, RB_TRACE_BYTES_MAX);
    struct rb_slice headers = { NULL, 0 };
    rb_event_trace(&text, &(struct rb_event_origin){ events->shared, events->core->settings },
                   env->wall_ns(env->ctx), document);
    struct rb_slice body = rb_slice_of(text.ptr, text.len);
    if (document->encoding == RB_ENCODING_GZIP && body.len <= TRACE_GZIP_MAX && !text.failed &&
        rb_gzip(body, &packed)) {
        body = rb_slice_of(packed.ptr, packed.len);
        headers = RB_S("NATS/1.0\r\nContent-Encoding: gzip\r\n\r\n");
    } else if (document->encoding != RB_ENCODING_NONE) {
        headers = RB_S("NATS/1.0\r\nContent-Encoding: identity\r\n\r\n");
    }
    if (headers.len > 0) {
        struct rb_text whole;
        rb_text_init(&whole, RB_TRACE_BYTES_MAX);
        rb_text_slice(&whole, headers);
        rb_text_slice(&whole, body);
        rb_text_deinit(&text);
        text = whole;
        body = rb_slice_of(text.ptr, text.len);
    }
    if (!text.failed) {
        (void)rb_account_publish(document->account, document->destination, RB_S(""),
                                 (uint32_t)headers.len, body);
    } else if (rb_log_limit_pass(&events->core->err_limit, events->core->now_ns, &skipped)) {
        rb_log_wrn(events->core->log, "trace: no memory for its document");
    }
    rb_text_deinit(&packed);
    rb_text_deinit(&text);
}

void rb_events_announce(struct rb_events *events, enum rb_node_event event)
{
    char subject[SUBJECT_MAX];
    struct rb_slice at;
    struct rb_env *env = events->core->env;
    struct rb_account *system =
        listener(events, subject, &at, "$SYS.SERVER.%s.%s", events->shared->server_id,
                 event == RB_NODE_SHUTDOWN ? "SHUTDOWN" : "LAMEDUCK");
    if (system != NULL) {
        struct rb_text text;
        rb_text_init(&text, RB_EVENT_BYTES_MAX);
        rb_event_bye(&text, &(struct rb_event_origin){ events->shared, events->core->settings },
                     env->wall_ns(env->ctx));
        rb_events_send(system, at, &text);
    }
}

/* Assembly */

enum rb_err rb_events_create(struct rb_shard *shard, struct rb_node_shared *shared,
                             struct rb_events **ret_events)
{
    struct rb_events *events = calloc(1, sizeof(*events));
    if (events == NULL) {
        return RB_ERR_MEMORY;
    }
    events->shard = shard;
    events->core = rb_shard_core(shard);
    events->shared = shared;
    events->statsz_interval_ns = STATSZ_FIRST_NS;
    rb_timer_init(&events->statsz_timer, RB_TIMER_HOOK);
    rb_timer_init(&events->accounts_timer, RB_TIMER_HOOK);
    *ret_events = events;
    return RB_OK;
}

void rb_events_account_up(struct rb_events *events, struct rb_account *account)
{
    enum rb_err err = rb_events_serve(events, account);
    if (err != RB_OK) {
        events->err = err;
        rb_log_err(events->core->log,
                   "memory budget spent: account \"%.*s\" has no system services",
                   RB_S_ARG(account->name));
    }
}

enum rb_err rb_events_start(struct rb_events *events)
{
    struct rb_core *core = events->core;
    if (events->err == RB_OK && core->options.shard_index == 0) {
        rb_wheel_arm(&core->wheel, &events->statsz_timer, core->now_ns + STATSZ_FIRST_NS);
        rb_wheel_arm(&core->wheel, &events->accounts_timer, core->now_ns + ACCOUNTS_NS);
    }
    return events->err;
}

void rb_events_destroy(struct rb_events *events)
{
    rb_events_free_services(events);
    free(events);
}
