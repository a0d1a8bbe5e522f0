/* record.h - the record layer of a server after its handshake, for the AEAD suites
 * (docs/tls.md). */
#pragma once

#include "tls/tls.h"

struct rb_tls_records;

/** What OpenSSL has agreed on. */
struct rb_tls_agreed {
    uint16_t version, suite; /* as on the wire */
    /* TLS 1.3: traffic secrets. TLS 1.2: the master secret in read_secret, and the randoms. */
    uint8_t read_secret[64], write_secret[64];
    size_t secret_len;
    uint8_t client_random[32], server_random[32];
};

/** RB_ERR_UNSUPPORTED: the suite is not an AEAD; OpenSSL must go on itself. RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_tls_records_create(const struct rb_tls_agreed *agreed,
                                                struct rb_tls_records **ret_records);
void rb_tls_records_destroy(struct rb_tls_records *records); /* NULL is allowed */

/** Where a call takes from and gives to. */
struct rb_tls_flow {
    struct rb_slice *in;
    rb_tls_sink sink;
    void *sink_ctx;
    char *error; /* set with RB_TLS_FAILED */
    size_t error_cap;
};

/** As rb_tls_read(): what is read before a failure or an end is given first. */
enum rb_tls_result rb_tls_records_read(struct rb_tls_records *records, uint8_t *out, size_t cap,
                                       size_t *ret_len, const struct rb_tls_flow *flow);
enum rb_tls_result rb_tls_records_write(struct rb_tls_records *records, struct rb_slice plain,
                                        const struct rb_tls_flow *flow);
/** Sends close_notify. */
void rb_tls_records_close(struct rb_tls_records *records, const struct rb_tls_flow *flow);
