/* dn.c - subject names as text, in the two ways a user of nats-server meets them.
 *
 * go:  what Go's pkix.Name prints: the attributes it has a field for are gathered by kind (all OUs together, the last CN
 *      only), in a fixed order; all others follow as OID=#DER.
 * raw: the RDNs as they are, the last in the certificate first (RFC 2253), values of one RDN joined by "+" and also the
 *      last first. A name with an attribute that nats-server has no short name for is not usable and comes out empty.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/objects.h>
#include <openssl/x509.h>

#include "tls/inside.h"

struct text {
    char *ptr;
    size_t len, cap;
    bool failed; /* no memory; later calls do nothing */
};

static void add_bytes(struct text *text, const char *bytes, size_t len)
{
    if (text->failed) {
        return;
    }
    if (text->len + len + 1 > text->cap) {
        size_t cap = (text->len + len + 1) * 2;
        char *grown = realloc(text->ptr, cap);
        if (grown == NULL) {
            text->failed = true;
            return;
        }
        text->ptr = grown;
        text->cap = cap;
    }
    if (len > 0) {
        memcpy(text->ptr + text->len, bytes, len);
    }
    text->len += len;
    text->ptr[text->len] = '\0';
}

static void add_text(struct text *text, const char *words)
{
    add_bytes(text, words, strlen(words));
}

static bool finish_text(struct text *text, char **ret_text, size_t *ret_len)
{
    add_bytes(text, "", 0); /* there is a NUL, also in an empty one */
    if (text->failed) {
        free(text->ptr);
        return false;
    }
    *ret_text = text->ptr;
    *ret_len = text->len;
    return true;
}

static void add_escaped(struct text *text, const unsigned char *value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = (char)value[i];
        bool edge = i == 0 || i == len - 1;
        if ((c != '\0' && strchr(",+\"\\<>;", c) != NULL) || (c == ' ' && edge) ||
            (c == '#' && i == 0)) {
            add_bytes(text, "\\", 1);
        }
        add_bytes(text, &c, 1);
    }
}

static const struct {
    int nid;
    const char *name;
} kinds[] = {
    /* In the order in which pkix.Name prints them, which is the reverse of RFC 2253's. */
    { NID_serialNumber, "SERIALNUMBER" },
    { NID_commonName, "CN" },
    { NID_postalCode, "POSTALCODE" },
    { NID_streetAddress, "STREET" },
    { NID_stateOrProvinceName, "ST" },
    { NID_localityName, "L" },
    { NID_organizationalUnitName, "OU" },
    { NID_organizationName, "O" },
    { NID_countryName, "C" },
    { NID_domainComponent, "DC" }, /* raw only: Go has no field for it */
};
#define RAW_KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))
#define GO_KIND_COUNT (RAW_KIND_COUNT - 1)

static int entry_nid(const X509_NAME_ENTRY *entry)
{
    return OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
}

/* Its place in `kinds`; `count` when it is not there. */
static size_t find_kind(const X509_NAME_ENTRY *entry, size_t count)
{
    int nid = entry_nid(entry);
    size_t i = 0;
    while (i < count && kinds[i].nid != nid) {
        i++;
    }
    return i;
}

/* The value as UTF-8, to be freed with OPENSSL_free(). Returns its length, negative when it is
 * no text. */
static int entry_value(const X509_NAME_ENTRY *entry, unsigned char **ret_value)
{
    return ASN1_STRING_to_UTF8(ret_value, X509_NAME_ENTRY_get_data(entry));
}

static void add_value(struct text *text, const X509_NAME_ENTRY *entry)
{
    unsigned char *value = NULL;
    int len = entry_value(entry, &value);
    if (len >= 0) {
        add_escaped(text, value, (size_t)len);
        OPENSSL_free(value);
    }
}

/* ---------------------------------------------------------------- Go's way */

/* All values of one kind as "OU=a+OU=b". */
static void add_kind(struct text *text, const X509_NAME *name, size_t kind)
{
    bool last_only = kinds[kind].nid == NID_commonName || kinds[kind].nid == NID_serialNumber;
    const X509_NAME_ENTRY *last = NULL;
    bool first = true;
    for (int i = 0; i < X509_NAME_entry_count(name); i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        if (entry_nid(entry) != kinds[kind].nid) {
            continue;
        }
        last = entry;
        if (!last_only) {
            add_text(text, !first ? "+" : text->len > 0 ? "," : "");
            add_text(text, kinds[kind].name);
            add_text(text, "=");
            add_value(text, entry);
            first = false;
        }
    }
    if (last_only && last != NULL && ASN1_STRING_length(X509_NAME_ENTRY_get_data(last)) > 0) {
        add_text(text, text->len > 0 ? "," : "");
        add_text(text, kinds[kind].name);
        add_text(text, "=");
        add_value(text, last);
    }
}

static bool go_printable(const unsigned char *value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = value[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && (c == '\0' || strchr(" '()+,-./:=?", c) == NULL)) {
            return false;
        }
    }
    return true;
}

/* Go encodes a text again, as the simplest type that fits, whatever the certificate's was. */
static void add_der(struct text *text, const X509_NAME_ENTRY *entry)
{
    unsigned char *value = NULL, *der = NULL;
    int len = entry_value(entry, &value), der_len = -1;
    if (len >= 0) {
        ASN1_TYPE *type = ASN1_TYPE_new();
        ASN1_STRING *copy = ASN1_STRING_type_new(
            go_printable(value, (size_t)len) ? V_ASN1_PRINTABLESTRING : V_ASN1_UTF8STRING);
        if (type != NULL && copy != NULL && ASN1_STRING_set(copy, value, len) == 1) {
            ASN1_TYPE_set(type, ASN1_STRING_type(copy), copy); /* takes it */
            copy = NULL;
            der_len = i2d_ASN1_TYPE(type, &der);
        }
        ASN1_STRING_free(copy);
        ASN1_TYPE_free(type);
        OPENSSL_free(value);
        text->failed = text->failed || der_len < 0;
    }
    for (int i = 0; i < der_len; i++) {
        char hex[3];
        snprintf(hex, sizeof(hex), "%02x", der[i]);
        add_bytes(text, hex, 2);
    }
    OPENSSL_free(der);
}

bool rb_tls_dn_go(const X509_NAME *name, char **ret_text, size_t *ret_len)
{
    struct text text = { 0 };
    for (size_t kind = 0; kind < GO_KIND_COUNT; kind++) {
        add_kind(&text, name, kind);
    }
    for (int i = X509_NAME_entry_count(name) - 1; i >= 0; i--) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        if (find_kind(entry, GO_KIND_COUNT) < GO_KIND_COUNT) {
            continue;
        }
        char oid[128];
        OBJ_obj2txt(oid, sizeof(oid), X509_NAME_ENTRY_get_object(entry), 1);
        add_text(&text, text.len > 0 ? "," : "");
        add_text(&text, oid);
        add_text(&text, "=#");
        add_der(&text, entry);
    }
    return finish_text(&text, ret_text, ret_len);
}

/* ---------------------------------------------------------------- as it is */

bool rb_tls_dn_raw(const X509_NAME *name, char **ret_text, size_t *ret_len)
{
    struct text text = { 0 };
    int set = -1;
    for (int i = X509_NAME_entry_count(name) - 1; i >= 0; i--) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        size_t kind = find_kind(entry, RAW_KIND_COUNT);
        if (kind == RAW_KIND_COUNT) {
            text.len = 0;
            break;
        }
        if (set != -1) {
            add_text(&text, X509_NAME_ENTRY_set(entry) == set ? "+" : ",");
        }
        set = X509_NAME_ENTRY_set(entry);
        add_text(&text, kinds[kind].name);
        add_text(&text, "=");
        add_value(&text, entry);
    }
    return finish_text(&text, ret_text, ret_len);
}
