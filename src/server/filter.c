/* filter.c - see filter.h. */
#include "server/filter.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/gojson.h"

struct decoder {
    const char *type;
    char *error;
};

static bool mismatch(const struct decoder *d, const json_t *value, const char *key,
                     const char *wanted)
{
    (void)snprintf(d->error, RB_FILTER_ERROR_MAX,
                   "json: cannot unmarshal %s into Go struct field %s.EventFilterOptions.%s of "
                   "type %s",
                   rb_gojson_type_name(value), d->type, key, wanted);
    return false;
}

static bool take_text(const struct decoder *d, const json_t *value, const char *key, char *out)
{
    if (!json_is_string(value)) {
        return mismatch(d, value, key, "string");
    }
    if (json_string_length(value) >= RB_FILTER_TEXT_MAX) {
        (void)snprintf(d->error, RB_FILTER_ERROR_MAX, "value of '%s' is longer than %d bytes", key,
                       RB_FILTER_TEXT_MAX - 1);
        return false;
    }
    (void)snprintf(out, RB_FILTER_TEXT_MAX, "%s", json_string_value(value));
    return true;
}

static bool take_tags(const struct decoder *d, const json_t *value, struct rb_filter *filter)
{
    if (!json_is_array(value)) {
        return mismatch(d, value, "tags", "[]string");
    }
    size_t count = json_array_size(value);
    if (count > RB_FILTER_TAGS_MAX) {
        (void)snprintf(d->error, RB_FILTER_ERROR_MAX, "more than %d tags", RB_FILTER_TAGS_MAX);
        return false;
    }
    free(filter->tags);
    filter->tag_count = 0;
    filter->tags = count == 0 ? NULL : calloc(count, RB_FILTER_TEXT_MAX);
    if (count > 0 && filter->tags == NULL) {
        (void)snprintf(d->error, RB_FILTER_ERROR_MAX, "out of memory");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!take_text(d, json_array_get(value, i), "tags", filter->tags[i])) {
            return false;
        }
        filter->tag_count++;
    }
    return true;
}

static bool take_member(const struct decoder *d, const char *key, const json_t *value,
                        struct rb_filter *filter)
{
    if (json_is_null(value)) {
        return true;
    }
    if (strcasecmp(key, "server_name") == 0) {
        return take_text(d, value, "server_name", filter->name);
    }
    if (strcasecmp(key, "cluster") == 0) {
        return take_text(d, value, "cluster", filter->cluster);
    }
    if (strcasecmp(key, "host") == 0) {
        return take_text(d, value, "host", filter->host);
    }
    if (strcasecmp(key, "domain") == 0) {
        return take_text(d, value, "domain", filter->domain);
    }
    if (strcasecmp(key, "tags") == 0) {
        return take_tags(d, value, filter);
    }
    if (strcasecmp(key, "exact_match") == 0) {
        filter->exact = json_is_true(value);
        return json_is_boolean(value) || mismatch(d, value, "exact_match", "bool");
    }
    if (strcasecmp(key, "cid") == 0) { /* documents have a cid of their own: not an error here */
        filter->cid_bad = !json_is_integer(value) || json_integer_value(value) < 0;
        filter->cid = filter->cid_bad ? 0 : (uint64_t)json_integer_value(value);
    }
    return true;
}

static bool take_object(const struct decoder *d, json_t *object, struct rb_filter *filter)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (!take_member(d, key, value, filter)) {
            return false;
        }
    }
    return true;
}

bool rb_filter_parse(struct rb_slice body, const char *type, struct rb_filter *filter,
                     char error[RB_FILTER_ERROR_MAX])
{
    *filter = (struct rb_filter){ 0 };
    if (body.len == 0) {
        return true;
    }
    if (!rb_gojson_valid(body, error)) {
        return false;
    }
    json_error_t why;
    json_t *json = json_loadb((const char *)body.ptr, body.len, JSON_DECODE_ANY, &why);
    if (json == NULL) { /* stricter than Go: depth, surrogates, NUL in keys, huge numbers */
        (void)snprintf(error, RB_FILTER_ERROR_MAX, "invalid options: %s", why.text);
        return false;
    }
    struct decoder d = { .type = type, .error = error };
    bool ok = true;
    if (json_is_object(json)) {
        ok = take_object(&d, json, filter);
    } else if (!json_is_null(json)) {
        (void)snprintf(error, RB_FILTER_ERROR_MAX,
                       "json: cannot unmarshal %s into Go value of type server.%s",
                       rb_gojson_type_name(json), type);
        ok = false;
    }
    json_decref(json);
    if (!ok) {
        rb_filter_deinit(filter);
    }
    return ok;
}

void rb_filter_deinit(struct rb_filter *filter)
{
    free(filter->tags);
    *filter = (struct rb_filter){ 0 };
}

static bool fits(const char *wanted, const char *is, bool exact)
{
    is = is == NULL ? "" : is;
    return wanted[0] == '\0' || (exact ? strcmp(wanted, is) == 0 : strstr(is, wanted) != NULL);
}

static bool has_tag(const struct rb_filter_facts *facts, const char *tag)
{
    for (uint32_t i = 0; i < facts->tag_count; i++) {
        if (strcasecmp(facts->tags[i], tag) == 0) {
            return true;
        }
    }
    return false;
}

bool rb_filter_meant(const struct rb_filter *filter, const struct rb_filter_facts *facts)
{
    for (uint32_t i = 0; i < filter->tag_count; i++) {
        if (!has_tag(facts, filter->tags[i])) {
            return false;
        }
    }
    return fits(filter->name, facts->name, filter->exact) &&
           fits(filter->host, facts->host, filter->exact) &&
           fits(filter->cluster, facts->cluster, filter->exact) &&
           fits(filter->domain, facts->domain, true);
}
