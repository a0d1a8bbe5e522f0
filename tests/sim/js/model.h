/* model.h - what a stream must hold: a list, and what becomes of it with each operation. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MODEL_MESSAGES 6000 /* sequences and published numbers of one seed */
#define MODEL_SUBJECTS 6
#define BATCH_MAX 4

/** One published message, by its number. */
struct model_publish {
    uint32_t stream, key; /* key: its Nats-Msg-Id; 0: none */
    uint32_t len;
    uint8_t subject, ttl_s;
    uint64_t time_ns, seq; /* seq: once confirmed or seen */
    bool dead;             /* refused, or lost in flight: it must not be there */
};

enum op_kind { OP_PUBLISH, OP_BATCH, OP_DELETE, OP_PURGE };
/** One operation, in the order of the calls. */
struct model_op {
    enum op_kind kind;
    uint32_t first, count;  /* publishes */
    uint64_t seq, keep;     /* DELETE, PURGE */
    int subject;            /* PURGE; -1: all */
    bool answered, refused; /* refused: it never took place */
    bool failed;            /* what was answered */
    bool duplicate;
    uint64_t said; /* sequence, or number purged */
};
/** What the model says that the answer must be. */
struct model_answer {
    bool failed, duplicate;
    uint64_t said;
};

struct model {
    uint32_t at[MODEL_MESSAGES + 1]; /* by sequence: number of the publish, 0 gone */
    uint64_t last, count;
    uint64_t seq_of_key[MODEL_MESSAGES + 1];
    /* configuration */
    uint64_t max_msgs, max_per_subject;
    bool discard_new;
};

void model_apply(struct model *model, const struct model_publish *publishes,
                 const struct model_op *op, struct model_answer *ret_answer);
uint64_t model_first(const struct model *model);
/** Length of the body of a number; fills out. */
void model_body(char *out, uint32_t number, uint32_t len);
