/* fake_view.h - a server that does not exist: facts, accounts, connections and counters for tests of the monitor. */
#pragma once

#include "server/monitor.h"

/** Everything a view points to. */
struct fake_view {
    struct rb_config config;
    struct rb_config_lists lists;
    struct rb_policy *policy;
    struct rb_monitor_shard shards[2];
    struct rb_histogram turn[2], delivery[2], pending[2];
    struct rb_top_subject top[2][4];
    struct rb_snapshot snapshot;
    bool have_snapshot;
    struct rb_snapshot_request last_request;
    uint64_t now_wall_ns; /* 0: a fixed moment */
    uint64_t extra_msgs;  /* added to the counters: traffic */
    enum rb_err open_err, collect_err;
    bool not_accepting;
    bool jetstream;      /* account A has two streams, one of them with a consumer */
    bool stream_broken;  /* the second one is offline */
    uint32_t open_count; /* views that were opened and not closed */
    uint32_t many_conns; /* made in addition to the usual ones */
};

#define FAKE_NOW_NS                                                                                \
    (UINT64_C(1764038539) * 1000000000 + 438509995) /* 2025-11-25T02:42:19.438509995Z */
#define FAKE_ID "NCZ3VDO7ONQUJOE3EPTTLZ723ANLH6KOMS7VIWMXV3FPYXFMPKW2NKTB"

void fake_init(struct fake_view *fake);
void fake_deinit(struct fake_view *fake);
/** A source that gives views of `fake`. */
struct rb_monitor_source fake_source(struct fake_view *fake);
