/* connect.c - CONNECT is read with jansson, INFO is written by hand.
 *
 * 1. Clients were made for a JSON reader that is laxer than jansson: it turns bytes that are no
 *    UTF-8, and halves of surrogate pairs, into U+FFFD, and looks at the size of a number only when
 *    a field wants it. clean_json() does the former and puts a small fraction for huge numbers.
 * 2. jansson recurses; clean_json() refuses documents deeper than RB_CONNECT_DEPTH_MAX first.
 * 3. *connect changes only when the whole document is right; null never changes a field.
 * 4. INFO escapes what the reference server escapes, so that both print the same bytes.
 */
#include "proto/connect.h"

#include <stdlib.h>

#include <jansson.h>

#include "proto/json.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* ---- reading CONNECT ------------------------------------------------------------------------ */

void rb_connect_defaults(struct rb_connect *connect)
{
    *connect = (struct rb_connect){ .verbose = true, .pedantic = true, .echo = true };
}

/* The value of "\uXXXX" at `at`, -1 when it is not one. */
static int32_t unicode_escape(const uint8_t *at, size_t left)
{
    int32_t value = 0;
    if (left < 6 || at[0] != '\\' || at[1] != 'u') {
        return -1;
    }
    for (size_t i = 2; i < 6; i++) {
        uint8_t c = at[i];
        int32_t digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

static bool is_high_surrogate(int32_t code)
{
    return code >= 0xd800 && code < 0xdc00;
}

static bool is_low_surrogate(int32_t code)
{
    return code >= 0xdc00 && code < 0xe000;
}

/* Copies one escape or character of a string; returns the bytes of input it took. */
static size_t clean_piece(const uint8_t *at, size_t left, struct rb_writer *out)
{
    size_t take = 1;
    if (at[0] == '\\') {
        int32_t code = unicode_escape(at, left);
        take = code >= 0 ? 6 : left < 2 ? 1 : 2;
        if (is_high_surrogate(code) && is_low_surrogate(unicode_escape(at + 6, left - 6))) {
            take = 12;
        } else if (is_high_surrogate(code) || is_low_surrogate(code)) {
            rb_write_slice(out, RB_S(REPLACEMENT));
            return take;
        }
        if (take == 2 && at[1] >= 0x80) {
            take = 1; /* jansson refuses the escape; do not split the character */
        }
    } else {
        take = rb_utf8_len(at, left);
        if (take == 0) {
            rb_write_slice(out, RB_S(REPLACEMENT));
            return 1;
        }
    }
    rb_write_slice(out, rb_slice_of(at, take));
    return take;
}

static size_t digits_len(const uint8_t *at, size_t left)
{
    size_t len = 0;
    while (len < left && at[len] >= '0' && at[len] <= '9') {
        len++;
    }
    return len;
}

/* Length of the JSON number at `at`, 0 for none; *ret_huge: jansson might refuse its size. */
static size_t number_len(const uint8_t *at, size_t left, bool *ret_huge)
{
    size_t len = at[0] == '-';
    size_t digits = digits_len(at + len, left - len);
    if (digits == 0 || (digits > 1 && at[len] == '0')) {
        return 0;
    }
    len += digits;
    if (len + 1 < left && at[len] == '.') {
        size_t more = digits_len(at + len + 1, left - len - 1);
        len += more == 0 ? 0 : more + 1;
    }
    *ret_huge = digits > 18;
    if (len + 1 < left && (at[len] | 0x20) == 'e') {
        size_t sign = at[len + 1] == '+' || at[len + 1] == '-';
        size_t more = digits_len(at + len + 1 + sign, left - len - 1 - sign);
        len += more == 0 ? 0 : 1 + sign + more;
        *ret_huge = *ret_huge || more != 0;
    }
    return len;
}

/* Copies what begins with a digit or a minus, outside of strings; returns the bytes it took. */
static size_t clean_number(const uint8_t *at, size_t left, struct rb_writer *out)
{
    bool huge = false;
    size_t len = number_len(at, left, &huge);
    if (len == 0) {
        rb_write_u8(out, at[0]); /* whatever it is, jansson judges it */
        return 1;
    }
    rb_write_slice(out, huge ? RB_S("0.5") : rb_slice_of(at, len));
    return len;
}

/* Copies `json` as invariants 1 and 2 want it. `out` has room for three times its length. */
static bool clean_json(struct rb_slice json, struct rb_writer *out)
{
    uint32_t depth = 0;
    bool in_string = false;
    size_t at = 0;
    while (at < json.len) {
        uint8_t c = json.ptr[at];
        if (in_string && c != '"') {
            at += clean_piece(json.ptr + at, json.len - at, out);
            continue;
        }
        if (c == '-' || (c >= '0' && c <= '9')) {
            at += clean_number(json.ptr + at, json.len - at, out);
            continue;
        }
        if (c == '"') {
            in_string = !in_string;
        } else if (c == '{' || c == '[') {
            if (++depth > RB_CONNECT_DEPTH_MAX) {
                return false;
            }
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
        }
        rb_write_u8(out, c);
        at++;
    }
    return rb_writer_len(out) <= 3 * json.len;
}

static json_t *load_json(struct rb_slice json)
{
    if (json.len == 0 || json.len > RB_CONNECT_BYTES_MAX) {
        return NULL;
    }
    uint8_t *copy = malloc(3 * json.len);
    if (copy == NULL) {
        return NULL;
    }
    struct rb_writer writer = rb_writer_over(copy, 3 * json.len);
    json_t *root = NULL;
    if (clean_json(json, &writer)) {
        root = json_loadb((const char *)copy, rb_writer_len(&writer),
                          JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    }
    free(copy);
    return root;
}

enum field_kind { FIELD_BOOL, FIELD_INT, FIELD_TEXT, FIELD_SHORT_TEXT, FIELD_OBJECT };

/* Where a field goes; those that only routes and leaf nodes use are checked for their type. */
struct field {
    const char *key;
    enum field_kind kind;
    void *into;
};

static bool set_text(struct rb_slice *into, const json_t *value, size_t len_max)
{
    if (!json_is_string(value)) {
        return false;
    }
    struct rb_slice text = rb_slice_of(json_string_value(value), json_string_length(value));
    if (text.len > len_max) {
        text.len = len_max;
        while (text.len > 0 && (text.ptr[text.len] & 0xc0) == 0x80) {
            text.len--; /* whole characters only */
        }
    }
    if (into != NULL) {
        *into = text;
    }
    return true;
}

static bool set_field(const struct field *field, const json_t *value)
{
    if (json_is_null(value)) {
        return true;
    }
    switch (field->kind) {
    case FIELD_BOOL:
        if (!json_is_boolean(value)) {
            return false;
        }
        *(bool *)field->into = json_is_true(value);
        return true;
    case FIELD_INT:
        if (!json_is_integer(value)) {
            return false;
        }
        *(int64_t *)field->into = json_integer_value(value);
        return true;
    case FIELD_TEXT:
        return set_text(field->into, value, SIZE_MAX);
    case FIELD_SHORT_TEXT:
        return set_text(field->into, value, RB_CONNECT_TEXT_MAX);
    case FIELD_OBJECT:
        return json_is_object(value);
    }
    return false;
}

/* Fields in document order, so that of two spellings of one key the later one wins. */
static bool read_fields(json_t *root, const struct field *fields, size_t count)
{
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        for (size_t i = 0; i < count; i++) {
            if (rb_slice_equal_fold(rb_slice_text(key), rb_slice_text(fields[i].key))) {
                if (!set_field(&fields[i], value)) {
                    return false;
                }
                break;
            }
        }
    }
    return true;
}

static bool decode(json_t *root, struct rb_connect *connect)
{
    struct rb_slice account = { NULL, 0 };
    bool new_account = false;
    const struct field fields[] = {
        { "verbose", FIELD_BOOL, &connect->verbose },
        { "pedantic", FIELD_BOOL, &connect->pedantic },
        { "echo", FIELD_BOOL, &connect->echo },
        { "headers", FIELD_BOOL, &connect->headers },
        { "no_responders", FIELD_BOOL, &connect->no_responders },
        { "tls_required", FIELD_BOOL, &connect->tls_required },
        { "protocol", FIELD_INT, &connect->protocol },
        { "name", FIELD_SHORT_TEXT, &connect->name },
        { "lang", FIELD_SHORT_TEXT, &connect->lang },
        { "version", FIELD_SHORT_TEXT, &connect->version },
        { "auth_token", FIELD_TEXT, &connect->auth_token },
        { "user", FIELD_TEXT, &connect->user },
        { "pass", FIELD_TEXT, &connect->pass },
        { "nkey", FIELD_TEXT, &connect->nkey },
        { "sig", FIELD_TEXT, &connect->sig },
        { "jwt", FIELD_TEXT, &connect->jwt },
        { "proxy_sig", FIELD_TEXT, &connect->proxy_sig },
        { "account", FIELD_TEXT, &account },
        { "new_account", FIELD_BOOL, &new_account },
        { "remote_account", FIELD_TEXT, NULL },
        { "import", FIELD_OBJECT, NULL },
        { "export", FIELD_OBJECT, NULL },
    };
    if (!json_is_object(root)) {
        return json_is_null(root); /* says nothing, changes nothing */
    }
    if (!read_fields(root, fields, sizeof(fields) / sizeof(fields[0]))) {
        return false;
    }
    connect->has_account = connect->has_account || account.len != 0 || new_account;
    return true;
}

enum rb_err rb_connect_parse(struct rb_slice json, struct rb_connect *connect,
                             struct rb_connect_doc **ret_doc)
{
    json_t *root = load_json(json);
    if (root == NULL) {
        return RB_ERR_INVALID;
    }
    struct rb_connect decoded = *connect;
    if (!decode(root, &decoded)) {
        json_decref(root);
        return RB_ERR_INVALID;
    }
    *connect = decoded;
    *ret_doc = (struct rb_connect_doc *)root; /* the document is jansson's tree */
    return RB_OK;
}

void rb_connect_doc_free(struct rb_connect_doc *doc)
{
    json_decref((json_t *)doc);
}

/* ---- writing INFO --------------------------------------------------------------------------- */

static void write_urls(struct rb_writer *out, const struct rb_slice *urls, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        rb_json_text(out, i == 0 ? RB_S(",\"connect_urls\":[") : RB_S(","), urls[i]);
    }
    if (count != 0) {
        rb_write_u8(out, ']');
    }
}

size_t rb_info_format(uint8_t *out, size_t cap, const struct rb_info *info)
{
    struct rb_writer w = rb_writer_over(out, cap);
    rb_json_text(&w, RB_S("INFO {\"server_id\":"), info->server_id);
    rb_json_text(&w, RB_S(",\"server_name\":"), info->server_name);
    rb_json_text(&w, RB_S(",\"version\":"), info->version);
    rb_json_number(&w, RB_S(",\"proto\":"), 1);
    rb_json_optional(&w, RB_S(",\"git_commit\":"), info->git_commit);
    rb_json_text(&w, RB_S(",\"go\":"), info->runtime);
    rb_json_text(&w, RB_S(",\"host\":"), info->host);
    rb_json_number(&w, RB_S(",\"port\":"), info->port);
    rb_write_slice(&w, info->headers ? RB_S(",\"headers\":true") : RB_S(",\"headers\":false"));
    rb_json_true(&w, RB_S(",\"auth_required\":"), info->auth_required);
    rb_json_true(&w, RB_S(",\"tls_required\":"), info->tls_required);
    rb_json_true(&w, RB_S(",\"tls_verify\":"), info->tls_verify);
    rb_json_true(&w, RB_S(",\"tls_available\":"), info->tls_available);
    rb_json_number(&w, RB_S(",\"max_payload\":"), info->max_payload);
    rb_json_true(&w, RB_S(",\"jetstream\":"), info->jetstream);
    if (info->client_id != 0) {
        rb_json_number(&w, RB_S(",\"client_id\":"), info->client_id);
    }
    rb_json_optional(&w, RB_S(",\"client_ip\":"), info->client_ip);
    rb_json_optional(&w, RB_S(",\"nonce\":"), info->nonce);
    rb_json_optional(&w, RB_S(",\"cluster\":"), info->cluster);
    rb_json_optional(&w, RB_S(",\"domain\":"), info->domain);
    write_urls(&w, info->connect_urls, info->connect_url_count);
    rb_json_true(&w, RB_S(",\"ldm\":"), info->ldm);
    rb_json_true(&w, RB_S(",\"connect_info\":"), info->connect_info);
    if (info->connect_info) {
        rb_json_optional(&w, RB_S(",\"remote_account\":"), info->remote_account);
        rb_json_true(&w, RB_S(",\"acc_is_sys\":"), info->acc_is_sys);
    }
    if (info->api_lvl != 0) {
        rb_json_number(&w, RB_S(",\"api_lvl\":"), info->api_lvl);
    }
    rb_json_optional(&w, RB_S(",\"xkey\":"), info->xkey);
    rb_json_optional(&w, RB_S(",\"ringbus\":"), info->ringbus_version);
    rb_write_slice(&w, RB_S("} \r\n"));
    return w.ok ? rb_writer_len(&w) : 0;
}
