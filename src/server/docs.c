/* docs.c - which document needs what, and what several of them share. */
#include "server/docs.h"

#include <stdlib.h>
#include <string.h>

void rb_doc_head(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    rb_json_out_set_text(json, "server_id", view->server_id);
    rb_json_out_set_time(json, "now", view->now_wall_ns, false);
}

void rb_doc_by_kind(struct rb_json_out *json, const char *key, uint64_t clients)
{
    rb_json_out_key(json, key);
    rb_json_out_object(json);
    rb_json_out_set_uint(json, "clients", clients);
    rb_json_out_set_uint(json, "routes", 0);
    rb_json_out_set_uint(json, "gateways", 0);
    rb_json_out_set_uint(json, "leafs", 0);
    rb_json_out_object_end(json);
}

void rb_monitor_sum(const struct rb_monitor_view *view, struct rb_monitor_totals *ret_totals)
{
    *ret_totals = (struct rb_monitor_totals){ 0 };
    for (uint32_t i = 0; i < view->shard_count; i++) {
        const struct rb_monitor_shard *shard = &view->shards[i];
        ret_totals->conns += shard->conns;
        ret_totals->conns_total += shard->conns_total;
        ret_totals->subs += shard->subs;
        ret_totals->in_msgs += shard->in_msgs;
        ret_totals->in_bytes += shard->in_bytes;
        ret_totals->out_msgs += shard->out_msgs;
        ret_totals->out_bytes += shard->out_bytes;
        ret_totals->slow_consumers += shard->slow_consumers;
        ret_totals->stale_conns += shard->stale_conns;
    }
}

/* Accounts */

int64_t rb_doc_account_id(const struct rb_monitor_view *view, const char *name)
{
    const struct rb_policy *policy = view->config->policy;
    int32_t index = rb_policy_account_by_name(policy, rb_slice_text(name));
    return index < 0 ? -1 : (int64_t)policy->accounts[index].id;
}

struct rb_slice rb_doc_account_name(const struct rb_monitor_view *view, uint32_t id)
{
    const struct rb_policy *policy = view->config->policy;
    for (uint32_t i = 0; i < policy->account_count; i++) {
        if (policy->accounts[i].id == id) {
            return policy->accounts[i].name;
        }
    }
    return (struct rb_slice){ 0 };
}

static void add_part(struct rb_account_snapshot *sum, const struct rb_account_snapshot *part)
{
    sum->id = part->id;
    sum->name = part->name.len > 0 ? part->name : sum->name;
    sum->conns += part->conns;
    sum->total_conns += part->total_conns;
    sum->leafnodes += part->leafnodes;
    sum->subs += part->subs;
    sum->in_msgs += part->in_msgs;
    sum->in_bytes += part->in_bytes;
    sum->out_msgs += part->out_msgs;
    sum->out_bytes += part->out_bytes;
    sum->slow_consumers += part->slow_consumers;
    sum->sublist_subs += part->sublist_subs;
    sum->cache_count += part->cache_count;
    sum->insert_count += part->insert_count;
    sum->remove_count += part->remove_count;
    sum->match_count += part->match_count;
    sum->cache_hit_count += part->cache_hit_count;
    sum->max_fanout = part->max_fanout > sum->max_fanout ? part->max_fanout : sum->max_fanout;
    sum->fanout_sum += part->fanout_sum;
    sum->fanout_count += part->fanout_count;
}

bool rb_doc_account_sum(const struct rb_snapshot *snapshot, int64_t id,
                        struct rb_account_snapshot *ret_sum)
{
    bool found = false;
    *ret_sum = (struct rb_account_snapshot){ 0 };
    for (uint32_t i = 0; snapshot != NULL && i < snapshot->account_count; i++) {
        if (id < 0 || snapshot->accounts[i].id == (uint64_t)id) {
            add_part(ret_sum, &snapshot->accounts[i]);
            found = true;
        }
    }
    return found;
}

/* Ids are small numbers given by the node; one beyond this is no account of ours. */
#define IDS_MAX (1u << 20)

struct rb_account_snapshot *rb_doc_account_sums(const struct rb_monitor_view *view)
{
    const struct rb_policy *policy = view->config->policy;
    const struct rb_snapshot *snapshot = view->snapshot;
    struct rb_account_snapshot *sums = calloc((size_t)policy->account_count + 1, sizeof(*sums));
    uint32_t id_end = 0;
    for (uint32_t i = 0; i < policy->account_count; i++) {
        uint32_t id = policy->accounts[i].id;
        id_end = id >= id_end && id < IDS_MAX ? id + 1 : id_end;
    }
    uint32_t *index_of = calloc((size_t)id_end + 1, sizeof(*index_of)); /* by id; 1 is the first */
    if (sums == NULL || index_of == NULL) {
        free(sums);
        free(index_of);
        return NULL;
    }
    for (uint32_t i = 0; i < policy->account_count; i++) {
        if (policy->accounts[i].id < id_end) {
            index_of[policy->accounts[i].id] = i + 1;
        }
    }
    for (uint32_t i = 0; snapshot != NULL && i < snapshot->account_count; i++) {
        uint32_t id = snapshot->accounts[i].id;
        if (id < id_end && index_of[id] > 0) {
            add_part(&sums[index_of[id] - 1], &snapshot->accounts[i]);
        }
    }
    free(index_of);
    return sums;
}

/* Subscriptions */

void rb_doc_sublist_stats(struct rb_json_out *json, const struct rb_account_snapshot *sum)
{
    rb_json_out_set_uint(json, "num_subscriptions", sum->sublist_subs);
    rb_json_out_set_uint(json, "num_cache", sum->cache_count);
    rb_json_out_set_uint(json, "num_inserts", sum->insert_count);
    rb_json_out_set_uint(json, "num_removes", sum->remove_count);
    rb_json_out_set_uint(json, "num_matches", sum->match_count);
    rb_json_out_set_float(
        json, "cache_hit_rate",
        sum->match_count == 0 ? 0 : (double)sum->cache_hit_count / (double)sum->match_count);
    rb_json_out_set_uint(json, "max_fanout", sum->max_fanout);
    rb_json_out_set_float(
        json, "avg_fanout",
        sum->fanout_count == 0 ? 0 : (double)sum->fanout_sum / (double)sum->fanout_count);
}

void rb_doc_sub_detail(struct rb_json_out *json, const struct rb_sub_snapshot *sub,
                       struct rb_slice account)
{
    rb_json_out_object(json);
    rb_json_out_opt_string(json, "account", account);
    rb_json_out_opt_string(json, "account_tag", account);
    rb_json_out_set_string(json, "subject", sub->subject);
    rb_json_out_opt_string(json, "qgroup", sub->queue);
    rb_json_out_set_string(json, "sid", sub->sid);
    rb_json_out_set_uint(json, "msgs", sub->msgs);
    rb_json_out_opt_uint(json, "max", sub->max);
    rb_json_out_set_uint(json, "cid", sub->cid);
    rb_json_out_object_end(json);
}

/* Plans */

static bool plan_connz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                       struct rb_snapshot_request *request)
{
    request->conns = options->state == 0   ? RB_CONNS_OPEN
                     : options->state == 1 ? RB_CONNS_CLOSED
                     : options->state == 2 ? RB_CONNS_OPEN | RB_CONNS_CLOSED
                                           : 0;
    request->conn_subs =
        options->subs || options->subs_detail || options->filter_subject[0] != '\0';
    request->conn_certs = options->auth;
    if (options->account[0] != '\0') {
        request->conn_account = rb_doc_account_id(view, options->account);
        return request->conns != 0 && request->conn_account >= 0;
    }
    if (options->cid != 0 && options->state == 0) {
        request->cid = options->cid; /* `total` is known without copying the others */
    }
    return request->conns != 0;
}

bool rb_doc_plan(enum rb_monitor_doc kind, const struct rb_monitor_view *view,
                 const struct rb_doc_options *options, struct rb_snapshot_request *request)
{
    *request = (struct rb_snapshot_request){ .conn_account = -1, .sub_account = -1 };
    switch (kind) {
    case RB_DOC_CONNZ:
        return plan_connz(view, options, request);
    case RB_DOC_SUBSZ:
        request->accounts = true;
        request->subs = options->subs;
        if (options->account[0] != '\0') {
            request->sub_account = rb_doc_account_id(view, options->account);
            return request->sub_account >= 0;
        }
        return true;
    case RB_DOC_VARZ:
        request->accounts = true;
        return true;
    case RB_DOC_ACCSTATZ:
        request->accounts = true;
        return true;
    case RB_DOC_ACCOUNTZ:
        request->accounts = options->account[0] != '\0';
        return request->accounts;
    case RB_DOC_JSZ:
        request->js = view->jetstream.enabled;
        request->js_streams = options->streams || options->consumers;
        request->js_consumers = options->consumers;
        request->js_documents = request->js_streams;
        return request->js;
    case RB_DOC_HEALTHZ:
        request->js = view->jetstream.enabled && !options->js_server_only &&
                      !options->js_enabled_only && !options->js_enabled;
        request->js_streams = true;
        request->js_consumers = options->consumer[0] != '\0';
        memcpy(request->js_account, options->account, sizeof(request->js_account));
        return request->js;
    case RB_DOC_DASHBOARDZ:
        return false;
    default:
        return false;
    }
}

bool rb_doc_build(enum rb_monitor_doc kind, const struct rb_monitor_view *view,
                  const struct rb_doc_options *options, bool system, struct rb_json_out *json,
                  struct rb_doc_error *error)
{
    *error = (struct rb_doc_error){ .status = 200 };
    switch (kind) {
    case RB_DOC_VARZ:
        return rb_doc_varz(view, json);
    case RB_DOC_CONNZ:
        return rb_doc_connz(view, options, json, error);
    case RB_DOC_ROUTEZ:
        return rb_doc_routez(view, json);
    case RB_DOC_GATEWAYZ:
        return rb_doc_gatewayz(view, json);
    case RB_DOC_LEAFZ:
        return rb_doc_leafz(view, json);
    case RB_DOC_SUBSZ:
        return rb_doc_subsz(view, options, json, error);
    case RB_DOC_ACCOUNTZ:
        return rb_doc_accountz(view, options, json, error);
    case RB_DOC_ACCSTATZ:
        return rb_doc_accstatz(view, options, json, error);
    case RB_DOC_JSZ:
        return rb_doc_jsz(view, options, json, error);
    case RB_DOC_HEALTHZ:
        return rb_doc_healthz(view, options, system, json, error);
    case RB_DOC_IPQUEUESZ:
        return rb_doc_ipqueuesz(json);
    case RB_DOC_RAFTZ:
        return rb_doc_raftz(system, json, error);
    case RB_DOC_EXPVARZ:
        return rb_doc_expvarz(view, json);
    case RB_DOC_DASHBOARDZ:
        return rb_doc_dashboardz(view, json);
    case RB_DOC_COUNT:
        break;
    }
    return rb_doc_fail(error, 404, "unknown document");
}
