/* model.c - a stream with limits as a list. */
#include "model.h"

#include <stdio.h>
#include <string.h>

#include "ringbus/check.h"

static void take_away(struct model *m, uint64_t seq)
{
    m->count -= m->at[seq] != 0;
    m->at[seq] = 0;
}

uint64_t model_first(const struct model *m)
{
    uint64_t seq = 1;
    while (seq <= m->last && m->at[seq] == 0) {
        seq++;
    }
    return seq;
}

static uint64_t of_subject(const struct model *m, const struct model_publish *publishes,
                           int subject, uint64_t *ret_first)
{
    uint64_t count = 0;
    for (uint64_t seq = m->last; seq > 0; seq--) {
        if (m->at[seq] != 0 && publishes[m->at[seq]].subject == subject) {
            count++;
            *ret_first = seq;
        }
    }
    return count;
}

static void store(struct model *m, const struct model_publish *publishes, uint32_t number)
{
    uint64_t first = 0;
    rb_assert(m->last < MODEL_MESSAGES);
    m->at[++m->last] = number;
    m->count++;
    if (m->max_per_subject > 0 &&
        of_subject(m, publishes, publishes[number].subject, &first) > m->max_per_subject) {
        take_away(m, first);
    }
    while (m->max_msgs > 0 && m->count > m->max_msgs) {
        take_away(m, model_first(m));
    }
}

static void publish(struct model *m, const struct model_publish *publishes,
                    const struct model_op *op, struct model_answer *answer)
{
    uint32_t key = publishes[op->first].key;
    if (key != 0 && m->seq_of_key[key] != 0) {
        answer->duplicate = true;
        answer->said = m->seq_of_key[key];
        return;
    }
    if (m->discard_new && m->max_msgs > 0 && m->count + op->count > m->max_msgs) {
        answer->failed = true;
        return;
    }
    for (uint32_t i = 0; i < op->count; i++) {
        store(m, publishes, op->first + i);
    }
    answer->said = m->last;
    m->seq_of_key[key] = m->last;
}

static void purge(struct model *m, const struct model_publish *publishes, const struct model_op *op,
                  struct model_answer *answer)
{
    uint64_t kept = 0;
    for (uint64_t seq = m->last; seq > 0; seq--) {
        if (m->at[seq] == 0 || (op->subject >= 0 && publishes[m->at[seq]].subject != op->subject)) {
            continue;
        }
        if (kept < op->keep) {
            kept++;
        } else {
            take_away(m, seq);
            answer->said++;
        }
    }
}

void model_apply(struct model *m, const struct model_publish *publishes, const struct model_op *op,
                 struct model_answer *ret_answer)
{
    *ret_answer = (struct model_answer){ .said = 0 };
    switch (op->kind) {
    case OP_PUBLISH:
    case OP_BATCH:
        publish(m, publishes, op, ret_answer);
        break;
    case OP_DELETE:
        ret_answer->failed = op->seq > m->last || m->at[op->seq] == 0;
        if (!ret_answer->failed) {
            take_away(m, op->seq);
        }
        break;
    case OP_PURGE:
        purge(m, publishes, op, ret_answer);
        break;
    }
    m->seq_of_key[0] = 0;
}

void model_body(char *out, uint32_t number, uint32_t len)
{
    int at = snprintf(out, 32, "n %u ", number);
    for (uint32_t i = (uint32_t)at; i < len; i++) {
        out[i] = (char)('a' + (number * 31 + i * 7 + i / 251) % 26);
    }
    out[len] = '\0';
}
