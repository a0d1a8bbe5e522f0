/* acct_client.c - sessions with credentials: what they say, and what they may hear.
 *
 * 1. Operations are answered in their order; an operation without an answer was carried out once a later one was
 *    answered. Which answers are possible follows from the policies that may have been in force meanwhile.
 * 2. A session that did something it must not, or that a reload sends away, has a doom: what it may hear last.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acct.h"

/* ---- saying ---- */

static void say_text(struct acct_session *s, const char *text)
{
    sim_wire_say(&s->wire, text, strlen(text));
    sim_trace(s->w, "c%u says %.*s", s->index, (int)strcspn(text, "\r"), text);
}

static void expect(struct acct_session *s, enum acct_op op, uint32_t index)
{
    s->expects = sim_grow(s->expects, &s->expect_cap, s->expect_count + 1, sizeof(*s->expects));
    s->expects[s->expect_count++] = (struct acct_expect){
        .op = op, .verbose = s->verbose, .index = index, .policy_first = acct_of(s->w)->policy_done
    };
}

struct acct_verdict acct_session_judge(const struct acct_session *s, uint32_t login, uint32_t p)
{
    return acct_judge(&acct_of(s->w)->policies[p], &s->logins[login]);
}

bool acct_may_be_member(const struct acct_session *s, uint32_t account)
{
    const struct acct_world *a = acct_of(s->w);
    for (uint32_t login = s->login_floor; login <= s->login; login++) {
        for (uint32_t p = a->floor; p <= a->policy_new; p++) {
            struct acct_verdict verdict = acct_session_judge(s, login, p);
            if (verdict.accepted && verdict.account == account) {
                return true;
            }
        }
    }
    return false;
}

/** Some policy that may be in force refuses the session. */
static void doom_refused(struct acct_session *s)
{
    struct acct_world *a = acct_of(s->w);
    bool refused = false, accepted = false;
    for (uint32_t p = a->policy_done; p <= a->policy_new; p++) {
        bool ok = acct_session_judge(s, s->login, p).accepted;
        refused = refused || !ok;
        accepted = accepted || ok;
    }
    if (refused) {
        s->doom |= ACCT_DOOM_AUTH;
        s->must_die = s->must_die || !accepted;
    }
    if (!acct_same_identity(
            &a->policies[a->policy_done], acct_session_judge(s, s->login, a->policy_done),
            &a->policies[a->policy_new], acct_session_judge(s, s->login, a->policy_new))) {
        s->doom |= ACCT_DOOM_AUTH | ACCT_DOOM_SILENT; /* accepted, then sent away by the reload */
    }
}

struct acct_session *acct_session_open(struct sim_world *w)
{
    struct acct_world *a = acct_of(w);
    struct acct_session *s = calloc(1, sizeof(*s));
    a->sessions =
        sim_grow(a->sessions, &a->session_cap, a->session_count + 1, sizeof(*a->sessions));
    s->w = w;
    s->index = a->session_count;
    a->sessions[a->session_count++] = s;
    s->login_first = a->policy_done;
    if (rb_sim_peer_connect(w->net, 0, w->shared.port, &s->wire.peer) != RB_OK) {
        sim_fail(w, "nobody listens");
        return s;
    }
    s->open = true;
    s->verbose = s->echo = true;
    s->sid_prefix = sim_chance(w, 700) ? "" : sim_chance(w, 500) ? "s" : "a-sid-that-is-long-";
    for (uint32_t p = a->policy_done; p <= a->policy_new; p++) {
        if (a->policies[p].login == ACCT_OPEN && a->max_conns[0] >= 0) {
            s->doom |= ACCT_DOOM_CONNS; /* it is a member of "$G" before it says anything */
        }
    }
    w->totals.sessions++;
    sim_trace(w, "c%u opens", s->index);
    return s;
}

static void write_creds(struct acct_session *s, const struct acct_creds *creds, char *out,
                        size_t cap)
{
    struct acct_world *a = acct_of(s->w);
    char secret[32], sig[RB_NKEY_SIGNATURE_LEN + 1];
    uint8_t signature[RB_NKEY_SIGNATURE_BYTES];

    acct_secret_text(creds->secret, secret);
    out[0] = '\0';
    switch (creds->proof) {
    case ACCT_NOTHING:
        break;
    case ACCT_USER:
        snprintf(out, cap, ",\"user\":\"u%u\",\"pass\":\"%s\"", creds->user, secret);
        break;
    case ACCT_TOKEN:
        snprintf(out, cap, ",\"auth_token\":\"%s\"", secret);
        break;
    case ACCT_NKEY:
        if (rb_nkey_sign(&a->keys[creds->user % ACCT_NKEYS],
                         rb_slice_text(creds->secret == 0 ? s->nonce : "other"),
                         signature) != RB_OK) {
            abort();
        }
        rb_nkey_encode_signature(signature, sig);
        snprintf(out, cap, ",\"nkey\":\"%s\",\"sig\":\"%s\"", a->key_text[creds->user % ACCT_NKEYS],
                 sig);
        break;
    }
}

static void end_sub(struct acct_session *s, struct acct_sub *sub)
{
    if (sub->state <= ACCT_LIVE) {
        sub->ending = true;
        acct_of(s->w)->group_unstable |= sub->queue != ACCT_PLAIN;
    }
}

/** What a repeated CONNECT shows is laid over what was shown before: a key counts first, then a user, then a token. */
static bool counts_again(const struct acct_session *s, const struct acct_creds *creds)
{
    enum acct_proof before = s->logins[s->login].proof;
    return creds->proof == ACCT_NKEY || (creds->proof == ACCT_USER && before != ACCT_NKEY) ||
           (creds->proof == ACCT_TOKEN && before == ACCT_TOKEN);
}

void acct_session_connect(struct acct_session *s, const struct acct_creds *creds)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    char text[768], proof[256];
    bool first = !s->connect_sent;
    if (s->login + 1 == ACCT_LOGINS) {
        return;
    }
    bool judged = first || counts_again(s, creds);
    s->logins[s->login + 1] = judged ? *creds : s->logins[s->login];
    s->login++;
    if (first) {
        s->verbose = a->explicit_answers || sim_chance(w, 200);
        s->echo = !sim_chance(w, 250);
        s->headers = sim_chance(w, 700);
        s->no_responders = s->headers && sim_chance(w, 600);
        s->protocol = sim_below(w, 2);
    }
    s->judged[s->login] = judged;
    for (uint32_t i = 0; i < s->sub_count; i++) {
        if (first && a->policies[0].login == ACCT_OPEN) {
            s->subs[i].login = s->login; /* nobody before, nobody now: they stay */
        } else {
            end_sub(s, &s->subs[i]);
        }
    }
    write_creds(s, creds, proof, sizeof(proof));
    s->connect_sent = s->spoke = true;
    s->connect_confirmed = false;
    s->login_first = a->policy_done;
    snprintf(text, sizeof(text),
             "CONNECT {\"verbose\":%s,\"pedantic\":false,\"echo\":%s,\"headers\":%s,"
             "\"no_responders\":%s,\"protocol\":%u%s}\r\n",
             sim_json_bool(s->verbose), sim_json_bool(s->echo), sim_json_bool(s->headers),
             sim_json_bool(s->no_responders), s->protocol, proof);
    say_text(s, text);
    expect(s, ACCT_OP_CONNECT, s->login);
    doom_refused(s);
    for (uint32_t p = a->policy_done; p <= a->policy_new; p++) {
        struct acct_verdict verdict = acct_session_judge(s, s->login, p);
        if (verdict.accepted && a->max_conns[verdict.account] >= 0) {
            s->doom |= ACCT_DOOM_CONNS;
        }
    }
    if (a->policy_done != a->policy_new ||
        w->lazy_work) { /* a verdict that a reload overtakes is a refusal */
        s->doom |= ACCT_DOOM_AUTH;
    }
}

/** Says something other than CONNECT first. */
static void speak(struct acct_session *s)
{
    s->spoke = true;
    if (!s->connect_sent && !s->connect_confirmed) {
        struct acct_world *a = acct_of(s->w);
        doom_refused(s);
        for (uint32_t p = a->policy_done; p <= a->policy_new; p++) {
            struct acct_verdict verdict = acct_session_judge(s, s->login, p);
            if (verdict.accepted && a->max_conns[verdict.account] >= 0) {
                s->doom |= ACCT_DOOM_CONNS;
            }
        }
    }
}

const char *acct_queue_name(uint32_t queue)
{
    return queue == ACCT_PLAIN ? "" : acct_queues[queue];
}

void acct_session_sub(struct acct_session *s, const char *pattern, uint32_t queue)
{
    char line[2 * ACCT_TEXT];
    speak(s);
    s->subs = sim_grow(s->subs, &s->sub_cap, s->sub_count + 1, sizeof(*s->subs));
    struct acct_sub *sub = &s->subs[s->sub_count++];
    snprintf(sub->pattern, ACCT_TEXT, "%s", pattern);
    sub->queue = queue;
    sub->login = s->login;
    sub->policy_first = acct_of(s->w)->policy_done;
    snprintf(line, sizeof(line), "SUB %s %s%s%s%u\r\n", pattern, acct_queue_name(queue),
             queue == ACCT_PLAIN ? "" : " ", s->sid_prefix, s->sub_count);
    say_text(s, line);
    expect(s, ACCT_OP_SUB, s->sub_count - 1);
}

void acct_session_unsub(struct acct_session *s, uint32_t index, uint32_t max)
{
    char line[64];
    struct acct_sub *sub = &s->subs[index];
    speak(s);
    if (max > 0) {
        snprintf(line, sizeof(line), "UNSUB %s%u %u\r\n", s->sid_prefix, index + 1, max);
        sub->max = max;
        acct_of(s->w)->group_unstable |= sub->queue != ACCT_PLAIN;
    } else {
        snprintf(line, sizeof(line), "UNSUB %s%u\r\n", s->sid_prefix, index + 1);
        end_sub(s, sub);
    }
    say_text(s, line);
    expect(s, ACCT_OP_UNSUB, index);
    s->expects[s->expect_count - 1].limit = max > 0;
}

void acct_session_ping(struct acct_session *s)
{
    speak(s);
    say_text(s, "PING\r\n");
    expect(s, ACCT_OP_PING, 0);
}

uint32_t acct_fill(const struct acct_pub *pub, uint8_t *out)
{
    uint32_t at = 0;
    if (pub->header_len > 0) {
        at = (uint32_t)sprintf((char *)out, "NATS/1.0\r\nFill: %08u\r\n\r\n", pub->number);
    }
    uint64_t state = ((uint64_t)pub->session << 32 | pub->number) * 0x9e3779b97f4a7c15u | 1;
    for (uint32_t i = 0; i < pub->body_len; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out[at + i] = (uint8_t)state;
    }
    if (pub->body_len >= 8) {
        memcpy(out + at, &pub->session, 4);
        memcpy(out + at + 4, &pub->number, 4);
    }
    return at + pub->body_len;
}

struct acct_answer *acct_find_answer(struct acct_session *s, const char *subject)
{
    for (uint32_t i = 0; i < s->answer_count; i++) {
        if (strcmp(s->answers[i].reply, subject) == 0) {
            return &s->answers[i];
        }
    }
    return NULL;
}

uint32_t acct_session_pub(struct acct_session *s, const char *subject, const char *reply,
                          uint32_t leg, uint32_t body_len, bool header)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    char line[2 * ACCT_TEXT];
    speak(s);
    a->pubs = sim_grow(a->pubs, &a->pub_cap, a->pub_count + 1, sizeof(*a->pubs));
    s->pubs = sim_grow(s->pubs, &s->pub_cap, s->pub_count + 1, sizeof(*s->pubs));
    uint32_t index = a->pub_count++;
    s->pubs[s->pub_count++] = index;
    struct acct_pub *pub = &a->pubs[index];
    *pub = (struct acct_pub){ .session = s->index,
                              .number = s->pub_count,
                              .body_len = body_len,
                              .header_len = header && s->headers ? 28 : 0,
                              .policy_first = a->policy_done,
                              .policy_last = UINT32_MAX,
                              .account = UINT32_MAX,
                              .stamp = ++a->stamp,
                              .said_ns = rb_sim_net_now(w->net),
                              .leg = leg,
                              .answer = UINT32_MAX,
                              .silent = !s->echo,
                              .login = s->login };
    snprintf(pub->subject, ACCT_TEXT, "%s", subject);
    snprintf(pub->reply, sizeof(pub->reply), "%s", reply);
    struct acct_answer *answer = acct_find_answer(s, subject);
    if (answer != NULL) {
        pub->answer = (uint32_t)(answer - s->answers);
        pub->use_number = ++answer->uses;
        pub->answer_copies = answer->copies;
        pub->answer_settled = answer->pub < a->epoch_pub;
        for (uint32_t i = answer->login + 1; i <= s->login; i++) {
            pub->other_login = pub->other_login || s->judged[i];
        }
    }
    if (leg != UINT32_MAX) {
        a->legs[leg].said++;
        a->legs[leg].pending++;
        a->legs[leg].ended |= body_len == 0;
    }
    uint32_t total = acct_fill(pub, w->scratch);
    if (pub->header_len > 0) {
        snprintf(line, sizeof(line), "HPUB %s %s%s%u %u\r\n", subject, reply,
                 reply[0] == '\0' ? "" : " ", pub->header_len, total);
    } else {
        snprintf(line, sizeof(line), "PUB %s %s%s%u\r\n", subject, reply,
                 reply[0] == '\0' ? "" : " ", total);
    }
    say_text(s, line);
    sim_wire_say(&s->wire, w->scratch, total);
    sim_wire_say(&s->wire, "\r\n", 2);
    expect(s, ACCT_OP_PUB, index);
    for (uint32_t p = a->policy_done; p <= a->policy_new; p++) {
        struct acct_verdict verdict = acct_session_judge(s, s->login, p);
        if (verdict.accepted && a->max_payload[verdict.account] >= 0 &&
            total > (uint64_t)a->max_payload[verdict.account]) {
            s->doom |= ACCT_DOOM_PAYLOAD;
            s->must_die = s->must_die || (a->policy_done == a->policy_new && s->connect_sent);
        }
    }
    w->totals.publications++;
    return index;
}

void acct_session_flush(struct acct_session *s)
{
    sim_wire_flush(&s->wire, s->open);
}

/* ---- answers ---- */

enum certainty { NEVER, MAYBE, SURE };

/** allow_responses: may `pub` go to a reply subject that a message brought? */
static enum certainty may_answer(const struct acct_session *s, const struct acct_pub *pub,
                                 const struct acct_perms *perms, bool stable)
{
    if (!perms->responses || pub->answer == UINT32_MAX) {
        return NEVER;
    }
    const struct acct_answer *answer = &s->answers[pub->answer];
    int64_t max = perms->responses_max, ttl_ns = perms->responses_ttl_ns;
    uint64_t now_ns = rb_sim_net_now(s->w->net);
    if (pub->other_login) { /* what another identity heard is not this one's to answer */
        return pub->answer_settled ? NEVER : MAYBE;
    }
    if (!stable || answer->pub < acct_of(s->w)->reload_pub) {
        return MAYBE;
    }
    if ((max < 0 || pub->use_number <= max) &&
        (ttl_ns < 0 || now_ns < answer->first_said_ns + (uint64_t)ttl_ns)) {
        return SURE;
    }
    bool spent = max >= 0 && pub->use_number > max * pub->answer_copies;
    bool late = ttl_ns >= 0 && pub->said_ns > answer->heard_ns + (uint64_t)ttl_ns;
    return pub->answer_settled && (spent || late) ? NEVER : MAYBE;
}

/** What can have become of a publication; `text`: the refusal that was heard, NULL: none. */
static bool pub_possible(const struct acct_session *s, const struct acct_pub *pub, const char *text)
{
    struct acct_world *a = acct_of(s->w);
    for (uint32_t p = pub->policy_first; p <= a->policy_new; p++) {
        struct acct_verdict verdict = acct_session_judge(s, pub->login, p);
        struct acct_choices choices = { 0 };
        if (!verdict.accepted) {
            continue;
        }
        do {
            static struct acct_points points;
            char violation[2 * ACCT_TEXT];
            acct_spread(&a->policies[p], verdict.account, pub->subject, true, &choices, &points);
            const char *subject = points.at[0].subject;
            bool permitted = acct_may_publish(verdict.perms, subject);
            enum certainty answer =
                permitted ? NEVER
                          : may_answer(s, pub, verdict.perms, pub->policy_first == a->policy_new);
            snprintf(violation, sizeof(violation), "Permissions Violation for Publish to \"%s\"",
                     subject);
            if (text == NULL ? permitted || answer != NEVER
                             : !permitted && answer != SURE && strcmp(text, violation) == 0) {
                return true;
            }
        } while (acct_choices_next(&choices));
    }
    return false;
}

static uint32_t count_live(const struct acct_session *s)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->sub_count; i++) {
        count += s->subs[i].state == ACCT_LIVE;
    }
    return count;
}

static bool sub_possible(const struct acct_session *s, const struct acct_sub *sub,
                         uint32_t policy_first, const char *text)
{
    struct acct_world *a = acct_of(s->w);
    char violation[2 * ACCT_TEXT];
    const char *queue = acct_queue_name(sub->queue);
    snprintf(violation, sizeof(violation), "Permissions Violation for Subscription to \"%s\"%s%s%s",
             sub->pattern, sub->queue == ACCT_PLAIN ? "" : " using queue \"", queue,
             sub->queue == ACCT_PLAIN ? "" : "\"");
    for (uint32_t p = policy_first; p <= a->policy_new; p++) {
        struct acct_verdict verdict = acct_session_judge(s, sub->login, p);
        if (!verdict.accepted) {
            continue;
        }
        int64_t max = a->max_subs[verdict.account];
        bool full = max >= 0 && count_live(s) >= max;
        bool unsure = policy_first != a->policy_new; /* others may have been removed meanwhile */
        bool allowed = acct_may_subscribe(verdict.perms, sub->pattern, queue);
        if (text == NULL ? allowed && !full
                         : ((full || (unsure && max >= 0)) &&
                            strcmp(text, "maximum subscriptions exceeded") == 0) ||
                               (!allowed && strcmp(text, violation) == 0)) {
            return true;
        }
        if (text == NULL && unsure && allowed) {
            return true;
        }
    }
    return false;
}

static void confirm_answer(struct sim_world *w, const struct acct_pub *pub)
{
    if (pub->leg != UINT32_MAX) {
        struct acct_leg *leg = &acct_of(w)->legs[pub->leg];
        leg->pending--;
        leg->confirmed += !pub->denied && pub->account == leg->chains[0].at[0];
        leg->right_account = leg->confirmed > 0;
        leg->active_ns = rb_sim_net_now(w->net);
    }
}

/** Whose account it was said in, where that is sure. */
static uint32_t account_then(const struct acct_session *s, const struct acct_pub *pub)
{
    struct acct_world *a = acct_of(s->w);
    struct acct_verdict verdict = acct_session_judge(s, pub->login, a->policy_new);
    return pub->policy_first == a->policy_new && verdict.accepted ? verdict.account : UINT32_MAX;
}

/** An operation was carried out, or refused with `text`. False: that cannot be. */
static bool resolve(struct acct_session *s, const struct acct_expect *e, const char *text)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    switch (e->op) {
    case ACCT_OP_PUB: {
        struct acct_pub *pub = &a->pubs[e->index];
        if (!pub_possible(s, pub, text)) {
            sim_fail(w, "c%u: PUB %s (#%u) was %s", s->index, pub->subject, pub->number,
                     text == NULL ? "not refused" : text);
            return false;
        }
        pub->confirmed = true;
        pub->denied = text != NULL;
        pub->policy_last = a->policy_new;
        pub->account = account_then(s, pub);
        a->denied_pubs += pub->denied;
        confirm_answer(w, pub);
        return true;
    }
    case ACCT_OP_SUB: {
        struct acct_sub *sub = &s->subs[e->index];
        if (!sub_possible(s, sub, e->policy_first, text)) {
            sim_fail(w, "c%u: SUB %s %s (sid %u) was %s", s->index, sub->pattern,
                     acct_queue_name(sub->queue), e->index + 1,
                     text == NULL ? "not refused" : text);
            return false;
        }
        if (sub->state == ACCT_ASKED) {
            sub->state = text == NULL ? ACCT_LIVE : ACCT_REFUSED;
            sub->established = ++a->stamp;
        }
        a->denied_subs += text != NULL;
        return true;
    }
    case ACCT_OP_UNSUB:
        if (text == NULL && !e->limit && s->subs[e->index].state <= ACCT_LIVE) {
            s->subs[e->index].state = ACCT_ENDED;
        }
        if (text == NULL && e->limit) {
            s->subs[e->index].max_confirmed = true;
            acct_sub_count_down(&s->subs[e->index]);
        }
        return text == NULL;
    case ACCT_OP_CONNECT:
        if (text != NULL) {
            return false;
        }
        for (uint32_t i = 0; i < s->sub_count; i++) { /* those that came before it */
            if (s->subs[i].login < e->index && s->subs[i].state == ACCT_LIVE) {
                s->subs[i].state = ACCT_ENDED;
            }
        }
        s->connect_confirmed = e->index == s->login;
        s->login_confirmed = e->index;
        s->login_last = a->policy_new;
        return true;
    case ACCT_OP_PING:
        return false;
    }
    return false;
}

static struct acct_expect *next_expect(struct acct_session *s)
{
    return s->expect_head < s->expect_count ? &s->expects[s->expect_head] : NULL;
}

static void hear_pong(struct acct_session *s)
{
    for (struct acct_expect *e; (e = next_expect(s)) != NULL; s->expect_head++) {
        if (e->op == ACCT_OP_PING) {
            s->bound = true;
            s->expect_head++;
            return;
        }
        if (e->verbose || !resolve(s, e, NULL)) {
            break;
        }
    }
    sim_fail(s->w, "c%u: PONG out of order", s->index);
}

static void hear_ok(struct acct_session *s)
{
    struct acct_expect *e = next_expect(s);
    if (e == NULL || e->op == ACCT_OP_PING || !e->verbose || !resolve(s, e, NULL)) {
        sim_fail(s->w, "c%u: +OK out of order", s->index);
        return;
    }
    s->bound = true;
    s->expect_head++;
}

/** A refusal of an operation, of the first that it can mean. */
static bool refuse_op(struct acct_session *s, const char *text)
{
    struct acct_world *a = acct_of(s->w);
    char wanted[2 * ACCT_TEXT];
    for (struct acct_expect *e; (e = next_expect(s)) != NULL; s->expect_head++) {
        bool fits = false;
        if (e->op == ACCT_OP_PUB &&
            strncmp(text, "Permissions Violation for Publish to", 36) == 0) {
            const struct acct_pub *pub = &a->pubs[e->index];
            fits = pub_possible(s, pub, text);
        } else if (e->op == ACCT_OP_SUB) {
            const struct acct_sub *sub = &s->subs[e->index];
            snprintf(wanted, sizeof(wanted), "Subscription to \"%s\"", sub->pattern);
            fits = sub_possible(s, sub, e->policy_first, text);
        }
        if (fits) {
            /* may the operation have gone well instead, and a later one mean this? then both look the same */
            bool ok = resolve(s, e, text);
            s->expect_head++;
            return ok;
        }
        if (e->op == ACCT_OP_PING || e->verbose || !resolve(s, e, NULL)) {
            return false;
        }
    }
    return false;
}

/** The number behind the session's prefix; 0: not its own. */
static uint32_t read_sid(const struct acct_session *s, const char *text)
{
    size_t len = strlen(s->sid_prefix);
    return strncmp(text, s->sid_prefix, len) == 0 ? (uint32_t)atoi(text + len) : 0;
}

/** "... (sid "N")": a reload took it away. */
static bool hear_removed(struct acct_session *s, const char *text)
{
    struct sim_world *w = s->w;
    struct acct_world *a = acct_of(w);
    char wanted[2 * ACCT_TEXT];
    const char *tail = strstr(text, " (sid \"");
    uint32_t sid = tail == NULL ? 0 : read_sid(s, tail + 7);
    if (sid == 0 || sid > s->sub_count) {
        return false;
    }
    struct acct_sub *sub = &s->subs[sid - 1];
    const char *queue = acct_queue_name(sub->queue);
    snprintf(wanted, sizeof(wanted),
             "Permissions Violation for Subscription to \"%s\"%s%s%s (sid \"%s%u\")", sub->pattern,
             sub->queue == ACCT_PLAIN ? "" : " using queue \"", queue,
             sub->queue == ACCT_PLAIN ? "" : "\"", s->sid_prefix, sid);
    bool may = false;
    for (uint32_t p = sub->policy_first + 1; p <= a->policy_new; p++) {
        struct acct_verdict verdict = acct_session_judge(s, sub->login, p);
        may = may || (verdict.accepted && !acct_may_subscribe(verdict.perms, sub->pattern, queue));
    }
    if (!may || sub->state > ACCT_LIVE || strcmp(text, wanted) != 0) {
        sim_fail(w, "c%u: %s", s->index, text);
        return true;
    }
    sub->state = ACCT_REMOVED;
    a->group_unstable |= sub->queue != ACCT_PLAIN;
    return true;
}

static bool conns_full(const struct acct_session *s)
{
    struct acct_world *a = acct_of(s->w);
    for (uint32_t i = 0; i < ACCT_MAX; i++) {
        if (a->max_conns[i] >= 0 && acct_may_be_member(s, i) &&
            acct_members_most(a, i) > a->max_conns[i]) {
            return true;
        }
    }
    return false;
}

/** Some account that it may be in takes no payload as long as one that is not answered yet. */
static bool said_too_much(const struct acct_session *s)
{
    struct acct_world *a = acct_of(s->w);
    for (uint32_t i = s->expect_head; i < s->expect_count; i++) {
        const struct acct_expect *e = &s->expects[i];
        const struct acct_pub *pub = &a->pubs[e->index];
        for (uint32_t j = 0; e->op == ACCT_OP_PUB && j < ACCT_MAX; j++) {
            if (a->max_payload[j] >= 0 && acct_may_be_member(s, j) &&
                pub->header_len + pub->body_len > (uint64_t)a->max_payload[j]) {
                return true;
            }
        }
    }
    return false;
}

static void hear_error(struct acct_session *s, struct rb_slice line)
{
    struct sim_world *w = s->w;
    char text[1024];
    size_t len = line.len - 5 - 4; /* -ERR 'text'CRLF */
    if (len >= sizeof(text) || line.ptr[line.len - 3] != '\'') {
        sim_fail(w, "c%u: malformed -ERR", s->index);
        return;
    }
    memcpy(text, line.ptr + 6, len);
    text[len] = '\0';
    uint32_t doom = strcmp(text, "Authorization Violation") == 0 ? ACCT_DOOM_AUTH
                    : strcmp(text, "maximum account active connections exceeded") == 0
                        ? ACCT_DOOM_CONNS
                    : strcmp(text, "Maximum Payload Violation") == 0 ? ACCT_DOOM_PAYLOAD
                    : strcmp(text, "Authentication Timeout") == 0    ? ACCT_DOOM_TIMEOUT
                                                                     : 0;
    if (doom == ACCT_DOOM_PAYLOAD && said_too_much(s)) {
        s->doom |= doom;
    }
    if (doom == ACCT_DOOM_TIMEOUT && !s->bound) {
        s->doom |= doom;
    }
    if (doom != 0) {
        if ((s->doom & doom) == 0 || (doom == ACCT_DOOM_CONNS && !conns_full(s))) {
            sim_fail(w, "c%u: -ERR '%s' for nothing", s->index, text);
        }
        acct_of(w)->refused_logins += doom != ACCT_DOOM_PAYLOAD;
        s->heard_doom = true;
        return;
    }
    if (strstr(text, " (sid \"") != NULL && hear_removed(s, text)) {
        return;
    }
    if (!refuse_op(s, text)) {
        sim_fail(w, "c%u: unexpected -ERR '%s'", s->index, text);
    }
}

static void hear_info(struct acct_session *s, struct rb_slice line)
{
    char *text = (char *)s->w->scratch;
    memcpy(text, line.ptr, line.len);
    text[line.len] = '\0';
    char *nonce = strstr(text, "\"nonce\":\"");
    if (!s->heard_info && nonce != NULL) {
        snprintf(s->nonce, sizeof(s->nonce), "%.*s", (int)strcspn(nonce + 9, "\""), nonce + 9);
    }
    char *account = strstr(text, "\"remote_account\":\"");
    if (account != NULL) {
        bool possible = false;
        account += 18;
        account[strcspn(account, "\"")] = '\0';
        for (uint32_t i = 0; i < ACCT_MAX; i++) {
            possible =
                possible || (strcmp(account, acct_names[i]) == 0 && acct_may_be_member(s, i));
        }
        if (!possible) {
            sim_fail(s->w, "c%u: INFO speaks of account %s", s->index, account);
        }
    }
    s->heard_info = true;
}

/* ---- the stream ---- */

static bool parse_message(const struct acct_session *s, struct rb_slice line,
                          struct acct_heard *heard)
{
    char text[1024], *words[8];
    uint32_t count = 0;
    if (line.len >= sizeof(text)) {
        return false;
    }
    memcpy(text, line.ptr, line.len - 2);
    text[line.len - 2] = '\0';
    for (char *save = NULL, *word = strtok_r(text, " ", &save); word != NULL && count < 8;
         word = strtok_r(NULL, " ", &save)) {
        words[count++] = word;
    }
    *heard = (struct acct_heard){ .line = line, .header = line.ptr[0] == 'H' };
    uint32_t sizes = heard->header ? 2 : 1;
    if (count != 3 + sizes && count != 4 + sizes) {
        return false;
    }
    snprintf(heard->subject, ACCT_TEXT, "%s", words[1]);
    heard->sid = read_sid(s, words[2]);
    if (count == 4 + sizes) {
        snprintf(heard->reply, ACCT_TEXT, "%s", words[3]);
    }
    heard->header_len = heard->header ? (uint32_t)atoi(words[count - 2]) : 0;
    heard->total_len = (uint32_t)atoi(words[count - 1]);
    return heard->header_len <= heard->total_len;
}

static size_t hear_line(void *session, struct rb_slice input)
{
    struct acct_session *s = session;
    struct sim_world *w = s->w;
    struct rb_slice line;
    if (!sim_wire_line(w, s->index, input, &line)) {
        return 0;
    }
    if (rb_slice_starts(line, RB_S("MSG ")) || rb_slice_starts(line, RB_S("HMSG "))) {
        struct acct_heard heard;
        if (!parse_message(s, line, &heard)) {
            sim_fail(w, "c%u: malformed line %.*s", s->index, RB_S_ARG(line));
            return line.len;
        }
        if (input.len < line.len + heard.total_len + 2) {
            return 0;
        }
        heard.payload = rb_slice_of(input.ptr + line.len, heard.total_len);
        acct_hear_message(s, &heard);
        return line.len + heard.total_len + 2;
    }
    sim_trace(w, "c%u hears %.*s", s->index, (int)line.len - 2, (const char *)line.ptr);
    if (rb_slice_starts(line, RB_S("INFO "))) {
        hear_info(s, line);
    } else if (rb_slice_equal(line, RB_S("+OK\r\n"))) {
        hear_ok(s);
    } else if (rb_slice_equal(line, RB_S("PONG\r\n"))) {
        hear_pong(s);
    } else if (rb_slice_equal(line, RB_S("PING\r\n"))) {
        say_text(s, "PONG\r\n");
        acct_session_flush(s);
    } else if (rb_slice_starts(line, RB_S("-ERR '"))) {
        hear_error(s, line);
    } else {
        sim_fail(w, "c%u: unknown line %.*s", s->index, RB_S_ARG(line));
    }
    return line.len;
}

/** The server ended the connection. */
static void judge_end(struct acct_session *s)
{
    struct sim_world *w = s->w;
    if (w->stopping || w->failed) {
        return;
    }
    if (rb_sim_peer_broken(s->wire.peer)) {
        w->totals.faults++;
        return;
    }
    if (s->login_confirmed == 0 && !s->heard_doom) {
        w->totals.slow++; /* without CONNECT not much may wait for it */
        return;
    }
    if (s->doom == 0) {
        sim_fail(w, "c%u: ended by the server without a reason", s->index);
    } else if (!s->heard_doom && (s->doom & ACCT_DOOM_SILENT) == 0 && !s->was_stalled) {
        sim_fail(w, "c%u: ended without a last word", s->index);
    }
    acct_of(w)->doomed++;
}

bool acct_session_read(struct acct_session *s, size_t cap)
{
    struct sim_world *w = s->w;
    if (!s->open || s->stalled) {
        return false;
    }
    size_t len = sim_wire_read(w, &s->wire, cap, hear_line, s);
    if (rb_sim_peer_ended(s->wire.peer)) {
        judge_end(s);
        acct_session_close(s, false);
        return true;
    }
    return len > 0;
}

void acct_session_stall(struct acct_session *s, bool stalled)
{
    if (s->stalled == stalled || !s->open) {
        return;
    }
    s->stalled = stalled;
    s->was_stalled = true;
    rb_sim_peer_stall(s->wire.peer, stalled);
}

void acct_session_close(struct acct_session *s, bool reset)
{
    struct acct_world *a = acct_of(s->w);
    if (!s->open) {
        return;
    }
    sim_trace(s->w, "c%u closes%s", s->index, reset ? " by reset" : "");
    s->open = false;
    rb_sim_peer_close(s->wire.peer, reset);
    for (uint32_t i = 0; i < s->sub_count; i++) {
        a->group_unstable |= s->subs[i].queue != ACCT_PLAIN;
    }
    for (uint32_t i = 0; i < ACCT_MAX; i++) {
        a->members_gone[i] += acct_may_be_member(s, i);
    }
}
