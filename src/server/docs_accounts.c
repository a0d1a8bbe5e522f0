/* docs_accounts.c - /accountz and /accstatz. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "proto/subject.h"
#include "server/docs.h"

#define SUBJECT_BYTES_MAX 65536

/* /accountz */

static const char *response_text(enum rb_response_type type)
{
    switch (type) {
    case RB_RESPONSE_STREAM:
        return "Streamed";
    case RB_RESPONSE_CHUNKED:
        return "Chunked";
    default:
        return "Singleton";
    }
}

static void set_latency(struct rb_json_out *json, const char *key, const struct rb_export *exported)
{
    if (exported->latency_subject.len == 0) {
        return;
    }
    rb_json_out_key(json, key);
    rb_json_out_object(json);
    if (exported->latency_sampling == 0) {
        rb_json_out_set_text(json, "sampling",
                             "headers"); /* as nats-server's JSON of a sampling rate of 0 */
    } else {
        rb_json_out_set_int(json, "sampling", exported->latency_sampling);
    }
    rb_json_out_set_string(json, "results", exported->latency_subject);
    rb_json_out_object_end(json);
}

static void add_export(const struct rb_policy *policy, const struct rb_export *exported,
                       struct rb_json_out *json)
{
    rb_json_out_object(json);
    rb_json_out_set_string(json, "subject", exported->subject);
    rb_json_out_set_text(json, "type", exported->service ? "service" : "stream");
    if (exported->service) {
        rb_json_out_set_text(json, "response_type", response_text(exported->response));
        set_latency(json, "service_latency", exported);
    }
    if (exported->account_count > 0) {
        rb_json_out_key(json, "approved_accounts");
        rb_json_out_array(json);
        for (uint32_t i = 0; i < exported->account_count; i++) {
            rb_json_out_string(json, policy->accounts[exported->accounts[i]].name);
        }
        rb_json_out_array_end(json);
    }
    rb_json_out_object_end(json);
}

/* The export that serves `import`; NULL when there is none. */
static const struct rb_export *export_of(const struct rb_policy *policy,
                                         const struct rb_import *import)
{
    const struct rb_policy_account *from = &policy->accounts[import->account];
    for (uint32_t i = 0; i < from->export_count; i++) {
        if (from->exports[i].service == import->service &&
            rb_slice_equal(from->exports[i].subject, import->subject)) {
            return &from->exports[i];
        }
    }
    return NULL;
}

/* "loc.$1" and "loc.{{wildcard(1)}}" are subscribed to as "loc.*". */
static void add_pattern(struct rb_text *out, struct rb_slice to)
{
    struct rb_tokens tokens = rb_tokens_over(to);
    struct rb_slice token;
    for (bool first = true; rb_tokens_next(&tokens, &token); first = false) {
        bool stands_for = token.len > 1 && ((token.ptr[0] == '$' && isdigit(token.ptr[1])) ||
                                            (token.ptr[0] == '{' && token.ptr[1] == '{'));
        rb_text_puts(out, first ? "" : ".");
        rb_text_slice(out, stands_for ? RB_S("*") : token);
    }
}

/* What an importer subscribes or publishes to. */
static void set_pattern(struct rb_json_out *json, const char *key, const struct rb_import *import,
                        struct rb_slice prefix)
{
    struct rb_text local;
    rb_text_init(&local, SUBJECT_BYTES_MAX);
    if (prefix.len > 0) {
        rb_text_slice(&local, prefix);
        rb_text_puts(&local, prefix.ptr[prefix.len - 1] == '.' ? "" : ".");
    }
    if (import->to.len > 0) {
        add_pattern(&local, import->to);
    } else {
        rb_text_slice(&local, import->subject);
    }
    json->out->failed |= local.failed;
    rb_json_out_set_string(json, key, rb_slice_of(local.ptr, local.len));
    rb_text_deinit(&local);
}

static void add_import(const struct rb_policy *policy, const struct rb_import *import,
                       struct rb_json_out *json)
{
    const struct rb_export *exported = export_of(policy, import);
    rb_json_out_object(json);
    rb_json_out_set_string(json, "subject", import->subject);
    rb_json_out_set_string(json, "account", policy->accounts[import->account].name);
    if (import->service) {
        set_pattern(json, "to", import, (struct rb_slice){ 0 });
    }
    set_pattern(json, "local_subject", import,
                import->service ? (struct rb_slice){ 0 } : import->prefix);
    rb_json_out_set_text(json, "type", import->service ? "service" : "stream");
    rb_json_out_set_bool(json, "invalid", false);
    rb_json_out_set_bool(json, "share", import->share);
    rb_json_out_set_bool(json, "tracking", false);
    if (import->service && exported != NULL) {
        set_latency(json, "latency", exported);
    }
    rb_json_out_object_end(json);
}

struct weighted {
    struct rb_slice subject, cluster;
    uint32_t weight;
};

static int by_cluster_and_weight(const void *left, const void *right)
{
    const struct weighted *a = left, *b = right;
    size_t len = a->cluster.len < b->cluster.len ? a->cluster.len : b->cluster.len;
    int order = len == 0 ? 0 : memcmp(a->cluster.ptr, b->cluster.ptr, len);
    if (order == 0 && a->cluster.len != b->cluster.len) {
        order = a->cluster.len < b->cluster.len ? -1 : 1;
    }
    return order != 0 ? order : a->weight < b->weight ? -1 : a->weight > b->weight;
}

/* What is left of each cluster's 100 percent stays with the source; the general list is always there. */
static uint32_t add_remainders(const struct rb_mapping *mapping, struct weighted *list,
                               uint32_t count)
{
    uint32_t general = 0, first_count = count;
    for (uint32_t i = 0; i < first_count; i++) {
        general += list[i].cluster.len == 0 ? list[i].weight : 0;
    }
    if (general < 100) {
        list[count++] = (struct weighted){ .subject = mapping->source, .weight = 100 - general };
    }
    for (uint32_t i = 0; i < first_count; i++) {
        bool seen = list[i].cluster.len == 0;
        for (uint32_t j = 0; j < i; j++) {
            seen |= rb_slice_equal(list[i].cluster, list[j].cluster);
        }
        uint32_t sum = 0;
        for (uint32_t j = i; j < first_count && !seen; j++) {
            sum += rb_slice_equal(list[i].cluster, list[j].cluster) ? list[j].weight : 0;
        }
        if (!seen && sum < 100) {
            list[count++] = (struct weighted){ .subject = mapping->source,
                                               .cluster = list[i].cluster,
                                               .weight = 100 - sum };
        }
    }
    return count;
}

/* As nats-server shows them: per cluster, lightest first, each weight with those before it added. */
static void add_mapping(const struct rb_mapping *mapping, struct rb_json_out *json)
{
    struct weighted *list = calloc(2 * (size_t)mapping->target_count + 1, sizeof(*list));
    if (list == NULL) {
        json->out->failed = true;
        return;
    }
    for (uint32_t i = 0; i < mapping->target_count; i++) {
        const struct rb_mapping_target *target = &mapping->targets[i];
        list[i] = (struct weighted){ target->subject, target->cluster, target->weight };
    }
    uint32_t count = add_remainders(mapping, list, mapping->target_count);
    qsort(list, count, sizeof(*list), by_cluster_and_weight);
    rb_json_out_key_slice(json, mapping->source);
    rb_json_out_array(json);
    uint32_t weight = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool same = i > 0 && rb_slice_equal(list[i].cluster, list[i - 1].cluster);
        weight = list[i].weight + (same ? weight : 0);
        rb_json_out_object(json);
        rb_json_out_set_string(json, "subject", list[i].subject);
        rb_json_out_set_uint(json, "weight", weight);
        rb_json_out_opt_string(json, "cluster", list[i].cluster);
        rb_json_out_object_end(json);
    }
    rb_json_out_array_end(json);
    free(list);
}

static int by_source(const void *left, const void *right)
{
    struct rb_slice a = (*(const struct rb_mapping *const *)left)->source;
    struct rb_slice b = (*(const struct rb_mapping *const *)right)->source;
    int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : a.len < b.len ? -1 : a.len > b.len;
}

static void set_mappings(const struct rb_policy_account *account, struct rb_json_out *json)
{
    if (account->mapping_count == 0) {
        return;
    }
    const struct rb_mapping **list = calloc(account->mapping_count, sizeof(*list));
    if (list == NULL) {
        json->out->failed = true;
        return;
    }
    for (uint32_t i = 0; i < account->mapping_count; i++) {
        list[i] = &account->mappings[i];
    }
    qsort(list, account->mapping_count, sizeof(*list), by_source); /* a Go map: sorted by key */
    rb_json_out_key(json, "mappings");
    rb_json_out_object(json);
    for (uint32_t i = 0; i < account->mapping_count; i++) {
        add_mapping(list[i], json);
    }
    rb_json_out_object_end(json);
    free(list);
}

static bool has_jetstream(const struct rb_monitor_view *view,
                          const struct rb_policy_account *account)
{
    const struct rb_policy *policy = view->config->policy;
    return view->jetstream.enabled &&
           rb_policy_jetstream_of(policy, (uint32_t)(account - policy->accounts)) != NULL;
}

static void write_detail(const struct rb_monitor_view *view,
                         const struct rb_policy_account *account, struct rb_json_out *json)
{
    const struct rb_policy *policy = view->config->policy;
    struct rb_account_snapshot sum;
    (void)rb_doc_account_sum(view->snapshot, account->id, &sum);
    bool is_system =
        policy->system_account >= 0 && account == &policy->accounts[policy->system_account];
    rb_json_out_object(json);
    rb_json_out_set_string(json, "account_name", account->name);
    rb_json_out_set_time(json, "update_time", view->config_load_wall_ns, false);
    rb_json_out_opt_bool(json, "is_system", is_system);
    rb_json_out_set_bool(json, "expired", false);
    rb_json_out_set_bool(json, "complete", true);
    rb_json_out_set_bool(json, "jetstream_enabled", has_jetstream(view, account));
    rb_json_out_set_uint(json, "leafnode_connections", sum.leafnodes);
    rb_json_out_set_uint(json, "client_connections", sum.conns);
    rb_json_out_set_uint(json, "subscriptions", sum.subs);
    set_mappings(account, json);
    if (account->export_count > 0) {
        rb_json_out_key(json, "exports");
        rb_json_out_array(json);
        for (uint32_t i = 0; i < account->export_count; i++) {
            add_export(policy, &account->exports[i], json);
        }
        rb_json_out_array_end(json);
    }
    if (account->import_count > 0) {
        rb_json_out_key(json, "imports");
        rb_json_out_array(json);
        for (uint32_t i = 0; i < account->import_count; i++) {
            add_import(policy, &account->imports[i], json);
        }
        rb_json_out_array_end(json);
    }
    rb_json_out_set_string(json, "name_tag", account->name);
    rb_json_out_key(json, "sublist_stats");
    rb_json_out_object(json);
    rb_doc_sublist_stats(json, &sum);
    rb_json_out_object_end(json);
    rb_json_out_object_end(json);
}

bool rb_doc_account_info(const struct rb_monitor_view *view, const char *name,
                         struct rb_json_out *json, struct rb_doc_error *error)
{
    const struct rb_policy *policy = view->config->policy;
    int32_t index = rb_policy_account_by_name(policy, rb_slice_text(name));
    if (index < 0) {
        return rb_doc_fail(error, 400, "Account %s does not exist", name);
    }
    write_detail(view, &policy->accounts[index], json);
    return true;
}

bool rb_doc_accountz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                     struct rb_json_out *json, struct rb_doc_error *error)
{
    const struct rb_policy *policy = view->config->policy;
    int32_t index = -1;
    if (options->account[0] != '\0') {
        index = rb_policy_account_by_name(policy, rb_slice_text(options->account));
        if (index < 0) {
            return rb_doc_fail(error, 400, "Account %s does not exist", options->account);
        }
    }
    rb_json_out_object(json);
    rb_doc_head(view, json);
    if (policy->system_account >= 0) {
        rb_json_out_opt_string(json, "system_account",
                               policy->accounts[policy->system_account].name);
    }
    if (index >= 0) {
        rb_json_out_key(json, "account_detail");
        write_detail(view, &policy->accounts[index], json);
    } else {
        rb_json_out_key(json, "accounts");
        rb_json_out_array(json);
        for (uint32_t i = 0; i < policy->account_count; i++) {
            rb_json_out_string(json, policy->accounts[i].name);
        }
        rb_json_out_array_end(json);
    }
    rb_json_out_object_end(json);
    return true;
}

/* /accstatz */

static void add_counts(struct rb_json_out *json, uint64_t msgs, uint64_t bytes)
{
    rb_json_out_set_uint(json, "msgs", msgs);
    rb_json_out_set_uint(json, "bytes", bytes);
}

static void set_traffic(struct rb_json_out *json, const char *key, uint64_t msgs, uint64_t bytes)
{
    static const char *const links[] = { "gateways", "routes", "leafs" };
    rb_json_out_key(json, key);
    rb_json_out_object(json);
    add_counts(json, msgs, bytes);
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        rb_json_out_key(json, links[i]);
        rb_json_out_object(json);
        add_counts(json, 0, 0);
        rb_json_out_object_end(json);
    }
    rb_json_out_object_end(json);
}

static bool is_asked(const struct rb_doc_options *options, struct rb_slice name)
{
    if (!options->accounts_given) {
        return true;
    }
    for (uint32_t i = 0; i < options->account_list_count; i++) {
        if (rb_slice_equal(rb_slice_text(options->account_list[i]), name)) {
            return true;
        }
    }
    return false;
}

bool rb_doc_accstatz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                     struct rb_json_out *json, struct rb_doc_error *error)
{
    const struct rb_policy *policy = view->config->policy;
    struct rb_account_snapshot *sums = rb_doc_account_sums(view);
    if (sums == NULL) {
        return rb_doc_fail(error, 500, "out of memory");
    }
    rb_json_out_object(json);
    rb_doc_head(view, json);
    rb_json_out_key(json, "account_statz");
    rb_json_out_array(json);
    for (uint32_t i = 0; i < policy->account_count && !json->out->failed; i++) {
        const struct rb_policy_account *account = &policy->accounts[i];
        const struct rb_account_snapshot sum = sums[i];
        if (!is_asked(options, account->name) ||
            (!options->unused && sum.conns == 0 && sum.leafnodes == 0)) {
            continue;
        }
        rb_json_out_object(json);
        rb_json_out_set_string(json, "acc", account->name);
        rb_json_out_set_string(json, "name", account->name);
        rb_json_out_set_uint(json, "conns", sum.conns);
        rb_json_out_set_uint(json, "leafnodes", sum.leafnodes);
        rb_json_out_set_uint(json, "total_conns", sum.conns + sum.leafnodes);
        rb_json_out_set_uint(json, "num_subscriptions", sum.subs);
        set_traffic(json, "sent", sum.out_msgs, sum.out_bytes);
        set_traffic(json, "received", sum.in_msgs, sum.in_bytes);
        rb_json_out_set_uint(json, "slow_consumers", sum.slow_consumers);
        rb_json_out_object_end(json);
    }
    rb_json_out_array_end(json);
    rb_json_out_object_end(json);
    free(sums);
    return true;
}
