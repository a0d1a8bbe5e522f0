/* test_auth.c - who a connection is: the order of proofs, waiting for hashes, and the embedding program's callback. */
#include "auth/auth.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ringbus/check.h"

#include "auth/custom.h"
#include "auth/nkey.h"
#include "auth/password.h"

#define HORSE "$2a$04$ouP9y98wtTSy6iTqUtDffecKNvP4IKZtt9TuZGdaGt0PnpN4KacMy" /* correct horse */

enum { USERS_MAX = 12 };

/* One policy that a test fills, one pool without threads, and what the last judgement said. */
struct fixture {
    struct rb_policy *policy;
    struct rb_policy_user users[USERS_MAX];
    struct rb_work *work;
    struct rb_auth_context context;
    struct rb_auth_hook hook;
    struct rb_nkey nkey;
    char nkey_text[RB_NKEY_PUBLIC_LEN + 1], sig_text[RB_NKEY_SIGNATURE_LEN + 1];
    struct rb_permissions permissions;
    bool waited; /* the verdict came later */
};

static void setup_policy(struct fixture *f)
{
    assert_int_equal(rb_policy_create(&f->policy), RB_OK);
    struct rb_policy_account *accounts = rb_arena_take(f->policy->arena, 3 * sizeof(*accounts));
    assert_non_null(accounts);
    accounts[0].name = RB_S("$G");
    accounts[1].name = RB_S("$SYS");
    accounts[2].name = RB_S("APP");
    f->policy->accounts = accounts;
    f->policy->account_count = 3;
    f->policy->system_account = 1;
    f->policy->users = f->users;
    f->context.policy = f->policy;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct rb_env env;
    uint8_t signature[RB_NKEY_SIGNATURE_BYTES];
    rb_env_init_system(&env);
    assert_non_null(f);
    setup_policy(f);
    const struct rb_work_options options = { .home_count = 1 };
    assert_int_equal(rb_work_create(&options, &f->work), RB_OK);
    f->context.work = f->work;
    assert_int_equal(rb_nkey_generate(&env, RB_NKEY_USER, &f->nkey), RB_OK);
    rb_nkey_encode_public(RB_NKEY_USER, f->nkey.public_key, f->nkey_text);
    assert_int_equal(rb_nkey_sign(&f->nkey, RB_S("nonce"), signature), RB_OK);
    rb_nkey_encode_signature(signature, f->sig_text);
    *state = f;
    return 0;
}

/* Nobody may hold the policy any more: a wait that was forgotten would. */
static int teardown(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(f->policy->ref_count, 1);
    rb_policy_release(f->policy);
    rb_work_destroy(f->work);
    free(f);
    return 0;
}

static struct rb_policy_user *add_user(struct fixture *f, const char *name, const char *pass)
{
    rb_assert(f->policy->user_count < USERS_MAX);
    struct rb_policy_user *user = &f->users[f->policy->user_count++];
    user->name = rb_slice_text(name);
    user->pass = rb_slice_text(pass);
    user->types = RB_TYPE_ALL;
    return user;
}

static struct rb_policy_user *add_nkey(struct fixture *f)
{
    struct rb_policy_user *user = add_user(f, NULL, NULL);
    user->nkey = rb_slice_text(f->nkey_text);
    return user;
}

static struct rb_verdict judge(struct fixture *f, struct rb_auth_request request)
{
    int owner;
    struct rb_auth_wait *wait = NULL;
    if (!f->policy->sealed) {
        assert_int_equal(rb_policy_seal(f->policy), RB_OK);
    }
    request.type = request.type == 0 ? RB_TYPE_STANDARD : request.type;
    request.nonce = RB_S("nonce");
    struct rb_verdict verdict = rb_auth_begin(&f->context, &request, &owner, &wait);
    f->waited = verdict.kind == RB_VERDICT_LATER;
    assert_int_equal(f->waited, wait != NULL);
    if (f->waited) {
        struct rb_job *job = rb_work_done(f->work, 0);
        assert_non_null(job);
        assert_ptr_equal(rb_auth_wait_of(job), wait);
        assert_ptr_equal(rb_auth_wait_owner(wait), &owner);
        verdict = rb_auth_finish(wait);
    }
    assert_null(rb_work_done(f->work, 0));
    assert_int_equal(verdict.kind == RB_VERDICT_REFUSE, verdict.reason != NULL);
    return verdict;
}

/* The verdict of a judgement with these fields of struct rb_auth_request. */
#define JUDGE(f, ...) judge(f, (struct rb_auth_request){ __VA_ARGS__ })
#define ACCEPTS(f, ...) assert_int_equal(JUDGE(f, __VA_ARGS__).kind, RB_VERDICT_ACCEPT)
#define REFUSES(f, ...) assert_int_equal(JUDGE(f, __VA_ARGS__).kind, RB_VERDICT_REFUSE)

static void nothing_required_accepts_anything(void **state)
{
    struct fixture *f = *state;
    struct rb_verdict verdict = JUDGE(f, .user = RB_S("x"), .pass = RB_S("y"));
    assert_int_equal(verdict.kind, RB_VERDICT_ACCEPT);
    assert_int_equal(verdict.identity, RB_IDENTITY_NONE);
    assert_int_equal(verdict.account, 0);
    assert_null(verdict.permissions);
    assert_false(rb_policy_auth_required(f->policy, false));
    assert_false(rb_policy_nonce_required(f->policy));
}

static void login_by_token_or_user(void **state)
{
    struct fixture *f = *state;
    const struct rb_policy_login none = { .no_auth_user = -1 },
                                 token = { .token = RB_S("t"), .no_auth_user = -1 },
                                 user = { .user = RB_S("u"),
                                          .pass = RB_S("p"),
                                          .no_auth_user = -1 };
    f->policy->login = none;
    assert_false(rb_policy_auth_required(f->policy, false));
    ACCEPTS(f, .user = RB_S("x"));
    f->policy->login = token;
    assert_true(rb_policy_auth_required(f->policy, false));
    ACCEPTS(f, .token = RB_S("t"));
    REFUSES(f, .token = RB_S(""));
    f->policy->login = user;
    assert_true(rb_policy_auth_required(f->policy, false));
    ACCEPTS(f, .user = RB_S("u"), .pass = RB_S("p"));
    REFUSES(f, .user = RB_S("u"), .pass = RB_S("u"));
    REFUSES(f, .user = RB_S("p"), .pass = RB_S("p"));
}

static void token_and_single_user(void **state)
{
    struct fixture *f = *state;
    f->policy->login.token = RB_S("tok");
    f->policy->default_permissions = &f->permissions;
    struct rb_verdict verdict = JUDGE(f, .token = RB_S("tok"));
    assert_int_equal(verdict.identity, RB_IDENTITY_TOKEN);
    assert_int_equal(verdict.name.len, 0);
    assert_null(verdict.permissions);
    REFUSES(f, .token = RB_S("tok2"));
    REFUSES(f, .user = RB_S("tok"), .pass = RB_S("tok"));
    REFUSES(f, .name = RB_S("nothing"));
    assert_true(rb_policy_auth_required(f->policy, false));
    f->policy->login =
        (struct rb_policy_login){ .user = RB_S("u"), .pass = RB_S("p"), .no_auth_user = -1 };
    verdict = JUDGE(f, .user = RB_S("u"), .pass = RB_S("p"));
    assert_int_equal(verdict.identity, RB_IDENTITY_USER);
    assert_true(rb_slice_equal(verdict.name, RB_S("u")));
    assert_null(verdict.permissions);
    REFUSES(f, .user = RB_S("u"), .pass = RB_S("q"));
    REFUSES(f, .user = RB_S("v"), .pass = RB_S("p"));
    REFUSES(f, .pass = RB_S("p"));
    REFUSES(f, .token = RB_S("p"));
}

static void hashes_of_token_and_single_user(void **state)
{
    struct fixture *f = *state;
    f->policy->login.token = RB_S(HORSE);
    ACCEPTS(f, .token = RB_S("correct horse"));
    assert_true(f->waited);
    REFUSES(f, .token = RB_S(HORSE)); /* the hash itself is no secret */
    assert_true(f->waited);
    REFUSES(f, .user = RB_S("x"));
    assert_false(f->waited);
    f->policy->login.token = RB_S("");
    f->policy->login.user = RB_S("u");
    f->policy->login.pass = RB_S(HORSE);
    ACCEPTS(f, .user = RB_S("u"), .pass = RB_S("correct horse"));
    REFUSES(f, .user = RB_S("u"), .pass = RB_S("wrong"));
    REFUSES(f, .user = RB_S("v"), .pass = RB_S("correct horse"));
    assert_true(f->waited); /* an unknown name takes as long */
}

static void users_by_name(void **state)
{
    struct fixture *f = *state;
    struct rb_policy_user *ann = add_user(f, "ann", "a"), *web = add_user(f, "web", "w");
    ann->account = 2;
    ann->permissions = &f->permissions;
    web->types = RB_TYPE_WEBSOCKET;
    struct rb_verdict verdict = JUDGE(f, .user = RB_S("ann"), .pass = RB_S("a"));
    assert_int_equal(verdict.kind, RB_VERDICT_ACCEPT);
    assert_int_equal(verdict.identity, RB_IDENTITY_USER);
    assert_int_equal(verdict.account, 2);
    assert_ptr_equal(verdict.user, ann);
    assert_ptr_equal(verdict.permissions, &f->permissions);
    assert_true(rb_slice_equal(verdict.name, RB_S("ann")));
    REFUSES(f, .user = RB_S("ann"), .pass = RB_S("w"));
    REFUSES(f, .user = RB_S("bob"), .pass = RB_S("a"));
    assert_false(f->waited); /* no user has a hash: nothing is slow here */
    REFUSES(f, .user = RB_S("ann"));
    REFUSES(f, .pass = RB_S("a"));
    REFUSES(f, .token = RB_S("a"));
    REFUSES(f, .name = RB_S("x"));
    REFUSES(f, .nkey = rb_slice_text(f->nkey_text), .sig = rb_slice_text(f->sig_text));
    REFUSES(f, .user = RB_S("web"), .pass = RB_S("w"));
    ACCEPTS(f, .user = RB_S("web"), .pass = RB_S("w"), .type = RB_TYPE_WEBSOCKET);
    ACCEPTS(f, .user = RB_S("ann"), .pass = RB_S("a"), .jwt = RB_S("ignored"));
}

/* Each refusal by name takes a hash, whatever the reason: the time does not tell which names there are. */
static void refusals_by_name_take_equally_long(void **state)
{
    struct fixture *f = *state;
    add_user(f, "plain", "p");
    add_user(f, "hashed", HORSE);
    add_user(f, "web", "w")->types = RB_TYPE_WEBSOCKET;
    add_user(f, "proxied", "x")->proxy_required = true;
    static const char *const names[] = { "plain", "hashed", "web", "proxied", "unknown" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        REFUSES(f, .user = rb_slice_text(names[i]), .pass = RB_S("wrong"));
        assert_true(f->waited);
        /* The password of the stand-in opens nothing but its own door. */
        struct rb_verdict verdict =
            JUDGE(f, .user = rb_slice_text(names[i]), .pass = RB_S("correct horse"));
        assert_int_equal(verdict.kind, i == 1 ? RB_VERDICT_ACCEPT : RB_VERDICT_REFUSE);
        assert_true(f->waited);
    }
    assert_int_equal(JUDGE(f, .user = RB_S("proxied"), .pass = RB_S("x")).refusal,
                     RB_REFUSAL_PROXY_REQUIRED);
    ACCEPTS(f, .user = RB_S("plain"), .pass = RB_S("p"));
    assert_false(f->waited);
}

static void nkeys_sign_the_nonce(void **state)
{
    struct fixture *f = *state;
    add_user(f, "ann", "a");
    struct rb_policy_user *user = add_nkey(f);
    struct rb_slice nkey = rb_slice_text(f->nkey_text), sig = rb_slice_text(f->sig_text);
    struct rb_verdict verdict = JUDGE(f, .nkey = nkey, .sig = sig);
    assert_int_equal(verdict.kind, RB_VERDICT_ACCEPT);
    assert_int_equal(verdict.identity, RB_IDENTITY_NKEY);
    assert_ptr_equal(verdict.user, user);
    assert_true(rb_slice_equal(verdict.name, nkey));
    assert_true(rb_policy_nonce_required(f->policy));
    REFUSES(f, .nkey = nkey);
    REFUSES(f, .nkey = nkey, .sig = RB_S("AAAA"));
    f->sig_text[3] = f->sig_text[3] == 'A' ? 'B' : 'A';
    REFUSES(f, .nkey = nkey, .sig = sig);
    REFUSES(f, .nkey = nkey, .user = RB_S("ann"), .pass = RB_S("a")); /* no second chance */
    REFUSES(f, .nkey = RB_S("UUNKNOWN"), .user = RB_S("ann"), .pass = RB_S("a"));
    ACCEPTS(f, .user = RB_S("ann"), .pass = RB_S("a"));
    user->types = RB_TYPE_MQTT;
    REFUSES(f, .nkey = nkey, .sig = sig);
}

static void no_auth_user_named(void **state)
{
    struct fixture *f = *state;
    struct rb_policy_user *anonymous = add_user(f, "anon", "secret");
    add_user(f, "ann", "a");
    f->policy->login.no_auth_user = 0;
    assert_ptr_equal(JUDGE(f, .name = RB_S("x")).user, anonymous);
    assert_ptr_equal(JUDGE(f, .jwt = RB_S("x"), .sig = RB_S("y")).user, anonymous);
    assert_ptr_equal(JUDGE(f, .nkey = RB_S("Ux")).user,
                     anonymous); /* no nkeys here: not looked at */
    assert_ptr_equal(rb_auth_anonymous(f->policy, false, RB_TYPE_STANDARD), anonymous);
    REFUSES(f, .user = RB_S("anon"));
    REFUSES(f, .pass = RB_S("secret"));
    REFUSES(f, .token = RB_S("x"));
    REFUSES(f, .user = RB_S("bob"));
    ACCEPTS(f, .user = RB_S("anon"), .pass = RB_S("secret"));
    anonymous->types = RB_TYPE_WEBSOCKET;
    REFUSES(f, .name = RB_S("x"));
    assert_null(rb_auth_anonymous(f->policy, false, RB_TYPE_STANDARD));
    anonymous->types = RB_TYPE_ALL;
    anonymous->pass = RB_S(HORSE);
    REFUSES(f, .name = RB_S("x"));
    assert_null(rb_auth_anonymous(f->policy, false, RB_TYPE_STANDARD));
}

static void no_auth_user_by_nkey(void **state)
{
    struct fixture *f = *state;
    struct rb_policy_user *anonymous = add_nkey(f);
    f->policy->login.no_auth_user = 0;
    assert_ptr_equal(JUDGE(f, .name = RB_S("x")).user, anonymous);
    assert_ptr_equal(JUDGE(f, .nkey = rb_slice_text(f->nkey_text)).user, anonymous);
    REFUSES(f, .nkey = RB_S("Ux"));
    REFUSES(f, .user = RB_S("x"));
}

static void empty_requests(void **state)
{
    struct rb_auth_request request = { .jwt = RB_S("x"), .sig = RB_S("y") };
    assert_true(rb_auth_request_empty(&request));
    struct rb_slice *fields[] = { &request.user, &request.pass, &request.token, &request.nkey };
    for (int i = 0; i < 4; i++) {
        *fields[i] = RB_S("x");
        assert_false(rb_auth_request_empty(&request));
        *fields[i] = RB_S("");
    }
}

static void a_websocket_block_of_its_own(void **state)
{
    struct fixture *f = *state;
    f->policy->websocket_login.overrides = true;
    f->policy->websocket_login.token = RB_S("web");
    ACCEPTS(f, .name = RB_S("x"));
    REFUSES(f, .websocket = true, .type = RB_TYPE_WEBSOCKET);
    ACCEPTS(f, .websocket = true, .type = RB_TYPE_WEBSOCKET, .token = RB_S("web"));
    assert_true(rb_policy_auth_required(f->policy, true));
    assert_false(rb_policy_auth_required(f->policy, false));
    f->policy->websocket_login.overrides = false;
    f->policy->login.token = RB_S("all");
    REFUSES(f, .websocket = true, .type = RB_TYPE_WEBSOCKET, .token = RB_S("web"));
    ACCEPTS(f, .websocket = true, .type = RB_TYPE_WEBSOCKET, .token = RB_S("all"));
}

static void certificates(void **state)
{
    struct fixture *f = *state;
    struct rb_policy_user *host = add_user(f, "host.a", ""), *both = add_user(f, "host.b", "pw");
    const struct rb_slice a = RB_S("host.a"), b = RB_S("host.b"), c = RB_S("host.c");
    const struct rb_auth_cert cert_a = { .dns_names = &a, .dns_count = 1 },
                              cert_b = { .dns_names = &b, .dns_count = 1 },
                              cert_c = { .dns_names = &c, .dns_count = 1 };
    f->policy->tls_map = true;
    assert_ptr_equal(JUDGE(f, .tls_map = true, .cert = &cert_a).user, host);
    assert_ptr_equal(JUDGE(f, .tls_map = true, .cert = &cert_a, .user = RB_S("host.b")).user, host);
    REFUSES(f, .tls_map = true, .cert = &cert_a, .pass = RB_S("x"));
    REFUSES(f, .tls_map = true, .cert = &cert_b);
    assert_ptr_equal(JUDGE(f, .tls_map = true, .cert = &cert_b, .pass = RB_S("pw")).user, both);
    REFUSES(f, .tls_map = true, .cert = &cert_c, .user = RB_S("host.b"), .pass = RB_S("pw"));
    REFUSES(f, .tls_map = true, .user = RB_S("host.b"), .pass = RB_S("pw"));
    /* On a listener that does not map, a user without a password cannot be had by name. */
    REFUSES(f, .user = RB_S("host.a"));
    ACCEPTS(f, .user = RB_S("host.b"), .pass = RB_S("pw"));
    host->types =
        RB_TYPE_WEBSOCKET; /* which does not map: then it is a user with an empty password */
    ACCEPTS(f, .user = RB_S("host.a"), .type = RB_TYPE_WEBSOCKET);
    f->policy->websocket_tls_map = true;
    REFUSES(f, .user = RB_S("host.a"), .type = RB_TYPE_WEBSOCKET);
}

static void proxies(void **state)
{
    struct fixture *f = *state;
    struct rb_slice keys[] = { RB_S("UBV5U7P6NIFRA3LE3SCIWV3IFLQCKH4PR77ZDUJ7QQIH7X36DI7M6O2F"),
                               rb_slice_text(f->nkey_text) };
    struct rb_slice sig = rb_slice_text(f->sig_text);
    add_user(f, "ann", "a")->proxy_required = true;
    REFUSES(f, .user = RB_S("ann"), .pass = RB_S("a"), .proxy_sig = sig); /* nobody is trusted */
    f->policy->proxies = keys;
    f->policy->proxy_count = 2;
    assert_true(rb_policy_nonce_required(f->policy));
    struct rb_verdict verdict = JUDGE(f, .user = RB_S("ann"), .pass = RB_S("a"), .proxy_sig = sig);
    assert_int_equal(verdict.kind, RB_VERDICT_ACCEPT);
    assert_ptr_equal(verdict.proxy.ptr, keys[1].ptr);
    verdict = JUDGE(f, .user = RB_S("ann"), .pass = RB_S("a"));
    assert_int_equal(verdict.refusal, RB_REFUSAL_PROXY_REQUIRED);
    f->policy->proxy_count = 1;
    verdict = JUDGE(f, .user = RB_S("ann"), .pass = RB_S("a"), .proxy_sig = sig);
    assert_int_equal(verdict.refusal, RB_REFUSAL_PROXY_NOT_TRUSTED);
}

static void a_single_user_may_need_a_proxy(void **state)
{
    struct fixture *f = *state;
    f->policy->login.token = RB_S("t");
    f->policy->proxy_required = true;
    assert_int_equal(JUDGE(f, .token = RB_S("t")).refusal, RB_REFUSAL_PROXY_REQUIRED);
}

static void a_full_queue_refuses(void **state)
{
    struct fixture *f = *state;
    f->policy->login.token = RB_S(HORSE);
    assert_int_equal(rb_policy_seal(f->policy), RB_OK);
    const struct rb_auth_request request = { .type = RB_TYPE_STANDARD, .token = RB_S("x") };
    struct rb_auth_wait *wait;
    uint32_t count = 0;
    while (rb_auth_begin(&f->context, &request, NULL, &wait).kind == RB_VERDICT_LATER) {
        rb_auth_cancel(wait); /* nobody wants to hash that often */
        count++;
    }
    assert_int_equal(count, RB_WORK_QUEUE_MAX);
    struct rb_job *job;
    while ((job = rb_work_done(f->work, 0)) != NULL) {
        assert_int_equal(rb_auth_finish(rb_auth_wait_of(job)).kind, RB_VERDICT_REFUSE);
        count--;
    }
    assert_int_equal(count, 0);
}

/* Also a right password is refused when the connection is gone. */
static void canceled_is_refused(void **state)
{
    struct fixture *f = *state;
    f->policy->login.token = RB_S(HORSE);
    assert_int_equal(rb_policy_seal(f->policy), RB_OK);
    const struct rb_auth_request request = { .type = RB_TYPE_STANDARD,
                                             .token = RB_S("correct horse") };
    for (int late = 0; late < 2; late++) {
        struct rb_auth_wait *wait;
        struct rb_verdict verdict = rb_auth_begin(&f->context, &request, NULL, &wait);
        assert_int_equal(verdict.kind, RB_VERDICT_LATER);
        if (late == 0) {
            rb_auth_cancel(wait);
        }
        assert_ptr_equal(rb_auth_wait_of(rb_work_done(f->work, 0)), wait);
        if (late == 1) {
            rb_auth_cancel(wait);
        }
        assert_int_equal(rb_auth_finish(wait).kind, RB_VERDICT_REFUSE);
    }
}

/* A hundred thousand users are found at once. */
static void many_users(void **state)
{
    struct fixture *f = *state;
    enum { MANY = 100000 };
    struct rb_policy_user *users = calloc(MANY, sizeof(*users));
    char(*names)[12] = calloc(MANY, sizeof(*names));
    assert_true(users != NULL && names != NULL);
    for (int i = 0; i < MANY; i++) {
        int len = snprintf(names[i], sizeof(names[i]), "user-%d", i);
        users[i] = (struct rb_policy_user){ .name = rb_slice_of(names[i], (size_t)len),
                                            .types = RB_TYPE_ALL };
    }
    f->policy->users = users;
    f->policy->user_count = MANY;
    assert_int_equal(rb_policy_seal(f->policy), RB_OK);
    for (int i = 0; i < MANY; i++) {
        assert_ptr_equal(rb_policy_user_by_name(f->policy, users[i].name), &users[i]);
    }
    assert_null(rb_policy_user_by_name(f->policy, RB_S("user-100000")));
    assert_null(rb_policy_user_by_name(f->policy, RB_S("")));
    assert_null(rb_policy_user_by_nkey(f->policy, RB_S("user-1")));
    assert_int_equal(rb_policy_account_by_name(f->policy, RB_S("APP")), 2);
    assert_int_equal(rb_policy_account_by_name(f->policy, RB_S("app")), -1);
    f->policy->users = f->users;
    f->policy->user_count = 0;
    free(names);
    free(users);
}

/* ------------------------------------------------------------------ the callback */

/* What the callback does, and what it saw. */
struct program {
    void (*act)(struct program *program, struct rb_auth_ticket *ticket);
    struct rb_auth_ticket *kept;
    struct rb_auth_grant grant;
    char seen_user[32], seen_ip[32], seen_type[16], seen_email[16];
    bool seen_signed;
    pthread_t thread;
};

static void decide(void *ctx, const struct rb_auth_offer *offer, struct rb_auth_ticket *ticket)
{
    struct program *program = ctx;
    rb_assert(offer == rb_auth_ticket_offer(ticket));
    snprintf(program->seen_user, sizeof(program->seen_user), "%s", offer->user);
    snprintf(program->seen_ip, sizeof(program->seen_ip), "%s", offer->peer_ip);
    snprintf(program->seen_type, sizeof(program->seen_type), "%s", offer->connection_type);
    snprintf(program->seen_email, sizeof(program->seen_email), "%s",
             offer->email_count > 0 ? offer->emails[0] : "");
    program->seen_signed = rb_auth_offer_signed(offer);
    program->act(program, ticket);
}

static void install(struct fixture *f, struct program *program)
{
    f->hook = (struct rb_auth_hook){ .decide = decide, .ctx = program };
    f->context.hook = &f->hook;
    f->policy->custom = true;
}

static void act_accept(struct program *program, struct rb_auth_ticket *ticket)
{
    rb_assert(rb_auth_ticket_accept(ticket, &program->grant) == RB_AUTH_ANSWERED);
    rb_assert(rb_auth_ticket_accept(ticket, &program->grant) == RB_AUTH_LATE);
    rb_assert(rb_auth_ticket_refuse(ticket, "twice") == RB_AUTH_LATE);
}

static void the_callback_grants(void **state)
{
    struct fixture *f = *state;
    const char *const publish[] = { "a.>" }, *const subscribe[] = { "b q", "c.*" };
    const struct rb_auth_rules rules = {
        .publish_allow = publish,
        .publish_allow_count = 1,
        .subscribe_allow = subscribe,
        .subscribe_allow_count = 2,
        .subscribe_deny = subscribe,
        .subscribe_deny_count = 0,
        .responses = true,
    };
    struct program program = { .act = act_accept,
                               .grant = { .user = "ann", .account = "APP", .rules = &rules } };
    const struct rb_slice email = RB_S("a@b.c");
    const struct rb_auth_cert cert = { .emails = &email, .email_count = 1, .der = RB_S("\1\2") };
    install(f, &program);
    add_user(f, "bob", "b"); /* is not looked at */
    struct rb_verdict verdict =
        JUDGE(f, .user = RB_S("bob"), .nkey = rb_slice_text(f->nkey_text), .cert = &cert,
              .sig = rb_slice_text(f->sig_text), .peer = { .family = 4, .ip = { 10, 0, 0, 7 } });
    assert_int_equal(verdict.kind, RB_VERDICT_ACCEPT);
    assert_false(f->waited);
    assert_int_equal(verdict.identity, RB_IDENTITY_CUSTOM);
    assert_int_equal(verdict.account, 2);
    assert_null(verdict.user);
    assert_true(rb_slice_equal(verdict.name, RB_S("ann")));
    const struct rb_permissions *permissions = verdict.permissions;
    assert_true(permissions->publish_allow.set && permissions->publish_allow.count == 1);
    assert_false(permissions->publish_deny.set);
    assert_true(permissions->subscribe_deny.set && permissions->subscribe_deny.count == 0);
    const struct rb_perm_entry *entries = permissions->subscribe_allow.entries;
    assert_true(rb_slice_equal(entries[0].subject, RB_S("b")));
    assert_true(rb_slice_equal(entries[0].queue, RB_S("q")));
    assert_true(rb_slice_equal(entries[1].subject, RB_S("c.*")) && entries[1].queue.len == 0);
    assert_true(permissions->responses && permissions->responses_max == 1);
    assert_int_equal(permissions->responses_ttl_ns, INT64_C(120000000000));
    rb_auth_custom_release(rb_auth_custom_hold(verdict.custom));
    rb_auth_custom_release(verdict.custom);
    assert_string_equal(program.seen_user, "bob");
    assert_string_equal(program.seen_ip, "10.0.0.7");
    assert_string_equal(program.seen_type, "STANDARD");
    assert_string_equal(program.seen_email, "a@b.c");
    assert_true(program.seen_signed);
    assert_true(rb_policy_nonce_required(f->policy) && rb_policy_auth_required(f->policy, false));
    assert_null(rb_auth_anonymous(f->policy, false, RB_TYPE_STANDARD));
}

static void act_refuse(struct program *program, struct rb_auth_ticket *ticket)
{
    rb_assert(rb_auth_ticket_refuse(ticket, "not\ntoday") == RB_AUTH_ANSWERED);
}

static void act_refuse_silently(struct program *program, struct rb_auth_ticket *ticket)
{
    rb_assert(rb_auth_ticket_refuse(ticket, NULL) == RB_AUTH_ANSWERED);
}

static void act_nothing(struct program *program, struct rb_auth_ticket *ticket)
{
}

static void act_keep_and_drop(struct program *program, struct rb_auth_ticket *ticket)
{
    rb_auth_ticket_keep(ticket);
    rb_auth_ticket_drop(ticket);
}

static void the_callback_refuses(void **state)
{
    struct fixture *f = *state;
    struct program program = { .act = act_refuse };
    install(f, &program);
    struct rb_verdict verdict = JUDGE(f, .user = RB_S("x"));
    assert_int_equal(verdict.kind, RB_VERDICT_REFUSE);
    assert_string_equal(verdict.reason, "not\\ntoday"); /* fit for a log line */
    rb_auth_custom_release(verdict.custom);
    void (*const silent[])(struct program *, struct rb_auth_ticket *) = { act_refuse_silently,
                                                                          act_nothing,
                                                                          act_keep_and_drop };
    for (size_t i = 0; i < 3; i++) {
        program.act = silent[i];
        verdict = JUDGE(f, .user = RB_S("x"));
        assert_int_equal(verdict.kind, RB_VERDICT_REFUSE);
        assert_false(f->waited);
        assert_null(verdict.custom);
    }
    REFUSES(f, .user = RB_S("x\0y")); /* would look like "x" */
    f->context.hook = NULL;
    REFUSES(f, .user = RB_S("x"));
}

static void act_try_bad_grants(struct program *program, struct rb_auth_ticket *ticket)
{
    static const char *const bad[] = { "",      ".",     "a.", ".a",   "a..b", ">.a",
                                       "a.>.b", "a b c", " a", "a\tb", "a ",   NULL };
    static char long_text[RB_AUTH_SUBJECT_BYTES_MAX + 2];
    memset(long_text, 'x', sizeof(long_text) - 1);
    struct rb_auth_grant grant = { .account = "NONE" };
    rb_assert(rb_auth_ticket_accept(ticket, &grant) == RB_AUTH_UNKNOWN_ACCOUNT);
    grant = (struct rb_auth_grant){ .user = long_text };
    rb_assert(rb_auth_ticket_accept(ticket, &grant) == RB_AUTH_BAD_NAME);
    grant.user = "a\nb";
    rb_assert(rb_auth_ticket_accept(ticket, &grant) == RB_AUTH_BAD_NAME);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const struct rb_auth_rules rules = { .subscribe_deny = &bad[i], .subscribe_deny_count = 1 };
        grant = (struct rb_auth_grant){ .rules = &rules };
        rb_assert(rb_auth_ticket_accept(ticket, &grant) == RB_AUTH_BAD_SUBJECT);
    }
    const char *const queue = "a q", *const long_subject = long_text;
    struct rb_auth_rules rules = { .publish_deny = &queue, .publish_deny_count = 1 };
    grant.rules = &rules;
    rb_assert(rb_auth_ticket_accept(ticket, &grant) == RB_AUTH_BAD_SUBJECT);
    rules.publish_deny = &long_subject;
    rb_assert(rb_auth_ticket_accept(ticket, &grant) == RB_AUTH_BAD_SUBJECT);
    rules.publish_deny = NULL;
    rb_assert(rb_auth_ticket_accept(ticket, &grant) == RB_AUTH_BAD_SUBJECT); /* NULL with a count */
    rules.publish_deny = &queue;
    rules.publish_deny_count = RB_AUTH_SUBJECTS_MAX + 1;
    rb_assert(rb_auth_ticket_accept(ticket, &grant) == RB_AUTH_BAD_SUBJECT);
    act_accept(program, ticket); /* the client still waits */
}

static void bad_grants_leave_the_ticket_open(void **state)
{
    struct fixture *f = *state;
    struct program program = { .act = act_try_bad_grants };
    install(f, &program);
    struct rb_verdict verdict = JUDGE(f, .user = RB_S("x"));
    assert_int_equal(verdict.kind, RB_VERDICT_ACCEPT);
    assert_int_equal(verdict.account, 0);
    assert_true(verdict.name.len == 0 && verdict.permissions == NULL);
    rb_auth_custom_release(verdict.custom);
}

static void act_keep(struct program *program, struct rb_auth_ticket *ticket)
{
    rb_auth_ticket_keep(ticket);
    program->kept = ticket;
}

/* Starts a wait whose ticket the program keeps. */
static struct rb_auth_wait *begin_kept(struct fixture *f, struct program *program)
{
    const struct rb_auth_request request = { .type = RB_TYPE_WEBSOCKET, .user = RB_S("late") };
    struct rb_auth_wait *wait = NULL;
    program->act = act_keep;
    install(f, program);
    if (!f->policy->sealed) {
        assert_int_equal(rb_policy_seal(f->policy), RB_OK);
    }
    assert_int_equal(rb_auth_begin(&f->context, &request, NULL, &wait).kind, RB_VERDICT_LATER);
    assert_null(rb_work_done(f->work, 0));
    return wait;
}

static struct rb_verdict come_home(struct fixture *f, struct rb_auth_wait *wait)
{
    struct rb_job *job;
    while ((job = rb_work_done(f->work, 0)) == NULL) {
        sched_yield();
    }
    assert_ptr_equal(rb_auth_wait_of(job), wait);
    assert_null(rb_work_done(f->work, 0));
    return rb_auth_finish(wait);
}

static void answers_that_come_later(void **state)
{
    struct fixture *f = *state;
    struct program program = { .grant = { .user = "ann" } };
    struct rb_auth_wait *wait = begin_kept(f, &program);
    assert_string_equal(rb_auth_ticket_offer(program.kept)->user, "late");
    assert_string_equal(rb_auth_ticket_offer(program.kept)->connection_type, "WEBSOCKET");
    assert_int_equal(rb_auth_ticket_accept(program.kept, &program.grant), RB_AUTH_ANSWERED);
    struct rb_verdict verdict = come_home(f, wait);
    assert_int_equal(verdict.kind, RB_VERDICT_ACCEPT);
    assert_true(rb_slice_equal(verdict.name, RB_S("ann")));
    rb_auth_custom_release(verdict.custom);
    assert_int_equal(rb_auth_ticket_accept(program.kept, &program.grant), RB_AUTH_LATE);
    assert_string_equal(rb_auth_ticket_offer(program.kept)->user, "late");
    rb_auth_ticket_drop(program.kept);
    wait = begin_kept(f, &program); /* let go of without an answer */
    rb_auth_ticket_drop(program.kept);
    assert_int_equal(come_home(f, wait).kind, RB_VERDICT_REFUSE);
}

/* The connection goes away, then the server; the program still has its ticket. */
static void answers_that_come_too_late(void **state)
{
    struct fixture *f = *state;
    struct program program = { 0 };
    struct rb_auth_wait *wait = begin_kept(f, &program);
    rb_auth_cancel(wait);
    assert_int_equal(rb_auth_ticket_accept(program.kept, &program.grant), RB_AUTH_LATE);
    assert_int_equal(come_home(f, wait).kind, RB_VERDICT_REFUSE);
    rb_policy_release(f->policy);
    rb_work_destroy(f->work);
    assert_int_equal(rb_auth_ticket_refuse(program.kept, "x"), RB_AUTH_LATE);
    rb_auth_ticket_keep(program.kept);
    rb_auth_ticket_drop(program.kept);
    assert_string_equal(rb_auth_ticket_offer(program.kept)->user, "late");
    rb_auth_ticket_drop(program.kept);
    /* Answered, but gone before the answer was taken. */
    setup_policy(f);
    const struct rb_work_options options = { .home_count = 1 };
    assert_int_equal(rb_work_create(&options, &f->work), RB_OK);
    f->context.work = f->work;
    wait = begin_kept(f, &program);
    assert_int_equal(rb_auth_ticket_accept(program.kept, &program.grant), RB_AUTH_ANSWERED);
    rb_auth_ticket_drop(program.kept);
    rb_auth_cancel(wait);
    assert_int_equal(come_home(f, wait).kind, RB_VERDICT_REFUSE);
}

static void *run_program(void *arg)
{
    struct program *program = arg;
    (void)rb_auth_ticket_accept(program->kept, &program->grant);
    rb_auth_ticket_drop(program->kept);
    return NULL;
}

static void act_in_a_thread(struct program *program, struct rb_auth_ticket *ticket)
{
    act_keep(program, ticket);
    rb_assert(pthread_create(&program->thread, NULL, run_program, program) == 0);
}

/* The program answers on a thread of its own while the connection may be given up: one of both counts. */
static void answers_race_with_the_end(void **state)
{
    struct fixture *f = *state;
    struct program program = { .act = act_in_a_thread, .grant = { .account = "APP" } };
    install(f, &program);
    assert_int_equal(rb_policy_seal(f->policy), RB_OK);
    const struct rb_auth_request request = { .type = RB_TYPE_STANDARD };
    for (int round = 0; round < 300; round++) {
        struct rb_auth_wait *wait = NULL;
        struct rb_verdict verdict = rb_auth_begin(&f->context, &request, NULL, &wait);
        if (verdict.kind == RB_VERDICT_LATER) {
            if (round % 2 == 0) {
                rb_auth_cancel(wait);
            }
            verdict = come_home(f, wait);
        }
        if (round % 2 == 1) {
            assert_int_equal(verdict.kind, RB_VERDICT_ACCEPT);
        }
        rb_auth_custom_release(verdict.custom);
        assert_int_equal(pthread_join(program.thread, NULL), 0);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(nothing_required_accepts_anything),
        TEST(login_by_token_or_user),
        TEST(token_and_single_user),
        TEST(hashes_of_token_and_single_user),
        TEST(users_by_name),
        TEST(refusals_by_name_take_equally_long),
        TEST(nkeys_sign_the_nonce),
        TEST(no_auth_user_named),
        TEST(no_auth_user_by_nkey),
        TEST(empty_requests),
        TEST(a_websocket_block_of_its_own),
        TEST(certificates),
        TEST(proxies),
        TEST(a_single_user_may_need_a_proxy),
        TEST(a_full_queue_refuses),
        TEST(canceled_is_refused),
        TEST(many_users),
        TEST(the_callback_grants),
        TEST(the_callback_refuses),
        TEST(bad_grants_leave_the_ticket_open),
        TEST(answers_that_come_later),
        TEST(answers_that_come_too_late),
        TEST(answers_race_with_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
