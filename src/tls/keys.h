/* keys.h - traffic keys: from secrets to ciphers, one direction at a time (RFC 5246 6.3, RFC
 * 8446 7). */
#pragma once

#include <openssl/evp.h>

#include "ringbus/errors.h"
#include "tls/record.h"

#define RB_TLS_IV_BYTES 12
#define RB_TLS_TAG_BYTES 16

/** One of the suites that record.c can do. */
struct rb_tls_aead {
    uint16_t suite;
    bool sha384;
    uint8_t key_bytes;
    uint8_t explicit_bytes; /* of the nonce, sent with each record */
    const EVP_CIPHER *(*cipher)(void);
};

/** NULL: not an AEAD of this version. */
const struct rb_tls_aead *rb_tls_aead_find(uint16_t version, uint16_t suite);

/** One direction. */
struct rb_tls_half {
    EVP_CIPHER_CTX *cipher;
    uint64_t sequence;
    uint8_t iv[RB_TLS_IV_BYTES];
    uint8_t secret[48]; /* TLS 1.3 */
    bool encrypts;
};

/** Both directions of TLS 1.2; the Finished messages have been sent. False: no memory. */
bool rb_tls_keys_older(const struct rb_tls_aead *aead, const struct rb_tls_agreed *agreed,
                       struct rb_tls_half *read, struct rb_tls_half *write);
/** One direction of TLS 1.3 from half->secret; counts from 0. */
bool rb_tls_keys_newer(const struct rb_tls_aead *aead, struct rb_tls_half *half);
/** The next generation, after a KeyUpdate. */
bool rb_tls_keys_update(const struct rb_tls_aead *aead, struct rb_tls_half *half);
void rb_tls_half_deinit(struct rb_tls_half *half);
