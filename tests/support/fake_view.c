/* fake_view.c - see fake_view.h.
 *
 * Accounts: "$G" (id 0), "SYS" (1), "A" (2: exports, mappings), "B" (3: imports). Open connections: cid 7 of A (busy,
 * three subscriptions), cid 8 of B (websocket, TLS, behind), cid 12 of "$G" (nameless). Closed: 9 of B, 10 refused.
 * Shard 0 has 7 and 9, shard 1 the others.
 */
#include "fake_view.h"

#include <stdlib.h>
#include <string.h>

#define S UINT64_C(1000000000)

static const struct rb_mapping_target to_b[] = { { RB_S("m.b"), 100, { 0 } } };
static const struct rb_mapping_target weighted[] = { { RB_S("w1"), 40, { 0 } },
                                                     { RB_S("w2"), 60, { 0 } } };
static const struct rb_mapping_target clustered[] = { { RB_S("c1"), 100, RB_S("X") } };
static const struct rb_mapping mappings[] = { { RB_S("w"), weighted, 2 },
                                              { RB_S("m.a"), to_b, 1 },
                                              { RB_S("cl"), clustered, 1 } };
static const uint32_t only_b[] = { 3 };
static const struct rb_export exports[] = {
    { .service = true, .subject = RB_S("q.>") },
    { .service = true, .subject = RB_S("str.*"), .response = RB_RESPONSE_STREAM },
    { .service = true,
      .subject = RB_S("lat"),
      .accounts = only_b,
      .account_count = 1,
      .restricted = true,
      .latency_subject = RB_S("lat.m"),
      .latency_sampling = 50 },
    { .subject = RB_S("s.>") },
};
static const struct rb_import imports[] = {
    { .account = 2, .subject = RB_S("s.>"), .prefix = RB_S("pre") },
    { .account = 2, .subject = RB_S("s.*"), .to = RB_S("loc.$1") },
    { .service = true, .account = 2, .subject = RB_S("q.1"), .to = RB_S("my.q") },
    { .service = true, .account = 2, .subject = RB_S("lat"), .share = true },
    { .service = true,
      .account = 2,
      .subject = RB_S("q.*.*"),
      .to = RB_S("my.$2.{{wildcard(1)}}") },
};
static const struct rb_policy_account accounts[] = {
    { .name = RB_S("$G"), .id = 0 },
    { .name = RB_S("SYS"), .id = 1 },
    { .name = RB_S("A"),
      .id = 2,
      .exports = exports,
      .export_count = 4,
      .mappings = mappings,
      .mapping_count = 3 },
    { .name = RB_S("B"), .id = 3, .imports = imports, .import_count = 5 },
};

static void make_policy(struct fake_view *fake)
{
    if (rb_policy_create(&fake->policy) != RB_OK) {
        abort();
    }
    fake->policy->accounts = accounts;
    fake->policy->account_count = 4;
    fake->policy->system_account = 1;
    if (rb_policy_seal(fake->policy) != RB_OK) {
        abort();
    }
}

void fake_init(struct fake_view *fake)
{
    static const char *tags[] = { "az:1", "<b>" };
    static struct rb_text_pair metadata[] = { { "k", "v&" } };
    memset(fake, 0, sizeof(*fake));
    make_policy(fake);
    fake->lists.tags = tags;
    fake->lists.tag_count = 2;
    fake->lists.metadata = metadata;
    fake->lists.metadata_count = 1;
    struct rb_config *config = &fake->config;
    rb_config_defaults(config);
    config->policy = fake->policy;
    config->lists = &fake->lists;
    config->port = 4222;
    config->http_port = 8222;
    (void)strcpy(config->host, "127.0.0.1");
    (void)strcpy(config->http_base_path, "/");
    (void)strcpy(config->config_digest, "sha256:00");
    config->max_connections = 65536;
    config->auth_timeout_ns = 2 * S;
    config->max_control_line = 4096;
    config->max_payload = 1048576;
    config->max_pending_bytes = 67108864;
    config->ping_interval_ns = 120 * S;
    config->ping_max = 2;
    config->write_deadline_ns = 10 * S;
}

void fake_deinit(struct fake_view *fake)
{
    if (fake->have_snapshot) {
        rb_snapshot_deinit(&fake->snapshot);
    }
    rb_policy_release(fake->policy);
}

/* Facts */

static uint64_t now_of(const struct fake_view *fake)
{
    return fake->now_wall_ns != 0 ? fake->now_wall_ns : FAKE_NOW_NS;
}

static void fill_shard(struct fake_view *fake, uint32_t i)
{
    static const char *const subjects[] = { "orders.eu.created", "telemetry.sensor.17", "q.1",
                                            "a.very.long.subject.with.many.tokens.<b>&" };
    struct rb_monitor_shard *shard = &fake->shards[i];
    uint64_t extra = fake->extra_msgs;
    *shard = (struct rb_monitor_shard){
        .conns = 1 + i + (i == 0 ? fake->many_conns : 0),
        .conns_total = 3 + i,
        .subs = 5,
        .in_msgs = 100 + 10 * i + extra,
        .in_bytes = 1000 + extra * 128,
        .out_msgs = 200 + extra * (2 + i),
        .out_bytes = 2000 + extra * 256,
        .slow_consumers = i,
        .stale_conns = 1 - i,
        .memory_used_bytes = 3 << 20,
        .memory_limit_bytes = 1 << 30,
        .turn_ns = &fake->turn[i],
        .delivery_ns = &fake->delivery[i],
        .pending_bytes = &fake->pending[i],
        .top = fake->top[i],
        .top_count = 3 + i,
    };
    for (uint32_t j = 0; j < shard->top_count; j++) {
        fake->top[i][j] =
            (struct rb_top_subject){ rb_slice_text(subjects[j]), 1000 / (j + 1) + extra / (j + 1),
                                     100000 / (j + 1) + extra * 64 };
    }
}

static enum rb_err open_view(void *ctx, struct rb_monitor_view *view)
{
    struct fake_view *fake = ctx;
    if (fake->open_err != RB_OK) {
        return fake->open_err;
    }
    fill_shard(fake, 0);
    fill_shard(fake, 1);
    fake->open_count++;
    *view = (struct rb_monitor_view){
        .config = &fake->config,
        .server_id = FAKE_ID,
        .server_name = "fake <1>",
        .version = "2.15.1",
        .ringbus_version = "0.1.0",
        .runtime = "c17",
        .now_wall_ns = now_of(fake),
        .start_wall_ns = FAKE_NOW_NS - 3725 * S,
        .config_load_wall_ns = FAKE_NOW_NS - 3725 * S,
        .port = 4222,
        .ws_port = 4223,
        .accepting = !fake->not_accepting,
        .cpu_percent = 1.5,
        .rss_bytes = 8 << 20,
        .core_count = 2,
        .shards = fake->shards,
        .shard_count = 2,
    };
    if (fake->jetstream) {
        view->jetstream = (struct rb_monitor_jetstream){ .enabled = true,
                                                         .directory = "/store/jetstream",
                                                         .max_memory = 1 << 20,
                                                         .max_storage = 1 << 30,
                                                         .memory = 5,
                                                         .storage = 71,
                                                         .reserved_storage = 7,
                                                         .api_total = 9,
                                                         .api_errors = 1,
                                                         .accounts = 2,
                                                         .streams = 2,
                                                         .consumers = 1,
                                                         .messages = 3 };
    }
    return RB_OK;
}

static void close_view(void *ctx, struct rb_monitor_view *view)
{
    struct fake_view *fake = ctx;
    fake->open_count--;
    if (fake->have_snapshot) {
        rb_snapshot_deinit(&fake->snapshot);
        fake->have_snapshot = false;
    }
}

/* The snapshot */

static void add_sub(struct rb_snapshot *snapshot, struct rb_sub_snapshot sub)
{
    *rb_snapshot_sub(snapshot) = sub;
}

static const struct rb_sub_snapshot subs_of_7[] = {
    { .subject = RB_S("q.>"), .sid = RB_S("1"), .cid = 7, .account = 2 },
    { .subject = RB_S("q.>"), .queue = RB_S("wk"), .sid = RB_S("22"), .cid = 7, .account = 2 },
    { .subject = RB_S("foo"), .sid = RB_S("3"), .cid = 7, .msgs = 1, .max = 7, .account = 2 },
};
static const struct rb_sub_snapshot subs_of_8[] = {
    { .subject = RB_S("pre.s.>"), .sid = RB_S("9"), .cid = 8, .account = 3 },
    { .subject = RB_S("loc.*"), .sid = RB_S("1"), .cid = 8, .account = 3 },
};
static const struct rb_sub_snapshot subs_of_9[] = {
    { .subject = RB_S("z"), .sid = RB_S("1"), .cid = 9, .account = 3 },
};

static void set_subs(struct rb_snapshot *snapshot, struct rb_conn_snapshot *conn,
                     const struct rb_sub_snapshot *subs, uint32_t count)
{
    conn->sub_count = count;
    if (snapshot->request.conn_subs) {
        conn->subs = rb_snapshot_take(snapshot, count * sizeof(*subs));
        memcpy(conn->subs, subs, count * sizeof(*subs));
    }
}

static struct rb_conn_snapshot *add_conn(struct rb_snapshot *snapshot, uint64_t now_ns,
                                         uint64_t cid, uint32_t account, const char *name)
{
    const struct rb_snapshot_request *request = &snapshot->request;
    if ((request->cid != 0 && request->cid != cid) ||
        (request->conn_account >= 0 && request->conn_account != (int64_t)account)) {
        return NULL;
    }
    struct rb_conn_snapshot *conn = rb_snapshot_conn(snapshot);
    conn->cid = cid;
    conn->type = RB_TYPE_STANDARD;
    conn->peer =
        (struct rb_addr){ .family = 4, .ip = { 127, 0, 0, 1 }, .port = (uint16_t)(34000 + cid) };
    conn->start_wall_ns = now_ns - (100 - cid % 50) * S;
    conn->last_wall_ns = now_ns - cid % 50 * S;
    conn->rtt_ns = 481234;
    conn->account = account;
    conn->account_name = accounts[account].name;
    conn->name = rb_slice_text(name);
    return conn;
}

static void fill_open(struct fake_view *fake, struct rb_snapshot *snapshot)
{
    struct rb_conn_snapshot *conn = add_conn(snapshot, now_of(fake), 12, 0, "");
    if (conn != NULL) {
        conn->rtt_ns = 0;
        conn->in_msgs = 5;
    }
    conn = add_conn(snapshot, now_of(fake), 8, 3, "");
    if (conn != NULL) {
        conn->type = RB_TYPE_WEBSOCKET;
        conn->user = RB_S("b");
        conn->tls_version = "1.3";
        conn->tls_cipher = "TLS_AES_128_GCM_SHA256";
        conn->pending_bytes = 123456789;
        conn->out_msgs = 50 + fake->extra_msgs * 2;
        conn->out_bytes = 5000 + fake->extra_msgs * 256;
        set_subs(snapshot, conn, subs_of_8, 2);
        if (snapshot->request.conn_certs) {
            conn->certs = rb_snapshot_take(snapshot, sizeof(*conn->certs));
            conn->certs->subject = RB_S("CN=b");
            (void)strcpy(conn->certs->spki_sha256, "aa");
            (void)strcpy(conn->certs->cert_sha256, "bb");
            conn->cert_count = 1;
        }
    }
    conn = add_conn(snapshot, now_of(fake), 7, 2, "<cli>&");
    if (conn != NULL) {
        conn->user = RB_S("a");
        conn->lang = RB_S("c");
        conn->version = RB_S("1");
        conn->in_msgs = 2 + fake->extra_msgs;
        conn->in_bytes = 7 + fake->extra_msgs * 128;
        conn->out_msgs = 1;
        conn->out_bytes = 2;
        set_subs(snapshot, conn, subs_of_7, 3);
    }
    for (uint32_t i = 0; i < fake->many_conns; i++) {
        conn = add_conn(snapshot, now_of(fake), 100 + i, 0, "one of many");
        if (conn != NULL) {
            conn->in_msgs = i + fake->extra_msgs / (i + 1);
            conn->in_bytes = conn->in_msgs * 16;
            conn->sub_count = i % 4;
        }
    }
}

static void fill_closed(struct fake_view *fake, struct rb_snapshot *snapshot)
{
    struct rb_conn_snapshot *conn = add_conn(snapshot, now_of(fake), 9, 3, "gone");
    if (conn != NULL) {
        conn->user = RB_S("b");
        conn->stop_wall_ns = now_of(fake) - 2 * S;
        conn->last_wall_ns = conn->stop_wall_ns;
        conn->reason = "Slow Consumer (Pending Bytes)";
        conn->pending_bytes = 67108900;
        set_subs(snapshot, conn, subs_of_9, 1);
    }
    conn = add_conn(snapshot, now_of(fake), 10, 0, "");
    if (conn != NULL) {
        conn->account_name = (struct rb_slice){ 0 };
        conn->user = RB_S("x");
        conn->stop_wall_ns = now_of(fake) - S;
        conn->reason = "Authentication Failure";
    }
}

static void fill_accounts(struct rb_snapshot *snapshot)
{
    for (uint32_t shard = 0; shard < 2; shard++) {
        for (uint32_t id = 0; id < 4; id++) {
            struct rb_account_snapshot *account = rb_snapshot_account(snapshot);
            *account = (struct rb_account_snapshot){
                .id = id,
                .name = accounts[id].name,
                .conns = id == 2   ? 1 - shard
                         : id == 3 ? shard
                                   : 0,
                .subs = id == 2   ? 2 - shard
                        : id == 3 ? shard
                                  : 0,
                .sublist_subs = id == 2   ? 2 - shard
                                : id == 3 ? shard
                                          : 0,
                .in_msgs = id * 10,
                .in_bytes = id * 100,
                .out_msgs = id,
                .out_bytes = id * 7,
                .insert_count = 9,
                .remove_count = 1,
                .match_count = 7,
                .cache_hit_count = 2,
                .cache_count = 2,
                .max_fanout = 1 + shard,
                .fanout_sum = 3,
                .fanout_count = 2,
            };
        }
    }
}

static void fill_streams(const struct fake_view *fake, struct rb_snapshot *snapshot,
                         struct rb_js_account_snapshot *account)
{
    struct rb_stream_snapshot *streams = rb_snapshot_take(snapshot, 2 * sizeof(*streams));
    streams[0] = (struct rb_stream_snapshot){ .name = RB_S("ORDERS"),
                                              .created_ns = FAKE_NOW_NS - 9 * S,
                                              .messages = 3,
                                              .bytes = 76,
                                              .first_seq = 1,
                                              .last_seq = 3,
                                              .consumer_count = 1 };
    streams[1] = (struct rb_stream_snapshot){ .name = RB_S("SPARE") };
    if (fake->stream_broken) {
        streams[1].offline = true;
        streams[1].why = RB_S("a command is unknown");
    }
    if (snapshot->request.js_documents) {
        streams[0].config = RB_S("{\"name\":\"ORDERS\",\"subjects\":[\"o.\\u003e\"],\"x\":{}}");
        streams[0].state = RB_S("{\"messages\":3,\"bytes\":76}");
        streams[1].config = fake->stream_broken ? RB_S("") : RB_S("{\"name\":\"SPARE\"}");
        streams[1].state = fake->stream_broken ? RB_S("") : RB_S("{\"messages\":0}");
    }
    if (snapshot->request.js_consumers) {
        streams[0].consumers = rb_snapshot_take(snapshot, sizeof(*streams[0].consumers));
        streams[0].consumers[0] = (struct rb_consumer_snapshot){
            .name = RB_S("C"),
            .description = RB_S("a \"quoted\" one"),
            .created_ns = FAKE_NOW_NS - 8 * S,
            .info = RB_S(
                "\"stream_name\":\"ORDERS\",\"name\":\"C\",\"config\":{\"a\":[1,{\"b\":\"},\"}]},"
                "\"num_pending\":2"),
            .delivered_stream_seq = 1,
            .pending = 2
        };
        streams[0].listed_count = 1;
    }
    account->streams = streams;
    account->listed_count = 2;
}

static void fill_jetstream(const struct fake_view *fake, struct rb_snapshot *snapshot)
{
    const char *only = snapshot->request.js_account;
    for (uint32_t id = 3; id >= 2; id--) { /* not in the order of their names */
        if (only[0] != '\0' && !rb_slice_equal(accounts[id].name, rb_slice_text(only))) {
            continue;
        }
        struct rb_js_account_snapshot *account = rb_snapshot_js_account(snapshot);
        *account = (struct rb_js_account_snapshot){ .name = accounts[id].name,
                                                    .memory = 5,
                                                    .storage = 71,
                                                    .max_memory = -1,
                                                    .max_storage = 1000,
                                                    .api_total = id };
        if (id == 2 && snapshot->request.js_streams) {
            fill_streams(fake, snapshot, account);
        }
    }
}

static enum rb_err collect(void *ctx, const struct rb_snapshot_request *request,
                           const struct rb_snapshot **ret_snapshot)
{
    struct fake_view *fake = ctx;
    fake->last_request = *request;
    if (fake->collect_err != RB_OK) {
        return fake->collect_err;
    }
    rb_snapshot_init(&fake->snapshot, request);
    fake->have_snapshot = true;
    if (request->conns & RB_CONNS_OPEN) {
        fill_open(fake, &fake->snapshot);
    }
    if (request->conns & RB_CONNS_CLOSED) {
        fill_closed(fake, &fake->snapshot);
    }
    if (request->accounts) {
        fill_accounts(&fake->snapshot);
    }
    if (request->js) {
        fill_jetstream(fake, &fake->snapshot);
    }
    if (request->subs) {
        for (size_t i = 0; i < 3; i++) {
            if (request->sub_account < 0 || request->sub_account == 2) {
                add_sub(&fake->snapshot, subs_of_7[i]);
            }
        }
        for (size_t i = 0; i < 2; i++) {
            if (request->sub_account < 0 || request->sub_account == 3) {
                add_sub(&fake->snapshot, subs_of_8[i]);
            }
        }
    }
    *ret_snapshot = &fake->snapshot;
    return RB_OK;
}

struct rb_monitor_source fake_source(struct fake_view *fake)
{
    return (struct rb_monitor_source){
        .ctx = fake, .open = open_view, .collect = collect, .close = close_view
    };
}
