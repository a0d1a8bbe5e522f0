/* tls.c - connections: OpenSSL between a borrowed slice and a sink.
 *
 *     ciphertext in --struct rb_slice *in--> bio_read -> OpenSSL -> `out`        plaintext
 *     plaintext     --struct rb_slice plain----------> OpenSSL -> bio_write -> sink
 *
 *     HANDSHAKE --done--> READY --close_notify--> CLOSED
 *         `----------------`--anything wrong------`-----> FAILED
 *
 * 1. `in`, `sink` and `sink_ctx` are set for the length of one call; begin_call() and end_call() are the bracket, and
 *    the thread's queue of OpenSSL errors is empty outside of it.
 * 2. OpenSSL reads what it needs and no more (no read-ahead), so what it holds between calls is at most one record that
 *    has not fully arrived. An idle connection holds no record buffer.
 * 3. The BIO takes everything or fails for good, so a write never stops half-way.
 */
#include "tls/tls.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "ringbus/check.h"
#include "tls/inside.h"
#include "tls/names.h"

#define ERROR_CAP 512
#define RECORD_HEADER_BYTES 5
#define RECORD_HANDSHAKE 0x16
#define RECORD_ALERT 0x15
#define RECORD_SSLV2 0x80
#define RECORD_ERROR_CAP 128
#define HOST_LEN_MAX 253

/* ---------------------------------------------------------------- the BIO */

static int bio_read(BIO *bio, char *out, size_t cap, size_t *ret_len)
{
    struct rb_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (tls->in == NULL || tls->in->len == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    size_t len = tls->in->len < cap ? tls->in->len : cap;
    memcpy(out, tls->in->ptr, len);
    tls->in->ptr += len;
    tls->in->len -= len;
    *ret_len = len;
    return 1;
}

static int bio_write(BIO *bio, const char *bytes, size_t len, size_t *ret_len)
{
    struct rb_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (tls->sink_failed || tls->sink == NULL ||
        !tls->sink(tls->sink_ctx, (const uint8_t *)bytes, len)) {
        tls->sink_failed = true;
        return 0;
    }
    *ret_len = len;
    return 1;
}

static long bio_control(BIO *bio, int command, long number, void *ptr)
{
    return command == BIO_CTRL_FLUSH; /* nothing is kept back, so a flush has always happened */
}

BIO_METHOD *rb_tls_bio_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "ringbus");
    if (method == NULL) {
        return NULL;
    }
    if (BIO_meth_set_read_ex(method, bio_read) != 1 ||
        BIO_meth_set_write_ex(method, bio_write) != 1 ||
        BIO_meth_set_ctrl(method, bio_control) != 1) {
        BIO_meth_free(method);
        return NULL;
    }
    return method;
}

struct rb_tls *rb_tls_of(const SSL *ssl)
{
    return BIO_get_data(
        SSL_get_rbio(ssl)); /* the other direction may have OpenSSL's buffer in front */
}

/* ---------------------------------------------------------------- life */

enum rb_err rb_tls_create(struct rb_tls_context *context, struct rb_tls **ret_tls)
{
    struct rb_tls *tls = calloc(1, sizeof(*tls));
    if (tls == NULL) {
        return RB_ERR_MEMORY;
    }
    BIO *bio = BIO_new(context->bio);
    tls->ssl = SSL_new(context->ssl);
    ERR_clear_error();
    if (bio == NULL || tls->ssl == NULL) {
        SSL_free(tls->ssl);
        BIO_free(bio);
        free(tls);
        return RB_ERR_MEMORY;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio); /* takes the BIO */
    if (context->client) {
        SSL_set_connect_state(tls->ssl);
    } else {
        SSL_set_accept_state(tls->ssl);
    }
    tls->context = rb_tls_context_hold(context);
    *ret_tls = tls;
    return RB_OK;
}

void rb_tls_destroy(struct rb_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    SSL_free(tls->ssl);
    rb_tls_records_destroy(tls->records);
    OPENSSL_clear_free(tls->agreed, sizeof(*tls->agreed));
    ERR_clear_error();
    rb_tls_context_release(tls->context);
    free(tls->error);
    free(tls->peer);
    free(tls);
}

enum rb_err rb_tls_set_host(struct rb_tls *tls, const char *host)
{
    rb_assert(tls->context->client && tls->state == RB_TLS_STATE_HANDSHAKE);
    size_t len = strlen(host);
    if (len == 0 || len > HOST_LEN_MAX) {
        return RB_ERR_INVALID;
    }
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);
    bool ok = true;
    if (X509_VERIFY_PARAM_set1_ip_asc(param, host) !=
        1) { /* a name; addresses are not sent as SNI */
        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                                   X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
        ok = X509_VERIFY_PARAM_set1_host(param, host, len) == 1 &&
             SSL_set_tlsext_host_name(tls->ssl, host) == 1;
    }
    ERR_clear_error();
    tls->host_set = ok;
    return ok ? RB_OK : RB_ERR_MEMORY;
}

/* ---------------------------------------------------------------- why it failed */

void rb_tls_fail(struct rb_tls *tls, const char *format, ...)
{
    if (tls->error != NULL) {
        return;
    }
    char text[ERROR_CAP];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    tls->error = strdup(text);
}

const char *rb_tls_error(const struct rb_tls *tls)
{
    if (tls->error != NULL) {
        return tls->error;
    }
    return tls->state == RB_TLS_STATE_FAILED ? "out of memory" : "";
}

void rb_tls_info(const SSL *ssl, int where, int value)
{
    if (where == SSL_CB_WRITE_ALERT && value >> 8 == SSL3_AL_FATAL) {
        struct rb_tls *tls = rb_tls_of(ssl);
        tls->alert_sent = (uint8_t)value;
        tls->alert_was_sent = true;
    }
}

/* "c02f ff": the numbers of the client's suites, as Go prints them. */
static void format_offered(SSL *ssl, char *out, size_t cap)
{
    const unsigned char *raw = NULL;
    long bytes = SSL_get0_raw_cipherlist(ssl, &raw);
    size_t len = 0;
    out[0] = '\0';
    for (long i = 0; raw != NULL && i + 1 < bytes && len + 8 < cap; i += 2) {
        len += (size_t)snprintf(out + len, cap - len, "%s%x", i == 0 ? "" : " ",
                                (unsigned)raw[i] << 8 | raw[i + 1]);
    }
}

/* The text for OpenSSL's reason; NULL: Go has no words of its own for it. */
static const char *reason_text(const struct rb_tls *tls, int reason)
{
    switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return "tls: client didn't provide a certificate";
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_GROUPS:
        return "tls: no key exchanges supported by both client and server";
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
        return "tls: peer doesn't support any of the certificate's signature algorithms";
    case SSL_R_BAD_SIGNATURE:
        return tls->context->client ? "tls: invalid signature by the server certificate"
                                    : "tls: invalid signature by the client certificate";
    case SSL_R_INAPPROPRIATE_FALLBACK:
        return "tls: client using inappropriate protocol fallback";
    default:
        return NULL;
    }
}

/* Puts the failure that the peer's alert means into words. */
static void fail_by_alert(struct rb_tls *tls, unsigned alert)
{
    const char *known = rb_tls_alert_text(alert);
    if (known != NULL) {
        rb_tls_fail(tls, "remote error: tls: %s", known);
    } else {
        rb_tls_fail(tls, "remote error: tls: alert(%u)", alert);
    }
}

/* Puts OpenSSL's failure into words. Callbacks that knew more have been here before. */
static void explain(struct rb_tls *tls)
{
    if (tls->sink_failed) {
        rb_tls_fail(tls, "out of memory");
        return;
    }
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    const char *text = reason_text(tls, reason);
    if (text != NULL) {
        rb_tls_fail(tls, "%s", text);
    } else if (reason == SSL_R_NO_SHARED_CIPHER) {
        char offered[ERROR_CAP / 2];
        format_offered(tls->ssl, offered, sizeof(offered));
        rb_tls_fail(
            tls, "tls: no cipher suite supported by both client and server; client offered: [%s]",
            offered);
    } else if (reason >= SSL_AD_REASON_OFFSET) {
        fail_by_alert(tls, (unsigned)(reason - SSL_AD_REASON_OFFSET));
    } else if (tls->alert_was_sent && rb_tls_alert_text(tls->alert_sent) != NULL) {
        rb_tls_fail(tls, "local error: tls: %s", rb_tls_alert_text(tls->alert_sent));
    } else {
        const char *words = code == 0 ? NULL : ERR_reason_error_string(code);
        rb_tls_fail(tls, "tls: %s", words == NULL ? "unexpected failure" : words);
    }
}

/* ---------------------------------------------------------------- one call */

static void begin_call(struct rb_tls *tls, struct rb_slice *in, rb_tls_sink sink, void *ctx)
{
    ERR_clear_error();
    tls->in = in;
    tls->sink = sink;
    tls->sink_ctx = ctx;
}

static void end_call(struct rb_tls *tls)
{
    tls->in = NULL;
    tls->sink = NULL;
    tls->sink_ctx = NULL;
    ERR_clear_error();
}

static enum rb_tls_result fail(struct rb_tls *tls)
{
    explain(tls);
    tls->state = RB_TLS_STATE_FAILED;
    SSL_free_buffers(tls->ssl);
    end_call(tls);
    return RB_TLS_FAILED;
}

/* What a handshake or read that gave nothing means. */
static enum rb_tls_result judge(struct rb_tls *tls, int returned)
{
    switch (SSL_get_error(tls->ssl, returned)) {
    case SSL_ERROR_WANT_READ:
        if (tls->sink_failed) {
            return fail(tls);
        }
        end_call(tls);
        return RB_TLS_MORE;
    case SSL_ERROR_ZERO_RETURN:
        tls->state = RB_TLS_STATE_CLOSED;
        rb_tls_fail(tls, "EOF");
        SSL_free_buffers(tls->ssl);
        end_call(tls);
        return RB_TLS_CLOSED;
    default:
        return fail(tls);
    }
}

/* ---------------------------------------------------------------- handshake */

/* The first record is an alert. OpenSSL would call that unexpected and not say which one. */
static enum rb_tls_result judge_first_alert(struct rb_tls *tls)
{
    if (tls->first_len < sizeof(tls->first) || tls->first[3] != 0 || tls->first[4] != 2) {
        return RB_TLS_MORE;
    }
    if (tls->first[6] == SSL3_AD_CLOSE_NOTIFY) {
        rb_tls_fail(tls, "EOF");
        return RB_TLS_CLOSED;
    }
    if (tls->first[5] != SSL3_AL_FATAL) {
        return RB_TLS_MORE;
    }
    fail_by_alert(tls, tls->first[6]);
    return RB_TLS_FAILED;
}

/* Looks at the first record before OpenSSL does, with Go's eyes. MORE: nothing wrong with it so
 * far. */
static enum rb_tls_result judge_first_record(struct rb_tls *tls, const struct rb_slice *in)
{
    static const uint8_t refuse_sslv2[] = { RECORD_ALERT, 3, 1, 0, 2, SSL3_AL_FATAL, 70 };
    size_t missing = sizeof(tls->first) - tls->first_len;
    size_t len = in->len < missing ? in->len : missing;
    if (len == 0) {
        return RB_TLS_MORE;
    }
    memcpy(tls->first + tls->first_len, in->ptr, len);
    tls->first_len += (uint8_t)len;
    if (tls->first_len < RECORD_HEADER_BYTES) {
        return RB_TLS_MORE;
    }
    uint8_t type = tls->first[0];
    if (!tls->context->client && type == RECORD_SSLV2) {
        rb_tls_fail(tls, "tls: unsupported SSLv2 handshake received");
        tls->sink_failed = !tls->sink(tls->sink_ctx, refuse_sslv2, sizeof(refuse_sslv2));
        return RB_TLS_FAILED;
    }
    if ((type != RECORD_HANDSHAKE && type != RECORD_ALERT) || tls->first[1] >= 0x10) {
        rb_tls_fail(tls, "tls: first record does not look like a TLS handshake");
        return RB_TLS_FAILED;
    }
    return type == RECORD_ALERT ? judge_first_alert(tls) : RB_TLS_MORE;
}

static bool pinned(const struct rb_tls *tls)
{
    const struct rb_tls_context *context = tls->context;
    char hex[65];
    X509 *leaf = SSL_get0_peer_certificate(tls->ssl);
    if (leaf == NULL || !rb_tls_spki_sha256(leaf, hex)) {
        return false;
    }
    for (uint32_t i = 0; i < context->pinned_count; i++) {
        if (strcmp(context->pinned[i], hex) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * OpenSSL's way to give traffic secrets away, meant for debugging: "SERVER_TRAFFIC_SECRET_0 RANDOM SECRET", in hex.
 * They go to record.c and nowhere else.
 */
void rb_tls_take_secret(const SSL *ssl, const char *line)
{
    struct rb_tls *tls = rb_tls_of(ssl);
    bool read = strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0;
    bool write = strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0;
    const char *secret = strrchr(line, ' ');
    if ((!read && !write) || secret == NULL) {
        return;
    }
    if (tls->agreed == NULL) {
        tls->agreed = OPENSSL_zalloc(sizeof(*tls->agreed));
    }
    if (tls->agreed == NULL) {
        return; /* leave_openssl() sees that there are none */
    }
    uint8_t *out = read ? tls->agreed->read_secret : tls->agreed->write_secret;
    if (OPENSSL_hexstr2buf_ex(out, sizeof(tls->agreed->read_secret), &tls->agreed->secret_len,
                              secret + 1, '\0') != 1) {
        tls->agreed->secret_len = 0;
    }
}

/* Fills what record.c needs to know. False: it is not to be had. */
static bool gather_agreed(struct rb_tls *tls)
{
    if (tls->agreed == NULL && tls->version == TLS1_2_VERSION) {
        tls->agreed = OPENSSL_zalloc(sizeof(*tls->agreed));
    }
    struct rb_tls_agreed *agreed = tls->agreed;
    if (agreed == NULL) {
        return false;
    }
    agreed->version = tls->version;
    agreed->suite = tls->suite;
    if (tls->version == TLS1_2_VERSION) {
        agreed->secret_len = SSL_SESSION_get_master_key(
            SSL_get_session(tls->ssl), agreed->read_secret, sizeof(agreed->read_secret));
        (void)SSL_get_client_random(tls->ssl, agreed->client_random, sizeof(agreed->client_random));
        (void)SSL_get_server_random(tls->ssl, agreed->server_random, sizeof(agreed->server_random));
    }
    return agreed->secret_len > 0;
}

/*
 * Hands a server's connection over to record.c where it can take it; else OpenSSL goes on. It stands between two records
 * here: it has read no further than Finished, and sends no tickets behind its own.
 */
static enum rb_err leave_openssl(struct rb_tls *tls)
{
    enum rb_err err = RB_ERR_UNSUPPORTED;
    bool able = !tls->context->client && SSL_has_pending(tls->ssl) == 0 &&
                SSL_SESSION_get_max_fragment_length(SSL_get_session(tls->ssl)) == 0;
    if (able && gather_agreed(tls)) {
        err = rb_tls_records_create(tls->agreed, &tls->records);
    }
    OPENSSL_clear_free(tls->agreed, sizeof(*tls->agreed));
    tls->agreed = NULL;
    if (err == RB_OK) {
        SSL_free(tls->ssl);
        tls->ssl = NULL;
    } else if (err == RB_ERR_UNSUPPORTED) {
        SSL_free_buffers(tls->ssl);
        err = RB_OK;
    }
    return err;
}

static enum rb_tls_result finish_handshake(struct rb_tls *tls)
{
    if (tls->context->pinned_count > 0 && !pinned(tls)) {
        rb_tls_fail(tls, "certificate not pinned");
        return fail(tls);
    }
    tls->verified = tls->context->verifies && SSL_get0_peer_certificate(tls->ssl) != NULL &&
                    SSL_get_verify_result(tls->ssl) == X509_V_OK;
    tls->version = (uint16_t)SSL_version(tls->ssl);
    tls->suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(tls->ssl));
    if (!rb_tls_peer_keep(tls) || leave_openssl(tls) != RB_OK) {
        rb_tls_fail(tls, "out of memory");
        return fail(tls);
    }
    tls->state = RB_TLS_STATE_READY;
    end_call(tls);
    return RB_TLS_DONE;
}

enum rb_tls_result rb_tls_handshake(struct rb_tls *tls, struct rb_slice *in, rb_tls_sink sink,
                                    void *ctx)
{
    switch (tls->state) {
    case RB_TLS_STATE_HANDSHAKE:
        break;
    case RB_TLS_STATE_READY:
        return RB_TLS_DONE;
    case RB_TLS_STATE_CLOSED:
        return RB_TLS_CLOSED;
    case RB_TLS_STATE_FAILED:
        return RB_TLS_FAILED;
    }
    begin_call(tls, in, sink, ctx);
    if (tls->context->client && tls->context->verifies && !tls->host_set) {
        rb_tls_fail(tls, "tls: a host name is needed to verify the server");
        return fail(tls);
    }
    switch (judge_first_record(tls, in)) {
    case RB_TLS_FAILED:
        return fail(tls);
    case RB_TLS_CLOSED:
        tls->state = RB_TLS_STATE_CLOSED;
        end_call(tls);
        return RB_TLS_CLOSED;
    default:
        break;
    }
    int returned = SSL_do_handshake(tls->ssl);
    return returned == 1 && !tls->sink_failed ? finish_handshake(tls) : judge(tls, returned);
}

/* ---------------------------------------------------------------- data */

/* Keeps the state in step with what record.c found. */
static enum rb_tls_result note_end(struct rb_tls *tls, enum rb_tls_result result, const char *error)
{
    if (error[0] != '\0') {
        rb_tls_fail(tls, "%s", error);
    }
    if (result == RB_TLS_FAILED) {
        tls->state = RB_TLS_STATE_FAILED;
    } else if (result == RB_TLS_CLOSED) {
        rb_tls_fail(tls, "EOF");
        tls->state = RB_TLS_STATE_CLOSED;
    }
    return result;
}

static enum rb_tls_result read_records(struct rb_tls *tls, struct rb_slice *in, uint8_t *out,
                                       size_t cap, size_t *ret_len, rb_tls_sink sink, void *ctx)
{
    char error[RECORD_ERROR_CAP] = "";
    const struct rb_tls_flow flow = { in, sink, ctx, error, sizeof(error) };
    return note_end(tls, rb_tls_records_read(tls->records, out, cap, ret_len, &flow), error);
}

enum rb_tls_result rb_tls_read(struct rb_tls *tls, struct rb_slice *in, uint8_t *out, size_t cap,
                               size_t *ret_len, rb_tls_sink sink, void *ctx)
{
    rb_assert(tls->state != RB_TLS_STATE_HANDSHAKE);
    *ret_len = 0;
    if (tls->state != RB_TLS_STATE_READY) {
        return tls->state == RB_TLS_STATE_CLOSED ? RB_TLS_CLOSED : RB_TLS_FAILED;
    }
    if (tls->records != NULL) {
        return read_records(tls, in, out, cap, ret_len, sink, ctx);
    }
    if (in->len == 0 && SSL_has_pending(tls->ssl) == 0) {
        return RB_TLS_MORE;
    }
    begin_call(tls, in, sink, ctx);
    size_t len = 0;
    while (len < cap) {
        size_t got = 0;
        int returned = SSL_read_ex(tls->ssl, out + len, cap - len, &got);
        if (returned != 1 || tls->sink_failed) {
            enum rb_tls_result result = tls->sink_failed ? fail(tls) : judge(tls, returned);
            if (len == 0) {
                return result;
            }
            break; /* the bytes first; a failure is told by the next call */
        }
        len += got;
    }
    end_call(tls);
    *ret_len = len;
    return len > 0 ? RB_TLS_DONE : RB_TLS_MORE;
}

enum rb_tls_result rb_tls_write(struct rb_tls *tls, struct rb_slice plain, rb_tls_sink sink,
                                void *ctx)
{
    rb_assert(tls->state != RB_TLS_STATE_HANDSHAKE);
    if (tls->said_goodbye) {
        rb_tls_fail(tls, "tls: protocol is shutdown");
        return RB_TLS_FAILED;
    }
    if (tls->state == RB_TLS_STATE_FAILED) {
        return RB_TLS_FAILED;
    }
    if (plain.len == 0) {
        return RB_TLS_DONE;
    }
    if (tls->records != NULL) {
        char error[RECORD_ERROR_CAP] = "";
        const struct rb_tls_flow flow = { NULL, sink, ctx, error, sizeof(error) };
        return note_end(tls, rb_tls_records_write(tls->records, plain, &flow), error);
    }
    begin_call(tls, NULL, sink, ctx);
    size_t written = 0;
    if (SSL_write_ex(tls->ssl, plain.ptr, plain.len, &written) != 1 || tls->sink_failed) {
        return fail(tls);
    }
    rb_assert(written == plain.len); /* invariant 3 */
    end_call(tls);
    return RB_TLS_DONE;
}

void rb_tls_shutdown(struct rb_tls *tls, rb_tls_sink sink, void *ctx)
{
    if (tls->state != RB_TLS_STATE_READY && tls->state != RB_TLS_STATE_CLOSED) {
        return;
    }
    if (tls->said_goodbye || (tls->ssl != NULL && SSL_in_init(tls->ssl))) {
        return;
    }
    tls->said_goodbye = true;
    if (tls->records != NULL) {
        const struct rb_tls_flow flow = { NULL, sink, ctx, NULL, 0 };
        rb_tls_records_close(tls->records, &flow);
        return;
    }
    begin_call(tls, NULL, sink, ctx);
    (void)SSL_shutdown(tls->ssl); /* it may not arrive: the connection ends either way */
    end_call(tls);
}

/* ---------------------------------------------------------------- what was agreed */

const char *rb_tls_version(const struct rb_tls *tls)
{
    switch (tls->version) {
    case TLS1_2_VERSION:
        return "1.2";
    case TLS1_3_VERSION:
        return "1.3";
    default:
        return "";
    }
}

const char *rb_tls_cipher(const struct rb_tls *tls)
{
    const char *name = tls->version == 0 ? NULL : rb_tls_suite_name(tls->suite);
    return name == NULL ? "" : name;
}
