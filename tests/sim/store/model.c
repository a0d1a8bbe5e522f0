/* model.c - see model.h. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"

void model_free(struct model *model)
{
    free(model->at);
    *model = (struct model){ .memory = model->memory, .first = 1 };
}

void model_copy(struct model *to, const struct model *from)
{
    free(to->at);
    *to = *from;
    to->cap = from->last;
    to->at = NULL;
    if (to->cap > 0) {
        to->at = malloc(to->cap * sizeof(*to->at));
        rb_assert(to->at != NULL);
        memcpy(to->at, from->at, to->cap * sizeof(*to->at));
    }
}

void model_skip(struct model *model, uint64_t seq)
{
    if (seq > model->cap) {
        model->cap = model->cap * 2 > seq ? model->cap * 2 : seq + 64;
        model->at = realloc(model->at, model->cap * sizeof(*model->at));
        rb_assert(model->at != NULL);
    }
    while (model->last < seq) {
        model->at[model->last++] = (struct model_message){ 0 };
    }
}

void model_append(struct model *model, uint64_t seq, const struct model_message *message)
{
    model_skip(model, seq);
    model->at[seq - 1] = *message;
    model->count++;
    model->bytes += model_counts(model, message);
}

void model_remove(struct model *model, uint64_t seq)
{
    rb_assert(model_has(model, seq));
    model->count--;
    model->bytes -= model_counts(model, &model->at[seq - 1]);
    model->at[seq - 1].id = 0;
}

bool model_has(const struct model *model, uint64_t seq)
{
    return seq >= 1 && seq <= model->last && model->at[seq - 1].id != 0;
}

uint64_t model_counts(const struct model *model, const struct model_message *message)
{
    char subject[64];
    uint64_t bytes = model_subject(message->subject, subject) + message->len;
    return model->memory ? bytes + 16 : bytes + 30 + (message->header_len > 0 ? 4 : 0);
}

uint32_t model_subject(uint8_t subject, char *out)
{
    return (uint32_t)snprintf(out, 64, "orders.%c.%u", 'a' + subject % 3, subject);
}

void model_body(uint8_t *out, uint64_t id, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        out[i] = i < 8 ? (uint8_t)(id >> (8 * i)) : (uint8_t)(id * 13 + i * 7);
    }
}
