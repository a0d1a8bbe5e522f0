/* keys.c - see keys.h. Secrets on the stack are wiped. */
#include "tls/keys.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include "ringbus/check.h"

#define HASH_BYTES_MAX 48
#define KEY_BYTES_MAX 32

static const struct rb_tls_aead newer[] = {
    { 0x1301, false, 16, 0, EVP_aes_128_gcm },
    { 0x1302, true, 32, 0, EVP_aes_256_gcm },
    { 0x1303, false, 32, 0, EVP_chacha20_poly1305 },
};
static const struct rb_tls_aead older[] = {
    { 0xc02b, false, 16, 8, EVP_aes_128_gcm },
    { 0xc02f, false, 16, 8, EVP_aes_128_gcm },
    { 0xc02c, true, 32, 8, EVP_aes_256_gcm },
    { 0xc030, true, 32, 8, EVP_aes_256_gcm },
    { 0xcca9, false, 32, 0, EVP_chacha20_poly1305 },
    { 0xcca8, false, 32, 0, EVP_chacha20_poly1305 },
    { 0x009c, false, 16, 8, EVP_aes_128_gcm },
    { 0x009d, true, 32, 8, EVP_aes_256_gcm },
};

const struct rb_tls_aead *rb_tls_aead_find(uint16_t version, uint16_t suite)
{
    const struct rb_tls_aead *table = version == 0x0304 ? newer : older;
    size_t count =
        version == 0x0304 ? sizeof(newer) / sizeof(newer[0]) : sizeof(older) / sizeof(older[0]);
    for (size_t i = 0; i < count; i++) {
        if (table[i].suite == suite) {
            return &table[i];
        }
    }
    return NULL;
}

static size_t hash_bytes(const struct rb_tls_aead *aead)
{
    return aead->sha384 ? 48 : 32;
}

static bool hmac(const struct rb_tls_aead *aead, const uint8_t *key, size_t key_len,
                 const uint8_t *data, size_t len, uint8_t out[HASH_BYTES_MAX])
{
    unsigned out_len = 0;
    uint8_t digest[EVP_MAX_MD_SIZE];
    bool ok = HMAC(aead->sha384 ? EVP_sha384() : EVP_sha256(), key, (int)key_len, data, len, digest,
                   &out_len) != NULL;
    if (ok) {
        memcpy(out, digest, hash_bytes(aead));
    }
    OPENSSL_cleanse(digest, sizeof(digest));
    return ok;
}

static bool set_key(const struct rb_tls_aead *aead, struct rb_tls_half *half, const uint8_t *key)
{
    if (half->cipher == NULL) {
        half->cipher = EVP_CIPHER_CTX_new();
    }
    return half->cipher != NULL && EVP_CipherInit_ex(half->cipher, aead->cipher(), NULL, key, NULL,
                                                     half->encrypts ? 1 : 0) == 1;
}

void rb_tls_half_deinit(struct rb_tls_half *half)
{
    EVP_CIPHER_CTX_free(half->cipher);
    OPENSSL_cleanse(half, sizeof(*half));
    half->cipher = NULL;
}

/* ---------------------------------------------------------------- TLS 1.2 */

/* P_hash of RFC 5246 section 5. */
static bool expand_older(const struct rb_tls_aead *aead, const struct rb_tls_agreed *agreed,
                         const uint8_t *seed, size_t seed_len, uint8_t *out, size_t out_len)
{
    uint8_t data[HASH_BYTES_MAX + 128], chain[HASH_BYTES_MAX], block[HASH_BYTES_MAX];
    size_t hash_len = hash_bytes(aead);
    rb_assert(seed_len <= sizeof(data) - HASH_BYTES_MAX);
    bool ok = hmac(aead, agreed->read_secret, agreed->secret_len, seed, seed_len, chain);
    for (size_t at = 0; ok && at < out_len; at += hash_len) {
        memcpy(data, chain, hash_len);
        memcpy(data + hash_len, seed, seed_len);
        ok =
            hmac(aead, agreed->read_secret, agreed->secret_len, data, hash_len + seed_len, block) &&
            hmac(aead, agreed->read_secret, agreed->secret_len, chain, hash_len, chain);
        if (ok) {
            memcpy(out + at, block, out_len - at < hash_len ? out_len - at : hash_len);
        }
    }
    OPENSSL_cleanse(data, sizeof(data));
    OPENSSL_cleanse(chain, sizeof(chain));
    OPENSSL_cleanse(block, sizeof(block));
    return ok;
}

bool rb_tls_keys_older(const struct rb_tls_aead *aead, const struct rb_tls_agreed *agreed,
                       struct rb_tls_half *read, struct rb_tls_half *write)
{
    static const char label[] = "key expansion";
    size_t label_len = sizeof(label) - 1, fixed_len = RB_TLS_IV_BYTES - aead->explicit_bytes;
    uint8_t seed[sizeof(label) - 1 + 64], block[2 * (KEY_BYTES_MAX + RB_TLS_IV_BYTES)];
    memcpy(seed, label, label_len);
    memcpy(seed + label_len, agreed->server_random, 32);
    memcpy(seed + label_len + 32, agreed->client_random, 32);
    size_t key_len = aead->key_bytes;
    bool ok = expand_older(aead, agreed, seed, sizeof(seed), block, 2 * (key_len + fixed_len)) &&
              set_key(aead, read, block) && set_key(aead, write, block + key_len);
    if (ok) { /* client key, server key, client IV, server IV */
        memcpy(read->iv, block + 2 * key_len, fixed_len);
        memcpy(write->iv, block + 2 * key_len + fixed_len, fixed_len);
        read->sequence = write->sequence = 1; /* 0 was Finished */
    }
    OPENSSL_cleanse(block, sizeof(block));
    return ok;
}

/* ---------------------------------------------------------------- TLS 1.3 */

/* HKDF-Expand-Label without context, for outputs of one block at most. */
static bool expand_newer(const struct rb_tls_aead *aead, const uint8_t *secret, const char *label,
                         uint8_t *out, size_t out_len)
{
    uint8_t info[64], block[HASH_BYTES_MAX];
    size_t label_len = strlen(label), len = 0;
    rb_assert(out_len <= hash_bytes(aead) && label_len < 32);
    info[len++] = 0;
    info[len++] = (uint8_t)out_len;
    info[len++] = (uint8_t)(label_len + 6);
    memcpy(info + len, "tls13 ", 6);
    memcpy(info + len + 6, label, label_len);
    len += 6 + label_len;
    info[len++] = 0; /* no context */
    info[len++] = 1; /* the first block */
    bool ok = hmac(aead, secret, hash_bytes(aead), info, len, block);
    if (ok) {
        memcpy(out, block, out_len);
    }
    OPENSSL_cleanse(block, sizeof(block));
    return ok;
}

bool rb_tls_keys_newer(const struct rb_tls_aead *aead, struct rb_tls_half *half)
{
    uint8_t key[KEY_BYTES_MAX];
    bool ok = expand_newer(aead, half->secret, "key", key, aead->key_bytes) &&
              expand_newer(aead, half->secret, "iv", half->iv, sizeof(half->iv)) &&
              set_key(aead, half, key);
    OPENSSL_cleanse(key, sizeof(key));
    half->sequence = 0;
    return ok;
}

bool rb_tls_keys_update(const struct rb_tls_aead *aead, struct rb_tls_half *half)
{
    return expand_newer(aead, half->secret, "traffic upd", half->secret, hash_bytes(aead)) &&
           rb_tls_keys_newer(aead, half);
}
