/* identity.c - from CONNECT to a connection that belongs to an account (docs/identities.md).
 *
 *   CONNECT --> fields kept in the connection --> rb_auth_begin --at once or later--> take_verdict --> bind
 *
 * 1. A connection is a member of at most one account: `account_link` is in that account's list, and it is counted there.
 * 2. A repeated CONNECT, and the first one after no_auth_user, drops the subscriptions first, so a connection that moves
 *    to another account has none. Without credentials of its own a repeated one keeps the identity.
 * 3. Compiled permissions are shared by the connections of a user on this shard; the cache holds one count.
 */
#include "core/identity.h"

#include <stdio.h>

#include "core/link.h"
#include "core/perms.h"
#include "proto/subject.h"
#include "ringbus/check.h"
#include "tls/tls.h"

#define FIRST_PING_NS (2 * UINT64_C(1000000000))
#define LABEL_MAX 900
#define OFFERED_MAX 256 /* of a refused name, in the log */

/* Compiled permissions */

struct cached_perms {
    struct rb_list link;
    const struct rb_permissions *source; /* in the policy */
    struct rb_perms *perms;
};

static bool cached_equal(const void *item, struct rb_slice key)
{
    const struct cached_perms *cached = item;
    return memcmp(&cached->source, key.ptr, sizeof(cached->source)) == 0;
}

static uint64_t cached_hash(const void *item)
{
    const struct cached_perms *cached = item;
    return rb_slice_hash(rb_slice_of(&cached->source, sizeof(cached->source)));
}

void rb_perms_cache_drop(struct rb_core *core)
{
    if (core->perms_map.equal == NULL) {
        return;
    }
    uint32_t at = 0;
    for (struct cached_perms *cached; (cached = rb_map_next(&core->perms_map, &at)) != NULL;) {
        rb_perms_release(cached->perms);
        rb_free(core->budget, cached, sizeof(*cached));
    }
    rb_map_deinit(&core->perms_map);
    core->perms_map = (struct rb_map){ 0 };
}

/* One count for the caller in *ret_perms; NULL when everything is permitted. */
static enum rb_err find_perms(struct rb_core *core, const struct rb_permissions *source,
                              struct rb_perms **ret_perms)
{
    *ret_perms = NULL;
    if (source == NULL) {
        return RB_OK;
    }
    if (core->perms_map.equal == NULL) {
        rb_map_init(&core->perms_map, core->budget, 0, cached_equal, cached_hash);
    }
    struct rb_slice key = rb_slice_of(&source, sizeof(source));
    struct cached_perms *cached = rb_map_find(&core->perms_map, rb_slice_hash(key), key);
    if (cached == NULL) {
        cached = rb_alloc(core->budget, sizeof(*cached));
        if (cached == NULL) {
            return RB_ERR_MEMORY;
        }
        cached->source = source;
        enum rb_err err = rb_perms_create(core->budget, source, &cached->perms);
        if (err == RB_OK) {
            err = rb_map_insert(&core->perms_map, cached_hash(cached), cached);
            if (err != RB_OK) {
                rb_perms_release(cached->perms);
            }
        }
        if (err != RB_OK) {
            rb_free(core->budget, cached, sizeof(*cached));
            return err;
        }
    }
    *ret_perms = rb_perms_hold(cached->perms);
    return RB_OK;
}

/* Membership */

static void leave_account(struct rb_conn *conn)
{
    if (rb_list_empty(&conn->account_link)) {
        return;
    }
    rb_list_remove(&conn->account_link);
    rb_conn_uncount(conn);
}

void rb_conn_uncount(struct rb_conn *conn)
{
    if (conn->account_counted) {
        conn->account_counted = false;
        rb_counter_sub(&conn->account->conn_count, 1);
        atomic_fetch_sub_explicit(&conn->account->shared->conns, 1, memory_order_relaxed);
    }
}

static bool join_account(struct rb_conn *conn, struct rb_account *account)
{
    const struct rb_policy_account *policy = account->policy;
    if (conn->account == account && !rb_list_empty(&conn->account_link)) {
        return true;
    }
    rb_assert(conn->subs.count == 0 || conn->account == account);
    leave_account(conn);
    int64_t limit = policy == NULL ? -1 : policy->limits.connections;
    int64_t count = atomic_fetch_add_explicit(&account->shared->conns, 1, memory_order_relaxed) + 1;
    if (limit >= 0 && count > limit) {
        atomic_fetch_sub_explicit(&account->shared->conns, 1, memory_order_relaxed);
        rb_conn_send_err(conn, "maximum account active connections exceeded");
        rb_conn_log(conn, RB_LOG_ERR, "maximum account active connections exceeded");
        rb_conn_want_end(conn, RB_CLOSE_ACCOUNT_CONNS, false);
        return false;
    }
    conn->account = account;
    memset(&conn->hint, 0, sizeof(conn->hint));
    rb_list_append(&account->conns, &conn->account_link);
    conn->account_counted = true;
    rb_counter_add(&account->conn_count, 1);
    rb_counter_add(&account->conns_total, 1);
    return true;
}

static uint32_t smaller(uint32_t server, int64_t account)
{
    return account < 0 || account > (int64_t)server ? server : (uint32_t)account;
}

static void take_limits(struct rb_conn *conn)
{
    const struct rb_core_options *options = &conn->core->options;
    const struct rb_policy_account *policy = conn->account->policy;
    conn->max_payload = options->max_payload;
    conn->max_subs = options->max_subs;
    if (policy != NULL) {
        conn->max_payload = smaller(options->max_payload, policy->limits.payload);
        uint32_t server_subs = options->max_subs == 0 ? UINT32_MAX : options->max_subs;
        uint32_t subs = smaller(server_subs, policy->limits.subscriptions);
        conn->max_subs = subs == UINT32_MAX ? 0 : subs;
        conn->no_subs = policy->limits.subscriptions == 0;
    }
    conn->parser.max_control_line = options->max_control_line;
    if (conn->connected) {
        conn->parser.max_payload = conn->max_payload;
    }
}

static void drop_identity(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    rb_free(core->budget, (void *)(uintptr_t)conn->identity.ptr, conn->identity.len);
    conn->identity = (struct rb_slice){ NULL, 0 };
    rb_perms_release(conn->perms);
    conn->perms = NULL;
    rb_auth_custom_release(conn->custom);
    conn->custom = NULL;
    conn->user = NULL;
}

void rb_conn_unbind(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    leave_account(conn);
    drop_identity(conn);
    rb_free(core->budget, (void *)(uintptr_t)conn->proxy_key.ptr, conn->proxy_key.len);
    conn->proxy_key = (struct rb_slice){ NULL, 0 };
    rb_conn_drop_responses(conn);
    if (conn->label != NULL) {
        rb_free(core->budget, conn->label, strlen(conn->label) + 1);
        conn->label = NULL;
    }
    if (conn->about != NULL) {
        rb_free(core->budget, conn->about, conn->about->bytes);
        conn->about = NULL;
    }
}

/* The key of the proxy that vouched. */
static void keep_proxy(struct rb_conn *conn, struct rb_slice key)
{
    struct rb_core *core = conn->core;
    rb_free(core->budget, (void *)(uintptr_t)conn->proxy_key.ptr, conn->proxy_key.len);
    conn->proxy_key = (struct rb_slice){ NULL, 0 };
    uint8_t *copy = key.len == 0 ? NULL : rb_alloc(core->budget, key.len);
    if (copy != NULL) {
        memcpy(copy, key.ptr, key.len);
        conn->proxy_key = rb_slice_of(copy, key.len);
    }
}

static bool set_identity(struct rb_conn *conn, const struct rb_verdict *verdict)
{
    struct rb_core *core = conn->core;
    struct rb_perms *perms = NULL;
    uint8_t *name = NULL;
    enum rb_err err = verdict->custom == NULL ? find_perms(core, verdict->permissions, &perms)
                      : verdict->permissions == NULL
                          ? RB_OK
                          : rb_perms_create(core->budget, verdict->permissions, &perms);
    if (err == RB_OK && verdict->name.len > 0) {
        name = rb_alloc(core->budget, verdict->name.len);
        err = name == NULL ? RB_ERR_MEMORY : RB_OK;
    }
    if (err != RB_OK) {
        rb_perms_release(perms);
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return false;
    }
    drop_identity(conn);
    rb_conn_drop_responses(conn);
    if (name != NULL) {
        memcpy(name, verdict->name.ptr, verdict->name.len);
        conn->identity = rb_slice_of(name, verdict->name.len);
    }
    keep_proxy(conn, verdict->proxy);
    conn->perms = perms;
    conn->custom = verdict->custom;
    conn->user = verdict->user;
    conn->identity_kind = (uint8_t)verdict->identity;
    return true;
}

bool rb_conn_bind(struct rb_conn *conn, const struct rb_verdict *verdict)
{
    struct rb_account *account = rb_account_of_policy(conn->core, verdict->account);
    if (account == NULL) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return false;
    }
    if (!join_account(conn, account) || !set_identity(conn, verdict)) {
        return false;
    }
    take_limits(conn);
    conn->parser.require_connect = false;
    return true;
}

bool rb_conn_bind_nobody(struct rb_conn *conn)
{
    struct rb_account *account = rb_account_of_policy(conn->core, 0);
    if (account == NULL) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return false;
    }
    if (!join_account(conn, account)) {
        return false;
    }
    take_limits(conn);
    return true;
}

static void announce(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    if (!conn->up) {
        conn->up = true;
        if (core->hooks.conn_up != NULL) {
            core->hooks.conn_up(core->hooks.ctx, conn);
        }
    }
}

bool rb_conn_bind_anonymous(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    const struct rb_policy_user *user =
        rb_auth_anonymous(core->settings->policy, conn->type == RB_TYPE_WEBSOCKET, conn->type);
    if (user == NULL) {
        return false;
    }
    struct rb_verdict verdict = { .kind = RB_VERDICT_ACCEPT,
                                  .identity = RB_IDENTITY_USER,
                                  .account = user->account,
                                  .user = user,
                                  .name = user->name,
                                  .permissions = user->permissions };
    if (!rb_conn_bind(conn, &verdict)) {
        return true; /* ending, with its reason */
    }
    announce(conn);
    rb_wheel_arm(&core->wheel, &conn->timer, core->now_ns + core->options.ping_interval_ns);
    return true;
}

/* What the log calls a connection */

static size_t put_quoted(char *out, size_t cap, struct rb_slice text)
{
    size_t len = rb_format_quoted((uint8_t *)out + 1, cap - 2, text);
    out[0] = out[1 + len] = '"';
    return len + 2;
}

static void make_label(struct rb_conn *conn)
{
    static const char *const kinds[] = { [RB_IDENTITY_USER] = "user:",
                                         [RB_IDENTITY_NKEY] = "nkey:",
                                         [RB_IDENTITY_TOKEN] = "token",
                                         [RB_IDENTITY_CUSTOM] = "user:" };
    struct rb_core *core = conn->core;
    const struct rb_conn_about *about = conn->about;
    char plain[LABEL_MAX], text[10 * LABEL_MAX];
    size_t len = 0;
    if (conn->label != NULL) {
        rb_free(core->budget, conn->label, strlen(conn->label) + 1);
        conn->label = NULL;
    }
    if (about != NULL && about->name.len + about->lang.len + about->version.len > 0) {
        struct rb_slice version = about->version, lang = about->lang, name = about->name;
        int count = snprintf(plain, sizeof(plain), "%s%.*s%s%.*s%s%.*s", version.len ? "v" : "",
                             RB_S_ARG(version), lang.len && version.len ? ":" : "", RB_S_ARG(lang),
                             name.len && version.len + lang.len ? ":" : "", RB_S_ARG(name));
        size_t plain_len = (size_t)count < sizeof(plain) ? (size_t)count : sizeof(plain) - 1;
        len = put_quoted(text, 4 * LABEL_MAX, rb_slice_of(plain, plain_len));
    }
    if (conn->identity_kind != RB_IDENTITY_NONE) {
        int count = snprintf(plain, sizeof(plain), "%.*s/%s%.*s", RB_S_ARG(conn->account->name),
                             kinds[conn->identity_kind], RB_S_ARG(conn->identity));
        size_t plain_len = (size_t)count < sizeof(plain) ? (size_t)count : sizeof(plain) - 1;
        if (len > 0) {
            memcpy(text + len, " - ", 3);
            len += 3;
        }
        len += put_quoted(text + len, 4 * LABEL_MAX, rb_slice_of(plain, plain_len));
    }
    char *label = len == 0 ? NULL : rb_alloc(core->budget, len + 1);
    if (label != NULL) {
        memcpy(label, text, len);
        label[len] = '\0';
        conn->label = label;
    }
}

static void keep_about(struct rb_conn *conn, const struct rb_connect *connect)
{
    struct rb_core *core = conn->core;
    struct rb_slice offered = connect->nkey.len > 0 ? connect->nkey : connect->user;
    bool token = connect->auth_token.len > 0;
    size_t bytes = sizeof(struct rb_conn_about) + connect->name.len + connect->lang.len +
                   connect->version.len + offered.len;
    if (conn->about != NULL) {
        rb_free(core->budget, conn->about, conn->about->bytes);
        conn->about = NULL;
    }
    struct rb_conn_about *about =
        bytes == sizeof(*about) && !token ? NULL : rb_alloc(core->budget, bytes);
    if (about == NULL) {
        return; /* a connection without a name can live */
    }
    struct rb_writer out = rb_writer_over(about + 1, bytes - sizeof(*about));
    const struct rb_slice from[] = { connect->name, connect->lang, connect->version, offered };
    struct rb_slice *into[] = { &about->name, &about->lang, &about->version, &about->offered };
    for (int i = 0; i < 4; i++) {
        *into[i] = rb_slice_of(out.at, from[i].len);
        rb_write_slice(&out, from[i]);
    }
    about->offered_nkey = connect->nkey.len > 0;
    about->offered_token = token;
    about->bytes = (uint32_t)bytes;
    conn->about = about;
}

/* CONNECT */

static void refuse(struct rb_conn *conn, const char *text, enum rb_close_reason reason,
                   const char *why)
{
    rb_conn_send_err(conn, text);
    rb_conn_log(conn, RB_LOG_ERR, "%s", why);
    rb_conn_want_end(conn, reason, false);
}

static enum rb_close_reason reason_of(enum rb_refusal refusal)
{
    return refusal == RB_REFUSAL_PROXY_REQUIRED      ? RB_CLOSE_PROXY_REQUIRED
           : refusal == RB_REFUSAL_PROXY_NOT_TRUSTED ? RB_CLOSE_PROXY_NOT_TRUSTED
                                                     : RB_CLOSE_AUTH;
}

/* Who was refused, never by which proof. */
static void log_refused(struct rb_conn *conn)
{
    const struct rb_conn_about *about = conn->about;
    if (about == NULL || (about->offered.len == 0 && !about->offered_token)) {
        rb_conn_log(conn, RB_LOG_ERR, "authentication error");
    } else if (about->offered.len == 0) {
        rb_conn_log(conn, RB_LOG_ERR, "authentication error - Token \"[REDACTED]\"");
    } else {
        char text[4 * OFFERED_MAX + 1];
        size_t len = about->offered.len < OFFERED_MAX ? about->offered.len : OFFERED_MAX;
        len = rb_format_quoted((uint8_t *)text, sizeof(text), rb_slice_of(about->offered.ptr, len));
        rb_conn_log(conn, RB_LOG_ERR, "authentication error - %s \"%.*s\"",
                    about->offered_nkey ? "Nkey" : "User", (int)len, text);
    }
}

static void refuse_login(struct rb_conn *conn, enum rb_refusal refusal, const char *why)
{
    struct rb_core *core = conn->core;
    rb_counter_add(&core->stats.auth_failed, 1);
    log_refused(conn);
    rb_conn_send_err(conn, "Authorization Violation");
    if (why != NULL) {
        rb_conn_log(conn, RB_LOG_DBG, "authentication error: %s", why);
    }
    rb_conn_want_end(conn, reason_of(refusal), false);
    if (core->hooks.auth_failed != NULL) {
        core->hooks.auth_failed(core->hooks.ctx, conn);
    }
}

void rb_conn_refuse_login(struct rb_conn *conn)
{
    refuse_login(conn, RB_REFUSAL_CREDENTIALS, NULL);
}

static void ok_if_verbose(struct rb_conn *conn)
{
    if (conn->verbose) {
        rb_conn_write(conn, RB_WIRE_OK);
        rb_conn_written(conn);
        rb_conn_log(conn, RB_LOG_TRC, "->> [OK]");
    }
}

/* The identity is settled: the rest of CONNECT, in nats-server's order. */
static void finish_connect(struct rb_conn *conn)
{
    struct rb_core *core = conn->core;
    make_label(conn);
    if (conn->protocol != 0 && conn->protocol != 1) {
        refuse(conn, "invalid client protocol", RB_CLOSE_BAD_VERSION, "invalid client protocol");
        return;
    }
    if (conn->no_responders && !conn->headers) {
        refuse(conn, "no responders requires headers support", RB_CLOSE_NO_RESPONDERS,
               "no responders requires headers support");
        return;
    }
    conn->async_info = conn->protocol == 1;
    conn->parser.headers = conn->headers;
    conn->parser.require_connect = false;
    conn->connected = true;
    take_limits(conn);
    conn->state = RB_CONN_READY;
    announce(conn);
    uint64_t first = FIRST_PING_NS + rb_env_below(core->env, FIRST_PING_NS / 5);
    if (core->options.ping_interval_ns < first) {
        first = core->options.ping_interval_ns;
    }
    rb_wheel_arm(&core->wheel, &conn->timer, core->now_ns + first);
    ok_if_verbose(conn);
}

static void take_verdict(struct rb_conn *conn, const struct rb_verdict *verdict)
{
    if (verdict->kind != RB_VERDICT_ACCEPT) {
        refuse_login(conn, verdict->refusal, verdict->reason);
        rb_auth_custom_release(verdict->custom);
    } else if (rb_conn_bind(conn, verdict)) {
        finish_connect(conn);
    }
}

void rb_conn_verdict(struct rb_core *core, struct rb_job *job)
{
    struct rb_auth_wait *wait = rb_auth_wait_of(job);
    struct rb_conn *conn = rb_auth_wait_owner(wait);
    struct rb_verdict verdict = rb_auth_finish(wait);
    conn->auth_wait = NULL;
    if (!rb_conn_open(conn)) {
        rb_auth_custom_release(verdict.custom);
        rb_effects_want(&core->effects, &conn->effect, RB_CONN_WANT_END);
        return;
    }
    if (verdict.kind == RB_VERDICT_ACCEPT && verdict.custom == NULL &&
        conn->auth_policy != core->settings->policy) {
        /* reloaded meanwhile: what was proven may no longer hold */
        refuse_login(conn, RB_REFUSAL_CREDENTIALS, "configuration changed");
    } else {
        take_verdict(conn, &verdict);
    }
    rb_conn_continue(conn);
}

static void fill_cert(const struct rb_tls_peer *peer, struct rb_auth_cert *cert)
{
    *cert = (struct rb_auth_cert){ .emails = peer->emails,
                                   .dns_names = peer->dns_names,
                                   .uris = peer->uris,
                                   .email_count = peer->email_count,
                                   .dns_count = peer->dns_count,
                                   .uri_count = peer->uri_count };
    if (peer->cert_count > 0) {
        cert->subject = peer->certs[0].subject;
        cert->subject_raw = peer->certs[0].subject_raw;
        cert->der = peer->certs[0].der;
    }
}

static struct rb_slice first_of(struct rb_slice given, struct rb_slice cookie)
{
    return given.len > 0 ? given : cookie;
}

/* Whom a connection says it is, for the advisories about one that is refused. Without memory it stays unsaid. */
static void keep_offer(struct rb_conn *conn, const struct rb_auth_request *request)
{
    struct rb_core *core = conn->core;
    struct rb_slice name = request->nkey.len > 0    ? request->nkey
                           : request->user.len > 0  ? request->user
                           : request->token.len > 0 ? RB_S("[REDACTED]")
                                                    : RB_S("");
    uint8_t *copy = name.len == 0 || conn->connected ? NULL : rb_alloc(core->budget, name.len);
    if (copy != NULL) {
        memcpy(copy, name.ptr, name.len);
        rb_free(core->budget, (void *)(uintptr_t)conn->identity.ptr, conn->identity.len);
        conn->identity = rb_slice_of(copy, name.len);
    }
}

static void judge(struct rb_conn *conn, const struct rb_connect *connect)
{
    struct rb_core *core = conn->core;
    const struct rb_policy *policy = core->settings->policy;
    bool websocket = conn->type == RB_TYPE_WEBSOCKET;
    struct rb_auth_cert cert;
    struct rb_auth_request request = {
        .type = conn->type,
        .websocket = websocket,
        .tls_map = websocket ? policy->websocket_tls_map : policy->tls_map,
        .user = connect->user,
        .pass = connect->pass,
        .token = connect->auth_token,
        .nkey = connect->nkey,
        .sig = connect->sig,
        .jwt = connect->jwt,
        .proxy_sig = connect->proxy_sig,
        .name = connect->name,
        .lang = connect->lang,
        .version = connect->version,
        .nonce = rb_slice_text(conn->nonce),
        .peer = conn->peer,
        .cid = conn->cid,
    };
    if (conn->link != NULL) {
        const struct rb_link_cookies *cookies = rb_link_cookies(conn->link);
        const struct rb_tls_peer *peer = rb_link_peer(conn->link);
        request.user = first_of(request.user, cookies->user);
        request.pass = first_of(request.pass, cookies->pass);
        request.token = first_of(request.token, cookies->token);
        request.jwt = first_of(request.jwt, cookies->jwt);
        if (peer != NULL && peer->verified) {
            fill_cert(peer, &cert);
            request.cert = &cert;
        }
    }
    struct rb_auth_context context = { .policy = policy,
                                       .work = core->work,
                                       .hook = core->auth_hook,
                                       .home = core->options.shard_index };
    conn->auth_policy = policy;
    keep_offer(conn, &request);
    struct rb_verdict verdict = rb_auth_begin(&context, &request, conn, &conn->auth_wait);
    if (verdict.kind != RB_VERDICT_LATER) {
        conn->auth_wait = NULL;
        take_verdict(conn, &verdict);
    } else {
        if (!policy->custom && core->auth_hook == NULL) {
            rb_wheel_disarm(&core->wheel,
                            &conn->timer); /* the hash takes our time, not the client's */
        }
        rb_conn_stall(conn);
    }
}

/* Nothing that would prove another identity than the one at hand. To nats-server a repeated CONNECT is laid over the
 * one before, and a token does not count beside a user, nor a user beside an nkey. */
static bool keeps_identity(const struct rb_conn *conn, const struct rb_connect *connect)
{
    if (!conn->connected || connect->nkey.len + connect->sig.len > 0 ||
        (connect->auth_token.len > 0 && conn->identity_kind != RB_IDENTITY_USER &&
         conn->identity_kind != RB_IDENTITY_NKEY)) {
        return false;
    }
    if (conn->identity_kind == RB_IDENTITY_NKEY) {
        return true;
    }
    return connect->pass.len == 0 &&
           (connect->user.len == 0 || rb_slice_equal(connect->user, conn->identity));
}

static void trace_connect(struct rb_conn *conn, const struct rb_connect *connect)
{
    if (conn->core->log->trace) {
        rb_conn_log(conn, RB_LOG_TRC,
                    "<<- [CONNECT verbose=%d pedantic=%d headers=%d no_responders=%d user=%.*s "
                    "name=%.*s]",
                    connect->verbose, connect->pedantic, connect->headers, connect->no_responders,
                    RB_S_ARG(connect->user), RB_S_ARG(connect->name));
    }
}

/* From INFO to CONNECT, until a PING tells better; also of a connection that is then refused. */
static void estimate_rtt(struct rb_conn *conn)
{
    const struct rb_env *env = conn->core->env;
    if (conn->rtt_ns == 0) {
        uint64_t wall_ns = env->wall_ns(env->ctx);
        conn->rtt_ns = wall_ns > conn->start_wall_ns ? wall_ns - conn->start_wall_ns : 1;
        conn->rtt_estimated = true;
    }
}

static void take_document(struct rb_conn *conn, struct rb_slice json)
{
    struct rb_connect connect;
    struct rb_connect_doc *doc = NULL;
    rb_connect_defaults(&connect);
    connect.verbose = conn->verbose;
    connect.pedantic = conn->pedantic;
    connect.echo = conn->echo;
    connect.headers = conn->headers;
    connect.no_responders = conn->no_responders;
    connect.protocol = conn->protocol;
    if (rb_connect_parse(json, &connect, &doc) != RB_OK) {
        rb_conn_log(conn, RB_LOG_ERR, "CONNECT is not a valid document");
        rb_conn_want_end(conn, RB_CLOSE_PROTOCOL, false);
        return;
    }
    conn->verbose = connect.verbose;
    conn->pedantic = connect.pedantic;
    conn->echo = connect.echo;
    conn->headers = connect.headers && conn->core->options.headers;
    conn->no_responders = connect.no_responders;
    conn->protocol = connect.protocol == 0 || connect.protocol == 1 ? (int8_t)connect.protocol : -1;
    trace_connect(conn, &connect);
    estimate_rtt(conn);
    if (!conn->connected || connect.name.len + connect.lang.len + connect.version.len > 0 ||
        conn->about == NULL) {
        keep_about(conn, &connect);
    }
    if (connect.has_account) {
        refuse_login(conn, RB_REFUSAL_CREDENTIALS, "CONNECT names an account");
    } else if (keeps_identity(conn, &connect)) {
        finish_connect(conn);
    } else {
        judge(conn, &connect);
    }
    rb_connect_doc_free(doc);
}

/* Subscriptions of another CONNECT, or of no_auth_user before any, belong to an account that may not be the next one. */
static bool starts_anew(const struct rb_conn *conn)
{
    return conn->connected ||
           rb_policy_auth_required(conn->core->settings->policy, conn->type == RB_TYPE_WEBSOCKET);
}

void rb_conn_connect(struct rb_conn *conn, struct rb_slice json)
{
    if (starts_anew(conn) &&
        !rb_conn_drop_subs(conn)) { /* goes on when there is room for the rest */
        conn->again = rb_buf_acquire(&conn->core->bufs, (uint32_t)json.len);
        if (conn->again == NULL) {
            rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
            return;
        }
        memcpy(conn->again->data, json.ptr, json.len);
        conn->again->len = (uint32_t)json.len;
        rb_conn_stall(conn);
        return;
    }
    take_document(conn, json);
}

bool rb_conn_connect_again(struct rb_conn *conn)
{
    if (!rb_conn_drop_subs(conn)) {
        return false;
    }
    struct rb_buf *json = conn->again;
    conn->again = NULL;
    take_document(conn, rb_slice_of(json->data, json->len));
    rb_buf_release(json);
    return conn->auth_wait == NULL;
}

/* A reload */

enum standing { STANDS, GONE, CHANGED };

static bool proxy_trusted(const struct rb_policy *policy, struct rb_slice key)
{
    for (uint32_t i = 0; i < policy->proxy_count; i++) {
        if (rb_slice_equal(policy->proxies[i], key)) {
            return true;
        }
    }
    return key.len == 0;
}

static bool same_text(struct rb_slice a, struct rb_slice b)
{
    return rb_slice_equal(a, b);
}

/* The user `conn` logged in as, in the new policy. */
static enum standing find_again(const struct rb_conn *conn, const struct rb_policy *before,
                                const struct rb_policy *policy,
                                const struct rb_policy_user **ret_user)
{
    const struct rb_policy_user *was = conn->user;
    const struct rb_policy_user *now = conn->identity_kind == RB_IDENTITY_NKEY
                                           ? rb_policy_user_by_nkey(policy, was->nkey)
                                           : rb_policy_user_by_name(policy, was->name);
    *ret_user = now;
    if (now == NULL ||
        !same_text(before->accounts[was->account].name, policy->accounts[now->account].name)) {
        return GONE;
    }
    return same_text(was->pass, now->pass) && (now->types & conn->type) != 0 ? STANDS : CHANGED;
}

/* Of a login that was `authorization { user, password }`: the same, or a user of "$G" with the same secret. nats-server
 * takes any other change, also one of the password, for a user that is gone. */
static enum standing single_user(const struct rb_policy *policy, const struct rb_policy_login *was,
                                 const struct rb_policy_login *now,
                                 const struct rb_policy_user **ret_user)
{
    const struct rb_policy_user *user = rb_policy_user_by_name(policy, was->user);
    if (user != NULL && user->account == 0) {
        *ret_user = user;
        return same_text(was->pass, user->pass) ? STANDS : CHANGED;
    }
    return same_text(was->user, now->user) && same_text(was->pass, now->pass) ? STANDS : GONE;
}

static enum standing stand(const struct rb_conn *conn, const struct rb_policy *before,
                           const struct rb_policy *policy, const struct rb_policy_user **ret_user)
{
    bool websocket = conn->type == RB_TYPE_WEBSOCKET;
    const struct rb_policy_login *was =
        websocket && before->websocket_login.overrides ? &before->websocket_login : &before->login;
    const struct rb_policy_login *now =
        websocket && policy->websocket_login.overrides ? &policy->websocket_login : &policy->login;
    bool required = rb_policy_auth_required(policy, websocket);
    *ret_user = NULL;
    switch (conn->identity_kind) {
    case RB_IDENTITY_NONE: /* whatever it offered was not kept: it has to come again */
        return required ? CHANGED : STANDS;
    case RB_IDENTITY_USER:
    case RB_IDENTITY_NKEY:
        if (conn->user != NULL) {
            return find_again(conn, before, policy, ret_user);
        }
        return single_user(policy, was, now, ret_user);
    case RB_IDENTITY_TOKEN:
        /* Two configurations without a token are no reason to stay: it may have come from one before them. */
        return !required || (now->token.len > 0 && same_text(was->token, now->token)) ? STANDS
                                                                                      : CHANGED;
    default:
        return STANDS;
    }
}

static void remove_forbidden(struct rb_conn *conn)
{
    enum { BATCH = 64 };
    for (bool more = conn->perms != NULL; more;) {
        struct rb_sub *found[BATCH];
        uint32_t count = 0, at = 0;
        for (struct rb_sub *sub; count < BATCH && (sub = rb_map_next(&conn->subs, &at)) != NULL;) {
            enum rb_perms_sub verdict = rb_perms_subscribe(
                conn->perms, rb_sublist_subject(&sub->ref), rb_sublist_queue(&sub->ref));
            sub->flags &= (uint8_t)~RB_SUB_FILTER;
            if (verdict == RB_SUB_FILTERED) {
                sub->flags |= RB_SUB_FILTER;
            } else if (verdict == RB_SUB_DENIED) {
                found[count++] = sub;
            }
        }
        if (count > 0 &&
            conn->core->mail_tight) { /* an ended connection withdraws them by and by */
            rb_conn_want_end(conn, RB_CLOSE_AUTH, false);
            return;
        }
        for (uint32_t i = 0; i < count; i++) {
            char tail[300];
            struct rb_slice subject = rb_sublist_subject(&found[i]->ref);
            (void)snprintf(tail, sizeof(tail), " (sid \"%.*s\")",
                           found[i]->sid_len > 256 ? 256 : found[i]->sid_len,
                           (const char *)found[i]->sid);
            rb_conn_violation(conn, "Subscription to", subject, rb_sublist_queue(&found[i]->ref),
                              tail);
            rb_conn_log(conn, RB_LOG_INF, "Removed sub \"%.*s\" for \"%.*s\" - not authorized",
                        found[i]->sid_len, (const char *)found[i]->sid, RB_S_ARG(subject));
            rb_conn_unsubscribe(conn, found[i]);
        }
        more = count == BATCH;
    }
    if (conn->perms == NULL) {
        uint32_t at = 0;
        for (struct rb_sub *sub; (sub = rb_map_next(&conn->subs, &at)) != NULL;) {
            sub->flags &= (uint8_t)~RB_SUB_FILTER;
        }
    }
}

/* The certificate is none of those that may connect now. */
static bool unpinned(const struct rb_conn *conn)
{
    if (!rb_link_is_tls(conn->link) || conn->type == RB_TYPE_WEBSOCKET) {
        return false; /* what the websocket block says cannot be reloaded */
    }
    const struct rb_tls_context *tls = conn->core->settings->tls;
    const struct rb_tls_peer *peer = rb_link_peer(conn->link);
    return tls != NULL && !rb_tls_context_pins(tls, peer == NULL || peer->cert_count == 0
                                                        ? ""
                                                        : peer->certs[0].spki_sha256);
}

/* Why `conn` may not stay; RB_CLOSE_NONE: it may. *ret_user: what it is in the new policy. */
static enum rb_close_reason judge_again(struct rb_conn *conn, const struct rb_policy *before,
                                        const struct rb_policy_user **ret_user)
{
    const struct rb_policy *policy = conn->core->settings->policy;
    *ret_user = NULL;
    if (conn->account->policy == NULL) {
        return RB_CLOSE_MISSING_ACCOUNT;
    }
    if (!proxy_trusted(policy, conn->proxy_key)) {
        return RB_CLOSE_PROXY_NOT_TRUSTED;
    }
    if (unpinned(conn)) {
        return RB_CLOSE_TLS;
    }
    switch (stand(conn, before, policy, ret_user)) {
    case GONE:
        return RB_CLOSE_CLIENT;
    case CHANGED:
        return RB_CLOSE_AUTH;
    case STANDS:
        break;
    }
    return RB_CLOSE_NONE;
}

void rb_conn_rejudge(struct rb_conn *conn, const struct rb_policy *before)
{
    struct rb_core *core = conn->core;
    const struct rb_policy_user *user = NULL;
    enum rb_close_reason reason = RB_CLOSE_NONE;
    bool judged = rb_conn_open(conn) && !rb_list_empty(&conn->account_link);
    if (judged) {
        reason = judge_again(conn, before, &user);
    }
    conn->user = reason == RB_CLOSE_NONE ? user : NULL; /* the old one lies in `before` */
    if (reason == RB_CLOSE_AUTH) {
        refuse_login(conn, RB_REFUSAL_CREDENTIALS, "credentials changed");
    } else if (reason != RB_CLOSE_NONE) {
        rb_conn_want_end(conn, reason, false);
    }
    if (!judged || reason != RB_CLOSE_NONE) {
        return;
    }
    take_limits(conn);
    if (conn->custom != NULL) {
        return;
    }
    struct rb_perms *perms;
    if (find_perms(core, user != NULL ? user->permissions : NULL, &perms) != RB_OK) {
        rb_conn_want_end(conn, RB_CLOSE_MEMORY, true);
        return;
    }
    rb_perms_release(conn->perms);
    conn->perms = perms;
    int64_t max, ttl_ns;
    if (perms == NULL || !rb_perms_responses(perms, &max, &ttl_ns)) {
        rb_conn_drop_responses(conn); /* what was allowed by the old ones is not any more */
    }
    remove_forbidden(conn);
}
