/* docs_connz.c - /connz: connections, open and closed, sorted and paged. */
#include <stdlib.h>
#include <string.h>

#include "proto/subject.h"
#include "server/docs.h"

/* Order */

static int by_number(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

struct order {
    enum rb_conn_sort sort;
    uint64_t now_ns;
};

static uint64_t stop_of(const struct rb_conn_snapshot *conn, uint64_t now_ns)
{
    return conn->stop_wall_ns != 0 ? conn->stop_wall_ns : now_ns;
}

static uint64_t since(uint64_t later_ns, uint64_t earlier_ns)
{
    return later_ns > earlier_ns ? later_ns - earlier_ns : 0;
}

/* What is sorted by, largest first. */
static uint64_t weight_of(const struct rb_conn_snapshot *conn, const struct order *order)
{
    switch (order->sort) {
    case RB_SORT_SUBS:
        return conn->sub_count;
    case RB_SORT_PENDING:
        return conn->pending_bytes;
    case RB_SORT_MSGS_TO:
        return conn->out_msgs;
    case RB_SORT_MSGS_FROM:
        return conn->in_msgs;
    case RB_SORT_BYTES_TO:
        return conn->out_bytes;
    case RB_SORT_BYTES_FROM:
        return conn->in_bytes;
    case RB_SORT_LAST:
        return conn->last_wall_ns;
    case RB_SORT_IDLE:
        return since(order->now_ns, conn->last_wall_ns);
    case RB_SORT_UPTIME:
        return since(stop_of(conn, order->now_ns), conn->start_wall_ns);
    case RB_SORT_STOP:
        return conn->stop_wall_ns;
    case RB_SORT_RTT:
        return conn->rtt_ns;
    default:
        return 0;
    }
}

static int compare(const void *left, const void *right, void *ctx)
{
    const struct rb_conn_snapshot *a = *(const struct rb_conn_snapshot *const *)left;
    const struct rb_conn_snapshot *b = *(const struct rb_conn_snapshot *const *)right;
    const struct order *order = ctx;
    int result;
    switch (order->sort) {
    case RB_SORT_CID:
        return by_number(a->cid, b->cid);
    case RB_SORT_START:
        result = by_number(a->start_wall_ns, b->start_wall_ns);
        break;
    case RB_SORT_REASON:
        result = strcmp(a->reason == NULL ? "" : a->reason, b->reason == NULL ? "" : b->reason);
        break;
    default:
        result = by_number(weight_of(b, order), weight_of(a, order));
        break;
    }
    return result != 0 ? result : by_number(a->cid, b->cid);
}

/* Which */

static bool takes_subject(const struct rb_conn_snapshot *conn, const char *filter)
{
    for (uint32_t i = 0; i < conn->sub_count && conn->subs != NULL; i++) {
        if (rb_subject_overlap(conn->subs[i].subject, rb_slice_text(filter))) {
            return true;
        }
    }
    return false;
}

static bool wanted(const struct rb_conn_snapshot *conn, const struct rb_doc_options *options)
{
    if (options->cid != 0 && conn->cid != options->cid) {
        return false;
    }
    if (options->user[0] != '\0' && !rb_slice_equal(conn->user, rb_slice_text(options->user))) {
        return false;
    }
    if (options->mqtt_client[0] != '\0') {
        return false; /* none is an MQTT client */
    }
    return options->filter_subject[0] == '\0' || takes_subject(conn, options->filter_subject);
}

/* One connection */

static void set_certs(struct rb_json_out *json, const struct rb_conn_snapshot *conn)
{
    if (conn->cert_count == 0) {
        return;
    }
    rb_json_out_key(json, "tls_peer_certs");
    rb_json_out_array(json);
    for (uint32_t i = 0; i < conn->cert_count; i++) {
        rb_json_out_object(json);
        rb_json_out_opt_string(json, "subject", conn->certs[i].subject);
        rb_json_out_opt_text(json, "spki_sha256", conn->certs[i].spki_sha256);
        rb_json_out_opt_text(json, "cert_sha256", conn->certs[i].cert_sha256);
        rb_json_out_object_end(json);
    }
    rb_json_out_array_end(json);
}

static void set_subs(struct rb_json_out *json, const struct rb_conn_snapshot *conn,
                     const struct rb_doc_options *options)
{
    if ((!options->subs && !options->subs_detail) || conn->subs == NULL || conn->sub_count == 0) {
        return;
    }
    rb_json_out_key(json,
                    options->subs_detail ? "subscriptions_list_detail" : "subscriptions_list");
    rb_json_out_array(json);
    for (uint32_t i = 0; i < conn->sub_count; i++) {
        if (options->subs_detail) {
            /* nats-server names the account for closed connections only. */
            struct rb_slice account =
                conn->stop_wall_ns != 0 ? conn->account_name : (struct rb_slice){ 0 };
            rb_doc_sub_detail(json, &conn->subs[i], account);
        } else {
            rb_json_out_string(json, conn->subs[i].subject);
        }
    }
    rb_json_out_array_end(json);
}

static const char *type_of(const struct rb_conn_snapshot *conn)
{
    switch (conn->type) {
    case RB_TYPE_WEBSOCKET:
        return "websocket";
    case RB_TYPE_MQTT:
    case RB_TYPE_MQTT_WS:
        return "mqtt";
    case RB_TYPE_LEAFNODE:
    case RB_TYPE_LEAFNODE_WS:
        return NULL;
    default:
        return "nats";
    }
}

static void set_times(struct rb_json_out *json, const struct rb_conn_snapshot *conn,
                      uint64_t now_ns)
{
    char text[RB_UPTIME_TEXT_MAX];
    uint64_t stop_ns = stop_of(conn, now_ns);
    rb_json_out_set_time(json, "start", conn->start_wall_ns, true);
    rb_json_out_set_time(json, "last_activity", conn->last_wall_ns, false);
    if (conn->stop_wall_ns != 0) {
        rb_json_out_set_time(json, "stop", conn->stop_wall_ns, false);
        rb_json_out_opt_text(json, "reason", conn->reason);
    }
    rb_json_out_set_text(json, "rtt", rb_rtt_text(conn->rtt_ns, text));
    rb_json_out_set_text(json, "uptime", rb_uptime_text(since(stop_ns, conn->start_wall_ns), text));
    rb_json_out_set_text(json, "idle", rb_uptime_text(since(stop_ns, conn->last_wall_ns), text));
}

static void add_conn(const struct rb_monitor_view *view, struct rb_json_out *json,
                     const struct rb_conn_snapshot *conn, const struct rb_doc_options *options)
{
    char ip[RB_ADDR_TEXT_MAX] = "";
    if (conn->peer.family != 0) {
        (void)rb_addr_format_ip(&conn->peer, ip);
    }
    const char *type = type_of(conn);
    rb_json_out_object(json);
    rb_json_out_set_uint(json, "cid", conn->cid);
    rb_json_out_set_text(json, "kind", type == NULL ? "Leafnode" : "Client");
    rb_json_out_opt_text(json, "type", type);
    rb_json_out_set_text(json, "ip", ip);
    rb_json_out_set_uint(json, "port", conn->peer.port);
    set_times(json, conn, view->now_wall_ns);
    rb_json_out_set_uint(json, "pending_bytes", conn->pending_bytes);
    rb_json_out_set_uint(json, "in_msgs", conn->in_msgs);
    rb_json_out_set_uint(json, "out_msgs", conn->out_msgs);
    rb_json_out_set_uint(json, "in_bytes", conn->in_bytes);
    rb_json_out_set_uint(json, "out_bytes", conn->out_bytes);
    rb_json_out_set_uint(json, "subscriptions", conn->sub_count);
    rb_json_out_opt_string(json, "name", conn->name);
    rb_json_out_opt_string(json, "lang", conn->lang);
    rb_json_out_opt_string(json, "version", conn->version);
    rb_json_out_opt_text(json, "tls_version", conn->tls_version);
    rb_json_out_opt_text(json, "tls_cipher_suite", conn->tls_cipher);
    rb_json_out_opt_bool(json, "tls_first", conn->tls_first);
    if (options->auth) {
        set_certs(json, conn);
        rb_json_out_opt_string(json, "authorized_user", conn->user);
        if (conn->account != 0) { /* id 0 is "$G", which nats-server leaves out */
            rb_json_out_opt_string(json, "account", conn->account_name);
        }
    }
    set_subs(json, conn, options);
    if (options->auth) {
        rb_json_out_opt_string(json, "name_tag", conn->account_name);
    }
    if (conn->proxy_key.len > 0) {
        rb_json_out_key(json, "proxy");
        rb_json_out_object(json);
        rb_json_out_set_string(json, "key", conn->proxy_key);
        rb_json_out_object_end(json);
    }
    rb_json_out_object_end(json);
}

/* The page */

static bool check_options(const struct rb_doc_options *options, struct rb_doc_error *error)
{
    if (options->sort == RB_SORT_STOP && options->state != 1) {
        return rb_doc_fail(error, 400, "sort by stop only valid on closed connections");
    }
    if (options->sort == RB_SORT_REASON && options->state != 1) {
        return rb_doc_fail(error, 400, "sort by reason only valid on closed connections");
    }
    if (options->filter_subject[0] != '\0' && options->account[0] == '\0') {
        return rb_doc_fail(error, 400, "filter by subject only valid with account filtering");
    }
    return true;
}

/* The pointers of the connections that are wanted, in order. False: no memory. */
static bool select_conns(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                         const struct rb_conn_snapshot ***ret_list, uint32_t *ret_count)
{
    const struct rb_snapshot *snapshot = view->snapshot;
    uint32_t total = snapshot == NULL ? 0 : snapshot->conn_count;
    const struct rb_conn_snapshot **list = malloc(((size_t)total + 1) * sizeof(*list));
    if (list == NULL) {
        return false;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < total; i++) {
        if (wanted(&snapshot->conns[i], options)) {
            list[count++] = &snapshot->conns[i];
        }
    }
    struct order order = { .sort = options->sort, .now_ns = view->now_wall_ns };
    qsort_r(list, count, sizeof(*list), compare, &order);
    *ret_list = list;
    *ret_count = count;
    return true;
}

static void set_head(const struct rb_monitor_view *view, struct rb_json_out *json, bool known,
                     uint64_t count, uint64_t total, uint64_t offset, uint64_t limit)
{
    rb_json_out_set_text(json, "server_id", known ? view->server_id : "");
    rb_json_out_set_time(json, "now", view->now_wall_ns, false);
    rb_json_out_set_uint(json, "num_connections", count);
    rb_json_out_set_uint(json, "total", total);
    rb_json_out_set_uint(json, "offset", offset);
    rb_json_out_set_uint(json, "limit", limit);
    rb_json_out_key(json, "connections");
}

/* Connections in the chosen state and account, before other filters. */
static uint64_t total_of(const struct rb_monitor_view *view)
{
    if (view->snapshot != NULL && view->snapshot->request.cid != 0) {
        struct rb_monitor_totals sum;
        rb_monitor_sum(view, &sum);
        return sum.conns;
    }
    return view->snapshot == NULL ? 0 : view->snapshot->conn_count;
}

bool rb_doc_connz(const struct rb_monitor_view *view, const struct rb_doc_options *options,
                  struct rb_json_out *json, struct rb_doc_error *error)
{
    if (!check_options(options, error)) {
        return false;
    }
    uint64_t offset = options->offset < 0 ? 0 : (uint64_t)options->offset;
    uint64_t limit = options->limit <= 0 ? RB_DOC_LIMIT_DEFAULT : (uint64_t)options->limit;
    limit = options->cid != 0 ? 1 : limit;
    if (options->account[0] != '\0' && rb_doc_account_id(view, options->account) < 0) {
        rb_json_out_object(json);
        set_head(view, json, false, 0, 0, offset, limit);
        rb_json_out_null(json);
        rb_json_out_object_end(json);
        return true;
    }
    const struct rb_conn_snapshot **list;
    uint32_t count;
    if (!select_conns(view, options, &list, &count)) {
        return rb_doc_fail(error, 500, "out of memory");
    }
    uint64_t begin = offset < count ? offset : count;
    uint64_t shown = limit < count - begin ? limit : count - begin;
    rb_json_out_object(json);
    set_head(view, json, true, shown, total_of(view), offset, limit);
    rb_json_out_array(json);
    for (uint64_t i = begin; i < begin + shown && !json->out->failed; i++) {
        add_conn(view, json, list[i], options);
    }
    rb_json_out_array_end(json);
    rb_json_out_object_end(json);
    free(list);
    return true;
}
