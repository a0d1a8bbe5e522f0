/* nkey.c - nkeys: their text form, and Ed25519 through OpenSSL.
 *
 * 1. Text is decoded strictly: exact length, upper case, no padding, no bits left over, right checksum. So each key has
 *    one text, and texts may be compared instead of keys.
 * 2. A seed's two first bytes hold 'S' (5 bits), the kind (8 bits) and 3 zero bits.
 * 3. What was secret is wiped before memory is given up.
 * 4. A refused signature leaves nothing in OpenSSL's error queue, which TLS on the same thread reads.
 * Source: RFC 4648 (base32, base64), RFC 8032 (Ed25519); checksum: CRC-16 with polynomial 0x1021 from 0, little-endian.
 */
#include "auth/nkey.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#include "ringbus/check.h"

#define PREFIX_SEED (18 << 3) /* S */
#define PUBLIC_BYTES (1 + RB_NKEY_RAW_BYTES + 2)
#define SEED_BYTES (2 + RB_NKEY_RAW_BYTES + 2)

/* ------------------------------------------------------------------ text */

static uint16_t checksum(const uint8_t *bytes, size_t len)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint32_t)bytes[i] << 8;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1;
        }
    }
    return (uint16_t)crc;
}

static void put_checksum(uint8_t *bytes, size_t len)
{
    uint16_t crc = checksum(bytes, len);
    bytes[len] = (uint8_t)crc;
    bytes[len + 1] = (uint8_t)(crc >> 8);
}

static bool checksum_ok(const uint8_t *bytes, size_t len)
{
    return checksum(bytes, len - 2) == (bytes[len - 2] | bytes[len - 1] << 8);
}

/* The value of one character of an alphabet of 32 or 64; -1 when it is none of it. */
static int digit_of(const char *alphabet, uint8_t c)
{
    const char *found = c == '\0' ? NULL : strchr(alphabet, c);
    return found == NULL ? -1 : (int)(found - alphabet);
}

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char base64_standard[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Fills exactly `len` bytes from all of `text`, `bits` a character. False: invariant 1. */
static bool decode(const char *alphabet, uint32_t bits, struct rb_slice text, uint8_t *out,
                   size_t len)
{
    if (text.len != (len * 8 + bits - 1) / bits) {
        return false;
    }
    uint32_t held = 0, held_bits = 0;
    size_t at = 0;
    for (size_t i = 0; i < text.len; i++) {
        int digit = digit_of(alphabet, text.ptr[i]);
        if (digit < 0) {
            return false;
        }
        held = (held << bits | (uint32_t)digit) & 0xffff;
        held_bits += bits;
        if (held_bits >= 8) {
            held_bits -= 8;
            out[at++] = (uint8_t)(held >> held_bits);
        }
    }
    return (held & ((1u << held_bits) - 1)) == 0;
}

/* The reverse; NUL-terminated. */
static void encode(const char *alphabet, uint32_t bits, const uint8_t *bytes, size_t len, char *out)
{
    uint32_t held = 0, held_bits = 0;
    for (size_t i = 0; i < len; i++) {
        held = (held << 8 | bytes[i]) & 0xffff;
        held_bits += 8;
        while (held_bits >= bits) {
            held_bits -= bits;
            *out++ = alphabet[held >> held_bits & ((1u << bits) - 1)];
        }
    }
    if (held_bits > 0) {
        *out++ = alphabet[held << (bits - held_bits) & ((1u << bits) - 1)];
    }
    *out = '\0';
}

static bool known_kind(uint8_t prefix)
{
    switch (prefix) {
    case RB_NKEY_ACCOUNT:
    case RB_NKEY_CLUSTER:
    case RB_NKEY_SERVER:
    case RB_NKEY_OPERATOR:
    case RB_NKEY_USER:
    case RB_NKEY_CURVE:
        return true;
    default:
        return false;
    }
}

enum rb_err rb_nkey_decode_public(struct rb_slice text, enum rb_nkey_kind *ret_kind,
                                  uint8_t ret_key[RB_NKEY_RAW_BYTES])
{
    uint8_t raw[PUBLIC_BYTES];
    if (!decode(base32, 5, text, raw, sizeof(raw)) || !checksum_ok(raw, sizeof(raw)) ||
        !known_kind(raw[0])) {
        return RB_ERR_INVALID;
    }
    *ret_kind = (enum rb_nkey_kind)raw[0];
    memcpy(ret_key, raw + 1, RB_NKEY_RAW_BYTES);
    return RB_OK;
}

bool rb_nkey_is_public(struct rb_slice text, enum rb_nkey_kind kind)
{
    enum rb_nkey_kind found;
    uint8_t key[RB_NKEY_RAW_BYTES];
    return rb_nkey_decode_public(text, &found, key) == RB_OK && found == kind;
}

bool rb_nkey_is_any_public(struct rb_slice text)
{
    enum rb_nkey_kind found;
    uint8_t key[RB_NKEY_RAW_BYTES];
    return rb_nkey_decode_public(text, &found, key) == RB_OK;
}

void rb_nkey_encode_public(enum rb_nkey_kind kind, const uint8_t key[RB_NKEY_RAW_BYTES],
                           char ret_text[RB_NKEY_PUBLIC_LEN + 1])
{
    uint8_t raw[PUBLIC_BYTES];
    raw[0] = (uint8_t)kind;
    memcpy(raw + 1, key, RB_NKEY_RAW_BYTES);
    put_checksum(raw, sizeof(raw) - 2);
    encode(base32, 5, raw, sizeof(raw), ret_text);
}

void rb_nkey_encode_seed(const struct rb_nkey *nkey, char ret_text[RB_NKEY_SEED_LEN + 1])
{
    uint8_t raw[SEED_BYTES], prefix = (uint8_t)nkey->kind;
    raw[0] = (uint8_t)(PREFIX_SEED | prefix >> 5); /* invariant 2 */
    raw[1] = (uint8_t)(prefix << 3);
    memcpy(raw + 2, nkey->seed, RB_NKEY_RAW_BYTES);
    put_checksum(raw, sizeof(raw) - 2);
    encode(base32, 5, raw, sizeof(raw), ret_text);
    OPENSSL_cleanse(raw, sizeof(raw));
}

/* ------------------------------------------------------------------ key pairs */

/* Completes a pair whose kind and seed are there. */
static enum rb_err derive_public(struct rb_nkey *nkey)
{
    int type = nkey->kind == RB_NKEY_CURVE ? EVP_PKEY_X25519 : EVP_PKEY_ED25519;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(type, NULL, nkey->seed, RB_NKEY_RAW_BYTES);
    size_t len = RB_NKEY_RAW_BYTES;
    bool ok = key != NULL && EVP_PKEY_get_raw_public_key(key, nkey->public_key, &len) == 1 &&
              len == RB_NKEY_RAW_BYTES;
    EVP_PKEY_free(key);
    return ok ? RB_OK : RB_ERR_MEMORY; /* any 32 bytes are a private key, so nothing else fails */
}

enum rb_err rb_nkey_from_seed(struct rb_slice text, struct rb_nkey *ret_nkey)
{
    uint8_t raw[SEED_BYTES];
    struct rb_nkey nkey = { 0 };
    enum rb_err err = RB_ERR_INVALID;
    if (decode(base32, 5, text, raw, sizeof(raw)) && checksum_ok(raw, sizeof(raw))) {
        uint8_t prefix = (uint8_t)(raw[0] << 5 | raw[1] >> 3);
        if ((raw[0] & 0xf8) == PREFIX_SEED && (raw[1] & 7) == 0 && known_kind(prefix)) {
            nkey.kind = (enum rb_nkey_kind)prefix;
            memcpy(nkey.seed, raw + 2, RB_NKEY_RAW_BYTES);
            err = derive_public(&nkey);
        }
    }
    if (err == RB_OK) {
        *ret_nkey = nkey;
    }
    rb_nkey_wipe(&nkey);
    OPENSSL_cleanse(raw, sizeof(raw));
    return err;
}

enum rb_err rb_nkey_generate(struct rb_env *env, enum rb_nkey_kind kind, struct rb_nkey *ret_nkey)
{
    rb_assert(known_kind((uint8_t)kind));
    struct rb_nkey nkey = { .kind = kind };
    env->entropy(env->ctx, nkey.seed, sizeof(nkey.seed));
    enum rb_err err = derive_public(&nkey);
    if (err == RB_OK) {
        *ret_nkey = nkey;
    }
    rb_nkey_wipe(&nkey);
    return err;
}

void rb_nkey_wipe(struct rb_nkey *nkey)
{
    OPENSSL_cleanse(nkey, sizeof(*nkey));
}

enum rb_err rb_nkey_server_id(struct rb_env *env, char ret_text[RB_NKEY_PUBLIC_LEN + 1])
{
    struct rb_nkey nkey;
    enum rb_err err = rb_nkey_generate(env, RB_NKEY_SERVER, &nkey);
    if (err == RB_OK) {
        rb_nkey_encode_public(RB_NKEY_SERVER, nkey.public_key, ret_text);
        rb_nkey_wipe(&nkey);
    }
    return err;
}

/* ------------------------------------------------------------------ signatures */

enum rb_err rb_nkey_sign(const struct rb_nkey *nkey, struct rb_slice message,
                         uint8_t ret_signature[RB_NKEY_SIGNATURE_BYTES])
{
    if (nkey->kind == RB_NKEY_CURVE) {
        return RB_ERR_INVALID;
    }
    EVP_PKEY *key =
        EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, nkey->seed, RB_NKEY_RAW_BYTES);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t signature[RB_NKEY_SIGNATURE_BYTES];
    size_t len = sizeof(signature);
    bool ok = key != NULL && ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestSign(ctx, signature, &len, message.ptr, message.len) == 1 &&
              len == sizeof(signature);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    if (!ok) {
        return RB_ERR_MEMORY;
    }
    memcpy(ret_signature, signature, sizeof(signature));
    return RB_OK;
}

bool rb_nkey_verify(const uint8_t key[RB_NKEY_RAW_BYTES], struct rb_slice message,
                    const uint8_t signature[RB_NKEY_SIGNATURE_BYTES])
{
    ERR_set_mark();
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, RB_NKEY_RAW_BYTES);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok =
        pkey != NULL && ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
        EVP_DigestVerify(ctx, signature, RB_NKEY_SIGNATURE_BYTES, message.ptr, message.len) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    ERR_pop_to_mark(); /* invariant 4 */
    return ok;
}

enum rb_err rb_nkey_decode_signature(struct rb_slice text, bool padded,
                                     uint8_t ret[RB_NKEY_SIGNATURE_BYTES])
{
    uint8_t raw[RB_NKEY_SIGNATURE_BYTES];
    bool ok = decode(base64_url, 6, text, raw, sizeof(raw));
    if (!ok && padded && text.len == RB_NKEY_SIGNATURE_LEN + 2 &&
        memcmp(text.ptr + RB_NKEY_SIGNATURE_LEN, "==", 2) == 0) {
        ok = decode(base64_standard, 6, rb_slice_of(text.ptr, RB_NKEY_SIGNATURE_LEN), raw,
                    sizeof(raw));
    }
    if (!ok) {
        return RB_ERR_INVALID;
    }
    memcpy(ret, raw, sizeof(raw));
    return RB_OK;
}

void rb_nkey_encode_signature(const uint8_t signature[RB_NKEY_SIGNATURE_BYTES],
                              char ret_text[RB_NKEY_SIGNATURE_LEN + 1])
{
    encode(base64_url, 6, signature, RB_NKEY_SIGNATURE_BYTES, ret_text);
}

bool rb_nkey_verify_text(struct rb_slice key, struct rb_slice message, struct rb_slice signature,
                         bool padded)
{
    enum rb_nkey_kind kind;
    uint8_t raw_key[RB_NKEY_RAW_BYTES], raw_signature[RB_NKEY_SIGNATURE_BYTES];
    return rb_nkey_decode_public(key, &kind, raw_key) == RB_OK &&
           rb_nkey_decode_signature(signature, padded, raw_signature) == RB_OK &&
           rb_nkey_verify(raw_key, message, raw_signature);
}
