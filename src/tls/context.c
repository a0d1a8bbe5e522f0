/* context.c - a `tls {}` block made into something that connections can share.
 *
 * 1. After rb_tls_context_create() nothing in a context changes but its count, so threads need no lock.
 * 2. All that OpenSSL's configuration file could set is set here: what a server accepts does not depend on the machine.
 * 3. Nobody is asked for a pass phrase: keys are decoded by functions that cannot ask.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "ringbus/check.h"
#include "tls/inside.h"
#include "tls/names.h"

#define FILE_BYTES_FIRST (8u << 10)
#define FILE_BYTES_MAX                                                                             \
    (FILE_BYTES_FIRST << 9) /* a bundle of all public authorities is a tenth of this */
#define PEER_CERT_BYTES_MAX (64 << 10)
#define SECURITY_LEVEL 1 /* RSA from 1024 bits, no SHA-1 in signatures: what Go takes */
#define REASON_CAP 400
#define SIGNATURES                                                                                 \
    "rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256:ed25519:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"  \
    "rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512:ecdsa_secp384r1_sha384:"                   \
    "ecdsa_secp521r1_sha512"

/* ---------------------------------------------------------------- files */

struct text_file {
    char *bytes;
    size_t len;
};

static void free_file(struct text_file *file)
{
    OPENSSL_clear_free(file->bytes, file->len);
    *file = (struct text_file){ 0 };
}

/* The words of an errno as Go writes them: "no such file or directory". */
static void format_errno(const char *verb, const char *path, int code, char *reason)
{
    char words[128];
    const char *text = strerror_r(code, words, sizeof(words));
    snprintf(reason, REASON_CAP, "%s %s: %c%s", verb, path, tolower((unsigned char)text[0]),
             text[0] == '\0' ? "" : text + 1);
}

/* Reads to the end. RB_ERR_INVALID: errno says why not, or it is 0 and there is too much. */
static enum rb_err read_stream(FILE *stream, struct text_file *file)
{
    size_t cap = 0;
    while (feof(stream) == 0) {
        if (file->len == FILE_BYTES_MAX) {
            errno = 0;
            return RB_ERR_INVALID;
        }
        if (file->len == cap) {
            size_t larger = cap == 0 ? FILE_BYTES_FIRST : cap * 2;
            char *grown = OPENSSL_clear_realloc(file->bytes, cap, larger);
            if (grown == NULL) {
                return RB_ERR_MEMORY;
            }
            file->bytes = grown;
            cap = larger;
        }
        file->len += fread(file->bytes + file->len, 1, cap - file->len, stream);
        if (ferror(stream) != 0) {
            return RB_ERR_INVALID;
        }
    }
    return RB_OK;
}

/* Reads all of `path`. RB_ERR_INVALID: `reason` says why not. */
static enum rb_err read_file(const char *path, struct text_file *ret_file, char *reason)
{
    FILE *stream = fopen(path, "re");
    if (stream == NULL) {
        format_errno("open", path, errno, reason);
        return RB_ERR_INVALID;
    }
    setvbuf(stream, NULL, _IONBF, 0); /* a key leaves no copy behind */
    struct text_file file = { 0 };
    enum rb_err err = read_stream(stream, &file);
    int code = errno;
    fclose(stream);
    if (err == RB_OK) {
        *ret_file = file;
        return RB_OK;
    }
    if (err == RB_ERR_INVALID && code == 0) {
        snprintf(reason, REASON_CAP, "read %s: more than %u bytes", path, FILE_BYTES_MAX);
    } else if (err == RB_ERR_INVALID) {
        format_errno("read", path, code, reason);
    }
    free_file(&file);
    return err;
}

/* One block of a PEM file. */
struct pem {
    char *name, *header;
    unsigned char *der;
    long len;
};

static bool next_pem(BIO *bio, struct pem *ret_pem)
{
    struct pem pem = { 0 };
    if (PEM_read_bio(bio, &pem.name, &pem.header, &pem.der, &pem.len) != 1) {
        return false;
    }
    *ret_pem = pem;
    return true;
}

static void free_pem(struct pem *pem)
{
    OPENSSL_free(pem->name);
    OPENSSL_free(pem->header);
    OPENSSL_clear_free(pem->der, (size_t)pem->len);
}

static bool pem_is_cert(const struct pem *pem)
{
    return strcmp(pem->name, "CERTIFICATE") == 0;
}

static bool pem_is_key(const struct pem *pem)
{
    static const char suffix[] = "PRIVATE KEY";
    size_t len = strlen(pem->name), suffix_len = sizeof(suffix) - 1;
    return len >= suffix_len && strcmp(pem->name + len - suffix_len, suffix) == 0;
}

static bool pem_is_encrypted(const struct pem *pem)
{
    return strstr(pem->name, "ENCRYPTED") != NULL || strstr(pem->header, "ENCRYPTED") != NULL;
}

/* ---------------------------------------------------------------- pairs */

/* Leaf and chain. RB_ERR_INVALID: `reason` is in Go's words. */
static enum rb_err parse_certs(const struct text_file *file, struct rb_tls_pair *pair, char *reason)
{
    BIO *bio = BIO_new_mem_buf(file->bytes, (int)file->len);
    pair->chain = sk_X509_new_null();
    if (bio == NULL || pair->chain == NULL) {
        BIO_free(bio);
        return RB_ERR_MEMORY;
    }
    bool saw_any = false, saw_key = false, bad = false, full = false;
    struct pem pem;
    while (!bad && !full && next_pem(bio, &pem)) {
        saw_any = true;
        saw_key = saw_key || pem_is_key(&pem);
        if (pem_is_cert(&pem)) {
            const unsigned char *at = pem.der;
            X509 *cert = d2i_X509(NULL, &at, pem.len);
            if (cert == NULL) {
                bad = true;
            } else if (pair->leaf == NULL) {
                pair->leaf = cert;
            } else if (sk_X509_push(pair->chain, cert) == 0) {
                X509_free(cert);
                full = true;
            }
        }
        free_pem(&pem);
    }
    BIO_free(bio);
    if (full) {
        return RB_ERR_MEMORY;
    }
    if (bad) {
        snprintf(reason, REASON_CAP, "x509: malformed certificate");
    } else if (pair->leaf != NULL) {
        return RB_OK;
    } else if (!saw_any) {
        snprintf(reason, REASON_CAP, "tls: failed to find any PEM data in certificate input");
    } else if (saw_key) {
        snprintf(reason, REASON_CAP,
                 "tls: failed to find certificate PEM data in certificate input, but did find a "
                 "private key; PEM inputs may have been switched");
    } else {
        snprintf(reason, REASON_CAP,
                 "tls: failed to find \"CERTIFICATE\" PEM block in certificate input");
    }
    return RB_ERR_INVALID;
}

/* The first key of a file. `path` is for the reason only. */
static enum rb_err parse_key(const struct text_file *file, const char *path, EVP_PKEY **ret_key,
                             char *reason)
{
    BIO *bio = BIO_new_mem_buf(file->bytes, (int)file->len);
    if (bio == NULL) {
        return RB_ERR_MEMORY;
    }
    bool saw_any = false, saw_cert = false, saw_key = false, encrypted = false;
    EVP_PKEY *key = NULL;
    struct pem pem;
    while (!saw_key && next_pem(bio, &pem)) {
        saw_any = true;
        saw_cert = saw_cert || pem_is_cert(&pem);
        if (pem_is_key(&pem)) {
            saw_key = true;
            encrypted = pem_is_encrypted(&pem);
            const unsigned char *at = pem.der;
            key = encrypted ? NULL : d2i_AutoPrivateKey(NULL, &at, pem.len);
        }
        free_pem(&pem);
    }
    BIO_free(bio);
    if (key != NULL) {
        *ret_key = key;
        return RB_OK;
    }
    if (encrypted) {
        snprintf(reason, REASON_CAP,
                 "tls: failed to parse private key: %s is encrypted, which is not supported", path);
    } else if (saw_key) {
        snprintf(reason, REASON_CAP, "tls: failed to parse private key");
    } else if (!saw_any) {
        snprintf(reason, REASON_CAP, "tls: failed to find any PEM data in key input");
    } else if (saw_cert) {
        snprintf(reason, REASON_CAP,
                 "tls: found a certificate rather than a key in the PEM for the private key");
    } else {
        snprintf(reason, REASON_CAP,
                 "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input");
    }
    return RB_ERR_INVALID;
}

static enum rb_err check_pair(const struct rb_tls_context *context, const struct rb_tls_pair *pair,
                              char *reason)
{
    const EVP_PKEY *public = X509_get0_pubkey(pair->leaf);
    if (public == NULL) {
        snprintf(reason, REASON_CAP, "tls: unknown public key algorithm");
        return RB_ERR_INVALID;
    }
    if (EVP_PKEY_get_base_id(public) != EVP_PKEY_get_base_id(pair->key)) {
        snprintf(reason, REASON_CAP, "tls: private key type does not match public key type");
        return RB_ERR_INVALID;
    }
    if (EVP_PKEY_eq(public, pair->key) != 1) {
        snprintf(reason, REASON_CAP, "tls: private key does not match public key");
        return RB_ERR_INVALID;
    }
    ERR_clear_error(); /* of reading to the end of the files */
    /* The first pair stays the default; the others are tried on the way, so that OpenSSL's
     * objections come now. */
    if (SSL_CTX_use_cert_and_key(context->ssl, pair->leaf, pair->key, pair->chain, 1) != 1) {
        const char *words = ERR_reason_error_string(ERR_peek_error());
        snprintf(reason, REASON_CAP, "tls: %s", words == NULL ? "unusable certificate" : words);
        return RB_ERR_INVALID;
    }
    return RB_OK;
}

/* Appends a pair to the context. What it leaves behind on failure goes with the context. */
static enum rb_err load_pair(struct rb_tls_context *context, const char *cert_path,
                             const char *key_path, char *reason)
{
    struct rb_tls_pair *pair = &context->pairs[context->pair_count++];
    struct text_file file = { 0 };
    enum rb_err err = read_file(cert_path, &file, reason);
    if (err != RB_OK) {
        return err;
    }
    err = parse_certs(&file, pair, reason);
    free_file(&file);
    if (err != RB_OK) {
        return err;
    }
    err = read_file(key_path, &file, reason);
    if (err != RB_OK) {
        return err;
    }
    err = parse_key(&file, key_path, &pair->key, reason);
    free_file(&file);
    return err == RB_OK ? check_pair(context, pair, reason) : err;
}

static void note_end(struct rb_tls_context *context, const X509 *leaf)
{
    struct tm tm;
    if (ASN1_TIME_to_tm(X509_get0_notAfter(leaf), &tm) != 1) {
        return;
    }
    int64_t end = (int64_t)timegm(&tm);
    if (context->not_after == 0 || end < context->not_after) {
        context->not_after = end;
    }
}

static enum rb_err load_pairs(struct rb_tls_context *context, const struct rb_tls_options *options,
                              char *error, size_t error_cap)
{
    char reason[REASON_CAP] = "";
    if ((options->cert_file == NULL) != (options->key_file == NULL) ||
        (options->cert_file == NULL && options->cert_count == 0 && !options->client)) {
        snprintf(error, error_cap, "missing '%s' in TLS configuration",
                 options->cert_file == NULL ? "cert_file" : "key_file");
        return RB_ERR_INVALID;
    }
    if (options->cert_file != NULL) {
        enum rb_err err = load_pair(context, options->cert_file, options->key_file, reason);
        if (err != RB_OK) {
            snprintf(error, error_cap, "error parsing X509 certificate/key pair: %s", reason);
            return err;
        }
    }
    for (uint32_t i = 0; i < options->cert_count; i++) {
        const char *cert = options->certs[i].cert_file, *key = options->certs[i].key_file;
        if (cert == NULL || key == NULL) {
            snprintf(error, error_cap, "missing '%s' in TLS configuration",
                     cert == NULL ? "cert_file" : "key_file");
            return RB_ERR_INVALID;
        }
        enum rb_err err = load_pair(context, cert, key, reason);
        if (err != RB_OK) {
            snprintf(error, error_cap, "error parsing X509 certificate/key pair %u/%u: %s",
                     (unsigned)i + 1, (unsigned)options->cert_count, reason);
            return err;
        }
    }
    for (uint32_t i = 0; i < context->pair_count; i++) {
        note_end(context, context->pairs[i].leaf);
    }
    return RB_OK;
}

/* ---------------------------------------------------------------- authorities */

/* As Go does, takes what is a certificate and skips the rest, but wants one at least. */
static enum rb_err parse_authorities(struct rb_tls_context *context, const struct text_file *file,
                                     char *error, size_t error_cap)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context->ssl);
    BIO *bio = BIO_new_mem_buf(file->bytes, (int)file->len);
    if (bio == NULL) {
        return RB_ERR_MEMORY;
    }
    uint32_t count = 0;
    bool full = false;
    struct pem pem;
    while (!full && next_pem(bio, &pem)) {
        const unsigned char *at = pem.der;
        X509 *cert = pem_is_cert(&pem) ? d2i_X509(NULL, &at, pem.len) : NULL;
        if (cert != NULL) {
            full = X509_STORE_add_cert(store, cert) != 1 ||
                   (!context->client && SSL_CTX_add_client_CA(context->ssl, cert) != 1);
            count++;
            X509_free(cert);
        }
        free_pem(&pem);
    }
    BIO_free(bio);
    if (full) {
        return RB_ERR_MEMORY;
    }
    if (count == 0) {
        snprintf(error, error_cap, "failed to parse root ca certificate");
        return RB_ERR_INVALID;
    }
    return RB_OK;
}

static enum rb_err load_authorities(struct rb_tls_context *context,
                                    const struct rb_tls_options *options, char *error,
                                    size_t error_cap)
{
    char reason[REASON_CAP] = "";
    struct text_file file = { 0 };
    if (options->ca_file == NULL) {
        /* As in Go: whom the machine trusts. */
        bool ok = !context->verifies || SSL_CTX_set_default_verify_paths(context->ssl) == 1;
        return ok ? RB_OK : RB_ERR_MEMORY;
    }
    enum rb_err err = read_file(options->ca_file, &file, reason);
    if (err != RB_OK) {
        snprintf(error, error_cap, "%s", reason);
        return err;
    }
    err = parse_authorities(context, &file, error, error_cap);
    free_file(&file);
    return err;
}

/* ---------------------------------------------------------------- rules */

static enum rb_err read_min_version(const char *text, int *ret_version, char *error,
                                    size_t error_cap)
{
    if (text == NULL || strcmp(text, "1.2") == 0) {
        *ret_version = TLS1_2_VERSION;
        return RB_OK;
    }
    if (strcmp(text, "1.3") == 0) {
        *ret_version = TLS1_3_VERSION;
        return RB_OK;
    }
    if (strcmp(text, "1.0") == 0 || strcmp(text, "1.1") == 0) {
        snprintf(error, error_cap, "error parsing tls config: unsupported TLS version: TLS %s",
                 text);
    } else {
        snprintf(error, error_cap, "error parsing tls config: unknown version: %s", text);
    }
    return RB_ERR_INVALID;
}

static enum rb_err set_protocol(struct rb_tls_context *context,
                                const struct rb_tls_options *options, char *error, size_t error_cap)
{
    struct rb_tls_suite_lists suites;
    char curves[RB_TLS_LIST_CAP];
    enum rb_err err =
        read_min_version(options->min_version, &context->min_version, error, error_cap);
    if (err == RB_OK) {
        err = rb_tls_suites(options->ciphers, options->cipher_count, &suites, error, error_cap);
    }
    if (err == RB_OK) {
        err = rb_tls_curves(options->curves, options->curve_count, curves, error, error_cap);
    }
    if (err != RB_OK) {
        return err;
    }
    if (suites.older[0] == '\0') {
        context->min_version =
            TLS1_3_VERSION; /* only suites of 1.3 are named: 1.2 has none to agree on */
    } else if (SSL_CTX_set_cipher_list(context->ssl, suites.older) != 1) {
        return RB_ERR_MEMORY;
    }
    bool ok =
        SSL_CTX_set_min_proto_version(context->ssl, context->min_version) == 1 &&
        SSL_CTX_set_max_proto_version(context->ssl, TLS1_3_VERSION) == 1 &&
        SSL_CTX_set_ciphersuites(context->ssl, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                               "TLS_CHACHA20_POLY1305_SHA256") == 1 &&
        SSL_CTX_set1_groups_list(context->ssl, curves) == 1 &&
        SSL_CTX_set1_sigalgs_list(context->ssl, SIGNATURES) == 1;
    return ok ? RB_OK : RB_ERR_MEMORY;
}

static void set_behaviour(struct rb_tls_context *context)
{
    SSL_CTX *ssl = context->ssl;
    SSL_CTX_set_security_level(ssl, SECURITY_LEVEL);
    SSL_CTX_clear_options(ssl, SSL_CTX_get_options(ssl));
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl, 0);
    SSL_CTX_set_max_cert_list(ssl, PEER_CERT_BYTES_MAX);
    SSL_CTX_set_info_callback(ssl, rb_tls_info);
    if (!context->client) {
        SSL_CTX_set_client_hello_cb(ssl, rb_tls_check_hello, context);
        SSL_CTX_set_keylog_callback(ssl, rb_tls_take_secret);
    }
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ssl);
    X509_VERIFY_PARAM_set_flags(
        param, X509_V_FLAG_PARTIAL_CHAIN); /* in Go whoever is in ca_file is trusted */
    if (context->verifies) {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                           rb_tls_judge_peer);
    } else {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    }
}

static enum rb_err copy_pinned(struct rb_tls_context *context, const struct rb_tls_options *options,
                               char *error, size_t error_cap)
{
    if (options->pinned_count == 0) {
        return RB_OK;
    }
    context->pinned = calloc(options->pinned_count, sizeof(*context->pinned));
    if (context->pinned == NULL) {
        return RB_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < options->pinned_count; i++) {
        const char *text = options->pinned[i];
        size_t len = 0;
        while (len < 64 && isxdigit((unsigned char)text[len]) != 0) {
            context->pinned[i][len] = (char)tolower((unsigned char)text[len]);
            len++;
        }
        if (len != 64 || text[len] != '\0') {
            snprintf(error, error_cap,
                     "error parsing tls config, 'pinned_certs' key %s does not look like "
                     "hex-encoded sha256 of DER encoded SubjectPublicKeyInfo",
                     text);
            return RB_ERR_INVALID;
        }
    }
    context->pinned_count = options->pinned_count;
    return RB_OK;
}

/* ---------------------------------------------------------------- life */

static enum rb_err fill(struct rb_tls_context *context, const struct rb_tls_options *options,
                        char *error, size_t error_cap)
{
    context->bio = rb_tls_bio_method();
    context->ssl = SSL_CTX_new(context->client ? TLS_client_method() : TLS_server_method());
    if (context->bio == NULL || context->ssl == NULL) {
        return RB_ERR_MEMORY;
    }
    set_behaviour(context);
    enum rb_err err = set_protocol(context, options, error, error_cap);
    if (err == RB_OK) {
        err = load_pairs(context, options, error, error_cap);
    }
    if (err == RB_OK) {
        err = load_authorities(context, options, error, error_cap);
    }
    if (err == RB_OK) {
        err = copy_pinned(context, options, error, error_cap);
    }
    if (err == RB_OK && context->pair_count > 1 && !context->client) {
        SSL_CTX_set_cert_cb(context->ssl, rb_tls_choose_pair, context);
    }
    return err;
}

enum rb_err rb_tls_context_create(const struct rb_tls_options *options,
                                  struct rb_tls_context **ret_context, char *error,
                                  size_t error_cap)
{
    rb_assert(options->cert_count <= RB_TLS_CERTS_MAX);
    struct rb_tls_context *context = calloc(1, sizeof(*context));
    if (context == NULL) {
        snprintf(error, error_cap, "out of memory");
        return RB_ERR_MEMORY;
    }
    atomic_init(&context->hold_count, 1);
    context->client = options->client;
    context->verifies = options->client ? !options->insecure : options->verify;
    ERR_clear_error();
    enum rb_err err = fill(context, options, error, error_cap);
    ERR_clear_error();
    if (err != RB_OK) {
        if (err == RB_ERR_MEMORY) {
            snprintf(error, error_cap, "out of memory");
        }
        rb_tls_context_release(context);
        return err;
    }
    *ret_context = context;
    return RB_OK;
}

struct rb_tls_context *rb_tls_context_hold(struct rb_tls_context *context)
{
    unsigned before = atomic_fetch_add_explicit(&context->hold_count, 1, memory_order_relaxed);
    rb_assert(before > 0);
    return context;
}

void rb_tls_context_release(struct rb_tls_context *context)
{
    if (context == NULL) {
        return;
    }
    unsigned before = atomic_fetch_sub_explicit(&context->hold_count, 1, memory_order_acq_rel);
    rb_assert(before > 0);
    if (before > 1) {
        return;
    }
    for (uint32_t i = 0; i < context->pair_count; i++) {
        X509_free(context->pairs[i].leaf);
        EVP_PKEY_free(context->pairs[i].key);
        sk_X509_pop_free(context->pairs[i].chain, X509_free);
    }
    SSL_CTX_free(context->ssl);
    BIO_meth_free(context->bio);
    free(context->pinned);
    free(context);
    ERR_clear_error();
}

int64_t rb_tls_context_not_after(const struct rb_tls_context *context)
{
    return context->not_after;
}

bool rb_tls_context_pins(const struct rb_tls_context *context, const char *spki_sha256)
{
    bool found = context->pinned_count == 0;
    for (uint32_t i = 0; i < context->pinned_count && !found; i++) {
        found = strcmp(context->pinned[i], spki_sha256) == 0;
    }
    return found;
}

bool rb_tls_context_verifies(const struct rb_tls_context *context)
{
    return context->verifies;
}
