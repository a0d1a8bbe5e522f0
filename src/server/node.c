/* node.c - assembly of a server.
 *
 * 1. Everything a shard uses (ring, transport, memory) is made and unmade on the shard's own thread, because an
 *    io_uring with SINGLE_ISSUER belongs to the thread that made it.
 * 2. Shard 0 listens only when all shards are up, so that any of them can be handed a connection.
 * 3. With JetStream shard 0 listens when every stream is recovered: who connects finds all of them.
 * 4. A shard's thread ends when all shards have stopped: until then it takes the others' mail.
 */
#include "server/node.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "auth/custom.h"
#include "auth/nkey.h"
#include "ringbus/check.h"
#include "server/events.h"
#include "server/jetstream.h"
#include "server/monitor.h"
#include "server/node_inside.h"
#include "server/orders.h"
#include "server/services.h"
#include "server/settings.h"
#include "server/snapshot.h"

#define STOP_POLL_NS 5000000
#define CLOSE_TURNS_MAX 2000
#define WORK_THREADS_MIN 2 /* a password hash must not hold up the next one alone */
#define WORK_THREADS_MAX 4
#define ORDER_NS INT64_C(2000000000)
#define ANNOUNCE_NS INT64_C(1000000000)

static uint64_t wall_ns(void)
{
    struct rb_env env;
    rb_env_init_system(&env);
    return env.wall_ns(env.ctx);
}

/* The thread of a shard */

static enum rb_err open_disk(void *ctx, const char *path, struct rb_disk **ret_disk, char why[128])
{
    struct node_shard *s = ctx;
    return rb_driver_open_disk(s->node->driver, s->index, path, ret_disk, why);
}

static enum rb_err make_shard(struct node_shard *s)
{
    struct rb_node *node = s->node;
    rb_env_init_system(&s->env);
    enum rb_err err = rb_driver_open(node->driver, s->index, &s->budget, &s->transport, s->why);
    if (err != RB_OK) {
        return err;
    }
    struct rb_shard_options shard_options = { .index = s->index,
                                              .shared = &node->shared,
                                              .env = &s->env,
                                              .transport = s->transport,
                                              .budget = &s->budget };
    err = rb_shard_create(&shard_options, &s->shard);
    if (err == RB_OK && node->jetstream != NULL) {
        err = rb_jetstream_part_create(node->jetstream, rb_shard_core(s->shard), open_disk, s,
                                       &s->jetstream, s->why);
        rb_shard_set_jetstream(s->shard, s->jetstream);
    }
    return err;
}

/* Homes of a shard that never ran, because something else failed, are closed here. False: their disk hangs. */
static bool close_jetstream(struct node_shard *s)
{
    if (s->jetstream == NULL) {
        return true;
    }
    rb_jetstream_part_close(s->jetstream);
    for (uint32_t i = 0; i < CLOSE_TURNS_MAX && !rb_jetstream_part_closed(s->jetstream); i++) {
        (void)rb_shard_turn(s->shard, STOP_POLL_NS);
    }
    bool closed = rb_jetstream_part_closed(s->jetstream);
    if (closed) {
        rb_jetstream_part_destroy(s->jetstream);
    }
    return closed;
}

static void unmake_shard(struct node_shard *s)
{
    if ((s->shard != NULL && rb_shard_gave_up(s->shard)) || !close_jetstream(s)) {
        return; /* what hangs in the kernel keeps its memory */
    }
    if (s->shard != NULL) {
        rb_shard_destroy(s->shard);
    }
    rb_driver_close(s->node->driver, s->index);
}

static void pin_thread(const struct node_shard *s)
{
    if (s->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)s->cpu, &set);
        (void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    }
}

static bool wait_for_go(struct node_shard *s)
{
    struct rb_node *node = s->node;
    pthread_mutex_lock(&node->lock);
    node->up_count++;
    pthread_cond_broadcast(&node->changed);
    while (!node->go && !node->abandon) {
        pthread_cond_wait(&node->changed, &node->lock);
    }
    bool run = node->go && s->err == RB_OK;
    pthread_mutex_unlock(&node->lock);
    return run;
}

static bool is_any_ipv4(const struct rb_addr *addr)
{
    static const uint8_t any[4];
    return addr->family == 4 && memcmp(addr->ip, any, sizeof(any)) == 0;
}

/* As nats-server: "0.0.0.0" takes IPv6 too. False where the machine has none; then nothing is bound. */
static bool listen_both(struct node_shard *s, struct rb_addr addr, uint32_t type,
                        struct rb_addr *ret_bound, enum rb_err *ret_err)
{
    struct rb_addr both = { .family = 6, .port = addr.port };
    *ret_err = rb_shard_listen(s->shard, &both, NULL, type, ret_bound);
    if (*ret_err == RB_OK) {
        addr.port = ret_bound->port;
        *ret_bound = addr;
    }
    return *ret_err == RB_OK || *ret_err == RB_ERR_IN_USE || *ret_err == RB_ERR_LIMIT;
}

static enum rb_err listen_at(struct node_shard *s, const char *host, int32_t port, uint32_t type,
                             struct rb_addr *ret_bound)
{
    struct rb_addr addr;
    enum rb_err err = rb_addr_parse(host, port < 0 ? 0 : (uint16_t)port, &addr);
    if (err == RB_OK && (!is_any_ipv4(&addr) || !listen_both(s, addr, type, ret_bound, &err))) {
        err = rb_shard_listen(s->shard, &addr, NULL, type, ret_bound);
    }
    if (err != RB_OK) {
        struct rb_node *node = s->node;
        const char *shown = host[0] == '\0' ? "0.0.0.0" : host;
        (void)snprintf(node->listen_error, sizeof(node->listen_error),
                       "Error listening on port: %s:%d, \"listen tcp %s:%d: bind: %s\"", shown,
                       port, shown, port,
                       err == RB_ERR_IN_USE ? "address already in use" : rb_err_text(err));
    }
    return err;
}

static enum rb_err listen_unix(struct node_shard *s, const char *path)
{
    struct rb_addr none = { 0 }, bound;
    enum rb_err err = rb_shard_listen(s->shard, &none, path, RB_TYPE_STANDARD, &bound);
    if (err != RB_OK) {
        (void)snprintf(s->node->listen_error, sizeof(s->node->listen_error),
                       "Error listening on unix_socket \"%s\": %s", path,
                       err == RB_ERR_IN_USE ? "another server listens there" : rb_err_text(err));
    }
    return err;
}

static void listen_first(struct node_shard *s)
{
    struct rb_node *node = s->node;
    const struct rb_config *config = &node->current->config;
    enum rb_err err = RB_OK;
    if (config->ws_set && config->ws_port != 0) {
        err = listen_at(s, config->ws_host, config->ws_port, RB_TYPE_WEBSOCKET, &node->ws_bound);
    }
    if (err == RB_OK && config->unix_socket[0] != '\0') {
        err = listen_unix(s, config->unix_socket);
    }
    if (err == RB_OK) {
        err = listen_at(s, config->host, config->port, RB_TYPE_STANDARD, &node->bound);
    }
    pthread_mutex_lock(&node->lock);
    s->err = err;
    node->listened = true;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

/* In Go's form of a duration, as nats-server's line. */
static void log_jetstream_start(struct rb_node *node)
{
    uint64_t now_ns = wall_ns();
    rb_log_inf(node->log, "Took %.3fms to start JetStream",
               (double)(now_ns - node->jetstream_ns) / 1e6);
}

/* Invariant 3. True when it has listened, or will not. */
static bool listen_when_ready(struct node_shard *s)
{
    struct rb_node *node = s->node;
    char why[RB_JETSTREAM_ERROR_MAX];
    if (node->jetstream == NULL) {
        listen_first(s);
        return true;
    }
    if (rb_jetstream_failed(node->jetstream, why)) {
        pthread_mutex_lock(&node->lock);
        (void)snprintf(node->listen_error, sizeof(node->listen_error),
                       "Can't start JetStream: %.900s", why);
        s->err = RB_ERR_IO;
        node->listened = true;
        pthread_cond_broadcast(&node->changed);
        pthread_mutex_unlock(&node->lock);
        return true;
    }
    if (!rb_jetstream_ready(node->jetstream)) {
        return false;
    }
    log_jetstream_start(node);
    listen_first(s);
    return true;
}

/* A node that ended by itself keeps its shards for those who still read their counters. */
static void wait_for_release(struct rb_node *node, struct rb_shard *shard)
{
    rb_shard_close(shard);
    pthread_mutex_lock(&node->lock);
    pthread_cond_broadcast(&node->changed);
    while (!node->release) {
        pthread_cond_wait(&node->changed, &node->lock);
    }
    pthread_mutex_unlock(&node->lock);
}

static void *shard_main(void *arg)
{
    struct node_shard *s = arg;
    struct rb_node *node = s->node;
    char name[16];
    (void)snprintf(name, sizeof(name), "shard-%u", s->index);
    (void)pthread_setname_np(pthread_self(), name);
    pin_thread(s);
    s->err = make_shard(s);
    if (wait_for_go(s)) {
        bool counted = false, listened = s->index != 0;
        while (atomic_load(&node->stopped_count) < node->shared.shard_count) {
            if (!listened && listen_when_ready(s)) {
                listened = true;
            }
            (void)rb_shard_turn(s->shard, counted ? STOP_POLL_NS : -1);
            if (!counted && rb_shard_stopped(s->shard)) {
                counted = true;
                atomic_fetch_add(&node->stopped_count, 1);
            }
        }
        wait_for_release(node, s->shard);
    }
    unmake_shard(s);
    return NULL;
}

/* Start and stop */

static enum rb_err make_id(struct rb_node *node)
{
    struct rb_env env;
    rb_env_init_system(&env);
    enum rb_err err = rb_nkey_server_id(&env, node->shared.server_id);
    if (err != RB_OK) {
        return err;
    }
    (void)snprintf(node->shared.server_name, sizeof(node->shared.server_name), "%s",
                   node->current->config.server_name[0] != '\0' ? node->current->config.server_name
                                                                : node->shared.server_id);
    return RB_OK;
}

/* The limit of open files must cover the connections that are allowed. */
static void raise_file_limit(struct rb_node *node)
{
    int64_t conns =
        node->current->config.max_connections > 0 ? node->current->config.max_connections : 65536;
    rlim_t need = (rlim_t)conns + 64 + 8 * (rlim_t)node->shared.shard_count;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need) {
        return;
    }
    struct rlimit wanted = { .rlim_cur = need,
                             .rlim_max = limit.rlim_max < need ? need : limit.rlim_max };
    if (setrlimit(RLIMIT_NOFILE, &wanted) == 0) {
        return;
    }
    rlim_t had = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        limit.rlim_cur = had;
    }
    rb_log_wrn(node->log,
               "max_connections allows %lld connections, but the limit of open files is %llu; "
               "raise it (ulimit -n, LimitNOFILE=) or lower max_connections",
               (long long)conns, (unsigned long long)limit.rlim_cur);
}

static uint32_t usable_cpus(int cpus[RB_SHARDS_MAX])
{
    cpu_set_t set;
    uint32_t count = 0;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE && count < RB_SHARDS_MAX; cpu++) {
            if (CPU_ISSET((size_t)cpu, &set)) {
                cpus[count++] = cpu;
            }
        }
    }
    if (count == 0) {
        cpus[count++] = -1;
    }
    return count;
}

/* Called by helper threads. */
static void wake_shard(void *ctx, uint32_t home)
{
    struct rb_node *node = ctx;
    rb_driver_wake(node->driver, home);
}

static enum rb_err make_shared(struct rb_node *node, const struct rb_node_options *options,
                               uint32_t count, char error[RB_NODE_ERROR_MAX])
{
    struct rb_node_shared *shared = &node->shared;
    struct rb_env env;
    rb_env_init_system(&env);
    shared->shard_count = count;
    shared->node = node;
    shared->wake = wake_shard;
    shared->wake_ctx = node;
    shared->config = &node->current->config;
    shared->log = node->log;
    shared->mail = &node->mail;
    shared->accounts = &node->accounts;
    shared->auth_hook = options->hook;
    shared->start_wall_ns = env.wall_ns(env.ctx);
    shared->core_count = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    shared->process_usage = rb_process_usage_read;
    enum rb_err err = make_id(node);
    if (options->hook != NULL) {
        ((struct rb_policy *)(uintptr_t)shared->config->policy)->custom =
            true; /* nobody reads it yet */
    }
    if (err == RB_OK) {
        err = rb_node_assign_ids(node, shared->config->policy);
    }
    if (err == RB_OK) {
        err = rb_settings_make(shared->config, shared, &shared->settings, error);
    }
    if (err != RB_OK) {
        return err;
    }
    err = rb_mail_init(&node->mail, count);
    if (err != RB_OK) {
        return err;
    }
    node->have_mail = true;
    struct rb_driver_options driver = { .shard_count = count,
                                        .transport = shared->config->transport,
                                        .pipes = options->in_process,
                                        .log = node->log };
    char why[RB_DRIVER_WHY_MAX];
    err = rb_driver_create(&driver, &node->driver, why);
    if (err != RB_OK) {
        (void)snprintf(error, RB_NODE_ERROR_MAX, "%s", why);
        return err;
    }
    uint32_t helpers = count < WORK_THREADS_MIN   ? WORK_THREADS_MIN
                       : count > WORK_THREADS_MAX ? WORK_THREADS_MAX
                                                  : count;
    struct rb_work_options work = {
        .thread_count = helpers, .home_count = count, .wake = wake_shard, .wake_ctx = node
    };
    err = rb_work_create(&work, &node->work);
    shared->work = node->work;
    return err;
}

static void free_node(struct rb_node *node)
{
    pthread_mutex_lock(&node->lock);
    node->release = true;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    for (uint32_t i = 0; node->shards != NULL && i < node->shared.shard_count; i++) {
        if (node->shards[i].running) {
            (void)pthread_join(node->shards[i].thread, NULL);
        }
    }
    if (node->jetstream != NULL) {
        rb_log_inf(node->log, "JetStream Shutdown");
    }
    rb_services_destroy(node->services);
    rb_work_destroy(node->work);
    if (node->have_mail) {
        rb_mail_deinit(&node->mail);
    }
    rb_driver_destroy(node->driver);
    rb_core_settings_release(node->shared.settings);
    rb_jetstream_destroy(node->jetstream);
    rb_node_config_release(node->jetstream_config);
    rb_account_ids_deinit(&node->ids, &node->accounts);
    rb_node_config_release(&node->current->config);
    (void)pthread_mutex_destroy(&node->lock);
    (void)pthread_mutex_destroy(&node->reload_lock);
    (void)pthread_mutex_destroy(&node->ids_lock);
    (void)pthread_cond_destroy(&node->changed);
    free(node->shards);
    free(node);
}

struct node_config *rb_node_config_make(const struct rb_config *config, uint64_t load_wall_ns)
{
    struct node_config *made = malloc(sizeof(*made));
    if (made != NULL) {
        atomic_init(&made->ref_count, 1);
        made->load_wall_ns = load_wall_ns;
        rb_config_copy(&made->config, config);
    }
    return made;
}

static void init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
}

static enum rb_err make_node(const struct rb_node_options *options, struct rb_node **ret_node,
                             char error[RB_NODE_ERROR_MAX])
{
    struct rb_node *node = calloc(1, sizeof(*node));
    if (node == NULL) {
        return RB_ERR_MEMORY;
    }
    node->current = rb_node_config_make(options->config, wall_ns());
    if (node->current == NULL) {
        free(node);
        return RB_ERR_MEMORY;
    }
    node->log = options->log;
    node->host = options->host;
    (void)pthread_mutex_init(&node->lock, NULL);
    (void)pthread_mutex_init(&node->reload_lock, NULL);
    (void)pthread_mutex_init(&node->ids_lock, NULL);
    init_cond(&node->changed);
    const struct rb_config *config = &node->current->config;
    int cpus[RB_SHARDS_MAX];
    uint32_t cpu_count = usable_cpus(cpus);
    uint32_t count = config->shards == 0 ? cpu_count : config->shards;
    enum rb_err err = make_shared(node, options, count, error);
    if (err == RB_OK) {
        node->shards = calloc(count, sizeof(*node->shards));
        err = node->shards == NULL ? RB_ERR_MEMORY : RB_OK;
    }
    if (err == RB_OK) {
        err = rb_services_create(node, &node->services);
        node->shared.services = node->services;
    }
    if (err != RB_OK) {
        free_node(node);
        return err;
    }
    uint64_t memory = config->memory_budget_bytes;
    if (memory == 0) {
        memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 4 * 3;
    }
    for (uint32_t i = 0; i < count; i++) {
        node->shards[i] =
            (struct node_shard){ .node = node,
                                 .index = i,
                                 .cpu = config->pin_shards && count <= cpu_count ? cpus[i] : -1,
                                 .budget = { .limit_bytes = memory / count } };
    }
    *ret_node = node;
    return RB_OK;
}

enum rb_err rb_node_assign_ids(struct rb_node *node, const struct rb_policy *policy)
{
    pthread_mutex_lock(&node->ids_lock);
    enum rb_err err = rb_account_ids_assign(&node->ids, &node->accounts, policy);
    pthread_mutex_unlock(&node->ids_lock);
    return err;
}

static uint32_t account_id(void *ctx, struct rb_slice name)
{
    struct rb_node *node = ctx;
    uint32_t id = UINT32_MAX;
    pthread_mutex_lock(&node->ids_lock);
    enum rb_err err = rb_account_ids_name(&node->ids, &node->accounts, name, &id);
    pthread_mutex_unlock(&node->ids_lock);
    return err == RB_OK ? id : UINT32_MAX;
}

static enum rb_err start_jetstream(struct rb_node *node, char error[RB_NODE_ERROR_MAX])
{
    const struct rb_config *config = &node->current->config;
    char why[RB_JETSTREAM_ERROR_MAX];
    if (!config->jetstream.enabled) {
        return RB_OK;
    }
    node->jetstream_config = rb_node_config_hold(node, NULL);
    node->jetstream_ns = wall_ns();
    struct rb_jetstream_options options = { .config = node->jetstream_config,
                                            .log = node->log,
                                            .shard_count = node->shared.shard_count,
                                            .server_name = rb_slice_text(node->shared.server_name),
                                            .server_id = rb_slice_text(node->shared.server_id),
                                            .account_id = account_id,
                                            .wake = wake_shard,
                                            .ctx = node };
    enum rb_err err = rb_jetstream_create(&options, &node->jetstream, why);
    if (err != RB_OK) {
        node->jetstream = NULL;
        (void)snprintf(error, RB_NODE_ERROR_MAX, "Can't start JetStream: %.900s", why);
    }
    node->shared.jetstream = node->jetstream;
    return err;
}

/* Runs the threads until each has what it needs; the first error, if one failed. */
static enum rb_err start_threads(struct rb_node *node, char error[RB_NODE_ERROR_MAX])
{
    uint32_t started = 0;
    enum rb_err err = RB_OK;
    for (; started < node->shared.shard_count; started++) {
        struct node_shard *s = &node->shards[started];
        if (pthread_create(&s->thread, NULL, shard_main, s) != 0) {
            (void)snprintf(error, RB_NODE_ERROR_MAX, "cannot start thread of shard %u", started);
            err = RB_ERR_LIMIT;
            break;
        }
        s->running = true;
    }
    pthread_mutex_lock(&node->lock);
    while (node->up_count < started) {
        pthread_cond_wait(&node->changed, &node->lock);
    }
    for (uint32_t i = 0; i < started && err == RB_OK; i++) {
        err = node->shards[i].err;
        if (err != RB_OK) {
            (void)snprintf(error, RB_NODE_ERROR_MAX, "shard %u: %s", i,
                           node->shards[i].why[0] != '\0' ? node->shards[i].why : rb_err_text(err));
        }
    }
    node->go = err == RB_OK;
    node->abandon = err != RB_OK;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    return err;
}

void rb_node_wake_all(struct rb_node *node)
{
    for (uint32_t i = 0; i < node->shared.shard_count; i++) {
        rb_driver_wake(node->driver, i);
    }
}

enum rb_err rb_node_create(const struct rb_node_options *options, struct rb_node **ret_node,
                           char error[RB_NODE_ERROR_MAX])
{
    error[0] = '\0';
    enum rb_err err = make_node(options, ret_node, error);
    if (err != RB_OK && error[0] == '\0') {
        (void)snprintf(error, RB_NODE_ERROR_MAX, "%s", rb_err_text(err));
    }
    return err;
}

enum rb_err rb_node_open(struct rb_node *node, char error[RB_NODE_ERROR_MAX])
{
    error[0] = '\0';
    raise_file_limit(node);
    enum rb_err err = start_jetstream(node, error);
    if (err == RB_OK) {
        err = start_threads(node, error);
    }
    if (err == RB_OK && node->host.up != NULL) {
        err = node->host.up(node->host.ctx, error);
    }
    if (err != RB_OK) {
        return err;
    }
    pthread_mutex_lock(&node->lock);
    while (!node->listened) {
        pthread_cond_wait(&node->changed, &node->lock);
    }
    err = node->shards[0].err;
    pthread_mutex_unlock(&node->lock);
    if (err != RB_OK) {
        (void)snprintf(error, RB_NODE_ERROR_MAX, "%s", node->listen_error);
    }
    return err;
}

enum rb_err rb_node_start(const struct rb_node_options *options, struct rb_node **ret_node,
                          char error[RB_NODE_ERROR_MAX])
{
    enum rb_err err = rb_node_create(options, ret_node, error);
    if (err == RB_OK) {
        err = rb_node_open(*ret_node, error);
        if (err != RB_OK) {
            rb_node_stop(*ret_node);
        }
    }
    return err;
}

void rb_node_end(struct rb_node *node)
{
    if (node->jetstream != NULL && atomic_load(&node->shared.stopping) == 0) {
        rb_log_inf(node->log, "Initiating JetStream Shutdown...");
    }
    atomic_store(&node->shared.stopping, 1);
    rb_node_wake_all(node);
}

/* Three questions: the first publishes, the second is answered when shard 0 has sent its mail, the others when they
 * have taken it. */
static void announce_here(void *shard, void *arg)
{
    rb_events_announce(rb_shard_events(shard), *(const enum rb_node_event *)arg);
}

static void nothing(void *shard, void *arg)
{
    (void)shard;
    (void)arg;
}

void rb_node_announce(struct rb_node *node, enum rb_node_event event)
{
    enum rb_node_event *arg = malloc(sizeof(*arg));
    if (arg == NULL) {
        return;
    }
    *arg = event;
    enum rb_err err = rb_node_ask(node, 0, announce_here, arg, free, ANNOUNCE_NS);
    if (err != RB_ERR_TIMEOUT) {
        free(arg);
    }
    for (uint32_t i = 0; i < node->shared.shard_count && err == RB_OK; i++) {
        err = rb_node_ask(node, i, nothing, NULL, NULL, ANNOUNCE_NS);
    }
}

void rb_node_stop(struct rb_node *node)
{
    rb_services_stop(node->services);
    rb_node_announce(node, RB_NODE_SHUTDOWN);
    pthread_mutex_lock(&node->lock);
    node->hurry = true;
    rb_node_end(node);
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    rb_node_duck_join(node);
    free_node(node);
}

/* Tasks and questions */

bool rb_node_post(struct rb_node *node, uint32_t shard, struct rb_task *task)
{
    if (atomic_load(&node->shared.stopping) != 0) {
        return false; /* its shards may be gone already */
    }
    if (node->shards[shard].shard == NULL) {
        return false; /* it was never made */
    }
    bool posted = rb_shard_post(node->shards[shard].shard, task);
    if (posted) {
        rb_driver_wake(node->driver, shard);
    }
    return posted;
}

/* Shared by who asks and the shard; the last of the two frees it. */
struct question {
    struct rb_task task;
    rb_ask ask;
    void *arg;
    void (*arg_free)(void *arg);
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool done, abandoned;
};

static void free_question(struct question *question)
{
    (void)pthread_mutex_destroy(&question->lock);
    (void)pthread_cond_destroy(&question->answered);
    free(question);
}

static void answer(struct rb_shard *shard, struct rb_task *task)
{
    struct question *question = (struct question *)task;
    question->ask(shard, question->arg);
    pthread_mutex_lock(&question->lock);
    question->done = true;
    bool abandoned = question->abandoned;
    pthread_cond_signal(&question->answered);
    pthread_mutex_unlock(&question->lock);
    if (abandoned) {
        if (question->arg_free != NULL) {
            question->arg_free(question->arg);
        }
        free_question(question);
    }
}

static struct timespec deadline(int64_t timeout_ns)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + timeout_ns % 1000000000;
    until.tv_sec += timeout_ns / 1000000000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    return until;
}

enum rb_err rb_node_ask(struct rb_node *node, uint32_t index, rb_ask ask, void *arg,
                        void (*arg_free)(void *arg), int64_t timeout_ns)
{
    struct question *question = calloc(1, sizeof(*question));
    if (question == NULL) {
        return RB_ERR_MEMORY;
    }
    *question = (struct question){
        .task = { .run = answer }, .ask = ask, .arg = arg, .arg_free = arg_free
    };
    init_cond(&question->answered);
    (void)pthread_mutex_init(&question->lock, NULL);
    if (!rb_node_post(node, index, &question->task)) {
        free_question(question);
        return RB_ERR_CANCELED;
    }
    struct timespec until = deadline(timeout_ns);
    pthread_mutex_lock(&question->lock);
    int wait = 0;
    while (!question->done && wait == 0) {
        wait = pthread_cond_timedwait(&question->answered, &question->lock, &until);
    }
    bool done = question->done;
    question->abandoned = !done;
    pthread_mutex_unlock(&question->lock);
    if (!done) {
        return RB_ERR_TIMEOUT; /* the shard frees it */
    }
    free_question(question);
    return RB_OK;
}

/* One client */

struct client_order {
    uint64_t cid;
    enum rb_order_result (*order)(struct rb_shard *shard, uint64_t cid);
    enum rb_order_result result;
};

static void order_client(void *shard, void *arg)
{
    struct client_order *order = arg;
    order->result = order->order(shard, order->cid);
}

static enum rb_err find_client(struct rb_node *node, struct client_order order,
                               enum rb_order_result *ret_result)
{
    *ret_result = RB_ORDER_UNKNOWN;
    for (uint32_t i = 0; i < node->shared.shard_count; i++) {
        struct client_order *copy = malloc(sizeof(*copy));
        if (copy == NULL) {
            return RB_ERR_MEMORY;
        }
        *copy = order;
        enum rb_err err = rb_node_ask(node, i, order_client, copy, free, ORDER_NS);
        if (err == RB_ERR_TIMEOUT) {
            return err; /* the shard frees it */
        }
        enum rb_order_result result = copy->result;
        free(copy);
        if (err != RB_OK || result != RB_ORDER_UNKNOWN) {
            *ret_result = result;
            return err;
        }
    }
    return RB_OK;
}

static enum rb_err order(struct rb_node *node, struct client_order wanted, const char *unknown,
                         char error[RB_NODE_ERROR_MAX])
{
    enum rb_order_result result;
    enum rb_err err = find_client(node, wanted, &result);
    error[0] = '\0';
    if (err != RB_OK) {
        (void)snprintf(error, RB_NODE_ERROR_MAX, "%s", rb_err_text(err));
        return err;
    }
    if (result != RB_ORDER_DONE) {
        (void)snprintf(error, RB_NODE_ERROR_MAX, "%s",
                       result == RB_ORDER_UNKNOWN
                           ? unknown
                           : "client does not support Lame Duck Mode or is not ready to receive "
                             "the notification");
        return RB_ERR_INVALID;
    }
    return RB_OK;
}

enum rb_err rb_node_kick(struct rb_node *node, uint64_t cid, char error[RB_NODE_ERROR_MAX])
{
    return order(node, (struct client_order){ .cid = cid, .order = rb_order_kick },
                 "no such client or leafnode id", error);
}

enum rb_err rb_node_send_away(struct rb_node *node, uint64_t cid, char error[RB_NODE_ERROR_MAX])
{
    return order(node, (struct client_order){ .cid = cid, .order = rb_order_send_away },
                 "no such client id", error);
}

/* What is known of a node */

const struct rb_core_settings *rb_node_settings_hold(struct rb_node *node)
{
    pthread_mutex_lock(&node->lock);
    const struct rb_core_settings *settings = rb_settings_hold(node->shared.settings);
    pthread_mutex_unlock(&node->lock);
    return settings;
}

const struct rb_addr *rb_node_ws_addr(const struct rb_node *node)
{
    return &node->ws_bound;
}

struct rb_node_shared *rb_node_shared(struct rb_node *node)
{
    return &node->shared;
}

const struct rb_config *rb_node_config_hold(struct rb_node *node, uint64_t *ret_load_wall_ns)
{
    pthread_mutex_lock(&node->lock);
    struct node_config *current = node->current;
    atomic_fetch_add(&current->ref_count, 1);
    pthread_mutex_unlock(&node->lock);
    if (ret_load_wall_ns != NULL) {
        *ret_load_wall_ns = current->load_wall_ns;
    }
    return &current->config;
}

void rb_node_config_release(const struct rb_config *config)
{
    if (config == NULL) {
        return;
    }
    struct node_config *held =
        RB_CONTAINER((struct rb_config *)(uintptr_t)config, struct node_config, config);
    if (atomic_fetch_sub(&held->ref_count, 1) == 1) {
        rb_config_deinit(&held->config);
        free(held);
    }
}

bool rb_node_accepting(struct rb_node *node)
{
    pthread_mutex_lock(&node->lock);
    bool accepting = node->listened && node->state == NODE_SERVES && !node->hurry;
    pthread_mutex_unlock(&node->lock);
    return accepting;
}

bool rb_node_ended(struct rb_node *node)
{
    pthread_mutex_lock(&node->lock);
    bool ended = node->state == NODE_ENDED;
    pthread_mutex_unlock(&node->lock);
    return ended;
}

enum rb_err rb_node_wait(struct rb_node *node, int64_t timeout_ns)
{
    struct timespec until = deadline(timeout_ns < 0 ? 0 : timeout_ns);
    int wait = 0;
    pthread_mutex_lock(&node->lock);
    while (node->state != NODE_ENDED && wait == 0) {
        wait = timeout_ns < 0 ? pthread_cond_wait(&node->changed, &node->lock)
                              : pthread_cond_timedwait(&node->changed, &node->lock, &until);
    }
    bool ended = node->state == NODE_ENDED;
    pthread_mutex_unlock(&node->lock);
    return ended ? RB_OK : RB_ERR_TIMEOUT;
}

enum rb_err rb_node_connect(struct rb_node *node, struct rb_pipe **ret_pipe)
{
    pthread_mutex_lock(&node->lock);
    bool open = node->state == NODE_SERVES && !node->hurry;
    enum rb_err err = open ? rb_driver_connect(node->driver, ret_pipe) : RB_ERR_CANCELED;
    pthread_mutex_unlock(&node->lock);
    return err;
}

const char *rb_node_transport(const struct rb_node *node)
{
    return rb_driver_name(node->driver);
}

uint64_t rb_node_start_wall_ns(const struct rb_node *node)
{
    return node->shared.start_wall_ns;
}

const struct rb_core_stats *rb_node_shard_stats(const struct rb_node *node, uint32_t shard)
{
    return rb_shard_stats(node->shards[shard].shard);
}

const struct rb_jetstream_part *rb_node_jetstream(const struct rb_node *node, uint32_t shard)
{
    return node->shards[shard].jetstream;
}

const struct rb_addr *rb_node_addr(const struct rb_node *node)
{
    return &node->bound;
}

const char *rb_node_id(const struct rb_node *node)
{
    return node->shared.server_id;
}

const char *rb_node_name(const struct rb_node *node)
{
    return node->shared.server_name;
}

uint32_t rb_node_shard_count(const struct rb_node *node)
{
    return node->shared.shard_count;
}

void rb_node_stats(const struct rb_node *node, struct rb_node_stats *ret_stats)
{
    *ret_stats = (struct rb_node_stats){ 0 };
    for (uint32_t i = 0; i < node->shared.shard_count; i++) {
        const struct rb_core_stats *stats = rb_shard_stats(node->shards[i].shard);
        ret_stats->conns += rb_counter_get(&stats->conns);
        ret_stats->conns_total += rb_counter_get(&stats->conns_total);
        ret_stats->subs += rb_counter_get(&stats->subs);
        ret_stats->in_msgs += rb_counter_get(&stats->in_msgs);
        ret_stats->in_bytes += rb_counter_get(&stats->in_bytes);
        ret_stats->out_msgs += rb_counter_get(&stats->out_msgs);
        ret_stats->out_bytes += rb_counter_get(&stats->out_bytes);
        ret_stats->slow_consumers += rb_counter_get(&stats->slow_consumers);
        ret_stats->stale_conns += rb_counter_get(&stats->stale_conns);
    }
}
