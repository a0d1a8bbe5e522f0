/* docs.h - the monitoring documents: options, what they need, and their builders.
 *
 * Each document has an options struct with two front ends: a query string (errors in nats-server's words, HTTP 400) and
 * a JSON body (system requests). Then: plan() says which snapshot is needed, build() writes the document. build()
 * returns false with `error` set when the options cannot be served (HTTP status in error->status; code 500 in system
 * requests, as nats-server).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/json_out.h"
#include "server/monitor.h"

#define RB_DOC_TEXT_MAX RB_ACCOUNT_NAME_MAX /* longest text option; longer ones are refused */
#define RB_DOC_LIMIT_DEFAULT 1024

struct rb_doc_error {
    int status;  /* HTTP */
    bool silent; /* a system request gets no answer at all (filtered response) */
    char text[RB_DOC_TEXT_MAX + 128];
};

enum rb_monitor_doc {
    RB_DOC_VARZ,
    RB_DOC_CONNZ,
    RB_DOC_ROUTEZ,
    RB_DOC_GATEWAYZ,
    RB_DOC_LEAFZ,
    RB_DOC_SUBSZ,
    RB_DOC_ACCOUNTZ,
    RB_DOC_ACCSTATZ,
    RB_DOC_JSZ,
    RB_DOC_HEALTHZ,
    RB_DOC_IPQUEUESZ,
    RB_DOC_RAFTZ,
    RB_DOC_EXPVARZ,
    RB_DOC_DASHBOARDZ,
    RB_DOC_COUNT
};

enum rb_conn_sort {
    RB_SORT_CID,
    RB_SORT_START,
    RB_SORT_SUBS,
    RB_SORT_PENDING,
    RB_SORT_MSGS_TO,
    RB_SORT_MSGS_FROM,
    RB_SORT_BYTES_TO,
    RB_SORT_BYTES_FROM,
    RB_SORT_LAST,
    RB_SORT_IDLE,
    RB_SORT_UPTIME,
    RB_SORT_STOP,
    RB_SORT_REASON,
    RB_SORT_RTT,
};

/** Options of all documents; each reads its own. */
struct rb_doc_options {
    bool subs, subs_detail, auth;
    int64_t offset, limit;
    uint64_t cid;
    enum rb_conn_sort sort;
    int64_t state; /* 0 open, 1 closed, 2 all; other values (JSON only): none */
    char user[RB_DOC_TEXT_MAX], account[RB_DOC_TEXT_MAX], mqtt_client[RB_DOC_TEXT_MAX];
    char filter_subject[RB_DOC_TEXT_MAX], test[RB_DOC_TEXT_MAX];
    /* accstatz */
    bool unused, accounts_given;
    char (*account_list)[RB_DOC_TEXT_MAX]; /* JSON only; freed by rb_doc_options_deinit */
    uint32_t account_list_count;
    /* gatewayz, raftz, ipqueuesz */
    char name[RB_DOC_TEXT_MAX];
    bool accounts, all;
    /* jsz */
    bool streams, consumers, direct_consumers, config, raft, leader_only, stream_leader_only;
    /* healthz */
    bool js_enabled, js_enabled_only, js_meta_only, js_server_only, details;
    char stream[RB_DOC_TEXT_MAX], consumer[RB_DOC_TEXT_MAX];
};
#define RB_DOC_ACCOUNTS_MAX 1024 /* in one accstatz request */

void rb_doc_options_deinit(struct rb_doc_options *options);
/** From a query string. False: `error` (400). Unknown parameters are ignored. */
bool rb_doc_from_query(enum rb_monitor_doc kind, struct rb_slice query,
                       struct rb_doc_options *options, struct rb_doc_error *error);
/** From a JSON object; empty: defaults. False: `error` (400). Unknown members are ignored. */
bool rb_doc_from_json(enum rb_monitor_doc kind, struct rb_slice body,
                      struct rb_doc_options *options, struct rb_doc_error *error);
/** What `collect` must bring. False: no snapshot is needed. */
bool rb_doc_plan(enum rb_monitor_doc kind, const struct rb_monitor_view *view,
                 const struct rb_doc_options *options, struct rb_snapshot_request *request);
/** Writes the document as one JSON value. `system`: for a system request (healthz then holds status_code). */
bool rb_doc_build(enum rb_monitor_doc kind, const struct rb_monitor_view *view,
                  const struct rb_doc_options *options, bool system, struct rb_json_out *json,
                  struct rb_doc_error *error);

/* What rb_doc_build calls; one family per file. */
bool rb_doc_varz(const struct rb_monitor_view *view, struct rb_json_out *json);
bool rb_doc_connz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                  struct rb_json_out *json, struct rb_doc_error *error);
bool rb_doc_routez(const struct rb_monitor_view *view, struct rb_json_out *json);
bool rb_doc_gatewayz(const struct rb_monitor_view *view, struct rb_json_out *json);
bool rb_doc_leafz(const struct rb_monitor_view *view, struct rb_json_out *json);
bool rb_doc_subsz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                  struct rb_json_out *json, struct rb_doc_error *error);
bool rb_doc_accountz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                     struct rb_json_out *json, struct rb_doc_error *error);
/** Only the account's own object, as system requests have it. */
bool rb_doc_account_info(const struct rb_monitor_view *view, const char *name,
                         struct rb_json_out *json, struct rb_doc_error *error);
bool rb_doc_accstatz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                     struct rb_json_out *json, struct rb_doc_error *error);
bool rb_doc_jsz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                struct rb_json_out *json, struct rb_doc_error *error);
/** The status is error->status even when it is 200; the body is written in any case. */
bool rb_doc_healthz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                    bool system, struct rb_json_out *json, struct rb_doc_error *error);
/** The account's own object, as requests of an account have it. */
bool rb_doc_jsz_account(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                        struct rb_json_out *json, struct rb_doc_error *error);
/** Member "jetstream" of /varz. */
void rb_doc_js_varz(const struct rb_monitor_view *view, struct rb_json_out *json);
/** Members memory to api; "config"; "limits". */
void rb_doc_js_stats(const struct rb_monitor_jetstream *js, struct rb_json_out *json);
void rb_doc_js_config(const struct rb_monitor_jetstream *js,
                      const struct rb_config_jetstream *config, struct rb_json_out *json);
void rb_doc_js_limits(const struct rb_config_jetstream *config, struct rb_json_out *json);
/** What /healthz says without options: true is 200. */
bool rb_doc_health_check(const struct rb_monitor_view *view);
bool rb_doc_ipqueuesz(struct rb_json_out *json);
bool rb_doc_raftz(bool system, struct rb_json_out *json, struct rb_doc_error *error);
bool rb_doc_expvarz(const struct rb_monitor_view *view, struct rb_json_out *json);
bool rb_doc_dashboardz(const struct rb_monitor_view *view, struct rb_json_out *json);

/* Pages that are not JSON documents. */
void rb_page_root(const struct rb_monitor_view *view, const char *base_path, struct rb_text *out);
void rb_page_stacksz(struct rb_text *out);
void rb_page_metrics(const struct rb_monitor_view *view, struct rb_text *out);
/** The dashboard's HTML, static. */
struct rb_slice rb_page_dashboard(void);

/* Shared by the families. */
void rb_doc_head(const struct rb_monitor_view *view, struct rb_json_out *json); /* server_id, now */
/** A count by kind of connection under `key`: clients are all there are so far. */
void rb_doc_by_kind(struct rb_json_out *json, const char *key, uint64_t clients);
/** Sums an account's parts over the shards; `id` -1: all accounts together. False: no shard has it. */
bool rb_doc_account_sum(const struct rb_snapshot *snapshot, int64_t id,
                        struct rb_account_snapshot *ret_sum);
/** One sum per account of the policy, in its order; the caller frees it. NULL: no memory. */
struct rb_account_snapshot *rb_doc_account_sums(const struct rb_monitor_view *view);
/** Members num_subscriptions to avg_fanout. */
void rb_doc_sublist_stats(struct rb_json_out *json, const struct rb_account_snapshot *sum);
/** One subscription as nats-server's SubDetail; `account` empty: left out. */
void rb_doc_sub_detail(struct rb_json_out *json, const struct rb_sub_snapshot *sub,
                       struct rb_slice account);
/** Id of a named account of the policy; -1 when unknown. */
int64_t rb_doc_account_id(const struct rb_monitor_view *view, const char *name);
/** Name by id; empty when unknown. */
struct rb_slice rb_doc_account_name(const struct rb_monitor_view *view, uint32_t id);
__attribute__((format(printf, 3, 4))) bool rb_doc_fail(struct rb_doc_error *error, int status,
                                                       const char *format, ...);
