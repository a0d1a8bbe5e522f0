/* services_answer.c - what a system request is answered with: {"server":...,"data":...} or an error in the same envelope. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/account.h"
#include "proto/subject.h"
#include "ringbus/env.h"
#include "server/count_subs.h"
#include "server/events_docs.h"
#include "server/filter.h"
#include "server/node.h"
#include "server/services.h"

#define ASK_NS INT64_C(2000000000)

struct answer {
    struct rb_answerer *by;
    const struct rb_request *request;
    struct rb_node_shared *shared;
    const struct rb_core_settings *settings; /* holds a count */
    struct rb_text *out;
    struct rb_filter filter;
    uint64_t now_ns;
};

static const char *options_name(const struct rb_request *request)
{
    static const char *const names[RB_DOC_COUNT] = {
        [RB_DOC_VARZ] = "VarzEventOptions",
        [RB_DOC_CONNZ] = "ConnzEventOptions",
        [RB_DOC_ROUTEZ] = "RoutezEventOptions",
        [RB_DOC_GATEWAYZ] = "GatewayzEventOptions",
        [RB_DOC_LEAFZ] = "LeafzEventOptions",
        [RB_DOC_SUBSZ] = "SubszEventOptions",
        [RB_DOC_ACCOUNTZ] = "AccountzEventOptions",
        [RB_DOC_ACCSTATZ] = "AccountStatzEventOptions",
        [RB_DOC_JSZ] = "JszEventOptions",
        [RB_DOC_HEALTHZ] = "HealthzEventOptions",
        [RB_DOC_IPQUEUESZ] = "IpqueueszEventOptions",
        [RB_DOC_RAFTZ] = "RaftzEventOptions",
        [RB_DOC_EXPVARZ] = "ExpvarzEventOptions",
        [RB_DOC_DASHBOARDZ] = "EventFilterOptions",
    };
    switch (request->kind) {
    case RB_REQUEST_DOC:
    case RB_REQUEST_ACCOUNT_DOC:
    case RB_REQUEST_STATZ:
        return names[request->doc];
    case RB_REQUEST_ACCOUNT_INFO:
        return "AccInfoEventOptions";
    case RB_REQUEST_PROFILEZ:
        return "ProfilezEventOptions";
    default:
        return "EventFilterOptions";
    }
}

static bool fail(struct answer *a, int code, const char *text, bool null_data)
{
    size_t max = a->out->max;
    rb_text_deinit(a->out); /* what was begun */
    rb_text_init(a->out, max);
    rb_event_error(a->out, &(struct rb_event_origin){ a->shared, a->settings }, a->now_ns, code,
                   text, null_data);
    return !a->out->failed;
}

static void begin(struct answer *a, struct rb_json_out *json)
{
    rb_json_out_init(json, a->out, 0);
    rb_json_out_object(json);
    rb_json_out_key(json, "server");
    rb_event_server(json, &(struct rb_event_origin){ a->shared, a->settings }, a->now_ns);
}

static bool finish(struct answer *a, struct rb_json_out *json)
{
    rb_json_out_object_end(json);
    return a->out->failed ? fail(a, 500, "the answer is too large", false) : true;
}

/* Documents of the monitor */

static bool write_doc(struct answer *a, const struct rb_monitor_view *view,
                      const struct rb_doc_options *options, struct rb_json_out *json,
                      struct rb_doc_error *error)
{
    if (a->request->kind == RB_REQUEST_ACCOUNT_INFO) {
        return rb_doc_account_info(view, options->account, json, error);
    }
    if (a->request->kind == RB_REQUEST_ACCOUNT_DOC && a->request->doc == RB_DOC_JSZ) {
        return rb_doc_jsz_account(view, options, json, error);
    }
    return rb_doc_build(a->request->doc, view, options, true, json, error);
}

static bool nothing_listed(const struct rb_text *text)
{
    static const char empty[] = "\"account_statz\":[]}";
    size_t len = sizeof(empty) - 1;
    return text->len >= len && memcmp(text->ptr + text->len - len, empty, len) == 0;
}

static bool build(struct answer *a, struct rb_monitor_view *view,
                  const struct rb_doc_options *options)
{
    struct rb_snapshot_request wanted;
    struct rb_doc_error error = { 0 };
    struct rb_json_out json;
    if (rb_doc_plan(a->request->doc, view, options, &wanted)) {
        enum rb_err err = a->by->source.collect(a->by->source.ctx, &wanted, &view->snapshot);
        if (err != RB_OK) {
            return fail(a, 500, rb_err_text(err), true);
        }
    }
    begin(a, &json);
    rb_json_out_key(&json, "data");
    if (!write_doc(a, view, options, &json, &error)) {
        return !error.silent && fail(a, 500, error.text, true);
    }
    if (a->request->kind == RB_REQUEST_STATZ && !options->unused && nothing_listed(a->out)) {
        return false;
    }
    return finish(a, &json);
}

static void fill_process(struct rb_answerer *by, struct rb_monitor_view *view)
{
    struct rb_env env;
    rb_env_init_system(&env);
    rb_process_usage_read(&by->usage, rb_env_now(&env));
    view->cpu_percent = by->usage.cpu_percent;
    view->rss_bytes = by->usage.rss_bytes;
}

static bool limit_to_account(struct answer *a, struct rb_doc_options *options)
{
    struct rb_slice name = a->request->account;
    if (name.len == 0) {
        return true;
    }
    if (name.len >= RB_DOC_TEXT_MAX) {
        return false;
    }
    (void)snprintf(options->account, sizeof(options->account), "%.*s", RB_S_ARG(name));
    options->subs |= a->request->doc == RB_DOC_SUBSZ;
    if (a->request->doc != RB_DOC_ACCSTATZ) {
        return true;
    }
    rb_doc_options_deinit(options);
    options->account_list = calloc(1, sizeof(*options->account_list));
    options->account_list_count = options->account_list != NULL;
    options->accounts_given = true;
    if (options->account_list != NULL) {
        memcpy(options->account_list[0], options->account, sizeof(options->account));
    }
    return options->account_list != NULL;
}

/* Go names the struct that a field lies in; the documents' reader names only the field. */
static bool fail_options(struct answer *a, const struct rb_doc_error *error)
{
    static const char *const parts[RB_DOC_COUNT] = {
        [RB_DOC_VARZ] = "VarzOptions",
        [RB_DOC_CONNZ] = "ConnzOptions",
        [RB_DOC_ROUTEZ] = "RoutezOptions",
        [RB_DOC_GATEWAYZ] = "GatewayzOptions",
        [RB_DOC_LEAFZ] = "LeafzOptions",
        [RB_DOC_SUBSZ] = "SubszOptions",
        [RB_DOC_ACCOUNTZ] = "AccountzOptions",
        [RB_DOC_ACCSTATZ] = "AccountStatzOptions",
        [RB_DOC_JSZ] = "JSzOptions",
        [RB_DOC_HEALTHZ] = "HealthzOptions",
        [RB_DOC_IPQUEUESZ] = "IpqueueszOptions",
        [RB_DOC_RAFTZ] = "RaftzOptions",
    };
    static const char before[] = "into Go struct field ";
    char text[sizeof(error->text) + 128];
    const char *found = strstr(error->text, before), *part = parts[a->request->doc];
    if (error->status != 400 || found == NULL || part == NULL) {
        return fail(a, error->status, error->text, error->status == 500);
    }
    size_t head = (size_t)(found - error->text) + sizeof(before) - 1;
    (void)snprintf(text, sizeof(text), "%.*s%s.%s.%s", (int)head, error->text,
                   options_name(a->request), part, error->text + head);
    return fail(a, 400, text, false);
}

static bool answer_doc(struct answer *a)
{
    struct rb_doc_options options;
    struct rb_doc_error error = { 0 };
    struct rb_monitor_view view;
    if (!rb_doc_from_json(a->request->doc, a->request->body, &options, &error)) {
        return fail_options(a, &error);
    }
    bool answered;
    enum rb_err err = RB_ERR_LIMIT;
    if (!limit_to_account(a, &options)) {
        answered = fail(a, 500, "account name is too long", true);
    } else if ((err = a->by->source.open(a->by->source.ctx, &view)) != RB_OK) {
        answered = fail(a, 500, rb_err_text(err), true);
    } else {
        fill_process(a->by, &view);
        answered = build(a, &view, &options);
        a->by->source.close(a->by->source.ctx, &view);
    }
    rb_doc_options_deinit(&options);
    return answered;
}

/* Go's runtime profiles do not exist here; the answer has nats-server's form. */
static bool answer_profilez(struct answer *a)
{
    struct rb_doc_options options;
    struct rb_doc_error error = { 0 };
    /* "name" is an option of raftz's kind of document too: read as such. */
    if (!rb_doc_from_json(RB_DOC_GATEWAYZ, a->request->body, &options, &error)) {
        return fail(a, error.status, error.text, false);
    }
    char text[RB_DOC_TEXT_MAX + 64];
    if (options.name[0] == '\0') {
        (void)snprintf(text, sizeof(text), "Profile name not specified");
    } else {
        (void)snprintf(text, sizeof(text), "Profile \"%s\" not found", options.name);
    }
    struct rb_json_out json;
    begin(a, &json);
    rb_json_out_key(&json, "data");
    rb_json_out_object(&json);
    rb_json_out_key(&json, "profile");
    rb_json_out_null(&json);
    rb_json_out_set_text(&json, "error", text);
    rb_json_out_object_end(&json);
    rb_doc_options_deinit(&options);
    return finish(a, &json);
}

/* Commands */

static bool done(struct answer *a)
{
    struct rb_json_out json;
    begin(a, &json);
    return finish(a, &json);
}

static bool answer_conn(struct answer *a)
{
    char error[RB_NODE_ERROR_MAX];
    struct rb_node *node = a->by->node;
    enum rb_err err = a->request->kind == RB_REQUEST_KICK
                          ? rb_node_kick(node, a->filter.cid, error)
                          : rb_node_send_away(node, a->filter.cid, error);
    return err == RB_OK ? done(a) : fail(a, 500, error, false);
}

static bool answer_reload(struct answer *a)
{
    char error[RB_CONFIG_ERROR_MAX];
    enum rb_err err = rb_node_reload_again(a->by->node, error);
    return err == RB_OK ? done(a) : fail(a, 500, error, false);
}

/* Counting subscriptions: the answer is a bare number */

static bool answer_count(struct answer *a)
{
    struct rb_count_question question;
    if (a->request->kind == RB_REQUEST_NSUBS
            ? !rb_count_from_json(a->request->body, a->settings->policy, &question)
            : !rb_count_from_text(a->request->body, a->request->target_account, &question)) {
        return false;
    }
    uint64_t count;
    if (rb_count_subs(a->by->node, &question, ASK_NS, &count) != RB_OK) {
        return false;
    }
    rb_text_printf(a->out, "%llu", (unsigned long long)count);
    return !a->out->failed;
}

static bool is_meant(struct answer *a)
{
    const struct rb_config_lists *lists = a->settings->lists;
    char host[RB_CONFIG_TEXT_MAX];
    (void)snprintf(host, sizeof(host), "%.*s", RB_S_ARG(a->settings->options.info.host));
    struct rb_filter_facts facts = { .name = a->shared->server_name,
                                     .host = host,
                                     .tags = lists->tags,
                                     .tag_count = lists->tag_count };
    return rb_filter_meant(&a->filter, &facts);
}

static bool dispatch(struct answer *a)
{
    switch (a->request->kind) {
    case RB_REQUEST_PROFILEZ:
        return answer_profilez(a);
    case RB_REQUEST_RELOAD:
        return answer_reload(a);
    case RB_REQUEST_KICK:
    case RB_REQUEST_LDM:
        return answer_conn(a);
    default:
        return answer_doc(a);
    }
}

static bool answer(struct answer *a)
{
    const struct rb_request *request = a->request;
    char error[RB_FILTER_ERROR_MAX];
    if (request->kind == RB_REQUEST_NSUBS || request->kind == RB_REQUEST_SUBSCRIBERS) {
        return answer_count(a);
    }
    bool about_conn = request->kind == RB_REQUEST_KICK || request->kind == RB_REQUEST_LDM;
    if (!rb_filter_parse(request->body, options_name(request), &a->filter, error)) {
        return !about_conn && fail(a, 400, error, false); /* as nats-server: those say nothing */
    }
    bool speaks = !about_conn || (request->body.len > 0 && !a->filter.cid_bad);
    bool answered = speaks && is_meant(a) && dispatch(a);
    rb_filter_deinit(&a->filter);
    return answered;
}

bool rb_services_answer(struct rb_answerer *answerer, const struct rb_request *request,
                        struct rb_text *out)
{
    struct rb_env env;
    rb_env_init_system(&env);
    struct answer a = { .by = answerer,
                        .request = request,
                        .shared = rb_node_shared(answerer->node),
                        .settings = rb_node_settings_hold(answerer->node),
                        .out = out,
                        .now_ns = env.wall_ns(env.ctx) };
    bool answered = answer(&a);
    rb_core_settings_release(a.settings);
    return answered;
}
