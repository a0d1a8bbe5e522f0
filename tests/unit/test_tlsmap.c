/* test_tlsmap.c - distinguished names, and certificates to users. */
#include "auth/tlsmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "ringbus/check.h"

#include "auth/dn.h"

/* ------------------------------------------------------------------ distinguished names */

static void texts_that_are_names(void **state)
{
    static const struct {
        const char *text;
        uint32_t rdns, attributes; /* 0: no name */
        const char *type, *value;  /* of the last attribute */
    } cases[] = {
        { "CN=a", 1, 1, "CN", "a" },
        { "CN=a,OU=b", 2, 2, "OU", "b" },
        { "CN=a+OU=b", 1, 2, "OU", "b" },
        { "  CN  =  a b  ", 1, 1, "CN", "a b" },
        { "CN=a\\, b\\ ", 1, 1, "CN", "a, b " },
        { "CN=\\ a", 1, 1, "CN", " a" },
        { "CN=\\c3\\A4", 1, 1, "CN", "\xc3\xa4" },
        { "CN=a=b", 1, 1, "CN", "a=b" },
        { "CN=,O=", 2, 2, "O", "" },
        { "1.2.3=x", 1, 1, "1.2.3", "x" },
        { "", 0, 0, "", "" },
        { "alice", 0, 0, "", "" },
        { "=a", 0, 0, "", "" },
        { "CN=a,", 0, 0, "", "" },
        { "CN=a,,O=b", 0, 0, "", "" },
        { "CN=#0401", 0, 0, "", "" },
        { "CN=a\\", 0, 0, "", "" },
        { "CN=a\\z", 0, 0, "", "" },
        { "CN=a\\4", 0, 0, "", "" },
        { "CN=a\\4g", 0, 0, "", "" },
    };
    struct rb_dn dn;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool ok = rb_dn_parse(rb_slice_text(cases[i].text), &dn);
        assert_int_equal(ok, cases[i].rdns > 0);
        if (ok) {
            assert_int_equal(dn.rdn_count, cases[i].rdns);
            assert_int_equal(dn.attribute_count, cases[i].attributes);
            const struct rb_dn_attribute *last = &dn.attributes[dn.attribute_count - 1];
            assert_true(rb_slice_equal(last->type, rb_slice_text(cases[i].type)));
            assert_true(rb_slice_equal(last->value, rb_slice_text(cases[i].value)));
        }
    }
}

static void names_have_bounds(void **state)
{
    static char text[RB_DN_TEXT_MAX + 2];
    struct rb_dn dn;
    for (int count = 63; count <= 65; count++) {
        text[0] = '\0';
        for (int i = 0; i < count; i++) {
            strcat(text, i == 0 ? "A=b" : ",A=b");
        }
        assert_int_equal(rb_dn_parse(rb_slice_text(text), &dn), count <= RB_DN_ATTRIBUTES_MAX);
    }
    memset(text, 'x', sizeof(text));
    text[1] = '=';
    assert_true(rb_dn_parse(rb_slice_of(text, RB_DN_TEXT_MAX), &dn));
    assert_false(rb_dn_parse(rb_slice_of(text, RB_DN_TEXT_MAX + 1), &dn));
}

static void names_compared(void **state)
{
    static const struct {
        const char *a, *b;
        bool equal, match;
    } cases[] = {
        { "CN=a,OU=b", "cn=a, ou=b", true, true },
        { "CN=a,OU=b", "OU=b,CN=a", false, true },
        { "CN=a+OU=b,O=c", "OU=b+CN=a,O=c", true, true },
        { "CN=a+OU=b", "CN=a,OU=b", false, false },
        { "CN=a", "CN=A", false, false },
        { "CN=a,CN=a", "CN=a", false, false },
        { "CN=a,CN=a,CN=b", "CN=a,CN=b,CN=b", false, false },
        { "DC=a,DC=b,CN=c", "CN=c,DC=b,DC=a", false, true },
        { "CN=a", "OU=a", false, false },
        { "CN=a+CN=a+OU=b", "CN=a+OU=b+OU=b", true, true }, /* as nats-server reads the rule */
    };
    struct rb_dn a, b;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(rb_dn_parse(rb_slice_text(cases[i].a), &a));
        assert_true(rb_dn_parse(rb_slice_text(cases[i].b), &b));
        assert_int_equal(rb_dn_equal(&a, &b), cases[i].equal);
        assert_int_equal(rb_dn_match(&a, &b), cases[i].match);
        assert_int_equal(rb_dn_match(&b, &a), cases[i].match);
        assert_int_equal(rb_dn_hash(&a) == rb_dn_hash(&b), cases[i].match);
    }
}

/* ------------------------------------------------------------------ certificates */

/* Attributes "TYPE=value"; a leading "+" joins the RDN of the one before. */
static struct rb_slice make_certificate(const char *const *attributes, unsigned char **ret_der)
{
    X509 *certificate = X509_new();
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    X509_NAME *name = X509_NAME_new();
    assert_true(certificate != NULL && key != NULL && name != NULL);
    for (; *attributes != NULL; attributes++) {
        bool joined = **attributes == '+';
        const char *type = *attributes + joined, *value = strchr(type, '=') + 1;
        char field[64];
        memcpy(field, type, (size_t)(value - type));
        field[value - type - 1] = '\0';
        assert_int_equal(X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                                    (const unsigned char *)value, -1, -1,
                                                    joined ? -1 : 0),
                         1);
    }
    assert_int_equal(X509_set_subject_name(certificate, name), 1);
    assert_int_equal(X509_set_issuer_name(certificate, name), 1);
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), 3600));
    assert_true(X509_sign(certificate, key, NULL) > 0);
    *ret_der = NULL;
    int len = i2d_X509(certificate, ret_der);
    assert_true(len > 0);
    X509_NAME_free(name);
    EVP_PKEY_free(key);
    X509_free(certificate);
    return rb_slice_of(*ret_der, (size_t)len);
}

enum { USERS_MAX = 8 };

static struct rb_policy *make_policy(const char *const *names, const uint32_t *types)
{
    struct rb_policy *policy;
    assert_int_equal(rb_policy_create(&policy), RB_OK);
    struct rb_policy_account *account = rb_arena_take(policy->arena, sizeof(*account));
    struct rb_policy_user *users = rb_arena_take(policy->arena, USERS_MAX * sizeof(*users));
    assert_true(account != NULL && users != NULL);
    account->name = RB_S("$G");
    policy->accounts = account;
    policy->account_count = 1;
    for (uint32_t i = 0; names[i] != NULL; i++) {
        rb_assert(i < USERS_MAX);
        users[i].name = rb_slice_text(names[i]);
        users[i].types = types == NULL ? RB_TYPE_ALL : types[i];
        policy->user_count++;
    }
    policy->users = users;
    policy->tls_map = true;
    assert_int_equal(rb_policy_seal(policy), RB_OK);
    return policy;
}

/* Who is the bearer of a certificate with this subject, among these users? NULL: nobody. */
static void check_subject(const char *const *attributes, const char *const *names,
                          const char *expected)
{
    unsigned char *der;
    struct rb_auth_cert cert = { .der = make_certificate(attributes, &der) };
    struct rb_policy *policy = make_policy(names, NULL);
    const struct rb_policy_user *user = rb_tlsmap_find(policy, &cert, RB_TYPE_STANDARD);
    if (expected == NULL) {
        assert_null(user);
    } else {
        assert_non_null(user);
        assert_true(rb_slice_equal(user->name, rb_slice_text(expected)));
    }
    rb_policy_release(policy);
    OPENSSL_free(der);
}

#define LIST(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* The same certificates and users were shown to nats-server 2.15.2, with the same outcome. */
static void subjects_to_users(void **state)
{
    const char *const *usual = LIST("C=US", "O=Acme", "OU=dev", "CN=ann");
    check_subject(usual, LIST("ann", "CN=ann,OU=dev,O=Acme,C=US"), "CN=ann,OU=dev,O=Acme,C=US");
    check_subject(usual, LIST("C=US, O=Acme, CN=ann, OU=dev"), "C=US, O=Acme, CN=ann, OU=dev");
    check_subject(usual, LIST("CN=ann"), NULL);
    check_subject(usual, LIST("CN=ann,OU=dev,O=Acme,C=DE"), NULL);
    /* In its own order wins over in another order, wherever it is configured. */
    check_subject(usual, LIST("C=US,O=Acme,OU=dev,CN=ann", "cn=ann, ou=dev, o=Acme, c=US"),
                  "cn=ann, ou=dev, o=Acme, c=US");
    check_subject(usual, LIST("C=US,O=Acme,OU=dev,CN=ann", "O=Acme,C=US,OU=dev,CN=ann"),
                  "C=US,O=Acme,OU=dev,CN=ann");
    /* Several values: the name keeps the RDNs, the text joins them. */
    const char *const *units = LIST("OU=a", "OU=b", "CN=ann");
    check_subject(units, LIST("CN=ann,OU=b,OU=a"), "CN=ann,OU=b,OU=a");
    check_subject(units, LIST("CN=ann,OU=a+OU=b"), "CN=ann,OU=a+OU=b");
    check_subject(units, LIST("CN=ann,OU=b+OU=a"), NULL);
    check_subject(LIST("OU=a", "+CN=ann"), LIST("OU=a+CN=ann"), "OU=a+CN=ann");
    check_subject(LIST("OU=a", "+CN=ann"), LIST("CN=ann,OU=a"), "CN=ann,OU=a");
    check_subject(LIST("CN=a, b#;"), LIST("CN=a\\2c b#\\3b"), "CN=a\\2c b#\\3b");
    /* Domain components: as RDNs, or behind the text in the certificate's order. */
    const char *const *domain = LIST("DC=com", "DC=acme", "CN=ann");
    check_subject(domain, LIST("CN=ann,DC=acme,DC=com"), "CN=ann,DC=acme,DC=com");
    check_subject(domain, LIST("CN=ann"), "CN=ann");
    check_subject(domain, LIST("CN=ann", "CN=ann,DC=com,DC=acme"), "CN=ann,DC=com,DC=acme");
    /* An attribute that has no name here: only the text is left. */
    const char *const *mail = LIST("CN=ann", "emailAddress=a@b.c");
    check_subject(mail, LIST("emailAddress=a@b.c,CN=ann"), NULL);
    check_subject(mail, LIST("CN=ann"), "CN=ann");
    check_subject(LIST("CN=first", "CN=last"), LIST("CN=last"), "CN=last");
    check_subject(LIST("CN=first", "CN=last"), LIST("CN=first"), NULL);
    check_subject(LIST("CN=first", "CN=last"), LIST("CN=first,CN=last"), "CN=first,CN=last");
    check_subject(LIST("O=x"), LIST("x", "CN=x"), NULL);
}

static void the_subject_as_text(void **state)
{
    static const struct {
        const char *attributes[8];
        const char *text, *with_domain;
    } cases[] = {
        { { "C=US", "ST=CA", "L=LA", "street=s", "postalCode=1", "O=o", NULL },
          "O=o,POSTALCODE=1,STREET=s,L=LA,ST=CA,C=US",
          "" },
        { { "serialNumber=9", "CN=c", "OU=b", "OU=a", NULL }, "SERIALNUMBER=9,CN=c,OU=b+OU=a", "" },
        { { "CN= #a,b ", NULL }, "CN=\\ #a\\,b\\ ", "" },
        { { "CN=#a+\"<>;\\", NULL }, "CN=\\#a\\+\\\"\\<\\>\\;\\\\", "" },
        { { "DC=com", "DC=x", "CN=a", NULL }, "CN=a", "CN=a,DC=com,DC=x" },
        { { "emailAddress=a@b.c", NULL }, "", "" },
    };
    static struct rb_tlsmap_subject subject;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned char *der;
        struct rb_slice bytes = make_certificate(cases[i].attributes, &der);
        assert_true(rb_tlsmap_subject(bytes, &subject));
        assert_true(rb_slice_equal(subject.text, rb_slice_text(cases[i].text)));
        assert_true(rb_slice_equal(subject.with_domain, rb_slice_text(cases[i].with_domain)));
        assert_false(rb_tlsmap_subject(rb_slice_of(der, bytes.len / 2), &subject));
        OPENSSL_free(der);
    }
    assert_false(rb_tlsmap_subject(rb_slice_of(NULL, 0), &subject));
}

/* E-mail, DNS, URI, subject; a user who may not come this way is passed over. */
static void the_order_of_names(void **state)
{
    unsigned char *der;
    const struct rb_slice emails[] = { RB_S("x@y.z"), RB_S("a@b.c") };
    const struct rb_slice dns_names[] = { RB_S("host.a"), RB_S("host.b") };
    const struct rb_slice uris[] = { RB_S("spiffe://t/a") };
    const char *const names[] = { "a@b.c", "host.b", "host.a", "spiffe://t/a", "CN=ann", NULL };
    const struct rb_auth_cert cert = {
        .emails = emails,
        .email_count = 2,
        .dns_names = dns_names,
        .dns_count = 2,
        .uris = uris,
        .uri_count = 1,
        .der = make_certificate(LIST("CN=ann"), &der),
    };
    static const int order[] = { 0, 2, 1, 3, 4 };
    uint32_t types[] = { RB_TYPE_ALL, RB_TYPE_ALL, RB_TYPE_ALL, RB_TYPE_ALL, RB_TYPE_ALL };
    for (int i = 0; i < 5; i++) {
        struct rb_policy *policy = make_policy(names, types);
        const struct rb_policy_user *user = rb_tlsmap_find(policy, &cert, RB_TYPE_STANDARD);
        assert_ptr_equal(user, &policy->users[order[i]]);
        rb_policy_release(policy);
        types[order[i]] = RB_TYPE_WEBSOCKET;
    }
    struct rb_policy *policy = make_policy(names, types);
    assert_null(rb_tlsmap_find(policy, &cert, RB_TYPE_STANDARD));
    assert_ptr_equal(rb_tlsmap_find(policy, &cert, RB_TYPE_WEBSOCKET), &policy->users[0]);
    const struct rb_auth_cert empty = { 0 };
    assert_null(rb_tlsmap_find(policy, &empty, RB_TYPE_WEBSOCKET));
    rb_policy_release(policy);
    OPENSSL_free(der);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_are_names), cmocka_unit_test(names_have_bounds),
        cmocka_unit_test(names_compared),       cmocka_unit_test(subjects_to_users),
        cmocka_unit_test(the_subject_as_text),  cmocka_unit_test(the_order_of_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
