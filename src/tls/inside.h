/* inside.h - what the files of this folder know of each other. */
#pragma once

#include <stdatomic.h>

#include <openssl/ssl.h>

#include "tls/record.h"
#include "tls/tls.h"

/** A certificate of our own with its key and the rest of its chain. */
struct rb_tls_pair {
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain;
};

struct rb_tls_context {
    atomic_uint hold_count;
    bool client, verifies;
    SSL_CTX *ssl;
    BIO_METHOD *bio; /* belongs to the context: the library has no globals */
    struct rb_tls_pair pairs[RB_TLS_CERTS_MAX + 1];
    uint32_t pair_count;
    int64_t not_after;
    uint32_t pinned_count;
    char (*pinned)[65];
    int min_version; /* as on the wire */
};

enum rb_tls_state {
    RB_TLS_STATE_HANDSHAKE,
    RB_TLS_STATE_READY,
    RB_TLS_STATE_CLOSED, /* the peer said so; we may still write */
    RB_TLS_STATE_FAILED,
};

struct rb_tls {
    SSL *ssl;                       /* NULL once `records` has taken its place */
    struct rb_tls_records *records; /* NULL: OpenSSL's own record layer */
    struct rb_tls_agreed
        *agreed; /* TLS 1.3, during the handshake: secrets on their way to `records` */
    struct rb_tls_context *context;
    /* Borrowed, during one call only. */
    struct rb_slice *in;
    rb_tls_sink sink;
    void *sink_ctx;

    char *error;   /* NULL: nothing failed, or there was no memory to say what */
    uint8_t *peer; /* the peer's certificates: per certificate a length of 4 bytes and the DER */
    uint32_t peer_bytes;
    uint16_t version, suite; /* after the handshake, as on the wire */
    enum rb_tls_state state : 8;
    uint8_t first_len; /* how much of `first` is there */
    uint8_t first[7];  /* the peer's first record: header, and the alert if it is one */
    uint8_t alert_sent;
    bool sink_failed, host_set, verified, alert_was_sent, said_goodbye;
};

/* tls.c */
/** The connection behind `ssl`. */
struct rb_tls *rb_tls_of(const SSL *ssl);
/** Remembers the first reason only. */
__attribute__((format(printf, 2, 3))) void rb_tls_fail(struct rb_tls *tls, const char *format, ...);
BIO_METHOD *rb_tls_bio_method(void);
void rb_tls_info(const SSL *ssl, int where, int value);
void rb_tls_take_secret(const SSL *ssl, const char *line);

/* choose.c: callbacks of OpenSSL */
int rb_tls_choose_pair(SSL *ssl, void *context);
int rb_tls_check_hello(SSL *ssl, int *alert, void *context);

/* verify.c: a callback of OpenSSL */
int rb_tls_judge_peer(int ok, X509_STORE_CTX *store);

/* peer.c */
/** Copies what the peer sent into tls->peer. False: no memory. */
bool rb_tls_peer_keep(struct rb_tls *tls);
/** Lower-case hex of SHA-256. False: no memory. */
bool rb_tls_hex_sha256(const void *ptr, size_t len, char ret_hex[65]);
bool rb_tls_spki_sha256(const X509 *cert, char ret_hex[65]);
bool rb_tls_cert_sha256(const X509 *cert, char ret_hex[65]);

/* dn.c: names as text; *ret_text is NUL-terminated and to be freed with free(). False: no
 * memory. */
bool rb_tls_dn_go(const X509_NAME *name, char **ret_text, size_t *ret_len);
bool rb_tls_dn_raw(const X509_NAME *name, char **ret_text, size_t *ret_len);
