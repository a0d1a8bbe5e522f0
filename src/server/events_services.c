/* events_services.c - the subjects that the server itself listens to.
 *
 *   system account, shard 0: $SYS.REQ.SERVER.<id>.VARZ ...   told to the other shards as interest
 *   every account, every shard: $SYS.REQ.USER.INFO ...       local: taken where they are published
 *
 * An account comes up once on a shard and keeps its services until the shard ends: a reload that would change the system
 * account is refused (config_diff.c).
 *
 * What a shard knows is answered at once; the rest becomes a request of the service thread (services.h).
 */
#include "server/events_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/subject.h"
#include "ringbus/check.h"
#include "server/filter.h"

#define SUBJECT_MAX 256

enum where { SERVER, ACCOUNT, FIXED, OWN_ID };

struct definition {
    const char *name;
    enum where
        where; /* SERVER: of one server and of all; ACCOUNT: of any account; OWN_ID: of this server only */
    enum rb_request_kind kind;
    enum rb_monitor_doc doc;
};

static const struct definition system_services[] = {
    { "$SYS.REQ.SERVER.PING", FIXED, RB_REQUEST_STATSZ, RB_DOC_COUNT },
    { "IDZ", SERVER, RB_REQUEST_IDZ, RB_DOC_COUNT },
    { "STATSZ", SERVER, RB_REQUEST_STATSZ, RB_DOC_COUNT },
    { "VARZ", SERVER, RB_REQUEST_DOC, RB_DOC_VARZ },
    { "SUBSZ", SERVER, RB_REQUEST_DOC, RB_DOC_SUBSZ },
    { "CONNZ", SERVER, RB_REQUEST_DOC, RB_DOC_CONNZ },
    { "ROUTEZ", SERVER, RB_REQUEST_DOC, RB_DOC_ROUTEZ },
    { "GATEWAYZ", SERVER, RB_REQUEST_DOC, RB_DOC_GATEWAYZ },
    { "LEAFZ", SERVER, RB_REQUEST_DOC, RB_DOC_LEAFZ },
    { "ACCOUNTZ", SERVER, RB_REQUEST_DOC, RB_DOC_ACCOUNTZ },
    { "JSZ", SERVER, RB_REQUEST_DOC, RB_DOC_JSZ },
    { "HEALTHZ", SERVER, RB_REQUEST_DOC, RB_DOC_HEALTHZ },
    { "PROFILEZ", SERVER, RB_REQUEST_PROFILEZ, RB_DOC_COUNT },
    { "EXPVARZ", SERVER, RB_REQUEST_DOC, RB_DOC_EXPVARZ },
    { "IPQUEUESZ", SERVER, RB_REQUEST_DOC, RB_DOC_IPQUEUESZ },
    { "RAFTZ", SERVER, RB_REQUEST_DOC, RB_DOC_RAFTZ },
    { "SUBSZ", ACCOUNT, RB_REQUEST_ACCOUNT_DOC, RB_DOC_SUBSZ },
    { "CONNZ", ACCOUNT, RB_REQUEST_ACCOUNT_DOC, RB_DOC_CONNZ },
    { "LEAFZ", ACCOUNT, RB_REQUEST_ACCOUNT_DOC, RB_DOC_LEAFZ },
    { "JSZ", ACCOUNT, RB_REQUEST_ACCOUNT_DOC, RB_DOC_JSZ },
    { "INFO", ACCOUNT, RB_REQUEST_ACCOUNT_INFO, RB_DOC_ACCOUNTZ },
    { "STATZ", ACCOUNT, RB_REQUEST_STATZ, RB_DOC_ACCSTATZ },
    { "CONNS", ACCOUNT, RB_REQUEST_CONNS, RB_DOC_COUNT },
    { "$SYS.REQ.ACCOUNT.NSUBS", FIXED, RB_REQUEST_NSUBS, RB_DOC_COUNT },
    { "RELOAD", OWN_ID, RB_REQUEST_RELOAD, RB_DOC_COUNT },
    { "KICK", OWN_ID, RB_REQUEST_KICK, RB_DOC_COUNT },
    { "LDM", OWN_ID, RB_REQUEST_LDM, RB_DOC_COUNT },
};

/* Of the system account on every shard, because they need to know who asks. */
static const struct definition local_services[] = {
    { "$SYS.REQ.USER.*.INFO", FIXED, RB_REQUEST_USER, RB_DOC_COUNT },
    { "$SYS.DEBUG.SUBSCRIBERS", FIXED, RB_REQUEST_SUBSCRIBERS, RB_DOC_COUNT },
};

/* The first one every account has, the others all but the system account. */
static const struct definition imported_services[RB_IMPORTED_SERVICES] = {
    { "$SYS.REQ.USER.INFO", FIXED, RB_REQUEST_USER, RB_DOC_COUNT },
    { "$SYS.REQ.ACCOUNT.PING.CONNZ", FIXED, RB_REQUEST_ACCOUNT_DOC, RB_DOC_CONNZ },
    { "$SYS.REQ.SERVER.PING.CONNZ", FIXED, RB_REQUEST_ACCOUNT_DOC, RB_DOC_CONNZ },
    { "$SYS.REQ.ACCOUNT.PING.STATZ", FIXED, RB_REQUEST_STATZ, RB_DOC_ACCSTATZ },
};

/* Answers of the shard */

static void answer_error(struct rb_events *events, struct rb_account *account,
                         struct rb_slice reply, int code, const char *why)
{
    struct rb_text text;
    struct rb_env *env = events->core->env;
    rb_text_init(&text, RB_EVENT_BYTES_MAX);
    rb_event_error(&text, &(struct rb_event_origin){ events->shared, events->core->settings },
                   env->wall_ns(env->ctx), code, why, false);
    rb_events_send(account, reply, &text);
}

static bool is_meant(const struct rb_events *events, const struct rb_filter *filter)
{
    const struct rb_config_lists *lists = events->core->settings->lists;
    char host[RB_CONFIG_TEXT_MAX];
    (void)snprintf(host, sizeof(host), "%.*s", RB_S_ARG(events->core->options.info.host));
    struct rb_filter_facts facts = { .name = events->shared->server_name,
                                     .host = host,
                                     .tags = lists->tags,
                                     .tag_count = lists->tag_count };
    return rb_filter_meant(filter, &facts);
}

static void answer_statsz(struct rb_events *events, struct rb_account *account,
                          const struct rb_msg *msg, struct rb_slice body)
{
    struct rb_filter filter;
    char error[RB_FILTER_ERROR_MAX];
    if (!rb_filter_parse(body, "StatszEventOptions", &filter, error)) {
        if (msg->reply.len > 0) {
            answer_error(events, account, msg->reply, 400, error);
        }
        return;
    }
    if (is_meant(events, &filter)) {
        if (msg->reply.len > 0) {
            rb_events_statsz(events, account, msg->reply);
        } else {
            rb_events_broadcast(events);
        }
    }
    rb_filter_deinit(&filter);
}

/* The token that names the account in "$SYS.REQ.ACCOUNT.<account>.X". */
static struct rb_slice account_token(struct rb_slice subject)
{
    struct rb_tokens tokens = rb_tokens_over(subject);
    struct rb_slice token = { NULL, 0 };
    for (int i = 0; i < 4 && rb_tokens_next(&tokens, &token); i++) {
    }
    return token;
}

static void answer_conns(struct rb_events *events, struct rb_account *account,
                         const struct rb_msg *msg)
{
    struct rb_account *asked = rb_account_find(events->core, account_token(msg->subject));
    if (asked == NULL || atomic_load(&asked->shared->conns) == 0) {
        return;
    }
    struct rb_text text;
    rb_text_init(&text, RB_EVENT_BYTES_MAX);
    rb_event_account(&text, &(struct rb_event_origin){ events->shared, events->core->settings },
                     events->core->env, asked->name, asked->shared);
    rb_events_send(account, msg->reply, &text);
}

/* `own`: who asks came through its account's import; a direct request says nothing of anybody, as in nats-server. */
static void answer_user(struct rb_events *events, struct rb_account *account,
                        const struct rb_msg *msg, bool own)
{
    struct rb_text text;
    rb_text_init(&text, RB_EVENT_BYTES_MAX);
    rb_event_user(&text, &(struct rb_event_origin){ events->shared, events->core->settings },
                  events->core->env, own ? msg->from : NULL);
    rb_events_send(account, msg->reply, &text);
}

/* Requests to the service thread */

static struct rb_slice limiting_account(const struct rb_service *service,
                                        const struct rb_account *account, const struct rb_msg *msg)
{
    struct rb_slice none = { NULL, 0 };
    switch (service->kind) {
    case RB_REQUEST_ACCOUNT_DOC:
    case RB_REQUEST_ACCOUNT_INFO:
        return service->own ? account->name : account_token(msg->subject);
    case RB_REQUEST_STATZ: {
        struct rb_slice token = account_token(msg->subject);
        return service->own ? account->name : rb_slice_equal(token, RB_S("PING")) ? none : token;
    }
    default:
        return none;
    }
}

static void submit(struct rb_service *service, struct rb_account *account, const struct rb_msg *msg,
                   struct rb_slice body)
{
    struct rb_events *events = service->events;
    if (body.len > RB_REQUEST_BODY_MAX) {
        answer_error(events, account, msg->reply, 400, "the request is larger than 65536 bytes");
        return;
    }
    struct rb_request *request =
        rb_request_create(limiting_account(service, account, msg), msg->reply, body);
    if (request != NULL) {
        request->kind = (enum rb_request_kind)service->kind;
        request->doc = (enum rb_monitor_doc)service->doc;
        request->encoding = rb_request_encoding(rb_slice_of(msg->payload.ptr, msg->header_len));
        request->home = events->core->options.shard_index;
        request->reply_account = account->id;
        request->target_account = msg->from == NULL ? account->id : msg->from->account->id;
        if (events->shared->services != NULL &&
            rb_services_submit(events->shared->services, request)) {
            return;
        }
    }
    rb_request_free(request);
    answer_error(events, account, msg->reply, 500, "too many requests are waiting");
}

static bool take(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct rb_service *service = ctx;
    struct rb_events *events = service->events;
    struct rb_slice body =
        rb_slice_of(msg->payload.ptr + msg->header_len, msg->payload.len - msg->header_len);
    if (rb_account_system(events->core) == NULL) {
        return false;
    }
    if (service->kind == RB_REQUEST_STATSZ) {
        answer_statsz(events, account, msg, body);
        return true;
    }
    if (msg->reply.len == 0) {
        return true; /* nobody to answer */
    }
    switch ((enum rb_request_kind)service->kind) {
    case RB_REQUEST_IDZ: {
        struct rb_text text;
        rb_text_init(&text, RB_EVENT_BYTES_MAX);
        rb_event_id(&text, &(struct rb_event_origin){ events->shared, events->core->settings });
        rb_events_send(account, msg->reply, &text);
        break;
    }
    case RB_REQUEST_CONNS:
        answer_conns(events, account, msg);
        break;
    case RB_REQUEST_USER:
        answer_user(events, account, msg, service->own);
        break;
    default:
        submit(service, account, msg, body);
        break;
    }
    return true;
}

/* Listening */

static enum rb_err listen_at(struct rb_events *events, struct rb_service *service,
                             const struct definition *definition, struct rb_account *account,
                             const char *subject, bool local, bool own)
{
    *service = (struct rb_service){
        .special = { .take = take, .ctx = service, .local = local },
        .events = events,
        .kind = (uint8_t)definition->kind,
        .doc = (uint8_t)definition->doc,
        .own = own,
    };
    return rb_account_listen(account, rb_slice_text(subject), &service->special);
}

static enum rb_err listen_system(struct rb_events *events, const struct definition *definition,
                                 const char *subject, bool local)
{
    rb_assert(events->service_count < RB_SYSTEM_SERVICES_MAX);
    return listen_at(events, &events->services[events->service_count++], definition, events->system,
                     subject, local, false);
}

static enum rb_err listen_defined(struct rb_events *events, const struct definition *definition)
{
    char subject[SUBJECT_MAX];
    enum rb_err err;
    switch (definition->where) {
    case FIXED:
        return listen_system(events, definition, definition->name, false);
    case ACCOUNT:
        (void)snprintf(subject, sizeof(subject), "$SYS.REQ.ACCOUNT.*.%s", definition->name);
        return listen_system(events, definition, subject, false);
    case SERVER:
        (void)snprintf(subject, sizeof(subject), "$SYS.REQ.SERVER.PING.%s", definition->name);
        err = listen_system(events, definition, subject, false);
        if (err != RB_OK) {
            return err;
        }
        break;
    case OWN_ID:
        break;
    }
    (void)snprintf(subject, sizeof(subject), "$SYS.REQ.SERVER.%s.%s", events->shared->server_id,
                   definition->name);
    return listen_system(events, definition, subject, false);
}

static enum rb_err serve_system(struct rb_events *events, struct rb_account *account)
{
    enum rb_err err = RB_OK;
    events->system = account;
    events->service_count = 0;
    for (size_t i = 0; i < sizeof(local_services) / sizeof(local_services[0]) && err == RB_OK;
         i++) {
        err = listen_system(events, &local_services[i], local_services[i].name, true);
    }
    if (events->core->options.shard_index != 0) {
        return err;
    }
    for (size_t i = 0; i < sizeof(system_services) / sizeof(system_services[0]) && err == RB_OK;
         i++) {
        err = listen_defined(events, &system_services[i]);
    }
    return err;
}

static bool grow_imported(struct rb_events *events, uint32_t id)
{
    uint32_t cap = events->imported_cap == 0 ? 16 : events->imported_cap;
    while (cap <= id) {
        cap *= 2;
    }
    if (cap == events->imported_cap) {
        return true;
    }
    size_t bytes = sizeof(*events->imported);
    void *grown = rb_realloc(events->core->budget, events->imported, events->imported_cap * bytes,
                             cap * bytes);
    if (grown == NULL) {
        return false;
    }
    events->imported = grown;
    memset(events->imported + events->imported_cap, 0, (cap - events->imported_cap) * bytes);
    events->imported_cap = cap;
    return true;
}

static enum rb_err serve_account(struct rb_events *events, struct rb_account *account,
                                 bool is_system)
{
    if (!grow_imported(events, account->id)) {
        return RB_ERR_MEMORY;
    }
    events->imported[account->id] = rb_alloc(events->core->budget, sizeof(**events->imported));
    if (events->imported[account->id] == NULL) {
        return RB_ERR_MEMORY;
    }
    struct rb_service *services = *events->imported[account->id];
    enum rb_err err = RB_OK;
    for (size_t i = 0; i < (is_system ? 1 : RB_IMPORTED_SERVICES) && err == RB_OK; i++) {
        err = listen_at(events, &services[i], &imported_services[i], account,
                        imported_services[i].name, true, true);
    }
    return err;
}

enum rb_err rb_events_serve(struct rb_events *events, struct rb_account *account)
{
    struct rb_account *system = rb_account_system(events->core);
    if (system == NULL) {
        return RB_OK;
    }
    enum rb_err err = RB_OK;
    if (account == system && events->system != system) {
        err = serve_system(events, account);
    }
    return err == RB_OK ? serve_account(events, account, account == system) : err;
}

void rb_events_free_services(struct rb_events *events)
{
    struct rb_budget *budget = events->core->budget;
    for (uint32_t id = 0; id < events->imported_cap; id++) {
        rb_free(budget, events->imported[id], sizeof(**events->imported));
    }
    rb_free(budget, events->imported, events->imported_cap * sizeof(*events->imported));
}
