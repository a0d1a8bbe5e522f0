/* collect.c - what one shard knows, copied into a snapshot (snapshot.h). */
#include <string.h>

#include "core/account.h"
#include "core/conn.h"
#include "core/link.h"
#include "server/closed.h"
#include "server/shard.h"
#include "server/snapshot.h"
#include "tls/tls.h"

/* Connections */

static void copy_certs(struct rb_snapshot *snapshot, const struct rb_conn *conn,
                       struct rb_conn_snapshot *out)
{
    const struct rb_tls_peer *peer = rb_link_peer(conn->link);
    if (peer == NULL || peer->cert_count == 0) {
        return;
    }
    out->certs = rb_snapshot_take(snapshot, peer->cert_count * sizeof(*out->certs));
    if (out->certs == NULL) {
        return;
    }
    out->cert_count = peer->cert_count;
    for (uint32_t i = 0; i < peer->cert_count; i++) {
        out->certs[i].subject = rb_snapshot_text(snapshot, peer->certs[i].subject);
        memcpy(out->certs[i].spki_sha256, peer->certs[i].spki_sha256,
               sizeof(out->certs[i].spki_sha256));
        memcpy(out->certs[i].cert_sha256, peer->certs[i].cert_sha256,
               sizeof(out->certs[i].cert_sha256));
    }
}

static void copy_sub(struct rb_snapshot *snapshot, const struct rb_sub *sub,
                     struct rb_sub_snapshot *out)
{
    *out = (struct rb_sub_snapshot){
        .subject = rb_snapshot_text(snapshot, rb_sublist_subject(&sub->ref)),
        .queue = rb_snapshot_text(snapshot, rb_sublist_queue(&sub->ref)),
        .sid = rb_snapshot_text(snapshot, rb_slice_of(sub->sid, sub->sid_len)),
        .cid = sub->conn->cid,
        .msgs = sub->delivered,
        .max = sub->max,
        .account = sub->conn->account->id
    };
}

static void copy_subs(struct rb_snapshot *snapshot, const struct rb_conn *conn,
                      struct rb_conn_snapshot *out)
{
    if (conn->subs.count == 0) {
        return;
    }
    out->subs = rb_snapshot_take(snapshot, conn->subs.count * sizeof(*out->subs));
    if (out->subs == NULL) {
        out->sub_count = 0;
        return;
    }
    uint32_t at = 0, count = 0;
    for (const struct rb_sub *sub; (sub = rb_map_next(&conn->subs, &at)) != NULL;) {
        copy_sub(snapshot, sub, &out->subs[count++]);
    }
}

void rb_conn_describe(const struct rb_conn *conn, struct rb_conn_snapshot *out)
{
    const struct rb_core *core = conn->core;
    const struct rb_conn_about *about = conn->about;
    uint64_t wall_ns = core->env->wall_ns(core->env->ctx);
    uint64_t idle_ns = core->now_ns - conn->last_in_ns;
    *out = (struct rb_conn_snapshot){
        .cid = conn->cid,
        .type = conn->type,
        .peer = conn->peer,
        .start_wall_ns = conn->start_wall_ns,
        .last_wall_ns = wall_ns > idle_ns ? wall_ns - idle_ns : wall_ns,
        .rtt_ns = conn->rtt_ns,
        .pending_bytes = rb_conn_pending(conn),
        .in_msgs = conn->in_msgs,
        .in_bytes = conn->in_bytes,
        .out_msgs = conn->out_msgs,
        .out_bytes = conn->out_bytes,
        .sub_count = conn->subs.count,
        .account = conn->account->id,
        .account_name = conn->account->name,
        .user = conn->identity_kind == RB_IDENTITY_TOKEN ? RB_S("[REDACTED]") : conn->identity,
        .tls_version = rb_link_tls_version(conn->link),
        .tls_cipher = rb_link_tls_cipher(conn->link),
        .tls_first = rb_link_tls_first(conn->link),
        .proxy_key = conn->proxy_key,
    };
    if (out->last_wall_ns < out->start_wall_ns) {
        out->last_wall_ns = out->start_wall_ns;
    }
    if (about != NULL) {
        out->name = about->name;
        out->lang = about->lang;
        out->version = about->version;
    }
}

static void keep_texts(struct rb_snapshot *snapshot, struct rb_conn_snapshot *out)
{
    struct rb_slice *texts[] = { &out->name,         &out->lang, &out->version,
                                 &out->account_name, &out->user, &out->proxy_key };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        *texts[i] = rb_snapshot_text(snapshot, *texts[i]);
    }
}

static bool wanted(const struct rb_snapshot_request *request, uint64_t cid, uint32_t account)
{
    return (request->cid == 0 || request->cid == cid) &&
           (request->conn_account < 0 || request->conn_account == (int64_t)account);
}

static void copy_open(struct rb_snapshot *snapshot, const struct rb_core *core)
{
    for (const struct rb_list *link = core->conns.next; link != &core->conns; link = link->next) {
        const struct rb_conn *conn = RB_CONTAINER(link, struct rb_conn, link_all);
        struct rb_conn_snapshot *out;
        if (conn->state >= RB_CONN_ENDING || conn->end_reason != RB_CLOSE_NONE ||
            !wanted(&snapshot->request, conn->cid, conn->account->id)) {
            continue;
        }
        if ((out = rb_snapshot_conn(snapshot)) == NULL) {
            return;
        }
        rb_conn_describe(conn, out);
        keep_texts(snapshot, out);
        if (snapshot->request.conn_certs) {
            copy_certs(snapshot, conn, out);
        }
        if (snapshot->request.conn_subs) {
            copy_subs(snapshot, conn, out);
        }
    }
}

static void copy_closed(struct rb_snapshot *snapshot, const struct rb_closed *closed)
{
    for (uint32_t i = 0; i < closed->count; i++) {
        const struct rb_closed_conn *entry = rb_closed_at(closed, i);
        struct rb_conn_snapshot *out;
        if (!wanted(&snapshot->request, entry->conn.cid, entry->conn.account)) {
            continue;
        }
        if ((out = rb_snapshot_conn(snapshot)) == NULL) {
            return;
        }
        *out = entry->conn;
        keep_texts(snapshot, out);
        out->subs = NULL;
        if (!snapshot->request.conn_subs || entry->conn.sub_count == 0) {
            continue;
        }
        out->subs = rb_snapshot_take(snapshot, out->sub_count * sizeof(*out->subs));
        if (out->subs == NULL) {
            out->sub_count = 0;
            continue;
        }
        for (uint32_t k = 0; k < out->sub_count; k++) {
            out->subs[k] = entry->conn.subs[k];
            out->subs[k].subject = rb_snapshot_text(snapshot, entry->conn.subs[k].subject);
            out->subs[k].queue = rb_snapshot_text(snapshot, entry->conn.subs[k].queue);
            out->subs[k].sid = rb_snapshot_text(snapshot, entry->conn.subs[k].sid);
        }
    }
}

/* Accounts and subscriptions */

static void copy_account(struct rb_snapshot *snapshot, const struct rb_account *account)
{
    struct rb_account_snapshot *out = rb_snapshot_account(snapshot);
    if (out == NULL) {
        return;
    }
    *out = (struct rb_account_snapshot){
        .id = account->id,
        .name = rb_snapshot_text(snapshot, account->name),
        .conns = rb_counter_get(&account->conn_count),
        .total_conns = rb_counter_get(&account->conns_total),
        .subs = rb_counter_get(&account->sub_count),
        .in_msgs = rb_counter_get(&account->in_msgs),
        .in_bytes = rb_counter_get(&account->in_bytes),
        .out_msgs = rb_counter_get(&account->out_msgs),
        .out_bytes = rb_counter_get(&account->out_bytes),
        .slow_consumers = rb_counter_get(&account->slow_consumers),
    };
    if (account->sublist == NULL) {
        return;
    }
    struct rb_sublist_stats stats;
    rb_sublist_stats(account->sublist, &stats);
    out->sublist_subs = stats.sub_count;
    out->cache_count = stats.cache_count;
    out->insert_count = stats.insert_count;
    out->remove_count = stats.remove_count;
    out->match_count = stats.match_count;
    out->cache_hit_count = stats.cache_hit_count;
    rb_sublist_fanout(account->sublist, &out->max_fanout, &out->fanout_sum, &out->fanout_count);
}

static void add_subs(struct rb_snapshot *snapshot, const struct rb_conn *conn)
{
    uint32_t at = 0;
    for (const struct rb_sub *sub; (sub = rb_map_next(&conn->subs, &at)) != NULL;) {
        struct rb_sub_snapshot *out = rb_snapshot_sub(snapshot);
        if (out == NULL) {
            return;
        }
        copy_sub(snapshot, sub, out);
    }
}

void rb_shard_snapshot(void *shard, void *arg)
{
    struct rb_snapshot *snapshot = arg;
    const struct rb_core *core = rb_shard_core(shard);
    const struct rb_snapshot_request *request = &snapshot->request;
    if (snapshot->arena == NULL) {
        return;
    }
    if ((request->conns & RB_CONNS_OPEN) != 0) {
        copy_open(snapshot, core);
    }
    if ((request->conns & RB_CONNS_CLOSED) != 0) {
        copy_closed(snapshot, rb_shard_closed(shard));
    }
    for (uint32_t id = 0; request->accounts && id < core->account_cap; id++) {
        if (core->accounts[id] != NULL && core->accounts[id]->policy != NULL) {
            copy_account(snapshot, core->accounts[id]);
        }
    }
    if (request->js) {
        rb_shard_snapshot_js(shard, snapshot);
    }
    for (const struct rb_list *link = core->conns.next; request->subs && link != &core->conns;
         link = link->next) {
        const struct rb_conn *conn = RB_CONTAINER(link, struct rb_conn, link_all);
        if (request->sub_account < 0 || request->sub_account == (int64_t)conn->account->id) {
            add_subs(snapshot, conn);
        }
    }
}
