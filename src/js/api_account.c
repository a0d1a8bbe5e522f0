/* api_account.c - $JS.API.INFO; and the purge of an account, which the system account asks for.
 *
 * The system account's home seldom is the account's. What the latter is to do is put down in js->shared and a message in the account
 * wakes it; the message alone does nothing, so that no client can send it.
 */
#include <string.h>

#include "core/account.h"
#include "js/api_inside.h"

#define PURGE_PREFIX "$JS.API.ACCOUNT.PURGE."

void rb_js_api_info(struct rb_js_request *request)
{
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_put(&out, RB_S(","));
    rb_js_write_account_info(&out, request->account);
    rb_js_answer_send(request, &out, RB_S(""));
}

/* ---- purge ---- */

static uint64_t mark_of(uint64_t number, struct rb_slice account)
{
    uint64_t mark = number ^ rb_slice_hash(account);
    return mark == 0 ? 1 : mark;
}

/* When all places are taken, one that nobody came for gives way. */
static void put_down(struct rb_js_shared *shared, uint64_t mark)
{
    for (uint32_t i = 0; i < RB_JS_PURGES_MAX; i++) {
        uint64_t expected = 0;
        if (atomic_compare_exchange_strong(&shared->purges[i], &expected, mark)) {
            return;
        }
    }
    atomic_store(&shared->purges[mark % RB_JS_PURGES_MAX], mark);
}

static bool take_mark(struct rb_js_shared *shared, uint64_t mark)
{
    for (uint32_t i = 0; i < RB_JS_PURGES_MAX; i++) {
        uint64_t expected = mark;
        if (atomic_compare_exchange_strong(&shared->purges[i], &expected, 0)) {
            return true;
        }
    }
    return false;
}

void rb_js_api_account_purge(struct rb_js_request *request)
{
    struct rb_js *js = request->js;
    struct rb_account *account = rb_account_find(js->core, request->name);
    uint64_t number;
    js->env->entropy(js->env->ctx, &number, sizeof(number));
    uint64_t mark = mark_of(number, request->name);
    if (account != NULL && !rb_account_is_system(account)) {
        put_down(js->shared, mark);
        struct rb_out subject;
        rb_out_init(&subject, js->budget);
        rb_out_put(&subject, RB_S(PURGE_PREFIX));
        rb_out_put(&subject, request->name);
        bool heard =
            !subject.failed && rb_account_publish(account, rb_out_slice(&subject), RB_S(""), 0,
                                                  rb_slice_of(&number, sizeof(number)));
        rb_out_deinit(&subject);
        if (!heard) {
            (void)take_mark(js->shared, mark); /* JetStream is off for it: there is nothing */
        }
    }
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_put(&out, RB_S(",\"initiated\":true"));
    rb_js_answer_send(request, &out, RB_S(""));
}

struct purge {
    struct rb_js_change change;
    struct rb_js *js;
};

static void purged(struct rb_js_change *change, struct rb_js_stream *stream,
                   const struct rb_js_outcome *outcome)
{
    struct purge *purge = RB_CONTAINER(change, struct purge, change);
    rb_free(purge->js->budget, purge, sizeof(*purge));
}

void rb_js_api_purge_here(struct rb_js_account *account, struct rb_slice body)
{
    struct rb_js *js = account->js;
    uint64_t number;
    if (body.len != sizeof(number)) {
        return;
    }
    memcpy(&number, body.ptr, sizeof(number));
    if (!take_mark(js->shared, mark_of(number, account->account->name))) {
        return;
    }
    rb_log_inf(js->text_log, "JetStream: all streams of account \"%.*s\" are removed by request",
               RB_S_ARG(account->account->name));
    for (struct rb_list *link = account->streams.next, *next; link != &account->streams;
         link = next) {
        next = link->next;
        struct rb_js_stream *stream = RB_CONTAINER(link, struct rb_js_stream, link);
        struct purge *purge = rb_alloc(js->budget, sizeof(*purge));
        if (purge == NULL) {
            rb_log_err(js->text_log, "memory budget spent: stream \"%.*s\" is kept",
                       RB_S_ARG(stream->name));
            continue;
        }
        *purge = (struct purge){ .change = { .done = purged }, .js = js };
        if (stream->phase == RB_JS_STREAM_SERVING || stream->phase == RB_JS_STREAM_OFFLINE) {
            rb_js_stream_delete(stream, &purge->change);
        } else {
            purged(&purge->change, stream, NULL);
        }
    }
}
