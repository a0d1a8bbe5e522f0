/* node_inside.h - what node.c (start, stop), reload.c and lameduck.c share. */
#pragma once

#include <pthread.h>

#include "base/work.h"
#include "ringbus/env.h"
#include "server/account_ids.h"
#include "server/driver.h"
#include "server/mailbox.h"
#include "server/node.h"
#include "server/shard.h"

struct node_shard {
    struct rb_node *node;
    pthread_t thread;
    uint32_t index;
    int cpu; /* -1: not pinned */
    bool running;
    enum rb_err err;
    char why[RB_DRIVER_WHY_MAX];
    struct rb_budget budget;
    struct rb_env env;
    struct rb_transport *transport;
    struct rb_shard *shard;
    struct rb_jetstream_part *jetstream; /* NULL: none */
};

/** One configuration that was in force; counted, because monitors read it while a reload replaces it. */
struct node_config {
    _Atomic uint32_t ref_count;
    uint64_t load_wall_ns;
    struct rb_config config;
};

enum node_state { NODE_SERVES, NODE_LAME_DUCK, NODE_ENDED };

struct rb_node {
    struct rb_log *log;
    struct rb_node_host host;
    struct rb_node_shared shared;
    struct rb_mail mail;
    struct rb_driver *driver;
    struct rb_work *work;
    struct rb_services *services;
    struct rb_account_table accounts;
    struct rb_account_ids ids;
    pthread_mutex_t ids_lock; /* of `ids`: shards ask for accounts of streams that they found */
    struct rb_jetstream *jetstream;           /* NULL: it is off */
    const struct rb_config *jetstream_config; /* the one at start, held */
    uint64_t jetstream_ns;                    /* when it began to start */
    bool have_mail;
    struct rb_addr bound, ws_bound;
    struct node_shard *shards;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t up_count; /* shards that made what they need, or failed to */
    bool go, abandon;  /* after up_count is full: run, or end at once */
    bool listened;     /* shard 0 has tried to */
    bool release;      /* shards may free themselves */
    bool hurry;        /* the end must not wait for lame duck mode */
    enum node_state state;
    struct node_config *current; /* holds a count */
    char listen_error[RB_NODE_ERROR_MAX];
    _Atomic uint32_t stopped_count;
    pthread_mutex_t reload_lock; /* one reload at a time; `settled` is its */
    bool settled;                /* no reload any more: the host begins to stop */
    pthread_t duck;
    bool have_duck;
};

/** Ids of the policy's accounts. */
RB_MUST_CHECK enum rb_err rb_node_assign_ids(struct rb_node *node, const struct rb_policy *policy);
/** Copies `config`. NULL: memory is refused. */
struct node_config *rb_node_config_make(const struct rb_config *config, uint64_t load_wall_ns);
void rb_node_wake_all(struct rb_node *node);
/** Runs when connections are to end and shards to stop; `lock` is held. */
void rb_node_end(struct rb_node *node);
/** Ends lame duck mode, if there is any, and its thread. */
void rb_node_duck_join(struct rb_node *node);
