/* auth.h - a program that embeds ringbus decides itself who its clients are. For C and C++.
 *
 *   client's CONNECT --> your `decide` --accept or refuse, inside the call-------> the server goes on
 *                              `--keep the ticket--> ... later, any thread ... --^
 *
 * While a callback is installed it alone decides: users, tokens and the like of the configuration are not looked at. The
 * server then sends every client a nonce.
 *
 * 1. A ticket stands for one waiting connection. It is yours during the call; to answer later, keep it (rb_auth_ticket_keep)
 *    and let go of it (rb_auth_ticket_drop) as often. The offer is readable as long as the ticket is kept.
 * 2. The first answer counts. A second one, one after the client has gone or its time was up (`authorization { timeout }`), or
 *    after the server was stopped, changes nothing and returns RB_AUTH_LATE.
 * 3. A ticket that is neither answered nor kept is a refusal. One that is kept and never answered costs its connection when
 *    the time is up, and its memory until it is dropped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef RB_API
#define RB_API __attribute__((visibility("default")))
#endif

/** What a client shows. Texts end with NUL and are never NULL; "" when not given. */
struct rb_auth_offer {
    uint64_t client_id;
    const char *
        connection_type; /* STANDARD, WEBSOCKET, LEAFNODE, LEAFNODE_WS, MQTT, MQTT_WS, IN_PROCESS */
    const char *peer_ip; /* "" in process */
    uint16_t peer_port;
    /* CONNECT. */
    const char *user, *pass, *token, *nkey, *signature, *jwt, *name, *lang, *version;
    const char *nonce; /* what `signature` was to be made over */
    /* The client's certificate, if it gave one that the server's CA signed; else NULL and 0. */
    const uint8_t *certificate;
    size_t certificate_bytes;
    const char *certificate_subject;
    const char *const *emails, *const *dns_names, *const *uris;
    uint32_t email_count, dns_count, uri_count;
};

#define RB_AUTH_SUBJECTS_MAX 4096      /* in one list */
#define RB_AUTH_SUBJECT_BYTES_MAX 1024 /* of one entry, and of a user's name */

/** What a client may do. A list that is NULL was not given; one that is given and has no entries matches nothing. */
struct rb_auth_rules {
    const char *const *publish_allow, *const *publish_deny;
    const char *const *subscribe_allow, *const *subscribe_deny; /* "subject" or "subject queue" */
    uint32_t publish_allow_count, publish_deny_count;
    uint32_t subscribe_allow_count, subscribe_deny_count;
    bool responses;           /* may publish to the reply subjects of what it received */
    int64_t responses_max;    /* messages per reply subject; 0: 1; -1: no limit */
    int64_t responses_ttl_ns; /* 0: 2 minutes; -1: no limit */
};

struct rb_auth_grant {
    const char *user;                  /* what logs and monitoring call it; NULL or "": nothing */
    const char *account;               /* NULL or "": "$G"; else an account of the configuration */
    const struct rb_auth_rules *rules; /* NULL: everything is permitted */
};

enum rb_auth_result {
    RB_AUTH_ANSWERED,
    RB_AUTH_LATE, /* see 2 */
    /* Of rb_auth_ticket_accept; the client still waits for an answer. */
    RB_AUTH_UNKNOWN_ACCOUNT,
    RB_AUTH_BAD_NAME,    /* a user's name that is too long, or has control characters */
    RB_AUTH_BAD_SUBJECT, /* too many, too long, or no subject */
    RB_AUTH_NO_MEMORY,
};

struct rb_auth_ticket;

/** Called from the server's threads, which wait for it: be quick, or keep the ticket and answer later. */
typedef void (*rb_auth_decide)(void *ctx, const struct rb_auth_offer *offer,
                               struct rb_auth_ticket *ticket);

/* All of these: any thread. */
RB_API const struct rb_auth_offer *rb_auth_ticket_offer(const struct rb_auth_ticket *ticket);
RB_API void rb_auth_ticket_keep(struct rb_auth_ticket *ticket);
RB_API void rb_auth_ticket_drop(struct rb_auth_ticket *ticket);
/** Copies what `grant` points to. */
RB_API enum rb_auth_result rb_auth_ticket_accept(struct rb_auth_ticket *ticket,
                                                 const struct rb_auth_grant *grant);
/** `reason` goes to the server's log, never to the client, and must hold no secret; at most 200 bytes of it. NULL: none. */
RB_API enum rb_auth_result rb_auth_ticket_refuse(struct rb_auth_ticket *ticket, const char *reason);
/** Is `signature` one over `nonce` by the owner of the public key `nkey`, and that a user's key ("U...")? */
RB_API bool rb_auth_offer_signed(const struct rb_auth_offer *offer);

#ifdef __cplusplus
}
#endif
