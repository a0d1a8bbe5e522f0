/* workload.c - what a seed does: a plan, then actions of clients between turns of shards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/bounds.h"
#include "world.h"

#define MS 1000000ull
#define KIB 1024u

/* ---- the plan ---- */

static uint32_t pick(struct sim_world *w, const uint32_t *choices, uint32_t count)
{
    return choices[sim_below(w, count)];
}
#define PICK(w, ...)                                                                               \
    pick((w), (const uint32_t[]){ __VA_ARGS__ },                                                   \
         sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))

static void draw_config(struct sim_world *w)
{
    struct rb_config *config = &w->plan.config;
    rb_config_defaults(config);
    config->max_payload = PICK(w, 1024 * KIB, 1024 * KIB, 64 * KIB, 16 * KIB, 2 * KIB);
    config->max_pending_bytes =
        PICK(w, 64 * 1024 * KIB, 64 * 1024 * KIB, 1024 * KIB, 256 * KIB, 64 * KIB);
    if (config->max_pending_bytes < config->max_payload) {
        config->max_payload = (uint32_t)config->max_pending_bytes;
    }
    config->write_deadline_ns = sim_chance(w, 700) ? 10000 * MS : 2000 * MS;
    config->no_header_support = sim_chance(w, 50);
    w->plan.log_all = sim_chance(w, 100);
}

/** Short ping intervals only where a client that reads can answer in time. */
static void draw_net(struct sim_world *w)
{
    struct rb_sim_net_options *net = &w->plan.net;
    net->seed = w->seed ^ 0x5eed;
    net->delay_max_ns = PICK(w, 0, 50, 1000, 5000, 20000) * 1000ull;
    net->delay_min_ns = net->delay_max_ns == 0 ? 0 : rb_env_random(&w->draw) % net->delay_max_ns;
    net->split_permille = PICK(w, 0, 50, 300);
    net->short_write_permille = PICK(w, 0, 50, 300);
    net->reset_permille = PICK(w, 0, 0, 0, 1, 5);
    net->window_bytes = PICK(w, 2, 16, 64, 256) * KIB;
    net->recv_bytes_max = PICK(w, 64, 1000, 4 * KIB, RB_RECV_BYTES, RB_RECV_BYTES);
    w->plan.config.ping_interval_ns = 120000 * MS;
    if (sim_chance(w, 250) && net->delay_max_ns <= 5 * MS && net->window_bytes >= 16 * KIB) {
        w->plan.config.ping_interval_ns = PICK(w, 500, 2000, 3000) * MS;
        w->plan.config.ping_max = 1 + sim_below(w, 2);
    }
}

static void draw_subject(struct sim_world *w, char out[SIM_TEXT_MAX], bool pattern)
{
    static const char *const tokens[] = { "a", "b", "c", "aa", "a*b", "x>" };
    uint32_t depth = 1 + sim_below(w, 4);
    size_t len = 0;
    for (uint32_t i = 0; i < depth; i++) {
        const char *token = tokens[sim_chance(w, 850) ? sim_below(w, 3) : sim_below(w, 6)];
        if (pattern && sim_chance(w, 250)) {
            token = "*";
        }
        if (pattern && i + 1 == depth && sim_chance(w, 250)) {
            token = ">";
        }
        len += (size_t)snprintf(out + len, SIM_TEXT_MAX - len, "%s%s", i == 0 ? "" : ".", token);
    }
}

static void draw_subjects(struct sim_world *w)
{
    struct sim_subjects *all = &w->subjects;
    static const char *const odd[] = { "a.*", "a..b", "*", ">", "a.>", ".a", "b." };
    all->literal_count = 4 + sim_below(w, 20);
    all->pattern_count = 4 + sim_below(w, 25);
    for (uint32_t i = 0; i < all->literal_count; i++) {
        draw_subject(w, all->literal[i], false);
    }
    snprintf(all->literal[all->literal_count++], SIM_TEXT_MAX, "deep.1.2.3.4.5.6.7.8.9.10.11.12");
    snprintf(all->literal[all->literal_count++], SIM_TEXT_MAX, "long%0120d.a", 0);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t at = all->literal_count++;
        snprintf(all->literal[at], SIM_TEXT_MAX, "%s", odd[sim_below(w, 7)]);
        all->odd[at] = true;
    }
    for (uint32_t i = 0; i < all->pattern_count; i++) {
        if (sim_chance(w, 450)) {
            uint32_t from = sim_below(w, all->literal_count - 2);
            memcpy(all->pattern[i], all->literal[from], SIM_TEXT_MAX);
        } else {
            draw_subject(w, all->pattern[i], true);
        }
    }
    for (uint32_t p = 0; p < all->pattern_count; p++) {
        for (uint32_t s = 0; s < all->literal_count; s++) {
            all->match[p][s] = sim_match(all->pattern[p], all->literal[s]);
        }
    }
}

/** One shard sleeps through most of each epoch, until the rings towards it are full. */
static void draw_hunger(struct sim_world *w)
{
    struct sim_plan *plan = &w->plan;
    if (plan->net.delay_max_ns > 1 * MS || !sim_chance(w, 200)) {
        return;
    }
    plan->shard_count = 2 + sim_below(w, 3);
    plan->client_count = 6 + sim_below(w, 10);
    plan->action_count = 400;
    plan->quiet_every = 200;
    plan->starve_permille = 100;
    plan->steps_max = 30;
    plan->cork_permille = 0;
    plan->stall_permille = 0;
}

void sim_plan_draw(struct sim_world *w)
{
    struct sim_plan *plan = &w->plan;
    plan->shard_count = 1 + sim_below(w, 8);
    if (sim_chance(w, 20)) {
        plan->shard_count = sim_chance(w, 500) ? RB_SHARDS_MAX : 9 + sim_below(w, 40);
    }
    plan->client_count = 2 + sim_below(w, sim_chance(w, 300) ? 39 : 12);
    plan->action_count = 100 + sim_below(w, 400);
    plan->quiet_every = 20 + sim_below(w, 150);
    plan->cork_permille = PICK(w, 0, 200, 600, 900);
    plan->stall_permille = PICK(w, 0, 5, 30);
    plan->churn_permille = PICK(w, 0, 5, 30);
    plan->jump_permille = PICK(w, 0, 0, 3, 10);
    plan->crime_permille = PICK(w, 0, 0, 5);
    plan->starve_permille = PICK(w, 0, 0, 5, 30);
    plan->steps_max = PICK(w, 4, 6, 6, 20);
    draw_config(w);
    draw_net(w);
    draw_hunger(w);
    plan->body_max = PICK(w, 64, 1000, 8 * KIB, 40 * KIB, 100 * KIB);
    uint32_t bounds[] = { plan->config.max_payload - SIM_HEADER_MAX, plan->net.recv_bytes_max * 32,
                          plan->net.window_bytes * 8 };
    for (uint32_t i = 0; i < 3; i++) {
        plan->body_max = plan->body_max < bounds[i] ? plan->body_max : bounds[i];
    }
    draw_subjects(w);
    sim_trace(w,
              "plan: shards=%u clients=%u actions=%u body=%u pending=%llu payload=%u "
              "ping=%llums deadline=%llums delay=%llu..%lluus split=%u short=%u reset=%u "
              "window=%u recv=%u",
              plan->shard_count, plan->client_count, plan->action_count, plan->body_max,
              (unsigned long long)plan->config.max_pending_bytes, plan->config.max_payload,
              (unsigned long long)(plan->config.ping_interval_ns / MS),
              (unsigned long long)(plan->config.write_deadline_ns / MS),
              (unsigned long long)(plan->net.delay_min_ns / 1000),
              (unsigned long long)(plan->net.delay_max_ns / 1000), plan->net.split_permille,
              plan->net.short_write_permille, plan->net.reset_permille, plan->net.window_bytes,
              plan->net.recv_bytes_max);
}

/* ---- actions ---- */

static void flush_some(struct sim_session *s)
{
    if (!sim_chance(s->world, s->world->plan.cork_permille)) {
        sim_session_flush(s);
    }
}

static struct sim_session *open_session(struct sim_world *w)
{
    struct sim_session *s = sim_session_open(w);
    if (s->open && !sim_chance(w, 50)) {
        sim_session_connect(s);
    }
    if (s->open && s->no_responders) {
        sim_session_sub(s, SIM_PATTERN_INBOX, SIM_PLAIN, 0);
        sim_session_ping(s);
    }
    return s;
}

/** An open session that still behaves; NULL when the draw met none. */
static struct sim_session *pick_session(struct sim_world *w)
{
    for (uint32_t tries = 0; tries < 50; tries++) {
        struct sim_session *s = w->sessions[sim_below(w, w->session_count)];
        if (s->open && !s->dying) {
            return s;
        }
    }
    return NULL;
}

static uint32_t count_open(const struct sim_world *w)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->session_count; i++) {
        count += w->sessions[i]->open;
    }
    return count;
}

static uint32_t draw_body_len(struct sim_world *w, const struct sim_session *s)
{
    uint32_t max = w->plan.body_max;
    uint32_t len = 0;
    switch (sim_below(w, 10)) {
    case 0:
        len = sim_below(w, 8);
        break;
    case 1:
        len = sim_below(w, max + 1);
        break;
    case 2:
        len = sim_below(w, 4096);
        break;
    default:
        len = 8 + sim_below(w, 200);
        break;
    }
    len = len < max ? len : max;
    return s->connect_sent || len < RB_UNKNOWN_PAYLOAD_MAX ? len : 8;
}

static struct sim_publication *act_pub(struct sim_session *s)
{
    struct sim_world *w = s->world;
    uint32_t subject = sim_below(w, w->subjects.literal_count);
    uint32_t header_len = s->headers && sim_chance(w, 400) ? 20 + sim_below(w, 200) : 0;
    return sim_session_pub(s, subject, header_len, draw_body_len(w, s), sim_chance(w, 300));
}

static void act_sub(struct sim_session *s)
{
    struct sim_world *w = s->world;
    uint32_t queue = sim_chance(w, 350) ? sim_below(w, SIM_QUEUES) : SIM_PLAIN;
    uint32_t max = sim_chance(w, 150) ? 1 + sim_below(w, 12) : 0;
    if (s->sub_count < 40) {
        sim_session_sub(s, sim_below(w, w->subjects.pattern_count), queue, max);
    }
    if (sim_chance(w, 500)) {
        sim_session_ping(s);
    }
}

static void act_unsub(struct sim_session *s)
{
    struct sim_world *w = s->world;
    if (s->sub_count == 0) {
        return;
    }
    uint32_t index = sim_below(w, s->sub_count);
    struct sim_subscription *sub = &s->subs[index];
    if (sub->pattern == SIM_PATTERN_INBOX) {
        return;
    }
    if (!sub->ended && sub->max == 0 && sim_chance(w, 200)) {
        sim_session_sub_again(s, index, sim_below(w, w->subjects.pattern_count));
    } else if (!sub->ended && sim_chance(w, 400)) {
        /* a maximum may have been reached unseen: then only a smaller one means the same to both */
        sim_session_unsub(s, index,
                          sub->max > 0 ? 1 + sim_below(w, sub->max)
                                       : sub->delivered + 1 + sim_below(w, 10));
    } else {
        sim_session_unsub(s, index, 0);
    }
}

static void act_churn(struct sim_world *w, struct sim_session *s)
{
    switch (sim_below(w, 5)) {
    case 0:
        if (s->connect_sent) {
            sim_session_connect(s);
        }
        return;
    case 1:
        sim_session_flush(s);
        sim_session_close(s, false);
        break;
    default:
        sim_session_close(s, true);
        break;
    }
    if (sim_chance(w, 800) || count_open(w) == 0) {
        open_session(w);
    }
}

static void act(struct sim_world *w)
{
    struct sim_session *s = pick_session(w);
    if (s == NULL || count_open(w) < w->plan.client_count / 2 + 1) {
        s = open_session(w);
    }
    if (!s->open) {
        return;
    }
    if (sim_chance(w, w->plan.churn_permille)) {
        act_churn(w, s);
        return;
    }
    if (sim_chance(w, w->plan.crime_permille)) {
        sim_session_crime(s);
        return;
    }
    if (sim_chance(w, w->plan.stall_permille)) {
        sim_session_stall(s, !s->stalled);
    }
    uint32_t draw = sim_below(w, 100);
    if (draw < 60) {
        for (uint32_t burst = 1 + (sim_chance(w, 200) ? sim_below(w, 20) : 0); burst > 0; burst--) {
            act_pub(s);
        }
    } else if (draw < 78) {
        act_sub(s);
    } else if (draw < 86) {
        act_unsub(s);
    } else if (draw < 98) {
        sim_session_ping(s);
    } else {
        sim_session_sub_invalid(s);
    }
    flush_some(s);
}

/** Lets shards, net and clients go on for a while, in any order. */
static void run_some(struct sim_world *w)
{
    for (uint32_t steps = sim_below(w, w->plan.steps_max); steps > 0 && !w->failed; steps--) {
        switch (sim_below(w, 6)) {
        case 0:
            rb_sim_net_advance(w->net, 1 * MS);
            break;
        case 1:
            sim_turn_all(w);
            break;
        case 2:
        case 3:
            sim_turn(w, sim_below(w, w->plan.shard_count));
            break;
        default: {
            struct sim_session *s = w->sessions[sim_below(w, w->session_count)];
            sim_session_read(s, 1 + sim_below(w, 16 * KIB));
            break;
        }
        }
    }
}

/* ---- quiet points ---- */

static void make_quiet(struct sim_world *w)
{
    for (uint32_t i = 0; i < w->session_count; i++) {
        struct sim_session *s = w->sessions[i];
        sim_session_stall(s, false);
        if (s->open && !s->dying) {
            sim_session_ping(s);
        }
    }
    sim_drain(w);
    for (uint32_t i = 0; i < w->session_count && !w->failed; i++) {
        if (w->sessions[i]->open && w->sessions[i]->dying) {
            sim_fail(w, "c%u: broke the protocol and was let live", i);
        }
    }
    sim_check_quiet(w);
}

/** 0: nobody wants it; 1: somebody does; 2: only the publisher itself, without echo. */
static uint32_t find_interest(const struct sim_world *w, uint32_t publisher, uint32_t subject)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < w->session_count; i++) {
        const struct sim_session *s = w->sessions[i];
        for (uint32_t j = 0; s->open && j < s->sub_count; j++) {
            const struct sim_subscription *sub = &s->subs[j];
            if (sub->pattern == SIM_PATTERN_INBOX || !sim_sub_live(s, sub) ||
                !w->subjects.match[sub->pattern][subject]) {
                continue;
            }
            if (i != publisher || s->echo) {
                return 1;
            }
            found = 2;
        }
    }
    return found;
}

/** A request while nothing else moves: refused exactly when nobody wants it. */
static void request_in_peace(struct sim_world *w)
{
    struct sim_session *s = pick_session(w);
    if (s == NULL || !s->no_responders || !sim_sub_live(s, &s->subs[0])) {
        return;
    }
    uint32_t subject = sim_below(w, w->subjects.literal_count);
    uint32_t interest = find_interest(w, s->index, subject);
    uint32_t index = w->pub_count;
    sim_session_pub(s, subject, 0, 30, true);
    sim_session_ping(s);
    sim_drain(w);
    uint32_t refused = w->pubs[index].refused_count;
    bool faulty = w->plan.net.reset_permille > 0;
    if (!w->failed && s->open && interest != 2 && refused != (interest == 0 ? 1u : 0u) && !faulty) {
        sim_fail(w, "c%u: request on %s refused %u times, interest %u", s->index,
                 w->subjects.literal[subject], refused, interest);
    }
    sim_check_quiet(w);
}

static void quiet_point(struct sim_world *w)
{
    make_quiet(w);
    for (uint32_t i = 0; i < 3 && !w->failed; i++) {
        request_in_peace(w);
    }
}

/** Some stop reading while the others publish all the more. */
static void stall_under_load(struct sim_world *w)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct sim_session *s = pick_session(w);
        if (s != NULL) {
            sim_session_stall(s, true);
        }
    }
    for (uint32_t i = 0; i < 40; i++) {
        struct sim_session *s = pick_session(w);
        if (s != NULL) {
            act_pub(s);
            sim_session_flush(s);
        }
    }
}

/** Time enough for pings, stale clients and write deadlines. */
static void jump(struct sim_world *w)
{
    w->totals.jumps++;
    if (sim_chance(w, 500)) {
        stall_under_load(w);
    }
    uint64_t ns = sim_chance(w, 500) ? w->plan.config.write_deadline_ns + 500 * MS
                                     : 3 * w->plan.config.ping_interval_ns + 500 * MS;
    sim_trace(w, "%llu ms pass", (unsigned long long)(ns / MS));
    sim_pass_time(w, ns);
}

void sim_workload_run(struct sim_world *w)
{
    for (uint32_t i = 0; i < w->plan.client_count; i++) {
        open_session(w);
    }
    for (uint32_t i = 1; i <= w->plan.action_count && !w->failed; i++) {
        act(w);
        run_some(w);
        if (w->starved == UINT32_MAX && sim_chance(w, w->plan.starve_permille)) {
            w->starved = sim_below(w, w->plan.shard_count);
            sim_trace(w, "shard %u gets no more turns", w->starved);
        }
        if (sim_chance(w, w->plan.jump_permille)) {
            jump(w);
        }
        if (i % w->plan.quiet_every == 0 && !w->failed) {
            quiet_point(w);
        }
    }
    if (w->failed || sim_chance(w, 300)) {
        return; /* the node stops in the middle of things */
    }
    quiet_point(w);
    if (w->failed || sim_chance(w, 300)) {
        return; /* the node stops with idle clients */
    }
    for (uint32_t i = 0; i < w->session_count; i++) {
        sim_session_close(w->sessions[i], sim_chance(w, 300));
    }
    sim_drain(w);
    if (!w->failed) {
        sim_check_empty(w);
    }
}
