/* docs_subs.c - /subsz: subscriptions of all accounts or of one, with the matchers' statistics. */
#include "proto/subject.h"
#include "server/docs.h"

static bool wanted(const struct rb_sub_snapshot *sub, const struct rb_doc_options *options)
{
    return options->test[0] == '\0' || rb_subject_match(sub->subject, rb_slice_text(options->test));
}

static void add_list(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                     struct rb_json_out *json, uint64_t offset, uint64_t limit)
{
    const struct rb_snapshot *snapshot = view->snapshot;
    uint64_t seen = 0, shown = 0;
    int64_t named =
        -1; /* whose `name` is known: subscriptions of an account mostly stand together */
    struct rb_slice name = { 0 };
    for (uint32_t i = 0; i < snapshot->sub_count && shown < limit && !json->out->failed; i++) {
        const struct rb_sub_snapshot *sub = &snapshot->subs[i];
        if (!wanted(sub, options) || seen++ < offset) {
            continue;
        }
        if (shown++ == 0) {
            rb_json_out_key(json, "subscriptions_list");
            rb_json_out_array(json);
        }
        if (named != (int64_t)sub->account) {
            named = sub->account;
            name = rb_doc_account_name(view, sub->account);
        }
        rb_doc_sub_detail(json, sub, name);
    }
    if (shown > 0) {
        rb_json_out_array_end(json);
    }
}

bool rb_doc_subsz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                  struct rb_json_out *json, struct rb_doc_error *error)
{
    struct rb_slice test = rb_slice_text(options->test);
    if (test.len > 0 && (!rb_subject_valid(test) || rb_subject_has_wildcard(test))) {
        return rb_doc_fail(error, 400, "invalid test subject, must be valid publish subject: %s",
                           options->test);
    }
    uint64_t offset = options->offset < 0 ? 0 : (uint64_t)options->offset;
    uint64_t limit = options->limit <= 0 ? RB_DOC_LIMIT_DEFAULT : (uint64_t)options->limit;
    int64_t id = options->account[0] == '\0' ? -1 : rb_doc_account_id(view, options->account);
    bool known = options->account[0] == '\0' || id >= 0;
    struct rb_account_snapshot sum = { 0 };
    if (known) {
        (void)rb_doc_account_sum(view->snapshot, id, &sum);
    }
    bool list = options->subs && known && view->snapshot != NULL;
    uint64_t total = 0;
    for (uint32_t i = 0; list && i < view->snapshot->sub_count; i++) {
        total += wanted(&view->snapshot->subs[i], options);
    }
    rb_json_out_object(json);
    rb_doc_head(view, json);
    rb_doc_sublist_stats(json, &sum);
    rb_json_out_set_uint(json, "total", total);
    rb_json_out_set_uint(json, "offset", offset);
    rb_json_out_set_uint(json, "limit", limit);
    if (list) {
        add_list(view, options, json, offset, limit);
    }
    rb_json_out_object_end(json);
    return true;
}
