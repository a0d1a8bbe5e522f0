/* auth.h - the one question "who is this, and what may it do?", whatever proves it (docs/identities.md).
 *
 *   CONNECT --> rb_auth_begin --accept / refuse--> at once
 *                    `--later--> helper thread (bcrypt) or the embedding program --> rb_auth_finish --> accept / refuse
 *
 * One way to prove identity per file: password.c (single user, users, token; plain and bcrypt), nkey.c (Ed25519 over the
 * nonce), tlsmap.c (certificate to user), custom.c (the embedding program decides). All answer with a struct rb_verdict.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "auth/policy.h"
#include "base/work.h"
#include "ringbus/errors.h"
#include "ringbus/transport.h"

struct rb_tls_peer; /* tls/tls.h; auth reads the fields it needs through the accessors below */

/** The leaf's names, copied from rb_tls_peer by the caller; for tlsmap.c and callbacks. */
struct rb_auth_cert {
    const struct rb_slice *emails, *dns_names, *uris;
    uint32_t email_count, dns_count, uri_count;
    struct rb_slice subject, subject_raw, der;
};

/** What a connection brings. Slices are borrowed during rb_auth_begin only (copied when the answer comes later). */
struct rb_auth_request {
    uint32_t type;  /* one of RB_TYPE_* */
    bool websocket; /* judged by the websocket block's own login, if it has one */
    bool tls_map;   /* the listener has verify_and_map */
    /* `jwt` is ignored, but for a callback: there is no operator mode. `proxy_sig`: a trusted proxy's, over the nonce. */
    struct rb_slice user, pass, token, nkey, sig, jwt, name, lang, version, proxy_sig;
    struct rb_slice nonce;           /* as INFO gave it */
    const struct rb_auth_cert *cert; /* NULL: no client certificate (that was verified) */
    struct rb_addr peer;
    uint64_t cid;
};

enum rb_verdict_kind { RB_VERDICT_REFUSE, RB_VERDICT_ACCEPT, RB_VERDICT_LATER };

/** How the identity was proven: what logs and monitoring call it. */
enum rb_identity_kind {
    RB_IDENTITY_NONE, /* no authentication is required */
    RB_IDENTITY_USER,
    RB_IDENTITY_NKEY,
    RB_IDENTITY_TOKEN,
    RB_IDENTITY_CUSTOM,
};

/** Why not, where monitoring gives it a name of its own; on the wire all are `Authorization Violation`. */
enum rb_refusal {
    RB_REFUSAL_CREDENTIALS,       /* Authentication Failure */
    RB_REFUSAL_PROXY_NOT_TRUSTED, /* Proxy Not Trusted */
    RB_REFUSAL_PROXY_REQUIRED,    /* Proxy Required */
};

struct rb_verdict {
    enum rb_verdict_kind kind;
    enum rb_refusal refusal;
    enum rb_identity_kind identity;
    uint32_t account; /* index in policy->accounts */
    const struct rb_policy_user
        *user; /* lies in the policy; NULL for none, token, single user, custom */
    struct rb_slice
        name; /* user name or public nkey; never a token. In the policy, or in `custom` */
    const struct rb_permissions *permissions; /* in the policy, or in `custom`; NULL: everything */
    struct rb_auth_custom *
        custom; /* counted result of a callback; give back with rb_auth_custom_release. NULL otherwise */
    struct rb_slice
        proxy; /* public key of the trusted proxy that vouched; in the policy. Empty: none */
    const char *reason; /* of a refusal, for the log; static, or in `custom`; never a secret */
};

/** An answer that is awaited. Embedded in nothing: allocated by rb_auth_begin, freed by rb_auth_finish. */
struct rb_auth_wait;

/** Seam of the embedding program's callback; see custom.h for its use. */
struct rb_auth_hook;

struct rb_auth_context {
    const struct rb_policy *policy;
    struct rb_work *work;
    struct rb_auth_hook *hook; /* NULL: none */
    uint32_t home;             /* shard index */
};

/**
 * Judges. LATER: *ret_wait is set; its job comes back through rb_work_done(work, home) with kind RB_JOB_AUTH; `owner` is
 * what rb_auth_wait_owner then gives. The policy is held meanwhile.
 * Source: nats-server's order (client-protocol.md 19). Errors: memory refused counts as REFUSE.
 */
#define RB_JOB_AUTH 1
#define RB_JOB_TLS 2
struct rb_verdict rb_auth_begin(const struct rb_auth_context *context,
                                const struct rb_auth_request *request, void *owner,
                                struct rb_auth_wait **ret_wait);
void *rb_auth_wait_owner(const struct rb_auth_wait *wait);
/** The wait a finished job belongs to. */
struct rb_auth_wait *rb_auth_wait_of(struct rb_job *job);
/** Frees the wait and gives its verdict (never LATER), valid as long as the policy is held. */
struct rb_verdict rb_auth_finish(struct rb_auth_wait *wait);
/**
 * The connection is gone, or its time is up: a callback's answer is no longer waited for, a password no longer hashed. The
 * wait comes home all the same, once, and is finished as always; its verdict then is a refusal. Thread: the home's.
 */
void rb_auth_cancel(struct rb_auth_wait *wait);
/** True when CONNECT carries no user, password, token or nkey: then no_auth_user applies (a jwt alone does not count). */
bool rb_auth_request_empty(const struct rb_auth_request *request);
/**
 * The user a connection without credentials is bound to (no_auth_user), or NULL: none, not for this type, only through a
 * proxy, or, as in nats-server, with a bcrypt password. A first operation that is no CONNECT is judged with an empty request
 * when this is a named user (not an nkey's).
 */
const struct rb_policy_user *rb_auth_anonymous(const struct rb_policy *policy, bool websocket,
                                               uint32_t type);
struct rb_auth_custom *rb_auth_custom_hold(struct rb_auth_custom *custom);
void rb_auth_custom_release(struct rb_auth_custom *custom); /* NULL is allowed */
