/* cluster.c - the simulated node: shards over simulated transports, turned in random order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/conn.h"
#include "server/settings.h"
#include "world.h"

#define SIM_PORT 4222
#define LIVELOCK_ROUNDS 200000

static void log_sink(void *ctx, enum rb_log_level level, const char *message)
{
    static const char *const names[] = { "FTL", "ERR", "WRN", "INF", "DBG", "TRC" };
    struct sim_world *w = ctx;
    w->totals.over_pending += strstr(message, "MaxPending of") != NULL;
    w->totals.over_deadline += strstr(message, "WriteDeadline of") != NULL;
    sim_trace(w, "[%s] %s", names[level], message);
}

/** Helper threads take their time. */
static bool job_waits(void *ctx)
{
    struct sim_world *w = ctx;
    return w->lazy_work && sim_chance(w, 900);
}

static bool share(struct sim_world *w)
{
    w->log = (struct rb_log){ .fd = -1, .sink = log_sink, .sink_ctx = w };
    w->log.trace = w->plan.log_all;
    w->log.debug = w->plan.log_all || w->trace;
    struct rb_node_shared *shared = &w->shared;
    shared->config = &w->plan.config;
    shared->log = &w->log;
    shared->mail = &w->mail;
    shared->shard_count = w->plan.shard_count;
    shared->port = SIM_PORT;
    snprintf(shared->server_id, sizeof(shared->server_id), "NSIM%052u", 7u);
    snprintf(shared->server_name, sizeof(shared->server_name), "sim");
    char error[RB_CONFIG_ERROR_MAX];
    struct rb_work_options work = { .home_count = w->plan.shard_count,
                                    .later = job_waits,
                                    .later_ctx = w };
    shared->accounts = &w->accounts;
    if (rb_config_seal(&w->plan.config, error) != RB_OK) {
        return false;
    }
    if (w->clients->policy != NULL) {
        w->plan.config.policy = w->clients->policy(w);
    }
    bool made = rb_account_ids_assign(&w->ids, &w->accounts, w->plan.config.policy) == RB_OK &&
                rb_settings_make(&w->plan.config, shared, &shared->settings, error) == RB_OK &&
                rb_work_create(&work, &w->work) == RB_OK;
    shared->work = w->work;
    return made;
}

static void unshare(struct sim_world *w)
{
    rb_work_destroy(w->work);
    rb_core_settings_release(w->shared.settings);
    rb_account_ids_deinit(&w->ids, &w->accounts);
    rb_config_deinit(&w->plan.config);
}

static bool start_shard(struct sim_world *w, uint32_t index)
{
    rb_sim_env_init(&w->envs[index], w->net, w->seed * 64 + index);
    struct rb_budget *budget = &w->budgets[index];
    if (rb_sim_transport_create(w->net, 0, index, budget, &w->transports[index]) != RB_OK) {
        return false;
    }
    struct rb_shard_options options = {
        .index = index,
        .shared = &w->shared,
        .env = &w->envs[index],
        .transport = w->transports[index],
        .budget = budget,
    };
    return rb_shard_create(&options, &w->shards[index]) == RB_OK;
}

bool sim_node_start(struct sim_world *w)
{
    struct rb_addr addr = { .port = SIM_PORT }, bound;
    if (rb_sim_net_create(&w->plan.net, &w->net) != RB_OK ||
        rb_mail_init(&w->mail, w->plan.shard_count) != RB_OK) {
        return false;
    }
    if (!share(w)) {
        return false;
    }
    for (uint32_t i = 0; i < w->plan.shard_count; i++) {
        if (!start_shard(w, i)) {
            return false;
        }
    }
    if (rb_shard_listen(w->shards[0], &addr, NULL, RB_TYPE_STANDARD, &bound) != RB_OK) {
        return false;
    }
    w->shared.port = bound.port;
    return true;
}

/** Repeated CONNECTs that wait for room in the mail before they can drop their subscriptions. */
static void count_again(struct sim_world *w, uint32_t index)
{
    const struct rb_core *core = rb_shard_core(w->shards[index]);
    for (struct rb_list *link = core->conns.next; link != &core->conns; link = link->next) {
        w->totals.again += RB_CONTAINER(link, struct rb_conn, link_all)->again != NULL;
    }
}

bool sim_turn(struct sim_world *w, uint32_t index)
{
    if (index == w->starved) {
        return false;
    }
    rb_sim_transport_woken(w->transports[index]);
    bool work = rb_shard_turn(w->shards[index], sim_chance(w, 200) ? -1 : 0); /* never blocks */
    for (uint32_t to = 0; to < w->plan.shard_count; to++) {
        if (w->mail.pairs[index * w->plan.shard_count + to].out_count + 4 >= RB_MAIL_BLOCKS_MAX) {
            w->totals.tight++;
            count_again(w, index);
            break;
        }
    }
    return work;
}

bool sim_turn_all(struct sim_world *w)
{
    uint8_t order[RB_SHARDS_MAX];
    bool work = false;
    for (uint32_t i = 0; i < w->plan.shard_count; i++) {
        uint32_t at = sim_below(w, i + 1);
        order[i] = order[at];
        order[at] = (uint8_t)i;
    }
    for (uint32_t i = 0; i < w->plan.shard_count; i++) {
        work |= sim_turn(w, order[i]);
    }
    for (uint32_t i = 0; i < w->plan.shard_count; i++) {
        work |= i != w->starved && rb_sim_transport_ready(w->transports[i]);
    }
    return work;
}

/** Say, turn, hear. Hearing comes last: a turn without events may have sent something. */
static bool move_all(struct sim_world *w)
{
    w->clients->flush(w);
    bool work = sim_turn_all(w);
    work |= w->clients->read(w);
    return work;
}

void sim_drain(struct sim_world *w)
{
    w->starved = UINT32_MAX;
    w->lazy_work = false;
    for (uint32_t round = 0; !w->failed; round++) {
        if (!move_all(w)) {
            uint64_t due = rb_sim_net_due(w->net), now = rb_sim_net_now(w->net);
            if (due == UINT64_MAX) {
                return;
            }
            rb_sim_net_advance(w->net, due - now);
        }
        if (round == LIVELOCK_ROUNDS) {
            sim_fail(w, "no quiet after %d rounds", LIVELOCK_ROUNDS);
        }
    }
}

void sim_pass_time(struct sim_world *w, uint64_t ns)
{
    uint64_t end = rb_sim_net_now(w->net) + ns, step = ns / 50 + 1;
    uint32_t busy_rounds = 0;
    w->starved = UINT32_MAX; /* no thread sleeps for seconds */
    w->lazy_work = false;
    while (rb_sim_net_now(w->net) < end && !w->failed) {
        if (!move_all(w) || ++busy_rounds > 10000) {
            rb_sim_net_advance(w->net, step);
            busy_rounds = 0;
        }
    }
}

static bool all_stopped(const struct sim_world *w)
{
    for (uint32_t i = 0; i < w->plan.shard_count; i++) {
        if (!rb_shard_stopped(w->shards[i])) {
            return false;
        }
    }
    return true;
}

/** The shards close every connection, also those whose clients do not read. */
static void stop_shards(struct sim_world *w)
{
    w->stopping = true;
    w->lazy_work = false;
    w->starved = UINT32_MAX;
    atomic_store(&w->shared.stopping, 1);
    for (uint32_t round = 0; !all_stopped(w) && !w->failed; round++) {
        for (uint32_t i = 0; i < 4; i++) {
            sim_turn_all(w);
        }
        rb_sim_net_advance(w->net, 10000000); /* nobody reads: last words run out of time */
        if (round == 2000) {
            sim_fail(w, "the shards do not stop");
        }
    }
}

static void end_clients(struct sim_world *w)
{
    w->clients->end(w);
    while (!w->failed && (w->clients->read(w) || rb_sim_net_due(w->net) != UINT64_MAX)) {
        rb_sim_net_advance(w->net, 1000000000);
    }
    w->clients->check_ended(w);
}

void sim_node_stop(struct sim_world *w)
{
    stop_shards(w);
    if (w->failed) {
        return;
    }
    w->clients->check_empty(w);
    end_clients(w);
    for (uint32_t i = 0; i < w->plan.shard_count && !w->failed; i++) {
        rb_shard_destroy(w->shards[i]);
    }
    if (w->failed) {
        return;
    }
    rb_mail_deinit(&w->mail);
    unshare(w);
    for (uint32_t i = 0; i < w->plan.shard_count; i++) {
        rb_transport_destroy(w->transports[i]);
        if (w->budgets[i].used_bytes != 0) {
            sim_fail(w, "shard %u: %llu bytes of its budget are still used", i,
                     (unsigned long long)w->budgets[i].used_bytes);
        }
    }
    if (!w->failed) {
        rb_sim_net_destroy(w->net);
    }
}
