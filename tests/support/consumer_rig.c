#include "consumer_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/service.h"
#include "js/api.h"
#include "js/stream_inside.h"
#include "proto/subject.h"

static struct rig *the_rig; /* of the functions that have no way to it */

/* What consumers call */

static struct rig *rig_of(const struct rb_js_stream *stream)
{
    return RB_CONTAINER(stream, struct rig, stream);
}

enum rb_err rb_js_stream_propose(struct rb_js_stream *stream, const struct rb_command *command,
                                 struct rb_js_waiter *waiter)
{
    struct rig *rig = rig_of(stream);
    if (rig->refuse != RB_OK) {
        return rig->refuse;
    }
    if (rig->command_count == rig->command_cap) {
        rig->command_cap = rig->command_cap == 0 ? 64 : rig->command_cap * 2;
        rig->commands = realloc(rig->commands, rig->command_cap * sizeof(*rig->commands));
    }
    struct rig_command *kept = &rig->commands[rig->command_count++];
    kept->type = command->type;
    kept->len = rb_command_bytes(command);
    kept->bytes = malloc(kept->len);
    kept->waiter = waiter;
    rb_command_encode(command, kept->bytes);
    return RB_OK;
}

void rb_js_stream_acked(struct rb_js_stream *stream, struct rb_js_consumer *consumer, uint64_t seq)
{
    struct rig *rig = rig_of(stream);
    rig->acked_count++;
    rig->last_acked = seq;
    if (stream->config->retention == RB_JS_WORKQUEUE) {
        (void)rb_msgstore_remove(stream->store, seq, false);
    }
}

void rb_js_stream_released(struct rb_js_stream *stream, struct rb_js_consumer *consumer)
{
    rig_of(stream)->released_count++;
}

void rb_js_stream_refiltered(struct rb_js_stream *stream, struct rb_js_consumer *consumer)
{
    rig_of(stream)->refiltered_count++;
}

void rb_js_stream_go_offline(struct rb_js_stream *stream, const char *why)
{
    (void)snprintf(rig_of(stream)->offline, sizeof(rig_of(stream)->offline), "%s", why);
}

void rb_js_stream_error(struct rb_js_error *error, enum rb_err err)
{
    rb_js_error_set(error, 10012, rb_err_text(err));
}

static bool listens(struct rig *rig, struct rb_slice subject)
{
    for (uint32_t i = 0; i < rig->listening_count; i++) {
        const char *blank = strchr(rig->listening[i], ' ');
        size_t len =
            blank == NULL ? strlen(rig->listening[i]) : (size_t)(blank - rig->listening[i]);
        if (rb_subject_match(rb_slice_of(rig->listening[i], len), subject)) {
            return true;
        }
    }
    return false;
}

static char *text_of(struct rb_slice s)
{
    char *text = calloc(1, s.len + 1);
    if (s.len > 0) {
        memcpy(text, s.ptr, s.len);
    }
    return text;
}

bool rb_js_send(struct rb_js_account *account, struct rb_slice to, struct rb_slice subject,
                struct rb_slice reply, uint32_t header_len, struct rb_slice payload)
{
    struct rig *rig = RB_CONTAINER(account, struct rig, account);
    if (rig->quiet) {
        rig->quiet_count++;
        return true;
    }
    if (!listens(rig, to)) {
        return false;
    }
    if (rig->sent_count == rig->sent_cap) {
        rig->sent_cap = rig->sent_cap == 0 ? 64 : rig->sent_cap * 2;
        rig->sent = realloc(rig->sent, rig->sent_cap * sizeof(*rig->sent));
    }
    struct rig_sent *sent = &rig->sent[rig->sent_count++];
    *sent = (struct rig_sent){ .to = text_of(to),
                               .subject = text_of(subject),
                               .reply = text_of(reply),
                               .header_len = header_len,
                               .len = (uint32_t)payload.len,
                               .bytes = (uint8_t *)text_of(payload),
                               .at_ns = rig->js.now_ns };
    unsigned long long count, stream_seq, consumer_seq, time, pending;
    const char *dots = sent->reply;
    for (uint32_t i = 0; i < 4 && dots != NULL; i++) {
        dots = strchr(dots, '.');
        dots = dots == NULL ? NULL : dots + 1;
    }
    if (dots != NULL && sscanf(dots, "%llu.%llu.%llu.%llu.%llu", &count, &stream_seq, &consumer_seq,
                               &time, &pending) == 5) {
        sent->count = count;
        sent->stream_seq = stream_seq;
        sent->consumer_seq = consumer_seq;
        sent->pending = pending;
    }
    if (rig->on_send != NULL) {
        struct rig_sent copy = *sent;
        rig->on_send(rig, &copy);
    }
    return true;
}

void rb_js_send_status(struct rb_js_account *account, struct rb_slice to, struct rb_slice reply,
                       struct rb_slice line, struct rb_slice fields)
{
    char bytes[1024];
    int len = snprintf(bytes, sizeof(bytes), "NATS/1.0 %.*s\r\n%.*s\r\n", RB_S_ARG(line),
                       RB_S_ARG(fields));
    assert_true(len > 0 && (size_t)len < sizeof(bytes));
    (void)rb_js_send(account, to, RB_S(""), reply, (uint32_t)len, rb_slice_of(bytes, (size_t)len));
}

void rb_js_advise(struct rb_js_account *account, struct rb_slice subject, struct rb_slice type,
                  struct rb_slice members)
{
    char text[4096];
    int len =
        snprintf(text, sizeof(text), "{\"type\":\"%.*s\",%.*s}", RB_S_ARG(type), RB_S_ARG(members));
    (void)rb_js_send(account, subject, RB_S(""), RB_S(""), 0, rb_slice_of(text, (size_t)len));
}

void rb_js_advise_consumer(struct rb_js_consumer *consumer, const char *action)
{
    char subject[600];
    int len = snprintf(subject, sizeof(subject), "$JS.EVENT.ADVISORY.CONSUMER.%s.%.*s", action,
                       RB_S_ARG(consumer->name));
    (void)rb_js_send(consumer->stream->account, rb_slice_of(subject, (size_t)len), RB_S(""),
                     RB_S(""), 0, RB_S("{}"));
}

bool rb_service_wanted(struct rb_core *core, struct rb_slice subject)
{
    return !the_rig->importer_gone || !rb_slice_starts(subject, RB_S("_R_."));
}

bool rb_account_wanted(struct rb_account *account, struct rb_slice subject)
{
    return listens(the_rig, subject);
}

enum rb_err rb_account_listen(struct rb_account *account, struct rb_slice subject,
                              struct rb_special *special)
{
    special->sub.sid_len = 1; /* listens */
    return RB_OK;
}

void rb_account_unlisten(struct rb_account *account, struct rb_special *special)
{
    assert_int_equal(special->sub.sid_len, 1);
    special->sub.sid_len = 0;
}

/* The rig */

static uint64_t rig_now(void *ctx)
{
    return ((struct rig *)ctx)->js.now_ns;
}

static uint64_t rig_wall(void *ctx)
{
    return ((struct rig *)ctx)->js.wall_ns;
}

static void rig_entropy(void *ctx, void *out, size_t len)
{
    struct rig *rig = ctx;
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)out)[i] = (uint8_t)rb_env_random(&rig->env);
    }
}

static bool name_equal(const void *item, struct rb_slice key)
{
    return rb_slice_equal(((const struct rb_js_consumer *)item)->name, key);
}

static uint64_t name_hash(const void *item)
{
    return rb_slice_hash(((const struct rb_js_consumer *)item)->name);
}

static void begin_life(struct rig *rig)
{
    struct rb_js *js = &rig->js;
    rb_list_init(&js->ready);
    rb_wheel_init(&js->wheel, js->now_ns);
    rb_list_init(&rig->stream.consumers);
    rb_map_init(&rig->stream.consumer_map, &rig->budget, 0, name_equal, name_hash);
    assert_int_equal(rb_sublist_create(&rig->budget, 1, &rig->stream.filters), RB_OK);
    rig->stream.next_consumer_id = 0;
    rig->stream.consumer_count = rig->account.consumer_count = 0;
}

static void end_life(struct rig *rig)
{
    struct rb_js_stream *stream = &rig->stream;
    while (!rb_list_empty(&stream->consumers)) {
        rb_js_consumer_close(RB_CONTAINER(stream->consumers.next, struct rb_js_consumer, of_stream),
                             RB_S("409 Server Shutdown"));
    }
    assert_true(rb_list_empty(&rig->js.ready));
    assert_int_equal(rig->js.wheel.count, 0);
    assert_int_equal(stream->consumer_count, 0);
    rb_map_deinit(&stream->consumer_map);
    rb_sublist_destroy(stream->filters);
    for (uint32_t i = rig->committed; i < rig->command_count; i++) {
        if (rig->commands[i].waiter != NULL) {
            rig->commands[i].waiter->done(rig->commands[i].waiter, RB_ERR_CANCELED, NULL);
        }
        free(rig->commands[i].bytes);
    }
    rig->command_count = rig->committed;
}

struct rig *rig_create(void)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    the_rig = rig;
    rig->env = (struct rb_env){ rig_now, rig_wall, rig_entropy, rig, { 0 } };
    rb_env_seed(&rig->env, 7);
    struct rb_js *js = &rig->js;
    js->env = &rig->env;
    js->budget = &rig->budget;
    js->settings = &rig->settings;
    js->shared = &rig->shared;
    js->now_ns = 5 * RIG_SECOND;
    js->wall_ns = UINT64_C(1700000000) * RIG_SECOND;
    rig->core_account.name = RB_S("ACC");
    rig->account.js = js;
    rig->account.account = &rig->core_account;
    rb_js_watches_init(&rig->account);
    rig->account.limits = (struct rb_js_limits){ -1, -1, -1, -1, -1, -1, -1, false };
    assert_int_equal(rb_sublist_create(&rig->budget, 2, &rig->core_account.sublist), RB_OK);
    rig->subjects[0] = RB_S("s.>");
    rig->config.subjects = (struct rb_doc_strings){ rig->subjects, 1 };
    rig->config.num_replicas = 1;
    rig->config.max_consumers = rig->config.max_msgs_per_subject = -1;
    rig->config.max_msg_size = -1;
    rig->stream.account = &rig->account;
    rig->stream.name = RB_S("S");
    rig->stream.config = &rig->config;
    rig->stream.phase = RB_JS_STREAM_SERVING;
    struct rb_msgstore_home_options home = { .env = &rig->env, .budget = &rig->budget };
    assert_int_equal(rb_msgstore_home_create(&home, &rig->home), RB_OK);
    struct rb_msgstore_options store = { .owner = rig };
    assert_int_equal(rb_msgstore_open(rig->home, &store, &rig->stream.store), RB_OK);
    begin_life(rig);
    rig_turn(rig);
    return rig;
}

void rig_forget(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->sent_count; i++) {
        free(rig->sent[i].to);
        free(rig->sent[i].subject);
        free(rig->sent[i].reply);
        free(rig->sent[i].bytes);
    }
    rig->sent_count = rig->seen = 0;
}

void rig_destroy(struct rig *rig)
{
    struct rb_msgstore_event *events;
    end_life(rig);
    rb_msgstore_close(rig->stream.store);
    while (rb_msgstore_home_poll(rig->home, &events) > 0) {
    }
    rb_msgstore_home_destroy(rig->home);
    rb_sublist_destroy(rig->core_account.sublist);
    assert_int_equal(rig->account.watches.count, 0);
    assert_false(rig->core_account.watch_interest);
    rb_map_deinit(&rig->account.watches);
    assert_int_equal(rig->budget.used_bytes, 0);
    rig_forget(rig);
    for (uint32_t i = 0; i < rig->command_count; i++) {
        free(rig->commands[i].bytes);
    }
    for (uint32_t i = 0; i < rig->listening_count; i++) {
        free(rig->listening[i]);
    }
    free(rig->commands);
    free(rig->sent);
    free(rig);
    the_rig = NULL;
}

static void tell_interest(struct rig *rig, const char *subject)
{
    if (rig->core_account.watch_interest) {
        rb_js_watches_interest(&rig->account, rb_slice_text(subject));
    }
}

void rig_listen(struct rig *rig, const char *subject, const char *queue)
{
    char text[600];
    (void)snprintf(text, sizeof(text), "%s%s%s", subject, queue == NULL ? "" : " ",
                   queue == NULL ? "" : queue);
    rig->listening[rig->listening_count++] = text_of(rb_slice_text(text));
    assert_int_equal(rb_sublist_remote(rig->core_account.sublist, rb_slice_text(subject),
                                       rb_slice_text(queue == NULL ? "" : queue), 1, 1),
                     RB_OK);
    tell_interest(rig, subject);
}

void rig_unlisten(struct rig *rig, const char *subject)
{
    size_t len = strlen(subject);
    for (uint32_t i = 0; i < rig->listening_count; i++) {
        char *text = rig->listening[i];
        if (strncmp(text, subject, len) == 0 && (text[len] == '\0' || text[len] == ' ')) {
            assert_int_equal(rb_sublist_remote(rig->core_account.sublist, rb_slice_text(subject),
                                               rb_slice_text(text + len + (text[len] == ' ')), 1,
                                               0),
                             RB_OK);
            free(text);
            rig->listening[i] = rig->listening[--rig->listening_count];
            tell_interest(rig, subject);
            return;
        }
    }
    fail_msg("nobody listens to %s", subject);
}

static void each_match(struct rig *rig, struct rb_slice subject, uint64_t seq,
                       void (*call)(struct rb_js_consumer *consumer, uint64_t seq))
{
    const struct rb_match *match = rb_sublist_match(rig->stream.filters, subject);
    for (uint32_t i = 0; i < match->plain_count; i++) {
        call(RB_CONTAINER(match->plain[i], struct rb_js_filter, ref)->consumer, seq);
    }
}

uint64_t rig_publish_headers(struct rig *rig, const char *subject, const char *headers,
                             const char *body)
{
    char payload[8192];
    struct rb_msgstore_state state;
    rb_msgstore_state(rig->stream.store, &state);
    int len = snprintf(payload, sizeof(payload), "%s%s", headers, body);
    assert_true(len >= 0 && (size_t)len < sizeof(payload));
    struct rb_message message = { .seq = state.last_seq + 1,
                                  .time_ns = rig->js.wall_ns,
                                  .subject = rb_slice_text(subject),
                                  .payload = rb_slice_of(payload, (size_t)len),
                                  .header_len = (uint32_t)strlen(headers) };
    assert_int_equal(rb_msgstore_append(rig->stream.store, &message), RB_OK);
    each_match(rig, message.subject, message.seq, rb_js_consumer_stored);
    return message.seq;
}

uint64_t rig_publish(struct rig *rig, const char *subject, const char *body)
{
    return rig_publish_headers(rig, subject, "", body);
}

bool rig_remove(struct rig *rig, uint64_t seq)
{
    uint8_t bytes[RB_MSGSTORE_SUBJECT_MAX];
    struct rb_slice subject = rb_msgstore_subject_of(rig->stream.store, seq, bytes);
    if (subject.len == 0 || !rb_msgstore_remove(rig->stream.store, seq, false)) {
        return false;
    }
    each_match(rig, subject, seq, rb_js_consumer_removed);
    return true;
}

void rig_purge(struct rig *rig, const char *filter, uint64_t below, uint64_t keep)
{
    if (filter == NULL && keep == 0) {
        struct rb_msgstore_state state;
        rb_msgstore_state(rig->stream.store, &state);
        (void)rb_msgstore_purge_below(rig->stream.store, below == 0 ? state.last_seq + 1 : below);
    } else {
        (void)rb_msgstore_purge(rig->stream.store, rb_slice_text(filter), below, keep);
    }
    for (struct rb_list *at = rig->stream.consumers.next; at != &rig->stream.consumers;
         at = at->next) {
        rb_js_consumer_purged(RB_CONTAINER(at, struct rb_js_consumer, of_stream));
    }
}

struct rig_change {
    struct rb_js_change change;
    struct rig *rig;
};

static void changed(struct rb_js_change *change, struct rb_js_stream *stream,
                    const struct rb_js_outcome *outcome)
{
    struct rig *rig = RB_CONTAINER(change, struct rig_change, change)->rig;
    rig->error = outcome->error;
    rig->consumer = outcome->error.code == 0 ? outcome->consumer : NULL;
    rig->changed_seq = outcome->seq;
    rig->changes++;
}

struct rb_js_consumer *rig_consumer_action(struct rig *rig, const char *json,
                                           enum rb_js_consumer_action action, bool pedantic)
{
    struct rb_arena *arena;
    struct rb_js_consumer_config config;
    char error[RB_DOC_ERROR_MAX];
    assert_int_equal(rb_arena_create(512, &arena), RB_OK);
    if (!rb_doc_read(arena, &rb_js_consumer_config_type, rb_slice_text(json), true, &config,
                     error)) {
        fail_msg("%s: %s", json, error);
    }
    struct rig_change change = { .change.done = changed, .rig = rig };
    uint32_t before = rig->changes;
    rb_js_consumer_create(&rig->stream, &config, action, pedantic, &change.change);
    rb_arena_destroy(arena);
    if (rig->changes == before) {
        rig_commit(rig);
    }
    assert_int_equal(rig->changes, before + 1);
    struct rb_js_consumer *consumer = rig->consumer;
    rig_turn(rig);
    return consumer;
}

struct rb_js_consumer *rig_consumer(struct rig *rig, const char *json)
{
    struct rb_js_consumer *consumer = rig_consumer_action(rig, json, RB_JS_CONSUMER_ANY, false);
    return consumer;
}

void rig_commit(struct rig *rig)
{
    while (rig->committed < rig->command_count) {
        struct rig_command kept = rig->commands[rig->committed++];
        struct rb_command command;
        struct rb_js_outcome outcome = { 0 };
        assert_int_equal(rb_command_decode(kept.type, rb_slice_of(kept.bytes, kept.len), &command),
                         RB_OK);
        rb_js_consumer_apply(&rig->stream, &command, &outcome);
        rig->commands[rig->committed - 1].waiter = NULL;
        if (kept.waiter != NULL) {
            kept.waiter->done(kept.waiter, RB_OK, &outcome);
        }
    }
}

static bool one_turn(struct rig *rig)
{
    struct rb_js *js = &rig->js;
    struct rb_msgstore_event *events;
    struct rb_list run;
    bool worked = false;
    if (!rig->hold) {
        worked = rig->committed < rig->command_count;
        rig_commit(rig);
    }
    uint32_t count = rb_msgstore_home_poll(rig->home, &events);
    for (uint32_t i = 0; i < count; i++) {
        worked = true;
        if (events[i].kind == RB_MSGSTORE_LOADED) {
            rb_js_consumer_loaded(events[i].wait->owner);
        }
    }
    for (struct rb_timer *timer; (timer = rb_wheel_expire(&js->wheel, js->now_ns)) != NULL;) {
        worked = true;
        rb_js_consumer_timer(RB_CONTAINER(timer, struct rb_js_alarm, timer)->owner, timer);
    }
    rb_list_init(&run);
    rb_list_splice(&run, &js->ready);
    for (struct rb_list *link; (link = rb_list_pop(&run)) != NULL;) {
        struct rb_js_consumer *consumer = RB_CONTAINER(link, struct rb_js_consumer, link);
        worked = true;
        if (rb_js_consumer_run(consumer, rig->run_max == 0 ? 256 : rig->run_max) &&
            rb_list_empty(&consumer->link)) {
            rb_list_append(&js->ready, &consumer->link);
        }
    }
    return worked;
}

void rig_turn(struct rig *rig)
{
    for (uint32_t i = 0; one_turn(rig); i++) {
        assert_true(i < 10000); /* it works without end */
    }
}

void rig_pass(struct rig *rig, uint64_t ns)
{
    uint64_t end_ns = rig->js.now_ns + ns;
    while (rig->js.now_ns < end_ns) {
        int64_t wait_ns = rb_wheel_wait_ns(&rig->js.wheel, rig->js.now_ns);
        uint64_t step_ns = end_ns - rig->js.now_ns;
        if (wait_ns >= 0 && (uint64_t)wait_ns < step_ns) {
            step_ns = wait_ns == 0 ? RIG_MS : (uint64_t)wait_ns;
            step_ns = step_ns > end_ns - rig->js.now_ns ? end_ns - rig->js.now_ns : step_ns;
        }
        rig->js.now_ns += step_ns;
        rig->js.wall_ns += step_ns;
        rig_turn(rig);
    }
}

void rig_request(struct rig *rig, struct rb_js_consumer *consumer, const char *reply,
                 const char *headers, const char *body)
{
    char payload[4096];
    int len = snprintf(payload, sizeof(payload), "%s%s", headers, body);
    struct rb_msg msg = { .subject = RB_S("next"),
                          .reply = rb_slice_text(reply),
                          .header_len = (uint32_t)strlen(headers),
                          .payload = rb_slice_of(payload, (size_t)len) };
    struct rb_special *special = &consumer->inside->next;
    assert_true(special->take(&rig->core_account, special->ctx, &msg));
}

void rig_pull(struct rig *rig, struct rb_js_consumer *consumer, const char *reply, const char *body)
{
    rig_request(rig, consumer, reply, "", body);
    rig_turn(rig);
}

void rig_ack(struct rig *rig, struct rb_js_consumer *consumer, const struct rig_sent *sent,
             const char *verb, const char *reply)
{
    rb_js_consumer_ack(consumer, sent->stream_seq, sent->consumer_seq, sent->count,
                       rb_slice_text(reply), rb_slice_text(verb));
}

const struct rig_sent *rig_next(struct rig *rig)
{
    return rig->seen < rig->sent_count ? &rig->sent[rig->seen++] : NULL;
}

void rig_expect_status(struct rig *rig, const char *to, const char *line, const char *headers)
{
    const struct rig_sent *sent = rig_next(rig);
    char begin[700];
    if (sent == NULL) {
        fail_msg("nothing was sent, not even %s", line);
        return;
    }
    (void)snprintf(begin, sizeof(begin), "NATS/1.0 %s\r\n", line);
    assert_string_equal(sent->to, to);
    if (strncmp((char *)sent->bytes, begin, strlen(begin)) != 0) {
        assert_string_equal((char *)sent->bytes, begin);
    }
    if (headers != NULL) {
        assert_string_equal((char *)sent->bytes + strlen(begin), headers);
    }
}

const struct rig_sent *rig_expect_message(struct rig *rig, const char *to, uint64_t stream_seq,
                                          uint64_t count)
{
    const struct rig_sent *sent = rig_next(rig);
    if (sent == NULL) {
        fail_msg("nothing was sent, not even message %llu", (unsigned long long)stream_seq);
        return NULL;
    }
    assert_string_equal(sent->to, to);
    if (sent->stream_seq == 0) {
        assert_string_equal((char *)sent->bytes, "a message");
    }
    assert_int_equal(sent->stream_seq, stream_seq);
    assert_int_equal(sent->count, count);
    return sent;
}

void rig_expect_nothing(struct rig *rig)
{
    const struct rig_sent *sent = rig_next(rig);
    if (sent != NULL) {
        fail_msg("to %s: %s (reply %s)", sent->to, (char *)sent->bytes, sent->reply);
    }
}

const char *rig_expect_advice(struct rig *rig, const char *subject)
{
    const struct rig_sent *sent = rig_next(rig);
    if (sent == NULL) {
        fail_msg("nothing was sent, not even %s", subject);
        return NULL;
    }
    assert_string_equal(sent->to, subject);
    return (const char *)sent->bytes;
}

bool rig_saw(struct rig *rig, const char *to, const char *text)
{
    for (uint32_t i = rig->seen; i < rig->sent_count; i++) {
        if (strcmp(rig->sent[i].to, to) == 0 && strstr((char *)rig->sent[i].bytes, text) != NULL) {
            return true;
        }
    }
    return false;
}

void rig_checkpoint(struct rig *rig, struct rb_out *out, uint32_t *ret_committed)
{
    rb_out_init(out, &rig->budget);
    for (struct rb_list *at = rig->stream.consumers.next; at != &rig->stream.consumers;
         at = at->next) {
        rb_js_consumer_save(RB_CONTAINER(at, struct rb_js_consumer, of_stream), out);
    }
    assert_false(out->failed);
    *ret_committed = rig->committed;
}

void rig_restart(struct rig *rig, const struct rb_out *checkpoint, uint32_t committed)
{
    end_life(rig);
    rig_forget(rig);
    begin_life(rig);
    rig->stream.replaying = true;
    if (checkpoint != NULL) {
        struct rb_reader reader = rb_reader_over(rb_out_slice(checkpoint));
        while (reader.at < reader.end) {
            assert_int_equal(rb_js_consumer_load(&rig->stream, &reader), RB_OK);
        }
    }
    rig->committed = committed;
    rig_commit(rig);
    assert_int_equal(rig->sent_count, 0);
    rig->stream.replaying = false;
    for (struct rb_list *at = rig->stream.consumers.next, *next; at != &rig->stream.consumers;
         at = next) {
        next = at->next;
        rb_js_consumer_opened(RB_CONTAINER(at, struct rb_js_consumer, of_stream));
    }
    rig_turn(rig);
}

uint64_t rig_naive_pending(struct rig *rig, struct rb_js_consumer *consumer)
{
    const struct rb_js_consumer_inside *in = consumer->inside;
    uint8_t bytes[RB_MSGSTORE_SUBJECT_MAX];
    uint64_t count = 0;
    for (uint64_t seq = rb_msgstore_next(rig->stream.store, 1); seq != 0;
         seq = rb_msgstore_next(rig->stream.store, seq + 1)) {
        struct rb_slice subject = rb_msgstore_subject_of(rig->stream.store, seq, bytes);
        bool matches = false;
        for (uint32_t i = 0; i < in->filter_slots; i++) {
            matches |= rb_subject_match(in->subjects[i], subject);
        }
        bool start = false;
        for (uint32_t i = in->start_at; i < in->start_count; i++) {
            start |= in->starts[i] == seq;
        }
        count += (matches && seq >= in->next_seq) || start;
    }
    return count;
}
