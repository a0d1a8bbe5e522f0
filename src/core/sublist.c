/* sublist.c - subject -> who wants it: a map of literal subjects, a trie of wildcards, and a cache.
 *
 *   literals: subject ------------> node        node word, by kind:
 *   root -- edges: (level, token) -> level       NONE    nothing
 *     |        star: level  (token '*')          ONE     one plain subscription
 *     |        full: node   (ends in '>')        REMOTE  mask of shards with plain interest
 *     `        end:  node   (ends here)          GROUPS  first queue group
 *   groups: (subject, queue) -----> group        BODY    all of these, in a block of their own
 *
 * 1. A node exists while something hangs on it, a group while it has a member or a remote weight, a
 *    level while it has a node or a child. A failed change takes back what it created.
 * 2. A node uses the smallest kind that holds what it has; only BODY costs a second block. So a
 *    subject with one subscriber takes 12 bytes, the text, and a map slot.
 * 3. ref->node is the node of a plain subscription and, with the lowest bit set, the group of a
 *    queue one; ref->index is its place there. Removal swaps the last one into the gap.
 * 4. Before anything changes, every cache entry that could see it is made invalid: the change of a
 *    literal drops the entry of that subject; the change of a wildcard bumps one counter, chosen by
 *    its leading literal tokens, and an entry is valid while the sum of its three counters is what
 *    it was. The counters only grow, so an equal sum means that none has moved.
 * 5. Hence a match may point into nodes and groups instead of copying: it copies only where several
 *    nodes contribute. Pointers of an invalid entry are never followed.
 * 6. A subject gets into the cache when it is looked up for the second time, so that subjects used
 *    once (reply inboxes) cost no allocation and push nothing out.
 * 7. The node and group that go with the last subscription are freed by the next change, because
 *    their text stays readable until then - even as an argument of that change.
 */
#include "core/sublist.h"

#include <stdlib.h>

#include "base/map.h"
#include "proto/subject.h"
#include "ringbus/bounds.h"
#include "ringbus/check.h"

#define CLASS_STEP 16 /* small blocks come from pools of these sizes: no allocator overhead */
#define CLASS_BYTES_MAX 256
#define CLASSES (CLASS_BYTES_MAX / CLASS_STEP + 1)
#define SLAB_BYTES 4080
#define IDLE_POOL_BYTES 65536 /* what an empty list may keep in its pools */

#define CACHE_SETS 1024 /* of CACHE_WAYS entries each */
#define CACHE_WAYS 4
#define CACHE_SLOTS (CACHE_SETS * CACHE_WAYS)
#define CACHE_BYTES_MAX (16u << 20) /* one entry may be larger, then it is alone */
#define ENTRY_BYTES_MAX (1u << 30)
#define STAMPS 4096
#define SCRATCH_KEEP_BYTES 65536

#define SUBJECT_BYTES_MAX ((1u << 28) - 1)

enum node_kind { NODE_NONE, NODE_ONE, NODE_REMOTE, NODE_GROUPS, NODE_BODY };

/** Subscriptions: none or one inline (cap 0), or an array. */
struct refs {
    union {
        struct rb_sub_ref *one;
        struct rb_sub_ref **many;
    };
    uint32_t count, cap;
};

struct group {
    struct rb_sub_node *node;
    struct group *next, *prev; /* of the same node */
    struct refs refs;
    union {
        struct rb_remote_weight one; /* remote_cap 0 */
        struct rb_remote_weight *many;
    } remotes;
    uint16_t remote_count, remote_cap;
    uint32_t queue_len;
    uint8_t queue[];
};

struct body {
    struct refs plain;
    struct group *groups;
    uint64_t remote_plain;
};

struct rb_sub_node {
    union {
        struct rb_sub_ref *one;
        uint64_t remote_plain;
        struct group *groups;
        struct body *body;
    };
    uint32_t kind : 3, wildcard : 1, subject_len : 28;
    uint8_t subject[];
};

struct level {
    struct level *parent, *star;
    struct rb_sub_node *full, *end;
    uint64_t id;          /* never used again; with a token the key of an edge */
    uint32_t child_count; /* edges, without star */
    uint32_t token_len;
    uint8_t token[];
};

/** Keys of maps whose items are found by more than one text: a slice over this struct. */
struct edge_key {
    uint64_t level_id;
    struct rb_slice token;
};
struct group_key {
    struct rb_slice subject, queue;
};

struct entry {
    struct rb_match match;
    uint64_t epoch; /* of the wildcards when it was last found valid */
    uint64_t stamp; /* sum of its counters */
    uint32_t bytes, subject_len;
    uint16_t first, second; /* which counters */
    uint8_t used;           /* since the clock hand passed */
    uint8_t subject[];      /* then the arrays of the match */
};

struct cache_set {
    uint32_t tag[CACHE_WAYS];
    uint32_t missed[2]; /* tags of subjects looked up once (invariant 6) */
    uint32_t hand, missed_hand;
    struct entry *entry[CACHE_WAYS];
};
_Static_assert(sizeof(struct cache_set) == 64, "a set is a cache line");

struct cache {
    uint64_t epoch;                         /* changes of wildcards */
    uint64_t all;                           /* changes of those with a wildcard as first token */
    uint64_t first[STAMPS], second[STAMPS]; /* by the literal token 1; by tokens 1 and 2 */
    uint64_t bytes, count;
    uint32_t hand; /* next slot to give way when bytes run out */
    struct cache_set *sets;
    void *sets_block;
};

/** A growing block that keeps no content; not counted when the budget refuses it. */
struct scratch {
    struct rb_budget *budget;
    void *ptr;
    size_t bytes;
};

struct visit {
    const struct level *level;
    size_t offset; /* of the token to match next; beyond the subject at its end */
};

struct found_group {
    const struct group *group;
    size_t order; /* equal names stay in the order they were found */
};

struct rb_sublist {
    struct rb_budget *budget;
    uint32_t shard_count;
    struct rb_map literals, edges, groups;
    struct level *root;
    uint64_t last_level_id, level_count;
    struct visit *stack; /* stack_cap is more than the tokens of any wildcard subject here */
    size_t stack_cap;
    struct rb_sub_node *dead_node; /* invariant 7 */
    struct group *dead_group;
    struct scratch found, found_groups, result;
    struct rb_sublist_stats stats;
    struct rb_pool pools[CLASSES];
    struct cache cache;
};

/* ---- memory ---- */

static size_t class_of(size_t bytes)
{
    return (bytes + CLASS_STEP - 1) / CLASS_STEP;
}

static void init_pools(struct rb_sublist *sublist)
{
    for (size_t i = 1; i < CLASSES; i++) {
        size_t bytes = i * CLASS_STEP;
        rb_pool_init(&sublist->pools[i], sublist->budget, bytes, SLAB_BYTES / bytes);
    }
}

static void deinit_pools(struct rb_sublist *sublist)
{
    for (size_t i = 1; i < CLASSES; i++) {
        rb_pool_deinit(&sublist->pools[i]);
    }
}

/** Not zeroed. NULL when the budget is spent. */
static void *take(struct rb_sublist *sublist, size_t bytes)
{
    if (bytes <= CLASS_BYTES_MAX) {
        return rb_pool_acquire(&sublist->pools[class_of(bytes)]);
    }
    return rb_alloc(sublist->budget, bytes);
}

static void give(struct rb_sublist *sublist, void *ptr, size_t bytes)
{
    if (bytes <= CLASS_BYTES_MAX) {
        rb_pool_release(&sublist->pools[class_of(bytes)], ptr);
    } else {
        rb_free(sublist->budget, ptr, bytes);
    }
}

/** Keeps what fits into both sizes; NULL, and the old block as it was, on failure. */
static void *resize(struct rb_sublist *sublist, void *ptr, size_t old_bytes, size_t new_bytes)
{
    if (old_bytes > CLASS_BYTES_MAX && new_bytes > CLASS_BYTES_MAX) {
        return rb_realloc(sublist->budget, ptr, old_bytes, new_bytes);
    }
    void *grown = take(sublist, new_bytes);
    if (grown != NULL) {
        memcpy(grown, ptr, old_bytes < new_bytes ? old_bytes : new_bytes);
        give(sublist, ptr, old_bytes);
    }
    return grown;
}

static void free_scratch(struct scratch *scratch)
{
    rb_free(scratch->budget, scratch->ptr, scratch->bytes);
    scratch->ptr = NULL;
    scratch->bytes = 0;
}

/** Room for `bytes`, the first `keep_bytes` kept. Matching cannot fail, so neither can this. */
static void *reserve(struct rb_sublist *sublist, struct scratch *scratch, size_t bytes,
                     size_t keep_bytes)
{
    if (scratch->bytes >= bytes &&
        (scratch->bytes <= SCRATCH_KEEP_BYTES || keep_bytes > 0 || bytes > SCRATCH_KEEP_BYTES)) {
        return scratch->ptr;
    }
    struct scratch grown = { .budget = sublist->budget, .bytes = bytes < 1024 ? 1024 : bytes };
    grown.ptr = rb_alloc(grown.budget, grown.bytes);
    if (grown.ptr == NULL) {
        grown.budget = NULL;
        grown.ptr = rb_alloc(NULL, grown.bytes);
    }
    rb_assert(grown.ptr != NULL);
    if (keep_bytes > 0) {
        memcpy(grown.ptr, scratch->ptr, keep_bytes);
    }
    free_scratch(scratch);
    *scratch = grown;
    return grown.ptr;
}

/* ---- texts, keys and hashes ---- */

static struct rb_slice node_subject(const struct rb_sub_node *node)
{
    return rb_slice_of(node->subject, node->subject_len);
}

static struct rb_slice group_queue(const struct group *group)
{
    return rb_slice_of(group->queue, group->queue_len);
}

static size_t node_bytes(size_t subject_len)
{
    size_t bytes = offsetof(struct rb_sub_node, subject) + subject_len;
    return bytes < sizeof(struct rb_sub_node) ? sizeof(struct rb_sub_node) : bytes;
}

static size_t group_bytes(size_t queue_len)
{
    size_t bytes = offsetof(struct group, queue) + queue_len;
    return bytes < sizeof(struct group) ? sizeof(struct group) : bytes;
}

static size_t level_bytes(size_t token_len)
{
    return sizeof(struct level) + token_len;
}

static uint64_t hash_pair(uint64_t a, uint64_t b)
{
    uint64_t h = (a ^ (b * 0x9e3779b97f4a7c15u)) * 0xff51afd7ed558ccdu;
    return (h ^ (h >> 32)) * 0xc4ceb9fe1a85ec53u;
}

static struct rb_slice key_of(const void *key, size_t bytes)
{
    return rb_slice_of(key, bytes);
}

static bool node_equal(const void *item, struct rb_slice key)
{
    return rb_slice_equal(node_subject(item), key);
}

static uint64_t node_hash(const void *item)
{
    return rb_slice_hash(node_subject(item));
}

static uint64_t edge_hash(uint64_t level_id, struct rb_slice token)
{
    return hash_pair(rb_slice_hash(token), level_id);
}

static bool level_equal(const void *item, struct rb_slice key)
{
    const struct level *level = item;
    const struct edge_key *edge = (const void *)key.ptr;
    return level->parent->id == edge->level_id &&
           rb_slice_equal(rb_slice_of(level->token, level->token_len), edge->token);
}

static uint64_t level_hash(const void *item)
{
    const struct level *level = item;
    return edge_hash(level->parent->id, rb_slice_of(level->token, level->token_len));
}

static uint64_t group_key_hash(struct rb_slice subject, struct rb_slice queue)
{
    return hash_pair(rb_slice_hash(subject), rb_slice_hash(queue));
}

static bool group_equal(const void *item, struct rb_slice key)
{
    const struct group *group = item;
    const struct group_key *wanted = (const void *)key.ptr;
    return rb_slice_equal(group_queue(group), wanted->queue) &&
           rb_slice_equal(node_subject(group->node), wanted->subject);
}

static uint64_t group_hash(const void *item)
{
    const struct group *group = item;
    return group_key_hash(node_subject(group->node), group_queue(group));
}

/** The token that begins at `offset`; empty at the end of the subject. */
static struct rb_slice token_at(struct rb_slice subject, size_t offset)
{
    if (offset >= subject.len) {
        return rb_slice_of(NULL, 0);
    }
    const uint8_t *begin = subject.ptr + offset;
    const uint8_t *dot = memchr(begin, '.', subject.len - offset);
    return rb_slice_of(begin, dot == NULL ? subject.len - offset : (size_t)(dot - begin));
}

static bool is_star(struct rb_slice token)
{
    return token.len == 1 && token.ptr[0] == '*';
}

static bool is_full(struct rb_slice token)
{
    return token.len == 1 && token.ptr[0] == '>';
}

static bool has_empty_token(struct rb_slice subject)
{
    bool dot = true;
    for (size_t i = 0; i < subject.len; i++) {
        bool now = subject.ptr[i] == '.';
        if (dot && now) {
            return true;
        }
        dot = now;
    }
    return dot;
}

/* ---- subscriptions of a node or group ---- */

static struct rb_sub_ref **refs_array(const struct refs *refs)
{
    return refs->cap == 0 ? (struct rb_sub_ref **)&refs->one : refs->many;
}

static size_t refs_bytes(uint32_t cap)
{
    return cap * sizeof(struct rb_sub_ref *);
}

static bool refs_push(struct rb_sublist *sublist, struct refs *refs, struct rb_sub_ref *ref)
{
    if (refs->count > 0 && refs->cap == 0) {
        struct rb_sub_ref **many = take(sublist, refs_bytes(2));
        if (many == NULL) {
            return false;
        }
        many[0] = refs->one;
        refs->many = many;
        refs->cap = 2;
    } else if (refs->cap > 0 && refs->count == refs->cap) {
        void *many = resize(sublist, refs->many, refs_bytes(refs->cap), refs_bytes(refs->cap * 2));
        if (many == NULL) {
            return false;
        }
        refs->many = many;
        refs->cap *= 2;
    }
    refs_array(refs)[refs->count] = ref;
    ref->index = refs->count++;
    return true;
}

/** Removes `ref`; gives room back with some delay. Cannot fail. */
static void refs_pull(struct rb_sublist *sublist, struct refs *refs, const struct rb_sub_ref *ref)
{
    struct rb_sub_ref **array = refs_array(refs);
    rb_assert(ref->index < refs->count && array[ref->index] == ref);
    struct rb_sub_ref *last = array[--refs->count];
    array[ref->index] = last;
    last->index = ref->index;
    if (refs->cap == 0) {
        return;
    }
    if (refs->count <= 1) {
        struct rb_sub_ref **many = refs->many;
        refs->one = many[0];
        give(sublist, many, refs_bytes(refs->cap));
        refs->cap = 0;
    } else if (refs->count <= refs->cap / 4) {
        void *many = resize(sublist, refs->many, refs_bytes(refs->cap), refs_bytes(refs->cap / 2));
        if (many != NULL) {
            refs->many = many;
            refs->cap /= 2;
        }
    }
}

static void refs_free(struct rb_sublist *sublist, struct refs *refs)
{
    if (refs->cap > 0) {
        give(sublist, refs->many, refs_bytes(refs->cap));
    }
}

/* ---- nodes: one word, five kinds (invariant 2) ---- */

static struct group *node_groups(const struct rb_sub_node *node)
{
    return node->kind == NODE_GROUPS ? node->groups
           : node->kind == NODE_BODY ? node->body->groups
                                     : NULL;
}

static uint64_t node_remote(const struct rb_sub_node *node)
{
    return node->kind == NODE_REMOTE ? node->remote_plain
           : node->kind == NODE_BODY ? node->body->remote_plain
                                     : 0;
}

/** The plain subscriptions and their number. */
static struct rb_sub_ref **node_plain(const struct rb_sub_node *node, uint32_t *ret_count)
{
    if (node->kind == NODE_ONE) {
        *ret_count = 1;
        return (struct rb_sub_ref **)&node->one;
    }
    *ret_count = node->kind == NODE_BODY ? node->body->plain.count : 0;
    return *ret_count == 0 ? NULL : refs_array(&node->body->plain);
}

static bool make_body(struct rb_sublist *sublist, struct rb_sub_node *node)
{
    if (node->kind == NODE_BODY) {
        return true;
    }
    struct body *body = take(sublist, sizeof(*body));
    if (body == NULL) {
        return false;
    }
    *body = (struct body){ .groups = node_groups(node), .remote_plain = node_remote(node) };
    if (node->kind == NODE_ONE) {
        body->plain = (struct refs){ .one = node->one, .count = 1 };
    }
    node->body = body;
    node->kind = NODE_BODY;
    return true;
}

/** Gives a body back when its node can do without. */
static void settle(struct rb_sublist *sublist, struct rb_sub_node *node)
{
    if (node->kind != NODE_BODY) {
        return;
    }
    struct body *body = node->body;
    uint32_t kinds = (body->plain.count > 0) + (body->remote_plain != 0) + (body->groups != NULL);
    if (kinds > 1 || body->plain.count > 1) {
        return;
    }
    if (kinds == 0) {
        node->kind = NODE_NONE;
    } else if (body->groups != NULL) {
        node->groups = body->groups;
        node->kind = NODE_GROUPS;
    } else if (body->remote_plain != 0) {
        node->remote_plain = body->remote_plain;
        node->kind = NODE_REMOTE;
    } else {
        node->one = body->plain.one;
        node->kind = NODE_ONE;
    }
    rb_assert(body->plain.cap == 0);
    give(sublist, body, sizeof(*body));
}

static bool add_plain(struct rb_sublist *sublist, struct rb_sub_node *node, struct rb_sub_ref *ref)
{
    if (node->kind == NODE_NONE) {
        node->one = ref;
        node->kind = NODE_ONE;
        ref->index = 0;
    } else if (!make_body(sublist, node)) {
        return false;
    } else if (!refs_push(sublist, &node->body->plain, ref)) {
        settle(sublist, node);
        return false;
    }
    ref->node = node;
    return true;
}

static void remove_plain(struct rb_sublist *sublist, struct rb_sub_node *node,
                         const struct rb_sub_ref *ref)
{
    if (node->kind == NODE_ONE) {
        rb_assert(node->one == ref);
        node->kind = NODE_NONE;
        return;
    }
    rb_assert(node->kind == NODE_BODY);
    refs_pull(sublist, &node->body->plain, ref);
    settle(sublist, node);
}

static bool set_node_remote(struct rb_sublist *sublist, struct rb_sub_node *node, uint64_t mask)
{
    if (node->kind == NODE_NONE || node->kind == NODE_REMOTE) {
        node->remote_plain = mask;
        node->kind = mask == 0 ? NODE_NONE : NODE_REMOTE;
        return true;
    }
    if (!make_body(sublist, node)) {
        return false;
    }
    node->body->remote_plain = mask;
    settle(sublist, node);
    return true;
}

/* ---- the trie ---- */

static struct level *find_child(const struct rb_sublist *sublist, const struct level *level,
                                struct rb_slice token, uint64_t hash)
{
    if (level->child_count == 0) {
        return NULL;
    }
    struct edge_key key = { level->id, token };
    return rb_map_find(&sublist->edges, hash, key_of(&key, sizeof(key)));
}

static struct level *make_child(struct rb_sublist *sublist, struct level *parent,
                                struct rb_slice token)
{
    struct level *level = take(sublist, level_bytes(token.len));
    if (level == NULL) {
        return NULL;
    }
    *level = (struct level){ .parent = parent, .token_len = (uint32_t)token.len };
    memcpy(level->token, token.ptr, token.len);
    if (is_star(token)) {
        parent->star = level;
    } else if (rb_map_insert(&sublist->edges, edge_hash(parent->id, token), level) == RB_OK) {
        parent->child_count++;
    } else {
        give(sublist, level, level_bytes(token.len));
        return NULL;
    }
    level->id = ++sublist->last_level_id;
    sublist->level_count++;
    return level;
}

/** Frees `level` and its ancestors as far as they are empty (invariant 1). */
static void prune(struct rb_sublist *sublist, struct level *level)
{
    while (level->parent != NULL && level->star == NULL && level->full == NULL &&
           level->end == NULL && level->child_count == 0) {
        struct level *parent = level->parent;
        if (parent->star == level) {
            parent->star = NULL;
        } else {
            bool removed = rb_map_remove(&sublist->edges, level_hash(level), level);
            rb_assert(removed);
            parent->child_count--;
        }
        give(sublist, level, level_bytes(level->token_len));
        sublist->level_count--;
        level = parent;
    }
}

/** Where the node of a wildcard subject hangs; *ret_level is the level that holds the pointer. NULL
 * when the way is missing and `make` is not set, or memory is missing. */
static struct rb_sub_node **find_place(struct rb_sublist *sublist, struct rb_slice subject,
                                       bool make, struct level **ret_level)
{
    struct level *level = sublist->root;
    for (size_t offset = 0; offset < subject.len;) {
        struct rb_slice token = token_at(subject, offset);
        if (is_full(token) && offset + 1 == subject.len) {
            *ret_level = level;
            return &level->full;
        }
        struct level *child = is_star(token)
                                  ? level->star
                                  : find_child(sublist, level, token, edge_hash(level->id, token));
        if (child == NULL && make) {
            child = make_child(sublist, level, token);
        }
        if (child == NULL) {
            prune(sublist, level);
            return NULL;
        }
        level = child;
        offset += token.len + 1;
    }
    *ret_level = level;
    return &level->end;
}

/** Matching visits at most one pending level per token, and one. */
static bool grow_stack(struct rb_sublist *sublist, struct rb_slice subject)
{
    size_t need = rb_subject_token_count(subject) + 2;
    if (need <= sublist->stack_cap) {
        return true;
    }
    size_t cap = need < 16 ? 16 : need;
    void *grown = rb_realloc(sublist->budget, sublist->stack,
                             sublist->stack_cap * sizeof(struct visit), cap * sizeof(struct visit));
    if (grown == NULL) {
        return false;
    }
    sublist->stack = grown;
    sublist->stack_cap = cap;
    return true;
}

/* ---- finding, making and dropping nodes and groups ---- */

static struct rb_sub_node *find_node(struct rb_sublist *sublist, struct rb_slice subject,
                                     bool wildcard)
{
    if (!wildcard) {
        return rb_map_find(&sublist->literals, rb_slice_hash(subject), subject);
    }
    struct level *level;
    struct rb_sub_node **place = find_place(sublist, subject, false, &level);
    return place == NULL ? NULL : *place;
}

static bool link_node(struct rb_sublist *sublist, struct rb_sub_node *node)
{
    struct rb_slice subject = node_subject(node);
    if (!node->wildcard) {
        return rb_map_insert(&sublist->literals, rb_slice_hash(subject), node) == RB_OK;
    }
    struct level *level;
    struct rb_sub_node **place =
        grow_stack(sublist, subject) ? find_place(sublist, subject, true, &level) : NULL;
    if (place == NULL) {
        return false;
    }
    *place = node;
    return true;
}

/** An empty node: the caller hangs something on it, or drops it. */
static struct rb_sub_node *make_node(struct rb_sublist *sublist, struct rb_slice subject,
                                     bool wildcard)
{
    if (subject.len > SUBJECT_BYTES_MAX) {
        return NULL;
    }
    struct rb_sub_node *node = take(sublist, node_bytes(subject.len));
    if (node == NULL) {
        return NULL;
    }
    node->kind = NODE_NONE;
    node->wildcard = wildcard;
    node->subject_len = subject.len & SUBJECT_BYTES_MAX;
    memcpy(node->subject, subject.ptr, subject.len);
    if (!link_node(sublist, node)) {
        give(sublist, node, node_bytes(subject.len));
        return NULL;
    }
    sublist->stats.node_count++;
    return node;
}

/** Unlinks an empty node; the memory is then the caller's to give back. */
static void unlink_node(struct rb_sublist *sublist, struct rb_sub_node *node)
{
    if (!node->wildcard) {
        bool removed = rb_map_remove(&sublist->literals, node_hash(node), node);
        rb_assert(removed);
    } else {
        struct level *level;
        struct rb_sub_node **place = find_place(sublist, node_subject(node), false, &level);
        rb_assert(place != NULL && *place == node);
        *place = NULL;
        prune(sublist, level);
    }
    sublist->stats.node_count--;
}

static void drop_if_empty(struct rb_sublist *sublist, struct rb_sub_node *node)
{
    if (node->kind == NODE_NONE) {
        unlink_node(sublist, node);
        give(sublist, node, node_bytes(node->subject_len));
    }
}

static struct group *find_group(const struct rb_sublist *sublist, struct rb_slice subject,
                                struct rb_slice queue)
{
    struct group_key key = { subject, queue };
    return rb_map_find(&sublist->groups, group_key_hash(subject, queue), key_of(&key, sizeof(key)));
}

/** An empty group on `node`: the caller gives it a member or weight, or drops it. */
static struct group *make_group(struct rb_sublist *sublist, struct rb_sub_node *node,
                                struct rb_slice queue)
{
    struct group *group = NULL;
    if (queue.len <= SUBJECT_BYTES_MAX) {
        group = take(sublist, group_bytes(queue.len));
    }
    if (group == NULL) {
        return NULL;
    }
    *group = (struct group){ .node = node, .queue_len = (uint32_t)queue.len };
    memcpy(group->queue, queue.ptr, queue.len);
    bool simple = node->kind == NODE_NONE || node->kind == NODE_GROUPS;
    if (!simple && !make_body(sublist, node)) {
        give(sublist, group, group_bytes(queue.len));
        return NULL;
    }
    if (rb_map_insert(&sublist->groups, group_hash(group), group) != RB_OK) {
        settle(sublist, node);
        give(sublist, group, group_bytes(queue.len));
        return NULL;
    }
    group->next = node_groups(node);
    if (group->next != NULL) {
        group->next->prev = group;
    }
    if (node->kind == NODE_BODY) {
        node->body->groups = group;
    } else {
        node->groups = group;
        node->kind = NODE_GROUPS;
    }
    return group;
}

/** Unlinks an empty group from its node, which may be empty then; the memory is the caller's. */
static void unlink_group(struct rb_sublist *sublist, struct group *group)
{
    struct rb_sub_node *node = group->node;
    bool removed = rb_map_remove(&sublist->groups, group_hash(group), group);
    rb_assert(removed);
    if (group->remote_cap > 0) {
        give(sublist, group->remotes.many, group->remote_cap * sizeof(struct rb_remote_weight));
        group->remote_cap = 0;
    }
    if (group->next != NULL) {
        group->next->prev = group->prev;
    }
    if (group->prev != NULL) {
        group->prev->next = group->next;
    } else if (node->kind == NODE_BODY) {
        node->body->groups = group->next;
    } else {
        node->groups = group->next;
        node->kind = group->next == NULL ? NODE_NONE : NODE_GROUPS;
    }
    settle(sublist, node);
}

static bool group_empty(const struct group *group)
{
    return group->refs.count == 0 && group->remote_count == 0;
}

static void drop_group_if_empty(struct rb_sublist *sublist, struct group *group)
{
    if (group_empty(group)) {
        unlink_group(sublist, group);
        give(sublist, group, group_bytes(group->queue_len));
    }
}

/* ---- remote weights of a group ---- */

static struct rb_remote_weight *group_remotes(const struct group *group)
{
    return group->remote_cap == 0 ? (struct rb_remote_weight *)&group->remotes.one
                                  : group->remotes.many;
}

static struct rb_remote_weight *find_remote(const struct group *group, uint32_t shard)
{
    struct rb_remote_weight *remotes = group_remotes(group);
    for (uint32_t i = 0; i < group->remote_count; i++) {
        if (remotes[i].shard == shard) {
            return &remotes[i];
        }
    }
    return NULL;
}

static bool grow_remotes(struct rb_sublist *sublist, struct group *group)
{
    uint32_t cap = group->remote_cap;
    void *many;
    if (cap == 0) {
        many = take(sublist, 2 * sizeof(struct rb_remote_weight));
        if (many != NULL) {
            memcpy(many, &group->remotes.one, sizeof(struct rb_remote_weight));
        }
    } else {
        many = resize(sublist, group->remotes.many, cap * sizeof(struct rb_remote_weight),
                      2 * cap * sizeof(struct rb_remote_weight));
    }
    if (many == NULL) {
        return false;
    }
    group->remotes.many = many;
    group->remote_cap = (uint16_t)(cap == 0 ? 2 : 2 * cap);
    return true;
}

static void withdraw_remote(struct rb_sublist *sublist, struct group *group,
                            struct rb_remote_weight *remote)
{
    *remote = group_remotes(group)[--group->remote_count];
    if (group->remote_cap > 0 && group->remote_count <= 1) {
        struct rb_remote_weight *many = group->remotes.many;
        struct rb_remote_weight rest = many[0];
        give(sublist, many, group->remote_cap * sizeof(*many));
        group->remotes.one = rest;
        group->remote_cap = 0;
    }
}

static bool set_group_remote(struct rb_sublist *sublist, struct group *group, uint32_t shard,
                             uint32_t weight)
{
    struct rb_remote_weight *remote = find_remote(group, shard);
    if (weight == 0) {
        if (remote != NULL) {
            withdraw_remote(sublist, group, remote);
        }
        return true;
    }
    if (remote == NULL) {
        uint32_t room = group->remote_cap == 0 ? 1 : group->remote_cap;
        if (group->remote_count == room && !grow_remotes(sublist, group)) {
            return false;
        }
        remote = &group_remotes(group)[group->remote_count++];
        remote->shard = shard;
    }
    remote->weight = weight;
    return true;
}

/* ---- the cache: validity (invariant 4) ---- */

/** End of the first token, and of the second (the subject's end when there is none). */
static struct rb_slice prefix_of(struct rb_slice subject, uint32_t tokens)
{
    size_t end = token_at(subject, 0).len;
    if (tokens == 2 && end < subject.len) {
        end += 1 + token_at(subject, end + 1).len;
    }
    return rb_slice_of(subject.ptr, end);
}

static uint16_t stamp_index(struct rb_slice subject, uint32_t tokens)
{
    return rb_slice_hash(prefix_of(subject, tokens)) % STAMPS;
}

static void bump_stamps(struct cache *cache, struct rb_slice subject)
{
    struct rb_slice first = token_at(subject, 0);
    struct rb_slice second = token_at(subject, first.len + 1);
    cache->epoch++;
    if (is_star(first) || is_full(first)) {
        cache->all++;
    } else if (is_star(second) || is_full(second)) {
        cache->first[stamp_index(subject, 1)]++;
    } else {
        cache->second[stamp_index(subject, 2)]++;
    }
}

static uint64_t stamp_of(const struct cache *cache, const struct entry *entry)
{
    return cache->all + cache->first[entry->first] + cache->second[entry->second];
}

static inline bool entry_valid(const struct cache *cache, struct entry *entry)
{
    if (__builtin_expect(entry->epoch == cache->epoch, 1)) {
        return true;
    }
    if (entry->stamp != stamp_of(cache, entry)) {
        return false;
    }
    entry->epoch = cache->epoch;
    return true;
}

static inline bool entry_is(const struct entry *entry, struct rb_slice subject)
{
    return entry->subject_len == subject.len &&
           (subject.len == 0 || memcmp(entry->subject, subject.ptr, subject.len) == 0);
}

static struct cache_set *set_of(const struct cache *cache, uint64_t hash)
{
    return &cache->sets[hash % CACHE_SETS];
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

/* ---- the cache: coming and going ---- */

static void evict(struct rb_sublist *sublist, struct cache_set *set, uint32_t way)
{
    struct entry *entry = set->entry[way];
    set->entry[way] = NULL;
    set->tag[way] = 0;
    sublist->cache.bytes -= entry->bytes;
    sublist->cache.count--;
    rb_free(sublist->budget, entry, entry->bytes);
}

static void flush_cache(struct rb_sublist *sublist)
{
    for (uint32_t i = 0; i < CACHE_SLOTS && sublist->cache.count > 0; i++) {
        struct cache_set *set = &sublist->cache.sets[i / CACHE_WAYS];
        if (set->entry[i % CACHE_WAYS] != NULL) {
            evict(sublist, set, i % CACHE_WAYS);
        }
    }
}

/** Way of the entry of `subject`, valid or not; CACHE_WAYS when there is none. */
static inline uint32_t find_way(const struct cache_set *set, uint64_t hash, struct rb_slice subject)
{
    uint32_t tag = tag_of(hash);
    for (uint32_t way = 0; way < CACHE_WAYS; way++) {
        if (set->tag[way] == tag && set->entry[way] != NULL && entry_is(set->entry[way], subject)) {
            return way;
        }
    }
    return CACHE_WAYS;
}

static void note_missed(struct cache_set *set, uint32_t tag)
{
    set->missed[set->missed_hand] = tag;
    set->missed_hand ^= 1;
}

/** Drops the entry of `subject`, which remains welcome; true when there was one. */
static bool drop_entry(struct rb_sublist *sublist, uint64_t hash, struct rb_slice subject)
{
    struct cache_set *set = set_of(&sublist->cache, hash);
    uint32_t way = find_way(set, hash, subject);
    if (way == CACHE_WAYS) {
        return false;
    }
    evict(sublist, set, way);
    note_missed(set, tag_of(hash));
    return true;
}

/** Is `subject` worth an entry (invariant 6)? Frees an invalid one of its own. */
static bool admit(struct rb_sublist *sublist, uint64_t hash, struct rb_slice subject)
{
    struct cache_set *set = set_of(&sublist->cache, hash);
    uint32_t tag = tag_of(hash);
    if (drop_entry(sublist, hash, subject) || set->missed[0] == tag || set->missed[1] == tag) {
        return true;
    }
    note_missed(set, tag);
    return false;
}

/** A free way of `set`, made by the clock if need be. */
static uint32_t free_way(struct rb_sublist *sublist, struct cache_set *set)
{
    for (uint32_t way = 0; way < CACHE_WAYS; way++) {
        if (set->entry[way] == NULL) {
            return way;
        }
    }
    for (;;) { /* ends: a round without eviction clears every mark */
        uint32_t way = set->hand;
        set->hand = (set->hand + 1) % CACHE_WAYS;
        struct entry *entry = set->entry[way];
        if (!entry->used || !entry_valid(&sublist->cache, entry)) {
            evict(sublist, set, way);
            return way;
        }
        entry->used = 0;
    }
}

/** Makes other entries give way until `bytes` more fit, or none is left. */
static void make_room(struct rb_sublist *sublist, size_t bytes)
{
    struct cache *cache = &sublist->cache;
    while (cache->count > 0 && cache->bytes + bytes > CACHE_BYTES_MAX) {
        struct cache_set *set = &cache->sets[cache->hand / CACHE_WAYS];
        uint32_t way = cache->hand % CACHE_WAYS;
        cache->hand = (cache->hand + 1) % CACHE_SLOTS;
        struct entry *entry = set->entry[way];
        if (entry != NULL && entry->used && entry_valid(cache, entry)) {
            entry->used = 0;
        } else if (entry != NULL) {
            evict(sublist, set, way);
        }
    }
}

static enum rb_err init_cache(struct rb_sublist *sublist)
{
    struct cache *cache = &sublist->cache;
    cache->sets_block = rb_alloc(sublist->budget, (CACHE_SETS + 1) * sizeof(struct cache_set));
    if (cache->sets_block == NULL) {
        return RB_ERR_MEMORY;
    }
    size_t skew = (uintptr_t)cache->sets_block % sizeof(struct cache_set);
    size_t pad = skew == 0 ? 0 : sizeof(struct cache_set) - skew;
    cache->sets = (void *)((uint8_t *)cache->sets_block + pad);
    return RB_OK;
}

static void deinit_cache(struct rb_sublist *sublist)
{
    flush_cache(sublist);
    rb_free(sublist->budget, sublist->cache.sets_block,
            (CACHE_SETS + 1) * sizeof(struct cache_set));
}

/* ---- matching: collect the nodes, then lay the result out ---- */

struct finder {
    struct rb_sub_node **nodes; /* in sublist->found */
    size_t node_count, group_count;
    uint32_t plain_count, plain_nodes, group_nodes;
    uint64_t remote_plain;
};

static void note_node(struct rb_sublist *sublist, struct finder *finder, struct rb_sub_node *node)
{
    size_t bytes = finder->node_count * sizeof(node);
    if (bytes + sizeof(node) > sublist->found.bytes) {
        finder->nodes = reserve(sublist, &sublist->found, 2 * bytes + sizeof(node), bytes);
    }
    finder->nodes[finder->node_count++] = node;
    uint32_t plain_count;
    node_plain(node, &plain_count);
    finder->plain_count += plain_count;
    finder->plain_nodes += plain_count > 0;
    finder->remote_plain |= node_remote(node);
    finder->group_nodes += node_groups(node) != NULL;
    for (const struct group *group = node_groups(node); group != NULL; group = group->next) {
        finder->group_count++;
    }
}

static void find_wildcards(struct rb_sublist *sublist, struct finder *finder,
                           struct rb_slice subject)
{
    if (sublist->stack_cap == 0) {
        return; /* there was no wildcard yet */
    }
    struct visit *stack = sublist->stack;
    size_t depth = 0;
    stack[depth++] = (struct visit){ sublist->root, 0 };
    while (depth > 0) {
        struct visit at = stack[--depth];
        if (at.offset > subject.len) {
            if (at.level->end != NULL) {
                note_node(sublist, finder, at.level->end);
            }
            continue;
        }
        if (at.level->full != NULL) {
            note_node(sublist, finder, at.level->full);
        }
        struct rb_slice token = token_at(subject, at.offset);
        size_t next = at.offset + token.len + 1;
        if (at.level->star != NULL) {
            stack[depth++] = (struct visit){ at.level->star, next };
        }
        if (at.level->child_count > 0) {
            struct level *child =
                find_child(sublist, at.level, token, edge_hash(at.level->id, token));
            if (child != NULL) {
                stack[depth++] = (struct visit){ child, next };
            }
        }
        rb_assert_slow(depth <= sublist->stack_cap);
    }
}

static void find_nodes(struct rb_sublist *sublist, struct rb_slice subject, uint64_t hash,
                       struct finder *finder)
{
    *finder = (struct finder){ .nodes = reserve(sublist, &sublist->found, 1, 0) };
    if (has_empty_token(subject)) {
        return;
    }
    struct rb_sub_node *literal = rb_map_find(&sublist->literals, hash, subject);
    if (literal != NULL) {
        note_node(sublist, finder, literal);
    }
    find_wildcards(sublist, finder, subject);
}

static int compare_found(const void *a, const void *b)
{
    const struct found_group *x = a, *y = b;
    uint32_t x_len = x->group->queue_len, y_len = y->group->queue_len;
    if (x_len != y_len) {
        return x_len < y_len ? -1 : 1;
    }
    int order = memcmp(x->group->queue, y->group->queue, x_len);
    return order != 0 ? order : x->order < y->order ? -1 : 1;
}

/** The groups of all nodes, those with the same name side by side. */
static struct found_group *collect_groups(struct rb_sublist *sublist, const struct finder *finder)
{
    struct found_group *groups =
        reserve(sublist, &sublist->found_groups, (finder->group_count + 1) * sizeof(*groups), 0);
    size_t count = 0;
    for (size_t i = 0; i < finder->node_count; i++) {
        const struct group *group = node_groups(finder->nodes[i]);
        for (; group != NULL; group = group->next, count++) {
            groups[count] = (struct found_group){ group, count };
        }
    }
    rb_assert(count == finder->group_count);
    if (finder->group_nodes > 1) {
        qsort(groups, count, sizeof(*groups), compare_found);
    }
    return groups;
}

/** Number of groups from `at` on that are one group to the receiver. */
static size_t run_at(const struct found_group *groups, size_t count, size_t at)
{
    size_t end = at + 1;
    struct rb_slice queue = group_queue(groups[at].group);
    while (end < count && rb_slice_equal(queue, group_queue(groups[end].group))) {
        end++;
    }
    return end - at;
}

/** What an entry needs beyond its header and subject. */
struct layout {
    size_t groups, subs, remotes; /* numbers of elements */
};

static struct layout measure(const struct finder *finder, const struct found_group *groups)
{
    struct layout layout = { .subs = finder->plain_nodes > 1 ? finder->plain_count : 0 };
    for (size_t at = 0; at < finder->group_count;) {
        size_t run = run_at(groups, finder->group_count, at);
        for (size_t i = at; run > 1 && i < at + run; i++) {
            layout.subs += groups[i].group->refs.count;
            layout.remotes += groups[i].group->remote_count;
        }
        layout.groups++;
        at += run;
    }
    return layout;
}

static size_t arrays_offset(size_t subject_len)
{
    return (offsetof(struct entry, subject) + subject_len + 7) / 8 * 8;
}

static size_t entry_bytes(struct rb_slice subject, const struct layout *layout)
{
    size_t bytes = arrays_offset(subject.len) + layout->groups * sizeof(struct rb_match_group) +
                   layout->subs * sizeof(struct rb_sub_ref *) +
                   layout->remotes * sizeof(struct rb_remote_weight);
    return bytes < sizeof(struct entry) ? sizeof(struct entry) : bytes;
}

/** Where the next elements of an entry under construction go. */
struct room {
    struct rb_match_group *groups;
    struct rb_sub_ref **subs;
    struct rb_remote_weight *remotes;
};

/** A copy is needed only where several nodes contribute (invariant 5). */
static void fill_plain(struct rb_match *match, const struct finder *finder, struct room *room)
{
    match->remote_plain = finder->remote_plain;
    match->plain_count = finder->plain_count;
    match->plain = finder->plain_nodes > 1 ? room->subs : NULL;
    for (size_t i = 0; i < finder->node_count; i++) {
        uint32_t count;
        struct rb_sub_ref **plain = node_plain(finder->nodes[i], &count);
        if (count > 0 && finder->plain_nodes == 1) {
            match->plain = plain;
        } else if (count > 0) {
            memcpy(room->subs, plain, count * sizeof(*plain));
            room->subs += count;
        }
    }
}

static void merge_groups(struct rb_match_group *out, const struct found_group *groups, size_t run,
                         struct room *room)
{
    uint32_t weight[RB_SHARDS_MAX] = { 0 };
    out->subs = room->subs;
    out->remotes = room->remotes;
    for (size_t i = 0; i < run; i++) {
        const struct group *group = groups[i].group;
        memcpy(room->subs, refs_array(&group->refs), refs_bytes(group->refs.count));
        room->subs += group->refs.count;
        out->sub_count += group->refs.count;
        const struct rb_remote_weight *remotes = group_remotes(group);
        for (uint32_t j = 0; j < group->remote_count; j++) {
            weight[remotes[j].shard] += remotes[j].weight;
        }
    }
    for (uint32_t shard = 0; shard < RB_SHARDS_MAX; shard++) {
        if (weight[shard] > 0) {
            out->remotes[out->remote_count++] = (struct rb_remote_weight){ shard, weight[shard] };
        }
    }
    room->remotes += out->remote_count;
}

static void fill_group(struct rb_match_group *out, const struct found_group *groups, size_t run,
                       struct room *room)
{
    const struct group *group = groups[0].group;
    *out = (struct rb_match_group){ .queue = group_queue(group) };
    if (run > 1) {
        merge_groups(out, groups, run, room);
    } else {
        out->subs = group->refs.count == 0 ? NULL : refs_array(&group->refs);
        out->sub_count = group->refs.count;
        out->remotes = group_remotes(group);
        out->remote_count = group->remote_count;
    }
    out->weight = out->sub_count;
    for (uint32_t i = 0; i < out->remote_count; i++) {
        out->weight += out->remotes[i].weight;
    }
}

static void fill_entry(struct entry *entry, struct rb_slice subject, const struct finder *finder,
                       const struct found_group *groups, const struct layout *layout)
{
    struct room room = { .groups = (void *)((uint8_t *)entry + arrays_offset(subject.len)) };
    room.subs = (void *)(room.groups + layout->groups);
    room.remotes = (void *)(room.subs + layout->subs);
    entry->match = (struct rb_match){ .group_count = (uint32_t)layout->groups };
    entry->match.groups = room.groups;
    fill_plain(&entry->match, finder, &room);
    struct rb_match_group *out = room.groups;
    for (size_t at = 0; at < finder->group_count;) {
        size_t run = run_at(groups, finder->group_count, at);
        fill_group(out++, &groups[at], run, &room);
        at += run;
    }
}

/** Puts a filled entry of `bytes` in its place; returns its slot. */
static uint32_t keep_entry(struct rb_sublist *sublist, struct entry *entry, size_t bytes,
                           struct rb_slice subject, uint64_t hash)
{
    struct cache *cache = &sublist->cache;
    struct cache_set *set = set_of(cache, hash);
    uint32_t way = free_way(sublist, set);
    entry->bytes = (uint32_t)bytes;
    entry->subject_len = (uint32_t)subject.len;
    if (subject.len > 0) {
        memcpy(entry->subject, subject.ptr, subject.len);
    }
    entry->first = stamp_index(subject, 1);
    entry->second = stamp_index(subject, 2);
    entry->stamp = stamp_of(cache, entry);
    entry->epoch = cache->epoch;
    entry->used = 0;
    set->entry[way] = entry;
    set->tag[way] = tag_of(hash);
    cache->bytes += bytes;
    cache->count++;
    return (uint32_t)(set - cache->sets) * CACHE_WAYS + way;
}

static const struct rb_match *match_slow(struct rb_sublist *sublist, struct rb_slice subject,
                                         uint64_t hash, uint32_t *ret_slot)
{
    bool welcome = admit(sublist, hash, subject);
    struct finder finder;
    find_nodes(sublist, subject, hash, &finder);
    struct found_group *groups = finder.group_count == 0 ? NULL : collect_groups(sublist, &finder);
    struct layout layout = measure(&finder, groups);
    size_t bytes = entry_bytes(subject, &layout);
    struct entry *entry = NULL;
    if (welcome && bytes <= ENTRY_BYTES_MAX) {
        make_room(sublist, bytes);
        entry = rb_alloc(sublist->budget, bytes);
    }
    bool kept = entry != NULL;
    if (!kept) {
        entry = reserve(sublist, &sublist->result, bytes, 0);
    }
    fill_entry(entry, subject, &finder, groups, &layout);
    if (kept) {
        *ret_slot = keep_entry(sublist, entry, bytes, subject, hash);
    }
    return &entry->match;
}

static const struct rb_match *hit(struct rb_sublist *sublist, struct entry *entry)
{
    sublist->stats.cache_hit_count++;
    if (!entry->used) {
        entry->used = 1;
    }
    return &entry->match;
}

static inline const struct rb_match *match_cached(struct rb_sublist *sublist,
                                                  struct rb_slice subject, uint32_t *ret_slot)
{
    uint64_t hash = rb_slice_hash(subject);
    struct cache_set *set = set_of(&sublist->cache, hash);
    uint32_t way = find_way(set, hash, subject);
    if (way < CACHE_WAYS && entry_valid(&sublist->cache, set->entry[way])) {
        *ret_slot = (uint32_t)(set - sublist->cache.sets) * CACHE_WAYS + way;
        return hit(sublist, set->entry[way]);
    }
    return match_slow(sublist, subject, hash, ret_slot);
}

const struct rb_match *rb_sublist_match(struct rb_sublist *sublist, struct rb_slice subject)
{
    uint32_t slot;
    sublist->stats.match_count++;
    return match_cached(sublist, subject, &slot);
}

const struct rb_match *rb_sublist_match_hinted(struct rb_sublist *sublist, struct rb_slice subject,
                                               struct rb_match_hint *hint)
{
    uint32_t slot = hint->slot % CACHE_SLOTS;
    struct entry *entry = sublist->cache.sets[slot / CACHE_WAYS].entry[slot % CACHE_WAYS];
    sublist->stats.match_count++;
    if (entry != NULL && entry_is(entry, subject) && entry_valid(&sublist->cache, entry)) {
        return hit(sublist, entry);
    }
    return match_cached(sublist, subject, &hint->slot);
}

/* ---- changes ---- */

/** Makes every cache entry invalid that a change of `subject` could touch. */
static void invalidate(struct rb_sublist *sublist, struct rb_slice subject, bool wildcard)
{
    if (wildcard) {
        bump_stamps(&sublist->cache, subject);
    } else if (sublist->cache.count > 0) {
        drop_entry(sublist, rb_slice_hash(subject), subject);
    }
}

/** Frees what the last removal left (invariant 7); an empty list also gives its slabs back. */
static void bury(struct rb_sublist *sublist)
{
    if (sublist->dead_group != NULL) {
        give(sublist, sublist->dead_group, group_bytes(sublist->dead_group->queue_len));
        sublist->dead_group = NULL;
    }
    if (sublist->dead_node == NULL) {
        return;
    }
    give(sublist, sublist->dead_node, node_bytes(sublist->dead_node->subject_len));
    sublist->dead_node = NULL;
    size_t bytes = 0;
    for (size_t i = 1; sublist->stats.node_count == 0 && i < CLASSES; i++) {
        bytes += sublist->pools[i].total_count * i * CLASS_STEP;
    }
    if (bytes > IDLE_POOL_BYTES) {
        deinit_pools(sublist);
        init_pools(sublist);
    }
}

static bool is_inside(struct rb_slice text, const void *block, size_t bytes)
{
    uintptr_t at = (uintptr_t)text.ptr, begin = (uintptr_t)block;
    return block != NULL && at >= begin && at < begin + bytes;
}

/** Buries unless an argument is what a removal has left readable; then the end of the call does. */
static void bury_unless(struct rb_sublist *sublist, struct rb_slice subject, struct rb_slice queue)
{
    struct rb_sub_node *node = sublist->dead_node;
    struct group *group = sublist->dead_group;
    size_t in_node = node == NULL ? 0 : node_bytes(node->subject_len);
    size_t in_group = group == NULL ? 0 : group_bytes(group->queue_len);
    if (!is_inside(subject, node, in_node) && !is_inside(subject, group, in_group) &&
        !is_inside(queue, node, in_node) && !is_inside(queue, group, in_group)) {
        bury(sublist);
    }
}

static struct group *ref_group(const struct rb_sub_ref *ref)
{
    uintptr_t place = (uintptr_t)ref->node;
    rb_assert(place != 0);
    return (place & 1) == 0 ? NULL : (struct group *)(place - 1);
}

static bool add_member(struct rb_sublist *sublist, struct rb_sub_node *node, struct rb_slice queue,
                       struct rb_sub_ref *ref)
{
    struct group *group = find_group(sublist, node_subject(node), queue);
    if (group == NULL) {
        group = make_group(sublist, node, queue);
    }
    if (group == NULL) {
        return false;
    }
    if (!refs_push(sublist, &group->refs, ref)) {
        drop_group_if_empty(sublist, group);
        return false;
    }
    ref->node = (struct rb_sub_node *)((uintptr_t)group | 1);
    return true;
}

static bool try_add(struct rb_sublist *sublist, struct rb_slice subject, bool wildcard,
                    struct rb_slice queue, struct rb_sub_ref *ref)
{
    struct rb_sub_node *node = find_node(sublist, subject, wildcard);
    if (node == NULL) {
        node = make_node(sublist, subject, wildcard);
    }
    if (node == NULL) {
        return false;
    }
    bool added =
        queue.len == 0 ? add_plain(sublist, node, ref) : add_member(sublist, node, queue, ref);
    if (!added) {
        drop_if_empty(sublist, node);
    }
    return added;
}

enum rb_err rb_sublist_add(struct rb_sublist *sublist, struct rb_slice subject,
                           struct rb_slice queue, struct rb_sub_ref *ref,
                           struct rb_interest_change *ret_change)
{
    rb_assert_slow(rb_subject_valid_sub(subject));
    bool wildcard = rb_subject_has_wildcard(subject);
    bury_unless(sublist, subject, queue);
    invalidate(sublist, subject, wildcard);
    bool added = try_add(sublist, subject, wildcard, queue, ref);
    if (!added && sublist->cache.count > 0) {
        flush_cache(sublist); /* subscriptions come before their cache */
        added = try_add(sublist, subject, wildcard, queue, ref);
    }
    bury(sublist);
    if (!added) {
        return RB_ERR_MEMORY;
    }
    sublist->stats.sub_count++;
    sublist->stats.insert_count++;
    struct group *group = ref_group(ref);
    if (group != NULL) {
        *ret_change = (struct rb_interest_change){ true, group->refs.count };
    } else {
        uint32_t count;
        node_plain(ref->node, &count);
        *ret_change = (struct rb_interest_change){ count == 1, 1 };
    }
    return RB_OK;
}

struct rb_slice rb_sublist_subject(const struct rb_sub_ref *ref)
{
    const struct group *group = ref_group(ref);
    return node_subject(group == NULL ? ref->node : group->node);
}

struct rb_slice rb_sublist_queue(const struct rb_sub_ref *ref)
{
    const struct group *group = ref_group(ref);
    return group == NULL ? rb_slice_of(NULL, 0) : group_queue(group);
}

void rb_sublist_remove(struct rb_sublist *sublist, struct rb_sub_ref *ref,
                       struct rb_interest_change *ret_change)
{
    bury(sublist);
    struct group *group = ref_group(ref);
    struct rb_sub_node *node = group == NULL ? ref->node : group->node;
    invalidate(sublist, node_subject(node), node->wildcard);
    if (group == NULL) {
        uint32_t count;
        remove_plain(sublist, node, ref);
        node_plain(node, &count);
        *ret_change = (struct rb_interest_change){ count == 0, count > 0 };
    } else {
        refs_pull(sublist, &group->refs, ref);
        *ret_change = (struct rb_interest_change){ true, group->refs.count };
        if (group_empty(group)) {
            unlink_group(sublist, group);
            sublist->dead_group = group;
        }
    }
    if (node->kind == NODE_NONE) {
        unlink_node(sublist, node);
        sublist->dead_node = node;
    }
    ref->node = NULL;
    sublist->stats.sub_count--;
    sublist->stats.remove_count++;
}

static bool try_remote(struct rb_sublist *sublist, struct rb_slice subject, bool wildcard,
                       struct rb_slice queue, uint32_t shard, uint32_t weight)
{
    struct rb_sub_node *node = find_node(sublist, subject, wildcard);
    if (node == NULL) {
        node = weight == 0 ? NULL : make_node(sublist, subject, wildcard);
        if (node == NULL) {
            return weight == 0;
        }
    }
    bool done;
    if (queue.len == 0) {
        uint64_t bit = UINT64_C(1) << shard;
        uint64_t mask = weight == 0 ? node_remote(node) & ~bit : node_remote(node) | bit;
        done = mask == node_remote(node) || set_node_remote(sublist, node, mask);
    } else {
        struct group *group = find_group(sublist, subject, queue);
        if (group == NULL && weight > 0) {
            group = make_group(sublist, node, queue);
        }
        done = group == NULL ? weight == 0 : set_group_remote(sublist, group, shard, weight);
        if (group != NULL) {
            drop_group_if_empty(sublist, group);
        }
    }
    drop_if_empty(sublist, node);
    return done;
}

enum rb_err rb_sublist_remote(struct rb_sublist *sublist, struct rb_slice subject,
                              struct rb_slice queue, uint32_t shard, uint32_t weight)
{
    rb_assert(shard < sublist->shard_count);
    rb_assert_slow(rb_subject_valid_sub(subject));
    bool wildcard = rb_subject_has_wildcard(subject);
    bury_unless(sublist, subject, queue);
    invalidate(sublist, subject, wildcard);
    bool done = try_remote(sublist, subject, wildcard, queue, shard, weight);
    if (!done && sublist->cache.count > 0) {
        flush_cache(sublist);
        done = try_remote(sublist, subject, wildcard, queue, shard, weight);
    }
    bury(sublist);
    return done ? RB_OK : RB_ERR_MEMORY;
}

bool rb_sublist_has(const struct rb_sublist *sublist, struct rb_slice subject,
                    struct rb_slice queue)
{
    if (queue.len > 0) {
        return find_group(sublist, subject, queue) != NULL;
    }
    const struct rb_sub_node *node =
        rb_map_find(&sublist->literals, rb_slice_hash(subject), subject);
    uint32_t count = 0;
    if (node != NULL) {
        (void)node_plain(node, &count);
    }
    return count > 0 || (node != NULL && node_remote(node) != 0);
}

/* ---- the whole list ---- */

enum rb_err rb_sublist_create(struct rb_budget *budget, uint32_t shard_count,
                              struct rb_sublist **ret_sublist)
{
    rb_assert(shard_count >= 1 && shard_count <= RB_SHARDS_MAX);
    struct rb_sublist *sublist = rb_alloc(budget, sizeof(*sublist));
    if (sublist == NULL) {
        return RB_ERR_MEMORY;
    }
    sublist->budget = budget;
    sublist->shard_count = shard_count;
    rb_map_init(&sublist->literals, budget, 0, node_equal, node_hash);
    rb_map_init(&sublist->edges, budget, 0, level_equal, level_hash);
    rb_map_init(&sublist->groups, budget, 0, group_equal, group_hash);
    init_pools(sublist);
    sublist->root = rb_alloc(budget, sizeof(struct level));
    if (sublist->root == NULL) {
        goto fail_root;
    }
    if (init_cache(sublist) != RB_OK) {
        goto fail_cache;
    }
    *ret_sublist = sublist;
    return RB_OK;
fail_cache:
    rb_free(budget, sublist->root, sizeof(struct level));
fail_root:
    rb_free(budget, sublist, sizeof(*sublist));
    return RB_ERR_MEMORY;
}

/** Frees a node and all that hangs on it, without regard for maps and links. */
static void free_node(struct rb_sublist *sublist, struct rb_sub_node *node)
{
    if (node == NULL) {
        return;
    }
    for (struct group *group = node_groups(node), *next; group != NULL; group = next) {
        next = group->next;
        refs_free(sublist, &group->refs);
        if (group->remote_cap > 0) {
            give(sublist, group->remotes.many, group->remote_cap * sizeof(struct rb_remote_weight));
        }
        give(sublist, group, group_bytes(group->queue_len));
    }
    if (node->kind == NODE_BODY) {
        refs_free(sublist, &node->body->plain);
        give(sublist, node->body, sizeof(*node->body));
    }
    give(sublist, node, node_bytes(node->subject_len));
}

/** Frees `level` with its nodes, and the levels that only star pointers lead to. */
static void free_levels(struct rb_sublist *sublist, struct level *level)
{
    while (level != NULL) {
        struct level *star = level->star;
        free_node(sublist, level->full);
        free_node(sublist, level->end);
        if (level != sublist->root) {
            give(sublist, level, level_bytes(level->token_len));
        }
        level = star;
    }
}

void rb_sublist_destroy(struct rb_sublist *sublist)
{
    if (sublist == NULL) {
        return;
    }
    struct rb_budget *budget = sublist->budget;
    deinit_cache(sublist);
    bury(sublist);
    uint32_t at = 0;
    for (void *node; (node = rb_map_next(&sublist->literals, &at)) != NULL;) {
        free_node(sublist, node);
    }
    at = 0;
    for (void *level; (level = rb_map_next(&sublist->edges, &at)) != NULL;) {
        free_levels(sublist, level);
    }
    free_levels(sublist, sublist->root);
    rb_map_deinit(&sublist->literals);
    rb_map_deinit(&sublist->edges);
    rb_map_deinit(&sublist->groups);
    deinit_pools(sublist);
    free_scratch(&sublist->found);
    free_scratch(&sublist->found_groups);
    free_scratch(&sublist->result);
    rb_free(budget, sublist->stack, sublist->stack_cap * sizeof(struct visit));
    rb_free(budget, sublist->root, sizeof(struct level));
    rb_free(budget, sublist, sizeof(*sublist));
}

void rb_sublist_stats(const struct rb_sublist *sublist, struct rb_sublist_stats *ret_stats)
{
    *ret_stats = sublist->stats;
    ret_stats->cache_count = sublist->cache.count;
}

void rb_sublist_fanout(const struct rb_sublist *sublist, uint32_t *ret_max, uint64_t *ret_sum,
                       uint64_t *ret_count)
{
    *ret_max = 0;
    *ret_sum = *ret_count = 0;
    for (uint32_t i = 0; i < CACHE_SLOTS; i++) {
        const struct entry *entry = sublist->cache.sets[i / CACHE_WAYS].entry[i % CACHE_WAYS];
        if (entry == NULL) {
            continue;
        }
        uint32_t fanout = entry->match.plain_count + entry->match.group_count;
        *ret_max = fanout > *ret_max ? fanout : *ret_max;
        *ret_sum += fanout;
        (*ret_count)++;
    }
}

static void visit_node(const struct rb_sub_node *node, rb_sublist_visit visit, void *ctx)
{
    if (node == NULL) {
        return;
    }
    uint32_t weight[RB_SHARDS_MAX], count;
    node_plain(node, &count);
    if (count > 0 || node_remote(node) != 0) {
        for (uint32_t shard = 0; shard < RB_SHARDS_MAX; shard++) {
            weight[shard] = node_remote(node) >> shard & 1;
        }
        visit(ctx, node_subject(node), rb_slice_of(NULL, 0), count, weight);
    }
    for (const struct group *group = node_groups(node); group != NULL; group = group->next) {
        memset(weight, 0, sizeof(weight));
        for (uint32_t i = 0; i < group->remote_count; i++) {
            weight[group_remotes(group)[i].shard] = group_remotes(group)[i].weight;
        }
        visit(ctx, node_subject(node), group_queue(group), group->refs.count, weight);
    }
}

static void visit_levels(const struct level *level, rb_sublist_visit visit, void *ctx)
{
    for (; level != NULL; level = level->star) {
        visit_node(level->full, visit, ctx);
        visit_node(level->end, visit, ctx);
    }
}

void rb_sublist_each(const struct rb_sublist *sublist, rb_sublist_visit visit, void *ctx)
{
    uint32_t at = 0;
    for (const void *node; (node = rb_map_next(&sublist->literals, &at)) != NULL;) {
        visit_node(node, visit, ctx);
    }
    visit_levels(sublist->root, visit, ctx);
    at = 0;
    for (const void *level; (level = rb_map_next(&sublist->edges, &at)) != NULL;) {
        visit_levels(level, visit, ctx);
    }
}
