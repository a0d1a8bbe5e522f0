/* acct_model.c - what follows from a policy, said once more, without the server's code and without its cleverness:
 * tokens are split, compared, and put together again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acct.h"

#define TOKENS_MAX 24

struct words {
    uint32_t count;
    char text[ACCT_TEXT];
    const char *at[TOKENS_MAX];
};

static bool split(const char *subject, struct words *words)
{
    words->count = 0;
    snprintf(words->text, sizeof(words->text), "%s", subject);
    char *rest = words->text;
    for (char *end; rest != NULL; rest = end) {
        end = strchr(rest, '.');
        if (end != NULL) {
            *end++ = '\0';
        }
        if (*rest == '\0' || words->count == TOKENS_MAX) {
            return false;
        }
        words->at[words->count++] = rest;
    }
    return true;
}

static bool is(const char *token, const char *what)
{
    return strcmp(token, what) == 0;
}

bool acct_match(const char *pattern, const char *subject)
{
    struct words p, s;
    if (!split(pattern, &p) || !split(subject, &s)) {
        return false;
    }
    for (uint32_t i = 0; i < p.count; i++) {
        if (i >= s.count) {
            return false;
        }
        if (is(p.at[i], ">")) {
            return true;
        }
        if (!is(p.at[i], "*") && !is(p.at[i], s.at[i])) {
            return false;
        }
    }
    return p.count == s.count;
}

/* Every subject of `inner` is one of `outer`. */
static bool covers(const char *outer, const char *inner)
{
    struct words o, n;
    if (!split(outer, &o) || !split(inner, &n)) {
        return false;
    }
    for (uint32_t i = 0; i < o.count; i++) {
        if (i >= n.count) {
            return false;
        }
        if (is(o.at[i], ">")) {
            return true;
        }
        if (is(n.at[i], ">") || (!is(o.at[i], "*") && !is(o.at[i], n.at[i]))) {
            return false;
        }
    }
    return o.count == n.count;
}

bool acct_overlap(const char *a, const char *b)
{
    struct words x, y;
    if (!split(a, &x) || !split(b, &y)) {
        return false;
    }
    for (uint32_t i = 0; i < x.count && i < y.count; i++) {
        if (is(x.at[i], ">") || is(y.at[i], ">")) {
            return true;
        }
        if (!is(x.at[i], "*") && !is(y.at[i], "*") && !is(x.at[i], y.at[i])) {
            return false;
        }
    }
    return x.count == y.count;
}

/* ---- who ---- */

struct acct_verdict acct_judge(const struct acct_policy *p, const struct acct_creds *creds)
{
    struct acct_verdict no = { .user = -1 };
    struct acct_verdict plain = { .accepted = true, .user = -1 };
    int32_t user = -1;
    switch (p->login) {
    case ACCT_OPEN:
        return plain;
    case ACCT_BY_TOKEN:
        return creds->proof == ACCT_TOKEN && creds->secret == p->secret ? plain : no;
    case ACCT_BY_SINGLE:
        return creds->proof == ACCT_USER && creds->user == 0 && creds->secret == p->secret ? plain
                                                                                           : no;
    case ACCT_BY_USERS:
        break;
    }
    if (creds->proof == ACCT_NOTHING) {
        user = p->no_auth_user;
    } else if (creds->proof == ACCT_NKEY && creds->user < ACCT_NKEYS && creds->secret == 0) {
        user = (int32_t)creds->user;
    } else if (creds->proof == ACCT_USER && creds->user >= ACCT_NKEYS && creds->user < ACCT_USERS &&
               creds->secret == p->users[creds->user].secret) {
        user = (int32_t)creds->user;
    }
    if (user < 0 || !p->users[user].exists) {
        return no;
    }
    const struct acct_user *found = &p->users[user];
    return (struct acct_verdict){ .accepted = true,
                                  .account = found->account,
                                  .user = user,
                                  .perms = found->perms.present ? &found->perms : NULL };
}

bool acct_same_identity(const struct acct_policy *before, struct acct_verdict old,
                        const struct acct_policy *after, struct acct_verdict now)
{
    if (!now.accepted || old.user != now.user || old.account != now.account) {
        return false;
    }
    if (old.user >= 0) {
        return before->users[old.user].secret == after->users[now.user].secret &&
               before->users[old.user].hashed == after->users[now.user].hashed;
    }
    if (after->login == ACCT_OPEN) { /* a name that is not asked for is gone; a token is not */
        return before->login == ACCT_OPEN || before->login == ACCT_BY_TOKEN;
    }
    return before->login == after->login && before->secret == after->secret;
}

/* ---- what ---- */

bool acct_may_publish(const struct acct_perms *perms, const char *subject)
{
    if (perms == NULL) {
        return true;
    }
    bool allowed = !perms->pub_allow.set;
    for (uint32_t i = 0; i < perms->pub_allow.count; i++) {
        allowed = allowed || acct_match(perms->pub_allow.entries[i].subject, subject);
    }
    for (uint32_t i = 0; i < perms->pub_deny.count; i++) {
        allowed = allowed && !acct_match(perms->pub_deny.entries[i].subject, subject);
    }
    return allowed;
}

bool acct_may_hear(const struct acct_perms *perms, const char *subject, const char *queue)
{
    for (uint32_t i = 0; perms != NULL && i < perms->sub_deny.count; i++) {
        const char *denied = perms->sub_deny.entries[i].queue;
        bool applies = denied[0] == '\0' || (queue[0] != '\0' && acct_match(denied, queue));
        if (applies && acct_match(perms->sub_deny.entries[i].subject, subject)) {
            return false;
        }
    }
    return true;
}

bool acct_may_subscribe(const struct acct_perms *perms, const char *pattern, const char *queue)
{
    if (perms == NULL) {
        return true;
    }
    bool plain = false, queued = false, matched = false;
    for (uint32_t i = 0; i < perms->sub_allow.count; i++) {
        const char *wanted = perms->sub_allow.entries[i].queue;
        if (!covers(perms->sub_allow.entries[i].subject, pattern)) {
            continue;
        }
        if (wanted[0] == '\0') {
            plain = true;
        } else if (queue[0] != '\0') {
            queued = true;
            matched = matched || acct_match(wanted, queue);
        }
    }
    if (perms->sub_allow.set && !(queued ? matched : plain)) {
        return false;
    }
    return acct_may_hear(perms, pattern, queue); /* deny lists take wildcards as words */
}

/* ---- where ---- */

/* Takes `subject` apart by `from`, in which "$n" and the n-th "*" both stand for wildcard n. */
static bool take_apart(const char *from, const char *subject, char parts[TOKENS_MAX][ACCT_TEXT],
                       char tail[ACCT_TEXT])
{
    struct words f, s;
    uint32_t stars = 0;
    tail[0] = '\0';
    if (!split(from, &f) || !split(subject, &s)) {
        return false;
    }
    for (uint32_t i = 0; i < f.count; i++) {
        if (i >= s.count) {
            return false;
        }
        if (is(f.at[i], ">")) {
            size_t len = 0;
            for (; i < s.count; i++) {
                len += (size_t)snprintf(tail + len, ACCT_TEXT - len, "%s%s", len > 0 ? "." : "",
                                        s.at[i]);
            }
            return true;
        }
        if (f.at[i][0] == '*' || f.at[i][0] == '$') {
            uint32_t n = f.at[i][0] == '*' ? ++stars : (uint32_t)atoi(f.at[i] + 1);
            snprintf(parts[n], ACCT_TEXT, "%s", s.at[i]);
        } else if (!is(f.at[i], s.at[i])) {
            return false;
        }
    }
    return f.count == s.count;
}

static void put_together(const char *to, char parts[TOKENS_MAX][ACCT_TEXT], const char *tail,
                         char out[ACCT_TEXT])
{
    struct words t;
    uint32_t stars = 0;
    size_t len = 0;
    split(to, &t);
    for (uint32_t i = 0; i < t.count; i++) {
        const char *token = t.at[i];
        if (token[0] == '*' || token[0] == '$') {
            token = parts[token[0] == '*' ? ++stars : (uint32_t)atoi(token + 1)];
        } else if (is(token, ">")) {
            token = tail;
        }
        len += (size_t)snprintf(out + len, ACCT_TEXT - len, "%s%s", i > 0 ? "." : "", token);
    }
}

static bool rewrite(const char *from, const char *to, const char *subject, char out[ACCT_TEXT])
{
    char parts[TOKENS_MAX][ACCT_TEXT], tail[ACCT_TEXT];
    if (!take_apart(from, subject, parts, tail)) {
        return false;
    }
    put_together(to, parts, tail, out);
    return true;
}

/* The importer's side, wildcards as "$n" or "*". */
static void importer_side(const struct acct_import *import, char out[ACCT_TEXT])
{
    if (import->prefix[0] != '\0') {
        snprintf(out, ACCT_TEXT, "%s.%.120s", import->prefix, import->subject);
    } else {
        snprintf(out, ACCT_TEXT, "%s", import->to[0] != '\0' ? import->to : import->subject);
    }
}

void acct_import_local(const struct acct_import *import, char out[ACCT_TEXT])
{
    char side[ACCT_TEXT];
    struct words words;
    size_t len = 0;
    importer_side(import, side);
    split(side, &words);
    for (uint32_t i = 0; i < words.count; i++) {
        len += (size_t)snprintf(out + len, ACCT_TEXT - len, "%s%s", i > 0 ? "." : "",
                                words.at[i][0] == '$' ? "*" : words.at[i]);
    }
}

bool acct_import_subject(const struct acct_import *import, const char *subject, char out[ACCT_TEXT])
{
    char side[ACCT_TEXT];
    importer_side(import, side);
    return import->service ? rewrite(side, import->subject, subject, out)
                           : rewrite(import->subject, side, subject, out);
}

static uint32_t choose(struct acct_choices *choices, uint32_t options)
{
    if (choices->used == ACCT_CHOICES) {
        return 0;
    }
    uint32_t at = choices->used++;
    choices->options[at] = options;
    return choices->at[at];
}

bool acct_choices_next(struct acct_choices *choices)
{
    uint32_t at = choices->used;
    while (at > 0 && choices->at[at - 1] + 1 >= choices->options[at - 1]) {
        at--;
        choices->at[at] = 0;
    }
    choices->used = 0;
    if (at == 0) {
        return false;
    }
    choices->at[at - 1]++;
    return true;
}

/* The first mapping that matches decides. */
static void map(const struct acct_account *account, struct acct_choices *choices,
                char subject[ACCT_TEXT])
{
    for (uint32_t i = 0; i < account->mapping_count; i++) {
        const struct acct_mapping *mapping = &account->mappings[i];
        char out[ACCT_TEXT];
        if (!acct_match(mapping->source, subject)) {
            continue;
        }
        uint32_t sum = 0;
        for (uint32_t j = 0; j < mapping->target_count; j++) {
            sum += mapping->targets[j].weight;
        }
        uint32_t pick = choose(choices, mapping->target_count + (sum < 100 ? 1 : 0));
        if (pick < mapping->target_count &&
            rewrite(mapping->source, mapping->targets[pick].subject, subject, out)) {
            memcpy(subject, out, ACCT_TEXT);
        }
        return;
    }
}

void acct_spread(const struct acct_policy *p, uint32_t account, const char *subject, bool map_it,
                 struct acct_choices *choices, struct acct_points *points)
{
    struct acct_point *first = &points->at[0];
    *first = (struct acct_point){ .account = account, .parent = UINT32_MAX };
    snprintf(first->subject, ACCT_TEXT, "%s", subject);
    points->count = 1;
    if (map_it) {
        map(&p->accounts[account], choices, first->subject);
    }
    for (uint32_t i = 0; i < points->count; i++) {
        const struct acct_point *at = &points->at[i];
        const struct acct_account *from = &p->accounts[at->account];
        for (uint32_t j = 0; j < from->import_count && points->count < ACCT_POINTS; j++) {
            const struct acct_import *import = &from->imports[j];
            struct acct_point *next = &points->at[points->count];
            if (!import->service || !acct_import_subject(import, at->subject, next->subject)) {
                continue;
            }
            next->account = import->from;
            next->parent = i;
            next->import = j;
            next->opaque = false;
            map(&p->accounts[next->account], choices, next->subject);
            points->count++;
        }
    }
}

/* "_R_.x.y" heard where another such subject was expected. */
static bool same_subject(const struct acct_point *point, const char *expected, const char *heard)
{
    return point->opaque ? strncmp(heard, "_R_.", 4) == 0 : strcmp(expected, heard) == 0;
}

uint32_t acct_copies(const struct acct_policy *p, const struct acct_points *points,
                     uint32_t account, const char *pattern, const struct acct_perms *perms,
                     const char *queue, const char *heard)
{
    const struct acct_account *own = &p->accounts[account];
    uint32_t copies = 0;
    for (uint32_t i = 0; i < points->count; i++) {
        const struct acct_point *at = &points->at[i];
        char local[ACCT_TEXT];
        if (at->account == account && acct_match(pattern, at->subject) &&
            acct_may_hear(perms, at->subject, queue)) {
            copies += heard == NULL || same_subject(at, at->subject, heard);
        }
        for (uint32_t j = 0; j < own->import_count; j++) {
            const struct acct_import *import = &own->imports[j];
            if (!import->service && import->from == at->account &&
                acct_import_subject(import, at->subject, local) && acct_match(pattern, local) &&
                acct_may_hear(perms, local, queue)) {
                copies += heard == NULL || same_subject(at, local, heard);
            }
        }
    }
    return copies;
}
