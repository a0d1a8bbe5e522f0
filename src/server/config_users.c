/* config_users.c - users and permissions, of `authorization` and of accounts.
 *
 * 1. Users are collected in file order over all blocks and become the policy's array at the end (config_auth.c).
 * 2. An empty array is as no list at all, as in nats-server (tried): `publish: []` permits everything. Only
 *    allow_responses makes an empty list, which permits nothing but responses.
 */
#include "server/config_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/nkey.h"
#include "proto/subject.h"

#define RESPONSES_MAX_DEFAULT 1
#define RESPONSES_TTL_DEFAULT_NS ((int64_t)(120 * RB_SECOND_NS))
#define QUEUE_TEXT "queue \"%.*s\" is not a valid queue"

/* ------------------------------------------------------------------ permissions */

/** The two words of "subject queue"; any other number of words is left as it is, and is no subject then. */
static void split_queue(struct rb_slice text, struct rb_slice *ret_subject,
                        struct rb_slice *ret_queue)
{
    const uint8_t *blank = text.len == 0 ? NULL : memchr(text.ptr, ' ', text.len);
    if (blank == NULL || blank == text.ptr) {
        return;
    }
    size_t len = (size_t)(blank - text.ptr), begin = len;
    while (begin < text.len && text.ptr[begin] == ' ') {
        begin++;
    }
    struct rb_slice queue = rb_slice_of(text.ptr + begin, text.len - begin);
    if (queue.len > 0 && memchr(queue.ptr, ' ', queue.len) == NULL) {
        *ret_subject = rb_slice_of(text.ptr, len);
        *ret_queue = queue;
    }
}

/** "subject", or with `queues` also "subject queue". */
static bool read_entry(struct rb_load *load, const struct rb_conf_entry *place,
                       struct rb_slice text, bool queues, struct rb_perm_entry *ret_entry)
{
    struct rb_slice subject = text, queue = { 0 };
    if (queues) {
        split_queue(text, &subject, &queue);
    }
    if (!rb_subject_valid(subject)) {
        rb_load_error(load, place, "subject \"%.*s\" is not a valid subject", RB_S_ARG(subject));
        return false;
    }
    if (queue.len > 0 && !rb_subject_valid(queue)) {
        rb_load_error(load, place, QUEUE_TEXT, RB_S_ARG(queue));
        return false;
    }
    ret_entry->subject = rb_load_copy(load, subject);
    ret_entry->queue = rb_load_copy(load, queue);
    return true;
}

/** A subject or an array of them. */
static void read_list(struct rb_load *load, const struct rb_conf_entry *entry, bool queues,
                      struct rb_perm_list *ret_list)
{
    const struct rb_conf_value *value = entry->value;
    if (value->kind != RB_CONF_TEXT && value->kind != RB_CONF_ARRAY) {
        rb_load_error(load, entry,
                      "Expected subject permissions to be a subject, or array of subjects, got %s",
                      rb_conf_kind_text(value->kind));
        return;
    }
    bool one = value->kind == RB_CONF_TEXT;
    uint32_t count = 0;
    struct rb_perm_entry *entries =
        rb_load_take(load, sizeof(*entries) * (one ? 1 : value->count + 1));
    if (entries == NULL) {
        return;
    }
    if (one) {
        count += read_entry(load, entry, value->text, queues, &entries[0]);
    }
    for (const struct rb_conf_item *i = one ? NULL : value->array.first; i != NULL; i = i->next) {
        struct rb_conf_entry item = rb_load_item(entry, i);
        if (i->value->kind != RB_CONF_TEXT) {
            rb_load_error(load, &item, "Subject in permissions array cannot be cast to string");
        } else {
            count += read_entry(load, &item, i->value->text, queues, &entries[count]);
        }
    }
    /* to nats-server an empty list is none: `allow: []` allows everything */
    *ret_list = (struct rb_perm_list){ .entries = entries, .count = count, .set = count > 0 };
}

/** A list of what is allowed, or a map with `allow` and `deny`. */
static void read_lists(struct rb_load *load, const struct rb_conf_entry *entry, bool queues,
                       struct rb_perm_list *ret_allow, struct rb_perm_list *ret_deny)
{
    if (entry->value->kind != RB_CONF_MAP) {
        read_list(load, entry, queues, ret_allow);
        return;
    }
    for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
        if (rb_slice_equal_fold(e->key, RB_S("allow"))) {
            read_list(load, e, queues, ret_allow);
        } else if (rb_slice_equal_fold(e->key, RB_S("deny"))) {
            read_list(load, e, queues, ret_deny);
        } else if (!e->is_variable) {
            rb_load_error(load, e,
                          "Unknown field name \"%.*s\" parsing subject permissions, only 'allow' "
                          "or 'deny' are permitted",
                          RB_KEY(e));
        }
    }
}

/** What is in the table, and an error of its own for what is not. */
static void read_fields(struct rb_load *load, const struct rb_conf_value *map,
                        const struct rb_option *options, void *base)
{
    for (const struct rb_conf_entry *e = map->map.first; e != NULL; e = e->next) {
        if (!rb_load_option(load, e, options, base) && !e->is_variable) {
            rb_load_error(load, e, "Unknown field \"%.*s\" parsing permissions", RB_KEY(e));
        }
    }
}

static void read_publish(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_permissions *permissions = base;
    read_lists(load, entry, false, &permissions->publish_allow, &permissions->publish_deny);
}

static void read_subscribe(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_permissions *permissions = base;
    read_lists(load, entry, true, &permissions->subscribe_allow, &permissions->subscribe_deny);
}

static void read_responses_max(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_permissions *permissions = base;
    int64_t count;
    if (rb_load_int(load, entry, &count)) {
        permissions->responses_max = count < 0 ? -1 : count == 0 ? RESPONSES_MAX_DEFAULT : count;
    }
}

static void read_responses_ttl(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_permissions *permissions = base;
    char text[RB_CONFIG_TEXT_MAX], problem[256];
    int64_t ns;
    if (entry->value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry, "error parsing expires, not a duration string");
    } else if (!rb_load_text(load, entry, text, sizeof(text))) {
        return;
    } else if (!rb_config_parse_duration(text, &ns, problem, sizeof(problem))) {
        rb_load_error(load, entry, "error parsing expires: %s", problem);
    } else {
        permissions->responses_ttl_ns = ns < 0 ? -1 : ns == 0 ? RESPONSES_TTL_DEFAULT_NS : ns;
    }
}

static void read_responses(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    static const struct rb_option options[] = {
        { "max max_msgs max_messages max_responses", RB_OPTION_CALL, .set = read_responses_max },
        { "expires expiration ttl", RB_OPTION_CALL, .set = read_responses_ttl },
        { NULL },
    };
    struct rb_permissions *permissions = base;
    const struct rb_conf_value *value = entry->value;
    if (value->kind == RB_CONF_BOOL) {
        permissions->responses = value->boolean;
    } else if (value->kind == RB_CONF_MAP) {
        permissions->responses = true;
        read_fields(load, value, options, base);
    } else {
        rb_load_error(load, entry,
                      "error parsing response permissions, expected a boolean or a map");
    }
}

const struct rb_permissions *rb_load_permissions(struct rb_load *load,
                                                 const struct rb_conf_entry *entry)
{
    static const struct rb_option options[] = {
        { "publish pub import", RB_OPTION_CALL, .set = read_publish },
        { "subscribe sub export", RB_OPTION_CALL, .set = read_subscribe },
        { "allow_responses publish_allow_responses", RB_OPTION_CALL, .set = read_responses },
        { NULL },
    };
    char shown[RB_SHOWN_MAX];
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "Expected permissions to be a map/struct, got %s",
                      rb_load_show(entry->value, shown));
        return NULL;
    }
    struct rb_permissions *permissions = rb_load_take(load, sizeof(*permissions));
    if (permissions == NULL) {
        return NULL;
    }
    permissions->responses_max = RESPONSES_MAX_DEFAULT;
    permissions->responses_ttl_ns = RESPONSES_TTL_DEFAULT_NS;
    read_fields(load, entry->value, options, permissions);
    if (permissions->responses) {
        permissions->publish_allow.set = true; /* nothing but responses, unless a list was given */
    }
    return permissions;
}

/* ------------------------------------------------------------------ users */

static void read_types(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } types[] = {
        { "STANDARD", RB_TYPE_STANDARD },
        { "WEBSOCKET", RB_TYPE_WEBSOCKET },
        { "LEAFNODE", RB_TYPE_LEAFNODE },
        { "LEAFNODE_WS", RB_TYPE_LEAFNODE_WS },
        { "MQTT", RB_TYPE_MQTT },
        { "MQTT_WS", RB_TYPE_MQTT_WS },
        { "IN_PROCESS", RB_TYPE_IN_PROCESS },
    };
    struct rb_policy_user *user = base;
    const char **names;
    uint32_t count, bits = 0;
    if (!rb_load_strings(load, entry, &names, &count)) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bit = 0;
        for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
            bool same = rb_slice_equal_fold(rb_slice_text(names[i]), rb_slice_text(types[t].name));
            bit = same ? types[t].bit : bit;
        }
        if (bit == 0) {
            char upper[64];
            snprintf(upper, sizeof(upper), "%s", names[i]);
            for (char *at = upper; *at != 0; at++) {
                *at = *at >= 'a' && *at <= 'z' ? (char)(*at - 32) : *at;
            }
            rb_load_error(load, entry, "invalid connection types [\"%s\"]", upper);
            return;
        }
        bits |= bit;
    }
    user->types = bits == 0 ? RB_TYPE_ALL : bits;
}

static void read_user_permissions(struct rb_load *load, const struct rb_conf_entry *entry,
                                  void *base)
{
    struct rb_policy_user *user = base;
    user->permissions = rb_load_permissions(load, entry);
}

static void read_nkey(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_policy_user *user = base;
    struct rb_slice key;
    if (!rb_load_slice(load, entry, &key)) {
        return;
    }
    if (!rb_nkey_is_public(key, RB_NKEY_USER)) {
        rb_load_error(load, entry, "Not a valid public nkey for a user");
        return;
    }
    user->nkey = key;
}

static bool grow_users(struct rb_load *load)
{
    if (load->user_count < load->user_cap) {
        return true;
    }
    uint32_t cap = load->user_cap == 0 ? 16 : load->user_cap * 2;
    struct rb_load_user *users = rb_load_take(load, cap * sizeof(*users));
    if (users == NULL) {
        return false;
    }
    if (load->user_count > 0) {
        memcpy(users, load->users, load->user_count * sizeof(*users));
    }
    load->users = users;
    load->user_cap = cap;
    return true;
}

static void read_user(struct rb_load *load, const struct rb_conf_entry *told_at,
                      const struct rb_conf_entry *entry, uint32_t account)
{
    static const struct rb_option options[] = {
        { "user username", RB_OPTION_SLICE, offsetof(struct rb_policy_user, name) },
        { "pass password", RB_OPTION_SLICE, offsetof(struct rb_policy_user, pass) },
        { "nkey", RB_OPTION_CALL, .set = read_nkey },
        { "permissions permission authorization", RB_OPTION_CALL, .set = read_user_permissions },
        { "allowed_connection_types connection_types clients", RB_OPTION_CALL, .set = read_types },
        { "proxy_required", RB_OPTION_BOOL, offsetof(struct rb_policy_user, proxy_required) },
        { NULL },
    };
    char shown[RB_SHOWN_MAX];
    struct rb_policy_user user = { .account = account, .types = RB_TYPE_ALL };
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "Expected user entry to be a map/struct, got %s",
                      rb_load_show(entry->value, shown));
        return;
    }
    uint32_t errors = load->errors.count;
    rb_load_options(load, entry->value, options, &user);
    const struct rb_conf_entry *last = entry->value->map.last;
    const struct rb_conf_entry *place = last == NULL ? entry : last;
    if (load->errors.count > errors) {
        return;
    }
    if (user.nkey.len > 0 && (user.name.len > 0 || user.pass.len > 0)) {
        rb_load_error(load, place, "Nkey users do not take usernames or passwords");
    } else if (user.nkey.len == 0 && user.name.len == 0) {
        rb_load_error(load, place, "User entry requires a user");
    } else if (grow_users(load)) {
        load->users[load->user_count++] = (struct rb_load_user){ .user = user, .from = told_at };
    }
}

void rb_load_users(struct rb_load *load, const struct rb_conf_entry *entry,
                   const struct rb_conf_entry *told_at, uint32_t account)
{
    char shown[RB_SHOWN_MAX];
    if (entry->value->kind != RB_CONF_ARRAY) {
        rb_load_error(load, entry, "Expected users field to be an array, got %s",
                      rb_load_show(entry->value, shown));
        return;
    }
    for (const struct rb_conf_item *i = entry->value->array.first; i != NULL; i = i->next) {
        struct rb_conf_entry item = rb_load_item(entry, i);
        read_user(load, told_at, &item, account);
    }
}
