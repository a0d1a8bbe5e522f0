/* auth.c - the order in which proofs of identity are tried, and the wait for those that take long.
 *
 *   callback? -> it alone decides
 *   proxy signature wrong? -> refused
 *   nothing required? -> accepted in "$G", whatever was shown
 *   nkeys configured, and one shown (or no_auth_user is one) -> signature over the nonce
 *   users configured -> by certificate when the listener maps, else by name (or no_auth_user), then password
 *   token -> single user -> refused
 *
 * 1. The order, and that a failure in one step never falls through to the next one, is nats-server's (client-protocol.md 19).
 * 2. A user's name must not be found out by time. nats-server refuses an unknown name at once; here a refusal by name takes
 *    as long as a wrong password: when any user has a bcrypt password, each refusal by name that has not hashed yet hashes
 *    the costliest one. With different costs the cheaper users still differ.
 * 3. A wait holds the policy. It comes home exactly once: from the helper threads, or from the ticket (custom.c).
 * 4. A user of the configuration without a password can be taken by name only while no listener maps certificates.
 */
#include "auth/auth.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"

#include "auth/custom.h"
#include "auth/nkey.h"
#include "auth/password.h"
#include "auth/tlsmap.h"

struct rb_auth_wait {
    struct rb_job job; /* first, for rb_auth_wait_of */
    const struct rb_policy *policy;
    void *owner;
    struct rb_verdict
        verdict; /* of the password: when it fits. ACCEPT, or REFUSE when nothing can fit */
    struct rb_slice hash; /* in the policy */
    uint8_t pass[RB_PASSWORD_BYTES_MAX];
    size_t pass_len;
    bool pass_fits;
    _Atomic bool canceled;
    struct rb_auth_ticket *ticket; /* of the callback; NULL: a password */
};

/* What one judgement works with. */
struct judging {
    const struct rb_auth_context *context;
    const struct rb_auth_request *request;
    const struct rb_policy *policy;
    const struct rb_policy_login *login;
    void *owner;
    struct rb_auth_wait **ret_wait;
    struct rb_slice proxy; /* see rb_verdict */
};

static struct rb_verdict refuse(const char *reason)
{
    return (struct rb_verdict){ .kind = RB_VERDICT_REFUSE, .reason = reason };
}

static struct rb_verdict refuse_as(enum rb_refusal refusal, const char *reason)
{
    return (struct rb_verdict){ .kind = RB_VERDICT_REFUSE, .refusal = refusal, .reason = reason };
}

static struct rb_verdict accept_as(const struct judging *judging, enum rb_identity_kind identity)
{
    return (struct rb_verdict){
        .kind = RB_VERDICT_ACCEPT,
        .identity = identity,
        .proxy = judging->proxy,
    };
}

static struct rb_verdict accept_user(const struct judging *judging,
                                     const struct rb_policy_user *user)
{
    bool nkey = user->nkey.len > 0;
    struct rb_verdict verdict = accept_as(judging, nkey ? RB_IDENTITY_NKEY : RB_IDENTITY_USER);
    verdict.account = user->account;
    verdict.user = user;
    verdict.name = nkey ? user->nkey : user->name;
    verdict.permissions = user->permissions;
    return verdict;
}

static const struct rb_policy_login *login_of(const struct rb_policy *policy, bool websocket)
{
    bool own = websocket && policy->websocket_login.overrides;
    return own ? &policy->websocket_login : &policy->login;
}

static const struct rb_policy_user *no_auth_user_of(const struct rb_policy *policy,
                                                    const struct rb_policy_login *login)
{
    return login->no_auth_user < 0 ? NULL : &policy->users[login->no_auth_user];
}

/* ------------------------------------------------------------------ waiting */

static struct rb_auth_wait *create_wait(const struct judging *judging)
{
    struct rb_auth_wait *wait = calloc(1, sizeof(*wait));
    if (wait != NULL) {
        wait->job.home = judging->context->home;
        wait->job.kind = RB_JOB_AUTH;
        wait->policy = rb_policy_hold(judging->policy);
        wait->owner = judging->owner;
    }
    return wait;
}

static void free_wait(struct rb_auth_wait *wait)
{
    rb_policy_release(wait->policy);
    OPENSSL_cleanse(wait->pass, sizeof(wait->pass));
    free(wait);
}

/* On a helper thread. Who is gone is not worth a hash. */
static void run_password(struct rb_job *job)
{
    struct rb_auth_wait *wait = (struct rb_auth_wait *)job;
    if (!atomic_load_explicit(&wait->canceled, memory_order_relaxed)) {
        wait->pass_fits =
            rb_password_check_hash(wait->hash, rb_slice_of(wait->pass, wait->pass_len));
    }
}

/* `verdict` when `pass` fits `hash`; comes later. */
static struct rb_verdict hash_later(const struct judging *judging, struct rb_slice hash,
                                    struct rb_slice pass, struct rb_verdict verdict)
{
    struct rb_auth_wait *wait = create_wait(judging);
    if (wait == NULL) {
        return refuse("out of memory");
    }
    wait->job.run = run_password;
    wait->verdict = verdict;
    wait->hash = hash;
    /* One byte that is cut off can be a NUL, but those before it decide (password.c, invariant 3). */
    wait->pass_len = pass.len < sizeof(wait->pass) ? pass.len : sizeof(wait->pass);
    if (wait->pass_len > 0) {
        memcpy(wait->pass, pass.ptr, wait->pass_len);
    }
    if (!rb_work_submit(judging->context->work, &wait->job)) {
        free_wait(wait);
        return refuse("too many passwords wait to be checked");
    }
    *judging->ret_wait = wait;
    return (struct rb_verdict){ .kind = RB_VERDICT_LATER };
}

void *rb_auth_wait_owner(const struct rb_auth_wait *wait)
{
    return wait->owner;
}

struct rb_auth_wait *rb_auth_wait_of(struct rb_job *job)
{
    rb_assert(job->kind == RB_JOB_AUTH);
    return (struct rb_auth_wait *)job;
}

void rb_auth_cancel(struct rb_auth_wait *wait)
{
    atomic_store_explicit(&wait->canceled, true, memory_order_relaxed);
    if (wait->ticket != NULL) {
        rb_ticket_cancel(wait->ticket);
    }
}

struct rb_verdict rb_auth_finish(struct rb_auth_wait *wait)
{
    struct rb_verdict verdict = wait->verdict;
    bool canceled = atomic_load_explicit(&wait->canceled, memory_order_relaxed);
    if (wait->ticket != NULL) {
        verdict = rb_ticket_finish(wait->ticket);
    } else if (verdict.kind == RB_VERDICT_ACCEPT && !wait->pass_fits) {
        verdict = refuse("wrong password");
    }
    if (canceled && verdict.kind == RB_VERDICT_ACCEPT) {
        rb_auth_custom_release(verdict.custom);
        verdict = refuse("the connection is gone");
    }
    free_wait(wait);
    return verdict;
}

/* ------------------------------------------------------------------ the proofs */

static struct rb_verdict ask_callback(const struct judging *judging)
{
    if (judging->context->hook == NULL) {
        return refuse("the callback that decides is missing");
    }
    struct rb_auth_wait *wait = create_wait(judging);
    if (wait == NULL) {
        return refuse("out of memory");
    }
    bool answered;
    enum rb_err err =
        rb_ticket_open(judging->context, judging->request, &wait->job, &wait->ticket, &answered);
    if (err != RB_OK) {
        free_wait(wait);
        return refuse(err == RB_ERR_INVALID ? "a NUL in CONNECT" : "out of memory");
    }
    if (answered) {
        return rb_auth_finish(wait);
    }
    *judging->ret_wait = wait;
    return (struct rb_verdict){ .kind = RB_VERDICT_LATER };
}

/* A refusal by name: as slow as a wrong password (invariant 2). */
static struct rb_verdict slowly(const struct judging *judging, struct rb_verdict refusal)
{
    struct rb_slice hash = judging->policy->slow_secret;
    return hash.len == 0 ? refusal : hash_later(judging, hash, judging->request->pass, refusal);
}

/* `verdict` when `given` is `secret`. */
static struct rb_verdict check_secret(const struct judging *judging, struct rb_slice secret,
                                      struct rb_slice given, struct rb_verdict verdict,
                                      const char *reason)
{
    if (rb_password_is_hash(secret)) {
        return hash_later(judging, secret, given, verdict);
    }
    return rb_password_equal(secret, given) ? verdict : refuse(reason);
}

/* False: *ret_refusal says why. Every trusted key is tried, in the order of the configuration. */
static bool check_proxy(struct judging *judging, struct rb_verdict *ret_refusal)
{
    const struct rb_auth_request *request = judging->request;
    const struct rb_policy *policy = judging->policy;
    if (request->proxy_sig.len == 0 || policy->proxy_count == 0) {
        return true;
    }
    for (uint32_t i = 0; i < policy->proxy_count; i++) {
        if (rb_nkey_verify_text(policy->proxies[i], request->nonce, request->proxy_sig, false)) {
            judging->proxy = policy->proxies[i];
            return true;
        }
    }
    *ret_refusal = refuse_as(RB_REFUSAL_PROXY_NOT_TRUSTED, "proxy is not trusted");
    return false;
}

static struct rb_verdict refuse_without_proxy(void)
{
    return refuse_as(RB_REFUSAL_PROXY_REQUIRED, "proxy connection required");
}

static bool proxy_missing(const struct judging *judging, bool required)
{
    return required && judging->proxy.len == 0;
}

static struct rb_verdict judge_nkey(const struct judging *judging, struct rb_slice nkey)
{
    const struct rb_auth_request *request = judging->request;
    const struct rb_policy_user *user = rb_policy_user_by_nkey(judging->policy, nkey);
    if (user == NULL) {
        return refuse("unknown nkey");
    }
    if ((user->types & request->type) == 0) {
        return refuse("connection type not allowed");
    }
    if (proxy_missing(judging, user->proxy_required)) {
        return refuse_without_proxy();
    }
    if (user != no_auth_user_of(judging->policy, judging->login) &&
        !rb_nkey_verify_text(user->nkey, request->nonce, request->sig, true)) {
        return refuse(request->sig.len == 0 ? "signature missing" : "signature not verified");
    }
    return accept_user(judging, user);
}

/* The certificate's user. His password, if he has one, is asked for as well; if he has none, none may be shown. */
static struct rb_verdict judge_mapped(const struct judging *judging)
{
    const struct rb_auth_request *request = judging->request;
    if (request->cert == NULL) {
        return refuse("no client certificate");
    }
    const struct rb_policy_user *user =
        rb_tlsmap_find(judging->policy, request->cert, request->type);
    if (user == NULL) {
        return refuse("no user for the client certificate");
    }
    if (proxy_missing(judging, user->proxy_required)) {
        return refuse_without_proxy();
    }
    return check_secret(judging, user->pass, request->pass, accept_user(judging, user),
                        "wrong password");
}

static struct rb_verdict judge_named(const struct judging *judging)
{
    const struct rb_auth_request *request = judging->request;
    const struct rb_policy_user *user = rb_policy_user_by_name(judging->policy, request->user);
    if (user == NULL) {
        return slowly(judging, refuse("unknown user"));
    }
    if ((user->types & request->type) == 0) {
        return slowly(judging, refuse("connection type not allowed"));
    }
    if (proxy_missing(judging, user->proxy_required)) {
        return slowly(judging, refuse_without_proxy());
    }
    if (user->pass.len == 0 && user != no_auth_user_of(judging->policy, judging->login) &&
        rb_policy_user_mappable(judging->policy, user)) { /* invariant 4 */
        return slowly(judging, refuse("user requires a client certificate"));
    }
    struct rb_verdict verdict = check_secret(judging, user->pass, request->pass,
                                             accept_user(judging, user), "wrong password");
    return verdict.kind == RB_VERDICT_REFUSE && !rb_password_is_hash(user->pass)
               ? slowly(judging, verdict)
               : verdict;
}

/* Token, or the one user of `authorization`. Both live in "$G". */
static struct rb_verdict judge_login(const struct judging *judging)
{
    const struct rb_policy_login *login = judging->login;
    const struct rb_auth_request *request = judging->request;
    if (proxy_missing(judging, judging->policy->proxy_required)) {
        return refuse_without_proxy();
    }
    if (login->token.len > 0 && request->token.len > 0) {
        return check_secret(judging, login->token, request->token,
                            accept_as(judging, RB_IDENTITY_TOKEN), "wrong token");
    }
    if (login->token.len > 0 || login->user.len == 0 || request->user.len == 0) {
        return refuse(
            "no credentials that are known here"); /* at once: there is nothing to find out */
    }
    struct rb_verdict verdict = accept_as(judging, RB_IDENTITY_USER);
    verdict.name = login->user;
    if (!rb_slice_equal(login->user, request->user)) {
        verdict =
            refuse("unknown user"); /* and the password is checked all the same: invariant 2 */
    }
    return check_secret(judging, login->pass, request->pass, verdict, "wrong user or password");
}

/* ------------------------------------------------------------------ the order */

bool rb_auth_request_empty(const struct rb_auth_request *request)
{
    return request->user.len == 0 && request->pass.len == 0 && request->token.len == 0 &&
           request->nkey.len == 0;
}

const struct rb_policy_user *rb_auth_anonymous(const struct rb_policy *policy, bool websocket,
                                               uint32_t type)
{
    const struct rb_policy_user *user = no_auth_user_of(policy, login_of(policy, websocket));
    if (user == NULL || policy->custom || (user->types & type) == 0 || user->proxy_required ||
        rb_password_is_hash(user->pass)) {
        return NULL;
    }
    return user;
}

/*
 * The user that a connection without credentials stands for. nats-server fills in the configured password and then checks it,
 * so one that is a hash never fits; an nkey is not looked at where no nkeys are configured.
 */
static struct rb_verdict judge_anonymous(const struct judging *judging,
                                         const struct rb_policy_user *user)
{
    if ((user->types & judging->request->type) == 0) {
        return refuse("connection type not allowed");
    }
    if (proxy_missing(judging, user->proxy_required)) {
        return refuse_without_proxy();
    }
    if (rb_password_is_hash(user->pass)) {
        return refuse("no_auth_user has a bcrypt password");
    }
    return accept_user(judging, user);
}

static struct rb_verdict judge(const struct judging *judging)
{
    const struct rb_auth_request *request = judging->request;
    const struct rb_policy *policy = judging->policy;
    const struct rb_policy_user *anonymous = no_auth_user_of(policy, judging->login);
    bool nothing = request->user.len == 0 && request->pass.len == 0 && request->token.len == 0;
    if (policy->nkey_count > 0) {
        if (request->nkey.len > 0) {
            return judge_nkey(judging, request->nkey);
        }
        if (nothing && anonymous != NULL && anonymous->nkey.len > 0) {
            return judge_anonymous(judging, anonymous);
        }
    }
    if (policy->user_count > policy->nkey_count) {
        if (request->tls_map) {
            return judge_mapped(judging);
        }
        if (nothing && anonymous != NULL && anonymous->nkey.len == 0) {
            return judge_anonymous(judging, anonymous);
        }
        if (request->user.len > 0) {
            return judge_named(judging);
        }
    }
    return judge_login(judging);
}

struct rb_verdict rb_auth_begin(const struct rb_auth_context *context,
                                const struct rb_auth_request *request, void *owner,
                                struct rb_auth_wait **ret_wait)
{
    const struct rb_policy *policy = context->policy;
    rb_assert(policy->sealed);
    struct judging judging = {
        .context = context,
        .request = request,
        .policy = policy,
        .login = login_of(policy, request->websocket),
        .owner = owner,
        .ret_wait = ret_wait,
    };
    if (policy->custom || context->hook != NULL) {
        return ask_callback(&judging);
    }
    struct rb_verdict refusal;
    if (!check_proxy(&judging, &refusal)) {
        return refusal;
    }
    if (!rb_policy_auth_required(policy, request->websocket)) {
        return accept_as(&judging, RB_IDENTITY_NONE);
    }
    return judge(&judging);
}
