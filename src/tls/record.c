/* record.c - records: one header, one nonce, one tag each.
 *
 *     TLS 1.2:  | 23 | 3 3 | length | explicit nonce (GCM: 8) | sealed: data               | tag 16 |
 *     TLS 1.3:  | 23 | 3 3 | length |                           sealed: data, type, zeros  | tag 16 |
 *
 * OpenSSL does the handshake and the ciphers; in between this file takes its place, because an idle connection in it is a
 * fifth as large as OpenSSL's and its data is copied once less.
 *
 * 1. A record is opened when all of it is there: straight from the caller's slice where it lies in one piece, else from
 *    `partial`, which exists only while a record is on its way.
 * 2. What is opened goes straight to the caller when it fits, else `rest` holds it until it was read.
 * 3. Nothing that failed its tag reaches anyone: a caller's memory it was opened into is wiped.
 * 4. Records that bring nothing (empty, warnings, KeyUpdates) are counted and few are allowed in a row.
 * 5. What ends the connection (`ending`) is told when the bytes before it have been read.
 */
#include "tls/record.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "ringbus/check.h"
#include "tls/keys.h"
#include "tls/names.h"

#define HEADER_BYTES 5
#define PLAIN_BYTES_MAX 16384
#define SEALED_EXTRA_MAX                                                                           \
    256 /* TLS 1.3: type, zeros and tag; more than TLS 1.2 needs with an AEAD */
#define RECORD_BYTES_MAX (HEADER_BYTES + PLAIN_BYTES_MAX + SEALED_EXTRA_MAX)
#define USELESS_MAX 16 /* as in Go */

enum record_type { TYPE_CHANGE_CIPHER = 20, TYPE_ALERT, TYPE_HANDSHAKE, TYPE_DATA };
enum { LEVEL_WARNING = 1, LEVEL_FATAL = 2 };
enum {
    ALERT_CLOSE_NOTIFY = 0,
    ALERT_UNEXPECTED_MESSAGE = 10,
    ALERT_BAD_RECORD_MAC = 20,
    ALERT_RECORD_OVERFLOW = 22,
    ALERT_DECODE_ERROR = 50,
    ALERT_PROTOCOL_VERSION = 70,
    ALERT_INTERNAL_ERROR = 80,
    ALERT_USER_CANCELED = 90,
    ALERT_NO_RENEGOTIATION = 100,
};
#define MESSAGE_KEY_UPDATE 24
#define KEY_UPDATE_BYTES 5

struct rb_tls_records {
    const struct rb_tls_aead *aead;
    struct rb_tls_half read, write;
    bool newer; /* TLS 1.3 */
    uint8_t useless_count;
    uint8_t header_len; /* of `header` that has come */
    uint8_t header[HEADER_BYTES];
    uint8_t message_len; /* of a KeyUpdate in pieces */
    uint8_t message[KEY_UPDATE_BYTES];
    enum rb_tls_result ending; /* MORE: not yet */
    uint8_t *partial;          /* a record without its header, while it is coming */
    uint32_t partial_len, partial_cap;
    uint8_t *rest; /* opened and not yet read */
    uint32_t rest_at, rest_len;
};

/* ---------------------------------------------------------------- life */

static bool set_keys(struct rb_tls_records *records, const struct rb_tls_agreed *agreed)
{
    if (!records->newer) {
        return rb_tls_keys_older(records->aead, agreed, &records->read, &records->write);
    }
    size_t len = agreed->secret_len;
    rb_assert(len == (records->aead->sha384 ? 48 : 32));
    memcpy(records->read.secret, agreed->read_secret, len);
    memcpy(records->write.secret, agreed->write_secret, len);
    return rb_tls_keys_newer(records->aead, &records->read) &&
           rb_tls_keys_newer(records->aead, &records->write);
}

enum rb_err rb_tls_records_create(const struct rb_tls_agreed *agreed,
                                  struct rb_tls_records **ret_records)
{
    const struct rb_tls_aead *aead = rb_tls_aead_find(agreed->version, agreed->suite);
    if (aead == NULL) {
        return RB_ERR_UNSUPPORTED;
    }
    struct rb_tls_records *records = calloc(1, sizeof(*records));
    if (records == NULL) {
        return RB_ERR_MEMORY;
    }
    records->aead = aead;
    records->newer = agreed->version == 0x0304;
    records->ending = RB_TLS_MORE;
    records->write.encrypts = true;
    if (!set_keys(records, agreed)) {
        rb_tls_records_destroy(records);
        return RB_ERR_MEMORY;
    }
    *ret_records = records;
    return RB_OK;
}

static void drop_rest(struct rb_tls_records *records)
{
    OPENSSL_clear_free(records->rest, records->rest_len);
    records->rest = NULL;
    records->rest_at = records->rest_len = 0;
}

static void drop_partial(struct rb_tls_records *records)
{
    free(records->partial);
    records->partial = NULL;
    records->partial_len = records->partial_cap = 0;
    records->header_len = 0;
}

void rb_tls_records_destroy(struct rb_tls_records *records)
{
    if (records == NULL) {
        return;
    }
    drop_rest(records);
    drop_partial(records);
    rb_tls_half_deinit(&records->read);
    rb_tls_half_deinit(&records->write);
    free(records);
}

/* ---------------------------------------------------------------- one record */

/* The nonce of the next record, and with TLS 1.2 the bytes beside its header that the tag
 * covers. */
static void make_nonce(const struct rb_tls_records *records, const struct rb_tls_half *half,
                       const uint8_t *explicit, uint8_t nonce[RB_TLS_IV_BYTES])
{
    size_t explicit_len = records->aead->explicit_bytes;
    memcpy(nonce, half->iv, RB_TLS_IV_BYTES);
    if (explicit_len > 0) {
        memcpy(nonce + RB_TLS_IV_BYTES - explicit_len, explicit, explicit_len);
        return;
    }
    for (size_t i = 0; i < 8; i++) {
        nonce[RB_TLS_IV_BYTES - 1 - i] ^= (uint8_t)(half->sequence >> (8 * i));
    }
}

static void put_big_endian(uint8_t *out, uint64_t value)
{
    for (size_t i = 0; i < 8; i++) {
        out[i] = (uint8_t)(value >> (56 - 8 * i));
    }
}

/* What the tag covers beside the data. Returns its length. */
static size_t make_covered(const struct rb_tls_records *records, const struct rb_tls_half *half,
                           const uint8_t header[HEADER_BYTES], size_t plain_len,
                           uint8_t covered[13])
{
    if (records->newer) {
        memcpy(covered, header, HEADER_BYTES);
        return HEADER_BYTES;
    }
    put_big_endian(covered, half->sequence);
    memcpy(covered + 8, header, 3);
    covered[11] = (uint8_t)(plain_len >> 8);
    covered[12] = (uint8_t)plain_len;
    return 13;
}

/* Writes a record to `out` (room for RECORD_BYTES_MAX). Returns its length, 0 when OpenSSL
 * refuses. */
static size_t seal(struct rb_tls_records *records, enum record_type type, struct rb_slice plain,
                   uint8_t *out)
{
    struct rb_tls_half *half = &records->write;
    size_t explicit_len = records->aead->explicit_bytes;
    size_t sealed_len = plain.len + (records->newer ? 1 : 0);
    size_t body_len = explicit_len + sealed_len + RB_TLS_TAG_BYTES;
    uint8_t nonce[RB_TLS_IV_BYTES], covered[13], inner_type = (uint8_t)type;
    uint8_t *at = out + HEADER_BYTES;
    int len = 0;
    rb_assert(plain.len <= PLAIN_BYTES_MAX);
    out[0] = records->newer ? TYPE_DATA : (uint8_t)type;
    out[1] = out[2] = 3;
    out[3] = (uint8_t)(body_len >> 8);
    out[4] = (uint8_t)body_len;
    if (explicit_len > 0) {
        put_big_endian(at, half->sequence);
    }
    make_nonce(records, half, at, nonce);
    at += explicit_len;
    size_t covered_len = make_covered(records, half, out, plain.len, covered);
    bool ok = EVP_EncryptInit_ex(half->cipher, NULL, NULL, NULL, nonce) == 1 &&
              EVP_EncryptUpdate(half->cipher, NULL, &len, covered, (int)covered_len) == 1 &&
              EVP_EncryptUpdate(half->cipher, at, &len, plain.ptr, (int)plain.len) == 1 &&
              (!records->newer ||
               EVP_EncryptUpdate(half->cipher, at + plain.len, &len, &inner_type, 1) == 1) &&
              EVP_EncryptFinal_ex(half->cipher, at + sealed_len, &len) == 1 &&
              EVP_CIPHER_CTX_ctrl(half->cipher, EVP_CTRL_AEAD_GET_TAG, RB_TLS_TAG_BYTES,
                                  at + sealed_len) == 1;
    half->sequence++;
    return ok ? HEADER_BYTES + body_len : 0;
}

/* Opens `body` into `out` (room for all but explicit nonce and tag). False: the tag does not
 * fit. */
static bool open_body(struct rb_tls_records *records, struct rb_slice body, uint8_t *out,
                      size_t sealed_len)
{
    struct rb_tls_half *half = &records->read;
    const uint8_t *sealed = body.ptr + records->aead->explicit_bytes;
    uint8_t nonce[RB_TLS_IV_BYTES], covered[13], tag[RB_TLS_TAG_BYTES];
    int len = 0;
    make_nonce(records, half, body.ptr, nonce);
    size_t covered_len = make_covered(records, half, records->header, sealed_len, covered);
    memcpy(tag, sealed + sealed_len, sizeof(tag));
    half->sequence++;
    return EVP_DecryptInit_ex(half->cipher, NULL, NULL, NULL, nonce) == 1 &&
           EVP_DecryptUpdate(half->cipher, NULL, &len, covered, (int)covered_len) == 1 &&
           (sealed_len == 0 ||
            EVP_DecryptUpdate(half->cipher, out, &len, sealed, (int)sealed_len) == 1) &&
           EVP_CIPHER_CTX_ctrl(half->cipher, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) == 1 &&
           EVP_DecryptFinal_ex(half->cipher, out + sealed_len, &len) == 1;
}

/* ---------------------------------------------------------------- sending */

static bool send_record(struct rb_tls_records *records, enum record_type type,
                        struct rb_slice plain, const struct rb_tls_flow *flow)
{
    uint8_t record[RECORD_BYTES_MAX];
    size_t len = seal(records, type, plain, record);
    return len > 0 && flow->sink(flow->sink_ctx, record, len);
}

static bool send_alert(struct rb_tls_records *records, uint8_t level, uint8_t alert,
                       const struct rb_tls_flow *flow)
{
    const uint8_t bytes[] = { level, alert };
    return send_record(records, TYPE_ALERT, rb_slice_of(bytes, sizeof(bytes)), flow);
}

static enum rb_tls_result fail_text(struct rb_tls_records *records, const char *text,
                                    const struct rb_tls_flow *flow)
{
    snprintf(flow->error, flow->error_cap, "%s", text);
    records->ending = RB_TLS_FAILED;
    drop_partial(records);
    ERR_clear_error();
    return RB_TLS_FAILED;
}

/* Ends the connection with an alert. */
static enum rb_tls_result fail_alert(struct rb_tls_records *records, uint8_t alert,
                                     const struct rb_tls_flow *flow)
{
    char text[80];
    snprintf(text, sizeof(text), "local error: tls: %s", rb_tls_alert_text(alert));
    (void)send_alert(records, LEVEL_FATAL, alert, flow); /* the connection ends either way */
    return fail_text(records, text, flow);
}

enum rb_tls_result rb_tls_records_write(struct rb_tls_records *records, struct rb_slice plain,
                                        const struct rb_tls_flow *flow)
{
    if (records->ending == RB_TLS_FAILED) {
        return RB_TLS_FAILED; /* an alert has gone out, or will be told by the next read */
    }
    while (plain.len > 0) {
        size_t len = plain.len < PLAIN_BYTES_MAX ? plain.len : PLAIN_BYTES_MAX;
        if (!send_record(records, TYPE_DATA, rb_slice_of(plain.ptr, len), flow)) {
            return fail_text(records, "out of memory", flow);
        }
        plain.ptr += len;
        plain.len -= len;
    }
    return RB_TLS_DONE;
}

void rb_tls_records_close(struct rb_tls_records *records, const struct rb_tls_flow *flow)
{
    (void)send_alert(records, LEVEL_WARNING, ALERT_CLOSE_NOTIFY, flow); /* may not arrive either */
}

/* ---------------------------------------------------------------- what is not data */

static enum rb_tls_result take_alert(struct rb_tls_records *records, struct rb_slice plain,
                                     const struct rb_tls_flow *flow)
{
    if (plain.len != 2) {
        return fail_alert(records, ALERT_DECODE_ERROR, flow);
    }
    uint8_t level = plain.ptr[0], alert = plain.ptr[1];
    if (alert == ALERT_CLOSE_NOTIFY) {
        records->ending = RB_TLS_CLOSED;
        return RB_TLS_CLOSED;
    }
    if (records->newer ? alert == ALERT_USER_CANCELED : level == LEVEL_WARNING) {
        return RB_TLS_MORE;
    }
    char text[80];
    const char *known = rb_tls_alert_text(alert);
    if (known != NULL) {
        snprintf(text, sizeof(text), "remote error: tls: %s", known);
    } else {
        snprintf(text, sizeof(text), "remote error: tls: alert(%u)", (unsigned)alert);
    }
    return fail_text(records, text, flow);
}

static enum rb_tls_result update_keys(struct rb_tls_records *records,
                                      const struct rb_tls_flow *flow)
{
    static const uint8_t answer[] = { MESSAGE_KEY_UPDATE, 0, 0, 1, 0 };
    bool requested = records->message[4] == 1;
    if (!rb_tls_keys_update(records->aead, &records->read)) {
        return fail_alert(records, ALERT_INTERNAL_ERROR, flow);
    }
    if (!requested) {
        return RB_TLS_MORE;
    }
    if (!send_record(records, TYPE_HANDSHAKE, rb_slice_of(answer, sizeof(answer)), flow) ||
        !rb_tls_keys_update(records->aead, &records->write)) {
        return fail_text(records, "out of memory", flow);
    }
    return RB_TLS_MORE;
}

/* After the handshake a client of TLS 1.3 may say KeyUpdate and nothing else. */
static enum rb_tls_result take_message(struct rb_tls_records *records, struct rb_slice plain,
                                       const struct rb_tls_flow *flow)
{
    static const uint8_t expected[] = { MESSAGE_KEY_UPDATE, 0, 0, 1 };
    if (!records->newer) { /* a client of TLS 1.2 wants to renegotiate */
        bool sent = send_alert(records, LEVEL_WARNING, ALERT_NO_RENEGOTIATION, flow);
        return sent ? RB_TLS_MORE : fail_text(records, "out of memory", flow);
    }
    for (size_t i = 0; i < plain.len; i++) {
        size_t at = records->message_len;
        bool fits = at < sizeof(expected) ? plain.ptr[i] == expected[at]
                                          : at < KEY_UPDATE_BYTES && plain.ptr[i] <= 1;
        if (!fits) { /* also: something behind a KeyUpdate under the old key */
            return fail_alert(records, ALERT_UNEXPECTED_MESSAGE, flow);
        }
        records->message[records->message_len++] = plain.ptr[i];
    }
    if (records->message_len < KEY_UPDATE_BYTES) {
        return RB_TLS_MORE;
    }
    records->message_len = 0;
    return update_keys(records, flow);
}

/* DONE: `plain` is data for the caller. */
static enum rb_tls_result take_plain(struct rb_tls_records *records, unsigned type,
                                     struct rb_slice plain, const struct rb_tls_flow *flow)
{
    if (records->message_len > 0 && type != TYPE_HANDSHAKE) { /* messages in pieces come in a row */
        return fail_alert(records, ALERT_UNEXPECTED_MESSAGE, flow);
    }
    if (type == TYPE_DATA && plain.len > 0) {
        records->useless_count = 0;
        return RB_TLS_DONE;
    }
    if (++records->useless_count > USELESS_MAX) {
        (void)send_alert(records, LEVEL_FATAL, ALERT_UNEXPECTED_MESSAGE, flow);
        return fail_text(records, "tls: too many ignored records", flow);
    }
    switch (type) {
    case TYPE_DATA:
        return RB_TLS_MORE;
    case TYPE_ALERT:
        return take_alert(records, plain, flow);
    case TYPE_HANDSHAKE:
        return plain.len > 0 ? take_message(records, plain, flow)
                             : fail_alert(records, ALERT_UNEXPECTED_MESSAGE, flow);
    default:
        return fail_alert(records, ALERT_UNEXPECTED_MESSAGE, flow);
    }
}

/* ---------------------------------------------------------------- receiving */

static size_t body_len(const struct rb_tls_records *records)
{
    return (size_t)records->header[3] << 8 | records->header[4];
}

static size_t overhead(const struct rb_tls_records *records)
{
    return (size_t)records->aead->explicit_bytes + RB_TLS_TAG_BYTES;
}

/* Takes from `in` until the header is whole, and judges it. DONE: it is. */
static enum rb_tls_result take_header(struct rb_tls_records *records,
                                      const struct rb_tls_flow *flow)
{
    struct rb_slice *in = flow->in;
    if (records->header_len == HEADER_BYTES) {
        return RB_TLS_DONE;
    }
    while (records->header_len < HEADER_BYTES && in->len > 0) {
        records->header[records->header_len++] = *in->ptr++;
        in->len--;
    }
    if (records->header_len < HEADER_BYTES) {
        return RB_TLS_MORE;
    }
    uint8_t type = records->header[0];
    if (records->newer ? type != TYPE_DATA : (type < TYPE_CHANGE_CIPHER || type > TYPE_DATA)) {
        return fail_alert(records, ALERT_UNEXPECTED_MESSAGE, flow);
    }
    if (records->header[1] != 3 || records->header[2] != 3) {
        return fail_alert(records, ALERT_PROTOCOL_VERSION, flow);
    }
    size_t len = body_len(records);
    if (len > PLAIN_BYTES_MAX + SEALED_EXTRA_MAX) {
        char text[80];
        snprintf(text, sizeof(text), "tls: oversized record received with length %zu", len);
        (void)send_alert(records, LEVEL_FATAL, ALERT_RECORD_OVERFLOW, flow);
        return fail_text(records, text, flow);
    }
    if (len < overhead(records)) {
        return fail_alert(records, ALERT_BAD_RECORD_MAC, flow);
    }
    return RB_TLS_DONE;
}

/* Finds the whole body (invariant 1). DONE: *ret_body has it. */
static enum rb_tls_result take_body(struct rb_tls_records *records, struct rb_slice *ret_body,
                                    const struct rb_tls_flow *flow)
{
    struct rb_slice *in = flow->in;
    size_t len = body_len(records);
    if (records->partial == NULL && in->len >= len) {
        *ret_body = rb_slice_of(in->ptr, len);
        in->ptr += len;
        in->len -= len;
        return RB_TLS_DONE;
    }
    if (in->len == 0) {
        return RB_TLS_MORE;
    }
    if (records->partial == NULL) {
        records->partial = malloc(len);
        if (records->partial == NULL) {
            return fail_text(records, "out of memory", flow);
        }
        records->partial_cap = (uint32_t)len;
    }
    size_t missing = len - records->partial_len;
    size_t taken = in->len < missing ? in->len : missing;
    memcpy(records->partial + records->partial_len, in->ptr, taken);
    records->partial_len += (uint32_t)taken;
    in->ptr += taken;
    in->len -= taken;
    if (records->partial_len < len) {
        return RB_TLS_MORE;
    }
    *ret_body = rb_slice_of(records->partial, len);
    return RB_TLS_DONE;
}

/* TLS 1.3: cuts the zeros and the type off. Returns the type; 0: there is none. */
static unsigned strip_type(const struct rb_tls_records *records, struct rb_slice *plain)
{
    if (!records->newer) {
        return records->header[0];
    }
    while (plain->len > 0 && plain->ptr[plain->len - 1] == 0) {
        plain->len--;
    }
    return plain->len == 0 ? 0 : plain->ptr[--plain->len];
}

/* Opens `body` into `out`, which has room for it, and acts. DONE: *ret_len bytes of data. */
static enum rb_tls_result open_into(struct rb_tls_records *records, struct rb_slice body,
                                    uint8_t *out, size_t *ret_len, const struct rb_tls_flow *flow)
{
    size_t sealed_len = body.len - overhead(records);
    if (!open_body(records, body, out, sealed_len)) {
        OPENSSL_cleanse(out, sealed_len); /* invariant 3 */
        return fail_alert(records, ALERT_BAD_RECORD_MAC, flow);
    }
    struct rb_slice plain = rb_slice_of(out, sealed_len);
    unsigned type = strip_type(records, &plain);
    if (plain.len > PLAIN_BYTES_MAX) {
        return fail_alert(records, ALERT_RECORD_OVERFLOW, flow);
    }
    enum rb_tls_result result = take_plain(records, type, plain, flow);
    *ret_len = result == RB_TLS_DONE ? plain.len : 0;
    return result;
}

/* Opens one record. DONE: data went to `out` or to the rest. MORE: nothing for the caller, but
 * go on. */
static enum rb_tls_result open_record(struct rb_tls_records *records, struct rb_slice body,
                                      uint8_t *out, size_t cap, size_t *ret_len,
                                      const struct rb_tls_flow *flow)
{
    size_t sealed_len = body.len - overhead(records), len = 0;
    *ret_len = 0;
    if (sealed_len <= cap) {
        return open_into(records, body, out, ret_len, flow);
    }
    uint8_t *rest = OPENSSL_malloc(sealed_len);
    if (rest == NULL) {
        return fail_text(records, "out of memory", flow);
    }
    enum rb_tls_result result = open_into(records, body, rest, &len, flow);
    if (result != RB_TLS_DONE) {
        OPENSSL_clear_free(rest, sealed_len);
        return result;
    }
    records->rest = rest;
    records->rest_len = (uint32_t)len;
    return RB_TLS_DONE;
}

static size_t read_rest(struct rb_tls_records *records, uint8_t *out, size_t cap)
{
    size_t len = records->rest_len - records->rest_at;
    len = len < cap ? len : cap;
    memcpy(out, records->rest + records->rest_at, len);
    records->rest_at += (uint32_t)len;
    if (records->rest_at == records->rest_len) {
        drop_rest(records);
    }
    return len;
}

enum rb_tls_result rb_tls_records_read(struct rb_tls_records *records, uint8_t *out, size_t cap,
                                       size_t *ret_len, const struct rb_tls_flow *flow)
{
    enum rb_tls_result result = records->ending;
    size_t len = 0;
    while (len < cap && result == RB_TLS_MORE) {
        struct rb_slice body;
        size_t got = 0;
        if (records->rest != NULL) {
            len += read_rest(records, out + len, cap - len);
            continue;
        }
        if (take_header(records, flow) != RB_TLS_DONE ||
            take_body(records, &body, flow) != RB_TLS_DONE) {
            result = records->ending;
            break;
        }
        (void)open_record(records, body, out + len, cap - len, &got, flow);
        drop_partial(records);
        len += got;
        result = records->ending;
    }
    *ret_len = len;
    return len > 0 ? RB_TLS_DONE : result; /* invariant 5 */
}
