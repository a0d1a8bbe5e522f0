/* monitor.h - what monitoring documents are made from, and the monitor itself (docs/monitor.md).
 *
 *   GET /connz?limit=2 --> http_server.c --> monitor.c: open view -> options -> plan -> collect -> build --> JSON
 *   $SYS.REQ.SERVER... --> (system services) ---------------'          the same builders (docs.h)
 *
 * A view is facts of the node, copied when it is opened, plus the snapshot that a document's plan asked for. Builders
 * read nothing else: no clock, no live state.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/env.h"
#include "ringbus/errors.h"
#include "ringbus/log.h"
#include "ringbus/metric.h"
#include "ringbus/transport.h"
#include "server/config.h"
#include "server/snapshot.h"

/** The pages whose requests /varz counts (http_req_stats), in the order of their names. */
enum rb_page {
    RB_PAGE_ROOT,
    RB_PAGE_ACCOUNTZ,
    RB_PAGE_ACCSTATZ,
    RB_PAGE_CONNZ,
    RB_PAGE_DASHBOARD,
    RB_PAGE_GATEWAYZ,
    RB_PAGE_HEALTHZ,
    RB_PAGE_JSZ,
    RB_PAGE_LEAFZ,
    RB_PAGE_METRICS,
    RB_PAGE_ROUTEZ,
    RB_PAGE_SUBSZ,
    RB_PAGE_VARZ,
    RB_PAGE_COUNTED, /* those from here on are not counted */
    RB_PAGE_DASHBOARDZ = RB_PAGE_COUNTED,
    RB_PAGE_DEBUG_VARS,
    RB_PAGE_IPQUEUESZ,
    RB_PAGE_RAFTZ,
    RB_PAGE_STACKSZ,
    RB_PAGE_COUNT
};
/** "/varz" and so on. */
const char *rb_page_path(enum rb_page page);

/** A subject with much traffic, from a shard's sampled table. `subject` lies in the view's source until close. */
struct rb_top_subject {
    struct rb_slice subject;
    uint64_t msgs,
        bytes; /* estimates since the shard started: counted samples times the sampling rate */
};
#define RB_TOP_SUBJECTS_MAX 64 /* per shard */

/** One shard's counters. Borrowed pointers to single-writer counters that any thread may read. */
struct rb_monitor_shard {
    uint64_t conns, conns_total, subs, in_msgs, in_bytes, out_msgs, out_bytes;
    uint64_t slow_consumers, stale_conns, queue_dropped, mail_dropped;
    uint64_t mapping_dropped, responses_dropped, auth_failed, tls_failed;
    uint64_t memory_used_bytes, memory_limit_bytes;                   /* limit 0: none */
    const struct rb_histogram *turn_ns, *delivery_ns, *pending_bytes; /* NULL: not measured */
    uint64_t js_publishes, js_refused, js_delivered, js_redelivered, js_consumer_acks;
    uint64_t log_batches, log_records, log_bytes, log_carried, log_files;
    const struct rb_histogram *js_commit_ns; /* of the shard's own home; NULL: no JetStream */
    const struct rb_top_subject *top;        /* most messages first */
    uint32_t top_count;
};

/** JetStream of the server. */
struct rb_monitor_jetstream {
    bool enabled;
    const char *directory;
    int64_t max_memory, max_storage;
    uint64_t memory, storage, reserved_memory, reserved_storage, api_total, api_errors;
    uint64_t accounts, streams, consumers, messages; /* accounts: that may use it */
};

struct rb_monitor_view {
    /* Who and when */
    const struct rb_config *config; /* sealed: policy and lists are there */
    const char *server_id, *server_name;
    const char *version;         /* of nats-server that we claim to be like */
    const char *ringbus_version; /* our own */
    const char *runtime;         /* "go" of /varz and INFO */
    const char *host;            /* what clients are told; NULL: the configured one */
    uint64_t now_wall_ns, start_wall_ns, config_load_wall_ns;
    uint16_t port;                  /* bound or advertised */
    uint16_t http_port, https_port; /* the monitor's, bound; 0: none */
    uint16_t ws_port;               /* bound; 0: none */
    bool accepting; /* the client listener takes connections (false: starting, lame duck) */
    int64_t tls_not_after_s, ws_tls_not_after_s; /* 0: no certificate */
    /* The process */
    double cpu_percent;
    uint64_t rss_bytes;
    uint32_t core_count;
    /* Counters */
    const struct rb_monitor_shard *shards;
    uint32_t shard_count;
    struct rb_monitor_jetstream jetstream;
    const uint64_t *http_requests; /* RB_PAGE_COUNTED counters; NULL: no monitor runs */
    /* What was asked for with `collect`; NULL before. Accounts are one entry per shard and account. */
    const struct rb_snapshot *snapshot;
};

/** Where views come from: the node, or a test. All calls on one thread at a time. */
struct rb_monitor_source {
    void *ctx;
    /** Fills everything but process, http and snapshot. What it points to lives until `close`. */
    enum rb_err (*open)(void *ctx, struct rb_monitor_view *view);
    /** Asks every shard; *ret_snapshot lives until `close`. RB_ERR_TIMEOUT, RB_ERR_CANCELED, RB_ERR_MEMORY. */
    enum rb_err (*collect)(void *ctx, const struct rb_snapshot_request *request,
                           const struct rb_snapshot **ret_snapshot);
    void (*close)(void *ctx, struct rb_monitor_view *view);
};

/** Sums over shards. */
struct rb_monitor_totals {
    uint64_t conns, conns_total, subs, in_msgs, in_bytes, out_msgs, out_bytes, slow_consumers,
        stale_conns;
};
void rb_monitor_sum(const struct rb_monitor_view *view, struct rb_monitor_totals *ret_totals);

/** The process as /proc/self/stat shows it. Zeroed before the first call; one per reader. */
struct rb_process_usage {
    uint64_t ticks, at_ns;
    double cpu_percent;
    uint64_t rss_bytes;
};
/**
 * Reads now. cpu_percent is over the time since the reading before; readings less than a second apart leave it alone;
 * the first is over the life of the process.
 */
void rb_process_usage_read(struct rb_process_usage *usage, uint64_t now_ns);

/* The monitor: an HTTP server on loopback with a thread of its own. */

struct rb_tls_context;

/** Makes the transport of the monitor's thread. */
struct rb_transport_factory {
    void *ctx;
    /** On the thread that will use it; once more after `destroy`. */
    enum rb_err (*create)(void *ctx, struct rb_budget *budget, struct rb_transport **ret_transport);
    /** Any thread, any time before `release`: makes its poll() return, now or the next time. */
    void (*wake)(void *ctx);
    /** On the same thread: destroys the transport, if one was made. */
    void (*destroy)(void *ctx);
    /** Any thread, last: frees `ctx`. */
    void (*release)(void *ctx);
};
/** The kernel's sockets through epoll (monitor_transport.c). RB_ERR_MEMORY, RB_ERR_LIMIT. */
RB_MUST_CHECK enum rb_err rb_monitor_factory(struct rb_transport_factory *ret_factory);

struct rb_monitor_options {
    struct rb_monitor_source source;
    struct rb_transport_factory factory; /* released by the monitor, also when it does not start */
    struct rb_log *log;
    const char *asked_host;     /* what configuration or flags named; empty or NULL: nothing */
    int32_t port;               /* -1: any free one */
    const char *base_path;      /* "/", "" or "/base" */
    struct rb_tls_context *tls; /* NULL: http; else https, see rb_monitor_set_tls */
};

struct rb_monitor;
#define RB_MONITOR_ERROR_MAX 256
/**
 * Starts the thread and binds 127.0.0.1 and, where the machine has it, ::1, on the same port; nothing else, whatever
 * `asked_host` names (then with a WRN line). Returns when it listens or has failed; `error` then says why.
 * Errors: RB_ERR_IN_USE, RB_ERR_ADDRESS, RB_ERR_LIMIT, RB_ERR_INVALID, RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_monitor_start(const struct rb_monitor_options *options,
                                           struct rb_monitor **ret_monitor,
                                           char error[RB_MONITOR_ERROR_MAX]);
/**
 * https: the context of connections accepted from now on (a reloaded certificate). One that asks for no client
 * certificate: browsers and scrapers have none. The monitor holds a count of its own. Thread: any.
 */
void rb_monitor_set_tls(struct rb_monitor *monitor, struct rb_tls_context *tls);
/** The port that is bound. */
uint16_t rb_monitor_port(const struct rb_monitor *monitor);
/** Requests per counted page so far. */
void rb_monitor_requests(const struct rb_monitor *monitor, uint64_t ret_counts[RB_PAGE_COUNTED]);
/** Ends the thread. A request under way is answered first; collect() must not block for ever. NULL is allowed. */
void rb_monitor_stop(struct rb_monitor *monitor);
