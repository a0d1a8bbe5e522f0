/* perms.c - permission lists that answer quickly, however long they are.
 *
 * 1. An entry is filed under its literal beginning: the whole subject when it has no wildcard, else the tokens before the
 *    first wildcard with the dot behind them ("a.b." of "a.b.*.c", "" of ">"). Entries with the same beginning are a chain.
 *
 *        slots[hash of "a.b."] -> "a.b.*.c" -> "a.b.>" -> end        keys[i].next links, entries[i] is the text
 *
 *    An entry that matches a subject begins like it, so a lookup asks for the whole subject and for its beginnings of
 *    those depths that occur in the list; what it finds is then matched for good.
 * 2. Subscriptions: an allow entry must cover the whole subscription ("a.*" does not permit "a.>"); a deny entry is
 *    matched token by token with '*' and '>' as text, so that "a.*" denies "a.>" as nats-server does. A deny that
 *    overlaps otherwise filters each delivery.
 * 3. Publish answers are cached by subject text, each in the one place its hash gives. The cache begins small, on the
 *    first question, and doubles when it has replaced as many answers as it holds, up to CACHE_MAX. Without memory for
 *    it the lists are asked, and growth is tried again after RETRY questions.
 * 4. One block holds the struct, the copied entries, keys, slots and texts; the cache is another.
 */
#include "core/perms.h"

#include "proto/subject.h"

#define CACHE_MIN 8
#define CACHE_MAX 512
#define CACHE_TEXT_MAX 120 /* longer subjects are not cached */
#define RETRY 1024
#define END UINT32_MAX
#define DEEP 63 /* depths from here on share a bit */

struct key {
    uint32_t hash, next;
    uint32_t prefix_len;
};

struct list {
    const struct rb_perm_entry *entries;
    struct key *keys;
    uint32_t *slots;
    uint32_t count, slot_mask;
    bool set, has_literal;
    uint64_t depths; /* bit n: an entry has n literal tokens before its first wildcard */
};

struct answer {
    uint32_t tag;
    uint16_t len; /* 0: empty */
    bool allowed;
    uint8_t text[CACHE_TEXT_MAX];
};
_Static_assert(sizeof(struct answer) == 128, "an answer is two cache lines");

struct rb_perms {
    struct rb_budget *budget;
    uint32_t ref_count;
    bool publish_all;
    struct list publish_allow, publish_deny, subscribe_allow, subscribe_deny;
    struct answer *answers;
    uint32_t answer_mask, replaced, retry_wait;
    size_t bytes;
    struct rb_permissions source;
};

/* What entries say about one subject and queue. */
struct hits {
    bool plain;         /* an entry without queue */
    bool queued;        /* an entry with one */
    bool queue_matched; /* an entry whose queue fits */
};

enum how { AS_TEXT, COVERED };

static uint32_t hash_of(struct rb_slice s)
{
    return (uint32_t)rb_slice_hash(s);
}

static struct rb_slice prefix_of(const struct list *list, uint32_t index)
{
    return rb_slice_of(list->entries[index].subject.ptr, list->keys[index].prefix_len);
}

/* The literal beginning of `subject` (invariant 1) and how many tokens it has; whole for a literal. */
static size_t literal_prefix(struct rb_slice subject, uint32_t *ret_depth)
{
    struct rb_tokens tokens = rb_tokens_over(subject);
    struct rb_slice token;
    uint32_t depth = 0;
    while (rb_tokens_next(&tokens, &token)) {
        if (token.len == 1 && (token.ptr[0] == '*' || token.ptr[0] == '>')) {
            *ret_depth = depth;
            return (size_t)(token.ptr - subject.ptr);
        }
        depth++;
    }
    *ret_depth = depth;
    return subject.len;
}

/* The slot of `prefix`: its chain, or the free place where it would be. At most half of the slots are used. */
static uint32_t *find_slot(const struct list *list, uint32_t hash, struct rb_slice prefix)
{
    for (uint32_t at = hash & list->slot_mask;; at = (at + 1) & list->slot_mask) {
        uint32_t index = list->slots[at];
        if (index == END ||
            (list->keys[index].hash == hash && rb_slice_equal(prefix_of(list, index), prefix))) {
            return &list->slots[at];
        }
    }
}

static void file_entry(struct list *list, uint32_t index)
{
    struct rb_slice subject = list->entries[index].subject;
    uint32_t depth;
    size_t len = literal_prefix(subject, &depth);
    if (len == subject.len) {
        list->has_literal = true;
    } else {
        list->depths |= UINT64_C(1) << (depth < DEEP ? depth : DEEP);
    }
    struct rb_slice prefix = rb_slice_of(subject.ptr, len);
    struct key *key = &list->keys[index];
    key->hash = hash_of(prefix);
    key->prefix_len = (uint32_t)len;
    uint32_t *slot = find_slot(list, key->hash, prefix);
    key->next = *slot;
    *slot = index;
}

static bool entry_matches(struct rb_slice entry, struct rb_slice subject, enum how how)
{
    return how == COVERED ? rb_subject_subset(subject, entry) : rb_subject_match(entry, subject);
}

/* Looks at one chain; true when nothing further can change the outcome. */
static bool ask_chain(const struct list *list, struct rb_slice prefix, struct rb_slice subject,
                      struct rb_slice queue, enum how how, struct hits *hits)
{
    for (uint32_t i = *find_slot(list, hash_of(prefix), prefix); i != END; i = list->keys[i].next) {
        const struct rb_perm_entry *entry = &list->entries[i];
        if ((entry->queue.len > 0 && queue.len == 0) ||
            !entry_matches(entry->subject, subject, how)) {
            continue;
        }
        if (entry->queue.len == 0) {
            hits->plain = true;
        } else {
            hits->queued = true;
            hits->queue_matched = hits->queue_matched || rb_subject_match(entry->queue, queue);
        }
        if (hits->queue_matched || (hits->plain && queue.len == 0)) {
            return true;
        }
    }
    return false;
}

static struct hits ask_list(const struct list *list, struct rb_slice subject, struct rb_slice queue,
                            enum how how)
{
    struct hits hits = { 0 };
    if (list->count == 0) {
        return hits;
    }
    if (list->has_literal && ask_chain(list, subject, subject, queue, how, &hits)) {
        return hits;
    }
    uint64_t left = list->depths;
    uint32_t depth = 0;
    for (size_t at = 0; left != 0; depth++) {
        uint64_t bit = UINT64_C(1) << (depth < DEEP ? depth : DEEP);
        if ((left & bit) != 0 &&
            ask_chain(list, rb_slice_of(subject.ptr, at), subject, queue, how, &hits)) {
            return hits;
        }
        left &= depth < DEEP ? ~bit : UINT64_MAX;
        const uint8_t *dot =
            at == subject.len ? NULL : memchr(subject.ptr + at, '.', subject.len - at);
        if (dot == NULL) {
            break;
        }
        at = (size_t)(dot - subject.ptr) + 1;
    }
    return hits;
}

/* Creation */

static size_t align8(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

static uint32_t slots_for(uint32_t count)
{
    uint32_t slots = 2;
    while (slots < 2 * (uint64_t)count) {
        slots *= 2;
    }
    return slots;
}

static size_t list_bytes(const struct rb_perm_list *from)
{
    size_t bytes = align8(from->count * sizeof(struct rb_perm_entry)) +
                   align8(from->count * sizeof(struct key)) +
                   align8(slots_for(from->count) * sizeof(uint32_t));
    for (uint32_t i = 0; i < from->count; i++) {
        bytes += align8(from->entries[i].subject.len + from->entries[i].queue.len);
    }
    return bytes;
}

static void *take(uint8_t **at, size_t bytes)
{
    void *ptr = *at;
    *at += align8(bytes);
    return ptr;
}

static void copy_entry(struct rb_perm_entry *to, const struct rb_perm_entry *from, uint8_t **at)
{
    uint8_t *text = take(at, from->subject.len + from->queue.len);
    if (from->subject.len > 0) {
        memcpy(text, from->subject.ptr, from->subject.len);
    }
    if (from->queue.len > 0) {
        memcpy(text + from->subject.len, from->queue.ptr, from->queue.len);
    }
    to->subject = rb_slice_of(text, from->subject.len);
    to->queue = rb_slice_of(text + from->subject.len, from->queue.len);
}

/* `*copy` is the list of the permissions that rb_perms_source gives out. */
static void make_list(struct list *list, struct rb_perm_list *copy, const struct rb_perm_list *from,
                      uint8_t **at)
{
    uint32_t slots = slots_for(from->count);
    struct rb_perm_entry *entries = take(at, from->count * sizeof(*entries));
    list->entries = entries;
    list->keys = take(at, from->count * sizeof(struct key));
    list->slots = take(at, slots * sizeof(uint32_t));
    list->slot_mask = slots - 1;
    list->count = from->count;
    list->set = from->set;
    memset(list->slots, 0xff, slots * sizeof(uint32_t));
    for (uint32_t i = 0; i < from->count; i++) {
        copy_entry(&entries[i], &from->entries[i], at);
        file_entry(list, i);
    }
    *copy = (struct rb_perm_list){ .entries = entries, .count = from->count, .set = from->set };
}

enum rb_err rb_perms_create(struct rb_budget *budget, const struct rb_permissions *permissions,
                            struct rb_perms **ret_perms)
{
    size_t bytes = align8(sizeof(struct rb_perms)) + list_bytes(&permissions->publish_allow) +
                   list_bytes(&permissions->publish_deny) +
                   list_bytes(&permissions->subscribe_allow) +
                   list_bytes(&permissions->subscribe_deny);
    uint8_t *block = rb_alloc(budget, bytes);
    if (block == NULL) {
        return RB_ERR_MEMORY;
    }
    uint8_t *at = block;
    struct rb_perms *perms = take(&at, sizeof(*perms));
    struct rb_permissions *source = &perms->source;
    perms->budget = budget;
    perms->ref_count = 1;
    perms->bytes = bytes;
    *source = *permissions;
    make_list(&perms->publish_allow, &source->publish_allow, &permissions->publish_allow, &at);
    make_list(&perms->publish_deny, &source->publish_deny, &permissions->publish_deny, &at);
    make_list(&perms->subscribe_allow, &source->subscribe_allow, &permissions->subscribe_allow,
              &at);
    make_list(&perms->subscribe_deny, &source->subscribe_deny, &permissions->subscribe_deny, &at);
    rb_assert(at == block + bytes);
    perms->publish_all = !perms->publish_allow.set && perms->publish_deny.count == 0;
    *ret_perms = perms;
    return RB_OK;
}

struct rb_perms *rb_perms_hold(struct rb_perms *perms)
{
    perms->ref_count++;
    return perms;
}

static size_t cache_bytes(uint32_t answer_mask)
{
    return ((size_t)answer_mask + 1) * sizeof(struct answer);
}

void rb_perms_release(struct rb_perms *perms)
{
    if (perms == NULL) {
        return;
    }
    rb_assert(perms->ref_count > 0);
    if (--perms->ref_count > 0) {
        return;
    }
    rb_free(perms->budget, perms->answers, cache_bytes(perms->answer_mask));
    rb_free(perms->budget, perms, perms->bytes);
}

/* Publish */

static bool publish_allowed(const struct rb_perms *perms, struct rb_slice subject)
{
    struct rb_slice none = { NULL, 0 };
    if (perms->publish_allow.set &&
        !ask_list(&perms->publish_allow, subject, none, AS_TEXT).plain) {
        return false;
    }
    return !ask_list(&perms->publish_deny, subject, none, AS_TEXT).plain;
}

/* Invariant 3. Answers move to their new places; without memory all stays as it is. */
static void grow_cache(struct rb_perms *perms)
{
    uint32_t old_cap = perms->answers == NULL ? 0 : perms->answer_mask + 1;
    uint32_t cap = old_cap == 0 ? CACHE_MIN : 2 * old_cap;
    perms->replaced = 0;
    struct answer *answers = rb_alloc(perms->budget, cache_bytes(cap - 1));
    if (answers == NULL) {
        perms->retry_wait = RETRY;
        return;
    }
    for (uint32_t i = 0; i < old_cap; i++) {
        const struct answer *answer = &perms->answers[i];
        if (answer->len > 0) {
            answers[answer->tag & (cap - 1)] = *answer;
        }
    }
    rb_free(perms->budget, perms->answers, cache_bytes(perms->answer_mask));
    perms->answers = answers;
    perms->answer_mask = cap - 1;
}

static void remember(struct rb_perms *perms, uint32_t tag, struct rb_slice subject, bool allowed)
{
    if (perms->retry_wait > 0) {
        perms->retry_wait--;
    } else if (perms->answers == NULL ||
               (perms->replaced > perms->answer_mask && perms->answer_mask + 1 < CACHE_MAX)) {
        grow_cache(perms);
    }
    if (perms->answers == NULL) {
        return;
    }
    struct answer *answer = &perms->answers[tag & perms->answer_mask];
    perms->replaced += answer->len > 0 ? 1 : 0;
    answer->tag = tag;
    answer->len = (uint16_t)subject.len;
    answer->allowed = allowed;
    memcpy(answer->text, subject.ptr, subject.len);
}

bool rb_perms_publish(struct rb_perms *perms, struct rb_slice subject)
{
    if (perms == NULL || perms->publish_all) {
        return true;
    }
    if (subject.len == 0 || subject.len > CACHE_TEXT_MAX) {
        return publish_allowed(perms, subject);
    }
    uint32_t tag = hash_of(subject);
    if (perms->answers != NULL) {
        const struct answer *answer = &perms->answers[tag & perms->answer_mask];
        if (answer->tag == tag && answer->len == subject.len &&
            memcmp(answer->text, subject.ptr, subject.len) == 0) {
            return answer->allowed;
        }
    }
    bool allowed = publish_allowed(perms, subject);
    remember(perms, tag, subject, allowed);
    return allowed;
}

/* Subscribe */

/* A plain subscription needs an entry without queue. A queue subscription does too, unless entries with a queue match
 * its subject: then one of those must match its queue. */
static bool subscribe_allowed(const struct list *allow, struct rb_slice subject,
                              struct rb_slice queue)
{
    if (!allow->set) {
        return true;
    }
    struct hits hits = ask_list(allow, subject, queue, COVERED);
    return hits.queued ? hits.queue_matched : hits.plain;
}

static bool subscribe_denied(const struct list *deny, struct rb_slice subject,
                             struct rb_slice queue)
{
    struct hits hits = ask_list(deny, subject, queue, AS_TEXT);
    return hits.plain || hits.queue_matched;
}

/* For wildcard subscriptions only, so a walk over the list will do. */
static bool deny_overlaps(const struct list *deny, struct rb_slice subject, struct rb_slice queue)
{
    for (uint32_t i = 0; i < deny->count; i++) {
        const struct rb_perm_entry *entry = &deny->entries[i];
        bool applies =
            entry->queue.len == 0 || (queue.len > 0 && rb_subject_match(entry->queue, queue));
        if (applies && rb_subject_overlap(entry->subject, subject)) {
            return true;
        }
    }
    return false;
}

enum rb_perms_sub rb_perms_subscribe(struct rb_perms *perms, struct rb_slice subject,
                                     struct rb_slice queue)
{
    if (perms == NULL) {
        return RB_SUB_ALLOWED;
    }
    if (!subscribe_allowed(&perms->subscribe_allow, subject, queue) ||
        subscribe_denied(&perms->subscribe_deny, subject, queue)) {
        return RB_SUB_DENIED;
    }
    return rb_subject_has_wildcard(subject) && deny_overlaps(&perms->subscribe_deny, subject, queue)
               ? RB_SUB_FILTERED
               : RB_SUB_ALLOWED;
}

bool rb_perms_deliver(struct rb_perms *perms, struct rb_slice subject, struct rb_slice queue)
{
    return perms == NULL || !subscribe_denied(&perms->subscribe_deny, subject, queue);
}

/* What it is made of */

bool rb_perms_responses(const struct rb_perms *perms, int64_t *ret_max, int64_t *ret_ttl_ns)
{
    if (perms == NULL || !perms->source.responses) {
        return false;
    }
    *ret_max = perms->source.responses_max;
    *ret_ttl_ns = perms->source.responses_ttl_ns;
    return true;
}

const struct rb_permissions *rb_perms_source(const struct rb_perms *perms)
{
    return perms == NULL ? NULL : &perms->source;
}

static bool lists_equal(const struct rb_perm_list *a, const struct rb_perm_list *b)
{
    if (a->set != b->set || a->count != b->count) {
        return false;
    }
    for (uint32_t i = 0; i < a->count; i++) {
        if (!rb_slice_equal(a->entries[i].subject, b->entries[i].subject) ||
            !rb_slice_equal(a->entries[i].queue, b->entries[i].queue)) {
            return false;
        }
    }
    return true;
}

bool rb_permissions_equal(const struct rb_permissions *a, const struct rb_permissions *b)
{
    if (a == NULL || b == NULL) {
        return a == b;
    }
    bool responses_equal = a->responses == b->responses &&
                           (!a->responses || (a->responses_max == b->responses_max &&
                                              a->responses_ttl_ns == b->responses_ttl_ns));
    return responses_equal && lists_equal(&a->publish_allow, &b->publish_allow) &&
           lists_equal(&a->publish_deny, &b->publish_deny) &&
           lists_equal(&a->subscribe_allow, &b->subscribe_allow) &&
           lists_equal(&a->subscribe_deny, &b->subscribe_deny);
}
