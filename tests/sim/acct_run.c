/* acct_run.c - what a seed of the simulation of accounts does: a plan, actions, reloads, quiet points. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acct.h"
#include "base/list.h"
#include "server/settings.h"

#define MS 1000000ull
#define SESSIONS_MAX 120

/* ---- the plan ---- */

static uint32_t pick_of(struct sim_world *w, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t draw = sim_below(w, 3);
    return draw == 0 ? a : draw == 1 ? b : c;
}

static void draw_node(struct sim_world *w)
{
    struct sim_plan *plan = &w->plan;
    struct rb_sim_net_options *net = &plan->net;
    rb_config_defaults(&plan->config);
    plan->config.ping_interval_ns = 120000 * MS;
    plan->shard_count = 1 + sim_below(w, 5);
    plan->client_count = 3 + sim_below(w, 10);
    plan->action_count = 60 + sim_below(w, 300);
    plan->quiet_every = 15 + sim_below(w, 80);
    plan->cork_permille = pick_of(w, 0, 300, 700);
    plan->stall_permille = pick_of(w, 0, 0, 20);
    plan->churn_permille = pick_of(w, 5, 20, 50);
    plan->starve_permille = pick_of(w, 0, 5, 40);
    plan->steps_max = pick_of(w, 4, 6, 20);
    plan->jump_permille = pick_of(w, 0, 3, 10);
    plan->log_all = sim_chance(w, 100);
    net->seed = w->seed ^ 0xacc7;
    net->delay_max_ns = pick_of(w, 0, 100, 3000) * 1000ull;
    net->split_permille = pick_of(w, 0, 50, 300);
    net->short_write_permille = pick_of(w, 0, 50, 300);
    net->reset_permille = sim_chance(w, 200) ? 2 : 0;
    net->window_bytes = pick_of(w, 16, 64, 256) * 1024;
    net->recv_bytes_max = pick_of(w, 100, 4096, 16384);
    if (sim_chance(w, 150)) { /* one shard sleeps until the rings towards it are full */
        plan->shard_count = 2 + sim_below(w, 3);
        plan->starve_permille = 100;
        plan->steps_max = 40;
        plan->action_count = 400;
        plan->quiet_every = 200;
        plan->cork_permille = plan->stall_permille = 0;
        plan->body_max = 12000;
        acct_of(w)->big_permille = 600;
        acct_of(w)->burst = 40;
    } else {
        acct_of(w)->big_permille = 100;
        acct_of(w)->burst = 15;
        plan->body_max = pick_of(w, 100, 1000, 20000);
    }
}

static void draw_limits(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    a->uses_sub_limits = sim_chance(w, 400);
    for (uint32_t i = 0; i < ACCT_MAX; i++) {
        a->max_conns[i] = sim_chance(w, 250) ? 1 + (int64_t)sim_below(w, 4) : -1;
        a->max_subs[i] = a->uses_sub_limits && sim_chance(w, 500) ? (int64_t)sim_below(w, 6) : -1;
        a->max_payload[i] = sim_chance(w, 150) ? 200 + (int64_t)sim_below(w, 800) : -1;
    }
}

static void trace_list(struct sim_world *w, const char *name, const struct acct_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        sim_trace(w, "      %s %s %s", name, list->entries[i].subject, list->entries[i].queue);
    }
    if (list->set && list->count == 0) {
        sim_trace(w, "      %s nothing", name);
    }
}

static void trace_users(struct sim_world *w, const struct acct_policy *p)
{
    for (uint32_t i = 0; i < ACCT_USERS && p->login == ACCT_BY_USERS; i++) {
        const struct acct_user *user = &p->users[i];
        if (!user->exists) {
            continue;
        }
        sim_trace(w, "  u%u is of %s, secret %u%s%s", i, acct_names[user->account], user->secret,
                  user->hashed ? ", hashed" : "",
                  p->no_auth_user == (int32_t)i ? ", stands for nobody" : "");
        if (user->perms.present) {
            trace_list(w, "pub +", &user->perms.pub_allow);
            trace_list(w, "pub -", &user->perms.pub_deny);
            trace_list(w, "sub +", &user->perms.sub_allow);
            trace_list(w, "sub -", &user->perms.sub_deny);
        }
        if (user->perms.present && user->perms.responses) {
            sim_trace(w, "      %lld answers within %lld ms", (long long)user->perms.responses_max,
                      (long long)user->perms.responses_ttl_ns / 1000000);
        }
    }
}

static void trace_policy(struct sim_world *w, const struct acct_policy *p)
{
    static const char *const logins[] = { "nothing", "users", "token", "single user" };
    sim_trace(w, "  asked for: %s, secret %u", logins[p->login], p->secret);
    for (uint32_t i = 0; w->trace && i < ACCT_MAX; i++) {
        const struct acct_account *account = &p->accounts[i];
        for (uint32_t j = 0; j < account->import_count; j++) {
            const struct acct_import *import = &account->imports[j];
            sim_trace(w, "  %s imports %s %s from %s: %s %s", acct_names[i],
                      import->service ? "service" : "stream", import->subject,
                      acct_names[import->from], import->to, import->prefix);
        }
        for (uint32_t j = 0; j < account->mapping_count; j++) {
            const struct acct_mapping *mapping = &account->mappings[j];
            for (uint32_t k = 0; k < mapping->target_count; k++) {
                sim_trace(w, "  %s maps %s to %s: %u%%", acct_names[i], mapping->source,
                          mapping->targets[k].subject, mapping->targets[k].weight);
            }
        }
    }
    trace_users(w, p);
}

static void draw_entropy(void *ctx, void *out, size_t len)
{
    for (uint8_t *at = out; len > 0; len--) {
        *at++ = (uint8_t)rb_env_below(ctx, 256);
    }
}

void acct_plan_draw(struct sim_world *w)
{
    struct acct_world *a = calloc(1, sizeof(*a));
    struct rb_env env;
    w->acct = a;
    draw_node(w);
    draw_limits(w);
    rb_env_seed(&env, w->seed ^ 0x4e6b6579);
    env.entropy = draw_entropy;
    env.ctx = &env;
    a->uses_nkeys = sim_chance(w, 400);
    a->mappings = true;
    a->reload_permille = pick_of(w, 0, 5, 20);
    a->lazy_permille = pick_of(w, 0, 0, 700);
    for (uint32_t i = 0; a->uses_nkeys && i < ACCT_NKEYS; i++) {
        if (rb_nkey_generate(&env, RB_NKEY_USER, &a->keys[i]) != RB_OK) {
            abort();
        }
        rb_nkey_encode_public(RB_NKEY_USER, a->keys[i].public_key, a->key_text[i]);
    }
    acct_policy_draw(w, &a->policies[0]);
    bool weights = false;
    for (uint32_t i = 0; i < ACCT_MAX; i++) {
        weights = weights || a->policies[0].accounts[i].mapping_count > 0;
    }
    /* elsewhere equal refusals could mean one operation or another */
    a->explicit_answers = a->reload_permille > 0 || a->uses_sub_limits || weights;
    a->literal_count = 6 + sim_below(w, 10);
    for (uint32_t i = 0; i < a->literal_count; i++) {
        acct_draw_subject(w, a->literals[i], false);
    }
    trace_policy(w, &a->policies[0]);
}

const struct rb_policy *acct_first_policy(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    a->base = w->plan.config.policy; /* its arena holds the configuration's lists */
    return acct_policy_build(w, &a->policies[0]);
}

/* ---- reloads ---- */

static void doom_sessions(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    const struct acct_policy *before = &a->policies[a->policy_done];
    const struct acct_policy *after = &a->policies[a->policy_new];
    for (uint32_t i = 0; i < a->session_count; i++) {
        struct acct_session *s = a->sessions[i];
        struct acct_verdict old = acct_session_judge(s, s->login, a->policy_done);
        struct acct_verdict now = acct_session_judge(s, s->login, a->policy_new);
        bool sure = s->bound && (s->connect_confirmed || !s->connect_sent);
        bool changed = !acct_same_identity(before, old, after, now);
        if (!s->open) {
            continue;
        }
        for (uint32_t login = s->login_confirmed; login < s->login; login++) {
            changed =
                changed || !acct_same_identity(before, acct_session_judge(s, login, a->policy_done),
                                               after, acct_session_judge(s, login, a->policy_new));
        }
        if (changed) {
            s->doom |= ACCT_DOOM_AUTH | ACCT_DOOM_SILENT;
            s->must_die = sure || (!old.accepted && !now.accepted && s->must_die);
            a->moved = true;
        } else if (!sure) { /* a verdict that was under way may be too old */
            s->doom |= ACCT_DOOM_AUTH;
            s->must_die = false;
        }
        if (now.accepted && a->max_conns[now.account] >= 0) {
            s->doom |= ACCT_DOOM_CONNS;
        }
    }
}

static void reload_begin(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    char error[RB_CONFIG_ERROR_MAX];
    if (a->policy_new + 1 == ACCT_POLICIES || a->reload_in_epoch) {
        return;
    }
    struct acct_policy *next = &a->policies[a->policy_new + 1];
    *next = a->policies[a->policy_new];
    acct_policy_change(w, next);
    const struct rb_policy *policy = acct_policy_build(w, next);
    struct rb_config config = w->plan.config;
    struct rb_core_settings *settings;
    config.policy = policy;
    if (rb_account_ids_assign(&w->ids, &w->accounts, policy) != RB_OK ||
        rb_settings_make(&config, &w->shared, &settings, error) != RB_OK) {
        sim_fail(w, "a reload is not possible");
        return;
    }
    rb_policy_release(policy);
    next->settings = settings;
    a->policy_new++;
    a->reload_in_epoch = a->group_unstable = true;
    a->reloads++;
    memset(a->shard_new, 0, sizeof(a->shard_new));
    sim_trace(w, "a reload begins: policy %u", a->policy_new);
    trace_policy(w, next);
    doom_sessions(w);
}

/** Without room in the mail a reload ends a connection whose subscriptions it would have to withdraw (identity.c). */
static void doom_withdrawn(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    for (uint32_t i = 0; i < a->session_count; i++) {
        struct acct_session *s = a->sessions[i];
        for (uint32_t j = 0; s->open && j < s->sub_count; j++) {
            const struct acct_sub *sub = &s->subs[j];
            struct acct_verdict verdict = acct_session_judge(s, sub->login, a->policy_new);
            if (sub->state <= ACCT_LIVE &&
                !acct_may_subscribe(verdict.perms, sub->pattern, acct_queue_name(sub->queue))) {
                s->doom |= ACCT_DOOM_SILENT;
            }
        }
    }
}

static void reload_shard(struct sim_world *w, uint32_t shard)
{
    struct acct_world *a = acct_of(w);
    if (a->policy_done == a->policy_new || a->shard_new[shard] || shard == w->starved) {
        return;
    }
    sim_trace(w, "shard %u takes policy %u", shard, a->policy_new);
    a->shard_new[shard] = true;
    struct rb_core_settings *settings =
        (struct rb_core_settings *)(uintptr_t)a->policies[a->policy_new].settings;
    enum rb_err err = rb_core_apply(rb_shard_core(w->shards[shard]), rb_settings_hold(settings));
    if (err != RB_OK) {
        sim_fail(w, "shard %u does not take a policy: %d", shard, (int)err);
    }
    if (rb_shard_core(w->shards[shard])->mail_tight) { /* before, or by what was withdrawn */
        doom_withdrawn(w);
    }
    sim_turn(w, shard); /* a task of a turn: what changed is told at its end */
    for (uint32_t i = 0; i < w->plan.shard_count; i++) {
        if (!a->shard_new[i]) {
            return;
        }
    }
    rb_core_settings_release(settings);
    a->policies[a->policy_new].settings = NULL;
    a->policy_done = a->policy_new;
    a->reload_pub = a->pub_count;
    sim_trace(w, "policy %u is in force", a->policy_done);
}

static void reload_finish(struct sim_world *w)
{
    w->starved = UINT32_MAX;
    for (uint32_t i = 0; i < w->plan.shard_count; i++) {
        reload_shard(w, i);
    }
}

/* ---- actions ---- */

static struct acct_creds draw_creds(struct sim_world *w, const struct acct_session *s)
{
    struct acct_world *a = acct_of(w);
    const struct acct_policy *p = &a->policies[a->policy_new];
    struct acct_creds creds = { .proof = ACCT_NOTHING };
    if (p->login == ACCT_OPEN || sim_chance(w, 80)) {
        return creds;
    }
    bool wrong = sim_chance(w, 60);
    if (p->login == ACCT_BY_TOKEN || sim_chance(w, 20)) {
        creds = (struct acct_creds){ ACCT_TOKEN, 0, wrong ? 1000 : p->secret };
    } else if (p->login == ACCT_BY_SINGLE) {
        creds = (struct acct_creds){ ACCT_USER, 0, wrong ? 1000 : p->secret };
    } else {
        uint32_t user = sim_below(w, ACCT_USERS + (wrong ? 1 : 0));
        if (user < ACCT_NKEYS) {
            if (a->uses_nkeys && s->nonce[0] != '\0') {
                return (struct acct_creds){ ACCT_NKEY, user, wrong };
            }
            user += ACCT_NKEYS;
        }
        creds = (struct acct_creds){ ACCT_USER, user,
                                     wrong || user == ACCT_USERS ? 1000 : p->users[user].secret };
    }
    return creds;
}

static void flush_some(struct acct_session *s)
{
    if (!sim_chance(s->w, s->w->plan.cork_permille)) {
        acct_session_flush(s);
    }
}

/** After CONNECT: a place for answers. */
static void settle(struct acct_session *s)
{
    char inbox[32];
    snprintf(inbox, sizeof(inbox), "in.%u.*", s->index);
    acct_session_sub(s, inbox, ACCT_PLAIN);
    acct_session_ping(s);
}

static void begin_session(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    if (a->session_count == SESSIONS_MAX) {
        return;
    }
    struct acct_session *s = acct_session_open(w);
    if (sim_chance(w, 950)) {
        if (a->uses_nkeys) { /* the nonce must be here first */
            for (uint32_t i = 0; i < 50 && !s->heard_info && w->starved == UINT32_MAX; i++) {
                sim_turn_all(w);
                rb_sim_net_advance(w->net, 1 * MS);
                acct_session_read(s, 4096);
            }
        }
        struct acct_creds creds = draw_creds(w, s);
        if (s->open) {
            acct_session_connect(s, &creds);
        }
    }
    if (s->open) {
        settle(s);
        flush_some(s);
    }
}

static struct acct_session *pick_session(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    for (uint32_t tries = 0; tries < 60; tries++) {
        struct acct_session *s = a->sessions[sim_below(w, a->session_count)];
        if (s->open && !s->must_die && !s->heard_doom) {
            return s;
        }
    }
    return NULL;
}

static uint32_t count_open(const struct acct_world *a)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->session_count; i++) {
        count += a->sessions[i]->open;
    }
    return count;
}

static uint32_t draw_body(struct acct_session *s)
{
    struct sim_world *w = s->w;
    if (!s->connect_sent) { /* 4 KiB are allowed */
        return 8 + sim_below(w, 2000);
    }
    return sim_chance(w, acct_of(w)->big_permille) ? 8 + sim_below(w, w->plan.body_max)
                                                   : 8 + sim_below(w, 100);
}

/** A pattern that some import of the session's account is about: what it asks for, or what others ask it for. */
static bool draw_linked(struct acct_session *s, bool publish, char out[ACCT_TEXT])
{
    struct sim_world *w = s->w;
    const struct acct_policy *p = &acct_of(w)->policies[acct_of(w)->policy_new];
    struct acct_verdict verdict = acct_session_judge(s, s->login, acct_of(w)->policy_new);
    uint32_t found = 0;
    for (uint32_t i = 0; i < ACCT_MAX && verdict.accepted; i++) {
        for (uint32_t j = 0; j < p->accounts[i].import_count; j++) {
            const struct acct_import *import = &p->accounts[i].imports[j];
            bool theirs = i == verdict.account && import->service == publish;
            bool ours = import->from == verdict.account && import->service != publish;
            if ((theirs || ours) && sim_below(w, ++found) == 0) {
                if (theirs) {
                    acct_import_local(import, out);
                } else {
                    memcpy(out, import->subject, ACCT_TEXT);
                }
            }
        }
    }
    return found > 0;
}

/** A subject that some import is about, or any. */
static void draw_literal(struct acct_session *s, char out[ACCT_TEXT])
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    char pattern[ACCT_TEXT], *save = NULL;
    size_t len = 0;
    snprintf(out, ACCT_TEXT, "%s", a->literals[sim_below(w, a->literal_count)]);
    if (sim_chance(w, 350) || !draw_linked(s, true, pattern)) {
        return;
    }
    for (char *token = strtok_r(pattern, ".", &save); token != NULL;
         token = strtok_r(NULL, ".", &save)) {
        static const char *const words[] = { "a", "b", "c" };
        bool wild = token[0] == '*' || token[0] == '>';
        len += (size_t)snprintf(out + len, ACCT_TEXT - len, "%s%s", len > 0 ? "." : "",
                                wild ? words[sim_below(w, 3)] : token);
    }
}

static void act_pub(struct acct_session *s)
{
    struct sim_world *w = s->w;
    char subject[ACCT_TEXT], reply[48] = "";
    uint32_t body_len = draw_body(s);
    draw_literal(s, subject);
    if (sim_chance(w, 600)) {
        snprintf(reply, sizeof(reply), "in.%u.%u", s->index, s->pub_count + 1);
    }
    acct_session_pub(s, subject, reply, UINT32_MAX, body_len, sim_chance(w, 300));
}

static void act_answer(struct acct_session *s)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    if (s->answer_count == 0) {
        act_pub(s);
        return;
    }
    uint32_t recent = s->answer_count < 6 ? s->answer_count : 6;
    const struct acct_answer *answer =
        &s->answers[sim_chance(w, 800) ? s->answer_count - 1 - sim_below(w, recent)
                                       : sim_below(w, s->answer_count)];
    if (!s->verbose && answer->uses > 0) {
        return; /* which of two equal answers was refused would not be known */
    }
    char subject[48];
    memcpy(subject, answer->reply, sizeof(subject));
    uint32_t leg = answer->leg;
    bool empty = false;
    if (leg != UINT32_MAX) {
        const struct acct_leg *way = &a->legs[leg];
        empty = way->chain_count > 0 && way->chains[0].chunked && sim_chance(w, 200);
    }
    uint32_t index = acct_session_pub(s, subject, "", leg, empty ? 0 : draw_body(s), false);
    struct acct_pub *pub = &a->pubs[index];
    if (leg != UINT32_MAX) {
        struct acct_leg *way = &a->legs[leg];
        bool all = way->chain_count > 0 && !way->vague;
        for (uint32_t i = 0; i < way->chain_count; i++) {
            all = all && rb_sim_net_now(w->net) >
                             way->active_ns + (uint64_t)way->chains[i].threshold_ns + 1000 * MS;
        }
        pub->late =
            all && way->pending == 1 && a->pubs[way->pub].confirmed && way->pub < a->epoch_pub;
    }
}

static void act_sub(struct acct_session *s)
{
    struct sim_world *w = s->w;
    char pattern[ACCT_TEXT];
    if (s->sub_count > 25) {
        return;
    }
    if (sim_chance(w, 150)) {
        draw_literal(s, pattern);
    } else if (sim_chance(w, 400) || !draw_linked(s, false, pattern)) {
        acct_draw_subject(w, pattern, true);
    }
    acct_session_sub(s, pattern, sim_chance(w, 300) ? sim_below(w, 3) : ACCT_PLAIN);
    if (sim_chance(w, 600)) {
        acct_session_ping(s);
    }
}

static void act_unsub(struct acct_session *s)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    if (s->sub_count < 2) {
        return;
    }
    uint32_t index = 1 + sim_below(w, s->sub_count - 1);
    struct acct_sub *sub = &s->subs[index];
    if (sub->ending || sub->state > ACCT_LIVE) {
        return;
    }
    if (!a->uses_sub_limits && sub->max == 0 && sub->queue == ACCT_PLAIN && sim_chance(w, 300)) {
        acct_session_unsub(s, index, sub->delivered + 1 + sim_below(w, 5));
    } else if (sub->max == 0) {
        acct_session_unsub(s, index, 0);
    }
}

static void act_churn(struct sim_world *w, struct acct_session *s)
{
    const struct acct_world *a = acct_of(w);
    switch (sim_below(w, 4)) {
    case 0:
    case 1:
        /* where it depends on the login whether a first CONNECT leaves subscriptions, there is none that late */
        if (s->heard_info && (s->connect_sent || !a->login_changes)) {
            struct acct_creds creds = draw_creds(w, s);
            acct_session_connect(s, &creds);
            settle(s);
            flush_some(s);
        }
        return;
    case 2:
        acct_session_flush(s);
        acct_session_close(s, false);
        break;
    default:
        acct_session_close(s, true);
        break;
    }
    begin_session(w);
}

static void act(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    struct acct_session *s = pick_session(w);
    if (s == NULL || count_open(a) < w->plan.client_count) {
        begin_session(w);
        s = pick_session(w);
    }
    if (s == NULL) {
        return;
    }
    if (sim_chance(w, w->plan.churn_permille)) {
        act_churn(w, s);
        return;
    }
    if (sim_chance(w, w->plan.stall_permille)) {
        acct_session_stall(s, !s->stalled);
    }
    uint32_t draw = sim_below(w, 100);
    if (draw < 30) {
        for (uint32_t burst = 1 + (sim_chance(w, 150) ? sim_below(w, acct_of(w)->burst) : 0);
             burst > 0; burst--) {
            act_pub(s);
        }
    } else if (draw < 60) {
        act_answer(s);
    } else if (draw < 80) {
        act_sub(s);
    } else if (draw < 87) {
        act_unsub(s);
    } else {
        acct_session_ping(s);
    }
    flush_some(s);
}

static void run_some(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    for (uint32_t steps = sim_below(w, w->plan.steps_max); steps > 0 && !w->failed; steps--) {
        switch (sim_below(w, 7)) {
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
        case 4:
            reload_shard(w, sim_below(w, w->plan.shard_count));
            break;
        default:
            acct_session_read(a->sessions[sim_below(w, a->session_count)], 1 + sim_below(w, 16384));
            break;
        }
    }
}

/* ---- quiet points ---- */

static void make_quiet(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    reload_finish(w);
    for (uint32_t i = 0; i < a->session_count; i++) {
        struct acct_session *s = a->sessions[i];
        acct_session_stall(s, false);
        if (s->open && !s->must_die) {
            acct_session_ping(s);
        }
    }
    sim_drain(w);
    if (!w->failed) {
        acct_check_quiet(w);
    }
}

/** A request while nothing else moves: refused exactly when nobody wants it. */
static void request_in_peace(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    struct acct_session *s = pick_session(w);
    if (s == NULL || !s->no_responders || !s->bound || s->sub_count == 0 ||
        s->subs[0].state != ACCT_LIVE || w->plan.net.reset_permille > 0) {
        return;
    }
    char subject[ACCT_TEXT], reply[48];
    draw_literal(s, subject);
    snprintf(reply, sizeof(reply), "in.%u.%u", s->index, s->pub_count + 1);
    uint32_t index = acct_session_pub(s, subject, reply, UINT32_MAX, 20, false);
    acct_session_ping(s);
    struct acct_choices choices = { 0 };
    bool some = false, none = false;
    do {
        static struct acct_points points;
        uint32_t any = 0, sure = 0;
        acct_pub_points(w, &a->pubs[index], a->policy_done, &choices, &points);
        for (uint32_t i = 0; i < a->session_count; i++) {
            const struct acct_session *r = a->sessions[i];
            struct acct_verdict verdict = acct_session_judge(r, r->login, a->policy_done);
            for (uint32_t j = 0; r->open && j < r->sub_count; j++) {
                const struct acct_sub *sub = &r->subs[j];
                const char *queue = acct_queue_name(sub->queue);
                if (sub->state != ACCT_LIVE) {
                    continue;
                }
                any += acct_copies(&a->policies[a->policy_done], &points, verdict.account,
                                   sub->pattern, NULL, queue, NULL);
                sure += r == s ? 0
                               : acct_copies(&a->policies[a->policy_done], &points, verdict.account,
                                             sub->pattern, verdict.perms, queue, NULL);
            }
        }
        none = none || any == 0;
        some = some || sure > 0 || any > 0;
        if (any > 0 && sure == 0) {
            none = some = true; /* filtered, or its own: either is right */
        }
    } while (acct_choices_next(&choices));
    sim_drain(w);
    const struct acct_pub *pub = &a->pubs[index];
    if (!w->failed && s->open && !pub->denied &&
        ((!some && pub->refused != 1) || (!none && pub->refused != 0))) {
        sim_fail(w, "c%u: request on %s was refused %u times; %s wants it", s->index, subject,
                 pub->refused, some ? "somebody" : "nobody");
    }
}

static void quiet_point(struct sim_world *w)
{
    make_quiet(w);
    for (uint32_t i = 0; i < 2 && !w->failed; i++) {
        request_in_peace(w);
    }
    if (!w->failed) {
        make_quiet(w);
    }
}

/** Time for thresholds of services and of allow_responses. */
static void jump(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    for (uint32_t i = 0; i < a->session_count; i++) {
        acct_session_stall(a->sessions[i], false);
    }
    w->totals.jumps++;
    uint64_t ns = sim_chance(w, 500) ? 3000 * MS : 13000 * MS;
    sim_trace(w, "%llu ms pass", (unsigned long long)(ns / MS));
    sim_pass_time(w, ns);
}

/** Nobody is left: after the longest threshold no answer may be awaited. */
static void check_responses(struct sim_world *w)
{
    sim_pass_time(w, 125000 * MS);
    for (uint32_t i = 0; i < w->plan.shard_count && !w->failed; i++) {
        struct rb_core *core = rb_shard_core(w->shards[i]);
        if (!rb_list_empty(&core->responses) || core->response_map.count != 0) {
            sim_fail(w, "shard %u: answers are awaited after their time", i);
        }
    }
}

void acct_run(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    for (uint32_t i = 0; i < w->plan.client_count; i++) {
        begin_session(w);
    }
    for (uint32_t i = 1; i <= w->plan.action_count && !w->failed; i++) {
        w->lazy_work = a->lazy_permille > 0;
        act(w);
        run_some(w);
        if (w->starved == UINT32_MAX && sim_chance(w, w->plan.starve_permille)) {
            w->starved = sim_below(w, w->plan.shard_count);
            sim_trace(w, "shard %u gets no more turns", w->starved);
        }
        if (sim_chance(w, a->reload_permille)) {
            reload_begin(w);
        }
        if (sim_chance(w, w->plan.jump_permille)) {
            jump(w);
        }
        if (i % w->plan.quiet_every == 0 && !w->failed) {
            quiet_point(w);
        }
    }
    reload_finish(w);
    if (w->failed || sim_chance(w, 300)) {
        return; /* the node stops in the middle of things */
    }
    quiet_point(w);
    if (w->failed || sim_chance(w, 300)) {
        return;
    }
    for (uint32_t i = 0; i < a->session_count; i++) {
        acct_session_close(a->sessions[i], sim_chance(w, 300));
    }
    sim_drain(w);
    if (!w->failed) {
        acct_check_empty(w);
        check_responses(w);
    }
}

/* ---- seams of world.h ---- */

static void flush_all(struct sim_world *w)
{
    for (uint32_t i = 0; i < acct_of(w)->session_count; i++) {
        acct_session_flush(acct_of(w)->sessions[i]);
    }
}

static bool read_all(struct sim_world *w)
{
    bool work = false;
    for (uint32_t i = 0; i < acct_of(w)->session_count && !w->failed; i++) {
        work |= acct_session_read(acct_of(w)->sessions[i], SIM_READ_BYTES);
    }
    return work;
}

static void end_all(struct sim_world *w)
{
    for (uint32_t i = 0; i < acct_of(w)->session_count; i++) {
        acct_session_stall(acct_of(w)->sessions[i], false);
    }
}

static void check_ended(struct sim_world *w)
{
    for (uint32_t i = 0; i < acct_of(w)->session_count; i++) {
        if (acct_of(w)->sessions[i]->open && !w->failed) {
            sim_fail(w, "c%u: still open after the node stopped", i);
        }
    }
}

void acct_free(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    rb_policy_release(a->base);
    for (uint32_t i = 0; i < a->session_count; i++) {
        struct acct_session *s = a->sessions[i];
        for (uint32_t j = 0; j < s->sub_count; j++) {
            free(s->subs[j].last);
            free(s->subs[j].got);
            free(s->subs[j].got_copies);
        }
        free(s->subs);
        free(s->pubs);
        free(s->expects);
        free(s->answers);
        sim_wire_free(&s->wire);
        free(s);
    }
    for (uint32_t i = 0; i < ACCT_NKEYS; i++) {
        rb_nkey_wipe(&a->keys[i]);
    }
    free(a->sessions);
    free(a->pubs);
    free(a->legs);
    free(a);
}

const struct sim_clients acct_clients = {
    .flush = flush_all,
    .read = read_all,
    .end = end_all,
    .check_ended = check_ended,
    .check_empty = acct_check_empty,
    .policy = acct_first_policy,
};
