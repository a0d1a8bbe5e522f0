/* model.h - what a message store must hold, as a list. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MODEL_SUBJECTS 12

struct model_message {
    uint64_t id; /* of the append it came from, unique in the seed; 0: gone */
    uint64_t time_ns;
    uint32_t len, header_len;
    uint8_t subject;
};

struct model {
    struct model_message *at; /* at[seq - 1] */
    uint64_t last, cap;
    uint64_t first; /* what was below is gone for good */
    uint64_t count, bytes;
    bool memory;
};

void model_free(struct model *model);
void model_copy(struct model *to, const struct model *from);
/** Makes room up to `seq`; those in between do not exist. */
void model_skip(struct model *model, uint64_t seq);
void model_append(struct model *model, uint64_t seq, const struct model_message *message);
void model_remove(struct model *model, uint64_t seq);
bool model_has(const struct model *model, uint64_t seq);
uint64_t model_counts(const struct model *model, const struct model_message *message);
/** Subject number `subject`, its length. out: 64 bytes. */
uint32_t model_subject(uint8_t subject, char *out);
/** Fills `len` bytes that say `id`. */
void model_body(uint8_t *out, uint64_t id, uint32_t len);
