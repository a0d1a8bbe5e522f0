/* acct_check.c - what must be true when nothing moves any more, and when everybody has gone.
 *
 * 1. Missing messages: what the model owes a subscription that stood before it was published, and stands.
 *    A weighted mapping leaves it open which way a message went: one of the ways must explain everything.
 * 2. Every shard knows the interest of every other one in each account; a server's own subscriptions are told when others
 *    must know ("_R_"), and never when each shard has its own (service imports).
 * 3. Counters of accounts are those of their members.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acct.h"
#include "core/account.h"
#include "core/sublist.h"

uint32_t acct_members_most(struct acct_world *a, uint32_t account)
{
    uint32_t count = a->members_gone[account];
    bool open = false; /* then a connection is a member before it says anything */
    for (uint32_t p = a->floor; p <= a->policy_new; p++) {
        open = open || a->policies[p].login == ACCT_OPEN;
    }
    for (uint32_t i = 0; i < a->session_count; i++) {
        const struct acct_session *s = a->sessions[i];
        count += s->open && (s->spoke || open) && acct_may_be_member(s, account);
    }
    return count;
}

/* ---- what must have come ---- */

struct receiver {
    struct acct_session *s;
    struct acct_sub *sub;
    struct acct_verdict verdict;
};

struct receivers {
    uint32_t count, cap;
    struct receiver *items;
};

static void collect(struct acct_world *a, struct receivers *all)
{
    for (uint32_t i = 0; i < a->session_count; i++) {
        struct acct_session *s = a->sessions[i];
        for (uint32_t j = 0; s->open && j < s->sub_count; j++) {
            if (s->subs[j].state == ACCT_LIVE && !s->subs[j].ending) {
                all->items = sim_grow(all->items, &all->cap, all->count + 1, sizeof(*all->items));
                all->items[all->count++] =
                    (struct receiver){ s, &s->subs[j],
                                       acct_session_judge(s, s->subs[j].login, a->policy_done) };
            }
        }
    }
}

static uint32_t got_copies(const struct acct_sub *sub, uint32_t pub)
{
    for (uint32_t i = 0; i < sub->got_count; i++) {
        if (sub->got[i] == pub) {
            return sub->got_copies[i];
        }
    }
    return 0;
}

static uint32_t owed_copies(struct acct_world *a, const struct receiver *r,
                            const struct acct_pub *pub, const struct acct_points *points)
{
    struct acct_points own = *points;
    if (pub->session == r->s->index && pub->silent) {
        own.at[0].account = UINT32_MAX; /* no echo; what comes back through an import does come */
    }
    return acct_copies(&a->policies[a->policy_done], &own, r->verdict.account, r->sub->pattern,
                       r->verdict.perms, acct_queue_name(r->sub->queue), NULL);
}

/**
 * The subscription was known everywhere before the message could come past. An answer to a service is published again by
 * the requestor's shard while that takes its mail, so what others subscribed after the request may not be known there yet
 * (docs/sharding.md).
 */
static bool in_time(const struct acct_world *a, const struct acct_sub *sub,
                    const struct acct_pub *pub)
{
    const struct acct_pub *first = pub->leg == UINT32_MAX ? pub : &a->pubs[a->legs[pub->leg].pub];
    return sub->established < first->stamp;
}

/** True when this choice of ways explains what came; else *ret_missing says who has a complaint. */
static bool plain_explained(struct acct_world *a, const struct receivers *all, uint32_t pub_index,
                            const struct acct_points *points, const struct receiver **ret_missing)
{
    const struct acct_pub *pub = &a->pubs[pub_index];
    for (uint32_t i = 0; i < all->count; i++) {
        const struct receiver *r = &all->items[i];
        if (r->sub->queue == ACCT_PLAIN && r->sub->max == 0 && in_time(a, r->sub, pub) &&
            got_copies(r->sub, pub_index) != owed_copies(a, r, pub, points)) {
            *ret_missing = r;
            return false;
        }
    }
    return true;
}

/** Each point owes each group one delivery, if every member there would take it. */
static bool groups_explained(struct acct_world *a, const struct receivers *all, uint32_t pub_index,
                             const struct acct_points *points, uint32_t *ret_queue)
{
    const struct acct_pub *pub = &a->pubs[pub_index];
    const struct acct_policy *policy = &a->policies[a->policy_done];
    for (uint32_t queue = 0; queue < 3; queue++) {
        uint32_t owed = 0;
        for (uint32_t i = 0; i < points->count; i++) {
            struct acct_points one = { .count = 1 };
            bool member = false, unsure = false;
            one.at[0] = points->at[i];
            for (uint32_t j = 0; j < all->count; j++) {
                const struct receiver *r = &all->items[j];
                if (r->sub->queue != queue) {
                    continue;
                }
                uint32_t any = acct_copies(policy, &one, r->verdict.account, r->sub->pattern, NULL,
                                           acct_queues[queue], NULL);
                uint32_t may = acct_copies(policy, &one, r->verdict.account, r->sub->pattern,
                                           r->verdict.perms, acct_queues[queue], NULL);
                unsure = unsure || any != may || (any > 0 && pub->session == r->s->index) ||
                         (any > 0 && r->sub->max > 0);
                member = member || (may > 0 && in_time(a, r->sub, pub));
            }
            owed += member && !unsure;
        }
        if (pub->queue_count[queue] < owed) {
            *ret_queue = queue;
            return false;
        }
    }
    return true;
}

/** Where a request went through several accounts, answers on the way may have used up the rest of the way back. */
static bool others_answered(const struct acct_world *a, const struct acct_leg *leg)
{
    for (uint32_t i = 0; i < a->leg_count; i++) {
        const struct acct_leg *other = &a->legs[i];
        if (other != leg && other->pub == leg->pub && other->said > 0 &&
            (leg->chains[0].len > 2 || other->chains[0].len > 2)) {
            return true;
        }
    }
    return false;
}

/** An answer's way ends early: single ones after the first, chunked ones after the end, all after their time. */
static bool way_is_sure(struct sim_world *w, const struct acct_pub *pub)
{
    struct acct_world *a = acct_of(w);
    if (pub->leg == UINT32_MAX) {
        return true;
    }
    const struct acct_leg *leg = &a->legs[pub->leg];
    const struct acct_chain *chain = &leg->chains[0];
    uint64_t age_ns = rb_sim_net_now(w->net) - a->pubs[leg->pub].said_ns;
    return leg->chain_count == 1 && !leg->vague && !leg->ended && !others_answered(a, leg) &&
           (int64_t)age_ns < chain->threshold_ns && (!chain->single || leg->said == 1);
}

/** The fewest copies that any mix of the policies that may have been in force gives this subscription. */
static uint32_t copies_least(struct sim_world *w, const struct receiver *r,
                             const struct acct_pub *pub)
{
    struct acct_world *a = acct_of(w);
    uint32_t least = UINT32_MAX;
    for (uint32_t p1 = pub->policy_first; p1 <= pub->policy_last; p1++) {
        struct acct_choices choices = { 0 };
        do {
            static struct acct_points points;
            acct_pub_points(w, pub, p1, &choices, &points);
            for (uint32_t p2 = pub->policy_first; p2 <= a->policy_done; p2++) {
                struct acct_verdict verdict = acct_session_judge(r->s, r->sub->login, p2);
                uint32_t copies = acct_copies(&a->policies[p2], &points, verdict.account,
                                              r->sub->pattern, verdict.perms, "", NULL);
                least = verdict.accepted && copies < least ? copies : least;
            }
        } while (acct_choices_next(&choices));
    }
    return least;
}

/** While a reload goes on, what both policies let through comes through. */
static void check_pub_reloaded(struct sim_world *w, const struct receivers *all, uint32_t pub_index)
{
    struct acct_pub *pub = &acct_of(w)->pubs[pub_index];
    for (uint32_t i = 0; i < all->count && !w->failed; i++) {
        const struct receiver *r = &all->items[i];
        if (r->sub->queue != ACCT_PLAIN || r->sub->max > 0 || r->sub->established >= pub->stamp ||
            pub->session == r->s->index) {
            continue;
        }
        uint32_t least = copies_least(w, r, pub), got = got_copies(r->sub, pub_index);
        if (got < least) {
            sim_fail(w, "c%u sid %u (%s): c%u #%u on %s came %u times, not %u, in a reload",
                     r->s->index, (uint32_t)(r->sub - r->s->subs) + 1, r->sub->pattern,
                     pub->session, pub->number, pub->subject, got, least);
        }
    }
}

static void check_pub(struct sim_world *w, const struct receivers *all, uint32_t pub_index)
{
    struct acct_world *a = acct_of(w);
    struct acct_pub *pub = &a->pubs[pub_index];
    if (pub->confirmed && !pub->denied && pub->leg == UINT32_MAX &&
        pub->policy_first != a->policy_done) {
        check_pub_reloaded(w, all, pub_index);
    }
    if (!pub->confirmed || pub->denied || pub->policy_first != pub->policy_last ||
        pub->policy_last != a->policy_done || !way_is_sure(w, pub)) {
        return;
    }
    struct acct_choices choices = { 0 };
    const struct receiver *missing = NULL;
    uint32_t queue = 3;
    static struct acct_points points;
    do {
        uint32_t late_queue = 3;
        acct_pub_points(w, pub, a->policy_done, &choices, &points);
        const struct receiver *complaint = NULL;
        bool plain = plain_explained(a, all, pub_index, &points, &complaint);
        if (plain &&
            (a->group_unstable || groups_explained(a, all, pub_index, &points, &late_queue))) {
            return;
        }
        sim_trace(w, "  as %s: c%u sid %u is owed %u, queue %u", points.at[0].subject,
                  plain ? 0 : complaint->s->index,
                  plain ? 0 : (uint32_t)(complaint->sub - complaint->s->subs) + 1,
                  plain ? 0 : owed_copies(a, complaint, pub, &points), late_queue);
        missing = complaint;
        queue = late_queue;
    } while (acct_choices_next(&choices));
    if (missing != NULL) {
        choices = (struct acct_choices){ 0 };
        acct_pub_points(w, pub, a->policy_done, &choices, &points);
        sim_fail(w, "c%u sid %u (%s): c%u #%u on %s came %u times, not %u", missing->s->index,
                 (uint32_t)(missing->sub - missing->s->subs) + 1, missing->sub->pattern,
                 pub->session, pub->number, pub->subject, got_copies(missing->sub, pub_index),
                 owed_copies(a, missing, pub, &points));
    } else {
        sim_fail(w, "queue %s: c%u #%u on %s did not come", queue < 3 ? acct_queues[queue] : "?",
                 pub->session, pub->number, pub->subject);
    }
}

/** A single answer that was given must have come through, whichever it was. */
static void check_leg(struct sim_world *w, const struct acct_leg *leg)
{
    struct acct_world *a = acct_of(w);
    const struct acct_pub *request = &a->pubs[leg->pub];
    const struct acct_session *s = a->sessions[request->session];
    uint64_t age_ns = rb_sim_net_now(w->net) - request->said_ns;
    bool listens = false;
    for (uint32_t i = 0; s->open && i < s->sub_count; i++) {
        const struct acct_sub *sub = &s->subs[i];
        struct acct_verdict verdict = acct_session_judge(s, s->login, a->policy_done);
        listens = listens ||
                  (sub->queue == ACCT_PLAIN && sub->state == ACCT_LIVE && sub->max == 0 &&
                   sub->established < request->stamp && acct_match(sub->pattern, request->reply) &&
                   acct_may_hear(verdict.perms, request->reply, ""));
    }
    if (listens && !others_answered(a, leg) && leg->chain_count == 1 && !leg->vague &&
        leg->confirmed > 0 && !leg->ended && leg->right_account && leg->came == 0 &&
        leg->pub >= a->epoch_pub && !a->reload_in_epoch &&
        (int64_t)age_ns < leg->chains[0].threshold_ns) {
        sim_fail(w, "%s: %u answers were given, none came", leg->token, leg->confirmed);
    }
}

static void check_session(struct sim_world *w, struct acct_session *s)
{
    struct acct_world *a = acct_of(w);
    struct acct_verdict verdict = acct_session_judge(s, s->login, a->policy_done);
    if (!s->open) {
        return;
    }
    if (s->must_die || s->heard_doom) {
        sim_fail(w, "c%u: should have been ended", s->index);
    } else if (s->expect_head != s->expect_count) {
        sim_fail(w, "c%u: %u answers are missing", s->index, s->expect_count - s->expect_head);
    } else if (s->wire.in_len > 0) {
        sim_fail(w, "c%u: the rest of a line is missing", s->index);
    } else if (s->spoke && !verdict.accepted) {
        sim_fail(w, "c%u: is still here, though nobody may be", s->index);
    }
    for (uint32_t i = 0; i < s->sub_count && !w->failed; i++) {
        const struct acct_sub *sub = &s->subs[i];
        if (sub->state == ACCT_LIVE &&
            !acct_may_subscribe(verdict.perms, sub->pattern, acct_queue_name(sub->queue))) {
            sim_fail(w, "c%u sid %u (%s): stands, though it may not", s->index, i + 1,
                     sub->pattern);
        }
    }
    s->doom = 0;
    s->was_stalled = false;
    s->login_last = s->login_first = a->policy_done;
}

/* ---- interest ---- */

struct interest {
    char subject[ACCT_TEXT], queue[24];
    uint32_t shard, local;
    uint32_t remote[RB_SHARDS_MAX];
};

struct interests {
    struct sim_world *w;
    uint32_t shard, count, cap;
    struct interest *items;
};

static void add_interest(void *ctx, struct rb_slice subject, struct rb_slice queue, uint32_t local,
                         const uint32_t *remote)
{
    struct interests *all = ctx;
    all->items = sim_grow(all->items, &all->cap, all->count + 1, sizeof(*all->items));
    struct interest *item = &all->items[all->count++];
    snprintf(item->subject, ACCT_TEXT, "%.*s", RB_S_ARG(subject));
    snprintf(item->queue, sizeof(item->queue), "%.*s", RB_S_ARG(queue));
    item->shard = all->shard;
    item->local = local;
    memcpy(item->remote, remote, all->w->plan.shard_count * sizeof(*remote));
}

static void collect_interest(struct interests *all, uint32_t id)
{
    for (all->shard = 0; all->shard < all->w->plan.shard_count; all->shard++) {
        const struct rb_sublist *sublist = rb_shard_sublist(all->w->shards[all->shard], id);
        if (sublist != NULL) {
            rb_sublist_each(sublist, add_interest, all);
        }
    }
}

static const struct interest *find_interest(const struct interests *all, const struct interest *of,
                                            uint32_t shard)
{
    for (uint32_t i = 0; i < all->count; i++) {
        const struct interest *item = &all->items[i];
        if (item->shard == shard && strcmp(item->subject, of->subject) == 0 &&
            strcmp(item->queue, of->queue) == 0) {
            return item;
        }
    }
    return NULL;
}

/** Returns the subscriptions of clients and shadows on all shards; *ret_own: the server's own, as they are counted. */
static uint32_t check_interest(struct sim_world *w, const char *account, uint32_t id,
                               uint32_t *ret_own)
{
    struct interests all = { .w = w };
    uint32_t local = 0;
    collect_interest(&all, id);
    for (uint32_t i = 0; i < all.count && !w->failed; i++) {
        const struct interest *item = &all.items[i];
        bool own = strcmp(item->queue, " ") == 0; /* every shard has one; it counts once */
        bool service = strncmp(item->subject, "$SYS.", 5) == 0;
        *ret_own += own ? (item->shard == 0 ? item->local : 0) : service ? item->local : 0;
        local += own || service || strncmp(item->subject, "_R_.", 4) == 0 ? 0 : item->local;
        for (uint32_t other = 0; other < w->plan.shard_count; other++) {
            const struct interest *theirs = find_interest(&all, item, other);
            uint32_t truth = theirs == NULL || own ? 0 : theirs->local;
            truth = item->queue[0] == '\0' && truth > 0 ? 1 : truth;
            if (other != item->shard && item->remote[other] != truth) {
                sim_fail(w, "%s: shard %u thinks shard %u wants '%s' '%s' %u times, not %u",
                         account, item->shard, other, item->subject, item->queue,
                         item->remote[other], truth);
            }
        }
        /* and nobody is left out */
        for (uint32_t other = 0; other < w->plan.shard_count && item->local > 0 && !own; other++) {
            if (other != item->shard && find_interest(&all, item, other) == NULL) {
                sim_fail(w, "%s: shard %u does not know that shard %u wants '%s' '%s'", account,
                         other, item->shard, item->subject, item->queue);
            }
        }
    }
    free(all.items);
    return local;
}

static int32_t account_id(const struct acct_world *a, struct sim_world *w, uint32_t account)
{
    (void)a;
    for (uint32_t i = 0; i < w->ids.count; i++) {
        if (rb_slice_equal(w->ids.names[i], rb_slice_text(acct_names[account]))) {
            return (int32_t)i;
        }
    }
    return -1;
}

static void check_account(struct sim_world *w, uint32_t account, const struct receivers *all)
{
    struct acct_world *a = acct_of(w);
    int32_t id = account_id(a, w, account);
    const struct acct_policy *policy = &a->policies[a->policy_done];
    uint32_t members = 0, subs = 0, shadows = 0;
    uint64_t conns = 0, counted = 0, in_msgs = 0, confirmed = 0;
    if (id < 0) {
        return;
    }
    for (uint32_t i = 0; i < a->session_count; i++) {
        const struct acct_session *s = a->sessions[i];
        struct acct_verdict verdict = acct_session_judge(s, s->login, a->policy_done);
        members += s->open && s->bound && verdict.accepted && verdict.account == account;
    }
    for (uint32_t i = 0; i < all->count; i++) {
        const struct receiver *r = &all->items[i];
        subs += r->verdict.account == account;
        for (uint32_t j = 0; j < policy->accounts[r->verdict.account].import_count; j++) {
            const struct acct_import *import = &policy->accounts[r->verdict.account].imports[j];
            char local[ACCT_TEXT];
            acct_import_local(import, local);
            shadows +=
                !import->service && import->from == account && acct_overlap(local, r->sub->pattern);
        }
    }
    for (uint32_t i = 0; i < w->plan.shard_count; i++) {
        const struct rb_core *core = rb_shard_core(w->shards[i]);
        const struct rb_account *own = (uint32_t)id < core->account_cap ? core->accounts[id] : NULL;
        if (own != NULL) {
            conns += rb_counter_get(&own->conn_count);
            counted += rb_counter_get(&own->sub_count) - (own->responses != NULL);
            in_msgs += rb_counter_get(&own->in_msgs);
        }
    }
    for (uint32_t i = 0; i < a->pub_count; i++) {
        confirmed += a->pubs[i].confirmed && a->pubs[i].account == account;
    }
    struct rb_account_shared *block =
        atomic_load(&w->accounts.blocks[(uint32_t)id / RB_ACCOUNT_BLOCK]);
    const struct rb_account_shared *shared = &block[(uint32_t)id % RB_ACCOUNT_BLOCK];
    uint32_t own_count = 0;
    uint32_t listed = check_interest(w, acct_names[account], (uint32_t)id, &own_count);
    counted -= own_count;
    if (conns != members || atomic_load(&shared->conns) != (int64_t)members) {
        sim_fail(w, "%s: %llu connections on its shards, %lld shared, %u clients",
                 acct_names[account], (unsigned long long)conns,
                 (long long)atomic_load(&shared->conns), members);
    } else if (counted != subs || atomic_load(&shared->subs) != (int64_t)subs) {
        sim_fail(w, "%s: %llu subscriptions on its shards, %lld shared, %u of clients",
                 acct_names[account], (unsigned long long)counted,
                 (long long)atomic_load(&shared->subs), subs);
    } else if (listed != subs + shadows) {
        sim_fail(w, "%s: %u subscriptions listed, %u of clients and %u for importers",
                 acct_names[account], listed, subs, shadows);
    } else if (in_msgs < confirmed || in_msgs > w->totals.publications) {
        sim_fail(w, "%s: in_msgs %llu, at least %llu were said", acct_names[account],
                 (unsigned long long)in_msgs, (unsigned long long)confirmed);
    } else if (a->max_conns[account] >= 0 && !a->moved && members > a->max_conns[account]) {
        sim_fail(w, "%s: %u connections, %lld are allowed", acct_names[account], members,
                 (long long)a->max_conns[account]);
    }
}

/* ---- epochs ---- */

static void begin_epoch(struct acct_world *a)
{
    a->group_unstable = a->reload_in_epoch = false;
    memset(a->members_gone, 0, sizeof(a->members_gone));
    for (uint32_t i = 0; i < a->session_count; i++) {
        struct acct_session *s = a->sessions[i];
        s->login_floor = s->login_confirmed;
        for (uint32_t j = 0; j < s->sub_count; j++) {
            s->subs[j].got_count = 0;
            s->subs[j].policy_first = a->policy_done;
            a->group_unstable |= s->open && s->subs[j].state == ACCT_LIVE && s->subs[j].max > 0 &&
                                 s->subs[j].queue != ACCT_PLAIN;
        }
    }
    a->epoch_pub = a->pub_count;
    a->floor = a->policy_done;
}

void acct_check_quiet(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    struct receivers all = { 0 };
    for (uint32_t i = 0; i < a->session_count && !w->failed; i++) {
        check_session(w, a->sessions[i]);
    }
    collect(a, &all);
    for (uint32_t i = 0; i < ACCT_MAX && !w->failed; i++) {
        check_account(w, i, &all);
    }
    for (uint32_t i = a->epoch_pub; i < a->pub_count && !w->failed; i++) {
        check_pub(w, &all, i);
    }
    for (uint32_t i = 0; i < a->leg_count && !w->failed; i++) {
        check_leg(w, &a->legs[i]);
    }
    free(all.items);
    begin_epoch(a);
    w->totals.quiets++;
}

void acct_check_empty(struct sim_world *w)
{
    for (uint32_t id = 0; id < w->ids.count; id++) {
        struct interests all = { .w = w };
        collect_interest(&all, id);
        for (uint32_t i = 0; i < all.count && !w->failed; i++) {
            const struct interest *item = &all.items[i];
            if (strcmp(item->queue, " ") != 0 && strncmp(item->subject, "_R_.", 4) != 0 &&
                strncmp(item->subject, "$SYS.", 5) != 0) {
                sim_fail(w, "%.*s: shard %u still lists '%s' '%s' when all are gone",
                         RB_S_ARG(w->ids.names[id]), item->shard, item->subject, item->queue);
            }
        }
        free(all.items);
        struct rb_account_shared *block = atomic_load(&w->accounts.blocks[id / RB_ACCOUNT_BLOCK]);
        const struct rb_account_shared *shared = &block[id % RB_ACCOUNT_BLOCK];
        if (atomic_load(&shared->conns) != 0 || atomic_load(&shared->subs) != 0) {
            sim_fail(w, "%.*s: %lld connections, %lld subscriptions when all are gone",
                     RB_S_ARG(w->ids.names[id]), (long long)atomic_load(&shared->conns),
                     (long long)atomic_load(&shared->subs));
        }
    }
    for (uint32_t i = 0; i < w->plan.shard_count; i++) {
        uint32_t conns = rb_sim_transport_conn_count(w->transports[i]);
        if (conns != 0) {
            sim_fail(w, "shard %u: %u connections left in the transport", i, conns);
        }
    }
    if (atomic_load(&w->shared.conn_count) != 0) {
        sim_fail(w, "conn_count %lld when all are gone",
                 (long long)atomic_load(&w->shared.conn_count));
    }
}
