/* model.c - see model.h. */
#include "model.h"

#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"

void model_free(struct model_state *state)
{
    for (uint32_t i = 0; i < MODEL_GROUPS; i++) {
        free(state->groups[i].entries);
    }
    *state = (struct model_state){ 0 };
}

void model_copy(struct model_state *to, const struct model_state *from)
{
    model_free(to);
    *to = *from;
    for (uint32_t i = 0; i < MODEL_GROUPS; i++) {
        struct model_group *g = &to->groups[i];
        g->cap = (uint32_t)(g->last - g->base);
        g->entries = NULL;
        if (g->cap > 0) {
            g->entries = malloc(g->cap * sizeof(*g->entries));
            rb_assert(g->entries != NULL);
            memcpy(g->entries, from->groups[i].entries, g->cap * sizeof(*g->entries));
        }
    }
}

void model_push(struct model_group *g, struct model_item item)
{
    uint64_t count = g->last - g->base;
    if (count == g->cap) {
        g->cap = g->cap == 0 ? 8 : g->cap * 2;
        g->entries = realloc(g->entries, g->cap * sizeof(*g->entries));
        rb_assert(g->entries != NULL);
    }
    g->entries[count] = item;
    g->last++;
}

uint64_t model_last_term(const struct model_group *g)
{
    return g->last == g->base ? g->base_term : g->entries[g->last - g->base - 1].term;
}

static void drop_prefix(struct model_group *g, uint64_t through, uint64_t term)
{
    if (through >= g->last) {
        g->last = through;
    } else {
        uint64_t gone = through - g->base;
        memmove(g->entries, g->entries + gone, (g->last - through) * sizeof(*g->entries));
    }
    g->base = through;
    g->base_term = term;
}

void model_apply(struct model_state *state, const struct model_op *op)
{
    struct model_group *g = &state->groups[op->group];
    struct model_item item = { op->id, op->term, op->len };
    switch (op->kind) {
    case RB_WAL_ENTRY:
        rb_assert(op->index == g->last + 1);
        g->exists = true;
        model_push(g, item);
        break;
    case RB_WAL_STATE:
        g->exists = true;
        g->states[op->type][op->index] = item;
        break;
    case RB_WAL_STATE_REMOVE:
        g->states[op->type][op->index] = (struct model_item){ 0 };
        break;
    case RB_WAL_TRUNCATE:
        g->last = op->index - 1;
        break;
    case RB_WAL_PREFIX:
        g->exists = true;
        drop_prefix(g, op->index, op->term);
        break;
    case RB_WAL_GROUP_DROP:
        free(g->entries);
        *g = (struct model_group){ 0 };
        break;
    }
    g->exists = g->last > 0; /* a group that holds nothing does not exist */
    for (uint32_t i = 0; i < MODEL_TYPES * MODEL_KEYS; i++) {
        g->exists = g->exists || (&g->states[0][0] + i)->id != 0;
    }
}

static bool items_equal(const struct model_item *a, const struct model_item *b)
{
    return a->id == b->id && a->term == b->term && a->len == b->len;
}

static bool groups_equal(const struct model_group *a, const struct model_group *b)
{
    if (a->exists != b->exists || a->base != b->base || a->base_term != b->base_term ||
        a->last != b->last) {
        return false;
    }
    for (uint64_t i = 0; i < a->last - a->base; i++) {
        if (!items_equal(&a->entries[i], &b->entries[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < MODEL_TYPES * MODEL_KEYS; i++) {
        if (!items_equal(&a->states[0][0] + i, &b->states[0][0] + i)) {
            return false;
        }
    }
    return true;
}

bool model_equal(const struct model_state *a, const struct model_state *b)
{
    for (uint32_t i = 0; i < MODEL_GROUPS; i++) {
        if (!groups_equal(&a->groups[i], &b->groups[i])) {
            return false;
        }
    }
    return true;
}

void model_body(uint8_t *out, uint64_t id, uint32_t len)
{
    rb_assert(len >= MODEL_BODY_MIN);
    memcpy(out, &id, sizeof(id));
    for (uint32_t i = MODEL_BODY_MIN; i < len; i++) {
        out[i] = (uint8_t)(id * 13 + i * 7);
    }
}

uint64_t model_read_body(struct rb_slice body)
{
    uint64_t id;
    if (body.len < MODEL_BODY_MIN) {
        return 0;
    }
    memcpy(&id, body.ptr, sizeof(id));
    for (size_t i = MODEL_BODY_MIN; i < body.len; i++) {
        if (body.ptr[i] != (uint8_t)(id * 13 + i * 7)) {
            return 0;
        }
    }
    return id;
}
