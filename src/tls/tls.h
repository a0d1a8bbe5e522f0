/* tls.h - TLS over memory: ciphertext in, plaintext out, and back; no descriptor, no clock (docs/tls.md).
 *
 * A context is immutable, counted by atomic references and shared by all shards; a reload makes a new one. A connection's
 * struct rb_tls belongs to one thread at a time: a shard, or a helper thread during a handshake step.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/slice.h"

struct rb_tls_context;
struct rb_tls;

#define RB_TLS_CERTS_MAX 16

/** What a `tls {}` block says. Strings are borrowed during the call; NULL or 0: not given. */
struct rb_tls_options {
    const char *cert_file, *key_file, *ca_file;
    struct {
        const char *cert_file, *key_file;
    } certs
        [RB_TLS_CERTS_MAX]; /* further pairs; the one that fits SNI and the peer's algorithms is used */
    uint32_t cert_count;
    bool verify;                /* a client certificate is required and checked against ca_file */
    const char *min_version;    /* "1.2" (default) or "1.3"; anything else is refused */
    const char *const *ciphers; /* Go's names (cipher_suites); count 0: default */
    uint32_t cipher_count;
    const char *const *curves; /* Go's names (curve_preferences) */
    uint32_t curve_count;
    const char *const *pinned; /* lower-case hex SHA-256 of the leaf's SubjectPublicKeyInfo */
    uint32_t pinned_count;
    bool client;   /* dials (tests, later routes); server otherwise */
    bool insecure; /* client only: do not verify the peer */
};

/**
 * Reads the files. Errors: RB_ERR_INVALID with `error` naming file, option and reason (nats-server's texts where a
 * user sees them), RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_tls_context_create(const struct rb_tls_options *options,
                                                struct rb_tls_context **ret_context, char *error,
                                                size_t error_cap);
struct rb_tls_context *rb_tls_context_hold(struct rb_tls_context *context);
void rb_tls_context_release(struct rb_tls_context *context); /* NULL is allowed */
/** Earliest notAfter of the leaf certificates, seconds since 1970; 0: none. */
int64_t rb_tls_context_not_after(const struct rb_tls_context *context);
bool rb_tls_context_verifies(const struct rb_tls_context *context);
/** False: there are pinned certificates, and `spki_sha256` (lower-case hex; "" for no certificate) is none of them. */
bool rb_tls_context_pins(const struct rb_tls_context *context, const char *spki_sha256);

/** Takes ciphertext that is to be sent. False: memory refused; the call then fails with RB_TLS_FAILED. */
typedef bool (*rb_tls_sink)(void *ctx, const uint8_t *bytes, size_t len);

enum rb_tls_result {
    RB_TLS_DONE,   /* handshake: complete. read: bytes were given */
    RB_TLS_MORE,   /* all input was taken; come back with more */
    RB_TLS_CLOSED, /* the peer said close_notify */
    RB_TLS_FAILED, /* see rb_tls_error; an alert may have gone to the sink */
};

/** Holds the context. RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_tls_create(struct rb_tls_context *context, struct rb_tls **ret_tls);
void rb_tls_destroy(struct rb_tls *tls); /* NULL is allowed */
/** Client only, before the handshake: the name for SNI and for verification. */
RB_MUST_CHECK enum rb_err rb_tls_set_host(struct rb_tls *tls, const char *host);

/**
 * Expensive (private key operations): run it on a helper thread. Takes from the front of *in.
 * CLOSED: the peer said close_notify instead.
 */
enum rb_tls_result rb_tls_handshake(struct rb_tls *tls, struct rb_slice *in, rb_tls_sink sink,
                                    void *ctx);
/** Decrypts into `out`; takes from the front of *in. DONE: *ret_len > 0. Call again until MORE. */
enum rb_tls_result rb_tls_read(struct rb_tls *tls, struct rb_slice *in, uint8_t *out, size_t cap,
                               size_t *ret_len, rb_tls_sink sink, void *ctx);
/** Encrypts all of `plain`. DONE or FAILED. */
enum rb_tls_result rb_tls_write(struct rb_tls *tls, struct rb_slice plain, rb_tls_sink sink,
                                void *ctx);
/** close_notify. */
void rb_tls_shutdown(struct rb_tls *tls, rb_tls_sink sink, void *ctx);
/** Why it failed: in the words of Go's crypto/tls where those are known, else OpenSSL's. Never secrets. */
const char *rb_tls_error(const struct rb_tls *tls);

/** After the handshake. "1.2" or "1.3"; Go's name of the suite, like "TLS_AES_128_GCM_SHA256". */
const char *rb_tls_version(const struct rb_tls *tls);
const char *rb_tls_cipher(const struct rb_tls *tls);

/** A peer certificate, for verify_and_map, connz and callbacks. Slices lie in the rb_tls_peer. */
struct rb_tls_cert {
    struct rb_slice der;
    struct rb_slice subject; /* RFC 2253 text, as Go's pkix.Name.String() prints it */
    /* All RDNs, the certificate's last one first ("CN=x,OU=y"), as nats-server matches DNs. Empty:
     * one has a type that nats-server has no short name for, and the DN cannot be matched. */
    struct rb_slice subject_raw;
    char spki_sha256[65], cert_sha256[65];
};
struct rb_tls_peer {
    struct rb_tls_cert *certs; /* leaf first */
    uint32_t cert_count;
    /* Of the leaf, in nats-server's order of trial for verify_and_map. */
    struct rb_slice *emails, *dns_names, *uris;
    uint32_t email_count, dns_count, uri_count;
    bool verified;
};
/** NULL: the peer gave no certificate, or memory was refused. Free with rb_tls_peer_free. */
struct rb_tls_peer *rb_tls_peer_read(const struct rb_tls *tls);
void rb_tls_peer_free(struct rb_tls_peer *peer);
