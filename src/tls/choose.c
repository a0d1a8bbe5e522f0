/* choose.c - what a server decides when it has read a ClientHello: is there a common version, and which certificate.
 *
 * A certificate is ranked by how its names meet the client's SNI, and among equals the first in the configuration wins:
 *     4 exact SAN, 3 wildcard SAN, 2 exact CN, 1 wildcard CN (CNs count only where there are no DNS SANs), 0 no match
 * Certificates that the client cannot use (signature algorithms, suites of TLS 1.2) are left out; when that leaves none,
 * the first one is used and OpenSSL says what is missing.
 */
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls/inside.h"

#define VERSION_OLDEST 0x0301
#define EXTENSION_SUPPORTED_VERSIONS 43

/* ---------------------------------------------------------------- versions */

static bool version_fits(const struct rb_tls_context *context, unsigned version)
{
    return version >= (unsigned)context->min_version && version <= TLS1_3_VERSION;
}

/* Reads the versions a client offers, best first, as Go sees them. Returns their number. */
static size_t read_versions(SSL *ssl, uint16_t *versions, size_t cap)
{
    const unsigned char *list = NULL;
    size_t len = 0, count = 0;
    if (SSL_client_hello_get0_ext(ssl, EXTENSION_SUPPORTED_VERSIONS, &list, &len) == 1) {
        for (size_t i = 1; i + 1 < len && count < cap; i += 2) {
            versions[count++] = (uint16_t)(list[i] << 8 | list[i + 1]);
        }
        return count;
    }
    unsigned legacy = SSL_client_hello_get0_legacy_version(ssl);
    if (legacy > TLS1_2_VERSION) {
        legacy = TLS1_2_VERSION;
    }
    for (unsigned version = legacy; version >= VERSION_OLDEST && count < cap; version--) {
        versions[count++] = (uint16_t)version;
    }
    return count;
}

int rb_tls_check_hello(SSL *ssl, int *alert, void *context)
{
    uint16_t versions[16];
    size_t count = read_versions(ssl, versions, sizeof(versions) / sizeof(versions[0]));
    for (size_t i = 0; i < count; i++) {
        if (version_fits(context, versions[i])) {
            return SSL_CLIENT_HELLO_SUCCESS;
        }
    }
    char text[sizeof(versions) / sizeof(versions[0]) * 5 + 1] = "";
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%x", i == 0 ? "" : " ",
                                (unsigned)versions[i]);
    }
    rb_tls_fail(rb_tls_of(ssl), "tls: client offered only unsupported versions: [%s]", text);
    *alert = SSL_AD_PROTOCOL_VERSION;
    return SSL_CLIENT_HELLO_ERROR;
}

/* ---------------------------------------------------------------- certificates */

/* X509_check_host with the wildcard allowed or not, SANs only or subjects too. */
static bool host_matches(X509 *leaf, const char *host, unsigned flags)
{
    flags |= X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
    return X509_check_host(leaf, host, strlen(host), flags, NULL) == 1;
}

static int rank_by_name(X509 *leaf, const char *host)
{
    if (host == NULL || host[0] == '\0') {
        return 0;
    }
    if (host_matches(leaf, host,
                     X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS)) {
        return 4;
    }
    if (host_matches(leaf, host, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)) {
        return 3;
    }
    if (host_matches(leaf, host, X509_CHECK_FLAG_NO_WILDCARDS)) {
        return 2;
    }
    return host_matches(leaf, host, 0) ? 1 : 0;
}

/* Is there a suite of TLS 1.2 on both sides that this kind of key can serve? */
static bool suite_exists(SSL *ssl, const EVP_PKEY *key)
{
    int wanted = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA ? NID_auth_rsa : NID_auth_ecdsa;
    const STACK_OF(SSL_CIPHER) *theirs = SSL_get_client_ciphers(ssl);
    const STACK_OF(SSL_CIPHER) *ours = SSL_get_ciphers(ssl);
    for (int i = 0; theirs != NULL && i < sk_SSL_CIPHER_num(theirs); i++) {
        const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(theirs, i);
        if (SSL_CIPHER_get_auth_nid(cipher) != wanted) {
            continue;
        }
        for (int j = 0; ours != NULL && j < sk_SSL_CIPHER_num(ours); j++) {
            if (SSL_CIPHER_get_id(sk_SSL_CIPHER_value(ours, j)) == SSL_CIPHER_get_id(cipher)) {
                return true;
            }
        }
    }
    return false;
}

static bool client_can_use(SSL *ssl, const struct rb_tls_pair *pair)
{
    if (SSL_version(ssl) < TLS1_3_VERSION && !suite_exists(ssl, pair->key)) {
        return false;
    }
    int flags = SSL_check_chain(ssl, pair->leaf, pair->key, pair->chain);
    return (flags & CERT_PKEY_SIGN) != 0 && (flags & CERT_PKEY_EE_PARAM) != 0 &&
           (flags & CERT_PKEY_EE_SIGNATURE) != 0;
}

int rb_tls_choose_pair(SSL *ssl, void *opaque)
{
    const struct rb_tls_context *context = opaque;
    const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const struct rb_tls_pair *best = NULL;
    int best_rank = -1;
    for (uint32_t i = 0; i < context->pair_count; i++) {
        const struct rb_tls_pair *pair = &context->pairs[i];
        int rank = rank_by_name(pair->leaf, host);
        if (rank > best_rank && client_can_use(ssl, pair)) {
            best = pair;
            best_rank = rank;
        }
    }
    if (best == NULL) {
        best = &context->pairs[0];
    }
    ERR_clear_error(); /* of the tries */
    SSL_certs_clear(ssl);
    return SSL_use_cert_and_key(ssl, best->leaf, best->key, best->chain, 1);
}
