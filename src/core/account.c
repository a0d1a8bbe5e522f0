/* account.c - accounts of one shard: lists, imports, shadows.
 *
 * 1. An account exists on every shard from the moment its policy is applied until the shard ends; a reload that takes it
 *    out of the configuration leaves an account without connections.
 * 2. A service import is a special subscription in the importer's sublist under the queue name LOCAL_QUEUE, which no
 *    client can write. All members of that group take a message, on the publishing shard only, and no shard is told.
 * 3. Shadows of a subscription are found by its address; they go before it does. An import's tables live in the
 *    account's arena, together with all that they point to but the policy.
 * 4. A reload leaves imports and mappings that did not change as they are, and only turns their pointers to the new policy. What
 *    did change is made before the old is dropped, in one turn: other shards see at most a change of weight, so nobody's messages
 *    are lost.
 */
#include "core/account.h"

#include "core/conn.h"
#include "core/deliver.h"
#include "core/mapping.h"
#include "core/service.h"
#include "proto/subject.h"
#include "proto/transform.h"
#include "ringbus/check.h"

#define ARENA_BYTES 4096
#define SUBJECT_MAX 4096

/* Table of accounts */

static struct rb_account_shared *shared_of(struct rb_core *core, uint32_t id)
{
    if (id >= RB_ACCOUNTS_MAX) {
        return NULL;
    }
    struct rb_account_shared *block = atomic_load_explicit(
        &core->account_table->blocks[id / RB_ACCOUNT_BLOCK], memory_order_acquire);
    return block == NULL ? NULL : &block[id % RB_ACCOUNT_BLOCK];
}

static bool shadow_equal(const void *item, struct rb_slice key)
{
    const struct rb_shadow *shadow = item;
    return memcmp(&shadow->of, key.ptr, sizeof(shadow->of)) == 0;
}

static uint64_t shadow_hash(const void *item)
{
    const struct rb_shadow *shadow = item;
    return rb_slice_hash(rb_slice_of(&shadow->of, sizeof(shadow->of)));
}

static bool grow_table(struct rb_core *core, uint32_t id)
{
    uint32_t cap = core->account_cap == 0 ? 16 : core->account_cap;
    while (cap <= id) {
        cap *= 2;
    }
    struct rb_account **table =
        rb_realloc(core->budget, core->accounts, core->account_cap * sizeof(struct rb_account *),
                   cap * sizeof(struct rb_account *));
    if (table == NULL) {
        return false;
    }
    for (uint32_t i = core->account_cap; i < cap; i++) {
        table[i] = NULL;
    }
    core->accounts = table;
    core->account_cap = cap;
    return true;
}

struct rb_account *rb_account_get(struct rb_core *core, uint32_t id)
{
    if (id < core->account_cap && core->accounts[id] != NULL) {
        return core->accounts[id];
    }
    struct rb_account_shared *shared = shared_of(core, id);
    if (shared == NULL || (id >= core->account_cap && !grow_table(core, id))) {
        return NULL;
    }
    struct rb_account *account = rb_alloc(core->budget, sizeof(*account));
    if (account == NULL) {
        return NULL;
    }
    account->core = core;
    account->id = id;
    account->shared = shared;
    rb_list_init(&account->conns);
    rb_map_init(&account->shadows, core->budget, 0, shadow_equal, shadow_hash);
    core->accounts[id] = account;
    account->next_part = atomic_load_explicit(&shared->parts, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&shared->parts, &account->next_part, account,
                                                  memory_order_release, memory_order_relaxed)) {
    }
    return account;
}

void rb_account_sum(const struct rb_account_shared *shared, struct rb_account_sum *ret_sum)
{
    *ret_sum = (struct rb_account_sum){ 0 };
    for (const struct rb_account *part = atomic_load_explicit(&shared->parts, memory_order_acquire);
         part != NULL; part = part->next_part) {
        ret_sum->conns_total += rb_counter_get(&part->conns_total);
        ret_sum->subs += rb_counter_get(&part->sub_count);
        ret_sum->in_msgs += rb_counter_get(&part->in_msgs);
        ret_sum->in_bytes += rb_counter_get(&part->in_bytes);
        ret_sum->out_msgs += rb_counter_get(&part->out_msgs);
        ret_sum->out_bytes += rb_counter_get(&part->out_bytes);
        ret_sum->slow_consumers += rb_counter_get(&part->slow_consumers);
    }
}

struct rb_account *rb_account_find(struct rb_core *core, struct rb_slice name)
{
    int32_t index = rb_policy_account_by_name(core->settings->policy, name);
    return index < 0 ? NULL : rb_account_of_policy(core, (uint32_t)index);
}

struct rb_account *rb_account_of_policy(struct rb_core *core, uint32_t index)
{
    const struct rb_policy *policy = core->settings->policy;
    rb_assert(index < policy->account_count);
    return rb_account_get(core, policy->accounts[index].id);
}

struct rb_account *rb_account_system(struct rb_core *core)
{
    int32_t index = core->settings->policy->system_account;
    return index < 0 ? NULL : rb_account_of_policy(core, (uint32_t)index);
}

bool rb_account_is_system(const struct rb_account *account)
{
    const struct rb_policy *policy = account->core->settings->policy;
    return policy->system_account >= 0 && account->policy != NULL &&
           account->policy == &policy->accounts[policy->system_account];
}

/* Subscriptions */

static enum rb_err need_sublist(struct rb_account *account)
{
    if (account->sublist != NULL) {
        return RB_OK;
    }
    struct rb_core *core = account->core;
    return rb_sublist_create(core->budget, core->options.shard_count, &account->sublist);
}

static void watch(struct rb_account *account, struct rb_slice subject)
{
    const struct rb_core_hooks *hooks = &account->core->hooks;
    if (account->watch_interest && hooks->interest != NULL) {
        hooks->interest(hooks->ctx, account, subject);
    }
}

static void tell(struct rb_account *account, struct rb_slice subject, struct rb_slice queue,
                 const struct rb_interest_change *change)
{
    struct rb_core *core = account->core;
    if (change->tell) {
        core->peers.interest(core->peers.ctx, account->id, subject, queue, change->weight);
        watch(account, subject);
    }
}

static enum rb_err add_ref(struct rb_account *account, struct rb_slice subject,
                           struct rb_slice queue, struct rb_sub_ref *ref)
{
    struct rb_interest_change change;
    enum rb_err err = need_sublist(account);
    if (err == RB_OK) {
        err = rb_sublist_add(account->sublist, subject, queue, ref, &change);
    }
    if (err == RB_OK && !rb_slice_equal(queue, RB_LOCAL_QUEUE)) {
        tell(account, subject, queue, &change);
    }
    return err;
}

static void remove_ref(struct rb_account *account, struct rb_sub_ref *ref)
{
    struct rb_interest_change change;
    struct rb_slice subject = rb_sublist_subject(ref);
    struct rb_slice queue = rb_sublist_queue(ref);
    rb_sublist_remove(account->sublist, ref, &change);
    if (!rb_slice_equal(queue, RB_LOCAL_QUEUE)) {
        tell(account, subject, queue, &change);
    }
}

/* Shadows */

/* The pattern that matches what both match; they overlap. Returns its length. */
static size_t intersect(struct rb_slice a, struct rb_slice b, uint8_t *out, size_t cap)
{
    struct rb_tokens left = rb_tokens_over(a), right = rb_tokens_over(b);
    struct rb_slice l, r;
    struct rb_writer writer = rb_writer_over(out, cap);
    bool l_full = false, r_full = false;
    for (;;) {
        bool l_more = l_full || rb_tokens_next(&left, &l);
        bool r_more = r_full || rb_tokens_next(&right, &r);
        if (!l_more || !r_more) {
            break;
        }
        l_full = l_full || rb_slice_equal(l, RB_S(">"));
        r_full = r_full || rb_slice_equal(r, RB_S(">"));
        struct rb_slice token = l_full || (!r_full && rb_slice_equal(l, RB_S("*"))) ? r : l;
        if (rb_writer_len(&writer) > 0) {
            rb_write_u8(&writer, '.');
        }
        rb_write_slice(&writer, token);
        if (l_full && r_full) {
            break;
        }
    }
    return writer.ok ? rb_writer_len(&writer) : 0;
}

/* It has no sid of its own: what it takes is delivered to the subscription it stands for. */
static struct rb_shadow *make_shadow(struct rb_core *core, struct rb_sub *sub)
{
    struct rb_shadow *shadow = rb_alloc(core->budget, sizeof(*shadow));
    if (shadow != NULL) {
        shadow->sub = (struct rb_sub){ .conn = sub->conn, .flags = RB_SUB_SHADOW };
        shadow->of = sub;
    }
    return shadow;
}

static void free_shadow(struct rb_core *core, struct rb_shadow *shadow)
{
    rb_free(core->budget, shadow, sizeof(*shadow));
}

static struct rb_shadow *first_shadow(struct rb_account *account, struct rb_sub *sub)
{
    struct rb_slice key = rb_slice_of(&sub, sizeof(sub));
    return rb_map_find(&account->shadows, rb_slice_hash(key), key);
}

static enum rb_err link_shadow(struct rb_account *account, struct rb_shadow *shadow)
{
    struct rb_shadow *first = first_shadow(account, shadow->of);
    if (first != NULL) {
        shadow->next = first->next;
        first->next = shadow;
        return RB_OK;
    }
    return rb_map_insert(&account->shadows, shadow_hash(shadow), shadow);
}

static void drop_shadows(struct rb_account *account, struct rb_sub *sub)
{
    if ((sub->flags & RB_SUB_SHADOWED) == 0) {
        return;
    }
    sub->flags &= (uint8_t)~RB_SUB_SHADOWED;
    struct rb_shadow *shadow = first_shadow(account, sub);
    bool found = rb_map_remove(&account->shadows, shadow_hash(shadow), shadow);
    rb_assert(found);
    while (shadow != NULL) {
        struct rb_shadow *next = shadow->next;
        remove_ref(shadow->in, &shadow->sub.ref);
        free_shadow(account->core, shadow);
        shadow = next;
    }
}

static enum rb_err add_shadow(struct rb_account *account, struct rb_slice subject,
                              struct rb_slice queue, struct rb_sub *sub,
                              const struct rb_stream_import *import)
{
    uint8_t both[SUBJECT_MAX], theirs[SUBJECT_MAX];
    size_t len = intersect(subject, import->local, both, sizeof(both));
    struct rb_slice pattern = rb_slice_of(both, len);
    if (len > 0 && import->back != NULL) {
        len = rb_transform_apply_pattern(import->back, pattern, theirs, sizeof(theirs));
        pattern = rb_slice_of(theirs, len);
    }
    struct rb_account *from = rb_account_get(account->core, import->from);
    if (len == 0 || from == NULL) {
        return RB_OK; /* too long to be published: nothing can come */
    }
    struct rb_shadow *shadow = make_shadow(account->core, sub);
    if (shadow == NULL) {
        return RB_ERR_MEMORY;
    }
    shadow->in = from;
    shadow->import = import;
    enum rb_err err = add_ref(from, pattern, queue, &shadow->sub.ref);
    if (err != RB_OK) {
        free_shadow(account->core, shadow);
        return err;
    }
    err = link_shadow(account, shadow);
    if (err != RB_OK) {
        remove_ref(from, &shadow->sub.ref);
        free_shadow(account->core, shadow);
        return err;
    }
    sub->flags |= RB_SUB_SHADOWED;
    return RB_OK;
}

static enum rb_err make_shadows(struct rb_account *account, struct rb_slice subject,
                                struct rb_slice queue, struct rb_sub *sub)
{
    for (uint32_t i = 0; i < account->stream_count; i++) {
        const struct rb_stream_import *import = &account->streams[i];
        if (rb_subject_overlap(subject, import->local)) {
            enum rb_err err = add_shadow(account, subject, queue, sub, import);
            if (err != RB_OK) {
                drop_shadows(account, sub);
                return err;
            }
        }
    }
    return RB_OK;
}

size_t rb_shadow_subject(const struct rb_shadow *shadow, struct rb_slice subject, uint8_t *out,
                         size_t cap)
{
    if (shadow->import->into != NULL) {
        return rb_transform_apply(shadow->import->into, subject, 0, out, cap);
    }
    if (subject.len > cap) {
        return 0;
    }
    memcpy(out, subject.ptr, subject.len);
    return subject.len;
}

enum rb_err rb_account_subscribe(struct rb_account *account, struct rb_slice subject,
                                 struct rb_slice queue, struct rb_sub *sub)
{
    enum rb_err err = add_ref(account, subject, queue, &sub->ref);
    if (err != RB_OK) {
        return err;
    }
    err = make_shadows(account, subject, queue, sub);
    if (err != RB_OK) {
        remove_ref(account, &sub->ref);
        return err;
    }
    rb_counter_add(&account->sub_count, 1);
    return RB_OK;
}

void rb_account_unsubscribe(struct rb_account *account, struct rb_sub *sub)
{
    drop_shadows(account, sub);
    remove_ref(account, &sub->ref);
    rb_counter_sub(&account->sub_count, 1);
}

/* What every shard has counts once per node. */
static bool counts(const struct rb_account *account, const struct rb_special *special)
{
    return !special->local || account->core->options.shard_index == 0;
}

enum rb_err rb_account_listen(struct rb_account *account, struct rb_slice subject,
                              struct rb_special *special)
{
    special->sub = (struct rb_sub){ .flags = RB_SUB_SPECIAL };
    enum rb_err err =
        add_ref(account, subject, special->local ? RB_LOCAL_QUEUE : RB_S(""), &special->sub.ref);
    if (err == RB_OK && counts(account, special)) {
        rb_counter_add(&account->sub_count, 1);
    }
    return err;
}

void rb_account_unlisten(struct rb_account *account, struct rb_special *special)
{
    remove_ref(account, &special->sub.ref);
    if (counts(account, special)) {
        rb_counter_sub(&account->sub_count, 1);
    }
}

void rb_account_remote(struct rb_core *core, uint32_t id, struct rb_slice subject,
                       struct rb_slice queue, uint32_t shard, uint32_t weight)
{
    struct rb_account *account = rb_account_get(core, id);
    if (account != NULL && need_sublist(account) == RB_OK &&
        rb_sublist_remote(account->sublist, subject, queue, shard, weight) == RB_OK) {
        watch(account, subject);
        return;
    }
    rb_counter_add(&core->stats.mail_dropped, 1);
    rb_log_err(core->log, "memory budget spent: interest of shard %u in \"%.*s\" is not known here",
               shard, RB_S_ARG(subject));
}

/* Publishing by the server */

bool rb_account_publish(struct rb_account *account, struct rb_slice subject, struct rb_slice reply,
                        uint32_t header_len, struct rb_slice payload)
{
    return rb_account_deliver(account, subject, RB_S(""), reply, header_len, payload);
}

bool rb_account_deliver(struct rb_account *account, struct rb_slice to, struct rb_slice subject,
                        struct rb_slice reply, uint32_t header_len, struct rb_slice payload)
{
    struct rb_msg msg = { .subject = to,
                          .shown = subject,
                          .reply = reply,
                          .payload = payload,
                          .header_len = header_len,
                          .published_ns = account->core->now_ns };
    return rb_deliver_publish(account, &msg);
}

bool rb_account_wanted(struct rb_account *account, struct rb_slice subject)
{
    if (account->sublist == NULL) {
        return false;
    }
    const struct rb_match *match = rb_sublist_match(account->sublist, subject);
    return match->plain_count + match->group_count > 0 || match->remote_plain != 0;
}

/* Imports and mappings from a policy */

/* What an account imports. */
struct exchange {
    struct rb_arena *arena;
    struct rb_stream_import *streams;
    struct rb_service_import *services;
    uint32_t stream_count, service_count;
};

static struct exchange take_exchange(struct rb_account *account)
{
    struct exchange taken = { .arena = account->arena,
                              .streams = account->streams,
                              .services = account->services,
                              .stream_count = account->stream_count,
                              .service_count = account->service_count };
    account->arena = NULL;
    account->streams = NULL;
    account->services = NULL;
    account->stream_count = account->service_count = 0;
    return taken;
}

static void drop_exchange(struct rb_account *account, const struct exchange *exchange)
{
    for (uint32_t i = 0; i < exchange->service_count; i++) {
        rb_account_unlisten(account, &exchange->services[i].special);
        rb_transform_destroy(exchange->services[i].into);
    }
    for (uint32_t i = 0; i < exchange->stream_count; i++) {
        rb_transform_destroy(exchange->streams[i].into);
        rb_transform_destroy(exchange->streams[i].back);
    }
    if (exchange->arena != NULL) {
        rb_arena_destroy(exchange->arena);
    }
}

typedef void (*sub_visit)(struct rb_account *account, struct rb_sub *sub);

static void each_sub(struct rb_account *account, sub_visit visit)
{
    for (struct rb_list *link = account->conns.next; link != &account->conns; link = link->next) {
        struct rb_conn *conn = RB_CONTAINER(link, struct rb_conn, account_link);
        uint32_t at = 0;
        for (struct rb_sub *sub; (sub = rb_map_next(&conn->subs, &at)) != NULL;) {
            visit(account, sub);
        }
    }
}

static void shadow_again(struct rb_account *account, struct rb_sub *sub)
{
    if (make_shadows(account, rb_sublist_subject(&sub->ref), rb_sublist_queue(&sub->ref), sub) !=
        RB_OK) {
        rb_log_err(account->core->log, "memory budget spent: a subscription lost its imports");
        rb_conn_want_end(sub->conn, RB_CLOSE_MEMORY, true);
    }
}

static struct rb_slice join(struct rb_arena *arena, struct rb_slice prefix, struct rb_slice subject)
{
    uint8_t *out = rb_arena_take(arena, prefix.len + 1 + subject.len);
    if (out == NULL) {
        return (struct rb_slice){ NULL, 0 };
    }
    struct rb_writer writer = rb_writer_over(out, prefix.len + 1 + subject.len);
    rb_write_slice(&writer, prefix);
    if (prefix.len > 0 && prefix.ptr[prefix.len - 1] != '.') {
        rb_write_u8(&writer, '.');
    }
    rb_write_slice(&writer, subject);
    return rb_slice_of(out, rb_writer_len(&writer));
}

/* "a.$1.b" and "a.{{wildcard(1)}}.b" as the pattern that their results match: "a.*.b". */
static struct rb_slice pattern_of(struct rb_arena *arena, struct rb_slice destination)
{
    uint8_t *out = rb_arena_take(arena, destination.len + 1);
    if (out == NULL) {
        return (struct rb_slice){ NULL, 0 };
    }
    struct rb_writer writer = rb_writer_over(out, destination.len + 1);
    struct rb_tokens tokens = rb_tokens_over(destination);
    for (struct rb_slice token; rb_tokens_next(&tokens, &token);) {
        if (rb_writer_len(&writer) > 0) {
            rb_write_u8(&writer, '.');
        }
        bool function =
            rb_slice_starts(token, RB_S("{{")) ||
            (token.len > 1 && token.ptr[0] == '$' && token.ptr[1] >= '0' && token.ptr[1] <= '9');
        rb_write_slice(&writer, function ? RB_S("*") : token);
    }
    return rb_slice_of(out, rb_writer_len(&writer));
}

static struct rb_slice numbered(struct rb_arena *arena, struct rb_slice pattern)
{
    size_t cap = pattern.len + 4 * (size_t)rb_subject_token_count(pattern) + 1;
    uint8_t *out = rb_arena_take(arena, cap);
    return out == NULL ? (struct rb_slice){ NULL, 0 }
                       : rb_slice_of(out, rb_transform_number(pattern, out, cap));
}

static enum rb_err add_stream(struct rb_account *account, const struct rb_import *import,
                              uint32_t from)
{
    char error[RB_TRANSFORM_ERROR_MAX];
    struct rb_stream_import *stream = &account->streams[account->stream_count];
    *stream = (struct rb_stream_import){ .from = from, .allow_trace = import->allow_trace };
    stream->subject = join(account->arena, (struct rb_slice){ NULL, 0 }, import->subject);
    if (stream->subject.ptr == NULL) {
        return RB_ERR_MEMORY;
    }
    if (import->to.len == 0) {
        struct rb_slice prefix = import->prefix;
        stream->local = join(account->arena, prefix, import->subject);
        if (prefix.len == 0 && stream->local.ptr != NULL) {
            account->stream_count++;
            return RB_OK;
        }
    } else {
        stream->local = pattern_of(account->arena, import->to);
    }
    struct rb_slice destination =
        numbered(account->arena, import->to.len == 0 ? stream->local : import->to);
    enum rb_err err = stream->local.ptr == NULL || destination.ptr == NULL
                          ? RB_ERR_MEMORY
                          : rb_transform_create(RB_TRANSFORM_IMPORT, import->subject, destination,
                                                &stream->into, error);
    if (err == RB_OK) {
        err = rb_transform_reverse(stream->into, &stream->back);
    }
    if (err != RB_OK) {
        rb_transform_destroy(stream->into);
        return err;
    }
    account->stream_count++;
    return RB_OK;
}

/* From the importer's subject to the exporter's. Wildcards are numbered on the importer's side, so the way is made
 * backwards and reversed. */
static enum rb_err make_way(struct rb_account *account, const struct rb_import *import,
                            struct rb_slice local, struct rb_transform **ret_into)
{
    char error[RB_TRANSFORM_ERROR_MAX];
    if (!rb_subject_has_wildcard(import->subject)) {
        return rb_transform_create(RB_TRANSFORM_IMPORT, local, import->subject, ret_into, error);
    }
    struct rb_slice destination = numbered(account->arena, import->to);
    struct rb_transform *out;
    if (destination.ptr == NULL) {
        return RB_ERR_MEMORY;
    }
    enum rb_err err =
        rb_transform_create(RB_TRANSFORM_IMPORT, import->subject, destination, &out, error);
    if (err == RB_OK) {
        err = rb_transform_reverse(out, ret_into);
        rb_transform_destroy(out);
    }
    return err;
}

static enum rb_err add_service(struct rb_account *account, const struct rb_import *import,
                               const struct rb_policy_account *exporter)
{
    struct rb_service_import *service = &account->services[account->service_count];
    *service = (struct rb_service_import){ .to = exporter->id, .policy = import };
    struct rb_slice local = import->subject;
    enum rb_err err = RB_OK;
    if (import->to.len > 0 && !rb_slice_equal(import->to, import->subject)) {
        local = pattern_of(account->arena, import->to);
        err = local.ptr == NULL ? RB_ERR_MEMORY : make_way(account, import, local, &service->into);
    }
    if (err != RB_OK) {
        return err;
    }
    service->exported = rb_service_export(exporter, import->subject);
    rb_service_init(service);
    err = rb_account_listen(account, local, &service->special);
    if (err != RB_OK) {
        rb_transform_destroy(service->into);
        return err;
    }
    account->service_count++;
    return RB_OK;
}

static enum rb_err add_imports(struct rb_account *account, const struct rb_policy *policy)
{
    const struct rb_policy_account *own = account->policy;
    if (own->import_count == 0) {
        return RB_OK;
    }
    enum rb_err err = rb_arena_create(ARENA_BYTES, &account->arena);
    if (err != RB_OK) {
        return err;
    }
    account->streams =
        rb_arena_take(account->arena, own->import_count * sizeof(struct rb_stream_import));
    account->services =
        rb_arena_take(account->arena, own->import_count * sizeof(struct rb_service_import));
    if (account->streams == NULL || account->services == NULL) {
        return RB_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < own->import_count && err == RB_OK; i++) {
        const struct rb_import *import = &own->imports[i];
        const struct rb_policy_account *exporter = &policy->accounts[import->account];
        err = import->service ? add_service(account, import, exporter)
                              : add_stream(account, import, exporter->id);
    }
    return err;
}

/* Invariant 4: the same texts and the same exporters, in the same order. */
static bool same_imports(const struct rb_policy *before, const struct rb_policy_account *was,
                         const struct rb_policy *policy, const struct rb_policy_account *own)
{
    bool same = was->import_count == own->import_count;
    for (uint32_t i = 0; i < own->import_count && same; i++) {
        const struct rb_import *a = &was->imports[i], *b = &own->imports[i];
        same = a->service == b->service &&
               before->accounts[a->account].id == policy->accounts[b->account].id &&
               rb_slice_equal(a->subject, b->subject) && rb_slice_equal(a->to, b->to) &&
               rb_slice_equal(a->prefix, b->prefix);
    }
    return same;
}

static bool same_mapping(const struct rb_mapping *a, const struct rb_mapping *b)
{
    bool same = a->target_count == b->target_count && rb_slice_equal(a->source, b->source);
    for (uint32_t i = 0; i < b->target_count && same; i++) {
        same = a->targets[i].weight == b->targets[i].weight &&
               rb_slice_equal(a->targets[i].subject, b->targets[i].subject) &&
               rb_slice_equal(a->targets[i].cluster, b->targets[i].cluster);
    }
    return same;
}

static enum rb_err apply_mappings(struct rb_account *account, const struct rb_policy_account *was,
                                  const struct rb_policy_account *own)
{
    char error[RB_MAPPINGS_ERROR_MAX];
    struct rb_mappings *fresh = NULL;
    bool same = was != NULL && was->mapping_count == own->mapping_count;
    for (uint32_t i = 0; i < own->mapping_count && same; i++) {
        same = same_mapping(&was->mappings[i], &own->mappings[i]);
    }
    if (same && (own->mapping_count == 0 || account->mappings != NULL)) {
        return RB_OK;
    }
    enum rb_err err = RB_OK;
    if (own->mapping_count > 0) {
        err = rb_mappings_create(own->mappings, own->mapping_count,
                                 account->core->options.info.cluster, &fresh, error);
    }
    rb_mappings_destroy(account->mappings);
    account->mappings = fresh;
    return err;
}

/* The same imports in another policy. */
static void turn_imports(struct rb_account *account, const struct rb_policy *policy)
{
    uint32_t service_at = 0, stream_at = 0;
    for (uint32_t i = 0; i < account->policy->import_count; i++) {
        const struct rb_import *import = &account->policy->imports[i];
        if (!import->service) {
            account->streams[stream_at++].allow_trace = import->allow_trace;
        } else {
            struct rb_service_import *service = &account->services[service_at++];
            service->policy = import;
            service->exported =
                rb_service_export(&policy->accounts[import->account], import->subject);
        }
    }
}

static void forget_shadows(struct rb_account *account, struct rb_sub *sub)
{
    sub->flags &= (uint8_t)~RB_SUB_SHADOWED;
}

static void drop_shadow_map(struct rb_account *account, struct rb_map *map)
{
    uint32_t at = 0;
    for (struct rb_shadow *shadow; (shadow = rb_map_next(map, &at)) != NULL;) {
        while (shadow != NULL) {
            struct rb_shadow *next = shadow->next;
            remove_ref(shadow->in, &shadow->sub.ref);
            free_shadow(account->core, shadow);
            shadow = next;
        }
    }
    rb_map_deinit(map);
}

/* Makes the imports of account->policy (NULL: none) in place of those that are there. */
static enum rb_err change_imports(struct rb_account *account, const struct rb_policy *policy)
{
    struct exchange old = take_exchange(account);
    struct rb_map old_shadows = account->shadows;
    rb_map_init(&account->shadows, account->core->budget, 0, shadow_equal, shadow_hash);
    if (old.stream_count > 0) {
        each_sub(account, forget_shadows);
    }
    enum rb_err err = account->policy == NULL ? RB_OK : add_imports(account, policy);
    if (account->stream_count > 0) {
        each_sub(account, shadow_again);
    }
    drop_shadow_map(account, &old_shadows);
    drop_exchange(account, &old);
    return err;
}

static enum rb_err apply_imports(struct rb_account *account, const struct rb_policy *before,
                                 const struct rb_policy_account *was,
                                 const struct rb_policy *policy)
{
    const struct rb_policy_account *own = account->policy;
    if (was != NULL && account->stream_count + account->service_count == was->import_count &&
        same_imports(before, was, policy, own)) {
        turn_imports(account, policy);
        return RB_OK;
    }
    return change_imports(account, policy);
}

/* The configuration does not name it any more. */
static void retire_account(struct rb_account *account)
{
    account->policy = NULL;
    (void)change_imports(account, NULL); /* making none cannot fail */
    rb_mappings_destroy(account->mappings);
    account->mappings = NULL;
}

static enum rb_err set_name(struct rb_account *account, struct rb_slice name)
{
    if (account->name.len > 0) {
        return RB_OK; /* an id never changes its name */
    }
    uint8_t *copy = rb_alloc(account->core->budget, name.len);
    if (copy == NULL) {
        return RB_ERR_MEMORY;
    }
    memcpy(copy, name.ptr, name.len);
    account->name = rb_slice_of(copy, name.len);
    return RB_OK;
}

static enum rb_err apply_account(struct rb_account *account, const struct rb_policy *before,
                                 const struct rb_policy *policy,
                                 const struct rb_policy_account *own)
{
    struct rb_core *core = account->core;
    bool fresh = account->name.len == 0;
    const struct rb_policy_account *was = account->policy;
    enum rb_err err = set_name(account, own->name);
    account->policy = own;
    enum rb_err failed = apply_mappings(account, was, own);
    err = err == RB_OK ? failed : err;
    failed = apply_imports(account, before, was, policy);
    err = err == RB_OK ? failed : err;
    if (err == RB_OK && fresh && core->hooks.account_up != NULL) {
        core->hooks.account_up(core->hooks.ctx, account);
    }
    return err;
}

static bool named_by(const struct rb_policy *policy, const struct rb_account *account)
{
    return rb_policy_account_by_name(policy, account->name) >= 0;
}

enum rb_err rb_accounts_apply(struct rb_core *core, const struct rb_policy *before)
{
    const struct rb_policy *policy = core->settings->policy;
    enum rb_err err = RB_OK;
    for (uint32_t i = 0; i < policy->account_count; i++) {
        struct rb_account *account = rb_account_get(core, policy->accounts[i].id);
        enum rb_err failed = account == NULL
                                 ? RB_ERR_MEMORY
                                 : apply_account(account, before, policy, &policy->accounts[i]);
        err = err == RB_OK ? failed : err;
    }
    for (uint32_t i = 0; i < core->account_cap; i++) {
        struct rb_account *account = core->accounts[i];
        if (account != NULL && account->policy != NULL && !named_by(policy, account)) {
            retire_account(account);
        }
    }
    return err;
}

void rb_accounts_deinit(struct rb_core *core)
{
    rb_services_deinit(core);
    for (uint32_t i = 0; i < core->account_cap; i++) {
        struct rb_account *account = core->accounts[i];
        if (account == NULL) {
            continue;
        }
        rb_assert(rb_list_empty(&account->conns));
        atomic_store(&account->shared->parts, NULL); /* all shards have stopped: nobody looks */
        struct exchange left = take_exchange(account);
        drop_exchange(account, &left);
        rb_mappings_destroy(account->mappings);
        if (account->sublist != NULL) {
            rb_sublist_destroy(account->sublist);
        }
        rb_map_deinit(&account->shadows);
        rb_free(core->budget, (void *)(uintptr_t)account->name.ptr, account->name.len);
        rb_free(core->budget, account, sizeof(*account));
    }
    rb_free(core->budget, core->accounts, core->account_cap * sizeof(struct rb_account *));
    core->accounts = NULL;
    core->account_cap = 0;
}
