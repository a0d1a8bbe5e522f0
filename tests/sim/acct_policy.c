/* acct_policy.c - policies of a seed: drawn for the model, then built for the server.
 *
 * 1. A user is a number; its name or key never changes, all else may with a reload.
 *    So does who stands for those without credentials.
 * 2. Services are imported from accounts with a smaller number, so no request goes in a circle.
 * 3. Imports and exports begin with a word, so that none of them takes an "_R_" subject or an "in." one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acct.h"
#include "auth/password.h"

#define SECOND 1000000000ll

const char *const acct_names[ACCT_MAX] = { "$G", "$SYS", "A", "B", "C", "D", "E", "F" };
const char *const acct_queues[3] = { "q", "q.x", "workers" };
static const char *const words[] = { "a", "b", "c" };

const char *acct_secret_text(uint32_t secret, char out[32])
{
    snprintf(out, 32, "secret-%u", secret);
    return out;
}

void acct_draw_subject(struct sim_world *w, char out[ACCT_TEXT], bool pattern)
{
    uint32_t depth = 1 + sim_below(w, 3);
    size_t len = 0;
    for (uint32_t i = 0; i < depth; i++) {
        const char *token = words[sim_below(w, 3)];
        if (pattern && sim_chance(w, 250)) {
            token = "*";
        }
        if (pattern && i + 1 == depth && sim_chance(w, 300)) {
            token = ">";
        }
        len += (size_t)snprintf(out + len, ACCT_TEXT - len, "%s%s", i > 0 ? "." : "", token);
    }
}

/* ---- permissions ---- */

static void draw_list(struct sim_world *w, struct acct_list *list, uint32_t chance, bool allow,
                      bool queues)
{
    *list = (struct acct_list){ .set = sim_chance(w, chance) };
    if (!list->set) {
        return;
    }
    list->count = allow && sim_chance(w, 100) ? 0 : 1 + sim_below(w, ACCT_ENTRIES - 1);
    for (uint32_t i = 0; i < list->count; i++) {
        acct_draw_subject(w, list->entries[i].subject, true);
        if (queues && sim_chance(w, 250)) {
            static const char *const patterns[] = { "q", "q.*", ">", "workers", "*" };
            snprintf(list->entries[i].queue, 16, "%s", patterns[sim_below(w, 5)]);
        }
    }
    if (allow && list->count > 0 && sim_chance(w, 600)) { /* most clients want their answers */
        static const char *const broad[] = { "in.>", "in.>", "_R_.>", ">" };
        snprintf(list->entries[list->count].subject, ACCT_TEXT, "%s", broad[sim_below(w, 4)]);
        list->entries[list->count++].queue[0] = '\0';
    }
}

static void draw_perms(struct sim_world *w, struct acct_perms *perms)
{
    *perms = (struct acct_perms){ .present = sim_chance(w, 450) };
    if (!perms->present) {
        return;
    }
    draw_list(w, &perms->pub_allow, 300, true, false);
    draw_list(w, &perms->pub_deny, 300, false, false);
    draw_list(w, &perms->sub_allow, 200, true, true);
    draw_list(w, &perms->sub_deny, 400, false, true);
    perms->responses = sim_chance(w, 400);
    perms->responses_max = sim_chance(w, 300) ? -1 : 1 + (int64_t)sim_below(w, 3);
    perms->responses_ttl_ns = sim_chance(w, 500) ? -1 : (1 + (int64_t)sim_below(w, 5)) * SECOND;
    if (perms->responses && !perms->pub_allow.set) { /* invariant of struct rb_permissions */
        perms->pub_allow = (struct acct_list){ .set = true };
    }
}

/* ---- imports ---- */

/* A pattern that `subject` is a case of. */
static void widen(struct sim_world *w, const char *subject, char out[ACCT_TEXT])
{
    char copy[ACCT_TEXT];
    size_t len = 0;
    snprintf(copy, sizeof(copy), "%s", subject);
    char *save = NULL;
    for (char *token = strtok_r(copy, ".", &save); token != NULL;
         token = strtok_r(NULL, ".", &save)) {
        bool first = len == 0;
        if (!first && strcmp(token, ">") != 0 && sim_chance(w, 200)) {
            token = "*";
        }
        if (!first && sim_chance(w, 150)) {
            len += (size_t)snprintf(out + len, ACCT_TEXT - len, ".>");
            return;
        }
        len += (size_t)snprintf(out + len, ACCT_TEXT - len, "%s%s", first ? "" : ".", token);
    }
}

/* Another subject with the same wildcards: numbered in any order, or as they come. */
static void draw_to(struct sim_world *w, const char *subject, char out[ACCT_TEXT], bool own_star)
{
    uint32_t stars = 0, order[8];
    bool tail = false;
    for (const char *at = subject; *at != '\0'; at++) {
        stars += *at == '*';
        tail = tail || *at == '>';
    }
    for (uint32_t i = 0; i < stars; i++) {
        uint32_t at = sim_below(w, i + 1);
        order[i] = order[at];
        order[at] = i + 1;
    }
    bool plain = own_star && sim_chance(w, 400);
    size_t len = (size_t)snprintf(out, ACCT_TEXT, "%s", words[sim_below(w, 3)]);
    for (uint32_t i = 0; i < stars; i++) {
        if (sim_chance(w, 200)) {
            len += (size_t)snprintf(out + len, ACCT_TEXT - len, ".%s", words[sim_below(w, 3)]);
        }
        len += plain ? (size_t)snprintf(out + len, ACCT_TEXT - len, ".*")
                     : (size_t)snprintf(out + len, ACCT_TEXT - len, ".$%u", order[i]);
    }
    if (stars == 0 && sim_chance(w, 600)) {
        len += (size_t)snprintf(out + len, ACCT_TEXT - len, ".%s", words[sim_below(w, 3)]);
    }
    if (tail) {
        snprintf(out + len, ACCT_TEXT - len, ".>");
    }
}

static void draw_link(struct sim_world *w, struct acct_policy *p)
{
    uint32_t from = sim_below(w, ACCT_MAX), into = sim_below(w, ACCT_MAX);
    bool service = sim_chance(w, 550);
    if (service && from > into) {
        uint32_t swap = from;
        from = into;
        into = swap;
    }
    struct acct_account *exporter = &p->accounts[from], *importer = &p->accounts[into];
    if (from == into || from == 1 || into == 1 || !exporter->exists || !importer->exists ||
        exporter->export_count == 2 * ACCT_LINKS || importer->import_count == ACCT_LINKS) {
        return;
    }
    struct acct_import *import = &importer->imports[importer->import_count];
    struct acct_export *exported = &exporter->exports[exporter->export_count];
    *import = (struct acct_import){ .service = service,
                                    .from = from,
                                    .exported = exporter->export_count,
                                    .share = sim_chance(w, 300) };
    acct_draw_subject(w, import->subject, true);
    if (import->subject[0] == '*' || import->subject[0] == '>') {
        import->subject[0] = 'a';
    }
    if (sim_chance(w, 500)) {
        draw_to(w, import->subject, import->to, true);
    } else if (!service && sim_chance(w, 500)) {
        snprintf(import->prefix, sizeof(import->prefix), "%s", sim_chance(w, 500) ? "a" : "b.c");
    }
    *exported = (struct acct_export){
        .service = service,
        .restricted = sim_chance(w, 300),
        .importer = into,
        .response = (enum rb_response_type)sim_below(w, 3),
        .threshold_ns = sim_chance(w, 500) ? 0 : (1 + (int64_t)sim_below(w, 10)) * SECOND
    };
    if (sim_chance(w, 500)) {
        memcpy(exported->subject, import->subject, ACCT_TEXT);
    } else {
        widen(w, import->subject, exported->subject);
    }
    /* the same subject exported twice would leave open which of both counts */
    for (uint32_t i = 0; i < exporter->export_count; i++) {
        if (acct_overlap(exporter->exports[i].subject, exported->subject)) {
            return;
        }
    }
    exporter->export_count++;
    importer->import_count++;
}

static void draw_mapping(struct sim_world *w, struct acct_policy *p)
{
    uint32_t index = sim_below(w, ACCT_MAX);
    struct acct_account *account = &p->accounts[index];
    if (index == 1 || !account->exists || account->mapping_count == 2) {
        return;
    }
    struct acct_mapping *mapping = &account->mappings[account->mapping_count++];
    *mapping = (struct acct_mapping){ .target_count = 1 + sim_below(w, 2) };
    acct_draw_subject(w, mapping->source, true);
    if (mapping->source[0] == '*' || mapping->source[0] == '>') {
        mapping->source[0] = 'b';
    }
    for (uint32_t i = 0; i < mapping->target_count; i++) {
        draw_to(w, mapping->source, mapping->targets[i].subject, false);
        mapping->targets[i].weight =
            mapping->target_count == 1 && sim_chance(w, 500) ? 100 : 20 + sim_below(w, 30);
        if (strcmp(mapping->source, mapping->targets[i].subject) == 0 ||
            (i > 0 && strcmp(mapping->targets[0].subject, mapping->targets[i].subject) == 0)) {
            account
                ->mapping_count--; /* a target twice is refused; the source itself means: lost on purpose */
            return;
        }
    }
}

static void draw_links(struct sim_world *w, struct acct_policy *p)
{
    for (uint32_t i = 0; i < ACCT_MAX; i++) {
        p->accounts[i].export_count = p->accounts[i].import_count = 0;
        p->accounts[i].mapping_count = 0;
    }
    for (uint32_t i = sim_below(w, 60); i > 0; i--) {
        draw_link(w, p);
    }
    for (uint32_t i = acct_of(w)->mappings && sim_chance(w, 500) ? 1 + sim_below(w, 3) : 0; i > 0;
         i--) {
        draw_mapping(w, p);
    }
}

/* ---- users ---- */

static uint32_t draw_account(struct sim_world *w, const struct acct_policy *p)
{
    uint32_t account;
    do {
        account = sim_below(w, ACCT_MAX);
    } while (!p->accounts[account].exists || (account == 1 && !sim_chance(w, 100)));
    return account;
}

static void draw_user(struct sim_world *w, struct acct_policy *p, uint32_t index)
{
    struct acct_user *user = &p->users[index];
    user->exists = index < ACCT_NKEYS ? acct_of(w)->uses_nkeys : !sim_chance(w, 100);
    user->hashed = index >= ACCT_NKEYS && sim_chance(w, 60);
    user->secret = index * 10;
    user->account = draw_account(w, p);
    draw_perms(w, &user->perms);
}

static void draw_anonymous(struct sim_world *w, struct acct_policy *p)
{
    p->no_auth_user = -1;
    if ((p->login == ACCT_BY_USERS || acct_of(w)->login_changes) && sim_chance(w, 350)) {
        uint32_t user = ACCT_NKEYS + sim_below(w, ACCT_USERS - ACCT_NKEYS);
        if (p->users[user].exists && !p->users[user].hashed) {
            p->no_auth_user = (int32_t)user;
        }
    }
}

void acct_policy_draw(struct sim_world *w, struct acct_policy *p)
{
    *p = (struct acct_policy){ .login = ACCT_BY_USERS, .no_auth_user = -1 };
    uint32_t draw = sim_below(w, 100);
    if (!acct_of(w)->uses_nkeys && draw < 15) {
        p->login = draw < 5 ? ACCT_OPEN : draw < 10 ? ACCT_BY_TOKEN : ACCT_BY_SINGLE;
    }
    p->secret = 7;
    uint32_t count = 1 + sim_below(w, sim_chance(w, 700) ? 3 : 6);
    for (uint32_t i = 0; i < ACCT_MAX; i++) {
        p->accounts[i].exists = i < 2 + count;
    }
    for (uint32_t i = 0; i < ACCT_USERS; i++) {
        draw_user(w, p, i);
    }
    p->users[ACCT_USERS - 1].exists = true;
    acct_of(w)->login_changes = sim_chance(w, 150);
    draw_anonymous(w, p);
    draw_links(w, p);
}

static bool account_used(const struct acct_policy *p, uint32_t account)
{
    for (uint32_t i = 0; i < ACCT_USERS; i++) {
        if (p->users[i].account == account) { /* a user that is gone may come back */
            return true;
        }
    }
    return false;
}

void acct_policy_change(struct sim_world *w, struct acct_policy *p)
{
    p->settings = NULL;
    for (uint32_t i = 0; i < ACCT_USERS; i++) {
        struct acct_user *user = &p->users[i];
        if (sim_chance(w, 300)) {
            draw_perms(w, &user->perms);
        }
        if (sim_chance(w, 70)) {
            user->account = draw_account(w, p);
        }
        if (i >= ACCT_NKEYS && sim_chance(w, 60)) {
            user->secret = i * 10 + sim_below(w, 3);
        }
        if (i >= ACCT_NKEYS && i + 1 < ACCT_USERS && sim_chance(w, 60)) {
            user->exists = !user->exists;
        }
    }
    for (uint32_t i = 2; i < ACCT_MAX; i++) {
        if (p->accounts[i].exists && sim_chance(w, 50) && !account_used(p, i)) {
            p->accounts[i].exists = false;
        }
    }
    bool whole = true;
    for (uint32_t i = 0; i < ACCT_MAX; i++) {
        for (uint32_t j = 0; j < p->accounts[i].import_count; j++) {
            whole = whole && p->accounts[i].exists &&
                    p->accounts[p->accounts[i].imports[j].from].exists;
        }
    }
    if (!whole || sim_chance(w, 500)) {
        draw_links(w, p);
    }
    if (acct_of(w)->login_changes && sim_chance(w, 400)) {
        p->login = (enum acct_login)sim_below(w, 4);
    }
    if (p->login != ACCT_BY_USERS && sim_chance(w, 200)) {
        p->secret++;
    }
}

/* ---- for the server ---- */

struct build {
    struct sim_world *w;
    struct rb_policy *policy;
    uint32_t place[ACCT_MAX]; /* index in policy->accounts */
};

static struct rb_slice keep(struct build *b, const char *text)
{
    size_t len = strlen(text);
    char *copy = rb_arena_take(b->policy->arena, len + 1);
    memcpy(copy, text, len + 1);
    return rb_slice_of(copy, len);
}

static struct rb_perm_list build_list(struct build *b, const struct acct_list *list)
{
    struct rb_perm_entry *entries =
        rb_arena_take(b->policy->arena, (list->count + 1) * sizeof(*entries));
    for (uint32_t i = 0; i < list->count; i++) {
        entries[i].subject = keep(b, list->entries[i].subject);
        entries[i].queue = keep(b, list->entries[i].queue);
    }
    return (struct rb_perm_list){ .entries = entries, .count = list->count, .set = list->set };
}

static const struct rb_permissions *build_perms(struct build *b, const struct acct_perms *perms)
{
    if (!perms->present) {
        return NULL;
    }
    struct rb_permissions *out = rb_arena_take(b->policy->arena, sizeof(*out));
    *out = (struct rb_permissions){ .publish_allow = build_list(b, &perms->pub_allow),
                                    .publish_deny = build_list(b, &perms->pub_deny),
                                    .subscribe_allow = build_list(b, &perms->sub_allow),
                                    .subscribe_deny = build_list(b, &perms->sub_deny),
                                    .responses = perms->responses,
                                    .responses_max = perms->responses_max,
                                    .responses_ttl_ns = perms->responses_ttl_ns };
    return out;
}

static void build_exports(struct build *b, const struct acct_account *from,
                          struct rb_policy_account *into)
{
    struct rb_export *exports =
        rb_arena_take(b->policy->arena, (from->export_count + 1) * sizeof(*exports));
    for (uint32_t i = 0; i < from->export_count; i++) {
        const struct acct_export *one = &from->exports[i];
        uint32_t *importer = rb_arena_take(b->policy->arena, sizeof(*importer));
        *importer = b->place[one->importer];
        exports[i] = (struct rb_export){ .service = one->service,
                                         .subject = keep(b, one->subject),
                                         .accounts = importer,
                                         .account_count = one->restricted ? 1 : 0,
                                         .restricted = one->restricted,
                                         .response = one->response,
                                         .threshold_ns = one->threshold_ns };
    }
    into->exports = exports;
    into->export_count = from->export_count;
}

static void build_imports(struct build *b, const struct acct_account *from,
                          struct rb_policy_account *into)
{
    struct rb_import *imports =
        rb_arena_take(b->policy->arena, (from->import_count + 1) * sizeof(*imports));
    for (uint32_t i = 0; i < from->import_count; i++) {
        const struct acct_import *one = &from->imports[i];
        imports[i] = (struct rb_import){ .service = one->service,
                                         .account = b->place[one->from],
                                         .subject = keep(b, one->subject),
                                         .to = keep(b, one->to),
                                         .prefix = keep(b, one->prefix),
                                         .share = one->share };
    }
    into->imports = imports;
    into->import_count = from->import_count;
}

static void build_mappings(struct build *b, const struct acct_account *from,
                           struct rb_policy_account *into)
{
    struct rb_mapping *mappings =
        rb_arena_take(b->policy->arena, (from->mapping_count + 1) * sizeof(*mappings));
    for (uint32_t i = 0; i < from->mapping_count; i++) {
        const struct acct_mapping *one = &from->mappings[i];
        struct rb_mapping_target *targets =
            rb_arena_take(b->policy->arena, one->target_count * sizeof(*targets));
        for (uint32_t j = 0; j < one->target_count; j++) {
            targets[j] = (struct rb_mapping_target){ .subject = keep(b, one->targets[j].subject),
                                                     .weight = one->targets[j].weight };
        }
        mappings[i] = (struct rb_mapping){ .source = keep(b, one->source),
                                           .targets = targets,
                                           .target_count = one->target_count };
    }
    into->mappings = mappings;
    into->mapping_count = from->mapping_count;
}

static void build_accounts(struct build *b, const struct acct_policy *p)
{
    struct acct_world *a = acct_of(b->w);
    struct rb_policy_account *accounts =
        rb_arena_take(b->policy->arena, ACCT_MAX * sizeof(*accounts));
    uint32_t count = 0;
    for (uint32_t i = 0; i < ACCT_MAX; i++) {
        b->place[i] = count;
        count += p->accounts[i].exists;
    }
    for (uint32_t i = 0; i < ACCT_MAX; i++) {
        struct rb_policy_account *account = &accounts[b->place[i]];
        if (!p->accounts[i].exists) {
            continue;
        }
        *account = (struct rb_policy_account){
            .name = keep(b, acct_names[i]),
            .id = UINT32_MAX,
            .limits = { a->max_conns[i], a->max_subs[i], a->max_payload[i], -1 },
        };
        build_exports(b, &p->accounts[i], account);
        build_imports(b, &p->accounts[i], account);
        build_mappings(b, &p->accounts[i], account);
    }
    b->policy->accounts = accounts;
    b->policy->account_count = count;
    b->policy->system_account = 1;
}

static void build_users(struct build *b, const struct acct_policy *p)
{
    struct acct_world *a = acct_of(b->w);
    struct rb_policy_user *users = rb_arena_take(b->policy->arena, ACCT_USERS * sizeof(*users));
    uint32_t count = 0;
    char text[32];
    for (uint32_t i = 0; i < ACCT_USERS && p->login == ACCT_BY_USERS; i++) {
        const struct acct_user *one = &p->users[i];
        if (!one->exists) {
            continue;
        }
        struct rb_policy_user *user = &users[count];
        *user = (struct rb_policy_user){ .account = b->place[one->account],
                                         .types = RB_TYPE_ALL,
                                         .permissions = build_perms(b, &one->perms) };
        if (i < ACCT_NKEYS) {
            user->nkey = keep(b, a->key_text[i]);
        } else {
            static const uint8_t salt[RB_PASSWORD_SALT_BYTES] = { 1, 2, 3 };
            char name[8], hash[RB_PASSWORD_HASH_CAP];
            snprintf(name, sizeof(name), "u%u", i % 100);
            user->name = keep(b, name);
            acct_secret_text(one->secret, text);
            if (one->hashed && rb_password_make_hash(rb_slice_text(text), 4, salt, hash) == RB_OK) {
                user->pass = keep(b, hash);
            } else {
                user->pass = keep(b, text);
            }
        }
        if (p->no_auth_user == (int32_t)i) {
            b->policy->login.no_auth_user = (int32_t)count;
        }
        count++;
    }
    b->policy->users = users;
    b->policy->user_count = count;
}

struct rb_policy *acct_policy_build(struct sim_world *w, const struct acct_policy *p)
{
    struct build b = { .w = w };
    char text[32];
    if (rb_policy_create(&b.policy) != RB_OK) {
        abort();
    }
    b.policy->login.no_auth_user = b.policy->websocket_login.no_auth_user = -1;
    b.policy->login.timeout_ns = 2000000000;
    build_accounts(&b, p);
    build_users(&b, p);
    acct_secret_text(p->secret, text);
    if (p->login == ACCT_BY_TOKEN) {
        b.policy->login.token = keep(&b, text);
    } else if (p->login == ACCT_BY_SINGLE) {
        b.policy->login.user = keep(&b, "u0");
        b.policy->login.pass = keep(&b, text);
    }
    if (rb_policy_seal(b.policy) != RB_OK) {
        abort();
    }
    return b.policy;
}
