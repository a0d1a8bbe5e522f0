/* acct_hear.c - messages are judged when they are heard: each must have a way from its publication to the subscription,
 * under some mix of the policies that may have been in force, and look as that way leaves it.
 *
 * 1. A message names its publication by the first bytes of its body. One without body is the end of a chunked answer, or 503.
 * 2. A reply "_R_..." names a leg: the way of a request into one exporter. An answer on it may come past where that way
 *    goes back, and nowhere else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acct.h"

static void point_at(struct acct_points *points, uint32_t account, uint32_t parent,
                     const char *subject, bool opaque)
{
    if (points->count < ACCT_POINTS) {
        struct acct_point *point = &points->at[points->count++];
        *point = (struct acct_point){ .account = account, .parent = parent, .opaque = opaque };
        snprintf(point->subject, ACCT_TEXT, "%s", subject);
    }
}

void acct_pub_points(struct sim_world *w, const struct acct_pub *pub, uint32_t p,
                     struct acct_choices *choices, struct acct_points *points)
{
    struct acct_world *a = acct_of(w);
    const struct acct_session *s = a->sessions[pub->session];
    struct acct_verdict verdict = acct_session_judge(s, pub->login, p);
    points->count = 0;
    choices->used = 0;
    if (!verdict.accepted || pub->denied) {
        return;
    }
    if (pub->leg == UINT32_MAX) {
        acct_spread(&a->policies[p], verdict.account, pub->subject, true, choices, points);
        return;
    }
    const struct acct_leg *leg = &a->legs[pub->leg];
    point_at(points, verdict.account, UINT32_MAX, pub->subject, false);
    for (uint32_t c = 0; c < leg->chain_count; c++) {
        const struct acct_chain *chain = &leg->chains[c];
        if (chain->at[0] != verdict.account) {
            continue; /* a token is worth something in the exporter's account only */
        }
        for (uint32_t i = 1; i < chain->len; i++) {
            bool last = i + 1 == chain->len;
            if (!last || c == 0) {
                point_at(points, chain->at[i], i, last ? a->pubs[leg->pub].reply : "_R_.x.y",
                         !last);
            }
        }
    }
}

/** The ways a request may have come that a subscription heard with this token. */
static void learn_chains(struct acct_session *s, struct acct_leg *leg, const struct acct_pub *pub,
                         const struct acct_sub *sub, const char *heard)
{
    struct acct_world *a = acct_of(s->w);
    for (uint32_t p1 = pub->policy_first; p1 <= a->policy_new; p1++) {
        const struct acct_policy *policy = &a->policies[p1];
        struct acct_choices choices = { 0 };
        do {
            static struct acct_points points;
            acct_pub_points(s->w, pub, p1, &choices, &points);
            for (uint32_t i = 1; i < points.count; i++) {
                struct acct_points one = { .count = 1 };
                uint32_t copies = 0;
                one.at[0] = points.at[i];
                for (uint32_t p2 = pub->policy_first; p2 <= a->policy_new; p2++) {
                    struct acct_verdict verdict = acct_session_judge(s, sub->login, p2);
                    copies +=
                        verdict.accepted
                            ? acct_copies(&a->policies[p2], &one, verdict.account, sub->pattern,
                                          verdict.perms, acct_queue_name(sub->queue), heard)
                            : 0;
                }
                if (copies == 0) {
                    continue;
                }
                struct acct_chain chain = { .threshold_ns = INT64_MAX };
                uint32_t at = i;
                for (; points.at[at].parent != UINT32_MAX; at = points.at[at].parent) {
                    const struct acct_point *point = &points.at[at];
                    const struct acct_import *import =
                        &policy->accounts[points.at[point->parent].account].imports[point->import];
                    const struct acct_export *exported =
                        &policy->accounts[import->from].exports[import->exported];
                    int64_t threshold_ns =
                        exported->threshold_ns == 0 ? 120000000000ll : exported->threshold_ns;
                    chain.at[chain.len++] = point->account;
                    chain.single = chain.single || exported->response == RB_RESPONSE_SINGLE;
                    chain.chunked = chain.chunked || exported->response == RB_RESPONSE_CHUNKED;
                    if (threshold_ns < chain.threshold_ns) {
                        chain.threshold_ns = threshold_ns;
                    }
                }
                chain.at[chain.len++] = points.at[at].account;
                bool known = false;
                for (uint32_t c = 0; c < leg->chain_count; c++) {
                    known = known || memcmp(&leg->chains[c], &chain, sizeof(chain)) == 0;
                }
                if (!known && leg->chain_count < 4) {
                    leg->chains[leg->chain_count++] = chain;
                } else if (!known) {
                    leg->vague = true;
                }
            }
        } while (acct_choices_next(&choices));
    }
}

static uint32_t need_leg(struct acct_session *s, const struct acct_pub *pub,
                         const struct acct_sub *sub, const struct acct_heard *heard)
{
    struct acct_world *a = acct_of(s->w);
    uint32_t pub_index = (uint32_t)(pub - a->pubs);
    for (uint32_t i = 0; i < a->leg_count; i++) {
        if (strcmp(a->legs[i].token, heard->reply) == 0) {
            if (a->legs[i].pub != pub_index) {
                sim_fail(s->w, "c%u: %s stands for two requests", s->index, heard->reply);
            }
            return i;
        }
    }
    a->legs = sim_grow(a->legs, &a->leg_cap, a->leg_count + 1, sizeof(*a->legs));
    struct acct_leg *leg = &a->legs[a->leg_count];
    *leg = (struct acct_leg){ .pub = pub_index, .active_ns = rb_sim_net_now(s->w->net) };
    snprintf(leg->token, sizeof(leg->token), "%.47s", heard->reply);
    learn_chains(s, leg, pub, sub, heard->subject);
    return a->leg_count++;
}

static void remember_answer(struct acct_session *s, const struct acct_pub *pub,
                            const struct acct_sub *sub, const struct acct_heard *heard)
{
    struct acct_world *a = acct_of(s->w);
    bool crossed = strncmp(heard->reply, "_R_.", 4) == 0;
    uint32_t leg = crossed ? need_leg(s, pub, sub, heard) : UINT32_MAX;
    a->crossed += crossed;
    struct acct_answer *answer = acct_find_answer(s, heard->reply);
    if (answer == NULL) {
        s->answers = sim_grow(s->answers, &s->answer_cap, s->answer_count + 1, sizeof(*s->answers));
        answer = &s->answers[s->answer_count++];
        *answer =
            (struct acct_answer){ .leg = leg, .login = sub->login, .first_said_ns = pub->said_ns };
        answer->pub = (uint32_t)(pub - a->pubs);
        snprintf(answer->reply, sizeof(answer->reply), "%.47s", heard->reply);
    }
    answer->copies++;
    answer->login = sub->login;
    answer->heard_ns = rb_sim_net_now(s->w->net);
}

/** The most copies that any mix of policies gives this subscription. */
static uint32_t copies_max(struct acct_session *s, const struct acct_sub *sub,
                           const struct acct_pub *pub, const char *heard)
{
    struct acct_world *a = acct_of(s->w);
    uint32_t most = 0;
    for (uint32_t p1 = pub->policy_first; p1 <= a->policy_new; p1++) {
        struct acct_choices choices = { 0 };
        do {
            static struct acct_points points;
            acct_pub_points(s->w, pub, p1, &choices, &points);
            for (uint32_t p2 = pub->policy_first; p2 <= a->policy_new; p2++) {
                struct acct_verdict verdict = acct_session_judge(s, sub->login, p2);
                uint32_t copies = 0;
                if (verdict.accepted) {
                    copies = acct_copies(&a->policies[p2], &points, verdict.account, sub->pattern,
                                         verdict.perms, acct_queue_name(sub->queue), heard);
                }
                most = copies > most ? copies : most;
            }
        } while (acct_choices_next(&choices));
    }
    return most;
}

static uint32_t count_copy(struct acct_sub *sub, uint32_t pub)
{
    for (uint32_t i = sub->got_count; i > 0; i--) {
        if (sub->got[i - 1] == pub) {
            return ++sub->got_copies[i - 1];
        }
    }
    sub->got = sim_grow(sub->got, &sub->got_cap, sub->got_count + 1, sizeof(*sub->got));
    sub->got_copies =
        sim_grow(sub->got_copies, &sub->copies_cap, sub->got_count + 1, sizeof(*sub->got_copies));
    sub->got[sub->got_count] = pub;
    sub->got_copies[sub->got_count] = 1;
    sub->got_count++;
    return 1;
}

/** "Nats-Request-Info" came with it, and the rest is as it was said. */
static bool payload_fits(const struct acct_session *s, const struct acct_heard *heard,
                         const struct acct_pub *pub, bool *ret_info)
{
    uint32_t total = acct_fill(pub, s->w->scratch);
    struct rb_slice said = rb_slice_of(s->w->scratch, total);
    struct rb_slice body = rb_slice_of(said.ptr + pub->header_len, pub->body_len);
    struct rb_slice came =
        rb_slice_of(heard->payload.ptr + heard->header_len, heard->total_len - heard->header_len);
    *ret_info = false;
    if (!rb_slice_equal(came, body)) {
        return false;
    }
    if (s->login_confirmed == 0 && !heard->header) {
        return true; /* from before its CONNECT, perhaps */
    }
    if (!s->headers || !heard->header) {
        return !heard->header && (pub->header_len == 0 || !s->headers);
    }
    if (pub->header_len == heard->header_len &&
        memcmp(heard->payload.ptr, said.ptr, pub->header_len) == 0) {
        return true;
    }
    char text[4096];
    snprintf(text, sizeof(text), "%.*s", (int)heard->header_len, (const char *)heard->payload.ptr);
    *ret_info = true;
    char fill[32];
    snprintf(fill, sizeof(fill), "Fill: %08u\r\n", pub->number);
    return strncmp(text, "NATS/1.0\r\n", 10) == 0 &&
           strstr(text, "Nats-Request-Info: {\"") != NULL &&
           (pub->header_len == 0 || strstr(text, fill) != NULL);
}

static void judge_queue(struct acct_session *s, struct acct_sub *sub, struct acct_pub *pub)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    uint32_t most = 0;
    pub->queue_count[sub->queue]++;
    for (uint32_t p = pub->policy_first; p <= a->policy_new; p++) {
        struct acct_choices choices = { 0 };
        do {
            static struct acct_points points;
            acct_pub_points(w, pub, p, &choices, &points);
            most = points.count > most ? points.count : most;
        } while (acct_choices_next(&choices));
    }
    if (pub->queue_count[sub->queue] > most) {
        sim_fail(w, "c%u: c%u #%u came %u times to queue %s", s->index, pub->session, pub->number,
                 pub->queue_count[sub->queue], acct_queues[sub->queue]);
    }
}

/** The end of a response's way: the requestor's own reply subject. */
static void judge_response(struct acct_session *s, struct acct_pub *pub,
                           const struct acct_heard *heard, bool fresh)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    struct acct_leg *leg = &a->legs[pub->leg];
    if (strcmp(heard->subject, a->pubs[leg->pub].reply) != 0) {
        return;
    }
    a->answered++;
    if (pub->root_delivered++ == 0 && fresh) {
        leg->came++;
        bool single = leg->chain_count > 0;
        for (uint32_t c = 0; c < leg->chain_count; c++) {
            single = single && leg->chains[c].single;
        }
        if (single && leg->came > 1) {
            sim_fail(w, "c%u: a second answer came through %s, which takes one", s->index,
                     leg->token);
        }
    }
    if (pub->late) {
        sim_fail(w, "c%u: an answer to %s came after its time", s->index, leg->token);
    }
}

static void judge_message(struct acct_session *s, struct acct_sub *sub, struct acct_pub *pub,
                          const struct acct_heard *heard)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    uint32_t sid = heard->sid, pub_index = (uint32_t)(pub - a->pubs);
    bool info;
    if (pub_index < a->epoch_pub) {
        sim_fail(w, "c%u sid %u: c%u #%u came after all was quiet", s->index, sid, pub->session,
                 pub->number);
        return;
    }
    if (sub->state >= ACCT_REFUSED) {
        sim_fail(w, "c%u sid %u: a message for a subscription that does not stand", s->index, sid);
        return;
    }
    if (pub->denied) {
        sim_fail(w, "c%u sid %u: c%u #%u came, though it was refused", s->index, sid, pub->session,
                 pub->number);
        return;
    }
    uint32_t most = copies_max(s, sub, pub, heard->subject);
    uint32_t copies_any = copies_max(s, sub, pub, NULL);
    uint32_t copies = count_copy(sub, pub_index);
    if (most == 0 || copies > copies_any) {
        sim_fail(w, "c%u sid %u: %s from c%u #%u (%s), copy %u: %u are allowed", s->index, sid,
                 heard->subject, pub->session, pub->number, pub->subject, copies,
                 most == 0 ? 0 : copies_any);
        return;
    }
    if (!payload_fits(s, heard, pub, &info)) {
        sim_fail(w, "c%u sid %u: payload of c%u #%u is not what was said", s->index, sid,
                 pub->session, pub->number);
        return;
    }
    bool crossed = strncmp(heard->reply, "_R_.", 4) == 0;
    if ((!crossed && strcmp(heard->reply, pub->reply) != 0) || (crossed && pub->reply[0] == '\0')) {
        sim_fail(w, "c%u sid %u: reply %s in place of %s", s->index, sid, heard->reply, pub->reply);
        return;
    }
    if (pub->reply[0] != '\0' && s->headers && s->login_confirmed > 0 && info != crossed) {
        sim_fail(w, "c%u sid %u: a request %s its requestor's name", s->index, sid,
                 info ? "shows" : "hides");
    }
    if (pub->session == s->index && pub->silent && pub->leg == UINT32_MAX && !crossed && !info &&
        s->headers && s->login_confirmed > 0) {
        sim_fail(w, "c%u sid %u: its own message without echo", s->index, sid);
    }
    if (heard->reply[0] != '\0') {
        remember_answer(s, pub, sub, heard);
    }
    if (sub->queue != ACCT_PLAIN) {
        judge_queue(s, sub, pub);
    } else if (pub->leg == UINT32_MAX) {
        sub->last = sim_grow(sub->last, &sub->last_cap, a->session_count, sizeof(*sub->last));
        if (pub->number < sub->last[pub->session]) {
            sim_fail(w, "c%u sid %u: c%u #%u after #%u", s->index, sid, pub->session, pub->number,
                     sub->last[pub->session]);
        }
        sub->last[pub->session] = pub->number;
    }
    if (pub->leg != UINT32_MAX) {
        judge_response(s, pub, heard, copies == 1);
    }
    if (pub->refused > 0) {
        sim_fail(w, "c%u sid %u: c%u #%u came, and 503 too", s->index, sid, pub->session,
                 pub->number);
    }
    sub->delivered++;
    pub->delivered++;
    w->totals.deliveries++;
    acct_sub_count_down(sub);
}

static struct acct_pub *find_pub(struct acct_world *a, uint32_t session, uint32_t number)
{
    if (session >= a->session_count || number == 0 || number > a->sessions[session]->pub_count) {
        return NULL;
    }
    return &a->pubs[a->sessions[session]->pubs[number - 1]];
}

static struct acct_pub *pub_of_reply(struct acct_world *a, const char *reply)
{
    uint32_t session, number;
    return sscanf(reply, "in.%u.%u", &session, &number) == 2 ? find_pub(a, session, number) : NULL;
}

/** A message without body: the end of a chunked answer, or 503. */
static void hear_empty(struct acct_session *s, struct acct_sub *sub, const struct acct_heard *heard)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    if (sub->state >= ACCT_REFUSED) {
        sim_fail(w, "c%u: an empty message for a subscription that does not stand", s->index);
        return;
    }
    if (heard->header) {
        struct acct_pub *pub = pub_of_reply(a, heard->subject);
        bool fits = memcmp(heard->payload.ptr, "NATS/1.0 503\r\n", 14) == 0;
        if (!fits || pub == NULL || pub->session != s->index || !s->no_responders || pub->denied ||
            pub->delivered > 0 || ++pub->refused > 1) {
            sim_fail(w, "c%u: 503 nobody asked for on %s", s->index, heard->subject);
        }
        w->totals.refusals++;
        return;
    }
    for (uint32_t i = 0; i < a->leg_count; i++) {
        const struct acct_leg *leg = &a->legs[i];
        if (!leg->ended) {
            continue;
        }
        /* as if its answer had a body: some answer of this leg must have a way here */
        for (uint32_t j = a->pub_count; j > 0; j--) {
            struct acct_pub *pub = &a->pubs[j - 1];
            if (pub->leg == i && pub->body_len == 0 &&
                copies_max(s, sub, pub, heard->subject) > 0) {
                pub->delivered++;
                sub->delivered++;
                w->totals.deliveries++;
                acct_sub_count_down(sub);
                return;
            }
        }
    }
    sim_fail(w, "c%u: an empty message on %s", s->index, heard->subject);
}

/** An event of the server: for members of the system account only, and only where their permissions let it through. */
static void hear_event(struct acct_session *s, struct acct_sub *sub, const struct acct_heard *heard)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    bool may = false;
    for (uint32_t p = a->floor; p <= a->policy_new; p++) {
        struct acct_verdict verdict = acct_session_judge(s, sub->login, p);
        may = may || (verdict.accepted && verdict.account == 1 &&
                      acct_may_hear(verdict.perms, heard->subject, acct_queue_name(sub->queue)));
    }
    if (!may || sub->state >= ACCT_REFUSED) {
        sim_fail(w, "c%u sid %u: hears an event on %s", s->index, heard->sid, heard->subject);
    }
    sub->delivered++;
    w->totals.deliveries++;
    acct_sub_count_down(sub);
}

void acct_hear_message(struct acct_session *s, const struct acct_heard *heard)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    uint32_t session = UINT32_MAX, number = 0;
    struct acct_sub *sub =
        heard->sid == 0 || heard->sid > s->sub_count ? NULL : &s->subs[heard->sid - 1];
    sim_trace(w, "c%u hears %.*s", s->index, (int)heard->line.len - 2,
              (const char *)heard->line.ptr);
    if (sub == NULL || !acct_match(sub->pattern, heard->subject)) {
        sim_fail(w, "c%u: a message for no subscription of it: %s", s->index, heard->subject);
        return;
    }
    if (strncmp(heard->subject, "$SYS.", 5) == 0) {
        hear_event(s, sub, heard);
        return;
    }
    if (heard->total_len == heard->header_len) {
        hear_empty(s, sub, heard);
        return;
    }
    if (heard->total_len - heard->header_len >= 8) {
        memcpy(&session, heard->payload.ptr + heard->header_len, 4);
        memcpy(&number, heard->payload.ptr + heard->header_len + 4, 4);
    }
    struct acct_pub *pub = find_pub(a, session, number);
    if (pub == NULL) {
        sim_fail(w, "c%u: a message nobody published on %s", s->index, heard->subject);
        return;
    }
    judge_message(s, sub, pub, heard);
}

/** A maximum that is known to the server ends the subscription. */
void acct_sub_count_down(struct acct_sub *sub)
{
    if (sub->max_confirmed && sub->delivered >= sub->max && sub->state <= ACCT_LIVE) {
        sub->ending = true;
        sub->state = ACCT_ENDED;
    }
}
