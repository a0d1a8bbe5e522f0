/* reload.c - a new configuration while running.
 *
 *   wanted --> differs where it may? --> account ids, settings (certificates) --> host: log, files --> shard after shard
 *              `--------------------------- may fail: then nothing has happened ---------------'  `--- cannot fail ---'
 *
 * 1. Everything that can fail comes before the first shard is told. A shard that runs out of memory while it applies keeps
 *    serving without some imports, and says so.
 * 2. One shard at a time applies settings (shard.c, invariant 4); messages between shards that have them and shards that do
 *    not yet are the same, since accounts are known by ids that never change their meaning.
 * 3. `reload_lock` covers all of it, the account ids and shared.settings.
 */
#include <inttypes.h>
#include <stdio.h>

#include "ringbus/check.h"
#include "server/jetstream.h"
#include "server/node_inside.h"
#include "server/orders.h"
#include "server/settings.h"

struct apply {
    struct rb_task task;
    struct node_shard *to;
    const struct rb_core_settings *settings;
    uint32_t changes;
    int64_t conn_limit;
    uint64_t shed_count;
    bool done;
};

static void apply_here(struct rb_shard *shard, struct rb_task *task)
{
    struct apply *apply = (struct apply *)task;
    struct rb_node *node = apply->to->node;
    if (rb_shard_apply(shard, apply->settings) != RB_OK) {
        rb_log_err(node->log, "memory budget spent: shard %u lost some imports in the reload",
                   rb_shard_index(shard));
    }
    if ((apply->changes & RB_CHANGE_INFO) != 0) {
        rb_order_tell_info(shard);
    }
    if (apply->shed_count > 0) {
        rb_order_shed(shard, apply->conn_limit, apply->shed_count);
    }
    pthread_mutex_lock(&node->lock);
    apply->done = true;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

/* The shard's part of the connections that are too many, rounded up; the node's count is the last word. */
static uint64_t part_of_excess(const struct node_shard *s, const struct rb_config *wanted)
{
    const struct rb_node *node = s->node;
    int64_t limit = wanted->max_connections < 0 ? 0 : wanted->max_connections;
    int64_t count = atomic_load(&node->shared.conn_count);
    if (wanted->max_connections == 0 || count <= limit) {
        return 0;
    }
    uint64_t own = rb_counter_get(&rb_shard_stats(s->shard)->conns);
    return (own * (uint64_t)(count - limit) + (uint64_t)count - 1) / (uint64_t)count;
}

static void apply_all(struct rb_node *node, struct rb_core_settings *settings,
                      const struct rb_config *wanted, const struct rb_config_changes *changes)
{
    uint64_t shed[RB_SHARDS_MAX] = { 0 };
    for (uint32_t i = 0; i < node->shared.shard_count; i++) {
        if ((changes->what & RB_CHANGE_CONNECTIONS) != 0) {
            shed[i] = part_of_excess(&node->shards[i], wanted);
        }
    }
    for (uint32_t i = 0; i < node->shared.shard_count; i++) {
        struct apply apply = { .task = { .run = apply_here },
                               .to = &node->shards[i],
                               .settings = rb_settings_hold(settings),
                               .changes = changes->what,
                               .conn_limit = wanted->max_connections,
                               .shed_count = shed[i] };
        if (!rb_node_post(node, i, &apply.task)) {
            rb_core_settings_release(settings);
            continue; /* it stops: nobody will ask it any more */
        }
        pthread_mutex_lock(&node->lock);
        while (!apply.done) {
            pthread_cond_wait(&node->changed, &node->lock);
        }
        pthread_mutex_unlock(&node->lock);
    }
}

static enum rb_err prepare(struct rb_node *node, const struct rb_config *wanted,
                           const struct rb_config_changes *changes,
                           struct rb_core_settings **ret_settings, char *error)
{
    const struct rb_config *running = &node->current->config;
    if (node->shared.auth_hook != NULL) {
        ((struct rb_policy *)(uintptr_t)wanted->policy)->custom = true; /* nobody reads it yet */
    }
    enum rb_err err = rb_node_assign_ids(node, wanted->policy);
    if (err != RB_OK) {
        (void)snprintf(error, RB_CONFIG_ERROR_MAX, "accounts: %s", rb_err_text(err));
        return err;
    }
    err = rb_settings_make(wanted, &node->shared, ret_settings, error);
    if (err == RB_OK && node->host.prepare != NULL) {
        err = node->host.prepare(node->host.ctx, running, wanted, changes, error);
        if (err != RB_OK) {
            rb_core_settings_release(*ret_settings);
        }
    }
    return err;
}

static void log_changes(struct rb_node *node, const struct rb_config *now,
                        const struct rb_config_changes *changes)
{
    for (uint32_t i = 0; i < changes->count; i++) {
        rb_log_inf(node->log, "%s", changes->lines[i]);
    }
    if (now->config_digest[0] != '\0') {
        rb_log_inf(node->log, "Reloaded server configuration (%s)", now->config_digest);
    } else {
        rb_log_inf(node->log, "Reloaded server configuration");
    }
}

static enum rb_err reload_locked(struct rb_node *node, struct node_config *fresh, char *error)
{
    struct rb_config_changes changes;
    struct rb_core_settings *settings;
    struct node_config *before = node->current;
    const struct rb_config *now = &fresh->config;
    if (node->settled || atomic_load(&node->shared.stopping) != 0) {
        (void)snprintf(error, RB_CONFIG_ERROR_MAX, "the server stops");
        return RB_ERR_CANCELED;
    }
    enum rb_err err = rb_config_diff(&before->config, now, &changes, error);
    if (err == RB_OK) {
        err = prepare(node, now, &changes, &settings, error);
    }
    if (err != RB_OK) {
        return err;
    }
    if (node->jetstream != NULL) {
        rb_jetstream_reload(node->jetstream, now);
    }
    node->log->debug = now->debug;
    node->log->trace = now->trace;
    apply_all(node, settings, now, &changes);
    pthread_mutex_lock(&node->lock);
    const struct rb_core_settings *old = node->shared.settings;
    node->shared.settings = settings;
    node->current = fresh;
    pthread_mutex_unlock(&node->lock);
    rb_core_settings_release(old);
    if (node->host.applied != NULL) {
        node->host.applied(node->host.ctx, &before->config, now, &changes);
    }
    log_changes(node, now, &changes);
    rb_node_config_release(&before->config);
    return RB_OK;
}

static enum rb_err reload(struct rb_node *node, const struct rb_config *wanted, char *error)
{
    struct rb_env env;
    rb_env_init_system(&env);
    error[0] = '\0';
    struct node_config *fresh = rb_node_config_make(wanted, env.wall_ns(env.ctx));
    if (fresh == NULL) {
        (void)snprintf(error, RB_CONFIG_ERROR_MAX, "%s", rb_err_text(RB_ERR_MEMORY));
        return RB_ERR_MEMORY;
    }
    enum rb_err err = reload_locked(node, fresh, error);
    if (err != RB_OK) {
        rb_node_config_release(&fresh->config);
        if (error[0] == '\0') {
            (void)snprintf(error, RB_CONFIG_ERROR_MAX, "%s", rb_err_text(err));
        }
    }
    return err;
}

void rb_node_settle(struct rb_node *node)
{
    pthread_mutex_lock(&node->reload_lock);
    node->settled = true;
    pthread_mutex_unlock(&node->reload_lock);
}

enum rb_err rb_node_reload(struct rb_node *node, const struct rb_config *wanted,
                           char error[RB_CONFIG_ERROR_MAX])
{
    pthread_mutex_lock(&node->reload_lock);
    enum rb_err err = reload(node, wanted, error);
    pthread_mutex_unlock(&node->reload_lock);
    return err;
}

static enum rb_err load_and_reload(struct rb_node *node, char *error)
{
    if (node->host.load == NULL) {
        (void)snprintf(error, RB_CONFIG_ERROR_MAX,
                       "can only reload config when a file is provided using -c or --config");
        return RB_ERR_INVALID;
    }
    struct rb_config wanted;
    error[0] = '\0';
    enum rb_err err = node->host.load(node->host.ctx, &node->current->config, &wanted, error);
    if (err != RB_OK) {
        return err;
    }
    if (error[0] != '\0') {
        rb_log_wrn(node->log, "%s", error);
    }
    err = reload(node, &wanted, error);
    rb_config_deinit(&wanted);
    return err;
}

enum rb_err rb_node_reload_again(struct rb_node *node, char error[RB_CONFIG_ERROR_MAX])
{
    pthread_mutex_lock(&node->reload_lock);
    enum rb_err err = load_and_reload(node, error);
    pthread_mutex_unlock(&node->reload_lock);
    if (err != RB_OK) {
        rb_log_err(node->log, "Failed to reload server configuration: %s", error);
    }
    return err;
}
