/* verify.c - what OpenSSL found wrong with the peer's certificate, in Go's words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <arpa/inet.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls/inside.h"

#define TEXT_CAP 256
#define DETAIL_CAP 400
#define TIME_CAP 32

/* RFC 3339, as Go prints times in UTC. */
static void format_time(const ASN1_TIME *when, char out[TIME_CAP])
{
    struct tm tm;
    out[0] = '\0';
    if (when != NULL && ASN1_TIME_to_tm(when, &tm) == 1) {
        strftime(out, TIME_CAP, "%Y-%m-%dT%H:%M:%SZ", &tm);
    }
}

/* The clock is OpenSSL's, the one that judged. */
static void format_lifetime(const X509 *cert, bool too_late, char *out, size_t cap)
{
    char now_text[TIME_CAP] = "", end_text[TIME_CAP];
    ASN1_TIME *now = X509_gmtime_adj(NULL, 0);
    format_time(now, now_text);
    ASN1_TIME_free(now);
    format_time(too_late ? X509_get0_notAfter(cert) : X509_get0_notBefore(cert), end_text);
    snprintf(out, cap,
             "x509: certificate has expired or is not yet valid: current time %s is %s %s",
             now_text, too_late ? "after" : "before", end_text);
}

/* Appends `name`, with ", " in front of all but the first; a list that is full stays as it is. */
static void append_listed(char *list, size_t cap, const char *name, size_t len)
{
    size_t used = strlen(list);
    if (used + len + 3 < cap) {
        snprintf(list + used, cap - used, "%s%.*s", used == 0 ? "" : ", ", (int)len, name);
    }
}

/* The SANs of one kind (GEN_DNS or GEN_IPADD) as "a, b". */
static void list_names(const X509 *cert, int kind, char *list, size_t cap)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    list[0] = '\0';
    for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != kind) {
            continue;
        }
        const ASN1_STRING *value = kind == GEN_DNS ? name->d.dNSName : name->d.iPAddress;
        const unsigned char *bytes = ASN1_STRING_get0_data(value);
        int len = ASN1_STRING_length(value);
        char text[INET6_ADDRSTRLEN];
        if (kind == GEN_DNS) {
            append_listed(list, cap, (const char *)bytes, (size_t)len);
        } else if ((len == 4 || len == 16) &&
                   inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, text, sizeof(text)) != NULL) {
            append_listed(list, cap, text, strlen(text));
        }
    }
    GENERAL_NAMES_free(names);
}

static void format_wrong_host(SSL *ssl, const X509 *cert, char *out, size_t cap)
{
    char list[TEXT_CAP / 2];
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    char *address = X509_VERIFY_PARAM_get1_ip_asc(param);
    const char *host = address != NULL ? address : X509_VERIFY_PARAM_get0_host(param, 0);
    list_names(cert, address != NULL ? GEN_IPADD : GEN_DNS, list, sizeof(list));
    if (host == NULL) {
        host = "";
    }
    if (list[0] != '\0') {
        snprintf(out, cap, "x509: certificate is valid for %s, not %s", list, host);
    } else if (address != NULL) {
        snprintf(out, cap,
                 "x509: cannot validate certificate for %s because it doesn't contain any IP SANs",
                 host);
    } else {
        snprintf(out, cap, "x509: certificate is not valid for any names, but wanted to match %s",
                 host);
    }
    OPENSSL_free(address);
}

static void format_reason(SSL *ssl, X509_STORE_CTX *store, char *out, size_t cap)
{
    int code = X509_STORE_CTX_get_error(store);
    const X509 *cert = X509_STORE_CTX_get_current_cert(store);
    switch (code) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
        snprintf(out, cap, "x509: certificate signed by unknown authority");
        break;
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        format_lifetime(cert, code == X509_V_ERR_CERT_HAS_EXPIRED, out, cap);
        break;
    case X509_V_ERR_INVALID_PURPOSE:
        snprintf(out, cap, "x509: certificate specifies an incompatible key usage");
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        format_wrong_host(ssl, cert, out, cap);
        break;
    default:
        snprintf(out, cap, "x509: %s", X509_verify_cert_error_string(code));
        break;
    }
}

/* " (CN=a SHA-256: 12ab...; ...)": what the peer sent, as nats-server's log shows it. */
static void format_detail(X509_STORE_CTX *store, char *out, size_t cap)
{
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);
    size_t len = 0;
    out[0] = '\0';
    for (int i = 0; sent != NULL && i < sk_X509_num(sent); i++) {
        const X509 *cert = sk_X509_value(sent, i);
        char hex[65], *subject = NULL;
        size_t subject_len;
        if (!rb_tls_dn_go(X509_get_subject_name(cert), &subject, &subject_len)) {
            break;
        }
        if (len + subject_len + 80 < cap && rb_tls_cert_sha256(cert, hex)) {
            len += (size_t)snprintf(out + len, cap - len, "%s%s SHA-256: %s",
                                    len == 0 ? " (" : "; ", subject, hex);
        }
        free(subject);
    }
    if (len > 0) {
        snprintf(out + len, cap - len, ")");
    }
}

int rb_tls_judge_peer(int ok, X509_STORE_CTX *store)
{
    if (ok == 1) {
        return 1;
    }
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    char reason[TEXT_CAP], detail[DETAIL_CAP];
    format_reason(ssl, store, reason, sizeof(reason));
    format_detail(store, detail, sizeof(detail));
    rb_tls_fail(rb_tls_of(ssl), "tls: failed to verify certificate: %s%s", reason, detail);
    return 0;
}
