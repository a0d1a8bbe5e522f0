/* custom.c - tickets of the embedding program, and what it grants.
 *
 *   OPEN --accept, refuse, cancel, dropped--> ANSWERED
 *
 * 1. Everything that changes in a ticket is under its lock. The answer is written once.
 * 2. While the ticket is OPEN its wait exists, and with it policy, job and pool; afterwards nothing of them is touched, but by
 *    the one who answered, and by that one only up to rb_work_finish: the wait is finished after its job came home.
 * 3. `called`: the program's `decide` runs. An answer then needs no job: rb_ticket_open sees it when the call is over.
 * 4. The ticket is freed when the wait has let go and the program keeps it no more. An offer's secrets are wiped then.
 * 5. A grant is checked and copied before the ticket is answered, so a bad one leaves it OPEN.
 */
#include "auth/custom.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"
#include "ringbus/mem.h"

#include "auth/nkey.h"

#define ARENA_BLOCK_BYTES 1024
#define REASON_BYTES_MAX 200
#define RESPONSES_MAX_DEFAULT 1
#define RESPONSES_TTL_DEFAULT_NS (INT64_C(120) * 1000000000)

/** What was granted, or why not. Nothing changes after it was answered. */
struct rb_auth_custom {
    _Atomic uint32_t ref_count;
    struct rb_arena *arena; /* this struct lies in it as well */
    uint32_t account;
    struct rb_slice name;
    const struct rb_permissions *permissions;
    const char *reason; /* of a refusal; NULL: granted */
};

struct rb_auth_ticket {
    pthread_mutex_t lock;
    struct rb_arena *arena; /* this struct lies in it as well */
    struct rb_auth_offer offer;
    const struct rb_policy *policy;
    struct rb_work *work;
    struct rb_job *job;
    uint32_t keep_count; /* the program's */
    bool waited_for, called, answered;
    struct rb_auth_custom *custom; /* NULL: refused without a text of its own */
    const char *reason;            /* then */
};

/* ------------------------------------------------------------------ results */

struct rb_auth_custom *rb_auth_custom_hold(struct rb_auth_custom *custom)
{
    atomic_fetch_add_explicit(&custom->ref_count, 1, memory_order_relaxed);
    return custom;
}

void rb_auth_custom_release(struct rb_auth_custom *custom)
{
    if (custom != NULL &&
        atomic_fetch_sub_explicit(&custom->ref_count, 1, memory_order_acq_rel) == 1) {
        rb_arena_destroy(custom->arena);
    }
}

static struct rb_auth_custom *create_custom(void)
{
    struct rb_arena *arena;
    if (rb_arena_create(ARENA_BLOCK_BYTES, &arena) != RB_OK) {
        return NULL;
    }
    struct rb_auth_custom *custom = rb_arena_take(arena, sizeof(*custom));
    if (custom == NULL) {
        rb_arena_destroy(arena);
        return NULL;
    }
    atomic_init(&custom->ref_count, 1);
    custom->arena = arena;
    return custom;
}

/* A copy with a NUL behind it. NULL when memory is refused. */
static char *copy_text(struct rb_arena *arena, struct rb_slice text)
{
    char *copy = rb_arena_take(arena, text.len + 1);
    if (copy != NULL && text.len > 0) {
        memcpy(copy, text.ptr, text.len);
    }
    return copy;
}

static bool printable(struct rb_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < ' ' || text.ptr[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

/* Tokens that are not empty, without blanks; ">" only at the end. */
static bool subject_ok(struct rb_slice subject)
{
    size_t start = 0;
    for (size_t i = 0; i <= subject.len; i++) {
        if (i < subject.len && subject.ptr[i] != '.') {
            if (subject.ptr[i] <= ' ' || subject.ptr[i] == 0x7f) {
                return false;
            }
            continue;
        }
        if (i == start || (i - start == 1 && subject.ptr[start] == '>' && i < subject.len)) {
            return false;
        }
        start = i + 1;
    }
    return true;
}

/* "subject", or "subject queue" when a queue may be given. */
static bool split_entry(struct rb_slice text, bool queues, struct rb_perm_entry *ret_entry)
{
    const uint8_t *blank = text.len == 0 ? NULL : memchr(text.ptr, ' ', text.len);
    size_t len = blank == NULL ? text.len : (size_t)(blank - text.ptr);
    ret_entry->subject = rb_slice_of(text.ptr, len);
    ret_entry->queue = rb_slice_of(NULL, 0);
    if (blank != NULL) {
        while (len < text.len && text.ptr[len] == ' ') {
            len++;
        }
        ret_entry->queue = rb_slice_of(text.ptr + len, text.len - len);
        if (!queues || !subject_ok(ret_entry->queue)) {
            return false;
        }
    }
    return text.len <= RB_AUTH_SUBJECT_BYTES_MAX && subject_ok(ret_entry->subject);
}

static enum rb_auth_result copy_list(struct rb_arena *arena, const char *const *texts,
                                     uint32_t count, bool queues, struct rb_perm_list *ret_list)
{
    if (texts == NULL) {
        return count == 0 ? RB_AUTH_ANSWERED : RB_AUTH_BAD_SUBJECT;
    }
    if (count > RB_AUTH_SUBJECTS_MAX) {
        return RB_AUTH_BAD_SUBJECT;
    }
    struct rb_perm_entry *entries = rb_arena_take(arena, count * sizeof(*entries));
    if (entries == NULL) {
        return RB_AUTH_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (texts[i] == NULL) {
            return RB_AUTH_BAD_SUBJECT;
        }
        /* One byte more than is permitted is enough to see that it is too long. */
        struct rb_slice text =
            rb_slice_of(texts[i], strnlen(texts[i], RB_AUTH_SUBJECT_BYTES_MAX + 1));
        struct rb_slice copy = rb_slice_of(copy_text(arena, text), text.len);
        if (copy.ptr == NULL) {
            return RB_AUTH_NO_MEMORY;
        }
        if (!split_entry(copy, queues, &entries[i])) {
            return RB_AUTH_BAD_SUBJECT;
        }
    }
    *ret_list = (struct rb_perm_list){ .entries = entries, .count = count, .set = true };
    return RB_AUTH_ANSWERED;
}

static enum rb_auth_result copy_rules(struct rb_arena *arena, const struct rb_auth_rules *rules,
                                      const struct rb_permissions **ret_permissions)
{
    struct rb_permissions *permissions = rb_arena_take(arena, sizeof(*permissions));
    if (permissions == NULL) {
        return RB_AUTH_NO_MEMORY;
    }
    const struct {
        const char *const *texts;
        uint32_t count;
        bool queues;
        struct rb_perm_list *list;
    } lists[] = {
        { rules->publish_allow, rules->publish_allow_count, false, &permissions->publish_allow },
        { rules->publish_deny, rules->publish_deny_count, false, &permissions->publish_deny },
        { rules->subscribe_allow, rules->subscribe_allow_count, true,
          &permissions->subscribe_allow },
        { rules->subscribe_deny, rules->subscribe_deny_count, true, &permissions->subscribe_deny },
    };
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        enum rb_auth_result result =
            copy_list(arena, lists[i].texts, lists[i].count, lists[i].queues, lists[i].list);
        if (result != RB_AUTH_ANSWERED) {
            return result;
        }
    }
    if (rules->responses) {
        permissions->responses = true;
        permissions->responses_max =
            rules->responses_max == 0 ? RESPONSES_MAX_DEFAULT : rules->responses_max;
        permissions->responses_ttl_ns =
            rules->responses_ttl_ns == 0 ? RESPONSES_TTL_DEFAULT_NS : rules->responses_ttl_ns;
        permissions->publish_allow.set = true; /* as policy.h asks for */
    }
    *ret_permissions = permissions;
    return RB_AUTH_ANSWERED;
}

static enum rb_auth_result fill_grant(struct rb_auth_custom *custom, const struct rb_policy *policy,
                                      const struct rb_auth_grant *grant)
{
    if (grant->account != NULL && grant->account[0] != '\0') {
        int32_t account = rb_policy_account_by_name(policy, rb_slice_text(grant->account));
        if (account < 0) {
            return RB_AUTH_UNKNOWN_ACCOUNT;
        }
        custom->account = (uint32_t)account;
    }
    if (grant->user != NULL) {
        struct rb_slice name =
            rb_slice_of(grant->user, strnlen(grant->user, RB_AUTH_SUBJECT_BYTES_MAX + 1));
        if (name.len > RB_AUTH_SUBJECT_BYTES_MAX || !printable(name)) {
            return RB_AUTH_BAD_NAME;
        }
        custom->name = rb_slice_of(copy_text(custom->arena, name), name.len);
        if (custom->name.ptr == NULL) {
            return RB_AUTH_NO_MEMORY;
        }
    }
    return grant->rules == NULL ? RB_AUTH_ANSWERED
                                : copy_rules(custom->arena, grant->rules, &custom->permissions);
}

/* ------------------------------------------------------------------ the offer */

/* Remembers whether anything went wrong, so that the copying reads as a list. */
struct offering {
    struct rb_arena *arena;
    enum rb_err err;
};

static const char *offer_text(struct offering *offering, struct rb_slice text)
{
    if (text.len > 0 && memchr(text.ptr, '\0', text.len) != NULL) {
        offering->err = RB_ERR_INVALID; /* it would look shorter than it is */
        return "";
    }
    const char *copy = copy_text(offering->arena, text);
    if (copy == NULL) {
        offering->err = RB_ERR_MEMORY;
        return "";
    }
    return copy;
}

static const char *const *offer_list(struct offering *offering, const struct rb_slice *texts,
                                     uint32_t count)
{
    const char **list = rb_arena_take(offering->arena, (count + 1) * sizeof(*list));
    if (list == NULL) {
        offering->err = RB_ERR_MEMORY;
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        list[i] = offer_text(offering, texts[i]);
    }
    return list;
}

static const char *type_name(uint32_t type)
{
    static const char *const names[] = { "STANDARD", "WEBSOCKET", "LEAFNODE",  "LEAFNODE_WS",
                                         "MQTT",     "MQTT_WS",   "IN_PROCESS" };
    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (type == UINT32_C(1) << i) {
            return names[i];
        }
    }
    rb_unreachable("a connection has one type");
}

static void offer_certificate(struct offering *offering, const struct rb_auth_cert *cert,
                              struct rb_auth_offer *offer)
{
    offer->certificate_subject = "";
    if (cert == NULL) {
        return;
    }
    offer->certificate = (const uint8_t *)copy_text(offering->arena, cert->der);
    if (offer->certificate == NULL) {
        offering->err = RB_ERR_MEMORY;
    }
    offer->certificate_bytes = cert->der.len;
    offer->certificate_subject = offer_text(offering, cert->subject);
    offer->emails = offer_list(offering, cert->emails, cert->email_count);
    offer->dns_names = offer_list(offering, cert->dns_names, cert->dns_count);
    offer->uris = offer_list(offering, cert->uris, cert->uri_count);
    offer->email_count = cert->email_count;
    offer->dns_count = cert->dns_count;
    offer->uri_count = cert->uri_count;
}

static enum rb_err fill_offer(struct rb_arena *arena, const struct rb_auth_request *request,
                              struct rb_auth_offer *offer)
{
    struct offering offering = { .arena = arena };
    char ip[RB_ADDR_TEXT_MAX] = "";
    if (request->peer.family != 0) {
        (void)rb_addr_format_ip(&request->peer, ip);
    }
    *offer = (struct rb_auth_offer){
        .client_id = request->cid,
        .connection_type = type_name(request->type),
        .peer_ip = offer_text(&offering, rb_slice_text(ip)),
        .peer_port = request->peer.port,
        .user = offer_text(&offering, request->user),
        .pass = offer_text(&offering, request->pass),
        .token = offer_text(&offering, request->token),
        .nkey = offer_text(&offering, request->nkey),
        .signature = offer_text(&offering, request->sig),
        .jwt = offer_text(&offering, request->jwt),
        .name = offer_text(&offering, request->name),
        .lang = offer_text(&offering, request->lang),
        .version = offer_text(&offering, request->version),
        .nonce = offer_text(&offering, request->nonce),
    };
    offer_certificate(&offering, request->cert, offer);
    return offering.err;
}

static void wipe_text(const char *text)
{
    if (text != NULL && text[0] != '\0') { /* "" may be a constant */
        OPENSSL_cleanse((char *)(uintptr_t)text, strlen(text));
    }
}

static void wipe_offer(struct rb_auth_offer *offer)
{
    wipe_text(offer->pass);
    wipe_text(offer->token);
    wipe_text(offer->jwt);
    wipe_text(offer->signature);
}

bool rb_auth_offer_signed(const struct rb_auth_offer *offer)
{
    return rb_nkey_is_public(rb_slice_text(offer->nkey), RB_NKEY_USER) &&
           rb_nkey_verify_text(rb_slice_text(offer->nkey), rb_slice_text(offer->nonce),
                               rb_slice_text(offer->signature), true);
}

/* ------------------------------------------------------------------ the ticket */

static struct rb_auth_ticket *create_ticket(void)
{
    struct rb_arena *arena;
    if (rb_arena_create(ARENA_BLOCK_BYTES, &arena) != RB_OK) {
        return NULL;
    }
    struct rb_auth_ticket *ticket = rb_arena_take(arena, sizeof(*ticket));
    if (ticket == NULL) {
        rb_arena_destroy(arena);
        return NULL;
    }
    ticket->arena = arena;
    pthread_mutex_init(&ticket->lock, NULL);
    return ticket;
}

static void free_ticket(struct rb_auth_ticket *ticket)
{
    wipe_offer(&ticket->offer);
    rb_auth_custom_release(ticket->custom);
    pthread_mutex_destroy(&ticket->lock);
    rb_arena_destroy(ticket->arena);
}

/*
 * Gives back the lock, which the caller holds. `send`: the caller has just answered, so the job goes home, unless the call
 * is still running (invariant 3).
 */
static void leave(struct rb_auth_ticket *ticket, bool send)
{
    send = send && !ticket->called;
    struct rb_work *work = ticket->work;
    struct rb_job *job = ticket->job;
    bool last = !ticket->waited_for && !ticket->called && ticket->keep_count == 0;
    pthread_mutex_unlock(&ticket->lock);
    if (last) {
        rb_assert(!send);
        free_ticket(ticket); /* invariant 4 */
    }
    if (send) {
        rb_work_finish(work, job); /* invariant 2 */
    }
}

/* Answers without a grant, if nobody has; under the lock. True when this was the answer. */
static bool refuse_open(struct rb_auth_ticket *ticket, const char *reason)
{
    if (ticket->answered) {
        return false;
    }
    ticket->answered = true;
    ticket->reason = reason;
    return true;
}

enum rb_err rb_ticket_open(const struct rb_auth_context *context,
                           const struct rb_auth_request *request, struct rb_job *job,
                           struct rb_auth_ticket **ret_ticket, bool *ret_answered)
{
    struct rb_auth_ticket *ticket = create_ticket();
    if (ticket == NULL) {
        return RB_ERR_MEMORY;
    }
    enum rb_err err = fill_offer(ticket->arena, request, &ticket->offer);
    if (err != RB_OK) {
        free_ticket(ticket);
        return err;
    }
    ticket->policy = context->policy;
    ticket->work = context->work;
    ticket->job = job;
    ticket->waited_for = ticket->called = true;
    context->hook->decide(context->hook->ctx, &ticket->offer, ticket);
    pthread_mutex_lock(&ticket->lock);
    ticket->called = false;
    if (ticket->keep_count == 0) {
        (void)refuse_open(ticket, "the callback gave no answer");
    }
    *ret_answered = ticket->answered;
    *ret_ticket = ticket;
    leave(ticket, false);
    return RB_OK;
}

void rb_ticket_cancel(struct rb_auth_ticket *ticket)
{
    pthread_mutex_lock(&ticket->lock);
    leave(ticket, refuse_open(ticket, "the callback gave no answer in time"));
}

struct rb_verdict rb_ticket_finish(struct rb_auth_ticket *ticket)
{
    struct rb_verdict verdict = { .kind = RB_VERDICT_REFUSE };
    pthread_mutex_lock(&ticket->lock);
    rb_assert(ticket->answered && ticket->waited_for && !ticket->called);
    struct rb_auth_custom *custom = ticket->custom;
    verdict.custom = custom == NULL ? NULL : rb_auth_custom_hold(custom);
    verdict.reason = custom == NULL ? ticket->reason : custom->reason;
    if (custom != NULL && custom->reason == NULL) {
        verdict.kind = RB_VERDICT_ACCEPT;
        verdict.identity = RB_IDENTITY_CUSTOM;
        verdict.account = custom->account;
        verdict.name = custom->name;
        verdict.permissions = custom->permissions;
    }
    ticket->waited_for = false;
    leave(ticket, false);
    return verdict;
}

const struct rb_auth_offer *rb_auth_ticket_offer(const struct rb_auth_ticket *ticket)
{
    return &ticket->offer;
}

void rb_auth_ticket_keep(struct rb_auth_ticket *ticket)
{
    pthread_mutex_lock(&ticket->lock);
    rb_assert(ticket->keep_count > 0 || ticket->called); /* else the ticket may be gone */
    ticket->keep_count++;
    pthread_mutex_unlock(&ticket->lock);
}

void rb_auth_ticket_drop(struct rb_auth_ticket *ticket)
{
    pthread_mutex_lock(&ticket->lock);
    rb_assert(ticket->keep_count > 0);
    ticket->keep_count--;
    bool gone = ticket->keep_count == 0 && !ticket->called;
    leave(ticket, gone && refuse_open(ticket, "the callback gave no answer"));
}

enum rb_auth_result rb_auth_ticket_accept(struct rb_auth_ticket *ticket,
                                          const struct rb_auth_grant *grant)
{
    pthread_mutex_lock(&ticket->lock);
    enum rb_auth_result result = RB_AUTH_LATE;
    if (!ticket->answered) {
        struct rb_auth_custom *custom = create_custom();
        result = custom == NULL ? RB_AUTH_NO_MEMORY : fill_grant(custom, ticket->policy, grant);
        if (result == RB_AUTH_ANSWERED) {
            ticket->custom = custom;
            ticket->answered = true;
        } else {
            rb_auth_custom_release(custom); /* invariant 5 */
        }
    }
    leave(ticket, result == RB_AUTH_ANSWERED);
    return result;
}

/* The reason as it may stand in a log line: NULL when memory is refused. */
static struct rb_auth_custom *create_refusal(const char *reason)
{
    struct rb_auth_custom *custom = create_custom();
    char *text = custom == NULL ? NULL : rb_arena_take(custom->arena, REASON_BYTES_MAX + 1);
    if (text == NULL) {
        rb_auth_custom_release(custom);
        return NULL;
    }
    (void)rb_format_quoted((uint8_t *)text, REASON_BYTES_MAX,
                           rb_slice_of(reason, strnlen(reason, REASON_BYTES_MAX)));
    custom->reason = text;
    return custom;
}

enum rb_auth_result rb_auth_ticket_refuse(struct rb_auth_ticket *ticket, const char *reason)
{
    pthread_mutex_lock(&ticket->lock);
    bool first = refuse_open(ticket, "the callback refused");
    if (first && reason != NULL) {
        ticket->custom = create_refusal(reason);
    }
    leave(ticket, first);
    return first ? RB_AUTH_ANSWERED : RB_AUTH_LATE;
}
