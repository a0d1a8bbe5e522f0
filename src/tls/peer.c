/* peer.c - the peer's certificates.
 *
 * A connection keeps them as DER only, a fifth of what they take when parsed:
 *     tls->peer:  | 4 bytes: length | DER of the leaf | 4 bytes: length | DER | ...
 * and who asks gets them parsed afresh, in memory of his own.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "ringbus/check.h"
#include "tls/inside.h"

/* ---------------------------------------------------------------- fingerprints */

bool rb_tls_hex_sha256(const void *ptr, size_t len, char ret_hex[65])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    if (EVP_Digest(ptr, len, digest, &digest_len, EVP_sha256(), NULL) != 1) {
        return false;
    }
    rb_assert(digest_len == 32);
    for (size_t i = 0; i < 32; i++) {
        ret_hex[i * 2] = digits[digest[i] >> 4];
        ret_hex[i * 2 + 1] = digits[digest[i] & 15];
    }
    ret_hex[64] = '\0';
    return true;
}

bool rb_tls_spki_sha256(const X509 *cert, char ret_hex[65])
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    bool ok = len > 0 && rb_tls_hex_sha256(der, (size_t)len, ret_hex);
    OPENSSL_free(der);
    return ok;
}

bool rb_tls_cert_sha256(const X509 *cert, char ret_hex[65])
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    bool ok = len > 0 && rb_tls_hex_sha256(der, (size_t)len, ret_hex);
    OPENSSL_free(der);
    return ok;
}

/* ---------------------------------------------------------------- keeping */

/* Counts the bytes of `cert`, and writes them when there is room to. Returns where the next one
 * goes. */
static size_t put_cert(uint8_t *out, size_t at, X509 *cert)
{
    int len = i2d_X509(cert, NULL);
    if (len <= 0) {
        return at;
    }
    if (out != NULL) {
        uint32_t prefix = (uint32_t)len;
        memcpy(out + at, &prefix, sizeof(prefix));
        unsigned char *end = out + at + sizeof(prefix);
        i2d_X509(cert, &end);
    }
    return at + sizeof(uint32_t) + (size_t)len;
}

static size_t put_all(uint8_t *out, X509 *leaf, const STACK_OF(X509) * chain, int from)
{
    size_t at = put_cert(out, 0, leaf);
    for (int i = from; chain != NULL && i < sk_X509_num(chain); i++) {
        at = put_cert(out, at, sk_X509_value(chain, i));
    }
    return at;
}

bool rb_tls_peer_keep(struct rb_tls *tls)
{
    X509 *leaf = SSL_get0_peer_certificate(tls->ssl);
    if (leaf == NULL) {
        return true;
    }
    const STACK_OF(X509) *chain = SSL_get_peer_cert_chain(tls->ssl);
    int from = SSL_is_server(tls->ssl) == 1 ? 0 : 1; /* a client's list has the leaf in it */
    size_t bytes = put_all(NULL, leaf, chain, from);
    rb_assert(bytes > 0 && bytes < UINT32_MAX); /* see SSL_CTX_set_max_cert_list in context.c */
    tls->peer = malloc(bytes);
    if (tls->peer == NULL) {
        return false;
    }
    tls->peer_bytes = (uint32_t)put_all(tls->peer, leaf, chain, from);
    return true;
}

/* ---------------------------------------------------------------- reading */

/* All that a peer points to lies in blocks behind it. */
struct block {
    struct block *next;
    max_align_t bytes[];
};

struct whole {
    struct rb_tls_peer peer; /* first: what the caller sees */
    struct block *blocks;
};

static void *take(struct whole *whole, size_t bytes)
{
    struct block *block = calloc(1, sizeof(*block) + bytes);
    if (block == NULL) {
        return NULL;
    }
    block->next = whole->blocks;
    whole->blocks = block;
    return block->bytes;
}

static bool copy_bytes(struct whole *whole, const void *ptr, size_t len, struct rb_slice *ret_copy)
{
    uint8_t *copy = take(whole, len);
    if (copy == NULL) {
        return false;
    }
    if (len > 0) {
        memcpy(copy, ptr, len);
    }
    *ret_copy = rb_slice_of(copy, len);
    return true;
}

typedef bool (*dn_printer)(const X509_NAME *name, char **ret_text, size_t *ret_len);

static bool copy_dn(struct whole *whole, const X509 *cert, dn_printer print,
                    struct rb_slice *ret_copy)
{
    char *text = NULL;
    size_t len = 0;
    if (!print(X509_get_subject_name(cert), &text, &len)) {
        return false;
    }
    bool ok = copy_bytes(whole, text, len, ret_copy);
    free(text);
    return ok;
}

/* Copies the SANs of one kind. */
static bool read_names(struct whole *whole, const GENERAL_NAMES *names, int kind,
                       struct rb_slice **ret_slices, uint32_t *ret_count)
{
    int total = names == NULL ? 0 : sk_GENERAL_NAME_num(names);
    struct rb_slice *slices = take(whole, sizeof(*slices) * (size_t)(total + 1));
    uint32_t count = 0;
    if (slices == NULL) {
        return false;
    }
    for (int i = 0; i < total; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != kind) {
            continue;
        }
        const ASN1_STRING *value = name->d.ia5; /* the three kinds asked for share this type */
        if (!copy_bytes(whole, ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value),
                        &slices[count])) {
            return false;
        }
        count++;
    }
    *ret_slices = slices;
    *ret_count = count;
    return true;
}

static bool read_leaf(struct whole *whole, const X509 *leaf)
{
    struct rb_tls_peer *peer = &whole->peer;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    bool ok = read_names(whole, names, GEN_EMAIL, &peer->emails, &peer->email_count) &&
              read_names(whole, names, GEN_DNS, &peer->dns_names, &peer->dns_count) &&
              read_names(whole, names, GEN_URI, &peer->uris, &peer->uri_count);
    GENERAL_NAMES_free(names);
    return ok;
}

static bool read_cert(struct whole *whole, struct rb_slice der, struct rb_tls_cert *cert,
                      bool is_leaf)
{
    const unsigned char *at = der.ptr;
    X509 *parsed = d2i_X509(NULL, &at, (long)der.len);
    if (parsed == NULL) {
        return false;
    }
    bool ok = copy_bytes(whole, der.ptr, der.len, &cert->der) &&
              copy_dn(whole, parsed, rb_tls_dn_go, &cert->subject) &&
              copy_dn(whole, parsed, rb_tls_dn_raw, &cert->subject_raw) &&
              rb_tls_spki_sha256(parsed, cert->spki_sha256) &&
              rb_tls_hex_sha256(der.ptr, der.len, cert->cert_sha256) &&
              (!is_leaf || read_leaf(whole, parsed));
    X509_free(parsed);
    return ok;
}

/* Gives the certificate at *at and moves on. */
static struct rb_slice next_der(const struct rb_tls *tls, size_t *at)
{
    uint32_t len;
    memcpy(&len, tls->peer + *at, sizeof(len));
    struct rb_slice der = rb_slice_of(tls->peer + *at + sizeof(len), len);
    *at += sizeof(len) + len;
    rb_assert(*at <= tls->peer_bytes);
    return der;
}

static bool read_all(const struct rb_tls *tls, struct whole *whole)
{
    uint32_t count = 0;
    for (size_t at = 0; at < tls->peer_bytes; count++) {
        (void)next_der(tls, &at);
    }
    whole->peer.certs = take(whole, sizeof(*whole->peer.certs) * count);
    if (whole->peer.certs == NULL) {
        return false;
    }
    whole->peer.cert_count = count;
    whole->peer.verified = tls->verified;
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!read_cert(whole, next_der(tls, &at), &whole->peer.certs[i], i == 0)) {
            return false;
        }
    }
    return true;
}

struct rb_tls_peer *rb_tls_peer_read(const struct rb_tls *tls)
{
    if (tls->peer == NULL) {
        return NULL;
    }
    struct whole *whole = calloc(1, sizeof(*whole));
    if (whole == NULL) {
        return NULL;
    }
    ERR_clear_error();
    bool ok = read_all(tls, whole);
    ERR_clear_error();
    if (!ok) {
        rb_tls_peer_free(&whole->peer);
        return NULL;
    }
    return &whole->peer;
}

void rb_tls_peer_free(struct rb_tls_peer *peer)
{
    if (peer == NULL) {
        return;
    }
    struct whole *whole = (struct whole *)peer; /* the peer is its first member */
    struct block *next;
    for (struct block *block = whole->blocks; block != NULL; block = next) {
        next = block->next;
        free(block);
    }
    free(whole);
}
