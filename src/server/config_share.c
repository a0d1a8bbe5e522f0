/* config_share.c - what accounts share: exports and imports.
 *
 * 1. Exports of one kind and subject are one: the last one counts, but who may import is added up, and once it is
 *    restricted it stays so, as in nats-server.
 * 2. An import is valid when an export of its kind covers its subject and lets the importer in. An export of exactly
 *    the import's subject decides alone; otherwise any that covers it may.
 * 3. An import leads from its subject in the exporter to its local subject in the importer. Following such steps
 *    must never come back: next(i) are the imports of i's exporter, of the same kind, whose local subject overlaps
 *    i's subject. Found by a walk with an explicit stack, each import being entered once.
 */
#include "server/config_load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/subject.h"
#include "proto/transform.h"

#define SUBJECT_MAX 4096 /* of an import, its wildcards numbered */

#define SHARES_MAX (1u << 14) /* exports, and imports, of one account: they are compared pairwise */

static bool is_key(const struct rb_conf_entry *entry, const char *name)
{
    return rb_slice_equal_fold(entry->key, rb_slice_text(name));
}

static bool is_key_of(const struct rb_conf_entry *entry, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (is_key(entry, *names)) {
            return true;
        }
    }
    return false;
}

/** The entries `stream` and `service` of an item; an error when both are there. */
static const struct rb_conf_entry *find_kind(struct rb_load *load, const struct rb_conf_entry *item,
                                             bool *ret_service)
{
    const struct rb_conf_entry *stream = NULL, *service = NULL;
    for (const struct rb_conf_entry *e = item->value->map.first; e != NULL; e = e->next) {
        stream = is_key(e, "stream") ? e : stream;
        service = is_key(e, "service") ? e : service;
    }
    if (stream != NULL && service != NULL) {
        if (stream->value->kind == RB_CONF_TEXT) {
            rb_load_error(load, stream, "Detected stream \"%.*s\" but already saw a service",
                          RB_S_ARG(stream->value->text));
        } else {
            rb_load_error(load, stream, "Detected stream but already saw a service");
        }
        return NULL;
    }
    *ret_service = service != NULL;
    return service != NULL ? service : stream;
}

/* ------------------------------------------------------------------ exports */

static const char *const response_names[] = { "response_type", "response", NULL };
static const char *const threshold_names[] = { "response_threshold", "threshold",
                                               "response_max_time", "response_time", NULL };

static void read_export_accounts(struct rb_load *load, const struct rb_conf_entry *entry,
                                 struct rb_export *export)
{
    if (!rb_load_kind(load, entry, RB_CONF_ARRAY)) {
        return;
    }
    uint32_t *accounts = rb_load_take(load, (entry->value->count + 1) * sizeof(*accounts));
    uint32_t count = 0;
    if (accounts == NULL) {
        return;
    }
    for (const struct rb_conf_item *i = entry->value->array.first; i != NULL; i = i->next) {
        struct rb_conf_entry item = rb_load_item(entry, i);
        if (!rb_load_kind(load, &item, RB_CONF_TEXT)) {
            continue;
        }
        int32_t index = rb_load_account_named(load, i->value->text);
        if (index < 0) {
            rb_load_error(load, load->blocks.accounts, "\"%.*s\" account not defined for %s export",
                          RB_S_ARG(i->value->text), export->service ? "service" : "stream");
        } else {
            accounts[count++] = (uint32_t)index;
        }
    }
    export->accounts = accounts;
    export->account_count = count;
    export->restricted |= count > 0; /* an empty list is as none, as in nats-server */
}

static void read_response_type(struct rb_load *load, const struct rb_conf_entry *entry,
                               struct rb_export *export)
{
    static const struct {
        const char *name;
        enum rb_response_type type;
    } types[] = {
        { "single", RB_RESPONSE_SINGLE },   { "singleton", RB_RESPONSE_SINGLE },
        { "stream", RB_RESPONSE_STREAM },   { "chunk", RB_RESPONSE_CHUNKED },
        { "chunked", RB_RESPONSE_CHUNKED },
    };
    if (entry->value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry, "Expected response type to be string, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (rb_slice_equal_fold(entry->value->text, rb_slice_text(types[i].name))) {
            export->response = types[i].type;
            return;
        }
    }
    rb_load_error(load, entry, "Unknown response type: \"%.*s\"", RB_S_ARG(entry->value->text));
}

static void read_threshold(struct rb_load *load, const struct rb_conf_entry *entry,
                           struct rb_export *export)
{
    char text[RB_CONFIG_TEXT_MAX], problem[256];
    if (entry->value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry,
                      "Expected response threshold to be a parseable time duration, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    if (!rb_load_text(load, entry, text, sizeof(text))) {
        return;
    }
    if (!rb_config_parse_duration(text, &export->threshold_ns, problem, sizeof(problem)) ||
        export->threshold_ns < 0) {
        rb_load_error(load, entry,
                      "Expected response threshold to be a parseable time duration, got \"%s\"",
                      text);
    }
}

/** 1..100, as a number or with "%"; or "headers", which is 0. */
static void read_sampling(struct rb_load *load, const struct rb_conf_entry *entry,
                          struct rb_export *export)
{
    int64_t percent = 0;
    const struct rb_conf_value *value = entry->value;
    if (value->kind == RB_CONF_TEXT && rb_slice_equal_fold(value->text, RB_S("headers"))) {
        export->latency_sampling = 0;
        return;
    }
    if (value->kind == RB_CONF_INT) {
        percent = value->integer;
    } else if (value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry, "Expected latency sample to be a string or map/struct, got %s",
                      rb_conf_kind_text(value->kind));
        return;
    } else if (!rb_load_percent_text(value->text, &percent)) {
        rb_load_error(load, entry,
                      "Failed to parse latency sample: strconv.Atoi: parsing \"%.*s\": invalid "
                      "syntax",
                      RB_S_ARG(value->text));
        return;
    }
    if (percent < 1 || percent > 100) {
        rb_load_error(load, entry, "bad sampling percentage, should be 1-100");
        return;
    }
    export->latency_sampling = (int32_t)percent;
}

static void read_latency(struct rb_load *load, const struct rb_conf_entry *entry,
                         struct rb_export *export)
{
    export->latency_sampling = 100;
    if (entry->value->kind == RB_CONF_TEXT) {
        (void)rb_load_slice(load, entry, &export->latency_subject);
    } else if (entry->value->kind == RB_CONF_MAP) {
        for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
            if (is_key(e, "subject") && e->value->kind != RB_CONF_TEXT) {
                rb_load_error(load, e, "Expected latency subject to be a string, got %s",
                              rb_conf_kind_text(e->value->kind));
                return;
            }
            if (is_key(e, "subject")) {
                (void)rb_load_slice(load, e, &export->latency_subject);
            } else if (is_key(e, "sampling")) {
                read_sampling(load, e, export);
            } else {
                rb_load_unknown(load, e);
            }
        }
    } else {
        rb_load_error(load, entry, "Expected latency entry to be a map/struct or string, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    if (export->latency_subject.len == 0) {
        rb_load_error(load, entry, "Latency subject required, but missing");
    } else if (!rb_subject_valid(export->latency_subject) ||
               rb_subject_has_wildcard(export->latency_subject)) {
        rb_load_error(load, load->blocks.accounts,
                      "Error adding service latency sampling for \"%.*s\" on subject \"%.*s\": "
                      "invalid publish subject",
                      RB_S_ARG(export->subject), RB_S_ARG(export->latency_subject));
    }
}

static void read_token_position(struct rb_load *load, const struct rb_conf_entry *entry,
                                struct rb_export *export)
{
    int64_t position;
    if (!rb_load_int(load, entry, &position)) {
        return;
    }
    struct rb_tokens tokens = rb_tokens_over(export->subject);
    struct rb_slice token = { 0 };
    int64_t at = 0;
    while (at < position && rb_tokens_next(&tokens, &token)) {
        at++;
    }
    if (position < 0 || (position > 0 && (at != position || !rb_slice_equal(token, RB_S("*"))))) {
        rb_load_error(load, load->blocks.accounts,
                      "Error adding %s export \"%.*s\": sublist: invalid subject",
                      export->service ? "service" : "stream", RB_S_ARG(export->subject));
        return;
    }
    export->account_token_position = (uint32_t)position;
    export->restricted |= position > 0;
}

static void read_export_field(struct rb_load *load, const struct rb_conf_entry *e,
                              struct rb_export *export)
{
    bool response = is_key_of(e, response_names), threshold = is_key_of(e, threshold_names);
    if (is_key(e, "stream") || is_key(e, "service")) {
        return;
    }
    if (is_key(e, "accounts")) {
        read_export_accounts(load, e, export);
    } else if (is_key(e, "account_token_position")) {
        read_token_position(load, e, export);
    } else if (!response && !threshold && !is_key(e, "latency") && !is_key(e, "allow_trace")) {
        rb_load_unknown(load, e);
    } else if (!export->service) {
        rb_load_error(load, e, "Detected %s directive on non-service",
                      is_key(e, "latency")       ? "latency"
                      : is_key(e, "allow_trace") ? "allow_trace"
                                                 : "response");
    } else if (response) {
        read_response_type(load, e, export);
    } else if (threshold) {
        read_threshold(load, e, export);
    } else if (is_key(e, "latency")) {
        read_latency(load, e, export);
    } else {
        (void)rb_load_bool(load, e, &export->allow_trace);
    }
}

static bool read_export(struct rb_load *load, const struct rb_conf_entry *item,
                        struct rb_export *export)
{
    uint32_t errors = load->errors.count;
    if (item->value->kind != RB_CONF_MAP) {
        rb_load_error(load, item, "Export Items should be a map with type entry, got %s",
                      rb_conf_kind_text(item->value->kind));
        return false;
    }
    const struct rb_conf_entry *subject = find_kind(load, item, &export->service);
    if (subject != NULL && subject->value->kind != RB_CONF_TEXT) {
        rb_load_error(load, subject, "Expected %s name to be string, got %s",
                      export->service ? "service" : "stream",
                      rb_conf_kind_text(subject->value->kind));
    } else if (subject != NULL && !rb_subject_valid(subject->value->text)) {
        rb_load_error(load, subject, "subject \"%.*s\" is not a valid subject",
                      RB_S_ARG(subject->value->text));
    } else if (subject != NULL) {
        export->subject = rb_load_copy(load, subject->value->text);
    }
    for (const struct rb_conf_entry *e = item->value->map.first; e != NULL; e = e->next) {
        read_export_field(load, e, export);
    }
    if (load->errors.count == errors && subject == NULL) {
        rb_load_error(load, item, "an export needs a stream or a service");
    }
    if (export->latency_subject.len > 0 && export->response != RB_RESPONSE_SINGLE) {
        rb_load_error(load, load->blocks.accounts,
                      "Error adding service latency sampling for \"%.*s\" on subject \"%.*s\": "
                      "bad service response type",
                      RB_S_ARG(export->subject), RB_S_ARG(export->latency_subject));
    }
    return load->errors.count == errors;
}

/** Invariant 1: what the earlier one lets in, the later one does too. */
static void merge_export(struct rb_load *load, const struct rb_export *earlier,
                         struct rb_export *later)
{
    uint32_t count = earlier->account_count + later->account_count;
    uint32_t *accounts = rb_load_take(load, (count + 1) * sizeof(*accounts));
    if (accounts == NULL) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        accounts[i] = i < earlier->account_count ? earlier->accounts[i]
                                                 : later->accounts[i - earlier->account_count];
    }
    later->accounts = accounts;
    later->account_count = count;
    later->restricted |= earlier->restricted;
}

void rb_load_exports(struct rb_load *load, const struct rb_conf_entry *entry, uint32_t account)
{
    if (entry->value->kind != RB_CONF_ARRAY) {
        rb_load_error(load, entry, "Exports should be an array, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    if (entry->value->count > SHARES_MAX) {
        rb_load_error(load, entry, "more than %u exports of one account", SHARES_MAX);
        return;
    }
    struct rb_export *exports = rb_load_take(load, (entry->value->count + 1) * sizeof(*exports));
    uint32_t count = 0;
    for (const struct rb_conf_item *i = exports == NULL ? NULL : entry->value->array.first;
         i != NULL; i = i->next) {
        struct rb_conf_entry item = rb_load_item(entry, i);
        struct rb_export export = { 0 };
        if (!read_export(load, &item, &export)) {
            continue;
        }
        uint32_t at = 0;
        while (at < count && (exports[at].service != export.service ||
                              !rb_slice_equal(exports[at].subject, export.subject))) {
            at++;
        }
        if (at < count) {
            merge_export(load, &exports[at], &export);
        }
        exports[at] = export;
        count += at == count;
    }
    load->accounts[account].exports = exports;
    load->accounts[account].export_count = count;
}

/* ------------------------------------------------------------------ imports */

/** {account, subject} of a `stream` or `service` entry. */
static bool read_source(struct rb_load *load, const struct rb_conf_entry *entry,
                        struct rb_import *import)
{
    const char *kind = import->service ? "Service" : "Stream";
    struct rb_slice account = { 0 };
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "%s entry should be an account map, got %s", kind,
                      rb_conf_kind_text(entry->value->kind));
        return false;
    }
    for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
        if (is_key(e, "account")) {
            (void)rb_load_slice(load, e, &account);
        } else if (is_key(e, "subject")) {
            (void)rb_load_slice(load, e, &import->subject);
        } else {
            rb_load_unknown(load, e);
        }
    }
    if (account.len == 0 || import->subject.len == 0) {
        rb_load_error(load, entry, "Expect an account name and a subject");
        return false;
    }
    int32_t index = rb_load_account_named(load, account);
    if (index < 0) {
        rb_load_error(load, load->blocks.accounts, "\"%.*s\" account not defined for %s import",
                      RB_S_ARG(account), import->service ? "service" : "stream");
        return false;
    }
    import->account = (uint32_t)index;
    return true;
}

/** "x.*" -> "x.$1": wildcards of a destination stand for the source's, in order. */
static struct rb_slice number_wildcards(struct rb_load *load, struct rb_slice to)
{
    struct rb_tokens tokens = rb_tokens_over(to);
    struct rb_slice token;
    uint32_t number = 0;
    size_t cap = to.len + 1, len = 0;
    while (rb_tokens_next(&tokens, &token)) {
        cap += rb_slice_equal(token, RB_S("*")) ? 10 : 0;
    }
    char *out = rb_load_take(load, cap);
    if (out == NULL) {
        return to;
    }
    tokens = rb_tokens_over(to);
    for (bool first = true; rb_tokens_next(&tokens, &token); first = false) {
        if (!first) {
            out[len++] = '.';
        }
        if (rb_slice_equal(token, RB_S("*"))) {
            len += (size_t)snprintf(out + len, cap - len, "$%u", ++number);
        } else if (token.len > 0) {
            memcpy(out + len, token.ptr, token.len);
            len += token.len;
        }
    }
    return rb_slice_of(out, len);
}

static void read_import_field(struct rb_load *load, const struct rb_conf_entry *e,
                              struct rb_import *import)
{
    if (is_key(e, "stream") || is_key(e, "service")) {
        return;
    }
    if (is_key(e, "to")) {
        if (rb_load_slice(load, e, &import->to)) {
            import->to = number_wildcards(load, import->to);
        }
    } else if (is_key(e, "prefix")) {
        if (import->service) {
            rb_load_error(load, e, "Service import can not have a 'prefix' property");
            return;
        }
        (void)rb_load_slice(load, e, &import->prefix);
    } else if (is_key(e, "share")) {
        (void)rb_load_bool(load, e, &import->share);
    } else if (is_key(e, "allow_trace")) {
        if (import->service) {
            rb_load_error(load, e, "Detected allow_trace directive on a non-stream");
            return;
        }
        (void)rb_load_bool(load, e, &import->allow_trace);
    } else {
        rb_load_unknown(load, e);
        return;
    }
    if (import->to.len > 0 && import->prefix.len > 0) {
        rb_load_error(load, e, "Stream import can not have a 'prefix' and a 'to' property");
    }
}

static bool read_import(struct rb_load *load, const struct rb_conf_entry *item,
                        struct rb_import *import)
{
    uint32_t errors = load->errors.count;
    if (item->value->kind != RB_CONF_MAP) {
        rb_load_error(load, item, "Import Items should be a map with type entry, got %s",
                      rb_conf_kind_text(item->value->kind));
        return false;
    }
    const struct rb_conf_entry *source = find_kind(load, item, &import->service);
    bool known = source != NULL && read_source(load, source, import);
    for (const struct rb_conf_entry *e = item->value->map.first; e != NULL; e = e->next) {
        read_import_field(load, e, import);
    }
    if (load->errors.count == errors && !known) {
        rb_load_error(load, item, "an import needs a stream or a service");
    }
    return load->errors.count == errors;
}

/** The same service subject twice, or the very same stream. */
static bool is_repeated(struct rb_load *load, const struct rb_conf_entry *item,
                        const struct rb_import *import, const struct rb_import *before)
{
    struct rb_slice to = import->to.len > 0 ? import->to : import->subject;
    struct rb_slice other = before->to.len > 0 ? before->to : before->subject;
    if (import->service != before->service || !rb_slice_equal(to, other)) {
        return false;
    }
    struct rb_slice from = load->accounts[before->account].name;
    if (import->service) {
        rb_load_error(load, item,
                      "Duplicate service import subject \"%.*s\", previously used in import for "
                      "account \"%.*s\", subject \"%.*s\"",
                      RB_S_ARG(to), RB_S_ARG(from), RB_S_ARG(before->subject));
        return true;
    }
    bool same = import->account == before->account &&
                rb_slice_equal(import->subject, before->subject) &&
                rb_slice_equal(import->prefix, before->prefix);
    if (same) {
        rb_load_error(load, load->blocks.accounts,
                      "Error adding stream import \"%.*s\": stream import already exists",
                      RB_S_ARG(import->subject));
    }
    return same;
}

void rb_load_imports(struct rb_load *load, const struct rb_conf_entry *entry, uint32_t account)
{
    if (entry->value->kind != RB_CONF_ARRAY) {
        rb_load_error(load, entry, "Imports should be an array, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    if (entry->value->count > SHARES_MAX) {
        rb_load_error(load, entry, "more than %u imports of one account", SHARES_MAX);
        return;
    }
    struct rb_import *imports = rb_load_take(load, (entry->value->count + 1) * sizeof(*imports));
    uint32_t count = 0;
    for (const struct rb_conf_item *i = imports == NULL ? NULL : entry->value->array.first;
         i != NULL; i = i->next) {
        struct rb_conf_entry item = rb_load_item(entry, i);
        struct rb_import import = { 0 };
        bool fine = read_import(load, &item, &import);
        for (uint32_t at = 0; at < count && fine; at++) {
            fine = !is_repeated(load, &item, &import, &imports[at]);
        }
        if (fine) {
            imports[count++] = import;
        }
    }
    load->accounts[account].imports = imports;
    load->accounts[account].import_count = count;
}

/* ------------------------------------------------------------------ imports against exports */

static bool lets_in(const struct rb_export *export, const struct rb_policy_account *importer,
                    uint32_t importer_index, struct rb_slice subject)
{
    if (!export->restricted) {
        return true;
    }
    if (export->account_token_position > 0) {
        struct rb_tokens tokens = rb_tokens_over(subject);
        struct rb_slice token = { 0 };
        uint32_t at = 0;
        while (at < export->account_token_position && rb_tokens_next(&tokens, &token)) {
            at++;
        }
        return at == export->account_token_position && rb_slice_equal(token, importer->name);
    }
    for (uint32_t i = 0; i < export->account_count; i++) {
        if (export->accounts[i] == importer_index) {
            return true;
        }
    }
    return false;
}

/** Invariant 2. */
static bool is_authorized(const struct rb_load *load, uint32_t importer,
                          const struct rb_import *import)
{
    const struct rb_policy_account *exporter = &load->accounts[import->account];
    const struct rb_policy_account *account = &load->accounts[importer];
    bool authorized = false;
    for (uint32_t i = 0; i < exporter->export_count; i++) {
        const struct rb_export *export = &exporter->exports[i];
        if (export->service != import->service ||
            !rb_subject_subset(import->subject, export->subject)) {
            continue;
        }
        bool in = lets_in(export, account, importer, import->subject);
        if (rb_slice_equal(export->subject, import->subject)) {
            return in;
        }
        authorized |= in;
    }
    return authorized;
}

static bool fail_import(struct rb_load *load, const struct rb_import *import, const char *why)
{
    rb_load_error(load, load->blocks.accounts, "Error adding %s import \"%.*s\": %s",
                  import->service ? "service" : "stream", RB_S_ARG(import->subject), why);
    return false;
}

/** `to` of a stream leads from the exporter's subject; of a service, to it. */
static bool check_transform(struct rb_load *load, const struct rb_import *import)
{
    struct rb_slice source = import->service ? import->to : import->subject;
    struct rb_slice destination = import->service ? import->subject : import->to;
    struct rb_transform *transform = NULL;
    char error[RB_TRANSFORM_ERROR_MAX], why[RB_TRANSFORM_ERROR_MAX + 256];
    if (import->to.len == 0 || rb_slice_equal(import->to, import->subject)) {
        return true;
    }
    /* nats-server compiles a service's transform in the direction subject -> to and turns it round. */
    uint8_t to[SUBJECT_MAX];
    size_t to_len = rb_transform_number(import->to, to, sizeof(to));
    enum rb_err err = rb_transform_create(RB_TRANSFORM_IMPORT, import->subject,
                                          rb_slice_of(to, to_len), &transform, error);
    if (err == RB_OK) {
        rb_transform_destroy(transform);
        return true;
    }
    if (err == RB_ERR_MEMORY) {
        load->out_of_memory = true;
        return false;
    }
    snprintf(why, sizeof(why),
             "failed to create mapping transform for %s import subject from \"%.*s\" to "
             "\"%.*s\": %s",
             import->service ? "service" : "stream", RB_S_ARG(source), RB_S_ARG(destination),
             error);
    return fail_import(load, import, why);
}

static bool check_import(struct rb_load *load, uint32_t importer, const struct rb_import *import)
{
    if (!rb_subject_valid(import->subject) || !is_authorized(load, importer, import)) {
        return fail_import(load, import,
                           import->service ? "service import not authorized"
                                           : "stream import not authorized");
    }
    if (import->prefix.len > 0 && rb_subject_has_wildcard(import->prefix)) {
        return fail_import(load, import, "stream import prefix can not contain wildcard tokens");
    }
    if (import->prefix.len > 0 && !rb_subject_valid(import->prefix)) {
        return fail_import(load, import, "stream import prefix is not a valid subject");
    }
    return check_transform(load, import);
}

#define SUBJECT_MAX 4096 /* of an import, its wildcards numbered */

/** An import on the way; `next` is the place to go on in the exporter's imports. */
struct step {
    uint32_t account, import, next;
};

struct walk {
    struct rb_load *load;
    uint32_t *first; /* per account: number of imports before its own */
    uint8_t *state;  /* per import: 0 not seen, 1 on the way, 2 done */
    struct step *stack;
    struct rb_slice *local; /* per import: its local subject as a pattern */
};

/** The import's subject in the importer, "$1" and functions standing for any token. */
static struct rb_slice local_pattern(struct rb_load *load, const struct rb_import *import)
{
    struct rb_slice to = import->to.len > 0 ? import->to : import->subject;
    size_t cap = import->prefix.len + 1 + to.len + 1, len = 0;
    uint8_t *out = rb_load_take(load, cap);
    if (out == NULL) {
        return to;
    }
    if (import->prefix.len > 0) {
        memcpy(out, import->prefix.ptr, import->prefix.len);
        len = import->prefix.len;
        out[len++] = '.';
    }
    struct rb_tokens tokens = rb_tokens_over(to);
    struct rb_slice token;
    for (bool first = true; rb_tokens_next(&tokens, &token); first = false) {
        if (!first) {
            out[len++] = '.';
        }
        bool any =
            token.len > 1 && (token.ptr[0] == '$' ? token.ptr[1] >= '1' && token.ptr[1] <= '9'
                                                  : token.ptr[0] == '{');
        if (any) {
            out[len++] = '*';
        } else if (token.len > 0) {
            memcpy(out + len, token.ptr, token.len);
            len += token.len;
        }
    }
    return rb_slice_of(out, len);
}

static const struct rb_import *import_at(const struct walk *walk, const struct step *step)
{
    return &walk->load->accounts[step->account].imports[step->import];
}

/** The next import that `step` leads to; false when there is none. */
static bool find_next(const struct walk *walk, struct step *step, struct step *ret_next)
{
    const struct rb_import *import = import_at(walk, step);
    const struct rb_policy_account *exporter = &walk->load->accounts[import->account];
    while (step->next < exporter->import_count) {
        uint32_t at = step->next++;
        if (exporter->imports[at].service == import->service &&
            rb_subject_overlap(walk->local[walk->first[import->account] + at], import->subject)) {
            *ret_next = (struct step){ .account = import->account, .import = at };
            return true;
        }
    }
    return false;
}

/** Walks from one import; true when the way comes back to itself. */
static bool comes_back(struct walk *walk, struct step start)
{
    uint32_t depth = 0;
    walk->stack[depth++] = start;
    walk->state[walk->first[start.account] + start.import] = 1;
    while (depth > 0) {
        struct step *top = &walk->stack[depth - 1], next;
        if (!find_next(walk, top, &next)) {
            walk->state[walk->first[top->account] + top->import] = 2;
            depth--;
            continue;
        }
        uint8_t *state = &walk->state[walk->first[next.account] + next.import];
        if (*state == 1) {
            fail_import(walk->load, import_at(walk, &next), "import forms a cycle");
            return true;
        }
        if (*state == 0) {
            *state = 1;
            walk->stack[depth++] = next;
        }
    }
    return false;
}

/** Invariant 3. */
static void check_cycles(struct rb_load *load)
{
    uint32_t accounts = load->policy->account_count, total = 0;
    struct walk walk = { .load = load, .first = rb_load_take(load, accounts * sizeof(uint32_t)) };
    for (uint32_t a = 0; walk.first != NULL && a < accounts; a++) {
        walk.first[a] = total;
        total += load->accounts[a].import_count;
    }
    walk.state = calloc(total + 1, sizeof(*walk.state));
    walk.stack = calloc(total + 1, sizeof(*walk.stack));
    walk.local = calloc(total + 1, sizeof(*walk.local));
    bool ready =
        walk.first != NULL && walk.state != NULL && walk.stack != NULL && walk.local != NULL;
    load->out_of_memory |= !ready;
    for (uint32_t a = 0; ready && a < accounts; a++) {
        for (uint32_t i = 0; i < load->accounts[a].import_count; i++) {
            walk.local[walk.first[a] + i] = local_pattern(load, &load->accounts[a].imports[i]);
        }
    }
    bool found = false;
    for (uint32_t a = 0; ready && a < accounts; a++) {
        for (uint32_t i = 0; i < load->accounts[a].import_count && !found; i++) {
            if (walk.state[walk.first[a] + i] == 0) {
                found = comes_back(&walk, (struct step){ .account = a, .import = i });
            }
        }
    }
    free(walk.state);
    free(walk.stack);
    free(walk.local);
}

void rb_load_check_imports(struct rb_load *load)
{
    for (uint32_t a = 0; a < load->policy->account_count; a++) {
        for (uint32_t i = 0; i < load->accounts[a].import_count; i++) {
            (void)check_import(load, a, &load->accounts[a].imports[i]);
        }
    }
    if (load->errors.count == 0 && !load->out_of_memory) {
        check_cycles(load);
    }
}
