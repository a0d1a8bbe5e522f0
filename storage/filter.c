/* filter.c - filters against subjects and against the tree of subjects.
 *
 * 1. A filter is read from left to right without going back: `*` stands for the whole token, and no token is empty, so a
 *    position in the filter is all there is to know. The walk keeps it for each node on its way.
 * 2. The walk goes down only where the state lives, and where the filter wants one byte it looks up that byte.
 */
#include "storage/filter.h"

#include <string.h>

bool rb_filter_everything(struct rb_slice filter)
{
    return filter.len == 0 || (filter.len == 1 && filter.ptr[0] == '>');
}

/* The byte of the filter that is a wildcard at `pos`, else 0. */
static uint8_t wildcard_at(struct rb_slice filter, size_t pos)
{
    if (pos >= filter.len || (pos > 0 && filter.ptr[pos - 1] != '.')) {
        return 0;
    }
    uint8_t byte = filter.ptr[pos];
    if (byte == '*' && (pos + 1 == filter.len || filter.ptr[pos + 1] == '.')) {
        return byte;
    }
    return byte == '>' && pos + 1 == filter.len ? byte : 0;
}

static bool has_wildcard(struct rb_slice filter, const char *among)
{
    for (size_t pos = 0; pos < filter.len; pos++) {
        uint8_t wildcard = wildcard_at(filter, pos);
        if (wildcard != 0 && strchr(among, wildcard) != NULL) {
            return true;
        }
    }
    return false;
}

bool rb_filter_is_literal(struct rb_slice filter)
{
    return filter.len > 0 && !has_wildcard(filter, "*>");
}

bool rb_filter_is_plain(struct rb_slice filter)
{
    return !has_wildcard(filter, "*");
}

rb_filter_state rb_filter_step(struct rb_slice filter, rb_filter_state state, const uint8_t *bytes,
                               size_t len)
{
    size_t pos = state / 2;
    bool had = state & 1;
    for (size_t i = 0; i < len; i++) {
        uint8_t wildcard = wildcard_at(filter, pos);
        if (wildcard == '>') {
            return (rb_filter_state)(pos * 2 + 1);
        }
        if (wildcard == '*' && (bytes[i] != '.' || !had)) {
            had = true;
            continue;
        }
        pos += wildcard == '*';
        if (pos >= filter.len || filter.ptr[pos] != bytes[i]) {
            return RB_FILTER_DEAD;
        }
        pos++;
        had = false;
    }
    return (rb_filter_state)(pos * 2 + had);
}

bool rb_filter_accepts(struct rb_slice filter, rb_filter_state state)
{
    size_t pos = state / 2;
    if (pos == filter.len) {
        return true;
    }
    return (state & 1) != 0 && pos + 1 == filter.len;
}

bool rb_filter_open(struct rb_slice filter, rb_filter_state state)
{
    return wildcard_at(filter, state / 2) == '>';
}

bool rb_filter_matches(struct rb_slice filter, struct rb_slice subject)
{
    if (rb_filter_everything(filter)) {
        return true;
    }
    if (filter.len > RB_MSGSTORE_SUBJECT_MAX) {
        return false;
    }
    rb_filter_state state = rb_filter_step(filter, 0, subject.ptr, subject.len);
    return state != RB_FILTER_DEAD && rb_filter_accepts(filter, state);
}

bool rb_filter_overlap(struct rb_slice a, struct rb_slice b)
{
    size_t i = 0;
    size_t j = 0;
    if (rb_filter_everything(a) || rb_filter_everything(b)) {
        return true;
    }
    while (i < a.len && j < b.len) {
        uint8_t wild_a = wildcard_at(a, i);
        uint8_t wild_b = wildcard_at(b, j);
        if (wild_a == '>' || wild_b == '>') {
            return true;
        }
        if (wild_a == 0 && wild_b == 0) {
            if (a.ptr[i++] != b.ptr[j++]) {
                return false;
            }
            continue;
        }
        while (i < a.len && a.ptr[i] != '.') {
            i++;
        }
        while (j < b.len && b.ptr[j] != '.') {
            j++;
        }
    }
    return i == a.len && j == b.len;
}

/* ---- the walk ---- */

static void push(struct rb_filter_walk *walk, uint32_t node, uint32_t at, rb_filter_state state)
{
    rb_assert(walk->depth < RB_FILTER_WALK_MAX);
    walk->places[walk->depth++] =
        (struct rb_filter_place){ .node = node, .at = (uint16_t)at, .state = state };
    const struct rb_subjects_node *n = rb_pages_at(walk->pages, node);
    if (n->kind < RB_SUBJECTS_DIRECT && wildcard_at(walk->filter, state / 2) != 0) {
        for (uint32_t i = 0; i < rb_subjects_key_count(n); i++) { /* all of them come soon */
            __builtin_prefetch(rb_pages_at(walk->pages, n->children[i]));
        }
    }
}

void rb_filter_walk_begin(struct rb_filter_walk *walk, const struct rb_pages *pages, uint32_t root,
                          struct rb_slice filter)
{
    walk->pages = pages;
    walk->filter = filter.len == 0 ? RB_S(">") : filter;
    walk->depth = 0;
    if (filter.len <=
        RB_MSGSTORE_SUBJECT_MAX) { /* a longer one has more tokens than a subject has bytes */
        push(walk, root, 0, 0);
    }
}

void rb_filter_walk_seek(struct rb_filter_walk *walk, struct rb_slice after)
{
    size_t pos = 0;
    while (walk->depth > 0) {
        struct rb_filter_place *place = &walk->places[walk->depth - 1];
        const struct rb_subjects_node *node = rb_pages_at(walk->pages, place->node);
        if (pos == after.len) {
            place->at = 1;
            return;
        }
        uint32_t at = rb_subjects_place(node, after.ptr[pos]);
        uint32_t child = rb_subjects_child(node, after.ptr[pos], &at);
        place->at = (uint16_t)(at + 1);
        if (child == 0) {
            return;
        }
        const struct rb_subjects_head *head = rb_pages_at(walk->pages, child);
        const uint8_t *prefix = rb_subjects_prefix(head);
        size_t len = head->prefix_len < after.len - pos ? head->prefix_len : after.len - pos;
        int order = memcmp(prefix, after.ptr + pos, len);
        bool is_leaf = rb_subjects_is_leaf(head);
        if (order > 0 || (order == 0 && len < head->prefix_len)) {
            return; /* all of it lies behind */
        }
        place->at++;
        if (order < 0 || is_leaf) {
            return; /* all of it lies before, or is the subject itself */
        }
        rb_filter_state state = rb_filter_step(walk->filter, place->state, prefix, len);
        if (state == RB_FILTER_DEAD) {
            return;
        }
        pos += len;
        push(walk, child, 0, state);
    }
}

/* The next child of the place that could match; 0: none. */
static uint32_t next_child(const struct rb_filter_walk *walk, struct rb_filter_place *place,
                           const struct rb_subjects_node *node)
{
    size_t pos = place->state / 2;
    uint32_t at = place->at - 1u;
    if (wildcard_at(walk->filter, pos) == 0) { /* invariant 2 */
        place->at = UINT16_MAX;
        uint32_t found;
        uint32_t child =
            pos < walk->filter.len ? rb_subjects_child(node, walk->filter.ptr[pos], &found) : 0;
        return child != 0 && found >= at ? child : 0;
    }
    uint32_t child = rb_subjects_child_from(node, &at);
    place->at = (uint16_t)(at + 2);
    return child;
}

static uint64_t messages_of(const struct rb_pages *pages, uint32_t handle)
{
    const struct rb_subjects_head *head = rb_pages_at(pages, handle);
    if (!rb_subjects_is_leaf(head)) {
        return ((const struct rb_subjects_node *)head)->messages;
    }
    struct rb_subjects_leaf leaf;
    rb_subjects_leaf(pages, handle, &leaf);
    return leaf.count;
}

uint32_t rb_filter_walk_next(struct rb_filter_walk *walk, uint64_t *ret_messages)
{
    while (walk->depth > 0) {
        struct rb_filter_place *place = &walk->places[walk->depth - 1];
        const struct rb_subjects_node *node = rb_pages_at(walk->pages, place->node);
        uint32_t child;
        if (place->at == 0) {
            if (ret_messages != NULL && rb_filter_open(walk->filter, place->state)) {
                *ret_messages = node->messages;
                walk->depth--;
                return place->node;
            }
            place->at = 1;
            child = rb_subjects_end(node);
            if (child == 0 || !rb_filter_accepts(walk->filter, place->state)) {
                continue;
            }
        } else {
            child = next_child(walk, place, node);
            if (child == 0) {
                walk->depth--;
                continue;
            }
            const struct rb_subjects_head *head = rb_pages_at(walk->pages, child);
            rb_filter_state state = rb_filter_step(walk->filter, place->state,
                                                   rb_subjects_prefix(head), head->prefix_len);
            if (state == RB_FILTER_DEAD) {
                continue;
            }
            if (!rb_subjects_is_leaf(head)) {
                push(walk, child, 0, state);
                continue;
            }
            if (!rb_filter_accepts(walk->filter, state)) {
                continue;
            }
        }
        if (ret_messages != NULL) {
            *ret_messages = messages_of(walk->pages, child);
        }
        return child;
    }
    return 0;
}
