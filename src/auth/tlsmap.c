/* tlsmap.c - verify_and_map: a certificate's names, tried in nats-server's order (client-protocol.md 19).
 *
 * 1. A name counts when it is a user's, letter by letter, and the user may come by this kind of connection; otherwise the
 *    next name is tried.
 * 2. The subject is read from the certificate itself, since no single text has what nats-server compares: the distinguished
 *    name keeps all RDNs in order, the text has nine known types in a fixed order (that of Go's crypto/x509/pkix), each once
 *    with all its values, then the domain components.
 * 3. A subject with an attribute that is neither of the nine nor a domain component has no distinguished name to compare;
 *    its text still counts.
 * 4. nats-server tries users in no order when names match but for the order of RDNs; here the first one configured wins.
 */
#include "auth/tlsmap.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include "auth/dn.h"

/* The known types in the order in which the text has them. */
static const struct known_type {
    int nid;
    const char *name;
    bool single; /* the last one counts */
} known_types[] = {
    { NID_serialNumber, "SERIALNUMBER", true },
    { NID_commonName, "CN", true },
    { NID_organizationalUnitName, "OU", false },
    { NID_organizationName, "O", false },
    { NID_postalCode, "POSTALCODE", false },
    { NID_streetAddress, "STREET", false },
    { NID_localityName, "L", false },
    { NID_stateOrProvinceName, "ST", false },
    { NID_countryName, "C", false },
    { NID_domainComponent, "DC", false }, /* the last: not part of the text proper */
};
enum { KNOWN_TYPES = sizeof(known_types) / sizeof(known_types[0]), TEXT_TYPES = KNOWN_TYPES - 1 };

static const struct known_type *type_of(X509_NAME_ENTRY *entry)
{
    int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
    for (int i = 0; i < KNOWN_TYPES; i++) {
        if (known_types[i].nid == nid) {
            return &known_types[i];
        }
    }
    return NULL;
}

/* The value as UTF-8; freed with OPENSSL_free. Empty on failure: then *ret_bytes is NULL. */
static struct rb_slice value_of(X509_NAME_ENTRY *entry, unsigned char **ret_bytes)
{
    int len = ASN1_STRING_to_UTF8(ret_bytes, X509_NAME_ENTRY_get_data(entry));
    if (len < 0) {
        *ret_bytes = NULL;
        return rb_slice_of(NULL, 0);
    }
    return rb_slice_of(*ret_bytes, (size_t)len);
}

/* ------------------------------------------------------------------ the distinguished name */

/* From the last RDN to the first, as in text. False: invariant 3, or beyond the bounds. */
static bool read_dn(const X509_NAME *name, struct rb_dn *dn)
{
    rb_dn_init(dn);
    int set = -1;
    for (int i = X509_NAME_entry_count(name) - 1; i >= 0; i--) {
        X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        const struct known_type *type = type_of(entry);
        if (type == NULL) {
            return false;
        }
        uint32_t rdn = dn->rdn_count - (X509_NAME_ENTRY_set(entry) == set);
        set = X509_NAME_ENTRY_set(entry);
        unsigned char *bytes;
        struct rb_slice value = value_of(entry, &bytes);
        bool ok = bytes != NULL && rb_dn_add(dn, rdn, rb_slice_text(type->name), value);
        OPENSSL_free(bytes);
        if (!ok) {
            return false;
        }
    }
    return dn->rdn_count > 0;
}

static const struct rb_policy_user *find_dn(const struct rb_policy *policy, const struct rb_dn *dn,
                                            uint32_t type)
{
    uint32_t count;
    const struct rb_policy_dn *candidates = rb_policy_dns_of(policy, rb_dn_hash(dn), &count);
    const struct rb_policy_user *reordered = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct rb_policy_user *user = &policy->users[candidates[i].user];
        struct rb_dn theirs;
        if ((user->types & type) == 0 || !rb_dn_parse(user->name, &theirs)) {
            continue;
        }
        if (rb_dn_equal(&theirs, dn)) {
            return user;
        }
        if (reordered == NULL && rb_dn_match(&theirs, dn)) {
            reordered = user;
        }
    }
    return reordered;
}

/* ------------------------------------------------------------------ the text */

static void write_escaped(struct rb_writer *writer, struct rb_slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.ptr[i];
        bool edge = (c == ' ' && (i == 0 || i + 1 == value.len)) || (c == '#' && i == 0);
        if (edge || (c != '\0' && strchr(",+\"\\<>;", c) != NULL)) {
            rb_write_u8(writer, '\\');
        }
        rb_write_u8(writer, c);
    }
}

/* All values of one type, "OU=a+OU=b" (or with `separator` between them, unescaped when they are domain components). */
static void write_type(struct rb_writer *writer, const X509_NAME *name,
                       const struct known_type *type, char separator)
{
    size_t start = rb_writer_len(writer);
    int count = X509_NAME_entry_count(name);
    for (int i = 0; i < count; i++) {
        X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        if (type_of(entry) != type) {
            continue;
        }
        if (type->single &&
            X509_NAME_get_index_by_NID((X509_NAME *)(uintptr_t)name, type->nid, i) >= 0) {
            continue; /* a later one follows */
        }
        unsigned char *bytes;
        struct rb_slice value = value_of(entry, &bytes);
        if (!(type->single && value.len == 0)) {
            if (rb_writer_len(writer) > 0) {
                rb_write_u8(writer, (uint8_t)(rb_writer_len(writer) > start ? separator : ','));
            }
            rb_write_slice(writer, rb_slice_text(type->name));
            rb_write_u8(writer, '=');
            if (separator == ',') {
                rb_write_slice(writer, value);
            } else {
                write_escaped(writer, value);
            }
        }
        OPENSSL_free(bytes);
    }
}

static bool write_subject(const X509_NAME *name, struct rb_tlsmap_subject *subject)
{
    struct rb_writer text = rb_writer_over(subject->bytes, RB_TLSMAP_TEXT_MAX);
    for (int i = 0; i < TEXT_TYPES; i++) {
        write_type(&text, name, &known_types[i], '+');
    }
    subject->text = rb_slice_of(subject->bytes, rb_writer_len(&text));
    subject->with_domain = rb_slice_of(NULL, 0);
    struct rb_writer whole =
        rb_writer_over(subject->bytes + RB_TLSMAP_TEXT_MAX, RB_TLSMAP_TEXT_MAX);
    rb_write_slice(&whole, subject->text);
    rb_write_u8(&whole, ',');
    struct rb_writer domain = rb_writer_over(whole.at, (size_t)(whole.end - whole.at));
    write_type(&domain, name, &known_types[TEXT_TYPES], ',');
    if (rb_writer_len(&domain) > 0) {
        subject->with_domain =
            rb_slice_of(whole.begin, rb_writer_len(&whole) + rb_writer_len(&domain));
    }
    return text.ok && whole.ok && domain.ok;
}

static X509 *read_certificate(struct rb_slice der)
{
    const unsigned char *at = der.ptr;
    if (der.len == 0 || der.len > INT32_MAX) {
        return NULL;
    }
    ERR_set_mark();
    X509 *certificate = d2i_X509(NULL, &at, (long)der.len);
    ERR_pop_to_mark();
    return certificate;
}

bool rb_tlsmap_subject(struct rb_slice der, struct rb_tlsmap_subject *ret_subject)
{
    X509 *certificate = read_certificate(der);
    bool ok = certificate != NULL && write_subject(X509_get_subject_name(certificate), ret_subject);
    X509_free(certificate);
    return ok;
}

/* ------------------------------------------------------------------ the search */

static const struct rb_policy_user *find_name(const struct rb_policy *policy, struct rb_slice name,
                                              uint32_t type)
{
    const struct rb_policy_user *user = rb_policy_user_by_name(policy, name);
    return user != NULL && (user->types & type) != 0 ? user : NULL;
}

static const struct rb_policy_user *find_names(const struct rb_policy *policy,
                                               const struct rb_slice *names, uint32_t count,
                                               uint32_t type)
{
    const struct rb_policy_user *user = NULL;
    for (uint32_t i = 0; user == NULL && i < count; i++) {
        user = find_name(policy, names[i], type);
    }
    return user;
}

static const struct rb_policy_user *find_subject(const struct rb_policy *policy,
                                                 const X509_NAME *name, uint32_t type)
{
    const struct rb_policy_user *user = NULL;
    struct rb_dn dn;
    if (policy->dn_count > 0 && read_dn(name, &dn)) {
        user = find_dn(policy, &dn, type);
    }
    struct rb_tlsmap_subject subject;
    if (user == NULL && write_subject(name, &subject)) {
        user = find_name(policy, subject.with_domain, type);
        user = user == NULL ? find_name(policy, subject.text, type) : user;
    }
    return user;
}

const struct rb_policy_user *rb_tlsmap_find(const struct rb_policy *policy,
                                            const struct rb_auth_cert *cert, uint32_t type)
{
    const struct rb_policy_user *user = find_names(policy, cert->emails, cert->email_count, type);
    if (user == NULL) {
        user = find_names(policy, cert->dns_names, cert->dns_count, type);
    }
    if (user == NULL) {
        user = find_names(policy, cert->uris, cert->uri_count, type);
    }
    X509 *certificate = user == NULL ? read_certificate(cert->der) : NULL;
    if (certificate != NULL) {
        user = find_subject(policy, X509_get_subject_name(certificate), type);
        X509_free(certificate);
    }
    return user;
}
