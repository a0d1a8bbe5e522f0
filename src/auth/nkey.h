/* nkey.h - nkeys: Ed25519 keys as text, with a letter that says whose they are (docs/identities.md).
 *
 *   public key, 56 characters: base32( prefix | 32 bytes | CRC-16 )
 *   seed,       58 characters: base32( 'S' and prefix, 2 bytes | 32 bytes | CRC-16 )
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/env.h"
#include "ringbus/errors.h"
#include "ringbus/slice.h"

#define RB_NKEY_PUBLIC_LEN 56
#define RB_NKEY_SEED_LEN 58
#define RB_NKEY_RAW_BYTES 32
#define RB_NKEY_SIGNATURE_BYTES 64
#define RB_NKEY_SIGNATURE_LEN 86 /* base64url without padding */

/** Prefix bytes; the letter is the first of the text. */
enum rb_nkey_kind {
    RB_NKEY_ACCOUNT = 0,        /* A */
    RB_NKEY_CLUSTER = 2 << 3,   /* C */
    RB_NKEY_SERVER = 13 << 3,   /* N */
    RB_NKEY_OPERATOR = 14 << 3, /* O */
    RB_NKEY_USER = 20 << 3,     /* U */
    RB_NKEY_CURVE = 23 << 3,    /* X: X25519, for sealing, not for signing */
};

/** A key pair. Wipe it with rb_nkey_wipe. */
struct rb_nkey {
    enum rb_nkey_kind kind;
    uint8_t seed[RB_NKEY_RAW_BYTES], public_key[RB_NKEY_RAW_BYTES];
};

/** RB_ERR_INVALID: not a public key of any kind, a wrong checksum, lower case, another length. */
RB_MUST_CHECK enum rb_err rb_nkey_decode_public(struct rb_slice text, enum rb_nkey_kind *ret_kind,
                                                uint8_t ret_key[RB_NKEY_RAW_BYTES]);
/** True for a public key of that kind. */
bool rb_nkey_is_public(struct rb_slice text, enum rb_nkey_kind kind);
/** True for a public key of any kind. */
bool rb_nkey_is_any_public(struct rb_slice text);
void rb_nkey_encode_public(enum rb_nkey_kind kind, const uint8_t key[RB_NKEY_RAW_BYTES],
                           char ret_text[RB_NKEY_PUBLIC_LEN + 1]);

/** A seed and what follows from it. RB_ERR_INVALID: not a seed; RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_nkey_from_seed(struct rb_slice text, struct rb_nkey *ret_nkey);
/** A new pair from `env`'s entropy. RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_nkey_generate(struct rb_env *env, enum rb_nkey_kind kind,
                                           struct rb_nkey *ret_nkey);
void rb_nkey_encode_seed(const struct rb_nkey *nkey, char ret_text[RB_NKEY_SEED_LEN + 1]);
void rb_nkey_wipe(struct rb_nkey *nkey);
/** The "N..." id of a server, of a pair made for nothing else. RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_nkey_server_id(struct rb_env *env,
                                            char ret_text[RB_NKEY_PUBLIC_LEN + 1]);

/** RB_ERR_INVALID: a curve key cannot sign; RB_ERR_MEMORY. */
RB_MUST_CHECK enum rb_err rb_nkey_sign(const struct rb_nkey *nkey, struct rb_slice message,
                                       uint8_t ret_signature[RB_NKEY_SIGNATURE_BYTES]);
/** Ed25519 (RFC 8032). False also when memory is refused. Takes some 100 us. */
bool rb_nkey_verify(const uint8_t key[RB_NKEY_RAW_BYTES], struct rb_slice message,
                    const uint8_t signature[RB_NKEY_SIGNATURE_BYTES]);

/**
 * A signature in CONNECT: base64url without padding; `padded`: also standard base64 with it, as nats-server takes for users
 * and not for proxies. RB_ERR_INVALID.
 */
RB_MUST_CHECK enum rb_err rb_nkey_decode_signature(struct rb_slice text, bool padded,
                                                   uint8_t ret[RB_NKEY_SIGNATURE_BYTES]);
void rb_nkey_encode_signature(const uint8_t signature[RB_NKEY_SIGNATURE_BYTES],
                              char ret_text[RB_NKEY_SIGNATURE_LEN + 1]);
/** Did the owner of public key `key` sign `message`? All as text. */
bool rb_nkey_verify_text(struct rb_slice key, struct rb_slice message, struct rb_slice signature,
                         bool padded);
