/* lameduck.c - a server that sends its clients away before it ends (docs/operating.md).
 *
 *   SERVES --rb_node_lame_duck--> LAME_DUCK: listeners closed, INFO ldm, grace, clients one by one --> ENDED
 *                                     `----rb_node_stop: at once---------------------------------> freed
 *
 * One thread of its own paces it over all shards; it touches connections through the shards only.
 */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "server/node_inside.h"
#include "server/orders.h"
#include "server/snapshot.h"

#define SECOND_NS INT64_C(1000000000)
#define ASK_NS (10 * SECOND_NS)
#define PACE_MIN_NS 100000 /* below it, several clients at a time */
#define STOP_POLL_NS 1000000

static void unlisten(void *shard, void *arg)
{
    rb_shard_unlisten(shard);
}

static void tell(void *shard, void *arg)
{
    rb_order_lame_duck(shard);
}

static void end_one(void *shard, void *arg)
{
    (void)rb_order_end_one(shard);
}

static void ask(struct rb_node *node, uint32_t shard, rb_ask question)
{
    enum rb_err err = rb_node_ask(node, shard, question, NULL, NULL, ASK_NS);
    if (err != RB_OK &&
        err != RB_ERR_CANCELED) { /* canceled: the node stops, which is what we want */
        rb_log_wrn(node->log, "lame duck mode: shard %u does not answer: %s", shard,
                   rb_err_text(err));
    }
}

/* False: the end must not wait any longer. */
static bool pause_for(struct rb_node *node, int64_t wait_ns)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + wait_ns % SECOND_NS;
    until.tv_sec += wait_ns / SECOND_NS + ns / SECOND_NS;
    until.tv_nsec = ns % SECOND_NS;
    int wait = 0;
    pthread_mutex_lock(&node->lock);
    while (!node->hurry && wait != ETIMEDOUT) {
        wait = pthread_cond_timedwait(&node->changed, &node->lock, &until);
    }
    bool go_on = !node->hurry;
    pthread_mutex_unlock(&node->lock);
    return go_on;
}

static uint64_t conns_of(const struct rb_node *node, uint32_t shard)
{
    return rb_counter_get(&rb_shard_stats(node->shards[shard].shard)->conns);
}

static uint64_t count_conns(const struct rb_node *node)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < node->shared.shard_count; i++) {
        sum += conns_of(node, i);
    }
    return sum;
}

/* Any client of the node with the same chance; the oldest of its shard. */
static void end_any(struct rb_node *node, struct rb_env *env)
{
    uint64_t count = count_conns(node);
    uint64_t number = count == 0 ? 0 : rb_env_below(env, (uint32_t)count);
    uint32_t shard = 0;
    while (shard + 1 < node->shared.shard_count && number >= conns_of(node, shard)) {
        number -= conns_of(node, shard);
        shard++;
    }
    ask(node, shard, end_one);
}

/* Over the time that the grace period leaves; false: hurried. */
static bool end_all_slowly(struct rb_node *node, int64_t time_ns)
{
    struct rb_env env;
    rb_env_init_system(&env);
    uint64_t count = count_conns(node);
    int64_t pace_ns = time_ns / (int64_t)(count == 0 ? 1 : count);
    uint64_t batch = pace_ns < PACE_MIN_NS ? (uint64_t)(PACE_MIN_NS / (pace_ns + 1)) + 1 : 1;
    pace_ns = pace_ns < PACE_MIN_NS ? PACE_MIN_NS : pace_ns > SECOND_NS ? SECOND_NS : pace_ns;
    for (uint64_t i = 0; i < count && count_conns(node) > 0; i++) {
        end_any(node, &env);
        if (i + 1 < count && i % batch == 0) {
            int64_t half = pace_ns / 2;
            if (!pause_for(node, half + (int64_t)rb_env_below(&env, (uint32_t)(pace_ns - half)))) {
                return false;
            }
        }
    }
    return true;
}

static bool send_clients_away(struct rb_node *node)
{
    const struct rb_config *config = rb_node_config_hold(node, NULL);
    int64_t grace_ns = (int64_t)config->lame_duck_grace_ns;
    int64_t rest_ns = (int64_t)config->lame_duck_duration_ns - grace_ns;
    rb_node_config_release(config);
    rb_log_inf(node->log, "Entering lame duck mode, stop accepting new clients");
    ask(node, 0, unlisten);
    rb_node_announce(node, RB_NODE_LAME_DUCK);
    for (uint32_t i = 0; i < node->shared.shard_count; i++) {
        ask(node, i, tell);
    }
    if (count_conns(node) == 0) {
        return true;
    }
    if (!pause_for(node, grace_ns)) {
        return false;
    }
    rb_log_inf(node->log, "Closing existing clients");
    return end_all_slowly(node, rest_ns <= 0 ? SECOND_NS : rest_ns);
}

static void *duck_main(void *arg)
{
    struct rb_node *node = arg;
    sigset_t all;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, NULL); /* signals are the program's */
    (void)pthread_setname_np(pthread_self(), "lame-duck");
    if (!send_clients_away(node)) {
        return NULL;
    }
    rb_node_announce(node, RB_NODE_SHUTDOWN);
    pthread_mutex_lock(&node->lock);
    rb_node_end(node);
    pthread_mutex_unlock(&node->lock);
    while (atomic_load(&node->stopped_count) < node->shared.shard_count) {
        const struct timespec pause = { .tv_nsec = STOP_POLL_NS };
        (void)nanosleep(&pause, NULL);
    }
    pthread_mutex_lock(&node->lock);
    node->state = NODE_ENDED;
    bool tell_host = !node->hurry && node->host.ended != NULL;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    if (tell_host) {
        node->host.ended(node->host.ctx);
    }
    return NULL;
}

bool rb_node_lame_duck(struct rb_node *node)
{
    pthread_mutex_lock(&node->lock);
    bool begins = node->state == NODE_SERVES && !node->hurry &&
                  pthread_create(&node->duck, NULL, duck_main, node) == 0;
    if (begins) {
        node->state = NODE_LAME_DUCK;
        node->have_duck = true;
    }
    pthread_mutex_unlock(&node->lock);
    return begins;
}

bool rb_node_in_lame_duck(struct rb_node *node)
{
    pthread_mutex_lock(&node->lock);
    bool is = node->state != NODE_SERVES;
    pthread_mutex_unlock(&node->lock);
    return is;
}

void rb_node_duck_join(struct rb_node *node)
{
    if (node->have_duck) {
        (void)pthread_join(node->duck, NULL);
        node->have_duck = false;
    }
}
