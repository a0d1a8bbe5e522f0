/* api_stream.c - $JS.API.STREAM.*: made, changed, listed, looked at, emptied, removed. */
#include <inttypes.h>
#include <string.h>

#include "js/api_inside.h"
#include "proto/subject.h"

#define COUNT(array) (uint32_t)(sizeof(array) / sizeof((array)[0]))

/* StreamConfig with what only requests have. */
struct config_request {
    struct rb_js_stream_config config;
    bool pedantic;
};
static const struct rb_doc_field config_request_fields[] = {
    { NULL, RB_DOC_INLINE, 0, offsetof(struct config_request, config), NULL,
      &rb_js_stream_config_type },
    { "pedantic", RB_DOC_BOOL, RB_DOC_NO_WRITE, offsetof(struct config_request, pedantic) },
};
static const struct rb_doc_type config_request_type = { "StreamConfigRequest",
                                                        sizeof(struct config_request),
                                                        config_request_fields,
                                                        COUNT(config_request_fields) };

struct list_request {
    struct rb_js_paged paged;
    struct rb_slice subject;
};
static const struct rb_doc_field list_request_fields[] = {
    { NULL, RB_DOC_INLINE, 0, offsetof(struct list_request, paged), NULL, &rb_js_paged_type },
    { "subject", RB_DOC_STRING, 0, offsetof(struct list_request, subject) },
};
static const struct rb_doc_type names_request_type = { "JSApiStreamNamesRequest",
                                                       sizeof(struct list_request),
                                                       list_request_fields,
                                                       COUNT(list_request_fields) };
static const struct rb_doc_type list_request_type = { "JSApiStreamListRequest",
                                                      sizeof(struct list_request),
                                                      list_request_fields,
                                                      COUNT(list_request_fields) };

struct info_request {
    struct rb_js_paged paged;
    bool deleted_details;
    struct rb_slice subjects_filter;
};
static const struct rb_doc_field info_request_fields[] = {
    { NULL, RB_DOC_INLINE, 0, offsetof(struct info_request, paged), NULL, &rb_js_paged_type },
    { "deleted_details", RB_DOC_BOOL, 0, offsetof(struct info_request, deleted_details) },
    { "subjects_filter", RB_DOC_STRING, 0, offsetof(struct info_request, subjects_filter) },
};
static const struct rb_doc_type info_request_type = { "JSApiStreamInfoRequest",
                                                      sizeof(struct info_request),
                                                      info_request_fields,
                                                      COUNT(info_request_fields) };

struct purge_request {
    uint64_t seq, keep;
    struct rb_slice filter;
};
static const struct rb_doc_field purge_request_fields[] = {
    { "seq", RB_DOC_U64, 0, offsetof(struct purge_request, seq) },
    { "filter", RB_DOC_STRING, 0, offsetof(struct purge_request, filter) },
    { "keep", RB_DOC_U64, 0, offsetof(struct purge_request, keep) },
};
static const struct rb_doc_type purge_request_type = { "JSApiStreamPurgeRequest",
                                                       sizeof(struct purge_request),
                                                       purge_request_fields,
                                                       COUNT(purge_request_fields) };

/* ---- create, update, delete ---- */

static void answer_info(struct rb_js_request *request, struct rb_js_stream *stream, bool created)
{
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_put(&out, RB_S(","));
    rb_js_write_info(
        &out, stream,
        &(struct rb_js_info_options){ .dynamic_metadata = true, .no_domain = created });
    rb_out_put(&out, created ? RB_S(",\"did_create\":true") : RB_S(""));
    rb_js_answer_send(request, &out, RB_S(""));
}

static void created(struct rb_js_request *request, struct rb_js_stream *stream,
                    const struct rb_js_outcome *outcome)
{
    if (stream == NULL) {
        rb_js_answer_code(request, 10059, NULL); /* gone before we could tell */
    } else {
        answer_info(request, stream, true);
    }
}

static void updated(struct rb_js_request *request, struct rb_js_stream *stream,
                    const struct rb_js_outcome *outcome)
{
    if (stream == NULL) {
        rb_js_answer_code(request, 10059, NULL);
    } else {
        answer_info(request, stream, false);
    }
}

/* Reads the configuration. NULL: answered. */
static struct rb_js_stream_config *read_config(struct rb_js_request *request)
{
    struct rb_arena *arena = rb_js_request_arena(request);
    if (arena == NULL) {
        return NULL;
    }
    struct config_request *doc = rb_arena_take(arena, sizeof(*doc));
    if (doc == NULL) {
        rb_js_answer_code(request, 10028, NULL);
        return NULL;
    }
    if (!rb_js_request_read(request, &config_request_type, false, doc)) {
        return NULL;
    }
    doc->config.pedantic = doc->pedantic;
    return &doc->config;
}

static bool is_named(struct rb_js_request *request, const struct rb_js_stream_config *config)
{
    if (!rb_slice_equal(config->name, request->name)) {
        rb_js_answer_code(request, 10056, NULL);
        return false;
    }
    return true;
}

static bool has_separator(struct rb_slice name)
{
    return name.len > 0 &&
           (memchr(name.ptr, '/', name.len) != NULL || memchr(name.ptr, '\\', name.len) != NULL);
}

void rb_js_api_stream_create(struct rb_js_request *request)
{
    const struct rb_js_stream_config *config = read_config(request);
    if (config == NULL || !is_named(request, config)) {
        return;
    }
    if (has_separator(config->name)) {
        rb_js_answer_code(request, 10128, NULL);
    } else if (config->sealed) {
        rb_js_answer_code(request, 10052, "stream configuration for create can not be sealed");
    } else if (config->mirror_direct && config->mirror == NULL) {
        rb_js_answer_code(request, 10052, "stream has no mirror but does have mirror direct");
    } else {
        rb_js_stream_create(request->account, config, rb_js_request_change(request, created));
    }
}

void rb_js_api_stream_update(struct rb_js_request *request)
{
    const struct rb_js_stream_config *config = read_config(request);
    if (config == NULL) {
        return;
    }
    if (config->name.len == 0 || has_separator(config->name)) {
        rb_js_answer_code(request, 10052,
                          "stream name is required and can not contain '.', '*', '>', '\\', '/'");
        return;
    }
    if (!is_named(request, config)) {
        return;
    }
    struct rb_js_stream *stream = rb_js_request_stream(request);
    if (stream != NULL) {
        rb_js_stream_update(stream, config, rb_js_request_change(request, updated));
    }
}

static void deleted(struct rb_js_request *request, struct rb_js_stream *stream,
                    const struct rb_js_outcome *outcome)
{
    rb_js_answer_success(request);
}

void rb_js_api_stream_delete(struct rb_js_request *request)
{
    if (!rb_js_request_empty(request)) {
        return;
    }
    struct rb_js_stream *stream = rb_js_stream_find(request->account, request->name);
    if (stream == NULL) {
        rb_js_answer_code(request, 10059, NULL);
        return;
    }
    rb_js_stream_delete(stream, rb_js_request_change(request, deleted)); /* also what is offline */
}

/* ---- lists ---- */

static bool has_subject(const struct rb_js_stream *stream, struct rb_slice subject)
{
    const struct rb_doc_strings *subjects = &stream->config->subjects;
    for (uint32_t i = 0; i < subjects->count; i++) {
        if (rb_subject_overlap(subjects->items[i], subject)) {
            return true;
        }
    }
    return false;
}

/* Streams that a list shows, in its order; NULL: no more. */
static struct rb_js_stream *next_listed(struct rb_js_account *account, struct rb_list **at,
                                        struct rb_slice subject)
{
    for (*at = (*at)->next; *at != &account->streams; *at = (*at)->next) {
        struct rb_js_stream *stream = RB_CONTAINER(*at, struct rb_js_stream, link);
        if (stream->phase != RB_JS_STREAM_DELETING && stream->phase != RB_JS_STREAM_OPENING &&
            (subject.len == 0 || has_subject(stream, subject))) {
            return stream;
        }
    }
    return NULL;
}

static uint64_t count_listed(struct rb_js_account *account, struct rb_slice subject, bool serving)
{
    uint64_t count = 0;
    struct rb_list *at = &account->streams;
    struct rb_js_stream *stream;
    while ((stream = next_listed(account, &at, subject)) != NULL) {
        count += !serving || stream->phase == RB_JS_STREAM_SERVING;
    }
    return count;
}

static uint64_t clamp_offset(int64_t offset, uint64_t total)
{
    return offset < 0 ? 0 : (uint64_t)offset > total ? total : (uint64_t)offset;
}

static void write_page(struct rb_out *out, uint64_t total, uint64_t offset, uint32_t limit)
{
    rb_out_printf(out, ",\"total\":%" PRIu64 ",\"offset\":%" PRIu64 ",\"limit\":%" PRIu32, total,
                  offset, limit);
}

void rb_js_api_stream_names(struct rb_js_request *request)
{
    struct list_request doc;
    if (!rb_js_request_read_optional(request, &names_request_type, &doc)) {
        return;
    }
    uint64_t total = count_listed(request->account, doc.subject, false), index = 0, written = 0;
    uint64_t offset = clamp_offset(doc.paged.offset, total);
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    write_page(&out, total, offset, RB_JS_PAGE_NAMES);
    rb_out_put(&out, RB_S(",\"streams\":"));
    struct rb_list *at = &request->account->streams;
    struct rb_js_stream *stream;
    while (written < RB_JS_PAGE_NAMES &&
           (stream = next_listed(request->account, &at, doc.subject)) != NULL) {
        if (index++ >= offset) {
            rb_out_put(&out, written++ == 0 ? RB_S("[") : RB_S(","));
            rb_out_string(&out, stream->name);
        }
    }
    rb_out_put(&out, written == 0 ? RB_S("null") : RB_S("]"));
    rb_js_answer_send(request, &out, RB_S(""));
}

/* Streams that cannot be served: by name, and why. */
static void write_offline(struct rb_js_request *request, struct rb_out *out,
                          struct rb_slice subject)
{
    for (int reasons = 0; reasons < 2; reasons++) {
        struct rb_list *at = &request->account->streams;
        struct rb_js_stream *stream;
        bool first = true;
        while ((stream = next_listed(request->account, &at, subject)) != NULL) {
            if (stream->phase != RB_JS_STREAM_OFFLINE) {
                continue;
            }
            if (first) {
                rb_out_put(out, reasons != 0 ? RB_S(",\"offline\":{") : RB_S(",\"missing\":["));
            } else {
                rb_out_put(out, RB_S(","));
            }
            first = false;
            rb_out_string(out, stream->name);
            if (reasons != 0) {
                rb_out_put(out, RB_S(":"));
                rb_out_string(out, rb_slice_text(stream->why));
            }
        }
        if (!first) {
            rb_out_put(out, reasons != 0 ? RB_S("}") : RB_S("]"));
        }
    }
}

void rb_js_api_stream_list(struct rb_js_request *request)
{
    struct list_request doc;
    if (!rb_js_request_read_optional(request, &list_request_type, &doc)) {
        return;
    }
    uint64_t total = count_listed(request->account, doc.subject, true), index = 0, written = 0;
    uint64_t offset = clamp_offset(doc.paged.offset, total);
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    write_page(&out, total, offset, RB_JS_PAGE_INFOS);
    rb_out_put(&out, RB_S(",\"streams\":["));
    struct rb_list *at = &request->account->streams;
    struct rb_js_stream *stream;
    while (written < RB_JS_PAGE_INFOS &&
           (stream = next_listed(request->account, &at, doc.subject)) != NULL) {
        if (stream->phase == RB_JS_STREAM_SERVING && index++ >= offset) {
            rb_out_put(&out, written++ == 0 ? RB_S("{") : RB_S(",{"));
            rb_js_write_stream_info(&out, stream, false, false);
            rb_out_put(&out, RB_S("}"));
        }
    }
    rb_out_put(&out, RB_S("]"));
    write_offline(request, &out, doc.subject);
    rb_js_answer_send(request, &out, RB_S(""));
}

/* ---- info ---- */

void rb_js_api_stream_info(struct rb_js_request *request)
{
    struct info_request doc;
    if (!rb_js_request_read_optional(request, &info_request_type, &doc)) {
        return;
    }
    struct rb_js_stream *stream = rb_js_request_stream(request);
    if (stream == NULL) {
        return;
    }
    struct rb_js_info_options options = { .deleted_details = doc.deleted_details,
                                          .dynamic_metadata = true,
                                          .cluster = true,
                                          .filter = doc.subjects_filter };
    uint64_t total = 0;
    if (options.filter.len > 0 && rb_subject_valid(options.filter)) {
        total = rb_msgstore_subject_count(stream->store, options.filter);
        options.subjects = total > 0;
        options.offset = doc.paged.offset < 0 ? 0 : (uint64_t)doc.paged.offset;
    }
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    write_page(&out, total, options.offset * options.subjects,
               options.subjects ? RB_JS_PAGE_SUBJECTS : 0);
    rb_out_put(&out, RB_S(","));
    rb_js_write_info(&out, stream, &options);
    rb_js_answer_send(request, &out, RB_S(""));
}

/* ---- purge ---- */

static void purged(struct rb_js_request *request, struct rb_js_stream *stream,
                   const struct rb_js_outcome *outcome)
{
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_printf(&out, ",\"success\":true,\"purged\":%" PRIu64, outcome->value);
    rb_js_answer_send(request, &out, RB_S(""));
}

void rb_js_api_stream_purge(struct rb_js_request *request)
{
    struct purge_request doc;
    if (!rb_js_request_read_optional(request, &purge_request_type, &doc)) {
        return;
    }
    if (doc.seq > 0 && doc.keep > 0) {
        rb_js_answer_code(request, 10003, NULL);
        return;
    }
    struct rb_js_stream *stream = rb_js_request_stream(request);
    if (stream == NULL) {
        return;
    }
    if (stream->config->sealed) {
        rb_js_answer_code(request, 10109, NULL);
    } else if (stream->config->deny_purge) {
        rb_js_answer_code(request, 10110, "stream purge not permitted");
    } else {
        rb_js_stream_purge(stream, doc.filter, doc.seq, doc.keep,
                           rb_js_request_change(request, purged));
    }
}
