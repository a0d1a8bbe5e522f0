/* service.c - service imports: a request goes into the exporter's account, its answer comes back.
 *
 *   importer, shard s: PUB a.req, reply R          exporter, any shard
 *     local special takes it --> publish b.req, reply _R_.<s>.<n> --> responder
 *     R <-- publish <-- special on _R_.<s>.> in the exporter's account <-- PUB _R_.<s>.<n>
 *
 * 1. An awaited answer belongs to the shard of the request; its subject names that shard, and that shard's interest in
 *    "_R_.<s>.>" of the exporter's account brings it home from any other.
 * 2. It ends with the first answer (single), with an empty one (stream, chunked), or when nothing came for the threshold.
 * 3. At most RESPONSES_MAX answers are awaited per shard; beyond that a request finds no responders.
 * 4. A request passes at most IMPORTS_MAX imports, so a cycle ends even if the configuration check missed it.
 */
#include "core/service.h"

#include <stdio.h>

#include "core/conn.h"
#include "core/deliver.h"
#include "core/latency.h"
#include "core/mapping.h"
#include "core/trace.h"
#include "proto/header.h"
#include "proto/subject.h"
#include "proto/transform.h"
#include "ringbus/check.h"

#define RESPONSES_MAX (1u << 20)
#define IMPORTS_MAX 16
#define SUBJECT_MAX 4096
#define INFO_MAX 4096
#define TOKEN_LEN 6
#define PREFIX_LEN 4 /* "_R_." */
#define THRESHOLD_DEFAULT_NS (120 * UINT64_C(1000000000))

struct rb_response {
    struct rb_list link; /* core->responses */
    struct rb_timer timer;
    struct rb_account *requestor, *exporter;
    char token[TOKEN_LEN];
    enum rb_response_type type;
    uint64_t threshold_ns;
    struct rb_latency *latency; /* NULL: not measured */
    uint32_t reply_len;
    uint8_t reply[];
};

static bool response_equal(const void *item, struct rb_slice key)
{
    const struct rb_response *response = item;
    return rb_slice_equal(rb_slice_of(response->token, TOKEN_LEN), key);
}

static uint64_t response_hash(const void *item)
{
    const struct rb_response *response = item;
    return rb_slice_hash(rb_slice_of(response->token, TOKEN_LEN));
}

const struct rb_export *rb_service_export(const struct rb_policy_account *exporter,
                                          struct rb_slice subject)
{
    const struct rb_export *found = NULL;
    for (uint32_t i = 0; i < exporter->export_count; i++) {
        const struct rb_export *exported = &exporter->exports[i];
        if (!exported->service) {
            continue;
        }
        if (rb_slice_equal(exported->subject, subject)) {
            return exported;
        }
        if (found == NULL && rb_subject_subset(subject, exported->subject)) {
            found = exported;
        }
    }
    return found;
}

static void random_token(struct rb_env *env, char out[TOKEN_LEN])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint8_t bytes[TOKEN_LEN];
    env->entropy(env->ctx, bytes, sizeof(bytes)); /* answers go to whoever knows the subject */
    for (int i = 0; i < TOKEN_LEN; i++) {
        out[i] = digits[bytes[i] % 62];
    }
}

bool rb_service_measured(struct rb_slice subject)
{
    return subject.len == PREFIX_LEN + TOKEN_LEN + 1 + TOKEN_LEN + 2 &&
           rb_slice_starts(subject, RB_S("_R_.")) && subject.ptr[subject.len - 1] == 'T' &&
           subject.ptr[subject.len - 2] == '.';
}

/* Awaited answers */

static void free_response(struct rb_core *core, struct rb_response *response)
{
    bool found = rb_map_remove(&core->response_map, response_hash(response), response);
    rb_assert(found);
    rb_list_remove(&response->link);
    rb_wheel_disarm(&core->wheel, &response->timer);
    rb_latency_free(core, response->latency);
    rb_free(core->budget, response, sizeof(*response) + response->reply_len);
}

static bool deliver(struct rb_account *account, const struct rb_msg *msg)
{
    return msg->trace == NULL ? rb_deliver_publish(account, msg) : rb_deliver_traced(account, msg);
}

/* An answer that is traced itself: what may be seen of the other account is for an export to allow, and an answer has none. */
static bool deliver_traced_answer(struct rb_account *requestor, const struct rb_msg *msg,
                                  struct rb_slice from)
{
    rb_trace_service_import(msg->trace, requestor, from, msg->subject);
    if (rb_trace_only(msg->trace)) {
        return false;
    }
    struct rb_msg plain = *msg;
    struct rb_buf *buf = rb_trace_redirect(requestor->core, msg, RB_TRACE_DISABLED, &plain);
    plain.trace = NULL;
    bool delivered = rb_deliver_publish(requestor, &plain);
    if (buf != NULL) {
        rb_buf_release(buf);
    }
    return delivered;
}

/* What the answer brought is published where the request came from. */
static bool take_response(struct rb_account *exporter, void *ctx, const struct rb_msg *msg)
{
    struct rb_core *core = ctx;
    size_t begin = PREFIX_LEN + TOKEN_LEN + 1;
    if (msg->subject.len < begin + TOKEN_LEN) {
        return false;
    }
    struct rb_slice token = rb_slice_of(msg->subject.ptr + begin, TOKEN_LEN);
    struct rb_response *response = rb_map_find(&core->response_map, rb_slice_hash(token), token);
    if (response == NULL || response->exporter != exporter) {
        return false;
    }
    struct rb_account *requestor = response->requestor;
    uint8_t reply[SUBJECT_MAX];
    rb_assert(response->reply_len <= sizeof(reply));
    memcpy(reply, response->reply, response->reply_len);
    struct rb_msg onward = *msg;
    onward.subject = rb_slice_of(reply, response->reply_len);
    onward.sender = (struct rb_slice){ NULL, 0 };
    onward.silent_cid = 0;
    if (response->latency != NULL) {
        bool wanted = rb_account_wanted(requestor, onward.subject);
        rb_latency_answered(core, response->latency, msg->sender, wanted);
        response->latency = NULL;
    }
    bool last = response->type == RB_RESPONSE_SINGLE || msg->payload.len == msg->header_len ||
                (msg->trace != NULL && rb_trace_only(msg->trace));
    if (last) {
        free_response(core, response);
    } else {
        rb_wheel_arm(&core->wheel, &response->timer, core->now_ns + response->threshold_ns);
    }
    if (msg->trace != NULL) {
        (void)deliver_traced_answer(requestor, &onward, msg->subject);
    } else {
        (void)rb_deliver_publish(requestor, &onward);
    }
    return true;
}

bool rb_service_wanted(struct rb_core *core, struct rb_slice subject)
{
    size_t begin = PREFIX_LEN + TOKEN_LEN + 1;
    if (subject.len < begin + TOKEN_LEN || !rb_slice_starts(subject, RB_S("_R_.")) ||
        memcmp(subject.ptr + PREFIX_LEN, core->reply_token, TOKEN_LEN) != 0) {
        return true;
    }
    struct rb_slice token = rb_slice_of(subject.ptr + begin, TOKEN_LEN);
    const struct rb_response *response =
        rb_map_find(&core->response_map, rb_slice_hash(token), token);
    if (response == NULL) {
        return false;
    }
    struct rb_slice reply = rb_slice_of(response->reply, response->reply_len);
    return rb_account_wanted(response->requestor, reply) && rb_service_wanted(core, reply);
}

void rb_service_timer(struct rb_core *core, struct rb_timer *timer)
{
    struct rb_response *response = RB_CONTAINER(timer, struct rb_response, timer);
    if (response->latency != NULL) {
        rb_latency_failed(core, response->latency, 504, "Service Timeout");
        response->latency = NULL;
    }
    free_response(core, response);
}

void rb_services_deinit(struct rb_core *core)
{
    for (struct rb_list *link; (link = rb_list_pop(&core->responses)) != NULL;) {
        free_response(core, RB_CONTAINER(link, struct rb_response, link));
    }
    rb_map_deinit(&core->response_map);
    for (uint32_t i = 0; i < core->account_cap; i++) {
        struct rb_account *account = core->accounts[i];
        if (account != NULL && account->responses != NULL) {
            rb_account_unlisten(account, account->responses);
            rb_free(core->budget, account->responses, sizeof(*account->responses));
            account->responses = NULL;
        }
    }
}

/* Interest in this shard's answers, once per exporting account. */
static bool listen_for_responses(struct rb_account *exporter)
{
    struct rb_core *core = exporter->core;
    if (exporter->responses != NULL) {
        return true;
    }
    if (core->response_map.equal == NULL) {
        rb_map_init(&core->response_map, core->budget, RESPONSES_MAX, response_equal,
                    response_hash);
        random_token(core->env, core->reply_token);
    }
    struct rb_special *special = rb_alloc(core->budget, sizeof(*special));
    if (special == NULL) {
        return false;
    }
    special->take = take_response;
    special->traces = true;
    special->ctx = core;
    char subject[PREFIX_LEN + TOKEN_LEN + 3];
    (void)snprintf(subject, sizeof(subject), "_R_.%.*s.>", TOKEN_LEN, core->reply_token);
    if (rb_account_listen(exporter, rb_slice_text(subject), special) != RB_OK) {
        rb_free(core->budget, special, sizeof(*special));
        return false;
    }
    exporter->responses = special;
    return true;
}

static struct rb_response *await_response(struct rb_account *requestor, struct rb_account *exporter,
                                          const struct rb_service_import *service,
                                          struct rb_slice reply)
{
    struct rb_core *core = requestor->core;
    if (!listen_for_responses(exporter)) {
        return NULL;
    }
    struct rb_response *response = rb_alloc(core->budget, sizeof(*response) + reply.len);
    if (response == NULL) {
        return NULL;
    }
    const struct rb_export *exported = service->exported;
    response->requestor = requestor;
    response->exporter = exporter;
    response->type = exported == NULL ? RB_RESPONSE_SINGLE : exported->response;
    response->threshold_ns = exported == NULL || exported->threshold_ns <= 0
                                 ? THRESHOLD_DEFAULT_NS
                                 : (uint64_t)exported->threshold_ns;
    response->reply_len = (uint32_t)reply.len;
    memcpy(response->reply, reply.ptr, reply.len);
    struct rb_slice token = rb_slice_of(response->token, TOKEN_LEN);
    do {
        random_token(core->env, response->token);
    } while (rb_map_find(&core->response_map, rb_slice_hash(token), token) != NULL);
    if (rb_map_insert(&core->response_map, response_hash(response), response) != RB_OK) {
        rb_free(core->budget, response, sizeof(*response) + reply.len);
        return NULL;
    }
    rb_timer_init(&response->timer, RB_TIMER_RESPONSE);
    rb_list_append(&core->responses, &response->link);
    rb_wheel_arm(&core->wheel, &response->timer, core->now_ns + response->threshold_ns);
    return response;
}

/* Requests */

/* Puts "Nats-Request-Info" into the headers. NULL: memory refused; then nothing is sent. */
static struct rb_buf *add_info(struct rb_core *core, const struct rb_msg *msg, bool share,
                               struct rb_msg *ret_msg)
{
    uint8_t info[INFO_MAX];
    size_t info_len = rb_conn_client_info(msg->from, share, info, sizeof(info));
    size_t cap = msg->payload.len + info_len + 128;
    struct rb_buf *buf = cap > UINT32_MAX ? NULL : rb_buf_acquire(&core->bufs, (uint32_t)cap);
    if (buf == NULL) {
        return NULL;
    }
    struct rb_slice block = rb_slice_of(msg->payload.ptr, msg->header_len);
    size_t header_len = rb_header_set(buf->data, buf->cap, block, RB_S("Nats-Request-Info"),
                                      rb_slice_of(info, info_len));
    size_t body_len = msg->payload.len - msg->header_len;
    if (header_len == 0) { /* a malformed header block travels as it is */
        memcpy(buf->data, block.ptr, block.len);
        header_len = block.len;
    }
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

/* The subject in the exporter's account, its mappings applied. Empty: dropped or too long. */
static struct rb_slice target_subject(const struct rb_service_import *service,
                                      struct rb_account *exporter, struct rb_slice subject,
                                      uint8_t first[SUBJECT_MAX], uint8_t second[SUBJECT_MAX])
{
    size_t len = subject.len;
    if (service->into != NULL) {
        len = rb_transform_apply(service->into, subject, 0, first, SUBJECT_MAX);
        subject = rb_slice_of(first, len);
    }
    if (len == 0 || exporter->mappings == NULL) {
        return subject;
    }
    switch (rb_mappings_apply(exporter->mappings, subject, rb_env_random(exporter->core->env),
                              second, SUBJECT_MAX, &len)) {
    case RB_MAPPED:
        return rb_slice_of(second, len);
    case RB_MAPPED_DROPPED:
        rb_counter_add(&exporter->core->stats.mapping_dropped, 1);
        return (struct rb_slice){ NULL, 0 };
    case RB_MAPPED_NONE:
        break;
    }
    return subject;
}

static bool send_request(struct rb_account *account, struct rb_service_import *service,
                         struct rb_account *exporter, const struct rb_msg *msg)
{
    struct rb_core *core = account->core;
    char reply[PREFIX_LEN + 2 * TOKEN_LEN + 4];
    struct rb_msg request = *msg;
    struct rb_response *response = NULL;
    char token[TOKEN_LEN];
    bool only = msg->trace != NULL && rb_trace_only(msg->trace); /* nobody will answer */
    struct rb_latency *latency =
        only ? NULL
             : rb_latency_begin(core, service, exporter, msg->from, msg->payload, msg->header_len);
    request.silent_cid = 0;
    request.import_count++;
    if (msg->reply.len > 0) {
        response = await_response(account, exporter, service, msg->reply);
        if (response == NULL) {
            rb_counter_add(&core->stats.responses_dropped, 1);
            rb_latency_free(core, latency);
            return false;
        }
        memcpy(token, response->token, TOKEN_LEN);
        response->latency = latency;
        int len = snprintf(reply, sizeof(reply), "_R_.%.*s.%.*s%s", TOKEN_LEN, core->reply_token,
                           TOKEN_LEN, response->token, latency != NULL ? ".T" : "");
        request.reply = rb_slice_of(reply, (size_t)len);
    } else if (latency != NULL) {
        rb_latency_failed(core, latency, 400, "Bad Request");
    }
    struct rb_buf *buf =
        msg->from == NULL ? NULL : add_info(core, &request, service->policy->share, &request);
    bool delivered = (msg->from == NULL || buf != NULL) && deliver(exporter, &request);
    if (buf != NULL) {
        rb_buf_release(buf);
    }
    if ((!delivered || only) &&
        response != NULL) { /* looked up again: it may have been answered meanwhile */
        struct rb_slice key = rb_slice_of(token, TOKEN_LEN);
        response = rb_map_find(&core->response_map, rb_slice_hash(key), key);
        if (response != NULL) {
            if (response->latency != NULL) {
                rb_latency_failed(core, response->latency, 503, "Service Unavailable");
                response->latency = NULL;
            }
            free_response(core, response);
        }
    }
    return delivered;
}

/* `request` has the exporter's subject already, `from` is the importer's. The trace goes on where the export allows it. The
 * headers then name a destination that exists nowhere: the events go home with the trace, and a responder that copies the
 * headers must not send others into its own account. */
static bool send_traced_request(struct rb_account *account, struct rb_service_import *service,
                                struct rb_account *exporter, const struct rb_msg *request,
                                struct rb_slice from)
{
    struct rb_core *core = account->core;
    rb_trace_service_import(request->trace, exporter, from, request->subject);
    bool allowed = service->exported != NULL && service->exported->allow_trace;
    if (!allowed && rb_trace_only(request->trace)) {
        return false;
    }
    char nowhere[PREFIX_LEN + 2 * TOKEN_LEN + 2], first[TOKEN_LEN], second[TOKEN_LEN];
    random_token(core->env, first);
    random_token(core->env, second);
    int len =
        snprintf(nowhere, sizeof(nowhere), "_R_.%.*s.%.*s", TOKEN_LEN, first, TOKEN_LEN, second);
    struct rb_msg changed = *request;
    struct rb_buf *buf = rb_trace_redirect(
        core, request, allowed ? rb_slice_of(nowhere, (size_t)len) : RB_TRACE_DISABLED, &changed);
    if (buf == NULL) {
        return false;
    }
    changed.trace = allowed ? request->trace : NULL;
    bool delivered = send_request(account, service, exporter, &changed);
    rb_buf_release(buf);
    return delivered;
}

static bool take_request(struct rb_account *account, void *ctx, const struct rb_msg *msg)
{
    struct rb_service_import *service = ctx;
    if (msg->import_count >= IMPORTS_MAX || msg->reply.len > SUBJECT_MAX) {
        return false;
    }
    struct rb_account *exporter = rb_account_get(account->core, service->to);
    if (exporter == NULL) {
        return false;
    }
    uint8_t first[SUBJECT_MAX], second[SUBJECT_MAX];
    struct rb_msg request = *msg;
    request.subject = target_subject(service, exporter, msg->subject, first, second);
    if (request.subject.len == 0) {
        return false;
    }
    return msg->trace == NULL
               ? send_request(account, service, exporter, &request)
               : send_traced_request(account, service, exporter, &request, msg->subject);
}

void rb_service_init(struct rb_service_import *service)
{
    service->special.local = true;
    service->special.take = take_request;
    service->special.traces = true;
    service->special.ctx = service;
}
