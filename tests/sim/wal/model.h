/* model.h - what a log must hold: every write that was accepted, in order, and the state after any number of them. */
#pragma once

#include "ringbus/storage.h"

#define MODEL_GROUPS 4
#define MODEL_TYPES 2
#define MODEL_KEYS 4
#define MODEL_BODY_MIN 8

/** One accepted write. Its number says what its body holds. */
struct model_op {
    uint64_t id; /* unique in the seed, from 1 */
    enum rb_wal_record_kind kind;
    uint8_t type;
    uint32_t group, len; /* group: 0 .. MODEL_GROUPS - 1 */
    uint64_t index, term;
};

/** An entry or state: which write it came from; 0: none (a state), or lost (an entry). */
struct model_item {
    uint64_t id, term;
    uint32_t len;
};

struct model_group {
    bool exists;
    uint64_t base, base_term, last;
    struct model_item *entries; /* base + 1 .. last */
    uint32_t cap;
    struct model_item states[MODEL_TYPES][MODEL_KEYS];
};

struct model_state {
    struct model_group groups[MODEL_GROUPS];
};

void model_free(struct model_state *state);
void model_copy(struct model_state *to, const struct model_state *from);
void model_apply(struct model_state *state, const struct model_op *op);
bool model_equal(const struct model_state *a, const struct model_state *b);
/** Room for one more at the end. */
void model_push(struct model_group *group, struct model_item item);
uint64_t model_last_term(const struct model_group *group);
/** Fills `len` bytes that say `id`. */
void model_body(uint8_t *out, uint64_t id, uint32_t len);
/** The id in a body; 0 when it is not one of ours, whole. */
uint64_t model_read_body(struct rb_slice body);
