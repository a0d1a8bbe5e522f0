/* docs_options.c - options of monitoring documents, from a query string or from a JSON body.
 *
 * One table says what each document knows; both front ends walk it. Errors are in nats-server's words, which are those
 * of Go's strconv and encoding/json.
 */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "proto/http.h"
#include "server/docs.h"
#include "proto/gojson.h"

enum kind { BOOL, INT, UINT, TEXT, SORT, STATE, SUBS };

/* `query`, `json`: names; NULL: not known to that front end. */
struct option {
    const char *query, *json;
    enum kind kind;
    size_t offset;
};

#define AT(field) offsetof(struct rb_doc_options, field)

static const struct option connz_options[] = {
    { "sort", "sort", SORT, AT(sort) },
    { "auth", "auth", BOOL, AT(auth) },
    { "subs", NULL, SUBS, 0 },
    { NULL, "subscriptions", BOOL, AT(subs) },
    { NULL, "subscriptions_detail", BOOL, AT(subs_detail) },
    { "offset", "offset", INT, AT(offset) },
    { "limit", "limit", INT, AT(limit) },
    { "cid", "cid", UINT, AT(cid) },
    { "state", "state", STATE, AT(state) },
    { "user", "user", TEXT, AT(user) },
    { "acc", "acc", TEXT, AT(account) },
    { "mqtt_client", "mqtt_client", TEXT, AT(mqtt_client) },
    { NULL, "filter_subject", TEXT, AT(filter_subject) },
    { 0 },
};
static const struct option routez_options[] = {
    { "subs", NULL, SUBS, 0 },
    { NULL, "subscriptions", BOOL, AT(subs) },
    { NULL, "subscriptions_detail", BOOL, AT(subs_detail) },
    { 0 },
};
static const struct option gatewayz_options[] = {
    { "gw_name", "name", TEXT, AT(name) },
    { "accs", "accounts", BOOL, AT(accounts) },
    { "acc_name", "account_name", TEXT, AT(account) },
    { "subs", NULL, SUBS, 0 },
    { NULL, "subscriptions", BOOL, AT(subs) },
    { NULL, "subscriptions_detail", BOOL, AT(subs_detail) },
    { 0 },
};
static const struct option leafz_options[] = {
    { "subs", "subscriptions", BOOL, AT(subs) },
    { "acc", "account", TEXT, AT(account) },
    { 0 },
};
static const struct option subsz_options[] = {
    { "subs", "subscriptions", BOOL, AT(subs) }, { "offset", "offset", INT, AT(offset) },
    { "limit", "limit", INT, AT(limit) },        { "acc", "account", TEXT, AT(account) },
    { "test", "test", TEXT, AT(test) },          { 0 },
};
static const struct option accountz_options[] = {
    { "acc", "account", TEXT, AT(account) },
    { 0 },
};
static const struct option accstatz_options[] = {
    { "unused", "include_unused", BOOL, AT(unused) },
    { 0 },
};
static const struct option jsz_options[] = {
    { "acc", "account", TEXT, AT(account) },
    { "accounts", "accounts", BOOL, AT(accounts) },
    { "streams", "streams", BOOL, AT(streams) },
    { "consumers", "consumer", BOOL, AT(consumers) },
    { "direct-consumers", "direct_consumer", BOOL, AT(direct_consumers) },
    { "config", "config", BOOL, AT(config) },
    { "raft", "raft", BOOL, AT(raft) },
    { "leader-only", "leader_only", BOOL, AT(leader_only) },
    { "stream-leader-only", "stream_leader_only", BOOL, AT(stream_leader_only) },
    { "offset", "offset", INT, AT(offset) },
    { "limit", "limit", INT, AT(limit) },
    { 0 },
};
static const struct option healthz_options[] = {
    { "js-enabled", "js-enabled", BOOL, AT(js_enabled) },
    { "js-enabled-only", "js-enabled-only", BOOL, AT(js_enabled_only) },
    { "js-meta-only", "js-meta-only", BOOL, AT(js_meta_only) },
    { "js-server-only", "js-server-only", BOOL, AT(js_server_only) },
    { "account", "account", TEXT, AT(account) },
    { "stream", "stream", TEXT, AT(stream) },
    { "consumer", "consumer", TEXT, AT(consumer) },
    { "details", "details", BOOL, AT(details) },
    { 0 },
};
static const struct option ipqueuesz_options[] = {
    { "all", "all", BOOL, AT(all) },
    { "queues", "filter", TEXT, AT(name) },
    { 0 },
};
static const struct option raftz_options[] = {
    { "acc", "account", TEXT, AT(account) },
    { "group", "group", TEXT, AT(name) },
    { 0 },
};
static const struct option no_options[] = { { 0 } };

static const struct option *options_of(enum rb_monitor_doc kind)
{
    static const struct option *const tables[RB_DOC_COUNT] = {
        [RB_DOC_CONNZ] = connz_options,       [RB_DOC_ROUTEZ] = routez_options,
        [RB_DOC_GATEWAYZ] = gatewayz_options, [RB_DOC_LEAFZ] = leafz_options,
        [RB_DOC_SUBSZ] = subsz_options,       [RB_DOC_ACCOUNTZ] = accountz_options,
        [RB_DOC_ACCSTATZ] = accstatz_options, [RB_DOC_JSZ] = jsz_options,
        [RB_DOC_HEALTHZ] = healthz_options,   [RB_DOC_IPQUEUESZ] = ipqueuesz_options,
        [RB_DOC_RAFTZ] = raftz_options,
    };
    return tables[kind] == NULL ? no_options : tables[kind];
}

bool rb_doc_fail(struct rb_doc_error *error, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    error->status = status;
    (void)vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    return false;
}

void rb_doc_options_deinit(struct rb_doc_options *options)
{
    free(options->account_list);
    options->account_list = NULL;
    options->account_list_count = 0;
}

/* Values */

static bool all_digits(const char *text)
{
    size_t len = strspn(text, "0123456789");
    return len > 0 && text[len] == '\0';
}

/* NULL, or what is wrong in Go's words. */
static const char *parse_int(const char *text, int64_t *ret_value)
{
    if (!all_digits(text[0] == '-' || text[0] == '+' ? text + 1 : text)) {
        return "invalid syntax";
    }
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno != 0) {
        return "value out of range";
    }
    *ret_value = value;
    return NULL;
}

static const char *parse_uint(const char *text, uint64_t *ret_value)
{
    if (!all_digits(text)) {
        return "invalid syntax";
    }
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno != 0) {
        return "value out of range";
    }
    *ret_value = value;
    return NULL;
}

static const char *const sort_names[] = {
    "cid",        "start", "subs", "pending", "msgs_to", "msgs_from", "bytes_to",
    "bytes_from", "last",  "idle", "uptime",  "stop",    "reason",    "rtt",
};

static bool parse_sort(const char *text, enum rb_conn_sort *ret_sort, struct rb_doc_error *error,
                       int status)
{
    for (size_t i = 0; i < sizeof(sort_names) / sizeof(sort_names[0]); i++) {
        if (strcmp(text, sort_names[i]) == 0) {
            *ret_sort = (enum rb_conn_sort)i;
            return true;
        }
    }
    return rb_doc_fail(error, status, "invalid sorting option: %s", text);
}

static bool parse_state(const char *text, int64_t *ret_state, struct rb_doc_error *error)
{
    static const struct {
        const char *name;
        int64_t state;
    } names[] = { { "open", 0 }, { "closed", 1 }, { "any", 2 }, { "all", 2 } };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(text, names[i].name) == 0) {
            *ret_state = names[i].state;
            return true;
        }
    }
    return rb_doc_fail(error, 400, "Error decoding state for %s", text);
}

/* Text as Go's %q shows it, without the quotes. */
struct quoted {
    char text[4 * RB_DOC_TEXT_MAX + 1];
};
static const char *quote(struct quoted *out, const char *text)
{
    size_t len = rb_format_quoted((uint8_t *)out->text, sizeof(out->text) - 1, rb_slice_text(text));
    out->text[len] = '\0';
    return out->text;
}

static bool refuse(struct rb_doc_error *error, const char *type, const char *call, const char *name,
                   const char *text, const char *why)
{
    struct quoted quoted;
    return rb_doc_fail(error, 400, "Error decoding %s for '%s': strconv.%s: parsing \"%s\": %s",
                       type, name, call, quote(&quoted, text), why);
}

/* The query */

static bool take_query(const struct option *option, const char *text,
                       struct rb_doc_options *options, struct rb_doc_error *error)
{
    char *field = (char *)options + option->offset;
    const char *why;
    switch (option->kind) {
    case SUBS:
        if (strcasecmp(text, "detail") == 0) {
            options->subs_detail = true;
            return true;
        }
        return rb_go_bool(text, &options->subs) ||
               refuse(error, "boolean", "ParseBool", option->query, text, "invalid syntax");
    case BOOL:
        return rb_go_bool(text, (bool *)field) ||
               refuse(error, "boolean", "ParseBool", option->query, text, "invalid syntax");
    case INT:
        why = parse_int(text, (int64_t *)(void *)field);
        return why == NULL || refuse(error, "int", "Atoi", option->query, text, why);
    case UINT:
        why = parse_uint(text, (uint64_t *)(void *)field);
        return why == NULL || refuse(error, "uint64", "ParseUint", option->query, text, why);
    case SORT:
        return parse_sort(text, (enum rb_conn_sort *)(void *)field, error, 400);
    case STATE:
        return parse_state(text, (int64_t *)(void *)field, error);
    case TEXT:
        (void)snprintf(field, RB_DOC_TEXT_MAX, "%s", text);
        return true;
    }
    return true;
}

bool rb_doc_from_query(enum rb_monitor_doc kind, struct rb_slice query,
                       struct rb_doc_options *options, struct rb_doc_error *error)
{
    *options = (struct rb_doc_options){ 0 };
    *error = (struct rb_doc_error){ 0 };
    for (const struct option *o = options_of(kind); o->query != NULL || o->json != NULL; o++) {
        char text[RB_DOC_TEXT_MAX + 1];
        if (o->query == NULL || !rb_http_query(query, o->query, text, sizeof(text)) ||
            text[0] == '\0') {
            continue;
        }
        if (strlen(text) >= RB_DOC_TEXT_MAX) {
            return rb_doc_fail(error, 400, "value of '%s' is longer than %d bytes", o->query,
                               RB_DOC_TEXT_MAX - 1);
        }
        if (!take_query(o, text, options, error)) {
            return false;
        }
    }
    return true;
}

/* JSON */

static bool mismatch(struct rb_doc_error *error, const char *key, const json_t *value,
                     const char *wanted)
{
    char number[48] = "", text[40];
    if (json_is_real(value)) {
        (void)snprintf(number, sizeof(number), " %s", rb_float_text(json_real_value(value), text));
    } else if (json_is_integer(value) && strcmp(wanted, "uint64") == 0) {
        (void)snprintf(number, sizeof(number), " %lld", (long long)json_integer_value(value));
    }
    return rb_doc_fail(error, 400, "json: cannot unmarshal %s%s into Go struct field %s of type %s",
                       rb_gojson_type_name(value), number, key, wanted);
}

static bool take_text(const struct option *option, const json_t *value, char *field,
                      struct rb_doc_error *error)
{
    if (!json_is_string(value)) {
        return mismatch(error, option->json, value, "string");
    }
    if (json_string_length(value) >= RB_DOC_TEXT_MAX ||
        strlen(json_string_value(value)) != json_string_length(value)) {
        return rb_doc_fail(error, 400, "value of '%s' is longer than %d bytes or holds a NUL",
                           option->json, RB_DOC_TEXT_MAX - 1);
    }
    (void)snprintf(field, RB_DOC_TEXT_MAX, "%s", json_string_value(value));
    return true;
}

static bool take_json(const struct option *option, const json_t *value,
                      struct rb_doc_options *options, struct rb_doc_error *error)
{
    char *field = (char *)options + option->offset;
    switch (option->kind) {
    case BOOL:
        if (!json_is_boolean(value)) {
            return mismatch(error, option->json, value, "bool");
        }
        *(bool *)field = json_is_true(value);
        return true;
    case INT:
    case STATE:
        if (!json_is_integer(value)) {
            return mismatch(error, option->json, value,
                            option->kind == INT ? "int" : "server.ConnState");
        }
        *(int64_t *)(void *)field = json_integer_value(value);
        return true;
    case UINT:
        if (!json_is_integer(value) || json_integer_value(value) < 0) {
            return mismatch(error, option->json, value, "uint64");
        }
        *(uint64_t *)(void *)field = (uint64_t)json_integer_value(value);
        return true;
    case SORT:
        if (!json_is_string(value)) {
            return mismatch(error, option->json, value, "server.SortOpt");
        }
        return json_string_length(value) == 0 ||
               parse_sort(json_string_value(value), (enum rb_conn_sort *)(void *)field, error, 500);
    case TEXT:
        return take_text(option, value, field, error);
    case SUBS:
        break; /* not a name of JSON bodies */
    }
    return true;
}

/* The list of names in {"accounts": [...]} of an account statz request. */
static bool take_accounts(const json_t *value, struct rb_doc_options *options,
                          struct rb_doc_error *error)
{
    if (!json_is_array(value)) {
        return mismatch(error, "accounts", value, "[]string");
    }
    size_t count = json_array_size(value);
    if (count > RB_DOC_ACCOUNTS_MAX) {
        return rb_doc_fail(error, 400, "more than %d accounts", RB_DOC_ACCOUNTS_MAX);
    }
    rb_doc_options_deinit(options);
    options->accounts_given = count > 0;
    options->account_list = count == 0 ? NULL : calloc(count, RB_DOC_TEXT_MAX);
    if (count > 0 && options->account_list == NULL) {
        return rb_doc_fail(error, 500, "out of memory");
    }
    static const struct option named = { NULL, "accounts", TEXT, 0 };
    for (size_t i = 0; i < count; i++) {
        if (!take_text(&named, json_array_get(value, i), options->account_list[i], error)) {
            return false;
        }
    }
    options->account_list_count = (uint32_t)count;
    return true;
}

static bool take_object(enum rb_monitor_doc kind, json_t *object, struct rb_doc_options *options,
                        struct rb_doc_error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (json_is_null(value)) {
            continue;
        }
        if (kind == RB_DOC_ACCSTATZ && strcasecmp(key, "accounts") == 0) {
            if (!take_accounts(value, options, error)) {
                return false;
            }
            continue;
        }
        for (const struct option *o = options_of(kind); o->query != NULL || o->json != NULL; o++) {
            if (o->json != NULL && strcasecmp(key, o->json) == 0 &&
                !take_json(o, value, options, error)) {
                return false;
            }
        }
    }
    return true;
}

bool rb_doc_from_json(enum rb_monitor_doc kind, struct rb_slice body,
                      struct rb_doc_options *options, struct rb_doc_error *error)
{
    *options = (struct rb_doc_options){ 0 };
    *error = (struct rb_doc_error){ 0 };
    if (body.len == 0) {
        return true;
    }
    json_error_t why;
    json_t *json = json_loadb((const char *)body.ptr, body.len, JSON_DECODE_ANY, &why);
    if (json == NULL) {
        return rb_doc_fail(error, 400, "invalid options: %s", why.text);
    }
    bool ok = true;
    if (json_is_object(json)) {
        ok = take_object(kind, json, options, error);
    } else if (!json_is_null(json)) {
        ok = rb_doc_fail(error, 400, "json: cannot unmarshal %s into Go value of type options",
                         rb_gojson_type_name(json));
    }
    if (!ok) {
        rb_doc_options_deinit(options);
    }
    json_decref(json);
    return ok;
}
