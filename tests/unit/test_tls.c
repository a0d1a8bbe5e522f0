/* test_tls.c - contexts, handshakes and data, through memory, with certificates made for the run. */
#include "tls/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "tls_pair.h"

#define ANY_STEP ((size_t)1 << 30)
#define ERROR_CAP 512

static char *folder; /* of the certificates; made once for all tests */

static const char *path(const char *name)
{
    return cert_path(folder, name);
}

/* ---------------------------------------------------------------- contexts */

static struct rb_tls_options with_cert(const char *name)
{
    char cert[64], key[64];
    snprintf(cert, sizeof(cert), "%s.pem", name);
    snprintf(key, sizeof(key), "%s-key.pem", name);
    return (struct rb_tls_options){ .cert_file = path(cert), .key_file = path(key) };
}

static struct rb_tls_context *create(const struct rb_tls_options *options)
{
    struct rb_tls_context *context = NULL;
    char error[ERROR_CAP] = "";
    enum rb_err err = rb_tls_context_create(options, &context, error, sizeof(error));
    assert_string_equal(error, "");
    assert_int_equal(err, RB_OK);
    assert_int_equal(ERR_peek_error(), 0);
    return context;
}

static struct rb_tls_context *create_server(const char *cert, bool verify, const char *min_version)
{
    struct rb_tls_options options = with_cert(cert);
    options.ca_file = path("ca.pem");
    options.verify = verify;
    options.min_version = min_version;
    return create(&options);
}

static struct rb_tls_context *create_client(const char *cert)
{
    struct rb_tls_options options = { 0 };
    if (cert != NULL) {
        options = with_cert(cert);
    }
    options.ca_file = path("ca.pem");
    options.client = true;
    return create(&options);
}

static void refused(const struct rb_tls_options *options, const char *expected)
{
    struct rb_tls_context *context = NULL;
    char error[ERROR_CAP] = "";
    assert_int_equal(rb_tls_context_create(options, &context, error, sizeof(error)),
                     RB_ERR_INVALID);
    assert_string_equal(error, expected);
    assert_null(context);
    assert_int_equal(ERR_peek_error(), 0);
}

#define PAIR "error parsing X509 certificate/key pair: "

static void files_that_do_not_fit_are_refused_in_gos_words(void **state)
{
    static const struct {
        const char *cert, *key, *expected;
    } cases[] = {
        { "server-ecdsa.pem", "server-rsa-key.pem",
          PAIR "tls: private key type does not match public key type" },
        { "server-ecdsa.pem", "client-key.pem", PAIR "tls: private key does not match public key" },
        { "server-rsa.pem", "ca.pem",
          PAIR "tls: found a certificate rather than a key in the PEM for the private key" },
        { "server-rsa-key.pem", "server-rsa-key.pem",
          PAIR "tls: failed to find certificate PEM data in certificate input, but did find a "
               "private key; PEM inputs may have been switched" },
        { "garbage", "server-rsa-key.pem",
          PAIR "tls: failed to find any PEM data in certificate input" },
        { "server-rsa.pem", "garbage", PAIR "tls: failed to find any PEM data in key input" },
    };
    FILE *garbage = fopen(path("garbage"), "w");
    assert_non_null(garbage);
    assert_true(fputs("garbage\n", garbage) >= 0);
    fclose(garbage);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rb_tls_options options = { .cert_file = path(cases[i].cert),
                                          .key_file = path(cases[i].key) };
        refused(&options, cases[i].expected);
    }
    struct rb_tls_options short_key = with_cert("server-short");
    refused(&short_key, PAIR "tls: ee key too small");
    struct rb_tls_options options = with_cert("server-rsa");
    options.ca_file = path("garbage");
    refused(&options, "failed to parse root ca certificate");
    options.ca_file = "/nonexistent/ca.pem";
    refused(&options, "open /nonexistent/ca.pem: no such file or directory");
    options.ca_file = "/tmp";
    refused(&options, "read /tmp: is a directory");
}

static void missing_and_encrypted_files_are_named(void **state)
{
    char expected[ERROR_CAP];
    struct rb_tls_options options = { .cert_file = "/nonexistent/x.pem", .key_file = "/x" };
    refused(&options, PAIR "open /nonexistent/x.pem: no such file or directory");
    options = (struct rb_tls_options){ .cert_file = path("server-rsa.pem") };
    refused(&options, "missing 'key_file' in TLS configuration");
    options = (struct rb_tls_options){ 0 };
    refused(&options, "missing 'cert_file' in TLS configuration");
    options = (struct rb_tls_options){ .cert_file = path("server-rsa.pem"),
                                       .key_file = path("encrypted-key.pem") };
    snprintf(expected, sizeof(expected),
             PAIR "tls: failed to parse private key: %s is encrypted, which is not supported",
             path("encrypted-key.pem"));
    refused(&options, expected);
    options = with_cert("server-rsa");
    options.certs[0].cert_file = path("server-ecdsa.pem");
    options.certs[0].key_file = path("server-ecdsa-key.pem");
    options.certs[1].cert_file = "/nonexistent/y.pem";
    options.certs[1].key_file = "/y";
    options.cert_count = 2;
    refused(&options, "error parsing X509 certificate/key pair 2/2: open /nonexistent/y.pem: no "
                      "such file or directory");
}

static void unknown_names_are_refused(void **state)
{
    static const char *const bad_suite[] = { "TLS_AES_128_GCM_SHA256", "FOO" };
    static const char *const old_suite[] = { "TLS_RSA_WITH_RC4_128_SHA" };
    static const char *const bad_curve[] = { "CurveP256", "P-256" };
    static const char *const new_curve[] = { "X25519MLKEM768" };
    static const char *const bad_pin[] = { "abc" };
    struct rb_tls_options options = with_cert("server-rsa");
    options.ciphers = bad_suite;
    options.cipher_count = 2;
    refused(&options, "unrecognized cipher FOO");
    options.ciphers = old_suite;
    options.cipher_count = 1;
    refused(&options, "cipher TLS_RSA_WITH_RC4_128_SHA is not supported");
    options.cipher_count = 0;
    options.curves = bad_curve;
    options.curve_count = 2;
    refused(&options, "unrecognized curve preference P-256");
    options.curves = new_curve;
    options.curve_count = 1;
    refused(&options, "curve preference X25519MLKEM768 is not supported");
    options.curve_count = 0;
    options.min_version = "1.1";
    refused(&options, "error parsing tls config: unsupported TLS version: TLS 1.1");
    options.min_version = "1.4";
    refused(&options, "error parsing tls config: unknown version: 1.4");
    options.min_version = NULL;
    options.pinned = bad_pin;
    options.pinned_count = 1;
    refused(&options, "error parsing tls config, 'pinned_certs' key abc does not look like "
                      "hex-encoded sha256 of DER encoded SubjectPublicKeyInfo");
}

static void contexts_tell_their_end(void **state)
{
    struct rb_tls_options options = with_cert("server-rsa");
    struct rb_tls_context *context = create(&options);
    int64_t later = rb_tls_context_not_after(context);
    assert_true(later > INT64_C(1700000000));
    assert_false(rb_tls_context_verifies(context));
    rb_tls_context_release(context);
    options.certs[0].cert_file = path("client-expired.pem");
    options.certs[0].key_file = path("client-expired-key.pem");
    options.cert_count = 1;
    context = create(&options);
    assert_int_equal(rb_tls_context_not_after(context), 1577923200); /* 2020-01-02 */
    rb_tls_context_release(context);
    rb_tls_context_release(NULL);
}

/* ---------------------------------------------------------------- pairs */

static void assert_shaken(struct tls_pair *pair)
{
    assert_string_equal(rb_tls_error(pair->server), "");
    assert_string_equal(rb_tls_error(pair->client), "");
    assert_int_equal(pair->server_result, RB_TLS_DONE);
    assert_int_equal(pair->client_result, RB_TLS_DONE);
    assert_int_equal(ERR_peek_error(), 0);
}

/* Sends `len` patterned bytes one way and checks what arrives. */
static void send_one_way(struct rb_tls *from, struct rb_tls *to, struct wire *there,
                         struct wire *back, size_t len)
{
    uint8_t *sent = malloc(len + 1), *got = calloc(1, len + 1);
    size_t got_len = 0;
    assert_non_null(sent);
    assert_non_null(got);
    for (size_t i = 0; i < len; i++) {
        sent[i] = (uint8_t)(i * 31 + i / 251);
    }
    assert_int_equal(rb_tls_write(from, rb_slice_of(sent, len), wire_sink, there), RB_TLS_DONE);
    assert_int_equal(tls_read_all(to, there, back, got, len + 1, &got_len), RB_TLS_MORE);
    assert_int_equal(got_len, len);
    assert_memory_equal(sent, got, len);
    assert_int_equal(there->begin, there->end);
    free(sent);
    free(got);
}

static void exchange(struct tls_pair *pair, size_t len)
{
    send_one_way(pair->client, pair->server, &pair->to_server, &pair->to_client, len);
    send_one_way(pair->server, pair->client, &pair->to_client, &pair->to_server, len);
}

struct raw {
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out;
    struct rb_tls *server;
    struct wire to_client;
    enum rb_tls_result result;
};

/* A client of OpenSSL's own, whose versions, lists and messages the test chooses. */
static void raw_init(struct raw *raw, struct rb_tls_context *server, int version)
{
    *raw = (struct raw){ .context = SSL_CTX_new(TLS_client_method()) };
    assert_non_null(raw->context);
    SSL_CTX_set_security_level(raw->context, 0);
    assert_int_equal(SSL_CTX_set_min_proto_version(raw->context, version), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(raw->context, version), 1);
    raw->ssl = SSL_new(raw->context);
    raw->in = BIO_new(BIO_s_mem());
    raw->out = BIO_new(BIO_s_mem());
    assert_true(raw->ssl != NULL && raw->in != NULL && raw->out != NULL);
    SSL_set_bio(raw->ssl, raw->in, raw->out);
    SSL_set_connect_state(raw->ssl);
    raw->result = RB_TLS_MORE;
    assert_int_equal(rb_tls_create(server, &raw->server), RB_OK);
}

static void raw_deinit(struct raw *raw)
{
    SSL_free(raw->ssl);
    SSL_CTX_free(raw->context);
    rb_tls_destroy(raw->server);
    wire_free(&raw->to_client);
    ERR_clear_error();
}

/* What the client has written, to be freed by the caller. */
static struct rb_slice raw_output(struct raw *raw)
{
    size_t len = BIO_ctrl_pending(raw->out);
    uint8_t *bytes = malloc(len + 1);
    assert_non_null(bytes);
    if (len > 0) {
        assert_int_equal(BIO_read(raw->out, bytes, (int)len), len);
    }
    return rb_slice_of(bytes, len);
}

static void raw_input(struct raw *raw)
{
    struct wire *wire = &raw->to_client;
    if (wire->end > wire->begin) {
        assert_true(BIO_write(raw->in, wire->bytes + wire->begin, (int)(wire->end - wire->begin)) >
                    0);
        wire->begin = wire->end;
    }
}

static void raw_shake(struct raw *raw)
{
    for (int i = 0; i < 10 && raw->result == RB_TLS_MORE; i++) {
        (void)SSL_do_handshake(raw->ssl);
        ERR_clear_error();
        struct rb_slice sent = raw_output(raw), in = sent;
        if (in.len > 0) {
            raw->result = rb_tls_handshake(raw->server, &in, wire_sink, &raw->to_client);
            assert_int_equal(ERR_peek_error(), 0);
        }
        free((void *)sent.ptr);
        raw_input(raw);
    }
    (void)SSL_do_handshake(raw->ssl); /* the server's last flight */
    ERR_clear_error();
}

static const int both_versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

/* ---------------------------------------------------------------- handshakes */

static void handshakes_work_in_steps_of_any_size(void **state)
{
    static const size_t steps[] = { 1, 2, 3, 4, 5, 6, 7, 16, 17, 100, 1000, ANY_STEP };
    struct rb_tls_context *server = create_server("server-ecdsa", true, NULL);
    struct rb_tls_context *client = create_client("client");
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct tls_pair pair;
        tls_pair_init(&pair, client, server, "localhost");
        tls_pair_shake(&pair, steps[i]);
        assert_shaken(&pair);
        exchange(&pair, 100);
        assert_string_equal(rb_tls_version(pair.server), "1.3");
        assert_string_equal(rb_tls_cipher(pair.server), "TLS_AES_128_GCM_SHA256");
        assert_string_equal(rb_tls_cipher(pair.client), "TLS_AES_128_GCM_SHA256");
        tls_pair_deinit(&pair);
    }
    rb_tls_context_release(client);
    rb_tls_context_release(server);
}

/* Cuts the client's flights in two at every byte. */
static void handshakes_may_be_cut_anywhere(void **state)
{
    struct rb_tls_context *server = create_server("server-ecdsa", false, NULL);
    for (size_t v = 0; v < 2; v++) {
        bool in_range = true;
        for (size_t cut = 0; in_range; cut++) {
            struct raw raw;
            raw_init(&raw, server, both_versions[v]);
            in_range = false;
            while (raw.result == RB_TLS_MORE) {
                (void)SSL_do_handshake(raw.ssl);
                struct rb_slice sent = raw_output(&raw);
                assert_true(sent.len > 0);
                size_t first = cut < sent.len ? cut : sent.len;
                struct rb_slice head = rb_slice_of(sent.ptr, first);
                struct rb_slice tail = rb_slice_of(sent.ptr + first, sent.len - first);
                in_range = in_range || cut < sent.len;
                raw.result = rb_tls_handshake(raw.server, &head, wire_sink, &raw.to_client);
                assert_int_equal(head.len, 0);
                if (tail.len > 0) {
                    assert_int_equal(raw.result, RB_TLS_MORE);
                    raw.result = rb_tls_handshake(raw.server, &tail, wire_sink, &raw.to_client);
                    assert_int_equal(tail.len, 0);
                }
                free((void *)sent.ptr);
                raw_input(&raw);
            }
            assert_int_equal(raw.result, RB_TLS_DONE);
            assert_string_equal(rb_tls_version(raw.server), v == 0 ? "1.2" : "1.3");
            raw_deinit(&raw);
        }
    }
    rb_tls_context_release(server);
}

/* Data that rides behind the Finished message is left in the slice or given by the next read, not lost. */
static void data_behind_the_handshake_is_kept(void **state)
{
    struct rb_tls_context *server = create_server("server-ecdsa", false, NULL);
    for (size_t v = 0; v < 2; v++) {
        struct raw raw;
        raw_init(&raw, server, both_versions[v]);
        (void)SSL_do_handshake(raw.ssl);
        struct rb_slice hello = raw_output(&raw), in = hello;
        assert_int_equal(rb_tls_handshake(raw.server, &in, wire_sink, &raw.to_client), RB_TLS_MORE);
        free((void *)hello.ptr);
        raw_input(&raw);
        int finished = SSL_do_handshake(raw.ssl);
        if (v == 1) {
            assert_int_equal(finished, 1);
            assert_int_equal(SSL_write(raw.ssl, "PING\r\n", 6), 6);
        }
        struct rb_slice rest = raw_output(&raw);
        in = rest;
        assert_int_equal(rb_tls_handshake(raw.server, &in, wire_sink, &raw.to_client), RB_TLS_DONE);
        if (v == 1) {
            uint8_t out[16];
            size_t len = 0;
            assert_int_equal(
                rb_tls_read(raw.server, &in, out, sizeof(out), &len, wire_sink, &raw.to_client),
                RB_TLS_DONE);
            assert_int_equal(len, 6);
            assert_memory_equal(out, "PING\r\n", 6);
        }
        assert_int_equal(in.len, 0);
        free((void *)rest.ptr);
        raw_deinit(&raw);
    }
    rb_tls_context_release(server);
}

/* ---------------------------------------------------------------- who may come in */

static void judge_client(const char *cert, const char *server_error, const char *more)
{
    struct rb_tls_context *server = create_server("server-rsa", true, NULL);
    struct rb_tls_context *client = create_client(cert);
    struct tls_pair pair;
    tls_pair_init(&pair, client, server, "localhost");
    tls_pair_shake(&pair, ANY_STEP);
    assert_int_equal(pair.server_result, RB_TLS_FAILED);
    if (strncmp(rb_tls_error(pair.server), server_error, strlen(server_error)) != 0) {
        assert_string_equal(rb_tls_error(pair.server), server_error);
    }
    if (more != NULL) {
        assert_non_null(strstr(rb_tls_error(pair.server), more));
    } else {
        assert_string_equal(rb_tls_error(pair.server), server_error);
    }
    assert_null(rb_tls_peer_read(pair.server));
    assert_int_equal(ERR_peek_error(), 0);
    uint8_t out[16];
    size_t len;
    assert_int_equal(pair.client_result,
                     RB_TLS_DONE); /* 1.3: a client is done before it is judged */
    assert_int_equal(
        tls_read_all(pair.client, &pair.to_client, &pair.to_server, out, sizeof(out), &len),
        RB_TLS_FAILED);
    assert_int_equal(strncmp(rb_tls_error(pair.client), "remote error: tls: ", 19), 0);
    tls_pair_deinit(&pair);
    rb_tls_context_release(client);
    rb_tls_context_release(server);
}

static void clients_without_a_good_certificate_are_refused(void **state)
{
    judge_client(NULL, "tls: client didn't provide a certificate", NULL);
    judge_client("other-client",
                 "tls: failed to verify certificate: x509: certificate signed by unknown authority "
                 "(CN=stranger SHA-256: ",
                 ")");
    judge_client("client-expired",
                 "tls: failed to verify certificate: x509: certificate has expired or is not yet "
                 "valid: current time ",
                 " is after 2020-01-02T00:00:00Z (CN=late SHA-256: ");
    judge_client("client-server-eku",
                 "tls: failed to verify certificate: x509: certificate specifies an incompatible "
                 "key usage (CN=not a client SHA-256: ",
                 ")");
    judge_client("client-inter",
                 "tls: failed to verify certificate: x509: certificate signed by "
                 "unknown authority (CN=inter SHA-256: ",
                 ")");
}

static void signatures_with_sha1_are_refused(void **state)
{
    struct rb_tls_context *server = create_server("server-rsa", true, NULL);
    struct raw raw;
    raw_init(&raw, server, TLS1_3_VERSION);
    assert_int_equal(SSL_use_certificate_file(raw.ssl, path("client-sha1.pem"), SSL_FILETYPE_PEM),
                     1);
    assert_int_equal(
        SSL_use_PrivateKey_file(raw.ssl, path("client-sha1-key.pem"), SSL_FILETYPE_PEM), 1);
    raw_shake(&raw);
    assert_int_equal(raw.result, RB_TLS_FAILED);
    assert_non_null(strstr(rb_tls_error(raw.server), "tls: failed to verify certificate: x509: "));
    raw_deinit(&raw);
    rb_tls_context_release(server);
}

static void chains_are_followed_to_the_authority(void **state)
{
    struct rb_tls_options options = with_cert("client-inter");
    options.cert_file = path("client-inter-chain.pem");
    options.ca_file = path("ca.pem");
    options.client = true;
    struct rb_tls_context *client = create(&options);
    struct rb_tls_context *server = create_server("server-rsa", true, NULL);
    struct tls_pair pair;
    tls_pair_init(&pair, client, server, "127.0.0.1");
    tls_pair_shake(&pair, ANY_STEP);
    assert_shaken(&pair);
    struct rb_tls_peer *peer = rb_tls_peer_read(pair.server);
    assert_non_null(peer);
    assert_int_equal(peer->cert_count, 2);
    assert_true(rb_slice_equal(peer->certs[0].subject, RB_S("CN=inter")));
    assert_true(rb_slice_equal(peer->certs[1].subject, RB_S("CN=Inter CA")));
    rb_tls_peer_free(peer);
    tls_pair_deinit(&pair);
    rb_tls_context_release(client);
    rb_tls_context_release(server);
}

static void judge_host(const char *host, const char *expected)
{
    struct rb_tls_context *server = create_server("server-rsa", false, NULL);
    struct rb_tls_context *client = create_client(NULL);
    struct tls_pair pair;
    tls_pair_init(&pair, client, server, host);
    tls_pair_shake(&pair, ANY_STEP);
    if (expected == NULL) {
        assert_shaken(&pair);
        assert_null(rb_tls_peer_read(pair.server));
        struct rb_tls_peer *peer = rb_tls_peer_read(pair.client);
        assert_non_null(peer);
        assert_true(peer->verified);
        assert_int_equal(peer->cert_count, 1);
        rb_tls_peer_free(peer);
    } else {
        assert_int_equal(pair.client_result, RB_TLS_FAILED);
        assert_non_null(strstr(rb_tls_error(pair.client), expected));
    }
    tls_pair_deinit(&pair);
    rb_tls_context_release(client);
    rb_tls_context_release(server);
}

static void servers_must_have_the_name_that_was_dialled(void **state)
{
    judge_host("localhost", NULL);
    judge_host("127.0.0.1", NULL);
    judge_host("::1", NULL);
    judge_host("example.org", "x509: certificate is valid for localhost, not example.org");
    judge_host("127.0.0.2", "x509: certificate is valid for 127.0.0.1, ::1, not 127.0.0.2");
    judge_host(NULL, "a host name is needed");
}

static void insecure_clients_verify_nothing(void **state)
{
    struct rb_tls_options options = { .client = true, .insecure = true };
    struct rb_tls_context *client = create(&options);
    struct rb_tls_context *server = create_server("client-expired", false, NULL);
    struct tls_pair pair;
    tls_pair_init(&pair, client, server, NULL);
    tls_pair_shake(&pair, ANY_STEP);
    assert_shaken(&pair);
    struct rb_tls_peer *peer = rb_tls_peer_read(pair.client);
    assert_non_null(peer);
    assert_false(peer->verified);
    rb_tls_peer_free(peer);
    tls_pair_deinit(&pair);
    rb_tls_context_release(client);
    rb_tls_context_release(server);
}

static enum rb_tls_result shake_pinned(const char *pin, const char *cert, char error[ERROR_CAP])
{
    const char *const pins[] = { "0000000000000000000000000000000000000000000000000000000000000000",
                                 pin };
    struct rb_tls_options options = with_cert("server-rsa");
    options.ca_file = path("ca.pem");
    options.verify = true;
    options.pinned = pins;
    options.pinned_count = 2;
    struct rb_tls_context *server = create(&options), *client = create_client(cert);
    struct tls_pair pair;
    tls_pair_init(&pair, client, server, "localhost");
    tls_pair_shake(&pair, ANY_STEP);
    enum rb_tls_result result = pair.server_result;
    snprintf(error, ERROR_CAP, "%s", rb_tls_error(pair.server));
    tls_pair_deinit(&pair);
    rb_tls_context_release(client);
    rb_tls_context_release(server);
    return result;
}

static struct rb_tls_peer *peer_of(const char *cert)
{
    struct rb_tls_context *server = create_server("server-rsa", true, NULL);
    struct rb_tls_context *client = create_client(cert);
    struct tls_pair pair;
    tls_pair_init(&pair, client, server, "localhost");
    tls_pair_shake(&pair, ANY_STEP);
    assert_shaken(&pair);
    struct rb_tls_peer *peer = rb_tls_peer_read(pair.server);
    tls_pair_deinit(&pair);
    rb_tls_context_release(client);
    rb_tls_context_release(server);
    assert_non_null(peer);
    return peer;
}

static void only_pinned_keys_may_come_in(void **state)
{
    char error[ERROR_CAP];
    struct rb_tls_peer *peer = peer_of("client");
    char upper[65];
    for (size_t i = 0; i < 65; i++) {
        char c = peer->certs[0].spki_sha256[i];
        upper[i] = c >= 'a' && c <= 'f' ? (char)(c - 32) : c;
    }
    assert_int_equal(shake_pinned(peer->certs[0].spki_sha256, "client", error), RB_TLS_DONE);
    assert_int_equal(shake_pinned(upper, "client", error), RB_TLS_DONE);
    assert_int_equal(shake_pinned(peer->certs[0].cert_sha256, "client", error), RB_TLS_FAILED);
    assert_string_equal(error, "certificate not pinned");
    assert_int_equal(shake_pinned(peer->certs[0].spki_sha256, "client-multi", error),
                     RB_TLS_FAILED);
    rb_tls_peer_free(peer);
}

/* ---------------------------------------------------------------- the peer */

static void assert_slice(struct rb_slice got, const char *expected)
{
    char text[ERROR_CAP];
    snprintf(text, sizeof(text), "%.*s", RB_S_ARG(got));
    assert_string_equal(text, expected);
}

static void peers_are_described_as_nats_server_does(void **state)
{
    struct rb_tls_peer *peer = peer_of("client");
    assert_true(peer->verified);
    assert_int_equal(peer->cert_count, 1);
    assert_slice(
        peer->certs[0].subject,
        "CN=derek,OU=people+OU=ops,O=Example\\, Inc.,"
        "0.9.2342.19200300.100.1.25=#13076578616d706c65,0.9.2342.19200300.100.1.25=#13036f7267");
    assert_slice(peer->certs[0].subject_raw,
                 "CN=derek,OU=ops,OU=people,O=Example\\, Inc.,DC=example,DC=org");
    assert_int_equal(peer->email_count, 1);
    assert_slice(peer->emails[0], "derek@example.org");
    assert_int_equal(peer->dns_count, 1);
    assert_slice(peer->dns_names[0], "client.example.org");
    assert_int_equal(peer->uri_count, 1);
    assert_slice(peer->uris[0], "spiffe://example.org/client");
    assert_int_equal(strlen(peer->certs[0].spki_sha256), 64);
    assert_int_equal(strlen(peer->certs[0].cert_sha256), 64);
    assert_int_equal(peer->certs[0].der.ptr[0], 0x30);
    rb_tls_peer_free(peer);

    peer = peer_of("client-multi");
    assert_slice(peer->certs[0].subject,
                 "CN=multi,O=Example,C=US,0.9.2342.19200300.100.1.1=#130434373131");
    assert_slice(peer->certs[0].subject_raw, ""); /* nats-server has no name for UID and gives up */
    assert_int_equal(peer->email_count + peer->dns_count + peer->uri_count, 0);
    rb_tls_peer_free(peer);
    rb_tls_peer_free(NULL);
}

/* ---------------------------------------------------------------- versions, suites, curves */

static void assert_raw_fails(struct raw *raw, const char *expected)
{
    raw_shake(raw);
    assert_int_equal(raw->result, RB_TLS_FAILED);
    assert_string_equal(rb_tls_error(raw->server), expected);
    assert_true(raw->to_client.total > 0); /* an alert */
    raw_deinit(raw);
}

static void clients_with_nothing_in_common_are_told_why(void **state)
{
    struct raw raw;
    struct rb_tls_context *server = create_server("server-rsa", false, NULL);
    raw_init(&raw, server, TLS1_1_VERSION);
    assert_raw_fails(&raw, "tls: client offered only unsupported versions: [302 301]");
    raw_init(&raw, server, TLS1_2_VERSION);
    assert_int_equal(SSL_set_cipher_list(raw.ssl, "AES128-SHA"), 1);
    assert_raw_fails(
        &raw, "tls: no cipher suite supported by both client and server; client offered: [2f ff]");
    raw_init(&raw, server, TLS1_3_VERSION);
    assert_int_equal(SSL_set1_groups_list(raw.ssl, "X448"), 1);
    assert_raw_fails(&raw, "tls: no key exchanges supported by both client and server");
    raw_init(&raw, server, TLS1_3_VERSION);
    assert_int_equal(SSL_set1_sigalgs_list(raw.ssl, "ECDSA+SHA256"), 1);
    assert_raw_fails(&raw,
                     "tls: peer doesn't support any of the certificate's signature algorithms");
    rb_tls_context_release(server);
    server = create_server("server-rsa", false, "1.3");
    raw_init(&raw, server, TLS1_2_VERSION);
    assert_raw_fails(&raw, "tls: client offered only unsupported versions: [303 302 301]");
    rb_tls_context_release(server);
}

static void suites_follow_the_configuration(void **state)
{
    static const char *const names[] = { "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
                                         "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
                                         "TLS_RSA_WITH_AES_128_GCM_SHA256" };
    static const struct {
        const char *offer, *agreed;
    } cases[] = {
        { "ALL", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" },
        { "ECDHE-RSA-AES256-SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA" },
        { "AES128-GCM-SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256" },
        { "ECDHE-RSA-AES128-GCM-SHA256", NULL },
    };
    struct rb_tls_options options = with_cert("server-rsa");
    options.ciphers = names;
    options.cipher_count = 3;
    struct rb_tls_context *server = create(&options);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct raw raw;
        raw_init(&raw, server, TLS1_2_VERSION);
        assert_int_equal(SSL_set_cipher_list(raw.ssl, cases[i].offer), 1);
        raw_shake(&raw);
        assert_int_equal(raw.result, cases[i].agreed == NULL ? RB_TLS_FAILED : RB_TLS_DONE);
        if (cases[i].agreed != NULL) {
            assert_string_equal(rb_tls_cipher(raw.server), cases[i].agreed);
            assert_string_equal(rb_tls_version(raw.server), "1.2");
        }
        raw_deinit(&raw);
    }
    rb_tls_context_release(server);

    static const char *const newest[] = { "TLS_AES_128_GCM_SHA256" };
    options.ciphers = newest;
    options.cipher_count = 1;
    server = create(&options);
    struct raw raw;
    raw_init(&raw, server, TLS1_2_VERSION);
    raw_shake(&raw);
    assert_int_equal(raw.result, RB_TLS_FAILED);
    raw_deinit(&raw);
    rb_tls_context_release(server);
}

static void curves_follow_the_configuration(void **state)
{
    static const char *const names[] = { "CurveP384" };
    struct rb_tls_options options = with_cert("server-rsa");
    options.curves = names;
    options.curve_count = 1;
    struct rb_tls_context *server = create(&options);
    for (size_t v = 0; v < 2; v++) {
        struct raw raw;
        raw_init(&raw, server, both_versions[v]);
        raw_shake(&raw);
        assert_int_equal(raw.result, RB_TLS_DONE);
        EVP_PKEY *key = NULL;
        assert_int_equal(SSL_get_peer_tmp_key(raw.ssl, &key), 1);
        assert_int_equal(EVP_PKEY_get_bits(key), 384);
        EVP_PKEY_free(key);
        raw_deinit(&raw);
        raw_init(&raw, server, both_versions[v]);
        assert_int_equal(SSL_set1_groups_list(raw.ssl, "X25519:P-256"), 1);
        raw_shake(&raw);
        assert_int_equal(raw.result, RB_TLS_FAILED);
        raw_deinit(&raw);
    }
    rb_tls_context_release(server);
}

/* ---------------------------------------------------------------- several certificates */

static void judge_choice(struct rb_tls_context *server, const char *sni, int version,
                         const char *suites, const char *expected)
{
    struct raw raw;
    raw_init(&raw, server, version);
    if (sni != NULL) {
        assert_int_equal(SSL_set_tlsext_host_name(raw.ssl, sni), 1);
    }
    if (suites != NULL) {
        assert_int_equal(SSL_set_cipher_list(raw.ssl, suites), 1);
    }
    raw_shake(&raw);
    assert_string_equal(rb_tls_error(raw.server), "");
    assert_int_equal(raw.result, RB_TLS_DONE);
    char subject[128];
    X509_NAME_oneline(X509_get_subject_name(SSL_get0_peer_certificate(raw.ssl)), subject,
                      sizeof(subject));
    assert_string_equal(subject, expected);
    raw_deinit(&raw);
}

static void certificates_are_chosen_by_name_and_ability(void **state)
{
    static const char *const names[] = { "server-rsa", "server-wild", "server-name", "server-cn",
                                         "server-ecdsa" };
    char files[5][2][64];
    struct rb_tls_options options = { .cert_count = 5 };
    for (size_t i = 0; i < 5; i++) {
        snprintf(files[i][0], 64, "%s.pem", names[i]);
        snprintf(files[i][1], 64, "%s-key.pem", names[i]);
        options.certs[i].cert_file = path(files[i][0]);
        options.certs[i].key_file = path(files[i][1]);
    }
    struct rb_tls_context *server = create(&options);
    const int v12 = TLS1_2_VERSION, v13 = TLS1_3_VERSION;
    static const char first[] = "/O=ringbus tests/CN=server-rsa";
    judge_choice(server, NULL, v13, NULL, first);
    judge_choice(server, "unknown.example.com", v13, NULL, first);
    judge_choice(server, "localhost", v13, NULL, first);
    judge_choice(server, "name.example.org", v13, NULL, "/CN=name");
    judge_choice(server, "NAME.example.org", v12, NULL, "/CN=name");
    judge_choice(server, "other.example.org", v13, NULL, "/CN=wild");
    judge_choice(server, "a.b.example.org", v13, NULL, first);
    judge_choice(server, "old.example.org", v13, NULL, "/CN=wild"); /* SAN before CN */
    judge_choice(server, "localhost", v12, "ECDHE-ECDSA-AES128-GCM-SHA256",
                 "/O=ringbus tests/CN=server-ecdsa");
    judge_choice(server, "name.example.org", v12, "ECDHE-RSA-AES128-GCM-SHA256", "/CN=wild");
    rb_tls_context_release(server);
}

/* ---------------------------------------------------------------- data */

static void data_of_any_size_arrives(void **state)
{
    static const size_t sizes[] = { 1, 2, 100, 16383, 16384, 16385, 32768, 65536, 65537, 1000003 };
    struct rb_tls_context *server = create_server("server-ecdsa", false, NULL);
    struct rb_tls_context *client = create_client(NULL);
    struct tls_pair pair;
    tls_pair_init(&pair, client, server, "localhost");
    tls_pair_shake(&pair, ANY_STEP);
    assert_shaken(&pair);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        exchange(&pair, sizes[i]);
    }
    assert_int_equal(rb_tls_write(pair.server, RB_S(""), wire_sink, &pair.to_client), RB_TLS_DONE);
    assert_int_equal(pair.to_client.begin, pair.to_client.end);
    tls_pair_deinit(&pair);
    rb_tls_context_release(client);
    rb_tls_context_release(server);
}

/* Every suite, both ways, against OpenSSL; the ciphertext comes in pieces and the room to read into is small. */
static void every_suite_carries_data(void **state)
{
    static const struct {
        int version;
        const char *suite;
    } cases[] = {
        { TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256" },
        { TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384" },
        { TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305" },
        { TLS1_2_VERSION, "ECDHE-RSA-AES128-SHA" },
        { TLS1_2_VERSION, "ECDHE-RSA-AES128-SHA256" },
        { TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256" },
        { TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384" },
        { TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256" },
    };
    static const char *const names[] = { "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                                         "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                                         "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
                                         "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
                                         "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256" };
    static const size_t rooms[] = { 1, 7, 1000, 16384, 100000 };
    static uint8_t data[50000], got[50000], back[50000];
    struct rb_tls_options options = with_cert("server-rsa");
    options.ciphers = names;
    options.cipher_count = 5;
    struct rb_tls_context *server = create(&options);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7 + i / 300);
    }
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct raw raw;
        raw_init(&raw, server, cases[c].version);
        assert_int_equal(cases[c].version == TLS1_2_VERSION
                             ? SSL_set_cipher_list(raw.ssl, cases[c].suite)
                             : SSL_set_ciphersuites(raw.ssl, cases[c].suite),
                         1);
        raw_shake(&raw);
        assert_int_equal(raw.result, RB_TLS_DONE);
        for (size_t r = 0; r < sizeof(rooms) / sizeof(rooms[0]); r++) {
            assert_int_equal(SSL_write(raw.ssl, data, sizeof(data)), sizeof(data));
            struct rb_slice sent = raw_output(&raw);
            size_t at = 0, piece = 1 + r * 997;
            for (size_t from = 0; from < sent.len; from += piece) {
                struct rb_slice in =
                    rb_slice_of(sent.ptr + from, sent.len - from < piece ? sent.len - from : piece);
                enum rb_tls_result result = RB_TLS_DONE;
                while (result == RB_TLS_DONE) {
                    size_t room = sizeof(got) - at < rooms[r] ? sizeof(got) - at : rooms[r], len;
                    result = rb_tls_read(raw.server, &in, got + at, room == 0 ? 1 : room, &len,
                                         wire_sink, &raw.to_client);
                    at += len;
                }
                assert_int_equal(result, RB_TLS_MORE);
                assert_int_equal(in.len, 0);
            }
            free((void *)sent.ptr);
            assert_int_equal(at, sizeof(data));
            assert_memory_equal(got, data, sizeof(data));
            assert_int_equal(
                rb_tls_write(raw.server, rb_slice_of(got, sizeof(got)), wire_sink, &raw.to_client),
                RB_TLS_DONE);
            raw_input(&raw);
            size_t back_len = 0;
            while (back_len < sizeof(back)) {
                int len = SSL_read(raw.ssl, back + back_len, (int)(sizeof(back) - back_len));
                assert_true(len > 0);
                back_len += (size_t)len;
            }
            assert_memory_equal(back, data, sizeof(data));
        }
        raw_deinit(&raw);
    }
    rb_tls_context_release(server);
}

/* Takes what the client wrote. */
static enum rb_tls_result raw_read(struct raw *raw, uint8_t *out, size_t cap, size_t *ret_len)
{
    struct rb_slice sent = raw_output(raw), in = sent;
    enum rb_tls_result result =
        rb_tls_read(raw->server, &in, out, cap, ret_len, wire_sink, &raw->to_client);
    assert_int_equal(ERR_peek_error(), 0);
    free((void *)sent.ptr);
    raw_input(raw);
    return result;
}

static void keys_can_be_changed_on_the_way(void **state)
{
    static const int kinds[] = { SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED };
    struct rb_tls_context *server = create_server("server-rsa", false, NULL);
    struct raw raw;
    raw_init(&raw, server, TLS1_3_VERSION);
    raw_shake(&raw);
    for (int i = 0; i < 6; i++) {
        uint8_t out[16];
        char back[16];
        size_t len;
        assert_int_equal(SSL_key_update(raw.ssl, kinds[i % 2]), 1);
        assert_int_equal(SSL_write(raw.ssl, "hello", 5), 5);
        assert_int_equal(raw_read(&raw, out, sizeof(out), &len), RB_TLS_DONE);
        assert_int_equal(len, 5);
        assert_memory_equal(out, "hello", 5);
        assert_int_equal(rb_tls_write(raw.server, RB_S("world"), wire_sink, &raw.to_client),
                         RB_TLS_DONE);
        raw_input(&raw);
        assert_int_equal(SSL_read(raw.ssl, back, sizeof(back)), 5);
        assert_memory_equal(back, "world", 5);
    }
    raw_deinit(&raw);
    rb_tls_context_release(server);
}

/* Records that bring nothing are not answered for ever. */
static void floods_of_key_updates_end_the_connection(void **state)
{
    struct rb_tls_context *server = create_server("server-rsa", false, NULL);
    struct raw raw;
    uint8_t out[16];
    size_t len;
    enum rb_tls_result result = RB_TLS_MORE;
    int count = 0;
    raw_init(&raw, server, TLS1_3_VERSION);
    raw_shake(&raw);
    while (result == RB_TLS_MORE && count < 100) {
        assert_int_equal(SSL_key_update(raw.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(raw.ssl), 1);
        result = raw_read(&raw, out, sizeof(out), &len);
        (void)SSL_read(raw.ssl, out, sizeof(out)); /* takes the answer, or the alert */
        ERR_clear_error();
        count++;
    }
    assert_int_equal(result, RB_TLS_FAILED);
    assert_int_equal(count, 17);
    assert_string_equal(rb_tls_error(raw.server), "tls: too many ignored records");
    raw_deinit(&raw);
    rb_tls_context_release(server);
}

/* What the client has sent before its alert is read first; then the alert is told. */
static void alerts_come_after_the_data_before_them(void **state)
{
    struct rb_tls_context *server = create_server("server-rsa", false, NULL);
    for (size_t v = 0; v < 2; v++) {
        struct raw raw;
        uint8_t out[16];
        size_t len;
        raw_init(&raw, server, both_versions[v]);
        raw_shake(&raw);
        assert_int_equal(SSL_write(raw.ssl, "last", 4), 4);
        uint8_t
            bad[64]; /* a record that the client's own reader refuses: it answers with an alert */
        memset(bad, 0x5a, sizeof(bad));
        memcpy(bad, "\x17\x03\x03\x00\x3b", 5);
        assert_int_equal(BIO_write(raw.in, bad, sizeof(bad)), sizeof(bad));
        assert_int_equal(SSL_read(raw.ssl, out, sizeof(out)), -1);
        ERR_clear_error();
        assert_int_equal(raw_read(&raw, out, sizeof(out), &len), RB_TLS_DONE);
        assert_int_equal(len, 4);
        assert_memory_equal(out, "last", 4);
        assert_int_equal(rb_tls_write(raw.server, RB_S("x"), wire_sink, &raw.to_client),
                         RB_TLS_FAILED);
        assert_int_equal(raw_read(&raw, out, sizeof(out), &len), RB_TLS_FAILED);
        assert_string_equal(rb_tls_error(raw.server), "remote error: tls: bad record MAC");
        raw_deinit(&raw);
    }
    rb_tls_context_release(server);
}

/* A client may ask for short records; it gets them. */
static void short_records_are_kept_short(void **state)
{
    static uint8_t data[5000], back[5000];
    struct rb_tls_context *server = create_server("server-rsa", false, NULL);
    for (size_t v = 0; v < 2; v++) {
        struct raw raw;
        raw_init(&raw, server, both_versions[v]);
        assert_int_equal(
            SSL_set_tlsext_max_fragment_length(raw.ssl, TLSEXT_max_fragment_length_512), 1);
        raw_shake(&raw);
        assert_int_equal(raw.result, RB_TLS_DONE);
        size_t before = raw.to_client.total, len = 0;
        assert_int_equal(
            rb_tls_write(raw.server, rb_slice_of(data, sizeof(data)), wire_sink, &raw.to_client),
            RB_TLS_DONE);
        assert_true(raw.to_client.total - before >= sizeof(data) + sizeof(data) / 512 * 21);
        raw_input(&raw);
        while (len < sizeof(back)) {
            int got = SSL_read(raw.ssl, back + len, (int)(sizeof(back) - len));
            assert_true(got > 0);
            len += (size_t)got;
        }
        assert_string_equal(rb_tls_version(raw.server), v == 0 ? "1.2" : "1.3");
        raw_deinit(&raw);
    }
    rb_tls_context_release(server);
}

static void renegotiation_is_refused(void **state)
{
    struct rb_tls_context *server = create_server("server-rsa", false, NULL);
    struct raw raw;
    uint8_t out[16];
    size_t len;
    raw_init(&raw, server, TLS1_2_VERSION);
    raw_shake(&raw);
    assert_int_equal(SSL_renegotiate(raw.ssl), 1);
    assert_int_equal(SSL_do_handshake(raw.ssl), -1);
    size_t before = raw.to_client.total;
    enum rb_tls_result result = raw_read(&raw, out, sizeof(out), &len);
    assert_true(result == RB_TLS_MORE || result == RB_TLS_FAILED);
    assert_true(raw.to_client.total > before && raw.to_client.total - before < 64); /* an alert */
    ERR_clear_error();
    assert_int_equal(SSL_do_handshake(raw.ssl), -1);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    raw_deinit(&raw);
    rb_tls_context_release(server);
}

/* ---------------------------------------------------------------- ends */

static void close_notify_ends_reading_but_not_writing(void **state)
{
    struct rb_tls_context *server = create_server("server-rsa", false, NULL);
    struct rb_tls_context *client = create_client(NULL);
    struct tls_pair pair;
    uint8_t out[16];
    size_t len;
    tls_pair_init(&pair, client, server, "localhost");
    rb_tls_shutdown(pair.server, wire_sink, &pair.to_client); /* too early: nothing happens */
    assert_int_equal(pair.to_client.total, 0);
    tls_pair_shake(&pair, ANY_STEP);
    assert_int_equal(rb_tls_write(pair.client, RB_S("last"), wire_sink, &pair.to_server),
                     RB_TLS_DONE);
    rb_tls_shutdown(pair.client, wire_sink, &pair.to_server);
    size_t sent = pair.to_server.total;
    rb_tls_shutdown(pair.client, wire_sink, &pair.to_server); /* once is enough */
    assert_int_equal(pair.to_server.total, sent);
    assert_int_equal(
        tls_read_all(pair.server, &pair.to_server, &pair.to_client, out, sizeof(out), &len),
        RB_TLS_CLOSED);
    assert_int_equal(len, 4);
    assert_int_equal(
        tls_read_all(pair.server, &pair.to_server, &pair.to_client, out, sizeof(out), &len),
        RB_TLS_CLOSED);
    send_one_way(pair.server, pair.client, &pair.to_client, &pair.to_server, 100);
    rb_tls_shutdown(pair.server, wire_sink, &pair.to_client);
    assert_int_equal(
        tls_read_all(pair.client, &pair.to_client, &pair.to_server, out, sizeof(out), &len),
        RB_TLS_CLOSED);
    assert_int_equal(ERR_peek_error(), 0);
    tls_pair_deinit(&pair);
    rb_tls_context_release(client);
    rb_tls_context_release(server);
}

/* A stream that ends in the middle of a record gives what is whole and asks for more, for ever. */
static void truncated_streams_ask_for_more(void **state)
{
    struct rb_tls_context *server = create_server("server-ecdsa", false, NULL);
    struct rb_tls_context *client = create_client(NULL);
    for (size_t missing = 1; missing < 28; missing++) {
        struct tls_pair pair;
        uint8_t out[16];
        size_t len;
        tls_pair_init(&pair, client, server, "localhost");
        tls_pair_shake(&pair, ANY_STEP);
        assert_int_equal(rb_tls_write(pair.client, RB_S("whole"), wire_sink, &pair.to_server),
                         RB_TLS_DONE);
        assert_int_equal(rb_tls_write(pair.client, RB_S("cut..."), wire_sink, &pair.to_server),
                         RB_TLS_DONE);
        pair.to_server.end -= missing;
        assert_int_equal(
            tls_read_all(pair.server, &pair.to_server, &pair.to_client, out, sizeof(out), &len),
            RB_TLS_MORE);
        assert_int_equal(len, 5);
        assert_int_equal(
            tls_read_all(pair.server, &pair.to_server, &pair.to_client, out, sizeof(out), &len),
            RB_TLS_MORE);
        tls_pair_deinit(&pair);
    }
    rb_tls_context_release(client);
    rb_tls_context_release(server);
}

static void judge_first_bytes(const char *bytes, size_t len, enum rb_tls_result expected,
                              const char *error, size_t answer_len)
{
    struct rb_tls_context *server = create_server("server-rsa", false, NULL);
    for (size_t step = 1; step <= len; step += len - 1 > 0 ? len - 1 : 1) {
        struct rb_tls *tls;
        struct wire out = { 0 };
        enum rb_tls_result result = RB_TLS_MORE;
        assert_int_equal(rb_tls_create(server, &tls), RB_OK);
        for (size_t at = 0; at < len && result == RB_TLS_MORE; at += step) {
            struct rb_slice in = rb_slice_of(bytes + at, len - at < step ? len - at : step);
            result = rb_tls_handshake(tls, &in, wire_sink, &out);
            assert_int_equal(ERR_peek_error(), 0);
        }
        assert_int_equal(result, expected);
        assert_string_equal(rb_tls_error(tls), error);
        assert_int_equal(out.total, answer_len);
        struct rb_slice none = { 0 };
        assert_int_equal(rb_tls_handshake(tls, &none, wire_sink, &out), expected);
        rb_tls_destroy(tls);
        wire_free(&out);
    }
    rb_tls_context_release(server);
}

#define FIRST(bytes, result, error, answer_len)                                                    \
    judge_first_bytes(bytes, sizeof(bytes) - 1, result, error, answer_len)

static void what_is_not_tls_is_refused_in_gos_words(void **state)
{
    static const char not_tls[] = "tls: first record does not look like a TLS handshake";
    FIRST("GET / HTTP/1.1\r\n\r\n", RB_TLS_FAILED, not_tls, 0);
    FIRST("CONNECT {}\r\n", RB_TLS_FAILED, not_tls, 0);
    FIRST("PIN", RB_TLS_MORE, "", 0);
    FIRST("\x17\x03\x03\x00\x02\x02\x28", RB_TLS_FAILED, not_tls, 0);
    FIRST("\x14\x03\x03\x00\x01\x01", RB_TLS_FAILED, not_tls, 0);
    FIRST("\x80\x2e\x01\x03\x01", RB_TLS_FAILED, "tls: unsupported SSLv2 handshake received", 7);
    FIRST("\x15\x03\x01\x00\x02\x02\x28", RB_TLS_FAILED, "remote error: tls: handshake failure", 0);
    FIRST("\x15\x03\x01\x00\x02\x02\x2a", RB_TLS_FAILED, "remote error: tls: bad certificate", 0);
    FIRST("\x15\x03\x01\x00\x02\x01\x00", RB_TLS_CLOSED, "EOF", 0);
    FIRST("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", RB_TLS_FAILED,
          "local error: tls: error decoding message", 7);
}

/* A ClientHello with damage in up to three places: any verdict, but no crash and no error left behind. */
static void damaged_hellos_are_survived(void **state)
{
    struct rb_tls_context *server = create_server("server-ecdsa", true, NULL);
    struct raw raw;
    uint64_t random = 42;
    size_t failed_count = 0;
    raw_init(&raw, server, TLS1_3_VERSION);
    (void)SSL_do_handshake(raw.ssl);
    struct rb_slice hello = raw_output(&raw);
    for (int i = 0; i < 1000; i++) {
        struct rb_tls *tls;
        struct wire out = { 0 };
        uint8_t copy[1024];
        assert_true(hello.len < sizeof(copy));
        memcpy(copy, hello.ptr, hello.len);
        for (int j = 0; j <= i % 3; j++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            copy[(random >> 33) % hello.len] = (uint8_t)(random >> 25);
        }
        assert_int_equal(rb_tls_create(server, &tls), RB_OK);
        struct rb_slice in = rb_slice_of(copy, hello.len);
        enum rb_tls_result result = rb_tls_handshake(tls, &in, wire_sink, &out);
        assert_int_equal(ERR_peek_error(), 0);
        assert_int_not_equal(result, RB_TLS_DONE);
        if (result == RB_TLS_FAILED) {
            failed_count++;
            assert_true(strlen(rb_tls_error(tls)) > 5);
        }
        rb_tls_destroy(tls);
        wire_free(&out);
    }
    assert_true(failed_count > 100);
    free((void *)hello.ptr);
    raw_deinit(&raw);
    rb_tls_context_release(server);
}

/* A flipped bit anywhere in a record is found, whatever it does to the header. */
static void damaged_records_are_refused(void **state)
{
    struct rb_tls_context *server = create_server("server-ecdsa", false, NULL);
    for (size_t v = 0; v < 2; v++) {
        for (size_t at = 0; at < 32; at++) {
            struct raw raw;
            uint8_t out[64];
            size_t len;
            raw_init(&raw, server, both_versions[v]);
            raw_shake(&raw);
            assert_int_equal(raw.result, RB_TLS_DONE);
            assert_int_equal(SSL_write(raw.ssl, "0123456789abcdefghij", 20), 20);
            struct rb_slice sent = raw_output(&raw), in = sent;
            assert_true(sent.len > 32);
            ((uint8_t *)sent.ptr)[at] ^= 0x40;
            enum rb_tls_result result =
                rb_tls_read(raw.server, &in, out, sizeof(out), &len, wire_sink, &raw.to_client);
            assert_int_equal(len, 0);
            assert_int_equal(ERR_peek_error(), 0);
            if (at == 3 || at == 4) {
                assert_true(result == RB_TLS_MORE ||
                            result == RB_TLS_FAILED); /* a longer one, not all there */
            } else {
                assert_int_equal(result, RB_TLS_FAILED);
                assert_int_equal(strncmp(rb_tls_error(raw.server), "local error: tls: ", 18), 0);
                assert_int_equal(rb_tls_write(raw.server, RB_S("x"), wire_sink, &raw.to_client),
                                 RB_TLS_FAILED);
                assert_int_equal(
                    rb_tls_read(raw.server, &in, out, sizeof(out), &len, wire_sink, &raw.to_client),
                    RB_TLS_FAILED);
            }
            if (at > 4) {
                assert_string_equal(rb_tls_error(raw.server), "local error: tls: bad record MAC");
            }
            free((void *)sent.ptr);
            raw_deinit(&raw);
        }
    }
    rb_tls_context_release(server);
}

static void sinks_may_refuse(void **state)
{
    struct rb_tls_context *server = create_server("server-ecdsa", false, NULL);
    struct rb_tls_context *client = create_client(NULL);
    struct tls_pair pair;
    tls_pair_init(&pair, client, server, "localhost");
    pair.to_client.refuse_after = 100;
    tls_pair_shake(&pair, ANY_STEP);
    assert_int_equal(pair.server_result, RB_TLS_FAILED);
    assert_string_equal(rb_tls_error(pair.server), "out of memory");
    tls_pair_deinit(&pair);
    tls_pair_init(&pair, client, server, "localhost");
    tls_pair_shake(&pair, ANY_STEP);
    assert_shaken(&pair);
    pair.to_client.refuse_after = pair.to_client.total + 20000;
    static uint8_t data[65536];
    assert_int_equal(
        rb_tls_write(pair.server, rb_slice_of(data, sizeof(data)), wire_sink, &pair.to_client),
        RB_TLS_FAILED);
    assert_string_equal(rb_tls_error(pair.server), "out of memory");
    assert_int_equal(ERR_peek_error(), 0);
    tls_pair_deinit(&pair);
    rb_tls_context_release(client);
    rb_tls_context_release(server);
}

/* ---------------------------------------------------------------- reload */

static void connections_keep_the_context_they_began_with(void **state)
{
    struct rb_tls_context *old = create_server("server-rsa", false, NULL);
    struct rb_tls_context *client = create_client(NULL);
    struct tls_pair before, between, after;
    tls_pair_init(&before, client, old, "localhost");
    tls_pair_shake(&before, ANY_STEP);
    tls_pair_init(&between, client, old, "localhost");
    struct rb_tls_context *new = create_server("server-ecdsa", false, NULL);
    assert_ptr_equal(rb_tls_context_hold(old), old);
    rb_tls_context_release(old);
    rb_tls_context_release(old);
    tls_pair_init(&after, client, new, "localhost");
    tls_pair_shake(&between, ANY_STEP);
    tls_pair_shake(&after, ANY_STEP);
    rb_tls_context_release(new);
    rb_tls_context_release(client);
    struct tls_pair *all[] = { &before, &between, &after };
    for (size_t i = 0; i < 3; i++) {
        assert_shaken(all[i]);
        exchange(all[i], 1000);
        struct rb_tls_peer *peer = rb_tls_peer_read(all[i]->client);
        assert_non_null(peer);
        assert_slice(peer->certs[0].subject,
                     i == 2 ? "CN=server-ecdsa,O=ringbus tests" : "CN=server-rsa,O=ringbus tests");
        rb_tls_peer_free(peer);
        tls_pair_deinit(all[i]);
    }
}

static void host_names_are_checked(void **state)
{
    struct rb_tls_context *client = create_client(NULL);
    struct rb_tls *tls;
    char long_name[300];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(rb_tls_create(client, &tls), RB_OK);
    assert_int_equal(rb_tls_set_host(tls, ""), RB_ERR_INVALID);
    assert_int_equal(rb_tls_set_host(tls, long_name), RB_ERR_INVALID);
    assert_int_equal(rb_tls_set_host(tls, "localhost"), RB_OK);
    rb_tls_destroy(tls);
    rb_tls_destroy(NULL);
    rb_tls_context_release(client);
}

static int make_certs(void **state)
{
    folder = certs_create();
    return folder == NULL;
}

static int remove_certs(void **state)
{
    certs_remove(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_that_do_not_fit_are_refused_in_gos_words),
        cmocka_unit_test(missing_and_encrypted_files_are_named),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(contexts_tell_their_end),
        cmocka_unit_test(handshakes_work_in_steps_of_any_size),
        cmocka_unit_test(handshakes_may_be_cut_anywhere),
        cmocka_unit_test(data_behind_the_handshake_is_kept),
        cmocka_unit_test(clients_without_a_good_certificate_are_refused),
        cmocka_unit_test(signatures_with_sha1_are_refused),
        cmocka_unit_test(chains_are_followed_to_the_authority),
        cmocka_unit_test(servers_must_have_the_name_that_was_dialled),
        cmocka_unit_test(insecure_clients_verify_nothing),
        cmocka_unit_test(only_pinned_keys_may_come_in),
        cmocka_unit_test(peers_are_described_as_nats_server_does),
        cmocka_unit_test(clients_with_nothing_in_common_are_told_why),
        cmocka_unit_test(suites_follow_the_configuration),
        cmocka_unit_test(curves_follow_the_configuration),
        cmocka_unit_test(certificates_are_chosen_by_name_and_ability),
        cmocka_unit_test(data_of_any_size_arrives),
        cmocka_unit_test(every_suite_carries_data),
        cmocka_unit_test(keys_can_be_changed_on_the_way),
        cmocka_unit_test(floods_of_key_updates_end_the_connection),
        cmocka_unit_test(alerts_come_after_the_data_before_them),
        cmocka_unit_test(short_records_are_kept_short),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(close_notify_ends_reading_but_not_writing),
        cmocka_unit_test(truncated_streams_ask_for_more),
        cmocka_unit_test(what_is_not_tls_is_refused_in_gos_words),
        cmocka_unit_test(damaged_hellos_are_survived),
        cmocka_unit_test(damaged_records_are_refused),
        cmocka_unit_test(sinks_may_refuse),
        cmocka_unit_test(connections_keep_the_context_they_began_with),
        cmocka_unit_test(host_names_are_checked),
    };
    return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
