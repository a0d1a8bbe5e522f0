/* checker.c - what must be true when nothing moves any more.
 *
 * 1. Exactly once: doubles and order are seen when they arrive (client.c); here what is missing.
 *    A message is owed to a plain subscription that stood before it was published and still stands,
 *    once a PONG told the publisher that it was routed.
 * 2. A queue group owes one delivery, and order, unless a member went in the same epoch: the
 *    message may have been on its way to that one.
 * 3. Every shard knows the interest of every other one exactly.
 * 4. The server ends a connection only for a reason the model can confirm.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/account.h"
#include "core/sublist.h"
#include "ringbus/bounds.h"
#include "world.h"

#define LAST_WORD_NS 1000000000ull /* the server waits so long for its output to be taken */

bool sim_match(const char *pattern, const char *subject)
{
    for (const char *at = subject; *at != '\0'; at++) {
        if (*at == '.' && (at == subject || at[1] == '.' || at[1] == '\0')) {
            return false; /* an empty token: nobody's */
        }
    }
    for (;;) {
        size_t p = strcspn(pattern, "."), s = strcspn(subject, ".");
        if (p == 1 && pattern[0] == '>' && pattern[1] == '\0') {
            return s > 0;
        }
        if (!(p == 1 && pattern[0] == '*') && (p != s || memcmp(pattern, subject, p) != 0)) {
            return false;
        }
        if (pattern[p] == '\0' || subject[s] == '\0') {
            return pattern[p] == subject[s];
        }
        pattern += p + 1;
        subject += s + 1;
    }
}

static bool wants(const struct sim_session *s, const struct sim_subscription *sub, uint32_t subject)
{
    return sub->pattern != SIM_PATTERN_INBOX && s->world->subjects.match[sub->pattern][subject];
}

/* ---- why a connection ended ---- */

/** The most that can have waited for `s` in this epoch. */
static uint64_t bytes_owed(const struct sim_session *s)
{
    const struct sim_world *w = s->world;
    uint64_t bytes = 2048 + 64ull * (s->op_count - s->epoch_op); /* INFO, answers */
    for (uint32_t i = w->epoch_pub; i < w->pub_count; i++) {
        const struct sim_publication *pub = &w->pubs[i];
        uint32_t copies = pub->publisher == s->index ? 1 : 0; /* a 503 */
        for (uint32_t j = 0; j < s->sub_count; j++) {
            copies += wants(s, &s->subs[j], pub->subject);
        }
        bytes += copies * (pub->header_len + pub->body_len + 100ull +
                           strlen(w->subjects.literal[pub->subject]));
    }
    return bytes;
}

void sim_check_end(struct sim_session *s)
{
    struct sim_world *w = s->world;
    const struct rb_config *config = &w->plan.config;
    uint64_t limit = config->max_pending_bytes;
    if (!s->connect_sent && limit > RB_UNKNOWN_PENDING_MAX) {
        limit = RB_UNKNOWN_PENDING_MAX;
    }
    uint64_t owed_bytes = bytes_owed(s);
    uint64_t needed_ns = s->stall_longest_ns + /* a window goes with each delay */
                         owed_bytes / w->plan.net.window_bytes * 2 * w->plan.net.delay_max_ns;
    bool over = owed_bytes > limit || needed_ns >= config->write_deadline_ns / 2;
    if (w->stopping || w->failed) {
        return;
    }
    if (rb_sim_peer_broken(s->wire.peer)) {
        w->totals.faults++;
        sim_trace(w, "c%u: a fault broke it", s->index);
    } else if (s->dying &&
               (rb_sim_net_now(w->net) - s->dying_ns >= LAST_WORD_NS ||
                ((s->last_words == NULL || s->heard_last_words) && s->wire.in_len == 0))) {
        w->totals.crimes++;
        sim_trace(w, "c%u: ended for what it did", s->index);
    } else if (s->heard_stale || (!over && s->stall_longest_ns >= config->ping_interval_ns)) {
        w->totals.stale++;
        sim_trace(w, "c%u: ended as stale", s->index);
        if (s->stall_longest_ns < config->ping_interval_ns) {
            sim_fail(w, "c%u: ended as stale, but it read all the time", s->index);
        }
    } else if (over) {
        w->totals.slow++;
        sim_trace(w, "c%u: ended as a slow consumer", s->index);
    } else if (!s->dying) {
        sim_fail(w, "c%u: ended by the server without a reason", s->index);
    } else if (s->wire.in_len > 0) {
        sim_fail(w, "c%u: ended within a message", s->index);
    } else {
        sim_fail(w, "c%u: ended without -ERR '%s'", s->index, s->last_words);
    }
}

/* ---- completeness ---- */

static bool owed(const struct sim_session *s, const struct sim_subscription *sub,
                 const struct sim_publication *pub)
{
    return sub->established != 0 && sub->established < pub->stamp && wants(s, sub, pub->subject) &&
           (s->echo || pub->publisher != s->index);
}

static bool confirmed(const struct sim_world *w, const struct sim_publication *pub)
{
    return pub->number <= w->sessions[pub->publisher]->pub_confirmed;
}

static void check_sub_complete(struct sim_session *s, struct sim_subscription *sub, uint8_t *got)
{
    struct sim_world *w = s->world;
    uint32_t count = w->pub_count - w->epoch_pub;
    memset(got, 0, count);
    for (uint32_t i = 0; i < sub->got_count; i++) {
        if (sub->got[i] >= w->epoch_pub) {
            got[sub->got[i] - w->epoch_pub] = 1;
        }
    }
    if (sub->max > 0 && sub->delivered >= sub->max) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct sim_publication *pub = &w->pubs[w->epoch_pub + i];
        if (!got[i] && confirmed(w, pub) && owed(s, sub, pub)) {
            sim_fail(w, "c%u sid %u: c%u #%u on %s never came (delivered %u, max %u)", s->index,
                     (uint32_t)(sub - s->subs) + 1, pub->publisher, pub->number,
                     w->subjects.literal[pub->subject], sub->delivered, sub->max);
            return;
        }
    }
}

static bool group_owed(const struct sim_world *w, uint32_t queue, const struct sim_publication *pub)
{
    for (uint32_t i = 0; i < w->session_count; i++) {
        const struct sim_session *s = w->sessions[i];
        for (uint32_t j = 0; s->open && j < s->sub_count; j++) {
            const struct sim_subscription *sub = &s->subs[j];
            if (sub->queue == queue && sim_sub_live(s, sub) && owed(s, sub, pub)) {
                return true;
            }
        }
    }
    return false;
}

static void check_groups_complete(struct sim_world *w)
{
    for (uint32_t queue = 0; queue < SIM_QUEUES; queue++) {
        if (w->group_unstable[queue]) {
            continue;
        }
        if (w->group_disordered[queue]) {
            sim_fail(w, "queue %s: out of order though no member went", sim_queue_names[queue]);
        }
        for (uint32_t i = w->epoch_pub; i < w->pub_count && !w->failed; i++) {
            struct sim_publication *pub = &w->pubs[i];
            if (pub->queue_count[queue] == 0 && confirmed(w, pub) && group_owed(w, queue, pub)) {
                sim_fail(w, "queue %s: c%u #%u on %s never came", sim_queue_names[queue],
                         pub->publisher, pub->number, w->subjects.literal[pub->subject]);
            }
        }
    }
}

static void check_complete(struct sim_world *w)
{
    uint8_t *got = malloc(w->pub_count - w->epoch_pub + 1);
    for (uint32_t i = 0; i < w->session_count && !w->failed; i++) {
        struct sim_session *s = w->sessions[i];
        if (!s->open) {
            continue;
        }
        if (s->expect_head != s->expect_count) {
            sim_fail(w, "c%u: %u answers are missing", s->index, s->expect_count - s->expect_head);
        } else if (s->wire.in_len > 0) {
            sim_fail(w, "c%u: the rest of a line or message is missing", s->index);
        }
        for (uint32_t j = 0; j < s->sub_count && !w->failed; j++) {
            if (s->subs[j].queue == SIM_PLAIN && !s->subs[j].ended) {
                check_sub_complete(s, &s->subs[j], got);
            }
        }
    }
    free(got);
    check_groups_complete(w);
}

/* ---- interest ---- */

struct interest {
    char subject[SIM_TEXT_MAX], queue[SIM_TEXT_MAX];
    uint32_t shard, local;
    uint32_t remote[RB_SHARDS_MAX];
};

struct interests {
    struct sim_world *w;
    struct interest *items;
    uint32_t count, cap, shard;
};

static void copy_text(char out[SIM_TEXT_MAX], struct rb_slice text)
{
    size_t len = text.len < SIM_TEXT_MAX - 1 ? text.len : SIM_TEXT_MAX - 1;
    if (len > 0) {
        memcpy(out, text.ptr, len);
    }
    out[len] = '\0';
}

static void collect_interest(void *ctx, struct rb_slice subject, struct rb_slice queue,
                             uint32_t local, const uint32_t *remote_weight)
{
    struct interests *all = ctx;
    if (rb_slice_equal(queue, RB_LOCAL_QUEUE)) {
        return; /* the server's own */
    }
    all->items = sim_grow(all->items, &all->cap, all->count + 1, sizeof(*all->items));
    struct interest *item = &all->items[all->count++];
    copy_text(item->subject, subject);
    copy_text(item->queue, queue);
    item->shard = all->shard;
    item->local = local;
    memcpy(item->remote, remote_weight, all->w->plan.shard_count * sizeof(*remote_weight));
}

static int compare_key(const struct interest *a, const struct interest *b)
{
    int order = strcmp(a->subject, b->subject);
    return order != 0 ? order : strcmp(a->queue, b->queue);
}

static int compare_interest(const void *left, const void *right)
{
    const struct interest *a = left, *b = right;
    int order = compare_key(a, b);
    return order != 0 ? order : (int)a->shard - (int)b->shard;
}

/** Subscriptions the clients believe to have. */
static uint32_t count_believed(const struct sim_world *w, const char *subject, const char *queue)
{
    uint32_t count = 0;
    char text[SIM_TEXT_MAX];
    for (uint32_t i = 0; i < w->session_count; i++) {
        const struct sim_session *s = w->sessions[i];
        for (uint32_t j = 0; s->open && j < s->sub_count; j++) {
            const struct sim_subscription *sub = &s->subs[j];
            const char *name = sub->queue == SIM_PLAIN ? "" : sim_queue_names[sub->queue];
            count += sim_sub_live(s, sub) && strcmp(name, queue) == 0 &&
                     strcmp(sim_sub_text(s, sub, text), subject) == 0;
        }
    }
    return count;
}

/** All shards' entries for one subject and queue. */
static void check_interest(struct sim_world *w, const struct interest *items, uint32_t count)
{
    const struct interest *at[RB_SHARDS_MAX] = { NULL };
    uint32_t local = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (at[items[i].shard] != NULL) {
            sim_fail(w, "shard %u lists %s %s twice", items[i].shard, items->subject, items->queue);
        }
        at[items[i].shard] = &items[i];
        local += items[i].local;
    }
    for (uint32_t self = 0; self < w->plan.shard_count; self++) {
        for (uint32_t other = 0; other < w->plan.shard_count; other++) {
            uint32_t truth = at[other] == NULL ? 0 : at[other]->local;
            uint32_t known = at[self] == NULL ? 0 : at[self]->remote[other];
            truth = items->queue[0] == '\0' && truth > 0 ? 1 : truth;
            if (self != other && truth != known) {
                sim_fail(w, "shard %u thinks shard %u wants '%s' '%s' %u times, not %u", self,
                         other, items->subject, items->queue, known, truth);
            }
        }
    }
    uint32_t believed = count_believed(w, items->subject, items->queue);
    if (believed != local) {
        sim_fail(w, "'%s' '%s': %u subscriptions in the shards, %u in the clients", items->subject,
                 items->queue, local, believed);
    }
}

/** Returns the subscriptions of all shards. */
static uint64_t check_interests(struct sim_world *w)
{
    struct interests all = { .w = w };
    uint64_t local = 0;
    for (; all.shard < w->plan.shard_count; all.shard++) {
        const struct rb_sublist *sublist = rb_shard_sublist(w->shards[all.shard], 0);
        if (sublist != NULL) {
            rb_sublist_each(sublist, collect_interest, &all);
        }
    }
    if (all.count > 0) {
        qsort(all.items, all.count, sizeof(*all.items), compare_interest);
    }
    for (uint32_t begin = 0, end; begin < all.count && !w->failed; begin = end) {
        for (end = begin; end < all.count && compare_key(&all.items[begin], &all.items[end]) == 0;
             end++) {
            local += all.items[end].local;
        }
        check_interest(w, &all.items[begin], end - begin);
    }
    free(all.items);
    return local;
}

/* ---- counters ---- */

static void check_counters(struct sim_world *w, uint64_t local)
{
    uint64_t conns = 0, subs = 0, in_msgs = 0, out_msgs = 0, slow = 0, stale = 0;
    uint64_t open = 0, believed = 0, confirmed_count = 0;
    for (uint32_t i = 0; i < w->plan.shard_count; i++) {
        const struct rb_core_stats *stats = rb_shard_stats(w->shards[i]);
        conns += rb_counter_get(&stats->conns);
        subs += rb_counter_get(&stats->subs);
        in_msgs += rb_counter_get(&stats->in_msgs);
        out_msgs += rb_counter_get(&stats->out_msgs);
        slow += rb_counter_get(&stats->slow_consumers);
        stale += rb_counter_get(&stats->stale_conns);
    }
    for (uint32_t i = 0; i < w->session_count; i++) {
        struct sim_session *s = w->sessions[i];
        open += s->open;
        confirmed_count += s->pub_confirmed;
        for (uint32_t j = 0; j < s->sub_count; j++) {
            believed += sim_sub_live(s, &s->subs[j]);
        }
    }
    int64_t conn_count = atomic_load(&w->shared.conn_count);
    if (conns != open || conn_count != (int64_t)open) {
        sim_fail(w, "%llu connections in the shards, %lld in the node, %llu clients",
                 (unsigned long long)conns, (long long)conn_count, (unsigned long long)open);
    }
    if (subs != believed || local != believed) {
        sim_fail(w, "%llu subscriptions counted, %llu listed, %llu in the clients",
                 (unsigned long long)subs, (unsigned long long)local, (unsigned long long)believed);
    }
    if (in_msgs < confirmed_count || in_msgs > w->totals.publications + w->session_count) {
        sim_fail(w, "in_msgs %llu, published %llu, confirmed %llu", (unsigned long long)in_msgs,
                 (unsigned long long)w->totals.publications, (unsigned long long)confirmed_count);
    }
    if (out_msgs < w->totals.deliveries) {
        sim_fail(w, "out_msgs %llu, delivered %llu", (unsigned long long)out_msgs,
                 (unsigned long long)w->totals.deliveries);
    }
    if (slow + stale > w->session_count) {
        sim_fail(w, "%llu slow consumers, %llu stale, %u connections in all",
                 (unsigned long long)slow, (unsigned long long)stale, w->session_count);
    }
}

/* ---- epochs ---- */

static void begin_epoch(struct sim_world *w)
{
    memset(w->group_unstable, 0, sizeof(w->group_unstable));
    memset(w->group_disordered, 0, sizeof(w->group_disordered));
    for (uint32_t i = 0; i < w->session_count; i++) {
        struct sim_session *s = w->sessions[i];
        s->stall_longest_ns = 0;
        s->epoch_op = s->op_count;
        for (uint32_t j = 0; j < s->sub_count; j++) {
            struct sim_subscription *sub = &s->subs[j];
            sub->got_count = 0;
            if (sub->queue != SIM_PLAIN && sub->max > 0 && sim_sub_live(s, sub)) {
                w->group_unstable[sub->queue] = true; /* goes by itself */
            }
        }
    }
    w->epoch_pub = w->pub_count;
    w->totals.quiets++;
}

void sim_check_quiet(struct sim_world *w)
{
    if (w->failed) {
        return;
    }
    check_complete(w);
    if (!w->failed) {
        check_counters(w, check_interests(w));
    }
    begin_epoch(w);
}

void sim_check_empty(struct sim_world *w)
{
    struct interests all = { .w = w };
    for (; all.shard < w->plan.shard_count; all.shard++) {
        const struct rb_sublist *sublist = rb_shard_sublist(w->shards[all.shard], 0);
        if (sublist != NULL) {
            rb_sublist_each(sublist, collect_interest, &all);
        }
        uint32_t conns = rb_sim_transport_conn_count(w->transports[all.shard]);
        if (conns != 0) {
            sim_fail(w, "shard %u: %u connections left in the transport", all.shard, conns);
        }
    }
    if (all.count != 0) {
        sim_fail(w, "%u subjects left when all are gone, first '%s' on shard %u", all.count,
                 all.items[0].subject, all.items[0].shard);
    }
    if (atomic_load(&w->shared.conn_count) != 0) {
        sim_fail(w, "conn_count %lld when all are gone",
                 (long long)atomic_load(&w->shared.conn_count));
    }
    free(all.items);
}
