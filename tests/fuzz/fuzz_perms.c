/* fuzz_perms.c - an allow list and a deny list ("subject queue,subject,..."; "!" for none), then questions "subject
 * queue", a line each. All answers must be those of the slow and plain code here, the second time too. */
#include "core/perms.h"
#include "proto/subject.h"
#include "ringbus/check.h"

#define ENTRIES_MAX 64
#define TOKENS_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct split {
    struct rb_slice tokens[TOKENS_MAX];
    int count;
};

static struct rb_slice cut(struct rb_slice *rest, uint8_t at)
{
    const uint8_t *found = rest->len == 0 ? NULL : memchr(rest->ptr, at, rest->len);
    size_t len = found == NULL ? rest->len : (size_t)(found - rest->ptr);
    struct rb_slice piece = rb_slice_of(rest->ptr, len);
    size_t taken = found == NULL ? len : len + 1;
    *rest = rb_slice_of(taken == 0 ? rest->ptr : rest->ptr + taken, rest->len - taken);
    return piece;
}

static bool is(struct rb_slice token, const char *want)
{
    return rb_slice_equal(token, rb_slice_text(want));
}

/* False: an empty token, or too many. */
static bool split(struct rb_slice s, struct split *ret)
{
    ret->count = 0;
    for (size_t begin = 0, at = 0; at <= s.len; at++) {
        if (at == s.len || s.ptr[at] == '.') {
            if (at == begin || ret->count == TOKENS_MAX) {
                return false;
            }
            ret->tokens[ret->count++] = rb_slice_of(s.ptr + begin, at - begin);
            begin = at + 1;
        }
    }
    return true;
}

/* `covered`: a '>' in the subject means more than one token, not a token that is called so. */
static bool matches(struct rb_slice pattern, struct rb_slice subject, bool covered)
{
    struct split p, s;
    if (!split(pattern, &p) || !split(subject, &s)) {
        return false;
    }
    for (int i = 0; i < p.count; i++) {
        if (i >= s.count) {
            return false;
        }
        if (is(p.tokens[i], ">")) {
            return true;
        }
        if (covered && is(s.tokens[i], ">")) {
            return false;
        }
        if (!is(p.tokens[i], "*") && !rb_slice_equal(p.tokens[i], s.tokens[i])) {
            return false;
        }
    }
    return p.count == s.count;
}

/* Do two patterns have a literal in common? Tried with the letters that either asks for. */
static bool overlap(struct rb_slice a, struct rb_slice b)
{
    struct split p, q;
    if (!split(a, &p) || !split(b, &q)) {
        return false;
    }
    for (int i = 0;; i++) {
        if (i == p.count || i == q.count) {
            return p.count == q.count;
        }
        if (is(p.tokens[i], ">") || is(q.tokens[i], ">")) {
            return true;
        }
        if (!is(p.tokens[i], "*") && !is(q.tokens[i], "*") &&
            !rb_slice_equal(p.tokens[i], q.tokens[i])) {
            return false;
        }
    }
}

static bool usable(struct rb_slice s)
{
    struct split tokens;
    return rb_subject_valid_sub(s) && split(s, &tokens);
}

static struct rb_perm_list parse_list(struct rb_slice line, struct rb_perm_entry *entries)
{
    struct rb_perm_list list = { .entries = entries, .set = !is(line, "!") };
    while (list.set && line.len > 0 && list.count < ENTRIES_MAX) {
        struct rb_slice queue = cut(&line, ',');
        struct rb_slice subject = cut(&queue, ' ');
        if (usable(subject) && (queue.len == 0 || usable(queue))) {
            entries[list.count++] = (struct rb_perm_entry){ subject, queue };
        }
    }
    return list;
}

static bool denied(const struct rb_perm_list *deny, struct rb_slice subject, struct rb_slice queue)
{
    for (uint32_t i = 0; i < deny->count; i++) {
        const struct rb_perm_entry *entry = &deny->entries[i];
        if (matches(entry->subject, subject, false) &&
            (entry->queue.len == 0 || (queue.len > 0 && matches(entry->queue, queue, false)))) {
            return true;
        }
    }
    return false;
}

static bool may_publish(const struct rb_permissions *p, struct rb_slice subject)
{
    bool allowed = !p->publish_allow.set;
    for (uint32_t i = 0; i < p->publish_allow.count; i++) {
        const struct rb_perm_entry *entry = &p->publish_allow.entries[i];
        allowed = allowed || (entry->queue.len == 0 && matches(entry->subject, subject, false));
    }
    return allowed && !denied(&p->publish_deny, subject, RB_S(""));
}

static enum rb_perms_sub may_subscribe(const struct rb_permissions *p, struct rb_slice subject,
                                       struct rb_slice queue)
{
    bool plain = false, queued = false, fits = false, filtered = false;
    for (uint32_t i = 0; i < p->subscribe_allow.count; i++) {
        const struct rb_perm_entry *entry = &p->subscribe_allow.entries[i];
        bool hit = matches(entry->subject, subject, true);
        plain = plain || (hit && entry->queue.len == 0);
        queued = queued || (hit && entry->queue.len > 0);
        fits = fits || (hit && entry->queue.len > 0 && matches(entry->queue, queue, false));
    }
    bool allowed = queue.len > 0 && queued ? fits : plain;
    if ((p->subscribe_allow.set && !allowed) || denied(&p->subscribe_deny, subject, queue)) {
        return RB_SUB_DENIED;
    }
    for (uint32_t i = 0; i < p->subscribe_deny.count; i++) {
        const struct rb_perm_entry *entry = &p->subscribe_deny.entries[i];
        filtered =
            filtered ||
            ((entry->queue.len == 0 || (queue.len > 0 && matches(entry->queue, queue, false))) &&
             overlap(entry->subject, subject));
    }
    return filtered && rb_subject_has_wildcard(subject) ? RB_SUB_FILTERED : RB_SUB_ALLOWED;
}

static void ask(struct rb_perms *perms, const struct rb_permissions *p, struct rb_slice subject,
                struct rb_slice queue)
{
    struct split tokens;
    bool whole = split(subject, &tokens);
    bool bounded = rb_subject_token_count(subject) <= TOKENS_MAX &&
                   rb_subject_token_count(queue) <= TOKENS_MAX;
    if (!bounded) {
        (void)rb_perms_publish(perms, subject);
        return;
    }
    bool want = may_publish(p, subject);
    rb_assert(rb_perms_publish(perms, subject) == want);
    rb_assert(rb_perms_publish(perms, subject) == want);
    if (whole && rb_subject_valid_sub(subject)) {
        rb_assert(rb_perms_subscribe(perms, subject, queue) == may_subscribe(p, subject, queue));
    }
    rb_assert(rb_perms_deliver(perms, subject, queue) ==
              !denied(&p->subscribe_deny, subject, queue));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rb_perm_entry allow[ENTRIES_MAX], deny[ENTRIES_MAX];
    struct rb_budget budget = { 0 };
    struct rb_perms *perms = NULL;
    struct rb_slice rest = rb_slice_of(data, size);
    struct rb_permissions permissions = { 0 };
    permissions.publish_allow = parse_list(cut(&rest, '\n'), allow);
    permissions.publish_deny = parse_list(cut(&rest, '\n'), deny);
    permissions.subscribe_allow = permissions.publish_allow;
    permissions.subscribe_deny = permissions.publish_deny;
    /* A publish list has no queues in a policy; here an entry with one matches no publish. */
    rb_assert(rb_perms_create(&budget, &permissions, &perms) == RB_OK);
    rb_assert(rb_permissions_equal(rb_perms_source(perms), &permissions));
    for (int i = 0; i < 64 && rest.len > 0; i++) {
        struct rb_slice queue = cut(&rest, '\n');
        struct rb_slice subject = cut(&queue, ' ');
        ask(perms, &permissions, subject, queue);
    }
    rb_perms_release(perms);
    rb_assert(budget.used_bytes == 0);
    return 0;
}
