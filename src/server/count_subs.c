/* count_subs.c - see count_subs.h. */
#include "server/count_subs.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "core/account.h"
#include "core/conn.h"
#include "proto/subject.h"
#include "proto/gojson.h"
#include "server/node.h"
#include "server/shard.h"
#include "server/snapshot.h"

struct part {
    struct rb_count_question question;
    uint64_t count;
};

static bool keep(char out[RB_COUNT_SUBJECT_MAX], struct rb_slice text)
{
    if (text.len >= RB_COUNT_SUBJECT_MAX) {
        return false;
    }
    memcpy(out, text.ptr, text.len);
    out[text.len] = '\0';
    return true;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool rb_count_from_text(struct rb_slice body, uint32_t account, struct rb_count_question *question)
{
    *question = (struct rb_count_question){ .account = account };
    while (body.len > 0 && is_blank(body.ptr[0])) {
        body = rb_slice_of(body.ptr + 1, body.len - 1);
    }
    while (body.len > 0 && is_blank(body.ptr[body.len - 1])) {
        body.len--;
    }
    const uint8_t *space = body.len == 0 ? NULL : memchr(body.ptr, ' ', body.len);
    struct rb_slice subject =
        space == NULL ? body : rb_slice_of(body.ptr, (size_t)(space - body.ptr));
    if (space != NULL) {
        struct rb_slice rest = rb_slice_of(space + 1, body.len - subject.len - 1);
        const uint8_t *end = memchr(rest.ptr, ' ', rest.len);
        question->queued = true;
        if (!keep(question->queue,
                  end == NULL ? rest : rb_slice_of(rest.ptr, (size_t)(end - rest.ptr)))) {
            return false;
        }
    }
    question->wildcard = rb_subject_has_wildcard(subject);
    return keep(question->subject, subject);
}

static bool take_queue(const char *base64, struct rb_count_question *question)
{
    size_t len = strlen(base64);
    uint8_t bytes[RB_COUNT_SUBJECT_MAX];
    if (len == 0) {
        return true;
    }
    if (len % 4 != 0 || len / 4 * 3 > sizeof(bytes)) {
        return false;
    }
    int count = EVP_DecodeBlock(bytes, (const unsigned char *)base64, (int)len);
    if (count < 0) {
        return false;
    }
    for (size_t i = len; i > 0 && base64[i - 1] == '='; i--) {
        count--;
    }
    question->queued = true;
    return keep(question->queue, rb_slice_of(bytes, (size_t)count));
}

bool rb_count_from_json(struct rb_slice body, const struct rb_policy *policy,
                        struct rb_count_question *question)
{
    *question = (struct rb_count_question){ 0 };
    json_error_t why;
    char error[RB_GOJSON_ERROR_MAX];
    json_t *json = body.len > 0 && rb_gojson_valid(body, error)
                       ? json_loadb((const char *)body.ptr, body.len, 0, &why)
                       : NULL;
    const char *account = json_string_value(json_object_get(json, "acc"));
    const char *subject = json_string_value(json_object_get(json, "subject"));
    const char *queue = json_string_value(json_object_get(json, "queue"));
    int32_t index =
        account == NULL ? -1 : rb_policy_account_by_name(policy, rb_slice_text(account));
    bool ok = index >= 0 && subject != NULL && keep(question->subject, rb_slice_text(subject)) &&
              (queue == NULL || take_queue(queue, question));
    if (ok) {
        question->account = policy->accounts[index].id;
        question->wildcard = rb_subject_has_wildcard(rb_slice_text(question->subject));
    }
    json_decref(json);
    return ok;
}

static bool counts(const struct rb_count_question *question, const struct rb_sub *sub)
{
    return (sub->flags & (RB_SUB_SHADOW | RB_SUB_SPECIAL)) == 0 &&
           (!question->queued ||
            rb_slice_equal(rb_sublist_queue(&sub->ref), rb_slice_text(question->queue)));
}

static uint64_t count_refs(const struct rb_count_question *question, struct rb_sub_ref **refs,
                           uint32_t ref_count)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < ref_count; i++) {
        count += counts(question, RB_CONTAINER(refs[i], struct rb_sub, ref));
    }
    return count;
}

static uint64_t count_literal(const struct rb_count_question *question, struct rb_account *account)
{
    const struct rb_match *match =
        rb_sublist_match(account->sublist, rb_slice_text(question->subject));
    uint64_t count = count_refs(question, match->plain, match->plain_count);
    for (uint32_t i = 0; i < match->group_count; i++) {
        count += count_refs(question, match->groups[i].subs, match->groups[i].sub_count);
    }
    return count;
}

static uint64_t count_within(const struct rb_count_question *question, struct rb_account *account)
{
    uint64_t count = 0;
    for (struct rb_list *link = account->conns.next; link != &account->conns; link = link->next) {
        struct rb_conn *conn = RB_CONTAINER(link, struct rb_conn, account_link);
        uint32_t at = 0;
        for (const struct rb_sub *sub; (sub = rb_map_next(&conn->subs, &at)) != NULL;) {
            count += counts(question, sub) && rb_subject_subset(rb_sublist_subject(&sub->ref),
                                                                rb_slice_text(question->subject));
        }
    }
    return count;
}

static void count_here(void *shard, void *arg)
{
    struct part *part = arg;
    const struct rb_core *core = rb_shard_core(shard);
    uint32_t id = part->question.account;
    struct rb_account *account = id < core->account_cap ? core->accounts[id] : NULL;
    if (account != NULL && account->sublist != NULL) {
        part->count += part->question.wildcard ? count_within(&part->question, account)
                                               : count_literal(&part->question, account);
    }
}

enum rb_err rb_count_subs(struct rb_node *node, const struct rb_count_question *question,
                          int64_t timeout_ns, uint64_t *ret_count)
{
    struct part *part = malloc(sizeof(*part));
    if (part == NULL) {
        return RB_ERR_MEMORY;
    }
    *part = (struct part){ .question = *question };
    for (uint32_t i = 0; i < rb_node_shard_count(node); i++) {
        enum rb_err err = rb_node_ask(node, i, count_here, part, free, timeout_ns);
        if (err == RB_ERR_TIMEOUT) {
            return err; /* the shard frees it */
        }
        if (err != RB_OK) {
            free(part);
            return err;
        }
    }
    *ret_count = part->count;
    free(part);
    return RB_OK;
}
