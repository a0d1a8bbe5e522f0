/* names.c - tables.
 *
 * 1. Suites stand in Go's order of preference. The order in the configuration does not matter, as in Go; the same
 *    goes for curves.
 * 2. Suites of TLS 1.3 cannot be chosen: their names are taken and change nothing, as in Go.
 */
#include "tls/names.h"

#include <stdio.h>
#include <string.h>

enum suite_kind {
    SUITE_NEWEST,   /* TLS 1.3 (rule 2) */
    SUITE_DEFAULT,  /* on unless others are named */
    SUITE_NAMED,    /* only when named */
    SUITE_INSECURE, /* only when named, beside allow_insecure_cipher_suites */
};

static const struct suite {
    const char *go;
    const char *openssl; /* NULL: Debian's OpenSSL is built without it */
    uint16_t id;
    enum suite_kind kind;
} suites[] = {
    { "TLS_AES_128_GCM_SHA256", "", 0x1301, SUITE_NEWEST },
    { "TLS_AES_256_GCM_SHA384", "", 0x1302, SUITE_NEWEST },
    { "TLS_CHACHA20_POLY1305_SHA256", "", 0x1303, SUITE_NEWEST },
    { "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", 0xc02b,
      SUITE_DEFAULT },
    { "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256", 0xc02f,
      SUITE_DEFAULT },
    { "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384", 0xc02c,
      SUITE_DEFAULT },
    { "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384", 0xc030,
      SUITE_DEFAULT },
    { "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", 0xcca9,
      SUITE_DEFAULT },
    { "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305", 0xcca8,
      SUITE_DEFAULT },
    { "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA", 0xc009, SUITE_NAMED },
    { "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA", 0xc013, SUITE_NAMED },
    { "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA", 0xc00a, SUITE_NAMED },
    { "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA", 0xc014, SUITE_NAMED },
    { "TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256", 0x009c, SUITE_INSECURE },
    { "TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384", 0x009d, SUITE_INSECURE },
    { "TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA", 0x002f, SUITE_INSECURE },
    { "TLS_RSA_WITH_AES_256_CBC_SHA", "AES256-SHA", 0x0035, SUITE_INSECURE },
    { "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", NULL, 0xc012, SUITE_INSECURE },
    { "TLS_RSA_WITH_3DES_EDE_CBC_SHA", NULL, 0x000a, SUITE_INSECURE },
    { "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256", 0xc023,
      SUITE_INSECURE },
    { "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256", 0xc027, SUITE_INSECURE },
    { "TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256", 0x003c, SUITE_INSECURE },
    { "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", NULL, 0xc007, SUITE_INSECURE },
    { "TLS_ECDHE_RSA_WITH_RC4_128_SHA", NULL, 0xc011, SUITE_INSECURE },
    { "TLS_RSA_WITH_RC4_128_SHA", NULL, 0x0005, SUITE_INSECURE },
};
#define SUITE_COUNT (sizeof(suites) / sizeof(suites[0]))

static const struct curve {
    const char *go;
    const char *openssl; /* NULL: not in OpenSSL 3.0 */
} curves[] = {
    { "X25519", "X25519" },         { "CurveP256", "P-256" },   { "CurveP384", "P-384" },
    { "CurveP521", "P-521" },       { "X25519MLKEM768", NULL }, { "SecP256r1MLKEM768", NULL },
    { "SecP384r1MLKEM1024", NULL },
};
#define CURVE_COUNT (sizeof(curves) / sizeof(curves[0]))

static const struct suite *find_suite(const char *name)
{
    for (size_t i = 0; i < SUITE_COUNT; i++) {
        if (strcmp(suites[i].go, name) == 0) {
            return &suites[i];
        }
    }
    return NULL;
}

static const struct curve *find_curve(const char *name)
{
    for (size_t i = 0; i < CURVE_COUNT; i++) {
        if (strcmp(curves[i].go, name) == 0) {
            return &curves[i];
        }
    }
    return NULL;
}

bool rb_tls_suite_insecure(const char *name)
{
    const struct suite *suite = find_suite(name);
    return suite != NULL && suite->kind == SUITE_INSECURE;
}

const char *rb_tls_suite_name(uint16_t id)
{
    for (size_t i = 0; i < SUITE_COUNT; i++) {
        if (suites[i].id == id) {
            return suites[i].go;
        }
    }
    return NULL;
}

static bool named(const char *name, const char *const *names, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Appends to a list with colons. The tables are shorter than RB_TLS_LIST_CAP. */
static void append_name(char list[RB_TLS_LIST_CAP], const char *name)
{
    size_t len = strlen(list);
    snprintf(list + len, RB_TLS_LIST_CAP - len, "%s%s", len == 0 ? "" : ":", name);
}

enum rb_err rb_tls_suites(const char *const *names, uint32_t count,
                          struct rb_tls_suite_lists *ret_lists, char *error, size_t error_cap)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct suite *suite = find_suite(names[i]);
        if (suite == NULL) {
            snprintf(error, error_cap, "unrecognized cipher %s", names[i]);
            return RB_ERR_INVALID;
        }
        if (suite->openssl == NULL) {
            snprintf(error, error_cap, "cipher %s is not supported", names[i]);
            return RB_ERR_INVALID;
        }
    }
    *ret_lists = (struct rb_tls_suite_lists){ .narrowed = count > 0 };
    for (size_t i = 0; i < SUITE_COUNT; i++) {
        const struct suite *suite = &suites[i];
        bool wanted = count == 0 ? suite->kind == SUITE_DEFAULT : named(suite->go, names, count);
        if (wanted && suite->kind != SUITE_NEWEST) {
            append_name(ret_lists->older, suite->openssl);
        }
    }
    return RB_OK;
}

enum rb_err rb_tls_curves(const char *const *names, uint32_t count, char ret_list[RB_TLS_LIST_CAP],
                          char *error, size_t error_cap)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct curve *curve = find_curve(names[i]);
        if (curve == NULL) {
            snprintf(error, error_cap, "unrecognized curve preference %s", names[i]);
            return RB_ERR_INVALID;
        }
        if (curve->openssl == NULL) {
            snprintf(error, error_cap, "curve preference %s is not supported", names[i]);
            return RB_ERR_INVALID;
        }
    }
    ret_list[0] = '\0';
    for (size_t i = 0; i < CURVE_COUNT; i++) {
        if (curves[i].openssl != NULL && (count == 0 || named(curves[i].go, names, count))) {
            append_name(ret_list, curves[i].openssl);
        }
    }
    return RB_OK;
}

static const struct {
    uint8_t alert;
    const char *text;
} alerts[] = {
    { 0, "close notify" },
    { 10, "unexpected message" },
    { 20, "bad record MAC" },
    { 21, "decryption failed" },
    { 22, "record overflow" },
    { 30, "decompression failure" },
    { 40, "handshake failure" },
    { 42, "bad certificate" },
    { 43, "unsupported certificate" },
    { 44, "revoked certificate" },
    { 45, "expired certificate" },
    { 46, "unknown certificate" },
    { 47, "illegal parameter" },
    { 48, "unknown certificate authority" },
    { 49, "access denied" },
    { 50, "error decoding message" },
    { 51, "error decrypting message" },
    { 60, "export restriction" },
    { 70, "protocol version not supported" },
    { 71, "insufficient security level" },
    { 80, "internal error" },
    { 86, "inappropriate fallback" },
    { 90, "user canceled" },
    { 100, "no renegotiation" },
    { 109, "missing extension" },
    { 110, "unsupported extension" },
    { 111, "certificate unobtainable" },
    { 112, "unrecognized name" },
    { 113, "bad certificate status response" },
    { 114, "bad certificate hash value" },
    { 115, "unknown PSK identity" },
    { 116, "certificate required" },
    { 120, "no application protocol" },
    { 121, "encrypted client hello required" },
};

const char *rb_tls_alert_text(unsigned alert)
{
    for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
        if (alerts[i].alert == alert) {
            return alerts[i].text;
        }
    }
    return NULL;
}
