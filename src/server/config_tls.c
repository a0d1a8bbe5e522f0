/* config_tls.c - `tls {}` and `websocket {}`.
 *
 * The files that a tls block names are read once here, so that a file that is wrong is told with its place; the
 * server reads them again when it makes its contexts.
 */
#include "server/config_load.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "ringbus/check.h"
#include "tls/tls.h"

#define HANDSHAKE_FIRST_AUTO_NS ((int64_t)(RB_SECOND_NS / 20))
#define PIN_LEN 64

/** A tls block while it is read. */
struct tls_block {
    struct rb_tls_config tls;
    bool allow_insecure, fine;
    const char *insecure; /* a cipher that needs allow_insecure */
};

/* ------------------------------------------------------------------ names */

/** Go's names; the second half of the list needs allow_insecure_cipher_suites. */
static const char *const secure_ciphers[] = {
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    NULL,
};

static const char *const insecure_ciphers[] = {
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    NULL,
};

static const char *const curves[] = {
    "CurveP256", "CurveP384", "CurveP521", "X25519", "X25519MLKEM768", NULL,
};

static bool is_in(const char *const *names, const char *name)
{
    for (; *names != NULL; names++) {
        if (strcmp(*names, name) == 0) {
            return true;
        }
    }
    return false;
}

/** An array of known names that is not empty. */
static bool read_names(struct rb_load *load, const struct rb_conf_entry *entry,
                       const char *const *known, const char *const *also, const char *what,
                       const char ***ret_names, uint32_t *ret_count)
{
    const char **names;
    uint32_t count, at = 0;
    if (!rb_load_kind(load, entry, RB_CONF_ARRAY)) {
        return false;
    }
    if (entry->value->count == 0) {
        rb_load_error(load, entry, "error parsing tls config, '%.*s' cannot be empty",
                      RB_KEY(entry));
        return false;
    }
    if (!rb_load_strings(load, entry, &names, &count)) {
        return false;
    }
    for (const struct rb_conf_item *i = entry->value->array.first; i != NULL; i = i->next) {
        struct rb_conf_entry item = rb_load_item(entry, i);
        if (!is_in(known, names[at]) && (also == NULL || !is_in(also, names[at]))) {
            rb_load_error(load, &item, "unrecognized %s %s", what, names[at]);
            return false;
        }
        at++;
    }
    *ret_names = names;
    *ret_count = count;
    return true;
}

static void read_ciphers(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct tls_block *block = base;
    if (!read_names(load, entry, secure_ciphers, insecure_ciphers, "cipher", &block->tls.ciphers,
                    &block->tls.cipher_count)) {
        return;
    }
    for (uint32_t i = 0; i < block->tls.cipher_count; i++) {
        const char *name = block->tls.ciphers[i];
        block->insecure = is_in(insecure_ciphers, name) ? name : block->insecure;
    }
}

static void read_curves(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct tls_block *block = base;
    (void)read_names(load, entry, curves, NULL, "curve preference", &block->tls.curves,
                     &block->tls.curve_count);
}

/* ------------------------------------------------------------------ single keys */

static bool read_switch(struct rb_load *load, const struct rb_conf_entry *entry, bool *ret_value)
{
    if (entry->value->kind != RB_CONF_BOOL) {
        rb_load_error(load, entry, "error parsing tls config, expected '%.*s' to be a boolean",
                      RB_KEY(entry));
        return false;
    }
    *ret_value = entry->value->boolean;
    return true;
}

static void read_verify(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct tls_block *block = base;
    bool verify = false;
    if (read_switch(load, entry, &verify)) {
        block->tls.verify |= verify;
    }
}

static void read_verify_and_map(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct tls_block *block = base;
    if (read_switch(load, entry, &block->tls.map)) {
        block->tls.verify |= block->tls.map;
    }
}

static void read_known_urls(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    bool wanted = false;
    if (read_switch(load, entry, &wanted) && wanted) {
        rb_load_error(load, entry,
                      "verify_cert_and_check_known_urls not supported in this context");
    }
}

static void read_allow_insecure(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct tls_block *block = base;
    (void)read_switch(load, entry, &block->allow_insecure);
}

static void read_tls_timeout(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct tls_block *block = base;
    int64_t ns;
    if (rb_load_timeout(load, entry, "error parsing tls config", false, &ns)) {
        block->tls.timeout_ns = ns == 0 ? RB_TLS_TIMEOUT_DEFAULT_NS : ns;
    }
}

static void read_min_version(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    char shown[RB_SHOWN_MAX];
    struct tls_block *block = base;
    struct rb_slice text;
    if (entry->value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry, "error parsing tls config: 'min_version' wrong type: %s",
                      rb_load_show(entry->value, shown));
    } else if (!rb_load_slice(load, entry, &text)) {
        return;
    } else if (rb_slice_equal(text, RB_S("1.0")) || rb_slice_equal(text, RB_S("1.1"))) {
        rb_load_error(load, entry, "error parsing tls config: unsupported TLS version: TLS %.*s",
                      RB_S_ARG(text));
    } else if (!rb_slice_equal(text, RB_S("1.2")) && !rb_slice_equal(text, RB_S("1.3"))) {
        rb_load_error(load, entry, "error parsing tls config: unknown version: %.*s",
                      RB_S_ARG(text));
    } else {
        block->tls.min_version = (const char *)text.ptr;
    }
}

static void read_pins(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct tls_block *block = base;
    const char **pins;
    uint32_t count, at = 0;
    if (entry->value->kind != RB_CONF_ARRAY) {
        rb_load_error(load, entry,
                      "error parsing tls config, expected 'pinned_certs' to be a list of "
                      "hex-encoded sha256 of DER encoded SubjectPublicKeyInfo");
        return;
    }
    if (!rb_load_strings(load, entry, &pins, &count)) {
        return;
    }
    for (const struct rb_conf_item *i = entry->value->array.first; i != NULL; i = i->next, at++) {
        char *pin = (char *)(uintptr_t)pins[at];
        for (char *c = pin; *c != 0; c++) {
            *c = (char)tolower((unsigned char)*c);
        }
        if (strlen(pin) != PIN_LEN || strspn(pin, "0123456789abcdef") != PIN_LEN) {
            struct rb_conf_entry item = rb_load_item(entry, i);
            rb_load_error(load, &item,
                          "error parsing tls config, 'pinned_certs' key %.128s does not look like "
                          "hex-encoded sha256 of DER encoded SubjectPublicKeyInfo",
                          pin);
            return;
        }
    }
    block->tls.pinned = pins;
    block->tls.pinned_count = count;
}

static void read_rate_limit(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct tls_block *block = base;
    if (entry->value->kind != RB_CONF_INT) {
        rb_load_error(load, entry, "error parsing tls config, 'connection_rate_limit' wrong type");
        return;
    }
    (void)rb_load_size(load, entry, INT64_MAX, &block->tls.connection_rate_limit);
}

static void read_handshake_first(struct rb_load *load, const struct rb_conf_entry *entry,
                                 void *base)
{
    struct tls_block *block = base;
    char text[RB_CONFIG_TEXT_MAX], problem[256];
    struct rb_tls_config *tls = &block->tls;
    int64_t ns;
    if (entry->value->kind == RB_CONF_BOOL) {
        tls->handshake_first = entry->value->boolean;
        return;
    }
    if (entry->value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry, "field \"%.*s\" should be a boolean or a string, got %s",
                      RB_KEY(entry), rb_conf_kind_text(entry->value->kind));
        return;
    }
    if (!rb_load_text(load, entry, text, sizeof(text))) {
        return;
    }
    bool on = strcasecmp(text, "true") == 0 || strcasecmp(text, "on") == 0;
    bool off = strcasecmp(text, "false") == 0 || strcasecmp(text, "off") == 0;
    if (on || off) {
        tls->handshake_first = on;
    } else if (strcasecmp(text, "auto") == 0 || strcasecmp(text, "auto_fallback") == 0) {
        tls->handshake_first = true;
        tls->handshake_first_fallback_ns = HANDSHAKE_FIRST_AUTO_NS;
    } else if (rb_config_parse_duration(text, &ns, problem, sizeof(problem)) && ns > 0) {
        tls->handshake_first = true;
        tls->handshake_first_fallback_ns = ns;
    } else {
        rb_load_error(load, entry, "field \"%.*s\"'s value \"%.128s\" is invalid", RB_KEY(entry),
                      text);
    }
}

/* ------------------------------------------------------------------ certificates */

static bool read_pair(struct rb_load *load, const struct rb_conf_entry *entry,
                      struct rb_cert_pair *ret_pair)
{
    struct rb_slice text;
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "error parsing certificates config: unsupported type %s",
                      rb_conf_kind_text(entry->value->kind));
        return false;
    }
    for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
        bool is_cert = rb_slice_equal_fold(e->key, RB_S("cert_file"));
        if (!is_cert && !rb_slice_equal_fold(e->key, RB_S("key_file"))) {
            if (!e->is_variable) {
                rb_load_error(load, e, "error parsing certificates config: unknown field \"%.*s\"",
                              RB_KEY(e));
                return false;
            }
        } else if (!rb_load_slice(load, e, &text)) {
            return false;
        } else {
            *(is_cert ? &ret_pair->cert_file : &ret_pair->key_file) = (const char *)text.ptr;
        }
    }
    if (ret_pair->cert_file == NULL || ret_pair->key_file == NULL) {
        const struct rb_conf_entry *last = entry->value->map.last;
        rb_load_error(load, last == NULL ? entry : last,
                      "error parsing certificates config: both 'cert_file' and 'cert_key' options "
                      "are required");
        return false;
    }
    return true;
}

static void read_certs(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct tls_block *block = base;
    if (entry->value->kind != RB_CONF_ARRAY) {
        rb_load_error(load, entry, "error parsing certificates config: unsupported type %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    if (entry->value->count > RB_TLS_CERTS_MAX) {
        rb_load_error(load, entry, "error parsing certificates config: more than %d certificates",
                      RB_TLS_CERTS_MAX);
        return;
    }
    struct rb_cert_pair *pairs = rb_load_take(load, (entry->value->count + 1) * sizeof(*pairs));
    uint32_t count = 0;
    for (const struct rb_conf_item *i = pairs == NULL ? NULL : entry->value->array.first; i != NULL;
         i = i->next) {
        struct rb_conf_entry item = rb_load_item(entry, i);
        count += read_pair(load, &item, &pairs[count]);
    }
    block->tls.certs = pairs;
    block->tls.cert_count = count;
}

static const struct rb_option tls_options[] = {
    { "cert_file", RB_OPTION_STRING, offsetof(struct tls_block, tls.cert_file) },
    { "key_file", RB_OPTION_STRING, offsetof(struct tls_block, tls.key_file) },
    { "ca_file", RB_OPTION_STRING, offsetof(struct tls_block, tls.ca_file) },
    { "certs certificates", RB_OPTION_CALL, .set = read_certs },
    { "verify", RB_OPTION_CALL, .set = read_verify },
    { "verify_and_map", RB_OPTION_CALL, .set = read_verify_and_map },
    { "verify_cert_and_check_known_urls", RB_OPTION_CALL, .set = read_known_urls },
    { "insecure", RB_OPTION_OFF_BOOL },
    { "timeout", RB_OPTION_CALL, .set = read_tls_timeout },
    { "cipher_suites", RB_OPTION_CALL, .set = read_ciphers },
    { "curve_preferences", RB_OPTION_CALL, .set = read_curves },
    { "allow_insecure_cipher_suites", RB_OPTION_CALL, .set = read_allow_insecure },
    { "min_version", RB_OPTION_CALL, .set = read_min_version },
    { "pinned_certs", RB_OPTION_CALL, .set = read_pins },
    { "connection_rate_limit", RB_OPTION_CALL, .set = read_rate_limit },
    { "handshake_first first immediate", RB_OPTION_CALL, .set = read_handshake_first },
    { "ocsp_peer", RB_OPTION_OFF_BOOL },
    { "cert_store cert_match_by cert_match ca_certs_match cert_match_skip_invalid",
      RB_OPTION_REFUSED },
    { NULL },
};

static bool is_tls_key(struct rb_slice key)
{
    for (const struct rb_option *option = tls_options; option->names != NULL; option++) {
        for (const char *at = option->names; *at != 0; at += strspn(at, " ")) {
            size_t len = strcspn(at, " ");
            if (rb_slice_equal_fold(rb_slice_of(at, len), key)) {
                return true;
            }
            at += len;
        }
    }
    return false;
}

void rb_config_tls_options(const struct rb_tls_config *tls, struct rb_tls_options *ret_options)
{
    *ret_options = (struct rb_tls_options){
        .cert_file = tls->cert_file,
        .key_file = tls->key_file,
        .ca_file = tls->ca_file,
        .cert_count = tls->cert_count,
        .verify = tls->verify,
        .min_version = tls->min_version,
        .ciphers = tls->ciphers,
        .cipher_count = tls->cipher_count,
        .curves = tls->curves,
        .curve_count = tls->curve_count,
        .pinned = tls->pinned,
        .pinned_count = tls->pinned_count,
    };
    rb_assert(tls->cert_count <= RB_TLS_CERTS_MAX);
    for (uint32_t i = 0; i < tls->cert_count; i++) {
        ret_options->certs[i].cert_file = tls->certs[i].cert_file;
        ret_options->certs[i].key_file = tls->certs[i].key_file;
    }
}

enum rb_err rb_config_tls_try(const struct rb_tls_config *tls, char error[RB_CONFIG_ERROR_MAX])
{
    struct rb_tls_options options;
    struct rb_tls_context *context = NULL;
    error[0] = 0;
    rb_config_tls_options(tls, &options);
    enum rb_err err = rb_tls_context_create(&options, &context, error, RB_CONFIG_ERROR_MAX);
    if (err == RB_OK) {
        rb_tls_context_release(context);
    }
    return err;
}

void rb_load_tls(struct rb_load *load, const struct rb_conf_entry *entry,
                 struct rb_tls_config *ret_tls)
{
    struct tls_block block = { .tls = { .set = true, .timeout_ns = RB_TLS_TIMEOUT_DEFAULT_NS } };
    struct rb_tls_config *tls = &block.tls;
    uint32_t errors = load->errors.count;
    if (!rb_load_kind(load, entry, RB_CONF_MAP)) {
        return;
    }
    for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
        if (!is_tls_key(e->key) && !e->is_variable) {
            rb_load_error(load, e, "error parsing tls config, unknown field \"%.*s\"", RB_KEY(e));
        }
    }
    if (load->errors.count > errors) {
        return;
    }
    rb_load_options(load, entry->value, tls_options, &block);
    if (load->errors.count > errors) {
        return;
    }
    if (tls->cert_count > 0 && tls->cert_file != NULL) {
        rb_load_error(load, entry,
                      "error parsing tls config, cannot combine 'cert_file' option with 'certs' "
                      "option");
    } else if (tls->cert_count == 0 && tls->cert_file == NULL) {
        rb_load_error(load, entry, "missing 'cert_file' in TLS configuration");
    } else if (tls->cert_count == 0 && tls->key_file == NULL) {
        rb_load_error(load, entry, "missing 'key_file' in TLS configuration");
    } else if (block.insecure != NULL && !block.allow_insecure) {
        rb_load_error(load, entry,
                      "insecure cipher suites configured without 'allow_insecure_cipher_suites' "
                      "option set: %s",
                      block.insecure);
    } else if (!load->closed) {
        char error[RB_CONFIG_ERROR_MAX];
        enum rb_err err = rb_config_tls_try(tls, error);
        load->out_of_memory |= err == RB_ERR_MEMORY;
        if (err != RB_OK) {
            rb_load_error(load, entry, "%s", error);
        }
    }
    *ret_tls = *tls;
}

/* ------------------------------------------------------------------ websocket */

static void set_ws_listen(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    (void)rb_load_listen(load, entry, config->ws_host, sizeof(config->ws_host), &config->ws_port);
}

static void set_ws_port(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config *config = base;
    (void)rb_load_port(load, entry, &config->ws_port);
}

static void set_ws_tls(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    rb_load_tls(load, entry, &load->lists->websocket_tls);
    load->policy->websocket_tls_map = load->lists->websocket_tls.map;
}

static void set_ws_origins(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    (void)rb_load_strings(load, entry, &load->lists->ws_origins, &load->lists->ws_origin_count);
}

static void set_ws_handshake_timeout(struct rb_load *load, const struct rb_conf_entry *entry,
                                     void *base)
{
    struct rb_config *config = base;
    char text[RB_CONFIG_TEXT_MAX], problem[256];
    int64_t ns = 0;
    if (entry->value->kind == RB_CONF_INT) { /* seconds, here without a warning */
        if (!rb_load_size(load, entry, INT32_MAX, &ns)) {
            return;
        }
        ns *= (int64_t)RB_SECOND_NS;
    } else if (!rb_load_text(load, entry, text, sizeof(text))) {
        return;
    } else if (!rb_config_parse_duration(text, &ns, problem, sizeof(problem))) {
        rb_load_error(load, entry, "%s", problem);
        return;
    }
    if (ns < 0) {
        rb_load_error(load, entry, "%.*s value can not be negative", RB_KEY(entry));
    } else if (ns > 0) {
        config->ws_handshake_timeout_ns = (uint64_t)ns;
    }
}

static void set_ws_ping_interval(struct rb_load *load, const struct rb_conf_entry *entry,
                                 void *base)
{
    struct rb_config *config = base;
    (void)rb_load_duration(load, entry, 0, &config->ws_ping_interval_ns);
}

static void set_ws_auth_timeout(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_policy_login *login = base;
    (void)rb_load_timeout(load, entry, "error parsing websocket authorization config", true,
                          &login->timeout_ns);
}

static void set_ws_authorization(struct rb_load *load, const struct rb_conf_entry *entry,
                                 void *base)
{
    static const struct rb_option options[] = {
        { "user username", RB_OPTION_SLICE, offsetof(struct rb_policy_login, user) },
        { "pass password", RB_OPTION_SLICE, offsetof(struct rb_policy_login, pass) },
        { "token", RB_OPTION_SLICE, offsetof(struct rb_policy_login, token) },
        { "timeout", RB_OPTION_CALL, .set = set_ws_auth_timeout },
        { NULL },
    };
    struct rb_policy_login *login = &load->policy->websocket_login;
    if (!rb_load_kind(load, entry, RB_CONF_MAP)) {
        return;
    }
    rb_load_options(load, entry->value, options, login);
    if ((login->user.len > 0 || login->pass.len > 0) && login->token.len > 0) {
        rb_load_error(load, entry, "Cannot have a user/pass and token");
    }
}

static void set_ws_no_auth_user(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    if (rb_load_kind(load, entry, RB_CONF_TEXT)) {
        load->blocks.websocket_no_auth_user = entry;
    }
}

/** May this be sent as a header of the upgrade's answer? */
static bool is_header(struct rb_load *load, const struct rb_conf_entry *e)
{
    static const char *const taken[] = { "host",    "content-length",  "connection",
                                         "upgrade", "nats-no-masking", NULL };
    static const char prefix[] = "Sec-WebSocket-";
    struct rb_slice name = e->key, value = e->value->text;
    struct rb_slice head = rb_slice_of(name.ptr, sizeof(prefix) - 1);
    if (name.len >= head.len && rb_slice_equal_fold(head, RB_S("Sec-WebSocket-"))) {
        rb_load_error(load, e,
                      "websocket: invalid header \"%.*s\", \"Sec-WebSocket-\" prefix not allowed",
                      RB_S_ARG(name));
        return false;
    }
    bool bad = name.len == 0;
    for (const char *const *at = taken; *at != NULL; at++) {
        bad |= rb_slice_equal_fold(name, rb_slice_text(*at));
    }
    for (size_t i = 0; i < name.len; i++) { /* else one header could become two */
        bad |= !isalnum(name.ptr[i]) && strchr("!#$%&'*+-.^_`|~", name.ptr[i]) == NULL;
        bad |= name.ptr[i] == 0;
    }
    for (size_t i = 0; i < value.len; i++) {
        bad |= (value.ptr[i] < ' ' && value.ptr[i] != '\t') || value.ptr[i] == 0x7f;
    }
    if (bad) {
        rb_load_error(load, e, "websocket: invalid header \"%.*s\" not allowed", RB_S_ARG(name));
    }
    return !bad;
}

static void set_ws_headers(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "error parsing headers: unsupported type %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    struct rb_text_pair *pairs = rb_load_take(load, (entry->value->count + 1) * sizeof(*pairs));
    uint32_t count = 0;
    for (const struct rb_conf_entry *e = pairs == NULL ? NULL : entry->value->map.first; e != NULL;
         e = e->next) {
        if (e->value->kind != RB_CONF_TEXT) {
            rb_load_error(load, e, "error parsing header key %.*s: unsupported type %s", RB_KEY(e),
                          rb_conf_kind_text(e->value->kind));
        } else if (is_header(load, e)) {
            pairs[count].key = (const char *)rb_load_copy(load, e->key).ptr;
            pairs[count++].value = (const char *)rb_load_copy(load, e->value->text).ptr;
        }
    }
    load->lists->ws_headers = pairs;
    load->lists->ws_header_count = count;
}

#define WS_TEXT(field)                                                                             \
    RB_OPTION_TEXT, offsetof(struct rb_config, field), sizeof(((struct rb_config *)0)->field)
#define WS_BOOL(field) RB_OPTION_BOOL, offsetof(struct rb_config, field)

static void set_ws_cookie(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config_lists *lists = load->lists;
    struct rb_slice text;
    if (!rb_load_slice(load, entry, &text) || text.len == 0) {
        return;
    }
    const char *name = (const char *)text.ptr;
    if (rb_slice_equal_fold(entry->key, RB_S("jwt_cookie"))) {
        rb_load_error(load, entry,
                      "trusted operators or trusted keys configuration is required for JWT "
                      "authentication via cookie \"%s\"",
                      name);
    } else if (rb_slice_equal_fold(entry->key, RB_S("user_cookie"))) {
        lists->ws_user_cookie = name;
    } else if (rb_slice_equal_fold(entry->key, RB_S("pass_cookie"))) {
        lists->ws_pass_cookie = name;
    } else {
        lists->ws_token_cookie = name;
    }
}

void rb_load_websocket(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    static const struct rb_option options[] = {
        { "listen", RB_OPTION_CALL, .set = set_ws_listen },
        { "port", RB_OPTION_CALL, .set = set_ws_port },
        { "host net", WS_TEXT(ws_host) },
        { "advertise", WS_TEXT(ws_advertise) },
        { "no_tls", WS_BOOL(ws_no_tls) },
        { "tls", RB_OPTION_CALL, .set = set_ws_tls },
        { "same_origin", WS_BOOL(ws_same_origin) },
        { "allowed_origins allowed_origin allow_origins allow_origin origins origin",
          RB_OPTION_CALL, .set = set_ws_origins },
        { "handshake_timeout", RB_OPTION_CALL, .set = set_ws_handshake_timeout },
        { "compression compress", WS_BOOL(ws_compression) },
        { "authorization authentication", RB_OPTION_CALL, .set = set_ws_authorization },
        { "no_auth_user", RB_OPTION_CALL, .set = set_ws_no_auth_user },
        { "jwt_cookie user_cookie pass_cookie token_cookie", RB_OPTION_CALL, .set = set_ws_cookie },
        { "headers", RB_OPTION_CALL, .set = set_ws_headers },
        { "ping_interval", RB_OPTION_CALL, .set = set_ws_ping_interval },
        { NULL },
    };
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "Expected websocket to be a map, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    load->config->ws_set = true;
    rb_load_options(load, entry->value, options, load->config);
    struct rb_config *config = load->config;
    if (config->ws_host[0] == 0) {
        snprintf(config->ws_host, sizeof(config->ws_host), "0.0.0.0");
    }
}
