/* The tls block, with certificates made for the occasion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "server/config.h"
#include "tls/tls.h"

#define SECOND_NS 1000000000ll

static char dir[64], cert[96], key[96], other[96];
static struct rb_config config;

static void write_key(const char *path, EVP_PKEY *pkey)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, pkey, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
}

static int make_files(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/rb_test_tls_XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
    snprintf(key, sizeof(key), "%s/key.pem", dir);
    snprintf(other, sizeof(other), "%s/other.pem", dir);
    EVP_PKEY *pkey = EVP_EC_gen("P-256"), *second = EVP_EC_gen("P-256");
    X509 *x509 = X509_new();
    X509_set_version(x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
    X509_gmtime_adj(X509_getm_notBefore(x509), -60);
    X509_gmtime_adj(X509_getm_notAfter(x509), 86400);
    X509_set_pubkey(x509, pkey);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
                               (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(x509, X509_get_subject_name(x509));
    X509_sign(x509, pkey, EVP_sha256());
    FILE *file = fopen(cert, "w");
    PEM_write_X509(file, x509);
    fclose(file);
    write_key(key, pkey);
    write_key(other, second);
    X509_free(x509);
    EVP_PKEY_free(pkey);
    EVP_PKEY_free(second);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    rb_config_deinit(&config);
    unlink(cert);
    unlink(key);
    unlink(other);
    return rmdir(dir);
}

/** "tls {cert_file: ..., key_file: ... MORE}", on lines of their own; MORE begins line 4. */
static enum rb_err try_tls(const char *more, char error[RB_CONFIG_ERROR_MAX])
{
    char text[2048];
    rb_config_deinit(&config);
    rb_config_defaults(&config);
    snprintf(text, sizeof(text), "tls {\ncert_file: \"%s\"\nkey_file: \"%s\"\n%s\n}", cert, key,
             more);
    return rb_config_load_text(&config, "t.conf", rb_slice_text(text), error);
}

static const struct rb_tls_config *load(const char *more)
{
    char error[RB_CONFIG_ERROR_MAX];
    if (try_tls(more, error) != RB_OK) {
        fail_msg("'%s' is refused: %s", more, error);
    }
    assert_true(config.lists->tls.set);
    return &config.lists->tls;
}

static void expect_error(const char *more, const char *wanted)
{
    char error[RB_CONFIG_ERROR_MAX] = "";
    if (try_tls(more, error) != RB_ERR_INVALID || strcmp(error, wanted) != 0) {
        fail_msg("'%s' gives '%s', not '%s'", more, error, wanted);
    }
}

static void every_key_has_its_effect(void **state)
{
    (void)state;
    const struct rb_tls_config *tls = load("");
    assert_string_equal(tls->cert_file, cert);
    assert_int_equal(tls->timeout_ns, 2 * SECOND_NS);
    assert_false(tls->verify || tls->map || tls->handshake_first);
    assert_int_equal(config.auth_timeout_ns, 3 * SECOND_NS); /* a handshake comes first */
    assert_int_equal(config.policy->login.timeout_ns, 3 * SECOND_NS);
    tls = load(
        "timeout: 0.5, min_version: \"1.3\", connection_rate_limit: 7, verify: true\n"
        "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n"
        "curve_preferences: [X25519, CurveP256], handshake_first: \"300ms\"\n"
        "pinned_certs: [\"AAbb00112233445566778899AAbb00112233445566778899AAbb001122334455\"]");
    assert_int_equal(tls->timeout_ns, SECOND_NS / 2);
    assert_string_equal(tls->min_version, "1.3");
    assert_int_equal(tls->connection_rate_limit, 7);
    assert_true(tls->verify && !tls->map && tls->handshake_first);
    assert_int_equal(tls->cipher_count, 1);
    assert_int_equal(tls->curve_count, 2);
    assert_int_equal(tls->handshake_first_fallback_ns, SECOND_NS / 1000 * 300);
    assert_string_equal(tls->pinned[0],
                        "aabb00112233445566778899aabb00112233445566778899aabb001122334455");
    tls = load("verify_and_map: true");
    assert_true(tls->verify && tls->map);
    assert_true(config.policy->tls_map);
    struct rb_tls_options options;
    rb_config_tls_options(tls, &options);
    assert_true(options.verify);
    assert_string_equal(options.key_file, key);
}

static void handshake_first_has_many_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool first;
        int64_t fallback_ns;
    } forms[] = {
        { "true", true, 0 },           { "false", false, 0 },
        { "\"on\"", true, 0 },         { "\"OFF\"", false, 0 },
        { "auto", true, 50000000 },    { "auto_fallback", true, 50000000 },
        { "\"1s\"", true, SECOND_NS },
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        char text[64];
        snprintf(text, sizeof(text), "handshake_first: %s", forms[i].text);
        const struct rb_tls_config *tls = load(text);
        assert_int_equal(tls->handshake_first, forms[i].first);
        assert_int_equal(tls->handshake_first_fallback_ns, forms[i].fallback_ns);
    }
    expect_error("handshake_first: foo", "t.conf:4:1: field \"handshake_first\"'s value \"foo\" is "
                                         "invalid");
    expect_error("first: 5",
                 "t.conf:4:1: field \"first\" should be a boolean or a string, got int64");
}

static void keys_are_checked(void **state)
{
    (void)state;
    expect_error("foo: 1", "t.conf:4:1: error parsing tls config, unknown field \"foo\"");
    expect_error("verify: x",
                 "t.conf:4:1: error parsing tls config, expected 'verify' to be a boolean");
    expect_error("timeout: x",
                 "t.conf:4:1: error parsing tls config, 'timeout' time: invalid duration \"x\"");
    expect_error("cipher_suites: [foo]", "t.conf:4:17: unrecognized cipher foo");
    expect_error("cipher_suites: []",
                 "t.conf:4:1: error parsing tls config, 'cipher_suites' cannot be empty");
    expect_error("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]",
                 "t.conf:1:0: insecure cipher suites configured without "
                 "'allow_insecure_cipher_suites' option set: TLS_RSA_WITH_AES_128_CBC_SHA");
    (void)load("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]\nallow_insecure_cipher_suites: true");
    expect_error("curve_preferences: [foo]", "t.conf:4:21: unrecognized curve preference foo");
    expect_error("min_version: \"1.1\"",
                 "t.conf:4:1: error parsing tls config: unsupported TLS version: TLS 1.1");
    expect_error("min_version: 1.3",
                 "t.conf:4:1: error parsing tls config: 'min_version' wrong type: 1.3");
    expect_error("pinned_certs: [abc]",
                 "t.conf:4:16: error parsing tls config, 'pinned_certs' key abc does not look like "
                 "hex-encoded sha256 of DER encoded SubjectPublicKeyInfo");
    expect_error("connection_rate_limit: -1",
                 "t.conf:4:1: connection_rate_limit value can not be negative");
    expect_error("verify_cert_and_check_known_urls: true",
                 "t.conf:4:1: verify_cert_and_check_known_urls not supported in this context");
    expect_error("insecure: true",
                 "t.conf:4:1: option \"insecure\" is not supported by ringbus yet");
    expect_error("ocsp_peer: true",
                 "t.conf:4:1: option \"ocsp_peer\" is not supported by ringbus yet");
    expect_error("cert_store: x",
                 "t.conf:4:1: option \"cert_store\" is not supported by ringbus yet");
    (void)load("insecure: false, ocsp_peer: false");
}

static void expect_text_error(const char *text, const char *wanted)
{
    char error[RB_CONFIG_ERROR_MAX] = "";
    rb_config_deinit(&config);
    rb_config_defaults(&config);
    if (rb_config_load_text(&config, "t.conf", rb_slice_text(text), error) != RB_ERR_INVALID ||
        strstr(error, wanted) == NULL) {
        fail_msg("'%s' gives '%s', not '%s'", text, error, wanted);
    }
}

static void certificates(void **state)
{
    (void)state;
    char text[1024];
    expect_text_error("tls {}", "t.conf:1:0: missing 'cert_file' in TLS configuration");
    expect_text_error("tls {cert_file: c}", "t.conf:1:0: missing 'key_file' in TLS configuration");
    expect_text_error("tls {key_file: c}", "t.conf:1:0: missing 'cert_file' in TLS configuration");
    expect_text_error("tls {cert_file: \"/no/c\", key_file: \"/no/k\"}",
                      "t.conf:1:0: error parsing "
                      "X509 certificate/key pair");
    snprintf(text, sizeof(text), "tls {cert_file: \"%s\", key_file: \"%s\"}", cert, other);
    expect_text_error(text, "private key does not match public key");
    expect_text_error("tls {certs: [{cert_file: c}]}",
                      "both 'cert_file' and 'cert_key' options are required");
    snprintf(text, sizeof(text),
             "tls {certs: [{cert_file: \"%s\", key_file: \"%s\"}], cert_file: c}", cert, key);
    expect_text_error(text, "cannot combine 'cert_file' option with 'certs' option");
    snprintf(text, sizeof(text), "tls {certs: [{cert_file: \"%s\", key_file: \"%s\"}]}", cert, key);
    char error[RB_CONFIG_ERROR_MAX];
    assert_int_equal(rb_config_load_text(&config, "t.conf", rb_slice_text(text), error), RB_OK);
    assert_int_equal(config.lists->tls.cert_count, 1);
    assert_string_equal(config.lists->tls.certs[0].key_file, key);
}

static enum rb_args_action parse(const char *const *words, int count, char output[16384])
{
    char *argv[16] = { 0 };
    for (int i = 0; i < count; i++) {
        argv[i] = (char *)(uintptr_t)words[i];
    }
    rb_config_deinit(&config);
    rb_config_defaults(&config);
    return rb_args_parse(&config, count, argv, output, 16384);
}

static void flags(void **state)
{
    (void)state;
    static char output[16384];
    char path[96];
    const char *words[] = { "ringbus", "-tlscert", cert, "-tlskey", key, "-ms", "-1" };
    assert_int_equal(parse(words, 7, output), RB_ARGS_RUN);
    assert_true(config.lists->tls.set && !config.lists->tls.verify);
    assert_int_equal(config.lists->tls.timeout_ns, 2 * SECOND_NS);
    assert_int_equal(config.auth_timeout_ns, 3 * SECOND_NS);
    /* over the file's block */
    snprintf(path, sizeof(path), "%s/t.conf", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "tls {cert_file: \"%s\", key_file: \"%s\", timeout: 9}\n", cert, key);
    fclose(file);
    const char *off[] = { "ringbus", "-c", path, "-tls=false" };
    assert_int_equal(parse(off, 4, output), RB_ARGS_RUN);
    assert_false(config.lists->tls.set);
    assert_int_equal(config.auth_timeout_ns, 2 * SECOND_NS);
    const char *verify[] = { "ringbus", "-c", path, "-tlsverify", "-tlscacert", cert };
    assert_int_equal(parse(verify, 6, output), RB_ARGS_RUN);
    assert_true(config.lists->tls.verify);
    assert_int_equal(config.lists->tls.timeout_ns, 9 * SECOND_NS);
    const char *wrong[] = { "ringbus", "-tlscert", cert, "-tlskey", other };
    assert_int_equal(parse(wrong, 5, output), RB_ARGS_EXIT_FAIL);
    assert_non_null(strstr(output, "private key does not match public key"));
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_has_its_effect),
        cmocka_unit_test(handshake_first_has_many_forms),
        cmocka_unit_test(keys_are_checked),
        cmocka_unit_test(certificates),
        cmocka_unit_test(flags),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
